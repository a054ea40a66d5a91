/* SPDX-License-Identifier: GPL-2.0-only */
/* The hooks: a program for each tracepoint and iterator, and how its arguments become accesses. pipeline.h says what happens to
 * an access then.
 *
 * Each hook is preceded by the prototype of its tracepoint; ctx[0] is the first argument. The sections are named for redbpf,
 * which knows no other kind of program than "kprobe": bpf-sys/src/libbpf.rs loads each with the type that follows. */
#include "shared_hooks.h"
#include "elf_interp.h"
#include "self.h"
#include "io_uring.h"
#include "proof.h"

/* The kernel lets only programs with a licence that is compatible with the GPL call bpf_probe_read_kernel() and its like. It
 * knows the licence of these files, GPL-2.0-only, by this name (include/linux/license.h). */
char LICENSE[] SEC("license") = "GPL";

/* A system call that is about to return. */
struct call {
	void *regs;
	long result;
	__u64 is32; /* 1 for a 32-bit call, else 0 */
};

#define ARGUMENT(i) select(-call->is32, load32(call->regs, OFF(regs_arg32[i])), load(call->regs, OFF(regs_arg[i])))

/* The argument with that index. The verifier needs each offset as a constant. */
static __always_inline __u64 argument(struct call *call, __u32 index)
{
	switch (index) {
	case 0:
		return ARGUMENT(0);
	case 1:
		return ARGUMENT(1);
	case 2:
		return ARGUMENT(2);
	case 3:
		return ARGUMENT(3);
	case 4:
		return ARGUMENT(4);
	default:
		return ARGUMENT(5);
	}
}

#define AF_UNIX 1 /* linux/socket.h */
#define ADDRESS_MAX 110 /* sizeof(struct sockaddr_un) */

/* The address of a socket in the process's memory. */
struct address {
	__u64 at;
	__u64 len;
};

/* The numbers of calls that socketcall(2) makes, with their arguments in memory: linux/net.h. */
#define SOCKETCALL_BIND 2
#define SOCKETCALL_CONNECT 3
#define SOCKETCALL_SENDTO 11
#define SOCKETCALL_SENDMSG 16
#define SOCKETCALL_SENDMMSG 20

/* Finds the socket address that a call names; `at` is 0 if it names none. For sendmmsg(2) it is the address of the first
 * message. */
static __always_inline struct address address_of(struct call *call, __u32 kind, __u32 index)
{
	struct address address = {};
	__u32 arguments[6] = {};

	if (kind & ROW_SOCKETCALL) {
		__u32 nr = argument(call, 0);

		bpf_probe_read_user(arguments, sizeof(arguments), (void *)argument(call, 1));
		if (nr == SOCKETCALL_BIND || nr == SOCKETCALL_CONNECT)
			return (struct address){ arguments[1], arguments[2] };
		if (nr == SOCKETCALL_SENDTO)
			return (struct address){ arguments[4], arguments[5] };
		if (nr != SOCKETCALL_SENDMSG && nr != SOCKETCALL_SENDMMSG)
			return address;
		address.at = arguments[1];
	} else {
		address.at = argument(call, index);
		if (!(kind & ROW_MESSAGE)) {
			address.len = (__u32)argument(call, index + 1);
			return address;
		}
	}
	/* struct msghdr begins with a pointer to the address and its length, which is an int. */
	if (call->is32) {
		bpf_probe_read_user(arguments, 8, (void *)address.at);
		return (struct address){ arguments[0], arguments[1] };
	}
	bpf_probe_read_user(&address, sizeof(address), (void *)address.at);
	address.len = (__u32)address.len;
	return address;
}

/* Copies the path of the unix socket that a call names, and returns its length. Returns 0 if there is no address, or if it is
 * of another family or has no path: it may be abstract, or left to the kernel to choose. See unix(7). */
static __always_inline long read_socket_path(struct scratch *s, struct call *call, __u32 kind, __u32 index)
{
	struct address address = address_of(call, kind, index);
	__u16 family = 0;
	__u64 size = address.len - sizeof(family) + 1;
	long n;

	if (!address.at || address.len <= sizeof(family) || address.len > ADDRESS_MAX ||
	    bpf_probe_read_user(&family, sizeof(family), (void *)address.at) || family != AF_UNIX)
		return 0;
	/* The path may end with the address and without a NUL; the helper adds one. */
	barrier_var(size);
	size &= 127;
	if (!size)
		return 0;
	n = bpf_probe_read_user_str(s->data, size, (void *)address.at + sizeof(family));
	return n > 0 ? n - 1 : 0;
}

