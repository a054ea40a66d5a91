// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the report when something has changed, on request, and at the end. Logs its gaps.

use super::{Tracer, status};
use crate::bpf::counts::Counts;
use crate::bpf::syscalls;
use crate::collect::gaps::{Gap, Gaps};
use crate::error::{Error, Result, cannot};
use crate::log::{self, Level};
use crate::node::Node;
use crate::report::Snapshot;
use crate::report::file::Destination;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// How long the log is silent about further gaps of the report after it has mentioned some.
const SILENCE: Duration = Duration::from_secs(1);

/// The results of the writes of the report.
#[derive(Default)]
pub struct Writes {
    pub done: u64,
    pub failed: u64,
    /// Why the last write failed, if it did.
    pub failure: Option<String>,
    /// Whether the log has warned that another process writes the same file.
    foreign_writer_warned: bool,
}

/// The gaps of the report that the log has already mentioned.
#[derive(Default)]
pub struct GapWarnings {
    counts: Gaps,
    last: Option<Instant>,
}

impl Tracer {
    /// Writes a report of everything that has happened until now.
    pub(super) fn write_now(&mut self) -> Result<()> {
        self.take_all()?;
        let counts = self.count()?;
        if let Some(node) = &mut self.node {
            node.set_changed();
            return self.write_reports(&counts);
        }
        self.collector.set_changed();
        self.write_if_changed(&counts, Level::Info);
        Ok(())
    }

    /// Writes the report if something has changed since the last time. Logs success at the given level.
    pub(super) fn write_if_changed(&mut self, counts: &Counts, level: Level) {
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

    /// Warns of gaps of the report that the log has not mentioned yet, but not so often that it floods the log.
    fn warn_of_gaps(&mut self, counts: &Counts) {
        let GapWarnings {
            counts: warned,
            last,
        } = &mut self.gap_warnings;
        if last.is_some_and(|last| last.elapsed() < SILENCE) {
            return;
        }
        let gaps = self.collector.gaps(counts);
        for (gap, n) in gaps.iter() {
            if n > warned.get(gap) {
                let new = n - warned.get(gap);
                if gap == Gap::NothingSeen {
                    log::info("0 containers seen: nothing has happened in the traced cgroups");
                } else {
                    log::warn(format_args!("the report is not complete: {gap}: {new}"));
                }
                warned.set(gap, n);
                *last = Some(Instant::now());
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
                "{0} is also being written by another process, whose version will be overwritten; give each snoop its own -report",
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

    /// Writes the reports of a node that have changed. Takes the records that arrive meanwhile, because there may be many reports.
    pub(super) fn write_reports(&mut self, counts: &Counts) -> Result<()> {
        let (mut written, mut failure) = (0, None);
        let mut note = |writes: &mut Writes, result: io::Result<bool>| match result {
            Ok(is_written) => written += u64::from(is_written),
            Err(e) => {
                writes.failed += 1;
                failure = Some(e.to_string());
            }
        };
        let places = self.node.as_ref().map_or(0, Node::places);
        for at in 0..places {
            if let Some(node) = &mut self.node {
                note(&mut self.writes, node.write(at, counts));
            }
            self.take_all()?;
        }
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        note(&mut self.writes, node.keep_limit(counts).map(|()| false));
        node.unload_idle();
        self.writes.done += written;
        if written > 0 {
            let (reports, bytes) = node.stored();
            log::info(format_args!(
                "{written} reports written, of {reports} with {bytes} bytes; {} containers run",
                node.running().count()
            ));
        }
        if failure != self.writes.failure
            && let Some(why) = &failure
        {
            log::error(format_args!(
                "cannot write a report: {why}; trying again later"
            ));
        }
        self.writes.failure = failure;
        Ok(())
    }

    pub(super) fn snapshot(&self, counts: &Counts) -> Snapshot<'_> {
        self.collector.snapshot(
            &self.config.metadata,
            self.hooks.rung.name(),
            &self.first_started_at,
            counts,
        )
    }

    /// Writes the final report and logs a summary of it.
    pub(super) fn finish(mut self) -> Result<()> {
        // The ELF interpreter of a process that has ended by now will never be known.
        self.probe.give_up_all_interps();
        let running = self.running.take();
        let is_command = running.is_some();
        if let Some(running) = running {
            let left = running.evacuate();
            // The accesses of these processes still count until now.
            self.read_all();
            self.collector.set_left_running(left);
        }
        let counted = self.count();
        if counted.is_err() {
            self.collector.set_uncounted();
        }
        let counts = self.counts.clone();
        if self.node.is_some() {
            self.write_reports(&counts)?;
            return counted.and(match &self.writes.failure {
                None => Ok(()),
                Some(why) => Err(Error::failed(format!("cannot write a report: {why}"))),
            });
        }
        self.write(&counts)
            .map_err(|e| cannot("write the report", e))?;
        let totals = self.collector.totals(&counts);
        let files = self.collector.files();
        let summary = format!(
            "{files} files used; {totals}; report: {}",
            self.config.report
        );
        if is_command && !self.config.is_quiet && io::stderr().is_terminal() {
            status::sum_up(&summary);
        } else {
            log::info(summary);
        }
        for (row, name) in syscalls::counted_rows() {
            log::debug(format_args!("{name}: {:?}", counts.of(row)));
        }
        self.warn_of_gaps(&counts);
        counted.map(|_| ())
    }
}
