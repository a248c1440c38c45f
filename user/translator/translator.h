/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the translator's files ask of each other.
 *
 * Two halves meet here. The *core* (decode, emit, block, cache, dispatch, smc,
 * enter.S) turns guest bytes into host code and keeps it true. The *runtime*
 * (main, loader, mem, syscall, fd, signal, log, stats) is the guest's kernel
 * and loader. Guest code runs with its own registers, flags, vector state, %fs
 * and stack; struct cpu is behind the real %gs.
 */
#ifndef CODEWP_TRANSLATOR_H
#define CODEWP_TRANSLATOR_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <codewp.h>
#include <codewp/codemap.h>

#include "cpu.h"

#define EXIT_UNSUPPORTED 70

/* ---- per thread: struct cpu, behind %gs (cpu.h has the asm offsets) ----- */

enum cpu_exit {		/* why guest code stopped */
	CPU_LOOKUP,	/* no TB for rip: translate or find it */
	CPU_SYSCALL,	/* syscall executed; rip is behind it */
	CPU_STOP,	/* a cut: drain the ring, look at pending signals */
	CPU_FAULT,	/* synchronous fault at rip: fault_sig, fault_code, fault_addr */
	CPU_EMULATE,	/* the instruction at rip is done in C; never seen outside */
	CPU_UNSUPPORTED,/* rip: cannot be translated; unsupported says why */
};

struct process;			/* runtime.h: what the threads of a guest share */
struct sighand;			/* signal.c: dispositions */

struct run_stats {
	uint64_t tbs, tb_bytes_guest, tb_bytes_host, insns;
	uint64_t chains, lookups, jc_misses, quick;
	uint64_t traps_upcall, traps_signal, events;	/* by kind */
	uint64_t keep_miss, keep_hit, same_value, opened;
	uint64_t invalidated, stale_inserts, check_failures;
	uint64_t syscalls, views, promoted_pages, arms, flushes;
	uint64_t hot_sites, stylized, restless, calm, versions;
};

/* Guest memory that a system call in flight may write (mem.c). */
#define KWRITES 8
struct kwrite {
	uint64_t start, end;
};

/*
 * One guest thread. The memory of a struct cpu is never given back, only used
 * again (thread.c), so that all_cpus can be walked without a lock: a cpu that is
 * not live has no epoch, no replay_page and no kwrites.
 */
struct cpu {
	/* Known to assembly by offset (cpu.h). */
	struct cpu *self;		/* %gs:0 */
	struct codewp_regs regs;	/* guest state while in C */
	uint64_t guest_fs;		/* guest's %fs base while in C */
	uint64_t guest_gs;		/* the guest's idea of %gs base, always here */
	uint64_t host_fs;		/* the runtime's %fs base */
	uint64_t host_rsp;		/* the runtime's stack while in the cache */
	uint64_t scratch[8];		/* the cache's spill slots */
	uint64_t alias;			/* replay: address on the alias */
	uint64_t replay_next;		/* replay: where to go on */
	volatile uint32_t stop;		/* set by anyone: leave the cache at the next cut */
	uint32_t near;			/* behind stop, so that it is one sum (core_near()) */
	void *xsave;			/* vector state while in C, 64 byte aligned */
	uint64_t xsave_mask;
	struct codewp_area *area;	/* kmod: the upcall's page; else an empty one */
	uint64_t target;		/* enter.S: host address it is about to go to */
	int32_t exit_desc;		/* enter.S: from core_exit to the exit; 0: indirect */
	uint32_t in_cache;		/* 1 while guest code runs */
	uint64_t resume_pc;		/* core_resume: guest address to go on at */
	uint64_t replay_page;		/* code-map page of the store in flight, or none */
	uint32_t heavy;			/* vector state and %fs are the runtime's */
	uint32_t fsgsbase;		/* rdfsbase and friends work */
	uint64_t gs_sel;		/* the guest's idea of the %gs selector */
	uint32_t kicks_seen;		/* of area->kicks: their events have been seen */

	struct codemap_jc jc;		/* jump cache: the table of struct cpu_room */

