// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Immediates that are patched again and again: every kind of instruction that the
 * translator may load them from memory for, and neighbours that it may not; whole,
 * in part, and together with what stands before them.
 */
#include <pthread.h>
#include <stdbool.h>

#include "guest.h"

struct form {
	const char *name;
	uint8_t code[24];	/* %rdi: argument; result in %rax */
	unsigned int size, at, bytes;
	uint64_t (*want)(uint64_t arg, uint64_t imm);
};

static uint64_t sx(uint64_t imm) { return (int64_t)(int32_t)imm; }
static uint64_t w_mov32(uint64_t a, uint64_t i) { return (uint32_t)i; }
static uint64_t w_mov64(uint64_t a, uint64_t i) { return i; }
static uint64_t w_movsx(uint64_t a, uint64_t i) { return sx(i); }
static uint64_t w_add32(uint64_t a, uint64_t i) { return (uint32_t)(a + i); }
static uint64_t w_add64(uint64_t a, uint64_t i) { return a + sx(i); }
static uint64_t w_sub64(uint64_t a, uint64_t i) { return a - sx(i); }
static uint64_t w_and64(uint64_t a, uint64_t i) { return a & sx(i); }
static uint64_t w_xor32(uint64_t a, uint64_t i) { return (uint32_t)(a ^ i); }
static uint64_t w_adc32(uint64_t a, uint64_t i) { return (uint32_t)(a + i + 1); }
static uint64_t w_cmp32(uint64_t a, uint64_t i) { return (uint32_t)a < (uint32_t)i; }
static uint64_t w_cmp64(uint64_t a, uint64_t i) { return (int64_t)a < (int64_t)sx(i); }
static uint64_t w_mov8(uint64_t a, uint64_t i) { return (a & ~255UL) | (i & 255); }
static uint64_t w_push(uint64_t a, uint64_t i) { return sx(i); }

static const struct form forms[] = {
	{ "mov r32", { 0xb8, 0, 0, 0, 0, 0xc3 }, 6, 1, 4, w_mov32 },
	{ "mov r9d", { 0x41, 0xb9, 0, 0, 0, 0, 0x4c, 0x89, 0xc8, 0xc3 }, 10, 2, 4, w_mov32 },
	{ "movabs", { 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xc3 }, 11, 2, 8, w_mov64 },
	{ "movabs r12", { 0x41, 0x54, 0x49, 0xbc, 0, 0, 0, 0, 0, 0, 0, 0, 0x4c, 0x89, 0xe0,
	  0x41, 0x5c, 0xc3 }, 18, 4, 8, w_mov64 },
	{ "movabs r13", { 0x41, 0x55, 0x49, 0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 0x4c, 0x89, 0xe8,
	  0x41, 0x5d, 0xc3 }, 18, 4, 8, w_mov64 },
	{ "mov ebp", { 0x55, 0xbd, 0, 0, 0, 0, 0x89, 0xe8, 0x5d, 0xc3 }, 10, 2, 4, w_mov32 },
	{ "mov $imm, rax", { 0x48, 0xc7, 0xc0, 0, 0, 0, 0, 0xc3 }, 8, 3, 4, w_movsx },
	{ "mov $imm, eax", { 0xc7, 0xc0, 0, 0, 0, 0, 0xc3 }, 7, 2, 4, w_mov32 },
	{ "add edi", { 0x81, 0xc7, 0, 0, 0, 0, 0x89, 0xf8, 0xc3 }, 9, 2, 4, w_add32 },
	{ "add rdi", { 0x48, 0x81, 0xc7, 0, 0, 0, 0, 0x48, 0x89, 0xf8, 0xc3 }, 11, 3, 4, w_add64 },
	{ "sub rdi", { 0x48, 0x81, 0xef, 0, 0, 0, 0, 0x48, 0x89, 0xf8, 0xc3 }, 11, 3, 4, w_sub64 },
	{ "and r10", { 0x49, 0x89, 0xfa, 0x49, 0x81, 0xe2, 0, 0, 0, 0, 0x4c, 0x89, 0xd0, 0xc3 },
	  14, 6, 4, w_and64 },
	{ "xor eax", { 0x89, 0xf8, 0x81, 0xf0, 0, 0, 0, 0, 0xc3 }, 9, 4, 4, w_xor32 },
	{ "add rax", { 0x48, 0x89, 0xf8, 0x48, 0x81, 0xc0, 0, 0, 0, 0, 0xc3 }, 11, 6, 4, w_add64 },
	{ "adc edi", { 0xf9, 0x81, 0xd7, 0, 0, 0, 0, 0x89, 0xf8, 0xc3 }, 10, 3, 4, w_adc32 },
	{ "cmp edi", { 0x31, 0xc0, 0x81, 0xff, 0, 0, 0, 0, 0x0f, 0x92, 0xc0, 0xc3 }, 12, 4, 4,
	  w_cmp32 },
	{ "cmp rdi", { 0x31, 0xc0, 0x48, 0x81, 0xff, 0, 0, 0, 0, 0x0f, 0x9c, 0xc0, 0xc3 }, 13, 5, 4,
	  w_cmp64 },
	/* not of the kinds: these stay as they are */
	{ "mov r8", { 0x48, 0x89, 0xf8, 0xb0, 0, 0xc3 }, 6, 4, 1, w_mov8 },
	{ "add eax", { 0x89, 0xf8, 0x05, 0, 0, 0, 0, 0xc3 }, 8, 3, 4, w_add32 },
	{ "push", { 0x68, 0, 0, 0, 0, 0x58, 0xc3 }, 7, 1, 4, w_push },
};

