/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Offsets of struct cpu for assembly and for emitted code, which reach it
 * through %gs. dispatch.c asserts that they match translator.h.
 */
#ifndef CODEWP_CPU_H
#define CODEWP_CPU_H

#define CPU_SELF	0
#define CPU_REGS	8
#define CPU_RAX		(CPU_REGS + 0 * 8)
#define CPU_RCX		(CPU_REGS + 1 * 8)
#define CPU_RDX		(CPU_REGS + 2 * 8)
#define CPU_RBX		(CPU_REGS + 3 * 8)
#define CPU_RSP		(CPU_REGS + 4 * 8)
#define CPU_RBP		(CPU_REGS + 5 * 8)
#define CPU_RSI		(CPU_REGS + 6 * 8)
#define CPU_RDI		(CPU_REGS + 7 * 8)
#define CPU_R8		(CPU_REGS + 8 * 8)
#define CPU_R9		(CPU_REGS + 9 * 8)
#define CPU_R10		(CPU_REGS + 10 * 8)
#define CPU_R11		(CPU_REGS + 11 * 8)
#define CPU_R12		(CPU_REGS + 12 * 8)
#define CPU_R13		(CPU_REGS + 13 * 8)
#define CPU_R14		(CPU_REGS + 14 * 8)
#define CPU_R15		(CPU_REGS + 15 * 8)
#define CPU_RIP		(CPU_REGS + 16 * 8)
#define CPU_RFLAGS	(CPU_REGS + 17 * 8)
#define CPU_GUEST_FS	(CPU_REGS + 18 * 8)
#define CPU_GUEST_GS	(CPU_GUEST_FS + 8)
#define CPU_HOST_FS	(CPU_GUEST_FS + 16)
#define CPU_HOST_RSP	(CPU_GUEST_FS + 24)
#define CPU_SCRATCH	(CPU_GUEST_FS + 32)
#define CPU_ALIAS	(CPU_SCRATCH + 64)
#define CPU_REPLAY_NEXT	(CPU_ALIAS + 8)
#define CPU_STOP_FLAG	(CPU_ALIAS + 16)

#define CPU_XSAVE	(CPU_ALIAS + 24)
#define CPU_XSAVE_MASK	(CPU_ALIAS + 32)
#define CPU_AREA	(CPU_ALIAS + 40)
#define CPU_TARGET	(CPU_ALIAS + 48)
#define CPU_EXIT_DESC	(CPU_ALIAS + 56)
#define CPU_IN_CACHE	(CPU_ALIAS + 60)
#define CPU_RESUME_PC	(CPU_ALIAS + 64)
#define CPU_REPLAY_PAGE	(CPU_ALIAS + 72)
#define CPU_HEAVY	(CPU_ALIAS + 80)
#define CPU_FSGSBASE	(CPU_ALIAS + 84)
#define CPU_GS_SEL	(CPU_ALIAS + 88)
#define CPU_KICKS_SEEN	(CPU_ALIAS + 96)

/*
 * The jump cache lies behind struct cpu (struct cpu_room), so that %gs leads to it,
 * too. It has one entry for each value of a program counter's low JC_BITS; once a large
 * program has grown it, of its low JC_WIDE_BITS.
 */
#define CPU_JC_TABLE	8192
#define JC_BITS		16
#define JC_WIDE_BITS	18

/* struct codewp_area */
#define AREA_BUSY	0
#define AREA_IP		8
#define AREA_SP		16
#define AREA_FLAGS	24
#define AREA_DI		32
#define AREA_KICKS	72

/*
 * The register for the target of an indirect jump. Its own value goes through memory
 * and back, which takes the processor seven cycles or so; where nobody writes the register
 * from one return to the next, all of these make one chain, and that is what short functions
 * take then. Compilers let %r11 and %r10 alone; %rax is what comes back from a call, and
 * is waited for.
 */
#define JUMP_REG	2
#define JUMP_REG_NAME	%rdx
#define JUMP_REG_WORD	%dx

/*
 * Who uses which spill slot. INDIRECT holds the guest's JUMP_REG while the target
 * of an indirect jump is in it (and %rax for what is at work with it), LOOKUP_RCX its
 * %rcx from the jump to the end of the check at its target;
 * ADDR and ADDR2 hold the registers that a rewritten operand's address takes;
 * REPLAY the same in a replay stub.
 */
#define SCR_INDIRECT	0
#define SCR_LOOKUP_RCX	1
#define SCR_LOOKUP_RDX	2
#define SCR_ADDR	4
#define SCR_ADDR2	5
#define SCR_REPLAY	6
#define CPU_SCR(n)	(CPU_SCRATCH + (n) * 8)

/* What core_enter() and core_dispatch() say besides a host address. */
#define LEAVE_MISS	1	/* no TB: translate */
#define LEAVE_EXIT	2	/* cpu->exit says why */

#endif /* CODEWP_CPU_H */
