/* SPDX-License-Identifier: GPL-2.0-only */
/* How the programs in this folder define their maps. */
#ifndef SNOOP_MAP_H
#define SNOOP_MAP_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "wire.h"

/* redbpf reads classic definitions, each in a section of its own. */
struct bpf_map_def {
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 map_flags;
};

#define MAP(name) struct bpf_map_def SEC("maps/" #name) name

#endif
