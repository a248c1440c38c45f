// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Hot store sites: data that is stored beside code, without a trap.
 *
 * A store site that keeps trapping though its page's code is elsewhere is translated
 * again, to look before it stores: is this the page that it used to store to, and
 * has none of these bytes been made code of? Then it stores through the alias, and
 * the page stays armed for all others. Else the store is made as ever, and traps.
 *
 * What it looks at is a window: a byte for each byte of the page, 0 where nothing
 * was translated. All other bytes are 1: what nobody has asked about, what was
 * dropped since, and behind the end, so that a store across it goes the other way.
 * To take a window away is to show ones in its place; the code that looks there stays.
 *
 * Only while the guest has one thread: between look and store another one could
 * translate the bytes. mem_map.c takes windows away when their memory is mapped,
 * protected or unmapped, fork and clone take them all. The next trap there brings one
 * back, or mprotect() when the guest may write again.
 *
 * With rt_lock; hot_clear() and what it calls in the upcall, too (no libc). Owns
 * windows and sites, which live until the cache is emptied, since code names them.
 */
#include <cpuid.h>
#include <string.h>
#include <sys/mman.h>

#include "hot.h"
#include "probes.h"
#include "runtime.h"

#define PAGE_BYTES	4096U
#define TAIL		16	/* the largest store that can be hot */
#define WORD		64	/* bytes that the code map tells about at once */
#define WINDOWS		1024
#define SLOTS		2048	/* a power of two */
#define SITES		2048	/* a power of two */
#define STAY		200000	/* cycles that a site stays with a page at least */

struct window {
	const uint8_t *shown;	/* code, or ones */
	char *alias;		/* of the page */
	uint64_t gva, page;	/* the guest's address and the code map's number */
	uint64_t marked;	/* words of code that have ones, a bit each */
	uint8_t code[PAGE_BYTES + TAIL];
};

static const uint8_t ones[PAGE_BYTES + TAIL] = { [0 ... PAGE_BYTES + TAIL - 1] = 1 };

struct hot_site {
	uint64_t pc;		/* 0: free */
	struct window *w;
	uint64_t since;		/* when it came there */
};

static struct window *windows;	/* WINDOWS of them */
static unsigned int nr_windows;
static uint64_t window_gva[WINDOWS];	/* again, to be looked through quickly */
static uint16_t slots[SLOTS];	/* by code-map page: 1 + number of the window; 0: free */
static struct hot_site sites[SITES];
static unsigned int nr_sites;

/* shrx is the one shift that leaves the flags alone. */
static bool have_bmi2(void)
{
	static int known;
	unsigned int a, b, c, d;

	if (!known) {
		known = 1;
		if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & (1U << 8))
			known = 2;
	}
	return known == 2;
}

static struct hot_site *site_of(uint64_t pc)
{
	unsigned int i = (pc * 0x9e3779b97f4a7c15ULL) >> 53;

	while (sites[i].pc && sites[i].pc != pc)
		i = (i + 1) % SITES;
	return &sites[i];
}

static unsigned int slot_of(uint64_t page)
{
	return (page * 0x9e3779b97f4a7c15ULL) >> 53;
}

static struct window *window_of(uint64_t page, uint64_t gva)
{
	for (unsigned int i = slot_of(page); slots[i]; i = (i + 1) % SLOTS) {
		struct window *w = &windows[slots[i] - 1];

		if (w->page == page && w->gva == gva)
			return w;
	}
	return NULL;
}

static void cool(struct window *w)
{
	w->shown = ones;
	w->alias = NULL;
}

static struct window *window_make(uint64_t page, uint64_t gva)
{
	struct window *w = window_of(page, gva);
	unsigned int i;

