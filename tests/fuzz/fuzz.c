// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The differential fuzzer's driver: makes batches of sequences (gen.c), runs
 * them natively and under codewp-run by the same guest program (guest.c), and
 * compares general registers, flags, segment bases, vector and mask registers,
 * mxcsr, x87 and all of the sandbox.
 *
 * Not compared, because no translator that copies instructions can keep it: the
 * x87 instruction and data pointers (FIP, FDP, FOP hold host addresses).
 * Instructions that store them, that tell time or the processor's number, that
 * enter the kernel, or that load segment registers are not generated.
 *
 * A difference is reduced (instructions replaced by nops as long as it stays)
 * and printed with both states and a command that repeats it, and written to a
 * .seq file; files kept in tests/fuzz/seeds are run first, every time.
 *
 *	fuzz-BACKEND [-n SEQUENCES] [-s SEED] [-t SECONDS] [-m MODE] [-f FAILURES]
 *		[-x MNEMONIC]... [FILE.seq...]
 *
 * A sequence whose native result depends on what ran before it (some read what
 * nobody set) is no test of anything: it is counted, and not called a difference.
 *
 * Without arguments it is a test: a fixed seed, for 60 seconds (environment:
 * FUZZ_SECONDS).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gen.h"
#include "../translator/spawn.h"

#define LEARN_SEED 0xc0de
#define TEST_SEED 20240229

static const char *const mode_name[MODE_COUNT] = { "text", "rwx", "armed" };

static char top[PATH_MAX], runner[PATH_MAX + 64], guest[PATH_MAX + 64], seeds[PATH_MAX + 64];
static char dir[64], corpus_path[96], results_path[96], dump_path[96], backend_opt[64];
static const char *self;
static uint64_t compared, unsupported, unstable;
static unsigned int failures, max_failures = 1;

static _Noreturn void die(const char *what)
{
	printf("Bail out! fuzz: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* --- one run of the guest ------------------------------------------------------------ */

struct batch {
	struct fuzz_corpus *c;
	struct fuzz_results *want, *got;
	size_t csize, rsize;
};

static void batch_init(struct batch *b, uint32_t count, uint64_t seed, enum fuzz_mode mode)
{
	b->csize = sizeof(*b->c) + count * FUZZ_SLOT;
	b->rsize = sizeof(*b->want) + count * sizeof(b->want->r[0]);
	b->c = calloc(1, b->csize);
	b->want = calloc(1, b->rsize);
	b->got = calloc(1, b->rsize);
	if (!b->c || !b->want || !b->got)
		die("memory");
	b->c->seed = seed;
	b->c->mode = mode;
	b->c->count = count;
}

static void batch_free(struct batch *b)
{
	free(b->c);
	free(b->want);
	free(b->got);
}

static void put_file(const char *path, const void *p, size_t size)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, p, size) != (ssize_t)size || close(fd))
		die(path);
}

static bool get_file(const char *path, void *p, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, p, size);

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)size;
}

/*
 * Run sequences first..last of the batch's corpus file; results in and out of
 * r. Natively with --catch. dump: the sequence to dump, or -1. Returns the
 * status of the guest, -1 for a timeout.
 */
static int run(struct batch *b, struct fuzz_results *r, bool native, uint32_t first, uint32_t last,
	       long dump, char **err)
{
	const char *env = getenv("CODEWP_RUN_OPTS");
	char from[16], to[16], which[24], opts[512], *argv[32];
	struct result res;
	int n = 0;

	put_file(results_path, r, b->rsize);
	snprintf(from, sizeof(from), "%u", first);
	snprintf(to, sizeof(to), "%u", last);
	snprintf(opts, sizeof(opts), "%s", env ? env : "");
	if (!native) {
		argv[n++] = runner;
		argv[n++] = backend_opt;
		for (char *s = strtok(opts, " "); s && n < 16; s = strtok(NULL, " "))
			argv[n++] = s;
		argv[n++] = "--";
	}
	argv[n++] = guest;
	argv[n++] = corpus_path;
	argv[n++] = results_path;
	if (native)
		argv[n++] = "--catch";
	argv[n++] = "--range";
	argv[n++] = from;
	argv[n++] = to;
	if (dump >= 0) {
		snprintf(which, sizeof(which), "%ld", dump);
		argv[n++] = "--dump";
		argv[n++] = dump_path;
		argv[n++] = which;
	}
	argv[n] = NULL;
	if (spawn_wait(argv, NULL, 120, &res))
		die(argv[0]);
	if (!get_file(results_path, r, b->rsize))
		die(results_path);
	if (err)
		*err = strdup(res.err);
	n = res.timeout ? -1 : res.status;
	result_free(&res);
	return n;
}

