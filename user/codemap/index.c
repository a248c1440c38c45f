// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Page index -> page descriptor: a tree of tables of 512 pointers, as many
 * levels as page_bits needs.
 *
 * Nothing guards it: a slot goes from NULL to its final value by one
 * compare-and-exchange and never changes again, so readers take no lock, and
 * two writers of one slot agree on the first one's. Tables and descriptors live
 * until codemap_trim() or codemap_free(): then nobody reads them.
 */
#include <stdlib.h>

#include "internal.h"

#define SLOTS (1U << CM_LEVEL_BITS)

int cm_index_init(struct codemap *map)
{
	map->levels = (map->page_bits + CM_LEVEL_BITS - 1) / CM_LEVEL_BITS;
	map->root = cm_zalloc(map, SLOTS * sizeof(void *));
	return map->root ? 0 : -1;
}

static void free_table(void **table, unsigned int level)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (!table[i])
			continue;
		if (level)
			free_table(table[i], level - 1);
		else
			free(table[i]);
	}
	free(table);
}

void cm_index_free(struct codemap *map)
{
	if (map->root)
		free_table(map->root, map->levels - 1);
}

void cm_index_trim(struct codemap *map)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (!map->root[i])
			continue;
		if (map->levels > 1)
			free_table(map->root[i], map->levels - 2);
		else
			free(map->root[i]);
		map->root[i] = NULL;
	}
	map->bytes = 0;
}

static void **slot_of(void **table, uint64_t page, unsigned int level)
{
	return &table[page >> (level * CM_LEVEL_BITS) & (SLOTS - 1)];
}

struct codemap_page *codemap_find(struct codemap *map, uint64_t page)
{
	void **table = map->root;

	if (page >> map->page_bits)
		return NULL;
	for (unsigned int level = map->levels; level-- > 0;) {
		/* Pairs with the release in fill(). */
		table = __atomic_load_n(slot_of(table, page, level), __ATOMIC_ACQUIRE);
		if (!table)
			return NULL;
	}
	return (struct codemap_page *)table;
}

/* The slot's value, @made if it had none; what is not used is freed. */
static void *fill(struct codemap *map, void **slot, void *made, size_t bytes)
{
	void *old = NULL;

	/* Release: the new table is seen zeroed. Pairs with the acquires. */
	if (__atomic_compare_exchange_n(slot, &old, made, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE)) {
		__atomic_fetch_add(&map->bytes, bytes, __ATOMIC_RELAXED);
		return made;
	}
	free(made);
	return old;
}

struct codemap_page *codemap_find_alloc(struct codemap *map, uint64_t page)
{
	void **table = map->root;

	cm_check_none("find_alloc with a lock held");
	if (page >> map->page_bits)
		return NULL;
	for (unsigned int level = map->levels; level-- > 0;) {
		size_t bytes = level ? SLOTS * sizeof(void *) : sizeof(struct codemap_page);
		void **slot = slot_of(table, page, level);

		/* Pairs with the release in fill(). */
		table = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
		if (table)
			continue;
		table = cm_zalloc(map, bytes);
		if (!table)
			return NULL;
		if (!level)
			((struct codemap_page *)table)->index = page;
		table = fill(map, slot, table, bytes);
	}
	return (struct codemap_page *)table;
}

static void walk(void **table, unsigned int level, codemap_page_fn fn, void *arg)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		/* Pairs with the release in fill(). */
		void *below = __atomic_load_n(&table[i], __ATOMIC_ACQUIRE);
		struct codemap_page *p = below;
		unsigned int bytes = 0;
		unsigned int tbs;

		if (!below)
			continue;
		if (level) {
			walk(below, level - 1, fn, arg);
			continue;
		}
		tbs = __atomic_load_n(&p->tbs, __ATOMIC_RELAXED);
		if (!tbs)
			continue;
		for (unsigned int w = 0; w < CM_WORDS; w++) {
			uint64_t word = __atomic_load_n(&p->cover[w], __ATOMIC_RELAXED);

			bytes += __builtin_popcountll(word);
		}
		fn(p->index, tbs, bytes, arg);
	}
}

void codemap_for_each_page(struct codemap *map, codemap_page_fn fn, void *arg)
{
	walk(map->root, map->levels - 1, fn, arg);
}
