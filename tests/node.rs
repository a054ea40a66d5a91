// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop node`: pods run by runc, with cgroups and configurations laid out as by the kubelet and container runtimes.

mod common;

use common::container::{Container, become_node, busybox_root};
use common::{Files, Report, get, metrics, snoop, status, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MOUNT: &str = "/sys/fs/cgroup";
const PORT: u16 = 9090;
const CONTAINERD: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
const CRI_O: &str = "run/containers/storage/overlay-containers";

/// How the kubelet names cgroups.
#[derive(Clone, Copy, PartialEq)]
enum Driver {
    Systemd,
    Cgroupfs,
}

/// A node with its directories, on which snoop runs in a pod of its own.
struct Node {
    driver: Driver,
    /// The cgroup that stands for the root of the machine's cgroups: tests run side by side.
    top: String,
    /// The directories of the container runtimes.
    host: TempDir,
    reports: TempDir,
    root: TempDir,
    running: Vec<(Container, Child)>,
    snoop: Option<Child>,
}

/// A container of a pod, as the kubelet and the runtime would describe it.
struct App<'a> {
    number: u32,
    namespace: &'a str,
    pod: &'a str,
    image: &'a str,
    /// The digest is known to CRI-O only.
    digest: Option<&'a str>,
}

const WEB: App = App {
    number: 1,
    namespace: "shop",
    pod: "web-0",
    image: "docker.io/library/nginx:1.27",
    digest: None,
};

const DB: App = App {
    number: 2,
    namespace: "shop",
    pod: "db-0",
    image: "quay.io/db:2",
    digest: Some("sha256:abababababababababababababababababababababababababababababababab"),
};

impl App<'_> {
    fn id(&self) -> String {
        format!("{:064x}", 0xabc_0000 + self.number)
    }

    fn uid(&self) -> String {
        format!("{:08x}-0000-4000-8000-000000000000", self.number)
    }

    /// Returns what the runtime writes about the container, and where.
    fn config(&self) -> (&'static str, Value) {
        match self.digest {
            None => (
                "config.json",
                json!({"annotations": {
                    "io.kubernetes.cri.container-name": "app",
                    "io.kubernetes.cri.container-type": "container",
                    "io.kubernetes.cri.image-name": self.image,
                    "io.kubernetes.cri.sandbox-name": self.pod,
                    "io.kubernetes.cri.sandbox-namespace": self.namespace,
                    "io.kubernetes.cri.sandbox-uid": self.uid(),
                }}),
            ),
            Some(digest) => (
                "userdata/config.json",
                json!({"annotations": {
                    "io.kubernetes.container.name": "app",
                    "io.kubernetes.cri-o.ContainerType": "container",
                    "io.kubernetes.cri-o.ImageName": self.image,
                    "io.kubernetes.cri-o.ImageRepoDigests": format!("quay.io/db@{digest}"),
                    "io.kubernetes.pod.name": self.pod,
                    "io.kubernetes.pod.namespace": self.namespace,
                    "io.kubernetes.pod.uid": self.uid(),
                }}),
            ),
        }
    }
}

impl Node {
    fn make(driver: Driver) -> Node {
        become_node();
        Node {
            driver,
            top: format!(
                "/snoop-test-{:016x}-node",
                snoop::sys::random::random().unwrap()
            ),
            host: {
                let host = tempfile::tempdir().unwrap();
                for directory in [CONTAINERD, CRI_O] {
                    fs::create_dir_all(host.path().join(directory)).unwrap();
                }
                host
            },
            reports: tempfile::tempdir().unwrap(),
            root: {
                let root = busybox_root();
                for name in ["web", "db", "late"] {
                    fs::write(root.path().join("etc").join(name), "").unwrap();
                }
                root
            },
            running: Vec::new(),
            snoop: None,
        }
    }

    /// Returns the path of a container's cgroup below the mount.
    fn cgroup(&self, app: &App) -> String {
        let (top, uid, id) = (&self.top, app.uid(), app.id());
        match self.driver {
            Driver::Cgroupfs => format!("{top}/kubepods/burstable/pod{uid}/{id}"),
            Driver::Systemd => format!(
                "{top}/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{id}.scope",
                uid.replace('-', "_")
            ),
        }
    }

