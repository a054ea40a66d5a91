// SPDX-License-Identifier: MIT OR Apache-2.0
//! The value of a flag that says where a command writes the one text that it makes: the name of a file, or `-` for standard
//! output.

use crate::error::{Error, Result, cannot};
use crate::report::file::Destination;
use crate::sys::replace;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;

/// Checks the value of a flag: that a file of that name may be written. So the user learns of a problem at the start.
pub fn check(flag: &str, name: &OsStr) -> Result<()> {
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
        "-{flag}={}: {why}; give the name of a file, or - for standard output",
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
