/* Whose accesses count: the traced cgroups, and what is known about the others. */
#ifndef SNOOP_CGROUP_H
#define SNOOP_CGROUP_H

#include "emit.h"

struct target {
	__u32 number;
};

/* Traced cgroup -> its number among them. Written by user space, which refuses more. */
MAP(targets) = { BPF_MAP_TYPE_HASH, 8, sizeof(struct target), CONTAINERS, 0 };

/* Cgroup -> verdict. Full: cgroups that were not heard of for long leave, and are judged again. */
MAP(verdicts) = { BPF_MAP_TYPE_LRU_HASH, 8, sizeof(struct verdict), 4096, 0 };

/* Number of a traced cgroup -> its events. */
MAP(events) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, CONTAINERS, 0 };

static __always_inline void count_event(struct verdict *verdict)
{
	__u32 number = verdict->number;
	__u64 *counter = bpf_map_lookup_elem(&events, &number);

	if (counter)
		++*counter;
}

#define CGROUP_DEPTH 32

/* Finds the nearest ancestor of the current process's cgroup that is traced. */
static __always_inline struct verdict judge(void)
{
	void *task = (void *)bpf_get_current_task();
	void *cgroup = (void *)peek((void *)peek(task, OFF(task_cgroups)), OFF(css_set_dfl_cgrp));
	void *node = (void *)peek(cgroup, OFF(cgroup_kn));
	struct verdict verdict = { .generation = control.generation };

	for (int i = 0; i < CGROUP_DEPTH && node; i++) {
		__u64 id = peek(node, OFF(kernfs_id));
		struct target *target = bpf_map_lookup_elem(&targets, &id);

		if (target) {
			verdict.container = id;
			verdict.number = target->number;
			break;
		}
		node = (void *)peek(node, OFF(kernfs_parent));
	}
	return verdict;
}

/* The verdict on the current process's cgroup; null if it is not traced. */
static __always_inline struct verdict *traced(void)
{
	__u64 id = bpf_get_current_cgroup_id();
	struct verdict *known = bpf_map_lookup_elem(&verdicts, &id);

	if (!known || known->generation != control.generation) {
		struct verdict fresh = judge();

		bpf_map_update_elem(&verdicts, &id, &fresh, BPF_ANY);
		known = bpf_map_lookup_elem(&verdicts, &id);
	}
	return known && known->container ? known : 0;
}

#endif
