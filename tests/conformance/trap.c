// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What a trap is: told once, before the store, with all registers. */
#include "conf.h"

#include <cpuid.h>
#include <sys/syscall.h>

static unsigned char seen_byte;

static void look(struct codewp_trap *trap)
{
	seen_byte = fx.alias[trap->voff];
}

TEST(open_trap_is_told_before_the_store)
{
	fx_open();
	on_trap = look;
	seen_byte = 0xff;
	OK(codewp_arm(fx.view, 3 * PAGE, PAGE, CODEWP_OPEN, NULL));
	ASSERT(page_state(3) & CODEWP_PAGE_ARMED);
	store2(fx.mem + 3 * PAGE + 17, 0x42);
	ASSERT_EQ(traps, 1);
	ASSERT_EQ(seen_byte, 0);
	ASSERT_EQ(fx.alias[3 * PAGE + 17], 0x42);
	ASSERT(last_trap.view == fx.view);
	ASSERT_EQ(last_trap.cookie, 0xc0de);
	ASSERT_EQ(last_trap.addr, (uintptr_t)fx.mem + 3 * PAGE + 17);
	ASSERT_EQ(last_trap.voff, 3 * PAGE + 17);
	ASSERT(!last_trap.armed);
	ASSERT(last_trap.state & CODEWP_PAGE_WRITTEN);
	ASSERT_EQ(last_trap.state, page_state(3));
	ASSERT_EQ(last_regs.r[0] & 0xff, 0x42);
	ASSERT_EQ(last_regs.r[7], last_trap.addr);
	/* Told once. */
	store2(fx.mem + 3 * PAGE + 18, 0x43);
	ASSERT_EQ(traps, 1);
	ASSERT_EQ(drain_all(fx.view), 0);
}

TEST(disarmed_page_does_not_trap)
{
	fx_open();
	OK(codewp_arm(fx.view, 0, 4 * PAGE, CODEWP_OPEN, NULL));
	OK(codewp_disarm(fx.view, PAGE, 2 * PAGE));
	store2(fx.mem + PAGE, 1);
	store2(fx.mem + 2 * PAGE, 1);
	ASSERT_EQ(traps, 0);
	ASSERT(!(page_state(1) & CODEWP_PAGE_ARMED));
	store2(fx.mem, 1);
	store2(fx.mem + 3 * PAGE, 1);
	ASSERT_EQ(traps, 2);
}

TEST(armed_page_is_read_without_a_trap)
{
	fx_open();
	fx.alias[5 * PAGE] = 7;
	OK(codewp_arm(fx.view, 5 * PAGE, PAGE, CODEWP_OPEN, NULL));
	ASSERT_EQ(*(volatile unsigned char *)(fx.mem + 5 * PAGE), 7);
	ASSERT_EQ(traps, 0);
}

/* Never touched, not even by a read: there is no page to protect yet. */
TEST(page_that_is_not_there_yet_traps)
{
	fx_open();
	OK(codewp_arm(fx.view, 0, BYTES, CODEWP_OPEN, NULL));
	for (unsigned int i = 0; i < PAGES; i++)
		store2(fx.mem + i * PAGE, i);
	ASSERT_EQ(traps, PAGES);
}

TEST(rearm_traps_again)
{
	fx_open();
	for (unsigned int i = 1; i <= 500; i++) {
		OK(codewp_arm(fx.view, PAGE, PAGE, CODEWP_OPEN, NULL));
		store2(fx.mem + PAGE + i, i);
		ASSERT_EQ(traps, i);
		ASSERT_EQ(fx.alias[PAGE + i], i & 0xff);
	}
}

/* KEEP: the callback stores through the alias and steps over the store. */
static void keep_store(struct codewp_trap *trap)
{
	fx.alias[trap->voff] = trap->regs->r[0];
	trap->regs->rip += STORE2_LEN;
}

