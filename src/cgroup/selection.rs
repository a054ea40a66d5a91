// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is traced: snoop's own pod, the containers beside it, cgroups that the user names, or a command in a cgroup of
//! its own.
//!
//! What the programs are told about which cgroup is decided first, by pure functions, and then applied.

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
    /// Snoop's own pod without snoop's own container.
    Pod,
    /// The parent of snoop's own container, without that container.
    Parent,
    /// Cgroups that the user named.
    Named(Vec<NamedCgroup>),
    /// The words of a command, and the cgroup that was created for it.
    Command(TempCgroup, Vec<OsString>),
}

/// The value of `-cgroup` for [`Selection::Parent`].
const PARENT: &str = "@parent";

const OWN_CGROUP: &str = "-cgroup=/: in snoop's cgroup namespace this is snoop's own cgroup, in which nothing else may run; give -cgroup=@parent for the containers beside snoop";

/// What is traced.
#[derive(Debug, Default, PartialEq)]
pub struct Scope {
    /// What the log says of it.
    pub shown: String,
    /// All that is traced is one of these cgroups or below it.
    tops: Vec<Vec<u8>>,
    /// Containers that are known before anything happens in them.
    pub containers: Vec<Cgroup>,
    /// Containers, among those or not, in which processes ran before the tracing began.
    pub late: Vec<Cgroup>,
    /// The ids of cgroups above snoop's own whose children are containers. The programs find those that run already.
    pub parents: Vec<u64>,
    /// Says what the user most likely did not mean.
    pub warning: Option<&'static str>,
}

impl Scope {
    /// Is that cgroup traced?
    pub fn covers(&self, cgroup: &[u8]) -> bool {
        self.tops.iter().any(|top| is_below(cgroup, top))
    }
}

/// What the programs are told about a cgroup.
#[derive(Debug, PartialEq)]
enum Instruction {
    /// The cgroup of that id is such a one.
    Target(u64, Target),
    /// A cgroup will be created below the one of that id, where the names lead to it, and then be such a one.
    Expect(u64, Vec<Vec<u8>>, Target),
}

/// What to tell the programs, in that order, and what is traced then.
#[derive(Debug, Default, PartialEq)]
struct TracePlan {
    instructions: Vec<Instruction>,
    scope: Scope,
}

/// The cgroups that snoop is in, from its own one up to the root: id and name of each.
type OwnCgroups = [(u64, Vec<u8>)];

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
            None => Selection::Named(cgroup::resolve_names(names, mount?)?),
        })
    }

    /// Tells the programs whose accesses count. Returns what is traced from now on.
    pub fn apply(&self, probe: &mut Probe) -> Result<Scope> {
        // Asked in any case: from now on the programs know snoop, and leave its accesses out.
        let own = probe.own_cgroups()?;
        let TracePlan {
            instructions,
            scope,
        } = self.plan(&own)?;
        for instruction in instructions {
            match instruction {
                Instruction::Target(cgroup, target) => probe.target(cgroup, target)?,
                Instruction::Expect(parent, names, target) => {
                    let names: Vec<_> = names.iter().map(Vec::as_slice).collect();
                    probe.expect(parent, &names, target)?;
                }
            }
        }
        Ok(scope)
    }

    fn plan(&self, own: &OwnCgroups) -> Result<TracePlan> {
        Ok(match self {
            Selection::Pod => plan_pod(Pod::among(own)?),
            Selection::Parent => plan_pod(Pod::parent(own)?),
            Selection::Named(named) => plan_named(named, own),
            Selection::Command(created, _) => plan_command(&created.cgroup),
        })
    }

    /// Starts the command, if that is what is traced.
    pub fn start(self) -> Result<Option<Running>> {
        match self {
            Selection::Command(cgroup, words) => Running::start(cgroup, &words).map(Some),
            _ => Ok(None),
        }
    }
}

fn plan_command(cgroup: &Cgroup) -> TracePlan {
    TracePlan {
        instructions: vec![Instruction::Target(cgroup.id, Target::Processes)],
        scope: Scope {
            shown: encode_name(&cgroup.path).into(),
            tops: vec![cgroup.path.clone()],
            containers: vec![cgroup.clone()],
            ..Scope::default()
        },
    }
}

fn plan_pod(pod: Pod) -> TracePlan {
    TracePlan {
        instructions: vec![
            Instruction::Target(pod.own, Target::Ignored),
            Instruction::Target(pod.cgroup.id, Target::Pod),
        ],
        scope: Scope {
            shown: format!("pod {}", encode_name(&pod.cgroup.path)),
            tops: vec![pod.cgroup.path],
            parents: vec![pod.cgroup.id],
            ..Scope::default()
        },
    }
}

