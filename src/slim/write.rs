// SPDX-License-Identifier: MIT OR Apache-2.0
//! The second reading: what stays of each layer is copied, and the configuration and the manifests are written.

use crate::archive::compression::Compression;
use crate::archive::digest::Digest;
use crate::archive::tar::{self, Change, Entry, Kind, Reader};
use crate::error::{Error, Result, cannot};
use crate::slim::input::{Found, Layer, whole_name};
use crate::slim::keep::Keep;
use crate::slim::layers::Item;
use crate::slim::output::{Output, unwritten};
use crate::slim::plan::{Action, Fate, Plan};
use crate::slim::summary::Summary;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::ops::Range;

/// A layer of the small image, as its manifest describes it.
struct Written {
    digest: Digest,
    size: u64,
    diff_id: Digest,
    compression: Compression,
    annotations: Value,
}

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The labels that say what an image was made of.
const SOURCE_LABEL: &str = "snoop.source.digest";
const REPORTS_LABEL: &str = "snoop.report.digests";

/// Writes the small image, all but the archive's end.
pub fn image(
    image: &Found,
    keep: &Keep,
    plan: &Plan,
    tag: &Option<String>,
    reports: &[Digest],
    output: &mut Output,
) -> Result<Summary> {
    let writer = Writer { image, keep, plan };
    let mut written = Vec::new();
    let is_one = plan.is_squashed() && image.layers.len() > 1;
    if is_one {
        written.extend(writer.squashed(output)?);
    } else {
        for at in 0..image.layers.len() {
            written.extend(writer.layer(at, output)?);
        }
    }
    let config = config(image, plan, is_one, &written, reports);
    let config = config.to_string().into_bytes();
    let as_blob = |content: &[u8], output: &mut Output| {
        output.blob(|out| out.write_all(content).map_err(unwritten))
    };
    let (config_digest, config_size) = as_blob(&config, output)?;
    let layers: Vec<_> = written.iter().map(Written::descriptor).collect();
    let mut manifest = object(vec![
        ("schemaVersion", 2.into()),
        ("mediaType", MANIFEST.into()),
        ("config", descriptor(CONFIG, &config_digest, config_size)),
        ("layers", layers.into()),
    ]);
    if image.annotations.is_object() {
        manifest["annotations"] = image.annotations.clone();
    }
    let manifest = manifest.to_string().into_bytes();
    let (digest, size) = as_blob(&manifest, output)?;
    let index = index(image, tag, digest, size).to_string();
    output.member("index.json", index.as_bytes())?;
    let name = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let files = written.iter().map(|layer| name(&layer.digest));
    let saved = Value::Array(vec![object(vec![
        ("Config", name(&config_digest).into()),
        ("RepoTags", tag.iter().cloned().collect()),
        ("Layers", files.collect()),
    ])]);
    output.member("manifest.json", saved.to_string().as_bytes())?;
    output.member("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut summary = Summary::new(image, keep, plan);
    summary.tag = tag.clone();
    summary.digest = digest.to_string();
    Ok(summary)
}

struct Writer<'a> {
    image: &'a Found,
    keep: &'a Keep<'a>,
    plan: &'a Plan,
}

