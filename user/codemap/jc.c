// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Jump caches: per thread, pc -> host code, read by assembly.
 *
 * caches_lock guards the list of caches. An entry is written by its owner, and
 * emptied (pc only) by any thread that drops a TB. The memory is mapped and not
 * touched: a thread that jumps little has few pages of it.
 */
#include <errno.h>
#include <sys/mman.h>

#include "internal.h"

static size_t jc_bytes(const struct codemap_jc *jc)
{
	return (jc->mask + 1) * sizeof(*jc->e);
}

static void jc_clear(struct codemap_jc *jc, uint64_t pc, int order)
{
	uint64_t i = pc & jc->mask;

	__atomic_store_n(&jc->e[i].pc, codemap_jc_empty(i), order);
}

int codemap_jc_attach(struct codemap *map, struct codemap_jc *jc, unsigned int bits)
{
	void *e;

	if (bits > 24)
		return -EINVAL;
	cm_check_none("jc_attach with a lock held");
	jc->mask = (1ULL << bits) - 1;
	e = mmap(NULL, jc_bytes(jc), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (e == MAP_FAILED)
		return -ENOMEM;
	jc->e = e;
	jc->e[0].pc = codemap_jc_empty(0);
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
	munmap(jc->e, jc_bytes(jc));
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
	jc_clear(jc, tb->pc, __ATOMIC_RELAXED);
	__atomic_store_n(&e->entry, tb->entry, __ATOMIC_RELEASE);
	/*
	 * Sequentially consistent with the load below; pairs with
	 * cm_jump_kill() and cm_jc_purge(), which mark the TB and then look
	 * here: one of the two sees the other.
	 */
	__atomic_store_n(&e->pc, tb->pc, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&tb->state, __ATOMIC_SEQ_CST))
		jc_clear(jc, tb->pc, __ATOMIC_RELAXED);
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
			jc_clear(jc, tb->pc, __ATOMIC_RELEASE);
	}
	cm_unlock(&map->caches_lock);
}
