// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * (pc, flags) -> TB: a table of singly linked buckets that grows.
 *
 * A bucket's low bit is its lock; writers hold it, readers hold nothing. A TB
 * that is taken out keeps its hash_next, so a reader who stands on it comes to
 * the end all the same. Growing holds every bucket of the old table and moves
 * the TBs; a reader who found nothing meanwhile looks again under the lock,
 * since a TB that moves can lead it into another bucket. Old tables are kept for
 * such readers, to the next trim; together they are smaller than the last one.
 */
#include <stdlib.h>

#include "internal.h"

/* Each table is eight times the one before: moving the TBs stays a small part. */
#define FIRST_BITS 13
#define MORE_BITS 3

static uint64_t hash_of(uint64_t pc, uint64_t flags)
{
	uint64_t h = (pc ^ flags * 0xd6e8feb86659fd93ULL) * 0x9e3779b97f4a7c15ULL;

	return (h ^ h >> 32) * 0x9e3779b97f4a7c15ULL;
}

static struct cm_table *new_table(const struct codemap *map, unsigned int bits)
{
	struct cm_table *t;

	t = cm_zalloc(map, sizeof(*t) + (sizeof(t->bucket[0]) << bits));
	if (t)
		t->bits = bits;
	return t;
}

int cm_hash_init(struct codemap *map)
{
	map->table = new_table(map, FIRST_BITS);
	return map->table ? 0 : -1;
}

static void free_tables(struct cm_table *t)
{
	while (t) {
		struct cm_table *older = t->older;

		free(t);
		t = older;
	}
}

void cm_hash_free(struct codemap *map)
{
	free_tables(map->table);
}

void cm_hash_trim(struct codemap *map)
{
	free_tables(map->table->older);
	map->table->older = NULL;
}

/* Wait for the bucket; the caller has told the checker. */
static void bucket_wait(uintptr_t *b)
{
	unsigned int turns = 0;

	/* Pairs with the release in bucket_unlock(). */
	while (__atomic_fetch_or(b, 1, __ATOMIC_ACQUIRE) & 1) {
		while (__atomic_load_n(b, __ATOMIC_RELAXED) & 1)
			cm_relax(&turns);
	}
}

static void bucket_release(uintptr_t *b)
{
	/* Pairs with the acquire in bucket_wait(). */
	__atomic_fetch_and(b, ~(uintptr_t)1, __ATOMIC_RELEASE);
}

/* The bucket of @hash in the table of today, locked. */
static uintptr_t *bucket_lock(struct codemap *map, uint64_t hash)
{
	for (;;) {
		/* Pairs with the release in cm_hash_grow(). */
		struct cm_table *t = __atomic_load_n(&map->table, __ATOMIC_ACQUIRE);
		uint64_t i = hash >> (64 - t->bits);
		uintptr_t *b = &t->bucket[i];

		cm_check_lock(b, CM_BUCKET, i, false);
		bucket_wait(b);
		if (__atomic_load_n(&map->table, __ATOMIC_RELAXED) == t)
			return b;
		cm_check_unlock(b);
		bucket_release(b);
	}
}

static void bucket_unlock(uintptr_t *b)
{
	cm_check_unlock(b);
	bucket_release(b);
}

/* A live TB with this key behind @tb. With or without the bucket's lock. */
static struct codemap_tb *chain_find(struct codemap_tb *tb, uint64_t pc, uint64_t flags)
{
	while (tb) {
		if (tb->pc == pc && tb->flags == flags && !codemap_tb_dead(tb))
			return tb;
		/* Pairs with the releases of cm_hash_add() and cm_hash_grow(). */
		tb = __atomic_load_n(&tb->hash_next, __ATOMIC_ACQUIRE);
	}
	return NULL;
}

struct codemap_tb *codemap_lookup(struct codemap *map, uint64_t pc, uint64_t flags)
{
	uint64_t hash = hash_of(pc, flags);
	/* Pairs with the stores of table_seq in cm_hash_grow(). */
	uint64_t seq = __atomic_load_n(&map->table_seq, __ATOMIC_ACQUIRE);
	struct cm_table *t = __atomic_load_n(&map->table, __ATOMIC_ACQUIRE);
	struct codemap_tb *tb;
	uintptr_t *b;

	b = &t->bucket[hash >> (64 - t->bits)];
	tb = chain_find(cm_tag_tb(__atomic_load_n(b, __ATOMIC_ACQUIRE)), pc, flags);
	if (tb)
		return tb;
	/* Every load above was an acquire: this one comes after them. */
	if (!(seq & 1) && __atomic_load_n(&map->table_seq, __ATOMIC_ACQUIRE) == seq)
		return NULL;
	b = bucket_lock(map, hash);
	tb = chain_find(cm_tag_tb(__atomic_load_n(b, __ATOMIC_RELAXED)), pc, flags);
	bucket_unlock(b);
	return tb;
}

struct codemap_tb *cm_hash_add(struct codemap *map, struct codemap_tb *tb)
{
	uintptr_t *b = bucket_lock(map, hash_of(tb->pc, tb->flags));
	struct codemap_tb *head = cm_tag_tb(__atomic_load_n(b, __ATOMIC_RELAXED));
	struct codemap_tb *found = chain_find(head, tb->pc, tb->flags);

