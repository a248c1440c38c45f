// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The map itself, and publishing a TB in it.
 *
 * Insertion holds the stripes of the TB's pages (nobody who holds
 * codemap_lock_page() sees it come) and the pages' locks from the coverage to
 * the hash, so that an invalidation finds the TB everywhere or nowhere.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct codemap *codemap_new(const struct codemap_ops *ops, void *arg,
			    unsigned int page_bits)
{
	struct codemap *map;

	if (!page_bits || page_bits > CM_LEVEL_BITS * CM_MAX_LEVELS)
		return NULL;
	map = calloc(1, sizeof(*map));
	if (!map)
		return NULL;
	if (ops)
		map->ops = *ops;
	map->arg = arg;
	map->page_bits = page_bits;
	if (cm_index_init(map) || cm_hash_init(map)) {
		codemap_free(map);
		return NULL;
	}
	return map;
}

void codemap_free(struct codemap *map)
{
	if (!map)
		return;
	cm_index_free(map);
	cm_hash_free(map);
	free(map);
}

size_t codemap_bytes(const struct codemap *map)
{
	return __atomic_load_n(&map->bytes, __ATOMIC_RELAXED);
}

void codemap_trim(struct codemap *map)
{
	cm_check_none("trim with a lock held");
	cm_index_trim(map);
	cm_hash_trim(map);
}

static bool valid(const struct codemap *map, const struct codemap_tb *tb)
{
	if (tb->jumps > CODEMAP_MAX_JUMPS)
		return false;
	for (unsigned int s = 0; s < 2; s++) {
		if (s && tb->page[1] == CODEMAP_NO_PAGE)
			return true;
		if (tb->page[s] >> map->page_bits || tb->first[s] > tb->last[s] ||
		    tb->last[s] >= CODEMAP_PAGE_SIZE)
			return false;
	}
	return true;
}

/* Was no byte of the page written since the TB's bytes were read? */
static bool page_fresh(struct codemap *map, const struct codemap_tb *tb, unsigned int s)
{
	/* The stripe's lock is held: nobody is about to write. */
	if (tb->seq[s] && codemap_begin(map, tb->page[s]) != tb->seq[s])
		return false;
	return !map->ops.page_gen ||
	       map->ops.page_gen(map->arg, tb->page[s]) == tb->gen[s];
}

struct codemap_tb *codemap_insert(struct codemap *map, struct codemap_tb *tb,
				  int *err)
{
	struct codemap_page *p[2] = { NULL, NULL };
	struct codemap_tb *found = NULL;
	unsigned int slots = tb->page[1] == CODEMAP_NO_PAGE ? 1 : 2;
	uint64_t seq[2] = { tb->seq[0], tb->seq[1] };
	uint32_t gen[2] = { tb->gen[0], tb->gen[1] };
	bool fresh = true;

	*err = 0;
	if (!valid(map, tb)) {
		*err = -EINVAL;
		return NULL;
	}
	for (unsigned int s = 0; s < slots; s++) {
		p[s] = codemap_find_alloc(map, tb->page[s]);
		if (!p[s]) {
			*err = -ENOMEM;
			return NULL;
		}
	}

	cm_stripes_lock(map, tb->page[0], tb->page[1]);
	cm_pages_lock(p[0], p[1]);
	/*
	 * Coverage first, then the generations: a writer that raises one after
	 * we compared it finds the coverage (cm_page_cover()).
	 */
	for (unsigned int s = 0; s < slots && !tb->uncovered; s++)
		cm_page_cover(p[s], tb->first[s], tb->last[s]);
	for (unsigned int s = 0; s < slots; s++)
		fresh = fresh && page_fresh(map, tb, s);
	if (fresh) {
		for (unsigned int s = 0; s < slots; s++)
			cm_page_link(p[s], tb, s);
		tb->linked = 1;
		found = cm_hash_add(map, tb);
	}
	if (found) {
		tb->linked = 0;
		for (unsigned int s = 0; s < slots; s++)
			cm_page_unlink(p[s], tb, s);
		/* What the links have been written over: the TB is the caller's again. */
		memcpy(tb->seq, seq, sizeof(seq));
		memcpy(tb->gen, gen, sizeof(gen));
	}
	if (!fresh || found)
		for (unsigned int s = 0; s < slots && !tb->uncovered; s++)
			cm_page_recover(p[s], tb->first[s], tb->last[s]);
	cm_pages_unlock(p[0], p[1]);
	cm_stripes_unlock(map, tb->page[0], tb->page[1]);

	if (!fresh) {
		*err = -ESTALE;
		return NULL;
	}
	if (found)
		return found;
	cm_hash_grow(map);
	return tb;
}
