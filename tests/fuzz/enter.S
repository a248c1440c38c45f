/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Into a sequence with a given CPU state, and out of it with what it left.
 * fuzz_enter() loads fuzz_in whole and jumps; the sequence ends with a jump
 * through FUZZ_EXIT to fuzz_exit, which saves whole to fuzz_out and returns
 * from fuzz_enter(). Not reentrant.
 */
	.text
	.globl fuzz_enter
	.type fuzz_enter, @function
fuzz_enter:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, fuzz_host_rsp(%rip)
	rdfsbase %rax
	mov	%rax, fuzz_host_fs(%rip)
	mov	fuzz_mask(%rip), %eax
	xor	%edx, %edx
	lea	fuzz_in+192(%rip), %rcx
	xrstor64 (%rcx)
	mov	fuzz_in+136(%rip), %rax
	wrfsbase %rax
	mov	fuzz_in+144(%rip), %rax
	wrgsbase %rax
	pushq	fuzz_in+128(%rip)
	popfq
	/* from here on nothing changes flags */
	mov	fuzz_in(%rip), %rax
	mov	fuzz_in+8(%rip), %rcx
	mov	fuzz_in+16(%rip), %rdx
	mov	fuzz_in+24(%rip), %rbx
	mov	fuzz_in+32(%rip), %rsp
	mov	fuzz_in+40(%rip), %rbp
	mov	fuzz_in+48(%rip), %rsi
	mov	fuzz_in+56(%rip), %rdi
	mov	fuzz_in+64(%rip), %r8
	mov	fuzz_in+72(%rip), %r9
	mov	fuzz_in+80(%rip), %r10
	mov	fuzz_in+88(%rip), %r11
	mov	fuzz_in+96(%rip), %r12
	mov	fuzz_in+104(%rip), %r13
	mov	fuzz_in+112(%rip), %r14
	mov	fuzz_in+120(%rip), %r15
	jmp	*fuzz_in+152(%rip)
	.size fuzz_enter, . - fuzz_enter

	.globl fuzz_exit
	.type fuzz_exit, @function
fuzz_exit:
	mov	%rax, fuzz_out(%rip)
	mov	%rcx, fuzz_out+8(%rip)
	mov	%rdx, fuzz_out+16(%rip)
	mov	%rbx, fuzz_out+24(%rip)
	mov	%rsp, fuzz_out+32(%rip)
	mov	%rbp, fuzz_out+40(%rip)
	mov	%rsi, fuzz_out+48(%rip)
	mov	%rdi, fuzz_out+56(%rip)
	mov	%r8, fuzz_out+64(%rip)
	mov	%r9, fuzz_out+72(%rip)
	mov	%r10, fuzz_out+80(%rip)
	mov	%r11, fuzz_out+88(%rip)
	mov	%r12, fuzz_out+96(%rip)
	mov	%r13, fuzz_out+104(%rip)
	mov	%r14, fuzz_out+112(%rip)
	mov	%r15, fuzz_out+120(%rip)
	mov	fuzz_host_rsp(%rip), %rsp
	pushfq
	popq	fuzz_out+128(%rip)
	pushq	$0x202
	popfq
	rdfsbase %rax
	mov	%rax, fuzz_out+136(%rip)
	rdgsbase %rax
	mov	%rax, fuzz_out+144(%rip)
	mov	fuzz_mask(%rip), %eax
	xor	%edx, %edx
	lea	fuzz_out+192(%rip), %rcx
	xsave64	(%rcx)
	/* fall through */

	/* Where the native run's signal handler continues after a fault. */
	.globl fuzz_fault_exit
fuzz_fault_exit:
	mov	fuzz_host_rsp(%rip), %rsp
	mov	fuzz_host_fs(%rip), %rax
	wrfsbase %rax
	xor	%eax, %eax
	wrgsbase %rax
	fninit
	ldmxcsr	fuzz_mxcsr(%rip)
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
	.size fuzz_exit, . - fuzz_exit

	.section .rodata
fuzz_mxcsr:
	.long	0x1f80

	.bss
	.balign	64
	.globl fuzz_in, fuzz_out, fuzz_host_fs, fuzz_mask
fuzz_in:
	.skip	192 + 4096
fuzz_out:
	.skip	192 + 4096
fuzz_host_rsp:
	.skip	8
fuzz_host_fs:
	.skip	8
fuzz_mask:
	.skip	8

	.section .note.GNU-stack, "", @progbits
