// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Random operations against a model that does everything the slow way: an array
 * of TBs, and loops over it. Fixed seeds; a failure names the seed and the step.
 */
#include <errno.h>

#include "tb.h"

#define NR_TB	96
#define NR_PAGE	6
#define NR_JC	2
#define JC_BITS	3

/* Far apart, and both neighbours and strangers for two-page TBs. */
static const uint64_t page_no[NR_PAGE] = { 0, 1, 2, 511, 512, (1ULL << 52) - 1 };

struct model_tb {
	struct xtb x;
	bool live;
	int to[XTB_JUMPS];	/* index of the chained TB, or -1 */
};

static struct model_tb m[NR_TB];
static uint32_t gen[NR_PAGE];
static struct codemap *map;
static struct codemap_jc jc[NR_JC];
static void *jc_e[NR_JC][1 << JC_BITS];
static void *jc_want[NR_JC][1 << JC_BITS];	/* what the caches must hold */
static char miss[1];
static uint64_t rnd_state;
static unsigned int seed, step;

#define CHECK(cond) do {						\
	if (!(cond))							\
		TEST_FAIL("seed %u step %u line %d: %s", seed, step,	\
			  __LINE__, #cond);				\
} while (0)

static uint64_t rnd(uint64_t n)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state % n;
}

static unsigned int page_i(uint64_t page)
{
	unsigned int i = 0;

	while (page_no[i] != page)
		i++;
	return i;
}

static uint32_t page_gen(void *arg, uint64_t page)
{
	return gen[page_i(page)];
}

static const struct codemap_ops ops = { .set_jump = xtb_set_jump, .page_gen = page_gen };

static bool covers(const struct codemap_tb *tb, uint64_t page, unsigned int first,
		   unsigned int last)
{
	for (int s = 0; s < 2; s++)
		if (tb->page[s] == page && tb->first[s] <= last && tb->last[s] >= first)
			return true;
	return false;
}

static void model_unchain(int i)
{
	memset(m[i].to, -1, sizeof(m[i].to));
	for (int k = 0; k < NR_TB; k++)
		for (int s = 0; s < XTB_JUMPS; s++)
			if (m[k].to[s] == i)
				m[k].to[s] = -1;
}

static void model_drop(int i)
{
	m[i].live = false;
	model_unchain(i);
	for (int c = 0; c < NR_JC; c++) {
		void **e = &jc_want[c][m[i].x.tb.pc & ((1 << JC_BITS) - 1)];

		if (*e == &m[i])
			*e = miss;
	}
}

static int model_lookup(uint64_t pc, uint64_t flags)
{
	for (int i = 0; i < NR_TB; i++)
		if (m[i].live && m[i].x.tb.pc == pc && m[i].x.tb.flags == flags)
			return i;
	return -1;
}

static void do_insert(void)
{
	int i = rnd(NR_TB), same, err;
	struct codemap_tb *tb = &m[i].x.tb, *got;
	unsigned int p = rnd(NR_PAGE), first = rnd(4096);
	unsigned int len = 1 + rnd(rnd(8) ? 40 : 3000);
	bool stale = !rnd(8), crossing = first + len > 4096;

	if (m[i].live)
		return;
	if (crossing)
		xtb_init2(&m[i].x, rnd(200), page_no[p], first, page_no[rnd(NR_PAGE)],
			  first + len - 4097);
	else
		xtb_init(&m[i].x, rnd(200), page_no[p], first, first + len - 1);
	tb->flags = rnd(2);
	tb->uncovered = !rnd(6);
	tb->gen[0] = page_gen(NULL, tb->page[0]);
	tb->seq[0] = rnd(2) ? codemap_begin(map, tb->page[0]) : 0;
	if (crossing)
		tb->gen[1] = page_gen(NULL, tb->page[1]);
	if (stale)
		gen[page_i(tb->page[crossing ? rnd(2) : 0])]++;
	same = model_lookup(tb->pc, tb->flags);
	got = codemap_insert(map, tb, &err);
	if (stale) {
		CHECK(!got && err == -ESTALE);
	} else if (same >= 0) {
		CHECK(got == &m[same].x.tb && !err);
		CHECK(tb->gen[0] == page_gen(NULL, tb->page[0]));
		CHECK(!crossing || tb->gen[1] == page_gen(NULL, tb->page[1]));
	} else {
		CHECK(got == tb && !err);
		m[i].live = true;
		memset(m[i].to, -1, sizeof(m[i].to));
	}
}

