// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Loops around code that changes, or lies beside what changes, to run under
 * translators:
 *
 *	imm	patch an instruction's immediate, call it
 *	data	write a variable that lies on the page of the function called
 *	data1000 the same, with a thousand other functions on the page
 *	own	call a function that writes a variable in its own page
 *	next	a function that patches its own next instruction
 *	append	write a new function behind the last one, call it
 *	wx	make the page writable, patch, make it executable, call
 *	nested	GCC's nested function: make a trampoline on the stack, call it
 *	plain	arithmetic, and calls of a function that nobody writes
 *
 *	smc LOOP COUNT	prints LOOP, COUNT, a checksum, ns per round;
 *	with BENCH_CPU set in processor time
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define APPEND	(1UL << 20)	/* bytes of functions, before it begins anew */
#define RWX	(PROT_READ | PROT_WRITE | PROT_EXEC)

typedef uint32_t (*function)(uint32_t);

/* mov $0, %eax; add %edi, %eax; ret */
static const unsigned char code[] = { 0xb8, 0, 0, 0, 0, 0x01, 0xf8, 0xc3 };
/* add %edi, 2042(%rip): the variable at 2048; mov it, %eax; ret */
static const unsigned char own[] = {
	0x01, 0x3d, 0xfa, 0x07, 0, 0, 0x8b, 0x05, 0xf4, 0x07, 0, 0, 0xc3,
};
/* mov %edi, 1(%rip): into mov $0, %eax; ret */
static const unsigned char next[] = { 0x89, 0x3d, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3 };

static unsigned char *page;
static volatile uint32_t *imm, *data;

static double now(void)
{
	struct timespec ts;

	clock_gettime(getenv("BENCH_CPU") ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static __attribute__((noinline)) uint32_t plain(uint32_t x)
{
	__asm__ volatile("" : "+r"(x));
	return x * 3 + 1;
}

static __attribute__((noinline)) uint32_t apply(function fn, uint32_t x)
{
	return fn(x);
}

static __attribute__((noinline)) uint32_t with_nested(uint32_t k, uint32_t x)
{
	uint32_t add(uint32_t y)
	{
		return y * k + 1;
	}

	return apply(add, x);
}

static uint32_t loop_imm(uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		*imm = i;
		sum += ((function)page)(sum);
	}
	return sum;
}

static uint32_t loop_data(uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		*data += i;
		sum += ((function)page)(*data);
	}
	return sum;
}

/* Each byte of a row of nops is one that a function begins with. */
static uint32_t loop_data1000(uint32_t n)
{
	unsigned char *nops = page + 1024;
	uint32_t sum = 0;

	memset(nops, 0x90, 1000);
	memcpy(nops + 1000, code, sizeof(code));
	for (int i = 0; i < 1000; i++)
		sum += ((function)(nops + i))(i);
	return sum + loop_data(n);
}

static uint32_t loop_own(uint32_t n)
{
	uint32_t sum = 0;

	memcpy(page, own, sizeof(own));
	for (uint32_t i = 0; i < n; i++)
		sum += ((function)page)(i);
	return sum;
}

static uint32_t loop_next(uint32_t n)
{
	uint32_t sum = 0;

	memcpy(page, next, sizeof(next));
	for (uint32_t i = 0; i < n; i++)
		sum += ((function)page)(i);
	return sum;
}

static uint32_t loop_append(uint32_t n)
{
	unsigned char *room = mmap(NULL, APPEND, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *at = room;
	uint32_t sum = 0;

	if (room == MAP_FAILED)
		exit(2);
	for (uint32_t i = 0; i < n; i++, at += sizeof(code)) {
		if (at == room + APPEND)
			at = room;
		memcpy(at, code, sizeof(code));
		memcpy(at + 1, &i, 4);
		sum += ((function)at)(sum);
	}
	return sum;
}

static uint32_t loop_wx(uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (mprotect(page, 4096, PROT_READ | PROT_WRITE))
			exit(2);
		*imm = i;
		if (mprotect(page, 4096, PROT_READ | PROT_EXEC))
			exit(2);
		sum += ((function)page)(sum);
	}
	return sum;
}

static uint32_t loop_nested(uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += with_nested(i, sum);
	return sum;
}

static uint32_t loop_plain(uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += plain(sum ^ i) + ((function)page)(i);
	return sum;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		uint32_t (*fn)(uint32_t n);
	} loops[] = {
#define L(name) { #name, loop_##name }
		L(imm), L(data), L(data1000), L(own), L(next), L(append), L(wx), L(nested),
		L(plain),
	};
	uint32_t sum, n = argc == 3 ? strtoul(argv[2], NULL, 0) : 0;
	double t;

	page = mmap(NULL, 8192, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	imm = (void *)(page + 1);
	data = (void *)(page + 2048);
	for (size_t i = 0; n && page != MAP_FAILED && i < sizeof(loops) / sizeof(loops[0]); i++) {
		if (strcmp(argv[1], loops[i].name))
			continue;
		memcpy(page, code, sizeof(code));
		t = now();
		sum = loops[i].fn(n);
		t = now() - t;
		printf("%s %u %08x %.2f\n", argv[1], n, sum, t / n);
		return 0;
	}
	fputs("usage: smc LOOP COUNT (see tests/bench/smc.c)\n", stderr);
	return 2;
}
