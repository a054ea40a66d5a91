// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop closure` and `snoop unused`: what an image needs and what it does not, according to reports.

mod common;

use common::reports::container;
use common::snoop;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A small image, and a report that lists part of it.
fn image() -> (TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let write = |path: &str, size: usize| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![b'x'; size]).unwrap();
    };
    write("usr/bin/app", 100);
    write("usr/bin/other", 3000);
    write("usr/lib/libapp.so.1.2", 50);
    write("usr/share/doc/app/README", 20_000);
    write("usr/share/doc/other/README", 10_000);
    write("etc/app conf/ü \\n.conf", 5);
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("libapp.so.1.2", root.join("usr/lib/libapp.so.1")).unwrap();
    symlink("/usr/lib/libapp.so.1", root.join("usr/lib/libapp.so")).unwrap();
    symlink("loop", root.join("etc/loop")).unwrap();
    write("var/lib/dpkg/info/app.list", 0);
    write("var/lib/dpkg/info/other.list", 0);
    let info = root.join("var/lib/dpkg/info");
    fs::write(
        info.join("app.list"),
        "/.\n/bin\n/bin/app\n/usr/share/doc/app/README\n",
    )
    .unwrap();
    fs::write(info.join("other.list"), "/bin/other\n").unwrap();
    let report = directory.path().join("report.json");
    write_report(
        &report,
        &[
            "/",
            "/bin/app",
            "/usr/bin/app",
            "/usr/lib/libapp.so",
            "/etc/app conf/ü \\n.conf",
            "/data/volume",
        ],
    );
    (directory, root, report)
}

fn write_report(path: &Path, files: &[&str]) {
    let report = json!({"schema": 1, "files": files, "complete": true, "missing": {}});
    fs::write(path, report.to_string()).unwrap();
}

const NEEDED: [&str; 12] = [
    "bin",
    "etc",
    "etc/app conf",
    "etc/app conf/ü \\n.conf",
    "usr",
    "usr/bin",
    "usr/bin/app",
    "usr/lib",
    "usr/lib/libapp.so",
    "usr/lib/libapp.so.1",
    "usr/lib/libapp.so.1.2",
    "",
];

fn tool(command: &str, root: &Path, rest: &[&str]) -> Output {
    let mut snoop = snoop();
    snoop.arg(command).arg("-root").arg(root).args(rest);
    snoop.output().unwrap()
}

