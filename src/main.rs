//! The story: look at the host, load and attach, find what to trace, loop, write the last report.

use snoop::args::{self, Command, Config};
use snoop::cgroup::{self, OwnCgroup};
use snoop::collect::Collector;
use snoop::error::{Error, Result};
use snoop::log;
use snoop::preflight;
use snoop::probe::{Counts, Probe, Settings};
use snoop::report::Snapshot;
use snoop::ring::Ring;
use snoop::run::Running;
use snoop::sys::{Epoll, SignalFd, Timer};
use snoop::syscalls;
use snoop::wire::RING_BYTES;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

fn main() -> ExitCode {
    let words = env::args_os().skip(1);
    match args::parse(words, |name| env::var_os(name)).and_then(obey) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            eprintln!("snoop: {e}");
            ExitCode::from(e.status)
        }
    }
}

/// Does what the command line says; answers the exit status.
fn obey(command: Command) -> Result<u8> {
    match command {
        Command::Help => print!("{}", args::HELP),
        Command::Version => println!("snoop {}", env!("CARGO_PKG_VERSION")),
        Command::Check => return Ok(preflight::check()),
        Command::Trace(config) => return trace(config, None),
        Command::Run(config, words) => return trace(config, Some(words)),
    }
    Ok(0)
}

/// Traces the cgroups of the configuration, or one that is made for the command.
fn trace(config: Config, command: Option<Vec<OsString>>) -> Result<u8> {
    log::set_level(config.log_level);
    config.report.check()?;
    let plan = preflight::plan(&preflight::look(Path::new("/")))?;
    let own = match command {
        Some(_) => {
            let cgroups = fs::read("/proc/self/cgroup").unwrap_or_default();
            Some(OwnCgroup::make(&plan.cgroup_mount, &cgroups)?)
        }
        None => None,
    };
    let cgroups = match &own {
        Some(own) => vec![own.cgroup.clone()],
        None => cgroup::named(&config.cgroups, &plan.cgroup_mount)?,
    };

    let layout = preflight::layout()?;
    let (mut probe, ring) = Probe::load(&Settings {
        layout: &layout,
        typed: plan.typed,
        excludes: &config.excludes,
    })?;
    for cgroup in &cgroups {
        probe.trace(cgroup.id)?;
    }
    let ring = Ring::new(ring, RING_BYTES).map_err(|e| cannot("map the ring buffer", e))?;
    // From here on a signal means "stop and write the last report".
    let signals = SignalFd::new(&[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD])
        .map_err(|e| cannot("receive signals", e))?;
    probe.attach()?;
    let paths: Vec<_> = cgroups.iter().map(|c| c.path.to_string_lossy()).collect();
    log::info(format_args!(
        "attached: {} syscalls and exec; ring buffer of {} MiB; tracing {}",
        syscalls::counted_rows().count(),
        RING_BYTES >> 20,
        paths.join(", ")
    ));

    let running = match (own, &command) {
        (Some(own), Some(words)) => Some(Running::start(own, words)?),
        _ => None,
    };
    let collector = Collector::new(cgroups, config.excludes.clone(), config.max_unique_files);
    Tracer {
        config,
        started_at: SystemTime::now(),
        probe,
        ring,
        collector,
        running,
    }
    .run(&signals)
}

fn cannot(what: &str, e: io::Error) -> Error {
    Error::failed(format!("cannot {what}: {e}"))
}

/// What an epoll event is about.
#[derive(Clone, Copy)]
enum Token {
    Records,
    Signal,
    Report,
    Epoch,
}

const TOKENS: [Token; 4] = [Token::Records, Token::Signal, Token::Report, Token::Epoch];

/// Records taken per turn of the loop, so that signals and timers are heard during a storm.
const RECORDS_PER_TURN: usize = 4096;

/// How often the programs' knowledge ages: see SEEN_EPOCHS in probes/wire.h.
const EPOCH: Duration = Duration::from_secs(60);

struct Tracer {
    config: Config,
    started_at: SystemTime,
    probe: Probe,
    ring: Ring<bpf_sys::direct::Map>,
    collector: Collector,
    /// The command of `snoop run`.
    running: Option<Running>,
}

