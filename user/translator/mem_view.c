// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The views behind guest memory.
 *
 * Private views hold what was private anonymous memory until it was writable and
 * executable; ranges of them are handed out and taken back. Shared views are one
 * or more per shmem file that the guest maps shared, and go with their last
 * mapping, so that the guest can seal its file then. The base view holds nothing:
 * its ring is that of all others, so one look tells whether anything happened.
 *
 * Owns the table of views and their code-map page numbers. Lookups run in
 * upcalls: they use no libc. rt_lock is held.
 */
#include "mem.h"
#include "fd.h"
#include "raw_syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PRIVATE_BYTES	(256UL << 20)	/* least size of a private view */
#define PRIVATE_TIGHT	(16UL << 20)	/* with little address space */
#define SLACK_BYTES	(16UL << 20)	/* a shared file may grow: a view has room */

static struct mview **views;		/* by ascending base */
static size_t nr_views, cap_views;
static struct codewp_stats gone;	/* of views that were dropped */
static uint64_t next_page = FIRST_VIEW_PAGE;
static struct codewp_view *base;

struct mview *view_by_page(uint64_t page)
{
	size_t lo = 0, hi = nr_views;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		struct mview *mv = views[mid];

		if (page < mv->base)
			hi = mid;
		else if (page >= mv->base + (mv->len >> 12))
			lo = mid + 1;
		else
			return mv;
	}
	return NULL;
}

size_t view_count(void)
{
	return nr_views;
}

struct mview *view_index(size_t i)
{
	return views[i];
}

struct codewp_view *mem_base_view(void)
{
	return base;
}

