// SPDX-License-Identifier: GPL-2.0
/*
 * Kicks: an event that another task put into a ring interrupts the threads that
 * asked for it, even when they spin in chained translations.
 *
 * A task_work is queued on the thread; it runs in that thread on its way to user
 * mode, without locks, and redirects it if it is in its code cache. Else it is
 * counted in the area: the handler, and the stub by which the translator enters
 * the cache, look at that count.
 *
 * A queued kick holds the registration's file, so that the module stays; fput()
 * defers the last release to core code in the same task, after this function
 * has returned.
 */
#include <linux/bitops.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/task_work.h>

#include "codewp.h"
#include "compat.h"

static void kick_run(struct callback_head *work)
{
	struct codewp_thread *t = container_of(work, struct codewp_thread, kick);
	struct pt_regs *regs = task_pt_regs(current);
	struct file *file = t->file;

	clear_bit(0, &t->kicked);
	/*
	 * Pairs with the test_and_set_bit() in codewp_kick(): an event whose
	 * kick found this one still queued was published before now.
	 */
	smp_mb__after_atomic();

	/* Not in a system call: a changed ip would spoil its restart. */
	if (current->mm == t->mm && !(current->flags & PF_EXITING) &&
	    regs->orig_ax == -1 && regs->ip - t->code_start < t->code_len &&
	    codewp_upcall_possible(t, regs))
		codewp_upcall(t, regs, CODEWP_REASON_KICK);
	else
		WRITE_ONCE(t->area->kicks, t->area->kicks + 1);
	fput(file);
}

/**
 * codewp_kick_add() - from now on, kick this thread
 * @t: registration with queue and file
 */
void codewp_kick_add(struct codewp_thread *t)
{
	init_task_work(&t->kick, kick_run);
	spin_lock(&t->queue->lock);
	list_add_tail(&t->link, &t->queue->threads);
	spin_unlock(&t->queue->lock);
}

/**
 * codewp_kick_remove() - no more kicks
 * @t: registration whose file is being released, so that none is on its way
 */
void codewp_kick_remove(struct codewp_thread *t)
{
	spin_lock(&t->queue->lock);
	list_del(&t->link);
	spin_unlock(&t->queue->lock);
}

/**
 * codewp_kick() - interrupt the threads that wait for events of a ring
 * @q: ring into which current has just published an event; its lock is held
 */
void codewp_kick(struct codewp_queue *q)
{
	struct codewp_thread *t;

	list_for_each_entry(t, &q->threads, link) {
		if (t->task == current || test_and_set_bit(0, &t->kicked))
			continue;
		/*
		 * While it is in the list its release has not returned, so the
		 * file is still this one; but it may have no reference left.
		 */
		if (!codewp_get_live_file(t->file)) {
			clear_bit(0, &t->kicked);
			continue;
		}
		if (task_work_add(t->task, &t->kick, TWA_RESUME)) {
			/* The thread exits. */
			clear_bit(0, &t->kicked);
			fput(t->file);
		}
	}
}
