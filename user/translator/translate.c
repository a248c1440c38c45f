// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * From a guest address to a published block.
 *
 * The order is what keeps a TB true: mem_code_page() arms the page, its
 * generation is noted, only then are bytes read, and codemap_insert() refuses
 * the TB when the generation has moved. A block reads each byte once, into its
 * own copy, and is made from that copy alone.
 *
 * Runs with rt_lock held. block_translate() has the runtime's %fs and vector state;
 * block_translate_quick() has the guest's: no libc (string.c is ours) and no system
 * call on its way, and what it cannot do so it leaves to the other.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "block.h"
#include "hot.h"
#include "debug.h"
#include "mem.h"
#include "probes.h"

#define FETCH 256	/* source bytes taken at a time, at most to the page's end */

/* No instruction at pc: what the guest gets instead. */
static struct tb *fetch_fault(struct cpu *cpu, uint64_t pc, uint64_t addr,
			      const struct mem_code *mc)
{
	bool gone = mc->class != MEM_NONE;	/* since its class was asked for */

	cpu->exit = CPU_FAULT;
	cpu->regs.rip = pc;
	cpu->fault_sig = !gone && mc->fault_sig ? mc->fault_sig : SIGSEGV;
	cpu->fault_code = gone ? SEGV_MAPERR : mc->fault_code;
	cpu->fault_addr = addr;
	return NULL;
}

static struct tb *fail(struct cpu *cpu, uint64_t pc, const char *why)
{
	cpu->exit = CPU_UNSUPPORTED;
	cpu->regs.rip = pc;
	cpu->unsupported = why;
	return NULL;
}

/* Does block_translate_quick() ask? It gives up where something has to be done. */
static bool quick(const struct cpu *cpu)
{
	return !cpu->heavy;
}

static const char *bad_bytes(struct cpu *cpu, const uint8_t *p, size_t n)
{
	const size_t size = sizeof(cpu->reason);
	size_t i, len;

	if (quick(cpu))
		return NULL;
	len = snprintf(cpu->reason, size, "unknown instruction, bytes");
	for (i = 0; i < n && i < 8; i++)
		len += snprintf(cpu->reason + len, size - len, " %02x", p[i]);
	return cpu->reason;
}

/* One page that the block reads: arm, note the generation. 0 or -errno. */
static int take_page(const struct cpu *cpu, uint64_t pc, struct mem_code *mc)
{
	int err = 0;

	if (!mem_code_quick(pc, mc))
		err = quick(cpu) ? -EAGAIN : mem_code_page(pc, mc);

	if (!err && mc->class != MEM_NONE)
		note_code_page(pc);
	return err;
}

static uint32_t flags_of(enum mem_class class)
{
	switch (class) {
	case MEM_CHECKED:
		return TB_CHECKED;
	case MEM_RESTLESS:
		return TB_CHECKED | TB_RESTLESS;
	default:
		return 0;
	}
}

/*
 * A jump or call through a pointer that only a system call can change, as those are that
 * the dynamic linker has made read-only (RELRO): it is a direct one, and the pointer a
 * part of what the block was made of. False: it is not; in is as it was.
 */
static bool fixed_jump(const struct block *b, struct insn *in, struct mem_code *mc,
		       uint32_t *gen)
{
	ZydisRegister base;
	uint64_t to;

	if ((in->kind != INSN_JMP_IND && in->kind != INSN_CALL_IND) || core_opts.no_fixed ||
	    in->mem < 0 || in->addr32 || b->tb->flags)
		return false;
	base = in->op[in->mem].mem.base;
	if (base != ZYDIS_REGISTER_RIP ||
	    in->z.attributes & (ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS))
		return false;
	if ((in->target & 4095) > 4096 - sizeof(to) || in->target >> 12 == b->pc >> 12 ||
	    !mem_data_fixed(in->target, mc))
		return false;
	note_code_page(in->target);
	*gen = smc_gen_begin(mc->page, mc->gen);
	if (guest_read(&to, in->target, sizeof(to)))
		return false;
	in->kind = in->kind == INSN_JMP_IND ? INSN_JMP : INSN_CALL;
	in->writes = false;
	in->target = to;
	return true;
}

