/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The eBPF programs as the tools use them: attach what there is, read the
 * tables, join what the module and the translator each saw of a page.
 */
#ifndef CODEWP_PROBES_H
#define CODEWP_PROBES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../bpf/stat.h"

struct probes;

/**
 * struct probes_opts - what to watch
 * @pid: one process, in this pid namespace; 0 for all
 * @max_pages: entries of the page table; 0 for the default
 */
struct probes_opts {
	pid_t pid;
	uint32_t max_pages;
};

/**
 * struct probes_row - one page of code, from both sides
 * @pid: the process whose code it is; 0 if not known yet (a view older than us)
 * @view: number of the view; 0 if the module saw nothing of it
 * @of_view: the translator has not seen it
 * @page: of the translator's code map; with @of_view, of the view
 * @gva: guest address of the page, 0 if not known
 * @traps: as the module told them, enum stat_how
 * @handled: traps that the translator handled
 * @translated: TBs made
 * @invalidations: invalidations
 * @invalidated: TBs dropped
 * @rungs: how often it came to each rung of the ladder
 * @last_ip: last writer
 * @last_kernel: that was the kernel, for a system call: @last_ip says little
 * @first_ns: first write, CLOCK_MONOTONIC; 0 if there was none
 * @last_ns: last write
 */
struct probes_row {
	pid_t pid;
	uint32_t view;
	bool of_view;
	uint64_t page;
	uint64_t gva;
	__u64 traps[HOW_MAX];
	uint64_t handled;
	uint64_t translated;
	uint64_t invalidations;
	uint64_t invalidated;
	__u64 rungs[RUNG_MAX];
	uint64_t last_ip;
	bool last_kernel;
	uint64_t first_ns, last_ns;
};

/**
 * probes_open - load and attach
 * @p: result
 * @opts: what to watch
 * @why: on failure a sentence
 * @size: of @why
 *
 * Attaches to the module's tracepoints if the module is there, and to the
 * USDT probes if codewp-run is. Neither is an error; see the two calls below.
 *
 * Returns 0; -EPERM (not allowed to), -ENODEV (neither module nor probes),
 * -EPROTO (the module is of another version), or what libbpf says.
 */
int probes_open(struct probes **p, const struct probes_opts *opts, char *why,
		size_t size);
void probes_close(struct probes *p);
/** probes_stop - count no more; what was counted can still be read */
void probes_stop(struct probes *p);

/** probes_module - NULL if attached to the module, else why not */
const char *probes_module(const struct probes *p);
/** probes_usdt - NULL if attached to the translator, else why not */
const char *probes_usdt(const struct probes *p);

/** probes_totals - a copy of the totals; never torn by more than one event */
struct stat_totals probes_totals(const struct probes *p);

/**
 * probes_missed - events whose program the kernel had to skip
 *
 * Returns their number, or -errno.
 */
int64_t probes_missed(const struct probes *p);

/**
 * probes_rows - all pages, joined, worst first (most traps, then TBs dropped)
 * @rows: result; free() it
 *
 * Returns how many, or -errno.
 */
ssize_t probes_rows(struct probes *p, struct probes_row **rows);

/** probes_row_traps - traps of a row, told in whatever way */
uint64_t probes_row_traps(const struct probes *p, const struct probes_row *r);

/** probes_sum - the sum of an array of HOW_MAX counters */
uint64_t probes_sum(const __u64 *traps);

/**
 * probes_check_format - do the module's tracepoints look as we expect?
 * @events: folder events/codewp of a tracefs
 * @why: on failure a sentence
 *
 * Returns 0, -ENOENT without such a folder, -EPROTO.
 */
int probes_check_format(const char *events, char *why, size_t size);

/** probes_tracefs - where tracefs is mounted, or NULL */
const char *probes_tracefs(void);

#endif /* CODEWP_PROBES_H */
