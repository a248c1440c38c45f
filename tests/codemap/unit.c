// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Every call of the code map, one property per test, one thread.
 */
#include <errno.h>
#include <pthread.h>

#include "tb.h"

#ifdef CODEMAP_DEBUG
extern __thread uint64_t cm_hit_words;
#endif

static uint32_t gens[64];

static uint32_t page_gen(void *arg, uint64_t page)
{
	return gens[page % 64];
}

static const struct codemap_ops ops = { .set_jump = xtb_set_jump, .page_gen = page_gen };

static struct codemap *map_new(void)
{
	struct codemap *map = codemap_new(&ops, NULL, 52);

	ASSERT(map);
	return map;
}

static void insert(struct codemap *map, struct codemap_tb *tb)
{
	int err;

	ASSERT(codemap_insert(map, tb, &err) == tb);
	ASSERT_EQ(err, 0);
}

TEST(new_refuses_wrong_page_bits)
{
	ASSERT(!codemap_new(&ops, NULL, 0));
	ASSERT(!codemap_new(&ops, NULL, 55));
	codemap_free(NULL);
}

TEST(index_at_extreme_pages)
{
	static const unsigned int bits[] = { 1, 8, 9, 10, 36, 52, 54 };

	for (unsigned int i = 0; i < sizeof(bits) / sizeof(*bits); i++) {
		struct codemap *map = codemap_new(&ops, NULL, bits[i]);
		uint64_t top = (1ULL << bits[i]) - 1;
		struct codemap_page *p, *q;

		ASSERT(map);
		ASSERT(!codemap_find(map, 0));
		ASSERT(!codemap_find(map, top));
		p = codemap_find_alloc(map, top);
		ASSERT(p);
		ASSERT(!codemap_find(map, 0));
		q = codemap_find_alloc(map, 0);
		ASSERT(q && q != p);
		ASSERT(codemap_find(map, top) == p);
		ASSERT(codemap_find(map, 0) == q);
		ASSERT(codemap_find_alloc(map, top) == p);
		ASSERT(!codemap_find(map, top + 1));
		ASSERT(!codemap_find_alloc(map, top + 1));
		ASSERT(!codemap_find(map, CODEMAP_NO_PAGE));
		codemap_free(map);
	}
}

struct race {
	struct codemap *map;
	pthread_barrier_t *go;
	struct codemap_page *got[512];
};

static void *race_alloc(void *arg)
{
	struct race *r = arg;

	pthread_barrier_wait(r->go);
	for (uint64_t i = 0; i < 512; i++)
		r->got[i] = codemap_find_alloc(r->map, i * 0x123457);
	return NULL;
}

TEST(find_alloc_race_has_one_winner)
{
	for (int round = 0; round < 20; round++) {
		static struct race r[4];
		struct codemap *map = map_new();
		pthread_barrier_t go;
		pthread_t t[4];

		pthread_barrier_init(&go, NULL, 4);
		for (int i = 0; i < 4; i++) {
			r[i] = (struct race){ .map = map, .go = &go };
			ASSERT_EQ(pthread_create(&t[i], NULL, race_alloc, &r[i]), 0);
		}
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		for (int n = 0; n < 512; n++) {
			ASSERT(r[0].got[n]);
			for (int i = 1; i < 4; i++)
				ASSERT(r[i].got[n] == r[0].got[n]);
		}
		codemap_free(map);
	}
}

TEST(insert_then_lookup_then_drop)
{
	struct codemap *map = map_new();
	struct codemap_tb *dead;
	struct xtb a;

	insert(map, xtb_init(&a, 0x1000, 1, 0, 9));
	ASSERT(codemap_lookup(map, 0x1000, 0) == &a.tb);
	ASSERT(!codemap_lookup(map, 0x1000, 1));
	ASSERT(!codemap_lookup(map, 0x1001, 0));
	ASSERT(!codemap_tb_dead(&a.tb));
	dead = codemap_invalidate(map, 1, 9, 9);
	ASSERT(dead == &a.tb && !dead->dead_next);
	ASSERT(codemap_tb_dead(&a.tb));
	ASSERT(!codemap_lookup(map, 0x1000, 0));
	ASSERT(!codemap_invalidate(map, 1, 0, 4095));
	codemap_free(map);
}

