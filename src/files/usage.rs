// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the files of a container were used, and when each was used first. An entry takes six bytes.

use crate::files::kinds::Kinds;
use crate::files::path_tree::Id;

/// How a file was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub kinds: Kinds,
    /// When it was used first, in [`TICK`]s since the container's start. `None` if that is unknown.
    pub first: Option<u64>,
}

/// The unit of [`Usage::first`] in nanoseconds: a hundredth of a millisecond.
pub const TICK: u64 = 10_000;
pub const TICKS_PER_MS: u64 = 1_000_000 / TICK;

/// The bits that the kinds leave are for the time, which ends after 2.7 years.
const UNKNOWN: u64 = (1 << (48 - Kinds::BITS)) - 1;

type Entry = [u16; 3];

impl Usage {
    fn pack(self) -> Entry {
        let first = self.first.map_or(UNKNOWN, |first| first.min(UNKNOWN - 1));
        let bits = first << Kinds::BITS | u64::from(self.kinds.bits());
        [bits as u16, (bits >> 16) as u16, (bits >> 32) as u16]
    }

    fn unpack([low, middle, high]: Entry) -> Usage {
        let bits = u64::from(low) | u64::from(middle) << 16 | u64::from(high) << 32;
        let first = bits >> Kinds::BITS;
        Usage {
            kinds: Kinds::from_bits(bits as u8),
            first: (first != UNKNOWN).then_some(first),
        }
    }

    /// Returns the kinds of both, and the earlier of the two times.
    fn and(self, other: Usage) -> Usage {
        Usage {
            kinds: self.kinds.and(other.kinds),
            first: match (self.first, other.first) {
                (Some(one), Some(other)) => Some(one.min(other)),
                // An unknown time is that of an earlier run, whose report did not have it.
                _ => None,
            },
        }
    }
}

/// The usages of the files of a list, in its order. The two members of a usage come one after the other, as a report has them.
#[derive(Debug, Default)]
pub struct UsageList {
    entries: Vec<Entry>,
    /// How many entries have their kinds, and how many their times.
    kinds: usize,
    firsts: usize,
}

impl UsageList {
    pub fn push_kinds(&mut self, kinds: Kinds) {
        self.change(self.kinds, |usage| usage.kinds = kinds);
        self.kinds += 1;
    }

    pub fn push_first(&mut self, first: Option<u64>) {
        self.change(self.firsts, |usage| usage.first = first);
        self.firsts += 1;
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut Usage)) {
        let mut usage = self.get(at);
        change(&mut usage);
        match self.entries.get_mut(at) {
            Some(entry) => *entry = usage.pack(),
            None => self.entries.push(usage.pack()),
        }
    }

    /// Returns the usage of the file at this place of the list. Nothing is known of a file behind the end.
    pub fn get(&self, at: usize) -> Usage {
        self.entries
            .get(at)
            .copied()
            .map(Usage::unpack)
            .unwrap_or_default()
    }
}

/// The usage of each file of a set, by the id of the file.
///
/// The ids are dense in the containers together, and often sparse in one of them. So there is a block for each 64 ids, with an
/// entry for each file that the set has among them, in the order of the ids.
#[derive(Default)]
pub struct Usages {
    blocks: Vec<Block>,
    /// The last of the times.
    last: u64,
}

#[derive(Default)]
struct Block {
    /// A bit for each id that has an entry.
    present: u64,
    entries: Vec<Entry>,
}

impl Block {
    /// Returns the index of the entry of the id with this bit, present or not.
    fn index(&self, bit: u64) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }
}

/// How many entries a full block grows by.
const GROWTH: usize = 8;

/// Returns the index of the block of an id, and the bit of the id in it.
fn place(id: Id) -> (usize, u64) {
    (id as usize / 64, 1 << (id % 64))
}

impl Usages {
    /// Returns the time for a file that is used first at `time`. No two files get the same time, so that the times also tell the
    /// order.
    pub fn moment(&self, time: u64) -> u64 {
        time.max(self.last + 1)
    }

    pub fn get(&self, id: Id) -> Option<Usage> {
        let (at, bit) = place(id);
        let block = self.blocks.get(at).filter(|b| b.present & bit != 0)?;
        Some(Usage::unpack(block.entries[block.index(bit)]))
    }

