/* Whose accesses count: the traced cgroups, and what is known about the others. */
#ifndef SNOOP_CGROUP_H
#define SNOOP_CGROUP_H

#include "control.h"
#include "output.h"
#include "task.h"

/* Cgroup -> enum target. Written by user space; it says so if they do not fit. */
MAP(targets) = { BPF_MAP_TYPE_HASH, 8, 4, TARGETS, 0 };

/* The verdicts on cgroups, by the lower bits of their ids. This stands before all that is done for the node's other
 * processes: an array, and per CPU, because a look-up is then a few instructions, and no other CPU writes. Where
 * two cgroups meet, each is judged again. */
#define VERDICTS 1024
MAP(verdicts) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct verdict), VERDICTS, 0 };

/* Number -> container. A hash, because only that can be asked to enter a key no two CPUs have. User space
 * takes out those that ended. Full, or nearly: the rest share the last number, which is no key here. Their records
 * bring the cgroup's name each time, and their known accesses cannot be told apart. */
MAP(containers) = { BPF_MAP_TYPE_HASH, 4, sizeof(struct container), CONTAINERS, 0 };

#define NUMBERS_TRIED 16

/* The number by which a container's events are counted; a new one if it has none. */
static __always_inline __u32 number_of_container(__u64 id)
{
	for (__u32 i = 0; i < NUMBERS_TRIED; i++) {
		struct container fresh = { .id = id };
		__u32 number = (id + i) % (CONTAINERS - 1);
		struct container *there = bpf_map_lookup_elem(&containers, &number);

		if (!there && !bpf_map_update_elem(&containers, &number, &fresh, BPF_NOEXIST))
			return number;
		/* Perhaps another CPU came first, with the same container. */
		if (!there)
			there = bpf_map_lookup_elem(&containers, &number);
		if (there && there->id == id)
			return number;
	}
	return CONTAINERS - 1;
}

/* The same walk is made from a task with a type and without: an iterator's, or one's parent. */
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

/* A cgroup's name while is_runtime_name() looks at it: too much for the stack. One for programs that run with
 * preemption off, and one for iterators. */
MAP(names) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, CGROUP_NAME_BYTES, 2, 0 };

#define CONTAINER_ID_CHARS 64
#define SCOPE_CHARS 6 /* ".scope" */

/* Does the name of this cgroup end in a container's id, as container runtimes have it: `ID`, `docker-ID.scope`? */
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

/* Finds what the cgroup of `node` belongs to: its nearest ancestor that is traced, or the cgroup in a pod. */
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

/* The verdict on the current process; null if it is not traced, or snoop itself. */
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

/* Appends the names of the cgroup with that id, an ancestor of `node`, to s->data, from the leaf up. Returns
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
