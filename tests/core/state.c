// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Exact guest state at every fault: the same snippets run natively and
 * translated, and signal, address, all registers and flags must be the same at
 * the same instruction; also when the block checks itself, when it is one of one
 * instruction, and when the cache is small. And the ways out of guest code that
 * no program can show.
 */
#include <setjmp.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <asm/prctl.h>

#include "fake.h"
#include "test.h"

struct snip {
	const char *name;
	const uint8_t *code, *fault;
};

extern const struct snip snips[], snips_end[];
void native_run(const struct codewp_regs *regs);

#define FLAGS 0xcd5		/* the arithmetic ones and DF */

struct outcome {
	int sig, code;
	uint64_t addr;
	struct codewp_regs regs;
};

static uint64_t host_fs, host_gs, guest_seg;
static uint8_t *hole, *good, *stack;
static bool translated;
static struct outcome got;
static sigjmp_buf back;

static long set_base(int what, uint64_t value)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret)
			 : "a"(SYS_arch_prctl), "D"((long)what), "S"(value)
			 : "rcx", "r11", "memory");
	return ret;
}

static const uint8_t order[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static void on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;
	int i;

	set_base(ARCH_SET_FS, host_fs);		/* before anything of libc's */
	got.sig = sig;
	got.code = info->si_code;
	got.addr = (uint64_t)info->si_addr;
	for (i = 0; i < 16; i++)
		got.regs.r[i] = g[order[i]];
	got.regs.rip = g[REG_RIP];
	got.regs.rflags = g[REG_EFL];
	if (translated) {
		struct codewp_regs regs = got.regs;

		if (!core_in_cache(regs.rip) || !core_guest_state(&fake_cpu, &regs)) {
			got.sig = -1;
			siglongjmp(back, 1);
		}
		got.addr = core_fault_addr(&fake_cpu, got.addr);
		core_signal_exit(&fake_cpu, &regs, CPU_FAULT);
		for (i = 0; i < 16; i++)
			g[order[i]] = regs.r[i];
		g[REG_RIP] = regs.rip;
		return;
	}
	siglongjmp(back, 1);
}

static void prepare(void)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = on_signal,
				.sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t alt = { .ss_size = 65536 };
	uint8_t *p;
	size_t i;

	ASSERT_OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &host_fs));
	alt.ss_sp = malloc(alt.ss_size);
	ASSERT_OK(sigaltstack(&alt, NULL));
	for (i = 0; i < sizeof(sigs) / sizeof(*sigs); i++)
		ASSERT_OK(sigaction(sigs[i], &sa, NULL));
	/* Low, so that sums with a segment base stay where nothing is. */
	p = mmap((void *)0x30000000, 1 << 20, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT(p != MAP_FAILED);
	good = p;
	stack = p + 0x20000;
	guest_seg = (uint64_t)p + 0x40000;
	hole = p + 0x60000;
	ASSERT_OK(mprotect(good, 4096, PROT_READ | PROT_WRITE));
	ASSERT_OK(mprotect(stack, 8192, PROT_READ | PROT_WRITE));
	ASSERT_OK(mprotect((void *)guest_seg, 4096, PROT_READ | PROT_WRITE));
}

static void start_regs(struct codewp_regs *r, const struct snip *s)
{
	int i;

	memset(good, 0x11, 4096);
	memset(stack, 0x22, 8192);
	memset((void *)guest_seg, 0x33, 4096);
	for (i = 0; i < 16; i++)
		r->r[i] = 0x1111111111111111ULL * (i + 1) ^ 0x8000;
	r->r[RDI] = (uint64_t)hole;
	r->r[RSI] = (uint64_t)good;
	r->r[RSP] = (uint64_t)stack + 4096;
	r->rip = (uint64_t)s->code;
	r->rflags = 0x202 | 0x8d5;		/* all arithmetic flags set */
}

static void run_native(const struct snip *s, struct outcome *o)
{
	struct codewp_regs r;

	start_regs(&r, s);
	translated = false;
	if (!sigsetjmp(back, 1)) {
		set_base(ARCH_SET_GS, guest_seg);
		/* The test's own %fs cannot be kept for this one. */
		set_base(ARCH_SET_FS, guest_seg);
		native_run(&r);
	}
	set_base(ARCH_SET_GS, host_gs);
	*o = got;
}

