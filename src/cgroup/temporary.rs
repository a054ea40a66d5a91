// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cgroup that `snoop run` creates for its command.

use super::Cgroup;
use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A cgroup that was created for one command. Dropping the value removes the cgroup.
pub struct TempCgroup {
    pub cgroup: Cgroup,
    directory: PathBuf,
    parent: PathBuf,
}

impl TempCgroup {
    /// Creates a cgroup below snoop's own, or directly below the mount if snoop's own is not visible.
    pub fn make(mount: &Path) -> Result<TempCgroup> {
        let own = fs::read("/proc/self/cgroup").unwrap_or_default();
        let own = own
            .split(|b| *b == b'\n')
            .find_map(|line| line.strip_prefix(b"0::/"));
        let parent = mount.join(OsStr::from_bytes(own.unwrap_or_default()));
        let parent = if parent.is_dir() {
            parent
        } else {
            mount.to_path_buf()
        };
        let directory = parent.join(format!("snoop-run-{}", std::process::id()));
        fs::create_dir(&directory).map_err(|e| {
            Error::failed(format!(
                "cannot create the cgroup {}: {e}; run as root, with {} mounted writable",
                directory.display(),
                mount.display()
            ))
        })?;
        Ok(TempCgroup {
            cgroup: Cgroup::at(&directory, mount)?,
            directory,
            parent,
        })
    }

    /// Opens the file into which a child writes "0" to enter the cgroup.
    pub fn open_procs(&self) -> Result<OwnedFd> {
        let procs = self.directory.join("cgroup.procs");
        let file = fs::OpenOptions::new().write(true).open(&procs);
        file.map(OwnedFd::from).map_err(|e| {
            Error::failed(format!(
                "cannot move a process into {}: {e}",
                self.directory.display()
            ))
        })
    }

    /// Moves the processes that still run in the cgroup to its parent. Returns their number.
    pub fn evacuate(&self) -> usize {
        let (from, to) = (&self.directory, &self.parent);
        let mut moved = 0;
        // A process may fork while it is being moved, so this takes several passes.
        for _ in 0..100 {
            let processes = fs::read_to_string(from.join("cgroup.procs")).unwrap_or_default();
            if processes.is_empty() {
                break;
            }
            for process in processes.lines() {
                moved += usize::from(fs::write(to.join("cgroup.procs"), process).is_ok());
            }
        }
        moved
    }
}

impl Drop for TempCgroup {
    fn drop(&mut self) {
        // The kernel keeps a process in its cgroup for a moment after it has ended.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            self.evacuate();
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        crate::log::warn(format_args!(
            "cannot remove the cgroup {}",
            self.directory.display()
        ));
    }
}
