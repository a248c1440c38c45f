// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * mremap of the guest. What natively is one mapping can be several regions here,
 * where pieces of it were moved into views, and is moved piece by piece.
 *
 * With rt_lock held.
 */
#include "mem.h"
#include "raw_syscall.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/*
 * One native mapping can be several regions here, where pieces were moved into
 * views. All of [start, end) must be what natively was one.
 */
static bool one_mapping(uint64_t start, uint64_t end)
{
	struct region *r = map_at(start), *n;

	if (!r || !map_covers(start, end))
		return false;
	for (n = r; n && n->start < end; n = map_next(n->end)) {
		bool anon = n->kind == R_ANON || n->kind == R_PVIEW;

		if (n->prot != r->prot || n->foreign)
			return false;
		if (!(r->kind == R_ANON || r->kind == R_PVIEW) ? n != r : !anon)
			return false;
	}
	return true;
}

/* The pages of one region to a place reserved at to. */
static long move_part(const struct region *n, uint64_t to, bool stay)
{
	uint64_t len = n->end - n->start;
	void *addr = (void *)to;
	long ret;

	if (!mem_is_view(n))
		return raw_syscall(SYS_mremap, n->start, len, len, MREMAP_MAYMOVE |
				   MREMAP_FIXED | (stay ? MREMAP_DONTUNMAP : 0), to, 0);
	/* The pages are the view's: map them there, unmap them here. */
	ret = codewp_map(n->mv->view, &addr, len, n->voff, host_prot(n->prot),
			 MAP_FIXED | MAP_NORESERVE);
	if (ret || (stay && n->kind == R_SHM))
		return ret;
	ret = codewp_unmap(the_ctx, (void *)n->start, len);
	if (!ret && stay)
		ret = raw_syscall(SYS_mmap, n->start, len, host_prot(n->prot), MAP_PRIVATE |
				  MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	return ret;
}

/*
 * Move [start, start + len), one region each, to a place reserved at to. stay:
 * empty mappings remain, and of shared memory the same.
 */
static long move_parts(uint64_t start, uint64_t len, uint64_t to, bool stay)
{
	uint64_t end = start + len;
	struct region *r, n;
	long ret;

	mem_forget_code(start, end);
	map_split(start);
	while ((r = map_next(start)) && r->start < end) {
		if (map_reserve(8))
			return -ENOMEM;
		n = *map_next(start);
		ret = move_part(&n, to, stay);
		if (ret < 0)
			return ret;
		len = n.end - n.start;
		start = n.end;
		if (!stay)
			map_remove(n.start, n.end);
		if (stay && n.kind == R_PVIEW) {
			struct region old = n;

			map_remove(n.start, n.end);
			old.kind = R_ANON;
			old.mv = NULL;
			old.code = false;
			map_add(&old);
		}
		n.start = to;
		n.end = to + len;
		n.code = false;
		map_add(&n);
		to += len;
	}
	return 0;
}

/* Append more of the same kind at [at, at + len), which is reserved or free. */
static long extend(const struct region *last, uint64_t at, uint64_t len, int flags)
{
	struct region n = *last;
	void *addr = (void *)at;
	long ret;

	n.start = at;
	n.end = at + len;
	n.code = false;
	n.foff = last->foff + (last->end - last->start);
	switch (last->kind) {
	case R_ANON:
	case R_PVIEW:
		n.kind = R_ANON;
		n.mv = NULL;
		ret = raw_syscall(SYS_mmap, at, len, host_prot(n.prot),
				  MAP_PRIVATE | MAP_ANONYMOUS | flags |
				  (n.noreserve ? MAP_NORESERVE : 0), -1, 0);
		break;
	case R_SHM:
		n.voff = last->voff + (last->end - last->start);
		if (n.voff + len > last->mv->len)
			return -ENOMEM;
		ret = codewp_map(last->mv->view, &addr, len, n.voff, host_prot(n.prot),
				 flags);
		break;
	default:
		return -ENOMEM;
	}
	if (ret < 0)
		return ret;
	map_add(&n);
	return 0;
}

/* Old size 0: a second mapping of memory that is shared. */
static long duplicate(uint64_t addr, uint64_t len, int flags, uint64_t new_addr)
{
	struct region *r = map_at(addr), n;
	bool fixed = flags & MREMAP_FIXED;
	long ret;

	if (!r)
		return -EFAULT;
	if ((r->kind != R_SHM && r->kind != R_SHARED) || !(flags & MREMAP_MAYMOVE))
		return -EINVAL;
	n = *r;
	n.voff += addr - n.start;
	n.foff += addr - n.start;
	n.code = false;
	if (n.kind == R_SHM && (len > n.mv->len || n.voff > n.mv->len - len))
		return -ENOMEM;
	if (n.mv)
		n.mv->held++;
	ret = fixed ? mem_claim(new_addr, new_addr + len) : 0;
	if (!ret && n.kind == R_SHM) {
		ret = mem_map_view(n.mv, new_addr, len, n.voff, n.prot, fixed ? MAP_FIXED : 0);
	} else if (!ret) {
		ret = raw_syscall(SYS_mremap, addr, 0, len, flags, new_addr, 0);
	}
	if (n.mv)
		n.mv->held--;
	if (ret < 0)
		return ret;
	n.start = ret;
	n.end = ret + len;
	map_add(&n);
	return ret;
}

/**
 * mem_mremap() - mremap of the guest
 *
 * Return: the new address or -errno.
 */
long mem_mremap(uint64_t addr, uint64_t old_len, uint64_t new_len, int flags,
		uint64_t new_addr)
{
	bool stay = flags & MREMAP_DONTUNMAP;
	uint64_t end, grow, to;
	struct region last, *r;
	long ret;

	if (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) || addr % PAGE)
		return -EINVAL;
	if (flags & MREMAP_FIXED && (!(flags & MREMAP_MAYMOVE) || new_addr % PAGE))
		return -EINVAL;
	old_len = PAGE_UP(old_len);
	new_len = PAGE_UP(new_len);
	if (!new_len || new_len > TASK_END || addr > TASK_END || old_len > TASK_END - addr)
		return -EINVAL;
	if (stay && (!(flags & MREMAP_MAYMOVE) || old_len != new_len))
		return -EINVAL;
	if (map_reserve(16))
		return -ENOMEM;

	if (flags & MREMAP_FIXED) {
		if (new_addr > TASK_END - new_len)
			return -EINVAL;
		if (new_addr < addr + old_len && addr < new_addr + new_len)
			return -EINVAL;
	}
	if (!old_len)
		return duplicate(addr, new_len, flags, new_addr);
	if (new_len < old_len) {
		/* Natively the tail goes first, whatever it is. */
		ret = mem_munmap(addr + new_len, old_len - new_len);
		if (ret)
			return ret;
		old_len = new_len;
	}
	end = addr + old_len;
	if (!one_mapping(addr, end))
		return -EFAULT;
	grow = new_len - old_len;
	if (!grow && !(flags & MREMAP_FIXED) && !stay)
		return addr;

	r = map_at(end - 1);
	last = *r;
	ret = mem_limit_add(0, stay ? new_len : grow, last.prot & PROT_WRITE &&
			    last.kind != R_SHM && last.kind != R_SHARED);
	if (ret)
		return ret;
	if (r->kind == R_FILE || r->kind == R_SHARED || r->kind == R_STACK ||
	    r->kind == R_BRK) {
		/* One region, that the kernel can handle by itself. */
		last = *map_at(addr);
		if (flags & MREMAP_FIXED) {
			ret = mem_claim(new_addr, new_addr + new_len);
			if (ret)
				return ret;
		}
		mem_forget_code(addr, end);
		ret = raw_syscall(SYS_mremap, addr, old_len, new_len, flags, new_addr, 0);
		if (ret < 0) {
			if (flags & MREMAP_FIXED)
				raw_syscall(SYS_munmap, new_addr, new_len, 0, 0, 0, 0);
			return ret;
		}
		last.foff += addr - last.start;
		if (!stay)
			map_remove(addr, end);
		last.start = ret;
		last.end = ret + new_len;
		last.code = false;
		map_add(&last);
		return ret;
	}

	/* Trim the copy to what is inside [addr, end). */
	if (last.start < addr) {
		last.voff += addr - last.start;
		last.foff += addr - last.start;
		last.start = addr;
	}
	last.end = end;
	if (!(flags & MREMAP_FIXED)) {
		ret = grow ? extend(&last, end, grow, MAP_FIXED_NOREPLACE) : -ENOMEM;
		if (!ret)
			return addr;
		if (!(flags & MREMAP_MAYMOVE))
			return -ENOMEM;
		to = raw_syscall(SYS_mmap, 0, new_len, PROT_NONE, MAP_PRIVATE |
				 MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if ((int64_t)to < 0)
			return to;
	} else {
		ret = mem_claim(new_addr, new_addr + new_len);
		if (ret)
			return ret;
		/* The claim leaves the guest's own mappings for mmap to replace. */
		ret = raw_syscall(SYS_mmap, new_addr, new_len, PROT_NONE, MAP_PRIVATE |
				  MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
		if (ret < 0)
			return ret;
		to = new_addr;
	}
	map_split(addr);
	map_split(end);
	ret = grow ? extend(&last, to + old_len, grow, MAP_FIXED) : 0;
	if (!ret)
		ret = move_parts(addr, old_len, to, stay);
	if (!ret)
		return to;
	/* What was moved is lost, as natively when a move fails half-way. */
	map_split(to);
	map_split(to + new_len);
	mem_release(to, to + new_len, true);
	raw_syscall(SYS_munmap, to, new_len, 0, 0, 0, 0);
	return ret;
}

