// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop -cgroup PATH`: traces existing cgroups until a signal arrives.

mod common;

use common::{
    Files, Report, Sidecar, TestCgroup, assert_has, assert_same, bytes, get, helper, make_file,
    names, open_in, temporary_files, wait_until,
};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

#[test]
fn nothing_of_an_untraced_cgroup_leaks_in() {
    let directory = tempfile::tempdir().unwrap();
    let (traced, other) = (TestCgroup::make("traced"), TestCgroup::make("other"));
    let report = directory.path().join("report.json");
    let flag = format!("-cgroup={}", traced.directory().display());
    let sidecar = Sidecar::start(&[&flag], &report);

    let mut expected = Files::from([bytes(helper())]);
    for i in 0..7 {
        expected.insert(open_in(&traced, directory.path(), &format!("t{i}")));
        open_in(&other, directory.path(), &format!("o{i}"));
    }
    // Both cgroups use the files at the same time, again and again.
    let file = make_file(directory.path(), "both/0-0");
    let loops = |cgroup: &TestCgroup, name: &str| {
        let file = make_file(directory.path(), name);
        let script = format!(
            "i=0; while [ $i -lt 300 ]; do i=$((i+1)); : < {}; : < {}; done",
            String::from_utf8(file.clone()).unwrap(),
            directory.path().join("both/0-0").display()
        );
        (
            cgroup
                .command("/bin/sh")
                .args(["-c", &script])
                .spawn()
                .unwrap(),
            file,
        )
    };
    let (mut first, traced_file) = loops(&traced, "loop-traced");
    let (mut second, other_file) = loops(&other, "loop-other");
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    expected.extend([traced_file, file]);

    let log = sidecar.stop("TERM");
    let (level, last) = log.last().unwrap();
    assert!(
        level == "info" && last.contains(" files used; ") && last.contains(" 0 lost; "),
        "{last}"
    );
    assert!(log.iter().all(|(level, _)| level == "info"), "{log:?}");
    let report = Report::read(&report);
    report.assert_complete();
    assert!(!report.files.contains(&other_file));
    let outside: Vec<_> = report
        .files
        .iter()
        .filter(|f| f.starts_with(&bytes(directory.path())))
        .cloned()
        .collect();
    expected.remove(&bytes(helper()));
    assert!(report.files.contains(&bytes(helper())));
    assert_same(&outside.into_iter().collect(), &expected);
}

#[test]
fn each_container_has_its_own_files_and_its_nested_cgroups() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (TestCgroup::make("first"), TestCgroup::make("second"));
    let report = directory.path().join("report.json");
    // The paths are as /proc/PID/cgroup shows them, and come from a file.
    let list = directory.path().join("cgroups");
    fs::write(&list, format!("{}\n{},\n", first.path(), second.path())).unwrap();
    let sidecar = Sidecar::start(&[&format!("-cgroups=@{}", list.display())], &report);
    // Created after tracing has begun.
    let deeper = first.nested("deeper");
    let nested = deeper.nested("still");

    let in_first = open_in(&first, directory.path(), "first");
    let in_nested = open_in(&nested, directory.path(), "nested");
    let in_second = open_in(&second, directory.path(), "second");
    // The helper program is a file of both containers, and counts once in the report.
    let unique = common::metrics(sidecar.port)["snoop_unique_files"];
    common::signal(&sidecar.child, "HUP");
    wait_until(|| report.exists() && Report::read(&report).files.contains(&in_second));
    let log = sidecar.stop("INT");

    let report = Report::read(&report);
    report.assert_complete();
    assert_eq!((report.files.len(), unique), (4, 4.0));
    for said in ["report written: 4 files, ", "4 files used; "] {
        assert!(
            log.iter().any(|(_, line)| line.starts_with(said)),
            "{log:?}"
        );
    }
    let program = bytes(helper());
    let containers = report.json["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2);
    let expected = [
        (&first, Files::from([program.clone(), in_first, in_nested])),
        (&second, Files::from([program, in_second])),
    ];
    let mut total = 0;
    for (container, (cgroup, files)) in containers.iter().zip(&expected) {
        assert_eq!(container["cgroup_path"], cgroup.path());
        assert_eq!(container["name"], cgroup.name());
        assert_same(&names(&container["files"]), files);
        assert_eq!(container["unique_files"], files.len());
        total += container["total_events"].as_u64().unwrap();
    }
    assert_eq!(report.number("total_events"), total);
    assert_same(&report.files, &(&expected[0].1 | &expected[1].1));
}