TEST(keep_stays_armed)
{
	fx_open();
	on_trap = keep_store;
	OK(codewp_arm(fx.view, 0, 2 * PAGE, CODEWP_KEEP, NULL));
	for (unsigned int i = 0; i < 300; i++) {
		store2(fx.mem + i, i);
		ASSERT_EQ(traps, i + 1);
		ASSERT(last_trap.armed);
		ASSERT(last_trap.state & CODEWP_PAGE_KEEP);
		ASSERT_EQ(fx.mem[i], i & 0xff);
		ASSERT(page_state(0) & CODEWP_PAGE_ARMED);
	}
	ASSERT_EQ(drain_all(fx.view), 0);
}

/* KEEP, and then the page is opened after all: the store runs natively. */
static void keep_open(struct codewp_trap *trap)
{
	if (trap->armed && codewp_disarm(trap->view, trap->voff & -PAGE, PAGE))
		_exit(1);
}

TEST(keep_can_be_opened_in_the_callback)
{
	fx_open();
	on_trap = keep_open;
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_KEEP, NULL));
	store2(fx.mem + 9, 9);
	store2(fx.mem + 10, 10);
	ASSERT_EQ(traps, 1);
	ASSERT_EQ(fx.alias[9], 9);
	ASSERT_EQ(fx.alias[10], 10);
}

/* Arming again with another mode changes the mode. */
TEST(mode_changes_with_arm)
{
	fx_open();
	on_trap = keep_store;
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_KEEP, NULL));
	store2(fx.mem, 1);
	ASSERT(last_trap.armed);
	on_trap = NULL;
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem, 1);
	ASSERT(!last_trap.armed);
	ASSERT_EQ(traps, 2);
}

/* ---- registers ---------------------------------------------------------- */

#define FLAGS_ARITH 0xcd5ULL	/* CF PF AF ZF SF OF DF */

static void fill_case(struct regs_case *c, unsigned int seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ULL + 1;

	for (int i = 0; i < 16; i++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		c->gpr[i] = x;
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		c->red[i] = x;
	}
	c->flags = 0x202 | ((x >> 20) & FLAGS_ARITH);
	c->gpr[7] = (uintptr_t)fx.mem + PAGE + 100;
}

TEST(registers_flags_and_red_zone_survive)
{
	struct regs_case in, out;

	fx_open();
	for (unsigned int seed = 0; seed < 50; seed++) {
		fill_case(&in, seed);
		OK(codewp_arm(fx.view, PAGE, PAGE, CODEWP_OPEN, NULL));
		regs_store(&in, &out);
		ASSERT_EQ(traps, seed + 1);
		ASSERT_EQ(last_regs.rip, (uintptr_t)regs_store_insn);
		for (int i = 0; i < 16; i++) {
			if (i == 4) {
				ASSERT_EQ(last_regs.r[4], out.gpr[4]);
				continue;
			}
			ASSERT_EQ(last_regs.r[i], in.gpr[i]);
			ASSERT_EQ(out.gpr[i], in.gpr[i]);
		}
		ASSERT_EQ(last_regs.rflags & FLAGS_ARITH, in.flags & FLAGS_ARITH);
		ASSERT_EQ(out.flags & FLAGS_ARITH, in.flags & FLAGS_ARITH);
		for (int i = 0; i < 16; i++)
			ASSERT_EQ(out.red[i], in.red[i]);
		ASSERT_EQ(fx.alias[PAGE + 100], 0x5a);
	}
}

static struct regs_case changed;

static void change_all(struct codewp_trap *trap)
{
	for (int i = 0; i < 16; i++)
		if (i != 4)
			trap->regs->r[i] = changed.gpr[i];
	trap->regs->rflags = changed.flags;
	trap->regs->rip = (uintptr_t)regs_store_next;
}

TEST(callback_changes_registers_and_skips_the_store)
{
	struct regs_case in, out;

	fx_open();
	on_trap = change_all;
	for (unsigned int seed = 0; seed < 50; seed++) {
		fill_case(&in, seed);
		fill_case(&changed, seed + 1000);
		changed.gpr[7] = seed;
		fx.alias[PAGE + 100] = 0;
		OK(codewp_arm(fx.view, PAGE, PAGE, CODEWP_KEEP, NULL));
		regs_store(&in, &out);
		for (int i = 0; i < 16; i++)
			if (i != 4)
				ASSERT_EQ(out.gpr[i], changed.gpr[i]);
		ASSERT_EQ(out.flags & FLAGS_ARITH, changed.flags & FLAGS_ARITH);
		for (int i = 0; i < 16; i++)
			ASSERT_EQ(out.red[i], in.red[i]);
		ASSERT_EQ(fx.alias[PAGE + 100], 0);
	}
	ASSERT_EQ(traps, 50);
}

