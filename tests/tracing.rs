// SPDX-License-Identifier: MIT OR Apache-2.0
//! Known workloads on the running kernel: the report lists exactly the files that they used.

mod common;

use common::{
    Files, Report, TestCgroup, assert_has, assert_same, bytes, helper, run, run_quietly, show,
};
use snoop::bpf::btf::{self, Member};
use snoop::bpf::features::Feature;
use snoop::bpf::hooks::{Buffer, Rung};
use snoop::bpf::layout;
use snoop::bpf::probe::Probe;
use snoop::bpf::settings::Settings;
use snoop::bpf::syscalls;
use snoop::bpf::wire::{KNOWN_BITS, Outcome, Record, Target};
use snoop::collect::access_paths::AccessPaths;
use snoop::path::Excludes;
use snoop::preflight::{self, Choices, Plan};
use snoop::ring::Records;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

/// Syscalls of the table that a test cannot make, because they change the whole machine or the kernel no longer has
/// them. `interpreter` and `loader` stand for the files that the kernel opens for exec, `other` for what the resolver's hooks
/// see of no syscall.
const NOT_CALLED: [&str; 8] = [
    "acct",
    "interpreter",
    "loader",
    "other",
    "quotactl",
    "swapoff",
    "swapon",
    "uselib",
];

#[test]
fn every_syscall_of_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().canonicalize().unwrap();
    let setup = Command::new(helper()).arg("setup").arg(&top).status();
    assert!(setup.unwrap().success());

    // /dev/ is not excluded, because the names that execveat makes up must not appear.
    let (output, report) = run(
        &["-exclude=/proc/"],
        &[helper().as_os_str(), OsStr::new("run"), top.as_os_str()],
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    report.assert_complete();

    let mut expected = Files::from([bytes(helper())]);
    let mut called = BTreeSet::new();
    for item in output
        .stdout
        .split(|b| *b == 0)
        .filter(|item| !item.is_empty())
    {
        let colon = item.iter().position(|b| *b == b':').unwrap();
        match (&item[..colon], &item[colon + 1..]) {
            (b"path", path) => _ = expected.insert(path.to_vec()),
            (b"call", name) => _ = called.insert(String::from_utf8(name.to_vec()).unwrap()),
            (what, name) => panic!(
                "this kernel {} {}",
                String::from_utf8_lossy(what),
                String::from_utf8_lossy(name)
            ),
        }
    }
    let in_table: BTreeSet<_> = syscalls::counted_rows()
        .map(|(_, name)| name.to_string())
        .collect();
    called.extend(NOT_CALLED.map(String::from));
    called.insert("late".into()); // not a syscall
    called.insert("io_uring_setup".into()); // counts where requests cannot be traced
    assert_eq!(called, in_table, "each syscall of the table is called");
    assert_same(&report.files, &expected);
}

fn real(path: &str) -> Vec<u8> {
    bytes(fs::canonicalize(path).unwrap())
}

/// Returns the files that a dynamic program needs to start, according to ldd(1), and their real paths.
fn libraries(program: &str) -> Files {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    let files: Files = paths.flat_map(|path| [bytes(path), real(path)]).collect();
    assert!(files.len() >= 2, "{program} is not dynamic");
    files
}

#[test]
fn script_interpreter_loader_and_libraries() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    let interpreter = directory.path().join("interpreter");
    // The interpreter that the script names is a symlink. On most systems its target is a symlink too.
    std::os::unix::fs::symlink("/bin/sh", &interpreter).unwrap();
    fs::write(&script, format!("#!{}\ntrue\n", interpreter.display())).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, executable).unwrap();

    let report = run_quietly(&[], &[&script]);
    report.assert_complete();
    let mut wanted = libraries("/bin/sh");
    let loader = text_of_interpreter("/bin/sh");
    assert!(wanted.contains(&real(&loader)) && wanted.contains(loader.as_bytes()));
    wanted.extend([bytes(&script), bytes(&interpreter), real("/bin/sh")]);
    assert_has(&report.files, &wanted);
}

