//! `snoop run`: the command in a cgroup of its own.

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

/// As shells have it: the command was not found, or cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

pub struct Running {
    child: Child,
    cgroup: TempCgroup,
}

/// The file a command's name stands for. Looked up here and not in the child, whose failed tries
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
    /// Starts `words` inside `cgroup`, which must be traced by now.
    pub fn start(cgroup: TempCgroup, words: &[OsString]) -> Result<Running> {
        let file = find(&words[0])?;
        let mut command = Command::new(&file);
        command.arg0(&words[0]).args(&words[1..]);
        process::start_in_cgroup(&mut command, cgroup.entrance()?);
        let child = command.spawn().map_err(|e| {
            Error::failed(format!("cannot execute {file:?}: {e}")).with_status(NOT_EXECUTABLE)
        })?;
        Ok(Running { child, cgroup })
    }

    /// Passes a signal on, unless the terminal sent it to the command too.
    pub fn signal(&self, signal: &Signal) {
        if signal.by_process {
            // It fails when the command has just ended, which is what was wanted.
            let _ = signals::send_signal(self.child.id(), signal.number);
        }
    }

    /// The command's status once it has ended, as a shell would have it.
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

    /// Lets go of what the command left running.
    pub fn evacuate(self) {
        let left = self.cgroup.evacuate();
        if left > 0 {
            log::warn(format_args!(
                "{left} processes of the command still run; they are traced no longer"
            ));
        }
    }
}
