// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * --stats: counters of the run and the pages with most traps.
 *
 * Owns the table of pages, whose entries are only ever added, by any thread and
 * without a lock: stats_page() runs in the upcall, no libc, general registers
 * only. The counters are each thread's own (struct cpu). The lines that begin
 * with "codewp-stat:" have the form "codewp-stat: NAME VALUE" and are for programs
 * to read.
 */
#include "core.h"
#include "mem.h"
#include "runtime.h"

#include <inttypes.h>
#include <stdlib.h>

#define TABLE	16384		/* pages, a power of two */
#define WORST	10

struct page_stat {
	uint64_t page;		/* + 1; 0: free */
	uint64_t n[2];		/* by enum stat_kind */
};

static struct page_stat table[TABLE];
static uint64_t lost;		/* of pages that found no room */

/* Is this entry the page's, now if not before? */
static bool claim(struct page_stat *p, uint64_t page)
{
	uint64_t was = __atomic_load_n(&p->page, __ATOMIC_RELAXED);

	if (!was && __atomic_compare_exchange_n(&p->page, &was, page + 1, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return true;
	return was == page + 1;
}

void stats_page(uint64_t page, enum stat_kind kind, uint64_t n)
{
	size_t i = (page * 0x9e3779b97f4a7c15ULL) >> 50;

	for (unsigned int tries = 0; tries < 64; tries++, i = (i + 1) % TABLE) {
		if (claim(&table[i], page)) {
			__atomic_fetch_add(&table[i].n[kind], n, __ATOMIC_RELAXED);
			return;
		}
	}
	__atomic_fetch_add(&lost, n, __ATOMIC_RELAXED);
}

static int by_traps(const void *a, const void *b)
{
	const struct page_stat *x = a, *y = b;

	for (int k = 0; k < 2; k++)
		if (x->n[k] != y->n[k])
			return x->n[k] < y->n[k] ? 1 : -1;
	return 0;
}

/**
 * stats_sum() - the counters of all threads that ever were
 */
void stats_sum(struct run_stats *sum)
{
	const struct cpu *c;

	*sum = (struct run_stats){ 0 };
	for (c = __atomic_load_n(&all_cpus, __ATOMIC_ACQUIRE); c; c = c->next) {
		const uint64_t *from = (const uint64_t *)&c->stats;

		for (size_t i = 0; i < sizeof(*sum) / 8; i++)
			((uint64_t *)sum)[i] += from[i];
	}
}

static void count_live(struct tb *tb, void *arg)
{
	if (!(tb->flags & TB_STEP) && !codemap_tb_dead(&tb->cm))
		++*(size_t *)arg;
}

static size_t live_tbs(void)
{
	size_t n = 0;

	cache_for_each_tb(count_live, &n);
	return n;
}

/* Pieces of the guest's address space. */
static size_t regions(void)
{
	size_t n = 0;

	while (map_index(n))
		n++;
	return n;
}

/**
 * stats_print() - the statistics so far
 * @fd: where to
 */
void stats_print(int fd)
{
	struct codewp_stats sum;
	struct run_stats all;
	uint64_t pages = 0;

	view_stats(&sum);
	stats_sum(&all);
	dprintf(fd, "codewp run: statistics of %s, backend %s\n", rt.program,
		codewp_backend_info(the_ctx)->name);
#define LINE(name, value) dprintf(fd, "codewp-stat: %s %" PRIu64 "\n", name, (uint64_t)(value))
	LINE("tbs", all.tbs);
	LINE("insns", all.insns);
	LINE("tb_bytes_guest", all.tb_bytes_guest);
	LINE("tb_bytes_host", all.tb_bytes_host);
	LINE("cache_used", cache_used());	/* now: code and tables */
	LINE("map_bytes", codemap_bytes(the_map));
	LINE("tbs_live", live_tbs());
	LINE("flushes", all.flushes);
	LINE("regions", regions());
	LINE("chains", all.chains);
	LINE("lookups", all.lookups);
	LINE("jc_misses", all.jc_misses);
	LINE("quick", all.quick);
	LINE("traps_upcall", all.traps_upcall);
	LINE("traps_signal", all.traps_signal);
	LINE("events", all.events);
	LINE("keep_miss", all.keep_miss);
	LINE("keep_hit", all.keep_hit);
	LINE("same_value", all.same_value);
	LINE("opened", all.opened);
	LINE("hot_sites", all.hot_sites);
	LINE("stylized", all.stylized);
	LINE("restless", all.restless);
	LINE("calm", all.calm);
	LINE("versions", all.versions);
	LINE("invalidated", all.invalidated);
	LINE("stale_inserts", all.stale_inserts);
	LINE("check_failures", all.check_failures);
	LINE("syscalls", all.syscalls);
	LINE("views", all.views);
	LINE("promoted_pages", all.promoted_pages);
	LINE("arms", all.arms);
	/* As the backend counted them. */
	LINE("backend_traps", sum.traps);
	LINE("backend_upcalls", sum.upcalls);
	LINE("backend_signals", sum.signals);
	LINE("backend_events", sum.events);
	LINE("backend_dropped", sum.dropped);
	LINE("backend_kernel_writes", sum.kernel_writes);
	LINE("backend_arms", sum.arms);
#undef LINE
	qsort(table, TABLE, sizeof(*table), by_traps);
	while (pages < TABLE && table[pages].page)
		pages++;
	dprintf(fd, "codewp-stat: pages %" PRIu64 "\n", pages);
	if (lost)
		dprintf(fd, "codewp-stat: pages_lost_counts %" PRIu64 "\n", lost);
	for (size_t i = 0; i < WORST && i < pages; i++)
		dprintf(fd, "codewp-page: 0x%" PRIx64 " traps %" PRIu64
			" invalidated %" PRIu64 "\n",
			mem_page_gva(table[i].page - 1), table[i].n[STAT_TRAP],
			table[i].n[STAT_INVALIDATED]);
}
