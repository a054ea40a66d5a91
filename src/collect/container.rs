// SPDX-License-Identifier: MIT OR Apache-2.0
//! A container: its cgroup, its name, and the files that it used.

use crate::bpf::counts::Counts;
use crate::cgroup::{Cgroup, short_name};
use crate::collect::mounts::Mounts;
use crate::files::file_set::FileSet;
use crate::files::kinds::Kinds;
use crate::files::path_tree::PathTree;
use crate::files::usage::{TICK, Usage};
use crate::report::ContainerSnapshot;
use crate::report::schema::{ContainerEntry, PodEntry, encode_name};
use std::time::{Duration, SystemTime};

pub struct Container {
    pub(super) cgroup: Cgroup,
    /// Its name in Kubernetes, if that is known.
    pub(super) name: Option<String>,
    /// Its pod, on a node with many.
    pub(super) pod: Option<PodEntry>,
    /// Whether its name has been looked up.
    pub(super) is_name_resolved: bool,
    /// The root directory of its first process if a container runtime set it by chroot(2) alone, otherwise `/`. The
    /// report lists the container's files as seen from there.
    pub(super) root: Option<Vec<u8>>,
    /// When it made its first access.
    started_at: Option<SystemTime>,
    pub(super) files: FileSet,
    pub(super) mounts: Mounts,
    /// Whether its cgroup was removed.
    pub(super) ended: bool,
    /// Whether it was already running when tracing began.
    pub(super) late: bool,
    /// The accesses in its former cgroups, whose counters no longer exist.
    pub(super) past_events: u64,
    /// The accesses in earlier runs of snoop.
    earlier_events: u64,
    /// The records of its accesses that have arrived. It has made at least as many accesses. The programs count those,
    /// unless they ran out of numbers for containers.
    records: u64,
    /// The number of containers that ended earlier and are merged into this one.
    pub(super) merged: u64,
}

/// The programs of containers that only hold a pod's namespaces: those of the pause image, CRI-O and Podman.
const PAUSE: [&[u8]; 3] = [b"/pause", b"/usr/bin/pod", b"/catatonit"];

impl Container {
    pub fn new(cgroup: Cgroup, capacity: usize) -> Container {
        Container {
            cgroup,
            name: None,
            pod: None,
            is_name_resolved: false,
            root: None,
            started_at: None,
            files: FileSet::new(capacity),
            mounts: Mounts::default(),
            ended: false,
            late: false,
            past_events: 0,
            earlier_events: 0,
            records: 0,
            merged: 0,
        }
    }

    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Returns its pod, if it is one of many on a node.
    pub fn pod(&self) -> Option<&PodEntry> {
        self.pod.as_ref()
    }

