// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host can do, and what follows for tracing: [`facts`] looks up the facts, [`plan`] decides, [`check`]
//! reports.

pub mod check;
pub mod facts;

use crate::bpf::features::{self, KernelFeatures, Quirks};
use crate::bpf::hooks::{Buffer, Rung};
use crate::bpf::layout::{self, Layout};
use crate::bpf::probe::Probe;
use crate::bpf::settings::Settings;
use crate::error::{Error, Result};
use crate::path::Excludes;
use crate::sys::capabilities::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN};
use crate::sys::confinement::Guest;
use facts::{BTF, Btf, Facts};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What to do on this host.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub quirks: Quirks,
    pub buffer: Buffer,
    pub hooks: Hooks,
    /// The mount point below which cgroups can be found and created. Tracing snoop's own pod does not need it.
    pub cgroup_mount: Option<PathBuf>,
}

/// Which hooks to use.
#[derive(Clone, Debug, PartialEq)]
pub struct Hooks {
    pub rung: Rung,
    /// Why not the resolver.
    pub why: Option<String>,
    /// Whether the user asked for this rung, so that no other one will do.
    is_wanted: bool,
}

impl fmt::Display for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let why = self
            .why
            .as_ref()
            .map_or(String::new(), |why| format!(" ({why})"));
        write!(f, "{}{why}", self.rung)
    }
}

impl Plan {
    /// Returns the mount of cgroup v2.
    ///
    /// # Errors
    ///
    /// There is no such mount. The message says how to mount it.
    pub fn cgroup_mount(&self) -> Result<&Path> {
        self.cgroup_mount.as_deref().ok_or_else(|| {
            Error::failed(
                "no cgroup v2 is mounted; mount it (mount -t cgroup2 none /sys/fs/cgroup), or boot with systemd.unified_cgroup_hierarchy=1",
            )
        })
    }
}

/// What the user chose; `None` is the best that the kernel has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choices {
    pub buffer: Option<Buffer>,
    pub hooks: Option<Rung>,
}

/// Decides what to do on a host with these facts.
///
/// # Errors
///
/// The host cannot be traced. The message says what is missing and what to do.
pub fn plan(facts: &Facts, choices: Choices) -> Result<Plan> {
    if let Some(why) = facts.confinement.forbids() {
        return Err(Error::failed(why));
    }
    require_types(facts)?;
    let features = facts.features.unwrap_or(KernelFeatures::ALL);
    let buffer = choose_buffer(features.ring, choices.buffer)?;
    require_capabilities(facts)?;
    let quirks = Quirks::of(&features);
    // Under lockdown Linux 5.4 loads the programs, but they read only zeroes.
    if facts.lockdown.as_deref() == Some("confidentiality") && !quirks.bears_lockdown(buffer) {
        return Err(features::locked_down());
    }
    Ok(Plan {
        quirks,
        buffer,
        hooks: choose_hooks(facts, &features, buffer, choices.hooks)?,
        cgroup_mount: facts.cgroup_mount.clone(),
    })
}

/// Fails if the kernel's type information cannot be read.
fn require_types(facts: &Facts) -> Result<()> {
    match (facts.btf, facts.confinement.guest) {
        (Btf::Found, _) => Ok(()),
        (Btf::Masked, _) => Err(Error::failed(format!(
            "/{BTF} is masked: something is mounted over it, or sysfs is not mounted; run snoop without a mask over /sys/kernel (Docker and Podman: --security-opt unmask=/sys/kernel)"
        ))),
        (Btf::Missing, Some(Guest::Kata)) => Err(Error::failed(
            "this is the kernel of a Kata container, and it was built without type information; use a guest kernel with CONFIG_DEBUG_INFO_BTF=y, or another runtime class",
        )),
        (Btf::Missing, _) => {
            let version = |(major, minor)| format!("it is Linux {major}.{minor}, and ");
            let version = facts.kernel.map_or(String::new(), version);
            Err(Error::failed(format!(
                "this kernel has no type information (/{BTF}): {version}type information needs Linux 5.4 and CONFIG_DEBUG_INFO_BTF=y; use a kernel that has it, as distribution kernels do"
            )))
        }
    }
}

