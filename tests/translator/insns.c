// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What a same-ISA translator can break without any self-modifying code: the
 * red zone, flags, vector registers, return addresses, odd encodings, segment
 * bases, loops on rcx, code far away, system calls.
 */
#include <cpuid.h>
#include <errno.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <x86intrin.h>

#include "guest.h"

static uint8_t *text(const uint8_t *code, size_t size)
{
	uint8_t *p = mmap(NULL, (size + PAGE - 1) & -PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	memcpy(p, code, size);
	CHECK(!mprotect(p, size, PROT_READ | PROT_EXEC));
	return p;
}

#define SNIPPET(name, body)						\
	TEMPLATE(s_##name, body);					\
	static uint64_t name(uint64_t a, uint64_t b)			\
	{								\
		static uint8_t *p;					\
									\
		if (!p)							\
			p = text(s_##name##_start, TEMPLATE_SIZE(s_##name));\
		return run2(p, a, b);					\
	}

SNIPPET(red_zone,
	"movq %rdi, -8(%rsp)\n movq %rsi, -128(%rsp)\n"
	"cmpq %rdi, %rsi\n jne 1f\n nop\n 1: movl $20, %ecx\n"
	"2: leaq 3f(%rip), %rdx\n jmp *%rdx\n 3: movq 4f(%rip), %rdx\n loop 2b\n"
	"movq -8(%rsp), %rax\n addq -128(%rsp), %rax\n ret\n 4: .quad 5\n")

CASE(red_zone_survives)
{
	for (uint64_t i = 0; i < 100; i++)
		CHECK_EQ(red_zone(i * 3, i * 5), i * 8);
}

/* 512 bit sum by adc, each result stored: flags live across many stores */
SNIPPET(adc_chain,
	"xorl %eax, %eax\n clc\n"
	".irp o,0,8,16,24,32,40,48,56\n"
	"movq \\o(%rdi), %rax\n adcq \\o(%rsi), %rax\n movq %rax, \\o(%rdi)\n jmp 1f\n 1:\n"
	"leaq 1f(%rip), %rdx\n jmp *%rdx\n 1:\n"
	".endr\n sbbq %rax, %rax\n negq %rax\n ret\n")

CASE(flags_through_jumps)
{
	uint64_t a[8], b[8];

	memset(a, 0xff, sizeof(a));
	memset(b, 0, sizeof(b));
	b[0] = 1;
	CHECK_EQ(adc_chain((uintptr_t)a, (uintptr_t)b), 1);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(a[i], 0);
	CHECK_EQ(adc_chain((uintptr_t)a, (uintptr_t)b), 0);
	CHECK_EQ(a[0], 1);
}

/* the same with the sums on a page of code: each store may trap */
CASE(flags_through_traps)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);
		uint64_t *a = (uint64_t *)(p + 2048), b[8] = { 1 };

		memcpy(p, s_adc_chain_start, TEMPLATE_SIZE(s_adc_chain));
		memset(a, 0xff, 64);
		CHECK_EQ(run2(p, (uintptr_t)a, (uintptr_t)b), 1);
		for (int i = 0; i < 8; i++)
			CHECK_EQ(a[i], 0);
		CHECK_EQ(run2(p, (uintptr_t)a, (uintptr_t)b), 0);
		CHECK_EQ(a[0], 1);
		printf("%s\n", place_name[w]);
	}
}

/* all flags, set and read back around a jump through memory */
SNIPPET(all_flags,
	"pushq %rdi\n popfq\n leaq 1f(%rip), %rcx\n jmp *%rcx\n 1:\n"
	"call 2f\n pushfq\n popq %rax\n cld\n ret\n"
	"2: ret\n")

CASE(every_flag)
{
	static const uint64_t bit[] = { 0, 2, 4, 6, 7, 10, 11 };

	for (unsigned int m = 0; m < 128; m++) {
		uint64_t f = 0x202;

		for (int i = 0; i < 7; i++)
			if (m >> i & 1)
				f |= 1ULL << bit[i];
		CHECK_EQ(all_flags(f, 0), f);
	}
}

