// SPDX-License-Identifier: MIT OR Apache-2.0
//! The destination of the report: standard output, or a file that is always whole.
//!
//! A report is written to a temporary file in the same directory, synced, and renamed over the previous one. A reader
//! sees the old report or the new one, even after a crash. Anything else that has the report's name, such as a symlink,
//! is replaced and not followed, because containers may write into that directory. A temporary file is locked
//! (flock(2)) while its writer lives, so a temporary file without a lock is a leftover.

use crate::error::{Error, Result, cannot};
use crate::sys::files;
use crate::sys::replace::{self, TEMPORARY};
use std::cell::Cell;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, PartialEq)]
pub enum Destination {
    Stdout,
    File(ReportFile),
    /// The directory for the reports of a node.
    Directory(PathBuf),
}

#[derive(Debug, PartialEq)]
pub struct ReportFile {
    path: PathBuf,
    /// Identifies the file that was written last.
    written: Cell<Option<Identity>>,
}

/// Device, inode and modification time. The time is needed because the kernel reuses inodes.
type Identity = (u64, u64, i64, i64);

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Destination::Stdout => f.write_str("standard output"),
            Destination::File(file) => file.path.display().fmt(f),
            Destination::Directory(path) => path.display().fmt(f),
        }
    }
}

impl Destination {
    pub fn parse(value: &OsStr) -> Destination {
        match value.as_bytes() {
            b"-" => Destination::Stdout,
            _ => Destination::File(ReportFile::new(value.into())),
        }
    }

    /// Tests whether a report can be written, so that the user learns of a problem at the start.
    pub fn check(&self) -> Result<()> {
        match self {
            Destination::Stdout => Ok(()),
            Destination::File(file) => file.check("report"),
            Destination::Directory(path) if !path.is_dir() => Err(Error::usage(format!(
                "-reports={}: there is no such directory; create it, mount a volume there, or give another one",
                path.display()
            ))),
            Destination::Directory(path) => any_file(path).check("reports"),
        }
    }

    /// Returns whether snoop is allowed to write there at this moment.
    pub fn is_permitted(&self) -> bool {
        let denied = |e: io::Error| e.kind() == ErrorKind::PermissionDenied;
        match self {
            Destination::Stdout => true,
            Destination::File(file) => !file.try_write().is_err_and(denied),
            Destination::Directory(path) => !any_file(path).try_write().is_err_and(denied),
        }
    }

    /// Writes a report. `content` is called once.
    pub fn write(&self, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        match self {
            Destination::Stdout => content(&mut BufWriter::new(io::stdout().lock())),
            Destination::File(file) => file.write(content),
            Destination::Directory(_) => unreachable!("each report in it is a file of its own"),
        }
    }
}

/// Returns a report in that directory, to test whether one can be written.
fn any_file(directory: &Path) -> ReportFile {
    ReportFile::new(directory.join("report"))
}

/// The number of bytes that are given to the kernel at a time.
const BUFFER: usize = 64 << 10;

impl ReportFile {
    pub fn new(path: PathBuf) -> ReportFile {
        ReportFile {
            path,
            written: Cell::default(),
        }
    }

