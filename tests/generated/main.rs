// SPDX-License-Identifier: MIT OR Apache-2.0
//! Generated programs: random calls of random workers in a random tree. A model of the kernel's name resolution
//! (world.rs) says which paths they use. Each of these paths is in the report, or the report says that something is
//! missing.

#[path = "../common/mod.rs"]
mod common;
mod world;

use common::{Files, Report, Sidecar, TestCgroup, compile, get, show};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use std::cell::RefCell;
use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use world::{Call, Content, From, SLOTS, Stop, WORKERS, World};

/// The number of programs in one run of the test. SNOOP_PROGRAMS sets another number.
const PROGRAMS: u32 = 200;
/// The number of programs that one snoop traces. After each program the test reads the report of all of them.
const PROGRAMS_OF_ONE: u32 = 50;
const CALLS: usize = 40;

/// Few names, so that different calls use the same ones.
const NAMES: [&str; 6] = ["a", "b", "c", "l", "m", "p"];

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        12 => prop::sample::select(&NAMES[..]),
        2 => Just(".."),
        1 => Just("."),
    ]
}

/// A relative or absolute path. "/T" stands for the topmost directory.
fn path() -> impl Strategy<Value = String> {
    let names = prop::collection::vec(name(), 1..4);
    (names, 0..8u8).prop_map(|(names, form)| {
        let path = names.join("/");
        match form {
            0 => format!("/T/{path}"),
            1 => format!("/{path}"),
            2 => format!("{path}/"),
            3 => format!("./{}", path.replace('/', "//")),
            _ => path,
        }
    })
}

fn from() -> impl Strategy<Value = From> {
    prop_oneof![4 => Just(From::Cwd), 1 => (0..SLOTS).prop_map(From::Slot)]
}

fn call() -> impl Strategy<Value = Call> {
    let one = |make: fn(From, String) -> Call| (from(), path()).prop_map(move |(f, p)| make(f, p));
    let two = |make: fn(From, String, String) -> Call| {
        (from(), path(), path()).prop_map(move |(f, p, q)| make(f, p, q))
    };
    prop_oneof![
        2 => Just(Call::Process),
        1 => Just(Call::Sharing),
        1 => Just(Call::Thread),
        1 => Just(Call::Apart),
        8 => one(Call::Open),
        6 => one(Call::Create),
        2 => one(Call::Nofollow),
        2 => one(Call::InRoot),
        3 => (from(), path(), 0..SLOTS).prop_map(|(f, p, s)| Call::Keep(f, p, s)),
        3 => one(Call::Stat),
        1 => one(Call::Lstat),
        1 => one(Call::Access),
        1 => one(Call::Readlink),
        8 => one(Call::Mkdir),
        1 => one(Call::Rmdir),
        2 => one(Call::Unlink),
        6 => two(Call::Symlink),
        2 => two(Call::Link),
        4 => two(Call::Rename),
        4 => path().prop_map(Call::Chdir),
        1 => (0..SLOTS).prop_map(Call::Fchdir),
        1 => path().prop_map(Call::Chroot),
        3 => path().prop_map(Call::Execute),
    ]
}

impl Call {
    /// Replaces "/T" with the path of the topmost directory, in paths and in targets of symlinks.
    fn in_top(mut self, top: &str) -> Call {
        let paths: Vec<&mut String> = match &mut self {
            Call::Process | Call::Sharing | Call::Thread | Call::Apart | Call::Fchdir(_) => {
                Vec::new()
            }
            Call::Symlink(_, a, b) | Call::Link(_, a, b) | Call::Rename(_, a, b) => vec![a, b],
            Call::Open(_, a)
            | Call::Create(_, a)
            | Call::Nofollow(_, a)
            | Call::InRoot(_, a)
            | Call::Keep(_, a, _)
            | Call::Stat(_, a)
            | Call::Lstat(_, a)
            | Call::Access(_, a)
            | Call::Readlink(_, a)
            | Call::Mkdir(_, a)
            | Call::Rmdir(_, a)
            | Call::Unlink(_, a)
            | Call::Chdir(a)
            | Call::Chroot(a)
            | Call::Execute(a) => vec![a],
        };
        for path in paths {
            if let Some(rest) = path.strip_prefix("/T/") {
                *path = format!("{top}/{rest}");
            }
        }
        self
    }
}

/// The first calls of each program, which create files to use.
fn beginning() -> Vec<(usize, Call)> {
    let at = |make: fn(From, String) -> Call, path: &str| (0, make(From::Cwd, path.into()));
    vec![
        at(Call::Mkdir, "a"),
        at(Call::Mkdir, "b"),
        at(Call::Mkdir, "a/b"),
        at(Call::Create, "a/c"),
        at(Call::Create, "b/c"),
        at(Call::Create, "a/b/c"),
        (0, Call::Symlink(From::Cwd, "l".into(), "a".into())),
        (0, Call::Symlink(From::Cwd, "b/p".into(), "../p".into())),
        (0, Call::Symlink(From::Cwd, "a/m".into(), "/T/m".into())),
    ]
}

/// Creates the tree with which each program begins: two programs and a script.
fn prepare(top: &Path, world: &mut World, program: &Path) {
    let interpreter = top.join("p");
    for name in ["p", "q"] {
        fs::copy(program, top.join(name)).unwrap();
        world.add_file(name, Content::Program);
    }
    fs::write(top.join("m"), format!("#!{}\n", interpreter.display())).unwrap();
    fs::set_permissions(top.join("m"), fs::Permissions::from_mode(0o755)).unwrap();
    world.add_file("m", Content::Script(interpreter.to_str().unwrap().into()));
}

