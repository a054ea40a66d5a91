// SPDX-License-Identifier: MIT OR Apache-2.0
//! What snoop has given up once it traces.

mod common;

use common::{Sidecar, TestCgroup, get, open_in, snoop, status, wait_until};
use snoop::sys::capabilities::{CAP_BPF, CAP_DAC_OVERRIDE};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};

fn capabilities(sidecar: &Sidecar) -> [u64; 3] {
    ["CapInh", "CapPrm", "CapEff"].map(|set| u64::from_str_radix(&sidecar.status(set), 16).unwrap())
}

#[test]
fn no_privileges_no_threads_no_children() {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::make("privileges");
    let traced = format!("-cgroup={}", cgroup.path());
    let sidecar = Sidecar::start(&[&traced], &directory.path().join("report.json"));
    wait_until(|| sidecar.status("Seccomp") == "2");
    assert_eq!(capabilities(&sidecar), [0; 3]);
    for (key, value) in [("NoNewPrivs", "1"), ("Threads", "1")] {
        assert_eq!(sidecar.status(key), value);
    }
    let pid = sidecar.child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert_eq!(children, "");
    sidecar.stop("TERM");
}

/// Root may write to any directory, but needs a capability for that.
#[test]
fn the_capability_that_the_report_needs_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let reports = directory.path().join("reports");
    fs::create_dir(&reports).unwrap();
    chown(&reports, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&reports, fs::Permissions::from_mode(0o755)).unwrap();
    let cgroup = TestCgroup::make("kept");
    let traced = format!("-cgroup={}", cgroup.path());
    let sidecar = Sidecar::start(&[&traced], &reports.join("report.json"));
    wait_until(|| sidecar.status("Seccomp") == "2");
    assert_eq!(
        capabilities(&sidecar),
        [0, CAP_DAC_OVERRIDE, CAP_DAC_OVERRIDE]
    );
    sidecar.stop("TERM");
}

/// strace watches everything that the loop does, and no call is refused.
#[test]
fn the_filter_refuses_no_call_of_the_loop() {
    let directory = tempfile::tempdir().unwrap();
    let above = TestCgroup::make("allowed");
    let cgroup = above.nested("app");
    let traced = format!("-cgroup={}", cgroup.path());
    let trace = directory.path().join("trace");
    let mut command = Command::new("strace");
    command.arg("-o").arg(&trace).arg(snoop().get_program());
    let report = directory.path().join("reports/report.json");
    fs::create_dir(report.parent().unwrap()).unwrap();
    let flags = [&traced[..], "-interval=1s", "-max-unique-files=3"];
    let mut sidecar = Sidecar::start_by(command, &flags, &report);
    for name in ["a", "b", "c", "d"] {
        open_in(&cgroup, directory.path(), name);
        assert_eq!(status(&get(sidecar.port, "/report").0), 200);
    }
    wait_until(|| report.exists());
    // The copy of the report in memory if the file cannot be written, and changes of cgroups.
    fs::remove_file(&report).unwrap();
    for path in ["/report", "/metrics", "/healthz", "/none"] {
        get(sidecar.port, path);
    }
    drop(cgroup);
    let cgroup = above.nested("app");
    open_in(&cgroup, directory.path(), "e");
    let words = fs::read_to_string(format!("/proc/{0}/task/{0}/children", sidecar.child.id()));
    let tracee = words.unwrap().trim().to_string();
    let hang_up = Command::new("kill").args(["-HUP", &tracee]).status();
    assert!(hang_up.unwrap().success());
    wait_until(|| report.exists());
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let ended = Command::new("kill").args(["-TERM", &tracee]).status();
    assert!(ended.unwrap().success());
    assert!(sidecar.child.wait().unwrap().success());

    let trace = fs::read_to_string(trace).unwrap();
    let (_, confined) = trace
        .split_once("SECCOMP_MODE_FILTER")
        .expect("it was confined");
    let refused: Vec<_> = confined
        .lines()
        .filter(|line| line.contains("EPERM"))
        .collect();
    assert_eq!(refused, [""; 0]);
    assert!(confined.lines().count() > 200 && confined.contains("exited with 0"));
}

#[test]
#[ignore = "what the next test starts as a process of its own"]
fn a_confined_process() {
    let directory = tempfile::tempdir().unwrap();
    let sparse = [directory.path().join("file"), directory.path().join("link")];
    fs::write(&sparse[0], "").unwrap();
    snoop::sys::sandbox::drop_capabilities(&[]).unwrap();
    snoop::sys::sandbox::confine().unwrap();

    let refused = |what: &str, result: io::Result<()>| {
        let refused = matches!(&result, Err(e) if e.kind() == ErrorKind::PermissionDenied);
        assert!(refused, "{what}: {result:?}");
    };
    let check = |n: libc::c_long| match n {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    refused("connect", TcpStream::connect("127.0.0.1:1").map(drop));
    refused("symlink", std::os::unix::fs::symlink("/", &sparse[1]));
    refused(
        "chmod",
        fs::set_permissions(&sparse[0], fs::Permissions::from_mode(0o777)),
    );
    // SAFETY: each of these calls is refused before it reads or changes anything.
    unsafe {
        let (null, page) = (std::ptr::null_mut::<libc::c_void>(), 4096usize);
        let executable = libc::PROT_READ | libc::PROT_EXEC;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let mapped = libc::mmap(null, page, executable, anonymous, -1, 0);
        refused("mmap", check(mapped as libc::c_long));
        for (what, number) in [
            ("fork", libc::SYS_clone),
            ("execve", libc::SYS_execve),
            ("ptrace", libc::SYS_ptrace),
            ("setns", libc::SYS_setns),
            ("mount", libc::SYS_mount),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("kill", libc::SYS_kill),
            ("process_vm_readv", libc::SYS_process_vm_readv),
            ("fork of 32 bits' x32", 0x4000_0000 | libc::SYS_clone),
        ] {
            refused(what, check(libc::syscall(number, 0, 0, 0, 0, 0)));
        }
        for command in [0u32, 5, 6, 17, 1 << 31] {
            refused("bpf", check(libc::syscall(libc::SYS_bpf, command, null, 0)));
        }
        // This call is allowed, and finds that there is no such map.
        let mut attributes = [u64::MAX; 4];
        let size = size_of_val(&attributes);
        let looked = check(libc::syscall(libc::SYS_bpf, 1, &mut attributes, size));
        assert_ne!(looked.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    File::open(&sparse[0]).unwrap();
    println!("all as it should be");
    // From here on, a thread cannot even end.
    std::process::exit(0);
}

#[test]
fn the_filter_refuses_all_other_calls() {
    // Tests run as threads, and the filter applies to one thread. So this test runs in its own process.
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_confined_process",
            "--include-ignored",
            "--nocapture",
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("all as it should be"), "{said}{errors}");
}

/// Before Linux 5.19 a kernel setting can make map lookups need a capability, which must then stay.
#[test]
fn capabilities_are_found_by_trying() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_with_needs", "--include-ignored"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "what the test above starts as a process of its own"]
fn a_process_with_needs() {
    let has = |wanted: u64| {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap() & wanted != 0
    };
    const CAP_KILL: u64 = 1 << 5;
    let kept = snoop::sys::sandbox::drop_capabilities(&[
        (&[CAP_BPF, CAP_KILL], &|| has(CAP_KILL)),
        (&[CAP_DAC_OVERRIDE], &|| true),
        (&[CAP_DAC_OVERRIDE], &|| false),
    ]);
    assert_eq!(kept.unwrap(), CAP_KILL);
    assert!(has(CAP_KILL) && !has(!CAP_KILL));
}
