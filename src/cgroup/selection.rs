//! What is traced: snoop's own pod, the containers beside it, cgroups that the user names, or a command in a cgroup of
//! its own.

use crate::bpf::probe::Probe;
use crate::bpf::wire::Target;
use crate::cgroup::command::Running;
use crate::cgroup::{self, Cgroup, NamedCgroup, Pod, TempCgroup, is_container, own_container};
use crate::error::Result;
use crate::path::is_below;
use crate::report::schema::encode_name;
use std::ffi::{OsStr, OsString};
use std::path::Path;

pub enum Selection {
    /// Snoop's own pod, but for its own container.
    Pod,
    /// The parent of snoop's own container, likewise.
    Parent,
    Named(Vec<NamedCgroup>),
    Command(TempCgroup, Vec<OsString>),
}

/// The value of `-cgroup` for [`Selection::Parent`].
const PARENT: &str = "@parent";

const OWN_CGROUP: &str = "-cgroup=/: in snoop's cgroup namespace this is snoop's own cgroup, in which nothing else may run; give -cgroup=@parent for the containers beside snoop";

/// What the programs were told to trace.
#[derive(Default)]
pub struct Scope {
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

impl Scope {
    /// Is that cgroup traced?
    pub fn covers(&self, cgroup: &[u8]) -> bool {
        self.tops.iter().any(|top| is_below(cgroup, top))
    }
}

impl Selection {
    /// Returns what the user wants traced. `names` is a value of `-cgroup` or `-cgroups`, empty if neither was given.
    /// `mount` is where cgroup v2 is mounted, or the error for those selections that need it.
    pub fn find(
        names: &OsStr,
        command: Option<Vec<OsString>>,
        mount: Result<&Path>,
    ) -> Result<Selection> {
        Ok(match command {
            Some(words) => Selection::Command(TempCgroup::make(mount?)?, words),
            None if names.is_empty() => Selection::Pod,
            None if names == PARENT => Selection::Parent,
            None => Selection::Named(cgroup::named(names, mount?)?),
        })
    }

    /// Tells the programs whose accesses count.
    pub fn at(&self, probe: &mut Probe) -> Result<Scope> {
        // Asked in any case: from now on the programs know us, and leave our accesses out.
        let own = probe.own_cgroups()?;
        match self {
            Selection::Pod => trace_pod(probe, Pod::among(&own)?),
            Selection::Parent => trace_pod(probe, Pod::parent(&own)?),
            Selection::Named(named) => trace_named(probe, named, &own),
            Selection::Command(made, _) => {
                probe.target(made.cgroup.id, Target::Processes)?;
                Ok(Scope {
                    shown: encode_name(&made.cgroup.path).into(),
                    tops: vec![made.cgroup.path.clone()],
                    containers: vec![made.cgroup.clone()],
                    ..Scope::default()
                })
            }
        }
    }

    /// Starts the command, if that is what is traced.
    pub fn start(self) -> Result<Option<Running>> {
        match self {
            Selection::Command(own, words) => Running::start(own, &words).map(Some),
            _ => Ok(None),
        }
    }
}

fn trace_pod(probe: &mut Probe, pod: Pod) -> Result<Scope> {
    probe.target(pod.own, Target::Ignored)?;
    probe.target(pod.cgroup.id, Target::Pod)?;
    Ok(Scope {
        shown: format!("pod {}", encode_name(&pod.cgroup.path)),
        tops: vec![pod.cgroup.path],
        parents: vec![pod.cgroup.id],
        ..Scope::default()
    })
}

/// `own` are the cgroups that snoop is in, from its own one up.
fn trace_named(probe: &mut Probe, all: &[NamedCgroup], own: &[(u64, Vec<u8>)]) -> Result<Scope> {
    let mut traced = Scope::default();
    let label = |named: &NamedCgroup| {
        let awaited = if named.cgroup.id == 0 {
            " once it is created"
        } else {
            ""
        };
        format!("{}{awaited}", encode_name(&named.cgroup.path))
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
