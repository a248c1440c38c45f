// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The fast way to decode: the length of an instruction that is copied as it is, that
 * branches to a constant or has an operand relative to %rip, from two tables. Zydis
 * stays the judge: whatever is not in the tables, or has a prefix that is not usual with
 * it, is refused here and goes there, and tests/core/scan.c compares the two over all of
 * the tables.
 *
 * No state, no lock, no libc.
 */
#include "decode.h"
#include "emit.h"

enum {
	MODRM = 1 << 0,
	IMM8 = 1 << 1,
	IMMZ = 1 << 2,		/* 4 bytes, or 2 with an operand-size prefix */
	IMMV = 1 << 3,		/* the same, but 8 with REX.W */
	STORES = 1 << 4,	/* to its ModRM operand */
	PUSHES = 1 << 5,	/* writes memory that no ModRM byte names */
	MEM = 1 << 6,		/* never with a register in place of memory */
	REG = 1 << 7,		/* never with memory */
	GROUP = 1 << 8,		/* the ModRM byte says more: groups[] */
	BRANCH = 1 << 9,	/* to a constant, or a return: no prefix at all */
	/* Which of these prefixes it may have, at most one. */
	NP = 1 << 10,
	P66 = 1 << 11,
	PF3 = 1 << 12,
	PF2 = 1 << 13,
};

#define OSZ	(NP | P66)		/* 66 changes the operand's size, at most */
#define SIMD	(NP | P66 | PF3 | PF2)
#define REP	(NP | P66 | PF3 | PF2)

/* add, or, adc, sbb, and, sub, xor */
#define ARITH(op)						\
	[op] = OSZ | MODRM | STORES,				\
	[(op) + 1] = OSZ | MODRM | STORES,			\
	[(op) + 2] = OSZ | MODRM,				\
	[(op) + 3] = OSZ | MODRM,				\
	[(op) + 4] = OSZ | IMM8,				\
	[(op) + 5] = OSZ | IMMZ

static const uint16_t one_byte[256] = {
	ARITH(0x00), ARITH(0x08), ARITH(0x10), ARITH(0x18), ARITH(0x20), ARITH(0x28),
	ARITH(0x30),
	[0x38 ... 0x3b] = OSZ | MODRM,			/* cmp */
	[0x3c] = OSZ | IMM8,
	[0x3d] = OSZ | IMMZ,
	[0x50 ... 0x57] = OSZ | PUSHES,
	[0x58 ... 0x5f] = OSZ,				/* pop */
	[0x63] = OSZ | MODRM,				/* movsxd */
	[0x68] = OSZ | IMMZ | PUSHES,
	[0x69] = OSZ | MODRM | IMMZ,			/* imul */
	[0x6a] = OSZ | IMM8 | PUSHES,
	[0x6b] = OSZ | MODRM | IMM8,
	[0x70 ... 0x7f] = NP | BRANCH | IMM8,		/* jcc */
	[0x80] = OSZ | MODRM | GROUP | IMM8,
	[0x81] = OSZ | MODRM | GROUP | IMMZ,
	[0x83] = OSZ | MODRM | GROUP | IMM8,
	[0x84 ... 0x85] = OSZ | MODRM,			/* test */
	[0x86 ... 0x89] = OSZ | MODRM | STORES,		/* xchg, mov */
	[0x8a ... 0x8b] = OSZ | MODRM,
	[0x8d] = OSZ | MODRM | MEM,			/* lea */
	[0x90 ... 0x99] = OSZ,				/* xchg, cbw, cwd */
	[0xa4 ... 0xa5] = REP | PUSHES,			/* movs */
	[0xa6 ... 0xa7] = REP,				/* cmps */
	[0xa8] = OSZ | IMM8,				/* test */
	[0xa9] = OSZ | IMMZ,
	[0xaa ... 0xab] = REP | PUSHES,			/* stos */
	[0xac ... 0xaf] = REP,				/* lods, scas */
	[0xb0 ... 0xb7] = OSZ | IMM8,			/* mov */
	[0xb8 ... 0xbf] = OSZ | IMMV,
	[0xc0 ... 0xc1] = OSZ | MODRM | GROUP | IMM8,
	[0xc3] = NP | BRANCH,				/* ret */
	[0xc6] = OSZ | MODRM | GROUP | IMM8,
	[0xc7] = OSZ | MODRM | GROUP | IMMZ,
	[0xc9] = OSZ,					/* leave */
	[0xd0 ... 0xd3] = OSZ | MODRM | GROUP,
	[0xe8] = NP | BRANCH | IMMZ | PUSHES,		/* call */
	[0xe9] = NP | BRANCH | IMMZ,			/* jmp */
	[0xeb] = NP | BRANCH | IMM8,
	[0xf5] = OSZ,					/* cmc */
	[0xf6] = OSZ | MODRM | GROUP,
	[0xf7] = OSZ | MODRM | GROUP,
	[0xf8 ... 0xf9] = OSZ,				/* clc, stc */
	[0xfc ... 0xfd] = OSZ,				/* cld, std */
	[0xfe ... 0xff] = OSZ | MODRM | GROUP,
};