static void run_translated(const struct snip *s, struct outcome *o)
{
	struct cpu *c = &fake_cpu;
	enum cpu_exit why;

	start_regs(&c->regs, s);
	c->guest_gs = guest_seg;
	c->guest_fs = guest_seg;
	translated = true;
	memset(&got, 0, sizeof(got));
	if (sigsetjmp(back, 1))
		TEST_FAIL("%s: a signal outside of guest code at %#lx", s->name,
			  (long)got.regs.rip);
	why = core_run(c);
	if (why != CPU_FAULT)
		TEST_FAIL("%s: stopped by %d, not by a fault", s->name, why);
	if (!got.sig) {				/* by an exit, not by a signal */
		got.sig = c->fault_sig;
		got.code = c->fault_code;
		got.addr = c->fault_addr;
	}
	*o = got;
	o->regs = c->regs;
}

static void compare(const struct snip *s)
{
	struct outcome n, t;
	int i;

	run_native(s, &n);
	if (n.regs.rip != (uint64_t)s->fault)
		TEST_FAIL("%s: natively the fault is at %+ld of its mark", s->name,
			  (long)(n.regs.rip - (uint64_t)s->fault));
	run_translated(s, &t);
	if (n.sig != t.sig || n.code != t.code || n.addr != t.addr)
		TEST_FAIL("%s: signal %d code %d at %#lx, native %d %d %#lx", s->name,
			  t.sig, t.code, (long)t.addr, n.sig, n.code, (long)n.addr);
	if (n.regs.rip != t.regs.rip)
		TEST_FAIL("%s: rip is off by %ld", s->name, (long)(t.regs.rip - n.regs.rip));
	for (i = 0; i < 16; i++)
		if (n.regs.r[i] != t.regs.r[i])
			TEST_FAIL("%s: register %d is %#lx, native %#lx", s->name, i,
				  (long)t.regs.r[i], (long)n.regs.r[i]);
	if ((n.regs.rflags ^ t.regs.rflags) & FLAGS)
		TEST_FAIL("%s: flags are %#lx, native %#lx", s->name,
			  (long)t.regs.rflags & FLAGS, (long)n.regs.rflags & FLAGS);
}

static void compare_all(enum mem_class class, struct core_opts opts, int rounds)
{
	const struct snip *s;

	prepare();
	fake_class = class;
	fake_start(&opts);
	ASSERT_OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &host_gs));
	ASSERT_GE(snips_end - snips, 30);
	while (rounds--)
		for (s = snips; s < snips_end; s++)
			if (strncmp(s->name, "wrgsbase", 8) || getauxval(AT_HWCAP2) & 2)
				compare(s);
}

TEST(fault_state)
{
	compare_all(MEM_TEXT, (struct core_opts){ 0 }, 3);
}

TEST(fault_state_in_checked_blocks)
{
	compare_all(MEM_CHECKED, (struct core_opts){ 0 }, 3);
}

TEST(fault_state_one_instruction_per_block)
{
	compare_all(MEM_TEXT, (struct core_opts){ .max_insns = 1 }, 2);
}

TEST(fault_state_unchained)
{
	compare_all(MEM_TEXT, (struct core_opts){ .no_chain = true }, 2);
}

/* The check itself reads the guest's code, and may be what faults. */
TEST(fault_in_the_check)
{
	static const uint8_t code[] = { 0x83, 0xc0, 0x05, 0x0f, 0x0b };	/* add; ud2 */
	struct cpu *c = &fake_cpu;
	uint8_t *p;
	int i;

	prepare();
	fake_class = MEM_CHECKED;
	fake_start(&(struct core_opts){ 0 });
	translated = true;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(p != MAP_FAILED);
	memcpy(p, code, sizeof(code));
	for (i = 0; i < 2; i++) {
		memset(&c->regs, 0x5a, sizeof(c->regs));
		c->regs.rflags = 0x202;
		c->regs.rip = (uint64_t)p;
		if (sigsetjmp(back, 1))
			TEST_FAIL("a signal outside of guest code");
		ASSERT(core_run(c) == CPU_FAULT);
		if (i == 0)
			ASSERT_OK(mprotect(p, 4096, PROT_NONE));
	}
	ASSERT_EQ(got.sig, SIGSEGV);
	ASSERT_EQ(c->regs.rip, (uint64_t)p);
	ASSERT_EQ(c->regs.r[RAX], 0x5a5a5a5a5a5a5a5aUL);
	ASSERT_EQ(c->regs.r[RCX], 0x5a5a5a5a5a5a5a5aUL);
}

/*
 * A checked block whose bytes have changed is made anew, and only then. Aligned, for a
 * block that goes on in a second page ends there, and is two.
 */
