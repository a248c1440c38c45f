// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The system calls that need more than their line in the table: descriptors,
 * /proc, signals, limits, the process itself.
 *
 * Each has the type sys_fn. Guarded descriptors among the table's A_FD arguments
 * are refused before these are called.
 */
#include "fd.h"
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "syscall.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define NR(e)	((long)((e) - sys_table))

/* ---- /proc --------------------------------------------------------------- */

/*
 * Is this /proc/self/NAME of ours, for some spelling of self? Returns what
 * follows "/proc/self/", or NULL.
 */
static const char *proc_self(const char *path)
{
	char *end;

	if (strncmp(path, "/proc/", 6))
		return NULL;
	path += 6;
	if (!strncmp(path, "self/", 5))
		return path + 5;
	if (!strncmp(path, "thread-self/", 12))
		return path + 12;
	if (strtoul(path, &end, 10) == (unsigned long)getpid() && *end == '/')
		return end + 1;
	return NULL;
}

/* A name of one of the runtime's descriptors. */
static bool names_guarded(const char *path)
{
	const char *rest = proc_self(path);
	char *end;
	unsigned long fd;

	if (!rest && !strncmp(path, "/dev/", 5))
		rest = path + 5;
	if (!rest)
		return false;
	if (!strncmp(rest, "fd/", 3))
		rest += 3;
	else if (!strncmp(rest, "fdinfo/", 7))
		rest += 7;
	else
		return false;
	fd = strtoul(rest, &end, 10);
	return end != rest && fd_is_guarded(fd);
}

/* What the runtime must know of a descriptor that was just opened. */
static void mark_opened(int fd, int flags)
{
	char link[64], name[256];
	struct statfs fs;
	ssize_t n;

	fd_mark(fd, FD_PLAIN);
	if (flags & O_TRUNC)
		mem_file_written(fd);
	if (fstatfs(fd, &fs) || (unsigned long)fs.f_type != PROC_SUPER_MAGIC)
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, name, sizeof(name) - 1);
	if (n <= 0)
		return;
	name[n] = '\0';
	link[0] = '\0';
	if (strrchr(name, '/'))
		snprintf(link, sizeof(link), "%s", strrchr(name, '/'));
	if (!strcmp(link, "/mem"))
		fd_mark(fd, FD_PROC_MEM);
	else if (!strcmp(link, "/fd") || !strcmp(link, "/fdinfo"))
		fd_mark(fd, FD_PROC_FDS);
}

long sys_open_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	bool at = NR(e) == SYS_openat || NR(e) == SYS_openat2;
	long args[6] = { a[0], a[1], a[2], a[3], a[4], a[5] };
	uint64_t flags = at ? a[2] : a[1];
	const char *rest;
	char path[4096];
	long fd;

	if (NR(e) == SYS_creat)
		flags = O_TRUNC;
	if (NR(e) == SYS_openat2 && guest_read(&flags, a[2], sizeof(flags)))
		return -EFAULT;
	if (guest_strncpy(path, at ? a[1] : a[0], sizeof(path)) > 0) {
		if (names_guarded(path))
			return -ENOENT;
		rest = proc_self(path);
		if (rest && !strcmp(rest, "exe"))
			args[at] = (long)rt.exe;
	}
	fd = sys_pass(cpu, e, args);
	if (fd >= 0)
		mark_opened(fd, flags);
	return fd;
}

long sys_readlink_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	int at = NR(e) == SYS_readlinkat;
	const char *rest;
	char path[4096];
	long len = a[2 + at];

	if (guest_strncpy(path, a[at], sizeof(path)) > 0) {
		if (names_guarded(path))
			return -ENOENT;
		rest = proc_self(path);
		if (rest && !strcmp(rest, "exe")) {
			if (len <= 0)
				return -EINVAL;
			if ((size_t)len > strlen(rt.exe))
				len = strlen(rt.exe);
			return guest_write(a[1 + at], rt.exe, len) ?: len;
		}
	}
	return sys_pass(cpu, e, a);
}

