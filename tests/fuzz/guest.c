// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The fuzzer's guest: runs each sequence of a corpus and leaves a digest of
 * everything it can see afterwards. The same program runs natively and
 * translated.
 *
 *	fuzz-guest CORPUS RESULTS [--catch] [--range FIRST LAST] [--dump FILE NR]
 *
 * --catch, only natively: a sequence that faults or does not end is marked, and
 * the next one runs; the driver then leaves it out. --dump writes the state
 * after sequence NR. Each sequence runs twice, so that code
 * that was translated once is entered again.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "layout.h"

extern struct fuzz_state fuzz_in, fuzz_out;
extern uint64_t fuzz_host_fs, fuzz_mask;
void fuzz_enter(void);
extern char fuzz_exit[], fuzz_fault_exit[];

static struct fuzz_corpus *corpus;
static struct fuzz_results *results;
static uint8_t pattern[FUZZ_DATA_SIZE] __attribute__((aligned(64)));
static uint32_t xoff[8], xsize[8];

/* --dump: the state after each round */
static const char *dump;
static uint32_t dump_nr;
static struct fuzz_dump dumped[2];

/* for the handler */
static volatile int inside, fault_sig;
static volatile uint64_t fault_rip;
static volatile uint32_t ticks_at;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "fuzz-guest: %s: %s\n", what, strerror(errno));
	exit(2);
}

/*
 * Natively only. May interrupt anything between fuzz_enter and fuzz_exit, with
 * the sequence's %fs: nothing here may touch thread-local storage before it is
 * put right.
 */
static void handler(int sig, siginfo_t *si, void *ctx)
{
	ucontext_t *uc = ctx;
	greg_t *g = uc->uc_mcontext.gregs;
	int tick = sig == SIGVTALRM;

	if (tick && (!inside || ticks_at != results->current * 2 + 1)) {
		/* the first tick in this sequence: let it be */
		ticks_at = results->current * 2 + 1;
		return;
	}
	if (!inside) {
		static const char text[] = "fuzz-guest: fault outside a sequence\n";

		if (write(2, text, sizeof(text) - 1) < 0)
			_exit(4);
		_exit(3);
	}
	fault_sig = sig;
	fault_rip = g[REG_RIP];
	g[REG_RIP] = (uintptr_t)fuzz_fault_exit;
	g[REG_EFL] = 0x202;
}

static void catch_faults(void)
{
	static uint8_t stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct itimerval it = { { 0, 20000 }, { 0, 20000 } };
	int sigs[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGVTALRM };

	if (sigaltstack(&ss, NULL))
		die("sigaltstack");
	for (int i = 0; i < 6; i++)
		if (sigaction(sigs[i], &sa, NULL))
			die("sigaction");
	if (setitimer(ITIMER_VIRTUAL, &it, NULL))
		die("setitimer");
}

static void *map(uintptr_t addr, size_t size, int prot, int flags, int fd, off_t off)
{
	void *p = mmap((void *)addr, size, prot, flags | MAP_FIXED, fd, off);

	if (p == MAP_FAILED || (uintptr_t)p != addr)
		die("mmap");
	return p;
}

