/* Cgroups of containers that come and go. */
#ifndef SNOOP_LIFECYCLE_H
#define SNOOP_LIFECYCLE_H

#include "cgroup.h"

/* Cgroups that user space named, by parent and name: one that is created (again) has an id that nobody knew, and is
 * traced before anything runs in it. Full: user space says so. */
MAP(expected_cgroups) = { BPF_MAP_TYPE_HASH, sizeof(struct cgroup_path), sizeof(struct expected), TARGETS, 0 };

/* What is expected below cgroups that do not exist yet. Index 0 is not used. */
MAP(expected_below) = { BPF_MAP_TYPE_ARRAY, 4, sizeof(struct expected_below), EXPECTED_BELOW, 0 };

static __always_inline void emit_cgroup_event(void *ctx, struct scratch *s, __u64 id, void *node, __u32 flag)
{
	__u32 end = append_cgroup(s, node, id, 0);

	__builtin_memset(&s->head, 0, sizeof(s->head));
	s->head.container = id;
	s->head.flags = flag;
	s->head.cgroup = end;
	send(ctx, s, end);
}

static __always_inline int holds_containers(__u64 id)
{
	__u32 target = target_of(id);

	return target == TARGET_POD || target == TARGET_PARENT;
}

/* Finds what is expected of a cgroup, and leaves its parent and name in `path`. */
static __always_inline struct expected *expected_of(void *node, struct cgroup_path *path)
{
	path->parent = peek((void *)peek(node, OFF(kernfs_parent)), OFF(kernfs_id));
	bpf_probe_read_kernel_str(path->name, sizeof(path->name), (void *)peek(node, OFF(kernfs_name)));
	return bpf_map_lookup_elem(&expected_cgroups, path);
}

/* Makes `path` the one that is expected below the cgroup with that id; null if none is. */
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

	if (target == TARGET_PROCESSES || target == TARGET_CONTAINER || target == TARGET_PARENT ||
	    holds_containers(path.parent))
		emit_cgroup_event(ctx, s, id, node, RECORD_CGROUP_REMOVED);
	if (expected && expected_in(id, expected, &path))
		bpf_map_delete_elem(&expected_cgroups, &path);
}

#endif