static void do_invalidate(void)
{
	uint64_t page = page_no[rnd(NR_PAGE)];
	unsigned int first = rnd(4096);
	unsigned int last = rnd(16) ? first + rnd(16) : first + rnd(4096);
	uint64_t page2 = rnd(2) ? page_no[rnd(NR_PAGE)] : CODEMAP_NO_PAGE;
	bool held = rnd(2);
	struct codemap_tb *dead;
	int want = 0;

	if (last > 4095)
		last = 4095;
	if (held)
		codemap_lock_page(map, page, page2);
	dead = codemap_invalidate(map, page, first, last);
	if (held)
		codemap_unlock_page(map, page, page2);
	for (int i = 0; i < NR_TB; i++)
		want += m[i].live && covers(&m[i].x.tb, page, first, last);
	CHECK(dead_count(dead) == want);
	for (; dead; dead = dead->dead_next) {
		int i = (struct model_tb *)dead - m;

		CHECK(m[i].live && covers(dead, page, first, last));
		CHECK(codemap_tb_dead(dead));
		model_drop(i);
	}
}

static void do_invalidate_tb(void)
{
	int i = rnd(NR_TB);

	if (!m[i].live)
		return;
	CHECK(codemap_invalidate_tb(map, &m[i].x.tb));
	CHECK(!codemap_invalidate_tb(map, &m[i].x.tb));
	model_drop(i);
}

static void do_chain(void)
{
	int i = rnd(NR_TB), k = rnd(4) ? (int)rnd(NR_TB) : i, s = rnd(XTB_JUMPS);
	bool can;

	/* never inserted, or inserted and dropped: both are legal here */
	if (!m[i].live && !codemap_tb_dead(&m[i].x.tb))
		return;
	if (!m[k].live && !codemap_tb_dead(&m[k].x.tb))
		return;
	can = m[i].live && m[k].live && m[i].to[s] < 0;
	CHECK(codemap_chain(map, &m[i].x.tb, s, &m[k].x.tb) == can);
	if (can)
		m[i].to[s] = k;
}

static void do_unchain(void)
{
	int i = rnd(NR_TB);

	if (!rnd(20)) {
		codemap_unchain_all(map);
		for (i = 0; i < NR_TB; i++)
			model_unchain(i);
	} else if (m[i].live) {
		codemap_unchain(map, &m[i].x.tb);
		model_unchain(i);
	}
}

static void do_jc_insert(void)
{
	int i = rnd(NR_TB), c = rnd(NR_JC);
	struct codemap_tb *tb = &m[i].x.tb;
	uint64_t at;

	if (!m[i].live && !codemap_tb_dead(tb))
		return;
	tb->jc_entry = &m[i];
	codemap_jc_insert(&jc[c], tb);
	at = tb->pc & ((1 << JC_BITS) - 1);
	jc_want[c][at] = m[i].live ? &m[i] : (void *)miss;
}

struct totals {
	unsigned int pages, tbs;
};

static void count_page(uint64_t page, unsigned int tbs, unsigned int bytes, void *arg)
{
	struct totals *t = arg;
	bool covered[4096] = { };
	unsigned int want = 0;

	for (int i = 0; i < NR_TB; i++) {
		const struct codemap_tb *tb = &m[i].x.tb;

		for (int s = 0; m[i].live && !tb->uncovered && s < 2; s++)
			for (unsigned int b = tb->first[s];
			     tb->page[s] == page && b <= tb->last[s]; b++)
				covered[b] = true;
	}
	for (unsigned int b = 0; b < 4096; b++)
		want += covered[b];
	CHECK(bytes == want);
	t->pages++;
	t->tbs += tbs;
}

