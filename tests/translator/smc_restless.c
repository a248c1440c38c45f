// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Code that is written over again and again, in every kind of memory: what the
 * translator makes of such a page has to follow each store, and what happens to the
 * page besides; and code that is left alone afterwards, and then is not.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "guest.h"

#define OFTEN	30	/* more than the translator wants to see */
#define CALM	6000	/* calls of code that is left alone: more, too */

/* One of five functions of other lengths and opcodes, from a and b. */
static uint64_t put_any(uint8_t *p, uint32_t i, uint64_t a, uint64_t b)
{
	switch (i % 5) {
	case 0:
		memcpy(p, "\x48\x8d\x04\x37\xc3", 5);		/* lea (%rdi,%rsi), %rax */
		return a + b;
	case 1:
		memcpy(p, "\x48\x89\xf8\x48\x29\xf0\xc3", 7);	/* mov; sub %rsi, %rax */
		return a - b;
	case 2:
		memcpy(p, "\x48\x89\xf0\x48\x31\xf8\x48\xff\xc0\xc3", 10);
		return (a ^ b) + 1;
	case 3:
		put_ret_imm(p, i);
		return i;
	default:
		memcpy(p, "\x90\x90\x48\x89\xf0\x48\xf7\xd0\xc3", 9);	/* not %rax */
		return ~b;
	}
}

CASE(everywhere)
{
	for (int where = 0; where < PLACE_COUNT; where++) {
		uint8_t *p = place_get(where, 1);

		for (uint32_t i = 0; i < 400; i++) {
			uint8_t *at = p + i % 7 * 64 + i % 3;
			uint64_t want = put_any(at, i * 7 / 3, i, 3 * i + 1);

			for (int n = 0; n < 3; n++)
				if (run2(at, i, 3 * i + 1) != want)
					guest_fail(__FILE_NAME__, __LINE__, "%s: round %u",
						   place_name[where], i);
		}
	}
}

/* Left alone for long, written again, and that over and over. */
CASE(calm_between)
{
	uint8_t *p = place_get(PLACE_ANON, 1);

	put_ret_imm(p + 512, 77);
	for (uint32_t i = 0; i < 12; i++) {
		for (uint32_t k = 0; k < OFTEN; k++) {
			uint64_t want = put_any(p, i + k, k, 9);

			CHECK_EQ(run2(p, k, 9), want);
		}
		for (uint32_t k = 0; k < CALM; k++) {
			CHECK_EQ(run2(p, k, 5), put_any(p + 2048, i + OFTEN - 1, k, 5));
			CHECK_EQ(run1(p + 512, 0), 77);
		}
	}
}

/* A few versions that take turns, in order and not; then one more than a few. */
CASE(taking_turns)
{
	uint8_t *p = place_get(PLACE_ANON, 1);
	uint32_t rnd = 1;

	for (uint32_t i = 0; i < 9000; i++) {
		uint32_t which = i < 3000 ? i % 2 : i < 6000 ? i % 3 : (rnd >> 16) % 5;
		uint64_t want = put_any(p, which == 3 ? 8 : which, i, i + 7);

		rnd = rnd * 1103515245 + 12345;
		CHECK_EQ(run2(p, i, i + 7), want);
	}
}

/* An instruction of two pages: one is written often, then the other. */
CASE(over_two_pages)
{
	for (int first = 0; first < 2; first++) {
		uint8_t *p = place_get(PLACE_ANON, 2), *at = p + PAGE - 3;
		uint8_t *noise = first ? p : p + PAGE + 512;
		uint32_t imm = 0;

		put_ret_imm(at, 0);
		for (uint32_t i = 0; i < 10 * OFTEN; i++) {
			uint64_t want = put_any(noise, i, i, 1);

			CHECK_EQ(run2(noise, i, 1), want);
			at[1 + i % 4] = i;
			imm = (imm & ~(255U << 8 * (i % 4))) | (i & 255) << 8 * (i % 4);
			CHECK_EQ(run1(at, 0), imm);
			if (i % 8 == 3) {
				at[0] = 0xb9;			/* mov to %ecx */
				CHECK_EQ(run2(at, 0, 0) == imm, imm == 0 ? 1 : 0);
				at[0] = 0xb8;
			}
		}
	}
}

