// SPDX-License-Identifier: MIT OR Apache-2.0
//! bpf(2) itself: its commands, and the one place that makes the call.

use libc::c_int;
use std::io;
use std::mem;
use std::os::fd::{FromRawFd, OwnedFd};

/// Commands of bpf(2): `linux/bpf.h`, `enum bpf_cmd`.
#[derive(Clone, Copy)]
pub(crate) enum Command {
    MapCreate = 0,
    MapLookupElem = 1,
    MapUpdateElem = 2,
    MapDeleteElem = 3,
    MapGetNextKey = 4,
    ProgLoad = 5,
    ObjGetInfoByFd = 15,
    RawTracepointOpen = 17,
    BtfLoad = 18,
    MapFreeze = 22,
    LinkCreate = 28,
    IterCreate = 33,
}

/// The one call of bpf(2). The kernel takes an attribute of any length as long as what it does not
/// know is zero, so each command has a structure of its own that ends with its last member.
///
/// # Safety
/// `T` must be the attribute of `command`, and the pointers in it must be valid as bpf(2) says.
pub(crate) unsafe fn bpf<T>(command: Command, attr: &mut T) -> c_int {
    // SAFETY: the attribute is a live structure of the stated size; the caller vouches for the rest.
    unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as c_int,
            attr as *mut T,
            mem::size_of::<T>(),
        ) as c_int
    }
}

/// Attribute of the commands on one element; for MAP_GET_NEXT_KEY `value` is the next key.
#[repr(C)]
pub(crate) struct ElemAttr {
    pub(crate) map_fd: u32,
    pub(crate) pad: u32,
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) flags: u64,
}

/// Returns the descriptor that a call of bpf(2) returned, or the reason why it failed.
///
/// # Safety
/// Nobody else may own it.
pub(crate) unsafe fn owned(fd: i32) -> io::Result<OwnedFd> {
    match fd {
        0.. => {
            // SAFETY: the caller vouches for it.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        }
        _ => Err(io::Error::last_os_error()),
    }
}
