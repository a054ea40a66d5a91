// SPDX-License-Identifier: MIT OR Apache-2.0
//! A container: its cgroup, its name, and what it used.

use crate::bpf::counts::Counts;
use crate::cgroup::{Cgroup, short_name};
use crate::collect::mounts::Mounts;
use crate::files::file_set::FileSet;
use crate::files::path_tree::PathTree;
use crate::report::ContainerSnapshot;
use crate::report::schema::{ContainerEntry, encode_name};

pub struct Container {
    pub(super) cgroup: Cgroup,
    /// What Kubernetes calls it, if that can be found out.
    pub(super) name: Option<String>,
    /// Was its name looked for?
    pub(super) is_name_resolved: bool,
    /// The root directory of its first process, where a container runtime made it by chroot(2) alone; else `/`. Its files
    /// are listed as seen from there.
    pub(super) root: Option<Vec<u8>>,
    pub(super) files: FileSet,
    pub(super) mounts: Mounts,
    /// Its cgroup was removed.
    pub(super) ended: bool,
    /// It ran before tracing began.
    pub(super) late: bool,
    /// Events of its former cgroups, whose counters are gone.
    pub(super) past_events: u64,
    /// Events of the runs before this one.
    earlier_events: u64,
    /// Records of its accesses that arrived. Its events are more than that, unless the programs had no number left to
    /// count them by.
    records: u64,
    /// How many containers that ended earlier are part of this one.
    pub(super) merged: u64,
}

/// The programs of containers that only hold a pod's namespaces: of the pause image, of CRI-O, of Podman.
const PAUSE: [&[u8]; 3] = [b"/pause", b"/usr/bin/pod", b"/catatonit"];

impl Container {
    pub fn new(cgroup: Cgroup, capacity: usize) -> Container {
        Container {
            cgroup,
            name: None,
            is_name_resolved: false,
            root: None,
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

    pub fn files(&self) -> &FileSet {
        &self.files
    }

    /// Is there no cgroup of it, as far as is known? One of an earlier report may not have done anything yet.
    pub fn is_gone(&self) -> bool {
        self.ended || self.cgroup.id == 0
    }

    /// Notes that it has a new cgroup, in which something happened.
    pub fn begin_again(&mut self, cgroup: u64) {
        if self.ended {
            // All of it is seen, from its first process on.
            self.late = false;
            self.root = None;
        }
        self.cgroup.id = cgroup;
        self.ended = false;
    }

    /// Counts the record of an access. Returns whether it is the first one that says that the container ran before
    /// tracing began.
    pub fn count(&mut self, is_late: bool) -> bool {
        self.records += 1;
        let is_news = is_late && !self.late;
        self.late |= is_late;
        is_news
    }

    /// Takes over what another container used. Returns how many files were evicted for it.
    pub fn absorb(&mut self, other: Container, tree: &mut PathTree, forget: &mut Vec<u32>) -> u64 {
        // Without `..`: whoever adds a member has to decide what becomes of it here.
        let Container {
            cgroup: _,
            name: _,
            is_name_resolved: _,
            root: _,
            files,
            mounts,
            ended: _,
            late,
            past_events,
            earlier_events,
            records,
            merged,
        } = other;
        self.mounts.absorb(mounts);
        self.late |= late;
        self.past_events += past_events;
        self.earlier_events += earlier_events;
        self.records += records;
        self.merged += merged;
        self.files.absorb(tree, files, forget)
    }

    /// Does it only hold a pod's namespaces? Nobody wants to see such a container.
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

    /// Returns how many accesses it made in this run.
    pub fn events(&self, counts: &Counts) -> u64 {
        let counted = self.past_events + counts.events_of(self.cgroup.id);
        counted.max(self.records)
    }

    /// Has anything happened in it, as far as records and earlier reports tell?
    pub fn was_seen(&self) -> bool {
        self.records > 0 || self.late || self.earlier_events > 0 || !self.files.is_empty()
    }

    /// Returns what a report says of it.
    pub fn snapshot(&self, counts: &Counts) -> ContainerSnapshot<'_> {
        let bytes = |(point, fs): (&[u8], &[u8])| (point.to_vec(), fs.to_vec());
        ContainerSnapshot {
            entry: ContainerEntry {
                name: self.name.clone().unwrap_or_else(|| self.short_name()),
                cgroup_id: self.cgroup.id,
                cgroup_path: self.cgroup.path.clone(),
                mounts: self.mounts.of_files().map(bytes).collect(),
                total_events: self.events(counts) + self.earlier_events,
                unique_files: self.files.len() as u64,
                attached_late: self.late,
                ended: self.ended,
                merged: self.merged,
            },
            files: &self.files,
        }
    }

    /// Takes over what an earlier report says of it. `is_traced` says whether its cgroup is traced now.
    pub fn resume(&mut self, earlier: &ContainerEntry, is_traced: bool) {
        // Without `..`: whoever adds a field has to decide what becomes of it here.
        let ContainerEntry {
            name,
            // Cgroups have new ids after the machine was started again.
            cgroup_id: _,
            cgroup_path: _,
            mounts,
            total_events,
            // The files come one by one.
            unique_files: _,
            attached_late,
            ended,
            merged,
        } = earlier;
        self.name = (*name != self.short_name()).then(|| name.clone());
        self.is_name_resolved = !is_traced;
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

    fn container(path: &str) -> Container {
        let path = path.into();
        Container::new(Cgroup { id: 7, path }, 0)
    }

    fn entry() -> ContainerEntry {
        ContainerEntry {
            name: "web".into(),
            cgroup_id: 0,
            cgroup_path: b"/web.service".to_vec(),
            mounts: vec![(b"/data".to_vec(), b"ext4".to_vec())],
            total_events: 5,
            unique_files: 0,
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

    /// What a report says of a container that is gone, the next report says too.
    #[test]
    fn a_container_that_is_gone_stays_as_it_was() {
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

    /// The short name follows from the path; Kubernetes may still tell a better one.
    #[test]
    fn a_short_name_is_not_taken_over() {
        let short = ContainerEntry {
            name: "web.service".into(),
            ..entry()
        };
        let mut container = container("/web.service");
        container.resume(&short, false);
        assert_eq!(container.name, None);
    }

    /// Each number and flag of the other one is found again.
    #[test]
    fn what_is_absorbed_is_not_lost() {
        let (mut one, mut other) = (container("/a"), container("/b"));
        let (mut tree, mut forget) = (PathTree::default(), Vec::new());
        one.files.add(&mut tree, b"/x", NO_KEY, &mut forget);
        other.files.add(&mut tree, b"/y", NO_KEY, &mut forget);
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
    fn events_are_at_least_the_records() {
        let mut container = container("/a");
        assert!(!container.was_seen());
        assert!(!container.count(false) && container.was_seen());
        assert!(container.count(true) && !container.count(true));
        assert_eq!(container.events(&Counts::default()), 3);
    }
}
