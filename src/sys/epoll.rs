// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for descriptors: epoll(7), and poll(2) of a single one.

use super::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What the loop wants to know about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interest {
    /// There is something to read.
    Read,
    /// Something new has arrived to read since the last report (edge-triggered).
    Arrivals,
    /// There is room to write.
    Write,
}

/// An epoll instance. It reports each ready descriptor by the token with which it was added.
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers; the descriptor is new, and nothing else owns it.
        unsafe {
            let fd = check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            Ok(Epoll(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Reports `token` whenever `fd` is ready for `interest`.
    pub fn add(&self, fd: BorrowedFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes the interest in a descriptor that was added before.
    pub fn change(&self, fd: BorrowedFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, what: i32, fd: BorrowedFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: match interest {
                Interest::Read => libc::EPOLLIN as u32,
                Interest::Arrivals => (libc::EPOLLIN | libc::EPOLLET) as u32,
                Interest::Write => libc::EPOLLOUT as u32,
            },
            u64: token,
        };
        // SAFETY: the event is alive during the call, and the kernel copies it.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Waits until at least one descriptor is ready or the timeout has passed, and fills `tokens`. An interrupted wait
    /// yields no tokens.
    pub fn wait(&self, tokens: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        const AT_ONCE: usize = 16;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_ONCE];
        // Rounded up, so that the point in time has passed when the wait ends.
        let timeout = timeout.map_or(-1, |t| t.as_micros().div_ceil(1000).min(60_000) as i32);
        tokens.clear();
        // SAFETY: the kernel writes at most AT_ONCE events into the array.
        let n = check(unsafe {
            let max = AT_ONCE as i32;
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), max, timeout)
        });
        match n {
            Ok(n) => tokens.extend(events[..n as usize].iter().map(|event| event.u64)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns whether a write would not block now. For a pipe this means that it has room for 4096 bytes: poll(2), pipe(7).
pub fn can_write(fd: BorrowedFd) -> bool {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one structure, alive during the call.
    unsafe { libc::poll(&mut poll, 1, 0) != 0 }
}
