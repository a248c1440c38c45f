// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Rule 6: the store is executed exactly once, whole, also when it crosses a page.
 *
 * Each kind of store is done natively on plain memory, and on armed pages with
 * each way of telling (ring, signal, upcall); what is in memory afterwards must
 * be the same byte for byte, in all the pages around. The kinds that read what
 * they overwrite (add, xadd, bts, cmpxchg16b) would show a second execution.
 */
#include <cpuid.h>

#include "mem_util.h"

enum { PAGES = 4 };

/* Instruction under test; memory operand at rdi, argument in rsi, count in rdx. */
typedef void store_fn(void *to, uint64_t arg, uint64_t count);

store_fn st_mov, st_add, st_lock_add, st_xadd, st_xchg, st_bts, st_cmpxchg16b,
	 st_movsb, st_movsq_back, st_stosq, st_avx, st_movdqu, st_maskmovdqu,
	 st_movnti, st_xsave, st_fxsave, st_fnsave, st_fstp, st_push, st_call,
	 st_enter;
extern char st_start[], st_end[], st_handler[];

/*
 * The upcall handler changes %r11, which none of these reads. The register state
 * that xsave and fxsave store is set right before them.
 */
asm(".pushsection .text\n"
    ".balign 64\n"
    "st_start:\n"
    "st_mov:	mov %rsi, (%rdi)\n	ret\n"
    "st_add:	addq %rsi, (%rdi)\n	ret\n"
    "st_lock_add: lock addq %rsi, (%rdi)\n	ret\n"
    "st_xadd:	lock xaddq %rsi, (%rdi)\n	ret\n"
    "st_xchg:	xchg %rsi, (%rdi)\n	ret\n"
    "st_bts:	lock btsq %rsi, (%rdi)\n	ret\n"
    "st_cmpxchg16b:\n"
    "	push %rbx\n"
    "	mov %rsi, %rbx\n"
    "	mov %rsi, %rcx\n"
    "	mov (%rdi), %rax\n"
    "	mov 8(%rdi), %rdx\n"
    "	lock cmpxchg16b (%rdi)\n"
    "	pop %rbx\n"
    "	ret\n"
    "st_movsb:	mov %rdx, %rcx\n	rep movsb\n	ret\n"
    "st_movsq_back:\n"
    "	mov %rdx, %rcx\n"
    "	std\n"
    "	rep movsq\n"
    "	cld\n"
    "	ret\n"
    "st_stosq:	mov %rdx, %rcx\n	mov %rsi, %rax\n	rep stosq\n	ret\n"
    "st_avx:	vmovups (%rsi), %ymm0\n	vmovups %ymm0, (%rdi)\n"
    "	vzeroupper\n	ret\n"
    "st_movdqu:	movdqu (%rsi), %xmm0\n	movdqu %xmm0, (%rdi)\n	ret\n"
    "st_maskmovdqu:\n"
    "	movdqu (%rsi), %xmm0\n"
    "	movdqu %xmm0, %xmm1\n"
    "	maskmovdqu %xmm1, %xmm0\n"
    "	ret\n"
    "st_movnti:	movnti %rsi, (%rdi)\n	sfence\n	ret\n"
    "st_xsave:\n"
    "	fninit\n"
    "	vzeroall\n"
    "	mov $-1, %eax\n"
    "	mov $-1, %edx\n"
    "	xsave64 (%rdi)\n"
    "	ret\n"
    "st_fxsave:\n"
    "	fninit\n"
    "	vzeroall\n"
    "	fxsave64 (%rdi)\n"
    "	ret\n"
    "st_fnsave:	fninit\n	fnsave (%rdi)\n	ret\n"
    "st_fstp:	fldpi\n	fstpt (%rdi)\n	ret\n"
    "st_push:\n"
    "	mov %rsp, %rcx\n"
    "	mov %rdi, %rsp\n"
    "	push %rsi\n"
    "	mov %rcx, %rsp\n"
    "	ret\n"
    "st_call:\n"
    "	mov %rsp, %rcx\n"
    "	mov %rdi, %rsp\n"
    "	call 1f\n"
    "1:	mov %rcx, %rsp\n"
    "	ret\n"
    "st_enter:\n"
    "	mov %rsp, %rcx\n"
    "	mov %rbp, %rdx\n"
    "	mov %rdi, %rsp\n"
    "	mov %rsi, %rbp\n"
    "	enter $16, $0\n"
    "	mov %rdx, %rbp\n"
    "	mov %rcx, %rsp\n"
    "	ret\n"
    "st_end:\n"
    /* Unlike kmod_test.h's, this one brings the flags back: rep movs needs DF. */
    "st_handler:\n"
    "	endbr64\n"
    "	incq 96(%rdi)\n"		/* scratch[0] */
    "	mov %rax, 112(%rdi)\n"		/* scratch[2] */
    "	mov 8(%rdi), %rax\n"		/* ip */
    "	mov %rax, 120(%rdi)\n"		/* scratch[3] */
    "	mov 112(%rdi), %rax\n"
    "	pushq 24(%rdi)\n"		/* flags */
    "	popfq\n"
    "	mov 16(%rdi), %rsp\n"
    "	mov %rdi, %r11\n"
    "	mov 32(%rdi), %rdi\n"
    "	movl $0, (%r11)\n"
    "	jmp *120(%r11)\n"
    ".popsection\n");

