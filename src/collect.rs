//! What the containers used: records become files of their containers, and are counted.

pub mod access_paths;
pub mod container;
pub mod gaps;
mod io_uring;
#[cfg(test)]
pub mod sample;

use crate::bpf::counts::Counts;
use crate::bpf::features::Feature;
use crate::bpf::syscalls;
use crate::bpf::wire::{
    Outcome, RECORD_CGROUP_CREATED, RECORD_CGROUP_REMOVED, RECORD_COMPLETE, RECORD_LATE,
    RECORD_PENDING, ROWS, Record,
};
use crate::cgroup::Cgroup;
use crate::collect::access_paths::AccessPaths;
use crate::collect::container::{Container, PSEUDO};
use crate::collect::gaps::{Gap, Gaps};
use crate::collect::io_uring::Requests;
use crate::files::file_set::{Added, FileSet, NO_KEY};
use crate::files::path_tree::PathTree;
use crate::log::{self, Level};
use crate::path::{Excludes, is_below, path_from_leaf, seen_from};
use crate::report::Snapshot;
use crate::report::metadata::Metadata;
use crate::report::previous::PreviousReport;
use crate::report::schema::ReportTotals;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::SystemTime;

/// Containers without a cgroup that are told of one by one.
const GONE_MAX: usize = 64;

pub struct Collector {
    containers: Vec<Container>,
    /// The files of all of them.
    tree: PathTree,
    /// Of the record at hand.
    named: AccessPaths,
    requests: Requests,
    /// Of each container's set of files.
    capacity: usize,
    excludes: Excludes,
    /// What the programs cannot do on this kernel.
    unable: Vec<Feature>,
    /// The programs' counters could not be read.
    uncounted: bool,
    /// Records of each row of the syscall table.
    received: Vec<u64>,
    processed: u64,
    duplicate: u64,
    excluded: u64,
    unresolved: u64,
    malformed: u64,
    evicted: u64,
    /// What runs before this one counted, and what their report lacks.
    earlier: ReportTotals,
    earlier_gaps: Gaps,
    /// Something was added since [`Collector::take_changed`].
    changed: bool,
    /// What the programs are to be told: see [`Collector::take_orders`].
    orders: Orders,
}

#[derive(Default)]
pub struct Orders {
    /// Ids of containers that ended.
    pub release: Vec<u64>,
    /// Keys of accesses to files that were evicted: their lower halves.
    pub forget: Vec<u32>,
}

/// Where a directory's name leads to, in snoop's own view of the files. A confined snoop does not see them.
fn resolve(directory: &[u8]) -> Option<Vec<u8>> {
    let real = fs::canonicalize(OsStr::from_bytes(directory)).ok()?;
    Some(real.into_os_string().into_vec())
}

fn path_of(cgroup: &[u8]) -> Vec<u8> {
    let mut path = Vec::new();
    path_from_leaf(cgroup, &mut path);
    path
}

/// Where the events went. `total` is the sum of the five that follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub total: u64,
    pub processed: u64,
    pub duplicate: u64,
    pub excluded: u64,
    pub failed: u64,
    pub dropped: u64,
    pub evicted: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{} accesses: {} new, {} known, {} excluded, {} failed, {} lost",
            self.total, self.processed, self.duplicate, self.excluded, self.failed, self.dropped
        )
    }
}

impl Collector {
    /// `capacity` is that of each container's set of files; 0 is unbounded.
    pub fn new(cgroups: Vec<Cgroup>, excludes: Excludes, capacity: usize) -> Collector {
        let container = |cgroup| Container::new(cgroup, capacity);
        Collector {
            containers: cgroups.into_iter().map(container).collect(),
            tree: PathTree::default(),
            named: AccessPaths::default(),
            requests: Requests::default(),
            capacity,
            excludes,
            unable: Vec::new(),
            uncounted: false,
            received: vec![0; ROWS],
            processed: 0,
            duplicate: 0,
            excluded: 0,
            unresolved: 0,
            malformed: 0,
            evicted: 0,
            earlier: ReportTotals::default(),
            earlier_gaps: Gaps::default(),
            changed: true,
            orders: Orders::default(),
        }
    }

