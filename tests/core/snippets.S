/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Guest code that faults. On entry %rdi is an address where nothing is, %rsi
 * readable and writable memory, %rsp a good stack, %fs and %gs bases lead to
 * memory, everything else has numbers in it. FAULT marks the instruction that
 * must be found; each snippet ends there.
 *
 * native_run(regs): load them all and go; the signal handler ends it.
 */
	.macro	SNIP name
	.section .rodata.names, "a", @progbits
9:	.asciz	"\name"
	.section .data.rel.ro.snips, "aw", @progbits
	.quad	9b, snip_\name, fault_\name
	.text
	.p2align 4
snip_\name:
	.endm
	.macro	FAULT name
fault_\name:
	.endm
	.macro	END
	ud2
	.endm

	.section .data.rel.ro.snips, "aw", @progbits
	.globl	snips, snips_end
	.p2align 3
snips:

	SNIP	load
	addq	$5, %rax
	cmpq	%rax, %rbx
FAULT load
	movq	(%rdi), %rcx
	END

	SNIP	store_index
	leaq	-8(%rdi), %r11
	movl	$2, %r12d
FAULT store_index
	movl	%eax, (%r11, %r12, 4)
	END

	SNIP	gs_store
	movq	%gs:8, %rax
	subq	%rcx, %rdx
	movq	%rax, %r9
	movabsq	$far_gs, %rbx
FAULT gs_store
	movq	%rax, %gs:(%rbx, %rdi)
	END

	SNIP	gs_base_is_operand
	cmpq	%r8, %r9
FAULT gs_base_is_operand
	movq	%rdi, %gs:(%rdi)
	END

	SNIP	gs_cmpxchg16b
	cmpq	%r8, %r9
FAULT gs_cmpxchg16b
	lock cmpxchg16b %gs:(%rdi, %rsi)
	END

	SNIP	gs_upper
	xorl	%r10d, %r10d
FAULT gs_upper
	addb	%ah, %gs:16(%rdi)
	END

	SNIP	gs_r13
	movq	%rdi, %r13
	incl	%ebx
FAULT gs_r13
	xaddl	%r12d, %gs:(%r13)
	END

	SNIP	gs_addr32
	movq	%rdi, %r13
	incl	%ebx
FAULT gs_addr32
	movl	%gs:(%r13d), %eax
	END

	SNIP	fs_load
	movq	%fs:8, %rax
	incl	%ebx
FAULT fs_load
	movq	%fs:(%rdi), %rcx
	END

	SNIP	call_direct
	movq	%rdi, %rsp
	cmpq	%rax, %rbx
FAULT call_direct
	call	1f
1:	END

	SNIP	call_reg
	movq	%rdi, %rsp
	cmpq	%rax, %rbx
	leaq	1f(%rip), %rax
FAULT call_reg
	call	*%rax
1:	END

	SNIP	call_mem
	cmpq	%rax, %rbx
	movq	%rdi, %rax
FAULT call_mem
	call	*8(%rax)
	END

	SNIP	call_mem_push
	leaq	1f(%rip), %rbx
	movq	%rbx, 8(%rsi)
	movq	%rdi, %rsp
	stc
FAULT call_mem_push
	call	*8(%rsi)
1:	END

	SNIP	call_gs
	cmpq	%rax, %rbx
FAULT call_gs
	call	*%gs:8(%rdi)
	END

	SNIP	call_rip
	movq	%rdi, %rsp
	std
	cmpq	%rax, %rbx
FAULT call_rip
	call	*snip_pointer(%rip)
	END

	SNIP	jmp_mem
	cmpq	%rax, %rbx
FAULT jmp_mem
	jmp	*(%rdi, %rax, 0x1)
	END

	SNIP	ret
	movq	%rdi, %rsp
	cmpq	%rax, %rbx
FAULT ret
	ret
	END

	SNIP	ret_imm
	movq	%rdi, %rsp
	stc
FAULT ret_imm
	ret	$24
	END

	SNIP	push_mem
	movq	%rdi, %rsp
	stc
FAULT push_mem
	pushq	8(%rsi)
	END

	SNIP	popf
	movq	%rdi, %rsp
	stc
FAULT popf
	popfq
	END

	SNIP	rep_movs
	/* the last 24 bytes of the good page, then nothing */
	leaq	4096-24(%rsi), %r8
	movq	%rsi, %r9
	movq	%r8, %rdi
	movl	$100, %ecx
	cld
FAULT rep_movs
	rep movsb
	END

	SNIP	lods_down
	movq	%rsi, %rax
	xchgq	%rsi, %rdi
	std
FAULT lods_down
	lodsq
	END

	SNIP	divide
	xorl	%ecx, %ecx
	movl	$7, %eax
FAULT divide
	divl	%ecx
	END

	SNIP	avx_store
	xorl	%ebx, %ebx
FAULT avx_store
	movups	%xmm3, 64(%rdi)
	END

	SNIP	after_loop
	movl	$5, %ecx
	xorl	%edx, %edx
1:	addl	%ecx, %edx
	loop	1b
	jrcxz	2f
	END
2:	cmpl	$15, %edx
	jne	3f
FAULT after_loop
	movl	%edx, (%rdi)
3:	END

	SNIP	after_call
	call	1f
	addq	$1, %rax
	sbbq	%rdx, %rdx
FAULT after_call
	movb	$1, (%rdi)
	END
1:	xorl	%eax, %eax
	subq	$1, %rax
	ret

	SNIP	after_lookup
	leaq	1f(%rip), %rax
	cmpq	%rdx, %rcx
	jmp	*%rax
	END
1:	adcq	%rax, %rax
FAULT after_lookup
	movb	$1, (%rdi)
	END

	SNIP	wrgsbase32
	movabsq	$0xffffffff00000010, %rcx
	rdgsbase %rdx
	wrgsbase %ecx
	rdgsbase %rbx
	rdgsbase %r11d
FAULT wrgsbase32
	movl	%gs:(%rdi), %eax
	END

	SNIP	wrgsbase64
	movq	%rsi, %r14
	wrgsbase %r14
	movq	$77, 16(%rsi)
	movq	%gs:16, %rdx
	rdgsbase %rax
FAULT wrgsbase64
	movl	(%rdi), %eax
	END

	SNIP	int3
	stc
	int3
FAULT int3
	END

	SNIP	ud
	stc
FAULT ud
	ud2
	END

	SNIP	privileged
	stc
FAULT privileged
	hlt
	END

	.section .data.rel.ro.snips, "aw", @progbits
snips_end:

	.section .data
	.globl	snip_pointer
	.p2align 3
snip_pointer:
	.quad	snip_load
	.globl	far_gs
	.set	far_gs, 0x1000

	.text
	.globl	native_run
native_run:				/* struct codewp_regs *, %gs is set */
	pushq	128(%rdi)
	pushq	136(%rdi)
	popfq
	popq	native_pc(%rip)
	movq	0(%rdi), %rax
	movq	8(%rdi), %rcx
	movq	16(%rdi), %rdx
	movq	24(%rdi), %rbx
	movq	32(%rdi), %rsp
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
	jmp	*native_pc(%rip)

	.section .bss
	.p2align 3
native_pc:
	.quad	0

	.section .note.GNU-stack, "", @progbits
