//! The story: look at the host, find what to trace, load and attach, loop, write the last report.

#![deny(unsafe_code)]

use snoop::args::{self, Command, Config};
use snoop::bpf::probe::{Counts, Probe, Settings};
use snoop::bpf::syscalls;
use snoop::bpf::wire::RING_BYTES;
use snoop::cgroup::selection::Selection;
use snoop::collect::Collector;
use snoop::error::{Result, cannot};
use snoop::http::Server;
use snoop::http::health;
use snoop::log;
use snoop::preflight;
use snoop::ring::Records;
use snoop::sys::limits;
use snoop::sys::signals::SignalFd;
use snoop::time::rfc3339;
use snoop::tracer::{FIRST_CONNECTION, Progress, SIGNALS, Tracer, Writes};
use std::env;
use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

fn main() -> ExitCode {
    let words = env::args_os().skip(1);
    let done = args::parse(words, |name| env::var_os(name)).and_then(obey);
    let status = done.unwrap_or_else(|e| {
        // Nobody is left to be told when standard error is gone; the status still says it.
        let _ = writeln!(std::io::stderr(), "snoop: {e}");
        e.status
    });
    ExitCode::from(status)
}

/// Does what the command line says; answers the exit status.
fn obey(command: Command) -> Result<u8> {
    // For many short writes: Rust's own standard output flushes each line.
    let out = || BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    let (text, status) = match command {
        Command::Help(text) => (text, 0),
        Command::Version => (format!("snoop {}\n", env!("CARGO_PKG_VERSION")), 0),
        Command::Check => preflight::check(),
        Command::Health(address) => health::ask(&address)?,
        Command::Trace(config) => return trace(config, None),
        Command::Run(config, words) => return trace(config, Some(words)),
        Command::Closure(closure) => return closure.print(&mut out()).map(|()| 0),
        Command::Unused(unused) => return unused.print(&mut out()).map(|()| 0),
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|e| cannot("write to standard output", e))?;
    Ok(status)
}

/// Traces until a signal comes or the command ends; answers the exit status.
fn trace(config: Config, command: Option<Vec<OsString>>) -> Result<u8> {
    log::set_level(config.log_level);
    config.report.check()?;
    let plan = preflight::plan(&preflight::look(Path::new("/")), config.buffer)?;
    // From here on a signal means "stop, and write the last report".
    let signals = SignalFd::new(&SIGNALS).map_err(|e| cannot("receive signals", e))?;
    let aim = Selection::find(&config.cgroups, command, plan.cgroup_mount())?;

    let layout = preflight::layout(plan.buffer)?;
    let (mut probe, records) = Probe::load(&Settings {
        layout: &layout,
        quirks: plan.quirks,
        buffer: plan.buffer,
        excludes: &config.excludes,
    })?;
    let records = Records::open(records, plan.buffer)?;
    let listen = |address| Server::listen(address, FIRST_CONNECTION);
    let server = config.metrics_addr.as_ref().map(listen).transpose()?;
    probe.attach()?;
    let traced = aim.at(&mut probe)?;
    log::info(format_args!(
        "attached: {} syscalls and exec; {} of {} MiB; tracing {}; listening on {}",
        syscalls::counted_rows().count(),
        plan.buffer,
        RING_BYTES >> 20,
        traced.shown,
        server.as_ref().map_or("nothing".into(), Server::address)
    ));
    if let Some(warning) = traced.warning {
        log::warn(warning);
    }
    let running = aim.start()?;
    // After the command has begun, which would inherit it.
    limits::outlive_file_size_limit();
    let (excludes, capacity) = (config.excludes.clone(), config.max_unique_files);
    let mut collector = Collector::new(traced.containers.clone(), excludes, capacity);
    for lost in probe.lost() {
        let (part, why) = (lost.feature.name(), &lost.why);
        log::warn(format_args!("{part} cannot be used on this kernel: {why}"));
    }
    collector.mark_late(&traced.late);
    collector.set_unable(probe.lost().iter().map(|lost| lost.feature).collect());
    let started_at = SystemTime::now();
    let mut tracer = Tracer {
        config,
        started_at,
        first_started_at: rfc3339(started_at),
        probe,
        records,
        collector,
        running,
        server,
        writes: Writes::default(),
        progress: Progress::default(),
        drain_at: None,
        warned: Default::default(),
        counts: Counts::default(),
    };
    if tracer.config.resume {
        let any = tracer.running.is_some();
        tracer.resume(|cgroup| any || traced.covers(cgroup))?;
    }
    if tracer.running.is_none() {
        tracer.list_open(&layout.iterator_ids, &traced.parents)?;
    }
    tracer.probe.all_loaded();
    if tracer.running.is_none() {
        tracer.confine()?;
    }
    tracer.run(&signals)
}
