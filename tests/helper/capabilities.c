/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Executes a command as root with no capabilities but those in the first argument, separated by commas. */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* linux/capability.h */
static const struct {
	const char *name;
	int number;
} known[] = { { "sys_admin", 21 }, { "sys_resource", 24 }, { "perfmon", 38 }, { "bpf", 39 } };

int main(int argc, char **argv)
{
	unsigned long long kept = 0;

	if (argc < 3)
		return 2;
	for (char *name = strtok(argv[1], ","); name; name = strtok(NULL, ","))
		for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			if (!strcmp(name, known[i].name))
				kept |= 1ULL << known[i].number;
	/* What root gets when it executes a program is the bounding set. Numbers the kernel does not know fail. */
	for (int cap = 0; cap < 64; cap++)
		if (!(kept >> cap & 1))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 127;
}
