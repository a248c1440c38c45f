// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp-who - which guest code modifies which guest code: for each instruction of a
 * KVM guest that wrote to an armed page, the page, the vCPU and how often. One thread,
 * so no lock.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../../bpf/who.h"
#include "probes.h"
#include "tool.h"
/* The skeleton's inline functions are not ours to clean. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#include "who.skel.h"
#pragma GCC diagnostic pop

static struct {
	pid_t pid;
	bool all;
	uint64_t duration;	/* ns, 0: none */
	size_t rows;
	const char *output;
	bool names;
	uint32_t room;
} opt = { .rows = 20 };

struct row {
	struct who_key key;
	struct who_stat st;
};

static volatile sig_atomic_t interrupted;

static void usage(FILE *f)
{
	fputs("Usage: codewp who [OPTIONS] -p PID | -a\n"
	      "Show which code of KVM guests writes to armed pages of their memory.\n\n"
	      "  -p, --pid PID        the guest of this VMM, until it ends\n"
	      "  -a, --all            all guests\n"
	      "  -d, --duration SECS  stop after so long (or with Ctrl-C)\n"
	      "  -n, --rows ROWS      show so many rows, 0 for all (20)\n"
	      "  -o, --output FILE    write there, not to stdout\n"
	      "  -x, --names          every row in full and the totals as lines NAME VALUE,\n"
	      "                       for scripts\n"
	      "      --room NUMBER    room for so many different rows (16384)\n"
	      "  -h, --help           this text\n\n"
	      "Something has to arm the pages: codewp vm, codewp guest, or the VMM.\n", f);
}

enum { OPT_ROOM = 256 };

static const struct option options[] = {
	{ "pid",      required_argument, NULL, 'p' },
	{ "all",      no_argument,       NULL, 'a' },
	{ "duration", required_argument, NULL, 'd' },
	{ "rows",     required_argument, NULL, 'n' },
	{ "output",   required_argument, NULL, 'o' },
	{ "names",    no_argument,       NULL, 'x' },
	{ "room",     required_argument, NULL, OPT_ROOM },
	{ "help",     no_argument,       NULL, 'h' },
	{ }
};

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "p:ad:n:o:xh", options, NULL)) != -1) {
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
		case 'o':
			opt.output = optarg;
			break;
		case 'x':
			opt.names = true;
			break;
		case OPT_ROOM:
			opt.room = tool_number(optarg, "--room", 1, 1 << 24);
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
	if (!!opt.pid + opt.all != 1)
		tool_usage_error("say one of: -p PID, -a");
}

/* ---- attaching ---- */

/* Is a field where who.bpf.c has it? */
static bool field_at(const char *format, const char *name, unsigned int offset,
		     unsigned int size)
{
	char want[64];
	const char *p = format;

	snprintf(want, sizeof(want), " %s;", name);
	p = strstr(p, want);
	if (!p)
		return false;
	snprintf(want, sizeof(want), "offset:%u;\tsize:%u;", offset, size);
	p += strcspn(p, ";") + 1;
	return !strncmp(p + strspn(p, "\t "), want, strlen(want));
}

static void check_kvm(const char *tracefs)
{
	char path[PATH_MAX], format[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/events/kvm/kvm_page_fault/format", tracefs);
	f = fopen(path, "re");
	if (!f && errno == ENOENT)
		tool_die(EXIT_TOOL, "KVM is not loaded: there is no tracepoint kvm_page_fault");
	if (!f)
		tool_die(EXIT_TOOL, "%s: %s", path, strerror(errno));
	n = fread(format, 1, sizeof(format) - 1, f);
	format[n] = '\0';
	fclose(f);
	if (!field_at(format, "vcpu_id", 8, 4) || !field_at(format, "guest_rip", 16, 8) ||
	    !field_at(format, "fault_address", 24, 8))
		tool_die(EXIT_TOOL, "%s has other fields than this tool knows: this kernel's "
			 "KVM is of another version", path);
}

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	if (!getenv("CODEWP_DEBUG"))
		return 0;
	return vfprintf(stderr, fmt, ap);
}