	/* Core's: why guest code stopped. */
	enum cpu_exit exit;
	int fault_sig, fault_code;
	uint64_t fault_addr;
	const char *unsupported;
	struct tb *last_tb;		/* LOOKUP: chain this one's slot to what is found */
	int last_slot;
	const struct tb_exit *emulate;	/* EMULATE: where it comes from */
	uint32_t stepping;		/* 1: a step of the guest's trap flag is to be run;
					 * 2: it has been
					 */
	uint64_t last_epoch;		/* cache epoch in which last_tb was good */
	uint64_t replay_gva;		/* its guest address; cpu->alias is its alias */
	uint32_t cut;			/* a cut is under way (dispatch.c) */
	uint32_t not_chained;		/* set_jump() refused because of one */
	uint64_t run_depth;		/* core_run() frames: must be 0 or 1 */
	uint64_t epoch;			/* of the cache while this thread may hold addresses
					 * of it (also in an upcall); 0: it holds none
					 */
	struct codewp_thread *thread;	/* registration with the library */

	/* The runtime's: threads and signals. */
	uint32_t live;			/* 0: free to be used again */
	int tid;
	struct process *proc;
	struct sighand *sighand;
	uint64_t sigmask;		/* the guest's */
	volatile uint32_t sig_queued;	/* sig_info holds one: the host has all blocked */
	volatile uint64_t sig_pending;	/* queued, to be delivered at the next cut: leave
					 * the cache. Of the signals that no instruction
					 * raises at most one (signal.c)
					 */
	uint64_t sig_held;		/* sent while the guest blocks them: the synchronous
					 * ones, which the host never blocks
					 */
	siginfo_t sig_info;		/* the asynchronous one's */
	siginfo_t sig_sync_info[5];	/* of synchronous ones that were sent */
	siginfo_t fault_info;		/* the host's, of the fault that fault_sig says */
	bool fault_raised;		/* fault_info and fault_rf are good */
	uint32_t fault_rf;
	bool sig_waiting;		/* in a call that has a mask of its own: sig_wait_mask */
	bool sig_wait_hit;		/* which a signal has interrupted */
	uint64_t sig_wait_mask;
	uint64_t sig_trapno, sig_err, sig_cr2;	/* of the last fault: every frame has them */
	stack_t sig_alt;		/* the guest's alternate stack */
	uint64_t retry_pc, retry_addr;	/* fault that was none: how often in a row */
	unsigned int retries;
	struct kwrite kwrite[KWRITES];
	volatile uint32_t kwrites;	/* how many; KWRITES + 1: anything */
	bool vfork;			/* the parent waits, and takes this back */
	void *exec_args;		/* exec.c: memory of a call under way */
	size_t exec_bytes;
	struct seccomp *seccomp;	/* the guest's filters of this thread, or NULL */
	char reason[96];		/* room for an unsupported text */

	/* From here on kept for the next thread (thread_alloc()). */
	struct cpu *next;		/* all_cpus: append only */
	struct cpu *free_next;		/* thread.c: while it is free */
	void *stack, *sigstack, *tls;	/* the runtime's memory for this thread */
	struct run_stats stats;
};

/* A thread's memory as enter.S and emitted code expect it. */
struct cpu_room {
	struct cpu cpu;
	_Alignas(CPU_JC_TABLE) void *jc[1 << JC_WIDE_BITS];	/* core_thread_init() maps it */
};

extern struct cpu *all_cpus;

/* The calling thread's, by %gs: good in upcalls and signal handlers. */
static inline struct cpu *this_cpu(void)
{
	return ((struct cpu __seg_gs *)0)->self;
}

/* Its counters. stats.c adds up those of all threads. */
#define st (((struct cpu __seg_gs *)0)->stats)

/* ---- the runtime's lock: lock.c ------------------------------------------- */