fn printed(output: Output) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Lists everything below a directory with find: path, type, target of links, and mode.
fn listing(directory: &Path) -> String {
    let find = Command::new("find")
        .arg(directory)
        .args(["-mindepth", "1", "-printf", "%P %y %l %m\n"])
        .output()
        .unwrap();
    let text = String::from_utf8(find.stdout).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn one_path_per_line() {
    let (_keep, root, report) = image();
    let report = report.to_str().unwrap();
    assert_eq!(
        printed(tool("closure", &root, &[report])),
        NEEDED.join("\n")
    );
    assert_eq!(
        printed(tool("closure", &root, &["-0", report])),
        NEEDED.join("\0")
    );
    assert_eq!(
        printed(tool("closure", &root, &["-format=absolute", report])),
        NEEDED[..11]
            .iter()
            .map(|path| format!("/{path}\n"))
            .collect::<String>()
    );
}

/// SlimToolkit and mint take what follows a colon for something else.
#[test]
fn colons_in_an_include_list_are_warned_of() {
    let (_keep, root, report) = image();
    fs::write(root.join("etc/File::Spec.3pm"), "").unwrap();
    write_report(&report, &["/etc/File::Spec.3pm"]);
    let report = report.to_str().unwrap();
    let output = tool("closure", &root, &["-format=absolute", report]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.stdout, b"/etc\n/etc/File::Spec.3pm\n");
    let expected = "snoop: 1 path holds a colon: SlimToolkit and mint drop it; give them snoop export -format=creport\n";
    assert_eq!(said, expected);
    assert_eq!(
        printed(tool("closure", &root, &[report])),
        "etc\netc/File::Spec.3pm\n"
    );
}

/// What was only looked at is left out if the user says so, and snoop says how much that is.
#[test]
fn the_kinds_of_use_that_count_are_chosen() {
    let (_keep, root, report) = image();
    let uses = [
        ("/bin/app", "x", json!(2)),
        ("/usr/bin/other", "l", json!(1)),
        ("/usr/share/doc/app/README", "lr", json!(3)),
    ];
    fs::write(
        &report,
        common::reports::report("web-0", &[container("web", &uses)]).to_string(),
    )
    .unwrap();
    let report = report.to_str().unwrap();
    let output = tool("closure", &root, &["-runtime=false", "-kinds=rwxm", report]);
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(listed.contains("usr/bin/app\n") && listed.contains("README\n"));
    assert!(!listed.contains("usr/bin/other"), "{listed}");
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = [
        "snoop: -kinds=rwxm leaves out 1 of 3 files, which were used in other ways only",
        "snoop: a program may only ask whether a file exists, and fail without it: -kinds=l and the other letters keep such files",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    let all = printed(tool("closure", &root, &["-runtime=false", report]));
    assert!(all.contains("usr/bin/other\n"));

    let output = tool("unused", &root, &["-paths", "-kinds=x", report]);
    let unused = String::from_utf8(output.stdout).unwrap();
    assert!(unused.contains("/usr/bin/other\n") && unused.contains("/usr/share/doc/app/README\n"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("snoop: -kinds=x leaves out 2 of 3 files"),
        "{said}"
    );
}

/// What a container runtime reads and mounts by itself is in no report.
#[test]
fn what_a_runtime_needs_is_listed() {
    let (_keep, root, report) = image();
    for path in ["run/etc/passwd", "data/volume/file"] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), "x").unwrap();
    }
    symlink("../run/etc/passwd", root.join("etc/passwd")).unwrap();
    symlink("none", root.join("etc/group")).unwrap();
    fs::create_dir(root.join("proc")).unwrap();
    fs::create_dir(root.join("tmp")).unwrap();
    let mounts =
        json!([{"point": "/data/volume", "type": "ext4"}, {"point": "/none", "type": "ext4"}]);
    let containers = json!([{"name": "a", "mounts": mounts, "files": ["/bin/app"]}]);
    let text = json!({"schema": 1, "files": ["/bin/app"], "containers": containers, "complete": true, "missing": {}});
    fs::write(&report, text.to_string()).unwrap();
    let report = report.to_str().unwrap();
    let used = ["bin", "usr", "usr/bin", "usr/bin/app"];
    let mut all = [
        &used[..],
        &["data", "data/volume", "etc", "etc/passwd", "proc", "tmp"],
        &["run", "run/etc", "run/etc/passwd"],
    ]
    .concat();
    all.sort_unstable();
    for (words, expected) in [
        (&[report][..], &all[..]),
        (&["-runtime", report], &all),
        (&["-runtime=false", report], &used),
    ] {
        let listed = printed(tool("closure", &root, words));
        assert_eq!(listed.lines().collect::<Vec<_>>(), expected, "{words:?}");
    }
}

