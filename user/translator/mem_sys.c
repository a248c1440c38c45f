// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The guest's memory calls: mmap, munmap, mprotect, brk.
 *
 * Each does what the kernel would do natively, with three differences: no
 * mapping is executable for the host, shared shmem is mapped through a view,
 * and what is not the guest's (the map says) cannot be touched by it: unmapping
 * skips it, mapping over it is ENOMEM, as if it were out of bounds.
 *
 * Owns the break. With rt_lock held.
 */
#include "mem.h"
#include "fd.h"
#include "raw_syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define ST_NOEXEC_FLAG 0x0008

bool mem_read_implies_exec;

static uint64_t brk_start, brk_now;

bool mem_is_view(const struct region *r)
{
	return r->kind == R_PVIEW || r->kind == R_SHM;
}

bool mem_bad_range(uint64_t addr, uint64_t len)
{
	return addr % PAGE || addr > TASK_END || len > TASK_END - addr;
}

/* Take back what backs [start, end), which is in the map as whole regions. */
void mem_release(uint64_t start, uint64_t end, bool unmap_plain)
{
	mem_forget_code(start, end);
	for (size_t i = map_split(start);;) {
		struct region *r = map_index(i), was;

		if (!r || r->start >= end)
			break;
		was = *r;
		if (mem_is_view(r))
			codewp_unmap(the_ctx, (void *)r->start, r->end - r->start);
		else if (unmap_plain && !r->foreign)
			raw_syscall(SYS_munmap, r->start, r->end - r->start, 0, 0, 0, 0);
		map_remove(was.start, was.end);
		if (was.kind == R_PVIEW)
			view_private_free(was.mv, was.voff, was.end - was.start);
		else if (was.kind == R_SHM)
			view_shm_unused(was.mv);
	}
}

/*
 * MAP_FIXED: whatever in [start, end) is nobody's is reserved, so that a mapping
 * of ours there is found out before anything is lost. The parts that are the
 * guest's stay mapped for the kernel to replace, but for views.
 */
int mem_claim(uint64_t start, uint64_t end)
{
	uint64_t at = start;
	struct region *r;
	long ret;

	map_grown(start, end);
	while (at < end) {
		uint64_t stop;

		r = map_next(at);
		if (r && r->start <= at) {
			ret = -EEXIST;
			if (r->foreign)
				goto undo;
			at = r->end;
			continue;
		}
		stop = r && r->start < end ? r->start : end;
		ret = raw_syscall(SYS_mmap, at, stop - at, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				  MAP_FIXED_NOREPLACE, -1, 0);
		if (ret < 0)
			goto undo;
		at = stop;
	}
	map_split(start);
	map_split(end);
	mem_release(start, end, false);
	return 0;
undo:
	while (at > start) {
		/* Free again what was reserved: the gaps below. */
		uint64_t low = start;

		for (r = map_next(start); r && r->start < at; r = map_next(r->end))
			low = r->end;
		if (low < at)
			raw_syscall(SYS_munmap, low, at - low, 0, 0, 0, 0);
		r = map_at(low - 1);
		at = r && low > start ? r->start : start;
	}
	return ret == -EEXIST ? -ENOMEM : ret;
}

void mem_forget_file(dev_t dev, ino_t ino)
{
	struct region *r;

	for (size_t i = 0; (r = map_index(i)); i++)
		if (r->ino == ino && r->dev == dev)
			mem_forget_code(r->start, r->end);
}

/*
 * A disk file that is mapped shared and writable changes below its private
 * mappings, pages that they have not copied, without any call.
 */
static void check_private(dev_t dev, ino_t ino)
{
	struct region *r;

	for (size_t i = 0; (r = map_index(i)); i++) {
		if (r->kind != R_FILE || r->ino != ino || r->dev != dev)
			continue;
		mem_forget_code(r->start, r->end);
		r->checked = true;
	}
}

static bool mapped_writable(dev_t dev, ino_t ino)
{
	struct region *r;

	for (size_t i = 0; (r = map_index(i)); i++)
		if (r->kind == R_SHARED && !r->no_write && r->ino == ino && r->dev == dev)
			return true;
	return false;
}

struct file_info {
	dev_t dev;
	ino_t ino;
	bool shmem, regular, read_only, no_exec;
};

