// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report of an earlier run, and what becomes of it.

mod common;

use common::{Report, Sidecar, TestCgroup, bytes, open_in};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A cgroup, and the report about it that successive runs of snoop write.
struct Runs {
    directory: tempfile::TempDir,
    cgroup: TestCgroup,
    report: PathBuf,
}

/// The result of one run: which of the files a, b and c are in its report, and its warnings except those about
/// `not_watched`.
type Found = ([bool; 3], String);

const A: [bool; 3] = [true, false, false];
const B: [bool; 3] = [false, true, false];
const C: [bool; 3] = [false, false, true];
const AB: [bool; 3] = [true, true, false];
const AC: [bool; 3] = [true, false, true];

impl Runs {
    fn new() -> Runs {
        let directory = tempfile::tempdir().unwrap();
        let report = directory.path().join("report.json");
        Runs {
            directory,
            cgroup: TestCgroup::make("resumed"),
            report,
        }
    }

    /// Runs snoop, and opens the file `name` meanwhile.
    fn run(&self, flags: &[&str], name: &str) -> Found {
        let traced = format!("-cgroup={}", self.cgroup.path());
        let flags = [&[&traced[..], "-interval=1h"], flags].concat();
        let sidecar = Sidecar::start(&flags, &self.report);
        open_in(&self.cgroup, self.directory.path(), name);
        let log = sidecar.stop("TERM");
        let report = self.read();
        let has = |name: &str| {
            let file = self.directory.path().join(name).join("0-0");
            report.files.contains(&bytes(file))
        };
        let warnings = log
            .into_iter()
            .filter(|(level, said)| level == "warn" && !said.contains("not complete: not_watched"));
        let warnings: Vec<_> = warnings.map(|(_, said)| said).collect();
        (["a", "b", "c"].map(has), warnings.join("\n"))
    }

    fn read(&self) -> Report {
        Report::read(&self.report)
    }

    /// Returns the path to which a report that is not resumed is moved.
    fn aside(&self, ending: &str) -> PathBuf {
        self.report.with_extension(format!("json.{ending}"))
    }

    /// Replaces the report with this content, and asserts that snoop treats it as damaged.
    fn assert_damaged(&self, damaged: &[u8]) {
        fs::write(&self.report, damaged).unwrap();
        let (files, warned) = self.run(&[], "c");
        assert_eq!(files, C);
        assert!(warned.contains(" is damaged: "), "{warned}");
        assert_eq!(fs::read(self.aside("damaged")).unwrap(), damaged);
    }
}

fn quiet(files: [bool; 3]) -> Found {
    (files, String::new())
}

const IMAGE: [&str; 2] = ["-pod-name=p", "-image=nginx:1"];

#[test]
fn the_same_pod_and_image_are_resumed() {
    let runs = Runs::new();
    assert_eq!(runs.run(&IMAGE, "a"), quiet(A));
    assert_eq!(runs.run(&IMAGE, "b"), quiet(AB));
}

#[test]
fn files_that_are_now_excluded_are_not_resumed() {
    let runs = Runs::new();
    runs.run(&IMAGE, "a");
    let without = format!("-exclude={}/a/", runs.directory.path().display());
    let flags = [&IMAGE[..], &[&without]].concat();
    assert_eq!(runs.run(&flags, "b"), quiet(B));
}

#[test]
fn a_resumed_report_keeps_to_the_limit_of_files() {
    let runs = Runs::new();
    runs.run(&IMAGE, "a");
    let limited = [&IMAGE[..], &["-max-unique-files=1"]].concat();
    let (_, warned) = runs.run(&limited, "c");
    assert!(warned.contains("evicted"), "{warned}");
    let small = runs.read();
    assert_eq!(small.files.len(), 1);
    let evicted = small.number("evicted_files");
    // A gap of a report is also a gap of the report that resumes it.
    runs.run(&IMAGE, "c");
    assert_eq!(runs.read().json["missing"]["evicted"], json!(evicted));
    assert_eq!(runs.read().number("evicted_files"), evicted);
}

/// A process that runs between two runs of snoop is seen by neither.
#[test]
fn the_time_between_two_runs_counts_as_missing() {
    let runs = Runs::new();
    runs.run(&IMAGE, "a");
    runs.read().assert_complete();
    runs.run(&IMAGE, "b");
    let once = runs.read().json["missing"].clone();
    let seconds = once["not_watched"].as_u64().unwrap();
    assert_eq!(once, json!({"not_watched": seconds}));
    runs.run(&IMAGE, "c");
    let twice = runs.read().json["missing"]["not_watched"].as_u64().unwrap();
    assert!(twice > seconds, "{twice} after {seconds}");
}

