/* SPDX-License-Identifier: GPL-2.0-only */
/* Tasks and the processes they belong to. */
#ifndef SNOOP_TASK_H
#define SNOOP_TASK_H

#include "control.h"
#include "kernel.h"

/* Identifies a process for as long as the machine runs. A pid alone is used again. */
struct process {
	__u64 start; /* when its first thread started */
	__u64 tgid;
};

static __always_inline struct process process_of(__u64 task)
{
	if (!ENABLED(FEATURE_KERNEL_MEMORY))
		return (struct process){};
	void *leader = (void *)peek((void *)task, OFF(task_leader));

	return (struct process){
		.start = peek(leader, OFF(task_start)),
		.tgid = (__u32)peek(leader, OFF(task_tgid)),
	};
}

/* Returns whether the process began before tracing did. */
static __always_inline int is_older(__u64 task)
{
	return ENABLED(FEATURE_KERNEL_MEMORY) && process_of(task).start < control.attached;
}

static __always_inline __u64 mntns_of(__u64 task)
{
	if (!ENABLED(FEATURE_NAMES))
		return 0;
	return peek((void *)peek((void *)task, OFF(task_nsproxy)), OFF(nsproxy_mnt_ns));
}

/* The program that a task executes; no path if it executes none. */
static __always_inline struct path_ref program_of(__u64 task)
{
	void *file = (void *)peek((void *)peek((void *)task, OFF(task_mm)), OFF(mm_exe_file));

	return file ? path_ref_at(file + OFF(file_path)) : NO_PATH;
}

/* The root directory of a task. */
static __always_inline struct path_ref root_of(__u64 task)
{
	return path_ref_at((void *)peek((void *)task, OFF(task_fs)) + OFF(fs_root));
}

#endif
