/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Writing x86-64 bytes. An emitter that runs out of room remembers it and
 * writes no further; the caller looks at full once, at the end. Nothing here
 * emits an instruction that changes flags or touches the guest's stack, except
 * where the name says so.
 */
#ifndef CODEWP_EMIT_H
#define CODEWP_EMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu.h"
#include "decode.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

struct emit {
	uint8_t *p, *end;	/* no room is left once it is full */
	bool full;
};

/* Room for n bytes, or NULL. */
static inline uint8_t *emit_room(struct emit *e, size_t n)
{
	uint8_t *p = e->p;

	if ((size_t)(e->end - p) < n) {
		e->end = p;
		e->full = true;
		return NULL;
	}
	e->p = p + n;
	return p;
}

void emit_bytes(struct emit *e, const void *bytes, size_t n);
/* A whole instruction: INSN_MAX + 1 bytes can be read, whatever they are. */
void emit_insn(struct emit *e, const uint8_t *bytes, size_t n);

static inline void emit_u8(struct emit *e, uint8_t v)
{
	uint8_t *p = emit_room(e, 1);

	if (p)
		*p = v;
}

static inline void emit_u32(struct emit *e, uint32_t v)
{
	uint8_t *p = emit_room(e, 4);

	if (p)
		__builtin_memcpy(p, &v, 4);
}

static inline void emit_u64(struct emit *e, uint64_t v)
{
	uint8_t *p = emit_room(e, 8);

	if (p)
		__builtin_memcpy(p, &v, 8);
}

/* mov %reg, %gs:off and back; all 64 bits */
void emit_gs_store(struct emit *e, int reg, uint32_t off);
void emit_gs_load(struct emit *e, int reg, uint32_t off);
/* mov $value, %reg in the shortest form that leaves flags alone */
void emit_mov_imm(struct emit *e, int reg, uint64_t value);
/* lea (%base,%index), %reg */
void emit_lea_sum(struct emit *e, int reg, int base, int index);

/* jmp/jcc with a 32-bit offset. Returns where the offset is, to be set later. */
uint8_t *emit_jmp(struct emit *e, const void *target);
/*
 * The same with the offset on a 4-byte boundary, so that one store changes it while
 * others run through it. (One aligned quadword would do for processors, but QEMU's see
 * halves of such a store.) Prefixes that do nothing here fill up: a nop would keep the
 * processor from fusing a comparison with its jump. opcode is 0xe9, or 0x0f80 to 0x0f8f.
 */
uint8_t *emit_jump_slot(struct emit *e, unsigned int opcode);
void emit_rel32(uint8_t *at, const void *target);
uint8_t *emit_lea_rip(struct emit *e, int reg, const void *target);

/* A prefix of the old kind: not REX, VEX or EVEX. A segment's. */
bool emit_is_prefix(uint8_t b);
bool emit_is_segment(uint8_t b);

#define EMIT_ABSOLUTE -1

/**
 * emit_with_mem() - an instruction with its memory operand replaced
 * @in: the instruction; in->mem >= 0
 * @reg: the operand becomes (%reg), one of rax rcx rdx rbx rsi rdi; or
 *       EMIT_ABSOLUTE: the operand becomes the 32-bit address @abs
 * @abs: address, when it fits a sign-extended 32-bit displacement
 * @drop_seg: without its segment prefix
 *
 * Keeps operation, registers, size and lock prefixes, and immediates.
 */
void emit_with_mem(struct emit *e, const struct insn *in, int reg, int32_t abs,
		   bool drop_seg);

#endif /* CODEWP_EMIT_H */