#[test]
fn another_image_is_moved_aside() {
    let runs = Runs::new();
    runs.run(&["-pod-name=p"], "a");
    let (files, warned) = runs.run(&["-pod-name=p", "-image=nginx:2"], "b");
    assert_eq!(files, B);
    let why = "its image is null, not \"nginx:2\"";
    assert!(warned.contains(why), "{warned}");
    assert!(Report::read(&runs.aside("previous")).files.len() > 1);
    runs.read().assert_complete();
}

#[test]
fn a_report_is_replaced_without_resume() {
    let runs = Runs::new();
    runs.run(&IMAGE, "a");
    assert_eq!(runs.run(&["-resume=false"], "b"), quiet(B));
    assert!(!runs.aside("previous").exists());
}

#[test]
fn a_cgroup_that_is_not_traced_is_another_report() {
    let runs = Runs::new();
    runs.run(&[], "a");
    let other = TestCgroup::make("resumed-other");
    let traced = format!("-cgroup={}", other.path());
    let log = Sidecar::start(&[&traced], &runs.report).stop("TERM");
    let said = format!("it covers the cgroup {},", runs.cgroup.path());
    assert!(log.iter().any(|(_, line)| line.contains(&said)), "{log:?}");
}

/// Other tools keep the content of a report and change its layout.
#[test]
fn a_report_that_another_tool_has_rewritten_is_resumed() {
    for tool in [
        "jq -c .",
        "jq -S .",
        "sed 's/\"files\": /\"files\" : /'",
        "/usr/bin/python3 -c 'import json, sys; json.dump(json.load(sys.stdin), sys.stdout)'",
        "/usr/bin/python3 -c 'import json, sys; json.dump(json.load(sys.stdin), sys.stdout, indent=4)'",
        "tr '\\n' '\\r'",
    ] {
        let runs = Runs::new();
        runs.run(&[], "a");
        let before = fs::read(&runs.report).unwrap();
        let script = format!("{tool} <\"$0\" >\"$0.new\" && mv \"$0.new\" \"$0\"");
        let mut shell = Command::new("sh");
        let status = shell.args(["-ec", &script]).arg(&runs.report).status();
        assert!(status.unwrap().success(), "{tool}");
        assert_ne!(fs::read(&runs.report).unwrap(), before, "{tool}");
        assert_eq!(runs.run(&[], "c"), quiet(AC), "{tool}");
    }
}

#[test]
fn half_a_report_is_damaged() {
    let runs = Runs::new();
    runs.run(&[], "a");
    let whole = fs::read(&runs.report).unwrap();
    runs.assert_damaged(&whole[..whole.len() / 2]);
}

#[test]
fn an_empty_file_is_damaged() {
    Runs::new().assert_damaged(b"");
}

#[test]
fn endlessly_nested_json_is_damaged() {
    let runs = Runs::new();
    runs.run(&[], "a");
    let whole = fs::read(&runs.report).unwrap();
    let deep = [&whole[..whole.len() - 3], b",\"x\": [", &[b'['; 5000]].concat();
    runs.assert_damaged(&deep);
}

#[test]
fn a_report_with_too_long_names_is_damaged() {
    let runs = Runs::new();
    runs.run(&[], "a");
    let whole = fs::read_to_string(&runs.report).unwrap();
    for long in ["n".repeat(70_000), "n/".repeat(1 << 20)] {
        let damaged = whole.replace("    \"/", &format!("    \"/{long}/"));
        assert_ne!(damaged, whole);
        runs.assert_damaged(damaged.as_bytes());
    }
}

/// The report is well formed, but some of its files are missing.
#[test]
fn a_report_that_lists_fewer_files_than_it_counts_is_damaged() {
    let runs = Runs::new();
    runs.run(&[], "a");
    let mut json: Value = serde_json::from_slice(&fs::read(&runs.report).unwrap()).unwrap();
    let files = json["containers"][0]["files"].as_array_mut();
    files.unwrap().pop().unwrap();
    runs.assert_damaged(json.to_string().as_bytes());
}

/// snoop does not wait for a writer of the pipe.
#[test]
fn a_pipe_is_not_read() {
    let runs = Runs::new();
    let status = Command::new("mkfifo").arg(&runs.report).status();
    assert!(status.unwrap().success());
    let (files, warned) = runs.run(&[], "a");
    assert_eq!(files, A);
    assert!(warned.contains("it is not a regular file"), "{warned}");
}
