// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Watchpoints: every kind of store, told exactly; and it must have done what it does
 * on memory that nobody watches.
 */
#include "conf.h"

#include <codewp-watch.h>
#include <cpuid.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "watch_stores.h"

struct watch_regs {
	uint64_t gpr[16];		/* %rsp is not set */
	uint64_t flags;
	uint64_t pad;
	unsigned char fx[512] __attribute__((aligned(16)));
};
_Static_assert(offsetof(struct watch_regs, fx) == WATCH_FX, "watch_stores.S");

void watch_exec(struct watch_regs *io, void (*fn)(void));

enum { ANY, AVX2, AVX512, MOVBE };

/* Written: [off, off + len) and, with len2, [off2, off2 + len2). */
#define CASES								\
	C(mov8, 0, 1) C(mov_ah, 0, 1) C(mov16, 0, 2) C(mov32, 0, 4)	\
	C(mov64, 0, 8) C(mov_imm, 0, 4) C(mov_r12, 0, 8) C(mov_self, 0, 8)\
	C(mov_moffs, 0, 8, .fixed = true)				\
	C(mov_index, 0, 8) C(mov_disp, 0, 8) C(mov_fs, 0, 8)		\
	C(mov_addr32, 0, 4) C(mov_rsp, 0, 8) C(movbe, 0, 4, .cpu = MOVBE)\
	C(movnti, 0, 8)							\
	C(add, 0, 4) C(adc, 0, 8) C(inc, 0, 2) C(not, 0, 1) C(shl, 0, 4)\
	C(shld, 0, 8) C(sete, 0, 1) C(xchg, 0, 8) C(lock_add, 0, 8)	\
	C(xadd, 0, 4) C(cmpxchg_ok, 0, 4) C(cmpxchg_no, 0, 4)		\
	C(cmpxchg16b, 0, 16, .align = 16)				\
	C(bts_reg, 24, 8) C(btc_neg, -4, 4) C(bts_imm, 0, 4)		\
	C(movups, 0, 16) C(movaps, 0, 16, .align = 16) C(movq_xmm, 0, 8)\
	C(movhps, 0, 8) C(pextrb, 0, 1) C(extractps, 0, 4)		\
	C(movntdq, 0, 16, .align = 16) C(movq_mm, 0, 8)			\
	C(maskmovdqu, 2, 2, 7, 1) C(maskmovq, 0, 1, 7, 1)		\
	C(vmovups, 0, 32, .cpu = AVX2) C(vmovups_hi, 0, 32, .cpu = AVX2)\
	C(vextract, 0, 16, .cpu = AVX2) C(vcvtps2ph, 0, 8, .cpu = AVX2)	\
	C(vmaskmovps, 4, 4, 24, 4, .cpu = AVX2)				\
	C(vpmaskmovq, 24, 8, .cpu = AVX2)				\
	C(vmask_none, 0, 1, .cpu = AVX2)				\
	C(vmovdqu32_k, 4, 4, 24, 4, .cpu = AVX512)			\
	C(vmovdqu8_k, 2, 2, .cpu = AVX512)				\
	C(vpcompressd, 0, 16, .cpu = AVX512)				\
	C(vmovdqu64_z30, 0, 64, .cpu = AVX512)				\
	C(vpscatterdd, 0, 4, 24, 4, .cpu = AVX512)			\
	C(vpscatter_base, 0, 4, 24, 4, .cpu = AVX512)			\
	C(fst32, 0, 4) C(fstp80, 0, 10) C(fistp, 0, 8) C(fisttp, 0, 4)	\
	C(fbstp, 0, 10) C(fnstcw, 0, 2) C(stmxcsr, 0, 4) C(fnstenv, 0, 28)\
	C(fnsave, 0, 108) C(fxsave, 0, 464, .align = 16)		\
	C(xsave, 0, 416, 512, 8, .align = 64)				\
	C(stosb, 0, 1) C(stosq, 0, 8) C(rep_stosb, 0, 13)		\
	C(rep_stosq, 0, 104) C(rep_none, 0, 1) C(movsl, 0, 4)		\
	C(rep_movsb, 0, 13) C(rep_movsq, 0, 40) C(std_stosw, 0, 26)	\
	C(rep_addr32, 0, 13, .stepped = true)				\
	C(push, 8, 8) C(push_rsp, 8, 8) C(push16, 14, 2)		\
	C(push_imm, 8, 8) C(push_mem, 8, 8) C(push_top, 8, 8)		\
	C(pushf, 8, 8) C(call, 8, 8) C(call_reg, 8, 8)			\
	C(call_mem, 8, 8) C(pop_mem, 0, 8) C(pop_rsp, 0, 8)		\
	C(enter, 8, 8, .found = true)

