// SPDX-License-Identifier: GPL-2.0
/*
 * A view's life: the checks at its creation, its ioctls, its end.
 *
 * The view's file lives as long as a descriptor or a mapping of it; release
 * runs when the last is gone. An anonymous view's file has no descriptor of its
 * own: the open file of /dev/codewp (dev.c) holds it. Other views' traps may still
 * look at the view under RCU, so its memory goes after a grace period.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "codewp.h"
#include "compat.h"
#include "trace.h"

static const struct file_operations view_fops;

static atomic_t last_id = ATOMIC_INIT(0);

/*
 * Let go of ring and mm. Not from an RCU callback: dropping the last reference
 * to an mm takes locks that are not safe in a softirq. A trap that still looks
 * at the view only compares mm with its own, which is alive, so that it cannot
 * be another one at the same address; and the ring has a grace period of its own.
 */
static void view_put(struct codewp_view *view)
{
	if (view->queue)
		codewp_queue_put(view->queue);
	mmdrop(view->mm);
}

static void view_free(struct codewp_view *view)
{
	codewp_state_exit(view);
	free_percpu(view->stats);
	kfree(view);
}

static void view_free_rcu(struct rcu_head *rcu)
{
	view_free(container_of(rcu, struct codewp_view, rcu));
}

static int view_release(struct inode *inode, struct file *file)
{
	struct codewp_view *view = file->private_data;

	codewp_guest_view(view, false);
	trace_codewp_view(view->nr << PAGE_SHIFT, view->id, false);
	codewp_mem_detach(view);
	mapping_unmap_writable(view->memfd->f_mapping);
	fput(view->memfd);
	codewp_user_uncharge(view->user);
	view_put(view);
	call_rcu(&view->rcu, view_free_rcu);
	return 0;
}

/**
 * codewp_view_range() - check a range of bytes
 * @view: view
 * @offset: first byte
 * @length: bytes
 *
 * Return: 0; -EINVAL: unaligned or empty; -EOVERFLOW: the end does not fit in 64
 * bits; -ERANGE: beyond the view.
 */
int codewp_view_range(const struct codewp_view *view, u64 offset, u64 length)
{
	u64 end;

	if (!PAGE_ALIGNED(offset) || !PAGE_ALIGNED(length) || !length)
		return -EINVAL;
	if (check_add_overflow(offset, length, &end))
		return -EOVERFLOW;
	if (end > (u64)view->nr << PAGE_SHIFT)
		return -ERANGE;
	return 0;
}

