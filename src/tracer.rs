//! The epoll loop: records, signals, timers and clients, in one thread.

use crate::args::Config;
use crate::bpf::kernel::{Feature, ITERATORS};
use crate::bpf::probe::{Counts, Probe};
use crate::bpf::syscalls;
use crate::bpf::wire::{EPOCH_SECONDS, Outcome, RING_URGENT};
use crate::cgroup::command::Running;
use crate::cgroup::kubernetes_name;
use crate::collect::Collector;
use crate::collect::gaps::{Gap, Gaps};
use crate::error::{FAILED, Result, cannot};
use crate::http::{Body, Response, Server};
use crate::log::{self, Level};
use crate::metrics::{self, Scrape};
use crate::report::Snapshot;
use crate::report::file::Destination;
use crate::report::previous;
use crate::ring::Records;
use crate::sys::capabilities::{CAP_BPF, CAP_DAC_OVERRIDE, CAP_SYS_ADMIN};
use crate::sys::epoll::{Epoll, Interest};
use crate::sys::signals::{self, SignalFd};
use crate::sys::timer::Timer;
use crate::sys::{files, sandbox};
use std::fs::File;
use std::io::{self, IsTerminal, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The signals the loop wants to hear of.
pub const SIGNALS: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD];

/// What an epoll event is about; connections have the tokens from [`FIRST_CONNECTION`] on.
#[derive(Clone, Copy)]
enum Token {
    Records,
    Signal,
    Report,
    Epoch,
    Listener,
}

const TOKENS: [Token; 5] = [
    Token::Records,
    Token::Signal,
    Token::Report,
    Token::Epoch,
    Token::Listener,
];

pub const FIRST_CONNECTION: u64 = TOKENS.len() as u64;

/// How often connections are looked at while there are any.
const EXPIRY: Duration = Duration::from_secs(1);

/// How long the log says nothing of what the report lacks, after it did.
const SILENCE: Duration = Duration::from_secs(1);

/// How long records come together before they are taken, unless they are many.
const BATCH_DELAY: Duration = Duration::from_millis(20);

/// Records taken per turn of the loop, so that signals and timers are heard during a storm.
const RECORDS_PER_TURN: usize = 1024;

/// How often the programs' knowledge ages.
const EPOCH: Duration = Duration::from_secs(EPOCH_SECONDS);

pub struct Tracer {
    pub config: Config,
    /// Of this process, and of the first run that the report tells of.
    pub started_at: SystemTime,
    pub first_started_at: String,
    pub probe: Probe,
    pub records: Records<bpf_sys::direct::Map>,
    pub collector: Collector,
    /// The command of `snoop run`.
    pub running: Option<Running>,
    pub server: Option<Server>,
    pub writes: Writes,
    pub progress: Progress,
    /// When to take the records that wait.
    pub drain_at: Option<Instant>,
    /// Gaps of the report that the log told of, and when.
    pub warned: (Gaps, Option<Instant>),
    /// What the programs had counted when that could be read last.
    pub counts: Counts,
}

/// How the reports fared.
#[derive(Default)]
pub struct Writes {
    done: u64,
    failed: u64,
    /// Why the last one failed, if it did.
    failure: Option<String>,
    /// The log tells of somebody else who writes there.
    foreign_writer_warned: bool,
}

/// Intervals in which records may wait without one being taken.
const STUCK_AFTER: u32 = 3;

/// Is the ring buffer read? Looked at once an interval.
#[derive(Default)]
pub struct Progress {
    taken: u64,
    /// Intervals since a record was taken, while records wait.
    stalled_intervals: u32,
}

impl Progress {
    /// `sent` records left the programs by now, `taken` arrived.
    fn note(&mut self, sent: u64, taken: u64) {
        let waits = sent > taken && taken == self.taken;
        self.stalled_intervals = if waits { self.stalled_intervals + 1 } else { 0 };
        self.taken = taken;
    }

    fn is_stuck(&self) -> bool {
        self.stalled_intervals >= STUCK_AFTER
    }
}

