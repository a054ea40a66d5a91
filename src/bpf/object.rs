// SPDX-License-Identifier: MIT OR Apache-2.0
//! The compiled programs, which are part of this binary.

use crate::bpf::hooks::{Buffer, Rung};
use crate::bpf::maps::number_at_start;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// The compiled programs, packed by build.rs.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/snoop.bpf.o.deflate"));
static RESOLVER_OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/resolver.bpf.o.deflate"));
static LEGACY_OBJECT: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/snoop.legacy.bpf.o.deflate"));

/// An unpacked object.
pub(crate) struct Object {
    /// The ELF reader looks at the bytes as if they were structures of eight-byte numbers.
    words: Vec<u64>,
    len: usize,
}

impl Object {
    /// Returns the programs of a rung that send their records through this buffer.
    pub(crate) fn of(rung: Rung, buffer: Buffer) -> Object {
        Object::unpack(match (rung, buffer) {
            (Rung::Resolver, _) => RESOLVER_OBJECT,
            (Rung::Syscall, Buffer::Ring) => OBJECT,
            (Rung::Syscall, Buffer::Perf) => LEGACY_OBJECT,
        })
    }

    fn unpack(packed: &[u8]) -> Object {
        let (len, block) = packed.split_at(8);
        let mut bytes = vec![0; number_at_start(len) as usize];
        let mut decompressor = Box::new(DecompressorOxide::new());
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, _, n) = decompress(&mut decompressor, block, &mut bytes, 0, flags);
        assert!(status == TINFLStatus::Done && n == bytes.len());
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        Object {
            words,
            len: bytes.len(),
        }
    }

    #[allow(unsafe_code)]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the words hold at least `len` initialised bytes, and the slice borrows them.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }
}
