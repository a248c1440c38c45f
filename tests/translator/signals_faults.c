// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Signals that an instruction raises: what the handler is told, to the register,
 * and what it may change. Addresses are printed relative to something known.
 */
#include "signals.h"

#include <setjmp.h>
#include <sys/resource.h>

static sigjmp_buf jump;

/* x87 and SSE as in a new process. */
static void default_fpu(void)
{
	__asm__ volatile("fninit; ldmxcsr %0" :: "m"((uint32_t){ 0x1f80 }));
}

/* --- the context -------------------------------------------------------------- */

static const struct { const char *name; int reg; } regs[] = {
	{ "rax", REG_RAX }, { "rbx", REG_RBX }, { "rcx", REG_RCX }, { "rdx", REG_RDX },
	{ "rsi", REG_RSI }, { "rdi", REG_RDI }, { "rbp", REG_RBP }, { "r8", REG_R8 },
	{ "r9", REG_R9 }, { "r10", REG_R10 }, { "r11", REG_R11 }, { "r12", REG_R12 },
	{ "r13", REG_R13 }, { "r14", REG_R14 }, { "r15", REG_R15 },
};

static uint8_t *code;		/* the snippet under test */
static uint8_t *data;		/* what it works on: a page, then none */
extern uint64_t stack_at;	/* its stack pointer; the assembly below names it */
uint64_t stack_at;

static const char *place_of(uint64_t addr, uint64_t *off)
{
	if (addr - (uint64_t)data + 16 < 4 * PAGE) {
		*off = addr - (uint64_t)data;
		return "data";
	}
	if (addr - (uint64_t)code < 0x80000) {
		*off = addr - (uint64_t)code;
		return "code";
	}
	*off = addr;
	return "";
}

static void describe(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;
	greg_t *greg = uc->uc_mcontext.gregs;
	uint64_t off, cr2;
	const char *where;

	/* Alignment checks stay on in a handler, and libc does not keep to them. */
	__asm__ volatile("lea -128(%%rsp), %%rsp; pushf; andl $~0x40000, (%%rsp); popf;"
			 "lea 128(%%rsp), %%rsp" ::: "cc", "memory");
	where = place_of((uint64_t)info->si_addr, &off);
	printf("sig %d code %d errno %d addr %s+%#lx", sig, info->si_code, info->si_errno, where,
	       (long)off);
	where = place_of(greg[REG_RIP], &off);
	printf(" rip %s+%#lx", where, (long)off);
	where = place_of(greg[REG_CR2], &cr2);
	/* the page may have been touched before or not: bit 0 of a data access */
	printf(" trap %lld err %#llx", greg[REG_TRAPNO],
	       greg[REG_TRAPNO] == 14 ? greg[REG_ERR] & ~1LL : greg[REG_ERR]);
	if (greg[REG_TRAPNO] == 14)
		printf(" cr2 %s+%#lx", where, (long)cr2);
	printf(" flags %#llx cs %#llx\n", greg[REG_EFL] & 0x40cd5, greg[REG_CSGSFS] & 0xffff);
	for (size_t i = 0; i < sizeof(regs) / sizeof(*regs); i++) {
		where = place_of(greg[regs[i].reg], &off);
		printf("%s %s%#lx ", regs[i].name, where, (long)off);
	}
	off = greg[REG_RSP] - stack_at;
	where = off + 4096 < 8192 ? "top" : place_of(greg[REG_RSP], &off);
	printf("rsp %s%+ld\n", where, (long)off);
	siglongjmp(jump, 1);
}

