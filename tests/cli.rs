// SPDX-License-Identifier: MIT OR Apache-2.0
//! The binary seen from outside: exit status, standard output and standard error.

mod common;

use common::{Report, snoop};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Asserts that the binary ended with this status and wrote one line of error that contains each of the words.
fn assert_refused(output: &Output, status: i32, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    assert!(said.starts_with("snoop: "), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

/// Runs a script in its own mount namespace, with the binary as $0.
fn in_private_mounts(script: &str) -> Output {
    Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-ec",
            script,
        ])
        .arg(snoop().get_program())
        .output()
        .unwrap()
}

#[test]
fn help_and_version() {
    let printed = |words: &[&str]| {
        let output = snoop().args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}");
        assert_eq!(text(&output.stderr), "", "{words:?}");
        text(&output.stdout)
    };
    for word in ["-help", "--help", "-h", "help"] {
        assert_eq!(printed(&[word]), snoop::args::help());
    }
    let version = format!("snoop {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed(&["-version"]), version);
    for name in ["run", "check", "health", "closure", "unused"] {
        let own = printed(&["help", name]);
        assert!(own.starts_with(&format!("Usage: snoop {name}")), "{own}");
        assert_eq!(printed(&[name, "-help"]), own);
        assert_eq!(printed(&[name, "-version"]), version);
    }
}

#[test]
fn a_closed_standard_output_is_an_error_and_no_panic() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = snoop().arg("-help").stdout(full).output().unwrap();
    assert_refused(&output, 1, &["cannot write to standard output", "No space"]);
}

#[test]
fn wrong_usage() {
    for (words, said) in [
        (&["-frobnicate"][..], &["-frobnicate", "snoop -help"][..]),
        (
            &["-cgroup=/x", "-interval=soon"],
            &["-interval=soon: ", "1m30s"],
        ),
        (
            &["-cgroup=/x", "-max-unique-files=-1"],
            &["-max-unique-files=-1: ", "4294967295"],
        ),
        (
            &["-cgroup=/x", "-max-unique-files=x"],
            &["-max-unique-files=x: "],
        ),
        (
            &["-cgroup=/x", "-report=/no/such/dir/r.json"],
            &["-report=/no/such/dir", "mount a volume"],
        ),
        (
            &["-cgroup=/x", "-report=/tmp"],
            &["-report=/tmp", "name of a file"],
        ),
        (
            &["-report=-", "-cgroup=no-such-container"],
            &[
                "-cgroup=no-such-container",
                "not the name or id of a container",
            ],
        ),
        (
            &["-report=-", "-cgroup=/tmp"],
            &["/tmp", "not a cgroup v2 directory"],
        ),
        (
            &["-report=-", "-cgroup=$(cat /data/cgroup-path)"],
            &["$(cat", "@FILE"],
        ),
        // snoop listens before it looks for its pod, and port 9090 may be taken.
        (
            &["-report=-", "-metrics-addr="],
            &["cannot tell which pod", "-cgroup=PATH"],
        ),
        (&["run", "-report=-"], &["a command is missing"]),
        (&["-report", "x", "check"], &["write snoop check"]),
        (
            &["help", "me"],
            &["help me: ", "run, node, check, health, closure, unused"],
        ),
    ] {
        assert_refused(&snoop().args(words).output().unwrap(), 2, said);
    }
}

#[test]
fn a_read_only_report_directory() {
    let output =
        in_private_mounts("mount -t tmpfs -o ro none /mnt; exec \"$0\" -cgroup=/ -report=/mnt/r");
    assert_refused(&output, 2, &["-report=/mnt/r", "cannot write", "Read-only"]);
}

#[test]
fn a_cgroup_of_version_1() {
    let output = in_private_mounts(
        "mount -t cgroup -o none,name=snoop-test none /mnt; exec \"$0\" -cgroup=/mnt -report=-",
    );
    assert_refused(&output, 2, &["/mnt", "cgroup v1", "cgroup v2"]);
}

#[test]
fn missing_capabilities() {
    let with = |less: &str| {
        let mut setpriv = Command::new("setpriv");
        setpriv
            .arg(format!("--bounding-set={less}"))
            .arg(snoop().get_program());
        setpriv.args(["-cgroup=/", "-report=-"]).output().unwrap()
    };
    let said = &["missing capabilities: BPF;", "capabilities.add"];
    assert_refused(&with("-sys_admin,-bpf"), 1, said);
    let said = &["missing capabilities: BPF, PERFMON"];
    assert_refused(&with("-all"), 1, said);
}

#[test]
fn a_user_who_is_not_root() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let copy = directory.path().join("snoop");
    common::container::copy_program(Path::new(snoop().get_program()), &copy);
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["run", "-report", "r.json", "true"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_refused(
        &output,
        1,
        &["missing capabilities: BPF, PERFMON", "run as root"],
    );
}