impl Tracer {
    /// The loop; answers the exit status.
    fn run(mut self, signals: &SignalFd) -> Result<u8> {
        let report = Timer::every(self.config.interval).map_err(|e| cannot("set a timer", e))?;
        let epoch = Timer::every(EPOCH).map_err(|e| cannot("set a timer", e))?;
        let epoll = Epoll::new().map_err(|e| cannot("make an epoll", e))?;
        for token in TOKENS {
            let fd = match token {
                Token::Records => self.ring.as_fd(),
                Token::Signal => signals.as_fd(),
                Token::Report => report.as_fd(),
                Token::Epoch => epoch.as_fd(),
            };
            epoll
                .add(fd, token as u64)
                .map_err(|e| cannot("watch a descriptor", e))?;
        }
        let mut ready = Vec::new();
        let status = 'turns: loop {
            epoll
                .wait(&mut ready)
                .map_err(|e| cannot("wait for events", e))?;
            for token in &ready {
                match TOKENS[*token as usize] {
                    Token::Records => _ = self.take_records(),
                    Token::Signal => {
                        if let Some(status) = self.take_signals(signals)? {
                            break 'turns status;
                        }
                    }
                    Token::Report => {
                        report.ticks();
                        self.write_if_changed()?;
                    }
                    Token::Epoch => {
                        epoch.ticks();
                        self.probe.next_epoch()?;
                    }
                }
            }
        };
        while self.take_records() > 0 {}
        self.finish(status)
    }

    fn take_records(&mut self) -> usize {
        let collector = &mut self.collector;
        self.ring
            .read(RECORDS_PER_TURN, |bytes| collector.record(bytes))
    }

    /// The exit status, if it is time to end.
    fn take_signals(&mut self, signals: &SignalFd) -> Result<Option<u8>> {
        while let Some(signal) = signals.next() {
            match &mut self.running {
                None if signal.number == libc::SIGCHLD => (),
                None => return Ok(Some(0)),
                Some(running) if signal.number == libc::SIGCHLD => {
                    if let Some(status) = running.ended()? {
                        return Ok(Some(status));
                    }
                }
                Some(running) => running.signal(&signal),
            }
        }
        Ok(None)
    }

    fn write_if_changed(&mut self) -> Result<()> {
        if self.collector.take_changed() {
            let counts = self.probe.counts()?;
            if let Err(e) = self.write(&counts, &self.probe.events()?) {
                self.collector.set_changed();
                log::error(format_args!(
                    "cannot write the report: {e}; trying again later"
                ));
            }
        }
        Ok(())
    }

    fn write(&self, counts: &Counts, events: &[u64]) -> io::Result<()> {
        self.config.report.write(&Snapshot {
            metadata: &self.config.metadata,
            started_at: self.started_at,
            collector: &self.collector,
            counts,
            events,
        })
    }

    /// Writes the last report and says what is in it.
    fn finish(mut self, status: u8) -> Result<u8> {
        let (counts, events) = (self.probe.counts()?, self.probe.events()?);
        self.write(&counts, &events)
            .map_err(|e| cannot("write the report", e))?;
        let totals = self.collector.totals(&counts);
        let files: usize = self
            .collector
            .containers
            .iter()
            .map(|c| c.files.len())
            .sum();
        let summary = format!(
            "{files} files used; {totals}; report: {}",
            self.config.report
        );
        match self.running.take() {
            Some(running) => {
                running.release();
                if io::stderr().is_terminal() {
                    eprintln!("snoop: {summary}");
                } else {
                    log::info(summary);
                }
            }
            None => log::info(summary),
        }
        for (row, name) in syscalls::counted_rows() {
            log::debug(format_args!("{name}: {:?}", counts.of(row)));
        }
        for (reason, n) in self.collector.losses(&counts) {
            if n > 0 {
                log::warn(format_args!(
                    "the report is not complete: {reason}: {n} accesses"
                ));
            }
        }
        Ok(status)
    }
}
