// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp stat and codewp top on the translator's USDT probes: a stand-in for
 * codewp-run (fake_run.c) fires them a known number of times.
 */
#include <sys/time.h>

#include "tool_util.h"

/*
 * Prime, so that a lost or doubled batch cannot add up again by chance; fewer
 * where every probe's breakpoint is emulated.
 */
#define IN_VM	getenv("CODEWP_VM")
#define ROUNDS	(IN_VM ? 5003 : 50021)
#define ROUNDS_S (IN_VM ? "5003" : "50021")
/* In lockstep two emulated processors wait for each other in every round. */
#define STEPS	(IN_VM ? 499 : 10007)
#define STEPS_S	(IN_VM ? "499" : "10007")

#define STAT	beside("fake/codewp-stat")
#define TOP	beside("fake/codewp-top")
#define FAKE	beside("fake/codewp-run")

static void check_counts(const char *text, int64_t rounds)
{
	ASSERT_EQ(named(text, "", "usdt"), 1);
	ASSERT_EQ(named(text, "", "tbs"), rounds);
	ASSERT_EQ(named(text, "", "handled"), rounds);
	ASSERT_EQ(named(text, "", "handled_upcall"), rounds);
	ASSERT_EQ(named(text, "", "invalidations"), rounds);
	ASSERT_EQ(named(text, "", "invalidated"), 3 * rounds);
	ASSERT_EQ(named(text, "", "rung_hot"), rounds);
	ASSERT_EQ(named(text, "", "rung_restless"), 0);
	ASSERT_EQ(named(text, "", "missed"), 0);
}

/*
 * Sums of the columns of a table in text form: traps, TBs, dropped. With the
 * module loaded the trap columns are the module's, and it has seen none of ours:
 * then the TBs, one a round, stand for the traps.
 */
static int table_sums(const char *text, int64_t *traps, int64_t *tbs, int64_t *dropped)
{
	const char *line = strstr(text, "PAGE ");
	bool module = strstr(text, " UPCALL ");
	long long t, b, d, none[3];
	int rows = 0;

	*traps = *tbs = *dropped = 0;
	ASSERT(line);
	while ((line = strchr(line, '\n')) && *++line) {
		if (module) {
			if (sscanf(line, "%*x %lld %lld %lld %lld %lld", none, none + 1,
				   none + 2, &b, &d) != 5)
				break;
			ASSERT_EQ(none[0] + none[1] + none[2], 0);
			t = b;
		} else if (sscanf(line, "%*x %lld %lld %lld", &t, &b, &d) != 3) {
			break;
		}
		*traps += t;
		*tbs += b;
		*dropped += d;
		rows++;
		ASSERT(strcspn(line, "\n") < 80 && strcspn(strstr(line, " h--"), "\n") == 4);
	}
	return rows;
}

TEST(counts_exact_one_thread)
{
	struct said s;

	need_bpf();
	s = RUN(STAT, "-x", "--", "1", ROUNDS_S, "7");
	ASSERT_EQ(s.status, 0);
	check_counts(s.err, ROUNDS);
}

/* Two and more threads on the same pages, while the table is being read. */
TEST_LONG(counts_never_lost_two_cpus, 60)
{
	struct said s;
	int64_t traps, tbs, dropped;

	need_bpf();
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP("one processor only");
	s = RUN(STAT, "-x", "--", "2", STEPS_S, "1", "lockstep", "1");
	ASSERT_EQ(s.status, 0);
	check_counts(s.err, 2 * STEPS);
	s = RUN(STAT, "-o", "/dev/stdout", "-n", "0", "-i", "0.01", "--", "4", ROUNDS_S,
		"3");
	ASSERT_EQ(s.status, 0);
	/* The last table is the final one. */
	while (strstr(s.out + 1, "\nPAGE "))
		s.out = strstr(s.out + 1, "\nPAGE ");
	ASSERT_EQ(table_sums(s.out, &traps, &tbs, &dropped), 3);
	ASSERT_EQ(traps, 4 * ROUNDS);
	ASSERT_EQ(tbs, 4 * ROUNDS);
	ASSERT_EQ(dropped, 12 * ROUNDS);
}

