//! The epoll loop: records, signals and timers to the collector and the report, in one thread.

use crate::args::Config;
use crate::collect::Collector;
use crate::error::{Result, cannot};
use crate::log;
use crate::probe::{Counts, Probe};
use crate::report::Snapshot;
use crate::ring::Ring;
use crate::run::Running;
use crate::sys::{Epoll, SignalFd, Timer};
use crate::syscalls;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

/// The signals the loop wants to hear of.
pub const SIGNALS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD];

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

pub struct Tracer {
    pub config: Config,
    pub started_at: SystemTime,
    pub probe: Probe,
    pub ring: Ring<bpf_sys::direct::Map>,
    pub collector: Collector,
    /// The command of `snoop run`.
    pub running: Option<Running>,
}

impl Tracer {
    /// The loop; answers the exit status.
    pub fn run(mut self, signals: &SignalFd) -> Result<u8> {
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
                    let _ = writeln!(io::stderr(), "snoop: {summary}");
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
