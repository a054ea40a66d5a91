// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters of syscalls: seccomp(2).

use super::check;
use std::io;

/// Installs the filter, which decides about every later syscall of this process. It also sets no_new_privs, so that
/// programs that the process executes gain no privileges.
pub fn filter_syscalls(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the given number of instructions, and checks them.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let mode = libc::SECCOMP_MODE_FILTER;
        check(libc::prctl(libc::PR_SET_SECCOMP, mode, &program)).map(|_| ())
    }
}
