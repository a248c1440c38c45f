/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * libcodewp-watch - be told of every write to some bytes of a view.
 *
 * A watchpoint on any number of bytes, on the trap of codewp.h: the page is armed
 * and stays so. A store to it by a registered thread is decoded and executed on the
 * alias, so that no other thread's store gets through in between; what is written
 * without a callback (system calls, threads that are not registered, other
 * processes) is found by comparing the bytes with a copy.
 *
 * The calls return 0 or a negative errno. Link with -lcodewp-watch -lcodewp.
 */
#ifndef CODEWP_WATCH_H
#define CODEWP_WATCH_H

#include <codewp.h>

#ifdef __cplusplus
extern "C" {
#endif

struct codewp_watch;	/* one watched range */

/* codewp_watch_hit.flags */
/*
 * One store, as it was made: voff and len are its bytes, before and after are the
 * watched bytes around it. Without: found by comparing. Then voff and len are the
 * bytes that differ, made by one write or by several; len is 0 when a write to the
 * watched bytes is known and changed nothing.
 */
#define CODEWP_WATCH_EXACT	(1U << 0)
#define CODEWP_WATCH_KERNEL	(1U << 1) /* a system call wrote; tid is its thread */
/*
 * The store could not be executed on the alias and was single-stepped with the page
 * open: other threads' stores of that moment are found by comparing only.
 */
#define CODEWP_WATCH_STEPPED	(1U << 2)
#define CODEWP_WATCH_LOST	(1U << 3) /* the page is watched no more: see err */

struct codewp_watch_hit {
	struct codewp_watch *watch;
	struct codewp_view *view;
	uint64_t voff, len;	/* bytes written, also those beside the watched ones */
	uint64_t addr, ip;	/* of the store; 0 if not known */
	uint32_t tid;		/* 0 if not known */
	uint32_t flags;		/* CODEWP_WATCH_* */
	uint64_t watch_voff, watch_len;
	const void *before;	/* watch_len bytes each */
	const void *after;
	int err;
};

/*
 * Called after the store, in the order of the stores, one call at a time in the whole
 * process. Stores of registered threads call it on that thread, in a signal handler:
 * async-signal-safe calls only, and every asynchronous signal is blocked. It may
 * call codewp_unwatch() for its own watch. What it writes to watched pages itself
 * goes through and is told as found.
 */
typedef void (*codewp_watch_fn)(const struct codewp_watch_hit *hit, void *arg);

struct codewp_watch_opts {
	size_t sz;
	void *arg;		/* handed to fn */
	/* Tell only what changed a byte; the processor also writes what is there. */
	bool changes;
	/*
	 * The caller owns SIGSEGV, SIGBUS, SIGFPE and SIGTRAP, and calls
	 * codewp_watch_signal() first in their handlers, which must have these four
	 * out of sa_mask, and SA_ONSTACK if there is an alternate stack.
	 */
	bool own_signals;
	size_t __last_field[0];
};

int codewp_watch(struct codewp_watch **watch, struct codewp_view *view, uint64_t voff,
		 uint64_t len, codewp_watch_fn fn, const struct codewp_watch_opts *opts);
void codewp_unwatch(struct codewp_watch *watch);

/*
 * To be called first by the callback of every registered thread. True: it has been
 * dealt with, return at once. False: not a watched page.
 */
bool codewp_watch_trap(struct codewp_trap *trap);

/*
 * For every event that codewp_drain() tells of view. True: the page is watched; it
 * has been armed again, and what changed has been told.
 */
bool codewp_watch_event(struct codewp_view *view, const struct codewp_event_info *ev);

/* Compare now: tells of what was written unseen; arms open pages. Hits or -errno. */
int codewp_watch_check(struct codewp_view *view);

/* For own_signals: true if the signal was ours. */
bool codewp_watch_signal(int sig, void *info, void *ucontext);

#ifdef __cplusplus
}
#endif
#endif /* CODEWP_WATCH_H */