/// As in a container, the root directory is an overlay, whose files stand for files of a lower layer.
#[test]
fn a_program_on_an_overlay() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().canonicalize().unwrap();
    let (lower, merged) = (top.join("lower"), top.join("merged"));
    for name in ["upper", "work", "merged"] {
        fs::create_dir(top.join(name)).unwrap();
    }
    let loader = text_of_interpreter("/bin/sh");
    let mut expected = Files::new();
    for file in libraries("/bin/sh").into_iter().chain([real("/bin/sh")]) {
        // Every path leads through a symlink to the directory "real", as on systems with a merged /usr.
        let file = Path::new(OsStr::from_bytes(&file))
            .strip_prefix("/")
            .unwrap()
            .to_path_buf();
        let copy = lower.join("real").join(&file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(Path::new("/").join(&file), copy).unwrap();
        let link = lower.join(&file);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(Path::new("/real").join(&file), link).unwrap();
        if bytes(Path::new("/").join(&file)) == loader.as_bytes() {
            expected.extend([
                bytes(merged.join(&file)),
                bytes(merged.join("real").join(&file)),
            ]);
        }
    }
    let shell = String::from_utf8(real("/bin/sh")).unwrap();
    expected.extend([bytes(format!("{}{shell}", merged.display()))]);
    expected.extend([bytes(format!("{}/real{shell}", merged.display()))]);
    let script = format!(
        "mount -t overlay -o lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work none {top}/merged && exec chroot {top}/merged {shell} -c :",
        top = top.display()
    );
    let command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "/bin/sh",
        "-c",
        &script,
    ];
    let report = run_quietly(&[], &command);
    report.assert_complete();
    assert_has(&report.files, &expected);
}

/// Returns the loader that a program names (PT_INTERP).
fn text_of_interpreter(program: &str) -> String {
    let elf = fs::read(program).unwrap();
    let at = elf.windows(4).position(|w| w == b"/lib").unwrap();
    let end = elf[at..].iter().position(|b| *b == 0).unwrap();
    String::from_utf8(elf[at..at + end].to_vec()).unwrap()
}

/// Creates the files NAME-0 to NAME-(n-1) for each NAME below `names`.
fn make_files(directory: &Path, names: usize, n: usize) -> Files {
    let mut files = Files::new();
    for name in 0..names {
        for i in 0..n {
            let path = directory.join(format!("{name}-{i}"));
            fs::write(&path, "").unwrap();
            files.insert(bytes(path));
        }
    }
    files
}

#[test]
fn a_thousand_short_processes() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = make_files(directory.path(), 1, 1000);
    let top = directory.path().display();
    // Each process executes its own program and opens its own file. The helper may be on another file system.
    let program = directory.path().join("program");
    common::container::copy_program(helper(), &program);
    for i in 0..1000 {
        let copy = directory.path().join(format!("p{i}"));
        fs::hard_link(&program, &copy).unwrap();
        expected.insert(bytes(copy));
    }
    let script = format!(
        "i=0; while [ $i -lt 1000 ]; do {top}/p$i opens 1 {top} < {top}/0-$i & i=$((i+1)); [ $((i % 50)) = 0 ] && wait; done; wait"
    );
    let report = run_quietly(&[], &["/bin/sh", "-c", &script]);
    report.assert_complete();
    assert_has(&report.files, &expected);
}

#[test]
fn sixty_four_threads_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = make_files(directory.path(), 64, 53);
    expected.insert(bytes(helper()));
    let top = directory.path().to_str().unwrap();
    let report = run_quietly(
        &[],
        &[helper().to_str().unwrap(), "threads", "64", "53", top],
    );
    report.assert_complete();
    // To start threads, the C library reads about the machine in files below excluded prefixes.
    assert_same(&report.files, &expected);
}

/// Returns what became of the accesses of a command, from the last line of the log: total, new, known, excluded, failed,
/// lost.
fn totals(flags: &[&str], command: &[&str]) -> [u64; 6] {
    let flags = [&["-log-level=info"], flags].concat();
    let (output, report) = run(&flags, command);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    report.assert_complete();
    let (_, line) = common::log_line(log.lines().last().unwrap());
    let numbers = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok());
    let numbers: Vec<u64> = numbers.collect();
    assert_eq!(numbers[0], report.files.len() as u64, "{line}");
    let totals: [u64; 6] = numbers[1..7].try_into().unwrap();
    assert_eq!(totals[0], totals[1..].iter().sum::<u64>(), "{line}");
    assert_eq!(totals[0], report.number("total_events"));
    assert_eq!(totals[0], report.json["containers"][0]["total_events"]);
    totals
}

