// SPDX-License-Identifier: GPL-2.0
/*
 * The page-state words: one u32 per page of a view, in chunks of one kernel
 * page that are allocated on demand and that the creator may map read only.
 *
 * Chunks are found through a flat table of pointers, 8 bytes per 4 MiB of the
 * view: in the trap's path that is one load, where an xarray is a walk. A chunk,
 * once there, stays until the view is gone, so readers need no lock. The words
 * themselves are changed by atomic operations only; who may set which bit when
 * is said in codewp.h.
 */
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "codewp.h"
#include "compat.h"

static unsigned long nr_chunks(const struct codewp_view *view)
{
	return DIV_ROUND_UP(view->nr, CODEWP_CHUNK_WORDS);
}

/**
 * codewp_state_init() - the table of chunks
 * @view: with nr set
 *
 * Return: 0 or -ENOMEM.
 */
int codewp_state_init(struct codewp_view *view)
{
	view->chunks = kvcalloc(nr_chunks(view), sizeof(*view->chunks),
				GFP_KERNEL_ACCOUNT);
	return view->chunks ? 0 : -ENOMEM;
}

/**
 * codewp_state_exit() - free all page states
 * @view: which nobody can reach any more; may run in RCU callbacks
 */
void codewp_state_exit(struct codewp_view *view)
{
	unsigned long i;

	if (!view->chunks)
		return;
	if (atomic_long_read(&view->nr_chunks))
		for (i = 0; i < nr_chunks(view); i++)
			free_page((unsigned long)view->chunks[i]);
	kvfree(view->chunks);
}

/**
 * codewp_state_alloc() - make sure that a page has a state word
 * @view: view
 * @idx: page of the view, less than its nr
 *
 * May sleep; not under a folio lock. Return: 0 or -ENOMEM.
 */
int codewp_state_alloc(struct codewp_view *view, unsigned long idx)
{
	atomic_t **slot = &view->chunks[idx >> CODEWP_CHUNK_SHIFT];
	unsigned long page;

	if (READ_ONCE(*slot))
		return 0;
	page = get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!page)
		return -ENOMEM;
	/* Pairs with the address dependency from codewp_state()'s READ_ONCE. */
	if (cmpxchg(slot, NULL, (atomic_t *)page))
		free_page(page);
	else
		atomic_long_inc(&view->nr_chunks);
	return 0;
}

/**
 * codewp_state_alloc_all() - make sure that every page has a state word
 * @view: view
 *
 * Return: 0, -ENOMEM, or -EINTR; what was allocated stays.
 */
int codewp_state_alloc_all(struct codewp_view *view)
{
	unsigned long idx;
	int err;

	for (idx = 0; idx < view->nr; idx += CODEWP_CHUNK_WORDS) {
		err = codewp_state_alloc(view, idx);
		if (err)
			return err;
		if (signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static vm_fault_t state_fault(struct vm_fault *vmf)
{
	struct codewp_view *view = vmf->vma->vm_private_data;
	unsigned long chunk = vmf->pgoff - (CODEWP_MMAP_STATE >> PAGE_SHIFT);
	struct page *page;

	if (chunk >= nr_chunks(view))
		return VM_FAULT_SIGBUS;
	if (codewp_state_alloc(view, chunk << CODEWP_CHUNK_SHIFT))
		return VM_FAULT_OOM;
	page = virt_to_page(view->chunks[chunk]);
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct state_vm_ops = {
	.fault = state_fault,
};

/**
 * codewp_state_mmap() - map page states, read only
 * @view: view; its file is the VMA's
 * @vma: at an offset from CODEWP_MMAP_STATE on, shared
 *
 * Return: 0; -EPERM: not the caller's view, or writable; -EINVAL: beyond the end.
 */
int codewp_state_mmap(struct codewp_view *view, struct vm_area_struct *vma)
{
	unsigned long first = vma->vm_pgoff - (CODEWP_MMAP_STATE >> PAGE_SHIFT);
	unsigned long nr = vma_pages(vma);

	if (!codewp_view_mine(view) || (vma->vm_flags & VM_WRITE))
		return -EPERM;
	if (first >= nr_chunks(view) || nr > nr_chunks(view) - first)
		return -EINVAL;
	codewp_vm_flags_clear(vma, VM_MAYWRITE | VM_EXEC | VM_MAYEXEC);
	codewp_vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_private_data = view;
	vma->vm_ops = &state_vm_ops;
	return 0;
}