/*
 * One lock for everything of the runtime that threads share and that has no
 * lock of its own: the guest's memory map, views and brk; translation and the
 * code cache's allocator; libc's malloc and whatever else of libc has state;
 * descriptors' marks, log, statistics.
 *
 * Not recursive. Never held while guest code runs, nor in a system call that can
 * wait for somebody else. Order: rt_lock, then the locks of the code map, then
 * the library's. Upcalls and trap signals come out of the code cache only, so
 * their handlers may take it; an asynchronous signal handler may not. Usable
 * with the guest's %fs: no libc.
 */
void rt_lock(void);
bool rt_trylock(void);
void rt_unlock(void);
bool rt_lock_mine(void);		/* for assertions */
void rt_lock_reset(void);		/* child of fork: this thread holds it */
void rt_lock_of_gone(struct cpu *cpu);	/* its task has ended: it does not hold it any more */

/* ---- core ---------------------------------------------------------------- */

struct tb;			/* core.h */

struct core_opts {
	bool imprecise;		/* --smc=imprecise: the running block finishes first */
	size_t cache_bytes;
	size_t max_insns;	/* per TB; 1 for debugging */
	bool no_chain;		/* for debugging */
	bool no_quick;		/* the same: leave the guest's state for every block */
	bool no_hot;		/* and: a store beside code always traps (hot.c) */
	unsigned int hot_after;	/* traps of a store site until it is hot */
	bool no_stylized;	/* no immediate is loaded from where it is (stylized.c) */
	unsigned int stylized_after;	/* patches of an immediate until it is */
	bool no_restless;	/* code in a view never checks itself (restless.c) */
	unsigned int restless_after;	/* hits of a page's code until it does */
	bool no_versions;	/* code that changes back is translated again */
	bool no_near;		/* programs and libraries go where they go natively */
	bool no_superblocks;	/* every jump ends a block */
	bool no_fixed;		/* a pointer that cannot change is loaded each time */
	bool no_pdep;		/* the check at an indirect jump's target is a taken jump */
	bool no_wide;		/* the jump cache stays small */
	int image_fd;		/* of this program's file, to map from; 0: none */
	void *cache_base;	/* where the cache shall be: within 2 GiB of the
				 * runtime's text; NULL: the core looks for room
				 */
};

/*
 * core_cpu_init(): on the thread itself, before anything else: %gs, host_fs, a
 * place in all_cpus, live. core_thread_init(): what it needs to run guest code
 * (vector state, jump cache, registration for traps); with rt_lock held.
 * core_thread_exit() undoes both but for %gs and the memory of *cpu; with
 * rt_lock held, not in guest code.
 */
int core_init(const struct core_opts *opts);
/*
 * hot.c: what [start, end) is mapped to or its protection will change, or (all of
 * it) there will be another thread or a child with a copy. With rt_lock.
 */
void core_cool(uint64_t start, uint64_t end);
/* And: the guest may write [start, end), which begins with this page of a private view. */
void core_warm(uint64_t start, uint64_t end, uint64_t page);
int core_cpu_init(struct cpu *cpu);
int core_thread_init(struct cpu *cpu);
void core_thread_exit(struct cpu *cpu);

/*
 * In the child of fork(), on its only thread, with rt_lock held and the new
 * backend open (mem_fork_child() has run): the other threads' state is gone, no
 * lock of the code map or the cache is held by anybody, and no TB of a page that
 * was in a view is left. alone: the parent had one thread, so that the code map
 * is known to be whole, and TBs of other pages stay.
 */
void core_fork_child(struct cpu *cpu, bool alone);

/*
 * Run guest code from cpu->regs.rip until it stops for a reason that the
 * runtime must deal with: SYSCALL, FAULT, UNSUPPORTED, or STOP with
 * sig_pending. LOOKUP is dealt with inside.
 */
enum cpu_exit core_run(struct cpu *cpu);

/* Drop the TBs of guest-virtual [start, end): the runtime changed the mapping,
 * or wrote the bytes (a file mapping, a stack; never needed for view pages, whose
 * writes are trapped). Returns how many died.
 */
