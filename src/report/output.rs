// SPDX-License-Identifier: MIT OR Apache-2.0
//! The value of `-o` of commands that make one text: the name of a file, or `-` for standard output.

use crate::error::{Error, Result, cannot};
use crate::report::file::Destination;
use crate::sys::replace;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;

/// Checks that a file of that name may be written, so that the user learns of a problem at the start.
pub fn check(name: &OsStr) -> Result<()> {
    if name == "-" {
        return Ok(());
    }
    let path = Path::new(name);
    let directory = replace::directory_of(path);
    let why = match replace::refusal(path) {
        None if directory.is_dir() => return Ok(()),
        None => format!("there is no directory {}", directory.display()),
        Some(why) => why.into(),
    };
    Err(Error::usage(format!(
        "-o={}: {why}; give the name of a file, or - for standard output",
        path.display()
    )))
}

/// Writes a text. A file appears when it is whole.
pub fn write(name: &OsStr, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let destination = Destination::parse(name);
    let written = destination.write(|out| {
        content(out)?;
        out.flush()
    });
    written.map_err(|e| cannot(&format!("write to {destination}"), e))
}