#[test]
fn a_kernel_without_type_information() {
    let script = "mount -t tmpfs none /sys/kernel; echo 1 > /sys/kernel/uevent_seqnum; exec \"$0\" -cgroup=/ -report=-";
    assert_refused(
        &in_private_mounts(script),
        1,
        &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"],
    );
    for mask in [
        "mount -t tmpfs none /sys/kernel",
        "mount --bind /dev/null /sys/kernel/btf/vmlinux",
    ] {
        let script = format!("{mask}; exec \"$0\" -cgroup=/ -report=-");
        let said = &["/sys/kernel/btf/vmlinux is masked", "unmask=/sys/kernel"];
        assert_refused(&in_private_mounts(&script), 1, said);
    }
    // The file exists but does not contain type information.
    let script = "mount -t tmpfs none /sys/kernel/btf; echo garbage, not BTF at all > /sys/kernel/btf/vmlinux; \
        exec \"$0\" -cgroup=/ -report=-";
    assert_refused(
        &in_private_mounts(script),
        1,
        &["unsupported kernel", "magic number"],
    );
}

/// Unmounts all cgroups, wherever they are mounted. Other programs may have mounted them too.
const NO_CGROUPS: &str =
    "awk '$3 ~ /^cgroup/ { print $2 }' /proc/self/mounts | xargs umount --lazy";

#[test]
fn a_host_without_cgroup_v2() {
    let script = format!("{NO_CGROUPS}; exec \"$0\" -cgroup=/ -report=-");
    assert_refused(
        &in_private_mounts(&script),
        1,
        &["no cgroup v2 is mounted", "mount -t cgroup2"],
    );
}

#[test]
fn check_says_what_works_and_what_is_missing() {
    let output = snoop().arg("check").output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    for words in [
        "BTF           found",
        "attached      tp_btf/sys_exit",
        "snoop's pod   no: cannot tell which pod",
        "-cgroup       yes: all below /",
        "snoop run     yes: ",
        "can be traced.",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let output = in_private_mounts("mount -t tmpfs none /sys/kernel/btf; exec \"$0\" check");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("BTF           masked"), "{said}");
    assert!(
        said.contains("cannot be traced: /sys/kernel/btf/vmlinux is masked"),
        "{said}"
    );
    assert_eq!(text(&output.stderr), "");
}

