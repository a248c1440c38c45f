// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Instructions that few programs have: what faults, and how; far returns;
 * single-stepping; selectors and %gs where no operand names it. Each is run natively
 * as well, so what is printed is what the CPU and the kernel do.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "guest.h"

static sigjmp_buf back;
static uint8_t *code;
static int traces;

/* The signal as the kernel tells it; the address relative to the snippet. */
static void report(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	const greg_t *g = uc->uc_mcontext.gregs;

	printf("  %d code %d trap %lld err %llx at %lld%s\n", sig, info->si_code,
	       (long long)g[REG_TRAPNO], (long long)g[REG_ERR],
	       (long long)(g[REG_RIP] - (uintptr_t)code),
	       info->si_addr == (void *)g[REG_RIP] ? " addr" : "");
	siglongjmp(back, 1);
}

static void on(int sig, void (*fn)(int sig, siginfo_t *info, void *context))
{
	struct sigaction sa = { .sa_sigaction = fn,
				.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };
	static char stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };

	CHECK(!sigaltstack(&ss, NULL));
	CHECK(!sigaction(sig, &sa, NULL));
}

static uint8_t *code_page(void)
{
	uint8_t *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static void fault_of(const char *name, const uint8_t *bytes, size_t n)
{
	on(SIGSEGV, report);
	on(SIGILL, report);
	on(SIGTRAP, report);
	on(SIGBUS, report);
	if (!code)
		code = code_page();
	code += 32;
	memset(code, 0x90, 16);
	memcpy(code, bytes, n);
	code[16] = 0xc3;
	printf("%s\n", name);
	if (!sigsetjmp(back, 1)) {
		run1(code, 0);
		puts("  nothing");
	}
}

#define FAULT(...) do {						\
	const uint8_t bytes_[] = { __VA_ARGS__ };		\
	fault_of(#__VA_ARGS__, bytes_, sizeof(bytes_));		\
} while (0)

CASE(what_faults)
{
	FAULT(0xcd, 0x04);			/* int n */
	FAULT(0xcd, 0x20);
	FAULT(0xcd, 0x01);
	FAULT(0xcd, 0xff);
	FAULT(0xcd, 0x03);
	FAULT(0xcc);
	FAULT(0xf1);				/* int1 */
	FAULT(0xf4);				/* hlt, cli, in, out, rdmsr, lgdt, mov cr */
	FAULT(0xfa);
	FAULT(0xec);
	FAULT(0xee);
	FAULT(0x0f, 0x32);
	FAULT(0x0f, 0x01, 0x10);
	FAULT(0x0f, 0x20, 0xc0);
	FAULT(0x0f, 0x07);			/* sysret */
	FAULT(0x0f, 0x0b);			/* ud2 */
	FAULT(0x06);				/* gone in 64-bit mode: push %es, aaa, into */
	FAULT(0x37);
	FAULT(0xce);
	FAULT(0x0f, 0x04);			/* never defined */
	FAULT(0xf0, 0x01, 0xc8);		/* lock add %ecx, %eax */
	FAULT(0xf0, 0x90);
	FAULT(0x8c, 0xf8);			/* mov %?, %eax */
	FAULT(0x8e, 0xc8);			/* mov %eax, %cs */
	FAULT(0x66, 0xc5, 0xf9, 0x6f, 0xc0);	/* a prefix before VEX */
	FAULT(0x0f, 0x01, 0xc8);		/* monitor */
	FAULT(0xf3, 0x0f, 0xc7, 0xf8 ^ 0x40);	/* what is no instruction of group 9 */
}

CASE(too_long)
{
	uint8_t b[16];

	memset(b, 0x66, sizeof(b));
	b[13] = 0x01;
	b[14] = 0xc8;
	fault_of("15 bytes", b, 15);
	b[13] = 0x66;
	b[14] = 0x01;
	b[15] = 0xc8;
	fault_of("16 bytes", b, 16);
}

/* The instruction goes on where nothing is mapped. */
CASE(second_page_is_missing)
{
	static const uint8_t mov[] = { 0xb8, 1, 2, 3, 4 };
	uint8_t *p = code_page();

	on(SIGSEGV, report);
	CHECK(!munmap(p + PAGE, PAGE));
	for (size_t n = 1; n <= 5; n++) {
		code = p + PAGE - n;
		memcpy(code, mov, n);
		if (!sigsetjmp(back, 1))
			run1(code, 0);
	}
	CHECK(mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	      p + PAGE);
	if (!sigsetjmp(back, 1))
		run1(code + 2, 0);
}

/* ---- far ------------------------------------------------------------------- */

CASE(far_returns)
{
	uint64_t a = 1, b = 2, c = 3, sp, sp2;

	__asm__ volatile("movq %%rsp, %1\n leaq -128(%%rsp), %%rsp\n"
			 "pushq $0x33\n leaq 1f(%%rip), %%rax\n pushq %%rax\n lretq\n"
			 "movl $7, %k0\n 1: addl $10, %k0\n"
			 "leaq 128(%%rsp), %%rsp\n movq %%rsp, %2"
			 : "+b"(a), "=&r"(sp), "=&r"(sp2) : : "rax", "cc", "memory");
	CHECK_EQ(a, 11);
	CHECK_EQ(sp, sp2);
	__asm__ volatile("movq %%rsp, %1\n leaq -128(%%rsp), %%rsp\n subq $16, %%rsp\n"
			 "pushq $0x33\n leaq 1f(%%rip), %%rax\n pushq %%rax\n lretq $16\n"
			 "movl $7, %k0\n 1: addl $10, %k0\n"
			 "leaq 128(%%rsp), %%rsp\n movq %%rsp, %2"
			 : "+b"(b), "=&r"(sp), "=&r"(sp2) : : "rax", "cc", "memory");
	CHECK_EQ(b, 12);
	CHECK_EQ(sp, sp2);
	__asm__ volatile("movq %%rsp, %1\n leaq -128(%%rsp), %%rsp\n"
			 "movq %%rsp, %%rcx\n pushq $0x2b\n pushq %%rcx\n pushq $0xed7\n"
			 "pushq $0x33\n leaq 1f(%%rip), %%rax\n pushq %%rax\n iretq\n"
			 "movl $7, %k0\n 1: pushfq\n popq %%rdx\n cld\n addl $10, %k0\n"
			 "leaq 128(%%rsp), %%rsp\n movq %%rsp, %2"
			 : "+b"(c), "=&r"(sp), "=&r"(sp2) : : "rax", "rcx", "rdx", "cc", "memory");
	CHECK_EQ(c, 13);
	CHECK_EQ(sp, sp2);
}

CASE(far_to_nowhere)
{
	/* push $sel; push $0x1000; lretq */
	FAULT(0x6a, 0x2b, 0x68, 0, 0x10, 0, 0, 0x48, 0xcb);
	FAULT(0x6a, 0x00, 0x68, 0, 0x10, 0, 0, 0x48, 0xcb);
	FAULT(0x6a, 0x10, 0x68, 0, 0x10, 0, 0, 0x48, 0xcb);
	FAULT(0x31, 0xe4, 0x48, 0xcb);		/* no stack */
	FAULT(0x31, 0xe4, 0x48, 0xcf);
}

CASE(far_jump)
{
	struct { uint32_t off; uint16_t sel; } __attribute__((packed)) ptr = { 0, 0x33 };
	uint8_t *p = mmap((void *)0x20000000, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	CHECK(p == (void *)0x20000000);
	put_ret_imm(p + 64, 77);
	ptr.off = 0x20000040;
	memcpy(p, (uint8_t[]){ 0xff, 0x2f }, 2);	/* ljmp *(%rdi) */
	CHECK_EQ(run1(p, (uintptr_t)&ptr), 77);
}

/* ---- the trap flag ------------------------------------------------------------ */

static void trace(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;

	printf("  trace %lld code %d trap %lld tf %d%s\n",
	       (long long)(g[REG_RIP] - (uintptr_t)code), info->si_code,
	       (long long)g[REG_TRAPNO], (int)(g[REG_EFL] >> 8 & 1),
	       info->si_addr == (void *)g[REG_RIP] ? " addr" : "");
	if (++traces == 40)
		g[REG_EFL] &= ~0x100;
}

TEMPLATE(t_stepped,
	 "pushfq\n orq $0x100, (%rsp)\n popfq\n"
	 "nop\n movl $3, %ecx\n 1: loop 1b\n call 2f\n jmp 3f\n 2: ret\n 3:\n"
	 "pushfq\n popq %rax\n andl $0x100, %eax\n"
	 "leaq 4f(%rip), %rdx\n jmp *%rdx\n ud2\n 4:\n"
	 "pushq $0x33\n leaq 5f(%rip), %rdx\n pushq %rdx\n lretq\n 5:\n"
	 "pushfq\n andq $~0x100, (%rsp)\n popfq\n nop\n ret\n");

CASE(single_step)
{
	on(SIGTRAP, trace);
	code = code_page();
	PUT(code, t_stepped);
	CHECK_EQ(run1(code, 0), 0x100);
	CHECK(traces > 15 && traces < 40);
}

/* The handler begins it, in the context that it returns to, and ends it. */
CASE(handler_steps)
{
	traces = 36;
	on(SIGTRAP, trace);
	code = code_page();
	PUT(code, t_stepped);
	CHECK_EQ(run1(code, 0) & ~0x100UL, 0);
	CHECK_EQ(traces, 40);
}

TEMPLATE(t_step_syscall,
	 "pushfq\n orq $0x100, (%rsp)\n popfq\n movl $39, %eax\n syscall\n nop\n nop\n"
	 "pushfq\n andq $~0x100, (%rsp)\n popfq\n ret\n");

CASE(step_over_a_call)
{
	on(SIGTRAP, trace);
	code = code_page();
	PUT(code, t_step_syscall);
	CHECK_EQ(run1(code, 0), getpid());
}

/* ---- %gs ------------------------------------------------------------------------ */

static uint8_t area[64] __attribute__((aligned(64)));

static void gs_on(void)
{
	for (int i = 0; i < 64; i++)
		area[i] = i * 5 + 1;
	CHECK(!syscall(SYS_arch_prctl, 0x1001, area));
}

CASE(gs_without_a_name)
{
	uint64_t a, si, di, cx;
	uint8_t to[64];

	gs_on();
	si = 3;
	__asm__ volatile("lodsb %%gs:(%%rsi), %%al" : "+S"(si), "=a"(a) : "1"(0L));
	printf("lods %lx %ld\n", a & 0xff, (long)si);
	memset(to, 0, sizeof(to));
	si = 8, cx = 20, di = (uintptr_t)to;
	__asm__ volatile("rep movsb %%gs:(%%rsi), %%es:(%%rdi)"
			 : "+S"(si), "+D"(di), "+c"(cx) : : "memory");
	CHECK(!memcmp(to, area + 8, 20) && !to[20]);
	printf("movs %ld %ld %ld\n", (long)si, (long)(di - (uintptr_t)to), (long)cx);
	to[10] ^= 1;
	si = 8, cx = 20, di = (uintptr_t)to;
	__asm__ volatile("repe cmpsb %%es:(%%rdi), %%gs:(%%rsi)"
			 : "+S"(si), "+D"(di), "+c"(cx) : : "memory", "cc");
	printf("cmps %ld %ld\n", (long)si, (long)cx);
	__asm__ volatile(".byte 0x65\n xlatb" : "=a"(a) : "0"(5L), "b"(9L));
	printf("xlat %lx\n", a & 0xff);
	__asm__ volatile(".byte 0x65, 0x48, 0xa1\n .quad 16" : "=a"(a));
	printf("moffs %lx\n", a);
	a = 0x1122334455667788;
	__asm__ volatile(".byte 0x65, 0x66, 0xa3\n .quad 24" : : "a"(a) : "memory");
	__asm__ volatile(".byte 0x65, 0xa2\n .quad 30" : : "a"(a) : "memory");
	__asm__ volatile(".byte 0x65, 0x67, 0xa3\n .long 32" : : "a"(a) : "memory");
	for (int i = 20; i < 40; i++)
		printf("%02x", area[i]);
	__asm__ volatile("pcmpeqb %%xmm1, %%xmm1\n movq %1, %%xmm0\n"
			 ".byte 0x65\n maskmovdqu %%xmm1, %%xmm0"
			 : : "D"(40L), "r"(a) : "xmm0", "xmm1", "memory");
	for (int i = 40; i < 60; i++)
		printf("%02x", area[i]);
	puts("");
}

CASE(selectors)
{
	unsigned long v = 1, base;
	uint16_t w = 1, sel = 0x2b;

	if (!(getauxval(AT_HWCAP2) & 2)) {
		puts("no FSGSBASE here");
		return;
	}
	gs_on();
	__asm__ volatile("movl %%gs, %k0" : "=r"(v));
	printf("%lx\n", v);
	__asm__ volatile("movl %2, %%gs\n movq %%gs, %0\n rdgsbase %1"
			 : "=&r"(v), "=r"(base) : "r"(0x2b));
	printf("%lx %lx\n", v, base);
	gs_on();
	__asm__ volatile("movw %%gs, %0" : "=r"(w));
	printf("%x\n", w);
	__asm__ volatile("movw %2, %%gs\n pushq %%gs\n popq %0\n rdgsbase %1"
			 : "=&r"(v), "=r"(base) : "m"(sel));
	printf("%lx %lx\n", v, base);
	gs_on();
	__asm__ volatile("pushq $0\n popq %%gs\n rdgsbase %0\n movl %%gs, %k1"
			 : "=&r"(base), "=r"(v));
	printf("%d %lx\n", base == (uintptr_t)area, v);
	gs_on();
	__asm__ volatile("rdfsbase %1\n movl %2, %%fs\n movl %%fs, %k0\n movl %3, %%fs\n wrfsbase %1"
			 : "=&r"(v), "=&r"(base) : "r"(0x2b), "r"(0));
	printf("%lx\n", v);
	errno = 3;
	CHECK_EQ(errno, 3);
	FAULT(0xb8, 0x10, 0, 0, 0, 0x8e, 0xe8);		/* the kernel's, to %gs */
	FAULT(0xb8, 0xfb, 0xff, 0, 0, 0x8e, 0xe8);	/* beyond the table */
	FAULT(0xb8, 0x10, 0, 0, 0, 0x8e, 0xe0);		/* to %fs */
	__asm__ volatile("rdgsbase %0" : "=r"(base));
	CHECK_EQ(base, (uintptr_t)area);
}

/* ---- 66 and 67 before branches ------------------------------------------------------ */

TEMPLATE(t_jecxz,
	 "movabsq $0x100000000, %rcx\n xorl %eax, %eax\n .byte 0x67\n jrcxz 1f\n incl %eax\n"
	 "1: jrcxz 2f\n addl $2, %eax\n 2: movl $2, %ecx\n 3: addl $16, %eax\n .byte 0x67\n"
	 "loop 3b\n .byte 0x3e\n jnz 4f\n .byte 0x2e\n jz 4f\n 4: rep ret\n");

CASE(prefixes_of_branches)
{
	code = code_page();
	PUT(code, t_jecxz);
	CHECK_EQ(run1(code, 0), 34);
}
