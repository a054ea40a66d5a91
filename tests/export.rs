// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop export`: each format is read by the program that it is for, where Debian or PyPI has it, and else checked by the rules of
//! its reader.

mod common;

use common::reports::{container, report};
use common::snoop;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A directory with an unpacked image, `old`, and a report, `report.json`.
struct Work(TempDir);

/// Names with a meaning for some reader.
const ODD: [&str; 6] = [
    "/etc/co:lon",
    "/etc/a b",
    "/etc/*[x]?{a,b}^",
    "/etc/@{HOME}$x\"\\",
    "/etc/#'é",
    "/etc/new\nline",
];

impl Work {
    fn new() -> Work {
        let work = Work(tempfile::tempdir().unwrap());
        for (path, size) in [
            ("usr/bin/app", 10),
            ("usr/lib/lib1.so", 3000),
            ("usr/lib/lib2.so", 3000),
            ("usr/lib/lib3.so", 3000),
            ("etc/app.conf", 20),
            ("etc/passwd", 20),
            ("srv/unused", 20),
        ] {
            work.write(path, size);
        }
        ODD.iter().for_each(|path| work.write(&path[1..], 1));
        symlink("usr/bin", work.path("old/bin")).unwrap();
        symlink("lib2.so", work.path("old/usr/lib/libapp.so")).unwrap();
        let mut uses = vec![
            ("/etc", "r", json!(0.1)),
            ("/etc/app.conf", "lr", json!(0.5)),
            ("/usr/lib/lib1.so", "l", json!(0.7)),
            ("/usr/lib/lib3.so", "rm", json!(1)),
            ("/usr/lib/libapp.so", "rm", json!(2)),
            ("/usr/lib/lib2.so", "rm", json!(2.01)),
            ("/bin/app", "x", json!(3)),
            ("/usr/bin/app", "x", json!(3.01)),
            ("/run/app.pid", "w", json!(4)),
            ("/etc/caf\0e9", "r", json!(6)),
        ];
        uses.extend(ODD.map(|path| (path, "r", json!(null))));
        work.report("report.json", &[container("web", &uses)]);
        work
    }

    fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.0.path().join(name.as_ref())
    }

    fn write(&self, path: &str, size: usize) {
        let path = self.path("old").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![b'x'; size]).unwrap();
    }

    fn report(&self, name: &str, containers: &[Value]) {
        let report = report("web-0", containers).to_string();
        fs::write(self.path(name), report).unwrap();
    }

    fn snoop(&self, words: &[&str]) -> Output {
        let mut snoop = snoop();
        snoop.arg("export").args(words).current_dir(self.0.path());
        snoop.output().unwrap()
    }

    /// Exports the report. Returns the text, and what is said on standard error.
    fn exported(&self, words: &[&str]) -> (Vec<u8>, String) {
        let output = self.snoop(&[words, &["report.json"]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {said}");
        (output.stdout, said)
    }

    fn lines(&self, words: &[&str]) -> (Vec<String>, String) {
        let (text, said) = self.exported(words);
        let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned());
        (lines.collect(), said)
    }

    /// Runs a program in the directory, which has to succeed. Returns what it prints.
    fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.0.path());
        let output = command.env("STORAGE_DRIVER", "vfs").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs buildah with a store of its own.
    fn buildah(&self, words: &[&str]) -> String {
        self.run(&[&["buildah", "--root", "store", "--runroot", "run"], words].concat())
    }
}

/// What is read of the image, in the order of first use. Names without a time come last.
const PREFETCHED: [&str; 11] = [
    "/etc/app.conf",
    "/usr/lib/lib3.so",
    "/usr/lib/lib2.so",
    "/usr/lib/libapp.so",
    "/bin",
    "/usr/bin/app",
    "/etc/#'é",
    "/etc/*[x]?{a,b}^",
    "/etc/@{HOME}$x\"\\",
    "/etc/a b",
    "/etc/co:lon",
];

