/* SPDX-License-Identifier: GPL-2.0 */
/*
 * codewp: what the module's files share.
 *
 * Lock order, outermost first:
 *
 *	mmap_lock
 *	  folio lock
 *	    i_mmap_rwsem, page table locks (inside folio_mkclean)
 *	    rcu_read_lock
 *	      the sets' locks of codewp_kvm	leaf
 *	      codewp_queue.lock
 *	        sighand->siglock, wait queues, eventfd
 *
 *	codewp_view.lock		CLIENTS, chunk allocation outside of faults
 *	  folio lock
 *
 *	mmap_lock
 *	  codewp_dev.lock		an open file becomes a view
 *	    codewp_mems_lock, codewp_mem.lock	never together with a folio lock
 *
 *	guest_lock			leaf: no other lock under it
 *
 * The central invariant: a page-state word that has CODEWP_PAGE_ARMED while the
 * page's folio is locked means that no mapping of any view has a writable page
 * table entry for that page. ARMED is set under the folio lock and followed by
 * folio_mkclean() under the same lock; an entry becomes writable only by
 * page_mkwrite, which holds the lock from before it looks at the word until the
 * entry is written. ARMED may be *cleared* without the lock.
 */
#ifndef CODEWP_INTERNAL_H
#define CODEWP_INTERNAL_H

#include <linux/atomic.h>
#include <linux/file.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/ptrace.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/spinlock.h>
#include <linux/task_work.h>
#include <linux/uaccess.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/codewp.h>

#include "guest.h"

struct eventfd_ctx;
struct folio;

/* Page-state words of 4 MiB of a view fill one page. */
#define CODEWP_CHUNK_SHIFT	10
#define CODEWP_CHUNK_WORDS	BIT(CODEWP_CHUNK_SHIFT)

/* State bits of the dirty clients; CODE's is WRITTEN. */
#define CODEWP_PAGE_CLIENTS \
	(CODEWP_PAGE_WRITTEN | CODEWP_PAGE_DISPLAY | CODEWP_PAGE_MIGRATION)

/* State bits that say whether and how a page traps. */
#define CODEWP_PAGE_MODE \
	(CODEWP_PAGE_ARMED | CODEWP_PAGE_KEEP | CODEWP_PAGE_STOP)

/* How a trap was told: the tracepoint's "how", part of the trace format. */
enum codewp_how {
	CODEWP_HOW_UPCALL	= 1,
	CODEWP_HOW_SIGNAL	= 2,
	CODEWP_HOW_RING		= 3,	/* a user-mode store that could not be redirected */
	CODEWP_HOW_KERNEL	= 4,	/* the kernel wrote */
	CODEWP_HOW_RECREATED	= 5,	/* truncated or punched, and made anew */
	CODEWP_HOW_GUEST	= 6,	/* a KVM guest wrote */
	CODEWP_HOW_STOP		= 7,	/* a KVM guest was about to write: refused */
};

/**
 * struct codewp_user - one user's share of the limits
 * @node: in the table of limits.c
 * @uid: the user
 * @views: views now
 */
struct codewp_user {
	struct hlist_node node;
	kuid_t uid;
	unsigned int views;
};

/**
 * struct codewp_mem - one shmem inode that has views
 * @node: in the table of mem.c, by @inode
 * @inode: kept alive by the views' files
 * @users: views; guarded by codewp_mems_lock
 * @lock: guards changes of @views, overlaps, and the first setting of @vm_ops
 * @views: all views, read under RCU
 * @shmem_ops: shmem's own vm_ops, set once
 * @vm_ops: a copy of them with codewp's hooks
 */
struct codewp_mem {
	struct hlist_node node;
	struct inode *inode;
	unsigned int users;
	struct mutex lock;	/* see above */
	struct list_head views;
	const struct vm_operations_struct *shmem_ops;
	struct vm_operations_struct vm_ops;
};

/**
 * struct codewp_queue - a ring, shared by the views that were made with it
 * @ref: views and threads
 * @lock: guards the records, @head, @dropped, @eventfd and @threads
 * @head: records published: the kernel's own copy, which user space cannot touch
 * @dropped: records dropped, likewise
 * @nr: records it holds, a power of two
 * @nr_pages: pages, the header's included
 * @pages: their kernel addresses; [0] is struct codewp_ring
 * @open: whoever holds a view of it may use it, not only @mm
 * @mm: whose events: compared, never used
 * @pid: names the pid namespace in which events name threads
 * @eventfd: or NULL
 * @wait: pollers
 * @threads: those to be kicked; guarded by @lock
 * @rcu: frees it
 */
struct codewp_queue {
	refcount_t ref;
	spinlock_t lock;	/* see above */
	u64 head;
	u64 dropped;
	u32 nr;
	unsigned int nr_pages;
	void **pages;
	bool open;
	struct mm_struct *mm;
	struct pid *pid;
	struct eventfd_ctx *eventfd;
	wait_queue_head_t wait;
	struct list_head threads;
	struct rcu_head rcu;
};

