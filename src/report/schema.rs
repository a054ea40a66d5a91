// SPDX-License-Identifier: MIT OR Apache-2.0
//! The definitions that writers and readers of reports share: the version, the fields, and names of files as JSON
//! strings.
//!
//! To add a field of a container, add a line to the table below and a member to [`ContainerEntry`]. The compiler then
//! points to the places that write and read the field, here and in `collect/container.rs`, and a test asks for the line
//! in docs/report.md.

use crate::time::{parse_rfc3339, rfc3339};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::time::SystemTime;

/// The version of the format. It is incremented when readers must change.
pub const SCHEMA: u32 = 2;

/// Members of a JSON object, in the order in which they are written.
pub type Fields = Vec<(&'static str, Value)>;

/// The objects of a report whose fields are listed in [`FIELDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    Report,
    Container,
    Mount,
}

/// The types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Text,
    Time,
    Flag,
    /// An object whose keys are not fields of the report.
    Map,
    Texts,
    Numbers,
    Objects,
}

/// A field of the report.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    /// The objects that have the field.
    pub objects: &'static [Object],
    pub kind: Kind,
    /// The explanation in docs/report.md.
    pub meaning: &'static str,
}

/// Turns each line into a constant that holds the field's name, and all lines together into the table [`FIELDS`].
macro_rules! fields {
    ($($constant:ident = $name:literal, $kind:ident of [$($object:ident),+]: $meaning:literal;)+) => {
        /// The name of each field.
        pub mod field {
            $(#[doc = $meaning] pub const $constant: &str = $name;)+
        }

        /// Every field, in the order of docs/report.md.
        pub const FIELDS: &[Field] = &[$(Field {
            name: field::$constant,
            objects: &[$(Object::$object),+],
            kind: Kind::$kind,
            meaning: $meaning,
        }),+];
    };
}

fields! {
    SCHEMA = "schema", Number of [Report]: "The version of the format. It is incremented when readers must change.";
    CONTAINER_ID = "container_id", Text of [Report]: "The value of `-container-id`.";
    IMAGE = "image", Text of [Report]: "The value of `-image`, or what `snoop node` found.";
    IMAGE_DIGEST = "image_digest", Text of [Report]: "The value of `-image-digest`, or what `snoop node` found.";
    POD_NAME = "pod_name", Text of [Report, Container]: "The value of `-pod-name` or `POD_NAME`; in reports of `snoop node` that of each container, as the container runtime says.";
    NAMESPACE = "namespace", Text of [Report, Container]: "The value of `-namespace` or `POD_NAMESPACE`; with `snoop node` that of each container.";
    POD_UID = "pod_uid", Text of [Report, Container]: "The value of `POD_UID`; with `snoop node` that of each container.";
    NODE_NAME = "node_name", Text of [Report]: "The value of `NODE_NAME`.";
    LABELS = "labels", Map of [Report]: "The value of `-labels`.";
    HOOKS = "hooks", Text of [Report]: "Where snoop saw the accesses: `resolver` or `syscall`, as `-hooks` explains.";
    STARTED_AT = "started_at", Time of [Report, Container]: "When the first run covered by the report began; when the container made its first access. Omitted for a container if it is unknown.";
    LAST_UPDATED_AT = "last_updated_at", Time of [Report]: "When the report was written.";
    LAST_NEW_FILE_AT = "last_new_file_at", Time of [Report, Container]: "When a file was used that had not been used before. Omitted if it is unknown.";
    NEW_FILES_LAST_HOUR = "new_files_last_hour", Number of [Report]: "How many files the containers used for the first time in the hour before the report was written.";
    EVENTS_SINCE_NEW_FILE = "events_since_new_file", Number of [Report]: "How many accesses there were since the last new file. snoop reads the counts at intervals, so the accesses up to the next reading are not in it.";
    FILES = "files", Texts of [Report, Container]: "The paths that were used, sorted. The report's own list is the union of its containers' lists.";
    KINDS = "kinds", Texts of [Container]: "How each file was used, in the order of `files`: `l` looked at, `r` read, `w` written, `x` executed, `m` mapped as a program or library. Omitted, like `first_use_ms`, if nothing is known.";
    FIRST_USE_MS = "first_use_ms", Numbers of [Container]: "When each file was used first, in the order of `files`: milliseconds since the container's `started_at`, or null if that is unknown. No two files have the same time, so that sorting by it gives the order of use.";
    CONTAINERS = "containers", Objects of [Report]: "The containers that were traced.";
    NAME = "name", Text of [Container]: "Its Kubernetes name if the pod shares its process namespace; otherwise its short id or the name of its cgroup.";
    CGROUP_ID = "cgroup_id", Number of [Container]: "The id of its cgroup; 0 if the container has not been active since snoop resumed the report.";
    CGROUP_PATH = "cgroup_path", Text of [Container]: "The path of its cgroup, as in `/proc/PID/cgroup`.";
    MOUNTS = "mounts", Objects of [Container]: "The file systems on which a process opened or executed files or changed its directory, at most 256. They show what comes from the image and what from volumes.";
    POINT = "point", Text of [Mount]: "The mount point.";
    TYPE = "type", Text of [Mount]: "The type of the file system.";
    UNIQUE_FILES = "unique_files", Number of [Container]: "The number of paths in its `files`.";
    ATTACHED_LATE = "attached_late", Flag of [Container]: "The container was already running when tracing began. Omitted if false.";
    ENDED = "ended", Flag of [Container]: "Its cgroup was removed. Omitted if false.";
    MERGED = "merged", Number of [Container]: "The number of containers that ended earlier and are merged into this entry; only the last 64 to end keep their own entries. Omitted if 0.";
    TOTAL_EVENTS = "total_events", Number of [Report, Container]: "All file accesses seen: they added a file, were already known, were excluded, failed or were lost.";
    DROPPED_EVENTS = "dropped_events", Number of [Report]: "Accesses that were lost, for whatever reason.";
    EVICTED_FILES = "evicted_files", Number of [Report]: "Files evicted because of `-max-unique-files`.";
    COMPLETE = "complete", Flag of [Report]: "Nothing is missing.";
    MISSING = "missing", Map of [Report]: "What is missing: each reason with a count. The next table lists the reasons.";
}

/// Whether the list of files still grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Novelty {
    pub last_new_file_at: Option<SystemTime>,
    pub new_files_last_hour: u64,
    pub events_since_new_file: u64,
}

