// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way that people go, in the engines of two Debian releases: an image runs with snoop beside it, `snoop slim` makes
//! the small image by that report, and the engine runs the small one alone.

mod common;

use common::container::busybox_root;
use common::debian::{SMALL, debian_root};
use common::engine::{Engine, Node, Release};
use common::image::{Work, layer, layers_of, members, run, save, tar_of};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// An application, and what is expected of it.
struct App {
    save: fn(&Work, &Path),
    prints: &'static str,
    /// Some of what it uses, the last file among them.
    used: &'static [&'static str],
    /// All that is left of it in the small image, if that can be told.
    left: &'static [&'static str],
    /// What happens to its layers.
    results: &'static [&'static str],
}

/// It belongs to several users, starts by a script behind a link, and comes from layers with whiteouts.
const LAYERS: App = App {
    save: save_layers,
    prints: "uid=33(app) gid=34 groups=34\none\ntwo\nnew\napp:x:33:34::/srv:/bin/sh\nnew\n. 2750 33:34\nsecond 644 7:34\n\
        /opt/added 644 0:0\n/srv/run 755 0:0",
    used: &["/conf/new", "/opt/added", "/srv/data/second", "/srv/run"],
    left: &[
        "/conf",
        "/conf/new",
        "/opt",
        "/opt/added",
        "/srv",
        "/srv/data",
        "/srv/data/second",
        "/srv/link",
        "/srv/run",
    ],
    results: &["changed", "changed", "changed", "same"],
};

fn save_layers(work: &Work, out: &Path) {
    let root = busybox_root();
    let script = "#!/bin/sh\ncd /srv/data\nid\ncat second /opt/added /conf/new /etc/passwd\nls /conf\n\
        stat -c '%n %a %u:%g' . second /opt/added /srv/run\n";
    fs::create_dir_all(root.path().join("srv/data")).unwrap();
    fs::write(root.path().join("srv/run"), script).unwrap();
    fs::write(
        root.path().join("etc/passwd"),
        "app:x:33:34::/srv:/bin/sh\n",
    )
    .unwrap();
    run(&[
        "sh",
        "-euc",
        "cd \"$0\"; chmod 755 srv/run; ln -s run srv/link; echo one >srv/data/first; ln srv/data/first srv/data/second
         chown -R 33:34 srv/data; chmod 2750 srv/data; chown 7:34 srv/data/first; echo unused >srv/unused",
        root.path().to_str().unwrap(),
    ]);
    let base = work.path("base.tar");
    tar_of(root.path(), &base);
    let upper: [&[&str]; 3] = [
        &["srv/.wh.unused", "opt/added: two\n", "srv/more: unused"],
        &["conf/", "conf/old: old\n", "srv/.wh.more"],
        &["conf/", "conf/.wh..wh..opq", "conf/new: new\n"],
    ];
    let names = ["second.tar", "third.tar", "fourth.tar"];
    let upper = names.iter().zip(upper);
    let upper: Vec<_> = upper
        .map(|(name, entries)| work.write(name, &layer(entries)))
        .collect();
    let layers: Vec<_> = [&base].into_iter().chain(&upper).map(|p| &**p).collect();
    let config = json!({"Entrypoint": ["/srv/link"], "Env": ["PATH=/bin"], "User": "app"});
    save(
        out,
        &layers,
        json!({"architecture": "amd64", "os": "linux", "config": config}),
    );
}

/// A Debian application: a script behind links, files of several owners, hard links, and a program that reads what its user
/// may not, by a capability.
const DEBIAN: App = App {
    save: save_debian,
    prints: "www-data {\"rows\": [[42]]}\ndata/second 0o100640 33 34 True\n/opt/shared 0o100640 33 34 True\n/srv/app-1/secret 0o100600 7 8\nkept",
    used: &["/opt/shared", "/srv/app-1/run", "/srv/app-1/secret"],
    left: &[
        "/opt",
        "/opt/shared",
        "/srv",
        "/srv/app-1",
        "/srv/app-1/data",
        "/srv/app-1/data/second",
        "/srv/app-1/read",
        "/srv/app-1/run",
        "/srv/app-1/secret",
        "/srv/current",
    ],
    results: &["changed", "changed"],
};

