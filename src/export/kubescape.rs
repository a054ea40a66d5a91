// SPDX-License-Identifier: MIT OR Apache-2.0
//! An ApplicationProfile of Kubescape: which programs each container may execute, and which files it may open.

use crate::export::{Used, is_utf8, named, retain};
use crate::files::kinds::Kinds;
use crate::report::detail::combine;
use crate::report::schema::field;
use crate::reports::several::Several;
use serde_json::{Value, json};

pub fn text(several: &Several) -> Vec<u8> {
    let containers = several.groups.iter().map(|group| {
        let mut files = named(&several.tree, combine(&several.tree, group.uses.clone()));
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        retain(&mut files, is_utf8);
        let executed = files.iter().filter(|file| file.kinds.has(Kinds::EXECUTED));
        let execs = executed.map(|file| json!({"path": text_of(file)}));
        let opens = files.iter().filter_map(open);
        json!({"name": group.name, "execs": execs.collect::<Value>(), "opens": opens.collect::<Value>()})
    });
    let spec = json!({"containers": containers.collect::<Value>()});
    let mut metadata = json!({"name": shared(several, field::POD_NAME).unwrap_or("snoop")});
    if let Some(namespace) = shared(several, field::NAMESPACE) {
        metadata["namespace"] = namespace.into();
    }
    let profile = json!({
        "apiVersion": "spdx.softwarecomposition.kubescape.io/v1beta1",
        "kind": "ApplicationProfile",
        "metadata": metadata,
        "spec": spec,
    });
    format!("{profile:#}\n").into_bytes()
}

/// Returns the value of a field that is the same in all reports.
fn shared<'a>(several: &'a Several, key: &str) -> Option<&'a str> {
    let mut values = several.heads.iter().map(|head| head[key].as_str());
    let first = values.next()?;
    first.filter(|_| values.all(|value| value == first))
}

fn text_of(file: &Used) -> Value {
    String::from_utf8_lossy(&file.path).into()
}

/// Returns how a file was opened. `None` if it never was: it was only looked at, or only executed.
fn open(file: &Used) -> Option<Value> {
    let reads = file.kinds.has(Kinds::READ.and(Kinds::MAPPED)) || file.kinds == Kinds::UNKNOWN;
    let flag = match (reads, file.kinds.has(Kinds::WRITTEN)) {
        (true, true) => "O_RDWR",
        (true, false) => "O_RDONLY",
        (false, true) => "O_WRONLY",
        (false, false) => return None,
    };
    Some(json!({"path": text_of(file), "flags": [flag]}))
}
