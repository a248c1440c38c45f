// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The system calls on the process itself that need more than their line in the
 * table: signals, limits, personality, prctl, arch_prctl, seccomp; and those that
 * are refused. Each has the type sys_fn.
 *
 * Owns nothing.
 */
#include "fd.h"
#include "mem.h"
#include "procfs.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "seccomp.h"
#include "syscall.h"

#include <asm/prctl.h>
#include <errno.h>
#include <linux/sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR(e)	((long)((e) - sys_table))

#ifndef PR_GET_AUXV
#define PR_GET_AUXV		0x41555856
#endif
#ifndef PR_SET_MDWE
#define PR_SET_MDWE		65
#define PR_GET_MDWE		66
#endif
#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE		62
#endif

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
	rt_lock();
	ret = fd_sys_prlimit(what, new_at ? &new_lim : NULL, old_at ? &old_lim : NULL);
	rt_unlock();
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

static long get_auxv(const long a[6])
{
	uint64_t size, at = procfs_auxv(&size);
	char buf[1024];

	if (a[3] || a[4])
		return -EINVAL;
	if (size > sizeof(buf) || guest_read(buf, at, size))
		return -EFAULT;
	if (guest_write(a[1], buf, (uint64_t)a[2] < size ? (uint64_t)a[2] : size))
		return -EFAULT;
	return size;
}

/* What the kernel does not know it refuses; what is new to us is passed on. */
long sys_prctl_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	struct region *r;
	bool view;

	switch ((int)a[0]) {
	case PR_GET_NAME:
		mem_kernel_write(a[1], 16);
		break;
	case PR_GET_PDEATHSIG:
	case PR_GET_TSC:
	case PR_GET_UNALIGN:
	case PR_GET_FPEMU:
	case PR_GET_FPEXC:
	case PR_GET_ENDIAN:
	case PR_GET_CHILD_SUBREAPER:
		mem_kernel_write(a[1], 4);
		break;
	case PR_GET_TID_ADDRESS:
		mem_kernel_write(a[1], 8);
		break;
	case PR_SCHED_CORE:
		mem_kernel_write(a[4], 8);
		break;
	case PR_GET_AUXV:
		/* A kernel before 6.4 does not have it. */
		if (raw_syscall(SYS_prctl, PR_GET_AUXV, 0, 0, 0, 0, 0) == -EINVAL)
			return -EINVAL;
		return get_auxv(a);
	case PR_GET_SECCOMP:
		return seccomp_mode(cpu);
	case PR_SET_SECCOMP:
		return seccomp_prctl(cpu, a[1], a[2]);
	case PR_SET_TSC:
		if (a[1] == PR_TSC_ENABLE)
			break;
		cpu->regs.rip -= 2;
		unsupported(cpu, "prctl(PR_SET_TSC, %ld)", a[1]);
	case PR_SET_MM:
		/* Needs a privilege natively; what it changes is the runtime's. */
		return -EPERM;
	case PR_SET_SYSCALL_USER_DISPATCH:
		/* It would catch the runtime's calls, and pages' protection */
	case PR_SET_MDWE:
	case PR_GET_MDWE:
		/* is not the host's: as a kernel that does not have them. */
		return -EINVAL;
	case PR_SET_VMA:
		/* A name for anonymous memory: cosmetics, and not for a view. */
		rt_lock();
		r = map_at(a[2]);
		view = r && mem_is_view(r);
		rt_unlock();
		if (view)
			return 0;
		break;
	}
	return sys_pass(cpu, e, a);
}

long sys_arch_prctl_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	switch ((int)a[0]) {
	case ARCH_SET_FS:
	case ARCH_SET_GS:
		if ((uint64_t)a[1] >= TASK_END + PAGE)
			return -EPERM;
		if ((int)a[0] == ARCH_SET_FS)
			cpu->guest_fs = a[1];
		else
			cpu->guest_gs = a[1];
		if ((int)a[0] == ARCH_SET_GS)
			cpu->gs_sel = 0;
		return 0;
	case ARCH_GET_FS:
		return guest_write(a[1], &cpu->guest_fs, 8);
	case ARCH_GET_GS:
		return guest_write(a[1], &cpu->guest_gs, 8);
	case ARCH_GET_CPUID:
	case ARCH_SET_CPUID:
		return sys_pass(cpu, e, a);
	}
	/*
	 * Shadow stacks, tagged addresses, tile registers on demand: as a kernel
	 * that does not have them.
	 */
	return -EINVAL;
}

long sys_seccomp_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	return seccomp_set(cpu, a[0], a[1], a[2]);
}

/* On the guest itself only the kinds that change no content. */
long sys_process_madvise_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	switch ((int)a[3]) {
	case MADV_WILLNEED:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case 25:	/* MADV_COLLAPSE */
		return sys_pass(cpu, e, a);
	}
	return -EINVAL;
}

long sys_unshare_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	if (a[0] & CLONE_FILES && cpu->proc->threads > 1) {
		cpu->regs.rip -= 2;
		unsupported(cpu, "a thread with descriptors of its own");
	}
	return sys_pass(cpu, e, a);
}

/*
 * ptrace would show the runtime in the tracee, I/O ports and segments of one's own
 * need what the translator does not do: as where the administrator has forbidden
 * them.
 */
long sys_refused_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	return -EPERM;
}

/* Answered as a kernel that does not have it would. */
long sys_none_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	return -ENOSYS;
}
