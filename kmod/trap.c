// SPDX-License-Identifier: GPL-2.0
/*
 * The trap: page_mkwrite of a view's mapping.
 *
 * Runs in the fault, with mmap_lock (or the VMA's lock) held by the caller and
 * no page table lock; takes the folio lock and returns with it (VM_FAULT_LOCKED)
 * so that the page table entry is written before anybody can arm the page
 * again. Under it: no sleeping, no access to user memory that can fault, no
 * waiting for user space, and no way to fail: a write that nobody can be told
 * of by upcall or signal is allowed and told by the ring. Only KVM, asking for a
 * page for its guest's store, can be refused one.
 *
 * Every view that covers the page has its say, the written one first.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rculist.h>

#include "codewp.h"
#include "compat.h"
#include "trace.h"

/* The registers of current's user-mode store, or NULL if the kernel writes. */
static struct pt_regs *user_regs(void)
{
	struct pt_regs *regs;

	if (!codewp_in_user_fault())
		return NULL;
	regs = task_pt_regs(current);
	/* An exception's frame; a system call's has its number here. */
	if (regs->orig_ax != -1 || !user_mode(regs))
		return NULL;
	return regs;
}

/* Can current be told itself: by upcall, by signal, or not (0)? */
static enum codewp_how can_tell_current(const struct codewp_view *view,
					const struct codewp_trap *trap)
{
	const struct codewp_thread *t = trap->thread;

	/* Its translator knows of the pages that its own process watches. */
	if (!t || !trap->regs || trap->told || view->mm != current->mm ||
	    trap->mm != current->mm)
		return 0;
	if (trap->regs->ip - t->code_start >= t->code_len)
		return 0;
	if (t->flags & CODEWP_THREAD_UPCALL)
		return codewp_upcall_possible(t, trap->regs) ?
			CODEWP_HOW_UPCALL : 0;
	if (t->flags & CODEWP_THREAD_SIGNAL)
		return codewp_signal_possible() ? CODEWP_HOW_SIGNAL : 0;
	return 0;
}

/* Put the trap into the view's ring. */
static void tell_ring(struct codewp_view *view, const struct codewp_trap *trap,
		      u64 offset, u32 state, enum codewp_how how)
{
	struct codewp_thread *t = trap->thread;
	struct codewp_event ev = {
		.cookie = view->cookie,
		.offset = offset,
		.view = view->id,
		.gen = CODEWP_PAGE_GEN(state),
	};
	u64 dropped;

	if (how == CODEWP_HOW_KERNEL)
		ev.flags |= CODEWP_EVENT_KERNEL;
	if (how == CODEWP_HOW_RECREATED)
		ev.flags |= CODEWP_EVENT_RECREATED;
	if (how == CODEWP_HOW_GUEST || how == CODEWP_HOW_STOP) {
		ev.flags |= CODEWP_EVENT_GUEST;
		ev.vcpu = trap->guest.vcpu;
		this_cpu_inc(view->stats->guest_writes);
	}
	if (how == CODEWP_HOW_STOP) {
		ev.flags |= CODEWP_EVENT_STOP;
		this_cpu_inc(view->stats->stops);
	}
	/*
	 * Addresses are told to the process that they belong to, only: not in a
	 * ring that others may read.
	 */
	if (!(current->flags & PF_KTHREAD) && current->mm == view->queue->mm) {
		ev.flags |= CODEWP_EVENT_SELF;
		if (trap->mm == current->mm && !view->queue->open) {
			ev.addr = trap->addr;
			ev.ip = task_pt_regs(current)->ip;
		}
	}
	if (t) {
		t->area->fallbacks++;
		if (READ_ONCE(t->area->busy))
			ev.flags |= CODEWP_EVENT_NESTED;
	}
	this_cpu_inc(view->stats->events);
	if (how == CODEWP_HOW_KERNEL)
		this_cpu_inc(view->stats->kernel_writes);
	if (!codewp_queue_publish(view->queue, &ev, &dropped)) {
		this_cpu_inc(view->stats->dropped);
		trace_codewp_overflow(dropped, view->id);
	}
}

static void trace_trap(const struct codewp_view *view,
		       const struct codewp_trap *trap, u64 offset, u32 state,
		       enum codewp_how how)
{
	if (!trace_codewp_trap_enabled())
		return;
	trace_codewp_trap(view->cookie, trap->pgoff, offset, trap->addr,
			  current->flags & PF_KTHREAD ? 0 : task_pt_regs(current)->ip,
			  view->id, how, current->tgid, current->pid,
			  CODEWP_PAGE_GEN(state),
			  how == CODEWP_HOW_GUEST || how == CODEWP_HOW_STOP ?
			  trap->guest.vcpu : (u32)-1);
}