static uint64_t source[PAGES * PAGE / 8];

static void fill(char *p)
{
	for (size_t i = 0; i < PAGES * PAGE; i++)
		p[i] = i * 7 + i / PAGE;
}

_Static_assert(offsetof(struct codewp_area, flags) == 24, "st_handler knows it");

/* ---- the three ways of telling ---- */

enum way { RING, SIGNAL, UPCALL, WAYS };
static const char *const way_name[] = { "ring", "signal", "upcall" };

static volatile unsigned int signals;

static void on_segv(int sig, siginfo_t *info, void *uc)
{
	if (info->si_code != SEGV_ACCERR)
		_exit(1);
	signals++;
}

static void catch_segv(void)
{
	static char stack[65536];
	struct sigaction sa = { .sa_sigaction = on_segv,
				.sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };

	/* The stores' own stack pointer may be inside the armed page. */
	ASSERT_OK(sigaltstack(&ss, NULL));
	ASSERT_OK(sigaction(SIGSEGV, &sa, NULL));
}

static char handler_stack[4096] __attribute__((aligned(16)));

static int register_thread(enum way way, struct codewp_area **area)
{
	struct codewp_thread_create c = {
		.flags = way == UPCALL ? CODEWP_THREAD_UPCALL : CODEWP_THREAD_SIGNAL,
		.ring_fd = -1,
		.handler = (uintptr_t)st_handler,
		.stack = (uintptr_t)handler_stack + sizeof(handler_stack),
		.code_start = (uintptr_t)st_start,
		.code_end = (uintptr_t)st_end,
	};
	char *at;
	int fd;

	at = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(at != MAP_FAILED);
	c.arg = (uintptr_t)at;
	if (way == SIGNAL) {
		c.handler = 0;
		c.stack = 0;
		c.arg = 0;
		catch_segv();
	}
	fd = ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_THREAD, &c));
	ASSERT(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		    0) == at);
	*area = (void *)at;
	return fd;
}

/* How often was it told since the last call? */
static unsigned int told(struct rig *r, enum way way, struct codewp_area *area)
{
	unsigned int n = 0;

	switch (way) {
	case RING: {
		char seen[PAGES];

		return rig_collect(r, 0, PAGES, seen);
	}
	case SIGNAL:
		n = signals;
		signals = 0;
		break;
	default:
		n = area->scratch[0];
		area->scratch[0] = 0;
	}
	rig_expect_none(r);
	return n;
}

/*
 * Do the store at byte @at; it writes into pages [first, last]. With @arg a
 * pointer into source[], which is never armed.
 */
static void check(store_fn *store, size_t at, uint64_t arg, uint64_t count,
		  size_t first, size_t last)
{
	char *native = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct codewp_area *area = NULL;

	ASSERT(native != MAP_FAILED);
	for (size_t i = 0; i < sizeof(source) / 8; i++)
		source[i] = 0x8081828384858687 * (i + 1);
	fill(native);
	store(native + at, arg, count);

	for (enum way way = RING; way < WAYS; way++) {
		struct rig r;
		unsigned int n;
		int fd = -1;

		rig_open(&r, PAGES, 0);
		fill(rig_alias(&r));
		if (way != RING)
			fd = register_thread(way, &area);
		rig_arm(&r, 0, PAGES);

		/* st_call leaves its own address: the same in both runs. */
		store(r.map + at, arg, count);

		for (size_t i = 0; i < PAGES * PAGE; i++)
			if (native[i] != r.map[i])
				TEST_FAIL("%s: byte %zu is %#x, natively %#x",
					  way_name[way], i, r.map[i] & 255,
					  native[i] & 255);
		for (size_t i = 0; i < PAGES; i++)
			if (rig_armed(&r, i) != (i < first || i > last))
				TEST_FAIL("%s: page %zu is %sarmed", way_name[way], i,
					  rig_armed(&r, i) ? "" : "not ");
		n = told(&r, way, area);
		if (n != last - first + 1)
			TEST_FAIL("%s: told %u times", way_name[way], n);
		ASSERT_EQ(kt_stat(r.view).traps, last - first + 1);
		if (fd >= 0) {
			ASSERT_OK(munmap(area, PAGE));
			ASSERT_OK(close(fd));
		}
	}
}