static struct tb *try_translate(struct cpu *cpu, uint64_t pc, struct insn *step,
				unsigned int version, int *err)
{
	struct mem_code mc[2] = { { .class = MEM_NONE }, { .class = MEM_NONE } };
	uint8_t src[FETCH + 2 * INSN_MAX];
	size_t in_page = 4096 - (pc & 4095), have, off = 0;
	size_t max = core_opts.max_insns;
	struct codemap_tb *got;
	uint32_t gen[2], flags;
	uint64_t pointer = 0;
	struct block b;
	struct insn in;
	struct tb *tb;
	bool two = false;

	*err = 0;
	if (max == 0 || max > TB_MAX_INSNS)
		max = TB_MAX_INSNS;
	if (step)
		max = 1;
	if (take_page(cpu, pc, &mc[0]))
		return fail(cpu, pc, "its page could not be write-protected");
	if (mc[0].class == MEM_NONE)
		return fetch_fault(cpu, pc, pc, &mc[0]);
	gen[0] = smc_gen_begin(mc[0].page, mc[0].gen);
	gen[1] = 0;

	have = in_page < FETCH ? in_page : FETCH;
	if (guest_read(src, pc, have))
		return fetch_fault(cpu, pc, pc, &mc[0]);
	/* scan() looks at bytes that are not there before it refuses them. */
	memset(src + have, 0, 2 * INSN_MAX);
	/* Without a TB that jumps here it is an indirect jump that brings us. */
	flags = step ? TB_STEP : flags_of(mc[0].class);
	if (version && !(flags & TB_CHECKED))
		return NULL;
	if (!block_begin(&b, pc, flags, !flags && !cpu->last_tb, TB_MAX_HOST)) {
		*err = -ENOSPC;
		return NULL;
	}

	while (b.n < max && off < have && !b.ended && !two) {
		enum decode_result r = DECODE_OK;

		if (step || !scan(src + off, have - off, pc + off, &in))
			r = decode(src + off, have - off, pc + off, &in);
		if (r == DECODE_MORE && have < in_page)
			break;
		if (r == DECODE_MORE) {
			uint64_t second = (pc & ~4095UL) + 4096;

			if (take_page(cpu, second, &mc[1]))
				return fail(cpu, pc + off,
					    "its second page could not be write-protected");
			if (mc[1].class == MEM_NONE) {
				if (b.n)
					break;
				return fetch_fault(cpu, pc, second, &mc[1]);
			}
			/* What the block has written may be its last instruction. */
			flags = step ? 0 : flags_of(mc[1].class) & ~b.tb->flags;
			if (flags & TB_CHECKED && b.n)
				break;
			gen[1] = smc_gen_begin(mc[1].page, mc[1].gen);
			if (guest_read(src + have, second, INSN_MAX)) {
				if (b.n)
					break;
				return fetch_fault(cpu, pc, second, &mc[1]);
			}
			two = true;
			r = decode(src + off, have - off + INSN_MAX, pc + off, &in);
			b.tb->flags |= flags;
		}
		if (r == DECODE_LONG) {
			in.len = INSN_MAX < have - off ? INSN_MAX : have - off;
			if (b.n)
				break;
			in.pc = pc;
			in.kind = INSN_FAULT;
			in.sig = SIGSEGV;
			in.sig_code = SI_KERNEL;
			in.sig_after = false;
		} else if (r != DECODE_OK) {
			if (b.n)
				break;
			if (decode_behind_cpu())
				return fail(cpu, pc, bad_bytes(cpu, src, have));
			/* Any of these bytes may have made it what it is. */
			in.len = have - off + (two ? INSN_MAX : 0) < INSN_MAX ?
				 have - off + (two ? INSN_MAX : 0) : INSN_MAX;
			in.pc = pc;
			in.kind = INSN_FAULT;
			in.sig = SIGILL;
			in.sig_code = ILL_ILLOPN;
			in.sig_after = false;
		}
		if (!two) {
			uint64_t at = in.target;

			if (fixed_jump(&b, &in, &mc[1], &gen[1]))
				pointer = at;
		}
		block_insn(&b, &in);
		off += in.len;
		/* What it wrote may be the next instruction, and nothing traps. */
		if (b.tb->flags & TB_CHECKED && in.writes)
			break;
	}
	if (off <= in_page)
		two = false;
	tb = b.tb;
	if (!block_finish(&b, src, off, pc + off)) {
		*err = -ENOSPC;
		return NULL;
	}
	if (step) {
		in.bytes = NULL;
		*step = in;
		return tb;
	}
	tb->cm.flags = version;
	/* Of a view's pages traps ask what is hit. */
	tb->cm.uncovered = mc[0].page < FIRST_VIEW_PAGE &&
			   (!two || mc[1].page < FIRST_VIEW_PAGE);
	tb->cm.page[0] = mc[0].page;
	tb->cm.first[0] = pc & 4095;
	tb->cm.last[0] = two ? 4095 : (pc & 4095) + off - b.unseen - 1;
	tb->cm.gen[0] = gen[0];
	tb->cm.page[1] = CODEMAP_NO_PAGE;
	if (two) {
		tb->cm.page[1] = mc[1].page;
		tb->cm.first[1] = 0;
		tb->cm.last[1] = off - in_page - 1;
		tb->cm.gen[1] = gen[1];
	} else if (pointer) {
		tb->cm.page[1] = mc[1].page;
		tb->cm.first[1] = pointer & 4095;
		tb->cm.last[1] = (pointer & 4095) + 7;
		tb->cm.gen[1] = gen[1];
	}

	hot_mark(tb->cm.page[0], tb->cm.first[0], tb->cm.last[0]);
	if (two)
		hot_mark(tb->cm.page[1], tb->cm.first[1], tb->cm.last[1]);
	got = codemap_insert(the_map, &tb->cm, err);
	if (!got)
		return NULL;
	if (got != &tb->cm)
		return (struct tb *)got;
	st.tbs++;
	st.tb_bytes_guest += off;
	st.tb_bytes_host += tb->host_bytes;
	st.insns += tb->insns;
	if (log_on)
		log_tb(pc, off, tb->insns, tb->code, tb->host_bytes);
	if (perfmap_on)
		perfmap_tb(tb);
	probe_tb_translate(pc, flags & TB_RESTLESS ? mem_shown_page(tb->cm.page[0]) :
			   tb->cm.page[0], off, tb->host_bytes);
	return tb;
}

