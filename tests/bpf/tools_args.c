// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What every tool says to wrong arguments: exit status 2, a line on stderr that
 * names the culprit, nothing on stdout; and to --help: status 0, on stdout.
 */
#include "tool_util.h"

#define BIN(x) beside("../../bin/" x)

static void wrong(struct said s, int status, const char *words)
{
	if (s.status != status)
		TEST_FAIL("status %d, not %d: %.200s", s.status, status, s.err);
	if (!strstr(s.err, words))
		TEST_FAIL("no '%s' in: %.300s", words, s.err);
	if (s.out[0])
		TEST_FAIL("stdout: %.300s", s.out);
}

static void help(struct said s, const char *words)
{
	ASSERT_EQ(s.status, 0);
	ASSERT(strstr(s.out, words));
	ASSERT(!s.err[0]);
}

TEST(front)
{
	const char *codewp = BIN("codewp");
	struct said s;

	wrong(RUN(codewp), 2, "Usage: codewp COMMAND");
	wrong(RUN(codewp, "nonsense"), 127, "no command 'nonsense'");
	wrong(RUN(codewp, "sta"), 127, "no command 'sta'");
	wrong(RUN(codewp, ""), 127, "no command ''");
	wrong(RUN(codewp, "--nonsense"), 2, "no option '--nonsense'");
	help(RUN(codewp, "--help"), "Usage: codewp COMMAND");
	help(RUN(codewp, "stat", "--help"), "Usage: codewp stat");
	help(RUN(codewp, "top", "-h"), "Usage: codewp top");
	help(RUN(codewp, "doctor", "--help"), "Usage: codewp doctor");
	help(RUN(codewp, "guest", "--help"), "Usage: codewp guest");
	s = RUN(codewp, "--version");
	ASSERT_EQ(s.status, 0);
	ASSERT(!strncmp(s.out, "codewp 0.", 9));
}

/* A copy far from the others finds none, and says so. */
TEST(front_without_siblings)
{
	char dir[] = "/tmp/codewp-test.XXXXXX", copy[64];
	struct said s;

	ASSERT(mkdtemp(dir));
	snprintf(copy, sizeof(copy), "%s/codewp", dir);
	s = RUN("/bin/cp", BIN("codewp"), copy);
	ASSERT_EQ(s.status, 0);
	s = RUN(copy, "stat");
	unlink(copy);
	rmdir(dir);
	wrong(s, 127, "codewp-stat is not beside this program");
}

TEST(stat_args)
{
	const char *stat = BIN("codewp-stat");

	wrong(RUN(stat), 2, "say one of: PROGRAM, -p PID, -a");
	wrong(RUN(stat, "-a", "-p", "1"), 2, "say one of");
	wrong(RUN(stat, "-a", "--", "true"), 2, "say one of");
	wrong(RUN(stat, "-p", "0"), 2, "--pid: 0 is not in");
	wrong(RUN(stat, "-p", "-5"), 2, "--pid: -5 is not in");
	wrong(RUN(stat, "-p", "12x"), 2, "'12x' is not a number");
	wrong(RUN(stat, "-p", ""), 2, "'' is not a number");
	wrong(RUN(stat, "-p"), 2, "requires an argument");
	wrong(RUN(stat, "-n", "-1", "-a"), 2, "--rows: -1 is not in");
	wrong(RUN(stat, "-n", "99999999999999999999", "-a"), 2, "is not a number");
	wrong(RUN(stat, "-i", "0", "-a"), 2, "--interval: 0 is not in");
	wrong(RUN(stat, "-i", "nan", "-a"), 2, "--interval: nan is not in");
	wrong(RUN(stat, "-d", "-1", "-a"), 2, "--duration: -1 is not in");
	wrong(RUN(stat, "-d", "1", "--", "true"), 2, "--duration is for -p and -a");
	wrong(RUN(stat, "--pages", "0", "-a"), 2, "--pages: 0 is not in");
	wrong(RUN(stat, "-Z", "-a"), 2, "invalid option");
	wrong(RUN(stat, "--nonsense", "-a"), 2, "no option '--nonsense' without PROGRAM");
	wrong(RUN(stat, "-p", "2147483646"), 125, "process 2147483646: No such process");
	wrong(RUN(stat, "-o", "/nowhere/x", "-a"), 125, "/nowhere/x: No such file");
}

