// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * memcpy() and its like, in general registers: the compiler calls them where it likes,
 * also in code that runs with the guest's vector state in the CPU. Linked in place of
 * libc's, whose use every vector register there is.
 *
 * No state, no lock. The file is compiled so that a loop stays a loop.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MANY 256	/* bytes from which the string instructions pay off */

static inline uint64_t get8(const uint8_t *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, 8);
	return v;
}

static inline void put8(uint8_t *p, uint64_t v)
{
	__builtin_memcpy(p, &v, 8);
}

/* Upwards: right when they do not overlap, or dst is the lower one. */
static void copy_up(uint8_t *d, const uint8_t *s, size_t n)
{
	if (n >= MANY) {
		__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
		return;
	}
	if (n >= 8) {
		/* Read before anything is written: memmove() comes here, too. */
		uint64_t last = get8(s + n - 8);
		uint8_t *end = d + n - 8;

		for (; n > 8; n -= 8, d += 8, s += 8)
			put8(d, get8(s));
		put8(end, last);
		return;
	}
	while (n--)
		*d++ = *s++;
}

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	copy_up(dst, src, n);
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	const uint8_t *s = src;
	uint8_t *d = dst;

	if ((uintptr_t)d - (uintptr_t)s >= n) {
		copy_up(d, s, n);
		return dst;
	}
	for (; n >= 8; n -= 8)
		put8(d + n - 8, get8(s + n - 8));
	while (n--)
		d[n] = s[n];
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	uint64_t word = (uint8_t)c * 0x0101010101010101ULL;
	uint8_t *d = dst;

	if (n >= MANY) {
		__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
		return dst;
	}
	for (; n >= 8; n -= 8, d += 8)
		put8(d, word);
	while (n--)
		*d++ = c;
	return dst;
}
