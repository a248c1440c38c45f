// SPDX-License-Identifier: GPL-2.0
/*
 * Registration of threads.
 *
 * A registration belongs to one task with one mm: it matches neither a child of
 * fork, nor the task after exec, nor whoever gets the descriptor. The table is
 * read under RCU in the trap, and changed under threads_lock.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/rculist.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "codewp.h"
#include "compat.h"
#include "trace.h"

static DEFINE_SPINLOCK(threads_lock);
static DEFINE_HASHTABLE(threads, 8);

/**
 * codewp_thread_current() - current's registration
 *
 * Return: the registration, valid until rcu_read_unlock(), or NULL.
 */
struct codewp_thread *codewp_thread_current(void)
{
	struct codewp_thread *t;

	hash_for_each_possible_rcu(threads, t, node, (unsigned long)current)
		if (t->task == current)
			return t->mm == current->mm ? t : NULL;
	return NULL;
}

/* Not from an RCU callback: see view_put(). */
static void thread_put(struct codewp_thread *t)
{
	if (t->queue)
		codewp_queue_put(t->queue);
	mmdrop(t->mm);
}

static void thread_free(struct codewp_thread *t)
{
	free_page((unsigned long)t->area);
	put_task_struct(t->task);
	kfree(t);
}

static void thread_free_rcu(struct rcu_head *rcu)
{
	thread_free(container_of(rcu, struct codewp_thread, rcu));
}

/*
 * Enter the table. -EBUSY: the task is registered already, with this mm; a
 * registration from before exec does not count.
 */
static int thread_add(struct codewp_thread *t)
{
	struct codewp_thread *other;

	spin_lock(&threads_lock);
	hash_for_each_possible(threads, other, node, (unsigned long)t->task) {
		if (other->task == t->task && other->mm == t->mm) {
			spin_unlock(&threads_lock);
			return -EBUSY;
		}
	}
	hash_add_rcu(threads, &t->node, (unsigned long)t->task);
	spin_unlock(&threads_lock);
	return 0;
}

static void thread_del(struct codewp_thread *t)
{
	spin_lock(&threads_lock);
	hash_del_rcu(&t->node);
	spin_unlock(&threads_lock);
}

static int thread_release(struct inode *inode, struct file *file)
{
	struct codewp_thread *t = file->private_data;

	trace_codewp_thread(t->task->pid, t->task->tgid, false);
	if (t->queue)
		codewp_kick_remove(t);
	thread_del(t);
	thread_put(t);
	call_rcu(&t->rcu, thread_free_rcu);
	return 0;
}

static vm_fault_t area_fault(struct vm_fault *vmf)
{
	struct codewp_thread *t = vmf->vma->vm_private_data;
	struct page *page = virt_to_page(t->area);

	if (vmf->pgoff)
		return VM_FAULT_SIGBUS;
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct area_vm_ops = {
	.fault = area_fault,
};

static int thread_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct codewp_thread *t = file->private_data;

	if (current->mm != t->mm)
		return -EPERM;
	if (!(vma->vm_flags & VM_SHARED) || vma->vm_pgoff || vma_pages(vma) != 1)
		return -EINVAL;
	codewp_vm_flags_clear(vma, VM_EXEC | VM_MAYEXEC);
	codewp_vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_private_data = t;
	vma->vm_ops = &area_vm_ops;
	return 0;
}

static const struct file_operations thread_fops = {
	.owner = THIS_MODULE,
	.release = thread_release,
	.mmap = thread_mmap,
	.llseek = noop_llseek,
};

/* The handler must be code that the thread could have jumped to itself. */
static int handler_check(u64 handler)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int err = 0;

	if (handler >= TASK_SIZE_MAX)
		return -EFAULT;
	mmap_read_lock(mm);
	vma = find_vma(mm, handler);
	if (!vma || vma->vm_start > handler || !(vma->vm_flags & VM_EXEC))
		err = -EACCES;
	mmap_read_unlock(mm);
	return err;
}

static int thread_check(const struct codewp_thread_create *c)
{
	u32 how = c->flags & (CODEWP_THREAD_UPCALL | CODEWP_THREAD_SIGNAL);
	bool kick = c->flags & CODEWP_THREAD_KICK;

	if (c->flags & ~(CODEWP_THREAD_UPCALL | CODEWP_THREAD_SIGNAL |
			 CODEWP_THREAD_KICK) ||
	    memchr_inv(c->reserved, 0, sizeof(c->reserved)))
		return -EINVAL;
	if (!c->flags || how == (CODEWP_THREAD_UPCALL | CODEWP_THREAD_SIGNAL))
		return -EINVAL;
	if (kick ? c->ring_fd < 0 : c->ring_fd != -1)
		return -EINVAL;
	if (c->code_start >= c->code_end)
		return -EINVAL;
	if (c->code_end > TASK_SIZE_MAX || c->stack > TASK_SIZE_MAX)
		return -EFAULT;
	if (c->flags & (CODEWP_THREAD_UPCALL | CODEWP_THREAD_KICK))
		return handler_check(c->handler);
	return c->handler || c->stack || c->arg ? -EINVAL : 0;
}

/**
 * codewp_thread_create() - CODEWP_IOC_THREAD: register current
 * @arg: user's struct codewp_thread_create
 * @usize: its size
 *
 * Return: a new descriptor, or -errno as Documentation/uapi.rst lists.
 */
int codewp_thread_create(struct codewp_thread_create __user *arg, size_t usize)
{
	struct codewp_thread_create c;
	struct codewp_thread *t;
	int fd, err;

	BUILD_BUG_ON(sizeof(struct codewp_area) > PAGE_SIZE);

	err = codewp_get_arg(&c, sizeof(c), arg, usize);
	if (err)
		return err;
	err = thread_check(&c);
	if (err)
		return err;

	t = kzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);
	if (!t)
		return -ENOMEM;
	t->task = get_task_struct(current);
	t->mm = current->mm;
	mmgrab(t->mm);
	t->flags = c.flags;
	t->handler = c.handler;
	t->stack = c.stack;
	t->arg = c.arg;
	t->code_start = c.code_start;
	t->code_len = c.code_end - c.code_start;
	t->area = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!t->area) {
		err = -ENOMEM;
		goto err_free;
	}
	if (c.flags & CODEWP_THREAD_KICK) {
		t->queue = codewp_view_queue(c.ring_fd);
		if (IS_ERR(t->queue)) {
			err = PTR_ERR(t->queue);
			t->queue = NULL;
			goto err_free;
		}
	}
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		err = fd;
		goto err_free;
	}
	err = thread_add(t);
	if (err)
		goto err_fd;
	t->file = codewp_getfile("[codewp-thread]", &thread_fops, t);
	if (IS_ERR(t->file)) {
		err = PTR_ERR(t->file);
		goto err_del;
	}
	if (t->queue)
		codewp_kick_add(t);
	trace_codewp_thread(t->task->pid, t->task->tgid, true);
	fd_install(fd, t->file);
	return fd;

err_del:
	thread_del(t);
	synchronize_rcu();
err_fd:
	put_unused_fd(fd);
err_free:
	thread_put(t);
	thread_free(t);
	return err;
}
