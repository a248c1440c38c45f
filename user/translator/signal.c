// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Signals: the one host handler behind all of them, the queue between it and the
 * guest, and what threads, forks and new programs do with dispositions and masks.
 *
 * The five signals that an instruction can raise always come to the master
 * handler and are never blocked for the host; the others come there only while the
 * guest has a handler of its own for them, so that defaults, ignoring, masks,
 * pending sets, and the order of delivery are the kernel's. Host frames are built
 * on a stack of the runtime, never on a guest's.
 *
 * An asynchronous signal is only queued (cpu->sig_info) and waits for a cut.
 * Until it is delivered its thread has all others blocked, so that what
 * else comes stays with the kernel. Synchronous signals that somebody sends cannot be
 * blocked: they have a place each, and while the guest blocks them they are held.
 *
 * Owns cpu->sig_*, cpu->sigmask (with sigcall.c and sigframe.c) and the
 * dispositions. Only the thread itself, with its handler, touches the former;
 * the latter are written with rt_lock held. The handler takes no lock, but for a
 * fault that was raised by guest code.
 */
#include "signals.h"
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define SIGSTACK_FIRST	(256UL << 10)
#define FLAG_RF		0x10000UL	/* the processor sets it in a fault's flags */
#define MAX_RETRIES	1000	/* of one access that only the map allows */

static struct sighand first_sighand = { .refs = 1 };

/* signal_entry.S */
void signal_entry(void);
void signal_restorer(void);
extern uint8_t signal_fsgsbase;
uint8_t signal_fsgsbase;
void signal_master(int sig, siginfo_t *info, ucontext_t *uc);

/* ---- the host's side ------------------------------------------------------ */

long sig_host_action(int sig, const struct ksigaction *act)
{
	return raw_syscall(SYS_rt_sigaction, sig, (long)act, 0, 8, 0, 0);
}

static bool is_sync(int sig)
{
	return SYNC_SIGNALS & SIG_BIT(sig);
}

static bool has_handler(const struct ksigaction *act)
{
	return act->handler > 1;	/* neither SIG_DFL nor SIG_IGN */
}

long sig_host_install(int sig, const struct ksigaction *act)
{
	struct ksigaction host = {
		.handler = (uint64_t)signal_entry,
		.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER_FLAG,
		.restorer = (uint64_t)signal_restorer,
		.mask = ~SYNC_SIGNALS,
	};

	if (is_sync(sig)) {
		/*
		 * NODEFER: a trap's handler may copy guest memory. RESTART: one that
		 * is only held or ignored must not end a system call.
		 */
		host.flags |= SA_NODEFER;
		if (!has_handler(act) || act->flags & SA_RESTART)
			host.flags |= SA_RESTART;
	} else {
		if (!has_handler(act))
			return sig_host_action(sig, act);
		host.flags |= act->flags & (SA_RESTART | SA_NOCLDSTOP | SA_NOCLDWAIT);
	}
	return sig_host_action(sig, &host);
}

static void host_mask(uint64_t mask)
{
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, 8, 0, 0);
}

void signal_block_all(void)
{
	host_mask(~0UL);
}

/*
 * The host's mask becomes the guest's, unless a signal is queued: all are blocked
 * then, and stay so. One may be queued on the way into the kernel; the handler sees
 * to it that the call is not made then, or a second one would take its place.
 */
void signal_unblock(struct cpu *cpu)
{
	uint64_t mask = cpu->sigmask & ~SYNC_SIGNALS, all = ~SYNC_SIGNALS;
	long args[6] = { SIG_SETMASK, (long)&mask, 0, 8 };

	if (guest_syscall(&cpu->sig_queued, SYS_rt_sigprocmask, args) != -ERESTARTSYS)
		return;
	/* They were not, if it was queued before signal_block_all(). */
	args[1] = (long)&all;
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, args[1], 0, 8, 0, 0);
}

static int host_stack(void *stack, size_t size)
{
	const stack_t alt = { .ss_sp = stack, .ss_size = size };

	return raw_syscall(SYS_sigaltstack, (long)&alt, 0, 0, 0, 0, 0);
}

siginfo_t *sig_sync_info(struct cpu *cpu, int sig)
{
	return &cpu->sig_sync_info[__builtin_popcountl(SYNC_SIGNALS & (SIG_BIT(sig) - 1))];
}

/* ---- threads, processes, programs ----------------------------------------- */

