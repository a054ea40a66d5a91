// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads reports for their lists of files, as `snoop closure`, `snoop unused` and `snoop slim` need them. The text of a report
//! is never whole in memory.

use crate::archive::digest::{Digest, Hashing};
use crate::error::{Error, Result};
use crate::files::kinds::Kinds;
use crate::report::choice::Choice;
use crate::report::detail::Detailed;
use crate::report::schema::{SCHEMA, decode_name, field};
use serde_json::Value;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;

/// A set of absolute paths inside an image.
pub type Paths = HashSet<Vec<u8>>;

/// The combined content of several reports.
#[derive(Default)]
pub struct FileLists {
    /// The files that count.
    pub files: Paths,
    choice: Choice,
    /// What the choice leaves out, for people.
    pub notes: Vec<String>,
    /// The mount points of the containers.
    pub mounts: Paths,
    /// Whether a container was already running when tracing began. Of the files that it had open then, only the real
    /// paths are listed.
    pub late: bool,
    /// The name of each incomplete report, and what it says is missing.
    pub incomplete: Vec<(String, String)>,
    /// The image digest of each report, if the report has one.
    pub image_digests: Vec<Option<String>>,
    /// The digest of the content of each report that was read by name.
    pub digests: Vec<Digest>,
}

impl FileLists {
    /// Returns lists of files that were read before.
    pub fn of(files: Paths) -> FileLists {
        FileLists {
            files,
            ..FileLists::default()
        }
    }

    /// Reads reports by name; `-` is standard input. Files that were used in none of the `wanted` ways do not count.
    pub fn read(names: &[impl AsRef<OsStr>], wanted: Kinds) -> Result<FileLists> {
        let mut listed = FileLists::default();
        for name in names {
            let name = name.as_ref();
            let (missing, digest) = open(name, |input| listed.add(input))?;
            listed.digests.push(digest);
            if let Some(missing) = missing {
                let shown = name.to_string_lossy().into_owned();
                listed.incomplete.push((shown, missing));
            }
        }
        listed.choose(wanted);
        Ok(listed)
    }

    /// Adds a report. Returns what the report says is missing. The error says why this is not a report.
    pub fn add(&mut self, report: &mut dyn Read) -> std::result::Result<Option<String>, String> {
        let report = Detailed::read(report, &mut self.choice.tree)?;
        self.choice.add(&report);
        Ok(self.add_head(&report.head))
    }

    /// Adds what a report says beside its lists of files. Returns what it says is missing.
    pub fn add_head(&mut self, head: &Value) -> Option<String> {
        let containers = head[field::CONTAINERS].as_array().into_iter().flatten();
        containers.for_each(|container| self.add_container(container));
        let image = head[field::IMAGE_DIGEST].as_str();
        self.image_digests.push(image.map(String::from));
        let complete = head[field::COMPLETE] == true;
        (!complete).then(|| head[field::MISSING].to_string())
    }

    /// Adds what a report says about a container, except its files.
    pub fn add_container(&mut self, container: &Value) {
        self.late |= container[field::ATTACHED_LATE] == true;
        let mounts = container[field::MOUNTS].as_array().into_iter().flatten();
        let points = mounts.filter_map(|mount| decode_name(mount[field::POINT].as_str()?));
        self.mounts.extend(points);
    }

    /// Chooses the files that count, when all reports are added.
    pub fn choose(&mut self, wanted: Kinds) {
        let choice = std::mem::take(&mut self.choice);
        (self.files, self.notes) = choice.choose(wanted);
    }
}

/// Reads a report by name; `-` is standard input. Returns what `read` makes of it, and the digest of its content.
pub fn open<T>(
    name: &OsStr,
    read: impl FnOnce(&mut dyn Read) -> std::result::Result<T, String>,
) -> Result<(T, Digest)> {
    let wrong = |why: String| Error::usage(format!("{}: {why}", name.to_string_lossy()));
    let input: Box<dyn Read> = match name.as_encoded_bytes() {
        b"-" => Box::new(io::stdin().lock()),
        _ => Box::new(File::open(name).map_err(|e| wrong(e.to_string()))?),
    };
    let mut input = Hashing::new(input);
    let made = read(&mut input).map_err(wrong)?;
    Ok((made, input.digest()))
}