static u64 trap_offset(const struct codewp_view *view, const struct codewp_trap *trap)
{
	return ((u64)(trap->pgoff - view->first) << PAGE_SHIFT) |
	       offset_in_page(trap->addr);
}

/*
 * A guest's store to a page that is armed with STOP. True: it is stopped, and that
 * has been told, once for all of KVM's attempts. False: it goes through, because it
 * is not an instruction's, or another view's mapping is the guest's memory, or the
 * page has been disarmed since.
 */
static noinline bool trap_stop(struct codewp_view *view, atomic_t *word,
			       struct codewp_trap *trap)
{
	u32 new, old = atomic_read(word);
	u64 offset;

	if (!trap->guest.store || trap->through != view)
		return false;
	do {
		if (!(old & CODEWP_PAGE_ARMED))
			return false;
		if (trap->guest.told)
			goto out;
		new = codewp_state_next(old);
	} while (!atomic_try_cmpxchg(word, &old, new));

	this_cpu_inc(view->stats->traps);
	offset = trap_offset(view, trap);
	trace_trap(view, trap, offset, new, CODEWP_HOW_STOP);
	tell_ring(view, trap, offset, new, CODEWP_HOW_STOP);
	codewp_guest_tell();
out:
	trap->refuse = VM_FAULT_SIGBUS;
	return true;
}

/*
 * One view's share of a write. @word is its state word of the page; the folio
 * is locked. Marks the page dirty for the enabled clients; if it is armed, tells
 * the view's owner, exactly once.
 */
static void trap_view(struct codewp_view *view, atomic_t *word,
		      struct codewp_trap *trap, enum codewp_how other)
{
	u32 clients = READ_ONCE(view->clients);
	u32 old = atomic_read(word);
	enum codewp_how how = 0;
	bool keep = false;
	u64 offset;
	u32 new;

	if (!(old & CODEWP_PAGE_ARMED)) {
		/* Written already in most faults: spare the atomic. */
		if (clients & ~old)
			atomic_or(clients, word);
		return;
	}
	if (unlikely(old & CODEWP_PAGE_STOP) && other == CODEWP_HOW_GUEST &&
	    trap_stop(view, word, trap))
		return;
	if (other != CODEWP_HOW_RECREATED) {
		how = can_tell_current(view, trap);
		keep = how && (old & CODEWP_PAGE_KEEP);
	}
	do {
		/* Disarmed by its owner since: nothing to tell. */
		if (!(old & CODEWP_PAGE_ARMED)) {
			atomic_or(clients, word);
			return;
		}
		new = codewp_state_next(old) | clients;
		if (!keep) {
			new &= ~CODEWP_PAGE_MODE;
			new |= CODEWP_PAGE_WRITTEN;
		}
	} while (!atomic_try_cmpxchg(word, &old, new));

	this_cpu_inc(view->stats->traps);
	if (!keep)
		this_cpu_dec(view->stats->armed);
	if (unlikely(trap->through != view))
		this_cpu_inc(view->stats->shared);
	offset = trap_offset(view, trap);
	trace_trap(view, trap, offset, new, how ?: other);

	if (how) {
		struct codewp_area *area = trap->thread->area;

		area->addr = trap->addr;
		area->offset = offset;
		area->cookie = view->cookie;
		area->view = view->id;
		area->state = new;
	}
	if (how == CODEWP_HOW_UPCALL) {
		codewp_upcall(trap->thread, trap->regs, CODEWP_REASON_TRAP);
		this_cpu_inc(view->stats->upcalls);
		trap->told = true;
		trap->refuse = keep ? VM_FAULT_NOPAGE : 0;
	} else if (how == CODEWP_HOW_SIGNAL) {
		codewp_signal(trap->addr);
		this_cpu_inc(view->stats->signals);
		trap->told = true;
		trap->refuse = keep ? VM_FAULT_NOPAGE : 0;
	} else {
		tell_ring(view, trap, offset, new, other);
	}
}

