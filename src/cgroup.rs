// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cgroups of version 2: where they are mounted, their ids and paths.

pub mod command;
mod pod;
mod resolve;
pub mod selection;
mod temporary;

pub use pod::{
    Pod, container_id, is_container, kubernetes_name, own_container, pod_uid, short_name,
};
pub use resolve::{NamedCgroup, resolve_names, shows_root};
pub use temporary::TempCgroup;

use crate::error::{Error, Result};
use crate::sys;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A cgroup that is traced together with its descendants.
#[derive(Clone, Debug, PartialEq)]
pub struct Cgroup {
    pub id: u64,
    /// The path below the root of the hierarchy, with a leading slash, as in /proc/PID/cgroup.
    pub path: Vec<u8>,
}

/// Returns the first mount point of cgroup v2 in the content of a mountinfo file (proc(5)).
pub fn find_mount(mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b' ');
        let mount_point = fields.nth(4)?;
        // A dash ends a variable number of optional fields. The type follows it.
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        (kind == b"cgroup2").then(|| PathBuf::from(OsString::from_vec(unescape(mount_point))))
    })
}

/// Undoes the escaping of mountinfo, which writes blanks, tabs, newlines and backslashes as in `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    out
}

impl Cgroup {
    fn at(directory: &Path, mount: &Path) -> Result<Cgroup> {
        Ok(Cgroup {
            id: id_of(directory)?,
            path: path_of(directory, mount),
        })
    }

    /// Returns the last component of the path.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }
}

/// Returns the path of the cgroup that has this directory.
fn path_of(directory: &Path, mount: &Path) -> Vec<u8> {
    let below = directory.strip_prefix(mount).unwrap_or(directory);
    [b"/", below.as_os_str().as_bytes()].concat()
}

fn id_of(directory: &Path) -> Result<u64> {
    let shown = directory.display();
    sys::files::cgroup_id(directory)
        .map_err(|e| Error::failed(format!("cannot get the id of cgroup {shown}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_beside_v1_controllers() {
        let mountinfo = b"24 1 0:20 / /proc rw shared:2 - proc proc rw
30 24 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro
31 30 0:27 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/uni\\040fied rw shared:11 master:2 - cgroup2 cgroup2 rw
";
        let mount = find_mount(mountinfo).unwrap();
        assert_eq!(mount, Path::new("/sys/fs/cgroup/uni fied"));
        assert_eq!(
            find_mount(b"31 30 0:27 / /cg rw - cgroup cgroup2 rw\n"),
            None
        );
        assert_eq!(find_mount(b"garbage\n\n1 2 3 4 5\n"), None);
    }

    #[test]
    fn unescapes_octal_and_nothing_else() {
        assert_eq!(unescape(b"a\\040b\\134"), b"a b\\");
        assert_eq!(unescape(b"\\9\\04"), b"\\9\\04");
    }
}
