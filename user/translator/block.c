// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The host code of one block. Instructions are copied; only what names %rip or
 * %gs, changes control flow or may not run as it is gets other code, none of
 * which touches the guest's stack (besides a call's own push) or flags.
 *
 * Called by translate.c with rt_lock held, and by smc.c for steps.
 *
 * Layout: the body; constants; for checked blocks the check, which is the entry and
 * jumps to the body. What chained jumps led to before are stubs elsewhere (cache.c).
 */
#include <cpuid.h>
#include <signal.h>
#include <string.h>

#include "block.h"
#include "hot.h"
#include "restless.h"
#include "stylized.h"

#define STEP_MAX_HOST 512	/* more than one instruction and its exits need */

static bool have_rtm(void)
{
	static int known;
	unsigned int a, b, c, d;

	if (!known) {
		known = 1;
		if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & (1U << 11))
			known = 2;
	}
	return known == 2;
}

/* 48: REX.W, and the bit for JUMP_REG. */
#define JUMP_REX(bit) (0x48 | (JUMP_REG >= 8 ? (bit) : 0))

/* ---- pieces ---------------------------------------------------------------- */

/* The way out by this exit; cache.c knows the form. */
static void emit_stub(struct emit *e, const struct tb_exit *x)
{
	static const uint8_t movl[] = { 0x65, 0xc7, 0x04, 0x25 };	/* $imm32, %gs:d32 */

	emit_bytes(e, movl, sizeof(movl));
	emit_u32(e, CPU_EXIT_DESC);
	emit_u32(e, (const char *)x - core_exit);
	emit_jmp(e, core_exit);
}

/* There is room for TB_MAX_EXITS, more than any block has. */
static struct tb_exit *new_exit(struct block *b, enum tb_exit_kind kind, uint64_t pc)
{
	unsigned int nr = b->tb->exits++;
	struct tb_exit *x = &b->tb->exit[nr];

	*x = (struct tb_exit){ .pc = pc, .kind = kind, .nr = nr };
	return x;
}

/* A jump that can be chained; it leads to its own stub (emit_stub_of()) first. */
static struct tb_exit *emit_slot(struct block *b, enum tb_exit_kind kind, unsigned int opcode,
				 uint64_t pc)
{
	struct tb_exit *x = new_exit(b, kind, pc);

	b->tb->cm.jumps = x->nr + 1;
	b->jump[x->nr] = emit_jump_slot(&b->e, opcode);
	return x;
}

static void emit_exit_jump(struct block *b, unsigned int opcode, uint64_t target)
{
	emit_slot(b, TBX_JUMP, opcode, target);
}

static void emit_stub_of(struct block *b, struct tb_exit *x)
{
	uint8_t *jump = b->jump[x->nr];
	struct emit stub;

	if (b->e.full)
		return;
	stub = cache_stub();
	x->jump = jump - b->start;
	x->stub = stub.p - b->start;
	emit_rel32(jump, stub.p);
	emit_stub(&stub, x);
}

/*
 * Does the block go on behind this conditional jump? Not behind one back: that is a
 * loop's end, which is passed once for all its rounds.
 */
static bool goes_on(const struct block *b, const struct insn *jcc)
{
	return !core_opts.no_superblocks && b->side < TB_MAX_SIDE && jcc->target > jcc->pc &&
	       !(b->tb->flags & (TB_STEP | TB_CHECKED));
}

/* A stub with an exit of its own, here and now. */
static struct tb_exit *emit_exit(struct block *b, enum tb_exit_kind kind, uint64_t pc)
{
	struct tb_exit *x = new_exit(b, kind, pc);

	emit_stub(&b->e, x);
	return x;
}

/* Here is what may fault, with the guest's value of reg in the spill slot. */
static void spilled(struct block *b, struct insn_map *m, int reg, unsigned int slot)
{
	unsigned int main = b->e.p - b->start - m->host;

	m->main = main;
	m->reg = reg;
	m->slot = slot;
	if (m->main != main)
		__builtin_trap();
}

static bool fits32(uint64_t v)
{
	return v == (uint64_t)(int64_t)(int32_t)v;
}

void emit_op_mem(struct emit *e, uint8_t opcode, int reg, const struct insn *in,
		 bool fs)
{
	const ZydisDecodedOperandMem *m = &in->op[in->mem].mem;
	int base = decode_gpr(m->base), index = decode_gpr(m->index);
	int32_t disp = m->disp.has_displacement ? m->disp.value : 0;
	uint8_t rex = 0x48 | reg >> 3 << 2;
	unsigned int scale = m->scale == 8 ? 3 : m->scale == 4 ? 2 : m->scale == 2;

	if (fs)
		emit_u8(e, 0x64);
	if (in->z.address_width == 32)
		emit_u8(e, 0x67);
	if (index >= 8)
		rex |= 2;
	if (base >= 8)
		rex |= 1;
	emit_u8(e, rex);
	emit_u8(e, opcode);
	emit_u8(e, (base < 0 ? 0x04 : 0x84) | (reg & 7) << 3);
	emit_u8(e, scale << 6 | (index < 0 ? 4 : index & 7) << 3 |
		(base < 0 ? 5 : base & 7));
	emit_u32(e, disp);
}

