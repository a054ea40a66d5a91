/* SPDX-License-Identifier: GPL-2.0-only */
/* From an access to a record. All hooks share this pipeline:
 *
 *   hook     The program at the tracepoint takes the event apart. Most events end here: the call takes no path.
 *   verdict  traced() finds the container of the process by its cgroup (cgroup.h). Events of others end here.
 *   string   The hook copies the path into a slot of the scratch memory and describes the access beside it (scratch.h).
 *            queue_access() marks the slot as queued. A call with two paths makes two accesses.
 *   dedup    is_new() drops an access that is excluded, and one whose key is known: user space has it (known.h).
 *            Nothing is written for it but a counter. In the long run nearly all accesses end here.
 *   walk     What is left becomes a record. The walk appends the names of the directory that the path started from, of
 *            the root directory, and of the real file, from the leaf up (path.h).
 *   send     finish_record() sends the record, and enters its key as known only if the buffer took it (output.h).
 *
 * Whatever is given up on the way is counted with its reason (enum outcome).
 *
 * These stages are three programs: a hook's own, dedup, and send, which contains the walk. Each goes on with the next one by
 * a tail call if there is anything left to do. The verifier checks each program alone, so that the paths through one are not
 * multiplied by those through the next. For the same reason the last program calls itself when a walk is long. */
#ifndef SNOOP_PIPELINE_H
#define SNOOP_PIPELINE_H

#include "runtime.h"
#include "path.h"

/* Finds the file that an access led to. It stays absent if the call does not tell. */
static __always_inline void find_real(struct access *a, void *task)
{
	if (a->real_from == REAL_FROM_FD)
		a->real = path_of_fd(task, a->result);
	else if (a->real_from == REAL_FROM_PWD)
		a->real = task_dirs_now(task).pwd;
	else if (a->real_from == REAL_FROM_ROOT)
		a->real = task_dirs_now(task).root;
}

/* Writes the name of the file system that a file lies on to the record. */
static __always_inline void set_file_system(struct scratch *s, struct path_ref file)
{
	__builtin_memset(s->head.fs, 0, sizeof(s->head.fs));
	if (!ENABLED(FEATURE_NAMES))
		return;
	__u64 type = peek((void *)peek((void *)file.dentry, OFF(dentry_sb)), OFF(sb_type));

	bpf_probe_read_kernel_str(s->head.fs, sizeof(s->head.fs), (void *)peek((void *)type, OFF(fs_type_name)));
}

/* Returns whether the access in s->access and s->data is new, and writes its key to s->head. An access that is known or
 * excluded is counted. */
static __always_inline int is_new(struct scratch *s, void *task)
{
	struct access *a = &s->access;
	void *fs = (void *)load(task, OFF(task_fs));
	/* The kinds take bits of which no flag in `how` is one. */
	__u64 way = (__u64)a->kinds << 56 | (__u64)a->how << 32 | generation_of(s->verdict.number);
	__u64 key = mix(config.seed + way, s->verdict.container);
	enum outcome known = OUTCOME_DUPLICATE;

	end_string(s, a->len);
	find_real(a, task);
	barrier();
	if (a->start == START_ROOT && !(a->flags & RECORD_REAL_ONLY) && is_excluded(s, a->len) &&
	    is_namespace_root(path_ref_at(fs + OFF(fs_root)))) {
		/* An excluded name can still lead to a file that is not: /proc/self/exe. */
		if (!a->real.dentry || a->flags & RECORD_IN_REAL || is_pseudo(a->real)) {
			count(s->verdict.number, a->row, OUTCOME_EXCLUDED);
			return 0;
		}
		a->flags |= RECORD_REAL_ONLY;
		known = OUTCOME_EXCLUDED;
	}
	if (a->flags & RECORD_REAL_ONLY) {
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
		/* The same name may lead to another file at any time, whoever has changed it. */
		if (a->real_from != REAL_UNKNOWN)
			key = mix(key, a->real.mnt + a->real.dentry);
	}
	key = finish(key);
	s->head.key = key;
	if (a->len > HASHED || !is_known(key))
		return 1;
	count(s->verdict.number, a->row, known);
	return 0;
}

