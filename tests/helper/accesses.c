/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Performs each syscall that takes a path on files of its own, and says which paths a tracer must
 * report.
 *
 *   accesses setup DIR   makes the files; not traced
 *   accesses run DIR     performs the calls; prints "call:NAME" and "path:PATH", each with a NUL
 *   accesses nop         does nothing: what the exec calls execute
 *   accesses opens N DIR opens N files DIR/0… and ends
 *   accesses threads N M DIR
 *                        N threads, each opening M files DIR/THREAD-0…
 *   accesses fails N     looks up N names that do not exist
 *   accesses homeless FILE DIR
 *                        executes itself from a memfd, which makes DIR/memfd; opens FILE, leaves the mount
 *                        namespace and makes DIR/unshared
 *   accesses killed FILE executes FILE and kills it before its first instruction
 *
 * Linked statically and free of other accesses, so that the report can be compared exactly. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Numbers that older headers lack; the same on every architecture. */
#define NR_fchmodat2 452
#define NR_setxattrat 463
#define NR_getxattrat 464
#define NR_listxattrat 465
#define NR_removexattrat 466
#define NR_open_tree_attr 467
#define NR_file_getattr 468
#define NR_file_setattr 469

static int running;
static const char *top;

static void die(const char *what, const char *on)
{
	dprintf(2, "accesses: %s %s: %s\n", what, on, strerror(errno));
	_exit(1);
}

static void say(const char *kind, const char *what)
{
	if (running && dprintf(1, "%s:%s%c", kind, what, 0) < 0)
		die("write", what);
}

/* A path below DIR. Never freed: the process is short. */
static char *below(const char *format, ...)
{
	char *path = malloc(8192);
	int n = snprintf(path, 8192, "%s/", top);
	va_list args;

	va_start(args, format);
	vsnprintf(path + n, 8192 - n, format, args);
	va_end(args);
	return path;
}

static void expect(const char *path)
{
	say("path", path);
}

/* ---- what setup makes ---- */

static void parents(const char *path)
{
	char *copy = strdup(path);

	for (char *p = copy + 1; *p; p++)
		if (*p == '/') {
			*p = 0;
			if (mkdir(copy, 0755)) {
				if (errno != EEXIST)
					die("mkdir", copy);
				/* By this the program knows that it is there. */
				if (running)
					say("path", copy);
			}
			*p = '/';
		}
	free(copy);
}

static char *make_file(char *path)
{
	if (!running) {
		parents(path);
		int fd = open(path, O_CREAT | O_WRONLY, 0755);

		if (fd < 0 || write(fd, "x", 1) != 1 || close(fd))
			die("create", path);
	}
	return path;
}

static char *make_dir(char *path)
{
	if (!running) {
		parents(path);
		if (mkdir(path, 0755) && errno != EEXIST)
			die("mkdir", path);
	}
	return path;
}

static char *make_link(char *path, const char *target)
{
	if (!running) {
		parents(path);
		if (symlink(target, path))
			die("symlink", path);
	}
	return path;
}

/* A copy of this program. */
static char *make_program(char *path)
{
	if (!running) {
		static char buffer[1 << 16];
		int in = open("/proc/self/exe", O_RDONLY);
		int out = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0755);
		ssize_t n;

		while ((n = read(in, buffer, sizeof(buffer))) > 0)
			if (write(out, buffer, n) != n)
				die("write", path);
		if (in < 0 || out < 0 || close(in) || close(out))
			die("copy", path);
	}
	return path;
}

/* ---- calls ---- */

/* A call that this kernel does not have is said, so that the test can tell. */
static long ok(const char *name, long result)
{
	if (result < 0 && errno == ENOSYS)
		say("lacks", name);
	else if (result < 0)
		die(name, "failed");
	else
		say("call", name);
	return result;
}

/* Runs the statements in a child, whose moves and mounts end with it. */
#define CHILD(...)                                                        \
	do {                                                              \
		if (running) {                                            \
			int status;                                       \
			pid_t pid = fork();                               \
			if (!pid) {                                       \
				__VA_ARGS__;                              \
				_exit(0);                                 \
			}                                                 \
			if (waitpid(pid, &status, 0) != pid || status)    \
				_exit(1);                                 \
		}                                                         \
	} while (0)

