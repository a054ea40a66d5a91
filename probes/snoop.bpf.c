/* The hooks: one entry each, and how its arguments become accesses. */
#include "pipeline.h"
#include "iter.h"
#include "lifecycle.h"
#include "list.h"
#include "elf_interp.h"
#include "self.h"
#include "io_uring.h"

char LICENSE[] SEC("license") = "GPL";

#define RESOLVE_IN_ROOT 0x10

/* A system call that returns. */
struct call {
	void *regs;
	long result;
	__u64 is32; /* 1 or 0 */
};

#define ARGUMENT(i) select(-call->is32, load32(call->regs, OFF(regs_arg32[i])), load(call->regs, OFF(regs_arg[i])))

/* The verifier wants each offset as a constant. */
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

/* A system call that names a socket's address, and where that is in the process's memory. */
struct address {
	__u64 at;
	__u64 len;
};

/* net/socket.c, sys_socketcall(): calls by number, with their arguments in memory. */
#define SOCKETCALL_BIND 2
#define SOCKETCALL_CONNECT 3
#define SOCKETCALL_SENDTO 11
#define SOCKETCALL_SENDMSG 16
#define SOCKETCALL_SENDMMSG 20

/* The address of a call on a socket; none if it has none. Of sendmmsg(2) it is that of the first message. */
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
	/* struct msghdr begins with a pointer to the address, and its length as an int. */
	if (call->is32) {
		bpf_probe_read_user(arguments, 8, (void *)address.at);
		return (struct address){ arguments[0], arguments[1] };
	}
	bpf_probe_read_user(&address, sizeof(address), (void *)address.at);
	address.len = (__u32)address.len;
	return address;
}

/* Copies the path of the unix socket that a call names; returns its length. 0: the address is another one, has no path
 * (it is abstract, or to be chosen by the kernel), or there is none. See unix(7). */
static __always_inline long read_socket_path(struct scratch *s, struct call *call, __u32 kind, __u32 index)
{
	struct address address = address_of(call, kind, index);
	__u16 family = 0;
	__u64 size = address.len - sizeof(family) + 1;
	long n;

	if (!address.at || address.len <= sizeof(family) || address.len > ADDRESS_MAX ||
	    bpf_probe_read_user(&family, sizeof(family), (void *)address.at) || family != AF_UNIX)
		return 0;
	/* The path needs no NUL where the address ends; this helper adds one. */
	barrier_var(size);
	size &= 127;
	if (!size)
		return 0;
	n = bpf_probe_read_user_str(s->data, size, (void *)address.at + sizeof(family));
	return n > 0 ? n - 1 : 0;
}

/* Makes the access by one path of a syscall that succeeded; 0 if there is none. */
static __always_inline int path_access(struct scratch *s, void *task, struct call *call,
				       struct verdict *verdict, const volatile struct row *row,
				       int which)
{
	__u32 kind = row->kind, path = row->path[which & 1], dir = row->dir[which & 1];
	struct access *a = &s->access;

	if (path == ARG_NONE && !(kind & ROW_OPENS))
		return 0;
	*a = (struct access){ .row = row->id, .start = START_DIR, .result = call->result };
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
		return 1;
	}

	__u64 text = argument(call, path), resolve = 0;
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
	if (!len) /* AT_EMPTY_PATH: the descriptor itself, not a path */
		return 0;
	a->len = len;
	if (kind & ROW_HOW)
		bpf_probe_read_user(&resolve, sizeof(resolve), (void *)argument(call, 2) + 16);

	int absolute = s->data[0] == '/';

	if (resolve & RESOLVE_IN_ROOT) {
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

/* A BTF raw tracepoint, whose arguments carry types: the registers are read by plain loads. The other hooks are
 * plain raw tracepoints, which load faster. */
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

	/* For the node's other processes most calls must end here. */
	if (nr >= SYSCALL_NUMBERS || !(config.table[nr].id | config.table[SYSCALL_NUMBERS + nr].id))
		return 0;
	void *task = current_task();

	call.is32 = is_compat(task);
	const volatile struct row *row = &config.table[within(2 * SYSCALL_NUMBERS - 1, nr + call.is32 * SYSCALL_NUMBERS)];

	keep_address(row);
	__u32 id = row->id, kind = row->kind;

	if (!id || (kind & ROW_ELF_INTERP && !pending_interps))
		return 0;
	if (kind & ROW_SELF) {
		record_self(argument(&call, 2));
		return 0;
	}

	struct verdict *verdict = traced();
	struct scratch *first = scratch_slot(0);

	if (!verdict || !first)
		return 0;
	if (call.result < 0 && !(kind & ROW_ELF_INTERP)) {
		if ((row->path[0] != ARG_NONE || kind & ROW_OPENS) &&
		    (!(kind & (ROW_ADDRESS | ROW_MESSAGE)) || read_socket_path(first, &call, kind, row->path[0])))
			count(verdict->number, id, OUTCOME_FAILED);
		return 0;
	}
	if (kind & ROW_UNTRACED) {
		count(verdict->number, id, OUTCOME_UNTRACED);
		return 0;
	}
	clear_queue(first);
	for (__u32 which = 0; which < SCRATCH_SLOTS; which++) {
		if (which && row->path[1] == ARG_NONE) /* nearly always */
			break;
		struct scratch *s = scratch_slot(which);

		if (s && (kind & ROW_ELF_INTERP ? elf_interp_access(s, task, verdict)
					    : !(kind & ROW_EXEC) && path_access(s, task, &call, verdict, row,
										which)))
			queue_access(first, s, which, verdict);
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

/* "/dev/fd/": execveat relative to a descriptor gets a name made up of this, the descriptor's number and
 * the path. The descriptor may be closed by now. */
#define DEV_FD 0x2f64662f7665642fULL

/* Makes the access by a name that the kernel holds. */
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
		.len = n - 1,
	};
	if (real.dentry && *(__u64 *)s->data == DEV_FD)
		s->access.flags = RECORD_REAL_ONLY;
	return 1;
}

