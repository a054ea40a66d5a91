// SPDX-License-Identifier: MIT OR Apache-2.0
//! The collector: it turns records into files of their containers, and counts them.

pub mod access_paths;
pub mod container;
mod containers;
pub mod gaps;
mod io_uring;
mod mounts;
mod quiet;
#[cfg(test)]
pub mod sample;
mod totals;

pub use containers::GONE_MAX;
pub use totals::Totals;

use crate::bpf::counts::Counts;
use crate::bpf::features::Feature;
use crate::bpf::syscalls;
use crate::bpf::wire::{
    RECORD_CGROUP_CREATED, RECORD_CGROUP_REMOVED, RECORD_COMPLETE, RECORD_LATE, RECORD_OTHER_MNTNS,
    RECORD_OTHER_ROOT, RECORD_PENDING, ROWS, Record,
};
use crate::cgroup::Cgroup;
use crate::collect::access_paths::AccessPaths;
use crate::collect::container::Container;
use crate::collect::containers::{Containers, Place};
use crate::collect::gaps::{Gap, Gaps};
use crate::collect::io_uring::Requests;
use crate::collect::mounts::is_pseudo;
use crate::collect::quiet::Quiet;
use crate::collect::totals::{Fate, Tally};
use crate::files::file_set::{Added, NO_KEY};
use crate::files::kinds::Kinds;
use crate::files::usage::Usage;
use crate::log::{self, Level};
use crate::path::{Excludes, is_below, path_from_leaf, seen_from};
use crate::report::Snapshot;
use crate::report::metadata::Metadata;
use crate::report::previous::PreviousReport;
use crate::report::schema::{ContainerEntry, Novelty, PodEntry, ReportTotals};
use crate::time::KernelClock;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub struct Collector {
    containers: Containers,
    /// The paths of the current record. The value is kept so that the next record can reuse its buffers.
    paths: AccessPaths,
    requests: Requests,
    excludes: Excludes,
    tally: Tally,
    quiet: Quiet,
    clock: KernelClock,
    /// The features that the programs do not have on this kernel.
    unable: Vec<Feature>,
    /// The seconds between an earlier run and this one.
    not_watched: u64,
    /// The number of processes that outlived the command of `snoop run`.
    left_running: u64,
    /// Whether snoop failed to read the programs' counters.
    is_uncounted: bool,
    earlier: EarlierRuns,
    /// Whether anything has changed since [`Collector::take_changed`] was called.
    is_changed: bool,
    /// The ids of the containers that have ended since [`Collector::take_orders`] was called.
    release: Vec<u64>,
}

const HOUR: Duration = Duration::from_secs(3600);

/// The counts of earlier runs, and the gaps of their report.
#[derive(Default)]
struct EarlierRuns {
    totals: ReportTotals,
    gaps: Gaps,
}

/// The orders for the programs.
#[derive(Default)]
pub struct Orders {
    /// The ids of containers that have ended. The programs release their counters.
    pub release: Vec<u64>,
    /// The lower halves of the keys of accesses to evicted files. The programs forget these accesses.
    pub forget: Vec<u32>,
    /// The ids of containers that turned out not to be traced.
    pub exclude: Vec<u64>,
}

/// Returns where a directory's name leads in snoop's own view of the file system. A confined snoop has no such view.
fn resolve(directory: &[u8]) -> Option<Vec<u8>> {
    let real = fs::canonicalize(OsStr::from_bytes(directory)).ok()?;
    Some(real.into_os_string().into_vec())
}

impl Collector {
    /// Creates a collector. `capacity` limits the set of files of each container; 0 means unbounded. `clock` has the time at
    /// which tracing began.
    pub fn new(
        cgroups: Vec<Cgroup>,
        excludes: Excludes,
        capacity: usize,
        clock: KernelClock,
    ) -> Collector {
        Collector {
            containers: Containers::new(cgroups, capacity),
            paths: AccessPaths::default(),
            requests: Requests::default(),
            excludes,
            tally: Tally::default(),
            quiet: Quiet::default(),
            clock,
            unable: Vec::new(),
            not_watched: 0,
            left_running: 0,
            is_uncounted: false,
            earlier: EarlierRuns::default(),
            is_changed: true,
            release: Vec::new(),
        }
    }