static struct open_how how = { .flags = O_RDONLY };
static struct stat st;
static struct statfs fs;
static struct statx stx;
static char buffer[4096];
static unsigned char attributes[256];
static char *nop[] = { "accesses", "nop", NULL };

static int inotify_fd(void)
{
	static int fd = -1;

	return fd < 0 ? fd = inotify_init1(0) : fd;
}

static int fanotify_fd(void)
{
	static int fd = -1;

	return fd < 0 ? fd = syscall(SYS_fanotify_init, FAN_CLASS_NOTIF, O_RDONLY) : fd;
}

static struct file_handle *handle(void)
{
	struct file_handle *h = (void *)buffer;

	h->handle_bytes = 128;
	return h;
}

static struct {
	unsigned long value;
	unsigned int size, flags;
} xattr_args;

/* What has to be there before the call. */
enum need { NOTHING, FILE_, DIR_, LINK, ATTR, PROGRAM };

struct call {
	const char *name;
	enum need need;
	int at;  /* takes a directory descriptor */
	int two; /* and a second path: the first with "-2" */
	long (*perform)(int d, const char *p, const char *p2);
};

/* d: directory descriptor, p: path, q: second path */
#define CALL(name, need, at, two, expression)                                     \
	static long do_##name(int d, const char *p, const char *q)                \
	{                                                                         \
		(void)d, (void)p, (void)q;                                        \
		return expression;                                                \
	}
