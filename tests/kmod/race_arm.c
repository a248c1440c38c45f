// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Rule 2 against writers: pages are armed again and again while two threads
 * write to them as fast as they can, and no write may get by unseen.
 *
 * Each writer increments a counter of its own in the page, by a plain store that
 * is not registered for upcalls, so every trap opens the page. The arming thread
 * arms, reads both counters, waits a little, then looks whether they changed:
 * whoever changed one must have trapped, and the page-state word says so: ARMED
 * is gone, and the generation is another. It reads the counters first and the
 * word after them, so that a word that is unchanged proves that the store had
 * not trapped by then.
 */
#include "kmod_test.h"

/* 1 000 000 where the machine is fast; a slow one does its share of them. */
#define ARMS_TOTAL 1000000

static volatile bool stop;
static volatile uint64_t *words[2];

static void *writer(void *arg)
{
	volatile uint64_t *word = words[(long)arg];

	while (!stop)
		(*word)++;
	return NULL;
}

struct outcome {
	long arms, changed, lost;
};

/* @pages pages, both writers in each of them at once; @flags of the view. */
static struct outcome race(long arms, size_t pages, uint32_t flags)
{
	int memfd = kt_memfd(pages * PAGE);
	int view = kt_view(memfd, pages * PAGE, flags);
	const uint32_t *states = kt_states(view, pages);
	char *map = kt_map(view, pages * PAGE);
	struct outcome o = {};
	pthread_t t[2];

	/* Two words of one page: in different cache lines. */
	words[0] = (uint64_t *)map;
	words[1] = (uint64_t *)(map + 2048);
	stop = false;
	for (long i = 0; i < 2; i++)
		ASSERT_EQ(pthread_create(&t[i], NULL, writer, (void *)i), 0);

	double end = kt_now() + 12.0 * kt_scale();

	for (o.arms = 0; o.arms < arms && kt_now() < end; o.arms++) {
		uint64_t before[2], after[2];
		uint32_t armed, now;

		ASSERT_OK(kt_arm(view, 0, PAGE, CODEWP_ARM_OPEN));
		armed = kt_state(states, 0);
		/* Trapped before we could look: another round. */
		if (!(armed & CODEWP_PAGE_ARMED))
			continue;
		before[0] = *words[0];
		before[1] = *words[1];
		for (int spin = o.arms % 64; spin; spin--)
			__builtin_ia32_pause();
		after[0] = *words[0];
		after[1] = *words[1];
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		now = kt_state(states, 0);
		if (before[0] == after[0] && before[1] == after[1])
			continue;
		o.changed++;
		if (CODEWP_PAGE_GEN(now) == CODEWP_PAGE_GEN(armed))
			o.lost++;
	}
	stop = true;
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);

	struct codewp_stat st = kt_stat(view);

	ASSERT_EQ(st.traps, st.events);
	ASSERT_GT(st.traps, 0);
	/* One trap per arm at most, and none without one. */
	ASSERT_LE(st.traps, st.arms);
	ASSERT_EQ(st.arms - st.traps, st.armed);
	return o;
}

static void judge(struct outcome o)
{
	fprintf(stderr, "# %ld arms, %ld changes seen, %ld lost\n", o.arms,
		o.changed, o.lost);
	ASSERT_GT(o.changed, 0);
	ASSERT_EQ(o.lost, 0);
}

TEST_LONG(rule1_rule2_arm_against_two_writers, 60)
{
	judge(race(ARMS_TOTAL / 2, 1, 0));
}

TEST_LONG(rule1_rule2_arm_private_against_two_writers, 60)
{
	judge(race(ARMS_TOTAL / 2, 4, CODEWP_VIEW_PRIVATE));
}
