// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Event queues: reading them, and writing the internal ones. Owns struct ring
 * and its memory. The producer of an internal ring holds the context's lock;
 * the reader is one thread at a time and takes it only to look at the views
 * after an overflow. The layout is the kernel's, so one reader serves all.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend.h"
#include "state.h"

#define RING_DEFAULT	(64U << 10)
#define RING_MAX	(1U << 30)

uint32_t ring_bytes_check(uint32_t bytes)
{
	if (!bytes)
		return RING_DEFAULT;
	if (bytes < CODEWP_PAGE_SIZE || bytes > RING_MAX || (bytes & (bytes - 1)))
		return 0;
	return bytes;
}

int ring_new(struct codewp *ctx, struct ring **ring, uint32_t bytes)
{
	struct ring *r;
	void *p;

	bytes = ring_bytes_check(bytes);
	if (!bytes)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->map_bytes = CODEWP_RING_DATA + bytes;
	p = mmap(NULL, r->map_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		int err = -errno;

		free(r);
		return err;
	}
	r->hdr = p;
	r->hdr->nr = bytes / sizeof(struct codewp_event);
	r->refs = 1;
	r->event_fd = -1;
	*ring = r;
	return 0;
}

struct ring *ring_get(struct ring *ring)
{
	ring->refs++;
	return ring;
}

void ring_put(struct ring *ring)
{
	if (!ring || --ring->refs)
		return;
	if (ring->hdr)
		munmap(ring->hdr, ring->map_bytes);
	if (ring->event_fd >= 0)
		close(ring->event_fd);
	free(ring);
}

static struct codewp_event *ring_slot(const struct ring *ring, uint64_t pos)
{
	struct codewp_event *e = (void *)((char *)ring->hdr + CODEWP_RING_DATA);

	return e + (pos & (ring->hdr->nr - 1));
}

bool ring_post(struct ring *ring, struct codewp_event *ev)
{
	struct codewp_ring *hdr = ring->hdr;
	uint64_t head = hdr->head;
	struct codewp_event *slot;
	uint64_t one = 1;
	bool room;

	/* Pairs with the release of tail in codewp_drain(): the slot was read. */
	room = head - load_acquire(&hdr->tail) < hdr->nr;
	if (room) {
		slot = ring_slot(ring, head);
		/* The reader looks at seq of a slot that is not its yet; at no more. */
		store_relaxed(&slot->seq, 0);
		memcpy(&slot->seq + 1, &ev->seq + 1, sizeof(*ev) - sizeof(ev->seq));
		/* Pairs with the acquire of seq in codewp_drain(). */
		store_release(&slot->seq, head + 1);
		/* Pairs with the acquire of head in codewp_pending(). */
		store_release(&hdr->head, head + 1);
	} else {
		store_relaxed(&hdr->dropped, hdr->dropped + 1);
		/*
		 * After the page's WRITTEN bit; pairs with the exchange in
		 * codewp_drain(), which is before its scan.
		 */
		__atomic_store_n(&hdr->overflow, 1, __ATOMIC_SEQ_CST);
	}
	/* A full counter is as readable as any. */
	if (ring->event_fd >= 0 && write(ring->event_fd, &one, sizeof(one)) < 0)
		return room;
	return room;
}

/**
 * codewp_pending() - are there events
 * @view: view
 *
 * Return: does codewp_drain() have something to do? Lock-free.
 */
bool codewp_pending(const struct codewp_view *view)
{
	const struct codewp_ring *hdr = view->ring->hdr;

	/* The kernel's ring is not mapped in a forked child. */
	if (!ctx_alive(view->ctx))
		return false;
	return load_acquire(&hdr->head) != load_relaxed(&hdr->tail) || load_relaxed(&hdr->overflow);
}

/* Where a scan of the written pages of a ring's views has come to. */
struct scan {
	uint32_t view;			/* number */
	uint64_t page;
	unsigned int nr;
	struct codewp_event_info info[64];
};