    /// Writes what the runtime would write about a container.
    fn describe(&self, app: &App) {
        let (file, config) = app.config();
        let runtime = if app.digest.is_some() {
            CRI_O
        } else {
            CONTAINERD
        };
        let path = self.host.path().join(runtime).join(app.id()).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, config.to_string()).unwrap();
    }

    /// Runs a script in a container.
    fn run(&mut self, app: &App, script: &str) {
        let words = ["/bin/sh", "-c", script];
        let container = Container::new(self.root.path(), &self.cgroup(app), &words);
        let child = container
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        self.running.push((container, child.unwrap()));
    }

    /// Runs a script in a container that the runtime has described.
    fn start(&mut self, app: &App, script: &str) {
        self.describe(app);
        self.run(app, script);
    }

    /// Starts snoop in a cgroup as the kubelet makes it for a container of a DaemonSet, and waits until it listens.
    fn start_snoop(&mut self, flags: &[&str]) {
        let own = App {
            number: 0xf00,
            ..WEB
        };
        let cgroup = PathBuf::from(MOUNT).join(&self.cgroup(&own)[1..]);
        fs::create_dir_all(&cgroup).unwrap();
        let child = Command::new("/bin/sh")
            .args([
                "-c",
                "echo $$ > \"$0/cgroup.procs\" && exec unshare -m \"$@\"",
            ])
            .arg(&cgroup)
            .arg(snoop().get_program())
            .args(["node", "-interval=1s", "-host"])
            .arg(self.host.path())
            .arg("-reports")
            .arg(self.reports.path())
            .args(flags)
            .spawn();
        self.snoop = Some(child.unwrap());
        wait_until(|| std::net::TcpStream::connect(("127.0.0.1", PORT)).is_ok());
        assert_eq!(status(&get(PORT, "/healthz").0), 200);
    }

    /// Ends snoop by a signal, and returns its exit code.
    fn end_snoop(&mut self, signal: &str) -> Option<i32> {
        let mut child = self.snoop.take().unwrap();
        common::signal(&child, signal);
        child.wait().unwrap().code()
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.reports.path()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.snoop.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for (container, child) in &mut self.running {
            container.delete();
            let _ = child.wait();
        }
        remove_cgroups(&Path::new(MOUNT).join(&self.top[1..]));
    }
}