static int file_info(int fd, struct file_info *fi)
{
	struct statfs fs;
	struct stat stb;
	int fl = fcntl(fd, F_GETFL);

	if (fl < 0 || fstat(fd, &stb))
		return -errno;
	if (fstatfs(fd, &fs))
		return -errno;
	fi->no_exec = fs.f_flags & ST_NOEXEC_FLAG;
	fi->dev = stb.st_dev;
	fi->ino = stb.st_ino;
	fi->regular = S_ISREG(stb.st_mode);
	fi->shmem = fi->regular && (unsigned long)fs.f_type == TMPFS_MAGIC;
	fi->read_only = (fl & O_ACCMODE) == O_RDONLY;
	return 0;
}

/* The kernel's own checks of a shared mapping, done before a view is made. */
static long check_shm(uint64_t len, int prot, int flags, int fd, uint64_t off)
{
	long p = raw_syscall(SYS_mmap, 0, len, host_prot(prot),
			     flags & ~(MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_POPULATE |
				       MAP_LOCKED), fd, off);

	if (p < 0)
		return p;
	raw_syscall(SYS_munmap, p, len, 0, 0, 0, 0);
	return 0;
}

/*
 * Map a view where the kernel would put the guest's mapping: the library's own
 * mappings without a place go to the runtime's region (mem.c).
 */
long mem_map_view(struct mview *mv, uint64_t addr, uint64_t len, uint64_t voff,
		     int prot, int flags)
{
	bool placed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	void *p = (void *)addr;
	int err;

	flags &= ~(MAP_TYPE | MAP_ANONYMOUS);
	if (!placed) {
		long at = raw_syscall(SYS_mmap, addr, len, PROT_NONE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				      (flags & MAP_32BIT), -1, 0);

		if (at < 0)
			return at;
		p = (void *)at;
		flags |= MAP_FIXED;
	}
	err = codewp_map(mv->view, &p, len, voff, host_prot(prot), flags);
	if (!err)
		return (long)p;
	if (!placed)
		raw_syscall(SYS_munmap, (long)p, len, 0, 0, 0, 0);
	return err;
}

/*
 * A sanitizer makes sure that nobody maps what lies between its own areas. The
 * runtime's region is as good as reserved: nothing of the guest can be there.
 */
static long reserve_around(uint64_t addr, uint64_t len, int flags)
{
	uint64_t end = addr + len;
	long ret = 0;

	if (addr < RUNTIME_BASE)
		ret = mem_mmap(addr, RUNTIME_BASE - addr, PROT_NONE, flags, -1, 0);
	if (ret >= 0 && end > RUNTIME_END)
		ret = mem_mmap(RUNTIME_END, end - RUNTIME_END, PROT_NONE, flags, -1, 0);
	return ret < 0 ? ret : (long)addr;
}

static long map_region(const struct region *r, uint64_t addr, uint64_t len, int flags, int fd,
		       uint64_t off)
{
	if (r->mv)
		return mem_map_view(r->mv, addr, len, r->voff, r->prot, flags);
	return raw_syscall(SYS_mmap, addr, len, host_prot(r->prot), flags, fd, off);
}

/**
 * mem_mmap() - mmap of the guest
 * @addr: with MAP_FIXED the place, else a hint
 * @len: bytes
 * @prot: guest's; PROT_EXEC is only noted down
 * @flags: MAP_*
 * @fd: descriptor; the caller has refused the guest a guarded one
 * @off: offset in the file
 *
 * Return: the address or -errno.
 */
