// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop show`: the tree in the terminal, and the page in a real browser.

mod common;

use common::browser::Browser;
use common::reports::{Use, container, report};
use common::{Sidecar, TestCgroup, open_in, snoop, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Names that would do something if a page or a terminal took them for more than text.
const ODD: [(&str, &str); 6] = [
    (
        "/srv/<script>document.title=1</script>",
        "<script>document.title=1</script>",
    ),
    (
        "/srv/</script><!-- <img src=x onerror=alert(1)>",
        "</script><!-- <img src=x onerror=alert(1)>",
    ),
    ("/srv/\"double\" & 'single'", "\"double\" & 'single'"),
    ("/srv/new\nline\u{1b}[2J", "new\\nline\\u{1b}[2J"),
    ("/srv/caf\0e9", "caf\\xe9"),
    ("/srv/\u{202e}txt.exe", "\\u{202e}txt.exe"),
];

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, report: &Value) {
        fs::write(self.path(name), report.to_string()).unwrap();
    }

    fn snoop(&self, words: &[&str]) -> Output {
        let mut command = snoop();
        command.args(words).current_dir(self.0.path());
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn said(&self, words: &[&str]) -> String {
        let output = self.snoop(words);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes a page, and opens it.
    fn page(&self, browser: &Browser, words: &[&str]) {
        let page = self.path("page.html");
        let page = page.to_str().unwrap();
        assert_eq!(self.said(&[&["show", "-html", page], words].concat()), "");
        browser.open(&format!("file://{page}"));
    }
}

/// A report whose files are the odd names and a few plain ones.
fn small() -> Value {
    let mut uses: Vec<Use> = vec![
        ("/bin/app", "x", json!(1)),
        ("/lib/libc.so", "m", json!(2.5)),
        ("/etc/app.conf", "lr", json!(40)),
        ("/var/log", "w", json!(null)),
    ];
    uses.extend(ODD.map(|(path, _)| (path, "l", json!(70_000))));
    report("web-0", &[container("web", &uses)])
}

/// Makes an image that has some of the files of [`small`].
fn unpack(root: &Path) {
    for (path, bytes) in [
        ("bin/app", 3000),
        ("etc/app.conf", 100),
        ("etc/unused", 50),
        ("usr/share/doc", 7000),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![b'x'; bytes]).unwrap();
    }
    symlink("usr/share", root.join("share")).unwrap();
    let info = root.join("var/lib/dpkg/info");
    fs::create_dir_all(&info).unwrap();
    fs::write(info.join("app.list"), "/.\n/bin/app\n/etc/app.conf\n").unwrap();
    fs::write(info.join("doc<b>.list"), "/.\n/usr/share/doc\n").unwrap();
}

