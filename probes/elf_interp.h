/* SPDX-License-Identifier: GPL-2.0-only */
/* The ELF interpreter (the dynamic loader) of a new program. The kernel opens it itself. Its name stands in the program's
 * headers, in memory of the process that is not present yet when exec returns. It is read at one of the next syscalls. */
#ifndef SNOOP_ELF_INTERP_H
#define SNOOP_ELF_INTERP_H

#include "pipeline.h"

struct interp_wait {
	__u64 headers; /* the address of the program headers in the process */
	__u64 base;    /* where the interpreter is mapped */
	__u32 count;   /* of the program headers */
	__u32 tries;   /* to read the name */
	__u64 is32;    /* all ones for a 32-bit program, else 0 */
};

/* Process (tgid) -> its program headers, from exec until the interpreter's name was read: for a few syscalls. When the map
 * is full, the interpreter is counted as unreadable. User space takes out the entries of processes that ended before. */
MAP(interp_waits) = { BPF_MAP_TYPE_HASH, 4, sizeof(struct interp_wait), 1024, 0 };

/* The number of entries in `interp_waits`. While it is 0, syscalls that take no path need no look-up. */
__u64 pending_interps SEC(".data.pending_interps") = 0;

#define INTERP_TRIES 16
#define HEADERS_MAX 16

/* The beginning of a program header in a 64-bit file and in a 32-bit file: elf(5). */
struct program_header {
	__u32 type;
	__u32 flags;
	__u64 offset;
	__u64 vaddr;
};
struct program_header32 {
	__u32 type;
	__u32 offset;
	__u32 vaddr;
};
#define HEADER_BYTES 56
#define HEADER_BYTES_32 32

#define PT_LOAD 1
#define PT_INTERP 3
#define PT_PHDR 6

/* getauxval(3) */
#define AT_PHDR 3
#define AT_PHNUM 5
#define AT_BASE 7
#define AUXV_MAX 26 /* in pairs; x86-64 and arm64 have fewer */

/* Notes where the new program's headers are. The exec hook calls this. */
static __always_inline void begin_interp_wait(struct scratch *s, void *task, struct verdict *verdict)
{
	if (!ENABLED(FEATURE_KERNEL_MEMORY | FEATURE_ELF_INTERP))
		return;
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	void *mm = (void *)load(task, OFF(task_mm));
	struct interp_wait fresh = {};

	if (bpf_probe_read_kernel(s->data, AUXV_MAX * 16, mm + OFF(mm_saved_auxv)))
		return;
	/* The pairs of a 32-bit program are half as large. The first pair then has a number that is not zero where a
	 * 64-bit program has the upper half of a type. */
	fresh.is32 = ~equal(*(__u32 *)(s->data + 4), 0);
	for (int i = 0; i < AUXV_MAX; i++) {
		__u64 narrow = ((__u64 *)s->data)[i];
		__u64 type = select(fresh.is32, (__u32)narrow, ((__u64 *)s->data)[2 * i]);
		__u64 value = select(fresh.is32, narrow >> 32, ((__u64 *)s->data)[2 * i + 1]);

		if (!type)
			break;
		if (type == AT_PHDR)
			fresh.headers = value;
		if (type == AT_PHNUM)
			fresh.count = value;
		if (type == AT_BASE)
			fresh.base = value;
	}
	if (!fresh.base) /* The program is static. */
		return;
	if (!bpf_map_update_elem(&interp_waits, &pid, &fresh, BPF_NOEXIST))
		__sync_fetch_and_add(&pending_interps, 1);
	else if (bpf_map_update_elem(&interp_waits, &pid, &fresh, BPF_EXIST))
		count(verdict->number, config.elf_interp_id, OUTCOME_UNREADABLE);
}

static __always_inline void end_interp_wait(__u32 pid)
{
	if (!bpf_map_delete_elem(&interp_waits, &pid))
		__sync_fetch_and_add(&pending_interps, -1);
}

/* Reads the interpreter's name into s->data. Returns its length, or 0 if it cannot be read yet. */
static __always_inline __u32 read_elf_interp(struct scratch *s, struct interp_wait *pending)
{
	union {
		struct program_header wide;
		struct program_header32 narrow;
	} header;
	__u64 interp = 0, bias = pending->headers & ~4095ULL, have_bias = 0;
	__u64 size = select(pending->is32, HEADER_BYTES_32, HEADER_BYTES);

	barrier_var(have_bias);
	for (__u32 i = 0; i < HEADERS_MAX; i++) {
		if (i >= pending->count)
			break;
		if (bpf_probe_read_user(&header, sizeof(header), (void *)pending->headers + i * size))
			return 0;
		__u64 vaddr = select(pending->is32, header.narrow.vaddr, header.wide.vaddr);
		__u64 is_phdr = equal(header.wide.type, PT_PHDR);
		__u64 is_first = equal(header.wide.type, PT_LOAD) & ~have_bias;

		interp = select(equal(header.wide.type, PT_INTERP), vaddr, interp);
		/* Either header tells how far the program was moved from the addresses in its headers. */
		bias = select(is_phdr, pending->headers - vaddr, bias - (vaddr & ~4095ULL & is_first));
		have_bias |= is_phdr | is_first;
	}
	if (!interp)
		return 0;
	long len = read_user_path(s->data, bias + interp);

	return len > 0 ? len : 0;
}

/* Makes the access to the process's interpreter. Returns 0 if the process waits for none, or its name cannot be read yet. */
static __always_inline int elf_interp_access(struct scratch *s, void *task, struct verdict *verdict)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct interp_wait *pending = bpf_map_lookup_elem(&interp_waits, &pid);
	__u32 len;

	if (!ENABLED(FEATURE_KERNEL_MEMORY | FEATURE_ELF_INTERP) || !pending)
		return 0;
	len = read_elf_interp(s, pending);
	if (!len && ++pending->tries < INTERP_TRIES)
		return 0;
	struct path_ref real = mapped_file((void *)load(task, OFF(task_mm)), pending->base);

	end_interp_wait(pid);
	if (!len) {
		count(verdict->number, config.elf_interp_id, OUTCOME_UNREADABLE);
		return 0;
	}
	s->access = (struct access){
		.row = config.elf_interp_id,
		.start = s->data[0] == '/' ? START_ROOT : START_PWD,
		.real_from = real.dentry ? REAL_FROM_HOOK : REAL_UNKNOWN,
		.real = real,
		.kinds = KIND_MAPPED,
		.len = len,
	};
	return 1;
}

#endif
