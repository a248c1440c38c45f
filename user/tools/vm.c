// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp-vm - run a guest in a small virtual machine whose memory is a view, and say
 * which pages of its code it wrote, and what that cost in blocks.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../vmm/vmm.h"
#include "tool.h"

static struct {
	uint64_t ram;
	unsigned int cpus;
	bool long_mode;
	bool stop;
	bool irqchip;
	enum vmm_mem mem;
	enum vmm_follow follow;
	long sample_ms;
	long seconds;
	size_t rows;
	bool quiet;
	bool names;
	bool check;
	uint64_t watch_gpa, watch_len;
} opt = { .ram = 16 << 20, .cpus = 1, .follow = VMM_FOLLOW_SAMPLE, .rows = 20 };

static struct vmm *vm;
static volatile sig_atomic_t interrupted;

static void usage(FILE *f)
{
	fputs("Usage: codewp vm [OPTIONS] IMAGE\n"
	      "Run a guest under KVM with its code watched, and show which pages it wrote.\n\n"
	      "IMAGE is an ELF64 executable (64-bit long mode, at its physical addresses) or a\n"
	      "flat image (real mode at 0x1000). Output to ports 0xe9 and 0x3f8 is printed; a\n"
	      "byte to port 0xf4 ends the guest with that status.\n\n"
	      "  -l, --long           a flat image is for long mode, at 0x100000\n"
	      "  -r, --ram SIZE       RAM, with K, M or G (16M)\n"
	      "  -c, --cpus NUMBER    vCPUs (1)\n"
	      "  -d, --deliver HOW    ring: writes go through and are told; stop: the vCPU\n"
	      "                       leaves the guest before the write (ring)\n"
	      "  -f, --follow HOW     how the guest's code is found: step, sample, exits, none\n"
	      "                       (sample)\n"
	      "      --sample MS      with sample: look again after so long (10)\n"
	      "  -m, --mem FROM       anon: the module makes the RAM; memfd; plain: nothing is\n"
	      "                       watched (anon)\n"
	      "  -w, --watch GPA,LEN  print every write to LEN bytes of guest-physical memory\n"
	      "      --irqchip        interrupt controllers in KVM\n"
	      "  -t, --time SECS      end the guest after so long\n"
	      "  -n, --rows ROWS      show so many pages, 0 for all (20)\n"
	      "  -q, --quiet          only what the guest prints\n"
	      "  -x, --names          totals only, as lines NAME VALUE, for scripts\n"
	      "      --check          at the end, compare every block with the RAM\n"
	      "  -h, --help           this text\n\n"
	      "The exit status is the guest's; 125 if it could not be run or did not end well,\n"
	      "124 if its time was up, 2 for wrong arguments.\n", f);
}

enum { OPT_SAMPLE = 256, OPT_IRQCHIP, OPT_CHECK };

static const struct option options[] = {
	{ "long",     no_argument,       NULL, 'l' },
	{ "ram",      required_argument, NULL, 'r' },
	{ "cpus",     required_argument, NULL, 'c' },
	{ "deliver",  required_argument, NULL, 'd' },
	{ "follow",   required_argument, NULL, 'f' },
	{ "sample",   required_argument, NULL, OPT_SAMPLE },
	{ "mem",      required_argument, NULL, 'm' },
	{ "watch",    required_argument, NULL, 'w' },
	{ "irqchip",  no_argument,       NULL, OPT_IRQCHIP },
	{ "time",     required_argument, NULL, 't' },
	{ "rows",     required_argument, NULL, 'n' },
	{ "quiet",    no_argument,       NULL, 'q' },
	{ "names",    no_argument,       NULL, 'x' },
	{ "check",    no_argument,       NULL, OPT_CHECK },
	{ "help",     no_argument,       NULL, 'h' },
	{ }
};

static uint64_t parse_size(const char *s)
{
	char *end;
	unsigned long long n;
	int shift = 0;

	errno = 0;
	n = strtoull(s, &end, 10);
	if (*end && strchr("Kk", *end))
		shift = 10;
	else if (*end && strchr("Mm", *end))
		shift = 20;
	else if (*end && strchr("Gg", *end))
		shift = 30;
	if (*s < '0' || *s > '9' || errno || (shift && *++end) || *end ||
	    n > VMM_MAX_RAM >> shift)
		tool_usage_error("--ram '%s': want a number with K, M or G, at most %lluG", s,
				 VMM_MAX_RAM >> 30);
	n <<= shift;
	if (!n || n % 4096)
		tool_usage_error("--ram '%s': want a multiple of 4K", s);
	return n;
}

static void parse_watch(const char *s)
{
	char *end;

	errno = 0;
	opt.watch_gpa = strtoull(s, &end, 0);
	if (*s >= '0' && *s <= '9' && !errno && *end == ',' && end[1] >= '0' && end[1] <= '9') {
		opt.watch_len = strtoull(end + 1, &end, 0);
		if (!errno && !*end && opt.watch_len)
			return;
	}
	tool_usage_error("--watch '%s': want an address and a length, as 0x2000,8", s);
}