/**
 * signal_init() - take over the signals; call once the thread's %gs is set
 * @cpu: the only thread
 *
 * Return: 0 or -errno.
 */
int signal_init(struct cpu *cpu)
{
	struct sighand *sh = &first_sighand;
	void *stack;
	long err;

	signal_fsgsbase = !!(getauxval(AT_HWCAP2) & 2);
	cpu->sighand = sh;
	sig_altstack_reset(cpu);
	err = sigframe_init();
	if (err)
		return err;
	stack = mem_runtime_map(SIGSTACK_FIRST, PROT_READ | PROT_WRITE);
	if (!stack)
		return -ENOMEM;
	err = host_stack(stack, SIGSTACK_FIRST);
	for (int sig = 1; sig <= NSIG_GUEST && !err; sig++)
		err = raw_syscall(SYS_rt_sigaction, sig, 0, (long)&sh->act[sig], 8, 0, 0);
	if (!err)
		err = raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, 0, (long)&cpu->sigmask, 8,
				  0, 0);
	for (int sig = 1; sig <= NSIG_GUEST && !err; sig++)
		if (is_sync(sig))
			err = sig_host_install(sig, &sh->act[sig]);
	if (err)
		return err;
	signal_unblock(cpu);
	return 0;
}

static void clear_handlers(struct sighand *sh)
{
	for (int sig = 1; sig <= NSIG_GUEST; sig++) {
		uint64_t handler = sh->act[sig].handler;

		sh->act[sig] = (struct ksigaction){
			.handler = handler == (uint64_t)SIG_IGN ? handler : 0,
		};
	}
}

/* CLONE_CLEAR_SIGHAND was obeyed by the host, too. */
static int install_sync(const struct sighand *sh)
{
	long err = 0;

	for (int sig = 1; sig <= NSIG_GUEST && !err; sig++)
		if (is_sync(sig))
			err = sig_host_install(sig, &sh->act[sig]);
	return err;
}

/**
 * signal_clone() - what a new thread or a vfork child has of signals
 * @cpu: the new one
 * @from: who makes it
 * @flags: clone flags
 *
 * With rt_lock held.
 *
 * Return: 0 or -ENOMEM.
 */
int signal_clone(struct cpu *cpu, const struct cpu *from, uint64_t flags)
{
	struct sighand *sh = from->sighand;

	if (flags & CLONE_SIGHAND) {
		sh->refs++;
	} else {
		sh = malloc(sizeof(*sh));
		if (!sh)
			return -ENOMEM;
		*sh = *from->sighand;
		sh->refs = 1;
		if (flags & CLONE_CLEAR_SIGHAND)
			clear_handlers(sh);
	}
	cpu->sighand = sh;
	cpu->sigmask = from->sigmask;
	cpu->sig_pending = 0;
	cpu->sig_queued = 0;
	cpu->sig_held = 0;
	cpu->sig_waiting = false;
	cpu->fault_raised = false;
	cpu->sig_trapno = from->sig_trapno;
	cpu->sig_err = from->sig_err;
	cpu->sig_cr2 = from->sig_cr2;
	if ((flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM)
		sig_altstack_reset(cpu);
	else
		cpu->sig_alt = from->sig_alt;
	return 0;
}

/**
 * signal_thread_start() - on the new thread, everything blocked
 */
int signal_thread_start(struct cpu *cpu)
{
	int err = host_stack(cpu->sigstack, THREAD_SIGSTACK);

	if (!err && cpu->sighand->refs == 1)
		err = install_sync(cpu->sighand);
	return err;
}

/* Back to the kernel, for this thread, which has it blocked. */
static void requeue(int sig, const siginfo_t *info)
{
	raw_syscall(SYS_rt_tgsigqueueinfo, raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0),
		    raw_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0), sig, (long)info, 0, 0);
}

/*
 * To the process. Only its first thread may say what kill() and the kernel say; of
 * another one the sender is taken to be this process.
 */
static void pass_on(int sig, const siginfo_t *info)
{
	long pid = raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);

	if (raw_syscall(SYS_rt_sigqueueinfo, pid, sig, (long)info, 0, 0, 0))
		raw_syscall(SYS_kill, pid, sig, 0, 0, 0, 0);
}

/**
 * signal_thread_exit() - the thread gives up its part
 *
 * With rt_lock held. A signal that it was too late to deliver is for some other
 * thread, unless it was for this one only.
 */