/* Prepares the record of a new access, and its walk. */
static __always_inline void prepare(struct scratch *s, void *task)
{
	struct access *a = &s->access;
	struct task_dirs now = task_dirs_now(task);

	if (is_older(bpf_get_current_task()))
		a->flags |= RECORD_LATE;
	if (mntns_of(bpf_get_current_task()) == self.ns && is_namespace_root(now.root))
		a->flags |= RECORD_OWN_VIEW;
	s->head.container = s->verdict.container;
	s->head.time = bpf_ktime_get_ns();
	s->head.result = a->result;
	s->head.pid = bpf_get_current_pid_tgid() >> 32;
	s->head.row = a->row;
	s->head.kinds = a->kinds;
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

#define PENDING_PATHS 2

/* A request of io_uring that was submitted and whose result is not known; on the resolver's rung, a call that makes, moves or
 * removes a name and has not returned. */
struct pending_request {
	__u64 container;
	__u64 key[PENDING_PATHS]; /* of each of its accesses; 0 for one that is not pending */
	__u32 row;
	__u16 number; /* of the container */
	__u8 whole;   /* a bit for each key that covers the whole path */
	__u8 rebinds; /* as in struct access */
};

/* Address of a request of io_uring, or of a task -> what is pending of it, until that is complete. When the map is full, the
 * access is counted as lost. */
MAP(requests) = { BPF_MAP_TYPE_HASH, 8, sizeof(struct pending_request), 1024, 0 };

/* How many entries `requests` has. */
__u64 pending_requests SEC(".data.requests") = 0;

static __always_inline void end_request(__u64 request)
{
	if (!bpf_map_delete_elem(&requests, &request))
		__sync_fetch_and_add(&pending_requests, -1);
}

/* Sends the record of a request that was submitted. Its outcome is counted when the request is complete. */
static __always_inline void send_pending(void *ctx, struct scratch *s, __u64 bytes)
{
	__u64 request = s->access.request;
	struct pending_request fresh = {
		.container = s->head.container,
		.row = s->access.row,
		.number = s->verdict.number,
		.rebinds = s->access.rebinds,
	};
	struct pending_request *pending;
	enum outcome outcome = OUTCOME_FULL;

	if (!bpf_map_update_elem(&requests, &request, &fresh, BPF_NOEXIST))
		__sync_fetch_and_add(&pending_requests, 1);
	pending = bpf_map_lookup_elem(&requests, &request);
	if (pending)
		outcome = send(ctx, &s->head, bytes);
	if (pending && outcome == OUTCOME_SUBMITTED) {
		__u32 which = pending->key[0] != 0;

		pending->key[which] = s->head.key;
		pending->whole |= (s->head.len[PART_REQUESTED] <= HASHED) << which;
	} else {
		count(s->verdict.number, s->access.row, outcome);
	}
}

/* Sends the result of a request to user space. `kinds` is 0 if the file was used as the request says. */
static __always_inline void complete_request(void *ctx, __u64 request, int result, __u32 kinds)
{
	struct pending_request *known = bpf_map_lookup_elem(&requests, &request), pending;

	if (!known)
		return;
	pending = *known;
	end_request(request);
	if (pending.rebinds && result >= 0)
		begin_generation(pending.number);
	for (int which = 0; which < PENDING_PATHS; which++) {
		if (!pending.key[which])
			continue;
		struct record head = {
			.container = pending.container,
			.key = pending.key[which],
			.result = result,
			.row = pending.row,
			.kinds = kinds,
			.flags = RECORD_COMPLETE,
		};
		if (result < 0) {
			/* If the record does not fit into the buffer, user space keeps what is pending a little longer. */
			count(pending.number, pending.row, OUTCOME_FAILED);
			send(ctx, &head, 0);
			continue;
		}
		enum outcome outcome = send(ctx, &head, 0);

		count(pending.number, pending.row, outcome);
		if (outcome == OUTCOME_SUBMITTED && pending.whole & 1 << which)
			remember(pending.key[which]);
	}
}

/* Returns flags that tell whether an access was made in the mount namespace of the container's first process, and if not,
 * whether the namespace has the same root directory. */
static __always_inline __u32 compare_root(struct container *container, __u64 mntns, __u64 root)
{
	__u32 flags = 0;

	if (!root)
		return 0;
	if (!container->root) {
		container->mntns = mntns;
		container->root = root;
	}
	if (container->mntns != mntns)
		flags |= RECORD_OTHER_MNTNS;
	if (container->root != root)
		flags |= RECORD_OTHER_ROOT;
	return flags;
}

/* Completes a record whose walk is done, and sends it. The process is in the cgroup of `node`. */
static __always_inline void finish_record(void *ctx, struct scratch *s, void *node, __u64 mntns)
{
	__u32 number = s->verdict.number, flags = s->access.flags, end = s->walk.at, at;
	struct container *container = bpf_map_lookup_elem(&containers, &number);

	s->head.mount = s->walk.mount;
	if (s->todo[PART_BASE].dentry)
		flags |= RECORD_HAS_BASE;
	if (s->todo[PART_REAL].dentry)
		flags |= RECORD_HAS_REAL;
	if (ENABLED(FEATURE_NAMES) && !s->todo[PART_ROOT].dentry)
		flags |= RECORD_NO_ROOT;
	if (container && !s->access.pivots)
		flags |= compare_root(container, mntns, s->walk.root);
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
	enum outcome outcome = send(ctx, &s->head, end);

	count(s->verdict.number, s->access.row, outcome);
	if (outcome != OUTCOME_SUBMITTED)
		return;
	if (s->head.len[PART_REQUESTED] <= HASHED)
		remember(s->head.key);
	if (container && s->head.cgroup)
		container->path_sent = 1;
}

#ifndef SNOOP_RESOLVER
/* enum tail -> program. User space fills these maps before it attaches the hooks. The kernel requires all programs of a map to
 * have the same type, and sys_exit has another one than the other hooks. */
#ifndef SNOOP_LEGACY
MAP(sys_exit_tails) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, TAILS, 0 };
#endif
MAP(tails) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, TAILS, 0 };

