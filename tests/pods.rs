// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manifests in deploy/kubernetes, unchanged, run as pods by runc, with cgroups laid out as by the kubelet. The containers
//! run the static binary in an image without other files.

mod common;

use common::container::{Container, become_node, busybox_root, copy_program};
use common::debian::{SMALL, debian_root};
use common::manifests::{manifests, of_kind};
use common::{Files, Report, compile, get, names, snoop, status, wait_until};
use serde_json::Value;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

#[derive(Clone, Copy)]
enum Driver {
    Systemd,
    Cgroupfs,
}

/// A pod of a Deployment, run in the way of the kubelet.
struct Pod {
    annotations: Value,
    spec: Value,
    uid: String,
    driver: Driver,
    cgroup: PathBuf,
    data: TempDir,
    running: Vec<(Container, Child)>,
    /// The number of containers created so far, which gives each one an id.
    count: usize,
    roots: Vec<TempDir>,
}

const MOUNT: &str = "/sys/fs/cgroup";

impl Pod {
    fn of(manifest: &str, driver: Driver) -> Pod {
        become_node();
        let documents = manifests(&format!("kubernetes/{manifest}"));
        let template = &of_kind(&documents, "Deployment")["spec"]["template"];
        let unique = snoop::sys::random::random().unwrap();
        let uid = format!("{:08x}-0000-4000-8000-{:012x}", unique >> 32, unique as u32);
        let below = match driver {
            Driver::Cgroupfs => format!("kubepods/burstable/pod{uid}"),
            Driver::Systemd => format!(
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
                uid.replace('-', "_")
            ),
        };
        let cgroup = Path::new(MOUNT).join(below);
        fs::create_dir_all(&cgroup).unwrap();
        let mut pod = Pod {
            annotations: template["metadata"]["annotations"].clone(),
            spec: template["spec"].clone(),
            uid,
            driver,
            cgroup,
            data: tempfile::tempdir().unwrap(),
            running: Vec::new(),
            count: 0,
            roots: Vec::new(),
        };
        let root = tempfile::tempdir().unwrap();
        copy_program(&compile("pause", &["-static"]), &root.path().join("pause"));
        let pause = pod.container(root.path(), &["/pause"]);
        pod.roots.push(root);
        pod.start(pause);
        pod
    }

    /// Creates a container in the pod's cgroup, with a new id.
    fn container(&mut self, root: &Path, args: &[&str]) -> Container {
        self.count += 1;
        let id = format!("{:02x}{}", self.count, self.uid.replace('-', "")).repeat(2);
        let id = &id[..64];
        let name = match self.driver {
            Driver::Cgroupfs => id.to_string(),
            Driver::Systemd => format!("cri-containerd-{id}.scope"),
        };
        let cgroup = self.cgroup.join(name);
        let below = cgroup.strip_prefix(MOUNT).unwrap();
        Container::new(root, &format!("/{}", below.display()), args)
    }

    fn start(&mut self, container: Container) {
        let child = container
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        self.running.push((container, child.unwrap()));
    }

    /// Returns the part of the manifest about a container.
    fn part(&self, name: &str) -> Value {
        let lists = ["initContainers", "containers"].map(|key| self.spec[key].as_array().cloned());
        let mut all = lists.into_iter().flatten().flatten();
        all.find(|c| c["name"] == name)
            .unwrap_or_else(|| panic!("no container {name}"))
    }

