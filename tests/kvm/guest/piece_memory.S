/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Pieces of long mode code that use memory in ways a VMM changes behind them. Each
 * writes to port 0xf5 when it is through.
 */
	.section .rodata

/* Add 1 to a byte of each of %rcx pages from %rdi, then count in (%r10). */
	.globl	piece_pages, piece_pages_end
piece_pages:
	mov	%rdi, %rax
	mov	%rcx, %rdx
1:	incb	(%rax)
	incq	(%r10)
	add	$4096, %rax
	dec	%rdx
	jnz	1b
	out	%al, $0xf5
	jmp	piece_pages
piece_pages_end:

/* Read the same. */
	.globl	piece_read, piece_read_end
piece_read:
	mov	%rdi, %rax
	mov	%rcx, %rdx
1:	mov	(%rax), %bl
	add	$4096, %rax
	dec	%rdx
	jnz	1b
	out	%al, $0xf5
	jmp	piece_read
piece_read_end:

/*
 * Write to %rdi, put %r9 into the page table entry at %r8, and write there again: now
 * it is another page. Then call what is at %r11, on whichever page it is now.
 */
	.globl	piece_remap, piece_remap_end
piece_remap:
	movb	$1, (%rdi)
	call	*%r11
	mov	(%r8), %rbx
	mov	%r9, (%r8)
	invlpg	(%rdi)
	mov	%rbx, %r9
	movb	$2, (%rdi)
	call	*%r11
	out	%al, $0xf5
	jmp	piece_remap
piece_remap_end:

/* Go round until (%r8) is not 0; (%r10) counts. */
	.globl	piece_spin, piece_spin_end
piece_spin:
1:	incq	(%r10)
	pause
	cmpb	$0, (%r8)
	je	1b
	out	%al, $0xf5
	jmp	1b
piece_spin_end:
	.section .note.GNU-stack, "", @progbits
