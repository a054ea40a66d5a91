//! Reports that were written earlier, or by anybody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snoop::metadata::Metadata;
use snoop::reader::Listed;
use snoop::resume::Earlier;
use snoop::tree::Tree;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    let mut listed = Listed::default();
    if listed.add(bytes).is_ok() {
        assert!(listed.files.iter().all(|path| path.starts_with(b"/")));
    }
    let mut file = Cursor::new(bytes);
    if let Ok(earlier) = Earlier::read(&mut file, &Metadata::default(), |_| true) {
        let mut tree = Tree::default();
        let listed = earlier.files(&mut file, |_, path| {
            tree.hold(path);
        });
        listed.expect("it was read before");
    }
});
