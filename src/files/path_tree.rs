// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths as a tree of names. The tree stores a directory only once, however many files are in it.

use crate::files::hash_table;
use fxhash::FxHasher;
use hashbrown::HashTable;
use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher, RandomState};

/// The place of a node in the tree. After a node is removed, another one may get its place.
pub type Id = u32;

pub const ROOT: Id = 0;

struct Node {
    parent: Id,
    /// The offset of its name in [`PathTree::names`].
    name: u32,
    len: u16,
    /// The number of its child nodes, plus the number of times it is held ([`PathTree::hold`]). At 0 the node is
    /// removed.
    uses: u32,
}

pub struct PathTree {
    nodes: Vec<Node>,
    /// The names of all nodes, one after the other, including the names of removed nodes.
    names: Vec<u8>,
    /// The number of bytes in `names` that belong to removed nodes.
    garbage: usize,
    /// Finds nodes by parent and name.
    index: HashTable<Id>,
    hash: NameHash,
    /// The places of removed nodes.
    free: Vec<Id>,
    /// The directory of the last path. The next path is often in the same directory.
    recent: (Vec<u8>, Id),
}

/// Hashes names with fxhash and a secret. fxhash is fast, but the lower half of its result depends only on the lower
/// halves of its input. Names that end in numbers therefore collide, and a container could create colliding names on
/// purpose. So each word is mixed with a secret first, by a multiplication whose halves are folded together. The result
/// is mixed in the same way.
#[derive(Clone, Copy)]
struct NameHash {
    secret: u64,
}

impl NameHash {
    fn new() -> NameHash {
        NameHash {
            secret: RandomState::new().hash_one(0) | 1,
        }
    }

    fn mix(&self, word: u64) -> u64 {
        let product = u128::from(word ^ self.secret.rotate_left(32)) * u128::from(self.secret);
        product as u64 ^ (product >> 64) as u64
    }

    fn of(&self, parent: Id, name: &[u8]) -> u64 {
        let mut hasher = FxHasher::default();
        let (words, rest) = name.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hasher.write_u64(self.mix(u64::from(parent)));
        for word in words.iter().chain([&last]) {
            hasher.write_u64(self.mix(u64::from_le_bytes(*word)));
        }
        self.mix(hasher.finish() ^ name.len() as u64)
    }
}

/// The names of removed nodes may take up this many bytes, or an eighth of all names, before the other names are
/// compacted.
const GARBAGE: usize = 64 << 10;

impl Default for PathTree {
    fn default() -> PathTree {
        let root = Node {
            parent: ROOT,
            name: 0,
            len: 0,
            uses: 1,
        };
        PathTree {
            nodes: vec![root],
            names: Vec::new(),
            garbage: 0,
            index: HashTable::new(),
            hash: NameHash::new(),
            free: Vec::new(),
            recent: (b"/".to_vec(), ROOT),
        }
    }
}