size_t core_invalidate_range(uint64_t start, uint64_t end);
/* The same by code-map page (mem_code.page), bytes [first, last]. */
size_t core_invalidate_page(uint64_t page, unsigned int first, unsigned int last);
/* On return no other thread is in a block that was dropped before (smc_retire()). */
void core_serialize(void);
/* What was stored into code that runs is to be stored once more (QEMU's processors). */
bool core_store_again(void);

/* Is this host address in the code cache? And what guest instruction is it?
 * core_guest_state() rewrites *regs from the host state at a fault to the guest
 * state before the exact instruction: rip and whatever the block had spilled.
 */
bool core_in_cache(uint64_t host_pc);
bool core_guest_state(struct cpu *cpu, struct codewp_regs *regs);
bool core_retired(struct cpu *cpu, struct codewp_regs *regs);
/*
 * The same for an alignment fault (the guest has set AC): did it come from a check, or
 * from an immediate that is loaded from the guest's memory? Not any more then.
 */
bool core_unaligned(struct cpu *cpu, struct codewp_regs *regs);

/*
 * For the master signal handler, whose first instructions store the guest's %fs
 * base in cpu->guest_fs whenever cpu->in_cache is set (and put it back when it
 * returns there).
 *
 * core_signal_exit(): regs is the guest state that core_guest_state() made.
 * Changes *regs so that returning from the signal makes core_run() return why
 * with that guest state in cpu->regs (for CPU_FAULT set cpu->fault_* first).
 * core_cut(): an asynchronous signal was queued (sig_pending, stop are set);
 * makes sure that the thread, interrupted at host_pc, soon leaves the cache.
 * core_fault_addr(): guest address of a fault's si_addr, which may be the
 * alias of the guest's bytes.
 */
void core_signal_exit(struct cpu *cpu, struct codewp_regs *regs, enum cpu_exit why);
void core_cut(struct cpu *cpu, uint64_t host_pc);
uint64_t core_fault_addr(struct cpu *cpu, uint64_t addr);

/* Drain every ring and every changed mapping: at each cut, after each system
 * call. One load and compare when nothing happened.
 */
void core_drain(struct cpu *cpu);

/* ---- runtime: memory ----------------------------------------------------- */

enum mem_class {
	MEM_NONE,	/* not mapped, or not executable for the guest */
	MEM_TEXT,	/* not writable for the guest: changes come by system call only */
	MEM_VIEW,	/* in a view: armed, writes trap */
	MEM_CHECKED,	/* writable and in no view: TBs compare their bytes at entry,
			 * and end after every instruction that writes memory
			 */
	MEM_RESTLESS,	/* in a view, not armed for this TB: the same (restless.c) */
};

/* One guest page as the core may read it. */
struct mem_code {
	enum mem_class class;
	uint64_t page;		/* code-map index: the same for all mappings of it */
	uint32_t gen;		/* its generation, read after the arm */
	int fault_code;		/* MEM_NONE: SEGV_MAPERR or SEGV_ACCERR */
	int fault_sig;		/* MEM_NONE: 0 is SIGSEGV; SIGBUS past a file's end */
};

/*
 * Before a byte of pc's page is read for translation of the TB that begins at pc, or of
 * one that reaches into the page that does: finds its class; moves a private
 * anonymous chunk into a view when code is first run from it; arms the page (KEEP
 * where possible) unless it is restless. 0 or -errno; an arm that failed is an error,
 * never a MEM_TEXT.
 */
int mem_code_page(uint64_t pc, struct mem_code *mc);
/*
 * The same where it takes no system call, since code was made from that memory
 * before: false if it was not, or if there is anything else to be done. Usable with
 * the guest's %fs and vector state.
 */
bool mem_code_quick(uint64_t pc, struct mem_code *mc);
/*
 * Data that a block depends on as on its source: true if only system calls can change
 * it, and it is TEXT from now on. Usable as mem_code_quick() is.
 */
bool mem_data_fixed(uint64_t gva, struct mem_code *mc);
uint32_t mem_page_gen(void *unused, uint64_t page);	/* codemap_ops.page_gen */