    /// Returns the size of the file; 0 if there is none.
    pub fn bytes(&self) -> u64 {
        fs::symlink_metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn directory(&self) -> &Path {
        replace::directory_of(&self.path)
    }

    /// Tests whether the report can be written. The error names the flag that chose its place.
    pub fn check(&self, flag: &str) -> Result<()> {
        let said = |why: String| Error::usage(format!("-{flag}={}: {why}", self.path.display()));
        if let Some(why) = replace::refusal(&self.path) {
            return Err(said(format!(
                "{why}; give the name of a file, or - for standard output"
            )));
        }
        let directory = self.directory().display();
        if !self.directory().is_dir() {
            return Err(said(format!(
                "there is no directory {directory}; create it, mount a volume there, or give another file as -{flag}=FILE"
            )));
        }
        self.clean();
        match self.try_write().map_err(|e| (e.kind(), e)) {
            // There may be room later. If not, the log says so when the first report is written.
            Ok(()) | Err((ErrorKind::StorageFull | ErrorKind::QuotaExceeded, _)) => Ok(()),
            Err((_, e)) => {
                let owner = fs::metadata(self.directory()).map_or(String::new(), |m| {
                    format!(", which belongs to user {}", m.uid())
                });
                Err(said(format!(
                    "cannot write into {directory}{owner}: {e}; give a directory that snoop may write into, or another file as -{flag}=FILE"
                )))
            }
        }
    }

    /// Tests whether the directory takes another file.
    pub fn try_write(&self) -> io::Result<()> {
        self.temporary().and_then(|(_, path)| fs::remove_file(path))
    }

    /// Creates a temporary file, and locks it for as long as it is open.
    fn temporary(&self) -> io::Result<(File, PathBuf)> {
        let path = replace::temporary_beside(&self.path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        // On a file system without locks, no temporary files are cleaned up either.
        let _ = files::try_lock(&file);
        Ok((file, path))
    }

    /// Removes the temporary files of processes that were killed.
    pub fn clean(&self) {
        let beginning = replace::beside(&self.path, ".", ".");
        let beginning = beginning.file_name().unwrap_or_default().as_bytes();
        let is_temporary = |name: &OsStr| {
            let rest = name.as_bytes().strip_prefix(beginning);
            let middle = rest.and_then(|rest| rest.strip_suffix(TEMPORARY.as_bytes()));
            middle.is_some_and(|m| m.len() == 16 && m.iter().all(u8::is_ascii_hexdigit))
        };
        for entry in fs::read_dir(self.directory())
            .into_iter()
            .flatten()
            .flatten()
        {
            if is_temporary(&entry.file_name()) {
                let left = open_regular(&entry.path());
                if left.is_ok_and(|file| files::try_lock(&file).is_ok()) {
                    // A file that cannot be removed only takes up space.
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    pub fn write(&self, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let (file, temporary) = self.temporary()?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let written = content(&mut out).and_then(|()| {
            out.flush()?;
            out.get_ref().sync_all()?;
            fs::rename(&temporary, &self.path)
        });
        if let Err(e) = written {
            let _ = fs::remove_file(&temporary);
            return Err(e);
        }
        self.written.set(Some(identity(&out.get_ref().metadata()?)));
        // The rename survives a crash once the directory is synced.
        replace::sync_directory(&self.path)
    }

    /// Opens the report that was written last. `None` if something else has taken its place.
    pub fn open_written(&self) -> Option<File> {
        let file = open_regular(&self.path).ok()?;
        (self.written.get() == Some(identity(&file.metadata().ok()?))).then_some(file)
    }

    /// Returns whether another process has replaced the report that was written last.
    pub fn is_replaced(&self) -> bool {
        let there = fs::symlink_metadata(&self.path);
        let there = there.map(|metadata| identity(&metadata));
        matches!((self.written.get(), there), (Some(ours), Ok(there)) if ours != there)
    }

    /// Opens the report of an earlier run, if there is one. Anything but a regular file is an error.
    pub fn open_earlier(&self) -> io::Result<Option<File>> {
        match open_regular(&self.path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Renames the report by appending an ending to its name, and replaces any file of that name. Returns the new path.
    pub fn move_aside(&self, ending: &str) -> Result<PathBuf> {
        let aside = replace::beside(&self.path, "", ending);
        let shown = self.path.display();
        fs::rename(&self.path, &aside)
            .map_err(|e| cannot(&format!("move {shown} to {}", aside.display()), e))?;
        Ok(aside)
    }
}

/// Opens a regular file for reading. The function does not follow a symlink and does not wait for a pipe.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino(), file.mtime(), file.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::fs::symlink;

    fn report_in(directory: &Path) -> ReportFile {
        match Destination::parse(directory.join("r.json").as_os_str()) {
            Destination::File(file) => file,
            _ => unreachable!(),
        }
    }

    fn names_in(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_leftover_temporary_files_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let report = report_in(directory.path());
        let kept = [
            ".other.json.0123456789abcdef.tmp",
            ".r.json.0123456789abcdeg.tmp",
            ".r.json.tmp",
        ];
        for name in kept {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let left = directory.path().join(".r.json.0123456789abcdef.tmp");
        fs::write(&left, "left").unwrap();
        symlink(&left, directory.path().join(".r.json.0000000000000000.tmp")).unwrap();
        let (_alive, path) = report.temporary().unwrap();
        report.check("report").unwrap();
        let name = path.file_name().unwrap();
        let mut expected: Vec<OsString> = kept.iter().map(OsString::from).collect();
        expected.extend([name.into(), ".r.json.0000000000000000.tmp".into()]);
        expected.sort();
        assert_eq!(names_in(directory.path()), expected);
    }

    #[test]
    fn a_failed_write_keeps_the_old_report() {
        let directory = tempfile::tempdir().unwrap();
        let report = report_in(directory.path());
        report.write(|out| out.write_all(b"old")).unwrap();
        let failed = report.write(|out| {
            out.write_all(b"new")?;
            Err(ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read(&report.path).unwrap(), b"old");
        assert_eq!(names_in(directory.path()), ["r.json"]);
    }

    #[test]
    fn a_symlink_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let report = report_in(directory.path());
        let secret = directory.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        report.write(|out| out.write_all(b"old")).unwrap();
        assert!(report.open_written().is_some() && !report.is_replaced());
        fs::remove_file(&report.path).unwrap();
        assert!(report.open_written().is_none() && !report.is_replaced());
        symlink(&secret, &report.path).unwrap();
        assert!(report.open_written().is_none() && report.is_replaced());
        assert!(report.open_earlier().is_err());
        report.write(|out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
        assert_eq!(fs::read(&report.path).unwrap(), b"new");
    }
}
