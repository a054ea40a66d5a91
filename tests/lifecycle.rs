// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can happen to a running snoop: signals, pauses, errors, and a second snoop.

mod common;

use common::{
    Files, Report, Sidecar, TestCgroup, assert_has, assert_same, bytes, get, helper, metrics,
    open_in, signal, status, temporary_files, wait_until,
};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Writing the report hangs, as on a network file system without its server.
#[test]
fn a_second_signal_ends_snoop_at_once() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let directory = tempfile::tempdir().unwrap();
        let cgroup = TestCgroup::make("twice");
        let traced = format!("-cgroup={}", cgroup.path());
        let mut sidecar = Sidecar::start(&[&traced], &directory.path().join("report.json"));
        // By now snoop has tested whether it can write.
        wait_until(|| sidecar.status("Seccomp") == "2");
        let mut strace = sidecar.inject("fsync", "delay_enter=60s");
        signal(&sidecar.child, name);
        wait_until(|| !temporary_files(directory.path()).is_empty());
        signal(&sidecar.child, name);
        // strace would hold snoop until the delay is over.
        signal(&strace, "KILL");
        strace.wait().unwrap();
        // After a final report the status would be 0.
        assert_eq!(sidecar.child.wait().unwrap().code(), Some(code));
    }
}

/// snoop is stopped, as by a suspend or a frozen cgroup, while there are more accesses than the buffer can hold. Each
/// access is counted, and lost accesses are reported at their next use.
#[test]
fn a_flood_during_a_pause_is_counted_exactly() {
    const FILES: usize = 60_000;
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("flood");
    let traced = format!("-cgroup={}", cgroup.path());
    let report = directory.path().join("report.json");
    let sidecar = Sidecar::start(&[&traced, "-interval=1s"], &report);
    let files = directory.path().join("f".repeat(100));
    fs::create_dir(&files).unwrap();
    let mut expected = Files::from([bytes(helper())]);
    for i in 0..FILES {
        let file = files.join(format!("0-{i}"));
        fs::write(&file, "").unwrap();
        expected.insert(bytes(file));
    }
    let open_all = || {
        let mut command = cgroup.command(helper());
        let status = command
            .args(["opens", &FILES.to_string()])
            .arg(&files)
            .status();
        assert!(status.unwrap().success());
    };
    // A run that opens nothing shows how many accesses the execution itself makes.
    let status = cgroup.command(helper()).arg("nop").status().unwrap();
    assert!(status.success());
    let count = |names: &[&str]| -> u64 {
        let metrics = metrics(sidecar.port);
        let number = |name: &&str| metrics[&format!("snoop_events_{name}_total")] as u64;
        names.iter().map(number).sum()
    };
    const ALL: [&str; 5] = ["processed", "duplicate", "excluded", "failed", "dropped"];
    let before = count(&ALL);

    signal(&sidecar.child, "STOP");
    open_all();
    signal(&sidecar.child, "CONT");
    let dropped = count(&["dropped"]);
    assert!((1..FILES as u64).contains(&dropped), "{dropped} dropped");
    assert_eq!(count(&ALL), before + before + FILES as u64);
    let after = || Report::parse(get(sidecar.port, "/report").1.as_bytes());
    let now = after();
    assert_eq!(
        now.json["missing"],
        serde_json::json!({"buffer_full": dropped})
    );
    assert_eq!(now.files.len() as u64, expected.len() as u64 - dropped);
    // All files are used again, the known ones and the lost ones. On a busy machine some may be lost a second time.
    let (mut rounds, mut dropped) = (1, dropped);
    loop {
        open_all();
        rounds += 1;
        assert_eq!(count(&ALL), before + rounds * (before + FILES as u64));
        match count(&["dropped"]) {
            now if now > dropped => dropped = now,
            _ => break,
        }
        assert!(rounds < 10, "some accesses are always lost");
    }
    assert_same(&after().files, &expected);

    let log = sidecar.stop("TERM");
    assert!(log.iter().any(|(_, said)| said.contains("buffer_full")));
}

/// Clients request the report all the time, while something is lost all the time.
#[test]
fn losses_are_logged_at_most_once_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("losses");
    let traced = format!("-cgroup={}", cgroup.path());
    let flags = [&traced[..], "-max-unique-files=1", "-interval=1s"];
    let sidecar = Sidecar::start(&flags, &directory.path().join("report.json"));
    let start = Instant::now();
    let mut reports = 0;
    while reports < 20 || start.elapsed() < Duration::from_millis(3500) {
        open_in(&cgroup, directory.path(), "evicting");
        get(sidecar.port, "/report");
        reports += 1;
    }
    let log = sidecar.stop("TERM");
    // One warning comes at once, and one for each second that has passed since.
    let most = 1 + start.elapsed().as_secs() as usize;
    let warned = log.iter().filter(|(_, said)| said.contains("evicted: "));
    let warned = warned.count();
    assert!(
        (2..=most).contains(&warned),
        "{warned} times in {reports} reports"
    );
}

/// Nothing reads the log and the pipe is full, but tracing continues.
#[test]
fn an_unread_log_does_not_block_tracing() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("unread");
    let traced = format!("-cgroup={}", cgroup.path());
    let report = directory.path().join("report.json");
    let sidecar = Sidecar::start(&[&traced, "-log-level=debug"], &report);
    let mut expected = Files::new();
    for i in 0..2_000 {
        expected.insert(bytes(directory.path().join(format!("0-{i}"))));
        fs::write(directory.path().join(format!("0-{i}")), "").unwrap();
    }
    let mut command = cgroup.command(helper());
    let status = command
        .args(["opens", "2000"])
        .arg(directory.path())
        .status();
    assert!(status.unwrap().success());
    let now = Report::parse(get(sidecar.port, "/report").1.as_bytes());
    assert_has(&now.files, &expected);
    let log = sidecar.stop("TERM");
    // The lines that fitted into the pipe are whole.
    assert!((100..2_000).contains(&log.len()), "{}", log.len());
}