/* Registers full of patterns, rdi the data, then the snippet. */
__asm__(".text\n"
	"run_snippet:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rsp, stack_at(%rip)\n"
	"	mov $0x1111222233334444, %rbx\n"
	"	mov $0x2222333344445555, %rcx\n"
	"	mov $0x3333444455556666, %rdx\n"
	"	mov $0x4444555566667777, %rsi\n"
	"	mov $0x5555666677778888, %rbp\n"
	"	mov $0x6666777788889999, %r8\n"
	"	mov $0x777788889999aaaa, %r9\n"
	"	mov $0x88889999aaaabbbb, %r10\n"
	"	mov $0x9999aaaabbbbcccc, %r11\n"
	"	mov $0xaaaabbbbccccdddd, %r12\n"
	"	mov $0xbbbbccccddddeeee, %r13\n"
	"	mov $0xccccddddeeeeffff, %r14\n"
	"	mov $0xddddeeeeffff0000, %r15\n"
	"	cmp %rbx, %rcx\n"
	"	call *%rax\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n");
void run_snippet(const void *snippet, void *on_data);

#define SNIPPET(name, text) TEMPLATE(name, "nop\n nop\n" text "\n ret\n")

SNIPPET(s_read, "mov 0x1008(%rdi), %rax");
SNIPPET(s_write, "movl $5, 0x1010(%rdi)");
SNIPPET(s_write_crossing, "mov %rbx, 0xffe(%rdi)");
SNIPPET(s_rmw, "lock addl $5, 0x1010(%rdi)");
SNIPPET(s_push, "lea 0x1008(%rdi), %rsp; mov %rsp, %rax; add $8, %rsp; push %rbx; ud2");
SNIPPET(s_vector, "movups %xmm0, 0xff8(%rdi)");
SNIPPET(s_rip_relative, "mov far_away(%rip), %rax; .set far_away, . + 0x40000");
SNIPPET(s_string, "lea 0xff0(%rdi), %rdi; mov $7, %ecx; xor %eax, %eax; rep stosq");
SNIPPET(s_noncanonical, "mov $0x8000000000000000, %r11; mov (%r11), %rax");
SNIPPET(s_noncanonical_stack, "mov $0x8000000000000000, %rbp; mov (%rbp), %rax");
SNIPPET(s_null_call, "xor %eax, %eax; call *%rax");
SNIPPET(s_jump_to_data, "jmp *%rdi");
SNIPPET(s_jump_to_nowhere, "add $0x1000, %rdi; jmp *%rdi");
SNIPPET(s_divide, "xor %ecx, %ecx; mov $1, %eax; cltd; idiv %ecx");
SNIPPET(s_divide_overflow, "mov $0x80000000, %eax; cltd; mov $-1, %ecx; idiv %ecx");
SNIPPET(s_divide_memory, "movl $0, (%rdi); mov $1, %eax; cltd; divl (%rdi)");
SNIPPET(s_ud2, "ud2");
SNIPPET(s_ud1, "ud1 %eax, %ebx");
SNIPPET(s_int3, "int3");
SNIPPET(s_int3_long, ".byte 0xcd, 3");
SNIPPET(s_hlt, "hlt");
SNIPPET(s_cli, "cli");
SNIPPET(s_in, "in %dx, %al");
SNIPPET(s_cr, "mov %cr0, %rax");
SNIPPET(s_x87, "push $0x360; fldcw (%rsp); pop %rax; fld1; fldz; fdivrp; nop; fwait");
SNIPPET(s_sse, "push $0x1d80; ldmxcsr (%rsp); pop %rax; mov $1, %eax; cvtsi2sd %eax, %xmm0;"
	"xorps %xmm1, %xmm1; divsd %xmm1, %xmm0");
SNIPPET(s_movaps, "movaps 8(%rdi), %xmm0");
SNIPPET(s_alignment, "pushf; orl $0x40000, (%rsp); popf; mov 1(%rdi), %eax");

static const struct {
	const char *name;
	const uint8_t *start, *end;
} snippets[] = {
#define S(n) { #n, n##_start, n##_end }
	S(s_read), S(s_write), S(s_write_crossing), S(s_rmw), S(s_push), S(s_vector),
	S(s_rip_relative), S(s_string), S(s_noncanonical), S(s_noncanonical_stack),
	S(s_null_call), S(s_jump_to_data), S(s_jump_to_nowhere), S(s_divide),
	S(s_divide_overflow), S(s_divide_memory), S(s_ud2), S(s_ud1), S(s_int3), S(s_int3_long),
	S(s_hlt), S(s_cli), S(s_in), S(s_cr), S(s_x87), S(s_sse), S(s_movaps), S(s_alignment),
};

