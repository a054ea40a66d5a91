/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a program of any architecture does: "opens N DIR" opens DIR/0-0 to DIR/0-(N-1), "fails N" asks N times for a file
 * that is not there, "calls N" makes N of each of four calls that take no path, and "real-time 0|1 PID" takes a process out of
 * or into the scheduling policy in which no ordinary process interrupts it. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "calls")) {
		char byte = 0;
		int ends[2], failed = pipe(ends);

		for (int i = 0; i < atoi(argv[2]); i++)
			failed |= getppid() < 0 || write(ends[1], &byte, 1) != 1 || poll(0, 0, 0) || read(ends[0], &byte, 1) != 1;
		return failed != 0;
	}
	if (argc == 4 && !strcmp(argv[1], "real-time")) {
		int is_on = atoi(argv[2]);
		struct sched_param priority = { .sched_priority = is_on };

		return sched_setscheduler(atoi(argv[3]), is_on ? SCHED_FIFO : SCHED_OTHER, &priority) != 0;
	}
	int opens = argc == 4 && !strcmp(argv[1], "opens");
	char path[4096];

	if (!opens && (argc != 3 || strcmp(argv[1], "fails")))
		return 2;
	for (int i = 0; i < atoi(argv[2]); i++) {
		if (opens)
			snprintf(path, sizeof(path), "%s/0-%d", argv[3], i);
		else
			strcpy(path, "/no/such/file");
		int fd = open(path, O_RDONLY);

		if ((fd >= 0) != opens)
			return 1;
		close(fd);
	}
	return 0;
}
