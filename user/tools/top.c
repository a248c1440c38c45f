// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp-top - the pages of code that are being written now, worst first,
 * refreshed; plain ANSI on a terminal, plain blocks of text elsewhere.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "probes.h"
#include "table.h"
#include "tool.h"

#define HOME	"\033[H"
#define CLEAR	"\033[2J"
#define EOL	"\033[K\n"
#define BELOW	"\033[J"

enum sort { SORT_TRAPS, SORT_DROPPED, SORT_TBS, SORT_LAST };

static struct {
	pid_t pid;
	uint64_t delay;		/* ns */
	long iterations;	/* 0: no end */
	size_t rows;
	enum sort sort;
	bool total;
	uint32_t max_pages;
} opt = { .delay = 1000000000 };

static const char * const sort_names[] = { "traps", "dropped", "tbs", "last" };
static volatile sig_atomic_t stop;

static void usage(FILE *f)
{
	fputs("Usage: codewp top [OPTIONS]\n"
	      "Show the pages of translated code that are being written, live.\n\n"
	      "  -d, --delay SECS      time between two pictures (1)\n"
	      "  -n, --iterations N    end after so many pictures (with Ctrl-C)\n"
	      "  -p, --pid PID         only this process\n"
	      "  -r, --rows ROWS       at most so many pages (as many as fit)\n"
	      "  -s, --sort COLUMN     by traps, dropped, tbs or last (traps)\n"
	      "  -t, --total           counts since the start, not since the last picture\n"
	      "      --pages NUMBER    room for so many pages (16384)\n"
	      "  -h, --help            this text\n", f);
}

enum { OPT_PAGES = 256 };

static const struct option options[] = {
	{ "delay",      required_argument, NULL, 'd' },
	{ "iterations", required_argument, NULL, 'n' },
	{ "pid",        required_argument, NULL, 'p' },
	{ "rows",       required_argument, NULL, 'r' },
	{ "sort",       required_argument, NULL, 's' },
	{ "total",      no_argument,       NULL, 't' },
	{ "pages",      required_argument, NULL, OPT_PAGES },
	{ "help",       no_argument,       NULL, 'h' },
	{ }
};

static enum sort sort_parse(const char *s)
{
	int i;

	for (i = 0; i < 4; i++)
		if (!strcmp(s, sort_names[i]))
			return i;
	tool_usage_error("--sort: no column '%s' (traps, dropped, tbs, last)", s);
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "d:n:p:r:s:th", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			opt.delay = tool_seconds(optarg, "--delay");
			break;
		case 'n':
			opt.iterations = tool_number(optarg, "--iterations", 1, LONG_MAX);
			break;
		case 'p':
			opt.pid = tool_number(optarg, "--pid", 1, INT_MAX);
			break;
		case 'r':
			opt.rows = tool_number(optarg, "--rows", 1, INT_MAX);
			break;
		case 's':
			opt.sort = sort_parse(optarg);
			break;
		case 't':
			opt.total = true;
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
	if (optind < argc)
		tool_usage_error("'%s' is too much (codewp stat runs a program)", argv[optind]);
}

static void on_signal(int sig)
{
	stop = 1;
}

/* ---- one picture less another ------------------------------------------ */

static int by_identity(const void *a, const void *b)
{
	const struct probes_row *x = a, *y = b;

	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	if (x->page != y->page)
		return x->page < y->page ? -1 : 1;
	/* Pages that only the module knows are numbered by view. */
	if (x->of_view != y->of_view)
		return x->of_view ? 1 : -1;
	if (x->of_view && x->view != y->view)
		return x->view < y->view ? -1 : 1;
	return 0;
}

static uint64_t weight(const struct probes_row *r)
{
	switch (opt.sort) {
	case SORT_DROPPED:
		return r->invalidated;
	case SORT_TBS:
		return r->translated;
	case SORT_LAST:
		return r->last_ns;
	case SORT_TRAPS:
		break;
	}
	return probes_sum(r->traps) + r->handled;
}

static int heaviest_first(const void *a, const void *b)
{
	uint64_t x = weight(a), y = weight(b);

	if (x != y)
		return x > y ? -1 : 1;
	return by_identity(a, b);
}

/*
 * A page that the two sides saw separately in the last picture can be one row
 * in this one: then the difference is against the translator's row, and what
 * cannot be subtracted stays.
 */
static uint64_t less(uint64_t now, uint64_t then)
{
	return now >= then ? now - then : now;
}

