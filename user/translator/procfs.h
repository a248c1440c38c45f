/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What of /proc differs for the guest from what the kernel says of this process.
 */
#ifndef CODEWP_PROCFS_H
#define CODEWP_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROCFS_LINK	32	/* room for a name in place of another one */

/* Is this the name of one of the runtime's descriptors? */
bool procfs_hidden(int dirfd, const char *path);
/*
 * Does this name the guest's program by way of /proc/self/exe? Then link becomes
 * what does so for the kernel.
 */
bool procfs_exe(const char *path, char link[PROCFS_LINK]);

/*
 * The guest has opened fd, by a name that ends with leaf. Notes what it is; a
 * file whose content is not for the guest is replaced by one that is, under the
 * same number. The descriptor, or -errno.
 */
long procfs_opened(int fd, int flags, const char *leaf);
/* The same for a descriptor that came from elsewhere: only notes. */
void procfs_received(int fd);

/* Shall a listing of such a directory not have this name? mark: FD_PROC_*. */
bool procfs_filtered(int mark, const char *name);

/* The auxiliary vector, for prctl(PR_GET_AUXV): its address and size. */
uint64_t procfs_auxv(uint64_t *size);

/* A text that grows; malloc's, so with rt_lock held. failed: out of memory. */
struct procfs_text {
	char *at;
	size_t len, cap;
	bool failed;
};

void procfs_add(struct procfs_text *t, const void *bytes, size_t len);
/*
 * procfs_maps.c: from the kernel's maps or smaps, or numa_maps, of this process to
 * the guest's. host is taken apart. With rt_lock held.
 */
void procfs_maps(struct procfs_text *out, char *host);
void procfs_numa_maps(struct procfs_text *out, char *host);

#endif /* CODEWP_PROCFS_H */