/* Makes the access by one path of a syscall that succeeded. Returns 0 if the call has no such path. */
static __always_inline int path_access(struct scratch *s, void *task, struct call *call,
				       struct verdict *verdict, const volatile struct row *row,
				       int which)
{
	__u32 kind = row->kind, path = row->path[which & 1], dir = row->dir[which & 1];
	struct access *a = &s->access;

	if (path == ARG_NONE && !(kind & ROW_OPENS))
		return 0;
	*a = (struct access){
		.row = row->id,
		.start = START_DIR,
		.result = call->result,
		.kinds = KIND_LOOKED_AT,
		.pivots = kind & ROW_PIVOT,
	};
	if (kind & ROW_WRITES && call->result >= 0)
		a->kinds = KIND_WRITTEN;
	/* A call that failed led nowhere: see proves_existence(). */
	if (call->result < 0)
		kind &= ~(ROW_OPENS | ROW_CHDIR | ROW_CHROOT);
	if (kind & ROW_OPENS)
		a->real_from = REAL_FROM_FD;
	else if (kind & ROW_CHDIR)
		a->real_from = REAL_FROM_PWD;
	else if (kind & ROW_CHROOT)
		a->real_from = REAL_FROM_ROOT;
	if (kind & (ROW_CHDIR | ROW_CHROOT))
		a->flags = RECORD_CHDIR;
	if (path == ARG_NONE) {
		a->flags = RECORD_REAL_ONLY;
		/* Only open_by_handle_at(2) opens a file without a path. */
		if (kind & ROW_OPENS)
			a->kinds = kinds_of_open(argument(call, 2));
		return 1;
	}

	__u64 text = argument(call, path), how[3] = {};
	long len;

	if (!text)
		return 0;
	if (kind & (ROW_ADDRESS | ROW_MESSAGE))
		len = read_socket_path(s, call, kind, path);
	else
		len = read_user_path(s->data, text);
	if (len < 0) {
		count(verdict->number, row->id, OUTCOME_UNREADABLE);
		return 0;
	}
	/* AT_EMPTY_PATH names the descriptor itself. A thread that empties the string of another thread's open hides only the
	 * name. */
	if (!len) {
		a->flags = RECORD_REAL_ONLY;
		return kind & ROW_OPENS;
	}
	a->len = len;
	if (kind & ROW_HOW)
		bpf_probe_read_user(how, sizeof(how), (void *)argument(call, 2));
	else if (kind & ROW_OPENS)
		how[0] = argument(call, path + 1);
	a->how = how_of(how[0], how[2]);
	if (kind & (ROW_HOW | ROW_FLAGS) && call->result >= 0)
		a->kinds = kinds_of_open(how[0]);

	int absolute = s->data[0] == '/';

	if (a->how & RESOLVE_IN_ROOT) {
		a->flags |= RECORD_IN_BASE;
		absolute = 0;
	}
	if (absolute && kind & ROW_CHROOT) {
		a->flags |= RECORD_IN_BASE;
		a->dir = task_dirs_before().root;
	} else if (absolute) {
		a->start = START_ROOT;
	} else if (kind & ROW_CHDIR) {
		a->dir = task_dirs_before().pwd;
	} else if (dir == ARG_NONE || (int)argument(call, dir) == AT_FDCWD) {
		a->start = START_PWD;
	} else {
		a->dir = path_of_fd(task, argument(call, dir));
	}
	return 1;
}

#define PROT_EXEC 4 /* linux/mman.h */

/* Returns whether a call maps a file as a program or as a library. */
static __always_inline int maps_program(struct call *call, const volatile struct row *row)
{
	return row->dir[0] != ARG_NONE && argument(call, 2) & PROT_EXEC && (int)argument(call, 4) >= 0 && call->result > 0;
}

/* Makes the access to the file that a call maps. Returns 0 if the descriptor is closed by now. */
static __always_inline int mapping_access(struct scratch *s, void *task, struct call *call, const volatile struct row *row)
{
	struct path_ref file = path_of_fd(task, argument(call, 4));

	s->access = (struct access){
		.row = row->id,
		.start = START_DIR,
		.flags = RECORD_REAL_ONLY,
		.real_from = REAL_FROM_HOOK,
		.real = file,
		.kinds = KIND_MAPPED,
	};
	return file.dentry != 0;
}

