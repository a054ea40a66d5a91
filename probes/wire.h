/* The contract between the programs in this folder and user space.
 *
 * src/bpf/wire.rs mirrors this file; both sides assert the layout, and a test compares the two through
 * the type information of the compiled object. All numbers are in the machine's byte order. */
#ifndef SNOOP_WIRE_H
#define SNOOP_WIRE_H

#include <linux/types.h>

/* ---- what user space tells the programs, once, before they are loaded ---- */

#define SYSCALL_NUMBERS 512 /* numbers the table covers; the highest in use is 469 (Linux 6.17) */
#define EXCLUDES 8   /* prefixes tested in the kernel; user space tests all of them again */
#define EXCLUDE_WORDS 4 /* of 8 bytes: longer prefixes are left to user space */

/* An argument's index, or none. */
#define ARG_NONE 0xff

enum row_kind {
	ROW_PLAIN = 0,
	ROW_OPENS = 1 << 0,  /* the result is a descriptor of the opened file */
	ROW_CHDIR = 1 << 1,  /* success has replaced the working directory */
	ROW_CHROOT = 1 << 2, /* success has replaced the root directory */
	ROW_EXEC = 1 << 3,   /* success replaces the process: see the exec hook */
	ROW_HOW = 1 << 4,    /* the third argument is a struct open_how */
	ROW_ELF_INTERP = 1 << 5, /* takes no path, but shows that the dynamic loader runs */
	ROW_SELF = 1 << 6,    /* snoop's own call, if it carries the cookie */
	ROW_UNTRACED = 1 << 7, /* success begins something that cannot be traced on this kernel */
	ROW_ADDRESS = 1 << 8, /* the path is in a struct sockaddr, whose length is the next argument */
	ROW_MESSAGE = 1 << 9, /* the same in a struct msghdr */
	ROW_SOCKETCALL = 1 << 10, /* the same in the arguments that socketcall(2) of 32-bit programs takes */
};

/* One syscall. Both paths are relative to their own dir: a descriptor argument, or the working
 * directory. `id` is the row's place in `counts`; 0 means "takes no path, not our business". */
struct row {
	__u8 path[2];
	__u8 dir[2];
	__u16 kind;
	__u16 id;
};

/* A request of io_uring: where in it (bytes) each path is, as a pointer to a struct filename, and the descriptor
 * of the directory it is relative to. `id` is the row in `counts`; 0 means "takes no path". */
struct request {
	__u8 path[2];
	__u8 dir[2];
	__u16 pad;
	__u16 id;
};

#define REQUESTS 64 /* opcodes; Linux 6.18 has 63 */

/* A prefix as words: it matches where (text ^ word) & mask is zero in all of them. */
struct exclude {
	__u64 word[EXCLUDE_WORDS];
	__u64 mask[EXCLUDE_WORDS];
};

#define OFFSET_NONE 0xffffffff

/* Where the members of the kernel's structures are, in bytes. */
struct offsets {
	__u32 regs_nr;
	__u32 regs_arg[6];
	__u32 regs_arg32[6]; /* of a 32-bit call */
	__u32 task_fs;
	__u32 task_files;
	__u32 task_mm;
	__u32 task_nsproxy;
	__u32 task_cgroups;
	__u32 task_parent;
	__u32 task_tgid;
	__u32 task_leader;
	__u32 task_start;
	__u32 task_status; /* has the bit of 32-bit calls: see is_compat() */
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
	__u32 backing_path; /* of a file that stands for one of an overlay (since 6.6) */
	__u32 inode_mode;
	__u32 sb_magic;
	__u32 sb_type;
	__u32 fs_type_name;
	__u32 mm_exe_file;
	__u32 mm_saved_auxv;
	__u32 mm_mt;   /* the mappings as a maple tree (since 6.1) … */
	__u32 mm_mmap; /* … or as a list (before); OFFSET_NONE is "not in this kernel" */
	__u32 vma_file;
	__u32 vma_end;
	__u32 vma_next;
	__u32 maple_root;
	__u32 maple_pivots;  /* of a leaf or range node */
	__u32 maple_slots;
	__u32 maple_apivots; /* of an allocation range node */
	__u32 maple_aslots;
	__u32 bprm_filename;
	__u32 bprm_interp;
	__u32 task_cg_list; /* for list.h, like those up to cgroup_domains; OFFSET_NONE if one of them is missing */
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
	__u32 request_opcode; /* of io_uring; OFFSET_NONE if it cannot be traced */
	__u32 request_result;
};

