/* SPDX-License-Identifier: GPL-2.0-only */
/* The contract between the programs in this folder and user space.
 *
 * src/bpf/wire.rs mirrors this file. Both sides assert the layout, and tests/wire.rs compares the two through the type
 * information of the compiled object. All numbers are in the machine's byte order. */
#ifndef SNOOP_WIRE_H
#define SNOOP_WIRE_H

#include <linux/types.h>

/* ---- what user space tells the programs, once, before they are loaded ---- */

#define SYSCALL_NUMBERS 512 /* the numbers that the table covers; Linux 6.17 uses them up to 469 */
#define EXCLUDES 8          /* the prefixes that the programs test; user space tests all of them again */
#define EXCLUDE_WORDS 4     /* of 8 bytes each; longer prefixes are left to user space */

/* No argument, where the index of one is expected. */
#define ARG_NONE 0xff

enum row_kind {
	ROW_PLAIN = 0,
	ROW_OPENS = 1 << 0,  /* the result is a descriptor of the opened file */
	ROW_CHDIR = 1 << 1,  /* success has replaced the working directory */
	ROW_CHROOT = 1 << 2, /* success has replaced the root directory */
	ROW_EXEC = 1 << 3,   /* success replaces the program: sched_process_exec() makes the accesses */
	ROW_HOW = 1 << 4,    /* the third argument is a struct open_how */
	ROW_ELF_INTERP = 1 << 5, /* the call takes no path, but every ELF interpreter makes it soon after exec */
	ROW_SELF = 1 << 6,    /* snoop's own call, if it carries the cookie */
	ROW_UNTRACED = 1 << 7, /* success begins something that cannot be traced on this kernel */
	ROW_ADDRESS = 1 << 8, /* the path is in a struct sockaddr, whose length is the next argument */
	ROW_MESSAGE = 1 << 9, /* the path is in a struct sockaddr, to which a struct msghdr points */
	ROW_SOCKETCALL = 1 << 10, /* such an address is in the arguments of socketcall(2), a call of 32-bit programs */
	ROW_REBINDS = 1 << 11, /* success may make a name lead to another file */
	ROW_LINK = 1 << 12,    /* fails with EINVAL where the file is there and not a symlink */
	ROW_PIVOT = 1 << 13,   /* success replaces the root directory of the mount namespace */
	ROW_WRITES = 1 << 14,  /* success makes, changes or removes what the path names */
	ROW_FLAGS = 1 << 15,   /* the argument behind the path has the flags of open(2) */
};

/* How a file was used. A file can be used in several ways. */
enum access_kind {
	KIND_LOOKED_AT = 1 << 0,
	KIND_READ = 1 << 1,     /* opened for reading */
	KIND_WRITTEN = 1 << 2,  /* opened for writing, made, changed or removed */
	KIND_EXECUTED = 1 << 3,
	KIND_MAPPED = 1 << 4,   /* mapped as a program or as a library */
};

/* One syscall: which of its arguments are paths, and which argument is the descriptor that each path is relative to. Without
 * a descriptor a path is relative to the working directory. In a row with ROW_ELF_INTERP, a descriptor without a path is that
 * of a file that the call maps. `id` is the row in `counts`; 0 means that the programs ignore this syscall. */
struct row {
	__u8 path[2];
	__u8 dir[2];
	__u16 kind;
	__u16 id;
};

/* A request of io_uring: the offset of each path in it, which is a pointer to a struct filename, and the offset of the
 * descriptor that the path is relative to. `id` is the row in `counts`; 0 means that the request takes no path. */
struct request {
	__u8 path[2];
	__u8 dir[2];
	__u8 how;  /* where it has a struct open_how; 0 means that it has none */
	__u8 kind; /* ROW_REBINDS and ROW_WRITES, shifted by REQUEST_KIND_SHIFT */
	__u16 id;
};

#define REQUEST_KIND_SHIFT 8

#define REQUESTS 64 /* the opcodes that the table covers; Linux 6.18 has 63 */

/* A prefix in words. A path begins with it if (text ^ word) & mask is zero for each word. */
struct exclude {
	__u64 word[EXCLUDE_WORDS];
	__u64 mask[EXCLUDE_WORDS];
};

/* The kernel does not have this member. */
#define OFFSET_NONE 0xffffffff

