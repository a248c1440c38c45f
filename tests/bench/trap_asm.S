/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The code cache of the trap benchmark, and its two raw upcall handlers.
 *
 * A handler has three free registers (%rax, %r10, %r11: the "translator" that
 * made this cache knows that they are dead here), as a real one has its spill
 * slots. Neither touches the stack or the flags.
 *
 * Offsets of struct codewp_area: trap.c asserts them.
 */
#define AREA_BUSY	0
#define AREA_IP		8
#define AREA_DI		32
#define AREA_ADDR	40
#define AREA_SCRATCH0	96	/* alias - view */
#define AREA_SCRATCH1	104	/* where to go on after the store */

	.text
	.globl	cache_start, cache_end, store_one, store_many, store_many_next
	.globl	handler_keep, handler_open
	.type	store_one, @function
	.type	store_many, @function
	.balign	64
cache_start:

/* store_one(rdi: address): one store */
store_one:
	endbr64
	movq	%rsi, (%rdi)
	ret

/* store_many(rdi: address, rsi: count): the same store, count times */
store_many:
	endbr64
1:	movq	%rsi, (%rdi)
store_many_next:
	dec	%rsi
	jnz	1b
	ret
cache_end:

/* The store is done through the alias; the page stays armed. */
handler_keep:
	movq	AREA_ADDR(%rdi), %rax
	movq	AREA_SCRATCH0(%rdi), %r10
	movq	%rsi, (%rax, %r10)
	movq	%rdi, %r11
	movq	AREA_DI(%r11), %rdi
	movl	$0, AREA_BUSY(%r11)
	jmp	*AREA_SCRATCH1(%r11)

/* The page has been disarmed: the store is executed again. */
handler_open:
	movq	%rdi, %r11
	movq	AREA_DI(%r11), %rdi
	movl	$0, AREA_BUSY(%r11)
	jmp	*AREA_IP(%r11)

	.section .note.GNU-stack, "", @progbits
