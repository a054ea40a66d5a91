// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which cgroups are traced: parents, cgroups that do not exist yet, containers that are already running.

mod common;

use common::{
    Files, Report, Sidecar, TestCgroup, assert_same, bytes, get, helper, make_file, metrics, names,
    open_by, open_in, snoop, wait_until,
};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};

/// Returns the name that a container runtime gives to the cgroup of a container.
fn container_name(number: usize) -> String {
    format!("docker-{number:064x}.scope")
}

fn now(sidecar: &Sidecar) -> Report {
    Report::parse(get(sidecar.port, "/report").1.as_bytes())
}

fn container<'a>(report: &'a Report, name: &str) -> &'a Value {
    let all = report.json["containers"].as_array().unwrap();
    let is_it = |c: &&Value| c["cgroup_path"].as_str().unwrap().ends_with(name);
    let found = all.iter().find(is_it);
    found.unwrap_or_else(|| panic!("no container {name}: {all:?}"))
}

/// A process that does nothing until the value is dropped.
struct Idle(Child);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn idle(cgroup: &TestCgroup) -> Idle {
    let idle = Idle(cgroup.command("/bin/sleep").arg("1000").spawn().unwrap());
    let of_process =
        |file: &str| fs::read_to_string(format!("/proc/{}/{file}", idle.0.id())).unwrap();
    wait_until(|| of_process("comm") == "sleep\n");
    // The process sleeps, so it has already mapped its C library.
    wait_until(|| of_process("wchan").contains("nanosleep"));
    idle
}

/// Opens DIRECTORY/NAME/0-0 in another mount namespace than the runtime's, as an application does. Returns the path of
/// that file.
fn open_as_app(cgroup: &TestCgroup, directory: &Path, name: &str) -> Vec<u8> {
    let mut command = cgroup.command("unshare");
    command.arg("--mount").arg(helper());
    open_by(command, directory, name)
}

/// Returns a command that runs snoop in its own pid and mount namespaces, as in a container. `words` precede snoop.
fn snoop_in_container(words: &[&str], cgroup: Option<&TestCgroup>) -> Command {
    let mut command = match cgroup {
        Some(cgroup) => cgroup.command("unshare"),
        None => Command::new("unshare"),
    };
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child=TERM"]);
    command.args(words).arg(snoop().get_program());
    command
}

/// A parent is named before it contains containers. Its later containers are listed separately all the same.
#[test]
fn a_parent_whose_containers_start_later() {
    let directory = tempfile::tempdir().unwrap();
    let parent = TestCgroup::make("parent.slice");
    let flag = format!("-cgroup={}", parent.path());
    let sidecar = Sidecar::start(&[&flag], &directory.path().join("r.json"));
    let children = [1, 2].map(|i| parent.nested(&container_name(i)));
    let files: Vec<_> = (0..2)
        .map(|i| open_as_app(&children[i], directory.path(), &i.to_string()))
        .collect();
    let report = now(&sidecar);
    report.assert_complete();
    assert_eq!(report.json["containers"].as_array().unwrap().len(), 2);
    for (i, file) in files.into_iter().enumerate() {
        let container = container(&report, &container_name(i + 1));
        assert_same(
            &names(&container["files"]),
            &Files::from([bytes(helper()), file]),
        );
        assert_eq!(container["name"], "0".repeat(12));
    }
    sidecar.stop("TERM");
}

/// Cgroups whose names are not those of containers count as parts of the named cgroup.
#[test]
fn a_parent_of_ordinary_cgroups_is_one_container() {
    let directory = tempfile::tempdir().unwrap();
    let parent = TestCgroup::make("service.slice");
    let flag = format!("-cgroup={}", parent.path());
    let sidecar = Sidecar::start(&[&flag], &directory.path().join("r.json"));
    for name in ["a.service", "b.service"] {
        open_in(&parent.nested(name), directory.path(), name);
    }
    let report = now(&sidecar);
    report.assert_complete();
    let all = report.json["containers"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["unique_files"]), (1, &json!(3)));
    sidecar.stop("TERM");
}

