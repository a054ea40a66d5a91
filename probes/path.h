/* Paths: strings of the process, exclusion, keys of directories, and the names of a directory or
 * file from the leaf up to the root of its mount namespace. */
#ifndef SNOOP_PATH_H
#define SNOOP_PATH_H

#include "known.h"
#include "output.h"
#include "task.h"

/* ---- the string ---- */

/* The functions below read whole words of the string of `len` bytes in s->data: what is behind it has to be
 * zero. */
static __always_inline void end_string(struct scratch *s, __u32 len)
{
	*(__u64 *)(s->data + (len & (PATH_MAX_BYTES - 1))) = 0;
}

/* Key of the string, or of its first HASHED bytes. The words are made secret first: there are pairs of words that
 * meet in MurmurHash whatever it begins with, and a container could hide a file behind another's key. */
static __always_inline __u64 hash_string(struct scratch *s, __u32 len, __u64 hash)
{
	for (__u32 at = 0; at < HASHED; at += 8) {
		if (at >= len)
			break;
		hash = mix(hash, *(__u64 *)(s->data + at) ^ config.seed);
	}
	return hash;
}

/* A path with ".." in it may lead out of the prefix it begins with; so may one that is too long to
 * be searched here. User space decides about those. */
#define SEARCHED 256
#define DOTS 0x2e2e2e2e2e2e2e2eULL

static __always_inline int may_climb(struct scratch *s, __u32 len)
{
	if (len > SEARCHED)
		return 1;
	/* Two dots: a byte and the one behind it both differ from a dot in no bit. A zero byte is found by the
	 * borrow it makes. */
	__u64 found = 0;

	for (__u32 at = 0; at < SEARCHED; at += 8) {
		__u64 differ = (*(__u64 *)(s->data + at) ^ DOTS) | (*(__u64 *)(s->data + at + 1) ^ DOTS);

		if (at >= len)
			break;
		found |= (differ - DOTS / '.') & ~differ & DOTS / '.' << 7;
	}
	return found != 0;
}

/* The prefixes mean paths of the whole mount namespace; in a chroot "/" is something else. The root
 * of the namespace is a mount without a parent, with others possibly mounted over its root. */
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

/* Does the path in s->data begin with an excluded prefix? */
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

/* The verifier does no arithmetic on typed pointers; what comes back from a map is a number. */
static __always_inline __u64 number_of(struct scratch *s, const void *pointer)
{
	*(const void *volatile *)&s->number = pointer;
	return *(volatile __u64 *)&s->number;
}

#define HASH_DEPTH 32

/* Identity of a directory: its mount, and the hashes of the names up to the mount's root, so that
 * a renamed directory (or one that reuses another's memory) makes another key. The kernel keeps
 * these hashes in the dentries. Deeper than HASH_DEPTH, the address of the dentry stands for the rest. */
static __always_inline __u64 hash_typed(struct scratch *s, const void *path, __u64 hash)
{
	if (!ENABLED(FEATURE_PATHS))
		return hash;
	const void *mnt = (const void *)load(path, OFF(path_mnt));
	const void *dentry = (const void *)load(path, OFF(path_dentry));
	const void *root = (const void *)load(mnt, OFF(vfsmount_root));

	hash = mix(hash, number_of(s, mnt));
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

	hash = mix(hash, ref.mnt);
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

/* The part lies on the mount that the namespace begins with. */
#define MOUNT_NONE 0xffff

/* `part` is masked. */
static __always_inline struct path_ref *part_of(struct scratch *s, __u32 part)
{
	return &s->todo[within(PARTS - 1, part)];
}

/* One step of the walk, by masks: up by a name, which is appended, or to the mount below, or on to the next
 * part. */
static __always_inline void step(struct scratch *s, __u64 ns)
{
	struct walk *w = &s->walk;
	__u64 dentry = w->dentry, mount = w->mnt - OFF(mount_mnt), at = w->at;
	__u32 part = w->part & (PARTS - 1), next = (w->part + 1) & (PARTS - 1);
	struct dentry_link up = link_of((void *)dentry);
	struct mount_link under = mount_link_of(mount);

	/* At the root of a mount the walk goes on where that is mounted; the last one is its own parent. */
	__u64 at_root = equal(dentry, under.root);
	__u64 at_top = at_root & equal(mount, under.parent);
	__u64 ended = at_top | equal(dentry, 0) | (~at_root & equal(dentry, up.parent));
	__u64 present = at_top & equal(peek((void *)mount, OFF(mount_ns)), ns) & ~equal(ns, 0);
	__u64 has_name = ~at_root & ~ended;

	/* The first mount that the real file's names lead out of is the one it lies on. */
	w->mount = select(at_root & ~at_top & equal(part, PART_REAL) & equal(w->mount, MOUNT_NONE), at - w->start,
			  w->mount);

	/* The name. What does not fit is written over the beginning, and the record is never sent. */
	__u32 to = at & (DATA_MAX - 1), len = (up.hash_len >> 32) & has_name & NAME_MAX_BYTES;

	bpf_probe_read_kernel(s->data + to, len, (void *)up.name);
	s->data[within(DATA_MAX - 1, to) + within(NAME_MAX_BYTES, len)] = '/';
	at += (len + 1) & has_name;

	/* A part that has ended without being present leaves nothing behind. */
	at = select(ended & ~present, w->start, at);
	part_of(s, part)->dentry &= ~(ended & ~present);
	s->head.len[within(PARTS - 1, part)] = at - w->start;
	w->at = at;
	w->part += ended & 1;
	w->start = select(ended, at, w->start);
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

/* Begins to append the names of s->todo[PART_BASE..] to s->data from `at` on. */
static __always_inline void begin_walk(struct scratch *s, __u32 at)
{
	struct walk *w = &s->walk;

	w->at = at;
	w->start = at;
	w->mount = MOUNT_NONE;
	if (!ENABLED(FEATURE_NAMES)) {
		for (int part = PART_BASE; part < PARTS; part++) {
			s->todo[part] = NO_PATH;
			s->head.len[part] = 0;
		}
		w->part = PARTS;
		return;
	}
#pragma unroll
	for (int part = PART_BASE; part < PARTS; part++) {
		__u64 dentry = s->todo[part].dentry;

		s->todo[part].dentry = dentry & ~d_unlinked(dentry, s->todo[part].mnt);
	}
	w->mnt = s->todo[PART_BASE].mnt;
	w->dentry = s->todo[PART_BASE].dentry;
	w->part = PART_BASE;
}

/* Goes on for so many steps, each a name or a mount crossing: every part from the leaf up to the root of the mount
 * namespace `ns`, across mounts and out of any chroot. Notes the parts' lengths in the record. A part that has no
 * name in this namespace (a pipe, a memfd, something unmounted, deleted or handed in from another namespace)
 * becomes absent. Answers whether all parts are done; the data then ends at s->walk.at. */
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

/* Files that no image holds, for a name that is excluded already: processes and devices seen as files. */
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
