/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * codewp - write faults on translated code, told to a binary translator.
 *
 * The contract of every call is Documentation/uapi.rst. All structures are
 * fixed width, have no holes, and may grow at their end: the kernel learns the
 * caller's size from the ioctl number, reads missing members as zero, and
 * refuses (E2BIG) members that it does not know unless they are zero. Every
 * reserved member and every unknown flag must be zero (EINVAL).
 */
#ifndef _UAPI_LINUX_CODEWP_H
#define _UAPI_LINUX_CODEWP_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define CODEWP_API_VERSION	1
#define CODEWP_IOC_MAGIC	0xC8

/* ---- /dev/codewp ------------------------------------------------------- */

/* codewp_info.features */
#define CODEWP_FEATURE_UPCALL		(1ULL << 0)
#define CODEWP_FEATURE_KICK		(1ULL << 1)
#define CODEWP_FEATURE_ANON		(1ULL << 2) /* CODEWP_IOC_ANON */
#define CODEWP_FEATURE_STOP		(1ULL << 3) /* now: codewp_kvm.ko is loaded */

/**
 * struct codewp_info - CODEWP_IOC_INFO: what this module is and allows
 * @version: CODEWP_API_VERSION of the module
 * @page_size: bytes per page, the unit of every range
 * @features: CODEWP_FEATURE_*
 * @max_view_bytes: largest length of one view
 * @max_ring_bytes: largest ring
 * @max_views: views that one user may have at a time
 * @views: views that the caller's user has now
 * @reserved0: zero
 * @reserved: zero
 */
struct codewp_info {
	__u32 version;
	__u32 page_size;
	__u64 features;
	__u64 max_view_bytes;
	__u32 max_ring_bytes;
	__u32 max_views;
	__u32 views;
	__u32 reserved0;
	__u64 reserved[3];
};

/* codewp_view_create.flags */
#define CODEWP_VIEW_PRIVATE	(1U << 0) /* only the creator's mm may map it */

/* dirty clients, a mask */
#define CODEWP_CLIENT_CODE	(1U << 0)
#define CODEWP_CLIENT_DISPLAY	(1U << 1)
#define CODEWP_CLIENT_MIGRATION	(1U << 2)
#define CODEWP_CLIENT_ALL	7U

/**
 * struct codewp_view_create - CODEWP_IOC_VIEW: make a view, returns its fd
 * @flags: CODEWP_VIEW_*
 * @memfd: a shmem file (memfd_create, /dev/shm) open for reading and writing
 * @offset: first byte of the view in @memfd; page aligned
 * @length: bytes; page aligned, not zero. May reach beyond the file's size.
 * @ring_fd: another view of the same creator whose ring this one shares, or -1
 * @ring_bytes: size of the ring's record area, a power of two, at least a
 *              page; 0 takes 64 KiB. Must be 0 with @ring_fd.
 * @clients: dirty clients enabled from the start
 * @id: out: the view's number in tracepoints and events
 * @cookie: given back in every event and upcall of this view
 * @reserved: zero
 */
struct codewp_view_create {
	__u32 flags;
	__s32 memfd;
	__u64 offset;
	__u64 length;
	__s32 ring_fd;
	__u32 ring_bytes;
	__u32 clients;
	__u32 id;
	__u64 cookie;
	__u64 reserved[3];
};

/**
 * struct codewp_anon - CODEWP_IOC_ANON: make this open file an anonymous view
 * @length: bytes; page aligned, not zero
 * @flags: CODEWP_VIEW_*
 * @clients: dirty clients enabled from the start
 * @ring_bytes: as in struct codewp_view_create
 * @id: out: the view's number
 * @cookie: given back in every event of this view
 * @reserved: zero
 *
 * The module makes the memory. From then on the descriptor of /dev/codewp answers
 * a view's ioctls and maps what a view maps; whoever holds it may use all of that.
 * mmap of a descriptor that has no view yet does the same, with defaults, and
 * the view ends where that mapping does.
 */
struct codewp_anon {
	__u64 length;
	__u32 flags;
	__u32 clients;
	__u32 ring_bytes;
	__u32 id;
	__u64 cookie;
	__u64 reserved[3];
};