TEST(check_sees_each_byte)
{
	uint8_t code[64] __attribute__((aligned(64)));
	struct cpu *c = &fake_cpu;
	size_t i, n = sizeof(code);

	prepare();
	fake_class = MEM_CHECKED;
	fake_start(&(struct core_opts){ 0 });
	for (n = 3; n < sizeof(code); n += 5) {
		memset(code, 0x90, n);
		code[n - 2] = 0x0f;
		code[n - 1] = 0x0b;
		for (i = 0; i + 2 < n; i++) {
			uint64_t tbs = fake_cpu.stats.tbs;
			int run;

			for (run = 0; run < 3; run++) {
				c->regs.rip = (uint64_t)code;
				c->regs.r[RAX] = 0;
				ASSERT(core_run(c) == CPU_FAULT);
				ASSERT_EQ(c->regs.rip, (uint64_t)code + n - 2);
				if (run == 1)
					code[i] = code[i] == 0x90 ? 0xf5 : 0x90;
			}
			ASSERT_EQ(fake_cpu.stats.tbs - tbs, i == 0 ? 2UL : 1UL);
		}
	}
}

/* mov $1, %eax; ud2, at the start of a page */
static uint8_t changing[4096] __attribute__((aligned(4096))) = {
	0xb8, 1, 0, 0, 0, 0x0f, 0x0b,
};
static struct cpu other;

static void change_with_trap(void)
{
	changing[1]++;
	fake_gen++;
}

/* Another thread's replayed store lands: no trap comes with it. */
static void change_by_replay(void)
{
	changing[1]++;
	other.replay_page = CODEMAP_NO_PAGE;
}

static void written_while_translated(void (*write)(void))
{
	struct cpu *c = &fake_cpu;
	int i;

	prepare();
	fake_class = MEM_VIEW;
	fake_start(&(struct core_opts){ 0 });
	other.replay_page = CODEMAP_NO_PAGE;
	c->next = &other;
	if (write == change_by_replay)
		other.replay_page = (uint64_t)changing >> 12;
	fake_after_read = write;
	for (i = 0; i < 2; i++) {
		c->regs.rip = (uint64_t)changing;
		ASSERT(core_run(c) == CPU_FAULT);
		ASSERT_EQ(c->fault_sig, SIGILL);
		ASSERT_EQ(c->regs.r[RAX], 2UL);
	}
	ASSERT_EQ(fake_cpu.stats.stale_inserts, 1UL);
	ASSERT_EQ(fake_cpu.stats.tbs, 1UL);
}

/* Rule 1, rule 2: bytes read before a write are never published after it. */
TEST(generation_refuses_a_stale_block)
{
	written_while_translated(change_with_trap);
}

TEST(store_in_flight_refuses_a_stale_block)
{
	written_while_translated(change_by_replay);
}

/* stop is seen in chained blocks that never leave: the signal's handler cuts. */
static volatile int alarms;

static void on_alarm(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	if (fake_cpu.in_cache)
		set_base(ARCH_SET_FS, host_fs);
	alarms++;
	fake_cpu.sig_pending = 1;
	fake_cpu.stop = 1;
	core_cut(&fake_cpu, uc->uc_mcontext.gregs[REG_RIP]);
}

static void spin(const uint8_t *code)
{
	struct sigaction sa = { .sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct cpu *c = &fake_cpu;
	int i;

	prepare();
	fake_start(&(struct core_opts){ 0 });
	ASSERT_OK(sigaction(SIGALRM, &sa, NULL));
	c->regs.rip = (uint64_t)code;
	c->regs.rflags = 0x202;
	c->regs.r[RSP] = (uint64_t)stack + 4096;
	c->guest_fs = host_fs;		/* the handler needs no change of it */
	for (i = 0; i < 200; i++) {
		ualarm(500 + i * 7, 0);
		ASSERT(core_run(c) == CPU_STOP);
		ASSERT_EQ(alarms, i + 1);
		c->sig_pending = 0;
	}
}

TEST(cut_self_loop)
{
	static const uint8_t code[] = { 0xeb, 0xfe };
	static uint8_t copy[16];

	memcpy(copy, code, sizeof(code));
	spin(copy);
}

TEST(cut_chain_of_blocks)
{
	/* jmp +2; nop; nop; jmp +0; jcc back */
	static const uint8_t code[] = { 0xeb, 0x02, 0x90, 0x90, 0xeb, 0x00, 0xff, 0xc0,
					0x74, 0xf6, 0x75, 0xf4 };
	static uint8_t copy[16];

	memcpy(copy, code, sizeof(code));
	spin(copy);
}

TEST(cut_indirect_loop)
{
	/* lea 0(%rip), %rax; jmp *%rax, to the lea */
	static const uint8_t code[] = { 0x48, 0x8d, 0x05, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xe0 };
	static uint8_t copy[16];

	memcpy(copy, code, sizeof(code));
	spin(copy);
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
