/* SPDX-License-Identifier: GPL-2.0-only */
/* The hooks of the resolver: programs that run when one of the kernel's functions that look names up returns. Whatever uses a
 * name, by whichever call, uses one of these functions, and a call that uses none costs nothing.
 *
 * What such a function returns is the file itself, so that the real path of every access is known. Its name is in the kernel's
 * memory, where the process cannot change it. The directory that a name is relative to has not changed yet.
 *
 * Each hook is preceded by the prototype of the function; ctx[0] is the first argument, and behind the last one is the result.
 * src/bpf/hooks.rs has the functions' other names. */
#define SNOOP_RESOLVER
#include "shared_hooks.h"
#include "proof.h"
#include "self.h"

char LICENSE[] SEC("license") = "GPL"; /* see snoop.bpf.c */

/* The kernel requires all programs of such a map to be for functions of one prototype. */
MAP(open_tails) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, TAILS, 0 };
MAP(lookup_tails) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, TAILS, 0 };
MAP(parent_tails) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, TAILS, 0 };
MAP(filename_parent_tails) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, TAILS, 0 };

/* LOOKUP_IN_ROOT of include/linux/namei.h: the bit moved in between. Each of the two has no meaning where
 * the other one is used. */
#define LOOKUP_IN_ROOT (1 << 20 | 1 << 28)

#define ECHILD 10
#define EAGAIN 11
#define ESTALE 116

/* Returns whether the kernel itself tries the same again in another way: without what is cached, or waiting. */
static __always_inline int is_tried_again(long result)
{
	return result == -ECHILD || result == -EAGAIN || result == -ESTALE;
}

/* The system call that a name is looked up for. */
struct caller {
	__u32 id; /* the row in `counts` */
	__u32 kind; /* enum row_kind */
};

/* A worker of io_uring makes no system call, and some calls look names up that are not among their arguments. */
static __always_inline struct caller caller_of(void *task)
{
	__u32 nr = load32((void *)bpf_task_pt_regs(task), OFF(regs_nr));
	const volatile struct row *row;

	if (nr >= SYSCALL_NUMBERS)
		return (struct caller){ config.other_id, 0 };
	row = &config.table[nr + is_compat(task) * SYSCALL_NUMBERS];
	return (struct caller){ row->id ? row->id : config.other_id, row->kind };
}

/* A name to look up: a struct filename, and the directory that it is relative to. */
struct asked {
	void *name;
	int dfd;
	struct path_ref root; /* the directory that serves as the root, if the kernel chose one */
	__u32 flags;          /* of the look-up */
};

/* Makes the access by a name that was looked up and led to `real`. Returns 0 if there is no name. */
static __always_inline int named_access(struct scratch *s, void *task, struct verdict *verdict, struct caller caller,
					struct asked asked, struct path_ref real, long result, __u32 kinds)
{
	void *text = (void *)peek(asked.name, OFF(filename_name));
	long n = bpf_probe_read_kernel_str(s->data, PATH_MAX_BYTES, text);
	struct access *a = &s->access;

	if (n < 0) {
		count(verdict->number, caller.id, OUTCOME_UNREADABLE);
		return 0;
	}
	*a = (struct access){
		.row = caller.id,
		.start = START_DIR,
		.real_from = real.dentry ? REAL_FROM_HOOK : REAL_UNKNOWN,
		.real = real,
		.kinds = result < 0 ? KIND_LOOKED_AT : kinds,
		.executes = caller.kind & ROW_EXEC,
		.result = result,
		.len = n > 1 ? n - 1 : 0,
	};
	s->verdict = *verdict;
	s->rounds = 0;
	/* AT_EMPTY_PATH names the descriptor itself. Only what is opened by it is an access. */
	if (n < 2) {
		a->flags = RECORD_REAL_ONLY;
		return caller.kind & (ROW_OPENS | ROW_EXEC);
	}
	if (asked.root.dentry || asked.flags & LOOKUP_IN_ROOT)
		a->flags = RECORD_IN_BASE;
	if (asked.root.dentry)
		a->dir = asked.root;
	else if (s->data[0] == '/' && !a->flags)
		a->start = START_ROOT;
	else if (asked.dfd == AT_FDCWD)
		a->start = START_PWD;
	else
		a->dir = path_of_fd(task, asked.dfd);
	return 1;
}

/* Returns whether a look-up with that result is an access. One that failed is counted. */
static __always_inline int is_access(struct verdict *verdict, struct caller caller, long result)
{
	if (result >= 0 || is_proof(result))
		return 1;
	if (!is_tried_again(result))
		count(verdict->number, caller.id, OUTCOME_FAILED);
	return 0;
}

/* The kernel returns the negative number of an error in place of a pointer: include/linux/err.h. */
#define ERRORS 4095
static __always_inline long error_of(__u64 pointer)
{
	return pointer >= (__u64)-ERRORS ? (long)pointer : 0;
}

