/* Who makes an access in a container: the application, or the container runtime, which works in the
 * container's cgroup before it executes the application, and again for each command it executes in it. */
#ifndef SNOOP_RUNTIME_H
#define SNOOP_RUNTIME_H

#include "cgroup.h"
#include "task_dirs.h"
#include "path.h"
#include "task.h"

/* A runtime's process begins outside: its parent is in another cgroup, and it shares the parent's mount
 * namespace. From there it goes into the container's namespace, while the mount its program lies on stays
 * behind. An application is executed where it is; later it may leave its namespace (unshare). */
struct runtime_mntns {
	__u64 container;
	__u64 ns;
};

/* Mount namespaces from which runtimes came, besides the one that snoop was started from. Full: those not asked
 * for the longest leave. */
MAP(runtimes) = { BPF_MAP_TYPE_LRU_HASH, sizeof(struct runtime_mntns), 4, 1024, 0 };

/* Processes that were executed as part of an application. Only those without a parent in the container are
 * looked up. Full: as above. */
MAP(executed) = { BPF_MAP_TYPE_LRU_HASH, sizeof(struct process), 4, 2048, 0 };

static __always_inline int is_runtime_mntns(__u64 container, __u64 ns)
{
	struct runtime_mntns where = { container, ns };

	return ns == self.runtime || bpf_map_lookup_elem(&runtimes, &where);
}

/* The mount namespace that a process's program lies in. */
static __always_inline __u64 exe_mntns(__u64 task)
{
	__u64 mount = program_of(task).mnt - OFF(mount_mnt);

	return peek((void *)mount, OFF(mount_ns));
}

static __always_inline int is_task_below(__u64 container, __u64 task)
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
static __always_inline void remember_exec(struct verdict *verdict)
{
	if (!ENABLED(FEATURE_NAMES) || !verdict->has_runtime)
		return;
	__u64 task = bpf_get_current_task(), parent = peek((void *)task, OFF(task_parent));
	struct runtime_mntns where = { verdict->container, mntns_of(task) };
	struct process process = process_of(task);
	__u32 one = 1;

	if (is_task_below(verdict->container, parent))
		return;
	if (where.ns == mntns_of(parent))
		bpf_map_update_elem(&runtimes, &where, &one, BPF_ANY);
	else
		bpf_map_update_elem(&executed, &process, &one, BPF_ANY);
}

/* Is the current process the runtime's? In doubt it is not. */
static __always_inline int is_runtime_process(struct verdict *verdict)
{
	if (!ENABLED(FEATURE_NAMES) || !verdict->has_runtime)
		return 0;
	__u64 task = bpf_get_current_task(), container = verdict->container;
	__u64 exe_ns = exe_mntns(task), here = mntns_of(task);
	struct process process = process_of(task);

	/* A container may be in the runtime's namespace, and see no more of it than its own root directory. */
	if (is_runtime_mntns(container, here))
		return is_namespace_root(root_of(task));
	if (exe_ns == here || bpf_map_lookup_elem(&executed, &process))
		return 0;
	return is_runtime_mntns(container, exe_ns) || !is_task_below(container, peek((void *)task, OFF(task_parent)));
}

#endif
