/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * libcodewp - be told, before it matters, that translated code was written.
 *
 * One set of calls over three backends: the kernel module (kmod), userfaultfd
 * write protection with SIGBUS (uffd), and mprotect with SIGSEGV (mprotect).
 * Calls return 0 (or a descriptor, or a pointer) or a negative errno, and never
 * set errno. What a backend cannot do is in codewp_backend_info().
 */
#ifndef CODEWP_H
#define CODEWP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CODEWP_PAGE_SIZE 4096UL

/* Of this header; codewp_version() is that of the library that runs. */
#define CODEWP_VERSION_MAJOR	0
#define CODEWP_VERSION_MINOR	1
#define CODEWP_VERSION_PATCH	0
#define CODEWP_VERSION	((CODEWP_VERSION_MAJOR << 16) | \
			 (CODEWP_VERSION_MINOR << 8) | CODEWP_VERSION_PATCH)

struct codewp;		/* a context: one backend, one process */
struct codewp_view;	/* memory whose pages can be armed */
struct codewp_thread;	/* the registration of one thread */

enum codewp_backend {
	CODEWP_AUTO,		/* kmod, then uffd, then mprotect */
	CODEWP_KMOD,
	CODEWP_UFFD,
	CODEWP_MPROTECT,
};

/* What a backend can keep: codewp_backend_info.can */
#define CODEWP_CAN_UPCALL	  (1U << 0) /* a trap costs no signal frame */
#define CODEWP_CAN_KERNEL_WRITES  (1U << 1) /* a syscall may write armed pages */
#define CODEWP_CAN_ALIASES	  (1U << 2) /* every mapping traps, also other processes' */
#define CODEWP_CAN_NO_SPLIT	  (1U << 3) /* arming costs no mapping */
#define CODEWP_CAN_MPROTECT	  (1U << 4) /* arming survives the user's mprotect */
#define CODEWP_CAN_DIRTY	  (1U << 5) /* DISPLAY and MIGRATION clients */
#define CODEWP_CAN_RING		  (1U << 6) /* writes of unregistered threads are told */
#define CODEWP_CAN_KVM		  (1U << 7) /* views may be the memory of KVM guests */

struct codewp_backend_info {
	enum codewp_backend backend;
	const char *name;
	uint32_t can;
	const char *cannot;	/* one line per missing rule, with the reason */
};

/* Opts structures may grow: set sz, zero the rest. */
struct codewp_open_opts {
	size_t sz;
	enum codewp_backend backend;
	/*
	 * The caller owns the signal handlers (SIGSEGV, SIGBUS) and calls
	 * codewp_handle_signal() from them; otherwise the library installs its
	 * own and passes on what is not its.
	 */
	bool own_signals;
	/*
	 * All descriptors are moved to at least this number (0: wherever they
	 * come); they are always close-on-exec.
	 */
	int min_fd;
	/*
	 * No handler of an asynchronous signal calls the library or leaves by a
	 * jump, so that calls need not block signals.
	 */
	bool quiet_signals;
	size_t __last_field[0];
};

struct codewp_view_opts {
	size_t sz;
	bool private_view;	/* only this process maps it: KEEP is allowed */
	uint32_t clients;	/* dirty clients enabled from the start */
	uint32_t ring_bytes;	/* 0: 64 KiB */
	struct codewp_view *share_ring;	/* use that view's ring */
	uint64_t cookie;	/* handed back in traps and events */
	size_t __last_field[0];
};

/* ---- context ----------------------------------------------------------- */

int codewp_open(struct codewp **ctx, const struct codewp_open_opts *opts);
void codewp_close(struct codewp *ctx);

/*
 * After a fork without libc (a bare clone or clone3 without CLONE_VM): the child's
 * first call, for all contexts at once. fork() does this by itself.
 */
void codewp_fork_child(void);

const struct codewp_backend_info *codewp_backend_info(const struct codewp *ctx);

/*
 * Does this backend work here? 0, or -errno with a sentence in why (what is
 * missing and what to do about it). Changes nothing.
 */
int codewp_probe(enum codewp_backend backend, char *why, size_t size);
unsigned int codewp_version(void);		/* CODEWP_VERSION of the library */
int codewp_backend_parse(const char *name);	/* enum codewp_backend or -EINVAL */
const char *codewp_strerror(int err);		/* the library's words for -errno */

/* ---- views ------------------------------------------------------------- */