#define C(name, ...) void wi_##name(void);
CASES
#undef C

struct insn_case {
	const char *name;
	void (*fn)(void);
	int off, len, off2, len2;
	unsigned int align;
	int cpu;
	bool fixed;		/* the address is in the instruction */
	bool stepped;		/* not on the alias */
	bool found;		/* which bytes is not decoded */
};

static const struct insn_case cases[] = {
#define C(id, o, l, ...) { .name = #id, .fn = wi_##id, .off = o, .len = l, ##__VA_ARGS__ },
CASES
#undef C
};
#define NCASES (sizeof(cases) / sizeof(cases[0]))

static bool cpu_has(int what)
{
	unsigned int a, b, c, d, lo, hi;

	if (!__get_cpuid(1, &a, &b, &c, &d))
		return false;
	if (what == ANY)
		return true;
	if (what == MOVBE)
		return c & bit_MOVBE;
	if (!(c & bit_OSXSAVE) || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return false;
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	if (what == AVX2)
		return (b & bit_AVX2) && (lo & 6) == 6;
	return (b & bit_AVX512F) && (b & bit_AVX512BW) && (b & bit_AVX512VL) &&
	       (lo & 0xe6) == 0xe6;
}

/* The compiler knows nothing of callbacks in the middle of a store. */
static void store8(void *addr, uint64_t val)
{
	__asm__ volatile("movq %1, (%0)" : : "r"(addr), "r"(val) : "memory");
}

/* ---- watches and what they are told ------------------------------------------- */

#define HITS 64
static struct hit {
	struct codewp_watch_hit h;
	unsigned char before[1024], after[1024];
} hits[HITS];
static unsigned int nr_hits;

static void note(const struct codewp_watch_hit *h, void *arg)
{
	struct hit *to = &hits[nr_hits % HITS];

	to->h = *h;
	memcpy(to->before, h->before, h->watch_len < 1024 ? h->watch_len : 1024);
	memcpy(to->after, h->after, h->watch_len < 1024 ? h->watch_len : 1024);
	nr_hits++;
	if (arg)
		++*(unsigned int *)arg;
}

static struct codewp_watch *watch_with(uint64_t voff, uint64_t len, codewp_watch_fn fn,
				       void *arg)
{
	struct codewp_watch_opts o = { .sz = sizeof(o), .arg = arg };
	struct codewp_watch *w;

	OK(codewp_watch(&w, fx.view, voff, len, fn, &o));
	return w;
}

static struct codewp_watch *watch(uint64_t voff, uint64_t len, unsigned int *count)
{
	return watch_with(voff, len, note, count);
}

static void to_watch(struct codewp_trap *trap)
{
	if (!codewp_watch_trap(trap) && trap->armed)
		codewp_disarm(trap->view, trap->voff & -PAGE, PAGE);
}

static int own_event(const struct codewp_event_info *ev)
{
	return codewp_watch_event(fx.view, ev);
}

static unsigned int events_watched;

static void take(const struct codewp_event_info *ev, void *arg)
{
	events_watched += own_event(ev);
}

static void drain_watch(void)
{
	OK(codewp_drain(fx.view, take, NULL));
}

static void open_watched(bool private_view)
{
	struct codewp_open_opts o = conf_open_opts();

	fx_open_with(&o, private_view);
	fx_register(NULL);
	on_trap = to_watch;
}

/* ---- every kind of store --------------------------------------------------------- */

#define AREA (4 * PAGE)
#define ALT_STACK (256UL << 10)
static void *alt_stack;
static unsigned char source[256] __attribute__((aligned(64)));

static void regs_for(const struct insn_case *c, struct watch_regs *io, uint64_t at)
{
	uint64_t fs;

	memset(io, 0, sizeof(*io));
	for (int i = 0; i < 16; i++)
		io->gpr[i] = 0x1122334455667788ULL * (i + 3);
	io->gpr[1] = 13;
	io->gpr[3] = at - 0x7b;
	io->gpr[6] = (uintptr_t)source;
	io->gpr[7] = at;
	ASSERT_OK(syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &fs));
	io->gpr[9] = at - fs;
	io->gpr[11] = 77;
	io->flags = 0x246;
	/* A state with something in every register, and no exception unmasked. */
	__asm__ volatile("fxsave64 (%0)" : : "r"(io->fx) : "memory");
	*(uint16_t *)io->fx = 0x37f;
	memset(io->fx + 2, 0, 22);
	*(uint32_t *)(io->fx + 24) = 0x1f80;
	for (int i = 0; i < 8; i++) {
		memset(io->fx + 32 + 16 * i, 0x21 + i, 8);
		memset(io->fx + 40 + 16 * i, 0, 8);
	}
	for (int i = 0; i < 256; i++)
		io->fx[160 + i] = i * 7 + 1;
}

