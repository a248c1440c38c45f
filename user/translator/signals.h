/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What signal.c, sigframe.c and sigcall.c ask of each other.
 */
#ifndef CODEWP_SIGNALS_H
#define CODEWP_SIGNALS_H

#include "translator.h"

#define NSIG_GUEST	64
#define SIG_BIT(sig)	(1UL << ((sig) - 1))
/* What an instruction can raise: never blocked or ignored for the host. */
#define SYNC_SIGNALS	(SIG_BIT(SIGSEGV) | SIG_BIT(SIGBUS) | SIG_BIT(SIGFPE) | \
			 SIG_BIT(SIGILL) | SIG_BIT(SIGTRAP))
#define NEVER_BLOCKED	(SIG_BIT(SIGKILL) | SIG_BIT(SIGSTOP))

/* The kernel's names; libc hides or changes them. */
#define SA_RESTORER_FLAG	0x04000000UL
#define SA_UNKNOWN_PROBE	0x00000400UL	/* SA_UNSUPPORTED: always cleared */
#define SA_EXPOSE_TAGS		0x00000800UL
#define SS_AUTODISARM_FLAG	(1U << 31)

/* As rt_sigaction has it. */
struct ksigaction {
	uint64_t handler, flags, restorer, mask;
};

/*
 * Dispositions, shared as CLONE_SIGHAND says. Written with rt_lock held; the
 * master handler reads single handler words without.
 */
struct sighand {
	uint32_t refs;		/* rt_lock */
	struct ksigaction act[NSIG_GUEST + 1];
};

/* signal.c */
long sig_host_action(int sig, const struct ksigaction *act);
/* What the host shall do with sig when the guest's disposition is act. */
long sig_host_install(int sig, const struct ksigaction *act);
/* Where a synchronous signal's is kept. */
siginfo_t *sig_sync_info(struct cpu *cpu, int sig);
/* Held signals that this mask lets through become pending: how many. */
unsigned int sig_unhold(struct cpu *cpu, uint64_t mask);
/* Deliver as the kernel does what an instruction or a bad frame raised. */
void sig_force(struct cpu *cpu, int sig, const siginfo_t *info);

/* sigframe.c */
int sigframe_init(void);
/* 0, or -EFAULT: there is no place for the frame, and nothing has changed. */
int sigframe_push(struct cpu *cpu, int sig, const siginfo_t *info,
		  const struct ksigaction *act);

/* sigcall.c: sigaltstack with its checks, also for what a frame holds */
long sig_altstack_set(struct cpu *cpu, const stack_t *want);
bool sig_on_altstack(const struct cpu *cpu, uint64_t sp);	/* whatever its flags */
void sig_altstack_reset(struct cpu *cpu);

#endif /* CODEWP_SIGNALS_H */