#define CALLS                                                                                     \
	C(open, FILE_, 0, 0, syscall(SYS_open, p, O_RDONLY))                                      \
	C(openat, FILE_, 1, 0, syscall(SYS_openat, d, p, O_RDONLY))                               \
	C(openat2, FILE_, 1, 0, syscall(SYS_openat2, d, p, &how, sizeof(how)))                    \
	C(creat, NOTHING, 0, 0, syscall(SYS_creat, p, 0644))                                      \
	C(execve, PROGRAM, 0, 0, syscall(SYS_execve, p, nop, NULL))                               \
	C(execveat, PROGRAM, 1, 0, syscall(SYS_execveat, d, p, nop, NULL, 0))                     \
	C(stat, FILE_, 0, 0, syscall(SYS_stat, p, &st))                                           \
	C(lstat, LINK, 0, 0, syscall(SYS_lstat, p, &st))                                          \
	C(newfstatat, FILE_, 1, 0, syscall(SYS_newfstatat, d, p, &st, 0))                         \
	C(statx, FILE_, 1, 0, syscall(SYS_statx, d, p, 0, STATX_BASIC_STATS, &stx))               \
	C(access, FILE_, 0, 0, syscall(SYS_access, p, R_OK))                                      \
	C(faccessat, FILE_, 1, 0, syscall(SYS_faccessat, d, p, R_OK))                             \
	C(faccessat2, FILE_, 1, 0, syscall(SYS_faccessat2, d, p, R_OK, 0))                        \
	C(readlink, LINK, 0, 0, syscall(SYS_readlink, p, buffer, sizeof(buffer)))                 \
	C(readlinkat, LINK, 1, 0, syscall(SYS_readlinkat, d, p, buffer, sizeof(buffer)))          \
	C(statfs, FILE_, 0, 0, syscall(SYS_statfs, p, &fs))                                       \
	C(name_to_handle_at, FILE_, 1, 0,                                                         \
	  syscall(SYS_name_to_handle_at, d, p, handle(), &(int){ 0 }, 0))                         \
	C(inotify_add_watch, FILE_, 0, 0, syscall(SYS_inotify_add_watch, inotify_fd(), p, IN_OPEN)) \
	C(fanotify_mark, FILE_, 1, 0,                                                             \
	  syscall(SYS_fanotify_mark, fanotify_fd(), FAN_MARK_ADD, FAN_MODIFY, d, p))              \
	C(truncate, FILE_, 0, 0, syscall(SYS_truncate, p, 0))                                     \
	C(chmod, FILE_, 0, 0, syscall(SYS_chmod, p, 0600))                                        \
	C(fchmodat, FILE_, 1, 0, syscall(SYS_fchmodat, d, p, 0600))                               \
	C(fchmodat2, FILE_, 1, 0, syscall(NR_fchmodat2, d, p, 0600, 0))                           \
	C(chown, FILE_, 0, 0, syscall(SYS_chown, p, 0, 0))                                        \
	C(lchown, LINK, 0, 0, syscall(SYS_lchown, p, 0, 0))                                       \
	C(fchownat, FILE_, 1, 0, syscall(SYS_fchownat, d, p, 0, 0, 0))                            \
	C(utime, FILE_, 0, 0, syscall(SYS_utime, p, NULL))                                        \
	C(utimes, FILE_, 0, 0, syscall(SYS_utimes, p, NULL))                                      \
	C(futimesat, FILE_, 1, 0, syscall(SYS_futimesat, d, p, NULL))                             \
	C(utimensat, FILE_, 1, 0, syscall(SYS_utimensat, d, p, NULL, 0))                          \
	C(file_getattr, FILE_, 1, 0, syscall(NR_file_getattr, d, p, attributes, 24, 0))           \
	C(file_setattr, FILE_, 1, 0, syscall(NR_file_setattr, d, p, attributes, 24, 0))           \
	C(setxattr, FILE_, 0, 0, syscall(SYS_setxattr, p, "user.a", "v", 1, 0))                   \
	C(lsetxattr, FILE_, 0, 0, syscall(SYS_lsetxattr, p, "user.a", "v", 1, 0))                 \
	C(setxattrat, FILE_, 1, 0,                                                                \
	  syscall(NR_setxattrat, d, p, 0, "user.a", &xattr_args, sizeof(xattr_args)))             \
	C(getxattr, ATTR, 0, 0, syscall(SYS_getxattr, p, "user.a", buffer, 9))                    \
	C(lgetxattr, ATTR, 0, 0, syscall(SYS_lgetxattr, p, "user.a", buffer, 9))                  \
	C(getxattrat, ATTR, 1, 0,                                                                 \
	  syscall(NR_getxattrat, d, p, 0, "user.a", &xattr_args, sizeof(xattr_args)))             \
	C(listxattr, FILE_, 0, 0, syscall(SYS_listxattr, p, buffer, sizeof(buffer)))              \
	C(llistxattr, FILE_, 0, 0, syscall(SYS_llistxattr, p, buffer, sizeof(buffer)))            \
	C(listxattrat, FILE_, 1, 0, syscall(NR_listxattrat, d, p, 0, buffer, sizeof(buffer)))     \
	C(removexattr, ATTR, 0, 0, syscall(SYS_removexattr, p, "user.a"))                         \
	C(lremovexattr, ATTR, 0, 0, syscall(SYS_lremovexattr, p, "user.a"))                       \
	C(removexattrat, ATTR, 1, 0, syscall(NR_removexattrat, d, p, 0, "user.a"))                \
	C(link, FILE_, 0, 1, syscall(SYS_link, p, q))                                             \
	C(linkat, FILE_, 1, 1, syscall(SYS_linkat, d, p, d, q, 0))                                \
	C(symlink, NOTHING, 0, 0, syscall(SYS_symlink, "nowhere", p))                             \
	C(symlinkat, NOTHING, 1, 0, syscall(SYS_symlinkat, "nowhere", d, p))                      \
	C(rename, FILE_, 0, 1, syscall(SYS_rename, p, q))                                         \
	C(renameat, FILE_, 1, 1, syscall(SYS_renameat, d, p, d, q))                               \
	C(renameat2, FILE_, 1, 1, syscall(SYS_renameat2, d, p, d, q, 0))                          \
	C(unlink, FILE_, 0, 0, syscall(SYS_unlink, p))                                            \
	C(unlinkat, FILE_, 1, 0, syscall(SYS_unlinkat, d, p, 0))                                  \
	C(mkdir, NOTHING, 0, 0, syscall(SYS_mkdir, p, 0755))                                      \
	C(mkdirat, NOTHING, 1, 0, syscall(SYS_mkdirat, d, p, 0755))                               \
	C(rmdir, DIR_, 0, 0, syscall(SYS_rmdir, p))                                               \
	C(mknod, NOTHING, 0, 0, syscall(SYS_mknod, p, S_IFREG | 0644, 0))                         \
	C(mknodat, NOTHING, 1, 0, syscall(SYS_mknodat, d, p, S_IFREG | 0644, 0))                  \
	C(chdir, DIR_, 0, 0, syscall(SYS_chdir, p))                                               \
	C(chroot, DIR_, 0, 0, syscall(SYS_chroot, p))                                             \
	C(open_tree, FILE_, 1, 0, syscall(SYS_open_tree, d, p, 0))                                \
	C(open_tree_attr, FILE_, 1, 0, syscall(NR_open_tree_attr, d, p, 0, NULL, 0))

