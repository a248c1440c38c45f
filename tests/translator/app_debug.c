// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Something to look at from outside: "spin" stays in spin_here() for ever, "fork"
 * runs child_only() in a child and says its number, "call" makes system calls.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

volatile unsigned long sink;

__attribute__((noinline)) static void spin_here(void)
{
	for (;;)
		sink += 0x1234;
}

__attribute__((noinline)) static void child_only(void)
{
	for (int i = 0; i < 1000; i++)
		sink += i;
}

int main(int argc, char **argv)
{
	printf("%d\n", getpid());
	fflush(stdout);
	if (argc > 1 && !strcmp(argv[1], "spin"))
		spin_here();
	for (; argc > 1 && !strcmp(argv[1], "call"); sink++)
		getppid();
	if (argc > 1 && !strcmp(argv[1], "fork")) {
		int status;

		if (!fork()) {
			printf("%d\n", getpid());
			fflush(stdout);
			child_only();
			_exit(3);
		}
		wait(&status);
		return WEXITSTATUS(status);
	}
	return 0;
}
