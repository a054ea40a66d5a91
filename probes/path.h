/* SPDX-License-Identifier: GPL-2.0-only */
/* Paths: strings of the process, exclusion, keys of directories, and the walk that collects the names of a directory or
 * file from the leaf up to the root of its mount namespace. */
#ifndef SNOOP_PATH_H
#define SNOOP_PATH_H

#include "known.h"
#include "output.h"
#include "task.h"

/* ---- the string ---- */

/* Zeroes the word behind the string of `len` bytes in s->data. The functions below read whole words of the string. */
static __always_inline void end_string(struct scratch *s, __u32 len)
{
	*(__u64 *)(s->data + (len & (PATH_MAX_BYTES - 1))) = 0;
}

/* The key of the string, or of its first HASHED bytes. A secret is mixed into each word first: there are pairs of words that
 * collide in MurmurHash whatever the seed is, and a container could use them to hide one file behind the key of another. */
static __always_inline __u64 hash_string(struct scratch *s, __u32 len, __u64 hash)
{
	for (__u32 at = 0; at < HASHED; at += 8) {
		if (at >= len)
			break;
		hash = mix(hash, *(__u64 *)(s->data + at) ^ config.seed);
	}
	return hash;
}

/* A path that contains ".." may lead out of the prefix that it begins with. So may a path that is too long to be searched
 * here. User space decides about both. */
#define SEARCHED 256
#define DOTS 0x2e2e2e2e2e2e2e2eULL

static __always_inline int may_climb(struct scratch *s, __u32 len)
{
	if (len > SEARCHED)
		return 1;
	/* There are two dots where a byte and the next one both differ from a dot in no bit. The subtraction finds such a
	 * zero byte by the borrow that it makes. */
	__u64 found = 0;

	for (__u32 at = 0; at < SEARCHED; at += 8) {
		__u64 differ = (*(__u64 *)(s->data + at) ^ DOTS) | (*(__u64 *)(s->data + at + 1) ^ DOTS);

		if (at >= len)
			break;
		found |= (differ - DOTS / '.') & ~differ & DOTS / '.' << 7;
	}
	return found != 0;
}

/* An excluded prefix is a path of the whole mount namespace; in a chroot "/" is something else. The root of the namespace is
 * a mount without a parent, and other mounts may cover its root. */
#define ROOT_MOUNTS 4

static __always_inline int is_namespace_root(struct path_ref ref)
{
	__u64 mount = ref.mnt - OFF(mount_mnt), dentry = ref.dentry, parent = 0;

	if (!ENABLED(FEATURE_NAMES))
		return 1;

	for (int i = 0; i < ROOT_MOUNTS; i++) {
		struct mount_link link = mount_link_of(mount);

		if (dentry != link.root)
			return 0;
		parent = link.parent;
		if (parent == mount)
			return 1;
		mount = parent;
		dentry = link.mountpoint;
	}
	return 0;
}

/* Returns whether the path in s->data begins with an excluded prefix. */
static __always_inline int is_excluded(struct scratch *s, __u32 len)
{
	const __u64 *text = (const __u64 *)s->data;

#pragma unroll
	for (int i = 0; i < EXCLUDES; i++) {
		const volatile struct exclude *e = &config.exclude[i];
		__u64 differs = 0;

		if (!e->mask[0])
			continue;
#pragma unroll
		for (int w = 0; w < EXCLUDE_WORDS; w++)
			if (e->mask[w])
				differs |= (text[w] ^ e->word[w]) & e->mask[w];
		if (!differs)
			return !may_climb(s, len);
	}
	return 0;
}

/* ---- directories as keys ---- */

/* The verifier allows no arithmetic on typed pointers. What is stored in a map and read again is a number. */
static __always_inline __u64 number_of(struct scratch *s, const void *pointer)
{
	*(const void *volatile *)&s->number = pointer;
	return *(volatile __u64 *)&s->number;
}

#define HASH_DEPTH 32

