/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the code map's files share.
 *
 * index.c	page index -> page descriptor
 * page.c	one page's TB list and byte coverage
 * hash.c	(pc, flags) -> TB
 * jump.c	chained jumps in both directions
 * jc.c		jump caches
 * insert.c	publishing a TB
 * invalidate.c	dropping TBs
 *
 * Everything but insertion, growing and attaching may run in an upcall: general
 * registers only, no libc, no allocation, no thread-local storage.
 */
#ifndef CODEMAP_INTERNAL_H
#define CODEMAP_INTERNAL_H

#include <stdlib.h>

#include <codewp/codemap.h>
#include "lockcheck.h"

#define CM_LEVEL_BITS	9
#define CM_MAX_LEVELS	6
#define CM_STRIPES	1024U
#define CM_WORDS	(CODEMAP_PAGE_SIZE / 64)

/**
 * struct codemap_page - the TBs of one page
 * @lock: guards everything below
 * @tbs: entries of the list; a TB that has the page twice counts twice
 * @index: page index, constant
 * @first: list of TBs through page_next[] and page_prev[], low bit: slot
 * @cover: one bit per byte that some TB covers; written under @lock, read
 *         without
 */
struct codemap_page {
	uint32_t lock;
	uint32_t tbs;
	uint64_t index;
	uintptr_t first;
	uint64_t cover[CM_WORDS];
};

/* A bucket is the address of its first TB; its low bit is its lock. */
struct cm_table {
	struct cm_table *older;	/* readers may be in it: kept to the end */
	unsigned int bits;
	uintptr_t bucket[];
};

/* @seq is odd while codemap_lock_page() holds @lock; insert leaves it alone. */
struct cm_stripe {
	uint32_t lock;
	uint64_t seq;
};

struct codemap {
	struct codemap_ops ops;
	void *arg;

	unsigned int page_bits;
	unsigned int levels;
	void **root;
	size_t bytes;			/* of the index */

	struct cm_table *table;
	uint64_t tbs;			/* in the hash */
	uint64_t table_seq;		/* odd while TBs move to a larger table */
	uint32_t grow_lock;

	uint32_t caches_lock;
	struct codemap_jc *caches;

	struct cm_stripe stripe[CM_STRIPES];
};

static inline void *cm_zalloc(const struct codemap *map, size_t bytes)
{
	return map->ops.zalloc ? map->ops.zalloc(bytes) : calloc(1, bytes);
}

/* A TB and one of its pages or jumps in a word; a TB's address is a multiple of 8. */
static inline uintptr_t cm_tag(const struct codemap_tb *tb, unsigned int slot)
{
	return (uintptr_t)tb | slot;
}

static inline struct codemap_tb *cm_tag_tb(uintptr_t tag)
{
	return (struct codemap_tb *)(tag & ~(uintptr_t)(CODEMAP_MAX_JUMPS - 1));
}

static inline unsigned int cm_tag_slot(uintptr_t tag)
{
	return tag & (CODEMAP_MAX_JUMPS - 1);
}

/* index.c */
int cm_index_init(struct codemap *map);
void cm_index_free(struct codemap *map);
void cm_index_trim(struct codemap *map);	/* but for the root */

/* page.c: all under the page's lock unless said otherwise */
static inline void cm_page_lock(struct codemap_page *p)
{
	cm_lock(&p->lock, CM_PAGE, p->index);
}

static inline bool cm_page_trylock(struct codemap_page *p)
{
	return cm_trylock(&p->lock, CM_PAGE, p->index);
}

static inline void cm_page_unlock(struct codemap_page *p)
{
	cm_unlock(&p->lock);
}

/* Both pages of a TB in the right order; @q may be NULL or @p. */
void cm_pages_lock(struct codemap_page *p, struct codemap_page *q);
void cm_pages_unlock(struct codemap_page *p, struct codemap_page *q);
/* Exclude who publishes and who writes: the lock of codemap_lock_page(). */
void cm_stripes_lock(struct codemap *map, uint64_t page, uint64_t page2);
void cm_stripes_unlock(struct codemap *map, uint64_t page, uint64_t page2);
void cm_page_cover(struct codemap_page *p, unsigned int first, unsigned int last);
/* Make the coverage of bytes [first, last] what the list says. */
void cm_page_recover(struct codemap_page *p, unsigned int first, unsigned int last);
void cm_page_link(struct codemap_page *p, struct codemap_tb *tb, unsigned int slot);
/* The TB's entry, which is on the list, is not any more. */
void cm_page_unlink(struct codemap_page *p, struct codemap_tb *tb, unsigned int slot);
uintptr_t cm_page_next(uintptr_t tag);

/* hash.c */
int cm_hash_init(struct codemap *map);
void cm_hash_free(struct codemap *map);
void cm_hash_trim(struct codemap *map);		/* the tables before the last */
/* Puts @tb in, or returns the live TB that has its key. */
struct codemap_tb *cm_hash_add(struct codemap *map, struct codemap_tb *tb);
void cm_hash_del(struct codemap *map, struct codemap_tb *tb);
/* Holding nothing: make the table larger if it is time. */
void cm_hash_grow(struct codemap *map);
/* @fn for every TB, under its bucket's lock; may see one twice. */
void cm_hash_for_each(struct codemap *map,
		      void (*fn)(struct codemap *map, struct codemap_tb *tb));

/* jump.c */
/* Marks it dead: no jump can be chained to it or from it again. */
bool cm_jump_kill(struct codemap_tb *tb);
/* A TB that is dead: cut every jump out of it and into it. */
void cm_jump_cut(struct codemap *map, struct codemap_tb *tb);

/* jc.c */
void cm_jc_purge(struct codemap *map, const struct codemap_tb *tb);

#endif /* CODEMAP_INTERNAL_H */