static void lay_out(void)
{
	uint64_t rng = corpus->seed ^ 0x5eed;
	int anon = MAP_PRIVATE | MAP_ANONYMOUS;
	uint32_t *c;

	if (mmap((void *)FUZZ_LOW, FUZZ_HIGH - FUZZ_LOW, PROT_NONE,
		 anon | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != (void *)FUZZ_LOW)
		die("reserve");
	*(uint64_t *)map(FUZZ_EXIT, 4096, PROT_READ | PROT_WRITE, anon, -1, 0) = (uintptr_t)fuzz_exit;
	mprotect((void *)FUZZ_EXIT, 4096, PROT_READ);
	c = map(FUZZ_CONST, 4096, PROT_READ | PROT_WRITE, anon, -1, 0);
	/* indices small as dwords and as qwords */
	for (int i = 0; i < 1024; i += 2)
		c[i] = fuzz_random(&rng) % 64;
	mprotect((void *)FUZZ_CONST, 4096, PROT_READ);
	map(FUZZ_DATA, FUZZ_DATA_SIZE, PROT_READ | PROT_WRITE |
	    (corpus->mode == MODE_ARMED ? PROT_EXEC : 0), anon, -1, 0);
	for (size_t i = 0; i < sizeof(pattern); i += 8) {
		uint64_t r = fuzz_random(&rng);

		if (r >> 61 == 0)
			r &= 0x3f0000003f;
		else if (r >> 61 == 1)	/* a pointer */
			r = FUZZ_DATA + 0x800 + (r & 0x1fff);
		memcpy(pattern + i, &r, 8);
	}
	for (size_t i = FUZZ_STUB; i < sizeof(pattern); i += 4096)
		pattern[i] = 0xc3;
	/* slot i is at FUZZ_CODE + i * FUZZ_SLOT in every mode */
	if (corpus->mode == MODE_RWX) {
		map(FUZZ_CODE, corpus->count * FUZZ_SLOT, PROT_READ | PROT_WRITE | PROT_EXEC, anon, -1, 0);
	} else {
		void *p = map(FUZZ_CODE, corpus->count * FUZZ_SLOT, PROT_READ | PROT_WRITE, anon, -1, 0);

		memcpy(p, corpus->slot, corpus->count * FUZZ_SLOT);
		mprotect(p, corpus->count * FUZZ_SLOT, PROT_READ | PROT_EXEC);
	}
}

static uint64_t mix(uint64_t h, const void *p, size_t size)
{
	const uint8_t *b = p;
	uint64_t a[4] = { h, h ^ 0x1234567, h + 0x89abcdef, ~h }, w[4];

	for (; size >= 32; b += 32, size -= 32) {
		memcpy(w, b, 32);
		for (int i = 0; i < 4; i++)
			a[i] = ((a[i] ^ w[i]) * 0x9e3779b97f4a7c15) ^ a[i] >> 29;
	}
	for (; size >= 8; b += 8, size -= 8) {
		memcpy(w, b, 8);
		a[0] = ((a[0] ^ w[0]) * 0x9e3779b97f4a7c15) ^ a[0] >> 29;
	}
	for (; size; b++, size--)
		a[1] = (a[1] ^ *b) * 0x100000001b3;
	return (a[0] * 31 + a[1]) * 31 + (a[2] * 31 + a[3]) * 17;
}

/* What must not be compared is made equal: see the head of fuzz.c. */
static void normalise(struct fuzz_state *s)
{
	s->rflags &= FUZZ_FLAGS;
	memset(s->xsave + 6, 0, 18);		/* FOP, FIP, FDP */
	memset(s->xsave + 28, 0, 4);		/* MXCSR_MASK */
	memset(s->xsave + 416, 0, 160);		/* reserved, and the header */
	for (int i = 0; i < 8; i++)		/* the padding of st(i) */
		memset(s->xsave + 32 + 16 * i + 10, 0, 6);
}

static uint64_t digest(uint64_t h)
{
	h = mix(h, fuzz_out.gpr, 19 * 8);
	h = mix(h, fuzz_out.xsave, 416);
	for (unsigned int c = 2; c < 8; c++)
		if (fuzz_mask >> c & 1)
			h = mix(h, fuzz_out.xsave + xoff[c], xsize[c]);
	return mix(h, (void *)FUZZ_DATA, FUZZ_DATA_SIZE);
}

static void run_one(uint32_t nr)
{
	struct fuzz_result *r = &results->r[nr];
	uintptr_t code = FUZZ_CODE + nr * FUZZ_SLOT;
	uint64_t h = nr;

	if (r->flags & RESULT_SKIP)
		return;
	results->current = nr;
	if (corpus->mode == MODE_RWX)
		memcpy((void *)code, corpus->slot[nr], FUZZ_SLOT);
	for (int round = 0; round < 2; round++) {
		memcpy((void *)FUZZ_DATA, pattern, FUZZ_DATA_SIZE);
		if (corpus->mode == MODE_ARMED)
			for (uintptr_t p = FUZZ_DATA; p < FUZZ_DATA + FUZZ_DATA_SIZE; p += 4096)
				((void (*)(void))(p + FUZZ_STUB))();
		fuzz_init_gprs(corpus->seed, nr, &fuzz_in);
		fuzz_init_rest(corpus->seed, nr, fuzz_mask, &fuzz_in);
		fuzz_in.rip = code;
		fault_sig = 0;
		inside = 1;
		fuzz_enter();
		inside = 0;
		if (fault_sig) {
			r->flags |= RESULT_FAULT;
			r->sig = fault_sig;
			r->fault_rip = fault_rip;
			return;
		}
		normalise(&fuzz_out);
		h = digest(h);
		if (dump && nr == dump_nr) {
			dumped[round].state = fuzz_out;
			memcpy(dumped[round].data, (void *)FUZZ_DATA, FUZZ_DATA_SIZE);
		}
	}
	r->digest = h;
	r->flags |= RESULT_DONE;
}

static void *open_map(const char *path, int flags, int prot, int share)
{
	int fd = open(path, flags | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st))
		die(path);
	p = mmap(NULL, st.st_size, prot, share, fd, 0);
	if (p == MAP_FAILED)
		die(path);
	close(fd);
	return p;
}

int main(int argc, char **argv)
{
	uint32_t first = 0, last = ~0U;
	int catch = 0;

	if (argc < 3)
		return 2;
	for (int i = 3; i < argc; i++) {
		if (!strcmp(argv[i], "--catch")) {
			catch = 1;
		} else if (!strcmp(argv[i], "--range") && i + 2 < argc) {
			first = atoi(argv[i + 1]);
			last = atoi(argv[i + 2]);
			i += 2;
		} else if (!strcmp(argv[i], "--dump") && i + 2 < argc) {
			dump = argv[i + 1];
			dump_nr = atoi(argv[i + 2]);
			i += 2;
		}
	}
	corpus = open_map(argv[1], O_RDONLY, PROT_READ, MAP_PRIVATE);
	results = open_map(argv[2], O_RDWR, PROT_READ | PROT_WRITE, MAP_SHARED);
	fuzz_mask = fuzz_xmask();
	for (unsigned int c = 2; c < 8; c++)
		if (fuzz_mask >> c & 1)
			fuzz_xcomp(c, &xoff[c], &xsize[c]);
	lay_out();
	if (catch)
		catch_faults();
	for (uint32_t nr = first; nr < corpus->count && nr <= last; nr++)
		run_one(nr);
	results->current = ~0U;
	if (dump) {
		FILE *f = fopen(dump, "w");

		if (!f || fwrite(dumped, sizeof(dumped), 1, f) != 1 || fclose(f))
			die(dump);
	}
	return 0;
}
