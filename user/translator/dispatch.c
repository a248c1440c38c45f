// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The dispatcher: from a guest address to a TB, chaining on the way, and the
 * reasons to stop running guest code. Also the core's public calls that drop
 * TBs.
 *
 * core_dispatch() and what it calls run with the guest's %fs and vector state
 * in the CPU: general registers only (the file is compiled so), no libc. The
 * rest runs after core_heavy(). Locks: the code map's own, never across guest
 * code.
 */
#include <elf.h>
#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <asm/prctl.h>

#include <linux/codewp.h>

#include "core.h"
#include "mem.h"
#include "probes.h"
#include "raw_syscall.h"
#include "restless.h"
#include "stylized.h"

#define CHECK_OFFSET(member, offset)					\
	_Static_assert(offsetof(struct cpu, member) == (offset),	\
		       "cpu.h and translator.h differ")
CHECK_OFFSET(self, CPU_SELF);
CHECK_OFFSET(regs, CPU_REGS);
CHECK_OFFSET(regs.rip, CPU_RIP);
CHECK_OFFSET(regs.rflags, CPU_RFLAGS);
CHECK_OFFSET(guest_fs, CPU_GUEST_FS);
CHECK_OFFSET(guest_gs, CPU_GUEST_GS);
CHECK_OFFSET(host_fs, CPU_HOST_FS);
CHECK_OFFSET(host_rsp, CPU_HOST_RSP);
CHECK_OFFSET(scratch, CPU_SCRATCH);
CHECK_OFFSET(alias, CPU_ALIAS);
CHECK_OFFSET(replay_next, CPU_REPLAY_NEXT);
CHECK_OFFSET(stop, CPU_STOP_FLAG);
CHECK_OFFSET(near, CPU_STOP_FLAG + 4);
CHECK_OFFSET(in_cache, CPU_IN_CACHE);
CHECK_OFFSET(xsave, CPU_XSAVE);
CHECK_OFFSET(target, CPU_TARGET);
CHECK_OFFSET(exit_desc, CPU_EXIT_DESC);
CHECK_OFFSET(resume_pc, CPU_RESUME_PC);
CHECK_OFFSET(heavy, CPU_HEAVY);
CHECK_OFFSET(fsgsbase, CPU_FSGSBASE);
CHECK_OFFSET(gs_sel, CPU_GS_SEL);
CHECK_OFFSET(xsave_mask, CPU_XSAVE_MASK);
CHECK_OFFSET(area, CPU_AREA);
CHECK_OFFSET(replay_page, CPU_REPLAY_PAGE);
CHECK_OFFSET(kicks_seen, CPU_KICKS_SEEN);
_Static_assert(offsetof(struct codewp_area, busy) == AREA_BUSY &&
	       offsetof(struct codewp_area, ip) == AREA_IP &&
	       offsetof(struct codewp_area, sp) == AREA_SP &&
	       offsetof(struct codewp_area, flags) == AREA_FLAGS &&
	       offsetof(struct codewp_area, di) == AREA_DI &&
	       offsetof(struct codewp_area, kicks) == AREA_KICKS,
	       "cpu.h and linux/codewp.h differ");

struct codemap *the_map;
struct core_opts core_opts;
struct cpu *all_cpus;

/* enter.S names it; only its kind is looked at. */
extern const struct tb_exit core_resume_exit;
const struct tb_exit core_resume_exit = { .kind = TBX_RESUME };

/*
 * Which guest-virtual pages may have code made from them: a filter, so that
 * the many mapping changes that touch no code cost a few loads.
 */
#define FILTER_BITS 16
static uint64_t code_filter[(1 << FILTER_BITS) / 64];

static unsigned int filter_index(uint64_t gva)
{
	uint64_t page = gva >> 12;

	return (page ^ page >> FILTER_BITS) & ((1 << FILTER_BITS) - 1);
}

void note_code_page(uint64_t gva)
{
	unsigned int i = filter_index(gva);

	code_filter[i / 64] |= 1ULL << i % 64;
}

static bool may_have_code(uint64_t page)
{
	unsigned int i = filter_index(page << 12);

	return code_filter[i / 64] >> i % 64 & 1;
}

/* ---- chaining ----------------------------------------------------------------- */

/*
 * Threads whose TBs a signal handler has cut loose, and which have not come here
 * yet. If another thread chained such an edge again, even for a moment, the first
 * could spin behind it with its signal undelivered; so no edge is made meanwhile.
 */