#[test]
fn every_access_is_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    make_files(directory.path(), 1, 1);
    let (helper, top) = (
        helper().to_str().unwrap(),
        directory.path().to_str().unwrap(),
    );
    let more = |than: [u64; 6], n: [u64; 6]| std::array::from_fn(|i| than[i] + n[i]);

    // The program itself is new, and its C library may read about itself below /proc. The numbers of accesses that
    // follow are prime.
    let nothing = totals(&[], &[helper, "nop"]);
    assert_eq!(nothing, [1 + nothing[3], 1, 0, nothing[3], 0, 0]);
    let failed = totals(&[], &[helper, "fails", "1009"]);
    assert_eq!(failed, more(nothing, [1009, 0, 0, 0, 1009, 0]));

    // A shell opens the same file again and again. The shell has accesses of its own.
    let script = "i=0; while [ $i -lt 211 ]; do i=$((i+1)); : < $0/0-0; done";
    let idle = "i=0; while [ $i -lt 211 ]; do i=$((i+1)); done";
    let without = totals(&[], &["/bin/sh", "-c", idle, top]);
    let with = totals(&[], &["/bin/sh", "-c", script, top]);
    assert_eq!(with, more(without, [211, 1, 210, 0, 0, 0]));

    // One prefix is tested by the kernel, and a longer one by snoop in user space.
    let excluded = more(without, [211, 0, 0, 211, 0, 0]);
    assert_eq!(
        totals(&["-exclude", top], &["/bin/sh", "-c", script, top]),
        excluded
    );
    let long = format!("{top}/{}", "long".repeat(20));
    fs::create_dir(&long).unwrap();
    fs::write(format!("{long}/0-0"), "").unwrap();
    let hidden = totals(&["-exclude", &long], &["/bin/sh", "-c", script, &long]);
    assert_eq!(hidden[1], without[1]);
    assert_eq!(hidden[0], without[0] + 211);
}

/// Loads only the programs and attaches them to a cgroup. The test controls the clock.
fn probe_on(cgroup: &TestCgroup) -> (Probe, Records<bpf_sys::direct::Map>) {
    probe_on_kernel(cgroup, &fs::read("/sys/kernel/btf/vmlinux").unwrap())
}

fn plan(buffer: Option<Buffer>) -> Plan {
    let facts = preflight::facts::look(Path::new("/"));
    let choices = Choices {
        buffer,
        ..Choices::default()
    };
    preflight::plan(&facts, choices).unwrap()
}

/// Like [`probe_on`], with type information that differs from the kernel's.
fn probe_on_kernel(cgroup: &TestCgroup, btf: &[u8]) -> (Probe, Records<bpf_sys::direct::Map>) {
    let wanted = env::var("SNOOP_BUFFER").ok();
    let wanted = wanted.and_then(|name| Buffer::parse(&name));
    let plan = plan(wanted);
    let layout = layout::layout(&mut Cursor::new(btf), plan.buffer).unwrap();
    let excludes = Excludes::default();
    let settings = Settings {
        layout: &layout,
        quirks: plan.quirks,
        rung: Rung::Syscall,
        buffer: plan.buffer,
        excludes: &excludes,
        known_bits: KNOWN_BITS,
    };
    let (mut probe, map) = Probe::load(&settings).unwrap();
    let id = snoop::sys::files::cgroup_id(cgroup.directory()).unwrap();
    probe.attach().unwrap();
    probe.target(id, Target::Processes).unwrap();
    (probe, Records::open(map, plan.buffer).unwrap())
}

