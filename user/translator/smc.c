// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Self-modifying code: what happens when a guest store hits an armed page.
 *
 * The store has not been executed. Its host address gives the TB and the guest
 * instruction, that the store site: which bytes it writes, from the guest's
 * registers. Then
 *
 * KEEP  one operand inside one page of a private view: TBs that overlap the
 *       bytes are made unreachable, and the instruction itself is executed on
 *       the alias by its replay stub; the page stays armed. A plain mov of the
 *       value that is there already kills nothing and is skipped.
 * OPEN  everything else: all TBs of the page die, the page is disarmed, and the
 *       instruction runs natively, alone if its own block is among the dead.
 *
 * When the store's own block died, precise mode goes on at the next guest
 * instruction through the dispatcher; imprecise mode finishes the block, whose
 * memory is good until the cache is flushed.
 *
 * Between "TBs unreachable" and the replayed store no lock is held (the alias
 * may fault), so a translator on another thread could read the old bytes and
 * publish them. The page of a store in flight is therefore in cpu->replay_page,
 * and each replay moves the page's generation as the code map sees it: smc_gen().
 *
 * Runs in the upcall (the guest's vector state and %fs may be live: general
 * registers only) or in a signal handler, with rt_lock, which guards sites and
 * stubs, keeps translators away, and comes before the code map's page locks. Never
 * flushes the cache.
 */
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include <linux/codewp.h>
#include <linux/membarrier.h>

#include "core.h"
#include "hot.h"
#include "probes.h"
#include "restless.h"
#include "stylized.h"
#include "raw_syscall.h"

/* "TCGTCGTCGTCG", what cpuid 0x40000000 says on QEMU's own processors */
#define TCG_B	0x54474354U
#define TCG_C	0x43544743U
#define TCG_D	0x47435447U

/* A store site that has trapped. Freed with the cache. */
struct site {
	struct site *next;		/* of the same TB */
	struct tb *tb;
	int idx;			/* instruction */
	struct store store;
	bool can_hot;			/* hot.c */
	unsigned int misses;		/* traps without a hit */
	int scratch;			/* the register that holds the alias */
	const uint8_t *stub;		/* replay; NULL: none yet */
	uint32_t stub_op;		/* from here on scratch is spilled */
	uint32_t stub_bytes;
	struct tb *step;		/* the instruction alone; NULL: none yet */
};

/*
 * Replays begun, by page (hashed). A translator adds its page's number to the
 * generation, so that a replay between its first byte and its insert shows.
 */
#define REPLAYS 1024
static uint32_t replays[REPLAYS];

static bool in_flight(uint64_t page)
{
	const struct cpu *c;

	for (c = all_cpus; c; c = c->next)
		if (__atomic_load_n(&c->replay_page, __ATOMIC_ACQUIRE) == page)
			return true;
	return false;
}

/* codemap_ops.page_gen, under the page's lock. */
uint32_t smc_gen(void *unused, uint64_t page)
{
	uint32_t gen = mem_page_gen(NULL, page) +
		       __atomic_load_n(&replays[page % REPLAYS], __ATOMIC_ACQUIRE);

	return in_flight(page) ? ~gen : gen;
}

/*
 * smc_gen_begin() - the generation to publish a TB with
 * @page: code-map page, armed, none of its bytes read yet
 * @mem_gen: what mem_code_page() said
 *
 * A store in flight is not waited for: the sum cannot be met by smc_gen() before
 * it has landed, and the translator tries again.
 */
uint32_t smc_gen_begin(uint64_t page, uint32_t mem_gen)
{
	uint32_t gen = mem_gen + __atomic_load_n(&replays[page % REPLAYS], __ATOMIC_ACQUIRE);

	return in_flight(page) ? gen - 1 : gen;
}

/* ---- sites ---------------------------------------------------------------------- */

static struct site *site_find(const struct tb *tb, int idx)
{
	struct site *s = tb->sites;

	while (s && s->idx != idx)
		s = s->next;
	return s;
}

/* NULL: no room. */
static struct site *site_make(struct tb *tb, int idx)
{
	unsigned int off = tb_guest_off(tb, idx);
	struct insn in;
	struct site *s = cache_meta(sizeof(*s));

