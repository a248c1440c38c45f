// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Rule 7: several threads fault on one armed page at once: one of them is told,
 * once, and the others go on silently; every store is done once.
 */
#include "kmod_test.h"

#define ROUNDS 4000
#define NTHREADS 3

static pthread_barrier_t barrier;
static uint64_t *page;
static bool registered;
static uint64_t upcalls[NTHREADS];
static long rounds;

static void *faulter(void *arg)
{
	long me = (long)arg;
	struct codewp_area *area = NULL;
	int fd = -1;

	if (registered)
		area = kt_register(kt_handler_open, CODEWP_THREAD_UPCALL, -1, &fd);
	for (long i = 0; i < rounds; i++) {
		pthread_barrier_wait(&barrier);		/* armed */
		kt_inc8(page + me * 8);
		pthread_barrier_wait(&barrier);		/* all have written */
	}
	if (area)
		upcalls[me] = area->scratch[0];
	return NULL;
}

/* Threads, each through a mapping of its own if @views is 2. */
static void run(int views)
{
	int memfd = kt_memfd(PAGE);
	int view = kt_view(memfd, PAGE, 0);
	int other = views > 1 ? kt_view(memfd, PAGE, 0) : -1;
	const uint32_t *states = kt_states(view, 1);
	pthread_t t[NTHREADS];
	uint64_t told = 0;

	rounds = ROUNDS;
	page = kt_map(view, PAGE);
	pthread_barrier_init(&barrier, NULL, NTHREADS + 1);
	for (long i = 0; i < NTHREADS; i++)
		ASSERT_EQ(pthread_create(&t[i], NULL, faulter, (void *)i), 0);
	for (long i = 1; i <= rounds; i++) {
		uint32_t gen = CODEWP_PAGE_GEN(kt_state(states, 0));

		ASSERT_OK(kt_arm(view, 0, PAGE, CODEWP_ARM_OPEN));
		if (other >= 0)
			ASSERT_OK(kt_arm(other, 0, PAGE, CODEWP_ARM_OPEN));
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		ASSERT_EQ(CODEWP_PAGE_GEN(kt_state(states, 0)), gen + 1);
		ASSERT_EQ(kt_stat(view).traps, i);
		if (other >= 0)
			ASSERT_EQ(kt_stat(other).traps, i);
	}
	for (int i = 0; i < NTHREADS; i++) {
		pthread_join(t[i], NULL);
		ASSERT_EQ(page[i * 8], rounds);
		told += upcalls[i];
	}
	if (registered) {
		ASSERT_EQ(told, kt_stat(view).upcalls);
		ASSERT_EQ(told, rounds);
		ASSERT_EQ(kt_stat(view).events, 0);
	} else {
		ASSERT_EQ(kt_stat(view).events, rounds);
	}
	if (other >= 0) {
		/* Its owner is told of the same writes, by its own ring. */
		ASSERT_EQ(kt_stat(other).events, rounds);
		ASSERT_EQ(kt_stat(other).shared, rounds);
	}
}

TEST_LONG(rule7_one_event_each, 30)
{
	run(1);
}

TEST_LONG(rule7_one_upcall_each, 30)
{
	registered = true;
	run(1);
}

TEST_LONG(rule7_one_upcall_each_and_the_other_view_its_event, 30)
{
	registered = true;
	run(2);
}
