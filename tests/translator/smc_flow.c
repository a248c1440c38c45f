// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Self-modifying code and control flow: loops that change themselves, targets
 * of chained jumps that change, code that writes code that runs at once.
 */
#include "guest.h"

/* Sum over a loop whose own immediate grows each time round: 0+1+...+n-1. */
TEMPLATE(t_loop_imm,
	 "xorl %eax, %eax\n xorl %ecx, %ecx\n"
	 "2: \n"
	 "1: addl $0, %eax\n"			/* 83 c0 ib */
	 "incb 1b+2(%rip)\n"
	 "incl %ecx\n cmpl %edi, %ecx\n jne 2b\n ret\n");

CASE(loop_changes_own_immediate)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		PUT(p, t_loop_imm);
		CHECK_EQ(run1(p, 100), 99 * 100 / 2);
		p[6] = 0;
		CHECK_EQ(run1(p, 100), 99 * 100 / 2);
		printf("%s\n", place_name[w]);
	}
}

/* The loop's back edge becomes an exit: the store hits the running block. */
TEMPLATE(t_loop_exit,
	 "xorl %eax, %eax\n"
	 "1: incl %eax\n"
	 "cmpl %edi, %eax\n jb 2f\n"
	 "movb $0x00, 3f+1(%rip)\n"		/* jmp 1b -> jmp .+2 */
	 "2: \n"
	 "3: jmp 1b\n"
	 "ret\n");

CASE(loop_cuts_back_edge)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		for (uint64_t n = 1; n < 40; n++) {
			PUT(p, t_loop_exit);
			CHECK_EQ(run1(p, n), n);
		}
		printf("%s\n", place_name[w]);
	}
}

/* A call's target changes between two calls from the same chained site. */
TEMPLATE(t_call_site,
	 "pushq %rbx\n movl %edi, %ebx\n xorl %r8d, %r8d\n"
	 "2: call 1f\n addl %eax, %r8d\n"
	 "incb 1f+1(%rip)\n"
	 "decl %ebx\n jnz 2b\n movl %r8d, %eax\n popq %rbx\n ret\n"
	 ".fill 32,1,0xcc\n"
	 "1: movl $0, %eax\n ret\n");

CASE(chained_call_target)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		PUT(p, t_call_site);
		CHECK_EQ(run1(p, 200), 199 * 200 / 2);
		printf("%s\n", place_name[w]);
	}
}

/* Caller on one page, callee on another, which is replaced each time. */
CASE(chained_across_pages)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 2), *f = p + PAGE;
		int32_t rel = f - (p + 5);

		p[0] = 0xe9;	/* jmp f */
		memcpy(p + 1, &rel, 4);
		for (uint32_t i = 0; i < 300; i++) {
			if (i % 3 == 0)
				put_ret_imm(f, i);
			else if (i % 3 == 1)
				*(volatile uint32_t *)(f + 1) = i;
			else
				((volatile uint8_t *)f)[1] = i;
			CHECK_EQ(run1(p, 0), i % 3 == 2 ? ((i - 1) & ~0xffu) | (i & 0xff) : i);
		}
		printf("%s\n", place_name[w]);
	}
}

/* The jump itself is patched (an inline cache): jmp rel32 to one of many. */
CASE(patched_jump)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 2);

		for (unsigned int i = 0; i < 100; i++)
			put_ret_imm(p + 512 + 16 * i, i);
		p[256] = 0xe9;
		for (unsigned int i = 0; i < 400; i++) {
			int32_t rel = p + 512 + 16 * (i * 37 % 100) - (p + 256 + 5);

			memcpy(p + 257, &rel, 4);
			CHECK_EQ(run1(p + 256, 0), i * 37 % 100);
		}
		printf("%s\n", place_name[w]);
	}
}

/* jne becomes je and back: the condition is the patched byte. */
TEMPLATE(t_cond, "movl $1, %eax\n cmpl %edi, %eax\n 1: jne 2f\n incl %eax\n 2: ret\n");

CASE(patched_condition)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		PUT(p, t_cond);
		for (int i = 0; i < 100; i++) {
			p[7] = 0x75;
			CHECK_EQ(run1(p, 1), 2);
			CHECK_EQ(run1(p, 2), 1);
			p[7] = 0x74;
			CHECK_EQ(run1(p, 1), 1);
			CHECK_EQ(run1(p, 2), 2);
		}
		printf("%s\n", place_name[w]);
	}
}

/* An int3 put in and taken out again, as a debugger or tracer does, not hit. */
CASE(breakpoint_in_and_out)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		put_ret_imm(p, 5);
		for (int i = 0; i < 100; i++) {
			CHECK_EQ(run1(p, 0), 5);
			*(volatile uint8_t *)p = 0xcc;
			*(volatile uint8_t *)p = 0xb8;
		}
		printf("%s\n", place_name[w]);
	}
}

/* A stub that unpacks code behind itself, then falls into it. */
TEMPLATE(t_unpack,
	 "leaq 3f(%rip), %rsi\n movl $4f-3f, %ecx\n"
	 "1: xorb $0x5a, (%rsi)\n incq %rsi\n decl %ecx\n jnz 1b\n"
	 "3: .byte 0xb8^0x5a, 0x11^0x5a, 0x22^0x5a, 0x33^0x5a, 0x44^0x5a, 0xc3^0x5a\n"
	 "4:\n");

CASE(self_unpacking)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 2);

		/* everywhere, also with the packed code across the page */
		for (size_t at = PAGE - 40; at < PAGE + 2; at++) {
			PUT(p + at, t_unpack);
			CHECK_EQ(run1(p + at, 0), 0x44332211);
		}
		printf("%s\n", place_name[w]);
	}
}

