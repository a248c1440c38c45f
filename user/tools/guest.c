// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp-guest - watch the memory of another process' KVM guest: take hold of the
 * anonymous view that a VMM took from /dev/codewp, arm pages of it, and say which were
 * written, by which vCPU, page by page.
 *
 * One thread. Owns its duplicate of the view's descriptor, the view's ring (which has
 * one reader), and the arming of the pages it was told to arm: it disarms them at the
 * end. Nothing is read from or written to the guest's memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <dirent.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <codewp.h>
#include <linux/codewp.h>

#include "tool.h"

#define DEVICE	"/dev/codewp"
#define PAGES(bytes)	((bytes) / CODEWP_PAGE_SIZE)

struct range {
	uint64_t start, end;
};

static struct {
	pid_t pid;
	int fd;			/* of that process; -1: its only view */
	struct range *ranges;
	size_t nranges;
	bool all, once, events;
	uint64_t duration;	/* ns, 0: none */
	uint64_t interval;	/* ns */
	uint64_t count;		/* 0: no limit */
	size_t rows;
} opt = { .fd = -1, .rows = 10, .interval = 100000000 };

struct page {
	uint64_t guest, other;	/* writes seen */
	uint64_t first, last;	/* ns since the start */
	uint64_t byte;		/* the last one's */
	bool again;		/* to be armed again */
};

static struct {
	struct codewp_view *view;
	uint64_t length, start;
	struct page *pages;
	uint64_t *again;	/* pages to be armed again */
	size_t nagain;
	uint64_t writes, whole;
} w;

static volatile sig_atomic_t interrupted;

static void usage(FILE *f)
{
	fputs("Usage: codewp guest -p PID (-a START-END... | -A) [OPTIONS]\n"
	      "Watch writes to the memory of a KVM guest whose VMM takes it from /dev/codewp.\n\n"
	      "  -p, --pid PID        the VMM\n"
	      "  -f, --fd NUMBER      its descriptor, if it has several views\n"
	      "  -a, --arm START-END  watch these bytes of the view (may be given again);\n"
	      "                       START alone: the page of this byte\n"
	      "  -A, --arm-all        watch the whole view\n"
	      "  -1, --once           the first write to each page only\n"
	      "  -i, --interval SECS  arm written pages again so often (0.1)\n"
	      "  -d, --duration SECS  stop after so long (or with Ctrl-C, or when PID ends)\n"
	      "  -c, --count NUMBER   stop after so many writes\n"
	      "  -e, --events         a line for each write, too\n"
	      "  -n, --rows ROWS      show so many pages at the end, 0 for all (10)\n"
	      "  -h, --help           this text\n", f);
}

static const struct option options[] = {
	{ "pid",      required_argument, NULL, 'p' },
	{ "fd",       required_argument, NULL, 'f' },
	{ "arm",      required_argument, NULL, 'a' },
	{ "arm-all",  no_argument,       NULL, 'A' },
	{ "once",     no_argument,       NULL, '1' },
	{ "interval", required_argument, NULL, 'i' },
	{ "duration", required_argument, NULL, 'd' },
	{ "count",    required_argument, NULL, 'c' },
	{ "events",   no_argument,       NULL, 'e' },
	{ "rows",     required_argument, NULL, 'n' },
	{ "help",     no_argument,       NULL, 'h' },
	{ }
};

static uint64_t address(const char *s, const char *whole, char **end)
{
	uint64_t n;

	errno = 0;
	n = strtoull(s, end, 0);
	if (*s < '0' || *s > '9' || errno)
		tool_usage_error("--arm: '%s' is not START-END, two addresses as 0x1000000",
				 whole);
	return n;
}