static uint32_t cuts;

/*
 * codemap_ops.set_jump: the offset is aligned, so this is one store for every CPU
 * that fetches it. Comes after the edge is in the map: whoever cuts and does not
 * find it there has raised cuts before, and no jump is made (seq_cst on both
 * sides; pairs with cut_begin()).
 */
static void set_jump(struct codemap_tb *cm, int slot, struct codemap_tb *dest)
{
	struct tb *tb = (struct tb *)cm;
	uint8_t *at = tb->code + tb->exit[slot].jump;
	const uint8_t *to;
	int32_t rel;

	if (dest && __atomic_load_n(&cuts, __ATOMIC_SEQ_CST)) {
		this_cpu()->not_chained = 1;
		dest = NULL;
	}
	to = dest ? dest->entry : tb->code + tb->exit[slot].stub;
	rel = to - (at + 4);
	__atomic_store_n((int32_t *)at, rel, __ATOMIC_RELEASE);
	if (!dest && core_store_again())
		__atomic_store_n((int32_t *)at, rel, __ATOMIC_RELEASE);
}

static void cut_begin(struct cpu *cpu)
{
	if (cpu->cut)
		return;
	cpu->cut = 1;
	/* Pairs with set_jump(): it sees the cut, or the cut finds its edge. */
	__atomic_add_fetch(&cuts, 1, __ATOMIC_SEQ_CST);
}

static void cut_end(struct cpu *cpu)
{
	if (!cpu->cut)
		return;
	cpu->cut = 0;
	__atomic_sub_fetch(&cuts, 1, __ATOMIC_RELEASE);
}

static void chain(struct tb *from, int slot, struct tb *to)
{
	struct cpu *cpu = this_cpu();

	if (core_opts.no_chain || !from || slot < 0 || from->flags & TB_STEP ||
	    __atomic_load_n(&cuts, __ATOMIC_RELAXED))
		return;
	cpu->not_chained = 0;
	if (!codemap_chain(the_map, &from->cm, slot, &to->cm))
		return;
	/* In the map only: take it out, or it would never be made. */
	if (cpu->not_chained)
		codemap_unchain(the_map, &from->cm);
	else
		st.chains++;
}

/* ---- the fast way ---------------------------------------------------------------- */

static bool events_pending(void)
{
	const struct codewp_view *base = mem_base_view();
	struct cpu *cpu = this_cpu();

	/* A kick comes after its event: those counted until here are seen below. */
	cpu->kicks_seen = __atomic_load_n(&cpu->area->kicks, __ATOMIC_ACQUIRE);
	return base && codewp_pending(base);
}

/*
 * Nothing is at the guest's rip yet. Make it here, with the guest's state in the CPU,
 * if that takes no waiting and no call into libc or the kernel: the way out and in
 * again by core_run() costs as much as all the rest. NULL: that way it has to be.
 */
static struct tb *make_quick(struct cpu *cpu, struct tb *from, unsigned int version)
{
	struct tb *tb;

	if (core_opts.no_quick || !rt_trylock())
		return NULL;
	cpu->last_tb = from;
	tb = block_translate_quick(cpu, cpu->regs.rip, version);
	if (tb && !from && !version)
		block_jc_entry(tb);
	cpu->last_tb = NULL;
	rt_unlock();
	if (tb)
		st.quick++;
	return tb;
}

static void drop_versions(uint64_t pc)
{
	for (unsigned int v = 0; v < TB_VERSIONS; v++) {
		struct tb *tb = (struct tb *)codemap_lookup(the_map, pc, v);

		if (!tb || !(tb->flags & TB_CHECKED) ||
		    !codemap_invalidate_tb(the_map, &tb->cm))
			continue;
		tb->cm.dead_next = NULL;
		count_dead(&tb->cm, tb->cm.page[0], tb->cm.first[0], tb->cm.last[0], pc);
	}
}

/* The tables of restless.c and stylized.c are hints: if they cannot be had, then not. */
static void calm(struct tb *tb)
{
	if (rt_trylock()) {
		restless_calm(tb);
		rt_unlock();
	}
	drop_versions(tb->cm.pc);
}

/*
 * The bytes are not those that tb was made of: maybe those of its next version, or of
 * one that is to be made. NULL: none has been found, and all that there were are gone.
 */
static struct tb *next_version(struct cpu *cpu, struct tb *tb)
{
	unsigned int v = tb->cm.flags + 1;
	struct tb *next = NULL;
	bool known = false;

