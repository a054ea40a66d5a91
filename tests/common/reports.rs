// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports that are written by hand.

use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A file that a container used: its path, the letters of its kinds, and the time of its first use.
pub type Use<'a> = (&'a str, &'a str, Value);

/// Returns a container as a report of schema 2 has it.
pub fn container(name: &str, uses: &[Use]) -> Value {
    let mut sorted: Vec<_> = uses.iter().collect();
    sorted.sort_by_key(|(path, ..)| path.as_bytes());
    json!({
        "name": name,
        "cgroup_id": 7,
        "cgroup_path": format!("/pod/{name}"),
        "started_at": "2026-01-15T10:30:00Z",
        "mounts": [{"point": "/", "type": "overlay"}],
        "total_events": 100,
        "unique_files": sorted.len(),
        "files": sorted.iter().map(|(path, ..)| path).collect::<Vec<_>>(),
        "kinds": sorted.iter().map(|(_, kinds, _)| kinds).collect::<Vec<_>>(),
        "first_use_ms": sorted.iter().map(|(.., first)| first).collect::<Vec<_>>(),
    })
}

/// Returns a whole and complete report of schema 2.
pub fn report(pod: &str, containers: &[Value]) -> Value {
    let files = containers.iter().flat_map(|container| {
        let files = container["files"].as_array().unwrap().iter();
        files.map(|path| path.as_str().unwrap())
    });
    json!({
        "schema": 2,
        "image": "app:1",
        "image_digest": format!("sha256:{}", "ab".repeat(32)),
        "pod_name": pod,
        "namespace": "shop",
        "labels": {"app": "web"},
        "started_at": "2026-01-15T10:30:00Z",
        "last_updated_at": "2026-01-15T11:30:00Z",
        "files": files.collect::<BTreeSet<_>>(),
        "containers": containers,
        "total_events": 100 * containers.len(),
        "dropped_events": 0,
        "evicted_files": 0,
        "complete": true,
        "missing": {},
    })
}
