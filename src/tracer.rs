// SPDX-License-Identifier: MIT OR Apache-2.0
//! The epoll loop: records, signals, timers and clients, in one thread.

mod answers;
mod reporting;
pub mod start;
mod status;

use crate::args::Config;
use crate::bpf::counts::Counts;
use crate::bpf::probe::Probe;
use crate::bpf::wire::{EPOCH_SECONDS, Outcome, RING_URGENT, Target};
use crate::cgroup::command::Running;
use crate::cgroup::kubernetes_name;
use crate::collect::{Collector, GONE_MAX};
use crate::error::{FAILED, Result, cannot};
use crate::http::Server;
use crate::log::{self, Level};
use crate::node::Node;
use crate::preflight::Hooks;
use crate::ring::Records;
use crate::sys::epoll::{Epoll, Interest};
use crate::sys::signals::{self, SignalFd};
use crate::sys::timer::Timer;
use crate::time::rfc3339;
use answers::Progress;
use reporting::{GapWarnings, Writes};
use start::Loaded;
use status::StatusLine;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The signals that the loop receives.
const SIGNALS: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD];

/// The source of an epoll event. Connections have the tokens from [`FIRST_CONNECTION`] on.
#[derive(Clone, Copy)]
enum Token {
    Records,
    Signal,
    Report,
    Epoch,
    Listener,
    Status,
}

const TOKENS: [Token; 6] = [
    Token::Records,
    Token::Signal,
    Token::Report,
    Token::Epoch,
    Token::Listener,
    Token::Status,
];

const FIRST_CONNECTION: u64 = TOKENS.len() as u64;

/// How often the loop looks for idle connections while there are connections.
const EXPIRY: Duration = Duration::from_secs(1);

/// How long records may gather before they are taken, unless [`RING_URGENT`] bytes are waiting.
const BATCH_DELAY: Duration = Duration::from_millis(20);

/// The most records taken per turn of the loop, so that the loop attends to signals and timers even in a flood of
/// records.
const RECORDS_PER_TURN: usize = 1024;

/// How often the set of known accesses ages.
const EPOCH: Duration = Duration::from_secs(EPOCH_SECONDS);

/// The state of the loop. [`start`] creates it.
struct Tracer {
    config: Config,
    hooks: Hooks,
    /// When this process began to trace.
    started_at: SystemTime,
    /// When the first run began that the report covers.
    first_started_at: String,
    probe: Probe,
    records: Records<bpf_sys::direct::Map>,
    /// The report. It stays empty on a node.
    collector: Collector,
    /// The reports of a node.
    node: Option<Node>,
    /// The command of `snoop run`.
    running: Option<Running>,
    server: Option<Server>,
    writes: Writes,
    progress: Progress,
    /// When to take the records that wait.
    drain_at: Option<Instant>,
    gap_warnings: GapWarnings,
    /// The programs' counts when snoop last managed to read them.
    counts: Counts,
}

impl Tracer {
    fn new(
        config: Config,
        loaded: Loaded,
        collector: Collector,
        running: Option<Running>,
    ) -> Tracer {
        let started_at = SystemTime::now();
        Tracer {
            config,
            hooks: loaded.plan.hooks,
            started_at,
            first_started_at: rfc3339(started_at),
            probe: loaded.probe,
            records: loaded.records,
            collector,
            node: None,
            running,
            server: loaded.server,
            writes: Writes::default(),
            progress: Progress::default(),
            drain_at: None,
            gap_warnings: GapWarnings::default(),
            counts: Counts::default(),
        }
    }

    /// Traces until the end, and writes the final report whatever the cause of the end. Returns the exit status.
    fn run(mut self, signals: &SignalFd) -> Result<u8> {
        let (status, failed) = match self.run_loop(signals) {
            Ok(status) => (status, None),
            Err(e) => (FAILED, Some(e)),
        };
        // A user who sends a second signal does not want to wait for a report that hangs.
        signals::end_at_once(&[libc::SIGTERM, libc::SIGINT]);
        let taken = self.take_all();
        if taken.is_err() {
            self.read_all();
        }
        let finished = self.finish();
        let failures = [failed, taken.err(), finished.err()];
        let mut failures = failures.into_iter().flatten();
        match failures.next() {
            None => Ok(status),
            Some(first) => {
                // The first failure is most likely the cause of the others.
                failures.for_each(log::error);
                Err(first)
            }
        }
    }