static void compare(bool thorough)
{
	uint64_t page = page_no[rnd(NR_PAGE)];
	unsigned int first = rnd(4096), last = first + rnd(rnd(4) ? 8 : 500);
	uint64_t pc = rnd(200), flags = rnd(2);
	int found = model_lookup(pc, flags);
	bool hit = false;
	struct totals have = { }, want = { };

	CHECK(codemap_lookup(map, pc, flags) == (found < 0 ? NULL : &m[found].x.tb));
	for (int i = 0; i < NR_TB; i++)
		hit |= m[i].live && !m[i].x.tb.uncovered && covers(&m[i].x.tb, page, first, last);
	CHECK(codemap_hits(map, page, first, last) == hit);
	for (unsigned int b = 0; b < 64; b++) {
		unsigned int byte = (first & -64U) + b;
		bool covered = false;

		for (int i = 0; i < NR_TB; i++)
			covered |= m[i].live && !m[i].x.tb.uncovered &&
				   covers(&m[i].x.tb, page, byte, byte);
		CHECK((codemap_covered(map, page, first / 64) >> b & 1) == covered);
	}
	for (int i = 0; i < NR_TB; i++) {
		for (int s = 0; s < XTB_JUMPS; s++) {
			struct codemap_tb *to = xtb_target(&m[i].x.tb, s);

			if (m[i].live || codemap_tb_dead(&m[i].x.tb))
				CHECK(to == (m[i].live && m[i].to[s] >= 0 ?
					     &m[m[i].to[s]].x.tb : NULL));
		}
	}
	for (int c = 0; c < NR_JC; c++)
		for (int e = 0; e < 1 << JC_BITS; e++)
			CHECK(jc[c].e[e] == jc_want[c][e]);
	if (!thorough)
		return;
	codemap_for_each_page(map, count_page, &have);
	for (int p = 0; p < NR_PAGE; p++) {
		unsigned int entries = 0;

		for (int i = 0; i < NR_TB; i++)
			for (int s = 0; s < 2; s++)
				entries += m[i].live && m[i].x.tb.page[s] == page_no[p];
		want.tbs += entries;
		want.pages += !!entries;
	}
	CHECK(have.tbs == want.tbs && have.pages == want.pages);
}

static void run(unsigned int s, unsigned int steps)
{
	seed = s;
	rnd_state = 0x9e3779b97f4a7c15ULL * (s + 1);
	memset(m, 0, sizeof(m));
	map = codemap_new(&ops, NULL, 52);
	CHECK(map);
	for (int c = 0; c < NR_JC; c++) {
		for (int e = 0; e < 1 << JC_BITS; e++)
			jc_e[c][e] = jc_want[c][e] = miss;
		CHECK(!codemap_jc_attach(map, &jc[c], jc_e[c], JC_BITS, miss));
	}
	for (step = 0; step < steps; step++) {
		unsigned int what = rnd(100);

		if (what < 40)
			do_insert();
		else if (what < 75)
			do_chain();
		else if (what < 82)
			do_jc_insert();
		else if (what < 86)
			do_unchain();
		else if (what < 92)
			do_invalidate_tb();
		else
			do_invalidate();
		compare(step % 64 == 0);
	}
	codemap_free(map);
}

/* One thread: TSan has nothing to find here but is ten times as slow. */
#ifdef __SANITIZE_THREAD__
#define STEPS 4000
#else
#define STEPS 20000
#endif

#define RUN(n) TEST(model_seed_##n) { run(n, STEPS); }
RUN(1)
RUN(2)
RUN(3)
RUN(4)
