/* SPDX-License-Identifier: GPL-2.0-only */
/* Calls that fail and still show that a name is there. */
#ifndef SNOOP_PROOF_H
#define SNOOP_PROOF_H

#include "kernel.h"

#define ENXIO 6
#define EEXIST 17
#define EXDEV 18
#define EISDIR 21
#define ETXTBSY 26
#define ENOTEMPTY 39
#define ELOOP 40
#define ENODATA 61

/* Errors that a call gives only where a file has the name: the program has learnt that it is there. errno(3) */
#define PROOFS (1ULL << ENXIO | 1ULL << EEXIST | 1ULL << EXDEV | 1ULL << EISDIR | 1ULL << ETXTBSY | 1ULL << ENOTEMPTY | \
		1ULL << ELOOP | 1ULL << ENODATA)

static __always_inline int is_proof(long result)
{
	__u64 error = -result;

	return error <= 63 && (PROOFS >> error & 1);
}

#endif
