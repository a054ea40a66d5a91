// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the programs counted.

use crate::bpf::wire::{OUTCOMES, Outcome, ROWS};

/// The programs' counters, summed over the CPUs.
#[derive(Clone)]
pub struct Counts {
    /// The outcomes of accesses, by row of `counts`.
    rows: Vec<[u64; OUTCOMES]>,
    /// The number of events of each container, with the id of its cgroup. They are sorted by the id.
    events: Vec<(u64, u64)>,
    /// How many accesses the programs have forgotten before their time, because the set of known ones is too small.
    pub displaced: u64,
}

impl Default for Counts {
    /// Returns the counts before anything was counted.
    fn default() -> Counts {
        Counts::new(vec![[0; OUTCOMES]; ROWS], Vec::new(), 0)
    }
}

impl Counts {
    pub(crate) fn new(
        rows: Vec<[u64; OUTCOMES]>,
        mut events: Vec<(u64, u64)>,
        displaced: u64,
    ) -> Counts {
        events.sort_unstable();
        Counts {
            rows,
            events,
            displaced,
        }
    }

    /// Returns how often each outcome was counted for a row.
    pub fn of(&self, row: u16) -> &[u64; OUTCOMES] {
        &self.rows[row as usize]
    }

    /// Returns the events of a container, less those that [`Probe::release`](crate::bpf::probe::Probe::release) returned.
    pub fn events_of(&self, container: u64) -> u64 {
        let first = self.events.partition_point(|(id, _)| *id < container);
        let of = self.events[first..].iter();
        of.take_while(|(id, _)| *id == container)
            .map(|(_, n)| n)
            .sum()
    }

    /// Returns how often each outcome was counted for all rows.
    pub fn outcomes(&self) -> [u64; OUTCOMES] {
        let mut sums = [0; OUTCOMES];
        for row in &self.rows {
            sums.iter_mut().zip(row).for_each(|(sum, n)| *sum += n);
        }
        sums
    }

    /// Returns the counts of some of the containers, with these outcomes of theirs, which the programs do not count by row.
    pub fn of_part(&self, outcomes: [u64; OUTCOMES]) -> Counts {
        let mut rows = vec![[0; OUTCOMES]; ROWS];
        rows[0] = outcomes;
        Counts::new(rows, self.events.clone(), 0)
    }

    /// Returns how often an outcome was counted for all rows.
    pub fn sum(&self, outcome: Outcome) -> u64 {
        self.rows.iter().map(|row| row[outcome as usize]).sum()
    }
}
