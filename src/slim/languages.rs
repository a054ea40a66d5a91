// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages of languages: what says their names and versions, and which files are theirs.

use crate::error::Result;
use crate::slim::keep::Why;
use crate::slim::layers::Id;
use crate::slim::scanners::{Files, Kind, Package, Scan, field, text_of};
use serde_json::Value;
use std::collections::HashMap;

/// The files of a Python package's metadata that stay.
const PYTHON: [&[u8]; 7] = [
    b"METADATA",
    b"PKG-INFO",
    b"RECORD",
    b"INSTALLER",
    b"WHEEL",
    b"top_level.txt",
    b"direct_url.json",
];

/// A description of a module of Node.js that is larger is not parsed: made for it, it would take much memory.
const JSON_MAX: usize = 1 << 20;

/// A directory or file of that name, with or without a suffix, in a directory.
type Place = (Id, Vec<u8>);
/// The files that stay in places, by the places.
type Kept = HashMap<Place, Vec<Id>>;

/// What describes a package.
struct Described {
    kind: Kind,
    /// A file, or the directory of a Python package's metadata.
    by: Id,
    /// Where its files are, if no list says it.
    places: Vec<Place>,
}

/// Returns whether the file has to be looked into, also for the packages' names and versions if those are asked for.
pub fn is_read(path: &[u8], with_packages: bool) -> bool {
    let ends = |ends: &[&[u8]]| ends.iter().any(|end| path.ends_with(end));
    let lists: [&[u8]; 3] = [
        b".dist-info/RECORD",
        b".egg-info/top_level.txt",
        b".dist-info/top_level.txt",
    ];
    let descriptions: [&[u8]; 3] = [b".dist-info/METADATA", b".egg-info/PKG-INFO", b".egg-info"];
    ends(&lists) || (with_packages && (ends(&descriptions) || is_node_js(path)))
}

fn is_node_js(path: &[u8]) -> bool {
    let directories = path.strip_suffix(b"/package.json");
    let mut names = directories.map(|d| d.rsplit(|b| *b == b'/'));
    let above = names.as_mut().and_then(|names| {
        let above = names.nth(1)?;
        match above.starts_with(b"@") {
            true => names.next(),
            false => Some(above),
        }
    });
    above == Some(b"node_modules")
}

/// Returns what of a file has to be remembered: of descriptions the lines of the name and version, of others all.
pub fn gist(path: &[u8], text: Vec<u8>) -> Vec<u8> {
    let descriptions: [&[u8]; 3] = [b"METADATA", b"PKG-INFO", b".egg-info"];
    if path.ends_with(b"/package.json") {
        let parsed: Value = match text.len() <= JSON_MAX {
            true => serde_json::from_slice(&text).unwrap_or_default(),
            false => Value::Null,
        };
        let value = |key: &str| parsed[key].as_str().unwrap_or_default().replace('\n', " ");
        format!("Name: {}\nVersion: {}\n", value("name"), value("version")).into_bytes()
    } else if descriptions.iter().any(|end| path.ends_with(end)) {
        let (name, version) = (field(&text, b"Name:"), field(&text, b"Version:"));
        [b"Name: ", name, b"\nVersion: ", version, b"\n"].concat()
    } else {
        text
    }
}

impl Scan<'_, '_> {
    pub fn languages(&mut self) -> Result<()> {
        let described = self.described();
        let kept = self.kept(&described);
        for package in described {
            let files = match package.kind {
                Kind::PyPi => self.recorded(package.by)?,
                _ => None,
            };
            let files = files.unwrap_or_else(|| {
                let all = package.places.iter().flat_map(|place| &kept[place]);
                let is_used = |node: &Id| self.keep.why(*node) == Some(Why::Used);
                Files {
                    stay: all.clone().next().is_some(),
                    used: all.copied().filter(is_used).collect(),
                }
            });
            if files.stay {
                self.keep_description(&package);
            }
            let package = self.named(&package, files.used);
            self.add(package);
        }
        Ok(())
    }

    fn described(&self) -> Vec<Described> {
        let layers = &*self.keep.layers;
        let is_there = |node: &Id| layers.is_there(*node);
        let described = layers.nodes().filter(is_there).filter_map(|by| {
            let (name, directory) = (layers.name(by), layers.parent(by));
            let above = layers.parent(directory);
            let (kind, places) = if name.ends_with(b".dist-info") || name.ends_with(b".egg-info") {
                let modules = self.modules(by).into_iter();
                (Kind::PyPi, modules.map(|name| (directory, name)).collect())
            } else if name == b"package.json" && is_node_js(&layers.path(by)) {
                // The description of a module lies on top of its directory.
                (Kind::Npm, vec![(above, layers.name(directory).to_vec())])
            } else {
                // specifications/NAME.gemspec is of what is in gems/NAME.
                let gem = name.strip_suffix(b".gemspec")?;
                let gems = layers.find(&[&layers.path(above), &b"/gems"[..]].concat())?;
                if layers.name(directory) != b"specifications" {
                    return None;
                }
                (Kind::Gem, vec![(gems, gem.to_vec())])
            };
            Some(Described { kind, by, places })
        });
        described.collect()
    }