TEST(insert_refuses_wrong_ranges)
{
	struct codemap *map = codemap_new(&ops, NULL, 20);
	struct xtb a;
	int err;

	xtb_init(&a, 1, 1 << 20, 0, 0);
	ASSERT(!codemap_insert(map, &a.tb, &err) && err == -EINVAL);
	xtb_init(&a, 1, CODEMAP_NO_PAGE, 0, 0);
	ASSERT(!codemap_insert(map, &a.tb, &err) && err == -EINVAL);
	xtb_init(&a, 1, 1, 2, 1);
	ASSERT(!codemap_insert(map, &a.tb, &err) && err == -EINVAL);
	xtb_init(&a, 1, 1, 0, 4096);
	ASSERT(!codemap_insert(map, &a.tb, &err) && err == -EINVAL);
	xtb_init2(&a, 1, 1, 0, 1 << 20, 0);
	ASSERT(!codemap_insert(map, &a.tb, &err) && err == -EINVAL);
	ASSERT(!codemap_find(map, 1));
	codemap_free(map);
}

TEST(insert_same_key_gives_the_first)
{
	struct codemap *map = map_new();
	struct xtb a, b, c;
	int err;

	insert(map, xtb_init(&a, 0x1000, 1, 0, 9));
	xtb_init(&b, 0x1000, 1, 0, 100);
	ASSERT(codemap_insert(map, &b.tb, &err) == &a.tb);
	ASSERT_EQ(err, 0);
	/* b left nothing behind */
	ASSERT(!codemap_hits(map, 1, 10, 4095));
	ASSERT_EQ(dead_count(codemap_invalidate(map, 1, 0, 4095)), 1);
	/* and can be inserted now; other flags are another key */
	insert(map, &b.tb);
	xtb_init(&c, 0x1000, 1, 0, 9);
	c.tb.flags = 7;
	insert(map, &c.tb);
	ASSERT(codemap_lookup(map, 0x1000, 0) == &b.tb);
	ASSERT(codemap_lookup(map, 0x1000, 7) == &c.tb);
	codemap_free(map);
}

TEST(insert_refuses_stale_generation)
{
	struct codemap *map = map_new();
	struct xtb a, b;
	int err;

	xtb_init(&a, 0x1000, 1, 0, 9);
	a.tb.gen[0] = gens[1];
	gens[1]++;
	ASSERT(!codemap_insert(map, &a.tb, &err));
	ASSERT_EQ(err, -ESTALE);
	ASSERT(!codemap_lookup(map, 0x1000, 0));
	ASSERT(!codemap_hits(map, 1, 0, 4095));
	ASSERT(!codemap_invalidate(map, 1, 0, 4095));
	a.tb.gen[0] = gens[1];
	insert(map, &a.tb);

	/* the second page counts as well */
	xtb_init2(&b, 0x2ff0, 2, 4080, 3, 9);
	b.tb.gen[0] = gens[2];
	b.tb.gen[1] = gens[3];
	gens[3]++;
	ASSERT(!codemap_insert(map, &b.tb, &err));
	ASSERT_EQ(err, -ESTALE);
	ASSERT(!codemap_hits(map, 2, 0, 4095) && !codemap_hits(map, 3, 0, 4095));
	b.tb.gen[1] = gens[3];
	insert(map, &b.tb);
	codemap_free(map);
}