/// tar and rsync, called as in the README, and cpio read the list and create the same image. tar and rsync keep file
/// capabilities; the format of cpio has no place for them.
#[test]
fn tar_rsync_and_cpio_accept_the_list() {
    let (keep, root, report) = image();
    let of_root = |path: &str| root.join(path);
    let capable = Command::new("setcap")
        .arg("cap_net_raw=p")
        .arg(of_root("usr/bin/app"))
        .status();
    assert!(capable.unwrap().success());
    fs::hard_link(of_root("usr/bin/app"), of_root("usr/bin/same")).unwrap();
    let used = [
        "/bin/app",
        "/bin/same",
        "/usr/lib/libapp.so",
        "/etc/app conf/ü \\n.conf",
    ];
    write_report(&report, &used);
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let recipes = readme
        .lines()
        .filter(|line| line.starts_with("# snoop closure -root old -0 report.json | "));
    let mut script: Vec<_> = recipes
        .zip(["tar", "rsync"])
        .map(|(line, name)| {
            assert!(line.contains(&format!("| {name} ")), "{line}");
            line[2..]
                .replace("snoop ", "\"$SNOOP\" ")
                .replace("new", name)
        })
        .collect();
    assert_eq!(script.len(), 2);
    script.push(
        "\"$SNOOP\" closure -root old report.json | (cd old && cpio --quiet -o -H newc) | (cd cpio && cpio --quiet -id)"
            .into(),
    );
    let snoop = snoop();
    symlink(&root, keep.path().join("old")).unwrap();
    let script = format!("mkdir tar rsync cpio\n{}", script.join("\n"));
    let status = Command::new("sh")
        .args(["-euc", &script])
        .env("SNOOP", snoop.get_program())
        .current_dir(keep.path())
        .status();
    assert!(status.unwrap().success());
    let copy = |name: &str| keep.path().join(name);
    let made = listing(&copy("tar"));
    assert_eq!(made.lines().count(), 12, "{made}");
    assert_eq!(made, listing(&copy("rsync")));
    assert_eq!(made, listing(&copy("cpio")));
    let whole = listing(&root);
    for line in made.lines() {
        assert!(whole.lines().any(|other| other == line), "{line}");
    }
    for name in ["tar", "rsync", "cpio"] {
        let inode = |file| fs::metadata(copy(name).join(file)).unwrap().ino();
        assert_eq!(inode("usr/bin/app"), inode("usr/bin/same"), "{name}");
    }
    for name in ["tar", "rsync"] {
        let getcap = Command::new("getcap")
            .arg(copy(name).join("usr/bin/app"))
            .output();
        let said = String::from_utf8(getcap.unwrap().stdout).unwrap();
        assert!(said.ends_with(" cap_net_raw=p\n"), "{name}: {said:?}");
    }
}

