/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A real mode image for 0:0x1000 that changes itself: 200 times it writes the operand
 * of an instruction that it runs next, adds that up, and prints the sum. Ends with
 * status 0 if the sum is right, else 1. The code that is changed is on a page of its
 * own, so that the writer's page is never written.
 */
	.code16
	.text
	.globl	_start
_start:
	xor	%ax, %ax
	mov	%ax, %ds
	xor	%bx, %bx		/* the sum */
	mov	$200, %cx
1:	mov	%cx, patched + 1	/* operand of mov $0, %ax */
	call	patched
	add	%ax, %bx
	loop	1b
	mov	$message, %si
2:	lodsb
	test	%al, %al
	jz	3f
	out	%al, $0xe9
	jmp	2b
3:	mov	%bx, %ax		/* in decimal, by repeated division */
	mov	$10, %bp
	xor	%cx, %cx
4:	xor	%dx, %dx
	div	%bp
	push	%dx
	inc	%cx
	test	%ax, %ax
	jnz	4b
5:	pop	%ax
	add	$'0', %al
	out	%al, $0xe9
	loop	5b
	mov	$'\n', %al
	out	%al, $0xe9
	xor	%al, %al
	cmp	$20100, %bx
	je	6f
	inc	%al
6:	out	%al, $0xf4
7:	hlt
	jmp	7b
message:
	.asciz	"sum "

	.balign	4096
patched:
	mov	$0, %ax
	ret
