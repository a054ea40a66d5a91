/* SPDX-License-Identifier: GPL-2.0-only */
/* Where a process was before a change of directory. */
#ifndef SNOOP_TASK_DIRS_H
#define SNOOP_TASK_DIRS_H

#include "task.h"

struct task_dirs {
	struct path_ref root;
	struct path_ref pwd;
};

/* What was known of an fs_struct, and when. */
struct known_dirs {
	struct task_dirs dirs;
	__u64 since; /* by the monotonic clock in nanoseconds, as the start of a task */
	__u64 tgid;  /* the process that was seen with it: the address is used again */
};

/* Address of an fs_struct -> the directories after the last exec, chdir, fchdir or chroot of a task that has it. Threads
 * share one, unless they have called unshare(2); so do processes that were started by clone(2) with CLONE_FS. When such a
 * call returns, the task no longer has the directory that the call's path started from, and only this map knows it. It holds
 * more than change their directory at a time. When it is full, the one that was not looked up for the longest time leaves. */
MAP(task_dirs) = { BPF_MAP_TYPE_LRU_HASH, 8, sizeof(struct known_dirs), 2048, 0 };

static __always_inline struct task_dirs task_dirs_now(void *task)
{
	void *fs = (void *)load(task, OFF(task_fs));

	return (struct task_dirs){ path_ref_at(fs + OFF(fs_root)), path_ref_at(fs + OFF(fs_pwd)) };
}

static __always_inline __u64 fs_of(__u64 task)
{
	return peek((void *)task, OFF(task_fs));
}

static __always_inline void remember_task_dirs(void *task)
{
	if (!ENABLED(FEATURE_KERNEL_MEMORY))
		return;
	__u64 fs = fs_of(bpf_get_current_task());
	struct known_dirs known = {
		.dirs = task_dirs_now(task),
		.since = bpf_ktime_get_ns(),
		.tgid = bpf_get_current_pid_tgid() >> 32,
	};

	bpf_map_update_elem(&task_dirs, &fs, &known, BPF_ANY);
}

/* How many ancestors are looked up. Each step is a fork without an exec or a change of directory in between. */
#define FORKS 8

/* The directories before the current call, or none if they are not known. A process that has not changed its directory since
 * it was forked is where its parent was then. */
static __always_inline struct task_dirs task_dirs_before(void)
{
	if (!ENABLED(FEATURE_NAMES))
		return (struct task_dirs){};
	__u64 task = bpf_get_current_task(), own = fs_of(task), forked = ~0ULL;

	for (int i = 0; i < FORKS; i++) {
		__u64 fs = fs_of(task);
		struct process process = process_of(task);
		struct known_dirs *known = bpf_map_lookup_elem(&task_dirs, &fs);

		if (known && known->tgid == process.tgid && known->since >= process.start) {
			/* It may have moved after it forked, unless both share the directories. */
			if (known->since > forked && fs != own)
				break;
			return known->dirs;
		}
		/* A thread with directories of its own, which began at some unknown time. */
		if (fs != fs_of(peek((void *)task, OFF(task_leader))))
			break;
		forked = process.start;
		task = peek((void *)task, OFF(task_parent));
	}
	return (struct task_dirs){};
}

#endif
