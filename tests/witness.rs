// SPDX-License-Identifier: MIT OR Apache-2.0
//! An independent witness: snoop and strace(1) watch the same execution. Each must list every path that the other saw
//! succeed, except the files that the kernel opens itself, which strace cannot see.

mod common;

use common::{Files, Report, bytes, show, snoop};
use snoop::bpf::syscalls;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files that strace saw.
#[derive(Default)]
struct Witness {
    /// The absolute paths of successful calls, and the files that they opened.
    files: Files,
    /// The paths among them that were executed or changed into. The kernel opens more files for these by itself.
    entered: Files,
}

fn excluded(path: &[u8]) -> bool {
    [&b"/proc/"[..], b"/sys/", b"/dev/"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

/// Joins two paths and normalises the result lexically, as in the report.
fn join(base: &[u8], path: &[u8]) -> Vec<u8> {
    let joined = Path::new(OsStr::from_bytes(base)).join(OsStr::from_bytes(path));
    let mut out = PathBuf::new();
    for part in joined.components() {
        match part {
            std::path::Component::ParentDir => _ = out.pop(),
            part => out.push(part),
        }
    }
    bytes(out)
}

/// Splits the arguments of a call at commas outside strings and brackets.
fn arguments(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0, false);
    let mut skip = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if skip => skip = false,
            '\\' => skip = true,
            '"' => quoted = !quoted,
            _ if quoted => (),
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                out.push(text[start..i].trim());
                start = i + 1;
            }
            _ => (),
        }
    }
    out.push(text[start..].trim());
    out
}

/// Decodes a string that strace -xx wrote: "\x2f\x65".
fn string(argument: &str) -> Option<Vec<u8>> {
    let inside = argument.strip_prefix('"')?.strip_suffix('"')?;
    let bytes = inside
        .split("\\x")
        .skip(1)
        .map(|hex| u8::from_str_radix(hex, 16).unwrap());
    Some(bytes.collect())
}

/// Returns the path of a descriptor that strace -y wrote: `3</etc/passwd>`, in hexadecimal with -xx.
fn decoration(argument: &str) -> Option<Vec<u8>> {
    let inside = argument.split_once('<')?.1.strip_suffix('>')?;
    let inside = inside.split("(deleted)").next()?;
    if inside.contains("\\x") {
        string(&format!("\"{inside}\""))
    } else {
        Some(inside.into())
    }
}

impl Witness {
    /// Adds the calls of one process. Each line is `name(arguments) = result`.
    fn process(&mut self, trace: &str, start: &Path) {
        let mut cwd = bytes(start);
        for line in trace.lines() {
            let Some((call, result)) = line.rsplit_once(" = ") else {
                continue;
            };
            let Some((name, rest)) = call.split_once('(') else {
                continue;
            };
            if result.starts_with(['-', '?']) {
                continue;
            }
            let args = arguments(rest.trim_end().trim_end_matches(')'));
            if name == "fchdir" {
                cwd = decoration(args[0]).expect("a descriptor has a path");
            }
            if let Some(at) = args.iter().find(|a| a.starts_with("AT_FDCWD<")) {
                cwd = decoration(at).expect("the working directory has a path");
            }
            let Some(row) = syscalls::counted_rows().find(|(_, n)| *n == name) else {
                continue;
            };
            for i in syscalls::paths(row.0) {
                let Some(path) = string(args[i]).filter(|path| !path.is_empty()) else {
                    continue;
                };
                let before = i.checked_sub(1).map(|i| args[i]);
                let descriptor = before.filter(|a| a.starts_with(|c: char| c.is_ascii_digit()));
                let base = descriptor
                    .and_then(decoration)
                    .unwrap_or_else(|| cwd.clone());
                let path = join(&base, &path);
                if name == "chdir" {
                    cwd = bytes(fs::canonicalize(OsStr::from_bytes(&path)).unwrap());
                }
                if name.starts_with("exec") || name == "chdir" {
                    self.entered.insert(path.clone());
                }
                self.files.insert(path);
            }
            if name.starts_with("open") || name == "creat" {
                self.files
                    .extend(decoration(result).filter(|path| path.starts_with(b"/")));
            }
        }
    }

