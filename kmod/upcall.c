// SPDX-License-Identifier: GPL-2.0
/*
 * The upcall: resume current in its registered handler, without a signal frame.
 *
 * Called in the fault itself, with the folio locked, or from task_work (kick.c).
 * It writes the thread's area, which is a kernel page, and current's user
 * registers; the only user memory it looks at is rseq's, without faulting.
 */
#include <linux/uaccess.h>
#include <linux/uprobes.h>
#include <asm/processor-flags.h>

#include "codewp.h"
#include "compat.h"

#ifdef CONFIG_RSEQ
/*
 * In a restartable sequence? Redirected out of it, the kernel would forget to
 * abort it. A value that cannot be read counts as one.
 */
static bool in_rseq(void)
{
	struct rseq __user *rseq = codewp_rseq();
	u64 cs;
	int err;

	if (!rseq)
		return false;
	pagefault_disable();
	err = __get_user(cs, (u64 __user *)&rseq->rseq_cs);
	pagefault_enable();
	return err || cs;
}
#else
static bool in_rseq(void)
{
	return false;
}
#endif

#ifdef CONFIG_UPROBES
/* Single-stepping a probed instruction out of line: ip is not the program's. */
static bool in_uprobe(void)
{
	return unlikely(current->utask) && current->utask->active_uprobe;
}
#else
static bool in_uprobe(void)
{
	return false;
}
#endif

/**
 * codewp_upcall_possible() - may current be redirected to its handler now?
 * @t: current's registration
 * @regs: current's user registers
 *
 * The caller has checked that regs->ip is in the code cache. A traced thread is
 * redirected like any other: its tracer sees it in the handler. Return: false
 * while the handler runs, and wherever a changed ip would be misunderstood.
 */
bool codewp_upcall_possible(const struct codewp_thread *t,
			    const struct pt_regs *regs)
{
	return !READ_ONCE(t->area->busy) && user_64bit_mode((void *)regs) &&
	       !in_uprobe() && !in_rseq();
}

/**
 * codewp_upcall() - redirect current to its handler
 * @t: current's registration, for which codewp_upcall_possible()
 * @regs: current's user registers
 * @reason: CODEWP_REASON_*; TRAP's part of the area has been filled
 */
void codewp_upcall(struct codewp_thread *t, struct pt_regs *regs, u32 reason)
{
	struct codewp_area *area = t->area;

	area->reason = reason;
	area->ip = regs->ip;
	area->sp = regs->sp;
	area->flags = regs->flags;
	area->di = regs->di;
	area->upcalls++;
	WRITE_ONCE(area->busy, 1);

	regs->ip = t->handler;
	if (t->stack)
		regs->sp = t->stack;
	regs->di = t->arg;
	/* As for a signal handler. */
	regs->flags &= ~(X86_EFLAGS_TF | X86_EFLAGS_DF | X86_EFLAGS_RF |
			 X86_EFLAGS_AC);
}
