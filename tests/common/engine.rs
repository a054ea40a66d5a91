// SPDX-License-Identifier: MIT OR Apache-2.0
//! Podman and Docker from Debian, each on its own node: namespaces in which only the engine and its containers run,
//! with only cgroup v2.

use super::container::{busybox_root, copy_program};
use super::debian::release_root;
use super::{Report, snoop};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TOP: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Release {
    /// Debian 12: Podman 4.3, Docker 20.10, Compose 1.29.
    Bookworm,
    /// Debian 13: Podman 5.4, Docker 26.1, Compose 2.26.
    Trixie,
}

impl Release {
    pub const ALL: [Release; 2] = [Release::Bookworm, Release::Trixie];

    fn root(self) -> PathBuf {
        // catatonit is the pause container of Podman; ip, jq and busybox are for the tests.
        let common =
            "podman catatonit docker.io docker-compose runc iptables iproute2 jq busybox-static";
        let (suite, more) = match self {
            Release::Bookworm => ("bookworm", ""),
            Release::Trixie => ("trixie", "docker-cli netavark aardvark-dns nftables"),
        };
        let packages: Vec<_> = common.split(' ').chain(more.split_whitespace()).collect();
        release_root(suite, &packages)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Engine {
    Podman,
    Docker,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Engine::Podman => "podman",
            Engine::Docker => "docker",
        }
    }
}

/// A node with an engine that has snoop's image. Dropping it ends everything that runs on the node.
pub struct Node {
    engine: Engine,
    init: Child,
    daemon: Option<Child>,
    data: TempDir,
    _lock: fs::File,
}

const IMAGE: &str = "localhost/snoop:0.1.0";

/// The cgroups that the engines create at the top of the hierarchy.
const CGROUPS: [&str; 3] = ["libpod_parent", "docker", "snoop.slice"];