    /// Creates the container of snoop according to the manifest.
    fn snoop(&mut self) -> Container {
        let part = self.part("snoop");
        let root = tempfile::tempdir().unwrap();
        let program = PathBuf::from(snoop().get_program());
        copy_program(&program, &root.path().join("snoop"));
        let args: Vec<_> = part["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a.as_str().unwrap())
            .collect();
        let args: Vec<_> = args
            .iter()
            .map(|a| a.replace("$(POD_NAME)", "pod-1"))
            .collect();
        let mut words = vec!["/snoop"];
        words.extend(args.iter().map(String::as_str));
        let mut container = self.container(root.path(), &words);
        if fs::read(&program)
            .unwrap()
            .windows(7)
            .any(|w| w == b"/lib64/")
        {
            // A binary that is not static needs its libraries.
            container.bind(Path::new("/usr"), "/usr", &["ro"]);
            for link in ["lib", "lib64"] {
                std::os::unix::fs::symlink(format!("usr/{link}"), root.path().join(link)).unwrap();
            }
        }
        let security = &part["securityContext"];
        assert_eq!(security["capabilities"]["drop"][0], "ALL");
        let added = security["capabilities"]["add"].as_array().unwrap().iter();
        let added: Vec<_> = added
            .map(|name| format!("CAP_{}", name.as_str().unwrap()))
            .collect();
        container
            .capabilities(|set| *set = added.iter().map(|name| name.as_str().into()).collect());
        let process = &mut container.config["process"];
        process["noNewPrivileges"] = (security["allowPrivilegeEscalation"] == false).into();
        process["user"]["uid"] = security["runAsUser"].clone();
        for variable in part["env"].as_array().unwrap() {
            let field = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str();
            let value = match field.unwrap() {
                "metadata.name" => "pod-1",
                "metadata.namespace" => "ns",
                "metadata.uid" => &self.uid,
                "spec.nodeName" => "n",
                "metadata.annotations['snoop/image']" => {
                    self.annotations["snoop/image"].as_str().unwrap()
                }
                other => panic!("{other}"),
            };
            let setting = format!("{}={value}", variable["name"].as_str().unwrap());
            let env = process["env"].as_array_mut().unwrap();
            env.push(setting.into());
        }
        container.config["root"]["readonly"] = security["readOnlyRootFilesystem"].clone();
        for mount in part["volumeMounts"].as_array().unwrap() {
            assert_eq!(mount["name"], "snoop-data");
            container.bind(
                self.data.path(),
                mount["mountPath"].as_str().unwrap(),
                &["rw"],
            );
        }
        self.roots.push(root);
        container
    }

    /// Starts snoop and waits until it listens.
    fn start_and_wait(&mut self, snoop: Container) {
        self.start(snoop);
        wait_until(|| TcpStream::connect(("127.0.0.1", 9090)).is_ok());
    }

    /// Starts snoop and waits until its startup probe succeeds.
    fn start_snoop(&mut self) -> Duration {
        let container = self.snoop();
        let begun = Instant::now();
        self.start_and_wait(container);
        assert_eq!(status(&get(9090, "/healthz").0), 200);
        begun.elapsed()
    }

    /// Starts a container of the manifest with this root. `default` is the command of its image.
    fn start_app(&mut self, name: &str, root: &Path, default: &[&str]) -> usize {
        let part = self.part(name);
        let command = part["command"].as_array().cloned().unwrap_or_default();
        let mut words: Vec<_> = command.iter().map(|word| word.as_str().unwrap()).collect();
        if words.is_empty() {
            words = default.to_vec();
        }
        let mut container = self.container(root, &words);
        for mount in part["volumeMounts"].as_array().into_iter().flatten() {
            container.bind(
                self.data.path(),
                mount["mountPath"].as_str().unwrap(),
                &["ro"],
            );
        }
        self.start(container);
        self.running.len() - 1
    }

    /// Waits until the container runs the application and no longer the runtime that sets it up.
    fn wait_for_app(&self, at: usize) {
        let cgroup = &self.running[at].0.config["linux"]["cgroupsPath"];
        let procs = format!("{MOUNT}{}/cgroup.procs", cgroup.as_str().unwrap());
        wait_until(|| {
            let pids = fs::read_to_string(&procs).unwrap_or_default();
            pids.lines().any(|pid| {
                let program = fs::read_link(format!("/proc/{pid}/exe"));
                program.is_ok_and(|program| program.ends_with("busybox"))
            })
        });
    }

    fn stop(&mut self, at: usize) {
        let (container, mut child) = self.running.remove(at);
        container.kill("KILL");
        child.wait().unwrap();
    }

    fn report(&self) -> Report {
        Report::parse(get(9090, "/report").1.as_bytes())
    }

    /// Ends snoop as the kubelet does. Returns the final report and the time that the end took.
    fn end_snoop(&mut self) -> (Report, Duration) {
        let (container, mut child) = self.running.remove(1);
        let begun = Instant::now();
        container.kill("TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        (
            Report::read(&self.data.path().join("snoop-report.json")),
            begun.elapsed(),
        )
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for (container, child) in &mut self.running {
            container.delete();
            let _ = child.wait();
        }
        for _ in 0..100 {
            for entry in fs::read_dir(&self.cgroup).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path());
            }
            if fs::remove_dir(&self.cgroup).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for above in self.cgroup.ancestors().skip(1) {
            if above == Path::new(MOUNT) || fs::remove_dir(above).is_err() {
                break;
            }
        }
    }
}

/// A root with the files that the application of deployment.yaml reads.
fn app_root() -> TempDir {
    let root = busybox_root();
    for file in ["etc/passwd", "etc/hosts"] {
        fs::write(root.path().join(file), "").unwrap();
    }
    root
}

fn containers(report: &Report) -> Vec<(Files, bool)> {
    let all = report.json["containers"].as_array().unwrap().iter();
    all.map(|c| (names(&c["files"]), c["ended"] == true))
        .collect()
}

fn files(paths: &[&str]) -> Files {
    paths.iter().map(|path| path.as_bytes().to_vec()).collect()
}

