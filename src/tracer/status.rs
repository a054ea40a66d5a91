// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `snoop run` tells its user on a terminal: a summary at the end and, while the command is silent, a status line in the last row,
//! which says how many files were used so far.
//!
//! The command writes to the same terminal at any time, and nobody can take a line away before that. So the line stands outside the
//! region in which the terminal scrolls (DECSTBM), and the cursor is put back to its place (DECSC, DECRC): what the command writes never
//! meets the line. As soon as it writes, the region is the whole terminal again.

use crate::sys::terminal::{self, Writes};
use crate::sys::timer::Timer;
use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How often the line is written anew.
const TICK: Duration = Duration::from_secs(1);

/// How long the command has to be silent.
const SILENCE: Duration = Duration::from_secs(3);

/// The fewest rows and columns of a terminal that has room for the line.
const SMALLEST: (u16, u16) = (5, 40);

pub struct StatusLine {
    timer: Timer,
    terminal: File,
    writes: Writes,
    began: Instant,
    /// When somebody else wrote last.
    silent_since: Instant,
    files: usize,
    /// When there was a new file last.
    new_file_at: Instant,
    /// The size of the terminal whose last row is the line.
    shown: Option<(u16, u16)>,
}

impl StatusLine {
    /// Returns a line that is not shown yet, if standard error is a terminal that can show it.
    pub fn on_terminal() -> Option<StatusLine> {
        let is_able = env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb");
        if !is_able || !io::stderr().is_terminal() {
            return None;
        }
        let terminal = io::stderr().as_fd().try_clone_to_owned().ok()?;
        let writes = Writes::watch(terminal.as_fd()).ok()?;
        let timer = Timer::every(TICK).ok()?;
        let now = Instant::now();
        Some(StatusLine {
            timer,
            terminal: terminal.into(),
            writes,
            began: now,
            silent_since: now,
            files: 0,
            new_file_at: now,
            shown: None,
        })
    }

    /// Returns what becomes readable when [`StatusLine::tick`] is due.
    pub fn timer(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Shows, updates or takes away the line.
    pub fn tick(&mut self, files: usize) {
        self.timer.ticks();
        let now = Instant::now();
        if files != self.files {
            (self.files, self.new_file_at) = (files, now);
        }
        if self.writes.take() {
            self.silent_since = now;
            self.clear();
        }
        if !terminal::is_in_foreground(self.terminal.as_fd()) {
            self.clear();
            return;
        }
        // A program that edits lines itself owns the whole terminal.
        if !terminal::has_lines(self.terminal.as_fd()) {
            self.shown = None;
            return;
        }
        let size = terminal::size(self.terminal.as_fd()).unwrap_or_default();
        if self.shown.is_some_and(|shown| shown != size) {
            self.clear();
        }
        let has_room = size.0 >= SMALLEST.0 && size.1 >= SMALLEST.1;
        let is_silent = now.duration_since(self.silent_since) >= SILENCE;
        if has_room && is_silent {
            self.show(size, now);
        }
    }

    fn show(&mut self, size: (u16, u16), now: Instant) {
        let (rows, columns) = size;
        let mut text = String::new();
        if self.shown.is_none() {
            // Goes down and up a row, so that the cursor is not in the last one. The column stays. The place to return to is in the
            // region, because some terminals return to no other.
            text += &format!("\x1bD\x1b[A\x1b7\x1b[1;{}r\x1b8", rows - 1);
        }
        let line = line(
            self.files,
            now.duration_since(self.began),
            now.duration_since(self.new_file_at),
        );
        let line: String = line.chars().take(usize::from(columns) - 1).collect();
        text += &format!("\x1b7\x1b[{rows};1H\x1b[0;7m{line}\x1b[0m\x1b[K\x1b8");
        self.shown = Some(size);
        self.write(&text);
    }

    /// Takes the line off the terminal.
    fn clear(&mut self) {
        if let Some((rows, _)) = self.shown.take() {
            self.write(&format!("\x1b7\x1b[{rows};1H\x1b[0m\x1b[K\x1b[r\x1b8"));
        }
    }

    fn write(&mut self, text: &str) {
        // One write, so that the command cannot write in the middle. The line does no harm where it cannot be shown.
        let _ = self.terminal.write_all(text.as_bytes());
        self.writes.take();
    }
}

/// Writes the summary at the end, on a line of its own wherever the command has left the cursor.
pub fn sum_up(summary: &str) {
    let mut err = io::stderr();
    let (_, columns) = terminal::size(err.as_fd()).unwrap_or_default();
    // As many blanks as a line has end on the next line, unless the cursor is at the beginning of one.
    let start = match columns {
        0 => String::new(),
        n => format!("{:1$}\r", "", usize::from(n)),
    };
    // If standard error is closed, there is no other place for it.
    let _ = writeln!(err, "{start}snoop: {summary}");
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Returns the text of the line.
fn line(files: usize, time: Duration, without_new: Duration) -> String {
    let (time, without_new) = (seconds(time), seconds(without_new));
    format!(" snoop: {files} files used in {time}; the last new one {without_new} ago ")
}

fn seconds(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let said = |files, time, without_new| {
            let [time, without_new] = [time, without_new].map(Duration::from_secs);
            line(files, time, without_new)
        };
        assert_eq!(
            said(12, 59, 3),
            " snoop: 12 files used in 59 s; the last new one 3 s ago "
        );
        assert_eq!(
            said(1200, 7265, 61),
            " snoop: 1200 files used in 2 h 1 min; the last new one 1 min 1 s ago "
        );
    }
}
