// SPDX-License-Identifier: MIT OR Apache-2.0
//! The containers of a whole node: which of them are traced, and a report for each image.
//!
//! An image is in memory while a container of it runs. Its report then waits in the directory, and is taken up again when the next
//! container of the image appears.

pub mod directory;
pub mod filter;
pub mod image;
pub mod names;

use crate::bpf::counts::Counts;
use crate::bpf::features::Feature;
use crate::bpf::wire::{
    KNOWN_BITS, KNOWN_WAYS, RECORD_CGROUP_CREATED, RECORD_CGROUP_REMOVED, ROWS, Record,
};
use crate::cgroup::Cgroup;
use crate::collect::container::Container;
use crate::collect::{Collector, Orders};
use crate::error::{Result, cannot};
use crate::log;
use crate::path::{Excludes, path_from_leaf};
use crate::report::metadata::Metadata;
use crate::report::schema::field;
use crate::sys::{files, landlock};
use crate::time::{KernelClock, rfc3339};
use directory::{Directory, Summary, stem};
use filter::{Decision, Filter};
use fxhash::FxBuildHasher;
use hashbrown::HashMap;
use image::{GONE_MAX, Image};
use names::{Host, Identity};
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufWriter, Seek};
use std::path::PathBuf;
use std::time::SystemTime;

/// What the user wants of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub filter: Filter,
    /// The directory for the reports.
    pub reports: PathBuf,
    /// The most bytes of all reports together.
    pub max_bytes: u64,
    /// Where the node's directories are mounted.
    pub host: PathBuf,
    /// The most series of the metrics of containers.
    pub max_series: usize,
    /// How many bits choose the bucket of a known access.
    pub known_bits: u32,
}

impl Options {
    /// Reads what the reports of earlier runs say in short.
    pub fn open_reports(&self) -> Result<Directory> {
        let shown = self.reports.display();
        Directory::open(&self.reports).map_err(|e| cannot(&format!("read {shown}"), e))
    }
}

/// The most accesses that the programs can be made to know: 128 MiB of keys.
pub const KNOWN_MOST: u32 = 16 << 20;

/// Returns how many bits choose the bucket of an access if the programs are to know `accesses` of them.
pub fn known_bits(accesses: u32) -> u32 {
    let buckets = accesses.min(KNOWN_MOST).div_ceil(KNOWN_WAYS);
    buckets.next_power_of_two().ilog2().max(KNOWN_BITS)
}

/// What the containers of all images are traced with.
pub struct Settings {
    pub excludes: Excludes,
    /// The capacity of the set of files of each container; 0 means unbounded.
    pub capacity: usize,
    pub clock: KernelClock,
    /// The features that the programs do not have on this kernel.
    pub unable: Vec<Feature>,
    /// Where the programs see the accesses.
    pub hooks: &'static str,
}

/// What is known about a cgroup.
enum Route {
    /// Its container belongs to the image at this place.
    Image(usize),
    /// It is not traced.
    Excluded,
}

/// Why there is no report: the status of the response, and a line of text.
pub type Refused = (u16, String);

pub struct Node {
    options: Options,
    settings: Settings,
    host: Host,
    directory: Directory,
    /// The images in memory. A place is free after an image left it.
    images: Vec<Option<Image>>,
    routes: HashMap<u64, Route, FxBuildHasher>,
    started_at: SystemTime,
    /// The cgroups of containers that turned out to be excluded, and of those that have ended.
    exclude: Vec<u64>,
    release: Vec<u64>,
    /// The programs' counts when they were read last.
    counts: Counts,
    /// How many records were taken, and how many of them were malformed.
    records: u64,
    pub malformed: u64,
    /// How many reports were removed because of the byte limit.
    pub removed: u64,
    is_over: bool,
}

