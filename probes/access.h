/* One access: is it news? Then it is sent. */
#ifndef SNOOP_ACCESS_H
#define SNOOP_ACCESS_H

#include "home.h"
#include "path.h"

/* The access in s->access and s->data succeeded. Counts it if it is known or excluded and answers 0;
 * else prepares its record. */
static __always_inline int is_news(struct draft *s, void *task, struct verdict *verdict)
{
	struct access *a = &s->access;
	void *fs = (void *)load(task, OFF(task_fs));
	__u64 key = mix(config.seed, verdict->container);

	end_string(s, a->len);
	forget();
	count_event(verdict);
	if (a->start == START_ROOT && !(a->flags & RECORD_REAL_ONLY) && is_excluded(s, a->len) &&
	    is_namespace_root(place_at(fs + OFF(fs_root)))) {
		/* An excluded name can still open a file that is not: /proc/self/exe. */
		if (!a->real.dentry || is_pseudo(a->real)) {
			count(a->row, OUTCOME_EXCLUDED);
			return 0;
		}
		a->flags |= RECORD_REAL_ONLY;
		a->excluded = 1;
	}
	if (a->flags & RECORD_REAL_ONLY) {
		key = hash_place(a->real, ~key);
		a->len = 0;
	} else {
		if (a->start == START_ROOT)
			key = hash_typed(s, fs + OFF(fs_root), key);
		else if (a->start == START_PWD)
			key = hash_typed(s, fs + OFF(fs_pwd), key);
		else
			key = hash_place(a->place, key);
		/* A name that was only looked at has not told yet what it leads to. */
		key = hash_string(s, a->len, key ^ (a->real.dentry != 0));
	}
	key = finish(key);
	if (a->len <= HASHED && is_known(key)) {
		count(a->row, a->excluded ? OUTCOME_EXCLUDED : OUTCOME_DUPLICATE);
		return 0;
	}

	if (is_foreign(verdict)) {
		count(a->row, OUTCOME_EXCLUDED);
		return 0;
	}

	struct places now = places_now(task);

	if (is_older(bpf_get_current_task()))
		a->flags |= RECORD_LATE;
	s->verdict = *verdict;
	s->head.container = verdict->container;
	s->head.key = key;
	s->head.result = a->result;
	s->head.pid = bpf_get_current_pid_tgid() >> 32;
	s->head.row = a->row;
	s->rounds = 0;
	s->head.len[PART_ASKED] = a->len;
	s->todo[PART_BASE] = ABSENT;
	if (a->start == START_PLACE)
		s->todo[PART_BASE] = a->place;
	else if (a->start == START_PWD)
		s->todo[PART_BASE] = now.pwd;
	s->todo[PART_ROOT] = now.root;
	s->todo[PART_REAL] = a->real;
	return 1;
}

static __always_inline void note_file_system(struct draft *s, struct place file)
{
	__u64 type = peek((void *)peek((void *)file.dentry, OFF(dentry_sb)), OFF(sb_type));

	__builtin_memset(s->head.fs, 0, sizeof(s->head.fs));
	bpf_probe_read_kernel_str(s->head.fs, sizeof(s->head.fs), (void *)peek((void *)type, OFF(fs_type_name)));
}

/* A request of io_uring that was submitted and whose result is not known. */
struct pending_request {
	__u64 container;
	__u64 key[DRAFTS]; /* of its accesses; 0 for one that is not pending */
	__u32 row;
	__u32 pad;
};

/* Request -> what is pending. Full: the access is counted as lost. */
MAP(requests) = { BPF_MAP_TYPE_HASH, 8, sizeof(struct pending_request), 1024, 0 };

/* Its outcome is counted when it is known. */
static __always_inline void send_pending(struct draft *s, __u64 bytes)
{
	__u64 request = s->access.request;
	struct pending_request fresh = { .container = s->head.container, .row = s->access.row };
	struct pending_request *pending;

	opaque(bytes);
	bpf_map_update_elem(&requests, &request, &fresh, BPF_NOEXIST);
	pending = bpf_map_lookup_elem(&requests, &request);
	if (bytes > DATA_MAX)
		count(s->access.row, OUTCOME_TOO_LONG);
	else if (!pending || bpf_ringbuf_output(&ring, &s->head, sizeof(s->head) + bytes, 0))
		count(s->access.row, OUTCOME_FULL);
	else
		pending->key[pending->key[0] != 0] = s->head.key;
}

/* Completes a record when its walk is done, and sends it, for a process in the cgroup of `node`. */
static __always_inline void finish_record(struct draft *s, void *node)
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
	if (end <= DATA_MAX && container && !container->named) {
		at = append_cgroup(s, node, s->verdict.container, end);
		if (at <= DATA_MAX) {
			s->head.cgroup = at - end;
			end = at;
			if (is_older_container(s->verdict.container))
				s->head.flags |= RECORD_LATE;
		}
	}
	if (flags & RECORD_PENDING) {
		send_pending(s, end);
		return;
	}
	if (!emit(s, s->access.row, end))
		return;
	if (s->head.len[PART_ASKED] <= HASHED)
		remember(s->head.key);
	if (container && s->head.cgroup)
		container->named = 1;
}

/* A hook's program ends where nothing is new. The rest, which few calls reach, is a program of its own
 * that the first one goes on with (a tail call): the verifier takes each by itself, and what it has to
 * follow in one does not multiply with the other. For the same reason the second one goes on with itself
 * where a walk is long. The kernel wants one table per hook. */
MAP(sys_exit_tail) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 1, 0 };
MAP(io_uring_submit_req_tail) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 1, 0 };
MAP(sched_process_exec_tail) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 1, 0 };

/* 15 rounds of 40 steps for each of two drafts: the kernel allows 33 tail calls in a row. */
#define STEPS_PER_ROUND 40
#define ROUNDS 15

/* Goes on with the first draft that waits, until none does. */
static __always_inline void send_next(void *ctx, void *tail)
{
	struct draft *first = draft(0), *s;
	__u64 task = bpf_get_current_task();
	__u32 index;

	if (!first || !first->waiting)
		return;
	index = ~first->waiting & 1;
	opaque(index); /* one way for the verifier to follow, not one for each draft */
	s = draft(index);
	if (!s)
		return;
	if (!s->rounds) {
		note_file_system(s, s->todo[PART_REAL]);
		begin_walk(s, s->head.len[PART_ASKED]);
	}
	if (!walk_on(s, mount_namespace(task), STEPS_PER_ROUND) && ++s->rounds < ROUNDS) {
		bpf_tail_call(ctx, tail, 0);
		return;
	}
	if (s->rounds == ROUNDS)
		count(s->access.row, OUTCOME_TOO_LONG);
	else
		finish_record(s, node_of(task));
	first->waiting &= first->waiting - 1;
	if (first->waiting)
		bpf_tail_call(ctx, tail, 0);
}

#endif