static void set_up(void)
{
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };

	fresh();
	for (size_t i = 0; i < 5; i++)
		on(sigs[i], describe, SA_ONSTACK);
	CHECK(!sigaltstack(&ss, NULL));
}

/* A page of data with nothing behind it, far from all else. */
static void get_data(void)
{
	data = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(data != MAP_FAILED);
	CHECK(!munmap(data + PAGE, 63 * PAGE));
	memset(data, 0, PAGE);
}

static void contexts_in(enum place where)
{
	bool vm = getenv("CODEWP_VM");

	set_up();
	get_data();
	code = place_get(where, 2);
	for (size_t i = 0; i < sizeof(snippets) / sizeof(*snippets); i++) {
		/* an emulated CPU may not know of it */
		if (vm && (snippets[i].start == s_alignment_start ||
			   snippets[i].start == s_int3_long_start))
			continue;
		printf("%s: ", snippets[i].name);
		memcpy(code, snippets[i].start, snippets[i].end - snippets[i].start);
		memset(data, 0, PAGE);
		if (!sigsetjmp(jump, 1)) {
			run_snippet(code, data);
			puts("nothing happened");
		}
		default_fpu();
	}
	munmap(data, PAGE);
}

CASE(context_in_anonymous_memory)
{
	contexts_in(PLACE_ANON);
}

CASE(context_in_shared_memory)
{
	contexts_in(PLACE_MEMFD);
}

CASE(context_in_a_file)
{
	contexts_in(PLACE_FILE);
}

CASE(context_in_bss)
{
	contexts_in(PLACE_BSS);
}

/* Protections, and a file's end. */
static const uint8_t *page;

static void where(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;

	printf("sig %d code %d addr %ld trap %lld err %#llx\n", sig, info->si_code,
	       (long)((uint8_t *)info->si_addr - page), uc->uc_mcontext.gregs[REG_TRAPNO],
	       uc->uc_mcontext.gregs[REG_ERR] & ~1LL);
	siglongjmp(jump, 1);
}

CASE(protections)
{
	static const int prots[] = {
		PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC,
	};
	volatile uint8_t *volatile p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = temp_file(PAGE);

	fresh();
	on(SIGSEGV, where, 0);
	on(SIGBUS, where, 0);
	page = (uint8_t *)p;
	for (size_t i = 0; i < sizeof(prots) / sizeof(*prots); i++) {
		p = (volatile uint8_t *)page;
		CHECK(!mprotect((void *)p, PAGE, PROT_READ | PROT_WRITE));
		p[8] = 0xc3;
		CHECK(!mprotect((void *)p, PAGE, prots[i]));
		printf("prot %d\n", prots[i]);
		if (!sigsetjmp(jump, 1))
			printf("read %d\n", p[8]);
		if (!sigsetjmp(jump, 1)) {
			p[9] = 1;
			puts("wrote");
		}
		if (!sigsetjmp(jump, 1)) {
			run1((void *)(p + 8), 0);
			puts("ran");
		}
	}
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, 0);
	page = (uint8_t *)p;
	p[0] = 1;
	if (!sigsetjmp(jump, 1))
		p[PAGE] = 1;
	if (!sigsetjmp(jump, 1))
		run1((void *)(p + PAGE + 4), 0);
}

/* --- changing it ---------------------------------------------------------------- */

struct xstate {			/* as FXSAVE has it, then the rest */
	uint16_t fcw, fsw;
	uint8_t ftw, pad;
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16], xmm[16][16], unused[48];
	struct {
		uint32_t magic1, extended_size;
		uint64_t xfeatures;
		uint32_t xstate_size, padding[7];
	} sw;
	uint64_t xstate_bv, xcomp_bv, header[6];
};