/// As on Linux 5.4 under lockdown=confidentiality, the programs load but read zeroes.
#[test]
fn programs_that_read_zeroes_are_noticed() {
    let plan = plan(Some(Buffer::Perf));
    let mut layout = preflight::layout(plan.buffer).unwrap();
    // This pointer is null outside file system code.
    let null = Member {
        structure: "task_struct",
        names: &["journal_info"],
    };
    let btf = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let found = btf::find(&mut Cursor::new(btf), &[null], &[]).unwrap();
    layout.offsets.task_cgroups = found.members[0].unwrap();
    let (mut probe, _records) = Probe::load(&Settings {
        layout: &layout,
        quirks: plan.quirks,
        rung: Rung::Syscall,
        buffer: plan.buffer,
        excludes: &Excludes::default(),
        known_bits: KNOWN_BITS,
    })
    .unwrap();
    probe.attach().unwrap();
    let error = probe.target(1, Target::Processes).unwrap_err().to_string();
    assert!(error.contains("forbids programs to read"), "{error}");
}

/// The kernel appears to lack a member of a structure.
#[test]
fn a_missing_member_is_named_and_disables_only_its_feature() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("0-0");
    fs::write(&file, "").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for (member, part, lists_real) in [
        ("saved_auxv", Feature::ElfInterp, true),
        ("d_hash", Feature::Paths, false),
    ] {
        let mut btf = fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let name = [b"\0", member.as_bytes(), b"\0"].concat();
        let at = btf
            .windows(name.len())
            .position(|found| found == name)
            .unwrap();
        btf[at + 1] = b'?';
        let cgroup = TestCgroup::make(member);
        let (probe, mut records) = probe_on_kernel(&cgroup, &btf);
        let [lost] = probe.lost() else {
            panic!("{:?}", probe.lost());
        };
        assert_eq!(lost.feature, part);
        assert!(lost.why.contains(member), "{}", lost.why);

        let status = cgroup.command("/bin/cat").arg(&link).status();
        assert!(status.unwrap().success());
        let mut files = Files::new();
        records.read(usize::MAX, |bytes| {
            let named = AccessPaths::of(&Record::decode(bytes).unwrap());
            files.extend(
                named
                    .requested()
                    .into_iter()
                    .chain(named.real())
                    .map(<[u8]>::to_vec),
            );
        });
        assert_has(&files, &[bytes("/bin/cat"), bytes(&link)].into());
        assert_eq!(
            files.contains(&bytes(&file)),
            lists_real,
            "{}",
            show(&files)
        );
    }
}

/// If a process is killed before its loader runs, the name of the loader never becomes known.
#[test]
fn a_loader_that_never_ran_counts_as_lost() {
    let cgroup = TestCgroup::make("killed");
    let (mut probe, _ring) = probe_on(&cgroup);
    let status = cgroup
        .command(helper())
        .args(["killed", "/bin/sh"])
        .status();
    assert!(status.unwrap().success());

    let lost = |probe: &Probe| probe.counts().unwrap().sum(Outcome::Unreadable);
    probe.next_epoch().unwrap();
    assert_eq!(lost(&probe), 0, "it may still run");
    for _ in 0..2 {
        probe.next_epoch().unwrap();
        assert_eq!(lost(&probe), 1);
    }
}

#[test]
fn a_name_that_leads_to_another_file_later_is_reported_again() {
    let cgroup = TestCgroup::make("renewed");
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("0-0");
    let (mut probe, mut ring) = probe_on(&cgroup);
    let mut files = Files::new();
    // The link changes outside of the cgroup, where no program sees it.
    let mut open_as = |target: &str| {
        fs::write(directory.path().join(target), "").unwrap();
        let _ = fs::remove_file(&name);
        std::os::unix::fs::symlink(target, &name).unwrap();
        let status = cgroup
            .command(helper())
            .args(["opens", "1"])
            .arg(directory.path())
            .status();
        assert!(status.unwrap().success());
        let mut records = 0;
        ring.read(usize::MAX, |bytes| {
            records += 1;
            let named = AccessPaths::of(&Record::decode(bytes).unwrap());
            let paths = [named.requested(), named.real()].into_iter().flatten();
            files.extend(paths.map(<[u8]>::to_vec));
        });
        let is_found = files.contains(&bytes(directory.path().join(target)));
        (is_found, records)
    };
    let (is_found, of_new_names) = open_as("first");
    assert!(is_found);
    let (is_found, of_the_link) = open_as("second");
    assert!(is_found && of_the_link < of_new_names);
    // A name that leads where it led is known for five minutes.
    let mut again = |probe: &mut Probe, epochs: usize| {
        (0..epochs).for_each(|_| probe.next_epoch().unwrap());
        let status = cgroup
            .command(helper())
            .args(["opens", "1"])
            .arg(directory.path())
            .status();
        assert!(status.unwrap().success());
        ring.read(usize::MAX, |_| ())
    };
    assert_eq!(again(&mut probe, 0), 0);
    assert_eq!(again(&mut probe, 5), 0);
    assert_eq!(again(&mut probe, 1), of_new_names);
}

