// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that is shared with the kernel: mmap(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A mapping of memory that is shared with the kernel.
pub struct Mapping {
    at: *mut u8,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of the object that `fd` refers to, from `offset` on.
    pub fn new(fd: BorrowedFd, offset: usize, len: usize, writable: bool) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { at: at.cast(), len })
    }

    /// Returns the address `offset` bytes into the mapping, which must lie inside it.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len, "offset past the mapping");
        // SAFETY: the offset lies inside the mapping.
        unsafe { self.at.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length; no reference into it outlives its owner.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}

/// Returns the size of a page of memory.
pub fn page_size() -> usize {
    // SAFETY: no pointers.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}
