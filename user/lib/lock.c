// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The context's lock: a futex, usable in signal handlers, which a pthread
 * mutex is not. Owns codewp.lock and codewp.readers.
 */
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

enum { FREE, HELD, CONTENDED };

static void futex(uint32_t *word, int op, uint32_t val)
{
	syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, NULL, NULL, 0);
}

/*
 * libc's own call leaves out two signals, and opens them when a mask that has them
 * is put back: the program may be one that has another libc in it.
 */
static void set_mask(int how, const sigset_t *set, sigset_t *old)
{
	syscall(SYS_rt_sigprocmask, how, set, old, sizeof(unsigned long));
}

/*
 * Blocks what could interrupt the holder and come back for the lock. Signals
 * of the CPU stay as they are: blocked, they would kill.
 */
static void block(sigset_t *saved)
{
	sigset_t set;

	memset(&set, 0xff, sizeof(set));
	sigdelset(&set, SIGSEGV);
	sigdelset(&set, SIGBUS);
	sigdelset(&set, SIGILL);
	sigdelset(&set, SIGFPE);
	sigdelset(&set, SIGTRAP);
	sigdelset(&set, SIGSYS);
	set_mask(SIG_BLOCK, &set, saved);
}

void ctx_lock(struct codewp *ctx, sigset_t *saved)
{
	uint32_t was = FREE;

	if (!ctx->quiet_signals)
		block(saved);
	if (__atomic_compare_exchange_n(&ctx->lock, &was, HELD, false,
					__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&ctx->lock, CONTENDED, __ATOMIC_ACQUIRE) != FREE)
		futex(&ctx->lock, FUTEX_WAIT, CONTENDED);
}

void ctx_unlock(struct codewp *ctx, const sigset_t *saved)
{
	if (__atomic_exchange_n(&ctx->lock, FREE, __ATOMIC_RELEASE) == CONTENDED)
		futex(&ctx->lock, FUTEX_WAKE, 1);
	if (!ctx->quiet_signals)
		set_mask(SIG_SETMASK, saved, NULL);
}

void ctx_lock_reset(struct codewp *ctx, const sigset_t *saved)
{
	store_release(&ctx->lock, FREE);
	store_release(&ctx->readers, 0);
	if (saved && !ctx->quiet_signals)
		set_mask(SIG_SETMASK, saved, NULL);
}

void ctx_wait_readers(struct codewp *ctx)
{
	/*
	 * Pairs with ctx_read_begin(): a reader counted later finds the table
	 * without the view.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	while (__atomic_load_n(&ctx->readers, __ATOMIC_SEQ_CST))
		sched_yield();
}