#define C CALL
CALLS
#undef C
#define C(name, need, at, two, expression) { #name, need, at, two, do_##name },
static const struct call calls[] = { CALLS };
#undef C

static char *make(const struct call *c, char *path)
{
	if (c->need == NOTHING)
		parents(path);
	else if (c->need == DIR_)
		make_dir(path);
	else if (c->need == LINK)
		make_link(path, "nowhere");
	else
		make_file(path);
	if (!running && c->need == ATTR && setxattr(path, "user.a", "v", 1, 0))
		die("setxattr", path);
	if (c->need == PROGRAM)
		make_program(path);
	return path;
}

/* Says that the call used the name below DIR, and its second name. */
static void used(const struct call *c, const char *name)
{
	expect(below("%s", name));
	if (c->two)
		expect(below("%s-2", name));
}

static int opens(const struct call *c)
{
	return c->need == PROGRAM || !strncmp(c->name, "open", 4) || !strcmp(c->name, "creat") ||
	       !strcmp(c->name, "chdir") || !strcmp(c->name, "chroot");
}

/* Every call with an absolute path, relative to the working directory, relative to a descriptor, and
 * through a directory that is a symlink. */
static void each_call(const struct call *c)
{
	char *name = malloc(256), *second = malloc(256);
	int dir = -1;

	/* Absolute. */
	snprintf(name, 256, "absolute/%s", c->name);
	make(c, below("%s", name));
	CHILD(ok(c->name, c->perform(AT_FDCWD, below("%s", name), below("%s-2", name))));
	used(c, name);
	if (c->need == PROGRAM) /* it did not come back to say so */
		say("call", c->name);

	/* Relative to the working directory, with a dot on the way. */
	snprintf(name, 256, "relative/%s", c->name);
	make(c, below("%s", name));
	snprintf(name, 256, "./%s", c->name);
	snprintf(second, 256, "%s-2", name);
	CHILD(if (chdir(below("relative"))) die("chdir", top);
	      ok(c->name, c->perform(AT_FDCWD, name, second)));
	snprintf(name, 256, "relative/%s", c->name);
	used(c, name);

	/* Relative to a descriptor, from another working directory. */
	if (c->at) {
		snprintf(name, 256, "descriptor/%s", c->name);
		make(c, below("%s", name));
		snprintf(second, 256, "%s-2", c->name);
		CHILD(dir = open(below("descriptor"), O_RDONLY | O_DIRECTORY);
		      if (dir < 0 || chdir(below("relative"))) die("open", top);
		      ok(c->name, c->perform(dir, c->name, second)));
		used(c, name);
	}

	/* Through a symlink: the real path too where the call opens the file. */
	snprintf(name, 256, "real/%s", c->name);
	make(c, below("%s", name));
	snprintf(name, 256, "symlink/%s", c->name);
	CHILD(ok(c->name, c->perform(AT_FDCWD, below("%s", name), below("%s-2", name))));
	used(c, name);
	if (opens(c))
		expect(below("real/%s", c->name));
}

/* ---- calls on mounts: absolute only, in a mount namespace of their own ---- */

static void private_mounts(void)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		die("unshare", "mount namespace");
}

