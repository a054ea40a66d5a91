/* SPDX-License-Identifier: GPL-2.0-only */
/* Containers that ran before tracing began, whether they do anything or not: the children of a cgroup above snoop's own.
 *
 * A sidecar sees neither the cgroups nor the processes of the other containers, and the kernel's iterators show it only the
 * processes of its own pid namespace. A program sees all of them. User space asks for one child after the other. */
#ifndef SNOOP_LIST_H
#define SNOOP_LIST_H

#include "iter.h"

#define CSET_LINKS 16 /* a cgroup has one css_set for each combination with v1 controllers */
#define NESTED 6      /* levels of cgroups in a container that are looked into */
#define SIBLINGS 32   /* children of a cgroup that are looked at */

static __always_inline __u64 next_of(__u64 list_head)
{
	return peek((void *)list_head, 0);
}

/* A task in that cgroup itself, not below it; 0 if there is none. */
static __always_inline __u64 task_in(__u64 cgroup)
{
	__u64 links = cgroup + OFF(cgroup_cset_links), link = next_of(links);

	for (int i = 0; i < CSET_LINKS && link && link != links; i++) {
		__u64 tasks = peek((void *)link - OFF(cset_link_node), OFF(cset_link_cset)) + OFF(css_set_tasks);
		__u64 task = next_of(tasks);

		if (task && task != tasks)
			return task - OFF(task_cg_list);
		link = next_of(link);
	}
	return 0;
}

static __always_inline __u64 children_of(__u64 cgroup)
{
	return cgroup + OFF(cgroup_self) + OFF(css_children);
}

/* The cgroup whose entry in its parent's list of children is `sibling`. */
static __always_inline __u64 cgroup_of(__u64 sibling)
{
	return sibling - OFF(css_sibling) - OFF(cgroup_self);
}

static __always_inline int is_populated(__u64 cgroup)
{
	return (__u32)peek((void *)cgroup, OFF(cgroup_csets)) || (__u32)peek((void *)cgroup, OFF(cgroup_domains));
}

/* The first child that has processes in it or below it; the cgroup itself if there is no such child. */
static __always_inline __u64 populated_child(__u64 cgroup)
{
	__u64 children = children_of(cgroup), child = next_of(children);

	for (int i = 0; i < SIBLINGS && child && child != children; i++) {
		if (is_populated(cgroup_of(child)))
			return cgroup_of(child);
		child = next_of(child);
	}
	return cgroup;
}

/* The cgroup with this id that the current task is in or below; 0 if there is none. */
static __always_inline __u64 cgroup_above(__u64 id)
{
	__u64 css_set = peek((void *)bpf_get_current_task(), OFF(task_cgroups));
	__u64 cgroup = peek((void *)css_set, OFF(css_set_dfl_cgrp));

	for (int i = 0; i < CGROUP_DEPTH; i++) {
		__u64 parent;

		if (peek((void *)peek((void *)cgroup, OFF(cgroup_kn)), OFF(kernfs_id)) == id)
			return cgroup;
		parent = peek((void *)cgroup, OFF(cgroup_self) + OFF(css_parent));
		if (!parent)
			return 0;
		cgroup = parent - OFF(cgroup_self);
	}
	return 0;
}

/* Sends a record of the program of a process in child number `index`, if that process is older than the tracing. The record
 * makes the container known, and says that it began before the tracing. */
static __always_inline void list_child(void *ctx, __u64 index)
{
	__u64 cgroup = cgroup_above(control.listed), children = children_of(cgroup);
	__u64 child = cgroup ? next_of(children) : 0, task = 0;

	for (__u32 i = 0; i < LISTED_CHILDREN && i < index && child && child != children; i++)
		child = next_of(child);
	self.listed = child && child != children;
	if (!self.listed)
		return;
	cgroup = cgroup_of(child);
	for (int i = 0; i < NESTED && !task; i++) {
		task = task_in(cgroup);
		if (!task)
			cgroup = populated_child(cgroup);
	}
	if (task)
		list_file(ctx, task, program_of(task), KIND_EXECUTED);
}

#endif
