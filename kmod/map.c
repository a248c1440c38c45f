// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings of a view: mappings of the memfd itself, with our vm_ops.
 *
 * Seals, accounting, rmap, truncation, msync and swap stay shmem's own. What is
 * ours: page_mkwrite (trap.c), a fault that never lets the core map more than
 * the one page that was asked for, and a reference to the view's file per VMA,
 * so that core code, not this module, drops the last one.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/page-flags.h>

#include "codewp.h"
#include "compat.h"

/*
 * The core maps what is around the page of a large folio on its own: the whole
 * 2 MiB writable on a write fault, every kernel; all its pages on newer ones. So
 * a page of a large folio is inserted here, alone and read only; the write then
 * faults again and meets page_mkwrite.
 */
static vm_fault_t insert_one(struct vm_fault *vmf, struct folio *folio,
			     vm_fault_t ret)
{
	int err = vm_insert_page(vmf->vma, vmf->address, vmf->page);

	folio_unlock(folio);
	folio_put(folio);
	vmf->page = NULL;
	ret &= VM_FAULT_MAJOR;
	switch (err) {
	case 0:
	case -EBUSY:	/* another thread was faster */
		return ret | VM_FAULT_NOPAGE;
	case -ENOMEM:
		return VM_FAULT_OOM;
	default:
		return VM_FAULT_SIGBUS;
	}
}

static vm_fault_t view_fault(struct vm_fault *vmf)
{
	struct codewp_view *view = vmf->vma->vm_private_data;
	struct codewp_mem *mem = view->mem;
	struct folio *folio;
	vm_fault_t ret;

	/* mremap() may have grown the mapping beyond the view. */
	if (!codewp_covers(view, vmf->pgoff))
		return VM_FAULT_SIGBUS;
	ret = mem->shmem_ops->fault(vmf);
	if (ret & (VM_FAULT_ERROR | VM_FAULT_NOPAGE | VM_FAULT_RETRY))
		return ret;
	folio = page_folio(vmf->page);
	if (!(ret & VM_FAULT_LOCKED)) {
		folio_lock(folio);
		if (folio->mapping != mem->inode->i_mapping) {
			folio_unlock(folio);
			folio_put(folio);
			vmf->page = NULL;
			return VM_FAULT_NOPAGE;
		}
		ret |= VM_FAULT_LOCKED;
	}
	/* Arming marks a folio dirty: a clean one has come after that. */
	if (unlikely(!folio_test_dirty(folio)))
		codewp_recreated(mem, folio);
	/* The core deals with poison before it maps anything. */
	if (!folio_test_large(folio) || PageHWPoison(vmf->page))
		return ret;
	return insert_one(vmf, folio, ret);
}

/*
 * Mapping around a fault would be shmem's business, read only and harmless; but
 * without map_pages newer kernels take the mmap_lock before they call a hook,
 * and with shmem's own they map whole folios.
 */
static vm_fault_t view_map_pages(struct vm_fault *vmf, pgoff_t start, pgoff_t end)
{
	return 0;
}

static void view_vma_open(struct vm_area_struct *vma)
{
	struct codewp_view *view = vma->vm_private_data;

	get_file(view->file);
}

static void view_vma_close(struct vm_area_struct *vma)
{
	struct codewp_view *view = vma->vm_private_data;

	fput(view->file);
}

/* shmem's vm_ops with our hooks, made when the file is first mapped. */
static const struct vm_operations_struct *view_vm_ops(struct codewp_mem *mem,
						      struct vm_area_struct *vma)
{
	mutex_lock(&mem->lock);
	if (!mem->shmem_ops) {
		mem->vm_ops = *vma->vm_ops;
		mem->vm_ops.fault = view_fault;
		mem->vm_ops.map_pages = view_map_pages;
		mem->vm_ops.page_mkwrite = codewp_page_mkwrite;
		mem->vm_ops.open = view_vma_open;
		mem->vm_ops.close = view_vma_close;
		mem->shmem_ops = vma->vm_ops;
	}
	mutex_unlock(&mem->lock);
	return &mem->vm_ops;
}

static int data_mmap(struct codewp_view *view, struct vm_area_struct *vma)
{
	int err;

	if (vma->vm_pgoff >= view->nr || vma_pages(vma) > view->nr - vma->vm_pgoff)
		return view->anon ? -ENXIO : -EINVAL;
	if ((view->flags & CODEWP_VIEW_PRIVATE) && current->mm != view->mm)
		return -EPERM;

	vma->vm_pgoff += view->first;
	vma_set_file(vma, view->memfd);
	err = codewp_file_mmap(view->memfd, vma);
	if (err)
		return err;
	if (WARN_ON_ONCE(!vma->vm_ops || !vma->vm_ops->fault ||
			 vma->vm_ops->open || vma->vm_ops->close))
		return -EOPNOTSUPP;

	vma->vm_ops = view_vm_ops(view->mem, vma);
	vma->vm_private_data = view;
	codewp_vm_flags_clear(vma, VM_EXEC | VM_MAYEXEC);
	/*
	 * VM_MIXEDMAP for vm_insert_page(). It also keeps this VMA from being
	 * merged with a plain mapping of the memfd beside it, whose vm_ops are
	 * shmem's, and huge page collapse away from it.
	 */
	codewp_vm_flags_set(vma, VM_MIXEDMAP);
	if (view->flags & CODEWP_VIEW_PRIVATE)
		codewp_vm_flags_set(vma, VM_DONTCOPY);
	get_file(view->file);
	return 0;
}

/* The memory itself: a mapping of the shmem file that we have nothing to do with. */
static int alias_mmap(struct codewp_view *view, struct vm_area_struct *vma)
{
	unsigned long first = vma->vm_pgoff - (CODEWP_MMAP_ALIAS >> PAGE_SHIFT);

	if (!view->anon || !codewp_view_mine(view))
		return -EPERM;
	if (first >= view->nr || vma_pages(vma) > view->nr - first)
		return -ENXIO;
	vma->vm_pgoff = first;
	vma_set_file(vma, view->memfd);
	return codewp_file_mmap(view->memfd, vma);
}

/**
 * codewp_view_mmap() - mmap of a view: pages, ring, page states or alias
 * @view: view
 * @vma: new
 *
 * The VMA becomes the view's own file's, or the shmem file's, whichever file was
 * mapped: an open file of /dev/codewp shares its inode with all others.
 *
 * Return: 0 or -errno as Documentation/uapi.rst lists.
 */
int codewp_view_mmap(struct codewp_view *view, struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_pgoff >= CODEWP_MMAP_ALIAS >> PAGE_SHIFT)
		return alias_mmap(view, vma);
	if (vma->vm_pgoff < CODEWP_MMAP_RING >> PAGE_SHIFT)
		return data_mmap(view, vma);
	vma_set_file(vma, view->file);
	if (vma->vm_pgoff >= CODEWP_MMAP_STATE >> PAGE_SHIFT)
		return codewp_state_mmap(view, vma);
	return codewp_queue_mmap(view, vma);
}
