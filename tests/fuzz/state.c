// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The CPU state that each sequence starts with, from seed and number alone.
 */
#include <cpuid.h>
#include <string.h>

#include "layout.h"

void fuzz_init_gprs(uint64_t seed, uint32_t nr, struct fuzz_state *s)
{
	static const uint64_t edge[] = {
		0, ~0ULL, 1ULL << 63, ~0ULL >> 1, 1ULL << 31, 0xffffffff, 0x7fffffff, 0x8080808080808080,
	};
	uint64_t rng = fuzz_start(seed, nr, 1);

	for (int i = 0; i < 16; i++) {
		uint64_t r = fuzz_random(&rng);

		switch (r >> 60) {
		case 0 ... 5:
			s->gpr[i] = FUZZ_DATA + 0x800 + (r & 0x1fc0) + (r >> 40 & 1 ? r >> 32 & 63 : 0);
			break;
		case 6 ... 9:
			s->gpr[i] = r & 63;
			break;
		case 10 ... 11:
			s->gpr[i] = edge[r & 7];
			break;
		default:
			s->gpr[i] = fuzz_random(&rng);
		}
	}
	s->gpr[4] = FUZZ_STACK + 0x800 + (nr & 1 ? 8 : 0);
	s->fs = FUZZ_DATA + 0x800;
	s->gs = FUZZ_DATA + 0x1000;
}

uint64_t fuzz_xmask(void)
{
	uint32_t a, b, c, d;

	__cpuid(1, a, b, c, d);
	if (!(c & bit_OSXSAVE))
		return 3;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return a & 0xe7;
}

void fuzz_xcomp(unsigned int nr, uint32_t *offset, uint32_t *size)
{
	uint32_t c, d;

	__cpuid_count(0xd, nr, *size, *offset, c, d);
}

void fuzz_init_rest(uint64_t seed, uint32_t nr, uint64_t xmask, struct fuzz_state *s)
{
	static const uint32_t special[] = {
		0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 1,
		0x7f7fffff, 0x00800000, 0x40490fdb, 0x4b000000,
	};
	uint64_t rng = fuzz_start(seed, nr, 2), r = fuzz_random(&rng);
	uint8_t *x = s->xsave;

	s->rflags = 0x202 | (r & 0x8d5) | ((r >> 32 & 15) ? 0 : 0x400);
	memset(x, 0, sizeof(s->xsave));
	x[0] = 0x7f;				/* fcw 0x37f, all masked */
	x[1] = 3 | (r >> 40 & 0xc);
	x[24] = 0x80;				/* mxcsr 0x1f80 and any rounding */
	x[25] = 0x1f | (r >> 48 & 0x60);
	if (!(r >> 56 & 7)) {			/* some x87 registers in use */
		x[4] = 0xf0;
		x[3] = 0x20;			/* top 4 */
		for (int i = 0; i < 4; i++) {
			r = fuzz_random(&rng) | 1ULL << 63;
			memcpy(x + 32 + 16 * i, &r, 8);
			r = 0x3fff + (int)(r & 31) - 16;
			memcpy(x + 32 + 16 * i + 8, &r, 2);
		}
	}
	for (unsigned int c = 1; c < 8; c++) {
		uint32_t off = 160, size = 256;

		if (!(xmask >> c & 1))
			continue;
		if (c > 1)
			fuzz_xcomp(c, &off, &size);
		for (uint32_t i = 0; i + 8 <= size; i += 8) {
			r = fuzz_random(&rng);
			if (r >> 61 == 0)	/* an eighth are numbers worth having */
				r = special[r % 12] | (uint64_t)special[r / 12 % 12] << 32;
			else if (r >> 61 == 1)
				r &= 0x0000003f0000003f;
			memcpy(x + off + i, &r, 8);
		}
	}
	/* the header: all that we have */
	memcpy(x + 512, &xmask, 8);
}
