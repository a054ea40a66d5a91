// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the files in deploy/ for Podman and Docker Compose unchanged, with the engines of two Debian releases. Each
//! engine has its own node. The containers run the static binary in the image that scratch.Dockerfile builds.

mod common;

use common::engine::{Engine, Node, Release};
use common::{Files, Report, assert_same};
use std::fs;

fn files(paths: &[&str]) -> Files {
    paths.iter().map(|path| path.as_bytes().to_vec()).collect()
}

/// Asserts that the report is complete and lists exactly these files of one container, but no files of snoop, of a pause
/// container or of the runtime.
fn assert_exactly(report: &Report, expected: &Files) {
    assert_same(&report.files, expected);
    report.assert_complete();
    let containers = report.json["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{:#}", report.json["containers"]);
}

/// The files that the application of the Podman tests uses.
const APP: [&str; 4] = ["/bin/busybox", "/bin/sh", "/etc/hosts", "/etc/passwd"];

/// Runs the commands in deploy/README.md.
fn podman_pod(release: Release) {
    let node = Node::start(release, Engine::Podman);
    let script = "cat /etc/passwd /etc/hosts; exec sleep 600";
    node.import("docker.io/library/nginx:stable", script);
    let readme = include_str!("../deploy/README.md");
    let commands = readme
        .lines()
        .skip_while(|line| *line != "## Podman")
        .skip_while(|line| *line != "```console");
    let commands = commands.skip(1).take_while(|line| *line != "```");
    let commands: Vec<_> = commands
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| !line.starts_with("curl "))
        .collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    let mut commands = commands.join("\n");
    if release == Release::Bookworm {
        let option = "--security-opt seccomp=unconfined --cap-add";
        commands = commands.replace("--cap-add", option);
    }
    node.run_script(&commands);
    let expected = files(&APP);
    let report = node.wait_for("what the application uses", |report| {
        report.files.is_superset(&expected)
    });
    assert_exactly(&report, &expected);
    let id = node.run("podman inspect --format {{.Id}} web-app");
    assert_eq!(report.json["containers"][0]["name"], id[..12]);
}

#[test]
fn podman_4_pod() {
    podman_pod(Release::Bookworm);
}

#[test]
fn podman_5_pod() {
    podman_pod(Release::Trixie);
}

/// Runs podman.yaml unchanged: first at once, so that the application may start before snoop is attached, then in the
/// order that the comment in the file gives.
fn podman_kube(release: Release) {
    let node = Node::start(release, Engine::Podman);
    node.import("docker.io/library/busybox:stable", "sh");
    let manifest = fs::read_to_string(node.share().join("podman.yaml")).unwrap();
    let expected = files(&APP);

    node.run("podman kube play podman.yaml");
    let used = files(&["/etc/hosts", "/etc/passwd"]);
    let report = node.wait_for("what the application uses", |report| {
        report.files.is_superset(&used)
    });
    assert!(report.files.is_subset(&expected), "{:#}", report.json);
    let late = report.json["missing"]["late_attach"] == 1;
    assert_eq!(report.json["complete"], !late);
    node.run("podman pod rm --force --time 0 snoop-example");

    let steps: Vec<_> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .collect();
    assert_eq!(steps.len(), 4, "{steps:?}");
    let script = steps.join("\n").replace("deploy/", "");
    node.run_script(&script);
    let report = node.wait_for("what the application uses", |report| {
        report.files.is_superset(&expected)
    });
    assert_exactly(&report, &expected);
    assert_eq!(report.json["pod_name"], "snoop-example");
    let written = node.run("podman exec snoop-example-app cat /data/snoop-report.json");
    assert_eq!(Report::parse(written.as_bytes()).json["schema"], 2);
}

#[test]
fn podman_4_kube_play() {
    podman_kube(Release::Bookworm);
}

#[test]
fn podman_5_kube_play() {
    podman_kube(Release::Trixie);
}

/// Runs compose.yaml on a host where its cgroup does not exist yet. The application starts after snoop is attached.
fn compose(release: Release) {
    let node = Node::start(release, Engine::Docker);
    let script = "cat /etc/passwd /etc/app.conf; exec sleep 600";
    node.import("nginx:stable", script);
    if release == Release::Bookworm {
        // Docker 20.10 does not know the two capabilities. The file says which one to use instead.
        let path = node.share().join("compose.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let changed = text.replace("cap_add: [BPF, PERFMON]", "cap_add: [SYS_ADMIN]");
        assert_ne!(changed, text);
        fs::write(&path, changed).unwrap();
    }
    let expected = files(&["/bin/busybox", "/bin/sh", "/etc/app.conf", "/etc/passwd"]);
    for _ in 0..2 {
        node.run("docker-compose --file compose.yaml up --detach");
        let report = node.wait_for("what the application uses", |report| {
            report.files.is_superset(&expected)
        });
        assert_exactly(&report, &expected);
        assert_eq!(report.json["image"], "nginx:stable");
        node.run("docker-compose --file compose.yaml down --volumes --timeout 1");
        // Removed, so that the next round begins like a host that has just started.
        node.run("rmdir /sys/fs/cgroup/snoop.slice");
    }
}

#[test]
fn docker_20_compose() {
    compose(Release::Bookworm);
}

#[test]
fn docker_26_compose() {
    compose(Release::Trixie);
}
