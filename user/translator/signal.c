// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Signals: the one host handler behind all of them, and the guest's idea of
 * dispositions, masks and its alternate stack.
 *
 * The five signals that an instruction can raise always come to the master
 * handler; the others only while the guest has a handler of its own for them, so
 * that defaults and ignoring are the kernel's. Host frames are built on a stack
 * of the runtime, never on a guest's.
 *
 * Owns the guest's dispositions (actions), its mask and its alternate stack. The
 * handler reads actions and writes cpu->sig_*; the guest's thread writes the
 * rest with its signals as they are, since each field is read only once.
 *
 * Running a guest's handler is not done yet: the guest ends with a line.
 */
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define BIT(sig)	(1UL << ((sig) - 1))
#define SYNC_SIGNALS	(BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGTRAP))
#define NEVER_BLOCKED	(BIT(SIGKILL) | BIT(SIGSTOP))
#define NSIG_GUEST	64
#define SA_RESTORER_FLAG 0x04000000UL
#define SA_KNOWN	(SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | 0x800UL | \
			 SA_RESTORER_FLAG | SA_ONSTACK | SA_RESTART | SA_NODEFER | \
			 (unsigned long)(unsigned int)SA_RESETHAND)
#define ALT_STACK	(256UL << 10)

struct ksigaction {
	uint64_t handler, flags, restorer, mask;
};

static struct ksigaction actions[NSIG_GUEST + 1];
static uint64_t guest_mask;
static uint64_t held;		/* sent to us while the guest blocks them: SYNC_SIGNALS only */
static stack_t guest_alt = { .ss_flags = SS_DISABLE };
static struct cpu *the_cpu;

/* signal_entry.S */
void signal_entry(void);
void signal_restorer(void);
extern uint8_t signal_fsgsbase;
uint8_t signal_fsgsbase;
void signal_master(int sig, siginfo_t *info, ucontext_t *uc);

static long host_action(int sig, const struct ksigaction *act)
{
	return raw_syscall(SYS_rt_sigaction, sig, (long)act, 0, 8, 0, 0);
}

static long install(int sig, uint64_t flags)
{
	struct ksigaction act = {
		.handler = (uint64_t)signal_entry,
		.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER_FLAG | flags,
		.restorer = (uint64_t)signal_restorer,
		.mask = ~SYNC_SIGNALS,
	};

	return host_action(sig, &act);
}

static long host_mask(uint64_t mask)
{
	mask &= ~SYNC_SIGNALS;
	return raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, 8, 0, 0);
}

/**
 * signal_init() - take over the signals; call once the thread's %gs is set
 * @cpu: the only thread
 *
 * Return: 0 or -errno.
 */
int signal_init(struct cpu *cpu)
{
	stack_t alt = { .ss_size = ALT_STACK };
	long err;

	the_cpu = cpu;
	signal_fsgsbase = !!(getauxval(AT_HWCAP2) & 2);
	alt.ss_sp = mem_runtime_map(ALT_STACK, PROT_READ | PROT_WRITE);
	if (!alt.ss_sp)
		return -ENOMEM;
	if (sigaltstack(&alt, NULL))
		return -errno;
	for (int sig = 1; sig <= NSIG_GUEST; sig++) {
		err = raw_syscall(SYS_rt_sigaction, sig, 0, (long)&actions[sig], 8, 0, 0);
		if (err)
			return err;
	}
	err = raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, 0, (long)&guest_mask, 8, 0, 0);
	for (int sig = 1; sig <= NSIG_GUEST && !err; sig++)
		if (SYNC_SIGNALS & BIT(sig))
			err = install(sig, 0);
	return err ? err : host_mask(guest_mask);
}

static bool has_handler(int sig)
{
	return actions[sig].handler > 1;	/* neither SIG_DFL nor SIG_IGN */
}

/**
 * signal_die() - end as the guest would have by this signal
 *
 * The parent sees the same status. Never returns.
 */
void signal_die(int sig)
{
	struct ksigaction dfl = { .handler = 0 };
	uint64_t mask = ~BIT(sig);

	if (rt.stats && !rt.exiting) {
		rt.exiting = true;
		stats_print(rt.stderr_fd);
	}
	log_close();
	host_action(sig, &dfl);
	raw_syscall(SYS_tgkill, getpid(), raw_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0), sig,
		    0, 0, 0);
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, 8, 0, 0);
	_exit(128 + sig);
}

