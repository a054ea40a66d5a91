//! A container: its cgroup, its name, and what it used.

use crate::bpf::counts::Counts;
use crate::cgroup::{Cgroup, short_name};
use crate::files::file_set::FileSet;
use crate::files::path_tree::PathTree;
use crate::path::is_below;
use crate::report::ContainerSnapshot;
use crate::report::schema::{ContainerEntry, encode_name};
use std::collections::BTreeMap;

pub struct Container {
    pub cgroup: Cgroup,
    /// What Kubernetes calls it, if that can be found out.
    pub name: Option<String>,
    /// Was its name looked for?
    pub is_named: bool,
    /// The root directory of its first process, where a container runtime made it by chroot(2) alone; else `/`. Its files
    /// are listed as seen from there.
    pub root: Option<Vec<u8>>,
    pub files: FileSet,
    pub mounts: Mounts,
    /// Its cgroup was removed.
    pub ended: bool,
    /// It ran before tracing began.
    pub late: bool,
    /// Of its former cgroups, whose counters are gone.
    pub past_events: u64,
    /// Of runs before this one.
    pub earlier_events: u64,
    /// Records of its accesses that arrived. It has more events than that, but for one that found no number in the
    /// programs.
    pub records: u64,
    /// As many others, which ended earlier, are told of together with it.
    pub merged: u64,
}

/// The programs of containers that only hold a pod's namespaces: of the pause image, of CRI-O, of Podman.
const PAUSE: [&[u8]; 3] = [b"/pause", b"/usr/bin/pod", b"/catatonit"];

impl Container {
    pub fn new(cgroup: Cgroup, capacity: usize) -> Container {
        Container {
            cgroup,
            name: None,
            is_named: false,
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

    /// Is there no cgroup of it, as far as is known? One of an earlier report may not have done anything yet.
    pub fn is_gone(&self) -> bool {
        self.ended || self.cgroup.id == 0
    }

    /// Takes over what another container used. Returns how many files were evicted for it.
    pub fn absorb(&mut self, other: Container, tree: &mut PathTree, forget: &mut Vec<u32>) -> u64 {
        // Each new member has to be decided about here.
        let Container {
            cgroup: _,
            name: _,
            is_named: _,
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
        for (point, fs) in &mounts.points {
            self.mounts.note(point, fs);
        }
        self.late |= late;
        self.past_events += past_events;
        self.earlier_events += earlier_events;
        self.records += records;
        self.merged += merged;
        self.files.absorb(tree, files, forget)
    }

    /// Does it only hold a pod's namespaces? Such a one is of no interest to anybody.
    pub fn is_pause(&self, tree: &PathTree) -> bool {
        let mut path = Vec::new();
        let mut is_one = |id| {
            tree.path(id, &mut path);
            PAUSE.contains(&&path[..])
        };
        (1..=PAUSE.len()).contains(&self.files.len()) && self.files.iter().all(&mut is_one)
    }

    pub fn events(&self, counts: &Counts) -> u64 {
        let counted = self.past_events + counts.events_of(self.cgroup.id);
        counted.max(self.records)
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
        let ContainerEntry {
            name,
            // Cgroups have new ids after the machine was started again.
            cgroup_id: _,
            cgroup_path: _,
            mounts,
            total_events,
            // The files are handed out one by one.
            unique_files: _,
            attached_late,
            ended,
            merged,
        } = earlier;
        self.name = (*name != self.short_name()).then(|| name.clone());
        self.is_named = !is_traced;
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

    /// Has anything happened in it, as far as records and earlier reports tell?
    pub fn was_seen(&self) -> bool {
        self.records > 0 || self.late || self.earlier_events > 0 || !self.files.is_empty()
    }
}

/// Mount points that files were seen on, and what is mounted there.
#[derive(Default)]
pub struct Mounts {
    points: BTreeMap<Vec<u8>, Vec<u8>>,
    /// One of them shows the kernel.
    any_pseudo: bool,
}

/// File systems that show the kernel, not files of an image.
pub const PSEUDO: [&[u8]; 16] = [
    b"binfmt_misc",
    b"bpf",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"debugfs",
    b"devpts",
    b"efivarfs",
    b"fusectl",
    b"mqueue",
    b"proc",
    b"pstore",
    b"securityfs",
    b"selinuxfs",
    b"sysfs",
    b"tracefs",
];

/// A container may mount as much as it likes, in a user namespace of its own: as many are noted, and none with a longer
/// name.
const POINTS_MAX: usize = 256;
const POINT_BYTES_MAX: usize = 256;

impl Mounts {
    /// Notes one; was it not known?
    pub fn note(&mut self, point: &[u8], fs: &[u8]) -> bool {
        let known = self.points.get(point);
        if point.len() > POINT_BYTES_MAX {
            return false;
        }
        if known.is_some_and(|known| known == fs)
            || known.is_none() && self.points.len() == POINTS_MAX
        {
            return false;
        }
        self.any_pseudo |= PSEUDO.contains(&fs);
        self.points.insert(point.into(), fs.into());
        true
    }

    /// Does the path lie on a pseudo file system, as far as is known?
    pub fn is_pseudo(&self, path: &[u8]) -> bool {
        if !self.any_pseudo {
            return false;
        }
        let around = self
            .points
            .iter()
            .filter(|(point, _)| is_below(path, point));
        around
            .max_by_key(|(point, _)| point.len())
            .is_some_and(|(_, fs)| PSEUDO.contains(&fs.as_slice()))
    }

    /// Those that hold files: mount point and type.
    pub fn of_files(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let all = self.points.iter().map(|(point, fs)| (&point[..], &fs[..]));
        all.filter(|(_, fs)| !PSEUDO.contains(fs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_bounded() {
        let mut mounts = Mounts::default();
        assert!(mounts.note(b"/proc", b"proc") && mounts.note(b"/data", b"ext4"));
        assert!(!mounts.note(b"/data", b"ext4"));
        for i in 0..10_000 {
            mounts.note(format!("/m/{i}").as_bytes(), b"tmpfs");
        }
        assert_eq!(mounts.points.len(), POINTS_MAX);
        // Of one that is known the file system may change.
        assert!(mounts.note(b"/data", b"proc") && mounts.is_pseudo(b"/data/1"));
        assert!(mounts.is_pseudo(b"/proc") && !mounts.is_pseudo(b"/process"));
    }
}
