// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only module that calls libc. Each submodule holds the calls of one subject. Descriptors are owned types.

#[allow(unsafe_code)]
pub mod capabilities;
pub mod confinement;
#[allow(unsafe_code)]
pub mod epoll;
#[allow(unsafe_code)]
pub mod files;
#[allow(unsafe_code)]
pub mod landlock;
#[allow(unsafe_code)]
pub mod limits;
#[allow(unsafe_code)]
pub mod mapping;
#[cfg(feature = "short-copies")]
#[allow(unsafe_code)]
mod memcpy;
#[allow(unsafe_code)]
pub mod perf_event;
#[allow(unsafe_code)]
pub mod process;
#[allow(unsafe_code)]
pub mod random;
pub mod replace;
pub mod sandbox;
#[allow(unsafe_code)]
pub mod seccomp;
#[allow(unsafe_code)]
pub mod signals;
#[allow(unsafe_code)]
pub mod terminal;
#[allow(unsafe_code)]
pub mod timer;

use std::io;

/// Converts the return value of a libc call into a result. -1 means that errno has the error.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        n => Ok(n),
    }
}
