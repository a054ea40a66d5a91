/* SPDX-License-Identifier: GPL-2.0-only */
/* Where a process was before a change of directory. */
#ifndef SNOOP_TASK_DIRS_H
#define SNOOP_TASK_DIRS_H

#include "task.h"

struct task_dirs {
	struct path_ref root;
	struct path_ref pwd;
};

/* Process -> its directories after its last exec, chdir, fchdir or chroot. When such a call returns, the task no longer has
 * the directory that the call's path started from, and only this map knows it. It holds more processes than change
 * their directory at a time. When it is full, the process that was not looked up for the longest time leaves. */
MAP(task_dirs) = { BPF_MAP_TYPE_LRU_HASH, sizeof(struct process), sizeof(struct task_dirs), 2048, 0 };

static __always_inline struct task_dirs task_dirs_now(void *task)
{
	void *fs = (void *)load(task, OFF(task_fs));

	return (struct task_dirs){ path_ref_at(fs + OFF(fs_root)), path_ref_at(fs + OFF(fs_pwd)) };
}

static __always_inline void remember_task_dirs(void *task)
{
	struct process process = process_of(bpf_get_current_task());
	struct task_dirs now = task_dirs_now(task);

	bpf_map_update_elem(&task_dirs, &process, &now, BPF_ANY);
}

/* How many ancestors are looked up. Each step is a fork without an exec or a change of directory in between. */
#define GENERATIONS 8

/* The directories before the current call. A process that has not changed its directory since it was forked is where its
 * parent is. */
static __always_inline struct task_dirs task_dirs_before(void)
{
	__u64 task = bpf_get_current_task();

	if (!ENABLED(FEATURE_NAMES))
		return (struct task_dirs){};
	for (int i = 0; i < GENERATIONS; i++) {
		struct process process = process_of(task);
		struct task_dirs *known = bpf_map_lookup_elem(&task_dirs, &process);

		if (known)
			return *known;
		task = peek((void *)task, OFF(task_parent));
	}
	return (struct task_dirs){};
}

#endif