/* The offsets of members of the kernel's structures, in bytes. src/bpf/offsets.rs says which members they are. */
struct offsets {
	__u32 regs_arg[6];
	__u32 regs_arg32[6]; /* in a 32-bit call */
	__u32 regs_nr;
	__u32 task_status; /* see is_compat() */
	__u32 task_fs;
	__u32 task_files;
	__u32 task_mm;
	__u32 task_nsproxy;
	__u32 task_cgroups;
	__u32 task_parent;
	__u32 task_tgid;
	__u32 task_leader;
	__u32 task_start;
	__u32 fs_root;
	__u32 fs_pwd;
	__u32 path_mnt;
	__u32 path_dentry;
	__u32 dentry_parent;
	__u32 dentry_name;
	__u32 dentry_inode;
	__u32 dentry_sb;
	__u32 dentry_hash;
	__u32 qstr_hash_len;
	__u32 qstr_name;
	__u32 vfsmount_root;
	__u32 mount_mnt;
	__u32 mount_parent;
	__u32 mount_mountpoint;
	__u32 mount_ns;
	__u32 nsproxy_mnt_ns;
	__u32 files_fdt;
	__u32 fdt_fd;
	__u32 fdt_max_fds;
	__u32 file_path;
	__u32 file_mode;
	__u32 backing_path; /* since Linux 6.7, see file_of_mapping() */
	__u32 inode_mode;
	__u32 sb_magic;
	__u32 sb_type;
	__u32 fs_type_name;
	__u32 mm_exe_file;
	__u32 mm_saved_auxv;
	__u32 mm_mt;   /* the maple tree of mappings since Linux 6.1 */
	__u32 mm_mmap; /* the list of mappings before Linux 6.1 */
	__u32 vma_file;
	__u32 vma_end;
	__u32 vma_next;
	__u32 maple_root;
	__u32 maple_pivots;  /* in a leaf or range node, like maple_slots */
	__u32 maple_slots;
	__u32 maple_apivots; /* in an allocation range node, like maple_aslots */
	__u32 maple_aslots;
	__u32 bprm_filename;
	__u32 bprm_interp;
	__u32 task_cg_list; /* from here to cgroup_domains: for list.h; this one is OFFSET_NONE if any of them is missing */
	__u32 css_set_tasks;
	__u32 cgroup_self;
	__u32 css_parent;
	__u32 css_children;
	__u32 css_sibling;
	__u32 cgroup_cset_links;
	__u32 cset_link_node;
	__u32 cset_link_cset;
	__u32 cgroup_csets;
	__u32 cgroup_domains;
	__u32 css_set_dfl_cgrp;
	__u32 cgroup_kn;
	__u32 kernfs_id;
	__u32 kernfs_parent;
	__u32 kernfs_name;
	__u32 filename_name;
	__u32 open_flag;
	__u32 lookup_flags;
	__u32 nameidata_name;
	__u32 nameidata_dfd;
	__u32 request_opcode; /* OFFSET_NONE, like request_result, where io_uring cannot be traced */
	__u32 request_result;
	__u32 request_flags; /* OFFSET_NONE before Linux 5.17 */
};

/* What the programs can do on this kernel. The report lists what they cannot do. */
enum feature {
	FEATURE_KERNEL_MEMORY = 1 << 0, /* read the kernel's memory, which lockdown=confidentiality forbids */
	FEATURE_PATHS = 1 << 1,         /* find the names of directories and files */
	FEATURE_ELF_INTERP = 1 << 2,    /* find the ELF interpreter of a new program */
};

#define FEATURE_NAMES (FEATURE_KERNEL_MEMORY | FEATURE_PATHS)

/* User space writes this and freezes the map before it loads the programs, so that the verifier takes it as constants. */
struct config {
	struct row table[2 * SYSCALL_NUMBERS]; /* first by the numbers of 64-bit calls, then by those of 32-bit calls */
	struct request request[REQUESTS];
	struct exclude exclude[EXCLUDES];
	__u64 seed;   /* random, so that nobody can predict the keys in `known` */
	__u64 cookie; /* random, so that the programs recognise snoop's own call */
	struct offsets off;
	__u32 typed;   /* 1 if the current task has a type, and is read by plain loads */
	__u16 exec_id; /* like the next three, a row of `counts` for what is no syscall */
	__u16 script_interp_id;
	__u16 elf_interp_id;
	__u16 late_id;
	__u32 mode_backing; /* FMODE_BACKING of file.f_mode, another bit since Linux 6.14 */
	__u32 features; /* enum feature */
	__u16 other_id; /* a row of `counts` for names that no system call of the table looks up */
	__u16 plain_loads; /* 1 if plain loads read any address of the kernel; see kernel.h */
	__u32 known_bits; /* how many bits of a key choose its bucket in `known` */
	__u32 pad;
};

/* No helper has this number. The loader replaces its calls by calls of the kernel's bpf_rdonly_cast(). */
#define RDONLY_CAST 0x534e

/* How many containers have a number: twice as many as a node has by far, so that nearly all find one at once. Those that find
 * no number share the last one. A value of a per-CPU map has 32 KiB at most, and struct counts needs 26 KiB. */
