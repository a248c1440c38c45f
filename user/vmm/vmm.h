/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A small virtual machine monitor: real mode and 64-bit long mode, port output,
 * several vCPUs, and a guest whose memory is a codewp view. It is a translator in
 * miniature: it decodes the guest's code into blocks as the guest runs, keeps them
 * in the code map by guest-physical page, arms those pages, and drops the blocks
 * that a write hits. Guest-physical address, offset in the RAM and offset in the view
 * are the same number.
 *
 * Two ways to use it. vmm_run() starts a thread for each vCPU, does all of the above,
 * and returns when the guest ends. Or the caller drives: vmm_vcpu_run() is one
 * KVM_RUN, and every exit is the caller's.
 *
 * Calls return 0 (or what they say) or a negative errno. A call on a vCPU is made by
 * one thread at a time; the thread that calls vmm_vcpu_run() is the one that
 * vmm_vcpu_kick() and vmm_hold() interrupt. Calls on a VM are made by any thread.
 */
#ifndef CODEWP_VMM_H
#define CODEWP_VMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/kvm.h>

#include <codewp.h>
#include <codewp-watch.h>

#define VMM_MAX_CPUS	16U
#define VMM_MAX_RAM	(3ULL << 30)	/* below the APIC's and KVM's own pages */

/* Where images go, and what is below. */
#define VMM_REAL_LOAD	0x1000UL	/* real mode: ip, with cs = ds = es = ss = 0 */
#define VMM_LONG_LOAD	0x100000UL	/* long mode: flat images */
#define VMM_GDT		0x500UL
#define VMM_PML4	0x2000UL	/* then a PDPT and four PDs of 2 MiB pages */
#define VMM_STACKS	0x80000UL	/* long mode: vCPU n's is VMM_STACK * n below */
#define VMM_STACK	0x2000UL

/*
 * Ports that mean something; reading others gives all ones. What is written to a port
 * goes to opts.out, except for the exit status.
 */
#define VMM_PORT_CONSOLE 0xe9		/* a byte for the output */
#define VMM_PORT_SERIAL	0x3f8		/* the same; it is always ready to send */
#define VMM_PORT_EXIT	0xf4		/* the guest ends with this status */

enum vmm_mem {
	VMM_MEM_ANON,	/* an anonymous view: the module makes the memory */
	VMM_MEM_MEMFD,	/* a view of a memfd */
	VMM_MEM_ATTACH,	/* opts.fd is the descriptor of an anonymous view */
	VMM_MEM_PLAIN,	/* no view: nothing can be armed */
};

enum vmm_follow {
	VMM_FOLLOW_NONE,	/* no blocks */
	VMM_FOLLOW_EXITS,	/* from where the vCPU is at each exit */
	VMM_FOLLOW_SAMPLE,	/* stepping, until it goes through known blocks only */
	VMM_FOLLOW_STEP,	/* stepping, always: no instruction is missed */
};

struct vmm;
struct vmm_vcpu;

typedef void (*vmm_out_fn)(struct vmm_vcpu *vcpu, uint16_t port, const void *data,
			   size_t n, void *arg);

/* May grow: set sz, zero the rest. */
struct vmm_opts {
	size_t sz;
	uint64_t ram;		/* bytes, a multiple of the page size; 0: 16 MiB */
	unsigned int cpus;	/* 0: 1 */
	enum vmm_mem mem;
	int fd;			/* VMM_MEM_ATTACH */
	bool huge;		/* MADV_HUGEPAGE on the RAM */
	bool irqchip;		/* APICs, PIC, PIT and interrupts in KVM */
	bool no_hlt_exit;	/* a halted guest stays in the guest (stop with irqchip: always) */
	bool no_slot;		/* the caller makes the memory slots */
	enum vmm_follow follow;
	bool stop;		/* arm code with CODEWP_STOP, not CODEWP_OPEN */
	unsigned int sample_ms;	/* VMM_FOLLOW_SAMPLE: interval; 0: 10 */
	vmm_out_fn out;		/* each port output of vmm_run()'s guest */
	void *out_arg;
	uint32_t ring_bytes;	/* 0: the library's choice */
	uint32_t clients;	/* dirty clients of the view */
	size_t __last_field[0];
};

