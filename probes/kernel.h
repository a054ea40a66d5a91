/* Reads of the kernel's structures. Every member is found through the table of offsets that user
 * space made from the running kernel's type information (BTF).
 *
 * There are two ways to read. A pointer that the verifier has a type for (the task, what hangs off
 * it) takes a plain load: one instruction, not subject to lockdown=confidentiality, and a bad pointer
 * reads as zero. Any other pointer goes through bpf_probe_read_kernel (Linux 5.5). Typed pointers
 * to the current task exist since 5.11; `config.typed` says whether to rely on them. */
#ifndef SNOOP_KERNEL_H
#define SNOOP_KERNEL_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

/* For kernels before 5.10 this source is compiled once more, with SNOOP_LEGACY: plain raw tracepoints only, the one
 * kind of read that Linux 5.4 has (for the kernel's memory and the process's), a perf buffer (output.h). The verifier
 * there does not take read-only data as constants. */
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

/* A verifier before Linux 5.10 forgets the bounds of a number that the compiler keeps on the stack for a while
 * (5689d49b71ad, "bpf: Track spill/fill of bounded scalars"), or in another register than the one that was compared
 * (75748837b7e5, "bpf: Propagate scalar ranges through register assignments").
 *
 * within() is for a number that has no bit outside the mask; it shows this to the verifier where it is used.
 * keep_address() makes the compiler keep the address of an array's element, whose bounds the verifier does not forget,
 * and not work it out again from the index. */
#ifdef SNOOP_LEGACY
#define within(mask, value) ({ __u64 number = (value); barrier_var(number); number & (mask); })
#define keep_address(pointer) barrier_var(pointer)
#else
#define within(mask, value) (value)
#define keep_address(pointer) (void)(pointer)
#endif

/* The verifier follows both ways of every branch, and in a long loop it soon forgets where they met
 * before. Such loops therefore have no branch but their end: they compute all cases of a step and
 * select by masks. */

/* All ones if the two are equal, else 0. */
static __always_inline __u64 equal(__u64 a, __u64 b)
{
	__u64 differ = a ^ b, mask;

	/* Without these the compiler sees through it and makes branches after all. */
	differ |= -differ;
	barrier_var(differ);
	mask = (differ >> 63) - 1;
	barrier_var(mask);
	return mask;
}

/* All ones if `a` is the lower one, else 0: the borrow of a - b. */
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

/* Is all of it there? The verifier does not look at what cannot be reached, so that a helper which is not allowed does
 * no harm behind this. */
#define ENABLED(abilities) ((config.features & (abilities)) == (abilities))

#define OFF(member) (config.off.member)
#define HAS(member) (OFF(member) != OFFSET_NONE)

/* A pointer or long at `p + off` for a `p` without a type; 0 where it cannot be read. */
static __always_inline __u64 peek(const void *p, __u32 off)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), p + off);
	return value;
}

/* The same for a `p` with a type, as far as the kernel has types. */
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

/* The same in two loads, for a union whose first member has the halves apart: the verifier of Linux
 * 6.1 looks at that one only. */
static __always_inline __u64 load_halves(const void *p, __u32 off)
{
	return load32(p, off) | (__u64)load32(p, off + 4) << 32;
}

/* Copies a path of the process; returns its length without the NUL, or less than 0 if it cannot be
 * read. Before Linux 6.13 the helper answers 0 for an empty string, not 1. */
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

/* A directory or file: what the kernel calls a struct path. Plain numbers, so that it can be kept
 * in a map; nothing pins what they point to. */
struct path_ref {
	__u64 mnt;
	__u64 dentry;
};

#define NO_PATH ((struct path_ref){})

/* `path` is the address of a struct path, without a type. Its two members stand side by side in every kernel so far
 * (user space makes sure), so that one read gets both. */
static __always_inline struct path_ref path_ref_at(const void *path)
{
	struct path_ref ref = {};

	if (ENABLED(FEATURE_NAMES))
		bpf_probe_read_kernel(&ref, sizeof(ref), path + OFF(path_mnt));
	return ref;
}

/* How a dentry hangs in the tree. d_parent and d_name stand side by side, like the above. */
struct dentry_link {
	__u64 parent;
	__u64 hash_len; /* of the name: its length in the upper half */
	__u64 name;
};

static __always_inline struct dentry_link link_of(const void *dentry)
{
	struct dentry_link link = {};

	bpf_probe_read_kernel(&link, sizeof(link), dentry + OFF(dentry_parent));
	return link;
}

/* How a mount hangs in the tree of mounts. Side by side in every kernel so far, like the above. */
struct mount_link {
	__u64 parent;
	__u64 mountpoint;
	__u64 root; /* the first member of the vfsmount */
};

static __always_inline struct mount_link mount_link_of(__u64 mount)
{
	struct mount_link link = {};

	bpf_probe_read_kernel(&link, sizeof(link), (void *)mount + OFF(mount_parent));
	return link;
}

/* The file behind a descriptor of the current process; no dentry if there is none. */
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

/* lib/maple_tree.c: the low byte of a pointer to a node says of what type that is. */
#define MAPLE_NODE_MASK 0xffULL
#define MAPLE_TYPE(node) ((node) >> 3 & 0xf)
#define MAPLE_LEAF 1
#define MAPLE_ALLOCATION_RANGE 3
#define MAPLE_PIVOTS 15
#define MAPLE_ALLOCATION_PIVOTS 9
#define MAPLE_DEPTH 4 /* of 10 to 16 children each */

/* The mapping at an address: the child behind the first pivot that is not below the address, down to a
 * leaf. A pivot of zero ends the pivots. */
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
	/* Overlays map the file of the layer below, and keep the path of their own beside it. */
	if (HAS(backing_path) && peek(file, OFF(file_mode)) & config.mode_backing)
		return path_ref_at(file + OFF(backing_path));
	return path_ref_at(file + OFF(file_path));
}

#define LIST_MAPPINGS 32 /* a new program has fewer */

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

/* A 32-bit call has its number from another table: 1 or 0. x86-64: TS_COMPAT of thread_info.status, set while it
 * runs. arm64: TIF_32BIT of thread_info.flags, of the process. */
#if defined(__TARGET_ARCH_x86)
#define COMPAT_BIT 1
#else
#define COMPAT_BIT 22
#endif

static __always_inline __u64 is_compat(void *task)
{
	return load32(task, OFF(task_status)) >> COMPAT_BIT & 1;
}

#endif
