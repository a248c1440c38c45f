// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Many threads: nothing is lost, one event per write to an armed page. */
#include "conf.h"

#include <sched.h>

#define WRITERS 3

static volatile bool stop;
static unsigned int told[WRITERS];	/* callbacks, per writer */

static void count_own(struct codewp_trap *trap, void *arg)
{
	(*(unsigned int *)arg)++;
}

struct writer {
	pthread_t thread;
	unsigned int nr;
	uint64_t stores;
};

static void register_self(unsigned int nr, struct codewp_thread **t)
{
	struct codewp_thread_opts o = {
		.sz = sizeof(o),
		.fn = count_own,
		.arg = &told[nr],
	};

	OK(codewp_thread_register(fx.ctx, t, &o));
}

/* Each counts in a word of its own, on the same pages. */
static void *writer(void *arg)
{
	struct writer *w = arg;
	struct codewp_thread *t;

	register_self(w->nr, &t);
	while (!stop) {
		volatile uint64_t *p = (void *)(fx.mem + (w->stores % 4) * PAGE);

		p[w->nr * 8] = ++w->stores;
	}
	codewp_thread_unregister(t);
	return NULL;
}

/*
 * Rules 1, 2: what is read after a state word that says armed is unchanged, or
 * the generation has moved. A store that slipped through shows as a change
 * without one.
 */
TEST_LONG(rule_2_no_store_slips_between_arm_and_read, 120)
{
	struct writer w[WRITERS] = { 0 };
	unsigned int moved = 0, rounds = getenv("TEST_SCALE") ? 3000 : 20000;
	struct codewp_stats st;

	fx_open();
	for (unsigned int i = 0; i < WRITERS; i++) {
		w[i].nr = i;
		ASSERT_EQ(pthread_create(&w[i].thread, NULL, writer, &w[i]), 0);
	}
	for (unsigned int r = 0; r < rounds; r++) {
		unsigned int page = r % 4;
		volatile uint64_t *p = (void *)(fx.alias + page * PAGE);
		uint64_t before[WRITERS], after[WRITERS];
		uint32_t state, gen;

		OK(codewp_arm(fx.view, page * PAGE, PAGE, CODEWP_OPEN, NULL));
		state = page_state(page);
		gen = CODEWP_PAGE_GEN(state);
		if (!(state & CODEWP_PAGE_ARMED)) {
			moved++;	/* written already: what is read is not tracked */
			continue;
		}
		for (int i = 0; i < WRITERS; i++)
			before[i] = p[i * 8];
		/* A window in which a writer comes for sure, and narrow ones. */
		for (int i = 0; r % 32 == 0 && page_gen(page) == gen && i < 1000; i++)
			sched_yield();
		for (int i = 0; i < WRITERS; i++)
			after[i] = p[i * 8];
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (page_gen(page) != gen) {
			moved++;
			continue;
		}
		for (int i = 0; i < WRITERS; i++)
			if (before[i] != after[i])
				TEST_FAIL("round %u: a store was not told", r);
	}
	stop = true;
	for (unsigned int i = 0; i < WRITERS; i++)
		ASSERT_EQ(pthread_join(w[i].thread, NULL), 0);
	ASSERT_GT(moved, 0);
	OK(codewp_view_stats(fx.view, &st));
	/* Rule 7: each trap was told to one thread. */
	ASSERT_EQ(st.upcalls + st.signals, told[0] + told[1] + told[2]);
	ASSERT_EQ(st.traps, st.upcalls + st.signals + st.events);
	ASSERT_EQ(st.traps + st.armed, st.arms);
	ASSERT_EQ((unsigned int)drain_all(fx.view), st.events);
}

/* ---- rule 7 ------------------------------------------------------------- */

static unsigned int race_rounds, start_line, both_here, finish_line;

/* Spin: threads that a futex wakes do not start together. */
static void wait_for(unsigned int *line, unsigned int value)
{
	for (int i = 1; __atomic_load_n(line, __ATOMIC_ACQUIRE) != value; i++)
		if (i % 256 == 0)
			sched_yield();
}

static void *racer(void *arg)
{
	unsigned int nr = (uintptr_t)arg;
	struct codewp_thread *t;

	register_self(nr, &t);
	for (unsigned int r = 0; r < race_rounds; r++) {
		wait_for(&start_line, r + 1);
		/* Not before the other runs, too: it may have to wait for a CPU. */
		__atomic_fetch_add(&both_here, 1, __ATOMIC_RELEASE);
		wait_for(&both_here, 2 * (r + 1));
		*(volatile unsigned char *)(fx.mem + 100 + nr) = r;
		__atomic_fetch_add(&finish_line, 1, __ATOMIC_RELEASE);
	}
	codewp_thread_unregister(t);
	return NULL;
}