static void mounts(void)
{
	char *point = make_dir(below("mounts/point")), *moved = make_dir(below("mounts/moved"));
	char *root = make_dir(below("mounts/root")), *old = below("mounts/root/old");
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID };

	CHILD(private_mounts();
	      ok("mount", syscall(SYS_mount, "none", point, "tmpfs", 0, NULL));
	      ok("mount_setattr",
		 syscall(SYS_mount_setattr, AT_FDCWD, point, 0, &attr, sizeof(attr)));
	      ok("fspick", syscall(SYS_fspick, AT_FDCWD, point, 0));
	      ok("move_mount", syscall(SYS_move_mount, AT_FDCWD, point, AT_FDCWD, moved, 0));
	      ok("umount2", syscall(SYS_umount2, moved, MNT_DETACH)));
	expect(point);
	expect(moved);

	CHILD(private_mounts();
	      ok("mount", syscall(SYS_mount, "none", root, "tmpfs", 0, NULL));
	      ok("mkdir", syscall(SYS_mkdir, old, 0755));
	      ok("pivot_root", syscall(SYS_pivot_root, root, old)));
	expect(root);
	expect(old);

	/* A file on another mount, by descriptor and by working directory. */
	CHILD(private_mounts();
	      if (mount("none", point, "tmpfs", 0, NULL) || mkdir(below("mounts/point/d"), 0755) ||
		  chdir(below("mounts/point/d")))
		      die("mount", point);
	      ok("creat", syscall(SYS_creat, "across", 0644)));
	expect(below("mounts/point/d"));
	expect(below("mounts/point/d/across"));
}

/* ---- unix sockets ---- */

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un address = { AF_UNIX, "" };

	strncpy(address.sun_path, path, sizeof(address.sun_path));
	return address;
}

static void sockets(void)
{
	struct sockaddr_un stream = address(below("sockets/stream")), datagram = address("datagram-and-more");
	struct sockaddr_un abstract = { AF_UNIX, "\0/abstract" };
	/* Without a NUL: the length ends the name. */
	socklen_t all = sizeof(stream), cut = offsetof(struct sockaddr_un, sun_path) + strlen("datagram");
	struct iovec text = { "x", 1 };
	struct mmsghdr message = { .msg_hdr = { .msg_name = &datagram, .msg_namelen = cut, .msg_iov = &text, .msg_iovlen = 1 } };
	struct sockaddr internet = { AF_INET, "/no/path" };

	make_dir(below("sockets"));
	CHILD(int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
	      int receiver = socket(AF_UNIX, SOCK_DGRAM, 0), sender = socket(AF_UNIX, SOCK_DGRAM, 0);
	      if (chdir(below("sockets")))
		      die("chdir", "sockets");
	      ok("bind", syscall(SYS_bind, server, &stream, all));
	      if (listen(server, 1)) die("listen", stream.sun_path);
	      ok("connect", syscall(SYS_connect, client, &stream, all));
	      ok("bind", bind(receiver, (struct sockaddr *)&datagram, cut));
	      ok("sendto", syscall(SYS_sendto, sender, "x", 1, 0, &datagram, cut));
	      ok("sendmsg", syscall(SYS_sendmsg, sender, &message.msg_hdr, 0));
	      ok("sendmmsg", syscall(SYS_sendmmsg, sender, &message, 1, 0));
	      /* By socketcall(2) where the C library of 32-bit programs does so. */
	      ok("sendto", sendto(sender, "x", 1, 0, (struct sockaddr *)&datagram, cut));
	      ok("sendmsg", sendmsg(sender, &message.msg_hdr, 0));
	      /* These name no file. */
	      server = socket(AF_UNIX, SOCK_DGRAM, 0);
	      ok("bind", bind(server, (struct sockaddr *)&abstract, sizeof(abstract)));
	      ok("sendto", sendto(server, "x", 1, 0, (struct sockaddr *)&datagram, cut));
	      ok("bind", bind(sender, (struct sockaddr *)&abstract, sizeof(sa_family_t)));
	      ok("connect", connect(socket(AF_INET, SOCK_DGRAM, 0), &internet, sizeof(internet)));
	      write(client, "x", 1));
	expect(below("sockets"));
	expect(below("sockets/stream"));
	expect(below("sockets/datagram"));
}

/* ---- particular paths ---- */

static void by_handle(void)
{
	char *path = make_file(below("handle/file"));

	CHILD(struct file_handle *h = handle();
	      int id, mount = open(below("handle"), O_RDONLY);
	      ok("name_to_handle_at", syscall(SYS_name_to_handle_at, AT_FDCWD, path, h, &id, 0));
	      ok("open_by_handle_at", syscall(SYS_open_by_handle_at, mount, h, O_RDONLY)));
	expect(below("handle"));
	expect(path);
}

/* A file that is mapped like a library. */
static void mapped(void)
{
	char *path = make_file(below("mapped"));

	CHILD(int library = open(path, O_RDONLY);
	      ok("mmap", -(mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, 0) == MAP_FAILED)));
	expect(path);
}

