// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files and descriptors, beyond what the standard library offers.

use super::check;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Returns a second descriptor for the same object.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor is new, and nothing else owns it.
    unsafe {
        let fd = check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Creates a file that exists only in memory.
pub fn memory_file() -> io::Result<File> {
    // SAFETY: the name ends with a NUL; the descriptor is new, and nothing else owns it.
    unsafe {
        let fd = check(libc::memfd_create(c"report".as_ptr(), libc::MFD_CLOEXEC))?;
        Ok(File::from_raw_fd(fd))
    }
}

/// Gives a name to an open file that has no name yet: linkat(2).
pub fn name_file(file: &File, path: &Path) -> io::Result<()> {
    let (old, new) = (format!("/proc/self/fd/{}", file.as_raw_fd()), c_path(path)?);
    let old = c_path(Path::new(&old))?;
    let here = libc::AT_FDCWD;
    // SAFETY: both paths end with a NUL and are alive during the call.
    let linked = unsafe {
        let follow = libc::AT_SYMLINK_FOLLOW;
        libc::linkat(here, old.as_ptr(), here, new.as_ptr(), follow)
    };
    check(linked).map(|_| ())
}

/// Locks the file for as long as it is open. Fails if another process holds the lock: flock(2).
pub fn try_lock(file: &File) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(|_| ())
}

/// Returns the magic number of the file system that holds `path`: statfs(2).
pub fn file_system(path: &Path) -> io::Result<u64> {
    let path = c_path(path)?;
    // SAFETY: all-zero is a value of this structure of integers; the path ends with a NUL.
    let statfs = unsafe {
        let mut statfs: libc::statfs = mem::zeroed();
        check(libc::statfs(path.as_ptr(), &mut statfs))?;
        statfs
    };
    // The field has another width and sign on each architecture.
    Ok(statfs.f_type as u64 & 0xffff_ffff)
}

/// Returns the id that the kernel gave to a cgroup: the eight bytes of its directory's file handle.
pub fn cgroup_id(directory: &Path) -> io::Result<u64> {
    #[repr(C)]
    struct Handle {
        head: libc::file_handle,
        id: [u8; 8],
    }
    let path = c_path(directory)?;
    let mut mount = 0;
    // SAFETY: the header says how many bytes follow it, and eight do.
    let id = unsafe {
        let mut handle: Handle = mem::zeroed();
        handle.head.handle_bytes = 8;
        check(libc::name_to_handle_at(
            libc::AT_FDCWD,
            path.as_ptr(),
            (&raw mut handle).cast(),
            &mut mount,
            0,
        ))?;
        handle.id
    };
    Ok(u64::from_ne_bytes(id))
}

/// Returns the paths of the regular files and directories that a command of this process inherits and can read: those
/// behind the descriptors that exec(2) leaves open. A file that no longer has a name is not returned.
pub fn inherited() -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let Some(fd) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // SAFETY: both calls read flags of a descriptor, and fail if the number is not one.
        let (of_fd, of_file) = unsafe {
            (
                libc::fcntl(fd, libc::F_GETFD),
                libc::fcntl(fd, libc::F_GETFL),
            )
        };
        let is_inherited = of_fd & libc::FD_CLOEXEC == 0;
        let is_readable = of_file & libc::O_ACCMODE != libc::O_WRONLY;
        let Ok(open) = fs::metadata(entry.path()) else {
            continue;
        };
        if !is_inherited || !is_readable || !(open.is_file() || open.is_dir()) {
            continue;
        }
        let path = fs::read_link(entry.path())?;
        let named = fs::symlink_metadata(&path);
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino())) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Returns whether this user may execute the file: access(2).
pub fn is_executable(path: &OsStr) -> bool {
    c_path(Path::new(path)).is_ok_and(|path| {
        // SAFETY: the path ends with a NUL.
        unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
    })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
