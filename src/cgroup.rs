//! Which cgroups to trace: what the user names, found below the cgroup v2 mount; our own pod, by the names of
//! the cgroups we are in; and the one that `snoop run` makes for its command.

use crate::error::{Error, Result};
use crate::sys;
use crate::wire::Target;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// linux/magic.h
const CGROUP_SUPER_MAGIC: u64 = 0x27e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x63677270;

/// A cgroup that is traced, with all below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cgroup {
    pub id: u64,
    /// Below the root, beginning with a slash, as /proc/PID/cgroup has it.
    pub path: Vec<u8>,
}

/// The first cgroup v2 mount in a mountinfo file (proc(5)), wherever it is.
pub fn find_mount(mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b' ');
        let mount_point = fields.nth(4)?;
        // A variable number of optional fields ends with a dash; then comes the type.
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        (kind == b"cgroup2").then(|| PathBuf::from(OsString::from_vec(unescape(mount_point))))
    })
}

/// mountinfo writes blanks and backslashes as `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    out
}

impl Cgroup {
    /// The cgroup a user names: a directory, or a path below the mount.
    pub fn named(name: &OsStr, mount: &Path) -> Result<Cgroup> {
        let shown = name.to_string_lossy();
        if shown.contains("$(") {
            return Err(Error::usage(format!(
                "cgroup {shown}: no shell expands $(…) here; write the path to a file and give @FILE"
            )));
        }
        let given = Path::new(name);
        let is_v2 = |path: &Path| sys::file_system(path).is_ok_and(|fs| fs == CGROUP2_SUPER_MAGIC);
        let beneath = mount.join(given.strip_prefix("/").unwrap_or(given));
        if given.is_absolute() && is_v2(given) {
            Cgroup::at(given, mount)
        } else if is_v2(&beneath) {
            Cgroup::at(&beneath, mount)
        } else {
            let why = match sys::file_system(given) {
                Ok(CGROUP_SUPER_MAGIC) => "this is cgroup v1".to_string(),
                Ok(_) => "not a cgroup v2 directory".to_string(),
                Err(e) => e.to_string(),
            };
            Err(Error::usage(format!(
                "cgroup {shown}: {why}; give a cgroup v2 directory below {}, or the path that /proc/PID/cgroup shows",
                mount.display()
            )))
        }
    }

    fn at(directory: &Path, mount: &Path) -> Result<Cgroup> {
        let below = directory.strip_prefix(mount).unwrap_or(directory);
        Ok(Cgroup {
            id: id_of(directory)?,
            path: [b"/", below.as_os_str().as_bytes()].concat(),
        })
    }

    /// The last part of the path.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// What it is, by its name and by those in it: a container's, a pod or a parent of containers, or neither.
    /// A runtime has no business in the last, and all that happens in it counts.
    pub fn target(&self, mount: &Path) -> Target {
        let is_container = |name: &[u8]| short_name(name) != name;
        let children = || {
            fs::read_dir(self.directory(mount))
                .into_iter()
                .flatten()
                .flatten()
        };
        if is_container(self.name()) {
            Target::Container
        } else if is_pod(self.name()) || children().any(|e| is_container(e.file_name().as_bytes()))
        {
            Target::Pod
        } else {
            Target::Processes
        }
    }

    fn directory(&self, mount: &Path) -> PathBuf {
        let below = self.path.strip_prefix(b"/").unwrap_or(&self.path);
        mount.join(OsStr::from_bytes(below))
    }

    /// The id of the cgroup above it; `None` for the root.
    pub fn parent(&self, mount: &Path) -> Result<Option<u64>> {
        let directory = self.directory(mount);
        let above = directory.parent().filter(|_| directory != mount);
        above.map(id_of).transpose()
    }
}

fn id_of(directory: &Path) -> Result<u64> {
    let shown = directory.display();
    sys::cgroup_id(directory)
        .map_err(|e| Error::failed(format!("cannot get the id of cgroup {shown}: {e}")))
}

/// A pod, and the container of it that we are.
#[derive(Debug, PartialEq)]
pub struct Pod {
    pub cgroup: Cgroup,
    /// Not to be traced; the pod's cgroup itself if we run right in it.
    pub own: u64,
}

