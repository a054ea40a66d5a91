/* SPDX-License-Identifier: GPL-2.0-only */
/* Cgroups of containers that are created and removed. */
#ifndef SNOOP_LIFECYCLE_H
#define SNOOP_LIFECYCLE_H

#include "cgroup.h"

/* Parent and name of a cgroup -> what it becomes, for cgroups that user space named. A cgroup that is created, perhaps
 * again, has an id that was not known before, and is traced before anything runs in it. There are as many entries as
 * targets. When the map is full, user space reports an error. */
MAP(expected_cgroups) = { BPF_MAP_TYPE_HASH, sizeof(struct cgroup_path), sizeof(struct expected), TARGETS, 0 };

/* Index -> what is expected below a cgroup that does not exist yet. Index 0 is not used. User space fills this array, and
 * reports an error when it has no room. */
MAP(expected_below) = { BPF_MAP_TYPE_ARRAY, 4, sizeof(struct expected_below), EXPECTED_BELOW, 0 };

/* Sends a record that a cgroup was created or removed. */
static __always_inline void emit_cgroup_event(void *ctx, struct scratch *s, __u64 id, void *node, __u32 flag)
{
	__u32 end = append_cgroup(s, node, id, 0);

	__builtin_memset(&s->head, 0, sizeof(s->head));
	s->head.container = id;
	s->head.time = bpf_ktime_get_ns();
	s->head.flags = flag;
	s->head.cgroup = end;
	send(ctx, &s->head, end);
}

static __always_inline int holds_containers(__u64 id)
{
	__u32 target = target_of(id);

	return target == TARGET_POD || target == TARGET_PARENT;
}

/* Whether the cgroup has the name of a container, and the nearest target above it is a node. */
static __always_inline int is_container_of_node(void *node)
{
	__u64 target = 0;

	if (!is_runtime_name(node, 0))
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < CGROUP_DEPTH; i++) {
		target = select(equal(target, 0), target_of(peek(node, OFF(kernfs_id))), target);
		node = (void *)peek(node, OFF(kernfs_parent));
	}
	return target == TARGET_NODE;
}

/* Returns what is expected of a cgroup, and writes its parent and name to `path`. */
static __always_inline struct expected *expected_of(void *node, struct cgroup_path *path)
{
	path->parent = peek((void *)peek(node, OFF(kernfs_parent)), OFF(kernfs_id));
	bpf_probe_read_kernel_str(path->name, sizeof(path->name), (void *)peek(node, OFF(kernfs_name)));
	return bpf_map_lookup_elem(&expected_cgroups, path);
}

/* Returns what is expected below the cgroup with that id, and writes its parent and name to `path`; null if nothing is
 * expected there. */
static __always_inline struct expected *expected_in(__u64 id, struct expected *expected, struct cgroup_path *path)
{
	__u32 next = expected->next;
	struct expected_below *below = next ? bpf_map_lookup_elem(&expected_below, &next) : 0;

	if (!below)
		return 0;
	path->parent = id;
	bpf_probe_read_kernel(path->name, sizeof(path->name), below->name);
	return &below->then;
}

static __always_inline void cgroup_created(void *ctx, struct scratch *s, void *node)
{
	__u64 id = peek(node, OFF(kernfs_id));
	struct cgroup_path path = {};
	struct expected *expected = expected_of(node, &path), *then;

	if (!expected)
		return;
	if (expected->target) {
		bpf_map_update_elem(&targets, &id, &expected->target, BPF_ANY);
		emit_cgroup_event(ctx, s, id, node, RECORD_CGROUP_CREATED);
		return;
	}
	then = expected_in(id, expected, &path);
	if (then)
		bpf_map_update_elem(&expected_cgroups, &path, then, BPF_ANY);
}

static __always_inline void cgroup_removed(void *ctx, struct scratch *s, void *node)
{
	__u64 id = peek(node, OFF(kernfs_id));
	struct cgroup_path path = {};
	struct expected *expected = expected_of(node, &path);
	__u32 target = target_of(id);

	if (target == TARGET_PROCESSES || target == TARGET_CONTAINER || target == TARGET_PARENT || target == TARGET_IGNORED ||
	    holds_containers(path.parent) || is_container_of_node(node))
		emit_cgroup_event(ctx, s, id, node, RECORD_CGROUP_REMOVED);
	if (expected && expected_in(id, expected, &path))
		bpf_map_delete_elem(&expected_cgroups, &path);
}

#endif
