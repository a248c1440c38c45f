// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Four threads translate, look up, chain, execute, write and invalidate at once.
 *
 * The guest is PAGES pages of GRANULES granules; each granule has a version
 * that a store raises. The TB of a pc covers one granule, or the last of its page
 * and the first of a second page (sometimes a lower one, sometimes the same page
 * again), and remembers the versions that it was translated from. The rule that
 * all of the code map is there for: who sees a version and then comes to a TB, by
 * the hash, a jump cache or a chained jump, finds it translated from that version
 * or a later one.
 *
 * TBs are freed by epochs as soon as the contract allows, so that ASan sees
 * whoever still looks at one.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "tb.h"

#define THREADS		4
#define PAGES		12
#define GRANULES	64
#define JC_BITS		6

struct guest_tb {
	struct xtb x;
	uint32_t version[2];	/* of the granules it was made from */
	struct guest_tb *free_next;
	uint64_t free_epoch;
};

/* A cache line each, so that TSan's shadow and the CPUs have something to do. */
struct thread {
	pthread_t id;
	uint64_t rnd;
	uint64_t epoch;		/* the one it has seen; written by itself only */
	struct codemap_jc jc;
	void *jc_e[1 << JC_BITS];
	struct guest_tb *garbage;
	uint64_t executed, by_chain, by_jc, translated, stale, killed, misses;
} __attribute__((aligned(64)));

static struct codemap *map;
static struct thread threads[THREADS];
static uint32_t version[PAGES][GRANULES];
static uint32_t gen[PAGES];
static bool armed[PAGES];		/* under folio[] */
static pthread_mutex_t folio[PAGES];
static uint64_t epoch_now = 1;
static bool stop;

static uint64_t rnd(struct thread *t, uint64_t n)
{
	t->rnd ^= t->rnd << 13;
	t->rnd ^= t->rnd >> 7;
	t->rnd ^= t->rnd << 17;
	return t->rnd % n;
}

static uint32_t page_gen(void *arg, uint64_t page)
{
	return __atomic_load_n(&gen[page], __ATOMIC_SEQ_CST);
}

static const struct codemap_ops ops = { .set_jump = xtb_set_jump, .page_gen = page_gen };

/* ---- the guest: a pc decides which granules its TB covers and where it goes -- */

#define NR_PC (PAGES * GRANULES)
#define ADDR(pc) (0x400000 + (pc))

static unsigned int pc_page(uint64_t pc)
{
	return pc / GRANULES;
}

static unsigned int pc_granule(uint64_t pc)
{
	return pc % GRANULES;
}

/* The second page of the TBs at the end of a page; PAGES: none. */
static unsigned int pc_page2(uint64_t pc)
{
	unsigned int page = pc_page(pc);

	if (pc_granule(pc) != GRANULES - 1)
		return PAGES;
	if (page % 4 == 3)
		return page;		/* one physical page twice in a row */
	return page % 2 ? page - 1 : page + 1;
}

static uint64_t pc_next(uint64_t pc, unsigned int slot)
{
	if (slot == 0)
		return (pc + 1) % NR_PC;
	if (pc % 7 == 0)
		return pc;		/* a loop to itself */
	return (pc * 31 + 63 * slot) % NR_PC;
}

static uint32_t load_version(unsigned int page, unsigned int granule)
{
	return __atomic_load_n(&version[page][granule], __ATOMIC_SEQ_CST);
}

static void load_versions(uint64_t pc, uint32_t v[2])
{
	unsigned int page2 = pc_page2(pc);

	v[0] = load_version(pc_page(pc), pc_granule(pc));
	v[1] = page2 < PAGES ? load_version(page2, 0) : 0;
}

/* ---- epochs ------------------------------------------------------------------ */

/* At this point the thread holds no TB. */
static void quiescent(struct thread *t)
{
	__atomic_store_n(&t->epoch, __atomic_load_n(&epoch_now, __ATOMIC_SEQ_CST),
			 __ATOMIC_SEQ_CST);
}

static void bury(struct thread *t, struct codemap_tb *dead)
{
	/* Threads that see this epoch or a later one cannot find them. */
	uint64_t epoch = __atomic_add_fetch(&epoch_now, 1, __ATOMIC_SEQ_CST);

	while (dead) {
		struct guest_tb *g = (struct guest_tb *)dead;

		dead = dead->dead_next;
		g->free_epoch = epoch;
		g->free_next = t->garbage;
		t->garbage = g;
	}
}