/* Is this a file whose pages can be watched, and may the caller write them? */
static int memfd_check(struct file *memfd)
{
	struct inode *inode = file_inode(memfd);

	if (!S_ISREG(inode->i_mode) || !shmem_mapping(inode->i_mapping))
		return -EOPNOTSUPP;
	if ((memfd->f_mode & (FMODE_READ | FMODE_WRITE)) !=
	    (FMODE_READ | FMODE_WRITE) || IS_APPEND(inode))
		return -EACCES;
	/* shmem's mmap checks this one again, for every writable mapping. */
	if (SHMEM_I(inode)->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	return 0;
}

/**
 * codewp_view_queue() - the ring of a view, for the caller to share
 * @fd: of the view
 *
 * Return: the ring, with a reference; ERR_PTR: -EBADF; -EINVAL: not a view;
 * -EPERM: another process's.
 */
struct codewp_queue *codewp_view_queue(int fd)
{
	struct codewp_queue *queue;
	struct codewp_view *view;
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	view = file->f_op == &view_fops ? file->private_data :
					  codewp_dev_view(file);
	if (!view)
		queue = ERR_PTR(-EINVAL);
	else if (!codewp_view_mine(view))
		queue = ERR_PTR(-EPERM);
	else
		queue = codewp_queue_get(view->queue);
	fput(file);
	return queue;
}

static int view_check(const struct codewp_view_create *c)
{
	u64 end;

	if (c->flags & ~CODEWP_VIEW_PRIVATE || c->clients & ~CODEWP_CLIENT_ALL)
		return -EINVAL;
	if (!PAGE_ALIGNED(c->offset) || !PAGE_ALIGNED(c->length) || !c->length)
		return -EINVAL;
	if (c->ring_fd < -1 || (c->ring_fd >= 0 && c->ring_bytes))
		return -EINVAL;
	if (check_add_overflow(c->offset, c->length, &end) || end > LLONG_MAX)
		return -EOVERFLOW;
	if (c->length > READ_ONCE(codewp_max_view_bytes))
		return -EFBIG;
	return 0;
}

/**
 * codewp_view_make() - a view of a shmem file
 * @c: what user space asked for, but for memfd and reserved
 * @memfd: the file; its reference goes over to the view, also on an error
 * @anon: the module made it
 *
 * Return: the view; fput() of its file ends it. Or an ERR_PTR.
 */
struct codewp_view *codewp_view_make(const struct codewp_view_create *c,
				     struct file *memfd, bool anon)
{
	struct codewp_view *view;
	int err;

	view = kzalloc(sizeof(*view), GFP_KERNEL_ACCOUNT);
	if (!view) {
		fput(memfd);
		return ERR_PTR(-ENOMEM);
	}
	mutex_init(&view->lock);
	view->mm = current->mm;
	mmgrab(view->mm);
	view->first = c->offset >> PAGE_SHIFT;
	view->nr = c->length >> PAGE_SHIFT;
	view->flags = c->flags;
	view->cookie = c->cookie;
	view->clients = codewp_client_bits(c->clients);
	view->anon = anon;
	view->memfd = memfd;
	err = memfd_check(memfd);
	if (err)
		goto err_free;
	/*
	 * The view counts as a writable shared mapping: F_SEAL_WRITE is refused
	 * (EBUSY) while it lives. shmem's mmap looks at the seal before the new
	 * VMA is counted, so without this one could slip in between.
	 */
	err = mapping_map_writable(memfd->f_mapping);
	if (err)
		goto err_free;

	if (c->ring_fd >= 0)
		view->queue = codewp_view_queue(c->ring_fd);
	else
		view->queue = codewp_queue_create(c->ring_bytes, anon &&
						  !(c->flags & CODEWP_VIEW_PRIVATE));
	if (IS_ERR(view->queue)) {
		err = PTR_ERR(view->queue);
		view->queue = NULL;
		goto err_unmap;
	}
	err = -ENOMEM;
	view->stats = alloc_percpu_gfp(struct codewp_counters,
				       GFP_KERNEL_ACCOUNT);
	if (!view->stats)
		goto err_unmap;
	err = codewp_state_init(view);
	if (!err && view->clients)
		err = codewp_state_alloc_all(view);
	if (err)
		goto err_unmap;

	view->user = codewp_user_charge();
	if (IS_ERR(view->user)) {
		err = PTR_ERR(view->user);
		goto err_unmap;
	}
	err = codewp_mem_attach(view);
	if (err)
		goto err_user;
	view->id = atomic_inc_return(&last_id);
	view->file = codewp_getfile("[codewp-view]", &view_fops, view);
	if (IS_ERR(view->file)) {
		err = PTR_ERR(view->file);
		goto err_detach;
	}
	codewp_guest_view(view, true);
	trace_codewp_view(c->length, view->id, true);
	return view;

err_detach:
	codewp_mem_detach(view);
	synchronize_rcu();
err_user:
	codewp_user_uncharge(view->user);
err_unmap:
	mapping_unmap_writable(memfd->f_mapping);
err_free:
	fput(memfd);
	view_put(view);
	view_free(view);
	return ERR_PTR(err);
}

/**
 * codewp_view_create() - CODEWP_IOC_VIEW
 * @arg: user's struct codewp_view_create
 * @usize: its size
 *
 * Return: a new descriptor, or -errno as Documentation/uapi.rst lists.
 */
int codewp_view_create(struct codewp_view_create __user *arg, size_t usize)
{
	struct codewp_view_create c;
	struct codewp_view *view;
	struct file *memfd;
	int fd, err;

	err = codewp_get_arg(&c, sizeof(c), arg, usize);
	if (err)
		return err;
	if (memchr_inv(c.reserved, 0, sizeof(c.reserved)))
		return -EINVAL;
	err = view_check(&c);
	if (err)
		return err;
	memfd = fget(c.memfd);
	if (!memfd)
		return -EBADF;
	view = codewp_view_make(&c, memfd, false);
	if (IS_ERR(view))
		return PTR_ERR(view);

	/* From here on, fput() undoes it all. */
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		fput(view->file);
		return fd;
	}
	if (put_user(view->id, &arg->id)) {
		put_unused_fd(fd);
		fput(view->file);
		return -EFAULT;
	}
	fd_install(fd, view->file);
	return fd;
}

