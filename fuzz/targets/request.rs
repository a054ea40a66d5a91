// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a client of the listener sends.
#![no_main]

use snoop::http::request::{Parsed, parse};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Parsed::Complete(request) = parse(bytes) {
        // It becomes part of a log line.
        assert!(request.path.starts_with('/') && !request.path.contains(['\r', '\n', '\0']));
    }
});