static void collect(struct thread *t, bool all)
{
	struct guest_tb **at = &t->garbage;
	uint64_t oldest = UINT64_MAX;

	for (int i = 0; i < THREADS && !all; i++) {
		uint64_t e = __atomic_load_n(&threads[i].epoch, __ATOMIC_SEQ_CST);

		if (e < oldest)
			oldest = e;
	}
	while (*at) {
		struct guest_tb *g = *at;

		if (g->free_epoch > oldest) {
			at = &g->free_next;
			continue;
		}
		*at = g->free_next;
		g->x.tb.pc = ~0ULL;	/* for the builds without ASan */
		free(g);
	}
}

/* ---- what a thread does ------------------------------------------------------ */

static void check(struct guest_tb *g, uint64_t pc, const uint32_t seen[2], const char *how)
{
	if (g->x.tb.pc != ADDR(pc))
		TEST_FAIL("%s led to %#llx instead of %#llx", how,
			  (unsigned long long)g->x.tb.pc, (unsigned long long)ADDR(pc));
	if (g->version[0] < seen[0] || g->version[1] < seen[1])
		TEST_FAIL("%s led to a stale TB: pc %#llx, made of %u,%u, seen %u,%u", how,
			  (unsigned long long)pc, g->version[0], g->version[1],
			  seen[0], seen[1]);
}

static struct guest_tb *translate(struct thread *t, uint64_t pc)
{
	unsigned int page = pc_page(pc), page2 = pc_page2(pc);
	unsigned int first = pc_granule(pc) * 64;
	struct guest_tb *g = malloc(sizeof(*g));
	struct codemap_tb *got;
	int err;

	ASSERT(g);
	t->translated++;
	if (page2 < PAGES)
		xtb_init2(&g->x, ADDR(pc), page, first, page2, 63);
	else
		xtb_init(&g->x, ADDR(pc), page, first, first + 63);
	g->x.tb.entry = g;
	g->x.tb.jc_entry = g;
	for (unsigned int s = 0; s < (page2 < PAGES ? 2 : 1); s++) {
		uint64_t p = g->x.tb.page[s];

		/* Both before the arm: a page disarmed since must not pass. */
		g->x.tb.seq[s] = codemap_begin(map, p);
		g->x.tb.gen[s] = page_gen(NULL, p);
		pthread_mutex_lock(&folio[p]);
		armed[p] = true;
		pthread_mutex_unlock(&folio[p]);
	}
	load_versions(pc, g->version);
	if (!rnd(t, 4))
		sched_yield();	/* translating takes a while */
	got = codemap_insert(map, &g->x.tb, &err);
	if (got != &g->x.tb) {
		free(g);
		if (!got) {
			ASSERT_EQ(err, -ESTALE);
			t->stale++;
		}
	}
	return (struct guest_tb *)got;
}

static char miss[1];

static void jc_attach(struct thread *t)
{
	for (int i = 0; i < 1 << JC_BITS; i++)
		t->jc_e[i] = miss;
	ASSERT_EQ(codemap_jc_attach(map, &t->jc, t->jc_e, JC_BITS, miss), 0);
}

static void execute(struct thread *t)
{
	struct guest_tb *last = NULL;
	unsigned int slot = 0;
	uint64_t pc = rnd(t, NR_PC);

	for (unsigned int n = 0; n < 40; n++) {
		struct guest_tb *g = NULL;
		uint32_t seen[2];

		load_versions(pc, seen);
		if (last) {
			g = (struct guest_tb *)xtb_target(&last->x.tb, slot);
			if (g) {
				t->by_chain++;
				check(g, pc, seen, "a chained jump");
			}
		}
		if (!g) {
			struct guest_tb *e = __atomic_load_n(&t->jc_e[ADDR(pc) & t->jc.mask],
							     __ATOMIC_SEQ_CST);

			if (e != (void *)miss && e->x.tb.pc == ADDR(pc)) {
				g = e;
				t->by_jc++;
				check(g, pc, seen, "the jump cache");
			}
		}
		if (!g) {
			g = (struct guest_tb *)codemap_lookup(map, ADDR(pc), 0);
			if (g)
				check(g, pc, seen, "a lookup");
			else
				g = translate(t, pc);
			if (!g)
				break;
			if (last && rnd(t, 4))
				codemap_chain(map, &last->x.tb, slot, &g->x.tb);
			codemap_jc_insert(&t->jc, &g->x.tb);
		}
		t->executed++;
		last = g;
		slot = rnd(t, XTB_JUMPS);
		pc = pc_next(pc, slot);
	}
}

