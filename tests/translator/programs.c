// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The driver of the translator's tests: runs every guest program and every
 * program of the table natively and under codewp-run, and compares standard
 * output, standard error and exit status (compare.c).
 *
 * Tests are made at run time, one per case; they are selected by substring, as
 * in every test program.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>

#include "test.h"
#include "programs.h"

enum kind { TABLE, GUEST, BUILT_IN };

struct run_test {
	struct test_case tc;
	enum kind kind;
	const struct program *p;
	char guest[64], which[64];
	const char *without;	/* cases that --all leaves out */
	const char *why;	/* a case is left out */
	bool cross;		/* struct guest_program */
	void (*fn)(void);
};

static char words[80];

/* @D, @W, @G in an argument */
static char *expand(const char *s)
{
	const char *at = s ? strchr(s, '@') : NULL, *with;
	char *out;

	if (!s)
		return NULL;
	with = !at ? NULL : at[1] == 'D' ? tt.data : at[1] == 'W' ? words :
	       at[1] == 'G' ? tt.guests : NULL;
	if (!with)
		return strdup(s);
	if (asprintf(&out, "%.*s%s%s", (int)(at - s), s, with, at + 2) < 0)
		exit(1);
	return out;
}

static void run_program(const struct program *p)
{
	struct result n, t;
	char *argv[13], *in = expand(p->in);
	unsigned int seconds = p->seconds ?: 20;

	for (int i = 0; i < 12; i++)
		argv[i] = expand(p->args[i]);
	argv[12] = NULL;
	run(argv, in, seconds, &n);
	if (n.timeout)
		TEST_FAIL("the native run did not end in %u s", seconds);
	if (n.status == 127 && !n.out_size && !n.err_size)
		SKIP("no %s here", p->args[0]);
	if (strstr(n.err, "applet not found") && strcmp(p->args[1], "nosuchapplet"))
		SKIP("this busybox has no %s", p->args[1]);
	run(translated(argv, NULL), in, seconds, &t);
	same(&n, &t);
}

/*
 * QEMU before 8.1 can miss another processor's store to code (testing.rst). There, what
 * threads or processes that patch each other's code do wrong is done once more, natively
 * and translated alike, and on one processor, which misses none; on the host nothing is.
 */
#define VM_TRIES 2

static bool again(const struct run_test *rt, int try, const char *side, const struct result *r)
{
	cpu_set_t one;

	if (!rt->cross || !getenv("CODEWP_VM") || try + 1 >= VM_TRIES)
		return false;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		TEST_FAIL("sched_setaffinity: %s", strerror(errno));
	printf("# again, for %s: status %d%s, '%.200s'\n", side, r->status,
	       r->timeout ? ", over its time" : "",
	       r->out_size > 200 ? r->out + r->out_size - 200 : r->out);
	return true;
}

static void run_guest_case(const struct run_test *rt)
{
	char path[PATH_MAX + 128];
	char *argv[] = { path, (char *)rt->which, (char *)rt->without, NULL };
	/* what is tried again may hang each time: it gets less */
	unsigned int seconds = strcmp(rt->which, "--all") || rt->cross ? 30 : 90;
	bool dies = !strncmp(rt->which, "dies_", 5);
	struct result n, t;

	snprintf(path, sizeof(path), "%s/%s", tt.guests, rt->guest);
	for (int try = 0; ; try++, result_free(&n)) {
		run(argv, NULL, seconds, &n);
		if (dies && !n.status)
			SKIP("natively it does not die here: an emulated CPU?");
		/* the native run is the reference: it must be what the case promises */
		if (!n.timeout && (dies ? n.status >= 129 : n.status == 0))
			break;
		if (!again(rt, try, "its native run", &n))
			TEST_FAIL("natively: status %d, '%.300s'", n.status,
				  n.out_size > 300 ? n.out + n.out_size - 300 : n.out);
	}
	for (int try = 0; ; try++, result_free(&t)) {
		run(translated(argv, NULL), NULL, seconds, &t);
		if ((!t.timeout && t.status == n.status) || !again(rt, try, "it", &t))
			break;
	}
	same(&n, &t);
}

/* --- what is not a comparison ------------------------------------------------------ */

static void guest_command(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s", tt.guests, name);
}

