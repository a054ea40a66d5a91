// SPDX-License-Identifier: MIT OR Apache-2.0
//! Code that the tests share: the binary, the helper program, reports.
//!
//! The tests need root and a kernel that snoop can trace. Without these they fail.

#![allow(dead_code)] // Each test binary uses its own part.

pub mod browser;
pub mod container;
pub mod debian;
pub mod engine;
pub mod image;
pub mod manifests;
pub mod reports;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Returns the binary under test. SNOOP_BINARY selects another one, such as the static build.
pub fn snoop() -> Command {
    let built = env!("CARGO_BIN_EXE_snoop").into();
    Command::new(env::var_os("SNOOP_BINARY").unwrap_or(built))
}

/// Returns the helper program, which is compiled once per test binary.
pub fn helper() -> &'static Path {
    static HELPER: OnceLock<PathBuf> = OnceLock::new();
    HELPER.get_or_init(|| compile("accesses", &["-static", "-pthread"]))
}

/// Compiles `tests/helper/NAME.c`.
pub fn compile(name: &str, flags: &[&str]) -> PathBuf {
    // Tests may run in parallel, as threads and as processes, so an existing file is replaced as a whole.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let ready = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let fresh = ready.with_extension(format!("{}-{count}", std::process::id()));
    let source = format!("{}/tests/helper/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([fresh.as_os_str(), OsStr::new(&source)])
        .args(flags)
        .status()
        .expect("the C compiler runs");
    assert!(status.success(), "cc could not compile {source}");
    fs::rename(fresh, &ready).unwrap();
    ready
}

pub type Files = BTreeSet<Vec<u8>>;

pub struct Report {
    pub json: Value,
    pub files: Files,
}

impl Report {
    pub fn read(path: &Path) -> Report {
        let text = fs::read(path).expect("there is a report");
        Report::parse(&text)
    }

    pub fn parse(text: &[u8]) -> Report {
        let json: Value = serde_json::from_slice(text).expect("the report is JSON");
        let files = names(&json["files"]);
        Report { json, files }
    }

    pub fn number(&self, key: &str) -> u64 {
        self.json[key]
            .as_u64()
            .unwrap_or_else(|| panic!("no number {key}"))
    }

    pub fn assert_complete(&self) {
        assert_eq!(
            self.json["complete"], true,
            "missing: {}",
            self.json["missing"]
        );
        assert_eq!(self.json["missing"], serde_json::json!({}));
    }
}

/// Decodes a list of names. NUL and two hexadecimal digits stand for a byte.
pub fn names(list: &Value) -> Files {
    let list = list.as_array().expect("a list of names");
    let names = list.iter().map(|name| {
        let mut bytes = Vec::new();
        let mut rest = name.as_str().expect("a name").as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            if *first == 0 {
                let digits = std::str::from_utf8(&tail[..2]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &tail[2..];
            } else {
                bytes.push(*first);
                rest = tail;
            }
        }
        bytes
    });
    let names: Vec<_> = names.collect();
    assert!(names.is_sorted(), "the list is sorted");
    let set: Files = names.iter().cloned().collect();
    assert_eq!(set.len(), names.len(), "no name is listed twice");
    set
}

/// Runs `snoop run FLAGS -- COMMAND`. Returns its output and its report.
pub fn run(flags: &[&str], command: &[impl AsRef<OsStr>]) -> (Output, Report) {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let output = snoop()
        .args(["run", "-report"])
        .arg(&report)
        .args(flags)
        .arg("--")
        .args(command)
        .output()
        .expect("snoop runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(report.exists(), "no report; {}: {said}", output.status);
    (output, Report::read(&report))
}

/// Like [`run`], for a command that must succeed without writing to standard error.
pub fn run_quietly(flags: &[&str], command: &[impl AsRef<OsStr>]) -> Report {
    let (output, report) = run(flags, command);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success(), "{}", output.status);
    report
}

pub fn show(files: &Files) -> String {
    let shown = files
        .iter()
        .map(|f| String::from_utf8_lossy(f).escape_debug().to_string());
    shown.collect::<Vec<_>>().join("\n  ")
}

/// Asserts that all expected files were found, and shows the others.
pub fn assert_has(found: &Files, expected: &Files) {
    let missing: Files = expected.difference(found).cloned().collect();
    assert!(missing.is_empty(), "not reported:\n  {}", show(&missing));
}

/// Asserts that both sets are equal, and shows the differences.
pub fn assert_same(found: &Files, expected: &Files) {
    let missing: Files = expected.difference(found).cloned().collect();
    let extra: Files = found.difference(expected).cloned().collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "not reported:\n  {}\nreported without reason:\n  {}",
        show(&missing),
        show(&extra)
    );
}

