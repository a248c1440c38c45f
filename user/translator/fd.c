// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Guarded descriptors.
 *
 * The runtime needs descriptors (memfds, views, the log) inside a process whose
 * program believes that it knows all of them: shells close everything from 3
 * up, daemons call close_range(3, ~0). Ours have high numbers that no call of the
 * guest reaches: they answer EBADF, as if they were not there.
 *
 * RLIMIT_NOFILE belongs to the whole process. It is the guest's own nearly
 * always, or the first of our numbers if that is lower, so that the kernel
 * enforces it everywhere (poll() and SCM_RIGHTS included). It is raised only while
 * the runtime makes descriptors of its own, under rt_lock. Another thread of the
 * guest at its limit could get one too many just then: every call that makes
 * descriptors looks at what it got (fd_made()).
 *
 * Owns: the guarded numbers; each process's limit as the guest sees it, and its
 * marks (struct fd_marks, guarded by rt_lock).
 */
#include "fd.h"
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct marked {
	int fd;
	enum fd_mark mark;
};

struct fd_marks {
	struct rlimit guest;	/* as the guest set it */
	struct rlimit host;	/* what is in force outside of begin..end */
	unsigned int depth;	/* of begin..end */
	uint32_t nr, cap;	/* nr is read without the lock */
	struct marked *v;
};

static int first, end;
static struct fd_marks initial;

static struct fd_marks *marks(void)
{
	struct process *p = this_cpu()->proc;

	return p && p->marks ? p->marks : &initial;
}

static bool lock(void)
{
	if (rt_lock_mine())
		return false;
	rt_lock();
	return true;
}

static void unlock(bool locked)
{
	if (locked)
		rt_unlock();
}

static int set_limit(const struct rlimit *lim)
{
	return raw_syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)lim, 0, 0, 0);
}

/* The guest gets no number that is ours, so the real limit is there. */
static struct rlimit below(const struct rlimit *lim)
{
	struct rlimit l = *lim;

	if (l.rlim_cur > (rlim_t)first)
		l.rlim_cur = first;
	return l;
}

/**
 * fd_init() - find where the guarded numbers can be
 *
 * Below the hard limit, and low enough that the kernel's table stays small
 * (8 bytes for each number up to the highest).
 *
 * Return: 0, or -EMFILE when the hard limit leaves no room.
 */
int fd_init(void)
{
	struct rlimit host;
	uint64_t top;

	if (getrlimit(RLIMIT_NOFILE, &host))
		return -errno;
	top = host.rlim_max < 65536 ? host.rlim_max : 65536;
	if (top < 256)
		return -EMFILE;
	end = top;
	first = top - (top / 4 < FD_GUARDED ? top / 4 : FD_GUARDED);
	initial.guest = host;
	initial.host = below(&host);
	return set_limit(&initial.host);
}

int fd_first(void)
{
	return first;
}

int fd_end(void)
{
	return end;
}

bool fd_is_guarded(int64_t fd)
{
	return (int)fd >= first && (int)fd < end;
}

void fd_open_begin(void)
{
	struct fd_marks *m = marks();
	struct rlimit lim = m->host;

	if (m->depth++)
		return;
	lim.rlim_cur = end;
	set_limit(&lim);
}

void fd_open_end(void)
{
	struct fd_marks *m = marks();

	if (!--m->depth)
		set_limit(&m->host);
}

int fd_guard(int fd)
{
	int n;

	if (fd < 0)
		return fd;
	fd_open_begin();
	n = raw_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, first, 0, 0, 0);
	fd_open_end();
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	if (n >= end) {
		raw_syscall(SYS_close, n, 0, 0, 0, 0, 0);
		n = -EMFILE;
	}
	return n;
}

int fd_guarded_pipe(int fds[2], int flags)
{
	int err = 0;

	fd_open_begin();
	if (pipe2(fds, O_CLOEXEC | flags)) {
		err = -errno;
	} else {
		fds[0] = fd_guard(fds[0]);
		fds[1] = fd_guard(fds[1]);
		err = fds[0] < 0 ? fds[0] : fds[1] < 0 ? fds[1] : 0;
		if (err && fds[0] >= 0)
			close(fds[0]);
		if (err && fds[1] >= 0)
			close(fds[1]);
	}
	fd_open_end();
	return err;
}

long fd_made(long fd)
{
	if (fd < 0 || (rlim_t)fd < marks()->host.rlim_cur)
		return fd;
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	return -EMFILE;
}

/* ---- marks --------------------------------------------------------------- */

static void forget_marks(int64_t from, int64_t last)
{
	struct fd_marks *m = marks();
	uint32_t to = 0;
	bool locked;

	if (!__atomic_load_n(&m->nr, __ATOMIC_RELAXED))
		return;
	locked = lock();
	for (uint32_t i = 0; i < m->nr; i++)
		if (m->v[i].fd < from || m->v[i].fd > last)
			m->v[to++] = m->v[i];
	__atomic_store_n(&m->nr, to, __ATOMIC_RELAXED);
	unlock(locked);
}

void fd_mark(int fd, enum fd_mark mark)
{
	struct fd_marks *m = marks();
	bool locked;

	forget_marks(fd, fd);
	if (mark == FD_PLAIN || fd < 0)
		return;
	locked = lock();
	if (m->nr == m->cap) {
		uint32_t cap = m->cap ? m->cap * 2 : 16;
		struct marked *v = realloc(m->v, cap * sizeof(*v));

		if (!v)
			fatal("no memory to note what descriptor %d is", fd);
		m->v = v;
		m->cap = cap;
	}
	m->v[m->nr].fd = fd;
	m->v[m->nr].mark = mark;
	__atomic_store_n(&m->nr, m->nr + 1, __ATOMIC_RELAXED);
	unlock(locked);
}