/* ---- vector state ------------------------------------------------------- */

static uint64_t vector_mask;

static void trash(struct codewp_trap *trap)
{
	vector_trash(vector_mask);
}

TEST(vector_state_survives)
{
	/* x87, SSE, AVX, opmask, ZMM: what this CPU and kernel have of them */
	static const struct {
		int bit;
		const char *name;
	} part[] = { { 2, "ymm" }, { 5, "opmask" }, { 6, "zmm low" }, { 7, "zmm high" } };
	static unsigned char in[16384] __attribute__((aligned(64)));
	static unsigned char out[16384] __attribute__((aligned(64)));
	uint32_t a, b, c, d, lo, hi;

	fx_open();
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		SKIP("this CPU has no xsave");
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	vector_mask = lo & 0xe7;
	on_trap = trash;
	for (int round = 0; round < 5; round++) {
		memset(in, 0, sizeof(in));
		memset(out, 0, sizeof(out));
		/* Legacy area: FCW, no exceptions, full tag word, ST, MXCSR, XMM. */
		in[0] = 0x7f;
		in[1] = 0x03;
		in[4] = 0xff;
		in[24] = 0x80;
		in[25] = 0x1f;
		for (int i = 32; i < 160; i++)
			in[i] = i % 16 < 10 ? rand() : 0;
		for (int i = 160; i < 416; i++)
			in[i] = rand();
		memcpy(in + 512, &vector_mask, 8);
		for (size_t p = 0; p < sizeof(part) / sizeof(part[0]); p++) {
			if (!(vector_mask & (1 << part[p].bit)))
				continue;
			__cpuid_count(0xd, part[p].bit, a, b, c, d);
			ASSERT(b + a <= sizeof(in));
			for (uint32_t i = 0; i < a; i++)
				in[b + i] = rand();
		}
		OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
		vector_store(in, out, fx.mem, vector_mask);
		ASSERT_EQ(traps, round + 1);
		if (memcmp(in + 32, out + 32, 128))
			TEST_FAIL("x87 registers changed");
		if (memcmp(in + 160, out + 160, 256))
			TEST_FAIL("xmm registers changed");
		ASSERT_EQ(*(uint32_t *)(out + 24), 0x1f80);
		ASSERT_EQ(*(uint16_t *)out, 0x037f);
		for (size_t p = 0; p < sizeof(part) / sizeof(part[0]); p++) {
			if (!(vector_mask & (1 << part[p].bit)))
				continue;
			__cpuid_count(0xd, part[p].bit, a, b, c, d);
			if (memcmp(in + b, out + b, a))
				TEST_FAIL("%s changed", part[p].name);
		}
	}
}

/* ---- rule 6: the store is executed exactly once, whole ------------------ */

static void crossing(bool first, bool second)
{
	uint64_t *p = (uint64_t *)(fx.mem + 2 * PAGE - 3);
	unsigned int before = traps;
	uint64_t val = 0x1122334455667788ULL;

	memset(fx.alias + PAGE, 0, 2 * PAGE);
	if (first)
		OK(codewp_arm(fx.view, PAGE, PAGE, CODEWP_OPEN, NULL));
	if (second)
		OK(codewp_arm(fx.view, 2 * PAGE, PAGE, CODEWP_OPEN, NULL));
	__asm__ volatile("movq %0, (%1)" : : "r"(val), "r"(p) : "memory");
	ASSERT_EQ(traps - before, first + second);
	ASSERT(!memcmp(fx.alias + 2 * PAGE - 3, &val, 8));
}

TEST(rule_6_store_across_pages_is_whole)
{
	fx_open();
	crossing(true, false);
	ASSERT_EQ(last_trap.voff, 2 * PAGE - 3);
	crossing(false, true);
	ASSERT_EQ(last_trap.voff, 2 * PAGE);
	crossing(true, true);
}

