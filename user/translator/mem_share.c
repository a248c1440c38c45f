// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Who else may write shared memory, where the backend does not see it
 * (no CODEWP_CAN_ALIASES).
 *
 * A file of memory is the guest's alone if it has made the file itself, and nobody
 * else can have come to it since. A descriptor that is sent or inherited exposes its
 * file for good (mview.unsafe). A child of fork that has only mappings of it loses
 * them when it ends or executes another program. Until then the memory is on *loan*
 * (mview.on_loan): each child holds the write end of a pipe, close-on-exec, which its
 * own children inherit, and when all are closed the kernel says so. One that could
 * pass the memory on by a descriptor writes a byte into it first.
 *
 * Blocks of what is exposed or on loan check themselves; what is given back is armed
 * again.
 *
 * Owns the list of the guest's own files and the pipes. With rt_lock held.
 */
#include "mem.h"
#include "fd.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_LOANS	8		/* children at once; and generations */
#define POLL_CYCLES	(10UL << 20)	/* some milliseconds */

struct file {
	dev_t dev;
	ino_t ino;
};

struct files {
	struct file *f;
	size_t nr, cap;
};

static struct files own;
static struct files borrowed;		/* of parents, who wait for them */

static int loans[MAX_LOANS];		/* read ends */
static unsigned int nr_loans;
static int made = -1;			/* the write end, while fork is under way */
static int held[MAX_LOANS];		/* write ends of parents */
static unsigned int nr_held;
bool mem_on_loan;

static bool sees_aliases(void)
{
	return codewp_backend_info(the_ctx)->can & CODEWP_CAN_ALIASES;
}

static bool files_add(struct files *l, dev_t dev, ino_t ino)
{
	if (l->nr == l->cap) {
		size_t cap = l->cap * 2 + 16;
		struct file *p = realloc(l->f, cap * sizeof(*p));

		if (!p)
			return false;
		l->f = p;
		l->cap = cap;
	}
	l->f[l->nr++] = (struct file){ dev, ino };
	return true;
}

/* Its place; or l->nr. */
static size_t files_find(const struct files *l, const struct stat *stb)
{
	size_t i = 0;

	while (i < l->nr && (l->f[i].dev != stb->st_dev || l->f[i].ino != stb->st_ino))
		i++;
	return i;
}

/**
 * mem_made_file() - the guest has made a memfd
 *
 * Takes rt_lock. When there is no memory to note it down its blocks check
 * themselves.
 */
void mem_made_file(int fd)
{
	struct stat stb;

	if (fstat(fd, &stb))
		return;
	rt_lock();
	files_add(&own, stb.st_dev, stb.st_ino);
	rt_unlock();
}

bool mem_is_own(const struct stat *stb)
{
	return files_find(&own, stb) < own.nr;
}

static void forget_code_of(const struct mview *mv)
{
	struct region *r;

	for (size_t i = 0; (r = map_index(i)); i++)
		if (r->kind == R_SHM && r->mv == mv)
			mem_forget_code(r->start, r->end);
}

static void expose(struct mview *mv)
{
	if (mv->unsafe)
		return;
	mv->unsafe = true;
	if (!sees_aliases())
		forget_code_of(mv);
}

static void expose_file(const struct stat *stb)
{
	size_t at = files_find(&own, stb);

	if (at < own.nr)
		own.f[at] = own.f[--own.nr];
	for (size_t i = 0; i < view_count(); i++) {
		struct mview *mv = view_index(i);

		if (mv->shared && mv->dev == stb->st_dev && mv->ino == stb->st_ino)
			expose(mv);
	}
}

/* All parents are told that their memory does not come back. */
static void tell_parents(void)
{
	while (nr_held) {
		int fd = held[--nr_held];

		if (write(fd, "", 1) != 1)
			say("cannot tell a parent process about shared memory");
		close(fd);
	}
	borrowed.nr = 0;
}

static bool is_borrowed(const struct stat *stb)
{
	return files_find(&borrowed, stb) < borrowed.nr;
}

/**
 * mem_share_send() - the guest gives a descriptor away
 *
 * Takes rt_lock.
 */
void mem_share_send(int fd)
{
	struct stat stb;

	if (fstat(fd, &stb))
		return;
	rt_lock();
	expose_file(&stb);
	if (is_borrowed(&stb))
		tell_parents();
	rt_unlock();
}

/* Others may have any file of memory that there is now. */
static void expose_all(void)
{
	own.nr = 0;
	tell_parents();
	for (size_t i = 0; i < view_count(); i++)
		if (view_index(i)->shared)
			expose(view_index(i));
}

static bool anything_to_share(void)
{
	for (size_t i = 0; i < view_count(); i++)
		if (view_index(i)->shared && !view_index(i)->unsafe)
			return true;
	return own.nr;
}

/*
 * Calls fn for each of the guest's descriptors; at exec only for those that stay open.
 * False: they cannot be listed.
 */
