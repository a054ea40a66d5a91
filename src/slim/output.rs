// SPDX-License-Identifier: MIT OR Apache-2.0
//! The small image as one tar: an OCI layout, and beside it the manifest.json that `docker load` of old reads.
//!
//! The file has no name until it is whole. A blob's name is the digest of what it holds: its header is written last.

use crate::archive::digest::{Digest, Hashing};
use crate::archive::tar::{self, Kind};
use crate::error::{Error, Result, cannot};
use crate::slim::input::unnamed_file;
use crate::sys::{files, replace};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const BUFFER: usize = 256 << 10;

/// A file that has no name until it is whole.
pub struct Pending {
    file: File,
    path: PathBuf,
}

impl Pending {
    /// Begins the file that a flag names.
    pub fn create(flag: &str, path: &Path) -> Result<Pending> {
        let wrong = |why: String| Error::usage(format!("-{flag}={}: {why}", path.display()));
        let why = match path == "-" {
            true => Some("this is standard output"),
            false => replace::refusal(path),
        };
        if let Some(why) = why {
            return Err(wrong(format!("{why}; give the name of a file")));
        }
        let directory = replace::directory_of(path);
        let file = unnamed_file(directory)
            .map_err(|e| wrong(format!("cannot write into {}: {e}", directory.display())))?;
        let path = path.into();
        Ok(Pending { file, path })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|e| unwritten_file(&self.path, e))
    }

    /// Puts it in the place of what had its name.
    pub fn finish(mut self) -> Result<()> {
        put(&mut self.file, &self.path).map_err(|e| unwritten_file(&self.path, e))
    }
}

pub struct Output {
    file: File,
    /// Where the next member goes.
    at: u64,
    blobs: Vec<Digest>,
    /// `None` is standard output.
    path: Option<PathBuf>,
}

impl Output {
    /// A file of that name; `-` is standard output. What is not whole yet is in `directory`.
    pub fn create(name: &OsStr, directory: &Path) -> Result<Output> {
        let wrong = |why: String| Error::usage(format!("-o={}: {why}", name.to_string_lossy()));
        let path = (name != "-").then(|| PathBuf::from(name));
        let why = match &path {
            Some(path) => replace::refusal(path),
            None => io::stdout()
                .is_terminal()
                .then_some("standard output is a terminal"),
        };
        if let Some(why) = why {
            let remedy = match path {
                Some(_) => "give the name of a file, or - for standard output",
                None => "give the name of a file",
            };
            return Err(wrong(format!("{why}; {remedy}")));
        }
        let file = unnamed_file(directory)
            .map_err(|e| wrong(format!("cannot write into {}: {e}", directory.display())))?;
        let mut output = Output {
            file,
            at: 0,
            blobs: Vec::new(),
            path,
        };
        for directory in [&b"blobs/"[..], b"blobs/sha256/"] {
            let header = tar::entry(directory, Kind::Directory, b"", 0);
            output.append(&header).map_err(unwritten)?;
        }
        Ok(output)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Adds a file of that name.
    pub fn member(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let size = content.len() as u64;
        let mut bytes = tar::entry(name.as_bytes(), Kind::File, b"", size);
        bytes.extend(content);
        bytes.resize(bytes.len() + tar::padding(size) as usize, 0);
        self.append(&bytes).map_err(unwritten)
    }

    /// Adds a blob that `write` writes; one that is there already is there once. Returns its digest and size.
    pub fn blob(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<(Digest, u64)> {
        let (start, content) = (self.at, self.at + tar::BLOCK as u64);
        self.file
            .seek(SeekFrom::Start(content))
            .map_err(unwritten)?;
        let mut out = BufWriter::with_capacity(BUFFER, Hashing::new(&self.file));
        write(&mut out)?;
        out.flush().map_err(unwritten)?;
        let (digest, size) = (out.get_ref().digest(), out.get_ref().bytes);
        drop(out);
        if self.blobs.contains(&digest) {
            self.file.set_len(start).map_err(unwritten)?;
            return Ok((digest, size));
        }
        self.blobs.push(digest);
        let name = format!("blobs/sha256/{}", digest.hex());
        let header = tar::entry(name.as_bytes(), Kind::File, b"", size);
        self.append(&header).map_err(unwritten)?;
        self.at += size;
        let padding = [0; tar::BLOCK];
        self.append(&padding[..tar::padding(size) as usize])
            .map_err(unwritten)?;
        Ok((digest, size))
    }

    /// Ends the archive, and puts it in the place of what had its name.
    pub fn finish(mut self) -> Result<u64> {
        self.append(&tar::END).map_err(unwritten)?;
        match self.path.clone() {
            None => {
                self.file.rewind().map_err(unwritten)?;
                let mut out = io::stdout().lock();
                io::copy(&mut self.file, &mut out)
                    .and_then(|_| out.flush())
                    .map_err(|e| cannot("write to standard output", e))?;
            }
            Some(path) => put(&mut self.file, &path).map_err(|e| unwritten_file(&path, e))?,
        }
        Ok(self.at)
    }
}

/// Gives a file without a name its name, in the place of what had it.
fn put(file: &mut File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    let temporary = replace::temporary_beside(path)?;
    let put = give_name(file, &temporary).and_then(|()| fs::rename(&temporary, path));
    if put.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    put?;
    replace::sync_directory(path)
}

fn give_name(file: &mut File, name: &Path) -> io::Result<()> {
    if files::name_file(file, name).is_ok() {
        return Ok(());
    }
    // Not every file system can name a file that had no name.
    file.rewind()?;
    let mut named = File::create_new(name)?;
    io::copy(file, &mut named)?;
    named.sync_all()
}

fn unwritten_file(path: &Path, e: io::Error) -> Error {
    cannot(&format!("write {}", path.display()), e)
}

pub fn unwritten(e: io::Error) -> Error {
    cannot("write the image", e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tar::Reader;
    use std::io::Read;

    #[test]
    fn a_blob_is_there_once_and_named_by_its_digest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.tar");
        fs::write(&path, "old").unwrap();
        let mut output = Output::create(path.as_os_str(), directory.path()).unwrap();
        for content in [&b"abc"[..], b"", b"abc", &[7; 5000]] {
            let written = output.blob(|out| out.write_all(content).map_err(unwritten));
            assert_eq!(
                written.unwrap(),
                (Digest::of(content), content.len() as u64)
            );
            // Nothing is seen of it.
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
        output.member("index.json", b"{}").unwrap();
        let size = output.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(size, bytes.len() as u64);
        let (mut reader, mut found) = (Reader::new(&bytes[..]), Vec::new());
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            found.push((String::from_utf8(entry.path).unwrap(), content.len()));
        }
        let blob = |content: &[u8]| format!("blobs/sha256/{}", Digest::of(content).hex());
        let expected = [
            ("blobs/".into(), 0),
            ("blobs/sha256/".into(), 0),
            (blob(b"abc"), 3),
            (blob(b""), 0),
            (blob(&[7; 5000]), 5000),
            ("index.json".into(), 2),
        ];
        assert_eq!(found, expected);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// As on a file system that cannot name a file that has no name.
    #[test]
    fn a_file_that_cannot_be_named_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let (lost, path) = (
            directory.path().join("lost"),
            directory.path().join("out.tar"),
        );
        let mut output = Output::create(path.as_os_str(), directory.path()).unwrap();
        output.file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&lost)
            .unwrap();
        fs::remove_file(&lost).unwrap();
        assert!(files::name_file(&output.file, &lost).is_err());
        output.member("index.json", b"{}").unwrap();
        let size = output.finish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), size);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
