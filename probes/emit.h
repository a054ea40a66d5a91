/* An access on its way to user space: what is known about it, its key and the memory of what was sent already, the record
 * in the making, and how that is sent. Whatever is given up is counted here under its reason. */
#ifndef SNOOP_EMIT_H
#define SNOOP_EMIT_H

#include "kernel.h"

/* redbpf reads classic definitions, one per section. */
struct bpf_map_def {
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 map_flags;
};

#define MAP(name) struct bpf_map_def SEC("maps/" #name) name

/* The records. Full: the record is counted as lost, and its access stays unknown to `seen`, so that
 * the next one offers it again. */
#ifdef SNOOP_LEGACY
MAP(ring) = { BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 0 /* as many as CPUs */, 0 };
#else
MAP(ring) = { BPF_MAP_TYPE_RINGBUF, 0, 0, RING_BYTES, 0 };
#endif

/* Per CPU, so that counting takes no lock; user space sums. */
MAP(counts) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct counts), 1, 0 };

/* Bucket -> known accesses. An array, because a look-up in it is a few inlined instructions and it
 * never fills up: a new key takes the place of the oldest in its bucket, whose next use is then
 * merely sent once more. */
MAP(seen) = { BPF_MAP_TYPE_ARRAY, 4, sizeof(struct bucket), 1 << KNOWN_BITS, 0 };

/* What user space changes while the programs run; they only read it. */
struct control control SEC(".data.control") = { .epoch = 1 };

/* What they answer to snoop's own call. */
struct own own SEC(".data.own") = {};

enum start {
	START_ROOT,  /* the path is absolute */
	START_PWD,
	START_PLACE, /* a descriptor, or where the process was before it moved */
};

/* How to find the file that an access led to. */
enum leads {
	LEADS_NOWHERE, /* the call does not tell */
	LEADS_FD,      /* its result is a descriptor */
	LEADS_PWD,     /* it is the directory where the process is now */
	LEADS_ROOT,    /* … or its root directory */
	LEADS_PLACE,
};

/* What is known about an access besides the string in draft.data. */
struct access {
	__u32 row;
	__u32 flags;        /* enum record_flag */
	__u32 start;        /* enum start */
	__u32 leads;        /* enum leads */
	struct place place; /* for START_PLACE */
	struct place real;  /* for LEADS_PLACE */
	__u64 request;      /* for RECORD_PENDING */
	__u32 len;          /* of the string, without its NUL */
	__s32 result;
};

/* Where the walk over directories is: kept in memory, not in registers, because the verifier follows every value
 * of a register separately but forgets what was stored. */
struct walk {
	__u64 mnt;
	__u64 dentry;
	__u32 part;
	__u32 at;    /* where the data ends */
	__u32 start; /* where the part's data begins */
	__u32 mount; /* where in its part the name of the mount point begins */
};

/* A record in the making: too much for the stack of 512 bytes. A call has up to two paths, hence two
 * of them. The programs run with preemption off and not in interrupts, so a set per CPU is enough. */
#define DRAFTS 2
#define LATE_DRAFT DRAFTS /* for the iterators, which run with preemption on */

struct draft {
	struct record head;
	__u8 data[DATA_MAX + NAME_MAX_BYTES + 1];
	struct place todo[PARTS]; /* whose names the walk appends */
	struct access access;
	struct verdict verdict;
	struct walk walk;
	__u64 number;  /* see number_of() */
	__u32 waiting; /* in the first one: which drafts hold an access that was not looked at yet, a bit each */
	__u32 news;    /* … and which are to be sent */
	__u32 rounds;  /* of the walk: 0 before it has begun */
};
MAP(drafts) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct draft), DRAFTS + 1, 0 };

static __always_inline struct draft *draft(__u32 index)
{
	return bpf_map_lookup_elem(&drafts, &index);
}

/* Counts what became of an access in the container with that number. */
static __always_inline void count(__u32 number, __u32 row, enum outcome outcome)
{
	__u32 first = 0;
	struct counts *counters = bpf_map_lookup_elem(&counts, &first);

	if (counters && row < ROWS && number < CONTAINERS) {
		counters->of[row][outcome]++;
		counters->events[number]++;
	}
}