    /// Returns the files that the kernel opened by itself: the real paths of executed files and new directories, `#!`
    /// interpreters and loaders.
    fn by_kernel(&self) -> Files {
        let mut files = Files::new();
        for path in &self.entered {
            let path = Path::new(OsStr::from_bytes(path));
            files.extend(fs::canonicalize(path).map(bytes));
            let Ok(content) = fs::read(path) else {
                continue;
            };
            if let Some(line) = content.strip_prefix(b"#!") {
                let line = line.split(|b| *b == b'\n').next().unwrap().trim_ascii();
                let interpreter = line.split(|b| *b == b' ').next().unwrap();
                files.insert(interpreter.to_vec());
                files.extend(fs::canonicalize(OsStr::from_bytes(interpreter)).map(bytes));
            }
            let loader = "/lib64/ld-linux-x86-64.so.2";
            files.extend([bytes(loader), bytes(fs::canonicalize(loader).unwrap())]);
        }
        files
    }
}

fn compare(what: &str, command: &[&str], directory: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let report = scratch.path().join("report.json");
    let status = Command::new("strace")
        .args([
            "-f",
            "-ff",
            "-y",
            "-xx",
            "-s",
            "5000",
            "-e",
            "signal=none",
            "-o",
        ])
        .arg(scratch.path().join("trace"))
        .arg(snoop().get_program())
        .args(["run", "-report"])
        .arg(&report)
        .arg("--")
        .args(command)
        .current_dir(directory)
        .env("HOME", directory)
        .stdout(std::process::Stdio::null())
        .status()
        .expect("strace runs");
    assert!(status.success(), "{what}: {status}");
    let report = Report::read(&report);
    report.assert_complete();

    let mut witness = Witness::default();
    let mut traces = BTreeMap::new();
    for entry in fs::read_dir(scratch.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|pid| pid != "json") {
            traces.insert(path.clone(), fs::read_to_string(path).unwrap());
        }
    }
    assert!(traces.len() > 1, "strace saw snoop and its child");
    for trace in traces.values() {
        // snoop itself is the process that loads programs.
        if !trace.contains("bpf(BPF_PROG_LOAD") {
            witness.process(trace, &directory.canonicalize().unwrap());
        }
    }
    witness.files.retain(|path| !excluded(path));

    let missed: Files = witness.files.difference(&report.files).cloned().collect();
    assert!(
        missed.is_empty(),
        "{what}: only strace saw\n  {}",
        show(&missed)
    );
    let more: Files = report.files.difference(&witness.files).cloned().collect();
    let by_kernel = witness.by_kernel();
    let unexplained: Files = more.difference(&by_kernel).cloned().collect();
    assert!(
        unexplained.is_empty(),
        "{what}: only snoop saw\n  {}",
        show(&unexplained)
    );
    println!(
        "{what}: strace {} files, snoop {}; {} opened by the kernel:\n  {}",
        witness.files.len(),
        report.files.len(),
        more.len(),
        show(&more)
    );
}

#[test]
fn python() {
    let directory = tempfile::tempdir().unwrap();
    let program = "import json, ssl, sqlite3";
    compare(
        "python",
        &["/usr/bin/python3", "-c", program],
        directory.path(),
    );
}

#[test]
fn git() {
    let directory = tempfile::tempdir().unwrap();
    // Without this setting, git leaves a process in the background that looks after the repository.
    let script = "git init -q . && echo x > file && git add file && \
        git -c maintenance.auto=false -c user.name=n -c user.email=e commit -q -m m && git status";
    compare("git", &["/bin/sh", "-c", script], directory.path());
}

#[test]
fn list_of_etc() {
    let directory = tempfile::tempdir().unwrap();
    compare("ls", &["/bin/ls", "-lR", "/etc"], directory.path());
}
