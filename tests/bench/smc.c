// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Three loops to run under translators:
 *
 *	imm	patch an instruction's immediate, call it
 *	data	write a variable that lies on the page of the function called
 *	plain	arithmetic, and calls of a function that nobody writes
 *
 *	smc LOOP COUNT	prints LOOP, COUNT, a checksum, ns per round
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* mov $0, %eax; add %edi, %eax; ret */
static const unsigned char code[] = { 0xb8, 0, 0, 0, 0, 0x01, 0xf8, 0xc3 };

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static __attribute__((noinline)) uint32_t plain(uint32_t x)
{
	__asm__ volatile("" : "+r"(x));
	return x * 3 + 1;
}

int main(int argc, char **argv)
{
	unsigned char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t (*fn)(uint32_t) = (void *)page;
	volatile uint32_t *imm = (void *)(page + 1), *data = (void *)(page + 2048);
	uint32_t sum = 0, n = argc == 3 ? strtoul(argv[2], NULL, 0) : 0;
	double t;

	if (!n || page == MAP_FAILED)
		return 2;
	memcpy(page, code, sizeof(code));
	t = now();
	if (!strcmp(argv[1], "imm")) {
		for (uint32_t i = 0; i < n; i++) {
			*imm = i;
			sum += fn(sum);
		}
	} else if (!strcmp(argv[1], "data")) {
		for (uint32_t i = 0; i < n; i++) {
			*data += i;
			sum += fn(*data);
		}
	} else if (!strcmp(argv[1], "plain")) {
		for (uint32_t i = 0; i < n; i++)
			sum += plain(sum ^ i) + fn(i);
	} else {
		return 2;
	}
	t = now() - t;
	printf("%s %u %08x %.2f\n", argv[1], n, sum, t / n);
	return 0;
}