impl Novelty {
    pub fn to_fields(self) -> Fields {
        let mut fields: Fields = Vec::new();
        push_time(&mut fields, field::LAST_NEW_FILE_AT, self.last_new_file_at);
        fields.push((field::NEW_FILES_LAST_HOUR, self.new_files_last_hour.into()));
        fields.push((
            field::EVENTS_SINCE_NEW_FILE,
            self.events_since_new_file.into(),
        ));
        fields
    }
}

/// Adds a time if it is known.
pub fn push_time(fields: &mut Fields, name: &'static str, time: Option<SystemTime>) {
    if let Some(time) = time {
        fields.push((name, rfc3339(time).into()));
    }
}

/// The counts of a whole report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReportTotals {
    pub total: u64,
    pub dropped: u64,
    pub evicted: u64,
}

impl ReportTotals {
    /// Returns the sum of both, count by count.
    pub fn plus(self, other: ReportTotals) -> ReportTotals {
        let ReportTotals {
            total,
            dropped,
            evicted,
        } = other;
        ReportTotals {
            total: self.total + total,
            dropped: self.dropped + dropped,
            evicted: self.evicted + evicted,
        }
    }

    pub fn to_fields(self) -> Fields {
        let ReportTotals {
            total,
            dropped,
            evicted,
        } = self;
        vec![
            (field::TOTAL_EVENTS, total.into()),
            (field::DROPPED_EVENTS, dropped.into()),
            (field::EVICTED_FILES, evicted.into()),
        ]
    }