static int new_memfd(const char *name, uint64_t len)
{
	int fd, err;

	fd_open_begin();
	fd = memfd_create(name, MFD_CLOEXEC);
	fd = fd < 0 ? -errno : fd_guard(fd);
	fd_open_end();
	if (fd >= 0 && ftruncate(fd, len)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int base_new(void)
{
	struct codewp_view_opts opts = { .sz = sizeof(opts) };
	int fd = new_memfd("codewp-base", PAGE), err;

	if (fd < 0)
		return fd;
	fd_open_begin();
	err = codewp_view_create(the_ctx, &base, fd, 0, PAGE, &opts);
	fd_open_end();
	close(fd);
	return err;
}

/**
 * mem_init() - make the base view; the backend is open
 *
 * Return: 0 or -errno.
 */
int mem_init(void)
{
	mem_limit_init();
	return base_new();
}

/* The library's side of mv, of what memfd holds. */
static int view_open(struct mview *mv, int memfd)
{
	struct codewp_view_opts opts = {
		.sz = sizeof(opts),
		.private_view = !mv->shared,
		.clients = 1,	/* CODEWP_CLIENT_CODE */
		.cookie = mv->base,
		.share_ring = base,
	};
	void *alias;
	int err;

	fd_open_begin();
	err = codewp_view_create(the_ctx, &mv->view, memfd, mv->file_off, mv->len, &opts);
	if (!err) {
		err = codewp_alias(mv->view, &alias);
		if (err)
			codewp_view_destroy(mv->view);
	}
	fd_open_end();
	if (err)
		return err;
	mv->alias = alias;
	mv->memfd = codewp_view_memfd(mv->view);
	return 0;
}

/* Closes memfd, which is guarded: the library has a duplicate. */
static int view_new(int memfd, uint64_t file_off, uint64_t len, bool shared,
		    struct mview **out)
{
	struct mview *mv = NULL, **p;
	int err = -ENOMEM;

	if (nr_views == cap_views) {
		p = realloc(views, (cap_views * 2 + 16) * sizeof(*p));
		if (!p)
			goto out;
		views = p;
		cap_views = cap_views * 2 + 16;
	}
	mv = calloc(1, sizeof(*mv));
	if (!mv)
		goto out;
	mv->file_off = file_off;
	mv->len = len;
	mv->base = next_page;
	mv->shared = shared;
	mv->fork_fd = -1;
	err = view_open(mv, memfd);
	if (err)
		goto out;
	/* A page between two views belongs to none. */
	next_page += (len >> 12) + 1;
	views[nr_views++] = mv;
	st.views++;
	*out = mv;
out:
	if (err)
		free(mv);
	close(memfd);
	return err;
}

static void add_stats(struct codewp_stats *sum, struct codewp_view *view)
{
	struct codewp_stats s = { 0 };

	if (codewp_view_stats(view, &s))
		return;
	sum->traps += s.traps;
	sum->upcalls += s.upcalls;
	sum->signals += s.signals;
	sum->events += s.events;
	sum->dropped += s.dropped;
	sum->kernel_writes += s.kernel_writes;
	sum->arms += s.arms;
}

/**
 * view_stats() - the backend's counters, over all views that ever were
 */
void view_stats(struct codewp_stats *sum)
{
	*sum = gone;
	for (size_t i = 0; i < nr_views; i++)
		add_stats(sum, views[i]->view);
}

static void view_drop(struct mview *mv)
{
	size_t i = 0;

	add_stats(&gone, mv->view);
	while (views[i] != mv)
		i++;
	nr_views--;
	for (; i < nr_views; i++)
		views[i] = views[i + 1];
	codewp_view_destroy(mv->view);
	free(mv->free);
	free(mv->path);
	free(mv);
}

/**
 * view_fork_child() - in the child of a fork: views of its own
 *
 * The new backend is open, the old one closed. A private view gets the memfd that
 * the parent made for it (fork_fd); one that has none is not used by anything.
 * Code-map page numbers stay as they were.
 *
 * Return: 0 or -errno: the child cannot go on.
 */
int view_fork_child(void)
{
	size_t n = 0;
	int err = base_new();

	memset(&gone, 0, sizeof(gone));
	for (size_t i = 0; i < nr_views; i++) {
		struct mview *mv = views[i];

		if (mv->fork_fd < 0) {
			free(mv->free);
			free(mv->path);
			free(mv);
			continue;
		}
		if (!err)
			err = view_open(mv, mv->fork_fd);
		close(mv->fork_fd);
		mv->fork_fd = -1;
		views[n++] = mv;
	}
	nr_views = n;
	return err;
}

/* ---- private ------------------------------------------------------------- */

static int span_insert(struct mview *mv, size_t i, uint64_t start, uint64_t end)
{
	if (mv->nr_free == mv->cap_free) {
		size_t n = mv->cap_free * 2 + 16;
		struct span *p = realloc(mv->free, n * sizeof(*p));

		if (!p)
			return -ENOMEM;
		mv->free = p;
		mv->cap_free = n;
	}
	for (size_t k = mv->nr_free++; k > i; k--)
		mv->free[k] = mv->free[k - 1];
	mv->free[i].start = start;
	mv->free[i].end = end;
	return 0;
}

static void span_delete(struct mview *mv, size_t i)
{
	mv->nr_free--;
	for (; i < mv->nr_free; i++)
		mv->free[i] = mv->free[i + 1];
}

/* Room that an existing view has. */
static struct mview *take_free(uint64_t len, uint64_t *voff)
{
	for (size_t v = 0; v < nr_views; v++) {
		struct mview *mv = views[v];

		for (size_t i = 0; !mv->shared && i < mv->nr_free; i++) {
			struct span *s = &mv->free[i];

			if (s->end - s->start < len)
				continue;
			*voff = s->start;
			s->start += len;
			if (s->start == s->end)
				span_delete(mv, i);
			return mv;
		}
	}
	return NULL;
}

/**
 * view_private_alloc() - take room in a private view
 * @len: bytes, page aligned
 * @out: the view
 * @voff: offset in it; its content is zero
 *
 * Return: 0 or -errno.
 */
int view_private_alloc(uint64_t len, struct mview **out, uint64_t *voff)
{
	uint64_t size = mem_limit_tight() ? PRIVATE_TIGHT : PRIVATE_BYTES;
	struct mview *mv = take_free(len, voff);
	int fd, err;

	if (size < len)
		size = len;
	if (!mv) {
		fd = new_memfd("codewp-private", size);
		if (fd < 0)
			return fd;
		err = view_new(fd, 0, size, false, &mv);
		if (err)
			return err;
		if (len < size) {
			err = span_insert(mv, 0, len, size);
			if (err) {
				view_drop(mv);
				return err;
			}
		}
		*voff = 0;
	}
	/* Where memory is promised when it is mapped, this must be, too. */
	if (mem_overcommit_never &&
	    fallocate(mv->memfd, FALLOC_FL_KEEP_SIZE, mv->file_off + *voff, len)) {
		err = -errno;
		view_private_free(mv, *voff, len);
		return err == -ENOSPC ? -ENOMEM : err;
	}
	*out = mv;
	return 0;
}

/**
 * view_punch() - make a range of a view's file read as zero again
 *
 * The pages leave the file, and with them every armed page table entry. A
 * backend that keeps the armed state itself is told first.
 *
 * Return: 0 or -errno.
 */
int view_punch(struct mview *mv, uint64_t voff, uint64_t len)
{
	int err = codewp_disarm(mv->view, voff, len);

	if (err)
		return err;
	if (fallocate(mv->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      mv->file_off + voff, len))
		return -errno;
	return 0;
}

/**
 * view_private_free() - give a range back; nothing maps it any more
 *
 * When it cannot be emptied or noted down it is lost, never handed out again.
 */
void view_private_free(struct mview *mv, uint64_t voff, uint64_t len)
{
	uint64_t end = voff + len;
	size_t i = 0;

	if (view_punch(mv, voff, len))
		return;
	while (i < mv->nr_free && mv->free[i].start < voff)
		i++;
	if (i && mv->free[i - 1].end == voff) {
		mv->free[i - 1].end = end;
		if (i < mv->nr_free && mv->free[i].start == end) {
			mv->free[i - 1].end = mv->free[i].end;
			span_delete(mv, i);
		}
	} else if (i < mv->nr_free && mv->free[i].start == end) {
		mv->free[i].start = voff;
	} else {
		span_insert(mv, i, voff, end);
	}
}

/* ---- shared -------------------------------------------------------------- */

static struct mview *shm_lookup(dev_t dev, ino_t ino, uint64_t off, uint64_t len)
{
	for (size_t i = 0; i < nr_views; i++) {
		struct mview *mv = views[i];

		if (mv->shared && mv->dev == dev && mv->ino == ino &&
		    off >= mv->file_off && off + len <= mv->file_off + mv->len)
			return mv;
	}
	return NULL;
}

static void shm_name(struct mview *mv, const struct stat *stb, const char *name)
{
	mv->dev = stb->st_dev;
	mv->ino = stb->st_ino;
	mv->path = strdup(name);
}

/**
 * view_shm_unsafe() - the guest has a mapping of this file that is in no view
 *
 * Where the backend does not see writes through it, blocks made from the file's
 * views check themselves from now on.
 */
void view_shm_unsafe(dev_t dev, ino_t ino)
{
	struct region *r;

	for (size_t i = 0; i < nr_views; i++)
		if (views[i]->shared && views[i]->dev == dev && views[i]->ino == ino)
			views[i]->unsafe = true;
	for (size_t i = 0; (r = map_index(i)); i++)
		if (r->kind == R_SHM && r->mv->unsafe && r->dev == dev && r->ino == ino)
			mem_forget_code(r->start, r->end);
}

/**
 * view_shm_get() - the view of a shmem file
 * @fd: the guest's descriptor, open for reading at least
 * @off: first byte that is to be mapped, page aligned
 * @len: bytes, page aligned
 * @out: a view that covers them
 *
 * Two views may cover the same bytes: code found through either is told of
 * writes through the other by the module; the other backends see no mapping of
 * another view, so the range of the first one that overlaps is refused there.
 *
 * Return: 0; or -errno when no view can hold it (the file may not be written,
 * is sealed, ...).
 */
int view_shm_get(int fd, uint64_t off, uint64_t len, struct mview **out)
{
	uint32_t can = codewp_backend_info(the_ctx)->can;
	uint64_t size, end = off + len;
	char path[32], name[4096];
	struct stat stb;
	int mine, err;
	long n;

	if (fstat(fd, &stb))
		return -errno;
	*out = shm_lookup(stb.st_dev, stb.st_ino, off, len);
	if (*out)
		return 0;
	if (!(can & CODEWP_CAN_ALIASES))
		for (size_t i = 0; i < nr_views; i++)
			if (views[i]->shared && views[i]->dev == stb.st_dev &&
			    views[i]->ino == stb.st_ino)
				return -EBUSY;

	/* A description of our own, for the guest's may be read only. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd_open_begin();
	mine = raw_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0, 0, 0);
	mine = fd_guard(mine);
	fd_open_end();
	if (mine < 0)
		return mine;
	n = raw_syscall(SYS_readlink, (long)path, (long)name, sizeof(name) - 1, 0, 0, 0);
	name[n > 0 ? n : 0] = '\0';

	/* The whole file and room to grow, so that one view is enough. */
	size = 2 * PAGE_UP(stb.st_size) + SLACK_BYTES;
	if (size < end)
		size = end;
	err = view_new(mine, 0, size, true, out);
	if (err)
		return err;
	shm_name(*out, &stb, name);
	/* Whoever has it, too, or knows its name, can write it without a trap. */
	(*out)->unsafe = stb.st_nlink > 0 || !mem_is_own(&stb);
	return 0;
}

/**
 * view_shm_anon() - a view for memory that is shared and anonymous
 * @len: bytes, page aligned
 * @out: the view; offset 0 is the first byte
 */
int view_shm_anon(uint64_t len, struct mview **out)
{
	struct stat stb;
	int fd, err;

	fd = new_memfd("codewp-shared", len);
	if (fd < 0)
		return fd;
	if (fstat(fd, &stb)) {
		err = -errno;
		close(fd);
		return err;
	}
	err = view_new(fd, 0, 2 * len + SLACK_BYTES, true, out);
	if (err)
		return err;
	shm_name(*out, &stb, "/dev/zero (deleted)");
	return 0;
}

void view_shm_unused(struct mview *mv)
{
	if (mv->shared && !mv->held && !map_uses(mv))
		view_drop(mv);
}