#define CONTAINERS 2048
/* How many numbers are tried for a container, from its id on. */
#define NUMBERS_TRIED 16

/* ---- what user space may change while the programs run ---- */

struct control {
	__u32 generation; /* a verdict of another generation is void: the traced cgroups changed */
	__u32 epoch;      /* counts up every EPOCH_SECONDS, from 1; it ages the entries of `known` */
	__u64 attached;   /* when tracing began, by the monotonic clock in nanoseconds */
	__u64 listed;     /* the cgroup above snoop's own whose children list_children() lists, by its id */
};

/* A known access is sent again once its entry is this many epochs old, because its path may mean another file by then. */
#define KNOWN_EPOCHS 5
#define EPOCH_SECONDS 60

/* ---- what the programs count, per CPU ---- */

enum outcome {
	OUTCOME_FAILED,     /* the call returned an error */
	OUTCOME_EXCLUDED,   /* the path is excluded, or the process is a container runtime's */
	OUTCOME_DUPLICATE,  /* the access is known; nothing was sent */
	OUTCOME_SUBMITTED,  /* a record was sent */
	OUTCOME_FULL,       /* lost: the ring buffer had no room */
	OUTCOME_UNREADABLE, /* lost: the path could not be read from the process */
	OUTCOME_UNTRACED,   /* lost: a ring of io_uring, on a kernel where requests cannot be traced */
	OUTCOME_TOO_LONG,   /* lost: a record has no room for the depth of a directory or the length of a path */
	OUTCOME_PREEMPTED,  /* lost: the kernel skipped a program; user space counts these */
	OUTCOMES,
};

#define ROWS 160 /* row 0 is for records that are not accesses; a record has room for 256 */

/* These counters only grow. User space remembers what it has read before. */
struct counts {
	__u64 of[ROWS][OUTCOMES];
	__u64 events[CONTAINERS]; /* of each container, by its number */
	__u64 displaced;          /* keys that left `known` before their time, because their bucket was full */
};

/* The programs that a hook's program goes on with; see pipeline.h. */
enum tail {
	TAIL_DEDUP,
	TAIL_SEND,
	TAILS,
};

/* ---- whose accesses count ---- */

#define CGROUP_DEPTH 24       /* the levels of cgroups that are looked at; a container is on level 5 or so */
#define CGROUP_NAME_BYTES 256 /* NAME_MAX, with the NUL */
#define TARGETS 4096 /* containers of a node that a filter excludes are targets too */

/* What a cgroup means that user space names. The nearest one above a process decides. */
enum target {
	TARGET_PROCESSES = 1, /* everything in it and below it counts as one container */
	TARGET_CONTAINER = 2, /* it is a container, in which a container runtime's accesses do not count */
	TARGET_POD = 3,       /* each cgroup in it is a container, as above */
	TARGET_IGNORED = 4,   /* nothing in it counts */
	TARGET_PARENT = 5,    /* each cgroup in it that a container runtime named is a container, as above;
				 everything else in it counts as one container */
	TARGET_NODE = 6,      /* each cgroup below it, at any depth, that a container runtime named is a container, as above;
				 nothing else in it counts */
};

/* What is known about a cgroup: the container that it belongs to (0 if none), and the number of that container. */
struct verdict {
	__u64 cgroup;
	__u64 container;
	__u16 number;
	__u16 has_runtime; /* a container runtime works in the container too */
	__u32 generation;
};

/* A container by its number. */
struct container {
	__u64 id;    /* of its cgroup */
	__u32 path_sent; /* a record has brought the path of its cgroup to user space */
	__u32 pad;
	__u64 mntns; /* the mount namespace of its first process; 0 until that has made an access */
	__u64 root;  /* the root directory of that namespace, by its dentry */
};

/* A cgroup by its parent's id and its name. */
struct cgroup_path {
	__u64 parent;
	char name[CGROUP_NAME_BYTES];
};

/* What a cgroup becomes when it is created: a target, or, if `target` is 0, the parent of the next one that is expected. */
struct expected {
	__u32 target; /* enum target */
	__u32 next;   /* index in `expected_below` */
};

/* A cgroup that is expected below one that does not exist yet. */
struct expected_below {
	struct expected then;
	char name[CGROUP_NAME_BYTES];
};

#define EXPECTED_BELOW 64

#define LISTED_CHILDREN 512 /* the most children of one cgroup that are listed; see list.h */