impl Pod {
    /// Finds the pod among the cgroups that we are in, from ours up to the root: id and name.
    pub fn among(cgroups: &[(u64, Vec<u8>)]) -> Result<Pod> {
        let found = (1..cgroups.len()).find(|at| is_pod(&cgroups[*at].1));
        let path = |from: usize| {
            let names = cgroups[from..].iter().rev().map(|(_, name)| &name[..]);
            let named = names.filter(|name| !name.is_empty());
            named.fold(Vec::new(), |path, name| [&path, &b"/"[..], name].concat())
        };
        let Some(at) = found else {
            let why = match cgroups.len() {
                0 | 1 => "its processes are all in the root of cgroup v2: this host uses cgroup v1 (boot it with systemd.unified_cgroup_hierarchy=1), or snoop runs outside of any container".into(),
                _ => format!(
                    "the own cgroup {} is not in a pod's",
                    String::from_utf8_lossy(&path(0))
                ),
            };
            return Err(Error::usage(format!(
                "cannot find the own pod: {why}; give -cgroup PATH"
            )));
        };
        Ok(Pod {
            cgroup: Cgroup {
                id: cgroups[at].0,
                path: path(at),
            },
            own: cgroups[at - 1].0,
        })
    }
}

/// Is that the name the kubelet gives to a pod's cgroup? `podUID` or, with systemd,
/// `kubepods-burstable-podUID.slice`; the uid has 36 characters, or 32 for a pod from a file.
fn is_pod(name: &[u8]) -> bool {
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

/// What people call a container: the short form of its id where the cgroup's name holds one
/// (`cri-containerd-ID.scope`, `crio-ID.scope`, `docker-ID.scope`, `ID`), else the cgroup's name.
pub fn short_name(name: &[u8]) -> &[u8] {
    const SHORT: usize = 12;
    let inner = name.strip_suffix(b".scope").unwrap_or(name);
    let id = inner.rsplit(|b| *b == b'-').next().unwrap_or(inner);
    if id.len() == 64 && id.iter().all(u8::is_ascii_hexdigit) {
        &id[..SHORT]
    } else {
        name
    }
}

/// The name that Kubernetes gives to the container in that cgroup, if one of its processes is to be seen below
/// `proc` (the pod shares its process namespace): the kubelet mounts a file of its own directory into it.
pub fn kubernetes_name(proc: &Path, cgroup: &[u8]) -> Option<String> {
    let leaf = cgroup.rsplit(|b| *b == b'/').next()?;
    if short_name(leaf) == leaf {
        return None; // not a container's: spares the search
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
    // …/pods/UID/containers/NAME/FILE on /dev/termination-log
    mountinfo.lines().find_map(|line| {
        let source = line.split(' ').nth(3)?;
        let (_, below) = source.split_once("/pods/")?;
        let mut names = below.split('/').skip(1);
        let name = (names.next()? == "containers").then(|| names.next())??;
        names.next().map(|_| name.to_string())
    })
}

/// All cgroups that a `-cgroup` or `-cgroups` value names; `@FILE` stands for the file's content,
/// where newlines separate as commas do.
pub fn named(value: &OsStr, mount: &Path) -> Result<Vec<Cgroup>> {
    let list = match value.as_bytes().strip_prefix(b"@") {
        None => value.as_bytes().to_vec(),
        Some(file) => {
            let file = Path::new(OsStr::from_bytes(file));
            fs::read(file).map_err(|e| {
                Error::usage(format!(
                    "cannot read the cgroups from {}: {e}",
                    file.display()
                ))
            })?
        }
    };
    let mut found: Vec<Cgroup> = Vec::new();
    for name in list.split(|b| matches!(b, b',' | b'\n')) {
        let name = name.trim_ascii();
        if name.is_empty() {
            continue;
        }
        let cgroup = Cgroup::named(OsStr::from_bytes(name), mount)?;
        if found.iter().all(|known| known.id != cgroup.id) {
            found.push(cgroup);
        }
    }
    if found.is_empty() {
        let shown = value.to_string_lossy();
        return Err(Error::usage(format!("cgroup {shown}: it names no cgroup")));
    }
    Ok(found)
}

/// A cgroup made for one command; it is removed when this is dropped.
pub struct OwnCgroup {
    pub cgroup: Cgroup,
    directory: PathBuf,
    parent: PathBuf,
}

impl OwnCgroup {
    /// Makes a cgroup below our own one, or at the mount where that is not visible.
    pub fn make(mount: &Path) -> Result<OwnCgroup> {
        let own = fs::read("/proc/self/cgroup").unwrap_or_default();
        let own = own
            .split(|b| *b == b'\n')
            .find_map(|line| line.strip_prefix(b"0::/"));
        let parent = mount.join(OsStr::from_bytes(own.unwrap_or_default()));
        let parent = if parent.is_dir() {
            parent
        } else {
            mount.to_path_buf()
        };
        let directory = parent.join(format!("snoop-run-{}", std::process::id()));
        fs::create_dir(&directory).map_err(|e| {
            Error::failed(format!(
                "cannot make the cgroup {}: {e}; run as root, with {} mounted writable",
                directory.display(),
                mount.display()
            ))
        })?;
        Ok(OwnCgroup {
            cgroup: Cgroup::at(&directory, mount)?,
            directory,
            parent,
        })
    }

    /// What a child writes "0" into to move here.
    pub fn entrance(&self) -> Result<OwnedFd> {
        let procs = self.directory.join("cgroup.procs");
        let file = fs::OpenOptions::new().write(true).open(&procs);
        file.map(OwnedFd::from).map_err(|e| {
            Error::failed(format!(
                "cannot move a process into {}: {e}",
                self.directory.display()
            ))
        })
    }

    /// Moves what still runs in here to our own cgroup; answers how many processes that were.
    pub fn evacuate(&self) -> usize {
        let (from, to) = (&self.directory, &self.parent);
        let mut moved = 0;
        // A process may fork while it is moved.
        for _ in 0..100 {
            let processes = fs::read_to_string(from.join("cgroup.procs")).unwrap_or_default();
            if processes.is_empty() {
                break;
            }
            for process in processes.lines() {
                moved += usize::from(fs::write(to.join("cgroup.procs"), process).is_ok());
            }
        }
        moved
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // The kernel lets go of a process that has just ended a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            self.evacuate();
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        crate::log::warn(format_args!(
            "cannot remove the cgroup {}",
            self.directory.display()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_beside_v1_controllers() {
        let mountinfo = b"24 1 0:20 / /proc rw shared:2 - proc proc rw
30 24 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro
31 30 0:27 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/uni\\040fied rw shared:11 master:2 - cgroup2 cgroup2 rw
";
        let mount = find_mount(mountinfo).unwrap();
        assert_eq!(mount, Path::new("/sys/fs/cgroup/uni fied"));
        assert_eq!(
            find_mount(b"31 30 0:27 / /cg rw - cgroup cgroup2 rw\n"),
            None
        );
        assert_eq!(find_mount(b"garbage\n\n1 2 3 4 5\n"), None);
    }

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
    fn finds_the_pod_of_each_driver_and_runtime() {
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

    #[test]
    fn says_why_there_is_no_pod() {
        let said = |path: &str| Pod::among(&chain(path)).unwrap_err().to_string();
        assert!(said("").contains("cgroup v1"));
        for path in [
            format!("/system.slice/docker-{}.scope", id("f")),
            format!("/kubepods/pod{UID}"),
            "/user.slice/podman-x.scope/podlike".into(),
            "/tripod/a".into(),
        ] {
            let said = said(&path);
            assert!(
                said.contains(&path) && said.contains("-cgroup PATH"),
                "{said}"
            );
        }
    }

    #[test]
    fn the_name_in_kubernetes_from_a_shared_process_namespace() {
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
    fn short_names() {
        let long = id("0123456789abc");
        for name in [
            long.clone(),
            format!("cri-containerd-{long}.scope"),
            format!("docker-{long}.scope"),
        ] {
            assert_eq!(short_name(name.as_bytes()), b"0123456789ab");
        }
        for name in ["nginx.service", "snoop-run-1", "abc-def.scope"] {
            assert_eq!(short_name(name.as_bytes()), name.as_bytes());
        }
    }

    #[test]
    fn unescapes_octal_and_nothing_else() {
        assert_eq!(unescape(b"a\\040b\\134"), b"a b\\");
        assert_eq!(unescape(b"\\9\\04"), b"\\9\\04");
    }

    #[test]
    fn says_what_is_wrong_with_a_name() {
        let said = |name: &str| {
            let error = named(OsStr::new(name), Path::new("/proc/self")).unwrap_err();
            assert_eq!(error.status, crate::error::USAGE);
            error.to_string()
        };
        assert!(said("$(cat /data/cgroup-path)").contains("@FILE"));
        assert!(said("/no/such/cgroup").contains("No such file"));
        assert!(said("/proc").contains("not a cgroup v2 directory"));
        assert!(said("@/no/such/file").contains("cannot read"));
        assert!(said(" , ,").contains("names no cgroup"));
    }
}
