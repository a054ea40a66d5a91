/* SPDX-License-Identifier: GPL-2.0-only */
/* The set of accesses that user space knows already, by their keys. */
#ifndef SNOOP_KNOWN_H
#define SNOOP_KNOWN_H

#include "control.h"
#include "map.h"
#include "output.h"

/* Bucket -> the keys of known accesses. This is an array, because a look-up in one is a few inlined instructions. It holds
 * 262,144 keys in 2 MiB, unless user space makes it larger. It is never full: a new key takes the place of the oldest one in
 * its bucket, whose next use is then merely sent once more. */
MAP(known) = { BPF_MAP_TYPE_ARRAY, 4, sizeof(struct bucket), 1 << KNOWN_BITS, 0 };

/* By number of a container: counts up when a name in it may have come to lead to another file, because a symlink was made, a
 * name was moved or something was mounted. The generation is part of every key, so that all names are offered again. */
__u32 name_generation[CONTAINERS] SEC(".data.generation") = {};

static __always_inline __u32 generation_of(__u32 number)
{
	return name_generation[number & (CONTAINERS - 1)];
}

static __always_inline void begin_generation(__u32 number)
{
	__sync_fetch_and_add(&name_generation[number & (CONTAINERS - 1)], 1);
}

/* The key of a longer string covers only its beginning, so that every use of such a string is sent. */
#define HASHED 512

/* One step of MurmurHash64A. It is bijective in `word`, so that different words never collide. */
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
	__u32 index = key & ((1U << config.known_bits) - 1);

	return bpf_map_lookup_elem(&known, &index);
}

/* A slot holds the upper 48 bits of a key and the epoch in which it was sent. The lower bits chose the bucket. */
#define SLOT_KEY (~0xffffULL)

static __always_inline int is_known(__u64 key)
{
	struct bucket *bucket = bucket_of(key);
	__u16 now = control.epoch;

	if (!bucket)
		return 0;
#pragma unroll
	for (int i = 0; i < KNOWN_WAYS; i++) {
		__u64 slot = bucket->slot[i];

		if (!((slot ^ key) & SLOT_KEY) && slot)
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

		if (!((slot ^ key) & SLOT_KEY))
			age = 0xffff;
		if (age > oldest) {
			oldest = age;
			victim = i;
		}
	}
	/* All have the same age. The key chooses, or one slot would take all the changes. */
	if (!oldest)
		victim = key >> 16;
	if (oldest <= KNOWN_EPOCHS)
		count_displaced();
	bucket->slot[victim & (KNOWN_WAYS - 1)] = (key & SLOT_KEY) | now;
}

#endif
