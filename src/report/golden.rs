// SPDX-License-Identifier: MIT OR Apache-2.0
//! For tests: a report made by hand, and golden files with the expected texts.

use crate::files::file_set::{FileSet, NO_KEY};
use crate::files::kinds::Kinds;
use crate::files::path_tree::PathTree;
use crate::files::usage::Usage;
use crate::report::metadata::Metadata;
use crate::report::schema::{ContainerEntry, Novelty, PodEntry, ReportTotals, field};
use crate::report::{ContainerSnapshot, Snapshot};
use crate::time::parse_rfc3339;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};
use std::{env, fs};

/// The environment variable that makes the tests write the golden files.
const UPDATE: &str = "SNOOP_UPDATE_GOLDEN";

pub fn path(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/fixtures/golden").join(name)
}

/// Compares a text with the golden file of that name.
pub fn assert_golden(name: &str, text: &str) {
    let path = path(name);
    if env::var_os(UPDATE).is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == golden,
        "{} differs from the text; if the change is intended, {UPDATE}=1 cargo test --lib writes the file:\n{text}",
        path.display()
    );
}

/// A report with every field, and with names of all kinds.
pub struct Sample {
    pub metadata: Metadata,
    pub tree: PathTree,
    pub entries: Vec<ContainerEntry>,
    pub sets: Vec<FileSet>,
}

pub const STARTED_AT: &str = "2026-01-15T10:30:00Z";

pub const TOTALS: ReportTotals = ReportTotals {
    total: 1234,
    dropped: 6,
    evicted: 4,
};

pub const MISSING: [(&str, u64); 5] = [
    ("buffer_full", 5),
    ("io_uring", 1),
    ("evicted", 4),
    ("late_attach", 1),
    ("loader", 1),
];

pub const EVENTS_SINCE_NEW_FILE: u64 = 99;

/// Returns the usage of the file at this place of a container, from the end. The last one is of an earlier schema.
fn usage(i: u8) -> Usage {
    Usage {
        kinds: Kinds::from_bits(i),
        first: (i > 0).then_some(u64::from(i) * 22_222),
    }
}

/// The files of each container.
pub const FILES: [&[&[u8]]; 2] = [
    &[
        b"/",
        b"/a",
        b"/a-b",
        b"/a/b",
        b"/app/caf\xe9",
        "/app/caf\u{e9}".as_bytes(),
        b"/app/new\nline",
        b"/app/quote\"back\\slash",
        "/app/\u{1b}[2J\u{202e}\u{10ffff}".as_bytes(),
        b"/app/\xed\xa0\x80",
    ],
    &[b"/a/b", b"/sh"],
];

impl Sample {
    pub fn make() -> Sample {
        let known = [
            (field::CONTAINER_ID, "c-1"),
            (field::IMAGE, "nginx:1"),
            (field::IMAGE_DIGEST, "sha256:12ab"),
            (field::POD_NAME, "web-0"),
            (field::NAMESPACE, "shop"),
            (field::POD_UID, "11b2c3d4-0000-1111-2222-333344445555"),
            (field::NODE_NAME, "node \"7\""),
        ];
        let labels = [("app", "web"), ("a\"b", "c\\\n")];
        let id = "0123456789ab".repeat(6)[..64].to_string();
        let web = ContainerEntry {
            name: "web".into(),
            pod: Some(PodEntry {
                namespace: "shop".into(),
                name: "web-0".into(),
                uid: "11b2c3d4-0000-1111-2222-333344445555".into(),
            }),
            cgroup_id: 4711,
            cgroup_path: format!("/kubepods/pod/cri-containerd-{id}.scope").into_bytes(),
            mounts: vec![
                (b"/".to_vec(), b"overlay".to_vec()),
                (b"/data \"x\"\xff".to_vec(), b"ext4".to_vec()),
            ],
            total_events: 1200,
            unique_files: FILES[0].len() as u64,
            started_at: parse_rfc3339(STARTED_AT),
            last_new_file_at: parse_rfc3339("2026-01-15T10:30:01Z"),
            attached_late: true,
            ..ContainerEntry::default()
        };
        let ended = ContainerEntry {
            name: "x\u{0}ff".into(),
            cgroup_path: b"/kubepods/pod/x\xff".to_vec(),
            total_events: 34,
            unique_files: FILES[1].len() as u64,
            ended: true,
            merged: 3,
            ..ContainerEntry::default()
        };
        let mut tree = PathTree::default();
        let sets = FILES.map(|files| {
            let mut set = FileSet::new(0);
            for (i, file) in (0..).zip(files.iter().rev()) {
                set.add(&mut tree, file, usage(i), NO_KEY, &mut Vec::new());
            }
            set
        });
        Sample {
            metadata: Metadata {
                known: known.map(|(name, value)| (name, value.into())).into(),
                labels: labels.map(|(k, v)| (k.into(), v.into())).into(),
            },
            tree,
            entries: vec![web, ended],
            sets: sets.into(),
        }
    }

    pub fn snapshot(&self) -> Snapshot<'_> {
        let containers = self.entries.iter().zip(&self.sets);
        Snapshot {
            metadata: &self.metadata,
            hooks: "syscall",
            started_at: STARTED_AT,
            updated_at: UNIX_EPOCH + Duration::from_secs(1_768_473_060),
            novelty: Novelty {
                last_new_file_at: parse_rfc3339("2026-01-15T10:30:01Z"),
                new_files_last_hour: 10,
                events_since_new_file: EVENTS_SINCE_NEW_FILE,
            },
            containers: containers
                .map(|(entry, files)| ContainerSnapshot {
                    entry: entry.clone(),
                    files,
                })
                .collect(),
            tree: &self.tree,
            totals: TOTALS,
            missing: MISSING.into(),
        }
    }

    pub fn written(&self) -> String {
        let mut bytes = Vec::new();
        self.snapshot().write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}
