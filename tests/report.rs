// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report's file under all that can happen to it: whoever looks finds a whole report, and nothing that was in one
//! is lost.

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

/// A number below `end`, of no pattern.
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
    // How many are killed in the middle of a write depends on the machine's speed; enough of them have to be.
    while rounds < 200 || in_the_middle < 30 {
        assert!(rounds < 20_000, "{in_the_middle} in the middle");
        // In turn the first file of all, which may be there or not, and one in place of another.
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
fn a_snoop_that_is_killed_goes_on_where_it_was() {
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
        // Many writes, and the end in the middle of one.
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
    // It is one container, all runs counted: each time an execution and what the C library reads, twice, and the opens.
    let containers = last.json["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    assert!(last.number("total_events") >= 25 * 4);
    assert_eq!(containers[0]["total_events"], last.json["total_events"]);
}

/// A small file system of its own.
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

#[test]
fn reports_that_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::mount(&directory.path().join("disk"), "size=256k");
    let reports = disk.0.join("reports");
    fs::create_dir(&reports).unwrap();
    let report = reports.join("report.json");
    let cgroup = TestCgroup::make("unwritten");
    let traced = format!("-cgroup={}", cgroup.path());
    let sidecar = Sidecar::start(&[&traced, "-interval=1s"], &report);
    let errors = || metrics(sidecar.port)["snoop_report_write_errors_total"];
    let junk = disk.0.join("junk");
    let strace: RefCell<Option<Child>> = RefCell::default();

    type Step<'a> = &'a dyn Fn();
    let faults: [(&str, Step, Step); 5] = [
        (
            "No space left",
            &|| {
                let mut junk = fs::File::create(&junk).unwrap();
                while junk.write_all(&[0; 4096]).is_ok() {}
            },
            &|| fs::remove_file(&junk).unwrap(),
        ),
        (
            "uota exceeded", // musl and glibc say it differently
            &|| {
                *strace.borrow_mut() = Some(sidecar.inject("fsync", "error=EDQUOT"));
            },
            &|| {
                let mut strace = strace.take().unwrap();
                signal(&strace, "INT");
                strace.wait().unwrap();
            },
        ),
        ("Read-only", &|| disk.remount("ro"), &|| disk.remount("rw")),
        (
            "No such file",
            // It fails where a report is written just now.
            &|| wait_until(|| fs::remove_dir_all(&reports).is_ok()),
            &|| fs::create_dir(&reports).unwrap(),
        ),
        (
            "Is a directory",
            &|| {
                fs::remove_file(&report).unwrap();
                fs::create_dir(&report).unwrap();
            },
            &|| fs::remove_dir(&report).unwrap(),
        ),
    ];
    let mut expected = Files::new();
    for (i, (why, break_it, mend_it)) in faults.iter().enumerate() {
        wait_until(|| report.is_file());
        let before = errors();
        break_it();
        expected.insert(open_in(&cgroup, directory.path(), &format!("during-{i}")));
        // Tried again and again.
        wait_until(|| errors() >= before + 2.0);
        let (head, body) = get(sidecar.port, "/healthz");
        assert_eq!(status(&head), 503);
        assert!(body.contains(why), "{why}: {body}");
        // The listener serves all the same.
        assert_has(
            &Report::parse(get(sidecar.port, "/report").1.as_bytes()).files,
            &expected,
        );
        mend_it();
        wait_until(|| report.is_file() && expected.is_subset(&Report::read(&report).files));
        assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
        assert_eq!(temporary_files(&reports), [""; 0].map(PathBuf::from));
    }

    // A symlink is no fault; it is not followed.
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    fs::remove_file(&report).unwrap();
    symlink(&elsewhere, &report).unwrap();
    expected.insert(open_in(&cgroup, directory.path(), "linked"));
    wait_until(|| report.symlink_metadata().unwrap().is_file());
    assert_has(&Report::read(&report).files, &expected);
    assert_eq!(fs::read(&elsewhere).unwrap(), b"mine");

    let reasons = faults.map(|(why, ..)| why);
    let log = sidecar.stop("TERM");
    let errors: Vec<_> = log.iter().filter(|(level, _)| level == "error").collect();
    assert_eq!(errors.len(), reasons.len(), "{errors:?}");
    for ((_, said), why) in errors.iter().zip(reasons) {
        assert!(
            said.contains(why) && said.contains("trying again"),
            "{said}"
        );
    }
    let warnings: Vec<_> = log.iter().filter(|(level, _)| level == "warn").collect();
    assert!(
        matches!(&warnings[..], [(_, said)] if said.contains("written by another process")),
        "{warnings:?}"
    );
}

/// Nobody's application waits because a disk is full when snoop starts.
#[test]
fn a_disk_that_is_full_from_the_start() {
    let directory = tempfile::tempdir().unwrap();
    // Its root, and two files.
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
fn a_limit_of_file_sizes_is_an_error_like_others() {
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
    // The last report cannot be written either, and the exit status says so.
    signal(&sidecar.child, "TERM");
    assert_eq!(sidecar.child.wait().unwrap().code(), Some(1));
    assert!(!report.exists());
}

#[test]
fn two_that_write_the_same_file() {
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
fn runs_of_commands_that_add_up() {
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