static void in_chroot(void)
{
	make_file(below("jail/absolute"));
	make_file(below("jail/dir/relative"));
	make_file(below("jail/held"));
	make_file(below("jail/proc/not-excluded"));
	make_file(below("jail/root/in-root"));
	CHILD(struct open_how inside = { .flags = O_RDONLY, .resolve = RESOLVE_IN_ROOT };
	      int dir = open(below("jail/root"), O_RDONLY);
	      ok("openat2", syscall(SYS_openat2, dir, "/../in-root", &inside, sizeof(inside)));
	      if (chdir(top)) die("chdir", top);
	      ok("chroot", syscall(SYS_chroot, "jail"));
	      ok("chdir", syscall(SYS_chdir, "/dir"));
	      ok("open", syscall(SYS_open, "/absolute", O_RDONLY));
	      ok("open", syscall(SYS_open, "/proc/not-excluded", O_RDONLY));
	      ok("open", syscall(SYS_open, "relative", O_RDONLY));
	      ok("stat", syscall(SYS_stat, "../../../held", &st)));
	expect(top);
	expect(below("jail"));
	expect(below("jail/root"));
	expect(below("jail/root/in-root"));
	expect(below("jail/absolute"));
	expect(below("jail/proc/not-excluded"));
	expect(below("jail/dir"));
	expect(below("jail/dir/relative"));
	expect(below("jail/held"));
}

/* The working directory that a relative chdir starts from is gone when the call returns. */
static void moves(void)
{
	make_file(below("moves/real/deep/file"));
	make_link(below("moves/link"), "real/deep");
	CHILD(ok("chdir", syscall(SYS_chdir, below("moves")));
	      ok("chdir", syscall(SYS_chdir, "link"));
	      ok("stat", syscall(SYS_stat, "file", &st)));
	expect(below("moves"));
	expect(below("moves/link"));
	expect(below("moves/real/deep"));
	expect(below("moves/real/deep/file"));

	/* In a grandchild that has not moved yet itself, from where fchdir led. */
	make_link(below("moves/other"), "real");
	CHILD(int dir = open(below("moves"), O_RDONLY);
	      if (fchdir(dir)) die("fchdir", top);
	      CHILD(CHILD(ok("chdir", syscall(SYS_chdir, "other")))));
	expect(below("moves/other"));
	expect(below("moves/real"));
}

/* A renamed directory: the same name in it is another path. */
static void renamed(void)
{
	make_file(below("renamed/before/file"));
	CHILD(if (chdir(below("renamed/before"))) die("chdir", top);
	      ok("stat", syscall(SYS_stat, "file", &st));
	      ok("rename", syscall(SYS_rename, below("renamed/before"), below("renamed/after")));
	      ok("stat", syscall(SYS_stat, "file", &st)));
	expect(below("renamed/before"));
	expect(below("renamed/before/file"));
	expect(below("renamed/after"));
	expect(below("renamed/after/file"));
}

/* Directories of 100 bytes each until the path has `length`. */
static void long_path(int length)
{
	char *directory = below("long"), *absolute, *relative;

	while ((int)strlen(directory) < length)
		sprintf(directory + strlen(directory), "/%0100d", length);
	absolute = make_file(below("%s/absolute", directory + strlen(top) + 1));
	relative = make_file(below("%s/relative", directory + strlen(top) + 1));
	CHILD(ok("open", syscall(SYS_open, absolute, O_RDONLY));
	      ok("chdir", syscall(SYS_chdir, directory));
	      ok("stat", syscall(SYS_stat, "relative", &st)));
	expect(absolute);
	expect(directory);
	expect(relative);
}

static void odd_names(void)
{
	static const char *const names[] = { "\xff\xfe", "caf\xe9", "new\nline", "tab\t\"quote\"",
					     "back\\slash", "\x01\x7f", " ", "…", "..." };

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char *path = make_file(below("odd/%s", names[i]));

		CHILD(ok("open", syscall(SYS_open, path, O_RDONLY)));
		expect(path);
	}
}