static void frame_layout(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;
	struct xstate *x = (struct xstate *)uc->uc_mcontext.fpregs;
	uint32_t mxcsr, magic2;
	uint16_t fcw;

	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(fcw));
	memcpy(&magic2, (char *)x + x->sw.xstate_size, 4);
	printf("frame %d mod 16, state %d mod 64; uc flags %#lx link %p; magic %#x %#x size %d "
	       "ext %d features %#lx in use %d comp %#lx; mxcsr %#x fcw %#x; here %#x %#x\n",
	       (int)((uintptr_t)uc & 15), (int)((uintptr_t)x & 63), uc->uc_flags,
	       (void *)uc->uc_link, x->sw.magic1, magic2, x->sw.xstate_size,
	       x->sw.extended_size, (long)x->sw.xfeatures, (int)x->xstate_bv & 3,
	       (long)x->xcomp_bv, x->mxcsr, x->fcw, mxcsr, fcw);
	printf("from the frame to the state %ld, to the siginfo %ld, below the stack %d\n",
	       (long)((char *)x - (char *)uc) >> 6, (long)((char *)info - (char *)uc),
	       uc->uc_mcontext.gregs[REG_RSP] - (greg_t)x >= 128);
}

CASE(frame)
{
	fresh();
	on(SIGUSR1, frame_layout, 0);
	on(SIGSEGV, frame_layout, SA_NODEFER);
	raise(SIGUSR1);
	__asm__ volatile("fldcw %0; ldmxcsr %1" :: "m"((uint16_t){ 0x27f }),
			 "m"((uint32_t){ 0x1d80 }));
	raise(SIGUSR1);
	raise(SIGSEGV);
	default_fpu();
}

/* rax = the pattern, ymm, flags: everything is what the handler wrote. */
static void change(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;
	greg_t *greg = uc->uc_mcontext.gregs;
	struct xstate *x = (struct xstate *)uc->uc_mcontext.fpregs;

	for (int i = 0; i < 16; i++)
		memset(x->xmm[i], 0x40 + i, 16);
	x->xstate_bv |= 3;
	x->mxcsr = 0x1fa0;
	if (x->sw.xfeatures & 4 && !getenv("CODEWP_VM")) {
		/* the upper halves, right behind the header on every CPU so far */
		for (int i = 0; i < 16; i++)
			memset((char *)(x + 1) + 16 * i, 0x80 + i, 16);
		x->xstate_bv |= 4;
	}
	greg[REG_RAX] = 0x123456789abcdef;
	greg[REG_R15] = -1;
	greg[REG_EFL] |= 0x8d5;
	greg[REG_RIP] += 2;		/* behind the ud2 */
	sigaddset(&uc->uc_sigmask, SIGUSR2);
	sigaddset(&uc->uc_sigmask, SIGKILL);
	/* none of what is here now may be seen afterwards */
	__asm__ volatile("pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm7, %%xmm7; fldpi" ::: "memory");
}

CASE(change_the_context)
{
	static uint8_t ymm[16][32];
	uint64_t rax, r15, flags;
	uint32_t mxcsr;

	fresh();
	on(SIGILL, change, 0);
	__asm__ volatile("mov $7, %%eax; mov $8, %%r15d; cmp %%eax, %%eax; ud2;"
			 "mov %%r15, %1; pushf; pop %2; stmxcsr %3;"
			 : "=&a"(rax), "=&r"(r15), "=&r"(flags), "=m"(mxcsr)
			 : : "r15", "memory");
	if (__builtin_cpu_supports("avx") && !getenv("CODEWP_VM"))
		__asm__ volatile("ud2; vmovups %%ymm0, (%0); vmovups %%ymm1, 32(%0);"
				 "vmovups %%ymm9, 288(%0); vmovups %%ymm15, 480(%0)"
				 :: "r"(ymm) : "rax", "r15", "cc", "memory");
	printf("%#lx %#lx %#lx %#x mask %#lx\n", (long)rax, (long)r15, (long)flags & 0xcd5, mxcsr,
	       (long)mask_now());
	for (int i = 0; i < 16; i++)
		printf("%02x %02x  ", ymm[i][3], ymm[i][29]);
	puts("");
	default_fpu();
}

