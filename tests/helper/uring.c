/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Makes requests of io_uring on files of the directory in its argument; prints the names that succeed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct io_uring ring;
static const char *top;

static char *name(const char *last)
{
	char *path;

	if (asprintf(&path, "%s/%s", top, last) < 0)
		exit(1);
	return path;
}

/* Submits one request; its result has to be as expected. */
static int done(const char *what, struct io_uring_sqe *sqe, unsigned flags, int good)
{
	struct io_uring_cqe *cqe;

	sqe->flags |= flags;
	if (io_uring_submit(&ring) != 1 || io_uring_wait_cqe(&ring, &cqe)) {
		fprintf(stderr, "uring: cannot submit %s\n", what);
		exit(1);
	}
	int result = cqe->res;

	if ((result >= 0) != good) {
		fprintf(stderr, "uring: %s: %s\n", what, strerror(-result));
		exit(1);
	}
	io_uring_cqe_seen(&ring, cqe);
	return result;
}

static char *expected(const char *last)
{
	char *path = name(last);

	puts(path);
	return path;
}

int main(int argc, char **argv)
{
	struct open_how how = { .flags = O_CREAT | O_RDWR, .mode = 0600 };
	struct statx stx;
	struct io_uring_sqe *sqe;

	top = argv[argc - 1];
	if (io_uring_queue_init(8, &ring, 0)) {
		fprintf(stderr, "uring: this kernel has none\n");
		return 1;
	}
#define NEXT (sqe = io_uring_get_sqe(&ring))
	io_uring_prep_openat(NEXT, AT_FDCWD, expected("opened"), O_CREAT | O_RDWR, 0600);
	done("openat", sqe, 0, 1);
	io_uring_prep_openat(NEXT, AT_FDCWD, expected("worker"), O_CREAT | O_RDWR, 0600);
	done("openat in a worker", sqe, IOSQE_ASYNC, 1);
	io_uring_prep_openat2(NEXT, AT_FDCWD, expected("opened2"), &how);
	done("openat2", sqe, 0, 1);
	io_uring_prep_openat(NEXT, AT_FDCWD, name("missing"), O_RDONLY, 0);
	done("openat of nothing", sqe, 0, 0);
	io_uring_prep_openat(NEXT, AT_FDCWD, name("missing-later"), O_RDONLY, 0);
	done("openat of nothing in a worker", sqe, IOSQE_ASYNC, 0);
	io_uring_prep_mkdirat(NEXT, AT_FDCWD, expected("made"), 0700);
	done("mkdirat", sqe, 0, 1);
	io_uring_prep_openat(NEXT, AT_FDCWD, name("made"), O_DIRECTORY | O_PATH, 0);
	int dir = done("openat", sqe, 0, 1);

	expected("made/below");
	io_uring_prep_openat(NEXT, dir, "below", O_CREAT | O_RDWR, 0600);
	done("openat below a directory", sqe, 0, 1);
	if (chdir(top))
		return 1;
	puts(top);
	expected("relative");
	io_uring_prep_openat(NEXT, AT_FDCWD, "relative", O_CREAT | O_RDWR, 0600);
	done("openat of a relative name", sqe, IOSQE_ASYNC, 1);
	io_uring_prep_statx(NEXT, AT_FDCWD, expected("opened"), 0, STATX_SIZE, &stx);
	done("statx", sqe, 0, 1);
	io_uring_prep_renameat(NEXT, AT_FDCWD, name("opened2"), AT_FDCWD, expected("renamed"), 0);
	done("renameat", sqe, 0, 1);
	io_uring_prep_linkat(NEXT, AT_FDCWD, name("renamed"), dir, "linked", 0);
	expected("made/linked");
	done("linkat", sqe, 0, 1);
	io_uring_prep_symlinkat(NEXT, "nowhere", dir, "symlink");
	expected("made/symlink");
	done("symlinkat", sqe, 0, 1);
	io_uring_prep_unlinkat(NEXT, AT_FDCWD, expected("worker"), 0);
	done("unlinkat", sqe, 0, 1);
	/* Once it failed, then it succeeds: it must be listed. */
	io_uring_prep_openat(NEXT, AT_FDCWD, expected("missing"), O_CREAT | O_RDWR, 0600);
	done("openat at last", sqe, 0, 1);
	return 0;
}