#[test]
fn mounts_are_listed_except_pseudo_file_systems() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().to_str().unwrap();
    // Files there that are only looked up are excluded once something has been opened there.
    let script = format!(
        "set -e; cd {top}; mkdir volume kernel; mount -t tmpfs none volume; mount -t proc none kernel
        mkdir volume/deep; : > volume/deep/file
        cat kernel/version; cat kernel/self/status; stat kernel/uptime"
    );
    // snoop and the command share a mount namespace. A mount in a process's own namespace is not the container's.
    let path = directory.path().join("report.json");
    let output = Command::new("unshare")
        .arg("-m")
        .arg(common::snoop().get_program())
        .args(["run", "-report"])
        .arg(&path)
        .args(["--", "sh", "-c", &script])
        .output()
        .unwrap();
    let report = Report::read(&path);
    assert!(output.status.success());
    let named = |name: &str| bytes(directory.path().join(name));
    assert_has(
        &report.files,
        &Files::from([
            named("volume"),
            named("volume/deep"),
            named("volume/deep/file"),
        ]),
    );
    let kernel: Vec<_> = report
        .files
        .iter()
        .filter(|f| f.starts_with(&named("kernel/")))
        .collect();
    assert!(kernel.is_empty(), "{kernel:?}");
    let mounts = report.json["containers"][0]["mounts"].as_array().unwrap();
    let volume = serde_json::json!({"point": format!("{top}/volume"), "type": "tmpfs"});
    assert!(mounts.contains(&volume), "{mounts:?}");
    assert!(
        mounts.iter().any(|mount| mount["point"] == "/"),
        "{mounts:?}"
    );
    assert!(
        mounts.iter().all(|mount| mount["type"] != "proc"),
        "{mounts:?}"
    );
    report.assert_complete();
}

