// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * One page: the list of its TBs, and one bit per byte that one of them covers.
 *
 * The page's lock guards both. codemap_hits() reads the coverage without it: a
 * bit is set before its TB can be found and cleared after the last TB that
 * covers the byte is unreachable, and never flickers in between.
 */
#include "internal.h"

void cm_pages_lock(struct codemap_page *p, struct codemap_page *q)
{
	if (!q || p == q) {
		cm_page_lock(p);
	} else if (p->index < q->index) {
		cm_page_lock(p);
		cm_page_lock(q);
	} else {
		cm_page_lock(q);
		cm_page_lock(p);
	}
}

void cm_pages_unlock(struct codemap_page *p, struct codemap_page *q)
{
	cm_page_unlock(p);
	if (q && p != q)
		cm_page_unlock(q);
}

/* The bits of word @w that stand for bytes [first, last], which touch it. */
static uint64_t word_mask(unsigned int w, unsigned int first, unsigned int last)
{
	uint64_t mask = ~0ULL;

	if (first / 64 == w)
		mask &= ~0ULL << first % 64;
	if (last / 64 == w)
		mask &= ~0ULL >> (63 - last % 64);
	return mask;
}

void cm_page_cover(struct codemap_page *p, unsigned int first, unsigned int last)
{
	/*
	 * Sequentially consistent, with the generation that insert reads next:
	 * pairs with codemap_hits() after a trap has raised the generation. One
	 * of the two sees the other.
	 */
	for (unsigned int w = first / 64; w <= last / 64; w++)
		__atomic_fetch_or(&p->cover[w], word_mask(w, first, last), __ATOMIC_SEQ_CST);
}

void cm_page_recover(struct codemap_page *p, unsigned int first, unsigned int last)
{
	for (unsigned int w = first / 64; w <= last / 64; w++) {
		uint64_t word = 0;

		for (uintptr_t t = p->first; t; t = cm_page_next(t)) {
			struct codemap_tb *tb = cm_tag_tb(t);
			unsigned int s = cm_tag_slot(t);

			if (!tb->uncovered && tb->first[s] / 64 <= w && w <= tb->last[s] / 64)
				word |= word_mask(w, tb->first[s], tb->last[s]);
		}
		/* A whole word at once: a byte that stays covered never looks free. */
		__atomic_store_n(&p->cover[w], word, __ATOMIC_RELEASE);
	}
}

uintptr_t cm_page_next(uintptr_t tag)
{
	return (uintptr_t)cm_tag_tb(tag)->page_next[cm_tag_slot(tag)];
}

void cm_page_link(struct codemap_page *p, struct codemap_tb *tb, unsigned int slot)
{
	tb->page_next[slot] = (struct codemap_tb *)p->first;
	tb->page_prev[slot] = 0;
	if (p->first)
		cm_tag_tb(p->first)->page_prev[cm_tag_slot(p->first)] = cm_tag(tb, slot);
	p->first = cm_tag(tb, slot);
	__atomic_store_n(&p->tbs, p->tbs + 1, __ATOMIC_RELAXED);
}

void cm_page_unlink(struct codemap_page *p, struct codemap_tb *tb, unsigned int slot)
{
	uintptr_t next = (uintptr_t)tb->page_next[slot], prev = tb->page_prev[slot];

	if (prev)
		cm_tag_tb(prev)->page_next[cm_tag_slot(prev)] = (struct codemap_tb *)next;
	else
		p->first = next;
	if (next)
		cm_tag_tb(next)->page_prev[cm_tag_slot(next)] = prev;
	__atomic_store_n(&p->tbs, p->tbs - 1, __ATOMIC_RELAXED);
}

bool codemap_hits(struct codemap *map, uint64_t page, unsigned int first,
		  unsigned int last)
{
	struct codemap_page *p = codemap_find(map, page);

	if (!p || first > last || first >= CODEMAP_PAGE_SIZE)
		return false;
	if (last >= CODEMAP_PAGE_SIZE)
		last = CODEMAP_PAGE_SIZE - 1;
	for (unsigned int w = first / 64; w <= last / 64; w++) {
		CM_COUNT_HIT_WORD();
		/* Pairs with cm_page_cover(). */
		if (__atomic_load_n(&p->cover[w], __ATOMIC_SEQ_CST) &
		    word_mask(w, first, last))
			return true;
	}
	return false;
}

uint64_t codemap_covered(struct codemap *map, uint64_t page, unsigned int word)
{
	struct codemap_page *p = codemap_find(map, page);

	if (!p || word >= CODEMAP_PAGE_SIZE / 64)
		return 0;
	/* Pairs with cm_page_cover(). */
	return __atomic_load_n(&p->cover[word], __ATOMIC_SEQ_CST);
}

/*
 * What codemap_lock_page() holds is not the page's own lock but a stripe of a
 * fixed table: it must not need a descriptor, which an upcall could not
 * allocate, and it leaves the page's lock to codemap_invalidate(), whose order
 * over two-page TBs the holder could not keep.
 */
static void stripes(uint64_t page, uint64_t page2, unsigned int *a, unsigned int *b)
{
	unsigned int x = page % CM_STRIPES;
	unsigned int y = page2 == CODEMAP_NO_PAGE ? x : page2 % CM_STRIPES;

	*a = x < y ? x : y;
	*b = x < y ? y : x;
}

void cm_stripes_lock(struct codemap *map, uint64_t page, uint64_t page2)
{
	unsigned int a, b;

	stripes(page, page2, &a, &b);
	cm_lock(&map->stripe[a].lock, CM_PUBLISH, a);
	if (b != a)
		cm_lock(&map->stripe[b].lock, CM_PUBLISH, b);
}

void cm_stripes_unlock(struct codemap *map, uint64_t page, uint64_t page2)
{
	unsigned int a, b;

	stripes(page, page2, &a, &b);
	if (b != a)
		cm_unlock(&map->stripe[b].lock);
	cm_unlock(&map->stripe[a].lock);
}

/* A hold begins or ends. Both sides of it order the caller's stores. */
static void stripes_step(struct codemap *map, uint64_t page, uint64_t page2)
{
	unsigned int a, b;

	stripes(page, page2, &a, &b);
	/* Pairs with the load in codemap_begin(). */
	__atomic_fetch_add(&map->stripe[a].seq, 1, __ATOMIC_SEQ_CST);
	if (b != a)
		__atomic_fetch_add(&map->stripe[b].seq, 1, __ATOMIC_SEQ_CST);
}

void codemap_lock_page(struct codemap *map, uint64_t page, uint64_t page2)
{
	cm_stripes_lock(map, page, page2);
	stripes_step(map, page, page2);
}

void codemap_unlock_page(struct codemap *map, uint64_t page, uint64_t page2)
{
	stripes_step(map, page, page2);
	cm_stripes_unlock(map, page, page2);
}

uint64_t codemap_begin(struct codemap *map, uint64_t page)
{
	struct cm_stripe *st = &map->stripe[page % CM_STRIPES];
	unsigned int turns = 0;
	uint64_t seq;

	/* Pairs with stripes_step(): a hold that has ended is seen whole. */
	while ((seq = __atomic_load_n(&st->seq, __ATOMIC_SEQ_CST)) & 1)
		cm_relax(&turns);
	/* Never 0, which stands for "not asked". */
	return seq + 2;
}
