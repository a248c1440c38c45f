// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The table of pages and the lines under it. No state.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "table.h"
#include "tool.h"

static bool was_written(const struct probes_row *r)
{
	return r->first_ns || r->handled || r->invalidations || probes_sum(r->traps);
}

/* Seconds since start in five characters. */
static const char *when(char *buf, uint64_t ns, uint64_t start)
{
	double s = ns > start ? (ns - start) / 1e9 : 0;

	if (!ns)
		return "-";
	snprintf(buf, 24, s < 9.9995 ? "%.3f" : s < 999.95 ? "%.1f" : "%.0f", s);
	return buf;
}

/* A guest address; or, of a page that the translator does not know, its view. */
static const char *page_name(char *buf, size_t size, const struct probes_row *r)
{
	if (r->gva)
		snprintf(buf, size, "%" PRIx64, r->gva);
	else if (r->view)
		snprintf(buf, size, "view %" PRIu32 "+%" PRIx64, r->view, r->page);
	else
		snprintf(buf, size, "page %" PRIx64, r->page);
	return buf;
}

/* The rungs of the ladder that the page is on, a letter each. */
static const char *rungs(char buf[RUNG_MAX + 1], const struct probes_row *r)
{
	bool on[] = {
		r->rungs[RUNG_HOT], r->rungs[RUNG_STYLIZED],
		r->rungs[RUNG_RESTLESS] > r->rungs[RUNG_ARMED],
	};
	unsigned int i;

	for (i = 0; i < sizeof(on); i++)
		buf[i] = on[i] ? "hsr"[i] : '-';
	buf[i] = '\0';
	return buf;
}

static void heading(FILE *f, const struct table_opts *o)
{
	fprintf(f, "%-14s ", "PAGE");
	if (o->by_pid)
		fprintf(f, "%7s ", "PID");
	if (o->module)
		fprintf(f, "%7s %6s %5s ", "UPCALL", "SIGNAL", "RING");
	else
		fprintf(f, "%7s ", "TRAPS");
	fprintf(f, "%5s %7s ", "TBS", "DROPPED");
	if (o->by_pid)
		fprintf(f, "%-12s", "LAST WRITER");
	else
		fprintf(f, "%-12s %5s %5s", "LAST WRITER", "FIRST", "LAST");
	fputs(" RUNG", f);
	fputs(o->eol, f);
}

static void row(FILE *f, const struct probes_row *r, const struct table_opts *o)
{
	char b[8][24], name[40], ip[20] = "-";

	if (r->last_kernel)
		strcpy(ip, "kernel");
	else if (r->last_ip)
		snprintf(ip, sizeof(ip), "%" PRIx64, r->last_ip);
	fprintf(f, "%-14s ", page_name(name, sizeof(name), r));
	if (o->by_pid)
		fprintf(f, "%7d ", r->pid);
	if (o->module)
		fprintf(f, "%7s %6s %5s ",
			tool_count(b[0], r->traps[HOW_UPCALL], 7),
			tool_count(b[1], r->traps[HOW_SIGNAL], 6),
			tool_count(b[2], probes_sum(r->traps) - r->traps[HOW_UPCALL] -
				   r->traps[HOW_SIGNAL], 5));
	else
		fprintf(f, "%7s ", tool_count(b[0], r->handled, 7));
	fprintf(f, "%5s %7s ", tool_count(b[3], r->translated, 5),
		tool_count(b[4], r->invalidated, 7));
	if (o->by_pid)
		fprintf(f, "%-12s", ip);
	else
		fprintf(f, "%-12s %5s %5s", ip, when(b[5], r->first_ns, o->start),
			when(b[6], r->last_ns, o->start));
	fprintf(f, " %s", rungs(b[7], r));
	fputs(o->eol, f);
}

size_t table_print(FILE *f, const struct probes_row *rows, size_t n,
		   const struct table_opts *o)
{
	size_t i, shown = 0, left = 0;

	heading(f, o);
	for (i = 0; i < n; i++) {
		if (!was_written(&rows[i]))
			continue;
		if ((o->rows && shown >= o->rows) ||
		    (o->lines && shown + 1 >= o->lines)) {
			left++;
			continue;
		}
		row(f, &rows[i], o);
		shown++;
	}
	return left;
}

