/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * For people who debug the translator or what runs under it.
 */
#ifndef CODEWP_DEBUG_H
#define CODEWP_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

struct cpu;
struct tb;

/* ---- perfmap.c: --perf-map; all with rt_lock held ---------------------------- */

extern bool perfmap_on;
int perfmap_open(void);			/* 0 or -errno */
void perfmap_tb(const struct tb *tb);	/* it has been made */
void perfmap_fork_child(void);		/* a file of its own, with the blocks it has */

/* ---- debug.c: for debuggers ----------------------------------------------------- */

/*
 * What a host address is. The layout is what codewp-gdb.py reads: eight values of
 * 64 bits.
 */
struct codewp_where {
	uint64_t guest_pc;	/* 0: not in a block */
	uint64_t block_pc;	/* guest address of the block */
	uint64_t block_host;	/* and its host code */
	uint64_t block_size;
	uint64_t insn;		/* number in the block */
	uint64_t insns;
	int64_t spilled;	/* the register that is not the guest's here, or -1 */
	uint64_t value;		/* the guest's value of it, of the calling thread */
};

/**
 * codewp_guest_pc() - the guest's instruction at a host address
 * @host_pc: host address
 *
 * For a debugger: print/x codewp_guest_pc($pc). Safe at any place of any thread:
 * it takes no lock, allocates nothing, and uses neither %fs nor vector registers.
 *
 * Return: its guest address; 0: no code of the guest's.
 */
uint64_t codewp_guest_pc(uint64_t host_pc);
/* The same with all that is known; the answer is good until the next call. */
const struct codewp_where *codewp_where(uint64_t host_pc);

#endif /* CODEWP_DEBUG_H */