TEST(top_args)
{
	const char *top = BIN("codewp-top");

	wrong(RUN(top, "program"), 2, "'program' is too much");
	wrong(RUN(top, "-d", "0"), 2, "--delay: 0 is not in");
	wrong(RUN(top, "-d", "x"), 2, "'x' is not a number of seconds");
	wrong(RUN(top, "-n", "0"), 2, "--iterations: 0 is not in");
	wrong(RUN(top, "-r", "0"), 2, "--rows: 0 is not in");
	wrong(RUN(top, "-s", "colour"), 2, "no column 'colour'");
	wrong(RUN(top, "-p", "2147483646"), 125, "process 2147483646: No such process");
	wrong(RUN(top, "--nonsense"), 2, "unrecognized option");
}

TEST(guest_args)
{
	const char *guest = BIN("codewp-guest");

	wrong(RUN(guest), 2, "say which process");
	wrong(RUN(guest, "-A"), 2, "say which process");
	wrong(RUN(guest, "-p", "1"), 2, "say what to watch");
	wrong(RUN(guest, "-p", "1", "-A", "-a", "0-1"), 2, "say what to watch");
	wrong(RUN(guest, "-p", "1", "-a", "x"), 2, "'x' is not START-END");
	wrong(RUN(guest, "-p", "1", "-a", "-5"), 2, "'-5' is not START-END");
	wrong(RUN(guest, "-p", "1", "-a", "0x1000-"), 2, "'0x1000-' is not START-END");
	wrong(RUN(guest, "-p", "1", "-a", "1-2-3"), 2, "'1-2-3' is not START-END");
	wrong(RUN(guest, "-p", "1", "-a", "0x2000-0x2000"), 2, "ends before it begins");
	wrong(RUN(guest, "-p", "1", "-a", "0x10000000000000000"), 2, "is not START-END");
	wrong(RUN(guest, "-p", "1", "-A", "-c", "0"), 2, "--count: 0 is not in");
	wrong(RUN(guest, "-p", "1", "-A", "-i", "-1"), 2, "--interval: -1 is not in");
	wrong(RUN(guest, "-p", "1", "-A", "more"), 2, "no argument 'more'");
	wrong(RUN(guest, "-p", "4194304", "-A"), 125, "No such process");
}

TEST(doctor_args)
{
	const char *doctor = BIN("codewp-doctor");

	wrong(RUN(doctor, "patient"), 2, "'patient' is too much");
	wrong(RUN(doctor, "--nonsense"), 2, "unrecognized option");
}

/* mprotect works everywhere, so one backend does, and each is spoken of. */
TEST(doctor_knows_each_backend)
{
	struct said s = RUN(BIN("codewp-doctor"));
	static const char * const words[] = {
		"  kmod ", "  uffd ", "  yes  mprotect ", "'codewp run' will take ",
		"version", "headers", "eBPF", "tracefs", "uprobes",
	};
	const char *p;
	size_t i;

	ASSERT_EQ(s.status, 0);
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strstr(s.out, words[i]))
			TEST_FAIL("no '%s' in: %.300s", words[i], s.out);
	/* A backend that does not work is followed by a reason. */
	for (p = s.out; (p = strstr(p, "\n  NO ")); p++)
		ASSERT_GT(strcspn(p + 1, "\n"), 25UL);
	if (access("/dev/codewp", F_OK))
		ASSERT(strstr(s.out, "  NO   kmod "));
	else if (!geteuid())
		ASSERT(strstr(s.out, "  yes  kmod "));
	for (p = s.out; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : p)
		ASSERT_LT(strcspn(p, "\n"), 80UL);
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
