// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads whole reports for their lists of files, as `snoop closure` and `snoop unused` need them.

use crate::archive::digest::Digest;
use crate::error::{Error, Result};
use crate::report::schema::{SCHEMA, decode_name, field};
use serde_json::Value;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// A set of absolute paths inside an image.
pub type Paths = HashSet<Vec<u8>>;

/// The combined content of several reports.
#[derive(Default)]
pub struct FileLists {
    pub files: Paths,
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
    /// Reads reports by name; `-` is standard input.
    pub fn read(names: &[impl AsRef<OsStr>]) -> Result<FileLists> {
        let mut listed = FileLists::default();
        for name in names {
            let name = name.as_ref();
            let shown = name.to_string_lossy().into_owned();
            let wrong = |why: String| Error::usage(format!("{shown}: {why}"));
            let bytes = if name == "-" {
                let mut bytes = Vec::new();
                io::stdin().read_to_end(&mut bytes).map(|_| bytes)
            } else {
                fs::read(Path::new(name))
            };
            let bytes = bytes.map_err(|e| wrong(e.to_string()))?;
            let missing = listed.add(&bytes).map_err(wrong)?;
            listed.digests.push(Digest::of(&bytes));
            if let Some(missing) = missing {
                listed.incomplete.push((shown, missing));
            }
        }
        Ok(listed)
    }

    /// Adds a report's files. Returns what the report says is missing. The error says why this is not a report.
    pub fn add(&mut self, bytes: &[u8]) -> std::result::Result<Option<String>, String> {
        let report = report(bytes)?;
        let files = report[field::FILES].as_array();
        let files = files.ok_or("it has no list of files")?;
        for file in files {
            self.files.insert(path(file)?);
        }
        let mut containers = report[field::CONTAINERS].as_array().into_iter().flatten();
        self.late |= containers.any(|container| container[field::ATTACHED_LATE] == true);
        let image = report[field::IMAGE_DIGEST].as_str();
        self.image_digests.push(image.map(String::from));
        let complete = report[field::COMPLETE] == true;
        Ok((!complete).then(|| report[field::MISSING].to_string()))
    }
}

/// Parses a report of the schema that this version knows. The error says why this is not a report.
pub fn report(bytes: &[u8]) -> std::result::Result<Value, String> {
    let report: Value = serde_json::from_slice(bytes).map_err(|e| match e.classify() {
        serde_json::error::Category::Eof => format!("it is truncated: {e}"),
        _ => format!("it is not JSON: {e}"),
    })?;
    match &report[field::SCHEMA] {
        Value::Null => Err("it is not a snoop report: it has no schema".into()),
        schema if *schema == SCHEMA => Ok(report),
        schema => Err(format!(
            "its schema is {schema}; this snoop reads schema {SCHEMA}"
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
        FileLists::default().add(report.as_bytes()).unwrap_err()
    }

    #[test]
    fn errors_say_why_a_file_is_not_a_report() {
        for (report, part) in [
            ("", "truncated"),
            (r#"{"schema":1,"files":["/a","#, "truncated"),
            ("/etc/passwd", "not JSON"),
            ("{}", "no schema"),
            ("[1]", "no schema"),
            (r#"{"schema":2,"files":[]}"#, "its schema is 2"),
            (r#"{"schema":1}"#, "no list of files"),
            (r#"{"schema":1,"files":[7]}"#, "lists 7"),
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
        let whole = br#"{"schema":1,"files":["/a","/b"],"complete":true,"missing":{}}"#;
        assert_eq!(listed.add(whole), Ok(None));
        let part = br#"{"schema":1,"files":["/","/b","/c\u0000ff"],"complete":false,"missing":{"buffer_full":3}}"#;
        assert_eq!(listed.add(part), Ok(Some(r#"{"buffer_full":3}"#.into())));
        let mut files: Vec<_> = listed.files.into_iter().collect();
        files.sort();
        assert_eq!(files, [&b"/"[..], b"/a", b"/b", b"/c\xff"]);
    }
}