TEST(insert_refuses_page_held_since_begin)
{
	struct codemap *map = map_new();
	struct xtb a, b, c;
	int err;

	/* page 900 is in another stripe than 5 and 6 */
	xtb_init2(&a, 0x5ff0, 5, 4080, 6, 9);
	a.tb.seq[0] = codemap_begin(map, 5);
	a.tb.seq[1] = codemap_begin(map, 6);
	ASSERT(a.tb.seq[0] && a.tb.seq[1]);
	codemap_lock_page(map, 900, CODEMAP_NO_PAGE);
	codemap_unlock_page(map, 900, CODEMAP_NO_PAGE);
	insert(map, &a.tb);

	xtb_init2(&b, 0x5ff1, 5, 4081, 6, 9);
	b.tb.seq[0] = codemap_begin(map, 5);
	b.tb.seq[1] = codemap_begin(map, 6);
	codemap_lock_page(map, 900, 6);
	codemap_unlock_page(map, 900, 6);
	ASSERT(!codemap_insert(map, &b.tb, &err));
	ASSERT_EQ(err, -ESTALE);
	b.tb.seq[1] = codemap_begin(map, 6);
	insert(map, &b.tb);

	/* 0: did not ask */
	xtb_init(&c, 0x5000, 5, 0, 9);
	codemap_lock_page(map, 5, CODEMAP_NO_PAGE);
	codemap_unlock_page(map, 5, CODEMAP_NO_PAGE);
	insert(map, &c.tb);
	codemap_free(map);
}

TEST(without_ops_nothing_is_compared)
{
	struct codemap *map = codemap_new(NULL, NULL, 20);
	struct xtb a, b;

	xtb_init(&a, 0x1000, 1, 0, 9);
	a.tb.gen[0] = 77;
	insert(map, &a.tb);
	insert(map, xtb_init(&b, 0x1010, 1, 16, 20));
	ASSERT(codemap_chain(map, &a.tb, 0, &b.tb));
	ASSERT_EQ(dead_count(codemap_invalidate(map, 1, 0, 4095)), 2);
	codemap_free(map);
}

TEST(two_page_tb_dies_by_either_page)
{
	for (int order = 0; order < 2; order++) {
		for (int by = 0; by < 2; by++) {
			/* the second page before and behind the first */
			uint64_t second = order ? 4 : 900;
			struct codemap *map = map_new();
			struct codemap_tb *dead;
			struct xtb a, b, c;

			insert(map, xtb_init2(&a, 0x5ffe, 5, 4094, second, 3));
			insert(map, xtb_init(&b, 0x5ff0, 5, 4080, 4093));
			insert(map, xtb_init(&c, 0x6004, second, 4, 9));
			ASSERT(codemap_hits(map, 5, 4094, 4095));
			ASSERT(codemap_hits(map, second, 3, 3));
			dead = by ? codemap_invalidate(map, second, 3, 3) :
				    codemap_invalidate(map, 5, 4095, 4095);
			ASSERT(dead == &a.tb && !dead->dead_next);
			ASSERT(!codemap_hits(map, 5, 4094, 4095));
			ASSERT(!codemap_hits(map, second, 0, 3));
			ASSERT(codemap_hits(map, 5, 4093, 4093));
			ASSERT(codemap_hits(map, second, 4, 4));
			ASSERT(!codemap_lookup(map, 0x5ffe, 0));
			ASSERT(codemap_lookup(map, 0x5ff0, 0) == &b.tb);
			ASSERT(codemap_lookup(map, 0x6004, 0) == &c.tb);
			codemap_free(map);
		}
	}
}

/* One physical page mapped twice in a row: both halves are on the same page. */
TEST(same_page_twice)
{
	for (int by = 0; by < 3; by++) {
		struct codemap *map = map_new();
		struct xtb a, b;

		insert(map, xtb_init2(&a, 0x5ffe, 5, 4094, 5, 3));
		insert(map, xtb_init(&b, 0x5100, 5, 256, 259));
		ASSERT(codemap_hits(map, 5, 0, 0) && codemap_hits(map, 5, 4095, 4095));
		ASSERT(!codemap_hits(map, 5, 4, 255));
		ASSERT(!codemap_invalidate(map, 5, 260, 4093));
		if (by == 0)
			ASSERT(codemap_invalidate(map, 5, 3, 3) == &a.tb);
		else if (by == 1)
			ASSERT(codemap_invalidate(map, 5, 4094, 4094) == &a.tb);
		else
			ASSERT(codemap_invalidate_tb(map, &a.tb));
		ASSERT(!codemap_hits(map, 5, 0, 255));
		ASSERT(!codemap_hits(map, 5, 260, 4095));
		/* neither entry is left on the list */
		ASSERT_EQ(dead_count(codemap_invalidate(map, 5, 0, 4095)), 1);
		insert(map, xtb_init(&b, 0x5100, 5, 256, 259));
		ASSERT(codemap_invalidate(map, 5, 0, 4095) == &b.tb);
		codemap_free(map);
	}
}