/* The listing of /proc/self/fd without the runtime's descriptors. */
long sys_getdents_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	/* linux_dirent64 has the type before the name, linux_dirent after it. */
	size_t name = NR(e) == SYS_getdents64 ? 19 : 18;
	long n, from = 0, to = 0;
	uint16_t reclen;
	char *buf, *end;

	do {
		n = sys_pass(cpu, e, a);
		if (n <= 0 || fd_marked(a[0]) != FD_PROC_FDS)
			return n;
		buf = malloc(n);
		if (!buf || guest_read(buf, a[1], n)) {
			free(buf);
			return -ENOMEM;
		}
		for (from = 0, to = 0; from + 18 < n; from += reclen) {
			unsigned long fd = strtoul(buf + from + name, &end, 10);

			memcpy(&reclen, buf + from + 16, sizeof(reclen));
			if (end != buf + from + name && fd_is_guarded(fd))
				continue;
			memmove(buf + to, buf + from, reclen);
			to += reclen;
		}
		if (to != n && to && guest_write(a[1], buf, to))
			to = -EFAULT;
		free(buf);
		/* All of them were ours: 0 would mean the end. */
	} while (!to);
	return to;
}

/* ---- descriptors --------------------------------------------------------- */

long sys_fd_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	switch (NR(e)) {
	case SYS_close:
		return fd_sys_close(a[0]);
	case SYS_close_range:
		return fd_sys_close_range(a[0], a[1], a[2]);
	case SYS_dup:
		return fd_sys_dup(a[0]);
	case SYS_dup2:
		return fd_sys_dup3(a[0], a[1], 0, true);
	}
	return fd_sys_dup3(a[0], a[1], a[2], false);
}

long sys_fcntl_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	long ret;

	switch ((int)a[1]) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		if (fd_is_guarded(a[2]))
			a[2] = fd_first() + FD_GUARDED;
		ret = sys_pass(cpu, e, a);
		if (ret >= 0)
			fd_mark(ret, fd_marked(a[0]));
		return ret;
	case F_GETLK:
	case F_OFD_GETLK:
		mem_kernel_write(a[2], 32);
		break;
	case F_GETOWN_EX:
	case F_GET_RW_HINT:
	case F_GET_FILE_RW_HINT:
		mem_kernel_write(a[2], 8);
		break;
	case F_GETFD:
	case F_SETFD:
	case F_GETFL:
	case F_SETFL:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
	case F_GETOWN:
	case F_SETOWN:
	case F_SETOWN_EX:
	case F_GETSIG:
	case F_SETSIG:
	case F_GETLEASE:
	case F_SETLEASE:
	case F_NOTIFY:
	case F_GETPIPE_SZ:
	case F_SETPIPE_SZ:
	case F_ADD_SEALS:
	case F_GET_SEALS:
	case F_SET_RW_HINT:
	case F_SET_FILE_RW_HINT:
		break;
	default:
		cpu->regs.rip -= 2;
		unsupported(cpu, "fcntl command %d", (int)a[1]);
	}
	return sys_pass(cpu, e, a);
}

long sys_truncate_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	long ret = sys_pass(cpu, e, a);
	int fd;

	if (ret)
		return ret;
	fd = raw_syscall(SYS_open, a[0], O_PATH | O_CLOEXEC, 0, 0, 0, 0);
	if (fd < 0) {
		/* Which file it was cannot be told. */
		mem_all_written();
	} else {
		mem_file_written(fd);
		close(fd);
	}
	return 0;
}

/* ---- waiting with a signal mask ------------------------------------------ */

long sys_masked_wait(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	uint64_t mask;
	int at, err;

	switch (NR(e)) {
	case SYS_ppoll:
		at = 3;
		break;
	case SYS_rt_sigsuspend:
		at = 0;
		break;
	default:
		at = 4;
	}
	if (a[at]) {
		err = sig_wait_mask(cpu, a[at], a[at + 1], &mask);
		if (err)
			return err;
		a[at] = (long)&mask;
	}
	return sys_pass(cpu, e, a);
}