/* Other threads may fill the cache while this one waits for its lock. */
#define MAX_FLUSHES 16

static struct tb *translate(struct cpu *cpu, uint64_t pc, struct insn *step)
{
	unsigned int flushes = 0;
	struct tb *tb;
	int err;

	for (;;) {
		if (!cache_room()) {
			if (flushes++ == MAX_FLUSHES)
				return fail(cpu, pc, "the code cache is too small");
			cache_flush(cpu);
		}
		tb = try_translate(cpu, pc, step, 0, &err);
		if (tb || !err)
			return tb;
		if (err == -ESTALE) {
			/* Written while it was read: its bytes prove nothing. */
			st.stale_inserts++;
			core_drain(cpu);
			continue;
		}
		if (err == -ENOSPC) {
			if (flushes++ == MAX_FLUSHES)
				return fail(cpu, pc, "the code cache is too small");
			cache_flush(cpu);
			continue;
		}
		return fail(cpu, pc, "no memory for the code map");
	}
}

struct tb *block_translate(struct cpu *cpu, uint64_t pc)
{
	return translate(cpu, pc, NULL);
}

struct tb *block_translate_quick(struct cpu *cpu, uint64_t pc, unsigned int version)
{
	struct tb *tb;
	int err;

	if (log_on || perfmap_on || !cache_room())
		return NULL;
	tb = try_translate(cpu, pc, NULL, version, &err);
	/* Why it failed, and at which instruction, the other says. */
	cpu->regs.rip = pc;
	return tb;
}

struct tb *block_translate_step(struct cpu *cpu, uint64_t pc, struct insn *in)
{
	return translate(cpu, pc, in);
}