static void copy_skips(struct batch *b)
{
	for (uint32_t i = 0; i < b->c->count; i++)
		b->got->r[i] = (struct fuzz_result){ .flags = b->want->r[i].flags & RESULT_SKIP };
}

/*
 * The native side of a batch: twice; what faults, does not end, or differs
 * from itself is left out. Returns how many are left, or -1.
 */
static long native(struct batch *b, uint32_t first, uint32_t last, bool learn)
{
	long left = 0;

	put_file(corpus_path, b->c, b->csize);
	if (run(b, b->want, true, first, last, -1, NULL))
		return -1;
	for (uint32_t i = first; i <= last; i++) {
		struct fuzz_result *r = &b->want->r[i];

		if (learn && r->sig == SIGILL)
			gen_refused(b->c->slot[i], r->fault_rip - FUZZ_CODE - i * FUZZ_SLOT);
		if (!(r->flags & RESULT_DONE))
			r->flags = RESULT_SKIP;
	}
	copy_skips(b);
	if (run(b, b->got, true, first, last, -1, NULL))
		return -1;
	for (uint32_t i = first; i <= last; i++) {
		struct fuzz_result *r = &b->want->r[i];

		if (!(r->flags & RESULT_SKIP) &&
		    (!(b->got->r[i].flags & RESULT_DONE) || b->got->r[i].digest != r->digest))
			r->flags = RESULT_SKIP;
		left += !(r->flags & RESULT_SKIP);
	}
	return left;
}

/* --- a difference ---------------------------------------------------------------------- */

/* Does the (possibly changed) sequence nr, alone, still differ? */
static bool still_differs(struct batch *b, uint32_t nr, int *status)
{
	b->want->r[nr] = (struct fuzz_result){ 0 };
	if (native(b, nr, nr, false) != 1)
		return false;
	copy_skips(b);
	*status = run(b, b->got, false, nr, nr, -1, NULL);
	return *status || !(b->got->r[nr].flags & RESULT_DONE) ||
	       b->got->r[nr].digest != b->want->r[nr].digest;
}

static void reduce(struct batch *b, uint32_t nr)
{
	uint8_t *slot = b->c->slot[nr], save[FUZZ_SLOT];
	uint16_t start[FUZZ_SLOT + 1];
	int n = gen_bounds(slot, start, FUZZ_SLOT), status;

	for (int i = n - 1; i >= 0; i--) {
		if (slot[start[i]] == 0x90)
			continue;
		memcpy(save, slot, FUZZ_SLOT);
		memset(slot + start[i], 0x90, start[i + 1] - start[i]);
		if (!still_differs(b, nr, &status))
			memcpy(slot, save, FUZZ_SLOT);
	}
	still_differs(b, nr, &status);
}

static void diff_bytes(const char *what, const uint8_t *w, const uint8_t *g, size_t size)
{
	int lines = 0;

	for (size_t i = 0; i + 8 <= size; i += 8) {
		uint64_t a, c;

		memcpy(&a, w + i, 8);
		memcpy(&c, g + i, 8);
		if (a == c)
			continue;
		if (lines++ < 12)
			printf("#   %s+%#zx: native %016lx translated %016lx\n", what, i, a, c);
	}
	if (lines > 12)
		printf("#   ... and %d more\n", lines - 12);
}

static void diff_states(int round, const struct fuzz_dump *w, const struct fuzz_dump *g)
{
	static const char *const name[19] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11",
		"r12", "r13", "r14", "r15", "rflags", "fs base", "gs base",
	};
	static const char *const comp[8] = { "", "", "ymm high", "", "", "k", "zmm high", "zmm16-31" };
	const uint64_t *a = w->state.gpr, *c = g->state.gpr;

	if (memcmp(w, g, sizeof(*w)))
		printf("#   round %d:\n", round + 1);
	for (int i = 0; i < 19; i++)
		if (a[i] != c[i])
			printf("#   %s: native %016lx translated %016lx\n", name[i], a[i], c[i]);
	diff_bytes("x87/mxcsr", w->state.xsave, g->state.xsave, 160);
	diff_bytes("xmm", w->state.xsave + 160, g->state.xsave + 160, 256);
	for (unsigned int i = 2; i < 8; i++) {
		uint32_t off, size;

		if (!(fuzz_xmask() >> i & 1))
			continue;
		fuzz_xcomp(i, &off, &size);
		diff_bytes(comp[i], w->state.xsave + off, g->state.xsave + off, size);
	}
	diff_bytes("memory", w->data, g->data, sizeof(w->data));
}