	if (w)
		return w;
	if (!windows)
		windows = mem_runtime_map(WINDOWS * sizeof(*w), PROT_READ | PROT_WRITE);
	if (!windows || nr_windows == WINDOWS)
		return NULL;
	window_gva[nr_windows] = gva;
	w = &windows[nr_windows++];
	w->page = page;
	w->gva = gva;
	w->marked = -1UL;
	memset(w->code, 1, sizeof(w->code));
	cool(w);
	for (i = slot_of(page); slots[i];)
		i = (i + 1) % SLOTS;
	slots[i] = nr_windows;
	return w;
}

bool hot_can(const struct insn *in, const struct store *s)
{
	return !core_opts.no_hot && have_bmi2() && in->mem >= 0 && s->size &&
	       s->size <= TAIL && (s->size & (s->size - 1)) == 0 &&
	       !s->fs && !s->gs && !s->addr32 && decode_free_reg(in, 1 << RCX) >= 0;
}

bool hot_make(uint64_t pc, uint64_t page, uint64_t ea)
{
	struct hot_site *s = site_of(pc);
	struct window *w;

	if (thread_count() > 1 || (!s->pc && nr_sites == SITES / 2))
		return false;
	w = window_make(page, ea & -4096UL);
	if (!w || s->w == w || (s->pc && __builtin_ia32_rdtsc() - s->since < STAY))
		return false;
	nr_sites += !s->pc;
	s->pc = pc;
	s->since = __builtin_ia32_rdtsc();
	s->w = w;
	st.hot_sites++;
	probe_page_rung(page, PROBE_RUNG_HOT, pc);
	return true;
}

/* The page's window, with its alias again should it have been taken away. */
static struct window *warm(uint64_t page, uint64_t ea)
{
	struct window *w = window_of(page, ea & -4096UL);

	if (!w || thread_count() > 1)
		return NULL;
	w->alias = mem_alias(w->gva, PAGE_BYTES);
	if (!w->alias)
		return NULL;
	w->shown = w->code;
	return w;
}

void hot_same(uint64_t page, uint64_t ea)
{
	warm(page, ea);
}

/* What the code map knows, a bit for each of WORD bytes, as bytes. */
static void show_word(struct window *w, unsigned int word)
{
	uint64_t covered = codemap_covered(the_map, w->page, word);
	uint8_t *code = w->code + word * WORD;

	if (!covered) {
		memset(code, 0, WORD);
		w->marked &= ~(1UL << word);
		return;
	}
	for (unsigned int i = 0; i < WORD; i++)
		code[i] = covered >> i & 1;
}

static void show(struct window *w)
{
	for (uint64_t left = w->marked; left; left &= left - 1)
		show_word(w, __builtin_ctzl(left));
}

/* All of the page: where one store goes the next will. */
void hot_clear(uint64_t page, uint64_t ea, unsigned int first, unsigned int last)
{
	struct window *w = warm(page, ea);

	/* Were these bytes free? Then it is not the window that made it trap. */
	if (!w || !(w->code[first] | w->code[last]))
		return;
	show(w);
}

void hot_mark(uint64_t page, unsigned int first, unsigned int last)
{
	if (!nr_windows)
		return;
	for (unsigned int i = slot_of(page); slots[i]; i = (i + 1) % SLOTS) {
		struct window *w = &windows[slots[i] - 1];

		if (w->page != page)
			continue;
		memset(w->code + first, 1, last - first + 1);
		for (unsigned int word = first / WORD; word <= last / WORD; word++)
			w->marked |= 1UL << word;
	}
}

void core_cool(uint64_t start, uint64_t end)
{
	for (unsigned int i = 0; i < nr_windows; i++)
		if (window_gva[i] < end && window_gva[i] + PAGE_BYTES > start)
			cool(&windows[i]);
}

void core_warm(uint64_t start, uint64_t end, uint64_t page)
{
	for (unsigned int i = 0; i < nr_windows; i++) {
		uint64_t gva = window_gva[i];

		if (gva >= start && gva < end &&
		    windows[i].page == page + ((gva - start) >> 12) &&
		    warm(windows[i].page, gva))
			show(&windows[i]);
	}
}