    /// Notes a use of a file. Returns whether its kinds have become more.
    pub fn note(&mut self, id: Id, usage: Usage) -> bool {
        let (at, bit) = place(id);
        if at >= self.blocks.len() {
            self.blocks.resize_with(at + 1, Block::default);
        }
        let block = &mut self.blocks[at];
        let index = block.index(bit);
        if block.present & bit == 0 {
            block.present |= bit;
            if block.entries.len() == block.entries.capacity() {
                block.entries.reserve_exact(GROWTH);
            }
            self.last = usage.first.unwrap_or(0).max(self.last);
            block.entries.insert(index, usage.pack());
            return true;
        }
        let known = Usage::unpack(block.entries[index]);
        block.entries[index] = known.and(usage).pack();
        !known.kinds.cover(usage.kinds)
    }

    /// Removes the entry of a file, and returns it.
    pub fn take(&mut self, id: Id) -> Option<Usage> {
        let (at, bit) = place(id);
        let block = self.blocks.get_mut(at).filter(|b| b.present & bit != 0)?;
        let index = block.index(bit);
        block.present &= !bit;
        let entry = block.entries.remove(index);
        if block.entries.is_empty() {
            block.entries = Vec::new();
        }
        Some(Usage::unpack(entry))
    }

    /// Returns the time at which the last new file was used first.
    pub fn last(&self) -> Option<u64> {
        (self.last > 0).then_some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::wire::{KIND_READ, KIND_WRITTEN};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn usage(kinds: u8, first: impl Into<Option<u64>>) -> Usage {
        Usage {
            kinds: Kinds::from_bits(kinds),
            first: first.into(),
        }
    }

    #[test]
    fn times_are_told_apart_and_end_late() {
        let mut usages = Usages::default();
        for id in 0..3 {
            usages.note(id, usage(1, usages.moment(7)));
        }
        assert_eq!(usages.last(), Some(9));
        let firsts: Vec<_> = (0..3).map(|id| usages.get(id).unwrap().first).collect();
        assert_eq!(firsts, [Some(7), Some(8), Some(9)]);
        usages.note(3, usage(1, u64::MAX));
        assert_eq!(usages.get(3).unwrap().first, Some(UNKNOWN - 1));
        usages.note(4, usage(1, None));
        assert_eq!(usages.get(4).unwrap().first, None);
    }

    #[test]
    fn a_list_is_filled_in_columns() {
        let mut list = UsageList::default();
        list.push_kinds(Kinds::READ);
        list.push_kinds(Kinds::UNKNOWN);
        for first in [Some(3), None, Some(9)] {
            list.push_first(first);
        }
        let found: Vec<_> = (0..4).map(|at| list.get(at)).collect();
        let nothing = Usage::default();
        assert_eq!(found, [usage(KIND_READ, 3), nothing, usage(0, 9), nothing]);
    }

    #[test]
    fn another_kind_of_a_known_file_is_news() {
        let mut usages = Usages::default();
        assert!(usages.note(5, usage(KIND_READ, 10)));
        assert!(!usages.note(5, usage(KIND_READ, 20)));
        assert!(usages.note(5, usage(KIND_WRITTEN, 30)));
        assert_eq!(usages.get(5), Some(usage(KIND_READ | KIND_WRITTEN, 10)));
    }

    /// A million sparse ids cost little, and a block that is empty again costs no entries.
    #[test]
    fn memory_follows_the_number_of_files() {
        let mut usages = Usages::default();
        for id in 0..1000 {
            usages.note(id, usage(1, u64::from(id)));
        }
        let capacity: usize = usages.blocks.iter().map(|b| b.entries.capacity()).sum();
        assert!(capacity <= 1000 + 16 * GROWTH, "{capacity}");
        (0..1000).for_each(|id| _ = usages.take(id));
        assert!(usages.blocks.iter().all(|b| b.entries.capacity() == 0));
    }

    proptest! {
        #[test]
        fn usages_are_a_map(
            steps in prop::collection::vec((0..300u32, 1..32u8, any::<bool>()), 0..300)
        ) {
            let (mut usages, mut model) = (Usages::default(), BTreeMap::<Id, u8>::new());
            for (time, (id, kinds, takes)) in (1..).zip(steps) {
                if takes {
                    let taken = usages.take(id).map(|usage| usage.kinds.bits());
                    prop_assert_eq!(taken, model.remove(&id));
                } else {
                    let known = model.entry(id).or_default();
                    let is_news = kinds & !*known != 0;
                    *known |= kinds;
                    prop_assert_eq!(usages.note(id, usage(kinds, time)), is_news);
                }
            }
            for id in 0..300 {
                let found = usages.get(id).map(|usage| usage.kinds.bits());
                prop_assert_eq!(found, model.get(&id).copied());
            }
        }
    }
}