/* struct file *do_filp_open(int dfd, struct filename *pathname, const struct open_flags *op) */
SEC("kprobe/fexit/open")
int open(__u64 *ctx)
{
	struct verdict *verdict = traced();
	struct scratch *s = scratch_slot(OPEN_SCRATCH);

	if (!verdict || !s)
		return 0;
	void *task = current_task();
	__u64 file = number_of(s, (void *)ctx[3]), flags = peek((void *)ctx[2], OFF(lookup_flags));
	struct asked asked = { .name = (void *)ctx[1], .dfd = ctx[0], .flags = flags };
	struct caller caller = caller_of(task);
	__u32 kinds = caller.kind & ROW_EXEC ? KIND_EXECUTED : kinds_of_open((__u32)peek((void *)ctx[2], OFF(open_flag)));
	struct path_ref real = {};
	long result = error_of(file);

	if (!is_access(verdict, caller, result))
		return 0;
	if (!result)
		real = path_ref_at((void *)file + OFF(file_path));
	if (named_access(s, task, verdict, caller, asked, real, result, kinds) && is_new(s, task))
		bpf_tail_call(ctx, &open_tails, TAIL_SEND);
	return 0;
}

/* int filename_lookup(int dfd, struct filename *name, unsigned flags, struct path *path, const struct path *root) */
SEC("kprobe/fexit/lookup")
int lookup(__u64 *ctx)
{
	if ((__u32)ctx[0] == OWN_DIRECTORY) {
		record_self();
		return 0;
	}
	struct verdict *verdict = traced();
	struct scratch *s = scratch_slot(LOOKUP_SCRATCH);

	if (!verdict || !s)
		return 0;
	void *task = current_task();
	struct asked asked = { .name = (void *)ctx[1], .dfd = ctx[0], .root = path_ref_at((void *)ctx[4]), .flags = ctx[2] };
	struct caller caller = caller_of(task);
	struct path_ref real = {};
	long result = (int)ctx[5];

	if (!is_access(verdict, caller, result))
		return 0;
	if (!result)
		real = path_ref_at((void *)ctx[3]);
	if (caller.kind & ROW_REBINDS)
		begin_generation(verdict->number);
	if (named_access(s, task, verdict, caller, asked, real, result,
			 caller.kind & ROW_WRITES ? KIND_WRITTEN : KIND_LOOKED_AT) &&
	    is_new(s, task))
		bpf_tail_call(ctx, &lookup_tails, TAIL_SEND);
	return 0;
}

/* Makes the access by a name that is about to be made, moved or removed, in the directory that was found for it. What comes of
 * it is known when the call's own function returns. Returns 0 if there is nothing to send. */
static __always_inline int parent_access(struct scratch *s, void *task, struct asked asked, struct path_ref parent, long result)
{
	struct verdict *verdict = traced();
	struct caller caller = caller_of(task);

	if (!verdict || !is_access(verdict, caller, result) ||
	    !named_access(s, task, verdict, caller, asked, result ? NO_PATH : parent, result, KIND_WRITTEN))
		return 0;
	if (!result) {
		s->access.flags |= RECORD_PENDING | RECORD_IN_REAL;
		s->access.request = bpf_get_current_task();
	}
	return is_new(s, task);
}

/* int path_parentat(struct nameidata *nd, unsigned flags, struct path *parent) */
SEC("kprobe/fexit/parent")
int parent(__u64 *ctx)
{
	struct scratch *s = scratch_slot(PARENT_SCRATCH);
	void *nd = (void *)ctx[0];
	struct asked asked = {
		.name = (void *)peek(nd, OFF(nameidata_name)),
		.dfd = peek(nd, OFF(nameidata_dfd)),
		.flags = ctx[1],
	};

	if (s && parent_access(s, current_task(), asked, path_ref_at((void *)ctx[2]), (int)ctx[3]))
		bpf_tail_call(ctx, &parent_tails, TAIL_SEND);
	return 0;
}

/* int __filename_parentat(int dfd, struct filename *name, unsigned int flags, struct path *parent, struct qstr *last, int *type,
 *			   const struct path *root)
 *
 * Where the compiler has inlined path_parentat(). */
SEC("kprobe/fexit/filename_parent")
int filename_parent(__u64 *ctx)
{
	struct scratch *s = scratch_slot(PARENT_SCRATCH);
	struct asked asked = { .name = (void *)ctx[1], .dfd = ctx[0], .root = path_ref_at((void *)ctx[6]), .flags = ctx[2] };

	if (s && parent_access(s, current_task(), asked, path_ref_at((void *)ctx[3]), (int)ctx[7]))
		bpf_tail_call(ctx, &filename_parent_tails, TAIL_SEND);
	return 0;
}

