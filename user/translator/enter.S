/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The ways into and out of the code cache.
 *
 * In the cache every register, the flags and %fs are the guest's; %gs leads to
 * struct cpu. Nothing here touches the guest's stack. On the way into C the
 * general registers and flags are saved here; vector state and %fs only when C
 * asks for it (core_heavy), so that a lookup that hits costs neither.
 *
 * cpu->in_cache is 1 exactly while this thread holds no lock of the runtime's:
 * a signal handler that finds it set may take the code map's locks.
 */
#include "cpu.h"

	.text

/* Guest's general registers but %rax to cpu->regs; %rax is in its place already. */
.macro SAVE_GUEST
	movq	%rcx, %gs:CPU_RCX
	movq	%rdx, %gs:CPU_RDX
	movq	%rbx, %gs:CPU_RBX
	movq	%rsp, %gs:CPU_RSP
	movq	%rbp, %gs:CPU_RBP
	movq	%rsi, %gs:CPU_RSI
	movq	%rdi, %gs:CPU_RDI
	movq	%r8, %gs:CPU_R8
	movq	%r9, %gs:CPU_R9
	movq	%r10, %gs:CPU_R10
	movq	%r11, %gs:CPU_R11
	movq	%r12, %gs:CPU_R12
	movq	%r13, %gs:CPU_R13
	movq	%r14, %gs:CPU_R14
	movq	%r15, %gs:CPU_R15
	movq	%gs:CPU_HOST_RSP, %rsp
	pushfq
	popq	%rax
	movq	%rax, %gs:CPU_RFLAGS
	testl	$0x44400, %eax		/* AC, NT, DF */
	jz	1f
	pushq	$2
	popfq
1:
.endm

/* The exit in CPU_EXIT_DESC. */
	.globl	core_exit
core_exit:
	movq	%rax, %gs:CPU_RAX
save_and_dispatch:
	SAVE_GUEST
	movq	%gs:CPU_SELF, %rdi
	movl	$0, CPU_IN_CACHE(%rdi)
	movslq	CPU_EXIT_DESC(%rdi), %rsi
	testq	%rsi, %rsi
	jz	1f
	leaq	core_exit(%rip), %rax
	addq	%rax, %rsi
1:	call	core_dispatch
	movq	%gs:CPU_SELF, %rdi
	cmpq	$2, %rax
	ja	enter_guest
	/* C wants the runtime's state from here on */
	movq	%rax, %rbx
	call	core_heavy
	movq	%rbx, %rax
leave:
	movq	CPU_HOST_RSP(%rdi), %rsp
	addq	$8, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

/*
 * The same from a check that has %rcx, its pc, and in JUMP_REG the target - pc + stop - 1:
 * the low half says what stop was, since those of the pc and of the target are the same.
 */
	.globl	core_jump_miss_sum
core_jump_miss_sum:
	movq	%rcx, %gs:CPU_RIP
	movswq	JUMP_REG_WORD, %rcx		/* stop - 1 */
	notq	%rcx
	leaq	1(%rcx, JUMP_REG_NAME), JUMP_REG_NAME
	movq	%gs:CPU_RIP, %rcx
	leaq	(%rcx, JUMP_REG_NAME), JUMP_REG_NAME
	jmp	core_jump_miss

/*
 * An indirect jump whose target is in JUMP_REG, its own value in SCR_INDIRECT, and
 * that did not find it: through an empty entry of the jump cache, or told off by
 * the code at another block's entry, or because it is to leave the cache. The
 * guest's %rcx is in SCR_LOOKUP_RCX. From a step it always comes here, with %rcx.
 */
	.globl	core_lookup_step
core_lookup_step:
	movq	%rcx, %gs:CPU_SCR(SCR_LOOKUP_RCX)
	.globl	core_jump_miss
core_jump_miss:
	movq	JUMP_REG_NAME, %gs:CPU_RIP
	movq	%gs:CPU_SCR(SCR_LOOKUP_RCX), %rcx
	movq	%gs:CPU_SCR(SCR_INDIRECT), JUMP_REG_NAME
	movl	$0, %gs:CPU_EXIT_DESC
	movq	%rax, %gs:CPU_RAX
	jmp	save_and_dispatch

/*
 * From a replay stub or a signal handler: all guest state is live, the guest
 * goes on at cpu->resume_pc.
 */
	.globl	core_resume
core_resume:
	movq	%rax, %gs:CPU_RAX
	movl	$core_resume_exit - core_exit, %gs:CPU_EXIT_DESC
	jmp	save_and_dispatch

