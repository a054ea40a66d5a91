//! What the containers used: records become files of their containers, and are counted.

use crate::cgroup::Cgroup;
use crate::log::{self, Level};
use crate::path::{Excludes, Named, is_below};
use crate::probe::Counts;
use crate::seen::{Added, Seen};
use crate::syscalls;
use crate::wire::{Event, Outcome, ROWS};
use std::collections::BTreeMap;
use std::fmt;

pub struct Container {
    pub cgroup: Cgroup,
    pub files: Seen,
    pub mounts: Mounts,
}

/// Mount points that files were seen on, and what is mounted there.
#[derive(Default)]
pub struct Mounts(BTreeMap<Vec<u8>, Vec<u8>>);

/// File systems that show the kernel, not files of an image.
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

impl Mounts {
    /// Notes one; was it not known?
    fn note(&mut self, point: &[u8], fs: &[u8]) -> bool {
        if self.0.get(point).is_some_and(|known| known == fs) {
            return false;
        }
        self.0.insert(point.into(), fs.into());
        true
    }

    /// Does the path lie on a pseudo file system, as far as is known?
    fn is_pseudo(&self, path: &[u8]) -> bool {
        let around = self.0.iter().filter(|(point, _)| is_below(path, point));
        around
            .max_by_key(|(point, _)| point.len())
            .is_some_and(|(_, fs)| PSEUDO.contains(&fs.as_slice()))
    }

    /// Those that hold files: mount point and type.
    pub fn of_files(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let all = self.0.iter().map(|(point, fs)| (&point[..], &fs[..]));
        all.filter(|(_, fs)| !PSEUDO.contains(fs))
    }
}

pub struct Collector {
    pub containers: Vec<Container>,
    excludes: Excludes,
    /// Records of each row of the syscall table.
    received: Vec<u64>,
    processed: u64,
    duplicate: u64,
    excluded: u64,
    unresolved: u64,
    malformed: u64,
    evicted: u64,
    /// Something was added since [`Collector::take_changed`].
    changed: bool,
}

/// Reasons why something is missing.
pub const LOSSES: usize = 6;

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
        let container = |cgroup| Container {
            cgroup,
            files: Seen::new(capacity),
            mounts: Mounts::default(),
        };
        Collector {
            containers: cgroups.into_iter().map(container).collect(),
            excludes,
            received: vec![0; ROWS],
            processed: 0,
            duplicate: 0,
            excluded: 0,
            unresolved: 0,
            malformed: 0,
            evicted: 0,
            changed: true,
        }
    }

    /// Takes one record as the ring buffer holds it.
    pub fn record(&mut self, bytes: &[u8]) {
        let Some(event) = Event::decode(bytes) else {
            self.malformed += 1;
            return;
        };
        let of = |c: &&mut Container| c.cgroup.id == event.container;
        let (Some(received), Some(container)) = (
            self.received.get_mut(event.row as usize),
            self.containers.iter_mut().find(of),
        ) else {
            self.malformed += 1;
            return;
        };
        *received += 1;

        let named = Named::of(&event);
        if log::is_on(Level::Debug) {
            log::debug(format_args!(
                "process {}: {} asked {:?} real {:?}",
                event.pid,
                syscalls::name_of(event.row),
                named.asked.as_deref().map(String::from_utf8_lossy),
                named.real.as_deref().map(String::from_utf8_lossy),
            ));
        }
        if let Some(point) = &named.mount {
            // What was only looked at there, before the file system was known, has to go again.
            if container.mounts.note(point, event.fs) && PSEUDO.contains(&event.fs) {
                let mounts = &container.mounts;
                container.files.retain(|path| !mounts.is_pseudo(path));
            }
        }
        let (mut added, mut wanted) = (false, false);
        for path in [&named.asked, &named.real].into_iter().flatten() {
            if self.excludes.matches(path) || container.mounts.is_pseudo(path) {
                continue;
            }
            wanted = true;
            match container.files.add(path) {
                Added::Known => (),
                Added::New => added = true,
                Added::Evicting => {
                    added = true;
                    self.evicted += 1;
                }
            }
        }
        self.changed |= added;
        if named.unresolved {
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

    /// What was taken could not be written.
    pub fn set_changed(&mut self) {
        self.changed = true;
    }

    /// Files of all containers together.
    pub fn files(&self) -> usize {
        self.containers.iter().map(|c| c.files.len()).sum()
    }

    /// Accesses of one row of the syscall table, whatever became of them. Over all rows this is
    /// [`Totals::total`], but for records that make no sense.
    pub fn seen(&self, row: u16, counts: &Counts) -> u64 {
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
        let losses = self.losses(counts);
        let lost = losses[..LOSSES - 1].iter().map(|(_, n)| n).sum();
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

    /// What happened and is not in the report, by reason; the last one counts files.
    pub fn losses(&self, counts: &Counts) -> [(&'static str, u64); LOSSES] {
        [
            ("buffer_full", counts.sum(Outcome::Full)),
            ("unreadable", counts.sum(Outcome::Unreadable)),
            ("too_long", counts.sum(Outcome::TooLong)),
            ("unresolved", self.unresolved),
            ("malformed", self.malformed),
            ("evicted", self.evicted),
        ]
    }
}
