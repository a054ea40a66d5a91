// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gaps of a report: the reasons why something is missing, each with a count of accesses, files or containers.

use crate::bpf::features::Feature;
use std::fmt;

/// A reason why something is missing from a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    BufferFull,
    Unreadable,
    IoUring,
    TooLong,
    Preempted,
    Unresolved,
    OtherRoot,
    Malformed,
    Evicted,
    LateAttach,
    NotWatched,
    LeftRunning,
    NothingSeen,
    KernelMemory,
    Paths,
    ElfInterp,
    Counters,
}

/// How to combine the count of an earlier run with the count of this run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Combine {
    /// The sum of both counts, because both runs lost something.
    Sum,
    /// The larger count: 1 if either run has the gap.
    Max,
    /// The count of this run, which already includes what it took over from the earlier run.
    Recount,
}

/// The properties of a gap. The last two members are columns of the table in docs/report.md.
pub struct Row {
    pub gap: Gap,
    pub name: &'static str,
    pub combine: Combine,
    pub counted: &'static str,
    pub meaning: &'static str,
}

const fn row(
    gap: Gap,
    name: &'static str,
    combine: Combine,
    counted: &'static str,
    meaning: &'static str,
) -> Row {
    Row {
        gap,
        name,
        combine,
        counted,
        meaning,
    }
}

/// Every gap, in the order of [`Gap`].
pub const TABLE: [Row; GAPS] = [
    row(
        Gap::BufferFull,
        "buffer_full",
        Combine::Sum,
        "accesses",
        "The ring buffer had no room.",
    ),
    row(
        Gap::Unreadable,
        "unreadable",
        Combine::Sum,
        "accesses",
        "The path could not be read from the process.",
    ),
    row(
        Gap::IoUring,
        "io_uring",
        Combine::Sum,
        "rings",
        "An io_uring ring was created on a kernel that does not let snoop trace its requests.",
    ),
    row(
        Gap::TooLong,
        "too_long",
        Combine::Sum,
        "accesses",
        "The path was too long, or its directories were nested too deep.",
    ),
    row(
        Gap::Preempted,
        "preempted",
        Combine::Sum,
        "runs",
        "The kernel skipped a program, because it had interrupted another run of it. Some of these runs were for traced processes.",
    ),
    row(
        Gap::Unresolved,
        "unresolved",
        Combine::Sum,
        "accesses",
        "The path was relative to a directory that snoop did not know.",
    ),
    row(
        Gap::OtherRoot,
        "other_root",
        Combine::Sum,
        "accesses",
        "The process was in a mount namespace with another root directory, such as a container inside the container.",
    ),
    row(
        Gap::Malformed,
        "malformed",
        Combine::Sum,
        "accesses",
        "The record could not be decoded.",
    ),
    row(
        Gap::Evicted,
        "evicted",
        Combine::Sum,
        "files",
        "The files were evicted because of `-max-unique-files`.",
    ),
    row(
        Gap::LateAttach,
        "late_attach",
        Combine::Recount,
        "containers",
        "They were already running when tracing began. Of what they used before, only their programs and the files that snoop could see open or mapped are listed.",
    ),
    row(
        Gap::NotWatched,
        "not_watched",
        Combine::Sum,
        "seconds",
        "The time between the last write of the resumed report and the start of this run, when nothing was watched.",
    ),
    row(
        Gap::LeftRunning,
        "left_running",
        Combine::Sum,
        "processes",
        "They were still running when the command of `snoop run` ended, and are no longer traced.",
    ),
    row(
        Gap::NothingSeen,
        "nothing_seen",
        Combine::Recount,
        "1",
        "Nothing has happened yet in the traced cgroups.",
    ),
    row(
        Gap::KernelMemory,
        "kernel_memory",
        Combine::Max,
        "1",
        "The kernel does not let snoop read its memory.",
    ),
    row(
        Gap::Paths,
        "paths",
        Combine::Max,
        "1",
        "On this kernel snoop cannot determine directory names and real paths.",
    ),
    row(
        Gap::ElfInterp,
        "loader",
        Combine::Max,
        "1",
        "On this kernel snoop cannot determine the loaders of programs.",
    ),
    row(
        Gap::Counters,
        "counters",
        Combine::Max,
        "1",
        "The counts are older than the report, because an error ended snoop.",
    ),
];

pub const GAPS: usize = Gap::Counters as usize + 1;

impl Gap {
    /// Returns all gaps, in the order of the table.
    pub fn all() -> impl Iterator<Item = Gap> {
        TABLE.iter().map(|row| row.gap)
    }

