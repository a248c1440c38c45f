// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Weak: each is replaced by the real one of its file.
 */
#include <errno.h>

#include "core.h"
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"
#include <sys/syscall.h>

#define WEAK __attribute__((weak))

WEAK void core_thread_exit(struct cpu *cpu)
{
	codewp_thread_unregister(cpu->thread);
	cpu->thread = NULL;
}
static void drop(struct tb *tb, void *arg)
{
	if (!(tb->flags & TB_STEP) && !codemap_tb_dead(&tb->cm))
		codemap_invalidate_tb(the_map, &tb->cm);
}
WEAK void core_fork_child(struct cpu *cpu, bool alone)
{
	cache_for_each_tb(drop, NULL);
	cpu->thread = NULL;
	if (smc_thread_init(cpu))
		fatal("the thread cannot be registered again");
}
WEAK int mem_fork_prepare(void) { return -ENOMEM; }
WEAK void mem_fork_done(void) { }
WEAK int mem_fork_child(void) { return -ENOMEM; }