/* movb %sil, next; next: mov $imm, %al: it is what was stored that runs. */
TEMPLATE(own_next,
	 "mov %edi, %eax\n"
	 "movb %sil, 1f(%rip)\n"
	 "1: inc %eax\n"
	 "nop\n"
	 "ret");

CASE(own_next_instruction)
{
	/* inc %eax is ff c0: with the first byte 0x8b or 0x31 it is mov or xor %eax, %eax */
	uint8_t *p = place_get(PLACE_ANON, 1);

	for (uint32_t i = 0; i < 20 * OFTEN; i++) {
		PUT(p, own_next);
		CHECK_EQ(run2(p, i, 0xff), i + 1);
		CHECK_EQ(run2(p, i, 0x31), 0);
		CHECK_EQ(run2(p, i, 0x8b), i);
		put_any(p + 256, i, 0, 0);
		run2(p + 256, 0, 0);
	}
}

static sigjmp_buf back;

static void on_segv(int sig)
{
	siglongjmp(back, 1);
}

static bool faults(const uint8_t *p)
{
	signal(SIGSEGV, on_segv);
	if (sigsetjmp(back, 1))
		return true;
	run2(p, 1, 2);
	return false;
}

static uint8_t *restless_page(void)
{
	uint8_t *p = place_get(PLACE_ANON, 1);

	for (uint32_t i = 0; i < OFTEN; i++) {
		uint64_t want = put_any(p, i, i, 2);

		CHECK_EQ(run2(p, i, 2), want);
	}
	return p;
}