void table_totals(FILE *f, const struct probes *p, const struct stat_totals *t,
		  const char *eol)
{
	if (!probes_module(p)) {
		fprintf(f, "%" PRIu64 " traps: %llu by upcall, %llu by signal, %llu by ring",
			probes_sum(t->traps), t->traps[HOW_UPCALL], t->traps[HOW_SIGNAL],
			t->traps[HOW_RING]);
		fprintf(f, "; %llu kernel writes", t->traps[HOW_KERNEL]);
		if (t->traps[HOW_GUEST] + t->traps[HOW_STOP])
			fprintf(f, ", %llu of KVM guests, %llu of them stopped",
				t->traps[HOW_GUEST] + t->traps[HOW_STOP],
				t->traps[HOW_STOP]);
		if (t->traps[HOW_RECREATED] + t->traps[HOW_OTHER])
			fprintf(f, ", %llu others",
				t->traps[HOW_RECREATED] + t->traps[HOW_OTHER]);
		fprintf(f, "%s%llu pages asked to be armed, %llu to be disarmed%s", eol,
			t->arms, t->disarms, eol);
	}
	if (!probes_usdt(p)) {
		fprintf(f, "%llu TBs made, %llu dropped by %llu invalidations",
			t->translated, t->invalidated, t->invalidations);
		fprintf(f, "; %" PRIu64 " traps handled%s", probes_sum(t->handled), eol);
		fprintf(f, "hot: %llu stores; stylized: %llu instructions; ",
			t->rungs[RUNG_HOT], t->rungs[RUNG_STYLIZED]);
		fprintf(f, "restless: %llu pages, calm: %llu%s",
			t->rungs[RUNG_RESTLESS], t->rungs[RUNG_ARMED], eol);
	}
}

void table_names(FILE *f, const struct probes *p, const struct stat_totals *t)
{
	fprintf(f, "module %d\n", !probes_module(p));
	fprintf(f, "usdt %d\n", !probes_usdt(p));
	fprintf(f, "traps %" PRIu64 "\n", probes_sum(t->traps));
	fprintf(f, "traps_upcall %llu\n", t->traps[HOW_UPCALL]);
	fprintf(f, "traps_signal %llu\n", t->traps[HOW_SIGNAL]);
	fprintf(f, "traps_ring %llu\n", t->traps[HOW_RING]);
	fprintf(f, "traps_kernel %llu\n", t->traps[HOW_KERNEL]);
	fprintf(f, "traps_recreated %llu\n", t->traps[HOW_RECREATED]);
	fprintf(f, "traps_guest %llu\n", t->traps[HOW_GUEST]);
	fprintf(f, "traps_stop %llu\n", t->traps[HOW_STOP]);
	fprintf(f, "traps_other %llu\n", t->traps[HOW_OTHER]);
	fprintf(f, "handled %" PRIu64 "\n", probes_sum(t->handled));
	fprintf(f, "handled_upcall %llu\n", t->handled[HOW_UPCALL]);
	fprintf(f, "handled_signal %llu\n", t->handled[HOW_SIGNAL]);
	fprintf(f, "handled_event %llu\n", t->handled[HOW_RING]);
	fprintf(f, "tbs %llu\n", t->translated);
	fprintf(f, "invalidations %llu\n", t->invalidations);
	fprintf(f, "invalidated %llu\n", t->invalidated);
	fprintf(f, "rung_hot %llu\n", t->rungs[RUNG_HOT]);
	fprintf(f, "rung_stylized %llu\n", t->rungs[RUNG_STYLIZED]);
	fprintf(f, "rung_restless %llu\n", t->rungs[RUNG_RESTLESS]);
	fprintf(f, "rung_armed %llu\n", t->rungs[RUNG_ARMED]);
	fprintf(f, "arm_requests %llu\n", t->arms);
	fprintf(f, "disarm_requests %llu\n", t->disarms);
	fprintf(f, "ring_overflows %llu\n", t->overflows);
	fprintf(f, "map_full %llu\n", t->full);
	fprintf(f, "map_failed %llu\n", t->failed);
	fprintf(f, "missed %" PRId64 "\n", probes_missed(p));
}

bool table_lost(const struct probes *p, const struct stat_totals *t,
		uint64_t *last)
{
	int64_t missed = probes_missed(p);
	uint64_t lost = t->full + t->failed + t->overflows + (missed > 0 ? missed : 0);

	if (lost > *last) {
		if (t->full)
			tool_warn("the page table was full: %llu events are in the totals, but in no row (--pages makes it larger)",
				  t->full);
		if (t->failed)
			tool_warn("%llu events are in the totals, but in no row: the page table was busy",
				  t->failed);
		if (t->overflows)
			tool_warn("%llu events found the module's ring full (the translator then looks at the page states)",
				  t->overflows);
		if (missed > 0)
			tool_warn("%" PRId64 " events were not counted: the kernel skipped the program",
				  missed);
		*last = lost;
	}
	if (missed < 0)
		tool_warn("cannot ask the kernel for skipped events: %s", strerror(-missed));
	return !lost && missed >= 0;
}