	if (!s)
		return NULL;
	s->tb = tb;
	s->idx = idx;
	if (decode(tb_src(tb) + off, tb_map(tb)[idx].len, tb->cm.pc + off, &in) == DECODE_OK) {
		decode_store(&in, &s->store);
		s->scratch = decode_free_reg(&in, 0);
		if (s->scratch < 0)
			s->store.size = 0;
		s->can_hot = hot_can(&in, &s->store);
	}
	s->next = tb->sites;
	tb->sites = s;
	return s;
}

/*
 * The instruction itself with (%scratch) for its operand. Entered with the
 * guest's registers; leaves to cpu->replay_next with them. False: no room.
 */
static bool site_stub(struct site *s)
{
	static const uint8_t landed[] = { 0x65, 0x48, 0xc7, 0x04, 0x25 };
	static const uint8_t jmp[] = { 0x65, 0xff, 0x24, 0x25 };
	unsigned int off = tb_guest_off(s->tb, s->idx);
	struct insn in;
	struct emit e;
	uint8_t *start;

	if (decode(tb_src(s->tb) + off, tb_map(s->tb)[s->idx].len, s->tb->cm.pc + off,
		   &in) != DECODE_OK)
		return false;
	e = cache_begin(128);
	start = e.p;
	emit_gs_store(&e, s->scratch, CPU_SCR(SCR_REPLAY));
	emit_gs_load(&e, s->scratch, CPU_ALIAS);
	s->stub_op = e.p - start;
	emit_with_mem(&e, &in, s->scratch, 0, true);
	emit_gs_load(&e, s->scratch, CPU_SCR(SCR_REPLAY));
	emit_bytes(&e, landed, sizeof(landed));	/* movq $-1, replay_page */
	emit_u32(&e, CPU_REPLAY_PAGE);
	emit_u32(&e, -1);
	emit_bytes(&e, jmp, sizeof(jmp));
	emit_u32(&e, CPU_REPLAY_NEXT);
	if (e.full)
		return false;
	cache_commit(start, &e, CACHE_REPLAY, s);
	s->stub = start;
	s->stub_bytes = e.p - start;
	return true;
}

size_t site_bytes(const struct site *s)
{
	return s->stub_bytes;
}

static uint64_t store_address(const struct cpu *cpu, const struct store *s,
			      const struct codewp_regs *guest, uint64_t fs)
{
	uint64_t ea = s->disp;

	if (s->base >= 0)
		ea += guest->r[s->base];
	if (s->index >= 0)
		ea += guest->r[s->index] * s->scale;
	if (s->addr32)
		ea = (uint32_t)ea;
	if (s->fs)
		ea += fs;
	if (s->gs)
		ea += cpu->guest_gs;
	return ea;
}

static bool same_value(const struct store *s, const struct codewp_regs *guest, uint64_t ea)
{
	uint64_t now = 0, then = s->imm;
	unsigned int unused_bits = 64 - 8 * s->size;

	if (!s->plain || guest_read(&now, ea, s->size))
		return false;
	if (s->src >= 0)
		then = guest->r[s->src] >> s->src_shift;
	return (now ^ then) << unused_bits == 0;
}

/* ---- other threads ------------------------------------------------------------------ */

static bool others_live(void)
{
	const struct cpu *self = this_cpu(), *c;

	for (c = __atomic_load_n(&all_cpus, __ATOMIC_ACQUIRE); c; c = c->next)
		if (c != self && __atomic_load_n(&c->live, __ATOMIC_RELAXED))
			return true;
	return false;
}

static void retire(struct codemap_tb *dead)
{
	for (; dead; dead = dead->dead_next) {
		struct tb *tb = (struct tb *)dead;

		for (unsigned int i = 0; i < tb->insns; i++)
			__atomic_store_n(tb->code + tb_map(tb)[i].host, 0xcc,
					 __ATOMIC_RELAXED);
	}
}

/*
 * A page is opened for the store of one thread, and another is in the middle of
 * one of its blocks: that one's next store there would not trap, and if it changes
 * the next instruction, the block must not go on. So whoever is in a dead block
 * leaves it before its next guest instruction: each begins with an int3 now, which
 * is one byte, and so the SDM's way to change code that runs (volume 3, 9.1.3).
 */
void smc_retire(struct codemap_tb *dead)
{
	if (!dead || !others_live())
		return;
	retire(dead);
	if (core_store_again())
		retire(dead);
}