/* MODE SEED NR, and the slot in hex */
static void save_sequence(const struct batch *b, uint32_t nr, char *path, size_t size)
{
	FILE *f;

	snprintf(path, size, "%s/fuzz", top);
	mkdir(path, 0777);
	snprintf(path, size, "%s/fuzz/%s-%lx-%u.seq", top, mode_name[b->c->mode], b->c->seed, nr);
	f = fopen(path, "w");
	if (!f)
		return;
	fprintf(f, "%s %lu %u\n", mode_name[b->c->mode], b->c->seed, nr);
	for (unsigned int i = 0; i < FUZZ_SLOT; i++)
		fprintf(f, "%02x%s", b->c->slot[nr][i], i % 32 == 31 ? "\n" : "");
	fclose(f);
}

static void report(struct batch *b, uint32_t nr, int status, uint32_t first, uint64_t got,
		   const char *err)
{
	static struct fuzz_dump w[2], g[2];
	char path[PATH_MAX + 128], *text, *more = NULL;
	uint64_t second;
	uint32_t from;
	bool alone;
	int again;

	failures++;
	printf("# digests: native %016lx translated %016lx\n", b->want->r[nr].digest, got);
	printf("# difference in sequence %u, seed %lu, mode %s (%s)\n", nr, b->c->seed,
	       mode_name[b->c->mode], backend_opt);
	if (status)
		printf("#   translated, it ended with status %d: %.300s\n", status, err ? err : "");
	alone = still_differs(b, nr, &again);
	if (alone)
		reduce(b, nr);
	else
		printf("#   (only together with the sequences before it)\n");
	from = alone ? nr : first;
	text = gen_disassemble(b->c->slot[nr]);
	printf("# %s:\n%s", alone ? "reduced to" : "the sequence", text);
	free(text);
	put_file(corpus_path, b->c, b->csize);
	copy_skips(b);
	if (!run(b, b->got, true, from, nr, nr, NULL) && get_file(dump_path, w, sizeof(w))) {
		second = b->got->r[nr].digest;
		copy_skips(b);
		unlink(dump_path);
		again = run(b, b->got, false, from, nr, nr, &more);
		if (again)
			printf("#   status %d: %.400s\n", again, more);
		else if (!alone)
			printf("#   in a second run: native %016lx translated %016lx\n", second,
			       b->got->r[nr].digest);
		if (!again && get_file(dump_path, g, sizeof(g)))
			for (int i = 0; i < 2; i++)
				diff_states(i, &w[i], &g[i]);
	}
	free(more);
	save_sequence(b, nr, path, sizeof(path));
	printf("#   repeat: %s %s\n", self, path);
	fflush(stdout);
}

/*
 * The translator said that it cannot do this: no difference, but counted and
 * shown, each reason once; too many of them fail the run (as_test()).
 */
static void note_unsupported(const char *err)
{
	static char seen[64][80];
	const char *at = strstr(err, "fuzz-guest: "), *end;
	char what[80];

	unsupported++;
	at = at ? at + 12 : err;
	end = strstr(at, " at 0x");
	snprintf(what, sizeof(what), "%.*s", end ? (int)(end - at) : 70, at);
	for (int i = 0; i < 64; i++) {
		if (!strcmp(seen[i], what))
			return;
		if (!seen[i][0]) {
			strcpy(seen[i], what);
			break;
		}
	}
	printf("# not supported: %s\n", what);
}

/*
 * Does the native CPU say something else, too, when it starts at the sequence that the
 * translator has started at? Then the result depends on what ran before (a return to
 * an address that is and-ed with the stack pointer runs what is left there).
 */
static bool natively_unstable(const struct batch *b, uint32_t first, uint32_t nr)
{
	struct batch copy;
	bool same;

	batch_init(&copy, b->c->count, b->c->seed, b->c->mode);
	memcpy(copy.want, b->want, b->rsize);
	copy_skips(&copy);
	same = !run(&copy, copy.got, true, first, nr, -1, NULL) &&
	       (copy.got->r[nr].flags & RESULT_DONE) &&
	       copy.got->r[nr].digest == b->want->r[nr].digest;
	batch_free(&copy);
	return !same;
}