/**
 * vmm_create() - a VM with its RAM and its vCPUs, which are not started
 * @vm: out
 * @opts: NULL for one CPU and 16 MiB of anonymous view
 * @why: what was wrong and what to do about it; NULL if nobody wants to know
 * @size: bytes in @why
 */
int vmm_create(struct vmm **vm, const struct vmm_opts *opts, char *why, size_t size);
/** vmm_destroy() - no thread is in a call on it, or will be */
void vmm_destroy(struct vmm *vm);

/* ---- memory ---- */

/** vmm_ram() - the RAM in this process; a store here is a write like any other */
void *vmm_ram(struct vmm *vm);
uint64_t vmm_ram_bytes(const struct vmm *vm);
/** vmm_view() - the view, or NULL (VMM_MEM_PLAIN) */
struct codewp_view *vmm_view(struct vmm *vm);
int vmm_fd(const struct vmm *vm);	/* KVM's descriptor of the VM */

/**
 * vmm_slot() - KVM_SET_USER_MEMORY_REGION; @size 0 deletes the slot
 *
 * Slot 0 is the RAM unless opts.no_slot. Nobody need be stopped for it.
 */
int vmm_slot(struct vmm *vm, unsigned int slot, uint64_t gpa, uint64_t size,
	     const void *hva, uint32_t flags);

/* -EFAULT, and nothing done, if it is not all RAM. */
int vmm_read(struct vmm *vm, uint64_t gpa, void *dst, size_t n);
int vmm_write(struct vmm *vm, uint64_t gpa, const void *src, size_t n);

/**
 * vmm_translate() - guest-virtual to guest-physical, by the guest's page tables
 *
 * Reads the tables and changes nothing in them (KVM_TRANSLATE would set accessed
 * bits: a write into tables that may be watched). -EFAULT: not mapped, or the tables
 * are not all in RAM.
 */
int vmm_translate(struct vmm_vcpu *vcpu, uint64_t gva, uint64_t *gpa);

/* ---- starting ---- */

/**
 * vmm_boot_real() - all vCPUs in real mode at cs:ip 0:@ip
 *
 * %edi is the vCPU's number, %esi how many there are; stacks grow down from 0x1000.
 */
int vmm_boot_real(struct vmm *vm, uint16_t ip);
/**
 * vmm_boot_long() - all vCPUs in long mode, ring 0, at @rip
 *
 * Memory is mapped one to one, SSE and (where KVM has it) AVX are switched on. %rdi is
 * the vCPU's number, %rsi how many there are, %rdx the size of the RAM. No interrupt
 * table: an exception ends the guest.
 */
int vmm_boot_long(struct vmm *vm, uint64_t rip);
/**
 * vmm_load() - put an image into the RAM and the vCPUs at its beginning
 * @path: an ELF64 executable for long mode, by its physical addresses, or a flat
 *        image: real mode, unless @long_mode
 */
int vmm_load(struct vmm *vm, const char *path, bool long_mode, char *why, size_t size);

/* ---- vCPUs, driven by the caller ---- */

unsigned int vmm_cpus(const struct vmm *vm);
struct vmm_vcpu *vmm_vcpu(struct vmm *vm, unsigned int n);
unsigned int vmm_vcpu_id(const struct vmm_vcpu *vcpu);
struct vmm *vmm_of(struct vmm_vcpu *vcpu);
int vmm_vcpu_fd(const struct vmm_vcpu *vcpu);
struct kvm_run *vmm_vcpu_shared(struct vmm_vcpu *vcpu);
int vmm_get_regs(struct vmm_vcpu *vcpu, struct kvm_regs *regs);
int vmm_set_regs(struct vmm_vcpu *vcpu, const struct kvm_regs *regs);
int vmm_get_sregs(struct vmm_vcpu *vcpu, struct kvm_sregs *sregs);
int vmm_set_sregs(struct vmm_vcpu *vcpu, const struct kvm_sregs *sregs);