#[test]
fn the_report_is_written_while_something_changes() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("written");
    let report = directory.path().join("report.json");
    let traced = format!("-cgroup={}", cgroup.path());
    let metadata = ["-image=nginx:1", "-labels=app=web", "-container-id=abc"];
    let flags = [&[&traced, "-interval=1s"][..], &metadata].concat();
    let sidecar = Sidecar::start(&flags, &report);

    // An empty report is written first, so that a reader finds one.
    wait_until(|| report.exists());
    assert_eq!(Report::read(&report).files, Files::new());
    let file = open_in(&cgroup, directory.path(), "one");
    wait_until(|| Report::read(&report).files.contains(&file));
    let written = Report::read(&report);
    assert_eq!(written.json["schema"], 2);
    assert_eq!(written.json["image"], "nginx:1");
    assert_eq!(written.json["container_id"], "abc");
    assert_eq!(written.json["labels"]["app"], "web");
    assert!(written.json.get("pod_name").is_none());

    // Nothing has changed, so the report is not written again.
    let before = fs::metadata(&report).unwrap().modified().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(fs::metadata(&report).unwrap().modified().unwrap(), before);
    sidecar.stop("TERM");
    assert_eq!(Report::read(&report).files, written.files);
    let left = temporary_files(directory.path());
    assert!(left.is_empty(), "{left:?}");
}

/// For a container that is already running, the files that it has open and mapped are listed, and the report says that
/// it is late.
#[test]
fn a_container_that_is_already_running() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("late");
    let (open, closed) = (
        make_file(directory.path(), "open"),
        make_file(directory.path(), "closed"),
    );
    let script = format!(
        ": < {}; exec 3< {}; exec sleep 60",
        String::from_utf8_lossy(&closed),
        String::from_utf8_lossy(&open)
    );
    let mut sleep = cgroup
        .command("/bin/sh")
        .args(["-c", &script])
        .spawn()
        .unwrap();
    let executed = || {
        let link = fs::read_link(format!("/proc/{}/exe", sleep.id())).unwrap();
        link.ends_with("sleep")
    };
    wait_until(executed);
    // The process must have mapped its library before tracing begins.
    wait_until(|| {
        let maps = fs::read_to_string(format!("/proc/{}/maps", sleep.id()));
        maps.unwrap().contains("/libc.so.6")
    });
    let report = directory.path().join("report.json");
    let sidecar = Sidecar::start(&[&format!("-cgroup={}", cgroup.path())], &report);
    let later = open_in(&cgroup, directory.path(), "later");
    let log = sidecar.stop("TERM");
    sleep.kill().unwrap();
    sleep.wait().unwrap();

    let report = Report::read(&report);
    let real = |path: &str| bytes(fs::canonicalize(path).unwrap());
    let expected = [
        open,
        later,
        real("/bin/sleep"),
        real("/lib64/ld-linux-x86-64.so.2"),
    ];
    assert_has(&report.files, &Files::from(expected));
    let libc = |path: &Vec<u8>| path.ends_with(b"/libc.so.6");
    assert!(report.files.iter().any(libc));
    assert!(!report.files.contains(&closed));
    assert_eq!(report.json["containers"][0]["attached_late"], true);
    assert_eq!(report.json["complete"], false);
    assert_eq!(
        report.json["missing"],
        serde_json::json!({"late_attach": 1})
    );
    let said = (
        "warn".into(),
        "the report is not complete: late_attach: 1".into(),
    );
    assert!(log.contains(&said), "{log:?}");
}

