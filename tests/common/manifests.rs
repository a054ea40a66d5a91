// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manifests in deploy/, rendered by the tools that people use and validated against schemas.

use super::image::through;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of the Kubernetes API that all manifests but the newest fit.
pub const API: &str = "1.33";

pub fn top(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the path of kubectl or helm, which scripts/kubernetes-tools installs.
pub fn tool(name: &str) -> String {
    let path = top("target/tools").join(name);
    assert!(path.exists(), "run scripts/kubernetes-tools target/tools");
    path.to_str().unwrap().into()
}

/// Runs a program that has to succeed, and returns what it prints.
pub fn output(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    output.stdout
}

/// Runs `tests/helper/NAME.py` and returns what it prints.
pub fn python(name: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let path = format!("PYTHONPATH={}", top("target/python").display());
    let script = top("tests/helper").join(name);
    let mut words = vec!["env", &path, "/usr/bin/python3", script.to_str().unwrap()];
    words.extend(args);
    through(&words, input)
}

/// Validates manifests and returns them. That takes a second, so give it many at once.
pub fn validated(text: &[u8], api: &str) -> Vec<Value> {
    serde_json::from_slice(&python("manifest.py", &[api], text)).unwrap()
}

/// Validates a file in deploy/ and returns its manifests.
pub fn manifests(name: &str) -> Vec<Value> {
    validated(&fs::read(top("deploy").join(name)).unwrap(), API)
}

/// Returns what kustomize makes of a directory.
pub fn rendered(directory: &Path) -> String {
    let words = ["kustomize", directory.to_str().unwrap()];
    String::from_utf8(output(&tool("kubectl"), &words)).unwrap()
}

/// Validates what kustomize makes of a directory, and returns it.
pub fn kustomized(directory: &Path, api: &str) -> Vec<Value> {
    validated(rendered(directory).as_bytes(), api)
}

/// Returns the manifest of this kind.
pub fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let mut all = documents.iter().filter(|document| document["kind"] == kind);
    let found = all.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(all.next().is_none(), "more than one {kind}");
    found
}
