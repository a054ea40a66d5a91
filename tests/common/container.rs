// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real containers, run by runc.

use serde_json::{Value, json};
use std::ffi::{CStr, OsStr};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The capabilities that Docker and containerd give to containers.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Gives this thread and its children their own network, in which every port is free.
pub fn own_network() {
    // SAFETY: no pointers. A thread may have a network namespace of its own.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
    let up = Command::new("/bin/busybox")
        .args(["ip", "link", "set", "lo", "up"])
        .status();
    assert!(up.unwrap().success());
}

/// Turns this thread and its children into a node of their own, with their own network, and with only cgroup v2,
/// whatever the machine has mounted.
pub fn become_node() {
    own_network();
    let mount = |source: &CStr, target: &CStr, kind: &CStr, flags| {
        // SAFETY: all strings end with a NUL; no data is handed in.
        let done = unsafe {
            libc::mount(
                source.as_ptr(),
                target.as_ptr(),
                kind.as_ptr(),
                flags,
                std::ptr::null(),
            )
        };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    };
    // SAFETY: no pointers. A thread may have a mount namespace of its own.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: the string ends with a NUL.
    unsafe { libc::umount2(c"/sys/fs/cgroup".as_ptr(), libc::MNT_DETACH) };
    mount(c"none", c"/sys/fs/cgroup", c"cgroup2", 0);
}

pub struct Container {
    pub id: String,
    bundle: TempDir,
    /// The runtime's configuration, config.json.
    pub config: Value,
}

impl Container {
    /// Creates a container that runs `args` in `root`, in the cgroup at this path.
    pub fn new(root: &Path, cgroup: &str, args: &[impl AsRef<str>]) -> Container {
        let mount = |point: &str, kind: &str, options: &[&str]| {
            let mut all = vec!["nosuid", "noexec"];
            all.extend(options);
            json!({"destination": point, "type": kind, "source": kind, "options": all})
        };
        let namespaces = ["pid", "ipc", "uts", "mount", "cgroup"];
        let capabilities = json!(CAPABILITIES);
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": args.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"],
                "cwd": "/",
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
            },
            "root": {"path": root, "readonly": false},
            "hostname": "test",
            "mounts": [
                mount("/proc", "proc", &["nodev"]),
                mount("/dev", "tmpfs", &["mode=755"]),
                mount("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666"]),
                mount("/dev/shm", "tmpfs", &["nodev", "mode=1777"]),
                mount("/sys", "sysfs", &["nodev", "ro"]),
            ],
            "linux": {
                "cgroupsPath": cgroup,
                "namespaces": namespaces.map(|kind| json!({"type": kind})),
            },
        });
        let bundle = tempfile::tempdir().unwrap();
        let name = bundle.path().file_name().unwrap().to_str().unwrap();
        Container {
            id: format!("snoop{}", name.trim_start_matches('.')),
            bundle,
            config,
        }
    }

    /// Changes each of the sets of capabilities.
    pub fn capabilities(&mut self, change: impl Fn(&mut Vec<Value>)) {
        for set in ["bounding", "effective", "permitted"] {
            let set = &mut self.config["process"]["capabilities"][set];
            change(set.as_array_mut().unwrap());
        }
    }

    /// Mounts a directory of this machine in the container.
    pub fn bind(&mut self, from: &Path, to: &str, options: &[&str]) {
        let mut all = vec!["rbind"];
        all.extend(options);
        let mount = json!({"destination": to, "type": "bind", "source": from, "options": all});
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Returns the command that runs the container from start to end.
    pub fn command(&self) -> Command {
        let config = self.bundle.path().join("config.json");
        fs::write(config, self.config.to_string()).unwrap();
        self.runc(&[
            "run".as_ref(),
            "--bundle".as_ref(),
            self.bundle.path().as_os_str(),
            self.id.as_ref(),
        ])
    }

    /// Returns the command that runs another program in the container, as `kubectl exec` does.
    pub fn exec(&self, args: &[&str]) -> Command {
        let mut words = vec!["exec".as_ref(), OsStr::new(&self.id)];
        words.extend(args.iter().map(OsStr::new));
        self.runc(&words)
    }

    pub fn kill(&self, signal: &str) {
        let status = self
            .runc(&["kill".as_ref(), self.id.as_ref(), signal.as_ref()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Ends the container if it has not ended.
    pub fn delete(&self) {
        let _ = self
            .runc(&["delete".as_ref(), "--force".as_ref(), self.id.as_ref()])
            .output();
    }

    fn runc(&self, args: &[&OsStr]) -> Command {
        let mut command = Command::new("runc");
        command.args(["--root", "/run/snoop-test"]).args(args);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The container is still there only after a failure.
        self.delete();
    }
}

/// Returns a command that runs snoop as if in its own container, in another mount namespace than the runtime.
pub fn snoop_apart() -> Command {
    let mut command = Command::new("unshare");
    command.arg("-m").arg(super::snoop().get_program());
    command
}

/// Creates a root directory that contains only busybox.
pub fn busybox_root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for directory in ["bin", "etc", "proc", "dev", "sys", "tmp"] {
        fs::create_dir(root.path().join(directory)).unwrap();
    }
    copy_program(Path::new("/bin/busybox"), &root.path().join("bin/busybox"));
    let install = Command::new("chroot")
        .arg(root.path())
        .args(["/bin/busybox", "--install", "-s", "/bin"])
        .status();
    assert!(install.unwrap().success());
    fs::write(root.path().join("etc/app.conf"), "x").unwrap();
    root
}

/// Copies a file that is executed next. Another process makes the copy: a child of another test could inherit our
/// descriptor that is open for writing, and the file would be busy.
pub fn copy_program(from: &Path, to: &Path) {
    assert!(
        Command::new("cp")
            .arg(from)
            .arg(to)
            .status()
            .unwrap()
            .success()
    );
}