TEST(rule_6_locked_and_string_stores_run_once)
{
	uint64_t one = 1, *p;
	unsigned char *dst, *src;
	unsigned long n;
	bool swapped;

	fx_open();
	p = (uint64_t *)(fx.mem + PAGE + 64);
	OK(codewp_arm(fx.view, PAGE, PAGE, CODEWP_OPEN, NULL));
	__asm__ volatile("lock xaddq %0, %1" : "+r"(one), "+m"(*p) : : "memory");
	ASSERT_EQ(traps, 1);
	ASSERT_EQ(*p, 1);
	ASSERT_EQ(one, 0);

	OK(codewp_arm(fx.view, PAGE, PAGE, CODEWP_OPEN, NULL));
	__asm__ volatile("lock cmpxchg16b %1\n\tsete %0"
			 : "=q"(swapped), "+m"(*(char (*)[16])p)
			 : "a"(1UL), "d"(0UL), "b"(5UL), "c"(6UL) : "memory");
	ASSERT_EQ(traps, 2);
	ASSERT(swapped);
	ASSERT_EQ(p[0], 5);
	ASSERT_EQ(p[1], 6);

	/* rep movsb over three armed pages, from one that is armed, too */
	for (unsigned int i = 0; i < 2 * PAGE + 100; i++)
		fx.alias[20 * PAGE + i] = i * 7;
	OK(codewp_arm(fx.view, 10 * PAGE, 3 * PAGE, CODEWP_OPEN, NULL));
	OK(codewp_arm(fx.view, 20 * PAGE, 3 * PAGE, CODEWP_OPEN, NULL));
	dst = fx.mem + 10 * PAGE;
	src = fx.mem + 20 * PAGE;
	n = 2 * PAGE + 100;
	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
	ASSERT_EQ(traps, 5);
	ASSERT(!memcmp(fx.alias + 10 * PAGE, fx.alias + 20 * PAGE, 2 * PAGE + 100));
}

/* ---- where a trap is told ----------------------------------------------- */

TEST(generation_moves_with_every_trap)
{
	uint32_t gen;

	fx_open();
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	gen = page_gen(0);
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	ASSERT_EQ(page_gen(0), gen);
	store2(fx.mem, 1);
	ASSERT_NE(page_gen(0), gen);
	gen = page_gen(0);
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_KEEP, NULL));
	ASSERT_EQ(page_gen(0), gen);
	on_trap = keep_store;
	store2(fx.mem, 1);
	ASSERT_NE(page_gen(0), gen);
	gen = page_gen(0);
	OK(codewp_disarm(fx.view, 0, PAGE));
	ASSERT_NE(page_gen(0), gen);
	gen = page_gen(0);
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	in_thread(store_thread, fx.mem);
	ASSERT_NE(page_gen(0), gen);
}

TEST(unregistered_thread_goes_to_the_ring)
{
	fx_open();
	need(CODEWP_CAN_RING);
	OK(codewp_arm(fx.view, 7 * PAGE, PAGE, CODEWP_OPEN, NULL));
	ASSERT(!codewp_pending(fx.view));
	in_thread(store_thread, fx.mem + 7 * PAGE + 5);
	ASSERT_EQ(traps, 0);
	ASSERT_EQ(fx.alias[7 * PAGE + 5], 0xee);
	ASSERT(codewp_pending(fx.view));
	ASSERT_EQ(drain_all(fx.view), 1);
	ASSERT_EQ(events[0].cookie, 0xc0de);
	ASSERT_EQ(events[0].voff, 7 * PAGE + 5);
	ASSERT_EQ(events[0].addr, (uintptr_t)fx.mem + 7 * PAGE + 5);
	ASSERT(events[0].ip >= (uintptr_t)store_thread &&
	       events[0].ip < (uintptr_t)store_thread + 64);
	ASSERT(!events[0].kernel);
	ASSERT(!events[0].whole_page);
	ASSERT_NE(events[0].tid, 0);
	ASSERT_NE(events[0].tid, (uint32_t)getpid());
	ASSERT(!codewp_pending(fx.view));
	ASSERT_EQ(drain_all(fx.view), 0);
}

