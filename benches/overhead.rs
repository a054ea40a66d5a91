// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tracing costs the traced programs and their neighbours: `make bench`.
//!
//! Each case runs untraced, with empty BPF programs at snoop's hooks (the floor: what any tracer at these
//! hooks costs), traced by snoop, and as the neighbour of a traced cgroup. The four take turns, so that all
//! meet the same machine; the table shows medians of one case's runs.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "ratios/mod.rs"]
mod ratios;

use bpf_sys::direct;
use common::TestCgroup;
use ratios::Measured;
use snoop::bpf::hooks::{self, Buffer, HOOKS};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, hint};

/// Runs of each case in each mode.
const RUNS: usize = 9;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Untraced,
    Floor,
    Scope,
    Neighbour,
}

const MODES: [Mode; 4] = [Mode::Untraced, Mode::Floor, Mode::Scope, Mode::Neighbour];

/// A workload: does something that many times in the directory of [`make_files`].
struct Case {
    name: &'static str,
    times: u32,
    /// Run once before the clock starts, so that what it uses is known by then.
    is_repeated: bool,
    work: fn(&Path, u32),
}

const fn case(name: &'static str, times: u32, is_repeated: bool, work: fn(&Path, u32)) -> Case {
    Case {
        name,
        times,
        is_repeated,
        work,
    }
}

const CASES: [Case; 12] = [
    case(
        "open and close, 1,000 files again and again",
        200_000,
        true,
        open_known,
    ),
    case(
        "the same, relative to the working directory",
        200_000,
        true,
        open_relative,
    ),
    case("the same, relative to a descriptor", 200_000, true, open_at),
    case(
        "stat of 1,000 files again and again",
        300_000,
        true,
        stat_known,
    ),
    case(
        "50,000 files, each for the first time",
        50_000,
        false,
        open_new,
    ),
    case(
        "a name that is in none of 8 directories",
        50_000,
        true,
        search_in_vain,
    ),
    case(
        "a syscall that takes no path (getppid)",
        1_000_000,
        true,
        call_without_path,
    ),
    case("find /usr", 1, false, find),
    case("/bin/true", 1_000, true, spawn),
    case("python3 -c 'import json, ssl, sqlite3'", 10, true, python),
    case("git status", 50, true, git),
    case("cc -c", 10, true, compile),
];

fn main() {
    let words: Vec<_> = env::args().collect();
    match words.iter().position(|word| word == "--work") {
        Some(at) => work(&words[at + 1], Path::new(&words[at + 2])),
        None => compare(words.get(1).filter(|word| !word.starts_with('-'))),
    }
}

// ---- the workloads ----

const DIRECTORIES: u32 = 50;

fn file_name(i: u32) -> String {
    format!("directory-{:02}/file-{i:05}", i % DIRECTORIES)
}

/// 50,000 small files, a git repository and a source file.
fn make_files(directory: &Path) {
    for i in 0..DIRECTORIES {
        fs::create_dir(directory.join(format!("directory-{i:02}"))).unwrap();
    }
    for i in 0..50_000 {
        fs::write(directory.join(file_name(i)), "x").unwrap();
    }
    fs::write(
        directory.join("a.c"),
        "#include <stdio.h>\nint f(void) { return 1; }\n",
    )
    .unwrap();
    let repository = directory.join("repository");
    for i in 0..200 {
        let inner = repository.join(format!("d{}", i % 10));
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join(format!("f{i}")), "x").unwrap();
    }
    for words in ["init -q", "add ."] {
        run(Command::new("git")
            .args(words.split(' '))
            .current_dir(&repository));
    }
}

/// Runs a command that has to succeed, and drops what it prints.
fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// Absolute names of the first 1,000 files, with their NULs.
fn known(directory: &Path) -> Vec<CString> {
    let path = |i| {
        directory
            .join(file_name(i))
            .into_os_string()
            .into_encoded_bytes()
    };
    (0..1000).map(|i| CString::new(path(i)).unwrap()).collect()
}

