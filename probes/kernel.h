/* SPDX-License-Identifier: GPL-2.0-only */
/* How the programs read the kernel's structures, and what differs between kernels. User space looks up the offset of every
 * member in the running kernel's type information (BTF) and writes it to `config.off`.
 *
 * There are two ways to read. A pointer that the verifier has a type for (the current task, and what it points to) takes a
 * plain load. That is one instruction; lockdown=confidentiality does not forbid it, and a bad pointer reads as zero. Every
 * other pointer goes through bpf_probe_read_kernel().
 *
 * What the kernels brought:
 *   5.4   9d1f8be5cf42, "bpf: Restrict bpf when kernel lockdown is in confidentiality mode"
 *   5.5   6ae08ae3dea2, "bpf: Add probe_read_{user, kernel} and probe_read_{user, kernel}_str helpers"
 *   5.11  3ca1032ab7ab, "bpf: Implement get_current_task_btf and RET_PTR_TO_BTF_ID": the current task has a type.
 *         `config.typed` says whether the programs rely on that. */
#ifndef SNOOP_KERNEL_H
#define SNOOP_KERNEL_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

/* For kernels before 5.10 this source is compiled a second time, with SNOOP_LEGACY. That object has plain raw tracepoints
 * only, uses the one kind of read that Linux 5.4 has for the memory of the kernel and of processes, and sends its records
 * through a perf buffer (output.h). The verifiers there do not take read-only data as constants. */
#ifdef SNOOP_LEGACY
#define bpf_probe_read_kernel bpf_probe_read
#define bpf_probe_read_user bpf_probe_read
#define bpf_probe_read_kernel_str bpf_probe_read_str
#define bpf_probe_read_user_str bpf_probe_read_str
#define TYPED 0
#define current_task_typed() 0
#else
#define TYPED config.typed
#define current_task_typed() bpf_get_current_task_btf()
#endif

const volatile struct config config SEC(".rodata.config") = {};

/* A verifier before Linux 5.10 forgets the bounds of a number in two cases. The compiler keeps it on the stack for a while
 * (5689d49b71ad, "bpf: Track spill/fill of bounded scalars"), or in another register than the one that was compared
 * (75748837b7e5, "bpf: Propagate scalar ranges through register assignments").
 *
 * within() is for a number that has no bit outside the mask, and shows this to the verifier where the number is used.
 * keep_address() makes the compiler keep the address of an array's element, whose bounds the verifier does not forget,
 * instead of computing it from the index again. */
#ifdef SNOOP_LEGACY
#define within(mask, value) ({ __u64 number = (value); barrier_var(number); number & (mask); })
#define keep_address(pointer) barrier_var(pointer)
#else
#define within(mask, value) (value)
#define keep_address(pointer) (void)(pointer)
#endif

/* barrier_var() of bpf_helpers.h keeps the compiler from knowing what a variable holds, where it would otherwise remove a test
 * that the verifier needs to see. barrier() makes it read memory again, so that the verifier sees the same state whichever
 * way led to that point.
 *
 * The verifier follows both ways of every branch, and in a long loop it soon forgets where they met before. Such loops
 * therefore branch only at their end: they compute all cases of a step, and select one by masks. */

/* All ones if the two are equal, else 0. */
static __always_inline __u64 equal(__u64 a, __u64 b)
{
	__u64 differ = a ^ b, mask;

	/* Without these barriers the compiler makes branches after all. */
	differ |= -differ;
	barrier_var(differ);
	mask = (differ >> 63) - 1;
	barrier_var(mask);
	return mask;
}

/* All ones if `a` is less than `b`, else 0. This is the borrow of a - b. */
static __always_inline __u64 below(__u64 a, __u64 b)
{
	__u64 borrow = (~a & b) | ((~a | b) & (a - b)), mask;

	barrier_var(borrow);
	mask = -(borrow >> 63);
	barrier_var(mask);
	return mask;
}

static __always_inline __u64 select(__u64 mask, __u64 then, __u64 otherwise)
{
	return (then & mask) | (otherwise & ~mask);
}

#define AT_FDCWD -100 /* linux/fcntl.h */

/* Whether all these features are available. The verifier skips code that cannot be reached, so that behind this test even a
 * helper that is not allowed does no harm. */
#define ENABLED(abilities) ((config.features & (abilities)) == (abilities))

#define OFF(member) (config.off.member)
#define HAS(member) (OFF(member) != OFFSET_NONE)