/// Returns the buffer that the user chose, or the best one that the kernel has.
fn choose_buffer(has_ring: bool, wanted: Option<Buffer>) -> Result<Buffer> {
    match (wanted, has_ring) {
        (Some(Buffer::Ring), false) => Err(Error::usage(
            "-buffer=ring: this kernel's BPF is older than that of Linux 5.10, which the programs for the ring buffer need; leave the flag out",
        )),
        (Some(buffer), _) => Ok(buffer),
        (None, true) => Ok(Buffer::Ring),
        (None, false) => Ok(Buffer::Perf),
    }
}

/// Returns the hooks that the user chose, or the best ones with which nothing is missed.
fn choose_hooks(
    facts: &Facts,
    features: &KernelFeatures,
    buffer: Buffer,
    wanted: Option<Rung>,
) -> Result<Hooks> {
    let is_wanted = wanted.is_some();
    let syscall = |why: String| Hooks {
        rung: Rung::Syscall,
        why: Some(why),
        is_wanted,
    };
    let unable = resolver_lacks(facts, features, buffer);
    match (wanted, unable) {
        (Some(Rung::Syscall), _) => Ok(syscall("as -hooks says".into())),
        (Some(Rung::Resolver), Some(why)) => Err(Error::usage(format!(
            "-hooks=resolver: {why}; leave the flag out"
        ))),
        (None, Some(why)) => Ok(syscall(why.into())),
        (None, None) if facts.preemptible != Some(false) => Ok(syscall(
            "on a preemptible kernel the resolver's hooks can miss accesses".into(),
        )),
        (_, None) => Ok(Hooks {
            rung: Rung::Resolver,
            why: None,
            is_wanted,
        }),
    }
}

/// Returns what the hooks of the resolver need and the host lacks.
fn resolver_lacks(
    facts: &Facts,
    features: &KernelFeatures,
    buffer: Buffer,
) -> Option<&'static str> {
    if buffer == Buffer::Perf {
        Some("the resolver's hooks need the ring buffer")
    } else if !features.typed || !features.finds_registers {
        Some("this kernel's BPF is older than that of Linux 5.15, which the resolver's hooks need")
    } else if facts.lockdown.as_deref() == Some("confidentiality") {
        Some(features::LOCKED_DOWN)
    } else {
        None
    }
}

/// The programs, which are loaded and attached, and what they need.
pub struct Attached {
    pub probe: Probe,
    /// The map that holds the records.
    pub records: bpf_sys::direct::Map,
    pub layout: Layout,
}

/// Loads and attaches the programs of the plan. Nothing is traced before they are told what. Where the kernel refuses the
/// resolver's programs, those of system calls take their place, and the plan is changed.
pub fn attach(plan: &mut Plan, excludes: &Excludes, known_bits: u32) -> Result<Attached> {
    let layout = layout(plan.buffer)?;
    let start = |rung| -> Result<_> {
        let (mut probe, records) = Probe::load(&Settings {
            layout: &layout,
            quirks: plan.quirks,
            rung,
            buffer: plan.buffer,
            excludes,
            known_bits,
        })?;
        probe.attach()?;
        Ok((probe, records))
    };
    let mut started = start(plan.hooks.rung);
    if let (Err(e), Rung::Resolver, false) = (&started, plan.hooks.rung, plan.hooks.is_wanted) {
        let why = e.to_string().lines().next().map(str::to_string);
        started = start(Rung::Syscall);
        (plan.hooks.rung, plan.hooks.why) = (Rung::Syscall, why);
    }
    let (probe, records) = started?;
    Ok(Attached {
        probe,
        records,
        layout,
    })
}

/// Fails if the process lacks a capability that is needed to load the programs.
fn require_capabilities(facts: &Facts) -> Result<()> {
    // If the capabilities are unknown, loading the programs will show.
    let have = facts.capabilities.unwrap_or(CAP_SYS_ADMIN);
    if have & CAP_SYS_ADMIN != 0 {
        return Ok(());
    }
    // BPF and PERFMON were introduced together (980737282232 and a17b53c4a4b5, Linux 5.8).
    let knows_bpf = facts
        .last_capability
        .is_none_or(|last| 1 << last >= CAP_BPF);
    let needed = if knows_bpf {
        &[(CAP_BPF, "BPF"), (CAP_PERFMON, "PERFMON")][..]
    } else {
        &[(CAP_SYS_ADMIN, "SYS_ADMIN")][..]
    };
    let missing = needed.iter().filter(|(bit, _)| have & bit == 0);
    let missing: Vec<_> = missing.map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::failed(format!(
        "missing capabilities: {}; run as root, or add them to the container (securityContext.capabilities.add; Docker before 23 does not know these names, and needs SYS_ADMIN)",
        missing.join(", ")
    )))
}