    /// Returns the counts in a report. `None` if one of them is missing.
    pub fn from_json(report: &Value) -> Option<ReportTotals> {
        Some(ReportTotals {
            total: report[field::TOTAL_EVENTS].as_u64()?,
            dropped: report[field::DROPPED_EVENTS].as_u64()?,
            evicted: report[field::EVICTED_FILES].as_u64()?,
        })
    }
}

/// The pod of a container on a node with many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodEntry {
    pub namespace: String,
    pub name: String,
    /// Empty if it is unknown.
    pub uid: String,
}

impl PodEntry {
    fn to_fields(&self) -> Fields {
        let PodEntry {
            namespace,
            name,
            uid,
        } = self;
        let fields = [
            (field::NAMESPACE, namespace),
            (field::POD_NAME, name),
            (field::POD_UID, uid),
        ];
        let known = fields.into_iter().filter(|(_, value)| !value.is_empty());
        known
            .map(|(key, value)| (key, value.as_str().into()))
            .collect()
    }

    fn from_json(container: &Value) -> Option<PodEntry> {
        let text = |key: &str| container[key].as_str().unwrap_or_default().to_string();
        let pod = PodEntry {
            namespace: text(field::NAMESPACE),
            name: text(field::POD_NAME),
            uid: text(field::POD_UID),
        };
        (pod != PodEntry::default()).then_some(pod)
    }
}

/// The content of a report about one container, except its files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerEntry {
    pub name: String,
    /// Its pod, if the report is about the containers of a whole node.
    pub pod: Option<PodEntry>,
    pub cgroup_id: u64,
    pub cgroup_path: Vec<u8>,
    /// Mount points and the types of their file systems.
    pub mounts: Vec<(Vec<u8>, Vec<u8>)>,
    pub total_events: u64,
    pub unique_files: u64,
    pub started_at: Option<SystemTime>,
    pub last_new_file_at: Option<SystemTime>,
    pub attached_late: bool,
    pub ended: bool,
    pub merged: u64,
}

impl ContainerEntry {
    pub fn to_fields(&self) -> Fields {
        let ContainerEntry {
            name,
            pod,
            cgroup_id,
            cgroup_path,
            mounts,
            total_events,
            unique_files,
            started_at,
            last_new_file_at,
            attached_late,
            ended,
            merged,
        } = self;
        let mount = |(point, fs): &(Vec<u8>, Vec<u8>)| json!({field::POINT: encode_name(point), field::TYPE: encode_name(fs)});
        let mut fields: Fields = vec![(field::NAME, name.as_str().into())];
        fields.extend(pod.iter().flat_map(PodEntry::to_fields));
        fields.extend([
            (field::CGROUP_ID, (*cgroup_id).into()),
            (field::CGROUP_PATH, encode_name(cgroup_path).into()),
            (field::MOUNTS, mounts.iter().map(mount).collect()),
            (field::TOTAL_EVENTS, (*total_events).into()),
            (field::UNIQUE_FILES, (*unique_files).into()),
        ]);
        push_time(&mut fields, field::STARTED_AT, *started_at);
        push_time(&mut fields, field::LAST_NEW_FILE_AT, *last_new_file_at);
        if *attached_late {
            fields.push((field::ATTACHED_LATE, true.into()));
        }
        if *ended {
            fields.push((field::ENDED, true.into()));
        }
        if *merged > 0 {
            fields.push((field::MERGED, (*merged).into()));
        }
        fields
    }

