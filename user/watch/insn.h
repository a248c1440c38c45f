/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Which bytes does an instruction write? From its bytes and the registers before
 * it, of a thread of this process or of a guest. Pure: no state, no lock, no access
 * to the memory that the instruction names (what it needs from there, the caller
 * reads).
 */
#ifndef WATCH_INSN_H
#define WATCH_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <Zydis/Zydis.h>

#define WATCH_INSN_MAX	15
#define WATCH_RANGES	64

/* Encoding order, as struct codewp_regs has them. */
enum { W_RAX, W_RCX, W_RDX, W_RBX, W_RSP, W_RBP, W_RSI, W_RDI };

/* The state before the instruction. */
struct insn_cpu {
	const uint64_t *gpr;		/* 16, in encoding order */
	uint64_t rip;			/* offset in the code segment */
	uint64_t rflags;
	uint64_t seg[6];		/* bases: es cs ss ds fs gs */
	unsigned int bits;		/* 16, 32, 64 */
	bool stack16;			/* a 16-bit stack (not with 64 bits) */
	const uint8_t *xsave;		/* vector state, standard format; or NULL */
	uint64_t xcr0;			/* what xsave saves; 0: of this CPU */
	/*
	 * Bytes of a string instruction that may be done in one go: it stops at
	 * the end of the page that linear address @page is on.
	 */
	uint64_t page;
};

/* How the bytes were found, and so how a replay has to be made. */
enum store_kind {
	STORE_NONE,		/* no memory is written */
	STORE_MODRM,		/* through the ModRM operand */
	STORE_VSIB,		/* the same, an address per element */
	STORE_STRING,		/* (%rdi): stos, movs; %rcx times if rep */
	STORE_DI,		/* (%rdi), once: maskmov */
	STORE_AX,		/* (%rax): clzero */
	STORE_PUSH,		/* value to below %rsp */
	STORE_OTHER,		/* writes, and which bytes is not known, or not only there */
};

struct insn_range {
	uint64_t addr;			/* linear */
	uint64_t len;
};

struct insn_store {
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint8_t bytes[WATCH_INSN_MAX];
	enum store_kind kind;
	int mem;			/* index of the operand that is written */
	uint64_t ea;			/* linear address that the operand names */
	uint64_t span;			/* bytes of the operand, from ea */
	uint16_t regs;			/* general registers that it uses, a mask */
	bool vector;			/* which bytes is in the vector state */
	/* STORE_STRING */
	bool rep;
	bool down;			/* the direction flag */
	unsigned int element;
	uint64_t count;			/* elements done in one go */

	/* STORE_PUSH */
	unsigned int push_size;
	bool push_mem;			/* the value, or where to go to, is in memory: */
	uint64_t push_from;		/* there, linear */
	uint64_t push_value;
	bool call;
	uint64_t call_to;

	unsigned int nr;
	struct insn_range range[WATCH_RANGES];
};

/**
 * insn_store() - decode
 * @in: out
 * @cpu: state before the instruction
 * @bytes: the instruction's
 * @n: how many there are
 *
 * Return: 0; -EILSEQ: no instruction that Zydis knows; -EAGAIN: which bytes it
 * writes is in the vector state, and cpu->xsave is NULL.
 */
int insn_store(struct insn_store *in, const struct insn_cpu *cpu, const uint8_t *bytes,
	       size_t n);

/* The first and one past the last byte of all ranges. */
void insn_hull(const struct insn_store *in, uint64_t *start, uint64_t *end);

/* One of the lower eight registers that the instruction does not use; or -1. */
int insn_free_reg(const struct insn_store *in);

/*
 * The instruction with (%reg) for its memory operand, the element index of a
 * scatter kept. Returns its length; out has room for 16 bytes.
 */
size_t insn_rebase(const struct insn_store *in, int reg, uint8_t *out);

#endif /* WATCH_INSN_H */
