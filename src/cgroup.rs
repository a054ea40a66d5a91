//! Which cgroups to trace: what the user names, found below the cgroup v2 mount, and the one that
//! `snoop run` makes for its command.

use crate::error::{Error, Result};
use crate::sys;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// linux/magic.h
const CGROUP_SUPER_MAGIC: u64 = 0x27e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x63677270;

/// A cgroup that is traced, with all below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cgroup {
    pub id: u64,
    /// Below the mount, beginning with a slash, as /proc/PID/cgroup has it.
    pub path: OsString,
    directory: PathBuf,
}

/// The first cgroup v2 mount in a mountinfo file (proc(5)), wherever it is.
pub fn find_mount(mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b' ');
        let mount_point = fields.nth(4)?;
        // A variable number of optional fields ends with a dash; then comes the type.
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        (kind == b"cgroup2").then(|| PathBuf::from(OsString::from_vec(unescape(mount_point))))
    })
}

/// mountinfo writes blanks and backslashes as `\040`.
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
    /// The cgroup a user names: a directory, or a path below the mount.
    pub fn named(name: &OsStr, mount: &Path) -> Result<Cgroup> {
        let shown = name.to_string_lossy();
        if shown.contains("$(") {
            return Err(Error::usage(format!(
                "cgroup {shown}: no shell expands $(…) here; write the path to a file and give @FILE"
            )));
        }
        let given = Path::new(name);
        let is_v2 = |path: &Path| sys::file_system(path).is_ok_and(|fs| fs == CGROUP2_SUPER_MAGIC);
        let beneath = mount.join(given.strip_prefix("/").unwrap_or(given));
        if given.is_absolute() && is_v2(given) {
            Cgroup::at(given.to_path_buf(), mount)
        } else if is_v2(&beneath) {
            Cgroup::at(beneath, mount)
        } else {
            let why = match sys::file_system(given) {
                Ok(CGROUP_SUPER_MAGIC) => "this is cgroup v1".to_string(),
                Ok(_) => "not a cgroup v2 directory".to_string(),
                Err(e) => e.to_string(),
            };
            Err(Error::usage(format!(
                "cgroup {shown}: {why}; give a cgroup v2 directory below {}, or the path that /proc/PID/cgroup shows",
                mount.display()
            )))
        }
    }

    fn at(directory: PathBuf, mount: &Path) -> Result<Cgroup> {
        let id = sys::cgroup_id(&directory).map_err(|e| {
            Error::failed(format!(
                "cannot get the id of cgroup {}: {e}",
                directory.display()
            ))
        })?;
        let mut path = OsString::from("/");
        path.push(directory.strip_prefix(mount).unwrap_or(&directory));
        Ok(Cgroup {
            id,
            path,
            directory,
        })
    }

    /// What people call it: the last part of the path.
    pub fn name(&self) -> &OsStr {
        self.directory.file_name().unwrap_or(OsStr::new("/"))
    }
}

/// All cgroups that a `-cgroup` or `-cgroups` value names; `@FILE` stands for the file's content,
/// where newlines separate as commas do.
pub fn named(value: &OsStr, mount: &Path) -> Result<Vec<Cgroup>> {
    let list = match value.as_bytes().strip_prefix(b"@") {
        None => value.as_bytes().to_vec(),
        Some(file) => {
            let file = Path::new(OsStr::from_bytes(file));
            fs::read(file).map_err(|e| {
                Error::usage(format!(
                    "cannot read the cgroups from {}: {e}",
                    file.display()
                ))
            })?
        }
    };
    let mut found: Vec<Cgroup> = Vec::new();
    for name in list.split(|b| matches!(b, b',' | b'\n')) {
        let name = name.trim_ascii();
        if name.is_empty() {
            continue;
        }
        let cgroup = Cgroup::named(OsStr::from_bytes(name), mount)?;
        if found.iter().all(|known| known.id != cgroup.id) {
            found.push(cgroup);
        }
    }
    if found.is_empty() {
        let shown = value.to_string_lossy();
        return Err(Error::usage(format!("cgroup {shown}: it names no cgroup")));
    }
    Ok(found)
}

/// A cgroup made for one command; it is removed when this is dropped.
pub struct OwnCgroup {
    pub cgroup: Cgroup,
    parent: PathBuf,
}

impl OwnCgroup {
    /// Makes a cgroup below our own one, or at the mount where that is not visible.
    pub fn make(mount: &Path) -> Result<OwnCgroup> {
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
                "cannot make the cgroup {}: {e}; run as root, with {} mounted writable",
                directory.display(),
                mount.display()
            ))
        })?;
        Ok(OwnCgroup {
            cgroup: Cgroup::at(directory, mount)?,
            parent,
        })
    }

    /// What a child writes "0" into to move here.
    pub fn entrance(&self) -> Result<OwnedFd> {
        let procs = self.cgroup.directory.join("cgroup.procs");
        let file = fs::OpenOptions::new().write(true).open(&procs);
        file.map(OwnedFd::from).map_err(|e| {
            Error::failed(format!(
                "cannot move a process into {}: {e}",
                self.cgroup.directory.display()
            ))
        })
    }

    /// Moves what still runs in here to our own cgroup; answers how many processes that were.
    pub fn evacuate(&self) -> usize {
        let (from, to) = (&self.cgroup.directory, &self.parent);
        let mut moved = 0;
        // A process may fork while it is moved.
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

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // The kernel lets go of a process that has just ended a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.cgroup.directory).is_ok() {
                return;
            }
            self.evacuate();
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        crate::log::warn(format_args!(
            "cannot remove the cgroup {}",
            self.cgroup.directory.display()
        ));
    }
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

    #[test]
    fn says_what_is_wrong_with_a_name() {
        let said = |name: &str| {
            let error = named(OsStr::new(name), Path::new("/proc/self")).unwrap_err();
            assert_eq!(error.status, crate::error::USAGE);
            error.to_string()
        };
        assert!(said("$(cat /data/cgroup-path)").contains("@FILE"));
        assert!(said("/no/such/cgroup").contains("No such file"));
        assert!(said("/proc").contains("not a cgroup v2 directory"));
        assert!(said("@/no/such/file").contains("cannot read"));
        assert!(said(" , ,").contains("names no cgroup"));
    }
}