    /// Resumes an earlier report, but for its files. Returns the place here of each of its containers, for
    /// [`Collector::add_file`].
    ///
    /// `not_watched` is the time between the two runs, in which something could happen that neither of them saw.
    pub fn resume(
        &mut self,
        earlier: &PreviousReport,
        not_watched: Option<Duration>,
    ) -> Vec<usize> {
        // Rounded up, because a process needs only a fraction of a second.
        self.not_watched = not_watched.map_or(0, |time| time.as_secs().max(1));
        self.quiet.resume(earlier.events_since_new_file);
        self.earlier = EarlierRuns {
            totals: earlier.totals,
            gaps: Gaps::from_report(&earlier.missing),
        };
        let containers = earlier.containers.iter();
        containers.map(|c| self.containers.resume(c)).collect()
    }

    /// Adds a file of an earlier report to the container at this place.
    pub fn add_file(&mut self, at: usize, path: &[u8], usage: Usage) {
        if !self.excludes.matches(path) {
            self.containers.add_file(at, path, usage, NO_KEY);
        }
    }

    /// Adds a file that the command has inherited and can read.
    pub fn add_inherited(&mut self, at: usize, path: &[u8]) {
        let started = self.clock.wall(self.clock.monotonic);
        let usage = self.containers.get_mut(at).usage(Kinds::READ, started);
        self.add_file(at, path, usage);
    }

    /// Takes over the containers of another collector, and what it counted.
    pub fn adopt(&mut self, other: Collector) {
        self.containers.adopt(other.containers);
        self.tally.add(&other.tally);
        self.is_changed = true;
        self.release.extend(other.release);
    }

    /// Takes over the entries of those containers of another collector that `is_wanted` accepts, with their files, as if they were
    /// of an earlier run.
    pub fn copy(
        &mut self,
        other: &Collector,
        counts: &Counts,
        is_wanted: impl Fn(&ContainerEntry) -> bool,
    ) {
        let mut path = Vec::new();
        for container in other.containers.snapshots(counts) {
            if !is_wanted(&container.entry) {
                continue;
            }
            let place = self.containers.resume(&container.entry);
            for id in container.files.iter() {
                other.containers.tree().path(id, &mut path);
                let usage = container.files.usages().get(id).unwrap_or_default();
                self.containers.add_file(place, &path, usage, NO_KEY);
            }
        }
    }

    /// Notes the features that the programs do not have on this kernel.
    pub fn set_unable(&mut self, features: Vec<Feature>) {
        self.unable = features;
    }

    /// Notes how many processes outlived the command that was traced.
    pub fn set_left_running(&mut self, processes: u64) {
        self.left_running = processes;
    }

    /// Notes that the counts are older than the last accesses.
    pub fn set_uncounted(&mut self) {
        self.is_uncounted = true;
    }

    /// Takes one record, as its bytes were in the ring buffer.
    pub fn record(&mut self, bytes: &[u8]) {
        let record = Record::decode(bytes);
        let Some(record) = record.filter(|record| (record.row as usize) < ROWS) else {
            return self.tally.malformed();
        };
        if record.has(RECORD_CGROUP_REMOVED) {
            self.remove_cgroup(record.container);
        } else if record.has(RECORD_CGROUP_CREATED) {
            self.enter(&record);
        } else if record.has(RECORD_PENDING) {
            self.requests.push(record.key, bytes);
        } else if record.has(RECORD_COMPLETE) {
            self.complete(&record);
        } else {
            self.tally.received(record.row);
            self.access(&record);
        }
    }

