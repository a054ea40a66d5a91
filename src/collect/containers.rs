// SPDX-License-Identifier: MIT OR Apache-2.0
//! The containers of the report. Finds the container that a cgroup belongs to.

use crate::bpf::counts::Counts;
use crate::cgroup::Cgroup;
use crate::collect::container::Container;
use crate::collect::gaps::{Gap, Gaps};
use crate::files::file_set::{Added, FileSet, NO_KEY};
use crate::files::path_tree::PathTree;
use crate::files::usage::Usage;
use crate::path::is_below;
use crate::report::ContainerSnapshot;
use crate::report::schema::{ContainerEntry, PodEntry};
use fxhash::FxBuildHasher;
use hashbrown::HashMap;
use std::cmp::Reverse;

/// The most containers without a cgroup that are listed one by one.
pub const GONE_MAX: usize = 64;

/// The place of a container in the list. It is valid until containers are named or merged.
pub type Place = usize;

pub struct Containers {
    all: Vec<Container>,
    /// Where a cgroup's container was found last. It may be elsewhere now.
    places: HashMap<u64, Place, FxBuildHasher>,
    /// The paths of the files in their sets.
    tree: PathTree,
    /// The capacity of each container's set of files; 0 means unbounded.
    capacity: usize,
    evicted: u64,
    /// The lower halves of the keys of accesses to evicted files.
    forget: Vec<u32>,
}

impl Containers {
    pub fn new(cgroups: Vec<Cgroup>, capacity: usize) -> Containers {
        let container = |cgroup| Container::new(cgroup, capacity);
        Containers {
            all: cgroups.into_iter().map(container).collect(),
            places: HashMap::default(),
            tree: PathTree::default(),
            capacity,
            evicted: 0,
            forget: Vec::new(),
        }
    }

    pub fn place_of(&mut self, cgroup: u64) -> Option<Place> {
        let is_it = |c: &Container| c.cgroup.id == cgroup;
        let known = self.places.get(&cgroup).copied();
        if let Some(place) = known.filter(|place| self.all.get(*place).is_some_and(is_it)) {
            return Some(place);
        }
        let place = self.all.iter().position(is_it)?;
        self.places.insert(cgroup, place);
        Some(place)
    }

    pub fn get_mut(&mut self, place: Place) -> &mut Container {
        &mut self.all[place]
    }

    pub fn find_mut(&mut self, cgroup: u64) -> Option<&mut Container> {
        let place = self.place_of(cgroup)?;
        Some(&mut self.all[place])
    }

    fn add(&mut self, cgroup: Cgroup) -> Place {
        self.all.push(Container::new(cgroup, self.capacity));
        self.all.len() - 1
    }

    /// Takes over all containers of another list.
    pub fn adopt(&mut self, other: Containers) {
        let mut path = Vec::new();
        for mut container in other.all {
            let files = std::mem::replace(&mut container.files, FileSet::new(self.capacity));
            for id in files.iter() {
                other.tree.path(id, &mut path);
                let usage = files.usages().get(id).unwrap_or_default();
                let (tree, forget) = (&mut self.tree, &mut self.forget);
                let added = container.files.add(tree, &path, usage, NO_KEY, forget);
                self.evicted += u64::from(added == Added::Evicting);
            }
            self.all.push(container);
        }
        self.evicted += other.evicted;
    }

    /// Takes a container out of the list. The places of those behind it change.
    fn remove(&mut self, place: Place) -> Container {
        self.places.clear();
        self.all.remove(place)
    }

    /// Takes over a container of an earlier report, except its files. Returns its place.
    pub fn resume(&mut self, earlier: &ContainerEntry) -> Place {
        let path = &earlier.cgroup_path;
        let known = self.all.iter().position(|c| c.cgroup.path == *path);
        let place = known.unwrap_or_else(|| {
            self.add(Cgroup {
                id: 0,
                path: path.clone(),
            })
        });
        self.all[place].resume(earlier, known.is_some());
        place
    }