/* The translated side. Returns false when there was a difference. */
static bool translated(struct batch *b)
{
	uint32_t first = 0, bad;
	bool good = true;
	char *err = NULL;
	int status;

	copy_skips(b);
	for (;;) {
		status = run(b, b->got, false, first, b->c->count - 1, -1, &err);
		for (bad = first; bad < b->c->count; bad++) {
			const struct fuzz_result *w = &b->want->r[bad], *g = &b->got->r[bad];

			if (w->flags & RESULT_SKIP)
				continue;
			if (!(g->flags & RESULT_DONE) || w->digest != g->digest)
				break;
			compared++;
		}
		if (bad == b->c->count) {
			if (status) {
				failures++;
				good = false;
				printf("# all sequences equal, but the guest ended with %d: %.300s\n",
				       status, err);
			}
			break;
		}
		if (status == 70 && b->got->current == bad && err &&
		    strstr(err, "not supported")) {
			/* said so, as it shall: no difference, but counted */
			note_unsupported(err);
		} else if (natively_unstable(b, first, bad)) {
			/* not a function of its start: no test of anything */
			unstable++;
		} else {
			good = false;
			/* the report changes the batch: work on a copy */
			struct batch copy;

			batch_init(&copy, b->c->count, b->c->seed, b->c->mode);
			memcpy(copy.c, b->c, b->csize);
			memcpy(copy.want, b->want, b->rsize);
			report(&copy, bad, b->got->r[bad].flags & RESULT_DONE ? 0 : status,
			       first, b->got->r[bad].digest, err);
			batch_free(&copy);
			put_file(corpus_path, b->c, b->csize);
		}
		free(err);
		err = NULL;
		if (failures >= max_failures)
			break;
		b->want->r[bad].flags = RESULT_SKIP;
		first = bad + 1;
		if (first == b->c->count)
			break;
		copy_skips(b);
	}
	free(err);
	return good;
}

/* --- batches ------------------------------------------------------------------------------ */

static void learn(void)
{
	struct batch b;

	for (int round = 0; round < 3; round++) {
		batch_init(&b, 2048, LEARN_SEED + round, MODE_TEXT);
		for (uint32_t i = 0; i < b.c->count; i++)
			gen_sequence(b.c->seed, i, MODE_TEXT, b.c->slot[i]);
		if (native(&b, 0, b.c->count - 1, true) < 0)
			die("the native run of the learning batch");
		batch_free(&b);
	}
	gen_learned();
}

/* One batch. Returns false when something differs. */
static bool one_batch(uint64_t seed, enum fuzz_mode mode, uint32_t count)
{
	struct batch b;
	bool good;
	long left;

	batch_init(&b, count, seed, mode);
	for (uint32_t i = 0; i < count; i++)
		gen_sequence(seed, i, mode, b.c->slot[i]);
	left = native(&b, 0, count - 1, false);
	if (left < (long)count / 4) {
		printf("# batch %lu %s: only %ld of %u run natively\n", seed, mode_name[mode], left, count);
		failures++;
		return false;
	}
	good = translated(&b);
	batch_free(&b);
	return good;
}

static bool replay(const char *path)
{
	FILE *f = fopen(path, "r");
	char mode[16];
	unsigned int nr, byte, m;
	unsigned long seed;
	struct batch b;
	bool good;

	if (!f || fscanf(f, "%15s %lu %u", mode, &seed, &nr) != 3 || nr >= FUZZ_MAX)
		die(path);
	for (m = 0; m < MODE_COUNT && strcmp(mode, mode_name[m]); m++)
		;
	if (m == MODE_COUNT)
		die(path);
	batch_init(&b, nr + 1, seed, m);
	for (unsigned int i = 0; i < FUZZ_SLOT; i++) {
		if (fscanf(f, "%2x", &byte) != 1)
			die(path);
		b.c->slot[nr][i] = byte;
	}
	fclose(f);
	for (uint32_t i = 0; i < nr; i++)
		b.want->r[i].flags = RESULT_SKIP;
	if (native(&b, nr, nr, false) != 1) {
		printf("# %s: does not run natively on this CPU\n", path);
		good = true;
	} else {
		good = translated(&b);
	}
	batch_free(&b);
	return good;
}

