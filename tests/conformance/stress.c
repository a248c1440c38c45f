// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Everything at once: threads store, arm, disarm, map, protect, move and unmap, make
 * and end views, announce kernel writes, drain and count, all in one context. Built
 * with TSan for the backends that are user space only, where it watches the library's
 * own memory; the stores are in assembly, so that it sees none of the guest's.
 */
#include "conf.h"

#include <poll.h>
#include <sched.h>
#include <time.h>

const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "halt_on_error=1:exitcode=66";
}

/*
 * The pages that all work on: a quarter is armed to OPEN, one to HOLD, half to KEEP.
 * (Of a page that is armed already and gets another mode the backends count
 * differently how often it was armed.)
 */
#define COMMON	16U
#define HELD	4U
#define KEPT	8U
#define WRITERS	3U
#define WINDOW	8U		/* pages of a mapping that comes and goes */

enum { ARMER = WRITERS, MAPPER, VIEW_MAKER, KERNEL, DRAINER, THREADS };

static _Atomic bool over;

/*
 * KEEP's store lands after the generation has moved, while the page stays armed: who
 * reads what it changes must know of it, and it is the program that stores through the
 * alias who says so (smc_gen() does so for the translator). By page: stores announced,
 * and stores that are there.
 */
static _Atomic unsigned int begun[COMMON], landed[COMMON];

struct worker {
	pthread_t thread;
	unsigned int nr;
	uint64_t rng;
	unsigned long rounds;
	unsigned long told, held;	/* callbacks; those that left the page armed */
	unsigned long checks;
	unsigned char last[COMMON];	/* what it stored last, by page */
};

static unsigned int pick(struct worker *w, unsigned int n)
{
	w->rng = w->rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return (w->rng >> 33) % n;
}

static void on_own_trap(struct codewp_trap *trap, void *arg)
{
	struct worker *w = arg;
	unsigned int page = trap->voff / PAGE;

	w->told++;
	if (!trap->armed)
		return;
	w->held++;
	if (page >= KEPT) {
		begun[page]++;
		store2(fx.alias + trap->voff, trap->regs->r[0]);
		landed[page]++;
		trap->regs->rip += STORE2_LEN;
	} else {
		OK(codewp_disarm(trap->view, page * PAGE, PAGE));
	}
}

static unsigned char *window(struct worker *w, unsigned int *first)
{
	void *p = NULL;

	*first = pick(w, COMMON - WINDOW + 1);
	OK(codewp_map(fx.view, &p, WINDOW * PAGE, *first * PAGE, PROT_READ | PROT_WRITE, 0));
	return p;
}

/* Byte nr of a page is writer nr's alone: a store that got lost is seen at once. */
static void writes(struct worker *w)
{
	struct codewp_thread_opts o = { .sz = sizeof(o), .fn = on_own_trap, .arg = w };
	struct codewp_thread *t;
	unsigned char *own = NULL;
	unsigned int first = 0;

	OK(codewp_thread_register(fx.ctx, &t, &o));
	for (; !over; w->rounds++) {
		unsigned int page = pick(w, COMMON);
		unsigned char *at = fx.mem + page * PAGE, value = pick(w, 256);

		if (w->rounds % 64 == 0) {
			if (own)
				OK(codewp_unmap(fx.ctx, own, WINDOW * PAGE));
			own = window(w, &first);
		}
		if (pick(w, 2) && page >= first && page < first + WINDOW)
			at = own + (page - first) * PAGE;
		store2(at + w->nr, value);
		w->last[page] = value;
		if (((volatile unsigned char *)fx.alias)[page * PAGE + w->nr] != value)
			TEST_FAIL("writer %u, page %u: a store is not there", w->nr, page);
	}
	OK(codewp_unmap(fx.ctx, own, WINDOW * PAGE));
	codewp_thread_unregister(t);
}

