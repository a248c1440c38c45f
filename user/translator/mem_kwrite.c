// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Memory that system calls in flight may write.
 *
 * The kernel writes guest memory on behalf of a call that may wait for hours: a
 * read() from a pipe. Without the module it cannot write an armed page, and no
 * backend lets it write a page that is being moved into a view. So each thread
 * announces what its call may write, and then opens what is armed there; and who
 * arms or moves a page looks at the announcements of the others. Whoever comes
 * second sees the first: both sides have a full barrier between their write and
 * their look.
 *
 * Owns cpu->kwrite and cpu->kwrites, which only their thread writes. Takes no lock
 * but rt_lock: while memory is frozen, to wait until that is over, and to open pages
 * that are armed.
 */
#include "mem.h"

/* New announcements in this range wait until whoever holds rt_lock is done. */
static struct {
	uint64_t start, end;
} frozen;

bool kwrite_alone(void)
{
	const struct cpu *first = __atomic_load_n(&all_cpus, __ATOMIC_ACQUIRE);

	return !first || !first->next;
}

static void announce(uint64_t start, uint64_t end)
{
	struct cpu *cpu = this_cpu();
	uint32_t n = cpu->kwrites;

	if (n < KWRITES) {
		__atomic_store_n(&cpu->kwrite[n].start, start, __ATOMIC_RELAXED);
		__atomic_store_n(&cpu->kwrite[n].end, end, __ATOMIC_RELAXED);
		__atomic_store_n(&cpu->kwrites, n + 1, __ATOMIC_RELEASE);
	} else {
		__atomic_store_n(&cpu->kwrites, KWRITES + 1, __ATOMIC_RELEASE);
	}
	/* Pairs with the fences of kwrite_freeze() and kwrite_in_flight(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&frozen.start, __ATOMIC_RELAXED) < end &&
	    __atomic_load_n(&frozen.end, __ATOMIC_RELAXED) > start && !rt_lock_mine()) {
		rt_lock();
		rt_unlock();
	}
}

/*
 * Another thread that writes such a page does not trap from here on, and is to run
 * what it writes: so the blocks die first, and whoever is in one leaves it.
 */
static void open_for_kernel(uint64_t start, uint64_t end)
{
	bool mine = rt_lock_mine();

	if (!mine)
		rt_lock();
	for (uint64_t gva = PAGE_DOWN(start); gva < end; gva += PAGE) {
		const struct region *r = map_at(gva);

		if (r && (r->kind == R_PVIEW || r->kind == R_SHM))
			core_invalidate_page(view_page(r, gva), 0, PAGE - 1);
	}
	core_serialize();
	codewp_kernel_write_addr(the_ctx, (void *)start, end - start);
	if (!mine)
		rt_unlock();
}

/**
 * mem_kernel_write() - a system call is about to write guest memory
 * @addr: first byte
 * @len: bytes
 *
 * The bytes of an armed page cannot be written by the kernel on some backends:
 * such pages are opened first, and reported as written.
 */
void mem_kernel_write(uint64_t addr, uint64_t len)
{
	if (!len || addr >= TASK_END || !the_ctx)
		return;
	if (len > TASK_END - addr)
		len = TASK_END - addr;
	if (!kwrite_alone())
		announce(addr, addr + len);
	if (codewp_backend_info(the_ctx)->can & CODEWP_CAN_KERNEL_WRITES)
		return;
	if (kwrite_alone())
		codewp_kernel_write_addr(the_ctx, (void *)addr, len);
	else if (codewp_armed_addr(the_ctx, (void *)addr, len))
		open_for_kernel(addr, addr + len);
}

void kwrite_end(struct cpu *cpu)
{
	if (cpu->kwrites)
		__atomic_store_n(&cpu->kwrites, 0, __ATOMIC_RELEASE);
}

/**
 * kwrite_in_flight() - may a call of another thread write to [start, end)?
 *
 * Call it after what the call must not meet was made visible (an arm, a freeze).
 */
bool kwrite_in_flight(uint64_t start, uint64_t end)
{
	const struct cpu *self = this_cpu(), *c;

	/* Pairs with the fence in announce(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (c = __atomic_load_n(&all_cpus, __ATOMIC_ACQUIRE); c; c = c->next) {
		uint32_t n = __atomic_load_n(&c->kwrites, __ATOMIC_ACQUIRE);

		if (c == self || !n)
			continue;
		if (n > KWRITES)
			return true;
		for (uint32_t i = 0; i < n; i++)
			if (__atomic_load_n(&c->kwrite[i].start, __ATOMIC_RELAXED) < end &&
			    __atomic_load_n(&c->kwrite[i].end, __ATOMIC_RELAXED) > start)
				return true;
	}
	return false;
}

/**
 * kwrite_freeze() - calls that want to write [start, end) wait for rt_lock
 *
 * With rt_lock held, until kwrite_thaw(). Calls already in flight are not
 * affected: kwrite_in_flight() tells of them.
 */
void kwrite_freeze(uint64_t start, uint64_t end)
{
	__atomic_store_n(&frozen.start, start, __ATOMIC_RELAXED);
	__atomic_store_n(&frozen.end, end, __ATOMIC_RELAXED);
	/* Pairs with the fence in announce(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void kwrite_thaw(void)
{
	__atomic_store_n(&frozen.end, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&frozen.start, 0, __ATOMIC_RELEASE);
}
