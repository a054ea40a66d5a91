// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rooms of src/lib.rs: each uses only rooms above it in that list.

use std::fs;
use std::path::{Path, PathBuf};

/// A line of code that names a room, in the file of a room.
#[derive(Debug, PartialEq)]
struct Use {
    file: String,
    line: usize,
    used: String,
}

/// Returns the modules that lib.rs lists, in the same order.
fn rooms(lib: &str) -> Vec<&str> {
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect()
}

/// Returns the room to which a file in src/ belongs.
fn room_of(file: &str) -> &str {
    let below = file.strip_prefix("src/").expect("a file in src/");
    let name = below.split('/').next().expect("there is a first part");
    name.strip_suffix(".rs").unwrap_or(name)
}

/// Returns each `crate::ROOM` in the code. Comments may name any room.
fn uses(file: &str, text: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().expect("there is a first part");
        for rest in code.split("crate::").skip(1) {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            found.push(Use {
                file: file.into(),
                line: number,
                used: rest[..end].into(),
            });
        }
    }
    found
}

/// Returns the uses of rooms below the using file's own room, and of names that are not rooms.
fn upward(rooms: &[&str], uses: Vec<Use>) -> Vec<Use> {
    let position = |name: &str| rooms.iter().position(|room| *room == name);
    let is_upward = |one: &Use| {
        let user = position(room_of(&one.file)).expect("each file is in a room that lib.rs lists");
        position(&one.used).is_none_or(|used| used > user)
    };
    uses.into_iter().filter(is_upward).collect()
}

fn source_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn a_room_uses_only_rooms_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lib = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let rooms = rooms(&lib);
    let mut files = Vec::new();
    source_files(&root.join("src"), &mut files);
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap();
        if !matches!(name, "src/lib.rs" | "src/main.rs") {
            all.extend(uses(name, &fs::read_to_string(&file).unwrap()));
        }
    }
    let upward: Vec<_> = upward(&rooms, all)
        .iter()
        .map(|one| format!("{}:{} uses {}", one.file, one.line, one.used))
        .collect();
    assert!(
        upward.is_empty(),
        "these use rooms that src/lib.rs lists below their own:\n{}",
        upward.join("\n")
    );
}

#[test]
fn a_use_of_a_lower_room_is_found() {
    let rooms = rooms("/// Low.\npub mod low;\n\npub mod high;\nmod private;\n");
    assert_eq!(rooms, ["low", "high"]);
    let found = |file: &str, text: &str| -> Vec<usize> {
        let found = upward(&rooms, uses(file, text));
        found.iter().map(|one| one.line).collect()
    };
    assert_eq!(found("src/high.rs", "use crate::low::x;\n"), [0; 0]);
    assert_eq!(found("src/low.rs", "use crate::low::x;\n"), [0; 0]);
    assert_eq!(found("src/low.rs", "use std::io;\nuse crate::high;\n"), [2]);
    assert_eq!(found("src/low/part.rs", "crate::high::f();\n"), [1]);
    assert_eq!(found("src/low.rs", "//! See [`crate::high`].\n"), [0; 0]);
    // A `use` of several rooms at once is refused, because the test could not tell the rooms apart.
    assert_eq!(found("src/high.rs", "use crate::{low, high};\n"), [1]);
}