TEST(invalidate_takes_exactly_the_overlapping)
{
	struct codemap *map = map_new();
	static struct xtb t[64];

	for (int i = 0; i < 64; i++)
		insert(map, xtb_init(&t[i], i, 1, i * 64, i * 64 + 62));
	/* byte 63 of each group belongs to nobody */
	ASSERT(!codemap_invalidate(map, 1, 63, 63));
	ASSERT(!codemap_invalidate(map, 1, 4095, 4095));
	ASSERT_EQ(dead_count(codemap_invalidate(map, 1, 62, 64)), 2);
	ASSERT(codemap_tb_dead(&t[0].tb) && codemap_tb_dead(&t[1].tb));
	ASSERT_EQ(dead_count(codemap_invalidate(map, 1, 63, 128)), 1);
	ASSERT(codemap_tb_dead(&t[2].tb) && !codemap_tb_dead(&t[3].tb));
	ASSERT(!codemap_invalidate(map, 2, 0, 4095));
	ASSERT(!codemap_invalidate(map, 1, 9, 8));
	ASSERT_EQ(dead_count(codemap_invalidate(map, 1, 0, 4095)), 61);
	codemap_free(map);
}

TEST(invalidate_tb_once)
{
	struct codemap *map = map_new();
	struct xtb a, b, never;

	insert(map, xtb_init2(&a, 0x1ffe, 1, 4094, 2, 0));
	insert(map, xtb_init(&b, 0x1000, 1, 4095, 4095));
	ASSERT(codemap_invalidate_tb(map, &a.tb));
	ASSERT(!codemap_invalidate_tb(map, &a.tb));
	ASSERT(!codemap_hits(map, 1, 4094, 4094));
	ASSERT(codemap_hits(map, 1, 4095, 4095));
	ASSERT(!codemap_hits(map, 2, 0, 0));
	xtb_init(&never, 0x9000, 9, 0, 0);
	ASSERT(!codemap_invalidate_tb(map, &never.tb));
	codemap_free(map);
}

TEST(coverage_after_partial_removal)
{
	struct codemap *map = map_new();
	struct xtb a, b, c;

	insert(map, xtb_init(&a, 1, 1, 0, 199));
	insert(map, xtb_init(&b, 2, 1, 100, 299));
	insert(map, xtb_init(&c, 3, 1, 128, 191));
	ASSERT(codemap_invalidate_tb(map, &b.tb));
	for (unsigned int i = 0; i < 4096; i++)
		ASSERT_EQ(codemap_hits(map, 1, i, i), i < 200);
	ASSERT(codemap_invalidate_tb(map, &a.tb));
	for (unsigned int i = 0; i < 4096; i++)
		ASSERT_EQ(codemap_hits(map, 1, i, i), i >= 128 && i < 192);
	codemap_free(map);
}

TEST(hits_edges)
{
	struct codemap *map = map_new();
	struct xtb a, b;

	ASSERT(!codemap_hits(map, 1, 0, 4095));
	insert(map, xtb_init(&a, 1, 1, 0, 0));
	insert(map, xtb_init(&b, 2, 1, 4095, 4095));
	ASSERT(codemap_hits(map, 1, 0, 0));
	ASSERT(!codemap_hits(map, 1, 1, 4094));
	ASSERT(codemap_hits(map, 1, 4095, 4095));
	ASSERT(codemap_hits(map, 1, 4000, 100000));
	ASSERT(!codemap_hits(map, 1, 4096, 5000));
	ASSERT(!codemap_hits(map, 1, 5, 4));
	ASSERT(!codemap_hits(map, 1ULL << 60, 0, 4095));
	codemap_free(map);
}

