/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Random sequences of instructions (gen.c). */
#ifndef FUZZ_GEN_H
#define FUZZ_GEN_H

#include "layout.h"

void gen_init(void);

/* Fill slot number nr of a corpus with that seed and mode. */
void gen_sequence(uint64_t seed, uint32_t nr, enum fuzz_mode mode, uint8_t *slot);

/*
 * What running taught: the CPU refused the instruction at that offset of a slot
 * (SIGILL). Kinds that mostly are will not be generated any more; that is only a
 * matter of yield. gen_learned() ends the lesson: from then on a seed makes the
 * same sequences every time on the same CPU.
 */
void gen_refused(const uint8_t *slot, unsigned int offset);
void gen_learned(void);

/* Make no instruction of that name: to look behind a known difference. */
void gen_leave_out(const char *mnemonic);

/* One line per instruction; returns the text, malloc'ed. */
char *gen_disassemble(const uint8_t *slot);

/*
 * Bounds of the instructions of a slot, found by decoding from its start:
 * start[0..n-1]; returns n.
 */
int gen_bounds(const uint8_t *slot, uint16_t *start, int max);

#endif /* FUZZ_GEN_H */