impl Tracer {
    /// Lists what the traced processes have open already, as far as they can be seen.
    ///
    /// `parents` are cgroups above snoop's own whose children are containers.
    pub fn list_open(
        &mut self,
        ids: &[Option<u32>; ITERATORS.len()],
        parents: &[u64],
    ) -> Result<()> {
        let needed = [Feature::KernelMemory, Feature::Paths];
        let lacks = self
            .probe
            .lost()
            .iter()
            .any(|lost| needed.contains(&lost.feature));
        if lacks {
            return Ok(());
        }
        for parent in parents {
            if let Err(e) = self.probe.list_children(*parent) {
                log::warn(format_args!(
                    "containers that ran already are not all listed: {e}"
                ));
            }
            self.take_all()?;
        }
        // The iterators show the pid namespace that snoop is in; the first process of one is alone in it, or among its
        // own.
        if std::process::id() == 1 {
            return Ok(());
        }
        let mut failed = false;
        for (iterator, id) in ITERATORS.iter().zip(ids) {
            if iterator.stands_in && !failed {
                continue;
            }
            let listed = self.probe.list(iterator, *id);
            failed = listed.is_err();
            if let Err(e) = listed {
                log::warn(format_args!("what is open already is not all listed: {e}"));
            }
            // Loading takes time, while records come.
            self.take_all()?;
        }
        Ok(())
    }

    /// Goes on with the report of an earlier run, if it is one of the same pod and image; `covers` tells which
    /// cgroups are traced.
    pub fn resume(&mut self, covers: impl Fn(&[u8]) -> bool) -> Result<()> {
        let Destination::File(report) = &self.config.report else {
            return Ok(());
        };
        let Some((earlier, mut file)) = previous::find(report, &self.config.metadata, covers)?
        else {
            return Ok(());
        };
        let places = self.collector.resume(&earlier);
        let collector = &mut self.collector;
        earlier.files(&mut file, |i, path| collector.add_earlier(places[i], path))?;
        log::info(format_args!(
            "going on with the report that began at {}: {} files",
            earlier.started_at,
            self.collector.files()
        ));
        self.first_started_at = earlier.started_at;
        Ok(())
    }

    /// Gives up what the loop does not need.
    pub fn confine(&self) -> Result<()> {
        let kept = sandbox::drop_capabilities(&[
            // Before Linux 5.19, where unprivileged users may not use bpf(2).
            (&[CAP_BPF, CAP_SYS_ADMIN], &|| self.probe.counts().is_ok()),
            // In a directory of somebody else.
            (&[CAP_DAC_OVERRIDE], &|| self.config.report.is_permitted()),
        ])?;
        log::debug(format_args!("capabilities that are kept: {kept:#x}"));
        sandbox::confine()
    }

    /// Traces until the end, and writes the last report however it comes; returns the exit status.
    pub fn run(mut self, signals: &SignalFd) -> Result<u8> {
        let (status, failed) = match self.turns(signals) {
            Ok(status) => (status, None),
            Err(e) => (FAILED, Some(e)),
        };
        // Whoever asks twice does not want to wait for a report that hangs.
        signals::end_at_once(&[libc::SIGTERM, libc::SIGINT]);
        let taken = self.take_all();
        if taken.is_err() {
            // The programs need not be told any more what follows from the others.
            let end = self.records.end();
            while self.records.position() < end && self.read_records() > 0 {}
        }
        let finished = self.finish();
        let failures = [failed, taken.err(), finished.err()];
        let mut failures = failures.into_iter().flatten();
        match failures.next() {
            None => Ok(status),
            Some(first) => {
                // What failed first is most likely the cause of the others.
                failures.for_each(log::error);
                Err(first)
            }
        }
    }

