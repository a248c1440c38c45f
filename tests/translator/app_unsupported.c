// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What the translator cannot do yet, one case each. It must end with status 70
 * and one line that names it, having run everything before it, and nothing
 * after: a case that gets beyond its call prints "beyond".
 */
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "guest.h"

static void before(void)
{
	puts("before");
	fflush(stdout);
}

static void beyond(void)
{
	puts("beyond");
	fflush(stdout);
}

CASE(calls_fork)
{
	before();
	if (!fork())
		_exit(0);
	beyond();
}

CASE(calls_vfork)
{
	before();
	if (!vfork())
		_exit(0);
	beyond();
}

static void *thread(void *arg)
{
	beyond();
	return arg;
}

CASE(calls_clone)
{
	pthread_t t;

	before();
	if (!pthread_create(&t, NULL, thread, NULL))
		beyond();
}

CASE(calls_execve)
{
	char *argv[] = { "/bin/true", NULL };

	before();
	execv("/bin/true", argv);
	beyond();
}

CASE(int_0x80)
{
	long r;

	before();
	__asm__ volatile("int $0x80" : "=a"(r) : "0"(20) : "memory", "r8", "r9", "r10", "r11");
	beyond();
}