impl PathTree {
    /// Returns the node of an absolute, normalised path, and creates it if necessary. The node stays until it has been
    /// released ([`PathTree::release`]) as often as it was held.
    pub fn hold(&mut self, path: &[u8]) -> Id {
        let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0) + 1;
        let (directory, name) = path.split_at(end);
        if self.recent.0 != directory {
            let mut at = ROOT;
            for name in directory.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
                at = self.child(at, name);
            }
            self.recent.0.clear();
            self.recent.0.extend(directory);
            self.recent.1 = at;
        }
        let id = match name {
            b"" => self.recent.1,
            name => self.child(self.recent.1, name),
        };
        self.nodes[id as usize].uses += 1;
        id
    }

    /// Returns the node of that name in `parent`, and creates it if necessary.
    fn child(&mut self, parent: Id, name: &[u8]) -> Id {
        let hash = self.hash.of(parent, name);
        let is_it = |id: &Id| self.nodes[*id as usize].parent == parent && self.name(*id) == name;
        if let Some(id) = self.index.find(hash, is_it) {
            return *id;
        }
        let node = Node {
            parent,
            name: u32::try_from(self.names.len()).expect("memory ends before 4 GiB of names"),
            len: u16::try_from(name.len()).expect("a path has 4,096 bytes at most"),
            uses: 0,
        };
        self.names.extend(name);
        self.nodes[parent as usize].uses += 1;
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as Id
            }
        };
        let (nodes, names, hasher) = (&self.nodes, &self.names, self.hash);
        hash_table::insert(&mut self.index, id, |id| {
            let node = &nodes[*id as usize];
            hasher.of(node.parent, node.name_in(names))
        });
        id
    }

    /// Releases a node that was held. A node that is no longer held and has no child nodes is removed.
    pub fn release(&mut self, mut id: Id) {
        loop {
            let node = &mut self.nodes[id as usize];
            node.uses -= 1;
            if node.uses > 0 {
                break;
            }
            let parent = node.parent;
            let hash = self.hash.of(parent, self.name(id));
            let entry = self.index.find_entry(hash, |other| *other == id);
            entry.expect("every node is in the index").remove();
            self.garbage += usize::from(self.nodes[id as usize].len);
            self.nodes[id as usize].len = 0;
            self.free.push(id);
            if self.recent.1 == id {
                self.recent = (b"/".to_vec(), ROOT);
            }
            id = parent;
        }
        if self.garbage > GARBAGE && self.garbage > self.names.len() / 8 {
            self.collect_garbage();
        }
    }

    /// Compacts the names in place: each moves towards the beginning, so that no second buffer is needed.
    fn collect_garbage(&mut self) {
        let is_used = |id: &Id| self.nodes[*id as usize].len > 0;
        let mut order: Vec<Id> = (0..self.nodes.len() as Id).filter(is_used).collect();
        order.sort_unstable_by_key(|id| self.nodes[*id as usize].name);
        let mut end = 0;
        for id in order {
            let node = &mut self.nodes[id as usize];
            let (from, len) = (node.name as usize, usize::from(node.len));
            self.names.copy_within(from..from + len, end);
            node.name = end as u32;
            end += len;
        }
        self.names.truncate(end);
        self.garbage = 0;
    }

    /// Returns the parent directory of a file. The file must not be the root.
    pub fn parent(&self, id: Id) -> Id {
        self.nodes[id as usize].parent
    }

    /// Returns the last component of a file's path. It is empty for the root.
    pub fn name(&self, id: Id) -> &[u8] {
        self.nodes[id as usize].name_in(&self.names)
    }

    /// Replaces the content of `path` with the path of a file.
    pub fn path(&self, id: Id, path: &mut Vec<u8>) {
        path.clear();
        let mut at = id;
        while at != ROOT {
            path.extend(self.name(at).iter().rev());
            path.push(b'/');
            at = self.nodes[at as usize].parent;
        }
        if id == ROOT {
            path.push(b'/');
        }
        path.reverse();
    }

    /// Returns the files for which `is_listed` holds, sorted by the bytes of their paths.
    pub fn sorted(&self, is_listed: impl Fn(Id) -> bool) -> Vec<Id> {
        let children = Children::of(self, is_listed);
        let mut sorted = Vec::new();
        let mut todo = vec![children.of_directory(ROOT)];
        if children.root_is_listed {
            sorted.push(ROOT);
        }
        while let Some(rest) = todo.last_mut() {
            match rest.split_first() {
                None => _ = todo.pop(),
                Some((entry, others)) => {
                    *rest = others;
                    match entry.as_directory() {
                        Some(id) => todo.push(children.of_directory(id)),
                        None => sorted.push(entry.0),
                    }
                }
            }
        }
        sorted
    }
}

impl Node {
    fn name_in<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        &names[self.name as usize..][..self.len.into()]
    }
}

/// An entry in the sorted content of a directory: a node as a file, or as a directory with content. A node may have both
/// entries, which sort differently, because `/a-b` comes between `/a` and `/a/b`.
#[derive(Clone, Copy)]
struct Entry(u32);

const DIRECTORY: u32 = 1 << 31;

impl Entry {
    fn as_directory(self) -> Option<Id> {
        (self.0 & DIRECTORY != 0).then_some(self.0 & !DIRECTORY)
    }

    fn compare(self, other: Entry, tree: &PathTree) -> Ordering {
        let name = |entry: Entry| tree.name(entry.0 & !DIRECTORY);
        let (a, b) = (name(self), name(other));
        let common = a.len().min(b.len());
        let next = |entry: Entry, name: &[u8]| {
            let slash = entry.as_directory().map(|_| b'/');
            name.get(common).copied().or(slash)
        };
        let behind = || next(self, a).cmp(&next(other, b));
        a[..common].cmp(&b[..common]).then_with(behind)
    }
}

/// The tree from the root down: the sorted entries of each directory.
struct Children {
    entries: Vec<Entry>,
    /// The offset of the first entry of each node. The entries end where those of the next node begin.
    starts: Vec<u32>,
    root_is_listed: bool,
}

