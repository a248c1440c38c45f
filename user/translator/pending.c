// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Weak: each is replaced by the real one of its file.
 */
#include <errno.h>
#include <cpuid.h>
#include <sys/mman.h>

#include "core.h"
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"
#include <sys/syscall.h>

#define WEAK __attribute__((weak))

WEAK void core_thread_exit(struct cpu *cpu)
{
	unsigned int a, b, c, d;

	codewp_thread_unregister(cpu->thread);
	cpu->thread = NULL;
	codemap_jc_detach(the_map, &cpu->jc);
	__cpuid_count(0xd, 0, a, b, c, d);
	munmap(cpu->xsave, (b + 4095) & ~4095U);
	cpu->xsave = NULL;
}

static void drop(struct tb *tb, void *arg)
{
	if (!(tb->flags & TB_STEP) && !codemap_tb_dead(&tb->cm))
		codemap_invalidate_tb(the_map, &tb->cm);
}
WEAK void core_fork_child(struct cpu *cpu, bool alone)
{
	int err = 0;

	if (alone) {
		cache_for_each_tb(drop, NULL);
	} else {
		/* Threads that are gone may hold locks of the old one. */
		cache_reset();
		err = core_new_map();
		if (!err)
			err = codemap_jc_attach(the_map, &cpu->jc, JC_BITS);
		if (!err)
			cpu->jc.e[CODEMAP_JC_EMPTY & cpu->jc.mask].pc = CODEMAP_JC_EMPTY + 1;
	}
	cpu->last_tb = NULL;
	cpu->thread = NULL;
	if (err || smc_thread_init(cpu))
		fatal("the thread cannot be registered again");
}
