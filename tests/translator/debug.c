// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What is there for people who debug: --perf-map, --log-range, and the gdb
 * commands, on a process that runs.
 */
#include <ctype.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "test.h"
#include "programs.h"

#define PATH_SIZE (PATH_MAX + 128)

#define ASSERT_TRUE(cond) do {		\
	if (!(cond))			\
		TEST_FAIL("%s", #cond);	\
} while (0)

static char *guest(void)
{
	static char path[PATH_SIZE];

	snprintf(path, sizeof(path), "%s/app_debug", tt.guests);
	return path;
}

/* The guest's symbol, in hexadecimal and as it was linked. */
static unsigned long symbol_value(const char *name)
{
	char cmd[PATH_SIZE + 64], line[256];
	unsigned long value = 0;
	FILE *f;

	snprintf(cmd, sizeof(cmd), "nm '%s'", guest());
	f = popen(cmd, "r");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long v;
		char type, sym[200];

		if (sscanf(line, "%lx %c %199s", &v, &type, sym) == 3 && !strcmp(sym, name))
			value = v;
	}
	pclose(f);
	ASSERT_NE(value, 0UL);
	return value;
}

struct map_facts {
	unsigned long lines;
	bool found[4];
};

/* Every line is START SIZE NAME; which of the names begin one? */
static void read_map(int pid, const char *const names[4], struct map_facts *facts)
{
	char path[64], line[1024];
	FILE *f;

	memset(facts, 0, sizeof(*facts));
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", pid);
	f = fopen(path, "r");
	if (!f)
		TEST_FAIL("no %s", path);
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, size;
		int at = 0;

		facts->lines++;
		if (sscanf(line, "%lx %lx %n", &start, &size, &at) != 2 || !at || !size ||
		    !isgraph(line[at]) || line[strlen(line) - 1] != '\n')
			TEST_FAIL("line %lu: '%.100s'", facts->lines, line);
		for (int i = 0; i < 4; i++)
			if (names[i] && !strncmp(line + at, names[i], strlen(names[i])) &&
			    line[at + strlen(names[i])] == '+')
				facts->found[i] = true;
	}
	fclose(f);
	unlink(path);
}

TEST(perf_map_of_parent_and_child)
{
	static const char *const names[4] = { "main", "child_only", "spin_here", "puts" };
	char *argv[] = { guest(), "fork", NULL };
	struct map_facts parent, child;
	int pid[2] = { 0, 0 };
	struct result t;

	run(translated(argv, "--perf-map"), NULL, 20, &t);
	ASSERT_EQ(t.status, 3);
	ASSERT_EQ(sscanf(t.out, "%d %d", &pid[0], &pid[1]), 2);
	read_map(pid[0], names, &parent);
	read_map(pid[1], names, &child);
	ASSERT_GT(parent.lines, 100UL);
	ASSERT_GT(child.lines, parent.lines / 2);	/* what it has from its parent */
	ASSERT_TRUE(parent.found[0] && child.found[0]);
	ASSERT_TRUE(child.found[1] && !parent.found[1]);
	ASSERT_TRUE(!parent.found[2] && !child.found[2]);
	result_free(&t);
}

/* The share of the samples that perf gives to a symbol of that name, in percent. */
static double perf_share(const char *report, const char *symbol)
{
	char name[256];
	double percent, sum = 0;

	for (const char *s = report; *s; s += strcspn(s, "\n"), s += *s == '\n')
		if (sscanf(s, " %lf%% [.] %255s", &percent, name) == 2 &&
		    !strncmp(name, symbol, strlen(symbol)) && name[strlen(symbol)] == '+')
			sum += percent;
	return sum;
}

/* perf itself, which samples by a clock: a machine without counters will do. */
TEST_LONG(perf_shows_the_guests_symbols, 60)
{
	char data[PATH_SIZE], **v;
	char *spin[] = { guest(), "spin", NULL }, *record[32] = {
		"perf", "record", "-q", "-o", data, "-e", "cpu-clock:u", "-F", "500", "--",
		"timeout", "2",
	}, *report[] = {
		"perf", "report", "-q", "-i", data, "--stdio", "-F", "overhead,sym", NULL,
	};
	struct result r;
	double share;
	int pid;

	if (access("/usr/bin/perf", X_OK))
		SKIP("no perf");
	snprintf(data, sizeof(data), "%s/perf.data", tt.scratch);
	v = translated(spin, "--perf-map");
	for (int i = 0; i < 19 && v[i]; i++)
		record[12 + i] = v[i];
	run(record, NULL, 30, &r);
	if (strcasestr(r.err, "permi") || strcasestr(r.err, "not supported"))
		SKIP("perf cannot record here: %.200s", r.err);
	ASSERT_EQ(sscanf(r.out, "%d", &pid), 1);
	result_free(&r);
	run(report, NULL, 30, &r);
	share = perf_share(r.out, "spin_here");
	/* nearly all of the time; a busy machine takes its share of it when it starts */
	if (r.status || share < 50)
		TEST_FAIL("spin_here has %.1f%% of '%.300s' '%.100s'", share, r.out, r.err);
	result_free(&r);
	snprintf(data, sizeof(data), "/tmp/perf-%d.map", pid);
	ASSERT_EQ(unlink(data), 0);
}

