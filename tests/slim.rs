// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images that are rebuilt from a report work. Real applications run in a full root, where they are traced, and then in
//! a root that contains only what `snoop closure` lists. They must print the same in both.
//!
//! `make test-slim` runs all applications, `make test` those of the small root.

mod common;

use common::container::{Container, become_node, snoop_apart};
use common::debian::{SMALL, debian_root};
use common::{Sidecar, TestCgroup, snoop};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

struct App {
    name: &'static str,
    /// A script for sh. Its output must not depend on the time or on other files.
    script: &'static str,
}

const LARGE: [&str; 8] = [
    "ruby",
    "nodejs",
    "php-cli",
    "redis-server",
    "postgresql",
    "default-jdk-headless",
    "gcc",
    "libc6-dev",
];

const SMALL_APPS: [App; 7] = [
    App {
        name: "sh and pipes",
        script: "for i in 3 1 2; do echo $i; done | sort | sed 's/$/ x/' | awk '{ print $1 * 2 }' | tr '\\n' , | cut -c1-5; \
                 printf 'a b c' | xargs -n1 echo | grep -v b | uniq -c; date -u -d @0; id -un; basename $(readlink -f /bin/sh)",
    },
    App {
        name: "python3",
        script: "python3 -c 'import json, ssl, sqlite3, hashlib, decimal, xml.dom.minidom
print(json.dumps([1, None]), ssl.OPENSSL_VERSION, hashlib.sha256(b\"x\").hexdigest())
print(sqlite3.connect(\":memory:\").execute(\"select 6 * 7\").fetchall(), decimal.Decimal(1) / 3)
print(\"caf\\u00e9\".encode(\"latin-1\"), \"x\".encode(\"idna\"))'",
    },
    App {
        name: "perl",
        script: "perl -MPOSIX -MData::Dumper -MFile::Spec -MEncode -e 'print floor(3.7), Dumper([1, {a => 2}]), encode(\"UTF-16\", \"x\"), \"\\n\"'",
    },
    App {
        name: "sqlite3",
        script: "sqlite3 /tmp/db 'create table t(a); insert into t values (42); select a, sqlite_version() from t'",
    },
    App {
        name: "git",
        script: "export GIT_AUTHOR_DATE='1 Jan 2020 00:00 +0000' GIT_COMMITTER_DATE='1 Jan 2020 00:00 +0000'
cd /tmp && git -c init.defaultBranch=main init -q repo && cd repo && echo x >file && git add file
git -c user.name=n -c user.email=e@x commit -qm one && git log --format='%H %s' && git status --short && git fsck 2>&1 && git gc -q && git log --stat",
    },
    App {
        name: "nginx",
        script: "nginx -c /srv/app/nginx.conf; for path in / /none; do
bash -c \"exec 3<>/dev/tcp/127.0.0.1/18099 && printf 'GET $path HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3\" | grep -v Date:; done; nginx -c /srv/app/nginx.conf -s quit 2>&1 | cut -d] -f2 | cut -d: -f2",
    },
    App {
        name: "musl, dynamic",
        script: "/srv/app/musl",
    },
];

const LARGE_APPS: [App; 7] = [
    App {
        name: "ruby",
        script: "ruby -rjson -rset -ropenssl -ryaml -e 'puts JSON.generate([1, nil]), Set[1].inspect, OpenSSL::Digest::SHA256.hexdigest(\"x\"), [1].to_yaml'",
    },
    App {
        name: "node",
        script: "node -e 'console.log(require(\"crypto\").createHash(\"sha256\").update(\"x\").digest(\"hex\"), new Intl.NumberFormat(\"de\").format(1e6), require(\"zlib\").gzipSync(\"x\").length)'",
    },
    App {
        name: "php",
        script: "php -r 'echo json_encode([1, null]), hash(\"sha256\", \"x\"), PHP_EOL;' && php -r 'echo date(\"c\", 0), PHP_EOL;'",
    },
    App {
        name: "redis",
        script: "redis-server --port 16399 --bind 127.0.0.1 --save '' --dir /tmp >/tmp/redis.log & \
                 sleep 0.2; for i in 1 2 3 4 5 6 7 8 9; do redis-cli -p 16399 ping 2>/dev/null && break; sleep 0.2; done; \
                 redis-cli -p 16399 set a 1; redis-cli -p 16399 get a; redis-cli -p 16399 shutdown nosave; wait",
    },
    App {
        name: "postgresql",
        script: "PATH=$(echo /usr/lib/postgresql/*/bin):$PATH; mkdir /tmp/pg && chown postgres /tmp/pg && cd /tmp/pg
as='setpriv --reuid=postgres --regid=postgres --clear-groups'
$as initdb -D /tmp/pg/data >/dev/null && $as pg_ctl -D /tmp/pg/data -o \"-k /tmp/pg -h ''\" -l /tmp/pg/log -w start >/dev/null
$as psql -h /tmp/pg postgres -Atc 'create table t as select 42 as a; select a, version() from t; select to_tsvector($$english words$$)'
$as pg_ctl -D /tmp/pg/data -w stop >/dev/null; echo stopped",
    },
    App {
        name: "openjdk",
        script: "java /srv/app/Hello.java && javac -d /tmp /srv/app/Hello.java && java -cp /tmp Hello",
    },
    App {
        name: "gcc",
        script: "printf '#include <stdio.h>\\n#include <math.h>\\nint main(int n, char **v) { printf(\"%%f\\\\n\", sqrt(n + 1)); }' >/tmp/a.c && gcc -O2 -Wall -o /tmp/a /tmp/a.c -lm && /tmp/a",
    },
];

/// Runs a script in a container with the root `root`, without changing that directory.
fn run(root: &Path, script: &str, cgroup: &str) -> Output {
    let layers = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = layers.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let (upper, work, merged) = (directory("upper"), directory("work"), directory("merged"));
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        root.display(),
        upper.display(),
        work.display()
    );
    let mount = Command::new("mount")
        .args(["-t", "overlay", "-o", &options, "none"])
        .arg(&merged)
        .status();
    assert!(mount.unwrap().success());
    let container = Container::new(&merged, cgroup, &["/bin/sh", "-c", script]);
    let output = container.command().stdin(Stdio::null()).output().unwrap();
    let unmount = Command::new("umount").arg("-l").arg(&merged).status();
    assert!(unmount.unwrap().success());
    output
}

/// Returns the number of files in a root, without directories, and their bytes.
fn size(root: &Path) -> (usize, u64) {
    let image = snoop::image::Image::open(root).unwrap();
    let entries = image.entries().unwrap();
    let files = entries.iter().filter(|entry| !entry.metadata.is_dir());
    files.fold((0, 0), |(n, bytes), entry| {
        (n + 1, bytes + entry.metadata.len())
    })
}

/// Runs each application in both roots, and prints a table.
fn compare(name: &str, root: &Path, apps: &[App]) {
    become_node();
    let above = TestCgroup::make(name);
    let full = size(root);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{:<14} {:>7} {:>9}   full {} files, {:.1} MiB",
        "",
        "files",
        "MiB",
        full.0,
        mib(full.1)
    );
    let mut different = Vec::new();
    for (i, app) in apps.iter().enumerate() {
        let cgroup = above.nested(&format!(
            "docker-{}.scope",
            format!("{i:x}e").repeat(64).get(..64).unwrap()
        ));
        let scratch = tempfile::tempdir().unwrap();
        let report = scratch.path().join("report.json");
        let sidecar = Sidecar::start_by(
            snoop_apart(),
            &[&format!("-cgroup={}", cgroup.path())],
            &report,
        );
        let first = run(root, app.script, &cgroup.path());
        sidecar.stop("TERM");

        let slim = scratch.path().join("slim");
        fs::create_dir(&slim).unwrap();
        let made = Command::new("sh")
            .args(["-c", r#""$0" closure -root "$1" -0 "$2" | tar -C "$1" --no-recursion --null -T - -c | tar -C "$3" -x"#])
            .args([snoop().get_program(), root.as_os_str(), report.as_os_str(), slim.as_os_str()])
            .status();
        assert!(made.unwrap().success());
        let kept = size(&slim);
        let second = run(&slim, app.script, &format!("{}/again", above.path()));
        let same = first == second && first.status.success();
        println!(
            "{:<14} {:>7} {:>9.1}   {}",
            app.name,
            kept.0,
            mib(kept.1),
            if same { "same" } else { "DIFFERENT" }
        );
        if !same {
            let show = |output: &Output| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                format!(
                    "{}\n{}{}",
                    output.status,
                    text(&output.stdout),
                    text(&output.stderr)
                )
            };
            different.push(format!(
                "--- {} in full: {}--- in slim: {}",
                app.name,
                show(&first),
                show(&second)
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn small() {
    compare("small", &debian_root("small", &SMALL), &SMALL_APPS);
}

/// This test takes minutes. `make test-slim` runs it.
#[test]
#[ignore = "a part of make test-slim"]
fn large() {
    let root = debian_root("large", &[&SMALL[..], &LARGE].concat());
    compare(
        "large",
        &root,
        &SMALL_APPS.into_iter().chain(LARGE_APPS).collect::<Vec<_>>(),
    );
}
