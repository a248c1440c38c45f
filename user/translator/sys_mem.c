// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The memory system calls: from the guest's arguments to mem.h's functions, under
 * rt_lock.
 */
#include "fd.h"
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "syscall.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR(e)	((long)((e) - sys_table))

long sys_mmap_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	long ret;

	if (!(a[3] & MAP_ANONYMOUS) && fd_is_guarded(a[4]))
		return -EBADF;
	rt_lock();
	ret = mem_mmap(a[0], a[1], a[2], a[3], a[4], a[5]);
	rt_unlock();
	return ret;
}

static long locked_call(long nr, const long a[6])
{
	switch (nr) {
	case SYS_munmap:
		return mem_munmap(a[0], a[1]);
	case SYS_mprotect:
		return mem_mprotect(a[0], a[1], a[2]);
	case SYS_madvise:
		return mem_madvise(a[0], a[1], a[2]);
	case SYS_brk:
		return mem_brk(a[0]);
	case SYS_shmat:
		return mem_shmat(a[0], a[1], a[2]);
	case SYS_shmdt:
		return mem_shmdt(a[0]);
	/* Keys are not supported, as on a processor that has none. */
	case SYS_pkey_mprotect:
		return (int)a[3] == -1 ? mem_mprotect(a[0], a[1], a[2]) : -EINVAL;
	case SYS_pkey_alloc:
		return a[0] || a[1] & ~3L ? -EINVAL : -ENOSPC;
	case SYS_pkey_free:
		return -EINVAL;
	case SYS_remap_file_pages:
		return mem_remap_file_pages(a[0], a[1], a[2], a[3]);
	}
	return mem_mremap(a[0], a[1], a[2], a[3], a[4]);
}

long sys_mem_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	long ret;

	if (NR(e) == SYS_memfd_create) {
		ret = sys_pass(cpu, e, a);
		if (ret >= 0)
			mem_made_file(ret);
		return ret;
	}
	if (NR(e) == SYS_mincore) {
		mem_kernel_write(a[2], PAGE_UP(a[1]) / PAGE);
		return sys_pass(cpu, e, a);
	}
	rt_lock();
	ret = locked_call(NR(e), a);
	rt_unlock();
	return ret;
}

/* ---- /proc/self/mem ------------------------------------------------------- */

static bool names_own_memory(int fd)
{
	char link[32], name[64];
	char *end;
	long n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = raw_syscall(SYS_readlink, (long)link, (long)name, sizeof(name) - 1, 0, 0, 0);
	if (n < 6)
		return false;
	name[n] = '\0';
	return !strncmp(name, "/proc/", 6) && strtol(name + 6, &end, 10) == getpid() &&
	       *end == '/';
}

/* One region's part; rt_lock is held. Bytes or -errno. */
static long write_part(int fd, uint64_t at, uint64_t from, uint64_t len)
{
	struct region *r = map_at(at);
	char *alias;

	if (r && len > r->end - at)
		len = r->end - at;
	if (!r || r->kind != R_PVIEW || r->prot & PROT_WRITE)
		return raw_syscall(SYS_pwrite64, fd, from, len, at, 0, 0);
	alias = r->mv->alias + r->voff + (at - r->start);
	if (guest_copy(alias, (const void *)from, len))
		return -EFAULT;
	mem_forget_code(PAGE_DOWN(at), PAGE_UP(at + len));
	return len;
}

/**
 * sys_proc_mem_write() - a write to a /proc/PID/mem
 * @ret: the result, when it has been done here
 *
 * The kernel writes private memory whatever its protection is, but what is in a
 * view is shared memory to it.
 *
 * Return: has it been done?
 */
bool sys_proc_mem_write(const struct sys_entry *e, const long a[6], long *ret)
{
	bool seek = NR(e) == SYS_write;
	uint64_t at, done = 0, len = a[2];
	long n = 0;

	if ((!seek && NR(e) != SYS_pwrite64) || !names_own_memory(a[0]))
		return false;
	at = seek ? raw_syscall(SYS_lseek, a[0], 0, SEEK_CUR, 0, 0, 0) : a[3];
	if (at >= TASK_END || !len || len > TASK_END - at)
		return false;
	rt_lock();
	while (done < len) {
		n = write_part(a[0], at + done, a[1] + done, len - done);
		if (n <= 0)
			break;
		done += n;
	}
	rt_unlock();
	if (seek && done)
		raw_syscall(SYS_lseek, a[0], at + done, SEEK_SET, 0, 0, 0);
	*ret = done ? (long)done : n;
	return true;
}
