// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * madvise of the guest. Private memory that is in a view is shared memory to the
 * kernel: what advice does to such is made up for here.
 *
 * With rt_lock held.
 */
#include "mem.h"
#include "raw_syscall.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Memory that is private to the guest, and shared memory to the kernel. */
static long advise_private_view(struct region *r, uint64_t start, uint64_t end, int advice)
{
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
	case MADV_FREE:
		/* It reads as zero afterwards. */
		mem_forget_code(start, end);
		return view_punch(r->mv, r->voff + start - r->start, end - start);
	case MADV_REMOVE:
		return -EINVAL;
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
		/* Anonymous memory might be merged; this is not. */
		return 0;
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		/* The view itself never goes to a child: mem_fork.c does this. */
		return 0;
	case MADV_DODUMP:
		/* Mappings that cannot grow are refused it; they are dumped anyway. */
		raw_syscall(SYS_madvise, start, end - start, advice, 0, 0, 0);
		return 0;
	}
	return 1;
}

/* 1: it is the kernel's to do. */
static long advise_view(struct region *r, uint64_t start, uint64_t end, int advice)
{
	long ret = 1;

	if (r->kind == R_PVIEW)
		ret = advise_private_view(r, start, end, advice);
	if (ret != 1)
		return ret;
	switch (advice) {
	case MADV_REMOVE:
		/* Code may have been made from another mapping of it. */
		mem_forget_file(r->dev, r->ino);
		ret = codewp_disarm(r->mv->view, r->voff + start - r->start, end - start);
		return ret ? ret : 1;
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_COLLAPSE:
		/* Pages are armed one by one. */
		return 0;
	case MADV_POPULATE_WRITE:
		if (!(r->prot & PROT_WRITE))
			return -EINVAL;
		/* A write would trap; reading makes the pages all the same. */
		return raw_syscall(SYS_madvise, start, end - start, MADV_POPULATE_READ, 0, 0, 0);
	}
	return 1;
}

static long advise_part(struct region *r, uint64_t start, uint64_t end, int advice)
{
	long ret = 1;

	if (mem_is_view(r))
		ret = advise_view(r, start, end, advice);
	else if (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED ||
		 advice == MADV_FREE || advice == MADV_REMOVE)
		mem_forget_code(start, end);
	if (ret == 1)
		ret = raw_syscall(SYS_madvise, start, end - start, advice, 0, 0, 0);
	if (ret)
		return ret;
	switch (advice) {
	case MADV_REMOVE:
		if (r->kind == R_SHARED)
			mem_forget_file(r->dev, r->ino);
		break;
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		if (map_reserve(4))
			return -ENOMEM;
		map_advise_fork(start, end, advice);
		break;
	}
	return 0;
}

long mem_madvise(uint64_t addr, uint64_t len, int advice)
{
	uint64_t end, at;
	long hole = 0;

	/* What these do is not seen by the map. */
	if (advice == MADV_HWPOISON || advice == MADV_SOFT_OFFLINE)
		return -EPERM;
	if (mem_bad_range(addr, 0))
		return -EINVAL;
	/* An unknown advice is the kernel's to refuse, also for an empty range. */
	if (!len || PAGE_UP(len) > TASK_END - addr || !PAGE_UP(len))
		return raw_syscall(SYS_madvise, addr, len, advice, 0, 0, 0);
	end = addr + PAGE_UP(len);
	for (at = addr; at < end;) {
		struct region *r = map_next(at);
		uint64_t to;
		long ret;

		if (!r || r->start >= end)
			return -ENOMEM;
		if (r->start > at) {
			hole = -ENOMEM;
			at = r->start;
		}
		to = r->end < end ? r->end : end;
		ret = advise_part(r, at, to, advice);
		if (ret)
			return ret;
		at = to;
	}
	return hole;
}