	st.check_failures++;
	if (v < TB_VERSIONS)
		next = (struct tb *)codemap_lookup(the_map, tb->cm.pc, v);
	if (next)
		return next;
	if (rt_trylock()) {
		stylized_changed(tb);
		known = restless_changed(tb);
		rt_unlock();
	}
	if (known && v < TB_VERSIONS && !core_opts.no_versions)
		next = make_quick(cpu, NULL, v);
	if (!next)
		drop_versions(tb->cm.pc);
	else
		st.versions++;
	return next;
}

/*
 * From enter.S with the guest's registers in cpu->regs: where to go on, or
 * LEAVE_*. General registers only until core_heavy().
 */
uint64_t core_dispatch(struct cpu *cpu, const struct tb_exit *exit)
{
	uint64_t pc = cpu->regs.rip;
	struct tb *from = NULL;
	int slot = -1;
	struct tb *tb;

	cpu->last_tb = NULL;
	cut_end(cpu);
	if (!exit) {
		st.jc_misses++;
	} else {
		pc = exit->pc;
		switch (exit->kind) {
		case TBX_JUMP:
			from = exit_tb(exit);
			slot = exit->nr;
			break;
		case TBX_RESUME:
			pc = cpu->resume_pc;
			break;
		case TBX_SYSCALL:
			cpu->regs.rip = pc;
			cpu->regs.r[RCX] = pc;
			cpu->regs.r[11] = cpu->regs.rflags;
			cpu->exit = CPU_SYSCALL;
			return LEAVE_EXIT;
		case TBX_FAULT:
			cpu->regs.rip = pc;
			cpu->fault_sig = exit->sig;
			cpu->fault_code = exit->code;
			cpu->fault_addr = exit->sig == SIGILL ? pc : 0;
			cpu->exit = CPU_FAULT;
			return LEAVE_EXIT;
		case TBX_EMULATE:
			cpu->regs.rip = pc;
			cpu->emulate = exit;
			cpu->exit = CPU_EMULATE;
			return LEAVE_EXIT;
		case TBX_UNSUPPORTED:
			cpu->regs.rip = pc;
			cpu->unsupported = exit_why(exit);
			cpu->exit = CPU_UNSUPPORTED;
			return LEAVE_EXIT;
		case TBX_CHECK:
			if (cpu->stop || cpu->stepping)
				break;
			cpu->regs.rip = pc;
			tb = next_version(cpu, exit_tb(exit));
			if (!tb)
				break;
			chain(exit_tb(exit), exit->nr, tb);
			return (uint64_t)tb->cm.entry;
		case TBX_CALM:
			calm(exit_tb(exit));
			break;
		}
	}
	cpu->regs.rip = pc;
	if (cpu->stepping) {
		cpu->stepping = 2;
		return LEAVE_MISS;
	}
	if (cpu->stop || events_pending())
		return LEAVE_MISS;
	st.lookups++;
	tb = (struct tb *)codemap_lookup(the_map, pc, 0);
	if (!tb)
		tb = make_quick(cpu, from, 0);
	if (!tb) {
		cpu->last_tb = from;
		cpu->last_slot = slot;
		cpu->last_epoch = cpu->epoch;
		return LEAVE_MISS;
	}
	if (!exit && !tb->cm.jc_entry)
		return LEAVE_MISS;	/* to make it */
	/* From a check or an indirect jump: the next one finds it. */
	if (!from && tb->cm.jc_entry) {
		if (!exit && jump_cache_crowded(cpu, pc))
			return LEAVE_MISS;
		codemap_jc_insert(&cpu->jc, &tb->cm);
	}
	chain(from, slot, tb);
	return (uint64_t)tb->cm.entry;
}

/* ---- the slow way ------------------------------------------------------------------ */

/*
 * The TB at the guest's rip, found or made, with cpu->epoch set; NULL: cpu->exit
 * says why there is none. A TB that is found after cache_enter() cannot be freed;
 * one that is made cannot while rt_lock is held.
 */
static struct tb *find_or_make(struct cpu *cpu)
{
	struct tb *from, *tb;

