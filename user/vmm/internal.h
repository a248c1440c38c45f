/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the VMM's files share.
 *
 * vm.c		the VM: creation, memory slots, the ring
 * vcpu.c	one KVM_RUN, kicking, holding
 * regs.c	registers
 * mem.c	the RAM, the guest's page tables
 * boot.c	first state of a vCPU, images
 * decode.c	the guest's instructions: the only file that knows Zydis
 * blocks.c	blocks: made, found, dropped
 * step.c	one instruction; stopped stores
 * watch.c	watchpoints
 * run.c	vmm_run(): threads, ports, which blocks to look for when
 *
 * Locks: vmm_hold(), then vm->lock (recursive), then vm->gate. Nobody who has
 * vm->lock enters the guest, except under vmm_hold().
 */
#ifndef CODEWP_VMM_INTERNAL_H
#define CODEWP_VMM_INTERNAL_H

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/types.h>

#include <codewp/codemap.h>
#include <linux/codewp.h>

#include "vmm.h"

#define PAGE_SIZE	CODEWP_PAGE_SIZE
#define PAGE_SHIFT	12
#define PAGE_MASK	(PAGE_SIZE - 1)

/* What makes the vCPUs leave the guest; its handler does nothing. */
#define VMM_SIGNAL	(SIGRTMIN + 5)

struct page_count {
	uint32_t blocks, events, invalidated;
	uint32_t stops;		/* since a block was made of it */
};

/**
 * struct vmm_vcpu - one vCPU
 * @tid: the thread that is in the guest, or 0; written under vm->gate, read by kicks
 * @stopped: a stop was told since it entered; set by whoever drains, before its run
 *           returns; pairs acquire with release for @stop_voff
 * @stop_voff: byte of the last stop
 * @cur_first: linear addresses of the block that the vCPU steps through; only its
 *             thread's
 * @last_rip: where the last step was
 * @known: blocks in a row that stepping met and that were there already
 * @cold: vmm_run() steps this vCPU; set by anybody
 * @epoch: vm->epoch when @cur_first was found
 */
struct vmm_vcpu {
	struct vmm *vm;
	struct kvm_run *run;
	size_t run_bytes;
	int fd;
	unsigned int id;
	pid_t tid;

	bool stopped;
	uint64_t stop_voff;

	uint64_t cur_first, cur_end, last_rip;
	unsigned int known;
	bool cold;
	bool debugging;
	uint64_t epoch;

	pthread_t thread;
	bool started;
};

/**
 * struct vmm - one VM
 * @gate: guards @holder, @holders and each vCPU's entry into the guest
 * @lock: guards the reader's end of the ring, the blocks, all counters
 * @epoch: goes up when a block is dropped
 */
struct vmm {
	struct vmm_opts opts;
	int kvm, fd;
	bool blockirq;		/* KVM_GUESTDBG_BLOCKIRQ is there */

	uint8_t *ram;
	uint64_t ram_bytes;
	int memfd;
	struct codewp *ctx;
	struct codewp_view *view;
	const uint32_t *states;

	struct vmm_vcpu vcpu[VMM_MAX_CPUS];
	unsigned int cpus;

	pthread_mutex_t gate;
	pthread_cond_t gate_open;	/* no holder any more, or a vCPU left the guest */
	bool held;
	pthread_t holder;

	pthread_mutex_t lock;
	struct codemap *map;
	struct vmm_block *live;		/* list of all */
	struct page_count *pages;
	struct vmm_stats st;
	uint64_t epoch;
	struct vmm_watch *watches;
	vmm_event_fn on_event;
	void *on_event_arg;

	/* vmm_run() */
	int end;
	int end_fd;
	bool done;			/* the guest ended by itself */
	int status, err;
	char why[256];
	unsigned int halted;
};

/* How a vCPU sees memory, read at one exit. */
struct vmm_mode {
	unsigned int bits;	/* 16, 32, 64 */
	uint64_t cs_base;
	uint64_t cr0, cr3, cr4, efer;
};

