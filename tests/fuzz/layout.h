/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the fuzzer's generator (native) and its guest program agree on: where
 * code and data lie, and what the two files between them look like.
 *
 * Everything has a fixed address, so that a sequence is the same bytes natively
 * and translated, and may hold absolute addresses.
 */
#ifndef FUZZ_LAYOUT_H
#define FUZZ_LAYOUT_H

#include <stdint.h>

#define FUZZ_LOW	0x10000000UL	/* reserved, inaccessible, from here */
#define FUZZ_EXIT	0x10010000UL	/* read-only page; holds the address of the way out */
#define FUZZ_CODE	0x20000000UL	/* the slots */
#define FUZZ_DATA	0x30000000UL	/* the sandbox: three pages of data, one of stack */
#define FUZZ_CONST	0x30010000UL	/* read-only: index vectors for gathers */
#define FUZZ_HIGH	0x70000000UL	/* to here */

#define FUZZ_SLOT	512UL
#define FUZZ_MAX	8192UL		/* slots in a batch */
#define FUZZ_DATA_SIZE	0x4000UL
#define FUZZ_STACK	(FUZZ_DATA + 0x3000UL)
#define FUZZ_STUB	0xff0UL		/* armed mode: offset of a ret in each data page */

enum fuzz_mode {
	MODE_TEXT,	/* code is read-only text */
	MODE_RWX,	/* code is written just before it runs, and may write itself */
	MODE_ARMED,	/* data lies on pages of code: every store traps */
	MODE_COUNT,
};

struct fuzz_corpus {
	uint64_t seed;
	uint32_t mode, count;
	uint8_t slot[][FUZZ_SLOT];
};

enum { RESULT_SKIP = 1, RESULT_DONE = 2, RESULT_FAULT = 4 };

struct fuzz_result {
	uint64_t digest;
	uint64_t fault_rip;	/* natively, of a sequence that faulted */
	uint32_t flags, sig;
};

struct fuzz_results {
	volatile uint32_t current;	/* the sequence that runs */
	uint32_t pad;
	struct fuzz_result r[];
};

/* CPU state; offsets are known to enter.S. */
struct fuzz_state {
	uint64_t gpr[16];	/* encoding order */
	uint64_t rflags;	/* 128 */
	uint64_t fs, gs;	/* 136, 144 */
	uint64_t rip;		/* 152 */
	uint64_t pad[4];
	uint8_t xsave[4096];	/* 192; standard format */
} __attribute__((aligned(64)));

#define FUZZ_FLAGS	0x244cd5ULL	/* status, DF, NT, AC, ID */

/* What --dump writes, for each of two rounds: the state after it, the sandbox. */
struct fuzz_dump {
	struct fuzz_state state;
	uint8_t data[FUZZ_DATA_SIZE];
};

/* A small good generator: splitmix64. */
static inline uint64_t fuzz_random(uint64_t *s)
{
	uint64_t z = *s += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* A start that is far from that of every other seed and number. */
static inline uint64_t fuzz_start(uint64_t seed, uint32_t nr, uint32_t salt)
{
	uint64_t s = seed;

	s = fuzz_random(&s) ^ ((uint64_t)salt << 32 | nr);
	s = fuzz_random(&s);
	return fuzz_random(&s);
}

/*
 * General registers before sequence number nr: pointers into the sandbox, small
 * numbers, edges, noise. The generator knows them, too. (state.c)
 */
void fuzz_init_gprs(uint64_t seed, uint32_t nr, struct fuzz_state *s);
/* Vector registers, x87, flags: the guest's business. */
void fuzz_init_rest(uint64_t seed, uint32_t nr, uint64_t xmask, struct fuzz_state *s);
uint64_t fuzz_xmask(void);	/* components that are loaded and compared */
/* Offset and size of an xsave component in the standard format. */
void fuzz_xcomp(unsigned int nr, uint32_t *offset, uint32_t *size);

#endif /* FUZZ_LAYOUT_H */
