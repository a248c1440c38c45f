// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Three parties count what happens to a program that changes its own code: the
 * backend (in the module: CODEWP_IOC_STAT), the eBPF programs, the translator.
 * They must agree to the last event.
 */
#include "tool_util.h"

#define STAT	beside("../../bin/codewp-stat")
#define PATCH	beside("../demo.d/patch")
#define ROUNDS	"53"
#define N	53

struct counts {
	char *bpf;	/* lines of codewp stat */
	char *err;	/* lines of --stats */
	const char *backend;
};

static int64_t bpf(const struct counts *c, const char *name)
{
	return named(c->bpf, "", name);
}

static int64_t own(const struct counts *c, const char *name)
{
	return named(c->err, "codewp-stat: ", name);
}

static struct counts count(const char *backend)
{
	struct counts c = { .backend = backend };
	char option[64], file[160];
	struct said s;

	need_bpf();
	if (!strcmp(backend, "kmod") && access("/dev/codewp", F_OK))
		SKIP("the codewp module is not loaded");
	snprintf(option, sizeof(option), "--backend=%s", backend);
	snprintf(file, sizeof(file), "%s", temp_name("bpf"));
	s = RUN(STAT, "-x", "-o", file, "--stats", "--without=hot,stylized,restless", option, "--",
		PATCH, ROUNDS);
	c.bpf = slurp(file);
	unlink(file);
	c.err = s.err;
	if (s.status == 125 && strstr(s.err, "backend:"))
		SKIP("backend %s does not work here", backend);
	if (s.status)
		TEST_FAIL("status %d: %.400s", s.status, s.err);
	if (!strstr(s.out, "code read from a pipe: " ROUNDS " times, never stale"))
		TEST_FAIL("wrong output: %.300s", s.out);
	return c;
}

/* What holds whatever the backend. */
static void translator_agrees(const struct counts *c)
{
	ASSERT_EQ(bpf(c, "usdt"), 1);
	ASSERT_EQ(bpf(c, "missed"), 0);
	ASSERT_EQ(bpf(c, "map_full"), 0);
	ASSERT_EQ(bpf(c, "map_failed"), 0);
	ASSERT_EQ(bpf(c, "tbs"), own(c, "tbs"));
	ASSERT_EQ(bpf(c, "invalidated"), own(c, "invalidated"));
	ASSERT_EQ(bpf(c, "handled_upcall"), own(c, "traps_upcall"));
	ASSERT_EQ(bpf(c, "handled_signal"), own(c, "traps_signal"));
	ASSERT_EQ(bpf(c, "handled_event"), own(c, "events"));
	/*
	 * Without hot store sites each store traps. The program stores N times to
	 * each of three pages (the first of its stores is the one before its page
	 * had code, or stores what is there), and has the kernel write N times to a
	 * fourth.
	 */
	ASSERT_GE(bpf(c, "handled"), 3 * (N - 1));
	ASSERT_LE(bpf(c, "handled"), 4 * N);
	/* Each patch that is run kills at least the block that it patched. */
	ASSERT_GE(bpf(c, "invalidated"), 3 * (N - 1));
}

TEST_LONG(three_counts_agree_kmod, 60)
{
	struct counts c = count("kmod");

	translator_agrees(&c);
	ASSERT_EQ(bpf(&c, "module"), 1);
	ASSERT_GE(bpf(&c, "traps_upcall"), 3 * (N - 1));
	ASSERT_EQ(bpf(&c, "traps_upcall"), own(&c, "backend_upcalls"));
	ASSERT_EQ(bpf(&c, "traps_upcall"), own(&c, "traps_upcall"));
	ASSERT_EQ(bpf(&c, "traps_signal"), own(&c, "backend_signals"));
	ASSERT_EQ(bpf(&c, "traps"), own(&c, "backend_traps"));
	ASSERT_GE(bpf(&c, "traps_kernel"), N - 1);
	ASSERT_EQ(bpf(&c, "traps_kernel"), own(&c, "backend_kernel_writes"));
	ASSERT_EQ(bpf(&c, "traps_ring") + bpf(&c, "traps_kernel") +
		  bpf(&c, "traps_recreated"), own(&c, "backend_events"));
	ASSERT_EQ(bpf(&c, "handled_event"), own(&c, "backend_events"));
	ASSERT_EQ(bpf(&c, "arm_requests"), own(&c, "arms"));
}