/* The program runs from here on. The kernel itself opened it, its interpreter (for "#!") and its
 * loader; no syscall shows them. */
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
	struct path_ref program = {};

	if (ENABLED(FEATURE_PATHS)) {
		void *file = (void *)load((void *)load(task, OFF(task_mm)), OFF(mm_exe_file));

		program = path_ref_at(file + OFF(file_path));
	}

	remember_exec(verdict);
	remember_task_dirs(task);
	begin_interp_wait(first, task, verdict);
	clear_queue(first);
	for (__u32 which = 0; which < SCRATCH_SLOTS; which++) {
		struct scratch *s = scratch_slot(which);

		if (s && (which ? interp != filename && name_access(s, verdict, config.script_interp_id, interp, NO_PATH)
				: name_access(s, verdict, config.exec_id, filename, program)))
			queue_access(first, s, which, verdict);
	}
	if (first->queued)
		bpf_tail_call(ctx, &tails, TAIL_DEDUP);
	return 0;
}

SEC("kprobe/raw_tp/cgroup_mkdir")
int cgroup_mkdir(__u64 *ctx)
{
	struct scratch *s = scratch_slot(0);

	if (s && ENABLED(FEATURE_KERNEL_MEMORY))
		cgroup_created(ctx, s, (void *)peek((void *)ctx[0], OFF(cgroup_kn)));
	return 0;
}

SEC("kprobe/raw_tp/cgroup_rmdir")
int cgroup_rmdir(__u64 *ctx)
{
	struct scratch *s = scratch_slot(0);

	if (s && ENABLED(FEATURE_KERNEL_MEMORY))
		cgroup_removed(ctx, s, (void *)peek((void *)ctx[0], OFF(cgroup_kn)));
	return 0;
}

SEC("kprobe/raw_tp/io_uring_submit_req")
int io_uring_submit_req(__u64 *ctx)
{
	struct scratch *first = scratch_slot(0);
	__u32 opcode;

	if (!first)
		return 0;
	void *request = (void *)ctx[0];

	opcode = peek(request, OFF(request_opcode)) & 0xff;
	if (opcode >= REQUESTS || !config.request[opcode].id)
		return 0;
	struct verdict *verdict = traced();
	void *task = current_task();

	if (!verdict)
		return 0;
	clear_queue(first);
	for (__u32 which = 0; which < SCRATCH_SLOTS; which++) {
		struct scratch *s = scratch_slot(which);

		if (s && request_access(s, task, request, verdict, &config.request[opcode], which))
			queue_access(first, s, which, verdict);
	}
	if (first->queued)
		bpf_tail_call(ctx, &tails, TAIL_DEDUP);
	return 0;
}

SEC("kprobe/raw_tp/io_uring_complete")
int io_uring_complete(__u64 *ctx)
{
	struct scratch *s = scratch_slot(0);
	__u64 request = ctx[1];

	if (s && request)
		complete_request(ctx, s, request, (int)peek((void *)request, OFF(request_result)));
	return 0;
}

/* What the hooks above go on with. */
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

/* Attached to sys_exit while user space asks, by its own call with the number of a child added to the cookie. */
SEC("kprobe/raw_tp/list_children")
int list_children(__u64 *ctx)
{
	__u64 number = peek((void *)ctx[0], OFF(regs_arg[2])) - config.cookie;

	if (bpf_get_current_pid_tgid() >> 32 == self.tgid && HAS(task_cg_list) && number - 1 < LISTED_CHILDREN)
		list_child(ctx, number - 1);
	return 0;
}

/* Of every task, every mapping (Linux 5.12). */
SEC("kprobe/iter/task_vma")
int task_vma(__u64 *ctx)
{
	struct scratch *s = scratch_slot(ITER_SCRATCH);
	void *task = (void *)ctx[1], *mapping = (void *)ctx[2];

	if (s && task && mapping)
		list_file(ctx, number_of(s, task), file_of_mapping(number_of(s, mapping)));
	return 0;
}

/* Of every task, its program: where there is no iterator over mappings (before Linux 5.12). */
SEC("kprobe/iter/task")
int task(__u64 *ctx)
{
	struct scratch *s = scratch_slot(ITER_SCRATCH);
	void *task = (void *)ctx[1];

	if (s && task)
		list_file(ctx, number_of(s, task), program_of(number_of(s, task)));
	return 0;
}

/* Of every task, every open file (Linux 5.8). */
SEC("kprobe/iter/task_file")
int task_file(__u64 *ctx)
{
	struct scratch *s = scratch_slot(ITER_SCRATCH);
	void *task = (void *)ctx[1], *file = (void *)ctx[3];

	if (s && task && file)
		list_file(ctx, number_of(s, task), path_ref_at((void *)number_of(s, file) + OFF(file_path)));
	return 0;
}
