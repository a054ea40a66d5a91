/* SPDX-License-Identifier: GPL-2.0-only */
/* What was open and mapped already when tracing began. Programs of BPF iterators list it, and user space runs each of them
 * once: one over open files, one over mappings, and one over tasks that stands in for the one over mappings. */
#ifndef SNOOP_ITER_H
#define SNOOP_ITER_H

#include "pipeline.h"

#define ITER_STEPS 100

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
	__u64 key = finish(hash_path_ref(file, ~mix(config.seed + kinds, verdict.container)));

	if (is_known(key))
		return;
	s->verdict = verdict;
	s->access = (struct access){ .row = config.late_id, .flags = RECORD_REAL_ONLY | RECORD_LATE };
	s->head.container = verdict.container;
	s->head.key = key;
	s->head.time = bpf_ktime_get_ns();
	s->head.result = 0;
	s->head.pid = tgid;
	s->head.row = config.late_id;
	s->head.kinds = kinds;
	s->head.len[PART_REQUESTED] = 0;
	s->todo[PART_BASE] = NO_PATH;
	s->todo[PART_ROOT] = root_of(task);
	s->todo[PART_REAL] = file;
	set_file_system(s, file);
	begin_walk(s, 0);
	if (walk_on(s, mntns_of(task), ITER_STEPS))
		finish_record(ctx, s, node, mntns_of(task));
	else
		count(s->verdict.number, config.late_id, OUTCOME_TOO_LONG);
}

#endif