impl Node {
    /// `directory` was read before the tracing began, because that takes a while.
    pub fn new(options: Options, settings: Settings, directory: Directory) -> Node {
        let (reports, bytes) = (directory.stored.len(), directory.bytes());
        if reports > 0 {
            log::info(format_args!("resuming {reports} reports of {bytes} bytes"));
        }
        Node {
            host: Host::new(&options.host),
            options,
            settings,
            directory,
            images: Vec::new(),
            routes: HashMap::default(),
            started_at: SystemTime::now(),
            exclude: Vec::new(),
            release: Vec::new(),
            counts: Counts::default(),
            records: 0,
            malformed: 0,
            removed: 0,
            is_over: false,
        }
    }

    fn images(&self) -> impl Iterator<Item = &Image> {
        self.images.iter().flatten()
    }

    fn images_mut(&mut self) -> impl Iterator<Item = &mut Image> {
        self.images.iter_mut().flatten()
    }

    fn find(&self, stem: &str) -> Option<usize> {
        let is_it = |image: &Option<Image>| image.as_ref().is_some_and(|i| i.stem == stem);
        self.images.iter().position(is_it)
    }

    /// Takes one record, as its bytes were in the ring buffer.
    pub fn record(&mut self, bytes: &[u8]) {
        self.records += 1;
        let record = Record::decode(bytes).filter(|record| (record.row as usize) < ROWS);
        let Some(record) = record else {
            self.malformed += 1;
            return;
        };
        if record.has(RECORD_CGROUP_CREATED) {
            // It is the cgroup around the containers, which did not exist before.
            return;
        }
        let (id, is_removal) = (record.container, record.has(RECORD_CGROUP_REMOVED));
        let at = match self.routes.get(&id) {
            Some(Route::Image(at)) => *at,
            None if !is_removal => return self.enter(&record, bytes),
            _ if is_removal => {
                self.routes.remove(&id);
                return self.release.push(id);
            }
            _ => return,
        };
        let Some(image) = &mut self.images[at] else {
            return;
        };
        image.collector.record(bytes);
        if is_removal {
            image.has_ended = true;
            self.routes.remove(&id);
        }
    }

    /// Takes the first record of a container.
    fn enter(&mut self, record: &Record, bytes: &[u8]) {
        let mut path = Vec::new();
        path_from_leaf(record.cgroup, &mut path);
        let identity = self.host.look(&path);
        let decision = self.options.filter.decide(&identity);
        if decision == Decision::Exclude {
            return self.exclude(record.container);
        }
        let at = self.place_of(&identity, &path);
        self.routes.insert(record.container, Route::Image(at));
        let image = self.images[at].as_mut().expect("it is there");
        if identity.image.is_none() && identity.digest.is_none() {
            let id = record.container;
            image.unnamed = Some(Cgroup { id, path });
        }
        image.is_withheld = decision == Decision::Withhold;
        image.collector.record(bytes);
        image
            .collector
            .describe(record.container, identity.container, identity.pod);
    }

    fn exclude(&mut self, cgroup: u64) {
        self.routes.insert(cgroup, Route::Excluded);
        self.exclude.push(cgroup);
    }

    /// Returns the place of a container's image.
    fn place_of(&mut self, identity: &Identity, path: &[u8]) -> usize {
        let stem = stem(identity, path);
        let known = self.find(&stem);
        known.unwrap_or_else(|| self.load(stem, || metadata(identity)))
    }

