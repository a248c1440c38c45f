/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The runtime's own descriptors, which the guest can neither see nor reach.
 */
#ifndef CODEWP_FD_H
#define CODEWP_FD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#define FD_GUARDED	448	/* how many numbers are ours, from fd_first() */

int fd_init(void);
int fd_first(void);
bool fd_is_guarded(int64_t fd);

/*
 * Descriptors can be made above the guest's own limit only between these two;
 * they nest. The guest's limit is in force at all other times, so that the
 * kernel itself enforces it.
 */
void fd_open_begin(void);
void fd_open_end(void);
/* Move a descriptor to the guarded numbers, close-on-exec. The new one or -errno;
 * the old one is closed either way.
 */
int fd_guard(int fd);

/* What a descriptor is, as far as the runtime must know. */
enum fd_mark {
	FD_PLAIN,
	FD_PROC_MEM,	/* a /proc/PID/mem: writes go past all page tables */
	FD_PROC_FDS,	/* a /proc/PID/fd directory: its listing is filtered */
};
void fd_mark(int fd, enum fd_mark mark);
enum fd_mark fd_marked(int fd);

/* The calls that reach descriptors by number; a result or -errno. */
long fd_sys_close(int fd);
long fd_sys_close_range(unsigned int first, unsigned int last, unsigned int flags);
long fd_sys_dup(int fd);
long fd_sys_dup3(int from, int to, int flags, bool dup2);
long fd_sys_prlimit(int pid, unsigned int what, const struct rlimit *new_lim,
		    struct rlimit *old_lim);

#endif /* CODEWP_FD_H */