impl Node {
    pub fn start(release: Release, engine: Engine) -> Node {
        // It takes minutes to create the roots the first time.
        static ROOTS: OnceLock<()> = OnceLock::new();
        ROOTS.get_or_init(|| {
            scope(|threads| {
                for release in Release::ALL {
                    threads.spawn(move || release.root());
                }
            });
        });
        let lock = lock();
        remove_cgroups();
        let data = tempfile::tempdir().unwrap();
        let mut init = Command::new("unshare")
            .args(["--mount", "--net", "--ipc", "--uts", "--pid"])
            .args(["--fork", "--kill-child"])
            .arg(format!("{TOP}/tests/helper/node.sh"))
            .arg(release.root())
            .arg(data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(init.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the node does not start");
        let mut node = Node {
            engine,
            init,
            daemon: None,
            data,
            _lock: lock,
        };

        copy_program(&static_snoop(), &node.share().join("static-snoop"));
        for file in [
            "scratch.Dockerfile",
            "tests/helper/runtime.sh",
            "deploy/compose.yaml",
            "deploy/podman.yaml",
        ] {
            let from = Path::new(TOP).join(file);
            copy_program(&from, &node.share().join(from.file_name().unwrap()));
        }
        fs::write(node.share().join("containers.conf"), CONTAINERS_CONF).unwrap();
        if engine == Engine::Docker {
            node.start_docker();
        }
        let engine = engine.name();
        node.run(&format!(
            "{engine} build --file scratch.Dockerfile --target prebuilt --build-arg BINARY=static-snoop --tag {IMAGE} /srv"
        ));
        // Podman looks for a short name below localhost.
        node.run(&format!("{engine} tag {IMAGE} snoop:0.1.0"));
        node
    }

    /// Returns the directory that is /srv on the node.
    pub fn share(&self) -> PathBuf {
        self.data.path().join("share")
    }

    fn command(&self, words: &[&str]) -> Command {
        let init = self.init.id();
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--net", "--ipc", "--uts"])
            .arg(format!("--target={init}"))
            .arg(format!("--pid=/proc/{init}/ns/pid_for_children"))
            .args(["--", "env", "--chdir=/srv"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("CONTAINERS_CONF", "/srv/containers.conf")
            // BuildKit is in a separate package, which is not installed.
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command on the node, which must succeed. Returns its output. Blanks separate the words of the command.
    pub fn run(&self, words: &str) -> String {
        let words: Vec<_> = words.split(' ').collect();
        self.run_words(&words)
    }

    /// Runs a script on the node, like [`Node::run`].
    pub fn run_script(&self, script: &str) -> String {
        self.run_words(&["timeout", "60", "sh", "-ec", script])
    }

    fn run_words(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let (status, words) = (output.status, words.join(" "));
        assert!(status.success(), "{words}: {status}: {said}{}", self.log());
        String::from_utf8(output.stdout).unwrap().trim().into()
    }

    /// Creates an image with busybox that runs a script.
    pub fn import(&self, image: &str, script: &str) {
        let root = busybox_root();
        for file in ["passwd", "hosts"] {
            fs::write(root.path().join("etc").join(file), "").unwrap();
        }
        let tar = self.share().join("image.tar");
        let made = Command::new("tar")
            .args(["--create", "--file"])
            .arg(&tar)
            .arg("--directory")
            .args([root.path(), Path::new(".")])
            .status();
        assert!(made.unwrap().success());
        let command = serde_json::json!(["sh", "-c", script]);
        self.run_words(&[
            self.engine.name(),
            "import",
            "--change",
            "ENV PATH=/bin",
            "--change",
            &format!("CMD {command}"),
            "/srv/image.tar",
            image,
        ]);
    }

    fn start_docker(&mut self) {
        let path = self.share().join("dockerd.log");
        let log = fs::File::create(&path).unwrap();
        let options = [
            "--add-runtime",
            "test=/srv/runtime.sh",
            "--default-runtime",
            "test",
        ];
        let mut command = self.command(&[&["dockerd"], &options[..]].concat());
        self.daemon = Some(command.stderr(log).spawn().unwrap());
        let begun = Instant::now();
        let answers = || {
            let info = self.command(&["docker", "info"]).output();
            info.unwrap().status.success()
        };
        while !answers() {
            if begun.elapsed() > Duration::from_secs(60) {
                panic!(
                    "dockerd does not start: {}",
                    fs::read_to_string(path).unwrap()
                );
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Returns the report from the port that is published on the node's loopback address, or why there is none.
    fn report(&self) -> Result<Report, String> {
        let url = "http://127.0.0.1:9090/report";
        let output = self
            .command(&["timeout", "10", "busybox", "wget", "-q", "-O", "-", url])
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(Report::parse(&output.stdout)),
            false => Err(String::from_utf8_lossy(&output.stderr).into()),
        }
    }

    /// Returns snoop's log.
    fn log(&self) -> String {
        let engine = self.engine.name();
        let script = format!(
            "for id in $({engine} ps --all --quiet --filter ancestor={IMAGE}); do {engine} logs $id; done 2>&1"
        );
        let output = self.command(&["sh", "-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits for a report for which `good` holds. If none comes, fails and shows the last one.
    pub fn wait_for(&self, what: &str, good: impl Fn(&Report) -> bool) -> Report {
        let begun = Instant::now();
        loop {
            let report = self.report();
            match report {
                Ok(report) if good(&report) => return report,
                _ if begun.elapsed() < Duration::from_secs(60) => {
                    sleep(Duration::from_millis(50));
                }
                Ok(report) => panic!("no report with {what}: {:#}", report.json),
                Err(why) => panic!("no report with {what}: {why}{}", self.log()),
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // When the init process ends, the kernel ends everything on the node and then releases its mounts and cgroups.
        let _ = self.init.kill();
        let _ = self.init.wait();
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.wait();
        }
        for _ in 0..100 {
            if remove_cgroups() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// Allows one node at a time on this machine, because engines use the same names of cgroups everywhere.
fn lock() -> fs::File {
    let file = fs::File::create("/run/snoop-test-node").unwrap();
    // SAFETY: no pointers; the descriptor is open.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    file
}

/// Removes the cgroups that engines leave behind, except those in use. Returns whether all are gone.
fn remove_cgroups() -> bool {
    let mountinfo = fs::read("/proc/self/mountinfo").unwrap();
    let mount = snoop::cgroup::find_mount(&mountinfo).expect("cgroup v2 is mounted");
    let left = CGROUPS.map(|name| mount.join(name));
    let left: Vec<_> = left.iter().filter(|cgroup| cgroup.exists()).collect();
    if !left.is_empty() {
        // -depth removes the leaves first.
        let _ = Command::new("find")
            .args(&left)
            .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
            .output();
    }
    !left.iter().any(|cgroup| cgroup.exists())
}

/// Returns the binary under test. It must be static, because the image has no libraries.
fn static_snoop() -> PathBuf {
    if env::var_os("SNOOP_BINARY").is_some() {
        return snoop().get_program().into();
    }
    let made = Command::new("scripts/static").arg("x86_64").status();
    assert!(made.unwrap().success(), "no static binary");
    Path::new(TOP).join("target/x86_64/snoop")
}

/// The configuration of Podman. It does without systemd, and its runtime is a script that removes settings which the
/// machine may not support.
const CONTAINERS_CONF: &str = r#"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "test"
[engine.runtimes]
test = ["/srv/runtime.sh"]
"#;