/* Unpacks downwards into its own path, byte by byte with std; stosb. */
TEMPLATE(t_writes_next,
	 "leaq 1f(%rip), %rdi\n"
	 "movb $0xb8, %al\n stosb\n"
	 "movb $0x21, %al\n stosb\n"
	 "movb $0x43, %al\n stosb\n"
	 "movb $0x65, %al\n stosb\n"
	 "movb $0x07, %al\n stosb\n"
	 "movb $0xc3, %al\n stosb\n"
	 "1: .fill 6,1,0xf4\n");	/* hlt: must never be run */

CASE(writes_then_falls_in)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		for (int i = 0; i < 20; i++) {
			PUT(p, t_writes_next);
			CHECK_EQ(run1(p, 0), 0x07654321);
		}
		printf("%s\n", place_name[w]);
	}
}

/* Each instruction is written by the one before it: a fully serial chain. */
CASE(every_instruction_patched)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1), *q = p;

		*q++ = 0x31;	/* xor %eax, %eax */
		*q++ = 0xc0;
		for (int i = 0; i < 40; i++) {
			/* movb $i, rel(%rip) -> the immediate of the next add */
			*q++ = 0xc6;
			*q++ = 0x05;
			*(int32_t *)q = 2;
			q += 4;
			*q++ = i + 1;
			*q++ = 0x83;	/* add $ib, %eax */
			*q++ = 0xc0;
			*q++ = 0x70;
		}
		*q++ = 0xc3;
		CHECK_EQ(run1(p, 0), 820);
		CHECK_EQ(run1(p, 0), 820);
		printf("%s\n", place_name[w]);
	}
}

/* rep movs that overwrites the instruction behind itself, many sizes. */
TEMPLATE(t_rep_over_self,
	 "movq %rsi, %rcx\n movq %rdi, %rsi\n leaq 1f(%rip), %rdi\n"
	 "rep movsb\n"
	 "1: .fill 400,1,0x90\n movl $7, %eax\n ret\n");

CASE(rep_movs_over_successor)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 2), src[512];

		for (unsigned int n = 6; n < 300; n += 17) {
			memset(src, 0x90, sizeof(src));
			put_ret_imm(src + n - 6, n);
			PUT(p + PAGE - 100, t_rep_over_self);
			CHECK_EQ(run2(p + PAGE - 100, (uintptr_t)src, n), n);
		}
		printf("%s\n", place_name[w]);
	}
}

/* Two functions that rewrite each other, in turns. */
CASE(rewrite_each_other)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *a = place_get(w, 2), *b = a + PAGE;

		/* incb imm(%rip); mov $imm, %eax; ret - each other's imm */
		for (int k = 0; k < 2; k++) {
			uint8_t *p = k ? b : a, *o = k ? a : b;
			int32_t rel = o + 7 - (p + 6);

			p[0] = 0xfe;
			p[1] = 0x05;
			memcpy(p + 2, &rel, 4);
			put_ret_imm(p + 6, 0);
		}
		for (int i = 0; i < 100; i++) {
			CHECK_EQ(run1(a, 0), i);
			CHECK_EQ(run1(b, 0), i + 1);
		}
		printf("%s\n", place_name[w]);
	}
}

/* Code that replaces its own caller's next instruction. */
TEMPLATE(t_patch_return,
	 "subq $8, %rsp\n call 2f\n"
	 "1: movl $0, %eax\n addq $8, %rsp\n ret\n"
	 "2: movq (%rsp), %rcx\n movl %edi, 1(%rcx)\n ret\n");

CASE(callee_patches_return_point)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		PUT(p, t_patch_return);
		for (uint32_t i = 0; i < 200; i++)
			CHECK_EQ(run1(p, i * 7919), i * 7919);
		printf("%s\n", place_name[w]);
	}
}

/* Locked counters beside code, a million traps are too many: some hundreds. */
TEMPLATE(t_counters,
	 "1: lock incl 5f(%rip)\n addq $3, 6f(%rip)\n movups 7f(%rip), %xmm0\n"
	 "movups %xmm0, 8f(%rip)\n decl %edi\n jnz 1b\n"
	 "movl 5f(%rip), %eax\n addl 6f(%rip), %eax\n ret\n"
	 ".balign 64\n 5: .quad 0\n 6: .quad 0\n 7: .quad 1,2\n 8: .quad 0,0\n");

CASE(counters_beside_code)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		PUT(p, t_counters);
		CHECK_EQ(run1(p, 300), 1200);
		CHECK_EQ(run1(p, 300), 2400);
		printf("%s\n", place_name[w]);
	}
}

/*
 * What --smc=imprecise changes: the block that is running finishes as it was
 * translated. A store to the block's own next instruction is seen when the
 * block is entered again, not before; a store to another block always is.
 */
TEMPLATE(t_own, "movl %edi, 1f+1(%rip)\n .fill 3,1,0x90\n 1: movl $99, %eax\n ret\n");

CASE(shows_precision)
{
	uint8_t *p = place_get(PLACE_ANON, 2);

	PUT(p, t_own);
	printf("first run: %s\n", run1(p, 1) == 1 ? "new" : "old");
	printf("second run, value changed: %s\n", run1(p, 2) == 2 ? "new" : "old");
	printf("third run, same value: %s\n", run1(p, 2) == 2 ? "right" : "wrong");
	/* across a block boundary both modes agree */
	put_ret_imm(p + PAGE, 1);
	CHECK_EQ(run1(p + PAGE, 0), 1);
	*(volatile uint32_t *)(p + PAGE + 1) = 2;
	printf("other block: %s\n", run1(p + PAGE, 0) == 2 ? "new" : "old");
}