long mem_mmap(uint64_t addr, uint64_t len, int prot, int flags, int fd, uint64_t off)
{
	bool anon = flags & MAP_ANONYMOUS, fixed = flags & MAP_FIXED;
	int type = flags & MAP_TYPE;
	bool shared = type == MAP_SHARED || type == MAP_SHARED_VALIDATE;
	struct region r = { .prot = prot & 7, .foff = anon ? 0 : off };
	struct file_info fi = { 0 };
	uint64_t near = 0;
	long ret;
	int err;

	if (!len || off % PAGE)
		return -EINVAL;
	len = PAGE_UP(len);
	if (!len || len > TASK_END)
		return -ENOMEM;
	if (fixed && addr % PAGE)
		return -EINVAL;
	if (fixed && (addr > TASK_END || len > TASK_END - addr))
		return -ENOMEM;
	if (fixed && anon && !shared && prot == PROT_NONE && addr <= RUNTIME_BASE &&
	    addr + len >= RUNTIME_END)
		return reserve_around(addr, len, flags);
	ret = mem_limit_add(fixed ? addr : 0, len, !shared && prot & PROT_WRITE);
	if (ret)
		return ret;
	if (!anon) {
		err = file_info(fd, &fi);
		if (err)
			return err;
		/* The host never sees PROT_EXEC, so this check is ours. */
		if (fi.no_exec && prot & PROT_EXEC)
			return -EPERM;
	}
	if (mem_read_implies_exec && prot & PROT_READ && !fi.no_exec)
		r.prot |= PROT_EXEC;
	if (map_reserve(8))
		return -ENOMEM;

	r.dev = fi.dev;
	r.ino = fi.ino;
	r.noreserve = flags & MAP_NORESERVE;
	r.grows = flags & MAP_GROWSDOWN;
	r.no_view = flags & (MAP_STACK | MAP_GROWSDOWN | MAP_HUGETLB);
	if (!shared)
		r.kind = anon ? flags & MAP_HUGETLB ? R_SHARED : R_ANON : R_FILE;
	else
		r.kind = R_SHARED;
	/* Files other than regular ones change without being written. */
	r.checked = r.kind == R_FILE && (fi.shmem || !fi.regular ||
					 mapped_writable(fi.dev, fi.ino));
	r.no_exec = fi.no_exec;
	r.no_write = shared && !anon && fi.read_only;

	if (shared && (fi.shmem || anon) && !(flags & MAP_HUGETLB)) {
		ret = check_shm(len, prot, flags, fd, off);
		if (ret < 0)
			return ret;
		if (!mem_may_make_views())
			err = -EPERM;
		else if (anon)
			err = view_shm_anon(len, &r.mv);
		else
			err = view_shm_get(fd, off, len, &r.mv);
		if (!err) {
			r.kind = R_SHM;
			r.dev = r.mv->dev;
			r.ino = r.mv->ino;
			r.voff = anon ? 0 : off - r.mv->file_off;
		} else if (anon && err != -EPERM) {
			return -ENOMEM;
		} else {
			/* Writes to it are seen by nobody: not by its views, if any. */
			r.mv = NULL;
			view_shm_unsafe(r.dev, r.ino);
		}
	}
	/* Empty: nothing has to be moved later. */
	if (prot & PROT_WRITE && prot & PROT_EXEC && mem_promote_eager(len) &&
	    mem_may_promote(&r) && !view_private_alloc(len, &r.mv, &r.voff))
		r.kind = R_PVIEW;

	if (r.mv)
		r.mv->held++;
	if (fixed) {
		err = mem_claim(addr, addr + len);
		if (err) {
			ret = err;
			goto out;
		}
	} else if (!addr && (anon || fi.regular)) {
		near = mem_near_mmap(len, r.prot, flags, fd, off);
	}
	ret = -EEXIST;
	/* As a hint it is not good enough for a kernel that wants huge pages (6.7). */
	if (near)
		ret = map_region(&r, near, len, flags | MAP_FIXED_NOREPLACE, fd, off);
	if (ret < 0)
		ret = map_region(&r, addr, len, flags, fd, off);
	if (ret >= 0) {
		r.start = ret;
		r.end = ret + len;
		map_add(&r);
		if (r.kind == R_SHARED && !anon && !r.no_write)
			check_private(r.dev, r.ino);
	} else if (fixed) {
		/* All of it was claimed. */
		raw_syscall(SYS_munmap, addr, len, 0, 0, 0, 0);
	}
out:
	if (ret < 0 && r.kind == R_PVIEW)
		view_private_free(r.mv, r.voff, len);
	if (r.mv) {
		r.mv->held--;
		view_shm_unused(r.mv);
	}
	return ret;
}

long mem_munmap(uint64_t addr, uint64_t len)
{
	if (!len || mem_bad_range(addr, len))
		return -EINVAL;
	len = PAGE_UP(len);
	if (map_reserve(4))
		return -ENOMEM;
	map_grown(addr, addr + len);
	map_split(addr);
	map_split(addr + len);
	mem_release(addr, addr + len, true);
	return 0;
}

/* mprotect of one region's part: [start, end) is inside of it. */
static long protect_part(struct region *r, uint64_t start, uint64_t end, int prot,
			 int extra)
{
	int guest = prot & 7;
	long ret;

	if (mem_read_implies_exec && guest & PROT_READ && !r->no_exec)
		guest |= PROT_EXEC;
	if ((r->no_write && guest & PROT_WRITE) || (r->no_exec && guest & PROT_EXEC) ||
	    r->foreign)
		return -EACCES;
	if (guest == r->prot && !extra)
		return 0;
	if (guest & ~r->prot & PROT_WRITE && r->kind != R_SHM && r->kind != R_SHARED &&
	    mem_limit_data(start, end - start))
		return -ENOMEM;
	/* Before it becomes writable and executable. If it cannot be moved now, its
	 * blocks check themselves.
	 */
	if (prot & PROT_WRITE && prot & PROT_EXEC && mem_promote_eager(end - start) &&
	    mem_may_promote(r) && !mem_promote(start, end))
		r = map_at(start);
	if (!mem_is_view(r) && guest & ~r->prot & PROT_WRITE)
		mem_forget_code(start, end);	/* another thread may write it at once */
	if (mem_is_view(r))
		ret = codewp_protect(the_ctx, (void *)start, end - start, host_prot(guest));
	else
		ret = raw_syscall(SYS_mprotect, start, end - start,
				  host_prot(guest) | extra, 0, 0, 0);
	if (ret)
		return ret;
	mem_forget_code(start, end);
	map_set_prot(start, end, guest);
	r = map_at(start);
	if (r->kind == R_PVIEW && guest & PROT_WRITE)
		core_warm(start, end, view_page(r, start));
	return 0;
}