/// The versions of the format that this version of snoop reads.
const READ: RangeInclusive<u64> = 1..=SCHEMA as u64;

/// Parses a report of a schema that this version knows. The error says why this is not a report.
pub fn report(bytes: &[u8]) -> std::result::Result<Value, String> {
    let report: Value = serde_json::from_slice(bytes).map_err(|e| match e.classify() {
        serde_json::error::Category::Eof => format!("it is truncated: {e}"),
        _ => format!("it is not JSON: {e}"),
    })?;
    match &report[field::SCHEMA] {
        Value::Null => Err("it is not a snoop report: it has no schema".into()),
        schema if schema.as_u64().is_some_and(|n| READ.contains(&n)) => Ok(report),
        schema => Err(format!(
            "its schema is {schema}; this snoop reads schemas {} to {}",
            READ.start(),
            READ.end()
        )),
    }
}

/// Returns the path that an element of a list of files stands for.
pub fn path(file: &Value) -> std::result::Result<Vec<u8>, String> {
    let path = file.as_str().and_then(decode_name);
    let path = path.ok_or_else(|| format!("it lists {file}, which is not a name"))?;
    if !is_normal(&path) {
        return Err(format!(
            "it lists {file}, which is not an absolute path without \".\" and \"..\""
        ));
    }
    Ok(path)
}

/// Returns whether the path is absolute, without `.`, `..`, empty names or a trailing slash.
fn is_normal(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else {
        return false;
    };
    rest.is_empty()
        || rest
            .split(|b| *b == b'/')
            .all(|name| !matches!(name, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(report: &str) -> String {
        let mut report = report.as_bytes();
        FileLists::default().add(&mut report).unwrap_err()
    }

    #[test]
    fn errors_say_why_a_file_is_not_a_report() {
        for (report, part) in [
            ("", "truncated"),
            (r#"{"schema":1,"files":["/a","#, "truncated"),
            ("/etc/passwd", "not JSON"),
            ("{}", "no schema"),
            ("[1]", "no schema"),
            (r#"{"schema":3,"files":[]}"#, "its schema is 3"),
            (r#"{"schema":1}"#, "no list of files"),
            (r#"{"schema":1,"files":[7]}"#, "holds something else"),
            (r#"{"schema":1,"files":["/\u0000zz"]}"#, "not a name"),
            (r#"{"schema":1,"files":["/a/../b"]}"#, "/a/../b"),
            (r#"{"schema":1,"files":["a"]}"#, "\"a\""),
            (r#"{"schema":1,"files":["/a//b"]}"#, "/a//b"),
        ] {
            let said = refused(report);
            assert!(said.contains(part), "{report}: {said}");
        }
    }

    #[test]
    fn several_reports_become_one_set() {
        let mut listed = FileLists::default();
        let whole = br#"{"schema":1,"files":["/a","/b"],"complete":true,"missing":{},
            "containers":[{"mounts":[{"point":"/data","type":"ext4"}],"files":["/a"]}]}"#;
        assert_eq!(listed.add(&mut &whole[..]), Ok(None));
        let part = br#"{"schema":1,"files":["/","/b","/c\u0000ff"],"complete":false,"missing":{"buffer_full":3}}"#;
        assert_eq!(
            listed.add(&mut &part[..]),
            Ok(Some(r#"{"buffer_full":3}"#.into()))
        );
        listed.choose(Kinds::EVERY);
        let mut files: Vec<_> = listed.files.into_iter().collect();
        files.sort();
        assert_eq!(files, [&b"/"[..], b"/a", b"/b", b"/c\xff"]);
        assert_eq!(listed.mounts, Paths::from([b"/data".to_vec()]));
    }
}
