//! The report: a snapshot as JSON.
//!
//! The arrays of files are written name by name; what is small, and every name with an unusual byte, goes through
//! serde_json.

pub mod file;
pub mod metadata;
pub mod previous;
pub mod reader;
pub mod scan;
pub mod schema;

use crate::bpf::probe::Counts;
use crate::cgroup::short_name;
use crate::collect::Collector;
use crate::collect::container::Container;
use crate::files::path_tree::{Id, PathTree, ROOT};
use crate::report::metadata::{Fields, Metadata};
use crate::report::schema::{SCHEMA, encode_name};
use crate::time::rfc3339;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::SystemTime;

pub struct Snapshot<'a> {
    pub metadata: &'a Metadata,
    /// When the first of its runs began.
    pub started_at: &'a str,
    pub collector: &'a Collector,
    pub counts: &'a Counts,
}

impl Snapshot<'_> {
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut head = vec![("schema", SCHEMA.into())];
        head.extend(self.metadata.fields());
        head.push(("started_at", self.started_at.into()));
        head.push(("last_updated_at", rfc3339(SystemTime::now()).into()));

        out.write_all(b"{\n")?;
        write_fields(out, "  ", &head)?;
        let containers: Vec<_> = self.collector.containers().collect();
        let tree = self.collector.tree();
        let sorted = tree.sorted(|id| containers.iter().any(|c| c.files.has(id)));
        write_files(out, "  ", tree, sorted.iter().copied())?;
        out.write_all(b",\n  \"containers\": [")?;
        for (i, container) in containers.iter().enumerate() {
            out.write_all(if i == 0 { b"\n    {\n" } else { b",\n    {\n" })?;
            write_fields(out, "      ", &describe(container, self.counts))?;
            let files = sorted.iter().copied().filter(|id| container.files.has(*id));
            write_files(out, "      ", tree, files)?;
            out.write_all(b"\n    }")?;
        }
        out.write_all(b"\n  ],\n")?;
        let (totals, missing) = self.totals();
        write_fields(out, "  ", &totals)?;
        writeln!(out, "  \"missing\": {missing}\n}}")?;
        out.flush()
    }

    /// The numbers, and what the report lacks: reason and count.
    fn totals(&self) -> (Fields, Value) {
        let totals = self.collector.all_totals(self.counts);
        let gaps = self.collector.gaps(self.counts).into_iter();
        let missing: serde_json::Map<String, Value> = gaps
            .filter(|(_, n)| *n > 0)
            .map(|(reason, n)| (reason.into(), n.into()))
            .collect();
        let fields = vec![
            ("total_events", totals.total.into()),
            ("dropped_events", totals.dropped.into()),
            ("evicted_files", totals.evicted.into()),
            ("complete", missing.is_empty().into()),
        ];
        (fields, missing.into())
    }
}

fn describe(container: &Container, counts: &Counts) -> Fields {
    let cgroup = &container.cgroup;
    let mounts = container.mounts.of_files();
    let mounts =
        mounts.map(|(point, fs)| json!({"point": encode_name(point), "type": encode_name(fs)}));
    let short = || encode_name(short_name(cgroup.name())).into_owned();
    let name = container.name.clone().unwrap_or_else(short);
    let events = container.events(counts) + container.earlier_events;
    let mut fields: Fields = vec![
        ("name", name.into()),
        ("cgroup_id", cgroup.id.into()),
        ("cgroup_path", encode_name(&cgroup.path).into()),
        ("mounts", mounts.collect()),
        ("total_events", events.into()),
        ("unique_files", container.files.len().into()),
    ];
    if container.late {
        fields.push(("attached_late", true.into()));
    }
    if container.ended {
        fields.push(("ended", true.into()));
    }
    if container.merged > 0 {
        fields.push(("merged", container.merged.into()));
    }
    fields
}

/// Each field with a comma behind it; of an array each element has a line of its own, so that no line is long.
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

/// `"files": […]`, a path per line. There may be 100,000 of them, and the ring buffer waits.
fn write_files(
    out: &mut dyn Write,
    indent: &str,
    tree: &PathTree,
    files: impl Iterator<Item = Id>,
) -> io::Result<()> {
    write!(out, "{indent}\"files\": [")?;
    let between = format!(",\n{indent}  \"");
    let mut separator = &between[1..];
    // The directory that the file before was in, as it stands in a string.
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

/// Bytes to be written at once.
const TEXT: usize = 60 << 10;

/// Appends a name as it stands in a JSON string.
fn escape(name: &[u8], to: &mut Vec<u8>) {
    let is_plain = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
    if name.iter().all(is_plain) {
        to.extend(name);
    } else {
        let string = Value::from(encode_name(name)).to_string();
        to.extend(&string.as_bytes()[1..string.len() - 1]);
    }
}
