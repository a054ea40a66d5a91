// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the cgroups that `-cgroup` and `-cgroups` name, below the mount of cgroup v2. A cgroup may be created later.

use super::pod::{is_container, is_kubernetes_pod};
use super::{Cgroup, id_of, path_of};
use crate::bpf::wire::Target;
use crate::error::{Error, Result};
use crate::sys;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The magic numbers of the cgroup file systems, from linux/magic.h.
const CGROUP_SUPER_MAGIC: u64 = 0x27e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x63677270;

/// A cgroup that the user named.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedCgroup {
    /// The cgroup. Its id is 0 if it does not exist yet.
    pub cgroup: Cgroup,
    pub target: Target,
    /// Where the cgroup is created, also if it is removed and created again: the id of its nearest ancestor that
    /// exists, and the names that lead from there to it. `None` for the root.
    pub place: Option<(u64, Vec<Vec<u8>>)>,
    /// The containers in the cgroup that already have processes. The cgroup itself is one of them if it has processes.
    pub late: Vec<Cgroup>,
}

/// Finds all cgroups that a value of `-cgroup` or `-cgroups` names. `@FILE` is replaced by the content of the file.
pub fn resolve_names(value: &OsStr, mount: &Path) -> Result<Vec<NamedCgroup>> {
    let mut found: Vec<NamedCgroup> = Vec::new();
    for name in names(value)? {
        let named = find(OsStr::from_bytes(&name), mount)?;
        if found.iter().all(|known| known.cgroup != named.cgroup) {
            found.push(named);
        }
    }
    Ok(found)
}

/// Returns the names in a value. They are separated by commas or newlines, or given as lines of /proc/PID/cgroup.
fn names(value: &OsStr) -> Result<Vec<Vec<u8>>> {
    let shown = value.to_string_lossy();
    let text = match value.as_bytes().strip_prefix(b"@") {
        None => value.as_bytes().to_vec(),
        Some(file) => {
            let file = Path::new(OsStr::from_bytes(file));
            fs::read(file).map_err(|e| {
                Error::usage(format!(
                    "-cgroup={shown}: cannot read {}: {e}; give the path of a cgroup, or @FILE with a file that holds it",
                    file.display()
                ))
            })?
        }
    };
    let (mut names, mut of_version_1) = (Vec::new(), false);
    for line in text.split(|b| *b == b'\n') {
        match of_process(line) {
            Some((b"0", path)) => names.push(path.to_vec()),
            Some(_) => of_version_1 = true,
            None => {
                let list = line.split(|b| *b == b',').map(<[u8]>::trim_ascii);
                names.extend(list.filter(|name| !name.is_empty()).map(<[u8]>::to_vec));
            }
        }
    }
    if names.is_empty() {
        let why = if of_version_1 {
            "names cgroups of version 1 only; snoop needs cgroup v2"
        } else {
            "names no cgroup"
        };
        return Err(Error::usage(format!("-cgroup={shown}: it {why}")));
    }
    Ok(names)
}

/// Parses a line of /proc/PID/cgroup, such as `0::/path` or `9:name=systemd:/path` (cgroups(7)). Returns the number of
/// the hierarchy and the path.
fn of_process(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = line.splitn(3, |b| *b == b':');
    let (number, _, path) = (parts.next()?, parts.next()?, parts.next()?);
    let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    (is_number && path.starts_with(b"/")).then_some((number, path.trim_ascii()))
}