pub fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    path.as_ref().as_os_str().as_bytes().to_vec()
}

/// Waits until another process has done something. Only if that process hangs does the time run out.
pub fn wait_until(mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed().as_secs() < 60, "waited in vain");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

pub fn signal(process: &Child, name: &str) {
    let pid = process.id().to_string();
    let status = Command::new("kill")
        .args(["-s", name, &pid])
        .status()
        .unwrap();
    assert!(status.success());
}

/// A cgroup for a test. Dropping it removes the cgroup.
pub struct TestCgroup {
    mount: PathBuf,
    directory: PathBuf,
}

impl TestCgroup {
    pub fn make(name: &str) -> TestCgroup {
        let mountinfo = fs::read("/proc/thread-self/mountinfo").unwrap();
        let mount = snoop::cgroup::find_mount(&mountinfo).expect("cgroup v2 is mounted");
        // A pid would not be unique, because pids are reused and a killed test leaves its cgroups behind.
        let unique = snoop::sys::random::random().unwrap();
        let directory = mount.join(format!("snoop-test-{unique:016x}-{name}"));
        fs::create_dir(&directory).expect("root may make cgroups");
        TestCgroup { mount, directory }
    }

    pub fn nested(&self, name: &str) -> TestCgroup {
        let directory = self.directory.join(name);
        fs::create_dir(&directory).unwrap();
        TestCgroup {
            mount: self.mount.clone(),
            directory,
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the path below the mount, as in /proc/PID/cgroup.
    pub fn path(&self) -> String {
        let path = self.directory.strip_prefix(&self.mount).unwrap();
        format!("/{}", path.display())
    }

    pub fn name(&self) -> &str {
        self.directory.file_name().unwrap().to_str().unwrap()
    }

    /// Returns a command that is in the cgroup before it is executed.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let procs = fs::OpenOptions::new()
            .write(true)
            .open(self.directory.join("cgroup.procs"));
        let mut command = Command::new(program);
        snoop::sys::process::start_in_cgroup(&mut command, procs.unwrap().into());
        command
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        // Nested cgroups may be dropped after their parent, so the deepest ones are removed first.
        let deeper = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        for entry in deeper.filter(|entry| entry.path().is_dir()) {
            let mount = self.mount.clone();
            drop(TestCgroup {
                mount,
                directory: entry.path(),
            });
        }
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() || !self.directory.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Creates a file in the directory. Returns its path.
pub fn make_file(directory: &Path, name: &str) -> Vec<u8> {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "x").unwrap();
    bytes(path)
}

/// Opens DIRECTORY/NAME/0-0 in the cgroup. Returns the path of that file.
pub fn open_in(cgroup: &TestCgroup, directory: &Path, name: &str) -> Vec<u8> {
    open_by(cgroup.command(helper()), directory, name)
}

/// Like [`open_in`], with a command that ends by executing the helper.
pub fn open_by(mut command: Command, directory: &Path, name: &str) -> Vec<u8> {
    let file = make_file(directory, &format!("{name}/0-0"));
    let status = command
        .args(["opens", "1"])
        .arg(directory.join(name))
        .status();
    assert!(status.unwrap().success());
    file
}

/// Returns the temporary files of reports in a directory.
pub fn temporary_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "tmp"))
        .collect()
}

/// A running `snoop -cgroup`, which is attached and listens on a free port.
pub struct Sidecar {
    pub child: Child,
    log: BufReader<ChildStderr>,
    pub port: u16,
}

