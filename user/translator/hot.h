/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Hot store sites: what block.c, smc.c and translate.c ask of hot.c.
 */
#ifndef CODEWP_HOT_H
#define CODEWP_HOT_H

#include "block.h"

/* As code, when the instruction is a hot site. False: it is none. */
bool hot_insn(struct block *b, const struct insn *in, struct insn_map *m);

/* May this instruction become one? */
bool hot_can(const struct insn *in, const struct store *s);

/*
 * The store at pc trapped often and hit no code: from its next translation on it is
 * hot, for the page of ea, whose code-map page is given. False: it stays as it is.
 */
bool hot_make(uint64_t pc, uint64_t page, uint64_t ea);

/* [first, last] of the page has no code now: stores to it need not trap. */
void hot_clear(uint64_t page, uint64_t ea, unsigned int first, unsigned int last);

/* A store there changed nothing: neither need such ones. */
void hot_same(uint64_t page, uint64_t ea);

/* A block will be made of [first, last] of the page. */
void hot_mark(uint64_t page, unsigned int first, unsigned int last);

/* What the guest would call an address where a hot store faulted. */
uint64_t hot_guest_addr(uint64_t addr);

void hot_reset(void);		/* the cache is empty */

#endif /* CODEWP_HOT_H */
