// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * One store instruction that writes data beside code until it needs no trap for
 * that, and then something else happens to the page: it is code that is written, the
 * page is protected, replaced, copied to a child, shared with a thread.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "guest.h"

#define DATA 2048
#define HEAT 40		/* more than the translator wants to see */

static __attribute__((noinline)) void store8(void *p, uint8_t v)
{
	__asm__ volatile("movb %1, (%0)" : : "r"(p), "q"(v) : "memory");
}

static __attribute__((noinline)) void store32(void *p, uint32_t v)
{
	__asm__ volatile("movl %1, (%0)" : : "r"(p), "r"(v) : "memory");
}

static __attribute__((noinline)) void store64(void *p, uint64_t v)
{
	__asm__ volatile("movq %1, 8(%0,%2,2)" : : "r"(p), "r"(v), "r"(0UL) : "memory");
}

static __attribute__((noinline)) void store128(void *p, uint64_t v)
{
	__asm__ volatile("movq %1, %%xmm3\n movlhps %%xmm3, %%xmm3\n movups %%xmm3, (%0)"
			 : : "r"(p), "r"(v) : "memory", "xmm3");
}

/* Flags and all registers are as the instruction leaves them. */
static __attribute__((noinline)) uint64_t add32(void *p, uint32_t v)
{
	uint64_t flags;

	__asm__ volatile("stc\n adcl %2, (%1)\n pushfq\n popq %0"
			 : "=r"(flags) : "r"(p), "c"(v) : "memory", "cc");
	return flags & 0x8d5;
}

/* Code at the start of a private page, and a hot store to its middle. */
static uint8_t *hot_page(void)
{
	uint8_t *p = place_get(PLACE_ANON, 2);

	put_ret_imm(p, 7);
	for (uint32_t i = 0; i < HEAT; i++) {
		CHECK_EQ(run1(p, 0), 7);
		store8(p + DATA + i % 5, i);
		store32(p + DATA + 8, i);
		store64(p + DATA + 16, i);
		store128(p + DATA + 64, i);
		CHECK_EQ(p[DATA + i % 5], i);
		CHECK_EQ(*(uint32_t *)(p + DATA + 8), i);
		CHECK_EQ(*(uint64_t *)(p + DATA + 24), i);
		CHECK_EQ(*(uint64_t *)(p + DATA + 72), i);
	}
	return p;
}

/* Data becomes code, where the hot stores have been, and is patched by them. */
CASE(data_becomes_code)
{
	uint8_t *p = hot_page(), *at = p + DATA;

	for (uint32_t i = 0; i < 3 * HEAT; i++) {
		store8(at, 0xb8);			/* mov $i, %eax */
		store32(at + 1, i);
		store8(at + 5, 0xc3);
		CHECK_EQ(run1(at, 0), i);
		store32(at + 1, i + 1000);
		CHECK_EQ(run1(at, 0), i + 1000);
		store8(at + 2, i);
		CHECK_EQ(run1(at, 0), (i + 1000) % 256 | (i & 255) << 8);
		CHECK_EQ(run1(p, 0), 7);
		store32(p + 1, 8);			/* and the first function */
		CHECK_EQ(run1(p, 0), 8);
		store32(p + 1, 7);
	}
}

/* Only the last byte of a wide store is code; and the first. */
CASE(edges_of_a_store)
{
	uint8_t *p = hot_page();

	for (uint32_t i = 0; i < HEAT; i++) {
		uint8_t *at = p + DATA + 64 + i % 3 * 128;
		uint64_t v[2] = { i, 0 };

		put_ret_imm(at, 5);
		CHECK_EQ(run1(at, 0), 5);
		store128(at - 32, i);
		CHECK_EQ(run1(at, 0), 5);
		memcpy(v, at + 4, 2);			/* over the end of its operand */
		store64(at + 4 - 8, v[0] & 0xffff);
		CHECK_EQ(*(uint32_t *)(at + 1), 5);
		store128(at - 15, 0xb8ULL << 56);	/* its first byte, as it was */
		CHECK_EQ(run1(at, 0), 5);
		store32(at - 2, 0x0ab80000 | (i & 0xff));
		CHECK_EQ(run1(at, 0), 10);
	}
}

/* A store over the page's end, where the next page has code. */
CASE(over_the_end)
{
	uint8_t *p = hot_page(), *next = p + PAGE;

	put_ret_imm(next - 1, 0);
	for (uint32_t i = 0; i < 3 * HEAT; i++) {
		store32(p + DATA + 8, i);
		store32(next, i);
		CHECK_EQ(run1(next - 1, 0), i);
		store64(next - 12, 0xb8ULL << 24 | (uint64_t)(i + 1) << 32);
		CHECK_EQ(run1(next - 1, 0), i + 1);
	}
}