/*
 * A store to one granule of a page that may be armed. A page that is not armed
 * has no live TBs, and the store is one with that test, as it is in hardware;
 * else it traps, and the handler has two ways. KEEP: through the alias, which no
 * arm stops: only the hold keeps translators out. OPEN: the page's TBs die and
 * the page is disarmed, in this order and under the hold (a page disarmed first
 * would let others write under live TBs), and the store is tried again.
 */
static void store(struct thread *t)
{
	unsigned int page = rnd(t, PAGES), granule = rnd(t, 3) ? rnd(t, GRANULES) : 0;
	unsigned int first, last;
	struct codemap_tb *dead;
	bool keep = rnd(t, 2), trapped;

	if (rnd(t, 8) == 0)
		granule = GRANULES - 1;
	first = granule * 64 + rnd(t, 60);
	last = first + rnd(t, 4);
	do {
		pthread_mutex_lock(&folio[page]);
		trapped = armed[page];
		if (trapped)
			__atomic_fetch_add(&gen[page], 1, __ATOMIC_SEQ_CST);
		else
			__atomic_fetch_add(&version[page][granule], 1, __ATOMIC_SEQ_CST);
		pthread_mutex_unlock(&folio[page]);
		if (!trapped)
			return;
		dead = NULL;
		codemap_lock_page(map, page, CODEMAP_NO_PAGE);
		if (!keep) {
			dead = codemap_invalidate(map, page, 0, CODEMAP_PAGE_SIZE - 1);
			pthread_mutex_lock(&folio[page]);
			armed[page] = false;
			__atomic_fetch_add(&gen[page], 1, __ATOMIC_SEQ_CST);
			pthread_mutex_unlock(&folio[page]);
		} else {
			if (codemap_hits(map, page, first, last))
				dead = codemap_invalidate(map, page, first, last);
			else
				t->misses++;
			__atomic_fetch_add(&version[page][granule], 1, __ATOMIC_SEQ_CST);
		}
		codemap_unlock_page(map, page, CODEMAP_NO_PAGE);
		t->killed += dead_count(dead);
		if (dead)
			bury(t, dead);
	} while (!keep);
}

static void count_page(uint64_t page, unsigned int tbs, unsigned int bytes, void *arg)
{
	ASSERT_LE(bytes, CODEMAP_PAGE_SIZE);
}

static void other(struct thread *t)
{
	struct codemap_tb *tb;

	switch (rnd(t, 6)) {
	case 0:
		codemap_unchain_all(map);
		break;
	case 1:
	case 2:
		tb = codemap_lookup(map, ADDR(rnd(t, NR_PC)), 0);
		if (tb)
			codemap_unchain(map, tb);
		break;
	case 3:
		codemap_for_each_page(map, count_page, NULL);
		break;
	case 4:
		codemap_jc_detach(map, &t->jc);
		jc_attach(t);
		break;
	case 5:
		tb = codemap_lookup(map, ADDR(rnd(t, NR_PC)), 0);
		if (tb && codemap_invalidate_tb(map, tb)) {
			tb->dead_next = NULL;
			bury(t, tb);
			t->killed++;
		}
		break;
	}
}

static void *run(void *arg)
{
	struct thread *t = arg;

	jc_attach(t);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		unsigned int what = rnd(t, 100);

		quiescent(t);
		if (what < 60)
			execute(t);
		else if (what < 92)
			store(t);
		else
			other(t);
		if (what == 0)
			collect(t, false);
	}
	/* Nothing of this thread's is looked at by it any more. */
	__atomic_store_n(&t->epoch, UINT64_MAX, __ATOMIC_SEQ_CST);
	codemap_jc_detach(map, &t->jc);
	return NULL;
}

