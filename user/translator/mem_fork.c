// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Memory across fork: private memory stays private.
 *
 * The kernel copies what it knows to be private. What is in a private view is a
 * shared mapping of a memfd to it, which the child does not even get; so before
 * the fork the parent copies what its views hold into new memfds, and the child
 * makes views of these and maps them where the parent has its own.
 *
 * The copy and the fork are one moment for the parent's other threads, as
 * natively: meanwhile private views are not writable, and whoever tries waits for
 * rt_lock (mem_fault_again(), kwrite_freeze()). Only memory that a system call
 * in flight may write stays writable.
 *
 * With rt_lock held throughout.
 */
#include "mem.h"
#include "fd.h"
#include "raw_syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REPLAY_WAITS 100000	/* a replay is a handful of instructions */

static bool frozen;		/* between prepare and done */

/* Is r a part of a private view that a child gets with its content? */
static bool inherited(const struct region *r)
{
	return r->kind == R_PVIEW && !r->dontfork;
}

/* ---- the parent ---------------------------------------------------------- */

/* Stores on their way to an alias: they hold no lock, and are nearly done. */
static void wait_for_replays(void)
{
	const struct cpu *self = this_cpu();

	for (const struct cpu *c = all_cpus; c; c = c->next)
		for (int i = 0; i < REPLAY_WAITS && c != self &&
		     __atomic_load_n(&c->replay_page, __ATOMIC_ACQUIRE) != CODEMAP_NO_PAGE; i++)
			sched_yield();
}

static void freeze(void)
{
	struct region *r;

	frozen = true;
	kwrite_freeze(0, TASK_END);
	for (size_t i = 0; (r = map_index(i)); i++)
		if (inherited(r) && r->prot & PROT_WRITE && !kwrite_in_flight(r->start, r->end))
			codewp_protect(the_ctx, (void *)r->start, r->end - r->start,
				       PROT_READ);
	wait_for_replays();
}

static void thaw(void)
{
	struct region *r;

	if (!frozen)
		return;
	frozen = false;
	for (size_t i = 0; (r = map_index(i)); i++)
		if (inherited(r) && r->prot & PROT_WRITE)
			codewp_protect(the_ctx, (void *)r->start, r->end - r->start,
				       host_prot(r->prot));
	kwrite_thaw();
}

static void close_copies(void)
{
	for (size_t i = 0; i < view_count(); i++) {
		struct mview *mv = view_index(i);

		if (mv->fork_fd >= 0)
			close(mv->fork_fd);
		mv->fork_fd = -1;
	}
}

/* [from, to) of the view's file, which is sparse. */
static int copy_data(const struct mview *mv, uint64_t from, uint64_t to)
{
	while (from < to) {
		off_t data = lseek(mv->memfd, from, SEEK_DATA), hole;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		if ((uint64_t)data >= to)
			return 0;
		hole = lseek(mv->memfd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		if ((uint64_t)hole > to)
			hole = to;
		for (from = data; from < (uint64_t)hole; ) {
			ssize_t n = pwrite(mv->fork_fd, mv->alias + from, hole - from, from);

			if (n <= 0)
				return n ? -errno : -ENOSPC;
			from += n;
		}
	}
	return 0;
}

static int copy_region(const struct region *r)
{
	struct mview *mv = r->mv;

	if (mv->fork_fd < 0) {
		fd_open_begin();
		mv->fork_fd = memfd_create("codewp-private", MFD_CLOEXEC);
		mv->fork_fd = mv->fork_fd < 0 ? -errno : fd_guard(mv->fork_fd);
		fd_open_end();
		if (mv->fork_fd < 0)
			return mv->fork_fd;
		if (ftruncate(mv->fork_fd, mv->len))
			return -errno;
	}
	return r->wipe ? 0 : copy_data(mv, r->voff, r->voff + (r->end - r->start));
}

/**
 * mem_fork_prepare() - before the call, in the parent
 *
 * Return: 0, and mem_fork_done() must follow in the parent; or -ENOMEM, -EMFILE,
 * -ENOSPC, and nothing has changed.
 */
int mem_fork_prepare(void)
{
	struct region *r;
	int err = 0;

	mem_share_fork();
	for (size_t i = 0; (r = map_index(i)) && !inherited(r); i++)
		;
	if (!r)
		return 0;
	if (!kwrite_alone())
		freeze();
	for (size_t i = 0; !err && (r = map_index(i)); i++)
		if (inherited(r))
			err = copy_region(r);
	if (err)
		mem_fork_done();
	return err;
}

void mem_fork_done(void)
{
	mem_share_parent();
	close_copies();
	thaw();
}

/* ---- the child ----------------------------------------------------------- */

static int open_backend(enum codewp_backend backend)
{
	struct codewp_open_opts opts = {
		.sz = sizeof(opts),
		.backend = backend,
		.own_signals = true,
		.quiet_signals = true,
		.min_fd = fd_first(),
	};
	int err;

	fd_open_begin();
	err = codewp_open(&the_ctx, &opts);
	fd_open_end();
	return err;
}

/* The descriptors of shared files must outlive the parent's context. */
static int keep_shared(void)
{
	for (size_t i = 0; i < view_count(); i++) {
		struct mview *mv = view_index(i);

		if (!mv->shared || !map_uses(mv))
			continue;
		fd_open_begin();
		mv->fork_fd = fcntl(mv->memfd, F_DUPFD_CLOEXEC, fd_first());
		fd_open_end();
		if (mv->fork_fd < 0)
			return -errno;
	}
	return 0;
}

static void forget_dontfork(void)
{
	struct region *r;

	for (size_t i = 0; (r = map_index(i)); )
		if (r->dontfork)
			map_remove(r->start, r->end);
		else
			i++;
}

/**
 * mem_fork_child() - in the child, before anything else of memory is used
 *
 * Opens the backend anew; a process that has lost the right to the parent's gets
 * the one that needs none. No TB of a view's page may be used any more
 * (core_fork_child() drops them).
 *
 * Return: 0; or -errno, and the child cannot go on.
 */
int mem_fork_child(void)
{
	enum codewp_backend backend = codewp_backend_info(the_ctx)->backend;
	struct codewp *parents = the_ctx;
	struct region *r;
	int err;

	frozen = false;
	kwrite_thaw();
	mem_share_child();
	/* Calls of threads that are not here will not write. */
	for (struct cpu *c = all_cpus; c; c = c->next)
		if (c != this_cpu())
			c->kwrites = 0;
	err = map_reserve(4);
	if (!err) {
		forget_dontfork();
		err = keep_shared();
	}
	if (err)
		return err;
	/* Another thread may have been inside of the library: it is not here. */
	codewp_fork_child();
	codewp_close(parents);
	err = open_backend(backend);
	if (err)
		err = open_backend(CODEWP_MPROTECT);
	if (err)
		return err;
	err = view_fork_child();
	for (size_t i = 0; !err && (r = map_index(i)); i++) {
		void *addr = (void *)r->start;

		if (r->kind != R_PVIEW && r->kind != R_SHM)
			continue;
		err = codewp_map(r->mv->view, &addr, r->end - r->start, r->voff,
				 host_prot(r->prot), MAP_FIXED | MAP_NORESERVE);
		r->code = false;
	}
	return err;
}