#[test]
fn several_reports_are_combined_and_problems_are_warned_of() {
    let (keep, root, report) = image();
    let second = keep.path().join("second.json");
    let text = json!({"schema": 1, "files": ["/etc/loop", "/bin/other"],
        "complete": false, "missing": {"buffer_full": 2}});
    fs::write(&second, text.to_string()).unwrap();
    let (report, second) = (report.to_str().unwrap(), second.to_str().unwrap());
    let output = tool("closure", &root, &[report, second]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    assert!(lines.is_sorted());
    lines.retain(|line| !NEEDED.contains(line));
    assert_eq!(lines, ["etc/loop", "usr/bin/other"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = [
        format!("snoop: {second} is not complete: {{\"buffer_full\":2}}"),
        "snoop: /etc/loop: too many levels of symbolic links".into(),
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

/// The usual mistake: the directory is not the root of the report's image.
#[test]
fn a_directory_without_any_listed_file_causes_a_warning() {
    let (_keep, root, report) = image();
    for (files, doubted) in [
        (&["/nowhere"][..], true),
        // "/" exists in every directory, so it proves nothing.
        (&["/", "/nowhere", "/none"], true),
        (&["/", "/nowhere", "/etc"], false),
        (&["/"], false),
        (&[], false),
    ] {
        write_report(&report, files);
        let output = tool("closure", &root, &[report.to_str().unwrap()]);
        assert!(output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        let expected =
            "snoop: none of the listed files is there: are the reports those of this image?\n";
        assert_eq!(said, if doubted { expected } else { "" }, "{files:?}");
    }
}

/// The report lists a file that was open before tracing began by its real path only. The program had opened a symlink.
#[test]
fn symlinks_to_files_of_late_containers_are_kept() {
    let (_keep, root, report) = image();
    fs::create_dir(root.join("usr/lib64")).unwrap();
    symlink("usr/lib64", root.join("lib64")).unwrap();
    symlink("../lib/libapp.so.1.2", root.join("usr/lib64/ld.so")).unwrap();
    let text = json!({"schema": 1, "files": ["/usr/lib/libapp.so.1.2"], "complete": false,
        "missing": {"late_attach": 1}, "containers": [{"attached_late": true}]});
    fs::write(&report, text.to_string()).unwrap();
    let output = tool("closure", &root, &[report.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = [
        "lib64",
        "usr",
        "usr/lib",
        "usr/lib/libapp.so",
        "usr/lib/libapp.so.1",
        "usr/lib/libapp.so.1.2",
        "usr/lib64",
        "usr/lib64/ld.so",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn unused_files_directories_and_packages() {
    let (_keep, root, report) = image();
    let report = report.to_str().unwrap();
    let paths = printed(tool("unused", &root, &["-paths", report]));
    let expected = [
        "/etc/loop",
        "/usr/bin/other",
        "/usr/share",
        "/usr/share/doc",
        "/usr/share/doc/app",
        "/usr/share/doc/app/README",
        "/usr/share/doc/other",
        "/usr/share/doc/other/README",
        "/var",
        "/var/lib",
        "/var/lib/dpkg",
        "/var/lib/dpkg/info",
        "/var/lib/dpkg/info/app.list",
        "/var/lib/dpkg/info/other.list",
    ];
    assert_eq!(paths.lines().collect::<Vec<_>>(), expected);

    let found = printed(tool("unused", &root, &["-json", report]));
    let found: Value = serde_json::from_str(&found).unwrap();
    let lists: u64 = ["app", "other"]
        .map(|name| root.join(format!("var/lib/dpkg/info/{name}.list")))
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    // Three regular files and three links.
    assert_eq!(found["used"], json!({"files": 6, "bytes": 155}));
    assert_eq!(
        found["unused"],
        json!({"files": 6, "bytes": 33_000 + lists})
    );
    let share = |key: &str, name: &str, used: [u64; 2], unused: [u64; 2]| {
        let size = |[files, bytes]: [u64; 2]| json!({"files": files, "bytes": bytes});
        json!({key: name, "used": size(used), "unused": size(unused)})
    };
    assert_eq!(
        found["directories"],
        json!([
            share("path", "/usr/share", [0, 0], [2, 30_000]),
            share("path", "/var", [0, 0], [2, lists])
        ])
    );
    assert_eq!(
        found["packages"],
        json!([
            share("name", "app", [2, 100], [1, 20_000]),
            share("name", "other", [0, 0], [1, 3000])
        ])
    );
    assert_eq!(found["paths"].as_array().unwrap().len(), expected.len());

    let summary = printed(tool("unused", &root, &[report]));
    for part in [
        "used            6 files      155 B\n",
        "29.3 KiB        2 files  /usr/share\n",
        "19.5 KiB        1 of 3 files  app\n",
    ] {
        assert!(summary.contains(part), "{summary}");
    }
}

#[test]
fn bad_input_causes_one_line_of_error_and_no_output() {
    let (keep, root, report) = image();
    let bad = |name: &str, text: &str| {
        let path = keep.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let good = report.to_str().unwrap();
    let whole = fs::read_to_string(&report).unwrap();
    let newline = bad("newline", r#"{"schema":1,"files":["/new\nline"]}"#);
    fs::write(root.join("new\nline"), "").unwrap();
    for (root, report, words) in [
        (&root, bad("half", &whole[..whole.len() / 2]), "truncated"),
        (&root, bad("html", "<html>"), "not JSON"),
        (&root, bad("three", r#"{"schema":3}"#), "its schema is 3"),
        (
            &root,
            bad("up", r#"{"schema":1,"files":["/../etc"]}"#),
            "\"/../etc\"",
        ),
        (&root, "/no/such/report".into(), "No such file"),
        (&root, newline, "give -0"),
        (&report, good.into(), "this is not a directory"),
        (&root.join("none"), good.into(), "No such file"),
    ] {
        let output = tool("closure", root, &[&report]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let first = said.lines().last().unwrap();
        assert!(
            first.starts_with("snoop: ") && first.contains(words),
            "{said}"
        );
        assert_eq!(output.stdout, b"");
    }
}