/* A handler that uses every vector register changes none. */
static void clobber(int sig, siginfo_t *info, void *uc)
{
	uint32_t mxcsr = 0x5f80;

	__asm__ volatile("pcmpeqd %%xmm0, %%xmm0; movaps %%xmm0, %%xmm1; movaps %%xmm0, %%xmm5;"
			 "movaps %%xmm0, %%xmm8; movaps %%xmm0, %%xmm15; fld1; fldpi; fld1;"
			 "ldmxcsr %0" :: "m"(mxcsr) : "memory");
	if (__builtin_cpu_supports("avx512f"))
		__asm__ volatile("vpternlogd $255, %%zmm3, %%zmm3, %%zmm3;"
				 "vmovaps %%zmm3, %%zmm31; vmovaps %%zmm3, %%zmm15;"
				 "kxnorw %%k1, %%k1, %%k1" ::: "memory");
	else if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vcmptrueps %%ymm3, %%ymm3, %%ymm3; vmovaps %%ymm3, %%ymm15"
				 ::: "memory");
	if (sig == SIGILL)
		((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP] += 2;
}

static int vectors_kept(int (*interrupt)(void))
{
	static uint8_t in[16][64] __attribute__((aligned(64)));
	static uint8_t out[16][64] __attribute__((aligned(64)));
	uint32_t mxcsr = 0x3f80, mxcsr_after;
	double st = 3.25, st_after;
	int n;

	for (int i = 0; i < 16; i++)
		for (int k = 0; k < 64; k++)
			in[i][k] = i * 16 + k;
	memset(out, 0, sizeof(out));
	__asm__ volatile("ldmxcsr %0; fldl %1" :: "m"(mxcsr), "m"(st) : "memory");
	if (__builtin_cpu_supports("avx512f"))
		__asm__ volatile("vmovaps (%0), %%zmm0; vmovaps 64(%0), %%zmm3;"
				 "vmovaps 128(%0), %%zmm15; vmovaps 192(%0), %%zmm31"
				 :: "r"(in) : "memory");
	else
		__asm__ volatile("movaps (%0), %%xmm0; movaps 64(%0), %%xmm3;"
				 "movaps 128(%0), %%xmm15" :: "r"(in) : "memory");
	n = interrupt();
	if (__builtin_cpu_supports("avx512f"))
		__asm__ volatile("vmovaps %%zmm0, (%0); vmovaps %%zmm3, 64(%0);"
				 "vmovaps %%zmm15, 128(%0); vmovaps %%zmm31, 192(%0)"
				 :: "r"(out) : "memory");
	else
		__asm__ volatile("movaps %%xmm0, (%0); movaps %%xmm3, 64(%0);"
				 "movaps %%xmm15, 128(%0)" :: "r"(out) : "memory");
	__asm__ volatile("stmxcsr %0; fstpl %1" : "=m"(mxcsr_after), "=m"(st_after) :: "memory");
	default_fpu();
	CHECK_EQ(mxcsr_after, mxcsr);
	CHECK(st_after == st);
	if (__builtin_cpu_supports("avx512f"))
		CHECK(!memcmp(in, out, 4 * 64));
	else
		for (int i = 0; i < 3; i++)
			CHECK(!memcmp(in[i], out[i], 16));
	return n;
}

static int by_fault(void)
{
	__asm__ volatile("ud2");
	return 1;
}

static int by_call(void)
{
	long ret;

	/* kill(getpid(), SIGUSR1), without a function of libc */
	__asm__ volatile("mov $39, %%eax; syscall; mov %%eax, %%edi; mov $10, %%esi;"
			 "mov $62, %%eax; syscall"
			 : "=a"(ret) :: "rcx", "r11", "rdi", "rsi", "memory");
	return ret;
}

