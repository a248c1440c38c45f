// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The watches: ranges, the copy of their bytes, who is told, and what was written
 * without a trap that is told to its thread. Owns the list of watched views; all of
 * it is guarded by watch_lock().
 */
#include <linux/codewp.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "watch.h"

static struct watched *views;

/* ---- the lock ------------------------------------------------------------ */

static struct {
	uint32_t word;			/* 0 free, 1 taken, 2 somebody waits */
	unsigned int depth;
	const void *owner;		/* address of the owner's `me` */
} lock;

static __thread char me;

void sigs_set(uint64_t mask, uint64_t *old)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, old, sizeof(mask));
}

bool watch_locked_by_me(void)
{
	return __atomic_load_n(&lock.owner, __ATOMIC_RELAXED) == &me;
}

void watch_lock(void)
{
	uint32_t v = 0;

	if (watch_locked_by_me()) {
		lock.depth++;
		return;
	}
	if (!__atomic_compare_exchange_n(&lock.word, &v, 1, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		while (__atomic_exchange_n(&lock.word, 2, __ATOMIC_ACQUIRE))
			syscall(SYS_futex, &lock.word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
	lock.depth = 1;
	__atomic_store_n(&lock.owner, &me, __ATOMIC_RELAXED);
}

static void free_watch(struct codewp_watch *watch)
{
	free(watch->copy);
	free(watch->now);
	free(watch);
}

/* What ended in a callback. Never in a signal handler: it frees. */
static void bury(void)
{
	struct watched **pw = &views;

	while (*pw) {
		struct watched *w = *pw;
		struct codewp_watch **p = &w->list;

		while (*p) {
			struct codewp_watch *c = *p;

			if (!c->dead) {
				p = &c->next;
				continue;
			}
			*p = c->next;
			if (!c->own_signals)
				replay_signals_put();
			free_watch(c);
		}
		if (w->list) {
			pw = &w->next;
			continue;
		}
		*pw = w->next;
		free(w->page);
		free(w);
	}
}

void watch_unlock(bool sweep)
{
	static const struct write nobody;

	if (lock.depth == 1 && sweep)
		watched_sweep(&nobody);
	if (--lock.depth)
		return;
	__atomic_store_n(&lock.owner, NULL, __ATOMIC_RELAXED);
	if (__atomic_exchange_n(&lock.word, 0, __ATOMIC_RELEASE) == 2)
		syscall(SYS_futex, &lock.word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* fork() while another thread is inside: the child must find the lock free. */
static void fork_parent(void)
{
	watch_unlock(true);
}

static void fork_child(void)
{
	memset(&lock, 0, sizeof(lock));
}

static int fork_once(void)
{
	static bool done;
	int err;

	if (done)
		return 0;
	err = -pthread_atfork(watch_lock, fork_parent, fork_child);
	done = !err;
	return err;
}

/* ---- views and pages ----------------------------------------------------- */

struct watched *watched_find(const struct codewp_view *view)
{
	struct watched *w = views;

	while (w && w->view != view)
		w = w->next;
	return w;
}

struct wpage *watched_page(struct watched *w, uint64_t page)
{
	return page < w->pages && w->page[page].watches ? &w->page[page] : NULL;
}

static bool is_armed(const struct watched *w, uint64_t page)
{
	return __atomic_load_n(&w->states[page], __ATOMIC_ACQUIRE) & CODEWP_PAGE_ARMED;
}

static void lost(struct watched *w, uint64_t page, int err)
{
	for (struct codewp_watch *c = w->list; c; c = c->next) {
		struct codewp_watch_hit hit = {
			.watch = c,
			.view = w->view,
			.voff = page << PAGE_SHIFT,
			.len = CODEWP_PAGE_SIZE,
			.flags = CODEWP_WATCH_LOST,
			.watch_voff = c->voff,
			.watch_len = c->len,
			.before = c->copy,
			.after = c->copy,
			.err = err,
		};

		if (!c->dead && c->voff >> PAGE_SHIFT <= page &&
		    (c->voff + c->len - 1) >> PAGE_SHIFT >= page)
			c->fn(&hit, c->arg);
	}
}

static void arm_again(struct watched *w, uint64_t page)
{
	int err = codewp_arm(w->view, page << PAGE_SHIFT, CODEWP_PAGE_SIZE, w->mode, NULL);

	if (err)
		lost(w, page, err);
}

void watched_open(struct watched *w, uint64_t page)
{
	struct wpage *p = watched_page(w, page);

	codewp_disarm(w->view, page << PAGE_SHIFT, CODEWP_PAGE_SIZE);
	if (p) {
		p->open = true;
		w->any_open = true;
	}
}

void watched_reopened(struct watched *w, uint64_t page)
{
	struct wpage *p = watched_page(w, page);

	if (p && !is_armed(w, page)) {
		p->open = true;
		w->any_open = true;
	}
}

void watched_sweep(const struct write *wr)
{
	for (struct watched *w = views; w; w = w->next) {
		if (!w->view || !w->any_open)
			continue;
		w->any_open = false;
		for (uint64_t i = 0; i < w->pages; i++) {
			if (!w->page[i].open)
				continue;
			w->page[i].open = false;
			if (!w->page[i].watches)
				continue;
			arm_again(w, i);
			watched_compare(w, i << PAGE_SHIFT, (i + 1) << PAGE_SHIFT, wr);
		}
	}
}

/* ---- telling ------------------------------------------------------------- */

static bool overlaps(const struct codewp_watch *c, uint64_t start, uint64_t end)
{
	return !c->dead && c->voff < end && c->voff + c->len > start;
}

static void look(const struct watched *w, struct codewp_watch *c)
{
	memcpy(c->now, w->alias + c->voff, c->len);
}

/* The bytes that differ, as [first, end) in the view; false: none. */
static bool differs(const struct codewp_watch *c, uint64_t *first, uint64_t *end)
{
	uint64_t i = 0, j = c->len;

	if (!memcmp(c->copy, c->now, c->len))
		return false;
	while (c->copy[i] == c->now[i])
		i++;
	while (c->copy[j - 1] == c->now[j - 1])
		j--;
	*first = c->voff + i;
	*end = c->voff + j;
	return true;
}

static void tell(struct watched *w, struct codewp_watch *c, const struct write *wr,
		 uint64_t start, uint64_t end)
{
	struct codewp_watch_hit hit = {
		.watch = c,
		.view = w->view,
		.voff = start,
		.len = end - start,
		.addr = wr->addr,
		.ip = wr->ip,
		.tid = wr->tid,
		.flags = wr->flags,
		.watch_voff = c->voff,
		.watch_len = c->len,
		.before = c->copy,
		.after = c->now,
	};
	uint8_t *now = c->now;

	c->fn(&hit, c->arg);
	/* now is what the next one starts from */
	c->now = c->copy;
	c->copy = now;
}

int watched_compare(struct watched *w, uint64_t start, uint64_t end, const struct write *wr)
{
	uint64_t first, last;
	int hits = 0;

	for (struct codewp_watch *c = w->list; c; c = c->next) {
		if (!overlaps(c, start, end))
			continue;
		look(w, c);
		if (!differs(c, &first, &last))
			continue;
		tell(w, c, wr, first, last);
		hits++;
	}
	return hits;
}

void watched_settle(struct watched *w, uint64_t start, uint64_t end)
{
	static const struct write nobody;

	watched_compare(w, start, end, &nobody);
}

/* Nothing to tell first. */
bool watched_settled(struct watched *w, uint64_t start, uint64_t end)
{
	for (const struct codewp_watch *c = w->list; c; c = c->next)
		if (overlaps(c, start, end) && memcmp(c->copy, w->alias + c->voff, c->len))
			return false;
	return true;
}

void watched_tell(struct watched *w, const struct write *wr)
{
	uint64_t start = UINT64_MAX, end = 0, first, last;

	for (unsigned int i = 0; i < wr->nr; i++) {
		if (wr->range[i].addr < start)
			start = wr->range[i].addr;
		if (wr->range[i].addr + wr->range[i].len > end)
			end = wr->range[i].addr + wr->range[i].len;
	}
	for (struct codewp_watch *c = w->list; c; c = c->next) {
		bool hit = false;

		for (unsigned int i = 0; i < wr->nr && !hit; i++)
			hit = overlaps(c, wr->range[i].addr,
				       wr->range[i].addr + wr->range[i].len);
		if (!hit)
			continue;
		look(w, c);
		if (c->changes && !differs(c, &first, &last))
			continue;
		tell(w, c, wr, start, end);
	}
}

/* ---- the public calls ---------------------------------------------------- */

static int opts_copy(struct codewp_watch_opts *dst, const struct codewp_watch_opts *opts)
{
	size_t known = offsetof(struct codewp_watch_opts, __last_field);
	const unsigned char *src = (const void *)opts;

	memset(dst, 0, sizeof(*dst));
	if (!opts)
		return 0;
	if (opts->sz < sizeof(opts->sz))
		return -EINVAL;
	for (size_t i = known; i < opts->sz; i++)
		if (src[i])
			return -E2BIG;
	memcpy(dst, opts, opts->sz < known ? opts->sz : known);
	return 0;
}

static int pages_room(struct watched *w, uint64_t end)
{
	struct wpage *p;

	if (end <= w->pages)
		return 0;
	p = reallocarray(w->page, end, sizeof(*p));
	if (!p)
		return -ENOMEM;
	memset(p + w->pages, 0, (end - w->pages) * sizeof(*p));
	w->page = p;
	w->pages = end;
	return 0;
}

static int watched_get(struct codewp_view *view, struct watched **out)
{
	struct watched *w = watched_find(view);
	void *alias;
	int err;

	*out = w;
	if (w)
		return 0;
	err = codewp_alias(view, &alias);
	if (err)
		return err;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->view = view;
	w->alias = alias;
	w->states = codewp_page_states(view);
	w->mode = CODEWP_KEEP;
	w->next = views;
	views = w;
	*out = w;
	return 0;
}

/* Pages of the watch that nobody else watches are as they were before it. */
static void leave_pages(struct watched *w, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; i < end; i++)
		if (!--w->page[i].watches && !w->page[i].theirs)
			codewp_disarm(w->view, i << PAGE_SHIFT, CODEWP_PAGE_SIZE);
}

static int arm_pages(struct watched *w, uint64_t first, uint64_t end)
{
	uint64_t len = (end - first) << PAGE_SHIFT;
	int err;

	err = codewp_arm(w->view, first << PAGE_SHIFT, len, w->mode, NULL);
	if (err == -EINVAL && w->mode == CODEWP_KEEP) {
		w->mode = CODEWP_HOLD;		/* not a private view */
		err = codewp_arm(w->view, first << PAGE_SHIFT, len, w->mode, NULL);
	}
	return err;
}

/* Lock held: a trap that comes at once waits until the watch is in the list. */
static int add(struct watched *w, struct codewp_watch *c)
{
	uint64_t first = c->voff >> PAGE_SHIFT;
	uint64_t end = ((c->voff + c->len - 1) >> PAGE_SHIFT) + 1;
	int err = pages_room(w, end);

	if (err)
		return err;
	for (uint64_t i = first; i < end; i++)
		if (!w->page[i].watches++)
			w->page[i].theirs = is_armed(w, i);
	err = arm_pages(w, first, end);
	if (err) {
		leave_pages(w, first, end);
		return err;
	}
	look(w, c);
	memcpy(c->copy, c->now, c->len);
	c->of = w;
	c->next = w->list;
	w->list = c;
	w->live++;
	return 0;
}

/**
 * codewp_watch() - be told of writes to [voff, voff + len)
 * @out: the watch
 * @view: view
 * @voff: first byte, any
 * @len: bytes, not zero
 * @fn: who is told
 * @opts: options or NULL
 *
 * Several watches may overlap. The pages stay armed as long as a watch covers them;
 * nobody else may arm (in another mode) or disarm them, but a page that was armed
 * before stays armed afterwards. Not async-signal-safe.
 *
 * Return: 0; -EINVAL, -E2BIG, -EOVERFLOW, -ENOMEM, or codewp_arm()'s: -ERANGE,
 * -ENXIO, -ENOSPC, -EIO, -ESRCH.
 */
int codewp_watch(struct codewp_watch **out, struct codewp_view *view, uint64_t voff,
		 uint64_t len, codewp_watch_fn fn, const struct codewp_watch_opts *opts)
{
	struct codewp_watch_opts o;
	struct codewp_watch *c;
	struct watched *w = NULL;
	uint64_t saved;
	int err;

	if (!out || !view || !len || !fn)
		return -EINVAL;
	*out = NULL;
	err = opts_copy(&o, opts);
	if (err)
		return err;
	if (voff + len < voff)
		return -EOVERFLOW;
	if (voff + len > codewp_view_length(view))
		return -ERANGE;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->voff = voff;
	c->len = len;
	c->fn = fn;
	c->arg = o.arg;
	c->changes = o.changes;
	c->own_signals = o.own_signals;
	c->copy = malloc(len);
	c->now = malloc(len);
	err = -ENOMEM;
	if (!c->copy || !c->now)
		goto free;

	sigs_set(SIGS_ASYNC, &saved);
	watch_lock();
	err = fork_once();
	if (!err)
		err = replay_key_get();
	if (!err && !c->own_signals)
		err = replay_signals_get();
	if (!err) {
		err = watched_get(view, &w);
		if (!err)
			err = add(w, c);
		if (err && !c->own_signals)
			replay_signals_put();
	}
	bury();
	watch_unlock(true);
	sigs_set(saved, NULL);
	if (err)
		goto free;
	*out = c;
	return 0;
free:
	free_watch(c);
	return err;
}

/**
 * codewp_unwatch() - end a watch
 * @c: watch or NULL
 *
 * On return its callback runs no more, unless it is the caller. Must come before the
 * view is destroyed. Async-signal-safe only in its own callback.
 */
void codewp_unwatch(struct codewp_watch *c)
{
	struct watched *w;
	uint64_t saved;

	if (!c)
		return;
	sigs_set(SIGS_ASYNC, &saved);
	watch_lock();
	if (!c->dead) {
		w = c->of;
		c->dead = true;
		leave_pages(w, c->voff >> PAGE_SHIFT,
			    ((c->voff + c->len - 1) >> PAGE_SHIFT) + 1);
		/* The view may go now, and another come at its address. */
		if (!--w->live)
			w->view = NULL;
	}
	/* In a callback somebody above walks the list. */
	if (lock.depth == 1)
		bury();
	watch_unlock(true);
	sigs_set(saved, NULL);
}

/**
 * codewp_watch_event() - a write that was told by the ring
 * @view: the view that the event belongs to
 * @ev: as codewp_drain() told it
 *
 * Return: true if the page is watched.
 */
bool codewp_watch_event(struct codewp_view *view, const struct codewp_event_info *ev)
{
	struct write wr = {
		.addr = ev->addr,
		.ip = ev->ip,
		.tid = ev->tid,
		.flags = ev->kernel ? CODEWP_WATCH_KERNEL : 0,
	};
	uint64_t page = ev->voff >> PAGE_SHIFT, saved;
	struct watched *w;
	struct wpage *p = NULL;
	int hits;

	sigs_set(SIGS_ASYNC, &saved);
	watch_lock();
	w = watched_find(view);
	if (w)
		p = watched_page(w, page);
	if (p) {
		/* Armed first: what is written from now on has a trap of its own. */
		p->open = false;
		arm_again(w, page);
		hits = watched_compare(w, page << PAGE_SHIFT, (page + 1) << PAGE_SHIFT, &wr);
		/* The first byte is known, and it is watched: a write that changed nothing. */
		for (struct codewp_watch *c = w->list; c && !hits && !ev->whole_page; c = c->next)
			if (overlaps(c, ev->voff, ev->voff + 1) && !c->changes)
				tell(w, c, &wr, ev->voff, ev->voff);
	}
	watch_unlock(true);
	sigs_set(saved, NULL);
	return p;
}

/**
 * codewp_watch_check() - compare every watch of a view now
 * @view: view
 *
 * Return: how many differed; -ENOENT: it has no watch.
 */
int codewp_watch_check(struct codewp_view *view)
{
	static const struct write nobody;
	struct watched *w;
	uint64_t saved;
	int hits = -ENOENT;

	sigs_set(SIGS_ASYNC, &saved);
	watch_lock();
	w = watched_find(view);
	if (w) {
		for (uint64_t i = 0; i < w->pages; i++)
			if (w->page[i].watches && !is_armed(w, i))
				arm_again(w, i);
		hits = watched_compare(w, 0, UINT64_MAX, &nobody);
	}
	watch_unlock(true);
	sigs_set(saved, NULL);
	return hits;
}
