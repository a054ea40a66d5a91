// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mount points of a container on which files were used.

use crate::path::is_below;
use std::collections::BTreeMap;

/// The types of pseudo file systems, which show kernel data and never files of an image.
const PSEUDO: [&[u8]; 16] = [
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

/// The most mount points that are noted, and the most bytes of a mount point. There must be limits, because a container
/// can mount as much as it likes in a user namespace of its own.
const POINTS_MAX: usize = 256;
const POINT_BYTES_MAX: usize = 256;

/// Mount points, each with the type of the file system that is mounted there.
#[derive(Default)]
pub struct Mounts {
    points: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether one of them is a pseudo file system.
    any_pseudo: bool,
}

/// Returns whether this is the type of a pseudo file system.
pub fn is_pseudo(fs: &[u8]) -> bool {
    PSEUDO.contains(&fs)
}

impl Mounts {
    pub fn note(&mut self, point: &[u8], fs: &[u8]) {
        let known = self.points.get(point);
        let is_known = known.is_some_and(|known| known == fs);
        let is_full = known.is_none() && self.points.len() == POINTS_MAX;
        if is_known || is_full || point.len() > POINT_BYTES_MAX {
            return;
        }
        self.points.insert(point.into(), fs.into());
        self.any_pseudo |= is_pseudo(fs);
    }

    /// Takes over the mount points of another container.
    pub fn absorb(&mut self, other: Mounts) {
        let Mounts {
            points,
            // Noting the points sets it.
            any_pseudo: _,
        } = other;
        for (point, fs) in &points {
            self.note(point, fs);
        }
    }

    /// Returns whether the path is on a pseudo file system, as far as snoop knows.
    pub fn is_pseudo(&self, path: &[u8]) -> bool {
        if !self.any_pseudo {
            return false;
        }
        let around = self.points.iter().filter(|(at, _)| is_below(path, at));
        let innermost = around.max_by_key(|(point, _)| point.len());
        innermost.is_some_and(|(_, fs)| PSEUDO.contains(&fs.as_slice()))
    }

    /// Returns the mount point and the type of each file system that is not a pseudo file system.
    pub fn of_files(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let all = self.points.iter().map(|(point, fs)| (&point[..], &fs[..]));
        all.filter(|(_, fs)| !PSEUDO.contains(fs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mount_points_are_bounded() {
        let mut mounts = Mounts::default();
        mounts.note(b"/data", b"ext4");
        for i in 0..10_000 {
            mounts.note(format!("/m/{i}").as_bytes(), b"tmpfs");
        }
        assert_eq!(mounts.points.len(), POINTS_MAX);
        // Another file system may be mounted at a known point later.
        mounts.note(b"/data", b"proc");
        assert!(mounts.is_pseudo(b"/data/1"));
    }

    #[test]
    fn mount_points_with_long_names_are_not_noted() {
        let mut mounts = Mounts::default();
        let long = [b"/", &[b'x'; POINT_BYTES_MAX][..]].concat();
        mounts.note(&long, b"tmpfs");
        assert_eq!(mounts.points.len(), 0);
        mounts.note(&long[1..], b"tmpfs");
        assert_eq!(mounts.points.len(), 1);
    }

    #[test]
    fn the_innermost_mount_decides() {
        let mut mounts = Mounts::default();
        mounts.note(b"/", b"overlay");
        mounts.note(b"/proc", b"proc");
        mounts.note(b"/proc/scsi", b"tmpfs");
        assert!(mounts.is_pseudo(b"/proc") && mounts.is_pseudo(b"/proc/1/stat"));
        assert!(!mounts.is_pseudo(b"/process") && !mounts.is_pseudo(b"/proc/scsi/x"));
    }

    #[test]
    fn only_file_systems_with_files_are_reported() {
        let mut mounts = Mounts::default();
        mounts.note(b"/", b"overlay");
        mounts.note(b"/proc", b"proc");
        mounts.note(b"/data", b"ext4");
        let reported: Vec<_> = mounts.of_files().collect();
        let expected = [(&b"/"[..], &b"overlay"[..]), (b"/data", b"ext4")];
        assert_eq!(reported, expected);
    }

    proptest! {
        #[test]
        fn the_points_of_both_are_kept(points in prop::collection::btree_map("/[a-c]{1,3}", "ext4|proc", 0..9), at in 0usize..9) {
            let points: Vec<_> = points.into_iter().collect();
            let (a, b) = points.split_at(at.min(points.len()));
            let noted = |points: &[(String, String)]| {
                let mut mounts = Mounts::default();
                for (point, fs) in points {
                    mounts.note(point.as_bytes(), fs.as_bytes());
                }
                mounts
            };
            let (mut both, all) = (noted(a), noted(&points));
            both.absorb(noted(b));
            prop_assert_eq!(both.points, all.points);
            prop_assert_eq!(both.any_pseudo, all.any_pseudo);
        }
    }
}
