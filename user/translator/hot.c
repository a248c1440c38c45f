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
 * To take a window away is to fill it with ones; the code that looks there stays.
 *
 * Only while the guest has one thread: between look and store another one could
 * translate the bytes. mem_map.c takes windows away when their memory is mapped,
 * protected or unmapped, fork and clone take them all.
 *
 * With rt_lock; hot_clear() and what it calls in the upcall, too (no libc). Owns
 * windows and sites, which live until the cache is emptied, since code names them.
 */
#include <cpuid.h>
#include <string.h>
#include <sys/mman.h>

#include "hot.h"
#include "runtime.h"

#define PAGE_BYTES	4096U
#define TAIL		16	/* the largest store that can be hot */
#define CHUNK		64	/* bytes that are asked about at once */
#define WINDOWS		512
#define SITES		2048	/* a power of two */
#define MOVES		8	/* a site that goes from page to page is none */

struct window {
	char *alias;		/* of the page */
	uint64_t gva, page;	/* the guest's address and the code map's number */
	uint8_t code[PAGE_BYTES + TAIL];
};

struct hot_site {
	uint64_t pc;		/* 0: free */
	struct window *w;
	unsigned int moves;
};

static struct window *windows;	/* WINDOWS of them */
static unsigned int nr_windows;
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

static struct window *window_of(uint64_t page, uint64_t gva)
{
	for (unsigned int i = 0; i < nr_windows; i++)
		if (windows[i].page == page && windows[i].gva == gva)
			return &windows[i];
	return NULL;
}

static void cool(struct window *w)
{
	for (unsigned int i = 0; i < PAGE_BYTES + TAIL; i += 8)
		*(uint64_t *)(w->code + i) = 0x0101010101010101;
	w->alias = NULL;
}

static struct window *window_make(uint64_t page, uint64_t gva)
{
	struct window *w = window_of(page, gva);

	if (w)
		return w;
	if (!windows)
		windows = mem_runtime_map(WINDOWS * sizeof(*w), PROT_READ | PROT_WRITE);
	if (!windows || nr_windows == WINDOWS)
		return NULL;
	w = &windows[nr_windows++];
	w->page = page;
	w->gva = gva;
	cool(w);
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

	if (thread_count() > 1 || (!s->pc && nr_sites == SITES / 2) ||
	    (s->pc && s->moves == MOVES))
		return false;
	w = window_make(page, ea & -4096UL);
	if (!w || s->w == w)
		return false;
	nr_sites += !s->pc;
	s->moves += s->pc != 0;
	s->pc = pc;
	s->w = w;
	st.hot_sites++;
	return true;
}

/* The page's window, with its alias again should it have been taken away. */
static struct window *warm(uint64_t page, uint64_t ea)
{
	struct window *w = window_of(page, ea & -4096UL);

	if (!w || thread_count() > 1)
		return NULL;
	w->alias = mem_alias(w->gva, PAGE_BYTES);
	return w->alias ? w : NULL;
}

void hot_same(uint64_t page, uint64_t ea)
{
	warm(page, ea);
}

void hot_clear(uint64_t page, uint64_t ea, unsigned int first, unsigned int last)
{
	unsigned int from = first & -CHUNK, to = last | (CHUNK - 1);
	struct window *w = warm(page, ea);

	if (!w)
		return;
	if (codemap_hits(the_map, page, from, to))
		from = first, to = last;
	for (unsigned int i = from; i <= to; i++)
		w->code[i] = 0;
}

void hot_mark(uint64_t page, unsigned int first, unsigned int last)
{
	for (unsigned int i = 0; i < nr_windows; i++)
		if (windows[i].page == page)
			for (unsigned int k = first; k <= last; k++)
				windows[i].code[k] = 1;
}

void core_cool(uint64_t start, uint64_t end)
{
	for (unsigned int i = 0; i < nr_windows; i++)
		if (windows[i].gva < end && windows[i].gva + PAGE_BYTES > start)
			cool(&windows[i]);
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
	nr_windows = 0;
	if (nr_sites)
		memset(sites, 0, sizeof(sites));
	nr_sites = 0;
}

/* ---- the code ------------------------------------------------------------------- */

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
	static const uint8_t alias[] = { 0x48, 0x8b, 0x09 };	/* (%rcx), %rcx */
	uint8_t *taken, *go_on;

	emit_mov_imm(e, RCX, (uint64_t)&w->alias);
	emit_bytes(e, alias, sizeof(alias));
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
	static const uint8_t alias[] = { 0x48, 0x8b, 0x09 };	/* (%rcx), %rcx */
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
	emit_mov_imm(e, RCX, (uint64_t)s->w->code);
	emit_look(e, reg, store.size, 0);
	if (store.size == 16) {
		to_second = emit_jrcxz(e);
		emit_u8(e, 0xeb);
		emit_u8(e, miss - (e->p + 1));
		here(e, to_second);
		emit_mov_imm(e, RCX, (uint64_t)s->w->code);
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
	emit_mov_imm(e, RCX, (uint64_t)&s->w->alias);
	emit_bytes(e, alias, sizeof(alias));
	emit_lea_sum(e, reg, reg, RCX);
	emit_gs_load(e, RCX, CPU_SCR(SCR_ADDR2));
	emit_with_mem(e, &in, reg, 0, true);
	if (same)
		here(e, same);
	emit_gs_load(e, reg, CPU_SCR(SCR_ADDR));
	here(e, over);
	return true;
}
