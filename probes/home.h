/* Who makes an access in a container: the application, or the container runtime, which works in the
 * container's cgroup before it executes the application, and again for each command it executes in it. */
#ifndef SNOOP_HOME_H
#define SNOOP_HOME_H

#include "cgroup.h"
#include "moves.h"
#include "path.h"

/* A runtime's process begins outside: its parent is in another cgroup, and it shares the parent's mount
 * namespace. From there it goes into the container's namespace, while the mount its program lies on stays
 * behind. An application is executed where it is; later it may leave its namespace (unshare). */
struct where {
	__u64 container;
	__u64 ns;
};

/* Mount namespaces from which runtimes came, besides the one that snoop was started from. Full: those not asked
 * for the longest leave. */
MAP(runtimes) = { BPF_MAP_TYPE_LRU_HASH, sizeof(struct where), 4, 1024, 0 };

/* Processes that were executed as part of an application. Only those without a parent in the container are
 * looked up. Full: as above. */
MAP(executed) = { BPF_MAP_TYPE_LRU_HASH, sizeof(struct process), 4, 2048, 0 };

static __always_inline int is_of_runtimes(__u64 container, __u64 ns)
{
	struct where where = { container, ns };

	return ns == own.runtime || bpf_map_lookup_elem(&runtimes, &where);
}

/* The mount namespace that a process's program lies in. */
static __always_inline __u64 home_of(__u64 task)
{
	__u64 mount = program_of(task).mnt - OFF(mount_mnt);

	return peek((void *)mount, OFF(mount_ns));
}

static __always_inline int is_in(__u64 container, __u64 task)
{
	void *node = node_of(task);

	for (int i = 0; i < CGROUP_DEPTH && node; i++) {
		if (peek(node, OFF(kernfs_id)) == container)
			return 1;
		node = (void *)peek(node, OFF(kernfs_parent));
	}
	return 0;
}

/* To be called when the current process has executed a program. */
static __always_inline void note_execution(struct verdict *verdict)
{
	if (!ENABLED(FEATURE_NAMES) || !verdict->contained)
		return;
	__u64 task = bpf_get_current_task(), parent = peek((void *)task, OFF(task_parent));
	struct where where = { verdict->container, mount_namespace(task) };
	struct process process = process_of(task);
	__u32 one = 1;

	if (is_in(verdict->container, parent))
		return;
	if (where.ns == mount_namespace(parent))
		bpf_map_update_elem(&runtimes, &where, &one, BPF_ANY);
	else
		bpf_map_update_elem(&executed, &process, &one, BPF_ANY);
}

/* Is the current process the runtime's? In doubt it is not. */
static __always_inline int is_foreign(struct verdict *verdict)
{
	if (!ENABLED(FEATURE_NAMES) || !verdict->contained)
		return 0;
	__u64 task = bpf_get_current_task(), container = verdict->container;
	__u64 home = home_of(task), here = mount_namespace(task);
	struct process process = process_of(task);

	/* A container may be in the runtime's namespace, and see no more of it than its own root directory. */
	if (is_of_runtimes(container, here))
		return is_namespace_root(root_of(task));
	if (home == here || bpf_map_lookup_elem(&executed, &process))
		return 0;
	return is_of_runtimes(container, home) || !is_in(container, peek((void *)task, OFF(task_parent)));
}

#endif