    /// Returns the name of the gap in the report.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].name
    }

    /// Returns the gap of a report if the kernel lacks a feature.
    pub fn of(feature: Feature) -> Gap {
        match feature {
            Feature::KernelMemory => Gap::KernelMemory,
            Feature::Paths => Gap::Paths,
            Feature::ElfInterp => Gap::ElfInterp,
        }
    }

    fn combine(self, earlier: u64, now: u64) -> u64 {
        match TABLE[self as usize].combine {
            Combine::Sum => earlier + now,
            Combine::Max => earlier.max(now),
            Combine::Recount => now,
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A count for each gap; 0 if nothing is missing for that reason.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gaps([u64; GAPS]);

impl Gaps {
    /// Takes over what a report says is missing. Reasons that this version does not know are dropped.
    pub fn from_report(missing: &[(String, u64)]) -> Gaps {
        let mut gaps = Gaps::default();
        for (name, count) in missing {
            if let Some(gap) = Gap::all().find(|gap| gap.name() == name) {
                gaps.set(gap, *count);
            }
        }
        gaps
    }

    pub fn set(&mut self, gap: Gap, count: u64) {
        self.0[gap as usize] = count;
    }

    pub fn get(&self, gap: Gap) -> u64 {
        self.0[gap as usize]
    }

    /// Returns each gap with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Gap, u64)> {
        Gap::all().map(|gap| (gap, self.get(gap)))
    }

    /// Returns the gaps of a report that covers both this run and an earlier one.
    pub fn after(&self, earlier: &Gaps) -> Gaps {
        let mut both = Gaps::default();
        for (gap, now) in self.iter() {
            both.set(gap, gap.combine(earlier.get(gap), now));
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_is_in_order() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.gap as usize, i, "{}", row.name);
        }
    }

    #[test]
    fn the_page_has_every_reason() {
        let page = include_str!("../../docs/report.md");
        let head = "| reason | counts | |\n| --- | --- | --- |\n";
        let (_, table) = page.split_once(head).unwrap();
        let found: Vec<_> = table.lines().take_while(|line| !line.is_empty()).collect();
        let line = |row: &Row| format!("| `{}` | {} | {} |", row.name, row.counted, row.meaning);
        let expected: Vec<_> = TABLE.iter().map(line).collect();
        let shown = expected.join("\n");
        assert_eq!(
            found, expected,
            "docs/report.md should have\n{head}{shown}\n"
        );
    }

    /// The log and the report use the same name for a feature.
    #[test]
    fn the_page_for_browsers_has_every_reason() {
        let script = include_str!("../show/page.js");
        for row in &TABLE {
            let meaning = row.meaning.replace('`', "");
            let line = format!("  {}: [\"{}\", \"{meaning}\"],\n", row.name, row.counted);
            assert!(script.contains(&line), "page.js should have\n{line}");
        }
    }

    #[test]
    fn features_have_the_names_of_their_gaps() {
        for feature in Feature::ALL {
            assert_eq!(Gap::of(feature).name(), feature.name());
        }
    }

    #[test]
    fn counts_are_added() {
        assert_eq!(Gap::BufferFull.combine(2, 3), 5);
        assert_eq!(Gap::Evicted.combine(2, 0), 2);
    }

    #[test]
    fn a_missing_feature_counts_once() {
        assert_eq!(Gap::Paths.combine(1, 1), 1);
        assert_eq!(Gap::ElfInterp.combine(1, 0), 1);
        assert_eq!(Gap::Counters.combine(0, 1), 1);
    }

    /// The containers of the earlier report are among the containers of this run.
    #[test]
    fn gaps_of_containers_are_counted_anew() {
        assert_eq!(Gap::LateAttach.combine(3, 2), 2);
        assert_eq!(Gap::NothingSeen.combine(1, 0), 0);
    }

    #[test]
    fn a_reason_of_another_version_is_dropped() {
        let missing = [("too_long".into(), 4), ("of_another_version".into(), 7)];
        let mut expected = Gaps::default();
        expected.set(Gap::TooLong, 4);
        assert_eq!(Gaps::from_report(&missing), expected);
    }

    proptest! {
        /// A run in which nothing was lost changes nothing, and only counts that are made anew can shrink.
        #[test]
        fn no_gap_is_forgotten(
            earlier in prop::array::uniform(0..1000u64),
            now in prop::array::uniform(0..1000u64),
        ) {
            let (earlier, now) = (Gaps(earlier), Gaps(now));
            prop_assert_eq!(now.after(&Gaps::default()), now);
            for (gap, n) in now.after(&earlier).iter() {
                let is_recounted = matches!(gap, Gap::LateAttach | Gap::NothingSeen);
                prop_assert!(n >= now.get(gap));
                prop_assert!(is_recounted || n >= earlier.get(gap), "{}", gap);
            }
        }
    }
}