enum fd_mark fd_marked(int fd)
{
	struct fd_marks *m = marks();
	enum fd_mark mark = FD_PLAIN;
	bool locked;

	if (!__atomic_load_n(&m->nr, __ATOMIC_RELAXED))
		return FD_PLAIN;
	locked = lock();
	for (uint32_t i = 0; i < m->nr; i++)
		if (m->v[i].fd == fd)
			mark = m->v[i].mark;
	unlock(locked);
	return mark;
}

struct fd_marks *fd_marks_clone(void)
{
	const struct fd_marks *from = marks();
	struct fd_marks *m = malloc(sizeof(*m));

	if (!m)
		return NULL;
	*m = *from;
	m->cap = m->nr;
	m->v = NULL;
	if (m->nr) {
		m->v = malloc(m->nr * sizeof(*m->v));
		if (!m->v) {
			free(m);
			return NULL;
		}
		memcpy(m->v, from->v, m->nr * sizeof(*m->v));
	}
	return m;
}

void fd_marks_free(struct fd_marks *m)
{
	if (m)
		free(m->v);
	free(m);
}

/* ---- the guest's calls ----------------------------------------------------- */

long fd_sys_close(int fd)
{
	forget_marks(fd, fd);
	return raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

long fd_sys_close_range(unsigned int from, unsigned int last, unsigned int flags)
{
	long ret = 0;

	if (from > last)
		return -EINVAL;
	if (!(flags & CLOSE_RANGE_CLOEXEC))
		forget_marks(from, last);
	if (from < (unsigned int)first)
		ret = raw_syscall(SYS_close_range, from,
				  last < (unsigned int)first ? last : (unsigned int)first - 1,
				  flags, 0, 0, 0);
	if (!ret && last >= (unsigned int)end)
		ret = raw_syscall(SYS_close_range,
				  from > (unsigned int)end ? from : (unsigned int)end, last,
				  flags, 0, 0, 0);
	/* A range of guarded numbers only: nothing to do, but bad flags fail. */
	if (!ret && from >= (unsigned int)first && last < (unsigned int)end)
		ret = raw_syscall(SYS_close_range, ~0U, ~0U, flags, 0, 0, 0);
	return ret;
}

/* The new descriptor is what the old one was. */
static long copied(int from, long to)
{
	enum fd_mark mark = fd_marked(from);

	if (to >= 0 && to != from)
		fd_mark(to, mark);
	return to;
}

long fd_sys_dup(int fd)
{
	return copied(fd, fd_made(raw_syscall(SYS_dup, fd, 0, 0, 0, 0, 0)));
}

long fd_sys_dup3(int from, int to, int flags, bool dup2)
{
	if (fd_is_guarded(from) || fd_is_guarded(to))
		return -EBADF;
	/* The real limit may be higher just now. */
	if (to >= 0 && to != from && (rlim_t)to >= marks()->host.rlim_cur)
		return -EBADF;
	if (dup2)
		return copied(from, raw_syscall(SYS_dup2, from, to, 0, 0, 0, 0));
	return copied(from, raw_syscall(SYS_dup3, from, to, flags, 0, 0, 0));
}

long fd_sys_fcntl_dup(int fd, int cmd, int from)
{
	if (from >= 0 && (rlim_t)from >= marks()->host.rlim_cur)
		return (rlim_t)from >= marks()->guest.rlim_cur ? -EINVAL : -EMFILE;
	return copied(fd, fd_made(raw_syscall(SYS_fcntl, fd, cmd, from, 0, 0, 0)));
}

void fd_limits_get(struct rlimit *lim)
{
	*lim = marks()->guest;
}

/* The real one has come through execve(). */
void fd_limits_set(const struct rlimit *lim)
{
	marks()->guest = *lim;
}

void fd_limit_real(bool real)
{
	const struct fd_marks *m = marks();
	struct rlimit lim = m->host;

	if (real)
		lim.rlim_cur = m->guest.rlim_cur;
	set_limit(&lim);
}

/**
 * fd_sys_prlimit() - prlimit64 of the guest for itself
 * @what: RLIMIT_*; only RLIMIT_NOFILE is special
 * @new_lim: already read from the guest, or NULL
 * @old_lim: written back to the guest by the caller, or NULL
 *
 * A hard limit below the guarded numbers would take them from us: the guest is
 * told that it has it, and the soft one, which it cannot raise above it, is
 * really set. With rt_lock held.
 */
long fd_sys_prlimit(unsigned int what, const struct rlimit *new_lim, struct rlimit *old_lim)
{
	struct fd_marks *m = marks();
	struct rlimit was = m->guest, lim;
	long ret;

	ret = mem_sys_prlimit(what, new_lim, old_lim);
	if (ret != -ENOSYS)
		return ret;
	if (what != RLIMIT_NOFILE)
		return raw_syscall(SYS_prlimit64, 0, what, (long)new_lim, (long)old_lim, 0, 0);
	if (new_lim) {
		lim = *new_lim;
		if (lim.rlim_cur > lim.rlim_max)
			return -EINVAL;
		if (lim.rlim_max > was.rlim_max && lim.rlim_max <= m->host.rlim_max &&
		    geteuid())
			return -EPERM;
		if (lim.rlim_max < (rlim_t)end)
			lim.rlim_max = m->host.rlim_max;
		lim = below(&lim);
		ret = set_limit(&lim);
		if (ret)
			return ret;
		m->host = lim;
		m->guest = *new_lim;
	}
	if (old_lim)
		*old_lim = was;
	return 0;
}
