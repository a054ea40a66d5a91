// SPDX-License-Identifier: MIT OR Apache-2.0
//! A ring buffer in shared memory that holds anything: the position of its end, then the data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snoop::ring::Ring;
use snoop::sys::files::memory_file;
use snoop::sys::mapping::page_size;
use std::fs::File;
use std::os::unix::fs::FileExt;

const SIZE: usize = 4096;

thread_local! {
    static MEMORY: File = {
        let file = memory_file().unwrap();
        file.set_len((2 * page_size() + SIZE) as u64).unwrap();
        file
    };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((end, data)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let end = u64::from(u32::from_le_bytes(*end));
    let mut all = [0; SIZE];
    let len = data.len().min(SIZE);
    all[..len].copy_from_slice(&data[..len]);
    MEMORY.with(|file| {
        let page = page_size() as u64;
        file.write_all_at(&[0; 8], 0).unwrap();
        file.write_all_at(&end.to_ne_bytes(), page).unwrap();
        file.write_all_at(&all, 2 * page).unwrap();
        let mut ring = Ring::new(file, SIZE).unwrap();
        while ring.read(64, |record| {
            let sum: u64 = record.iter().map(|byte| u64::from(*byte)).sum();
            std::hint::black_box(sum);
        }) > 0
        {}
        assert!(ring.position() as u64 <= end);
    });
});
