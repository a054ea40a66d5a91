// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop check`: reports what the host can do, and tries it.

use super::facts::{Btf, Facts, look};
use super::{Attached, Choices, Plan, attach, plan};
use crate::bpf::wire::KNOWN_BITS;
use crate::cgroup::{self, Pod, TempCgroup};
use crate::error::{FAILED, Result};
use crate::path::Excludes;
use crate::sys::capabilities::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN};
use std::path::Path;

/// Returns a line for each requirement of tracing and for each way to use snoop. The exit status is 1 if none of these
/// ways works.
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

/// Takes all steps up to the tracing itself. Adds a line for each step that worked and for each way to use snoop.
/// Returns whether at least one of these ways works.
fn try_all(facts: &Facts, lines: &mut Vec<(&str, String)>) -> Result<bool> {
    let mut plan = plan(facts, Choices::default())?;
    let Attached { probe, .. } = attach(&mut plan, &Excludes::default(), KNOWN_BITS)?;
    lines.push(("hooks", plan.hooks.to_string()));
    lines.push(("attached", probe.programs().collect::<Vec<_>>().join(", ")));
    let own = probe.own_cgroups()?;
    let shown = |pod: Pod| String::from_utf8_lossy(&pod.cgroup.path).into_owned();
    let ways = [
        ("snoop's pod", Pod::among(&own).map(shown)),
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

/// Returns a text that says which cgroups `-cgroup` can name here.
fn named_cgroups(plan: &Plan, own: &[(u64, Vec<u8>)]) -> Result<String> {
    match (plan.cgroup_mount(), Pod::parent(own)) {
        (Ok(mount), _) if cgroup::shows_root(mount) => Ok(format!("all below {}", mount.display())),
        (_, Ok(_)) => Ok("@parent; other cgroups are not visible from here".into()),
        (Ok(mount), Err(_)) => Ok(format!("those below {}", mount.display())),
        (Err(e), Err(_)) => Err(e),
    }
}

/// Returns the names of the capabilities that matter to snoop.
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
