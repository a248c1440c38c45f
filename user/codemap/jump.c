// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Chained jumps: TB -> TB, known from both ends.
 *
 * The lock is the destination's: it guards the list jump_in with the next of
 * every jump on it, and the code of those jumps. A jump's dest is the other end: it
 * is changed under the destination's lock, too, but for its low bit, which closes
 * the jump for good and is set without a lock when the source dies. Two
 * jump locks are never held, so a TB that jumps to itself, or two that jump to
 * each other, need no order.
 */
#include "internal.h"

#define CLOSED ((uintptr_t)1)

static void jump_lock(struct codemap_tb *tb)
{
	cm_lock(&tb->jump_lock, CM_JUMP, 0);
}

static void jump_unlock(struct codemap_tb *tb)
{
	cm_unlock(&tb->jump_lock);
}

static void set_jump(struct codemap *map, struct codemap_tb *tb, unsigned int slot,
		     struct codemap_tb *dest)
{
	if (map->ops.set_jump)
		map->ops.set_jump(tb, slot, dest);
}

bool cm_jump_kill(struct codemap_tb *tb)
{
	bool killed = false;

	jump_lock(tb);
	if (!codemap_tb_dead(tb)) {
		/*
		 * Sequentially consistent, with the jump caches that are purged
		 * next: pairs with codemap_jc_insert().
		 */
		__atomic_store_n(&tb->state, 1, __ATOMIC_SEQ_CST);
		killed = true;
	}
	jump_unlock(tb);
	return killed;
}

bool codemap_chain(struct codemap *map, struct codemap_tb *tb, int slot,
		   struct codemap_tb *dest)
{
	uintptr_t none = 0;
	bool chained = false;

	jump_lock(dest);
	if (!codemap_tb_dead(dest) &&
	    __atomic_compare_exchange_n(&tb->jump[slot].dest, &none, (uintptr_t)dest,
					false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		tb->jump[slot].next = dest->jump_in;
		dest->jump_in = cm_tag(tb, slot);
		set_jump(map, tb, slot, dest);
		chained = true;
	}
	jump_unlock(dest);
	return chained;
}

/* Under @dest's lock: the slot is on its list; take it off. */
static void list_del(struct codemap_tb *dest, uintptr_t tag)
{
	uintptr_t *at = &dest->jump_in;

	while (*at != tag)
		at = &cm_tag_tb(*at)->jump[cm_tag_slot(*at)].next;
	*at = cm_tag_tb(tag)->jump[cm_tag_slot(tag)].next;
}

/* The jump out of @slot goes to the exit stub again. @close: for ever. */
static void cut_out(struct codemap *map, struct codemap_tb *tb, unsigned int slot,
		    bool close)
{
	uintptr_t old = __atomic_fetch_or(&tb->jump[slot].dest, close ? CLOSED : 0,
					  __ATOMIC_ACQ_REL);
	struct codemap_tb *dest = cm_tag_tb(old);

	if (!dest)
		return;
	jump_lock(dest);
	/*
	 * Did @dest cut it, while we waited? Then it is on no list, or (not
	 * closed) on that of another chain since.
	 */
	if (cm_tag_tb(__atomic_load_n(&tb->jump[slot].dest, __ATOMIC_RELAXED)) == dest) {
		list_del(dest, cm_tag(tb, slot));
		/*
		 * Also of a dead TB: a thread may still be in it, and nobody
		 * would cut this jump when @dest dies.
		 */
		set_jump(map, tb, slot, NULL);
		__atomic_fetch_and(&tb->jump[slot].dest, CLOSED, __ATOMIC_ACQ_REL);
	}
	jump_unlock(dest);
}

static void cut_in(struct codemap *map, struct codemap_tb *dest)
{
	jump_lock(dest);
	while (dest->jump_in) {
		struct codemap_tb *tb = cm_tag_tb(dest->jump_in);
		unsigned int slot = cm_tag_slot(dest->jump_in);

		dest->jump_in = tb->jump[slot].next;
		set_jump(map, tb, slot, NULL);
		/* Last: the slot is free for another chain from here on. */
		__atomic_fetch_and(&tb->jump[slot].dest, CLOSED, __ATOMIC_ACQ_REL);
	}
	jump_unlock(dest);
}

void cm_jump_cut(struct codemap *map, struct codemap_tb *tb)
{
	for (unsigned int s = 0; s < tb->jumps; s++)
		cut_out(map, tb, s, true);
	cut_in(map, tb);
}

void codemap_unchain(struct codemap *map, struct codemap_tb *tb)
{
	for (unsigned int s = 0; s < tb->jumps; s++)
		cut_out(map, tb, s, false);
	cut_in(map, tb);
}

void codemap_unchain_all(struct codemap *map)
{
	cm_hash_for_each(map, codemap_unchain);
}
