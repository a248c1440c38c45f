/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * One store of each kind, for long mode. %rdi: where to; %rsi: 256 bytes to take
 * values from; %rcx: how many, where it repeats; %r10: the guest's own count of its
 * stores, 8 bytes. Each piece does its store, counts it, and writes to port 0xf5.
 *
 * store_kinds is what tests/kvm/stores.h says.
 */
	.macro kind name:req, size:req, align=1, flags=0, repeat=0, skip=0, skipped=0
	.pushsection .rodata.names, "aMS", @progbits, 1
90:	.asciz	"\name"
	.popsection
	.pushsection .data.rel.ro.kinds, "aw"
	.quad	90b, 91f, 92f, 93f
	.long	\size, \align, \flags, \repeat, \skip, \skipped
	.popsection
91:
	.endm
	.macro store
92:
	.endm
	.macro done
	incq	(%r10)
	out	%al, $0xf5
	ud2
93:
	.endm

	.section .data.rel.ro.kinds, "aw"
	.globl	store_kinds, store_kinds_end
	.balign	8
store_kinds:

	.section .rodata
	.balign	16

	kind	mov8 1
	mov	(%rsi), %r11
	store
	mov	%r11b, (%rdi)
	done

	kind	mov16 2
	mov	(%rsi), %r11
	store
	mov	%r11w, (%rdi)
	done

	kind	mov32 4
	mov	(%rsi), %r11
	store
	mov	%r11d, (%rdi)
	done

	kind	mov64 8
	mov	(%rsi), %r11
	store
	mov	%r11, (%rdi)
	done

	kind	mov32_imm 4
	xor	%r11d, %r11d
	store
	movl	$0x11223344, (%rdi,%r11,8)
	done

	kind	add64 8
	mov	(%rsi), %r11
	store
	add	%r11, (%rdi)
	done

	kind	bts64 8
	mov	$5, %r11d
	store
	bts	%r11, (%rdi)
	done

	kind	push 8
	mov	(%rsi), %r11
	lea	8(%rdi), %rsp
	store
	push	%r11
	done

	kind	call 8
	lea	8(%rdi), %rsp
	store
	call	1f
	ud2
1:	done

	kind	pop 8
	mov	%rsi, %rsp
	store
	popq	(%rdi)
	done

	kind	xchg64 8
	mov	(%rsi), %r11
	store
	xchg	%r11, (%rdi)
	done

	kind	lock_inc64 8
	store
	lock incq (%rdi)
	done

	kind	lock_xadd32 4
	mov	(%rsi), %r11
	store
	lock xadd %r11d, (%rdi)
	done

	kind	cmpxchg64_fails 8 flags=1	/* writes what was there */
	mov	(%rsi), %r11
	mov	$-1, %rax
	store
	lock cmpxchg %r11, (%rdi)
	done

	kind	cmpxchg16b 16 align=16
	mov	(%rdi), %rax
	mov	8(%rdi), %rdx
	mov	(%rsi), %rbx
	mov	8(%rsi), %rcx
	store
	lock cmpxchg16b (%rdi)
	done

	kind	movnti 8
	mov	(%rsi), %r11
	store
	movnti	%r11, (%rdi)
	done

	kind	x87_fstpt 10
	fninit
	fldpi
	store
	fstpt	(%rdi)
	done

	kind	x87_fistpll 8
	fninit
	fildll	(%rsi)
	store
	fistpll	(%rdi)
	done

	kind	x87_fnstenv 28 skip=12 skipped=16
	fninit
	store
	fnstenv	(%rdi)
	done

	kind	sse_movups 16
	movups	(%rsi), %xmm3
	store
	movups	%xmm3, (%rdi)
	done

	kind	sse_movaps 16 align=16
	movups	(%rsi), %xmm3
	store
	movaps	%xmm3, (%rdi)
	done

	kind	fxsave 512 align=16 skip=6 skipped=18
	fninit
	movups	(%rsi), %xmm3
	store
	fxsave	(%rdi)
	done

	kind	avx_vmovups 32 flags=2
	vmovups	(%rsi), %ymm5
	store
	vmovups	%ymm5, (%rdi)
	done

	kind	xsave 832 align=64 flags=6 skip=6 skipped=18
	fninit
	vmovups	(%rsi), %ymm5
	mov	$7, %eax
	xor	%edx, %edx
	store
	xsave	(%rdi)
	done

	kind	rep_stosb 100 repeat=1
	mov	(%rsi), %al
	cld
	store
	rep stosb
	done

	kind	rep_stosq 104 repeat=8
	mov	(%rsi), %rax
	cld
	store
	rep stosq
	done

	kind	rep_movsb 100 repeat=1
	cld
	store
	rep movsb
	done

	kind	rep_movsq 104 repeat=8
	cld
	store
	rep movsq
	done

	.section .data.rel.ro.kinds, "aw"
store_kinds_end:
	.section .note.GNU-stack, "", @progbits
