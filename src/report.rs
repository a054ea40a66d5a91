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

use crate::files::file_set::FileSet;
use crate::files::path_tree::{Id, PathTree, ROOT};
use crate::report::metadata::{Fields, Metadata};
use crate::report::previous::ReportTotals;
use crate::report::schema::{SCHEMA, encode_name};
use crate::time::rfc3339;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::SystemTime;

/// Everything that a report says, at one point in time.
pub struct Snapshot<'a> {
    pub metadata: &'a Metadata,
    /// When the first of the runs that the report covers began, as RFC 3339 writes it.
    pub started_at: &'a str,
    pub updated_at: SystemTime,
    pub containers: Vec<ContainerSnapshot<'a>>,
    /// The paths of the files that the containers' sets hold.
    pub tree: &'a PathTree,
    pub totals: ReportTotals,
    /// The reasons why something is missing, each with a count that is not 0.
    pub missing: Vec<(&'static str, u64)>,
}

/// What a report says of one container.
pub struct ContainerSnapshot<'a> {
    pub name: String,
    pub cgroup_id: u64,
    pub cgroup_path: &'a [u8],
    /// Mount points and the types of their file systems.
    pub mounts: Vec<(&'a [u8], &'a [u8])>,
    pub files: &'a FileSet,
    pub total_events: u64,
    pub attached_late: bool,
    pub ended: bool,
    /// How many containers that ended earlier are part of this one.
    pub merged: u64,
}

impl Snapshot<'_> {
    /// Writes the report as JSON.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut head = vec![("schema", SCHEMA.into())];
        head.extend(self.metadata.fields());
        head.push(("started_at", self.started_at.into()));
        head.push(("last_updated_at", rfc3339(self.updated_at).into()));

        out.write_all(b"{\n")?;
        write_fields(out, "  ", &head)?;
        let is_listed = |id| self.containers.iter().any(|c| c.files.has(id));
        let sorted = self.tree.sorted(is_listed);
        write_files(out, "  ", self.tree, sorted.iter().copied())?;
        out.write_all(b",\n  \"containers\": [")?;
        for (i, container) in self.containers.iter().enumerate() {
            out.write_all(if i == 0 { b"\n    {\n" } else { b",\n    {\n" })?;
            write_fields(out, "      ", &container.fields())?;
            let files = sorted.iter().copied().filter(|id| container.files.has(*id));
            write_files(out, "      ", self.tree, files)?;
            out.write_all(b"\n    }")?;
        }
        out.write_all(b"\n  ],\n")?;
        write_fields(out, "  ", &self.total_fields())?;
        let missing = self
            .missing
            .iter()
            .map(|(why, n)| (why.to_string(), Value::from(*n)));
        let missing = Value::Object(missing.collect());
        writeln!(out, "  \"missing\": {missing}\n}}")?;
        out.flush()
    }

    fn total_fields(&self) -> Fields {
        vec![
            ("total_events", self.totals.total.into()),
            ("dropped_events", self.totals.dropped.into()),
            ("evicted_files", self.totals.evicted.into()),
            ("complete", self.missing.is_empty().into()),
        ]
    }
}

impl ContainerSnapshot<'_> {
    /// Returns all fields but the list of files.
    fn fields(&self) -> Fields {
        let mounts = self.mounts.iter();
        let mounts =
            mounts.map(|(point, fs)| json!({"point": encode_name(point), "type": encode_name(fs)}));
        let mut fields: Fields = vec![
            ("name", self.name.as_str().into()),
            ("cgroup_id", self.cgroup_id.into()),
            ("cgroup_path", encode_name(self.cgroup_path).into()),
            ("mounts", mounts.collect()),
            ("total_events", self.total_events.into()),
            ("unique_files", self.files.len().into()),
        ];
        if self.attached_late {
            fields.push(("attached_late", true.into()));
        }
        if self.ended {
            fields.push(("ended", true.into()));
        }
        if self.merged > 0 {
            fields.push(("merged", self.merged.into()));
        }
        fields
    }
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
