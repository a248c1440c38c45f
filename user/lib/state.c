// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Page states of the backends without a module. Owns codewp_view.states, the
 * counts of armed pages and the touched window; the context's lock is held by
 * all that write. It changes words only: protection is soft.c's.
 */
#include <sys/mman.h>

#include "state.h"

int states_new(struct codewp_view *view)
{
	size_t bytes = view->pages * sizeof(uint32_t);
	void *p;

	/* Untouched words cost nothing: they are pages that do not exist yet. */
	bytes = (bytes + PAGE_MASK) & ~PAGE_MASK;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	view->states = p;
	view->states_bytes = bytes;
	view->touched_first = view->pages;
	view->touched_end = 0;
	return 0;
}

void states_free(struct codewp_view *view)
{
	if (view->states)
		munmap(view->states, view->states_bytes);
	view->states = NULL;
}

/*
 * The release pairs with the acquire load of whoever compares generations: who
 * sees a byte that was stored after the page was opened sees the new word.
 */
static void state_set(struct codewp_view *view, uint64_t page, uint32_t state)
{
	store_release(&view->states[page], state);
	if (page < view->touched_first)
		store_relaxed(&view->touched_first, page);
	if (page >= view->touched_end)
		store_relaxed(&view->touched_end, page + 1);
}

bool state_arm(struct codewp_view *view, uint64_t page, bool keep)
{
	uint32_t old = view->states[page];
	uint32_t new = old & ~(CODEWP_PAGE_KEEP | CODEWP_PAGE_WRITTEN);

	new |= CODEWP_PAGE_ARMED | (keep ? CODEWP_PAGE_KEEP : 0);
	state_set(view, page, new);
	if (old & CODEWP_PAGE_ARMED)
		return false;
	view->armed++;
	__atomic_fetch_add(&view->ctx->armed, 1, __ATOMIC_RELEASE);
	return true;
}

uint32_t state_open(struct codewp_view *view, uint64_t page, bool written)
{
	uint32_t old = view->states[page];
	uint32_t new = old & ~(CODEWP_PAGE_ARMED | CODEWP_PAGE_KEEP);

	new = state_next_gen(new | (written ? CODEWP_PAGE_WRITTEN : 0));
	state_set(view, page, new);
	if (old & CODEWP_PAGE_ARMED) {
		view->armed--;
		__atomic_fetch_sub(&view->ctx->armed, 1, __ATOMIC_RELEASE);
	}
	return new;
}

uint32_t state_trapped(struct codewp_view *view, uint64_t page)
{
	uint32_t new = state_next_gen(view->states[page]);

	state_set(view, page, new);
	return new;
}

uint64_t state_next_armed(const struct codewp_view *view, uint64_t page, uint64_t end)
{
	uint64_t first = load_relaxed(&view->touched_first);
	uint64_t last = load_relaxed(&view->touched_end);

	if (page < first)
		page = first;
	for (; page < end && page < last; page++)
		if (state_armed(view, page))
			return page;
	return end;
}

uint64_t state_next_open(const struct codewp_view *view, uint64_t page, uint64_t end)
{
	while (page < end && state_armed(view, page))
		page++;
	return page;
}
