/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the files of libcodewp share: the context, the view, the thread, and
 * the small services (lock, descriptors, options) that every backend uses.
 *
 * Locking: codewp.lock guards all of a context: its views, the mapping table,
 * page states and internal rings. It is taken with every asynchronous signal
 * blocked, so that a handler that writes to an armed page never interrupts its
 * own thread inside the library. It is never held while a callback runs. The
 * mapping table and the page states may also be read without it (track.h).
 */
#ifndef LIBCODEWP_INTERNAL_H
#define LIBCODEWP_INTERNAL_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* All else is hidden: the library is built with -fvisibility=hidden. */
#pragma GCC visibility push(default)
#include <codewp.h>
#pragma GCC visibility pop

#include <linux/codewp.h>

#include "track.h"

#define PAGE_SHIFT	12
#define PAGE_MASK	(CODEWP_PAGE_SIZE - 1)

#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define load_acquire(p)		__atomic_load_n((p), __ATOMIC_ACQUIRE)
#define load_relaxed(p)		__atomic_load_n((p), __ATOMIC_RELAXED)
#define store_release(p, v)	__atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define store_relaxed(p, v)	__atomic_store_n((p), (v), __ATOMIC_RELAXED)

struct backend_ops;
struct soft_ops;

struct codewp {
	const struct backend_ops *ops;
	const struct soft_ops *soft;	/* uffd, mprotect; else NULL */
	bool own_signals;
	bool quiet_signals;
	int min_fd;
	int fd;				/* /dev/codewp or the userfaultfd; -1 */
	uint32_t *life;			/* 1; a wiped page in a forked child */
	uint32_t lock;			/* lock.c */
	uint32_t readers;		/* between ctx_read_begin() and _end() */
	uint64_t armed;			/* pages armed in all views */
	uint32_t next_id;
	struct tracker track;
	struct codewp_view *views;
	struct codewp_thread *threads;
};

/* One event queue; lives as long as a view uses it. Guarded by codewp.lock. */
struct ring {
	struct codewp_ring *hdr;	/* the kernel's layout on every backend */
	size_t map_bytes;
	uint32_t refs;
	int event_fd;			/* -1 until somebody wants one */
};

struct codewp_view {
	struct codewp *ctx;
	struct codewp_view *next;
	struct ring *ring;
	uint64_t offset, length;	/* in the memfd; bytes */
	uint64_t pages;
	uint64_t cookie;
	uint32_t *states;		/* written by the kernel (kmod) or state.c */
	size_t states_bytes;
	void *alias;
	int memfd;			/* a duplicate of the caller's; -1: anonymous */
	int fd;				/* kmod: the view; else -1 */
	bool attached;			/* somebody else's: ends without a disarm */
	uint32_t id;
	uint32_t maps;			/* head of the view's list in the tracker */
	bool private_view;

	/* uffd, mprotect: */
	uint64_t armed;			/* pages armed now */
	uint64_t touched_first;		/* pages whose state was ever set: [first, end) */
	uint64_t touched_end;
	struct codewp_stats stats;	/* armed is counted above */
};

struct codewp_thread {
	struct codewp *ctx;
	struct codewp_thread *next;	/* of the context */
	struct codewp_thread *tls_next;	/* of the thread */
	struct codewp_thread_opts opts;
	pid_t tid;
	uint32_t busy;			/* uffd, mprotect: inside fn */

	/* kmod: */
	int fd;
	struct codewp_area *area;
	void *stack;			/* guard page, stack, area */
	size_t stack_bytes;
	void *xsave;
	uint32_t kicks_seen;
	uint32_t last_view_id;
	struct codewp_view *last_view;	/* of the last upcall */
};

/* ---- lib.c -------------------------------------------------------------- */

/* Move fd to at least ctx->min_fd, close-on-exec; closes fd. Or -errno. */
int fd_settle(const struct codewp *ctx, int fd);

/*
 * Copy versioned options: what the caller's shorter structure lacks is zero;
 * a longer one must be zero in what we do not know (-E2BIG). NULL: all zero.
 */
int opts_copy(void *dst, size_t known, const void *opts);

/* The steps of making a view; view_add() frees the view when create() fails. */
int view_opts_check(const struct codewp *ctx, struct codewp_view_opts *o,
		    const struct codewp_view_opts *opts);
struct codewp_view *view_new(struct codewp *ctx, uint64_t length,
			     const struct codewp_view_opts *opts);
int view_add(struct codewp_view *view, struct codewp_view **out,
	     const struct codewp_view_opts *opts,
	     int (*create)(struct codewp_view *view, const struct codewp_view_opts *opts));

/* False in a forked child: the context is its parent's. */
static inline bool ctx_alive(const struct codewp *ctx)
{
	return load_relaxed(ctx->life) == 1;
}

/* ---- lock.c ------------------------------------------------------------- */

void ctx_lock(struct codewp *ctx, sigset_t *saved);
void ctx_unlock(struct codewp *ctx, const sigset_t *saved);
/* The child of fork(): the lock is free whoever held it. */
void ctx_lock_reset(struct codewp *ctx, const sigset_t *saved);	/* saved: or NULL */

/*
 * A reader without the lock may dereference the views that it finds in the
 * tracker until ctx_read_end(); ctx_wait_readers() is called after a view left
 * the tracker and before its memory goes.
 */
static inline void ctx_read_begin(struct codewp *ctx)
{
	__atomic_fetch_add(&ctx->readers, 1, __ATOMIC_SEQ_CST);
}

static inline void ctx_read_end(struct codewp *ctx)
{
	__atomic_fetch_sub(&ctx->readers, 1, __ATOMIC_RELEASE);
}

void ctx_wait_readers(struct codewp *ctx);

/* ---- ring.c ------------------------------------------------------------- */

/* An internal ring of bytes (a power of two, at least a page). Or -errno. */
int ring_new(struct codewp *ctx, struct ring **ring, uint32_t bytes);
struct ring *ring_get(struct ring *ring);
void ring_put(struct ring *ring);
/*
 * Publish ev (its seq is filled in) in an internal ring. Returns false if there
 * was no room. Async-signal-safe; the context's lock is held.
 */
bool ring_post(struct ring *ring, struct codewp_event *ev);
uint32_t ring_bytes_check(uint32_t bytes);	/* the default for 0; 0 if invalid */

/* ---- sigcommon.c -------------------------------------------------------- */

/* A context joins or leaves the library's own handlers, and fork's. */
int signals_join(struct codewp *ctx);
void signals_leave(struct codewp *ctx);

void regs_from_ucontext(struct codewp_regs *regs, const void *ucontext);
void regs_to_ucontext(const struct codewp_regs *regs, void *ucontext);

/* The calling thread's registration with ctx, or NULL. Async-signal-safe. */
struct codewp_thread *thread_self(const struct codewp *ctx);
/* Also frees what other threads unregistered here. */
void thread_self_add(struct codewp_thread *thread);
/* False: it is another thread's, whose list still has it. */
bool thread_self_del(struct codewp_thread *thread);

/* ---- state.c ------------------------------------------------------------ */

int states_new(struct codewp_view *view);
void states_free(struct codewp_view *view);

#endif /* LIBCODEWP_INTERNAL_H */