/* What the programs write when snoop makes its own call; see self.h. */
struct self {
	__u64 now; /* the time of the last such call, by the monotonic clock in nanoseconds */
	__u32 tgid;  /* of snoop, in the first pid namespace */
	__u32 listed; /* list_children() found the child that it was asked for */
	__u64 runtime; /* the mount namespace that snoop was started from, or snoop's own */
	__u64 ns;      /* snoop's own mount namespace */
	__u64 id[CGROUP_DEPTH]; /* snoop's cgroup and those above it; 0 above the root */
	char name[CGROUP_DEPTH][CGROUP_NAME_BYTES];
};

/* ---- what the programs send: a header, then the bytes of the parts one after the other ---- */

enum part {
	PART_REQUESTED, /* the path as the program gave it, without its NUL */
	PART_BASE,  /* the directory that a relative path starts from */
	PART_ROOT,  /* the process's root directory */
	PART_REAL,  /* the file that was opened or executed */
	PARTS,
};

/* Each part but the first consists of names from the leaf up, each followed by a slash: "b/a/" is /a/b. */

enum record_flag {
	RECORD_HAS_BASE = 1 << 0, /* there is a base part; a relative path without one starts somewhere unknown */
	RECORD_HAS_REAL = 1 << 1, /* there is a real part */
	RECORD_IN_BASE = 1 << 2,  /* the base serves as the root directory too (RESOLVE_IN_ROOT) */
	RECORD_CHDIR = 1 << 3,    /* a change of directory: the real part is where it led */
	RECORD_REAL_ONLY = 1 << 4, /* there is no usable requested path: only the real part counts */
	RECORD_CGROUP_CREATED = 1 << 5, /* this is not an access: the cgroup was created */
	RECORD_CGROUP_REMOVED = 1 << 6, /* this is not an access: the cgroup was removed */
	RECORD_LATE = 1 << 7, /* the process is older than the tracing */
	RECORD_PENDING = 1 << 8, /* the result is not known; RECORD_COMPLETE with the same key may bring it */
	RECORD_COMPLETE = 1 << 9, /* this is not an access: it brings the result of a pending one */
	RECORD_OWN_VIEW = 1 << 10, /* the process is in snoop's own mount namespace, and in no chroot */
	RECORD_OTHER_MNTNS = 1 << 11, /* by a process in another mount namespace than the container's first process */
	RECORD_OTHER_ROOT = 1 << 12,  /* by one whose namespace has another root directory: the names are not the container's */
	RECORD_IN_REAL = 1 << 13, /* the real part is the directory that holds the last name of the requested path */
	RECORD_BASE_REMOVED = 1 << 14, /* the directory that the path is relative to was removed */
	RECORD_NO_ROOT = 1 << 15, /* the process's root directory has no name in its mount namespace */
};

/* The name of a file system's type, as mount(8) shows it. A longer one is cut. */
#define FS_NAME_BYTES 16

struct record {
	__u64 container; /* id of the traced cgroup */
	__u64 key;       /* of the access, in `known` */
	__u64 time;      /* by the monotonic clock in nanoseconds */
	__s32 result;
	__u32 pid;
	__u8 row;
	__u8 kinds; /* enum access_kind */
	__u16 flags;
	__u16 len[PARTS];
	__u16 mount; /* where in the real part the name of the mount point begins that the file lies on */
	__u16 cgroup; /* the length of what follows the parts: the names of the container's cgroup, if they were not sent yet */
	char fs[FS_NAME_BYTES]; /* the file system that is mounted there; empty without a real part */
};

#define PATH_MAX_BYTES 4096 /* PATH_MAX, with the NUL */
#define NAME_MAX_BYTES 255
#define DATA_MAX 16384 /* four parts of PATH_MAX bytes, and a power of two; the data of a record is shorter */

/* 4 MiB hold 20,000 records of 200 bytes: 8 bytes of the ring's own header, 64 of struct record, the rest path and real path.
 * One core that opens new files as fast as it can produces that many in 40 ms. */
#define RING_BYTES (4 << 20)

/* Records wait in the ring for a moment so that user space takes many at once. A record that makes the ring this full wakes
 * user space up at once. */
#define RING_URGENT (RING_BYTES / 4)

/* The set of known accesses. A bucket has the size of a cache line, and 2^15 buckets of 8 keys are 262,144 keys in 2 MiB. User
 * space may make the map larger. */
#define KNOWN_BITS 15
#define KNOWN_WAYS 8

struct bucket {
	__u64 slot[KNOWN_WAYS]; /* 48 bits of a key and 16 bits of an epoch; 0 is empty */
};

_Static_assert(sizeof(struct row) == 8, "one load per row");
_Static_assert(sizeof(struct record) == 64, "no hidden padding");
_Static_assert(ROWS <= 256, "a record has one byte for the row");
_Static_assert(sizeof(struct bucket) == 64, "one cache line");
_Static_assert(sizeof(struct config) % 8 == 0, "no hidden padding");

#endif