/// Returns what is wrong with a document, by the rules of its reader.
fn faults(format: &str, document: &[u8]) -> String {
    let top = env!("CARGO_MANIFEST_DIR");
    let mut check = Command::new("/usr/bin/python3")
        .arg(format!("{top}/tests/helper/exports.py"))
        .arg(format)
        .env("PYTHONPATH", format!("{top}/target/python"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(document).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The lists that are one path per line have no place for a newline. All readers skip what they do not know, so a name that is
/// left out costs time only.
#[test]
fn lists_are_in_the_order_of_first_use() {
    let work = Work::new();
    for format in ["nydus", "overlaybd"] {
        let (lines, said) = work.lines(&[&format!("-format={format}"), "-root=old"]);
        assert_eq!(lines, PREFETCHED);
        let expected = [
            "snoop: 1 of 13 files are not in the image and are left out",
            "snoop: 1 name is left out, because the format has no place for it: /etc/new\\nline",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    }
}

/// soci reads an array of strings and removes whitespace at their ends.
#[test]
fn soci_takes_an_array_of_paths() {
    let (text, _) = Work::new().exported(&["-format=soci", "-root=old"]);
    let paths: Vec<String> = serde_json::from_slice(&text).unwrap();
    assert_eq!(paths, PREFETCHED);
}

/// nydus takes version v1 and absolute paths, and refuses the whole list if the image lacks one of them.
#[test]
fn nydus_takes_only_what_the_image_has() {
    let work = Work::new();
    let (text, _) = work.exported(&["-format=nydus-v1", "-root=old"]);
    let list: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(list["version"], "v1");
    let files = list["files"].as_array().unwrap();
    for file in files {
        let path = file["path"].as_str().unwrap();
        assert!(file["ranges"].is_null() && path.starts_with('/'));
        let there = work.path("old").join(&path[1..]);
        assert!(there.symlink_metadata().is_ok(), "{path}");
    }
    // JSON has a place for the newline.
    assert_eq!(files.len(), PREFETCHED.len() + 1);
    let output = work.snoop(&["-format=nydus-v1", "report.json"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("give the unpacked image as -root=DIR"),
        "{said}"
    );
}

#[test]
fn without_an_image_a_list_has_no_directory_that_is_known_to_be_one() {
    let work = Work::new();
    let (lines, said) = work.lines(&["-format=nydus"]);
    assert!(
        said.starts_with("snoop: without -root, files that the image does not have are listed too"),
        "{said}"
    );
    assert!(lines.contains(&"/bin/app".into()) && !lines.contains(&"/etc".into()));
    let (text, _) = work.exported(&["-format=nydus"]);
    assert!(text.windows(9).any(|part| part == b"/etc/caf\xe9"));
}

/// ctr-remote of the stargz-snapshotter makes an eStargz image. In it the listed files come first, in this order.
#[test]
fn ctr_remote_puts_the_files_first() {
    let work = Work::new();
    work.run(&["tar", "-C", "old", "-cf", "rootfs.tar", "."]);
    fs::write(work.path("Dockerfile"), "FROM scratch\nADD rootfs.tar /\n").unwrap();
    work.buildah(&[
        "bud",
        "--quiet",
        "--isolation",
        "chroot",
        "-t",
        "app:1",
        ".",
    ]);
    work.buildah(&[
        "push",
        "-q",
        "app:1",
        "oci-archive:app.tar:docker.io/library/app:1",
    ]);
    work.exported(&["-format=estargz", "-root=old", "-o=record.json"]);
    fs::create_dir(work.path("containerd")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helper/estargz.sh");
    let directory = work.path("containerd");
    let listed = work.run(&[
        script,
        directory.to_str().unwrap(),
        "app.tar",
        "record.json",
    ]);
    let entries = listed.lines().filter(|line| !line.ends_with('/'));
    let first: Vec<_> = entries
        .take_while(|line| *line != ".prefetch.landmark")
        .collect();
    let expected: Vec<_> = PREFETCHED.iter().map(|path| &path[1..]).collect();
    // tar shows what is not plain ASCII escaped, and JSON has a place for the newline.
    let plain = |path: &&&str| path.bytes().all(|b| b.is_ascii() && b != b'\\');
    let first: Vec<_> = first.iter().filter(plain).collect();
    assert_eq!(
        first,
        expected.iter().filter(plain).collect::<Vec<_>>(),
        "{listed}"
    );
    assert!(listed.contains("srv/unused"));
}

#[test]
fn paths_are_all_that_was_used() {
    let work = Work::new();
    let output = work.snoop(&["-format=paths", "report.json"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains("holds a newline: give -format=creport"),
        "{said}"
    );
    let uses = [
        ("/b", "r", json!(2)),
        ("/a", "l", json!(3)),
        ("/c", "w", json!(1)),
    ];
    work.report("report.json", &[container("web", &uses)]);
    let (lines, said) = work.lines(&["-format=paths"]);
    assert_eq!(
        (&lines[..], said),
        (&["/c", "/b", "/a"].map(String::from)[..], String::new())
    );
}

#[test]
fn the_report_of_image_minifiers_has_flags_and_modes() {
    let work = Work::new();
    for words in [&["-format=creport", "-root=old"][..], &["-format=creport"]] {
        let (text, said) = work.exported(words);
        assert_eq!(faults("creport", &text), "");
        let document: Value = serde_json::from_slice(&text).unwrap();
        let files = document["image"]["files"].as_array().unwrap();
        let file = |path: &str| files.iter().find(|file| file["file_path"] == path);
        let flags = |path: &str| file(path).unwrap()["flags"].clone();
        assert_eq!(flags("/usr/bin/app"), json!({"R": true, "X": true}));
        assert_eq!(flags("/usr/lib/lib3.so"), json!({"R": true}));
        assert_eq!(flags("/usr/lib/lib1.so"), Value::Null);
        // A colon and a newline are no problem here.
        assert!(file("/etc/co:lon").is_some() && file("/etc/new\nline").is_some());
        if words.len() == 2 {
            let app = file("/usr/bin/app").unwrap();
            assert_eq!(
                (&app["file_type"], &app["mode"], &app["file_size"]),
                (&json!("file"), &json!("-rw-r--r--"), &json!(10))
            );
            assert_eq!(file("/bin").unwrap()["link_ref"], "usr/bin");
            assert_eq!(file("/etc").unwrap()["file_type"], "dir");
            // What a container runtime reads by itself.
            assert!(file("/etc/passwd").is_some() && file("/run/app.pid").is_none());
        } else {
            assert_eq!(flags("/run/app.pid"), json!({"W": true}));
            assert!(
                said.contains("1 name is left out, because the format has no place for it: "),
                "{said}"
            );
        }
    }
}

#[test]
fn kubescape_gets_a_profile_of_each_container() {
    let work = Work::new();
    let uses = [
        ("/usr/bin/app", "lrx", json!(1)),
        ("/data", "rw", json!(2)),
        ("/log", "w", json!(2.5)),
        ("/lib.so", "m", json!(3)),
        ("/seen", "l", json!(4)),
        ("/old", "", json!(null)),
    ];
    let proxy = [("/usr/bin/proxy", "x", json!(1))];
    work.report(
        "report.json",
        &[container("web", &uses), container("proxy", &proxy)],
    );
    let (text, said) = work.exported(&["-format=kubescape"]);
    assert_eq!(
        (faults("kubescape", &text), said),
        (String::new(), String::new())
    );
    let profile: Value = serde_json::from_slice(&text).unwrap();
    let open = |path: &str, flag: &str| json!({"path": path, "flags": [flag]});
    let opens = [
        open("/data", "O_RDWR"),
        open("/lib.so", "O_RDONLY"),
        open("/log", "O_WRONLY"),
        open("/old", "O_RDONLY"),
        open("/usr/bin/app", "O_RDONLY"),
    ];
    let expected = json!([
        {"name": "web", "execs": [{"path": "/usr/bin/app"}], "opens": opens},
        {"name": "proxy", "execs": [{"path": "/usr/bin/proxy"}], "opens": []},
    ]);
    assert_eq!(profile["spec"]["containers"], expected);
    assert_eq!(
        profile["metadata"],
        json!({"name": "web-0", "namespace": "shop"})
    );
}

#[test]
fn in_toto_accepts_the_statement() {
    let work = Work::new();
    for words in [&["-format=intoto", "-root=old"][..], &["-format=intoto"]] {
        let (text, _) = work.exported(words);
        assert_eq!(faults("intoto", &text), "");
        let statement: Value = serde_json::from_slice(&text).unwrap();
        let subject = json!([{"name": "app:1", "digest": {"sha256": "ab".repeat(32)}}]);
        assert_eq!(statement["subject"], subject);
        let accesses = statement["predicate"]["monitorLog"]["fileAccess"]
            .as_array()
            .unwrap();
        let app = accesses
            .iter()
            .find(|access| access["name"] == "/bin/app")
            .unwrap();
        assert_eq!(app["annotations"], json!({"kinds": "x"}));
        let digest = work.run(&["sha256sum", "old/usr/bin/app"]);
        let digest = (words.len() == 2).then(|| digest[..64].to_string());
        assert_eq!(app["digest"]["sha256"], json!(digest));
    }
    let mut nameless = report("web-0", &[]);
    nameless.as_object_mut().unwrap().remove("image_digest");
    fs::write(work.path("report.json"), nameless.to_string()).unwrap();
    let output = work.snoop(&["-format=intoto", "report.json"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("trace with -image-digest"),
        "{said}"
    );
}

/// buildah builds the image as the text says, and the image has the files.
#[test]
fn the_dockerfile_builds_as_it_says() {
    let work = Work::new();
    work.exported(&["-format=dockerfile", "-o=Dockerfile"]);
    let text = fs::read_to_string(work.path("Dockerfile")).unwrap();
    assert!(
        text.contains("The first program that a container executed: /bin/app\n"),
        "{text}"
    );
    let commands = text.lines().filter_map(|line| line.strip_prefix("#   "));
    let commands: Vec<_> = commands
        .filter(|line| !line.starts_with("docker "))
        .collect();
    let snoop = snoop().get_program().to_str().unwrap().to_string();
    let script = commands.join("\n").replacen("snoop", &snoop, 1);
    work.run(&["sh", "-euc", &script]);
    work.buildah(&["bud", "--quiet", "--isolation", "chroot", "-t", "slim", "."]);
    let container = work.buildah(&["from", "--pull-never", "slim"]);
    let root = work.buildah(&["mount", container.trim()]);
    let has = |path: &str| {
        PathBuf::from(root.trim())
            .join(path)
            .symlink_metadata()
            .is_ok()
    };
    assert!(has("usr/bin/app") && has("etc/new\nline") && !has("srv/unused"));
    work.buildah(&["umount", container.trim()]);
}

/// The parser compiles the profile. Where it shows what it made of a name, no character has a meaning any more.
#[test]
fn apparmor_accepts_the_profile() {
    let work = Work::new();
    let (text, said) = work.exported(&["-format=apparmor"]);
    assert_eq!(said, "");
    fs::write(work.path("profile"), &text).unwrap();
    work.run(&["apparmor_parser", "-Q", "-K", "profile"]);
    let text = String::from_utf8(text).unwrap();
    for line in [
        "profile snoop-app-1 flags=(attach_disconnected,mediate_deleted) {",
        "  \"/usr/bin/app{,/}\" mrix,",
        "  \"/usr/lib/lib3.so{,/}\" mr,",
        "  \"/run/app.pid{,/}\" wk,",
        "  \"/usr/lib/lib1.so{,/}\" r,",
        "  \"/etc/caf\\351{,/}\" r,",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
    let mut parser = Command::new("apparmor_parser");
    parser.args(["-Q", "-K", "-D", "rule-exprs", "profile"]);
    let shown = parser.current_dir(work.0.path()).output().unwrap();
    let shown = [shown.stdout, shown.stderr].concat();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    for regex in [
        r"/etc/\*\[x\]?\{a,b\}\^(|/)",
        r#"/etc/@\{HOME\}\$x"\\(|/)"#,
        "/etc/co:lon(|/)",
    ] {
        assert!(shown.contains(regex), "{regex} in {shown}");
    }
}

/// Reports of schema 1 do not say how files were used.
#[test]
fn files_of_unknown_kind_are_allowed_everything() {
    let work = Work::new();
    let mut old = report("web-0", &[container("web", &[("/a", "", json!(null))])]);
    old["schema"] = json!(1);
    fs::write(work.path("report.json"), old.to_string()).unwrap();
    let (text, said) = work.exported(&["-format=apparmor"]);
    assert!(
        String::from_utf8(text)
            .unwrap()
            .contains("  \"/a{,/}\" mrwkix,\n")
    );
    let expected =
        "snoop: nothing says how 1 of 1 files were used: the profile allows everything with them\n";
    assert_eq!(said, expected);
    let (lines, _) = work.lines(&["-format=nydus"]);
    assert_eq!(lines, ["/a"]);
}

#[test]
fn wrong_input_is_one_line() {
    let work = Work::new();
    for (words, part) in [
        (
            &["report.json"][..],
            "export: -format, the file of -o or the report is missing",
        ),
        (
            &["-format=nydus"],
            "or the report is missing; write snoop export -format NAME",
        ),
        (
            &["-format=tar", "report.json"],
            "-format=tar: not a format; give one of estargz, nydus, ",
        ),
        (
            &["-format=apparmor", "-root=old", "report.json"],
            "-root=old: -format=apparmor does not depend on the image",
        ),
        (
            &["-format=soci", "-root=none", "report.json"],
            "-root=none: No such file",
        ),
        (
            &["-format=soci", "-o=none/x", "report.json"],
            "-o=none/x: there is no directory none",
        ),
    ] {
        let output = work.snoop(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(part) && said.lines().count() == 1,
            "{words:?}: {said}"
        );
        assert_eq!(output.stdout, b"");
    }
}

/// An incomplete report is warned of, and names of bytes are left out where JSON has no place for them.
#[test]
fn doubts_are_told() {
    let work = Work::new();
    let mut part = report("web-0", &[container("web", &[("/caf\0e9", "r", json!(1))])]);
    part["complete"] = json!(false);
    part["missing"] = json!({"buffer_full": 2});
    fs::write(work.path("report.json"), part.to_string()).unwrap();
    let (lines, said) = work.lines(&["-format=estargz"]);
    assert_eq!(lines, [""; 0]);
    for part in [
        "snoop: report.json is not complete: {\"buffer_full\":2}\n",
        "snoop: 1 name is left out, because the format has no place for it: /caf\\0e9\n",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let name = OsStr::from_bytes(b"/caf\xe9");
    let (text, _) = work.exported(&["-format=paths"]);
    assert_eq!(text, [name.as_bytes(), b"\n"].concat());
}
