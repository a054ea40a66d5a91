// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop diff`: the files that only one of two reports lists, by how they were used.

use crate::error::{FAILED, Result, USAGE, cannot};
use crate::files::kinds::Kinds;
use crate::files::path_tree::PathTree;
use crate::report::detail::{Detailed, PathOrder, Use, combine};
use crate::report::schema::encode_name;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{self, Write};

#[derive(Debug, PartialEq)]
pub struct Diff {
    /// The two reports.
    pub reports: [OsString; 2],
    pub is_json: bool,
}

/// A file that only one of the reports lists.
struct Only {
    path: Vec<u8>,
    kinds: Kinds,
}

impl Diff {
    /// Prints the difference, and returns the exit status: 0 if there is none, else 1. Any trouble is 2, as for diff(1).
    pub fn print(&self, out: &mut dyn Write) -> Result<u8> {
        let mut tree = PathTree::default();
        let mut read = |name| -> Result<Vec<Use>> {
            let (report, _) = Detailed::open(name, &mut tree)?;
            let mut uses = report.others;
            uses.extend(report.containers.into_iter().flatten());
            Ok(combine(&tree, uses))
        };
        let [a, b] = &self.reports;
        let (a, b) = (read(a)?, read(b)?);
        let only = [only(&tree, &a, &b), only(&tree, &b, &a)];
        let written = match self.is_json {
            true => self.json(&only, out),
            false => self.text(&only, out),
        };
        written
            .and_then(|()| out.flush())
            .map_err(|e| cannot("write to standard output", e).with_status(USAGE))?;
        Ok(match only.iter().all(Vec::is_empty) {
            true => 0,
            false => FAILED,
        })
    }

    fn text(&self, only: &[Vec<Only>; 2], out: &mut dyn Write) -> io::Result<()> {
        for (name, only) in self.reports.iter().zip(only) {
            if only.is_empty() {
                continue;
            }
            let s = if only.len() == 1 { "" } else { "s" };
            writeln!(out, "only in {}: {} file{s}", name.display(), only.len())?;
            for file in only {
                let path = encode_name(&file.path);
                let (kinds, path) = (file.kinds.names(), path.escape_debug());
                writeln!(out, "  {kinds:<24} {path}")?;
            }
        }
        Ok(())
    }

    fn json(&self, only: &[Vec<Only>; 2], out: &mut dyn Write) -> io::Result<()> {
        let file = |file: &Only| json!({"path": encode_name(&file.path), "kinds": file.kinds.letters().collect::<String>()});
        let files = |only: &[Only]| only.iter().map(file).collect::<Value>();
        let document = json!({"only_in_a": files(&only[0]), "only_in_b": files(&only[1])});
        writeln!(out, "{document:#}")
    }
}

/// Returns the files that are in `these` and not in `those`. What was executed comes first and what was only looked at
/// last; files of the same kinds are sorted by path.
fn only(tree: &PathTree, these: &[Use], those: &[Use]) -> Vec<Only> {
    let mut known: Vec<_> = those.iter().map(|used| used.file).collect();
    known.sort_unstable();
    let new = these
        .iter()
        .filter(|used| known.binary_search(&used.file).is_err());
    let mut new: Vec<_> = new.collect();
    let order = PathOrder::of(tree, new.iter().map(|used| used.file));
    new.sort_by_key(|used| (rank(used.kinds), order.place(used.file)));
    new.into_iter()
        .map(|used| {
            let mut path = Vec::new();
            tree.path(used.file, &mut path);
            let kinds = used.kinds;
            Only { path, kinds }
        })
        .collect()
}

/// The strongest kind counts, and then the others.
fn rank(kinds: Kinds) -> [bool; 5] {
    let order = [
        Kinds::EXECUTED,
        Kinds::MAPPED,
        Kinds::WRITTEN,
        Kinds::READ,
        Kinds::LOOKED_AT,
    ];
    order.map(|kind| !kinds.has(kind))
}
