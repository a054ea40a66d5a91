/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose accesses count: the cgroups that are traced, and what is known about all others. */
#ifndef SNOOP_CGROUP_H
#define SNOOP_CGROUP_H

#include "control.h"
#include "output.h"
#include "task.h"

/* Cgroup -> enum target. User space fills this map, and reports an error when it is full. It has room for as many cgroups
 * as a command line can name. */
MAP(targets) = { BPF_MAP_TYPE_HASH, 8, 4, TARGETS, 0 };

/* Lower bits of a cgroup's id -> the verdict on that cgroup. Every hook looks here first, also for all other processes of
 * the node. It is an array, because a look-up is then a few instructions, and per CPU, because then no other CPU writes. It
 * has more entries than a node has busy cgroups. It is never full: where two cgroups have the same lower bits, each is
 * classified again. */
#define VERDICTS 1024
MAP(verdicts) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct verdict), VERDICTS, 0 };

/* Number -> container. This is a hash, because only a hash can enter a key on the condition that no other CPU has entered it.
 * User space takes out the containers that ended. When the map is full or nearly full, the other containers share the
 * last number, which is no key here. Their records then bring the cgroup's name each time, and the counts of their
 * known accesses cannot be told apart. */
MAP(containers) = { BPF_MAP_TYPE_HASH, 4, sizeof(struct container), CONTAINERS, 0 };

#define NUMBERS_TRIED 16

/* The number by which the events of a container are counted. A container that has no number gets one. */
static __always_inline __u32 number_of_container(__u64 id)
{
	for (__u32 i = 0; i < NUMBERS_TRIED; i++) {
		struct container fresh = { .id = id };
		__u32 number = (id + i) % (CONTAINERS - 1);
		struct container *there = bpf_map_lookup_elem(&containers, &number);

		if (!there && !bpf_map_update_elem(&containers, &number, &fresh, BPF_NOEXIST))
			return number;
		/* Another CPU may have come first, perhaps with the same container. */
		if (!there)
			there = bpf_map_lookup_elem(&containers, &number);
		if (there && there->id == id)
			return number;
	}
	return CONTAINERS - 1;
}

/* Follows a pointer. The same walks start from the current task, which has a type, and from others, which have none: the
 * task of an iterator, or a parent. */
static __always_inline void *follow(void *p, __u32 off, int has_type)
{
	return (void *)(has_type ? load(p, off) : peek(p, off));
}

/* The node of a task's cgroup in the cgroup file system. */
static __always_inline void *find_node(void *task, int has_type)
{
	if (!has_type && !ENABLED(FEATURE_KERNEL_MEMORY))
		return 0;
	void *css_set = follow(task, OFF(task_cgroups), has_type);
	void *cgroup = follow(css_set, OFF(css_set_dfl_cgrp), has_type);

	return follow(cgroup, OFF(cgroup_kn), has_type);
}

static __always_inline void *node_of(__u64 task)
{
	return find_node((void *)task, 0);
}

static __always_inline __u32 target_of(__u64 id)
{
	__u32 *target = bpf_map_lookup_elem(&targets, &id);

	return target ? *target : 0;
}

/* Index -> a cgroup's name while is_runtime_name() looks at it; a name is too large for the stack. Hooks, which run with
 * preemption off, use one entry; iterators use the other. The map cannot be full: it is an array. */
MAP(names) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, CGROUP_NAME_BYTES, 2, 0 };

#define CONTAINER_ID_CHARS 64
#define SCOPE_CHARS 6 /* ".scope" */

/* Returns whether the name of this cgroup ends in a container's id, as container runtimes write it: `ID` or
 * `docker-ID.scope`. */
static __always_inline int is_runtime_name(void *node, int has_type)
{
	__u32 index = has_type != 0;
	char *name = bpf_map_lookup_elem(&names, &index);
	__u64 other = 0;

	if (!ENABLED(FEATURE_KERNEL_MEMORY) || !name || !node)
		return 0;
	long len = bpf_probe_read_kernel_str(name, CGROUP_NAME_BYTES, follow(node, OFF(kernfs_name), has_type)) - 1;

	if (len < CONTAINER_ID_CHARS)
		return 0;
	if (name[(len - SCOPE_CHARS) & (CGROUP_NAME_BYTES - 1)] == '.')
		len -= SCOPE_CHARS;
#pragma clang loop unroll(disable)
	for (__u32 i = 1; i <= CONTAINER_ID_CHARS; i++) {
		__u64 c = (__u8)name[(len - i) & (CGROUP_NAME_BYTES - 1)];

		other |= ~below(c - '0', 10) & ~below(c - 'a', 6);
	}
	return !other;
}

/* Finds the container that the cgroup of `node` belongs to: the nearest cgroup above it that is a target, or the child of
 * that one if the target is a pod. */
static __always_inline struct verdict classify_cgroup(void *node, __u64 cgroup, int has_type)
{
	struct verdict verdict = { .cgroup = cgroup, .generation = control.generation };
	void *child = 0;
	__u64 below = 0;

	for (int i = 0; i < CGROUP_DEPTH && node; i++) {
		__u64 id = (__u64)follow(node, OFF(kernfs_id), has_type);
		__u32 target = target_of(id);

		if (target) {
			verdict.has_runtime = target != TARGET_PROCESSES;
			if (target == TARGET_PARENT)
				verdict.has_runtime = is_runtime_name(child, has_type);
			if (target == TARGET_IGNORED)
				break;
			verdict.container = id;
			if (below && (target == TARGET_POD || (target == TARGET_PARENT && verdict.has_runtime)))
				verdict.container = below;
			break;
		}
		below = id;
		child = node;
		node = follow(node, OFF(kernfs_parent), has_type);
	}
	if (verdict.container)
		verdict.number = number_of_container(verdict.container);
	return verdict;
}

/* The verdict on the current process; null if the process is not traced, or is snoop itself. */
static __always_inline struct verdict *traced(void)
{
	__u64 cgroup = bpf_get_current_cgroup_id();
	__u32 slot = cgroup % VERDICTS;
	struct verdict *verdict = bpf_map_lookup_elem(&verdicts, &slot);

	if (!verdict)
		return 0;
	if (verdict->cgroup != cgroup || verdict->generation != control.generation)
		*verdict = classify_cgroup(find_node(current_task(), 1), cgroup, 1);
	if (!verdict->container || bpf_get_current_pid_tgid() >> 32 == self.tgid)
		return 0;
	return verdict;
}

/* Appends the names of the cgroup with that id, which is `node` or above it, to s->data at `at`, from the leaf up. Returns
 * where the data ends. */
static __always_inline __u32 append_cgroup(struct scratch *s, void *node, __u64 id, __u32 at)
{
	__u64 found = 0;

	if (!ENABLED(FEATURE_KERNEL_MEMORY))
		return at;
	for (int i = 0; i < CGROUP_DEPTH && node; i++) {
		__u32 to = at & (DATA_MAX - 1);
		void *name = (void *)peek(node, OFF(kernfs_name));
		long len = bpf_probe_read_kernel_str(s->data + to, NAME_MAX_BYTES + 1, name) - 1;

		found |= equal(peek(node, OFF(kernfs_id)), id);
		len &= NAME_MAX_BYTES;
		s->data[within(DATA_MAX - 1, to) + len] = '/';
		at += (len + 1) & found;
		node = (void *)peek(node, OFF(kernfs_parent));
	}
	return at;
}

#endif
