/* One access: is it news? Then it is sent. */
#ifndef SNOOP_PIPELINE_H
#define SNOOP_PIPELINE_H

#include "runtime.h"
#include "path.h"

/* Finds the file that an access led to; absent if the call does not tell. */
static __always_inline void find_real(struct access *a, void *task)
{
	if (a->real_from == REAL_FROM_FD)
		a->real = path_of_fd(task, a->result);
	else if (a->real_from == REAL_FROM_PWD)
		a->real = task_dirs_now(task).pwd;
	else if (a->real_from == REAL_FROM_ROOT)
		a->real = task_dirs_now(task).root;
}

static __always_inline void set_file_system(struct scratch *s, struct path_ref file)
{
	__builtin_memset(s->head.fs, 0, sizeof(s->head.fs));
	if (!ENABLED(FEATURE_NAMES))
		return;
	__u64 type = peek((void *)peek((void *)file.dentry, OFF(dentry_sb)), OFF(sb_type));

	bpf_probe_read_kernel_str(s->head.fs, sizeof(s->head.fs), (void *)peek((void *)type, OFF(fs_type_name)));
}

/* The access in s->access and s->data succeeded. Answers whether it is news, with its key in s->head; else counts
 * it: it is known or excluded. */
static __always_inline int is_new(struct scratch *s, void *task)
{
	struct access *a = &s->access;
	void *fs = (void *)load(task, OFF(task_fs));
	__u64 key = mix(config.seed, s->verdict.container);
	enum outcome known = OUTCOME_DUPLICATE;

	end_string(s, a->len);
	barrier();
	if (a->start == START_ROOT && !(a->flags & RECORD_REAL_ONLY) && is_excluded(s, a->len) &&
	    is_namespace_root(path_ref_at(fs + OFF(fs_root)))) {
		find_real(a, task);
		/* An excluded name can still open a file that is not: /proc/self/exe. */
		if (!a->real.dentry || is_pseudo(a->real)) {
			count(s->verdict.number, a->row, OUTCOME_EXCLUDED);
			return 0;
		}
		a->flags |= RECORD_REAL_ONLY;
		known = OUTCOME_EXCLUDED;
	}
	if (a->flags & RECORD_REAL_ONLY) {
		find_real(a, task);
		key = hash_path_ref(a->real, ~key);
		a->len = 0;
	} else {
		if (a->start == START_ROOT)
			key = hash_typed(s, fs + OFF(fs_root), key);
		else if (a->start == START_PWD)
			key = hash_typed(s, fs + OFF(fs_pwd), key);
		else
			key = hash_path_ref(a->dir, key);
		key = hash_string(s, a->len, key);
	}
	key = finish(key) | KEY_HAS_REAL;
	if (a->real_from == REAL_UNKNOWN)
		key ^= KEY_HAS_REAL;
	s->head.key = key;
	if (a->len > HASHED || !is_known(key))
		return 1;
	count(s->verdict.number, a->row, known);
	return 0;
}

/* Prepares the record of an access that is news. */
static __always_inline void prepare(struct scratch *s, void *task)
{
	struct access *a = &s->access;
	struct task_dirs now = task_dirs_now(task);

	find_real(a, task);
	if (is_older(bpf_get_current_task()))
		a->flags |= RECORD_LATE;
	if (mntns_of(bpf_get_current_task()) == self.ns && is_namespace_root(now.root))
		a->flags |= RECORD_OWN_VIEW;
	s->head.container = s->verdict.container;
	s->head.result = a->result;
	s->head.pid = bpf_get_current_pid_tgid() >> 32;
	s->head.row = a->row;
	s->head.len[PART_REQUESTED] = a->len;
	s->todo[PART_BASE] = NO_PATH;
	if (a->start == START_DIR)
		s->todo[PART_BASE] = a->dir;
	else if (a->start == START_PWD)
		s->todo[PART_BASE] = now.pwd;
	s->todo[PART_ROOT] = now.root;
	s->todo[PART_REAL] = a->real;
	set_file_system(s, a->real);
	begin_walk(s, a->len);
}

/* A request of io_uring that was submitted and whose result is not known. */
struct pending_request {
	__u64 container;
	__u64 key[SCRATCH_SLOTS]; /* of its accesses; 0 for one that is not pending */
	__u32 row;
	__u16 number; /* of the container */
	__u16 whole;  /* which keys cover the whole name, a bit each */
};

/* Request -> what is pending. Full: the access is counted as lost. */
MAP(requests) = { BPF_MAP_TYPE_HASH, 8, sizeof(struct pending_request), 1024, 0 };

