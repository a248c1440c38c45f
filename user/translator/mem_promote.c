// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Moving private anonymous memory into a private view, while other threads use
 * it.
 *
 * Memory that becomes writable and executable is moved at once; very large
 * pieces of it, and what is executable only because everything readable is, when
 * code is first run from them. While it is copied nobody can write it: a guest
 * thread that tries faults, and mem_fault_again() makes it wait and try
 * again; a system call waits before it enters the kernel (mem_kwrite.c). One
 * that is in the kernel already may come to write at any time, so then the
 * memory stays what it is, and its blocks check themselves.
 *
 * With rt_lock held, but for mem_fault_again(), which takes it.
 */
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PROMOTE_EAGER	(64UL << 20)	/* at once, else where code runs */
#define PROMOTE_WHOLE	(4UL << 20)	/* a mapping up to this moves as one */
#define PROMOTE_PIECE	(2UL << 20)	/* of a larger one, this much */
#define PAGEMAP_MIN	64		/* pages: below, reading them all is cheaper */
#define PM_THERE	(3UL << 62)	/* present or swapped out */

/* False: there is no memory for it. */
static bool copy_page(char *to, const char *from)
{
	const uint64_t *q = (const uint64_t *)from;
	unsigned int i = 0;

	/* A page that holds nothing stays a hole. */
	while (i < PAGE / 8 && !q[i])
		i++;
	return i == PAGE / 8 || !guest_copy(to, from, PAGE);
}

/*
 * Reading a page that was never touched maps it, so for much memory the kernel
 * is asked which pages there are.
 */
static bool copy_to_alias(char *to, const char *from, uint64_t len)
{
	uint64_t n = len / PAGE, entry[256];
	bool ok = true;
	long fd = -1;

	if (n >= PAGEMAP_MIN)
		fd = raw_syscall(SYS_open, (long)"/proc/self/pagemap", O_RDONLY | O_CLOEXEC,
				 0, 0, 0, 0);
	for (uint64_t i = 0; ok && i < n; i += 256) {
		uint64_t m = n - i < 256 ? n - i : 256;
		long got = -1;

		if (fd >= 0)
			got = raw_syscall(SYS_pread64, fd, (long)entry, m * 8,
					  ((uint64_t)from / PAGE + i) * 8, 0, 0);
		for (uint64_t k = 0; ok && k < m; k++)
			if (got != (long)m * 8 || entry[k] & PM_THERE)
				ok = copy_page(to + (i + k) * PAGE, from + (i + k) * PAGE);
	}
	if (fd >= 0)
		raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	return ok;
}

/* May so much be moved at once, or only where code runs? */
bool mem_promote_eager(uint64_t len)
{
	return len <= (mem_overcommit_never ? PROMOTE_WHOLE : PROMOTE_EAGER);
}

/*
 * In a child of vfork no view is made: the memory is its parent's, too, but the
 * descriptors are not.
 */
bool mem_may_make_views(void)
{
	const struct process *proc = this_cpu()->proc;

	return !proc || !proc->vforked;
}

bool mem_may_promote(const struct region *r)
{
	return r->kind == R_ANON && !r->no_view && mem_may_make_views();
}

/**
 * mem_promote() - move [start, end) into a private view
 * @start: in one region that mem_may_promote(), page aligned
 * @end: in the same one
 *
 * Return: 0, and its region is another one; or -errno, and nothing has changed:
 * -EBUSY when a system call of another thread may be writing there.
 */
int mem_promote(uint64_t start, uint64_t end)
{
	struct region *r = map_at(start), n;
	bool alone = kwrite_alone();
	void *addr = (void *)start;
	struct mview *mv;
	uint64_t voff;
	int host, err;

	err = map_reserve(4);
	if (err)
		return err;
	r = map_at(start);
	n = *r;
	host = host_prot(n.prot);
	err = view_private_alloc(end - start, &mv, &voff);
	if (err)
		return err;
	if (!alone) {
		kwrite_freeze(start, end);
		err = kwrite_in_flight(start, end) ? -EBUSY : 0;
		if (err)
			goto free;
	}
	/* Not writable while others may write it; readable for the copy. */
	if (host == PROT_NONE || (!alone && host & PROT_WRITE)) {
		err = raw_syscall(SYS_mprotect, start, end - start, PROT_READ, 0, 0, 0);
		if (err)
			goto free;
	}
	err = copy_to_alias(mv->alias + voff, (const char *)start, end - start) ? 0 : -ENOMEM;
	mem_forget_code(start, end);
	if (!err)
		err = codewp_map(mv->view, &addr, end - start, voff, host,
				 MAP_FIXED | MAP_NORESERVE);
	if (err) {
		raw_syscall(SYS_mprotect, start, end - start, host, 0, 0, 0);
		goto free;
	}
	map_remove(start, end);
	n.start = start;
	n.end = end;
	n.kind = R_PVIEW;
	n.mv = mv;
	n.voff = voff;
	n.code = false;
	map_add(&n);
	st.promoted_pages += (end - start) / PAGE;
	if (!alone)
		kwrite_thaw();
	return 0;
free:
	if (!alone)
		kwrite_thaw();
	view_private_free(mv, voff, end - start);
	return err;
}

/**
 * mem_promote_around() - move the piece of r that holds gva
 *
 * A mapping of moderate size as a whole, of a larger one a piece.
 *
 * Return: as mem_promote(). r is invalid afterwards.
 */
int mem_promote_around(const struct region *r, uint64_t gva)
{
	uint64_t start = r->start, end = r->end;

	if (!mem_may_promote(r))
		return -EINVAL;
	if (end - start > PROMOTE_WHOLE) {
		uint64_t piece = gva & ~(PROMOTE_PIECE - 1);

		if (start < piece)
			start = piece;
		if (end > piece + PROMOTE_PIECE)
			end = piece + PROMOTE_PIECE;
	}
	return mem_promote(start, end);
}

/*
 * Does the kernel let it happen? What is armed, and what is behind the end of a
 * file, is not populated; before Linux 5.14 nothing is.
 *
 * But where a system call may write to an armed page, this is one: it would open the
 * page, and the store that is tried again would not trap. There a view's page that
 * can be read and has a writable mapping can be written, or traps.
 */
static bool can_populate(const struct region *r, uint64_t addr, bool write)
{
	if (r->mv && codewp_backend_info(the_ctx)->can & CODEWP_CAN_KERNEL_WRITES)
		write = false;
	return !raw_syscall(SYS_madvise, addr & -PAGE, PAGE,
			    write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ, 0, 0, 0);
}

/* Takes rt_lock: whoever was changing the map is done then. */
enum mem_access mem_fault_again(uint64_t addr, bool write)
{
	enum mem_access access = MEM_FAULTS;
	bool mine = rt_lock_mine();
	struct region *r;

	if (addr >= TASK_END)
		return access;
	if (!mine)
		rt_lock();
	map_grown(addr, addr + 1);
	r = map_at(addr);
	/* Below a stack there is less than its region says. */
	if (r && r->kind != R_STACK &&
	    r->prot & (write ? PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC))
		access = can_populate(r, addr, write) ? MEM_WORKS : MEM_UNCLEAR;
	if (!mine)
		rt_unlock();
	return access;
}

bool mem_mapped(uint64_t addr)
{
	bool mapped;

	if (addr >= TASK_END)
		return false;
	rt_lock();
	map_grown(addr, addr + 1);
	mapped = map_at(addr);
	rt_unlock();
	return mapped;
}
