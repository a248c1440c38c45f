// SPDX-License-Identifier: GPL-2.0
/*
 * Files of the module's own kind, each on an inode of its own.
 *
 * The kernel's shared anonymous inode will not do: all its files are one
 * address space, and a view's mappings of ring and page states belong to the
 * view alone. The functions that make a fresh anonymous inode differ between
 * kernels; a pseudo file system like dma-buf's is the same on all.
 */
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>

#include "codewp.h"

#define CODEWP_FS_MAGIC 0x63647770	/* "cdwp" */

static int codewp_init_fs_context(struct fs_context *fc)
{
	return init_pseudo(fc, CODEWP_FS_MAGIC) ? 0 : -ENOMEM;
}

/*
 * No owner: the mount below would hold the module for good. Files hold it (see
 * codewp_getfile()), and without files nobody reaches the mount.
 */
static struct file_system_type codewp_fs_type = {
	.name = "codewp",
	.init_fs_context = codewp_init_fs_context,
	.kill_sb = kill_anon_super,
};

static struct vfsmount *codewp_mnt;

/**
 * codewp_getfile() - a new file on a new anonymous inode
 * @name: what /proc/PID/fd shows
 * @fops: its operations; their owner is held until the file is gone, and is
 *        released by core code
 * @priv: private_data
 *
 * Return: the file, open for reading and writing, or an ERR_PTR. When it is an
 * ERR_PTR, @fops->release has not been called.
 */
struct file *codewp_getfile(const char *name, const struct file_operations *fops,
			    void *priv)
{
	struct inode *inode;
	struct file *file;

	inode = alloc_anon_inode(codewp_mnt->mnt_sb);
	if (IS_ERR(inode))
		return ERR_CAST(inode);

	/* alloc_file_pseudo() takes no reference; __fput() drops one. */
	__module_get(fops->owner);
	file = alloc_file_pseudo(inode, codewp_mnt, name, O_RDWR, fops);
	if (IS_ERR(file)) {
		module_put(fops->owner);
		iput(inode);
		return file;
	}
	file->private_data = priv;
	return file;
}

/**
 * codewp_inode_init() - mount the pseudo file system
 *
 * Return: 0 or -errno.
 */
int __init codewp_inode_init(void)
{
	codewp_mnt = kern_mount(&codewp_fs_type);
	return PTR_ERR_OR_ZERO(codewp_mnt);
}

/**
 * codewp_inode_exit() - undo codewp_inode_init(); no file is left
 */
void codewp_inode_exit(void)
{
	kern_unmount(codewp_mnt);
}
