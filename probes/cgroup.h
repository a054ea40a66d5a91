/* Whose accesses count: the traced cgroups, and what is known about the others. */
#ifndef SNOOP_CGROUP_H
#define SNOOP_CGROUP_H

#include "emit.h"

/* Cgroup -> enum target. Written by user space; it says so if they do not fit. */
MAP(targets) = { BPF_MAP_TYPE_HASH, 8, 4, TARGETS, 0 };

/* Cgroup -> verdict. Full: cgroups that were not heard of for long leave, and are judged again. */
MAP(verdicts) = { BPF_MAP_TYPE_LRU_HASH, 8, sizeof(struct verdict), 4096, 0 };

/* Number -> container. A hash, because only that can be asked to enter a key no two CPUs have. User space
 * takes out those that ended. Full: the rest share the last number. */
MAP(containers) = { BPF_MAP_TYPE_HASH, 4, sizeof(struct container), CONTAINERS, 0 };

/* Cgroup -> 1, of those in pods that were made while we watched. Full: those not asked for the longest leave, and
 * would count as older than the tracing. */
MAP(watched) = { BPF_MAP_TYPE_LRU_HASH, 8, 4, CONTAINERS, 0 };

/* Number of a container -> its events. */
MAP(events) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, CONTAINERS, 0 };

static __always_inline void count_event(struct verdict *verdict)
{
	__u32 number = verdict->number;
	__u64 *counter = bpf_map_lookup_elem(&events, &number);

	if (counter)
		++*counter;
}

/* The number by which a container's events are counted; a new one if it has none. */
static __always_inline __u32 number_of_container(__u64 id)
{
	for (__u32 i = 0; i < CONTAINERS - 1; i++) {
		struct container fresh = { .id = id };
		__u32 number = i;
		struct container *there = bpf_map_lookup_elem(&containers, &number);

		if (!there && !bpf_map_update_elem(&containers, &number, &fresh, BPF_NOEXIST))
			return i;
		/* Perhaps another CPU came first, with the same container. */
		if (!there)
			there = bpf_map_lookup_elem(&containers, &number);
		if (there && there->id == id)
			return i;
	}
	return CONTAINERS - 1;
}

static __always_inline __u64 mount_namespace(__u64 task)
{
	return peek((void *)peek((void *)task, OFF(task_nsproxy)), OFF(nsproxy_mnt_ns));
}

/* The node of a task's cgroup in the cgroup file system. */
static __always_inline void *node_of(__u64 task)
{
	void *cgroup = (void *)peek((void *)peek((void *)task, OFF(task_cgroups)), OFF(css_set_dfl_cgrp));

	return (void *)peek(cgroup, OFF(cgroup_kn));
}

static __always_inline __u32 target_of(__u64 id)
{
	__u32 *target = bpf_map_lookup_elem(&targets, &id);

	return target ? *target : 0;
}

/* Is it a container in a pod that was there before tracing began? */
static __always_inline int is_older_container(__u64 id)
{
	return !target_of(id) && !bpf_map_lookup_elem(&watched, &id);
}

/* Finds what a task belongs to: its nearest ancestor cgroup that is traced, or the cgroup in a pod. */
static __always_inline struct verdict judge(__u64 task)
{
	struct verdict verdict = { .generation = control.generation };
	void *node = node_of(task);
	__u64 below = 0;

	for (int i = 0; i < CGROUP_DEPTH && node; i++) {
		__u64 id = peek(node, OFF(kernfs_id));
		__u32 target = target_of(id);

		if (target) {
			if (target == TARGET_POD)
				verdict.container = below ? below : id;
			else if (target != TARGET_IGNORED)
				verdict.container = id;
			verdict.contained = target != TARGET_PROCESSES;
			break;
		}
		below = id;
		node = (void *)peek(node, OFF(kernfs_parent));
	}
	if (verdict.container)
		verdict.number = number_of_container(verdict.container);
	return verdict;
}

/* The verdict on a task in the cgroup with that id; null if it is not traced, or snoop itself. */
static __always_inline struct verdict *verdict_on(__u64 task, __u64 id, __u32 tgid)
{
	struct verdict *known = bpf_map_lookup_elem(&verdicts, &id);

	if (!known || known->generation != control.generation) {
		struct verdict fresh = judge(task);

		bpf_map_update_elem(&verdicts, &id, &fresh, BPF_ANY);
		known = bpf_map_lookup_elem(&verdicts, &id);
	}
	return known && known->container && tgid != own.tgid ? known : 0;
}

/* The same for the current process. */
static __always_inline struct verdict *traced(void)
{
	return verdict_on(bpf_get_current_task(), bpf_get_current_cgroup_id(), bpf_get_current_pid_tgid() >> 32);
}

/* Appends the names of the cgroup with that id, an ancestor of `node`, to s->data, from the leaf up. Returns
 * where the data ends. */
static __always_inline __u32 append_cgroup(struct draft *s, void *node, __u64 id, __u32 at)
{
	__u64 found = 0;

	for (int i = 0; i < CGROUP_DEPTH && node; i++) {
		__u32 to = at & (DATA_MAX - 1);
		void *name = (void *)peek(node, OFF(kernfs_name));
		long len = bpf_probe_read_kernel_str(s->data + to, NAME_MAX_BYTES + 1, name) - 1;

		found |= equal(peek(node, OFF(kernfs_id)), id);
		len &= NAME_MAX_BYTES;
		s->data[to + len] = '/';
		at += (len + 1) & found;
		node = (void *)peek(node, OFF(kernfs_parent));
	}
	return at;
}

#endif
