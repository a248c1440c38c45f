/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * One guest instruction: what it is for the translator. decode.c is the only
 * file that knows Zydis' tables; the others see struct insn.
 */
#ifndef CODEWP_DECODE_H
#define CODEWP_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <Zydis/Zydis.h>

#define INSN_MAX 15

enum insn_kind {
	INSN_COPY,	/* as it is */
	INSN_RIPREL,	/* its operand is relative to %rip (maybe with %fs) */
	INSN_GS,	/* its operand is relative to %gs */
	INSN_LEA_RIP,	/* 64-bit lea of a known address */
	INSN_JMP, INSN_JCC, INSN_LOOP, INSN_CALL,	/* to target */
	INSN_JMP_IND, INSN_CALL_IND, INSN_RET,
	INSN_SYSCALL,
	INSN_GS_STRING,	/* %gs:(%rsi), implied */
	INSN_GS_REG,	/* %gs:(%reg), implied */
	INSN_GS_MOFFS,	/* the accumulator and %gs:target */
	INSN_LOAD_GS, INSN_STORE_GS,	/* the selector */
	INSN_EMULATE,	/* by core_emulate() */
	INSN_RDGSBASE, INSN_WRGSBASE,
	INSN_POPF,
	INSN_XBEGIN,	/* aborts at once, to target */
	INSN_FAULT,	/* raises sig */
	INSN_UNSUPPORTED,
};

struct insn {
	enum insn_kind kind;
	uint64_t pc;
	const uint8_t *bytes;
	uint8_t len;
	bool writes;		/* may write memory */
	bool addr32;		/* its addresses are cut to 32 bits */
	uint8_t cond;		/* JCC: 0..15 */
	uint16_t ret_pop;	/* RET: bytes popped behind the address */
	uint64_t target;	/* of a direct branch; what a %rip-relative operand is at */
	uint8_t modrm;		/* where its ModRM byte is, for emit_with_mem() */
	ZydisInstructionEncoding encoding;
	uint8_t reg;		/* LEA_RIP, RDGSBASE, WRGSBASE, GS_REG: which */
	uint16_t regs;		/* general registers it uses, named or not, besides
				 * those that only form its ModRM operand's address
				 */
	/* From here on decode() only: scan() leaves the rest as it was. */
	int8_t mem;		/* op[] with the ModRM memory operand, or -1 */
	int sig, sig_code;	/* FAULT */
	bool sig_after;		/* FAULT: %rip is behind the instruction */
	const char *why;	/* UNSUPPORTED */
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

enum decode_result {
	DECODE_OK,
	DECODE_MORE,	/* the instruction goes on behind the bytes given */
	DECODE_BAD,	/* no instruction that we know */
	DECODE_LONG,	/* more than 15 bytes: the CPU raises #GP */
};

/**
 * decode() - decode and classify one instruction
 * @bytes: its bytes; must stay valid as long as @in is used
 * @n: how many there are to read, at most INSN_MAX are looked at
 * @pc: its guest address
 * @in: out
 */
enum decode_result decode(const uint8_t *bytes, size_t n, uint64_t pc, struct insn *in);
void decode_init(void);

/**
 * scan() - the same for the instructions that are almost all of a program
 * @bytes: as above; INSN_MAX + 1 can be read here and for emit_insn(), whatever they are
 * @n: how many are the guest's
 * @pc: its guest address
 * @in: out, when it returns true: COPY, RIPREL, LEA_RIP, JCC, JMP, CALL or RET, and
 *	no more than these need, which is what stands first in the struct; regs may
 *	name more registers than it uses
 *
 * False says nothing about the instruction: ask decode().
 */
bool scan(const uint8_t *bytes, size_t n, uint64_t pc, struct insn *in);

/* Bytes that make no instruction make one on this CPU, perhaps. */
bool decode_behind_cpu(void);
bool decode_is_pushf(const struct insn *in);

/* 0..15, or -1 if @reg is no general register. */
int decode_gpr(ZydisRegister reg);

/* A register that can hold the address of op[mem] while @in runs; @taken are more
 * registers to leave alone. There is always one while @taken has at most one.
 */
int decode_free_reg(const struct insn *in, uint16_t taken);

/*
 * How the bytes that an instruction writes follow from the registers. Only for
 * the stores that can be replayed on the alias.
 */
struct store {
	uint8_t size;		/* bytes; 0: not a store of this kind */
	int8_t base, index;	/* general registers or -1 */
	uint8_t scale;
	bool addr32;		/* the sum is cut to 32 bits */
	bool fs, gs;
	int64_t disp;		/* with the address itself for %rip */
	/* a plain mov: what it writes is known before */
	bool plain;
	int8_t src;		/* register, or -1: imm */
	uint8_t src_shift;	/* 8 for %ah and its like */
	uint64_t imm;
};

void decode_store(const struct insn *in, struct store *s);

#endif /* CODEWP_DECODE_H */