/// The cgroup is traced from its first process, and so is the next one of the same name.
#[test]
fn a_cgroup_that_does_not_exist_yet() {
    let directory = tempfile::tempdir().unwrap();
    let top = TestCgroup::make("awaited");
    // Names of the greatest length, which differ only in the last letter.
    let name = |end: char| format!("{}{end}", "c".repeat(254));
    let path = format!("{}/a.slice/b.slice/{}", top.path(), name('c'));
    let flags = [&format!("-cgroup={path}")[..], "-interval=1h"];
    let sidecar = Sidecar::start(&flags, &directory.path().join("r.json"));
    let empty = now(&sidecar);
    assert_eq!(empty.json["containers"], json!([]));
    assert_eq!(empty.json["missing"], json!({"nothing_seen": 1}));
    let mut expected = Files::from([bytes(helper())]);
    for round in 0..3 {
        let a = top.nested("a.slice");
        let b = a.nested("b.slice");
        let c = b.nested(&name('c'));
        let other = b.nested(&name('d'));
        expected.insert(open_in(&c, directory.path(), &format!("round-{round}")));
        open_in(&other, directory.path(), "other");
        drop((c, other, b, a));
    }
    let report = now(&sidecar);
    report.assert_complete();
    assert_same(&report.files, &expected);
    let all = report.json["containers"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["cgroup_path"]), (1, &json!(path)));
    sidecar.stop("TERM");
}

/// Everything that runs beside snoop is traced, whatever the cgroups are called, without a mount from the host.
#[test]
fn the_containers_beside_snoop() {
    let directory = tempfile::tempdir().unwrap();
    let parent = TestCgroup::make("beside");
    let (own, other) = (parent.nested("snoop"), parent.nested("app"));
    let hidden = ["sh", "-c", "umount -l /sys/fs/cgroup && exec \"$0\" \"$@\""];
    let command = snoop_in_container(&hidden, Some(&own));
    let sidecar = Sidecar::start_by(command, &["-cgroup=@parent"], &directory.path().join("r"));
    let file = open_as_app(&other, directory.path(), "app");
    let report = now(&sidecar);
    report.assert_complete();
    assert_same(&report.files, &Files::from([bytes(helper()), file]));
    sidecar.stop_child("TERM");
}

/// A process that was already running may have used any file without a trace.
#[test]
fn an_idle_container_beside_snoop_is_late() {
    let directory = tempfile::tempdir().unwrap();
    let parent = TestCgroup::make("older");
    let own = parent.nested("snoop");
    let outer = parent.nested(&container_name(7));
    let init = outer.nested("init");
    let deep = init.nested("x");
    let (direct, unused) = (parent.nested(&container_name(8)), parent.nested("unused"));
    let older = [idle(&deep), idle(&direct)];
    let command = snoop_in_container(&[], Some(&own));
    let sidecar = Sidecar::start_by(command, &["-cgroup=@parent"], &directory.path().join("r"));
    let report = now(&sidecar);
    assert_eq!(report.json["missing"], json!({"late_attach": 2}));
    let all = report.json["containers"].as_array().unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    let sleep = Files::from([bytes(fs::canonicalize("/bin/sleep").unwrap())]);
    for number in [7, 8] {
        let late = container(&report, &container_name(number));
        assert_eq!(late["attached_late"], true);
        assert_same(&names(&late["files"]), &sleep);
    }
    // A container that is created now is not late.
    open_as_app(&unused, directory.path(), "unused");
    drop(parent.nested("new"));
    sidecar.stop_child("TERM");
    drop(older);
}

/// snoop runs in a pid namespace that does not show the old processes.
#[test]
fn named_cgroups_with_old_processes_are_late() {
    let directory = tempfile::tempdir().unwrap();
    let parent = TestCgroup::make("named-older");
    let [old, new] = [1, 2].map(|i| parent.nested(&container_name(i)));
    let service = TestCgroup::make("named-service");
    let older = [idle(&old), idle(&service)];
    let flag = format!("-cgroups={},{}", parent.path(), service.path());
    let command = snoop_in_container(&[], None);
    let sidecar = Sidecar::start_by(command, &[&flag], &directory.path().join("r"));
    let file = open_as_app(&new, directory.path(), "new");
    let report = now(&sidecar);
    assert_eq!(report.json["missing"], json!({"late_attach": 2}));
    assert_eq!(
        container(&report, &container_name(1))["attached_late"],
        true
    );
    assert_eq!(container(&report, service.name())["attached_late"], true);
    let new = container(&report, &container_name(2));
    assert_eq!(new["attached_late"], Value::Null);
    assert_same(&names(&new["files"]), &Files::from([bytes(helper()), file]));
    sidecar.stop_child("TERM");
    drop(older);
}

/// `docker restart` creates the same cgroup again. snoop sees everything from the restart on.
#[test]
fn a_late_container_that_is_restarted_is_not_late() {
    let directory = tempfile::tempdir().unwrap();
    let parent = TestCgroup::make("restart");
    let cgroup = parent.nested(&container_name(1));
    let older = idle(&cgroup);
    let flag = format!("-cgroup={}", cgroup.path());
    let sidecar = Sidecar::start(&[&flag], &directory.path().join("r.json"));
    assert_eq!(now(&sidecar).json["missing"], json!({"late_attach": 1}));
    drop(older);
    drop(cgroup);
    wait_until(|| container(&now(&sidecar), "scope")["ended"] == true);
    let again = parent.nested(&container_name(1));
    open_as_app(&again, directory.path(), "again");
    let report = now(&sidecar);
    report.assert_complete();
    assert_eq!(container(&report, "scope")["attached_late"], Value::Null);
    sidecar.stop("TERM");
}