    /// Returns the place of the container for an unknown cgroup. This may be a container whose former cgroup was
    /// removed.
    ///
    /// `path` begins at the root of the machine's cgroups, like all paths that the programs send. The path of a cgroup
    /// that the user named begins at the mount, which shows only a part of the hierarchy in a cgroup namespace. So the
    /// container is one whose path is the end of this path. If there are several, it is the one with the longest path.
    pub fn enter(&mut self, id: u64, path: Vec<u8>) -> Place {
        let all = self.all.iter().enumerate();
        let before = all.filter(|(_, c)| c.is_gone() && path.ends_with(&c.cgroup.path));
        let before = before.min_by_key(|(_, c)| Reverse(c.cgroup.path.len()));
        match before.map(|(place, _)| place) {
            Some(place) => {
                self.all[place].begin_again(id);
                place
            }
            None => self.add(Cgroup { id, path }),
        }
    }

    /// Looks up the names of the containers that have appeared since the last call. A container with the name of one
    /// that is gone continues that one.
    pub fn resolve_names(&mut self, name_of: impl Fn(&Cgroup) -> Option<String>) {
        while let Some(at) = self.all.iter().position(|c| !c.is_name_resolved) {
            let container = &mut self.all[at];
            container.is_name_resolved = true;
            container.name = name_of(&container.cgroup);
            self.continue_gone(at);
        }
    }

    /// Notes the name and the pod of a container that has just appeared, if it has not ended already.
    pub fn describe(&mut self, cgroup: u64, name: Option<String>, pod: Option<PodEntry>) {
        if let Some(at) = self.place_of(cgroup) {
            let container = &mut self.all[at];
            container.is_name_resolved = true;
            (container.name, container.pod) = (name, pod);
            self.continue_gone(at);
        }
    }

    /// Continues a container of the same pod and name that is gone, if there is one.
    fn continue_gone(&mut self, at: Place) {
        let new = &self.all[at];
        let is_same = |(place, c): (Place, &Container)| {
            let same_name = new.name.is_some() && c.name == new.name;
            place != at && c.is_gone() && same_name && c.pod == new.pod
        };
        if let Some(before) = self.all.iter().enumerate().position(is_same) {
            let new = self.remove(at);
            // The removal may have changed the place of the older container.
            let old = &mut self.all[before - usize::from(before > at)];
            (old.cgroup, old.ended) = (new.cgroup.clone(), new.ended);
            self.evicted += old.absorb(new, &mut self.tree, &mut self.forget);
        }
    }

    /// While more than `most` containers are gone, merges the two that have been gone longest. Otherwise the report of a pod
    /// would grow if its container is restarted again and again.
    pub fn merge_gone(&mut self, most: usize) {
        let mut gone = self.all.iter().filter(|c| c.is_gone()).count();
        while gone > most {
            let first = self.all.iter().position(Container::is_gone);
            let older = self.remove(first.expect("many are gone"));
            let next = self.all.iter_mut().find(|c| c.is_gone());
            let next = next.expect("more than one is gone");
            next.merged += 1;
            self.evicted += next.absorb(older, &mut self.tree, &mut self.forget);
            gone -= 1;
        }
    }

    /// Notes that processes were already running in these cgroups when tracing began.
    pub fn mark_late(&mut self, cgroups: &[Cgroup]) {
        for cgroup in cgroups {
            let known = self.place_of(cgroup.id);
            let place = known.unwrap_or_else(|| self.add(cgroup.clone()));
            self.all[place].late = true;
        }
    }

    /// Adds the file of an access that the programs know by `key`.
    pub fn add_file(&mut self, place: Place, path: &[u8], usage: Usage, key: u32) -> Added {
        let files = &mut self.all[place].files;
        let added = files.add(&mut self.tree, path, usage, key, &mut self.forget);
        self.evicted += u64::from(added == Added::Evicting);
        added
    }

    /// Returns the keys that the programs must forget, and clears the list.
    pub fn take_forget(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.forget)
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    pub fn tree(&self) -> &PathTree {
        &self.tree
    }

