// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The lock-order checker of debug builds; empty otherwise.
 *
 * Owns the list of locks that the calling thread holds. Needs thread-local
 * storage and stdio, so a debug build is for tests, not for upcalls.
 */
#include "lockcheck.h"

#ifdef CODEMAP_DEBUG
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const rank_name[] = {
	[CM_PUBLISH] = "publish", [CM_PAGE] = "page", [CM_GROW] = "grow",
	[CM_BUCKET] = "bucket", [CM_CACHES] = "caches", [CM_JUMP] = "jump",
};

struct held {
	const void *lock;
	enum cm_rank rank;
	uint64_t order;
};

/*
 * No path holds more than the two stripes, two pages, and three below. Growing
 * the hash takes all buckets, and counts them as one lock.
 */
#define MAX_HELD 16
static __thread struct held held[MAX_HELD];
static __thread unsigned int nr_held;
__thread uint64_t cm_hit_words;

static void die(const char *what, const void *lock, enum cm_rank rank, uint64_t order)
{
	fprintf(stderr, "codemap: %s: lock %p, %s %" PRIu64 "; held:", what, lock,
		rank ? rank_name[rank] : "?", order);
	for (unsigned int i = 0; i < nr_held; i++)
		fprintf(stderr, " %s %" PRIu64, rank_name[held[i].rank], held[i].order);
	fputc('\n', stderr);
	abort();
}

void cm_check_lock(const void *lock, enum cm_rank rank, uint64_t order, bool tried)
{
	for (unsigned int i = 0; i < nr_held; i++) {
		const struct held *h = &held[i];

		if (h->lock == lock)
			die("taken twice", lock, rank, order);
		if (tried)
			continue;
		if (h->rank > rank || (h->rank == rank && h->order >= order))
			die("against the order", lock, rank, order);
	}
	if (nr_held == MAX_HELD)
		die("too many locks", lock, rank, order);
	held[nr_held++] = (struct held){ lock, rank, order };
}

void cm_check_unlock(const void *lock)
{
	for (unsigned int i = nr_held; i-- > 0;) {
		if (held[i].lock != lock)
			continue;
		for (; i + 1 < nr_held; i++)
			held[i] = held[i + 1];
		nr_held--;
		return;
	}
	die("not held", lock, 0, 0);
}

void cm_check_none(const char *what)
{
	if (nr_held)
		die(what, NULL, 0, 0);
}
#endif