/* The kernel writes: for itself, or for a KVM guest. */
static noinline enum codewp_how kernels_write(const struct codewp_view *view,
					      atomic_t *word,
					      struct codewp_trap *trap)
{
	/* Which of them matters where it is told. */
	if (!(word && atomic_read(word) & CODEWP_PAGE_ARMED) &&
	    !READ_ONCE(view->overlaps))
		return CODEWP_HOW_KERNEL;
	if (!codewp_guest_find(trap->addr, &trap->guest))
		return CODEWP_HOW_KERNEL;
	trap->addr = (trap->addr & PAGE_MASK) | trap->guest.in_page;
	return CODEWP_HOW_GUEST;
}

/* The other views that cover the page. */
static noinline void trap_others(struct codewp_mem *mem, struct codewp_trap *trap,
				 enum codewp_how other)
{
	struct codewp_view *view;
	atomic_t *word;

	list_for_each_entry_rcu(view, &mem->views, link) {
		if (view == trap->through || !codewp_covers(view, trap->pgoff))
			continue;
		word = codewp_state(view, trap->pgoff - view->first);
		if (word)
			trap_view(view, word, trap, other);
	}
}

/**
 * codewp_page_mkwrite() - a mapping of a view is about to be written
 * @vmf: the fault; vmf->page is referenced
 *
 * Return: VM_FAULT_LOCKED: the write goes through. VM_FAULT_NOPAGE: the thread
 * goes on without a change to the page tables; either it was redirected (KEEP),
 * or the page was truncated, and it faults again. VM_FAULT_SIGBUS: KVM is refused
 * the page for its guest's store (STOP).
 */
vm_fault_t codewp_page_mkwrite(struct vm_fault *vmf)
{
	struct codewp_view *view = vmf->vma->vm_private_data;
	struct folio *folio = page_folio(vmf->page);
	struct codewp_mem *mem = view->mem;
	enum codewp_how other;
	struct codewp_trap trap;
	atomic_t *word;

	this_cpu_inc(view->stats->faults);
	folio_lock(folio);
	/*
	 * Truncation unmaps the folio under this lock when it takes the mapping
	 * away; until then the page is as good as it was.
	 */
	if (unlikely(folio->mapping != mem->inode->i_mapping)) {
		folio_unlock(folio);
		return VM_FAULT_NOPAGE;
	}

	word = codewp_state(view, vmf->pgoff - view->first);
	if (!READ_ONCE(view->overlaps) &&
	    (!word || (!(atomic_read(word) & CODEWP_PAGE_ARMED) &&
		       !(READ_ONCE(view->clients) & ~atomic_read(word)))))
		return VM_FAULT_LOCKED;

	trap.addr = vmf->real_address;
	trap.mm = vmf->vma->vm_mm;
	trap.pgoff = vmf->pgoff;
	trap.regs = user_regs();
	trap.told = false;
	trap.refuse = 0;
	trap.through = view;

	rcu_read_lock();
	trap.thread = codewp_thread_current();
	other = trap.regs ? CODEWP_HOW_RING : kernels_write(view, word, &trap);
	if (word)
		trap_view(view, word, &trap, other);
	/*
	 * A write that was kept back (HOLD, STOP) comes again: the others are told when
	 * it goes through. A private view (KEEP) overlaps with no other.
	 */
	if (unlikely(READ_ONCE(view->overlaps)) && !trap.refuse)
		trap_others(mem, &trap, other);
	rcu_read_unlock();

	if (trap.refuse) {
		folio_unlock(folio);
		return trap.refuse;
	}
	return VM_FAULT_LOCKED;
}

/**
 * codewp_recreated() - a clean folio was found where pages may be armed
 * @mem: its file
 * @folio: locked
 *
 * Arming marks a folio dirty, and shmem never cleans one without a copy in
 * swap. So an armed page in a clean folio was truncated or punched out of the
 * file, and is full of zeroes now: what was translated from it is gone. Its
 * views are told as if it had been written.
 */
void codewp_recreated(struct codewp_mem *mem, struct folio *folio)
{
	pgoff_t pgoff, end = folio->index + folio_nr_pages(folio);
	struct codewp_trap trap = {};
	struct codewp_view *view;
	atomic_t *word;

	rcu_read_lock();
	list_for_each_entry_rcu(view, &mem->views, link) {
		for (pgoff = folio->index; pgoff < end; pgoff++) {
			if (!codewp_covers(view, pgoff))
				continue;
			word = codewp_state(view, pgoff - view->first);
			if (!word || !(atomic_read(word) & CODEWP_PAGE_ARMED))
				continue;
			trap.pgoff = pgoff;
			trap.through = view;
			this_cpu_inc(view->stats->recreated);
			trap_view(view, word, &trap, CODEWP_HOW_RECREATED);
		}
	}
	rcu_read_unlock();
}
