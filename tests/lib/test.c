// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The runner behind test.h: forks one child per test, enforces its time limit,
 * prints its KTAP line. Arguments select tests by substring; -l lists them.
 */
#define _GNU_SOURCE
#include "test.h"

#include <sys/prctl.h>

struct test_case *test_first, **test_last, *test_current;
char *test_why;

void test_add(struct test_case *t)
{
	if (!test_last)
		test_last = &test_first;
	*test_last = t;
	test_last = &t->next;
}

static int wanted(const struct test_case *t, int argc, char **argv)
{
	if (argc < 2)
		return 1;
	for (int i = 1; i < argc; i++)
		if (strstr(t->name, argv[i]))
			return 1;
	return 0;
}

static void one_line(char *s)
{
	for (; *s; s++)
		if (*s == '\n')
			*s = ' ';
}

/* Returns 1 if the test failed. */
static int run_one(struct test_case *t, int nr)
{
	const char *scale = getenv("TEST_SCALE");
	unsigned int limit = t->seconds * (scale ? atoi(scale) : 1);
	int status;
	pid_t pid;

	test_why[0] = 0;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		alarm(limit);
		test_current = t;
		t->fn();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		printf("not ok %d %s - fork: %s\n", nr, t->name, strerror(errno));
		return 1;
	}
	kill(-pid, SIGKILL);	/* what the test left behind */
	one_line(test_why);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		printf("ok %d %s\n", nr, t->name);
		return 0;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == TEST_EXIT_SKIP) {
		printf("ok %d %s # SKIP %s\n", nr, t->name, test_why);
		return 0;
	}
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		printf("not ok %d %s - over %u s %s\n", nr, t->name, limit, test_why);
	else if (WIFSIGNALED(status))
		printf("not ok %d %s - killed by signal %d %s\n", nr, t->name,
		       WTERMSIG(status), test_why);
	else
		printf("not ok %d %s - %s\n", nr, t->name, test_why);
	return 1;
}

int test_main(int argc, char **argv)
{
	int nr = 0, failed = 0;

	test_why = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (test_why == MAP_FAILED)
		return 1;
	if (argc == 2 && !strcmp(argv[1], "-l")) {
		for (struct test_case *t = test_first; t; t = t->next)
			puts(t->name);
		return 0;
	}
	for (struct test_case *t = test_first; t; t = t->next)
		if (wanted(t, argc, argv))
			failed += run_one(t, ++nr);
	printf("1..%d\n", nr);
	fflush(stdout);
	return failed ? 1 : 0;
}

__attribute__((weak)) int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