    /// Returns the entry of a container in a report. `None` if a field is missing or has another type.
    pub fn from_json(container: &Value) -> Option<ContainerEntry> {
        let bytes = |value: &Value| decode_name(value.as_str()?);
        let time = |name: &str| parse_rfc3339(container[name].as_str()?);
        let mount =
            |mount: &Value| Some((bytes(&mount[field::POINT])?, bytes(&mount[field::TYPE])?));
        let mounts = container[field::MOUNTS].as_array()?.iter();
        let cgroup_path = bytes(&container[field::CGROUP_PATH])?;
        if !cgroup_path.starts_with(b"/") || !container[field::FILES].is_array() {
            return None;
        }
        Some(ContainerEntry {
            name: container[field::NAME].as_str()?.into(),
            pod: PodEntry::from_json(container),
            // A report without the id is not damaged, because the ids of a run that has ended mean nothing.
            cgroup_id: container[field::CGROUP_ID].as_u64().unwrap_or(0),
            cgroup_path,
            mounts: mounts.map(mount).collect::<Option<_>>()?,
            total_events: container[field::TOTAL_EVENTS].as_u64()?,
            unique_files: container[field::UNIQUE_FILES].as_u64()?,
            started_at: time(field::STARTED_AT),
            last_new_file_at: time(field::LAST_NEW_FILE_AT),
            attached_late: container[field::ATTACHED_LATE] == true,
            ended: container[field::ENDED] == true,
            merged: container[field::MERGED].as_u64().unwrap_or(0),
        })
    }
}

/// Returns a name as a JSON string. Each byte that is not part of valid UTF-8 becomes NUL and two hexadecimal digits.
/// This is unambiguous, because no name contains a NUL.
pub fn encode_name(name: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(name) {
        return text.into();
    }
    let mut text = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\0{byte:02x}"));
        }
    }
    text.into()
}