impl Writer<'_> {
    fn layer(&self, at: usize, output: &mut Output) -> Result<Option<Written>> {
        let layer = &self.image.layers[at];
        match self.plan.fates[at] {
            Fate::Empty => Ok(None),
            Fate::Same => {
                let (digest, size) = output.blob(|out| {
                    io::copy(&mut layer.content.clone(), out).map_err(unwritten)?;
                    Ok(())
                })?;
                Ok(Some(Written {
                    digest,
                    size,
                    diff_id: layer.diff_id,
                    compression: layer.compression().map_err(|e| unreadable(layer, e))?,
                    annotations: layer.annotations.clone(),
                }))
            }
            Fate::Changed => {
                let written = output.blob(|out| {
                    self.entries(at, out)?;
                    out.write_all(&tar::END).map_err(unwritten)
                })?;
                Ok(Some(Written::plain(written)))
            }
        }
    }

    /// All layers as one.
    fn squashed(&self, output: &mut Output) -> Result<Option<Written>> {
        let mut fates = self.plan.fates.iter();
        if fates.all(|fate| *fate == Fate::Empty) {
            return Ok(None);
        }
        let written = output.blob(|out| {
            for at in 0..self.image.layers.len() {
                self.entries(at, out)?;
            }
            out.write_all(&tar::END).map_err(unwritten)
        })?;
        Ok(Some(Written::plain(written)))
    }

    fn entries(&self, at: usize, out: &mut dyn Write) -> Result<()> {
        self.files_from_below(at, out)?;
        let layer = &self.image.layers[at];
        let mut reader = Reader::new(layer.open().map_err(|e| unreadable(layer, e))?);
        for item in self.items_to_read(at) {
            let entry = next(layer, &mut reader)?;
            let own = || self.name(item, &entry);
            match self.plan.action(self.keep, item) {
                Action::Drop | Action::ContentOf(_) => (),
                Action::Copy => copy(layer, entry.headers(), &entry, &mut reader, out)?,
                Action::Rename => {
                    let headers = entry.changed(Change {
                        path: Some(&own()),
                        ..Change::default()
                    });
                    copy(layer, &headers, &entry, &mut reader, out)?;
                }
                Action::NameOf(link) => {
                    let headers = entry.changed(Change {
                        path: Some(&self.name(link, &entry)),
                        ..Change::default()
                    });
                    copy(layer, &headers, &entry, &mut reader, out)?;
                }
                Action::LinkTo(first) => {
                    let headers = entry.changed(Change {
                        path: Some(&own()),
                        link: Some(&self.name(first, &entry)),
                        size: None,
                    });
                    out.write_all(&headers).map_err(unwritten)?;
                }
                Action::Replace => {
                    let content = &self.keep.replaced[&item];
                    let size = content.len() as u64;
                    let headers = entry.changed(Change {
                        path: Some(&own()),
                        link: None,
                        size: Some(size),
                    });
                    let padding = [0; tar::BLOCK];
                    let padding = &padding[..tar::padding(size) as usize];
                    for bytes in [&headers[..], content, padding] {
                        out.write_all(bytes).map_err(unwritten)?;
                    }
                }
            }
        }
        for node in self.plan.made(at) {
            let path = [&self.keep.layers.path(node)[1..], b"/"].concat();
            let headers = tar::entry(&path, Kind::Directory, b"", 0);
            out.write_all(&headers).map_err(unwritten)?;
        }
        Ok(())
    }

    /// The name of what is seen; a slash ends that of a directory, where the archive has one.
    fn name(&self, item: Item, entry: &Entry) -> Vec<u8> {
        let layers = &*self.keep.layers;
        let mut name = layers.path(layers.node_of(item));
        name.remove(0);
        if entry.path.ends_with(b"/") {
            name.push(b'/');
        }
        name
    }

    /// The items of a layer up to the last one that stays. What comes behind it need not be decompressed.
    fn items_to_read(&self, at: usize) -> Range<Item> {
        let items = self.keep.layers.items(at);
        let goes = |item: &Item| {
            let action = self.plan.action(self.keep, *item);
            matches!(action, Action::Drop | Action::ContentOf(_))
        };
        let behind = items.clone().rev().take_while(goes).count();
        items.start..items.end - behind as Item
    }

    /// Writes the files of layers below that stay only by a name in this layer. Each of those layers is read once, however
    /// many files are taken from it.
    fn files_from_below(&self, at: usize, out: &mut dyn Write) -> Result<()> {
        let layers = &*self.keep.layers;
        let file_of = |link: Item| match self.plan.action(self.keep, link) {
            Action::ContentOf(file) => Some((file, link)),
            _ => None,
        };
        let mut files: Vec<_> = layers.items(at).filter_map(file_of).collect();
        files.sort_unstable();
        for files in files.chunk_by(|a, b| layers.layer_of(a.0) == layers.layer_of(b.0)) {
            let below = layers.layer_of(files[0].0) as usize;
            let layer = &self.image.layers[below];
            let mut reader = Reader::new(layer.open().map_err(|e| unreadable(layer, e))?);
            let mut position = layers.items(below).start;
            for (file, link) in files {
                while position < *file {
                    next(layer, &mut reader)?;
                    position += 1;
                }
                let entry = next(layer, &mut reader)?;
                position += 1;
                let headers = entry.changed(Change {
                    path: Some(&self.name(*link, &entry)),
                    ..Change::default()
                });
                copy(layer, &headers, &entry, &mut reader, out)?;
            }
        }
        Ok(())
    }
}

fn next(layer: &Layer, reader: &mut Reader) -> Result<Entry> {
    let entry = reader.next_entry().map_err(|e| unreadable(layer, e))?;
    entry.ok_or_else(|| unreadable(layer, io::ErrorKind::UnexpectedEof.into()))
}

