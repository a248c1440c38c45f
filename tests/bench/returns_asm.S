/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Eight calls of a function of two instructions, natively and as the translator could
 * make them, for returns.c: %rdi rounds of each way.
 *
 * %gs leads to a page as struct cpu is one: spill slots, the stop word, and behind it
 * the jump cache. "Guest addresses" are PC + 16 * site.
 */
#define SPILL_RDX	0
#define SPILL_RCX	8
#define STOP		16
#define TABLE		8192
#define PC		0x10000

	.text

/* ---- what all have ---- */

	.macro BEGIN way
	.globl	\way
\way:
	pushq	%rbx
	movq	%rdi, %rbx
1:
	.endm

	.macro END
	decq	%rbx
	jnz	1b
	popq	%rbx
	ret
	.p2align 5
	.endm

	.macro BODY
	leaq	3(%rax), %rax
	movq	%rax, %rdx
	.endm

/* As insn_ret() does it. */
	.macro GUEST_RET
	movq	%rdx, %gs:SPILL_RDX
	popq	%rdx
	movq	%rcx, %gs:SPILL_RCX
	movzwl	%dx, %ecx
	jmp	*%gs:TABLE(, %rcx, 8)
	.endm

	.macro RESTORE
	movq	%gs:SPILL_RCX, %rcx
	movq	%gs:SPILL_RDX, %rdx
	addq	$1, %rax
	.endm

/* A call of way's function, and where it comes back. */
	.macro GUEST_CALL way site
	pushq	$PC + \site * 16
	jmp	\way\()_function
	.p2align 5
7:	ud2
	.p2align 3
	.globl	\way\()_\site
\way\()_\site:
	.endm

	.macro EIGHT site
	\site 0
	\site 1
	\site 2
	\site 3
	\site 4
	\site 5
	\site 6
	\site 7
	.endm

	.macro WAY way
	BEGIN	\way
	EIGHT	\way\()_site
	END
\way\()_function:
	BODY
	GUEST_RET
	.endm

/* ---- the ways ---- */

	.macro native_site site
	call	native_function
	addq	$1, %rax
	.endm

	BEGIN	native
	EIGHT	native_site
	END
native_function:
	BODY
	ret

	.macro unchecked_site site
	GUEST_CALL unchecked \site
	RESTORE
	.endm

	/* The sum is 0: over the way out. */
	.macro taken_site site
	GUEST_CALL taken \site
	movq	%gs:STOP, %rcx
	leaq	-(PC + \site * 16)(%rcx, %rdx), %rcx
	jrcxz	8f
	jmp	7b
8:	RESTORE
	.endm

	/* The sum is 1: no way out. */
	.macro loop_site site
	GUEST_CALL loop \site
	movq	%gs:STOP, %rcx
	leaq	1 - (PC + \site * 16)(%rcx, %rdx), %rcx
	loop	7b
	RESTORE
	.endm

	/* Changes flags, which the guest may want. */
	.macro compare_site site
	GUEST_CALL compare \site
	movq	%gs:STOP, %rcx
	addq	%rdx, %rcx
	cmpq	$PC + \site * 16, %rcx
	jne	7b
	RESTORE
	.endm

	/* The sum is -1: all 64 bits of the mask. */
	.macro pdep_site site
	GUEST_CALL pdep \site
	movq	%gs:STOP, %rcx
	leaq	-1 - (PC + \site * 16)(%rcx, %rdx), %rdx
	movq	sign_bit(%rip), %rcx
	pdepq	%rdx, %rcx, %rcx
	jrcxz	7b
	RESTORE
	.endm

	WAY	unchecked
	WAY	taken
	WAY	loop
	WAY	compare
	WAY	pdep

	/* The processor's own call; the guest's address takes the place of its own. */
	.macro host_site site
	call	9f
	.globl	host_\site
host_\site:
	movq	%gs:STOP, %rcx
	leaq	-(PC + \site * 16)(%rcx, %rdx), %rcx
	jrcxz	8f
	ud2
9:	movq	$PC + \site * 16, (%rsp)
	jmp	host_function
	.p2align 5
8:	movq	%rdx, -8(%rsp)
	RESTORE
	.endm

	BEGIN	host
	EIGHT	host_site
	END
host_function:
	BODY
	movq	%rdx, %gs:SPILL_RDX
	movq	(%rsp), %rdx
	movq	%rcx, %gs:SPILL_RCX
	movzwl	%dx, %ecx
	movq	%gs:TABLE(, %rcx, 8), %rcx
	movq	%rcx, (%rsp)
	ret

	.section .rodata
	.p2align 3
sign_bit:
	.quad	1 << 63

	.section .note.GNU-stack, "", @progbits