    /// Returns the containers that the report lists.
    pub fn listed(&self) -> impl Iterator<Item = &Container> {
        // A named cgroup may turn out to contain containers and not to be one itself.
        let is_around = |c: &Container| {
            let is_in = |other: &Container| {
                c.cgroup != other.cgroup && is_below(&other.cgroup.path, &c.cgroup.path)
            };
            !c.was_seen() && self.all.iter().any(is_in)
        };
        let all = self.all.iter();
        all.filter(move |c| !c.is_pause(&self.tree) && !is_around(c))
    }

    /// Returns whether all containers are gone, also those that the report does not list.
    pub fn are_gone(&self) -> bool {
        self.all.iter().all(Container::is_gone)
    }

    /// Returns the number of files in the report. A file that several containers used counts once.
    pub fn files(&self) -> usize {
        FileSet::union(self.listed().map(|c| &c.files)).count()
    }

    /// Sets the gaps that follow from the containers.
    pub fn add_gaps(&self, gaps: &mut Gaps, counts: &Counts) {
        let late = self.listed().filter(|c| c.late).count();
        let was_seen = |c: &Container| c.was_seen() || c.events(counts) > 0;
        gaps.set(Gap::Evicted, self.evicted);
        gaps.set(Gap::LateAttach, late as u64);
        gaps.set(Gap::NothingSeen, u64::from(!self.listed().any(was_seen)));
    }