/// Runs deployment.yaml with both drivers: from the application's first instruction, through a restart, to the end.
#[test]
fn a_pod_with_a_sidecar() {
    for driver in [Driver::Systemd, Driver::Cgroupfs] {
        let mut pod = Pod::of("deployment.yaml", driver);
        let started = pod.start_snoop();
        let root = app_root();
        let app = pod.start_app("app", root.path(), &[]);
        let expected = files(&["/bin/busybox", "/bin/sh", "/etc/hosts", "/etc/passwd"]);
        wait_until(|| pod.report().files.is_superset(&expected));
        let report = pod.report();
        report.assert_complete();
        assert_eq!(report.files, expected, "neither pause nor snoop itself");
        assert_eq!(report.json["pod_name"], "pod-1");
        assert_eq!(report.json["namespace"], "ns");
        assert_eq!(report.json["image"], "busybox:stable");
        let name = report.json["containers"][0]["name"].as_str().unwrap();
        assert!(name.len() == 12 && name.starts_with("03"), "{name}");

        // A restarted container is a new container, and the files of the old one stay listed.
        pod.stop(app);
        wait_until(|| containers(&pod.report())[0].1);
        pod.start_app("app", root.path(), &[]);
        wait_until(|| {
            containers(&pod.report()).len() == 2 && containers(&pod.report())[1].0 == expected
        });
        assert_eq!(containers(&pod.report())[0], (expected.clone(), true));

        let (last, took) = pod.end_snoop();
        assert_eq!(last.files, expected);
        println!("attached after {started:?}, ended in {took:?}");
    }
}

/// snoop is killed, as when it exceeds its memory limit. The kubelet starts it again in a cgroup with another name,
/// while the application keeps running.
#[test]
fn a_sidecar_that_is_killed() {
    let mut pod = Pod::of("deployment.yaml", Driver::Systemd);
    pod.start_snoop();
    let root = app_root();
    pod.start_app("app", root.path(), &[]);
    let expected = files(&["/bin/busybox", "/bin/sh", "/etc/hosts", "/etc/passwd"]);
    wait_until(|| pod.report().files.is_superset(&expected));
    let before = pod.report();
    pod.stop(1);
    pod.start_snoop();
    let snoop = pod.running.pop().unwrap();
    pod.running.insert(1, snoop);

    // It is still the same container, but some of its accesses are unknown.
    wait_until(|| pod.report().json["missing"]["late_attach"] == 1);
    let after = pod.report();
    let missing: Vec<_> = after.json["missing"].as_object().unwrap().keys().collect();
    assert_eq!(missing, ["late_attach", "not_watched"]);
    assert_eq!(after.files, expected);
    assert_eq!(after.json["started_at"], before.json["started_at"]);
    let identity = |report: &Report| {
        let container = &report.json["containers"].as_array().unwrap()[..];
        assert_eq!(container.len(), 1);
        ["name", "cgroup_id", "cgroup_path"].map(|key| container[0][key].clone())
    };
    assert_eq!(identity(&after), identity(&before));
    assert!(after.number("total_events") > before.number("total_events"));
    let (last, _) = pod.end_snoop();
    assert_eq!(last.files, expected);
}

/// multi-container-example.yaml: each container has its own list, even if it starts later.
#[test]
fn several_containers() {
    let mut pod = Pod::of("multi-container-example.yaml", Driver::Systemd);
    pod.start_snoop();
    let (web, worker) = (busybox_root(), busybox_root());
    fs::write(web.path().join("etc/hostname"), "").unwrap();
    fs::write(worker.path().join("etc/services"), "").unwrap();
    pod.start_app("web", web.path(), &[]);
    let of_web = files(&["/bin/busybox", "/bin/sh", "/etc/hostname"]);
    wait_until(|| containers(&pod.report()) == [(of_web.clone(), false)]);
    pod.start_app("worker", worker.path(), &[]);
    let of_worker = files(&["/bin/busybox", "/bin/sh", "/etc/services"]);
    let both = [(of_web.clone(), false), (of_worker.clone(), false)];
    wait_until(|| containers(&pod.report()) == both);
    let (last, _) = pod.end_snoop();
    last.assert_complete();
    assert_eq!(last.files, &of_web | &of_worker);
}