int codewp_view_create(struct codewp *ctx, struct codewp_view **view,
		       int memfd, uint64_t offset, uint64_t length,
		       const struct codewp_view_opts *opts);
void codewp_view_destroy(struct codewp_view *view);	/* mappings stay, unarmed */
uint64_t codewp_view_length(const struct codewp_view *view);

/*
 * kmod only, else -EOPNOTSUPP. A view whose memory the module makes: there is no
 * memfd, and its descriptor (codewp_view_fd()) is all that another process needs.
 * share_ring is refused (-EINVAL).
 */
int codewp_view_anon(struct codewp *ctx, struct codewp_view **view,
		     uint64_t length, const struct codewp_view_opts *opts);

/*
 * kmod only, else -EOPNOTSUPP. Take part in an anonymous view that somebody else
 * made, by a duplicate of its descriptor (pidfd_getfd(), SCM_RIGHTS, fork). Pages
 * that are armed stay so when the attached view is destroyed. The ring has one
 * reader: agree on who that is.
 */
int codewp_view_attach(struct codewp *ctx, struct codewp_view **view, int fd);

/*
 * Map [voff, voff + len) of the view at addr (NULL: anywhere; flags:
 * MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_NORESERVE, ...; MAP_SHARED is implied).
 * PROT_EXEC is refused. Unmapping, remapping and protecting such a mapping goes
 * through the three calls below, or (kmod) directly through the system calls.
 */
int codewp_map(struct codewp_view *view, void **addr, size_t len, uint64_t voff,
	       int prot, int flags);
int codewp_unmap(struct codewp *ctx, void *addr, size_t len);
int codewp_protect(struct codewp *ctx, void *addr, size_t len, int prot);
int codewp_remap(struct codewp *ctx, void **addr, size_t old_len,
		 size_t new_len, int flags, void *new_addr);

/* The alias: writing here never traps. Made by the first call. */
int codewp_alias(struct codewp_view *view, void **alias);

#define CODEWP_OPEN	0U	/* the write goes through, the page is disarmed */
#define CODEWP_KEEP	1U	/* a trap leaves the page armed (private views) */
/*
 * A trap that is told to its thread leaves the page armed and the store undone, in
 * any view: the handler drops its translations and then disarms, and the store,
 * executed again, goes through. For several threads: with OPEN another one could
 * write between the trap and the handler. Nothing may be written by the alias.
 */
#define CODEWP_HOLD	2U
/*
 * kmod only: KVM_RUN of a guest that stores to the page fails with EFAULT before
 * the store is done, and the page stays armed: disarm it, and KVM_RUN completes the
 * store. Whoever else writes is told as with OPEN. -EOPNOTSUPP while the module
 * codewp_kvm is not loaded.
 */
#define CODEWP_STOP	3U

struct codewp_arm_result {
	uint64_t done;		/* bytes done, also when an error is returned */
	uint64_t foreign;	/* pages held by I/O: check their content instead */
};

/* On return no CPU can write to the pages through the view without a trap. */
int codewp_arm(struct codewp_view *view, uint64_t voff, uint64_t len,
	       unsigned int mode, struct codewp_arm_result *res);
int codewp_disarm(struct codewp_view *view, uint64_t voff, uint64_t len);

/*
 * The page-state words (CODEWP_PAGE_* of linux/codewp.h), one per page of the
 * view. Read one with an acquire load; its generation is state >> 8.
 *
 * Bytes are known to be tracked when, in this order: the page was armed, its
 * state was read and said CODEWP_PAGE_ARMED (another thread may have written,
 * and so opened the page, before codewp_arm() returned to you), the bytes were
 * read, and the generation is still that of this state when they are used.
 * Reading the generation before codewp_arm() does as well.
 */
const uint32_t *codewp_page_states(struct codewp_view *view);

/* ---- traps ------------------------------------------------------------- */

/* Registers at the trapped store. Changing them changes the thread. */
struct codewp_regs {
	uint64_t r[16];		/* in encoding order: rax rcx rdx rbx rsp rbp rsi rdi r8.. */
	uint64_t rip;
	uint64_t rflags;
};

struct codewp_trap {
	struct codewp_view *view;	/* NULL for a kick */
	uint64_t cookie;
	uint64_t addr;		/* address of the write (its first byte on this page) */
	uint64_t voff;		/* the same byte in the view */
	uint32_t state;		/* page state after the trap */
	bool armed;		/* still armed: the store would trap again */
	struct codewp_regs *regs;
};