fn open_at_in(directory: i32, names: &[CString], times: u32) {
    for name in names.iter().cycle().take(times as usize) {
        // SAFETY: the name ends with a NUL; the descriptor is closed here and used by nobody else.
        unsafe {
            let fd = libc::openat(directory, name.as_ptr(), libc::O_RDONLY);
            assert!(fd >= 0);
            libc::close(fd);
        }
    }
}

fn open_known(directory: &Path, times: u32) {
    open_at_in(libc::AT_FDCWD, &known(directory), times);
}

fn open_relative(directory: &Path, times: u32) {
    env::set_current_dir(directory).unwrap();
    open_at_in(libc::AT_FDCWD, &known(Path::new("")), times);
}

fn open_at(directory: &Path, times: u32) {
    let from = File::open(directory).unwrap();
    open_at_in(from.as_raw_fd(), &known(Path::new("")), times);
}

fn stat_known(directory: &Path, times: u32) {
    let names = known(directory);
    for name in names.iter().cycle().take(times as usize) {
        // SAFETY: the name ends with a NUL; all-zero is a value of the structure the kernel fills in.
        unsafe { assert_eq!(libc::stat(name.as_ptr(), &mut std::mem::zeroed()), 0) };
    }
}

fn open_new(directory: &Path, times: u32) {
    for i in 0..times {
        File::open(directory.join(file_name(i))).unwrap();
    }
}

fn search_in_vain(directory: &Path, times: u32) {
    let name = |i| directory.join(format!("directory-{i:02}/no-such-program"));
    let names: Vec<_> = (0..8).map(name).collect();
    for _ in 0..times {
        for name in &names {
            assert!(fs::metadata(name).is_err());
        }
    }
}

fn call_without_path(_: &Path, times: u32) {
    for _ in 0..times {
        // SAFETY: no arguments.
        hint::black_box(unsafe { libc::syscall(libc::SYS_getppid) });
    }
}

fn find(_: &Path, _: u32) {
    run(Command::new("find").args(["/usr", "-size", "+100000k"]));
}

fn spawn(_: &Path, times: u32) {
    (0..times).for_each(|_| run(&mut Command::new("/bin/true")));
}

fn python(_: &Path, times: u32) {
    let import = ["-c", "import json, ssl, sqlite3"];
    (0..times).for_each(|_| run(Command::new("/usr/bin/python3").args(import)));
}

fn git(directory: &Path, times: u32) {
    let repository = directory.join("repository");
    (0..times).for_each(|_| run(Command::new("git").arg("status").current_dir(&repository)));
}

fn compile(directory: &Path, times: u32) {
    let words = ["-c", "a.c", "-o", "/dev/null"];
    (0..times).for_each(|_| run(Command::new("cc").args(words).current_dir(directory)));
}

/// Runs one case and prints its nanoseconds: this program's second life, inside a cgroup.
fn work(name: &str, directory: &Path) {
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    if case.is_repeated {
        (case.work)(
            directory,
            case.times.div_ceil(100).max(1000.min(case.times)),
        );
    }
    let start = Instant::now();
    (case.work)(directory, case.times);
    println!("{}", start.elapsed().as_nanos());
}

// ---- the comparison ----