/* fill, trap on a store to the code's page, compare all sixteen registers */
TEMPLATE(t_vec,
	 "movdqu (%rdi), %xmm0\n movdqu 16(%rdi), %xmm1\n movdqu 32(%rdi), %xmm2\n"
	 "movdqu 48(%rdi), %xmm3\n movdqu 64(%rdi), %xmm4\n movdqu 80(%rdi), %xmm5\n"
	 "movdqu 96(%rdi), %xmm6\n movdqu 112(%rdi), %xmm7\n movdqu 128(%rdi), %xmm8\n"
	 "movdqu 144(%rdi), %xmm9\n movdqu 160(%rdi), %xmm10\n movdqu 176(%rdi), %xmm11\n"
	 "movdqu 192(%rdi), %xmm12\n movdqu 208(%rdi), %xmm13\n movdqu 224(%rdi), %xmm14\n"
	 "movdqu 240(%rdi), %xmm15\n"
	 "movl %edi, 5f(%rip)\n lock incl 5f(%rip)\n movl %esi, 1f+1(%rip)\n"
	 "1: movl $0, %eax\n"
	 "movdqu %xmm0, (%rdi)\n movdqu %xmm1, 16(%rdi)\n movdqu %xmm2, 32(%rdi)\n"
	 "movdqu %xmm3, 48(%rdi)\n movdqu %xmm4, 64(%rdi)\n movdqu %xmm5, 80(%rdi)\n"
	 "movdqu %xmm6, 96(%rdi)\n movdqu %xmm7, 112(%rdi)\n movdqu %xmm8, 128(%rdi)\n"
	 "movdqu %xmm9, 144(%rdi)\n movdqu %xmm10, 160(%rdi)\n movdqu %xmm11, 176(%rdi)\n"
	 "movdqu %xmm12, 192(%rdi)\n movdqu %xmm13, 208(%rdi)\n movdqu %xmm14, 224(%rdi)\n"
	 "movdqu %xmm15, 240(%rdi)\n ret\n .balign 64\n 5: .quad 0\n");

CASE(vectors_through_traps)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1), v[256], r[256];

		PUT(p, t_vec);
		for (int k = 0; k < 20; k++) {
			for (int i = 0; i < 256; i++)
				v[i] = r[i] = i * 7 + k;
			CHECK_EQ(run2(p, (uintptr_t)r, k), k);
			CHECK(!memcmp(v, r, 256));
		}
		printf("%s\n", place_name[w]);
	}
}

TEMPLATE(t_ymm,
	 ".set i, 0\n"
	 ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu i(%rdi), %ymm\\n\n .set i, i+32\n .endr\n"
	 "movl %edi, 5f(%rip)\n lock incl 5f(%rip)\n movl %esi, 1f+1(%rip)\n"
	 "1: movl $0, %eax\n"
	 ".set i, 0\n"
	 ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu %ymm\\n, i(%rdi)\n .set i, i+32\n .endr\n"
	 "vzeroupper\n ret\n .balign 64\n 5: .quad 0\n");
TEMPLATE(t_zmm,
	 ".set i, 0\n"
	 ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	 "vmovdqu64 i(%rdi), %zmm\\n\n .set i, i+64\n .endr\n"
	 "kmovw (%rdi), %k1\n kmovw 2(%rdi), %k7\n"
	 "movl %edi, 5f(%rip)\n lock incl 5f(%rip)\n movl %esi, 1f+1(%rip)\n"
	 "1: movl $0, %eax\n"
	 ".set i, 0\n"
	 ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	 "vmovdqu64 %zmm\\n, i(%rdi)\n .set i, i+64\n .endr\n"
	 "kmovw %k1, 2048(%rdi)\n kmovw %k7, 2050(%rdi)\n"
	 "vzeroupper\n ret\n .balign 64\n 5: .quad 0\n");

static void wide(const uint8_t *code, size_t size, size_t bytes)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1), v[2064], r[2064];

		memcpy(p, code, size);
		for (int k = 0; k < 20; k++) {
			for (int i = 0; i < 2064; i++)
				v[i] = r[i] = i * 7 + k + (i >> 8);
			memset(r + 2048, 0, 16);
			CHECK_EQ(run2(p, (uintptr_t)r, k), k);
			CHECK(!memcmp(v, r, bytes));
			CHECK(bytes < 2048 || !memcmp(v, r + 2048, 4));
		}
		printf("%s\n", place_name[w]);
	}
}

CASE(ymm_through_traps)
{
	if (__builtin_cpu_supports("avx"))
		wide(t_ymm_start, TEMPLATE_SIZE(t_ymm), 512);
}

CASE(zmm_through_traps)
{
	if (__builtin_cpu_supports("avx512f"))
		wide(t_zmm_start, TEMPLATE_SIZE(t_zmm), 2048);
}