/// example-app.yaml: nginx from a Debian root; its loader and libraries are listed.
#[test]
fn nginx() {
    let root = debian_root("small", &SMALL);
    let mut pod = Pod::of("example-app.yaml", Driver::Cgroupfs);
    pod.start_snoop();
    pod.start_app(
        "nginx",
        &root,
        &["nginx", "-g", "daemon off;", "-c", "/srv/app/nginx.conf"],
    );
    wait_until(|| TcpStream::connect(("127.0.0.1", 18099)).is_ok());
    assert!(common::exchange(18099, b"GET / HTTP/1.0\r\n\r\n").ends_with("hello\n"));
    let expected = [
        "/lib64/ld-linux-x86-64.so.2",
        "/usr/sbin/nginx",
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/srv/app/index.html",
    ];
    wait_until(|| pod.report().files.is_superset(&files(&expected)));
    let (last, _) = pod.end_snoop();
    last.assert_complete();
}

/// older-clusters.yaml: the application may start first, and then the report says so. In a pod with a shared process
/// namespace, the files that the application has open are listed at once. The pause container is not listed.
#[test]
fn without_native_sidecars() {
    for shared in [false, true] {
        let mut pod = Pod::of("older-clusters.yaml", Driver::Systemd);
        let root = app_root();
        let app = pod.start_app("app", root.path(), &[]);
        pod.wait_for_app(app);
        let mut snoop = pod.snoop();
        if shared {
            let namespaces = snoop.config["linux"]["namespaces"].as_array_mut();
            namespaces
                .unwrap()
                .retain(|namespace| namespace["type"] != "pid");
        }
        pod.start_and_wait(snoop);
        if shared {
            assert!(pod.report().files.contains(&b"/bin/busybox"[..]));
        }
        wait_until(|| pod.report().files.contains(&b"/etc/passwd"[..]));
        let report = pod.report();
        assert_eq!(report.json["containers"].as_array().unwrap().len(), 1);
        assert_eq!(report.json["containers"][0]["attached_late"], true);
        assert_eq!(
            report.json["missing"],
            serde_json::json!({"late_attach": 1})
        );
        assert!(!report.files.contains(&b"/pause"[..]));
    }
}

/// The node's cgroups are mounted, and the paths are given by a flag and in a file.
#[test]
fn with_the_nodes_cgroups_mounted() {
    let mut pod = Pod::of("deployment.yaml", Driver::Cgroupfs);
    let root = app_root();
    pod.start_app("app", root.path(), &[]);
    let app = pod.running[1].0.config["linux"]["cgroupsPath"]
        .as_str()
        .unwrap()
        .to_string();
    wait_until(|| Path::new(MOUNT).join(&app[1..]).exists());
    fs::write(pod.data.path().join("cgroup-paths"), format!("{app}\n")).unwrap();
    for flag in [
        format!("-cgroup={MOUNT}{app}"),
        "-cgroups=@/data/cgroup-paths".into(),
    ] {
        let mut snoop = pod.snoop();
        snoop.bind(Path::new(MOUNT), MOUNT, &["ro"]);
        snoop.config["process"]["args"]
            .as_array_mut()
            .unwrap()
            .push(flag.into());
        pod.start_and_wait(snoop);
        wait_until(|| pod.report().files.contains(&b"/etc/hosts"[..]));
        let report = pod.report();
        assert_eq!(report.json["containers"].as_array().unwrap().len(), 1);
        assert_eq!(report.json["containers"][0]["cgroup_path"], app);
        let (snoop, mut child) = pod.running.pop().unwrap();
        snoop.kill("TERM");
        assert!(child.wait().unwrap().success());
    }
}

/// If a node or a manifest lacks something, snoop writes one line with the cause and the remedy.
#[test]
fn errors_of_nodes_and_manifests() {
    let mut pod = Pod::of("deployment.yaml", Driver::Systemd);
    let lacking = |container: &mut Container, capability: &str| {
        container.capabilities(|set| set.retain(|name| name != capability));
    };
    let refusing = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    });
    type Change<'a> = &'a dyn Fn(&mut Container);
    let cases: [(Change, &[&str]); 4] = [
        (
            &|container| lacking(container, "CAP_BPF"),
            &["missing capabilities: BPF;", "capabilities.add"],
        ),
        (
            &|container| lacking(container, "CAP_PERFMON"),
            &["missing capabilities: PERFMON;", "capabilities.add"],
        ),
        (
            &|container| container.config["linux"]["seccomp"] = refusing.clone(),
            &[
                "Operation not permitted",
                "a seccomp profile refuses bpf(2)",
            ],
        ),
        (
            &|container| container.config["linux"]["cgroupsPath"] = "/elsewhere-snoop-test".into(),
            &[
                "cannot tell which pod snoop runs in",
                "/elsewhere-snoop-test",
                "-cgroup=PATH",
            ],
        ),
    ];
    for (change, words) in cases {
        let mut container = pod.snoop();
        change(&mut container);
        let output = container.command().stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let status = output.status.code();
        assert!(matches!(status, Some(1 | 2)), "{status:?} {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in words {
            assert!(said.contains(word), "no {word:?}: {said}");
        }
    }
}
