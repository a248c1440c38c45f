/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Page-state words kept by the library (uffd, mprotect). The words have the
 * kernel's layout (CODEWP_PAGE_*), are written under the context's lock, and
 * may be read by anyone with an acquire load.
 */
#ifndef LIBCODEWP_STATE_H
#define LIBCODEWP_STATE_H

#include "internal.h"

static inline uint32_t state_of(const struct codewp_view *view, uint64_t page)
{
	return load_acquire(&view->states[page]);
}

static inline bool state_armed(const struct codewp_view *view, uint64_t page)
{
	return state_of(view, page) & CODEWP_PAGE_ARMED;
}

/* A word with the next generation; bits as in flags, the rest kept. */
static inline uint32_t state_next_gen(uint32_t state)
{
	return state + (1U << CODEWP_PAGE_GEN_SHIFT);
}

/* Arm: true if it was not armed before. */
bool state_arm(struct codewp_view *view, uint64_t page, bool keep);
/* Disarm and start a new generation; written: because of a write. */
uint32_t state_open(struct codewp_view *view, uint64_t page, bool written);
/* A trap that leaves the page armed: only the generation moves. */
uint32_t state_trapped(struct codewp_view *view, uint64_t page);

/* The first armed page of [page, end), or end. */
uint64_t state_next_armed(const struct codewp_view *view, uint64_t page, uint64_t end);
/* The first page of [page, end) that is not armed, or end. */
uint64_t state_next_open(const struct codewp_view *view, uint64_t page, uint64_t end);

#endif /* LIBCODEWP_STATE_H */