impl Sidecar {
    pub fn start(flags: &[&str], report: &Path) -> Sidecar {
        Sidecar::start_by(snoop(), flags, report)
    }

    /// Like [`Sidecar::start`], with a command that ends by executing snoop.
    pub fn start_by(mut command: Command, flags: &[&str], report: &Path) -> Sidecar {
        command
            .args(flags)
            .args(["-metrics-addr=127.0.0.1:0", "-report"])
            .arg(report);
        Sidecar::attached(command)
    }

    /// Starts snoop by a command with all flags, and waits until it is attached.
    pub fn attached(mut command: Command) -> Sidecar {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let (level, line) = log_line(&line);
        assert!(level == "info" && line.starts_with("attached: "), "{line}");
        let port = line.rsplit(':').next().unwrap().parse().unwrap();
        Sidecar { child, log, port }
    }

    /// Returns a field of its /proc/PID/status.
    pub fn status(&self, key: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.unwrap().trim().into()
    }

    /// Returns the BPF maps that it holds: the id, and the bytes that the kernel accounts.
    pub fn maps(&self) -> BTreeMap<u64, u64> {
        let directory = format!("/proc/{}/fdinfo", self.child.id());
        let mut maps = BTreeMap::new();
        for file in fs::read_dir(directory).unwrap().flatten() {
            // The descriptor may be closed by now.
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            let number = |key: &str| {
                let value = text.lines().find_map(|line| line.strip_prefix(key));
                value.and_then(|value| value.trim().parse().ok())
            };
            if let (Some(id), Some(bytes)) = (number("map_id:"), number("memlock:")) {
                maps.insert(id, bytes);
            }
        }
        maps
    }

    /// Attaches strace to it, which changes the results of a syscall from now on.
    pub fn inject(&self, syscall: &str, what: &str) -> Child {
        let strace = Command::new("strace")
            .args(["--quiet=all", "-o", "/dev/null"])
            .args([
                format!("--trace={syscall}"),
                format!("--inject={syscall}:{what}"),
            ])
            .args(["-p", &self.child.id().to_string()])
            .spawn()
            .expect("strace runs");
        wait_until(|| self.status("TracerPid") != "0");
        strace
    }

    /// Sends the signal and waits for the end. Returns the level and the message of each log line after the first.
    pub fn stop(self, name: &str) -> Vec<(String, String)> {
        signal(&self.child, name);
        self.ended()
    }

    /// Like [`Sidecar::stop`], for a snoop that is a child of the process that was started.
    pub fn stop_child(self, name: &str) -> Vec<(String, String)> {
        let parent = self.child.id().to_string();
        let status = Command::new("pkill")
            .args(["--signal", name, "--parent", &parent])
            .status();
        assert!(status.unwrap().success());
        self.ended()
    }

    fn ended(mut self) -> Vec<(String, String)> {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        rest.lines().map(log_line).collect()
    }
}

impl Sidecar {
    /// Waits until it ends by itself. Returns the exit status and the log after the first line.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (status.code(), rest)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // The process is still running only after a failure.
        let _ = self.child.kill();
    }
}

/// Sends bytes, and returns what arrives until the other side closes.
pub fn exchange(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Returns the head and the body of the response to a GET request.
pub fn get(port: u16, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = exchange(port, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = format!("Content-Length: {}", body.len());
    assert!(head.lines().any(|line| line == length), "{head}");
    (head.into(), body.into())
}

pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Returns the series of /metrics by name, with the labels as part of the name.
pub fn metrics(port: u16) -> BTreeMap<String, f64> {
    let (head, body) = get(port, "/metrics");
    assert_eq!(status(&head), 200);
    assert!(
        head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| line.rsplit_once(' ').unwrap());
    series
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

/// Returns the level and the message of a log line.
pub fn log_line(line: &str) -> (String, String) {
    let json: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    let text = |key: &str| json[key].as_str().unwrap().to_string();
    assert_eq!(text("time").len(), "2026-01-15T10:30:00Z".len());
    (text("level"), text("message"))
}
