// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What the benchmarks share: see bench.h. */
#include "bench.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool bench_icount;
const char *bench_unit = "ns";

static double ticks_per_insn = 1;

static uint64_t tsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

/* Ticks of the clock for n times two instructions: the least of a few tries. */
static double loop_ticks(uint64_t n)
{
	double best = 1e300;

	for (int i = 0; i < 20; i++) {
		uint64_t k = n, t = tsc();

		__asm__ volatile("1: dec %0; jnz 1b" : "+r"(k) : : "cc");
		t = tsc() - t;
		if (t < best)
			best = t;
	}
	return best;
}

void bench_open(void)
{
	const char *s = getenv("BENCH_ICOUNT");
	double half, whole;

	if (!s || strcmp(s, "1"))
		return;
	/* The difference: what reading the clock costs drops out. */
	half = loop_ticks(500000);
	whole = loop_ticks(1000000);
	ticks_per_insn = (whole - half) / 1e6;
	if (whole / half < 1.99 || whole / half > 2.01)
		bench_die("this clock does not count instructions: %g, %g ticks", half, whole);
	bench_icount = true;
	bench_unit = "insns";
}

double bench_now(void)
{
	struct timespec ts;

	if (bench_icount)
		return tsc() / ticks_per_insn;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

void bench_die(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	fflush(stdout);
	fputs("bench: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (%s)\n", strerror(err));
	exit(1);
}

unsigned long bench_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long n = 0;
	int c;

	if (!f)
		bench_die("/proc/self/maps");
	while ((c = getc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

unsigned long bench_meminfo(const char *key)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long kib = 0;
	char line[256];

	if (!f)
		bench_die("/proc/meminfo");
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':')
			kib = strtoul(line + strlen(key) + 1, NULL, 10);
	fclose(f);
	return kib;
}