uint64_t hot_guest_addr(uint64_t addr)
{
	for (unsigned int i = 0; i < nr_windows; i++)
		if (windows[i].alias && addr - (uint64_t)windows[i].alias < PAGE_BYTES)
			return windows[i].gva + (addr - (uint64_t)windows[i].alias);
	return addr;
}

void hot_reset(void)
{
	if (nr_windows)
		memset(slots, 0, sizeof(slots));
	nr_windows = 0;
	if (nr_sites)
		memset(sites, 0, sizeof(sites));
	nr_sites = 0;
}

/* ---- the code ------------------------------------------------------------------- */

static void emit_to_rcx(struct emit *e, const void *from)
{
	static const uint8_t load[] = { 0x48, 0x8b, 0x09 };	/* mov (%rcx), %rcx */

	emit_mov_imm(e, RCX, (uint64_t)from);
	emit_bytes(e, load, sizeof(load));
}

/* Load size bytes at (%rcx,%reg) + disp to %rcx. */
static void emit_look(struct emit *e, int reg, unsigned int size, uint8_t disp)
{
	if (size <= 2) {
		emit_u8(e, 0x0f);
		emit_u8(e, size == 1 ? 0xb6 : 0xb7);
	} else {
		if (size >= 8)
			emit_u8(e, 0x48);
		emit_u8(e, 0x8b);
	}
	emit_u8(e, 0x4c);
	emit_u8(e, reg << 3 | RCX);
	emit_u8(e, disp);
}

/* jrcxz forward; returns where its offset is */
static uint8_t *emit_jrcxz(struct emit *e)
{
	emit_u8(e, 0xe3);
	emit_u8(e, 0);
	return e->p - 1;
}

static void here(struct emit *e, uint8_t *rel8)
{
	if (!e->full)
		*rel8 = e->p - (rel8 + 1);
}

/* What a plain mov stores, zero-extended, to %reg, which it does not use. */
static void emit_value(struct emit *e, int reg, const struct store *s)
{
	int src = s->src;

	if (src < 0) {
		emit_mov_imm(e, reg, s->size == 8 ? s->imm : s->imm & ((1UL << 8 * s->size) - 1));
		return;
	}
	if (src == RCX) {
		emit_gs_load(e, reg, CPU_SCR(SCR_ADDR2));
		/* movzbl %ch, %reg has no %reg for its source: by bytes in memory */
		if (s->src_shift) {
			emit_bytes(e, (uint8_t[]){ 0x65, 0x0f, 0xb6, 0x04 | reg << 3, 0x25 }, 5);
			emit_u32(e, CPU_SCR(SCR_ADDR2) + 1);
			return;
		}
		src = reg;
	}
	if (s->src_shift) {
		emit_bytes(e, (uint8_t[]){ 0x0f, 0xb6, 0xc4 | reg << 3 | src }, 3);
		return;
	}
	emit_u8(e, 0x40 | (s->size == 8) << 3 | src >> 3);
	if (s->size <= 2) {
		emit_u8(e, 0x0f);
		emit_u8(e, s->size == 1 ? 0xb6 : 0xb7);
	} else {
		emit_u8(e, 0x8b);
	}
	emit_u8(e, 0xc0 | reg << 3 | (src & 7));
}

static void emit_ea(struct emit *e, int reg, const struct insn *in)
{
	if (in->kind == INSN_RIPREL)
		emit_mov_imm(e, reg, in->target);
	else
		emit_op_mem(e, 0x8d, reg, in, false);
}

/*
 * %reg: where in the window's page, code. Is what shall be stored there already? Then
 * to *same, with %rcx as it was; else on, with both registers lost.
 */