static const uint16_t two_byte[256] = {
	[0x10] = SIMD | MODRM,				/* movups and its like */
	[0x11] = SIMD | MODRM | STORES,
	[0x12] = NP | PF3 | PF2 | MODRM,
	[0x13] = OSZ | MODRM | MEM | STORES,
	[0x14 ... 0x15] = OSZ | MODRM,
	[0x16] = NP | PF3 | MODRM,
	[0x17] = OSZ | MODRM | MEM | STORES,
	[0x18] = OSZ | MODRM | MEM | GROUP,		/* prefetch */
	[0x1e] = PF3 | MODRM | REG | GROUP,		/* endbr64 */
	[0x1f] = OSZ | MODRM | GROUP,			/* nop */
	[0x28] = OSZ | MODRM,				/* movaps */
	[0x29] = OSZ | MODRM | STORES,
	[0x2a] = PF3 | PF2 | MODRM,			/* conversions */
	[0x2b] = OSZ | MODRM | MEM | STORES,
	[0x2c ... 0x2d] = PF3 | PF2 | MODRM,
	[0x2e ... 0x2f] = OSZ | MODRM,			/* comiss */
	[0x40 ... 0x4f] = OSZ | MODRM,			/* cmov */
	[0x50] = OSZ | MODRM | REG,
	[0x51] = SIMD | MODRM,
	[0x52 ... 0x53] = NP | PF3 | MODRM,
	[0x54 ... 0x57] = OSZ | MODRM,
	[0x58 ... 0x5a] = SIMD | MODRM,
	[0x5b] = NP | P66 | PF3 | MODRM,
	[0x5c ... 0x5f] = SIMD | MODRM,
	[0x60 ... 0x6e] = P66 | MODRM,
	[0x6f] = P66 | PF3 | MODRM,
	[0x70] = P66 | PF3 | PF2 | MODRM | IMM8,
	[0x71 ... 0x73] = P66 | MODRM | REG | GROUP | IMM8,
	[0x74 ... 0x76] = P66 | MODRM,
	[0x7c ... 0x7d] = P66 | PF2 | MODRM,
	[0x7e] = P66 | PF3 | MODRM | STORES,		/* movd, movq */
	[0x7f] = P66 | PF3 | MODRM | STORES,
	[0x80 ... 0x8f] = NP | BRANCH | IMMZ,		/* jcc */
	[0x90 ... 0x9f] = OSZ | MODRM | STORES,		/* setcc */
	[0xa2] = NP,					/* cpuid */
	[0xa3] = OSZ | MODRM,				/* bt */
	[0xa4] = OSZ | MODRM | STORES | IMM8,		/* shld */
	[0xa5] = OSZ | MODRM | STORES,
	[0xab] = OSZ | MODRM | STORES,			/* bts */
	[0xac] = OSZ | MODRM | STORES | IMM8,
	[0xad] = OSZ | MODRM | STORES,
	[0xaf] = OSZ | MODRM,				/* imul */
	[0xb0 ... 0xb1] = OSZ | MODRM | STORES,		/* cmpxchg */
	[0xb3] = OSZ | MODRM | STORES,
	[0xb6 ... 0xb7] = OSZ | MODRM,			/* movzx */
	[0xb8] = PF3 | MODRM,				/* popcnt */
	[0xba] = OSZ | MODRM | GROUP | IMM8,
	[0xbb] = OSZ | MODRM | STORES,
	[0xbc ... 0xbd] = NP | P66 | PF3 | MODRM,	/* bsf, tzcnt */
	[0xbe ... 0xbf] = OSZ | MODRM,
	[0xc0 ... 0xc1] = OSZ | MODRM | STORES,		/* xadd */
	[0xc2] = SIMD | MODRM | IMM8,
	[0xc3] = NP | MODRM | MEM | STORES,		/* movnti */
	[0xc4] = P66 | MODRM | IMM8,
	[0xc5] = P66 | MODRM | REG | IMM8,
	[0xc6] = OSZ | MODRM | IMM8,
	[0xc8 ... 0xcf] = OSZ,				/* bswap */
	[0xd0] = P66 | PF2 | MODRM,
	[0xd1 ... 0xd5] = P66 | MODRM,
	[0xd6] = P66 | MODRM | STORES,
	[0xd7] = P66 | MODRM | REG,
	[0xd8 ... 0xe5] = P66 | MODRM,
	[0xe6] = P66 | PF3 | PF2 | MODRM,
	[0xe7] = P66 | MODRM | MEM | STORES,
	[0xe8 ... 0xef] = P66 | MODRM,
	[0xf0] = PF2 | MODRM | MEM,
	[0xf1 ... 0xf6] = P66 | MODRM,
	[0xf8 ... 0xfe] = P66 | MODRM,
};