/* Work counted, not time: words of coverage that one question looks at. */
TEST(hit_test_work_is_independent_of_tbs)
{
#ifdef CODEMAP_DEBUG
	static struct xtb t[1000];
	struct codemap *map = map_new();
	uint64_t work[2];

	for (int n = 0; n < 2; n++) {
		for (int i = n; i < (n ? 1000 : 1); i++)
			insert(map, xtb_init(&t[i], i, 1, i, i + 7));
		cm_hit_words = 0;
		ASSERT(!codemap_hits(map, 1, 2000, 2007));
		ASSERT(!codemap_hits(map, 1, 2040, 2055));
		ASSERT(!codemap_hits(map, 1, 1100, 4095));
		work[n] = cm_hit_words;
	}
	ASSERT_EQ(work[0], work[1]);
	ASSERT_EQ(work[1], 1UL + 2 + 47);
	codemap_free(map);
#else
	SKIP("counts work only with CODEMAP_DEBUG");
#endif
}

TEST(chain_and_cut_both_ways)
{
	struct codemap *map = map_new();
	struct xtb a, b, c;

	insert(map, xtb_init(&a, 1, 1, 0, 9));
	insert(map, xtb_init(&b, 2, 1, 10, 19));
	insert(map, xtb_init(&c, 3, 1, 20, 29));
	ASSERT(codemap_chain(map, &a.tb, 0, &b.tb));
	ASSERT(codemap_chain(map, &a.tb, 1, &b.tb));
	ASSERT(codemap_chain(map, &b.tb, 0, &c.tb));
	ASSERT(codemap_chain(map, &c.tb, 1, &b.tb));
	ASSERT(codemap_chain(map, &a.tb, XTB_JUMPS - 1, &b.tb));
	ASSERT(a.target[0] == &b.tb && a.target[1] == &b.tb);
	ASSERT(a.target[XTB_JUMPS - 1] == &b.tb);
	/* taken */
	ASSERT(!codemap_chain(map, &a.tb, 0, &c.tb));
	ASSERT(a.target[0] == &b.tb);

	ASSERT(codemap_invalidate_tb(map, &b.tb));
	ASSERT(!a.target[0] && !a.target[1] && !c.target[1] && !a.target[XTB_JUMPS - 1]);
	/* the dead one's own jump, too: a thread may be in it when c dies */
	ASSERT(!b.target[0]);
	ASSERT(codemap_invalidate_tb(map, &c.tb));
	/* the living one's slots are free again */
	insert(map, xtb_init(&b, 2, 1, 10, 19));
	ASSERT(codemap_chain(map, &a.tb, 0, &b.tb));
	ASSERT(codemap_invalidate_tb(map, &a.tb));
	ASSERT(codemap_invalidate_tb(map, &b.tb));
	codemap_free(map);
}

TEST(chain_with_the_dead)
{
	struct codemap *map = map_new();
	struct xtb a, b;

	insert(map, xtb_init(&a, 1, 1, 0, 9));
	insert(map, xtb_init(&b, 2, 1, 10, 19));
	ASSERT(codemap_invalidate_tb(map, &b.tb));
	ASSERT(!codemap_chain(map, &a.tb, 0, &b.tb));
	ASSERT(!a.target[0]);
	ASSERT(!codemap_chain(map, &b.tb, 0, &a.tb));
	ASSERT(!codemap_chain(map, &b.tb, 1, &a.tb));
	ASSERT(!b.target[0] && !b.target[1]);
	ASSERT(!codemap_chain(map, &b.tb, 1, &b.tb));
	codemap_free(map);
}

TEST(self_loop)
{
	struct codemap *map = map_new();
	struct xtb a, b;

	insert(map, xtb_init(&a, 1, 1, 0, 9));
	insert(map, xtb_init(&b, 2, 1, 10, 19));
	ASSERT(codemap_chain(map, &b.tb, 0, &a.tb));
	ASSERT(codemap_chain(map, &a.tb, 0, &a.tb));
	ASSERT(codemap_chain(map, &a.tb, 1, &a.tb));
	ASSERT(a.target[0] == &a.tb && a.target[1] == &a.tb);
	codemap_unchain(map, &a.tb);
	ASSERT(!a.target[0] && !a.target[1] && !b.target[0]);
	ASSERT(codemap_chain(map, &a.tb, 1, &a.tb));
	ASSERT(codemap_chain(map, &b.tb, 1, &a.tb));
	ASSERT(codemap_invalidate_tb(map, &a.tb));
	ASSERT(!a.target[1] && !b.target[1]);
	codemap_free(map);
}