/* What is read of an armed page is so until the generation moves, or a store begins. */
static void arms(struct worker *w)
{
	for (; !over; w->rounds++) {
		unsigned int page = pick(w, COMMON), n = 1 + pick(w, 4);
		unsigned int end = page < HELD ? HELD : page < KEPT ? KEPT : COMMON;
		unsigned int mode = page < HELD ? CODEWP_OPEN :
				    page < KEPT ? CODEWP_HOLD : CODEWP_KEEP;
		const volatile unsigned char *at = fx.alias + page * PAGE;
		unsigned char before[WRITERS];
		unsigned int stores;
		uint32_t state;

		if (page + n > end)
			n = end - page;
		OK(codewp_arm(fx.view, page * PAGE, n * PAGE, mode, NULL));
		state = page_state(page);
		stores = landed[page];
		if (state & CODEWP_PAGE_ARMED && begun[page] == stores) {
			w->checks++;
			for (unsigned int i = 0; i < WRITERS; i++)
				before[i] = at[i];
			for (unsigned int i = 0; i < w->rounds % 64 * 16; i++)
				__builtin_ia32_pause();
			if (w->rounds % 64 == 0)
				sched_yield();
			for (unsigned int i = 0; i < WRITERS; i++) {
				unsigned char now = at[i];

				__atomic_thread_fence(__ATOMIC_ACQUIRE);
				if (now != before[i] && page_state(page) == state &&
				    begun[page] == stores)
					TEST_FAIL("page %u: a store was not told", page);
			}
		}
		if (w->rounds % 5 == 0)
			OK(codewp_disarm(fx.view, page * PAGE, n * PAGE));
	}
}

static void maps(struct worker *w)
{
	for (; !over; w->rounds++) {
		size_t len = WINDOW * PAGE;
		unsigned int first;
		void *p = window(w, &first);

		store2((char *)p + w->nr, 1);
		OK(codewp_protect(fx.ctx, (char *)p + PAGE, PAGE, PROT_READ));
		store2((char *)p + 2 * PAGE + w->nr, 1);
		OK(codewp_protect(fx.ctx, p, len, PROT_READ | PROT_WRITE));
		store2((char *)p + PAGE + w->nr, 2);
		if (w->rounds % 3 == 0) {
			OK(codewp_remap(fx.ctx, &p, len, len - PAGE, MREMAP_MAYMOVE, NULL));
			len -= PAGE;
			store2((char *)p + w->nr, 3);
		}
		OK(codewp_unmap(fx.ctx, p, len));
	}
}

static void makes_views(struct worker *w)
{
	int fd = conf_memfd(4 * PAGE);

	for (; !over; w->rounds++) {
		struct codewp_view *v;
		void *p = NULL, *a;

		OK(codewp_view_create(fx.ctx, &v, fd, 0, 4 * PAGE, NULL));
		OK(codewp_map(v, &p, 4 * PAGE, 0, PROT_READ | PROT_WRITE, 0));
		OK(codewp_alias(v, &a));
		OK(codewp_arm(v, 0, 3 * PAGE, CODEWP_OPEN, NULL));
		store2(p, w->rounds);
		ASSERT_EQ(*(volatile unsigned char *)a, w->rounds & 0xff);
		OK(codewp_kernel_write(v, PAGE, 1));
		codewp_view_destroy(v);
		store2((char *)p + 2 * PAGE, 2);
		munmap(p, 4 * PAGE);
	}
	close(fd);
}

static void announces_kernel_writes(struct worker *w)
{
	for (; !over; w->rounds++) {
		unsigned int page = pick(w, COMMON);

		OK(codewp_kernel_write_addr(fx.ctx, fx.mem + page * PAGE + 100, PAGE));
		OK(codewp_kernel_write(fx.view, page * PAGE + 100, 1));
		/* the stack is no view's */
		OK(codewp_kernel_write_addr(fx.ctx, &page, sizeof(page)));
		if (w->rounds % 16 == 0)
			sched_yield();
	}
}

static uint64_t drained;
static bool overflow;

