/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Timing for the benchmarks.
 *
 * The unit is nanoseconds, or, in a machine whose clock counts instructions
 * (BENCH_ICOUNT=1 in the environment; tests/vm/run --icount), instructions. There
 * bench_open() proves with a loop of known length that it is so.
 */
#ifndef TESTS_BENCH_H
#define TESTS_BENCH_H

#include <stdbool.h>
#include <stdint.h>

extern bool bench_icount;
extern const char *bench_unit;		/* "ns" or "insns" */

void bench_open(void);
double bench_now(void);			/* in bench_unit */

__attribute__((noreturn, format(printf, 1, 2)))
void bench_die(const char *fmt, ...);

/* Numbers of /proc/self/maps lines, and of one line of /proc/meminfo in KiB. */
unsigned long bench_maps(void);
unsigned long bench_meminfo(const char *key);

#endif /* TESTS_BENCH_H */