void signal_thread_exit(struct cpu *cpu)
{
	uint64_t async = cpu->sig_pending & ~SYNC_SIGNALS;

	if (cpu == this_cpu() && async && cpu->sig_info.si_code != SI_TKILL)
		pass_on(__builtin_ctzl(async) + 1, &cpu->sig_info);
	cpu->sig_pending = 0;
	cpu->sig_queued = 0;
	if (!--cpu->sighand->refs && cpu->sighand != &first_sighand)
		free(cpu->sighand);
	cpu->sighand = NULL;
}

/**
 * signal_fork_child() - in the child of fork, everything blocked
 * @flags: clone flags
 */
void signal_fork_child(struct cpu *cpu, uint64_t flags)
{
	cpu->sighand->refs = 1;
	cpu->sig_pending = 0;
	cpu->sig_queued = 0;
	cpu->sig_held = 0;
	if (flags & CLONE_CLEAR_SIGHAND) {
		clear_handlers(cpu->sighand);
		install_sync(cpu->sighand);
	}
}

/**
 * signal_exec_begin() - the next call of this thread executes a program
 *
 * Handlers of the guest become the default now, not in the call: what arrives from
 * here on would be queued, and lost with us. The synchronous ones the kernel resets,
 * since other threads' traps need them until then.
 *
 * Return: 0; -ERESTARTSYS if a signal has to be delivered first.
 */
long signal_exec_begin(struct cpu *cpu)
{
	struct sighand *sh = cpu->sighand;
	const struct ksigaction dfl = { .handler = (uint64_t)SIG_DFL };
	uint64_t mask = cpu->sigmask;

	signal_block_all();
	if (cpu->sig_pending) {
		signal_unblock(cpu);
		return -ERESTARTSYS;
	}
	rt_lock();
	for (int sig = 1; sig <= NSIG_GUEST; sig++) {
		if (is_sync(sig) && sh->act[sig].handler == (uint64_t)SIG_IGN)
			sig_host_action(sig, &sh->act[sig]);
		else if (!is_sync(sig) && has_handler(&sh->act[sig]))
			sig_host_action(sig, &dfl);
		if (cpu->sig_held & SIG_BIT(sig))
			requeue(sig, sig_sync_info(cpu, sig));
	}
	rt_unlock();
	host_mask(mask);
	return 0;
}

/**
 * signal_exec_failed() - there is no new program
 */
void signal_exec_failed(struct cpu *cpu)
{
	struct sighand *sh = cpu->sighand;

	signal_block_all();
	rt_lock();
	for (int sig = 1; sig <= NSIG_GUEST; sig++)
		if (is_sync(sig) || has_handler(&sh->act[sig]))
			sig_host_install(sig, &sh->act[sig]);
	rt_unlock();
	/* What was held is the kernel's now, and comes back. */
	cpu->sig_held = 0;
	signal_unblock(cpu);
}

/**
 * signal_die() - end as the guest would have by this signal
 *
 * The parent sees the same status. Never returns.
 */
void signal_die(int sig)
{
	const struct ksigaction dfl = { .handler = (uint64_t)SIG_DFL };
	struct cpu *cpu = this_cpu();

	signal_block_all();
	if (!rt_lock_mine())
		rt_lock();
	if (cpu->proc && cpu->proc->vforked)
		rt_unlock();		/* its parent goes on with this memory */
	else
		runtime_end();
	sig_host_action(sig, &dfl);
	raw_syscall(SYS_tgkill, raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0),
		    raw_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0), sig, 0, 0, 0);
	host_mask(~SIG_BIT(sig));
	for (;;)
		raw_syscall(SYS_exit_group, 128 + sig, 0, 0, 0, 0, 0);
}

/* ---- the handler ---------------------------------------------------------- */

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

static uint64_t handler_of(const struct cpu *cpu, int sig)
{
	return __atomic_load_n(&cpu->sighand->act[sig].handler, __ATOMIC_RELAXED);
}

static void set_pending(struct cpu *cpu, int sig)
{
	__atomic_or_fetch(&cpu->sig_pending, SIG_BIT(sig), __ATOMIC_RELAXED);
	/* Pairs with the exchange in core_run(). */
	__atomic_store_n(&cpu->stop, 1, __ATOMIC_RELEASE);
}

