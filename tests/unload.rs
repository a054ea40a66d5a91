//! However snoop ends, nothing of it stays in the kernel. The only test of its binary: others load programs too.

mod common;

use common::{Sidecar, TestCgroup, get, open_in, signal, snoop, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

/// Commands of bpf(2) that answer the next id after one: of programs, maps, BTF and links.
const NEXT_IDS: [(&str, u32); 4] = [("program", 11), ("map", 12), ("btf", 23), ("link", 31)];

/// All BPF objects of this machine: kind and id.
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

#[test]
fn nothing_stays_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let above = TestCgroup::make("unloaded");
    let before = objects();
    let added = || -> Vec<_> { objects().difference(&before).copied().collect() };
    for end in ["TERM", "INT", "KILL", "ABRT"] {
        let cgroup = above.nested(end);
        let traced = format!("-cgroup={}", cgroup.path());
        let mut sidecar = Sidecar::start(&[&traced], &report);
        open_in(&cgroup, directory.path(), "file");
        get(sidecar.port, "/report");
        let of_kind = |kind| added().iter().filter(|(k, _)| *k == kind).count();
        assert!(
            of_kind("program") >= 6 && of_kind("map") >= 15,
            "{:?}",
            added()
        );
        signal(&sidecar.child, end);
        sidecar.child.wait().unwrap();
        // The kernel frees them some time later.
        wait_until(|| added().is_empty());
    }
    // One that fails when its programs are loaded already.
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
    wait_until(|| added().is_empty());
    // And nothing is pinned, where a file system for that is mounted.
    let pinned = fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten();
    let names: Vec<_> = pinned.map(|entry| entry.file_name()).collect();
    let ours = |name: &std::ffi::OsString| name.to_string_lossy().contains("snoop");
    assert!(!names.iter().any(ours), "{names:?}");
}