fn plan_named(all: &[NamedCgroup], own: &OwnCgroups) -> TracePlan {
    let mut plan = TracePlan::default();
    let shown: Vec<_> = all.iter().map(label).collect();
    plan.scope.shown = shown.join(", ");
    for named in all {
        plan.scope.tops.push(named.cgroup.path.clone());
        if let Some((parent, names)) = &named.place {
            let expect = Instruction::Expect(*parent, names.clone(), named.target);
            plan.instructions.push(expect);
        }
        if named.cgroup.id != 0 {
            plan_existing(named, own, &mut plan);
        }
    }
    plan
}

fn label(named: &NamedCgroup) -> String {
    let path = encode_name(&named.cgroup.path);
    match named.cgroup.id {
        0 => format!("{path} once it is created"),
        _ => path.into(),
    }
}

/// Adds a cgroup that exists to the plan. If snoop runs in it, snoop's own container may have to be left out.
fn plan_existing(named: &NamedCgroup, own: &OwnCgroups, plan: &mut TracePlan) {
    let (cgroup, target) = (&named.cgroup, named.target);
    let container = own_container(own);
    match own.iter().position(|(id, _)| *id == cgroup.id) {
        Some(0) if own.len() > 1 && cgroup.path == b"/" => plan.scope.warning = Some(OWN_CGROUP),
        Some(at) if at > container => {
            let (id, name) = &own[container];
            if is_container(name) || target == Target::Pod {
                let ignore = Instruction::Target(*id, Target::Ignored);
                plan.instructions.push(ignore);
            }
            plan.scope.parents.push(cgroup.id);
        }
        _ => plan.scope.late.extend_from_slice(&named.late),
    }
    plan.instructions
        .push(Instruction::Target(cgroup.id, target));
    if target != Target::Pod {
        plan.scope.containers.push(cgroup.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: &str) -> String {
        digit.repeat(64)
    }

    /// The cgroups that snoop is in, if it is in this one: ids from 1 up.
    fn own(path: &str) -> Vec<(u64, Vec<u8>)> {
        let names = path.split('/').rev().map(|name| name.as_bytes().to_vec());
        (1..).zip(names).collect()
    }

    fn cgroup(id: u64, path: &str) -> Cgroup {
        let path = path.into();
        Cgroup { id, path }
    }

    /// A cgroup below the root that has processes.
    fn named(id: u64, path: &str, target: Target) -> NamedCgroup {
        let cgroup = cgroup(id, path);
        NamedCgroup {
            place: None,
            late: vec![cgroup.clone()],
            cgroup,
            target,
        }
    }

    fn plan(selection: &Selection, own: &OwnCgroups) -> TracePlan {
        selection.plan(own).unwrap()
    }

    #[test]
    fn in_a_pod_all_but_the_own_container_are_traced() {
        let uid = "11b2c3d4-0000-1111-2222-333344445555";
        let own = own(&format!("/kubepods/pod{uid}/{}/inner", id("a")));
        let plan = plan(&Selection::Pod, &own);
        let expected = [
            Instruction::Target(2, Target::Ignored),
            Instruction::Target(3, Target::Pod),
        ];
        assert_eq!(plan.instructions, expected);
        assert_eq!(plan.scope.shown, format!("pod /kubepods/pod{uid}"));
        assert_eq!(plan.scope.parents, [3]);
        assert!(
            plan.scope
                .covers(format!("/kubepods/pod{uid}/x").as_bytes())
        );
        assert!(!plan.scope.covers(b"/kubepods/pod"));
    }

    #[test]
    fn the_parent_is_traced_whatever_it_is_called() {
        let plan = plan(&Selection::Parent, &own("/any/thing"));
        let expected = [
            Instruction::Target(1, Target::Ignored),
            Instruction::Target(2, Target::Pod),
        ];
        assert_eq!(plan.instructions, expected);
        assert_eq!(plan.scope.shown, "pod /any");
    }

    #[test]
    fn outside_of_a_pod_there_is_no_plan() {
        assert!(Selection::Pod.plan(&own("/user.slice")).is_err());
    }

    #[test]
    fn a_command_is_traced_in_its_cgroup() {
        let cgroup = cgroup(9, "/snoop-run-1");
        let plan = plan_command(&cgroup);
        let expected = [Instruction::Target(9, Target::Processes)];
        assert_eq!(plan.instructions, expected);
        assert_eq!(plan.scope.containers, [cgroup]);
        assert_eq!(plan.scope.late, []);
    }

    #[test]
    fn a_cgroup_beside_snoop_is_traced_and_was_there_before() {
        let app = named(50, "/app", Target::Parent);
        let plan = plan(&Selection::Named(vec![app.clone()]), &own("/user.slice"));
        let expected = [Instruction::Target(50, Target::Parent)];
        assert_eq!(plan.instructions, expected);
        assert_eq!(plan.scope.containers, std::slice::from_ref(&app.cgroup));
        assert_eq!(plan.scope.late, [app.cgroup]);
        assert!(plan.scope.parents.is_empty() && plan.scope.warning.is_none());
    }

    #[test]
    fn a_cgroup_that_does_not_exist_is_expected() {
        let mut later = named(0, "/a/b", Target::Parent);
        later.late.clear();
        later.place = Some((7, vec![b"a".to_vec(), b"b".to_vec()]));
        let names = vec![b"a".to_vec(), b"b".to_vec()];
        let plan = plan(&Selection::Named(vec![later]), &own("/user.slice"));
        let expected = [Instruction::Expect(7, names, Target::Parent)];
        assert_eq!(plan.instructions, expected);
        assert_eq!(plan.scope.shown, "/a/b once it is created");
        assert_eq!(plan.scope.containers, []);
        assert!(plan.scope.covers(b"/a/b/c"));
    }

    /// It is traced, and it is expected again after it was removed.
    #[test]
    fn a_cgroup_that_exists_is_expected_too() {
        let mut app = named(50, "/app", Target::Container);
        app.place = Some((2, vec![b"app".to_vec()]));
        let plan = plan(&Selection::Named(vec![app]), &own("/user.slice"));
        let expected = [
            Instruction::Expect(2, vec![b"app".to_vec()], Target::Container),
            Instruction::Target(50, Target::Container),
        ];
        assert_eq!(plan.instructions, expected);
    }

    #[test]
    fn snoops_own_container_is_left_out_of_a_cgroup_around_it() {
        let around = named(2, "/apps.slice", Target::Parent);
        let own = own(&format!("/apps.slice/docker-{}.scope", id("b")));
        let plan = plan(&Selection::Named(vec![around]), &own);
        let expected = [
            Instruction::Target(1, Target::Ignored),
            Instruction::Target(2, Target::Parent),
        ];
        assert_eq!(plan.instructions, expected);
        assert_eq!(plan.scope.parents, [2]);
        // The programs list what ran before.
        assert_eq!(plan.scope.late, []);
    }

    /// Snoop runs on the host, in a session: nothing else in it is left out.
    #[test]
    fn a_cgroup_that_is_no_container_is_not_left_out() {
        let around = named(2, "/user.slice", Target::Parent);
        let plan = plan(
            &Selection::Named(vec![around]),
            &own("/user.slice/session-1.scope"),
        );
        let expected = [Instruction::Target(2, Target::Parent)];
        assert_eq!(plan.instructions, expected);
    }

    #[test]
    fn the_root_of_snoops_own_namespace_brings_a_warning() {
        let root = named(1, "/", Target::Parent);
        let plan = plan(&Selection::Named(vec![root]), &own("/docker/x"));
        assert_eq!(plan.scope.warning, Some(OWN_CGROUP));
        assert_eq!(plan.instructions, [Instruction::Target(1, Target::Parent)]);
    }

    #[test]
    fn several_cgroups_are_told_in_their_order() {
        let both = vec![
            named(50, "/a", Target::Container),
            named(60, "/b", Target::Pod),
        ];
        let plan = plan(&Selection::Named(both), &own("/user.slice"));
        assert_eq!(plan.scope.shown, "/a, /b");
        // The containers of a pod are found when they do something.
        assert_eq!(plan.scope.containers, [cgroup(50, "/a")]);
        let expected = [
            Instruction::Target(50, Target::Container),
            Instruction::Target(60, Target::Pod),
        ];
        assert_eq!(plan.instructions, expected);
    }

    #[test]
    fn without_a_mount_only_the_own_pod_can_be_traced() {
        let no_mount = || Err(crate::error::Error::failed("no mount"));
        let find = |names: &str| Selection::find(OsStr::new(names), None, no_mount());
        assert!(matches!(find(""), Ok(Selection::Pod)));
        assert!(matches!(find("@parent"), Ok(Selection::Parent)));
        assert!(find("/a").is_err());
    }
}
