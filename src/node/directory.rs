// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory with the reports of a node, and what is known of each report without reading it again.
//!
//! The name of a file is a digest in hexadecimal digits, so that no name from outside becomes part of a path.

use crate::archive::digest::Digest;
use crate::log;
use crate::node::names::Identity;
use crate::report::file::ReportFile;
use crate::report::metadata::Metadata;
use crate::report::previous::PreviousReport;
use crate::report::schema::{ContainerEntry, PodEntry, field, push_time};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a report says in short.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub metadata: Metadata,
    pub pods: usize,
    pub containers: u64,
    pub files: u64,
    pub is_complete: bool,
    pub last_new_file_at: Option<SystemTime>,
    pub updated_at: SystemTime,
    /// The size of the file.
    pub bytes: u64,
    /// The number of entries of containers that have ended.
    pub gone: usize,
    /// An earlier run of snoop wrote it.
    pub is_earlier: bool,
}

impl Summary {
    fn of(earlier: &PreviousReport, metadata: Metadata, files: u64, bytes: u64) -> Summary {
        let entries = &earlier.containers;
        Summary {
            metadata,
            pods: count_pods(entries),
            containers: entries.iter().map(|entry| 1 + entry.merged).sum(),
            files,
            is_complete: earlier.missing.is_empty(),
            last_new_file_at: entries.iter().filter_map(|e| e.last_new_file_at).max(),
            updated_at: earlier.updated_at,
            bytes,
            gone: entries.len(),
            is_earlier: true,
        }
    }

    /// Returns the entry of the list of reports.
    pub fn to_json(&self) -> Value {
        let mut fields = self.metadata.fields();
        fields.extend([
            (field::CONTAINERS, self.containers.into()),
            (field::FILES, self.files.into()),
            (field::COMPLETE, self.is_complete.into()),
        ]);
        push_time(&mut fields, field::LAST_NEW_FILE_AT, self.last_new_file_at);
        fields.extend([("pods", self.pods.into()), ("bytes", self.bytes.into())]);
        let fields = fields.into_iter();
        Value::Object(
            fields
                .map(|(key, value)| (key.to_string(), value))
                .collect(),
        )
    }
}

/// Returns the number of different pods.
pub fn count_pods(entries: &[ContainerEntry]) -> usize {
    let key = |pod: &PodEntry| (pod.namespace.clone(), pod.name.clone(), pod.uid.clone());
    let pods = entries.iter().filter_map(|entry| entry.pod.as_ref());
    pods.map(key).collect::<BTreeSet<_>>().len()
}

/// Returns the name of the report about a container's image, without the ending: by the image's digest, by its name, or else by the
/// container alone. `id` identifies the container.
pub fn stem(identity: &Identity, id: &[u8]) -> String {
    match (&identity.digest, &identity.image) {
        (Some(digest), _) => format!("digest-{}", digest.hex()),
        (None, Some(image)) => format!("image-{}", Digest::of(image.as_bytes()).hex()),
        (None, None) => format!("container-{}", Digest::of(id).hex()),
    }
}

const ENDING: &str = ".json";

/// Returns the stem of a file name that [`stem`] made.
fn stem_of(file: &str) -> Option<&str> {
    let stem = file.strip_suffix(ENDING)?;
    let (kind, hex) = stem.split_once('-')?;
    let is_ours = matches!(kind, "digest" | "image" | "container");
    (is_ours && Digest::from_hex(hex).is_some()).then_some(stem)
}

pub struct Directory {
    path: PathBuf,
    /// The reports in the directory, by stem.
    pub stored: BTreeMap<String, Summary>,
}