static volatile int timer_hits;

static void on_timer(int sig, siginfo_t *info, void *uc)
{
	timer_hits++;
	clobber(sig, info, uc);
}

static int by_timer(void)
{
	timer_hits = 0;
	while (timer_hits < 3)
		__asm__ volatile("" ::: "memory");
	return 3;
}

CASE(vector_state_is_kept)
{
	const struct itimerval it = { { 0, 700 }, { 0, 700 } };

	fresh();
	on(SIGILL, clobber, 0);
	on(SIGUSR1, clobber, 0);
	on(SIGALRM, on_timer, 0);
	printf("%d\n", vectors_kept(by_fault));
	printf("%d\n", vectors_kept(by_call));
	setitimer(ITIMER_REAL, &it, NULL);
	for (int i = 0; i < 30; i++)
		CHECK_EQ(vectors_kept(by_timer), 3);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
}

/* A frame's vector state may be given up, or be wrong. */
static int damage;

static void damager(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;
	struct xstate *x = (struct xstate *)uc->uc_mcontext.fpregs;

	if (sig == SIGSEGV) {
		printf("sig %d code %d\n", sig, info->si_code);
		siglongjmp(jump, 1);
	}
	switch (damage) {
	case 0:
		uc->uc_mcontext.fpregs = NULL;		/* all in the first state */
		break;
	case 1:
		x->sw.magic1 = 0;			/* only what FXSAVE knows */
		break;
	case 2:
		x->xcomp_bv = 1;
		break;
	case 3:
		x->xstate_bv |= 1UL << 61;
		break;
	case 4:
		/* QEMU's xrstor would take it */
		x->mxcsr = getenv("CODEWP_VM") ? 0x3f80 : 0x1f80 | 1U << 31;
		break;
	case 5:
		uc->uc_mcontext.fpregs = (void *)PAGE;
		break;
	case 6:
		uc->uc_mcontext.gregs[REG_CSGSFS] = 0x2b0000000000f0fbLL;
		break;
	}
}

CASE(damaged_frames)
{
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };

	fresh();
	on(SIGUSR1, damager, 0);
	on(SIGSEGV, damager, SA_ONSTACK);
	CHECK(!sigaltstack(&ss, NULL));
	for (damage = 0; damage < 7; damage++) {
		uint32_t mxcsr = 0x3f80;
		uint64_t xmm[2] = { 5, 6 };

		printf("%d: ", damage);
		if (sigsetjmp(jump, 1))
			continue;
		__asm__ volatile("ldmxcsr %0; movups %1, %%xmm6" :: "m"(mxcsr), "m"(xmm) : "xmm6");
		by_call();
		__asm__ volatile("stmxcsr %0; movups %%xmm6, %1" : "=m"(mxcsr), "=m"(xmm));
		printf("%#x %ld %ld\n", mxcsr, (long)xmm[0], (long)xmm[1]);
	}
	default_fpu();
}

CASE(dies_without_a_frame)
{
	fresh();
	puts("now");
	__asm__ volatile("mov $0x2000, %esp; mov $15, %eax; syscall");
}

CASE(dies_without_a_restorer)
{
	struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } sa = {
		.handler = (void *)clobber, .flags = SA_SIGINFO,
	};

	fresh();
	CHECK(!syscall(SYS_rt_sigaction, SIGUSR1, &sa, NULL, 8));
	puts("now");
	raise(SIGUSR1);
	puts("never");
}

/* --- programs that live by faults --------------------------------------------------- */

#define HEAP_PAGES 256
static uint8_t *heap;
static uint8_t dirty[HEAP_PAGES];
static volatile int barriers;

static void barrier(int sig, siginfo_t *info, void *uc)
{
	size_t n = ((uint8_t *)info->si_addr - heap) / PAGE;

	if (n >= HEAP_PAGES)
		_exit(3);
	barriers++;
	dirty[n] = 1;
	if (mprotect(heap + n * PAGE, PAGE, PROT_READ | PROT_WRITE))
		_exit(4);
}

