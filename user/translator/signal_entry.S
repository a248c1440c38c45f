/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Where the kernel starts every signal of this process, on the runtime's
 * alternate stack. The interrupted code may have been the guest's, and %fs with
 * it: no C may run before the runtime's %fs is back, and the guest's must be
 * there again when the interrupted code goes on.
 *
 * %gs is the thread's struct cpu whenever a handler is installed.
 */
#include "cpu.h"

#define ARCH_SET_FS	0x1002
#define ARCH_GET_FS	0x1003

	.text
	.globl	signal_entry
	.type	signal_entry, @function
signal_entry:				/* rdi, rsi, rdx: sig, info, context */
	/*
	 * The kernel leaves a guest's AC set: no C may run with it. NT and ID stay:
	 * sigreturn takes them from the registers, not from the frame.
	 */
	pushfq
	andl	$~0x40000, (%rsp)
	popfq
	push	%rbx
	push	%r12
	push	%r13
	sub	$16, %rsp
	mov	%rdi, %rbx
	mov	%rsi, %r12
	mov	%rdx, %r13

	cmpb	$0, signal_fsgsbase(%rip)
	je	1f
	rdfsbase %rax
	mov	%rax, (%rsp)
	mov	%gs:CPU_HOST_FS, %rcx
	wrfsbase %rcx
	jmp	2f
1:	mov	$158, %eax		/* arch_prctl */
	mov	$ARCH_GET_FS, %edi
	mov	%rsp, %rsi
	syscall
	mov	$158, %eax
	mov	$ARCH_SET_FS, %edi
	mov	%gs:CPU_HOST_FS, %rsi
	syscall
	mov	(%rsp), %rax
2:
	cmpl	$0, %gs:CPU_IN_CACHE
	je	3f
	/* enter.S sets in_cache a little before it gives %fs to the guest */
	cmp	%gs:CPU_HOST_FS, %rax
	je	3f
	mov	%rax, %gs:CPU_GUEST_FS
3:
	mov	%ebx, %edi
	mov	%r12, %rsi
	mov	%r13, %rdx
	call	signal_master

	cmpb	$0, signal_fsgsbase(%rip)
	je	4f
	mov	(%rsp), %rax
	wrfsbase %rax
	jmp	5f
4:	mov	$158, %eax
	mov	$ARCH_SET_FS, %edi
	mov	(%rsp), %rsi
	syscall
5:
	add	$16, %rsp
	pop	%r13
	pop	%r12
	pop	%rbx
	ret
	.size	signal_entry, . - signal_entry

	.globl	signal_restorer
	.type	signal_restorer, @function
signal_restorer:
	mov	$15, %eax		/* rt_sigreturn */
	syscall
	.size	signal_restorer, . - signal_restorer

/* call_on_stack(top, fn, arg): leaves the process's own stack to the guest */
	.globl	call_on_stack
	.type	call_on_stack, @function
call_on_stack:
	mov	%rdi, %rsp
	and	$-16, %rsp
	xor	%ebp, %ebp
	mov	%rdx, %rdi
	call	*%rsi
	ud2
	.size	call_on_stack, . - call_on_stack

	.section .note.GNU-stack, "", @progbits
