//! What the host can do, looked up once; what follows from that; and `snoop check`, which tells.

use crate::cgroup::{self, Pod};
use crate::error::{Error, FAILED, Result};
use crate::kernel::{self, Buffer, Layout, Quirks};
use crate::path::Excludes;
use crate::probe::{Probe, Settings};
use crate::sys::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Facts about a host. `None` is "could not be found out", which is not "no".
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Major and minor version.
    pub kernel: Option<(u32, u32)>,
    /// The effective capabilities, a bit each (capabilities(7)).
    pub capabilities: Option<u64>,
    /// The kernel offers its type information.
    pub btf: bool,
    /// Mode of the kernel's lockdown: none, integrity or confidentiality.
    pub lockdown: Option<String>,
    pub cgroup_mount: Option<PathBuf>,
}

/// What to do on this host.
#[derive(Debug, PartialEq)]
pub struct Plan {
    pub quirks: Quirks,
    pub buffer: Buffer,
    /// Where cgroups can be looked up and made. Not needed to trace the own pod.
    pub cgroup_mount: Option<PathBuf>,
}

impl Plan {
    /// The mount, for what cannot do without.
    pub fn cgroup_mount(&self) -> Result<&Path> {
        self.cgroup_mount.as_deref().ok_or_else(|| {
            Error::failed(
                "no cgroup v2 is mounted: mount it (mount -t cgroup2 none /sys/fs/cgroup), or boot with systemd.unified_cgroup_hierarchy=1",
            )
        })
    }
}

const BTF: &str = "sys/kernel/btf/vmlinux";

/// Looks at the host whose root directory is `root`.
pub fn look(root: &Path) -> Facts {
    let text = |path: &str| fs::read_to_string(root.join(path)).ok();
    let mountinfo = fs::read(root.join("proc/self/mountinfo")).unwrap_or_default();
    Facts {
        kernel: text("proc/sys/kernel/osrelease").and_then(|s| version(&s)),
        capabilities: text("proc/self/status").and_then(|s| capabilities(&s)),
        btf: root.join(BTF).exists(),
        lockdown: text("sys/kernel/security/lockdown").and_then(|s| chosen(&s)),
        cgroup_mount: cgroup::find_mount(&mountinfo),
    }
}

/// Major and minor version of a release like `6.1.0-25-cloud-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(words: &str) -> Option<String> {
    let (_, rest) = words.split_once('[')?;
    Some(rest.split_once(']')?.0.to_string())
}

/// Decides; the error says what is missing and what to do about it. `wanted` is the buffer that the user wants.
pub fn plan(facts: &Facts, wanted: Option<Buffer>) -> Result<Plan> {
    let kernel = facts.kernel.unwrap_or((u32::MAX, 0));
    let shown = format!("Linux {}.{}", kernel.0, kernel.1);
    if kernel < (5, 4) {
        return Err(Error::failed(format!(
            "{shown} is too old: snoop needs 5.4 or newer"
        )));
    }
    let has_ring = kernel >= (5, 8);
    if wanted == Some(Buffer::Ring) && !has_ring {
        return Err(Error::usage(format!(
            "-buffer=ring: {shown} has no BPF ring buffer, which came with 5.8; leave the flag out"
        )));
    }
    let possible = if has_ring { Buffer::Ring } else { Buffer::Perf };
    if let Some(have) = facts.capabilities.filter(|have| have & CAP_SYS_ADMIN == 0) {
        let needed = match kernel {
            (5, ..8) => vec![(CAP_SYS_ADMIN, "SYS_ADMIN")],
            _ => vec![(CAP_BPF, "BPF"), (CAP_PERFMON, "PERFMON")],
        };
        let missing = needed.iter().filter(|(bit, _)| have & bit == 0);
        let missing: Vec<_> = missing.map(|(_, name)| *name).collect();
        if !missing.is_empty() {
            return Err(Error::failed(format!(
                "the capability {} is missing: run as root, or add it to the container (securityContext.capabilities.add)",
                missing.join(" and ")
            )));
        }
    }
    if !facts.btf {
        return Err(Error::failed(format!(
            "this kernel has no type information (/{BTF}): use one built with CONFIG_DEBUG_INFO_BTF=y, as the distributions' are"
        )));
    }
    Ok(Plan {
        quirks: Quirks::of(kernel),
        buffer: wanted.unwrap_or(possible),
        cgroup_mount: facts.cgroup_mount.clone(),
    })
}

/// The running kernel's layout.
pub fn layout(buffer: Buffer) -> Result<Layout> {
    let path = Path::new("/").join(BTF);
    let shown = path.display();
    let mut file = File::open(&path).map_err(|e| {
        Error::failed(format!(
            "cannot read the kernel's type information {shown}: {e}"
        ))
    })?;
    kernel::layout(&mut file, buffer).map_err(|why| {
        Error::failed(format!(
            "this kernel is not known to snoop ({shown}): {why}"
        ))
    })
}

