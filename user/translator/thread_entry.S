/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The first and the last instructions of a thread, where no C can be: C needs a
 * stack that is its own, and %gs.
 */
	.text
/*
 * long thread_syscall(long nr, const long args[5]): clone or clone3 whose child
 * starts on another stack. That stack's top holds the child's struct cpu; it
 * goes on in thread_entry(cpu, what is above that).
 */
	.globl	thread_syscall
	.type	thread_syscall, @function
thread_syscall:
	mov	%rdi, %rax
	mov	%rsi, %r11
	mov	(%r11), %rdi
	mov	8(%r11), %rsi
	mov	16(%r11), %rdx
	mov	24(%r11), %r10
	mov	32(%r11), %r8
	syscall
	test	%rax, %rax
	jz	1f
	ret
1:	xor	%ebp, %ebp
	pop	%rdi
	mov	%rsp, %rsi
	call	thread_entry
	ud2
	.size	thread_syscall, . - thread_syscall

/*
 * void thread_leave(struct cpu *cpu, struct cpu **link, struct cpu **list,
 *		     long status, long nr)
 *
 * Put the cpu, whose member *link is, at the head of the list and end by the system
 * call nr. From the exchange on this stack may be another thread's.
 */
	.globl	thread_leave
	.type	thread_leave, @function
thread_leave:
	mov	(%rdx), %rax
1:	mov	%rax, (%rsi)
	lock cmpxchg %rdi, (%rdx)	/* pairs with the acquire in thread_alloc() */
	jne	1b
	mov	%rcx, %rdi
	mov	%r8, %rax
	syscall
	ud2
	.size	thread_leave, . - thread_leave

	.section .note.GNU-stack, "", @progbits
