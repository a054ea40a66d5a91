// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop merge` and `snoop diff`: the reports of several pods.

mod common;

use common::reports::{container, report};
use common::snoop;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use tempfile::TempDir;

/// Reports in a directory of their own.
struct Reports(TempDir);

impl Reports {
    fn new() -> Reports {
        Reports(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, report: &Value) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, report.to_string()).unwrap();
        path
    }

    /// Runs snoop in the directory.
    fn snoop(&self, words: &[&str]) -> Output {
        snoop()
            .args(words)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Merges reports. Returns the report, and what is said on standard error.
    fn merged(&self, words: &[&str]) -> (Value, String) {
        let output = self.snoop(&[&["merge"], words].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        (serde_json::from_slice(&output.stdout).unwrap(), said)
    }

    fn refused(&self, words: &[&str], status: i32) -> String {
        let output = self.snoop(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(output.stdout, b"");
        said
    }
}

/// Three pods of one image. The containers of the first two share a name; the third has only a short id.
fn pods() -> Reports {
    let reports = Reports::new();
    let first = container(
        "web",
        &[
            ("/usr/bin/app", "x", json!(0.11)),
            ("/lib/libc.so.6", "rm", json!(1.5)),
            ("/etc/app.conf", "r", json!(20)),
            ("/tmp/one", "w", json!(30.25)),
        ],
    );
    let mut second = container(
        "web",
        &[
            ("/etc/app.conf", "l", json!(0.5)),
            ("/lib/libc.so.6", "m", json!(2.5)),
            ("/usr/bin/app", "rx", json!(0.05)),
        ],
    );
    second["attached_late"] = json!(true);
    let third = container("0123456789ab", &[("/usr/bin/app", "x", json!(0.2))]);
    let other = container("ba9876543210", &[("/usr/bin/cron", "", json!(null))]);
    let mut late = report("web-1", &[second]);
    late["complete"] = json!(false);
    late["missing"] = json!({"late_attach": 1, "buffer_full": 3});
    late["last_updated_at"] = json!("2026-01-16T11:30:00Z");
    let mut third = report("web-2", &[third, other]);
    third["started_at"] = json!("2026-01-14T11:30:00Z");
    third["missing"] = json!({"buffer_full": 4});
    third["complete"] = json!(false);
    third["dropped_events"] = json!(4);
    reports.write("a", &report("web-0", &[first]));
    reports.write("b", &late);
    reports.write("c", &third);
    reports
}

#[test]
fn reports_of_one_image_become_one() {
    let (merged, _) = pods().merged(&["a", "b", "c"]);
    let web = json!({
        "name": "web",
        "cgroup_id": 0,
        "cgroup_path": "/pod/web",
        "started_at": "2026-01-15T10:30:00Z",
        "mounts": [{"point": "/", "type": "overlay"}],
        "total_events": 200,
        "unique_files": 4,
        "attached_late": true,
        "merged": 1,
        "files": ["/etc/app.conf", "/lib/libc.so.6", "/tmp/one", "/usr/bin/app"],
        "kinds": ["lr", "rm", "w", "rx"],
        "first_use_ms": [10.25, 2.0, 30.25, 0.08],
    });
    let others = json!({
        "name": "others",
        "cgroup_id": 0,
        "cgroup_path": "/",
        "started_at": "2026-01-15T10:30:00Z",
        "mounts": [{"point": "/", "type": "overlay"}],
        "total_events": 200,
        "unique_files": 2,
        "merged": 1,
        "files": ["/usr/bin/app", "/usr/bin/cron"],
        "kinds": ["x", ""],
        "first_use_ms": [0.2, null],
    });
    let expected = json!({
        "schema": 2,
        "image": "app:1",
        "image_digest": format!("sha256:{}", "ab".repeat(32)),
        "namespace": "shop",
        "labels": {"app": "web"},
        "started_at": "2026-01-14T11:30:00Z",
        "last_updated_at": "2026-01-16T11:30:00Z",
        "files": ["/etc/app.conf", "/lib/libc.so.6", "/tmp/one", "/usr/bin/app", "/usr/bin/cron"],
        "containers": [web, others],
        "total_events": 400,
        "dropped_events": 4,
        "evicted_files": 0,
        "complete": false,
        "missing": {"buffer_full": 7, "late_attach": 1},
    });
    assert_eq!(merged, expected);
}

#[test]
fn a_merged_report_is_a_report() {
    let reports = pods();
    let output = reports.snoop(&["merge", "-o", "all", "a", "b", "c"]);
    assert!(output.status.success() && output.stdout.is_empty());
    for words in [&["diff", "all", "all"][..], &["merge", "all"]] {
        assert!(reports.snoop(words).status.success(), "{words:?}");
    }
    let (again, said) = reports.merged(&["all"]);
    let first: Value =
        serde_json::from_slice(&fs::read(reports.0.path().join("all")).unwrap()).unwrap();
    assert_eq!(again, first);
    assert!(said.starts_with("snoop: one report, with 5 files, cannot tell"));
}

/// What snoop itself has written keeps its kinds, times and order.
#[test]
fn a_traced_report_is_merged_without_a_loss() {
    let reports = Reports::new();
    for name in ["one", "two"] {
        let report = format!("-report={name}");
        let words = ["run", &report, "-image=app:1", "cat", "/etc/hostname"];
        assert!(reports.snoop(&words).status.success());
    }
    let traced = fs::read(reports.0.path().join("one")).unwrap();
    let traced: Value = serde_json::from_slice(&traced).unwrap();
    let (merged, _) = reports.merged(&["one"]);
    for key in [
        "files",
        "total_events",
        "complete",
        "missing",
        "started_at",
        "image",
    ] {
        assert_eq!(merged[key], traced[key], "{key}");
    }
    for key in [
        "files",
        "kinds",
        "first_use_ms",
        "name",
        "mounts",
        "last_new_file_at",
    ] {
        let (is, was) = (&merged["containers"][0][key], &traced["containers"][0][key]);
        assert!(is == was && !is.is_null(), "{key}: {is} was {was}");
    }
    let (both, said) = reports.merged(&["one", "two"]);
    assert_eq!(both["files"], traced["files"]);
    assert!(said.contains("a chance of 0 % (0 of 2)"), "{said}");
    let output = reports.snoop(&["diff", "one", "two"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

#[test]
fn the_chance_of_a_new_file_is_estimated() {
    let (_, said) = pods().merged(&["a", "b", "c"]);
    for part in [
        "snoop: 3 reports list 5 files; 2 of these are in one report only\n",
        "lists: a chance of 67 % (2 of 3), and 0.7 such files on average\n",
        "only looked at: a chance of 33 % (1 of 3), and 0.3 such files on average\n",
        "snoop: 2 of 3 reports are incomplete: ",
        "the method (Good-Turing): ",
        "it assumes that the next pod runs the same image",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn reports_of_schema_1_have_no_detail() {
    let reports = pods();
    let mut old = report(
        "web-9",
        &[container("web", &[("/usr/bin/old", "", json!(null))])],
    );
    old["schema"] = json!(1);
    for name in ["kinds", "first_use_ms"] {
        old["containers"][0].as_object_mut().unwrap().remove(name);
    }
    reports.write("old", &old);
    let (merged, _) = reports.merged(&["a", "old"]);
    let web = &merged["containers"][0];
    assert_eq!(web["files"][4], "/usr/bin/old");
    assert_eq!(
        (&web["kinds"][4], &web["first_use_ms"][4]),
        (&json!(""), &json!(null))
    );
}

#[test]
fn other_images_and_the_same_report_are_refused() {
    let reports = pods();
    let with = |key: &str, value: Value| {
        let mut other = report("web-5", &[container("web", &[])]);
        other[key] = value;
        reports.write("other", &other);
    };
    with("image_digest", json!("sha256:12"));
    let said = reports.refused(&["merge", "a", "b", "other"], 1);
    let expected = "snoop: other is the report of another image: its image_digest is sha256:12, and that of a is sha256:abab";
    assert!(
        said.starts_with(expected) && said.ends_with("; -any-image takes it all the same\n"),
        "{said}"
    );
    let (merged, _) = reports.merged(&["-any-image", "a", "other"]);
    assert!(merged.get("image_digest").is_none() && merged["image"] == "app:1");

    let digest = format!("registry/app@sha256:{}", "ab".repeat(32));
    with("image_digest", json!(digest));
    reports.merged(&["a", "other"]);

    // A digest says more than a name, and no name says nothing.
    with("image", json!("registry/app:1"));
    reports.merged(&["a", "other"]);
    let mut nameless = report("web-6", &[]);
    for key in ["image", "image_digest"] {
        nameless.as_object_mut().unwrap().remove(key);
    }
    reports.write("nameless", &nameless);
    let (merged, _) = reports.merged(&["nameless", "a"]);
    assert_eq!(merged["image"], "app:1");

    let said = reports.refused(&["merge", "a", "b", "./a"], 2);
    assert_eq!(
        said,
        "snoop: ./a: this is the same report as a; give each report once\n"
    );
}

#[test]
fn wrong_input_is_one_line() {
    let reports = pods();
    reports.write("three", &json!({"schema": 3, "files": []}));
    reports.write("bare", &json!({"schema": 1, "files": []}));
    let mut other = report("web-5", &[container("web", &[("/a", "r", json!(1))])]);
    other["containers"][0]["kinds"] = json!([]);
    reports.write("short", &other);
    for (words, part) in [
        (
            &["merge"][..],
            "merge: a report or the file of -o is missing",
        ),
        (&["merge", "-", "-"], "give it for only one of them"),
        (&["merge", "a", "none"], "none: No such file"),
        (
            &["merge", "a", "three"],
            "three: its schema is 3; this snoop reads schemas 1 to 2",
        ),
        (&["merge", "a", "bare"], "bare: it lacks fields"),
        (
            &["merge", "a", "short"],
            "short: kinds of a container is not as long as its list",
        ),
        (
            &["merge", "-o=/dev/null", "a"],
            "-o=/dev/null: this is a device",
        ),
        (
            &["merge", "-o=no/x", "a"],
            "-o=no/x: there is no directory no",
        ),
        (&["diff", "a"], "diff: give two reports; write snoop diff"),
        (&["diff", "a", "b", "c"], "diff: give two reports"),
        (&["diff", "a", "none"], "none: No such file"),
    ] {
        let said = reports.refused(words, 2);
        assert!(said.contains(part), "{words:?}: {said}");
    }
}

#[test]
fn two_reports_are_compared() {
    let reports = pods();
    let output = reports.snoop(&["diff", "a", "c"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "\
only in a: 3 files
  read, mapped             /lib/libc.so.6
  written                  /tmp/one
  read                     /etc/app.conf
only in c: 1 file
  unknown                  /usr/bin/cron
";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert_eq!(output.stderr, b"");

    let output = reports.snoop(&["diff", "-json", "b", "a"]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!({"only_in_a": [], "only_in_b": [{"path": "/tmp/one", "kinds": "w"}]});
    assert_eq!(found, expected);

    let output = reports.snoop(&["diff", "a", "a"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

/// Ten reports of 20,000 files, whose order comes back.
#[test]
fn many_files_stay_in_order() {
    let reports = Reports::new();
    let names: Vec<_> = (0..20_000)
        .map(|n| format!("/srv/{}/{n}", n % 100))
        .collect();
    let mut words = Vec::new();
    for pod in 0..10 {
        let uses: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(at, path)| (path.as_str(), "r", json!((at + pod) as f64)))
            .collect();
        let name = format!("pod-{pod}");
        reports.write(&name, &report(&name, &[container("web", &uses)]));
        words.push(name);
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let (merged, said) = reports.merged(&words);
    assert!(said.contains("a chance of 0 % (0 of 10)"), "{said}");
    let web = &merged["containers"][0];
    let order = web["files"]
        .as_array()
        .unwrap()
        .iter()
        .zip(web["first_use_ms"].as_array().unwrap());
    let mut order: Vec<_> = order
        .map(|(file, first)| (first.as_f64().unwrap(), file.as_str().unwrap()))
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(
        order
            .iter()
            .map(|(_, file)| *file)
            .eq(names.iter().map(String::as_str))
    );
}
