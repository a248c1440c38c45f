/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the eBPF programs (stat.bpf.c) and the tools (user/tools/probes.c) share:
 * the key and the value of the page table, and the totals.
 *
 * Every counter is only ever changed by an atomic add. A page entry is made by
 * whoever comes first and never removed while the programs are attached, so an
 * address once looked up stays good.
 */
#ifndef CODEWP_BPF_STAT_H
#define CODEWP_BPF_STAT_H

#include <linux/types.h>

/*
 * Who saw it. The module numbers pages by view; the translator by its code
 * map. The tools join both when they print (probes.c).
 */
enum stat_space {
	SPACE_VIEW,		/* id: view, page: page of the view */
	SPACE_CODE,		/* id: process, page: of its code map */
};

struct page_key {
	__u64 page;
	__u32 id;
	__u32 space;
};

/* How a trap was told: the numbers of enum codewp_how in kmod/codewp.h. */
enum stat_how {
	HOW_OTHER,		/* a way that this version does not know */
	HOW_UPCALL,
	HOW_SIGNAL,
	HOW_RING,		/* a store that could not be redirected */
	HOW_KERNEL,		/* the kernel wrote */
	HOW_RECREATED,		/* truncated or punched, and made anew */
	HOW_GUEST,		/* a KVM guest wrote */
	HOW_STOP,		/* a KVM guest was stopped before it wrote */
	HOW_MAX,
};

/* What the translator does about a page's writes: PROBE_RUNG_* of the translator. */
enum stat_rung {
	RUNG_ARMED,		/* again */
	RUNG_RESTLESS,
	RUNG_HOT,
	RUNG_STYLIZED,
	RUNG_MAX,
};

/*
 * struct page_stat - one page, as one of the two sees it
 * @traps: by the way they were told; SPACE_VIEW: by the module, SPACE_CODE:
 *         handled by the translator (events of the ring all as HOW_RING)
 * @translated: TBs made that begin on it
 * @invalidations: invalidations, also those that hit no TB
 * @invalidated: TBs that they dropped
 * @rungs: how often it came to each rung
 * @last_ip: who wrote last: the instruction pointer
 * @last_how: SPACE_VIEW: how that write was told
 * @first_ns: first write, CLOCK_MONOTONIC
 * @last_ns: last write
 * @cookie: SPACE_VIEW: of the view
 * @gva: guest address of the page, where the owner last wrote it (SPACE_VIEW) or
 *       had a TB begin (SPACE_CODE); 0: neither yet
 */
struct page_stat {
	__u64 traps[HOW_MAX];
	__u64 translated;
	__u64 invalidations;
	__u64 invalidated;
	__u64 rungs[RUNG_MAX];
	__u64 last_ip;
	__u64 last_how;
	__u64 first_ns;
	__u64 last_ns;
	__u64 cookie;
	__u64 gva;
};

/* Over all pages, those without room in the table included. */
struct stat_totals {
	__u64 traps[HOW_MAX];	/* the module's */
	__u64 handled[HOW_MAX];	/* the translator's */
	__u64 translated;
	__u64 invalidations;
	__u64 invalidated;
	__u64 rungs[RUNG_MAX];
	__u64 arms;		/* pages in the requests, also those armed already */
	__u64 disarms;
	__u64 overflows;	/* events that a ring had no room for */
	__u64 full;		/* events of pages that found the table full */
	__u64 failed;		/* events not counted by page for another reason */
};

/* Whose a view is; @sure: not merely who armed it. */
struct view_owner {
	__u32 tgid;
	__u32 sure;
};

#define STAT_VIEWS	4096	/* views whose owner is remembered */

#endif /* CODEWP_BPF_STAT_H */
