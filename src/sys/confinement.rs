// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can keep a process from using bpf(2) although it has the capabilities: namespaces, filters, labels, and kernels
//! other than the node's. The kernel's error is "Operation not permitted" in all of these cases.

use std::fs;
use std::path::Path;

/// Facts about this process. `None` means that snoop could not find out, which is not "no".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Confinement {
    /// The process is in a user namespace other than the initial one.
    pub user_namespace: Option<bool>,
    /// A seccomp filter applies to the process.
    pub seccomp: Option<bool>,
    /// The type in its SELinux label, such as `container_t`.
    pub selinux: Option<String>,
    /// The kernel of this container or pod alone, if it has one.
    pub guest: Option<Guest>,
}

/// A kernel that serves a single container or pod instead of the node's kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guest {
    /// A kernel in user space, without BPF.
    Gvisor,
    /// A Linux kernel in a virtual machine.
    Kata,
}

impl Confinement {
    /// Looks at the host whose root directory is `root`.
    pub fn look(root: &Path) -> Confinement {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let seccomp = text("proc/self/status").and_then(|status| {
            let mode = status
                .lines()
                .find_map(|line| line.strip_prefix("Seccomp:"))?;
            Some(mode.trim() == "2")
        });
        Confinement {
            user_namespace: text("proc/self/uid_map").map(|map| !is_first(&map)),
            seccomp,
            selinux: text("proc/self/attr/current").and_then(|label| selinux_type(&label)),
            guest: guest(
                &text("proc/version").unwrap_or_default(),
                &text("proc/cmdline").unwrap_or_default(),
            ),
        }
    }

    /// Returns why bpf(2) cannot work here even with all capabilities, and what to do. `None` if it may work.
    pub fn forbids(&self) -> Option<&'static str> {
        match (self.guest, self.user_namespace) {
            (Some(Guest::Gvisor), _) => Some(
                "this is gVisor, whose kernel has no BPF and hides the node's; run the pod with another runtime class",
            ),
            (_, Some(true)) => Some(
                "snoop runs in a user namespace, where the kernel lets no process load BPF programs; run it as root of the host (no rootless engine; in Kubernetes no hostUsers: false)",
            ),
            _ => None,
        }
    }

    /// Returns the most likely reasons why bpf(2) was refused to a process with the capabilities, and what to do.
    pub fn suspect(&self) -> String {
        let mut suspects = Vec::new();
        if self.seccomp == Some(true) {
            suspects.push("a seccomp profile refuses bpf(2), as those of Docker before 23 and of Podman 4.3 do: give a profile that allows it, or none (--security-opt seccomp=unconfined; in Kubernetes securityContext.seccompProfile)".to_string());
        }
        if let Some(kind) = self.selinux.as_deref().filter(|kind| *kind != "spc_t") {
            suspects.push(format!(
                "SELinux does not let the type {kind} load BPF programs: use the type spc_t (--security-opt label=type:spc_t; in Kubernetes securityContext.seLinuxOptions)"
            ));
        }
        if suspects.is_empty() {
            return "add the capabilities BPF and PERFMON (SYS_ADMIN before Linux 5.8)".into();
        }
        suspects.join("; or ")
    }
}

/// Returns whether this is the map of the initial user namespace, which maps each id to itself: user_namespaces(7).
fn is_first(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Returns the type in a label like `system_u:system_r:container_t:s0:c1,c2`. AppArmor's labels have another form.
fn selinux_type(label: &str) -> Option<String> {
    let label = label.trim_end_matches(['\0', '\n']);
    let parts: Vec<_> = label.split(':').collect();
    let kind = parts.get(2).filter(|_| parts.len() >= 4)?;
    kind.ends_with("_t").then(|| kind.to_string())
}

fn guest(version: &str, command_line: &str) -> Option<Guest> {
    let of_kata = |word: &str| word.contains("kata-containers") || word.starts_with("agent.log");
    if version.contains("gVisor") {
        Some(Guest::Gvisor)
    } else if command_line.split_whitespace().any(of_kata) {
        Some(Guest::Kata)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a root directory with these files below proc.
    fn looked(files: &[(&str, &str)]) -> Confinement {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join("proc").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Confinement::look(root.path())
    }

    #[test]
    fn a_plain_host_confines_nothing() {
        let found = looked(&[
            ("self/uid_map", "         0          0 4294967295\n"),
            (
                "self/status",
                "Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n",
            ),
            ("self/attr/current", "unconfined\n"),
            ("version", "Linux version 6.1.0 (gcc)\n"),
            ("cmdline", "root=/dev/vda quiet\n"),
        ]);
        assert_eq!(
            found,
            Confinement {
                user_namespace: Some(false),
                seccomp: Some(false),
                ..Confinement::default()
            }
        );
        assert_eq!(found.forbids(), None);
        assert!(found.suspect().contains("add the capabilities"));
    }

    #[test]
    fn facts_that_cannot_be_read_are_unknown() {
        let found = looked(&[]);
        assert_eq!(found, Confinement::default());
        assert_eq!(found.forbids(), None);
    }

    #[test]
    fn each_cause_is_named_with_its_remedy() {
        let rootless = looked(&[("self/uid_map", "0 1000 1\n1 100000 65536\n")]);
        let said = rootless.forbids().unwrap();
        assert!(
            said.contains("user namespace") && said.contains("hostUsers"),
            "{said}"
        );

        let gvisor = looked(&[("version", "Linux version 4.4.0 #1 SMP gVisor\n")]);
        assert!(gvisor.forbids().unwrap().contains("runtime class"));

        let filtered = looked(&[("self/status", "Seccomp:\t2\n")]).suspect();
        for words in [
            "seccomp profile refuses",
            "Docker before 23",
            "Podman 4.3",
            "unconfined",
        ] {
            assert!(filtered.contains(words), "{filtered}");
        }
        let label = "system_u:system_r:container_t:s0:c12,c34\n\0";
        let labelled = looked(&[("self/attr/current", label)]).suspect();
        assert!(
            labelled.contains("container_t") && labelled.contains("spc_t"),
            "{labelled}"
        );
        let privileged = label.replace("container_t", "spc_t");
        let free = looked(&[("self/attr/current", &privileged)]).suspect();
        assert!(free.contains("add the capabilities"), "{free}");
        let profile = looked(&[("self/attr/current", "cri-containerd.apparmor.d (enforce)\n")]);
        assert_eq!(profile.selinux, None);

        let kata = "console=hvc0 systemd.unit=kata-containers.target agent.log=debug";
        assert_eq!(looked(&[("cmdline", kata)]).guest, Some(Guest::Kata));
    }
}
