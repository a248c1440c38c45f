// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp-stat - run a program translated (or watch one), then say which pages
 * of its code were written, how often, by whom, and what that cost in
 * translations.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probes.h"
#include "table.h"
#include "tool.h"

static struct {
	pid_t pid;
	bool all;
	size_t rows;
	uint64_t interval;	/* ns, 0: none */
	uint64_t duration;
	uint32_t max_pages;
	bool names;
	const char *output;
	const char *names_file;
	char **run_argv;	/* options for codewp run */
	int run_argc;
} opt = { .rows = 10 };

static volatile sig_atomic_t interrupted;

static void usage(FILE *f)
{
	fputs("Usage: codewp stat [OPTIONS] [--RUN-OPTION[=VALUE]...] -- PROGRAM [ARGS]\n"
	      "       codewp stat [OPTIONS] -p PID | -a\n"
	      "Show which pages of translated code were written, by whom, and what it cost.\n\n"
	      "  -p, --pid PID        watch this process until it ends\n"
	      "  -a, --all            watch all processes\n"
	      "  -d, --duration SECS  with -p or -a: stop after so long (or with Ctrl-C)\n"
	      "  -n, --rows ROWS      show so many pages, 0 for all (10)\n"
	      "  -i, --interval SECS  show the table so often while it runs, too\n"
	      "  -o, --output FILE    write there, not to stderr\n"
	      "  -x, --names          totals only, as lines NAME VALUE, for scripts\n"
	      "      --names-file FILE  these lines there, beside the table\n"
	      "      --pages NUMBER   room for so many pages (16384)\n"
	      "  -h, --help           this text\n\n"
	      "Other long options (--backend=uffd, --stats, ...) are handed to codewp run.\n"
	      "The exit status is PROGRAM's; 125 if it could not be run, 2 for wrong\n"
	      "arguments.\n", f);
}

enum { OPT_PAGES = 256, OPT_NAMES_FILE };

static const struct option options[] = {
	{ "pid",      required_argument, NULL, 'p' },
	{ "all",      no_argument,       NULL, 'a' },
	{ "duration", required_argument, NULL, 'd' },
	{ "rows",     required_argument, NULL, 'n' },
	{ "interval", required_argument, NULL, 'i' },
	{ "output",   required_argument, NULL, 'o' },
	{ "names",    no_argument,       NULL, 'x' },
	{ "names-file", required_argument, NULL, OPT_NAMES_FILE },
	{ "pages",    required_argument, NULL, OPT_PAGES },
	{ "help",     no_argument,       NULL, 'h' },
	{ }
};

/*
 * Long options that are not ours belong to codewp run: taken out before getopt
 * sees them (which would also take --st for a short form of something).
 */
static bool is_ours(const char *arg)
{
	size_t n = strcspn(arg + 2, "=");
	const struct option *o;

	for (o = options; o->name; o++)
		if (strlen(o->name) == n && !strncmp(o->name, arg + 2, n))
			return true;
	return false;
}

static int take_run_options(int argc, char **argv)
{
	int i, n = 1;

	opt.run_argv = calloc(argc + 1, sizeof(*opt.run_argv));
	if (!opt.run_argv)
		tool_die(EXIT_TOOL, "no memory");
	for (i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		if (!strncmp(argv[i], "--", 2) && !is_ours(argv[i]))
			opt.run_argv[opt.run_argc++] = argv[i];
		else
			argv[n++] = argv[i];
	}
	for (; i < argc; i++)
		argv[n++] = argv[i];
	argv[n] = NULL;
	return n;
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "+p:ad:n:i:o:xh", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			opt.pid = tool_number(optarg, "--pid", 1, INT_MAX);
			break;
		case 'a':
			opt.all = true;
			break;
		case 'd':
			opt.duration = tool_seconds(optarg, "--duration");
			break;
		case 'n':
			opt.rows = tool_number(optarg, "--rows", 0, INT_MAX);
			break;
		case 'i':
			opt.interval = tool_seconds(optarg, "--interval");
			break;
		case 'o':
			opt.output = optarg;
			break;
		case 'x':
			opt.names = true;
			break;
		case OPT_NAMES_FILE:
			opt.names_file = optarg;
			break;
		case OPT_PAGES:
			opt.max_pages = tool_number(optarg, "--pages", 1, 1 << 24);
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			fprintf(stderr, "Try '%s --help'.\n", tool_name);
			exit(EXIT_USAGE);
		}
	}
}

/*
 * The child waits at a pipe until the programs are attached. @go: its write end.
 */
static pid_t start(char **program, int *go)
{
	char path[PATH_MAX];
	int p[2], i, n = 0;
	char **argv, c;
	pid_t pid;

	if (!tool_sibling("codewp-run", path, sizeof(path)))
		tool_die(EXIT_NOTFOUND,
			 "codewp-run is not beside this program, nor in ../libexec/codewp: was it built?");
	for (i = 0; program[i]; i++)
		;
	argv = calloc(opt.run_argc + i + 3, sizeof(*argv));
	if (!argv || pipe2(p, O_CLOEXEC))
		tool_die(EXIT_TOOL, "%s", strerror(errno));
	argv[n++] = "codewp-run";
	for (i = 0; i < opt.run_argc; i++)
		argv[n++] = opt.run_argv[i];
	argv[n++] = "--";
	for (i = 0; program[i]; i++)
		argv[n++] = program[i];
	pid = fork();
	if (pid < 0)
		tool_die(EXIT_TOOL, "fork: %s", strerror(errno));
	if (!pid) {
		close(p[1]);
		/* Parent gave up: nobody is to see this child. */
		if (read(p[0], &c, 1) != 1)
			_exit(EXIT_TOOL);
		execv(path, argv);
		tool_warn("%s: %s", path, strerror(errno));
		_exit(126);
	}
	free(argv);
	close(p[0]);
	*go = p[1];
	return pid;
}

