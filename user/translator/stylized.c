// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Stylized immediates: instructions whose last bytes, a number, are patched again and
 * again, as compilers that generate code do with constants.
 *
 * Such an instruction is translated to load its immediate from where the guest has it.
 * Its block ends with it, and the block's source ends before the immediate: a store
 * there hits no block, and may be a hot one (hot.c), which does not even trap.
 *
 * The immediate lies in one cache line, so that another thread's store of it is seen
 * whole or not at all, as if the instruction had been fetched.
 *
 * With the alignment check on (AC) an immediate may fault where the instruction does
 * not: then it is an ordinary one again.
 *
 * With rt_lock, in the upcall, too (no libc). Owns the table of instructions, which is
 * a hint: what is there now is decoded again each time.
 */
#include <string.h>

#include "probes.h"
#include "stylized.h"

#define TABLE 1024		/* a power of two */

struct patched {
	uint64_t pc;		/* 0: free */
	unsigned int hits;
	bool never;		/* the guest wants its accesses aligned */
};

static struct patched table[TABLE];
static unsigned int nr;

static struct patched *entry_of(uint64_t pc)
{
	unsigned int i = (pc * 0x9e3779b97f4a7c15ULL) >> 54;

	while (table[i].pc && table[i].pc != pc)
		i = (i + 1) % TABLE;
	return &table[i];
}

/* mov to a register, or arithmetic with one; 32 or 64 bits. Sets the register. */
static bool can_be(const struct insn *in, int *reg)
{
	const ZydisDecodedInstruction *z = &in->z;
	uint64_t at;

	if (in->kind != INSN_COPY || z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
	    z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || in->mem >= 0 ||
	    z->operand_width < 32 || z->raw.imm[0].size < 32 || z->raw.imm[1].size)
		return false;
	if ((z->opcode & 0xf8) != 0xb8 && z->opcode != 0xc7 && z->opcode != 0x81)
		return false;
	*reg = decode_gpr(in->op[0].reg.value);
	at = in->pc + z->raw.imm[0].offset;
	return *reg >= 0 && *reg != RSP && z->raw.imm[0].offset + z->raw.imm[0].size / 8 == in->len &&
	       at >> 6 == (at + z->raw.imm[0].size / 8 - 1) >> 6 &&
	       in->pc >> 12 == (in->pc + in->len - 1) >> 12;
}

/* The instruction of tb that has guest addresses [at, last] in its immediate; 0: none. */
static uint64_t patched_insn(const struct tb *tb, uint64_t at, uint64_t last)
{
	uint64_t pc = tb->cm.pc;
	struct insn in;
	int i, reg;

	if (tb->flags & TB_STEP || tb->cm.page[1] != CODEMAP_NO_PAGE)
		return 0;
	for (i = 0; i < tb->insns && pc + tb_map(tb)[i].len <= at; i++)
		pc += tb_map(tb)[i].len;
	if (i == tb->insns || decode(tb_src(tb) + (pc - tb->cm.pc), tb_map(tb)[i].len, pc,
				     &in) != DECODE_OK)
		return 0;
	if (!can_be(&in, &reg) || at < pc + in.z.raw.imm[0].offset || last >= pc + in.len)
		return 0;
	return pc;
}

static void was_patched(uint64_t pc, uint64_t page)
{
	struct patched *p = entry_of(pc);

	if (!p->pc && nr == TABLE / 2)
		return;
	nr += !p->pc;
	p->pc = pc;
	if (++p->hits != core_opts.stylized_after)
		return;
	st.stylized++;
	probe_page_rung(page, PROBE_RUNG_STYLIZED, pc);
}

bool stylized_hit(const struct tb *tb, uint64_t page, unsigned int first, unsigned int last)
{
	uint64_t pc = 0;

	if (core_opts.no_stylized)
		return false;
	for (; tb && !pc; tb = (const struct tb *)tb->cm.dead_next)
		if (tb->cm.page[0] == page)
			pc = patched_insn(tb, (tb->cm.pc & -4096UL) + first,
					  (tb->cm.pc & -4096UL) + last);
	if (pc)
		was_patched(pc, page);
	return pc;
}

