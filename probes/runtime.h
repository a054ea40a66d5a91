/* SPDX-License-Identifier: GPL-2.0-only */
/* Who makes an access in a container: the application or the container runtime. The runtime works in the container's
 * cgroup before it executes the application, and again for each command that it executes in the container. */
#ifndef SNOOP_RUNTIME_H
#define SNOOP_RUNTIME_H

#include "cgroup.h"
#include "task_dirs.h"
#include "path.h"
#include "task.h"

/* A process of the runtime begins outside the container: its parent is in another cgroup, and it shares the parent's mount
 * namespace. From there it enters the container's namespace, but the mount that its program lies on stays behind. An
 * application is executed in its namespace; it may leave that later (unshare(2)). */
struct runtime_mntns {
	__u64 container;
	__u64 ns;
};

/* Container and mount namespace -> 1, for the namespaces from which runtimes came, besides the one that snoop was started
 * from. There are one or two for each container. When the map is full, the entry that was not looked up for the longest
 * time leaves, and a runtime's accesses may then count as the application's. */
MAP(runtimes) = { BPF_MAP_TYPE_LRU_HASH, sizeof(struct runtime_mntns), 4, 1024, 0 };

/* Process -> 1, for processes without a parent in the container that were executed as part of an application. There are
 * few of them: one for each container, and one for each command that a runtime executes in it. When the map is full,
 * the entry that was not looked up for the longest time leaves. */
MAP(executed) = { BPF_MAP_TYPE_LRU_HASH, sizeof(struct process), 4, 2048, 0 };

/* Mount namespaces in which a container's application was executed: never a runtime's, whoever comes into the container
 * from outside. Full: those not asked for the longest leave. */
MAP(app_mntns) = { BPF_MAP_TYPE_LRU_HASH, sizeof(struct runtime_mntns), 4, 1024, 0 };

static __always_inline int is_app_mntns(__u64 container, __u64 ns)
{
	struct runtime_mntns where = { container, ns };

	return bpf_map_lookup_elem(&app_mntns, &where) != 0;
}

static __always_inline int is_runtime_mntns(__u64 container, __u64 ns)
{
	struct runtime_mntns where = { container, ns };

	return ns == self.runtime || bpf_map_lookup_elem(&runtimes, &where);
}

/* The mount namespace in which the program of a process lies. */
static __always_inline __u64 exe_mntns(__u64 task)
{
	__u64 mount = program_of(task).mnt - OFF(mount_mnt);

	return peek((void *)mount, OFF(mount_ns));
}

/* Returns whether a task is in the container with that id, or in a cgroup below it. */
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

/* Notes where the current process comes from. The exec hook calls this. */
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
	if (where.ns == mntns_of(parent) && !is_app_mntns(where.container, where.ns)) {
		bpf_map_update_elem(&runtimes, &where, &one, BPF_ANY);
		return;
	}
	bpf_map_update_elem(&executed, &process, &one, BPF_ANY);
	bpf_map_update_elem(&app_mntns, &where, &one, BPF_ANY);
}

/* Returns whether the current process belongs to the runtime. In doubt it does not. What a runtime executes in the container's
 * own namespace, `executes`, is the application. */
static __always_inline int is_runtime_process(struct verdict *verdict, int executes)
{
	if (!ENABLED(FEATURE_NAMES) || !verdict->has_runtime)
		return 0;
	__u64 task = bpf_get_current_task(), container = verdict->container;
	__u64 exe_ns = exe_mntns(task), here = mntns_of(task);
	struct process process = process_of(task);

	/* A container may share the runtime's namespace, and see only its own root directory of it. */
	if (is_runtime_mntns(container, here))
		return is_namespace_root(root_of(task));
	if (executes || exe_ns == here || is_app_mntns(container, exe_ns) || bpf_map_lookup_elem(&executed, &process))
		return 0;
	return is_runtime_mntns(container, exe_ns) || !is_task_below(container, peek((void *)task, OFF(task_parent)));
}

#endif