/* x87: eight values on the stack while a store traps */
TEMPLATE(t_x87,
	 "finit\n fld1\n fldl2t\n fldl2e\n fldpi\n fldlg2\n fldln2\n fldz\n fld1\n"
	 "movl %esi, 1f+1(%rip)\n 1: movl $0, %eax\n"
	 ".rept 7\n faddp\n .endr\n fstpl (%rdi)\n ret\n");

CASE(x87_through_traps)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);
		double d = 0, first = 0;

		PUT(p, t_x87);
		for (int k = 0; k < 20; k++) {
			CHECK_EQ(run2(p, (uintptr_t)&d, k), k);
			if (!k)
				first = d;
			CHECK(d == first);
		}
		printf("%s %.15g\n", place_name[w], d);
	}
}

/* --- encodings -------------------------------------------------------------------- */

SNIPPET(long_insn,
	/* 15 bytes: segment, operand size, lock-less redundant prefixes */
	"movq %rdi, %rax\n"
	".byte 0x26,0x2e,0x36,0x3e,0x26,0x2e,0x66,0x81,0xc0,0x34,0x12\n"	/* add $0x1234, %ax */
	".byte 0x3e,0x3e,0x3e,0x3e,0x3e,0x48,0x81,0xc0\n .long 0x100000\n nop\n"
	".byte 0x66,0x66,0x66,0x66,0x2e,0x0f,0x1f,0x84,0x00,0x00,0x00,0x00,0x00\n"
	".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x2e,0x0f,0x1f,0x84,0x00,0x00,0x00,0x00,0x00\n"
	"ret\n")
SNIPPET(odd_prefixes,
	"movq %rdi, %rax\n"
	".byte 0x48,0x66,0x05,0x34,0x12\n"	/* REX before a prefix is ignored */
	".byte 0x66,0x48,0x05,0x01,0x00,0x00,0x00\n"	/* both: REX.W wins */
	".byte 0x2e,0x74,0x00\n"		/* branch hint */
	".byte 0x3e,0x75,0x00\n"
	".byte 0xf3,0x90\n"			/* pause */
	".byte 0xf2,0xc3\n")			/* bnd ret */

CASE(encodings)
{
	CHECK_EQ(long_insn(1, 0), 0x101235);
	/* emulators disagree about a REX before other prefixes: print, do not check */
	printf("%llx\n", (long long)odd_prefixes(0x10000, 0));
}

TEMPLATE(s_rip_all,
	/* RIP-relative with every register busy, and as both source and target */
	"pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
	"movq %rsp, 7f+8(%rip)\n"
	"movl $1, %eax\n movl $2, %ebx\n movl $3, %ecx\n movl $4, %edx\n movl $5, %esi\n"
	"movl $6, %ebp\n movl $7, %r8d\n movl $8, %r9d\n movl $9, %r10d\n movl $10, %r11d\n"
	"movl $11, %r12d\n movl $12, %r13d\n movl $13, %r14d\n movl $14, %r15d\n"
	"leaq 7f+4096-8(%rip), %rsp\n"
	"addq 6f(%rip), %rax\n imulq $3, 6f(%rip), %rdi\n cmpq %rbx, 6f(%rip)\n adcq %rbx, %rax\n"
	"pushq 6f(%rip)\n popq 7f(%rip)\n addq 7f(%rip), %rax\n"
	"cmpxchgq %rbx, 7f+16(%rip)\n addq %rcx, %rax\n addq %rdx, %rax\n addq %rsi, %rax\n"
	"addq %rbp, %rax\n addq %r8, %rax\n addq %r9, %rax\n addq %r10, %rax\n addq %r11, %rax\n"
	"addq %r12, %rax\n addq %r13, %rax\n addq %r14, %rax\n addq %r15, %rax\n addq %rdi, %rax\n"
	"testb $1, 6f(%rip)\n setne %cl\n movzbl %cl, %ecx\n addq %rcx, %rax\n"
	"shldq $4, %rbx, 7f(%rip)\n addq 7f(%rip), %rax\n"
	"movq 7f+8(%rip), %rsp\n"
	"popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n ret\n"
	"6: .quad 1000\n .balign 4096\n 7: .fill 4096,1,0\n");

CASE(rip_relative_everything)
{
	uint8_t *p = place_get(PLACE_ANON, 4);
	uint64_t a, b;

	memcpy(p, s_rip_all_start, TEMPLATE_SIZE(s_rip_all));
	a = run1(p, 0);
	memcpy(p, s_rip_all_start, TEMPLATE_SIZE(s_rip_all));
	b = run1(p, 0);
	CHECK_EQ(a, b);
	printf("%llu\n", (long long)a);
}