/* Its outcome is counted when it is known. */
static __always_inline void send_pending(void *ctx, struct scratch *s, __u64 bytes)
{
	__u64 request = s->access.request;
	struct pending_request fresh = {
		.container = s->head.container,
		.row = s->access.row,
		.number = s->verdict.number,
	};
	struct pending_request *pending;
	enum outcome outcome = OUTCOME_FULL;

	bpf_map_update_elem(&requests, &request, &fresh, BPF_NOEXIST);
	pending = bpf_map_lookup_elem(&requests, &request);
	if (pending)
		outcome = send(ctx, s, bytes);
	if (pending && outcome == OUTCOME_SUBMITTED) {
		__u32 which = pending->key[0] != 0;

		pending->key[which] = s->head.key;
		pending->whole |= (s->head.len[PART_REQUESTED] <= HASHED) << which;
	} else {
		count(s->verdict.number, s->access.row, outcome);
	}
}

/* Completes a record when its walk is done, and sends it, for a process in the cgroup of `node`. */
static __always_inline void finish_record(void *ctx, struct scratch *s, void *node)
{
	__u32 number = s->verdict.number, flags = s->access.flags, end = s->walk.at, at;
	struct container *container = bpf_map_lookup_elem(&containers, &number);

	s->head.mount = s->walk.mount;
	if (s->todo[PART_BASE].dentry)
		flags |= RECORD_HAS_BASE;
	if (s->todo[PART_REAL].dentry)
		flags |= RECORD_HAS_REAL;
	s->head.flags = flags;
	s->head.cgroup = 0;
	if (end < DATA_MAX && !(container && container->path_sent)) {
		at = append_cgroup(s, node, s->verdict.container, end);
		if (at < DATA_MAX) {
			s->head.cgroup = at - end;
			end = at;
		}
	}
	if (flags & RECORD_PENDING) {
		send_pending(ctx, s, end);
		return;
	}
	enum outcome outcome = send(ctx, s, end);

	count(s->verdict.number, s->access.row, outcome);
	if (outcome != OUTCOME_SUBMITTED)
		return;
	if (s->head.len[PART_REQUESTED] <= HASHED)
		remember(s->head.key);
	if (container && s->head.cgroup)
		container->path_sent = 1;
}

/* A hook's work is split into three programs, each of which goes on with the next where there is something left to
 * do (a tail call): what happened, is it news, send it. The verifier takes each by itself, and what it has to follow
 * in one does not multiply with the others. For the same reason the last one goes on with itself where a walk
 * is long. The kernel wants a table for each type of program. */
#ifndef SNOOP_LEGACY
MAP(sys_exit_tails) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, TAILS, 0 };
#endif
MAP(tails) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, TAILS, 0 };

static __always_inline void clear_queue(struct scratch *first)
{
	first->queued = 0;
	first->to_send = 0;
}

/* The access in that draft is to be looked at. */
static __always_inline void queue_access(struct scratch *first, struct scratch *s, __u32 which, struct verdict *verdict)
{
	s->verdict = *verdict;
	s->rounds = 0;
	first->queued |= 1 << which;
}

/* The draft of the lowest bit that is set in `bits`: one way for the verifier to follow, not one for each. */
static __always_inline struct scratch *first_of(__u32 bits)
{
	__u32 index = ~bits & 1;

	barrier_var(index);
	return scratch_slot(index);
}

/* Is the first draft that waits news? Goes on until none waits, then sends those that are. */
static __always_inline void dedup(void *ctx, void *table)
{
	struct scratch *first = scratch_slot(0), *s;

	if (!first || !first->queued)
		return;
	s = first->queued & 1 ? first : scratch_slot(1); /* two ways to follow, but no look-up for nearly all */
	if (s && is_new(s, current_task()))
		first->to_send |= first->queued & -first->queued;
	first->queued &= first->queued - 1;
	if (first->queued)
		bpf_tail_call(ctx, table, TAIL_DEDUP);
	else if (first->to_send)
		bpf_tail_call(ctx, table, TAIL_SEND);
}

/* 15 rounds of 40 steps for each of two drafts: the kernel allows 33 tail calls in a row. */
#define STEPS_PER_ROUND 40
#define ROUNDS 15

/* Goes on with the first draft that is news, until none is left. */
static __always_inline void send_next(void *ctx, void *table)
{
	__u64 task = bpf_get_current_task();
	struct scratch *first = scratch_slot(0), *s;

	if (!first || !first->to_send)
		return;
	s = first_of(first->to_send);
	if (!s)
		return;
	if (!s->rounds && is_runtime_process(&s->verdict)) {
		count(s->verdict.number, s->access.row, OUTCOME_EXCLUDED);
	} else {
		if (!s->rounds)
			prepare(s, current_task());
		barrier();
		if (!walk_on(s, mntns_of(task), STEPS_PER_ROUND) && ++s->rounds < ROUNDS) {
			bpf_tail_call(ctx, table, TAIL_SEND);
			return;
		}
		if (s->rounds == ROUNDS)
			count(s->verdict.number, s->access.row, OUTCOME_TOO_LONG);
		else
			finish_record(ctx, s, node_of(task));
	}
	first->to_send &= first->to_send - 1;
	if (first->to_send)
		bpf_tail_call(ctx, table, TAIL_SEND);
}

#endif