/* ---- the handler --------------------------------------------------------- */

static const uint8_t reg_order[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static void regs_from(struct codewp_regs *regs, const ucontext_t *uc)
{
	for (int i = 0; i < 16; i++)
		regs->r[i] = uc->uc_mcontext.gregs[reg_order[i]];
	regs->rip = uc->uc_mcontext.gregs[REG_RIP];
	regs->rflags = uc->uc_mcontext.gregs[REG_EFL];
}

static void regs_to(ucontext_t *uc, const struct codewp_regs *regs)
{
	for (int i = 0; i < 16; i++)
		uc->uc_mcontext.gregs[reg_order[i]] = regs->r[i];
	uc->uc_mcontext.gregs[REG_RIP] = regs->rip;
	uc->uc_mcontext.gregs[REG_EFL] = regs->rflags;
}

static void asynchronous(int sig, const siginfo_t *info, ucontext_t *uc)
{
	struct cpu *cpu = the_cpu;
	uint64_t pc = uc->uc_mcontext.gregs[REG_RIP];

	if (SYNC_SIGNALS & BIT(sig)) {
		if (guest_mask & BIT(sig)) {
			cpu->sig_info[sig] = *info;
			held |= BIT(sig);
			return;
		}
		if (actions[sig].handler == (uint64_t)SIG_IGN)
			return;
		if (!has_handler(sig))
			signal_die(sig);
	}
	cpu->sig_info[sig] = *info;
	cpu->sig_pending |= BIT(sig);
	cpu->stop = 1;
	if (cpu->in_cache)
		core_cut(cpu, pc);
	else if (pc >= (uint64_t)guest_syscall_test && pc <= (uint64_t)guest_syscall_insn)
		uc->uc_mcontext.gregs[REG_RIP] = (uint64_t)guest_syscall_stopped;
}

/* Called from signal_entry.S with the runtime's %fs. */
void signal_master(int sig, siginfo_t *info, ucontext_t *uc)
{
	struct cpu *cpu = the_cpu;
	uint64_t pc = uc->uc_mcontext.gregs[REG_RIP];
	struct codewp_regs regs;
	int saved = errno;

	if (!(SYNC_SIGNALS & BIT(sig)) || info->si_code <= 0) {
		asynchronous(sig, info, uc);
		goto out;
	}
	if ((sig == SIGSEGV || sig == SIGBUS) &&
	    codewp_handle_signal(the_ctx, sig, info, uc))
		goto out;
	if (pc == (uint64_t)guest_copy_insn) {
		uc->uc_mcontext.gregs[REG_RIP] = (uint64_t)guest_copy_fault;
		goto out;
	}
	if (!core_in_cache(pc))
		fatal("signal %d (code %d) at host pc 0x%lx, address %p", sig, info->si_code,
		      pc, info->si_addr);

	regs_from(&regs, uc);
	if (!core_guest_state(cpu, &regs))
		fatal("signal %d at host pc 0x%lx belongs to no guest instruction", sig, pc);
	cpu->fault_sig = sig;
	cpu->fault_code = info->si_code;
	cpu->fault_addr = core_fault_addr(cpu, (uint64_t)info->si_addr);
	core_signal_exit(cpu, &regs, CPU_FAULT);
	regs_to(uc, &regs);
out:
	errno = saved;
}

/**
 * signal_fault() - guest code raised cpu->fault_sig at cpu->regs.rip
 *
 * As natively, a handler that is blocked or ignored does not help.
 */
void signal_fault(struct cpu *cpu)
{
	int sig = cpu->fault_sig;

	if (has_handler(sig) && !(guest_mask & BIT(sig)))
		unsupported(cpu, "delivering signal %d (%s, fault at 0x%lx) to a handler", sig,
			    sigabbrev_np(sig) ?: "?", cpu->fault_addr);
	signal_die(sig);
}

/**
 * signal_deliver() - at a cut: deal with what the handler has queued
 */
void signal_deliver(struct cpu *cpu)
{
	uint64_t pending = __atomic_exchange_n(&cpu->sig_pending, 0, __ATOMIC_ACQ_REL);

	cpu->stop = 0;
	for (int sig = 1; sig <= NSIG_GUEST; sig++) {
		if (!(pending & BIT(sig)))
			continue;
		if (has_handler(sig))
			unsupported(cpu, "delivering signal %d (%s) to a handler", sig,
				    sigabbrev_np(sig) ?: "real time");
		/* The disposition has changed since it was queued. */
		if (actions[sig].handler == (uint64_t)SIG_DFL)
			raw_syscall(SYS_tgkill, getpid(), getpid(), sig, 0, 0, 0);
	}
}

/* ---- the guest's calls --------------------------------------------------- */

long sig_action(struct cpu *cpu, uint64_t sig, uint64_t act, uint64_t old, uint64_t size)
{
	struct ksigaction want = { 0 }, was;
	long err = 0;

	if (size != 8 || !sig || sig > NSIG_GUEST)
		return -EINVAL;
	if (act && guest_read(&want, act, sizeof(want)))
		return -EFAULT;
	if (act && (sig == SIGKILL || sig == SIGSTOP))
		return -EINVAL;
	was = actions[sig];
	if (act) {
		want.flags &= SA_KNOWN;
		want.mask &= ~NEVER_BLOCKED;
		actions[sig] = want;
		if (SYNC_SIGNALS & BIT(sig)) {
			if (want.handler == (uint64_t)SIG_IGN)
				held &= ~BIT(sig);
		} else if (want.handler > 1) {
			err = install(sig, want.flags & (SA_NOCLDSTOP | SA_NOCLDWAIT));
		} else {
			err = host_action(sig, &want);
		}
		if (err) {
			actions[sig] = was;
			return err;
		}
	}
	return old ? guest_write(old, &was, sizeof(was)) : 0;
}

static void unhold(struct cpu *cpu)
{
	uint64_t ready = held & ~guest_mask;

	if (!ready)
		return;
	held &= ~ready;
	for (int sig = 1; sig <= NSIG_GUEST; sig++) {
		if (!(ready & BIT(sig)) || actions[sig].handler == (uint64_t)SIG_IGN)
			continue;
		if (!has_handler(sig))
			signal_die(sig);
		cpu->sig_pending |= BIT(sig);
		cpu->stop = 1;
	}
}

long sig_procmask(struct cpu *cpu, uint64_t how, uint64_t set, uint64_t old, uint64_t size)
{
	uint64_t was = guest_mask, want;
	long err;

	if (size != 8)
		return -EINVAL;
	if (set) {
		if (guest_read(&want, set, sizeof(want)))
			return -EFAULT;
		want &= ~NEVER_BLOCKED;
		switch (how) {
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
		guest_mask = want;
		err = host_mask(want);
		if (err)
			return err;
		unhold(the_cpu);
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
	pending |= held & guest_mask;
	return guest_write(set, &pending, size);
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
	int sig;

	if (args[3] != 8)
		return -EINVAL;
	if (guest_read(&set, args[0], sizeof(set)))
		return -EFAULT;
	ready = held & set;
	if (!ready) {
		ret = guest_syscall(&cpu->stop, SYS_rt_sigtimedwait, args);
		ready = ret == -EINTR ? held & set : 0;
	}
	if (!ready)
		return ret;
	sig = __builtin_ctzl(ready) + 1;
	held &= ~BIT(sig);
	if (args[1] && guest_write(args[1], &cpu->sig_info[sig], sizeof(siginfo_t)))
		return -EFAULT;
	return sig;
}

int sig_wait_mask(struct cpu *cpu, uint64_t gva, uint64_t size, uint64_t *mask)
{
	if (size != 8)
		return -EINVAL;
	if (guest_read(mask, gva, 8))
		return -EFAULT;
	*mask &= ~SYNC_SIGNALS;
	return 0;
}

long sig_altstack(struct cpu *cpu, uint64_t ss, uint64_t old)
{
	stack_t want, was = guest_alt;
	int mode;

	if (ss) {
		if (guest_read(&want, ss, sizeof(want)))
			return -EFAULT;
		mode = want.ss_flags & ~(1U << 31);	/* SS_AUTODISARM */
		if (mode != SS_DISABLE && mode != SS_ONSTACK && mode)
			return -EINVAL;
		if (mode == SS_DISABLE) {
			want.ss_size = 0;
			want.ss_sp = NULL;
		} else if (want.ss_size < getauxval(51 /* AT_MINSIGSTKSZ */)) {
			return -ENOMEM;
		}
		guest_alt = want;
	}
	return old ? guest_write(old, &was, sizeof(was)) : 0;
}
