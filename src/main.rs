// SPDX-License-Identifier: MIT OR Apache-2.0
//! All steps, in order: parse, look at the host, select what to trace, load, attach, resume, list, confine, loop.

#![deny(unsafe_code)]

use snoop::args::{self, Command, Config};
use snoop::cgroup::selection::Selection;
use snoop::error::{Result, cannot};
use snoop::http::health;
use snoop::tracer::start::{self, Loaded};
use snoop::{log, preflight};
use std::env;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words = env::args_os().skip(1);
    let done = args::parse(words, |name| env::var_os(name)).and_then(execute);
    let status = done.unwrap_or_else(|e| {
        // If standard error is closed, the exit status still shows the failure.
        let _ = writeln!(io::stderr(), "snoop: {e}");
        e.status
    });
    ExitCode::from(status)
}

/// Carries out the command, and returns the exit status.
fn execute(command: Command) -> Result<u8> {
    // The tools make many short writes, and Rust's own standard output flushes each line.
    let out = || BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let (text, status) = match command {
        Command::Help(text) => (text, 0),
        Command::Version => (format!("snoop {}\n", env!("CARGO_PKG_VERSION")), 0),
        Command::Check => preflight::check::check(),
        Command::Health(address) => health::ask(&address)?,
        Command::Trace(config) => return trace(config, None),
        Command::Run(config, words) => return trace(config, Some(words)),
        Command::Closure(closure) => return closure.print(&mut out()).map(|()| 0),
        Command::Unused(unused) => return unused.print(&mut out()).map(|()| 0),
        Command::Slim(slim) => return slim.run().map(|()| 0),
        Command::Merge(merge) => return merge.run().map(|()| 0),
        Command::Show(show) => return show.run(&mut out()).map(|()| 0),
        Command::Export(export) => return export.run().map(|()| 0),
        Command::Diff(diff) => return diff.print(&mut out()),
    };
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|e| cannot("write to standard output", e))?;
    Ok(status)
}

/// Traces until a signal arrives or the command ends, and returns the exit status.
fn trace(config: Config, command: Option<Vec<OsString>>) -> Result<u8> {
    log::set_level(config.log_level);
    config.report.check()?;
    let facts = preflight::facts::look(Path::new("/"));
    let plan = preflight::plan(&facts, config.choices)?;
    let signals = start::receive_signals()?;
    let selection = match &config.node {
        None => Selection::find(&config.cgroups, command, plan.cgroup_mount())?,
        Some(_) => Selection::find_node(&config.cgroups, plan.cgroup_mount()),
    };
    let loaded = Loaded::load(&config, plan)?;
    let attached = loaded.attach(config, selection)?;
    let resumed = attached.resume()?;
    let listed = resumed.list_open()?;
    let confined = listed.confine()?;
    confined.run(&signals)
}