/// Removes a cgroup with all below it, as far as no process is left in them.
fn remove_cgroups(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroups(&entry.path());
        }
    }
    for _ in 0..100 {
        if fs::remove_dir(directory).is_ok() || !directory.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn list() -> Vec<Value> {
    let (head, body) = get(PORT, "/reports");
    assert_eq!(status(&head), 200, "{body}");
    serde_json::from_str::<Value>(&body)
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

fn report(query: &str) -> Option<Report> {
    let (head, body) = get(PORT, &format!("/report?{query}"));
    (status(&head) == 200).then(|| Report::parse(body.as_bytes()))
}

fn files(paths: &[&str]) -> Files {
    let both = ["/bin/sh", "/bin/busybox"];
    let paths = paths.iter().chain(&both);
    paths.map(|path| path.as_bytes().to_vec()).collect()
}

/// Waits until the report of an image lists these files and no others.
fn wait_for(query: &str, expected: &Files) -> Report {
    let begun = Instant::now();
    let mut found = report(query);
    while !found
        .as_ref()
        .is_some_and(|report| report.files.is_superset(expected))
    {
        let said = found.as_ref().map(|report| common::show(&report.files));
        assert!(begun.elapsed().as_secs() < 60, "{query}: {said:?}");
        std::thread::sleep(Duration::from_millis(20));
        found = report(query);
    }
    let found = found.unwrap();
    common::assert_same(&found.files, expected);
    found
}

/// Two pods of two images, one run by containerd and one by CRI-O, are in two reports, which survive that snoop is killed.
#[test]
fn two_pods_of_two_images() {
    for driver in [Driver::Systemd, Driver::Cgroupfs] {
        let mut node = Node::make(driver);
        node.start_snoop(&[]);
        node.start(&WEB, "exec 3< /etc/web; sleep 1000");
        node.start(&DB, ": < /etc/db; sleep 1000");
        let web = wait_for(
            "image=docker.io%2Flibrary%2Fnginx:1.27",
            &files(&["/etc/web"]),
        );
        web.assert_complete();
        let db = wait_for(
            &format!("image={}", DB.digest.unwrap()),
            &files(&["/etc/db"]),
        );
        db.assert_complete();
        assert_eq!(db.json["image_digest"], DB.digest.unwrap());
        assert_eq!(db.json["image"], DB.image);
        let container = &web.json["containers"][0];
        assert_eq!(container["name"], "app");
        assert_eq!(container["namespace"], "shop");
        assert_eq!(container["pod_name"], "web-0");
        assert_eq!(container["pod_uid"], WEB.uid());
        assert_eq!(web.json["containers"].as_array().unwrap().len(), 1);

        let listed = list();
        assert_eq!(listed.len(), 2, "{listed:?}");
        for entry in &listed {
            assert_eq!(
                (&entry["pods"], &entry["complete"]),
                (&json!(1), &json!(true))
            );
            assert!(entry["files"].as_u64().unwrap() >= 3 && entry["last_new_file_at"].is_string());
        }
        let pod = report("pod=db-0&namespace=shop").unwrap();
        common::assert_same(&pod.files, &db.files);
        assert_eq!(pod.json["pod_name"], "db-0");
        assert!(report("pod=db-0&namespace=other").is_none() && report("image=other").is_none());
        let series = metrics(PORT);
        let of_db = "{namespace=\"shop\",pod=\"db-0\",container=\"app\"}";
        assert_eq!(series[&format!("snoop_container_unique_files{of_db}")], 3.0);
        assert_eq!(
            (series["snoop_containers"], series["snoop_reports"]),
            (2.0, 2.0)
        );

        // snoop is killed, and started again while the containers run.
        assert_eq!(node.files().len(), 2);
        assert_eq!(node.end_snoop("KILL"), None);
        node.start_snoop(&[]);
        assert_eq!(list().len(), 2);
        common::assert_same(&report("image=quay.io/db:2").unwrap().files, &db.files);
        node.running[0]
            .0
            .exec(&["/bin/cat", "/etc/late"])
            .status()
            .unwrap();
        let more = files(&["/etc/web", "/bin/cat", "/etc/late"]);
        let again = wait_for("image=docker.io/library/nginx:1.27", &more);
        let missing: Vec<_> = again.json["missing"].as_object().unwrap().keys().collect();
        assert_eq!(missing, ["late_attach", "not_watched"]);
        assert_eq!(again.json["started_at"], web.json["started_at"]);
        assert_eq!(again.json["containers"].as_array().unwrap().len(), 1);
        assert_eq!(node.end_snoop("TERM"), Some(0));
        assert_eq!(node.files().len(), 2);
    }
}

/// Waits until the metric has this value.
fn wait_for_metric(name: &str, value: f64) {
    let begun = Instant::now();
    while metrics(PORT)[name] != value {
        let is = metrics(PORT)[name];
        assert!(begun.elapsed().as_secs() < 60, "{name} is {is}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A filter excludes one container and withholds another until its names are known.
#[test]
fn filters_choose_by_names() {
    let mut node = Node::make(Driver::Systemd);
    let system = App {
        number: 3,
        namespace: "kube-system",
        ..WEB
    };
    node.start_snoop(&["-not-namespaces=kube-*", "-images=*/nginx:*,quay.io/*"]);
    node.start(&system, ": < /etc/late; sleep 1000");
    node.run(&DB, ": < /etc/db; sleep 1000");
    node.start(&WEB, ": < /etc/web; sleep 1000");
    wait_for(&format!("image={}", WEB.image), &files(&["/etc/web"]));
    wait_for_metric("snoop_containers_excluded", 1.0);
    wait_for_metric("snoop_containers_withheld", 1.0);
    assert_eq!(list().len(), 1);
    assert!(report("pod=db-0").is_none());

    // Now the names are known, and what the container did before is in the report.
    node.describe(&DB);
    wait_for(&format!("image={}", DB.image), &files(&["/etc/db"]));
    wait_for_metric("snoop_containers_withheld", 0.0);
    assert_eq!(metrics(PORT)["snoop_containers"], 2.0);
    // The programs forget an excluded container when it ends.
    let (container, mut child) = node.running.remove(0);
    container.kill("KILL");
    child.wait().unwrap();
    container.delete();
    wait_for_metric("snoop_containers_excluded", 0.0);
    assert_eq!(node.end_snoop("TERM"), Some(0));
    assert_eq!(node.files().len(), 2);
}

/// Without names, on a host without Kubernetes: each container has a report of its own. Other processes are in none.
#[test]
fn a_host_without_names() {
    let mut node = Node::make(Driver::Systemd);
    let flag = format!("-cgroup={}/", node.top);
    node.start_snoop(&[&flag]);
    for (number, name) in [(7, "docker-"), (8, "libpod-"), (9, "libpod-conmon-")] {
        let id = App { number, ..WEB }.id();
        let cgroup = format!("{}/machine.slice/{name}{id}.scope", node.top);
        let words = ["/bin/sh", "-c", ": < /etc/web; sleep 1000"];
        let container = Container::new(node.root.path(), &cgroup, &words);
        let child = container.command().stdin(Stdio::null()).spawn();
        node.running.push((container, child.unwrap()));
    }
    wait_for_metric("snoop_containers", 2.0);
    wait_for_metric("snoop_containers_excluded", 1.0);
    wait_until(|| list().iter().all(|entry| entry["files"] == 3));
    let listed = list();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(
        listed
            .iter()
            .all(|entry| entry["image"].is_null() && entry["pods"] == 0)
    );
    assert_eq!(node.end_snoop("TERM"), Some(0));
    assert_eq!(node.files().len(), 2);
}

/// The oldest containers are merged, then the oldest reports removed, but never that of a container that runs.
#[test]
fn reports_keep_to_the_byte_limit() {
    let mut node = Node::make(Driver::Cgroupfs);
    node.start_snoop(&["-max-bytes=3000"]);
    let start = |node: &mut Node, number: u32, image: &str| {
        let pod = format!("pod-{number}");
        let app = App {
            number,
            pod: &pod,
            image,
            ..WEB
        };
        node.start(&app, ": < /etc/web; sleep 1000");
        wait_until(|| report(&format!("pod={pod}")).is_some_and(|r| r.files.len() == 3));
    };
    let stop = |node: &mut Node| {
        let (container, mut child) = node.running.pop().unwrap();
        container.kill("KILL");
        child.wait().unwrap();
        container.delete();
    };
    for number in 10..14 {
        start(&mut node, number, "old");
        stop(&mut node);
    }
    let entries = || {
        list()
            .iter()
            .map(|entry| entry["containers"].as_u64().unwrap())
            .sum::<u64>()
    };
    wait_until(|| entries() == 4);
    let old = report("image=old").unwrap();
    let merged: u64 = old.json["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["merged"].as_u64().unwrap_or(0))
        .sum();
    assert!(merged > 0, "{}", old.json["containers"]);
    assert_eq!(metrics(PORT)["snoop_reports_removed_total"], 0.0);
    for number in 20..23 {
        start(&mut node, number, &format!("new-{number}"));
    }
    wait_until(|| report("image=old").is_none());
    let series = metrics(PORT);
    assert_eq!(series["snoop_reports_removed_total"], 1.0);
    assert_eq!(series["snoop_reports"], 3.0);
    assert_eq!(node.end_snoop("TERM"), Some(0));
    assert_eq!(node.files().len(), 3);
}

/// Names that a pod chose are shown as they are, and lead nowhere.
#[test]
fn hostile_names_are_data() {
    let mut node = Node::make(Driver::Systemd);
    node.start_snoop(&["-max-series=2"]);
    let hostile = App {
        number: 5,
        namespace: "a\"} 1\n{\\",
        pod: "../../../etc",
        image: "../../../../tmp/x\u{1b}[2J\u{0}\n",
        ..WEB
    };
    node.start(&hostile, ": < /etc/web; sleep 1000");
    node.start(&DB, "sleep 1000");
    wait_for("pod=../../../etc", &files(&["/etc/web"]));
    wait_for_metric("snoop_series_left_out", 2.0);
    let listed = list();
    assert!(
        listed.iter().any(|entry| entry["image"] == hostile.image),
        "{listed:?}"
    );
    let (_, text) = get(PORT, "/metrics");
    let label = "namespace=\"a\\\"} 1\\n{\\\\\"";
    let of_db = "namespace=\"shop\"";
    assert!(text.contains(label) || text.contains(of_db), "{text}");
    assert_eq!(node.end_snoop("TERM"), Some(0));
    let names: Vec<_> = node.files();
    assert_eq!(names.len(), 2);
    for file in names {
        let name = file.file_name().unwrap().to_str().unwrap();
        let (kind, hex) = name.strip_suffix(".json").unwrap().split_once('-').unwrap();
        assert!(
            ["image", "digest"].contains(&kind) && hex.len() == 64,
            "{name}"
        );
    }
}