/* bpf_rdonly_cast() with the type 0 makes any number an address for plain loads. Such a load takes a tenth of the time of a
 * helper's call, and likewise gives 0 where there is no memory. The kernel can do it since Linux 6.17. Elsewhere the verifier
 * does not look at the call, because it cannot be reached. */
#ifdef SNOOP_LEGACY
#define PLAIN_LOADS 0
#else
#define PLAIN_LOADS (config.plain_loads)
#endif
static const __u64 *(*const rdonly_cast)(const void *address, __u32 type) = (void *)RDONLY_CAST;

/* Copies longs from an address without a type; zeroes if they cannot be read. `count` is a constant. */
static __always_inline void peek_all(__u64 *to, __u32 count, const void *from)
{
	if (PLAIN_LOADS) {
		const __u64 *at = rdonly_cast(from, 0);

#pragma unroll
		for (__u32 i = 0; i < count; i++)
			to[i] = at[i];
	} else {
		bpf_probe_read_kernel(to, count * sizeof(*to), from);
	}
}

/* Reads a pointer or long at `p + off`, for a `p` without a type; 0 if it cannot be read. */
static __always_inline __u64 peek(const void *p, __u32 off)
{
	__u64 value = 0;

	peek_all(&value, 1, p + off);
	return value;
}

/* Reads a pointer or long at `p + off`, for a `p` that has a type on kernels with types. */
static __always_inline __u64 load(const void *p, __u32 off)
{
	if (TYPED)
		return *(const __u64 *)(p + off);
	return peek(p, off);
}

static __always_inline __u32 load32(const void *p, __u32 off)
{
	__u32 value = 0;

	if (TYPED)
		return *(const __u32 *)(p + off);
	bpf_probe_read_kernel(&value, sizeof(value), p + off);
	return value;
}

/* Does what load() does, in two loads. It is for a union whose first member has the two halves apart: the verifier of Linux
 * 6.1 looks only at the first member. */
static __always_inline __u64 load_halves(const void *p, __u32 off)
{
	return load32(p, off) | (__u64)load32(p, off + 4) << 32;
}

/* Copies a path from the process's memory. Returns its length without the NUL, or less than 0 if it cannot be read. Before
 * Linux 6.13 the helper returns 0 for an empty string, later 1. */
static __always_inline long read_user_path(void *to, __u64 from)
{
	long n = bpf_probe_read_user_str(to, PATH_MAX_BYTES, (void *)from);

	return n > 0 ? n - 1 : n;
}

static __always_inline void *current_task(void)
{
	if (TYPED)
		return current_task_typed();
	return (void *)bpf_get_current_task();
}

/* A directory or file. The kernel has the same two pointers in its struct path. Here they are plain numbers, so that they can
 * be kept in a map; nothing keeps alive what they point to. */
struct path_ref {
	__u64 mnt;
	__u64 dentry;
};

#define NO_PATH ((struct path_ref){})

/* Reads a struct path at an address without a type. Its two members are next to each other in every kernel so far, so that one
 * read gets both. layout.rs refuses a kernel where they are not. */
static __always_inline struct path_ref path_ref_at(const void *path)
{
	struct path_ref ref = {};

	if (ENABLED(FEATURE_NAMES))
		peek_all((__u64 *)&ref, 2, path + OFF(path_mnt));
	return ref;
}

/* The link from a dentry to its parent. One read gets d_parent and d_name, which are next to each other, as layout.rs
 * checks. */
struct dentry_link {
	__u64 parent;
	__u64 hash_len; /* the name's hash, and its length in the upper half */
	__u64 name;
};

static __always_inline struct dentry_link link_of(const void *dentry)
{
	struct dentry_link link = {};

	peek_all((__u64 *)&link, 3, dentry + OFF(dentry_parent));
	return link;
}

/* The link from a mount to the one that it is mounted on. One read gets all three members, as layout.rs checks. */
struct mount_link {
	__u64 parent;
	__u64 mountpoint;
	__u64 root; /* mnt_root, the first member of the vfsmount in it */
};

static __always_inline struct mount_link mount_link_of(__u64 mount)
{
	struct mount_link link = {};

	peek_all((__u64 *)&link, 3, (void *)mount + OFF(mount_parent));
	return link;
}

