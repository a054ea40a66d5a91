// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that arrive through a descriptor, and signals that end the process at once.

use super::check;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A descriptor that receives signals. They stay blocked for the process.
pub struct SignalFd(OwnedFd);

/// A signal that was received.
pub struct Signal {
    pub number: i32,
    /// Whether a process sent the signal. Otherwise the kernel sent it, for example because of a key on the terminal.
    pub by_process: bool,
}

impl SignalFd {
    /// Blocks these signals and receives them from now on.
    pub fn new(signals: &[i32]) -> io::Result<SignalFd> {
        let set = signal_set(signals);
        // SAFETY: both calls read the set.
        let fd = unsafe {
            check(libc::sigprocmask(
                libc::SIG_BLOCK,
                &set,
                std::ptr::null_mut(),
            ))?;
            check(libc::signalfd(
                -1,
                &set,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            ))?
        };
        // SAFETY: a new descriptor that nothing else owns.
        Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Returns the next signal that has arrived, if there is one.
    pub fn next(&self) -> Option<Signal> {
        // SAFETY: all-zero is a value of this structure of integers, and the kernel writes no more
        // than its size.
        let (info, n) = unsafe {
            let mut info: libc::signalfd_siginfo = mem::zeroed();
            let size = mem::size_of_val(&info);
            let n = libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size);
            (info, n)
        };
        (n == mem::size_of_val(&info) as isize).then_some(Signal {
            number: info.ssi_signo as i32,
            by_process: info.ssi_code <= 0,
        })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes each of these signals end this process at once, with status 128 + N. This requires a handler, because the
/// kernel discards signals to the first process of a pid namespace unless that process handles them.
pub fn end_at_once(signals: &[i32]) {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit(2) is safe in a signal handler, and does not return.
        unsafe { libc::_exit(128 + signal) }
    }
    let handler: extern "C" fn(libc::c_int) = end;
    // SAFETY: the handler calls _exit(2) only; the set is read.
    unsafe {
        for signal in signals {
            libc::signal(*signal, handler as *const () as libc::sighandler_t);
        }
        let set = signal_set(signals);
        libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}

/// Sends a signal to a process: kill(2).
pub fn send_signal(process: u32, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::kill(process as i32, signal) }).map(|_| ())
}

/// Returns the set that holds these signals.
pub(super) fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        set
    }
}