/// Traces a program that prints the names that the report must list.
fn run_and_expect(program: &Path, top: &str) -> (Report, Files) {
    let (output, report) = run(&[], &[program.to_str().unwrap(), top]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    (report, text.lines().map(bytes).collect())
}

#[test]
fn requests_of_io_uring() {
    let directory = tempfile::tempdir().unwrap();
    let program = common::compile("uring", &["-static", "-luring"]);
    let top = directory.path().to_str().unwrap();
    let (report, mut expected) = run_and_expect(&program, top);
    assert_eq!(expected.len(), 11);
    expected.insert(bytes(&program));
    assert_same(&report.files, &expected);
    report.assert_complete();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn programs_of_32_bits() {
    let directory = tempfile::tempdir().unwrap();
    let program = common::compile("narrow", &["-m32", "-isystem/usr/include/x86_64-linux-gnu"]);
    let top = directory.path().to_str().unwrap();
    let (report, mut expected) = run_and_expect(&program, top);
    assert_eq!(expected.len(), 10);
    expected.insert(bytes(&program));
    // Every dynamic program needs its loader, by name and by real path, and its library.
    let loader = "/lib/ld-linux.so.2";
    expected.insert(bytes(loader));
    expected.insert(bytes(fs::canonicalize(loader).unwrap()));
    assert_has(&report.files, &expected);
    let libc = |path: &Vec<u8>| path.ends_with(b"/libc.so.6");
    assert!(report.files.iter().any(libc), "{}", show(&report.files));
    assert!(
        report.files.len() < expected.len() + 10,
        "{}",
        show(&report.files)
    );
    report.assert_complete();
}

#[test]
fn the_limit_of_files_is_never_exceeded() {
    let directory = tempfile::tempdir().unwrap();
    let all = make_files(directory.path(), 1, 307);
    let (helper, top) = (
        helper().to_str().unwrap(),
        directory.path().to_str().unwrap(),
    );
    let (output, report) = run(&["-max-unique-files=100"], &[helper, "opens", "1", top]);
    assert!(output.status.success());
    assert_eq!(report.files.len(), 2);
    report.assert_complete();

    let script = format!("for f in {top}/*; do : < $f; done");
    let (_, report) = run(&["-max-unique-files=100"], &["/bin/sh", "-c", &script]);
    assert_eq!(report.files.len(), 100);
    assert!(report.number("evicted_files") >= all.len() as u64 - 100);
    assert_eq!(report.json["complete"], false);
    assert_eq!(
        report.json["missing"]["evicted"],
        report.json["evicted_files"]
    );
}

/// The target of a symlink is reported once, when the symlink is opened, even if it was looked up before.
#[test]
fn a_symlink_that_is_looked_up_before_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    let looks = "[ -e $0 ] && [ -e $0 ]";
    let run = |script: &str| {
        let shell = [
            "/bin/sh".into(),
            "-c".into(),
            script.into(),
            link.clone().into_os_string(),
        ];
        run_quietly(&[], &shell)
    };
    let looked = run(looks);
    assert!(looked.files.contains(&bytes(&link)) && !looked.files.contains(&bytes(&file)));
    let opened = run(&format!("{looks} && : < $0 && {looks} && : < $0"));
    assert_has(&opened.files, &Files::from([bytes(&link), bytes(&file)]));
    opened.assert_complete();
}

/// The kernel resolves ".." from the target of the symlink, not from the directory of the symlink.
#[test]
fn dot_dot_after_a_symlink() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().canonicalize().unwrap();
    for name in ["a", "b/c"] {
        fs::create_dir_all(top.join(name)).unwrap();
    }
    for name in ["a/looked-at", "b/looked-at", "b/opened"] {
        fs::write(top.join(name), "").unwrap();
    }
    std::os::unix::fs::symlink("../b/c", top.join("a/link")).unwrap();
    let script = format!(
        "read x < {0}/a/link/../opened; [ -e {0}/a/link/../looked-at ]",
        top.display()
    );
    let report = run_quietly(&[], &["/bin/sh", "-c", &script]);
    report.assert_complete();
    let below: Files = report
        .files
        .into_iter()
        .filter(|file| file.starts_with(&bytes(&top)))
        .collect();
    let expected = ["a/link", "b/looked-at", "b/opened"].map(|name| bytes(top.join(name)));
    assert_same(&below, &Files::from(expected));
}

/// Whoever switches the link, and whenever: the file that an open led to is listed.
#[test]
fn a_link_that_another_process_switches_all_the_time() {
    const SWITCHES: i32 = 300;
    let directory = tempfile::tempdir().unwrap();
    let program = common::compile("switch", &["-static"]);
    for number in 0..SWITCHES {
        let file = directory.path().join(number.to_string());
        fs::write(file, number.to_ne_bytes()).unwrap();
    }
    let top = directory.path().to_str().unwrap();
    let switches = SWITCHES.to_string();
    let (output, report) = run(&[], &[program.to_str().unwrap(), top, &switches]);
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let opened: Files = text.lines().map(|line| line.as_bytes().to_vec()).collect();
    assert!(opened.len() > 10, "{} of {SWITCHES}", opened.len());
    assert_has(&report.files, &opened);
    report.assert_complete();
}

/// Its names are not those of the container.
#[test]
fn another_root_directory_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().to_str().unwrap();
    let script = format!(
        "set -e; mkdir -p {top}/root/old {top}/root/etc; cp /bin/busybox {top}/root; echo x >{top}/root/etc/inner
        exec unshare -m sh -ec 'mount --bind {top}/root {top}/root; cd {top}/root; pivot_root . old; cd /
        exec /busybox cat /etc/inner'"
    );
    let (output, report) = run(&[], &["sh", "-c", &script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "x\n");
    assert!(!report.files.contains(&b"/etc/inner"[..]));
    assert!(report.json["missing"]["other_root"].as_u64().unwrap() >= 2);
}
