/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Does what a generated program says. Each line of standard input is "WORKER CALL ARGUMENTS"; the worker makes the call, and
 * its result goes to standard output: 0, or an error number. No two calls overlap.
 *
 * Workers are processes and threads. Worker 0 begins in the directory where this program was started. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 8
#define SLOTS 2
#define COMMAND 4096 /* PIPE_BUF: a command is one packet */
#define STACK (256 << 10)

struct worker {
	int commands[2];
	int results[2];
	int slot[SLOTS]; /* descriptors of directories */
};

static struct worker workers[WORKERS];

/* A thread has its directories. */
static sem_t ready;

static void work(int number);

static void *thread(void *number)
{
	sem_post(&ready);
	work((long)number);
	return 0;
}

static void *thread_of_its_own(void *number)
{
	if (unshare(CLONE_FS))
		_exit(errno);
	sem_post(&ready);
	work((long)number);
	return 0;
}

static int process(void *number)
{
	work((long)number);
	_exit(0);
}

/* A process that shares its working directory and root with its parent if `flags` say so. */
static int start_process(long number, int flags)
{
	char *stack = malloc(STACK);

	memcpy(workers[number].slot, (int[SLOTS]){ -1, -1 }, sizeof(workers[number].slot));
	return clone(process, stack + STACK, SIGCHLD | flags, (void *)number) < 0 ? errno : 0;
}

static int start_thread(long number, void *(*routine)(void *))
{
	pthread_t id;
	int failed = pthread_create(&id, 0, routine, (void *)number);

	if (!failed)
		sem_wait(&ready);
	return failed;
}

static int execute(const char *path)
{
	int status, failed = 0, ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC))
		return errno;
	child = fork();
	if (!child) {
		execl(path, path, "executed", (char *)0);
		failed = errno;
		_exit(write(ends[1], &failed, sizeof(failed)) < 0);
	}
	close(ends[1]);
	if (read(ends[0], &failed, sizeof(failed)) < 0)
		failed = errno;
	close(ends[0]);
	waitpid(child, &status, 0);
	return failed;
}

static int open_and_close(int directory, const char *path, int flags)
{
	int fd = openat(directory, path, flags, 0755);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int open_in_root(int directory, const char *path)
{
	struct open_how how = { .flags = O_RDONLY, .resolve = RESOLVE_IN_ROOT };
	int fd = syscall(SYS_openat2, directory, path, &how, sizeof(how));

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int result_of(int failed)
{
	return failed < 0 ? errno : 0;
}

/* The descriptor that begins the arguments: a slot's, or the working directory. */
static int directory_of(struct worker *worker, const char *text)
{
	return *text == '-' ? AT_FDCWD : worker->slot[atoi(text)];
}

static int call(int number, char *text)
{
	struct worker *worker = &workers[number];
	char name[32], from[16], first[COMMAND], second[COMMAND];
	int fields = sscanf(text, "%31s %15s %4095s %4095s", name, from, first, second);
	int at = fields < 2 ? AT_FDCWD : directory_of(worker, from);
	struct stat status;
	char link[COMMAND];

	if (!strcmp(name, "process"))
		return start_process(atoi(from), 0);
	if (!strcmp(name, "sharing"))
		return start_process(atoi(from), CLONE_FS);
	if (!strcmp(name, "thread"))
		return start_thread(atoi(from), thread);
	if (!strcmp(name, "apart"))
		return start_thread(atoi(from), thread_of_its_own);
	if (fields < 3)
		return ENOSYS;
	if (!strcmp(name, "open"))
		return open_and_close(at, first, O_RDONLY);
	if (!strcmp(name, "create"))
		return open_and_close(at, first, O_RDWR | O_CREAT);
	if (!strcmp(name, "nofollow"))
		return open_and_close(at, first, O_PATH | O_NOFOLLOW);
	if (!strcmp(name, "in_root"))
		return open_in_root(at, first);
	if (!strcmp(name, "keep")) {
		int fd = openat(at, first, O_RDONLY | O_DIRECTORY);

		if (fd < 0)
			return errno;
		if (worker->slot[atoi(second)] >= 0)
			close(worker->slot[atoi(second)]);
		worker->slot[atoi(second)] = fd;
		return 0;
	}
	if (!strcmp(name, "stat"))
		return result_of(fstatat(at, first, &status, 0));
	if (!strcmp(name, "lstat"))
		return result_of(fstatat(at, first, &status, AT_SYMLINK_NOFOLLOW));
	if (!strcmp(name, "access"))
		return result_of(faccessat(at, first, F_OK, 0));
	if (!strcmp(name, "readlink"))
		return result_of(readlinkat(at, first, link, sizeof(link)));
	if (!strcmp(name, "mkdir"))
		return result_of(mkdirat(at, first, 0755));
	if (!strcmp(name, "rmdir"))
		return result_of(unlinkat(at, first, AT_REMOVEDIR));
	if (!strcmp(name, "unlink"))
		return result_of(unlinkat(at, first, 0));
	if (!strcmp(name, "symlink"))
		return result_of(symlinkat(second, at, first));
	if (!strcmp(name, "link"))
		return result_of(linkat(at, first, at, second, 0));
	if (!strcmp(name, "rename"))
		return result_of(renameat(at, first, at, second));
	if (!strcmp(name, "chdir"))
		return result_of(chdir(first));
	if (!strcmp(name, "fchdir"))
		return result_of(fchdir(at));
	if (!strcmp(name, "chroot"))
		return result_of(chroot(first));
	if (!strcmp(name, "execute"))
		return execute(first);
	return ENOSYS;
}

static void work(int number)
{
	struct worker *worker = &workers[number];
	char text[COMMAND];

	for (;;) {
		ssize_t length = read(worker->commands[0], text, sizeof(text) - 1);
		int result;

		if (length <= 0 || !strncmp(text, "quit", 4))
			_exit(0);
		text[length] = 0;
		result = call(number, text);
		if (write(worker->results[1], &result, sizeof(result)) < 0)
			_exit(1);
	}
}

int main(int argc, char **argv)
{
	char line[COMMAND], *text;

	/* What the workers execute: a program, or the interpreter of a script, which opens that. */
	if (argc > 1)
		return argc > 2 && open(argv[1], O_RDONLY) < 0;

	sem_init(&ready, 0, 0);
	for (int i = 0; i < WORKERS; i++) {
		memset(workers[i].slot, -1, sizeof(workers[i].slot));
		if (pipe2(workers[i].commands, O_DIRECT) || pipe(workers[i].results))
			return 1;
	}
	if (start_process(0, 0))
		return 1;
	while (fgets(line, sizeof(line), stdin)) {
		int number = strtol(line, &text, 10), result;

		if (write(workers[number].commands[1], text + 1, strlen(text + 1)) < 0 ||
		    read(workers[number].results[0], &result, sizeof(result)) != sizeof(result))
			return 1;
		printf("%d\n", result);
	}
	for (int i = 0; i < WORKERS; i++)
		if (write(workers[i].commands[1], "quit", 4) < 0)
			return 1;
	while (wait(0) > 0)
		;
	return 0;
}