CASE(protection_and_mapping)
{
	uint8_t *p = restless_page(), *q;
	uint64_t want = put_any(p, 0, 6, 7);

	CHECK_EQ(run2(p, 6, 7), want);
	CHECK(!mprotect(p, PAGE, PROT_READ | PROT_WRITE));
	CHECK(faults(p));
	CHECK(!mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	CHECK_EQ(run2(p, 6, 7), want);
	CHECK(!mprotect(p, PAGE, PROT_NONE));
	CHECK(faults(p));
	CHECK(!mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	CHECK_EQ(run2(p, 6, 7), want);
	want = put_any(p, 1, 6, 7);
	CHECK_EQ(run2(p, 6, 7), want);
	q = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place_get(PLACE_ANON, 1));
	CHECK(q != MAP_FAILED && q != p);
	CHECK_EQ(run2(q, 6, 7), want);
	CHECK(faults(p));
	CHECK(mmap(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	want = put_any(p, 4, 6, 7);
	CHECK_EQ(run2(p, 6, 7), want);
	CHECK(!munmap(p, PAGE));
	CHECK(faults(p));
	signal(SIGSEGV, SIG_DFL);
}

CASE(a_child_of_its_own)
{
	uint8_t *p = restless_page();
	uint64_t want;
	int status;
	pid_t pid;

	put_any(p, 1, 0, 0);
	fflush(stdout);
	pid = fork();
	for (uint32_t i = 0; i < 3 * OFTEN; i++) {
		want = put_any(p, pid ? i : i + 1, i, 3);
		if (run2(p, i, 3) != want) {
			if (!pid)
				_exit(1);
			guest_fail(__FILE_NAME__, __LINE__, "round %u of the parent", i);
		}
	}
	if (!pid)
		_exit(0);
	CHECK(waitpid(pid, &status, 0) == pid && !status);
}

/* The processor must not want the code, or what is asked about it, aligned. */
static __attribute__((noinline)) uint64_t run_with_ac(const void *code, uint64_t a, uint64_t b)
{
	uint64_t ret;

	__asm__ volatile("sub $128, %%rsp\n"
			 "pushfq\n orl $0x40000, (%%rsp)\n popfq\n"
			 "call *%3\n"
			 "pushfq\n andl $~0x40000, (%%rsp)\n popfq\n"
			 "add $128, %%rsp"
			 : "=a"(ret), "+D"(a), "+S"(b) : "r"(code)
			 : "memory", "cc", "rcx", "rdx", "r8", "r9", "r10", "r11");
	return ret;
}

CASE(alignment_check)
{
	static const enum place where[] = { PLACE_ANON, PLACE_STACK, PLACE_BSS };

	for (unsigned int w = 0; w < sizeof(where) / sizeof(where[0]); w++) {
		uint8_t *p = place_get(where[w], 1);

		for (uint32_t i = 0; i < 8 * OFTEN; i++) {
			uint8_t *at = p + i % 11;
			uint64_t want = put_any(at, i, i, 8);

			CHECK_EQ(run_with_ac(at, i, 8), want);
			CHECK_EQ(run2(at, i, 8), want);
		}
	}
}

static uint8_t *looping;
static volatile int laps;

/* The two bytes of jmp . become nops: the thread falls through to the return. */
static void on_alarm(int sig)
{
	laps++;
	*(volatile uint16_t *)looping = 0x9090;
}

CASE(endless_loop_is_left)
{
	struct itimerval soon = { .it_value = { 0, 20000 } };
	uint8_t *p = place_get(PLACE_ANON, 1);

	signal(SIGALRM, on_alarm);
	for (uint32_t i = 0; i < OFTEN; i++) {
		put_any(p + 64, i, 0, 0);
		run2(p + 64, 0, 0);
		looping = p;
		memcpy(p, "\xeb\xfe\x89\xf8\xc3", 5);	/* jmp .; mov %edi, %eax; ret */
		CHECK(!setitimer(ITIMER_REAL, &soon, NULL));
		CHECK_EQ(run1(p, i), i);
		CHECK_EQ(laps, i + 1);
	}
	signal(SIGALRM, SIG_DFL);
}

static struct {
	uint8_t *code;
	uint64_t want;
	volatile uint32_t turn;	/* even: the writer's */
} shared;

static void *runner(void *arg)
{
	uint64_t bad = 0;

	for (uint32_t i = 0; i < 40 * OFTEN; i++) {
		while (__atomic_load_n(&shared.turn, __ATOMIC_ACQUIRE) != 2 * i + 1)
			__builtin_ia32_pause();
		__asm__ volatile("cpuid" : : "a"(0) : "rbx", "rcx", "rdx", "memory");
		bad += run2(shared.code, i, 4) != shared.want;
		__atomic_store_n(&shared.turn, 2 * i + 2, __ATOMIC_RELEASE);
	}
	return (void *)bad;
}

/* One thread writes, another runs what it wrote. */
CASE(from_another_thread)
{
	pthread_t t;
	void *bad;

	shared.code = place_get(PLACE_ANON, 1);
	CHECK(!pthread_create(&t, NULL, runner, NULL));
	for (uint32_t i = 0; i < 40 * OFTEN; i++) {
		while (__atomic_load_n(&shared.turn, __ATOMIC_ACQUIRE) != 2 * i)
			__builtin_ia32_pause();
		shared.want = put_any(shared.code, i, i, 4);
		__atomic_store_n(&shared.turn, 2 * i + 1, __ATOMIC_RELEASE);
	}
	CHECK(!pthread_join(t, &bad));
	CHECK_EQ((uint64_t)bad, 0);
}

/* Constants that are patched in code that is written over, too. */
CASE(immediates_and_all)
{
	uint8_t *p = place_get(PLACE_ANON, 1);
	uint64_t want;

	for (uint32_t i = 0; i < 10 * OFTEN; i++) {
		for (uint32_t k = 0; k < 12; k++) {
			put_ret_imm(p + 128, 0);
			*(volatile uint32_t *)(p + 129) = i * k;
			CHECK_EQ(run1(p + 128, 0), i * k);
		}
		want = put_any(p, i, i, 2);
		CHECK_EQ(run2(p, i, 2), want);
	}
}
