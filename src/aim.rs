//! What is traced: snoop's own pod, the containers beside it, cgroups that the user names, or a command in a cgroup of
//! its own.

use crate::cgroup::{self, Cgroup, Named, OwnCgroup, Pod, is_container, own_container};
use crate::error::Result;
use crate::format::text;
use crate::path::is_below;
use crate::preflight::Plan;
use crate::probe::Probe;
use crate::run::Running;
use crate::wire::Target;
use std::ffi::{OsStr, OsString};

pub enum Aim {
    /// Snoop's own pod, but for its own container.
    Pod,
    /// The parent of snoop's own container, likewise.
    Parent,
    Named(Vec<Named>),
    Command(OwnCgroup, Vec<OsString>),
}

/// The value of `-cgroup` for [`Aim::Parent`].
const PARENT: &str = "@parent";

const OWN_CGROUP: &str = "-cgroup=/: in snoop's cgroup namespace this is snoop's own cgroup, in which nothing else may run; give -cgroup=@parent for the containers beside snoop";

/// What the programs were told to trace.
#[derive(Default)]
pub struct Traced {
    /// For people.
    pub shown: String,
    /// All that is traced is one of these cgroups or below it.
    tops: Vec<Vec<u8>>,
    /// Containers that are known before anything happens in them.
    pub containers: Vec<Cgroup>,
    /// Those of them, and others, in which processes ran before the tracing began.
    pub late: Vec<Cgroup>,
    /// Cgroups above snoop's own whose children are containers. The programs find those that run already.
    pub parents: Vec<u64>,
    /// What the user most likely did not mean.
    pub warning: Option<&'static str>,
}

impl Traced {
    /// Is that cgroup traced?
    pub fn covers(&self, cgroup: &[u8]) -> bool {
        self.tops.iter().any(|top| is_below(cgroup, top))
    }
}

impl Aim {
    /// `names` is a value of `-cgroup` or `-cgroups`, empty if neither was given.
    pub fn find(names: &OsStr, command: Option<Vec<OsString>>, plan: &Plan) -> Result<Aim> {
        Ok(match command {
            Some(words) => Aim::Command(OwnCgroup::make(plan.cgroup_mount()?)?, words),
            None if names.is_empty() => Aim::Pod,
            None if names == PARENT => Aim::Parent,
            None => Aim::Named(cgroup::named(names, plan.cgroup_mount()?)?),
        })
    }

    /// Tells the programs whose accesses count.
    pub fn at(&self, probe: &mut Probe) -> Result<Traced> {
        // Asked in any case: from now on the programs know us, and leave our accesses out.
        let own = probe.own_cgroups()?;
        match self {
            Aim::Pod => trace_pod(probe, Pod::among(&own)?),
            Aim::Parent => trace_pod(probe, Pod::parent(&own)?),
            Aim::Named(named) => trace_named(probe, named, &own),
            Aim::Command(made, _) => {
                probe.target(made.cgroup.id, Target::Processes)?;
                Ok(Traced {
                    shown: text(&made.cgroup.path).into(),
                    tops: vec![made.cgroup.path.clone()],
                    containers: vec![made.cgroup.clone()],
                    ..Traced::default()
                })
            }
        }
    }

    /// Starts the command, if that is what is traced.
    pub fn start(self) -> Result<Option<Running>> {
        match self {
            Aim::Command(own, words) => Running::start(own, &words).map(Some),
            _ => Ok(None),
        }
    }
}

fn trace_pod(probe: &mut Probe, pod: Pod) -> Result<Traced> {
    probe.target(pod.own, Target::Ignored)?;
    probe.target(pod.cgroup.id, Target::Pod)?;
    Ok(Traced {
        shown: format!("pod {}", text(&pod.cgroup.path)),
        tops: vec![pod.cgroup.path],
        parents: vec![pod.cgroup.id],
        ..Traced::default()
    })
}

/// `own` are the cgroups that snoop is in, from its own one up.
fn trace_named(probe: &mut Probe, all: &[Named], own: &[(u64, Vec<u8>)]) -> Result<Traced> {
    let mut traced = Traced::default();
    let label = |named: &Named| {
        let awaited = if named.cgroup.id == 0 {
            " once it is created"
        } else {
            ""
        };
        format!("{}{awaited}", text(&named.cgroup.path))
    };
    traced.shown = all.iter().map(label).collect::<Vec<_>>().join(", ");
    for named in all {
        let (cgroup, target) = (&named.cgroup, named.target);
        traced.tops.push(cgroup.path.clone());
        if let Some((parent, names)) = &named.place {
            let names: Vec<_> = names.iter().map(Vec::as_slice).collect();
            probe.expect(*parent, &names, target)?;
        }
        if cgroup.id == 0 {
            continue;
        }
        let container = own_container(own);
        match own.iter().position(|(id, _)| *id == cgroup.id) {
            Some(0) if own.len() > 1 && cgroup.path == b"/" => traced.warning = Some(OWN_CGROUP),
            Some(at) if at > container => {
                if is_container(&own[container].1) || target == Target::Pod {
                    probe.target(own[container].0, Target::Ignored)?;
                }
                traced.parents.push(cgroup.id);
            }
            _ => traced.late.extend_from_slice(&named.late),
        }
        probe.target(cgroup.id, target)?;
        if target != Target::Pod {
            traced.containers.push(cgroup.clone());
        }
    }
    Ok(traced)
}
