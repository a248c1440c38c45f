// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Several threads on one code cache: translating the same code at once, emptying
 * the cache under each other, being cut loose from chains that others make again,
 * changing code that others run, coming and going.
 *
 * Guest code here is bytes that a test writes; each piece ends in a ud2, so that
 * core_run() says CPU_FAULT. Everything that can hang ends by the test's time
 * limit.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <asm/prctl.h>

#include "fake.h"
#include "test.h"

#define MAX_THREADS 8

static struct thread {
	pthread_t self;
	struct cpu *cpu;
	unsigned int nr;
	unsigned long done;		/* rounds */
	unsigned long acks;		/* signals that have led out of the cache */
	bool attached;			/* until then %gs is another thread's */
} threads[MAX_THREADS];

static struct cpu_room cpus[MAX_THREADS];
static volatile int over;		/* tells whoever goes round for ever */
static uint8_t *code;			/* guest code */

static const uint8_t order[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

/* Guest code has the thread's own %fs here, so handlers are as always. */
static void on_int3(int sig, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct cpu *cpu = this_cpu();
	struct codewp_regs regs;

	for (int i = 0; i < 16; i++)
		regs.r[i] = g[order[i]];
	regs.rip = g[REG_RIP];
	regs.rflags = g[REG_EFL];
	if (!core_retired(cpu, &regs))
		TEST_FAIL("an int3 at %#lx that nobody has put there", (long)g[REG_RIP]);
	core_signal_exit(cpu, &regs, CPU_LOOKUP);
	for (int i = 0; i < 16; i++)
		g[order[i]] = regs.r[i];
	g[REG_RIP] = regs.rip;
}

static void on_cut(int sig, siginfo_t *info, void *context)
{
	struct cpu *cpu = this_cpu();

	cpu->sig_pending = 1;
	__atomic_store_n(&cpu->stop, 1, __ATOMIC_RELEASE);
	core_cut(cpu, ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP]);
}