/* A collector's write barrier: pages become writable as they are written. */
CASE(write_barrier)
{
	int rounds = getenv("CODEWP_VM") ? 3 : 30;
	uint32_t x = 1;

	fresh();
	on(SIGSEGV, barrier, SA_ONSTACK | SA_RESTART);
	heap = mmap(NULL, HEAP_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	for (int i = 0; i < rounds; i++) {
		int n = 0;

		barriers = 0;
		memset(dirty, 0, sizeof(dirty));
		CHECK(!mprotect(heap, HEAP_PAGES * PAGE, PROT_READ));
		for (int k = 0; k < 300; k++) {
			x = x * 1103515245 + 12345;
			*(volatile uint32_t *)(heap + (x >> 8) % (HEAP_PAGES * PAGE / 4) * 4) = x;
		}
		for (int k = 0; k < HEAP_PAGES; k++)
			n += dirty[k];
		CHECK_EQ(n, barriers);
		printf("%d ", n);
	}
	puts("");
	CHECK(!munmap(heap, HEAP_PAGES * PAGE));
}

/* The same for code: a page of W^X code, made writable when it is patched. */
static void flip(int sig, siginfo_t *info, void *uc)
{
	barriers++;
	if (mprotect((void *)((uintptr_t)info->si_addr & -PAGE), PAGE,
		     PROT_READ | PROT_WRITE | PROT_EXEC))
		_exit(4);
}

CASE(patch_through_a_barrier)
{
	static const enum place places[] = { PLACE_ANON, PLACE_MEMFD, PLACE_FILE, PLACE_BSS };

	fresh();
	on(SIGSEGV, flip, 0);
	for (size_t k = 0; k < sizeof(places) / sizeof(*places); k++) {
		uint8_t *p = place_get(places[k], 1);

		barriers = 0;
		put_ret_imm(p, 1000);
		for (int i = 0; i < 50; i++) {
			CHECK_EQ(run1(p, 0), 1000 + i);
			CHECK(!mprotect(p, PAGE, PROT_READ | PROT_EXEC));
			(*(volatile uint32_t *)(p + 1))++;
		}
		printf("%s %d\n", place_name[places[k]], barriers);
	}
}

/* A null check that faults: the handler goes on at the slow path. */
static volatile int slow_paths;
extern const uint8_t null_check_load[], null_check_slow[];

static void null_check(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;

	if (uc->uc_mcontext.gregs[REG_RIP] != (greg_t)null_check_load)
		_exit(3);
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)null_check_slow;
	slow_paths++;
}

__asm__(".text\n"
	"checked_load:\n"
	"null_check_load:\n"
	"	mov 16(%rdi), %rax\n"
	"	ret\n"
	"null_check_slow:\n"
	"	mov $-7, %rax\n"
	"	ret\n");
long checked_load(const long *p);

CASE(null_checks)
{
	const long object[3] = { 1, 2, 3 };
	int n = getenv("CODEWP_VM") ? 500 : 20000;
	long sum = 0;

	fresh();
	on(SIGSEGV, null_check, 0);
	slow_paths = 0;
	for (int i = 0; i < n; i++)
		sum += checked_load(i % 3 ? object : NULL);
	printf("%ld %d\n", sum, slow_paths);
}

/* A safepoint: a page that is polled, and taken away. */
static volatile int safepoints;
static volatile char *poll_page;

static void safepoint(int sig, siginfo_t *info, void *uc)
{
	if (sig == SIGALRM) {
		if (mprotect((void *)poll_page, PAGE, PROT_NONE))
			_exit(4);
		return;
	}
	if (info->si_addr != (void *)poll_page || mprotect(info->si_addr, PAGE, PROT_READ))
		_exit(3);
	safepoints++;
}

