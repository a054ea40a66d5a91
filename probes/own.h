/* snoop's own call: getcpu(2) with a random number in the argument that the kernel has not used since
 * 2.6.24. Nobody else makes it: the C library asks the vDSO. */
#ifndef SNOOP_OWN_H
#define SNOOP_OWN_H

#include "kernel.h"

struct own own SEC(".data.own") = {};

/* Only one thread makes the call, hence no race. */
static __always_inline void answer_own_call(__u64 cookie)
{
	if (cookie == config.cookie)
		own.beats++;
}

#endif