/// `snoop check`: a line for each thing that tracing needs, and the exit status: 1 if one is missing.
pub fn check() -> (String, u8) {
    let facts = look(Path::new("/"));
    let kernel = facts
        .kernel
        .map_or("unknown".into(), |(a, b)| format!("{a}.{b}"));
    let mount = facts.cgroup_mount.as_ref();
    let mut lines = vec![
        ("kernel", kernel),
        ("lockdown", facts.lockdown.clone().unwrap_or("none".into())),
        ("privileges", privileges(&facts)),
        ("BTF", if facts.btf { "found" } else { "missing" }.into()),
        (
            "cgroup v2",
            mount.map_or("missing".into(), |m| m.display().to_string()),
        ),
    ];
    let tried = try_all(&facts, &mut lines);
    let mut text = String::new();
    for (what, found) in lines {
        text += &format!("{what:<14}{found}\n");
    }
    match tried {
        Ok(()) => (text + "This host can be traced.\n", 0),
        Err(e) => (text + &format!("This host cannot be traced: {e}\n"), FAILED),
    }
}

/// Does all that tracing does, but for the tracing; adds a line for each step that worked.
fn try_all(facts: &Facts, lines: &mut Vec<(&str, String)>) -> Result<()> {
    let plan = plan(facts, None)?;
    let layout = layout(plan.buffer)?;
    lines.push(("structures", "known".into()));
    let (mut probe, _ring) = Probe::load(&Settings {
        layout: &layout,
        quirks: plan.quirks,
        buffer: plan.buffer,
        excludes: &Excludes::default(),
    })?;
    lines.push(("programs", "loaded".into()));
    probe.attach()?;
    lines.push(("attached", probe.programs().collect::<Vec<_>>().join(", ")));
    let pod = Pod::among(&probe.own_cgroups()?);
    let pod = pod.map(|pod| String::from_utf8_lossy(&pod.cgroup.path).into_owned());
    lines.push(("own pod", pod.unwrap_or("none".into())));
    Ok(())
}

fn privileges(facts: &Facts) -> String {
    let Some(have) = facts.capabilities else {
        return "unknown".into();
    };
    let all = [
        (CAP_SYS_ADMIN, "SYS_ADMIN"),
        (CAP_BPF, "BPF"),
        (CAP_PERFMON, "PERFMON"),
    ];
    let names = all.iter().filter(|(bit, _)| have & bit != 0);
    let names: Vec<_> = names.map(|(_, name)| *name).collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> Facts {
        Facts {
            kernel: Some((6, 1)),
            capabilities: Some(CAP_BPF | CAP_PERFMON),
            btf: true,
            lockdown: Some("none".into()),
            cgroup_mount: Some("/sys/fs/cgroup".into()),
        }
    }

    fn refused(change: impl Fn(&mut Facts)) -> String {
        let mut facts = able();
        change(&mut facts);
        let error = plan(&facts, None).unwrap_err();
        assert_eq!(error.status, FAILED);
        error.to_string()
    }

    #[test]
    fn an_able_host_is_planned_for() {
        let planned = plan(&able(), None).unwrap();
        assert_eq!(planned.buffer, Buffer::Ring);
        assert_eq!(planned.quirks, Quirks::of((6, 1)));
        assert_eq!(planned.cgroup_mount().unwrap(), Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn a_mount_is_needed_only_by_what_uses_it() {
        let mut facts = able();
        facts.cgroup_mount = None;
        let planned = plan(&facts, None).unwrap();
        let said = planned.cgroup_mount().unwrap_err().to_string();
        assert!(said.contains("mount -t cgroup2"), "{said}");
    }

    #[test]
    fn each_missing_ability_is_named() {
        assert!(refused(|f| f.kernel = Some((4, 19))).contains("5.4"));
        assert!(refused(|f| f.kernel = Some((5, 4))).contains("capability SYS_ADMIN is"));
        assert!(refused(|f| f.capabilities = Some(CAP_BPF)).contains("capability PERFMON is"));
        assert!(refused(|f| f.capabilities = Some(0)).contains("BPF and PERFMON"));
        assert!(refused(|f| f.btf = false).contains("CONFIG_DEBUG_INFO_BTF"));
    }

    #[test]
    fn unknown_is_not_no() {
        let mut facts = able();
        (facts.kernel, facts.capabilities, facts.lockdown) = (None, None, None);
        assert!(plan(&facts, None).is_ok());
        facts.capabilities = Some(CAP_SYS_ADMIN);
        facts.kernel = Some((5, 10));
        assert!(!plan(&facts, None).unwrap().quirks.typed);
    }

    #[test]
    fn old_kernels_have_no_ring_and_new_ones_may_do_without() {
        let buffer = |kernel, wanted| {
            let mut facts = able();
            (facts.kernel, facts.capabilities) = (Some(kernel), Some(CAP_SYS_ADMIN));
            plan(&facts, wanted).map(|plan| plan.buffer)
        };
        assert_eq!(buffer((5, 4), None).unwrap(), Buffer::Perf);
        assert_eq!(buffer((5, 8), None).unwrap(), Buffer::Ring);
        assert_eq!(buffer((6, 1), Some(Buffer::Perf)).unwrap(), Buffer::Perf);
        let error = buffer((5, 7), Some(Buffer::Ring)).unwrap_err();
        assert_eq!(error.status, crate::error::USAGE);
        assert!(error.to_string().contains("came with 5.8"), "{error}");
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
