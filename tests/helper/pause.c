/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What holds a pod's namespaces. */
#include <unistd.h>

int main(void)
{
	for (;;)
		pause();
}