TEST(log_of_one_range)
{
	unsigned long at = symbol_value("main"), end = at + 16;
	char *argv[] = { guest(), NULL }, opt[64], *line;
	unsigned int n = 0;
	struct result t;

	snprintf(opt, sizeof(opt), "--log-range=%lx-%lx", at, end);
	run(translated(argv, opt), NULL, 20, &t);
	ASSERT_EQ(t.status, 0);
	for (line = strtok(t.err, "\n"); line; line = strtok(NULL, "\n"), n++) {
		unsigned long pc, bytes;

		if (sscanf(line, "tb 0x%lx bytes %lu", &pc, &bytes) != 2)
			TEST_FAIL("'%.100s'", line);
		if (pc >= end || pc + bytes <= at)
			TEST_FAIL("0x%lx is not in %lx-%lx", pc, at, end);
	}
	ASSERT_GE(n, 1U);
	ASSERT_LE(n, 16U);
	result_free(&t);
}

TEST(log_range_that_is_none)
{
	static const char *const bad[] = { "--log-range=5", "--log-range=9-8", "--log-range=x-y",
					   "--log-range=1-2z" };
	char *argv[] = { guest(), NULL };
	struct result t;

	for (int i = 0; i < 4; i++) {
		run(translated(argv, bad[i]), NULL, 20, &t);
		ASSERT_EQ(t.status, 125);
		one_line(&t);
		result_free(&t);
	}
}

/* A guest that spins, as gdb sees it. */
TEST_LONG(gdb_finds_the_guest, 60)
{
	char *argv[] = { guest(), "spin", NULL }, **v = translated(argv, NULL);
	unsigned long at = symbol_value("spin_here"), pc, block;
	char script[PATH_SIZE], number[16], *say, *where;
	char *gdb[] = { "gdb", "-q", "-nx", "-batch", "-p", number, "-ex", script,
			"-ex", "codewp-symbols", "-ex", "codewp-where",
			"-ex", "print/x (unsigned long)codewp_guest_pc($pc)", NULL };
	int fds[2], status;
	struct result t;
	pid_t pid;
	char c;

	if (access("/usr/bin/gdb", X_OK))
		SKIP("no gdb");
	snprintf(script, sizeof(script), "source %s/../user/translator/codewp-gdb.py", tt.top);
	ASSERT_EQ(pipe(fds), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		dup2(fds[1], 1);
		execv(v[0], v);
		_exit(127);
	}
	ASSERT_EQ(read(fds[0], &c, 1), 1);	/* it runs */
	usleep(300000);
	snprintf(number, sizeof(number), "%d", pid);
	run(gdb, NULL, 40, &t);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	say = t.out;
	if (strcasestr(t.err, "ptrace: Operation not permitted"))
		SKIP("gdb may not attach");
	where = strstr(say, "guest pc 0x");
	if (!where || sscanf(where, "guest pc 0x%lx", &pc) != 1)
		TEST_FAIL("'%.200s' '%.200s'", say, t.err);
	if (pc < at || pc > at + 64)
		TEST_FAIL("0x%lx is not in spin_here at 0x%lx", pc, at);
	ASSERT_TRUE(strstr(where, "spin_here"));
	where = strstr(say, "block 0x");
	ASSERT_TRUE(where && sscanf(where, "block 0x%lx", &block) == 1);
	ASSERT_TRUE(block >= at && block <= pc);
	where = strstr(say, "$1 = 0x");
	ASSERT_TRUE(where && strtoul(where + 5, NULL, 16) == pc);
	result_free(&t);
}

/* ---- faults of the runtime's own --------------------------------------------------- */

static FILE *started_err;

/* Translated, with a byte of output as the sign that it runs; its stderr is kept. */
static pid_t start(char *const argv[])
{
	char **v = translated(argv, NULL), c;
	int fds[2];
	pid_t pid;

	started_err = tmpfile();
	ASSERT_TRUE(started_err);
	ASSERT_EQ(pipe(fds), 0);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fds[1], 1);
		dup2(fileno(started_err), 2);
		close(fds[0]);
		execv(v[0], v);
		_exit(127);
	}
	close(fds[1]);
	ASSERT_EQ(read(fds[0], &c, 1), 1);
	return pid;			/* fds[0] stays open: it may write more */
}

