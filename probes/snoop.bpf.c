/* The hooks: one entry each, and how its arguments become accesses. */
#include "access.h"
#include "loader.h"
#include "own.h"

char LICENSE[] SEC("license") = "GPL";

#define AT_FDCWD -100
#define RESOLVE_IN_ROOT 0x10

static __always_inline __u64 argument(void *regs, __u32 index)
{
	/* The verifier wants each offset as a constant. */
	switch (index) {
	case 0:
		return load(regs, OFF(regs_arg[0]));
	case 1:
		return load(regs, OFF(regs_arg[1]));
	case 2:
		return load(regs, OFF(regs_arg[2]));
	case 3:
		return load(regs, OFF(regs_arg[3]));
	case 4:
		return load(regs, OFF(regs_arg[4]));
	default:
		return load(regs, OFF(regs_arg[5]));
	}
}

/* Makes the access by one path of a syscall that succeeded; 0 if there is none. */
static __always_inline int path_access(struct draft *s, void *task, void *regs,
				       struct verdict *verdict, const volatile struct row *row,
				       int which, long result)
{
	__u32 kind = row->kind, path = row->path[which & 1], dir = row->dir[which & 1];
	struct access *a = &s->access;

	if (path == ARG_NONE && !(kind & ROW_OPENS))
		return 0;
	*a = (struct access){ .row = row->id, .start = START_PLACE, .result = result };
	if (kind & ROW_OPENS)
		a->real = place_of_fd(task, result);
	else if (kind & ROW_CHDIR)
		a->real = places_now(task).pwd;
	else if (kind & ROW_CHROOT)
		a->real = places_now(task).root;
	if (kind & (ROW_CHDIR | ROW_CHROOT))
		a->flags = RECORD_MOVED;
	if (path == ARG_NONE) {
		a->flags = RECORD_REAL_ONLY;
		return 1;
	}

	__u64 text = argument(regs, path), resolve = 0;

	if (!text)
		return 0;
	long len = read_user_path(s->data, text);

	if (len < 0) {
		count_event(verdict);
		count(row->id, OUTCOME_UNREADABLE);
		return 0;
	}
	if (!len) /* AT_EMPTY_PATH: the descriptor itself, not a path */
		return 0;
	a->len = len;
	if (kind & ROW_HOW)
		bpf_probe_read_user(&resolve, sizeof(resolve), (void *)argument(regs, 2) + 16);

	int absolute = s->data[0] == '/';

	if (resolve & RESOLVE_IN_ROOT) {
		a->flags |= RECORD_IN_BASE;
		absolute = 0;
	}
	if (absolute && kind & ROW_CHROOT) {
		a->flags |= RECORD_IN_BASE;
		a->place = places_before().root;
	} else if (absolute) {
		a->start = START_ROOT;
	} else if (kind & ROW_CHDIR) {
		a->place = places_before().pwd;
	} else if (dir == ARG_NONE || (int)argument(regs, dir) == AT_FDCWD) {
		a->start = START_PWD;
	} else {
		a->place = place_of_fd(task, argument(regs, dir));
	}
	return 1;
}

SEC("kprobe/tp_btf/sys_exit")
int sys_exit(__u64 *ctx)
{
	void *regs = (void *)ctx[0];
	long result = ctx[1];
	__u64 nr = load(regs, OFF(regs_nr));

	/* For the node's other processes most calls must end here. */
	if (nr >= SYSCALLS)
		return 0;
	const volatile struct row *row = &config.table[nr];
	__u32 id = row->id, kind = row->kind;

	if (!id || (kind & ROW_LOADER && !awaited))
		return 0;
	if (kind & ROW_OWN) {
		answer_own_call(argument(regs, 2));
		return 0;
	}

	struct verdict *verdict = traced();
	struct draft *first = draft(0);
	void *task = current_task();

	if (!verdict || !first)
		return 0;

	int counted = row->path[0] != ARG_NONE || kind & ROW_OPENS;

	if (is_compat(task)) {
		if (counted) {
			count_event(verdict);
			count(id, OUTCOME_COMPAT);
		}
		return 0;
	}
	if (result < 0 && !(kind & ROW_LOADER)) {
		if (counted) {
			count_event(verdict);
			count(id, OUTCOME_FAILED);
		}
		return 0;
	}
	first->waiting = 0;
	for (__u32 which = 0; which < DRAFTS; which++) {
		if (which && row->path[1] == ARG_NONE) /* nearly always */
			break;
		struct draft *s = draft(which);

		if (s && (kind & ROW_LOADER ? loader_access(s, task, verdict)
					    : !(kind & ROW_EXEC) && path_access(s, task, regs, verdict, row,
										which, result)) &&
		    is_news(s, task, verdict))
			first->waiting |= 1 << which;
	}
	if (kind & (ROW_CHDIR | ROW_CHROOT))
		note_places(task);
	if (first->waiting)
		bpf_tail_call(ctx, &sys_exit_tail, 0);
	return 0;
}

SEC("kprobe/tp_btf/sys_exit/send")
int sys_exit_send(__u64 *ctx)
{
	send_next(ctx, &sys_exit_tail);
	return 0;
}

/* "/dev/fd/": execveat relative to a descriptor gets a name made up of this, the descriptor's number and
 * the path. The descriptor may be closed by now. */
#define DEV_FD 0x2f64662f7665642fULL

/* Makes the access by a name that the kernel holds. */
static __always_inline int name_access(struct draft *s, struct verdict *verdict, __u32 row,
				       void *name, struct place real)
{
	long n = bpf_probe_read_kernel_str(s->data, PATH_MAX_BYTES, name);

	if (n < 2) {
		count_event(verdict);
		count(row, OUTCOME_UNREADABLE);
		return 0;
	}
	s->access = (struct access){
		.row = row,
		.start = s->data[0] == '/' ? START_ROOT : START_PWD,
		.real = real,
		.len = n - 1,
	};
	if (real.dentry && *(__u64 *)s->data == DEV_FD)
		s->access.flags = RECORD_REAL_ONLY;
	return 1;
}

/* The program runs from here on. The kernel itself opened it, its interpreter (for "#!") and its
 * loader; no syscall shows them. */
SEC("kprobe/tp_btf/sched_process_exec")
int sched_process_exec(__u64 *ctx)
{
	void *bprm = (void *)ctx[2];
	struct verdict *verdict = traced();
	struct draft *first = draft(0);
	void *task = current_task();

	if (!verdict || !first)
		return 0;
	void *filename = (void *)load(bprm, OFF(bprm_filename));
	void *interp = (void *)load(bprm, OFF(bprm_interp));
	void *file = (void *)load((void *)load(task, OFF(task_mm)), OFF(mm_exe_file));
	struct place program = place_at(file + OFF(file_path));

	note_places(task);
	await_loader(first, task);
	first->waiting = 0;
	for (__u32 which = 0; which < DRAFTS; which++) {
		struct draft *s = draft(which);

		if (s && (which ? interp != filename && name_access(s, verdict, config.interpreter_id, interp, ABSENT)
				: name_access(s, verdict, config.exec_id, filename, program)) &&
		    is_news(s, task, verdict))
			first->waiting |= 1 << which;
	}
	if (first->waiting)
		bpf_tail_call(ctx, &sched_process_exec_tail, 0);
	return 0;
}

SEC("kprobe/tp_btf/sched_process_exec/send")
int sched_process_exec_send(__u64 *ctx)
{
	send_next(ctx, &sched_process_exec_tail);
	return 0;
}
