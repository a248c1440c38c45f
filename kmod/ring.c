// SPDX-License-Identifier: GPL-2.0
/*
 * The ring: many writers on many CPUs in the kernel, one reader in user space.
 *
 * codewp_queue.lock serialises the writers and guards the eventfd and the list
 * of threads to kick. The mapping can be scribbled over by its owner, so the
 * kernel keeps head and dropped in memory of its own and believes only tail, of
 * which a wrong value costs the owner nothing but its own events.
 *
 * This file touches no page state and no user memory.
 */
#include <linux/eventfd.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "codewp.h"
#include "compat.h"

#define RING_DEFAULT_BYTES	(64U << 10)
#define EVENTS_PER_PAGE		(PAGE_SIZE / sizeof(struct codewp_event))

static void queue_free(struct codewp_queue *q)
{
	unsigned int i;

	for (i = 0; i < q->nr_pages; i++)
		free_page((unsigned long)q->pages[i]);
	kvfree(q->pages);
	if (q->eventfd)
		eventfd_ctx_put(q->eventfd);
	put_pid(q->pid);
	kfree(q);
}

static void queue_free_rcu(struct rcu_head *rcu)
{
	queue_free(container_of(rcu, struct codewp_queue, rcu));
}

/**
 * codewp_queue_create() - a ring for the calling process
 * @bytes: of its records, a power of two, at least a page; 0: the default
 * @open: other processes that hold its view may use it
 *
 * Return: the ring; ERR_PTR: -EINVAL for a bad size, -EFBIG for one above
 * max_ring_bytes, -ENOMEM.
 */
struct codewp_queue *codewp_queue_create(u32 bytes, bool open)
{
	struct codewp_ring *hdr;
	struct codewp_queue *q;

	BUILD_BUG_ON(sizeof(struct codewp_event) != 64);
	BUILD_BUG_ON(CODEWP_RING_DATA != PAGE_SIZE);

	if (!bytes)
		bytes = RING_DEFAULT_BYTES;
	if (bytes < PAGE_SIZE || !is_power_of_2(bytes))
		return ERR_PTR(-EINVAL);
	if (bytes > READ_ONCE(codewp_max_ring_bytes))
		return ERR_PTR(-EFBIG);

	q = kzalloc(sizeof(*q), GFP_KERNEL_ACCOUNT);
	if (!q)
		return ERR_PTR(-ENOMEM);
	refcount_set(&q->ref, 1);
	spin_lock_init(&q->lock);
	init_waitqueue_head(&q->wait);
	INIT_LIST_HEAD(&q->threads);
	q->open = open;
	q->mm = current->mm;
	mmgrab(q->mm);
	q->pid = get_pid(task_tgid(current));
	q->nr = bytes / sizeof(struct codewp_event);
	q->pages = kvcalloc(1 + bytes / PAGE_SIZE, sizeof(*q->pages),
			    GFP_KERNEL_ACCOUNT);
	if (!q->pages)
		goto err_free;
	while (q->nr_pages < 1 + bytes / PAGE_SIZE) {
		void *page = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);

		if (!page)
			goto err_free;
		q->pages[q->nr_pages++] = page;
	}
	hdr = q->pages[0];
	hdr->nr = q->nr;
	return q;

err_free:
	mmdrop(q->mm);
	queue_free(q);
	return ERR_PTR(-ENOMEM);
}

/**
 * codewp_queue_get() - share a ring
 * @q: ring that the caller has a reference to
 *
 * Return: @q.
 */
struct codewp_queue *codewp_queue_get(struct codewp_queue *q)
{
	refcount_inc(&q->ref);
	return q;
}

/**
 * codewp_queue_put() - drop a reference
 * @q: ring; writers that found it under RCU may still publish into it
 *
 * Not from RCU callbacks, because of the mm. Writers compare it with their own
 * only, which is alive and therefore another one.
 */
void codewp_queue_put(struct codewp_queue *q)
{
	if (!refcount_dec_and_test(&q->ref))
		return;
	mmdrop(q->mm);
	call_rcu(&q->rcu, queue_free_rcu);
}

/**
 * codewp_queue_publish() - put an event into the ring and wake whoever waits
 * @q: ring; @q->lock is taken
 * @ev: everything but seq and tid
 * @dropped: out: how many were dropped so far, when this one was
 *
 * The page's state word has been changed before: a reader who finds the
 * overflow flag set scans the words and misses nothing.
 *
 * Return: false if the ring was full, and the event has been dropped.
 */