    /// The loop. Returns the exit status.
    fn run_loop(&mut self, signals: &SignalFd) -> Result<u8> {
        let report = Timer::every(self.config.interval).map_err(|e| cannot("set a timer", e))?;
        let epoch = Timer::every(EPOCH).map_err(|e| cannot("set a timer", e))?;
        let mut status = self.status_line();
        let epoll = self.watch(signals, &report, &epoch, status.as_ref())?;
        let mut ready = Vec::new();
        loop {
            epoll
                .wait(&mut ready, self.timeout())
                .map_err(|e| cannot("wait for events", e))?;
            let now = Instant::now();
            if self.drain_at.is_some_and(|drain_at| drain_at <= now) || ready.is_empty() {
                self.drain_at = None;
                self.take_records()?;
            }
            for token in &ready {
                match TOKENS.get(*token as usize) {
                    Some(Token::Records) => self.schedule_drain(now),
                    Some(Token::Signal) => {
                        if let Some(status) = self.take_signals(signals)? {
                            return Ok(status);
                        }
                    }
                    Some(Token::Report) => {
                        report.ticks();
                        self.end_interval()?;
                    }
                    Some(Token::Epoch) => {
                        epoch.ticks();
                        self.probe.next_epoch()?;
                    }
                    Some(Token::Listener) => {
                        if let Some(server) = &mut self.server {
                            server.accept(&epoll, now);
                        }
                    }
                    Some(Token::Status) => {
                        if let Some(status) = &mut status {
                            status.tick(self.collector.files());
                        }
                    }
                    None => self.serve(*token, &epoll, now),
                }
            }
            if let Some(server) = &mut self.server {
                server.expire(now);
            }
        }
    }

    /// Returns the line that shows the user of `snoop run` how far it is, if the terminal can.
    fn status_line(&self) -> Option<StatusLine> {
        let is_wanted = self.running.is_some() && !self.config.is_quiet;
        is_wanted.then(StatusLine::on_terminal).flatten()
    }

    /// Creates an epoll instance that reports each descriptor of the loop by its token.
    fn watch(
        &self,
        signals: &SignalFd,
        report: &Timer,
        epoch: &Timer,
        status: Option<&StatusLine>,
    ) -> Result<Epoll> {
        let epoll = Epoll::new().map_err(|e| cannot("create an epoll instance", e))?;
        for token in TOKENS {
            let fd = match token {
                Token::Records => self.records.as_fd(),
                Token::Signal => signals.as_fd(),
                Token::Report => report.as_fd(),
                Token::Epoch => epoch.as_fd(),
                Token::Listener => match &self.server {
                    Some(server) => server.listener().as_fd(),
                    None => continue,
                },
                Token::Status => match status {
                    Some(status) => status.timer(),
                    None => continue,
                },
            };
            let interest = match token {
                Token::Records => Interest::Arrivals,
                _ => Interest::Read,
            };
            epoll
                .add(fd, token as u64, interest)
                .map_err(|e| cannot("watch a descriptor", e))?;
        }
        Ok(epoll)
    }

    /// Returns how long the loop may wait if nothing becomes ready.
    fn timeout(&self) -> Option<Duration> {
        let until_drain = match self.drain_at {
            Some(drain_at) => Some(drain_at.saturating_duration_since(Instant::now())),
            None => self.records.look_after(),
        };
        let has_connections = self.server.as_ref().is_some_and(Server::has_connections);
        let until_expiry = has_connections.then_some(EXPIRY);
        until_drain.into_iter().chain(until_expiry).min()
    }

    /// Reads the programs' counts.
    fn count(&mut self) -> Result<Counts> {
        self.counts = self.probe.counts()?;
        match &mut self.node {
            None => self.collector.counted(&self.counts),
            Some(node) => node.counted(&self.counts),
        }
        Ok(self.counts.clone())
    }