    /// Returns the files that stay in the places of packages. A file belongs to the innermost one.
    fn kept(&self, described: &[Described]) -> Kept {
        let places = described.iter().flat_map(|package| &package.places);
        let mut kept: Kept = places.map(|place| (place.clone(), Vec::new())).collect();
        let layers = &*self.keep.layers;
        let is_file = |node: &Id| self.keep.is_kept(*node) && !layers.is_directory(*node);
        for file in layers.nodes().filter(is_file) {
            let name = layers.name(file);
            let stem = name.split(|b| *b == b'.').next().unwrap_or_default();
            let mut place = (layers.parent(file), stem.to_vec());
            let mut at = file;
            loop {
                if let Some(files) = kept.get_mut(&place) {
                    files.push(file);
                    break;
                }
                let above = layers.parent(at);
                if at == above {
                    break;
                }
                place = (above, layers.name(at).to_vec());
                at = above;
            }
        }
        kept
    }

    /// Returns the modules that the metadata of a Python package is about.
    fn modules(&self, metadata: Id) -> Vec<Vec<u8>> {
        let path = self.keep.layers.path(metadata);
        let listed = self.text(&[&path, &b"/top_level.txt"[..]].concat());
        let Some(listed) = listed else {
            // Its name is all there is: typing_extensions-4.4.0.egg-info.
            let name = self.keep.layers.name(metadata);
            let end = name.iter().position(|b| matches!(b, b'-' | b'.'));
            return vec![name[..end.unwrap_or(name.len())].to_ascii_lowercase()];
        };
        let lines = listed.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        lines
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// Looks for the files that a Python package's RECORD lists, if it has one.
    fn recorded(&mut self, metadata: Id) -> Result<Option<Files>> {
        let layers = &*self.keep.layers;
        let path = layers.path(metadata);
        let Some(record) = self.text(&[&path, &b"/RECORD"[..]].concat()) else {
            return Ok(None);
        };
        let own = [layers.name(metadata), b"/"].concat();
        let beside = layers.path(layers.parent(metadata));
        let lines = record.split(|b| *b == b'\n');
        let files = lines.filter_map(|line| line.split(|b| *b == b',').next());
        let files = files.filter(|file| !file.is_empty() && !file.starts_with(&own));
        let mut paths = files.map(|file| [&beside, &b"/"[..], file].concat());
        self.files(&mut paths).map(Some)
    }

    fn keep_description(&mut self, package: &Described) {
        if !self.keep.layers.is_directory(package.by) {
            self.keep.node(package.by, Why::Scanner);
            return;
        }
        let layers = &*self.keep.layers;
        let children = layers.children(package.by);
        let read: Vec<_> = children
            .filter(|c| PYTHON.contains(&layers.name(*c)))
            .collect();
        for child in read {
            self.keep.node(child, Why::Scanner);
        }
    }

    /// The package with its name and version, which are in its description, or else in the name of that.
    fn named(&self, package: &Described, used: Vec<Id>) -> Package {
        let layers = &*self.keep.layers;
        let path = layers.path(package.by);
        let inner = [&b""[..], b"/METADATA", b"/PKG-INFO"];
        let mut texts = inner
            .iter()
            .filter_map(|name| self.text(&[&path, *name].concat()));
        let text = texts.next().unwrap_or_default();
        let (mut name, mut version) = (
            text_of(field(text, b"Name:")),
            text_of(field(text, b"Version:")),
        );
        if name.is_empty() && package.kind != Kind::Npm {
            (name, version) = split_version(&text_of(layers.name(package.by)));
        }
        Package {
            kind: package.kind,
            name,
            version,
            architecture: String::new(),
            source: String::new(),
            used: Some(used),
        }
    }
}

/// Returns the name and the version in the name of a file such as nokogiri-1.16.0.gemspec.
fn split_version(file: &str) -> (String, String) {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let is_version = |(at, _): &(usize, &str)| {
        let rest = &stem[at + 1..];
        rest.starts_with(|c: char| c.is_ascii_digit())
    };
    match stem.match_indices('-').find(is_version) {
        Some((at, _)) => {
            let version = stem[at + 1..].split('-').next().unwrap_or_default();
            (stem[..at].into(), version.into())
        }
        None => (stem.into(), String::new()),
    }
}
