// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Random sequences of instructions.
 *
 * An instruction is random bytes in the shape of an encoding (legacy, VEX or
 * EVEX: prefixes, opcode map, opcode, ModRM, ...) that the decoder accepts. Its
 * memory operands are steered into the sandbox: a move of the right value into
 * the base register is put before it where the register is not known to hold
 * one already. Control flow is not left to chance, it is made of patterns:
 * forward branches, bounded loops, calls, jumps through registers, memory and
 * tables. In MODE_RWX there are also stores into instructions to come.
 *
 * A sequence depends on seed, number and mode, and on what gen_refused() was
 * told. Whether it faults is found out by running it.
 */
#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gen.h"

#define CODE_MAX (FUZZ_SLOT - 80)	/* behind it: a jump table, and the way out */

static ZydisDecoder decoder;
static uint32_t refused[ZYDIS_MNEMONIC_MAX_VALUE + 1], made[ZYDIS_MNEMONIC_MAX_VALUE + 1];
static bool learning = true, left_out[ZYDIS_MNEMONIC_MAX_VALUE + 1];

struct gen {
	uint64_t rng;
	enum fuzz_mode mode;
	uint8_t *buf;
	unsigned int at, table;
	uint64_t addr;		/* of buf[0] */
	uint64_t val[16];
	uint16_t known;		/* bit per register: val[] is right */
	uint16_t reserved;	/* must not be written: loop counters, rsp in calls */
	bool rsp_ok;		/* rsp points into the middle of the stack page */
	uint64_t fs, gs;
	bool full;
};

static uint64_t rnd(struct gen *g)
{
	return fuzz_random(&g->rng);
}

static unsigned int below(struct gen *g, unsigned int n)
{
	return (rnd(g) >> 32) % n;
}

static bool chance(struct gen *g, unsigned int percent)
{
	return below(g, 100) < percent;
}

static uint64_t here(const struct gen *g)
{
	return g->addr + g->at;
}

static void put(struct gen *g, const void *p, unsigned int n)
{
	if (g->at + n > CODE_MAX) {
		g->full = true;
		return;
	}
	memcpy(g->buf + g->at, p, n);
	g->at += n;
}

static void put8(struct gen *g, uint8_t v)
{
	put(g, &v, 1);
}

static void put32(struct gen *g, uint32_t v)
{
	put(g, &v, 4);
}

/* An address in the sandbox for an operand of that size. */
static uint64_t target(struct gen *g, unsigned int size)
{
	uint64_t t = FUZZ_DATA + 256 + rnd(g) % (3 * 4096 - 1024);

	if (chance(g, 70))
		t &= -64UL;
	else if (chance(g, 20))		/* across two pages */
		t = FUZZ_DATA + 4096 * (1 + below(g, 2)) - 1 - below(g, size > 1 ? size - 1 : 1);
	return t;
}

static bool in_sandbox(uint64_t a)
{
	return a >= FUZZ_DATA + 64 && a < FUZZ_DATA + 3 * 4096 - 600;
}

/* mov reg, v: the shortest form or another; no flags. */
static void set_reg(struct gen *g, int r, uint64_t v)
{
	if (v <= 0xffffffff && chance(g, 80)) {
		if (r >= 8)
			put8(g, 0x41);
		put8(g, 0xb8 + (r & 7));
		put32(g, v);
	} else if (v == (uint64_t)(int32_t)v && chance(g, 50)) {
		put8(g, r >= 8 ? 0x49 : 0x48);
		put8(g, 0xc7);
		put8(g, 0xc0 + (r & 7));
		put32(g, v);
	} else {
		put8(g, r >= 8 ? 0x49 : 0x48);
		put8(g, 0xb8 + (r & 7));
		put(g, &v, 8);
	}
	g->val[r] = v;
	g->known |= 1 << r;
	if (r == 4)
		g->rsp_ok = v >= FUZZ_STACK + 0x300 && v < FUZZ_STACK + 0xd00;
}

static void need_stack(struct gen *g)
{
	if (!g->rsp_ok)
		set_reg(g, 4, FUZZ_STACK + 0x800 - 8 * below(g, 4));
}

/* --- one random instruction ------------------------------------------------------- */

static int gpr(ZydisRegister r)
{
	ZydisRegister full;

	if (r == ZYDIS_REGISTER_NONE)
		return -1;
	full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r);
	if (full >= ZYDIS_REGISTER_RAX && full <= ZYDIS_REGISTER_R15)
		return full - ZYDIS_REGISTER_RAX;
	return -1;
}

