//! The set of one container's files, with a hard capacity.
//!
//! At the capacity the file that was used longest ago leaves, by the clock algorithm: each file has a
//! mark that its use sets; a hand goes round, takes marks away, and evicts the first file it finds
//! without one.

use fxhash::FxHasher;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher, RandomState};

struct File {
    path: Box<[u8]>,
    used: bool,
}

pub struct Seen {
    files: Vec<File>,
    hash: PathHash,
    /// Indices into `files`, by hash of the path.
    index: HashTable<u32>,
    /// 0 is unbounded.
    capacity: usize,
    hand: usize,
}

/// What adding a path did.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    Known,
    New,
    /// New, and another file had to leave.
    Evicting,
}

/// fxhash is fast, but the lower half of what it makes depends on the lower halves of what goes in: names that
/// end in numbers meet, and a container that wants to can make names that do. So each word is mixed with a secret
/// first, by a multiplication whose halves are folded together, and what comes out is mixed likewise.
#[derive(Clone, Copy)]
struct PathHash {
    secret: u64,
}

impl PathHash {
    fn new() -> PathHash {
        PathHash {
            secret: RandomState::new().hash_one(0) | 1,
        }
    }

    fn mix(&self, word: u64) -> u64 {
        let product = u128::from(word ^ self.secret.rotate_left(32)) * u128::from(self.secret);
        product as u64 ^ (product >> 64) as u64
    }

    fn of(&self, path: &[u8]) -> u64 {
        let mut hasher = FxHasher::default();
        let (words, rest) = path.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last]) {
            hasher.write_u64(self.mix(u64::from_le_bytes(*word)));
        }
        self.mix(hasher.finish() ^ path.len() as u64)
    }
}

impl Seen {
    pub fn new(capacity: usize) -> Seen {
        Seen {
            files: Vec::new(),
            hash: PathHash::new(),
            index: HashTable::new(),
            capacity,
            hand: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(|file| &*file.path)
    }

    pub fn add(&mut self, path: &[u8]) -> Added {
        let hash = self.hash;
        let hash_of = |files: &[File], at: u32| hash.of(&files[at as usize].path);
        let found = self
            .index
            .find(hash.of(path), |at| *self.files[*at as usize].path == *path);
        if let Some(at) = found {
            self.files[*at as usize].used = true;
            return Added::Known;
        }
        let file = File {
            path: path.into(),
            used: false,
        };
        let (at, added) = if self.capacity == 0 || self.files.len() < self.capacity {
            self.files.push(file);
            (self.files.len() - 1, Added::New)
        } else {
            let at = self.make_room();
            let old = self
                .index
                .find_entry(hash_of(&self.files, at as u32), |i| *i as usize == at);
            old.expect("every file is in the index").remove();
            self.files[at] = file;
            (at, Added::Evicting)
        };
        let files = &self.files;
        self.index
            .insert_unique(hash.of(path), at as u32, |at| hash_of(files, *at));
        added
    }

    /// Lets go of the files for which `keep` does not hold.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        self.files.retain(|file| keep(&file.path));
        self.index.clear();
        self.hand = 0;
        let (files, hash) = (&self.files, self.hash);
        for (at, file) in files.iter().enumerate() {
            self.index
                .insert_unique(hash.of(&file.path), at as u32, |at| {
                    hash.of(&files[*at as usize].path)
                });
        }
    }

    /// The place of the file that has to leave.
    fn make_room(&mut self) -> usize {
        loop {
            let at = self.hand;
            self.hand = (at + 1) % self.files.len();
            if !std::mem::take(&mut self.files[at].used) {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(seen: &Seen) -> Vec<&str> {
        let mut paths: Vec<_> = seen
            .iter()
            .map(|p| std::str::from_utf8(p).unwrap())
            .collect();
        paths.sort_unstable();
        paths
    }

    #[test]
    fn without_a_capacity_everything_stays() {
        let mut seen = Seen::new(0);
        for i in 0..10_000 {
            assert_eq!(seen.add(format!("/f/{i}").as_bytes()), Added::New);
        }
        for i in 0..10_000 {
            assert_eq!(seen.add(format!("/f/{i}").as_bytes()), Added::Known);
        }
        assert_eq!(seen.len(), 10_000);
    }

    #[test]
    fn at_the_capacity_what_was_used_longest_ago_leaves() {
        let mut seen = Seen::new(3);
        for path in ["/a", "/b", "/c"] {
            assert_eq!(seen.add(path.as_bytes()), Added::New);
        }
        assert_eq!(seen.add(b"/a"), Added::Known);
        assert_eq!(seen.add(b"/d"), Added::Evicting);
        assert_eq!(paths(&seen), ["/a", "/c", "/d"]);
        assert_eq!(seen.add(b"/b"), Added::Evicting);
        assert_eq!(paths(&seen), ["/a", "/b", "/d"]);
    }

    /// The names of real programs: what differs stands at any place of a word.
    #[test]
    fn numbered_names_do_not_meet() {
        let hash = PathHash::new();
        for (width, prefix) in [
            (60, "/f/"),
            (8, "/data/file-"),
            (3, "/very/long/directory/x"),
            (21, ""),
        ] {
            let names = (0..1000).map(|i| format!("{prefix}{i:0width$}"));
            let hashes: Vec<_> = names.map(|name| hash.of(name.as_bytes())).collect();
            // A set of 1,000 has 2,048 buckets: the lower bits choose one, the upper ones are compared first.
            for (what, part) in [("lower", 0), ("upper", 53)] {
                let mut used = vec![0; 2048];
                for hash in &hashes {
                    used[(hash >> part) as usize & 2047] += 1;
                }
                let most = used.iter().max().unwrap();
                assert!(
                    *most < 10,
                    "{most} of 1000 {prefix} names meet in the {what} bits"
                );
            }
        }
    }

    #[test]
    fn what_is_not_kept_is_new_again() {
        let mut seen = Seen::new(2);
        seen.add(b"/a");
        seen.add(b"/b");
        seen.retain(|path| path != b"/a");
        assert_eq!(paths(&seen), ["/b"]);
        assert_eq!(seen.add(b"/b"), Added::Known);
        assert_eq!(seen.add(b"/a"), Added::New);
    }

    #[test]
    fn a_capacity_of_one_holds_the_last() {
        let mut seen = Seen::new(1);
        for i in 0..1000 {
            seen.add(format!("/{i}").as_bytes());
        }
        assert_eq!(paths(&seen), ["/999"]);
    }
}
