// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop slim`: an image and its reports to the small image.
//!
//! The archive is read twice. First all layers become one tree of names, and their digests are compared; then what stays
//! is copied. No content is kept in between.

pub mod input;
pub mod keep;
mod languages;
pub mod layers;
mod output;
mod plan;
mod progress;
mod sbom;
mod scanners;
mod summary;
mod write;

use crate::archive::compression::{Compression, Decoder};
use crate::archive::digest::{Digest, Hashing};
use crate::archive::invalid;
use crate::archive::tar::{Kind, Reader, Skip};
use crate::error::{Error, Result};
use crate::files::kinds::Kinds;
use crate::image::closure;
use crate::report::reader::FileLists;
use crate::sys::replace;
use input::{BUFFER, Found, Input, Layer};
use keep::{Contents, Keep, Why};
use layers::{Layers, New};
use output::{Output, Pending};
use plan::Plan;
use progress::Progress;
use sbom::Sbom;
use std::env;
use std::ffi::OsString;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use summary::Summary;

/// What the command line asks for.
#[derive(Debug, Default, PartialEq)]
pub struct Slim {
    /// An archive or a directory; `-` is standard input.
    pub image: OsString,
    pub reports: Vec<OsString>,
    /// Where the small image goes; `-` is standard output.
    pub output: OsString,
    /// The name of the small image.
    pub tag: Option<String>,
    /// Which image of several.
    pub name: Option<String>,
    pub platform: Option<String>,
    /// Paths and patterns of what stays too.
    pub keep: Vec<OsString>,
    pub keep_from: Vec<PathBuf>,
    /// The kinds of use that count.
    pub kinds: Kinds,
    /// Take reports that say that they lack something.
    pub takes_incomplete: bool,
    /// Take reports that name another image.
    pub takes_other_image: bool,
    pub is_squashed: bool,
    /// The bytes that all layers may have, decompressed.
    pub max_size: u64,
    /// Where the list of packages goes.
    pub sbom: Option<PathBuf>,
    /// Print what was done as JSON.
    pub is_json: bool,
}

/// What is remembered of the files that are looked into, all together: databases of packages.
const CONTENTS_MAX: u64 = 128 << 20;

impl Slim {
    pub fn run(&self) -> Result<()> {
        let listed = FileLists::read(&self.reports, self.kinds)?;
        self.check_complete(&listed)?;
        let patterns = keep::patterns(&self.keep, &self.keep_from)?;
        // What does not fit into memory goes to the disk that has to hold the image.
        let directory = match self.output == "-" {
            true => env::temp_dir(),
            false => replace::directory_of(Path::new(&self.output)).into(),
        };
        let mut output = Output::create(&self.output, &directory)?;
        let mut sbom = match &self.sbom {
            Some(path) => Some(Pending::create("sbom", path)?),
            None => None,
        };
        let progress = Rc::new(Progress::on_terminal());
        let input = Input::open(&self.image, &directory, self.max_size, progress.clone())?;
        let images = input.images()?;
        let image = input::choose(images, self.name.as_deref(), self.platform.as_deref())?;
        self.check_image(&image, &listed)?;

        // Each layer is read twice.
        for layer in image.layers.iter().chain(&image.layers) {
            progress.expect(layer.content.len());
        }
        let done = self.make(&image, &listed, &patterns, &mut output, &mut sbom);
        progress.clear();
        let mut summary = done?;
        summary.archive_bytes = output.finish()?;
        if let Some(sbom) = sbom {
            sbom.finish()?;
        }
        summary.tell(self.is_json, self.output == "-")
    }

    fn make(
        &self,
        image: &Found,
        listed: &FileLists,
        patterns: &[Vec<u8>],
        output: &mut Output,
        sbom: &mut Option<Pending>,
    ) -> Result<Summary> {
        let with_packages = sbom.is_some();
        let (mut layers, contents) = read(image, self.max_size, with_packages)?;
        let mut keep = Keep::new(&mut layers);
        let used = closure::needed(keep.layers, listed)?;
        keep.paths(&used, Why::Used);
        keep.container(&image.config["config"], &listed.mounts, &contents)?;
        for pattern in patterns {
            keep.asked(pattern)?;
        }
        let inventory = scanners::keep(&mut keep, &contents, with_packages)?;
        drop(contents);
        if let Some(file) = sbom {
            let sbom = Sbom {
                image,
                layers: keep.layers,
                inventory: &inventory,
                reports: &listed.digests,
                is_complete: listed.incomplete.is_empty(),
            };
            file.write(format!("{:#}\n", sbom.document()).as_bytes())?;
        }
        let plan = Plan::new(&keep, self.is_squashed);
        write::image(
            image,
            &keep,
            &plan,
            &self.tag(image)?,
            &listed.digests,
            output,
        )
    }

    fn check_complete(&self, listed: &FileLists) -> Result<()> {
        match listed.incomplete.first() {
            Some((report, missing)) if !self.takes_incomplete => Err(Error::failed(format!(
                "{report} is not complete: {missing}; what it lacks would be missing in the image. -incomplete takes it as it is"
            ))),
            _ => Ok(()),
        }
    }