    pub fn snapshots(&self, counts: &Counts) -> Vec<ContainerSnapshot<'_>> {
        self.listed().map(|c| c.snapshot(counts)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(id: u64, path: &str) -> Cgroup {
        let path = path.into();
        Cgroup { id, path }
    }

    fn none() -> Containers {
        Containers::new(Vec::new(), 0)
    }

    /// Returns containers with these paths that have ended. The id of each is its place plus one.
    fn ended(paths: &[&str]) -> Containers {
        let cgroups = (1..).zip(paths).map(|(id, path)| cgroup(id, path));
        let mut containers = Containers::new(cgroups.collect(), 0);
        containers.all.iter_mut().for_each(|c| c.ended = true);
        containers
    }

    fn enter(containers: &mut Containers, path: &str) -> Place {
        containers.enter(100, path.into())
    }

    #[test]
    fn a_cgroup_that_is_created_again_is_the_same_container() {
        let mut containers = ended(&["/a/x", "/b/x"]);
        assert_eq!(enter(&mut containers, "/b/x"), 1);
        let again = &containers.all[1];
        assert_eq!((again.cgroup.id, again.ended), (100, false));
        assert_eq!(again.cgroup.path, b"/b/x");
    }

    #[test]
    fn a_running_container_does_not_take_another_cgroup() {
        let mut containers = Containers::new(vec![cgroup(1, "/x")], 0);
        assert_eq!(enter(&mut containers, "/x"), 1);
    }

    /// In a cgroup namespace the known path begins further down the hierarchy.
    #[test]
    fn a_path_in_a_namespace_is_the_end_of_the_whole_one() {
        let mut containers = ended(&["/x"]);
        assert_eq!(enter(&mut containers, "/system.slice/pod/x"), 0);
    }

    #[test]
    fn half_a_name_is_not_the_end_of_a_path() {
        let mut containers = ended(&["/x"]);
        assert_eq!(enter(&mut containers, "/a/max"), 1);
    }

    #[test]
    fn the_longest_matching_path_is_the_container() {
        let mut containers = ended(&["/x", "/a/x"]);
        assert_eq!(enter(&mut containers, "/a/x"), 1);
        assert_eq!(enter(&mut containers, "/b/x"), 0);
    }

    #[test]
    fn a_container_that_starts_again_is_no_longer_late() {
        let mut containers = ended(&["/x"]);
        containers.all[0].late = true;
        containers.all[0].root = Some(b"/jail".to_vec());
        enter(&mut containers, "/x");
        assert!(!containers.all[0].late && containers.all[0].root.is_none());
    }

    /// The cgroup is not known yet, and its processes may have been running all the time.
    #[test]
    fn a_container_of_an_earlier_report_stays_late() {
        let mut containers = none();
        containers.resume(&ContainerEntry {
            cgroup_path: b"/x".to_vec(),
            attached_late: true,
            ..ContainerEntry::default()
        });
        assert_eq!(enter(&mut containers, "/x"), 0);
        assert!(containers.all[0].late);
    }

    #[test]
    fn the_oldest_of_many_gone_containers_are_merged() {
        let mut containers = none();
        for i in 0..1000u64 {
            let place = containers.add(cgroup(i + 1, &format!("/pod/{i}")));
            containers.add_file(
                place,
                format!("/{}", i % 90).as_bytes(),
                Usage::default(),
                0,
            );
            containers.add_file(place, b"/all", Usage::default(), 0);
            let container = &mut containers.all[place];
            (container.ended, container.past_events) = (i != 500, 1);
            containers.merge_gone(GONE_MAX);
        }
        assert_eq!(containers.all.len(), GONE_MAX + 1);
        let alive = containers.all.iter().find(|c| !c.ended).unwrap();
        assert_eq!((alive.cgroup.id, alive.merged), (501, 0));
        let oldest = &containers.all[1];
        assert_eq!((oldest.merged, oldest.past_events), (935, 936));
        assert_eq!(oldest.files.len(), 91);
        let last = containers.all.last().unwrap();
        assert_eq!(
            (last.cgroup.id, last.merged, last.files.len()),
            (1000, 0, 2)
        );
    }

    #[test]
    fn a_container_that_restarts_is_known_by_its_name() {
        let web = |_: &Cgroup| Some("web".to_string());
        let mut containers = Containers::new(vec![cgroup(1, "/pod/1")], 0);
        containers.add_file(0, b"/a", Usage::default(), 0);
        containers.resolve_names(web);
        containers.all[0].ended = true;
        let second = containers.add(cgroup(2, "/pod/2"));
        containers.add_file(second, b"/b", Usage::default(), 0);
        containers.resolve_names(web);
        assert_eq!(containers.all.len(), 1);
        let again = &containers.all[0];
        assert_eq!((again.cgroup.id, again.ended), (2, false));
        assert_eq!(again.files.len(), 2);
    }

    #[test]
    fn a_container_that_ends_before_its_name_is_known_is_kept() {
        let mut containers = ended(&["/pod/1"]);
        containers.resolve_names(|_| Some("web".into()));
        assert_eq!(containers.all.len(), 1);
    }

    #[test]
    fn a_container_with_another_name_or_none_is_another_container() {
        let mut containers = ended(&["/pod/1"]);
        containers.resolve_names(|_| Some("web".into()));
        containers.add(cgroup(3, "/pod/3"));
        containers.resolve_names(|_| Some("worker".into()));
        containers.add(cgroup(4, "/pod/4"));
        containers.resolve_names(|_| None);
        assert_eq!(containers.all.len(), 3);
    }

    #[test]
    fn a_cgroup_around_containers_is_not_listed() {
        let cgroups = vec![cgroup(1, "/pod"), cgroup(2, "/pod/web")];
        let mut containers = Containers::new(cgroups, 0);
        let listed = |containers: &Containers| -> Vec<u64> {
            containers.listed().map(|c| c.cgroup.id).collect()
        };
        assert_eq!(listed(&containers), [2]);
        // It is listed once something has happened in it.
        containers.add_file(0, b"/a", Usage::default(), 0);
        assert_eq!(listed(&containers), [1, 2]);
    }

    #[test]
    fn pause_containers_are_not_listed() {
        let mut containers = Containers::new(vec![cgroup(1, "/pod/pause")], 0);
        containers.add_file(0, b"/pause", Usage::default(), 0);
        assert_eq!(containers.listed().count(), 0);
        containers.add_file(0, b"/etc/hosts", Usage::default(), 0);
        assert_eq!(containers.listed().count(), 1);
    }
}
