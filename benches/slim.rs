// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `snoop slim` takes, against programs that only read or hash the same bytes: `make bench`.
//!
//! The programs take turns, so that all meet the same machine; the tables show medians and their ratios.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "ratios/mod.rs"]
mod ratios;

use ratios::Measured;
use serde_json::json;
use snoop::archive::digest::Digest;
use snoop::archive::tar::{self, Kind, entry};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs of each program.
const RUNS: usize = 5;
/// Files of the large image, and the size of each: 1 GB together.
const FILES: usize = 16_000;
const SIZE: usize = 62_500;
const MANY: usize = 200_000;

fn main() {
    println!("| | slim | the others | slim / the others |\n| --- | --- | --- | --- |");
    large();
    many();
}

/// Files of a layer, in directories of 1,000.
fn names(files: usize) -> impl Iterator<Item = String> {
    (0..files).map(|n| format!("srv/directory-{}/a-name-of-a-file-{n}", n / 1000))
}

/// A layer of files, whose content is text that gzip halves.
fn layer(files: usize, size: usize) -> Vec<u8> {
    let (mut bytes, mut state) = (Vec::new(), 1_u64);
    for name in names(files) {
        bytes.extend(entry(name.as_bytes(), Kind::File, b"", size as u64));
        let end = bytes.len() + size;
        while bytes.len() < end {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(format!("{state:016x}").as_bytes());
        }
        bytes.truncate(end);
        bytes.resize(end + tar::padding(size as u64) as usize, 0);
    }
    bytes.extend(tar::END);
    bytes
}

/// An image of layers in the form of `docker save`, and two reports: of all its files and of every tenth.
fn image(directory: &Path, layers: &[Vec<u8>], contents: &[Vec<u8>], files: usize) {
    let ids = layers.iter().map(|layer| Digest::of(layer).to_string());
    let ids: Vec<_> = ids.collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": ids}});
    let names_of_layers: Vec<_> = (0..layers.len())
        .map(|at| format!("{at}/layer.tar"))
        .collect();
    let manifest =
        json!([{"Config": "config.json", "RepoTags": ["app:1"], "Layers": names_of_layers}]);
    let members = names_of_layers.iter().zip(contents);
    let members = members.map(|(name, content)| (name.as_str(), content.clone()));
    let texts = [("config.json", config), ("manifest.json", manifest)];
    let texts = texts.map(|(name, value)| (name, value.to_string().into_bytes()));
    let mut bytes = Vec::new();
    for (name, content) in members.chain(texts) {
        let size = content.len() as u64;
        bytes.extend(entry(name.as_bytes(), Kind::File, b"", size));
        bytes.extend(content);
        bytes.resize(bytes.len() + tar::padding(size) as usize, 0);
    }
    bytes.extend(tar::END);
    fs::write(directory.join("app.tar"), bytes).unwrap();
    for (report, every) in [("all.json", 1), ("tenth.json", 10)] {
        let used: Vec<_> = names(files)
            .step_by(every)
            .map(|name| format!("/{name}"))
            .collect();
        let report_text = json!({"schema": 1, "files": used, "complete": true, "missing": {}});
        fs::write(directory.join(report), report_text.to_string()).unwrap();
    }
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

/// How long a command takes.
fn run(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
    start.elapsed()
}

/// The most memory that a command had. The kernel counts what its parent had before, so that the parent is a small one.
fn memory(command: &Command) -> String {
    let code = "import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let output = Command::new("/usr/bin/python3")
        .args(["-S", "-c", code])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}");
    let kib: f64 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    format!("{:.1} MiB", kib / 1024.0)
}

fn slim(directory: &Path, report: &str) -> Command {
    let mut command = common::snoop();
    command.current_dir(directory);
    command.args(["slim", "-o", "out.tar", "app.tar", report]);
    command
}

fn shell(directory: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.current_dir(directory).args(["-ec", script]);
    command
}

/// Runs both by turns, and prints their medians.
fn compare(what: &str, mut slim: Command, mut others: Command) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        theirs.push(run(&mut others));
        ours.push(run(&mut slim));
    }
    let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    Measured::ratio(&seconds(&ours), &seconds(&theirs)).record("slim / the others", what);
    let (ours, theirs) = (median(ours).as_secs_f64(), median(theirs).as_secs_f64());
    println!(
        "| {what} | {ours:.2} s | {theirs:.2} s | {:.2} |",
        ours / theirs
    );
}

fn large() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let layers = [layer(FILES, SIZE)];
    image(path, &layers, &layers, FILES);
    let copy = "cat app.tar >copy; sync copy; sha256sum copy";
    compare(
        "1 GB in a plain layer, of which all stays; cat, sync and sha256sum",
        slim(path, "all.json"),
        shell(path, copy),
    );
    compare(
        "… of which a tenth stays; cat, sync and sha256sum",
        slim(path, "tenth.json"),
        shell(path, copy),
    );
    fs::write(path.join("layer.tar"), &layers[0]).unwrap();
    run(&mut shell(
        path,
        "gzip -6 <layer.tar >layer.tar.gz; rm layer.tar copy",
    ));
    let compressed = fs::read(path.join("layer.tar.gz")).unwrap();
    image(path, &layers, &[compressed], FILES);
    let inflate = "gunzip <layer.tar.gz";
    compare(
        "1 GB in a layer of gzip, of which all stays; gunzip",
        slim(path, "all.json"),
        shell(path, inflate),
    );
    compare(
        "… of which a tenth stays; gunzip",
        slim(path, "tenth.json"),
        shell(path, inflate),
    );
}

fn many() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let layers = [layer(MANY, 100)];
    image(path, &layers, &layers, MANY);
    let copy = "cat app.tar >copy; sync copy; sha256sum copy";
    compare(
        "200,000 files of 100 bytes, of which a tenth stays; cat, sync and sha256sum",
        slim(path, "tenth.json"),
        shell(path, copy),
    );
    let tenth = memory(&slim(path, "tenth.json"));
    let all = memory(&slim(path, "all.json"));
    println!("| their most memory, a tenth in the report (all) | {tenth} ({all}) | | |");

    // The upper layer says for each of them that it is gone, and then for all together, again and again.
    let mut upper = Vec::new();
    let whiteouts = names(MANY).map(|name| {
        let (directory, name) = name.rsplit_once('/').unwrap();
        format!("{directory}/.wh.{name}")
    });
    for name in whiteouts.chain(vec!["srv/.wh.directory-0".into(); MANY]) {
        upper.extend(entry(name.as_bytes(), Kind::File, b"", 0));
    }
    upper.extend(tar::END);
    let layers = [&layers[..], &[upper]].concat();
    image(path, &layers, &layers, MANY);
    let report = json!({"schema": 1, "files": ["/srv"], "complete": true, "missing": {}});
    fs::write(path.join("srv.json"), report.to_string()).unwrap();
    compare(
        "the same with 400,000 whiteouts above; cat, sync and sha256sum",
        slim(path, "srv.json"),
        shell(path, copy),
    );
}