const DEBIAN_SCRIPT: &str = r#"#!/usr/bin/env python3
import json, os, pwd, sqlite3, subprocess
os.chdir("/srv/current")
rows = sqlite3.connect(":memory:").execute("select 6 * 7").fetchall()
print(pwd.getpwuid(os.getuid()).pw_name, json.dumps({"rows": rows}))
for name in "data/second", "/opt/shared":
    file = os.stat(name)
    print(name, oct(file.st_mode), file.st_uid, file.st_gid, os.path.samefile(name, "/opt/shared"))
secret = os.stat("/srv/app-1/secret")
print("/srv/app-1/secret", oct(secret.st_mode), secret.st_uid, secret.st_gid, flush=True)
subprocess.run(["./read", "/srv/app-1/secret"], check=True)
"#;

fn save_debian(work: &Work, out: &Path) {
    let root = debian_root("small", &SMALL);
    let (base, second) = (work.path("base.tar"), work.path("second.tar"));
    run(&[
        "tar",
        "--exclude=./proc/*",
        "--exclude=./sys/*",
        "--exclude=./srv/*",
        "-C",
        root.to_str().unwrap(),
        "-cf",
        base.to_str().unwrap(),
        ".",
    ]);
    let app = work.path("app");
    work.write("app/srv/app-1/run", DEBIAN_SCRIPT.as_bytes());
    let cat = root.join("usr/bin/cat");
    run(&[
        "sh",
        "-euc",
        "cd \"$0\"; mkdir -p srv/app-1/data usr/local/bin opt; ln -s app-1 srv/current; ln -s /srv/current/run usr/local/bin/start
         cd srv/app-1; chmod 755 run; echo unused >unused
         echo first >data/first; ln data/first data/second; ln data/first ../../opt/shared; chown 33:34 data/first; chmod 640 data/first
         cp \"$1\" read; setcap cap_dac_override=ep read; echo kept >secret; chown 7:8 secret; chmod 600 secret",
        app.to_str().unwrap(),
        cat.to_str().unwrap(),
    ]);
    tar_of(&app, &second);
    let config = json!({"Cmd": ["start"], "User": "www-data", "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"]});
    save(
        out,
        &[&base, &second],
        json!({"architecture": "amd64", "os": "linux", "config": config}),
    );
}

/// A program with the C library musl, which loads one library at its start and another one later.
const MUSL: App = App {
    save: save_musl,
    prints: "42",
    used: &["/srv/app/liblate.so", "/srv/app/musl"],
    left: &[
        "/srv",
        "/srv/app",
        "/srv/app/liblate.so",
        "/srv/app/libpart.so",
        "/srv/app/libpart.so.1",
        "/srv/app/musl",
    ],
    results: &["changed"],
};

fn save_musl(work: &Work, out: &Path) {
    let root = debian_root("small", &SMALL);
    let app = work.path("app");
    fs::create_dir(&app).unwrap();
    run(&[
        "sh",
        "-euc",
        "cd \"$0\"; tar -c srv/app lib/ld-musl-x86_64.so.1 lib/x86_64-linux-musl | tar -C \"$1\" -x",
        root.to_str().unwrap(),
        app.to_str().unwrap(),
    ]);
    fs::create_dir(app.join("bin")).unwrap();
    fs::copy("/bin/busybox", app.join("bin/busybox")).unwrap();
    let base = work.path("base.tar");
    tar_of(&app, &base);
    save(
        out,
        &[&base],
        json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/srv/app/musl"]}}),
    );
}

/// Runs an image in a pod with snoop as its sidecar, and then the small image that its report from GET /report makes.
fn podman_runs_the_small_image(node: &Node, app: &App) {
    let (work, share) = (Work::new(), node.share());
    let whole = share.join("app.tar");
    (app.save)(&work, &whole);
    node.run("podman load --quiet --input /srv/app.tar");
    let printed = node.run_script(
        "podman pod create --name web --publish 127.0.0.1:9090:9090 >/dev/null
        podman run --detach --pod web --name web-snoop --cap-drop all --cap-add BPF,PERFMON --read-only --volume snoop-data:/data snoop:0.1.0 >/dev/null
        until podman exec web-snoop /snoop health >/dev/null; do sleep 0.2; done
        podman run --pod web --name web-app localhost/app:1",
    );
    assert_eq!(printed, app.prints);
    let report = node.wait_for("what the application used", |report| {
        let is_there = |path: &&&str| report.files.contains(path.as_bytes());
        app.used.iter().all(|path| is_there(&path))
    });
    report.assert_complete();
    work.write("report.json", report.json.to_string().as_bytes());
    node.run_script(
        "podman pod rm --force --time 0 web; podman volume rm snoop-data; podman rmi --force localhost/app:1",
    );

    let (small, said) = work.made(&[whole.to_str().unwrap(), "report.json"]);
    assert_eq!(results(&said), app.results);
    fs::write(share.join("out.tar"), small).unwrap();
    node.run("podman load --quiet --input /srv/out.tar");
    assert_eq!(node.run("podman run --rm localhost/app:1-slim"), app.prints);
    let root = node.run("podman image mount localhost/app:1-slim");
    let left = node.run_script(&format!(
        "cd {root}; for name in srv opt conf; do [ ! -e $name ] || find $PWD/$name; done"
    ));
    let left: BTreeSet<_> = left
        .lines()
        .map(|path| path.strip_prefix(&root).unwrap())
        .collect();
    assert_eq!(left, app.left.iter().copied().collect());
    node.run("podman rmi --force localhost/app:1-slim");
}

