/* SPDX-License-Identifier: GPL-2.0-only */
/* What leaves the programs: records, and counters of everything that was not sent and why. */
#ifndef SNOOP_OUTPUT_H
#define SNOOP_OUTPUT_H

#include "scratch.h"

/* The records; wire.h says why the buffer has this size. When it is full, the record is counted as lost, and its access does
 * not become known, so that the next such access offers it again. */
#ifdef SNOOP_LEGACY
MAP(ring) = { BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 0 /* one for each CPU */, 0 };
#else
MAP(ring) = { BPF_MAP_TYPE_RINGBUF, 0, 0, RING_BYTES, 0 };
#endif

/* The only element holds all counters. It is kept per CPU, so that counting takes no lock; user space adds the CPUs up.
 * The map cannot be full: it is an array. */
MAP(counts) = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct counts), 1, 0 };

/* Where the hooks can be preempted, another process may count on the same CPU at the same time. */
#ifdef SNOOP_RESOLVER
#define ADD_ONE(counter) __sync_fetch_and_add(&(counter), 1)
#else
#define ADD_ONE(counter) ((counter)++)
#endif

/* Counts what became of an access in the container with that number. */
static __always_inline void count(__u32 number, __u32 row, enum outcome outcome)
{
	__u32 first = 0;
	struct counts *counters = bpf_map_lookup_elem(&counts, &first);

	/* Linux 5.10 forgets the bounds of a number that was compared in another register. A mask shows them where the number is
	 * used; a row that the mask lets through and the table does not have is still in the structure. */
	if (counters && row < ROWS && number < CONTAINERS) {
		__u64 at = row, container = number;

		barrier_var(at);
		barrier_var(container);
		ADD_ONE(counters->of[at & 255][outcome]);
		ADD_ONE(counters->events[container & (CONTAINERS - 1)]);
	}
}

/* Counts a key that left the set of known accesses although its access was still known. */
static __always_inline void count_displaced(void)
{
	__u32 first = 0;
	struct counts *counters = bpf_map_lookup_elem(&counts, &first);

	if (counters)
		counters->displaced++;
}

#ifdef SNOOP_TYPE_INFO
/* clang describes only the types of global variables, and has no other of these types. tests/wire.rs compares them. */
struct record *record_type;
struct container *container_type;
struct cgroup_path *cgroup_path_type;
struct expected_below *expected_below_type;
#endif

static __always_inline long output(void *ctx, struct record *record, __u64 bytes)
{
#ifdef SNOOP_LEGACY
	return bpf_perf_event_output(ctx, &ring, BPF_F_CURRENT_CPU, record,
				     sizeof(*record) + within(DATA_MAX - 1, bytes));
#else
	__u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA), flags = 0;

	bytes += sizeof(*record);
	/* The kernel wakes user space up for the first record of an empty ring, and user space then lets some more
	 * records gather. A record that makes the ring this full wakes it up again. */
	if (waiting < RING_URGENT && waiting + bytes >= RING_URGENT)
		flags = BPF_RB_FORCE_WAKEUP;
	(void)ctx;
	return bpf_ringbuf_output(&ring, record, bytes, flags);
#endif
}

/* Sends a record, behind which stand `bytes` of data. Returns what became of it. */
static __always_inline enum outcome send(void *ctx, struct record *record, __u64 bytes)
{
	barrier_var(bytes);
	if (bytes >= DATA_MAX)
		return OUTCOME_TOO_LONG;
	return output(ctx, record, bytes) ? OUTCOME_FULL : OUTCOME_SUBMITTED;
}

#endif
