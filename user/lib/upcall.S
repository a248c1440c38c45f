/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Where a trap resumes the thread (kmod): saves what the callback may change,
 * calls it, and continues with the registers that it left.
 *
 * The kernel has set %rsp to this thread's frame, %rdi to nothing we use, and
 * saved ip, sp, flags and di in the area right behind the frame. The program's
 * own stack is written below its red zone only, as by a signal. %fs is the
 * program's: it has to be that of C code, and %rsp has to be a stack, else
 * registering a raw handler is the way.
 */
#include "upcall.h"

#define REG(n)	(UPCALL_REGS + 8 * (n))(%rsp)
#define RED_ZONE 128
#define AREA(o)	(UPCALL_FRAME + (o))(%rsp)

	.text
	.globl	upcall_entry
	.hidden	upcall_entry
	.type	upcall_entry, @function
	.balign	16
upcall_entry:
	.cfi_startproc
	.cfi_undefined rip
	endbr64
	cld
	movq	%rax, REG(0)
	movq	%rcx, REG(1)
	movq	%rdx, REG(2)
	movq	%rbx, REG(3)
	movq	%rbp, REG(5)
	movq	%rsi, REG(6)
	movq	%r8, REG(8)
	movq	%r9, REG(9)
	movq	%r10, REG(10)
	movq	%r11, REG(11)
	movq	%r12, REG(12)
	movq	%r13, REG(13)
	movq	%r14, REG(14)
	movq	%r15, REG(15)
	movq	AREA(AREA_SP), %rax
	movq	%rax, REG(4)
	movq	AREA(AREA_DI), %rax
	movq	%rax, REG(7)
	movq	AREA(AREA_IP), %rax
	movq	%rax, REG(16)
	movq	AREA(AREA_FLAGS), %rax
	movq	%rax, REG(17)

	movq	UPCALL_XSAVE(%rsp), %rbx
	movl	UPCALL_MASK(%rsp), %eax
	movl	UPCALL_MASK + 4(%rsp), %edx
	movq	UPCALL_KIND(%rsp), %r12
	cmpl	$UPCALL_XSAVE_, %r12d
	je	1f
	jb	2f
	xsavec64 (%rbx)
	jmp	3f
1:	xsave64	(%rbx)
	jmp	3f
2:	fxsave64 (%rbx)
3:	/* C wants an empty x87 stack and no exceptions. */
	fninit
	ldmxcsr	mxcsr_default(%rip)
	xorl	%ebp, %ebp
	movq	%rsp, %rdi
	call	upcall_run

	movl	UPCALL_MASK(%rsp), %eax
	movl	UPCALL_MASK + 4(%rsp), %edx
	testl	%r12d, %r12d
	jz	4f
	xrstor64 (%rbx)
	jmp	5f
4:	fxrstor64 (%rbx)
5:
	/*
	 * What the last instructions need goes below the red zone of the stack
	 * that the thread continues on. From there on nothing of it is in the
	 * frame, so a signal, and a trap in its handler, may come between any
	 * two of them. (iretq would leave it in the frame while busy is clear.)
	 */
	movq	REG(4), %rsi
	leaq	-(RED_ZONE + 24)(%rsi), %rsi
	movq	REG(7), %rax
	movq	%rax, 0(%rsi)
	movq	REG(17), %rax
	movq	%rax, 8(%rsi)
	movq	REG(16), %rax
	movq	%rax, 16(%rsi)

	movq	REG(0), %rax
	movq	REG(1), %rcx
	movq	REG(2), %rdx
	movq	REG(3), %rbx
	movq	REG(5), %rbp
	movq	REG(8), %r8
	movq	REG(9), %r9
	movq	REG(10), %r10
	movq	REG(11), %r11
	movq	REG(12), %r12
	movq	REG(13), %r13
	movq	REG(14), %r14
	movq	REG(15), %r15
	leaq	AREA(0), %rdi
	movq	%rsi, %rsp
	movq	(UPCALL_REGS + 8 * 6 - UPCALL_FRAME)(%rdi), %rsi
	/* From here on the next trap may be an upcall. */
	movl	$0, AREA_BUSY(%rdi)
	popq	%rdi
	popfq
	ret	$RED_ZONE
	.cfi_endproc
	.size	upcall_entry, . - upcall_entry

	.section .rodata
	.balign	4
mxcsr_default:
	.long	0x1f80

	.section .note.GNU-stack, "", @progbits