/* The file behind a descriptor of the current process; NO_PATH if there is none. */
static __always_inline struct path_ref path_of_fd(void *task, int fd)
{
	void *fdt = (void *)load((void *)load(task, OFF(task_files)), OFF(files_fdt));

	if (!ENABLED(FEATURE_NAMES) || fd < 0 || (__u32)fd >= load32(fdt, OFF(fdt_max_fds)))
		return (struct path_ref){};
	void *file = (void *)peek((void *)load(fdt, OFF(fdt_fd)), (__u32)fd * sizeof(void *));

	if (!file)
		return (struct path_ref){};
	return path_ref_at(file + OFF(file_path));
}

/* ---- mappings: only where kernel memory can be read ---- */

/* Mappings are in a maple tree since Linux 6.1: d4af56c5c7c6, "mm: start tracking VMAs with maple tree", and 763ecb035029,
 * "mm: remove the vma linked list". The low byte of a pointer to a node says which type the node has (lib/maple_tree.c). */
#define MAPLE_NODE_MASK 0xffULL
#define MAPLE_TYPE(node) ((node) >> 3 & 0xf)
#define MAPLE_LEAF 1
#define MAPLE_ALLOCATION_RANGE 3
#define MAPLE_PIVOTS 15
#define MAPLE_ALLOCATION_PIVOTS 9
#define MAPLE_DEPTH 4 /* of 10 to 16 children each */

/* The mapping at an address. The search takes the child behind the first pivot that is not below the address, down to a leaf.
 * A pivot of zero ends the pivots. */
static __always_inline __u64 find_in_maple_tree(__u64 node, __u64 address)
{
	__u64 entry = 0;

	for (int depth = 0; depth < MAPLE_DEPTH; depth++) {
		__u64 base = node & ~MAPLE_NODE_MASK, type = MAPLE_TYPE(node);
		__u64 is_range = ~equal(type, MAPLE_ALLOCATION_RANGE), index = 0;
		__u64 pivots = select(is_range, OFF(maple_pivots), OFF(maple_apivots));
		__u64 slots = select(is_range, OFF(maple_slots), OFF(maple_aslots));
		__u64 pivot[MAPLE_PIVOTS] = {};

		bpf_probe_read_kernel(pivot, sizeof(pivot), (void *)base + pivots);
#pragma unroll
		for (int i = 0; i < MAPLE_PIVOTS; i++) {
			__u64 counts = i < MAPLE_ALLOCATION_PIVOTS ? ~0ULL : is_range;

			index += below(pivot[i], address) & ~equal(pivot[i], 0) & counts & 1;
		}
		node = peek((void *)base, slots + index * 8);
		entry = select(equal(type, MAPLE_LEAF) & equal(entry, 0), node, entry);
	}
	return entry;
}

/* The file of a mapping. */
static __always_inline struct path_ref file_of_mapping(__u64 mapping)
{
	void *file = (void *)peek((void *)mapping, OFF(vma_file));

	if (!file)
		return (struct path_ref){};
	/* An overlay maps the file of the layer below, and keeps its own path next to it since Linux 6.7: def3ae83da02, "fs: store
	 * real path instead of fake path in backing file f_path". */
	if (HAS(backing_path) && peek(file, OFF(file_mode)) & config.mode_backing)
		return path_ref_at(file + OFF(backing_path));
	return path_ref_at(file + OFF(file_path));
}

#define LIST_MAPPINGS 32 /* A new program has fewer. */

/* The file that is mapped at an address of a process that has just begun. */
static __always_inline struct path_ref mapped_file(void *mm, __u64 address)
{
	__u64 mapping = 0;

	if (HAS(mm_mt)) {
		mapping = find_in_maple_tree(peek(mm, OFF(mm_mt) + OFF(maple_root)), address);
	} else if (HAS(mm_mmap)) {
		mapping = peek(mm, OFF(mm_mmap));
		for (int i = 0; i < LIST_MAPPINGS; i++)
			mapping = select(below(address, peek((void *)mapping, OFF(vma_end))), mapping,
					 peek((void *)mapping, OFF(vma_next)));
	}
	return file_of_mapping(mapping);
}

/* The bit of a 32-bit system call, whose number is of another table. On x86-64 it is TS_COMPAT of thread_info.status, which is
 * set while the call runs. On arm64 it is TIF_32BIT of thread_info.flags, which belongs to the process. */
#if defined(__TARGET_ARCH_x86)
#define COMPAT_BIT 1
#else
#define COMPAT_BIT 22
#endif

/* Returns 1 in a 32-bit system call, else 0. */
static __always_inline __u64 is_compat(void *task)
{
	return load32(task, OFF(task_status)) >> COMPAT_BIT & 1;
}

#endif