    /// Returns its name in Kubernetes, or else its cgroup's.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.short_name())
    }

    pub fn files(&self) -> &FileSet {
        &self.files
    }

    /// Returns whether the container has no known cgroup. It has ended, or it is from an earlier report and has not
    /// been active since.
    pub fn is_gone(&self) -> bool {
        self.ended || self.cgroup.id == 0
    }

    /// Notes that the container has a new cgroup, in which something has happened.
    pub fn begin_again(&mut self, cgroup: u64) {
        if self.ended {
            // snoop has seen the new life of the container from its first process.
            self.late = false;
            self.root = None;
        }
        self.cgroup.id = cgroup;
        self.ended = false;
    }

    /// Returns how the file of an access at that time is used, as the set of files stores it. The container starts with its first
    /// access.
    pub fn usage(&mut self, kinds: Kinds, time: SystemTime) -> Usage {
        let start = *self.started_at.get_or_insert(time);
        let since = time.duration_since(start).unwrap_or_default();
        let ticks = u64::try_from(since.as_nanos() / u128::from(TICK)).unwrap_or(u64::MAX);
        Usage {
            kinds,
            first: Some(self.files.usages().moment(ticks)),
        }
    }

    /// Returns the point in time of a file's first use.
    fn point(&self, first: u64) -> Option<SystemTime> {
        self.started_at?
            .checked_add(Duration::from_nanos(first.saturating_mul(TICK)))
    }

    /// Returns when a file was used that had not been used before.
    pub fn last_new_file_at(&self) -> Option<SystemTime> {
        self.files.usages().last().and_then(|last| self.point(last))
    }

    /// Returns how many of its files were used first since that point in time.
    pub fn new_files_since(&self, since: SystemTime) -> usize {
        let is_new = |id| {
            let first = self.files.usages().get(id).and_then(|usage| usage.first);
            let at = first.and_then(|first| self.point(first));
            at.is_some_and(|at| at >= since)
        };
        self.files.iter().filter(|id| is_new(*id)).count()
    }

    /// Counts the record of an access. Returns whether it is the first record to show that the container was already
    /// running when tracing began.
    pub fn count(&mut self, is_late: bool) -> bool {
        self.records += 1;
        let is_news = is_late && !self.late;
        self.late |= is_late;
        is_news
    }

    /// Takes over the files and counts of another container. Returns how many files were evicted to make room.
    pub fn absorb(&mut self, other: Container, tree: &mut PathTree, forget: &mut Vec<u32>) -> u64 {
        // There is no `..`, so that whoever adds a member has to decide what becomes of it here.
        let Container {
            cgroup: _,
            name: _,
            pod: _,
            is_name_resolved: _,
            root: _,
            // The times of its files stay those since its own start.
            started_at,
            files,
            mounts,
            ended: _,
            late,
            past_events,
            earlier_events,
            records,
            merged,
        } = other;
        self.started_at = self.started_at.or(started_at);
        self.mounts.absorb(mounts);
        self.late |= late;
        self.past_events += past_events;
        self.earlier_events += earlier_events;
        self.records += records;
        self.merged += merged;
        self.files.absorb(tree, files, forget)
    }

    /// Returns whether the container only holds a pod's namespaces. The report does not list such containers.
    pub fn is_pause(&self, tree: &PathTree) -> bool {
        let count = self.files.len();
        if count == 0 || count > PAUSE.len() {
            return false;
        }
        let mut path = Vec::new();
        self.files.iter().all(|id| {
            tree.path(id, &mut path);
            PAUSE.contains(&&path[..])
        })
    }

    /// Returns the number of accesses that the container has made in this run.
    pub fn events(&self, counts: &Counts) -> u64 {
        let counted = self.past_events + counts.events_of(self.cgroup.id);
        counted.max(self.records)
    }

    /// Returns whether records or earlier reports show that anything has happened in the container.
    pub fn was_seen(&self) -> bool {
        self.records > 0 || self.late || self.earlier_events > 0 || !self.files.is_empty()
    }

    /// Returns the entry of the container for the report.
    pub fn snapshot(&self, counts: &Counts) -> ContainerSnapshot<'_> {
        let bytes = |(point, fs): (&[u8], &[u8])| (point.to_vec(), fs.to_vec());
        ContainerSnapshot {
            entry: ContainerEntry {
                name: self.name(),
                pod: self.pod.clone(),
                cgroup_id: self.cgroup.id,
                cgroup_path: self.cgroup.path.clone(),
                mounts: self.mounts.of_files().map(bytes).collect(),
                total_events: self.events(counts) + self.earlier_events,
                unique_files: self.files.len() as u64,
                started_at: self.started_at,
                last_new_file_at: self.last_new_file_at(),
                attached_late: self.late,
                ended: self.ended,
                merged: self.merged,
            },
            files: &self.files,
        }
    }

    /// Takes over the container's entry in an earlier report. `is_traced` says whether its cgroup is traced now.
    pub fn resume(&mut self, earlier: &ContainerEntry, is_traced: bool) {
        // There is no `..`, so that whoever adds a field has to decide what becomes of it here.
        let ContainerEntry {
            name,
            pod,
            // Cgroups get new ids when the machine is restarted.
            cgroup_id: _,
            cgroup_path: _,
            mounts,
            total_events,
            // The files are added one by one later.
            unique_files: _,
            started_at,
            // It follows from the files.
            last_new_file_at: _,
            attached_late,
            ended,
            merged,
        } = earlier;
        self.name = (*name != self.short_name()).then(|| name.clone());
        self.pod = self.pod.take().or(pod.clone());
        self.is_name_resolved = !is_traced;
        self.started_at = self.started_at.or(*started_at);
        self.late |= attached_late;
        self.ended = *ended && !is_traced;
        self.earlier_events += total_events;
        self.merged += merged;
        for (point, fs) in mounts {
            self.mounts.note(point, fs);
        }
    }

    fn short_name(&self) -> String {
        encode_name(short_name(self.cgroup.name())).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::file_set::NO_KEY;
    use std::time::UNIX_EPOCH;

    fn container(path: &str) -> Container {
        let path = path.into();
        Container::new(Cgroup { id: 7, path }, 0)
    }

    fn entry() -> ContainerEntry {
        ContainerEntry {
            name: "web".into(),
            pod: None,
            cgroup_id: 0,
            cgroup_path: b"/web.service".to_vec(),
            mounts: vec![(b"/data".to_vec(), b"ext4".to_vec())],
            total_events: 5,
            unique_files: 0,
            started_at: Some(UNIX_EPOCH + Duration::from_secs(9)),
            last_new_file_at: None,
            attached_late: true,
            ended: true,
            merged: 2,
        }
    }

    fn resumed(entry: &ContainerEntry, is_traced: bool) -> ContainerEntry {
        let mut container = container("/web.service");
        container.cgroup.id = 0;
        container.resume(entry, is_traced);
        container.snapshot(&Counts::default()).entry
    }

    /// The entry of a container that has ended is the same in the next report.
    #[test]
    fn a_container_that_has_ended_is_kept_unchanged() {
        assert_eq!(resumed(&entry(), false), entry());
    }

    #[test]
    fn a_container_whose_cgroup_is_traced_has_not_ended() {
        let traced = ContainerEntry {
            ended: false,
            ..entry()
        };
        assert_eq!(resumed(&entry(), true), traced);
    }

    /// The short name follows from the path, and a Kubernetes name may still be found.
    #[test]
    fn a_short_name_is_not_resumed() {
        let short = ContainerEntry {
            name: "web.service".into(),
            ..entry()
        };
        let mut container = container("/web.service");
        container.resume(&short, false);
        assert_eq!(container.name, None);
    }

    /// Each count and flag of the absorbed container is found again.
    #[test]
    fn nothing_of_an_absorbed_container_is_lost() {
        let (mut one, mut other) = (container("/a"), container("/b"));
        let (mut tree, mut forget) = (PathTree::default(), Vec::new());
        let usage = Usage::default();
        one.files.add(&mut tree, b"/x", usage, NO_KEY, &mut forget);
        other
            .files
            .add(&mut tree, b"/y", usage, NO_KEY, &mut forget);
        other.resume(&entry(), true);
        other.past_events = 10;
        assert_eq!(one.absorb(other, &mut tree, &mut forget), 0);
        let expected = ContainerEntry {
            name: "a".into(),
            cgroup_id: 7,
            cgroup_path: b"/a".to_vec(),
            total_events: 15,
            unique_files: 2,
            ended: false,
            ..entry()
        };
        assert_eq!(one.snapshot(&Counts::default()).entry, expected);
    }

    #[test]
    fn there_are_at_least_as_many_accesses_as_records() {
        let mut container = container("/a");
        assert!(!container.was_seen());
        assert!(!container.count(false) && container.was_seen());
        assert!(container.count(true) && !container.count(true));
        assert_eq!(container.events(&Counts::default()), 3);
    }
}