    /// Takes an image into memory, with its report if there is one. Returns its place.
    fn load(&mut self, stem: String, metadata: impl FnOnce() -> Metadata) -> usize {
        let stored = self.directory.stored.get(&stem);
        let metadata = stored.map_or_else(metadata, |summary| summary.metadata.clone());
        let is_earlier = stored.is_some_and(|summary| summary.is_earlier);
        let (file, collector) = (self.directory.file(&stem), self.collector());
        let now = rfc3339(SystemTime::now());
        let hooks = self.settings.hooks;
        let mut image = Image::new(stem, metadata, collector, hooks, now, file, &self.counts);
        if let Err(e) = image.resume(is_earlier.then_some(self.started_at)) {
            log::error(e);
        }
        let free = self.images.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.images.push(None);
            self.images.len() - 1
        });
        self.images[at] = Some(image);
        at
    }

    /// Returns a collector without containers.
    fn collector(&self) -> Collector {
        let Settings {
            excludes,
            capacity,
            clock,
            unable,
            hooks: _,
        } = &self.settings;
        let mut collector = Collector::new(Vec::new(), excludes.clone(), *capacity, *clock);
        collector.set_unable(unable.clone());
        collector
    }

    /// Returns the orders for the programs that have come up since the last call.
    pub fn take_orders(&mut self) -> Orders {
        let mut orders = Orders {
            release: std::mem::take(&mut self.release),
            forget: Vec::new(),
            exclude: std::mem::take(&mut self.exclude),
        };
        for image in self.images_mut() {
            let of_image = image.collector.take_orders();
            orders.release.extend(of_image.release);
            orders.forget.extend(of_image.forget);
        }
        orders
    }

    /// Takes over the number of accesses that the programs counted for a removed cgroup.
    pub fn released(&mut self, cgroup: u64, events: u64) {
        for image in self.images_mut().filter(|image| image.has_ended) {
            image.collector.released(cgroup, events);
        }
    }

    /// Merges the containers of each image that ended longest ago while there are too many.
    pub fn merge_gone(&mut self) {
        for image in self.images_mut().filter(|image| image.has_ended) {
            image.has_ended = false;
            image.collector.merge_gone(GONE_MAX);
        }
    }

    /// Takes the counts of the programs, which were just read.
    pub fn counted(&mut self, counts: &Counts) {
        self.counts = counts.clone();
    }

    pub fn records(&self) -> u64 {
        self.records
    }

    /// Looks again for the names that were not known.
    pub fn name(&mut self) {
        for at in 0..self.images.len() {
            let unnamed = self.images[at].as_ref().and_then(|i| i.unnamed.clone());
            let Some(cgroup) = unnamed else {
                continue;
            };
            let identity = self.host.look(&cgroup.path);
            let decision = self.options.filter.decide(&identity);
            let is_known = identity.image.is_some() || identity.digest.is_some();
            let image = self.images[at].as_mut().expect("it has a cgroup");
            if decision == Decision::Exclude {
                self.images[at] = None;
                self.exclude(cgroup.id);
            } else if is_known {
                self.rename(at, identity, &cgroup, decision);
            } else if image.is_withheld && image.is_idle() {
                self.images[at] = None;
            } else {
                image.is_withheld = decision == Decision::Withhold;
                image
                    .collector
                    .describe(cgroup.id, identity.container, identity.pod);
            }
        }
    }

    /// Moves a container whose image has become known to the report of that image.
    fn rename(&mut self, at: usize, identity: Identity, cgroup: &Cgroup, decision: Decision) {
        let unnamed = self.images[at].take().expect("it was found there");
        // It may have been given out under its id.
        if self.directory.stored.contains_key(&unnamed.stem)
            && let Err(e) = self.directory.remove(&unnamed.stem)
        {
            log::error(cannot("remove the report of a container without names", e));
        }
        let to = self.place_of(&identity, &cgroup.path);
        let image = self.images[to].as_mut().expect("it is there");
        image.collector.adopt(unnamed.collector);
        image.is_withheld = decision == Decision::Withhold;
        image
            .collector
            .describe(cgroup.id, identity.container, identity.pod);
        if let Some(Route::Image(place)) = self.routes.get_mut(&cgroup.id) {
            *place = to;
        }
    }

    /// Gives up opening files, except in the directory of the reports, in those from which the names come, and in /proc.
    pub fn confine(&self) -> io::Result<()> {
        let read = self.host.directories().chain([PathBuf::from("/proc")]);
        landlock::confine_to(read, &[&self.options.reports])
    }

    /// Returns how many places for images there are, for [`Node::write`].
    pub fn places(&self) -> usize {
        self.images.len()
    }

    /// Writes the report of the image at this place, if it has changed. Returns whether it did.
    pub fn write(&mut self, at: usize, counts: &Counts) -> io::Result<bool> {
        let Some(Some(image)) = self.images.get_mut(at) else {
            return Ok(false);
        };
        if image.is_withheld || image.is_empty() || !image.collector.take_changed() {
            return Ok(false);
        }
        match image.write(counts) {
            Ok(summary) => {
                self.directory.stored.insert(image.stem.clone(), summary);
                Ok(true)
            }
            Err(e) => {
                image.collector.set_changed();
                Err(e)
            }
        }
    }

    /// Makes [`Node::write`] write every report.
    pub fn set_changed(&mut self) {
        self.images_mut().for_each(|i| i.collector.set_changed());
    }

    /// Forgets the images of which no container runs. Their reports are in the directory.
    pub fn unload_idle(&mut self) {
        for place in &mut self.images {
            place.take_if(|image| {
                let is_written = !image.collector.take_changed();
                if !is_written {
                    image.collector.set_changed();
                }
                (is_written || image.is_empty()) && image.is_idle()
            });
        }
    }

    /// Merges the containers that have ended, of the report that is oldest first, until the reports keep to the byte limit; then
    /// removes the reports of images that no longer run.
    pub fn keep_limit(&mut self, counts: &Counts) -> io::Result<()> {
        while self.directory.bytes() > self.options.max_bytes {
            let stored = self.directory.stored.iter();
            let mut by_age: Vec<_> = stored
                .map(|(stem, summary)| (summary.updated_at, stem.clone(), summary.gone))
                .collect();
            by_age.sort();
            if let Some((_, stem, _)) = by_age.iter().find(|(_, _, gone)| *gone > 1) {
                self.shrink(&stem.clone(), counts)?;
            } else if let Some((_, stem, _)) =
                by_age.iter().find(|(_, s, _)| self.find(s).is_none())
            {
                log::info(format_args!("the report {stem} makes room for others"));
                self.directory.remove(stem)?;
                self.removed += 1;
            } else {
                let (is, limit) = (self.directory.bytes(), self.options.max_bytes);
                if !std::mem::replace(&mut self.is_over, true) {
                    log::warn(format_args!(
                        "the reports of running containers have {is} bytes, more than -max-bytes={limit}"
                    ));
                }
                return Ok(());
            }
        }
        self.is_over = false;
        Ok(())
    }

    /// Merges all containers of an image that have ended into one entry.
    fn shrink(&mut self, stem: &str, counts: &Counts) -> io::Result<()> {
        let known = self.find(stem);
        let at = known.unwrap_or_else(|| self.load(stem.into(), Metadata::default));
        let image = self.images[at].as_mut().expect("it is in memory");
        image.collector.merge_gone(1);
        let mut summary = image.write(counts)?;
        // Whatever is left cannot be merged.
        summary.gone = summary.gone.min(1);
        self.directory.stored.insert(stem.into(), summary);
        self.unload_idle();
        Ok(())
    }

    /// Returns the containers that run.
    pub fn running(&self) -> impl Iterator<Item = &Container> {
        let shown = self.images().filter(|image| !image.is_withheld);
        let containers = shown.flat_map(|image| image.collector.containers());
        containers.filter(|container| !container.is_gone())
    }

    /// Returns the number of files in the reports of the images in memory.
    pub fn files(&self) -> usize {
        let shown = self.images().filter(|image| !image.is_withheld);
        shown.map(|image| image.collector.files()).sum()
    }

    pub fn max_series(&self) -> usize {
        self.options.max_series
    }

    /// Returns how many reports there are, and their size.
    pub fn stored(&self) -> (usize, u64) {
        (self.directory.stored.len(), self.directory.bytes())
    }

    /// Returns how many containers that run are excluded.
    pub fn excluded(&self) -> usize {
        let routes = self.routes.values();
        routes
            .filter(|route| matches!(route, Route::Excluded))
            .count()
    }

    /// Returns how many containers are in no report because a filter needs a name that is not known.
    pub fn withheld(&self) -> usize {
        self.images().filter(|image| image.is_withheld).count()
    }

    /// Returns the list of reports, as they were written last.
    pub fn list(&self) -> Value {
        let stored = self.directory.stored.values();
        Value::Array(stored.map(Summary::to_json).collect())
    }

    /// Opens the report of an image, which is given by its name or digest.
    pub fn report_of_image(
        &self,
        wanted: &str,
        counts: &Counts,
    ) -> std::result::Result<File, Refused> {
        let is_it = |summary: &Summary| {
            let metadata = &summary.metadata;
            [field::IMAGE, field::IMAGE_DIGEST]
                .iter()
                .any(|key| metadata.get(key) == Some(wanted))
        };
        let mut found = self.directory.stored.iter().filter(|(_, s)| is_it(s));
        let Some((stem, summary)) = found.next() else {
            return Err((404, "no such image; GET /reports lists them".into()));
        };
        if found.next().is_some() {
            let why = "several images have this name; give image=DIGEST";
            return Err((400, why.into()));
        }
        let failed = |e: io::Error| (500, format!("cannot read the report: {e}"));
        if let Some(at) = self.find(stem)
            && let Some(image) = &self.images[at]
        {
            return image
                .open()
                .map_or_else(|| image.copy(counts), Ok)
                .map_err(failed);
        }
        let gone = || {
            (
                404,
                format!("the report of {} bytes is gone", summary.bytes),
            )
        };
        let opened = self.directory.file(stem).open_earlier().map_err(failed)?;
        opened.ok_or_else(gone)
    }

    /// Makes a report about a pod, of the containers in memory.
    pub fn report_of_pod(
        &self,
        namespace: Option<&str>,
        name: &str,
        counts: &Counts,
    ) -> std::result::Result<File, Refused> {
        let mut collector = self.collector();
        let mut pods = Vec::new();
        for image in self.images().filter(|image| !image.is_withheld) {
            for container in image.collector.containers() {
                let pod = container.pod().filter(|pod| pod.name == name);
                let pod = pod.filter(|pod| namespace.is_none_or(|n| n == pod.namespace));
                pods.extend(pod.filter(|pod| !pods.contains(pod)));
            }
        }
        let pod = match &pods[..] {
            [] => return Err((404, "no such pod runs an image in memory".into())),
            [pod] => pod,
            [..] => {
                let why = "several pods have this name; give namespace=NAME too";
                return Err((400, why.into()));
            }
        };
        for image in self.images().filter(|image| !image.is_withheld) {
            let of_image = image.counts(counts);
            collector.copy(&image.collector, &of_image, |entry| {
                entry.pod.as_ref() == Some(*pod)
            });
        }
        let fields = [
            (field::POD_NAME, &pod.name),
            (field::NAMESPACE, &pod.namespace),
            (field::POD_UID, &pod.uid),
        ];
        let known = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let metadata = Metadata {
            known: known.map(|(key, value)| (key, value.clone())).collect(),
            labels: Vec::new(),
        };
        let started_at = rfc3339(self.started_at);
        let written = || {
            let mut file = files::memory_file()?;
            let snapshot = collector.snapshot(
                &metadata,
                self.settings.hooks,
                &started_at,
                &Counts::default(),
            );
            snapshot.write(&mut BufWriter::new(&mut file))?;
            file.rewind()?;
            Ok(file)
        };
        written().map_err(|e: io::Error| (500, format!("cannot make the report: {e}")))
    }
}

/// Returns what a report says about its image.
fn metadata(identity: &Identity) -> Metadata {
    let digest = identity.digest.as_ref().map(ToString::to_string);
    let fields = [
        (field::IMAGE, identity.image.clone()),
        (field::IMAGE_DIGEST, digest),
    ];
    let known = fields.into_iter();
    Metadata {
        known: known
            .filter_map(|(key, value)| Some((key, value?)))
            .collect(),
        labels: Vec::new(),
    }
}
