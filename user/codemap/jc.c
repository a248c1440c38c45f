// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Jump caches: per thread, pc -> host code, read by assembly.
 *
 * caches_lock guards the list of caches. An entry is written by its owner, and
 * emptied (pc only) by any thread that drops a TB.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

int codemap_jc_attach(struct codemap *map, struct codemap_jc *jc, unsigned int bits)
{
	if (bits > 24)
		return -EINVAL;
	cm_check_none("jc_attach with a lock held");
	jc->mask = (1ULL << bits) - 1;
	jc->e = malloc(sizeof(*jc->e) << bits);
	if (!jc->e)
		return -ENOMEM;
	for (uint64_t i = 0; i <= jc->mask; i++)
		jc->e[i] = (struct codemap_jc_entry){ CODEMAP_JC_EMPTY, NULL };
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
	free(jc->e);
	jc->e = NULL;
}

void cm_jc_free(struct codemap *map)
{
	while (map->caches)
		codemap_jc_detach(map, map->caches);
}

void codemap_jc_insert(struct codemap_jc *jc, const struct codemap_tb *tb)
{
	struct codemap_jc_entry *e = &jc->e[tb->pc & jc->mask];

	/* A signal of the owner may look between any two of these. */
	__atomic_store_n(&e->pc, CODEMAP_JC_EMPTY, __ATOMIC_RELAXED);
	__atomic_store_n(&e->entry, tb->entry, __ATOMIC_RELEASE);
	/*
	 * Sequentially consistent with the load below; pairs with
	 * cm_jump_kill() and cm_jc_purge(), which mark the TB and then look
	 * here: one of the two sees the other.
	 */
	__atomic_store_n(&e->pc, tb->pc, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&tb->state, __ATOMIC_SEQ_CST))
		__atomic_store_n(&e->pc, CODEMAP_JC_EMPTY, __ATOMIC_RELAXED);
}

void cm_jc_purge(struct codemap *map, const struct codemap_tb *tb)
{
	cm_lock(&map->caches_lock, CM_CACHES, 0);
	for (struct codemap_jc *jc = map->caches; jc; jc = jc->next) {
		struct codemap_jc_entry *e = &jc->e[tb->pc & jc->mask];

		/*
		 * The owner may put another TB there at this moment, and loses
		 * it: that costs it a lookup.
		 */
		if (__atomic_load_n(&e->pc, __ATOMIC_SEQ_CST) == tb->pc)
			__atomic_store_n(&e->pc, CODEMAP_JC_EMPTY, __ATOMIC_RELEASE);
	}
	cm_unlock(&map->caches_lock);
}
