// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The runtime's lock (translator.h says what it guards): a futex of three
 * states, made of raw system calls, so that upcalls can take it, too.
 */
#include "raw_syscall.h"
#include "translator.h"

#include <linux/futex.h>
#include <sys/syscall.h>

enum { FREE, HELD, CONTENDED };

static uint32_t lock;
static struct cpu *owner;

void rt_lock(void)
{
	uint32_t was = FREE;

	if (!__atomic_compare_exchange_n(&lock, &was, HELD, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED)) {
		/* Pairs with the exchange in rt_unlock(): it wakes one of us. */
		while (__atomic_exchange_n(&lock, CONTENDED, __ATOMIC_ACQUIRE) != FREE)
			raw_syscall(SYS_futex, (long)&lock, FUTEX_WAIT_PRIVATE, CONTENDED,
				    0, 0, 0);
	}
	__atomic_store_n(&owner, this_cpu(), __ATOMIC_RELAXED);
}

bool rt_trylock(void)
{
	uint32_t was = FREE;

	if (!__atomic_compare_exchange_n(&lock, &was, HELD, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return false;
	__atomic_store_n(&owner, this_cpu(), __ATOMIC_RELAXED);
	return true;
}

void rt_unlock(void)
{
	__atomic_store_n(&owner, NULL, __ATOMIC_RELAXED);
	if (__atomic_exchange_n(&lock, FREE, __ATOMIC_RELEASE) == CONTENDED)
		raw_syscall(SYS_futex, (long)&lock, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

bool rt_lock_mine(void)
{
	return __atomic_load_n(&owner, __ATOMIC_RELAXED) == this_cpu();
}

void rt_lock_reset(void)
{
	lock = HELD;
	owner = this_cpu();
}

/* A child of vfork that was killed can have left it held. */
void rt_lock_of_gone(struct cpu *cpu)
{
	if (__atomic_load_n(&owner, __ATOMIC_RELAXED) == cpu)
		rt_unlock();
}
