/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The code map's spinlocks, and the checker of their order.
 *
 * A lock here never sleeps in a futex and needs no thread-local storage, since
 * it is taken in an upcall, where %fs still is the guest's: a waiter spins, and
 * then gives its CPU away. With -DCODEMAP_DEBUG every thread keeps the list of
 * the locks it holds; one taken against the order of codemap.h, taken twice, or
 * given back by a thread that does not hold it, is printed and ends the program.
 */
#ifndef CODEMAP_LOCKCHECK_H
#define CODEMAP_LOCKCHECK_H

#ifndef __x86_64__
#include <sched.h>
#endif
#include <stdbool.h>
#include <stdint.h>

/*
 * The order. Of one rank only ascending numbers are allowed: the stripe, the
 * page index, the bucket's index. Zero means that one lock of the rank is all.
 */
enum cm_rank {
	CM_PUBLISH = 1,	/* stripe of codemap_lock_page() and insert */
	CM_PAGE,	/* a page's TB list and coverage, by page index */
	CM_GROW,	/* who grows the hash; only ever tried */
	CM_BUCKET,	/* a hash bucket */
	CM_CACHES,	/* the list of jump caches */
	CM_JUMP,	/* one TB's incoming jumps */
};

#ifdef CODEMAP_DEBUG
/* @order: number within the rank; @tried: the caller would not have waited. */
void cm_check_lock(const void *lock, enum cm_rank rank, uint64_t order, bool tried);
void cm_check_unlock(const void *lock);
/* No lock is held: before memory is allocated. */
void cm_check_none(const char *what);
/* Words of coverage that codemap_hits() has looked at, in this thread. */
extern __thread uint64_t cm_hit_words;
#define CM_COUNT_HIT_WORD() (cm_hit_words++)
#else
static inline void cm_check_lock(const void *lock, enum cm_rank rank,
				 uint64_t order, bool tried)
{
}

static inline void cm_check_unlock(const void *lock)
{
}

static inline void cm_check_none(const char *what)
{
}

#define CM_COUNT_HIT_WORD() ((void)0)
#endif

/* Wait a little; after some turns let another thread have this CPU. */
static inline void cm_relax(unsigned int *turns)
{
	if (++*turns % 64) {
#ifdef __x86_64__
		__builtin_ia32_pause();
#endif
		return;
	}
#ifdef __x86_64__
	/*
	 * Not through libc: a guest's %fs may be loaded, and code that reads
	 * errno or a stack guard would find the guest's bytes.
	 */
	long ret = 24; /* __NR_sched_yield */

	__asm__ volatile("syscall" : "+a"(ret) : : "rcx", "r11", "memory");
#else
	sched_yield();
#endif
}

static inline bool cm_trylock(uint32_t *lock, enum cm_rank rank, uint64_t order)
{
	/* Pairs with the release in cm_unlock(). */
	if (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
		return false;
	cm_check_lock(lock, rank, order, true);
	return true;
}

static inline void cm_lock(uint32_t *lock, enum cm_rank rank, uint64_t order)
{
	unsigned int turns = 0;

	/* Before the wait: what would deadlock shall be reported, not hang. */
	cm_check_lock(lock, rank, order, false);
	/* Pairs with the release in cm_unlock(). */
	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE)) {
		while (__atomic_load_n(lock, __ATOMIC_RELAXED))
			cm_relax(&turns);
	}
}

static inline void cm_unlock(uint32_t *lock)
{
	cm_check_unlock(lock);
	/* Pairs with the acquire in cm_lock() and cm_trylock(). */
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

#endif /* CODEMAP_LOCKCHECK_H */
