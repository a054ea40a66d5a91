// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports that were written earlier, or by anybody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use snoop::files::kinds::Kinds;
use snoop::files::path_tree::PathTree;
use snoop::files::usage::Usage;
use snoop::report::metadata::Metadata;
use snoop::report::previous::PreviousReport;
use snoop::report::reader::FileLists;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    let mut listed = FileLists::default();
    if listed.add(&mut &bytes[..]).is_ok() {
        listed.choose(Kinds::EVERY);
        assert!(listed.files.iter().all(|path| path.starts_with(b"/")));
    }
    let Some(files) = resumed(bytes) else {
        return;
    };
    let mut tree = PathTree::default();
    for (_, path, _) in &files {
        tree.hold(path);
    }
    // Another layout, and the fields in another order: the same files.
    let report: Value = serde_json::from_slice(bytes).expect("it was read before");
    assert_eq!(resumed(report.to_string().as_bytes()), Some(files));
});

/// A file with which a snoop goes on: the place of its container, its path and its usage.
type Resumed = (usize, Vec<u8>, Usage);

/// The files with which a snoop goes on, if it goes on with the report.
fn resumed(bytes: &[u8]) -> Option<Vec<Resumed>> {
    let mut file = Cursor::new(bytes);
    let earlier = PreviousReport::read(&mut file, &Metadata::default(), |_| true).ok()?;
    let mut files = Vec::new();
    let each = |at, path: &[u8], usage| files.push((at, path.to_vec(), usage));
    earlier.files(&mut file, each).expect("it was read before");
    let counted: u64 = earlier.containers.iter().map(|c| c.unique_files).sum();
    assert_eq!(files.len() as u64, counted);
    Some(files)
}