/* The path stands in memory that nobody has touched: the page of a file that is not cached. */
static void cold_page(void)
{
	char *path = make_file(below("cold/file")), *text = below("cold/text");
	int fd;

	if (!running) {
		fd = open(text, O_CREAT | O_WRONLY, 0644);
		if (fd < 0 || write(fd, path, strlen(path) + 1) < 0 || fsync(fd) || close(fd))
			die("create", text);
	}
	CHILD(fd = open(text, O_RDONLY);
	      posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	      char *cold = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	      if (cold == MAP_FAILED) die("mmap", text);
	      ok("stat", syscall(SYS_stat, cold, &st)));
	expect(text);
	expect(path);
}

/* An excluded name that leads to a file which is not. */
static void excluded_name(void)
{
	char *path = make_file(below("excluded/file")), link[64];
	int fd;

	CHILD(fd = open(path, O_RDONLY);
	      snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	      ok("open", syscall(SYS_open, link, O_RDONLY));
	      ok("open", syscall(SYS_open, "/proc/self/status", O_RDONLY));
	      snprintf(link, sizeof(link), "/proc/../%s", below("excluded/climbed"));
	      ok("creat", syscall(SYS_creat, link, 0644)));
	expect(path);
	expect("/proc"); /* a ".." follows it */
	expect(below("excluded/climbed"));
}

/* ---- the other workloads ---- */

static void open_all(const char *format, int n, const char *dir, int thread)
{
	char path[4096];

	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), format, dir, thread, i);
		int fd = open(path, O_RDONLY);

		if (fd < 0)
			die("open", path);
		close(fd);
	}
}

static int per_thread;

static void *thread(void *number)
{
	open_all("%s/%d-%d", per_thread, top, (int)(long)number);
	return NULL;
}

static void threads(int n, int files)
{
	pthread_t *all = calloc(n, sizeof(*all));

	per_thread = files;
	for (long i = 0; i < n; i++)
		if (pthread_create(&all[i], NULL, thread, (void *)i))
			die("pthread_create", top);
	for (int i = 0; i < n; i++)
		pthread_join(all[i], NULL);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	top = argv[argc - 1];
	if (!strcmp(mode, "nop"))
		return 0;
	if (!strcmp(mode, "opens") && argc == 4) {
		open_all("%s/%d-%d", atoi(argv[2]), top, 0);
		return 0;
	}
	if (!strcmp(mode, "threads") && argc == 5) {
		threads(atoi(argv[2]), atoi(argv[3]));
		return 0;
	}
	if (!strcmp(mode, "fails") && argc == 3) {
		for (int i = 0; i < atoi(argv[2]); i++)
			if (!syscall(SYS_stat, "/no/such/file", &st))
				return 1;
		return 0;
	}
	if (!strcmp(mode, "killed")) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			ptrace(PTRACE_TRACEME);
			execv(top, nop);
			_exit(1);
		}
		/* A traced process stops when its exec is done. */
		return !(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && !kill(pid, SIGKILL) &&
			 waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	}
	if (!strcmp(mode, "homeless") && argc == 4) {
		/* By a program in memory: itself, without a path. Then in a mount namespace of its own. */
		int memory = memfd_create("program", 0), self = open("/proc/self/exe", O_RDONLY);

		while (sendfile(memory, self, NULL, 1 << 20) > 0)
			;
		close(self);
		if (!fork()) {
			char *again[] = { argv[0], "memfd", argv[3], NULL };

			fexecve(memory, again, environ);
			_exit(1);
		}
		int status;

		if (wait(&status) < 0 || status || open(argv[2], O_RDONLY) < 0 || unshare(CLONE_NEWNS))
			return 1;
		return creat(below("unshared"), 0600) < 0;
	}
	if (!strcmp(mode, "memfd") && argc == 3)
		return creat(below("memfd"), 0600) < 0;
	running = !strcmp(mode, "run");
	if ((!running && strcmp(mode, "setup")) || argc != 3) {
		dprintf(2, "accesses: wrong usage\n");
		return 2;
	}
	make_dir(below("real"));
	make_link(below("symlink"), "real");
	for (unsigned i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		each_call(&calls[i]);
	/* each_call moved there and opened it. */
	expect(below("relative"));
	expect(below("descriptor"));
	/* private_mounts() changes it. */
	expect("/");
	mounts();
	sockets();
	by_handle();
	mapped();
	in_chroot();
	moves();
	renamed();
	long_path(300);
	long_path(3000);
	odd_names();
	cold_page();
	excluded_name();
	return 0;
}