TEST(unchain_leaves_it_findable)
{
	struct codemap *map = map_new();
	struct xtb a, b, c;

	insert(map, xtb_init(&a, 1, 1, 0, 9));
	insert(map, xtb_init(&b, 2, 1, 10, 19));
	insert(map, xtb_init(&c, 3, 1, 20, 29));
	ASSERT(codemap_chain(map, &a.tb, 0, &b.tb));
	ASSERT(codemap_chain(map, &b.tb, 0, &c.tb));
	ASSERT(codemap_chain(map, &c.tb, 0, &a.tb));
	codemap_unchain(map, &b.tb);
	ASSERT(!a.target[0] && !b.target[0] && c.target[0] == &a.tb);
	ASSERT(codemap_lookup(map, 2, 0) == &b.tb && !codemap_tb_dead(&b.tb));
	ASSERT(codemap_chain(map, &a.tb, 0, &c.tb));
	ASSERT(codemap_chain(map, &b.tb, 0, &c.tb));
	codemap_unchain_all(map);
	ASSERT(!a.target[0] && !b.target[0] && !c.target[0]);
	ASSERT(codemap_chain(map, &c.tb, 0, &a.tb));
	codemap_free(map);
}

TEST(long_chain_lists)
{
	static struct xtb t[500];
	struct codemap *map = map_new();
	struct xtb hub;

	insert(map, xtb_init(&hub, 9999, 2, 0, 0));
	for (int i = 0; i < 500; i++) {
		insert(map, xtb_init(&t[i], i, 1, i, i));
		ASSERT(codemap_chain(map, &t[i].tb, i & 1, &hub.tb));
	}
	/* from the middle, the head and the tail of the hub's list */
	for (int i = 250; i < 260; i++)
		ASSERT(codemap_invalidate_tb(map, &t[i].tb));
	ASSERT(codemap_invalidate_tb(map, &t[499].tb));
	ASSERT(codemap_invalidate_tb(map, &t[0].tb));
	ASSERT(t[1].target[1] == &hub.tb);
	ASSERT(codemap_invalidate_tb(map, &hub.tb));
	for (int i = 0; i < 500; i++)
		ASSERT(!t[i].target[0] && !t[i].target[1]);
	codemap_free(map);
}

TEST(jump_cache_purge)
{
	struct codemap *map = map_new();
	struct codemap_jc jc[2] = { };
	void *e[16], *one[1];
	char miss[1];
	struct xtb a, b, c, none;

	for (int i = 0; i < 16; i++)
		e[i] = miss;
	one[0] = miss;
	ASSERT_EQ(codemap_jc_attach(map, &jc[0], e, 25, miss), -EINVAL);
	ASSERT_EQ(codemap_jc_attach(map, &jc[0], e, 4, miss), 0);
	ASSERT_EQ(codemap_jc_attach(map, &jc[1], one, 0, miss), 0);
	ASSERT_EQ(jc[0].mask, 15UL);
	insert(map, xtb_init(&a, 0x1003, 1, 3, 9));
	insert(map, xtb_init(&b, 0x1013, 1, 19, 29));
	a.tb.jc_entry = &a;
	b.tb.jc_entry = &b;
	codemap_jc_insert(&jc[0], &a.tb);
	codemap_jc_insert(&jc[1], &a.tb);
	ASSERT(e[3] == &a && one[0] == &a && e[0] == miss);
	/* another pc in the same entry is not purged */
	codemap_jc_insert(&jc[0], &b.tb);
	ASSERT(e[3] == &b);
	ASSERT(codemap_invalidate_tb(map, &a.tb));
	ASSERT(e[3] == &b && one[0] == miss);
	ASSERT(codemap_invalidate(map, 1, 29, 29) == &b.tb);
	ASSERT(e[3] == miss);
	/* a dead one does not get in, and takes out what was there */
	e[3] = &a;
	codemap_jc_insert(&jc[0], &b.tb);
	ASSERT(e[3] == miss);
	insert(map, xtb_init(&c, 0x1003, 1, 3, 9));
	insert(map, xtb_init(&none, 0x1004, 1, 4, 9));
	c.tb.jc_entry = &c;
	codemap_jc_insert(&jc[1], &c.tb);
	/* one that has no such code is left out */
	codemap_jc_insert(&jc[0], &none.tb);
	ASSERT(e[4] == miss && one[0] == &c);
	codemap_jc_detach(map, &jc[0]);
	e[3] = &c;
	ASSERT(codemap_invalidate_tb(map, &c.tb));
	ASSERT(one[0] == miss && e[3] == &c);
	codemap_jc_detach(map, &jc[1]);
	codemap_free(map);
}

