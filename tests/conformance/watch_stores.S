/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * One function for each kind of store that watch.c watches. %rdi is the address that
 * it writes to (watch.c's table says which bytes, counted from there), %rsi names 64
 * bytes of source, %rcx is 13, %r9 the distance from %fs, the others are arbitrary.
 */
#include "watch_stores.h"

	.text

/* void watch_exec(struct watch_regs *io, void (*fn)(void)) */
	.globl	watch_exec
	.type	watch_exec, @function
watch_exec:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushq	%rsi
	pushq	%rdi
	fxrstor64 WATCH_FX(%rdi)
	pushq	8 * 16(%rdi)
	popfq
	movq	8 * 0(%rdi), %rax
	movq	8 * 1(%rdi), %rcx
	movq	8 * 2(%rdi), %rdx
	movq	8 * 3(%rdi), %rbx
	movq	8 * 5(%rdi), %rbp
	movq	8 * 6(%rdi), %rsi
	movq	8 * 8(%rdi), %r8
	movq	8 * 9(%rdi), %r9
	movq	8 * 10(%rdi), %r10
	movq	8 * 11(%rdi), %r11
	movq	8 * 12(%rdi), %r12
	movq	8 * 13(%rdi), %r13
	movq	8 * 14(%rdi), %r14
	movq	8 * 15(%rdi), %r15
	movq	8 * 7(%rdi), %rdi
	call	*8(%rsp)
	pushfq
	xchgq	%rdi, 8(%rsp)
	movq	%rax, 8 * 0(%rdi)
	movq	%rcx, 8 * 1(%rdi)
	movq	%rdx, 8 * 2(%rdi)
	movq	%rbx, 8 * 3(%rdi)
	movq	%rbp, 8 * 5(%rdi)
	movq	%rsi, 8 * 6(%rdi)
	movq	%r8, 8 * 8(%rdi)
	movq	%r9, 8 * 9(%rdi)
	movq	%r10, 8 * 10(%rdi)
	movq	%r11, 8 * 11(%rdi)
	movq	%r12, 8 * 12(%rdi)
	movq	%r13, 8 * 13(%rdi)
	movq	%r14, 8 * 14(%rdi)
	movq	%r15, 8 * 15(%rdi)
	popq	%rax
	movq	%rax, 8 * 16(%rdi)
	popq	%rax
	movq	%rax, 8 * 7(%rdi)
	fxsave64 WATCH_FX(%rdi)
	cld
	addq	$8, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret
	.size	watch_exec, . - watch_exec

.macro CASE name
	.globl	wi_\name
	.type	wi_\name, @function
wi_\name:
.endm

/* With %rdi + 16 for a stack. */
.macro STACK
	movq	%rsp, %r15
	leaq	16(%rdi), %rsp
.endm
.macro UNSTACK
	subq	%rdi, %rsp
	movq	%rsp, %r14
	movq	%r15, %rsp
.endm

CASE mov8;	movb	%al, (%rdi);		ret
CASE mov_ah;	movb	%ah, (%rdi);		ret
CASE mov16;	movw	%ax, (%rdi);		ret
CASE mov32;	movl	%eax, (%rdi);		ret
CASE mov64;	movq	%rax, (%rdi);		ret
CASE mov_imm;	movl	$0x12345678, (%rdi);	ret
CASE mov_r12;	movq	%rdi, %r12
		movq	%r13, (%r12);		ret
CASE mov_self;	movq	%rdi, (%rdi);		ret
CASE mov_moffs;	movabs	%rax, WATCH_ADDR + WATCH_OFF
		ret
CASE mov_index;	negq	%r11
		leaq	(%rdi, %r11, 4), %r10
		negq	%r11
		movq	%rax, (%r10, %r11, 4);	ret
CASE mov_disp;	movq	%rax, 0x7b(%rbx);	ret
CASE mov_fs;	movq	%rax, %fs:(%r9);	ret
CASE mov_addr32; movl	%eax, (%edi);		ret
CASE mov_rsp;	movq	%rsp, %r15
		movq	%rdi, %rsp
		movq	%rax, (%rsp)
		movq	%r15, %rsp
		ret
CASE movbe;	movbe	%eax, (%rdi);		ret
CASE movnti;	movnti	%rax, (%rdi);		ret
CASE add;	addl	%eax, (%rdi);		ret
CASE adc;	adcq	$5, (%rdi);		ret
CASE inc;	incw	(%rdi);			ret
CASE not;	notb	(%rdi);			ret
CASE shl;	shll	$3, (%rdi);		ret
CASE shld;	shldq	%cl, %rax, (%rdi);	ret
CASE sete;	sete	(%rdi);			ret
CASE xchg;	xchgq	%rax, (%rdi);		ret
CASE lock_add;	lock addq %rax, (%rdi);		ret
CASE xadd;	lock xaddl %eax, (%rdi);	ret
CASE cmpxchg_ok; movl	(%rdi), %eax
		lock cmpxchgl %ebx, (%rdi);	ret
CASE cmpxchg_no; lock cmpxchgl %ebx, (%rdi);	ret
CASE cmpxchg16b; movq	(%rdi), %rax
		movq	8(%rdi), %rdx
		lock cmpxchg16b (%rdi);		ret
CASE bts_reg;	movl	$203, %r8d
		btsq	%r8, (%rdi);		ret
CASE btc_neg;	movq	$-1, %r8
		btcl	%r8d, (%rdi);		ret
CASE bts_imm;	lock btsl $9, (%rdi);		ret

CASE movups;	movups	%xmm3, (%rdi);		ret
CASE movaps;	movaps	%xmm9, (%rdi);		ret
CASE movq_xmm;	movq	%xmm2, (%rdi);		ret
CASE movhps;	movhps	%xmm2, (%rdi);		ret
CASE pextrb;	pextrb	$3, %xmm2, (%rdi);	ret
CASE extractps;	extractps $2, %xmm2, (%rdi);	ret
CASE movntdq;	movntdq	%xmm2, (%rdi);		ret
CASE movq_mm;	movq	%mm3, (%rdi);		ret
/* Mask: bytes 2, 3 and 7 */
CASE maskmovdqu; pxor	%xmm1, %xmm1
		movl	$0x80, %eax
		pinsrb	$2, %eax, %xmm1
		pinsrb	$3, %eax, %xmm1
		pinsrb	$7, %eax, %xmm1
		maskmovdqu %xmm1, %xmm4;	ret
CASE maskmovq;	movq	mask2(%rip), %mm1
		maskmovq %mm1, %mm4;		ret
CASE vmovups;	vbroadcastss 4(%rsi), %ymm5
		vmovups	%ymm5, (%rdi);		ret
CASE vmovups_hi; vbroadcastss 4(%rsi), %ymm13
		vmovups	%ymm13, 0x7b(%rbx);	ret
CASE vextract;	vbroadcastss 4(%rsi), %ymm13
		vextractf128 $1, %ymm13, (%rdi); ret
CASE vcvtps2ph;	vcvtps2ph $0, %xmm2, (%rdi);	ret
/* Elements 1 and 6 of 8 */
CASE vmaskmovps; vmovups mask16(%rip), %ymm1
		vbroadcastss 4(%rsi), %ymm5
		vmaskmovps %ymm5, %ymm1, (%rdi); ret
CASE vpmaskmovq; vmovups mask3(%rip), %ymm11
		vbroadcastss 4(%rsi), %ymm5
		vpmaskmovq %ymm5, %ymm11, (%rdi); ret
CASE vmask_none; vpxor	%xmm1, %xmm1, %xmm1
		vmaskmovps %ymm5, %ymm1, (%rdi)
		movb	$1, (%rdi);		ret
/* Elements 1 and 6 of 16 */
CASE vmovdqu32_k; movl	$0x42, %eax
		kmovw	%eax, %k3
		vpbroadcastd 4(%rsi), %zmm5
		vmovdqu32 %zmm5, (%rdi){%k3};	ret
CASE vmovdqu8_k; movl	$0x0c, %eax
		kmovq	%rax, %k1
		vpbroadcastd 4(%rsi), %ymm5
		vmovdqu8 %ymm5, (%rdi){%k1};	ret
CASE vpcompressd; movl	$0x8421, %eax
		kmovw	%eax, %k2
		vmovdqu32 (%rsi), %zmm21
		vpcompressd %zmm21, (%rdi){%k2}; ret
CASE vmovdqu64_z30; vmovdqu32 (%rsi), %zmm30
		vmovdqu64 %zmm30, 0x7b(%rbx);	ret
/* Elements at 0, 8, 16 and 24, of which 1 and 2 are masked out */
CASE vpscatterdd; vmovdqu indices(%rip), %xmm6
		movl	$9, %eax
		kmovw	%eax, %k1
		vmovdqu (%rsi), %xmm7
		vpscatterdd %xmm7, (%rdi, %xmm6, 8){%k1}
		kmovw	%k1, %eax;		ret
CASE vpscatter_base; vmovdqu32 indices(%rip), %xmm22
		movl	$9, %eax
		kmovw	%eax, %k1
		vmovdqu (%rsi), %xmm7
		vpscatterdd %xmm7, 0x7b(%rbx, %xmm22, 8){%k1}
		ret

CASE fst32;	flds	(%rsi)
		fstps	(%rdi);			ret
CASE fstp80;	fldl	(%rsi)
		fstpt	(%rdi);			ret
CASE fistp;	fld1
		fistpll	(%rdi);			ret
CASE fisttp;	fldpi
		fisttpl	(%rdi);			ret
CASE fbstp;	fldpi
		fbstp	(%rdi);			ret
CASE fnstcw;	fnstcw	(%rdi);			ret
CASE stmxcsr;	stmxcsr	(%rdi);			ret
CASE fnstenv;	fninit
		fnstenv	(%rdi);			ret
CASE fnsave;	fninit
		fnsave	(%rdi);			ret
CASE fxsave;	fninit
		fxsave64 (%rdi);		ret
/* x87 and SSE: the legacy part and XSTATE_BV */
CASE xsave;	fninit
		movl	$3, %eax
		xorl	%edx, %edx
		xsave64	(%rdi);			ret

CASE stosb;	stosb;				ret
CASE stosq;	stosq;				ret
CASE rep_stosb;	rep stosb;			ret
CASE rep_stosq;	rep stosq;			ret
CASE rep_none;	xorl	%ecx, %ecx
		rep stosb
		movb	$1, (%rdi);		ret
CASE movsl;	movsl;				ret
CASE rep_movsb;	rep movsb;			ret
CASE rep_movsq;	movl	$5, %ecx
		rep movsq;			ret
CASE std_stosw;	addq	$24, %rdi
		std
		rep stosw
		cld;				ret
CASE rep_addr32; addr32 rep stosb;		ret

CASE push;	STACK
		pushq	%rax
		UNSTACK;			ret
CASE push_rsp;	STACK
		pushq	%rsp
		UNSTACK;			ret
CASE push16;	STACK
		pushw	%ax
		UNSTACK;			ret
CASE push_imm;	STACK
		pushq	$-2
		UNSTACK;			ret
CASE push_mem;	STACK
		pushq	(%rsi)
		UNSTACK;			ret
CASE push_top;	STACK
		pushq	(%rsp)
		UNSTACK;			ret
CASE pushf;	cmpb	%al, %al
		STACK
		pushfq
		movq	%rsp, %r14
		movq	%r15, %rsp
		ret
CASE call;	STACK
		call	1f
1:		UNSTACK;			ret
CASE call_reg;	STACK
		leaq	1f(%rip), %rax
		call	*%rax
1:		UNSTACK;			ret
CASE call_mem;	STACK
		leaq	1f(%rip), %rax
		movq	%rax, -16(%r15)
		call	*-16(%r15)
1:		UNSTACK;			ret
CASE pop_mem;	pushq	%rax
		popq	(%rdi);			ret
CASE pop_rsp;	movq	%rsp, %r15
		leaq	-8(%rdi), %rsp
		popq	(%rsp)
		movq	%r15, %rsp
		ret
CASE enter;	STACK
		movq	%rbp, %r13
		enter	$16, $0
		movq	%rbp, %r12
		movq	%r13, %rbp
		UNSTACK;			ret

	.section .rodata
	.balign	32
mask16:	.long	0, 0x80000000, 0, 0, 0, 0, -1, 0
mask3:	.quad	0, 0, 0, -1
mask2:	.byte	0x80, 0, 0, 0, 0, 0, 0, 0xff
indices: .long	0, 1, 2, 3
	.section .note.GNU-stack, "", @progbits
