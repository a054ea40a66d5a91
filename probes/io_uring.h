/* SPDX-License-Identifier: GPL-2.0-only */
/* Requests of io_uring, which pass no syscall. A request is seen when it is submitted, with its paths, and again when it is
 * complete, with its result. In between, user space knows its paths only as pending. */
#ifndef SNOOP_IO_URING_H
#define SNOOP_IO_URING_H

#include "pipeline.h"

/* REQ_F_CQE_SKIP of include/linux/io_uring_types.h, the same bit as IOSQE_CQE_SKIP_SUCCESS: io_uring_enter(2). */
#define REQUEST_SKIPS_COMPLETION (1 << 6)

/* Makes the access by one path of a request that was just submitted. Returns 0 if the request has no such path. */
static __always_inline int request_access(struct scratch *s, void *task, void *request,
					  struct verdict *verdict, const volatile struct request *row,
					  int which)
{
	__u32 path = row->path[which & 1], dir = row->dir[which & 1];
	long len;

	if (path == ARG_NONE)
		return 0;
	s->access = (struct access){
		.row = row->id,
		.flags = RECORD_PENDING,
		.request = (__u64)request,
		.start = START_DIR,
		.kinds = KIND_LOOKED_AT,
	};
	__u32 kind = (__u32)row->kind << REQUEST_KIND_SHIFT;

	s->access.rebinds = !!(kind & ROW_REBINDS);
	if (kind & ROW_WRITES)
		s->access.kinds = KIND_WRITTEN;
	/* Nobody is told when such a request succeeds: it counts as done. Where it fails after all, a name too many is listed. */
	if (HAS(request_flags) && peek(request, OFF(request_flags)) & REQUEST_SKIPS_COMPLETION)
		s->access.flags = 0;
	len = bpf_probe_read_kernel_str(s->data, PATH_MAX_BYTES,
					(void *)peek((void *)peek(request, path), OFF(filename_name)));
	if (len < 0) {
		count(verdict->number, row->id, OUTCOME_UNREADABLE);
		return 0;
	}
	if (len < 2)
		return 0;
	s->access.len = len - 1;
	if (row->how) {
		__u64 flags = peek(request, row->how);

		s->access.how = how_of(flags, peek(request, row->how + OPEN_HOW_RESOLVE));
		s->access.kinds = kinds_of_open(flags);
	}
	if (s->access.how & RESOLVE_IN_ROOT)
		s->access.flags |= RECORD_IN_BASE;
	if (s->data[0] == '/' && !(s->access.how & RESOLVE_IN_ROOT))
		s->access.start = START_ROOT;
	else if (dir == ARG_NONE || (int)peek(request, dir) == AT_FDCWD)
		s->access.start = START_PWD;
	else
		s->access.dir = path_of_fd(task, (int)peek(request, dir));
	return 1;
}

#endif