static void on_signal(int sig)
{
	interrupted = 1;
}

static void report(FILE *f, struct probes *p, uint64_t start_ns, uint64_t *lost)
{
	struct stat_totals t = probes_totals(p);
	struct probes_row *rows = NULL;
	struct table_opts to = {
		.rows = opt.rows,
		.start = start_ns,
		.module = !probes_module(p),
		.by_pid = opt.all,
		.eol = "\n",
	};
	ssize_t n;
	size_t left;

	if (opt.names) {
		table_names(f, p, &t);
		fflush(f);
		table_lost(p, &t, lost);
		return;
	}
	n = probes_rows(p, &rows);
	if (n < 0) {
		tool_warn("cannot read the page table: %s", strerror(-n));
		return;
	}
	fputc('\n', f);
	left = table_print(f, rows, n, &to);
	if (left)
		fprintf(f, "... and %zu more pages (-n 0 shows all)\n", left);
	table_totals(f, p, &t, "\n");
	fflush(f);
	table_lost(p, &t, lost);
	free(rows);
}

/* Until the process ends, the time is over, or somebody interrupts. */
static void watch(FILE *f, struct probes *p, int pidfd, uint64_t start_ns,
		  uint64_t *lost)
{
	uint64_t end = opt.duration ? start_ns + opt.duration : UINT64_MAX;
	uint64_t next = opt.interval ? start_ns + opt.interval : UINT64_MAX;
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };

	while (!interrupted) {
		uint64_t now = tool_now(), until = next < end ? next : end;
		struct timespec ts;
		int n;

		if (now >= end)
			return;
		if (now >= next) {
			report(f, p, start_ns, lost);
			next += opt.interval;
			continue;
		}
		ts.tv_sec = (until - now) / 1000000000;
		ts.tv_nsec = (until - now) % 1000000000;
		n = ppoll(&pfd, 1, until == UINT64_MAX ? NULL : &ts, NULL);
		if (n > 0)
			return;
		if (n < 0 && errno != EINTR)
			tool_die(EXIT_TOOL, "poll: %s", strerror(errno));
	}
}

static int exit_status(pid_t pid)
{
	int st;

	while (waitpid(pid, &st, 0) < 0)
		if (errno != EINTR)
			tool_die(EXIT_TOOL, "waitpid: %s", strerror(errno));
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

static FILE *open_file(const char *path)
{
	FILE *f = fopen(path, "we");

	if (!f)
		tool_die(EXIT_TOOL, "%s: %s", path, strerror(errno));
	return f;
}

static void close_file(FILE *f, const char *path)
{
	bool bad = ferror(f);

	if (fclose(f) || bad)
		tool_die(EXIT_TOOL, "%s: cannot write", path);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct probes_opts po = { };
	int err, go = -1, pidfd = -1, status = 0;
	uint64_t start_ns, lost = 0;
	struct probes *p;
	FILE *f = stderr, *names = NULL;
	char why[512];
	pid_t child = 0;

	tool_name = "codewp stat";
	argc = take_run_options(argc, argv);
	parse(argc, argv);
	if ((optind < argc) + !!opt.pid + opt.all != 1)
		tool_usage_error("say one of: PROGRAM, -p PID, -a");
	if (optind < argc && opt.duration)
		tool_usage_error("--duration is for -p and -a; PROGRAM ends by itself");
	if (optind == argc && opt.run_argc)
		tool_usage_error("no option '%s' without PROGRAM", opt.run_argv[0]);
	if (opt.output)
		f = open_file(opt.output);
	if (opt.names_file)
		names = open_file(opt.names_file);

	if (opt.pid) {
		pidfd = syscall(SYS_pidfd_open, opt.pid, 0);
		if (pidfd < 0)
			tool_die(EXIT_TOOL, "process %d: %s", opt.pid, strerror(errno));
		po.pid = opt.pid;
	} else if (!opt.all) {
		child = start(argv + optind, &go);
		pidfd = syscall(SYS_pidfd_open, child, 0);
		if (pidfd < 0)
			tool_die(EXIT_TOOL, "pidfd_open: %s", strerror(errno));
		po.pid = child;
	}
	po.max_pages = opt.max_pages;
	err = probes_open(&p, &po, why, sizeof(why));
	if (err)
		tool_die(EXIT_TOOL, "%s", why);
	if (probes_module(p))
		tool_warn("%s: counting by the translator's probes alone", probes_module(p));
	if (probes_usdt(p))
		tool_warn("%s: counting by the module's tracepoints alone", probes_usdt(p));

	start_ns = tool_now();
	if (child) {
		/* The terminal's signals are for PROGRAM; we stay and report. */
		signal(SIGINT, SIG_IGN);
		signal(SIGQUIT, SIG_IGN);
		if (write(go, "", 1) != 1)
			tool_die(EXIT_TOOL, "cannot start PROGRAM: %s", strerror(errno));
		close(go);
	} else {
		sigaction(SIGINT, &sa, NULL);
		sigaction(SIGTERM, &sa, NULL);
	}
	watch(f, p, pidfd, start_ns, &lost);
	if (child)
		status = exit_status(child);
	probes_stop(p);
	report(f, p, start_ns, &lost);
	if (names) {
		struct stat_totals t = probes_totals(p);

		table_names(names, p, &t);
		close_file(names, opt.names_file);
	}
	probes_close(p);
	if (f != stderr)
		close_file(f, opt.output);
	return status;
}