SNIPPET(high_bytes, "movl %edi, %eax\n movl %esi, %ebx\n movb %bl, %ah\n"
	"xchgb %ah, %al\n addb %ah, %al\n movzbl %ah, %edx\n shll $16, %edx\n"
	"movzwl %ax, %eax\n orl %edx, %eax\n ret\n")

CASE(high_byte_registers)
{
	uint64_t keep, v;

	__asm__ volatile("movq %%rbx, %0" : "=r"(keep));
	v = high_bytes(0x12, 0x34);
	__asm__ volatile("movq %0, %%rbx" : : "r"(keep) : "rbx");
	CHECK_EQ(v, 0x121246);
}

/* --- control flow ------------------------------------------------------------------- */

SNIPPET(call_pop, "call 1f\n 1: popq %rax\n leaq 1b(%rip), %rcx\n subq %rcx, %rax\n ret\n")
SNIPPET(ret_elsewhere, "leaq 1f(%rip), %rax\n pushq %rax\n ret\n ud2\n 1: movl $5, %eax\n ret\n")
SNIPPET(ret_imm, "pushq $1\n pushq $2\n pushq $3\n call 1f\n popq %rax\n ret\n"
	"1: movq (%rsp), %rcx\n movq %rcx, 16(%rsp)\n addq $16, %rsp\n ret\n")
SNIPPET(ret_pops, "pushq $7\n pushq $8\n call 1f\n movl $9, %eax\n ret\n 1: ret $16\n")
SNIPPET(skip_frames, "movq %rsp, %r8\n call 1f\n ud2\n 1: call 2f\n ud2\n 2: call 3f\n ud2\n"
	"3: leaq 4f(%rip), %rax\n movq %rax, 16(%rsp)\n addq $16, %rsp\n ret\n"
	"4: movq %r8, %rsp\n movl $6, %eax\n ret\n")
SNIPPET(loops, "xorl %eax, %eax\n movl %edi, %ecx\n 1: incl %eax\n loop 1b\n"
	"movl %edi, %ecx\n 2: incl %eax\n cmpl $5, %ecx\n loopne 2b\n"
	"movl %edi, %ecx\n 3: incl %eax\n cmpl %eax, %eax\n loope 3b\n ret\n")
SNIPPET(rcxz, "xorl %eax, %eax\n movq %rdi, %rcx\n jrcxz 1f\n orl $1, %eax\n 1:\n"
	"jecxz 2f\n orl $2, %eax\n 2:\n"
	"cmpl %eax, %eax\n jrcxz 3f\n 3: jne 4f\n orl $4, %eax\n 4: ret\n")
SNIPPET(loop32, "xorl %eax, %eax\n movq %rdi, %rcx\n"
	"1: incl %eax\n .byte 0x67\n loop 1b\n shlq $32, %rcx\n orq %rcx, %rax\n ret\n")
SNIPPET(table_jump,
	"leaq 9f(%rip), %rcx\n movslq (%rcx,%rdi,4), %rax\n addq %rcx, %rax\n jmp *%rax\n"
	"1: movl $10, %eax\n ret\n 2: movl $20, %eax\n ret\n 3: movl $30, %eax\n ret\n"
	"4: movl $40, %eax\n ret\n 9: .long 1b-9b, 2b-9b, 3b-9b, 4b-9b\n")
SNIPPET(mem_jump, "leaq 1f(%rip), %rax\n movq %rax, -8(%rsp)\n jmp *-8(%rsp)\n ud2\n"
	"1: leaq 2f(%rip), %rax\n pushq %rax\n call *(%rsp)\n addq $8, %rsp\n ret\n"
	"2: movl $3, %eax\n ret\n")
SNIPPET(rsp_call, "movq %rsp, %rcx\n leaq 1f(%rip), %rax\n pushq %rax\n"
	/* call through a slot relative to the rsp before the push */
	"call *(%rsp)\n popq %rcx\n ret\n 1: movq %rsp, %rdx\n subq %rcx, %rdx\n"
	"movq %rdx, %rax\n ret\n")
SNIPPET(pop_rsp,
	"movq %rsp, %rcx\n leaq -8(%rsp), %rax\n pushq %rsp\n popq %rax\n subq %rsp, %rax\n"
	"pushq %rcx\n popq %rsp\n pushq (%rsp)\n popq 8-8(%rsp)\n ret\n")
SNIPPET(self_call, "testl %edi, %edi\n jz 1f\n decl %edi\n leaq s_self_call_start(%rip), %rdx\n"
	"call s_self_call_start\n incl %eax\n ret\n 1: xorl %eax, %eax\n ret\n")