    /// Takes the result of an io_uring request. The record of the request itself arrived earlier.
    fn complete(&mut self, result: &Record) {
        let request = self.requests.take(result.key);
        if result.result < 0 {
            return;
        }
        self.tally.received(result.row);
        if let Some(bytes) = request {
            let mut request = Record::decode(&bytes).expect("it was decoded before it was kept");
            if result.kinds != 0 {
                request.kinds = result.kinds;
            }
            self.access(&request);
        }
    }

    fn remove_cgroup(&mut self, id: u64) {
        if let Some(container) = self.containers.find_mut(id) {
            container.ended = true;
            self.is_changed = true;
        }
        self.release.push(id);
    }

    /// Returns the place of the container that an unknown cgroup belongs to.
    fn enter(&mut self, record: &Record) -> Place {
        let mut path = Vec::new();
        path_from_leaf(record.cgroup, &mut path);
        self.is_changed = true;
        self.containers.enter(record.container, path)
    }

    /// Looks up the names of the containers that have appeared since the last call. A container with the name of one
    /// that has ended continues that one.
    pub fn name_containers(&mut self, name_of: impl Fn(&Cgroup) -> Option<String>) {
        self.containers.resolve_names(name_of);
    }

    /// Notes the name and the pod of the container in a cgroup.
    pub fn describe(&mut self, cgroup: u64, name: Option<String>, pod: Option<PodEntry>) {
        self.containers.describe(cgroup, name, pod);
    }

    /// Merges the containers that ended longest ago while there are more of them than `most`.
    pub fn merge_gone(&mut self, most: usize) {
        self.containers.merge_gone(most);
    }

    /// Takes over the number of accesses that the programs counted for a removed cgroup.
    pub fn released(&mut self, cgroup: u64, events: u64) {
        if let Some(container) = self.containers.find_mut(cgroup) {
            container.past_events += events;
        }
    }

    fn access(&mut self, record: &Record) {
        let known = self.containers.place_of(record.container);
        let place = known.unwrap_or_else(|| self.enter(record));
        let container = self.containers.get_mut(place);
        self.is_changed |= container.count(record.has(RECORD_LATE));
        let is_unresolved = self.paths.take(record, &resolve);
        self.log_access(record);
        if record.has(RECORD_OTHER_ROOT) {
            return self.tally.ended_as(Fate::OtherRoot);
        }
        // The root is taken out of the container while the container is changed.
        let root = self.containers.get_mut(place).root.take();
        let root = root.unwrap_or_else(|| self.paths.root().into());
        let point = self.paths.mount();
        // What one process mounts in a namespace of its own must not hide files of the others.
        let may_hide = is_pseudo(record.fs) && record.has(RECORD_OTHER_MNTNS);
        let point = point.filter(|_| !may_hide);
        if let Some(point) = point.and_then(|point| mount_seen_from(&root, point)) {
            let container = self.containers.get_mut(place);
            container.mounts.note(point, record.fs);
        }
        let fate = self.add_paths(place, &root, record);
        if fate == Fate::New {
            self.quiet.new_file();
        }
        self.containers.get_mut(place).root = Some(root);
        self.tally.ended_as(match is_unresolved {
            true => Fate::Unresolved,
            false => fate,
        });
    }

    fn log_access(&self, record: &Record) {
        if log::is_on(Level::Debug) {
            log::debug(format_args!(
                "process {}: {} requested {:?} real {:?}",
                record.pid,
                syscalls::name_of(record.row),
                self.paths.requested().map(String::from_utf8_lossy),
                self.paths.real().map(String::from_utf8_lossy),
            ));
        }
    }

