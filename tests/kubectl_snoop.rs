// SPDX-License-Identifier: MIT OR Apache-2.0
//! deploy/kubectl-snoop with the real kubectl, against a server that knows two pods.

mod common;

use common::image::{Work, archive, layer, members};
use common::manifests::{manifests, of_kind, tool, top};
use common::{Report, reports, snoop};
use serde_json::{Value, json};
use snoop::archive::digest::Digest;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Output, Stdio};

/// The server, and a directory with its pods and the programs that the script calls.
struct Cluster {
    server: Child,
    work: Work,
    path: String,
}

/// The ids of the pods' containers begin with these.
const IDS: [&str; 2] = ["0123456789ab", "ba9876543210"];

impl Cluster {
    fn start() -> Cluster {
        let work = Work::new();
        for (name, id) in ["web-0", "web-1"].iter().zip(IDS) {
            let image = "registry.example/web@sha256:".to_string() + &"7".repeat(64);
            let statuses = json!([{"name": "app", "containerID": format!("containerd://{}", id.repeat(5)), "imageID": image}]);
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}},
                "spec": {"containers": [{"name": "app", "image": "web"}], "securityContext": {}},
                "status": {"phase": "Running", "containerStatuses": statuses},
            });
            work.write(&format!("{name}.json"), pod.to_string().as_bytes());
            let list = [
                ("/bin/app", "x", json!(1.0)),
                ("/etc/app.conf", "r", json!(2.0)),
            ];
            let report = reports::report(name, &[reports::container(id, &list)]);
            let text = serde_json::to_string_pretty(&report).unwrap();
            work.write(&format!("{name}.report"), text.as_bytes());
        }
        let mut server = Command::new("/usr/bin/python3")
            .arg(top("tests/helper/apiserver.py"))
            .arg(work.path(""))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut lines = BufReader::new(server.stdout.take().unwrap());
        lines.read_line(&mut port).unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{}", port.trim())}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "namespace": "shop", "user": ""}}],
        });
        work.write("config", config.to_string().as_bytes());
        fs::create_dir(work.path("bin")).unwrap();
        symlink(tool("kubectl"), work.path("bin/kubectl")).unwrap();
        symlink(snoop().get_program(), work.path("bin/snoop")).unwrap();
        let path = format!(
            "{}:{}",
            work.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        Cluster { server, work, path }
    }

    fn snoop(&self, words: &[&str]) -> Output {
        Command::new(top("deploy/kubectl-snoop"))
            .args(words)
            .env("PATH", &self.path)
            .env("KUBECONFIG", self.work.path("config"))
            .env("HOME", self.work.path(""))
            .current_dir(self.work.path(""))
            .output()
            .unwrap()
    }

    fn prints(&self, words: &[&str]) -> String {
        let output = self.snoop(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn kubectl_snoop_starts_snoop_in_a_pod_that_runs() {
    let cluster = Cluster::start();
    cluster.prints(&["start", "web-0"]);
    let pod: Value =
        serde_json::from_slice(&fs::read(cluster.work.path("web-0.json")).unwrap()).unwrap();
    let added = &pod["spec"]["ephemeralContainers"][0];
    assert_eq!(added["name"], "snoop");
    assert_eq!(added["image"], "snoop:0.1.0");
    assert_eq!(added["args"], json!(["-report=-", "-metrics-addr=:9090"]));
    let documents = manifests("kubernetes/deployment.yaml");
    let spec = &of_kind(&documents, "Deployment")["spec"]["template"]["spec"];
    let sidecar = &spec["initContainers"][0]["securityContext"];
    let added = &added["securityContext"];
    for (key, value) in sidecar.as_object().unwrap() {
        assert!(
            key == "privileged" || &added[key] == value,
            "{key}: {added}"
        );
    }
}

#[test]
fn kubectl_snoop_collects_reports() {
    let cluster = Cluster::start();
    let report = Report::parse(cluster.prints(&["report", "web-0"]).as_bytes());
    assert_eq!(report.json["containers"][0]["name"], "app");
    assert_eq!(report.files.len(), 2);

    cluster.prints(&["report", "-n", "shop", "-o", "all", "-l", "app=web"]);
    for name in ["web-0", "web-1"] {
        let file = cluster.work.path(&format!("all/shop.{name}.json"));
        assert_eq!(Report::read(&file).json["pod_name"], name);
    }
    let merged = Report::parse(cluster.prints(&["merge", "-l", "app=web"]).as_bytes());
    assert_eq!(merged.files, report.files);

    for (words, status, part) in [
        (&["report", "web-2"][..], 1, "no report of shop/web-2"),
        (
            &["report", "-l", "app=other"],
            1,
            "no running pod in shop has app=other",
        ),
        (&["merge"], 2, "name pods, or give -l SELECTOR"),
        (&["image", "web-0"], 2, "image needs -o FILE"),
        (&["lose"], 2, "usage: kubectl snoop"),
    ] {
        let output = cluster.snoop(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        assert!(said.contains(part), "{words:?}: {said}");
    }
}

/// No registry can be reached here, so a script takes the place of skopeo.
#[test]
fn kubectl_snoop_makes_a_small_image() {
    let cluster = Cluster::start();
    let entries = [
        "bin/",
        "bin/app: app",
        "bin/other: other",
        "etc/",
        "etc/app.conf: conf",
    ];
    let parts = [
        (
            "manifest.json",
            br#"[{"Config":"config.json","RepoTags":["web:1"],"Layers":["layer.tar"]}]"#.to_vec(),
        ),
        ("layer.tar", layer(&entries)),
    ];
    let digest = Digest::of(&parts[1].1).to_string();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/app"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]}});
    let mut all: Vec<_> = parts
        .iter()
        .map(|(name, bytes)| (name.to_string(), bytes.clone()))
        .collect();
    all.push(("config.json".into(), config.to_string().into_bytes()));
    cluster.work.write("image.tar", &archive(&all));
    let script = format!(
        "#!/bin/sh\n[ \"$1 $2 $3\" = \"copy --quiet docker://registry.example/web@sha256:{}\" ] && exec cp image.tar \"${{4#*:}}\"\n",
        "7".repeat(64)
    );
    let skopeo = cluster.work.write("bin/skopeo", script.as_bytes());
    fs::set_permissions(&skopeo, fs::Permissions::from_mode(0o755)).unwrap();
    cluster.prints(&["image", "-c", "app", "-o", "small.tar", "-l", "app=web"]);
    let small = members(&fs::read(cluster.work.path("small.tar")).unwrap());
    assert!(small.contains_key("manifest.json"));
    let output = cluster.snoop(&["image", "-c", "none", "-o", "small.tar", "web-0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("shop/web-0 has no such container"), "{said}");
}
