/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Included before every file of Zydis (get-zydis). Without a libc, Zycore clears
 * memory a byte at a time, and Zydis clears more than a kilobyte for every
 * instruction: that was most of the time that decoding took. libc's own memset()
 * would use vector registers, where the guest's values may be.
 */
#ifndef CODEWP_ZYDIS_LIBC_H
#define CODEWP_ZYDIS_LIBC_H

#include <Zycore/LibC.h>

static inline void *zydis_memset(void *dst, int value, ZyanUSize n)
{
	ZyanU64 word = (ZyanU8)value * 0x0101010101010101ULL;
	ZyanU8 *p = dst;

	for (; n >= 8; n -= 8, p += 8)
		__builtin_memcpy(p, &word, 8);
	while (n--)
		*p++ = value;
	return dst;
}

#define ZYAN_MEMSET zydis_memset

#endif /* CODEWP_ZYDIS_LIBC_H */
