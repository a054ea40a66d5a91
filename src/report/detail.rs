// SPDX-License-Identifier: MIT OR Apache-2.0
//! What reports say about each file of each container: how it was used, and when first. Several reports may share a tree of
//! paths.

use crate::archive::digest::Digest;
use crate::error::Result;
use crate::files::kinds::Kinds;
use crate::files::path_tree::{Id, PathTree};
use crate::files::usage::{Usage, UsageList};
use crate::report::reader;
use crate::report::scan::{self, Column, Element, Owner};
use crate::report::schema::field;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::Read;

/// The time from the start of a container to the first use of a file, as [`Usage::first`] has it. An unknown time sorts after
/// all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirstUse(u64);

impl FirstUse {
    pub const UNKNOWN: FirstUse = FirstUse(u64::MAX);

    fn known(self) -> Option<u64> {
        (self != FirstUse::UNKNOWN).then_some(self.0)
    }
}

/// A file that a container used. It is smaller than a file with its [`Usage`], because there may be millions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use {
    pub file: Id,
    pub kinds: Kinds,
    pub first: FirstUse,
}

impl Use {
    fn new(file: Id, usage: Usage) -> Use {
        Use {
            file,
            kinds: usage.kinds,
            first: usage.first.map_or(FirstUse::UNKNOWN, FirstUse),
        }
    }

    pub fn usage(&self) -> Usage {
        Usage {
            kinds: self.kinds,
            first: self.first.known(),
        }
    }
}

/// A report with what it says about each file.
#[derive(Debug)]
pub struct Detailed {
    /// The report with empty lists.
    pub head: Value,
    /// The files of each container, in the order of the report.
    pub containers: Vec<Vec<Use>>,
    /// The files that the report lists, but for none of its containers.
    pub others: Vec<Use>,
}

/// The lists of a container. In which order they come does not matter.
#[derive(Default)]
struct Lists {
    files: Vec<Id>,
    usages: UsageList,
}

impl Detailed {
    /// Reads a report by name; `-` is standard input. Returns the digest of its content too.
    pub fn open(name: &OsStr, tree: &mut PathTree) -> Result<(Detailed, Digest)> {
        reader::open(name, |input| Detailed::read(input, tree))
    }

    /// Reads a report. The error says why this is not one.
    pub fn read(
        report: &mut dyn Read,
        tree: &mut PathTree,
    ) -> std::result::Result<Detailed, String> {
        let (mut all, mut containers) = (Lists::default(), Vec::<Lists>::new());
        let mut each = |owner, element: Element| {
            let lists = match owner {
                Owner::All => &mut all,
                Owner::Container(at) => {
                    containers.resize_with(containers.len().max(at + 1), Lists::default);
                    &mut containers[at]
                }
            };
            match element {
                Element::File(path) => lists.files.push(tree.hold(path)),
                Element::Kinds(kinds) => lists.usages.push_kinds(kinds),
                Element::FirstUse(first) => lists.usages.push_first(first),
            }
        };
        let scanned = scan::scan(report, &mut each)?;
        let head = reader::report(scanned.head.as_bytes())?;
        if scanned.len(Owner::All, Column::Files).is_none() {
            return Err("it has no list of files".into());
        }
        let entries = head[field::CONTAINERS].as_array().map_or(0, Vec::len);
        containers.resize_with(entries, Lists::default);
        for at in 0..entries {
            let len = |column| scanned.len(Owner::Container(at), column);
            let files = len(Column::Files).unwrap_or(0);
            for column in [Column::Kinds, Column::FirstUses] {
                if len(column).is_some_and(|len| len != files) {
                    return Err(format!(
                        "{column} of a container is not as long as its list of files"
                    ));
                }
            }
        }
        let mut ids: Vec<_> = containers
            .iter()
            .flat_map(|lists| &lists.files)
            .copied()
            .collect();
        ids.sort_unstable();
        all.files.retain(|file| ids.binary_search(file).is_err());
        Ok(Detailed {
            head,
            containers: containers.into_iter().map(Lists::uses).collect(),
            others: all.uses(),
        })
    }
}

impl Lists {
    fn uses(self) -> Vec<Use> {
        let files = self.files.iter().enumerate();
        files
            .map(|(at, file)| Use::new(*file, self.usages.get(at)))
            .collect()
    }
}

/// The order of files by the bytes of their paths.
pub struct PathOrder {
    pub sorted: Vec<Id>,
    /// The place of each file in `sorted`.
    places: Vec<u32>,
}

impl PathOrder {
    /// Sorts files, which may be listed several times.
    pub fn of(tree: &PathTree, files: impl Iterator<Item = Id>) -> PathOrder {
        let mut is_listed = Vec::new();
        for file in files {
            let len = is_listed.len().max(file as usize + 1);
            is_listed.resize(len, false);
            is_listed[file as usize] = true;
        }
        let sorted = tree.sorted(|id| is_listed.get(id as usize) == Some(&true));
        let mut places = vec![0; is_listed.len()];
        for (place, file) in (0..).zip(&sorted) {
            places[*file as usize] = place;
        }
        PathOrder { sorted, places }
    }

