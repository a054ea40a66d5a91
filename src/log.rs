// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the log to standard error, one line for each message that is at or above the chosen level. On a terminal a
//! line is text for people. Otherwise it is JSON, for the programs that collect the logs of containers.

use crate::sys::epoll;
use crate::time::rfc3339;
use serde_json::Value;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::SystemTime;

/// How important a message is, the least important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub const NAMES: [&str; 4] = ["debug", "info", "warn", "error"];

    /// Returns the level of this name.
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

/// Sets the lowest level that is written.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Tells the user of a command something in one line, which is no part of its result. Nobody is told if nothing reads standard
/// error.
pub fn tell(message: impl Display) {
    let _ = writeln!(io::stderr(), "snoop: {message}");
}

/// Returns whether messages of this level are written. Check it before building a costly message.
pub fn is_on(level: Level) -> bool {
    level as u8 >= LEVEL.load(Ordering::Relaxed)
}

/// The number of lines that were dropped since the last line was written.
static DROPPED_LINES: AtomicU32 = AtomicU32::new(0);

/// Writes a message, or drops it if nothing reads standard error.
pub fn line(level: Level, message: impl Display) {
    if !is_on(level) {
        return;
    }
    let mut err = io::stderr().lock();
    // The program that collects the log may have stopped reading. Tracing must continue.
    if !epoll::can_write(err.as_fd()) {
        DROPPED_LINES.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let dropped = DROPPED_LINES.swap(0, Ordering::Relaxed);
    let form = match err.is_terminal() {
        true => Form::Text,
        false => Form::Json,
    };
    let text = format(
        dropped,
        level,
        &message.to_string(),
        form,
        SystemTime::now(),
    );
    // If standard error is closed, there is no other place to report it.
    let _ = err.write_all(text.as_bytes());
}

#[derive(Clone, Copy)]
enum Form {
    Text,
    Json,
}

/// Returns the line of a message. If lines were dropped, a line that says how many precedes it.
fn format(dropped: u32, level: Level, message: &str, form: Form, now: SystemTime) -> String {
    let line = |level: Level, message: &str| match form {
        Form::Text => format!("snoop: {level}: {message}\n"),
        Form::Json => {
            let (time, message) = (rfc3339(now), Value::from(message));
            format!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"message\":{message}}}\n")
        }
    };
    let said = match dropped {
        0 => String::new(),
        _ => line(
            Level::Warn,
            &format!("dropped {dropped} log lines because nothing was reading them"),
        ),
    };
    said + &line(level, message)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn formatted(dropped: u32, message: &str, form: Form) -> String {
        format(dropped, Level::Info, message, form, UNIX_EPOCH)
    }

    #[test]
    fn a_level_is_known_by_its_name() {
        assert_eq!(Level::parse("debug"), Some(Level::Debug));
        assert_eq!(Level::parse("error"), Some(Level::Error));
        assert_eq!(Level::parse("Error"), None);
        assert_eq!(Level::parse(""), None);
        for name in Level::NAMES {
            assert_eq!(Level::parse(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn a_terminal_gets_text() {
        assert_eq!(
            formatted(0, "it began", Form::Text),
            "snoop: info: it began\n"
        );
    }

    #[test]
    fn a_collector_gets_json_on_one_line() {
        assert_eq!(
            formatted(0, "it began", Form::Json),
            "{\"time\":\"1970-01-01T00:00:00Z\",\"level\":\"info\",\"message\":\"it began\"}\n"
        );
        let message = "a \"quote\",\na line and \u{1b}[1m";
        let line = formatted(0, message, Form::Json);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], message);
    }

    #[test]
    fn dropped_lines_are_reported_before_the_next_line() {
        assert_eq!(
            formatted(3, "it goes on", Form::Text),
            "snoop: warn: dropped 3 log lines because nothing was reading them\nsnoop: info: it goes on\n"
        );
        let lines = formatted(3, "it goes on", Form::Json);
        let levels: Vec<_> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["level"].clone())
            .collect();
        assert_eq!(levels, ["warn", "info"]);
    }
}