/* Somebody sent a synchronous one. True: it is to be delivered. */
static bool sent_sync(struct cpu *cpu, int sig, const siginfo_t *info)
{
	uint64_t mask = cpu->sig_waiting ? cpu->sig_wait_mask : cpu->sigmask;

	if ((cpu->sig_held | cpu->sig_pending) & SIG_BIT(sig))
		return false;		/* one of each is all that the kernel keeps */
	if (!(mask & SIG_BIT(sig)) && handler_of(cpu, sig) == (uint64_t)SIG_IGN)
		return false;
	*sig_sync_info(cpu, sig) = *info;
	if (mask & SIG_BIT(sig)) {
		/* Another thread may be ignoring it: forget_held() */
		__atomic_or_fetch(&cpu->sig_held, SIG_BIT(sig), __ATOMIC_RELAXED);
		return false;
	}
	return true;
}

/*
 * A kick that came while the handler ran was only counted, and behind it nobody
 * looks at the count: whatever it was for is looked for at the next edge.
 */
static void back_to_cache(struct cpu *cpu, uint64_t pc)
{
	if (!cpu->in_cache || codewp_backend_info(the_ctx)->backend != CODEWP_KMOD)
		return;
	__atomic_store_n(&cpu->stop, 1, __ATOMIC_RELEASE);
	core_cut(cpu, pc);
}

static void asynchronous(struct cpu *cpu, int sig, const siginfo_t *info, ucontext_t *uc)
{
	greg_t *greg = uc->uc_mcontext.gregs;
	uint64_t pc = greg[REG_RIP];

	if (is_sync(sig)) {
		if (!sent_sync(cpu, sig, info)) {
			back_to_cache(cpu, pc);
			return;
		}
	} else {
		cpu->sig_info = *info;
		cpu->sig_queued = 1;
		/* Until it is delivered the kernel keeps all others. */
		*(uint64_t *)&uc->uc_sigmask = ~SYNC_SIGNALS;
	}
	set_pending(cpu, sig);
	if (cpu->in_cache) {
		core_cut(cpu, pc);
	} else if (pc >= (uint64_t)guest_syscall_test && pc <= (uint64_t)guest_syscall_insn) {
		/*
		 * It has not begun, or the kernel would begin it again; or, after it
		 * was stopped and continued, go on with it, which no handler survives.
		 */
		if (pc == (uint64_t)guest_syscall_insn && greg[REG_RAX] == SYS_restart_syscall) {
			greg[REG_RAX] = -EINTR;
			greg[REG_RIP] = (uint64_t)guest_syscall_done;
		} else {
			greg[REG_RIP] = (uint64_t)guest_syscall_stopped;
		}
	} else if (pc == (uint64_t)guest_syscall_done && greg[REG_RAX] == -EINTR) {
		cpu->sig_wait_hit = cpu->sig_waiting;
	}
}

/*
 * Another thread is moving the memory, or has just made it accessible. Where the
 * kernel does not confirm that, the answer is not yes for good: an access that
 * fails again and again is a real fault.
 */
static bool try_again(struct cpu *cpu, const ucontext_t *uc, uint64_t pc)
{
	uint64_t addr = uc->uc_mcontext.gregs[REG_CR2];
	uint32_t in_cache = cpu->in_cache;
	enum mem_access access;

	if (uc->uc_mcontext.gregs[REG_TRAPNO] != 14)
		return false;
	cpu->in_cache = 0;
	access = mem_fault_again(core_fault_addr(cpu, addr),
				 uc->uc_mcontext.gregs[REG_ERR] & 2);
	cpu->in_cache = in_cache;
	if (access != MEM_UNCLEAR || cpu->retry_pc != pc || cpu->retry_addr != addr)
		cpu->retries = 0;
	cpu->retry_pc = pc;
	cpu->retry_addr = addr;
	if (access == MEM_UNCLEAR)
		return cpu->retries++ < MAX_RETRIES;
	return access == MEM_WORKS;
}

