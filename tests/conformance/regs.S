/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Stores with every register known before and seen after. One thread at a time:
 * what must survive them is in static memory.
 */
#define OFF_FLAGS	128
#define OFF_RED		136

	.bss
	.balign	64
now:	.skip	264			/* struct regs_case, as it comes out */
saved_sp: .skip	8
out_ptr: .skip	8
	.balign	64
old_state: .skip 16384

	.text
/* void regs_store(const struct regs_case *in, struct regs_case *out) */
	.globl	regs_store, regs_store_insn, regs_store_next
	.type	regs_store, @function
regs_store:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, saved_sp(%rip)
	movq	%rsi, out_ptr(%rip)
	subq	$512, %rsp
	pushq	OFF_FLAGS(%rdi)
	popfq				/* mov leaves them alone */
	.set	i, 0
	.rept	16
	movq	OFF_RED + 8 * i(%rdi), %rax
	movq	%rax, -128 + 8 * i(%rsp)
	.set	i, i + 1
	.endr
	movq	0(%rdi), %rax
	movq	8(%rdi), %rcx
	movq	16(%rdi), %rdx
	movq	24(%rdi), %rbx
	movq	40(%rdi), %rbp
	movq	48(%rdi), %rsi
	movq	64(%rdi), %r8
	movq	72(%rdi), %r9
	movq	80(%rdi), %r10
	movq	88(%rdi), %r11
	movq	96(%rdi), %r12
	movq	104(%rdi), %r13
	movq	112(%rdi), %r14
	movq	120(%rdi), %r15
	movq	56(%rdi), %rdi
regs_store_insn:
	movb	$0x5a, (%rdi)
regs_store_next:
	movq	%rax, now + 0(%rip)
	movq	%rcx, now + 8(%rip)
	movq	%rdx, now + 16(%rip)
	movq	%rbx, now + 24(%rip)
	movq	%rsp, now + 32(%rip)
	movq	%rbp, now + 40(%rip)
	movq	%rsi, now + 48(%rip)
	movq	%rdi, now + 56(%rip)
	movq	%r8, now + 64(%rip)
	movq	%r9, now + 72(%rip)
	movq	%r10, now + 80(%rip)
	movq	%r11, now + 88(%rip)
	movq	%r12, now + 96(%rip)
	movq	%r13, now + 104(%rip)
	movq	%r14, now + 112(%rip)
	movq	%r15, now + 120(%rip)
	.set	i, 0
	.rept	16
	movq	-128 + 8 * i(%rsp), %rax
	movq	%rax, now + OFF_RED + 8 * i(%rip)
	.set	i, i + 1
	.endr
	leaq	-256(%rsp), %rsp
	pushfq
	popq	%rax
	movq	%rax, now + OFF_FLAGS(%rip)
	cld
	movq	saved_sp(%rip), %rsp
	movq	out_ptr(%rip), %rdi
	leaq	now(%rip), %rsi
	movl	$33, %ecx
	rep movsq
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

/* void vector_store(const void *in, void *out, void *addr, uint64_t mask) */
	.globl	vector_store
	.type	vector_store, @function
vector_store:
	movq	%rdx, %r8
	movq	%rcx, %rax
	movq	%rcx, %rdx
	shrq	$32, %rdx
	leaq	old_state(%rip), %r9
	xsave64	(%r9)
	xrstor64 (%rdi)
	movb	$0x5a, (%r8)
	xsave64	(%rsi)
	xrstor64 (%r9)
	ret

	.macro	trash_zmm n
	vmovdqa64 %zmm0, %zmm\n
	.endm

/* void vector_trash(uint64_t mask) */
	.globl	vector_trash
	.type	vector_trash, @function
vector_trash:
	fninit
	fldpi
	fldpi
	testb	$4, %dil
	jnz	1f
	.set	i, 0
	.rept	16
	.byte	0x66		/* pcmpeqd %xmm i, %xmm i */
	.if	i > 7
	.byte	0x45
	.endif
	.byte	0x0f, 0x76, 0xc0 | ((i & 7) << 3) | (i & 7)
	.set	i, i + 1
	.endr
	emms
	ret
1:	testb	$0xe0, %dil
	jnz	2f
	vpcmpeqd %xmm0, %xmm0, %xmm0
	vinsertf128 $1, %xmm0, %ymm0, %ymm0
	.irp	n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovaps	%ymm0, %ymm\n
	.endr
	emms
	ret
2:	vpternlogd $0xff, %zmm0, %zmm0, %zmm0
	.altmacro
	.set	i, 1
	.rept	31
	trash_zmm %i
	.set	i, i + 1
	.endr
	.noaltmacro
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	kxnorw	%k\n, %k\n, %k\n
	.endr
	emms
	ret

/* void spin_code(volatile uint32_t *flag) */
	.globl	spin_code, spin_code_end
	.type	spin_code, @function
spin_code:
1:	cmpl	$0, (%rdi)
	je	1b
	ret
spin_code_end:
	nop

	.section .note.GNU-stack, "", @progbits