static bool wanted(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
	if (in->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED)
		return false;
	switch (in->meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_SYSTEM:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_IO:
	case ZYDIS_CATEGORY_IOSTRINGOP:
	case ZYDIS_CATEGORY_RDRAND:
	case ZYDIS_CATEGORY_RDSEED:
	case ZYDIS_CATEGORY_RDPID:
	case ZYDIS_CATEGORY_RDPRU:
	case ZYDIS_CATEGORY_VTX:
	case ZYDIS_CATEGORY_SGX:
	case ZYDIS_CATEGORY_KEYLOCKER:
	case ZYDIS_CATEGORY_KEYLOCKER_WIDE:
	case ZYDIS_CATEGORY_AMX_TILE:
	case ZYDIS_CATEGORY_XSAVE:
	case ZYDIS_CATEGORY_XSAVEOPT:
	case ZYDIS_CATEGORY_CET:
	case ZYDIS_CATEGORY_WAITPKG:
	case ZYDIS_CATEGORY_ENQCMD:
	case ZYDIS_CATEGORY_PT:
	case ZYDIS_CATEGORY_UINTR:
	case ZYDIS_CATEGORY_HRESET:
	case ZYDIS_CATEGORY_PCONFIG:
	case ZYDIS_CATEGORY_PKU:
	case ZYDIS_CATEGORY_PADLOCK:
	case ZYDIS_CATEGORY_SEGOP:
	case ZYDIS_CATEGORY_XOP:
	case ZYDIS_CATEGORY_TBM:
	case ZYDIS_CATEGORY_FMA4:
	case ZYDIS_CATEGORY_KNC:
	case ZYDIS_CATEGORY_KNCMASK:
	case ZYDIS_CATEGORY_KNCSCALAR:
	case ZYDIS_CATEGORY_MPX:
	case ZYDIS_CATEGORY_SMAP:
	case ZYDIS_CATEGORY_TSX_LDTRK:
		return false;
	default:
		break;
	}
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_XGETBV:
	case ZYDIS_MNEMONIC_FNSTENV:	/* these store FIP, a host address */
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
	case ZYDIS_MNEMONIC_SLDT:
	case ZYDIS_MNEMONIC_STR:
	case ZYDIS_MNEMONIC_SGDT:
	case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_SMSW:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_MONITOR:
	case ZYDIS_MNEMONIC_MONITORX:
	case ZYDIS_MNEMONIC_MWAIT:
	case ZYDIS_MNEMONIC_MWAITX:
	case ZYDIS_MNEMONIC_VMMCALL:
	case ZYDIS_MNEMONIC_VMCALL:
	case ZYDIS_MNEMONIC_XBEGIN:
	case ZYDIS_MNEMONIC_XABORT:
	case ZYDIS_MNEMONIC_XEND:
	case ZYDIS_MNEMONIC_XTEST:
	case ZYDIS_MNEMONIC_LLWPCB:
	case ZYDIS_MNEMONIC_SLWPCB:
	case ZYDIS_MNEMONIC_CLZERO:
	case ZYDIS_MNEMONIC_MOVDIR64B:	/* its address is no memory operand */
	case ZYDIS_MNEMONIC_STI:
	case ZYDIS_MNEMONIC_CLI:
	case ZYDIS_MNEMONIC_WRGSBASE:
	case ZYDIS_MNEMONIC_WRFSBASE:	/* made by a pattern of their own */
		return false;
	default:
		break;
	}
	if (left_out[in->mnemonic])
		return false;
	if (refused[in->mnemonic] >= 3 && refused[in->mnemonic] * 2 > made[in->mnemonic])
		return false;
	/*
	 * vpbroadcastb %esp, %xmm right after a push has been seen to read the
	 * %rsp before the push, on the first execution only (AMD, AVX-512): native
	 * runs differ from themselves.
	 */
	if (in->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
	    in->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		for (int i = 0; i < in->operand_count_visible; i++)
			if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && gpr(op[i].reg.value) == 4)
				return false;
	for (int i = 0; i < in->operand_count; i++)	/* segment and other system registers */
		if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    op[i].reg.value >= ZYDIS_REGISTER_ES && op[i].reg.value <= ZYDIS_REGISTER_GS)
			return false;
	return true;
}

