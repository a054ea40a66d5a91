// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chooses among the files that reports list by how they were used.

use crate::files::kinds::Kinds;
use crate::files::path_tree::PathTree;
use crate::report::detail::{Detailed, Use};
use crate::report::reader::Paths;

/// The files that reports list, with all that is said of how each was used.
#[derive(Default)]
pub struct Choice {
    pub tree: PathTree,
    /// What is known of each file, by its id. `None` if no report lists it.
    files: Vec<Option<Listed>>,
}

#[derive(Clone, Copy, Default)]
struct Listed {
    kinds: Kinds,
    /// A container used the file, and nothing says how.
    is_doubtful: bool,
}

impl Choice {
    /// Adds the files of a report, whose paths are in the tree.
    pub fn add(&mut self, report: &Detailed) {
        for used in report.containers.iter().flatten().chain(&report.others) {
            self.add_use(used);
        }
    }

    fn add_use(&mut self, used: &Use) {
        let file = used.file as usize;
        self.files.resize(self.files.len().max(file + 1), None);
        let listed = self.files[file].get_or_insert_default();
        listed.kinds = listed.kinds.and(used.kinds);
        listed.is_doubtful |= used.kinds == Kinds::UNKNOWN;
    }

    /// Returns the files that were used in one of these ways, and those of which nobody knows it. Says what that leaves out.
    pub fn choose(&self, wanted: Kinds) -> (Paths, Vec<String>) {
        let (mut chosen, mut path) = (Paths::default(), Vec::new());
        let (mut all, mut left_out, mut doubtful) = (0, 0, 0);
        for (file, listed) in (0..).zip(&self.files) {
            let Some(listed) = listed else {
                continue;
            };
            all += 1;
            if !listed.is_doubtful && !listed.kinds.has(wanted) {
                left_out += 1;
                continue;
            }
            doubtful += usize::from(!listed.kinds.has(wanted));
            self.tree.path(file, &mut path);
            chosen.insert(path.clone());
        }
        (chosen, notes(wanted, all, left_out, doubtful))
    }
}

fn notes(wanted: Kinds, all: usize, left_out: usize, doubtful: usize) -> Vec<String> {
    if wanted.cover(Kinds::EVERY) {
        return Vec::new();
    }
    let letters: String = wanted.letters().collect();
    let mut notes = vec![format!(
        "-kinds={letters} leaves out {left_out} of {all} files, which were used in other ways only"
    )];
    if doubtful > 0 {
        notes.push(format!(
            "nothing says how {doubtful} of {all} files were used: they count"
        ));
    }
    if !wanted.has(Kinds::LOOKED_AT) && left_out > 0 {
        notes.push(
            "a program may only ask whether a file exists, and fail without it: -kinds=l and the other letters keep such files"
                .into(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn choice(reports: &[Value]) -> Choice {
        let mut choice = Choice::default();
        for report in reports {
            let text = report.to_string();
            let read = Detailed::read(&mut text.as_bytes(), &mut choice.tree).unwrap();
            choice.add(&read);
        }
        choice
    }

    fn chosen(choice: &Choice, kinds: &str) -> (String, Vec<String>) {
        let (chosen, notes) = choice.choose(Kinds::parse(kinds).unwrap());
        let mut chosen: Vec<_> = chosen
            .into_iter()
            .map(|p| String::from_utf8(p).unwrap())
            .collect();
        chosen.sort();
        (chosen.join(" "), notes)
    }

    #[test]
    fn a_file_counts_if_one_container_used_it_so() {
        let container = |files: &[&str], kinds: &[&str]| json!({"files": files, "kinds": kinds});
        let report =
            |containers: Value| json!({"schema": 2, "files": ["/x"], "containers": containers});
        let choice = choice(&[
            report(json!([
                container(&["/a", "/b", "/c"], &["l", "l", "r"]),
                container(&["/b"], &["x"])
            ])),
            report(json!([
                container(&["/c", "/d", "/l"], &["l", "w", "l"]),
                container(&["/l"], &["l"])
            ])),
        ]);
        assert_eq!(
            chosen(&choice, "lrwxm"),
            ("/a /b /c /d /l /x".into(), vec![])
        );
        let (files, notes) = chosen(&choice, "rwxm");
        // No container says how /x was used.
        assert_eq!(files, "/b /c /d /x");
        assert_eq!(
            notes[0],
            "-kinds=rwxm leaves out 2 of 6 files, which were used in other ways only"
        );
        assert_eq!(
            notes[1],
            "nothing says how 1 of 6 files were used: they count"
        );
        assert!(notes[2].starts_with("a program may only ask whether a file exists"));
        let (files, notes) = chosen(&choice, "lw");
        assert_eq!((&files[..], notes.len()), ("/a /b /c /d /l /x", 2));
    }

    #[test]
    fn reports_of_schema_1_leave_nothing_out() {
        let old = json!({"schema": 1, "files": ["/a"], "containers": [{"files": ["/a"]}]});
        let new = json!({"schema": 2, "files": ["/a"], "containers": [{"files": ["/a"], "kinds": ["l"]}]});
        let (files, notes) = chosen(&choice(&[old, new]), "rx");
        assert_eq!((&files[..], notes.len()), ("/a", 2));
    }
}