    /// Compares the digests that reports name with those that the image is known by. Where the archive does not have the
    /// manifest as a registry has it, another digest says nothing.
    fn check_image(&self, image: &Found, listed: &FileLists) -> Result<()> {
        if !image.is_from_registry || self.takes_other_image {
            return Ok(());
        }
        for (report, stated) in self.reports.iter().zip(&listed.image_digests) {
            let text = stated.as_deref().unwrap_or_default();
            // With a name in front, as Kubernetes writes it.
            let digest = Digest::parse(text.rsplit('@').next().unwrap_or_default());
            if digest.is_some_and(|digest| !image.digests.contains(&digest)) {
                return Err(Error::failed(format!(
                    "{} is the report of another image: it names {text}, and this one is {}; -any-image takes it all the same",
                    report.to_string_lossy(),
                    image.digest
                )));
            }
        }
        Ok(())
    }

    /// The name of the small image, if there is any.
    fn tag(&self, image: &Found) -> Result<Option<String>> {
        let tagged = |name: &&String| {
            let last = name.rsplit('/').next().unwrap_or_default();
            last.contains(':') && !name.contains('@')
        };
        let Some(tag) = &self.tag else {
            // The name of the image itself would take its place when it is loaded.
            return Ok(image
                .names
                .iter()
                .find(tagged)
                .map(|name| format!("{name}-slim")));
        };
        let is_right = |b: u8| b.is_ascii_alphanumeric() || b"._-/:".contains(&b);
        if tag.is_empty() || !tag.bytes().all(is_right) {
            return Err(Error::usage(format!(
                "-tag={}: not a name of an image; give one such as app:1-slim",
                tag.escape_debug()
            )));
        }
        Ok(Some(match tagged(&tag) {
            true => tag.clone(),
            false => format!("{tag}:latest"),
        }))
    }
}

/// A stream that may have so many bytes.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = usize::try_from(self.left).unwrap_or(usize::MAX);
        // One byte more says whether there is more.
        let max = buffer.len().min(max.saturating_add(1));
        let n = self.inner.read(&mut buffer[..max])?;
        let left = self.left.checked_sub(n as u64);
        self.left = left
            .ok_or_else(|| invalid("with it the layers have more bytes than -max-size allows"))?;
        Ok(n)
    }
}

/// Reads all layers: their names, the contents that are looked into, and their digests.
fn read(image: &Found, max_size: u64, with_packages: bool) -> Result<(Layers, Contents)> {
    let mut reading = Reading {
        layers: Layers::default(),
        contents: Contents::default(),
        content_left: max_size,
        text_left: CONTENTS_MAX,
        with_packages,
    };
    for layer in &image.layers {
        reading.layers.begin_layer();
        let read = reading.layer(layer);
        read.map_err(|e| Error::failed(format!("layer {}: {e}", layer.diff_id)))?;
    }
    Ok((reading.layers, reading.contents))
}

/// Why a layer cannot be read.
fn unreadable(e: io::Error) -> Error {
    Error::failed(match e.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off".into(),
        _ => e.to_string(),
    })
}

/// The first reading of the layers.
struct Reading {
    layers: Layers,
    contents: Contents,
    /// How many more bytes the layers may have.
    content_left: u64,
    /// How many more bytes of files may be remembered.
    text_left: u64,
    /// The names and versions of packages are asked for.
    with_packages: bool,
}

impl Reading {
    fn layer(&mut self, layer: &Layer) -> Result<()> {
        let mut raw = Hashing::new(layer.content.clone());
        let compression = layer.compression().map_err(unreadable)?;
        let decoded: Box<dyn Read> = match compression {
            // Its content is all there is to hash.
            Compression::None => {
                let content = layer.content.clone();
                Box::new(BufReader::with_capacity(BUFFER, content))
            }
            _ => {
                let input = BufReader::with_capacity(BUFFER, &mut raw);
                Box::new(Decoder::new(input).map_err(unreadable)?)
            }
        };
        let mut hashing = Hashing::new(Limited {
            inner: decoded,
            left: self.content_left,
        });
        self.entries(&mut hashing)?;
        // What stands behind the end of the archive counts too.
        io::copy(&mut hashing, &mut io::sink()).map_err(unreadable)?;
        self.content_left = hashing.inner.left;
        let digest = hashing.digest();
        drop(hashing);
        if digest != layer.diff_id {
            return Err(Error::failed(format!(
                "it is damaged: its content's digest is {digest}"
            )));
        }
        let found = match compression {
            Compression::None => digest,
            _ => raw.digest(),
        };
        match layer.digest {
            Some(stated) if stated != found => Err(input::damaged(&stated.to_string(), &found)),
            _ => Ok(()),
        }
    }

    /// Reads what a layer consists of, decompressed.
    fn entries(&mut self, archive: &mut dyn Skip) -> Result<()> {
        let mut reader = Reader::new(archive);
        while let Some(entry) = reader.next_entry().map_err(unreadable)? {
            let item = self.layers.add(&New {
                path: &entry.path,
                kind: entry.kind,
                link: &entry.link,
                size: entry.size,
            })?;
            if entry.kind != Kind::File || entry.is_sparse() {
                continue;
            }
            let path = self.layers.path(self.layers.node_of(item));
            if scanners::is_read(&path, self.with_packages) {
                let too_large = || Error::failed("the databases of its packages are too large");
                if entry.size > self.text_left {
                    return Err(too_large());
                }
                let mut text = Vec::new();
                reader.read_to_end(&mut text).map_err(unreadable)?;
                let text = languages::gist(&path, text);
                let left = self.text_left.checked_sub(text.len() as u64);
                self.text_left = left.ok_or_else(too_large)?;
                self.contents.insert(item, text);
            }
        }
        Ok(())
    }
}