/// The cgroup of the traced programs, and the snoop that traces it.
struct Traced {
    directory: tempfile::TempDir,
    cgroup: TestCgroup,
    sidecar: Sidecar,
    interpreter: PathBuf,
    done: RefCell<Done>,
}

/// Counts of what was tried.
#[derive(Default)]
struct Done {
    programs: u32,
    calls: usize,
    succeeded: usize,
    /// Programs that made the report say that it lacks something.
    excused: u32,
}

impl Done {
    fn add(&mut self, other: &Done) {
        self.programs += other.programs;
        self.calls += other.calls;
        self.succeeded += other.succeeded;
        self.excused += other.excused;
    }
}

impl Traced {
    fn start() -> Traced {
        let directory = tempfile::tempdir().unwrap();
        let cgroup = TestCgroup::make("generated");
        let flags = [&format!("-cgroup={}", cgroup.path())[..], "-interval=1h"];
        let traced = Traced {
            sidecar: Sidecar::start(&flags, &directory.path().join("report.json")),
            interpreter: compile("generated", &["-static", "-pthread"]),
            directory,
            cgroup,
            done: RefCell::default(),
        };
        // The report of an empty cgroup has a gap, so something must happen first.
        traced.run(traced.directory.path(), "0 stat - .\n");
        traced
    }

    fn report(&self) -> Report {
        Report::parse(get(self.sidecar.port, "/report").1.as_bytes())
    }

    /// Runs the program, except calls whose effect the model does not know, and compares the report with the model.
    fn check(&self, program: &[(usize, Call)]) -> Result<(), TestCaseError> {
        let mut done = self.done.borrow_mut();
        done.programs += 1;
        let number = done.programs;
        let top = self.directory.path().join(number.to_string());
        fs::create_dir(&top).unwrap();
        let mut world = World::new(top.to_str().unwrap());
        prepare(&top, &mut world, &self.interpreter);
        let (mut lines, mut expected) = (String::new(), Vec::new());
        for (worker, call) in beginning().iter().chain(program) {
            let call = call.clone().in_top(top.to_str().unwrap());
            let mut next = world.clone();
            let worker = worker % world.workers();
            match next.make(worker, &call) {
                Ok(()) => {
                    world = next;
                    expected.push(true);
                }
                Err(Stop::Fails) => {
                    // A call that fails may still have shown that a file is there.
                    world.used = next.used;
                    expected.push(false);
                }
                Err(Stop::Unknown) => continue,
            }
            lines += &call.line(worker, world.workers() - 1);
        }
        let before = self.report().json["missing"].clone();
        let succeeded = self.run(&top, &lines);
        if succeeded != expected {
            let lines = lines.lines().zip(succeeded.iter().zip(&expected));
            let shown = lines.map(|(line, (is, model))| match is == model {
                true => format!("  {line}: {is}"),
                false => format!("  {line}: {is}, and not in the model"),
            });
            let shown: Vec<_> = shown.collect();
            prop_assert!(false, "the model is wrong:\n{}", shown.join("\n"));
        }
        let report = self.report();
        done.calls += succeeded.len();
        done.succeeded += succeeded.iter().filter(|ok| **ok).count();
        let used = world.used.iter().map(|path| path.clone().into_bytes());
        let lost: Files = used.filter(|path| !report.files.contains(path)).collect();
        let is_reported = report.json["missing"] != before;
        done.excused += u32::from(is_reported);
        prop_assert!(
            lost.is_empty() || is_reported,
            "not in the report, which does not say so:\n  {}\nprogram:\n{}",
            show(&lost),
            lines
        );
        Ok(())
    }

    /// Runs the lines of a program. Returns which calls succeeded.
    fn run(&self, top: &Path, lines: &str) -> Vec<bool> {
        let mut child = self
            .cgroup
            .command(&self.interpreter)
            .current_dir(top)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(lines.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", output.status);
        let results = String::from_utf8(output.stdout).unwrap();
        results.lines().map(|result| result == "0").collect()
    }
}

#[test]
fn whatever_a_program_uses_is_reported() {
    let programs = env::var("SNOOP_PROGRAMS").map_or(PROGRAMS, |n| n.parse().unwrap());
    let calls = prop::collection::vec((0..WORKERS, call()), CALLS);
    let mut done = Done::default();
    while done.programs < programs {
        let traced = Traced::start();
        let config = Config {
            cases: PROGRAMS_OF_ONE.min(programs - done.programs),
            failure_persistence: None,
            max_shrink_iters: 200,
            ..Config::default()
        };
        let checked = TestRunner::new(config).run(&calls, |program| traced.check(&program));
        if let Err(e) = checked {
            let (TestError::Fail(why, _) | TestError::Abort(why)) = e;
            panic!("{why}");
        }
        done.add(&traced.done.borrow());
    }
    println!(
        "{} programs, {} calls, {} succeeded; {} programs made the report say that it lacks something",
        done.programs, done.calls, done.succeeded, done.excused
    );
    // Gaps must not excuse too many programs.
    assert!(done.excused * 4 < done.programs, "too many are excused");
    assert!(done.succeeded * 3 > done.calls, "too few calls succeed");
}
