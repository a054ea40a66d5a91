// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop merge`: one report of many pods of one image, and whether these were enough.

use crate::error::{Error, Result};
use crate::files::kinds::Kinds;
use crate::files::path_tree::{Id, PathTree};
use crate::log;
use crate::report::detail::{self, Use};
use crate::report::merged::MergedReport;
use crate::report::output;
use crate::report::schema::{ContainerEntry, Fields, ReportTotals, SCHEMA, field};
use crate::reports::estimate;
use crate::reports::several::{Group, Several};
use serde_json::{Map, Value};
use std::ffi::OsString;

#[derive(Debug, PartialEq)]
pub struct Merge {
    pub reports: Vec<OsString>,
    /// Where the report goes; `-` is standard output.
    pub output: OsString,
    /// Take reports of different images.
    pub takes_any_image: bool,
}

impl Merge {
    pub fn run(&self) -> Result<()> {
        output::check("o", &self.output)?;
        let Several {
            tree,
            heads,
            groups,
            spread,
        } = Several::read(&self.reports, self.takes_any_image)?;
        let lacks = |at: usize| {
            let name = self.reports[at].to_string_lossy();
            Error::usage(format!("{name}: it lacks fields"))
        };
        let (tail, missing) = tail(&heads).map_err(lacks)?;
        let head = head(&heads).map_err(lacks)?;
        let containers = groups.into_iter().map(|group| container(&tree, group));
        let containers: Option<Vec<_>> = containers.collect();
        let containers = containers
            .ok_or_else(|| Error::usage("a container in one of the reports lacks fields"))?;

        let kinds = kinds(containers.iter().flat_map(|(_, uses)| uses));
        let of_image = |file: Id| {
            let kinds = kinds[file as usize];
            !kinds.has(Kinds::WRITTEN) && kinds != Kinds::LOOKED_AT
        };
        let (all, of_image) = (spread.estimate(|_| true), spread.estimate(of_image));
        let incomplete = heads.iter().filter(|head| head[field::COMPLETE] != true);
        let incomplete = incomplete.count();
        let report = MergedReport {
            head,
            tree: &tree,
            containers,
            tail,
            missing,
        };
        output::write(&self.output, |out| report.write(out))?;
        for line in estimate::text(&all, &of_image, incomplete) {
            log::tell(line);
        }
        Ok(())
    }
}

/// Returns the kinds of all uses of each file.
fn kinds<'a>(uses: impl Iterator<Item = &'a Use>) -> Vec<Kinds> {
    let mut kinds = Vec::new();
    for used in uses {
        let file = used.file as usize;
        kinds.resize(kinds.len().max(file + 1), Kinds::UNKNOWN);
        kinds[file] = kinds[file].and(used.kinds);
    }
    kinds
}

/// Returns what is the same in all reports, and when the first began and the last was written. The error is the place of
/// the report that lacks a field.
fn head(heads: &[Value]) -> std::result::Result<Fields, usize> {
    let mut fields: Fields = vec![(field::SCHEMA, SCHEMA.into())];
    let shared = [
        field::IMAGE,
        field::IMAGE_DIGEST,
        field::NAMESPACE,
        field::LABELS,
    ];
    for key in shared {
        let mut values = heads.iter().map(|head| &head[key]).filter(|value| {
            // An image that a report does not state is that of the others.
            !value.is_null() || !key.starts_with(field::IMAGE)
        });
        let first = values.next().filter(|value| !value.is_null());
        if let Some(first) = first.filter(|first| values.all(|value| value == *first)) {
            fields.push((key, first.clone()));
        }
    }
    for (key, is_first) in [(field::STARTED_AT, true), (field::LAST_UPDATED_AT, false)] {
        let time = |(at, head): (usize, &Value)| head[key].as_str().map(String::from).ok_or(at);
        let times: std::result::Result<Vec<_>, _> = heads.iter().enumerate().map(time).collect();
        let mut times = times?;
        // Times in UTC sort like the texts.
        times.sort_unstable();
        let time = if is_first {
            times.first()
        } else {
            times.last()
        };
        fields.extend(time.map(|time| (key, time.as_str().into())));
    }
    let news = heads.iter().map(|head| &head[field::LAST_NEW_FILE_AT]);
    if let Some(last) = news.filter_map(Value::as_str).max() {
        fields.push((field::LAST_NEW_FILE_AT, last.into()));
    }
    Ok(fields)
}

/// Returns the sums of the counts, and what is missing. The error is the place of the report that lacks a field.
fn tail(heads: &[Value]) -> std::result::Result<(Fields, Value), usize> {
    let mut totals = ReportTotals::default();
    let mut missing = Map::new();
    let mut is_complete = true;
    for (at, head) in heads.iter().enumerate() {
        totals = totals.plus(ReportTotals::from_json(head).ok_or(at)?);
        is_complete &= head[field::COMPLETE] == true;
        for (reason, count) in head[field::MISSING].as_object().ok_or(at)? {
            let sum = missing.get(reason).and_then(Value::as_u64).unwrap_or(0);
            let count = count.as_u64().ok_or(at)?;
            missing.insert(reason.clone(), (sum + count).into());
        }
    }
    let mut fields = totals.to_fields();
    fields.push((field::COMPLETE, is_complete.into()));
    Ok((fields, Value::Object(missing)))
}

/// Returns the fields and the files of the containers of one name. `None` if a field is missing.
fn container(tree: &PathTree, group: Group) -> Option<(Fields, Vec<Use>)> {
    let uses = detail::combine(tree, group.uses);
    let mut merged = ContainerEntry {
        name: group.name,
        unique_files: uses.len() as u64,
        ended: true,
        ..ContainerEntry::default()
    };
    let entries = group.entries.iter().map(ContainerEntry::from_json);
    let entries = entries.collect::<Option<Vec<_>>>()?;
    for entry in &entries {
        merged.total_events += entry.total_events;
        merged.attached_late |= entry.attached_late;
        merged.ended &= entry.ended;
        merged.merged += entry.merged + 1;
        merged.last_new_file_at = merged.last_new_file_at.max(entry.last_new_file_at);
        let starts = [merged.started_at, entry.started_at];
        merged.started_at = starts.into_iter().flatten().min();
        let new = entry
            .mounts
            .iter()
            .filter(|mount| !merged.mounts.contains(mount));
        let new: Vec<_> = new.cloned().collect();
        merged.mounts.extend(new);
    }
    merged.merged = merged.merged.saturating_sub(1);
    merged.mounts.sort_unstable();
    let mut paths = entries.iter().map(|entry| &entry.cgroup_path);
    let path = paths
        .next()
        .filter(|first| paths.all(|path| path == *first));
    merged.cgroup_path = path.cloned().unwrap_or_else(|| b"/".to_vec());
    Some((merged.to_fields(), uses))
}
