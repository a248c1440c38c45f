/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Pieces of long mode code for several vCPUs. %rdi: what they work on; %r10: this
 * vCPU's own count, 8 bytes on a page that is not armed; %rcx: rounds. At their end
 * they write to port 0xf6, again and again; 0xf7 says that something was wrong.
 */
	.section .rodata

/* Add 1 to what both count, and then to its own count. */
	.globl	piece_add, piece_add_end
piece_add:
1:	lock incq (%rdi)
	incq	(%r10)
	dec	%rcx
	jnz	1b
2:	out	%al, $0xf6
	jmp	2b
piece_add_end:

/* The same until the byte at %r8 is not 0. */
	.globl	piece_add_on, piece_add_on_end
piece_add_on:
1:	lock incq (%rdi)
	incq	(%r10)
	cmpb	$0, (%r8)
	je	1b
2:	out	%al, $0xf6
	jmp	2b
piece_add_on_end:

/* Write its own byte, one more each time, where the other vCPU has another one. */
	.globl	piece_byte, piece_byte_end
piece_byte:
1:	incb	(%rdi)
	incq	(%r10)
	dec	%rcx
	jnz	1b
2:	out	%al, $0xf6
	jmp	2b
piece_byte_end:

/* Add 1 to the operand of piece_called, at its aligned address %rdi. */
	.globl	piece_patch, piece_patch_end
piece_patch:
1:	incl	(%rdi)
	incq	(%r10)
	pause
	dec	%rcx
	jnz	1b
2:	out	%al, $0xf6
	jmp	2b
piece_patch_end:

/*
 * Call %rdi until it returns %rcx: it may never return less than before. %r8: counts
 * the calls.
 */
	.globl	piece_caller, piece_caller_end
piece_caller:
	xor	%ebx, %ebx
1:	call	*%rdi
	incq	(%r8)
	cmp	%ebx, %eax
	jb	3f
	mov	%eax, %ebx
	cmp	%ecx, %eax
	jb	1b
2:	out	%al, $0xf6
	jmp	2b
3:	out	%al, $0xf7
	jmp	3b
piece_caller_end:

/* The operand is 4 bytes from its beginning. */
	.globl	piece_called, piece_called_end
piece_called:
	nop
	nop
	nop
	mov	$0, %eax
	ret
piece_called_end:
	.section .note.GNU-stack, "", @progbits
