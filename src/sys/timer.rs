// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timers as descriptors: timerfd_create(2).

use super::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A timer that ticks at an interval. The time during which the machine is suspended does not count.
pub struct Timer(OwnedFd);

impl Timer {
    /// Starts a timer with that interval.
    pub fn every(interval: Duration) -> io::Result<Timer> {
        let spec = libc::timespec {
            tv_sec: interval.as_secs() as _,
            tv_nsec: interval.subsec_nanos().into(),
        };
        let spec = libc::itimerspec {
            it_interval: spec,
            it_value: spec,
        };
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no pointers in the first call, whose descriptor is new, and nothing else owns it;
        // the second reads `spec`, which is alive.
        unsafe {
            let fd = check(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags))?;
            let fd = OwnedFd::from_raw_fd(fd);
            check(libc::timerfd_settime(
                fd.as_raw_fd(),
                0,
                &spec,
                std::ptr::null_mut(),
            ))?;
            Ok(Timer(fd))
        }
    }

    /// Returns how often the timer has ticked since the last call.
    pub fn ticks(&self) -> u64 {
        let mut ticks = 0u64;
        // SAFETY: a timer's descriptor yields eight bytes or nothing.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut ticks).cast(), 8) };
        ticks
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
