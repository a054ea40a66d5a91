// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads several reports of one image. Their paths are in one tree.

use crate::archive::digest::Digest;
use crate::error::{Error, Result};
use crate::files::path_tree::PathTree;
use crate::report::detail::{Detailed, Use};
use crate::report::schema::field;
use crate::reports::estimate::Spread;
use serde_json::Value;
use std::ffi::{OsStr, OsString};

#[derive(Default)]
pub struct Several {
    pub tree: PathTree,
    /// The reports without their files.
    pub heads: Vec<Value>,
    /// What the containers of all reports used, by the name of the container, in the order of the reports.
    pub groups: Vec<Group>,
    pub spread: Spread,
}

/// The containers of one name.
pub struct Group {
    pub name: String,
    /// What the reports say about each of them.
    pub entries: Vec<Value>,
    pub uses: Vec<Use>,
    /// The number of reports that have a container of this name, and the last of them.
    reports: usize,
    last: usize,
}

/// The name of what containers used whose names only one of several reports has.
pub const OTHERS: &str = "others";

impl Several {
    /// Reads reports by name; `-` is standard input. Reports of another image are refused, unless `takes_any_image`.
    pub fn read(names: &[OsString], takes_any_image: bool) -> Result<Several> {
        let mut several = Several::default();
        let mut digests: Vec<Digest> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let (report, digest) = Detailed::open(name, &mut several.tree)?;
            if let Some(twice) = digests.iter().position(|other| *other == digest) {
                let (name, other) = (name.to_string_lossy(), names[twice].to_string_lossy());
                return Err(Error::usage(format!(
                    "{name}: this is the same report as {other}; give each report once"
                )));
            }
            digests.push(digest);
            if !takes_any_image {
                several.check_image(names, &report.head)?;
            }
            several.add(at, report);
        }
        several.join_single_names();
        Ok(several)
    }

    /// Compares the image of a report with those of the reports before it. What a report does not state is no difference.
    fn check_image(&self, names: &[OsString], head: &Value) -> Result<()> {
        // The name of an image may change while its digest stays.
        for key in [field::IMAGE_DIGEST, field::IMAGE] {
            let Some(image) = head[key].as_str() else {
                continue;
            };
            let stated = |other: &Value| other[key].is_string();
            let Some(before) = self.heads.iter().position(stated) else {
                continue;
            };
            let other = self.heads[before][key].as_str().unwrap_or_default();
            // A digest may have a name in front, as Kubernetes writes it.
            if image.rsplit('@').next() == other.rsplit('@').next() {
                return Ok(());
            }
            let shown = |name: &OsStr| name.to_string_lossy().into_owned();
            return Err(Error::failed(format!(
                "{} is the report of another image: its {key} is {image}, and that of {} is {other}; -any-image takes it all the same",
                shown(&names[self.heads.len()]),
                shown(&names[before]),
            )));
        }
        Ok(())
    }

    /// Adds the containers of a report, each to those of its name.
    fn add(&mut self, at: usize, report: Detailed) {
        let uses = report.containers.iter().flatten().chain(&report.others);
        self.spread.add(uses.map(|used| used.file));
        let mut head = report.head;
        let entries = head[field::CONTAINERS].take();
        let entries = match entries {
            Value::Array(entries) => entries,
            _ => Vec::new(),
        };
        self.heads.push(head);
        let nameless = (Value::Null, report.others);
        let nameless = Some(nameless).filter(|(_, uses)| !uses.is_empty());
        for (entry, uses) in entries.into_iter().zip(report.containers).chain(nameless) {
            let name = entry[field::NAME].as_str().unwrap_or(OTHERS);
            let known = self.groups.iter().position(|group| group.name == name);
            let place = known.unwrap_or_else(|| {
                self.groups.push(Group {
                    name: name.into(),
                    entries: Vec::new(),
                    uses: Vec::new(),
                    reports: 0,
                    last: usize::MAX,
                });
                self.groups.len() - 1
            });
            let group = &mut self.groups[place];
            group.reports += usize::from(group.last != at);
            group.last = at;
            if entry.is_object() {
                group.entries.push(entry);
            }
            group.uses.extend(uses);
        }
    }

    /// Joins containers whose names only one of several reports has, such as the beginnings of their ids.
    fn join_single_names(&mut self) {
        if self.heads.len() < 2 {
            return;
        }
        let is_single = |group: &mut Group| group.reports == 1 || group.name == OTHERS;
        let single: Vec<_> = self.groups.extract_if(.., is_single).collect();
        let joined = single.into_iter().reduce(|mut joined, group| {
            joined.entries.extend(group.entries);
            joined.uses.extend(group.uses);
            joined
        });
        self.groups.extend(joined.map(|group| Group {
            name: OTHERS.into(),
            ..group
        }));
    }
}
