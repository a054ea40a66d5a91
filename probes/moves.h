/* Processes: which one it is, whether it is older than the tracing, and where it was before a change of directory. */
#ifndef SNOOP_MOVES_H
#define SNOOP_MOVES_H

#include "emit.h"

struct places {
	struct place root;
	struct place pwd;
};

/* A process for as long as the machine runs; a pid alone comes again. */
struct process {
	__u64 start; /* of its first thread */
	__u64 tgid;
};

/* Process -> its directories at its last exec, chdir, fchdir or chroot. When such a call returns, the
 * directory its path started from is gone from the task, and only this map knows it. Full: the
 * processes that moved longest ago leave. */
MAP(moves) = { BPF_MAP_TYPE_LRU_HASH, sizeof(struct process), sizeof(struct places), 2048, 0 };

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

/* Did the process begin before tracing did? */
static __always_inline int is_older(__u64 task)
{
	return ENABLED(FEATURE_KERNEL_MEMORY) && process_of(task).start < control.attached;
}

static __always_inline struct places places_now(void *task)
{
	void *fs = (void *)load(task, OFF(task_fs));

	return (struct places){ place_at(fs + OFF(fs_root)), place_at(fs + OFF(fs_pwd)) };
}

/* The root directory of a task without a type. */
static __always_inline struct place root_of(__u64 task)
{
	return place_at((void *)peek((void *)task, OFF(task_fs)) + OFF(fs_root));
}

static __always_inline void note_places(void *task)
{
	struct process process = process_of(bpf_get_current_task());
	struct places now = places_now(task);

	bpf_map_update_elem(&moves, &process, &now, BPF_ANY);
}

/* How many forks without an exec or a move between them are looked through. */
#define GENERATIONS 8

/* A process that has not moved yet since it was forked is where its parent is. */
static __always_inline struct places places_before(void)
{
	__u64 task = bpf_get_current_task();

	if (!ENABLED(FEATURE_NAMES))
		return (struct places){};
	for (int i = 0; i < GENERATIONS; i++) {
		struct process process = process_of(task);
		struct places *known = bpf_map_lookup_elem(&moves, &process);

		if (known)
			return *known;
		task = peek((void *)task, OFF(task_parent));
	}
	return (struct places){};
}

#endif