static void on_event(const struct codewp_event_info *ev, void *arg)
{
	overflow |= ev->whole_page;
	drained++;
}

static void drains(struct worker *w)
{
	struct pollfd pf = { .fd = OK(codewp_event_fd(fx.view)), .events = POLLIN };
	struct codewp_stats st;
	uint64_t bits[1];

	for (; !over; w->rounds++) {
		if (codewp_pending(fx.view) || w->rounds % 32 == 0)
			OK(codewp_drain(fx.view, on_event, NULL));
		if (w->rounds % 8 == 0)
			ASSERT_GE(poll(&pf, 1, 1), 0);
		OK(codewp_view_stats(fx.view, &st));
		ASSERT_LE(st.armed, COMMON);
		if (w->rounds % 4 == 0)
			ASSERT_LE(OK(codewp_harvest(fx.view, CODEWP_CLIENT_CODE, 0,
						    COMMON * PAGE, bits)), COMMON);
	}
}

static void *work(void *arg)
{
	static void (*const jobs[THREADS])(struct worker *) = {
		writes, writes, writes, arms, maps, makes_views, announces_kernel_writes, drains,
	};
	struct worker *w = arg;

	jobs[w->nr](w);
	return NULL;
}

TEST_LONG(everything_at_once, 60)
{
	struct codewp_view_opts vo = {
		.sz = sizeof(vo),
		.private_view = true,
		.ring_bytes = 1 << 20,
		.clients = CODEWP_CLIENT_CODE,
	};
	static struct worker w[THREADS];
	unsigned long told = 0, held = 0;
	bool vm = getenv("CODEWP_VM");	/* slow, and each thread's turn is rare */
	struct codewp_stats st;
	void *p = NULL;

	conf_open();
	fx.memfd = conf_memfd(BYTES);
	OK(codewp_view_create(fx.ctx, &fx.view, fx.memfd, 0, BYTES, &vo));
	OK(codewp_map(fx.view, &p, BYTES, 0, PROT_READ | PROT_WRITE, 0));
	fx.mem = p;
	OK(codewp_alias(fx.view, &p));
	fx.alias = p;
	fx.state = codewp_page_states(fx.view);
	for (unsigned int i = 0; i < THREADS; i++) {
		w[i].nr = i;
		w[i].rng = i + 1;
		ASSERT_EQ(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (int i = 0; i < (vm ? 200 : 50); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	over = true;
	for (unsigned int i = 0; i < THREADS; i++)
		ASSERT_EQ(pthread_join(w[i].thread, NULL), 0);
	OK(codewp_drain(fx.view, on_event, NULL));
	OK(codewp_view_stats(fx.view, &st));

	for (unsigned int i = 0; i < WRITERS; i++) {
		told += w[i].told;
		held += w[i].held;
		for (unsigned int page = 0; page < COMMON; page++)
			ASSERT_EQ(fx.alias[page * PAGE + i], w[i].last[page]);
	}
	fprintf(stderr, "# rounds");
	for (unsigned int i = 0; i < THREADS; i++)
		fprintf(stderr, " %lu", w[i].rounds);
	fprintf(stderr, ", traps %llu, events %llu\n", (unsigned long long)st.traps,
		(unsigned long long)st.events);
	for (unsigned int i = 0; i < THREADS; i++)
		ASSERT_GT(w[i].rounds, vm ? 0UL : 10UL);
	/* Rule 7: each trap was told once, and what was armed is still, or was opened. */
	ASSERT_EQ(st.upcalls + st.signals, told);
	ASSERT_EQ(st.traps, told + st.events);
	ASSERT_EQ(st.arms, st.armed + st.disarms + st.traps - held);
	ASSERT_GT(w[ARMER].checks, vm ? 0UL : 10UL);
	ASSERT_GT(held, 10UL);
	ASSERT_GT(told - held, 10UL);
	ASSERT_EQ(!st.dropped, !overflow);
	if (!overflow)
		ASSERT_EQ(drained, st.events);
	codewp_close(fx.ctx);
}