enum vmm_exit_kind {
	VMM_EXIT_OUT,		/* port, data, size, count */
	VMM_EXIT_IN,		/* port, size: put the answer into data */
	VMM_EXIT_HLT,
	VMM_EXIT_STOP,		/* a store was stopped: voff */
	VMM_EXIT_BAD_MEM,	/* EFAULT, and no store was stopped */
	VMM_EXIT_KICK,		/* vmm_vcpu_kick(), vmm_hold(), or a signal */
	VMM_EXIT_DEBUG,		/* a step is done */
	VMM_EXIT_MMIO,		/* gpa, size, data, write: no RAM there, or read-only */
	VMM_EXIT_SHUTDOWN,	/* triple fault */
	VMM_EXIT_OTHER,		/* reason: see struct kvm_run */
};

struct vmm_exit {
	enum vmm_exit_kind kind;
	uint32_t reason;	/* KVM_EXIT_* */
	uint16_t port;
	uint8_t size;
	bool write;
	uint32_t count;
	void *data;
	uint64_t gpa;
	uint64_t voff;
};

/**
 * vmm_vcpu_run() - one KVM_RUN
 *
 * Does not look into the ring except for the vCPU's own stop; with blocks (any
 * opts.follow) the events that it finds there drop blocks, too. While somebody holds
 * the VM it waits first.
 */
int vmm_vcpu_run(struct vmm_vcpu *vcpu, struct vmm_exit *exit);
/** vmm_vcpu_kick() - make its vmm_vcpu_run() return soon, or its next one at once */
void vmm_vcpu_kick(struct vmm_vcpu *vcpu);
/** vmm_exit_name() - in words */
const char *vmm_exit_name(enum vmm_exit_kind kind);

/**
 * vmm_hold() - return when no vCPU is in the guest, and keep it so
 *
 * By a thread whose own vCPU is not in the guest. One holder at a time, others wait;
 * vmm_release() lets all go on. A vCPU whose thread holds may run.
 */
void vmm_hold(struct vmm *vm);
void vmm_release(struct vmm *vm);

/**
 * vmm_step() - one instruction of this vCPU, no interrupt before it
 *
 * The other vCPUs run. Returns 0 and *exit as vmm_vcpu_run(); VMM_EXIT_DEBUG when it
 * was done.
 */
int vmm_step(struct vmm_vcpu *vcpu, struct vmm_exit *exit);

/**
 * vmm_step_store() - let a stopped store happen, and keep its page armed
 * @vcpu: its last vmm_vcpu_run() was VMM_EXIT_STOP
 * @exit: out: VMM_EXIT_DEBUG when it was done, else what came instead
 *
 * The other vCPUs are held from before the page is opened until it is armed again, so
 * no store of theirs goes by. Opens each page that the instruction is stopped at (a
 * store across a page end has two). Of a repeated string instruction one round is
 * done. What writes without being a vCPU (other processes, system calls) is told by
 * the ring if it came while the page was armed, and otherwise not.
 */
int vmm_step_store(struct vmm_vcpu *vcpu, struct vmm_exit *exit);

/**
 * vmm_let_store() - open the page of a stopped store; the next run does the store
 *
 * The page's blocks are dropped first. Its later stores are not seen.
 */
int vmm_let_store(struct vmm_vcpu *vcpu);

/**
 * vmm_store_bytes() - what the instruction at the vCPU's rip would write
 * @voff: a byte of it, as the stop said
 * @first: out: first byte of the range on @voff's page
 * @len: out: bytes on this page
 *
 * By decoding it; -ENOENT when it cannot be told (it changed, or is no store that
 * is known): then the whole page is the answer, in *first and *len.
 */
int vmm_store_bytes(struct vmm_vcpu *vcpu, uint64_t voff, uint64_t *first,
		    uint32_t *len);

/* ---- watchpoints ---- */

struct vmm_watch;

/**
 * struct vmm_watch_hit - a write to watched bytes
 * @watch: which
 * @vcpu: that wrote; NULL: not known, or none did
 * @rip: of the store; 0: not known
 * @gpa: first byte written
 * @len: bytes; with CODEWP_WATCH_EXACT of the whole store as far as it is one range,
 *       else from the first to the last byte that differs (0: nothing does)
 * @flags: CODEWP_WATCH_EXACT: one store of @vcpu; _KERNEL: by a system call of thread
 *         @tid; _LOST: the page is watched no more, for @err; none: found by comparing
 * @tid: thread that wrote, 0: not known
 * @before: the watched bytes, @watch_len of them from @watch_gpa
 * @after: and now
 */
