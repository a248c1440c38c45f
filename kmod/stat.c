// SPDX-License-Identifier: GPL-2.0
/*
 * A view's counters: one set per CPU, added up when somebody asks.
 */
#include <linux/percpu.h>
#include <linux/string.h>

#include "codewp.h"

/**
 * codewp_stat_sum() - CODEWP_IOC_STAT
 * @view: view
 * @st: out
 *
 * The sums are exact when no trap runs meanwhile.
 */
void codewp_stat_sum(const struct codewp_view *view, struct codewp_stat *st)
{
	const struct codewp_counters *c;
	int cpu;

	memset(st, 0, sizeof(*st));
	for_each_possible_cpu(cpu) {
		c = per_cpu_ptr(view->stats, cpu);
		st->traps += c->traps;
		st->upcalls += c->upcalls;
		st->signals += c->signals;
		st->events += c->events;
		st->shared += c->shared;
		st->dropped += c->dropped;
		st->kernel_writes += c->kernel_writes;
		st->recreated += c->recreated;
		st->guest_writes += c->guest_writes;
		st->stops += c->stops;
		st->arms += c->arms;
		st->disarms += c->disarms;
		st->armed += c->armed;
		st->foreign += c->foreign;
		st->faults += c->faults;
	}
	st->state_bytes = atomic_long_read(&view->nr_chunks) << PAGE_SHIFT;
}