#[test]
fn the_tree_is_plain_text_without_a_terminal() {
    let place = Place::new();
    place.write("r.json", &small());
    let shown = place.said(&["show", "r.json"]);
    for part in [
        "r.json; image app:1; pod web-0; namespace shop\n10 files of 1 container, used from 2026-01-15T10:30:00Z",
        "complete: nothing is missing",
        "      10  lrwxm  /\n       1  x      ├── bin/\n          x      │   └── app\n",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    for (path, name) in ODD {
        // A slash in a name of the list begins a directory.
        let last = name.rsplit('/').next().unwrap();
        assert!(shown.contains(last), "{path:?} is not in\n{shown}");
    }
    let controls = |c: char| c.is_control() && c != '\n';
    assert!(!shown.contains(controls), "{shown:?}");
    let shallow = place.said(&["show", "-depth=1", "r.json"]);
    assert!(
        shallow.contains("bin/") && !shallow.contains("app\n"),
        "{shallow}"
    );
    unpack(&place.path("root"));
    let sizes = place.said(&["show", "-root", "root", "-depth=1", "r.json"]);
    let line = "       1  x         2.9 KiB     2.9 KiB  ├── bin/";
    assert!(sizes.contains(line), "{sizes}");
    assert!(
        sizes.contains("      10  lrwxm     3.0 KiB    10.0 KiB  /\n"),
        "{sizes}"
    );
}

#[test]
fn the_tree_is_coloured_in_a_terminal_only() {
    let place = Place::new();
    place.write("r.json", &small());
    let in_terminal = |environment: &[(&str, &str)]| {
        let program = snoop().get_program().to_owned();
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", "import pty, sys; pty.spawn(sys.argv[1:])"]);
        command.arg(program).args(["show", "r.json"]);
        command.current_dir(place.0.path()).env_remove("NO_COLOR");
        let output = command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let coloured = in_terminal(&[]);
    assert!(coloured.contains("\x1b[0;1;34mbin/\x1b[0m"), "{coloured:?}");
    let plain = in_terminal(&[("NO_COLOR", "1")]).replace("\r\n", "\n");
    assert_eq!(plain, place.said(&["show", "r.json"]));
    assert_eq!(in_terminal(&[("NO_COLOR", "")]), coloured);
}

#[test]
fn errors_say_what_to_do() {
    let place = Place::new();
    place.write("r.json", &small());
    fs::write(place.path("text"), "{\"schema\": 2").unwrap();
    for (words, part) in [
        (&["show"][..], "show: give one report; write snoop show"),
        (&["show", "r.json", "r.json"], "show: give one report"),
        (
            &["show", "-depth=x", "r.json"],
            "-depth=x: not a number of levels; give one such as 3",
        ),
        (&["show", "none.json"], "none.json: No such file"),
        (&["show", "text"], "text: it is truncated"),
        (
            &["show", "-html=none/p.html", "r.json"],
            "-html=none/p.html: there is no directory none",
        ),
        (&["show", "-html=p.html", "text"], "text: it is truncated"),
        (
            &["show", "-root=none", "r.json"],
            "-root=none: No such file",
        ),
    ] {
        let output = place.snoop(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(part) && said.lines().count() == 1, "{said}");
    }
    assert!(!place.path("p.html").exists());
}

/// Returns the texts of the rows that are elements now.
const ROWS: &str = "return [...document.querySelectorAll('#rows .row .name')].map((name) => name.textContent.replace(/^[▸▾]/, ''))";

fn rows(browser: &Browser) -> Vec<String> {
    let rows = browser.run(ROWS);
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| row.as_str().unwrap().into())
        .collect()
}

fn text(browser: &Browser, id: &str) -> String {
    let text = browser.run(&format!(
        "return document.getElementById('{id}').textContent"
    ));
    text.as_str().unwrap().into()
}

#[test]
fn names_are_text_in_the_page() {
    let place = Place::new();
    place.write("r.json", &small());
    let browser = Browser::start("light");
    place.page(&browser, &["r.json"]);
    browser.type_into("#search", "srv");
    let rows = rows(&browser);
    for (_, name) in ODD {
        for part in name.split('/') {
            let is_part = |row: &String| row.trim_end_matches('/') == part;
            assert!(rows.iter().any(is_part), "{part:?} is not in {rows:#?}");
        }
    }
    assert_eq!(browser.run("return document.scripts.length"), 2);
    assert_eq!(browser.run("return document.images.length"), 0);
    assert_eq!(browser.run("return document.title"), "app:1 – snoop");
    assert_eq!(browser.complaints(), [Value::Null; 0]);
}

#[test]
fn the_page_shows_the_image() {
    let place = Place::new();
    let mut incomplete = small();
    incomplete["complete"] = json!(false);
    incomplete["missing"] = json!({"buffer_full": 12, "late_attach": 1, "of_the_future": 3});
    place.write("r.json", &incomplete);
    unpack(&place.path("root"));
    let browser = Browser::start("light");
    browser.resize(1280, 900);
    let output = place.snoop(&["show", "-html=page.html", "-root=root", "r.json"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("r.json is not complete"),
        "{said}"
    );
    browser.open(&format!("file://{}", place.path("page.html").display()));
    let figures = text(&browser, "figures");
    assert!(
        figures.contains("Files used10") && figures.contains("3.0 KiB"),
        "{figures}"
    );
    let reasons = text(&browser, "reasons");
    for part in [
        "buffer_full (12 accesses): The ring",
        "late_attach (1 container): They",
        "of_the_future (3)",
    ] {
        assert!(reasons.contains(part), "{reasons}");
    }
    let packages = text(&browser, "packages");
    assert!(
        packages.contains("doc<b>6.8 KiB") && packages.contains("app3.0 KiB"),
        "{packages}"
    );
    // The coloured part of each rectangle is what is used of its bytes.
    let share = "return document.querySelector('#map [title^=\"/bin/app\"]').style.getPropertyValue('--share')";
    assert_eq!(browser.run(share), "100%");
    let area = "return [...document.querySelectorAll('#map .cell')].reduce((sum, cell) => sum + cell.offsetWidth * cell.offsetHeight, 0) / (map.box.clientWidth * map.box.clientHeight)";
    assert!(browser.run(area).as_f64().unwrap() > 0.6);
    browser.run("document.querySelector('#use').value = 'unused'; document.querySelector('#use').dispatchEvent(new Event('change'))");
    assert_eq!(
        rows(&browser).iter().filter(|row| *row == "unused").count(),
        1
    );
    assert!(!rows(&browser).contains(&"app".into()));
    browser.run("document.querySelector('#map button').click()");
    assert!(text(&browser, "crumbs").starts_with('/') && text(&browser, "crumbs").len() > 1);
    assert_eq!(browser.complaints(), [Value::Null; 0]);
}

/// A report of 100,000 files.
fn large() -> Value {
    let paths: Vec<_> = (0..100_000)
        .map(|n| {
            format!(
                "/app/node_modules/package-{:03}/lib/file-{n:05}.js",
                n / 100
            )
        })
        .collect();
    let uses: Vec<Use> = (0..)
        .zip(&paths)
        .map(|(n, path)| {
            let kinds = if n % 1000 == 7 { "x" } else { "lr" };
            // In the order of the names backwards, and ever more slowly.
            let first = 1.00012f64.powi(100_000 - n);
            (path.as_str(), kinds, json!(first))
        })
        .collect();
    report(
        "web-0",
        &[
            container("web", &uses),
            container("side<b>car", &[("/bin/sh", "x", json!(0.5))]),
        ],
    )
}

#[test]
fn the_page_renders_100_000_files() {
    let place = Place::new();
    place.write("r.json", &large());
    let browser = Browser::start("dark");
    browser.resize(1280, 900);
    place.page(&browser, &["r.json"]);
    assert_eq!(text(&browser, "found"), "100,001 files");
    assert!(text(&browser, "figures").contains("100,001"));
    // However many files there are, only those in sight are elements.
    browser.run("list.filter.text = 'file'; list.update(); list.box.scrollTop = 1e9; list.draw()");
    let shown = rows(&browser);
    assert!(
        shown.len() < 100 && shown.last().unwrap() == "file-99999.js",
        "{shown:?}"
    );
    browser.type_into("#search", "PACKAGE-042/lib/file-0421");
    assert_eq!(text(&browser, "found"), "10 of 100,001 files");
    let expected = [
        "/",
        "app/",
        "node_modules/",
        "package-042/",
        "lib/",
        "file-04210.js",
    ];
    assert_eq!(rows(&browser)[..6], expected);
    // The keys of a tree.
    browser.type_into("#tree", "\u{e015}\u{e015}\u{e012}");
    assert_eq!(rows(&browser), ["/", "app/", "node_modules/"]);
    browser.type_into("#tree", "\u{e014}\u{e010}");
    assert_eq!(browser.run("return list.active"), 14);
    browser.run("document.querySelector('#search').value = ''; list.setFilter({ text: '' }); document.querySelector('#kinds button[aria-label=executed]').click()");
    assert_eq!(text(&browser, "found"), "101 of 100,001 files");
    browser.run("document.querySelector('#order').value = 'time'; document.querySelector('#order').dispatchEvent(new Event('change'))");
    let first = rows(&browser);
    assert_eq!(
        first[..2],
        ["/bin/sh", "/app/node_modules/package-990/lib/file-99007.js"]
    );
    let containers = browser.run(
        "return [...document.querySelectorAll('#container option')].map((one) => one.textContent)",
    );
    assert_eq!(containers, json!(["all", "web", "side<b>car"]));
    browser.run("document.querySelector('#container').value = 1; document.querySelector('#container').dispatchEvent(new Event('change'))");
    assert_eq!(text(&browser, "found"), "1 of 1 file");
    let moved = browser.run(
        "const observer = new PerformanceObserver(() => {});
        observer.observe({ type: 'layout-shift', buffered: true });
        return observer.takeRecords().filter((shift) => !shift.hadRecentInput).map((shift) => shift.value)",
    );
    assert_eq!(moved, json!([]));
    assert_eq!(browser.complaints(), [Value::Null; 0]);
}

#[test]
fn the_listener_serves_the_page() {
    let cgroup = TestCgroup::make("show");
    let place = Place::new();
    let sidecar = Sidecar::start(&["-cgroup", &cgroup.path()], &place.path("r.json"));
    let browser = Browser::start("light");
    browser.open(&format!("http://127.0.0.1:{}/", sidecar.port));
    wait_until(|| text(&browser, "live").starts_with("live, as of "));
    open_in(&cgroup, place.0.path(), "first<b>");
    browser.type_into("#search", "first<b>/0-0");
    wait_until(|| rows(&browser).ends_with(&["first<b>/".into(), "0-0".into()]));
    // The page is open while snoop ends.
    sidecar.stop("TERM");
    wait_until(|| text(&browser, "live").starts_with("no answer: "));
}

#[test]
fn the_page_takes_no_memory_of_the_listener() {
    let cgroup = TestCgroup::make("page");
    let place = Place::new();
    let sidecar = Sidecar::start(&["-cgroup", &cgroup.path()], &place.path("r.json"));
    let curl = |path: &str, flags: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--noproxy", "*"]).args(flags);
        command.arg(format!("http://127.0.0.1:{}{path}", sidecar.port));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let head = curl("/", &["-I"]);
    for line in [
        "HTTP/1.1 200 OK\r\n",
        "Content-Type: text/html; charset=utf-8\r\n",
        "Content-Encoding: gzip\r\n",
        "Content-Security-Policy: default-src 'none'; script-src 'sha256-",
    ] {
        assert!(head.contains(line), "{head}");
    }
    // A report is sent in pieces of the same size.
    curl("/report", &[]);
    let before = sidecar.status("VmData");
    for _ in 0..50 {
        let page = curl("/", &["--compressed"]);
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        assert!(page.contains("id=\"data\">null</script>"));
    }
    assert_eq!(sidecar.status("VmData"), before);
    sidecar.stop("TERM");
}