fn results(said: &Value) -> Vec<&str> {
    let layers = said["layers"].as_array().unwrap().iter();
    layers
        .map(|layer| layer["result"].as_str().unwrap())
        .collect()
}

#[test]
fn podman_runs_small_images_by_the_reports_of_a_sidecar() {
    let node = Node::start(Release::Trixie, Engine::Podman);
    for app in [LAYERS, MUSL, DEBIAN] {
        podman_runs_the_small_image(&node, &app);
    }
}

/// Where the daemon of Docker has that of containerd listen.
const CTR: &str = "ctr --address /run/docker/containerd/containerd.sock";

/// Loads the small image by `docker load` and by `ctr images import`, runs it by both, and slims what Docker saves of it.
fn docker_and_containerd_run_the_small_image(release: Release) {
    let node = Node::start(release, Engine::Docker);
    let (work, share) = (Work::new(), node.share());
    save_layers(&work, &share.join("whole.tar"));
    // Docker's own archive of the image is what people have: in one form before release 25, and in another one since.
    node.run("docker load --input /srv/whole.tar");
    assert_eq!(node.run("docker run --rm localhost/app:1"), LAYERS.prints);
    node.run("docker save --output /srv/app.tar localhost/app:1");
    let has_index = members(&fs::read(share.join("app.tar")).unwrap()).contains_key("index.json");
    assert_eq!(has_index, release == Release::Trixie);
    let programs = [
        "/bin/busybox",
        "/bin/sh",
        "/bin/id",
        "/bin/cat",
        "/bin/ls",
        "/bin/stat",
        "/srv/link",
    ];
    work.report(&[LAYERS.used, &programs].concat());
    let image = share.join("app.tar");
    let (small, said) = work.made(&[image.to_str().unwrap(), "report.json"]);
    assert_eq!(results(&said), LAYERS.results);
    fs::write(share.join("out.tar"), &small).unwrap();

    let loaded = node.run("docker load --input /srv/out.tar");
    assert_eq!(loaded, "Loaded image: localhost/app:1-slim");
    let (_, config) = layers_of(&small);
    let inspected = node.run("docker image inspect localhost/app:1-slim");
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(
        inspected[0]["RootFS"]["Layers"],
        config["rootfs"]["diff_ids"]
    );
    for key in ["Entrypoint", "Env", "User", "Labels"] {
        assert_eq!(inspected[0]["Config"][key], config["config"][key], "{key}");
    }
    assert_eq!(
        node.run("docker run --rm localhost/app:1-slim"),
        LAYERS.prints
    );

    // What Docker saves of it loses nothing more.
    node.run("docker save --output /srv/saved.tar localhost/app:1-slim");
    let saved = share.join("saved.tar");
    let (again, said) = work.made(&[saved.to_str().unwrap(), "report.json"]);
    assert_eq!(results(&said), ["same"; 4]);
    assert_eq!(layers_of(&again), layers_of(&small));

    node.run(&format!("{CTR} images import /srv/out.tar"));
    let names = node.run(&format!("{CTR} images list --quiet"));
    assert_eq!(names, "localhost/app:1-slim");
    let ran = format!("{CTR} run --rm --runc-binary /srv/runtime.sh localhost/app:1-slim test");
    assert_eq!(node.run(&ran), LAYERS.prints);
}

#[test]
fn docker_20_and_containerd_run_the_small_image() {
    docker_and_containerd_run_the_small_image(Release::Bookworm);
}

#[test]
fn docker_26_and_containerd_run_the_small_image() {
    docker_and_containerd_run_the_small_image(Release::Trixie);
}
