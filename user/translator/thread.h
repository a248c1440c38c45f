/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What thread.c, fork.c and exec.c ask of each other.
 */
#ifndef CODEWP_THREAD_H
#define CODEWP_THREAD_H

#include "translator.h"

#include <linux/sched.h>

#define THREAD_SIGSTACK	(128UL << 10)	/* at cpu->sigstack */

/* Nothing in it that only clone3 can ask for. */
static inline bool clone_is_old(const struct clone_args *args)
{
	uint64_t both = CLONE_PIDFD | CLONE_PARENT_SETTID;

	return !(args->flags >> 32) && !(args->flags & CSIGNAL) && !args->set_tid_size &&
	       (args->flags & both) != both;
}

void thread_init(struct cpu *cpu);
void thread_free(struct cpu *cpu);		/* back to those that thread_alloc() takes */
void thread_forget_others(struct cpu *cpu);
/* Memory of the calls below that the kernel will write: with rt_lock held. */
void clone_opens(const struct clone_args *args);

#endif /* CODEWP_THREAD_H */