impl Directory {
    /// Reads what the reports of earlier runs say in short. A damaged one is moved aside.
    pub fn open(path: &Path) -> io::Result<Directory> {
        let mut directory = Directory {
            path: path.into(),
            stored: BTreeMap::new(),
        };
        for entry in fs::read_dir(path)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if let Some(left) = name.strip_prefix('.') {
                directory.clean(left);
            }
            if let Some(stem) = stem_of(&name) {
                directory.note(stem);
            }
        }
        Ok(directory)
    }

    /// Removes the temporary file of a process that was killed while it wrote a report.
    fn clean(&self, left: &str) {
        let name = left.split_inclusive(ENDING).next().unwrap_or(left);
        if let Some(stem) = stem_of(name) {
            self.file(stem).clean();
        }
    }

    fn note(&mut self, stem: &str) {
        let report = self.file(stem);
        let read = || {
            let mut file = report.open_earlier().map_err(|e| e.to_string())?;
            let file = file.as_mut().ok_or("it is gone")?;
            let bytes = file.metadata().map_err(|e| e.to_string())?.len();
            let (earlier, metadata, files) = PreviousReport::read_any(file)?;
            Ok::<_, String>(Summary::of(&earlier, metadata, files, bytes))
        };
        match read() {
            Ok(summary) => _ = self.stored.insert(stem.into(), summary),
            Err(why) => {
                log::warn(format_args!(
                    "the existing report {stem} is damaged: {why}; it is moved aside"
                ));
                if let Err(e) = report.move_aside(".damaged") {
                    log::error(e);
                }
            }
        }
    }

    pub fn file(&self, stem: &str) -> ReportFile {
        ReportFile::new(self.path.join(format!("{stem}{ENDING}")))
    }

    /// Returns the size of all reports.
    pub fn bytes(&self) -> u64 {
        self.stored.values().map(|summary| summary.bytes).sum()
    }

    /// Removes a report.
    pub fn remove(&mut self, stem: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(format!("{stem}{ENDING}")))?;
        self.stored.remove(stem);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_from_outside_is_in_a_file_name() {
        let hex = "ab".repeat(32);
        let identity = |image: Option<&str>, digest: Option<&str>| Identity {
            image: image.map(String::from),
            digest: digest.map(|hex| Digest::from_hex(hex).unwrap()),
            ..Identity::default()
        };
        let by_digest = stem(&identity(Some("nginx"), Some(&hex)), b"/a");
        assert_eq!(by_digest, format!("digest-{hex}"));
        let stems = [
            by_digest,
            stem(&identity(Some("../../etc/passwd\n"), None), b"/a"),
            stem(&identity(None, None), b"/a"),
            stem(&identity(None, None), b"/../b"),
        ];
        for (i, stem) in stems.iter().enumerate() {
            let file = format!("{stem}.json");
            assert_eq!(stem_of(&file), Some(&stem[..]));
            assert!(
                file.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
            );
            assert!(!stems[..i].contains(stem));
        }
        for other in ["digest-ab.json", "report.json", "image-.json", &stems[0]] {
            assert_eq!(stem_of(other), None, "{other}");
        }
    }

    #[test]
    fn earlier_reports_are_listed_and_damaged_ones_moved_aside() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let hex = "cd".repeat(32);
        let golden = fs::read(crate::report::golden::path("report.json")).unwrap();
        fs::write(file(&format!("digest-{hex}.json")), &golden).unwrap();
        fs::write(file(&format!("image-{hex}.json")), "{").unwrap();
        fs::write(file("other.json"), "{").unwrap();
        let left = format!(".digest-{hex}.json.0123456789abcdef.tmp");
        fs::write(file(&left), "{").unwrap();
        let mut found = Directory::open(directory.path()).unwrap();
        let [(stem, summary)] = &found.stored.clone().into_iter().collect::<Vec<_>>()[..] else {
            panic!("{:?}", found.stored);
        };
        assert_eq!(*stem, format!("digest-{hex}"));
        assert_eq!((summary.containers, summary.pods), (5, 1));
        assert_eq!((summary.files, summary.is_complete), (11, false));
        assert_eq!(found.bytes(), golden.len() as u64);
        assert_eq!(summary.metadata.get(field::IMAGE), Some("nginx:1"));
        assert!(file(&format!("image-{hex}.json.damaged")).exists());
        assert!(file("other.json").exists() && !file(&left).exists());
        found.remove(stem).unwrap();
        assert_eq!((found.stored.len(), found.bytes()), (0, 0));
    }
}
