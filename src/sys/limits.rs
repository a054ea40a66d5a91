// SPDX-License-Identifier: MIT OR Apache-2.0
//! The resources that this process has used, and those it may use: getrusage(2), getrlimit(2).

use super::check;
use std::io;
use std::mem;
use std::time::Duration;

/// The resources that this process has used, and those it may use.
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// How many descriptors the process may have open.
    pub max_fds: u64,
}

/// Looks up the usage of this process.
pub fn usage() -> Usage {
    // SAFETY: all-zero is a value of both structures of integers; the kernel fills them in.
    let (usage, limit) = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        let mut limit: libc::rlimit = mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        (usage, limit)
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    Usage {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        max_fds: limit.rlim_cur,
    }
}

/// Lets this process lock any amount of memory.
pub fn lift_memory_lock() -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is alive during the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }).map(|_| ())
}

/// Makes a write beyond the file size limit fail with an error. By default such a write ends the process: setrlimit(2).
pub fn outlive_file_size_limit() {
    // SAFETY: there is no handler, and the standard library does not rely on this signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
