// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop closure`: every path that an image needs for what reports list.

use crate::error::{Error, Result, cannot};
use crate::files::kinds::Kinds;
use crate::image::{End, Image, Paths, View, runtime};
use crate::log;
use crate::report::reader::FileLists;
use crate::report::schema::encode_name;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

#[derive(Debug, PartialEq)]
pub struct Closure {
    pub root: PathBuf,
    pub reports: Vec<OsString>,
    pub format: Format,
    /// The kinds of use that count.
    pub kinds: Kinds,
    /// Add what a container runtime reads and mounts by itself.
    pub with_runtime: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// One path per line, relative to the root, as tar, rsync and cpio take it.
    Lines,
    /// Paths relative to the root, each with a NUL behind it.
    Nul,
    /// One absolute path per line, the form in which image minifiers take a list of what to keep.
    Absolute,
}

impl Format {
    pub const NAMES: [&str; 2] = ["paths", "absolute"];

    pub fn parse(name: &str) -> Option<Format> {
        match name {
            "paths" => Some(Format::Lines),
            "absolute" => Some(Format::Absolute),
            _ => None,
        }
    }
}

/// Returns what the reports' files need in the image. Says on standard error what makes the result doubtful.
pub fn needed(image: &mut impl View, listed: &FileLists) -> Result<Paths> {
    for (report, missing) in &listed.incomplete {
        log::tell(format_args!("{report} is not complete: {missing}"));
    }
    for note in &listed.notes {
        log::tell(note);
    }
    let mut needed = Paths::default();
    // Every directory has a root, so finding `/` there does not say whose root it is.
    let (mut looked_for, mut found) = (0, 0);
    for path in &listed.files {
        let counts = usize::from(path != b"/");
        looked_for += counts;
        match image.follow(path, &mut needed)? {
            End::Exists => found += counts,
            End::Missing => (),
            End::Loop => log::tell(format_args!(
                "{}: too many levels of symbolic links",
                encode_name(path)
            )),
        }
    }
    if listed.late {
        add_names(image, &mut needed)?;
    }
    if found == 0 && looked_for > 0 {
        log::tell("none of the listed files is there: are the reports those of this image?");
    }
    Ok(needed)
}

/// Adds the symlinks that lead to what is needed: by one of them a loader or library was asked for.
fn add_names(image: &mut impl View, needed: &mut Paths) -> Result<()> {
    let mut links = image.links()?;
    loop {
        let (before, left) = (needed.len(), links.len());
        let mut later = Vec::new();
        for link in links {
            match image.target(&link)? {
                Some(target) if needed.contains(&target) => _ = image.follow(&link, needed)?,
                _ => later.push(link),
            }
        }
        // A link brings its directory, which further links may lead to.
        if needed.len() == before || later.len() == left {
            return Ok(());
        }
        links = later;
    }
}

/// Checks that no path holds a newline, which would make it two lines. The error says which flag helps.
pub fn check_lines(paths: &[impl AsRef<[u8]>], remedy: &str) -> Result<()> {
    let mut paths = paths.iter().map(AsRef::as_ref);
    match paths.find(|path| path.contains(&b'\n')) {
        None => Ok(()),
        Some(path) => Err(Error::usage(format!(
            "{:?} holds a newline: give {remedy}",
            encode_name(path)
        ))),
    }
}

/// Image minifiers take what follows a colon in an include list for permissions, and drop such paths.
fn warn_of_colons(paths: &[&[u8]]) {
    let with_colon = paths.iter().filter(|path| path.contains(&b':')).count();
    let (paths, them) = match with_colon {
        0 => return,
        1 => ("path holds", "it"),
        _ => ("paths hold", "them"),
    };
    log::tell(format_args!(
        "{with_colon} {paths} a colon: SlimToolkit and mint drop {them}; give them snoop export -format=creport"
    ));
}

impl Closure {
    /// Prints the paths, each behind its parent directory.
    pub fn print(&self, out: &mut impl Write) -> Result<()> {
        let listed = FileLists::read(&self.reports, self.kinds)?;
        let mut image = Image::open(&self.root)?;
        let mut needed = needed(&mut image, &listed)?;
        if self.with_runtime {
            needed.extend(runtime::needed(&mut image, &listed.mounts)?);
        }
        let mut paths: Vec<_> = needed.iter().map(Vec::as_slice).collect();
        paths.sort_unstable();
        if matches!(self.format, Format::Lines | Format::Absolute) {
            check_lines(&paths, "-0, or use snoop export -format=creport")?;
        }
        if self.format == Format::Absolute {
            warn_of_colons(&paths);
        }
        self.write(&paths, out)
            .map_err(|e| cannot("write to standard output", e))
    }

    fn write(&self, paths: &[&[u8]], out: &mut impl Write) -> io::Result<()> {
        for path in paths {
            let (path, end) = match self.format {
                Format::Absolute => (*path, b"\n"),
                Format::Nul => (&path[1..], b"\0"),
                _ => (&path[1..], b"\n"),
            };
            out.write_all(path)?;
            out.write_all(end)?;
        }
        out.flush()
    }
}
