// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting a command inside a cgroup, and the call by which the BPF programs recognise snoop.

use super::check;
use super::signals::signal_set;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the command enter a cgroup before its first instruction, with no signal blocked. The child writes "0", which
/// means itself, into the open file `cgroup.procs`.
pub fn start_in_cgroup(command: &mut Command, procs: OwnedFd) {
    let nothing_blocked = signal_set(&[]);
    let join = move || {
        // SAFETY: the calls read one set and one byte; both are allowed between fork and exec.
        unsafe {
            check(libc::sigprocmask(
                libc::SIG_SETMASK,
                &nothing_blocked,
                std::ptr::null_mut(),
            ))?;
            match libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) {
                1 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        }
    };
    // SAFETY: the closure only calls sigprocmask(2) and write(2), which are safe after fork.
    unsafe { command.pre_exec(join) };
}

/// Makes the look-up by which the programs at the resolver's hooks recognise snoop: "/" relative to a descriptor that cannot
/// exist. The path is absolute, so that the kernel does not look at the descriptor.
pub fn own_lookup(cookie: u64) {
    let directory = cookie as i32 | i32::MIN;
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path ends with a NUL, and the structure has room for what the call writes. If a filter refuses the
    // call, the programs do not answer, which the caller notices.
    unsafe {
        libc::syscall(
            libc::SYS_newfstatat,
            directory,
            c"/".as_ptr(),
            stat.as_mut_ptr(),
            0,
        )
    };
}

/// Makes the call by which the BPF programs recognise snoop: getcpu(2) with a cookie as the third argument, which the
/// kernel does not use.
pub fn own_call(cookie: u64) {
    // SAFETY: both addresses may be null, and the kernel does not look at the third argument. The call cannot
    // fail. If a filter refuses it, the programs do not answer, which the caller notices.
    unsafe { libc::syscall(libc::SYS_getcpu, 0usize, 0usize, cookie) };
}