	jump_cache_grow(cpu);
	from = cpu->last_tb;
	/* Whoever comes from a jump has looked already, and has an edge to make. */
	if (!from) {
		cache_enter(cpu);
		tb = (struct tb *)codemap_lookup(the_map, cpu->regs.rip, 0);
		if (tb && tb->cm.jc_entry)
			return tb;
		cache_leave(cpu);
	}
	rt_lock();
	tb = (struct tb *)codemap_lookup(the_map, cpu->regs.rip, 0);
	if (!tb)
		tb = block_translate(cpu, cpu->regs.rip);
	if (tb && !from)
		block_jc_entry(tb);
	if (tb) {
		cache_enter(cpu);
		/* A flush may have come between, and taken the memory of the edge. */
		if (cpu->last_tb && cpu->last_epoch == cpu->epoch)
			chain(cpu->last_tb, cpu->last_slot, tb);
	}
	rt_unlock();
	return tb;
}

/* The instruction of an exit that C does, by a copy of its bytes. */
static bool emulate(struct cpu *cpu)
{
	const struct tb *tb = exit_tb(cpu->emulate);
	size_t off = cpu->regs.rip - tb->cm.pc, n = tb->guest_bytes - off;
	uint8_t bytes[INSN_MAX];

	if (n > INSN_MAX)
		n = INSN_MAX;
	memcpy(bytes, tb_src(tb) + off, n);
	cache_leave(cpu);
	return core_emulate(cpu, bytes, n);
}

/*
 * The guest has set the trap flag: one instruction, then SIGTRAP. The flag is in
 * cpu->regs only, never in the processor's. True: go on; false: cpu->exit says why
 * not.
 */
static bool step(struct cpu *cpu)
{
	struct insn in;
	struct tb *tb;
	uint64_t why;
	uint16_t top;

	rt_lock();
	tb = block_translate_step(cpu, cpu->regs.rip, &in);
	if (tb)
		cache_enter(cpu);
	rt_unlock();
	if (!tb)
		return false;
	cpu->stepping = 1;
	cpu->regs.rflags &= ~FLAG_TF;
	why = core_enter(cpu, tb->cm.entry);
	cpu->regs.rflags |= FLAG_TF;
	cut_end(cpu);
	if (why == LEAVE_EXIT) {
		cpu->stepping = 0;
		if (cpu->exit == CPU_EMULATE) {
			if (!emulate(cpu))
				return false;
			cpu->stepping = 2;
		} else if (cpu->exit == CPU_SYSCALL) {
			cpu->regs.r[11] |= FLAG_TF;
		}
	}
	cache_leave(cpu);
	if (why == LEAVE_EXIT && !cpu->stepping)
		return false;
	if (cpu->stepping == 1) {		/* a cut came first */
		cpu->stepping = 0;
		return true;
	}
	cpu->stepping = 0;
	if (decode_is_pushf(&in) && !guest_read(&top, cpu->regs.r[RSP], sizeof(top))) {
		top |= FLAG_TF;
		guest_write(cpu->regs.r[RSP], &top, sizeof(top));
	}
	cpu->exit = CPU_FAULT;
	cpu->fault_sig = SIGTRAP;
	cpu->fault_code = TRAP_TRACE;
	cpu->fault_addr = cpu->regs.rip;
	return false;
}

enum cpu_exit core_run(struct cpu *cpu)
{
	if (cpu->run_depth)
		fatal("core_run() is not reentrant");
	cpu->run_depth = 1;
	for (;;) {
		uint64_t why;
		struct tb *tb;

		/* Pairs with whoever queues a signal and then sets stop. */
		if (__atomic_load_n(&cpu->stop, __ATOMIC_RELAXED) &&
		    __atomic_exchange_n(&cpu->stop, 0, __ATOMIC_ACQ_REL))
			cpu->last_tb = NULL;
		if (cpu->sig_pending) {
			cpu->exit = CPU_STOP;
			break;
		}
		core_drain(cpu);
		if (cpu->regs.rflags & FLAG_TF) {
			cpu->last_tb = NULL;
			if (step(cpu))
				continue;
			break;
		}
		tb = find_or_make(cpu);
		if (!tb)
			break;
		codemap_jc_insert(&cpu->jc, &tb->cm);
		cpu->last_tb = NULL;
		why = core_enter(cpu, tb->cm.entry);
		cut_end(cpu);
		if (why == LEAVE_EXIT && cpu->exit == CPU_EMULATE && emulate(cpu))
			continue;
		cache_leave(cpu);
		if (why == LEAVE_EXIT)
			break;
	}
	cpu->run_depth = 0;
	return cpu->exit;
}

static void drain_event(const struct codewp_event_info *ev, void *arg)
{
	st.events++;
	smc_event(mem_cookie_page(ev->cookie, ev->voff), ev->ip);
}

