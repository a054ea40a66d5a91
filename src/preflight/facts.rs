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
    /// Whether the kernel lets one process interrupt another inside the kernel.
    pub preemptible: Option<bool>,
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
        preemptible: look_for_preemption(&text),
        cgroup_mount: cgroup::find_mount(&mountinfo),
        confinement: Confinement::look(root),
    }
}

/// Finds out whether the kernel is preemptible. One that was built with PREEMPT_DYNAMIC may or may not be: its command line or
/// debugfs says so.
fn look_for_preemption(text: &dyn Fn(&str) -> Option<String>) -> Option<bool> {
    let version = text("proc/sys/kernel/version")?;
    let model = version.split(' ').find(|word| word.starts_with("PREEMPT"));
    match model {
        None => Some(false),
        Some("PREEMPT_DYNAMIC") => {
            let shown = text("sys/kernel/debug/sched/preempt").and_then(|s| between(&s, '(', ')'));
            let line = text("proc/cmdline").unwrap_or_default();
            let mut given = line
                .split_whitespace()
                .filter_map(|word| word.strip_prefix("preempt="));
            let mode = shown.or(given.next_back().map(str::to_string))?;
            Some(!matches!(&mode[..], "none" | "voluntary"))
        }
        Some(_) => Some(true),
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
    between(words, '[', ']')
}

fn between(words: &str, open: char, close: char) -> Option<String> {
    let (_, rest) = words.split_once(open)?;
    Some(rest.split_once(close)?.0.to_string())
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
    fn a_kernel_that_is_preemptible() {
        let looked = |version: &str, line: &str, debug: Option<&str>| {
            look_for_preemption(&|path: &str| match path {
                "proc/sys/kernel/version" => Some(version.into()),
                "proc/cmdline" => Some(line.into()),
                _ => debug.map(str::to_string),
            })
        };
        let dynamic = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1";
        assert_eq!(
            looked("#1 SMP Debian 5.10.223-1", "quiet", None),
            Some(false)
        );
        assert_eq!(looked("#1 SMP PREEMPT_RT Debian", "", None), Some(true));
        assert_eq!(looked(dynamic, "quiet", None), None);
        assert_eq!(
            looked(dynamic, "preempt=full preempt=none", None),
            Some(false)
        );
        assert_eq!(looked(dynamic, "preempt=lazy", None), Some(true));
        let debug = Some("none (voluntary) full\n");
        assert_eq!(looked(dynamic, "preempt=full", debug), Some(false));
        assert_eq!(look_for_preemption(&|_| None), None);
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
