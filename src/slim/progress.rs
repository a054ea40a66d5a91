// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far it is, on a terminal.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

/// Counts bytes of an archive. Shows nothing unless it was asked to, and standard error is a terminal.
#[derive(Default)]
pub struct Progress {
    total: Cell<u64>,
    done: Cell<u64>,
    /// The percentage that is shown.
    shown: Cell<Option<u64>>,
    is_on: bool,
}

impl Progress {
    pub fn on_terminal() -> Progress {
        Progress {
            is_on: io::stderr().is_terminal(),
            ..Progress::default()
        }
    }

    /// So many more bytes are to be read.
    pub fn expect(&self, bytes: u64) {
        self.total.set(self.total.get() + bytes);
    }

    pub fn add(&self, bytes: u64) {
        self.done.set(self.done.get() + bytes);
        let total = self.total.get();
        if !self.is_on || total == 0 {
            return;
        }
        let percent = (u128::from(self.done.get()) * 100 / u128::from(total)).min(100) as u64;
        if self.shown.replace(Some(percent)) != Some(percent) {
            let bar = "#".repeat(percent as usize / 4);
            self.write(&format!("\r[{bar:<25}] {percent:>3} %"));
        }
    }

    /// Takes the bar off the terminal.
    pub fn clear(&self) {
        if self.shown.take().is_some() {
            self.write("\r\x1b[K");
        }
    }

    fn write(&self, text: &str) {
        // The bar does no harm where it cannot be shown.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}
