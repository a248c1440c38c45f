// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The map of the guest's address space: a sorted array of regions.
 *
 * Owns the array and nothing else: nothing is mapped here, and whatever a region
 * points to is its caller's. rt_lock is held.
 */
#include "mem.h"
#include "raw_syscall.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static struct region *map;
static size_t nr, cap;
static bool may_grow;		/* some region has grows set, or had */

/* Index of the first region that ends after addr. No libc: runs in upcalls. */
static size_t lower(uint64_t addr)
{
	size_t lo = 0, hi = nr;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (map[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct region *map_next(uint64_t addr)
{
	size_t i = lower(addr);

	return i < nr ? &map[i] : NULL;
}

struct region *map_at(uint64_t addr)
{
	struct region *r = map_next(addr);

	return r && r->start <= addr ? r : NULL;
}

struct region *map_index(size_t i)
{
	return i < nr ? &map[i] : NULL;
}

int map_reserve(size_t more)
{
	struct region *p;
	size_t want = nr + more;

	if (want <= cap)
		return 0;
	want = want * 2 + 64;
	p = realloc(map, want * sizeof(*map));
	if (!p)
		return -ENOMEM;
	map = p;
	cap = want;
	return 0;
}

static void insert_at(size_t i, const struct region *r)
{
	memmove(&map[i + 1], &map[i], (nr - i) * sizeof(*map));
	map[i] = *r;
	nr++;
}

static void delete_range(size_t from, size_t to)
{
	if (from == to)
		return;
	memmove(&map[from], &map[to], (nr - to) * sizeof(*map));
	nr -= to - from;
}

/* Needs room for one entry: callers reserve two for the ends of a range. */
size_t map_split(uint64_t addr)
{
	size_t i = lower(addr);
	struct region low;

	if (i == nr || map[i].start >= addr)
		return i;
	low = map[i];
	low.end = addr;
	map[i].voff += addr - map[i].start;
	map[i].foff += addr - map[i].start;
	map[i].start = addr;
	insert_at(i, &low);
	return i + 1;
}

/* Is anything mapped at this page? */
static bool page_there(uint64_t addr)
{
	unsigned char vec;

	return !raw_syscall(SYS_mincore, addr, PAGE, (long)&vec, 0, 0, 0);
}

/*
 * A mapping with MAP_GROWSDOWN is as low as its lowest access; the kernel has let
 * it grow. Take that over for those that may reach into [start, end).
 */
void map_grown(uint64_t start, uint64_t end)
{
	for (size_t i = lower(start); may_grow && i < nr; i++) {
		uint64_t low = i ? map[i - 1].end : 0;

		if (map[i].grows)
			while (map[i].start > low && page_there(map[i].start - PAGE))
				map[i].start -= PAGE;
		if (map[i].start >= end)
			return;
	}
}

static bool can_merge(const struct region *a, const struct region *b)
{
	uint64_t d = b->start - a->start;

	if (a->end != b->start || a->kind != b->kind || a->prot != b->prot ||
	    a->mv != b->mv || a->dev != b->dev || a->ino != b->ino ||
	    a->checked != b->checked || a->no_write != b->no_write ||
	    a->no_exec != b->no_exec || a->noreserve != b->noreserve ||
	    a->no_view != b->no_view || a->dontfork != b->dontfork || a->wipe != b->wipe ||
	    a->foreign || b->foreign || a->sysv != b->sysv || b->grows)
		return false;
	switch (a->kind) {
	case R_ANON:
	case R_BRK:
	case R_STACK:
		return true;
	case R_PVIEW:
		return a->voff + d == b->voff;
	default:
		return a->foff + d == b->foff;
	}
}

static void try_merge(size_t i)
{
	if (i + 1 >= nr || !can_merge(&map[i], &map[i + 1]))
		return;
	map[i].end = map[i + 1].end;
	map[i].code |= map[i + 1].code;
	delete_range(i + 1, i + 2);
}

void map_add(const struct region *r)
{
	size_t i = lower(r->start);

	core_cool(r->start, r->end);
	may_grow |= r->grows;
	insert_at(i, r);
	try_merge(i);
	if (i)
		try_merge(i - 1);
}

void map_remove(uint64_t start, uint64_t end)
{
	size_t i = map_split(start);

	core_cool(start, end);
	delete_range(i, map_split(end));
}

/* [i, last) may have become alike. */
static void merge_range(size_t i, size_t last)
{
	/* From the top, so that indices below stay what they are. */
	while (last-- > i)
		try_merge(last);
	if (i)
		try_merge(i - 1);
}

void map_set_prot(uint64_t start, uint64_t end, int prot)
{
	size_t i = map_split(start), last = map_split(end);

	core_cool(start, end);
	for (size_t k = i; k < last; k++)
		map[k].prot = prot;
	merge_range(i, last);
}

void map_advise_fork(uint64_t start, uint64_t end, int advice)
{
	size_t i = map_split(start), last = map_split(end);

	for (size_t k = i; k < last; k++) {
		if (advice == MADV_DONTFORK || advice == MADV_DOFORK)
			map[k].dontfork = advice == MADV_DONTFORK;
		else
			map[k].wipe = advice == MADV_WIPEONFORK;
	}
	merge_range(i, last);
}

bool map_covers(uint64_t start, uint64_t end)
{
	for (size_t i = lower(start); start < end; i++) {
		if (i == nr || map[i].start > start)
			return false;
		start = map[i].end;
	}
	return true;
}

bool map_free(uint64_t start, uint64_t end)
{
	struct region *r = map_next(start);

	return !r || r->start >= end;
}

bool map_uses(const struct mview *mv)
{
	for (size_t i = 0; i < nr; i++)
		if (map[i].mv == mv)
			return true;
	return false;
}
