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

static long advise_part(struct region *r, uint64_t start, uint64_t end, int advice)
{
	uint64_t voff = r->voff + start - r->start;

	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
		if (r->kind == R_PVIEW) {
			/* Private memory reads as zero afterwards. */
			mem_forget_code(start, end);
			return view_punch(r->mv, voff, end - start);
		}
		if (r->kind != R_SHM)
			mem_forget_code(start, end);
		break;
	case MADV_REMOVE:
		mem_forget_code(start, end);
		if (r->kind == R_SHM && r->prot & PROT_WRITE) {
			/* Code may have been made from another mapping of it. */
			mem_forget_file(r->dev, r->ino);
			return view_punch(r->mv, voff, end - start);
		}
		break;
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
		/* Advice for anonymous memory; for what was it, it is only advice. */
		if (r->kind == R_PVIEW && advice != MADV_WIPEONFORK)
			return 0;
		break;
	}
	return raw_syscall(SYS_madvise, start, end - start, advice, 0, 0, 0);
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