static bool for_each_open(bool exec, void (*fn)(const struct stat *stb))
{
	char buf[2048];
	struct stat stb;
	long dir, n;

	fd_open_begin();
	dir = raw_syscall(SYS_openat, AT_FDCWD, (long)"/proc/self/fd",
			  O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
	if (dir >= 0)
		dir = fd_guard(dir);
	fd_open_end();
	if (dir < 0)
		return false;
	while ((n = raw_syscall(SYS_getdents64, dir, (long)buf, sizeof(buf), 0, 0, 0)) > 0) {
		for (long at = 0; at < n; ) {
			const char *name = buf + at + 19;
			int fd = atoi(name);

			if (*name != '.' && !fd_is_guarded(fd) &&
			    !(exec && fcntl(fd, F_GETFD) & FD_CLOEXEC) && !fstat(fd, &stb))
				fn(&stb);
			at += *(uint16_t *)(buf + at + 16);
		}
	}
	close(dir);
	return n == 0;
}

/* ---- fork ---------------------------------------------------------------- */

static int new_pipe(void)
{
	int fds[2], err;

	if (nr_loans == MAX_LOANS || nr_held == MAX_LOANS ||
	    (this_cpu()->proc && this_cpu()->proc->vforked))
		return -EAGAIN;
	err = fd_guarded_pipe(fds, O_NONBLOCK);
	if (err)
		return err;
	loans[nr_loans++] = fds[0];
	made = fds[1];
	return 0;
}

/* Only memory that code was run from is worth a pipe. */
static bool has_code(const struct mview *mv)
{
	struct region *r;

	for (size_t i = 0; (r = map_index(i)); i++)
		if (r->mv == mv && r->prot & PROT_EXEC)
			return true;
	return false;
}

/**
 * mem_share_fork() - before a fork, in the parent
 *
 * mem_share_parent() or mem_share_child() follows.
 */
void mem_share_fork(void)
{
	bool lend = false;

	if (sees_aliases() || !anything_to_share())
		return;
	if (!for_each_open(false, expose_file)) {
		expose_all();
		return;
	}
	/* What is left has no descriptor, so mappings are all that a child gets. */
	own.nr = 0;
	for (size_t i = 0; i < view_count(); i++) {
		struct mview *mv = view_index(i);

		if (mv->shared && !mv->unsafe && has_code(mv))
			lend = true;
		else if (mv->shared)
			expose(mv);
	}
	if (!lend)
		return;
	if (new_pipe()) {
		expose_all();
		return;
	}
	for (size_t i = 0; i < view_count(); i++) {
		struct mview *mv = view_index(i);

		if (!mv->shared || mv->unsafe || mv->on_loan)
			continue;
		mv->on_loan = true;
		forget_code_of(mv);
	}
	mem_on_loan = true;
}

void mem_share_parent(void)
{
	if (made >= 0)
		close(made);
	made = -1;
}

/* Its parent has all of it, too, as long as it lives. */
void mem_share_child(void)
{
	bool full = false;

	own.nr = 0;
	for (size_t i = 0; i < view_count(); i++) {
		struct mview *mv = view_index(i);

		if (made >= 0 && mv->on_loan)
			full |= !files_add(&borrowed, mv->dev, mv->ino);
		mv->unsafe |= mv->shared;
		mv->on_loan = false;
	}
	while (nr_loans)
		close(loans[--nr_loans]);
	mem_on_loan = false;
	if (made >= 0)
		held[nr_held++] = made;
	made = -1;
	if (full)
		tell_parents();
}

/**
 * mem_share_poll() - has what is on loan come back?
 *
 * Takes rt_lock, some times in a second at most.
 */
void mem_share_poll(void)
{
	static uint64_t last;
	uint64_t now = __builtin_ia32_rdtsc();
	unsigned int left = 0;
	bool kept = false;

	if (now - __atomic_load_n(&last, __ATOMIC_RELAXED) < POLL_CYCLES ||
	    this_cpu()->proc->vforked)
		return;
	__atomic_store_n(&last, now, __ATOMIC_RELAXED);
	rt_lock();
	for (unsigned int i = 0; i < nr_loans; i++) {
		struct pollfd p = { .fd = loans[i], .events = POLLIN };
		long n = raw_syscall(SYS_poll, (long)&p, 1, 0, 0, 0, 0);

		kept |= n > 0 && p.revents & ~POLLHUP;
		if (n > 0 && p.revents)
			close(loans[i]);
		else
			loans[left++] = loans[i];
	}
	nr_loans = left;
	if (kept || !left) {
		mem_on_loan = left;
		for (size_t i = 0; i < view_count(); i++) {
			struct mview *mv = view_index(i);

			if (!mv->on_loan)
				continue;
			if (kept)
				expose(mv);
			else
				forget_code_of(mv);
			mv->on_loan = false;
		}
	}
	rt_unlock();
}

/* ---- exec ---------------------------------------------------------------- */

static bool passes;

static void note_passing(const struct stat *stb)
{
	passes |= is_borrowed(stb);
}

/**
 * mem_share_exec() - this process executes another program, which inherits descriptors
 *
 * Takes rt_lock.
 */
void mem_share_exec(void)
{
	rt_lock();
	/* The memory of a child of vfork is its parent's, and stays. */
	if (this_cpu()->proc->vforked && !sees_aliases() && anything_to_share() &&
	    !for_each_open(true, expose_file))
		expose_all();
	passes = false;
	if (nr_held && (!for_each_open(true, note_passing) || passes))
		tell_parents();
	rt_unlock();
}