	if (!found) {
		__atomic_store_n(&tb->hash_next, head, __ATOMIC_RELAXED);
		/* Release: the TB is whole for whom finds it. Keeps the lock bit. */
		__atomic_store_n(b, (uintptr_t)tb | 1, __ATOMIC_RELEASE);
		__atomic_fetch_add(&map->tbs, 1, __ATOMIC_RELAXED);
	}
	bucket_unlock(b);
	return found;
}

void cm_hash_del(struct codemap *map, struct codemap_tb *tb)
{
	uintptr_t *b = bucket_lock(map, hash_of(tb->pc, tb->flags));
	struct codemap_tb *prev = NULL;
	struct codemap_tb *it = cm_tag_tb(__atomic_load_n(b, __ATOMIC_RELAXED));

	while (it && it != tb) {
		prev = it;
		it = __atomic_load_n(&it->hash_next, __ATOMIC_RELAXED);
	}
	if (it) {
		struct codemap_tb *next = __atomic_load_n(&it->hash_next, __ATOMIC_RELAXED);

		/* Release: @next was published to us, not by us. */
		if (prev)
			__atomic_store_n(&prev->hash_next, next, __ATOMIC_RELEASE);
		else
			__atomic_store_n(b, (uintptr_t)next | 1, __ATOMIC_RELEASE);
		__atomic_fetch_sub(&map->tbs, 1, __ATOMIC_RELAXED);
	}
	bucket_unlock(b);
}

static void move_all(struct cm_table *from, struct cm_table *to)
{
	for (uint64_t i = 0; i < 1ULL << from->bits; i++) {
		struct codemap_tb *tb = cm_tag_tb(__atomic_load_n(&from->bucket[i],
								  __ATOMIC_RELAXED));

		while (tb) {
			struct codemap_tb *next = __atomic_load_n(&tb->hash_next,
								  __ATOMIC_RELAXED);
			uint64_t h = hash_of(tb->pc, tb->flags);
			uintptr_t *b = &to->bucket[h >> (64 - to->bits)];

			/* Release, after the odd table_seq: pairs with chain_find(). */
			__atomic_store_n(&tb->hash_next, (struct codemap_tb *)*b,
					 __ATOMIC_RELEASE);
			*b = (uintptr_t)tb;
			tb = next;
		}
	}
}

void cm_hash_grow(struct codemap *map)
{
	struct cm_table *old = __atomic_load_n(&map->table, __ATOMIC_ACQUIRE);
	struct cm_table *grown;
	bool mine = false;

	cm_check_none("growing with a lock held");
	if (__atomic_load_n(&map->tbs, __ATOMIC_RELAXED) >> old->bits == 0)
		return;
	/* Not having the memory is no error: the buckets get longer. */
	grown = new_table(map, old->bits + MORE_BITS);
	if (!grown)
		return;
	if (cm_trylock(&map->grow_lock, CM_GROW, 0)) {
		mine = __atomic_load_n(&map->table, __ATOMIC_RELAXED) == old;
		if (mine) {
			uint64_t nr = 1ULL << old->bits;

			/* In ascending order; for the checker they are one lock. */
			cm_check_lock(old->bucket, CM_BUCKET, 0, false);
			for (uint64_t i = 0; i < nr; i++)
				bucket_wait(&old->bucket[i]);
			__atomic_store_n(&map->table_seq, map->table_seq + 1,
					 __ATOMIC_SEQ_CST);
			move_all(old, grown);
			grown->older = old;
			/* Pairs with the acquire of every reader of table. */
			__atomic_store_n(&map->table, grown, __ATOMIC_RELEASE);
			/* Pairs with codemap_lookup(). */
			__atomic_store_n(&map->table_seq, map->table_seq + 1,
					 __ATOMIC_SEQ_CST);
			for (uint64_t i = 0; i < nr; i++)
				bucket_release(&old->bucket[i]);
			cm_check_unlock(old->bucket);
		}
		cm_unlock(&map->grow_lock);
	}
	if (!mine)
		free(grown);
}

void cm_hash_for_each(struct codemap *map,
		      void (*fn)(struct codemap *map, struct codemap_tb *tb))
{
	struct cm_table *t;

again:
	/* Pairs with the release in cm_hash_grow(). */
	t = __atomic_load_n(&map->table, __ATOMIC_ACQUIRE);
	for (uint64_t i = 0; i < 1ULL << t->bits; i++) {
		uintptr_t *b = &t->bucket[i];
		struct codemap_tb *tb;

		cm_check_lock(b, CM_BUCKET, i, false);
		bucket_wait(b);
		if (__atomic_load_n(&map->table, __ATOMIC_RELAXED) != t) {
			bucket_unlock(b);
			goto again;
		}
		tb = cm_tag_tb(__atomic_load_n(b, __ATOMIC_RELAXED));
		for (; tb; tb = __atomic_load_n(&tb->hash_next, __ATOMIC_RELAXED))
			fn(map, tb);
		bucket_unlock(b);
	}
}