long sys_select_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	struct { uint64_t set, size; } arg;
	uint64_t mask;
	int err;

	if (a[0] > 0)
		for (int i = 1; i < 4; i++)
			mem_kernel_write(a[i], ((uint64_t)(int)a[0] + 63) / 64 * 8);
	if (NR(e) == SYS_pselect6 && a[5]) {
		if (guest_read(&arg, a[5], sizeof(arg)))
			return -EFAULT;
		if (arg.set) {
			err = sig_wait_mask(cpu, arg.set, arg.size, &mask);
			if (err)
				return err;
			arg.set = (uint64_t)&mask;
		}
		a[5] = (long)&arg;
	}
	return sys_pass(cpu, e, a);
}

long sys_recvmmsg_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	struct mmsghdr m;

	for (uint64_t i = 0; i < (uint32_t)a[2] && i < 1024; i++) {
		struct iovec v;

		if (guest_read(&m, a[1] + i * sizeof(m), sizeof(m)))
			break;
		mem_kernel_write((uint64_t)m.msg_hdr.msg_name, m.msg_hdr.msg_namelen);
		mem_kernel_write((uint64_t)m.msg_hdr.msg_control, m.msg_hdr.msg_controllen);
		for (size_t k = 0; k < m.msg_hdr.msg_iovlen && k < 1024; k++) {
			if (guest_read(&v, (uint64_t)(m.msg_hdr.msg_iov + k), sizeof(v)))
				break;
			mem_kernel_write((uint64_t)v.iov_base, v.iov_len);
		}
	}
	return sys_pass(cpu, e, a);
}

/* ---- signals ------------------------------------------------------------- */

long sys_signal_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	switch (NR(e)) {
	case SYS_rt_sigaction:
		return sig_action(cpu, (uint32_t)a[0], a[1], a[2], a[3]);
	case SYS_rt_sigprocmask:
		return sig_procmask(cpu, (uint32_t)a[0], a[1], a[2], a[3]);
	case SYS_rt_sigpending:
		return sig_pending_set(cpu, a[0], a[1]);
	case SYS_rt_sigtimedwait:
		return sig_timedwait(cpu, a);
	}
	return sig_altstack(cpu, a[0], a[1]);
}

/* ---- the process --------------------------------------------------------- */

long sys_limit_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	struct rlimit new_lim, old_lim;
	bool set = NR(e) == SYS_setrlimit, get = NR(e) == SYS_getrlimit;
	uint64_t new_at = set ? a[1] : get ? 0 : a[2];
	uint64_t old_at = get ? a[1] : set ? 0 : a[3];
	int pid = get || set ? 0 : a[0];
	unsigned int what = get || set ? a[0] : a[1];
	long ret;

	if (get && !old_at)
		return -EFAULT;
	if (pid && pid != getpid()) {
		mem_kernel_write(old_at, sizeof(old_lim));
		return sys_pass(cpu, e, a);
	}
	if (new_at && guest_read(&new_lim, new_at, sizeof(new_lim)))
		return -EFAULT;
	ret = fd_sys_prlimit(0, what, new_at ? &new_lim : NULL, old_at ? &old_lim : NULL);
	if (!ret && old_at)
		ret = guest_write(old_at, &old_lim, sizeof(old_lim));
	return ret;
}

long sys_personality_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	unsigned int want = a[0];
	long was;

	if (want == 0xffffffff) {
		was = sys_pass(cpu, e, a);
	} else {
		if ((want & PER_MASK) != PER_LINUX) {
			cpu->regs.rip -= 2;
			unsupported(cpu, "personality 0x%x", want);
		}
		/* The host must not map the guest's memory executable. */
		a[0] = want & ~READ_IMPLIES_EXEC;
		was = sys_pass(cpu, e, a);
		if (was < 0)
			return was;
	}
	if (mem_read_implies_exec)
		was |= READ_IMPLIES_EXEC;
	if (want != 0xffffffff)
		mem_read_implies_exec = want & READ_IMPLIES_EXEC;
	return was;
}

