// SPDX-License-Identifier: MIT OR Apache-2.0
//! The selection of what to trace: snoop's own pod, the containers beside snoop, cgroups that the user names, or a
//! command in its own cgroup.
//!
//! Pure functions first decide what the programs must know about which cgroup. Then the plan is applied.

use crate::bpf::probe::Probe;
use crate::bpf::wire::Target;
use crate::cgroup::command::Running;
use crate::cgroup::{self, Cgroup, NamedCgroup, Pod, TempCgroup, is_container, own_container};
use crate::error::{Error, Result};
use crate::path::is_below;
use crate::report::schema::encode_name;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub enum Selection {
    /// The pod that snoop runs in, except snoop's own container.
    Pod,
    /// Everything in the parent cgroup of snoop's own container, except that container.
    Parent,
    /// Cgroups that the user named.
    Named(Vec<NamedCgroup>),
    /// All containers below the cgroup at this path; if it is empty, below the kubelet's. The cgroup is given as the mount shows
    /// it, which need not show it if it is above snoop's own.
    Node(Vec<u8>, Result<NamedCgroup>),
    /// A command: the cgroup that was created for it, and its words.
    Command(TempCgroup, Vec<OsString>),
}

/// The value of `-cgroup` for [`Selection::Parent`].
const PARENT: &str = "@parent";

const OWN_CGROUP: &str = "-cgroup=/: in snoop's cgroup namespace this is snoop's own cgroup, in which nothing else may run; give -cgroup=@parent for the containers beside snoop";

/// What is traced, once a plan is applied.
#[derive(Debug, Default, PartialEq)]
pub struct Scope {
    /// The description for the log.
    pub label: String,
    /// The topmost traced cgroups. Everything that is traced is in one of them or below it.
    tops: Vec<Vec<u8>>,
    /// Containers that are known from the start, before anything happens in them.
    pub containers: Vec<Cgroup>,
    /// Containers in which processes were already running when tracing began. They need not be among `containers`.
    pub late: Vec<Cgroup>,
    /// The ids of cgroups above snoop's own whose children are containers. The programs list those that are already
    /// running.
    pub parents: Vec<u64>,
    /// A warning about a selection that the user most likely did not intend.
    pub warning: Option<&'static str>,
}

impl Scope {
    /// Returns whether a cgroup is traced.
    pub fn covers(&self, cgroup: &[u8]) -> bool {
        self.tops.iter().any(|top| is_below(cgroup, top))
    }
}

/// An instruction for the programs about one cgroup.
#[derive(Debug, PartialEq)]
enum Instruction {
    /// The cgroup with this id is of this kind.
    Target(u64, Target),
    /// A cgroup of this kind will be created. The names lead to it from the cgroup with this id.
    Expect(u64, Vec<Vec<u8>>, Target),
}

/// The instructions for the programs, in order, and what is traced after they are applied.
#[derive(Debug, Default, PartialEq)]
struct TracePlan {
    instructions: Vec<Instruction>,
    scope: Scope,
}

/// The cgroups that snoop is in, from its own up to the root, each with id and name.
type OwnCgroups = [(u64, Vec<u8>)];

impl Selection {
    /// Returns what the user wants to trace. `names` is the value of `-cgroup` or `-cgroups`, empty if neither was
    /// given. `mount` is the mount point of cgroup v2, or the error for the selections that need a mount.
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

    /// Returns the selection of a node's containers. `name` is the value of `-cgroup`, empty if it was not given.
    pub fn find_node(name: &OsStr, mount: Result<&Path>) -> Selection {
        let named = mount.and_then(|mount| {
            let all = cgroup::resolve_names(name, mount)?;
            Ok(all.into_iter().next().expect("there is one, or an error"))
        });
        Selection::Node(name.as_bytes().into(), named)
    }

    /// Tells the programs which cgroups to trace. Returns what is traced from now on.
    pub fn apply(&self, probe: &mut Probe) -> Result<Scope> {
        // This call is needed in any case: from now on the programs know snoop and exclude its accesses.
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
            Selection::Node(path, named) => plan_node(path, named.as_ref(), own)?,
            Selection::Command(created, _) => plan_command(&created.cgroup),
        })
    }

    /// Starts the command, if a command is selected.
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
            label: encode_name(&cgroup.path).into(),
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
            label: format!("pod {}", encode_name(&pod.cgroup.path)),
            tops: vec![pod.cgroup.path],
            parents: vec![pod.cgroup.id],
            ..Scope::default()
        },
    }
}

