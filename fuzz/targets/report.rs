//! A report that somebody hands in.
#![no_main]

use snoop::reader::Listed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut listed = Listed::default();
    if listed.add(bytes).is_ok() {
        assert!(listed.files.iter().all(|path| path.starts_with(b"/")));
    }
});