/// Finds the cgroup that the user means by a directory or by a path below the mount.
fn find(name: &OsStr, mount: &Path) -> Result<NamedCgroup> {
    let shown = name.to_string_lossy();
    let usage = |why: &str| Err(Error::usage(format!("-cgroup={shown}: {why}")));
    if shown.contains("$(") {
        return usage("no shell expands $(…) here; write the path to a file and give @FILE");
    }
    let given = Path::new(name);
    if given.starts_with(".") {
        return usage(
            "a path relative to the working directory; give one below the cgroup v2 mount, or as /proc/PID/cgroup shows it",
        );
    }
    if given.components().any(|c| c.as_os_str() == "..") {
        return usage(
            "the path leads out of a cgroup namespace; take the path from /proc/PID/cgroup on the host",
        );
    }
    let is_v2 =
        |path: &Path| sys::files::file_system(path).is_ok_and(|fs| fs == CGROUP2_SUPER_MAGIC);
    let below = given.strip_prefix(mount).or(given.strip_prefix("/"));
    let beneath = mount.join(below.unwrap_or(given));
    if given.is_absolute() && is_v2(given) {
        return NamedCgroup::at(given, mount);
    }
    if is_v2(&beneath) {
        return NamedCgroup::at(&beneath, mount);
    }
    let mount_shown = mount.display();
    match sys::files::file_system(given) {
        Ok(CGROUP_SUPER_MAGIC) => usage(&format!(
            "this is cgroup v1; give a cgroup v2 directory below {mount_shown}"
        )),
        Ok(_) => usage(&format!(
            "not a cgroup v2 directory; give one below {mount_shown}, or the path that /proc/PID/cgroup shows"
        )),
        Err(e) if e.kind() == ErrorKind::NotFound && given.is_absolute() => {
            if shows_root(mount) {
                NamedCgroup::awaited(&beneath, mount)
            } else {
                usage(&format!(
                    "a cgroup namespace hides it: {mount_shown} shows only snoop's own cgroup; give -cgroup=@parent for the containers beside snoop, or run snoop in the host's cgroup namespace (Docker and Podman: --cgroupns=host)"
                ))
            }
        }
        Err(e) => usage(&format!(
            "{e}; give a cgroup v2 directory below {mount_shown}, or the path that /proc/PID/cgroup shows (not the name or id of a container)"
        )),
    }
}

/// Returns whether the mount shows all cgroups of the machine. In a cgroup namespace it shows the namespace's own
/// cgroup, which has a file that the root cgroup lacks.
pub fn shows_root(mount: &Path) -> bool {
    !mount.join("cgroup.events").exists()
}

/// Returns what kind of cgroup this is, judging by its name. If it may contain containers, the programs keep looking for
/// them, because there may be none yet when snoop starts.
fn target_by_name(name: &[u8]) -> Target {
    if is_container(name) {
        Target::Container
    } else if is_kubernetes_pod(name) {
        Target::Pod
    } else {
        Target::Parent
    }
}

impl NamedCgroup {
    /// Describes a cgroup that exists.
    fn at(directory: &Path, mount: &Path) -> Result<NamedCgroup> {
        let cgroup = Cgroup::at(directory, mount)?;
        let target = target_by_name(cgroup.name());
        let above = directory.parent().filter(|_| directory != mount);
        let place = above.map(|above| Ok((id_of(above)?, vec![cgroup.name().to_vec()])));
        Ok(NamedCgroup {
            target,
            place: place.transpose()?,
            late: late(directory, mount, &cgroup, target)?,
            cgroup,
        })
    }

    /// Describes a cgroup that does not exist yet.
    fn awaited(directory: &Path, mount: &Path) -> Result<NamedCgroup> {
        let exists = directory.ancestors().find(|above| above.is_dir());
        let above = exists.unwrap_or(mount);
        let names = directory.strip_prefix(above).unwrap_or(directory);
        let names = names
            .components()
            .map(|c| c.as_os_str().as_bytes().to_vec());
        let cgroup = Cgroup {
            id: 0,
            path: path_of(directory, mount),
        };
        Ok(NamedCgroup {
            target: target_by_name(cgroup.name()),
            place: Some((id_of(above)?, names.collect())),
            late: Vec::new(),
            cgroup,
        })
    }
}