TEST(keep_page_is_opened_by_an_unregistered_thread)
{
	fx_open();
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_KEEP, NULL));
	in_thread(store_thread, fx.mem);
	ASSERT_EQ(fx.alias[0], 0xee);
	ASSERT(!(page_state(0) & CODEWP_PAGE_ARMED));
	ASSERT(page_state(0) & CODEWP_PAGE_WRITTEN);
	ASSERT_EQ(drain_all(fx.view), 1);
}

/* A store outside the code cache is not the callback's. */
TEST(outside_the_code_range_goes_to_the_ring)
{
	struct codewp_thread_opts o = { .sz = sizeof(o), .fn = conf_callback };
	struct codewp_open_opts oo = conf_open_opts();
	struct regs_case in, out;

	fx_open_with(&oo, true);
	o.code_start = (uintptr_t)regs_store_insn;
	o.code_end = (uintptr_t)regs_store_next;
	fx_register(&o);
	OK(codewp_arm(fx.view, 0, 2 * PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem, 1);
	ASSERT_EQ(traps, 0);
	ASSERT_EQ(drain_all(fx.view), 1);
	fill_case(&in, 1);
	regs_store(&in, &out);
	ASSERT_EQ(traps, 1);
	ASSERT_EQ(drain_all(fx.view), 0);
}

static void nested(struct codewp_trap *trap)
{
	if (trap->voff < PAGE)
		store2(fx.mem + PAGE, 0x77);
}

TEST(trap_in_the_callback_goes_to_the_ring)
{
	fx_open();
	on_trap = nested;
	OK(codewp_arm(fx.view, 0, 2 * PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem, 1);
	ASSERT_EQ(traps, 1);
	ASSERT_EQ(fx.alias[PAGE], 0x77);
	ASSERT_EQ(drain_all(fx.view), 1);
	ASSERT_EQ(events[0].voff, PAGE);
	/* And afterwards the callback is back. */
	OK(codewp_arm(fx.view, PAGE, PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem + PAGE, 2);
	ASSERT_EQ(traps, 2);
}

TEST(unregistered_again_goes_to_the_ring)
{
	fx_open();
	codewp_thread_unregister(fx.thread);
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem, 1);
	ASSERT_EQ(traps, 0);
	ASSERT_EQ(drain_all(fx.view), 1);
	fx_register(NULL);
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem, 1);
	ASSERT_EQ(traps, 1);
}

/* A handler of the program that writes to armed pages, at any moment. */
static volatile unsigned int alarms;

static void on_alarm(int sig)
{
	alarms = alarms + 1;
	store2(fx.mem + 40 * PAGE + alarms % (8 * PAGE), 1);
}

TEST_LONG(signal_handlers_may_write_armed_pages, 60)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	unsigned int before, i;
	timer_t timer;
	struct itimerspec it = {
		.it_interval = { 0, 300000 },
		.it_value = { 0, 300000 },
	};

	fx_open();
	ASSERT_OK(sigaction(SIGUSR1, &sa, NULL));
	ASSERT_OK(timer_create(CLOCK_MONOTONIC,
			       &(struct sigevent){ .sigev_notify = SIGEV_SIGNAL,
						   .sigev_signo = SIGUSR1 }, &timer));
	ASSERT_OK(timer_settime(timer, 0, &it, NULL));
	for (i = 0; i < 100000 && alarms < 1000; i++) {
		before = traps;
		OK(codewp_arm(fx.view, (i % 8) * PAGE, PAGE, CODEWP_OPEN, NULL));
		OK(codewp_arm(fx.view, 40 * PAGE, 8 * PAGE, CODEWP_OPEN, NULL));
		store2(fx.mem + (i % 8) * PAGE, i);
		ASSERT_EQ(fx.alias[(i % 8) * PAGE], i & 0xff);
		/* Our own trap, unless a handler's was on its way. */
		ASSERT(traps > before || drain_all(fx.view) > 0);
		drain_all(fx.view);
	}
	ASSERT_OK(timer_delete(timer));
	ASSERT_GT(alarms, 0);
}
