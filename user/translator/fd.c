// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Guarded descriptors.
 *
 * The runtime needs descriptors (memfds, views, the log) inside a process whose
 * program believes that it knows all of them: shells close everything from 3
 * up, daemons call close_range(3, ~0). Ours have FD_GUARDED high numbers that no
 * call of the guest reaches: they answer EBADF, as if they were not there.
 *
 * Owns: the guarded numbers, RLIMIT_NOFILE as the guest sees it, and the marks.
 * Used by the guest's thread only.
 */
#include "fd.h"
#include "mem.h"
#include "raw_syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MARKS 65536

static int first;
static unsigned int depth;
static struct rlimit guest;	/* as the guest set it */
static struct rlimit host;	/* what is in force outside of begin..end */
static uint8_t marks[MARKS];

static int set_limit(const struct rlimit *lim)
{
	return raw_syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)lim, 0, 0, 0);
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
	uint64_t top;

	if (getrlimit(RLIMIT_NOFILE, &guest))
		return -errno;
	host = guest;
	top = guest.rlim_max < 65536 ? guest.rlim_max : 65536;
	if (top < FD_GUARDED + 64)
		return -EMFILE;
	first = top - FD_GUARDED;
	return 0;
}

int fd_first(void)
{
	return first;
}

bool fd_is_guarded(int64_t fd)
{
	return first && (int)fd >= first && (int)fd < first + FD_GUARDED;
}

void fd_open_begin(void)
{
	struct rlimit lim = host;

	if (depth++ || lim.rlim_cur >= (rlim_t)first + FD_GUARDED)
		return;
	lim.rlim_cur = first + FD_GUARDED;
	set_limit(&lim);
}

void fd_open_end(void)
{
	if (--depth || host.rlim_cur >= (rlim_t)first + FD_GUARDED)
		return;
	set_limit(&host);
}

int fd_guard(int fd)
{
	int n;

	if (fd < 0)
		return fd;
	fd_open_begin();
	n = fcntl(fd, F_DUPFD_CLOEXEC, first);
	if (n < 0)
		n = -errno;
	fd_open_end();
	close(fd);
	return n;
}

void fd_mark(int fd, enum fd_mark mark)
{
	if (fd >= 0 && fd < MARKS)
		marks[fd] = mark;
}

enum fd_mark fd_marked(int fd)
{
	return fd >= 0 && fd < MARKS ? marks[fd] : FD_PLAIN;
}

long fd_sys_close(int fd)
{
	fd_mark(fd, FD_PLAIN);
	return raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

long fd_sys_close_range(unsigned int from, unsigned int last, unsigned int flags)
{
	unsigned int end = first + FD_GUARDED;
	long ret = 0;

	if (from > last)
		return -EINVAL;
	if (from < (unsigned int)first)
		ret = raw_syscall(SYS_close_range, from,
				  last < (unsigned int)first ? last : (unsigned int)first - 1,
				  flags, 0, 0, 0);
	if (!ret && last >= end)
		ret = raw_syscall(SYS_close_range, from > end ? from : end, last,
				  flags, 0, 0, 0);
	/* A range of guarded numbers only: nothing to do, but bad flags fail. */
	if (!ret && from >= (unsigned int)first && last < end)
		ret = raw_syscall(SYS_close_range, ~0U, ~0U, flags, 0, 0, 0);
	if (!ret && !(flags & CLOSE_RANGE_CLOEXEC))
		for (uint64_t i = from; i <= last && i < MARKS; i++)
			if (!fd_is_guarded(i))
				marks[i] = FD_PLAIN;
	return ret;
}

long fd_sys_dup(int fd)
{
	long n = raw_syscall(SYS_dup, fd, 0, 0, 0, 0, 0);

	if (n >= 0)
		fd_mark(n, fd_marked(fd));
	return n;
}

long fd_sys_dup3(int from, int to, int flags, bool dup2)
{
	long n;

	if (fd_is_guarded(from) || fd_is_guarded(to))
		return -EBADF;
	if (dup2)
		n = raw_syscall(SYS_dup2, from, to, 0, 0, 0, 0);
	else
		n = raw_syscall(SYS_dup3, from, to, flags, 0, 0, 0);
	if (n >= 0)
		fd_mark(n, fd_marked(from));
	return n;
}

/**
 * fd_sys_prlimit() - prlimit64 of the guest's own RLIMIT_NOFILE
 * @pid: 0 or the guest's own
 * @what: RLIMIT_*; only RLIMIT_NOFILE is special
 * @new_lim: already read from the guest, or NULL
 * @old_lim: written back to the guest by the caller, or NULL
 *
 * A hard limit below the guarded numbers would take them from us: the guest is
 * told that it has it, and the soft one, which it cannot raise above it, is
 * really set.
 */
long fd_sys_prlimit(int pid, unsigned int what, const struct rlimit *new_lim,
		    struct rlimit *old_lim)
{
	struct rlimit was = guest, lim;
	long ret;

	ret = pid && pid != getpid() ? -ENOSYS : mem_sys_prlimit(what, new_lim, old_lim);
	if (ret != -ENOSYS)
		return ret;
	if (what != RLIMIT_NOFILE)
		return raw_syscall(SYS_prlimit64, pid, what, (long)new_lim,
				   (long)old_lim, 0, 0);
	if (new_lim) {
		lim = *new_lim;
		if (lim.rlim_cur > lim.rlim_max)
			return -EINVAL;
		if (lim.rlim_max > guest.rlim_max && lim.rlim_max <= host.rlim_max &&
		    geteuid())
			return -EPERM;
		if (lim.rlim_max < (rlim_t)first + FD_GUARDED)
			lim.rlim_max = host.rlim_max;
		ret = set_limit(&lim);
		if (ret)
			return ret;
		host = lim;
		guest = *new_lim;
	}
	if (old_lim)
		*old_lim = was;
	return 0;
}
