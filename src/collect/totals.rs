// SPDX-License-Identifier: MIT OR Apache-2.0
//! What became of the accesses: counts of the programs, and counts of their records.

use crate::bpf::counts::Counts;
use crate::bpf::wire::{Outcome, ROWS};
use crate::collect::gaps::Gap;
use std::fmt;

/// The accesses of this run. `total` is the sum of the five numbers after it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub total: u64,
    pub processed: u64,
    pub duplicate: u64,
    pub excluded: u64,
    pub failed: u64,
    pub dropped: u64,
    /// The number of evicted files, not of accesses.
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

/// What became of an access after its record was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// The access added a file.
    New,
    Known,
    Excluded,
    /// The directory that the path is relative to is unknown, or the file to which it led.
    Unresolved,
    /// The paths are relative to another root directory than the container's.
    OtherRoot,
}

/// Counts of the records that were taken.
pub struct Tally {
    /// The number of records for each row of the syscall table.
    received: Vec<u64>,
    processed: u64,
    duplicate: u64,
    excluded: u64,
    unresolved: u64,
    other_root: u64,
    malformed: u64,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            received: vec![0; ROWS],
            processed: 0,
            duplicate: 0,
            excluded: 0,
            unresolved: 0,
            other_root: 0,
            malformed: 0,
        }
    }
}

impl Tally {
    /// Counts the record of an access. `row` is a row of the syscall table.
    pub fn received(&mut self, row: u16) {
        self.received[row as usize] += 1;
    }

    /// Counts bytes that are not a record.
    pub fn malformed(&mut self) {
        self.malformed += 1;
    }

    /// Counts what became of an access.
    pub fn ended_as(&mut self, fate: Fate) {
        let count = match fate {
            Fate::New => &mut self.processed,
            Fate::Known => &mut self.duplicate,
            Fate::Excluded => &mut self.excluded,
            Fate::Unresolved => &mut self.unresolved,
            Fate::OtherRoot => &mut self.other_root,
        };
        *count += 1;
    }

    /// Adds the counts of another tally.
    pub fn add(&mut self, other: &Tally) {
        // There is no `..`, so that whoever adds a count has to add it here.
        let Tally {
            received,
            processed,
            duplicate,
            excluded,
            unresolved,
            other_root,
            malformed,
        } = other;
        let of_rows = self.received.iter_mut().zip(received);
        of_rows.for_each(|(sum, n)| *sum += n);
        self.processed += processed;
        self.duplicate += duplicate;
        self.excluded += excluded;
        self.unresolved += unresolved;
        self.other_root += other_root;
        self.malformed += malformed;
    }

    /// Returns the number of records that were taken.
    pub fn records(&self) -> u64 {
        self.received.iter().sum::<u64>() + self.malformed
    }

    /// Returns the number of malformed records. None is expected.
    pub fn malformed_records(&self) -> u64 {
        self.malformed
    }

    /// Returns the number of accesses of one row of the syscall table, whatever became of them. The sum over all rows is
    /// [`Totals::total`] without the malformed records.
    pub fn accesses_of(&self, row: u16, counts: &Counts) -> u64 {
        let here: u64 = counts.of(row).iter().sum();
        self.received[row as usize] + here - counts.of(row)[Outcome::Submitted as usize]
    }

    /// Returns the number of accesses that are missing from the report, by reason.
    pub fn lost(&self, counts: &Counts) -> [(Gap, u64); 8] {
        [
            (Gap::BufferFull, counts.sum(Outcome::Full)),
            (Gap::Unreadable, counts.sum(Outcome::Unreadable)),
            (Gap::IoUring, counts.sum(Outcome::Untraced)),
            (Gap::TooLong, counts.sum(Outcome::TooLong)),
            (Gap::Preempted, counts.sum(Outcome::Preempted)),
            (Gap::Unresolved, self.unresolved),
            (Gap::OtherRoot, self.other_root),
            (Gap::Malformed, self.malformed),
        ]
    }

    /// Adds up the counts of the programs and the fates of their records.
    pub fn totals(&self, counts: &Counts, evicted: u64) -> Totals {
        let mut totals = Totals {
            total: 0,
            processed: self.processed,
            duplicate: self.duplicate + counts.sum(Outcome::Duplicate),
            excluded: self.excluded + counts.sum(Outcome::Excluded),
            failed: counts.sum(Outcome::Failed),
            dropped: self.lost(counts).iter().map(|(_, n)| n).sum(),
            evicted,
        };
        totals.total =
            totals.processed + totals.duplicate + totals.excluded + totals.failed + totals.dropped;
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_in_the_total_once() {
        let mut tally = Tally::default();
        let fates = [
            Fate::New,
            Fate::Known,
            Fate::Excluded,
            Fate::Unresolved,
            Fate::OtherRoot,
        ];
        for (row, fate) in (1..).zip(fates) {
            tally.received(row);
            tally.ended_as(fate);
        }
        tally.malformed();
        let totals = tally.totals(&Counts::default(), 9);
        let expected = Totals {
            total: 6,
            processed: 1,
            duplicate: 1,
            excluded: 1,
            failed: 0,
            dropped: 3,
            evicted: 9,
        };
        assert_eq!(totals, expected);
        assert_eq!(tally.records(), totals.total);
        let of_rows: u64 = (0..ROWS as u16)
            .map(|row| tally.accesses_of(row, &Counts::default()))
            .sum();
        assert_eq!(of_rows + tally.malformed_records(), totals.total);
    }
}
