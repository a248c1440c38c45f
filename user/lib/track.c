// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The mapping table. Owns struct tracker and the list of maps in each view;
 * changed under the context's lock, knows nothing of arming.
 *
 * Entries keep their number for life and are linked per view; a sorted array
 * of numbers finds them by address. Both lie in one reservation that never
 * moves, so a reader without the lock sees at worst a mix of old and new
 * values, which the sequence count then makes it read again.
 */
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

#define TRACK_MAX	(256U << 10)	/* entries; untouched ones cost nothing */

int track_init(struct tracker *t)
{
	memset(t, 0, sizeof(*t));
	t->bytes = TRACK_MAX * (sizeof(struct map) + sizeof(uint32_t));
	t->maps = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (t->maps == MAP_FAILED) {
		t->maps = NULL;
		return -errno;
	}
	t->order = (uint32_t *)(t->maps + TRACK_MAX);
	t->used = 1;
	t->free = TRACK_END;
	return 0;
}

void track_fini(struct tracker *t)
{
	if (t->maps)
		munmap(t->maps, t->bytes);
	t->maps = NULL;
}

void track_reset(struct tracker *t)
{
	/* Readers wait for an odd count to pass. */
	store_release(&t->seq, (t->seq + 1) & ~1U);
}

bool track_room(const struct tracker *t, unsigned int n)
{
	return t->nr + n < TRACK_MAX;
}

static void write_begin(struct tracker *t)
{
	store_relaxed(&t->seq, t->seq + 1);
	/* Pairs with the acquire fence in read_retry(). */
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static void write_end(struct tracker *t)
{
	/* Pairs with the acquire load in read_begin(). */
	store_release(&t->seq, t->seq + 1);
}

static uint32_t read_begin(const struct tracker *t)
{
	uint32_t seq;

	while ((seq = load_acquire(&t->seq)) & 1)
		sched_yield();
	return seq;
}

static bool read_retry(const struct tracker *t, uint32_t seq)
{
	/* Pairs with the release fence in write_begin(). */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return load_relaxed(&t->seq) != seq;
}

/* Place in order of the first entry that ends above addr; nr if there is none. */
static uint32_t lower(const struct tracker *t, uintptr_t addr, uint32_t nr)
{
	uint32_t lo = 0, hi = nr;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		uint32_t id = load_relaxed(&t->order[mid]);

		if (load_relaxed(&t->maps[id].end) > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static void insert(struct tracker *t, uint32_t at, const struct map *m)
{
	uint32_t id = t->free;
	struct map *e;

	if (id)
		t->free = t->maps[id].next;
	else
		id = t->used++;
	e = &t->maps[id];
	store_relaxed(&e->start, m->start);
	store_relaxed(&e->end, m->end);
	store_relaxed(&e->view, m->view);
	store_relaxed(&e->voff, m->voff);
	store_relaxed(&e->prot, m->prot);
	e->next = m->view->maps;
	m->view->maps = id;

	for (uint32_t i = t->nr; i > at; i--)
		store_relaxed(&t->order[i], t->order[i - 1]);
	store_relaxed(&t->order[at], id);
	store_relaxed(&t->nr, t->nr + 1);
}

static void erase(struct tracker *t, uint32_t at)
{
	uint32_t id = t->order[at];
	struct map *e = &t->maps[id];
	uint32_t *link = &e->view->maps;

	/* It may be out of the list, and in the order, where track_reset() was due. */
	while (*link != id && *link != TRACK_END)
		link = &t->maps[*link].next;
	if (*link == id) {
		*link = e->next;
		e->next = t->free;
		t->free = id;
	}

	for (uint32_t i = at; i + 1 < t->nr; i++)
		store_relaxed(&t->order[i], t->order[i + 1]);
	store_relaxed(&t->nr, t->nr - 1);
}

void track_add(struct tracker *t, uintptr_t start, uintptr_t end,
	       struct codewp_view *view, uint64_t voff, int prot)
{
	struct map m = { start, end, view, voff, prot, TRACK_END };

	write_begin(t);
	insert(t, lower(t, start, t->nr), &m);
	write_end(t);
}

/* Make addr a border between entries. */
static void split(struct tracker *t, uintptr_t addr)
{
	uint32_t at = lower(t, addr, t->nr);
	struct map *e, tail;

	if (at == t->nr)
		return;
	e = &t->maps[t->order[at]];
	if (e->start >= addr)
		return;
	tail = *e;
	tail.start = addr;
	tail.voff += addr - e->start;
	store_relaxed(&e->end, addr);
	insert(t, at + 1, &tail);
}

void track_cut(struct tracker *t, uintptr_t start, uintptr_t end)
{
	uint32_t at;

	write_begin(t);
	split(t, start);
	split(t, end);
	at = lower(t, start, t->nr);
	while (at < t->nr && t->maps[t->order[at]].start < end)
		erase(t, at);
	write_end(t);
}

void track_protect(struct tracker *t, uintptr_t start, uintptr_t end, int prot)
{
	write_begin(t);
	split(t, start);
	split(t, end);
	for (uint32_t at = lower(t, start, t->nr); at < t->nr; at++) {
		struct map *e = &t->maps[t->order[at]];

		if (e->start >= end)
			break;
		store_relaxed(&e->prot, prot);
	}
	write_end(t);
}

void track_drop_view(struct tracker *t, struct codewp_view *view)
{
	write_begin(t);
	for (uint32_t at = 0; at < t->nr && view->maps; )
		if (t->maps[t->order[at]].view == view)
			erase(t, at);
		else
			at++;
	write_end(t);
}

bool track_next(const struct tracker *t, uintptr_t addr, struct map *out)
{
	uint32_t seq, nr, at;
	bool found;

	do {
		seq = read_begin(t);
		nr = load_relaxed(&t->nr);
		at = lower(t, addr, nr);
		found = at < nr;
		if (found) {
			const struct map *e = &t->maps[load_relaxed(&t->order[at])];

			out->start = load_relaxed(&e->start);
			out->end = load_relaxed(&e->end);
			out->view = load_relaxed(&e->view);
			out->voff = load_relaxed(&e->voff);
			out->prot = load_relaxed(&e->prot);
			out->next = TRACK_END;
		}
	} while (read_retry(t, seq));
	return found;
}

bool track_find(const struct tracker *t, uintptr_t addr, struct map *out)
{
	return track_next(t, addr, out) && out->start <= addr;
}