/* The view with the lowest number, from at least that of the scan. Lock held. */
static struct codewp_view *scan_view(struct codewp *ctx, const struct ring *ring,
				     const struct scan *s)
{
	struct codewp_view *v, *best = NULL;

	for (v = ctx->views; v; v = v->next)
		if (v->ring == ring && v->id >= s->view && (!best || v->id < best->id))
			best = v;
	return best;
}

static void scan_pages(const struct codewp_view *view, struct scan *s)
{
	bool ours = view->ctx->soft;
	uint64_t first = ours ? view->touched_first : 0;
	uint64_t end = ours ? view->touched_end : view->pages;

	if (s->page < first)
		s->page = first;
	for (; s->page < end && s->nr < 64; s->page++) {
		struct codewp_event_info *info = &s->info[s->nr];

		if (!(state_of(view, s->page) & CODEWP_PAGE_WRITTEN))
			continue;
		memset(info, 0, sizeof(*info));
		info->cookie = view->cookie;
		info->voff = s->page << PAGE_SHIFT;
		info->whole_page = true;
		s->nr++;
	}
	if (s->page >= end) {
		s->view = view->id + 1;
		s->page = 0;
	}
}

/*
 * After an overflow the page states are the truth: every written page. The lock
 * is given up for each call of fn, which may arm, disarm and destroy.
 */
static int scan_written(struct codewp *ctx, struct ring *ring, codewp_event_fn fn,
			void *arg)
{
	struct scan s = { .view = 0 };
	struct codewp_view *view;
	sigset_t saved;
	int found = 0;

	do {
		s.nr = 0;
		ctx_lock(ctx, &saved);
		view = scan_view(ctx, ring, &s);
		if (view && view->id > s.view) {
			s.view = view->id;
			s.page = 0;
		}
		if (view)
			scan_pages(view, &s);
		ctx_unlock(ctx, &saved);
		for (unsigned int i = 0; i < s.nr; i++)
			fn(&s.info[i], arg);
		found += s.nr;
	} while (view);
	return found;
}

/**
 * codewp_drain() - take the events of a ring
 * @view: view; the events of views that share its ring come, too
 * @fn: called for each event, without a lock
 * @arg: for @fn
 *
 * One thread at a time per ring. Return: events; -EINVAL, -ESRCH.
 */
int codewp_drain(struct codewp_view *view, codewp_event_fn fn, void *arg)
{
	struct codewp_ring *hdr;
	struct ring *ring;
	struct codewp *ctx;
	bool overflow;
	int count = 0;

	if (!view || !fn)
		return -EINVAL;
	ctx = view->ctx;
	ring = view->ring;
	hdr = ring->hdr;
	if (!ctx_alive(ctx))
		return -ESRCH;
	if (!codewp_pending(view))
		return 0;
	if (ring->event_fd >= 0) {
		uint64_t n;

		/* Before the ring is read: an event after that signals anew. */
		while (read(ring->event_fd, &n, sizeof(n)) < 0 && errno == EINTR)
			;
	}
	/* Before the ring and the states are read; see ring_post(). */
	overflow = load_relaxed(&hdr->overflow) &&
		   __atomic_exchange_n(&hdr->overflow, 0, __ATOMIC_SEQ_CST);

	for (;;) {
		uint64_t tail = hdr->tail;
		struct codewp_event *slot = ring_slot(ring, tail);
		struct codewp_event_info info;

		/* Pairs with the producer's release: the record is whole. */
		if (load_acquire(&slot->seq) != tail + 1)
			break;
		memset(&info, 0, sizeof(info));
		info.cookie = slot->cookie;
		info.voff = slot->offset;
		info.addr = slot->addr;
		info.ip = slot->ip;
		info.tid = slot->tid;
		info.kernel = slot->flags & CODEWP_EVENT_KERNEL;
		info.guest = slot->flags & CODEWP_EVENT_GUEST;
		info.stopped = slot->flags & CODEWP_EVENT_STOP;
		info.vcpu = slot->vcpu;
		/* Pairs with the producer's acquire: the slot may be reused. */
		store_release(&hdr->tail, tail + 1);
		fn(&info, arg);
		count++;
	}
	return overflow ? count + scan_written(ctx, ring, fn, arg) : count;
}