static _Noreturn void no_bpf(int err)
{
	if (err == -EPERM || err == -EACCES)
		tool_die(EXIT_TOOL, "not allowed to load eBPF programs: be root, or have CAP_BPF "
			 "and CAP_PERFMON");
	tool_die(EXIT_TOOL, "this kernel does not take the eBPF programs: %s", strerror(-err));
}

static struct who_bpf *attach(void)
{
	const char *tracefs = probes_tracefs();
	char events[PATH_MAX], why[512];
	struct who_bpf *s;
	struct stat st;
	int err;

	if (access("/sys/module/codewp", F_OK))
		tool_die(EXIT_TOOL, "the codewp module is not loaded");
	if (!tracefs)
		tool_die(EXIT_TOOL, "tracefs is not mounted (mount -t tracefs tracefs "
			 "/sys/kernel/tracing)");
	snprintf(events, sizeof(events), "%s/events/codewp", tracefs);
	if (probes_check_format(events, why, sizeof(why)))
		tool_die(EXIT_TOOL, "%s", why);
	check_kvm(tracefs);
	if (access("/sys/module/codewp_kvm", F_OK))
		tool_warn("the module codewp_kvm is not loaded: guests' writes are not known from "
			  "the kernel's own");

	libbpf_set_print(quiet);
	s = who_bpf__open();
	if (!s)
		no_bpf(-errno);
	s->rodata->target_tgid = opt.pid;
	if (!stat("/proc/self/ns/pid", &st)) {
		s->rodata->pidns_dev = st.st_dev;
		s->rodata->pidns_ino = st.st_ino;
	}
	if (opt.room)
		bpf_map__set_max_entries(s->maps.writers, opt.room);
	err = who_bpf__load(s);
	if (!err)
		err = who_bpf__attach(s);
	if (err)
		no_bpf(err);
	__atomic_store_n(&s->bss->counting, 1, __ATOMIC_RELEASE);
	return s;
}

static uint64_t missed(const struct who_bpf *s)
{
	struct bpf_program *prog;
	uint64_t sum = 0;

	bpf_object__for_each_program(prog, s->obj) {
		struct bpf_prog_info info = {};
		__u32 len = sizeof(info);

		if (bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len))
			tool_die(EXIT_TOOL, "cannot ask the kernel for skipped events: %s",
				 strerror(errno));
		sum += info.recursion_misses;
	}
	return sum;
}

/* ---- the table ---- */

static int most_first(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	uint64_t nx = x->st.writes + x->st.stops, ny = y->st.writes + y->st.stops;

	if (nx != ny)
		return nx > ny ? -1 : 1;
	return memcmp(&x->key, &y->key, sizeof(x->key));
}

static size_t read_rows(const struct who_bpf *s, struct row **rows)
{
	int fd = bpf_map__fd(s->maps.writers);
	struct row *v = NULL;
	struct who_key key;
	size_t n = 0, room = 0;
	void *last = NULL;

	while (!bpf_map_get_next_key(fd, last, &key)) {
		if (n == room) {
			room = room ? 2 * room : 256;
			v = reallocarray(v, room, sizeof(*v));
			if (!v)
				tool_die(EXIT_TOOL, "no memory");
		}
		v[n].key = key;
		if (!bpf_map_lookup_elem(fd, &key, &v[n].st))
			n++;
		last = &key;
	}
	if (n)
		qsort(v, n, sizeof(*v), most_first);
	*rows = v;
	return n;
}

static void print_names(FILE *f, const struct row *v, size_t n, const struct who_totals *t,
			uint64_t skipped)
{
	for (size_t i = 0; i < n; i++)
		fprintf(f, "row rip %#llx page %#llx view %u vcpu %u pid %u writes %llu "
			"stops %llu first %u last %u\n", v[i].key.rip, v[i].key.page,
			v[i].key.view, v[i].key.vcpu, v[i].key.tgid, v[i].st.writes,
			v[i].st.stops, v[i].st.first, v[i].st.last);
	fprintf(f, "writes %llu\nstops %llu\nunknown %llu\nothers %llu\nmap_full %llu\n"
		"map_failed %llu\nmissed %" PRIu64 "\n", t->writes, t->stops, t->unknown,
		t->others, t->full, t->failed, skipped);
}

