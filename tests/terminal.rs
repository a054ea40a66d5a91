// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `snoop run` shows in a terminal. The terminal is a pseudo-terminal with a screen in memory: `tests/helper/terminal.py`.

mod common;

use common::snoop;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Traces a shell script in a terminal. `wait` in the script waits until a status line is there. Returns what was on the screen.
fn traced(flags: &[&str], script: &str) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let waiting = directory.path().join("wait");
    let waiting = waiting.display();
    let wait = format!("wait() {{ : > {waiting}; while [ -e {waiting} ]; do sleep 0.1; done; }}");
    let helper = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helper/terminal.py");
    let output = Command::new("/usr/bin/python3")
        .arg(helper)
        .arg(directory.path())
        .arg(snoop().get_program())
        .args(["run", "-report"])
        .arg(directory.path().join("r.json"))
        .args(flags)
        .args(["--", "sh", "-c", &format!("{wait}; {script}")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["status"], 0, "{seen:#}");
    assert_eq!(seen["margins"], Value::Null, "{seen:#}");
    seen
}

/// Returns the lines that went over the screen, without empty ones.
fn lines(seen: &Value) -> Vec<&str> {
    let lines = seen["lines"].as_array().unwrap().iter();
    let lines = lines.map(|line| line.as_str().unwrap());
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_status_line_leaves_the_output_as_it_is() {
    let script = "printf 'Name? '; wait; printf 'one\ntwo\n'; seq 1 20; printf 'More? '; wait; seq 21 50; wait";
    let seen = traced(&[], script);
    let mut expected: Vec<String> = vec!["Name? one".into(), "two".into()];
    expected.extend((1..=20).map(|n| n.to_string()));
    expected.push("More? 21".into());
    expected.extend((22..=50).map(|n| n.to_string()));
    let lines = lines(&seen);
    let (output, summary) = lines.split_at(expected.len());
    assert_eq!(output, expected);
    let summary = summary.concat();
    assert!(
        summary.starts_with("snoop: ") && summary.contains(" files used; "),
        "{summary}"
    );
    // The cursor is where the command has left it, also if that was in the last row.
    let notes = &seen["notes"];
    assert_eq!(notes[0]["cursor"], json!([0, 6]));
    assert_eq!(notes[1]["cursor"], json!([8, 6]));
    assert_eq!(notes[1]["screen"][8].as_str().unwrap().trim_end(), "More?");
    assert_eq!(notes.as_array().unwrap().len(), 3);
}

#[test]
fn the_summary_has_a_line_of_its_own() {
    for output in ["echo end", "printf end"] {
        let seen = traced(&[], output);
        let lines = lines(&seen);
        assert_eq!(lines[0], "end");
        assert!(lines[1].starts_with("snoop: "), "{lines:#?}");
    }
}

#[test]
fn quiet_writes_nothing() {
    let seen = traced(&["-quiet"], "echo one; sleep 5; echo two");
    assert_eq!(seen["seen"], false);
    assert_eq!(lines(&seen), ["one", "two"]);
}

#[test]
fn a_program_that_edits_lines_has_the_terminal_for_itself() {
    let seen = traced(
        &[],
        "stty -icanon; echo one; sleep 5; stty icanon; wait; echo two",
    );
    assert_eq!(lines(&seen)[..2], ["one", "two"]);
    // It comes only once the program has ended.
    assert_eq!(seen["notes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_terminal_without_a_name_or_with_few_rows_has_no_status_line() {
    for prepare in ["export TERM=dumb", "stty rows 4"] {
        let inner = snoop().get_program().to_string_lossy().into_owned();
        let script = format!(
            "{prepare}; {inner} run -report /dev/shm/snoop-terminal-test.json sh -c 'echo one; sleep 5'; rm /dev/shm/snoop-terminal-test.json"
        );
        let seen = traced(&["-quiet"], &script);
        assert_eq!(seen["seen"], false, "{prepare}");
        assert_eq!(lines(&seen)[0], "one", "{prepare}");
    }
}
