/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The table of pages, as codewp-stat and codewp-top print it: never wider than
 * 79 columns.
 */
#ifndef CODEWP_TABLE_H
#define CODEWP_TABLE_H

#include <stdio.h>

#include "probes.h"

/**
 * struct table_opts - what to print
 * @rows: at most so many pages; 0 for all
 * @lines: at most so many lines, headings included; 0 for no limit
 * @start: CLOCK_MONOTONIC in ns that the times count from
 * @module: traps come from the module, by kind; else from the translator
 * @by_pid: more than one process: each row says whose it is
 * @eol: "\n", or on a terminal with what clears the rest of the line
 */
struct table_opts {
	size_t rows;
	size_t lines;
	uint64_t start;
	bool module;
	bool by_pid;
	const char *eol;
};

/**
 * table_print - the heading, and those of @rows that were ever written
 *
 * Returns how many written pages were left out.
 */
size_t table_print(FILE *f, const struct probes_row *rows, size_t n,
		   const struct table_opts *opts);

/** table_totals - the sums, in words */
void table_totals(FILE *f, const struct probes *p, const struct stat_totals *t,
		  const char *eol);

/** table_names - the sums, as lines "NAME VALUE" for scripts */
void table_names(FILE *f, const struct probes *p, const struct stat_totals *t);

/**
 * table_lost - say on stderr what was not counted
 * @last: what the last call said; updated; lines are printed when it grows
 *
 * Returns false if anything was lost.
 */
bool table_lost(const struct probes *p, const struct stat_totals *t,
		uint64_t *last);

#endif /* CODEWP_TABLE_H */
