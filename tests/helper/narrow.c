/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A 32-bit program that uses the files of the directory in its first argument, and prints their names. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 4, "compile with -m32");

static const char *top;

static char *fresh(const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", top, name) < 0)
		exit(1);
	close(creat(path, 0600));
	puts(path);
	return path;
}

static void expect(const char *what, long result)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	struct stat st;
	char *path;

	if (argc > 2) /* executed by itself */
		return 0;
	top = argv[1];
	expect("open", open(fresh("opened"), O_RDONLY));
	expect("stat", stat(fresh("looked-at"), &st));
	expect("old stat", syscall(SYS_stat, fresh("old"), &st));
	expect("access", access(fresh("accessed"), R_OK));
	path = fresh("renamed");
	expect("rename", rename(path, strcat(strcpy(malloc(4096), path), "-on")));
	printf("%s-on\n", path);
	path = fresh("linked");
	expect("symlink", symlink(path, strcat(strcpy(malloc(4096), path), "-to")));
	expect("open", open(strcat(strcpy(malloc(4096), path), "-to"), O_RDONLY));
	printf("%s-to\n", path);
	expect("chdir", chdir(top));
	puts(top);
	fresh("relative");
	expect("open", open("relative", O_RDONLY));
	fflush(stdout);
	execl("/proc/self/exe", argv[0], top, "again", NULL);
	return 1;
}