/* From a signal handler: guest state is live, pc in resume_pc, cpu->exit set. */
	.globl	core_signal_leave
core_signal_leave:
	movq	%rax, %gs:CPU_RAX
	SAVE_GUEST
	movq	%gs:CPU_SELF, %rdi
	movl	$0, CPU_IN_CACHE(%rdi)
	movq	CPU_RESUME_PC(%rdi), %rax
	movq	%rax, CPU_RIP(%rdi)
	call	core_heavy
	movl	$LEAVE_EXIT, %eax
	jmp	leave

/*
 * uint64_t core_enter(struct cpu *cpu, const void *host)
 */
	.globl	core_enter
	.type	core_enter, @function
core_enter:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, CPU_HOST_RSP(%rdi)
	subq	$8, CPU_HOST_RSP(%rdi)		/* C is called 16 byte aligned */
	movq	%rsi, %rax
	subq	$8, %rsp

/* %rdi: cpu, %rax: host address of regs.rip; regs, and maybe heavy state */
enter_guest:
	movq	%rax, CPU_TARGET(%rdi)
	movl	$1, CPU_IN_CACHE(%rdi)
	/* Whoever sets stop looks at in_cache afterwards (core_cut). */
	cmpl	$0, CPU_STOP_FLAG(%rdi)
	jne	stopped
	cmpl	$0, CPU_HEAVY(%rdi)
	je	1f
	call	core_light
1:	jmp	restore_guest

stopped:
	movl	$0, CPU_IN_CACHE(%rdi)
	call	core_heavy
	movl	$LEAVE_MISS, %eax
	jmp	leave

/*
 * cpu->regs into the registers and go to cpu->target
 *
 * A kick that finds the thread outside of its code range is only counted, so the
 * last look at that count is inside. One that comes behind the look is an upcall,
 * which knows that the guest's registers are still in cpu->regs, and comes back to
 * kicked (core_upcall).
 */
	.section .text_range, "ax", @progbits
	.globl	core_range
core_range:
restore_guest:
	movq	CPU_AREA(%rdi), %rax
	movl	AREA_KICKS(%rax), %eax
	cmpl	%eax, CPU_KICKS_SEEN(%rdi)
	jne	kicked
restore_cut:
	pushq	CPU_RFLAGS(%rdi)
	movq	CPU_RAX(%rdi), %rax
	movq	CPU_RCX(%rdi), %rcx
	movq	CPU_RDX(%rdi), %rdx
	movq	CPU_RBX(%rdi), %rbx
	movq	CPU_RBP(%rdi), %rbp
	movq	CPU_RSI(%rdi), %rsi
	movq	CPU_R8(%rdi), %r8
	movq	CPU_R9(%rdi), %r9
	movq	CPU_R10(%rdi), %r10
	movq	CPU_R11(%rdi), %r11
	movq	CPU_R12(%rdi), %r12
	movq	CPU_R13(%rdi), %r13
	movq	CPU_R14(%rdi), %r14
	movq	CPU_R15(%rdi), %r15
	popfq
	movq	CPU_RSP(%rdi), %rsp
	movq	CPU_RDI(%rdi), %rdi
	jmp	*%gs:CPU_TARGET
restore_end:

	.text
/* An event waits: nothing leads to another TB now, until core_dispatch() has seen it. */
kicked:
	movl	$0, CPU_IN_CACHE(%rdi)
	movl	$1, CPU_STOP_FLAG(%rdi)
	call	core_cut_all
	movq	%gs:CPU_SELF, %rdi
	movl	$1, CPU_IN_CACHE(%rdi)
	jmp	restore_cut

/*
 * void core_heavy(struct cpu *cpu): keeps %rdi and %rbx
 */
	.globl	core_heavy
	.type	core_heavy, @function
core_heavy:
	cmpl	$0, CPU_HEAVY(%rdi)
	jne	9f
	movl	$1, CPU_HEAVY(%rdi)
	movq	CPU_XSAVE(%rdi), %rcx
	movl	CPU_XSAVE_MASK(%rdi), %eax
	movl	CPU_XSAVE_MASK+4(%rdi), %edx
	xsave64	(%rcx)
	fninit
	ldmxcsr	default_mxcsr(%rip)
	cmpl	$0, CPU_FSGSBASE(%rdi)
	je	1f
	rdfsbase %rax
	movq	%rax, CPU_GUEST_FS(%rdi)
	movq	CPU_HOST_FS(%rdi), %rax
	wrfsbase %rax
	ret
	/* Without FSGSBASE only arch_prctl() changes it: guest_fs is right. */
