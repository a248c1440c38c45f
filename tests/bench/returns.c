// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * returns: what a call and its return cost natively, and by the instructions that the
 * translator could make for them (returns_asm.S). It does not run the translator.
 *
 * Prints cycles of the time stamp counter for one call and its return, the least of
 * several turns that all ways take in each. Where the processor's clock differs from
 * that counter's, only the ratios say something.
 */
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <asm/prctl.h>
#include <x86intrin.h>

#define SITES	8
#define TURNS	15
#define ROUNDS	100000
#define TABLE	8192		/* returns_asm.S */

#define WAYS(W) W(unchecked) W(taken) W(loop) W(compare) W(pdep) W(host)

#define DECLARE(way)							\
	void way(uint64_t rounds);					\
	extern const char way##_0[], way##_1[], way##_2[], way##_3[],	\
			  way##_4[], way##_5[], way##_6[], way##_7[];
WAYS(DECLARE)
void native(uint64_t rounds);

static const struct way {
	const char *name;
	void (*run)(uint64_t rounds);
	const void *site[SITES];
} ways[] = {
	{ "native", native, { NULL } },
#define WAY(way) { #way, way, { way##_0, way##_1, way##_2, way##_3,	\
				way##_4, way##_5, way##_6, way##_7 } },
	WAYS(WAY)
};

#define NR_WAYS (sizeof(ways) / sizeof(ways[0]))

static const char *const what[NR_WAYS] = {
	"call, ret",
	"through the jump cache, without a check behind it",
	"checked by a jrcxz that is taken",
	"checked by loop",
	"checked by cmp and jne (changes flags)",
	"checked by pdep and a jrcxz that is not taken",
	"by the processor's own call and ret, and checked",
};

static struct {
	_Alignas(4096) char cpu[TABLE];
	const void *table[1 << 16];
} room;

static double cycles(const struct way *w)
{
	uint64_t t;

	for (unsigned int i = 0; i < SITES; i++)
		room.table[i * 16] = w->site[i];
	w->run(100);
	t = __rdtsc();
	w->run(ROUNDS);
	return (double)(__rdtsc() - t) / (ROUNDS * SITES);
}

int main(void)
{
	double best[NR_WAYS];
	unsigned int a, b, c, d;

	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_BMI2)) {
		printf("this processor has no pdep\n");
		return 0;
	}
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, &room)) {
		perror("returns: arch_prctl");
		return 1;
	}
	for (unsigned int turn = 0; turn < TURNS; turn++)
		for (unsigned int i = 0; i < NR_WAYS; i++) {
			double t = cycles(&ways[i]);

			if (!turn || t < best[i])
				best[i] = t;
		}
	printf("%-10s %7s %9s\n", "way", "cycles", "x native");
	for (unsigned int i = 0; i < NR_WAYS; i++)
		printf("%-10s %7.2f %9.2f  %s\n", ways[i].name, best[i], best[i] / best[0], what[i]);
	return 0;
}
