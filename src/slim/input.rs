// SPDX-License-Identifier: MIT OR Apache-2.0
//! The image as it comes: what `docker save` writes, an OCI archive, or an OCI layout in a directory.
//!
//! An archive is read where it lies; what comes through a pipe, or compressed, goes to a file without a name first.

use crate::archive::compression::{Compression, Decoder};
use crate::archive::digest::Digest;
use crate::archive::invalid;
use crate::archive::tar::{Kind, Reader, Skip};
use crate::error::{Error, Result};
use crate::slim::progress::Progress;
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

/// Manifests, indexes and configurations; what engines write has some KiB.
const TEXT_MAX: u64 = 16 << 20;
/// Files of an archive, and images in it.
const MEMBERS_MAX: usize = 100_000;
/// Indexes in indexes.
const DEPTH_MAX: usize = 4;
pub const BUFFER: usize = 256 << 10;

/// A piece of a file.
#[derive(Clone)]
pub struct Section {
    file: Rc<File>,
    at: u64,
    end: u64,
    progress: Rc<Progress>,
}

impl Section {
    pub fn len(&self) -> u64 {
        self.end - self.at
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = buffer
            .len()
            .min(usize::try_from(self.len()).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..max], self.at)?;
        if n == 0 && max > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        self.progress.add(n as u64);
        Ok(n)
    }
}

impl Seek for Section {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::Start(_) | SeekFrom::End(_) => None,
        };
        let to = to.filter(|to| *to <= self.end);
        let to = to.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.progress.add(to.saturating_sub(self.at));
        self.at = to;
        Ok(to)
    }
}

impl Skip for BufReader<Section> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.buffer().len() as u64 + self.get_ref().len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.seek_relative(bytes as i64)
    }
}

/// The files of an image, by name.
pub struct Input {
    source: Source,
    progress: Rc<Progress>,
}

enum Source {
    Archive {
        file: Rc<File>,
        members: HashMap<String, Member>,
    },
    Directory(PathBuf),
}

enum Member {
    File { at: u64, size: u64 },
    Link(String),
}

/// One image of those in an archive.
pub struct Found {
    /// Names with tags.
    pub names: Vec<String>,
    /// Such as linux/amd64 or linux/arm64/v8.
    pub platform: String,
    /// Of the configuration, the manifest and the indexes that name it.
    pub digests: Vec<Digest>,
    /// By which the image is known best: the manifest's digest, else the configuration's.
    pub digest: Digest,
    pub config: Value,
    /// The manifest's annotations.
    pub annotations: Value,
    pub layers: Vec<Layer>,
    /// Has the archive the manifest as a registry has it? What engines save is often made anew.
    pub is_from_registry: bool,
}

pub struct Layer {
    pub content: Section,
    /// Of the file in the archive, if something states it.
    pub digest: Option<Digest>,
    /// Of the content, decompressed.
    pub diff_id: Digest,
    pub annotations: Value,
}

impl Layer {
    /// Returns how the file in the archive is compressed, by its first bytes.
    pub fn compression(&self) -> io::Result<Compression> {
        let mut beginning = Vec::new();
        let section = self.content.clone();
        section.take(4).read_to_end(&mut beginning)?;
        Ok(Compression::of(&beginning))
    }

    /// The content, decompressed.
    pub fn open(&self) -> io::Result<Box<dyn Skip>> {
        let input = BufReader::with_capacity(BUFFER, self.content.clone());
        Ok(match self.compression()? {
            Compression::None => Box::new(input),
            _ => Box::new(Decoder::new(input)?),
        })
    }
}

