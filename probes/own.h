/* snoop itself: its call, by which it asks whether the programs run and which cgroup it is in. That is
 * getcpu(2) with a random number in the argument that the kernel has not used since 2.6.24. Nobody else makes
 * it: the C library asks the vDSO. */
#ifndef SNOOP_OWN_H
#define SNOOP_OWN_H

#include "cgroup.h"

#define ANCESTORS 32

/* The mount namespace of the nearest ancestor that has another one: where the container runtime is, if this
 * is a container. */
static __always_inline __u64 namespace_around(__u64 task)
{
	__u64 own_ns = mount_namespace(task), found = own_ns;

	if (!ENABLED(FEATURE_NAMES))
		return 0;

	for (int i = 0; i < ANCESTORS && found == own_ns; i++) {
		task = peek((void *)task, OFF(task_parent));
		found = mount_namespace(task);
	}
	return found ? found : own_ns;
}

/* Only one thread makes the call, hence no race. */
static __always_inline void answer_own_call(__u64 cookie)
{
	void *node = find_node(current_task(), 1);

	if (cookie != config.cookie)
		return;
	for (int i = 0; i < CGROUP_DEPTH; i++) {
		own.id[i] = load(node, OFF(kernfs_id));
		if (ENABLED(FEATURE_KERNEL_MEMORY))
			bpf_probe_read_kernel_str(own.name[i], sizeof(own.name[i]), (void *)load(node, OFF(kernfs_name)));
		node = (void *)load(node, OFF(kernfs_parent));
	}
	own.runtime = namespace_around(bpf_get_current_task());
	own.ns = mount_namespace(bpf_get_current_task());
	own.tgid = bpf_get_current_pid_tgid() >> 32;
	own.now = bpf_ktime_get_ns();
}

#endif