static void unsupported_case(const char *which, const char *const word[])
{
	char path[PATH_MAX + 128], *line;
	char *argv[] = { path, (char *)which, NULL };
	struct result t;
	bool named = false;

	guest_command(path, sizeof(path), "app_unsupported");
	run(translated(argv, NULL), NULL, 30, &t);
	if (t.timeout)
		TEST_FAIL("did not end");
	if (t.status != 70 || strcmp(t.out, "before\n"))
		TEST_FAIL("status %d, stdout '%.100s', stderr '%.200s'", t.status, t.out, t.err);
	line = one_line(&t);
	if (strncmp(line, "codewp run: ", 12))
		TEST_FAIL("the line does not say who speaks: '%.200s'", line);
	for (; *word; word++)
		named |= strcasestr(line, *word) != NULL;
	if (!named)
		TEST_FAIL("the line does not name what is missing: '%.200s'", line);
}

#define UNSUPPORTED(which, ...)						\
	static void unsupported_##which(void)				\
	{								\
		static const char *const word[] = { __VA_ARGS__, NULL };\
									\
		unsupported_case(#which, word);				\
	}

UNSUPPORTED(int_0x80, "int 0x80", "int $0x80", "0x80")

/* The number behind "codewp-stat: NAME " on stderr, or -1. */
static long long stat_value(const char *err, const char *name)
{
	char key[80];
	const char *s;

	snprintf(key, sizeof(key), "codewp-stat: %s ", name);
	s = strstr(err, key);
	return s ? atoll(s + strlen(key)) : -1;
}

static void run_case(const char *guest, const char *which, const char *opt, struct result *t)
{
	char path[PATH_MAX + 128];
	char *argv[] = { path, (char *)which, NULL };

	guest_command(path, sizeof(path), guest);
	run(translated(argv, opt), NULL, 30, t);
	if (t->timeout || t->status)
		TEST_FAIL("%s %s %s: status %d, '%.200s' '%.200s'", guest, which, opt, t->status,
			  t->out, t->err);
}

/* Imprecise mode differs in exactly what is documented, and in nothing else. */
static void smc_modes_differ_as_documented(void)
{
	struct result t;

	run_case("smc_flow", "shows_precision", "--smc=precise", &t);
	if (strcmp(t.out, "first run: new\nsecond run, value changed: new\n"
			  "third run, same value: right\nother block: new\nshows_precision done\n"))
		TEST_FAIL("precise: '%s'", t.out);
	result_free(&t);
	run_case("smc_flow", "shows_precision", "--smc=imprecise", &t);
	if (strcmp(t.out, "first run: old\nsecond run, value changed: old\n"
			  "third run, same value: right\nother block: new\nshows_precision done\n"))
		TEST_FAIL("imprecise: '%s'", t.out);
}

/* Counters are there, and tell self-modifying code from code that is not. */
static void stats_count_traps(void)
{
	struct result t;
	long long v;

	run_case("smc_flow", "chained_across_pages", "--without=stylized,restless --stats", &t);
	v = stat_value(t.err, "tbs");
	if (v < 1)
		TEST_FAIL("tbs %lld in '%.300s'", v, t.err);
	v = stat_value(t.err, "traps_upcall") + stat_value(t.err, "traps_signal");
	/* four of the places are views, and each of 300 rounds stores into code */
	if (v < 1000 || v > 10000)
		TEST_FAIL("%lld traps in '%.300s'", v, t.err);
	if (stat_value(t.err, "invalidated") < 1000)
		TEST_FAIL("invalidated %lld", stat_value(t.err, "invalidated"));
	result_free(&t);
	run_case("insns", "call_and_ret_tricks", "--stats", &t);
	v = stat_value(t.err, "traps_upcall") + stat_value(t.err, "traps_signal");
	if (v != 0)
		TEST_FAIL("%lld traps without self-modifying code", v);
	if (stat_value(t.err, "chains") < 1)
		TEST_FAIL("nothing was chained");
}

/*
 * A block goes on behind jumps forward, so there are fewer; and each way out of it is
 * chained, or 200 000 rounds would be as many lookups.
 */
static void superblocks_have_chained_exits(void)
{
	long long tbs[2];
	struct result t;

	for (int i = 0; i < 2; i++) {
		run_case("insns", "side_exits", i ? "--stats" :
			 "--without=superblocks --stats", &t);
		tbs[i] = stat_value(t.err, "tbs");
		if (stat_value(t.err, "lookups") > 20000)
			TEST_FAIL("%lld lookups in '%.300s'", stat_value(t.err, "lookups"), t.err);
		result_free(&t);
	}
	/* In the VM programs are files of a tmpfs: their blocks check themselves. */
	if (tbs[1] < 1 || (!getenv("CODEWP_VM") && tbs[1] * 10 > tbs[0] * 9))
		TEST_FAIL("%lld blocks, and %lld without", tbs[1], tbs[0]);
}

/* First address of the mapping of this file, from a map as cat prints it. */
static uint64_t mapped_at(const char *map, const char *file)
{
	const char *p = strstr(map, file);

	while (p && p > map && p[-1] != '\n')
		p--;
	return p ? strtoull(p, NULL, 16) : 0;
}

/* Within 2 GiB of the code cache, which is behind the runtime's text. */
static void code_is_near_the_cache(void)
{
	char *argv[] = { "/bin/cat", "/proc/self/maps", NULL };
	static const char *const file[] = {
		"bin/cat\n", "/libc.so.6\n", "/ld-linux", "/app_large.so\n"
	};
	const uint64_t cache = 0x6a0040000000, reach = 1UL << 31;
	char large[sizeof(tt.guests) + 16];
	struct result t;

	if (getenv("CODEWP_VM"))
		SKIP("cat has a fixed address here");
	snprintf(large, sizeof(large), "%s/app_large.so", tt.guests);
	setenv("LD_PRELOAD", large, 1);
	for (int near = 0; near < 2; near++) {
		run(translated(argv, near ? NULL : "--without=near"), NULL, 60, &t);
		if (t.status)
			TEST_FAIL("status %d: '%.300s'", t.status, t.err);
		for (size_t i = 0; i < sizeof(file) / sizeof(file[0]); i++) {
			uint64_t at = mapped_at(t.out, file[i]);

			if (!at || (cache - at < reach) != near)
				TEST_FAIL("%s at %#lx in '%.300s'", file[i], at, t.out);
		}
		/* a heap can grow there */
		if (mapped_at(t.out, "[heap]") >> 40 > 0x57)
			TEST_FAIL("the heap is elsewhere: '%.300s'", t.out);
		result_free(&t);
	}
	unsetenv("LD_PRELOAD");
}

/*
 * What a child of fork has mapped is armed again when the child executes a program: its
 * first code was found before the fork.
 */
static void lent_memory_is_armed_again(void)
{
	char prog[sizeof(tt.guests) + 16];
	char *argv[] = { prog, "lent", NULL };
	struct result t;

	snprintf(prog, sizeof(prog), "%s/app_two_maps", tt.guests);
	run(translated(argv, "--stats"), NULL, 60, &t);
	if (t.status || !strstr(t.out, "199"))
		TEST_FAIL("status %d, '%.100s', '%.300s'", t.status, t.out, t.err);
	if (stat_value(t.err, "arms") < 2)
		TEST_FAIL("%lld arms in '%.300s'", stat_value(t.err, "arms"), t.err);
	result_free(&t);
}

/* Data beside code costs traps, but no translation dies of it (KEEP). */
static void data_beside_code_keeps_blocks(void)
{
	struct result t;

	run_case("smc_places", "data_beside_code", "--without=hot --stats", &t);
	/* 9 distances, 300 rounds, in at least the private anonymous place */
	if (stat_value(t.err, "keep_miss") < 2000)
		TEST_FAIL("keep_miss %lld in '%.300s'", stat_value(t.err, "keep_miss"), t.err);
}

/* And after some of them it costs no more traps (hot.c). */
static void data_beside_code_gets_hot(void)
{
	struct result t;

	run_case("smc_places", "data_beside_code", "--hot-after=8 --stats", &t);
	if (stat_value(t.err, "hot_sites") < 9)
		TEST_FAIL("hot_sites %lld in '%.300s'", stat_value(t.err, "hot_sites"), t.err);
	if (stat_value(t.err, "keep_miss") > 500)
		TEST_FAIL("keep_miss %lld in '%.300s'", stat_value(t.err, "keep_miss"), t.err);
	result_free(&t);
}

/*
 * Code that is written over again and again costs traps only until its page is
 * restless; code that is calm for long afterwards needs no checks any more.
 */
static void rewritten_code_gets_restless(void)
{
	long long traps[2];
	struct result t;

	for (int i = 0; i < 2; i++) {
		run_case("smc_restless", "calm_between", i ? "--stats" :
			 "--without=restless --stats", &t);
		traps[i] = stat_value(t.err, "traps_upcall") + stat_value(t.err, "traps_signal");
		if ((stat_value(t.err, "restless") > 0) != i)
			TEST_FAIL("restless %lld in '%.300s'", stat_value(t.err, "restless"), t.err);
		if ((stat_value(t.err, "calm") > 0) != i)
			TEST_FAIL("calm %lld in '%.300s'", stat_value(t.err, "calm"), t.err);
		result_free(&t);
	}
	if (traps[0] < 300 || traps[1] * 2 > traps[0])
		TEST_FAIL("%lld traps, and %lld without", traps[1], traps[0]);
}

/* What comes back again and again need not be translated each time. */
static void versions_are_kept(void)
{
	long long tbs[2];
	struct result t;

	for (int i = 0; i < 2; i++) {
		run_case("smc_restless", "taking_turns", i ? "--stats" :
			 "--without=versions --stats", &t);
		tbs[i] = stat_value(t.err, "tbs");
		if ((stat_value(t.err, "versions") > 0) != i)
			TEST_FAIL("versions %lld in '%.300s'", stat_value(t.err, "versions"), t.err);
		result_free(&t);
	}
	/* 9000 rounds, most of them with other code than the one before */
	if (tbs[0] < 5000 || tbs[1] > tbs[0] - 5000)
		TEST_FAIL("%lld blocks, and %lld without", tbs[1], tbs[0]);
}

/* Each rung of the ladder as soon as it can be: all that code does to code stays right. */
static void ladder_at_once(void)
{
	static const char *const guests[] = {
		"smc_stores", "smc_places", "smc_hot", "smc_stylized", "smc_restless", "smc_flow",
		"smc_stack", "smc_syscalls",
		"smc_threads", "mem_calls", "signals_faults", "proc_fork",
	};
	const char *without = getenv("CODEWP_VM") ? "shld_mem" : NULL;

	for (size_t i = 0; i < sizeof(guests) / sizeof(guests[0]); i++) {
		char path[PATH_MAX + 128];
		char *argv[] = { path, "--all", i ? NULL : (char *)without, NULL };
		struct result t;

		/* again() has the reason */
		if (getenv("CODEWP_VM") && i >= 8 && i != 10)
			continue;
		snprintf(path, sizeof(path), "%s/%s", tt.guests, guests[i]);
		run(translated(argv, "--hot-after=1 --stylized-after=1 --restless-after=1"), NULL, 90, &t);
		if (t.timeout || t.status)
			TEST_FAIL("%s: status %d%s, '%.300s'", guests[i], t.status,
				  t.timeout ? ", over its time" : "", t.out_size > 300 ?
				  t.out + t.out_size - 300 : t.out);
		result_free(&t);
	}
}

/* No mapping of the guest is executable for the host. */
static void guest_memory_not_executable(void)
{
	char path[PATH_MAX + 128], line[1024], name[64];
	char *argv[] = { path, "copy_stdin", NULL };
	int in[2], out[2], x = 0;
	FILE *maps;
	pid_t pid;
	char c;

	guest_command(path, sizeof(path), "app_libc");
	ASSERT_EQ(pipe(in), 0);
	ASSERT_EQ(pipe(out), 0);
	pid = fork();
	if (!pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		execv(tt.runner, translated(argv, NULL));
		_exit(127);
	}
	ASSERT_EQ(write(in[1], "x", 1), 1);
	close(out[1]);
	ASSERT_EQ(read(out[0], &c, 1), 1);	/* it runs, and waits for more */
	snprintf(name, sizeof(name), "/proc/%d/maps", pid);
	maps = fopen(name, "r");
	ASSERT(maps);
	while (fgets(line, sizeof(line), maps)) {
		char perm[8], *file = strchr(line, '/');

		ASSERT_EQ(sscanf(line, "%*s %7s", perm), 1);
		line[strcspn(line, "\n")] = 0;
		if (perm[2] != 'x')
			continue;
		/* its own text, its cache, and what the kernel puts there */
		if (strstr(line, tt.runner) || strstr(line, "[vdso]") ||
		    strstr(line, "[vsyscall]"))
			continue;
		if (file || strstr(line, "["))
			TEST_FAIL("executable for the host: %.300s", line);
		x++;
	}
	fclose(maps);
	close(in[1]);
	/* one code cache; nothing else is anonymous and executable */
	if (x > 1)
		TEST_FAIL("%d anonymous executable mappings", x);
}

static void log_names_blocks(void)
{
	char opt[128], path[100], line[256];
	struct result t;
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/log", tt.scratch);
	snprintf(opt, sizeof(opt), "--log=%s", path);
	run_case("insns", "jump_tables", opt, &t);
	f = fopen(path, "r");
	ASSERT(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "0x") != NULL;
	fclose(f);
	if (n < 20)
		TEST_FAIL("%d lines with an address", n);
}

/* One instruction per block, and no chains: slow, and the same answers. */
static void single_instruction_blocks(void)
{
	struct result t;

	run_case("smc_flow", "chained_call_target", "--max-insns=1", &t);
	result_free(&t);
	run_case("insns", "flags_through_traps", "--max-insns=1", &t);
	result_free(&t);
	run_case("smc_flow", "patched_jump", "--no-chain", &t);
}

/* A cache too small for the program: it is flushed, and all goes on. */
static void small_code_cache(void)
{
	struct result t;

	run_case("insns", "indirect_megamorphic", "--cache-size=1", &t);
	result_free(&t);
	run_case("smc_syscalls", "big_heap", "--cache-size=1", &t);
}

/*
 * The storms check themselves; natively they only show that they can. A minute, or
 * a third of one on the backend that is only there where the others are not.
 */
static void storm(const char *guest)
{
	bool less = !strcmp(tt.backend, "mprotect");
	char path[PATH_MAX + 128], *argv[] = { path, "storm", NULL };
	struct result n, t;

	if (getenv("CODEWP_VM"))
		SKIP("too long for an emulated machine; it has %s.all", guest);
	snprintf(path, sizeof(path), "%s/%s", tt.guests, guest);
	setenv("GUEST_SECONDS", "1", 1);
	run(argv, NULL, 20, &n);
	setenv("GUEST_SECONDS", less ? "20" : "60", 1);
	run(translated(argv, NULL), NULL, 90, &t);
	unsetenv("GUEST_SECONDS");
	same(&n, &t);
	result_free(&n);
	result_free(&t);
}

static void signal_storm(void) { storm("signals_threads"); }
static void thread_storm(void) { storm("proc_storm"); }

/*
 * Ten thousand libraries come and go: not one of their blocks, mappings or page
 * descriptors is there afterwards, beyond what the cache may keep before it is emptied.
 */
static void libraries_leave_nothing_behind(void)
{
	char path[PATH_MAX + 128], *argv[] = { path, "ten_thousand_libraries", NULL };
	struct result t;

	if (getenv("CODEWP_VM"))
		SKIP("too long for an emulated machine");
	guest_command(path, sizeof(path), "mem_bounds");
	run(translated(argv, "--stats"), NULL, 120, &t);
	if (t.timeout || t.status)
		TEST_FAIL("status %d, '%.200s' '%.200s'", t.status, t.out, t.err);
	/* Each time the cache is emptied, it takes those of the library that is there. */
	if (stat_value(t.err, "invalidated") < 160000 - 16 * stat_value(t.err, "flushes"))
		TEST_FAIL("%lld blocks were dropped", stat_value(t.err, "invalidated"));
	if (stat_value(t.err, "tbs_live") < 100 || stat_value(t.err, "tbs_live") > 5000)
		TEST_FAIL("%lld blocks are left", stat_value(t.err, "tbs_live"));
	if (stat_value(t.err, "regions") < 5 || stat_value(t.err, "regions") > 60)
		TEST_FAIL("%lld regions are left", stat_value(t.err, "regions"));
	if (stat_value(t.err, "flushes") < 1)
		TEST_FAIL("the cache was never emptied");
	if (stat_value(t.err, "cache_used") > 24LL << 20 ||
	    stat_value(t.err, "map_bytes") > 48LL << 20)
		TEST_FAIL("%lld bytes of cache and %lld of the code map are left",
			  stat_value(t.err, "cache_used"), stat_value(t.err, "map_bytes"));
}

/* A third of a minute each, on the backend that programs get. */
static void makes_code_for_long(void)
{
	static const char *const way[] = { "functions_in_a_ring", "a_mapping_for_each_function",
					   "beside_a_thread_that_runs" };
	struct result t;

	if (getenv("CODEWP_VM"))
		SKIP("too long for an emulated machine; it has mem_bounds.all");
	setenv("GUEST_SECONDS", strcmp(tt.backend, "mprotect") ? "20" : "5", 1);
	for (size_t i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
		char path[PATH_MAX + 128], *argv[] = { path, (char *)way[i], NULL };

		guest_command(path, sizeof(path), "mem_bounds");
		run(translated(argv, "--stats"), NULL, 60, &t);
		if (t.timeout || t.status)
			TEST_FAIL("%s: status %d, '%.200s' '%.200s'", way[i], t.status, t.out,
				  t.err);
		if (stat_value(t.err, "tbs") < 2000)
			TEST_FAIL("%s: only %lld blocks", way[i], stat_value(t.err, "tbs"));
		result_free(&t);
	}
	unsetenv("GUEST_SECONDS");
}

/* The cases check themselves; the emulated machine gets them wrong natively. */
static void kick_on_the_way_in(void)
{
	struct result t;

	run_case("mem_calls", "fork_patch_at_start", NULL, &t);
	result_free(&t);
	run_case("mem_calls", "fork_patch_spinning", NULL, &t);
	result_free(&t);
}

static const struct { const char *name; void (*fn)(void); } built_in[] = {
#define T(fn) { #fn, fn }
	T(unsupported_int_0x80),
	T(smc_modes_differ_as_documented), T(stats_count_traps),
	T(superblocks_have_chained_exits), T(code_is_near_the_cache),
	T(lent_memory_is_armed_again),
	T(data_beside_code_keeps_blocks), T(data_beside_code_gets_hot),
	T(rewritten_code_gets_restless), T(versions_are_kept),
	T(ladder_at_once),
	T(guest_memory_not_executable),
	T(log_names_blocks), T(single_instruction_blocks), T(small_code_cache),
	T(libraries_leave_nothing_behind), T(makes_code_for_long),
	T(kick_on_the_way_in), T(signal_storm), T(thread_storm),
};

/* --- making the list --------------------------------------------------------------- */

static void run_test(void)
{
	struct run_test *rt = (struct run_test *)test_current;

	switch (rt->kind) {
	case TABLE:
		run_program(rt->p);
		break;
	case GUEST:
		run_guest_case(rt);
		break;
	case BUILT_IN:
		rt->fn();
		break;
	}
}

static struct run_test *add(enum kind kind, const char *fmt, ...)
{
	struct run_test *rt = calloc(1, sizeof(*rt));
	char *name;
	va_list ap;

	va_start(ap, fmt);
	if (!rt || vasprintf(&name, fmt, ap) < 0)
		exit(1);
	va_end(ap);
	rt->kind = kind;
	rt->tc.name = name;
	rt->tc.fn = run_test;
	rt->tc.seconds = 200;	/* spawn_wait() has the limits that matter */
	test_add(&rt->tc);
	return rt;
}

/*
 * The guest programs, and what of them the VM leaves out, and why. There, where
 * starting a process is what takes the time, one test runs all cases of a program
 * that can share a process, and one each of the deadly ones; how a program is linked
 * makes no difference to the module.
 */
enum in_vm { ALL, ONE_BY_ONE, HOST_ONLY, LEFT_OUT };

static const struct guest_program {
	const char *name;
	enum in_vm vm;
	const char *cases;	/* cases that the VM leaves out, with a space between */
	const char *why;
	bool cross;		/* threads or processes patch each other's code: again() */
} guest_programs[] = {
	{ "insns" },
	{ "insns_odd", LEFT_OUT, NULL,
	  "QEMU's processor reads the stack of a far return with the kernel's rights" },
	{ "insns-pie", HOST_ONLY },
	{ "insns-dynamic", HOST_ONLY },
	{ "insns-static-pie", HOST_ONLY },
	{ "app_libc", ONE_BY_ONE },
	{ "app_libc-static", HOST_ONLY },
	{ "smc_stores", ALL, "shld_mem", "QEMU's own translator goes astray in it, natively" },
	{ "smc_places" },
	{ "smc_places-pie", HOST_ONLY },
	{ "smc_stack" },
	{ "smc_stack-dynamic", HOST_ONLY },
	{ "smc_hot" },
	{ "smc_stylized", .cross = true },
	{ "smc_restless", .cross = true },
	{ "smc_flow" },
	{ "smc_flow-dynamic", HOST_ONLY },
	{ "smc_syscalls" },
	{ "smc_threads", .cross = true },
	{ "mem_calls", ALL, "fork_patch_at_start fork_patch_spinning",
	  "natively it can stand still: QEMU 7.2 reads code without its page's lock, and can "
	  "miss another processor's store; kick_on_the_way_in runs it translated", true },
	{ "mem_bounds", ALL, "ten_thousand_libraries",
	  "too long for an emulated machine, and no page of it is ever armed" },
	{ "proc_threads", .cross = true },
	{ "proc_threads-static", HOST_ONLY },
	{ "sys_errors" },
	{ "sys_seccomp", ONE_BY_ONE },	/* filters stay with the process */
	{ "sys_views", ONE_BY_ONE },	/* so do a process's name and arguments */
	{ "proc_fork", .cross = true },
	{ "signals" },
	{ "signals_calls" },
	{ "signals_faults" },
	{ "signals_threads" },
	{ "proc_exec" },
	{ "proc_storm", .cross = true },
};

static void left_out(void)
{
	SKIP("%s", ((struct run_test *)test_current)->why);
}

static void add_left_out(const char *guest, const char *name, const char *why)
{
	struct run_test *rt = add(BUILT_IN, "%s.%s", guest, name);

	rt->fn = left_out;
	rt->why = why;
}

static struct run_test *add_guest_case(const char *guest, const char *name, const char *which)
{
	struct run_test *rt = add(GUEST, "%s.%s", guest, name);

	snprintf(rt->guest, sizeof(rt->guest), "%s", guest);
	snprintf(rt->which, sizeof(rt->which), "%s", which);
	return rt;
}

static unsigned int count_in_list(const char *list, const char *word)
{
	unsigned int found = 0;
	size_t n = strlen(word);

	for (; list && *list; list += strcspn(list, " "), list += *list == ' ')
		found += !n || (strcspn(list, " ") == n && !strncmp(list, word, n));
	return found;
}

static int add_guest(const struct guest_program *g)
{
	bool vm = getenv("CODEWP_VM"), all = vm && g->vm == ALL;
	char path[PATH_MAX + 128], *argv[] = { path, "--list", NULL };
	unsigned int missing = count_in_list(g->cases, "");
	struct result r;

	if (vm && g->vm == HOST_ONLY)
		return 0;
	if (vm && g->vm == LEFT_OUT) {
		add_left_out(g->name, "all", g->why);
		return 0;
	}
	snprintf(path, sizeof(path), "%s/%s", tt.guests, g->name);
	if (spawn_wait(argv, NULL, 20, &r) || r.status || !r.out_size) {
		fprintf(stderr, "%s --list: status %d\n", path, r.status);
		return -1;
	}
	if (all) {
		struct run_test *rt = add_guest_case(g->name, "all", "--all");

		rt->without = g->cases;
		rt->cross = g->cross;
		rt->tc.seconds *= VM_TRIES;
	}
	for (char *s = strtok(r.out, "\n"); s; s = strtok(NULL, "\n")) {
		bool listed = count_in_list(g->cases, s);

		missing -= listed;
		if (vm && listed)
			add_left_out(g->name, s, g->why);
		else if (!all || !strncmp(s, "dies_", 5))
			add_guest_case(g->name, s, s);
	}
	result_free(&r);
	if (missing)
		fprintf(stderr, "%s has no such cases: '%s'\n", g->name, g->cases);
	return missing ? -1 : 0;
}

static int prepare(void)
{
	snprintf(words, sizeof(words), "%s/words", tt.scratch);
	if (write_words(words))
		return 1;
	setenv("GUEST_TEST", "value with spaces", 1);
	unsetenv("LUA_INIT");
	for (size_t i = 0; i < sizeof(built_in) / sizeof(built_in[0]); i++)
		add(BUILT_IN, "%s", built_in[i].name)->fn = built_in[i].fn;
	for (const struct program *p = programs; p->name; p++)
		add(TABLE, "%s", p->name)->p = p;
	for (size_t i = 0; i < sizeof(guest_programs) / sizeof(guest_programs[0]); i++)
		if (add_guest(&guest_programs[i]))
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	return tt_main(argc, argv, "codewp-programs", prepare);
}