/* ---- keys ---- */

/* The key of a longer string covers its beginning only: every use of one is sent. */
#define HASHED 512

/* One step of MurmurHash64A: bijective in `word`, so that different words never meet. */
static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	const __u64 m = 0xc6a4a7935bd1e995ULL;

	word *= m;
	word ^= word >> 47;
	word *= m;
	return (hash ^ word) * m;
}

static __always_inline __u64 finish(__u64 hash)
{
	hash ^= hash >> 33;
	hash *= 0xff51afd7ed558ccdULL;
	hash ^= hash >> 33;
	hash *= 0xc4ceb9fe1a85ec53ULL;
	return hash ^ hash >> 33;
}

static __always_inline struct bucket *bucket_of(__u64 key)
{
	__u32 index = key & ((1 << KNOWN_BITS) - 1);

	return bpf_map_lookup_elem(&seen, &index);
}

/* The uppermost bit of a key: what is asked for leads to a file, whose real path was sent. A name that was only looked at
 * has not told yet what it leads to; one that was opened has told all. */
#define KEY_LEADS (1ULL << 63)
/* A slot is the key's upper 48 bits (the lower ones choose the bucket) and the epoch it was sent. */
#define SLOT_KEY (~0xffffULL)

static __always_inline int is_known(__u64 key)
{
	struct bucket *bucket = bucket_of(key);
	__u64 compared = (key | ~KEY_LEADS) & SLOT_KEY;
	__u16 now = control.epoch;

	if (!bucket)
		return 0;
#pragma unroll
	for (int i = 0; i < KNOWN_WAYS; i++) {
		__u64 slot = bucket->slot[i];

		if (!((slot ^ key) & compared) && slot)
			return (__u16)(now - (__u16)slot) <= KNOWN_EPOCHS;
	}
	return 0;
}

static __always_inline void remember(__u64 key)
{
	struct bucket *bucket = bucket_of(key);
	__u16 now = control.epoch, oldest = 0;
	__u32 victim = 0;

	if (!bucket)
		return;
#pragma unroll
	for (int i = 0; i < KNOWN_WAYS; i++) {
		__u64 slot = bucket->slot[i];
		__u16 age = slot ? now - (__u16)slot : 0xfffe;

		if (!((slot ^ key) & SLOT_KEY & ~KEY_LEADS))
			age = 0xffff;
		if (age > oldest) {
			oldest = age;
			victim = i;
		}
	}
	/* All of one age: let the key choose, or one slot would take all the changes. */
	if (!oldest)
		victim = key >> 16;
	bucket->slot[victim & (KNOWN_WAYS - 1)] = (key & SLOT_KEY) | now;
}

/* ---- sending ---- */

#ifdef SNOOP_TYPE_INFO
/* Nothing else of this type is global, and clang describes only what is: for tests/wire.rs. */
struct record *record_type;
struct container *container_type;
struct cgroup_path *cgroup_path_type;
struct expected_below *expected_below_type;
#endif

/* The kernel wakes user space up for the first record of an empty ring, and user space then lets some more come
 * together. It is woken up again where a record makes the ring this full. */
#define RING_URGENT (RING_BYTES / 4)

static __always_inline long output(void *ctx, struct draft *s, __u64 bytes)
{
#ifdef SNOOP_LEGACY
	return bpf_perf_event_output(ctx, &ring, BPF_F_CURRENT_CPU, &s->head,
				     sizeof(s->head) + within(DATA_MAX - 1, bytes));
#else
	__u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA), flags = 0;

	bytes += sizeof(s->head);
	if (waiting < RING_URGENT && waiting + bytes >= RING_URGENT)
		flags = BPF_RB_FORCE_WAKEUP;
	(void)ctx;
	return bpf_ringbuf_output(&ring, &s->head, bytes, flags);
#endif
}

/* Sends the record with `bytes` of data; answers what became of it. */
static __always_inline enum outcome send(void *ctx, struct draft *s, __u64 bytes)
{
	opaque(bytes);
	if (bytes >= DATA_MAX)
		return OUTCOME_TOO_LONG;
	return output(ctx, s, bytes) ? OUTCOME_FULL : OUTCOME_SUBMITTED;
}

#endif