#define EINVAL 22
#define EPROTOTYPE 91
#define EADDRINUSE 98
#define ECONNREFUSED 111

static __always_inline int proves_existence(long result, __u32 kind)
{
	__u64 error = -result;

	if (kind & (ROW_ADDRESS | ROW_MESSAGE))
		return error == EADDRINUSE || error == ECONNREFUSED || error == EPROTOTYPE;
	if (kind & ROW_EXEC)
		return 0;
	return is_proof(result) || (kind & ROW_LINK && error == EINVAL);
}

/* sys_exit(struct pt_regs *regs, long ret)
 *
 * This is a BTF raw tracepoint, whose arguments have types, so that plain loads read the registers. The other hooks are plain
 * raw tracepoints, which load faster. */
#ifdef SNOOP_LEGACY
#define sys_exit_tails tails
SEC("kprobe/raw_tp/sys_exit")
#else
SEC("kprobe/tp_btf/sys_exit")
#endif
int sys_exit(__u64 *ctx)
{
	struct call call = { .regs = (void *)ctx[0], .result = ctx[1] };
	__u64 nr = load32(call.regs, OFF(regs_nr));

	/* Most calls of all processes of the node must end here. */
	if (nr >= SYSCALL_NUMBERS || !(config.table[nr].id | config.table[SYSCALL_NUMBERS + nr].id))
		return 0;
	void *task = current_task();

	call.is32 = is_compat(task);
	const volatile struct row *row = &config.table[within(2 * SYSCALL_NUMBERS - 1, nr + call.is32 * SYSCALL_NUMBERS)];

	keep_address(row);
	__u32 id = row->id, kind = row->kind;
	int maps = kind & ROW_ELF_INTERP && maps_program(&call, row);

	if (!id || (kind & ROW_ELF_INTERP && !pending_interps && !maps))
		return 0;
	if (kind & ROW_SELF) {
		if (argument(&call, 2) == config.cookie)
			record_self();
		return 0;
	}

	struct verdict *verdict = traced();
	struct scratch *first = scratch_slot(0);

	if (!verdict || !first)
		return 0;
	if (call.result < 0 && !(kind & ROW_ELF_INTERP) && !proves_existence(call.result, kind)) {
		if ((row->path[0] != ARG_NONE || kind & ROW_OPENS) &&
		    (!(kind & (ROW_ADDRESS | ROW_MESSAGE)) || read_socket_path(first, &call, kind, row->path[0])))
			count(verdict->number, id, OUTCOME_FAILED);
		return 0;
	}
	if (kind & ROW_UNTRACED) {
		count(verdict->number, id, OUTCOME_UNTRACED);
		return 0;
	}
	if (kind & ROW_REBINDS)
		begin_generation(verdict->number);
	if (kind & ROW_ELF_INTERP) {
		QUEUE_ACCESSES(first, verdict, !which || maps,
			       which ? mapping_access(s, task, &call, row)
				     : pending_interps && elf_interp_access(s, task, verdict));
	} else {
		QUEUE_ACCESSES(first, verdict, !which || row->path[1] != ARG_NONE,
			       !(kind & ROW_EXEC) && path_access(s, task, &call, verdict, row, which));
	}
	if (kind & (ROW_CHDIR | ROW_CHROOT))
		remember_task_dirs(task);
	if (first->queued)
		bpf_tail_call(ctx, &sys_exit_tails, TAIL_DEDUP);
	return 0;
}

#ifndef SNOOP_LEGACY
SEC("kprobe/tp_btf/sys_exit/dedup")
int sys_exit_dedup(__u64 *ctx)
{
	dedup(ctx, &sys_exit_tails);
	return 0;
}

SEC("kprobe/tp_btf/sys_exit/send")
int sys_exit_send(__u64 *ctx)
{
	send_next(ctx, &sys_exit_tails);
	return 0;
}
#endif

/* "/dev/fd/". When execveat(2) gets a descriptor, the kernel makes a path of this, the descriptor's number and the path that
 * was given. The descriptor may be closed by now, so that such a path is of no use. */
#define DEV_FD 0x2f64662f7665642fULL