#define FORMS (sizeof(forms) / sizeof(forms[0]))

static uint64_t value(uint32_t i)
{
	return (i + 1) * 0x9e3779b97f4a7c15ULL;
}

/* Wherever it lies in its cache line, and over the end of one. */
CASE(every_form)
{
	uint8_t *page = place_get(PLACE_ANON, 2);
	uint64_t sum = 0;

	for (unsigned int f = 0; f < FORMS; f++) {
		const struct form *m = &forms[f];

		for (unsigned int place = 0; place < 64; place += 7) {
			uint8_t *p = page + f * 128 + place;

			memcpy(p, m->code, m->size);
			for (uint32_t i = 0; i < 30; i++) {
				uint64_t imm = value(i), arg = value(i * 3 + 1), got;

				memcpy(p + m->at, &imm, m->bytes);
				got = run1(p, arg);
				if (got != m->want(arg, imm))
					guest_fail(__FILE_NAME__, __LINE__, "%s: %#llx", m->name,
						   (long long)got);
				sum = sum * 31 + got;
			}
		}
	}
	printf("%llx\n", (long long)sum);
}

/* One byte of it, the opcode with it, another instruction in its place. */
CASE(in_part_and_more)
{
	uint8_t *p = place_get(PLACE_ANON, 1);
	uint32_t want = 0;

	put_ret_imm(p, 0);
	for (uint32_t i = 0; i < 600; i++) {
		unsigned int byte = i % 4;

		p[1 + byte] = i;
		want = (want & ~(255U << 8 * byte)) | (i & 255) << 8 * byte;
		CHECK_EQ(run1(p, 5), want);
		if (i % 16 == 9) {		/* add $imm, %edi; mov %edi, %eax; ret */
			memcpy(p, "\x81\xc7\1\0\0\0\x89\xf8\xc3", 9);
			CHECK_EQ(run1(p, i), i + 1);
			put_ret_imm(p, want);
			CHECK_EQ(run1(p, i), want);
		}
		if (i % 16 == 12) {		/* the opcode's byte and one of the number */
			*(volatile uint16_t *)p = 0xb8 | (i & 255) << 8;
			want = (want & ~255U) | (i & 255);
			CHECK_EQ(run1(p, 5), want);
		}
		if (i % 16 == 14) {		/* the number's last byte and what follows */
			*(volatile uint16_t *)(p + 4) = 0xc300 | (i & 255);
			want = (want & 0xffffff) | i << 24;
			CHECK_EQ(run1(p, 5), want);
		}
	}
}

/* The immediate of one instruction, entered as another one's code. */
CASE(jump_into_it)
{
	uint8_t *p = place_get(PLACE_ANON, 1);

	put_ret_imm(p, 0);
	for (uint32_t i = 0; i < 200; i++) {
		uint32_t imm = 0x00c300b0 | (i & 255) << 8;	/* mov $i, %al; ret */

		memcpy(p + 1, &imm, 4);
		CHECK_EQ(run1(p, 0), imm);
		CHECK_EQ(run1(p + 1, 0) & 255, i & 255);
	}
}

static uint8_t *cross;
static volatile bool done;

static void *patches(void *arg)
{
	for (uint32_t i = 0; i < 200000; i++)
		__atomic_store_n((uint32_t *)(cross + 4), i % 2 ? 0x11223344 : 0x55667788,
				 __ATOMIC_RELEASE);
	done = true;
	return NULL;
}

/* Old or new, never a mixture. */
CASE(from_another_thread)
{
	uint8_t *p = place_get(PLACE_ANON, 1);
	pthread_t t;

	cross = p;
	memset(p, 0x90, 3);
	put_ret_imm(p + 3, 0x11223344);
	for (uint32_t i = 0; i < 50; i++) {
		uint32_t v = i % 2 ? 0x11223344 : 0x55667788;

		__atomic_store_n((uint32_t *)(p + 4), v, __ATOMIC_RELEASE);
		CHECK_EQ(run1(p, 0), v);
	}
	CHECK(!pthread_create(&t, NULL, patches, NULL));
	while (!done) {
		uint32_t got = run1(p, 0);

		CHECK(got == 0x11223344 || got == 0x55667788);
	}
	pthread_join(t, NULL);
	CHECK_EQ(run1(p, 0), 0x11223344);
}

/* With the alignment check on, for the time of the call. */
static __attribute__((noinline)) uint64_t run_aligned(void *code)
{
	uint64_t ret;

	__asm__ volatile("leaq -128(%%rsp), %%rsp\n"	/* over the red zone */
			 "pushfq\n orl $0x40000, (%%rsp)\n popfq\n"
			 "call *%1\n"
			 "pushfq\n andl $~0x40000, (%%rsp)\n popfq\n"
			 "leaq 128(%%rsp), %%rsp\n"
			 : "=a"(ret) : "r"(code) : "memory", "cc", "rcx", "rdx", "rsi", "rdi",
			   "r8", "r9", "r10", "r11");
	return ret;
}

CASE(alignment_is_checked)
{
	uint8_t *p = place_get(PLACE_ANON, 1);

	put_ret_imm(p, 0);
	for (uint32_t i = 0; i < 300; i++) {
		memcpy(p + 1, &i, 4);
		CHECK_EQ(i < 20 ? run1(p, 0) : run_aligned(p), i);
	}
}
