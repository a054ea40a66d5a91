/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose accesses count: the cgroups that are traced, and what is known about all others. */
#ifndef SNOOP_CGROUP_H
#define SNOOP_CGROUP_H

#include "control.h"
#include "output.h"
#include "task.h"

/* Cgroup -> enum target. User space fills this map, and reports an error when it is full. It has room for more cgroups than a
 * command line can name, and for the containers of a node that a filter excludes. */
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

#define CONTAINER_ID_CHARS 64
#define SCOPE_CHARS 6 /* ".scope" */

/* Index -> a cgroup's name while is_runtime_name() looks at it; a name is too large for the stack. Hooks, which run with
 * preemption off, use one entry; iterators use the other. There is room for an id behind any byte of the name. The map cannot
 * be full: it is an array. */
MAP(names) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, CGROUP_NAME_BYTES + CONTAINER_ID_CHARS, 2, 0 };

#define BYTES(byte) (0x0101010101010101ULL * (byte))

/* Sets the highest bit of each byte of `word` that is not less than `byte`, if none of them has it set before. */
static __always_inline __u64 not_less(__u64 word, __u64 byte)
{
	return word + BYTES(0x80 - byte);
}

/* Returns a bit for each byte of `word` that is no hexadecimal digit in lower case, else 0. */
static __always_inline __u64 not_hexadecimal(__u64 word)
{
	__u64 digits = not_less(word & ~BYTES(0x80), '0') & ~not_less(word & ~BYTES(0x80), '9' + 1);
	__u64 letters = not_less(word & ~BYTES(0x80), 'a') & ~not_less(word & ~BYTES(0x80), 'f' + 1);

	return ~((digits | letters) & ~word) & BYTES(0x80);
}

/* Room for a name; null if the names of cgroups cannot be read. */
static __always_inline char *name_slot(int has_type)
{
	__u32 index = has_type != 0;

	return ENABLED(FEATURE_KERNEL_MEMORY) ? bpf_map_lookup_elem(&names, &index) : 0;
}

/* Reads the name of a cgroup. Returns all ones if it ends in a container's id, as container runtimes write it: `ID` or
 * `docker-ID.scope`; else 0. */
static __always_inline __u64 read_runtime_name(char *name, void *node, int has_type)
{
	__u64 other = 0;
	__u64 len = bpf_probe_read_kernel_str(name, CGROUP_NAME_BYTES, follow(node, OFF(kernfs_name), has_type)) - 1;

	len -= SCOPE_CHARS & equal((__u8)name[(len - SCOPE_CHARS) & (CGROUP_NAME_BYTES - 1)], '.');
	__u64 *id = (__u64 *)(name + ((len - CONTAINER_ID_CHARS) & (CGROUP_NAME_BYTES - 1)));
#pragma unroll
	for (__u32 i = 0; i < CONTAINER_ID_CHARS / sizeof(*id); i++)
		other |= not_hexadecimal(id[i]);
	return equal(other, 0) & ~below(len, CONTAINER_ID_CHARS) & below(len, CGROUP_NAME_BYTES);
}

static __always_inline int is_runtime_name(void *node, int has_type)
{
	char *name = name_slot(has_type);

	return name && read_runtime_name(name, node, has_type);
}

/* Finds the container that a cgroup is in below the target with the id `top`: the uppermost cgroup with a container runtime's
 * name. Of cgroups with such names that lie directly in one another it is the innermost: Podman and Docker name a pod after an
 * id too. Returns 0 if there is none. */
static __always_inline __u64 container_below(void *node, __u64 top, int has_type)
{
	__u64 found = 0, below_is_named = 0, is_below_top = ~0ULL;
	char *name = name_slot(has_type);

	if (!name)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < CGROUP_DEPTH; i++) {
		__u64 id = (__u64)follow(node, OFF(kernfs_id), has_type), is_named;

		is_below_top &= ~equal(id, top);
		is_named = read_runtime_name(name, node, has_type);
		found = select(is_below_top & is_named & ~below_is_named, id, found);
		below_is_named = is_named;
		node = follow(node, OFF(kernfs_parent), has_type);
	}
	return found;
}

/* Finds the container that the cgroup of `node` belongs to: the nearest cgroup above it that is a target, or the child of
 * that one if the target is a pod, or one below it if the target is a node. */
static __always_inline struct verdict classify_cgroup(void *node, __u64 cgroup, int has_type)
{
	struct verdict verdict = { .cgroup = cgroup, .generation = control.generation };
	void *child = 0, *leaf = node;
	__u64 below = 0;

	for (int i = 0; i < CGROUP_DEPTH && node; i++) {
		__u64 id = (__u64)follow(node, OFF(kernfs_id), has_type);
		__u32 target = target_of(id);

		if (target) {
			verdict.has_runtime = target != TARGET_PROCESSES;
			if (target == TARGET_PARENT)
				verdict.has_runtime = child && is_runtime_name(child, has_type);
			if (target == TARGET_IGNORED)
				break;
			verdict.container = target == TARGET_NODE ? container_below(leaf, id, has_type) : id;
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
