// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the ring buffer hands out.
#![no_main]

use snoop::bpf::wire::Record;
use snoop::collect::access_paths::AccessPaths;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(event) = Record::decode(bytes) else {
        return;
    };
    let named = AccessPaths::of(&event);
    for path in [named.requested(), named.real()].into_iter().flatten() {
        assert_eq!(path[0], b'/');
        let mut names = path[1..].split(|b| *b == b'/');
        assert!(path == b"/" || names.all(|name| !name.is_empty()));
    }
});