/// Copies an entry's data behind these headers.
fn copy(
    layer: &Layer,
    headers: &[u8],
    entry: &Entry,
    reader: &mut Reader,
    out: &mut dyn Write,
) -> Result<()> {
    out.write_all(headers).map_err(unwritten)?;
    let mut buffer = [0; 64 << 10];
    loop {
        match reader.read(&mut buffer).map_err(|e| unreadable(layer, e))? {
            0 => break,
            n => out.write_all(&buffer[..n]).map_err(unwritten)?,
        }
    }
    let padding = [0; tar::BLOCK];
    let padding = &padding[..tar::padding(entry.stored) as usize];
    out.write_all(padding).map_err(unwritten)
}

fn unreadable(layer: &Layer, e: io::Error) -> Error {
    cannot(&format!("read layer {} again", layer.diff_id), e)
}

impl Written {
    fn plain((digest, size): (Digest, u64)) -> Written {
        Written {
            digest,
            size,
            diff_id: digest,
            compression: Compression::None,
            annotations: Value::Null,
        }
    }

    fn descriptor(&self) -> Value {
        let suffix = match self.compression {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
        let mut descriptor = descriptor(&media_type, &self.digest, self.size);
        if self.annotations.is_object() {
            descriptor["annotations"] = self.annotations.clone();
        }
        descriptor
    }
}

fn index(image: &Found, tag: &Option<String>, digest: Digest, size: u64) -> Value {
    let mut described = descriptor(MANIFEST, &digest, size);
    let mut platform = object(Vec::new());
    for key in ["architecture", "os", "variant"] {
        if let Some(part) = image.config[key].as_str().filter(|part| !part.is_empty()) {
            platform[key] = part.into();
        }
    }
    described["platform"] = platform;
    if let Some(tag) = tag {
        let name = whole_name(tag);
        let short = name.rsplit(':').next().unwrap_or_default();
        described["annotations"] = object(vec![
            ("org.opencontainers.image.ref.name", short.into()),
            ("io.containerd.image.name", name.as_str().into()),
        ]);
    }
    object(vec![
        ("schemaVersion", 2.into()),
        ("mediaType", INDEX.into()),
        ("manifests", vec![described].into()),
    ])
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    object(vec![
        ("mediaType", media_type.into()),
        ("digest", digest.to_string().into()),
        ("size", size.into()),
    ])
}

/// A JSON object. A call for each is smaller than the code that `json!` makes for each member.
#[inline(never)]
pub fn object(members: Vec<(&str, Value)>) -> Value {
    let members = members.into_iter();
    Value::Object(members.map(|(name, value)| (name.into(), value)).collect())
}

/// The image's configuration with its new layers, and labels that say where it comes from.
fn config(
    image: &Found,
    plan: &Plan,
    is_one: bool,
    written: &[Written],
    reports: &[Digest],
) -> Value {
    let mut config = image.config.clone();
    let ids = written.iter().map(|layer| layer.diff_id.to_string());
    config["rootfs"]["diff_ids"] = ids.collect();
    let is_empty = |at: usize| match is_one {
        // The last entry stands for the one layer.
        true => at + 1 < plan.fates.len() || written.is_empty(),
        false => plan.fates[at] == Fate::Empty,
    };
    if let Some(history) = config["history"].as_array_mut() {
        let of_layers = history.iter_mut().filter(|e| e["empty_layer"] != true);
        let of_layers: Vec<_> = of_layers.collect();
        let is_known = of_layers.len() == plan.fates.len();
        if is_known {
            for (at, entry) in of_layers.into_iter().enumerate() {
                if is_empty(at) && entry.is_object() {
                    entry["empty_layer"] = true.into();
                }
            }
        } else if written.len() != plan.fates.len()
            && let Some(config) = config.as_object_mut()
        {
            // Engines refuse a history that has another number of layers.
            config.remove("history");
        }
    }
    if !config["config"].is_object() {
        config["config"] = object(Vec::new());
    }
    if !config["config"]["Labels"].is_object() {
        config["config"]["Labels"] = object(Vec::new());
    }
    let labels = &mut config["config"]["Labels"];
    let mut reports: Vec<_> = reports.iter().map(Digest::to_string).collect();
    reports.sort();
    reports.dedup();
    let reports = reports.join(",");
    // An image that was slimmed by these reports, and loses nothing more, is the same.
    let is_same = plan.fates.iter().all(|fate| *fate == Fate::Same) && !is_one;
    if !is_same || labels[REPORTS_LABEL] != *reports {
        labels[SOURCE_LABEL] = image.digest.to_string().into();
        labels[REPORTS_LABEL] = reports.into();
    }
    config
}