#[test]
fn a_cgroup_that_is_removed_and_created_again() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let above = TestCgroup::make("restarted");
    let cgroup = above.nested("app.service");
    let sidecar = Sidecar::start(&[&format!("-cgroup={}", cgroup.path())], &report);
    let first = open_in(&cgroup, directory.path(), "first");
    let container = || {
        let report = Report::parse(common::get(sidecar.port, "/report").1.as_bytes());
        report.json["containers"].as_array().unwrap().clone()
    };
    let id = container()[0]["cgroup_id"].clone();
    drop(cgroup);
    wait_until(|| container()[0]["ended"] == true);

    let cgroup = above.nested("app.service");
    let second = open_in(&cgroup, directory.path(), "second");
    let now = container();
    assert_eq!((now.len(), &now[0]["ended"]), (1, &serde_json::Value::Null));
    assert_ne!(now[0]["cgroup_id"], id);
    // Each time there is an execution, an open, and what the C library reads in /proc.
    assert_eq!(now[0]["total_events"], 6);
    drop(cgroup);
    wait_until(|| container()[0]["ended"] == true);
    assert!(
        common::get(sidecar.port, "/metrics")
            .1
            .contains("\nsnoop_containers 0\n")
    );
    sidecar.stop("TERM");
    let report = Report::read(&report);
    assert_same(
        &report.files,
        &Files::from([first, second, bytes(helper())]),
    );
    report.assert_complete();
}

#[test]
fn snoop_does_not_list_its_own_accesses() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let cgroup = TestCgroup::make("own");
    let flag = format!("-cgroup={}", cgroup.path());
    let own = cgroup.command(common::snoop().get_program());
    let sidecar = Sidecar::start_by(own, &[&flag, "-interval=1s"], &report);
    let file = open_in(&cgroup, directory.path(), "other");
    wait_until(|| report.exists());
    for path in ["/metrics", "/report"] {
        common::get(sidecar.port, path);
    }
    sidecar.stop("TERM");
    let report = Report::read(&report);
    assert_same(&report.files, &Files::from([file, bytes(helper())]));
    report.assert_complete();
}

#[test]
fn a_hangup_writes_the_report_at_once() {
    let cgroup = TestCgroup::make("hangup");
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let path = cgroup.path();
    let sidecar = Sidecar::start(&["-cgroup", &path, "-interval=1h"], &report);
    for name in ["first", "second"] {
        let file = open_in(&cgroup, directory.path(), name);
        common::signal(&sidecar.child, "HUP");
        wait_until(|| report.exists() && Report::read(&report).files.contains(&file));
    }
    sidecar.stop("TERM");
}

#[test]
fn an_evicted_file_is_reported_at_its_next_use() {
    let cgroup = TestCgroup::make("evicted");
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let path = cgroup.path();
    let flags = ["-cgroup", &path, "-max-unique-files=10", "-interval=1h"];
    let sidecar = Sidecar::start(&flags, &report);
    let names: Vec<_> = (0..20)
        .map(|i| directory.path().join(i.to_string()))
        .collect();
    names.iter().for_each(|name| fs::write(name, "").unwrap());
    // The shell uses only built-ins, so that no other files are used in between.
    let mut shell = cgroup
        .command("/bin/sh")
        .args(["-c", "while read file; do : < $file; done"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let open = |name: &Path| writeln!(shell.stdin.as_ref().unwrap(), "{}", name.display()).unwrap();
    let now = || Report::parse(get(sidecar.port, "/report").1.as_bytes());
    let (first, last) = (&names[0], &names[19]);
    names.iter().for_each(|name| open(name));
    wait_until(|| now().files.contains(&bytes(last)));
    assert!(!now().files.contains(&bytes(first)));
    // If the programs did not forget the file, they would not report it for five minutes.
    open(first);
    wait_until(|| now().files.contains(&bytes(first)));

    let now = Report::read(&report);
    assert_eq!(now.files.len(), 10);
    assert!(now.number("evicted_files") >= 11);
    assert_eq!(now.json["complete"], false);
    drop(shell.stdin.take());
    shell.wait().unwrap();
    sidecar.stop("TERM");
}
