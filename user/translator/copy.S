/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The two places where the runtime meets what the guest may break: copies of
 * guest memory, and system calls made for the guest. Both have addresses that
 * the master signal handler knows (raw_syscall.h).
 */
	.text

/* uint64_t guest_copy(void *dst, const void *src, uint64_t len) */
	.globl	guest_copy, guest_copy_insn, guest_copy_fault
	.type	guest_copy, @function
guest_copy:
	mov	%rdx, %rcx
guest_copy_insn:
	rep movsb
guest_copy_fault:			/* rcx: what is left */
	mov	%rcx, %rax
	ret
	.size	guest_copy, . - guest_copy

/* long guest_syscall(const volatile uint32_t *stop, long nr, const long args[6]) */
	.globl	guest_syscall, guest_syscall_test, guest_syscall_insn
	.globl	guest_syscall_done, guest_syscall_stopped
	.type	guest_syscall, @function
guest_syscall:
	push	%rbx
	mov	%rdi, %rbx
	mov	%rsi, %rax
	mov	%rdx, %r11
	mov	(%r11), %rdi
	mov	8(%r11), %rsi
	mov	16(%r11), %rdx
	mov	24(%r11), %r10
	mov	32(%r11), %r8
	mov	40(%r11), %r9
guest_syscall_test:
	cmpl	$0, (%rbx)
	jne	guest_syscall_stopped
guest_syscall_insn:
	syscall
guest_syscall_done:
	pop	%rbx
	ret
guest_syscall_stopped:
	mov	$-512, %rax
	pop	%rbx
	ret
	.size	guest_syscall, . - guest_syscall

	.section .note.GNU-stack, "", @progbits
