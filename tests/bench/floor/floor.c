// SPDX-License-Identifier: GPL-2.0
/*
 * codewp-floor - a page_mkwrite that does nothing, as the floor of the trap
 * benchmark.
 *
 * A mapping of its device is a mapping of a memfd, made the way codewp makes its
 * own, whose page_mkwrite locks the folio and returns. For benchmarks only: there
 * is one user at a time, and nothing is checked beyond what keeps the kernel
 * whole.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/shmem_fs.h>

static struct vm_operations_struct floor_vm_ops;

static vm_fault_t floor_page_mkwrite(struct vm_fault *vmf)
{
	struct folio *folio = page_folio(vmf->page);

	folio_lock(folio);
	if (!folio->mapping) {
		folio_unlock(folio);
		return VM_FAULT_NOPAGE;
	}
	return VM_FAULT_LOCKED;
}

/* One page per fault, so that a read leaves each page read only. */
static vm_fault_t floor_map_pages(struct vm_fault *vmf, pgoff_t first, pgoff_t last)
{
	return 0;
}

/* @arg: the memfd to map from now on */
static long floor_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct file *memfd = fget(arg);

	if (!memfd)
		return -EBADF;
	if (!shmem_file(memfd) || cmpxchg(&file->private_data, NULL, memfd)) {
		fput(memfd);
		return -EINVAL;
	}
	return 0;
}

static int floor_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct file *memfd = READ_ONCE(file->private_data);
	int err;

	if (!memfd)
		return -EINVAL;
	vma_set_file(vma, memfd);
	err = call_mmap(memfd, vma);
	if (err)
		return err;
	if (!floor_vm_ops.fault) {
		floor_vm_ops = *vma->vm_ops;
		floor_vm_ops.page_mkwrite = floor_page_mkwrite;
		floor_vm_ops.map_pages = floor_map_pages;
	}
	vma->vm_ops = &floor_vm_ops;
	/* A mapping outlives the file here: whoever loads this module keeps it. */
	__module_get(THIS_MODULE);
	return 0;
}

static int floor_release(struct inode *inode, struct file *file)
{
	if (file->private_data)
		fput(file->private_data);
	return 0;
}

/* misc_open() leaves the device in private_data. */
static int floor_open(struct inode *inode, struct file *file)
{
	file->private_data = NULL;
	return 0;
}

static const struct file_operations floor_fops = {
	.owner = THIS_MODULE,
	.open = floor_open,
	.release = floor_release,
	.unlocked_ioctl = floor_ioctl,
	.mmap = floor_mmap,
};

static struct miscdevice floor_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "codewp-floor",
	.fops = &floor_fops,
	.mode = 0600,
};
module_misc_device(floor_device);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A page_mkwrite that does nothing, for codewp's benchmarks");