/// Returns the name that [`encode_name`] turned into this string. `None` if it never returns such a string.
pub fn decode_name(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('\0');
    let mut name = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        name.push(u8::from_str_radix(digits, 16).ok()?);
        name.extend(rest.as_bytes());
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, UNIX_EPOCH};

    fn row(field: &Field) -> String {
        let objects = field.objects.iter().map(|object| match object {
            Object::Report => "report",
            Object::Container => "container",
            Object::Mount => "mount",
        });
        let kind = match field.kind {
            Kind::Number => "number",
            Kind::Text => "string",
            Kind::Time => "string, RFC 3339 in UTC",
            Kind::Flag => "boolean",
            Kind::Map => "object",
            Kind::Texts => "array of strings",
            Kind::Numbers => "array of numbers",
            Kind::Objects => "array of objects",
        };
        let objects = objects.collect::<Vec<_>>().join(", ");
        format!(
            "| `{}` | {objects} | {kind} | {} |",
            field.name, field.meaning
        )
    }

    #[test]
    fn the_page_has_every_field() {
        let page = include_str!("../../docs/report.md");
        let (_, table) = page
            .split_once("| field | object | type | |\n| --- | --- | --- | --- |\n")
            .unwrap();
        let found: Vec<_> = table.lines().take_while(|line| !line.is_empty()).collect();
        let expected: Vec<_> = FIELDS.iter().map(row).collect();
        assert_eq!(
            found,
            expected,
            "docs/report.md should have\n{}\n",
            expected.join("\n")
        );
    }

    fn sources(directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let files = entries.flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        });
        files.collect()
    }

    /// Field names of one plain word have other meanings elsewhere, so the test searches only the report's room for
    /// them.
    #[test]
    fn only_this_file_spells_out_field_names() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files = sources(&root);
        assert!(files.len() > 30);
        for file in files.iter().filter(|f| !f.ends_with("report/schema.rs")) {
            let text = fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let below = file.strip_prefix(&root).unwrap();
            let is_of_report = below.starts_with("report") || below == Path::new("report.rs");
            let is_searched = |name: &&str| is_of_report || name.contains('_');
            for name in FIELDS.iter().map(|field| field.name).filter(is_searched) {
                for literal in [format!("\"{name}\""), format!("\\\"{name}\\\"")] {
                    let shown = below.display();
                    assert!(!code.contains(&literal), "{shown} has {literal}");
                }
            }
        }
    }

    fn a_name() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(b'/'), Just(b'"'), Just(0xc3), Just(0xa9), 1..=255u8];
        prop::collection::vec(byte, 0..12)
    }

    fn an_entry() -> impl Strategy<Value = ContainerEntry> {
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        let mounts = prop::collection::vec((a_name(), a_name()), 0..4);
        let pod = prop::option::of((".*", ".+", ".*")).prop_map(|pod| {
            pod.map(|(namespace, name, uid)| PodEntry {
                namespace,
                name,
                uid,
            })
        });
        let names = (".*", pod, a_name(), mounts);
        let time = prop::option::of(0..1u64 << 32);
        let time = time.prop_map(|s| s.map(|s| UNIX_EPOCH + Duration::from_secs(s)));
        let times = (time.clone(), time);
        (names, numbers, times, any::<bool>(), any::<bool>()).prop_map(
            |(
                (name, pod, path, mounts),
                (cgroup_id, total_events, unique_files, merged),
                (started_at, last_new_file_at),
                late,
                ended,
            )| ContainerEntry {
                name,
                pod,
                cgroup_id,
                cgroup_path: [b"/", &path[..]].concat(),
                mounts,
                total_events,
                unique_files,
                started_at,
                last_new_file_at,
                attached_late: late,
                ended,
                merged,
            },
        )
    }

    fn object(fields: Fields) -> Value {
        fields
            .into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect()
    }

    proptest! {
        #[test]
        fn any_name_survives_a_round_trip(name in a_name()) {
            prop_assert_eq!(decode_name(&encode_name(&name)), Some(name));
        }

        #[test]
        fn any_container_survives_a_round_trip(entry in an_entry()) {
            let mut container = object(entry.to_fields());
            container[field::FILES] = json!([]);
            let text = container.to_string();
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(ContainerEntry::from_json(&read), Some(entry));
        }
    }

    /// Without one of these fields, the object is not a container.
    #[test]
    fn a_container_needs_these_fields() {
        let entry = ContainerEntry {
            cgroup_path: b"/a".to_vec(),
            ..ContainerEntry::default()
        };
        let mut whole = object(entry.to_fields());
        whole[field::FILES] = json!([]);
        assert_eq!(ContainerEntry::from_json(&whole), Some(entry));
        let needed = [
            field::NAME,
            field::CGROUP_PATH,
            field::MOUNTS,
            field::TOTAL_EVENTS,
            field::UNIQUE_FILES,
            field::FILES,
        ];
        for name in needed {
            let mut container = whole.clone();
            container[name] = Value::Null;
            assert_eq!(ContainerEntry::from_json(&container), None, "{name}");
        }
        whole[field::CGROUP_PATH] = json!("relative");
        assert_eq!(ContainerEntry::from_json(&whole), None);
    }

    #[test]
    fn totals_survive_a_round_trip() {
        let totals = ReportTotals {
            total: 7,
            dropped: 2,
            evicted: 1,
        };
        let fields = object(totals.to_fields());
        assert_eq!(ReportTotals::from_json(&fields), Some(totals));
        assert_eq!(ReportTotals::from_json(&json!({})), None);
        let sum = ReportTotals {
            total: 14,
            dropped: 4,
            evicted: 2,
        };
        assert_eq!(totals.plus(totals), sum);
    }

    #[test]
    fn invalid_encodings_are_refused() {
        for wrong in ["/a\0", "\0e", "\0xy", "\0é"] {
            assert_eq!(decode_name(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_of_any_bytes_are_encoded() {
        assert_eq!(encode_name(b"/plain"), "/plain");
        assert_eq!(encode_name("/é".as_bytes()), "/é");
        assert_eq!(encode_name(b"/a\xffb\xc3"), "/a\0ffb\0c3");
        assert_eq!(encode_name(b"\xe9"), "\0e9");
        assert_eq!(encode_name(b""), "");
    }
}