TEST_LONG(rule_7_two_threads_one_event, 60)
{
	struct codewp_stats st;
	pthread_t t[2];

	fx_open();
	race_rounds = getenv("TEST_SCALE") ? 500 : 10000;
	for (uintptr_t i = 0; i < 2; i++)
		ASSERT_EQ(pthread_create(&t[i], NULL, racer, (void *)i), 0);
	for (unsigned int r = 0; r < race_rounds; r++) {
		OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
		__atomic_store_n(&start_line, r + 1, __ATOMIC_RELEASE);
		wait_for(&finish_line, 2 * (r + 1));
		ASSERT_EQ(told[0] + told[1], r + 1);
		ASSERT_EQ(fx.alias[100], r & 0xff);
		ASSERT_EQ(fx.alias[101], r & 0xff);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	OK(codewp_view_stats(fx.view, &st));
	ASSERT_EQ(st.traps, race_rounds);
	ASSERT_EQ(drain_all(fx.view), 0);
}

/* KEEP from several threads: every store is told, none is lost. */
static void keep_own(struct codewp_trap *trap, void *arg)
{
	(*(unsigned int *)arg)++;
	fx.alias[trap->voff] = trap->regs->r[0];
	trap->regs->rip += STORE2_LEN;
}

static void *keeper(void *arg)
{
	unsigned int nr = (uintptr_t)arg;
	struct codewp_thread *t;
	struct codewp_thread_opts o = {
		.sz = sizeof(o),
		.fn = keep_own,
		.arg = &told[nr],
	};

	OK(codewp_thread_register(fx.ctx, &t, &o));
	for (int r = 0; r < 1000; r++) {
		unsigned char *p = fx.mem + (r % 2) * PAGE + nr * 512 + r % 512;

		store2(p, r);
		ASSERT_EQ(*(volatile unsigned char *)p, r & 0xff);
	}
	codewp_thread_unregister(t);
	return NULL;
}

TEST_LONG(keep_with_many_threads, 60)
{
	pthread_t t[WRITERS];

	fx_open();
	OK(codewp_arm(fx.view, 0, 2 * PAGE, CODEWP_KEEP, NULL));
	for (uintptr_t i = 0; i < WRITERS; i++)
		ASSERT_EQ(pthread_create(&t[i], NULL, keeper, (void *)i), 0);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < WRITERS; i++)
		ASSERT_EQ(told[i], 1000);
	ASSERT_EQ(drain_all(fx.view), 0);
}

/*
 * HOLD: between a trap and the disarm by its handler no other thread gets a store
 * through. With OPEN the second one's would be let through, untold.
 */
static unsigned int in_handler, let_go;

static void hold_first(struct codewp_trap *trap, void *arg)
{
	(*(unsigned int *)arg)++;
	ASSERT_EQ(trap->armed, true);
	if (__atomic_fetch_add(&in_handler, 1, __ATOMIC_SEQ_CST) == 0)
		wait_for(&let_go, 1);
	OK(codewp_disarm(trap->view, trap->voff & -PAGE, PAGE));
}

static void *holder(void *arg)
{
	unsigned int nr = (uintptr_t)arg;
	struct codewp_thread *t;
	struct codewp_thread_opts o = {
		.sz = sizeof(o),
		.fn = hold_first,
		.arg = &told[nr],
	};

	OK(codewp_thread_register(fx.ctx, &t, &o));
	/* The second one comes when the first one is in its handler. */
	if (nr)
		wait_for(&in_handler, 1);
	store2(fx.mem + 100 + nr, 7);
	codewp_thread_unregister(t);
	return NULL;
}

TEST_LONG(hold_lets_nobody_through_before_the_disarm, 60)
{
	struct codewp_open_opts o = conf_open_opts();
	pthread_t t[2];

	fx_open_with(&o, false);		/* a shared view */
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_HOLD, NULL));
	for (uintptr_t i = 0; i < 2; i++)
		ASSERT_EQ(pthread_create(&t[i], NULL, holder, (void *)i), 0);
	/* The second one was told, too: its store trapped, and was undone. */
	wait_for(&in_handler, 2);
	ASSERT_EQ(fx.alias[100], 0);
	pthread_join(t[1], NULL);
	ASSERT_EQ(fx.alias[101], 7);
	ASSERT_EQ(fx.alias[100], 0);
	__atomic_store_n(&let_go, 1, __ATOMIC_RELEASE);
	pthread_join(t[0], NULL);
	ASSERT_EQ(fx.alias[100], 7);
	ASSERT_EQ(told[0], 1);
	ASSERT_EQ(told[1], 1);
	ASSERT_EQ(drain_all(fx.view), 0);
}

