//! What the host can do, looked up once; what follows from that; and `snoop check`, which tells.

use crate::bpf::kernel::{self, Buffer, KernelFeatures, Layout, Quirks};
use crate::bpf::probe::{Probe, Settings};
use crate::cgroup::{self, Pod, TempCgroup};
use crate::error::{Error, FAILED, Result};
use crate::path::Excludes;
use crate::sys::capabilities::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN};
use crate::sys::confinement::{Confinement, Guest};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Facts about a host. `None` is "could not be found out", which is not "no".
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Major and minor version, to be shown: it decides nothing.
    pub kernel: Option<(u32, u32)>,
    /// The effective capabilities, a bit each (capabilities(7)).
    pub capabilities: Option<u64>,
    /// The number of the youngest capability that the kernel knows.
    pub last_capability: Option<u32>,
    /// The kernel's type information, or why it cannot be read.
    pub btf: Btf,
    /// What that says of the kernel.
    pub features: Option<KernelFeatures>,
    /// Mode of the kernel's lockdown: none, integrity or confidentiality.
    pub lockdown: Option<String>,
    pub cgroup_mount: Option<PathBuf>,
    pub confinement: Confinement,
}

/// The file with the kernel's type information.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Btf {
    #[default]
    Found,
    /// The kernel offers none.
    Missing,
    /// Something is mounted over it, or sysfs is not mounted.
    Masked,
}

/// What to do on this host.
#[derive(Clone, Debug, PartialEq)]
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

