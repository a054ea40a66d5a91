/* SPDX-License-Identifier: GPL-2.0-only */
/* What was open and mapped already when tracing began. Programs of BPF iterators list it, and user space runs each of them
 * once: one over open files, one over mappings, and one over tasks that stands in for the one over mappings. */
#ifndef SNOOP_ITER_H
#define SNOOP_ITER_H

#include "pipeline.h"

#define ITER_STEPS 100

/* Sends a record of a file without a requested path. Returns 0 if the file is known. The container is in s->verdict. */
static __always_inline int list_real(void *ctx, struct scratch *s, __u64 task, struct path_ref file, __u32 row,
				      __u32 kinds)
{
	__u64 key = finish(hash_path_ref(file, ~mix(config.seed + kinds, s->verdict.container)));

	if (is_known(key))
		return 0;
	s->access = (struct access){ .row = row, .flags = RECORD_REAL_ONLY };
	if (is_older(task))
		s->access.flags |= RECORD_LATE;
	s->head.container = s->verdict.container;
	s->head.key = key;
	s->head.time = bpf_ktime_get_ns();
	s->head.result = 0;
	s->head.pid = (__u32)peek((void *)task, OFF(task_tgid));
	s->head.row = row;
	s->head.kinds = kinds;
	s->head.len[PART_REQUESTED] = 0;
	s->todo[PART_BASE] = NO_PATH;
	s->todo[PART_ROOT] = root_of(task);
	s->todo[PART_REAL] = file;
	set_file_system(s, file);
	begin_walk(s, 0);
	if (walk_on(s, mntns_of(task), ITER_STEPS))
		finish_record(ctx, s, node_of(task), mntns_of(task));
	else
		count(s->verdict.number, s->access.row, OUTCOME_TOO_LONG);
	return 1;
}

/* Sends a record of a file that a task uses, if the task is older than the tracing. Neither has a type here. */
static __always_inline void list_file(void *ctx, __u64 task, struct path_ref file, __u32 kinds)
{
	struct scratch *s = scratch_slot(ITER_SCRATCH);
	void *node = node_of(task);
	__u32 tgid = peek((void *)task, OFF(task_tgid));
	/* The map `verdicts` is per CPU, and an iterator may move to another CPU. */
	struct verdict verdict = classify_cgroup(node, peek(node, OFF(kernfs_id)), 0);

	if (!s || !verdict.container || tgid == self.tgid || !is_older(task))
		return;
	s->verdict = verdict;
	list_real(ctx, s, task, file, config.late_id, kinds);
}

#endif
