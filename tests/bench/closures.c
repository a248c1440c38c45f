// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Libraries that write code, to run under translators:
 *
 *	ffi	make a libffi closure, call it, free it
 *	call	call one closure
 *	pcre2	compile one of 400 patterns with PCRE2's JIT, and match with it
 *
 *	closures LOOP COUNT	prints LOOP, COUNT, a checksum, ns per round;
 *	with BENCH_CPU set in processor time
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <ffi.h>
#include <stdbool.h>
#include <pcre2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATTERNS 400

static double now(void)
{
	struct timespec ts;

	clock_gettime(getenv("BENCH_CPU") ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void answer(ffi_cif *cif, void *ret, void **args, void *user)
{
	*(ffi_arg *)ret = *(uint32_t *)args[0] * 3 + (uint32_t)(uintptr_t)user;
}

static uint32_t closures(uint32_t n, bool again)
{
	static ffi_type *args[] = { &ffi_type_uint32 };
	uint32_t (*fn)(uint32_t) = NULL;
	ffi_closure *c = NULL;
	uint32_t sum = 0;
	ffi_cif cif;
	void *at;

	if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 1, &ffi_type_uint32, args) != FFI_OK)
		exit(2);
	for (uint32_t i = 0; i < n; i++) {
		if (!c) {
			c = ffi_closure_alloc(sizeof(*c), &at);
			if (!c || ffi_prep_closure_loc(c, &cif, answer, (void *)(uintptr_t)i,
						       at) != FFI_OK)
				exit(2);
			memcpy(&fn, &at, sizeof(fn));
		}
		sum += fn(sum);
		if (again) {
			ffi_closure_free(c);
			c = NULL;
		}
	}
	return sum;
}

static uint32_t patterns(uint32_t n)
{
	static const char text[] = "the quick brown fox 117 jumps over 42 lazy dogs at 399.";
	pcre2_match_data *md = pcre2_match_data_create(8, NULL);
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		PCRE2_SIZE off;
		pcre2_code *re;
		char p[80];
		int err;

		snprintf(p, sizeof(p), "(\\b[a-%c]+)\\s(\\w*?)%u?.*(%u|dogs)", 'c' + i % 20,
			 i % 10, i % PATTERNS);
		re = pcre2_compile((PCRE2_SPTR)p, PCRE2_ZERO_TERMINATED, 0, &err, &off, NULL);
		if (!re || pcre2_jit_compile(re, PCRE2_JIT_COMPLETE))
			exit(2);
		for (int k = 0; k < 10; k++)
			if (pcre2_match(re, (PCRE2_SPTR)text, sizeof(text) - 1, k, 0, md,
					NULL) > 0)
				sum += pcre2_get_ovector_pointer(md)[1] + k;
		pcre2_code_free(re);
	}
	return sum;
}

int main(int argc, char **argv)
{
	uint32_t sum, n = argc == 3 ? strtoul(argv[2], NULL, 0) : 0;
	double t = now();

	if (!n) {
		fputs("usage: closures LOOP COUNT (see tests/bench/closures.c)\n", stderr);
		return 2;
	}
	if (!strcmp(argv[1], "ffi"))
		sum = closures(n, true);
	else if (!strcmp(argv[1], "call"))
		sum = closures(n, false);
	else if (!strcmp(argv[1], "pcre2"))
		sum = patterns(n);
	else
		return 2;
	printf("%s %u %08x %.2f\n", argv[1], n, sum, (now() - t) / n);
	return 0;
}
