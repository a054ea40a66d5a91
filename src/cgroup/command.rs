// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command of `snoop run`, which runs in its own cgroup.

use crate::cgroup::TempCgroup;
use crate::error::{Error, Result, cannot};
use crate::log;
use crate::sys::signals::{self, Signal};
use crate::sys::{files, process};
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command};

/// The statuses that shells return for a command that was not found or cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

pub struct Running {
    child: Child,
    cgroup: TempCgroup,
}

/// Finds the file of a command. snoop looks for it before it starts the child, because failed attempts of the child
/// would be traced.
fn find(name: &OsStr) -> Result<OsString> {
    let not_found = || {
        let message = format!("{name:?}: command not found; give a name on PATH, or a path");
        Error::failed(message).with_status(NOT_FOUND)
    };
    if name.as_bytes().contains(&b'/') {
        return if Path::new(name).exists() {
            Ok(name.into())
        } else {
            Err(not_found())
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).map(|dir| dir.join(name).into_os_string());
    let found = places
        .into_iter()
        .find(|file| Path::new(file).is_file() && files::is_executable(file));
    found.ok_or_else(not_found)
}

impl Running {
    /// Starts the command `words` in `cgroup`, which must already be traced.
    pub fn start(cgroup: TempCgroup, words: &[OsString]) -> Result<Running> {
        let file = find(&words[0])?;
        let mut command = Command::new(&file);
        command.arg0(&words[0]).args(&words[1..]);
        process::start_in_cgroup(&mut command, cgroup.open_procs()?);
        let child = command.spawn().map_err(|e| {
            Error::failed(format!("cannot execute {file:?}: {e}")).with_status(NOT_EXECUTABLE)
        })?;
        Ok(Running { child, cgroup })
    }

    /// Passes a signal on to the command, unless the terminal has already sent it there.
    pub fn signal(&self, signal: &Signal) {
        if signal.by_process {
            // This fails if the command has just ended, which is what the signal was meant to do.
            let _ = signals::send_signal(self.child.id(), signal.number);
        }
    }

    /// Returns the command's exit status once it has ended, as a shell would report it.
    pub fn try_wait(&mut self) -> Result<Option<u8>> {
        let status = self
            .child
            .try_wait()
            .map_err(|e| cannot("wait for the command", e))?;
        Ok(status.map(|status| match (status.code(), status.signal()) {
            (Some(code), _) => code as u8,
            (None, signal) => 128 + signal.unwrap_or(0) as u8,
        }))
    }

    /// Moves the processes that the command left running out of the cgroup, and logs their number. Returns that number.
    pub fn evacuate(self) -> u64 {
        let left = self.cgroup.evacuate();
        if left > 0 {
            let are = if left == 1 {
                "process is"
            } else {
                "processes are"
            };
            log::warn(format_args!(
                "{left} {are} still running after the command and no longer traced"
            ));
        }
        left as u64
    }
}
