//! `snoop -cgroup PATH`: cgroups that exist already, traced until a signal comes.

mod common;

use common::{Files, Report, Sidecar, TestCgroup, assert_same, bytes, helper, names, wait_until};
use std::fs;
use std::path::Path;

fn make_file(directory: &Path, name: &str) -> Vec<u8> {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "x").unwrap();
    bytes(path)
}

/// Opens DIRECTORY/NAME/0-0 in the cgroup; answers that file.
fn open_in(cgroup: &TestCgroup, directory: &Path, name: &str) -> Vec<u8> {
    let file = make_file(directory, &format!("{name}/0-0"));
    let status = cgroup
        .command(helper())
        .args(["opens", "1"])
        .arg(directory.join(name))
        .status();
    assert!(status.unwrap().success());
    file
}

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
    // Both at once, over and over.
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
    // As /proc/PID/cgroup shows them, from a file.
    let list = directory.path().join("cgroups");
    fs::write(&list, format!("{}\n{},\n", first.path(), second.path())).unwrap();
    let sidecar = Sidecar::start(&[&format!("-cgroups=@{}", list.display())], &report);
    // Made after tracing began.
    let deeper = first.nested("deeper");
    let nested = deeper.nested("still");

    let in_first = open_in(&first, directory.path(), "first");
    let in_nested = open_in(&nested, directory.path(), "nested");
    let in_second = open_in(&second, directory.path(), "second");
    sidecar.stop("INT");

    let report = Report::read(&report);
    report.assert_complete();
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

    // An empty one first, so that a reader finds something.
    wait_until(|| report.exists());
    assert_eq!(Report::read(&report).files, Files::new());
    let file = open_in(&cgroup, directory.path(), "one");
    wait_until(|| Report::read(&report).files.contains(&file));
    let written = Report::read(&report);
    assert_eq!(written.json["schema"], 1);
    assert_eq!(written.json["image"], "nginx:1");
    assert_eq!(written.json["container_id"], "abc");
    assert_eq!(written.json["labels"]["app"], "web");
    assert!(written.json.get("pod_name").is_none());

    // Nothing new: the same file is not written again.
    let before = fs::metadata(&report).unwrap().modified().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(fs::metadata(&report).unwrap().modified().unwrap(), before);
    sidecar.stop("TERM");
    assert_eq!(Report::read(&report).files, written.files);
    let left = fs::read_dir(directory.path())
        .unwrap()
        .map(|e| e.unwrap().file_name());
    let left: Vec<_> = left
        .filter(|name| name.to_string_lossy().ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
