//! The one error type: what was attempted, on what, and what to change, in one line.

use std::fmt;

/// Exit status for "it failed while running".
pub const FAILED: u8 = 1;
/// Exit status for "wrong usage or configuration".
pub const USAGE: u8 = 2;

#[derive(Debug)]
pub struct Error {
    pub status: u8,
    message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The user's words are wrong: names the flag, the value and what would be right.
    pub fn usage(message: impl Into<String>) -> Error {
        Error {
            status: USAGE,
            message: message.into(),
        }
    }

    /// The machine did not do it: names what was attempted, the cause and the remedy.
    pub fn failed(message: impl Into<String>) -> Error {
        Error {
            status: FAILED,
            message: message.into(),
        }
    }

    pub fn with_status(self, status: u8) -> Error {
        Error { status, ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The kernel refused something that nobody can change by a flag.
pub fn cannot(what: &str, e: std::io::Error) -> Error {
    Error::failed(format!("cannot {what}: {e}"))
}