impl Children {
    fn of(tree: &PathTree, is_listed: impl Fn(Id) -> bool) -> Children {
        // A listed node needs an entry as a file, and a node with child nodes needs one as a directory.
        let mut starts = vec![0; tree.nodes.len() + 1];
        let mut is_directory = vec![false; tree.nodes.len()];
        let ids = || 1..tree.nodes.len() as Id;
        let is_gone = |id: Id| tree.nodes[id as usize].uses == 0;
        for id in ids().filter(|id| !is_gone(*id)) {
            is_directory[tree.nodes[id as usize].parent as usize] = true;
        }
        let entries_of = |id: Id| {
            let file = is_listed(id).then_some(Entry(id));
            let directory = is_directory[id as usize].then_some(Entry(id | DIRECTORY));
            file.into_iter().chain(directory)
        };
        for id in ids().filter(|id| !is_gone(*id)) {
            let parent = tree.nodes[id as usize].parent as usize;
            starts[parent + 1] += entries_of(id).count() as u32;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut entries = vec![Entry(0); starts[tree.nodes.len()] as usize];
        let mut ends = starts.clone();
        for id in ids().filter(|id| !is_gone(*id)) {
            let end = &mut ends[tree.nodes[id as usize].parent as usize];
            for entry in entries_of(id) {
                entries[*end as usize] = entry;
                *end += 1;
            }
        }
        for range in starts.windows(2) {
            let of_one = &mut entries[range[0] as usize..range[1] as usize];
            of_one.sort_unstable_by(|a, b| a.compare(*b, tree));
        }
        Children {
            entries,
            starts,
            root_is_listed: is_listed(ROOT),
        }
    }

    fn of_directory(&self, id: Id) -> &[Entry] {
        let at = |id: usize| self.starts[id] as usize;
        &self.entries[at(id as usize)..at(id as usize + 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn path(tree: &PathTree, id: Id) -> Vec<u8> {
        let mut path = Vec::new();
        tree.path(id, &mut path);
        path
    }

    /// A path of a few different names, so that paths often share names.
    fn a_path() -> impl Strategy<Value = Vec<u8>> {
        let name = prop::sample::select(vec!["a", "a-b", "a.b", "a0", "b", "\u{e9}"]);
        prop::collection::vec(name, 0..5).prop_map(|names| format!("/{}", names.join("/")).into())
    }

    proptest! {
        #[test]
        fn the_tree_holds_exactly_the_held_paths(steps in prop::collection::vec((a_path(), any::<bool>()), 0..300)) {
            let mut tree = PathTree::default();
            let mut held: BTreeMap<Vec<u8>, Vec<Id>> = BTreeMap::new();
            for (wanted, hold) in steps {
                let ids = held.entry(wanted.clone()).or_default();
                if hold {
                    let id = tree.hold(&wanted);
                    prop_assert_eq!(&path(&tree, id), &wanted);
                    prop_assert!(ids.iter().all(|other| *other == id));
                    ids.push(id);
                } else if let Some(id) = ids.pop() {
                    tree.release(id);
                }
                if tree.garbage % 7 == 0 {
                    tree.collect_garbage();
                }
            }
            held.retain(|_, ids| !ids.is_empty());
            let sorted = tree.sorted(|id| held.values().any(|ids| ids.contains(&id)));
            let paths: Vec<_> = sorted.iter().map(|id| path(&tree, *id)).collect();
            prop_assert_eq!(&paths, &held.keys().cloned().collect::<Vec<_>>());

            for id in held.into_values().flatten() {
                tree.release(id);
            }
            prop_assert_eq!((tree.index.len(), tree.names.len() - tree.garbage), (0, 0));
        }
    }

    /// Returns the highest number of names that collide, for 1,000 names in 2,048 buckets. The lower bits of the hash
    /// choose the bucket, and the upper bits are compared first.
    fn most_that_collide(names: &[Vec<u8>]) -> usize {
        let hash = NameHash::new();
        let hashes: Vec<_> = names.iter().map(|name| hash.of(7, name)).collect();
        let mut most = 0;
        for part in [0, 53] {
            let mut used = vec![0; 2048];
            for hash in &hashes {
                used[(hash >> part) as usize & 2047] += 1;
            }
            most = most.max(used.into_iter().max().unwrap());
        }
        most
    }

    /// Names as real programs make them. The digits that differ may be at any place of a word.
    #[test]
    fn numbered_names_do_not_collide() {
        for (width, prefix) in [
            (60, "f"),
            (8, "file-"),
            (3, "a-very-long-beginning-x"),
            (21, ""),
        ] {
            let names = (0..1000).map(|i| format!("{prefix}{i:0width$}").into_bytes());
            let most = most_that_collide(&names.collect::<Vec<_>>());
            assert!(most < 10, "{most} of 1000 {prefix} names collide");
        }
    }

    /// Names as an attacker would choose them. Each has two words, and the second is such that fxhash returns the same
    /// value for all names. fxhash computes (rotated hash ^ word) * constant.
    #[test]
    fn names_that_collide_in_fxhash_do_not_collide_here() {
        let plain = |words: &[u64]| {
            let mut hasher = FxHasher::default();
            words.iter().for_each(|word| hasher.write_u64(*word));
            hasher.finish()
        };
        let wanted = u64::from_le_bytes(*b"the same");
        let attack = |i: u64| {
            let first = u64::from_le_bytes(*b"name0000") + (i << 32);
            let second = plain(&[first]).rotate_left(5) ^ wanted;
            ([first, second], plain(&[first, second]))
        };
        let made: Vec<_> = (0..1000).map(attack).collect();
        assert!(made.iter().all(|(_, hash)| *hash == made[0].1));
        let name = |words: &[u64; 2]| words.map(u64::to_le_bytes).concat();
        let names: Vec<_> = made.iter().map(|(words, _)| name(words)).collect();
        let most = most_that_collide(&names);
        assert!(most < 10, "{most} of 1000 collide");
    }
}
