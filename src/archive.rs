// SPDX-License-Identifier: MIT OR Apache-2.0
//! Archives as streams: tar, what compresses them, and digests. Nothing is unpacked, and no content is kept.

pub mod compression;
pub mod digest;
pub mod tar;

use std::io;

/// An error about what an archive holds.
pub(crate) fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}