/* What this kernel allows, or has in a place that is known. What is missing is said in the report. */
enum feature {
	FEATURE_KERNEL_MEMORY = 1 << 0,   /* to read the kernel's memory: not with lockdown=confidentiality */
	FEATURE_PATHS = 1 << 1,  /* to find the names of directories and files */
	FEATURE_ELF_INTERP = 1 << 2, /* to find a new program's loader */
};

#define FEATURE_NAMES (FEATURE_KERNEL_MEMORY | FEATURE_PATHS)

/* Read-only and frozen before the programs are loaded: the verifier takes it as constants. */
struct config {
	struct row table[2 * SYSCALL_NUMBERS]; /* the second half is of 32-bit calls, whose numbers are others */
	struct request request[REQUESTS];
	struct exclude exclude[EXCLUDES];
	__u64 seed;   /* makes the keys of `seen` unpredictable */
	__u64 cookie; /* by which the programs know snoop's own call */
	struct offsets off;
	__u32 typed;   /* 1: pointers of the current task carry types and are read by plain loads */
	__u16 exec_id; /* rows of `counts` for what has no syscall of its own */
	__u16 script_interp_id;
	__u16 elf_interp_id;
	__u16 late_id;
	__u32 mode_backing; /* the flag of file.f_mode for such a file; it moved in 6.14 */
	__u32 features; /* enum feature */
};

/* Numbers of containers. The last one is shared by those that found none. */
#define CONTAINERS 1024

/* ---- what user space may change while the programs run ---- */

struct control {
	__u32 generation; /* a verdict of another generation is void: the traced cgroups changed */
	__u32 epoch;      /* counts up once a minute, from 1; ages the entries of `seen` */
	__u64 attached;   /* when tracing began, by the monotonic clock in nanoseconds */
	__u64 listed;     /* the cgroup above snoop's own whose children list_children() lists */
};

/* A known name is offered again once its entry is this many epochs old, because it may have come to
 * mean another file. */
#define KNOWN_EPOCHS 5
#define EPOCH_SECONDS 60

/* ---- what the programs count, per CPU ---- */

enum outcome {
	OUTCOME_FAILED,     /* the kernel answered with an error */
	OUTCOME_EXCLUDED,   /* below an excluded prefix */
	OUTCOME_DUPLICATE,  /* known: nothing was sent */
	OUTCOME_SUBMITTED,  /* a record was sent */
	OUTCOME_FULL,       /* lost: the ring buffer had no room */
	OUTCOME_UNREADABLE, /* lost: the path could not be read from the process */
	OUTCOME_UNTRACED,   /* lost: a ring of io_uring, on a kernel where requests cannot be traced */
	OUTCOME_TOO_LONG,   /* lost: a directory deeper or a path longer than a record holds */
	OUTCOMES,
};

#define ROWS 160 /* row 0 is of records that are no access */

/* Counters only grow: user space remembers what it has taken. */
struct counts {
	__u64 of[ROWS][OUTCOMES];
	__u64 events[CONTAINERS]; /* of each container, by its number */
};

/* The programs that a hook's program goes on with: indices of `tails` and `sys_exit_tails`, which user space fills. */
enum tail {
	TAIL_DEDUP,
	TAIL_SEND,
	TAILS,
};

/* ---- whose accesses count ---- */

#define CGROUP_DEPTH 24  /* levels of cgroups that are looked at; a container's is at 5 or so */
#define CGROUP_NAME_BYTES 256 /* the longest name that a file system has, with the NUL */
#define TARGETS 1024

/* What a cgroup that user space names means. The nearest one above a process counts. */
enum target {
	TARGET_PROCESSES = 1, /* all in it and below it count as one container */
	TARGET_CONTAINER = 2, /* the same, but for what a container runtime does in it */
	TARGET_POD = 3,       /* each cgroup in it is such a container */
	TARGET_IGNORED = 4,   /* nothing in it counts */
	TARGET_PARENT = 5,    /* each cgroup in it that a container runtime named is such a container;
				 all else in it counts as one container */
};

/* What is known about a cgroup: the container it belongs to (0 if none) and that one's number. */
struct verdict {
	__u64 cgroup;
	__u64 container;
	__u16 number;
	__u16 has_runtime; /* a container runtime works in it too */
	__u32 generation;
};