/* Random bytes in the shape of an instruction. */
static void shape(struct gen *g, uint8_t *b)
{
	static const uint8_t pfx[] = { 0x66, 0x66, 0x66, 0xf2, 0xf3, 0xf2, 0xf3, 0xf0, 0x67, 0x2e,
				       0x36, 0x3e, 0x26, 0x64, 0x65 };
	unsigned int n = 0, kind = below(g, 100);

	for (int i = 0; i < 15; i += 8) {
		uint64_t r = rnd(g);

		memcpy(b + i, &r, i ? 7 : 8);
	}
	if (kind < 70) {
		uint8_t tail[15];
		unsigned int k = 0, map = below(g, 100);

		memcpy(tail, b, 15);
		if (chance(g, 45))
			do
				b[n++] = pfx[below(g, sizeof(pfx))];
			while (n < 4 && chance(g, 25));
		if (chance(g, 55))
			b[n++] = 0x40 | below(g, 16);
		if (map >= 50) {
			b[n++] = 0x0f;
			if (map >= 90)
				b[n++] = chance(g, 60) ? 0x38 : 0x3a;
		}
		while (n < 15)
			b[n++] = tail[k++];
	} else if (kind < 85) {
		if (chance(g, 50)) {
			b[0] = 0xc5;
			n = 2;
		} else {
			b[0] = 0xc4;
			b[1] = (b[1] & 0xe0) | (1 + below(g, 3));
			n = 3;
		}
		if (chance(g, 50))	/* vvvv unused: one in sixteen by chance is too few */
			b[n - 1] |= 0x78;
	} else {
		b[0] = 0x62;
		b[1] = (b[1] & 0xf0) | (1 + below(g, 3));
		b[2] |= 4;
		if (chance(g, 40)) {
			b[2] |= 0x78;
			b[3] |= 8;
		}
		if (chance(g, 50))
			b[3] &= ~0x97;	/* no broadcast, mask k0, merge */
		if (chance(g, 70))
			b[3] &= ~0x60;
	}
}

/* vmovdqu of a vector register from the constants */
static void load_index(struct gen *g, ZydisRegister v)
{
	uint64_t from = FUZZ_CONST + below(g, 32) * 64;
	int r;

	if (v >= ZYDIS_REGISTER_ZMM0) {
		r = v - ZYDIS_REGISTER_ZMM0;
	} else if (v >= ZYDIS_REGISTER_YMM0) {
		r = v - ZYDIS_REGISTER_YMM0;
	} else {
		r = v - ZYDIS_REGISTER_XMM0;
	}
	if (v >= ZYDIS_REGISTER_ZMM0 || r >= 16) {
		put8(g, 0x62);	/* vmovdqu64 zmm, [abs] */
		put8(g, 0x61 | (r & 8 ? 0 : 0x80) | (r & 16 ? 0 : 0x10));
		put8(g, 0xfe);
		put8(g, 0x48);
	} else {
		put8(g, 0xc5);	/* vmovdqu ymm, [abs] */
		put8(g, r & 8 ? 0x7e : 0xfe);
	}
	put8(g, 0x6f);
	put8(g, (r & 7) << 3 | 4);
	put8(g, 0x25);
	put32(g, from);
}

/*
 * Make one memory operand point into the sandbox. b holds the instruction, not
 * yet emitted; RIP-relative and absolute ones are done when it is.
 */