/// Nothing but snoop runs in the selected cgroup. The empty report is not complete.
#[test]
fn a_selection_that_contains_only_snoop() {
    let directory = tempfile::tempdir().unwrap();
    let parent = TestCgroup::make("alone");
    let pod = parent.nested("pod");
    let own = pod.nested(&container_name(1));
    for (flag, inside) in [
        (format!("-cgroup={}", parent.path()), ""),
        // The others run in their own cgroup namespace.
        ("-cgroup=/".into(), "--cgroup"),
        ("-cgroup=@parent".into(), "--cgroup"),
    ] {
        let report = directory.path().join("r.json");
        let remount =
            "umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec \"$0\" \"$@\"";
        let mut words = vec!["sh", "-c", remount];
        if !inside.is_empty() {
            words.splice(0..0, [inside]);
        }
        let command = snoop_in_container(&words, Some(&own));
        let sidecar = Sidecar::start_by(command, &[&flag, "-interval=1s"], &report);
        let empty = now(&sidecar);
        assert_eq!(empty.json["files"], json!([]), "{flag}");
        assert_eq!(empty.json["missing"], json!({"nothing_seen": 1}), "{flag}");
        let log = sidecar.stop_child("TERM");
        let says = |what: &str| log.iter().any(|(_, message)| message.contains(what));
        assert!(says("0 containers seen"), "{flag}: {log:?}");
        assert_eq!(says("snoop's own cgroup"), flag == "-cgroup=/", "{log:?}");
        fs::remove_file(&report).unwrap();
    }
}

/// snoop does not wait for a cgroup that a cgroup namespace hides.
#[test]
fn a_cgroup_that_a_namespace_hides() {
    let cgroup = TestCgroup::make("hidden");
    let remount =
        "umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec \"$0\" \"$@\"";
    let path = format!("-cgroup={}/app", cgroup.path());
    let output = snoop_in_container(&["--cgroup", "sh", "-c", remount], Some(&cgroup))
        .args([&path, "-report=-"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for words in [
        &path[..],
        "a cgroup namespace hides it",
        "--cgroupns=host",
        "@parent",
    ] {
        assert!(said.contains(words), "{said}");
    }
}

/// There are more containers than the programs have numbers. Each has its path, its files and its accesses all the same.
#[test]
fn more_containers_than_numbers() {
    const MANY: usize = 2100;
    const { assert!(MANY > snoop::bpf::wire::CONTAINERS) };
    let directory = tempfile::tempdir().unwrap();
    let parent = TestCgroup::make("many");
    let flag = format!("-cgroup={}", parent.path());
    let sidecar = Sidecar::start(&[&flag], &directory.path().join("r.json"));
    let file = make_file(directory.path(), "same/0-0");
    let cgroups: Vec<_> = (0..MANY)
        .map(|i| parent.nested(&container_name(i)))
        .collect();
    for cgroup in &cgroups {
        open_as_app(cgroup, directory.path(), "same");
    }
    let report = now(&sidecar);
    report.assert_complete();
    let all = report.json["containers"].as_array().unwrap();
    assert_eq!(all.len(), MANY);
    let expected = Files::from([bytes(helper()), file]);
    for (i, cgroup) in cgroups.iter().enumerate() {
        let container = container(&report, &container_name(i));
        assert_eq!(container["cgroup_path"], cgroup.path());
        assert_same(&names(&container["files"]), &expected);
        assert!(container["total_events"].as_u64().unwrap() >= 2);
    }
    let series = metrics(sidecar.port);
    let of_containers = |name: &&String| name.starts_with("snoop_container_events_total{");
    assert_eq!(series.keys().filter(of_containers).count(), MANY);
    sidecar.stop("TERM");
}

/// The lines of a /proc/PID/cgroup file are accepted unchanged.
#[test]
fn the_cgroup_of_a_process() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("process");
    let process = idle(&cgroup);
    let flag = format!("-cgroup=@/proc/{}/cgroup", process.0.id());
    let sidecar = Sidecar::start(&[&flag], Path::new(&directory.path().join("r.json")));
    open_in(&cgroup, directory.path(), "one");
    assert_eq!(container(&now(&sidecar), "process")["attached_late"], true);
    sidecar.stop("TERM");
    drop(process);
}