/* Makes the access by a path in the kernel's memory. Returns 0 if it cannot be read. */
static __always_inline int name_access(struct scratch *s, struct verdict *verdict, __u32 row,
				       void *name, struct path_ref real)
{
	long n = bpf_probe_read_kernel_str(s->data, PATH_MAX_BYTES, name);

	if (n < 2) {
		count(verdict->number, row, OUTCOME_UNREADABLE);
		return 0;
	}
	s->access = (struct access){
		.row = row,
		.start = s->data[0] == '/' ? START_ROOT : START_PWD,
		.real_from = real.dentry ? REAL_FROM_HOOK : REAL_UNKNOWN,
		.real = real,
		.kinds = KIND_EXECUTED,
		.len = n - 1,
	};
	if (real.dentry && *(__u64 *)s->data == DEV_FD)
		s->access.flags = RECORD_REAL_ONLY;
	return 1;
}

/* sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
 *
 * The new program is about to run. The kernel itself opened it, its "#!" interpreter and its ELF interpreter; no syscall shows
 * them. */
SEC("kprobe/raw_tp/sched_process_exec")
int sched_process_exec(__u64 *ctx)
{
	void *bprm = (void *)ctx[2];
	struct verdict *verdict = traced();
	struct scratch *first = scratch_slot(0);
	void *task = current_task();

	if (!verdict || !first)
		return 0;
	if (!ENABLED(FEATURE_KERNEL_MEMORY)) {
		count(verdict->number, config.exec_id, OUTCOME_UNREADABLE);
		return 0;
	}
	void *filename = (void *)peek(bprm, OFF(bprm_filename));
	void *interp = (void *)peek(bprm, OFF(bprm_interp));
	int is_script = interp != filename;
	struct path_ref program = {};

	if (ENABLED(FEATURE_PATHS)) {
		void *file = (void *)load((void *)load(task, OFF(task_mm)), OFF(mm_exe_file));

		program = path_ref_at(file + OFF(file_path));
	}

	remember_exec(verdict);
	remember_task_dirs(task);
	begin_interp_wait(first, task, verdict);
	/* What runs is the interpreter, if there is one. Where a script is, the open by its interpreter tells. */
	QUEUE_ACCESSES(first, verdict, 1,
		       which ? is_script && name_access(s, verdict, config.script_interp_id, interp, program)
			     : name_access(s, verdict, config.exec_id, filename, is_script ? NO_PATH : program));
	if (first->queued)
		bpf_tail_call(ctx, &tails, TAIL_DEDUP);
	return 0;
}

/* io_uring_submit_req(struct io_kiocb *req)
 *
 * Since Linux 6.4: 2ad57931db64, "io_uring: rename trace_io_uring_submit_sqe() tracepoint". */
SEC("kprobe/raw_tp/io_uring_submit_req")
int io_uring_submit_req(__u64 *ctx)
{
	struct scratch *first = scratch_slot(0);
	__u32 opcode;

	if (!first)
		return 0;
	void *request = (void *)ctx[0];

	/* One that was submitted here before, and whose result nobody was told. */
	if (pending_requests)
		end_request((__u64)request);
	opcode = peek(request, OFF(request_opcode)) & 0xff;
	if (opcode >= REQUESTS || !config.request[opcode].id)
		return 0;
	struct verdict *verdict = traced();
	void *task = current_task();

	if (!verdict)
		return 0;
	QUEUE_ACCESSES(first, verdict, 1, request_access(s, task, request, verdict, &config.request[opcode], which));
	if (first->queued)
		bpf_tail_call(ctx, &tails, TAIL_DEDUP);
	return 0;
}

/* io_uring_complete(struct io_ring_ctx *ctx, void *req, ...)
 *
 * What follows differs between kernels and is not used. `req` is null for a result that belongs to no request. */
SEC("kprobe/raw_tp/io_uring_complete")
int io_uring_complete(__u64 *ctx)
{
	__u64 request = ctx[1];

	if (request)
		complete_request(ctx, request, (int)peek((void *)request, OFF(request_result)), 0);
	return 0;
}

/* The stages that follow the raw tracepoints above. */
SEC("kprobe/raw_tp/dedup")
int raw_tp_dedup(void *ctx)
{
	dedup(ctx, &tails);
	return 0;
}

SEC("kprobe/raw_tp/send")
int raw_tp_send(void *ctx)
{
	send_next(ctx, &tails);
	return 0;
}