static bool steer(struct gen *g, const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
	const ZydisDecodedOperandMem *m = &op->mem;
	int base = gpr(m->base), index = gpr(m->index);
	unsigned int size = op->size / 8 ?: 1;
	uint64_t mask = in->address_width == 32 ? 0xffffffff : ~0ULL;
	uint64_t seg = m->segment == ZYDIS_REGISTER_FS ? g->fs :
		       m->segment == ZYDIS_REGISTER_GS ? g->gs : 0;
	uint64_t disp = m->disp.has_displacement ? m->disp.value : 0, idx = 0, want;

	if (m->type == ZYDIS_MEMOP_TYPE_AGEN)
		return true;
	if (m->base == ZYDIS_REGISTER_RIP || m->base == ZYDIS_REGISTER_EIP)
		return true;
	if (base == 4) {
		need_stack(g);
		/* the stack page ends the sandbox: keep away from its end */
		return index < 0 && !seg && (int64_t)disp >= -0x200 && (int64_t)disp <= 0x180;
	}
	if (m->type == ZYDIS_MEMOP_TYPE_VSIB) {
		load_index(g, m->index);
		if (base < 0)
			return false;
		idx = 0;
		size = 64 * m->scale + 64;
		index = -1;
	}
	if (index >= 0 && index == base) {
		if (index == 4 || (g->reserved >> index & 1))
			return false;
		want = (target(g, 1) - disp - seg) / (1 + m->scale);
		set_reg(g, index, want & mask);
		return true;
	}
	if (index >= 0 && index != 4) {
		uint64_t k = g->val[index] & mask;

		if (op->mem.index >= ZYDIS_REGISTER_AL && op->mem.index <= ZYDIS_REGISTER_R15B) {
			idx = 0;	/* xlat: al is small whatever it is */
			size = 256;
		} else {
			if (!(g->known >> index & 1) || k > 64) {
				if (g->reserved >> index & 1)
					return false;
				k = below(g, 33);
				if (mask != ~0ULL && chance(g, 50))
					k |= rnd(g) << 32;	/* ignored by a 32-bit address */
				set_reg(g, index, k);
				k &= mask;
			}
			idx = k * m->scale;
		}
	}
	if (base < 0) {
		if (index < 0)
			return true;	/* absolute */
		/* index*scale + disp32 only: the displacement is what is steered, below */
		return true;
	}
	if ((g->known >> base & 1) && in_sandbox(((g->val[base] + disp + idx) & mask) + seg))
		return true;
	if (g->reserved >> base & 1)
		return false;
	want = (target(g, size) - disp - idx - seg) & mask;
	if (mask != ~0ULL && chance(g, 50))
		want |= rnd(g) << 32;
	set_reg(g, base, want);
	return true;
}

/* Displacements of RIP-relative and absolute operands, once the place is known. */
static bool fix_displacement(struct gen *g, uint8_t *b, const ZydisDecodedInstruction *in,
			     const ZydisDecodedOperand *op)
{
	for (int i = 0; i < in->operand_count; i++) {
		const ZydisDecodedOperandMem *m = &op[i].mem;
		uint64_t t, seg;
		int index = -1;
		int32_t d;

		if (op[i].type != ZYDIS_OPERAND_TYPE_MEMORY || gpr(m->base) >= 0 || !in->raw.disp.size)
			continue;
		seg = m->segment == ZYDIS_REGISTER_FS ? g->fs :
		      m->segment == ZYDIS_REGISTER_GS ? g->gs : 0;
		t = target(g, op[i].size / 8 ?: 1) - seg;
		if (m->type != ZYDIS_MEMOP_TYPE_AGEN) {
			index = gpr(m->index);
			if (index >= 0)
				t -= (in->address_width == 32 ? (uint32_t)g->val[index] :
				      g->val[index]) * m->scale;
		}
		if (m->base == ZYDIS_REGISTER_RIP || m->base == ZYDIS_REGISTER_EIP)
			t -= here(g) + in->length;
		if (in->raw.disp.size == 64) {
			memcpy(b + in->raw.disp.offset, &t, 8);
			continue;
		}
		if (in->raw.disp.size != 32)
			return false;
		d = t;
		if (in->address_width == 64 && (uint64_t)(int64_t)d != t)
			return false;
		memcpy(b + in->raw.disp.offset, &d, 4);
	}
	return true;
}

