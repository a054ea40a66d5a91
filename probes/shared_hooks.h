/* SPDX-License-Identifier: GPL-2.0-only */
/* The hooks of every object: cgroups that come and go, and what was there before tracing began. */
#ifndef SNOOP_SHARED_HOOKS_H
#define SNOOP_SHARED_HOOKS_H

#include "lifecycle.h"
#include "list.h"

/* cgroup_mkdir(struct cgroup *cgrp, const char *path) */
SEC("kprobe/raw_tp/cgroup_mkdir")
int cgroup_mkdir(__u64 *ctx)
{
	struct scratch *s = scratch_slot(CGROUP_SCRATCH);

	if (s && ENABLED(FEATURE_KERNEL_MEMORY))
		cgroup_created(ctx, s, (void *)peek((void *)ctx[0], OFF(cgroup_kn)));
	return 0;
}

/* cgroup_rmdir(struct cgroup *cgrp, const char *path) */
SEC("kprobe/raw_tp/cgroup_rmdir")
int cgroup_rmdir(__u64 *ctx)
{
	struct scratch *s = scratch_slot(CGROUP_SCRATCH);

	if (s && ENABLED(FEATURE_KERNEL_MEMORY))
		cgroup_removed(ctx, s, (void *)peek((void *)ctx[0], OFF(cgroup_kn)));
	return 0;
}

/* sys_exit(struct pt_regs *regs, long ret)
 *
 * This program is attached only while user space lists children. User space asks for each by its own call, and adds the number
 * of the child to the cookie. */
SEC("kprobe/raw_tp/list_children")
int list_children(__u64 *ctx)
{
	__u64 number = peek((void *)ctx[0], OFF(regs_arg[2])) - config.cookie;

	if (bpf_get_current_pid_tgid() >> 32 == self.tgid && HAS(task_cg_list) && number - 1 < LISTED_CHILDREN)
		list_child(ctx, number - 1);
	return 0;
}

/* struct bpf_iter__task_vma { struct bpf_iter_meta *meta; struct task_struct *task; struct vm_area_struct *vma; }
 *
 * Every mapping of every task, since Linux 5.12: 3a7b35b899de, "bpf: Introduce task_vma bpf_iter". */
SEC("kprobe/iter/task_vma")
int task_vma(__u64 *ctx)
{
	struct scratch *s = scratch_slot(ITER_SCRATCH);
	void *task = (void *)ctx[1], *mapping = (void *)ctx[2];

	if (s && task && mapping)
		list_file(ctx, number_of(s, task), file_of_mapping(number_of(s, mapping)), KIND_MAPPED);
	return 0;
}

/* struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }
 *
 * The program of every task, where the kernel has no iterator over mappings. Since Linux 5.8, like the next one. */
SEC("kprobe/iter/task")
int task(__u64 *ctx)
{
	struct scratch *s = scratch_slot(ITER_SCRATCH);
	void *task = (void *)ctx[1];

	if (s && task)
		list_file(ctx, number_of(s, task), program_of(number_of(s, task)), KIND_EXECUTED);
	return 0;
}

/* struct bpf_iter__task_file { struct bpf_iter_meta *meta; struct task_struct *task; u32 fd; struct file *file; }
 *
 * Every open file of every task, since Linux 5.8: eaaacd23910f, "bpf: Add task and task/file iterator targets". */
SEC("kprobe/iter/task_file")
int task_file(__u64 *ctx)
{
	struct scratch *s = scratch_slot(ITER_SCRATCH);
	void *task = (void *)ctx[1], *file = (void *)ctx[3];

	if (!s || !task || !file)
		return 0;
	__u64 number = number_of(s, file), mode = peek((void *)number, OFF(file_mode));
	/* FMODE_READ and FMODE_WRITE are 1 and 2. */
	__u32 kinds = (mode & 3) * KIND_READ;

	list_file(ctx, number_of(s, task), path_ref_at((void *)number + OFF(file_path)), kinds ? kinds : KIND_LOOKED_AT);
	return 0;
}

#endif
