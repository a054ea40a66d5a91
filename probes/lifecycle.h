/* Cgroups of containers that come and go. */
#ifndef SNOOP_LIFECYCLE_H
#define SNOOP_LIFECYCLE_H

#include "cgroup.h"

/* Parent and name -> enum target: cgroups that user space asked for by path. One that is removed and made again has
 * another id, and is traced again before anything runs in it. */
MAP(paths) = { BPF_MAP_TYPE_HASH, sizeof(struct cgroup_path), 4, TARGETS, 0 };

static __always_inline void tell(void *ctx, struct draft *s, __u64 id, void *node, __u32 flag)
{
	__u32 end = append_cgroup(s, node, id, 0);

	__builtin_memset(&s->head, 0, sizeof(s->head));
	s->head.container = id;
	s->head.flags = flag;
	s->head.cgroup = end;
	send(ctx, s, end);
}

static __always_inline void cgroup_made(void *ctx, struct draft *s, void *node)
{
	__u64 id = peek(node, OFF(kernfs_id));
	struct cgroup_path path = {};

	path.parent = peek((void *)peek(node, OFF(kernfs_parent)), OFF(kernfs_id));
	bpf_probe_read_kernel_str(path.name, sizeof(path.name), (void *)peek(node, OFF(kernfs_name)));
	if (target_of(path.parent) == TARGET_POD) {
		__u32 one = 1;

		bpf_map_update_elem(&watched, &id, &one, BPF_ANY);
	}
	__u32 *target = bpf_map_lookup_elem(&paths, &path);

	if (!target)
		return;
	bpf_map_update_elem(&targets, &id, target, BPF_ANY);
	tell(ctx, s, id, node, RECORD_MADE);
}

static __always_inline void cgroup_removed(void *ctx, struct draft *s, void *node)
{
	__u64 id = peek(node, OFF(kernfs_id));
	__u64 parent = peek((void *)peek(node, OFF(kernfs_parent)), OFF(kernfs_id));

	__u32 target = target_of(id);

	if (target == TARGET_PROCESSES || target == TARGET_CONTAINER || target_of(parent) == TARGET_POD)
		tell(ctx, s, id, node, RECORD_ENDED);
}

#endif