/// Returns whether processes run in the cgroup or below it. The root always has some, and has no file that says so.
fn is_populated(directory: &Path) -> bool {
    fs::read_to_string(directory.join("cgroup.events")).map_or(true, |events| {
        events.lines().any(|line| line == "populated 1")
    })
}

/// Returns whether processes other than snoop run directly in this cgroup.
fn has_processes(directory: &Path) -> bool {
    let own = std::process::id().to_string();
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    processes.lines().any(|process| process != own)
}

/// Returns the containers that are already running: child cgroups, and the cgroup itself if it has processes.
fn late(directory: &Path, mount: &Path, cgroup: &Cgroup, target: Target) -> Result<Vec<Cgroup>> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let populated: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && is_populated(path))
        .collect();
    let is_apart = |path: &&PathBuf| match target {
        Target::Pod => true,
        Target::Parent => path
            .file_name()
            .is_some_and(|name| is_container(name.as_bytes())),
        _ => false,
    };
    let apart: Vec<_> = populated.iter().filter(is_apart).collect();
    let mut late = Vec::new();
    for path in &apart {
        late.push(Cgroup::at(path, mount)?);
    }
    if has_processes(directory) || apart.len() < populated.len() {
        late.push(cgroup.clone());
    }
    Ok(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(text: &str) -> Result<Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let value = [b"@", file.path().as_os_str().as_bytes()].concat();
        let names = names(OsStr::from_bytes(&value))?;
        Ok(names
            .into_iter()
            .map(|n| String::from_utf8(n).unwrap())
            .collect())
    }

    #[test]
    fn names_are_read_from_lists_and_files() {
        let names = |value: &str| {
            let names = names(OsStr::new(value)).unwrap();
            names
                .iter()
                .map(|n| String::from_utf8_lossy(n).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("/a"), ["/a"]);
        assert_eq!(names("/a, /b:c,,"), ["/a", "/b:c"]);
        assert_eq!(names("0::/docker/x"), ["/docker/x"]);
        assert_eq!(names_in("/a\n\n/b,/c\n").unwrap(), ["/a", "/b", "/c"]);
    }

    #[test]
    fn lines_of_proc_pid_cgroup_are_understood() {
        let hybrid = "9:name=systemd:/user.slice\n3:cpu,cpuacct:/\n0::/docker/a,b\n";
        assert_eq!(names_in(hybrid).unwrap(), ["/docker/a,b"]);
        let error = names_in("4:memory:/docker/x\n").unwrap_err().to_string();
        assert!(error.contains("version 1 only"), "{error}");
    }

    #[test]
    fn containers_and_pods_are_recognised_by_name() {
        let id = "ab".repeat(32);
        let target = |name: &str| target_by_name(name.as_bytes());
        assert_eq!(target(&id), Target::Container);
        assert_eq!(target(&format!("docker-{id}.scope")), Target::Container);
        let pod = "kubepods-pod11b2c3d4_0000_1111_2222_333344445555.slice";
        assert_eq!(target(pod), Target::Pod);
        assert_eq!(target("snoop.slice"), Target::Parent);
    }

    #[test]
    fn errors_say_what_is_wrong_with_a_name() {
        let said = |name: &str| {
            let error = resolve_names(OsStr::new(name), Path::new("/proc/self")).unwrap_err();
            assert_eq!(error.status, crate::error::USAGE);
            error.to_string()
        };
        assert!(said("$(cat /data/cgroup-path)").contains("@FILE"));
        assert!(said("0123456789ab").contains("No such file"));
        assert!(said("nginx").contains("not the name or id of a container"));
        for relative in [".", "./", "./a"] {
            assert!(said(relative).contains("relative to the working directory"));
        }
        assert!(said("/a/../../b").contains("leads out of a cgroup namespace"));
        assert!(said("/proc").contains("not a cgroup v2 directory"));
        assert!(said("@/no/such/file").contains("cannot read"));
        assert!(said(" , ,").contains("names no cgroup"));
    }
}