long sys_prctl_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	switch ((int)a[0]) {
	case PR_GET_NAME:
		mem_kernel_write(a[1], 16);
		break;
	case PR_GET_PDEATHSIG:
	case PR_GET_TSC:
	case PR_GET_UNALIGN:
	case PR_GET_FPEMU:
	case PR_GET_FPEXC:
	case PR_GET_CHILD_SUBREAPER:
		mem_kernel_write(a[1], 4);
		break;
	case PR_GET_TID_ADDRESS:
		mem_kernel_write(a[1], 8);
		break;
	case PR_SET_TSC:
		if (a[1] != PR_TSC_ENABLE)
			goto no;
		break;
	case PR_SET_NAME:
	case PR_SET_PDEATHSIG:
	case PR_GET_DUMPABLE:
	case PR_SET_DUMPABLE:
	case PR_GET_KEEPCAPS:
	case PR_SET_KEEPCAPS:
	case PR_GET_SECCOMP:
	case PR_CAPBSET_READ:
	case PR_CAPBSET_DROP:
	case PR_CAP_AMBIENT:
	case PR_GET_SECUREBITS:
	case PR_SET_SECUREBITS:
	case PR_SET_TIMERSLACK:
	case PR_GET_TIMERSLACK:
	case PR_SET_CHILD_SUBREAPER:
	case PR_SET_NO_NEW_PRIVS:
	case PR_GET_NO_NEW_PRIVS:
	case PR_GET_THP_DISABLE:
	case PR_SET_THP_DISABLE:
	case PR_SET_PTRACER:
	case PR_GET_SPECULATION_CTRL:
	case PR_SET_SPECULATION_CTRL:
	case PR_GET_TIMING:
	case PR_MCE_KILL_GET:
		break;
	case PR_SET_VMA:
		/* A name for anonymous memory: cosmetics, and not for a view. */
		if (map_at(a[2]) && map_at(a[2])->kind != R_ANON)
			return 0;
		break;
	default:
		goto no;
	}
	return sys_pass(cpu, e, a);
no:
	cpu->regs.rip -= 2;
	unsupported(cpu, "prctl option %d", (int)a[0]);
}

long sys_arch_prctl_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	switch ((int)a[0]) {
	case ARCH_SET_FS:
	case ARCH_SET_GS:
		if ((uint64_t)a[1] >= TASK_END + PAGE)
			return -EPERM;
		if (a[0] == ARCH_SET_FS)
			cpu->guest_fs = a[1];
		else
			cpu->guest_gs = a[1];
		return 0;
	case ARCH_GET_FS:
		return guest_write(a[1], &cpu->guest_fs, 8);
	case ARCH_GET_GS:
		return guest_write(a[1], &cpu->guest_gs, 8);
	case ARCH_GET_CPUID:
		return sys_pass(cpu, e, a);
	case 0x3001:	/* ARCH_CET_STATUS, which every dynamic program asks for */
		return -EINVAL;
	}
	cpu->regs.rip -= 2;
	unsupported(cpu, "arch_prctl 0x%x", (int)a[0]);
}

long sys_futex_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	switch (a[1] & 127) {
	case 5:		/* FUTEX_WAKE_OP */
		mem_kernel_write(a[4], 4);
		break;
	case 6:		/* FUTEX_LOCK_PI, UNLOCK, TRYLOCK, LOCK_PI2 */
	case 7:
	case 8:
	case 13:
		mem_kernel_write(a[0], 4);
		break;
	case 11:	/* FUTEX_WAIT_REQUEUE_PI, CMP_REQUEUE_PI */
	case 12:
		mem_kernel_write(a[0], 4);
		mem_kernel_write(a[4], 4);
		break;
	}
	return sys_pass(cpu, e, a);
}

/* Answered as a kernel that does not have it would. */
long sys_none_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	return -ENOSYS;
}