/* Many new pages at once: two CPUs create the same entries. */
TEST_LONG(entries_made_once_two_cpus, 60)
{
	int64_t traps, tbs, dropped;
	struct said s;
	int i;

	need_bpf();
	/* Whether they meet is luck, on a busy machine: several tries. */
	for (i = 0; i < 4; i++) {
		s = RUN(STAT, "-o", "/dev/stdout", "-n", "0", "--", "2", STEPS_S, STEPS_S, "lockstep",
			"1");
		ASSERT_EQ(s.status, 0);
		ASSERT_EQ(table_sums(s.out, &traps, &tbs, &dropped), STEPS);
		/* What the tool knows of losses is the first thing to look at. */
		if (traps != 2 * STEPS || tbs != 2 * STEPS || dropped != 6 * STEPS)
			TEST_FAIL("%lld traps, %lld TBs, %lld dropped of %d: %s",
				  (long long)traps, (long long)tbs, (long long)dropped,
				  STEPS, s.err);
	}
}

TEST(full_table_reported)
{
	int64_t traps, tbs, dropped;
	struct said s;

	need_bpf();
	s = RUN(STAT, "-x", "--pages", "16", "--", "2", "6400", "64");
	ASSERT_EQ(s.status, 0);
	check_counts(s.err, 12800);	/* the totals are still right */
	/* Four events a round on 48 of 64 pages. */
	ASSERT_EQ(named(s.err, "", "map_full"), 4 * 12800 * 48 / 64);
	ASSERT_EQ(named(s.err, "", "map_failed"), 0);
	ASSERT(strstr(s.err, "the page table was full: 38400 events"));

	s = RUN(STAT, "--pages", "16", "-n", "0", "-o", "/dev/stdout", "--", "2", "6400", "64");
	ASSERT_EQ(s.status, 0);
	ASSERT_EQ(table_sums(s.out, &traps, &tbs, &dropped), 16);
	ASSERT_EQ(traps, 12800 * 16 / 64);
	ASSERT(strstr(s.err, "the page table was full: 38400 events"));
}

