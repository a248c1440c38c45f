// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The guest's calls about signals. Results and errors are the kernel's.
 *
 * Masks, pending signals and waiting are the kernel's own: the host's mask is the
 * guest's, without the synchronous signals (signal.c), which are looked after
 * here. Called without rt_lock.
 */
#include "signals.h"
#include "raw_syscall.h"
#include "runtime.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#define SA_KNOWN	(SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_EXPOSE_TAGS | \
			 SA_RESTORER_FLAG | SA_ONSTACK | SA_RESTART | SA_NODEFER | \
			 (unsigned long)(unsigned int)SA_RESETHAND)
#define MIN_ALTSTACK	2048	/* the kernel's MINSIGSTKSZ */

/* ---- dispositions --------------------------------------------------------- */

/* What the kernel drops when a signal becomes ignored: here, what is held. */
static void forget_held(struct cpu *cpu, int sig)
{
	for (struct cpu *c = __atomic_load_n(&all_cpus, __ATOMIC_ACQUIRE); c; c = c->next)
		if (c->sighand == cpu->sighand)
			__atomic_and_fetch(&c->sig_held, ~SIG_BIT(sig), __ATOMIC_RELAXED);
}

long sig_action(struct cpu *cpu, uint64_t sig, uint64_t act, uint64_t old, uint64_t size)
{
	struct ksigaction want = { 0 }, was;
	long err = 0;

	if (size != 8)
		return -EINVAL;
	if (act && guest_read(&want, act, sizeof(want)))
		return -EFAULT;
	if (!sig || sig > NSIG_GUEST || (act && NEVER_BLOCKED & SIG_BIT(sig)))
		return -EINVAL;
	want.flags &= SA_KNOWN;
	want.mask &= ~NEVER_BLOCKED;

	rt_lock();
	was = cpu->sighand->act[sig];
	if (act) {
		cpu->sighand->act[sig] = want;
		err = sig_host_install(sig, &want);
		if (err)
			cpu->sighand->act[sig] = was;
		else if (SYNC_SIGNALS & SIG_BIT(sig) && want.handler == (uint64_t)SIG_IGN)
			forget_held(cpu, sig);
	}
	rt_unlock();
	if (err)
		return err;
	return old ? guest_write(old, &was, sizeof(was)) : 0;
}

/* ---- masks ---------------------------------------------------------------- */

long sig_procmask(struct cpu *cpu, uint64_t how, uint64_t set, uint64_t old, uint64_t size)
{
	uint64_t was = cpu->sigmask, want, host;
	const long args[6] = { SIG_SETMASK, (long)&host, 0, 8 };
	long err;

	if (size != 8)
		return -EINVAL;
	if (set) {
		if (guest_read(&want, set, sizeof(want)))
			return -EFAULT;
		want &= ~NEVER_BLOCKED;
		switch ((int)how) {
		case SIG_BLOCK:
			want |= was;
			break;
		case SIG_UNBLOCK:
			want = was & ~want;
			break;
		case SIG_SETMASK:
			break;
		default:
			return -EINVAL;
		}
		host = want & ~SYNC_SIGNALS;
		/* Not while one is queued: then all others are to stay blocked. */
		err = guest_syscall(&cpu->stop, SYS_rt_sigprocmask, args);
		if (err)
			return err;
		cpu->sigmask = want;
		sig_unhold(cpu, want);
	}
	return old ? guest_write(old, &was, sizeof(was)) : 0;
}

long sig_pending_set(struct cpu *cpu, uint64_t set, uint64_t size)
{
	uint64_t pending;
	long err;

	if (size > 8)
		return -EINVAL;
	err = raw_syscall(SYS_rt_sigpending, (long)&pending, 8, 0, 0, 0, 0);
	if (err)
		return err;
	pending = (pending | cpu->sig_held) & cpu->sigmask;
	return guest_write(set, &pending, size);
}