/// Programs that do nothing, at the hooks that snoop uses.
struct Floor(Vec<(&'static str, OwnedFd)>);

impl Floor {
    fn load() -> Floor {
        let layout = snoop::preflight::layout(Buffer::Ring).unwrap();
        let hooks = HOOKS.iter().zip(layout.hook_ids);
        let load = |(program, id): (&'static str, u32)| {
            direct::set_attach_id(program, id);
            let name = CString::new(program).unwrap();
            // r0 = 0; exit
            let mut instructions = [bpf_sys::bpf_insn::default(); 2];
            (instructions[0].code, instructions[1].code) = (0xb7, 0x95);
            let attr = bpf_sys::bpf_load_program_attr {
                prog_type: 0,
                expected_attach_type: 0,
                name: name.as_ptr(),
                insns: instructions.as_ptr(),
                insns_cnt: 2,
                license: c"GPL".as_ptr(),
                __bindgen_anon_1: bpf_sys::version_or_target { kern_version: 0 },
                __bindgen_anon_2: bpf_sys::index_or_id { attach_btf_id: 0 },
                log_level: 0,
            };
            // SAFETY: the pointers are alive during the call; no log is asked for. The descriptor is new.
            unsafe {
                let fd = bpf_sys::bpf_load_program_xattr(&attr, std::ptr::null_mut(), 0);
                assert!(fd >= 0, "{program}: {}", std::io::Error::last_os_error());
                (program, OwnedFd::from_raw_fd(fd))
            }
        };
        Floor(
            hooks
                .filter_map(|(hook, id)| Some((hook.program(Buffer::Ring), id?)))
                .map(load)
                .collect(),
        )
    }

    fn attach(&self) -> Vec<OwnedFd> {
        let attach = |(program, fd): &(&str, OwnedFd)| {
            let name = hooks::raw_tracepoint(program).map(|name| CString::new(name).unwrap());
            direct::raw_tracepoint_open(fd.as_fd(), name.as_deref()).unwrap()
        };
        self.0.iter().map(attach).collect()
    }
}

struct Bench {
    directory: PathBuf,
    floor: Floor,
    here: TestCgroup,
    elsewhere: TestCgroup,
}

impl Bench {
    /// Nanoseconds of one run, and how many accesses snoop lost.
    fn run(&self, case: &Case, mode: Mode) -> (f64, u64) {
        let report = self.directory.join("report.json");
        let traced = match mode {
            Mode::Scope => Some(&self.here),
            Mode::Neighbour => Some(&self.elsewhere),
            _ => None,
        };
        let flags = |cgroup: &TestCgroup| ["-cgroup".into(), cgroup.path(), "-interval=1h".into()];
        let sidecar = traced.map(|cgroup| {
            let flags = flags(cgroup);
            let flags: Vec<_> = flags.iter().map(String::as_str).collect();
            common::Sidecar::start(&flags, &report)
        });
        let links = (mode == Mode::Floor).then(|| self.floor.attach());
        let output = self
            .here
            .command(env::current_exe().unwrap())
            .args(["--work", case.name])
            .arg(&self.directory)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {}", case.name, output.status);
        drop(links);
        let lost = sidecar.map_or(0, |sidecar| {
            sidecar.stop("TERM");
            common::Report::read(&report).number("dropped_events")
        });
        let text = String::from_utf8(output.stdout).unwrap();
        (
            text.trim().parse::<f64>().unwrap() / f64::from(case.times),
            lost,
        )
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds with three digits and a unit.
fn shown(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        ..1e6 => format!("{:.2} µs", ns / 1e3),
        _ => format!("{:.1} ms", ns / 1e6),
    }
}

fn compare(only: Option<&String>) {
    let files = tempfile::tempdir().unwrap();
    let bench = Bench {
        directory: files.path().to_path_buf(),
        floor: Floor::load(),
        here: TestCgroup::make("bench"),
        elsewhere: TestCgroup::make("bench-elsewhere"),
    };
    make_files(&bench.directory);
    println!(
        "| | untraced | floor | traced | neighbour | traced / untraced | added, traced / floor | lost |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for case in CASES
        .iter()
        .filter(|case| only.is_none_or(|name| case.name.contains(name)))
    {
        let mut times = [const { Vec::new() }; MODES.len()];
        let mut lost = 0;
        for _ in 0..RUNS {
            for (mode, times) in MODES.iter().zip(&mut times) {
                let (time, lost_now) = bench.run(case, *mode);
                times.push(time);
                lost += lost_now;
            }
        }
        Measured::ratio(&times[2], &times[0]).record("traced / untraced", case.name);
        Measured::ratio(&times[3], &times[0]).record("neighbour / untraced", case.name);
        let [untraced, floor, traced, neighbour] = times.map(|mut times| median(&mut times));
        println!(
            "| {} | {} | {} | {} | {} | {:.2} | {:.1} | {lost} |",
            case.name,
            shown(untraced),
            shown(floor),
            shown(traced),
            shown(neighbour),
            traced / untraced,
            (traced - untraced) / (floor - untraced),
        );
    }
}