CASE(call_and_ret_tricks)
{
	for (int i = 0; i < 50; i++) {
		CHECK_EQ(call_pop(0, 0), 0);
		CHECK_EQ(ret_elsewhere(0, 0), 5);
		CHECK_EQ(ret_imm(0, 0), 1);
		CHECK_EQ(ret_pops(0, 0), 9);
		CHECK_EQ(skip_frames(0, 0), 6);
		CHECK_EQ(mem_jump(0, 0), 3);
		CHECK_EQ(rsp_call(0, 0), (uint64_t)-16);
		CHECK_EQ(pop_rsp(0, 0), 0);
		CHECK_EQ(self_call(200, 0), 200);
	}
}

CASE(loops_on_rcx)
{
	CHECK_EQ(loops(20, 0), 20 + 16 + 20);
	CHECK_EQ(rcxz(0, 0), 4);
	CHECK_EQ(rcxz(1, 0), 7);
	CHECK_EQ(rcxz(0x100000000, 0), 5);
	CHECK_EQ(loop32(3, 0), 3);
	CHECK_EQ(loop32(0x500000002, 0), 2);
}

/* Nine jumps forward behind each other, each of them taken in some rounds. */
SNIPPET(nine_jumps,
	"xorl %eax, %eax\n 1: imull $1103515245, %esi, %esi\n addl $12345, %esi\n"
	"movl %esi, %ecx\n shrl $16, %ecx\n"
	"testb $1, %cl\n jnz 11f\n testb $2, %cl\n jnz 12f\n testb $4, %cl\n jnz 13f\n"
	"testb $8, %cl\n jnz 14f\n testb $16, %cl\n jnz 15f\n testb $32, %cl\n jnz 16f\n"
	"testb $64, %cl\n jnz 17f\n testb %cl, %cl\n js 18f\n cmpb $0, %ch\n jl 19f\n"
	"addq $1000, %rax\n 2: decq %rdi\n jnz 1b\n ret\n"
	"11: addq $1, %rax\n jmp 2b\n 12: addq $3, %rax\n jmp 2b\n"
	"13: addq $5, %rax\n jmp 2b\n 14: addq $7, %rax\n jmp 2b\n"
	"15: addq $11, %rax\n jmp 2b\n 16: addq $13, %rax\n jmp 2b\n"
	"17: addq $17, %rax\n jmp 2b\n 18: addq $19, %rax\n jmp 2b\n"
	"19: addq $23, %rax\n jmp 2b\n")

CASE(side_exits)
{
	static const unsigned int add[] = { 1, 3, 5, 7, 11, 13, 17, 19 };
	const unsigned int rounds = 200000;
	uint32_t x = 7;
	uint64_t sum = 0;

	for (unsigned int i = 0; i < rounds; i++) {
		uint32_t bits = (x = x * 1103515245 + 12345) >> 16;

		if (bits & 0xff)
			sum += add[__builtin_ctz(bits)];
		else
			sum += bits & 0x8000 ? 23 : 1000;
	}
	CHECK_EQ(nine_jumps(rounds, 7), sum);
}

CASE(jump_tables)
{
	for (int i = 0; i < 400; i++)
		CHECK_EQ(table_jump(i % 4, 0), 10 * (i % 4 + 1));
}