CASE(flags_and_registers)
{
	uint8_t *p = hot_page();
	uint32_t *n = (uint32_t *)(p + DATA + 40), want = 0;

	for (uint32_t i = 0; i < 3 * HEAT; i++) {
		uint32_t add = i * 0x10765431;
		uint64_t flags = add32(n, add), same;
		uint32_t mine = want;

		same = add32(&mine, add);
		want += add + 1;
		CHECK_EQ(*n, want);
		CHECK_EQ(mine, want);
		CHECK_EQ(flags, same);
	}
}

static sigjmp_buf back;
static volatile uint64_t fault_at;

static void on_segv(int sig, siginfo_t *si, void *uc)
{
	fault_at = (uint64_t)si->si_addr;
	siglongjmp(back, 1);
}

static bool store_faults(void *p, uint32_t v)
{
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
	volatile bool faulted = false;

	sigaction(SIGSEGV, &sa, NULL);
	fault_at = 0;
	if (sigsetjmp(back, 1))
		faulted = true;
	else
		store32(p, v);
	signal(SIGSEGV, SIG_DFL);
	if (faulted)
		CHECK_EQ(fault_at, p);
	return faulted;
}

CASE(protected)
{
	uint8_t *p = hot_page();
	uint32_t *data = (uint32_t *)(p + DATA + 8);

	for (uint32_t i = 0; i < HEAT; i++) {
		store32(data, i);
		CHECK(!mprotect(p, PAGE, i & 1 ? PROT_READ : PROT_READ | PROT_EXEC));
		CHECK(store_faults(data, 99));
		CHECK_EQ(*data, i);
		CHECK(!mprotect(p, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
		CHECK(!store_faults(data, 100));
		CHECK_EQ(*data, 100);
		CHECK_EQ(run1(p, 0), 7);
	}
}

CASE(replaced)
{
	uint8_t *p = hot_page(), *q;
	uint32_t *data = (uint32_t *)(p + DATA + 8);

	for (uint32_t i = 0; i < HEAT; i++) {
		CHECK(mmap(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
		store32(data, i + 1);
		CHECK_EQ(*data, i + 1);
		put_ret_imm(p, i);
		CHECK_EQ(run1(p, 0), i);
		store32(data, i + 2);
		CHECK_EQ(*data, i + 2);
	}
	q = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE);
	CHECK(q == p + PAGE);
	CHECK(store_faults(data, 1));
	store32(data + PAGE / 4, 77);
	CHECK_EQ(data[PAGE / 4], 77);
	CHECK_EQ(run1(q, 0), HEAT - 1);
	CHECK(!munmap(q, PAGE));
	CHECK(store_faults(data + PAGE / 4, 1));
}

CASE(emptied)
{
	uint8_t *p = hot_page();
	uint32_t *data = (uint32_t *)(p + DATA + 8);

	for (uint32_t i = 1; i < HEAT; i++) {
		store32(data, i);
		CHECK(!madvise(p, PAGE, MADV_DONTNEED));
		CHECK_EQ(*data, 0);
		store32(data, i);
		CHECK_EQ(*data, i);
		put_ret_imm(p, i);
		CHECK_EQ(run1(p, 0), i);
	}
}

CASE(parent_and_child)
{
	uint8_t *p = hot_page();
	uint32_t *data = (uint32_t *)(p + DATA + 8);
	int status;

	for (uint32_t i = 0; i < 6; i++) {
		pid_t pid;

		store32(data, i);
		fflush(stdout);
		pid = fork();
		CHECK(pid >= 0);
		for (uint32_t k = 0; k < HEAT; k++) {
			uint32_t v = k + (pid ? 1000 : 2000);

			store32(data, v);
			CHECK_EQ(*data, v);
			store32(p + 1, v);
			CHECK_EQ(run1(p, 0), v);
		}
		if (!pid)
			_exit(0);
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK_EQ(status, 0);
		CHECK_EQ(*data, 1000 + HEAT - 1);
	}
}

static uint8_t *shared_page;

/* Another function on the page, made, run and made again. */
static void *maker(void *arg)
{
	uint8_t *at = shared_page + 1024;

	for (uint32_t i = 0; i < 2000; i++) {
		put_ret_imm(at, i);
		CHECK_EQ(run1(at, 0), i);
		store32(at + 1, ~i);
		CHECK_EQ(run1(at, 0), (uint32_t)~i);
	}
	return NULL;
}

CASE(second_thread)
{
	uint8_t *p = shared_page = hot_page();
	uint32_t *data = (uint32_t *)(p + DATA + 8);
	pthread_t t;

	for (int round = 0; round < 3; round++) {
		CHECK(!pthread_create(&t, NULL, maker, NULL));
		for (uint32_t i = 0; i < 3000; i++) {
			store32(data, i);
			CHECK_EQ(*data, i);
			CHECK_EQ(run1(p, 0), 7);
		}
		pthread_join(t, NULL);
		for (uint32_t i = 0; i < HEAT; i++) {
			store32(data, i);
			CHECK_EQ(*data, i);
			CHECK_EQ(run1(p, 0), 7);
		}
	}
}

/* One store instruction for many pages. */
CASE(from_page_to_page)
{
	uint8_t *p[40];

	for (int i = 0; i < 40; i++)
		p[i] = hot_page();
	for (uint32_t k = 0; k < 2000; k++) {
		uint8_t *at = p[k * 7 % 40];

		store32(at + DATA + 8, k);
		CHECK_EQ(*(uint32_t *)(at + DATA + 8), k);
		if (k % 16 == 0) {
			store32(at + 1, k);
			CHECK_EQ(run1(at, 0), k);
		}
	}
}

/* Each kind of mov, that v is stored by; true: carry is as it was. */
#define STORE(name, text)						\
	static __attribute__((noinline)) bool st_##name(void *p, uint64_t v)	\
	{								\
		bool carry;						\
									\
		__asm__ volatile("stc\n" text "\n setc %0"		\
				 : "=q"(carry) : "S"(p), "c"(v), "a"(v), "b"(v)	\
				 : "memory", "cc", "rdx", "rdi", "r9", "r12");	\
		return carry;						\
	}
STORE(cl, "movb %%cl, 2(%%rsi)")
STORE(ch, "movb %%cl, %%ch\n movb %%ch, 2(%%rsi)")
STORE(ah, "movb %%al, %%ah\n movb %%ah, 2(%%rsi)")
STORE(bl, "movb %%bl, 2(%%rsi)")
STORE(dil, "movq %%rcx, %%rdi\n movb %%dil, 2(%%rsi)")
STORE(r9b, "movq %%rcx, %%r9\n movb %%r9b, 2(%%rsi)")
STORE(cx, "movw %%cx, 2(%%rsi)")
STORE(r12w, "movq %%rcx, %%r12\n movw %%r12w, 2(%%rsi)")
STORE(ecx, "movl %%ecx, 2(%%rsi)")
STORE(ebx, "movl %%ebx, 2(%%rsi)")
STORE(r9d, "movq %%rcx, %%r9\n movl %%r9d, 2(%%rsi)")
STORE(rcx, "movq %%rcx, 2(%%rsi)")
STORE(rax, "movq %%rax, 2(%%rsi)")
STORE(r12, "movq %%rcx, %%r12\n movq %%r12, 2(%%rsi)")
STORE(imm8, "movb $0x95, 2(%%rsi)")
STORE(imm16, "movw $0x8195, 2(%%rsi)")
STORE(imm32, "movl $0x80000195, 2(%%rsi)")
STORE(imm64, "movq $-0x7ffffe6b, 2(%%rsi)")

/* Over code: mostly what is there already, and now and then something else. */
CASE(same_value_over_code)
{
	static const struct {
		bool (*fn)(void *p, uint64_t v);
		unsigned int bits;
		uint64_t imm;		/* or 0 */
	} stores[] = {
		{ st_cl, 8, 0 }, { st_ch, 8, 0 }, { st_ah, 8, 0 }, { st_bl, 8, 0 }, { st_dil, 8, 0 },
		{ st_r9b, 8, 0 }, { st_cx, 16, 0 }, { st_r12w, 16, 0 }, { st_ecx, 32, 0 }, { st_ebx, 32, 0 },
		{ st_r9d, 32, 0 }, { st_rcx, 64, 0 }, { st_rax, 64, 0 }, { st_r12, 64, 0 },
		{ st_imm8, 8, 0x95 }, { st_imm16, 16, 0x8195 }, { st_imm32, 32, 0x80000195 },
		{ st_imm64, 64, 0xffffffff80000195 },
	};
	uint8_t *p = place_get(PLACE_ANON, 1);
	uint64_t sum = 0;

	p[0] = 0x48;				/* movabs $0, %rax; ret */
	p[1] = 0xb8;
	p[10] = 0xc3;
	for (size_t s = 0; s < sizeof(stores) / sizeof(stores[0]); s++) {
		uint64_t mask = stores[s].bits == 64 ? -1UL : (1UL << stores[s].bits) - 1;
		uint64_t want = 0, was, v;

		for (uint32_t i = 0; i < 400; i++) {
			was = i / 16 * 0x8182838485868788;
			v = stores[s].imm ?: i / 8 * 0x9192939495969798;
			if (i % 16 == 0) {
				memcpy(p + 2, &was, 8);
				want = was;
			}
			CHECK_EQ(run1(p, 0), want);
			CHECK(stores[s].fn(p, v));
			want = (want & ~mask) | (v & mask);
			CHECK_EQ(run1(p, 0), want);
		}
		sum = sum * 31 + want;
	}
	printf("%llx\n", (long long)sum);
}
