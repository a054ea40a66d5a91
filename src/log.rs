//! One line per event on standard error, if its level is asked for: readable on a terminal, JSON for
//! what collects the logs of containers.

use crate::sys::epoll;
use crate::time::rfc3339;
use serde_json::Value;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, StderrLock, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::SystemTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub const NAMES: [&str; 4] = ["debug", "info", "warn", "error"];

    pub fn parse(name: &str) -> Option<Level> {
        [Level::Debug, Level::Info, Level::Warn, Level::Error]
            .into_iter()
            .find(|level| level.to_string() == name)
    }
}

impl Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(Level::NAMES[*self as usize])
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Is this level asked for? For messages that cost something to make.
pub fn is_on(level: Level) -> bool {
    level as u8 >= LEVEL.load(Ordering::Relaxed)
}

/// Lines that nobody took.
static DROPPED_LINES: AtomicU32 = AtomicU32::new(0);

pub fn line(level: Level, message: impl Display) {
    if !is_on(level) {
        return;
    }
    let mut err = io::stderr().lock();
    // Whoever collects the log may have stopped to read; the tracing goes on.
    if !epoll::can_write(err.as_fd()) {
        DROPPED_LINES.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let lost = DROPPED_LINES.swap(0, Ordering::Relaxed);
    if lost > 0 {
        write(
            &mut err,
            Level::Warn,
            &format!("{lost} lines of the log were not taken"),
        );
    }
    write(&mut err, level, &message.to_string());
}

fn write(err: &mut StderrLock, level: Level, message: &str) {
    let line = if err.is_terminal() {
        format!("snoop: {level}: {message}\n")
    } else {
        let (time, message) = (rfc3339(SystemTime::now()), Value::from(message));
        format!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"message\":{message}}}\n")
    };
    // Nobody is left to be told when standard error is gone.
    let _ = err.write_all(line.as_bytes());
}

pub fn debug(message: impl Display) {
    line(Level::Debug, message);
}

pub fn info(message: impl Display) {
    line(Level::Info, message);
}

pub fn warn(message: impl Display) {
    line(Level::Warn, message);
}

pub fn error(message: impl Display) {
    line(Level::Error, message);
}
