/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the two halves of libcodewp-watch share: the watches with their copies
 * (watch.c) and the stores of registered threads (replay.c).
 *
 * Locking: one lock for all, watch_lock(). It is recursive, so that a callback can
 * end its own watch, and a thread holds it from the decoding of a store until the
 * store has been told. Whoever takes it has asynchronous signals blocked: a handler
 * that stores to a watched page must not find its own thread holding it.
 */
#ifndef WATCH_H
#define WATCH_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#include <codewp-watch.h>
#pragma GCC visibility pop

#include "insn.h"

#define PAGE_SHIFT	12
#define PAGE_MASK	(CODEWP_PAGE_SIZE - 1)

struct codewp_watch {
	struct codewp_watch *next;	/* of the view */
	struct watched *of;
	uint64_t voff, len;
	codewp_watch_fn fn;
	void *arg;
	bool changes;
	bool own_signals;
	bool dead;			/* ended in its callback: freed at the last unlock */
	uint8_t *copy;			/* the bytes as last told */
	uint8_t *now;
};

struct wpage {
	uint32_t watches;		/* that cover it */
	bool theirs;			/* armed by somebody else before us */
	bool open;			/* to be armed at the next sweep */
};

/* A view with watches. */
struct watched {
	struct watched *next;
	struct codewp_view *view;	/* NULL: all watches are dead */
	const uint32_t *states;
	uint8_t *alias;
	unsigned int mode;		/* of codewp_arm() */
	struct codewp_watch *list;
	unsigned int live;		/* of them */
	struct wpage *page;		/* grown to the last watched one */
	uint64_t pages;
	bool any_open;
};

/* One write, as it is told. Ranges are bytes of the view. */
struct write {
	const struct insn_range *range;
	unsigned int nr;
	uint64_t addr, ip;
	uint32_t tid, flags;
};

/* ---- watch.c ------------------------------------------------------------- */

/* All but the four that replay.c needs, and two that libc keeps for itself. */
#define SIGBIT(s)	(1ULL << ((s) - 1))
#define SIGS_SYNC	(SIGBIT(SIGSEGV) | SIGBIT(SIGBUS) | SIGBIT(SIGFPE) | SIGBIT(SIGTRAP))
#define SIGS_ASYNC	(~(SIGS_SYNC | SIGBIT(SIGKILL) | SIGBIT(SIGSTOP) | \
			   SIGBIT(32) | SIGBIT(33)))

/* The kernel's 64 bits, not libc's idea of them. */
void sigs_set(uint64_t mask, uint64_t *old);

void watch_lock(void);
/* The last one closes the pages that were opened meanwhile, unless told not to. */
void watch_unlock(bool sweep);
bool watch_locked_by_me(void);

/* All below: lock held. */
struct watched *watched_find(const struct codewp_view *view);
struct wpage *watched_page(struct watched *w, uint64_t page);	/* NULL: not watched */

/* Before a store to [start, end): what has changed unseen is told first. */
void watched_settle(struct watched *w, uint64_t start, uint64_t end);
bool watched_settled(struct watched *w, uint64_t start, uint64_t end);
/* After a store: tell the watches that overlap. */
void watched_tell(struct watched *w, const struct write *wr);
/* Compare [start, end) and tell what differs. Returns hits. */
int watched_compare(struct watched *w, uint64_t start, uint64_t end, const struct write *wr);

/* Open a page for a moment; armed again, and compared, by watched_sweep(). */
void watched_open(struct watched *w, uint64_t page);
void watched_sweep(const struct write *wr);
/* If somebody else's write has opened it: the same. */
void watched_reopened(struct watched *w, uint64_t page);

/* ---- replay.c ------------------------------------------------------------ */

int replay_key_get(void);
int replay_signals_get(void);
void replay_signals_put(void);

#endif /* WATCH_H */