    /// Goes on with an earlier report; answers which container is which of [`PreviousReport::containers`].
    pub fn resume(&mut self, earlier: &PreviousReport) -> Vec<usize> {
        self.earlier = earlier.totals;
        self.earlier_gaps = Gaps::from_report(&earlier.missing);
        let mut places = Vec::new();
        for container in &earlier.containers {
            let path = &container.cgroup_path;
            let known = self.containers.iter().position(|c| c.cgroup.path == *path);
            let at = known.unwrap_or_else(|| {
                self.add(0, path.clone());
                self.containers.len() - 1
            });
            self.containers[at].resume(container, known.is_some());
            places.push(at);
        }
        places
    }

    /// Adds a file of an earlier report.
    pub fn add_earlier(&mut self, at: usize, path: &[u8]) {
        if !self.excludes.matches(path) {
            let (tree, forget) = (&mut self.tree, &mut self.orders.forget);
            let added = self.containers[at].files.add(tree, path, NO_KEY, forget);
            self.evicted += u64::from(added == Added::Evicting);
        }
    }

    pub fn set_unable(&mut self, parts: Vec<Feature>) {
        self.unable = parts;
    }

    /// What the programs counted is older than what they did.
    pub fn set_uncounted(&mut self) {
        self.uncounted = true;
    }

    /// Takes one record as the ring buffer holds it.
    pub fn record(&mut self, bytes: &[u8]) {
        let event = Record::decode(bytes);
        let Some(event) = event.filter(|event| (event.row as usize) < ROWS) else {
            self.malformed += 1;
            return;
        };
        if event.has(RECORD_CGROUP_REMOVED | RECORD_CGROUP_CREATED) {
            return self.lifecycle(&event);
        }
        if event.has(RECORD_PENDING) {
            return self.requests.push(event.key, bytes);
        }
        let succeeded = event.result >= 0;
        if !event.has(RECORD_COMPLETE) {
            self.received[event.row as usize] += 1;
            return self.access(&event);
        }
        self.received[event.row as usize] += u64::from(succeeded);
        let request = self.requests.take(event.key);
        if let Some(bytes) = request.filter(|_| succeeded) {
            self.access(&Record::decode(&bytes).expect("it was one before"));
        }
    }

    /// A container's cgroup was removed, or one made where we expected it.
    fn lifecycle(&mut self, event: &Record) {
        if event.has(RECORD_CGROUP_REMOVED) {
            if let Some(container) = self.find(event.container) {
                container.ended = true;
                self.changed = true;
            }
            self.orders.release.push(event.container);
        } else {
            self.enter(event);
        }
    }

    /// The container of a cgroup that was not known; answers its place. It may be one that was here before.
    fn enter(&mut self, event: &Record) -> usize {
        let path = path_of(event.cgroup);
        let again = |c: &Container| c.is_gone() && path.ends_with(&c.cgroup.path);
        let at = self.containers.iter().position(again).unwrap_or_else(|| {
            self.add(event.container, path);
            self.containers.len() - 1
        });
        let container = &mut self.containers[at];
        if container.ended {
            // It was started again: from its first process on all of it is seen.
            container.late = false;
            container.root = None;
        }
        container.cgroup.id = event.container;
        container.ended = false;
        self.changed = true;
        at
    }

    /// Gives names to the containers that came since the last call. One with the name of a container that ended
    /// is that one again.
    pub fn name_containers(&mut self, name_of: impl Fn(&Cgroup) -> Option<String>) {
        while let Some(at) = self.containers.iter().position(|c| !c.is_named) {
            let container = &mut self.containers[at];
            container.is_named = true;
            container.name = name_of(&container.cgroup);
            let name = container.name.clone();
            let same = |c: &Container| c.is_gone() && name.is_some() && c.name == name;
            if let Some(before) = self.containers.iter().position(same) {
                let new = self.containers.remove(at);
                // Removing one may have moved the other.
                let old = &mut self.containers[before - usize::from(before > at)];
                (old.cgroup, old.ended) = (new.cgroup.clone(), new.ended);
                self.evicted += old.absorb(new, &mut self.tree, &mut self.orders.forget);
            }
        }
    }