static void add_range(const char *s)
{
	struct range r;
	char *end;

	r.start = address(s, s, &end);
	r.end = r.start + 1;
	if (*end == '-')
		r.end = address(end + 1, s, &end);
	if (*end)
		tool_usage_error("--arm: '%s' is not START-END, two addresses as 0x1000000", s);
	if (r.end <= r.start)
		tool_usage_error("--arm: '%s' ends before it begins", s);
	opt.ranges = reallocarray(opt.ranges, opt.nranges + 1, sizeof(r));
	if (!opt.ranges)
		tool_die(EXIT_TOOL, "no memory");
	opt.ranges[opt.nranges++] = r;
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "p:f:a:A1i:d:c:en:h", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			opt.pid = tool_number(optarg, "--pid", 1, INT_MAX);
			break;
		case 'f':
			opt.fd = tool_number(optarg, "--fd", 0, INT_MAX);
			break;
		case 'a':
			add_range(optarg);
			break;
		case 'A':
			opt.all = true;
			break;
		case '1':
			opt.once = true;
			break;
		case 'i':
			opt.interval = tool_seconds(optarg, "--interval");
			break;
		case 'd':
			opt.duration = tool_seconds(optarg, "--duration");
			break;
		case 'c':
			opt.count = tool_number(optarg, "--count", 1, LONG_MAX);
			break;
		case 'e':
			opt.events = true;
			break;
		case 'n':
			opt.rows = tool_number(optarg, "--rows", 0, INT_MAX);
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
		tool_usage_error("no argument '%s'", argv[optind]);
	if (!opt.pid)
		tool_usage_error("say which process: --pid PID");
	if (opt.all == !!opt.nranges)
		tool_usage_error("say what to watch: --arm START-END or --arm-all");
}

/* ---- taking hold of the view ---- */

/* Is descriptor @fd of the process the device? By number: it may be mounted anywhere. */
static bool is_device(int fd, dev_t dev)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", opt.pid, fd);
	return !stat(path, &st) && S_ISCHR(st.st_mode) && st.st_rdev == dev;
}

/* A duplicate of descriptor @fd if there is a view behind it, else -1. */
static int take(int pidfd, int fd, struct codewp_view_info *info)
{
	int own = syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	if (own < 0) {
		/* Closed meanwhile: as if it had never been there. */
		if (errno == EBADF)
			return -1;
		tool_die(EXIT_TOOL, "descriptor %d of process %d: %s%s", fd, opt.pid,
			 strerror(errno), errno == EPERM ?
			 " (that takes the process' own user, or CAP_SYS_PTRACE)" : "");
	}
	memset(info, 0, sizeof(*info));
	if (!ioctl(own, CODEWP_IOC_VIEW_INFO, info))
		return own;
	close(own);
	return -1;
}

/* The process' only view, or the one that was asked for. Does not return without. */
static int find_view(int pidfd)
{
	struct codewp_view_info info = { };
	int found = -1, number = -1;
	struct dirent *d;
	struct stat st;
	char path[64];
	DIR *dir;

	if (stat(DEVICE, &st))
		tool_die(EXIT_TOOL, DEVICE ": %s (is the module codewp loaded?)",
			 strerror(errno));
	snprintf(path, sizeof(path), "/proc/%d/fd", opt.pid);
	dir = opendir(path);
	if (!dir)
		tool_die(EXIT_TOOL, "%s: %s", path, strerror(errno));
	while ((d = readdir(dir))) {
		struct codewp_view_info this;
		char *end;
		long fd = strtol(d->d_name, &end, 10);
		int own;

		if (*end || end == d->d_name || (opt.fd >= 0 && fd != opt.fd) ||
		    !is_device(fd, st.st_rdev))
			continue;
		own = take(pidfd, fd, &this);
		if (own < 0)
			continue;
		/* Two numbers of one open file are one view. */
		if (found >= 0 && this.id == info.id) {
			close(own);
			continue;
		}
		if (found >= 0)
			tool_die(EXIT_TOOL,
				 "process %d has several views, as descriptors %d (%llu MiB) and %ld (%llu MiB): say which with --fd",
				 opt.pid, number, info.length >> 20, fd, this.length >> 20);
		found = own;
		number = fd;
		info = this;
	}
	closedir(dir);
	if (found < 0 && opt.fd >= 0)
		tool_die(EXIT_TOOL, "descriptor %d of process %d is no view of " DEVICE,
			 opt.fd, opt.pid);
	if (found < 0)
		tool_die(EXIT_TOOL,
			 "process %d has no memory from " DEVICE " (QEMU: -object memory-backend-file,mem-path=" DEVICE ",share=on,...)",
			 opt.pid);
	w.length = info.length;
	return found;
}

/* ---- arming ---- */

static void arm(uint64_t start, uint64_t end)
{
	struct codewp_arm_result res;
	int err;

	while (start < end && !interrupted) {
		err = codewp_arm(w.view, start, end - start, CODEWP_OPEN, &res);
		start += res.done;
		if (err && err != -EINTR)
			tool_die(EXIT_TOOL, "cannot arm 0x%llx: %s",
				 (unsigned long long)start, codewp_strerror(err));
	}
}

