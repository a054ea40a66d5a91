//! What is traced: the own pod, cgroups that the user names, or a command in a cgroup of its own.

use crate::cgroup::{self, Cgroup, OwnCgroup, Pod};
use crate::error::Result;
use crate::format::text;
use crate::path::is_below;
use crate::preflight::Plan;
use crate::probe::Probe;
use crate::run::Running;
use crate::wire::Target;
use std::ffi::{OsStr, OsString};

pub enum Aim {
    /// The own pod, but for the own container.
    Pod,
    Named(Vec<Cgroup>),
    Command(OwnCgroup, Vec<OsString>),
}

/// What the programs were told to trace.
pub struct Traced {
    /// For people.
    pub shown: String,
    /// All that is traced is one of these cgroups or below it.
    tops: Vec<Vec<u8>>,
    /// What is a container by itself. Those in pods become known when something happens in them.
    pub containers: Vec<Cgroup>,
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
            None => Aim::Named(cgroup::named(names, plan.cgroup_mount()?)?),
        })
    }

    /// Tells the programs whose accesses count.
    pub fn at(&self, probe: &mut Probe, plan: &Plan) -> Result<Traced> {
        // Asked in any case: from now on the programs know us, and leave our accesses out.
        let own = probe.own_cgroups()?;
        let cgroups = match self {
            Aim::Pod => {
                let pod = Pod::among(&own)?;
                probe.target(pod.own, Target::Ignored)?;
                probe.target(pod.cgroup.id, Target::Pod)?;
                return Ok(Traced {
                    shown: format!("pod {}", text(&pod.cgroup.path)),
                    tops: vec![pod.cgroup.path],
                    containers: Vec::new(),
                });
            }
            Aim::Named(cgroups) => cgroups.clone(),
            Aim::Command(own, _) => vec![own.cgroup.clone()],
        };
        let mount = plan.cgroup_mount()?;
        let paths: Vec<_> = cgroups.iter().map(|c| text(&c.path)).collect();
        let shown = paths.join(", ");
        let tops = cgroups.iter().map(|c| c.path.clone()).collect();
        let mut containers = Vec::new();
        for cgroup in cgroups {
            let target = cgroup.target(mount);
            let inside = own.iter().position(|(id, _)| *id == cgroup.id);
            if let (Target::Pod, Some(at @ 1..)) = (target, inside) {
                probe.target(own[at - 1].0, Target::Ignored)?;
            }
            if let Some(parent) = cgroup.parent(mount)? {
                probe.expect(parent, cgroup.name(), target)?;
            }
            probe.target(cgroup.id, target)?;
            if target != Target::Pod {
                containers.push(cgroup);
            }
        }
        Ok(Traced {
            shown,
            tops,
            containers,
        })
    }

    /// Starts the command, if that is what is traced.
    pub fn start(self) -> Result<Option<Running>> {
        match self {
            Aim::Command(own, words) => Running::start(own, &words).map(Some),
            _ => Ok(None),
        }
    }
}
