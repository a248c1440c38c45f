// SPDX-License-Identifier: GPL-2.0
/*
 * Arm and disarm.
 *
 * Arming a page, under its folio's lock: set ARMED, then folio_mkclean(), which
 * takes the write bit away in every shared mapping and flushes the TLBs. A
 * write that faults now waits for the lock in page_mkwrite and finds ARMED set.
 * In the other order, or with the bit tested before the lock, writes get lost.
 *
 * A page that is not in memory has no lock, so it is brought in first, and it
 * is marked dirty, so that shmem does not drop it and so that a clean folio in
 * its place is known to be a new one (codewp_recreated()).
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rculist.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>

#include "codewp.h"
#include "compat.h"
#include "trace.h"

/*
 * Tell the dirty clients of all views of a folio that it was written, but for
 * those of view @but that are in @but_bits.
 */
static void mark_written(struct codewp_mem *mem, struct folio *folio,
			 const struct codewp_view *but, u32 but_bits)
{
	pgoff_t pgoff, end = folio->index + folio_nr_pages(folio);
	struct codewp_view *v;
	atomic_t *word;
	u32 bits;

	rcu_read_lock();
	list_for_each_entry_rcu(v, &mem->views, link) {
		bits = READ_ONCE(v->clients) & ~CODEWP_PAGE_WRITTEN;
		if (v == but)
			bits &= ~but_bits;
		if (!bits)
			continue;
		for (pgoff = folio->index; pgoff < end; pgoff++) {
			if (!codewp_covers(v, pgoff))
				continue;
			word = codewp_state(v, pgoff - v->first);
			if (word)
				atomic_or(bits, word);
		}
	}
	rcu_read_unlock();
}

/**
 * codewp_clean_folio() - take write access away in every mapping of a folio
 * @mem: its file
 * @folio: locked
 * @but: with @but_bits: state bits of this view that need not be set
 * @but_bits: see @but
 *
 * mkclean also eats the dirty bits of mappings that are not views'. The folio
 * is marked dirty in their place, and so are the pages for DISPLAY and
 * MIGRATION, since what was written may have been written through an alias.
 *
 * Return: page table entries that were dirty or writable.
 */
int codewp_clean_folio(struct codewp_mem *mem, struct folio *folio,
		       const struct codewp_view *but, u32 but_bits)
{
	int cleaned = folio_mkclean(folio);

	/*
	 * mkclean does nothing for a folio that is in no page table. It may be
	 * in a TLB still: who zaps a mapping drops the mapcount before he
	 * flushes (up to 6.1: MADV_DONTNEED, hole punch, munmap in another
	 * thread), and reclaim puts the flush off. Zapping what is not there
	 * waits for the page table locks of the first and makes up for the
	 * second (flush_tlb_batched_pending() in zap_pte_range()). The folio
	 * lock keeps it from being mapped again meanwhile.
	 */
	if (!folio_mapped(folio))
		unmap_mapping_pages(mem->inode->i_mapping, folio->index,
				    folio_nr_pages(folio), false);
	if (cleaned) {
		folio_mark_dirty(folio);
		mark_written(mem, folio, but, but_bits);
	}
	return cleaned;
}

/*
 * Does somebody hold the folio who will not fault when he writes? Expected are
 * the page cache, the page tables, the private data and us; a folio on its way
 * to the LRU list has one more. A thread that waits for the folio lock in a
 * fault looks foreign, too: the answer may be wrong in this direction only.
 */
static bool folio_foreign(struct folio *folio)
{
	int expected = folio_nr_pages(folio) + codewp_folio_mapcount(folio) +
		       !!folio_test_private(folio) + 1;

	if (folio_maybe_dma_pinned(folio))
		return true;
	if (!folio_test_lru(folio))
		expected++;
	return folio_ref_count(folio) > expected;
}

/*
 * The folio at @pgoff, locked, up to date and referenced; brought in if need
 * be. -ENXIO beyond the file's end, or shmem's errno.
 */
static struct folio *lock_page_in(struct codewp_mem *mem, pgoff_t pgoff)
{
	struct address_space *mapping = mem->inode->i_mapping;
	struct folio *folio;
	int err;

	for (;;) {
		if (pgoff >= DIV_ROUND_UP_ULL(i_size_read(mem->inode), PAGE_SIZE))
			return ERR_PTR(-ENXIO);
		folio = codewp_lock_folio(mapping, pgoff);
		if (folio) {
			/* Not up to date: fallocated, shmem has yet to clear it. */
			if (folio_test_uptodate(folio) &&
			    !PageHWPoison(folio_file_page(folio, pgoff)))
				return folio;
			folio_unlock(folio);
			folio_put(folio);
		}
		err = codewp_read_page(mapping, pgoff);
		/* -EINVAL: truncated since; look at the size again. */
		if (err && err != -EINVAL)
			return ERR_PTR(err);
		if (fatal_signal_pending(current))
			return ERR_PTR(-EINTR);
	}
}