static void arm_ranges(void)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < opt.nranges; i++) {
		struct range *r = &opt.ranges[i];

		r->start &= -CODEWP_PAGE_SIZE;
		r->end = (r->end + CODEWP_PAGE_SIZE - 1) & -CODEWP_PAGE_SIZE;
		if (r->end > w.length || r->end <= r->start)
			tool_die(EXIT_TOOL, "0x%llx-0x%llx: the view ends at 0x%llx",
				 (unsigned long long)r->start, (unsigned long long)r->end,
				 (unsigned long long)w.length);
	}
	for (i = 0; i < opt.nranges; i++) {
		arm(opt.ranges[i].start, opt.ranges[i].end);
		n += PAGES(opt.ranges[i].end - opt.ranges[i].start);
	}
	fprintf(stderr, "%s: armed %llu of %llu pages of process %d\n", tool_name,
		(unsigned long long)n, (unsigned long long)PAGES(w.length), opt.pid);
}

static void disarm_ranges(void)
{
	size_t i;

	for (i = 0; i < opt.nranges; i++)
		codewp_disarm(w.view, opt.ranges[i].start,
			      opt.ranges[i].end - opt.ranges[i].start);
}

static bool watched(uint64_t voff)
{
	size_t i;

	for (i = 0; i < opt.nranges; i++)
		if (voff >= opt.ranges[i].start && voff < opt.ranges[i].end)
			return true;
	return false;
}

/* ---- what happened ---- */

static void writer(char *buf, size_t size, const struct codewp_event_info *ev)
{
	if (ev->whole_page)
		snprintf(buf, size, "?");
	else if (ev->guest)
		snprintf(buf, size, "vcpu %u", ev->vcpu);
	else if (ev->tid)
		snprintf(buf, size, "tid %u%s", ev->tid, ev->kernel ? " kernel" : "");
	else
		snprintf(buf, size, "kernel");
}

static void on_event(const struct codewp_event_info *ev, void *arg)
{
	uint64_t now = tool_now() - w.start, n = PAGES(ev->voff);
	struct page *p = &w.pages[n];
	char who[40];

	/* A page armed by somebody else, or a write before we came. */
	if (ev->voff >= w.length || !watched(ev->voff) ||
	    (opt.count && w.writes >= opt.count))
		return;
	w.writes++;
	w.whole += ev->whole_page;
	if (!p->guest && !p->other)
		p->first = now;
	p->last = now;
	p->byte = ev->voff;
	if (ev->guest)
		p->guest++;
	else
		p->other++;
	if (!opt.once && !p->again) {
		p->again = true;
		w.again[w.nagain++] = n;
	}
	if (opt.events) {
		writer(who, sizeof(who), ev);
		printf("%10.3f  0x%09llx  %s\n", now / 1e9, (unsigned long long)ev->voff, who);
	}
}

static void drain(void)
{
	int n = codewp_drain(w.view, on_event, NULL);

	if (n < 0)
		tool_die(EXIT_TOOL, "cannot read the ring: %s", codewp_strerror(n));
	if (n && opt.events)
		fflush(stdout);
}

/*
 * Those that are due now; what is written meanwhile waits for the next time. The ring
 * has room for a thousand writes, and a busy guest needs less time for them than the
 * arming of all its pages takes.
 */
static void arm_again(void)
{
	size_t i, n = w.nagain;

	for (i = 0; i < n; i++) {
		w.pages[w.again[i]].again = false;
		arm(w.again[i] * CODEWP_PAGE_SIZE, (w.again[i] + 1) * CODEWP_PAGE_SIZE);
		if (codewp_pending(w.view))
			drain();
	}
	w.nagain -= n;
	memmove(w.again, w.again + n, w.nagain * sizeof(*w.again));
}