/* gdb from a process of its own: run() ends what children it has afterwards. */
static void run_gdb(char *const argv[])
{
	int status;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid) {
		struct result t;

		run(argv, NULL, 40, &t);
		if (strcasestr(t.err, "ptrace: Operation not permitted"))
			SKIP("gdb may not attach");
		if (t.timeout || t.status)
			TEST_FAIL("gdb: %d, '%.200s' '%.150s'", t.status, t.out, t.err);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (status)
		_exit(WEXITSTATUS(status));	/* why is told */
}

/*
 * The debugger makes the runtime do something that it never would; what becomes of
 * the process, within ten seconds, and the one line that it leaves.
 */
static int sabotage(char *const argv[], const char *const commands[4], char *line, size_t size)
{
	char number[16], *gdb[24] = {
		"gdb", "-q", "-nx", "-batch", "-p", number,
		"-ex", "handle SIGSEGV SIGBUS nostop noprint pass",
	};
	int n = 8, status = 0, patience;
	pid_t pid;

	if (access("/usr/bin/gdb", X_OK))
		SKIP("no gdb");
	for (int i = 0; i < 4 && commands[i]; i++) {
		gdb[n++] = "-ex";
		gdb[n++] = (char *)commands[i];
	}
	pid = start(argv);
	snprintf(number, sizeof(number), "%d", pid);
	usleep(300000);
	run_gdb(gdb);
	for (patience = 0; patience < 1000 && !waitpid(pid, &status, WNOHANG); patience++)
		usleep(10000);
	if (patience == 1000) {
		kill(pid, SIGKILL);
		TEST_FAIL("it did not end");
	}
	rewind(started_err);
	n = fread(line, 1, size - 1, started_err);
	line[n] = 0;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The line says who, what, and where; returns the guest's program counter. */
static unsigned long internal_error(const char *line, const char *program, const char *what)
{
	unsigned long pc, host, block, insns, from, to;
	unsigned int in_cache;
	char begin[PATH_SIZE + 64];
	const char *at;

	snprintf(begin, sizeof(begin), "codewp run: %s: internal error: ", program);
	if (strncmp(line, begin, strlen(begin)) || strchr(line, '\n') != line + strlen(line) - 1 ||
	    !strstr(line, what))
		TEST_FAIL("'%.300s'", line);
	at = strstr(line, "(guest pc ");
	if (!at || sscanf(at, "(guest pc 0x%lx, host pc 0x%lx, in cache %u, block 0x%lx of %lu "
			  "instructions at 0x%lx-0x%lx)", &pc, &host, &in_cache, &block, &insns,
			  &from, &to) != 7)
		TEST_FAIL("'%.300s'", line);
	if (insns < 1 || from >= to || pc < block || pc > block + 15 * insns)
		TEST_FAIL("no block of guest code: '%.300s'", line);
	return pc;
}

TEST_LONG(fault_in_the_runtimes_c_code, 60)
{
	static const char *const commands[4] = {
		"break sys_call", "continue", "set $pc = 0", "detach",
	};
	char *argv[] = { guest(), "call", NULL }, line[2048];

	ASSERT_EQ(sabotage(argv, commands, line, sizeof(line)), 128 + SIGABRT);
	internal_error(line, guest(), "signal 11 (code 1) at host pc 0x0, address (nil)");
}

TEST_LONG(fault_on_a_way_out_of_the_cache, 60)
{
	static const char *const commands[4] = { "set $pc = 0", "detach" };
	unsigned long at = symbol_value("spin_here"), pc;
	char *argv[] = { guest(), "spin", NULL }, line[2048];

	ASSERT_EQ(sabotage(argv, commands, line, sizeof(line)), 128 + SIGABRT);
	pc = internal_error(line, guest(), "signal 11 (code 1) at host pc 0x0, address (nil)");
	ASSERT_TRUE(pc >= at && pc < at + 64);
}

/* What the message is made of is broken, too: no second message, no hang. */
static void fault_in_the_message(void)
{
	static const char *const commands[4] = {
		"set var *(unsigned long *)&rt.program = 16", "set $pc = 0", "detach",
	};
	char *argv[] = { guest(), "spin", NULL }, line[2048];

	ASSERT_EQ(sabotage(argv, commands, line, sizeof(line)), 128 + SIGABRT);
	ASSERT_EQ(strlen(line), 0UL);
}

TEST_LONG(fault_while_a_fault_is_told, 60) { fault_in_the_message(); }

int main(int argc, char **argv)
{
	return tt_main(argc, argv, "codewp-debug", NULL);
}
