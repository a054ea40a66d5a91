// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one error type. An error is one line that says what was attempted, why it failed, and what to change. An error
//! about a flag has the form `-flag=value: why; what to do`.

use std::fmt;

/// The exit status if something fails while snoop runs.
pub const FAILED: u8 = 1;
/// The exit status if the command line or the configuration is wrong.
pub const USAGE: u8 = 2;

/// A failure, described in one line for people.
#[derive(Debug)]
pub struct Error {
    /// The exit status with which snoop ends.
    pub status: u8,
    message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns the error for wrong input from the user. The message names the flag, the value, and a value that would
    /// be right.
    pub fn usage(message: impl Into<String>) -> Error {
        Error {
            status: USAGE,
            message: message.into(),
        }
    }

    /// Returns the error for something that the machine refused. The message names the attempt, the cause, and the
    /// remedy.
    pub fn failed(message: impl Into<String>) -> Error {
        Error {
            status: FAILED,
            message: message.into(),
        }
    }

    /// Returns the same error with another exit status.
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

/// Returns the error for something that the kernel refused and for which there is no remedy to name.
pub fn cannot(what: &str, e: std::io::Error) -> Error {
    Error::failed(format!("cannot {what}: {e}"))
}