#[test]
fn two_snoops_do_not_disturb_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("shared");
    let traced = format!("-cgroup={}", cgroup.path());
    let reports = ["one", "two"].map(|name| directory.path().join(name));
    // Each runs in the cgroup that the other traces, as in a pod with two sidecars.
    let [first, second] = reports.each_ref().map(|report| {
        let own = cgroup.command(common::snoop().get_program());
        Sidecar::start_by(own, &[&traced, "-interval=1s"], report)
    });
    let file = open_in(&cgroup, directory.path(), "file");
    for sidecar in [&first, &second] {
        assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
    }
    first.stop("TERM");
    let later = open_in(&cgroup, directory.path(), "later");
    assert_eq!(status(&get(second.port, "/healthz").0), 200);
    second.stop("TERM");
    let [one, two] = reports.each_ref().map(|report| Report::read(report).files);
    assert_has(&one, &Files::from([bytes(helper()), file.clone()]));
    assert_has(&two, &Files::from([bytes(helper()), file, later]));
    // A snoop excludes its own accesses but not those of the other, which is a process like any other.
    assert!(!one.contains(&bytes(reports[0].parent().unwrap().join("one"))));
}

/// Whatever ends the loop, everything that is known by then is in the final report.
#[test]
fn an_error_while_tracing_still_ends_in_a_report() {
    let counters = "cannot read the BPF programs' counters: ";
    let forget = "cannot make the BPF programs forget a file: ";
    let wait = "cannot wait for events: ";
    // The call that fails and how, the error that snoop reports, and what the report then lacks.
    for (call, how, said, missing) in [
        ("bpf", "error=ENOMEM", forget, &["counters", "evicted"][..]),
        ("bpf", "error=ENOMEM:when=1", forget, &["evicted"]),
        ("bpf", "error=ENOMEM", counters, &["counters"]),
        // The call fails only once. The loop ends all the same, and the report lacks nothing.
        ("bpf", "error=ENOMEM:when=1", counters, &[]),
        ("epoll_wait,epoll_pwait", "error=ENOMEM", wait, &[]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let cgroup = TestCgroup::make("error");
        let report = directory.path().join("report.json");
        let traced = format!("-cgroup={}", cgroup.path());
        let mut flags = vec![&traced[..], "-interval=1h"];
        if said == forget {
            flags.push("-max-unique-files=2");
        }
        let sidecar = Sidecar::start(&flags, &report);
        // The loop is running now.
        wait_until(|| sidecar.status("Seccomp") == "2");
        // All of the following happens before snoop continues.
        signal(&sidecar.child, "STOP");
        let files = ["a", "b", "c"].map(|name| open_in(&cgroup, directory.path(), name));
        let mut strace = sidecar.inject(call, how);
        signal(&sidecar.child, "HUP");
        signal(&sidecar.child, "CONT");
        let (status, rest) = sidecar.wait();
        strace.wait().unwrap();
        assert_eq!(status, Some(1), "{rest}");
        let last = rest.lines().last().unwrap();
        assert!(last.starts_with(&format!("snoop: {said}")), "{rest}");
        let report = Report::read(&report);
        assert!(report.files.contains(&files[2]), "{rest}");
        let lacks: Vec<_> = report.json["missing"].as_object().unwrap().keys().collect();
        assert_eq!(lacks, missing, "{rest}");
    }
}

/// Starts snoop with clocks that are this many seconds ahead of the clocks with which the kernel records the start of a
/// process.
fn start_with_clocks_set(seconds: i64, traced: &str, report: &Path) -> Sidecar {
    let mut command = Command::new("unshare");
    command
        .arg("--time")
        .arg(format!("--monotonic={seconds}"))
        .arg(format!("--boottime={seconds}"))
        .arg(common::snoop().get_program());
    Sidecar::start_by(command, &[traced], report)
}

/// Returns the seconds since the machine was started, without suspended time. No clock can be set back by more.
fn uptime() -> i64 {
    // SAFETY: all-zero is a value of this structure of integers, and the kernel fills it in.
    unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now), 0);
        now.tv_sec
    }
}

/// According to a clock that is ahead, processes that start now would have started before tracing began.
#[test]
fn a_clock_that_is_ahead_makes_no_container_late() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("ahead");
    let report = directory.path().join("report.json");
    let traced = format!("-cgroup={}", cgroup.path());
    let sidecar = start_with_clocks_set(1_000_000, &traced, &report);
    let file = open_in(&cgroup, directory.path(), "file");
    sidecar.stop("TERM");
    let report = Report::read(&report);
    report.assert_complete();
    assert_has(&report.files, &Files::from([file]));
}

/// According to a clock that is behind, running processes would have started after tracing began.
#[test]
fn a_clock_that_is_behind_hides_no_late_container() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("behind");
    let report = directory.path().join("report.json");
    let mut early = cgroup
        .command("/bin/cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let traced = format!("-cgroup={}", cgroup.path());
    let sidecar = start_with_clocks_set(-uptime(), &traced, &report);
    sidecar.stop("TERM");
    drop(early.stdin.take());
    assert!(early.wait().unwrap().success());
    let missing = &Report::read(&report).json["missing"];
    assert_eq!(*missing, serde_json::json!({"late_attach": 1}));
}