/* Arm one page. 0, 1: with foreign references, or -errno: nothing changed. */
static int arm_page(struct codewp_view *view, unsigned long idx, u32 mode)
{
	struct folio *folio;
	bool foreign;
	u32 old, new;
	atomic_t *word;
	int err;

	err = codewp_state_alloc(view, idx);
	if (err)
		return err;
	word = codewp_state(view, idx);
	folio = lock_page_in(view->mem, view->first + idx);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	if (!folio_test_dirty(folio)) {
		codewp_recreated(view->mem, folio);
		folio_mark_dirty(folio);
	}
	old = atomic_read(word);
	if (!((old ^ mode) & CODEWP_PAGE_MODE)) {
		/* Armed already, so no mapping can write it. */
		foreign = old & CODEWP_PAGE_FOREIGN;
		goto out;
	}
	do {
		new = old & ~(CODEWP_PAGE_MODE | CODEWP_PAGE_WRITTEN |
			      CODEWP_PAGE_FOREIGN);
		new |= mode;
	} while (!atomic_try_cmpxchg(word, &old, new));
	if (!(old & CODEWP_PAGE_ARMED)) {
		codewp_clean_folio(view->mem, folio, NULL, 0);
		this_cpu_inc(view->stats->armed);
	}
	this_cpu_inc(view->stats->arms);
	foreign = folio_foreign(folio);
	if (foreign) {
		atomic_or(CODEWP_PAGE_FOREIGN, word);
		this_cpu_inc(view->stats->foreign);
	}
out:
	folio_unlock(folio);
	folio_put(folio);
	return foreign;
}

/**
 * codewp_arm() - CODEWP_IOC_ARM
 * @view: view
 * @arg: range and flags; done and foreign are set, also on error
 *
 * When it returns, no CPU can write to the first @arg->done bytes through a
 * mapping of any view without page_mkwrite being called.
 *
 * Return: 0; -EINVAL, -EOVERFLOW, -ERANGE: bad arguments; -EINTR: signal;
 * -ENXIO: beyond the file's end; -EOPNOTSUPP: STOP without codewp_kvm.ko;
 * -ENOMEM, -ENOSPC, -EIO: page not brought in.
 */
long codewp_arm(struct codewp_view *view, struct codewp_arm *arg)
{
	unsigned long idx, end;
	u32 mode = CODEWP_PAGE_ARMED;
	long ret;

	switch (arg->flags) {
	case CODEWP_ARM_OPEN:
		break;
	case CODEWP_ARM_KEEP:
		/* Writes by the alias are told to no other view. */
		if (!(view->flags & CODEWP_VIEW_PRIVATE))
			return -EINVAL;
		fallthrough;
	case CODEWP_ARM_HOLD:
		mode |= CODEWP_PAGE_KEEP;
		break;
	case CODEWP_ARM_STOP:
		mode |= CODEWP_PAGE_STOP;
		break;
	default:
		return -EINVAL;
	}
	ret = codewp_view_range(view, arg->offset, arg->length);
	if (ret)
		return ret;
	if (unlikely(mode & CODEWP_PAGE_STOP)) {
		ret = codewp_guest_hold(view);
		if (ret)
			return ret;
	}

	end = (arg->offset + arg->length) >> PAGE_SHIFT;
	for (idx = arg->offset >> PAGE_SHIFT; idx < end; idx++) {
		ret = arm_page(view, idx, mode);
		if (ret < 0)
			break;
		arg->foreign += ret;
		arg->done += PAGE_SIZE;
		ret = 0;
		/* After the page: a storm of signals must not stop all progress. */
		if (signal_pending(current) && idx + 1 < end) {
			ret = -EINTR;
			break;
		}
		cond_resched();
	}
	trace_codewp_arm(arg->offset, arg->length, arg->done, view->id,
			 arg->flags);
	return ret;
}

/**
 * codewp_disarm() - CODEWP_IOC_DISARM
 * @view: view
 * @arg: range; done is set
 *
 * Needs no folio: a write that faults meanwhile is told or not. The page table
 * entries stay read only until the next write.
 *
 * Return: 0; -EINVAL, -EOVERFLOW, -ERANGE: bad arguments.
 */
long codewp_disarm(struct codewp_view *view, struct codewp_arm *arg)
{
	unsigned long idx, end;
	atomic_t *word;
	u32 old, new;
	long ret;

	if (arg->flags)
		return -EINVAL;
	ret = codewp_view_range(view, arg->offset, arg->length);
	if (ret)
		return ret;

	end = (arg->offset + arg->length) >> PAGE_SHIFT;
	for (idx = arg->offset >> PAGE_SHIFT; idx < end; idx++) {
		word = codewp_state(view, idx);
		if (!word) {
			idx |= CODEWP_CHUNK_WORDS - 1;
			cond_resched();
			continue;
		}
		old = atomic_read(word);
		do {
			if (!(old & CODEWP_PAGE_ARMED))
				break;
			new = codewp_state_next(old) & ~CODEWP_PAGE_MODE;
		} while (!atomic_try_cmpxchg(word, &old, new));
		if (old & CODEWP_PAGE_ARMED) {
			this_cpu_dec(view->stats->armed);
			this_cpu_inc(view->stats->disarms);
		}
		if (!(idx & 1023))
			cond_resched();
	}
	arg->done = arg->length;
	trace_codewp_disarm(arg->offset, arg->length, arg->done, view->id,
			    arg->flags);
	return 0;
}
