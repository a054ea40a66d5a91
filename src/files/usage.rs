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

/// The files of a set by their ids, with the usage of each.
///
/// The ids are dense in the containers together, and sparse in one of many containers. So there is a block for each 64 ids of which
/// the set has at least one, with an entry for each of these, in the order of the ids.
#[derive(Default)]
pub struct Usages {
    /// What the ids of each block have in common: the id divided by 64. Sorted.
    numbers: Vec<u32>,
    blocks: Vec<Block>,
    /// The last of the times.
    last: u64,
}

#[derive(Default)]
struct Block {
    /// A bit for each id that has an entry.
    present: u64,
    /// A bit for each of these whose mark is set.
    marked: u64,
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

/// Returns the number of the block of an id, and the bit of the id in it.
fn place(id: Id) -> (u32, u64) {
    (id / 64, 1 << (id % 64))
}

impl Usages {
    /// Returns the time for a file that is used first at `time`. No two files get the same time, so that the times also tell the
    /// order.
    pub fn moment(&self, time: u64) -> u64 {
        time.max(self.last + 1)
    }

    /// Returns the index of the block with that number, or the index at which it belongs.
    fn find(&self, number: u32) -> Result<usize, usize> {
        // If there is one container, it has all ids.
        match self.numbers.get(number as usize) {
            Some(there) if *there == number => Ok(number as usize),
            _ => self.numbers.binary_search(&number),
        }
    }

    fn block(&self, number: u32) -> Option<&Block> {
        self.find(number).ok().map(|at| &self.blocks[at])
    }

    fn block_mut(&mut self, number: u32) -> Option<&mut Block> {
        self.find(number).ok().map(|at| &mut self.blocks[at])
    }

    pub fn has(&self, id: Id) -> bool {
        let (number, bit) = place(id);
        self.block(number).is_some_and(|b| b.present & bit != 0)
    }

    pub fn get(&self, id: Id) -> Option<Usage> {
        let (number, bit) = place(id);
        let block = self.block(number).filter(|b| b.present & bit != 0)?;
        Some(Usage::unpack(block.entries[block.index(bit)]))
    }

    /// Returns the smallest id of the set that is at least `at`.
    pub fn next(&self, at: Id) -> Option<Id> {
        let (number, bit) = place(at);
        let first = self.find(number).unwrap_or_else(|behind| behind);
        (first..self.blocks.len()).find_map(|i| {
            let earlier = if self.numbers[i] == number {
                bit - 1
            } else {
                0
            };
            let present = self.blocks[i].present & !earlier;
            (present != 0).then(|| self.numbers[i] * 64 + present.trailing_zeros())
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = Id> {
        std::iter::successors(self.next(0), |at| self.next(at + 1))
    }

    /// Notes a use of a file. Returns whether its kinds have become more.
    pub fn note(&mut self, id: Id, usage: Usage) -> bool {
        let (number, bit) = place(id);
        let at = self.find(number).unwrap_or_else(|at| {
            self.numbers.insert(at, number);
            self.blocks.insert(at, Block::default());
            at
        });
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

    /// Sets the mark of a file of the set, or takes it away. Returns whether it was set.
    pub fn mark(&mut self, id: Id, is_marked: bool) -> bool {
        let (number, bit) = place(id);
        let Some(block) = self.block_mut(number) else {
            return false;
        };
        let was_marked = block.marked & bit != 0;
        block.marked &= !bit;
        if is_marked {
            block.marked |= bit;
        }
        was_marked
    }

    /// Removes the entry of a file, and returns it.
    pub fn take(&mut self, id: Id) -> Option<Usage> {
        let (number, bit) = place(id);
        let at = self.find(number).ok()?;
        let block = &mut self.blocks[at];
        if block.present & bit == 0 {
            return None;
        }
        let index = block.index(bit);
        block.present &= !bit;
        block.marked &= !bit;
        let entry = block.entries.remove(index);
        if block.entries.is_empty() {
            self.numbers.remove(at);
            self.blocks.remove(at);
        }
        Some(Usage::unpack(entry))
    }

    /// Returns the time at which the last new file was used first.
    pub fn last(&self) -> Option<u64> {
        (self.last > 0).then_some(self.last)
    }
}

/// A set of ids without usages, one bit for each.
#[derive(Default)]
pub struct Ids(Vec<u64>);

impl Ids {
    /// Adds all ids of a set of files.
    pub fn add(&mut self, usages: &Usages) {
        let words = usages.numbers.last().map_or(0, |last| *last as usize + 1);
        self.0.resize(words.max(self.0.len()), 0);
        for (number, block) in usages.numbers.iter().zip(&usages.blocks) {
            self.0[*number as usize] |= block.present;
        }
    }

    pub fn has(&self, id: Id) -> bool {
        let (number, bit) = place(id);
        self.0
            .get(number as usize)
            .is_some_and(|word| word & bit != 0)
    }

    pub fn count(&self) -> usize {
        let ones = self.0.iter().map(|word| word.count_ones() as usize);
        ones.sum()
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
        assert!(usages.blocks.is_empty() && usages.numbers.is_empty());
        usages.note(4_000_000_000, usage(1, 1));
        assert_eq!(usages.blocks.len(), 1);
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
            let mut ids = Ids::default();
            ids.add(&usages);
            for id in 0..300 {
                let found = usages.get(id).map(|usage| usage.kinds.bits());
                prop_assert_eq!(found, model.get(&id).copied());
                prop_assert_eq!(usages.has(id), found.is_some());
                prop_assert_eq!(ids.has(id), found.is_some());
            }
            prop_assert_eq!(ids.count(), model.len());
            prop_assert!(usages.iter().eq(model.into_keys()));
        }
    }
}