static void need_avx(void)
{
	if (!__builtin_cpu_supports("avx"))
		SKIP("this CPU has no AVX");
}

#define SRC ((uintptr_t)source)
#define CROSS8 (2 * PAGE - 3)	/* three bytes on page 1, the rest on page 2 */

TEST(rule6_mov_in_one_page)
{
	check(st_mov, PAGE + 40, 0x1122334455667788, 0, 1, 1);
}

TEST(rule6_mov_across_pages)
{
	check(st_mov, CROSS8, 0x1122334455667788, 0, 1, 2);
}

TEST(rule6_add_across_pages_once)
{
	check(st_add, CROSS8, 0x0101010101010101, 0, 1, 2);
}

TEST(rule6_lock_add_once)
{
	check(st_lock_add, PAGE + 8, 12345, 0, 1, 1);
}

TEST(rule6_lock_add_across_pages_once)
{
	check(st_lock_add, CROSS8, 12345678901, 0, 1, 2);
}

TEST(rule6_xadd_once)
{
	check(st_xadd, PAGE + 8, 777, 0, 1, 1);
}

TEST(rule6_xchg)
{
	check(st_xchg, PAGE * 2 - 8, 777, 0, 1, 1);
}

/* Bit 32768 of page 0's start is in page 1: the address is not the operand's. */
TEST(rule6_bts_far_from_its_operand)
{
	check(st_bts, 0, 32768 + 13, 0, 1, 1);
}

TEST(rule6_cmpxchg16b)
{
	check(st_cmpxchg16b, PAGE + 32, 0xabcdef, 0, 1, 1);
}

TEST(rule6_rep_movsb_over_three_pages)
{
	check(st_movsb, PAGE - 100, SRC, PAGE + 200, 0, 2);
}

TEST(rule6_rep_movsq_backwards)
{
	check(st_movsq_back, 2 * PAGE + 64, SRC + PAGE, 256, 1, 2);
}

TEST(rule6_rep_stosq)
{
	check(st_stosq, PAGE + 4000, 0x5a5a5a5a5a5a5a5a, 600, 1, 3);
}

TEST(rule6_movdqu_across_pages)
{
	check(st_movdqu, 2 * PAGE - 5, SRC, 0, 1, 2);
}

TEST(rule6_maskmovdqu)
{
	check(st_maskmovdqu, PAGE + 5, SRC, 0, 1, 1);
}

TEST(rule6_movnti)
{
	check(st_movnti, PAGE + 16, 42, 0, 1, 1);
}

TEST(rule6_avx_across_pages)
{
	need_avx();
	check(st_avx, 2 * PAGE - 9, SRC, 0, 1, 2);
}

TEST(rule6_xsave_across_pages)
{
	unsigned int a, b, c, d;

	need_avx();
	__cpuid_count(0xd, 0, a, b, c, d);
	ASSERT_LT(b, PAGE);
	check(st_xsave, 2 * PAGE - 576, 0, 0, 1, 2);
}

TEST(rule6_fxsave_across_pages)
{
	need_avx();
	check(st_fxsave, 2 * PAGE - 256, 0, 0, 1, 2);
}

TEST(rule6_fnsave_across_pages)
{
	check(st_fnsave, 2 * PAGE - 50, 0, 0, 1, 2);
}

TEST(rule6_x87_store_across_pages)
{
	check(st_fstp, 2 * PAGE - 5, 0, 0, 1, 2);
}

TEST(rule6_push_across_pages)
{
	check(st_push, 2 * PAGE + 4, 0x1020304050607080, 0, 1, 2);
}

TEST(rule6_call)
{
	check(st_call, 2 * PAGE, 0, 0, 1, 1);
}

TEST(rule6_enter)
{
	check(st_enter, 2 * PAGE - 100, 77, 0, 1, 1);
}