    /// Adds the paths of an access to the files of a container whose root directory is `root`.
    fn add_paths(&mut self, place: Place, root: &[u8], record: &Record) -> Fate {
        let mut fate = Fate::Excluded;
        // For a file that was opened, the record itself names the file system.
        let real = self.paths.real().filter(|_| !is_pseudo(record.fs));
        let kinds = Kinds::from_bits(record.kinds);
        let crossed = self.paths.crossed().map(|path| (path, Kinds::LOOKED_AT));
        // A symlink to a pseudo file system belongs to the container, unlike the name of the file itself.
        let requested = self.paths.requested();
        let requested = requested.filter(|path| real.is_some() || self.paths.real() != Some(*path));
        let named = crossed.chain(requested.map(|path| (path, kinds)));
        let named = named.map(|(path, kinds)| (path, kinds, true));
        let time = self.clock.wall(record.time);
        for (path, kinds, may_be_pseudo) in named.chain(real.map(|path| (path, kinds, false))) {
            // A file outside the container's root directory has no path in the container.
            let Some(path) = seen_from(root, path) else {
                continue;
            };
            let container = self.containers.get_mut(place);
            if may_be_pseudo && container.mounts.is_pseudo(path) || self.excludes.matches(path) {
                continue;
            }
            let usage = container.usage(kinds, time);
            let added = self
                .containers
                .add_file(place, path, usage, record.key as u32);
            self.is_changed |= added == Added::NewKind;
            match added {
                Added::New | Added::Evicting => fate = Fate::New,
                Added::Known | Added::NewKind if fate == Fate::Excluded => fate = Fate::Known,
                Added::Known | Added::NewKind => (),
            }
        }
        self.is_changed |= fate == Fate::New;
        fate
    }

    /// Returns whether a file was added, or something else changed, since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Notes that the changes could not be written after [`Collector::take_changed`] was called.
    pub fn set_changed(&mut self) {
        self.is_changed = true;
    }

    /// Returns the orders for the programs that have come up since the last call.
    pub fn take_orders(&mut self) -> Orders {
        Orders {
            release: std::mem::take(&mut self.release),
            forget: self.containers.take_forget(),
            exclude: Vec::new(),
        }
    }

    /// Returns the containers that the report lists.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.listed()
    }

    /// Returns whether no container runs.
    pub fn is_idle(&self) -> bool {
        self.containers.are_gone()
    }

    /// Notes that processes were already running in these cgroups when tracing began.
    pub fn mark_late(&mut self, cgroups: &[Cgroup]) {
        self.containers.mark_late(cgroups);
    }

    /// Returns the number of files in the report. A file that several containers used counts once.
    pub fn files(&self) -> usize {
        self.containers.files()
    }

    /// Returns the number of accesses of one row of the syscall table, whatever became of them. The sum over all rows is
    /// [`Totals::total`] without the malformed records.
    pub fn accesses_of(&self, row: u16, counts: &Counts) -> u64 {
        self.tally.accesses_of(row, counts)
    }

    /// Returns the number of records that were taken.
    pub fn records(&self) -> u64 {
        self.tally.records()
    }

    /// Returns the number of malformed records. None is expected.
    pub fn malformed(&self) -> u64 {
        self.tally.malformed_records()
    }

    /// Takes the counts of the programs, which were just read.
    pub fn counted(&mut self, counts: &Counts) {
        let total = self.totals(counts).total;
        self.quiet.counted(total);
    }

    /// Returns when a file was used that had not been used before.
    pub fn last_new_file_at(&self) -> Option<SystemTime> {
        self.containers()
            .filter_map(Container::last_new_file_at)
            .max()
    }

    /// Adds up the counts of the programs and the fates of their records in this run.
    pub fn totals(&self, counts: &Counts) -> Totals {
        self.tally.totals(counts, self.containers.evicted())
    }

    /// Returns everything that the report lacks, including what earlier runs lost.
    pub fn gaps(&self, counts: &Counts) -> Gaps {
        let mut gaps = Gaps::default();
        for (gap, n) in self.tally.lost(counts) {
            gaps.set(gap, n);
        }
        self.containers.add_gaps(&mut gaps, counts);
        for feature in &self.unable {
            gaps.set(Gap::of(*feature), 1);
        }
        gaps.set(Gap::NotWatched, self.not_watched);
        gaps.set(Gap::LeftRunning, self.left_running);
        gaps.set(Gap::Counters, u64::from(self.is_uncounted));
        gaps.after(&self.earlier.gaps)
    }

    /// Returns the content of a report at this moment.
    pub fn snapshot<'a>(
        &'a self,
        metadata: &'a Metadata,
        hooks: &'static str,
        started_at: &'a str,
        counts: &Counts,
    ) -> Snapshot<'a> {
        let now = self.totals(counts);
        let since_new_file = self.quiet.events(now.total);
        let now = ReportTotals {
            total: now.total,
            dropped: now.dropped,
            evicted: now.evicted,
        };
        let updated_at = SystemTime::now();
        let an_hour_ago = updated_at.checked_sub(HOUR).unwrap_or(UNIX_EPOCH);
        let new_files = self.containers().map(|c| c.new_files_since(an_hour_ago));
        let gaps = self.gaps(counts);
        let missing = gaps.iter().filter(|(_, n)| *n > 0);
        Snapshot {
            metadata,
            hooks,
            started_at,
            updated_at,
            novelty: Novelty {
                last_new_file_at: self.last_new_file_at(),
                new_files_last_hour: new_files.sum::<usize>() as u64,
                events_since_new_file: since_new_file,
            },
            containers: self.containers.snapshots(counts),
            tree: self.containers.tree(),
            totals: now.plus(self.earlier.totals),
            missing: missing.map(|(gap, n)| (gap.name(), n)).collect(),
        }
    }
}