fn look_for_btf(root: &Path) -> Btf {
    let path = root.join(BTF);
    // A kernel has this file whatever it was built with, and the directory only with type information in it.
    let is_sysfs = root.join("sys/kernel/uevent_seqnum").exists();
    let has_directory = path.parent().is_some_and(Path::exists);
    match fs::metadata(&path) {
        Ok(file) if file.is_file() && file.len() > 0 => Btf::Found,
        Err(_) if is_sysfs && !has_directory => Btf::Missing,
        _ => Btf::Masked,
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
    if let Some(why) = facts.confinement.forbids() {
        return Err(Error::failed(why));
    }
    if facts.btf == Btf::Masked {
        return Err(Error::failed(format!(
            "/{BTF} is masked: something is mounted over it, or sysfs is not mounted; run snoop without a mask over /sys/kernel (Docker and Podman: --security-opt unmask=/sys/kernel)"
        )));
    }
    if facts.btf == Btf::Missing && facts.confinement.guest == Some(Guest::Kata) {
        return Err(Error::failed(
            "this is the kernel of a Kata container, which was built without type information: use a guest kernel with CONFIG_DEBUG_INFO_BTF=y, or another runtime class",
        ));
    }
    if facts.btf == Btf::Missing {
        let version = |(major, minor)| format!("it is Linux {major}.{minor}, and ");
        let version = facts.kernel.map_or(String::new(), version);
        return Err(Error::failed(format!(
            "this kernel has no type information (/{BTF}): {version}that needs Linux 5.4 and CONFIG_DEBUG_INFO_BTF=y; use a kernel that has it, as the distributions' do"
        )));
    }
    let features = facts.features.unwrap_or(KernelFeatures::ALL);
    if wanted == Some(Buffer::Ring) && !features.ring {
        return Err(Error::usage(
            "-buffer=ring: this kernel's BPF is older than that of Linux 5.10, which the programs for the ring buffer need; leave the flag out",
        ));
    }
    let possible = if features.ring {
        Buffer::Ring
    } else {
        Buffer::Perf
    };
    let buffer = wanted.unwrap_or(possible);
    if let Some(have) = facts.capabilities.filter(|have| have & CAP_SYS_ADMIN == 0) {
        // They came together (980737282232 and a17b53c4a4b5, Linux 5.8).
        let needed = if facts
            .last_capability
            .is_some_and(|last| 1 << last < CAP_BPF)
        {
            vec![(CAP_SYS_ADMIN, "SYS_ADMIN")]
        } else {
            vec![(CAP_BPF, "BPF"), (CAP_PERFMON, "PERFMON")]
        };
        let missing = needed.iter().filter(|(bit, _)| have & bit == 0);
        let missing: Vec<_> = missing.map(|(_, name)| *name).collect();
        if !missing.is_empty() {
            return Err(Error::failed(format!(
                "missing capabilities: {}: run as root, or add them to the container (securityContext.capabilities.add; Docker before 23 does not know these names, and needs SYS_ADMIN)",
                missing.join(", ")
            )));
        }
    }
    let quirks = Quirks::of(&features);
    // Linux 5.4 loads the programs all the same, and then lets them read zeroes.
    if facts.lockdown.as_deref() == Some("confidentiality") && !quirks.bears_lockdown(buffer) {
        return Err(kernel::locked_down());
    }
    Ok(Plan {
        quirks,
        buffer,
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

/// `snoop check`: a line for each thing that tracing needs, one for each way to use snoop, and the exit status: 1 if none
/// of them works.
pub fn check() -> (String, u8) {
    let facts = look(Path::new("/"));
    let kernel = facts
        .kernel
        .map_or("unknown".into(), |(a, b)| format!("{a}.{b}"));
    let mount = facts.cgroup_mount.as_ref();
    let btf = match facts.btf {
        Btf::Found => "found",
        Btf::Missing => "missing",
        Btf::Masked => "masked",
    };
    let mut lines = vec![
        ("kernel", kernel),
        ("lockdown", facts.lockdown.clone().unwrap_or("none".into())),
        ("privileges", privileges(&facts)),
        ("BTF", btf.into()),
        (
            "cgroup v2",
            mount.map_or("not mounted".into(), |m| m.display().to_string()),
        ),
    ];
    let tried = try_all(&facts, &mut lines);
    let mut text = String::new();
    for (what, found) in lines {
        text += &format!("{what:<14}{found}\n");
    }
    match tried {
        Ok(true) => (text + "This host can be traced.\n", 0),
        Ok(false) => (
            text + "This host cannot be traced in any of these ways.\n",
            FAILED,
        ),
        Err(e) => (text + &format!("This host cannot be traced: {e}\n"), FAILED),
    }
}

/// Does all that tracing does, but for the tracing. Adds a line for each step that worked and for each way to use snoop;
/// returns whether one of those works.
fn try_all(facts: &Facts, lines: &mut Vec<(&str, String)>) -> Result<bool> {
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
    let own = probe.own_cgroups()?;
    let shown = |pod: Pod| String::from_utf8_lossy(&pod.cgroup.path).into_owned();
    let ways = [
        ("own pod", Pod::among(&own).map(shown)),
        ("-cgroup", named_cgroups(&plan, &own)),
        (
            "snoop run",
            plan.cgroup_mount()
                .and_then(TempCgroup::make)
                .map(|_| "can create cgroups".into()),
        ),
    ];
    let mut any = false;
    for (way, found) in ways {
        any |= found.is_ok();
        let found = found.map_or_else(|e| format!("no: {e}"), |what| format!("yes: {what}"));
        lines.push((way, found));
    }
    Ok(any)
}

/// Which cgroups `-cgroup` can name here.
fn named_cgroups(plan: &Plan, own: &[(u64, Vec<u8>)]) -> Result<String> {
    match (plan.cgroup_mount(), Pod::parent(own)) {
        (Ok(mount), _) if cgroup::shows_root(mount) => Ok(format!("all below {}", mount.display())),
        (_, Ok(_)) => Ok("@parent; other cgroups cannot be seen from here".into()),
        (Ok(mount), Err(_)) => Ok(format!("those below {}", mount.display())),
        (Err(e), Err(_)) => Err(e),
    }
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
            last_capability: Some(40),
            btf: Btf::Found,
            features: Some(KernelFeatures::ALL),
            lockdown: Some("none".into()),
            cgroup_mount: Some("/sys/fs/cgroup".into()),
            confinement: Confinement::default(),
        }
    }

    /// A host that can do what Linux 5.4 can.
    fn old() -> Facts {
        Facts {
            kernel: Some((5, 4)),
            capabilities: Some(CAP_SYS_ADMIN),
            last_capability: Some(37),
            features: Some(KernelFeatures {
                ring: false,
                typed: false,
                locks_memory: true,
                backing_is_bit_24: false,
            }),
            ..able()
        }
    }

    fn without(change: impl Fn(&mut KernelFeatures)) -> Facts {
        let mut facts = able();
        change(facts.features.as_mut().unwrap());
        facts
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
        let quirks = Quirks {
            typed: true,
            locks_memory: false,
            mode_backing: 1 << 24,
        };
        assert_eq!(planned.quirks, quirks);
        assert_eq!(planned.cgroup_mount().unwrap(), Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn each_feature_decides_one_thing() {
        let planned = |facts: &Facts| plan(facts, None).unwrap();
        let able = planned(&able());
        assert_eq!(
            planned(&without(|f| f.ring = false)),
            Plan {
                buffer: Buffer::Perf,
                ..able.clone()
            }
        );
        let quirks = |change: fn(&mut KernelFeatures)| {
            let Plan { quirks, buffer, .. } = planned(&without(change));
            assert_eq!(buffer, Buffer::Ring);
            quirks
        };
        assert!(!quirks(|f| f.typed = false).typed);
        assert!(quirks(|f| f.locks_memory = true).locks_memory);
        assert_eq!(
            quirks(|f| f.backing_is_bit_24 = false).mode_backing,
            1 << 25
        );
    }

    #[test]
    fn the_version_decides_nothing() {
        let mut facts = able();
        // As distributions do.
        facts.kernel = Some((4, 18));
        assert_eq!(plan(&facts, None).unwrap(), plan(&able(), None).unwrap());
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
        let no_types =
            refused(|f| (f.kernel, f.btf, f.features) = (Some((4, 19)), Btf::Missing, None));
        for part in ["is Linux 4.19", "needs Linux 5.4", "CONFIG_DEBUG_INFO_BTF"] {
            assert!(no_types.contains(part), "{no_types}");
        }
        assert!(refused(|f| f.last_capability = Some(37)).contains("capabilities: SYS_ADMIN:"));
        assert!(refused(|f| f.capabilities = Some(CAP_BPF)).contains("capabilities: PERFMON:"));
        assert!(refused(|f| f.capabilities = Some(0)).contains("BPF, PERFMON"));
    }

    #[test]
    fn lockdown_leaves_something_to_see_where_pointers_have_types() {
        let locked = |mut facts: Facts, wanted| {
            facts.lockdown = Some("confidentiality".into());
            plan(&facts, wanted)
        };
        assert!(locked(able(), None).is_ok());
        let untyped = without(|f| f.typed = false);
        for (facts, wanted) in [(old(), None), (untyped, None), (able(), Some(Buffer::Perf))] {
            let error = locked(facts, wanted).unwrap_err().to_string();
            assert!(
                error.contains("lockdown=confidentiality forbids"),
                "{error}"
            );
        }
        let mut facts = old();
        facts.lockdown = Some("integrity".into());
        assert!(plan(&facts, None).is_ok());
    }

    #[test]
    fn unknown_is_not_no() {
        let mut facts = able();
        (facts.kernel, facts.capabilities, facts.lockdown) = (None, None, None);
        (facts.last_capability, facts.features) = (None, None);
        assert_eq!(plan(&facts, None).unwrap(), plan(&able(), None).unwrap());
        facts.capabilities = Some(CAP_BPF | CAP_PERFMON);
        assert!(plan(&facts, None).is_ok());
    }

    #[test]
    fn old_kernels_have_no_ring_and_new_ones_may_do_without() {
        let buffer = |facts: &Facts, wanted| plan(facts, wanted).map(|plan| plan.buffer);
        assert_eq!(buffer(&old(), None).unwrap(), Buffer::Perf);
        assert_eq!(buffer(&able(), None).unwrap(), Buffer::Ring);
        assert_eq!(buffer(&able(), Some(Buffer::Perf)).unwrap(), Buffer::Perf);
        let error = buffer(&old(), Some(Buffer::Ring)).unwrap_err();
        assert_eq!(error.status, crate::error::USAGE);
        assert!(error.to_string().contains("leave the flag out"), "{error}");
    }

    #[test]
    fn a_mask_is_not_a_kernel_without_types() {
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
            "as engines mask a file"
        );
        fs::remove_file(kernel.join("btf/vmlinux")).unwrap();
        fs::write(kernel.join("btf/vmlinux"), "x").unwrap();
        assert_eq!(look_for_btf(root.path()), Btf::Found);
        assert!(refused(|f| f.btf = Btf::Masked).contains("unmask=/sys/kernel"));
        let kata = refused(|f| (f.btf, f.confinement.guest) = (Btf::Missing, Some(Guest::Kata)));
        assert!(kata.contains("Kata"), "{kata}");
        let rootless = refused(|f| f.confinement.user_namespace = Some(true));
        assert!(rootless.contains("user namespace"), "{rootless}");
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
