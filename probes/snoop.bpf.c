/* The maps that decide whose accesses count, and one entry per hook. */
#include "path.h"

char LICENSE[] SEC("license") = "GPL";

#define AT_FDCWD -100
#define RESOLVE_IN_ROOT 0x10

/* ---- which cgroups ---- */

struct target {
	__u32 number;
};

/* Traced cgroup -> its number among them. Written by user space, which refuses more. */
MAP(targets) = { BPF_MAP_TYPE_HASH, 8, sizeof(struct target), CONTAINERS, 0 };

/* Cgroup -> verdict. Full: cgroups that were not heard of for long leave, and are judged again. */
MAP(verdicts) = { BPF_MAP_TYPE_LRU_HASH, 8, sizeof(struct verdict), 4096, 0 };

/* Number of a traced cgroup -> its events. */
MAP(events) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, CONTAINERS, 0 };

static __always_inline void count_event(struct verdict *verdict)
{
	__u32 number = verdict->number;
	__u64 *counter = bpf_map_lookup_elem(&events, &number);

	if (counter)
		++*counter;
}

#define CGROUP_DEPTH 32

/* Finds the nearest ancestor of the current process's cgroup that is traced. */
static __always_inline struct verdict judge(void)
{
	void *task = (void *)bpf_get_current_task();
	void *cgroup = (void *)peek((void *)peek(task, OFF(task_cgroups)), OFF(css_set_dfl_cgrp));
	void *node = (void *)peek(cgroup, OFF(cgroup_kn));
	struct verdict verdict = { .generation = control.generation };

	for (int i = 0; i < CGROUP_DEPTH && node; i++) {
		__u64 id = peek(node, OFF(kernfs_id));
		struct target *target = bpf_map_lookup_elem(&targets, &id);

		if (target) {
			verdict.container = id;
			verdict.number = target->number;
			break;
		}
		node = (void *)peek(node, OFF(kernfs_parent));
	}
	return verdict;
}

/* The verdict on the current process's cgroup; null if it is not traced. */
static __always_inline struct verdict *traced(void)
{
	__u64 id = bpf_get_current_cgroup_id();
	struct verdict *known = bpf_map_lookup_elem(&verdicts, &id);

	if (!known || known->generation != control.generation) {
		struct verdict fresh = judge();

		bpf_map_update_elem(&verdicts, &id, &fresh, BPF_ANY);
		known = bpf_map_lookup_elem(&verdicts, &id);
	}
	return known && known->container ? known : 0;
}

/* ---- where a process was before a change of directory ---- */

struct places {
	struct place root;
	struct place pwd;
};

/* Process (tgid) -> its directories at its last exec, chdir, fchdir or chroot. When such a call
 * returns, the directory its path started from is gone from the task, and only this map knows
 * it. Full: the processes that moved longest ago leave. */
MAP(moves) = { BPF_MAP_TYPE_LRU_HASH, 4, sizeof(struct places), 2048, 0 };

static __always_inline struct places places_now(void *task)
{
	void *fs = (void *)load(task, OFF(task_fs));

	return (struct places){ place_at(fs + OFF(fs_root)), place_at(fs + OFF(fs_pwd)) };
}

static __always_inline void note_places(void *task)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct places now = places_now(task);

	bpf_map_update_elem(&moves, &pid, &now, BPF_ANY);
}

/* A process that has not moved yet since it was forked is where its parent is. */
static __always_inline struct places places_before(void *task)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct places *known = bpf_map_lookup_elem(&moves, &pid);

	if (!known) {
		pid = (__u32)peek((void *)load(task, OFF(task_parent)), OFF(task_tgid));
		known = bpf_map_lookup_elem(&moves, &pid);
	}
	return known ? *known : (struct places){};
}

/* ---- one access ---- */

/* The access in s->access and s->data succeeded. Counts it if it is known or excluded and answers 0;
 * else prepares its record. */
static __always_inline int is_news(struct draft *s, void *task, struct verdict *verdict)
{
	struct access *a = &s->access;
	void *fs = (void *)load(task, OFF(task_fs));
	__u64 key = mix(config.seed, verdict->container);

	forget();
	count_event(verdict);
	if (a->start == START_ROOT && !(a->flags & RECORD_REAL_ONLY) && is_excluded(s, a->len)) {
		/* An excluded name can still open a file that is not: /proc/self/exe. */
		if (!a->real.dentry || is_pseudo(a->real)) {
			count(a->row, OUTCOME_EXCLUDED);
			return 0;
		}
		a->flags |= RECORD_REAL_ONLY;
		a->known = OUTCOME_EXCLUDED;
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
		count(a->row, a->known == OUTCOME_EXCLUDED ? OUTCOME_EXCLUDED : OUTCOME_DUPLICATE);
		return 0;
	}

	struct places now = places_now(task);

	s->head.container = verdict->container;
	s->head.key = key;
	s->head.result = a->result;
	s->head.pid = bpf_get_current_pid_tgid() >> 32;
	s->head.row = a->row;
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

/* Completes a record and sends it. */
static __always_inline void send(struct draft *s, void *task)
{
	__u32 flags = s->access.flags, end;

	end = append_places(s, task, s->head.len[PART_ASKED]);
	if (s->todo[PART_BASE].dentry)
		flags |= RECORD_HAS_BASE;
	if (s->todo[PART_REAL].dentry)
		flags |= RECORD_HAS_REAL;
	s->head.flags = flags;
	emit(s, s->access.row, end);
}

/* A hook's program ends where nothing is new. The rest, which few calls reach, is a program of its own
 * that the first one goes on with (a tail call): the verifier takes each by itself, and what it has to
 * follow in one does not multiply with the other. The kernel wants one table per hook. */
MAP(sys_exit_tail) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 1, 0 };
MAP(sched_process_exec_tail) = { BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 1, 0 };