long mem_mprotect(uint64_t addr, uint64_t len, int prot)
{
	int extra = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
	uint64_t end;

	if (mem_bad_range(addr, 0) || prot & ~(7 | PROT_GROWSDOWN | PROT_GROWSUP))
		return -EINVAL;
	if (extra == (PROT_GROWSDOWN | PROT_GROWSUP))
		return -EINVAL;
	if (!len)
		return 0;
	len = PAGE_UP(len);
	if (!len || len > TASK_END - addr)
		return -ENOMEM;
	end = addr + len;
	map_grown(addr, end);
	if (extra) {
		struct region *r = map_at(addr);

		if (!r)
			return -ENOMEM;
		/* From the lowest page of a stack that is there so far. */
		if ((r->kind == R_STACK || r->grows) && extra == PROT_GROWSDOWN) {
			long ret = raw_syscall(SYS_mprotect, addr, len,
					       host_prot(prot & 7) | extra, 0, 0, 0);

			if (ret)
				return ret;
			mem_forget_code(r->start, end);
			if (map_reserve(4))
				return -ENOMEM;
			map_set_prot(r->start, end, prot & 7);
			return 0;
		}
		return -EINVAL;
	}
	while (addr < end) {
		struct region *r = map_at(addr);
		uint64_t to;
		long ret;

		if (!r)
			return -ENOMEM;
		if (map_reserve(4))
			return -ENOMEM;
		r = map_at(addr);
		to = r->end < end ? r->end : end;
		ret = protect_part(r, addr, to, prot, 0);
		if (ret)
			return ret;
		addr = to;
	}
	return 0;
}

/* ---- brk, stack ---------------------------------------------------------- */

void mem_set_brk(uint64_t start)
{
	brk_start = brk_now = start;
}

/**
 * mem_brk() - brk of the guest
 *
 * Return: the break afterwards, never an error.
 */
long mem_brk(uint64_t addr)
{
	uint64_t old = PAGE_UP(brk_now), new = PAGE_UP(addr);

	if (addr < brk_start || addr > TASK_END)
		return brk_now;
	if (new > old) {
		struct region r = {
			.start = old, .end = new, .kind = R_BRK,
			.prot = PROT_READ | PROT_WRITE |
				(mem_read_implies_exec ? PROT_EXEC : 0),
		};

		if (map_reserve(2) || !map_free(old, new) ||
		    mem_limit_add(0, new - old, true) ||
		    raw_syscall(SYS_mmap, old, new - old, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
				-1, 0) < 0)
			return brk_now;
		map_add(&r);
	} else if (new < old) {
		mem_munmap(new, old - new);
	}
	brk_now = addr;
	return brk_now;
}

int mem_add_stack(uint64_t low, uint64_t high, int prot)
{
	struct region r = { .start = low, .end = high, .kind = R_STACK, .prot = prot };

	if (map_reserve(1))
		return -ENOMEM;
	map_add(&r);
	return 0;
}

/* ---- files changed by system calls --------------------------------------- */

/**
 * mem_file_written() - a system call has written to, or truncated, this file
 *
 * No page table is involved in that, so no trap tells of it.
 */
void mem_file_written(int fd)
{
	bool mine = rt_lock_mine();
	struct stat stb;

	if (fstat(fd, &stb) || !S_ISREG(stb.st_mode))
		return;
	if (!mine)
		rt_lock();
	mem_forget_file(stb.st_dev, stb.st_ino);
	if (!mine)
		rt_unlock();
}

void mem_all_written(void)
{
	bool mine = rt_lock_mine();
	struct region *r;

	if (!mine)
		rt_lock();
	for (size_t i = 0; (r = map_index(i)); i++)
		mem_forget_code(r->start, r->end);
	if (!mine)
		rt_unlock();
}
