// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Restless pages: code that is written over again and again.
 *
 * An armed page is the best for code that stays: its blocks cost nothing. Where stores
 * keep hitting code, each costs a trap and a block. So once a page's code has been hit
 * a few times (--restless-after), the blocks made there compare their source bytes at
 * entry, as those of memory that is in no view do; the page needs no arm for them, and
 * hot store sites (hot.c) see no code there.
 *
 * A check costs little, but for ever. A block that has run RUNS times since it was made,
 * which is about when its checks have cost as much as the trap and the new block that
 * they save, is calm: it is made again, without a check, on an armed page. If that was
 * wrong, and it is hit, it may run twice as often the next time. Enough blocks in a
 * row that were calm, and the page is not restless any more.
 *
 * Both tables are hints: any entry may be lost, or be another's, at the cost of time
 * only. Under rt_lock, in the upcall, too (no libc). May not touch the code map.
 */
#include <string.h>

#include "probes.h"
#include "restless.h"

#define PAGES	1024		/* both are powers of two */
#define BLOCKS	4096
#define RUNS	1024
#define MAX_TWICE 6
#define CALM	16		/* blocks that make a page calm */
#define PAST	4
#define MARKED	16U		/* bytes that a mark is made of, at most */

static struct {
	uint64_t page;		/* guest-virtual number; 0: free */
	unsigned int hits;
	unsigned int calm;	/* blocks since the last change */
} pages[PAGES];

static struct {
	uint64_t pc;		/* 0: free */
	uint8_t twice;		/* how often its runs have been doubled */
	bool calm;
	uint8_t last;		/* of past: the newest */
	uint32_t past[PAST];	/* marks of what was there before */
} blocks[BLOCKS];
static bool any;

static unsigned int hash(uint64_t n, unsigned int size)
{
	return (n * 0x9e3779b97f4a7c15ULL >> 40) & (size - 1);
}

bool restless(uint64_t pc)
{
	unsigned int p = hash(pc >> 12, PAGES), b = hash(pc, BLOCKS);

	return any && pages[p].page == pc >> 12 && pages[p].hits >= core_opts.restless_after &&
	       !(blocks[b].pc == pc && blocks[b].calm);
}

int32_t restless_runs(uint64_t pc)
{
	unsigned int b = hash(pc, BLOCKS);

	return RUNS << (blocks[b].pc == pc ? blocks[b].twice : 0);
}

bool restless_hit(const struct tb *dead)
{
	bool now = false;
	unsigned int p;

	if (core_opts.no_restless || !dead)
		return false;
	p = hash(dead->cm.pc >> 12, PAGES);
	if (pages[p].page != dead->cm.pc >> 12) {
		pages[p].page = dead->cm.pc >> 12;
		pages[p].hits = 0;
	}
	pages[p].calm = 0;
	if (++pages[p].hits == core_opts.restless_after) {
		any = now = true;
		st.restless++;
		probe_page_rung(dead->cm.page[0], PROBE_RUNG_RESTLESS, dead->cm.pc);
	}
	for (; dead; dead = (const struct tb *)dead->cm.dead_next) {
		unsigned int b = hash(dead->cm.pc, BLOCKS);

		if (blocks[b].pc != dead->cm.pc || !blocks[b].calm)
			continue;
		blocks[b].calm = false;
		blocks[b].twice += blocks[b].twice < MAX_TWICE;
	}
	return now;
}

/* The entry of pc, whoever's it was. */
static unsigned int take_block(uint64_t pc)
{
	unsigned int b = hash(pc, BLOCKS);

	if (blocks[b].pc != pc)
		memset(&blocks[b], 0, sizeof(blocks[b]));
	blocks[b].pc = pc;
	return b;
}

/* Of the first n bytes: n and a hash, never 0. */
static uint32_t mark(const uint8_t *bytes, unsigned int n)
{
	uint64_t w[2] = { 0 };

	memcpy(w, bytes, n);
	return n << 24 | ((w[0] * 0x9e3779b97f4a7c15ULL ^ w[1]) * 0xd6e8feb86659fd93ULL) >> 40;
}

bool restless_changed(const struct tb *tb)
{
	unsigned int p = hash(tb->cm.pc >> 12, PAGES), b = take_block(tb->cm.pc), i;
	unsigned int in_page = 4096 - (tb->cm.pc & 4095);
	unsigned int n = in_page < MARKED ? in_page : MARKED;
	uint32_t was;
	uint8_t now[MARKED];
	bool known = false;

	if (pages[p].page == tb->cm.pc >> 12)
		pages[p].calm = 0;
	if (guest_read(now, tb->cm.pc, n))
		return false;
	was = mark(tb_src(tb), tb->guest_bytes < n ? tb->guest_bytes : n);
	for (i = 0; i < PAST; i++) {
		uint32_t past = blocks[b].past[i];

		known |= past && past >> 24 <= n && mark(now, past >> 24) == past;
		if (past == was)
			was = 0;
	}
	if (was) {
		blocks[b].last = (blocks[b].last + 1) % PAST;
		blocks[b].past[blocks[b].last] = was;
	}
	return known;
}

void restless_calm(const struct tb *tb)
{
	unsigned int p = hash(tb->cm.pc >> 12, PAGES);

	blocks[take_block(tb->cm.pc)].calm = true;
	st.calm++;
	if (pages[p].page != tb->cm.pc >> 12 || ++pages[p].calm < CALM)
		return;
	probe_page_rung(mem_shown_page(pages[p].page), PROBE_RUNG_ARMED, tb->cm.pc);
	pages[p].hits = 0;
	pages[p].calm = 0;
}

void restless_reset(void)
{
	memset(pages, 0, sizeof(pages));
	memset(blocks, 0, sizeof(blocks));
	any = false;
}