/* Until the process ends, the time or the count is over, or somebody interrupts. */
static void watch(int pidfd)
{
	uint64_t end = opt.duration ? w.start + opt.duration : UINT64_MAX;
	uint64_t next = w.start + opt.interval;
	struct pollfd pfd[2] = {
		{ .fd = codewp_event_fd(w.view), .events = POLLIN },
		{ .fd = pidfd, .events = POLLIN },
	};

	if (pfd[0].fd < 0)
		tool_die(EXIT_TOOL, "the view's events: %s", codewp_strerror(pfd[0].fd));
	while (!interrupted && !pfd[1].revents) {
		uint64_t now = tool_now(), until = end;
		struct timespec ts;

		drain();
		if (now >= end || (opt.count && w.writes >= opt.count))
			return;
		if (w.nagain && now >= next) {
			arm_again();
			next = now + opt.interval;
		}
		if (w.nagain && next < end)
			until = next;
		ts.tv_sec = (until - now) / 1000000000;
		ts.tv_nsec = (until - now) % 1000000000;
		if (ppoll(pfd, 2, until == UINT64_MAX ? NULL : &ts, NULL) < 0 &&
		    errno != EINTR)
			tool_die(EXIT_TOOL, "poll: %s", strerror(errno));
	}
	drain();
}

static int by_writes(const void *a, const void *b)
{
	const struct page *p = &w.pages[*(const uint64_t *)a];
	const struct page *q = &w.pages[*(const uint64_t *)b];

	if (p->guest + p->other != q->guest + q->other)
		return p->guest + p->other < q->guest + q->other ? 1 : -1;
	return p < q ? -1 : 1;
}

static void report(void)
{
	uint64_t *rows = w.again, i, n = 0;

	for (i = 0; i < PAGES(w.length); i++)
		if (w.pages[i].guest || w.pages[i].other)
			rows[n++] = i;
	qsort(rows, n, sizeof(*rows), by_writes);
	if (n)
		printf("%11s %9s %9s  %11s %9s %9s\n", "PAGE", "GUEST", "OTHER",
		       "LAST BYTE", "FIRST", "LAST");
	for (i = 0; i < n && (!opt.rows || i < opt.rows); i++) {
		const struct page *p = &w.pages[rows[i]];

		printf("0x%09llx %9llu %9llu  0x%09llx %9.3f %9.3f\n",
		       (unsigned long long)rows[i] * CODEWP_PAGE_SIZE,
		       (unsigned long long)p->guest, (unsigned long long)p->other,
		       (unsigned long long)p->byte, p->first / 1e9, p->last / 1e9);
	}
	if (i < n)
		printf("... and %llu more pages (-n 0 shows all)\n",
		       (unsigned long long)(n - i));
	printf("%llu writes seen, on %llu pages\n", (unsigned long long)w.writes,
	       (unsigned long long)n);
	if (w.whole)
		tool_warn("the ring overflowed: of %llu writes only the page is known",
			  (unsigned long long)w.whole);
}

static void on_signal(int sig)
{
	interrupted = 1;
}

int main(int argc, char **argv)
{
	struct codewp_open_opts oo = {
		.sz = sizeof(oo),
		.backend = CODEWP_KMOD,
		.own_signals = true,
	};
	struct sigaction sa = { .sa_handler = on_signal };
	struct range whole = { };
	struct codewp *ctx;
	int pidfd, fd, err;

	tool_name = "codewp guest";
	parse(argc, argv);
	pidfd = syscall(SYS_pidfd_open, opt.pid, 0);
	if (pidfd < 0)
		tool_die(EXIT_TOOL, "process %d: %s", opt.pid, strerror(errno));
	fd = find_view(pidfd);
	err = codewp_open(&ctx, &oo);
	if (err)
		tool_die(EXIT_TOOL, "the module codewp: %s", codewp_strerror(err));
	err = codewp_view_attach(ctx, &w.view, fd);
	if (err)
		tool_die(EXIT_TOOL, "the view of process %d: %s", opt.pid,
			 codewp_strerror(err));
	close(fd);
	w.pages = calloc(PAGES(w.length), sizeof(*w.pages));
	/* Each page once that waits, and once that is armed at the moment. */
	w.again = calloc(2 * PAGES(w.length), sizeof(*w.again));
	if (!w.pages || !w.again)
		tool_die(EXIT_TOOL, "no memory");
	if (opt.all) {
		whole.end = w.length;
		opt.ranges = &whole;
		opt.nranges = 1;
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	w.start = tool_now();
	arm_ranges();
	watch(pidfd);
	disarm_ranges();
	report();
	codewp_view_destroy(w.view);
	codewp_close(ctx);
	return 0;
}