/* The second stage of each of these hooks. */
#define SENDS(hook, slot)                                                     \
	SEC("kprobe/fexit/" #hook "/send") int hook##_send(void *ctx)         \
	{                                                                     \
		struct scratch *s = scratch_slot(slot);                       \
                                                                              \
		if (s && send_on(ctx, s))                                     \
			bpf_tail_call(ctx, &hook##_tails, TAIL_SEND);         \
		return 0;                                                     \
	}

SENDS(open, OPEN_SCRATCH)
SENDS(lookup, LOOKUP_SCRATCH)
SENDS(parent, PARENT_SCRATCH)
SENDS(filename_parent, PARENT_SCRATCH)

/* Completes what is pending of the current task: the function that makes, moves or removes names returns. */
static __always_inline void complete_names(void *ctx, long result, int rebinds)
{
	/* A name that is known is not pending. */
	struct verdict *verdict = rebinds && !result ? traced() : 0;

	if (verdict)
		begin_generation(verdict->number);
	if (!pending_requests)
		return;
	if (is_proof(result))
		complete_request(ctx, bpf_get_current_task(), 0, KIND_LOOKED_AT);
	else
		complete_request(ctx, bpf_get_current_task(), result, 0);
}

/* int HOOK(...), whose result is in ctx[last] */
#define COMPLETES(hook, last, rebinds)                                        \
	SEC("kprobe/fexit/" #hook) int hook(__u64 *ctx)                       \
	{                                                                     \
		complete_names(ctx, (int)ctx[last], rebinds);                 \
		return 0;                                                     \
	}

COMPLETES(mkdirat, 3, 0)
COMPLETES(mknodat, 4, 0)
COMPLETES(unlinkat, 2, 0)
COMPLETES(rmdir, 2, 0)
COMPLETES(renameat2, 5, 1)
COMPLETES(linkat, 5, 1)
COMPLETES(symlinkat, 3, 1)
COMPLETES(unix_bind, 3, 0)

/* What is mounted, moved or unmounted may make names lead to other files. */
#define REBINDS(hook)                                                         \
	SEC("kprobe/fexit/" #hook) int hook(void *ctx)                        \
	{                                                                     \
		struct verdict *verdict = traced();                           \
                                                                              \
		(void)ctx;                                                    \
		if (verdict)                                                  \
			begin_generation(verdict->number);                    \
		return 0;                                                     \
	}

REBINDS(mount)
REBINDS(umount)
REBINDS(move_mount)
REBINDS(pivot_root)

/* Sends the access to a file without a name. The walk of one program is long enough for all but the deepest. */
static __always_inline void file_access(void *ctx, struct scratch *s, struct verdict *verdict, __u64 file, __u32 row,
					__u32 kinds)
{
	s->verdict = *verdict;
	if (is_runtime_process(&s->verdict, 0))
		count(s->verdict.number, row, OUTCOME_EXCLUDED);
	else if (!list_real(ctx, s, bpf_get_current_task(), path_ref_at((void *)file + OFF(file_path)), row, kinds))
		count(s->verdict.number, row, OUTCOME_DUPLICATE);
}

/* struct file *do_file_open_root(const struct path *root, const char *name, const struct open_flags *op)
 *
 * A file that is opened by a handle, or by the kernel itself. */
SEC("kprobe/fexit/handle")
int handle(__u64 *ctx)
{
	struct verdict *verdict = traced();
	struct scratch *s = scratch_slot(HANDLE_SCRATCH);

	if (!verdict || !s)
		return 0;
	struct caller caller = caller_of(current_task());
	__u64 file = number_of(s, (void *)ctx[3]);
	long result = error_of(file);

	if (!result)
		file_access(ctx, s, verdict, file, caller.id, kinds_of_open((__u32)peek((void *)ctx[2], OFF(open_flag))));
	else
		is_access(verdict, caller, result);
	return 0;
}

#define PROT_EXEC 4 /* linux/mman.h */

/* int security_mmap_file(struct file *file, unsigned long prot, unsigned long flags)
 *
 * A file is about to be mapped. As a program or as a library, it has to be executable. */
SEC("kprobe/fexit/mapped")
int mapped(__u64 *ctx)
{
	if (!ctx[0] || !(ctx[1] & PROT_EXEC) || (int)ctx[3])
		return 0;
	struct verdict *verdict = traced();
	struct scratch *s = scratch_slot(MAPPED_SCRATCH);

	if (verdict && s)
		file_access(ctx, s, verdict, number_of(s, (void *)ctx[0]), caller_of(current_task()).id, KIND_MAPPED);
	return 0;
}

/* sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
 *
 * The kernel has opened what it executes before, which the hooks above saw. */
SEC("kprobe/raw_tp/sched_process_exec")
int sched_process_exec(void *ctx)
{
	struct verdict *verdict = traced();

	(void)ctx;
	if (verdict)
		remember_exec(verdict);
	return 0;
}
