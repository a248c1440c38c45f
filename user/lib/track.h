/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The mapping table: which user addresses show which bytes of which view.
 *
 * The backends without a module must arm every mapping of a page and must know
 * what a faulting address is. Writers hold the context's lock; track_find() and
 * track_next() may be called without it: they copy an entry out and retry when
 * a writer was at work (a sequence count), and touch only memory that stays
 * mapped until track_fini().
 */
#ifndef LIBCODEWP_TRACK_H
#define LIBCODEWP_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct codewp_view;

#define TRACK_END 0U	/* no entry: entry 0 is never used */

struct map {
	uintptr_t start, end;
	struct codewp_view *view;
	uint64_t voff;		/* of start */
	int prot;		/* as the user sees it */
	uint32_t next;		/* of the same view, or of the free entries */
};

struct tracker {
	struct map *maps;	/* one reservation: the entries, then the order */
	uint32_t *order;	/* entry numbers by ascending address */
	size_t bytes;
	uint32_t nr;		/* entries in order */
	uint32_t used;		/* entries ever taken, entry 0 included */
	uint32_t free;		/* list of entries to take again */
	uint32_t seq;		/* odd while a writer is at work */
};

int track_init(struct tracker *t);
void track_fini(struct tracker *t);
/* The child of a fork amidst of a change, which nobody will finish. */
void track_reset(struct tracker *t);

/*
 * Room for n more entries? A call that is about to change mappings asks first:
 * afterwards nothing may fail. track_cut() needs up to one, track_protect() two.
 */
bool track_room(const struct tracker *t, unsigned int n);

/* [start, end) shows view from voff. Nothing may be there (track_cut() first). */
void track_add(struct tracker *t, uintptr_t start, uintptr_t end,
	       struct codewp_view *view, uint64_t voff, int prot);
/* Forget what is in [start, end). */
void track_cut(struct tracker *t, uintptr_t start, uintptr_t end);
/* Set the protection of what is in [start, end), splitting where needed. */
void track_protect(struct tracker *t, uintptr_t start, uintptr_t end, int prot);
/* Forget all mappings of a view. */
void track_drop_view(struct tracker *t, struct codewp_view *view);

/* The entry that holds addr. Lock-free. */
bool track_find(const struct tracker *t, uintptr_t addr, struct map *out);
/* The first entry that ends above addr. Lock-free. */
bool track_next(const struct tracker *t, uintptr_t addr, struct map *out);

#endif /* LIBCODEWP_TRACK_H */