/* By the ModRM byte's middle field, a bit for each value. */
struct group {
	uint8_t ok, stores;
};

static struct group group_of(bool two, uint8_t opcode)
{
	if (two)
		switch (opcode) {
		case 0x18:
			return (struct group){ 0x0f, 0 };
		case 0x1e:
			return (struct group){ 0x80, 0 };
		case 0x1f:
			return (struct group){ 0x01, 0 };
		case 0x71: case 0x72:
			return (struct group){ 0x54, 0 };
		case 0x73:
			return (struct group){ 0xcc, 0 };
		default:			/* ba */
			return (struct group){ 0xf0, 0xe0 };
		}
	switch (opcode) {
	case 0x80: case 0x81: case 0x83:
		return (struct group){ 0xff, 0x7f };
	case 0xc6: case 0xc7:
		return (struct group){ 0x01, 0x01 };
	case 0xf6: case 0xf7:
		return (struct group){ 0xfd, 0x0c };
	case 0xfe:
		return (struct group){ 0x03, 0x03 };
	case 0xff:				/* push is in neither, see scan() */
		return (struct group){ 0x43, 0x03 };
	default:				/* shifts */
		return (struct group){ 0xbf, 0xbf };
	}
}

/* Bytes of the ModRM byte, SIB byte and displacement at p. */
static unsigned int modrm_len(const uint8_t *p)
{
	unsigned int mod = p[0] >> 6, rm = p[0] & 7, len = 1;

	if (mod == 3)
		return 1;
	if (rm == 4) {
		len = 2;
		if (!mod && (p[1] & 7) == 5)
			return 6;
	} else if (!mod && rm == 5) {
		return 5;		/* relative to %rip */
	}
	return len + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

static int32_t get_imm(const uint8_t *p, unsigned int size)
{
	int32_t v;

	if (size == 1)
		return (int8_t)*p;
	__builtin_memcpy(&v, p, 4);
	return v;
}

static void branch(struct insn *in, uint8_t opcode, bool two, int32_t rel)
{
	in->cond = opcode & 15;
	if (two || opcode < 0x80)
		in->kind = INSN_JCC;
	else if (opcode == 0xe8)
		in->kind = INSN_CALL;
	else if (opcode != 0xc3)
		in->kind = INSN_JMP;
	else
		in->kind = INSN_RET;
	in->target = in->kind == INSN_RET ? 0 : in->pc + in->len + rel;
}

/* The operand is relative to %rip: its displacement is at p. */
static void riprel(struct insn *in, uint8_t opcode, bool two, uint8_t rex, const uint8_t *p)
{
	uint8_t reg = p[-1] >> 3 & 7;

	in->target = in->pc + in->len + get_imm(p, 4);
	in->kind = INSN_RIPREL;
	if (!two && opcode == 0x8d && rex & 8) {
		in->kind = INSN_LEA_RIP;
		in->reg = reg | (rex & 4) << 1;
	}
	in->modrm = p - 1 - in->bytes;
	in->encoding = ZYDIS_INSTRUCTION_ENCODING_LEGACY;
	in->addr32 = false;
	/* No byte names %rax, %rcx, %rdx and a push's %rsp; 4 to 7 can be %ah to %bh. */
	in->regs = 1 << RAX | 1 << RCX | 1 << RDX | 1 << RSP | 1 << (reg & 3) |
		   1 << (reg | (rex & 4) << 1);
}

bool scan(const uint8_t *bytes, size_t n, uint64_t pc, struct insn *in)
{
	unsigned int need = NP, i = 0, at = 0, len, imm = 0, start;
	bool cs = false, fs = false, rip = false, two, wide;
	uint8_t opcode, rex = 0;
	uint16_t f;

	for (;; i++) {
		unsigned int now;

		switch (bytes[i]) {
		case 0x66:
			now = P66;
			break;
		case 0xf3:
			now = PF3;
			break;
		case 0xf2:
			now = PF2;
			break;
		case 0x2e:
			if (cs || fs)
				return false;
			cs = true;
			continue;
		case 0x64:
			if (cs || fs)
				return false;
			fs = true;
			continue;
		default:
			now = 0;
		}
		if (!now)
			break;
		if (need != NP)
			return false;
		need = now;
	}
	start = i;
	if ((bytes[i] & 0xf0) == 0x40)
		rex = bytes[i++];
	opcode = bytes[i++];
	two = opcode == 0x0f;
	if (two)
		opcode = bytes[i++];
	f = two ? two_byte[opcode] : one_byte[opcode];
	if (!(f & need) || (cs && !(two && opcode == 0x1f)))
		return false;
	if (f & BRANCH && (start || rex))
		return false;

	in->writes = f & PUSHES;
	wide = need != P66;
	len = i;
	if (f & MODRM) {
		uint8_t modrm = bytes[i], bit = 1 << (modrm >> 3 & 7);
		bool reg = modrm >> 6 == 3;
		unsigned int more = modrm_len(bytes + i);

		if ((f & MEM && reg) || (f & REG && !reg) ||
		    (two && opcode == 0x1e && (modrm & 6) != 2))
			return false;
		rip = (modrm & 0xc7) == 5;
		at = i;
		len += more;
		if (f & GROUP) {
			const struct group g = group_of(two, opcode);

			if (!(g.ok & bit))
				return false;
			in->writes = !reg && g.stores & bit;
			if (!two && (opcode == 0xf6 || opcode == 0xf7) && bit & 0x03)
				imm = opcode == 0xf6 ? 1 : wide ? 4 : 2;
			if (!two && opcode == 0xff && bit == 0x40)
				in->writes = true;
		} else if (f & STORES) {
			/* f3 0f 7e loads. */
			in->writes = !reg && !(two && opcode == 0x7e && need == PF3);
		}
	}
	if (f & IMM8)
		imm = 1;
	else if (f & IMMZ)
		imm = wide || rex & 8 ? 4 : 2;
	else if (f & IMMV)
		imm = rex & 8 ? 8 : wide ? 4 : 2;
	else if (imm == 2 && rex & 8)
		imm = 4;
	/* Every byte that was looked at is one of these. */
	if (len + imm > n)
		return false;
	in->pc = pc;
	in->bytes = bytes;
	in->len = len + imm;
	in->target = 0;
	in->ret_pop = 0;
	in->kind = INSN_COPY;
	if (rip)
		riprel(in, opcode, two, rex, bytes + at + 1);
	else if (f & BRANCH)
		branch(in, opcode, two, imm ? get_imm(bytes + len, imm) : 0);
	return true;
}
