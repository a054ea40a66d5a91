// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can happen to the report's file: a reader always finds a whole report, and no file that was in a report is lost.

mod common;

use common::{
    Files, Report, Sidecar, TestCgroup, assert_has, bytes, get, metrics, open_in, signal, status,
    temporary_files, wait_until,
};
use snoop::report::file::Destination;
use std::cell::RefCell;
use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns a random number below `end`.
fn random(end: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15) % end
}

fn execute(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

const WRITER: &str = "SNOOP_TEST_WRITE_TO";

#[test]
#[ignore = "the writer that the next test kills"]
fn a_writer() {
    let path = env::var_os(WRITER).expect("the next test says where");
    let report = Destination::parse(&path);
    report.check().unwrap();
    for generation in 1u64.. {
        let line = format!("{generation}\n");
        let write =
            |out: &mut dyn Write| (0..20_000).try_for_each(|_| out.write_all(line.as_bytes()));
        report.write(write).unwrap();
    }
}

#[test]
fn a_writer_that_is_killed_leaves_a_whole_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    let (mut rounds, mut in_the_middle) = (0, 0);
    // How many writers are killed in the middle of a write depends on the speed of the machine. There must be enough of
    // them.
    while rounds < 200 || in_the_middle < 30 {
        assert!(rounds < 20_000, "{in_the_middle} in the middle");
        // Every other round writes the first file, which may exist afterwards or not. The others replace an existing
        // file.
        let is_first = rounds % 2 == 0;
        if is_first {
            let _ = fs::remove_file(&path);
        }
        rounds += 1;
        let mut writer = Command::new(env::current_exe().unwrap())
            .args(["--exact", "a_writer", "--include-ignored"])
            .env(WRITER, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while temporary_files(directory.path()).is_empty() || !(is_first || path.exists()) {
            assert!(writer.try_wait().unwrap().is_none());
        }
        sleep(Duration::from_micros(random(5_000)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let temporary = temporary_files(directory.path());
        in_the_middle += temporary.len();
        temporary
            .iter()
            .for_each(|file| fs::remove_file(file).unwrap());
        let text = match fs::read_to_string(&path) {
            Err(_) if is_first => continue,
            text => text.unwrap(),
        };
        let first = text.lines().next().unwrap();
        assert_eq!(text.lines().count(), 20_000);
        assert!(text.lines().all(|line| line == first) && text.ends_with('\n'));
    }
}

#[test]
fn a_killed_snoop_resumes_its_report() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("killed");
    let report = directory.path().join("reports/report.json");
    fs::create_dir(report.parent().unwrap()).unwrap();
    let traced = format!("-cgroup={}", cgroup.path());
    let mut expected = Files::new();
    for round in 0..25 {
        let mut sidecar = Sidecar::start(&[&traced, "-interval=1h"], &report);
        assert_eq!(
            temporary_files(report.parent().unwrap()),
            [""; 0].map(PathBuf::from)
        );
        let before = Report::parse(get(sidecar.port, "/report").1.as_bytes());
        assert_has(&before.files, &expected);
        let file = open_in(&cgroup, directory.path(), &format!("r{round}"));
        let reported = get(sidecar.port, "/report").1;
        assert_has(
            &Report::parse(reported.as_bytes()).files,
            &Files::from([file.clone()]),
        );
        expected.insert(file);
        // snoop is killed in the middle of one of many writes.
        let unwritten = open_in(&cgroup, directory.path(), &format!("u{round}"));
        for _ in 0..3 {
            signal(&sidecar.child, "HUP");
        }
        sleep(Duration::from_micros(random(1_500)));
        sidecar.child.kill().unwrap();
        sidecar.child.wait().unwrap();
        let now = Report::read(&report);
        assert_has(&now.files, &expected);
        if now.files.contains(&unwritten) {
            expected.insert(unwritten);
        }
    }
    let began = Report::read(&report).json["started_at"].clone();
    let sidecar = Sidecar::start(&[&traced], &report);
    let log = sidecar.stop("TERM");
    assert!(
        log.iter()
            .any(|(_, said)| said.starts_with("resuming the report"))
    );
    let last = Report::read(&report);
    assert_eq!(last.json["started_at"], began);
    assert_has(&last.files, &expected);
    // All runs count in one container: in each run, two executions with what the C library reads, and the opens.
    let containers = last.json["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    assert!(last.number("total_events") >= 25 * 4);
    assert_eq!(containers[0]["total_events"], last.json["total_events"]);
}

/// A small file system that exists only for a test.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, limit: &str) -> Disk {
        fs::create_dir(at).unwrap();
        execute(
            "mount",
            &["-t", "tmpfs", "-o", limit, "none", at.to_str().unwrap()],
        );
        Disk(at.into())
    }

    fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        execute("mount", &["-o", &options, self.0.to_str().unwrap()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A snoop that writes its report every second to its own small disk.
struct Writing {
    directory: tempfile::TempDir,
    disk: Disk,
    cgroup: TestCgroup,
    sidecar: Sidecar,
}

impl Writing {
    fn start() -> Writing {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::mount(&directory.path().join("disk"), "size=256k");
        fs::create_dir(disk.0.join("reports")).unwrap();
        let cgroup = TestCgroup::make("unwritten");
        let flags = [&format!("-cgroup={}", cgroup.path())[..], "-interval=1s"];
        let sidecar = Sidecar::start(&flags, &disk.0.join("reports/report.json"));
        let writing = Writing {
            directory,
            disk,
            cgroup,
            sidecar,
        };
        let before = open_in(&writing.cgroup, writing.directory.path(), "before");
        writing.wait_for(&before);
        writing
    }

    fn reports(&self) -> PathBuf {
        self.disk.0.join("reports")
    }

    fn report(&self) -> PathBuf {
        self.reports().join("report.json")
    }

    /// Waits until the file of the report lists another file.
    fn wait_for(&self, file: &[u8]) {
        let report = self.report();
        wait_until(|| report.is_file() && Report::read(&report).files.contains(file));
    }

    /// Breaks the disk, and repairs it after some writes have failed. Asserts that snoop reports the reason once in its
    /// log and in `/healthz`, that it still serves the report, and that the next report has everything.
    fn assert_survives(
        self,
        why: &str,
        break_it: impl FnOnce(&Writing),
        mend_it: impl FnOnce(&Writing),
    ) {
        let errors = || metrics(self.sidecar.port)["snoop_report_write_errors_total"];
        let before = errors();
        break_it(&self);
        let file = open_in(&self.cgroup, self.directory.path(), "during");
        wait_until(|| errors() >= before + 2.0);
        let (head, body) = get(self.sidecar.port, "/healthz");
        assert_eq!(status(&head), 503);
        assert!(body.contains(why), "{body}");
        let served = get(self.sidecar.port, "/report").1;
        assert!(Report::parse(served.as_bytes()).files.contains(&file));
        mend_it(&self);
        self.wait_for(&file);
        assert_eq!(status(&get(self.sidecar.port, "/healthz").0), 200);
        assert_eq!(temporary_files(&self.reports()), [""; 0].map(PathBuf::from));
        let log = self.sidecar.stop("TERM");
        let errors: Vec<_> = log.iter().filter(|(level, _)| level == "error").collect();
        let [(_, said)] = &errors[..] else {
            panic!("{errors:?}");
        };
        assert!(
            said.contains(why) && said.contains("trying again"),
            "{said}"
        );
    }
}

#[test]
fn a_disk_that_becomes_full() {
    let junk = |writing: &Writing| writing.disk.0.join("junk");
    Writing::start().assert_survives(
        "No space left",
        |writing| {
            let mut junk = fs::File::create(junk(writing)).unwrap();
            while junk.write_all(&[0; 4096]).is_ok() {}
        },
        |writing| fs::remove_file(junk(writing)).unwrap(),
    );
}

#[test]
fn a_quota_that_is_exceeded() {
    let strace: RefCell<Option<Child>> = RefCell::default();
    Writing::start().assert_survives(
        "uota exceeded", // musl and glibc word it differently
        |writing| *strace.borrow_mut() = Some(writing.sidecar.inject("fsync", "error=EDQUOT")),
        |_| {
            let mut strace = strace.take().unwrap();
            signal(&strace, "INT");
            strace.wait().unwrap();
        },
    );
}

#[test]
fn a_disk_that_becomes_read_only() {
    Writing::start().assert_survives(
        "Read-only",
        |writing| writing.disk.remount("ro"),
        |writing| writing.disk.remount("rw"),
    );
}

#[test]
fn a_directory_that_is_removed() {
    Writing::start().assert_survives(
        "No such file",
        // It fails while a report is being written.
        |writing| wait_until(|| fs::remove_dir_all(writing.reports()).is_ok()),
        |writing| fs::create_dir(writing.reports()).unwrap(),
    );
}

#[test]
fn a_directory_in_place_of_the_report() {
    Writing::start().assert_survives(
        "Is a directory",
        |writing| {
            fs::remove_file(writing.report()).unwrap();
            fs::create_dir(writing.report()).unwrap();
        },
        |writing| fs::remove_dir(writing.report()).unwrap(),
    );
}

/// The symlink is replaced and not followed.
#[test]
fn a_symlink_in_place_of_the_report() {
    let writing = Writing::start();
    let elsewhere = writing.directory.path().join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    fs::remove_file(writing.report()).unwrap();
    symlink(&elsewhere, writing.report()).unwrap();
    let file = open_in(&writing.cgroup, writing.directory.path(), "linked");
    wait_until(|| writing.report().symlink_metadata().unwrap().is_file());
    writing.wait_for(&file);
    assert_eq!(fs::read(&elsewhere).unwrap(), b"mine");
    let log = writing.sidecar.stop("TERM");
    let warnings: Vec<_> = log.iter().filter(|(level, _)| level == "warn").collect();
    let [(_, said)] = &warnings[..] else {
        panic!("{warnings:?}");
    };
    assert!(said.contains("also being written"), "{said}");
}

/// snoop starts even if the disk is full, so that the application does not wait.
#[test]
fn a_disk_that_is_full_from_the_start() {
    let directory = tempfile::tempdir().unwrap();
    // Enough for the root directory and two files.
    let disk = Disk::mount(&directory.path().join("disk"), "nr_inodes=3");
    let junk = ["junk", "more"].map(|name| disk.0.join(name));
    junk.iter().for_each(|file| fs::write(file, "").unwrap());
    let cgroup = TestCgroup::make("full");
    let traced = format!("-cgroup={}", cgroup.path());
    let report = disk.0.join("report.json");
    let sidecar = Sidecar::start(&[&traced, "-interval=1s"], &report);
    let file = open_in(&cgroup, directory.path(), "file");
    wait_until(|| get(sidecar.port, "/healthz").1.contains("No space left"));
    junk.iter().for_each(|file| fs::remove_file(file).unwrap());
    wait_until(|| report.is_file() && Report::read(&report).files.contains(&file));
    sidecar.stop("TERM");
}

#[test]
fn exceeding_the_file_size_limit_is_an_ordinary_error() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("limited");
    let mut command = Command::new("prlimit");
    command
        .arg("--fsize=100")
        .arg(common::snoop().get_program());
    let traced = format!("-cgroup={}", cgroup.path());
    let report = directory.path().join("report.json");
    let mut sidecar = Sidecar::start_by(command, &[&traced, "-interval=1s"], &report);
    let unhealthy = || status(&get(sidecar.port, "/healthz").0) == 503;
    wait_until(unhealthy);
    // The final report cannot be written either, and the exit status shows it.
    signal(&sidecar.child, "TERM");
    assert_eq!(sidecar.child.wait().unwrap().code(), Some(1));
    assert!(!report.exists());
}

#[test]
fn two_snoops_that_write_the_same_file() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let (one, other) = (TestCgroup::make("one"), TestCgroup::make("other"));
    let start = |cgroup: &TestCgroup| {
        let traced = format!("-cgroup={}", cgroup.path());
        Sidecar::start(&[&traced, "-interval=1h", "-pod-name=p"], &report)
    };
    let (first, second) = (start(&one), start(&other));
    for (sidecar, cgroup, name) in [
        (&first, &one, "a"),
        (&second, &other, "b"),
        (&first, &one, "c"),
    ] {
        let file = open_in(cgroup, directory.path(), name);
        signal(&sidecar.child, "HUP");
        wait_until(|| report.exists() && Report::read(&report).files.contains(&file));
    }
    let warned = |log: Vec<(String, String)>| {
        let warned = log.iter().filter(|(level, said)| {
            level == "warn"
                && said.contains("written by another process")
                && said.contains("-report")
        });
        warned.count()
    };
    assert_eq!(
        (warned(first.stop("TERM")), warned(second.stop("TERM"))),
        (1, 1)
    );
}

#[test]
fn reports_of_successive_commands_accumulate() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let files: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| bytes(directory.path().join(name)))
        .collect();
    for file in &files {
        fs::write(Path::new(std::str::from_utf8(file).unwrap()), "").unwrap();
    }
    for (name, flags, expected) in [
        ("a", &["-resume"][..], &files[..1]),
        ("b", &["-resume"], &files[..2]),
        ("c", &[], &files[2..]),
    ] {
        let output = common::snoop()
            .args(["run", "-report"])
            .arg(&report)
            .args(flags)
            .args(["--", "cat"])
            .arg(directory.path().join(name))
            .output()
            .unwrap();
        assert!(output.status.success());
        let found = Report::read(&report);
        assert_has(&found.files, &expected.iter().cloned().collect());
        let mine = found.files.iter().filter(|file| files.contains(file));
        assert_eq!(mine.count(), expected.len());
    }
}
