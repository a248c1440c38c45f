// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Code on a live, executable stack: GCC's trampolines for nested functions, and
 * code in a local array, each time rewritten where other frames have been.
 * Linked with an executable stack.
 */
#include "guest.h"

static uint64_t apply(uint64_t (*fn)(uint64_t), unsigned int n)
{
	uint64_t sum = 0;

	while (n--)
		sum += fn(n);
	return sum;
}

/* GCC writes a trampoline on the stack for a nested function that escapes. */
static __attribute__((noinline)) uint64_t nested(uint64_t k, unsigned int depth)
{
	uint64_t add(uint64_t x)
	{
		return x * k + depth;
	}

	return apply(add, 50) + (depth ? nested(k + 1, depth - 1) : 0);
}

CASE(nested_functions)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < 200; i++)
		sum += nested(i, i % 8);
	printf("%llu\n", (long long)sum);
}

static __attribute__((noinline)) uint64_t on_stack(uint32_t v)
{
	uint8_t code[64];

	put_ret_imm(code, v);
	__asm__ volatile("" ::: "memory");
	return run1(code, 0);
}

static __attribute__((noinline)) uint64_t deeper(unsigned int n, uint32_t v)
{
	volatile char pad[4000];

	pad[0] = n;
	return n ? deeper(n - 1, v) + pad[0] - n : on_stack(v);
}

CASE(code_on_stack)
{
	for (uint32_t i = 0; i < 300; i++)
		CHECK_EQ(on_stack(i), i);
	for (uint32_t i = 0; i < 60; i++)	/* each time on another page */
		CHECK_EQ(deeper(i, i * 3), i * 3);
}