/* Called from signal_entry.S with the runtime's %fs. */
void signal_master(int sig, siginfo_t *info, ucontext_t *uc)
{
	struct cpu *cpu = this_cpu();
	uint64_t pc = uc->uc_mcontext.gregs[REG_RIP];
	struct codewp_regs regs;
	int saved = errno;

	if (!is_sync(sig) || info->si_code <= 0) {
		asynchronous(cpu, sig, info, uc);
		goto out;
	}
	if ((sig == SIGSEGV || sig == SIGBUS) &&
	    codewp_handle_signal(the_ctx, sig, info, uc))
		goto out;
	if (pc == (uint64_t)guest_copy_insn) {
		uc->uc_mcontext.gregs[REG_RIP] = (uint64_t)guest_copy_fault;
		goto out;
	}
	if (!core_in_cache(pc) && !core_in_cache(pc - 1))
		fatal("signal %d (code %d) at host pc 0x%lx, address %p", sig, info->si_code,
		      pc, info->si_addr);
	/* The uffd backend's traps are SIGBUS; one can be too late to be a trap. */
	if ((sig == SIGSEGV || (sig == SIGBUS && info->si_code == BUS_ADRERR)) &&
	    try_again(cpu, uc, pc)) {
		back_to_cache(cpu, pc);
		goto out;
	}

	regs_from(&regs, uc);
	if ((sig == SIGTRAP && core_retired(cpu, &regs)) ||
	    (sig == SIGBUS && info->si_code == BUS_ADRALN && core_unaligned(cpu, &regs))) {
		core_signal_exit(cpu, &regs, CPU_LOOKUP);
		regs_to(uc, &regs);
		goto out;
	}
	if (!core_guest_state(cpu, &regs))
		fatal("signal %d at host pc 0x%lx belongs to no guest instruction", sig, pc);
	cpu->fault_sig = sig;
	cpu->fault_code = info->si_code;
	cpu->fault_addr = core_fault_addr(cpu, (uint64_t)info->si_addr);
	cpu->fault_info = *info;
	cpu->fault_info.si_addr = (void *)cpu->fault_addr;
	cpu->fault_raised = true;
	cpu->fault_rf = regs.rflags & FLAG_RF;
	cpu->sig_trapno = uc->uc_mcontext.gregs[REG_TRAPNO];
	cpu->sig_err = uc->uc_mcontext.gregs[REG_ERR];
	if (cpu->sig_trapno == 14)
		cpu->sig_cr2 = core_fault_addr(cpu, uc->uc_mcontext.gregs[REG_CR2]);
	core_signal_exit(cpu, &regs, CPU_FAULT);
	regs_to(uc, &regs);
out:
	errno = saved;
}

/* ---- delivery ------------------------------------------------------------- */

/* What the guest wants done. A handler that is for once only is gone afterwards. */
static struct ksigaction take_disposition(struct cpu *cpu, int sig)
{
	struct ksigaction *at = &cpu->sighand->act[sig], act;

	rt_lock();
	act = *at;
	if (has_handler(&act) && act.flags & (unsigned int)SA_RESETHAND) {
		at->handler = (uint64_t)SIG_DFL;
		sig_host_install(sig, at);
	}
	rt_unlock();
	return act;
}

/* There is no room for the frame of sig. */
static void no_frame(struct cpu *cpu, int sig)
{
	const siginfo_t info = { .si_signo = SIGSEGV, .si_code = SI_KERNEL };

	if (sig == SIGSEGV)
		signal_die(SIGSEGV);
	sig_force(cpu, SIGSEGV, &info);
}

/* The guest's handler runs next. */
static void run_handler(struct cpu *cpu, int sig, const siginfo_t *info,
			const struct ksigaction *act)
{
	uint64_t mask = cpu->sig_wait_hit ? cpu->sig_wait_mask : cpu->sigmask;

	if (sigframe_push(cpu, sig, info, act)) {
		no_frame(cpu, sig);
		return;
	}
	cpu->sig_waiting = false;
	cpu->sig_wait_hit = false;
	mask |= act->mask;
	if (!(act->flags & SA_NODEFER))
		mask |= SIG_BIT(sig);
	cpu->sigmask = mask & ~NEVER_BLOCKED;
}

void sig_force(struct cpu *cpu, int sig, const siginfo_t *info)
{
	struct ksigaction act = take_disposition(cpu, sig);

	if (cpu->sigmask & SIG_BIT(sig) || !has_handler(&act))
		signal_die(sig);
	run_handler(cpu, sig, info, &act);
	signal_unblock(cpu);
}

unsigned int sig_unhold(struct cpu *cpu, uint64_t mask)
{
	uint64_t ready = cpu->sig_held & ~mask;
	unsigned int n = 0;

	for (int sig = 1; sig <= NSIG_GUEST && ready; sig++) {
		if (!(ready & SIG_BIT(sig)))
			continue;
		__atomic_and_fetch(&cpu->sig_held, ~SIG_BIT(sig), __ATOMIC_RELAXED);
		if (handler_of(cpu, sig) != (uint64_t)SIG_IGN) {
			set_pending(cpu, sig);
			n++;
		}
		ready &= ~SIG_BIT(sig);
	}
	return n;
}