/* %reg = %reg + guest's %gs base, by way of tmp */
static void emit_add_guest_gs(struct emit *e, int reg, int tmp)
{
	emit_gs_store(e, tmp, CPU_SCR(SCR_ADDR2));
	emit_gs_load(e, tmp, CPU_GUEST_GS);
	emit_lea_sum(e, reg, reg, tmp);
	emit_gs_load(e, tmp, CPU_SCR(SCR_ADDR2));
}

static bool is_riprel(const struct insn *in)
{
	ZydisRegister base = in->op[in->mem].mem.base;

	return base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP;
}

/* ---- instructions ------------------------------------------------------------ */

static void insn_riprel(struct block *b, const struct insn *in, struct insn_map *m)
{
	struct emit *e = &b->e;
	int64_t rel = (int64_t)(in->target - ((uint64_t)e->p + in->len));
	int reg;

	/* The absolute form has a SIB byte more; 15 bytes is the most there can be. */
	if (fits32(in->target) && in->len < 15) {
		emit_with_mem(e, in, EMIT_ABSOLUTE, in->target, false);
		return;
	}
	if (!in->addr32 && rel == (int32_t)rel) {
		uint8_t *at = e->p + in->modrm + 1;

		emit_bytes(e, in->bytes, in->len);
		if (!e->full)
			memcpy(at, &(int32_t){ rel }, 4);
		return;
	}
	reg = decode_free_reg(in, 0);
	emit_gs_store(e, reg, CPU_SCR(SCR_ADDR));
	emit_mov_imm(e, reg, in->target);
	spilled(b, m, reg, SCR_ADDR);
	emit_with_mem(e, in, reg, 0, false);
	emit_gs_load(e, reg, CPU_SCR(SCR_ADDR));
}

static void insn_gs(struct block *b, const struct insn *in, struct insn_map *m)
{
	struct emit *e = &b->e;
	int reg = decode_free_reg(in, 0);
	int tmp = reg == RAX ? RCX : RAX;	/* has its own value again in time */

	emit_gs_store(e, reg, CPU_SCR(SCR_ADDR));
	if (is_riprel(in))
		emit_mov_imm(e, reg, in->target);
	else
		emit_op_mem(e, 0x8d, reg, in, false);
	emit_add_guest_gs(e, reg, tmp);
	spilled(b, m, reg, SCR_ADDR);
	emit_with_mem(e, in, reg, 0, true);
	emit_gs_load(e, reg, CPU_SCR(SCR_ADDR));
}

static void emit_push(struct block *b, uint64_t value)
{
	struct emit *e = &b->e;

	if (fits32(value)) {
		emit_u8(e, 0x68);
		emit_u32(e, value);
		return;
	}
	emit_u8(e, 0xff);		/* push constant(%rip) */
	emit_u8(e, 0x35);
	b->const_at[b->consts] = e->p;
	b->const_val[b->consts++] = value;
	emit_u32(e, 0);
}