/*
 * Code-map page numbers, below 1 << MEM_PAGE_BITS: guest-virtual page numbers
 * for TEXT, CHECKED and RESTLESS, and above all of them each view's pages. A view's
 * cookie (in traps and events) is the number of its first page, so the page of
 * an event is mem_cookie_page(ev->cookie, ev->voff).
 */
#define MEM_PAGE_BITS	40
static inline uint64_t mem_cookie_page(uint64_t cookie, uint64_t voff)
{
	return cookie + (voff >> 12);
}

/*
 * Memory of the runtime's own (code cache, tables), in the runtime's reserved
 * region, which starts at RUNTIME_BASE and which the guest cannot map over.
 * prot may have PROT_EXEC. Never freed. NULL when there is none.
 */
#define RUNTIME_BASE	0x6a0000000000UL
#define RUNTIME_CACHE	(RUNTIME_BASE + 0x40000000UL)	/* within 2 GiB of the text */
#define RUNTIME_ARENA	(RUNTIME_BASE + 0x1000000000UL)
#define RUNTIME_END	(RUNTIME_BASE + 0x10000000000UL)
void *mem_runtime_map(size_t size, int prot);
/* Host address of the alias of guest bytes [gva, gva + len), all in one view
 * page; NULL if they are not in a view.
 */
void *mem_alias(uint64_t gva, size_t len);
/* The write at gva goes through natively: disarm all its mappings' page. */
int mem_open_page(uint64_t gva);
bool mem_private(uint64_t gva);		/* in a private view: KEEP is allowed */
/*
 * For the statistics: the number by which a page is known there. That of a restless TB
 * is its address's, but the view's traps are of the same page.
 */
uint64_t mem_shown_page(uint64_t page);
/* for the statistics: a guest address of a code-map page, or 0 */
uint64_t mem_page_gva(uint64_t page);
/*
 * The view whose ring all others share: for draining and for kicks. NULL before
 * the start; another one in the child of a fork.
 */
struct codewp_view *mem_base_view(void);
/*
 * A fault on guest memory out of the code cache: can the access be made now?
 * (Another thread was changing the mapping.) Takes rt_lock.
 */
enum mem_access {
	MEM_FAULTS,		/* no, by the guest's map */
	MEM_UNCLEAR,		/* by the map it can; the kernel does not say so */
	MEM_WORKS,		/* the page is there for it */
};
enum mem_access mem_fault_again(uint64_t addr, bool write);

/* Is anything mapped there for the guest? For si_code. Takes rt_lock. */
bool mem_mapped(uint64_t addr);

/*
 * Copies that fail instead of faulting. 0 or -EFAULT. guest_write() goes through
 * the mapping as the guest sees it, so it opens armed pages like a system call.
 */
int guest_read(void *dst, uint64_t gva, size_t len);
int guest_write(uint64_t gva, const void *src, size_t len);
long guest_strncpy(char *dst, uint64_t gva, size_t size);

extern struct codewp *the_ctx;		/* the backend */

/* ---- runtime: system calls, signals, life -------------------------------- */

/* regs.rax etc. as the guest left them; sets regs.rax; drains the ring. */
void sys_call(struct cpu *cpu);
/* deliver or end: called at cuts when sig_pending, and for FAULT */
void signal_deliver(struct cpu *cpu);
void signal_fault(struct cpu *cpu);


/* One clear line "codewp run: ..." on the original stderr, exit status 70. */
_Noreturn void unsupported(struct cpu *cpu, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Our own fault: guest PC, host PC, block; then abort. */
_Noreturn void fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- log, statistics ----------------------------------------------------- */

/* Per page, for --stats: the core calls it; stats.c owns the table. */
enum stat_kind { STAT_TRAP, STAT_INVALIDATED };
void stats_sum(struct run_stats *sum);
void stats_page(uint64_t page, enum stat_kind kind, uint64_t n);
/* --log: one line per translated block */
void log_tb(uint64_t pc, size_t guest_bytes, size_t insns, const void *host,
	    size_t host_bytes);
extern bool log_on;

#endif /* CODEWP_TRANSLATOR_H */