int sig_wait_mask(struct cpu *cpu, uint64_t gva, uint64_t size, uint64_t *mask)
{
	if (size != 8)
		return -EINVAL;
	if (guest_read(mask, gva, 8))
		return -EFAULT;
	*mask &= ~NEVER_BLOCKED;
	cpu->sig_wait_mask = *mask;
	cpu->sig_waiting = true;
	if (sig_unhold(cpu, *mask))
		cpu->sig_wait_hit = true;
	*mask &= ~SYNC_SIGNALS;
	return 0;
}

/**
 * sig_timedwait() - rt_sigtimedwait of the guest
 *
 * The kernel knows nothing of the signals that are held: they are looked for
 * before it waits, and again when one has interrupted it.
 */
long sig_timedwait(struct cpu *cpu, const long args[6])
{
	uint64_t set, ready;
	long ret = -EINTR;
	siginfo_t info;
	int sig;

	if (args[3] != 8)
		return -EINVAL;
	if (guest_read(&set, args[0], sizeof(set)))
		return -EFAULT;
	ready = cpu->sig_held & set;
	if (!ready) {
		ret = guest_syscall(&cpu->stop, SYS_rt_sigtimedwait, args);
		ready = ret == -EINTR ? cpu->sig_held & set : 0;
	}
	if (!ready)
		return ret;
	sig = __builtin_ctzl(ready) + 1;
	info = *sig_sync_info(cpu, sig);
	__atomic_and_fetch(&cpu->sig_held, ~SIG_BIT(sig), __ATOMIC_RELAXED);
	if (args[1] && guest_write(args[1], &info, sizeof(info)))
		return -EFAULT;
	return sig;
}

/* ---- the alternate stack -------------------------------------------------- */

bool sig_on_altstack(const struct cpu *cpu, uint64_t sp)
{
	uint64_t low = (uint64_t)cpu->sig_alt.ss_sp;

	return sp > low && sp - low <= cpu->sig_alt.ss_size;
}

void sig_altstack_reset(struct cpu *cpu)
{
	cpu->sig_alt = (stack_t){ .ss_flags = SS_DISABLE };
}

/* On it, as far as it matters: one that disarms itself is never in use. */
static bool in_use(const struct cpu *cpu)
{
	return !(cpu->sig_alt.ss_flags & (int)SS_AUTODISARM_FLAG) &&
	       sig_on_altstack(cpu, cpu->regs.r[4]);
}

long sig_altstack_set(struct cpu *cpu, const stack_t *want)
{
	int mode = want->ss_flags & ~(int)SS_AUTODISARM_FLAG;

	if (in_use(cpu))
		return -EPERM;
	if (mode != SS_DISABLE && mode != SS_ONSTACK && mode)
		return -EINVAL;
	if (mode != SS_DISABLE && want->ss_size < MIN_ALTSTACK)
		return -ENOMEM;
	cpu->sig_alt = (stack_t){ .ss_flags = want->ss_flags };
	if (mode != SS_DISABLE) {
		cpu->sig_alt.ss_sp = want->ss_sp;
		cpu->sig_alt.ss_size = want->ss_size;
	}
	return 0;
}

long sig_altstack(struct cpu *cpu, uint64_t ss, uint64_t old)
{
	stack_t want, was = { 0 };
	long err;

	/* Padding and all, as it is copied to the guest. */
	was.ss_sp = cpu->sig_alt.ss_sp;
	was.ss_size = cpu->sig_alt.ss_size;
	was.ss_flags = cpu->sig_alt.ss_flags & (int)SS_AUTODISARM_FLAG;
	if (!was.ss_size)
		was.ss_flags |= SS_DISABLE;
	else if (in_use(cpu))
		was.ss_flags |= SS_ONSTACK;
	if (ss) {
		if (guest_read(&want, ss, sizeof(want)))
			return -EFAULT;
		err = sig_altstack_set(cpu, &want);
		if (err)
			return err;
	}
	return old ? guest_write(old, &was, sizeof(was)) : 0;
}