/// The programs can be attached, but there is no way to select cgroups.
#[test]
fn check_reports_on_each_way_to_use_snoop() {
    let output = in_private_mounts(&format!("{NO_CGROUPS}; exec \"$0\" check"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in [
        "cgroup v2     not mounted",
        "attached      tp_btf/sys_exit",
        "snoop's pod   no: ",
        "-cgroup       no: no cgroup v2 is mounted",
        "snoop run     no: no cgroup v2 is mounted",
        "This host cannot be traced in any of these ways.",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// In a user namespace a process has all capabilities, but they do not allow bpf(2).
#[test]
fn a_user_namespace() {
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(snoop().get_program())
        .args(["-cgroup=/", "-report=-"])
        .output()
        .unwrap();
    let said = ["user namespace", "as root of the host", "hostUsers: false"];
    assert_refused(&output, 1, &said);
}

#[test]
fn run_returns_the_status_of_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let status = |command: &[&str]| {
        let mut run = snoop();
        run.args(["run", "-report", "r.json", "--"]).args(command);
        run.current_dir(directory.path()).output().unwrap()
    };
    assert_eq!(status(&["sh", "-c", "exit 3"]).status.code(), Some(3));
    assert_eq!(
        status(&["sh", "-c", "kill -TERM $$"]).status.code(),
        Some(128 + 15)
    );
    assert_refused(
        &status(&["no-such-command"]),
        127,
        &["no-such-command", "not found"],
    );
    assert_refused(&status(&["/no/such"]), 127, &["/no/such", "not found"]);
    fs::write(directory.path().join("plain"), "text").unwrap();
    assert_refused(
        &status(&["./plain"]),
        126,
        &["cannot execute \"./plain\"", "denied"],
    );
    let output = status(&["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("out\n".into(), "err\n".into())
    );
}

#[test]
fn run_removes_its_cgroup_and_reports_what_still_runs() {
    let directory = tempfile::tempdir().unwrap();
    let output = snoop()
        .args(["run", "-report", "r.json", "--", "sh", "-c"])
        // Once it sleeps, it has shown which ELF interpreter it has.
        .arg("cat /proc/self/cgroup; sleep 1000 >/dev/null 2>&1 & until grep -q nanosleep /proc/$!/wchan; do :; done; echo $!")
        .current_dir(directory.path())
        .output()
        .unwrap();
    let left = text(&output.stdout).lines().last().unwrap().to_string();
    let ended = Command::new("kill").args(["-KILL", &left]).status();
    assert!(ended.unwrap().success());
    let log: Vec<_> = text(&output.stderr).lines().map(common::log_line).collect();
    let warning = |said: &str| ("warn".to_string(), said.to_string());
    assert_eq!(
        log,
        [
            warning("1 process is still running after the command and no longer traced"),
            warning("the report is not complete: left_running: 1"),
        ]
    );
    let report = Report::read(&directory.path().join("r.json"));
    assert_eq!(
        report.json["missing"],
        serde_json::json!({"left_running": 1})
    );
    let cgroup = text(&output.stdout);
    let path = cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap()
        .to_string();
    assert!(path.contains("/snoop-run-"), "{path}");
    let mount = snoop::cgroup::find_mount(&fs::read("/proc/self/mountinfo").unwrap()).unwrap();
    assert!(!mount.join(&path[1..]).exists());
}

/// The report replaces what has its name, which must not happen to what the whole machine uses.
#[test]
fn no_device_is_replaced_by_a_report() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    for (report, why) in [
        ("/dev/null", "this is a device"),
        ("/dev/stdout", "this is a device"),
        ("/dev/new", "this is a device"),
        (link.to_str().unwrap(), "this is a device"),
        ("new/", "this names a directory"),
    ] {
        let output = snoop()
            .args(["run", "-report", report, "--", "touch", "ran"])
            .current_dir(directory.path())
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{report}: {said}");
        assert!(said.contains(&format!("-report={report}: {why}")), "{said}");
        assert!(!directory.path().join("ran").exists());
    }
    for device in ["/dev/null", "/dev/full"] {
        let kind = fs::symlink_metadata(device).unwrap().file_type();
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(&kind));
    }
}

/// The shell opens files for the command, so no call of the command names them.
#[test]
fn run_lists_files_that_the_command_inherits() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["in", "out", "three", "closed"] {
        fs::write(directory.path().join(name), "x").unwrap();
    }
    let script = "exec 4<closed 4<&-; \"$0\" run -report r.json -- cat <in >>out 3<three";
    let status = Command::new("sh")
        .args(["-ec", script])
        .arg(snoop().get_program())
        .current_dir(directory.path())
        .status();
    assert!(status.unwrap().success());
    let report = Report::read(&directory.path().join("r.json"));
    let is_listed = |name: &str| {
        report
            .files
            .contains(&common::bytes(directory.path().join(name)))
    };
    let found = ["in", "out", "three", "closed"].map(is_listed);
    // An image need not contain a file to which the command can only write.
    assert_eq!(found, [true, false, true, false]);
    report.assert_complete();
}

#[test]
fn run_passes_signals_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = snoop()
        .args(["run", "-report", "r.json", "--", "sh", "-c"])
        .arg("trap 'echo > stopped; exit 7' TERM; echo > ready; while :; do sleep 0.05; done")
        .current_dir(directory.path())
        .spawn()
        .unwrap();
    common::wait_until(|| directory.path().join("ready").exists());
    common::signal(&child, "TERM");
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(7), None));
    assert!(directory.path().join("stopped").exists());
    Report::read(&directory.path().join("r.json")).assert_complete();
}

#[test]
fn a_report_on_standard_output() {
    let output = snoop().args(["run", "-report=-", "true"]).output().unwrap();
    assert!(output.status.success());
    let report = Report::parse(&output.stdout);
    assert!(report.files.contains(&b"/lib64/ld-linux-x86-64.so.2"[..]));
}

#[test]
fn an_error_contains_the_verifiers_log() {
    use snoop::bpf::features::{KernelFeatures, Quirks};
    use snoop::bpf::hooks::{Buffer, Rung};
    use snoop::bpf::settings::Settings;
    use snoop::bpf::wire::KNOWN_BITS;
    use snoop::{bpf::probe, path::Excludes, preflight};
    let mut layout = preflight::layout(Buffer::Ring).unwrap();
    // The member is outside its structure, so no typed load can reach it.
    layout.offsets.task_fs = 1 << 20;
    let excludes = Excludes::default();
    let settings = Settings {
        rung: Rung::Syscall,
        buffer: Buffer::Ring,
        layout: &layout,
        quirks: Quirks::of(&KernelFeatures::ALL),
        excludes: &excludes,
        known_bits: KNOWN_BITS,
    };
    let Err(error) = probe::Probe::load(&settings) else {
        panic!("the verifier accepted a load out of bounds");
    };
    // Nothing of the failed attempt is left, neither its maps nor the programs that were already loaded.
    let held = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let held = held.filter_map(|fd| fs::read_link(fd.path()).ok());
    let held: Vec<_> = held
        .filter(|to| to.to_string_lossy().contains("bpf-"))
        .collect();
    assert_eq!(held, [""; 0].map(std::path::PathBuf::from));
    let said = error.to_string();
    assert_eq!(error.status, 1);
    assert!(
        said.starts_with("the kernel's verifier rejects the BPF program "),
        "{said}"
    );
    assert!(said.contains("1048576"), "{said}");
    assert!(said.lines().count() > 3, "{said}");
}