static int parse_word(const char *s, const char *what, const char *const *words)
{
	char all[96] = "";
	int i;

	for (i = 0; words[i]; i++) {
		if (!strcmp(s, words[i]))
			return i;
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? ", " : "",
			 words[i]);
	}
	tool_usage_error("%s '%s': want one of %s", what, s, all);
}

static void parse(int argc, char **argv)
{
	static const char *const deliver[] = { "ring", "stop", NULL };
	static const char *const follow[] = { "none", "exits", "sample", "step", NULL };
	static const char *const mem[] = { "anon", "memfd", "plain", NULL };
	static const enum vmm_mem mems[] = { VMM_MEM_ANON, VMM_MEM_MEMFD, VMM_MEM_PLAIN };
	bool follow_given = false;
	int c;

	while ((c = getopt_long(argc, argv, "+lr:c:d:f:m:w:t:n:qxh", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			opt.long_mode = true;
			break;
		case 'r':
			opt.ram = parse_size(optarg);
			break;
		case 'c':
			opt.cpus = tool_number(optarg, "--cpus", 1, VMM_MAX_CPUS);
			break;
		case 'd':
			opt.stop = parse_word(optarg, "--deliver", deliver);
			break;
		case 'f':
			opt.follow = parse_word(optarg, "--follow", follow);
			follow_given = true;
			break;
		case OPT_SAMPLE:
			opt.sample_ms = tool_number(optarg, "--sample", 1, 3600000);
			break;
		case 'm':
			opt.mem = mems[parse_word(optarg, "--mem", mem)];
			break;
		case 'w':
			parse_watch(optarg);
			break;
		case OPT_IRQCHIP:
			opt.irqchip = true;
			break;
		case 't':
			opt.seconds = tool_number(optarg, "--time", 1, 1000000);
			break;
		case 'n':
			opt.rows = tool_number(optarg, "--rows", 0, 1000000);
			break;
		case 'q':
			opt.quiet = true;
			break;
		case 'x':
			opt.names = true;
			break;
		case OPT_CHECK:
			opt.check = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			fprintf(stderr, "Try '%s --help'.\n", tool_name);
			exit(EXIT_USAGE);
		}
	}
	if (optind == argc)
		tool_usage_error("which IMAGE?");
	if (optind + 1 < argc)
		tool_usage_error("one IMAGE only, not '%s'", argv[optind + 1]);
	if (opt.mem == VMM_MEM_PLAIN && (opt.stop || (follow_given && opt.follow)))
		tool_usage_error("--mem=plain cannot be watched: --follow=none and no --deliver");
	if (opt.mem == VMM_MEM_PLAIN)
		opt.follow = VMM_FOLLOW_NONE;
	if (opt.watch_len && opt.mem == VMM_MEM_PLAIN)
		tool_usage_error("--watch: not with --mem=plain");
	if (opt.check && !opt.follow)
		tool_usage_error("--check wants blocks: not with --follow=none or --mem=plain");
}

static void output(struct vmm_vcpu *vcpu, uint16_t port, const void *data, size_t n,
		   void *arg)
{
	if (port != VMM_PORT_CONSOLE && port != VMM_PORT_SERIAL)
		return;
	fwrite(data, 1, n, stdout);
	if (memchr(data, '\n', n))
		fflush(stdout);
}

/* The bytes of a watch that a write is about, at most 16, the first one first. */
static void print_bytes(const struct vmm_watch_hit *h, const void *bytes)
{
	const unsigned char *b = bytes;
	uint64_t from = h->gpa > h->watch_gpa ? h->gpa - h->watch_gpa : 0;
	uint64_t to = h->gpa + h->len - h->watch_gpa;

	if (to > h->watch_len)
		to = h->watch_len;
	for (uint64_t i = from; i < to && i < from + 16; i++)
		fprintf(stderr, "%02x", b[i]);
	if (to > from + 16)
		fputs("...", stderr);
}

static void on_watch(const struct vmm_watch_hit *h, void *arg)
{
	char who[48] = "somebody";

	if (h->flags & CODEWP_WATCH_LOST) {
		tool_warn("--watch: the page at %#" PRIx64 " is watched no more: %s", h->gpa,
			  codewp_strerror(h->err));
		return;
	}
	if (h->vcpu && h->rip)
		snprintf(who, sizeof(who), "vCPU %u at %#" PRIx64, vmm_vcpu_id(h->vcpu),
			 h->rip);
	else if (h->vcpu)
		snprintf(who, sizeof(who), "vCPU %u", vmm_vcpu_id(h->vcpu));
	else if (h->tid)
		snprintf(who, sizeof(who), "thread %u", h->tid);
	fprintf(stderr, "watch: %s wrote %#" PRIx64 ", %" PRIu64 " bytes: ", who, h->gpa,
		h->len);
	print_bytes(h, h->before);
	fputs(" -> ", stderr);
	print_bytes(h, h->after);
	fputs(h->flags & CODEWP_WATCH_EXACT ? "\n" : " (found)\n", stderr);
}

static void on_signal(int sig)
{
	interrupted = sig;
	vmm_end(vm);
}

struct rows {
	struct vmm_page_stats *v;
	size_t n, room;
};

static void add_row(const struct vmm_page_stats *ps, void *arg)
{
	struct rows *r = arg;

	if (r->n == r->room) {
		size_t room = r->room ? 2 * r->room : 64;
		void *v = realloc(r->v, room * sizeof(*r->v));

		if (!v)
			tool_die(EXIT_TOOL, "no memory");
		r->v = v;
		r->room = room;
	}
	r->v[r->n++] = *ps;
}

/* Most written first, then in the order of addresses. */
static int by_writes(const void *a, const void *b)
{
	const struct vmm_page_stats *x = a, *y = b;

	if (x->events != y->events)
		return x->events < y->events ? 1 : -1;
	return x->page < y->page ? -1 : x->page > y->page;
}

static void report(void)
{
	struct rows r = { };
	struct vmm_stats st;
	size_t i;

	vmm_stats(vm, &st);
	if (opt.names) {
		fprintf(stderr, "blocks %" PRIu64 "\nlive %" PRIu64 "\ninvalidated %" PRIu64
			"\ntraps %" PRIu64 "\nstops %" PRIu64 "\nstepped %" PRIu64
			"\nsteps %" PRIu64 "\nexits %" PRIu64 "\narms %" PRIu64 "\n",
			st.blocks, st.live, st.invalidated, st.events, st.stops, st.stepped,
			st.steps, st.exits, st.arms);
		return;
	}
	vmm_for_each_page(vm, add_row, &r);
	if (r.n)
		qsort(r.v, r.n, sizeof(*r.v), by_writes);
	fprintf(stderr, "\n%18s %10s %10s %10s\n", "PAGE", "BLOCKS", "TRAPS", "DROPPED");
	for (i = 0; i < r.n && (!opt.rows || i < opt.rows); i++)
		fprintf(stderr, "%#18" PRIx64 " %10u %10u %10u\n", r.v[i].page << 12,
			r.v[i].blocks, r.v[i].events, r.v[i].invalidated);
	if (i < r.n)
		fprintf(stderr, "... and %zu more pages (-n 0 shows all)\n", r.n - i);
	fprintf(stderr, "%" PRIu64 " blocks of code on %zu pages, %" PRIu64 " live at the end\n"
		"%" PRIu64 " traps, %" PRIu64 " of them stops, %" PRIu64 " kept their page armed\n"
		"%" PRIu64 " blocks invalidated\n"
		"%" PRIu64 " exits from the guest, %" PRIu64 " of them single steps; %" PRIu64
		" pages armed\n",
		st.blocks, r.n, st.live, st.events, st.stops, st.stepped, st.invalidated,
		st.exits, st.steps, st.arms);
	free(r.v);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	int err, stale, status = 0;
	struct vmm_opts vo = { .sz = sizeof(vo) };
	struct vmm_watch *watch;
	char why[512];

	tool_name = "codewp vm";
	parse(argc, argv);
	vo.ram = opt.ram;
	vo.cpus = opt.cpus;
	vo.mem = opt.mem;
	vo.follow = opt.follow;
	vo.stop = opt.stop;
	vo.irqchip = opt.irqchip;
	vo.sample_ms = opt.sample_ms;
	vo.out = output;
	err = vmm_create(&vm, &vo, why, sizeof(why));
	if (err)
		tool_die(EXIT_TOOL, "%s", why);
	if (vmm_load(vm, argv[optind], opt.long_mode, why, sizeof(why)))
		tool_die(EXIT_TOOL, "%s", why);
	if (opt.watch_len) {
		err = vmm_watch(vm, opt.watch_gpa, opt.watch_len, on_watch, NULL, &watch);
		if (err)
			tool_die(EXIT_TOOL, "--watch: %s",
				 err == -EFAULT ? "that is not all RAM" :
				 err == -EOPNOTSUPP ?
				 "guests' stores cannot be stopped: load codewp_kvm.ko" :
				 codewp_strerror(err));
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);
	alarm(opt.seconds);
	err = vmm_run(vm, &status, why, sizeof(why));
	alarm(0);
	if (fflush(stdout) || ferror(stdout))
		tool_die(EXIT_TOOL, "cannot write the guest's output");
	if (err == -ECANCELED && interrupted) {
		tool_warn(interrupted == SIGALRM ? "its %ld seconds were up" : "interrupted",
			  opt.seconds);
		status = interrupted == SIGALRM ? 124 : 128 + interrupted;
	} else if (err) {
		tool_warn("%s", why);
		status = EXIT_TOOL;
	}
	if (!opt.quiet)
		report();
	if (opt.check) {
		stale = vmm_check_blocks(vm);
		if (stale)
			tool_die(EXIT_TOOL, "%d blocks are not what the RAM says", stale);
	}
	vmm_destroy(vm);
	return status;
}