/// A file without a name, in a directory.
pub fn unnamed_file(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let unnamed = options
        .clone()
        .custom_flags(libc::O_TMPFILE)
        .open(directory);
    if let Ok(file) = unnamed {
        return Ok(file);
    }
    // Not every file system has files that never had a name.
    let name = format!(".snoop.{:016x}.tmp", crate::sys::random::random()?);
    let path = directory.join(name);
    let file = options.create_new(true).open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

impl Input {
    /// Opens an image by name; `-` is standard input. What has to be stored first goes to `directory`, and is `max`
    /// bytes at most.
    pub fn open(name: &OsStr, directory: &Path, max: u64, progress: Rc<Progress>) -> Result<Input> {
        let shown = match name.as_encoded_bytes() {
            b"-" => "standard input".into(),
            _ => name.to_string_lossy().into_owned(),
        };
        let wrong = |e: io::Error| Error::failed(format!("{shown}: {e}"));
        let file = match name.as_encoded_bytes() {
            b"-" => File::from(io::stdin().as_fd().try_clone_to_owned().map_err(wrong)?),
            _ => File::open(name).map_err(|e| Error::usage(format!("{shown}: {e}")))?,
        };
        let metadata = file.metadata().map_err(wrong)?;
        if metadata.is_dir() {
            let input = Input {
                source: Source::Directory(name.into()),
                progress,
            };
            return match input.text("index.json")? {
                Some(_) => Ok(input),
                None => Err(Error::usage(format!(
                    "{shown}: this directory is no OCI layout: it has no index.json"
                ))),
            };
        }
        let file = stored(file, metadata.is_file(), directory, max).map_err(wrong)?;
        Input::archive(file, progress).map_err(|e| {
            wrong(match e.kind() {
                io::ErrorKind::UnexpectedEof => invalid("the archive is cut off"),
                _ => e,
            })
        })
    }

    fn archive(file: File, progress: Rc<Progress>) -> io::Result<Input> {
        let end = file.metadata()?.len();
        let file = Rc::new(file);
        let section = Section {
            file: file.clone(),
            at: 0,
            end,
            // Its headers are few.
            progress: Rc::default(),
        };
        let mut reader = Reader::new(BufReader::with_capacity(4096, section));
        let mut members = HashMap::new();
        while let Some(entry) = reader.next_entry()? {
            let name = String::from_utf8(entry.path)
                .map_err(|_| invalid("the archive of an image holds only names in UTF-8"))?;
            let name = name.trim_start_matches("./").to_string();
            let at = reader.position();
            let member = match entry.kind {
                Kind::File if entry.size == entry.stored => Member::File {
                    at,
                    size: entry.stored,
                },
                Kind::Symlink | Kind::HardLink => {
                    let link = String::from_utf8(entry.link).unwrap_or_default();
                    Member::Link(match entry.kind {
                        Kind::HardLink => link,
                        _ => beside(&name, &link),
                    })
                }
                _ => continue,
            };
            if members.len() >= MEMBERS_MAX {
                return Err(invalid(format!(
                    "the archive holds more than {MEMBERS_MAX} files"
                )));
            }
            if members.insert(name.clone(), member).is_some() {
                return Err(invalid(format!("the archive holds {name} twice")));
            }
        }
        Ok(Input {
            source: Source::Archive { file, members },
            progress,
        })
    }

    /// The file of that name.
    fn file(&self, name: &str) -> Result<Option<Section>> {
        let progress = self.progress.clone();
        match &self.source {
            Source::Archive { file, members } => {
                let mut member = members.get(name);
                // `docker save` of old links to a layer that several images have.
                for _ in 0..DEPTH_MAX {
                    match member {
                        Some(Member::Link(target)) => member = members.get(target),
                        _ => break,
                    }
                }
                Ok(match member {
                    Some(Member::File { at, size }) => Some(Section {
                        file: file.clone(),
                        at: *at,
                        end: at + size,
                        progress,
                    }),
                    _ => None,
                })
            }
            Source::Directory(directory) => {
                // A manifest of others may not name what lies outside.
                if !is_inside(name) {
                    return Ok(None);
                }
                let path = directory.join(name);
                let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
                match opened {
                    Ok((metadata, file)) if metadata.is_file() => Ok(Some(Section {
                        file: Rc::new(file),
                        at: 0,
                        end: metadata.len(),
                        progress,
                    })),
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::failed(format!(
                        "cannot read {}: {e}",
                        path.display()
                    ))),
                    _ => Ok(None),
                }
            }
        }
    }

    fn text(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut section) = self.file(name)? else {
            return Ok(None);
        };
        if section.len() > TEXT_MAX {
            return Err(Error::failed(format!("{name} is too large")));
        }
        let mut text = Vec::with_capacity(section.len() as usize);
        let read = section.read_to_end(&mut text);
        read.map_err(|e| Error::failed(format!("cannot read {name}: {e}")))?;
        Ok(Some(text))
    }

    /// The JSON that a descriptor of an index or manifest describes, if it is there.
    fn described(&self, descriptor: &Value) -> Result<Option<(Value, Digest)>> {
        let (name, digest) = blob(descriptor)?;
        let Some(text) = self.text(&name)? else {
            return Ok(None);
        };
        if Digest::of(&text) != digest {
            return Err(damaged(&name, &Digest::of(&text)));
        }
        Ok(Some((json(&name, &text)?, digest)))
    }

    /// Returns all images.
    pub fn images(&self) -> Result<Vec<Found>> {
        let tags = match self.text("manifest.json")? {
            Some(text) => json("manifest.json", &text)?,
            None => Value::Null,
        };
        let mut found = Vec::new();
        if let Some(text) = self.text("index.json")? {
            let index = json("index.json", &text)?;
            self.add_index(&index, &[], &[], 0, &mut found)?;
        }
        let saved = tags.as_array().into_iter().flatten();
        if found.is_empty() {
            for saved in saved {
                found.push(self.saved(saved)?);
            }
        } else {
            for saved in saved {
                let config = saved["Config"].as_str().and_then(hex_of);
                let same = |image: &&mut Found| config.is_some_and(|c| image.digests.contains(&c));
                if let Some(image) = found.iter_mut().find(same) {
                    add_tags(&mut image.names, saved);
                }
            }
        }
        if found.is_empty() {
            return Err(Error::failed(
                "there is no image: neither manifest.json of docker save, nor an index.json with a manifest that is there",
            ));
        }
        Ok(found)
    }

    fn add_index(
        &self,
        index: &Value,
        names: &[String],
        digests: &[Digest],
        depth: usize,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        for descriptor in index["manifests"].as_array().into_iter().flatten() {
            let notes = &descriptor["annotations"];
            // What a builder attests about an image is stored beside it.
            if notes["vnd.docker.reference.type"] == "attestation-manifest" {
                continue;
            }
            let Some((manifest, digest)) = self.described(descriptor)? else {
                // An index may name platforms that were not pulled.
                continue;
            };
            let mut names = names.to_vec();
            for key in [
                "io.containerd.image.name",
                "org.opencontainers.image.ref.name",
            ] {
                names.extend(notes[key].as_str().map(String::from));
            }
            let digests = [digests, &[digest]].concat();
            if manifest["manifests"].is_array() {
                if depth == DEPTH_MAX {
                    return Err(Error::failed("there are too many indexes in indexes"));
                }
                self.add_index(&manifest, &names, &digests, depth + 1, found)?;
            } else if manifest["layers"].is_array() {
                if found.len() >= MEMBERS_MAX {
                    return Err(Error::failed("there are too many images"));
                }
                found.extend(self.described_image(&manifest, names, digests)?);
            }
        }
        Ok(())
    }

    fn described_image(
        &self,
        manifest: &Value,
        names: Vec<String>,
        mut digests: Vec<Digest>,
    ) -> Result<Option<Found>> {
        let Some((config, digest)) = self.described(&manifest["config"])? else {
            return Ok(None);
        };
        // Other artifacts have manifests too.
        if !config["rootfs"].is_object() {
            return Ok(None);
        }
        let known_as = digests.last().copied().unwrap_or(digest);
        digests.push(digest);
        let described = manifest["layers"].as_array().into_iter().flatten();
        let (mut layers, mut is_compressed) = (Vec::new(), false);
        let diff_ids = diff_ids(&config)?;
        for (at, descriptor) in described.enumerate() {
            let media_type = descriptor["mediaType"].as_str().unwrap_or_default();
            is_compressed |= check_media_type(media_type)?;
            let (name, digest) = blob(descriptor)?;
            layers.push(Layer {
                content: self.layer(&name)?,
                digest: Some(digest),
                diff_id: *diff_ids.get(at).ok_or_else(uneven)?,
                annotations: descriptor["annotations"].clone(),
            });
        }
        if layers.len() != diff_ids.len() {
            return Err(uneven());
        }
        Ok(Some(Found {
            names,
            platform: platform(&config),
            digests,
            digest: known_as,
            annotations: manifest["annotations"].clone(),
            is_from_registry: is_compressed,
            config,
            layers,
        }))
    }

    fn layer(&self, name: &str) -> Result<Section> {
        self.file(name)?.ok_or_else(|| {
            Error::failed(format!(
                "the layer {name} is missing: is the archive whole?"
            ))
        })
    }

    /// An image as `docker save` listed it before version 25.
    fn saved(&self, saved: &Value) -> Result<Found> {
        let name = saved["Config"].as_str().unwrap_or_default();
        let text = self.text(name)?;
        let text =
            text.ok_or_else(|| Error::failed(format!("the configuration {name:?} is missing")))?;
        let digest = Digest::of(&text);
        if hex_of(name).is_some_and(|stated| stated != digest) {
            return Err(damaged(name, &digest));
        }
        let config = json(name, &text)?;
        let diff_ids = diff_ids(&config)?;
        let mut layers = Vec::new();
        let listed = saved["Layers"].as_array().into_iter().flatten();
        for (at, name) in listed.enumerate() {
            let name = name.as_str().unwrap_or_default();
            layers.push(Layer {
                content: self.layer(name)?,
                digest: None,
                diff_id: *diff_ids.get(at).ok_or_else(uneven)?,
                annotations: Value::Null,
            });
        }
        if layers.len() != diff_ids.len() {
            return Err(uneven());
        }
        let mut names = Vec::new();
        add_tags(&mut names, saved);
        Ok(Found {
            names,
            platform: platform(&config),
            digests: vec![digest],
            digest,
            config,
            annotations: Value::Null,
            layers,
            is_from_registry: false,
        })
    }
}

