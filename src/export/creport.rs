// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report of the image minifiers SlimToolkit and mint. They keep the paths in `image.files[].file_path`, and make an AppArmor
//! profile of the flags.

use crate::error::{Result, cannot};
use crate::export::{Used, in_order, is_utf8, retain};
use crate::files::kinds::Kinds;
use crate::image::{Image, Node, View, closure, runtime};
use crate::report::reader::{FileLists, Paths};
use crate::reports::several::Several;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

pub fn text(several: &Several, image: Option<&mut Image>) -> Result<Vec<u8>> {
    let mut files = in_order(several);
    let entries = match image {
        Some(image) => {
            let mut kinds: HashMap<_, _> = files.drain(..).map(|f| (f.path, f.kinds)).collect();
            let mut paths: Vec<_> = needed(several, &kinds, image)?.into_iter().collect();
            paths.sort_unstable();
            let kinds = |path: Vec<u8>| Used {
                kinds: kinds.remove(&path).unwrap_or_default(),
                path,
            };
            files = paths.into_iter().map(kinds).collect();
            retain(&mut files, is_utf8);
            let entries = files.iter().map(|file| described(file, image));
            entries.collect::<Result<Vec<_>>>()?
        }
        None => {
            files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
            retain(&mut files, is_utf8);
            files.iter().map(entry).map(Value::Object).collect()
        }
    };
    let lines: Vec<_> = entries.iter().map(Value::to_string).collect();
    let head = "{\"document\":\"doc.report.container\",\"version\":\"ov/container/1.1\",\"image\":{\"files\":[\n";
    Ok(format!("{head}{}\n]}}}}\n", lines.join(",\n")).into_bytes())
}

/// Returns every path that the image needs for the files, as `snoop closure` lists them.
fn needed(several: &Several, files: &HashMap<Vec<u8>, Kinds>, image: &mut Image) -> Result<Paths> {
    let mut listed = FileLists::of(files.keys().cloned().collect());
    for container in several.groups.iter().flat_map(|group| &group.entries) {
        listed.add_container(container);
    }
    let mut needed = closure::needed(image, &listed)?;
    needed.extend(runtime::needed(image, &listed.mounts)?);
    Ok(needed)
}

/// Returns what the reports say about a file.
fn entry(file: &Used) -> Map<String, Value> {
    let mut entry = Map::new();
    let path = String::from_utf8_lossy(&file.path);
    entry.insert("file_path".into(), path.into());
    let read = Kinds::READ.and(Kinds::MAPPED).and(Kinds::EXECUTED);
    let flags = [("R", read), ("W", Kinds::WRITTEN), ("X", Kinds::EXECUTED)];
    let flags = flags.iter().filter(|(_, kinds)| file.kinds.has(*kinds));
    let flags: Map<_, _> = flags
        .map(|(flag, _)| (flag.to_string(), true.into()))
        .collect();
    if !flags.is_empty() {
        entry.insert("flags".into(), Value::Object(flags));
    }
    entry
}

/// Returns what the reports and the image say about a file.
fn described(file: &Used, image: &mut Image) -> Result<Value> {
    let mut entry = entry(file);
    let outside = image.outside(&file.path);
    let read = |e| cannot(&format!("read {}", outside.display()), e);
    let found = fs::symlink_metadata(&outside).map_err(read)?;
    let kind = match image.look(&file.path)? {
        Node::Directory => "dir",
        Node::Link(target) => {
            entry.insert("link_ref".into(), String::from_utf8_lossy(&target).into());
            "symlink"
        }
        _ if found.is_file() => "file",
        _ => "unknown",
    };
    entry.insert("file_type".into(), kind.into());
    entry.insert("mode".into(), mode(kind, found.mode()).into());
    entry.insert("file_size".into(), found.len().into());
    entry.insert("uid".into(), found.uid().into());
    entry.insert("gid".into(), found.gid().into());
    Ok(json!(entry))
}

/// Returns the mode as Go writes it.
fn mode(kind: &str, mode: u32) -> String {
    let mut text = String::new();
    for (bit, letter) in [(0o4000, 'u'), (0o2000, 'g'), (0o1000, 't')] {
        text.extend((mode & bit != 0).then_some(letter));
    }
    let first = match kind {
        "dir" => "d",
        "symlink" => "L",
        _ => "",
    };
    text.insert_str(0, first);
    if text.is_empty() {
        text.push('-');
    }
    for (at, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if mode >> (8 - at) & 1 == 1 {
            letter
        } else {
            '-'
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_as_go_writes_them() {
        for (kind, bits, text) in [
            ("file", 0o644, "-rw-r--r--"),
            ("file", 0o4755, "urwxr-xr-x"),
            ("dir", 0o1777, "dtrwxrwxrwx"),
            ("symlink", 0o777, "Lrwxrwxrwx"),
        ] {
            assert_eq!(mode(kind, bits), text);
        }
    }
}
