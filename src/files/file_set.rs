// SPDX-License-Identifier: MIT OR Apache-2.0
//! The set of one container's files, with a hard capacity.
//!
//! A full set evicts the least recently used file by the clock algorithm. Each use of a file sets its mark. A hand goes
//! round, removes marks, and evicts the first file without a mark. The programs in the kernel must then forget the
//! accesses that led to that file, or they would not report its next use.

use crate::files::hash_table;
use crate::files::path_tree::{Id, PathTree};
use crate::files::usage::{Ids, Usage, Usages};
use hashbrown::HashTable;

#[derive(Default)]
pub struct FileSet {
    /// The files. The mark of a file says that it was used since the hand went by.
    usages: Usages,
    len: usize,
    /// The capacity; 0 means unbounded.
    capacity: usize,
    hand: Id,
    keys: Keys,
}

/// The key of a file to which no access of this run has led. The programs use no such key.
pub const NO_KEY: u32 = 0;

/// The result of adding a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    Known,
    /// The path was known, but not to be used in this way.
    NewKind,
    New,
    /// The path is new, and another file was evicted for it.
    Evicting,
}

impl FileSet {
    pub fn new(capacity: usize) -> FileSet {
        FileSet {
            capacity,
            ..FileSet::default()
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn has(&self, id: Id) -> bool {
        self.usages.has(id)
    }

    /// Returns the files that are in at least one of these sets.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a FileSet>) -> Ids {
        let mut union = Ids::default();
        sets.into_iter().for_each(|set| union.add(&set.usages));
        union
    }

    pub fn iter(&self) -> impl Iterator<Item = Id> {
        self.usages.iter()
    }

    /// Returns how the files of the set were used.
    pub fn usages(&self) -> &Usages {
        &self.usages
    }

    /// Adds the file of an access that the programs know by `key`. Adds the keys that the programs must forget to
    /// `forgotten`.
    pub fn add(
        &mut self,
        tree: &mut PathTree,
        path: &[u8],
        usage: Usage,
        key: u32,
        forgotten: &mut Vec<u32>,
    ) -> Added {
        let id = tree.hold(path);
        let added = if self.has(id) {
            tree.release(id);
            self.usages.mark(id, true);
            match self.usages.note(id, usage) {
                true => Added::NewKind,
                false => Added::Known,
            }
        } else if self.capacity == 0 || self.len < self.capacity {
            self.insert(id, usage);
            Added::New
        } else {
            let leaving = self.make_room();
            self.remove(tree, leaving);
            self.keys.take(leaving, forgotten);
            self.insert(id, usage);
            Added::Evicting
        };
        if self.capacity > 0 {
            self.keys.note(id, key, forgotten);
        }
        added
    }

    fn insert(&mut self, id: Id, usage: Usage) {
        self.usages.note(id, usage);
        self.len += 1;
    }

    fn remove(&mut self, tree: &mut PathTree, id: Id) {
        self.usages.take(id);
        self.len -= 1;
        tree.release(id);
    }

    /// Takes over all files of another set. Returns how many files were evicted to make room.
    pub fn absorb(
        &mut self,
        tree: &mut PathTree,
        mut other: FileSet,
        forgotten: &mut Vec<u32>,
    ) -> u64 {
        let (mut path, mut keys, mut evicted) = (Vec::new(), Vec::new(), 0);
        for id in other.usages.iter() {
            tree.path(id, &mut path);
            let usage = other.usages.get(id).unwrap_or_default();
            other.keys.take(id, &mut keys);
            if keys.is_empty() {
                keys.push(NO_KEY);
            }
            for key in keys.drain(..) {
                let added = self.add(tree, &path, usage, key, forgotten);
                evicted += u64::from(added == Added::Evicting);
            }
            tree.release(id);
        }
        evicted
    }

    /// Chooses the file to evict.
    fn make_room(&mut self) -> Id {
        loop {
            let files = &self.usages;
            let at = files.next(self.hand).or_else(|| files.next(0));
            let at = at.expect("a set at its capacity holds files");
            self.hand = at + 1;
            if !self.usages.mark(at, false) {
                return at;
            }
        }
    }
}

/// For each file, the keys of the accesses that led to it. An entry holds the file's id and the lower half of a key,
/// which is enough to find the key again (see [`crate::bpf::probe::Probe::reoffer`]).
#[derive(Default)]
struct Keys(HashTable<u64>);

/// The number of keys that are kept for each file. Few paths usually lead to a file. If there are more, an older key is
/// forgotten, and the next access with that key is reported again.
const KEYS_PER_FILE: usize = 8;

fn entry(id: Id, key: u32) -> u64 {
    u64::from(id) << 32 | u64::from(key)
}

fn id_of(entry: u64) -> Id {
    (entry >> 32) as Id
}

/// Hashes an entry by its id. Ids are consecutive, and the odd constant of Fibonacci hashing spreads them.
fn hash(entry: &u64) -> u64 {
    u64::from(id_of(*entry)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Keys {
    fn note(&mut self, id: Id, key: u32, forgotten: &mut Vec<u32>) {
        let new = entry(id, key);
        let of_file = self
            .0
            .iter_hash(hash(&new))
            .filter(|known| id_of(**known) == id);
        let (mut count, mut oldest) = (0, None);
        for known in of_file {
            if *known == new {
                return;
            }
            (count, oldest) = (count + 1, oldest.or(Some(*known)));
        }
        if let Some(oldest) = oldest.filter(|_| count == KEYS_PER_FILE) {
            if let Ok(entry) = self.0.find_entry(hash(&oldest), |known| *known == oldest) {
                entry.remove();
            }
            forgotten.push(oldest as u32);
        }
        hash_table::insert(&mut self.0, new, hash);
    }

    /// Moves the keys of a file to `keys`.
    fn take(&mut self, id: Id, keys: &mut Vec<u32>) {
        let any = hash(&entry(id, 0));
        while let Ok(found) = self.0.find_entry(any, |known| id_of(*known) == id) {
            keys.push(found.remove().0 as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set with its tree. The key of a path is its length.
    struct Set {
        tree: PathTree,
        seen: FileSet,
        forgotten: Vec<u32>,
    }

    impl Set {
        fn new(capacity: usize) -> Set {
            Set {
                tree: PathTree::default(),
                seen: FileSet::new(capacity),
                forgotten: Vec::new(),
            }
        }

        fn add(&mut self, path: &str) -> Added {
            self.add_by(path, path.len() as u32)
        }

        fn add_by(&mut self, path: &str, key: u32) -> Added {
            let path = path.as_bytes();
            let usage = Usage::default();
            self.seen
                .add(&mut self.tree, path, usage, key, &mut self.forgotten)
        }

        fn paths(&self) -> Vec<String> {
            let ids = self.tree.sorted(|id| self.seen.has(id));
            let mut path = Vec::new();
            let mut text = |id| {
                self.tree.path(id, &mut path);
                String::from_utf8(path.clone()).unwrap()
            };
            ids.into_iter().map(&mut text).collect()
        }
    }

    #[test]
    fn without_a_capacity_everything_stays() {
        let mut set = Set::new(0);
        for expected in [Added::New, Added::Known] {
            for i in 0..10_000 {
                assert_eq!(set.add(&format!("/f/{i}")), expected);
            }
        }
        assert_eq!(set.seen.len(), 10_000);
        assert_eq!(set.paths().len(), 10_000);
        assert!(set.forgotten.is_empty());
    }

    #[test]
    fn a_file_in_several_sets_counts_once() {
        let mut set = Set::new(0);
        let mut other = FileSet::new(0);
        for i in 0..300 {
            set.add(&format!("/{i}"));
            if i % 3 == 0 {
                let path = format!("/{}", i + 100);
                let (path, usage) = (path.as_bytes(), Usage::default());
                other.add(&mut set.tree, path, usage, NO_KEY, &mut Vec::new());
            }
        }
        let only_other = (0..300).step_by(3).filter(|i| i + 100 >= 300).count();
        let union_len = |sets: &[&FileSet]| FileSet::union(sets.iter().copied()).count();
        assert_eq!(union_len(&[&set.seen, &other]), 300 + only_other);
        assert_eq!(union_len(&[&other, &set.seen, &other]), 300 + only_other);
        assert_eq!((union_len(&[&other]), union_len(&[])), (100, 0));
    }

    #[test]
    fn a_full_set_evicts_the_least_recently_used_file() {
        let mut set = Set::new(3);
        for path in ["/a", "/b", "/c"] {
            assert_eq!(set.add(path), Added::New);
        }
        assert_eq!(set.add("/a"), Added::Known);
        assert_eq!(set.add("/d"), Added::Evicting);
        assert_eq!(set.paths(), ["/a", "/c", "/d"]);
        assert_eq!(set.add("/b"), Added::Evicting);
        assert_eq!(set.paths().len(), 3);
    }

    #[test]
    fn the_keys_of_an_evicted_file_are_forgotten() {
        let mut set = Set::new(1);
        for key in [10, 11, 10, 12] {
            set.add_by("/a", key);
        }
        assert!(set.forgotten.is_empty());
        set.add_by("/b", 20);
        set.forgotten.sort_unstable();
        assert_eq!(set.forgotten, [10, 11, 12]);
        // Older keys of a file with very many names are forgotten too.
        set.forgotten.clear();
        (21..40).for_each(|key| _ = set.add_by("/b", key));
        set.add_by("/c", 50);
        set.forgotten.sort_unstable();
        assert_eq!(set.forgotten, (20..40).collect::<Vec<_>>());
    }

    #[test]
    fn the_memory_of_evicted_files_is_reused() {
        let mut set = Set::new(100);
        for i in 0..100_000 {
            set.add_by(&format!("/directory-{}/file-{i}", i / 7), i);
        }
        assert_eq!(set.seen.len(), 100);
        assert_eq!(set.forgotten.len(), 100_000 - 100);
        let highest = set.seen.iter().last().unwrap();
        assert!(highest < 640, "{highest}");
        assert_eq!(set.seen.keys.0.len(), 100);
    }

    #[test]
    fn a_set_with_a_capacity_of_one_keeps_the_last_file() {
        let mut set = Set::new(1);
        for i in 0..1000 {
            set.add(&format!("/{i}"));
        }
        assert_eq!(set.paths(), ["/999"]);
    }
}
