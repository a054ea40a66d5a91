// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop export`: what the reports list, in the formats of other programs.

mod apparmor;
mod creport;
mod dockerfile;
mod intoto;
mod kubescape;
mod lists;

use crate::error::{Error, Result};
use crate::files::kinds::Kinds;
use crate::files::path_tree::PathTree;
use crate::image::Image;
use crate::log;
use crate::report::detail::{Use, combine};
use crate::report::output;
use crate::report::reader::Paths;
use crate::report::schema::{encode_name, field};
use crate::reports::several::Several;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, PartialEq)]
pub struct Export {
    pub format: Format,
    /// The directory into which the image was unpacked.
    pub root: Option<PathBuf>,
    /// Where the text goes; `-` is standard output.
    pub output: OsString,
    pub reports: Vec<OsString>,
    /// Take reports of different images.
    pub takes_any_image: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The lists of files that are fetched first, for each program that takes one.
    Estargz,
    Nydus,
    NydusV1,
    Soci,
    Overlaybd,
    /// One absolute path per line.
    Paths,
    /// The JSON form of an image minifier's report.
    Creport,
    /// An ApplicationProfile of Kubescape.
    Kubescape,
    /// An attestation of a runtime trace by in-toto.
    Intoto,
    Dockerfile,
    /// A profile of AppArmor.
    Apparmor,
}

impl Format {
    pub const NAMES: [&str; 11] = [
        "estargz",
        "nydus",
        "nydus-v1",
        "soci",
        "overlaybd",
        "paths",
        "creport",
        "kubescape",
        "intoto",
        "dockerfile",
        "apparmor",
    ];

    const ALL: [Format; 11] = [
        Format::Estargz,
        Format::Nydus,
        Format::NydusV1,
        Format::Soci,
        Format::Overlaybd,
        Format::Paths,
        Format::Creport,
        Format::Kubescape,
        Format::Intoto,
        Format::Dockerfile,
        Format::Apparmor,
    ];

    pub fn parse(name: &str) -> Option<Format> {
        let named = Format::NAMES.iter().zip(Format::ALL);
        named
            .into_iter()
            .find_map(|(known, format)| (*known == name).then_some(format))
    }

    fn name(self) -> &'static str {
        let mut named = Format::NAMES.into_iter().zip(Format::ALL);
        named
            .find_map(|(name, format)| (format == self).then_some(name))
            .expect("each format has a name")
    }
}

/// A file that containers used.
pub struct Used {
    pub path: Vec<u8>,
    pub kinds: Kinds,
}

impl Export {
    pub fn run(&self) -> Result<()> {
        output::check("o", &self.output)?;
        self.check_root()?;
        let several = Several::read(&self.reports, self.takes_any_image)?;
        for (name, head) in self.reports.iter().zip(&several.heads) {
            if head[field::COMPLETE] != true {
                let missing = &head[field::MISSING];
                log::tell(format_args!(
                    "{} is not complete: {missing}",
                    name.display()
                ));
            }
        }
        let mut image = match &self.root {
            Some(root) => Some(Image::open(root)?),
            None => None,
        };
        let text = match self.format {
            Format::Creport => creport::text(&several, image.as_mut())?,
            Format::Kubescape => kubescape::text(&several),
            Format::Intoto => intoto::text(&several, image.as_mut())?,
            Format::Dockerfile => dockerfile::text(&several, &self.reports),
            Format::Apparmor => apparmor::text(&several),
            list => lists::text(list, &several, image.as_mut())?,
        };
        output::write(&self.output, |out| out.write_all(&text))
    }

    /// Says which formats need the image, and which have no use for it.
    fn check_root(&self) -> Result<()> {
        let name = self.format.name();
        match (self.format, &self.root) {
            (Format::NydusV1, None) => Err(Error::usage(format!(
                "-format={name}: nydus takes no list with a file that the image lacks; give the unpacked image as -root=DIR"
            ))),
            (Format::Kubescape | Format::Dockerfile | Format::Apparmor, Some(root)) => {
                Err(Error::usage(format!(
                    "-root={}: -format={name} does not depend on the image; remove this",
                    root.display()
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Returns all files of the reports in the order of first use.
fn in_order(several: &Several) -> Vec<Used> {
    let uses = several.groups.iter().flat_map(|group| &group.uses);
    named(
        &several.tree,
        combine(&several.tree, uses.copied().collect()),
    )
}

/// Returns the files with their paths.
fn named(tree: &PathTree, uses: Vec<Use>) -> Vec<Used> {
    let named = uses.into_iter().map(|used| {
        let mut path = Vec::new();
        tree.path(used.file, &mut path);
        let kinds = used.kinds;
        Used { path, kinds }
    });
    named.collect()
}

/// Returns the directories in which the files lie, up to the root.
fn directories<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Paths {
    let mut directories = Paths::from([b"/".to_vec()]);
    for mut path in paths {
        while let Some(slash) = path.iter().rposition(|b| *b == b'/').filter(|at| *at > 0) {
            path = &path[..slash];
            if !directories.insert(path.into()) {
                break;
            }
        }
    }
    directories
}

/// Leaves out the files whose names the format has no place for, and says how many these are, and which is the first.
fn retain(files: &mut Vec<Used>, has_place: impl Fn(&[u8]) -> bool) {
    let without = files.extract_if(.., |file| !has_place(&file.path));
    let without: Vec<_> = without.collect();
    if let Some(first) = without.first() {
        let (names, them) = match without.len() {
            1 => ("1 name is".into(), "it"),
            n => (format!("{n} names are"), "them"),
        };
        let first = encode_name(&first.path);
        log::tell(format_args!(
            "{names} left out, because the format has no place for {them}: {}",
            first.escape_debug()
        ));
    }
}

fn is_utf8(path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok()
}
