/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory that a hook works in. It holds the access that the hook has seen, its record in the making, and how far the
 * walk over directories has come. */
#ifndef SNOOP_SCRATCH_H
#define SNOOP_SCRATCH_H

#include "kernel.h"
#include "map.h"

/* Where the path of an access starts. */
enum start {
	START_ROOT, /* the process's root directory: the path is absolute */
	START_PWD,  /* the process's working directory */
	START_DIR,  /* access.dir: a descriptor's directory, or where the process was before the call moved it */
};

/* Where the programs find the file that an access led to. */
enum real_from {
	REAL_UNKNOWN,   /* nowhere: the call does not tell */
	REAL_FROM_FD,   /* behind the descriptor that the call returned */
	REAL_FROM_PWD,  /* in the process's working directory, which the call has changed */
	REAL_FROM_ROOT, /* in the process's root directory, which the call has changed */
	REAL_FROM_HOOK, /* in access.real: the hook had it */
};

/* What is known about an access, besides the string in scratch.data. */
struct access {
	__u32 row;
	__u32 flags;          /* enum record_flag */
	__u32 start;          /* enum start */
	__u32 real_from;      /* enum real_from */
	struct path_ref dir;  /* for START_DIR */
	struct path_ref real; /* for REAL_FROM_HOOK */
	__u64 request;        /* for RECORD_PENDING */
	__u32 how;            /* flags that decide what the path leads to */
	__u32 kinds;          /* enum access_kind */
	__u32 rebinds;        /* success may make a name lead to another file */
	__u32 executes;       /* the kernel opens a file to execute it, and the process is not yet what it becomes */
	__u32 pivots;         /* the paths are those of the root directory before the call */
	__u32 len;            /* of the string, without its NUL */
	__s32 result;
};

/* linux/openat2.h, and flags of open(2) and open_tree(2). */
#define RESOLVE_IN_ROOT 0x10
#define OPEN_HOW_RESOLVE 16 /* where struct open_how has its third member */
#define AT_SYMLINK_NOFOLLOW 0x100
#if defined(__TARGET_ARCH_arm64)
#define O_NOFOLLOW 0100000
#else
#define O_NOFOLLOW 0400000
#endif

/* The flags of an open that decide what a path leads to. */
static __always_inline __u32 how_of(__u64 flags, __u64 resolve)
{
	return (flags & (O_NOFOLLOW | AT_SYMLINK_NOFOLLOW)) | (resolve & 0xff);
}

/* Flags of open(2) that have the same values on both architectures. */
#define O_ACCMODE 3
#define O_CREAT 0100
#define O_TRUNC 01000
#define O_PATH 010000000

/* How an open with these flags uses the file: enum access_kind. */
static __always_inline __u32 kinds_of_open(__u64 flags)
{
	/* O_RDONLY, O_WRONLY and O_RDWR are 0, 1 and 2. Linux also has 3, for ioctl(2) alone. */
	__u32 kinds = ((flags + 1) & O_ACCMODE) * KIND_READ;

	if (flags & (O_CREAT | O_TRUNC))
		kinds |= KIND_WRITTEN;
	return flags & O_PATH || !kinds ? KIND_LOOKED_AT : kinds;
}

/* Where the walk over directories is. This is kept in memory and not in registers, because the verifier follows every
 * value of a register separately, but forgets what was stored. */
struct walk {
	__u64 mnt;
	__u64 dentry;
	__u64 root;  /* the root directory of the mount namespace, by its dentry, once a part has ended */
	__u64 cover; /* the root of the first mount that was entered since the last name; 0 behind a name */
	__u32 part;
	__u32 at;    /* where the data ends */
	__u32 start; /* where the part's data begins */
	__u32 mount; /* where in its part the name of the mount point begins */
};

#ifdef SNOOP_RESOLVER
/* The hooks of the resolver can be preempted, and each has a slot of its own. The kernel does not run a program again on a CPU
 * where it has not ended yet. */
enum slot {
	OPEN_SCRATCH,
	LOOKUP_SCRATCH,
	PARENT_SCRATCH,
	HANDLE_SCRATCH,
	MAPPED_SCRATCH,
	CGROUP_SCRATCH,
	ITER_SCRATCH,
	SLOTS,
};
#else
/* A call has up to two paths, and each of them is an access with a slot of its own. */
#define SCRATCH_SLOTS 2
#define CGROUP_SCRATCH 0
/* The iterators run with preemption on, and have a slot that no hook uses. */
#define ITER_SCRATCH SCRATCH_SLOTS
#define SLOTS (SCRATCH_SLOTS + 1)
#endif

struct scratch {
	struct record head;
	__u8 data[DATA_MAX + NAME_MAX_BYTES + 1];
	struct path_ref todo[PARTS]; /* the directories and files whose names the walk appends to the data */
	struct access access;
	struct verdict verdict;
	struct walk walk;
	__u64 number;  /* see number_of() */
	__u32 queued;  /* in the first slot: a bit for each slot whose access waits for dedup() */
	__u32 to_send; /* in the first slot: a bit for each slot whose access waits for send_next() */
	__u32 rounds;  /* of the walk; 0 before it has begun */
};

/* Slot -> scratch memory, per CPU. A record is too large for the stack of 512 bytes. The hooks at tracepoints run with preemption
 * off, and none runs in interrupts, so that one set for each CPU is enough. The map cannot be full: it is an array. */
MAP(scratch) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct scratch), SLOTS, 0 };

static __always_inline struct scratch *scratch_slot(__u32 index)
{
	return bpf_map_lookup_elem(&scratch, &index);
}

#endif