TEST_LONG(counts_agree_uffd, 60)
{
	struct counts c = count("uffd");

	translator_agrees(&c);
	ASSERT_GE(bpf(&c, "handled_signal"), 3 * (N - 1));
	ASSERT_EQ(bpf(&c, "handled_signal"), own(&c, "backend_signals"));
	ASSERT_EQ(bpf(&c, "traps"), 0);
}

TEST_LONG(counts_agree_mprotect, 60)
{
	struct counts c = count("mprotect");

	translator_agrees(&c);
	ASSERT_GE(bpf(&c, "handled_signal"), 3 * (N - 1));
	ASSERT_EQ(bpf(&c, "handled_signal"), own(&c, "backend_signals"));
	ASSERT_EQ(bpf(&c, "traps"), 0);
}

/* With the ladder: the pages climb it, and both sides say the same of that. */
TEST_LONG(rungs_agree, 60)
{
	struct counts c = { 0 };
	char file[160];
	struct said s;

	need_bpf();
	snprintf(file, sizeof(file), "%s", temp_name("bpf"));
	s = RUN(STAT, "-x", "-o", file, "--stats", "--without=stylized", "--", PATCH, ROUNDS);
	c.bpf = slurp(file);
	unlink(file);
	c.err = s.err;
	ASSERT_EQ(s.status, 0);
	ASSERT_EQ(bpf(&c, "rung_hot"), own(&c, "hot_sites"));
	ASSERT_EQ(bpf(&c, "rung_stylized"), 0);
	ASSERT_GE(bpf(&c, "rung_restless"), 1);
	ASSERT_EQ(bpf(&c, "rung_restless"), own(&c, "restless"));
}

/* The module's rows and the translator's are joined: one row per page. */
TEST_LONG(one_row_per_page_from_both_sides, 60)
{
	long long up, sig, ring, tbs, dropped, sum_up = 0, sum_dropped = 0;
	const char *line;
	struct said s;
	int rows = 0;

	need_bpf();
	if (access("/dev/codewp", F_OK))
		SKIP("the codewp module is not loaded");
	s = RUN(STAT, "-n", "0", "-o", "/dev/stdout", "--backend=kmod",
		"--without=hot,stylized,restless", "--", PATCH, ROUNDS);
	ASSERT_EQ(s.status, 0);
	line = strstr(s.out, "\nPAGE ");
	ASSERT(line);
	for (line++; (line = strchr(line, '\n')) && *++line; rows++) {
		if (sscanf(line, "%*x %lld %lld %lld %lld %lld", &up, &sig, &ring, &tbs,
			   &dropped) != 5)
			break;
		/* Both sides know each page of this program. */
		ASSERT_GT(up + sig + ring, 0);
		ASSERT_GT(tbs, 0);
		sum_up += up;
		sum_dropped += dropped;
	}
	if (rows != 4)
		TEST_FAIL("%d rows, not 4: %.400s", rows, s.out);
	ASSERT_GE(sum_up, 3 * (N - 1));
	ASSERT_GE(sum_dropped, 3 * (N - 1));
	/* The page that read() filled, and only that one, was written by the kernel. */
	line = strstr(s.out, " kernel ");
	ASSERT(line);
	ASSERT(!strstr(strchr(line, '\n'), " kernel  "));
}

/* Attached when the views are there already: their owner and place are learnt. */
TEST_LONG(joined_when_attached_late, 60)
{
	long long up, sig, ring, tbs, dropped;
	const char *line;
	struct said s;
	char pid[16];
	pid_t child;

	need_bpf();
	if (access("/dev/codewp", F_OK))
		SKIP("the codewp module is not loaded");
	child = SPAWN(beside("../../bin/codewp-run"), "--backend=kmod", "--without=stylized,restless",
		      "--", PATCH, "100000000");
	sleep(2);
	snprintf(pid, sizeof(pid), "%d", child);
	s = RUN(STAT, "-n", "0", "-o", "/dev/stdout", "-d", "1", "-p", pid);
	ASSERT_OK(kill(child, SIGKILL));
	ASSERT_EQ(s.status, 0);
	line = strstr(s.out, "\nPAGE ");
	ASSERT(line);
	line = strchr(line + 1, '\n') + 1;
	if (sscanf(line, "%*x %lld %lld %lld %lld %lld", &up, &sig, &ring, &tbs, &dropped) != 5)
		TEST_FAIL("no row of a guest page: %.400s", s.out);
	ASSERT_GT(up, 0);
	/* Its first phase: each store is a trap and costs the one block there is. */
	ASSERT_GE(tbs, up - 1);
	ASSERT_LE(tbs, up + 1);
	ASSERT_GE(dropped, up - 1);
	ASSERT_LE(dropped, up + 1);
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
