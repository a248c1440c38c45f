/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The runtime's own descriptors, which the guest can neither see nor reach, and
 * what must be known of the guest's.
 */
#ifndef CODEWP_FD_H
#define CODEWP_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#define FD_GUARDED	2048	/* at most so many numbers are ours, from fd_first() */

int fd_init(void);
int fd_first(void);
int fd_end(void);		/* behind the last one */
bool fd_is_guarded(int64_t fd);

/*
 * Descriptors can be made above the guest's own limit only between these two;
 * they nest. With rt_lock held. The guest's limit is in force at all other times,
 * so that the kernel itself enforces it.
 */
void fd_open_begin(void);
void fd_open_end(void);
/* Move a descriptor to the guarded numbers, close-on-exec. The new one or -errno;
 * the old one is closed either way. With rt_lock held.
 */
int fd_guard(int fd);
int fd_guarded_pipe(int fds[2], int flags);	/* pipe2() of two such, or -errno */
/*
 * A call of the guest made this descriptor: the same, or -EMFILE, and then it is
 * closed, when the number is one that the guest cannot have.
 */
long fd_made(long fd);

/* What a descriptor is, as far as the runtime must know. */
enum fd_mark {
	FD_PLAIN,
	FD_PROC_MEM,	/* a /proc/PID/mem: writes go past all page tables */
	FD_PROC_FDS,	/* a /proc/PID/fd directory: its listing is filtered */
	FD_PROC_FILES,	/* a /proc/PID/map_files directory: likewise */
};
/* Lock-free while nothing is marked; else they take rt_lock unless it is held. */
void fd_mark(int fd, enum fd_mark mark);
enum fd_mark fd_marked(int fd);

/*
 * A process's marks and limit. A child of vfork has its own although it shares
 * our memory: a copy of the caller's, NULL without memory. With rt_lock held.
 */
struct fd_marks;
struct fd_marks *fd_marks_clone(void);
void fd_marks_free(struct fd_marks *m);

/*
 * RLIMIT_NOFILE as the guest sees it, for the program that it executes. real: make
 * it the real one, for a program that will run untranslated; and back.
 */
void fd_limits_get(struct rlimit *lim);
void fd_limits_set(const struct rlimit *lim);
void fd_limit_real(bool real);

/* The calls that reach descriptors by number; a result or -errno. */
long fd_sys_close(int fd);
long fd_sys_close_range(unsigned int first, unsigned int last, unsigned int flags);
long fd_sys_dup(int fd);
long fd_sys_dup3(int from, int to, int flags, bool dup2);
long fd_sys_fcntl_dup(int fd, int cmd, int from);
long fd_sys_prlimit(unsigned int what, const struct rlimit *new_lim,
		    struct rlimit *old_lim);

#endif /* CODEWP_FD_H */