void core_serialize(void)
{
	long ret;

	if (!others_live())
		return;
	ret = raw_syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0,
			  0, 0, 0);
	if (ret == -EPERM) {
		raw_syscall(SYS_membarrier,
			    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0, 0,
			    0, 0);
		ret = raw_syscall(SYS_membarrier,
				  MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0, 0, 0, 0);
	}
	if (ret)
		fatal("the kernel has no membarrier for code (%ld), which threads need", ret);
}

static bool on_qemu_tcg(void)
{
	static int8_t tcg = -1;

	if (tcg < 0) {
		unsigned int a, b, c, d;

		__cpuid(1, a, b, c, d);
		tcg = c >> 31;
		if (tcg) {
			__cpuid(0x40000000, a, b, c, d);
			tcg = b == TCG_B && c == TCG_C && d == TCG_D;
		}
	}
	return tcg;
}

/**
 * core_store_again() - must what was stored into code that runs be stored once more?
 *
 * On QEMU's own processors: before 8.1 it reads the code it translates without the lock
 * that stores to code take, and one that another processor makes meanwhile is lost on
 * the result, for ever. Such a translation ends before its processor is interrupted, so
 * the membarrier waits for it, and the second store drops it.
 */
bool core_store_again(void)
{
	if (!on_qemu_tcg() || !others_live())
		return false;
	core_serialize();
	return true;
}

/**
 * core_retired() - did this int3 of the cache come from smc_retire()?
 *
 * With regs the host's at it; they are the guest's afterwards, before the
 * instruction that it stands for.
 */
bool core_retired(struct cpu *cpu, struct codewp_regs *regs)
{
	struct cache_range r;
	const struct tb *tb;
	int idx;

	if (!cache_find(regs->rip - 1, &r) || r.kind != CACHE_TB)
		return false;
	tb = r.owner;
	idx = tb_find_insn(tb, regs->rip - 1);
	if (idx < 0 || !codemap_tb_dead(&tb->cm) ||
	    (uint64_t)tb->code + tb_map(tb)[idx].host != regs->rip - 1)
		return false;
	regs->rip--;
	return core_guest_state(cpu, regs);
}

/* ---- the trap ---------------------------------------------------------------------- */

static void drop_page(uint64_t page, uint64_t ip)
{
	struct codemap_tb *dead = codemap_invalidate(the_map, page, 0, 4095);

	restless_hit((const struct tb *)dead);
	count_dead(dead, page, 0, 4095, ip);
}

/*
 * In an upcall the guest's vector state and %fs may still be in the CPU, and what
 * allocates, emits or makes system calls must not meet them. (A signal's frame
 * has them already.)
 */
static void may_use_libc(struct cpu *cpu, int how)
{
	if (how == PROBE_HOW_UPCALL)
		core_heavy(cpu);
}

/* Not a store that we know of wrote there: believe the page, not the store. */
static void page_written(struct cpu *cpu, uint64_t page, uint64_t addr, uint64_t ip,
			 bool armed, int how)
{
	may_use_libc(cpu, how);
	drop_page(page, ip);
	core_serialize();
	st.opened++;
	if (armed && mem_open_page(addr))
		fatal("a written page cannot be opened, at %#lx", (unsigned long)addr);
}

/* The store stays as it is, natively. */
static void smc_open(struct cpu *cpu, struct codewp_regs *regs, struct tb *tb, int idx,
		     struct site *site, const struct codewp_regs *guest)
{
	if (tb->flags & TB_STEP || core_opts.imprecise || !codemap_tb_dead(&tb->cm))
		return;			/* where it was, with the registers it had */
	if (site && !site->step)
		site->step = block_step(tb, idx);
	*regs = *guest;
	if (!site || !site->step) {
		/* The cache is full: the dispatcher empties it, arms the page
		 * again and comes here again, and then there is room.
		 */
		cpu->resume_pc = guest->rip;
		regs->rip = (uint64_t)core_resume;
		return;
	}
	regs->rip = (uint64_t)site->step->cm.entry;
}

/* Once more without a hit: will it have to trap for ever? */
static void missed(struct cpu *cpu, struct site *s, uint64_t page, uint64_t pc, uint64_t ea,
		   int how)
{
	if (!s->can_hot || s->tb->flags & TB_STEP || ++s->misses < core_opts.hot_after)
		return;
	s->misses = 0;
	may_use_libc(cpu, how);
	/* Its block's next translation has it. */
	if (hot_make(pc, page, ea) && codemap_invalidate_tb(the_map, &s->tb->cm))
		cache_died(s->tb);
}

