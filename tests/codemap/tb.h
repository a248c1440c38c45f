/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A TB for tests: its "host code" is its jumps' targets, which set_jump() stores
 * and a test "executes" by following them.
 */
#ifndef TESTS_CODEMAP_TB_H
#define TESTS_CODEMAP_TB_H

#include <codewp/codemap.h>
#include "test.h"

#define XTB_JUMPS	CODEMAP_MAX_JUMPS

struct xtb {
	struct codemap_tb tb;		/* first: a codemap_tb is an xtb */
	struct codemap_jump jump[XTB_JUMPS];
	struct codemap_tb *target[XTB_JUMPS];	/* NULL: the exit stub */
};

static inline struct xtb *xtb_of(struct codemap_tb *tb)
{
	return (struct xtb *)tb;
}

static inline struct codemap_tb *xtb_target(struct codemap_tb *tb, int slot)
{
	return __atomic_load_n(&xtb_of(tb)->target[slot], __ATOMIC_ACQUIRE);
}

static inline void xtb_set_jump(struct codemap_tb *tb, int slot, struct codemap_tb *dest)
{
	__atomic_store_n(&xtb_of(tb)->target[slot], dest, __ATOMIC_RELEASE);
}

/* Bytes [first, last] of one page. */
static inline struct codemap_tb *xtb_init(struct xtb *x, uint64_t pc, uint64_t page,
					  unsigned int first, unsigned int last)
{
	memset(x, 0, sizeof(*x));
	x->tb.pc = pc;
	x->tb.page[0] = page;
	x->tb.page[1] = CODEMAP_NO_PAGE;
	x->tb.first[0] = first;
	x->tb.last[0] = last;
	x->tb.entry = x;
	x->tb.jump = x->jump;
	x->tb.jumps = XTB_JUMPS;
	return &x->tb;
}

/* From byte first of page to its end, and bytes [0, last] of page2. */
static inline struct codemap_tb *xtb_init2(struct xtb *x, uint64_t pc, uint64_t page,
					   unsigned int first, uint64_t page2,
					   unsigned int last)
{
	xtb_init(x, pc, page, first, CODEMAP_PAGE_SIZE - 1);
	x->tb.page[1] = page2;
	x->tb.last[1] = last;
	return &x->tb;
}

static inline int dead_count(struct codemap_tb *dead)
{
	int n = 0;

	for (; dead; dead = dead->dead_next)
		n++;
	return n;
}

#endif /* TESTS_CODEMAP_TB_H */
