// SPDX-License-Identifier: MIT OR Apache-2.0
//! However snoop ends, none of its programs, maps and links stay in the kernel.

mod common;

use common::{Sidecar, TestCgroup, get, open_in, signal, snoop, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

/// The commands of bpf(2) that return the next id after a given one, for programs, maps, BTF and links.
const NEXT_IDS: [(&str, u32); 4] = [("program", 11), ("map", 12), ("btf", 23), ("link", 31)];

/// Returns all BPF objects of this machine, by kind and id.
fn objects() -> BTreeSet<(&'static str, u32)> {
    let mut found = BTreeSet::new();
    for (kind, command) in NEXT_IDS {
        let mut id = 0;
        loop {
            // start_id, next_id, open_flags
            let mut attributes = [id, 0u32, 0];
            let size = size_of_val(&attributes);
            // SAFETY: the kernel reads and writes no more than the size of the attributes.
            let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &mut attributes, size) };
            if answer != 0 {
                let error = std::io::Error::last_os_error();
                assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{kind}: {error}");
                break;
            }
            id = attributes[1];
            found.insert((kind, id));
        }
    }
    found
}

/// Returns the objects that a process holds. Other processes on this machine load programs too.
fn held_by(process: u32) -> BTreeSet<(&'static str, u32)> {
    let mut held = BTreeSet::new();
    for file in fs::read_dir(format!("/proc/{process}/fdinfo"))
        .into_iter()
        .flatten()
    {
        // The descriptor may be closed by now.
        let text = fs::read_to_string(file.unwrap().path()).unwrap_or_default();
        for (kind, key) in [
            ("program", "prog_id:"),
            ("map", "map_id:"),
            ("link", "link_id:"),
        ] {
            let id = text.lines().find_map(|line| line.strip_prefix(key));
            held.extend(id.map(|id| (kind, id.trim().parse().unwrap())));
        }
    }
    held
}

#[test]
fn nothing_stays_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let above = TestCgroup::make("unloaded");
    for end in ["TERM", "INT", "KILL", "ABRT"] {
        let cgroup = above.nested(end);
        let traced = format!("-cgroup={}", cgroup.path());
        let mut sidecar = Sidecar::start(&[&traced], &report);
        open_in(&cgroup, directory.path(), "file");
        get(sidecar.port, "/report");
        let held = held_by(sidecar.child.id());
        let of_kind = |kind| held.iter().filter(|(k, _)| *k == kind).count();
        assert!(
            of_kind("program") >= 6 && of_kind("map") >= 15 && of_kind("link") >= 5,
            "{held:?}"
        );
        assert!(held.is_subset(&objects()), "{held:?}");
        signal(&sidecar.child, end);
        sidecar.child.wait().unwrap();
        // The kernel frees the objects some time later.
        wait_until(|| held.is_disjoint(&objects()));
    }
    // This snoop fails after it has loaded its programs. New objects after that belong to other processes.
    let before = objects();
    let output = snoop()
        .args([
            "-cgroup",
            &above.path(),
            "-metrics-addr=192.0.2.1:1",
            "-report",
        ])
        .arg(&report)
        .stdin(Stdio::null())
        .output();
    assert_eq!(output.unwrap().status.code(), Some(1));
    wait_until(|| {
        let now = objects();
        let mut added: BTreeSet<_> = now.difference(&before).copied().collect();
        let numbers = fs::read_dir("/proc").unwrap().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for process in numbers {
            let held = held_by(process);
            added.retain(|object| !held.contains(object));
        }
        // Type information is held by the object that it describes.
        added.iter().all(|(kind, _)| *kind == "btf")
    });
    // Nothing is pinned either, if a BPF file system is mounted.
    let pinned = fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten();
    let names: Vec<_> = pinned.map(|entry| entry.file_name()).collect();
    let ours = |name: &std::ffi::OsString| name.to_string_lossy().contains("snoop");
    assert!(!names.iter().any(ours), "{names:?}");
}
