// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's type information.
#![no_main]

use std::io::Cursor;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = snoop::bpf::layout::layout(&mut Cursor::new(bytes), snoop::bpf::hooks::Buffer::Ring);
});