1:	movq	CPU_HOST_FS(%rdi), %rsi
	jmp	set_fs
9:	ret

/* The guest's vector state and %fs back; keeps %rdi. */
core_light:
	movl	$0, CPU_HEAVY(%rdi)
	movq	CPU_XSAVE(%rdi), %rcx
	movl	CPU_XSAVE_MASK(%rdi), %eax
	movl	CPU_XSAVE_MASK+4(%rdi), %edx
	xrstor64 (%rcx)
	movq	CPU_GUEST_FS(%rdi), %rsi
	cmpl	$0, CPU_FSGSBASE(%rdi)
	je	set_fs
	wrfsbase %rsi
	ret

set_fs:
	pushq	%rdi
	movl	$0x1002, %edi			/* ARCH_SET_FS */
	movl	$158, %eax			/* arch_prctl */
	syscall
	popq	%rdi
	ret

/*
 * The kernel resumes the thread here when a store of the cache has trapped:
 * %rdi is the cpu (its own value is in the area), %rsp still the guest's, and
 * every other register as at the store.
 */
	.globl	core_upcall
core_upcall:
	movq	CPU_AREA(%rdi), %rdi
	movq	AREA_IP(%rdi), %rdi
	subq	restore_address(%rip), %rdi
	cmpq	$(restore_end - restore_guest), %rdi
	movq	%gs:CPU_SELF, %rdi
	jb	kicked_at_restore
	movq	%rax, CPU_RAX(%rdi)
	movq	%rcx, CPU_RCX(%rdi)
	movq	%rdx, CPU_RDX(%rdi)
	movq	%rbx, CPU_RBX(%rdi)
	movq	%rbp, CPU_RBP(%rdi)
	movq	%rsi, CPU_RSI(%rdi)
	movq	%r8, CPU_R8(%rdi)
	movq	%r9, CPU_R9(%rdi)
	movq	%r10, CPU_R10(%rdi)
	movq	%r11, CPU_R11(%rdi)
	movq	%r12, CPU_R12(%rdi)
	movq	%r13, CPU_R13(%rdi)
	movq	%r14, CPU_R14(%rdi)
	movq	%r15, CPU_R15(%rdi)
	movq	CPU_AREA(%rdi), %rbx
	movq	AREA_IP(%rbx), %rax
	movq	%rax, CPU_RIP(%rdi)
	movq	AREA_SP(%rbx), %rax
	movq	%rax, CPU_RSP(%rdi)
	movq	AREA_FLAGS(%rbx), %rax
	movq	%rax, CPU_RFLAGS(%rdi)
	movq	AREA_DI(%rbx), %rax
	movq	%rax, CPU_RDI(%rdi)
	movq	CPU_HOST_RSP(%rdi), %rsp
	pushq	$2
	popfq
	movl	$0, CPU_IN_CACHE(%rdi)
	call	smc_upcall			/* regs are host state, also after */
	movq	%gs:CPU_SELF, %rdi
	movq	CPU_RIP(%rdi), %rax
	movq	%rax, CPU_TARGET(%rdi)
	/* No guest memory is touched from here to the cache, so no trap nests. */
	movl	$0, AREA_BUSY(%rbx)
	movl	$1, CPU_IN_CACHE(%rdi)
	cmpl	$0, CPU_STOP_FLAG(%rdi)
	je	1f
	/* It goes on in the middle of a TB: make that one's edges lead out. */
	movl	$0, CPU_IN_CACHE(%rdi)
	call	core_cut_all
	movq	%gs:CPU_SELF, %rdi
	movl	$1, CPU_IN_CACHE(%rdi)
1:	cmpl	$0, CPU_HEAVY(%rdi)
	je	restore_guest
	call	core_light
	jmp	restore_guest

kicked_at_restore:
	movq	CPU_HOST_RSP(%rdi), %rsp
	pushq	$2
	popfq
	movq	CPU_AREA(%rdi), %rax
	movl	$0, AREA_BUSY(%rax)
	jmp	kicked

	.section .data.rel.ro, "aw", @progbits
	.p2align 3
restore_address:
	.quad	restore_guest

	.section .rodata
	.p2align 2
default_mxcsr:
	.long	0x1f80

/* A jump cache that holds nothing, for threads to map. */
	.section .rodata_jc, "a", @progbits
	.balign	4096
	.globl	core_empty_jc
core_empty_jc:
	.rept	1 << JC_BITS
	.quad	core_jump_miss
	.endr

	.section .note.GNU-stack, "", @progbits