/*
 * Runs on the faulting thread before the store has happened. Return and the
 * thread continues with *trap->regs: unchanged, the store is executed again.
 * With kmod it runs in the upcall, else in the signal handler; either way only
 * async-signal-safe calls are allowed. Vector registers are preserved.
 */
typedef void (*codewp_trap_fn)(struct codewp_trap *trap, void *arg);

struct codewp_thread_opts {
	size_t sz;
	codewp_trap_fn fn;
	void *arg;
	uint64_t code_start, code_end;	/* the code cache; 0, 0: everywhere */
	/*
	 * kmod only: resume here instead of in fn, with area as the kernel left
	 * it (struct codewp_area in linux/codewp.h). For translators with their
	 * own entry code. raw_stack, raw_arg: as in codewp_thread_create.
	 */
	void *raw_handler;
	uint64_t raw_stack;
	uint64_t raw_arg;
	struct codewp_view *kick;	/* events in its ring interrupt the cache */
	bool signal;			/* kmod: be told by SIGSEGV instead */
	size_t __last_field[0];
};

int codewp_thread_register(struct codewp *ctx, struct codewp_thread **thread,
			   const struct codewp_thread_opts *opts);
void codewp_thread_unregister(struct codewp_thread *thread);
struct codewp_area;
struct codewp_area *codewp_thread_area(struct codewp_thread *thread); /* kmod, or NULL */

/*
 * For own_signals: true if the signal was a trap and has been dealt with
 * (uc_mcontext is what the callback left). info and ucontext as the handler
 * got them.
 */
bool codewp_handle_signal(struct codewp *ctx, int sig, void *info, void *ucontext);

/* ---- events ------------------------------------------------------------ */

struct codewp_event_info {
	uint64_t cookie;
	uint64_t voff;		/* byte written (with whole_page: start of the page) */
	uint64_t addr, ip;	/* 0 if not known */
	uint32_t tid;
	bool kernel;		/* written by a system call */
	bool whole_page;	/* after an overflow: only the page is known */
	bool guest;		/* written by a KVM guest: tid is the vCPU's thread */
	bool stopped;		/* guest: KVM_RUN failed instead, nothing is written */
	uint32_t vcpu;		/* guest: what KVM_CREATE_VCPU was given */
};

typedef void (*codewp_event_fn)(const struct codewp_event_info *ev, void *arg);

/*
 * Call fn for every event in the view's ring (and in those that share it);
 * after an overflow for every written page. One thread at a time per ring.
 * Returns the number of events, or -errno.
 */
int codewp_drain(struct codewp_view *view, codewp_event_fn fn, void *arg);

/* One load and one compare. Safe from any thread. */
bool codewp_pending(const struct codewp_view *view);
int codewp_event_fd(struct codewp_view *view);	/* poll this; or -errno */

/*
 * A system call is about to write / has written [voff, voff + len) of the view.
 * Nothing on kmod; on the others it opens the pages and reports them as events
 * with kernel set. codewp_kernel_write_addr does it for any user range.
 */
int codewp_kernel_write(struct codewp_view *view, uint64_t voff, uint64_t len);
int codewp_kernel_write_addr(struct codewp *ctx, const void *addr, size_t len);
/* 1: it would open a page. For threads: drop the page's translations before. */
int codewp_armed_addr(struct codewp *ctx, const void *addr, size_t len);

/* ---- dirty clients and counters ---------------------------------------- */

int codewp_clients(struct codewp_view *view, uint32_t clients);

/*
 * Get and clear one client's dirty pages of a range: bit i of bitmap is page i
 * of the range. Returns how many are dirty, or -errno.
 */
int64_t codewp_harvest(struct codewp_view *view, uint32_t client,
		       uint64_t voff, uint64_t len, uint64_t *bitmap);

struct codewp_stats {
	uint64_t traps, upcalls, signals, events, dropped, kernel_writes;
	uint64_t arms, disarms, armed, foreign;
};

int codewp_view_stats(struct codewp_view *view, struct codewp_stats *st);
int codewp_view_fd(struct codewp_view *view);	/* kmod: the view's fd; or -errno */
int codewp_view_memfd(struct codewp_view *view);	/* or -errno: it has none */

#ifdef __cplusplus
}
#endif
#endif /* CODEWP_H */
