// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hostile names: the report and the metrics stay valid and lose nothing.

mod common;

use common::{Files, Report, Sidecar, TestCgroup, assert_same, bytes, get, status};
use snoop::report::schema::encode_name;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Returns a path of `len` bytes below `directory`.
fn long_path(directory: &Path, len: usize) -> PathBuf {
    let mut path = directory.as_os_str().as_bytes().to_vec();
    while path.len() + 252 < len {
        path.push(b'/');
        path.extend([b'd'; 250]);
    }
    path.push(b'/');
    path.resize(len, b'f');
    OsString::from_vec(path).into()
}

fn hostile_names() -> Vec<Vec<u8>> {
    let every_byte = (1..=255u8).filter(|b| *b != b'/');
    let mut names: Vec<Vec<u8>> = every_byte.map(|b| vec![b'x', b, b'x']).collect();
    let texts = [
        "\n",
        "\r\n",
        " ",
        "\u{1b}[2J",
        "\"",
        "\\",
        "\\\"",
        "\\u0000",
        "\\n",
        "',\"",
        "\"],\"files\":[\"/etc/shadow",
        "a\",\n    \"/etc/shadow",
        "\"complete\": true,",
        "    \"files\": [",
        "],",
        "{\"schema\": 1}",
        "snoop_events_total{syscall=\"open\"} 1",
        "# HELP x y",
        "a\"} 7\nsnoop_unique_files 9\n#",
        "\u{202e}fdp.exe",
        "é\u{fffd}\u{10ffff}",
        "-rf",
        "%s%n",
        "$(reboot)",
    ];
    names.extend(texts.map(|text| text.as_bytes().to_vec()));
    // Invalid UTF-8: truncated, overlong, surrogates, too large.
    let bytes: [&[u8]; 6] = [
        b"\xc3",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"a\xffb\xfe",
        b"\xe9e9",
    ];
    names.extend(bytes.map(<[u8]>::to_vec));
    names
}

#[test]
fn hostile_names_are_reported_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    // The kernel refuses a newline in the name of a cgroup.
    let hostile = "a\"} 7\rsnoop_unique_files 9 \\ {b=\"c\"";
    let cgroup = TestCgroup::make(hostile);
    let report = directory.path().join("reports/report.json");
    fs::create_dir(report.parent().unwrap()).unwrap();
    let traced = format!("-cgroup={}", cgroup.directory().display());
    let labels = "-labels=a\"b=c\"\\\n,d=é";
    let sidecar = Sidecar::start(&[&traced, labels, "-interval=1h"], &report);

    let mut expected = Files::new();
    let mut paths: Vec<PathBuf> = hostile_names()
        .into_iter()
        .map(|name| directory.path().join(OsString::from_vec(name)))
        .collect();
    // Paths of the greatest length, and of about the length up to which accesses are known.
    paths.extend(
        [4095, 4094, 1025, 1024, 1023, 513, 512, 511].map(|len| long_path(directory.path(), len)),
    );
    for path in &paths {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        expected.insert(bytes(path));
    }
    // Each file is used twice, because known accesses must be known by their whole name.
    for _ in 0..2 {
        for some in paths.chunks(100) {
            let status = cgroup.command("/bin/cat").args(some).status();
            assert!(status.unwrap().success());
        }
    }

    let (_, metrics) = get(sidecar.port, "/metrics");
    assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.as_bytes())
        .unwrap();
    assert!(promtool.wait().unwrap().success());
    let escaped = cgroup.path().replace('\\', "\\\\").replace('"', "\\\"");
    let series = format!("snoop_container_events_total{{cgroup=\"{escaped}\"}} ");
    assert!(
        metrics.lines().any(|line| line.starts_with(&series)),
        "{metrics}"
    );

    let ours = |report: &Report| -> Files {
        let below = |file: &&Vec<u8>| file.starts_with(directory.path().as_os_str().as_bytes());
        report.files.iter().filter(below).cloned().collect()
    };
    let mut sidecar = Some(sidecar);
    for missing in [0, 1] {
        let sidecar = sidecar.take();
        let sidecar = sidecar.unwrap_or_else(|| Sidecar::start(&[&traced, labels], &report));
        let log = sidecar.stop("TERM");
        // The second run has resumed everything, and warns only that nothing was watched in between.
        let warnings = log.iter().filter(|(level, _)| level == "warn");
        assert_eq!(warnings.count(), missing, "{log:?}");
        let report = Report::read(&report);
        assert_eq!(report.json["missing"].as_object().unwrap().len(), missing);
        assert_same(&ours(&report), &expected);
        assert_eq!(
            report.json["containers"][0]["cgroup_path"],
            *encode_name(cgroup.path().as_bytes())
        );
        assert_eq!(report.json["labels"]["a\"b"], "c\"\\\n");
    }
}