/* The identity of a directory: its mount, its dentry, and the hashes of the names up to the root of the mount. A directory
 * that was renamed, or that reuses the memory of another one, gets another key. The kernel keeps these hashes in the dentries.
 * They have 32 bits, so that two of many directories may share one; the dentry's address tells them apart. Beyond HASH_DEPTH
 * levels, the address of the dentry stands for the rest. `path` points to a struct path with a type. */
static __always_inline __u64 hash_typed(struct scratch *s, const void *path, __u64 hash)
{
	if (!ENABLED(FEATURE_PATHS))
		return hash;
	const void *mnt = (const void *)load(path, OFF(path_mnt));
	const void *dentry = (const void *)load(path, OFF(path_dentry));
	const void *root = (const void *)load(mnt, OFF(vfsmount_root));

	hash = mix(mix(hash, number_of(s, mnt)), number_of(s, dentry));
	for (int i = 0; i < HASH_DEPTH; i++) {
		if (dentry == root)
			break;
		hash = mix(hash, load_halves(dentry, OFF(dentry_name) + OFF(qstr_hash_len)));
		dentry = (const void *)load(dentry, OFF(dentry_parent));
	}
	return mix(hash, number_of(s, dentry));
}

/* The same for a ref without types. */
static __always_inline __u64 hash_path_ref(struct path_ref ref, __u64 hash)
{
	if (!ENABLED(FEATURE_NAMES))
		return hash;
	__u64 dentry = ref.dentry;
	__u64 root = peek((void *)ref.mnt, OFF(vfsmount_root));

	hash = mix(mix(hash, ref.mnt), dentry);
	for (int i = 0; i < HASH_DEPTH; i++) {
		if (dentry == root)
			break;
		struct dentry_link up = link_of((void *)dentry);

		hash = mix(hash, up.hash_len);
		dentry = up.parent;
	}
	return mix(hash, dentry);
}

/* ---- directories and files as names ---- */

/* The part lies on the root mount of the namespace. */
#define MOUNT_NONE 0xffff

/* `part` has no bit outside PARTS - 1. */
static __always_inline struct path_ref *part_of(struct scratch *s, __u32 part)
{
	return &s->todo[within(PARTS - 1, part)];
}

/* Makes one step of the walk: up by one name, which is appended, or down to the mount that this one covers, or on to the
 * next part. It selects by masks; see kernel.h. */
static __always_inline void step(struct scratch *s, __u64 ns)
{
	struct walk *w = &s->walk;
	__u64 dentry = w->dentry, mount = w->mnt - OFF(mount_mnt), at = w->at;
	__u32 part = w->part & (PARTS - 1), next = (w->part + 1) & (PARTS - 1);
	struct dentry_link up = link_of((void *)dentry);
	struct mount_link under = mount_link_of(mount);

	/* At the root of a mount the walk continues where that is mounted. The last mount is its own parent. */
	__u64 at_root = equal(dentry, under.root);
	__u64 at_top = at_root & equal(mount, under.parent);
	__u64 ended = at_top | equal(dentry, 0) | (~at_root & equal(dentry, up.parent));
	__u64 present = at_top & equal(peek((void *)mount, OFF(mount_ns)), ns) & ~equal(ns, 0);
	__u64 has_name = ~at_root & ~ended;

	/* The first mount that the names of the real file lead out of is the one that the file lies on. */
	w->mount = select(at_root & ~at_top & equal(part, PART_REAL) & equal(w->mount, MOUNT_NONE), at - w->start,
			  w->mount);

	/* Append the name. What does not fit is written over the beginning, and send() refuses the record. */
	__u32 to = at & (DATA_MAX - 1), len = (up.hash_len >> 32) & has_name & NAME_MAX_BYTES;

	bpf_probe_read_kernel(s->data + to, len, (void *)up.name);
	s->data[within(DATA_MAX - 1, to) + within(NAME_MAX_BYTES, len)] = '/';
	at += (len + 1) & has_name;

	/* A part that has ended but has no path in this namespace leaves nothing behind. */
	at = select(ended & ~present, w->start, at);
	part_of(s, part)->dentry &= ~(ended & ~present);
	s->head.len[within(PARTS - 1, part)] = at - w->start;
	w->at = at;
	w->part += ended & 1;
	w->start = select(ended, at, w->start);
	/* The root directory of the namespace is the mount that was entered first of those that cover its root mount. */
	w->cover = select(equal(w->cover, 0), dentry, w->cover) & at_root;
	w->root = select(present, w->cover, w->root);
	w->cover &= ~ended;
	w->mnt = select(ended, part_of(s, next)->mnt,
			select(at_root, under.parent + OFF(mount_mnt), w->mnt));
	w->dentry = select(ended, part_of(s, next)->dentry, select(at_root, under.mountpoint, up.parent));
}

