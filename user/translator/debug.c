// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * From host addresses to the guest's, for debuggers and for the message about a
 * fault of ours. Nothing else calls these, so they are kept by hand.
 *
 * Reads the table of the cache, whose entries are whole when they can be seen;
 * a stopped process does not flush it. No lock, no libc.
 */
#include "debug.h"
#include "core.h"

__attribute__((used)) uint64_t codewp_guest_pc(uint64_t host_pc)
{
	return codewp_where(host_pc)->guest_pc;
}

__attribute__((used)) const struct codewp_where *codewp_where(uint64_t host_pc)
{
	static struct codewp_where w;
	struct codewp_regs regs = { .rip = host_pc };
	struct cpu *cpu = this_cpu();
	struct cache_range r;
	const struct insn_map *m;
	const struct tb *tb;
	int idx;

	w.guest_pc = 0;
	w.spilled = -1;
	if (!cache_find(host_pc, &r) || !core_guest_state(cpu, &regs))
		return &w;
	w.guest_pc = regs.rip;
	tb = r.kind == CACHE_TB ? r.owner : NULL;
	w.block_pc = tb ? tb->cm.pc : regs.rip;
	w.block_host = (uint64_t)r.start;
	w.block_size = tb ? tb->host_bytes : site_bytes(r.owner);
	w.insns = tb ? tb->insns : 1;
	idx = tb ? tb_find_insn(tb, host_pc) : 0;
	w.insn = idx < 0 ? 0 : idx;
	if (!tb || idx < 0)
		return &w;
	m = &tb_map(tb)[idx];
	if (m->reg >= 0 && host_pc - (uint64_t)tb->code >= m->host + m->main) {
		w.spilled = m->reg;
		w.value = cpu->scratch[m->slot];
	}
	return &w;
}
