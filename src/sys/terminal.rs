// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a terminal tells: its size, who may write to it, and that somebody wrote. See tty_ioctl(2), tcgetpgrp(3) and inotify(7).

use super::check;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};

/// Returns the numbers of rows and columns. They are 0 if the terminal does not know.
pub fn size(terminal: BorrowedFd) -> io::Result<(u16, u16)> {
    // SAFETY: all-zero is a value of this structure of integers, which is alive during the call.
    unsafe {
        let mut size: libc::winsize = mem::zeroed();
        check(libc::ioctl(
            terminal.as_raw_fd(),
            libc::TIOCGWINSZ,
            &mut size,
        ))?;
        Ok((size.ws_row, size.ws_col))
    }
}

/// Returns whether lines are edited, echoed and written by the kernel, which editors, pagers and prompts for passwords turn off.
pub fn has_lines(terminal: BorrowedFd) -> bool {
    // SAFETY: all-zero is a value of this structure of integers, which is alive during the call.
    let modes = unsafe {
        let mut modes: libc::termios = mem::zeroed();
        check(libc::tcgetattr(terminal.as_raw_fd(), &mut modes)).map(|_| modes)
    };
    let lines = libc::ICANON | libc::ECHO;
    modes.is_ok_and(|modes| modes.c_lflag & lines == lines && modes.c_oflag & libc::OPOST != 0)
}

/// Returns whether this process is in the foreground of the terminal.
pub fn is_in_foreground(terminal: BorrowedFd) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) == libc::getpgrp() }
}

/// Notices writes to a terminal, whoever makes them and through which descriptor. What a user types is none.
pub struct Writes(File);

impl Writes {
    pub fn watch(terminal: BorrowedFd) -> io::Result<Writes> {
        let path = format!("/proc/self/fd/{}\0", terminal.as_raw_fd());
        // SAFETY: no pointers in the first call, whose descriptor is new, and nothing else owns it; the path of the second
        // ends with a NUL and is alive.
        unsafe {
            let fd = check(libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC))?;
            let events = File::from_raw_fd(fd);
            check(libc::inotify_add_watch(
                fd,
                path.as_ptr().cast(),
                libc::IN_MODIFY,
            ))?;
            Ok(Writes(events))
        }
    }

    /// Returns whether there was a write since the last call.
    pub fn take(&mut self) -> bool {
        let (mut any, mut events) = (false, [0; 1024]);
        while self.0.read(&mut events).is_ok_and(|n| n > 0) {
            any = true;
        }
        any
    }
}