static bool replay_all(unsigned int *n)
{
	DIR *d = opendir(seeds);
	struct dirent *e;
	char path[PATH_MAX * 2];
	bool good = true;

	*n = 0;
	while (d && (e = readdir(d))) {
		if (!strstr(e->d_name, ".seq"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", seeds, e->d_name);
		good &= replay(path);
		++*n;
	}
	if (d)
		closedir(d);
	return good;
}

/* --- the program ---------------------------------------------------------------------------- */

static void clean_up(void)
{
	unlink(corpus_path);
	unlink(results_path);
	unlink(dump_path);
	rmdir(dir);
}

static void set_up(const char *argv0)
{
	ssize_t n = readlink("/proc/self/exe", top, sizeof(top) - 1);
	const char *dash = strrchr(argv0, '-');

	for (int i = 0; n > 0 && i < 3; i++) {	/* build/tests/fuzz/fuzz-BACKEND */
		char *slash = strrchr(top, '/');

		if (!slash)
			die(top);
		*slash = 0;
	}
	/* CODEWP_RUN: another one than the build's */
	snprintf(runner, sizeof(runner), "%s%s", getenv("CODEWP_RUN") ?: top,
		 getenv("CODEWP_RUN") ? "" : "/bin/codewp-run");
	snprintf(guest, sizeof(guest), "%s/tests/fuzz/fuzz-guest", top);
	snprintf(seeds, sizeof(seeds), "%s/tests/fuzz/seeds", top);
	snprintf(backend_opt, sizeof(backend_opt), "--backend=%s", dash ? dash + 1 : "auto");
	snprintf(dir, sizeof(dir), "/tmp/codewp-fuzz.XXXXXX");
	if (!mkdtemp(dir))
		die(dir);
	snprintf(corpus_path, sizeof(corpus_path), "%s/corpus", dir);
	snprintf(results_path, sizeof(results_path), "%s/results", dir);
	snprintf(dump_path, sizeof(dump_path), "%s/dump", dir);
	atexit(clean_up);
	gen_init();
}

/* One mode for so long, or so many; 0: no limit. */
static bool fuzz(enum fuzz_mode mode, uint64_t seed, double seconds, uint64_t n)
{
	double end = now() + seconds;
	uint64_t goal = compared + n;
	/* small batches first: a difference shows at once */
	uint32_t count = 512;
	bool good = true;

	while (failures < max_failures && (!seconds || now() < end) && (!n || compared < goal)) {
		good &= one_batch(seed++, mode, count);
		if (count < 4096)
			count *= 2;
	}
	return good;
}

/* Without arguments: a test. */
static int as_test(void)
{
	const char *s = getenv("FUZZ_SECONDS");
	double each = (s ? atof(s) : 60) / MODE_COUNT;
	unsigned int n, failed = 0;
	bool good = replay_all(&n);

	failed += !good;
	printf("# %u kept sequences\n%sok 1 kept_sequences_are_equal\n", n, good ? "" : "not ");
	for (int m = 0; m < MODE_COUNT; m++) {
		uint64_t before = compared, before_un = unsupported;

		failures = 0;
		good = fuzz(m, TEST_SEED, each, 0) && compared - before > 100 &&
		       (unsupported - before_un) * 50 < compared - before &&
		       unstable * 1000 <= compared;
		failed += !good;
		printf("# %lu sequences of mode %s compared, %lu not supported, seed %d\n",
		       compared - before, mode_name[m], unsupported - before_un, TEST_SEED);
		printf("%sok %d random_sequences_%s\n", good ? "" : "not ", m + 2, mode_name[m]);
		fflush(stdout);
	}
	printf("1..%d\n", MODE_COUNT + 1);
	return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
	uint64_t n = 0, seed = TEST_SEED;
	double seconds = 0, start = now();
	bool good = true;
	int opt, mode = -1;

	self = argv[0];
	setvbuf(stdout, NULL, _IOLBF, 0);
	set_up(argv[0]);
	if (argc == 1) {
		learn();
		return as_test();
	}
	while ((opt = getopt(argc, argv, "n:s:t:m:f:x:")) != -1) {
		switch (opt) {
		case 'n':
			n = strtoull(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = atof(optarg);
			break;
		case 'f':
			max_failures = atoi(optarg);
			break;
		case 'x':
			gen_leave_out(optarg);
			break;
		case 'm':
			for (mode = 0; mode < MODE_COUNT && strcmp(optarg, mode_name[mode]); mode++)
				;
			if (mode < MODE_COUNT)
				break;
			/* fall through */
		default:
			fprintf(stderr, "usage: %s [-n SEQUENCES] [-s SEED] [-t SECONDS] "
				"[-m text|rwx|armed] [-f FAILURES] [-x MNEMONIC]... [FILE.seq...]\n", argv[0]);
			return 2;
		}
	}
	if (optind < argc) {
		for (; optind < argc; optind++)
			good &= replay(argv[optind]);
	} else {
		learn();
		for (int m = 0; m < MODE_COUNT; m++)
			if (mode < 0 || mode == m)
				good &= fuzz(m, seed, mode < 0 ? seconds / MODE_COUNT : seconds,
					     mode < 0 ? (n + MODE_COUNT - 1) / MODE_COUNT : n);
	}
	printf("%lu sequences compared in %.0f s, %u differences, %lu not supported, "
	       "%lu that differ natively\n", compared, now() - start, failures, unsupported, unstable);
	return good ? 0 : 1;
}