/* The operand's address to reg, then the load through it that is given. */
static void emit_load_by(struct emit *e, int reg, const struct insn *in, const uint8_t *load,
			 size_t n)
{
	if (is_riprel(in))
		emit_mov_imm(e, reg, in->target);
	else
		emit_op_mem(e, 0x8d, reg, in, false);
	if (in->z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
		emit_add_guest_gs(e, reg, RCX);
	if (in->z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
		emit_u8(e, 0x64);
	emit_bytes(e, load, n);
}

/* The target of an indirect branch to JUMP_REG, whose own value is in SCR_INDIRECT. */
static void emit_target(struct block *b, const struct insn *in, struct insn_map *m)
{
	/* mov (JUMP_REG), JUMP_REG */
	static const uint8_t load[] = { JUMP_REX(4) | JUMP_REX(1), 0x8b, (JUMP_REG & 7) * 9 };
	struct emit *e = &b->e;
	int reg;

	emit_gs_store(e, JUMP_REG, CPU_SCR(SCR_INDIRECT));
	spilled(b, m, JUMP_REG, SCR_INDIRECT);
	if (in->mem < 0) {
		reg = decode_gpr(in->op[0].reg.value);
		emit_u8(e, JUMP_REX(4) | reg >> 3);
		emit_u8(e, 0x8b);
		emit_u8(e, 0xc0 | (JUMP_REG & 7) << 3 | (reg & 7));
		return;
	}
	if (!is_riprel(in) && !(in->z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)) {
		emit_op_mem(e, 0x8b, JUMP_REG, in,
			    in->z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS);
		return;
	}
	emit_load_by(e, JUMP_REG, in, load, sizeof(load));
}

/*
 * JUMP_REG: target, its own value in SCR_INDIRECT. Through the jump cache to a check
 * (emit_jc_entry()) that it is the right one: so each of the guest's indirect
 * jumps has a jump of its own, which the processor predicts.
 */
static void jump_to_reg(struct block *b)
{
	/* movzwl JUMP_REG, %ecx */
	static const uint8_t movzwl[] = { JUMP_REX(1), 0x0f, 0xb7, 0xc8 | (JUMP_REG & 7) };
	/* pext mask(%rip), JUMP_REG, %ecx: the low bits, and no flag changes */
	static const uint8_t pext[] = { 0xc4, 0xe2, (~JUMP_REG & 15) << 3 | 2, 0xf5, 0x0d };
	static const uint8_t jmp[] = { 0x65, 0xff, 0x24, 0xcd };	/* *%gs:d32(,%rcx,8) */
	struct emit *e = &b->e;

	if (b->tb->flags & TB_STEP) {
		emit_jmp(e, core_lookup_step);
		return;
	}
	emit_gs_store(e, RCX, CPU_SCR(SCR_LOOKUP_RCX));
	if (core_jc_wide) {
		emit_bytes(e, pext, sizeof(pext));
		emit_u32(e, 0);
		if (!e->full)
			emit_rel32(e->p - 4, &core_jc_wide_mask);
	} else {
		emit_bytes(e, movzwl, sizeof(movzwl));
	}
	emit_bytes(e, jmp, sizeof(jmp));
	emit_u32(e, CPU_JC_TABLE);
}

/* To miss, at most 100 bytes before, unless %rcx is 0, or 1 with core_loop. */
static void emit_if_not(struct emit *e, const uint8_t *miss)
{
	if (core_loop) {
		emit_u8(e, 0xe2);		/* loop */
	} else {
		emit_u8(e, 0xe3);		/* jrcxz over the jump */
		emit_u8(e, 2);
		emit_u8(e, 0xeb);
	}
	emit_u8(e, miss - (e->p + 1));
}

#define JC_ENTRY_MAX 96

/* d32(%rcx,JUMP_REG), to %rcx or to JUMP_REG */
static void emit_target_sum(struct emit *e, int reg, uint32_t disp)
{
	const uint8_t lea[] = { JUMP_REX(2) | reg >> 3 << 2, 0x8d, 0x84 | (reg & 7) << 3,
				(JUMP_REG & 7) << 3 | 1 };

	emit_bytes(e, lea, sizeof(lea));
	emit_u32(e, disp);
}

static void emit_load_stop(struct emit *e)
{
	static const uint8_t load32[] = { 0x65, 0x8b, 0x0c, 0x25 };	/* %gs:d32, %ecx */

	emit_bytes(e, load32, sizeof(load32));
	emit_u32(e, CPU_STOP_FLAG);
}

/*
 * The sum is 0 if all is well, or 1 where "loop" tells. Jumps that are not taken cost
 * less than those that are, so the others' "jrcxz" is for a sum that is not 0.
 */
static void emit_check_by_jump(struct emit *e, uint64_t pc, const uint8_t *miss)
{
	uint64_t low = core_loop - pc, near = core_near() + low;

	if (fits32(near)) {
		emit_gs_load(e, RCX, CPU_STOP_FLAG);
		low = near;
	} else if (fits32(low)) {
		emit_load_stop(e);
	} else {
		emit_load_stop(e);
		emit_u8(e, 0xe3);
		emit_u8(e, 2);
		emit_u8(e, 0xeb);
		emit_u8(e, miss - (e->p + 1));
		emit_mov_imm(e, RCX, low);
		low = 0;
	}
	emit_target_sum(e, RCX, low);
	emit_if_not(e, miss);
}

/*
 * The sum, to JUMP_REG, is -1 if all is well: only then has the mask of this "pdep" a
 * 64th bit, for the last one of core_sign_bit to go to. What is left is 0 if there is
 * none, for a "jrcxz" that is not taken, which is 2 cycles in 6 for a call and its return
 * (Intel, Golden Cove).
 */
static void emit_check_by_pdep(struct emit *e, uint64_t pc, const uint8_t *miss)
{
	/* pdep JUMP_REG, %rcx, %rcx */
	static const uint8_t pdep[] = { 0xc4, JUMP_REG >= 8 ? 0xc2 : 0xe2, 0xf3, 0xf5,
					0xc8 | (JUMP_REG & 7) };
	uint64_t low = -1 - pc, near = core_near() + low;

	if (fits32(near)) {
		emit_gs_load(e, RCX, CPU_STOP_FLAG);
		emit_target_sum(e, JUMP_REG, near);
	} else if (fits32(low)) {
		emit_load_stop(e);
		emit_target_sum(e, JUMP_REG, low);
	} else {
		emit_load_stop(e);
		emit_target_sum(e, JUMP_REG, 0);
		emit_mov_imm(e, RCX, low);
		emit_target_sum(e, JUMP_REG, 0);
	}
	emit_u8(e, 0x48);			/* mov core_sign_bit(%rip), %rcx */
	emit_u8(e, 0x8b);
	emit_u8(e, 0x0d);
	emit_u32(e, 0);
	if (!e->full)
		emit_rel32(e->p - 4, &core_sign_bit);
	emit_bytes(e, pdep, sizeof(pdep));
	emit_u8(e, 0xe3);
	emit_u8(e, miss - (e->p + 1));
}

/*
 * Where the jump cache leads to: is it pc that is wanted, and no stop either?
 * Else the dispatcher. JUMP_REG, %rcx as in jump_to_reg(); no flag changes. Returns the
 * entry.
 *
 * One sum tells both: cpu->stop is 0, or 1, which the difference of the two cannot make
 * good: their low halves are the same, or the jump cache would not have led here. Of the
 * code that is near the cache, what stands behind it in memory is a part of the sum, too,
 * so that what is to be added here has 32 bits (core_near()).
 */
static uint8_t *emit_jc_entry(struct emit *e, uint64_t pc)
{
	uint8_t *miss = e->p, *entry;

	if (core_pdep) {
		emit_mov_imm(e, RCX, pc);
		emit_jmp(e, core_jump_miss_sum);
		entry = e->p;
		emit_check_by_pdep(e, pc, miss);
	} else {
		emit_jmp(e, core_jump_miss);
		entry = e->p;
		emit_check_by_jump(e, pc, miss);
	}
	emit_gs_load(e, RCX, CPU_SCR(SCR_LOOKUP_RCX));
	emit_gs_load(e, JUMP_REG, CPU_SCR(SCR_INDIRECT));
	return entry;
}

/* Pairs with the acquire in codemap_jc_insert(). */
static void set_jc_entry(struct tb *tb, uint8_t *entry)
{
	__atomic_store_n(&tb->cm.jc_entry, entry, __ATOMIC_SEQ_CST);
}

void block_jc_entry(struct tb *tb)
{
	struct emit e;
	uint8_t *start, *entry;

	if (tb->cm.jc_entry)
		return;
	e = cache_begin(JC_ENTRY_MAX);
	start = e.p;
	if (e.full)
		return;
	entry = emit_jc_entry(&e, tb->cm.pc);
	emit_jmp(&e, tb->cm.entry);
	if (e.full)
		return;
	cache_commit(start, &e, CACHE_ENTRY, tb);
	set_jc_entry(tb, entry);
}

static void insn_ret(struct block *b, const struct insn *in, struct insn_map *m)
{
	static const uint8_t lea[] = { 0x48, 0x8d, 0xa4, 0x24 };	/* lea d32(%rsp), %rsp */
	struct emit *e = &b->e;

	emit_gs_store(e, JUMP_REG, CPU_SCR(SCR_INDIRECT));
	spilled(b, m, JUMP_REG, SCR_INDIRECT);
	emit_u8(e, JUMP_REX(1));		/* pop JUMP_REG */
	emit_u8(e, 0x58 | (JUMP_REG & 7));
	if (in->ret_pop) {
		emit_bytes(e, lea, sizeof(lea));
		emit_u32(e, in->ret_pop);
	}
	jump_to_reg(b);
}

static void insn_loop(struct block *b, const struct insn *in)
{
	struct emit *e = &b->e;
	uint8_t *rel;

	if (in->z.address_width == 32)
		emit_u8(e, 0x67);
	emit_u8(e, in->z.opcode);
	rel = e->p;
	emit_u8(e, 0);
	emit_exit_jump(b, 0xe9, in->pc + in->len);
	if (!e->full)
		*rel = e->p - (rel + 1);
	emit_exit_jump(b, 0xe9, in->target);
}

static void insn_emulate(struct block *b, uint64_t pc)
{
	emit_exit(b, TBX_EMULATE, pc);
}

/* A guest that sets the trap flag would single-step the cache. */
static void insn_popf(struct block *b, const struct insn *in, struct insn_map *m)
{
	static const uint8_t look[] = {
		0x48, 0x8b, 0x04, 0x24,			/* mov (%rsp), %rax */
		0xa9, 0x00, 0x01, 0x00, 0x00,		/* test $TF, %eax */
	};
	struct emit *e = &b->e;
	uint8_t *good;

	emit_gs_store(e, RAX, CPU_SCR(SCR_INDIRECT));
	spilled(b, m, RAX, SCR_INDIRECT);
	emit_bytes(e, look, in->z.operand_width == 16 ? 0 : 4);
	if (in->z.operand_width == 16) {
		static const uint8_t movzw[] = { 0x0f, 0xb7, 0x04, 0x24 };

		emit_bytes(e, movzw, sizeof(movzw));
	}
	emit_bytes(e, look + 4, 5);
	emit_gs_load(e, RAX, CPU_SCR(SCR_INDIRECT));
	emit_u8(e, 0x0f);			/* jz */
	emit_u8(e, 0x84);
	good = e->p;
	emit_u32(e, 0);
	emit_exit(b, TBX_EMULATE, in->pc);
	if (!e->full)
		emit_rel32(good, e->p);
	emit_bytes(e, in->bytes, in->len);
}

/* The instruction without segment and address-size prefixes. */
static void emit_without_prefix(struct emit *e, const struct insn *in)
{
	unsigned int i = 0;

	for (;; i++) {
		uint8_t now = in->bytes[i], next = in->bytes[i + 1];

		if ((now & 0xf0) == 0x40) {
			/* A REX prefix before another prefix does not count. */
			if (!emit_is_prefix(next) && (next & 0xf0) != 0x40)
				break;
		} else if (!emit_is_prefix(now)) {
			break;
		} else if (!emit_is_segment(now) && now != 0x67) {
			emit_u8(e, now);
		}
	}
	emit_bytes(e, in->bytes + i, in->len - i);
}

/* %rsi runs %gs' base ahead while it is at work (tb_guest_state). */
static void insn_gs_string(struct block *b, const struct insn *in, struct insn_map *m)
{
	static const uint8_t minus[] = {
		0x48, 0xf7, 0xd0,			/* not %rax */
		0x48, 0x8d, 0x74, 0x06, 0x01,		/* lea 1(%rsi,%rax), %rsi */
	};
	struct emit *e = &b->e;

	emit_add_guest_gs(e, RSI, RAX);
	spilled(b, m, MAP_GS_AHEAD, 0);
	emit_without_prefix(e, in);
	emit_gs_store(e, RAX, CPU_SCR(SCR_ADDR2));
	emit_gs_load(e, RAX, CPU_GUEST_GS);
	emit_bytes(e, minus, sizeof(minus));
	emit_gs_load(e, RAX, CPU_SCR(SCR_ADDR2));
}

static void insn_gs_reg(struct block *b, const struct insn *in, struct insn_map *m)
{
	struct emit *e = &b->e;

	emit_gs_store(e, in->reg, CPU_SCR(SCR_ADDR));
	emit_add_guest_gs(e, in->reg, in->reg == RAX ? RCX : RAX);
	spilled(b, m, in->reg, SCR_ADDR);
	emit_without_prefix(e, in);
	emit_gs_load(e, in->reg, CPU_SCR(SCR_ADDR));
}

static void insn_gs_moffs(struct block *b, const struct insn *in, struct insn_map *m)
{
	static const uint8_t with_modrm[] = { 0x8a, 0x8b, 0x88, 0x89 };
	struct emit *e = &b->e;

	emit_gs_store(e, RCX, CPU_SCR(SCR_ADDR));
	emit_mov_imm(e, RCX, in->target);
	emit_add_guest_gs(e, RCX, RAX);
	spilled(b, m, RCX, SCR_ADDR);
	if (in->z.opcode & 1 && in->z.operand_width == 16)
		emit_u8(e, 0x66);
	if (in->z.opcode & 1 && in->z.operand_width == 64)
		emit_u8(e, 0x48);
	emit_u8(e, with_modrm[in->z.opcode & 3]);
	emit_u8(e, RAX << 3 | RCX);
	emit_gs_load(e, RCX, CPU_SCR(SCR_ADDR));
}

/* The selector that is loaded, to %rax, whose own value has been saved. */
static void emit_selector(struct block *b, const struct insn *in)
{
	static const uint8_t load[] = { 0x0f, 0xb7, 0x00 };	/* movzwl (%rax), %eax */
	static const uint8_t top[] = { 0x48, 0x8b, 0x04, 0x24, 0x0f, 0xb7, 0xc0 };
	static const uint8_t top16[] = { 0x0f, 0xb7, 0x04, 0x24 };
	struct emit *e = &b->e;
	int reg;

	if (in->z.mnemonic == ZYDIS_MNEMONIC_POP) {
		if (in->z.operand_width == 16)
			emit_bytes(e, top16, sizeof(top16));
		else
			emit_bytes(e, top, sizeof(top));
		return;
	}
	if (in->mem < 0) {
		reg = decode_gpr(in->op[1].reg.value);
		emit_u8(e, 0x40 | reg >> 3);
		emit_bytes(e, load, 2);
		emit_u8(e, 0xc0 | (reg & 7));
		return;
	}
	emit_load_by(e, RAX, in, load, sizeof(load));
}

/*
 * The guest's %gs is cpu->gs_sel and guest_gs. What a load does to the base, the
 * CPU shows with %fs: once to see whether it faults, and once more from
 * the base that %gs has, since some leave it alone for a null selector.
 */
static void insn_load_gs(struct block *b, const struct insn *in, struct insn_map *m)
{
	static const uint8_t rdfsbase[] = { 0xf3, 0x48, 0x0f, 0xae, 0xc0 };
	static const uint8_t wrfsbase[] = { 0xf3, 0x48, 0x0f, 0xae, 0xd0 };
	static const uint8_t to_fs[] = { 0x8e, 0xe0 }, from_fs[] = { 0x8c, 0xe0 };
	struct emit *e = &b->e;

	emit_gs_store(e, RAX, CPU_SCR(SCR_ADDR));
	spilled(b, m, RAX, SCR_ADDR);
	emit_selector(b, in);
	emit_gs_store(e, RAX, CPU_SCR(SCR_INDIRECT));
	emit_bytes(e, from_fs, sizeof(from_fs));
	emit_gs_store(e, RAX, CPU_SCR(SCR_LOOKUP_RCX));
	emit_bytes(e, rdfsbase, sizeof(rdfsbase));
	emit_gs_store(e, RAX, CPU_SCR(SCR_LOOKUP_RDX));
	emit_gs_load(e, RAX, CPU_SCR(SCR_INDIRECT));
	emit_bytes(e, to_fs, sizeof(to_fs));
	emit_gs_load(e, RAX, CPU_GUEST_GS);
	emit_bytes(e, wrfsbase, sizeof(wrfsbase));
	emit_gs_load(e, RAX, CPU_SCR(SCR_INDIRECT));
	emit_gs_store(e, RAX, CPU_GS_SEL);
	emit_bytes(e, to_fs, sizeof(to_fs));
	emit_bytes(e, rdfsbase, sizeof(rdfsbase));
	emit_gs_store(e, RAX, CPU_GUEST_GS);
	emit_gs_load(e, RAX, CPU_SCR(SCR_LOOKUP_RCX));
	emit_bytes(e, to_fs, sizeof(to_fs));
	emit_gs_load(e, RAX, CPU_SCR(SCR_LOOKUP_RDX));
	emit_bytes(e, wrfsbase, sizeof(wrfsbase));
	emit_gs_load(e, RAX, CPU_SCR(SCR_ADDR));
	if (in->z.mnemonic == ZYDIS_MNEMONIC_POP) {
		const uint8_t lea[] = { 0x48, 0x8d, 0x64, 0x24, in->z.operand_width == 16 ? 2 : 8 };

		emit_bytes(e, lea, sizeof(lea));
	}
}

/* To a register, or pushed. */
static void insn_store_gs(struct block *b, const struct insn *in)
{
	struct emit *e = &b->e;
	int reg;

	if (in->z.operand_width == 16)
		emit_u8(e, 0x66);
	emit_u8(e, 0x65);
	if (in->z.mnemonic == ZYDIS_MNEMONIC_PUSH) {
		emit_u8(e, 0xff);
		emit_u8(e, 0x34);
	} else {
		reg = decode_gpr(in->op[0].reg.value);
		emit_u8(e, 0x40 | reg >> 3 << 2);
		emit_u8(e, 0x8b);
		emit_u8(e, 0x04 | (reg & 7) << 3);
	}
	emit_u8(e, 0x25);
	emit_u32(e, CPU_GS_SEL);
}

static void insn_gsbase(struct block *b, const struct insn *in, struct insn_map *m)
{
	struct emit *e = &b->e;
	int reg;

	if (in->kind == INSN_RDGSBASE) {
		uint8_t op[] = { 0x65, 0x40 | in->reg >> 3 << 2, 0x8b,
				 0x04 | (in->reg & 7) << 3, 0x25 };

		if (in->z.operand_width == 64)
			op[1] |= 8;
		emit_bytes(e, op, sizeof(op));
		emit_u32(e, CPU_GUEST_GS);
		return;
	}
	if (in->z.operand_width == 64) {
		emit_gs_store(e, in->reg, CPU_GUEST_GS);
		return;
	}
	reg = decode_free_reg(in, 0);
	emit_gs_store(e, reg, CPU_SCR(SCR_ADDR));
	emit_u8(e, 0x40 | in->reg >> 3);	/* mov %r32, %r32 clears the rest */
	emit_u8(e, 0x8b);
	emit_u8(e, 0xc0 | reg << 3 | (in->reg & 7));
	emit_gs_store(e, reg, CPU_GUEST_GS);
	emit_gs_load(e, reg, CPU_SCR(SCR_ADDR));
}

static void insn_fault(struct block *b, uint64_t pc, int sig, int code)
{
	struct tb_exit *x = emit_exit(b, TBX_FAULT, pc);

	x->sig = sig;
	x->code = code;
	b->ended = true;
}

static void insn_unsupported(struct block *b, uint64_t pc, const char *why)
{
	emit_exit(b, TBX_UNSUPPORTED, pc)->code = why - core_exit;
	b->ended = true;
}

void block_insn(struct block *b, const struct insn *in)
{
	struct emit *e = &b->e;
	struct insn_map *m = &b->map[b->n++];
	uint64_t next = in->pc + in->len;

	*m = (struct insn_map){
		.host = e->p - b->start, .len = in->len, .reg = -1,
	};

	if (in->writes && hot_insn(b, in, m))
		return;
	if (stylized_insn(b, in, m)) {
		emit_exit_jump(b, 0xe9, next);
		b->ended = true;
		return;
	}
	switch (in->kind) {
	case INSN_COPY:
		emit_insn(e, in->bytes, in->len);
		return;
	case INSN_RIPREL:
		insn_riprel(b, in, m);
		return;
	case INSN_GS:
		insn_gs(b, in, m);
		return;
	case INSN_LEA_RIP:
		emit_mov_imm(e, in->reg, in->target);
		return;
	case INSN_RDGSBASE:
	case INSN_WRGSBASE:
		insn_gsbase(b, in, m);
		return;
	case INSN_GS_STRING:
		insn_gs_string(b, in, m);
		return;
	case INSN_GS_REG:
		insn_gs_reg(b, in, m);
		return;
	case INSN_GS_MOFFS:
		insn_gs_moffs(b, in, m);
		return;
	case INSN_LOAD_GS:
		insn_load_gs(b, in, m);
		return;
	case INSN_STORE_GS:
		insn_store_gs(b, in);
		return;
	case INSN_EMULATE:
		insn_emulate(b, in->pc);
		break;
	case INSN_POPF:
		if (b->tb->flags & TB_STEP) {
			insn_emulate(b, in->pc);
			break;
		}
		insn_popf(b, in, m);
		emit_exit_jump(b, 0xe9, next);
		break;
	case INSN_JMP:
		emit_exit_jump(b, 0xe9, in->target);
		break;
	case INSN_XBEGIN:
		if (!have_rtm()) {
			insn_fault(b, in->pc, SIGILL, ILL_ILLOPN);
			return;
		}
		emit_u8(e, 0xb8);		/* aborted, for no reason given */
		emit_u32(e, 0);
		emit_exit_jump(b, 0xe9, in->target);
		break;
	case INSN_JCC:
		emit_exit_jump(b, 0x0f80 | in->cond, in->target);
		if (goes_on(b, in)) {
			b->side++;
			return;
		}
		emit_exit_jump(b, 0xe9, next);
		break;
	case INSN_LOOP:
		insn_loop(b, in);
		break;
	case INSN_CALL:
		emit_push(b, next);
		emit_exit_jump(b, 0xe9, in->target);
		break;
	case INSN_CALL_IND:
		emit_target(b, in, m);
		emit_push(b, next);
		jump_to_reg(b);
		break;
	case INSN_JMP_IND:
		emit_target(b, in, m);
		jump_to_reg(b);
		break;
	case INSN_RET:
		insn_ret(b, in, m);
		break;
	case INSN_SYSCALL:
		emit_exit(b, TBX_SYSCALL, next);
		break;
	case INSN_FAULT:
		insn_fault(b, in->sig_after ? next : in->pc, in->sig, in->sig_code);
		return;
	case INSN_UNSUPPORTED:
		insn_unsupported(b, in->pc, in->why);
		return;
	}
	b->ended = true;
}

/* ---- a block ------------------------------------------------------------------ */

static void finish_body(struct block *b, uint64_t next)
{
	struct emit *e = &b->e;
	struct tb *tb = b->tb;
	unsigned int i;

	b->map[b->n] = (struct insn_map){ .host = e->p - b->start, .reg = -1 };
	if (!b->ended)
		emit_exit_jump(b, 0xe9, next);
	for (i = 0; i < tb->exits; i++)
		if (tb->exit[i].kind == TBX_JUMP)
			emit_stub_of(b, &tb->exit[i]);
	for (i = 0; i < b->consts; i++) {
		if (!e->full)
			emit_rel32(b->const_at[i], e->p);
		emit_u64(e, b->const_val[i]);
	}
}

static void finish_check(struct block *b, const uint8_t *src, size_t n)
{
	struct emit *e = &b->e;
	struct tb_exit *calm = NULL;
	uint8_t *fails[CHECK_MAX_FAILS], *to_calm;
	unsigned int nr = 0, i;
	uint8_t *entry = e->p;

	if (b->tb->flags & TB_RESTLESS) {
		calm = new_exit(b, TBX_CALM, b->pc);
		calm->code = restless_runs(b->pc);
	}
	to_calm = emit_check(e, b->pc, src, n, fails, &nr, calm ? &calm->code : NULL);
	emit_jmp(e, b->start);
	b->tb->cm.entry = entry;
	if (e->full)
		return;
	for (i = 0; i < nr; i++)
		emit_rel32(fails[i], e->p);
	emit_gs_load(e, RCX, CPU_SCR(SCR_ADDR2));
	emit_gs_load(e, RAX, CPU_SCR(SCR_ADDR));
	emit_stub_of(b, emit_slot(b, TBX_CHECK, 0xe9, b->pc));
	if (!calm || e->full)
		return;
	emit_rel32(to_calm, e->p);
	emit_gs_load(e, RCX, CPU_SCR(SCR_ADDR2));
	emit_gs_load(e, RAX, CPU_SCR(SCR_ADDR));
	emit_stub(e, calm);
}

bool block_begin(struct block *b, uint64_t pc, uint32_t flags, bool indirect, size_t room)
{
	memset(b, 0, offsetof(struct block, const_at));
	b->consts = 0;
	b->unseen = 0;
	b->side = 0;
	b->pc = pc;
	b->tb = cache_meta_begin(TB_MAX_META);
	if (!b->tb)
		return false;
	*b->tb = (struct tb){ .flags = flags };
	b->e = cache_begin(room);
	if (b->e.full)
		return false;
	b->first = b->e.p;
	if (indirect)
		b->jc_entry = emit_jc_entry(&b->e, pc);
	b->start = b->e.p;
	return true;
}

bool block_finish(struct block *b, const uint8_t *src, size_t n, uint64_t next)
{
	struct tb *tb = b->tb;

	tb->code = b->start;
	tb->cm.entry = b->start;
	finish_body(b, next);
	if (tb->flags & TB_CHECKED)
		finish_check(b, src, n - b->unseen);
	if (b->e.full)
		return false;
	tb->guest_bytes = n;
	tb->insns = b->n;
	tb->cm.jump = tb_jumps(tb);
	memset(tb->cm.jump, 0, tb->cm.jumps * sizeof(*tb->cm.jump));
	memcpy(tb_map(tb), b->map, (b->n + 1) * sizeof(b->map[0]));
	memcpy(tb_src(tb), src, n);
	cache_meta_take(tb_src(tb) + n - (uint8_t *)tb);
	tb->host_bytes = b->e.p - b->start;
	tb->cm.pc = b->pc;
	if (b->jc_entry && !(tb->flags & TB_CHECKED)) {
		struct emit entry = { b->start, b->e.end, false };

		cache_commit(b->first, &entry, CACHE_ENTRY, tb);
		set_jc_entry(tb, b->jc_entry);
	}
	cache_commit(b->start, &b->e, CACHE_TB, tb);
	return true;
}

struct tb *block_step(const struct tb *of, unsigned int idx)
{
	const uint8_t *src = tb_src(of) + tb_guest_off(of, idx);
	uint64_t pc = of->cm.pc + tb_guest_off(of, idx);
	unsigned int len = tb_map(of)[idx].len;
	struct block b;
	struct insn in;
	struct tb *tb;

	if (decode(src, len, pc, &in) != DECODE_OK)
		return NULL;
	if (!block_begin(&b, in.pc, TB_STEP, false, STEP_MAX_HOST))
		return NULL;
	block_insn(&b, &in);
	tb = b.tb;
	if (!block_finish(&b, src, len, pc + len))
		return NULL;
	return tb;
}

int tb_find_insn(const struct tb *tb, uint64_t host_pc)
{
	const struct insn_map *map = tb_map(tb);
	uint64_t off = host_pc - (uint64_t)tb->code;
	int lo = 0, hi = tb->insns;

	if (tb->flags & TB_CHECKED && host_pc >= (uint64_t)tb->cm.entry)
		return -1;
	while (lo < hi) {
		int mid = (lo + hi + 1) / 2;

		if (map[mid].host <= off)
			lo = mid;
		else
			hi = mid - 1;
	}
	return lo;
}

void tb_guest_state(const struct cpu *cpu, const struct tb *tb, int idx,
		    uint64_t host_pc, struct codewp_regs *regs)
{
	const struct insn_map *m;

	if (idx < 0) {			/* reading its source, in the check */
		regs->r[RAX] = cpu->scratch[SCR_ADDR];
		regs->r[RCX] = cpu->scratch[SCR_ADDR2];
		regs->rip = tb->cm.pc;
		return;
	}
	m = &tb_map(tb)[idx];
	if (host_pc - (uint64_t)tb->code >= m->host + m->main) {
		if (m->reg == MAP_GS_AHEAD)
			regs->r[RSI] -= cpu->guest_gs;
		else if (m->reg >= 0)
			regs->r[m->reg] = cpu->scratch[m->slot];
	}
	regs->rip = tb->cm.pc + tb_guest_off(tb, idx);
}
