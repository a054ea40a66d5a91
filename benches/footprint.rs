// SPDX-License-Identifier: MIT OR Apache-2.0
//! What snoop itself takes: time, memory, wake-ups. `make bench`.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "ratios/mod.rs"]
mod ratios;

use common::{Report, Sidecar, TestCgroup};
use fxhash::FxHasher;
use ratios::Measured;
use snoop::files::path_tree::PathTree;
use std::fs::{self, File};
use std::hash::Hasher;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

const MIB: f64 = (1 << 20) as f64;

fn main() {
    println!("| | |\n| --- | --- |");
    start_up();
    duplicates();
    many_files();
    churn();
    held_back();
    idle();
    attack();
}

/// Prints a value in MiB, and records it: what memory it takes does not depend on the machine's speed.
fn row_of_memory(what: &str, mib: f64, rest: &str) {
    let noise = 0.0;
    Measured { value: mib, noise }.record("MiB", what);
    row(what, format!("{mib:.1} MiB{rest}"));
}

fn row(what: &str, value: impl std::fmt::Display) {
    println!("| {what} | {value} |");
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

struct Setting {
    cgroup: TestCgroup,
    directory: tempfile::TempDir,
}

impl Setting {
    fn new() -> Setting {
        Setting {
            cgroup: TestCgroup::make("footprint"),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn report(&self) -> PathBuf {
        self.directory.path().join("report.json")
    }

    fn start(&self) -> Sidecar {
        self.start_by(common::snoop())
    }

    fn start_by(&self, command: Command) -> Sidecar {
        let path = self.cgroup.path();
        Sidecar::start_by(command, &["-cgroup", &path, "-interval=1h"], &self.report())
    }

    /// Runs Python code in the traced cgroup.
    fn python(&self, code: &str) {
        let status = self
            .cgroup
            .command("/usr/bin/python3")
            .args(["-S", "-c", code])
            .status();
        assert!(status.unwrap().success(), "{code}");
    }
}

fn proc_file(sidecar: &Sidecar, name: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{name}", sidecar.child.id())).unwrap()
}

/// Nanoseconds on a CPU.
fn cpu(sidecar: &Sidecar) -> u64 {
    let stat = proc_file(sidecar, "schedstat");
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// A number of /proc/PID/status; sizes are in KiB there.
fn status(sidecar: &Sidecar, key: &str) -> u64 {
    let value = sidecar.status(key);
    value.trim_end_matches(" kB").parse().unwrap()
}

fn start_up() {
    let setting = Setting::new();
    let once = || {
        let start = Instant::now();
        let sidecar = setting.start();
        let took = start.elapsed();
        let used = Duration::from_nanos(cpu(&sidecar));
        sidecar.stop("TERM");
        (took, used)
    };
    // Something else that the kernel and the CPU do, to compare with.
    let spawns = || {
        let start = Instant::now();
        for _ in 0..100 {
            assert!(Command::new("/bin/true").status().unwrap().success());
        }
        start.elapsed()
    };
    let runs: Vec<_> = (0..9).map(|_| (once(), spawns())).collect();
    let seconds =
        |times: Vec<Duration>| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    let took: Vec<_> = runs.iter().map(|((took, _), _)| *took).collect();
    let others = seconds(runs.iter().map(|(_, spawns)| *spawns).collect());
    Measured::ratio(&seconds(took.clone()), &others)
        .record("start until attached / 100 runs of /bin/true", "");
    let used = median(runs.iter().map(|((_, used), _)| *used).collect());
    row(
        "start until attached (CPU time)",
        format!("{} ms ({} ms)", median(took).as_millis(), used.as_millis()),
    );
}

fn duplicates() {
    let setting = Setting::new();
    let sidecar = setting.start();
    let before = cpu(&sidecar);
    setting.python("import os\nfor i in range(1000000): os.close(os.open('/etc/passwd', 0))");
    let took = cpu(&sidecar) - before;
    row(
        "own CPU for 1,000,000 opens of a known file",
        format!("{:.1} ms", took as f64 / 1e6),
    );
    sidecar.stop("TERM");
}

/// Python code that makes 100,000 files with paths of 80 bytes, 100 in a directory.
fn make_files(directory: &Path) -> String {
    let root = directory.join("files").display().to_string();
    let middle = "m".repeat(80 - root.len() - "/d00//d00/a-name-of-file-000000".len());
    format!(
        "import os\nfor i in range(100000):\n d='{root}/d%02d/{middle}/d%02d' % (i//10000, i//100%100)\n if i%100==0: os.makedirs(d)\n os.close(os.open('%s/a-name-of-file-%06d' % (d, i), os.O_CREAT))"
    )
}

fn many_files() {
    let setting = Setting::new();
    let sidecar = setting.start();
    let before = cpu(&sidecar);
    setting.python(&make_files(setting.directory.path()));
    sleep(Duration::from_millis(200));
    row(
        "own CPU for 100,000 new files of 80 bytes",
        format!("{} ms", (cpu(&sidecar) - before) / 1_000_000),
    );
    let memory = |when: &str| {
        let all = status(&sidecar, "VmRSS") as f64 / 1024.0;
        let own = status(&sidecar, "RssAnon") as f64 / 1024.0;
        row_of_memory(
            &format!("resident memory {when} (its own part)"),
            all,
            &format!(" ({own:.1} MiB)"),
        );
    };
    memory("with them");
    let maps = sidecar.maps().values().sum::<u64>() as f64 / MIB;
    row_of_memory("BPF maps", maps, "");
    let (mut took, mut used) = (Vec::new(), Vec::new());
    for i in 0..9 {
        setting.python(&format!(
            "import os; os.mkdir('{}/{i}')",
            setting.directory.path().display()
        ));
        let (start, before) = (Instant::now(), cpu(&sidecar));
        common::exchange(
            sidecar.port,
            b"HEAD /report HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        took.push(start.elapsed());
        used.push(Duration::from_nanos(cpu(&sidecar) - before));
    }
    let size = fs::metadata(setting.report()).unwrap().len() as f64 / 1e6;
    row(
        &format!("writing their report of {size:.0} MB (CPU time)"),
        format!(
            "{} ms ({} ms)",
            median(took).as_millis(),
            median(used).as_millis()
        ),
    );
    memory("after that");
    let most = status(&sidecar, "VmHWM") as f64 / 1024.0;
    row_of_memory("the most there was", most, "");
    sidecar.stop("TERM");
    let report = Report::read(&setting.report());
    row("accesses lost", report.number("dropped_events"));
}

/// A million and a half names of 24 bytes, of which 100,000 may be kept.
fn churn() {
    let setting = Setting::new();
    let path = setting.cgroup.path();
    let flags = ["-cgroup", &path, "-interval=1s", "-max-unique-files=100000"];
    let sidecar = Sidecar::start(&flags, &setting.report());
    let before = cpu(&sidecar);
    let directory = setting.directory.path().join("churn");
    fs::create_dir(&directory).unwrap();
    setting.python(&format!(
        "import os\nfor i in range(1500000):\n n='{}/a-name-of-24-bytes-%07d' % i\n os.close(os.open(n, os.O_CREAT))\n os.unlink(n)",
        directory.display()
    ));
    sleep(Duration::from_millis(1500));
    let size = |key| status(&sidecar, key) as f64 / 1024.0;
    row(
        "1,500,000 names with -max-unique-files=100000: resident, the most, own CPU",
        format!(
            "{:.1} MiB, {:.1} MiB, {:.2} s",
            size("VmRSS"),
            size("VmHWM"),
            (cpu(&sidecar) - before) as f64 / 1e9
        ),
    );
    sidecar.stop("TERM");
}

/// Where CPU time can be limited: cgroup v2, or the controller of v1.
fn quota(share: u64) -> PathBuf {
    let name = format!("snoop-bench-{}", std::process::id());
    let v1 = Path::new("/sys/fs/cgroup/cpu");
    if v1.join("cpu.cfs_quota_us").exists() || v1.join("cpu.shares").exists() {
        let group = v1.join(name);
        fs::create_dir(&group).unwrap();
        fs::write(group.join("cpu.cfs_period_us"), "100000").unwrap();
        fs::write(group.join("cpu.cfs_quota_us"), (share * 100).to_string()).unwrap();
        group
    } else {
        let mount = Path::new("/sys/fs/cgroup");
        fs::write(mount.join("cgroup.subtree_control"), "+cpu").unwrap();
        let group = mount.join(name);
        fs::create_dir(&group).unwrap();
        fs::write(group.join("cpu.max"), format!("{} 100000", share * 100)).unwrap();
        group
    }
}

/// As Kubernetes holds a sidecar to its limit.
fn held_back() {
    let group = quota(200);
    for (what, command) in [
        ("100,000 new files", None),
        ("find /usr", Some("find /usr -size +100000k")),
        ("ls -lR /usr", Some("ls -lR /usr")),
    ] {
        let setting = Setting::new();
        let mut snoop = Command::new("/bin/sh");
        let enter = format!(
            "echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"",
            group.display()
        );
        snoop
            .args(["-c", &enter])
            .arg(common::snoop().get_program());
        let sidecar = setting.start_by(snoop);
        match command {
            Some(command) => {
                let mut words = command.split(' ');
                let mut command = setting.cgroup.command(words.next().unwrap());
                let out = File::create("/dev/null").unwrap();
                assert!(command.args(words).stdout(out).status().unwrap().success());
            }
            None => setting.python(&make_files(setting.directory.path())),
        }
        sidecar.stop("TERM");
        let report = Report::read(&setting.report());
        let (lost, all) = (
            report.number("dropped_events"),
            report.number("total_events"),
        );
        row(
            &format!("lost of {what}, held to 200m CPU"),
            format!("{lost} of {all}"),
        );
    }
    fs::remove_dir(group).unwrap();
}

fn idle() {
    let setting = Setting::new();
    let sidecar = setting.start();
    sleep(Duration::from_secs(1));
    let wakes = |s: &Sidecar| status(s, "voluntary_ctxt_switches");
    let before = (cpu(&sidecar), wakes(&sidecar));
    sleep(Duration::from_secs(120));
    let after = (cpu(&sidecar), wakes(&sidecar));
    let minute = |n: u64| n as f64 / 2.0;
    row(
        "idle: CPU a minute",
        format!("{:.2} ms", minute(after.0 - before.0) / 1e6),
    );
    row("idle: wake-ups a minute", minute(after.1 - before.1));
    let size = |key| status(&sidecar, key) as f64 / 1024.0;
    row_of_memory(
        "idle: resident memory (its own part)",
        size("VmRSS"),
        &format!(" ({:.1} MiB)", size("RssAnon")),
    );
    sidecar.stop("TERM");
}

/// Names that meet in fxhash, against as many that do not.
fn attack() {
    let wanted = u64::from_le_bytes(*b"the same");
    let path =
        |words: [u64; 2]| [&b"/directory/"[..], &words.map(u64::to_le_bytes).concat()].concat();
    let is_name = |path: &Vec<u8>| !path[11..].iter().any(|b| matches!(b, 0 | b'/'));
    let first = |i: u64| u64::from_le_bytes(*b"name0000") ^ (i << 24);
    let made = |i: u64| {
        let mut hasher = FxHasher::default();
        hasher.write_u64(first(i));
        path([first(i), hasher.finish().rotate_left(5) ^ wanted])
    };
    let other = |i: u64| path([first(i), wanted]);
    let time = |paths: &[Vec<u8>]| {
        let once = || {
            let mut tree = PathTree::default();
            let start = Instant::now();
            for path in paths {
                black_box(tree.hold(path));
            }
            start.elapsed()
        };
        median((0..9).map(|_| once()).collect())
    };
    let made: Vec<_> = (0..120_000)
        .map(made)
        .filter(is_name)
        .take(100_000)
        .collect();
    let others: Vec<_> = (0..120_000)
        .map(other)
        .filter(is_name)
        .take(made.len())
        .collect();
    let ratio = time(&made).as_secs_f64() / time(&others).as_secs_f64();
    row(
        &format!(
            "{} names made to meet in fxhash, against others",
            made.len()
        ),
        format!("{ratio:.2} ×"),
    );
}
