// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Exit with the status given, by the way given; arguments printed in quotes. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void at_exit(void)
{
	puts("at exit");
}

int main(int argc, char **argv)
{
	int status = argc > 2 ? atoi(argv[2]) : 0;

	for (int i = 0; i < argc; i++)
		printf("%d '%s'\n", i, i ? argv[i] : strrchr(argv[i], '/') ?: argv[i]);
	atexit(at_exit);
	if (argc > 1 && !strcmp(argv[1], "return"))
		return status;
	if (argc > 1 && !strcmp(argv[1], "exit"))
		exit(status);
	if (argc > 1 && !strcmp(argv[1], "_exit")) {
		fflush(stdout);
		_exit(status);
	}
	if (argc > 1 && !strcmp(argv[1], "signal")) {
		fflush(stdout);
		raise(status);
	}
	return 0;
}