struct vmm_watch_hit {
	struct vmm_watch *watch;
	struct vmm_vcpu *vcpu;
	uint64_t rip;
	uint64_t gpa, len;
	uint32_t flags;
	uint32_t tid;
	uint64_t watch_gpa, watch_len;
	const void *before;
	const void *after;
	int err;
};

/* With the VM's ring locked: no call on the VM in it. */
typedef void (*vmm_watch_fn)(const struct vmm_watch_hit *hit, void *arg);

/**
 * vmm_watch() - be told of every write to [gpa, gpa + len)
 *
 * By a thread whose vCPU is not in the guest. vmm_run() does the rest; who drives
 * vCPUs calls vmm_watch_store() at each VMM_EXIT_STOP of a watched page, and
 * vmm_drain() from time to time. -EFAULT: not all RAM; -EOPNOTSUPP: no STOP.
 */
int vmm_watch(struct vmm *vm, uint64_t gpa, uint64_t len, vmm_watch_fn fn, void *arg,
	      struct vmm_watch **watch);
void vmm_unwatch(struct vmm_watch *watch);
/** vmm_watched() - is any byte of gpa's page watched? */
bool vmm_watched(struct vmm *vm, uint64_t gpa);
/** vmm_watch_store() - vmm_step_store(), and tell the watches */
int vmm_watch_store(struct vmm_vcpu *vcpu, struct vmm_exit *exit);

/* ---- events ---- */

/* Called for each event, with the VM's ring locked: no call on the VM in it. */
typedef void (*vmm_event_fn)(const struct codewp_event_info *ev, void *arg);
/** vmm_on_event() - be told of events that anybody takes out of the ring */
void vmm_on_event(struct vmm *vm, vmm_event_fn fn, void *arg);
/** vmm_drain() - take all events out of the ring; their number, or -errno */
int vmm_drain(struct vmm *vm);

/* ---- blocks ---- */

/**
 * vmm_run() - run the guest to its end
 * @status: out: what it wrote to VMM_PORT_EXIT; all vCPUs halted: 0
 * @why: what went wrong, when it does not return 0
 *
 * -EFAULT: the guest used memory that is not there; -ENOEXEC: it shut down (triple
 * fault) or KVM could not go on; -ECANCELED: vmm_end().
 */
int vmm_run(struct vmm *vm, int *status, char *why, size_t size);
/** vmm_end() - make vmm_run() return; may be called in a signal handler */
void vmm_end(struct vmm *vm);

/**
 * vmm_follow_here() - make the blocks that begin at the vCPU's rip, and those that
 *                     direct jumps lead to from there
 *
 * Returns how many are new, or -errno: the code could not be armed, and no block
 * was made of it.
 */
int vmm_follow_here(struct vmm_vcpu *vcpu);
/** vmm_follow_at() - the same from a linear address, in the vCPU's mode */
int vmm_follow_at(struct vmm_vcpu *vcpu, uint64_t gva);

struct vmm_stats {
	uint64_t blocks;	/* made, ever */
	uint64_t live;
	uint64_t invalidated;	/* dropped because of a write */
	uint64_t events;	/* in the ring, stops included */
	uint64_t stops;
	uint64_t stepped;	/* stopped stores that left their page armed */
	uint64_t steps;		/* instructions followed one by one */
	uint64_t exits;
	uint64_t arms;
	uint64_t ignored;	/* outputs that opts.out was not there for */
};

struct vmm_page_stats {
	uint64_t page;		/* guest-physical address >> 12 */
	uint32_t blocks;	/* made of code that begins here */
	uint32_t events;
	uint32_t invalidated;
};

void vmm_stats(struct vmm *vm, struct vmm_stats *st);
/** vmm_for_each_page() - each page that had blocks or events, in ascending order */
void vmm_for_each_page(struct vmm *vm,
		       void (*fn)(const struct vmm_page_stats *ps, void *arg), void *arg);

/**
 * vmm_check_blocks() - compare every live block with the RAM
 *
 * Holds the vCPUs and takes the events out of the ring first. Returns the number of
 * blocks that are not what the RAM says: not 0 means that a write was lost.
 */
int vmm_check_blocks(struct vmm *vm);

#endif /* CODEWP_VMM_H */