/* A container by its number. */
struct container {
	__u64 id;    /* of its cgroup */
	__u32 path_sent; /* a record has brought its name to user space */
	__u32 pad;
};

/* A cgroup by its parent's id and its name. */
struct cgroup_path {
	__u64 parent;
	char name[CGROUP_NAME_BYTES];
};

/* What a cgroup becomes once it is created: a target, or, with 0 here, the parent of the next one that is expected. */
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

#define LISTED_CHILDREN 512 /* of one cgroup: see list.h */

/* What the programs answer to snoop's own call: see self.h. */
struct self {
	__u64 now; /* when it was seen last, by the monotonic clock in nanoseconds */
	__u32 tgid;  /* in the first pid namespace */
	__u32 listed; /* list_children() found the child that it was asked for */
	__u64 runtime; /* the mount namespace that snoop was started from, or its own */
	__u64 ns;      /* its own */
	__u64 id[CGROUP_DEPTH]; /* snoop's cgroup and those above it; 0 above the root */
	char name[CGROUP_DEPTH][CGROUP_NAME_BYTES];
};

/* ---- what the programs send: a header, then the bytes of the parts one after the other ---- */

enum part {
	PART_REQUESTED, /* the path as the program gave it, without its NUL */
	PART_BASE,  /* the directory a relative path starts from */
	PART_ROOT,  /* the process's root directory */
	PART_REAL,  /* the file that was opened or executed */
	PARTS,
};

/* All parts but the first are names from the leaf up, each followed by a slash: "b/a/" is /a/b. */

enum record_flag {
	RECORD_HAS_BASE = 1 << 0, /* the path is relative; without this flag its start is unknown */
	RECORD_HAS_REAL = 1 << 1,
	RECORD_IN_BASE = 1 << 2,  /* the base serves as the root directory too (RESOLVE_IN_ROOT) */
	RECORD_CHDIR = 1 << 3,    /* a change of directory: the real part is where it led */
	RECORD_REAL_ONLY = 1 << 4, /* there is no usable name: only the real part counts */
	RECORD_CGROUP_CREATED = 1 << 5,  /* no access: the cgroup was made again */
	RECORD_CGROUP_REMOVED = 1 << 6, /* no access: the cgroup was removed */
	RECORD_PENDING = 1 << 8, /* whether it succeeds will be told by a record with the same key, or not at all */
	RECORD_COMPLETE = 1 << 9, /* that record */
	RECORD_LATE = 1 << 7, /* by a process that is older than the tracing */
	RECORD_OWN_VIEW = 1 << 10, /* by a process in snoop's own mount namespace, and in no chroot */
};

/* The type of a file system, as mount(8) shows it; a longer one is cut. */
#define FS_NAME_BYTES 16

struct record {
	__u64 container; /* id of the traced cgroup */
	__u64 key;       /* the access's key in `seen` */
	__s32 result;
	__u32 pid;
	__u16 row;
	__u16 flags;
	__u16 len[PARTS];
	__u16 mount; /* the bytes of the real part from here on are the name of the mount point it lies on */
	__u16 cgroup; /* bytes behind the parts: the names of the container's cgroup, if user space lacks them */
	char fs[FS_NAME_BYTES]; /* what is mounted there; empty without a real part */
};

#define PATH_MAX_BYTES 4096 /* PATH_MAX, with the NUL */
#define NAME_MAX_BYTES 255
#define DATA_MAX 16384 /* four parts of PATH_MAX; a power of two. A record's data is shorter. */

/* 4 MiB hold 20,000 records of 200 bytes (64 of header, the rest path and real path): what one core
 * opening new files as fast as it can produces in 40 ms. */
#define RING_BYTES (4 << 20)

/* Records wait in the ring for a moment so that user space takes many at once. A record that makes the ring this full wakes
 * user space up at once. */
#define RING_URGENT (RING_BYTES / 4)

/* The set of known accesses: buckets of one cache line. 2^15 * 8 = 262,144 keys in 2 MiB. */
#define KNOWN_BITS 15
#define KNOWN_WAYS 8

struct bucket {
	__u64 slot[KNOWN_WAYS]; /* 48 bits of key, 16 bits of epoch; 0 is empty */
};

_Static_assert(sizeof(struct row) == 8, "one load per row");
_Static_assert(sizeof(struct record) == 56, "no hidden padding");
_Static_assert(sizeof(struct bucket) == 64, "one cache line");
_Static_assert(sizeof(struct config) % 8 == 0, "no hidden padding");

#endif
