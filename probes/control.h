/* SPDX-License-Identifier: GPL-2.0-only */
/* The variables that the programs share with user space while they run. */
#ifndef SNOOP_CONTROL_H
#define SNOOP_CONTROL_H

#include "map.h"

/* User space writes this one; the programs only read it. */
struct control control SEC(".data.control") = { .epoch = 1 };

/* The programs write this one when snoop makes its own call; user space reads it. */
struct self self SEC(".data.self") = {};

#endif
