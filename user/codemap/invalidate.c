// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Dropping TBs: from the hash, the pages, the jump caches, the chained jumps.
 *
 * A TB is dropped from first to last under the locks of all its pages. So who
 * holds a page's lock and does not find a TB on its list knows that it is
 * unreachable already, whoever dropped it: codemap_invalidate() may return then.
 * Nothing here allocates.
 */
#include "internal.h"

/* Under the locks of both pages. False: somebody was faster. */
static bool drop(struct codemap *map, struct codemap_tb *tb, struct codemap_page *p0,
		 struct codemap_page *p1)
{
	if (!tb->linked || !cm_jump_kill(tb))
		return false;
	cm_hash_del(map, tb);
	cm_page_unlink(p0, tb, 0);
	if (p1)
		cm_page_unlink(p1, tb, 1);
	tb->linked = 0;
	cm_jc_purge(map, tb);
	cm_jump_cut(map, tb);
	return true;
}

static struct codemap_page *second_page(struct codemap *map, const struct codemap_tb *tb)
{
	return tb->page[1] == CODEMAP_NO_PAGE ? NULL : codemap_find(map, tb->page[1]);
}

/* Under @p's lock: the next of its TBs that covers a byte of [first, last]. */
static struct codemap_tb *next_hit(const struct codemap_page *p, unsigned int first,
				   unsigned int last)
{
	for (uintptr_t t = p->first; t; t = cm_page_next(t)) {
		struct codemap_tb *tb = cm_tag_tb(t);
		unsigned int s = cm_tag_slot(t);

		if (tb->first[s] <= last && tb->last[s] >= first)
			return tb;
	}
	return NULL;
}

/* The bytes of a page whose coverage must be made anew. */
struct stale {
	unsigned int first;
	unsigned int last;
};

static void stale_add(struct stale *st, const struct codemap_tb *tb, uint64_t page)
{
	for (unsigned int s = 0; s < 2; s++) {
		if (tb->page[s] != page || tb->uncovered)
			continue;
		if (tb->first[s] < st->first)
			st->first = tb->first[s];
		if (tb->last[s] > st->last)
			st->last = tb->last[s];
	}
}

static void stale_flush(struct codemap_page *p, struct stale *st)
{
	if (st->first <= st->last)
		cm_page_recover(p, st->first, st->last);
	*st = (struct stale){ CODEMAP_PAGE_SIZE, 0 };
}

/*
 * Under @p's lock, which is given up and taken again if @other comes first in
 * the order and is not free: lock @other as well.
 */
static void lock_other(struct codemap_page *p, struct codemap_page *other,
		       struct stale *st)
{
	if (other->index > p->index) {
		cm_page_lock(other);
	} else if (!cm_page_trylock(other)) {
		stale_flush(p, st);
		cm_page_unlock(p);
		cm_page_lock(other);
		cm_page_lock(p);
	}
}

struct codemap_tb *codemap_invalidate(struct codemap *map, uint64_t page,
				      unsigned int first, unsigned int last)
{
	struct codemap_page *p = codemap_find(map, page);
	struct stale st = { CODEMAP_PAGE_SIZE, 0 };
	struct codemap_tb *dead = NULL;
	struct codemap_tb *tb;

	if (!p || first > last)
		return NULL;
	cm_page_lock(p);
	while ((tb = next_hit(p, first, last))) {
		struct codemap_page *p0 = codemap_find(map, tb->page[0]);
		struct codemap_page *p1 = second_page(map, tb);
		struct codemap_page *other = p0 == p ? p1 : p0;

		if (other == p)
			other = NULL;
		if (other)
			lock_other(p, other, &st);
		/* It may have died in lock_other(): then it is off the list. */
		if (drop(map, tb, p0, p1)) {
			stale_add(&st, tb, page);
			if (other) {
				struct stale st_other = { CODEMAP_PAGE_SIZE, 0 };

				stale_add(&st_other, tb, other->index);
				stale_flush(other, &st_other);
			}
			tb->dead_next = dead;
			dead = tb;
		}
		if (other)
			cm_page_unlock(other);
	}
	stale_flush(p, &st);
	cm_page_unlock(p);
	return dead;
}

bool codemap_invalidate_tb(struct codemap *map, struct codemap_tb *tb)
{
	struct codemap_page *p[2];
	bool dropped;

	p[0] = codemap_find(map, tb->page[0]);
	p[1] = second_page(map, tb);
	/* Without descriptors it was never inserted. */
	if (!p[0] || (tb->page[1] != CODEMAP_NO_PAGE && !p[1]))
		return false;
	cm_pages_lock(p[0], p[1]);
	dropped = drop(map, tb, p[0], p[1]);
	if (dropped && !tb->uncovered) {
		cm_page_recover(p[0], tb->first[0], tb->last[0]);
		if (p[1])
			cm_page_recover(p[1], tb->first[1], tb->last[1]);
	}
	cm_pages_unlock(p[0], p[1]);
	return dropped;
}