static bool has_hidden_rcx_count(const ZydisDecodedInstruction *in)
{
	return in->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

/* One attempt. False: nothing that counts was emitted, try again. */
static bool try_random(struct gen *g)
{
	ZydisDecodedInstruction in, again;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	struct gen save = *g;
	uint8_t b[16];

	shape(g, b);
	save.rng = g->rng;
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, b, 15, &in, op)) || !wanted(&in, op))
		return false;
	for (int i = 0; i < in.operand_count; i++)
		if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)) {
			int r = gpr(op[i].reg.value);

			if (r >= 0 && (g->reserved >> r & 1))
				return false;
		}
	/* a bit offset in a register reaches far beyond the operand */
	if ((in.mnemonic == ZYDIS_MNEMONIC_BT || in.mnemonic == ZYDIS_MNEMONIC_BTS ||
	     in.mnemonic == ZYDIS_MNEMONIC_BTR || in.mnemonic == ZYDIS_MNEMONIC_BTC) &&
	    op[0].type == ZYDIS_OPERAND_TYPE_MEMORY && op[1].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		int r = gpr(op[1].reg.value);

		if (r == 4 || (g->reserved >> r & 1) || r == gpr(op[0].mem.base) ||
		    r == gpr(op[0].mem.index))
			return false;
		set_reg(g, r, below(g, 1024));
	}
	if (has_hidden_rcx_count(&in)) {
		if (g->reserved & 2)
			return false;
		set_reg(g, 1, below(g, 24) | (in.address_width == 32 && chance(g, 50) ? rnd(g) << 32 : 0));
	}
	if (in.mnemonic == ZYDIS_MNEMONIC_ENTER) {
		b[in.length - 3] &= 0x7f;
		b[in.length - 2] = 0;
		b[in.length - 1] = below(g, 4);
	}
	for (int i = 0; i < in.operand_count; i++)
		if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && !steer(g, &in, &op[i])) {
			*g = save;
			return false;
		}
	if (!fix_displacement(g, b, &in, op) ||
	    !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, b, in.length, &again, op)) ||
	    again.length != in.length || again.mnemonic != in.mnemonic) {
		*g = save;
		return false;
	}
	put(g, b, in.length);
	if (learning)
		made[in.mnemonic]++;
	/* what is known afterwards */
	for (int i = 0; i < in.operand_count; i++) {
		int r;

		if (op[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		r = gpr(op[i].reg.value);
		if (r < 0)
			continue;
		g->known &= ~(1 << r);
		if (r == 4 && op[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
			g->rsp_ok = false;
		if (r == 4 && (in.mnemonic == ZYDIS_MNEMONIC_LEAVE || in.mnemonic == ZYDIS_MNEMONIC_ENTER))
			g->rsp_ok = false;
	}
	return true;
}

static void random_insn(struct gen *g)
{
	for (int i = 0; i < 1000 && !g->full; i++)
		if (try_random(g))
			return;
}

/* --- patterns ------------------------------------------------------------------------ */

static void element(struct gen *g, unsigned int depth);

static void body(struct gen *g, unsigned int depth)
{
	unsigned int n = 1 + below(g, 3);

	while (n-- && !g->full)
		element(g, depth + 1);
}

/* A rel8 or rel32 at "at" that leads to where we are now. */
static void patch_rel(struct gen *g, unsigned int at, unsigned int size)
{
	int rel = g->at - (at + size);

	if (g->full)
		return;
	if (size == 1) {
		if (rel > 127) {
			g->full = true;
			return;
		}
		g->buf[at] = rel;
	} else {
		memcpy(g->buf + at, &rel, 4);
	}
}

static void forget(struct gen *g)
{
	g->known &= g->reserved;
	if (!(g->reserved & 0x10))
		g->rsp_ok = false;
}

/* A register that patterns may use; not rsp, not reserved. */
static int free_reg(struct gen *g)
{
	int r;

	do
		r = below(g, 16);
	while (r == 4 || (g->reserved >> r & 1));
	return r;
}

static void forward_branch(struct gen *g, unsigned int depth)
{
	unsigned int size = chance(g, 70) ? 1 : 4, at, kind = below(g, 10);

	if (kind == 0) {			/* jrcxz, jecxz */
		if (chance(g, 50))
			put8(g, 0x67);
		put8(g, 0xe3);
		size = 1;
	} else if (kind == 1) {			/* jmp */
		put8(g, size == 1 ? 0xeb : 0xe9);
	} else if (kind == 2 && !(g->reserved & 2)) {	/* loopcc forward */
		put8(g, 0xe0 + below(g, 3));
		g->known &= ~2;
		size = 1;
	} else {
		if (chance(g, 10))
			put8(g, chance(g, 50) ? 0x2e : 0x3e);
		if (size == 4)
			put8(g, 0x0f);
		put8(g, (size == 1 ? 0x70 : 0x80) + below(g, 16));
	}
	at = g->at;
	put(g, "\0\0\0\0", size);
	body(g, depth);
	patch_rel(g, at, size);
	forget(g);
}

static void bounded_loop(struct gen *g, unsigned int depth)
{
	bool with_loop = chance(g, 40) && !(g->reserved & 2);
	int r = with_loop ? 1 : free_reg(g);
	unsigned int top;
	int rel;

	set_reg(g, r, 1 + below(g, 12));
	forget(g);
	g->known &= ~(1 << r);
	g->reserved |= 1 << r;
	top = g->at;
	body(g, depth);
	g->reserved &= ~(1 << r);
	if (with_loop) {
		put8(g, 0xe2 - (chance(g, 30) ? 1 + below(g, 2) : 0));
	} else {
		put8(g, 0x48 | (r >= 8));
		if (chance(g, 50)) {
			put8(g, 0xff);		/* dec */
			put8(g, 0xc8 | (r & 7));
		} else {
			put8(g, 0x83);		/* sub $1 */
			put8(g, 0xe8 | (r & 7));
			put8(g, 1);
		}
		if (chance(g, 50) || (int)(top - g->at) < -100) {
			put8(g, 0x0f);
			put8(g, 0x85);
			rel = top - (g->at + 4);
			put32(g, rel);
			forget(g);
			return;
		}
		put8(g, 0x75);
	}
	rel = top - (g->at + 1);
	if (rel < -128)
		g->full = true;
	put8(g, rel);
	forget(g);
}

/* call F; jmp over; F: body; ret - direct, through a register or through memory */
static void call_and_ret(struct gen *g, unsigned int depth)
{
	unsigned int at_call, at_over, kind = below(g, 3);
	bool by_imm = chance(g, 20);
	int r = free_reg(g);

	need_stack(g);
	if (by_imm) {	/* ret 16 takes two more words */
		put(g, "\x6a\x01\x6a\x02", 4);
	}
	if (kind == 0) {
		put8(g, 0xe8);
		at_call = g->at;
		put32(g, 0);
	} else {
		/* lea r, [rip+F]; call r, or push r; call [rsp]; pop */
		put8(g, 0x48 | (r >= 8) << 2);
		put8(g, 0x8d);
		put8(g, 5 | (r & 7) << 3);
		at_call = g->at;
		put32(g, 0);
		if (kind == 1 || by_imm) {
			if (r >= 8)
				put8(g, 0x41);
			put8(g, 0xff);
			put8(g, 0xd0 | (r & 7));
		} else {
			if (r >= 8)
				put8(g, 0x41);
			put8(g, 0x50 | (r & 7));
			put(g, "\xff\x14\x24", 3);	/* call [rsp] */
			put(g, "\x48\x8d\x64\x24\x08", 5);	/* lea rsp, [rsp+8] */
		}
		g->known &= ~(1 << r);
	}
	put8(g, 0xe9);
	at_over = g->at;
	put32(g, 0);
	patch_rel(g, at_call, 4);
	forget(g);
	g->rsp_ok = true;
	g->reserved |= 0x10;
	body(g, depth);
	g->reserved &= ~0x10;
	if (by_imm)
		put(g, "\xc2\x10\x00", 3);
	else if (chance(g, 20))
		put(g, "\xf3\xc3", 2);
	else
		put8(g, 0xc3);
	patch_rel(g, at_over, 4);
	forget(g);
}

/* lea r, [rip+T]; jmp r / push r; ret / jmp [stack] */
static void indirect_jump(struct gen *g, unsigned int depth)
{
	int r = free_reg(g);
	unsigned int at;

	need_stack(g);
	put8(g, 0x48 | (r >= 8) << 2);
	put8(g, 0x8d);
	put8(g, 5 | (r & 7) << 3);
	at = g->at;
	put32(g, 0);
	switch (below(g, 3)) {
	case 0:
		if (r >= 8)
			put8(g, 0x41);
		put8(g, 0xff);
		put8(g, 0xe0 | (r & 7));
		break;
	case 1:
		if (r >= 8)
			put8(g, 0x41);
		put8(g, 0x50 | (r & 7));
		put8(g, 0xc3);
		break;
	default:
		/* mov [rsp-8], r; jmp [rsp-8]: through the red zone */
		put8(g, 0x48 | (r >= 8) << 2);
		put8(g, 0x89);
		put8(g, 0x44 | (r & 7) << 3);
		put(g, "\x24\xf8\xff\x64\x24\xf8", 6);
	}
	body(g, depth);		/* skipped */
	patch_rel(g, at, 4);
	forget(g);
	g->rsp_ok = false;
}

/* and r, 3; jmp [r*8 + table] - or through a base register, or RIP-relative */
static void table_jump(struct gen *g, unsigned int depth)
{
	uint64_t table = g->addr + FUZZ_SLOT - 48;
	unsigned int at[4];
	int r = free_reg(g);

	if (g->table) {
		random_insn(g);
		return;
	}
	g->table = 1;
	put8(g, 0x48 | (r >= 8));
	put8(g, 0x83);
	put8(g, 0xe0 | (r & 7));
	put8(g, 3);
	if (r >= 8)
		put8(g, 0x42);
	put(g, "\xff\x24", 2);
	put8(g, 0xc5 | (r & 7) << 3);
	put32(g, table);
	for (int i = 0; i < 4 && !g->full; i++) {
		uint64_t t = here(g);

		memcpy(g->buf + FUZZ_SLOT - 48 + 8 * i, &t, 8);
		forget(g);
		if (i < 3) {
			random_insn(g);
			put8(g, 0xe9);
			at[i] = g->at;
			put32(g, 0);
		}
	}
	random_insn(g);
	for (int i = 0; i < 3 && !g->full; i++)
		patch_rel(g, at[i], 4);
	forget(g);
}

static void segment_base(struct gen *g)
{
	int r = free_reg(g);
	bool is_gs = chance(g, 50);
	uint64_t v = FUZZ_DATA + 0x400 + 64 * below(g, 64);

	set_reg(g, r, v);
	put8(g, 0xf3);
	put8(g, 0x48 | (r >= 8));
	put(g, "\x0f\xae", 2);
	put8(g, (is_gs ? 0xd8 : 0xd0) | (r & 7));
	/* in a branch it may or may not happen: both must be in the sandbox */
	*(is_gs ? &g->gs : &g->fs) = v;
}

/*
 * A store into the immediate of an instruction to come, of any value: by many
 * kinds of stores, from next to it or some instructions before.
 */
static void patch_ahead(struct gen *g)
{
	unsigned int kind = below(g, 12), at_disp = 0, end = 0, n, off;
	int r = free_reg(g), src = free_reg(g);
	bool wide = kind == 6 || kind == 8 || kind == 11;
	int rel;

	switch (kind) {
	case 0:		/* mov dword [rip+d], imm32 */
		put(g, "\xc7\x05", 2);
		at_disp = g->at;
		put32(g, 0);
		put32(g, rnd(g));
		break;
	case 1:		/* mov [rip+d], src */
	case 2:		/* xchg */
	case 3:		/* lock add */
	case 4:		/* lock xadd */
	case 5:		/* xor */
		if (kind == 3 || kind == 4)
			put8(g, 0xf0);
		if (src >= 8)
			put8(g, 0x44);
		if (kind == 4) {
			put(g, "\x0f\xc1", 2);
		} else {
			put8(g, kind == 1 ? 0x89 : kind == 2 ? 0x87 : kind == 3 ? 0x01 : 0x31);
		}
		put8(g, 5 | (src & 7) << 3);
		at_disp = g->at;
		put32(g, 0);
		g->known &= ~(1 << src);
		break;
	case 6:		/* movq [rip+d], xmm */
		put(g, "\x66\x0f\xd6", 3);
		put8(g, 5 | below(g, 8) << 3);
		at_disp = g->at;
		put32(g, 0);
		break;
	case 7:		/* mov byte */
		put(g, "\xc6\x05", 2);
		at_disp = g->at;
		put32(g, 0);
		put8(g, rnd(g));
		break;
	case 8:		/* fistp qword: whatever st0 holds */
		put(g, "\xdf\x3d", 2);
		at_disp = g->at;
		put32(g, 0);
		break;
	case 9:		/* movd [rip+d], xmm */
		put(g, "\x66\x0f\x7e", 3);
		put8(g, 5 | below(g, 8) << 3);
		at_disp = g->at;
		put32(g, 0);
		break;
	case 10:	/* inc dword */
		put(g, "\xff\x05", 2);
		at_disp = g->at;
		put32(g, 0);
		break;
	default:	/* pop qword [rip+d] */
		need_stack(g);
		put(g, "\x8f\x05", 2);
		at_disp = g->at;
		put32(g, 0);
	}
	end = g->at;
	for (n = below(g, 4); n && !g->full; n--)
		random_insn(g);
	if (wide) {
		put8(g, 0x48 | (r >= 8));
		put8(g, 0xb8 | (r & 7));
		off = g->at;
		put(g, "\1\2\3\4\5\6\7\10", 8);
	} else {
		if (r >= 8)
			put8(g, 0x41);
		put8(g, 0xb8 | (r & 7));
		off = g->at;
		put32(g, rnd(g));
	}
	g->known &= ~(1 << r);
	if (g->full)
		return;
	rel = off - end + (kind == 7 ? below(g, 4) : 0);
	memcpy(g->buf + at_disp, &rel, 4);
}

static void element(struct gen *g, unsigned int depth)
{
	unsigned int k = below(g, 100);

	if (depth > 2 || k < 68)
		random_insn(g);
	else if (g->mode == MODE_RWX && k < 82)
		patch_ahead(g);
	else if (k < 78)
		forward_branch(g, depth);
	else if (k < 84)
		bounded_loop(g, depth);
	else if (g->reserved & 0x10)
		random_insn(g);
	else if (k < 90)
		call_and_ret(g, depth);
	else if (k < 95)
		indirect_jump(g, depth);
	else if (k < 97)
		table_jump(g, depth);
	else
		segment_base(g);
}

void gen_sequence(uint64_t seed, uint32_t nr, enum fuzz_mode mode, uint8_t *slot)
{
	static const uint8_t way_out[] = { 0xff, 0x24, 0x25 };	/* jmp [abs] */
	struct fuzz_state s;
	struct gen g = {
		.rng = fuzz_start(seed, nr, 3 + mode),
		.mode = mode,
		.buf = slot,
		.addr = FUZZ_CODE + nr * FUZZ_SLOT,
	};
	uint32_t exit_at = FUZZ_EXIT;
	unsigned int n;

	memset(slot, 0xcc, FUZZ_SLOT);
	fuzz_init_gprs(seed, nr, &s);
	memcpy(g.val, s.gpr, sizeof(g.val));
	g.known = 0xffff;
	g.rsp_ok = true;
	g.fs = s.fs;
	g.gs = s.gs;
	for (n = 1 + below(&g, 8); n; n--) {
		struct gen save = g;

		element(&g, 0);
		if (g.full) {	/* no room: as if it had not been tried */
			memset(slot + save.at, 0xcc, CODE_MAX - save.at);
			save.table = g.table;
			g = save;
			break;
		}
	}
	memcpy(slot + g.at, way_out, 3);
	memcpy(slot + g.at + 3, &exit_at, 4);
}

/* --- reading slots --------------------------------------------------------------------- */

void gen_init(void)
{
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

void gen_leave_out(const char *mnemonic)
{
	for (int i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
		if (!strcmp(ZydisMnemonicGetString(i), mnemonic))
			left_out[i] = true;
}

void gen_learned(void)
{
	learning = false;
}

void gen_refused(const uint8_t *slot, unsigned int offset)
{
	ZydisDecodedInstruction in;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

	if (learning && offset < CODE_MAX &&
	    ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, slot + offset, 15, &in, op)))
		refused[in.mnemonic]++;
}

static bool is_way_out(const uint8_t *p)
{
	return p[0] == 0xff && p[1] == 0x24 && p[2] == 0x25;
}

int gen_bounds(const uint8_t *slot, uint16_t *start, int max)
{
	ZydisDecodedInstruction in;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	unsigned int at = 0;
	int n = 0;

	while (at < CODE_MAX && n < max && !is_way_out(slot + at)) {
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, slot + at, 15, &in, op)))
			break;
		start[n++] = at;
		at += in.length;
	}
	if (n < max)
		start[n] = at;
	return n;
}

char *gen_disassemble(const uint8_t *slot)
{
	ZydisFormatter fmt;
	uint16_t start[FUZZ_SLOT + 1];
	int n = gen_bounds(slot, start, FUZZ_SLOT);
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_ATT);
	for (int i = 0; i < n; i++) {
		ZydisDecodedInstruction in;
		ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
		char line[200] = "?";

		if (slot[start[i]] == 0x90)	/* what the reduction took out */
			continue;
		ZydisDecoderDecodeFull(&decoder, slot + start[i], 15, &in, op);
		ZydisFormatterFormatInstruction(&fmt, &in, op, in.operand_count_visible, line,
						sizeof(line), start[i], NULL);
		fprintf(f, "#   %03x: ", start[i]);
		for (int k = 0; k < in.length; k++)
			fprintf(f, "%02x", slot[start[i] + k]);
		fprintf(f, "%*s%s\n", 32 - 2 * in.length, "", line);
	}
	fclose(f);
	return text;
}
