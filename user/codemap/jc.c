// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Jump caches: per thread, pc -> host code, jumped through by assembly.
 *
 * caches_lock guards the list of caches. An entry is written by its owner, and
 * emptied by any thread that drops a TB. The memory is the owner's.
 */
#include <errno.h>

#include "internal.h"

static void **slot(const struct codemap_jc *jc, uint64_t pc)
{
	return &jc->e[pc & jc->mask];
}

int codemap_jc_attach(struct codemap *map, struct codemap_jc *jc, void **e,
		      unsigned int bits, void *miss)
{
	if (bits > 24)
		return -EINVAL;
	cm_check_none("jc_attach with a lock held");
	jc->mask = (1ULL << bits) - 1;
	jc->miss = miss;
	jc->e = e;
	cm_lock(&map->caches_lock, CM_CACHES, 0);
	jc->next = map->caches;
	map->caches = jc;
	cm_unlock(&map->caches_lock);
	return 0;
}

void codemap_jc_detach(struct codemap *map, struct codemap_jc *jc)
{
	struct codemap_jc **at;

	cm_lock(&map->caches_lock, CM_CACHES, 0);
	for (at = &map->caches; *at && *at != jc; at = &(*at)->next)
		;
	if (*at)
		*at = jc->next;
	cm_unlock(&map->caches_lock);
	jc->e = NULL;
}

void codemap_jc_widen(struct codemap *map, unsigned int bits)
{
	cm_lock(&map->caches_lock, CM_CACHES, 0);
	for (struct codemap_jc *jc = map->caches; jc; jc = jc->next)
		jc->mask = (1ULL << bits) - 1;
	cm_unlock(&map->caches_lock);
}

void codemap_jc_insert(struct codemap_jc *jc, const struct codemap_tb *tb)
{
	void *entry = __atomic_load_n(&tb->jc_entry, __ATOMIC_ACQUIRE);

	if (!entry)
		return;
	/*
	 * Sequentially consistent with the load below; pairs with
	 * cm_jump_kill() and cm_jc_purge(), which mark the TB and then look
	 * here: one of the two sees the other.
	 */
	__atomic_store_n(slot(jc, tb->pc), entry, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&tb->state, __ATOMIC_SEQ_CST))
		__atomic_store_n(slot(jc, tb->pc), jc->miss, __ATOMIC_RELAXED);
}

void cm_jc_purge(struct codemap *map, const struct codemap_tb *tb)
{
	/* Set before it went into any cache: pairs with codemap_jc_insert(). */
	void *entry = __atomic_load_n(&tb->jc_entry, __ATOMIC_SEQ_CST);

	if (!entry)
		return;
	cm_lock(&map->caches_lock, CM_CACHES, 0);
	for (struct codemap_jc *jc = map->caches; jc; jc = jc->next) {
		/*
		 * The owner may put another TB there at this moment, and loses
		 * it: that costs it a lookup.
		 */
		if (__atomic_load_n(slot(jc, tb->pc), __ATOMIC_SEQ_CST) == entry)
			__atomic_store_n(slot(jc, tb->pc), jc->miss, __ATOMIC_RELEASE);
	}
	cm_unlock(&map->caches_lock);
}