    /// Makes one of the two that are gone for longest while there are many, or a pod whose container is restarted for
    /// ever would make the report grow.
    pub fn merge_gone(&mut self) {
        let mut gone = self.containers.iter().filter(|c| c.is_gone()).count();
        while gone > GONE_MAX {
            let is_gone = |c: &Container| c.is_gone();
            let first = self.containers.iter().position(is_gone).expect("many are");
            let older = self.containers.remove(first);
            let next = self.containers[first..].iter_mut().find(|c| c.is_gone());
            let next = next.expect("and one more");
            next.merged += 1;
            self.evicted += next.absorb(older, &mut self.tree, &mut self.orders.forget);
            gone -= 1;
        }
    }

    fn find(&mut self, cgroup: u64) -> Option<&mut Container> {
        self.containers.iter_mut().find(|c| c.cgroup.id == cgroup)
    }

    fn add(&mut self, id: u64, path: Vec<u8>) {
        let cgroup = Cgroup { id, path };
        self.containers.push(Container::new(cgroup, self.capacity));
    }

    /// Takes over the events that were counted for a cgroup which is gone.
    pub fn released(&mut self, cgroup: u64, events: u64) {
        if let Some(container) = self.find(cgroup) {
            container.past_events += events;
        }
    }

    fn access(&mut self, event: &Record) {
        let of = |c: &Container| c.cgroup.id == event.container;
        let known = self.containers.iter().position(of);
        let at = known.unwrap_or_else(|| self.enter(event));
        let container = &mut self.containers[at];
        container.records += 1;
        if event.has(RECORD_LATE) && !container.late {
            container.late = true;
            self.changed = true;
        }

        let is_unresolved = self.named.take(event, &resolve);
        let named = &self.named;
        if log::is_on(Level::Debug) {
            log::debug(format_args!(
                "process {}: {} asked {:?} real {:?}",
                event.pid,
                syscalls::name_of(event.row),
                named.asked().map(String::from_utf8_lossy),
                named.real().map(String::from_utf8_lossy),
            ));
        }
        let root = container.root.get_or_insert_with(|| named.root().into());
        let point = named.mount().map(|point| match is_below(root, point) {
            true => Some(&b"/"[..]),
            false => seen_from(root, point),
        });
        if let Some(point) = point.flatten() {
            // What was only looked at there, before the file system was known, has to go again.
            if container.mounts.note(point, event.fs) && PSEUDO.contains(&event.fs) {
                let mounts = &container.mounts;
                let keep = |path: &[u8]| !mounts.is_pseudo(path);
                container.files.retain(&mut self.tree, keep);
            }
        }
        let (mut added, mut wanted) = (false, false);
        for path in named.paths() {
            // What is outside of the container's root directory has no name in it.
            let Some(path) = seen_from(root, path) else {
                continue;
            };
            if self.excludes.matches(path) || container.mounts.is_pseudo(path) {
                continue;
            }
            wanted = true;
            let (tree, forget) = (&mut self.tree, &mut self.orders.forget);
            match container.files.add(tree, path, event.key as u32, forget) {
                Added::Known => (),
                Added::New => added = true,
                Added::Evicting => {
                    added = true;
                    self.evicted += 1;
                }
            }
        }
        self.changed |= added;
        if is_unresolved {
            self.unresolved += 1;
        } else if added {
            self.processed += 1;
        } else if wanted {
            self.duplicate += 1;
        } else {
            self.excluded += 1;
        }
    }

    /// Was a file added since the last call?
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What the programs are to be told since the last call.
    pub fn take_orders(&mut self) -> Orders {
        std::mem::take(&mut self.orders)
    }

    /// What was taken could not be written.
    pub fn set_changed(&mut self) {
        self.changed = true;
    }