static void print_table(FILE *f, const struct row *v, size_t n, const struct who_totals *t)
{
	char rip[24], page[24], bytes[16], b[2][24];
	size_t i;

	fprintf(f, "%-18s %4s %18s %-9s %7s %7s%s\n", "GUEST RIP", "VCPU", "WRITES TO PAGE",
		"BYTES", "WRITES", "STOPS", opt.all ? "     PID" : "");
	for (i = 0; i < n && (!opt.rows || i < opt.rows); i++) {
		const struct row *r = &v[i];

		if (r->key.known)
			snprintf(rip, sizeof(rip), "%#llx", r->key.rip);
		else
			snprintf(rip, sizeof(rip), "not known");
		snprintf(page, sizeof(page), "%u:%#llx", r->key.view, r->key.page << 12);
		snprintf(bytes, sizeof(bytes), "%03x-%03x", r->st.first, r->st.last);
		fprintf(f, "%-18s %4u %18s %-9s %7s %7s", rip, r->key.vcpu, page, bytes,
			tool_count(b[0], r->st.writes, 7), tool_count(b[1], r->st.stops, 7));
		if (opt.all)
			fprintf(f, " %7u", r->key.tgid);
		fputc('\n', f);
	}
	if (i < n)
		fprintf(f, "... and %zu more rows (-n 0 shows all)\n", n - i);
	fprintf(f, "%llu writes and %llu stops of guests; %llu writes of others\n", t->writes,
		t->stops, t->others);
}

static void report(FILE *f, const struct who_bpf *s)
{
	struct who_totals t;
	uint64_t skipped;
	struct row *rows;
	size_t n;

	memcpy(&t, &s->bss->totals, sizeof(t));
	skipped = missed(s);
	n = read_rows(s, &rows);
	if (opt.names)
		print_names(f, rows, n, &t, skipped);
	else
		print_table(f, rows, n, &t);
	free(rows);
	fflush(f);
	if (t.unknown)
		tool_warn("%llu writes without their instruction: the kernel skipped KVM's "
			  "tracepoint", t.unknown);
	if (t.full)
		tool_warn("%llu writes are in the totals, but in no row: the table was full "
			  "(--room makes it larger)", t.full);
	if (t.failed)
		tool_warn("%llu writes are in the totals, but in no row: the table was busy",
			  t.failed);
	if (skipped)
		tool_warn("%" PRIu64 " events were not counted: the kernel skipped the program",
			  skipped);
}

static void on_signal(int sig)
{
	interrupted = 1;
}

static void wait_for_end(int pidfd)
{
	uint64_t end = tool_now() + opt.duration;
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	while (!interrupted) {
		uint64_t now = tool_now(), left = end > now ? end - now : 0;
		struct timespec ts = { left / 1000000000, left % 1000000000 };
		int n;

		if (opt.duration && !left)
			return;
		n = ppoll(&p, 1, opt.duration ? &ts : NULL, NULL);
		if (n > 0)
			return;
		if (n < 0 && errno != EINTR)
			tool_die(EXIT_TOOL, "poll: %s", strerror(errno));
	}
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct who_bpf *s;
	int pidfd = -1;
	FILE *f = stdout;
	bool bad;

	tool_name = "codewp who";
	parse(argc, argv);
	if (opt.pid) {
		pidfd = syscall(SYS_pidfd_open, opt.pid, 0);
		if (pidfd < 0)
			tool_die(EXIT_TOOL, "process %d: %s", opt.pid, strerror(errno));
	}
	if (opt.output) {
		f = fopen(opt.output, "we");
		if (!f)
			tool_die(EXIT_TOOL, "%s: %s", opt.output, strerror(errno));
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	s = attach();
	fprintf(stderr, "%s: watching\n", tool_name);
	wait_for_end(pidfd);
	__atomic_store_n(&s->bss->counting, 0, __ATOMIC_RELEASE);
	report(f, s);
	who_bpf__destroy(s);
	bad = ferror(f);
	if (fclose(f) || bad)
		tool_die(EXIT_TOOL, "%s: cannot write", opt.output ?: "output");
	return 0;
}
