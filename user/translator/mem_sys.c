// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The guest's memory calls: mmap and its kin, brk.
 *
 * Each does what the kernel would do natively, with three differences: no
 * mapping is executable for the host, shared shmem is mapped through a view,
 * and what is not the guest's (the map says) cannot be touched by it: unmapping
 * skips it, mapping over it is ENOMEM, as if it were out of bounds.
 *
 * Not locked (mem.h).
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

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#define ST_NOEXEC_FLAG 0x0008

bool mem_read_implies_exec;

static uint64_t brk_start, brk_now;

static bool is_view(const struct region *r)
{
	return r->kind == R_PVIEW || r->kind == R_SHM;
}

static bool bad_range(uint64_t addr, uint64_t len)
{
	return addr % PAGE || addr > TASK_END || len > TASK_END - addr;
}

/* Take back what backs [start, end), which is in the map as whole regions. */
static void release(uint64_t start, uint64_t end, bool unmap_plain)
{
	mem_forget_code(start, end);
	for (size_t i = map_split(start);;) {
		struct region *r = map_index(i), was;

		if (!r || r->start >= end)
			break;
		was = *r;
		if (is_view(r))
			codewp_unmap(the_ctx, (void *)r->start, r->end - r->start);
		else if (unmap_plain)
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
static int claim(uint64_t start, uint64_t end)
{
	uint64_t at = start;
	struct region *r;
	long ret;

	while (at < end) {
		uint64_t stop;

		r = map_next(at);
		if (r && r->start <= at) {
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
	release(start, end, false);
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

static void mem_forget_file(dev_t dev, ino_t ino)
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
static long map_view(struct mview *mv, uint64_t addr, uint64_t len, uint64_t voff,
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
		if (anon)
			err = view_shm_anon(len, &r.mv);
		else
			err = view_shm_get(fd, off, len, &r.mv);
		if (!err) {
			r.kind = R_SHM;
			r.dev = r.mv->dev;
			r.ino = r.mv->ino;
			r.voff = anon ? 0 : off - r.mv->file_off;
		} else if (anon) {
			return -ENOMEM;
		} else {
			r.mv = NULL;
		}
	}

	if (r.mv)
		r.mv->held++;
	if (fixed) {
		err = claim(addr, addr + len);
		if (err) {
			ret = err;
			goto out;
		}
	}
	if (r.mv)
		ret = map_view(r.mv, addr, len, r.voff, r.prot, flags);
	else
		ret = raw_syscall(SYS_mmap, addr, len, host_prot(r.prot), flags, fd, off);
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
	if (r.mv) {
		r.mv->held--;
		view_shm_unused(r.mv);
	}
	return ret;
}

long mem_munmap(uint64_t addr, uint64_t len)
{
	if (!len || bad_range(addr, len))
		return -EINVAL;
	len = PAGE_UP(len);
	if (map_reserve(4))
		return -ENOMEM;
	map_split(addr);
	map_split(addr + len);
	release(addr, addr + len, true);
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
	if ((r->no_write && guest & PROT_WRITE) || (r->no_exec && guest & PROT_EXEC))
		return -EACCES;
	if (guest == r->prot && !extra)
		return 0;
	if (is_view(r))
		ret = codewp_protect(the_ctx, (void *)start, end - start, host_prot(guest));
	else
		ret = raw_syscall(SYS_mprotect, start, end - start,
				  host_prot(guest) | extra, 0, 0, 0);
	if (ret)
		return ret;
	mem_forget_code(start, end);
	map_set_prot(start, end, guest);
	return 0;
}

long mem_mprotect(uint64_t addr, uint64_t len, int prot)
{
	int extra = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
	uint64_t end;

	if (bad_range(addr, 0) || prot & ~(7 | PROT_GROWSDOWN | PROT_GROWSUP))
		return -EINVAL;
	if (extra == (PROT_GROWSDOWN | PROT_GROWSUP))
		return -EINVAL;
	if (!len)
		return 0;
	len = PAGE_UP(len);
	if (!len || len > TASK_END - addr)
		return -ENOMEM;
	end = addr + len;
	if (extra) {
		struct region *r = map_at(addr);

		if (!r)
			return -ENOMEM;
		/* From the lowest page of a stack that is there so far. */
		if (r->kind == R_STACK && extra == PROT_GROWSDOWN) {
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

/* ---- mremap -------------------------------------------------------------- */

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

		if (n->prot != r->prot)
			return false;
		if (!(r->kind == R_ANON || r->kind == R_PVIEW) ? n != r : !anon)
			return false;
	}
	return true;
}

/* Move [start, start + len), one region each, to a place reserved at to. */
static long move_parts(uint64_t start, uint64_t len, uint64_t to)
{
	uint64_t end = start + len;

	mem_forget_code(start, end);
	for (size_t i = map_split(start); ;) {
		struct region *r = map_index(i), n;
		void *addr;
		long ret;

		if (!r || r->start >= end)
			return 0;
		n = *r;
		if (is_view(r)) {
			/* The pages are the view's: map them there, unmap them here. */
			addr = (void *)to;
			ret = codewp_map(n.mv->view, &addr, n.end - n.start, n.voff,
					 host_prot(n.prot), MAP_FIXED | MAP_NORESERVE);
			if (!ret)
				ret = codewp_unmap(the_ctx, (void *)n.start,
						   n.end - n.start);
		} else {
			ret = raw_syscall(SYS_mremap, n.start, n.end - n.start,
					  n.end - n.start, MREMAP_MAYMOVE | MREMAP_FIXED,
					  to, 0);
		}
		if (ret < 0)
			return ret;
		map_remove(n.start, n.end);
		len = n.end - n.start;
		n.start = to;
		n.end = to + len;
		map_add(&n);
		to += len;
		/* Where it was is shifted by what was inserted below it. */
		i = map_split(start);
	}
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
	ret = fixed ? claim(new_addr, new_addr + len) : 0;
	if (!ret && n.kind == R_SHM) {
		ret = map_view(n.mv, new_addr, len, n.voff, n.prot, fixed ? MAP_FIXED : 0);
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
 * Return: the new address or -errno. -ENOSYS: a use that is not supported.
 */
long mem_mremap(uint64_t addr, uint64_t old_len, uint64_t new_len, int flags,
		uint64_t new_addr)
{
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
	/* DONTUNMAP is for users of userfaultfd, which the guest cannot have. */
	if (flags & MREMAP_DONTUNMAP)
		return -ENOSYS;
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
	if (!grow && !(flags & MREMAP_FIXED))
		return addr;

	r = map_at(end - 1);
	last = *r;
	if (r->kind == R_FILE || r->kind == R_SHARED || r->kind == R_STACK ||
	    r->kind == R_BRK) {
		/* One region, that the kernel can handle by itself. */
		last = *map_at(addr);
		if (flags & MREMAP_FIXED) {
			ret = claim(new_addr, new_addr + new_len);
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
		map_remove(addr, end);
		last.start = ret;
		last.end = ret + new_len;
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
		ret = extend(&last, end, grow, MAP_FIXED_NOREPLACE);
		if (!ret)
			return addr;
		if (!(flags & MREMAP_MAYMOVE))
			return -ENOMEM;
		to = raw_syscall(SYS_mmap, 0, new_len, PROT_NONE, MAP_PRIVATE |
				 MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if ((int64_t)to < 0)
			return to;
	} else {
		ret = claim(new_addr, new_addr + new_len);
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
		ret = move_parts(addr, old_len, to);
	if (!ret)
		return to;
	/* What was moved is lost, as natively when a move fails half-way. */
	map_split(to);
	map_split(to + new_len);
	release(to, to + new_len, true);
	raw_syscall(SYS_munmap, to, new_len, 0, 0, 0, 0);
	return ret;
}

/* ---- madvise ------------------------------------------------------------- */

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
	if (bad_range(addr, 0))
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
	struct rlimit lim;

	if (addr < brk_start || addr > TASK_END)
		return brk_now;
	if (!raw_syscall(SYS_prlimit64, 0, RLIMIT_DATA, 0, (long)&lim, 0, 0) &&
	    addr - brk_start > lim.rlim_cur)
		return brk_now;
	if (new > old) {
		struct region r = {
			.start = old, .end = new, .kind = R_BRK,
			.prot = PROT_READ | PROT_WRITE |
				(mem_read_implies_exec ? PROT_EXEC : 0),
		};

		if (map_reserve(2) || !map_free(old, new) ||
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
	struct stat stb;

	if (!fstat(fd, &stb) && S_ISREG(stb.st_mode))
		mem_forget_file(stb.st_dev, stb.st_ino);
}

void mem_all_written(void)
{
	struct region *r;

	for (size_t i = 0; (r = map_index(i)); i++)
		mem_forget_code(r->start, r->end);
}