/* Per-CPU counters of a view; @armed may be negative on one CPU. */
struct codewp_counters {
	u64 traps;
	u64 upcalls;
	u64 signals;
	u64 events;
	u64 shared;
	u64 dropped;
	u64 kernel_writes;
	u64 recreated;
	u64 guest_writes;
	u64 stops;
	u64 arms;
	u64 disarms;
	u64 armed;
	u64 foreign;
	u64 faults;
};

/**
 * struct codewp_view - a window on a shmem file whose pages can be armed
 * @mem: the file's views
 * @chunks: page-state words, one pointer per CODEWP_CHUNK_WORDS pages
 * @first: first page in the file
 * @nr: pages
 * @mm: the creator's: compared, never used
 * @stats: counters
 * @queue: ring
 * @cookie: the creator's
 * @id: number
 * @flags: CODEWP_VIEW_*
 * @clients: the CODEWP_PAGE_* bits of the enabled dirty clients
 * @anon: the module made the memory; the view is whoever's has its descriptor
 * @overlaps: other views that cover a page of this one; guarded by mem->lock
 * @link: in mem->views
 * @file: the view's own file, not counted
 * @memfd: the shmem file
 * @user: charged for it
 * @nr_chunks: allocated
 * @guest_owner: codewp_kvm.ko, once the view relies on it; see guest.c
 * @lock: guards changes of @clients
 * @rcu: frees it
 */
struct codewp_view {
	struct codewp_mem *mem;
	atomic_t **chunks;
	pgoff_t first;
	unsigned long nr;
	struct mm_struct *mm;
	struct codewp_counters __percpu *stats;
	struct codewp_queue *queue;
	u64 cookie;
	u32 id;
	u32 flags;
	u32 clients;
	bool anon;
	unsigned int overlaps;
	struct list_head link;
	struct file *file;
	struct file *memfd;
	struct codewp_user *user;
	atomic_long_t nr_chunks;
	struct module *guest_owner;
	struct mutex lock;	/* see above */
	struct rcu_head rcu;
};

/**
 * struct codewp_thread - a registered thread
 * @node: in the table of thread.c, by @task; read under RCU
 * @task: counted
 * @mm: the task's when it registered: compared, never used
 * @area: what kernel and handler share, one page
 * @flags: CODEWP_THREAD_*
 * @handler: resumes here
 * @stack: with this stack pointer, unless 0
 * @arg: and this in %rdi
 * @code_start: first byte of its code cache
 * @code_len: and its length
 * @queue: with KICK: the ring, else NULL
 * @link: in queue->threads
 * @kick: queued on @task while @kicked
 * @kicked: a kick is on its way
 * @file: the registration's own file, not counted, but by a kick on its way
 * @rcu: frees it
 */
struct codewp_thread {
	struct hlist_node node;
	struct task_struct *task;
	struct mm_struct *mm;
	struct codewp_area *area;
	u32 flags;
	u64 handler;
	u64 stack;
	u64 arg;
	u64 code_start;
	u64 code_len;
	struct codewp_queue *queue;
	struct list_head link;
	struct callback_head kick;
	unsigned long kicked;
	struct file *file;
	struct rcu_head rcu;
};

/**
 * struct codewp_trap - one write to an armed page, while it is being told
 * @addr: user address of the write, in @mm
 * @mm: the mapping's
 * @pgoff: page in the file
 * @regs: the user-mode registers at the store; NULL if the kernel writes
 * @thread: current's registration, or NULL
 * @told: an upcall or signal has been given to current already
 * @refuse: the write must not go through, the page stays armed: what page_mkwrite
 *          is to return. VM_FAULT_NOPAGE: current has been redirected;
 *          VM_FAULT_SIGBUS: KVM gets no page for its guest. 0: it goes through.
 * @through: the view whose mapping was written; NULL: no mapping was
 * @guest: whose store it is, if a guest's
 */
struct codewp_trap {
	unsigned long addr;
	struct mm_struct *mm;
	pgoff_t pgoff;
	struct pt_regs *regs;
	struct codewp_thread *thread;
	bool told;
	vm_fault_t refuse;
	struct codewp_view *through;
	struct codewp_guest guest;
};

/* inode.c */
int codewp_inode_init(void);
void codewp_inode_exit(void);
struct file *codewp_getfile(const char *name, const struct file_operations *fops,
			    void *priv);

/* limits.c */
extern unsigned int codewp_max_views;
extern unsigned int codewp_max_ring_bytes;
extern unsigned long codewp_max_view_bytes;
struct codewp_user *codewp_user_charge(void);
void codewp_user_uncharge(struct codewp_user *user);
unsigned int codewp_user_views(void);

/* mem.c */
int codewp_mem_attach(struct codewp_view *view);
void codewp_mem_detach(struct codewp_view *view);

/* view.c */
int codewp_view_create(struct codewp_view_create __user *arg, size_t usize);
struct codewp_view *codewp_view_make(const struct codewp_view_create *c,
				     struct file *memfd, bool anon);