    /// The containers to tell of.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        // A cgroup that was named may turn out to hold containers, and to be none itself.
        let is_around = |c: &Container| {
            let is_in = |other: &Container| {
                c.cgroup != other.cgroup && is_below(&other.cgroup.path, &c.cgroup.path)
            };
            !c.was_seen() && self.containers.iter().any(is_in)
        };
        let all = self.containers.iter();
        all.filter(move |c| !c.is_pause(&self.tree) && !is_around(c))
    }

    /// Notes that processes ran in these cgroups before the tracing began.
    pub fn mark_late(&mut self, cgroups: &[Cgroup]) {
        for cgroup in cgroups {
            if self.find(cgroup.id).is_none() {
                self.add(cgroup.id, cgroup.path.clone());
            }
            let container = self.find(cgroup.id).expect("it was added");
            container.late = true;
        }
    }

    /// Files of all containers together, as the report lists them: one that several used counts once.
    pub fn files(&self) -> usize {
        let sets: Vec<_> = self.containers().map(|c| &c.files).collect();
        FileSet::union_len(&sets)
    }

    /// Accesses of one row of the syscall table, whatever became of them. Over all rows this is
    /// [`Totals::total`], but for records that make no sense.
    pub fn accesses_of(&self, row: u16, counts: &Counts) -> u64 {
        let here: u64 = counts.of(row).iter().sum();
        self.received[row as usize] + here - counts.of(row)[Outcome::Submitted as usize]
    }

    /// Records that were taken.
    pub fn records(&self) -> u64 {
        self.received.iter().sum::<u64>() + self.malformed
    }

    /// Records that made no sense; not one is expected.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Adds up what the programs counted and what their records became.
    pub fn totals(&self, counts: &Counts) -> Totals {
        let lost = self.lost(counts).iter().map(|(_, n)| n).sum();
        let mut totals = Totals {
            total: 0,
            processed: self.processed,
            duplicate: self.duplicate + counts.sum(Outcome::Duplicate),
            excluded: self.excluded + counts.sum(Outcome::Excluded),
            failed: counts.sum(Outcome::Failed),
            dropped: lost,
            evicted: self.evicted,
        };
        totals.total =
            totals.processed + totals.duplicate + totals.excluded + totals.failed + totals.dropped;
        totals
    }

    /// Returns how many accesses happened and are not in the report, by reason.
    fn lost(&self, counts: &Counts) -> [(Gap, u64); 6] {
        [
            (Gap::BufferFull, counts.sum(Outcome::Full)),
            (Gap::Unreadable, counts.sum(Outcome::Unreadable)),
            (Gap::IoUring, counts.sum(Outcome::Untraced)),
            (Gap::TooLong, counts.sum(Outcome::TooLong)),
            (Gap::Unresolved, self.unresolved),
            (Gap::Malformed, self.malformed),
        ]
    }

    /// Returns all that the report lacks, those of earlier runs included.
    pub fn gaps(&self, counts: &Counts) -> Gaps {
        let mut gaps = Gaps::default();
        for (gap, n) in self.lost(counts) {
            gaps.set(gap, n);
        }
        let late = self.containers().filter(|c| c.late).count();
        let was_seen = |c: &Container| c.was_seen() || c.events(counts) > 0;
        gaps.set(Gap::Evicted, self.evicted);
        gaps.set(Gap::LateAttach, late as u64);
        gaps.set(
            Gap::NothingSeen,
            u64::from(!self.containers().any(was_seen)),
        );
        for feature in &self.unable {
            gaps.set(Gap::of(*feature), 1);
        }
        gaps.set(Gap::Counters, u64::from(self.uncounted));
        gaps.after(&self.earlier_gaps)
    }

    /// Returns everything that a report says at this moment.
    pub fn snapshot<'a>(
        &'a self,
        metadata: &'a Metadata,
        started_at: &'a str,
        counts: &Counts,
    ) -> Snapshot<'a> {
        let gaps = self.gaps(counts);
        let missing = gaps.iter().filter(|(_, n)| *n > 0);
        Snapshot {
            metadata,
            started_at,
            updated_at: SystemTime::now(),
            containers: self.containers().map(|c| c.snapshot(counts)).collect(),
            tree: &self.tree,
            totals: self.all_totals(counts),
            missing: missing.map(|(gap, n)| (gap.name(), n)).collect(),
        }
    }

    /// What the report counts: this run and those before it.
    fn all_totals(&self, counts: &Counts) -> ReportTotals {
        let now = self.totals(counts);
        let now = ReportTotals {
            total: now.total,
            dropped: now.dropped,
            evicted: now.evicted,
        };
        now.plus(self.earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An access in /above/app, or what happened to that cgroup.
    fn event(flags: u16, container: u64) -> Record<'static> {
        Record {
            container,
            key: 0,
            result: 0,
            pid: 1,
            row: 0,
            flags,
            asked: b"/file",
            base: b"",
            root: b"",
            real: b"",
            mount: b"",
            fs: b"",
            cgroup: b"app/above",
        }
    }

    #[test]
    fn a_cgroup_made_again_is_one_container() {
        let cgroup = Cgroup {
            id: 1,
            path: b"/above/app".to_vec(),
        };
        let mut collector = Collector::new(vec![cgroup], Excludes::default(), 0);
        collector.lifecycle(&event(RECORD_CGROUP_REMOVED, 1));
        assert!(collector.containers[0].ended);
        collector.lifecycle(&event(RECORD_CGROUP_CREATED, 2));
        collector.access(&event(0, 2));
        assert_eq!(collector.containers.len(), 1);
        let again = &collector.containers[0];
        assert_eq!(
            (again.cgroup.id, again.ended, again.files.len()),
            (2, false, 1)
        );
    }

    /// The programs let go of a container that ended, whether it was known or not.
    #[test]
    fn a_container_that_did_nothing_is_released() {
        let mut collector = Collector::new(Vec::new(), Excludes::default(), 0);
        collector.lifecycle(&event(RECORD_CGROUP_REMOVED, 2));
        assert_eq!(collector.take_orders().release, [2]);
    }

    #[test]
    fn of_many_that_are_gone_the_oldest_become_one() {
        let mut collector = Collector::new(Vec::new(), Excludes::default(), 0);
        for i in 0..1000u64 {
            collector.add(i + 1, format!("/pod/{i}").into_bytes());
            let container = collector.containers.last_mut().unwrap();
            let tree = &mut collector.tree;
            let names = [format!("/{}", i % 90), "/all".into()];
            for name in names {
                container
                    .files
                    .add(tree, name.as_bytes(), 0, &mut Vec::new());
            }
            (container.ended, container.past_events) = (i != 500, 1);
            collector.merge_gone();
        }
        assert_eq!(collector.containers.len(), GONE_MAX + 1);
        let alive = collector.containers.iter().find(|c| !c.ended).unwrap();
        assert_eq!((alive.cgroup.id, alive.merged), (501, 0));
        let oldest = &collector.containers[1];
        assert_eq!((oldest.merged, oldest.past_events), (935, 936));
        assert_eq!(oldest.files.len(), 91);
        let last = collector.containers.last().unwrap();
        assert_eq!(
            (last.cgroup.id, last.merged, last.files.len()),
            (1000, 0, 2)
        );
    }

    #[test]
    fn a_container_that_restarts_is_known_by_its_name() {
        let cgroup = |id: u64| Cgroup {
            id,
            path: format!("/pod/{id}").into_bytes(),
        };
        let web = |_: &Cgroup| Some("web".to_string());
        let mut collector = Collector::new(vec![cgroup(1)], Excludes::default(), 0);
        let add = |collector: &mut Collector, at: usize, path: &[u8]| {
            let files = &mut collector.containers[at].files;
            files.add(&mut collector.tree, path, 0, &mut Vec::new());
        };
        add(&mut collector, 0, b"/a");
        collector.name_containers(web);
        collector.containers[0].ended = true;
        collector.add(2, b"/pod/2".to_vec());
        add(&mut collector, 1, b"/b");
        collector.name_containers(web);
        let again = &collector.containers[0];
        assert_eq!(collector.containers.len(), 1);
        assert_eq!(
            (again.cgroup.id, again.files.len(), again.ended),
            (2, 2, false)
        );

        // Of another name, and of none, it is another one.
        collector.containers[0].ended = true;
        collector.add(3, b"/pod/3".to_vec());
        collector.name_containers(|_| Some("worker".into()));
        collector.add(4, b"/pod/4".to_vec());
        collector.name_containers(|_| None);
        assert_eq!(collector.containers.len(), 3);
    }
}