    /// Returns the place of a file that is among those that were sorted.
    pub fn place(&self, file: Id) -> u32 {
        self.places[file as usize]
    }
}

/// Makes one list of the files that several containers used: with all kinds, the median of the first uses, and each file
/// once. The list is in the order of first use, with different times, as in a container's report. Files whose first use is
/// unknown come last, sorted by path.
pub fn combine(tree: &PathTree, mut uses: Vec<Use>) -> Vec<Use> {
    uses.sort_unstable_by_key(|used| (used.file, used.first));
    let mut combined: Vec<_> = uses.chunk_by(|a, b| a.file == b.file).map(one).collect();
    drop(uses);
    let order = PathOrder::of(tree, combined.iter().map(|used| used.file));
    combined.sort_unstable_by_key(|used| (used.first, order.place(used.file)));
    let mut next = 0;
    for used in &mut combined {
        if let Some(ticks) = used.first.known() {
            used.first = FirstUse(ticks.max(next));
            next = ticks.max(next) + 1;
        }
    }
    combined
}

/// Makes one use of several uses of a file, which are sorted by time.
fn one(uses: &[Use]) -> Use {
    let kinds = uses.iter().map(|used| used.kinds);
    let known = uses.partition_point(|used| used.first != FirstUse::UNKNOWN);
    let first = match known {
        0 => FirstUse::UNKNOWN,
        // With an even number of times, the median is the mean of the two in the middle.
        n => FirstUse(uses[(n - 1) / 2].first.0.midpoint(uses[n / 2].first.0)),
    };
    Use {
        file: uses[0].file,
        kinds: kinds.fold(Kinds::UNKNOWN, Kinds::and),
        first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(report: &Value) -> std::result::Result<(PathTree, Detailed), String> {
        let mut tree = PathTree::default();
        let read = Detailed::read(&mut report.to_string().as_bytes(), &mut tree)?;
        Ok((tree, read))
    }

    /// Returns the path, the letters of the kinds, and the time of each.
    fn shown(tree: &PathTree, uses: &[Use]) -> Vec<String> {
        let one = |used: &Use| {
            let mut path = Vec::new();
            tree.path(used.file, &mut path);
            let path = String::from_utf8(path).unwrap();
            let letters: String = used.kinds.letters().collect();
            format!("{path} {letters} {:?}", used.usage().first)
        };
        uses.iter().map(one).collect()
    }

    #[test]
    fn the_arrays_of_a_container_belong_to_its_files() {
        let report = json!({"schema": 2, "files": ["/a", "/b", "/c"], "containers": [
            {"kinds": ["lr", "x"], "first_use_ms": [12.5, 0.07], "files": ["/a", "/b"]},
            {"first_use_ms": [null], "files": ["/a"]},
            {"files": []},
        ]});
        let (tree, read) = read(&report).unwrap();
        let [first, second, third] = &read.containers[..] else {
            panic!("{read:?}");
        };
        assert_eq!(shown(&tree, first), ["/a lr Some(1250)", "/b x Some(7)"]);
        assert_eq!(shown(&tree, second), ["/a  None"]);
        assert!(third.is_empty());
        assert_eq!(shown(&tree, &read.others), ["/c  None"]);
    }

    #[test]
    fn arrays_that_do_not_fit_are_refused() {
        for (name, array) in [("kinds", json!(["l"])), ("first_use_ms", json!([1, 2, 3]))] {
            let container = json!({"files": ["/a", "/b"], name: array});
            let report = json!({"schema": 2, "files": [], "containers": [container]});
            let said = read(&report).map(|_| ()).unwrap_err();
            let expected = format!("{name} of a container is not as long as its list of files");
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn several_containers_become_one() {
        let container = |files: Value, kinds: Value, times: Value| json!({"files": files, "kinds": kinds, "first_use_ms": times});
        let report = json!({"schema": 2, "files": [], "containers": [
            container(json!(["/a", "/b", "/c"]), json!(["l", "r", ""]), json!([1, 9, null])),
            container(json!(["/a", "/b"]), json!(["x", ""]), json!([5, 2])),
            container(json!(["/a", "/d"]), json!(["", "m"]), json!([30, 5])),
        ]});
        let (tree, read) = read(&report).unwrap();
        let combined = combine(&tree, read.containers.concat());
        let expected = [
            "/a lx Some(500)",
            "/d m Some(501)",
            "/b r Some(550)",
            "/c  None",
        ];
        assert_eq!(shown(&tree, &combined), expected);
    }
}