/* All ones if the file has no name any more, else 0; the kernel has the same test in include/linux/dcache.h. The dentry of
 * an unlinked file is in no hash chain: the second pointer of d_hash is null. The root of a mount is in none either. */
static __always_inline __u64 d_unlinked(__u64 dentry, __u64 mnt)
{
	__u64 root = peek((void *)mnt, OFF(vfsmount_root));
	__u64 chain = peek((void *)dentry, OFF(dentry_hash) + 8);

	return equal(chain, 0) & ~equal(dentry, root);
}

/* Begins to append the names of s->todo[PART_BASE..] to s->data, from `at` on. */
static __always_inline void begin_walk(struct scratch *s, __u32 at)
{
	struct walk *w = &s->walk;

	w->at = at;
	w->start = at;
	w->root = 0;
	w->cover = 0;
	w->mount = MOUNT_NONE;
	if (!ENABLED(FEATURE_NAMES)) {
		for (int part = PART_BASE; part < PARTS; part++) {
			s->todo[part] = NO_PATH;
			s->head.len[part] = 0;
		}
		w->part = PARTS;
		return;
	}
	int has_base = s->todo[PART_BASE].dentry != 0;

#pragma unroll
	for (int part = PART_BASE; part < PARTS; part++) {
		__u64 dentry = s->todo[part].dentry;

		s->todo[part].dentry = dentry & ~d_unlinked(dentry, s->todo[part].mnt);
	}
	s->access.flags |= RECORD_BASE_REMOVED & -(has_base && !s->todo[PART_BASE].dentry);
	w->mnt = s->todo[PART_BASE].mnt;
	w->dentry = s->todo[PART_BASE].dentry;
	w->part = PART_BASE;
}

/* Continues the walk for up to `steps` steps; each step is a name or a mount. Every part goes from the leaf up to the root of
 * the mount namespace `ns`, across mounts and out of any chroot. The lengths of the parts are written to the record. A
 * part that has no path in this namespace becomes absent: a pipe, a memfd, something that was unmounted, deleted or
 * handed in from another namespace. Returns whether all parts are done; the data then ends at s->walk.at. */
static __always_inline int walk_on(struct scratch *s, __u64 ns, int steps)
{
	if (!ENABLED(FEATURE_NAMES))
		return 1;
	for (int i = 0; i < steps; i++) {
		if (s->walk.part >= PARTS)
			return 1;
		step(s, ns);
		barrier();
	}
	return 0;
}

/* Returns whether an image cannot hold this file: a file of procfs or sysfs, or a device. It is asked only about names that
 * are excluded already. */
static __always_inline int is_pseudo(struct path_ref file)
{
	if (!ENABLED(FEATURE_NAMES))
		return 1;
	__u16 mode = peek((void *)peek((void *)file.dentry, OFF(dentry_inode)), OFF(inode_mode));
	__u64 magic = peek((void *)peek((void *)file.dentry, OFF(dentry_sb)), OFF(sb_magic));

	mode &= 0170000;
	return (mode != 0100000 && mode != 0040000) || magic == 0x9fa0 /* proc */ ||
	       magic == 0x62656572 /* sysfs */;
}

#endif
