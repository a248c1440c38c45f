// SPDX-License-Identifier: GPL-2.0
/*
 * Telling by signal, for translators that have nothing but a signal handler:
 * SIGSEGV with SEGV_ACCERR and the address of the write, as after mprotect.
 *
 * Called in the fault with the folio locked; takes only the siglock.
 */
#include <linux/sched/signal.h>
#include <linux/signal.h>

#include "codewp.h"

/**
 * codewp_signal_possible() - would current's handler run for a SIGSEGV now?
 *
 * Return: false if the signal is blocked, has no handler, or is pending, since a
 * second one would be lost; the trap then goes to the ring.
 */
bool codewp_signal_possible(void)
{
	/* current's own stays while current runs. */
	struct sighand_struct *sighand = rcu_dereference_raw(current->sighand);
	struct k_sigaction *ka = &sighand->action[SIGSEGV - 1];
	unsigned long flags;
	bool possible;

	spin_lock_irqsave(&sighand->siglock, flags);
	possible = !sigismember(&current->blocked, SIGSEGV) &&
		   !sigismember(&current->pending.signal, SIGSEGV) &&
		   ka->sa.sa_handler != SIG_IGN && ka->sa.sa_handler != SIG_DFL;
	spin_unlock_irqrestore(&sighand->siglock, flags);
	return possible;
}

/**
 * codewp_signal() - send current the SIGSEGV
 * @addr: user address of the write
 *
 * It is delivered on the way back to user mode, before the store runs again.
 * Return: 0 or -errno.
 */
int codewp_signal(unsigned long addr)
{
	struct kernel_siginfo info;

	clear_siginfo(&info);
	info.si_signo = SIGSEGV;
	info.si_code = SEGV_ACCERR;
	info.si_addr = (void __user *)addr;
	return send_sig_info(SIGSEGV, &info, current);
}