/**
 * codewp_view_anon() - a view with memory of its own
 * @a: what user space asked for
 *
 * Return: as codewp_view_make().
 */
struct codewp_view *codewp_view_anon(const struct codewp_anon *a)
{
	struct codewp_view_create c = {
		.flags = a->flags,
		.length = a->length,
		.ring_fd = -1,
		.ring_bytes = a->ring_bytes,
		.clients = a->clients,
		.cookie = a->cookie,
	};
	struct file *memfd;
	int err;

	err = view_check(&c);
	if (err)
		return ERR_PTR(err);
	memfd = codewp_shmem_file("codewp", a->length);
	if (IS_ERR(memfd))
		return ERR_CAST(memfd);
	return codewp_view_make(&c, memfd, true);
}

static long ioctl_arm(struct codewp_view *view, struct codewp_arm __user *arg,
		      size_t usize, bool arm)
{
	struct codewp_arm a;
	long ret;

	ret = codewp_get_arg(&a, sizeof(a), arg, usize);
	if (ret)
		return ret;
	/* Two words: memchr_inv() would be 92 instructions of every arm. */
	if (a.reserved0 || a.reserved[0] || a.reserved[1])
		return -EINVAL;
	a.done = 0;
	a.foreign = 0;
	ret = arm ? codewp_arm(view, &a) : codewp_disarm(view, &a);
	if (put_user(a.done, &arg->done) || put_user(a.foreign, &arg->foreign))
		return -EFAULT;
	return ret;
}

static long ioctl_dirty(struct codewp_view *view, struct codewp_dirty __user *arg,
			size_t usize)
{
	struct codewp_dirty d;
	long ret;

	ret = codewp_get_arg(&d, sizeof(d), arg, usize);
	if (ret)
		return ret;
	if (memchr_inv(d.reserved, 0, sizeof(d.reserved)))
		return -EINVAL;
	d.done = 0;
	d.count = 0;
	ret = codewp_dirty(view, &d);
	if (put_user(d.done, &arg->done) || put_user(d.count, &arg->count))
		return -EFAULT;
	return ret;
}

static long ioctl_clients(struct codewp_view *view,
			  struct codewp_clients __user *arg, size_t usize)
{
	struct codewp_clients c;
	long ret;

	ret = codewp_get_arg(&c, sizeof(c), arg, usize);
	if (ret)
		return ret;
	if (c.reserved0 || c.clients & ~CODEWP_CLIENT_ALL)
		return -EINVAL;
	return codewp_clients(view, c.clients);
}

static long ioctl_eventfd(struct codewp_view *view,
			  struct codewp_eventfd __user *arg, size_t usize)
{
	struct codewp_eventfd e;
	long ret;

	ret = codewp_get_arg(&e, sizeof(e), arg, usize);
	if (ret)
		return ret;
	if (e.reserved0)
		return -EINVAL;
	return codewp_queue_eventfd(view->queue, e.fd);
}

