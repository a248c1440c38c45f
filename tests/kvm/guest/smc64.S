/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A long mode program for any number of vCPUs. Each makes, 100 times, a function of
 * its own on a page of its own out of bytes (so that each time all of it is written
 * anew, and a run of an old one shows), calls it and adds up what it returns. The
 * last vCPU to finish prints "ok" or "wrong" and ends the guest with 0 or 1.
 */
	.text
	.globl	_start
_start:
	mov	%rsi, %r12		/* vCPUs */
	mov	%rdi, %r13
	shl	$12, %rdi
	lea	functions(%rip), %r14
	add	%rdi, %r14		/* this one's page */
	mov	$100, %ebx
	xor	%r15d, %r15d		/* the sum */
1:	/* mov $imm32, %eax; add $vcpu, %eax; ret */
	movb	$0xb8, (%r14)
	mov	%ebx, 1(%r14)
	movb	$0x05, 5(%r14)
	mov	%r13d, 6(%r14)
	movb	$0xc3, 10(%r14)
	call	*%r14
	add	%rax, %r15
	dec	%ebx
	jnz	1b

	imul	$100, %r13, %rax
	add	$5050, %rax
	cmp	%rax, %r15
	je	2f
	lock incl wrong(%rip)
2:	mov	$1, %eax
	lock xadd %eax, finished(%rip)
	inc	%eax
	cmp	%r12d, %eax
	je	4f
3:	hlt
	jmp	3b
4:	lea	good(%rip), %rsi
	cmpl	$0, wrong(%rip)
	je	5f
	lea	bad(%rip), %rsi
5:	lodsb
	test	%al, %al
	jz	6f
	out	%al, $0xe9
	jmp	5b
6:	xor	%eax, %eax
	cmpl	$0, wrong(%rip)
	setne	%al
	out	%al, $0xf4
	jmp	3b
good:	.asciz	"ok\n"
bad:	.asciz	"wrong\n"

	.data
	.balign	4096
finished: .long	0
wrong:	.long	0
	.balign	4096
functions:
	.fill	16 * 4096, 1, 0xcc