static void prepare(enum mem_class class, const struct core_opts *opts)
{
	struct sigaction sa = { .sa_sigaction = on_int3, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	fake_class = class;
	fake_start(opts);
	ASSERT_OK(sigaction(SIGTRAP, &sa, NULL));
	sa.sa_sigaction = on_cut;
	ASSERT_OK(sigaction(SIGUSR1, &sa, NULL));
	code = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(code != MAP_FAILED);
}

static void attach(struct cpu *cpu)
{
	ASSERT_EQ(core_cpu_init(cpu), 0);
	cpu->guest_fs = cpu->host_fs;
	rt_lock();
	ASSERT_EQ(core_thread_init(cpu), 0);
	rt_unlock();
}

static void detach(struct cpu *cpu)
{
	rt_lock();
	core_thread_exit(cpu);
	__atomic_store_n(&cpu->live, 0, __ATOMIC_RELEASE);
	rt_unlock();
}

/* To the ud2, or to a cut. */
static enum cpu_exit run(struct cpu *cpu, const uint8_t *pc)
{
	enum cpu_exit why;

	cpu->regs.rip = (uint64_t)pc;
	cpu->regs.rflags = 0x202;
	do
		why = core_run(cpu);
	while (why == CPU_LOOKUP);
	if (why == CPU_FAULT)
		ASSERT_EQ(cpu->fault_sig, SIGILL);
	else
		ASSERT_EQ((int)why, (int)CPU_STOP);
	return why;
}

static void start(unsigned int n, void *(*fn)(void *))
{
	for (unsigned int i = 0; i < n; i++) {
		threads[i] = (struct thread){ .cpu = &cpus[i].cpu, .nr = i };
		ASSERT_EQ(pthread_create(&threads[i].self, NULL, fn, &threads[i]), 0);
	}
}

static void join(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		ASSERT_EQ(pthread_join(threads[i].self, NULL), 0);
}

/* The guest's stack pointer may be anything: handlers need a stack of their own. */
static void alt_stack(void)
{
	stack_t alt = { .ss_size = 65536 };

	alt.ss_sp = malloc(alt.ss_size);
	ASSERT(alt.ss_sp);
	ASSERT_OK(sigaltstack(&alt, NULL));
}

/* ---- many blocks ------------------------------------------------------------- */

#define BLOCKS 3000		/* several times what the smallest cache holds */
#define BLOCK_BYTES 16
#define LAPS 4

/* Block i: rax = rax * 3 + i; goes to the next by a direct or an indirect jump. */
static void write_blocks(void)
{
	for (uint32_t i = 0; i < BLOCKS; i++) {
		uint8_t *p = code + i * BLOCK_BYTES;
		static const uint8_t mul[] = { 0x48, 0x8d, 0x04, 0x40 };
		static const uint8_t add[] = { 0x48, 0x05 };
		int32_t to_next;

		memcpy(p, mul, 4);		/* lea (%rax, %rax, 2), %rax */
		memcpy(p + 4, add, 2);		/* add $i, %rax */
		memcpy(p + 6, &i, 4);
		to_next = BLOCK_BYTES - 15;
		p[10] = 0xe9;			/* jmp */
		memcpy(p + 11, &to_next, 4);
	}
	code[BLOCKS * BLOCK_BYTES] = 0x0f;	/* ud2 */
	code[BLOCKS * BLOCK_BYTES + 1] = 0x0b;
}

static uint64_t expect(uint64_t v, uint32_t from)
{
	for (uint32_t i = from; i < BLOCKS; i++)
		v = v * 3 + i;
	return v;
}

static void *walk_blocks(void *arg)
{
	struct thread *t = arg;

	alt_stack();
	attach(t->cpu);
	for (unsigned int lap = 0; lap < LAPS; lap++) {
		/* Not all in step: threads meet at other blocks each time. */
		uint32_t from = (t->nr * 977 + lap * 331) % BLOCKS;

		t->cpu->regs.r[RAX] = t->nr + lap;
		ASSERT_EQ((int)run(t->cpu, code + from * BLOCK_BYTES), (int)CPU_FAULT);
		ASSERT_EQ(t->cpu->regs.r[RAX], expect(t->nr + lap, from));
	}
	detach(t->cpu);
	return NULL;
}

static void walk(unsigned int n, size_t cache_bytes)
{
	prepare(MEM_TEXT, &(struct core_opts){ .cache_bytes = cache_bytes });
	write_blocks();
	start(n, walk_blocks);
	join(n);
}

static void walk_with_flushes(unsigned int n)
{
	walk(n, 1);		/* the least there is */
	/* Or nothing of it was tested. */
	ASSERT_GE(cache_epoch(), 3UL);
}

TEST(one_thread_flushes)
{
	walk_with_flushes(1);
}

TEST(two_threads_flush)
{
	walk_with_flushes(2);
}

TEST_LONG(eight_threads_flush, 60)
{
	walk_with_flushes(8);
}

/* No flush: whoever comes second finds what the first has published. */
TEST(eight_threads_translate_the_same)
{
	uint64_t tbs = 0;

	walk(8, 0);
	ASSERT_EQ(cache_epoch(), 1UL);
	for (int i = 0; i < 8; i++)
		tbs += cpus[i].cpu.stats.tbs;
	/* Entering in the middle of a block's run makes none: each is a block. */
	ASSERT_EQ(tbs, BLOCKS + 1UL);
}

/* ---- cuts ---------------------------------------------------------------------- */

/* Round and round through blocks that every other thread chains, too. */
static void *spin(void *arg)
{
	struct thread *t = arg;
	sigset_t set;

	alt_stack();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	attach(t->cpu);
	__atomic_store_n(&t->attached, true, __ATOMIC_RELEASE);
	while (!over) {
		if (run(t->cpu, code) != CPU_STOP)
			TEST_FAIL("the loop has ended");
		ASSERT_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
		t->cpu->sig_pending = 0;
		__atomic_fetch_add(&t->acks, 1, __ATOMIC_RELEASE);
		ASSERT_OK(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
	}
	detach(t->cpu);
	return NULL;
}

#define CUTS 150

/* One signal at a time for each: every one has to lead out of the loop. */
static void cut_storm(unsigned int n, const uint8_t *loop, size_t bytes, size_t drop)
{
	unsigned long sent[MAX_THREADS] = { 0 };
	unsigned int left = n;

	prepare(MEM_TEXT, &(struct core_opts){ 0 });
	memcpy(code, loop, bytes);
	start(n, spin);
	while (left) {
		left = 0;
		for (unsigned int i = 0; i < n; i++) {
			if (__atomic_load_n(&threads[i].acks, __ATOMIC_ACQUIRE) < sent[i]) {
				left++;
				continue;
			}
			if (sent[i] == CUTS)
				continue;
			left++;
			if (!__atomic_load_n(&threads[i].attached, __ATOMIC_ACQUIRE))
				continue;
			sent[i]++;
			ASSERT_EQ(pthread_kill(threads[i].self, SIGUSR1), 0);
		}
		if (drop) {
			rt_lock();
			core_invalidate_page((uint64_t)code >> 12, drop, drop);
			rt_unlock();
		}
		sched_yield();
	}
	over = 1;
	for (unsigned int i = 0; i < n; i++)
		ASSERT_EQ(pthread_kill(threads[i].self, SIGUSR1), 0);
	join(n);
}

/* jmp +2; nop; nop; jmp +0; inc %eax; jz back; jnz back */
static const uint8_t chained[] = { 0xeb, 0x02, 0x90, 0x90, 0xeb, 0x00, 0xff, 0xc0,
				   0x74, 0xf6, 0x75, 0xf4 };
/* lea 0(%rip), %rax; jmp *%rax, to the lea */
static const uint8_t indirect[] = { 0x48, 0x8d, 0x05, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xe0 };

TEST(cut_one)
{
	cut_storm(1, chained, sizeof(chained), 0);
}

TEST(cut_two)
{
	cut_storm(2, chained, sizeof(chained), 0);
}

TEST(cut_eight)
{
	cut_storm(8, chained, sizeof(chained), 0);
}

TEST(cut_eight_indirect)
{
	cut_storm(8, indirect, sizeof(indirect), 0);
}

/* Others' blocks die and are made again all the time. */
TEST(cut_while_blocks_die)
{
	cut_storm(4, chained, sizeof(chained), 6);
}

/* ---- many targets ------------------------------------------------------------- */

#define TARGETS		4
#define TARGETS_APART	65536	/* in a small jump cache they have one entry */
#define TARGET_LAPS	60000

/* Each goes to the next by an indirect jump, the last to the first, %ecx times. */
static void write_targets(void)
{
	/* dec %ecx; jz to the ud2; lea d32(%rip), %rax; jmp *%rax; ud2 */
	static const uint8_t first[] = { 0xff, 0xc9, 0x74, 0x09, 0x48, 0x8d, 0x05, 0, 0, 0, 0,
					 0xff, 0xe0, 0x0f, 0x0b };

	for (unsigned int i = 0; i < TARGETS; i++) {
		unsigned int skip = i ? 4 : 0;		/* only the first one counts */
		int32_t to = i + 1 < TARGETS ? TARGETS_APART : -(int)i * TARGETS_APART;
		uint8_t *p = code + i * TARGETS_APART;

		memcpy(p, first + skip, sizeof(first) - skip);
		to -= 11 - skip;
		memcpy(p + 7 - skip, &to, 4);
	}
}

static uint64_t misses_of(struct cpu *cpu)
{
	uint64_t before = cpu->stats.jc_misses;

	cpu->regs.r[RCX] = TARGET_LAPS;
	ASSERT_EQ((int)run(cpu, code), (int)CPU_FAULT);
	ASSERT_EQ((uint32_t)cpu->regs.r[RCX], 0U);
	return cpu->stats.jc_misses - before;
}

static void *jump_around(void *arg)
{
	struct thread *t = arg;

	alt_stack();
	attach(t->cpu);
	misses_of(t->cpu);
	while (!__atomic_load_n(&core_jc_wide, __ATOMIC_ACQUIRE))
		misses_of(t->cpu);
	/* Another's flush may have come between. */
	misses_of(t->cpu);
	ASSERT_LT(misses_of(t->cpu), (uint64_t)100);
	detach(t->cpu);
	return NULL;
}

static void jump_cache_grows(unsigned int n)
{
	prepare(MEM_TEXT, &(struct core_opts){ 0 });
	if (!core_jc_may_grow)
		SKIP("this processor has no fast pext");
	write_targets();
	start(n, jump_around);
	join(n);
}

TEST(jump_cache_grows_for_one)
{
	jump_cache_grows(1);
}

TEST(jump_cache_grows_for_four)
{
	jump_cache_grows(4);
}

TEST(jump_cache_stays_small)
{
	struct thread *t = &threads[0];

	prepare(MEM_TEXT, &(struct core_opts){ .no_wide = true });
	write_targets();
	t->cpu = &cpus[0].cpu;
	alt_stack();
	attach(t->cpu);
	ASSERT_GT(misses_of(t->cpu), (uint64_t)TARGET_LAPS);
	ASSERT_GT(misses_of(t->cpu), (uint64_t)TARGET_LAPS);
	ASSERT(!core_jc_wide);
	detach(t->cpu);
}

/* ---- changed code ---------------------------------------------------------------- */

#define CHANGES 300

/* loop: mov $imm, %eax; mov $imm, %edx; nop; cmp %ecx, %eax; je loop; ud2 */
static const uint8_t changing[] = {
	0x90, 0x90, 0x90, 0xb8, 0, 0, 0, 0, 0x90, 0x90, 0x90, 0xba, 0, 0, 0, 0,
	0x39, 0xc8, 0x74, 0xec, 0x0f, 0x0b,
};
#define IMM1 4
#define IMM2 12

static uint32_t published;

/*
 * Waits in a chained loop for new code. What it runs is never older than what was
 * published before it began, and no instruction is older than the one before it:
 * whoever is between the two leaves the dead block there (smc_retire()), and goes on
 * with the new one.
 */
static void *follow(void *arg)
{
	struct thread *t = arg;
	uint32_t seen = 0;

	alt_stack();
	attach(t->cpu);
	while (seen < CHANGES) {
		uint32_t least = __atomic_load_n(&published, __ATOMIC_ACQUIRE);

		t->cpu->regs.r[RCX] = seen;
		ASSERT_EQ((int)run(t->cpu, code), (int)CPU_FAULT);
		ASSERT_GE(t->cpu->regs.r[RDX], t->cpu->regs.r[RAX]);
		ASSERT_GT(t->cpu->regs.r[RAX], (uint64_t)seen);
		ASSERT_GE(t->cpu->regs.r[RAX], (uint64_t)least);
		seen = t->cpu->regs.r[RAX];
		__atomic_store_n(&t->done, seen, __ATOMIC_RELEASE);
	}
	detach(t->cpu);
	return NULL;
}

/* As a system call changes a page of text: with the lock, then the blocks die. */
static void change_text(uint32_t value)
{
	rt_lock();
	*(uint32_t *)(code + IMM1) = value;
	*(uint32_t *)(code + IMM2) = value;
	__atomic_fetch_add(&fake_gen, 1, __ATOMIC_RELEASE);
	if (value % 2)
		core_invalidate_page((uint64_t)code >> 12, IMM1, IMM2 + 3);
	else
		core_invalidate_range((uint64_t)code + IMM2, (uint64_t)code + IMM2 + 4);
	rt_unlock();
	__atomic_store_n(&published, value, __ATOMIC_RELEASE);
}

static void change_storm(unsigned int n)
{
	prepare(MEM_TEXT, &(struct core_opts){ 0 });
	memcpy(code, changing, sizeof(changing));
	start(n, follow);
	for (uint32_t v = 1; v <= CHANGES; v++) {
		change_text(v);
		/* Now and then all of them must have seen it, spinning or not. */
		for (unsigned int i = 0; v % 10 == 0 && i < n; i++)
			while (__atomic_load_n(&threads[i].done, __ATOMIC_ACQUIRE) < v)
				sched_yield();
	}
	join(n);
}

TEST(change_for_one)
{
	change_storm(1);
}

TEST(change_for_two)
{
	change_storm(2);
}

TEST(change_for_eight)
{
	change_storm(8);
}

/* Nobody tells anybody: what runs is one of the values that were written. */
static void *watch(void *arg)
{
	struct thread *t = arg;
	uint64_t different = 0, last = 0;

	alt_stack();
	attach(t->cpu);
	while (!over || !different) {
		t->cpu->regs.r[RCX] = 1UL << 32;	/* never equal: no loop */
		ASSERT_EQ((int)run(t->cpu, code), (int)CPU_FAULT);
		ASSERT_EQ(t->cpu->regs.r[RAX] % 0x01010101, 0UL);
		ASSERT_EQ(t->cpu->regs.r[RDX] % 0x01010101, 0UL);
		different += t->cpu->regs.r[RAX] != last;
		last = t->cpu->regs.r[RAX];
		t->done++;
	}
	detach(t->cpu);
	return NULL;
}

static void unsynchronised(unsigned int n, size_t cache_bytes, uint64_t epochs)
{
	prepare(MEM_CHECKED, &(struct core_opts){ .cache_bytes = cache_bytes });
	memcpy(code, changing, sizeof(changing));
	/* cmp %rcx, %rax, with room for its prefix */
	memcpy(code + 16, "\x48\x39\xc8\x0f\x0b", 5);
	start(n, watch);
	for (uint32_t v = 0; v < 20000 || cache_epoch() < epochs; v++) {
		__atomic_store_n((uint32_t *)(code + IMM1), v % 251 * 0x01010101,
				 __ATOMIC_RELAXED);
		__atomic_store_n((uint32_t *)(code + IMM2), v % 241 * 0x01010101,
				 __ATOMIC_RELAXED);
		if (v % 16 == 0)
			sched_yield();
	}
	over = 1;
	join(n);
}

TEST(change_checked_blocks)
{
	unsynchronised(4, 0, 1);
}

TEST(change_checked_blocks_and_flush)
{
	unsynchronised(4, 1, 3);
}

/* ---- threads that come and go -------------------------------------------------------- */

#define LIVES 60

static void *come_and_go(void *arg)
{
	struct thread *t = arg;

	alt_stack();
	for (unsigned int life = 0; life < LIVES; life++) {
		uint32_t from = BLOCKS - 100 - (t->nr * 7 + life) % 300;

		attach(t->cpu);
		t->cpu->regs.r[RAX] = life;
		ASSERT_EQ((int)run(t->cpu, code + from * BLOCK_BYTES), (int)CPU_FAULT);
		ASSERT_EQ(t->cpu->regs.r[RAX], expect(life, from));
		detach(t->cpu);
	}
	return NULL;
}

static void *walk_on(void *arg)
{
	struct thread *t = arg;

	if (t->nr)
		return come_and_go(arg);
	/* However soon the others are through. */
	while (!over || cache_epoch() < 3)
		walk_blocks(arg);
	return NULL;
}

/* One goes through more code than there is room for; the others last briefly. */
TEST_LONG(threads_come_and_go, 60)
{
	unsigned int listed = 0;

	prepare(MEM_TEXT, &(struct core_opts){ .cache_bytes = 1 });
	write_blocks();
	start(4, walk_on);
	for (unsigned int i = 1; i < 4; i++)
		ASSERT_EQ(pthread_join(threads[i].self, NULL), 0);
	over = 1;
	ASSERT_EQ(pthread_join(threads[0].self, NULL), 0);
	/* Each cpu once, however often it was used: and the first thread's. */
	for (struct cpu *c = all_cpus; c; c = c->next)
		listed++;
	ASSERT_EQ(listed, 5U);
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