    /// Writes the report at the end of an interval, if something has changed.
    fn end_interval(&mut self) -> Result<()> {
        self.take_all()?;
        let counts = self.count()?;
        match &mut self.node {
            None => self.write_if_changed(&counts, Level::Info),
            Some(node) => {
                node.name();
                self.write_reports(&counts)?;
            }
        }
        let sent = counts.sum(Outcome::Submitted);
        let taken = self.node.as_ref().map(Node::records);
        let taken = taken.unwrap_or_else(|| self.collector.records());
        self.progress.note(sent, taken);
        Ok(())
    }

    /// Continues with the connection of a client.
    fn serve(&mut self, token: u64, epoll: &Epoll, now: Instant) {
        let server = self.server.as_mut();
        let Some((slot, path)) = server.and_then(|server| server.ready(token, epoll, now)) else {
            return;
        };
        let response = self.answer(&path);
        if let Some(server) = &mut self.server {
            server.respond(slot, response, epoll);
        }
    }

    /// Schedules the reading of records that have arrived.
    fn schedule_drain(&mut self, now: Instant) {
        let delay = match self.records.end() - self.records.position() {
            RING_URGENT.. => Duration::ZERO,
            _ => BATCH_DELAY,
        };
        let drain_at = now + delay;
        self.drain_at = Some(
            self.drain_at
                .map_or(drain_at, |earlier| earlier.min(drain_at)),
        );
    }

    /// Takes all records that wait now.
    fn take_all(&mut self) -> Result<()> {
        let end = self.records.end();
        while self.records.position() < end && self.take_records()? > 0 {}
        Ok(())
    }

    /// Takes all records that wait now, without telling the programs what follows from them. At the end of tracing the
    /// programs no longer need that.
    fn read_all(&mut self) {
        let end = self.records.end();
        while self.records.position() < end && self.read_records() > 0 {}
    }

    /// Takes some of the records that wait, and returns how many.
    fn read_records(&mut self) -> usize {
        let collector = &mut self.collector;
        if let Some(node) = &mut self.node {
            return self
                .records
                .read(RECORDS_PER_TURN, |bytes| node.record(bytes));
        }
        let taken = self
            .records
            .read(RECORDS_PER_TURN, |bytes| collector.record(bytes));
        collector.name_containers(|cgroup| kubernetes_name(Path::new("/proc"), &cgroup.path));
        taken
    }

    /// Takes some of the records that wait, and passes the resulting orders on to the programs. If records may be left,
    /// a later turn takes them. Returns how many it took.
    fn take_records(&mut self) -> Result<usize> {
        let taken = self.read_records();
        let orders = match &mut self.node {
            None => self.collector.take_orders(),
            Some(node) => node.take_orders(),
        };
        for cgroup in orders.exclude {
            self.probe.target(cgroup, Target::Ignored)?;
        }
        for cgroup in orders.release {
            let events = self.probe.release(cgroup)?;
            match &mut self.node {
                None => self.collector.released(cgroup, events),
                Some(node) => node.released(cgroup, events),
            }
        }
        for key in orders.forget {
            self.probe.reoffer(key)?;
        }
        match &mut self.node {
            None => self.collector.merge_gone(GONE_MAX),
            Some(node) => node.merge_gone(),
        }
        if taken == RECORDS_PER_TURN {
            self.drain_at = Some(Instant::now());
        }
        Ok(taken)
    }

    /// Acts on the signals that have arrived. Returns the exit status if tracing must end.
    fn take_signals(&mut self, signals: &SignalFd) -> Result<Option<u8>> {
        while let Some(signal) = signals.next() {
            match &mut self.running {
                None if signal.number == libc::SIGCHLD => (),
                None if signal.number == libc::SIGHUP => self.write_now()?,
                None => return Ok(Some(0)),
                Some(running) if signal.number == libc::SIGCHLD => {
                    if let Some(status) = running.try_wait()? {
                        return Ok(Some(status));
                    }
                }
                Some(running) => running.signal(&signal),
            }
        }
        Ok(None)
    }
}