static void fill(unsigned char *p)
{
	for (unsigned int i = 0; i < AREA; i++)
		p[i] = i * 13 + i / 256;
}

/*
 * Some emulators do, of a locked instruction that crosses a page and faults, on any
 * memory.
 */
static bool loses_flags(void)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	uint64_t flags;

	ASSERT(p != MAP_FAILED);
	__asm__ volatile("pushq $0x246; popfq; xchgq %%rax, (%1); pushfq; popq %0"
			 : "=r"(flags) : "r"(p + PAGE - 2) : "rax", "memory");
	ASSERT_OK(munmap(p, 2 * PAGE));
	return (flags & 0x8d5) != 0x44;
}

static bool written(const struct insn_case *c, int i)
{
	return (i >= c->off && i < c->off + c->len) ||
	       (i >= c->off2 && i < c->off2 + c->len2);
}

/* What it does where nobody watches, at the same address. */
static void run_native(const struct insn_case *c, struct watch_regs *io, uint64_t at,
		       unsigned char *result)
{
	unsigned char *p = mmap((void *)(uintptr_t)WATCH_ADDR, AREA, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	ASSERT(p != MAP_FAILED);
	fill(p);
	regs_for(c, io, at);
	watch_exec(io, c->fn);
	memcpy(result, p, AREA);
	ASSERT_OK(munmap(p, AREA));
}

/* A store may come in parts at a page's end: then that many hits may be. */
static void run_case(const struct insn_case *c, unsigned int off, bool cross)
{
	static unsigned char want[AREA];
	static struct watch_regs native, watched;
	uint64_t at = WATCH_ADDR + off;
	stack_t alt = { .ss_sp = alt_stack, .ss_size = ALT_STACK };
	int end = c->off + c->len, all;
	bool split;
	unsigned int n_first = 0, n_last = 0, n_all = 0, n_before = 0, n_after = 0, n_hole = 0;
	struct codewp_watch *w[6] = { 0 };
	void *p = (void *)(uintptr_t)WATCH_ADDR;
	const struct hit *h = &hits[0];

	if (c->off2 + c->len2 > end)
		end = c->off2 + c->len2;
	all = end - c->off;
	/* Armed pages that are mappings of their own: across them nothing is moved. */
	split = !can(CODEWP_CAN_NO_SPLIT) && (off + c->off) / PAGE != (off + end - 1) / PAGE;
	run_native(c, &native, at, want);

	fill(fx.alias);
	OK(codewp_map(fx.view, &p, AREA, 0, PROT_READ | PROT_WRITE, MAP_FIXED));
	regs_for(c, &watched, at);
	w[0] = watch(off + c->off, 1, &n_first);
	w[1] = watch(off + end - 1, 1, &n_last);
	w[2] = watch(off + c->off - 9, 9, &n_before);
	w[3] = watch(off + end, 300, &n_after);
	if (c->len2)
		w[4] = watch(off + c->off + c->len, c->off2 - c->off - c->len, &n_hole);
	w[5] = watch(off + c->off, all, &n_all);	/* the last is told first */
	nr_hits = 0;
	traps = 0;
	/* Signals of the soft backends, and of a step, must not go to the watched page. */
	alt.ss_flags = can(CODEWP_CAN_UPCALL) && !c->stepped && !c->found ? SS_DISABLE : 0;
	ASSERT_OK(sigaltstack(&alt, NULL));
	watch_exec(&watched, c->fn);

	for (unsigned int i = 0; i < AREA; i++)
		/* Where a step traps again: below the red zone is a signal's. */
		if (fx.alias[i] != want[i] && !(c->found && i + 112 < off))
			TEST_FAIL("%s+%x: byte %d is %02x, not %02x", c->name, off,
				  (int)(i - off), fx.alias[i], want[i]);
	for (int i = 0; i < 16; i++)
		if (watched.gpr[i] != native.gpr[i])
			TEST_FAIL("%s+%x: register %d is %llx, not %llx", c->name, off, i,
				  (long long)watched.gpr[i], (long long)native.gpr[i]);
	if (((watched.flags ^ native.flags) & 0x8d5) && !(cross && loses_flags()))
		TEST_FAIL("%s+%x: flags %llx, not %llx", c->name, off,
			  (long long)watched.flags, (long long)native.flags);
	/* But for the addresses of the last x87 instruction and its operand. */
	if (memcmp(watched.fx, native.fx, 6) || memcmp(watched.fx + 24, native.fx + 24, 392))
		TEST_FAIL("%s+%x: vector registers", c->name, off);

	if (!traps)
		TEST_FAIL("%s+%x: no trap", c->name, off);
	if (n_before || n_after || n_hole)
		TEST_FAIL("%s+%x: told of %u before, %u after, %u between", c->name, off,
			  n_before, n_after, n_hole);
	/* An emulator may have done half of it when the other page traps: found first. */
	if (!n_first || !n_last || !n_all || (!split && (n_first > 1 || n_last > 1)) ||
	    (n_all > 1 && !cross && !c->stepped))
		TEST_FAIL("%s+%x: told %u, first byte %u, last byte %u", c->name, off, n_all,
			  n_first, n_last);
	if (n_all == 1) {
		if (!c->found && (h->h.voff != off + c->off || h->h.len != (uint64_t)all))
			TEST_FAIL("%s+%x: told of %d, %d bytes", c->name, off,
				  (int)(h->h.voff - off), (int)h->h.len);
		if (!c->found && !(h->h.flags & CODEWP_WATCH_EXACT))
			TEST_FAIL("%s+%x: not exact", c->name, off);
		if ((c->stepped || c->found || split) != !!(h->h.flags & CODEWP_WATCH_STEPPED))
			TEST_FAIL("%s+%x: flags %x", c->name, off, h->h.flags);
		for (int i = 0; i < all; i++) {
			unsigned char old = (off + c->off + i) * 13 + (off + c->off + i) / 256;

			if (h->before[i] != old || h->after[i] != want[off + c->off + i])
				TEST_FAIL("%s+%x: value of byte %d", c->name, off, i);
			ASSERT(written(c, c->off + i) || h->before[i] == h->after[i]);
		}
	}
	/* The pages are watched as before. */
	for (unsigned int i = (off + c->off) / PAGE; i <= (off + end - 1) / PAGE; i++)
		if (!(page_state(i) & CODEWP_PAGE_ARMED))
			TEST_FAIL("%s+%x: page %u is open", c->name, off, i);
	ASSERT_EQ(drain_all(fx.view), 0);
	for (int i = 0; i < 6; i++)
		codewp_unwatch(w[i]);
	for (unsigned int i = 0; i < AREA / PAGE; i++)
		ASSERT(!(page_state(i) & CODEWP_PAGE_ARMED));
	OK(codewp_unmap(fx.ctx, p, AREA));
}

static void every_store(unsigned int off, bool cross, bool private_view)
{
	unsigned int ran = 0;

	open_watched(private_view);
	alt_stack = malloc(ALT_STACK);
	for (unsigned int i = 0; i < sizeof(source); i++)
		source[i] = 0x35 + i * 3;
	for (size_t i = 0; i < NCASES; i++) {
		const struct insn_case *c = &cases[i];

		if (!cpu_has(c->cpu) || (c->align > 1 && off % c->align) ||
		    (c->fixed && off != WATCH_OFF))
			continue;
		run_case(c, off, cross);
		ran++;
	}
	/* Nothing but what this processor lacks, or what may not cross. */
	ASSERT_GE(ran, NCASES - (cpu_has(AVX512) ? 0 : 6) - (cpu_has(AVX2) ? 0 : 7) -
		       (cross || !private_view ? 7 : 0));
}

TEST_LONG(watch_every_store, 60)
{
	every_store(WATCH_OFF, false, true);
}

TEST_LONG(watch_every_store_shared_view, 60)
{
	every_store(WATCH_OFF, false, false);
}

/* Two bytes before a page's end: most of them cross it. */
TEST_LONG(watch_every_store_across_pages, 60)
{
	every_store(2 * PAGE - 2, true, true);
}

TEST_LONG(watch_every_store_across_pages_11, 60)
{
	every_store(2 * PAGE - 11, true, true);
}

/* ---- the other ways to write ------------------------------------------------------- */

TEST(watch_kernel_write_is_found)
{
	unsigned int count = 0;
	struct codewp_watch *w;
	int p[2];

	open_watched(true);
	w = watch(PAGE + 100, 8, &count);
	ASSERT_OK(pipe(p));
	ASSERT_EQ(write(p[1], "abcdef", 6), 6);
	OK(codewp_kernel_write_addr(fx.ctx, fx.mem + PAGE + 98, 6));
	ASSERT_EQ(read(p[0], fx.mem + PAGE + 98, 6), 6);
	drain_watch();
	ASSERT_EQ(events_watched, 1);
	ASSERT_EQ(count, 1);
	ASSERT(hits[0].h.flags & CODEWP_WATCH_KERNEL);
	ASSERT(!(hits[0].h.flags & CODEWP_WATCH_EXACT));
	ASSERT_EQ(hits[0].h.voff, PAGE + 100);
	ASSERT_EQ(hits[0].h.len, 4);
	ASSERT_EQ(hits[0].after[0], 'c');
	ASSERT_EQ(hits[0].before[0], 0);
	/* Beside it; the page is watched again. */
	OK(codewp_kernel_write_addr(fx.ctx, fx.mem + PAGE + 300, 4));
	ASSERT_EQ(write(p[1], "abcdef", 6), 6);
	ASSERT_EQ(read(p[0], fx.mem + PAGE + 300, 4), 4);
	drain_watch();
	ASSERT_EQ(events_watched, 2);
	ASSERT_EQ(count, 1);
	store2(fx.mem + PAGE + 107, 9);
	ASSERT_EQ(count, 2);
	ASSERT(hits[1].h.flags & CODEWP_WATCH_EXACT);
	codewp_unwatch(w);
}

TEST(watch_unregistered_thread_is_found)
{
	unsigned int count = 0;

	open_watched(true);
	watch(5 * PAGE + 7, 1, &count);
	in_thread(store_thread, fx.mem + 5 * PAGE + 7);
	drain_watch();
	ASSERT_EQ(count, 1);
	ASSERT_EQ(hits[0].after[0], 0xee);
	in_thread(store_thread, fx.mem + 5 * PAGE + 8);
	drain_watch();
	ASSERT_EQ(count, 1);
	/* The same byte again: known from the event, with nothing changed. */
	in_thread(store_thread, fx.mem + 5 * PAGE + 7);
	drain_watch();
	ASSERT_EQ(count, 2);
	ASSERT_EQ(hits[1].h.len, 0);
}

/* What nobody was told of yet is not taken for the next store's doing. */
TEST(watch_unseen_change_comes_first)
{
	unsigned int count = 0;

	open_watched(true);
	watch(PAGE, 16, &count);
	fx.alias[PAGE + 3] = 0x77;
	store2(fx.mem + PAGE + 4, 0x42);
	ASSERT_EQ(count, 2);
	ASSERT(!(hits[0].h.flags & CODEWP_WATCH_EXACT));
	ASSERT_EQ(hits[0].h.voff, PAGE + 3);
	ASSERT_EQ(hits[0].h.len, 1);
	ASSERT(hits[1].h.flags & CODEWP_WATCH_EXACT);
	ASSERT_EQ(hits[1].h.voff, PAGE + 4);
	ASSERT_EQ(hits[1].before[3], 0x77);
	ASSERT_EQ(hits[1].h.addr, (uintptr_t)fx.mem + PAGE + 4);
	ASSERT_EQ(hits[1].h.tid, syscall(SYS_gettid));
	fx.alias[PAGE + 9] = 1;
	ASSERT_EQ(codewp_watch_check(fx.view), 1);
	ASSERT_EQ(codewp_watch_check(fx.view), 0);
	ASSERT_EQ(hits[2].h.voff, PAGE + 9);
}

TEST(watch_changes_only)
{
	struct codewp_watch_opts o = { .sz = sizeof(o), .changes = true };
	struct codewp_watch *w;

	open_watched(true);
	OK(codewp_watch(&w, fx.view, 0, 4, note, &o));
	store2(fx.mem, 0);
	ASSERT_EQ(nr_hits, 0);
	store2(fx.mem, 1);
	ASSERT_EQ(nr_hits, 1);
}

/* ---- threads -------------------------------------------------------------------------- */

#define THREADS 4
#define ROUNDS 400
static uint64_t chain, broken, seen_adds;

static void follow(const struct codewp_watch_hit *h, void *arg)
{
	uint64_t before, after;

	memcpy(&before, h->before, 8);
	memcpy(&after, h->after, 8);
	if (before != chain || after != before + 3 || !(h->flags & CODEWP_WATCH_EXACT))
		broken++;
	chain = after;
	seen_adds++;
}

static void *adder(void *arg)
{
	unsigned long n = (unsigned long)arg;
	uint64_t *counter = (uint64_t *)(fx.mem + 2 * PAGE + 64);
	struct codewp_thread_opts o = { .sz = sizeof(o), .fn = conf_callback };
	struct codewp_thread *t;

	OK(codewp_thread_register(fx.ctx, &t, &o));
	for (unsigned int i = 0; i < ROUNDS; i++) {
		/* Plain, not atomic, in its own word; atomic in the shared one. */
		__atomic_fetch_add(counter, 3, __ATOMIC_RELAXED);
		(*(volatile uint32_t *)(fx.mem + 2 * PAGE + 512 + 4 * n))++;
	}
	codewp_thread_unregister(t);
	return NULL;
}

/* No store gets by: the values make one chain, and nothing beside is told. */
TEST_LONG(watch_threads, 120)
{
	pthread_t t[THREADS];

	open_watched(true);
	watch_with(2 * PAGE + 64, 8, follow, NULL);
	for (unsigned long i = 0; i < THREADS; i++)
		ASSERT_EQ(pthread_create(&t[i], NULL, adder, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		ASSERT_EQ(pthread_join(t[i], NULL), 0);
	ASSERT_EQ(broken, 0);
	ASSERT_EQ(seen_adds, THREADS * ROUNDS);
	ASSERT_EQ(chain, 3 * THREADS * ROUNDS);
	for (int i = 0; i < THREADS; i++)
		ASSERT_EQ(*(uint32_t *)(fx.mem + 2 * PAGE + 512 + 4 * i), ROUNDS);
	ASSERT_EQ(drain_all(fx.view), 0);
}

/* A thread that blocks what can be blocked. */
TEST(watch_with_signals_blocked)
{
	unsigned int count = 0;
	sigset_t all, now;

	open_watched(true);
	watch(PAGE, 1, &count);
	sigfillset(&all);
	if (!can(CODEWP_CAN_UPCALL)) {
		sigdelset(&all, SIGSEGV);	/* a soft backend's own */
		sigdelset(&all, SIGBUS);
	}
	ASSERT_OK(sigprocmask(SIG_SETMASK, &all, NULL));
	store2(fx.mem + PAGE, 1);
	store2(fx.mem + PAGE, 2);
	ASSERT_EQ(count, 2);
	ASSERT_OK(sigprocmask(SIG_BLOCK, NULL, &now));
	for (int i = 1; i < 32; i++)
		ASSERT_EQ(sigismember(&now, i),
			  i != SIGKILL && i != SIGSTOP && sigismember(&all, i));
}

static volatile unsigned int ticks;

static void tick(int sig)
{
	ticks = ticks + 1;
	*(volatile unsigned char *)(fx.mem + PAGE + 9) = ticks;
}

static unsigned char last9;
static unsigned int broken9;

static void follow9(const struct codewp_watch_hit *h, void *arg)
{
	broken9 += *(const unsigned char *)h->before != last9;
	last9 = *(const unsigned char *)h->after;
	*(unsigned int *)arg += h->len != 0;
}

/*
 * A handler that writes to the watched page itself. When it interrupts an upcall,
 * its store goes to the ring: several may be told as one, and an event that comes
 * after its change was found is told with no bytes.
 */
TEST_LONG(watch_under_a_signal_storm, 60)
{
	struct sigaction sa = { .sa_handler = tick, .sa_flags = SA_RESTART };
	struct itimerspec every = { { 0, 300000 }, { 0, 300000 } };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	unsigned int count = 0, count9 = 0;
	timer_t timer;

	open_watched(true);
	watch(PAGE, 1, &count);
	watch_with(PAGE + 9, 1, follow9, &count9);
	ASSERT_OK(sigaction(SIGALRM, &sa, NULL));
	ASSERT_OK(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	ASSERT_OK(timer_settime(timer, 0, &every, NULL));
	for (unsigned int i = 0; i < 3000 || ticks < 20; i++) {
		store2(fx.mem + PAGE, i);
		ASSERT_EQ(count, i + 1);
	}
	ASSERT_OK(timer_delete(timer));
	drain_watch();
	ASSERT_EQ(codewp_watch_check(fx.view), 0);
	ASSERT_EQ(broken9, 0);
	ASSERT_EQ(last9, ticks & 0xff);
	ASSERT_LE(count9, ticks);
	ASSERT_GE(count9, ticks / 2);
}

/* ---- when things go wrong ---------------------------------------------------------------- */

static volatile uint64_t fault_ip, fault_addr, fault_cx, fault_di;
static void *fix_page;

static void on_fault(int sig, siginfo_t *info, void *ctx)
{
	ucontext_t *uc = ctx;

	fault_ip = uc->uc_mcontext.gregs[REG_RIP];
	fault_addr = (uintptr_t)info->si_addr;
	fault_cx = uc->uc_mcontext.gregs[REG_RCX];
	fault_di = uc->uc_mcontext.gregs[REG_RDI];
	if (mprotect(fix_page, PAGE, PROT_READ | PROT_WRITE))
		_exit(1);
}

/* The source of a copy faults in the middle: seen as if nothing were watched. */
TEST(watch_fault_in_the_source)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	unsigned int count = 0;
	uint64_t src, dst, n = 12;
	unsigned char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT(p != MAP_FAILED);
	memset(p, 0x5c, 2 * PAGE);
	fix_page = p + PAGE;
	/* Ours is there first: what we pass on goes to it. */
	ASSERT_OK(sigaction(SIGSEGV, &sa, NULL));
	open_watched(true);
	watch(3 * PAGE + 50, 12, &count);
	ASSERT_OK(mprotect(fix_page, PAGE, PROT_NONE));
	src = (uintptr_t)fix_page - 5;
	dst = (uintptr_t)fx.mem + 3 * PAGE + 50;
	__asm__ volatile("1: rep movsb\n\tleaq 1b(%%rip), %%rax"
			 : "+S"(src), "+D"(dst), "+c"(n) : : "rax", "memory");
	ASSERT_EQ(fault_addr, (uintptr_t)fix_page);
	ASSERT_EQ(fault_cx, 7);
	ASSERT_EQ(fault_di, (uintptr_t)fx.mem + 3 * PAGE + 55);
	ASSERT_EQ(n, 0);
	ASSERT_EQ(dst, (uintptr_t)fx.mem + 3 * PAGE + 62);
	for (int i = 0; i < 12; i++)
		ASSERT_EQ(fx.mem[3 * PAGE + 50 + i], 0x5c);
	/* The five bytes before it, and the rest. */
	ASSERT_EQ(count, 2);
	ASSERT_EQ(hits[0].h.len, 5);
	ASSERT_EQ(hits[1].h.len, 7);
	ASSERT(page_state(3) & CODEWP_PAGE_ARMED);
}

/* Half of the store goes somewhere else. */
TEST(watch_store_that_leaves_the_view)
{
	unsigned int count = 0;
	void *p = NULL;

	open_watched(true);
	OK(codewp_map(fx.view, &p, PAGE, 7 * PAGE, PROT_READ | PROT_WRITE, 0));
	/* The same page in front of memory that is not the view's. */
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(p != MAP_FAILED);
	OK(codewp_map(fx.view, &p, PAGE, 7 * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED));
	watch(8 * PAGE - 4, 4, &count);
	fx.alias[8 * PAGE] = 0x11;
	store8((char *)p + PAGE - 4, 0x8877665544332211);
	ASSERT_EQ(count, 1);
	ASSERT(hits[0].h.flags & CODEWP_WATCH_STEPPED);
	ASSERT_EQ(hits[0].after[0], 0x11);
	ASSERT_EQ(fx.alias[8 * PAGE - 1], 0x44);
	ASSERT_EQ(*((unsigned char *)p + PAGE), 0x55);
	ASSERT_EQ(fx.alias[8 * PAGE], 0x11);
	ASSERT(page_state(7) & CODEWP_PAGE_ARMED);
}

/* A page that a translator has armed: it is told, and stays armed afterwards. */
static unsigned int code_traps;

static void translator(struct codewp_trap *trap)
{
	code_traps += trap->voff >> 12 == 4;
	to_watch(trap);
}

TEST(watch_beside_a_translator)
{
	struct codewp_watch *w;
	unsigned int count = 0;

	open_watched(true);
	on_trap = translator;
	OK(codewp_arm(fx.view, 4 * PAGE, PAGE, CODEWP_KEEP, NULL));
	watch(4 * PAGE - 8, 8, &count);
	w = watch(4 * PAGE + 8, 8, &count);
	/* Across: the translator's half must not be written behind its back. */
	store8(fx.mem + 4 * PAGE - 4, 1);
	ASSERT_EQ(count, 1);
	ASSERT_EQ(code_traps, 1);
	ASSERT(page_state(3) & CODEWP_PAGE_ARMED);
	ASSERT(page_state(4) & CODEWP_PAGE_ARMED);
	store2(fx.mem + 4 * PAGE + 8, 1);
	ASSERT_EQ(count, 2);
	ASSERT_EQ(code_traps, 2);
	codewp_unwatch(w);
	ASSERT(page_state(4) & CODEWP_PAGE_ARMED);
}

static struct codewp_watch *ending;

static void end_self(const struct codewp_watch_hit *h, void *arg)
{
	nr_hits++;
	codewp_unwatch(ending);
}

TEST(watch_ends_in_its_callback)
{
	open_watched(true);
	ending = watch_with(PAGE, 8, end_self, NULL);
	store2(fx.mem + PAGE, 1);
	store2(fx.mem + PAGE, 2);
	ASSERT_EQ(nr_hits, 1);
	ASSERT_EQ(traps, 1);
	ASSERT(!(page_state(1) & CODEWP_PAGE_ARMED));
	ending = watch_with(PAGE, 8, end_self, NULL);
	store2(fx.mem + PAGE, 3);
	ASSERT_EQ(nr_hits, 2);
	ASSERT_EQ(fx.mem[PAGE], 3);
}

/* A callback that writes to the page that it watches. */
static void scribble(const struct codewp_watch_hit *h, void *arg)
{
	note(h, arg);
	if (h->flags & CODEWP_WATCH_EXACT)
		*(volatile unsigned char *)(fx.mem + PAGE + 1) = 0x99;
}

TEST(watch_callback_that_writes)
{
	open_watched(true);
	watch_with(PAGE, 2, scribble, NULL);
	store2(fx.mem + PAGE, 1);
	ASSERT_EQ(fx.mem[PAGE + 1], 0x99);
	drain_watch();
	ASSERT_EQ(nr_hits, 2);
	ASSERT(!(hits[1].h.flags & CODEWP_WATCH_EXACT));
	ASSERT_EQ(hits[1].h.voff, PAGE + 1);
	ASSERT(page_state(1) & CODEWP_PAGE_ARMED);
	store2(fx.mem + PAGE, 5);
	ASSERT_GE(nr_hits, 3);
}

TEST(watch_arguments)
{
	struct codewp_watch_opts o = { .sz = sizeof(o) };
	struct { struct codewp_watch_opts o; uint64_t more; } big = { { 0 }, 1 };
	struct codewp_watch *w;

	open_watched(true);
	REFUSED(codewp_watch(NULL, fx.view, 0, 1, note, &o), EINVAL);
	REFUSED(codewp_watch(&w, NULL, 0, 1, note, &o), EINVAL);
	REFUSED(codewp_watch(&w, fx.view, 0, 0, note, &o), EINVAL);
	REFUSED(codewp_watch(&w, fx.view, 0, 1, NULL, &o), EINVAL);
	REFUSED(codewp_watch(&w, fx.view, BYTES, 1, note, &o), ERANGE);
	REFUSED(codewp_watch(&w, fx.view, BYTES - 1, 2, note, &o), ERANGE);
	REFUSED(codewp_watch(&w, fx.view, -4096ULL, 8192, note, &o), EOVERFLOW);
	REFUSED(codewp_watch(&w, fx.view, 0, 1ULL << 60, note, &o), ERANGE);
	o.sz = 4;
	REFUSED(codewp_watch(&w, fx.view, 0, 1, note, &o), EINVAL);
	big.o.sz = sizeof(big);
	REFUSED(codewp_watch(&w, fx.view, 0, 1, note, &big.o), E2BIG);
	ASSERT(!w);
	REFUSED(codewp_watch_check(fx.view), ENOENT);
	/* Behind the file's end nothing can be watched; nothing is left armed. */
	ASSERT_OK(ftruncate(fx.memfd, BYTES - PAGE));
	REFUSED(codewp_watch(&w, fx.view, BYTES - PAGE - 8, 16, note, NULL), ENXIO);
	ASSERT(!(page_state(PAGES - 2) & CODEWP_PAGE_ARMED));
	OK(codewp_watch(&w, fx.view, BYTES - PAGE - 8, 8, note, NULL));
	codewp_unwatch(w);
	codewp_unwatch(NULL);
}