static void emit_same_value(struct emit *e, int reg, const struct window *w,
			    const struct store *s, const uint8_t *miss, uint8_t **same)
{
	uint8_t *taken, *go_on;

	emit_to_rcx(e, &w->alias);
	taken = emit_jrcxz(e);
	emit_look(e, reg, s->size, 0);
	emit_value(e, reg, s);
	/* %rcx - %reg: not does not touch the flags, nor does lea */
	emit_bytes(e, (uint8_t[]){ 0x48, 0xf7, 0xd0 | reg }, 3);
	emit_bytes(e, (uint8_t[]){ 0x48, 0x8d, 0x4c, reg << 3 | RCX, 1 }, 5);
	go_on = emit_jrcxz(e);
	here(e, taken);
	emit_u8(e, 0xe9);
	emit_u32(e, miss - (e->p + 4));
	here(e, go_on);
	emit_gs_load(e, RCX, CPU_SCR(SCR_ADDR2));
	emit_u8(e, 0xeb);
	*same = e->p;
	emit_u8(e, 0);
}

bool hot_insn(struct block *b, const struct insn *found, struct insn_map *m)
{
	static const uint8_t mov_12[] = { 0xb9, 12, 0, 0, 0 };	/* $12, %ecx */
	const struct hot_site *s;
	struct emit *e = &b->e;
	uint8_t *to_look, *to_second = NULL, *to_store, *over, *miss, *same = NULL;
	struct store store;
	struct insn in;
	int reg;

	if (!nr_sites || b->tb->flags & TB_STEP)
		return false;
	s = site_of(found->pc);
	if (!s->pc || decode(found->bytes, found->len, found->pc, &in) != DECODE_OK)
		return false;
	decode_store(&in, &store);
	if (!hot_can(&in, &store))	/* other bytes are there now */
		return false;
	reg = decode_free_reg(&in, 1 << RCX);

	emit_gs_store(e, reg, CPU_SCR(SCR_ADDR));
	m->main = e->p - b->start - m->host;
	m->reg = reg;
	m->slot = SCR_ADDR;
	emit_gs_store(e, RCX, CPU_SCR(SCR_ADDR2));
	emit_ea(e, reg, &in);
	emit_mov_imm(e, RCX, -s->w->gva);
	emit_lea_sum(e, reg, reg, RCX);
	emit_bytes(e, mov_12, sizeof(mov_12));
	emit_bytes(e, (uint8_t[]){ 0xc4, 0xe2, 0xf3, 0xf7, 0xc8 | reg }, 5);	/* shrx */
	to_look = emit_jrcxz(e);

	miss = e->p;
	emit_gs_load(e, RCX, CPU_SCR(SCR_ADDR2));
	if (in.kind == INSN_RIPREL) {
		emit_mov_imm(e, reg, in.target);
		emit_with_mem(e, &in, reg, 0, false);
		emit_gs_load(e, reg, CPU_SCR(SCR_ADDR));
	} else {
		emit_gs_load(e, reg, CPU_SCR(SCR_ADDR));
		emit_insn(e, in.bytes, in.len);
	}
	emit_u8(e, 0xeb);
	over = e->p;
	emit_u8(e, 0);

	here(e, to_look);
	emit_to_rcx(e, &s->w->shown);
	emit_look(e, reg, store.size, 0);
	if (store.size == 16) {
		to_second = emit_jrcxz(e);
		emit_u8(e, 0xeb);
		emit_u8(e, miss - (e->p + 1));
		here(e, to_second);
		emit_to_rcx(e, &s->w->shown);
		emit_look(e, reg, 8, 8);
	}
	to_store = emit_jrcxz(e);
	if (store.plain) {
		emit_same_value(e, reg, s->w, &store, miss, &same);
	} else {
		emit_u8(e, 0xeb);
		emit_u8(e, miss - (e->p + 1));
	}
	here(e, to_store);
	emit_to_rcx(e, &s->w->alias);
	emit_lea_sum(e, reg, reg, RCX);
	emit_gs_load(e, RCX, CPU_SCR(SCR_ADDR2));
	emit_with_mem(e, &in, reg, 0, true);
	if (same)
		here(e, same);
	emit_gs_load(e, reg, CPU_SCR(SCR_ADDR));
	here(e, over);
	return true;
}
