// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/codewp: each open file makes views of memfds, registers threads, and may
 * itself become one anonymous view.
 *
 * The view's own file is held by the open file and by the view's mappings. The
 * device's inode, which all open files share, has no part in it.
 *
 * codewp_dev.lock guards the change from none to a view, and is taken under the
 * mmap_lock, so that no user memory may be touched under it.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "codewp.h"

/**
 * struct codewp_dev - an open file of /dev/codewp
 * @lock: guards the setting of @view
 * @view: its anonymous view, or NULL; never changes again
 */
struct codewp_dev {
	struct mutex lock;	/* see above */
	struct codewp_view *view;
};

/**
 * codewp_dev_view() - the view that an open file is
 * @file: any file
 *
 * Return: its anonymous view; NULL: it has none, or is not of /dev/codewp.
 */
struct codewp_view *codewp_dev_view(struct file *file)
{
	struct codewp_dev *dev = file->private_data;

	if (file->f_op != &codewp_dev_fops)
		return NULL;
	/* Pairs with the smp_store_release() in dev_ioctl_anon() and dev_mmap(). */
	return smp_load_acquire(&dev->view);
}

static int dev_open(struct inode *inode, struct file *file)
{
	struct codewp_dev *dev = kzalloc(sizeof(*dev), GFP_KERNEL_ACCOUNT);

	if (!dev)
		return -ENOMEM;
	mutex_init(&dev->lock);
	file->private_data = dev;
	return 0;
}

static int dev_release(struct inode *inode, struct file *file)
{
	struct codewp_dev *dev = file->private_data;

	if (dev->view)
		fput(dev->view->file);
	kfree(dev);
	return 0;
}

static long ioctl_info(struct codewp_info __user *arg, size_t usize)
{
	struct codewp_info info;
	int err;

	err = codewp_get_arg(&info, sizeof(info), arg, usize);
	if (err)
		return err;
	if (info.reserved0 || memchr_inv(info.reserved, 0, sizeof(info.reserved)))
		return -EINVAL;

	memset(&info, 0, sizeof(info));
	info.version = CODEWP_API_VERSION;
	info.page_size = PAGE_SIZE;
	info.features = CODEWP_FEATURE_UPCALL | CODEWP_FEATURE_KICK |
			CODEWP_FEATURE_ANON;
	if (codewp_guest_available())
		info.features |= CODEWP_FEATURE_STOP;
	info.max_view_bytes = READ_ONCE(codewp_max_view_bytes);
	info.max_ring_bytes = READ_ONCE(codewp_max_ring_bytes);
	info.max_views = READ_ONCE(codewp_max_views);
	info.views = codewp_user_views();
	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long dev_ioctl_anon(struct codewp_dev *dev, struct codewp_anon __user *arg,
			   size_t usize)
{
	struct codewp_view *view;
	struct codewp_anon a;
	int err;

	err = codewp_get_arg(&a, sizeof(a), arg, usize);
	if (err)
		return err;
	if (memchr_inv(a.reserved, 0, sizeof(a.reserved)))
		return -EINVAL;
	/* What cannot take the answer is found out before there is a view. */
	if (put_user(a.id, &arg->id))
		return -EFAULT;

	mutex_lock(&dev->lock);
	view = dev->view ? ERR_PTR(-EBUSY) : codewp_view_anon(&a);
	if (!IS_ERR(view))
		/* Pairs with the smp_load_acquire() in codewp_dev_view(). */
		smp_store_release(&dev->view, view);
	mutex_unlock(&dev->lock);
	if (IS_ERR(view))
		return PTR_ERR(view);
	return put_user(view->id, &arg->id);
}

static long dev_ioctl(struct file *file, unsigned int cmd, unsigned long argp)
{
	struct codewp_view *view = codewp_dev_view(file);
	void __user *arg = (void __user *)argp;
	size_t usize = _IOC_SIZE(cmd);

	/* The size grows with the structures: it is not part of the command. */
	switch (cmd & ~IOCSIZE_MASK) {
	case CODEWP_IOC_INFO & ~IOCSIZE_MASK:
		return ioctl_info(arg, usize);
	case CODEWP_IOC_VIEW & ~IOCSIZE_MASK:
		return codewp_view_create(arg, usize);
	case CODEWP_IOC_THREAD & ~IOCSIZE_MASK:
		return codewp_thread_create(arg, usize);
	case CODEWP_IOC_ANON & ~IOCSIZE_MASK:
		return dev_ioctl_anon(file->private_data, arg, usize);
	default:
		return view ? codewp_view_ioctl(view, cmd, argp) : -ENOIOCTLCMD;
	}
}

/*
 * The first mapping of a file that is no view yet makes it one that ends with
 * this mapping. When it fails, there is no view either.
 */
static int dev_mmap_first(struct codewp_dev *dev, struct vm_area_struct *vma)
{
	struct codewp_anon a = {
		.length = ((u64)vma->vm_pgoff + vma_pages(vma)) << PAGE_SHIFT,
	};
	struct codewp_view *view;
	int err;

	if (!(vma->vm_flags & VM_SHARED) ||
	    vma->vm_pgoff >= CODEWP_MMAP_RING >> PAGE_SHIFT)
		return -EINVAL;
	view = codewp_view_anon(&a);
	if (IS_ERR(view))
		return PTR_ERR(view);
	err = codewp_view_mmap(view, vma);
	if (err)
		fput(view->file);
	else
		/* Pairs with the smp_load_acquire() in codewp_dev_view(). */
		smp_store_release(&dev->view, view);
	return err;
}

static int dev_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct codewp_dev *dev = file->private_data;
	struct codewp_view *view = codewp_dev_view(file);
	int err;

	if (!view) {
		mutex_lock(&dev->lock);
		view = dev->view;
		if (!view) {
			err = dev_mmap_first(dev, vma);
			mutex_unlock(&dev->lock);
			return err;
		}
		mutex_unlock(&dev->lock);
	}
	return codewp_view_mmap(view, vma);
}

static __poll_t dev_poll(struct file *file, struct poll_table_struct *wait)
{
	struct codewp_view *view = codewp_dev_view(file);

	return view ? codewp_queue_poll(view->queue, file, wait) : EPOLLERR;
}

/*
 * Programs that take memory from a file look at its size: that of the view, or as
 * long as there is none, how large it may become.
 */
static loff_t dev_llseek(struct file *file, loff_t offset, int whence)
{
	struct codewp_view *view = codewp_dev_view(file);
	u64 size = view ? (u64)view->nr << PAGE_SHIFT :
			  READ_ONCE(codewp_max_view_bytes);

	return fixed_size_llseek(file, offset, whence, min_t(u64, size, LLONG_MAX));
}

const struct file_operations codewp_dev_fops = {
	.owner = THIS_MODULE,
	.open = dev_open,
	.release = dev_release,
	.unlocked_ioctl = dev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = dev_mmap,
	.poll = dev_poll,
	.llseek = dev_llseek,
};
