// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names that container runtimes and engines give to cgroups: which of them are containers, which are pods, and
//! which pod snoop runs in.

use super::Cgroup;
use crate::error::{Error, Result};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The pod that snoop runs in, or another cgroup whose children are the containers to trace.
#[derive(Debug, PartialEq)]
pub struct Pod {
    pub cgroup: Cgroup,
    /// The id of snoop's own container in it, which must not be traced.
    pub own: u64,
}

/// Returns the path of the cgroup at this place among those that snoop is in.
fn path_at(cgroups: &[(u64, Vec<u8>)], at: usize) -> Vec<u8> {
    let names = cgroups[at..].iter().rev().map(|(_, name)| &name[..]);
    let mut path = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        path.push(b'/');
        path.extend(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

fn cgroup_at(cgroups: &[(u64, Vec<u8>)], at: usize) -> Cgroup {
    Cgroup {
        id: cgroups[at].0,
        path: path_at(cgroups, at),
    }
}

impl Pod {
    /// Finds the pod among the cgroups that snoop is in. They are given from snoop's own cgroup up to the root, each
    /// with id and name.
    pub fn among(cgroups: &[(u64, Vec<u8>)]) -> Result<Pod> {
        let name = |at: usize| cgroups.get(at).map_or(&b""[..], |(_, name)| name);
        let is_pod = |at: &usize| is_pod(name(*at), name(at - 1), name(at + 1));
        match (1..cgroups.len()).find(is_pod) {
            Some(at) => Ok(Pod::at(cgroups, at)),
            None => Err(not_in_a_pod(cgroups)),
        }
    }

    /// Finds the parent of snoop's own container, whatever the two are called.
    pub fn parent(cgroups: &[(u64, Vec<u8>)]) -> Result<Pod> {
        let at = own_container(cgroups) + 1;
        if at < cgroups.len() {
            Ok(Pod::at(cgroups, at))
        } else {
            Err(Error::usage(
                "-cgroup=@parent: snoop runs in the root cgroup, which has no parent; give -cgroup=PATH",
            ))
        }
    }

    /// Finds the cgroup that the kubelet keeps all pods in, among those that snoop is in.
    pub fn kubelet(cgroups: &[(u64, Vec<u8>)]) -> Result<Cgroup> {
        let is_kubelets = |(_, name): &(u64, Vec<u8>)| {
            let name = name.strip_suffix(b".slice").unwrap_or(name);
            name == b"kubepods" || name.ends_with(b"-kubepods")
        };
        match cgroups.iter().position(is_kubelets) {
            Some(at) => Ok(cgroup_at(cgroups, at)),
            None => Err(Error::usage(format!(
                "snoop's own cgroup {} is not below the kubelet's; give -cgroup=PATH, such as -cgroup=/ for all containers",
                String::from_utf8_lossy(&path_at(cgroups, 0))
            ))),
        }
    }

    /// Finds the cgroup at this path among those that snoop is in.
    pub fn above(cgroups: &[(u64, Vec<u8>)], path: &[u8]) -> Option<Cgroup> {
        let shorter = path.strip_suffix(b"/").filter(|path| !path.is_empty());
        let path = shorter.unwrap_or(path);
        let at = (0..cgroups.len()).find(|at| path_at(cgroups, *at) == path)?;
        Some(cgroup_at(cgroups, at))
    }

    fn at(cgroups: &[(u64, Vec<u8>)], at: usize) -> Pod {
        Pod {
            cgroup: cgroup_at(cgroups, at),
            own: cgroups[at - 1].0,
        }
    }
}

/// Returns the place of snoop's own container among the cgroups that snoop is in. It need not be the first one: crun
/// with systemd puts the processes into another cgroup below that of the container.
pub fn own_container(cgroups: &[(u64, Vec<u8>)]) -> usize {
    let is_container = |(_, name): &(u64, Vec<u8>)| is_container(name);
    cgroups.iter().position(is_container).unwrap_or(0)
}

fn not_in_a_pod(cgroups: &[(u64, Vec<u8>)]) -> Error {
    if cgroups.len() < 2 {
        return Error::usage(
            "cannot tell which pod snoop runs in: all its processes are in the root of cgroup v2; on a host with cgroup v1 boot with systemd.unified_cgroup_hierarchy=1, outside a container give -cgroup=PATH",
        );
    }
    let own = own_container(cgroups);
    let shown = |at| String::from_utf8_lossy(&path_at(cgroups, at)).into_owned();
    Error::usage(format!(
        "cannot tell which pod snoop runs in: its cgroup {} is not inside a pod; give -cgroup=@parent to trace the other containers in {}, or -cgroup=PATH",
        shown(0),
        shown(own + 1)
    ))
}

/// Returns whether this is the name of a pod's cgroup. `below` is the name of its child, `above` that of its parent.
fn is_pod(name: &[u8], below: &[u8], above: &[u8]) -> bool {
    is_kubernetes_pod(name) || is_container(below) && is_other_pod(name, above)
}

/// Returns whether the kubelet gives this name to a pod's cgroup: `podUID` or, with systemd,
/// `kubepods-burstable-podUID.slice`. The uid has 36 characters, or 32 for a static pod.
pub fn is_kubernetes_pod(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else {
        return false;
    };
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let Some((before, uid)) = name.rsplit_once("pod") else {
        return false;
    };
    (before.is_empty() || before.ends_with('-'))
        && uid.len() >= 32
        && uid
            .bytes()
            .all(|c| c.is_ascii_hexdigit() || b"-_".contains(&c))
}

/// Returns whether this is the name of a group of containers outside Kubernetes. Podman names a pod's cgroup after its
/// id (`/libpod_parent/ID`) or, with systemd, `machine-libpod_pod_ID.slice`. A task of Amazon ECS has `/ecs/TASK` or
/// `ecstasks-TASK.slice`.
fn is_other_pod(name: &[u8], above: &[u8]) -> bool {
    let slice = name.strip_suffix(b".slice").unwrap_or(name);
    let last = slice.rsplit(|b| *b == b'_').next().unwrap_or_default();
    is_id(name)
        || is_id(last) && slice.ends_with(&[b"libpod_pod_", last].concat())
        || slice.starts_with(b"ecstasks-")
        || above == b"ecs"
}

/// Returns whether this is the id of a container or of a Podman pod: 64 hexadecimal digits.
fn is_id(name: &[u8]) -> bool {
    name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit)
}

/// Returns whether a container runtime named this cgroup after a container.
pub fn is_container(name: &[u8]) -> bool {
    short_name(name) != name
}

/// Returns a name for the container that people recognise. If the cgroup's name ends with an id
/// (`cri-containerd-ID.scope`, `crio-ID.scope`, `docker-ID.scope`, `libpod-ID`, `ID`), this is the short form of the
/// id. Otherwise it is the cgroup's name.
pub fn short_name(name: &[u8]) -> &[u8] {
    const SHORT: usize = 12;
    container_id(name).map_or(name, |id| &id.as_bytes()[..SHORT])
}

/// Returns the id of the container after which a container runtime named this cgroup.
pub fn container_id(name: &[u8]) -> Option<&str> {
    let inner = name.strip_suffix(b".scope").unwrap_or(name);
    let id = inner.rsplit(|b| matches!(b, b'-' | b':')).next();
    std::str::from_utf8(id.filter(|id| is_id(id))?).ok()
}

/// Returns the uid of the Kubernetes pod that the cgroup at this path belongs to, as the API writes it.
pub fn pod_uid(path: &[u8]) -> Option<String> {
    let pod = path
        .split(|b| *b == b'/')
        .find(|name| is_kubernetes_pod(name))?;
    let name = std::str::from_utf8(pod.strip_suffix(b".slice").unwrap_or(pod)).ok()?;
    Some(name.rsplit_once("pod")?.1.replace('_', "-"))
}

/// Returns the name that Kubernetes gives to the container in this cgroup. The name is known if a process of the
/// container is visible below `proc`, because the pod shares its process namespace. The kubelet mounts a file from a
/// directory of that name into the container.
pub fn kubernetes_name(proc: &Path, cgroup: &[u8]) -> Option<String> {
    let leaf = cgroup.rsplit(|b| *b == b'/').next()?;
    if short_name(leaf) == leaf {
        // This is not a container, so it has no such name.
        return None;
    }
    let entries = fs::read_dir(proc).ok()?.flatten();
    let processes = entries.filter(|e| e.file_name().as_bytes()[0].is_ascii_digit());
    let is_in = |path: &PathBuf| {
        let lines = fs::read(path.join("cgroup")).unwrap_or_default();
        let mut names = lines.split(|b| matches!(*b, b'/' | b'\n'));
        names.any(|name| name == leaf)
    };
    let found = processes.map(|e| e.path()).find(is_in)?;
    let mountinfo = fs::read_to_string(found.join("mountinfo")).ok()?;
    mountinfo.lines().find_map(name_in_mount).map(String::from)
}

/// Returns the container's name if this line of mountinfo mounts a file of the kubelet, with the source
/// `…/pods/UID/containers/NAME/FILE`.
fn name_in_mount(line: &str) -> Option<&str> {
    let source = line.split(' ').nth(3)?;
    let (_, below) = source.split_once("/pods/")?;
    match below.split('/').collect::<Vec<_>>()[..] {
        [_, "containers", name, _, ..] => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "11b2c3d4-0000-1111-2222-333344445555";

    fn id(first: &str) -> String {
        format!("{first}{}", "e".repeat(64 - first.len()))
    }

    /// Cgroups from the leaf up, with ids from 100 down to the root.
    fn chain(path: &str) -> Vec<(u64, Vec<u8>)> {
        let names = path.split('/').rev();
        (0..100)
            .rev()
            .zip(names)
            .map(|(id, name)| (id, name.into()))
            .collect()
    }

    #[test]
    fn the_pods_of_all_drivers_and_runtimes_are_found() {
        let uid = UID.replace('-', "_");
        for (above, pod, below) in [
            ("/kubepods/burstable", format!("pod{UID}"), id("a1")),
            (
                "/kubepods",
                format!("pod{}", &UID.replace('-', "")),
                id("b2"),
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice",
                format!("kubepods-besteffort-pod{uid}.slice"),
                format!("cri-containerd-{}.scope", id("c3")),
            ),
            (
                "/kubelet.slice/kubelet-kubepods.slice",
                format!("kubelet-kubepods-pod{uid}.slice"),
                format!("crio-{}.scope", id("d4")),
            ),
        ] {
            for nested in ["", "/container", "/init.scope/x"] {
                let cgroups = chain(&format!("{above}/{pod}/{below}{nested}"));
                let depth = nested.matches('/').count() as u64;
                let found = Pod::among(&cgroups).unwrap();
                assert_eq!(found.cgroup.path, format!("{above}/{pod}").as_bytes());
                assert_eq!((found.own, found.cgroup.id), (99 - depth, 98 - depth));
            }
        }
    }

    /// The cgroups of Podman 4.3 and 5.4 (cgroupfs, systemd, rootless) and of Amazon ECS.
    #[test]
    fn the_pods_of_other_engines_are_found() {
        let (pod, own) = (id("aa"), id("bb"));
        for (path, container) in [
            (format!("/libpod_parent/{pod}"), format!("libpod-{own}")),
            (format!("/{pod}"), own.clone()),
            (
                format!("/machine.slice/machine-libpod_pod_{pod}.slice"),
                format!("libpod-{own}.scope"),
            ),
            (
                format!("/user.slice/user-libpod_pod_{pod}.slice"),
                format!("libpod-{own}.scope"),
            ),
            ("/ecs/0123456789abcdef0123456789abcdef".into(), own.clone()),
            (
                "/ecs.slice/ecstasks-0123456789abcdef.slice".into(),
                format!("docker-{own}.scope"),
            ),
        ] {
            for nested in ["", "/container"] {
                let cgroups = chain(&format!("{path}/{container}{nested}"));
                let own = 99 - nested.matches('/').count() as u64;
                for found in [Pod::among(&cgroups), Pod::parent(&cgroups)] {
                    let found = found.unwrap();
                    assert_eq!(found.cgroup.path, path.as_bytes());
                    assert_eq!((found.own, found.cgroup.id), (own, own - 1));
                }
            }
        }
    }

    #[test]
    fn the_parent_is_found_whatever_it_is_called() {
        let found = Pod::parent(&chain("/snoop.slice/any")).unwrap();
        assert_eq!(found.cgroup.path, b"/snoop.slice");
        assert_eq!((found.own, found.cgroup.id), (99, 98));
        let root = Pod::parent(&chain("/any")).unwrap();
        assert_eq!((&root.cgroup.path[..], root.own), (&b"/"[..], 99));
        let error = Pod::parent(&chain("")).unwrap_err();
        assert!(error.to_string().contains("no parent"), "{error}");
    }

    #[test]
    fn errors_say_why_there_is_no_pod() {
        let said = |path: &str| Pod::among(&chain(path)).unwrap_err().to_string();
        assert!(said("").contains("cgroup v1"));
        for path in [
            format!("/system.slice/docker-{}.scope", id("f")),
            format!("/kubepods/pod{UID}"),
            "/user.slice/podman-x.scope/podlike".into(),
            "/tripod/a".into(),
            // A cgroup driver other than the kubelet's joins the names into one.
            format!(
                "/kubepods-burstable-pod{UID}.slice:cri-containerd:{}",
                id("c")
            ),
        ] {
            let said = said(&path);
            let (parent, _) = path.rsplit_once('/').unwrap();
            let parent = if parent.is_empty() { "/" } else { parent };
            assert!(
                said.contains(&path) && said.contains(&format!("containers in {parent}, or")),
                "{said}"
            );
        }
    }

    #[test]
    fn a_shared_process_namespace_shows_the_kubernetes_name() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: &str, cgroup: &str, mountinfo: &str| {
            let directory = proc.path().join(pid);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("cgroup"), cgroup).unwrap();
            fs::write(directory.join("mountinfo"), mountinfo).unwrap();
        };
        let scope = |first: &str| format!("cri-containerd-{}.scope", id(first));
        let mounts = format!("700 699 0:60 / / rw - overlay overlay rw
701 700 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw
702 700 8:1 /var/lib/kubelet/pods/{UID}/containers/web/5bd0c2ad /dev/termination-log rw - ext4 /dev/sda1 rw
");
        process("1", &format!("0::/../{}\n", scope("a")), "");
        process("17", &format!("0::/../{}\n", scope("b")), &mounts);
        fs::create_dir(proc.path().join("sys")).unwrap();
        let name = |first: &str| {
            let path = format!("/kubepods.slice/x.slice/{}", scope(first));
            kubernetes_name(proc.path(), path.as_bytes())
        };
        assert_eq!(name("b").as_deref(), Some("web"));
        assert_eq!((name("a"), name("c")), (None, None));
    }

    #[test]
    fn only_a_file_of_the_kubelet_shows_the_name() {
        let name = |source: &str| {
            let line = format!("702 700 8:1 {source} /dev/termination-log rw - ext4 /dev/sda1 rw");
            name_in_mount(&line).map(String::from)
        };
        let found = name("/var/lib/kubelet/pods/1/containers/web/5bd0");
        assert_eq!(found.as_deref(), Some("web"));
        for source in [
            "/var/lib/kubelet/pods/1/etc-hosts",
            "/var/lib/kubelet/pods/1/containers",
            "/var/lib/kubelet/pods/1/containers/web",
            "/var/lib/kubelet/pods/1/volumes/web/5bd0",
            "/containers/web/5bd0",
            "/",
        ] {
            assert_eq!(name(source), None, "{source}");
        }
    }

    #[test]
    fn short_names() {
        let long = id("0123456789abc");
        for name in [
            long.clone(),
            format!("cri-containerd-{long}.scope"),
            format!("docker-{long}.scope"),
            format!("libpod-{long}"),
            format!("kubepods-podx.slice:cri-containerd:{long}"),
        ] {
            assert_eq!(short_name(name.as_bytes()), b"0123456789ab");
        }
        for name in ["nginx.service", "snoop-run-1", "abc-def.scope"] {
            assert_eq!(short_name(name.as_bytes()), name.as_bytes());
        }
    }
}