fn plan_node(
    path: &[u8],
    named: std::result::Result<&NamedCgroup, &Error>,
    own: &OwnCgroups,
) -> Result<TracePlan> {
    let mut plan = TracePlan::default();
    let above = match path {
        b"" => Some(Pod::kubelet(own)?),
        path => Pod::above(own, path),
    };
    let cgroup = match (above, named) {
        (Some(cgroup), _) => cgroup,
        (None, Ok(named)) => {
            if let Some((parent, names)) = &named.place {
                let expect = Instruction::Expect(*parent, names.clone(), Target::Node);
                plan.instructions.push(expect);
            }
            named.cgroup.clone()
        }
        (None, Err(e)) => return Err(Error::usage(e.to_string())),
    };
    let (id, name) = &own[own_container(own)];
    if is_container(name) {
        plan.instructions
            .push(Instruction::Target(*id, Target::Ignored));
    }
    if cgroup.id != 0 {
        plan.instructions
            .push(Instruction::Target(cgroup.id, Target::Node));
    }
    plan.scope = Scope {
        label: format!("all containers below {}", encode_name(&cgroup.path)),
        tops: vec![cgroup.path],
        ..Scope::default()
    };
    Ok(plan)
}

fn plan_named(all: &[NamedCgroup], own: &OwnCgroups) -> TracePlan {
    let mut plan = TracePlan::default();
    let labels: Vec<_> = all.iter().map(label).collect();
    plan.scope.label = labels.join(", ");
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

/// Adds an existing cgroup to the plan. If snoop runs in it, snoop's own container may have to be excluded.
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

    /// Returns the cgroups that snoop is in if its own is at this path. The ids count up from 1.
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
    fn in_a_pod_every_container_except_snoops_is_traced() {
        let uid = "11b2c3d4-0000-1111-2222-333344445555";
        let own = own(&format!("/kubepods/pod{uid}/{}/inner", id("a")));
        let plan = plan(&Selection::Pod, &own);
        let expected = [
            Instruction::Target(2, Target::Ignored),
            Instruction::Target(3, Target::Pod),
        ];
        assert_eq!(plan.instructions, expected);
        assert_eq!(plan.scope.label, format!("pod /kubepods/pod{uid}"));
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
        assert_eq!(plan.scope.label, "pod /any");
    }

    #[test]
    fn outside_a_pod_there_is_no_plan() {
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
    fn a_running_cgroup_beside_snoop_is_traced_and_late() {
        let app = named(50, "/app", Target::Parent);
        let plan = plan(&Selection::Named(vec![app.clone()]), &own("/user.slice"));
        let expected = [Instruction::Target(50, Target::Parent)];
        assert_eq!(plan.instructions, expected);
        assert_eq!(plan.scope.containers, std::slice::from_ref(&app.cgroup));
        assert_eq!(plan.scope.late, [app.cgroup]);
        assert!(plan.scope.parents.is_empty() && plan.scope.warning.is_none());
    }

    #[test]
    fn a_cgroup_that_does_not_exist_yet_is_expected() {
        let mut later = named(0, "/a/b", Target::Parent);
        later.late.clear();
        later.place = Some((7, vec![b"a".to_vec(), b"b".to_vec()]));
        let names = vec![b"a".to_vec(), b"b".to_vec()];
        let plan = plan(&Selection::Named(vec![later]), &own("/user.slice"));
        let expected = [Instruction::Expect(7, names, Target::Parent)];
        assert_eq!(plan.instructions, expected);
        assert_eq!(plan.scope.label, "/a/b once it is created");
        assert_eq!(plan.scope.containers, []);
        assert!(plan.scope.covers(b"/a/b/c"));
    }

    /// The cgroup is traced now, and expected again after it has been removed.
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
    fn snoops_container_is_excluded_from_a_cgroup_around_it() {
        let around = named(2, "/apps.slice", Target::Parent);
        let own = own(&format!("/apps.slice/docker-{}.scope", id("b")));
        let plan = plan(&Selection::Named(vec![around]), &own);
        let expected = [
            Instruction::Target(1, Target::Ignored),
            Instruction::Target(2, Target::Parent),
        ];
        assert_eq!(plan.instructions, expected);
        assert_eq!(plan.scope.parents, [2]);
        // The programs list the containers that are already running.
        assert_eq!(plan.scope.late, []);
    }

    /// Snoop runs in a login session on the host. The other processes of the session are traced.
    #[test]
    fn a_session_that_snoop_runs_in_is_not_excluded() {
        let around = named(2, "/user.slice", Target::Parent);
        let plan = plan(
            &Selection::Named(vec![around]),
            &own("/user.slice/session-1.scope"),
        );
        let expected = [Instruction::Target(2, Target::Parent)];
        assert_eq!(plan.instructions, expected);
    }

    #[test]
    fn the_root_of_snoops_cgroup_namespace_causes_a_warning() {
        let root = named(1, "/", Target::Parent);
        let plan = plan(&Selection::Named(vec![root]), &own("/docker/x"));
        assert_eq!(plan.scope.warning, Some(OWN_CGROUP));
        assert_eq!(plan.instructions, [Instruction::Target(1, Target::Parent)]);
    }

    #[test]
    fn a_node_is_found_from_snoops_own_cgroup() {
        let path = |above: &str| format!("{above}/kubepods-podx.slice/crio-{}.scope", id("a"));
        let no_mount = || Err(Error::failed("no mount"));
        for above in ["/kubepods.slice", "/x/kubelet.slice/kubelet-kubepods.slice"] {
            let own = own(&path(above));
            let plan = plan(&Selection::Node(Vec::new(), no_mount()), &own);
            let expected = [
                Instruction::Target(1, Target::Ignored),
                Instruction::Target(3, Target::Node),
            ];
            assert_eq!(plan.instructions, expected);
            assert_eq!(plan.scope.label, format!("all containers below {above}"));
        }
        let own = own("/system.slice/snoop.service");
        let none = Selection::Node(Vec::new(), no_mount()).plan(&own);
        let said = none.unwrap_err().to_string();
        assert!(said.contains("/system.slice/snoop.service"), "{said}");
        // A cgroup above snoop's own needs no mount.
        let system = plan(&Selection::Node(b"/system.slice/".into(), no_mount()), &own);
        assert_eq!(system.instructions, [Instruction::Target(2, Target::Node)]);
        let root = plan(&Selection::Node(b"/".into(), no_mount()), &own);
        assert_eq!(root.instructions, [Instruction::Target(3, Target::Node)]);
        let beside = Ok(named(50, "/machine.slice", Target::Parent));
        let beside = plan(&Selection::Node(b"/machine.slice".into(), beside), &own);
        assert_eq!(beside.instructions, [Instruction::Target(50, Target::Node)]);
        let unseen = Selection::Node(b"/machine.slice".into(), no_mount());
        assert!(unseen.plan(&own).is_err());
    }

    #[test]
    fn several_cgroups_keep_their_order() {
        let both = vec![
            named(50, "/a", Target::Container),
            named(60, "/b", Target::Pod),
        ];
        let plan = plan(&Selection::Named(both), &own("/user.slice"));
        assert_eq!(plan.scope.label, "/a, /b");
        // The containers of a pod become known when something happens in them.
        assert_eq!(plan.scope.containers, [cgroup(50, "/a")]);
        let expected = [
            Instruction::Target(50, Target::Container),
            Instruction::Target(60, Target::Pod),
        ];
        assert_eq!(plan.instructions, expected);
    }

    #[test]
    fn without_a_mount_only_the_pod_or_the_parent_can_be_traced() {
        let no_mount = || Err(crate::error::Error::failed("no mount"));
        let find = |names: &str| Selection::find(OsStr::new(names), None, no_mount());
        assert!(matches!(find(""), Ok(Selection::Pod)));
        assert!(matches!(find("@parent"), Ok(Selection::Parent)));
        assert!(find("/a").is_err());
    }
}