/* thousands of targets from one indirect jump: more than any jump cache holds */
CASE(indirect_megamorphic)
{
	size_t n = 40000;
	uint8_t *p = mmap(NULL, n * 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t sum = 0;

	CHECK(p != MAP_FAILED);
	for (size_t i = 0; i < n; i++)
		put_ret_imm(p + 16 * i, i);
	CHECK(!mprotect(p, n * 16, PROT_READ | PROT_EXEC));
	for (size_t i = 0; i < n; i++)
		sum += run1(p + 16 * (i * 7919 % n), 0);
	for (size_t i = 0; i < n; i++)
		sum += run1(p + 16 * i, 0);
	CHECK_EQ(sum, (uint64_t)n * (n - 1));
}

/* Targets that push each other out of a jump cache, often enough for it to grow. */
CASE(targets_64k_apart)
{
	const size_t n = 4, apart = 65536;
	uint8_t *p = mmap(NULL, n * apart, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t sum = 0, expected = 0;

	CHECK(p != MAP_FAILED);
	for (size_t i = 0; i < n; i++)
		put_ret_imm(p + apart * i, i);
	for (unsigned int round = 0; round < 40000; round++) {
		if (round % 1000 == 999)
			put_ret_imm(p + apart * (round / 1000 % n), round);
		for (size_t i = 0; i < n; i++)
			sum += run1(p + apart * i, 0);
		for (size_t i = 0; i < n; i++)
			expected += *(uint32_t *)(p + apart * i + 1);
	}
	CHECK_EQ(sum, expected);
	munmap(p, n * apart);
}

static __attribute__((noinline)) uint64_t recurse(uint64_t n)
{
	volatile uint64_t keep = n;

	return n ? recurse(n - 1) + keep : 0;
}

CASE(deep_recursion)
{
	CHECK_EQ(recurse(100000), 100000ULL * 100001 / 2);
}

static __attribute__((noinline)) uint64_t big_frame(unsigned int n)
{
	volatile uint8_t frame[256 * 1024];

	frame[0] = n;
	frame[sizeof(frame) - 1] = n + 1;
	return n ? big_frame(n - 1) + frame[0] + frame[sizeof(frame) - 1] : 0;
}

CASE(big_stack_frames)
{
	CHECK_EQ(big_frame(20), 20 * 21 + 20);
}

/* --- code far away -------------------------------------------------------------------- */

static void at(uintptr_t addr)
{
	uint8_t *p = mmap((void *)addr, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED && (errno == EEXIST || errno == EPERM)) {
		guest_fail(__FILE_NAME__, __LINE__, "%lx is taken", addr);
		return;
	}
	CHECK((uintptr_t)p == addr);
	for (uint32_t i = 0; i < 10; i++) {
		put_ret_imm(p + 5, i);
		CHECK_EQ(run1(p + 5, 0), i);
	}
	memcpy(p, s_call_pop_start, TEMPLATE_SIZE(s_call_pop));
	CHECK_EQ(run1(p, 0), 0);
	memcpy(p, s_rsp_call_start, TEMPLATE_SIZE(s_rsp_call));
	CHECK_EQ(run1(p, 0), -16);
	CHECK(!munmap(p, PAGE));
	printf("%lx\n", addr);
}

CASE(fixed_addresses)
{
	at(0x10000);
	at(0x7fff0000);
	at(0x80000000);
	at(0xfffff000);
	at(0x100000000);
	at(0x123456789000);
	at(0x200000000000);
	at(0x6fff00000000);
}

/* Return addresses at and above 2 GiB: pushed as 64 bits. */
TEMPLATE(t_push_ra, "call 1f\n 1: popq %rax\n ret\n");

CASE(return_addresses)
{
	static const uintptr_t addr[] = { 0x20000000, 0x7ffff000, 0x80000000, 0xffffe000,
		0x150000000, 0x3fffffffe000 };

	for (unsigned int i = 0; i < 6; i++) {
		uint8_t *p = mmap((void *)addr[i], PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		CHECK((uintptr_t)p == addr[i]);
		p += PAGE - TEMPLATE_SIZE(t_push_ra);
		PUT(p, t_push_ra);
		CHECK_EQ(run1(p, 0), (uintptr_t)p + 5);
		printf("%lx\n", addr[i]);
	}
}

/* --- segments, system calls, odd instructions --------------------------------------------- */

CASE(fs_base)
{
	static uint64_t block[64];
	unsigned long old, got;
	uint64_t v, self;

	if (!(getauxval(AT_HWCAP2) & 2)) {
		puts("no FSGSBASE here");
		return;
	}
	__asm__ volatile("movq %%fs:0, %0" : "=r"(self));
	__asm__ volatile("rdfsbase %0" : "=r"(old));
	CHECK_EQ(self, old);
	block[3] = 0x1234;
	for (int i = 0; i < 50; i++) {
		__asm__ volatile("wrfsbase %2\n movq %%fs:24, %0\n incq %%fs:24\n"
				 "rdfsbase %1\n wrfsbase %3"
				 : "=&r"(v), "=&r"(got)
				 : "r"(block), "r"(old) : "memory", "cc");
		CHECK_EQ(v, 0x1234 + i);
		CHECK_EQ(got, (uintptr_t)block);
	}
	CHECK_EQ(errno = 5, 5);
}

CASE(gs_base)
{
	static uint64_t block[64];
	unsigned long got = 1;
	uint64_t v;

	block[5] = 77;
	CHECK(!syscall(SYS_arch_prctl, 0x1004, &got));	/* ARCH_GET_GS */
	CHECK_EQ(got, 0);
	CHECK(!syscall(SYS_arch_prctl, 0x1001, block));	/* ARCH_SET_GS */
	for (int i = 0; i < 50; i++) {
		__asm__ volatile("movq %%gs:40, %0\n addq $1, %%gs:40\n"
				 "pushq %%gs:40\n popq %%gs:48\n"
				 : "=r"(v) : : "memory", "cc");
		CHECK_EQ(v, 77 + i);
		CHECK_EQ(block[6], 78 + i);
	}
	CHECK(!syscall(SYS_arch_prctl, 0x1004, &got));
	CHECK_EQ(got, (uintptr_t)block);
	if (getauxval(AT_HWCAP2) & 2) {
		__asm__ volatile("rdgsbase %0" : "=r"(got));
		CHECK_EQ(got, (uintptr_t)block);
		__asm__ volatile("wrgsbase %1\n movq %%gs:0, %0" : "=r"(v) : "r"(block + 5));
		CHECK_EQ(v, 127);
		CHECK(!syscall(SYS_arch_prctl, 0x1004, &got));
		CHECK_EQ(got, (uintptr_t)(block + 5));
	}
	/* every register as base and index of a %gs operand, %rsp, too */
	__asm__ volatile("movl $8, %%ecx\n movq %%gs:(%%rcx), %0\n xorl %%ecx, %%ecx\n"
			 "leaq 8(%%rcx), %%rdx\n addq %%gs:8(,%%rcx,8), %0\n addq %%rdx, %0"
			 : "=&r"(v) : : "rcx", "rdx", "memory", "cc");
	if (getauxval(AT_HWCAP2) & 2)
		CHECK_EQ(v, 2 * block[6] + 8);
}

static __thread int tls_var = 3;

CASE(thread_local_storage)
{
	for (int i = 0; i < 100; i++) {
		tls_var += i;
		errno = i;
		CHECK_EQ(errno, i);
	}
	CHECK_EQ(tls_var, 4953);
}

CASE(syscall_clobbers)
{
	for (int i = 0; i < 20; i++) {
		uint64_t rcx, r11, flags, here, rax = SYS_getppid;

		__asm__ volatile("pushfq\n popq %2\n leaq 1f(%%rip), %3\n syscall\n 1:\n"
				 "movq %%rcx, %0\n movq %%r11, %1"
				 : "=&r"(rcx), "=&r"(r11), "=&r"(flags), "=&r"(here), "+a"(rax)
				 : : "rcx", "r11", "memory");
		CHECK_EQ(rcx, here);
		CHECK_EQ(r11, flags);
		CHECK_EQ(rax, getppid());
	}
}

CASE(syscall_preserves)
{
	uint64_t r[6] = { 1, 2, 3, 4, 5, 6 }, x = 0x1122334455667788, y;

	__asm__ volatile("movq (%1), %%rdi\n movq 8(%1), %%rsi\n movq 16(%1), %%rdx\n"
			 "movq 24(%1), %%r10\n movq 32(%1), %%r8\n movq 40(%1), %%r9\n"
			 "movq %2, %%xmm5\n movl %3, %%eax\n syscall\n"
			 "movq %%rdi, (%1)\n movq %%rsi, 8(%1)\n movq %%rdx, 16(%1)\n"
			 "movq %%r10, 24(%1)\n movq %%r8, 32(%1)\n movq %%r9, 40(%1)\n"
			 "movq %%xmm5, %0\n"
			 : "=r"(y) : "b"(r), "r"(x), "i"(SYS_getpid)
			 : "rax", "rcx", "r11", "rdi", "rsi", "rdx", "r10", "r8", "r9",
			   "xmm5", "memory");
	for (int i = 0; i < 6; i++)
		CHECK_EQ(r[i], i + 1);
	CHECK_EQ(x, y);
}

CASE(cpuid_and_time)
{
	uint32_t a, b, c, d;
	uint64_t t, u;
	unsigned int aux;

	CHECK(__get_cpuid(0, &a, &b, &c, &d));
	printf("%.4s%.4s%.4s\n", (char *)&b, (char *)&d, (char *)&c);
	CHECK(__get_cpuid(1, &a, &b, &c, &d));
	printf("%x %x %x\n", a, c & ~(1u << 27), d);
	t = __rdtsc();
	u = __rdtscp(&aux);
	CHECK(u > t);
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	printf("%x\n", a);
}

CASE(string_instructions)
{
	uint8_t a[256], b[256];
	uint64_t cx, di, si;

	for (int i = 0; i < 256; i++)
		a[i] = i;
	memset(b, 0, sizeof(b));
	cx = 256, di = (uintptr_t)b, si = (uintptr_t)a;
	__asm__ volatile("rep movsb" : "+c"(cx), "+D"(di), "+S"(si) : : "memory");
	CHECK_EQ(cx, 0);
	CHECK(!memcmp(a, b, 256));
	b[77] = 0;
	cx = 256, di = (uintptr_t)b, si = (uintptr_t)a;
	__asm__ volatile("repe cmpsb" : "+c"(cx), "+D"(di), "+S"(si) : : "memory", "cc");
	CHECK_EQ(cx, 256 - 78);
	cx = 256, di = (uintptr_t)a;
	__asm__ volatile("repne scasb" : "+c"(cx), "+D"(di) : "a"(100) : "memory", "cc");
	CHECK_EQ(di, (uintptr_t)a + 101);
	cx = 32, di = (uintptr_t)b + 248;
	__asm__ volatile("std\n rep stosq\n cld" : "+c"(cx), "+D"(di) : "a"(0x55ULL) : "memory");
	CHECK_EQ(b[0], 0x55);
	CHECK_EQ(b[1], 0);
	si = (uintptr_t)a + 9;
	__asm__ volatile("lodsw" : "+S"(si), "=a"(cx));
	CHECK_EQ(cx & 0xffff, 0x0a09);
	__asm__ volatile("xlatb" : "=a"(cx) : "a"(0x20ULL), "b"(a));
	CHECK_EQ(cx & 0xff, 0x20);
}

CASE(enter_and_leave)
{
	uint64_t r;

	__asm__ volatile("movq %%rsp, %%rcx\n movq %%rbp, %%rdx\n subq $256, %%rsp\n"
			 "enter $64, $0\n movq %%rbp, %0\n subq %%rsp, %0\n leave\n"
			 "movq %%rsp, %%rbx\n subq %%rcx, %%rbx\n addq %%rbx, %0\n"
			 "cmpq %%rbp, %%rdx\n je 1f\n movl $0, %k0\n 1: movq %%rcx, %%rsp"
			 : "=&r"(r) : : "rcx", "rdx", "rbx", "memory", "cc");
	CHECK_EQ(r, 64 - 256);
}

/* --- deaths: the same signal as natively --------------------------------------------------- */

CASE(dies_null_read)
{
	puts("now");
	fflush(stdout);
	__asm__ volatile("movl 8, %%eax" : : : "rax");
}

CASE(dies_null_call)
{
	puts("now");
	fflush(stdout);
	run1(NULL, 0);
}

CASE(dies_noncanonical)
{
	puts("now");
	fflush(stdout);
	__asm__ volatile("movabsq $0x1234567812345678, %%rax\n movl (%%rax), %%eax" : : : "rax");
}

CASE(dies_noncanonical_jump)
{
	puts("now");
	fflush(stdout);
	__asm__ volatile("movabsq $0x1234567812345678, %%rax\n jmp *%%rax" : : : "rax");
}

CASE(dies_ud2)
{
	puts("now");
	fflush(stdout);
	__asm__ volatile("ud2");
}

CASE(dies_divide)
{
	puts("now");
	fflush(stdout);
	__asm__ volatile("xorl %%ecx, %%ecx\n movl $1, %%eax\n cltd\n idivl %%ecx"
			 : : : "rax", "rcx", "rdx", "cc");
}

CASE(dies_int3)
{
	puts("now");
	fflush(stdout);
	__asm__ volatile("int3");
}

CASE(dies_hlt)
{
	puts("now");
	fflush(stdout);
	__asm__ volatile("hlt");
}

CASE(dies_misaligned_sse)
{
	char buf[64];

	puts("now");
	fflush(stdout);
	__asm__ volatile("movaps 1(%0), %%xmm0" : : "r"((uintptr_t)buf & -16L) : "xmm0");
}

CASE(dies_simd_exception)
{
	uint32_t csr = 0x1f80 & ~0x200;	/* divide by zero unmasked */

	puts("now");
	fflush(stdout);
	__asm__ volatile("ldmxcsr %0\n xorps %%xmm0, %%xmm0\n movl $0x3f800000, %%eax\n"
			 "movd %%eax, %%xmm1\n divss %%xmm0, %%xmm1"
			 : : "m"(csr) : "rax", "xmm0", "xmm1");
}

CASE(dies_abort)
{
	puts("now");
	fflush(stdout);
	abort();
}

CASE(dies_kill_self)
{
	puts("now");
	fflush(stdout);
	syscall(SYS_kill, getpid(), 15);
}

CASE(dies_stack_overflow)
{
	puts("now");
	fflush(stdout);
	printf("%llu\n", (long long)recurse(1ULL << 40));
}