/**
 * struct vmm_block - guest code without a branch, except at its end
 * @tb: its key is the linear address, and flags are the guest-physical page
 *      and the mode: other page tables, other blocks
 * @next: vm->live, @prev the pointer that points here
 * @succ: linear addresses where direct branches lead
 */
struct vmm_block {
	struct codemap_tb tb;
	struct vmm_block *next, **prev;
	uint64_t succ[2];
	unsigned int nr_succ;
	unsigned int len;
	uint8_t bytes[];
};

/* decode.c */
enum vmm_insn_kind { INSN_PLAIN, INSN_JUMP, INSN_COND, INSN_CALL, INSN_END };

struct vmm_insn {
	unsigned int len;
	enum vmm_insn_kind kind;
	bool direct;
	uint64_t target;
};

/**
 * vmm_decode() - one instruction
 * @bits: 16, 32 or 64
 * @pc: its linear address less the base of cs
 *
 * Returns 0; -EAGAIN: it goes on behind the @n bytes; -EINVAL: none that is known.
 */
int vmm_decode(unsigned int bits, const uint8_t *bytes, size_t n, uint64_t pc,
	       struct vmm_insn *in);
/*
 * What the instruction writes: linear address and size of each piece. Returns their
 * number (at most 2), or -ENOENT.
 */
struct vmm_piece {
	uint64_t addr;
	uint32_t size;
};

int vmm_decode_store(unsigned int bits, const uint8_t *bytes, size_t n,
		     const struct kvm_regs *r, const struct kvm_sregs *s,
		     struct vmm_piece piece[2]);

/* mem.c */
int vmm_mem_make(struct vmm *vm, char *why, size_t size);
void vmm_mem_free(struct vmm *vm);
void vmm_mode_get(const struct kvm_sregs *s, struct vmm_mode *mode);
int vmm_walk(const struct vmm *vm, const struct vmm_mode *mode, uint64_t gva,
	     uint64_t *gpa);
bool vmm_in_ram(const struct vmm *vm, uint64_t gpa, uint64_t n);

/* boot.c */
int vmm_cpu_init(struct vmm_vcpu *vcpu, struct kvm_cpuid2 *cpuid);

/* vcpu.c */
void vmm_signal_init(void);
int vmm_debug(struct vmm_vcpu *vcpu, bool step, bool blockirq);

/* step.c: after EFAULT, is it a stop that the ring had no room for? */
bool vmm_find_stop(struct vmm_vcpu *vcpu);
/* vmm_step_store() by who has vmm_hold() and vm->lock. */
int vmm_step_held(struct vmm_vcpu *vcpu, struct vmm_exit *exit);

/* watch.c; under vm->lock */
void vmm_watch_event(struct vmm *vm, const struct codewp_event_info *ev);
void vmm_watches_free(struct vmm *vm);

/* blocks.c; all under vm->lock */
int vmm_blocks_init(struct vmm *vm);
void vmm_blocks_free(struct vmm *vm);
int vmm_blocks_drop(struct vmm *vm, uint64_t page, unsigned int first,
		    unsigned int last);
/* The block at a linear address: 1 found, 2 made, 0 none can be made, or -errno. */
int vmm_block_at(struct vmm *vm, const struct vmm_mode *mode, uint64_t gva,
		 struct vmm_block **block);
int vmm_blocks_from(struct vmm *vm, const struct vmm_mode *mode, uint64_t gva,
		    struct vmm_block **first);

/* Messages for people: why may be NULL. */
__attribute__((format(printf, 3, 4)))
static inline void vmm_say(char *why, size_t size, const char *fmt, ...)
{
	va_list ap;

	if (!why || !size)
		return;
	va_start(ap, fmt);
	vsnprintf(why, size, fmt, ap);
	va_end(ap);
}

#endif /* CODEWP_VMM_INTERNAL_H */
