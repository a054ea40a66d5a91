// SPDX-License-Identifier: MIT OR Apache-2.0
//! A long run with churning containers, processes and names: memory, descriptors, maps and the report must not grow.
//! `make soak` runs it. SNOOP_SOAK is the length in seconds.

mod common;

use common::{Report, Sidecar, TestCgroup, get, helper, metrics, signal, status};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// The resources that snoop uses at one time.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// The anonymous part of its resident memory, in KiB.
    own: u64,
    descriptors: u64,
    maps: u64,
    map_bytes: u64,
    report_bytes: u64,
}

impl Sample {
    fn take(sidecar: &Sidecar, report: &Path) -> Sample {
        assert_eq!(sidecar.status("Threads"), "1");
        let own = sidecar.status("RssAnon");
        let maps = sidecar.maps();
        let descriptors = fs::read_dir(format!("/proc/{}/fd", sidecar.child.id()));
        Sample {
            own: own.trim_end_matches(" kB").parse().unwrap(),
            descriptors: descriptors.unwrap().count() as u64,
            maps: maps.len() as u64,
            map_bytes: maps.values().sum(),
            report_bytes: fs::metadata(report).map_or(0, |file| file.len()),
        }
    }

    fn max(self, other: Sample) -> Sample {
        Sample {
            own: self.own.max(other.own),
            descriptors: self.descriptors.max(other.descriptors),
            maps: self.maps.max(other.maps),
            map_bytes: self.map_bytes.max(other.map_bytes),
            report_bytes: self.report_bytes.max(other.report_bytes),
        }
    }
}

/// Returns a command that runs as in a container, in its own mount namespace. snoop takes commands in the node's mount
/// namespace for the container runtime.
fn in_container(cgroup: &TestCgroup) -> Command {
    let mut command = cgroup.command("unshare");
    command.args(["--mount", "--propagation=unchanged"]);
    command
}

/// Runs one container from start to end: its processes use common files, and names that are never used again.
fn container(pod: &TestCgroup, directory: &Path, number: u64) {
    let cgroup = pod.nested(&format!("cri-containerd-{number:064x}.scope"));
    let files = directory.join(format!("c{number}"));
    fs::create_dir(&files).unwrap();
    for i in 0..100 {
        fs::write(files.join(format!("0-{i}")), "").unwrap();
    }
    let script = "\"$0\" opens 100 \"$1\"; for i in 1 2 3 4 5; do /bin/true; done";
    let mut command = in_container(&cgroup);
    command
        .args(["/bin/sh", "-c", script])
        .arg(helper())
        .arg(&files);
    assert!(command.status().unwrap().success());
    fs::remove_dir_all(&files).unwrap();
}

/// The programs that run in the pod until `done`.
#[derive(Default)]
struct Churn {
    done: AtomicBool,
    containers: AtomicU64,
    processes: AtomicU64,
}

impl Churn {
    /// Runs containers, one after the other.
    fn containers(&self, pod: &TestCgroup, directory: &Path) {
        while !self.done.load(Ordering::Relaxed) {
            let number = self.containers.fetch_add(1, Ordering::Relaxed);
            container(pod, directory, number);
        }
    }

    /// Runs a container that lives until the end. Each of its processes uses a new name.
    fn steady(&self, pod: &TestCgroup, directory: &Path) {
        let cgroup = pod.nested("cri-containerd-steady.scope");
        while !self.done.load(Ordering::Relaxed) {
            let n = self.processes.fetch_add(1, Ordering::Relaxed);
            let file = directory.join(format!("name-that-never-comes-again-{n}"));
            fs::write(&file, "").unwrap();
            let read = in_container(&cgroup).arg("/bin/cat").arg(&file).status();
            assert!(read.unwrap().success());
            fs::remove_file(&file).unwrap();
        }
    }
}

/// Takes samples for this long, and sends requests for everything that a client can request.
fn watch(sidecar: &Sidecar, report: &Path, length: Duration) -> Vec<Sample> {
    let mut samples = Vec::new();
    let start = Instant::now();
    while start.elapsed() < length {
        sleep(length.div_f64(200.0).max(Duration::from_millis(250)));
        assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
        get(sidecar.port, "/report");
        signal(&sidecar.child, "HUP");
        samples.push(Sample::take(sidecar, report));
    }
    samples
}

/// Compares the second quarter of the samples with the last one.
fn assert_steady(samples: &[Sample]) {
    let most = |part: &[Sample]| part.iter().copied().fold(Sample::default(), Sample::max);
    let quarter = samples.len() / 4;
    let early = most(&samples[quarter..2 * quarter]);
    let late = most(&samples[3 * quarter..]);
    println!("the most in the second quarter: {early:?}");
    println!("the most in the last quarter:   {late:?}");
    assert!(late.own <= early.own * 21 / 20 + 128, "memory grows");
    assert!(
        late.descriptors <= early.descriptors + 2,
        "descriptors grow"
    );
    assert_eq!((late.maps, late.map_bytes), (early.maps, early.map_bytes));
    assert!(
        late.report_bytes <= early.report_bytes * 21 / 20 + 4096,
        "the report grows"
    );
}

/// Asserts that the final report lacks only files that were evicted because of the limit.
fn assert_lacks_little(report: &Report) {
    // The perf buffer of each CPU is smaller than the ring buffer.
    let may_lack = match env::var("SNOOP_BUFFER").as_deref() {
        Ok("perf") => &["evicted", "buffer_full"][..],
        _ => &["evicted"],
    };
    let missing = report.json["missing"].as_object().unwrap();
    let other = missing.keys().find(|key| !may_lack.contains(&key.as_str()));
    assert_eq!(other, None);
    assert!(report.json["containers"].as_array().unwrap().len() <= 64 + 2);
}

#[test]
fn nothing_grows() {
    let seconds = env::var("SNOOP_SOAK").map_or(20, |text| text.parse().expect("seconds"));
    let directory = tempfile::tempdir().unwrap();
    let above = TestCgroup::make("soak");
    let pod = above.nested("kubepods-pod01234567_89ab_cdef_0123_456789abcdef.slice");
    let report = directory.path().join("report.json");
    let traced = format!("-cgroup={}", pod.path());
    let flags = [&traced[..], "-interval=1s", "-max-unique-files=90"];
    let sidecar = Sidecar::start(&flags, &report);

    let churn = Churn::default();
    let samples = scope(|threads| {
        threads.spawn(|| churn.containers(&pod, directory.path()));
        threads.spawn(|| churn.steady(&pod, directory.path()));
        // Waits until the report has merged some containers that have ended.
        while churn.containers.load(Ordering::Relaxed) < 100 {
            sleep(Duration::from_millis(100));
        }
        let samples = watch(&sidecar, &report, Duration::from_secs(seconds));
        churn.done.store(true, Ordering::Relaxed);
        samples
    });

    let numbers = metrics(sidecar.port);
    println!(
        "{seconds} s: {} containers, {} other processes; CPU: {:.1} s",
        churn.containers.into_inner(),
        churn.processes.into_inner(),
        numbers["process_cpu_seconds_total"]
    );
    assert_steady(&samples);
    sidecar.stop("TERM");
    assert_lacks_little(&Report::read(&report));
}
