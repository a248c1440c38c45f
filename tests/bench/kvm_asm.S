/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The guests of tests/bench/kvm.c: 32 bits, flat, without page tables. They are copied
 * into the guest's memory and know no address. Each round ends with hlt, and the
 * instruction after that begins the next.
 */
	.section .rodata
	.code32

/* One write to each of %ecx pages from %esi on. */
	.globl guest_touch, guest_touch_end
guest_touch:
	mov	%esi, %edi
	mov	%ecx, %edx
1:	incl	(%edi)
	add	$4096, %edi
	dec	%edx
	jnz	1b
	hlt
	jmp	guest_touch
guest_touch_end:

/* Some work: 256 words of each page are read, changed and written. */
	.globl guest_work, guest_work_end
guest_work:
	mov	%esi, %edi
	mov	%ecx, %edx
1:	mov	$256, %ebx
2:	mov	-4(%edi,%ebx,4), %eax
	rol	$3, %eax
	add	%ebx, %eax
	mov	%eax, -4(%edi,%ebx,4)
	dec	%ebx
	jnz	2b
	add	$4096, %edi
	dec	%edx
	jnz	1b
	hlt
	jmp	guest_work
guest_work_end:

	.section .note.GNU-stack, "", @progbits
