// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the report: a snapshot as JSON.
//!
//! The arrays of files are written name by name. Everything small, and every name with an unusual byte, goes through
//! serde_json.

pub mod choice;
pub mod detail;
pub mod file;
#[cfg(test)]
pub mod golden;
pub mod merged;
pub mod metadata;
pub mod output;
pub mod previous;
pub mod reader;
pub mod scan;
pub mod schema;

use crate::files::file_set::FileSet;
use crate::files::path_tree::{Id, PathTree, ROOT};
use crate::files::usage::{TICKS_PER_MS, Usage, Usages};
use crate::report::metadata::Metadata;
use crate::report::schema::{
    ContainerEntry, Fields, Novelty, ReportTotals, SCHEMA, encode_name, field,
};
use crate::time::rfc3339;
use serde_json::Value;
use std::io::{self, Write};
use std::time::SystemTime;

/// The content of a report at one point in time.
pub struct Snapshot<'a> {
    pub metadata: &'a Metadata,
    /// Where the accesses were seen.
    pub hooks: &'static str,
    /// When the first run covered by the report began, in RFC 3339.
    pub started_at: &'a str,
    pub updated_at: SystemTime,
    pub novelty: Novelty,
    pub containers: Vec<ContainerSnapshot<'a>>,
    /// The paths of the files in the containers' sets.
    pub tree: &'a PathTree,
    pub totals: ReportTotals,
    /// The reasons why something is missing, each with a count above 0.
    pub missing: Vec<(&'static str, u64)>,
}

/// A container of the report, and the set of its files.
pub struct ContainerSnapshot<'a> {
    pub entry: ContainerEntry,
    pub files: &'a FileSet,
}

impl Snapshot<'_> {
    /// Writes the report as JSON.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut head = vec![(field::SCHEMA, SCHEMA.into())];
        head.extend(self.metadata.fields());
        head.push((field::HOOKS, self.hooks.into()));
        head.push((field::STARTED_AT, self.started_at.into()));
        head.push((field::LAST_UPDATED_AT, rfc3339(self.updated_at).into()));
        head.extend(self.novelty.to_fields());

        out.write_all(b"{\n")?;
        write_fields(out, "  ", &head)?;
        let listed = FileSet::union(self.containers.iter().map(|c| c.files));
        let sorted = self.tree.sorted(|id| listed.has(id));
        write_files(out, "  ", self.tree, sorted.iter().copied())?;
        write!(out, ",\n  \"{}\": [", field::CONTAINERS)?;
        for (i, container) in self.containers.iter().enumerate() {
            out.write_all(if i == 0 { b"\n    {\n" } else { b",\n    {\n" })?;
            write_fields(out, "      ", &container.entry.to_fields())?;
            let files = sorted.iter().copied().filter(|id| container.files.has(*id));
            write_files(out, "      ", self.tree, files.clone())?;
            write_usages(out, "      ", container.files.usages(), files)?;
            out.write_all(b"\n    }")?;
        }
        out.write_all(b"\n  ],\n")?;
        let mut totals = self.totals.to_fields();
        totals.push((field::COMPLETE, self.missing.is_empty().into()));
        write_fields(out, "  ", &totals)?;
        let missing = self
            .missing
            .iter()
            .map(|(why, n)| (why.to_string(), Value::from(*n)));
        let missing = Value::Object(missing.collect());
        writeln!(out, "  \"{}\": {missing}\n}}", field::MISSING)?;
        out.flush()
    }
}

/// Writes each field, followed by a comma. Each element of an array is on its own line, so that no line gets long.
fn write_fields(out: &mut dyn Write, indent: &str, fields: &Fields) -> io::Result<()> {
    for (key, value) in fields {
        write!(out, "{indent}\"{key}\": ")?;
        match value {
            Value::Array(elements) if !elements.is_empty() => {
                let lines: Vec<_> = elements.iter().map(Value::to_string).collect();
                let between = format!(",\n{indent}  ");
                let lines = lines.join(&between);
                writeln!(out, "[{}{lines}\n{indent}],", &between[1..])?;
            }
            value => writeln!(out, "{value},")?,
        }
    }
    Ok(())
}

/// Writes the field with the paths of files, one per line. There may be 100,000 paths, and the ring buffer waits
/// meanwhile. So they do not go through serde_json, which is slower.
fn write_files(
    out: &mut dyn Write,
    indent: &str,
    tree: &PathTree,
    files: impl Iterator<Item = Id>,
) -> io::Result<()> {
    write!(out, "{indent}\"{}\": [", field::FILES)?;
    let between = format!(",\n{indent}  \"");
    let mut separator = &between[1..];
    // The directory of the last file, escaped for a JSON string.
    let (mut directory, mut beginning, mut path) = (None, Vec::new(), Vec::new());
    let mut text = Vec::with_capacity(TEXT + 4096);
    for file in files {
        let parent = tree.parent(file);
        if directory.replace(parent) != Some(parent) {
            tree.path(parent, &mut path);
            beginning.clear();
            escape(&path, &mut beginning);
            if parent != ROOT {
                beginning.push(b'/');
            }
        }
        text.extend(separator.as_bytes());
        text.extend(&beginning);
        escape(tree.name(file), &mut text);
        text.push(b'"');
        if text.len() > TEXT {
            out.write_all(&text)?;
            text.clear();
        }
        separator = &between;
    }
    if separator == between {
        text.extend(format!("\n{indent}").bytes());
    }
    text.push(b']');
    out.write_all(&text)
}

