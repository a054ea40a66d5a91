/* What was open and mapped already when tracing began: iterators over mappings and open files, which user space runs
 * once, and one over tasks that stands in for the first. */
#ifndef SNOOP_LATE_H
#define SNOOP_LATE_H

#include "access.h"

#define LATE_STEPS 100

/* Lists a file of a task, both without a type. */
static __always_inline void late_file(void *ctx, __u64 task, struct place file)
{
	struct draft *s = draft(LATE_DRAFT);
	void *node = node_of(task);
	__u32 tgid = peek((void *)task, OFF(task_tgid));
	/* The verdicts at hand are of the CPU, which an iterator may leave. */
	struct verdict verdict = judge(node, peek(node, OFF(kernfs_id)), 0);

	if (!s || !verdict.container || tgid == own.tgid || !is_older(task))
		return;
	__u64 key = finish(hash_place(file, ~mix(config.seed, verdict.container)));

	if (is_known(key))
		return;
	s->verdict = verdict;
	s->access = (struct access){ .row = config.late_id, .flags = RECORD_REAL_ONLY | RECORD_LATE };
	s->head.container = verdict.container;
	s->head.key = key;
	s->head.result = 0;
	s->head.pid = tgid;
	s->head.row = config.late_id;
	s->head.len[PART_REQUESTED] = 0;
	s->todo[PART_BASE] = ABSENT;
	s->todo[PART_ROOT] = root_of(task);
	s->todo[PART_REAL] = file;
	note_file_system(s, file);
	begin_walk(s, 0);
	if (walk_on(s, mount_namespace(task), LATE_STEPS))
		finish_record(ctx, s, node);
	else
		count(s->verdict.number, config.late_id, OUTCOME_TOO_LONG);
}

#endif
