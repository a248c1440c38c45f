// SPDX-License-Identifier: GPL-2.0
/*
 * codewp: write faults on translated code, told to a binary translator.
 *
 * This file owns the module's start and end and the device's registration. The
 * contract with user space is Documentation/uapi.rst; what the other files share,
 * the order of locks and the central invariant are in codewp.h.
 */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "codewp.h"

/*
 * Root's, until a udev rule says otherwise. Packages give such devices to a
 * group: KERNEL=="codewp", SUBSYSTEM=="misc", GROUP="kvm", MODE="0660"
 */
static struct miscdevice codewp_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "codewp",
	.mode = 0660,
	.fops = &codewp_dev_fops,
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