/// Returns the layout of the running kernel's structures.
pub fn layout(buffer: Buffer) -> Result<Layout> {
    let path = Path::new("/").join(BTF);
    let shown = path.display();
    let mut file = File::open(&path).map_err(|e| {
        Error::failed(format!(
            "cannot read the kernel's type information {shown}: {e}"
        ))
    })?;
    layout::layout(&mut file, buffer)
        .map_err(|why| Error::failed(format!("unsupported kernel ({shown}): {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FAILED;
    use crate::sys::confinement::Confinement;

    fn able() -> Facts {
        Facts {
            kernel: Some((6, 1)),
            capabilities: Some(CAP_BPF | CAP_PERFMON),
            last_capability: Some(40),
            btf: Btf::Found,
            features: Some(KernelFeatures::ALL),
            lockdown: Some("none".into()),
            preemptible: Some(false),
            cgroup_mount: Some("/sys/fs/cgroup".into()),
            confinement: Confinement {
                user_namespace: Some(false),
                seccomp: Some(false),
                selinux: None,
                guest: None,
            },
        }
    }

    /// A host with the features of Linux 5.4.
    fn old() -> Facts {
        Facts {
            kernel: Some((5, 4)),
            capabilities: Some(CAP_SYS_ADMIN),
            last_capability: Some(37),
            features: Some(KernelFeatures {
                ring: false,
                typed: false,
                locks_memory: true,
                finds_registers: false,
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

    fn buffered(buffer: Option<Buffer>) -> Choices {
        Choices {
            buffer,
            ..Choices::default()
        }
    }

    fn refused(change: impl Fn(&mut Facts)) -> String {
        let mut facts = able();
        change(&mut facts);
        let error = plan(&facts, Choices::default()).unwrap_err();
        assert_eq!(error.status, FAILED);
        error.to_string()
    }

    #[test]
    fn an_able_host_gets_a_plan() {
        let planned = plan(&able(), Choices::default()).unwrap();
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
        let planned = |facts: &Facts| plan(facts, Choices::default()).unwrap();
        let able = planned(&able());
        let perf = planned(&without(|f| f.ring = false));
        assert_eq!(
            (perf.buffer, perf.hooks.rung),
            (Buffer::Perf, Rung::Syscall)
        );
        assert_eq!(
            perf,
            Plan {
                buffer: Buffer::Perf,
                hooks: perf.hooks.clone(),
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
        // Distributions backport features to old versions.
        facts.kernel = Some((4, 18));
        assert_eq!(
            plan(&facts, Choices::default()).unwrap(),
            plan(&able(), Choices::default()).unwrap()
        );
    }

    #[test]
    fn only_some_selections_need_a_cgroup_mount() {
        let mut facts = able();
        facts.cgroup_mount = None;
        let planned = plan(&facts, Choices::default()).unwrap();
        let said = planned.cgroup_mount().unwrap_err().to_string();
        assert!(said.contains("mount -t cgroup2"), "{said}");
    }

    /// Takes one ability at a time from an able host. The message names the ability and what to do.
    #[test]
    fn each_missing_ability_is_named() {
        type Case = (fn(&mut Facts), &'static str, &'static str);
        let cases: [Case; 8] = [
            (
                |f| f.confinement.user_namespace = Some(true),
                "in a user namespace",
                "run it as root of the host",
            ),
            (
                |f| f.confinement.guest = Some(Guest::Gvisor),
                "gVisor",
                "another runtime class",
            ),
            (|f| f.btf = Btf::Masked, "is masked", "unmask=/sys/kernel"),
            (
                |f| f.btf = Btf::Missing,
                "it is Linux 6.1",
                "CONFIG_DEBUG_INFO_BTF=y",
            ),
            (
                |f| f.capabilities = Some(CAP_PERFMON),
                "missing capabilities: BPF;",
                "capabilities.add",
            ),
            (
                |f| f.capabilities = Some(CAP_BPF),
                "missing capabilities: PERFMON;",
                "capabilities.add",
            ),
            (
                |f| f.capabilities = Some(0),
                "missing capabilities: BPF, PERFMON;",
                "capabilities.add",
            ),
            (
                |f| f.last_capability = Some(37),
                "missing capabilities: SYS_ADMIN;",
                "run as root",
            ),
        ];
        for (take_away, what, remedy) in cases {
            let message = refused(take_away);
            assert!(message.contains(what), "{message}");
            assert!(message.contains(remedy), "{message}");
        }
    }

    #[test]
    fn a_kata_kernel_without_types_needs_another_guest_kernel() {
        let message = refused(|f| (f.btf, f.confinement.guest) = (Btf::Missing, Some(Guest::Kata)));
        assert!(message.contains("Kata"), "{message}");
        assert!(message.contains("guest kernel"), "{message}");
        let mut facts = able();
        facts.confinement.guest = Some(Guest::Kata);
        assert_eq!(
            plan(&facts, Choices::default()).unwrap(),
            plan(&able(), Choices::default()).unwrap()
        );
    }

    #[test]
    fn root_needs_no_other_capability() {
        let mut facts = able();
        facts.capabilities = Some(CAP_SYS_ADMIN);
        assert!(plan(&facts, Choices::default()).is_ok());
        facts.last_capability = Some(37);
        assert!(plan(&facts, Choices::default()).is_ok());
    }

    #[test]
    fn under_lockdown_only_kernels_with_typed_pointers_can_be_traced() {
        let locked = |mut facts: Facts, wanted| {
            facts.lockdown = Some("confidentiality".into());
            plan(&facts, buffered(wanted))
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
        assert!(plan(&facts, Choices::default()).is_ok());
    }

    /// Hides one fact of an able host at a time.
    #[test]
    fn unknown_is_not_no() {
        let cases: [fn(&mut Facts); 6] = [
            |f| f.kernel = None,
            |f| f.capabilities = None,
            |f| f.last_capability = None,
            |f| f.features = None,
            |f| f.lockdown = None,
            |f| f.confinement = Confinement::default(),
        ];
        for hide in cases {
            let mut facts = able();
            hide(&mut facts);
            assert_eq!(
                plan(&facts, Choices::default()).unwrap(),
                plan(&able(), Choices::default()).unwrap()
            );
        }
    }

    #[test]
    fn the_resolver_is_hooked_where_it_misses_nothing() {
        let hooks = |facts: &Facts, hooks| {
            let choices = Choices {
                hooks,
                ..Choices::default()
            };
            plan(facts, choices).map(|plan| plan.hooks)
        };
        assert_eq!(hooks(&able(), None).unwrap().rung, Rung::Resolver);
        let chosen = hooks(&able(), Some(Rung::Syscall)).unwrap();
        assert_eq!(chosen.to_string(), "syscall (as -hooks says)");
        for preemptible in [None, Some(true)] {
            let facts = Facts {
                preemptible,
                ..able()
            };
            let chosen = hooks(&facts, None).unwrap();
            assert_eq!(chosen.rung, Rung::Syscall);
            assert!(chosen.why.unwrap().contains("preemptible"));
            let chosen = hooks(&facts, Some(Rung::Resolver)).unwrap();
            assert_eq!((chosen.rung, chosen.why), (Rung::Resolver, None));
        }
        for (facts, what) in [
            (old(), "need the ring buffer"),
            (without(|f| f.finds_registers = false), "Linux 5.15"),
        ] {
            assert!(hooks(&facts, None).unwrap().why.unwrap().contains(what));
            let error = hooks(&facts, Some(Rung::Resolver)).unwrap_err();
            assert_eq!(error.status, crate::error::USAGE);
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn only_new_kernels_have_a_ring_but_all_have_perf_buffers() {
        let buffer = |facts: &Facts, wanted| plan(facts, buffered(wanted)).map(|plan| plan.buffer);
        assert_eq!(buffer(&old(), None).unwrap(), Buffer::Perf);
        assert_eq!(buffer(&able(), None).unwrap(), Buffer::Ring);
        assert_eq!(buffer(&able(), Some(Buffer::Perf)).unwrap(), Buffer::Perf);
        let error = buffer(&old(), Some(Buffer::Ring)).unwrap_err();
        assert_eq!(error.status, crate::error::USAGE);
        assert!(error.to_string().contains("leave the flag out"), "{error}");
    }
}