/* codewp_thread_create.flags: exactly one of UPCALL and SIGNAL, or neither */
#define CODEWP_THREAD_UPCALL	(1U << 0) /* traps resume the thread in handler */
#define CODEWP_THREAD_SIGNAL	(1U << 1) /* traps raise SIGSEGV, SEGV_ACCERR */
#define CODEWP_THREAD_KICK	(1U << 2) /* others' events interrupt the cache */

/**
 * struct codewp_thread_create - CODEWP_IOC_THREAD: register the calling thread
 * @flags: CODEWP_THREAD_*
 * @ring_fd: with KICK: a view; an event that another task puts into its ring
 *           makes this thread take an upcall with reason KICK. -1 without.
 * @handler: user address where an upcall resumes
 * @stack: value of the stack pointer in the handler; 0 leaves it as it was,
 *         and then the handler must respect the 128 byte red zone
 * @arg: value of %rdi in the handler
 * @code_start: with @code_end the code cache: only a user-mode fault of an
 *              instruction in [@code_start, @code_end) is an upcall or signal
 * @code_end: first address behind the code cache
 * @reserved: zero
 *
 * Returns the descriptor of the registration. mmap of one page of it gives struct
 * codewp_area. The registration ends when both are gone: the last descriptor
 * closed and the area unmapped.
 */
struct codewp_thread_create {
	__u32 flags;
	__s32 ring_fd;
	__u64 handler;
	__u64 stack;
	__u64 arg;
	__u64 code_start;
	__u64 code_end;
	__u64 reserved[3];
};

#define CODEWP_IOC_INFO		_IOWR(CODEWP_IOC_MAGIC, 0x00, struct codewp_info)
#define CODEWP_IOC_VIEW		_IOWR(CODEWP_IOC_MAGIC, 0x01, struct codewp_view_create)
#define CODEWP_IOC_THREAD	_IOW(CODEWP_IOC_MAGIC, 0x02, struct codewp_thread_create)
#define CODEWP_IOC_ANON		_IOWR(CODEWP_IOC_MAGIC, 0x03, struct codewp_anon)

/* ---- a view ------------------------------------------------------------ */

/* codewp_arm.flags: how a trap on these pages is told */
#define CODEWP_ARM_OPEN		0U	  /* the write goes through, page disarmed */
#define CODEWP_ARM_KEEP		(1U << 0) /* an upcall leaves the page armed */
#define CODEWP_ARM_HOLD		(1U << 1) /* the same in any view; disarm to go on */
#define CODEWP_ARM_STOP		(1U << 2) /* a KVM guest's store fails KVM_RUN; else OPEN */

/**
 * struct codewp_arm - CODEWP_IOC_ARM, CODEWP_IOC_DISARM
 * @offset: first byte in the view; page aligned
 * @length: bytes; page aligned
 * @flags: CODEWP_ARM_*; 0 for DISARM
 * @reserved0: zero
 * @done: out, also on error: bytes from @offset that were done
 * @foreign: out: pages that somebody outside the page tables holds (pinned for
 *           I/O): writes through such a reference are never seen
 * @reserved: zero
 */
struct codewp_arm {
	__u64 offset;
	__u64 length;
	__u32 flags;
	__u32 reserved0;
	__u64 done;
	__u64 foreign;
	__u64 reserved[2];
};

/* codewp_dirty.flags */
#define CODEWP_DIRTY_CLEAR	(1U << 0) /* get and clear; without: only look */

/**
 * struct codewp_dirty - CODEWP_IOC_DIRTY: harvest one client's dirty pages
 * @offset: first byte in the view; page aligned
 * @length: bytes; page aligned
 * @bitmap: user address of one bit per page, bit 0 is @offset; 64-bit words
 * @client: exactly one CODEWP_CLIENT_*
 * @flags: CODEWP_DIRTY_*
 * @done: out, also on error: bytes from @offset that were harvested
 * @count: out: dirty pages found
 * @reserved: zero
 */
struct codewp_dirty {
	__u64 offset;
	__u64 length;
	__u64 bitmap;
	__u32 client;
	__u32 flags;
	__u64 done;
	__u64 count;
	__u64 reserved[2];
};

/**
 * struct codewp_clients - CODEWP_IOC_CLIENTS: which dirty clients count
 * @clients: CODEWP_CLIENT_* enabled from now on; those newly enabled start clean
 * @reserved0: zero
 */
struct codewp_clients {
	__u32 clients;
	__u32 reserved0;
};