/**
 * signal_call_done() - a system call of the guest has ended, or was not begun
 * @ret: its result
 *
 * Return: what it is for the guest, or -ERESTARTSYS.
 */
long signal_call_done(struct cpu *cpu, long ret)
{
	if (!cpu->sig_wait_hit)
		cpu->sig_waiting = false;
	else if (ret == -ERESTARTSYS)
		ret = -EINTR;	/* a held signal that the call's own mask lets through */
	return ret;
}

static void deliver(struct cpu *cpu, int sig, const siginfo_t *info)
{
	uint64_t mask = cpu->sig_wait_hit ? cpu->sig_wait_mask : cpu->sigmask;
	struct ksigaction act;

	if (mask & SIG_BIT(sig)) {
		/* By the handler that was delivered just now. */
		if (is_sync(sig))
			__atomic_or_fetch(&cpu->sig_held, SIG_BIT(sig), __ATOMIC_RELAXED);
		else
			requeue(sig, info);
		return;
	}
	act = take_disposition(cpu, sig);
	if (has_handler(&act))
		run_handler(cpu, sig, info, &act);
	else if (act.handler == (uint64_t)SIG_IGN)
		return;
	else if (is_sync(sig))
		signal_die(sig);
	else
		requeue(sig, info);	/* for the kernel's default, which is in force now */
}

/**
 * signal_deliver() - at a cut: deal with what the handler has queued
 *
 * The asynchronous one first: it cannot be held if the other one's handler blocks
 * it.
 */
void signal_deliver(struct cpu *cpu)
{
	uint64_t pending;

	cpu->stop = 0;
	while ((pending = cpu->sig_pending)) {
		uint64_t async = pending & ~SYNC_SIGNALS;
		int sig = __builtin_ctzl(async ?: pending) + 1;
		siginfo_t info = async ? cpu->sig_info : *sig_sync_info(cpu, sig);

		deliver(cpu, sig, &info);
		__atomic_and_fetch(&cpu->sig_pending, ~SIG_BIT(sig), __ATOMIC_RELAXED);
		if (async)
			cpu->sig_queued = 0;
		signal_unblock(cpu);
	}
	cpu->sig_wait_hit = false;
	cpu->sig_waiting = false;
}

/* What the kernel would have told of a fault that block or dispatcher made up. */
static void describe_fault(struct cpu *cpu)
{
	siginfo_t *info = &cpu->fault_info;
	bool kernel = cpu->fault_code == SI_KERNEL;

	*info = (siginfo_t){ .si_signo = cpu->fault_sig, .si_code = cpu->fault_code };
	info->si_addr = (void *)cpu->fault_addr;
	cpu->sig_err = 0;
	switch (cpu->fault_sig) {
	case SIGTRAP:
		cpu->sig_trapno = kernel ? 3 : 1;
		if (!kernel)
			info->si_addr = (void *)cpu->regs.rip;
		return;			/* behind the instruction */
	case SIGILL:
		cpu->sig_trapno = 6;
		break;
	default:
		cpu->sig_trapno = kernel ? 13 : 14;
		if (!kernel) {
			cpu->sig_cr2 = cpu->fault_addr;
			cpu->sig_err = cpu->fault_code == SEGV_ACCERR ? 0x15 : 0x14;
		}
	}
	cpu->fault_rf = FLAG_RF;
}

/**
 * signal_fault() - guest code raised cpu->fault_sig at cpu->regs.rip
 *
 * As natively, a handler that is blocked or ignored does not help. A signal that
 * was queued before is delivered before: the instruction will fault again. (A
 * breakpoint, or a call that a filter traps, has been executed already.)
 */
void signal_fault(struct cpu *cpu)
{
	bool executed = cpu->fault_sig == SIGTRAP || cpu->fault_sig == SIGSYS;

	if (cpu->sig_pending && !executed) {
		cpu->fault_raised = false;
		cpu->fault_rf = 0;
		signal_deliver(cpu);
		return;
	}
	if (!cpu->fault_raised)
		describe_fault(cpu);
	cpu->fault_raised = false;
	cpu->regs.rflags |= cpu->fault_rf;	/* the way out of the cache has lost it */
	cpu->fault_rf = 0;
	sig_force(cpu, cpu->fault_sig, &cpu->fault_info);
}
