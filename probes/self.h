/* SPDX-License-Identifier: GPL-2.0-only */
/* snoop's own call, by which it asks whether the programs run and which cgroup it is in. The call is getcpu(2) with a
 * random number in the argument that the kernel has not used since 2.6.24. No other process makes it: the C library
 * asks the vDSO. Where the resolver is hooked, it is a look-up of "/" relative to a random descriptor that cannot exist. */
#ifndef SNOOP_SELF_H
#define SNOOP_SELF_H

#include "cgroup.h"

#define ANCESTORS 32

/* The mount namespace of the nearest ancestor that is in another one than `task`. If snoop is in a container, the container
 * runtime is there. */
static __always_inline __u64 namespace_around(__u64 task)
{
	__u64 own_ns = mntns_of(task), found = own_ns;

	if (!ENABLED(FEATURE_NAMES))
		return 0;

	for (int i = 0; i < ANCESTORS && found == own_ns; i++) {
		task = peek((void *)task, OFF(task_parent));
		found = mntns_of(task);
	}
	return found ? found : own_ns;
}

#define OWN_DIRECTORY ((__u32)config.cookie | 1U << 31)

/* Writes down what snoop asks for. Only one thread makes the call, so that there is no race. Others have never seen the random
 * number; but for 31 bits one can try, so that only the first process to give it is believed. */
static __always_inline void record_self(void)
{
	void *node = find_node(current_task(), 1);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (self.tgid && self.tgid != tgid)
		return;
	for (int i = 0; i < CGROUP_DEPTH; i++) {
		self.id[i] = load(node, OFF(kernfs_id));
		if (ENABLED(FEATURE_KERNEL_MEMORY))
			bpf_probe_read_kernel_str(self.name[i], sizeof(self.name[i]), (void *)load(node, OFF(kernfs_name)));
		node = (void *)load(node, OFF(kernfs_parent));
	}
	self.runtime = namespace_around(bpf_get_current_task());
	self.ns = mntns_of(bpf_get_current_task());
	self.tgid = tgid;
	self.now = bpf_ktime_get_ns();
}

#endif
