// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that take the place of another one by a rename: a reader sees the old file or the new one, never half of one.

use super::random::random;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What the names of temporary files end with.
pub const TEMPORARY: &str = ".tmp";

/// Returns the directory that a file is in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Returns a path in the same directory. Its name is the file's name between `before` and `after`.
pub fn beside(path: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = OsString::from(before);
    name.push(path.file_name().unwrap_or(OsStr::new("snoop")));
    name.push(after);
    directory_of(path).join(name)
}

/// Returns a new name for a temporary file in the same directory, because a rename does not cross file systems.
pub fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    Ok(beside(
        path,
        ".",
        &format!(".{:016x}{TEMPORARY}", random()?),
    ))
}

/// Returns why a rename must not replace what has that name. A device would be lost for the whole machine.
pub fn refusal(path: &Path) -> Option<&'static str> {
    let kind = fs::metadata(path).map(|there| there.file_type());
    let is_device = kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device());
    if path.is_dir() {
        Some("this is a directory")
    } else if path.as_os_str().as_bytes().ends_with(b"/") {
        Some("this names a directory")
    } else if is_device || is_in_dev(directory_of(path)) {
        Some("this is a device")
    } else {
        None
    }
}

/// Returns whether a directory is `/dev`, which holds devices and symlinks to them, or lies in it. Volumes may be mounted at
/// `/dev/shm`.
fn is_in_dev(directory: &Path) -> bool {
    let real = fs::canonicalize(directory).unwrap_or_default();
    real.starts_with("/dev") && !real.starts_with("/dev/shm")
}

/// Makes a rename in a file's directory survive a crash.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn devices_and_directories_are_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        symlink("/dev/full", &link).unwrap();
        for (path, why) in [
            (Path::new("/dev/null"), "this is a device"),
            (Path::new("/dev/new"), "this is a device"),
            (&link, "this is a device"),
            (directory.path(), "this is a directory"),
            (Path::new("new/"), "this names a directory"),
        ] {
            assert_eq!(refusal(path), Some(why), "{}", path.display());
        }
    }

    #[test]
    fn files_and_symlinks_to_files_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link, new] = ["file", "link", "new"].map(|name| directory.path().join(name));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        for path in [file, link, new, "/dev/shm/report".into()] {
            assert_eq!(refusal(&path), None, "{}", path.display());
        }
    }

    #[test]
    fn a_file_without_a_directory_is_in_the_working_directory() {
        assert_eq!(directory_of(Path::new("report")), Path::new("."));
        let beside = beside(Path::new("report"), ".", ".tmp");
        assert_eq!(beside, Path::new("./.report.tmp"));
    }
}
