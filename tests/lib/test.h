/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A small test library in the kselftest style: every TEST() runs in a child of
 * its own with a time limit, and prints one KTAP line:
 *
 *	ok 3 name
 *	not ok 4 name - reason
 *	ok 5 name # SKIP reason
 *
 * tests/run adds the lines of all programs up. A program that dies without
 * its plan line ("1..N") fails as a whole.
 */
#ifndef CODEWP_TEST_H
#define CODEWP_TEST_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define TEST_EXIT_SKIP 4

struct test_case {
	const char *name;
	void (*fn)(void);
	unsigned int seconds;
	struct test_case *next;
};

extern struct test_case *test_first, **test_last;
extern struct test_case *test_current;	/* in the child: the test that runs */
extern char *test_why;		/* shared with the child: reason, 512 bytes */

void test_add(struct test_case *t);
int test_main(int argc, char **argv);

/* TEST_LONG: with a limit of its own, in seconds (native; VM runs scale it by
 * the environment variable TEST_SCALE).
 */
#define TEST_LONG(id, secs)						\
	static void id(void);						\
	static struct test_case test_case_##id = { #id, id, secs, NULL };\
	static __attribute__((constructor)) void test_add_##id(void)	\
	{								\
		test_add(&test_case_##id);				\
	}								\
	static void id(void)
#define TEST(id) TEST_LONG(id, 30)

#define TEST_FAIL(...) do {						\
	int n_ = snprintf(test_why, 512, "%s:%d: ", __FILE_NAME__, __LINE__);\
	snprintf(test_why + n_, 512 - n_, __VA_ARGS__);			\
	_exit(1);							\
} while (0)

#define SKIP(...) do {							\
	snprintf(test_why, 512, __VA_ARGS__);				\
	_exit(TEST_EXIT_SKIP);						\
} while (0)

#define ASSERT(cond) do {						\
	if (!(cond))							\
		TEST_FAIL("%s", #cond);					\
} while (0)

#define ASSERT_CMP_(a, op, b) do {					\
	__typeof__(a) a_ = (a);						\
	__typeof__(b) b_ = (b);						\
	if (!(a_ op b_))						\
		TEST_FAIL("%s %s %s: %lld, %lld (errno %s)", #a, #op, #b,\
			  (long long)a_, (long long)b_, strerror(errno));\
} while (0)

#define ASSERT_EQ(a, b) ASSERT_CMP_(a, ==, b)
#define ASSERT_NE(a, b) ASSERT_CMP_(a, !=, b)
#define ASSERT_GE(a, b) ASSERT_CMP_(a, >=, b)
#define ASSERT_GT(a, b) ASSERT_CMP_(a, >, b)
#define ASSERT_LE(a, b) ASSERT_CMP_(a, <=, b)
#define ASSERT_LT(a, b) ASSERT_CMP_(a, <, b)

/* The call must fail with exactly this errno. */
#define ASSERT_ERRNO(call, err) do {					\
	errno = 0;							\
	long r_ = (long)(call);						\
	int e_ = errno;							\
	if (r_ != -1 || e_ != (err))					\
		TEST_FAIL("%s: got %ld, %s; want %s", #call, r_,	\
			  strerrorname_np(e_) ?: "0", #err);		\
} while (0)

#define ASSERT_OK(call) ({						\
	long r_ = (long)(call);						\
	if (r_ == -1)							\
		TEST_FAIL("%s: %s", #call, strerror(errno));		\
	r_;								\
})

#endif