struct codewp_view *codewp_view_anon(const struct codewp_anon *a);
long codewp_view_ioctl(struct codewp_view *view, unsigned int cmd,
		       unsigned long argp);
struct codewp_queue *codewp_view_queue(int fd);
int codewp_view_range(const struct codewp_view *view, u64 offset, u64 length);

/* map.c */
int codewp_view_mmap(struct codewp_view *view, struct vm_area_struct *vma);

/* dev.c */
extern const struct file_operations codewp_dev_fops;
struct codewp_view *codewp_dev_view(struct file *file);

/* guest.c */
bool codewp_guest_available(void);
void codewp_guest_view(struct codewp_view *view, bool comes);
int codewp_guest_hold(struct codewp_view *view);
bool codewp_guest_find(unsigned long addr, struct codewp_guest *guest);
void codewp_guest_tell(void);

/* state.c */
int codewp_state_init(struct codewp_view *view);
void codewp_state_exit(struct codewp_view *view);
int codewp_state_alloc(struct codewp_view *view, unsigned long idx);
int codewp_state_alloc_all(struct codewp_view *view);
int codewp_state_mmap(struct codewp_view *view, struct vm_area_struct *vma);

/* arm.c */
long codewp_arm(struct codewp_view *view, struct codewp_arm *arg);
long codewp_disarm(struct codewp_view *view, struct codewp_arm *arg);
int codewp_clean_folio(struct codewp_mem *mem, struct folio *folio,
		       const struct codewp_view *but, u32 but_bits);

/* trap.c */
vm_fault_t codewp_page_mkwrite(struct vm_fault *vmf);
void codewp_recreated(struct codewp_mem *mem, struct folio *folio);

/* upcall.c */
bool codewp_upcall_possible(const struct codewp_thread *t,
			    const struct pt_regs *regs);
void codewp_upcall(struct codewp_thread *t, struct pt_regs *regs, u32 reason);

/* signal.c */
bool codewp_signal_possible(void);
int codewp_signal(unsigned long addr);

/* kick.c */
void codewp_kick_add(struct codewp_thread *t);
void codewp_kick_remove(struct codewp_thread *t);
void codewp_kick(struct codewp_queue *queue);

/* thread.c */
int codewp_thread_create(struct codewp_thread_create __user *arg, size_t usize);
struct codewp_thread *codewp_thread_current(void);

/* ring.c */
struct codewp_queue *codewp_queue_create(u32 bytes, bool open);
u32 codewp_queue_bytes(const struct codewp_queue *queue);
struct codewp_queue *codewp_queue_get(struct codewp_queue *queue);
void codewp_queue_put(struct codewp_queue *queue);
bool codewp_queue_publish(struct codewp_queue *queue, struct codewp_event *ev,
			  u64 *dropped);
long codewp_queue_eventfd(struct codewp_queue *queue, int fd);
__poll_t codewp_queue_poll(struct codewp_queue *queue, struct file *file,
			   struct poll_table_struct *wait);
int codewp_queue_mmap(struct codewp_view *view, struct vm_area_struct *vma);

/* dirty.c */
long codewp_dirty(struct codewp_view *view, struct codewp_dirty *arg);
long codewp_clients(struct codewp_view *view, u32 clients);
u32 codewp_client_bits(u32 clients);
u32 codewp_bits_client(u32 bits);

/* stat.c */
void codewp_stat_sum(const struct codewp_view *view, struct codewp_stat *st);

/*
 * Take an ioctl's structure, of the size that user space knows: -EINVAL when it
 * is smaller than version 1, -E2BIG when it has what the kernel does not know.
 */
static inline int codewp_get_arg(void *dst, size_t size, const void __user *arg,
				 size_t usize)
{
	if (usize < size)
		return -EINVAL;
	return copy_struct_from_user(dst, size, arg, usize);
}

/* The page-state word of page @idx of the view, or NULL: not yet allocated. */
static inline atomic_t *codewp_state(const struct codewp_view *view,
				     unsigned long idx)
{
	/* Pairs with the cmpxchg in codewp_state_alloc(). */
	atomic_t *chunk = READ_ONCE(view->chunks[idx >> CODEWP_CHUNK_SHIFT]);

	return chunk ? chunk + (idx & (CODEWP_CHUNK_WORDS - 1)) : NULL;
}

/* The generation is at the top: an overflow falls off the end. */
static inline u32 codewp_state_next(u32 state)
{
	return state + (1U << CODEWP_PAGE_GEN_SHIFT);
}

/* May current use the view's ring and page states? */
static inline bool codewp_view_mine(const struct codewp_view *view)
{
	return current->mm == view->mm ||
	       (view->anon && !(view->flags & CODEWP_VIEW_PRIVATE));
}

static inline bool codewp_covers(const struct codewp_view *view, pgoff_t pgoff)
{
	return pgoff - view->first < view->nr;
}

#endif /* CODEWP_INTERNAL_H */
