// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host can do, looked up once.

use crate::bpf::features::KernelFeatures;
use crate::cgroup;
use crate::sys::confinement::Confinement;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Facts about a host. `None` means that snoop could not find out, which is not "no".
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The major and the minor version, only for messages. No decision depends on it.
    pub kernel: Option<(u32, u32)>,
    /// The effective capabilities, one bit for each: capabilities(7).
    pub capabilities: Option<u64>,
    /// The number of the newest capability that the kernel knows.
    pub last_capability: Option<u32>,
    /// The kernel's type information, or why it cannot be read.
    pub btf: Btf,
    /// The features of the kernel, according to its type information.
    pub features: Option<KernelFeatures>,
    /// The mode of the kernel's lockdown: none, integrity or confidentiality.
    pub lockdown: Option<String>,
    /// Where cgroup v2 is mounted.
    pub cgroup_mount: Option<PathBuf>,
    pub confinement: Confinement,
}

/// The state of the file with the kernel's type information.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Btf {
    #[default]
    Found,
    /// The kernel has no type information.
    Missing,
    /// Something is mounted over it, or sysfs is not mounted.
    Masked,
}

/// The file with the kernel's type information, below the root directory.
pub(super) const BTF: &str = "sys/kernel/btf/vmlinux";

/// Looks at the host whose root directory is `root`.
pub fn look(root: &Path) -> Facts {
    let text = |path: &str| fs::read_to_string(root.join(path)).ok();
    let mountinfo = fs::read(root.join("proc/self/mountinfo")).unwrap_or_default();
    Facts {
        kernel: text("proc/sys/kernel/osrelease").and_then(|s| version(&s)),
        capabilities: text("proc/self/status").and_then(|s| capabilities(&s)),
        last_capability: text("proc/sys/kernel/cap_last_cap").and_then(|s| s.trim().parse().ok()),
        btf: look_for_btf(root),
        features: File::open(root.join(BTF))
            .ok()
            .and_then(|mut file| KernelFeatures::read(&mut file).ok()),
        lockdown: text("sys/kernel/security/lockdown").and_then(|s| chosen(&s)),
        cgroup_mount: cgroup::find_mount(&mountinfo),
        confinement: Confinement::look(root),
    }
}

/// Finds out whether the type information is there, and why not otherwise.
fn look_for_btf(root: &Path) -> Btf {
    let path = root.join(BTF);
    // Every kernel has uevent_seqnum; the directory exists only if the kernel was built with type information.
    let is_sysfs = root.join("sys/kernel/uevent_seqnum").exists();
    let has_directory = path.parent().is_some_and(Path::exists);
    match fs::metadata(&path) {
        Ok(file) if file.is_file() && file.len() > 0 => Btf::Found,
        Err(_) if is_sysfs && !has_directory => Btf::Missing,
        _ => Btf::Masked,
    }
}

/// Returns the major and minor version of a release like `6.1.0-25-cloud-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Returns the effective capabilities from /proc/PID/status.
fn capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Returns the word in brackets: `none [integrity] confidentiality`.
fn chosen(words: &str) -> Option<String> {
    let (_, rest) = words.split_once('[')?;
    Some(rest.split_once(']')?.0.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_type_information_is_not_missing() {
        let root = tempfile::tempdir().unwrap();
        let kernel = root.path().join("sys/kernel");
        assert_eq!(look_for_btf(root.path()), Btf::Masked, "no sysfs");
        fs::create_dir_all(&kernel).unwrap();
        assert_eq!(look_for_btf(root.path()), Btf::Masked, "an empty directory");
        fs::write(kernel.join("uevent_seqnum"), "1\n").unwrap();
        assert_eq!(look_for_btf(root.path()), Btf::Missing);
        fs::create_dir(kernel.join("btf")).unwrap();
        assert_eq!(
            look_for_btf(root.path()),
            Btf::Masked,
            "an empty directory of types"
        );
        std::os::unix::fs::symlink("/dev/null", kernel.join("btf/vmlinux")).unwrap();
        assert_eq!(
            look_for_btf(root.path()),
            Btf::Masked,
            "a file that an engine has masked"
        );
        fs::remove_file(kernel.join("btf/vmlinux")).unwrap();
        fs::write(kernel.join("btf/vmlinux"), "x").unwrap();
        assert_eq!(look_for_btf(root.path()), Btf::Found);
    }

    #[test]
    fn files_of_the_kernel() {
        assert_eq!(version("6.1.0-25-cloud-amd64\n"), Some((6, 1)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert_eq!(version("unknown"), None);
        assert_eq!(
            capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            Some(0x1ff_ffff_ffff)
        );
        assert_eq!(capabilities("Name:\tx\n"), None);
        assert_eq!(
            chosen("none [integrity] confidentiality\n").as_deref(),
            Some("integrity")
        );
        assert_eq!(chosen("none\n"), None);
    }
}
