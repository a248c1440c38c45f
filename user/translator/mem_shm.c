// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * System V shared memory, and remap_file_pages.
 *
 * A segment is mapped by shmat() and by nothing else, so it is in no view: blocks
 * made from it check themselves. The kernel knows a segment's mappings by its own
 * records; here they are the regions of kind R_SHARED with sysv set.
 *
 * With rt_lock held.
 */
#include "mem.h"
#include "raw_syscall.h"

#include <errno.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

/**
 * mem_shmat() - shmat of the guest
 *
 * Return: the address or -errno.
 */
long mem_shmat(int id, uint64_t addr, int flags)
{
	struct region r = { .kind = R_SHARED, .sysv = true, .ino = (unsigned int)id };
	struct shmid_ds ds;
	uint64_t len;
	long ret;

	if (addr % PAGE && flags & SHM_RND)
		addr = PAGE_DOWN(addr);
	if (addr % PAGE || (!addr && flags & SHM_REMAP))
		return -EINVAL;
	ret = raw_syscall(SYS_shmctl, id, IPC_STAT, (long)&ds, 0, 0, 0);
	if (ret < 0)
		return ret;
	len = PAGE_UP(ds.shm_segsz);
	if (map_reserve(4))
		return -ENOMEM;
	ret = mem_limit_add(flags & SHM_REMAP ? addr : 0, len, false);
	if (ret)
		return ret;
	if (flags & SHM_REMAP) {
		if (addr > TASK_END || len > TASK_END - addr)
			return -EINVAL;
		ret = mem_claim(addr, addr + len);
		if (ret)
			return ret;
	}
	/* The host never executes guest memory. */
	ret = raw_syscall(SYS_shmat, id, addr, flags & ~SHM_EXEC, 0, 0, 0);
	if (ret < 0) {
		if (flags & SHM_REMAP)
			raw_syscall(SYS_munmap, addr, len, 0, 0, 0, 0);
		return ret;
	}
	r.no_write = flags & SHM_RDONLY;
	r.prot = PROT_READ | (r.no_write ? 0 : PROT_WRITE) |
		 (flags & SHM_EXEC || mem_read_implies_exec ? PROT_EXEC : 0);
	r.start = ret;
	r.end = ret + len;
	map_add(&r);
	return ret;
}

/**
 * mem_shmdt() - shmdt of the guest
 *
 * All that is left of the attachment goes, also in pieces.
 */
long mem_shmdt(uint64_t addr)
{
	struct region *r = map_next(addr);
	ino_t id;
	long ret;

	while (r && !(r->sysv && r->start - r->foff == addr))
		r = map_next(r->end);
	if (!r)
		return -EINVAL;
	id = r->ino;
	ret = raw_syscall(SYS_shmdt, addr, 0, 0, 0, 0, 0);
	if (ret)
		return ret;
	for (r = map_next(addr); r; ) {
		uint64_t end = r->end;

		if (r->sysv && r->ino == id && r->start - r->foff == addr) {
			mem_forget_code(r->start, end);
			map_remove(r->start, end);
		}
		r = map_next(end);
	}
	return 0;
}

/**
 * mem_remap_file_pages() - other pages of the same file at these addresses
 */
long mem_remap_file_pages(uint64_t start, uint64_t len, int prot, uint64_t pgoff)
{
	uint64_t end, off = pgoff * PAGE;
	struct region *r, n;
	long ret;

	start = PAGE_DOWN(start);
	len = PAGE_DOWN(len);
	end = start + len;
	if (prot || !len || end < start || pgoff + len / PAGE < pgoff || off / PAGE != pgoff)
		return -EINVAL;
	if (map_reserve(4))
		return -ENOMEM;
	r = map_at(start);
	if (!r || end > r->end || r->sysv || r->foreign ||
	    (r->kind != R_SHM && r->kind != R_SHARED))
		return -EINVAL;
	n = *r;
	if (n.kind == R_SHM) {
		void *addr = (void *)start;

		n.voff = off - n.mv->file_off;
		if (off < n.mv->file_off || n.voff + len > n.mv->len)
			return -EINVAL;
		ret = codewp_map(n.mv->view, &addr, len, n.voff, host_prot(n.prot), MAP_FIXED);
	} else {
		ret = raw_syscall(SYS_remap_file_pages, start, len, 0, pgoff, 0, 0);
	}
	if (ret)
		return ret;
	mem_forget_code(start, end);
	map_remove(start, end);
	n.start = start;
	n.end = end;
	n.foff = off;
	n.code = false;
	map_add(&n);
	return 0;
}