CASE(safepoints_by_a_page)
{
	const struct itimerval it = { { 0, 2000 }, { 0, 2000 } };

	fresh();
	poll_page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	on(SIGSEGV, safepoint, 0);
	on(SIGALRM, safepoint, 0);
	safepoints = 0;
	setitimer(ITIMER_REAL, &it, NULL);
	while (safepoints < 50)
		(void)*poll_page;
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
}

/* Deeper and deeper, until the alternate stack is all that is left. */
static void overflow(int sig, siginfo_t *info, void *uc)
{
	siglongjmp(jump, 1);
}

static __attribute__((noinline)) int deeper(unsigned int n)
{
	volatile char frame[1000];
	int below;

	frame[n % 1000] = n;
	below = n ? deeper(n + 1) : 0;
	return below + frame[n % 1000];		/* not a loop, to the compiler */
}

CASE(stack_overflow)
{
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	struct rlimit old, small = { 1 << 20, RLIM_INFINITY };
	volatile int n = 0;

	fresh();
	CHECK(!getrlimit(RLIMIT_STACK, &old));
	small.rlim_max = old.rlim_max;
	CHECK(!setrlimit(RLIMIT_STACK, &small));
	CHECK(!sigaltstack(&ss, NULL));
	on(SIGSEGV, overflow, SA_ONSTACK);
	while (n < 5) {
		if (sigsetjmp(jump, 1))
			n++;
		else
			printf("%d\n", deeper(1));
	}
	CHECK(!setrlimit(RLIMIT_STACK, &old));
}

/* --- the exact instruction ------------------------------------------------------------ */

/*
 * Code that overwrites instructions behind it, before it, and the very one that
 * faults next, then faults: rip is the instruction's, and the new bytes count.
 */
TEMPLATE(t_before, "nop; nop; movl $0x90909090, t_before_start(%rip); mov 0x1000(%rdi), %rax; ret");
TEMPLATE(t_itself, "movb $0x20, 1f-3(%rip); mov 0x1000(%rdi), %eax; 1: ret");
TEMPLATE(t_next, "movw $0x0b0f, 1f(%rip); nop; nop; 1: ret; nop; nop");
TEMPLATE(t_next_long, "movq $0x0b0f, 1f(%rip); mov %rax, %rbx; mov %rbx, %rcx; 1: .fill 16, 1, 0x90");

CASE(code_that_changes_itself_and_faults)
{
	static const struct { const char *name; const uint8_t *start, *end; } t[] = {
		S(t_before), S(t_itself), S(t_next), S(t_next_long),
	};

	set_up();
	get_data();
	for (int where = 0; where < PLACE_COUNT; where++) {
		code = place_get(where, 2);
		for (volatile size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
			printf("%s %s: ", place_name[where], t[i].name);
			memcpy(code + 32, t[i].start, t[i].end - t[i].start);
			if (!sigsetjmp(jump, 1)) {
				run_snippet(code + 32, data);
				puts("nothing happened");
			}
		}
	}
	munmap(data, PAGE);
}

/* The bytes are gone when the fault comes: patched by the handler of the first. */
static void patch_and_skip(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;
	uint64_t rip = uc->uc_mcontext.gregs[REG_RIP];

	barriers++;
	CHECK_EQ(rip - (uint64_t)code, 64);
	memset(code + 64, 0x90, 7);	/* nop: it goes through now */
}

TEMPLATE(t_load, "mov 0x1000(%rdi), %rax; mov $5, %eax; ret");

CASE(handler_patches_the_instruction)
{
	fresh();
	get_data();
	on(SIGSEGV, patch_and_skip, 0);
	for (int where = 0; where < PLACE_COUNT; where++) {
		code = place_get(where, 1);
		barriers = 0;
		for (int i = 0; i < 20; i++) {
			PUT(code + 64, t_load);
			CHECK_EQ(run1(code + 64, (uint64_t)data), 5);
		}
		printf("%s %d\n", place_name[where], barriers);
	}
	munmap(data, PAGE);
}