void core_drain(struct cpu *cpu)
{
	bool mine;
	int n;

	if (!events_pending())
		return;
	/* One thread at a time; the pages' TBs die with the lock held, too. */
	mine = rt_lock_mine();
	if (!mine)
		rt_lock();
	n = codewp_drain(mem_base_view(), drain_event, NULL);
	if (!mine)
		rt_unlock();
	if (n < 0)
		fatal("the event ring cannot be read: %s", codewp_strerror(n));
}

/* ---- dropping ------------------------------------------------------------------------ */

size_t count_dead(struct codemap_tb *dead, uint64_t page, unsigned int first,
		  unsigned int last, uint64_t writer_ip)
{
	size_t n = 0;

	if (dead && ((struct tb *)dead)->flags & TB_RESTLESS)
		page = mem_shown_page(page);
	smc_retire(dead);
	for (; dead; dead = dead->dead_next) {
		cache_died((struct tb *)dead);
		n++;
	}
	st.invalidated += n;
	if (n)
		stats_page(page, STAT_INVALIDATED, n);
	probe_tb_invalidate(page, first, last, n, writer_ip);
	return n;
}

size_t core_invalidate_page(uint64_t page, unsigned int first, unsigned int last)
{
	return count_dead(codemap_invalidate(the_map, page, first, last), page,
			  first, last, 0);
}

struct range_drop {
	uint64_t start, end;
	size_t n;
};

static void drop_in_range(struct tb *tb, void *arg)
{
	struct range_drop *r = arg;

	if (tb->flags & TB_STEP || codemap_tb_dead(&tb->cm) ||
	    tb->cm.pc >= r->end || tb->cm.pc + tb->guest_bytes <= r->start)
		return;
	if (codemap_invalidate_tb(the_map, &tb->cm)) {
		tb->cm.dead_next = NULL;
		r->n += count_dead(&tb->cm, tb->cm.page[0], tb->cm.first[0],
				   tb->cm.last[0], 0);
	}
}

/*
 * Code-map pages of memory that is in no view have the numbers of their guest
 * addresses; a block of two pages is found by either.
 */
static size_t drop_pages(uint64_t start, uint64_t end)
{
	size_t n = 0;

	for (uint64_t page = start >> 12; page <= (end - 1) >> 12; page++) {
		uint64_t at = page << 12;

		if (may_have_code(page))
			n += core_invalidate_page(page, start > at ? start - at : 0,
						  end - at < 4096 ? end - at - 1 : 4095);
	}
	return n;
}

size_t core_invalidate_range(uint64_t start, uint64_t end)
{
	struct range_drop r = { start, end, 0 };

	if (start >= end)
		return 0;
	/* The filter says yes to every page of a range that is larger than it. */
	if ((end - start) >> 12 < 1 << FILTER_BITS)
		return drop_pages(start, end);
	cache_for_each_tb(drop_in_range, &r);
	return r.n;
}

/* ---- signals --------------------------------------------------------------------------- */

bool core_in_cache(uint64_t host_pc)
{
	uint64_t start, end;

	cache_bounds(&start, &end);
	return host_pc >= start && host_pc < end;
}

void core_signal_exit(struct cpu *cpu, struct codewp_regs *regs, enum cpu_exit why)
{
	cpu->exit = why;
	cpu->resume_pc = regs->rip;
	cpu->replay_page = CODEMAP_NO_PAGE;
	regs->rip = (uint64_t)core_signal_leave;
}

void core_cut_all(struct cpu *cpu)
{
	cut_begin(cpu);
	codemap_unchain_all(the_map);
}

void core_cut(struct cpu *cpu, uint64_t host_pc)
{
	struct cache_range r;

	/*
	 * In C, the flag is looked at before guest code runs again; in_cache is
	 * set before that look (enter.S), so a signal between the two comes here.
	 */
	if (!cpu->in_cache)
		return;
	cut_begin(cpu);
	if (cache_find(host_pc, &r) && (r.kind == CACHE_TB || r.kind == CACHE_STUB) &&
	    !(((struct tb *)r.owner)->flags & TB_STEP))
		codemap_unchain(the_map, &((struct tb *)r.owner)->cm);
	else
		codemap_unchain_all(the_map);	/* which TB comes next is not known */
}

/* ---- start ------------------------------------------------------------------------------- */

/* block_translate_quick() comes here with the guest's state. */
static void *map_zalloc(size_t bytes)
{
	core_heavy(this_cpu());
	return calloc(1, bytes);
}