/// Writes the two fields with the usage of each file, unless nothing is known of any.
fn write_usages(
    out: &mut dyn Write,
    indent: &str,
    usages: &Usages,
    files: impl Iterator<Item = Id> + Clone,
) -> io::Result<()> {
    let usages = files.map(|file| usages.get(file).unwrap_or_default());
    if usages.clone().all(|usage| usage == Usage::default()) {
        return Ok(());
    }
    let kinds = usages.clone().map(|usage| usage.kinds);
    write_column(out, indent, field::KINDS, kinds, |kinds, text| {
        text.push(b'"');
        text.extend(kinds.letters().map(|letter| letter as u8));
        text.push(b'"');
        Ok(())
    })?;
    let firsts = usages.map(|usage| usage.first);
    write_column(
        out,
        indent,
        field::FIRST_USE_MS,
        firsts,
        |first, text| match first {
            Some(first) => write!(text, "{}.{:02}", first / TICKS_PER_MS, first % TICKS_PER_MS),
            None => text.write_all(b"null"),
        },
    )
}

/// Writes a field that has a value for each file, in lines of about this many bytes.
const LINE: usize = 100;

fn write_column<T>(
    out: &mut dyn Write,
    indent: &str,
    name: &str,
    values: impl Iterator<Item = T>,
    append: impl Fn(T, &mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let mut text = format!(",\n{indent}\"{name}\": [").into_bytes();
    let (mut line, mut separator) = (0, "");
    for value in values {
        text.extend(separator.as_bytes());
        if text.len() > line {
            text.extend(format!("\n{indent}  ").bytes());
            line = text.len() + LINE;
        }
        append(value, &mut text)?;
        separator = ",";
        if text.len() > TEXT {
            out.write_all(&text)?;
            line = line.saturating_sub(text.len());
            text.clear();
        }
    }
    text.extend(format!("\n{indent}]").bytes());
    out.write_all(&text)
}

/// The number of bytes that are written at once.
const TEXT: usize = 60 << 10;

/// Appends a name, escaped for a JSON string.
fn escape(name: &[u8], to: &mut Vec<u8>) {
    let is_plain = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
    if name.iter().all(is_plain) {
        to.extend(name);
    } else {
        let string = Value::from(encode_name(name)).to_string();
        to.extend(&string.as_bytes()[1..string.len() - 1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::golden::{Sample, assert_golden};
    use crate::report::schema::{FIELDS, Kind, Object};
    use crate::time::rfc3339;
    use std::collections::HashSet;

    #[test]
    fn the_report_is_the_golden_one() {
        assert_golden("report.json", &Sample::make().written());
    }

    fn has_kind(value: &Value, kind: Kind) -> bool {
        let all =
            |is: fn(&Value) -> bool| value.as_array().is_some_and(|array| array.iter().all(is));
        match kind {
            Kind::Number => value.is_u64(),
            Kind::Text => value.is_string(),
            Kind::Time => value
                .as_str()
                .is_some_and(|text| text.len() == rfc3339(SystemTime::now()).len()),
            Kind::Flag => value.is_boolean(),
            Kind::Map => value.is_object(),
            Kind::Texts => all(Value::is_string),
            Kind::Numbers => all(|value| value.is_number() || value.is_null()),
            Kind::Objects => all(Value::is_object),
        }
    }

    /// The sample has every field of the table, in the right objects and of the right type, and no other fields.
    #[test]
    fn the_sample_has_exactly_the_fields_of_the_table() {
        let report: Value = serde_json::from_str(&Sample::make().written()).unwrap();
        let mut objects = vec![(Object::Report, &report)];
        for container in report[field::CONTAINERS].as_array().unwrap() {
            objects.push((Object::Container, container));
            let mounts = container[field::MOUNTS].as_array().unwrap();
            objects.extend(mounts.iter().map(|mount| (Object::Mount, mount)));
        }
        let mut found = HashSet::new();
        for (object, json) in objects {
            for (name, value) in json.as_object().unwrap() {
                let is_it = |f: &&schema::Field| f.name == name && f.objects.contains(&object);
                let known = FIELDS.iter().find(is_it);
                let known = known.unwrap_or_else(|| panic!("{object:?} has an unknown {name}"));
                assert!(has_kind(value, known.kind), "{name} is {value}");
                found.insert((known.name, format!("{object:?}")));
            }
        }
        let listed: usize = FIELDS.iter().map(|field| field.objects.len()).sum();
        assert_eq!(found.len(), listed, "{found:?}");
    }

    #[test]
    fn an_empty_snapshot_is_a_report() {
        let sample = Sample::make();
        let snapshot = Snapshot {
            containers: Vec::new(),
            missing: Vec::new(),
            ..sample.snapshot()
        };
        let mut bytes = Vec::new();
        snapshot.write(&mut bytes).unwrap();
        let report: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(report[field::FILES], Value::Array(Vec::new()));
        assert_eq!(report[field::CONTAINERS], Value::Array(Vec::new()));
        assert_eq!(report[field::COMPLETE], true);
    }
}