/* Empties the queue. `first` is the slot 0, which holds it. */
static __always_inline void clear_queue(struct scratch *first)
{
	first->queued = 0;
	first->to_send = 0;
}

/* Queues the access in slot number `which` for dedup(). */
static __always_inline void queue_access(struct scratch *first, struct scratch *s, __u32 which, struct verdict *verdict)
{
	s->verdict = *verdict;
	s->rounds = 0;
	first->queued |= 1 << which;
}

/* Makes the accesses of a hook, one in each slot, and queues them. `s` is the slot and `which` is its number. `exists` says
 * whether there is an access of that number, and `make` makes it or returns 0. It is a macro, because the three hooks
 * have nothing else in common, and BPF programs here cannot take the address of a function. */
#define QUEUE_ACCESSES(first, verdict, exists, make)                                                        \
	do {                                                                                                \
		clear_queue(first);                                                                         \
		for (__u32 which = 0; which < SCRATCH_SLOTS; which++) {                                     \
			if (!(exists))                                                                      \
				break;                                                                      \
			struct scratch *s = scratch_slot(which);                                            \
                                                                                                            \
			if (s && (make))                                                                    \
				queue_access(first, s, which, verdict);                                     \
		}                                                                                           \
	} while (0)

/* The slot of the lowest bit that is set in `bits`. The index is computed, so that the verifier follows one way and not one
 * for each slot. */
static __always_inline struct scratch *first_of(__u32 bits)
{
	__u32 index = ~bits & 1;

	barrier_var(index);
	return scratch_slot(index);
}

/* Takes the first access of the queue, and marks it to be sent if it is new. Calls itself until the queue is empty, and then
 * goes on with send_next(). */
static __always_inline void dedup(void *ctx, void *table)
{
	struct scratch *first = scratch_slot(0), *s;

	if (!first || !first->queued)
		return;
	/* These are two ways for the verifier to follow, but nearly always they save a look-up. */
	s = first->queued & 1 ? first : scratch_slot(1);
	if (s && is_new(s, current_task()))
		first->to_send |= first->queued & -first->queued;
	first->queued &= first->queued - 1;
	if (first->queued)
		bpf_tail_call(ctx, table, TAIL_DEDUP);
	else if (first->to_send)
		bpf_tail_call(ctx, table, TAIL_SEND);
}
#endif

/* The kernel allows 33 tail calls in a row. Two slots of 15 rounds each leave room for the other calls. */
#define STEPS_PER_ROUND 40
#define ROUNDS 15

/* Continues with an access that is to be sent: prepares its record, walks for one round, or sends it. Returns 0 when the access
 * is done. */
static __always_inline int send_on(void *ctx, struct scratch *s)
{
	__u64 task = bpf_get_current_task();

	if (!s->rounds && is_runtime_process(&s->verdict, s->access.executes)) {
		count(s->verdict.number, s->access.row, OUTCOME_EXCLUDED);
		return 0;
	}
	if (!s->rounds)
		prepare(s, current_task());
	barrier();
	if (!walk_on(s, mntns_of(task), STEPS_PER_ROUND) && ++s->rounds < ROUNDS)
		return 1;
	if (s->rounds == ROUNDS)
		count(s->verdict.number, s->access.row, OUTCOME_TOO_LONG);
	else
		finish_record(ctx, s, node_of(task), mntns_of(task));
	return 0;
}

#ifndef SNOOP_RESOLVER
/* Continues with the first access that is to be sent. Calls itself until none is left. */
static __always_inline void send_next(void *ctx, void *table)
{
	struct scratch *first = scratch_slot(0), *s;

	if (!first || !first->to_send)
		return;
	s = first_of(first->to_send);
	if (!s)
		return;
	if (send_on(ctx, s)) {
		bpf_tail_call(ctx, table, TAIL_SEND);
		return;
	}
	first->to_send &= first->to_send - 1;
	if (first->to_send)
		bpf_tail_call(ctx, table, TAIL_SEND);
}
#endif

#endif