    /// The loop; returns the exit status.
    fn turns(&mut self, signals: &SignalFd) -> Result<u8> {
        let report = Timer::every(self.config.interval).map_err(|e| cannot("set a timer", e))?;
        let epoch = Timer::every(EPOCH).map_err(|e| cannot("set a timer", e))?;
        let epoll = Epoll::new().map_err(|e| cannot("make an epoll", e))?;
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
            };
            let interest = match token {
                Token::Records => Interest::Arrivals,
                _ => Interest::Read,
            };
            epoll
                .add(fd, token as u64, interest)
                .map_err(|e| cannot("watch a descriptor", e))?;
        }
        let mut ready = Vec::new();
        loop {
            let connected = self.server.as_ref().is_some_and(Server::has_connections);
            let until_due = |drain_at: Instant| drain_at.saturating_duration_since(Instant::now());
            let until_due = self.drain_at.map(until_due).or(self.records.look_after());
            let expiry = connected.then_some(EXPIRY);
            let timeout = until_due.into_iter().chain(expiry).min();
            epoll
                .wait(&mut ready, timeout)
                .map_err(|e| cannot("wait for events", e))?;
            let now = Instant::now();
            if self.drain_at.is_some_and(|drain_at| drain_at <= now) || ready.is_empty() {
                self.drain_at = None;
                self.take_records()?;
            }
            for token in &ready {
                match TOKENS.get(*token as usize) {
                    Some(Token::Records) => self.await_records(now),
                    Some(Token::Signal) => {
                        if let Some(status) = self.take_signals(signals)? {
                            return Ok(status);
                        }
                    }
                    Some(Token::Report) => {
                        report.ticks();
                        self.take_all()?;
                        let counts = self.count()?;
                        self.write_if_changed(&counts, Level::Info);
                        let sent = counts.sum(Outcome::Submitted);
                        self.progress.note(sent, self.collector.records());
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
                    None => self.serve(*token, &epoll, now),
                }
            }
            if let Some(server) = self.server.as_mut().filter(|_| connected) {
                server.expire(now);
            }
        }
    }

    /// What the programs have counted by now.
    fn count(&mut self) -> Result<Counts> {
        self.counts = self.probe.counts()?;
        Ok(self.counts.clone())
    }

    /// Goes on with a client's connection.
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

    fn answer(&mut self, path: &str) -> Response {
        if let Err(e) = self.take_all() {
            log::error(e);
        }
        let answered = match path {
            "/metrics" => self.metrics(),
            "/healthz" => Ok(self.health()),
            "/report" => self.report(),
            _ => Ok(Response::text(
                404,
                "not found: there are /metrics, /healthz and /report",
            )),
        };
        answered.unwrap_or_else(|e| {
            log::error(format_args!("cannot answer a request for {path}: {e}"));
            Response::text(500, "snoop cannot answer; its log says why")
        })
    }

    fn metrics(&mut self) -> Result<Response> {
        let counts = self.count()?;
        let text = metrics::render(&Scrape {
            collector: &self.collector,
            counts: &counts,
            report_writes: self.writes.done,
            report_write_errors: self.writes.failed,
            started_at: self.started_at,
        });
        Ok(Response {
            status: 200,
            content_type: metrics::CONTENT_TYPE,
            body: Body::Bytes(text.into_bytes()),
        })
    }

    fn health(&self) -> Response {
        if !self.probe.is_alive() {
            return Response::text(503, "the BPF programs do not run: nothing is traced");
        }
        if let Some(why) = &self.writes.failure {
            let why = format!("the last report could not be written: {why}");
            return Response::text(503, &why);
        }
        if self.progress.is_stuck() {
            return Response::text(503, "the ring buffer is not read: records wait in it");
        }
        let lost = self.probe.lost().iter();
        let lost: String = lost
            .map(|lost| format!("; without {}: {}", lost.feature.name(), lost.why))
            .collect();
        Response::text(200, &format!("ok{lost}"))
    }

    /// The current report: the file, brought up to date, or a copy where that cannot be.
    fn report(&mut self) -> Result<Response> {
        let counts = self.count()?;
        // Clients do not fill the log.
        self.write_if_changed(&counts, Level::Debug);
        let written = match &self.config.report {
            Destination::File(file) if self.writes.failure.is_none() => file.open_written(),
            _ => None,
        };
        let file = match written {
            Some(file) => file,
            None => self
                .copy(&counts)
                .map_err(|e| cannot("make a copy of the report", e))?,
        };
        Ok(Response {
            status: 200,
            content_type: "application/json",
            body: Body::File(file),
        })
    }

    fn copy(&self, counts: &Counts) -> io::Result<File> {
        let mut file = files::memory_file()?;
        self.snapshot(counts)
            .write(&mut io::BufWriter::new(&mut file))?;
        file.rewind()?;
        Ok(file)
    }

    /// Records came.
    fn await_records(&mut self, now: Instant) {
        let patience = match self.records.end() - self.records.position() {
            RING_URGENT.. => Duration::ZERO,
            _ => BATCH_DELAY,
        };
        let drain_at = now + patience;
        self.drain_at = Some(
            self.drain_at
                .map_or(drain_at, |earlier| earlier.min(drain_at)),
        );
    }

    /// Takes what waits now.
    fn take_all(&mut self) -> Result<()> {
        let end = self.records.end();
        while self.records.position() < end && self.take_records()? > 0 {}
        Ok(())
    }

    /// Takes some of the records that wait; returns how many.
    fn read_records(&mut self) -> usize {
        let collector = &mut self.collector;
        let taken = self
            .records
            .read(RECORDS_PER_TURN, |bytes| collector.record(bytes));
        collector.name_containers(|cgroup| kubernetes_name(Path::new("/proc"), &cgroup.path));
        taken
    }

    /// Takes some of the records that wait, tells the programs what follows from them, and sees to it that the other
    /// records are taken; returns how many it took.
    fn take_records(&mut self) -> Result<usize> {
        let taken = self.read_records();
        let orders = self.collector.take_orders();
        for cgroup in orders.release {
            let events = self.probe.release(cgroup)?;
            self.collector.released(cgroup, events);
        }
        for key in orders.forget {
            self.probe.reoffer(key)?;
        }
        self.collector.merge_gone();
        if taken == RECORDS_PER_TURN {
            self.drain_at = Some(Instant::now());
        }
        Ok(taken)
    }

    /// The exit status, if it is time to end.
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

    /// Writes a report of all that happened until now.
    fn write_now(&mut self) -> Result<()> {
        self.take_all()?;
        let counts = self.count()?;
        self.collector.set_changed();
        self.write_if_changed(&counts, Level::Info);
        Ok(())
    }

    /// Says at that level that it did.
    fn write_if_changed(&mut self, counts: &Counts, level: Level) {
        self.warn_of_gaps(counts);
        if !self.collector.take_changed() {
            return;
        }
        let failed_before = self.writes.failure.take();
        match self.write(counts) {
            Ok(()) => log::line(
                level,
                format_args!(
                    "report written: {} files, {}",
                    self.collector.files(),
                    self.collector.totals(counts)
                ),
            ),
            Err(e) => {
                self.collector.set_changed();
                if failed_before != self.writes.failure {
                    log::error(format_args!(
                        "cannot write the report: {e}; trying again later"
                    ));
                }
            }
        }
    }

    /// Says what the report lacks, as far as it was not warned before, but not more often than is good for a log.
    fn warn_of_gaps(&mut self, counts: &Counts) {
        let (warned, at) = &mut self.warned;
        if at.is_some_and(|at| at.elapsed() < SILENCE) {
            return;
        }
        let gaps = self.collector.gaps(counts);
        for (gap, n) in gaps.iter() {
            if n > warned.get(gap) {
                let new = n - warned.get(gap);
                if gap == Gap::NothingSeen {
                    log::info("0 containers seen: nothing has happened in what is traced");
                } else {
                    log::warn(format_args!("the report is not complete: {gap}: {new}"));
                }
                warned.set(gap, n);
                *at = Some(Instant::now());
            }
        }
    }

    fn write(&mut self, counts: &Counts) -> io::Result<()> {
        if let Destination::File(file) = &self.config.report
            && !self.writes.foreign_writer_warned
            && file.is_replaced()
        {
            self.writes.foreign_writer_warned = true;
            log::warn(format_args!(
                "something else writes {0} too, and is overwritten; give each snoop a -report of its own",
                self.config.report
            ));
        }
        let snapshot = self.snapshot(counts);
        let written = self.config.report.write(|out| snapshot.write(out));
        match &written {
            Ok(()) => self.writes.done += 1,
            Err(_) => self.writes.failed += 1,
        }
        self.writes.failure = written.as_ref().err().map(io::Error::to_string);
        written
    }

    fn snapshot(&self, counts: &Counts) -> Snapshot<'_> {
        self.collector
            .snapshot(&self.config.metadata, &self.first_started_at, counts)
    }

    /// Writes the last report and says what is in it.
    fn finish(mut self) -> Result<()> {
        let counted = self.count();
        if counted.is_err() {
            self.collector.set_uncounted();
        }
        let counts = self.counts.clone();
        self.write(&counts)
            .map_err(|e| cannot("write the report", e))?;
        let totals = self.collector.totals(&counts);
        let files = self.collector.files();
        let summary = format!(
            "{files} files used; {totals}; report: {}",
            self.config.report
        );
        match self.running.take() {
            Some(running) => {
                running.evacuate();
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
        self.warn_of_gaps(&counts);
        counted.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_is_not_read_is_noticed_and_forgiven() {
        let mut progress = Progress::default();
        let mut noted = |sent, taken| {
            progress.note(sent, taken);
            progress.is_stuck()
        };
        // Idle, busy, and behind but moving.
        assert!(!noted(0, 0) && !noted(0, 0) && !noted(9, 9) && !noted(20, 12) && !noted(30, 25));
        assert!(!noted(30, 25) && !noted(31, 25) && noted(40, 25) && noted(40, 25));
        assert!(!noted(40, 26) && !noted(40, 40) && !noted(40, 40) && !noted(40, 40));
    }
}