/// Returns a mount point as it looks to a process whose root directory is `root`. A mount point above `root` becomes
/// `/`.
fn mount_seen_from<'a>(root: &[u8], point: &'a [u8]) -> Option<&'a [u8]> {
    if is_below(root, point) {
        return Some(b"/");
    }
    seen_from(root, point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::wire::{KIND_EXECUTED, KIND_MAPPED, KIND_READ};
    use crate::bpf::wire::{RECORD_HAS_BASE, RECORD_HAS_REAL};
    use crate::collect::sample::{CLOCK, NOTHING, encode};
    use crate::report::golden::{self, Sample};
    use crate::report::schema::field;
    use serde_json::{Value, json};
    use std::fs::File;

    fn collector() -> Collector {
        Collector::new(Vec::new(), Excludes::parse(b"/tmp/"), 0, CLOCK)
    }

    fn take(collector: &mut Collector, records: &[Record]) {
        for record in records {
            collector.record(&encode(record));
        }
    }

    fn access(requested: &[u8]) -> Record<'_> {
        Record {
            requested,
            cgroup: b"app/above",
            ..NOTHING
        }
    }

    fn written(collector: &Collector, metadata: &Metadata) -> Value {
        let counts = Counts::default();
        let snapshot = collector.snapshot(metadata, "syscall", golden::STARTED_AT, &counts);
        let mut report = Vec::new();
        snapshot.write(&mut report).unwrap();
        serde_json::from_slice(&report).unwrap()
    }

    fn files(collector: &Collector) -> Value {
        written(collector, &Metadata::default())[field::FILES].clone()
    }

    #[test]
    fn a_cgroup_that_is_created_again_is_one_container() {
        let mut collector = collector();
        take(
            &mut collector,
            &[
                access(b"/file"),
                Record {
                    flags: RECORD_CGROUP_REMOVED,
                    ..access(b"")
                },
            ],
        );
        assert!(collector.containers().all(|c| c.ended));
        take(
            &mut collector,
            &[
                Record {
                    flags: RECORD_CGROUP_CREATED,
                    container: 2,
                    ..access(b"")
                },
                Record {
                    container: 2,
                    ..access(b"/file")
                },
            ],
        );
        let [again] = collector.containers().collect::<Vec<_>>()[..] else {
            panic!("there is another container");
        };
        assert_eq!((again.cgroup.id, again.ended), (2, false));
        assert_eq!(again.files.len(), 1);
    }

    /// The programs must release a container that has ended, even if the collector never knew it.
    #[test]
    fn a_container_without_accesses_is_released() {
        let mut collector = collector();
        let removed = Record {
            flags: RECORD_CGROUP_REMOVED,
            container: 2,
            ..NOTHING
        };
        take(&mut collector, &[removed]);
        assert_eq!(collector.take_orders().release, [2]);
    }

    #[test]
    fn an_access_that_adds_a_file_is_new_and_then_known() {
        let mut collector = collector();
        assert!(collector.take_changed() && !collector.take_changed());
        take(&mut collector, &[access(b"/a")]);
        assert!(collector.take_changed());
        take(&mut collector, &[access(b"/a"), access(b"/tmp/x")]);
        assert!(!collector.take_changed());
        let totals = collector.totals(&Counts::default());
        let counted = [totals.processed, totals.duplicate, totals.excluded];
        assert_eq!(counted, [1, 1, 1]);
    }

    /// Returns the members of the first container that tell how its files were used.
    fn usages(collector: &Collector) -> [Value; 3] {
        let report = written(collector, &Metadata::default());
        let container = &report[field::CONTAINERS][0];
        [field::FILES, field::KINDS, field::FIRST_USE_MS].map(|name| container[name].clone())
    }

    #[test]
    fn files_are_listed_with_their_kinds_and_the_times_of_their_first_uses() {
        let mut collector = collector();
        let at = |ms: u64, kinds: u8, requested: &'static [u8]| Record {
            time: CLOCK.monotonic + ms * 1_000_000,
            kinds,
            ..access(requested)
        };
        let link = Record {
            real: b"z/etc/",
            mount: b"",
            flags: RECORD_HAS_REAL,
            ..at(12, KIND_EXECUTED, b"/a/../link")
        };
        take(&mut collector, &[at(5, KIND_READ, b"/first"), link]);
        assert!(collector.take_changed());
        // A known file that is used in another way changes the report, and adds no file.
        take(&mut collector, &[at(90, KIND_READ, b"/first")]);
        assert!(!collector.take_changed());
        take(&mut collector, &[at(91, KIND_MAPPED, b"/first")]);
        assert!(collector.take_changed());
        let totals = collector.totals(&Counts::default());
        assert_eq!((totals.processed, totals.duplicate), (2, 2));
        let expected = [
            json!(["/a", "/etc/z", "/first", "/link"]),
            json!(["l", "x", "rm", "x"]),
            json!([7.0, 7.02, 0.01, 7.01]),
        ];
        assert_eq!(usages(&collector), expected);
        let last = collector.last_new_file_at().unwrap();
        assert_eq!(last, UNIX_EPOCH + Duration::from_micros(5_000 + 7_020));
    }

    #[test]
    fn a_file_that_the_command_inherits_was_read_at_the_start() {
        let mut collector = collector();
        let place = collector.containers.enter(1, b"/x".to_vec());
        collector.add_inherited(place, b"/in");
        assert_eq!(
            usages(&collector),
            [json!(["/in"]), json!(["r"]), json!([0.01])]
        );
    }

    #[test]
    fn an_excluded_name_of_a_file_elsewhere_does_not_hide_it() {
        let mut collector = collector();
        let link = Record {
            real: b"lib/usr/",
            mount: b"",
            flags: RECORD_HAS_REAL,
            ..access(b"/tmp/link")
        };
        take(&mut collector, &[link]);
        assert_eq!(files(&collector), json!(["/usr/lib"]));
        assert_eq!(collector.totals(&Counts::default()).processed, 1);
    }

    /// If the directory is unknown, the known paths of the access are listed all the same.
    #[test]
    fn an_access_without_a_directory_is_lost() {
        let mut collector = collector();
        let relative = Record {
            real: b"x/etc/",
            flags: RECORD_HAS_REAL,
            ..access(b"x")
        };
        take(&mut collector, &[relative]);
        assert_eq!(files(&collector), json!(["/etc/x"]));
        assert_eq!(collector.gaps(&Counts::default()).get(Gap::Unresolved), 1);
    }

    #[test]
    fn files_are_seen_from_the_root_of_the_first_process() {
        let mut collector = collector();
        let root = b"jail/";
        let jailed = Record {
            root,
            ..access(b"/in")
        };
        let outside = Record {
            root,
            base: b"home/",
            flags: RECORD_HAS_BASE,
            ..access(b"out")
        };
        take(&mut collector, &[jailed, outside]);
        assert_eq!(files(&collector), json!(["/in"]));
        assert_eq!(collector.totals(&Counts::default()).excluded, 1);
    }

    #[test]
    fn mount_points_are_seen_from_the_root() {
        assert_eq!(mount_seen_from(b"/jail", b"/"), Some(&b"/"[..]));
        assert_eq!(mount_seen_from(b"/jail", b"/jail"), Some(&b"/"[..]));
        assert_eq!(
            mount_seen_from(b"/jail", b"/jail/data"),
            Some(&b"/data"[..])
        );
        assert_eq!(mount_seen_from(b"/jail", b"/home"), None);
        assert_eq!(mount_seen_from(b"/", b"/home"), Some(&b"/home"[..]));
    }

    #[test]
    fn an_io_uring_request_counts_when_it_has_succeeded() {
        let mut collector = collector();
        let request = |key: u64, flags: u16, result: i32| Record {
            key,
            flags,
            result,
            ..access(b"/ring")
        };
        let failed = [
            request(1, RECORD_PENDING, 0),
            request(1, RECORD_COMPLETE, -2),
        ];
        take(&mut collector, &failed);
        assert_eq!((collector.files(), collector.records()), (0, 0));
        let succeeded = [
            request(2, RECORD_PENDING, 0),
            request(2, RECORD_COMPLETE, 7),
        ];
        take(&mut collector, &succeeded);
        assert_eq!((collector.files(), collector.records()), (1, 1));
    }

    #[test]
    fn a_row_that_is_not_in_the_table_is_malformed() {
        let mut collector = collector();
        let row = ROWS as u16;
        take(
            &mut collector,
            &[Record {
                row,
                ..access(b"/a")
            }],
        );
        assert_eq!((collector.malformed(), collector.files()), (1, 0));
    }

    /// A run in which nothing happens writes the resumed report again.
    #[test]
    fn a_resumed_report_is_written_unchanged() {
        let metadata = Sample::make().metadata;
        let mut file = File::open(golden::path("report.json")).unwrap();
        let earlier = PreviousReport::read(&mut file, &metadata, |_| true).unwrap();
        let mut collector = collector();
        let places = collector.resume(&earlier, None);
        let each = |at: usize, path: &[u8], usage| collector.add_file(places[at], path, usage);
        earlier.files(&mut file, each).unwrap();

        let text = fs::read_to_string(golden::path("report.json")).unwrap();
        let mut expected: Value = serde_json::from_str(&text).unwrap();
        let mut report = written(&collector, &metadata);
        expected[field::CONTAINERS][0][field::CGROUP_ID] = json!(0);
        for report in [&mut expected, &mut report] {
            report[field::LAST_UPDATED_AT] = Value::Null;
            report[field::NEW_FILES_LAST_HOUR] = Value::Null;
        }
        assert_eq!(report, expected);
    }

    #[test]
    fn files_that_are_now_excluded_are_not_resumed() {
        let mut collector = collector();
        let place = collector.containers.enter(1, b"/x".to_vec());
        collector.add_file(place, b"/tmp/old", Usage::default());
        collector.add_file(place, b"/a", Usage::default());
        assert_eq!(files(&collector), json!(["/a"]));
    }
}