/* Rows that did not move are dropped. Returns how many are left. */
static size_t difference(struct probes_row *now, size_t n,
			 const struct probes_row *then, size_t nthen)
{
	size_t i, out = 0;
	int k;

	for (i = 0; i < n; i++) {
		const struct probes_row *o = NULL;
		struct probes_row r = now[i];

		if (nthen)
			o = bsearch(&r, then, nthen, sizeof(r), by_identity);
		if (o) {
			for (k = 0; k < HOW_MAX; k++)
				r.traps[k] = less(r.traps[k], o->traps[k]);
			r.handled = less(r.handled, o->handled);
			r.translated = less(r.translated, o->translated);
			r.invalidations = less(r.invalidations, o->invalidations);
			r.invalidated = less(r.invalidated, o->invalidated);
		}
		if (probes_sum(r.traps) || r.handled || r.invalidations)
			now[out++] = r;
	}
	return out;
}

static struct stat_totals totals_less(const struct stat_totals *a,
				      const struct stat_totals *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;
	struct stat_totals d;
	__u64 *out = (__u64 *)&d;
	size_t i;

	for (i = 0; i < sizeof(d) / sizeof(*out); i++)
		out[i] = x[i] - y[i];
	return d;
}

/* ---- the screen -------------------------------------------------------- */

static size_t screen_lines(void)
{
	struct winsize ws;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) || ws.ws_row < 8)
		return 24;
	return ws.ws_row;
}

static void picture(struct probes *p, uint64_t start, bool tty)
{
	static struct probes_row *then;
	static struct stat_totals totals_then;
	static size_t nthen;
	struct stat_totals totals = probes_totals(p), shown = totals;
	struct probes_row *rows = NULL, *copy;
	struct table_opts to = {
		.rows = opt.rows,
		.start = start,
		.module = !probes_module(p),
		.by_pid = !opt.pid,
		.eol = tty ? EOL : "\n",
	};
	struct tm tm;
	ssize_t n;
	size_t left, ncopy;
	time_t t;
	char clock[16];

	n = probes_rows(p, &rows);
	if (n < 0)
		tool_die(EXIT_TOOL, "cannot read the page table: %s", strerror(-n));
	copy = malloc(n ? n * sizeof(*copy) : 1);
	if (!copy)
		tool_die(EXIT_TOOL, "no memory");
	memcpy(copy, rows, n * sizeof(*copy));
	ncopy = n;
	qsort(copy, ncopy, sizeof(*copy), by_identity);
	if (!opt.total) {
		n = difference(rows, n, then, nthen);
		shown = totals_less(&totals, &totals_then);
	}
	qsort(rows, n, sizeof(*rows), heaviest_first);

	t = time(NULL);
	localtime_r(&t, &tm);
	strftime(clock, sizeof(clock), "%T", &tm);
	if (tty)
		fputs(HOME, stdout);
	printf("codewp top  %s  %s%s", clock,
	       opt.total ? "since the start" : "since the last picture", to.eol);
	table_totals(stdout, p, &shown, to.eol);
	fputs(to.eol, stdout);
	/* heading, totals (3), blank; one line is kept for "... more" */
	if (tty)
		to.lines = screen_lines() - 6;
	left = table_print(stdout, rows, n, &to);
	if (left)
		printf("... and %zu more pages%s", left, tty ? "\033[K" : "\n");
	fputs(tty ? BELOW : "\n", stdout);
	fflush(stdout);

	free(rows);
	free(then);
	then = copy;
	nthen = ncopy;
	totals_then = totals;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	bool tty = isatty(STDOUT_FILENO);
	struct probes_opts po = { };
	uint64_t start, next, lost = 0;
	struct probes *p;
	char why[512];
	long i;
	int err;

	tool_name = "codewp top";
	parse(argc, argv);
	po.pid = opt.pid;
	po.max_pages = opt.max_pages;
	if (opt.pid && kill(opt.pid, 0) && errno == ESRCH)
		tool_die(EXIT_TOOL, "process %d: %s", opt.pid, strerror(errno));
	err = probes_open(&p, &po, why, sizeof(why));
	if (err)
		tool_die(EXIT_TOOL, "%s", why);
	if (probes_module(p))
		tool_warn("%s: counting by the translator's probes alone", probes_module(p));
	if (probes_usdt(p))
		tool_warn("%s: counting by the module's tracepoints alone", probes_usdt(p));
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (tty)
		fputs(HOME CLEAR, stdout);
	start = tool_now();
	next = start;
	for (i = 0; !stop && (!opt.iterations || i < opt.iterations); i++) {
		struct stat_totals t;
		struct timespec ts;

		next += opt.delay;
		ts.tv_sec = next / 1000000000;
		ts.tv_nsec = next % 1000000000;
		fflush(stdout);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		picture(p, start, tty);
		t = probes_totals(p);
		table_lost(p, &t, &lost);
	}
	probes_close(p);
	return 0;
}