static long ioctl_stat(struct codewp_view *view, struct codewp_stat __user *arg,
		       size_t usize)
{
	struct codewp_stat st;

	if (usize < sizeof(st))
		return -EINVAL;
	codewp_stat_sum(view, &st);
	/* Members that only a newer header has read as zero. */
	if (copy_to_user(arg, &st, sizeof(st)) ||
	    clear_user((void __user *)arg + sizeof(st), usize - sizeof(st)))
		return -EFAULT;
	return 0;
}

static long ioctl_view_info(struct codewp_view *view,
			    struct codewp_view_info __user *arg, size_t usize)
{
	struct codewp_view_info info = {
		.length = (u64)view->nr << PAGE_SHIFT,
		.cookie = view->cookie,
		.id = view->id,
		.flags = view->flags,
		.ring_bytes = codewp_queue_bytes(view->queue),
		.clients = codewp_bits_client(READ_ONCE(view->clients)),
	};

	if (usize < sizeof(info))
		return -EINVAL;
	/* Members that only a newer header has read as zero. */
	if (copy_to_user(arg, &info, sizeof(info)) ||
	    clear_user((void __user *)arg + sizeof(info), usize - sizeof(info)))
		return -EFAULT;
	return 0;
}

/* Inlined: the call would be paid by every arm. */
static __always_inline long do_ioctl(struct codewp_view *view, unsigned int cmd,
				     unsigned long argp)
{
	void __user *arg = (void __user *)argp;
	size_t usize = _IOC_SIZE(cmd);

	/* A private view is its creator's: a passed descriptor is no use. */
	if ((view->flags & CODEWP_VIEW_PRIVATE) && current->mm != view->mm)
		return -EPERM;

	switch (cmd & ~IOCSIZE_MASK) {
	case CODEWP_IOC_ARM & ~IOCSIZE_MASK:
		return ioctl_arm(view, arg, usize, true);
	case CODEWP_IOC_DISARM & ~IOCSIZE_MASK:
		return ioctl_arm(view, arg, usize, false);
	case CODEWP_IOC_DIRTY & ~IOCSIZE_MASK:
		return ioctl_dirty(view, arg, usize);
	case CODEWP_IOC_CLIENTS & ~IOCSIZE_MASK:
		return ioctl_clients(view, arg, usize);
	case CODEWP_IOC_EVENTFD & ~IOCSIZE_MASK:
		return ioctl_eventfd(view, arg, usize);
	case CODEWP_IOC_STAT & ~IOCSIZE_MASK:
		return ioctl_stat(view, arg, usize);
	case CODEWP_IOC_VIEW_INFO & ~IOCSIZE_MASK:
		return ioctl_view_info(view, arg, usize);
	default:
		return -ENOIOCTLCMD;
	}
}

/**
 * codewp_view_ioctl() - the ioctls of a view
 * @view: view
 * @cmd: CODEWP_IOC_*
 * @argp: its argument
 *
 * Return: 0 or -errno as Documentation/uapi.rst lists.
 */
long codewp_view_ioctl(struct codewp_view *view, unsigned int cmd, unsigned long argp)
{
	return do_ioctl(view, cmd, argp);
}

static long view_ioctl(struct file *file, unsigned int cmd, unsigned long argp)
{
	return do_ioctl(file->private_data, cmd, argp);
}

static int view_mmap(struct file *file, struct vm_area_struct *vma)
{
	return codewp_view_mmap(file->private_data, vma);
}

static __poll_t view_poll(struct file *file, struct poll_table_struct *wait)
{
	struct codewp_view *view = file->private_data;

	return codewp_queue_poll(view->queue, file, wait);
}

static const struct file_operations view_fops = {
	.owner = THIS_MODULE,
	.release = view_release,
	.unlocked_ioctl = view_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = view_mmap,
	.poll = view_poll,
	.llseek = noop_llseek,
};
