// SPDX-License-Identifier: MIT OR Apache-2.0
//! Containers that runc creates: which accesses are the application's, and which are the runtime's.

mod common;

use common::container::{Container, become_node, busybox_root, copy_program, snoop_apart};
use common::{Files, Report, Sidecar, TestCgroup, assert_same, wait_until};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn files(paths: &[&str]) -> Files {
    paths.iter().map(|path| path.as_bytes().to_vec()).collect()
}

struct Scope {
    sidecar: Sidecar,
    cgroup: TestCgroup,
    _above: TestCgroup,
    root: tempfile::TempDir,
    report: tempfile::TempDir,
}

fn traced(name: &str) -> Scope {
    become_node();
    // The cgroup is named as a runtime would name it.
    let above = TestCgroup::make(name);
    let cgroup = above.nested(&format!("docker-{}.scope", "ab".repeat(32)));
    let report = tempfile::tempdir().unwrap();
    let flag = format!("-cgroup={}", cgroup.path());
    let sidecar = Sidecar::start_by(snoop_apart(), &[&flag], &report.path().join("r.json"));
    Scope {
        sidecar,
        cgroup,
        _above: above,
        root: busybox_root(),
        report,
    }
}

fn last_report(sidecar: Sidecar, directory: &Path) -> Report {
    sidecar.stop("TERM");
    Report::read(&directory.join("r.json"))
}

/// runc works in the container's cgroup before it executes the application, and again for each exec.
#[test]
fn only_what_the_application_does_is_listed() {
    let Scope {
        sidecar,
        cgroup,
        root,
        report,
        _above,
    } = traced("runtime");
    let script = "cat /etc/app.conf; while [ ! -e /tmp/over ]; do sleep 0.1; done";
    let container = Container::new(root.path(), &cgroup.path(), &["/bin/sh", "-c", script]);
    let mut run = container.command().stdout(Stdio::null()).spawn().unwrap();
    wait_until(|| {
        let exec = container
            .exec(&["/bin/head", "-n1", "/etc/exec.conf"])
            .output();
        exec.unwrap().status.code() == Some(1)
    });
    fs::write(root.path().join("etc/exec.conf"), "x").unwrap();
    let exec = container
        .exec(&["/bin/head", "-n1", "/etc/exec.conf"])
        .output();
    assert!(exec.unwrap().status.success());
    fs::write(root.path().join("tmp/over"), "").unwrap();
    assert!(run.wait().unwrap().success());

    let report = last_report(sidecar, report.path());
    let expected = [
        "/bin/busybox",
        "/bin/head",
        "/bin/sh",
        "/etc/app.conf",
        "/etc/exec.conf",
        "/tmp/over",
    ];
    assert_same(&report.files, &files(&expected));
    report.assert_complete();
    let mounts = &report.json["containers"][0]["mounts"];
    let points: Vec<_> = mounts
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["point"])
        .collect();
    assert_eq!(points, ["/"]);
}

/// A program in a memfd has no path, but the files that it opens are still the application's. So are the files of a
/// process that has left the mount namespace of its program.
#[test]
fn programs_without_a_path_belong_to_the_application() {
    let Scope {
        sidecar,
        cgroup,
        root,
        report,
        _above,
    } = traced("homeless");
    copy_program(common::helper(), &root.path().join("bin/helper"));
    let mut container = Container::new(
        root.path(),
        &cgroup.path(),
        &["/bin/helper", "homeless", "/etc/app.conf", "/tmp"],
    );
    container.capabilities(|set| set.push("CAP_SYS_ADMIN".into()));
    assert!(container.command().status().unwrap().success());
    let report = last_report(sidecar, report.path());
    let expected = [
        "/bin/helper",
        "/etc/app.conf",
        "/tmp/memfd",
        "/tmp/unshared",
    ];
    assert_same(&report.files, &files(&expected));
    report.assert_complete();
}

/// Without a mount namespace of its own, a container is set apart only by its root directory.
#[test]
fn a_container_whose_root_is_a_chroot() {
    let Scope {
        sidecar,
        cgroup,
        root,
        report,
        _above,
    } = traced("chroot");
    // The second chroot is made by the application, which sees the path of its new root.
    let script = "cat /etc/app.conf ../etc/app.conf; cd /bin; cat ../etc/./app.conf; chroot /jail /bin/cat /file";
    for directory in ["jail/bin", "jail/proc"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    copy_program(Path::new("/bin/busybox"), &root.path().join("jail/bin/cat"));
    fs::write(root.path().join("jail/file"), "").unwrap();
    // runc mounts nothing unless the container has its own mount namespace.
    let mount = Command::new("mount")
        .args(["-t", "proc", "proc"])
        .arg(root.path().join("proc"))
        .status();
    assert!(mount.unwrap().success());
    let mut container = Container::new(root.path(), &cgroup.path(), &["/bin/sh", "-c", script]);
    let namespaces = container.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.retain(|namespace| namespace["type"] != "mount" && namespace["type"] != "cgroup");
    container.config["mounts"] = serde_json::json!([]);
    assert!(
        container
            .command()
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let report = last_report(sidecar, report.path());
    let expected = [
        "/bin",
        "/bin/busybox",
        "/bin/sh",
        "/etc/app.conf",
        "/jail",
        "/jail/bin/cat",
        "/jail/file",
    ];
    let of_runtime = ["/", "/etc/group", "/etc/passwd"];
    let listed: Files = &report.files - &files(&of_runtime);
    assert_same(&listed, &files(&expected));
    report.assert_complete();
}

/// Docker and Podman use chroot(2) on a root file system for which pivot_root(2) fails.
#[test]
fn a_container_without_pivot_root() {
    let Scope {
        sidecar,
        cgroup,
        root,
        report,
        _above,
    } = traced("no-pivot");
    let container = Container::new(root.path(), &cgroup.path(), &["/bin/cat", "/etc/app.conf"]);
    let mut command = container.command();
    assert!(
        command
            .arg("--no-pivot")
            .stdout(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let report = last_report(sidecar, report.path());
    assert_same(
        &report.files,
        &files(&["/bin/busybox", "/bin/cat", "/etc/app.conf"]),
    );
    report.assert_complete();
}
