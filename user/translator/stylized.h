/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Stylized immediates: what block.c and smc.c ask of stylized.c.
 */
#ifndef CODEWP_STYLIZED_H
#define CODEWP_STYLIZED_H

#include "block.h"

/*
 * [first, last] of the page was written by one store; these (by dead_next) died of it.
 * True: it was an immediate.
 */
bool stylized_hit(const struct tb *tb, uint64_t page, unsigned int first, unsigned int last);

/* tb is not any more what it was made of. */
void stylized_changed(const struct tb *tb);

/*
 * As code that loads its immediate from the guest's memory, when that is patched
 * again and again; the block's source ends before it then. False: it is not.
 */
bool stylized_insn(struct block *b, const struct insn *in, struct insn_map *m);

void stylized_reset(void);	/* the cache is empty */

#endif /* CODEWP_STYLIZED_H */
