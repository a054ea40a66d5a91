// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `snoop node` takes on a large node: 250 pods with 1,000 containers, 10 more each second, a million files. `make bench`.

#[path = "../tests/common/mod.rs"]
mod common;
use common::{Sidecar, TestCgroup, get, metrics};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PODS: usize = 250;
const CONTAINERS: usize = 1000;
const FILES: usize = 1000;
const IMAGES: usize = 110;
const CHURN_SECONDS: usize = 30;
const CHURN: usize = 10;
const MIB: f64 = (1 << 20) as f64;

/// The id of the first container.
const FIRST: usize = 0xabc_0000;

/// Functions for the scripts: a container is a process that moves into its cgroup, opens its files and ends.
const FUNCTIONS: &str = "
import os, sys, time
def container(cgroup, files):
    pid = os.fork()
    if pid:
        return pid
    open(cgroup + '/cgroup.procs', 'w').write('0')
    for file in files:
        os.close(os.open(file, os.O_RDONLY))
    os._exit(0)
def wait(pid):
    if os.waitpid(pid, 0)[1]:
        sys.exit('a container failed')
";

fn main() {
    println!("| `snoop node` | |\n| --- | --- |");
    measure("that the pods of an image share", IMAGES);
    measure("that are all different", CONTAINERS);
}

fn row(what: &str, value: impl std::fmt::Display) {
    println!("| {what} | {value} |");
}

/// Writes what containerd would write about a container.
fn describe(host: &Path, id: &str, pod: usize, image: usize) {
    let bundle = host
        .join("run/containerd/io.containerd.runtime.v2.task/k8s.io")
        .join(id);
    fs::create_dir_all(&bundle).unwrap();
    let config = json!({"annotations": {
        "io.kubernetes.cri.container-name": format!("app-{id}"),
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.image-name": format!("registry.example/team/image-{image}:1"),
        "io.kubernetes.cri.sandbox-name": format!("pod-{pod}"),
        "io.kubernetes.cri.sandbox-namespace": format!("namespace-{}", pod % 20),
        "io.kubernetes.cri.sandbox-uid": format!("{pod:08x}-0000-4000-8000-000000000000"),
    }});
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
}

fn id(number: usize) -> String {
    format!("{:064x}", FIRST + number)
}

/// Runs Python code in another mount namespace than the container runtime's, which is the one that snoop is started from.
fn python(code: &str) {
    let code = format!("{FUNCTIONS}{code}");
    let status = Command::new("unshare")
        .args(["-m", "/usr/bin/python3", "-S", "-c", &code])
        .status();
    assert!(status.unwrap().success());
}

/// Makes the files: each of the directories leads to the same ones, so that a million names take little.
fn make_names(top: &Path, directories: usize) {
    let real = top.join("real");
    fs::create_dir(&real).unwrap();
    for file in 0..FILES {
        fs::write(real.join(format!("module-{file}.py")), "").unwrap();
    }
    for i in 0..directories {
        symlink(&real, top.join(format!("package-{i}"))).unwrap();
    }
}

fn measure(what: &str, directories: usize) {
    let [top, host, reports] = [0; 3].map(|_| tempfile::tempdir().unwrap());
    make_names(top.path(), directories);
    let node = TestCgroup::make("node");
    let pods = node.directory().to_path_buf();
    for i in 0..CONTAINERS + CHURN_SECONDS * CHURN {
        describe(host.path(), &id(i), i % PODS, i % IMAGES);
        fs::create_dir_all(pods.join(format!("pod{:032x}", i % PODS))).unwrap();
    }
    let mut command = common::snoop();
    command
        .args(["node", "-cgroup", &node.path(), "-host"])
        .arg(host.path())
        .arg("-reports")
        .arg(reports.path())
        .args([
            "-interval=10s",
            "-max-bytes=4G",
            "-metrics-addr=127.0.0.1:0",
        ]);
    let snoop = Sidecar::attached(command);
    let [pods, top] = [&pods, top.path()].map(Path::display);
    let run = format!(
        "def run(i, files):
    cgroup = '{pods}/pod%032x/%064x' % (i % {PODS}, {FIRST} + i)
    os.mkdir(cgroup)
    directory = '{top}/package-%d/' % (i % {directories})
    wait(container(cgroup, [directory + 'module-%d.py' % f for f in range(files)]))
    return cgroup
"
    );
    python(&format!(
        "{run}for i in range({CONTAINERS}): run(i, {FILES})"
    ));
    let series = metrics(snoop.port);
    assert_eq!(series["snoop_containers"], CONTAINERS as f64);
    row(
        &format!("files {what}, in the reports"),
        series["snoop_unique_files"],
    );
    memory(&snoop, "resident memory");

    let (before, begun) = (cpu(&snoop), Instant::now());
    python(&format!(
        "{run}begun = time.monotonic()
for i in range({}):
    os.rmdir(run({CONTAINERS} + i, 100))
    time.sleep(max(0, begun + i / {CHURN} - time.monotonic()))",
        CHURN_SECONDS * CHURN
    ));
    let share = (cpu(&snoop) - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    row(
        &format!("CPU with {CHURN} more containers each second, of 100 files"),
        format!("{:.1} %", share * 100.0),
    );
    memory(&snoop, "resident memory after that");
    let begun = Instant::now();
    let listed: Value = serde_json::from_str(&get(snoop.port, "/reports").1).unwrap();
    let took = begun.elapsed().as_millis();
    let listed = listed.as_array().unwrap().len();
    row(
        "reports, written and listed",
        format!("{listed} in {took} ms"),
    );
    memory(&snoop, "resident memory after that");
    row("the most there was", snoop.status("VmHWM"));
    let maps = snoop.maps().values().sum::<u64>() as f64 / MIB;
    row("BPF maps", format!("{maps:.1} MiB"));
    let series = metrics(snoop.port);
    row("accesses lost", series["snoop_events_dropped_total"]);
    row(
        "known accesses displaced",
        series["snoop_known_displaced_total"],
    );
    snoop.stop("TERM");
}

/// Prints what snoop holds now, in MiB.
fn memory(snoop: &Sidecar, what: &str) {
    let value = snoop.status("VmRSS");
    let kib: f64 = value.trim_end_matches(" kB").parse().unwrap();
    row(what, format!("{:.1} MiB", kib / 1024.0));
}

fn cpu(snoop: &Sidecar) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/schedstat", snoop.child.id())).unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}