/// The file, or what it holds if it is no archive that lies on a disk: a file that can be read at any place.
fn stored(mut file: File, is_regular: bool, directory: &Path, max: u64) -> io::Result<File> {
    let mut beginning = [0; 4];
    if is_regular {
        let n = file.read_at(&mut beginning, 0)?;
        if Compression::of(&beginning[..n]) == Compression::None {
            return Ok(file);
        }
        file.rewind()?;
    }
    let mut input = Decoder::new(BufReader::with_capacity(BUFFER, file))?;
    let mut spool = unnamed_file(directory)?;
    let mut limited = (&mut input).take(max);
    io::copy(&mut limited, &mut spool)?;
    if limited.limit() == 0 {
        return Err(invalid(format!(
            "it has more than {max} bytes; -max-size allows more"
        )));
    }
    spool.flush()?;
    Ok(spool)
}

/// Chooses the only image, or the one of that name and platform.
pub fn choose(mut images: Vec<Found>, name: Option<&str>, platform: Option<&str>) -> Result<Found> {
    let fits = |image: &Found| {
        let named = name.is_none_or(|name| {
            let digest = Digest::parse(name);
            digest.is_some_and(|digest| image.digests.contains(&digest))
                || image
                    .names
                    .iter()
                    .any(|own| whole_name(own) == whole_name(name))
        });
        let on = platform.is_none_or(|platform| {
            let rest = image.platform.strip_prefix(platform);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        named && on
    };
    let listing: Vec<_> = images.iter().map(Found::shown).collect();
    images.retain(fits);
    let only = images.pop().filter(|_| images.is_empty());
    only.ok_or_else(|| {
        let listing = listing.join(", ");
        Error::usage(match (name, platform) {
            (None, None) => format!(
                "there are several images: {listing}; choose one by -image=NAME, -platform=OS/ARCH or both"
            ),
            _ => format!("-image and -platform fit none of the images, or several: {listing}"),
        })
    })
}

impl Found {
    /// For the person who has to choose.
    fn shown(&self) -> String {
        let name = self.names.first().cloned();
        let name = name.unwrap_or_else(|| self.digest.to_string());
        format!("{name} ({})", self.platform)
    }
}

/// A name with all that may be left out of it.
pub fn whole_name(name: &str) -> String {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    // A registry has a dot or a port, or is this machine.
    let is_registry = first.contains(['.', ':']) || first == "localhost";
    let name = match (is_registry, first) {
        (true, _) => name.into(),
        (false, "") => format!("docker.io/library/{rest}"),
        (false, _) => format!("docker.io/{name}"),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.contains(':') {
        true => name,
        false => format!("{name}:latest"),
    }
}

fn add_tags(names: &mut Vec<String>, saved: &Value) {
    for tag in saved["RepoTags"].as_array().into_iter().flatten() {
        names.extend(tag.as_str().map(String::from));
    }
    // The reference's short form stands beside the whole name.
    names.sort_by_key(|name| !name.contains(':'));
}

/// The name and digest of what a descriptor describes.
fn blob(descriptor: &Value) -> Result<(String, Digest)> {
    let stated = descriptor["digest"].as_str().unwrap_or_default();
    let digest = Digest::parse(stated);
    let digest = digest.ok_or_else(|| Error::failed(format!("{stated:?} is no SHA-256 digest")))?;
    Ok((format!("blobs/sha256/{}", digest.hex()), digest))
}

/// The digest that a file's name consists of, as `docker save` names configurations.
fn hex_of(name: &str) -> Option<Digest> {
    let last = name.rsplit('/').next()?;
    Digest::from_hex(last.strip_suffix(".json").unwrap_or(last))
}

fn json(name: &str, text: &[u8]) -> Result<Value> {
    serde_json::from_slice(text).map_err(|e| Error::failed(format!("{name} is not JSON: {e}")))
}

fn diff_ids(config: &Value) -> Result<Vec<Digest>> {
    let ids = config["rootfs"]["diff_ids"]
        .as_array()
        .into_iter()
        .flatten();
    ids.map(|id| {
        let digest = id.as_str().and_then(Digest::parse);
        digest
            .ok_or_else(|| Error::failed(format!("the configuration has {id} as a layer's digest")))
    })
    .collect()
}

fn platform(config: &Value) -> String {
    let part = |name: &str| config[name].as_str().filter(|part| !part.is_empty());
    let parts = [part("os"), part("architecture"), part("variant")];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    parts.join("/")
}

/// Refuses what is no layer of files; returns whether the type is that of a compressed layer.
fn check_media_type(media_type: &str) -> Result<bool> {
    const OCI: &str = "application/vnd.oci.image.layer.";
    const DOCKER: &str = "application/vnd.docker.image.rootfs.";
    let kind = media_type
        .strip_prefix(OCI)
        .or_else(|| media_type.strip_prefix(DOCKER));
    let end = kind.and_then(|kind| {
        [
            "v1.tar",
            "nondistributable.v1.tar",
            "diff.tar",
            "foreign.diff.tar",
        ]
        .iter()
        .find_map(|beginning| kind.strip_prefix(beginning))
    });
    match end {
        Some("") => Ok(false),
        Some("+gzip" | "+zstd" | ".gzip" | ".zstd") => Ok(true),
        _ => Err(Error::failed(format!(
            "a layer is of the media type {media_type:?}, which snoop does not know"
        ))),
    }
}

fn uneven() -> Error {
    Error::failed("the configuration and the manifest do not have the same number of layers")
}

pub fn damaged(name: &str, digest: &Digest) -> Error {
    Error::failed(format!("{name} is damaged: its digest is {digest}"))
}

/// Does a name stay in the directory that it is looked up in?
fn is_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The name that a symlink leads to, without `.` and `..`.
fn beside(name: &str, link: &str) -> String {
    let mut names: Vec<_> = name.split('/').collect();
    names.pop();
    for part in link.split('/') {
        match part {
            "" | "." => (),
            ".." => _ = names.pop(),
            part => names.push(part),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_a_whole() {
        for (name, whole) in [
            ("app", "docker.io/library/app:latest"),
            ("app:1", "docker.io/library/app:1"),
            ("team/app", "docker.io/team/app:latest"),
            ("localhost/app:2", "localhost/app:2"),
            ("reg.example:5000/app", "reg.example:5000/app:latest"),
            ("docker.io/library/app:1", "docker.io/library/app:1"),
        ] {
            assert_eq!(whole_name(name), whole);
        }
    }

    #[test]
    fn media_types_of_layers() {
        for (media_type, compressed) in [
            ("application/vnd.oci.image.layer.v1.tar", Some(false)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some(true)),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                Some(true),
            ),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                Some(true),
            ),
            ("application/vnd.oci.image.layer.v1.squashfs", None),
            ("", None),
        ] {
            assert_eq!(
                check_media_type(media_type).ok(),
                compressed,
                "{media_type}"
            );
        }
    }

    #[test]
    fn a_link_in_an_archive_is_a_name() {
        assert_eq!(beside("a/layer.tar", "../b/layer.tar"), "b/layer.tar");
        assert_eq!(beside("a", "../../b"), "b");
    }
}