/**
 * struct codewp_eventfd - CODEWP_IOC_EVENTFD
 * @fd: an eventfd signalled when the ring gets an event; -1 takes it away
 * @reserved0: zero
 */
struct codewp_eventfd {
	__s32 fd;
	__u32 reserved0;
};

/**
 * struct codewp_stat - CODEWP_IOC_STAT: counters since the view was made
 * @traps: writes to armed pages; the sum of upcalls, signals and events
 * @upcalls: told by upcall
 * @signals: told by SIGSEGV
 * @events: told by the ring, dropped ones included
 * @shared: of @traps, writes through another view of the same pages
 * @dropped: events that the ring had no room for
 * @kernel_writes: of @events, those made by the kernel for somebody
 * @arms: pages armed
 * @disarms: pages disarmed by the ioctl
 * @armed: pages armed now
 * @foreign: pages found with foreign references when armed
 * @faults: every call of page_mkwrite, also for pages that were not armed
 * @state_bytes: kernel memory that holds the per-page state now
 * @recreated: of @events, armed pages that were found truncated or punched out
 *             of the file and made anew, not written
 * @guest_writes: of @events, stores of KVM guests
 * @stops: of @guest_writes, stores that were stopped before they were done
 */
struct codewp_stat {
	__u64 traps;
	__u64 upcalls;
	__u64 signals;
	__u64 events;
	__u64 shared;
	__u64 dropped;
	__u64 kernel_writes;
	__u64 arms;
	__u64 disarms;
	__u64 armed;
	__u64 foreign;
	__u64 faults;
	__u64 state_bytes;
	__u64 recreated;
	__u64 guest_writes;
	__u64 stops;
};

/**
 * struct codewp_view_info - CODEWP_IOC_VIEW_INFO: what this view is
 * @length: bytes
 * @cookie: its creator's
 * @id: number
 * @flags: CODEWP_VIEW_*
 * @ring_bytes: size of the ring's record area
 * @clients: enabled dirty clients
 * @reserved: zero
 */
struct codewp_view_info {
	__u64 length;
	__u64 cookie;
	__u32 id;
	__u32 flags;
	__u32 ring_bytes;
	__u32 clients;
	__u64 reserved[4];
};

#define CODEWP_IOC_ARM		_IOWR(CODEWP_IOC_MAGIC, 0x10, struct codewp_arm)
#define CODEWP_IOC_DISARM	_IOWR(CODEWP_IOC_MAGIC, 0x11, struct codewp_arm)
#define CODEWP_IOC_DIRTY	_IOWR(CODEWP_IOC_MAGIC, 0x12, struct codewp_dirty)
#define CODEWP_IOC_CLIENTS	_IOW(CODEWP_IOC_MAGIC, 0x13, struct codewp_clients)
#define CODEWP_IOC_EVENTFD	_IOW(CODEWP_IOC_MAGIC, 0x14, struct codewp_eventfd)
#define CODEWP_IOC_STAT		_IOR(CODEWP_IOC_MAGIC, 0x15, struct codewp_stat)
#define CODEWP_IOC_VIEW_INFO	_IOR(CODEWP_IOC_MAGIC, 0x16, struct codewp_view_info)

/*
 * mmap offsets of a view: the pages, the ring, the page states, and the pages
 * once more, without traps. RING and STATE of a view of a memfd are its
 * creator's mm's only; of an anonymous view they are the descriptor's holder's.
 */
#define CODEWP_MMAP_DATA	0ULL
#define CODEWP_MMAP_RING	(1ULL << 60)
#define CODEWP_MMAP_STATE	(1ULL << 61)	/* read only */
#define CODEWP_MMAP_ALIAS	(1ULL << 62)	/* anonymous views only */

/*
 * Page state: one __u32 per page of the view, mapped read only. The generation
 * goes up with every trap, disarm and truncation, so that a translator that
 * read it before the page's first byte and finds it unchanged when it publishes
 * has read no byte that was written since.
 */
#define CODEWP_PAGE_ARMED	(1U << 0)
#define CODEWP_PAGE_KEEP	(1U << 1)
#define CODEWP_PAGE_WRITTEN	(1U << 2) /* dirty for CODE: trapped, not armed since */
#define CODEWP_PAGE_DISPLAY	(1U << 3)
#define CODEWP_PAGE_MIGRATION	(1U << 4)
#define CODEWP_PAGE_FOREIGN	(1U << 5)
#define CODEWP_PAGE_STOP	(1U << 6)
#define CODEWP_PAGE_GEN_SHIFT	8
#define CODEWP_PAGE_GEN(s)	((s) >> CODEWP_PAGE_GEN_SHIFT)

