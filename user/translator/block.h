/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A block in the making: what translate.c asks of block.c.
 */
#ifndef CODEWP_BLOCK_H
#define CODEWP_BLOCK_H

#include "core.h"

struct block {
	struct emit e;
	struct tb *tb;
	uint8_t *first;		/* of all that is emitted */
	uint8_t *start;		/* body */
	uint8_t *jc_entry;	/* the check before it, or NULL */
	uint64_t pc;		/* of the block */
	unsigned int n;		/* instructions */
	bool ended;
	uint8_t *jump[TB_MAX_EXITS];	/* JUMP: where its offset is */
	uint8_t *const_at[2];	/* call: where the return address is wanted */
	uint64_t const_val[2];
	unsigned int consts;
	unsigned int side;	/* exits that it has passed */
	unsigned int unseen;	/* bytes at the end that are not its source (stylized.c) */
	struct insn_map map[TB_MAX_INSNS + 1];
};

/*
 * False: no room in the cache, or (begin) it is being emptied. indirect: with what
 * indirect jumps need to come there.
 */
bool block_begin(struct block *b, uint64_t pc, uint32_t flags, bool indirect, size_t room);
void block_insn(struct block *b, const struct insn *in);
/*
 * [64] [67] REX.W opcode reg, [base + index * scale + disp]: a load or lea with
 * an operand of the guest's.
 */
void emit_op_mem(struct emit *e, uint8_t opcode, int reg, const struct insn *in, bool fs);
/* Everything but publishing. */
bool block_finish(struct block *b, const uint8_t *src, size_t n, uint64_t next);

#endif /* CODEWP_BLOCK_H */