/* Sends one draft that waits, and goes on with the next. */
static __always_inline void send_next(void *ctx, void *tail)
{
	struct draft *first = draft(0), *s;
	__u32 waiting, index;

	if (!first || !first->waiting)
		return;
	waiting = first->waiting;
	first->waiting = waiting & (waiting - 1);
	index = ~waiting & 1;
	opaque(index); /* one way for the verifier to follow, not one for each draft */
	s = draft(index);
	if (s)
		send(s, current_task());
	if (first->waiting)
		bpf_tail_call(ctx, tail, 0);
}

/* ---- the dynamic loader of a new program ---- */

/* The kernel opens the loader itself. Its name stands in the program's headers, in memory of the
 * process that is not there yet when exec returns; it is read at one of the next syscalls. */
struct pending {
	__u64 headers; /* address of the program headers in the process */
	__u64 base;    /* where the loader is mapped */
	__u32 count;
	__u32 tries;
};

/* Process (tgid) -> its program headers. Full: the loader is counted as unreadable. User space gives up
 * those of processes that ended too early. */
MAP(loaders) = { BPF_MAP_TYPE_HASH, 4, sizeof(struct pending), 1024, 0 };

/* Entries of `loaders`: while there are none, the syscalls that take no path end here. */
__u64 awaited SEC(".data.awaited") = 0;

#define LOADER_TRIES 16
#define HEADERS_MAX 16

/* elf(5), the 64-bit form. */
struct program_header {
	__u32 type;
	__u32 flags;
	__u64 offset;
	__u64 vaddr;
	__u64 paddr;
	__u64 filesz;
	__u64 memsz;
	__u64 align;
};
#define PT_LOAD 1
#define PT_INTERP 3
#define PT_PHDR 6

/* getauxval(3) */
#define AT_PHDR 3
#define AT_PHNUM 5
#define AT_BASE 7
#define AUXV_MAX 28 /* pairs; x86-64 and arm64 have fewer */

static __always_inline void await_loader(struct draft *s, void *task)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	void *mm = (void *)load(task, OFF(task_mm));
	__u64 *auxv = (__u64 *)s->data;
	struct pending fresh = {};

	if (bpf_probe_read_kernel(auxv, AUXV_MAX * 16, mm + OFF(mm_saved_auxv)))
		return;
	for (int i = 0; i < AUXV_MAX; i++) {
		if (!auxv[2 * i])
			break;
		if (auxv[2 * i] == AT_PHDR)
			fresh.headers = auxv[2 * i + 1];
		if (auxv[2 * i] == AT_PHNUM)
			fresh.count = auxv[2 * i + 1];
		if (auxv[2 * i] == AT_BASE)
			fresh.base = auxv[2 * i + 1];
	}
	if (!fresh.base) /* a static program */
		return;
	if (!bpf_map_update_elem(&loaders, &pid, &fresh, BPF_NOEXIST))
		__sync_fetch_and_add(&awaited, 1);
	else if (bpf_map_update_elem(&loaders, &pid, &fresh, BPF_EXIST))
		count(config.loader_id, OUTCOME_UNREADABLE);
}

static __always_inline void forget_loader(__u32 pid)
{
	if (!bpf_map_delete_elem(&loaders, &pid))
		__sync_fetch_and_add(&awaited, -1);
}

/* Reads the loader's name if it can be read by now, into s->data; returns its length or 0. */
static __always_inline __u32 find_loader(struct draft *s, struct pending *pending)
{
	struct program_header header;
	__u64 interp = 0, bias = pending->headers & ~4095ULL;
	int have_bias = 0;

	for (__u32 i = 0; i < HEADERS_MAX; i++) {
		if (i >= pending->count)
			break;
		if (bpf_probe_read_user(&header, sizeof(header),
					(void *)pending->headers + i * sizeof(header)))
			return 0;
		if (header.type == PT_INTERP)
			interp = header.vaddr;
		/* Either tells how far the program was moved from the addresses in its headers. */
		if (header.type == PT_PHDR || (header.type == PT_LOAD && !have_bias)) {
			bias = header.type == PT_PHDR ? pending->headers - header.vaddr
						      : bias - (header.vaddr & ~4095ULL);
			have_bias = 1;
		}
	}
	if (!interp)
		return 0;
	long len = read_user_path(s->data, bias + interp);

	return len > 0 ? len : 0;
}

/* Makes the access to the process's loader, if one is awaited and its name can be read by now. */
static __always_inline int loader_access(struct draft *s, void *task, struct verdict *verdict)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct pending *pending = bpf_map_lookup_elem(&loaders, &pid);
	__u32 len;

	if (!pending)
		return 0;
	len = find_loader(s, pending);
	if (!len && ++pending->tries < LOADER_TRIES)
		return 0;
	struct place real = mapped_file((void *)load(task, OFF(task_mm)), pending->base);

	forget_loader(pid);
	if (!len) {
		count_event(verdict);
		count(config.loader_id, OUTCOME_UNREADABLE);
		return 0;
	}
	s->access = (struct access){
		.row = config.loader_id,
		.start = s->data[0] == '/' ? START_ROOT : START_PWD,
		.real = real,
		.len = len,
	};
	return 1;
}

/* ---- hooks ---- */

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

	if (path == ARG_NONE && (which || !(kind & ROW_OPENS)))
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
		a->place = places_before(task).root;
	} else if (absolute) {
		a->start = START_ROOT;
	} else if (kind & ROW_CHDIR) {
		a->place = places_before(task).pwd;
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
		struct draft *s = draft(which);

		if (s && (kind & ROW_LOADER ? !which && loader_access(s, task, verdict)
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
