// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report about the containers of one image, while at least one of them runs.

use crate::bpf::counts::Counts;
use crate::bpf::wire::{OUTCOMES, Outcome};
use crate::cgroup::Cgroup;
use crate::collect::Collector;
use crate::error::Result;
use crate::node::directory::{Summary, count_pods};
use crate::report::file::ReportFile;
use crate::report::metadata::Metadata;
use crate::report::previous;
use crate::sys::files;
use std::fs::File;
use std::io::{self, BufWriter, Seek};
use std::time::{Duration, SystemTime};

/// The most containers of an image that have ended and have entries of their own.
pub const GONE_MAX: usize = 8;

pub struct Image {
    /// The name of the file, without its ending.
    pub stem: String,
    pub metadata: Metadata,
    pub collector: Collector,
    /// Where the programs see the accesses.
    hooks: &'static str,
    /// When the first run began that the report covers.
    pub started_at: String,
    file: ReportFile,
    /// What the programs had counted when the image appeared. Losses before concern other containers.
    before: [u64; OUTCOMES],
    /// The container, if it is one whose image is unknown.
    pub unnamed: Option<Cgroup>,
    /// A filter needs a name that is not known yet, so nobody may see the report.
    pub is_withheld: bool,
    pub has_ended: bool,
}

impl Image {
    pub fn new(
        stem: String,
        metadata: Metadata,
        collector: Collector,
        hooks: &'static str,
        started_at: String,
        file: ReportFile,
        counts: &Counts,
    ) -> Image {
        Image {
            stem,
            metadata,
            collector,
            hooks,
            started_at,
            file,
            before: counts.outcomes(),
            unnamed: None,
            is_withheld: false,
            has_ended: false,
        }
    }

    /// Takes over the report of an earlier time. `not_watched` says how long ago that was at least, if it was before this run.
    pub fn resume(&mut self, run_began: Option<SystemTime>) -> Result<()> {
        let Some((earlier, mut file)) = previous::find(&self.file, &self.metadata, |_| true)?
        else {
            return Ok(());
        };
        let since =
            |began: SystemTime| began.duration_since(earlier.updated_at).unwrap_or_default();
        let not_watched: Option<Duration> = run_began.map(since);
        let places = self.collector.resume(&earlier, not_watched);
        earlier.files(&mut file, |i, path, usage| {
            self.collector.add_file(places[i], path, usage)
        })?;
        self.started_at = earlier.started_at;
        Ok(())
    }

    /// Returns the counts of the programs as far as they concern the image. A loss may concern any container.
    pub fn counts(&self, counts: &Counts) -> Counts {
        let mut outcomes = [0; OUTCOMES];
        for outcome in Outcome::LOST.map(|outcome| outcome as usize) {
            outcomes[outcome] = counts.outcomes()[outcome].saturating_sub(self.before[outcome]);
        }
        let events: u64 = self.collector.containers().map(|c| c.events(counts)).sum();
        // Of the accesses that sent no record, the programs count by container only how many there were.
        outcomes[Outcome::Duplicate as usize] = events.saturating_sub(self.collector.records());
        counts.of_part(outcomes)
    }

    /// Returns whether no container of the image runs.
    pub fn is_idle(&self) -> bool {
        self.collector.is_idle()
    }

    /// Returns whether the report has no container: there is only a pause container, which did not turn out to be one before.
    pub fn is_empty(&self) -> bool {
        self.collector.containers().next().is_none()
    }

    /// Writes the report, and returns what it says in short.
    pub fn write(&mut self, counts: &Counts) -> io::Result<Summary> {
        let counts = self.counts(counts);
        self.collector.counted(&counts);
        let snapshot =
            self.collector
                .snapshot(&self.metadata, self.hooks, &self.started_at, &counts);
        let entries: Vec<_> = snapshot
            .containers
            .iter()
            .map(|c| c.entry.clone())
            .collect();
        self.file.write(|out| snapshot.write(out))?;
        Ok(Summary {
            metadata: self.metadata.clone(),
            pods: count_pods(&entries),
            containers: entries.iter().map(|entry| 1 + entry.merged).sum(),
            files: self.collector.files() as u64,
            is_complete: snapshot.missing.is_empty(),
            last_new_file_at: snapshot.novelty.last_new_file_at,
            updated_at: snapshot.updated_at,
            bytes: self.file.bytes(),
            gone: entries.iter().filter(|entry| entry.ended).count(),
            is_earlier: false,
        })
    }

    /// Opens the report that was written last. `None` if something else has taken its place.
    pub fn open(&self) -> Option<File> {
        self.file.open_written()
    }

    /// Writes the report into memory.
    pub fn copy(&self, counts: &Counts) -> io::Result<File> {
        let counts = self.counts(counts);
        let snapshot =
            self.collector
                .snapshot(&self.metadata, self.hooks, &self.started_at, &counts);
        let mut file = files::memory_file()?;
        snapshot.write(&mut BufWriter::new(&mut file))?;
        file.rewind()?;
        Ok(file)
    }
}
