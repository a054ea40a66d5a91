// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random numbers: getrandom(2).

use std::io;

/// Returns a random number from the kernel.
pub fn random() -> io::Result<u64> {
    let mut value = 0u64;
    // SAFETY: the kernel writes eight bytes at most.
    match unsafe { libc::getrandom((&raw mut value).cast(), 8, 0) } {
        8 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}