/* When all is quiet, the map is what its TBs say. */
static void check_quiet(void)
{
	unsigned int left = 0;

	for (uint64_t pc = 0; pc < NR_PC; pc++) {
		struct codemap_tb *tb = codemap_lookup(map, ADDR(pc), 0);
		uint32_t now[2];

		if (!tb)
			continue;
		left++;
		load_versions(pc, now);
		ASSERT_EQ(((struct guest_tb *)tb)->version[0], now[0]);
		ASSERT_EQ(((struct guest_tb *)tb)->version[1], now[1]);
		ASSERT(codemap_hits(map, pc_page(pc), pc_granule(pc) * 64,
				    pc_granule(pc) * 64));
		for (int s = 0; s < XTB_JUMPS; s++) {
			struct codemap_tb *to = xtb_target(tb, s);

			ASSERT(!to || to == codemap_lookup(map, ADDR(pc_next(pc, s)), 0));
		}
	}
	for (unsigned int p = 0; p < PAGES; p++) {
		struct codemap_tb *dead = codemap_invalidate(map, p, 0, 4095);

		ASSERT_LE((unsigned int)dead_count(dead), left);
		left -= dead_count(dead);
		ASSERT(!codemap_hits(map, p, 0, 4095));
		bury(&threads[0], dead);
	}
	ASSERT_EQ(left, 0U);
}

static void storm(unsigned int seconds)
{
	struct thread sum = { };

	map = codemap_new(&ops, NULL, 8);
	ASSERT(map);
	for (unsigned int i = 0; i < PAGES; i++)
		pthread_mutex_init(&folio[i], NULL);
	for (unsigned int i = 0; i < THREADS; i++) {
		threads[i].rnd = 0x9e3779b97f4a7c15ULL * (i + 1);
		threads[i].epoch = 1;
	}
	for (unsigned int i = 0; i < THREADS; i++)
		ASSERT_EQ(pthread_create(&threads[i].id, NULL, run, &threads[i]), 0);
	sleep(seconds);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i].id, NULL);
	check_quiet();
	for (unsigned int i = 0; i < THREADS; i++) {
		struct thread *t = &threads[i];

		collect(t, true);
		sum.executed += t->executed;
		sum.by_chain += t->by_chain;
		sum.by_jc += t->by_jc;
		sum.translated += t->translated;
		sum.stale += t->stale;
		sum.killed += t->killed;
		sum.misses += t->misses;
	}
	codemap_free(map);
	printf("# executed %llu (chained %llu, cached %llu), translated %llu, stale %llu, killed %llu, misses %llu\n",
	       (unsigned long long)sum.executed, (unsigned long long)sum.by_chain,
	       (unsigned long long)sum.by_jc, (unsigned long long)sum.translated,
	       (unsigned long long)sum.stale, (unsigned long long)sum.killed,
	       (unsigned long long)sum.misses);
	fflush(stdout);
	/* A storm in which one of the ways was never gone has shown nothing. */
	ASSERT(sum.by_chain && sum.by_jc && sum.stale && sum.killed && sum.misses);
}

TEST(execute_chain_write_invalidate)
{
	storm(6);
}

/* ---- the hash grows while others look up ------------------------------------- */

#define GROW_TBS 40000

static struct xtb *grow_tb;
static unsigned int grow_published;

static void *grow_lookup(void *arg)
{
	uint64_t r = (uintptr_t)arg;
	unsigned int n;

	do {
		n = __atomic_load_n(&grow_published, __ATOMIC_ACQUIRE);
		for (int i = 0; i < 64 && n; i++) {
			uint64_t k;

			r = r * 6364136223846793005ULL + 1442695040888963407ULL;
			k = (r >> 33) % n;
			if (codemap_lookup(map, k, 0) != &grow_tb[k].tb)
				TEST_FAIL("a published TB was not found while the hash grew");
		}
	} while (n < GROW_TBS);
	return NULL;
}

TEST(lookups_while_the_hash_grows)
{
	pthread_t t[3];

	for (int round = 0; round < 3; round++) {
		map = codemap_new(NULL, NULL, 20);
		grow_tb = calloc(GROW_TBS, sizeof(*grow_tb));
		ASSERT(map && grow_tb);
		grow_published = 0;
		for (uintptr_t i = 0; i < 3; i++)
			ASSERT_EQ(pthread_create(&t[i], NULL, grow_lookup, (void *)(i + 1)), 0);
		for (unsigned int i = 0; i < GROW_TBS; i++) {
			int err;

			xtb_init(&grow_tb[i], i, i / 64, i % 64 * 64, i % 64 * 64 + 63);
			ASSERT(codemap_insert(map, &grow_tb[i].tb, &err));
			__atomic_store_n(&grow_published, i + 1, __ATOMIC_RELEASE);
		}
		for (int i = 0; i < 3; i++)
			pthread_join(t[i], NULL);
		codemap_free(map);
		free(grow_tb);
	}
}