TEST(hash_grows)
{
	const unsigned int n = 20000;
	struct xtb *t = calloc(n, sizeof(*t));
	struct codemap *map = map_new();

	for (unsigned int i = 0; i < n; i++)
		insert(map, xtb_init(&t[i], 0x400000 + i * 16, i / 256, i % 256 * 16,
				     i % 256 * 16 + 15));
	for (unsigned int i = 0; i < n; i++)
		ASSERT(codemap_lookup(map, 0x400000 + i * 16, 0) == &t[i].tb);
	for (unsigned int i = 0; i < n; i += 2)
		ASSERT(codemap_invalidate_tb(map, &t[i].tb));
	for (unsigned int i = 0; i < n; i++)
		ASSERT(codemap_lookup(map, 0x400000 + i * 16, 0) ==
		       (i % 2 ? &t[i].tb : NULL));
	codemap_free(map);
	free(t);
}

TEST(trim_gives_descriptors_back)
{
	static const unsigned int bits[] = { 1, 9, 10, 52 };

	for (unsigned int k = 0; k < sizeof(bits) / sizeof(*bits); k++) {
		struct codemap *map = codemap_new(&ops, NULL, bits[k]);
		uint64_t top = (1ULL << bits[k]) - 1;
		const unsigned int n = 5000;
		struct xtb *t = calloc(n, sizeof(*t));
		size_t bytes = 0;

		for (unsigned int round = 0; round < 3; round++) {
			ASSERT(!codemap_bytes(map));
			for (unsigned int i = 0; i < n; i++)
				insert(map, xtb_init(&t[i], 0x400000 + i, i & 1 ? top : 0, i % 4000,
						     i % 4000));
			ASSERT(!round || codemap_bytes(map) == bytes);
			bytes = codemap_bytes(map);
			/* two descriptors, and two tables at each level but the first */
			ASSERT(bytes > 2 * 512 && bytes < 2 * 1024 + 2 * 5 * 4096);
			for (unsigned int i = 0; i < n; i++)
				ASSERT(codemap_invalidate_tb(map, &t[i].tb));
			codemap_trim(map);
			ASSERT(!codemap_find(map, 0) && !codemap_find(map, top));
			ASSERT(!codemap_hits(map, 0, 0, 4095));
			for (unsigned int i = 0; i < n; i++)
				ASSERT(!codemap_lookup(map, 0x400000 + i, 0));
		}
		codemap_free(map);
		free(t);
	}
}

TEST(lock_page_keeps_invalidation_possible)
{
	struct codemap *map = map_new();
	struct xtb a, b;

	insert(map, xtb_init2(&a, 0x5ffe, 5, 4094, 4, 3));
	insert(map, xtb_init2(&b, 0x4ffe, 4, 4094, 5, 3));
	/* the same stripe twice, any order, pages without a descriptor */
	codemap_lock_page(map, 5, 5 + 1024);
	ASSERT(codemap_invalidate(map, 5, 4095, 4095) == &a.tb);
	ASSERT(codemap_invalidate(map, 5, 0, 0) == &b.tb);
	codemap_unlock_page(map, 5, 5 + 1024);
	codemap_lock_page(map, 77, 12);
	ASSERT(!codemap_hits(map, 77, 0, 4095));
	codemap_unlock_page(map, 77, 12);
	ASSERT(!codemap_find(map, 77));
	codemap_free(map);
}

struct walk {
	uint64_t page[4];
	unsigned int tbs[4], bytes[4], n;
};

static void walk_fn(uint64_t page, unsigned int tbs, unsigned int bytes, void *arg)
{
	struct walk *w = arg;

	ASSERT_LT(w->n, 4U);
	w->page[w->n] = page;
	w->tbs[w->n] = tbs;
	w->bytes[w->n++] = bytes;
}