/* Mappings come and go while others write and arm. */
static void *mapper(void *arg)
{
	while (!stop) {
		void *p = NULL;

		OK(codewp_map(fx.view, &p, 8 * PAGE, 0, PROT_READ | PROT_WRITE, 0));
		store2((char *)p + 2048, 1);
		OK(codewp_protect(fx.ctx, p, 4 * PAGE, PROT_READ));
		OK(codewp_protect(fx.ctx, p, 4 * PAGE, PROT_READ | PROT_WRITE));
		store2((char *)p + PAGE + 2048, 1);
		OK(codewp_kernel_write_addr(fx.ctx, p, 2 * PAGE));
		OK(codewp_unmap(fx.ctx, p, 8 * PAGE));
	}
	return NULL;
}

static void *arm_all(void *arg)
{
	while (!stop)
		OK(codewp_arm(fx.view, 0, 8 * PAGE, CODEWP_OPEN, NULL));
	return NULL;
}

static void *view_maker(void *arg)
{
	int fd = conf_memfd(PAGE);

	while (!stop) {
		struct codewp_view *v;
		void *p = NULL;

		OK(codewp_view_create(fx.ctx, &v, fd, 0, PAGE, NULL));
		OK(codewp_map(v, &p, PAGE, 0, PROT_READ | PROT_WRITE, 0));
		OK(codewp_arm(v, 0, PAGE, CODEWP_OPEN, NULL));
		store2(p, 1);
		codewp_view_destroy(v);
		store2(p, 2);
		munmap(p, PAGE);
	}
	return NULL;
}

TEST_LONG(mappings_change_under_traps, 60)
{
	struct writer w = { 0 };
	pthread_t t[3];

	fx_open();
	ASSERT_EQ(pthread_create(&t[0], NULL, mapper, NULL), 0);
	ASSERT_EQ(pthread_create(&t[1], NULL, arm_all, NULL), 0);
	ASSERT_EQ(pthread_create(&t[2], NULL, view_maker, NULL), 0);
	ASSERT_EQ(pthread_create(&w.thread, NULL, writer, &w), 0);
	for (int i = 0; i < 100; i++) {
		struct timespec ms = { 0, 10 * 1000 * 1000 };

		nanosleep(&ms, NULL);
		drain_all(fx.view);
	}
	stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	pthread_join(w.thread, NULL);
	ASSERT_GT(w.stores, 100);
	ASSERT_GT(told[0], 0);
	ASSERT_EQ(*(uint64_t *)(fx.alias + ((w.stores - 1) % 4) * PAGE), w.stores);
}

/* ---- kick: a thread that spins in its code cache hears of events -------- */

static volatile uint32_t leave;
static volatile unsigned int kicks;

static void on_kick(struct codewp_trap *trap, void *arg)
{
	if (trap->view)
		return;
	kicks = kicks + 1;
	drain_all(fx.view);
	leave = 1;
}

static void *store_later(void *addr)
{
	struct timespec ms = { 0, 20 * 1000 * 1000 };

	nanosleep(&ms, NULL);
	return store_thread(addr);
}

TEST(kick_interrupts_the_code_cache)
{
	struct codewp_thread_opts o = { .sz = sizeof(o), .fn = on_kick };
	struct codewp_open_opts oo = conf_open_opts();
	struct codewp_thread *t;
	pthread_t other;

	fx_open_with(&oo, true);
	o.code_start = (uintptr_t)spin_code;
	o.code_end = (uintptr_t)spin_code_end;
	o.kick = fx.view;
	if (!can(CODEWP_CAN_UPCALL)) {
		REFUSED(codewp_thread_register(fx.ctx, &t, &o), EOPNOTSUPP);
		need(CODEWP_CAN_UPCALL);
	}
	OK(codewp_thread_register(fx.ctx, &t, &o));
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	ASSERT_EQ(pthread_create(&other, NULL, store_later, fx.mem), 0);
	spin_code(&leave);
	pthread_join(other, NULL);
	ASSERT_EQ(kicks, 1);
	ASSERT_EQ(nr_events, 1);
	ASSERT_EQ(events[0].voff, 0);
}

/* A thread that ends without a word, and its successor with the same stack. */
static void *register_and_die(void *arg)
{
	struct codewp_thread *t;

	register_self(0, &t);
	return t;
}

TEST(thread_may_end_without_unregistering)
{
	pthread_t p;
	void *t;

	fx_open();
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(pthread_create(&p, NULL, register_and_die, NULL), 0);
		ASSERT_EQ(pthread_join(p, &t), 0);
		OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
		in_thread(store_thread, fx.mem);
		ASSERT_EQ(told[0], 0);
		ASSERT_EQ(drain_all(fx.view), 1);
		if (i & 1)
			codewp_thread_unregister(t);
	}
	codewp_close(fx.ctx);
}