/*
 * smc_trap() - a store trapped
 * @regs: host registers at the store; changed to where the thread goes on
 * @addr: address of the write's first byte on the page
 * @page: code-map page
 * @armed: the page is still armed
 * @fs: the guest's %fs base
 * @how: PROBE_HOW_*
 */
static void smc_trap(struct cpu *cpu, struct codewp_regs *regs, uint64_t addr,
		     uint64_t page, bool armed, uint64_t fs, int how)
{
	unsigned int first, last;
	struct codewp_regs guest;
	struct cache_range r;
	const struct store *s;
	struct site *site;
	struct tb *tb;
	void *alias;
	uint64_t ea;
	const struct codemap_tb *hit_by = NULL;
	bool hit;
	int idx;

	stats_page(page, STAT_TRAP, 1);
	if (!cache_find(regs->rip, &r) || r.kind != CACHE_TB) {
		probe_trap(page, addr & 4095, 0, how);
		page_written(cpu, page, addr, 0, armed, how);
		return;
	}
	tb = r.owner;
	idx = tb_find_insn(tb, regs->rip);
	guest = *regs;
	tb_guest_state(cpu, tb, idx, regs->rip, &guest);
	probe_trap(page, addr & 4095, guest.rip, how);
	if (idx < 0 || idx >= tb->insns) {
		page_written(cpu, page, addr, guest.rip, armed, how);
		return;
	}
	site = site_find(tb, idx);
	if (!site) {
		may_use_libc(cpu, how);
		site = site_make(tb, idx);
	}
	if (!site || !armed || !site->store.size || tb->flags & TB_STEP || !mem_private(addr))
		goto open;
	s = &site->store;
	ea = store_address(cpu, s, &guest, fs);
	if (addr - ea >= s->size) {
		page_written(cpu, page, addr, guest.rip, armed, how);
		return;
	}
	first = ea & 4095;
	last = first + s->size - 1;
	if (last > 4095)
		goto open;
	alias = mem_alias(ea, s->size);
	if (!alias)
		goto open;

	if (same_value(s, &guest, ea)) {
		st.same_value++;
		hot_same(page, ea);
		missed(cpu, site, page, guest.rip, ea, how);
		*regs = guest;
		regs->rip = (uint64_t)tb->code + tb_map(tb)[idx + 1].host;
		return;
	}
	if (!site->stub) {
		may_use_libc(cpu, how);
		if (!site_stub(site))
			goto open;
	}

	codemap_lock_page(the_map, page, CODEMAP_NO_PAGE);
	hit = codemap_hits(the_map, page, first, last);
	if (hit) {
		struct codemap_tb *dead = codemap_invalidate(the_map, page, first, last);

		hit_by = dead;
		count_dead(dead, page, first, last, guest.rip);
		st.keep_hit++;
	} else {
		st.keep_miss++;
	}
	/* Pairs with smc_gen() and smc_gen_begin(). */
	__atomic_add_fetch(&replays[page % REPLAYS], 1, __ATOMIC_RELEASE);
	__atomic_store_n(&cpu->replay_page, page, __ATOMIC_RELEASE);
	codemap_unlock_page(the_map, page, CODEMAP_NO_PAGE);
	if (hit_by) {
		may_use_libc(cpu, how);
		if (!stylized_hit((const struct tb *)hit_by, page, first, last) &&
		    restless_hit((const struct tb *)hit_by))
			page_written(cpu, page, addr, guest.rip, armed, how);
	}
	if (!hit) {
		hot_clear(page, ea, first, last);
		missed(cpu, site, page, guest.rip, ea, how);
	}

	cpu->alias = (uint64_t)alias;
	cpu->replay_gva = ea;
	if (codemap_tb_dead(&tb->cm) && !core_opts.imprecise) {
		cpu->resume_pc = guest.rip + tb_map(tb)[idx].len;
		cpu->replay_next = (uint64_t)core_resume;
	} else {
		cpu->replay_next = (uint64_t)tb->code + tb_map(tb)[idx + 1].host;
	}
	*regs = guest;
	regs->rip = (uint64_t)site->stub;
	return;
open:
	page_written(cpu, page, addr, guest.rip, armed, how);
	smc_open(cpu, regs, tb, idx, site, &guest);
}

