/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* switch DIR N: one process makes DIR/link lead to DIR/0, DIR/1, ... DIR/N-1, one after the other, while two others open it
 * again and again. It prints the files that they have opened. These are there before, and the content of each is its number. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define READERS 2

/* Opens the link until it leads to the last file, and notes each file that it has opened. */
static void read_link_until(const char *top, int last, char *seen)
{
	char link[4096];
	int number = -1;

	snprintf(link, sizeof(link), "%s/link", top);
	while (number < last) {
		int fd = open(link, O_RDONLY);

		if (fd < 0 || read(fd, &number, sizeof(number)) != sizeof(number))
			_exit(1);
		close(fd);
		seen[number] = 1;
	}
	_exit(0);
}

static void switch_to(const char *top, int number)
{
	char file[4096], fresh[4096], link[4096];

	snprintf(file, sizeof(file), "%s/%d", top, number);
	snprintf(fresh, sizeof(fresh), "%s/fresh", top);
	snprintf(link, sizeof(link), "%s/link", top);
	if (symlink(file, fresh) || rename(fresh, link))
		_exit(1);
}

int main(int argc, char **argv)
{
	int count = argc == 3 ? atoi(argv[2]) : 0, failed = count < 1;

	if (failed)
		return 1;
	/* For all processes: the readers would print into each other's lines. */
	char *seen = mmap(0, count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (seen == MAP_FAILED)
		return 1;
	switch_to(argv[1], 0);
	for (int i = 0; i < READERS; i++)
		if (!fork())
			read_link_until(argv[1], count - 1, seen);
	for (int i = 1; i < count; i++) {
		switch_to(argv[1], i);
		usleep(1000);
	}
	for (int i = 0, status; i < READERS; i++)
		failed |= wait(&status) < 0 || status;
	for (int i = 0; i < count; i++)
		if (seen[i])
			printf("%s/%d\n", argv[1], i);
	return failed;
}
