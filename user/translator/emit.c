// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Encoding of the few instructions that the translator makes itself, and of the
 * guest's instructions with another memory operand. Works on a buffer of the
 * caller's; no state, no lock, no libc.
 */
#include "emit.h"

void emit_bytes(struct emit *e, const void *bytes, size_t n)
{
	const uint8_t *b = bytes;
	uint8_t *p = emit_room(e, n);
	size_t i;

	if (!p)
		return;
	for (i = 0; i < n; i++)
		p[i] = b[i];
}

void emit_insn(struct emit *e, const uint8_t *bytes, size_t n)
{
	uint64_t half;

	/* What is written behind it comes to nothing: there is more to come. */
	if (e->end - e->p < INSN_MAX + 1) {
		emit_bytes(e, bytes, n);
		return;
	}
	__builtin_memcpy(&half, bytes, 8);
	__builtin_memcpy(e->p, &half, 8);
	__builtin_memcpy(&half, bytes + 8, 8);
	__builtin_memcpy(e->p + 8, &half, 8);
	e->p += n;
}

static void gs_mov(struct emit *e, uint8_t opcode, int reg, uint32_t off)
{
	uint32_t head = 0x65 | (0x48 | (reg >> 3) << 2) << 8 | opcode << 16 |
			(0x04U | (reg & 7) << 3) << 24;
	uint8_t *p = emit_room(e, 9);

	if (!p)
		return;
	__builtin_memcpy(p, &head, 4);
	p[4] = 0x25;
	__builtin_memcpy(p + 5, &off, 4);
}

void emit_gs_store(struct emit *e, int reg, uint32_t off)
{
	gs_mov(e, 0x89, reg, off);
}

void emit_gs_load(struct emit *e, int reg, uint32_t off)
{
	gs_mov(e, 0x8b, reg, off);
}

void emit_mov_imm(struct emit *e, int reg, uint64_t value)
{
	if (value == (uint32_t)value) {
		if (reg >= 8)
			emit_u8(e, 0x41);
		emit_u8(e, 0xb8 | (reg & 7));
		emit_u32(e, value);
	} else if (value == (uint64_t)(int64_t)(int32_t)value) {
		emit_u8(e, 0x48 | reg >> 3);
		emit_u8(e, 0xc7);
		emit_u8(e, 0xc0 | (reg & 7));
		emit_u32(e, value);
	} else {
		emit_u8(e, 0x48 | reg >> 3);
		emit_u8(e, 0xb8 | (reg & 7));
		emit_u64(e, value);
	}
}

void emit_lea_sum(struct emit *e, int reg, int base, int index)
{
	/* mod 00 with base 101 would mean no base */
	if ((base & 7) == RBP) {
		int was = base;

		base = index;
		index = was;
		if ((base & 7) == RBP)
			__builtin_trap();
	}
	emit_u8(e, 0x48 | reg >> 3 << 2 | index >> 3 << 1 | base >> 3);
	emit_u8(e, 0x8d);
	emit_u8(e, 0x04 | (reg & 7) << 3);
	emit_u8(e, (index & 7) << 3 | (base & 7));
}

void emit_rel32(uint8_t *at, const void *target)
{
	int32_t rel = (const uint8_t *)target - (at + 4);

	__builtin_memcpy(at, &rel, 4);
}

uint8_t *emit_jmp(struct emit *e, const void *target)
{
	uint8_t *at;

	emit_u8(e, 0xe9);
	at = e->p;
	emit_u32(e, 0);
	if (!e->full && target)
		emit_rel32(at, target);
	return at;
}

uint8_t *emit_lea_rip(struct emit *e, int reg, const void *target)
{
	uint8_t *at;

	emit_u8(e, 0x48 | (reg >> 3) << 2);
	emit_u8(e, 0x8d);
	emit_u8(e, 0x05 | (reg & 7) << 3);
	at = e->p;
	emit_u32(e, 0);
	if (!e->full && target)
		emit_rel32(at, target);
	return at;
}

uint8_t *emit_jump_slot(struct emit *e, unsigned int opcode)
{
	static const uint8_t cs[3] = { 0x2e, 0x2e, 0x2e };
	size_t n = opcode > 0xff ? 2 : 1;
	uint8_t *at;

	emit_bytes(e, cs, -((uintptr_t)e->p + n) & 3);
	if (n == 2)
		emit_u8(e, opcode >> 8);
	emit_u8(e, opcode & 0xff);
	at = e->p;
	emit_u32(e, 0);
	return at;
}

bool emit_is_prefix(uint8_t b)
{
	switch (b) {
	case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
		return true;
	default:
		return false;
	}
}

bool emit_is_segment(uint8_t b)
{
	return b == 0x26 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x64 || b == 0x65;
}

void emit_with_mem(struct emit *e, const struct insn *in, int reg, int32_t abs,
		   bool drop_seg)
{
	const uint8_t *b = in->bytes;
	unsigned int i = 0, modrm = in->modrm, mod = b[modrm] >> 6, rm = b[modrm] & 7, rest;

	/* The address is complete: an address-size prefix has had its effect. A
	 * REX prefix counts only just before the opcode.
	 */
	for (; emit_is_prefix(b[i]) || (b[i] & 0xf0) == 0x40; i++) {
		if ((b[i] & 0xf0) == 0x40) {
			if (emit_is_prefix(b[i + 1]) || (b[i + 1] & 0xf0) == 0x40)
				continue;
			emit_u8(e, b[i] & ~3);		/* X, B: no index, low base */
			i++;
			break;
		}
		if (b[i] == 0x67 || (drop_seg && emit_is_segment(b[i])))
			continue;
		emit_u8(e, b[i]);
	}
	switch (in->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		emit_u8(e, b[i]);
		if (b[i++] == 0xc4)
			emit_u8(e, b[i++] | 0x60);	/* X, B are inverted here */
		break;
	case ZYDIS_INSTRUCTION_ENCODING_XOP:
	case ZYDIS_INSTRUCTION_ENCODING_EVEX:
		emit_u8(e, b[i++]);
		emit_u8(e, b[i++] | 0x60);
		break;
	default:
		break;
	}
	emit_bytes(e, b + i, modrm - i);

	rest = modrm + 1;
	if (rm == 4)
		rest++;
	if (mod == 1)
		rest++;
	else if (mod == 2 || rm == 5 || (rm == 4 && (b[modrm + 1] & 7) == 5))
		rest += 4;
	if (reg == EMIT_ABSOLUTE) {
		emit_u8(e, (b[modrm] & 0x38) | 4);
		emit_u8(e, 0x25);
		emit_u32(e, abs);
	} else {
		emit_u8(e, (b[modrm] & 0x38) | reg);
	}
	emit_bytes(e, b + rest, in->len - rest);
}