/* From core_upcall: cpu->regs is the host state at the store. */
void smc_upcall(struct cpu *cpu)
{
	const struct codewp_area *area = cpu->area;
	uint64_t fs = cpu->guest_fs;

	if (cpu->fsgsbase)
		__asm__ volatile("rdfsbase %0" : "=r"(fs));
	if (area->reason == CODEWP_REASON_TRAP) {
		st.traps_upcall++;
		rt_lock();
		smc_trap(cpu, &cpu->regs, area->addr,
			 mem_cookie_page(area->cookie, area->offset),
			 area->state & CODEWP_PAGE_ARMED, fs, PROBE_HOW_UPCALL);
		rt_unlock();
	}
	/* Look at the ring at the next edge. (Kicks that are counted: enter.S.) */
	if (area->reason == CODEWP_REASON_KICK)
		__atomic_store_n(&cpu->stop, 1, __ATOMIC_RELEASE);
}

/* codewp_trap_fn of the backends that tell by signal. */
static void smc_signal(struct codewp_trap *trap, void *arg)
{
	struct cpu *cpu = arg;
	uint32_t in_cache = cpu->in_cache;

	cpu->in_cache = 0;
	st.traps_signal++;
	rt_lock();
	smc_trap(cpu, trap->regs, trap->addr, mem_cookie_page(trap->cookie, trap->voff),
		 trap->armed, cpu->guest_fs, PROBE_HOW_SIGNAL);
	rt_unlock();
	cpu->in_cache = in_cache;
}

/* An event of the ring: a page was written and is open, who knows how far. */
void smc_event(uint64_t page, uint64_t ip)
{
	stats_page(page, STAT_TRAP, 1);
	probe_trap(page, 0, ip, PROBE_HOW_EVENT);
	drop_page(page, ip);
	core_serialize();
}

/* ---- faults ------------------------------------------------------------------------- */

bool core_guest_state(struct cpu *cpu, struct codewp_regs *regs)
{
	struct cache_range r;
	const struct site *s;
	struct tb *tb;

	/* Between two of the guest's instructions nothing faults. */
	if (!cache_find(regs->rip, &r) || r.kind == CACHE_ENTRY || r.kind == CACHE_STUB)
		return false;
	if (r.kind == CACHE_TB) {
		tb = r.owner;
		tb_guest_state(cpu, tb, tb_find_insn(tb, regs->rip), regs->rip, regs);
		return true;
	}
	s = r.owner;
	if (regs->rip >= (uint64_t)s->stub + s->stub_op)
		regs->r[s->scratch] = cpu->scratch[SCR_REPLAY];
	regs->rip = s->tb->cm.pc + tb_guest_off(s->tb, s->idx);
	return true;
}

uint64_t core_fault_addr(struct cpu *cpu, uint64_t addr)
{
	struct codewp_regs regs = { .rip = addr };

	/* SIGFPE and SIGILL: the instruction itself. */
	if (core_in_cache(addr) && core_guest_state(cpu, &regs))
		return regs.rip;
	if (cpu->replay_page != CODEMAP_NO_PAGE && addr - cpu->alias < 64)
		return cpu->replay_gva + (addr - cpu->alias);
	return hot_guest_addr(addr);
}

/* In place of one where there is no kernel that writes it. */
static struct codewp_area no_area;

void smc_thread_exit(struct cpu *cpu)
{
	cpu->area = &no_area;
	codewp_thread_unregister(cpu->thread);
	cpu->thread = NULL;
}

int smc_thread_init(struct cpu *cpu)
{
	struct codewp_thread_opts opts = {
		.sz = sizeof(opts),
	};
	int err;

	cpu->area = &no_area;
	cpu->kicks_seen = 0;
	if (!the_ctx)
		return 0;		/* no backend: nothing can be armed */
	cache_bounds(&opts.code_start, &opts.code_end);
	if (codewp_backend_info(the_ctx)->backend == CODEWP_KMOD) {
		opts.raw_handler = (void *)core_upcall;
		opts.raw_arg = (uint64_t)cpu;
		/*
		 * What other processes write interrupts chained blocks, the way
		 * into them and the lookup between two of them, which lie behind
		 * all other code.
		 */
		opts.kick = mem_base_view();
		if ((uint64_t)core_range < opts.code_start)
			opts.code_start = (uint64_t)core_range;
	} else {
		opts.fn = smc_signal;
		opts.arg = cpu;
	}
	err = codewp_thread_register(the_ctx, &cpu->thread, &opts);
	if (err)
		return err;
	cpu->area = codewp_thread_area(cpu->thread) ?: &no_area;
	return 0;
}
