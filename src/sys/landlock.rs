// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which directories may be opened: landlock(7).

use super::check;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// struct landlock_ruleset_attr of the first version, which every kernel with Landlock takes.
#[repr(C)]
struct Ruleset {
    handled: u64,
}

/// struct landlock_path_beneath_attr
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

const RULE_PATH_BENEATH: libc::c_int = 1;

/// The kinds of access of the first version, from linux/landlock.h: all of them, and what readers and writers of files need.
const ALL: u64 = (1 << 13) - 1;
const READ: u64 = READ_FILE | READ_DIR;
const WRITE: u64 = READ | WRITE_FILE | REMOVE_FILE | MAKE_REG;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_REG: u64 = 1 << 8;

/// From now on this thread can open files only in these directories and below them, those in `read` only for reading. Directories that
/// do not exist are left out. The call sets no_new_privs too.
///
/// # Errors
///
/// The kernel has no Landlock, or it is turned off.
pub fn confine_to(
    read: impl IntoIterator<Item = impl AsRef<Path>>,
    write: &[&Path],
) -> io::Result<()> {
    let attributes = Ruleset { handled: ALL };
    // SAFETY: the kernel reads as many bytes as the structure has, and returns a new descriptor.
    let rules = unsafe {
        let size = size_of::<Ruleset>();
        let fd = libc::syscall(libc::SYS_landlock_create_ruleset, &attributes, size, 0);
        OwnedFd::from_raw_fd(check(fd as libc::c_int)?)
    };
    for directory in read {
        allow(&rules, directory.as_ref(), READ)?;
    }
    for directory in write {
        allow(&rules, directory, WRITE)?;
    }
    // SAFETY: the calls take numbers only.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let done = libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0);
        check(done as libc::c_int).map(|_| ())
    }
}

fn allow(rules: &OwnedFd, directory: &Path, allowed: u64) -> io::Result<()> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(directory);
    let Ok(opened) = opened else {
        return Ok(());
    };
    let rule = PathBeneath {
        allowed,
        parent: opened.as_raw_fd(),
    };
    // SAFETY: the kernel reads the structure during the call; both descriptors are open.
    let done = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            RULE_PATH_BENEATH,
            &rule,
            0,
        )
    };
    check(done as libc::c_int).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;
    use std::thread;

    #[test]
    fn only_the_directories_can_be_opened() {
        let [one, two, other] = [0; 3].map(|_| tempfile::tempdir().unwrap());
        for directory in [&one, &two, &other] {
            fs::write(directory.path().join("file"), "x").unwrap();
        }
        let (one, two, other) = (one.path(), two.path(), other.path());
        // The rules bind this thread alone.
        let confined = || {
            let missing = Path::new("/no/such/directory");
            if let Err(e) = confine_to([one, missing], &[two]) {
                // Kernels before 5.13, and some configurations, do not have it.
                assert!(
                    matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)),
                    "{e}"
                );
                return;
            }
            let denied = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
            };
            fs::read(one.join("file")).unwrap();
            denied(fs::write(one.join("file"), "y"));
            denied(fs::remove_file(one.join("file")));
            fs::write(two.join("new"), "y").unwrap();
            fs::rename(two.join("new"), two.join("file")).unwrap();
            fs::remove_file(two.join("file")).unwrap();
            denied(fs::create_dir(two.join("directory")));
            denied(fs::read(other.join("file")).map(|_| ()));
        };
        thread::scope(|scope| scope.spawn(confined).join().unwrap());
    }
}
