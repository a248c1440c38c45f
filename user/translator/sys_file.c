// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The system calls on files and descriptors that need more than their line in
 * the table. Each has the type sys_fn; guarded descriptors among the table's A_FD
 * arguments, and their names, are refused before these are called.
 *
 * Owns nothing. Calls that may wait run without rt_lock.
 */
#include "fd.h"
#include "mem.h"
#include "procfs.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR(e)	((long)((e) - sys_table))

/* ---- by name ------------------------------------------------------------- */

long sys_open_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	bool at = NR(e) == SYS_openat || NR(e) == SYS_openat2;
	uint64_t flags = at ? a[2] : a[1];
	char path[4096];
	const char *leaf;
	long fd;

	if (NR(e) == SYS_creat)
		flags = O_TRUNC;
	if (NR(e) == SYS_openat2 && guest_read(&flags, a[2], sizeof(flags)))
		return -EFAULT;
	fd = fd_made(sys_pass(cpu, e, a));
	if (fd < 0)
		return fd;
	if (flags & O_TRUNC)
		mem_file_written(fd);
	if (guest_strncpy(path, a[at], sizeof(path)) < 0)
		path[0] = '\0';
	leaf = strrchr(path, '/');
	return procfs_opened(fd, flags, leaf ? leaf + 1 : path);
}

/* Follow /proc/self/exe, in argument i, to where it shall lead. */
static void follow_exe(long a[6], int i, char link[PROCFS_LINK])
{
	char path[64];

	if (guest_strncpy(path, a[i], sizeof(path)) > 0 && procfs_exe(path, link))
		a[i] = (long)link;
}

long sys_stat_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	char link[PROCFS_LINK];

	if (!((NR(e) == SYS_statx ? a[2] : a[3]) & AT_SYMLINK_NOFOLLOW))
		follow_exe(a, 1, link);
	return sys_pass(cpu, e, a);
}

long sys_readlink_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	char link[PROCFS_LINK];

	follow_exe(a, NR(e) == SYS_readlinkat, link);
	return sys_pass(cpu, e, a);
}

/* Take the names that the guest shall not see out of a listing of n bytes. */
static long filter_names(char *buf, long n, size_t name, int mark)
{
	long to = 0;
	uint16_t reclen;

	for (long from = 0; from + (long)name < n; from += reclen) {
		memcpy(&reclen, buf + from + 16, sizeof(reclen));
		if (procfs_filtered(mark, buf + from + name))
			continue;
		memmove(buf + to, buf + from, reclen);
		to += reclen;
	}
	return to;
}

/* The listing of /proc/self/fd without the runtime's descriptors. */
long sys_getdents_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	/* linux_dirent64 has the type before the name, linux_dirent after it. */
	size_t name = NR(e) == SYS_getdents64 ? 19 : 18;
	long n, to;
	char *buf;
	int mark;

	do {
		n = sys_pass(cpu, e, a);
		mark = n > 0 ? fd_marked(a[0]) : FD_PLAIN;
		if (mark != FD_PROC_FDS && mark != FD_PROC_FILES)
			return n;
		rt_lock();
		buf = malloc(n);
		if (!buf || guest_read(buf, a[1], n)) {
			to = -ENOMEM;
		} else {
			to = filter_names(buf, n, name, mark);
			if (to && to != n && guest_write(a[1], buf, to))
				to = -EFAULT;
		}
		free(buf);
		rt_unlock();
		/* All of them were ours: 0 would mean the end. */
	} while (!to);
	return to;
}

long sys_truncate_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	long ret = sys_pass(cpu, e, a);
	struct stat stb;

	if (ret)
		return ret;
	if (stat((const char *)a[0], &stb)) {
		/* Which file it was cannot be told. */
		mem_all_written();
		return 0;
	}
	rt_lock();
	mem_forget_file(stb.st_dev, stb.st_ino);
	rt_unlock();
	return 0;
}

/* ---- descriptors --------------------------------------------------------- */

long sys_fd_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	switch (NR(e)) {
	case SYS_close:
		return fd_sys_close(a[0]);
	case SYS_close_range:
		if (a[2] & CLOSE_RANGE_UNSHARE && cpu->proc->threads > 1) {
			cpu->regs.rip -= 2;
			unsupported(cpu, "a thread with descriptors of its own");
		}
		return fd_sys_close_range(a[0], a[1], a[2]);
	case SYS_dup:
		return fd_sys_dup(a[0]);
	case SYS_dup2:
		return fd_sys_dup3(a[0], a[1], 0, true);
	}
	return fd_sys_dup3(a[0], a[1], a[2], false);
}

/* What the kernel does not know it refuses; what is new to us is passed on. */
long sys_fcntl_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	switch ((int)a[1]) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return fd_sys_fcntl_dup(a[0], a[1], a[2]);
	case F_GETLK:
	case F_OFD_GETLK:
		mem_kernel_write(a[2], sizeof(struct flock));
		break;
	case F_GETOWN_EX:
	case F_GET_RW_HINT:
	case F_GET_FILE_RW_HINT:
	case 17:	/* F_GETOWNER_UIDS */
		mem_kernel_write(a[2], 8);
		break;
	}
	return sys_pass(cpu, e, a);
}

/* Reads that are under way write memory when nobody looks: it is opened now. */
long sys_io_submit_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	struct iocb cb;
	uint64_t at;

	for (long i = 0; i < a[1] && i < 65536; i++) {
		if (guest_read(&at, a[2] + i * 8, sizeof(at)) ||
		    guest_read(&cb, at, sizeof(cb)))
			break;
		if (fd_is_guarded(cb.aio_fildes))
			return i ? sys_pass(cpu, e, (long [6]){ a[0], i, a[2] }) : -EBADF;
		mem_kernel_write(at, sizeof(cb));
		if (cb.aio_lio_opcode == IOCB_CMD_PREAD)
			mem_kernel_write(cb.aio_buf, cb.aio_nbytes);
		else if (cb.aio_lio_opcode == IOCB_CMD_PREADV)
			sys_open_iov(cb.aio_buf, cb.aio_nbytes);
		else if (cb.aio_lio_opcode == IOCB_CMD_PWRITE ||
			 cb.aio_lio_opcode == IOCB_CMD_PWRITEV)
			mem_file_written(cb.aio_fildes);
	}
	return sys_pass(cpu, e, a);
}
