// SPDX-License-Identifier: GPL-2.0
/*
 * codewp: write faults on translated code, told to a binary translator.
 *
 * This file owns /dev/codewp and the module's start and end. The contract with
 * user space is Documentation/uapi.rst; what the other files share, the order of
 * locks and the central invariant are in codewp.h.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "codewp.h"

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
	info.features = CODEWP_FEATURE_UPCALL | CODEWP_FEATURE_KICK;
	info.max_view_bytes = READ_ONCE(codewp_max_view_bytes);
	info.max_ring_bytes = READ_ONCE(codewp_max_ring_bytes);
	info.max_views = READ_ONCE(codewp_max_views);
	info.views = codewp_user_views();
	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long dev_ioctl(struct file *file, unsigned int cmd, unsigned long argp)
{
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
	default:
		return -ENOIOCTLCMD;
	}
}

static const struct file_operations dev_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = dev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

/*
 * Root's, until a udev rule says otherwise. Packages give such devices to a
 * group: KERNEL=="codewp", SUBSYSTEM=="misc", GROUP="kvm", MODE="0660"
 */
static struct miscdevice codewp_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "codewp",
	.mode = 0660,
	.fops = &dev_fops,
};

static int __init codewp_init(void)
{
	int err;

	err = codewp_inode_init();
	if (err)
		return err;
	err = misc_register(&codewp_dev);
	if (err)
		codewp_inode_exit();
	return err;
}

static void __exit codewp_exit(void)
{
	misc_deregister(&codewp_dev);
	codewp_inode_exit();
	/* No file is left, but the last ones' memory may wait for its grace period. */
	rcu_barrier();
}

module_init(codewp_init);
module_exit(codewp_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The codewp developers");
MODULE_DESCRIPTION("Write faults on translated code, told to a binary translator");
MODULE_VERSION("0.1");
