// SPDX-License-Identifier: GPL-2.0
/*
 * Dirty clients: who wants to know which pages were written since he last asked.
 *
 * Each client has a bit in the page-state word; page_mkwrite sets the bits of
 * the enabled ones. A page that was harvested must fault again, so it is write
 * protected: first the bit is cleared, then the folio is cleaned. A write in
 * between is not marked, but is done before the call returns; one afterwards
 * faults. All words are allocated when a client is enabled, because
 * page_mkwrite must not fail.
 *
 * view->lock guards changes of view->clients.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "codewp.h"
#include "compat.h"

/**
 * codewp_client_bits() - state bits of dirty clients
 * @clients: CODEWP_CLIENT_* mask
 *
 * Return: CODEWP_PAGE_* mask.
 */
u32 codewp_client_bits(u32 clients)
{
	u32 bits = 0;

	if (clients & CODEWP_CLIENT_CODE)
		bits |= CODEWP_PAGE_WRITTEN;
	if (clients & CODEWP_CLIENT_DISPLAY)
		bits |= CODEWP_PAGE_DISPLAY;
	if (clients & CODEWP_CLIENT_MIGRATION)
		bits |= CODEWP_PAGE_MIGRATION;
	return bits;
}

/**
 * codewp_bits_client() - the reverse of codewp_client_bits()
 * @bits: CODEWP_PAGE_* mask
 *
 * Return: CODEWP_CLIENT_* mask.
 */
u32 codewp_bits_client(u32 bits)
{
	u32 clients = 0;

	if (bits & CODEWP_PAGE_WRITTEN)
		clients |= CODEWP_CLIENT_CODE;
	if (bits & CODEWP_PAGE_DISPLAY)
		clients |= CODEWP_CLIENT_DISPLAY;
	if (bits & CODEWP_PAGE_MIGRATION)
		clients |= CODEWP_CLIENT_MIGRATION;
	return clients;
}

/* Make the next write to a page fault, if it is in memory. */
static void protect_page(struct codewp_view *view, unsigned long idx, u32 bit)
{
	struct folio *folio;

	folio = codewp_lock_folio(view->mem->inode->i_mapping, view->first + idx);
	if (!folio)
		return;
	codewp_clean_folio(view->mem, folio, view, bit);
	folio_unlock(folio);
	folio_put(folio);
}

/* The bits of pages [idx, idx + nr) of one 64-bit word of the bitmap. */
static u64 harvest_word(struct codewp_view *view, unsigned long idx,
			unsigned int nr, u32 bit, bool clear)
{
	unsigned int i;
	atomic_t *word;
	u64 bits = 0;

	for (i = 0; i < nr; i++) {
		word = codewp_state(view, idx + i);
		if (!word || !(atomic_read(word) & bit))
			continue;
		bits |= BIT_ULL(i);
		if (!clear)
			continue;
		atomic_andnot(bit, word);
		/* Nobody sets the bit of a client that is not enabled... */
		if (READ_ONCE(view->clients) & bit)
			protect_page(view, idx + i, bit);
		/* ...but a trap, WRITTEN, and a trapped page is not protected. */
	}
	return bits;
}

/**
 * codewp_dirty() - CODEWP_IOC_DIRTY
 * @view: view
 * @arg: range, client and where to put the bitmap; done and count are set, also
 *       on error
 *
 * Return: 0; -EINVAL, -EOVERFLOW, -ERANGE: bad arguments; -ENODATA: the client
 * is not enabled; -EFAULT: bad bitmap; -EINTR: signal.
 */
long codewp_dirty(struct codewp_view *view, struct codewp_dirty *arg)
{
	u64 __user *bitmap = u64_to_user_ptr(arg->bitmap);
	bool clear = arg->flags & CODEWP_DIRTY_CLEAR;
	unsigned long idx, end;
	unsigned int nr;
	u64 bits;
	u32 bit;
	int err;

	if (arg->flags & ~CODEWP_DIRTY_CLEAR ||
	    arg->client & ~CODEWP_CLIENT_ALL || hweight32(arg->client) != 1 ||
	    !IS_ALIGNED(arg->bitmap, sizeof(u64)))
		return -EINVAL;
	err = codewp_view_range(view, arg->offset, arg->length);
	if (err)
		return err;
	bit = codewp_client_bits(arg->client);
	/* Traps set WRITTEN in any case. */
	if (!(READ_ONCE(view->clients) & bit) && bit != CODEWP_PAGE_WRITTEN)
		return -ENODATA;

	end = (arg->offset + arg->length) >> PAGE_SHIFT;
	for (idx = arg->offset >> PAGE_SHIFT; idx < end; idx += nr) {
		nr = min(end - idx, 64UL);
		/* Where the answer cannot be written, no bit may be cleared. */
		if (put_user(0, bitmap))
			return -EFAULT;
		bits = harvest_word(view, idx, nr, bit, clear);
		if (put_user(bits, bitmap)) {
			if (clear)
				for (nr = 0; nr < 64; nr++)
					if (bits & BIT_ULL(nr))
						atomic_or(bit, codewp_state(view, idx + nr));
			return -EFAULT;
		}
		bitmap++;
		arg->count += hweight64(bits);
		arg->done += (u64)nr << PAGE_SHIFT;
		if (signal_pending(current) && idx + nr < end)
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* Write protect every page of the view that is in memory. 0 or -EINTR. */
static int protect_all(struct codewp_view *view)
{
	struct address_space *mapping = view->mem->inode->i_mapping;
	unsigned long last = view->first + view->nr - 1;
	unsigned long pgoff = view->first;
	struct folio *folio;

	while (xa_find(&mapping->i_pages, &pgoff, last, XA_PRESENT)) {
		folio = codewp_lock_folio(mapping, pgoff);
		if (folio) {
			codewp_clean_folio(view->mem, folio, view,
					   CODEWP_PAGE_CLIENTS);
			pgoff = folio->index + folio_nr_pages(folio);
			folio_unlock(folio);
			folio_put(folio);
		} else {
			pgoff++;	/* in swap, or gone */
		}
		if (pgoff > last)
			break;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/**
 * codewp_clients() - CODEWP_IOC_CLIENTS
 * @view: view
 * @clients: CODEWP_CLIENT_* to be enabled from now on
 *
 * WRITTEN bits are not cleared when CODE is enabled: they are also the record of
 * the traps. Return: 0, -ENOMEM, -EINTR.
 */
long codewp_clients(struct codewp_view *view, u32 clients)
{
	u32 bits = codewp_client_bits(clients);
	unsigned long idx;
	atomic_t *word;
	u32 fresh;
	int err;

	if (bits) {
		err = codewp_state_alloc_all(view);
		if (err)
			return err;
	}
	if (mutex_lock_interruptible(&view->lock))
		return -EINTR;
	fresh = bits & ~view->clients;
	/* From here on page_mkwrite marks; what it marks too early is cleared. */
	WRITE_ONCE(view->clients, bits);
	err = 0;
	if (fresh) {
		for (idx = 0; idx < view->nr; idx++) {
			word = codewp_state(view, idx);
			if (atomic_read(word) & fresh & ~CODEWP_PAGE_WRITTEN)
				atomic_andnot(fresh & ~CODEWP_PAGE_WRITTEN, word);
			if (!(idx & 1023))
				cond_resched();
		}
		err = protect_all(view);
	}
	mutex_unlock(&view->lock);
	return err;
}
