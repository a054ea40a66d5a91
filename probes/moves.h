/* Where a process was before a change of directory. */
#ifndef SNOOP_MOVES_H
#define SNOOP_MOVES_H

#include "emit.h"

struct places {
	struct place root;
	struct place pwd;
};

/* Process (tgid) -> its directories at its last exec, chdir, fchdir or chroot. When such a call
 * returns, the directory its path started from is gone from the task, and only this map knows
 * it. Full: the processes that moved longest ago leave. */
MAP(moves) = { BPF_MAP_TYPE_LRU_HASH, 4, sizeof(struct places), 2048, 0 };

static __always_inline struct places places_now(void *task)
{
	void *fs = (void *)load(task, OFF(task_fs));

	return (struct places){ place_at(fs + OFF(fs_root)), place_at(fs + OFF(fs_pwd)) };
}

static __always_inline void note_places(void *task)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct places now = places_now(task);

	bpf_map_update_elem(&moves, &pid, &now, BPF_ANY);
}

/* A process that has not moved yet since it was forked is where its parent is. */
static __always_inline struct places places_before(void *task)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct places *known = bpf_map_lookup_elem(&moves, &pid);

	if (!known) {
		pid = (__u32)peek((void *)load(task, OFF(task_parent)), OFF(task_tgid));
		known = bpf_map_lookup_elem(&moves, &pid);
	}
	return known ? *known : (struct places){};
}

#endif