/* What was refused, or never shown, is not there to be dropped. */
TEST(never_inserted)
{
	struct codemap *map = map_new();
	struct xtb a, b, c;
	int err;

	insert(map, xtb_init2(&a, 0x5ffe, 5, 4094, 6, 3));
	xtb_init2(&b, 0x5ffe, 5, 4094, 6, 3);
	ASSERT(codemap_insert(map, &b.tb, &err) == &a.tb);
	ASSERT(!codemap_invalidate_tb(map, &b.tb));
	xtb_init2(&c, 0x5ffc, 5, 4092, 6, 3);
	c.tb.gen[0] = 0x60;
	c.tb.gen[1] = 7;
	ASSERT(!codemap_invalidate_tb(map, &c.tb));
	ASSERT(codemap_invalidate(map, 6, 0, 0) == &a.tb && !a.tb.dead_next);
	ASSERT(!codemap_hits(map, 5, 0, 4095) && !codemap_hits(map, 6, 0, 4095));
	codemap_free(map);
}

TEST(for_each_page)
{
	struct codemap *map = map_new();
	uint64_t top = (1ULL << 52) - 1;
	struct walk w = { };
	struct xtb a, b, c, d;

	codemap_for_each_page(map, walk_fn, &w);
	ASSERT_EQ(w.n, 0U);
	insert(map, xtb_init(&a, 1, top, 4095, 4095));
	insert(map, xtb_init(&b, 2, 0, 0, 9));
	insert(map, xtb_init(&c, 3, 0, 5, 14));
	insert(map, xtb_init2(&d, 4, 700, 4092, 700, 1));
	ASSERT(codemap_find_alloc(map, 12345));
	codemap_for_each_page(map, walk_fn, &w);
	ASSERT_EQ(w.n, 3U);
	ASSERT(w.page[0] == 0 && w.tbs[0] == 2 && w.bytes[0] == 15);
	ASSERT(w.page[1] == 700 && w.tbs[1] == 2 && w.bytes[1] == 6);
	ASSERT(w.page[2] == top && w.tbs[2] == 1 && w.bytes[2] == 1);
	codemap_invalidate(map, 0, 0, 4095);
	codemap_invalidate(map, 700, 0, 0);
	w.n = 0;
	codemap_for_each_page(map, walk_fn, &w);
	ASSERT(w.n == 1 && w.page[0] == top);
	codemap_free(map);
}

#ifdef CODEMAP_DEBUG
static bool child_aborts(void (*fn)(struct codemap *map))
{
	int status;
	pid_t pid = fork();

	ASSERT_NE(pid, -1);
	if (!pid) {
		ASSERT(freopen("/dev/null", "w", stderr));
		signal(SIGABRT, SIG_DFL);
		fn(map_new());
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void nested(struct codemap *map)
{
	codemap_lock_page(map, 9, CODEMAP_NO_PAGE);
	codemap_lock_page(map, 5, CODEMAP_NO_PAGE);
}

static void twice(struct codemap *map)
{
	codemap_lock_page(map, 9, CODEMAP_NO_PAGE);
	codemap_lock_page(map, 9, CODEMAP_NO_PAGE);
}

static void not_held(struct codemap *map)
{
	codemap_unlock_page(map, 9, CODEMAP_NO_PAGE);
}

static void insert_inside(struct codemap *map)
{
	struct xtb a;
	int err;

	codemap_lock_page(map, 9, CODEMAP_NO_PAGE);
	codemap_insert(map, xtb_init(&a, 1, 9, 0, 0), &err);
}

static void balanced(struct codemap *map)
{
	codemap_lock_page(map, 9, 5);
	codemap_unlock_page(map, 9, 5);
}
#endif

TEST(lock_order_is_checked)
{
#ifdef CODEMAP_DEBUG
	ASSERT(child_aborts(nested));
	ASSERT(child_aborts(twice));
	ASSERT(child_aborts(not_held));
	ASSERT(child_aborts(insert_inside));
	ASSERT(!child_aborts(balanced));
#else
	SKIP("checked only with CODEMAP_DEBUG");
#endif
}