TEST(worst_page_first_and_rows_limited)
{
	struct said s;
	const char *p;
	int lines = 0;

	need_bpf();
	/* 10 rounds on 3 pages: the first has 4, the others 3. */
	s = RUN(STAT, "-n", "2", "-o", "/dev/stdout", "--", "1", "10", "3");
	ASSERT_EQ(s.status, 0);
	p = strstr(s.out, "\n400000 ");
	ASSERT(p);
	ASSERT(strstr(p + 1, "\n401000 "));
	ASSERT(!strstr(s.out, "\n402000 "));
	ASSERT(strstr(s.out, "... and 1 more pages"));
	/* the last writer of page 0 is 0x1000 */
	ASSERT(strstr(s.out, " 1000 "));
	for (p = s.out; p && *p; lines++) {
		ASSERT_LT(strcspn(p, "\n"), 80UL);
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	ASSERT_GE(lines, 5);
}

TEST(says_that_module_is_missing)
{
	struct said s;

	need_bpf();
	if (!access("/sys/module/codewp", F_OK))
		SKIP("the module is loaded");
	s = RUN(STAT, "--", "1", "10", "3");
	ASSERT_EQ(s.status, 0);
	ASSERT(strstr(s.err, "the codewp module is not loaded: counting by the translator's probes alone"));
	s = RUN(TOP, "-n", "1", "-d", "0.05");
	ASSERT_EQ(s.status, 0);
	ASSERT(strstr(s.err, "the codewp module is not loaded"));
}

TEST(exit_status_passed_on)
{
	need_bpf();
	ASSERT_EQ(RUN(STAT, "--", "1", "1", "1", "exit", "0").status, 0);
	ASSERT_EQ(RUN(STAT, "--", "1", "1", "1", "exit", "42").status, 42);
	ASSERT_EQ(RUN(STAT, "--", "1", "1", "1", "signal", "15").status, 128 + 15);
}

TEST(run_options_passed_on)
{
	struct said s;

	need_bpf();
	s = RUN(STAT, "--backend=mprotect", "-n", "3", "--stats", "--", "1", "1", "1");
	ASSERT_EQ(s.status, 0);
	ASSERT(strstr(s.err, "option --backend=mprotect\noption --stats\n"));
}

/* Events of other processes do not count for PROGRAM, nor for -p. */
TEST_LONG(only_the_process_asked_for, 60)
{
	pid_t other, one;
	struct said s;
	char pid[16];

	need_bpf();
	other = SPAWN(FAKE, "--", "1", "2000000000", "3");
	s = RUN(STAT, "-x", "--", "2", ROUNDS_S, "7");
	ASSERT_EQ(s.status, 0);
	check_counts(s.err, 2 * ROUNDS);

	one = SPAWN(FAKE, "--", "1", "1", "1", "sleep", "20000");
	snprintf(pid, sizeof(pid), "%d", one);
	s = RUN(STAT, "-x", "-p", pid, "-d", "0.3");
	kill(one, SIGKILL);
	ASSERT_EQ(s.status, 0);
	ASSERT_EQ(named(s.err, "", "handled"), 0);

	snprintf(pid, sizeof(pid), "%d", other);
	s = RUN(STAT, "-x", "-p", pid, "-d", "0.3");
	ASSERT_EQ(s.status, 0);
	ASSERT_GT(named(s.err, "", "handled"), 0);
	s = RUN(STAT, "-x", "-a", "-d", "0.3");
	ASSERT_EQ(s.status, 0);
	ASSERT_GT(named(s.err, "", "handled"), 0);
	kill(other, SIGKILL);
}

/* -p ends with the process. */
TEST(pid_watched_until_it_ends)
{
	struct said s;
	char pid[16];

	need_bpf();
	snprintf(pid, sizeof(pid), "%d", SPAWN(FAKE, "--", "1", "1", "1", "sleep", "1500"));
	s = RUN(STAT, "-x", "-p", pid);
	ASSERT_EQ(s.status, 0);
	ASSERT_EQ(named(s.err, "", "usdt"), 1);
}

TEST(top_shows_what_moves)
{
	struct said s;
	pid_t pid;

	need_bpf();
	pid = SPAWN(FAKE, "--", "1", "2000000000", "3");
	s = RUN(TOP, "-n", "3", "-d", "0.2", "-s", "dropped");
	kill(pid, SIGKILL);
	ASSERT_EQ(s.status, 0);
	ASSERT(strstr(s.out, "\n402000 "));
	ASSERT(!strchr(s.out, '\033'));	/* not a terminal */
	ASSERT(strstr(s.out, "since the last picture"));
	/* Nobody moves any more: the pages are gone from the picture. */
	s = RUN(TOP, "-n", "1", "-d", "0.1");
	ASSERT_EQ(s.status, 0);
	ASSERT(!strstr(s.out, "\n402000 "));
}

TEST(without_rights_a_clear_message)
{
	const char *stat = STAT, *top = TOP;
	struct said s;

	if (geteuid())
		SKIP("only root can become nobody");
	ASSERT_OK(setgid(65534));
	ASSERT_OK(setuid(65534));
	if (access(stat, X_OK))
		SKIP("nobody cannot reach %s", stat);
	s = RUN(stat, "--", "1", "1", "1");
	ASSERT_EQ(s.status, 125);
	ASSERT(strstr(s.err, "codewp stat: not allowed to load eBPF programs"));
	s = RUN(top, "-n", "1");
	ASSERT_EQ(s.status, 125);
	ASSERT(strstr(s.err, "codewp top: not allowed to load eBPF programs"));
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
