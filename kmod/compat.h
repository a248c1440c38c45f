/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Differences between the kernels that codewp builds on: Debian's 6.1, 6.12 and
 * 7.x lines. The only file that looks at the kernel's version.
 */
#ifndef CODEWP_COMPAT_H
#define CODEWP_COMPAT_H

#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/huge_mm.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/shmem_fs.h>
#include <linux/tracepoint-defs.h>
#include <linux/version.h>
#include <asm/unwind.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void codewp_vm_flags_set(struct vm_area_struct *vma,
				       unsigned long flags)
{
	vma->vm_flags |= flags;
}

static inline void codewp_vm_flags_clear(struct vm_area_struct *vma,
					 unsigned long flags)
{
	vma->vm_flags &= ~flags;
}
#else
#define codewp_vm_flags_set	vm_flags_set
#define codewp_vm_flags_clear	vm_flags_clear
#endif

/* A reference to a file that has not been freed, unless its last one is gone. */
static inline bool codewp_get_live_file(struct file *file)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	return get_file_rcu(file);
#else
	return get_file_active(&file);
#endif
}

/* The file's own mmap, called on a VMA that was given to the file. */
static inline int codewp_file_mmap(struct file *file, struct vm_area_struct *vma)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
	return call_mmap(file, vma);
#else
	return vfs_mmap(file, vma);
#endif
}

static inline void codewp_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

/* The folio at @index, locked and referenced, or NULL if it is not in memory. */
static inline struct folio *codewp_lock_folio(struct address_space *mapping,
					      pgoff_t index)
{
	struct folio *folio = __filemap_get_folio(mapping, index, FGP_LOCK, 0);

	return IS_ERR(folio) ? NULL : folio;
}

/* Bring the page at @index in, from swap or as zeroes. 0 or -errno. */
static inline int codewp_read_page(struct address_space *mapping, pgoff_t index)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	struct page *page = shmem_read_mapping_page(mapping, index);

	if (IS_ERR(page))
		return PTR_ERR(page);
	put_page(page);
#else
	struct folio *folio = shmem_read_folio(mapping, index);

	if (IS_ERR(folio))
		return PTR_ERR(folio);
	folio_put(folio);
#endif
	return 0;
}

/* References that page tables hold on a page-cache folio. */
static inline int codewp_folio_mapcount(struct folio *folio)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
	long i, nr = folio_nr_pages(folio);
	int compound, sum;

	if (!folio_test_large(folio))
		return atomic_read(&folio->_mapcount) + 1;
	/* Each subpage counts the mappings of the whole folio, too. */
	compound = folio_entire_mapcount(folio);
	sum = compound - compound * nr;
	for (i = 0; i < nr; i++)
		sum += atomic_read(&folio_page(folio, i)->_mapcount) + 1;
	return sum;
#else
	return folio_mapcount(folio);
#endif
}

/*
 * Is current in a page fault of its own user-mode instruction? page_mkwrite is
 * not given FAULT_FLAG_USER, but handle_mm_fault() leaves a note of it for the
 * memory cgroup's OOM killer. Without the note, an exception's frame has no
 * system call number; the kernel's own accesses on the way back from an
 * exception (a signal frame, rseq) then look the same, and Documentation/uapi.rst
 * tells handlers how to notice.
 */
static inline bool codewp_in_user_fault(void)
{
	if (current->flags & PF_KTHREAD)
		return false;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0) && defined(CONFIG_MEMCG)
	return current->in_user_fault;
#elif defined(CONFIG_MEMCG_V1)
	return current->in_user_fault;
#else
	return true;
#endif
}

/* The thread's rseq area, or NULL. */
static inline struct rseq __user *codewp_rseq(void)
{
#ifndef CONFIG_RSEQ
	return NULL;
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
	return current->rseq;
#else
	return current->rseq.usrptr;
#endif
}

/* A new shmem file of the kernel's own mount, whose pages are charged when made. */
static inline struct file *codewp_shmem_file(const char *name, loff_t size)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
	return shmem_file_setup(name, size, VM_NORESERVE);
#else
	return shmem_file_setup(name, size, mk_vma_flags(VMA_NORESERVE_BIT));
#endif
}

/* What tells two frames of one stack apart, whichever way they are found. */
#if defined(CONFIG_UNWINDER_ORC)
#define CODEWP_HAS_UNWINDER	1
static inline unsigned long codewp_unwind_sp(const struct unwind_state *state)
{
	return state->sp;
}
#elif defined(CONFIG_UNWINDER_FRAME_POINTER)
#define CODEWP_HAS_UNWINDER	1
static inline unsigned long codewp_unwind_sp(const struct unwind_state *state)
{
	return (unsigned long)state->bp;
}
#else
#define CODEWP_HAS_UNWINDER	0
static inline unsigned long codewp_unwind_sp(const struct unwind_state *state)
{
	return 0;
}
#endif

#endif /* CODEWP_COMPAT_H */
