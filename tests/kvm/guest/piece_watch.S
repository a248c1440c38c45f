/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Long-mode guests for watch.c, position independent: copied to VMM_LONG_LOAD. What
 * they write is listed there. %rdi: vCPU.
 */
#define A 0x300000

	.section .rodata
	.globl	watch_stores, watch_stores_end
watch_stores:
	movl	$A, %ebx
	movq	$0x1122334455667788, %rax
	movb	$1, 0x10(%rbx)
	movq	%rax, 0x0c(%rbx)
	movb	$2, 0x100(%rbx)			/* beside it */
	movb	$3, 0x0f(%rbx)
	movb	$3, 0x14(%rbx)
	leaq	0x0e(%rbx), %rdi
	movl	$5, %ecx
	rep stosb				/* an element at a time: 3 are told */
	lock xaddl %eax, 0x10(%rbx)
	movl	$77, %eax
	lock cmpxchgl %ecx, 0x10(%rbx)		/* fails, and writes what is there */
	movups	%xmm0, 0x08(%rbx)
	leaq	0x18(%rbx), %rsp
	pushq	%rax
	leaq	0x18(%rbx), %rsp
	call	1f
1:	fninit
	fld1
	fstpt	0x0a(%rbx)
	pxor	%xmm1, %xmm1			/* mask: byte 6 only */
	movl	$0x8000, %eax
	pinsrw	$3, %eax, %xmm1
	leaq	0x0a(%rbx), %rdi
	maskmovdqu %xmm1, %xmm2			/* 0x11: byte 7 of it */
	leaq	0x0b(%rbx), %rdi
	pslldq	$8, %xmm1
	maskmovdqu %xmm1, %xmm2			/* 0x1a: beside it */
	movq	%rax, 0xffc(%rbx)		/* two pages, of which both are watched */
	movl	$0x12345678, 0xffa(%rbx)	/* up to the first watched byte */
	incl	0x1002(%rbx)
	hlt
watch_stores_end:

	/* 400 atomic increments of a watched word, and a word beside it each. */
	.globl	watch_count, watch_count_end
watch_count:
	movl	$A, %ebx
	movl	$400, %ecx
	.globl	watch_count_locked, watch_count_plain
1:
watch_count_locked:
	lock incq 0x40(%rbx)
watch_count_plain:
	incq	0x80(%rbx, %rdi, 8)
	decl	%ecx
	jnz	1b
	hlt
watch_count_end:

	/* One write to each of two pages. */
	.globl	watch_two, watch_two_a, watch_two_b, watch_two_end
watch_two:
	movl	$A, %ebx
watch_two_a:
	movb	$1, 0x2007(%rbx)
watch_two_b:
	addl	$7, 0x3123(%rbx)
	movb	$1, 0x2008(%rbx)
	hlt
watch_two_end:

	/* Sixteen bits' worth of nothing else: real mode, %ds is 0. */
	.code16
	.globl	watch_real, watch_real_end
watch_real:
	movw	$0x0700, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x1234, 0x21			/* 0x7021 */
	movw	$0x25, %di
	cld
	stosw					/* 0x7025 */
	movw	$0x26, %sp
	pushw	%ax				/* 0x7024 */
	movb	$1, 0x30			/* beside it */
	hlt
watch_real_end:
	.code64
	.section .note.GNU-stack, "", @progbits