void stylized_changed(const struct tb *tb)
{
	const uint8_t *was = tb_src(tb);
	uint8_t now[TB_MAX_BYTES];
	unsigned int first = 0, last = tb->guest_bytes;
	uint64_t pc;

	if (core_opts.no_stylized || tb->cm.page[1] != CODEMAP_NO_PAGE ||
	    guest_read(now, tb->cm.pc, tb->guest_bytes))
		return;
	while (first < last && was[first] == now[first])
		first++;
	while (last > first && was[last - 1] == now[last - 1])
		last--;
	if (first == last)
		return;
	pc = patched_insn(tb, tb->cm.pc + first, tb->cm.pc + last - 1);
	if (pc)
		was_patched(pc, mem_shown_page(tb->cm.page[0]));
}

void stylized_reset(void)
{
	if (nr)
		memset(table, 0, sizeof(table));
	nr = 0;
}

bool core_unaligned(struct cpu *cpu, struct codewp_regs *regs)
{
	uint32_t in_cache = cpu->in_cache;
	struct codewp_regs guest = *regs;
	struct cache_range r;
	struct patched *p;
	struct tb *tb;
	bool ours;

	if (!cache_find(regs->rip, &r) || r.kind != CACHE_TB || !core_guest_state(cpu, &guest))
		return false;
	tb = r.owner;
	cpu->in_cache = 0;
	rt_lock();
	ours = tb_find_insn(tb, regs->rip) < 0;
	if (ours) {
		check_aligned = true;
	} else {
		p = entry_of(guest.rip);
		ours = p->pc == guest.rip && p->hits >= core_opts.stylized_after;
		if (ours)
			p->never = true;
	}
	if (ours && codemap_invalidate_tb(the_map, &tb->cm))
		cache_died(tb);
	rt_unlock();
	cpu->in_cache = in_cache;
	if (ours)
		*regs = guest;
	return ours;
}

/* op (%tmp), %reg */
static void emit_load(struct emit *e, uint8_t opcode, bool wide, int reg, int tmp)
{
	emit_u8(e, 0x40 | wide << 3 | reg >> 3 << 2 | tmp >> 3);
	emit_u8(e, opcode);
	/* with a displacement: %rbp and %r13 have no other form, %r12 wants a SIB */
	emit_u8(e, 0x40 | (reg & 7) << 3 | (tmp & 7));
	if ((tmp & 7) == RSP)
		emit_u8(e, 0x24);
	emit_u8(e, 0);
}

bool stylized_insn(struct block *b, const struct insn *found, struct insn_map *m)
{
	struct emit *e = &b->e;
	const struct patched *p;
	struct insn in;
	uint64_t at;
	bool wide;
	int reg, tmp;

	if (!nr || b->tb->flags & TB_STEP)
		return false;
	p = entry_of(found->pc);
	if (!p->pc || p->never || p->hits < core_opts.stylized_after ||
	    found->pc >> 12 != b->pc >> 12 ||
	    decode(found->bytes, found->len, found->pc, &in) != DECODE_OK ||
	    !can_be(&in, &reg))
		return false;
	at = in.pc + in.z.raw.imm[0].offset;
	wide = in.z.operand_width == 64;
	if (in.z.opcode == 0x81) {
		tmp = reg == RAX ? RCX : RAX;
		emit_gs_store(e, tmp, CPU_SCR(SCR_ADDR));
		m->main = e->p - b->start - m->host;
		m->reg = tmp;
		m->slot = SCR_ADDR;
		emit_mov_imm(e, tmp, at);
		if (wide) {		/* its 32 bits are sign-extended */
			emit_load(e, 0x63, true, tmp, tmp);
			emit_bytes(e, (uint8_t[]){ 0x48 | reg >> 3, in.z.raw.modrm.reg << 3 | 1,
						   0xc0 | tmp << 3 | (reg & 7) }, 3);
		} else {
			emit_load(e, in.z.raw.modrm.reg << 3 | 3, false, reg, tmp);
		}
		emit_gs_load(e, tmp, CPU_SCR(SCR_ADDR));
	} else {
		emit_mov_imm(e, reg, at);
		emit_load(e, wide && in.z.opcode == 0xc7 ? 0x63 : 0x8b, wide, reg, reg);
	}
	b->unseen = in.len - in.z.raw.imm[0].offset;
	return true;
}
