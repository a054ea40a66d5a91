//! The story: look at the host, find what to trace, load and attach, loop, write the last report.

use snoop::args::{self, Command, Config};
use snoop::cgroup::{self, Cgroup, OwnCgroup, Pod};
use snoop::collect::Collector;
use snoop::error::{Result, cannot};
use snoop::http::Server;
use snoop::log;
use snoop::preflight::{self, Plan};
use snoop::probe::{Probe, Settings};
use snoop::report::text;
use snoop::ring::Ring;
use snoop::run::Running;
use snoop::sys::SignalFd;
use snoop::syscalls;
use snoop::tracer::{FIRST_CONNECTION, Progress, SIGNALS, Tracer, Writes};
use snoop::wire::{RING_BYTES, Target};
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
        Command::Help => (args::HELP.into(), 0),
        Command::Version => (format!("snoop {}\n", env!("CARGO_PKG_VERSION")), 0),
        Command::Check => preflight::check(),
        Command::Trace(config) => return trace(config, None),
        Command::Run(config, words) => return trace(config, Some(words)),
        Command::Closure(closure) => return closure.print(&mut out()).map(|()| 0),
        Command::Unused(unused) => return unused.print(&mut out()).map(|()| 0),
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|e| cannot("write to standard output", e))?;
    Ok(status)
}

/// What the user asked to trace.
enum What {
    /// The own pod, but for the own container.
    Pod,
    Named(Vec<Cgroup>),
    /// A command, in a cgroup of its own.
    Command(OwnCgroup, Vec<OsString>),
}

fn trace(config: Config, command: Option<Vec<OsString>>) -> Result<u8> {
    log::set_level(config.log_level);
    config.report.check()?;
    let plan = preflight::plan(&preflight::look(Path::new("/")))?;
    // From here on a signal means "stop, and write the last report".
    let signals = SignalFd::new(&SIGNALS).map_err(|e| cannot("receive signals", e))?;
    let what = match command {
        Some(words) => What::Command(OwnCgroup::make(plan.cgroup_mount()?)?, words),
        None if config.cgroups.is_empty() => What::Pod,
        None => What::Named(cgroup::named(&config.cgroups, plan.cgroup_mount()?)?),
    };
    let layout = preflight::layout()?;
    let (mut probe, ring) = Probe::load(&Settings {
        layout: &layout,
        quirks: plan.quirks,
        excludes: &config.excludes,
    })?;
    let listen = |address| Server::listen(address, FIRST_CONNECTION);
    let server = config.metrics_addr.as_ref().map(listen).transpose()?;
    let ring = Ring::new(ring, RING_BYTES).map_err(|e| cannot("map the ring buffer", e))?;
    probe.attach()?;
    let cgroups = aim(&mut probe, &what, &plan)?;
    let paths: Vec<_> = cgroups.iter().map(|c| text(&c.path)).collect();
    log::info(format_args!(
        "attached: {} syscalls and exec; ring buffer of {} MiB; tracing {}{}; listening on {}",
        syscalls::counted_rows().count(),
        RING_BYTES >> 20,
        if matches!(what, What::Pod) {
            "pod "
        } else {
            ""
        },
        paths.join(", "),
        server.as_ref().map_or("nothing".into(), Server::address)
    ));
    let (running, containers) = match what {
        What::Command(own, words) => (Some(Running::start(own, &words)?), cgroups),
        What::Named(_) => {
            let mount = plan.cgroup_mount()?;
            let is_one = |cgroup: &Cgroup| cgroup.target(mount) != Target::Pod;
            (None, cgroups.into_iter().filter(is_one).collect())
        }
        What::Pod => (None, Vec::new()),
    };
    if running.is_none() {
        for e in probe.list_open(&layout) {
            log::warn(format_args!("what is open already is not all listed: {e}"));
        }
    }
    let collector = Collector::new(containers, config.excludes.clone(), config.max_unique_files);
    let started_at = SystemTime::now();
    Tracer {
        config,
        started_at,
        probe,
        ring,
        collector,
        running,
        server,
        writes: Writes::default(),
        progress: Progress::default(),
        said: Default::default(),
    }
    .run(&signals)
}

/// Tells the programs whose accesses count; answers the cgroups that were asked for.
fn aim(probe: &mut Probe, what: &What, plan: &Plan) -> Result<Vec<Cgroup>> {
    // Asked in any case: from now on the programs know us, and leave our accesses out.
    let own = probe.own_cgroups()?;
    let cgroups = match what {
        What::Pod => {
            let pod = Pod::among(&own)?;
            probe.target(pod.own, Target::Ignored)?;
            probe.target(pod.cgroup.id, Target::Pod)?;
            return Ok(vec![pod.cgroup]);
        }
        What::Named(cgroups) => cgroups.clone(),
        What::Command(own, _) => vec![own.cgroup.clone()],
    };
    let mount = plan.cgroup_mount()?;
    for cgroup in &cgroups {
        let target = cgroup.target(mount);
        let inside = own.iter().position(|(id, _)| *id == cgroup.id);
        if let (Target::Pod, Some(at @ 1..)) = (target, inside) {
            probe.target(own[at - 1].0, Target::Ignored)?;
        }
        if let Some(parent) = cgroup.parent(mount)? {
            probe.expect(parent, cgroup.name(), target)?;
        }
        probe.target(cgroup.id, target)?;
    }
    Ok(cgroups)
}
