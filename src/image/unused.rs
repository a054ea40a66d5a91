// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop unused`: lists what is in an image but in no report.

use crate::error::{Result, cannot};
use crate::files::kinds::Kinds;
use crate::image::closure;
use crate::image::packages::{self, Package};
use crate::image::{Entry, Image, Paths, View};
use crate::report::reader::FileLists;
use crate::report::schema::encode_name;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

#[derive(Debug, PartialEq)]
pub struct Unused {
    pub root: PathBuf,
    pub reports: Vec<OsString>,
    pub form: Output,
    /// The kinds of use that count.
    pub kinds: Kinds,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output {
    Summary,
    Paths,
    Json,
}

/// The number of files (everything that is not a directory), and the bytes of their content.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Size {
    pub files: u64,
    pub bytes: u64,
}

impl Size {
    pub fn add(&mut self, other: Size) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// A directory or package, with the sizes of its used and of its unused files.
#[derive(Default)]
pub struct Share {
    pub name: String,
    pub used: Size,
    pub unused: Size,
}

/// The findings about an image.
struct Findings {
    used: Size,
    unused: Size,
    /// The unused paths, sorted, including directories in which nothing is used.
    paths: Vec<Vec<u8>>,
    /// The topmost directories in which nothing is used, the largest first.
    directories: Vec<Share>,
    /// Packages with an unused file, the ones with the most unused bytes first.
    packages: Vec<Share>,
}

/// The most lines that a table of the summary has.
const SHOWN: usize = 15;

impl Unused {
    pub fn print(&self, out: &mut impl Write) -> Result<()> {
        let listed = FileLists::read(&self.reports, self.kinds)?;
        let mut image = Image::open(&self.root)?;
        let needed = closure::needed(&mut image, &listed)?;
        let entries = image.entries()?;
        let findings = findings(&mut image, &needed, &entries)?;
        if self.form == Output::Paths {
            closure::check_lines(&findings.paths, "-json")?;
        }
        match self.form {
            Output::Paths => paths(&findings, out),
            Output::Json => writeln!(out, "{:#}", as_json(&findings)),
            Output::Summary => summary(&findings, out),
        }
        .and_then(|()| out.flush())
        .map_err(|e| cannot("write to standard output", e))
    }
}

fn findings(image: &mut Image, needed: &Paths, entries: &[Entry]) -> Result<Findings> {
    let sizes = sizes(entries);
    let mut found = Findings {
        used: Size::default(),
        unused: Size::default(),
        paths: Vec::new(),
        directories: Vec::new(),
        packages: Vec::new(),
    };
    // The entries are sorted, so the content of a directory follows it.
    let mut top: Option<&[u8]> = None;
    for (entry, size) in entries.iter().zip(&sizes) {
        if needed.contains(&entry.path) {
            found.used.add(*size);
            continue;
        }
        found.unused.add(*size);
        found.paths.push(entry.path.clone());
        let below = |top: &[u8]| {
            let rest = entry.path.strip_prefix(top);
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        if !top.is_some_and(below) {
            top = entry.metadata.is_dir().then_some(&entry.path);
            found.directories.extend(top.map(|path| Share {
                name: encode_name(path).into_owned(),
                ..Share::default()
            }));
        }
        if let (Some(_), Some(directory)) = (top, found.directories.last_mut()) {
            directory.unused.add(*size);
        }
    }
    sort(&mut found.directories);
    let installed = packages::installed(image);
    found.packages = shares(image, needed, entries, &sizes, &installed)?;
    found.packages.retain(|share| share.unused.files > 0);
    Ok(found)
}

/// Sorts by the unused bytes, the most first.
fn sort(shares: &mut [Share]) {
    shares.sort_by(|a, b| (b.unused.bytes, &a.name).cmp(&(a.unused.bytes, &b.name)));
}

/// Returns how much of each package is used and unused, the ones with the most unused bytes first.
pub fn shares(
    image: &mut Image,
    needed: &Paths,
    entries: &[Entry],
    sizes: &[Size],
    packages: &[Package],
) -> Result<Vec<Share>> {
    let files = entries.iter().zip(sizes);
    let files: HashMap<&[u8], Size> = files
        .filter(|(entry, _)| !entry.metadata.is_dir())
        .map(|(entry, size)| (entry.path.as_slice(), *size))
        .collect();
    let shares = packages
        .iter()
        .map(|package| share(image, needed, &files, package));
    let mut shares = shares.collect::<Result<Vec<_>>>()?;
    sort(&mut shares);
    Ok(shares)
}

/// Returns the size of each entry. The bytes of a file with several names count only for the first name.
pub fn sizes(entries: &[Entry]) -> Vec<Size> {
    let mut several = HashSet::new();
    let size = |entry: &Entry| {
        let found = &entry.metadata;
        let first = found.nlink() < 2 || several.insert((found.dev(), found.ino()));
        Size {
            files: u64::from(!found.is_dir()),
            bytes: if found.is_file() && first {
                found.len()
            } else {
                0
            },
        }
    };
    entries.iter().map(size).collect()
}

/// Returns how much of a package is used and unused.
fn share(
    image: &mut Image,
    needed: &Paths,
    files: &HashMap<&[u8], Size>,
    package: &Package,
) -> Result<Share> {
    let mut share = Share {
        name: package.name.clone(),
        ..Share::default()
    };
    for path in &package.files {
        let Some(path) = image.locate(path)? else {
            continue;
        };
        let Some(size) = files.get(&path[..]) else {
            continue;
        };
        let part = if needed.contains(&path) {
            &mut share.used
        } else {
            &mut share.unused
        };
        part.add(*size);
    }
    Ok(share)
}

fn paths(found: &Findings, out: &mut impl Write) -> io::Result<()> {
    for path in &found.paths {
        out.write_all(path)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn as_json(found: &Findings) -> Value {
    let size = |size: &Size| json!({"files": size.files, "bytes": size.bytes});
    let shares = |key: &str, shares: &[Share]| -> Value {
        let share =
            |s: &Share| json!({key: s.name, "used": size(&s.used), "unused": size(&s.unused)});
        shares.iter().map(share).collect()
    };
    json!({
        "used": size(&found.used),
        "unused": size(&found.unused),
        "directories": shares("path", &found.directories),
        "packages": shares("name", &found.packages),
        "paths": found.paths.iter().map(|path| encode_name(path)).collect::<Vec<_>>(),
    })
}

fn summary(found: &Findings, out: &mut impl Write) -> io::Result<()> {
    for (name, size) in [("used", found.used), ("unused", found.unused)] {
        let (files, bytes) = (size.files, human(size.bytes));
        writeln!(out, "{name:<8}{files:>9} files {bytes:>10}")?;
    }
    if !found.directories.is_empty() {
        writeln!(out, "\nLargest completely unused directories:")?;
    }
    for share in found.directories.iter().take(SHOWN) {
        let (files, bytes) = (share.unused.files, human(share.unused.bytes));
        writeln!(
            out,
            "{bytes:>10} {files:>8} files  {}",
            share.name.escape_debug()
        )?;
    }
    rest(found.directories.len(), out)?;
    if !found.packages.is_empty() {
        writeln!(out, "\nPackages with unused files:")?;
    }
    for share in found.packages.iter().take(SHOWN) {
        let bytes = human(share.unused.bytes);
        let (unused, all) = (share.unused.files, share.unused.files + share.used.files);
        let name = share.name.escape_debug();
        writeln!(out, "{bytes:>10} {unused:>8} of {all} files  {name}")?;
    }
    rest(found.packages.len(), out)
}

fn rest(all: usize, out: &mut impl Write) -> io::Result<()> {
    match all.saturating_sub(SHOWN) {
        0 => Ok(()),
        n => writeln!(out, "{:>10} {n} more", "…"),
    }
}

/// Formats a number of bytes for people.
pub fn human(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_formatted_for_people() {
        let shown = [0, 1023, 1024, 1536 << 10, 5 << 30].map(human);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 GiB"]);
    }
}