bool codewp_queue_publish(struct codewp_queue *q, struct codewp_event *ev,
			  u64 *dropped)
{
	struct codewp_ring *hdr = q->pages[0];
	struct codewp_event *rec;
	bool room;
	u64 i;

	ev->tid = current->flags & PF_KTHREAD ? 0 :
		  pid_nr_ns(task_pid(current), ns_of_pid(q->pid));

	spin_lock(&q->lock);
	/*
	 * Pairs with the reader's store-release of tail: it has read the record
	 * that we are about to overwrite.
	 */
	room = q->head - smp_load_acquire(&hdr->tail) < q->nr;
	if (room) {
		i = q->head & (q->nr - 1);
		rec = q->pages[1 + i / EVENTS_PER_PAGE];
		rec += i % EVENTS_PER_PAGE;
		rec->cookie = ev->cookie;
		rec->offset = ev->offset;
		rec->addr = ev->addr;
		rec->ip = ev->ip;
		rec->view = ev->view;
		rec->flags = ev->flags;
		rec->tid = ev->tid;
		rec->gen = ev->gen;
		rec->vcpu = ev->vcpu;
		q->head++;
		/* Pairs with the reader's load-acquire of seq. */
		smp_store_release(&rec->seq, q->head);
		/* Pairs with the reader's load-acquire of head. */
		smp_store_release(&hdr->head, q->head);
	} else {
		*dropped = ++q->dropped;
		WRITE_ONCE(hdr->dropped, q->dropped);
		/*
		 * Pairs with the reader's full barrier between clearing the flag
		 * and reading the state words.
		 */
		smp_store_release(&hdr->overflow, 1);
	}
	if (q->eventfd)
		codewp_eventfd_signal(q->eventfd);
	codewp_kick(q);
	spin_unlock(&q->lock);

	/* Its barrier pairs with the one in poll_wait(). */
	if (wq_has_sleeper(&q->wait))
		wake_up_interruptible_poll(&q->wait, EPOLLIN | EPOLLRDNORM);
	return room;
}

/**
 * codewp_queue_eventfd() - signal an eventfd for each event
 * @q: ring
 * @fd: the eventfd, or -1 for none
 *
 * Return: 0; -EPERM for another process; -EBADF or -EINVAL for a bad @fd.
 */
long codewp_queue_eventfd(struct codewp_queue *q, int fd)
{
	struct eventfd_ctx *ctx = NULL;

	if (!q->open && current->mm != q->mm)
		return -EPERM;
	if (fd != -1) {
		ctx = eventfd_ctx_fdget(fd);
		if (IS_ERR(ctx))
			return PTR_ERR(ctx);
	}
	spin_lock(&q->lock);
	swap(q->eventfd, ctx);
	spin_unlock(&q->lock);
	if (ctx)
		eventfd_ctx_put(ctx);
	return 0;
}

/**
 * codewp_queue_poll() - readable when there is an event or an overflow
 * @q: ring
 * @file: polled
 * @wait: poll table
 *
 * Return: the poll mask; EPOLLERR for another process than the ring's.
 */
__poll_t codewp_queue_poll(struct codewp_queue *q, struct file *file,
			   struct poll_table_struct *wait)
{
	struct codewp_ring *hdr = q->pages[0];

	if (!q->open && current->mm != q->mm)
		return EPOLLERR;
	poll_wait(file, &q->wait, wait);
	if (READ_ONCE(q->head) != READ_ONCE(hdr->tail) ||
	    READ_ONCE(hdr->overflow))
		return EPOLLIN | EPOLLRDNORM;
	return 0;
}

/**
 * codewp_queue_bytes() - size of a ring
 * @q: ring
 *
 * Return: bytes of its records.
 */
u32 codewp_queue_bytes(const struct codewp_queue *q)
{
	return q->nr * sizeof(struct codewp_event);
}

static vm_fault_t ring_fault(struct vm_fault *vmf)
{
	struct codewp_view *view = vmf->vma->vm_private_data;
	unsigned long i = vmf->pgoff - (CODEWP_MMAP_RING >> PAGE_SHIFT);
	struct page *page;

	if (i >= view->queue->nr_pages)
		return VM_FAULT_SIGBUS;
	page = virt_to_page(view->queue->pages[i]);
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct ring_vm_ops = {
	.fault = ring_fault,
};

/**
 * codewp_queue_mmap() - map the ring of a view
 * @view: view; its file is the VMA's
 * @vma: at an offset from CODEWP_MMAP_RING on, shared
 *
 * Return: 0; -EPERM: not the creator's mm; -EINVAL: beyond the end.
 */
int codewp_queue_mmap(struct codewp_view *view, struct vm_area_struct *vma)
{
	unsigned long first = vma->vm_pgoff - (CODEWP_MMAP_RING >> PAGE_SHIFT);
	unsigned long nr = vma_pages(vma);

	if (!codewp_view_mine(view))
		return -EPERM;
	if (first >= view->queue->nr_pages ||
	    nr > view->queue->nr_pages - first)
		return -EINVAL;
	codewp_vm_flags_clear(vma, VM_EXEC | VM_MAYEXEC);
	codewp_vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_private_data = view;
	vma->vm_ops = &ring_vm_ops;
	return 0;
}