int core_new_map(void)
{
	static const struct codemap_ops ops = {
		.set_jump = set_jump, .page_gen = smc_gen, .zalloc = map_zalloc,
	};

	the_map = codemap_new(&ops, NULL, MEM_PAGE_BITS);
	return the_map ? 0 : -ENOMEM;
}

int core_init(const struct core_opts *opts)
{
	int err;

	core_opts = *opts;
	decode_init();
	jump_cache_init();
	err = cache_init(opts->cache_bytes ? opts->cache_bytes : 128UL << 20,
			 opts->cache_base);
	if (err)
		return err;
	return core_new_map();
}

static int xsave_init(struct cpu *cpu)
{
	unsigned int a, b, c, d, lo, hi;
	uint8_t *area;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return -EOPNOTSUPP;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	/* PKRU is no state of the vector units, and a system call may set it. */
	cpu->xsave_mask = ((uint64_t)hi << 32 | lo) & ~(1ULL << 9);
	__cpuid_count(0xd, 0, a, b, c, d);
	area = mmap(NULL, (b + 4095) & ~4095U, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		return -errno;
	/* All components in their initial state, but MXCSR is always loaded. */
	*(uint32_t *)(area + 24) = 0x1f80;
	cpu->xsave = area;
	return 0;
}

int core_cpu_init(struct cpu *cpu)
{
	struct cpu *head;

	cpu->self = cpu;
	cpu->fsgsbase = !!(getauxval(AT_HWCAP2) & 2);
	cpu->heavy = 1;
	cpu->replay_page = CODEMAP_NO_PAGE;
	if (raw_syscall(SYS_arch_prctl, ARCH_GET_FS, (long)&cpu->host_fs, 0, 0, 0, 0) ||
	    raw_syscall(SYS_arch_prctl, ARCH_SET_GS, (long)cpu, 0, 0, 0, 0))
		return -EPERM;
	if (cpu->live)
		return 0;
	cpu->live = 1;
	for (head = all_cpus; head; head = head->next)
		if (head == cpu)
			return 0;
	cpu->next = __atomic_load_n(&all_cpus, __ATOMIC_RELAXED);
	/* Pairs with the acquire of whoever walks the list. */
	while (!__atomic_compare_exchange_n(&all_cpus, &cpu->next, cpu, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	return 0;
}

int core_thread_init(struct cpu *cpu)
{
	int err = cpu->xsave ? 0 : xsave_init(cpu);

	cpu->near = -(core_near() >> 32);
	return err ?: jump_cache_attach(cpu) ?: smc_thread_init(cpu);
}

void core_thread_exit(struct cpu *cpu)
{
	cut_end(cpu);
	cache_leave(cpu);
	cpu->last_tb = NULL;
	cpu->run_depth = 0;
	cpu->replay_page = CODEMAP_NO_PAGE;
	smc_thread_exit(cpu);
	if (cpu->jc.e)
		codemap_jc_detach(the_map, &cpu->jc);
}

static void drop_any(struct tb *tb, void *unused)
{
	if (tb->flags & TB_STEP || codemap_tb_dead(&tb->cm))
		return;
	for (int i = 0; i < 2; i++)
		/* In a view: it is the parent's, and so are the page's numbers. */
		if (tb->cm.page[i] != CODEMAP_NO_PAGE && tb->cm.page[i] >= FIRST_VIEW_PAGE) {
			codemap_invalidate_tb(the_map, &tb->cm);
			return;
		}
}

void core_fork_child(struct cpu *cpu, bool alone)
{
	int err = 0;

	for (struct cpu *c = all_cpus; c; c = c->next) {
		c->cut = 0;
		c->epoch = 0;
		c->replay_page = CODEMAP_NO_PAGE;
		if (c == cpu)
			continue;
		c->in_cache = 0;
		c->run_depth = 0;
		/* The parent's, with locks that nobody here will give back. */
		c->thread = NULL;
		/* Of a code map that is not used any more. */
		if (!alone)
			c->jc.e = NULL;
	}
	cuts = 0;
	cpu->last_tb = NULL;
	cpu->thread = NULL;
	if (alone) {
		cache_for_each_tb(drop_any, NULL);
	} else {
		cache_reset();
		err = core_new_map();
		if (!err)
			err = jump_cache_attach(cpu);
	}
	if (!err)
		err = smc_thread_init(cpu);
	if (err)
		fatal("a child cannot be run: %s", codewp_strerror(err));
}