/* codewp_event.flags */
#define CODEWP_EVENT_KERNEL	(1U << 0) /* the kernel wrote for that task */
#define CODEWP_EVENT_SELF	(1U << 1) /* the writer has the ring owner's mm */
#define CODEWP_EVENT_NESTED	(1U << 2) /* the writer was in its handler */
#define CODEWP_EVENT_RECREATED	(1U << 3) /* truncated or punched, now zeroes */
#define CODEWP_EVENT_GUEST	(1U << 4) /* a KVM guest's own access; see vcpu */
#define CODEWP_EVENT_STOP	(1U << 5) /* GUEST: not done, KVM_RUN fails (EFAULT) */

/**
 * struct codewp_event - one trap in the ring, 64 bytes
 * @seq: its number + 1, written last (store-release): the record is whole when
 *       it equals the reader's tail + 1
 * @cookie: of the view
 * @offset: byte in the view
 * @addr: user address of the write; 0 unless SELF, and in an anonymous view's
 *        ring, which others may read, unless it is PRIVATE
 * @ip: user instruction pointer; likewise
 * @view: number of the view
 * @flags: CODEWP_EVENT_*
 * @tid: the writer's thread, in the ring owner's pid namespace; 0 if unknown
 * @gen: the page's generation after this trap
 * @vcpu: GUEST: the number that its KVM_CREATE_VCPU was given
 * @reserved: zero
 */
struct codewp_event {
	__u64 seq;
	__u64 cookie;
	__u64 offset;
	__u64 addr;
	__u64 ip;
	__u32 view;
	__u32 flags;
	__u32 tid;
	__u32 gen;
	__u32 vcpu;
	__u32 reserved;
};

/**
 * struct codewp_ring - first page of the ring's mapping; records follow at
 *                      CODEWP_RING_DATA
 * @head: records ever published (kernel writes, store-release)
 * @dropped: records ever dropped for want of room (kernel writes)
 * @nr: records that the ring holds, a power of two
 * @overflow: set by the kernel when it drops a record; the reader clears it
 *            *before* it scans the page states (WRITTEN bits)
 * @reserved0: keeps the kernel's cache line apart from the reader's
 * @tail: records consumed (reader writes, store-release)
 * @reserved1: room
 */
struct codewp_ring {
	__u64 head;
	__u64 dropped;
	__u32 nr;
	__u32 overflow;
	__u64 reserved0[5];
	__u64 tail;
	__u64 reserved1[7];
};

#define CODEWP_RING_DATA	4096

/* ---- a registered thread ----------------------------------------------- */

/* codewp_area.reason */
#define CODEWP_REASON_TRAP	1
#define CODEWP_REASON_KICK	2

/**
 * struct codewp_area - what the kernel and the handler tell each other
 * @busy: the kernel sets it when it redirects; the handler clears it with its
 *        last instruction but one. While it is set, traps go to the ring.
 * @reason: CODEWP_REASON_*
 * @ip: where the thread was; the store has not been executed
 * @sp: its stack pointer
 * @flags: its flags register. TF is kept, the handler runs with TF clear.
 * @di: its %rdi
 * @addr: TRAP: user address of the write
 * @offset: TRAP: byte in the view
 * @cookie: TRAP: of the view
 * @view: TRAP: number of the view
 * @state: TRAP: the page's state after this trap (armed: KEEP)
 * @kicks: kicks that found the thread in its handler, outside of its code range
 *         or in a system call; whoever enters the code range looks at it last
 * @reserved0: zero
 * @upcalls: redirections so far
 * @fallbacks: traps of this thread that could not be an upcall
 * @scratch: never touched by the kernel
 */
struct codewp_area {
	__u32 busy;
	__u32 reason;
	__u64 ip;
	__u64 sp;
	__u64 flags;
	__u64 di;
	__u64 addr;
	__u64 offset;
	__u64 cookie;
	__u32 view;
	__u32 state;
	__u32 kicks;
	__u32 reserved0;
	__u64 upcalls;
	__u64 fallbacks;
	__u64 scratch[16];	/* the handler's own */
};

#endif /* _UAPI_LINUX_CODEWP_H */
