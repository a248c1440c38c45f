// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The command line, and --inherit=TEXT, by which codewp-run hands its settings to
 * itself when the guest executes a program: KEY or KEY=VALUE, with commas between
 * them. TEXT is no interface; the two are always the same binary.
 */
#include "options.h"
#include "mem.h"
#include "runtime.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_BYTES	(128UL << 20)
#define CACHE_MAX	(1024UL << 20)

struct settings settings = {
	.core.cache_bytes = CACHE_BYTES,
	.core.hot_after = 8,
	.core.stylized_after = 4,
	.core.restless_after = 4,
	.log_fd = -1,
	.program_fd = -1,
	.self_fd = -1,
	.seccomp_fd = -1,
};

static const char usage[] =
"Usage: codewp-run [OPTION]... [--] PROGRAM [ARG]...\n"
"Run an x86-64 program by translating it, and keep the translations true when\n"
"it changes its own code.\n"
"\n"
"  --backend=NAME        auto, kmod, uffd or mprotect (default: auto)\n"
"  --smc=MODE            precise: a store into the running block takes effect at\n"
"                        the next instruction (default); imprecise: when the\n"
"                        block is done\n"
"  --stats               print statistics to stderr at the end\n"
"  --log[=FILE]          a line for each translated block, to FILE or stderr\n"
"  --log-range=START-END only blocks of these guest addresses, in hexadecimal\n"
"  --perf-map            write /tmp/perf-PID.map, by which perf names guest code\n"
"  --max-insns=N         at most N guest instructions in a block\n"
"  --no-chain            never jump from block to block directly\n"
"  --without=NAME[,...]  leave optimisations out, to measure what they are worth:\n"
"                        quick (translate with the guest's state in the CPU),\n"
"                        hot (stores beside code that look where they go),\n"
"                        stylized (patched immediates loaded from where they are),\n"
"                        restless (code that is hit often checks itself),\n"
"                        versions (and is kept, to be there when it comes back),\n"
"                        near (programs and libraries beside the code cache),\n"
"                        superblocks (that go on behind conditional jumps),\n"
"                        fixed (calls through pointers that are read-only),\n"
"                        pdep (a cheap check behind indirect jumps, on Intel's),\n"
"                        wide (a larger jump cache for large programs)\n"
"  --hot-after=N         a store is hot after N traps without a hit (default: 8)\n"
"  --stylized-after=N    so is an immediate after N patches (default: 4)\n"
"  --restless-after=N    and a page after N hits of its code (default: 4)\n"
"  --cache-size=MIB      size of the code cache (default: 128)\n"
"  --exec=MODE           programs that the program executes: follow: translate\n"
"                        them, too (default); native: let them go\n"
"  -h, --help            this text\n"
"      --version         the version\n"
"\n"
"Exit status: the program's; 127 when it is not found, 126 when it cannot be\n"
"run, 70 when it needs what is not supported, 125 when the translator cannot\n"
"start.\n";

enum { OPT_BACKEND = 256, OPT_SMC, OPT_STATS, OPT_LOG, OPT_INSNS, OPT_NO_CHAIN, OPT_WITHOUT,
       OPT_HOT, OPT_STYLIZED, OPT_RESTLESS, OPT_CACHE, OPT_EXEC, OPT_LOG_RANGE, OPT_PERF_MAP,
       OPT_VERSION, OPT_INHERIT };

static const struct option options[] = {
	{ "backend", required_argument, NULL, OPT_BACKEND },
	{ "smc", required_argument, NULL, OPT_SMC },
	{ "stats", no_argument, NULL, OPT_STATS },
	{ "log", optional_argument, NULL, OPT_LOG },
	{ "log-range", required_argument, NULL, OPT_LOG_RANGE },
	{ "perf-map", no_argument, NULL, OPT_PERF_MAP },
	{ "max-insns", required_argument, NULL, OPT_INSNS },
	{ "no-chain", no_argument, NULL, OPT_NO_CHAIN },
	{ "without", required_argument, NULL, OPT_WITHOUT },
	{ "hot-after", required_argument, NULL, OPT_HOT },
	{ "stylized-after", required_argument, NULL, OPT_STYLIZED },
	{ "restless-after", required_argument, NULL, OPT_RESTLESS },
	{ "cache-size", required_argument, NULL, OPT_CACHE },
	{ "exec", required_argument, NULL, OPT_EXEC },
	{ "inherit", required_argument, NULL, OPT_INHERIT },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 }
};

/* What --without knows. */
static const struct {
	const char *name;
	size_t flag;
} optimisations[] = {
	{ "quick", offsetof(struct core_opts, no_quick) },
	{ "hot", offsetof(struct core_opts, no_hot) },
	{ "stylized", offsetof(struct core_opts, no_stylized) },
	{ "restless", offsetof(struct core_opts, no_restless) },
	{ "versions", offsetof(struct core_opts, no_versions) },
	{ "near", offsetof(struct core_opts, no_near) },
	{ "superblocks", offsetof(struct core_opts, no_superblocks) },
	{ "fixed", offsetof(struct core_opts, no_fixed) },
	{ "pdep", offsetof(struct core_opts, no_pdep) },
	{ "wide", offsetof(struct core_opts, no_wide) },
};

#define NR_OPTIMISATIONS (sizeof(optimisations) / sizeof(optimisations[0]))

static bool *without_flag(const struct core_opts *core, size_t i)
{
	return (bool *)((char *)core + optimisations[i].flag);
}

static void without(const char *list, struct core_opts *core)
{
	size_t len, i;

	for (;; list += len + 1) {
		len = strcspn(list, ",");
		for (i = 0; i < NR_OPTIMISATIONS; i++)
			if (strlen(optimisations[i].name) == len &&
			    !strncmp(optimisations[i].name, list, len))
				break;
		if (i == NR_OPTIMISATIONS)
			die("--without: \"%.*s\" is no optimisation that can be left out (see --help)",
			    (int)len, list);
		*without_flag(core, i) = true;
		if (!list[len])
			return;
	}
}

static unsigned long number(const char *name, const char *s, unsigned long max)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(s, &end, 0);
	if (errno || end == s || *end || *s == '-' || !n || n > max)
		die("--%s: \"%s\" is not a number from 1 to %lu", name, s, max);
	return n;
}

static bool range(const char *s, uint64_t at[2])
{
	char *end;

	errno = 0;
	at[0] = strtoul(s, &end, 16);
	if (end == s || *end != '-')
		return false;
	s = end + 1;
	at[1] = strtoul(s, &end, 16);
	return !errno && end != s && !*end && at[0] < at[1];
}

static void set_option(int c, const char *arg)
{
	struct settings *set = &settings;
	int b;

	switch (c) {
	case OPT_BACKEND:
		b = codewp_backend_parse(arg);
		if (b < 0)
			die("--backend: \"%s\" is none of auto, kmod, uffd, mprotect", arg);
		set->backend = b;
		break;
	case OPT_SMC:
		if (!strcmp(arg, "imprecise"))
			set->core.imprecise = true;
		else if (!strcmp(arg, "precise"))
			set->core.imprecise = false;
		else
			die("--smc: \"%s\" is neither precise nor imprecise", arg);
		break;
	case OPT_STATS:
		rt.stats = true;
		break;
	case OPT_LOG:
		set->log = true;
		set->log_path = arg;
		break;
	case OPT_LOG_RANGE:
		if (!range(arg, set->log_range))
			die("--log-range: \"%s\" is not START-END in hexadecimal", arg);
		set->log_ranged = true;
		set->log = true;
		break;
	case OPT_PERF_MAP:
		set->perf_map = true;
		break;
	case OPT_INSNS:
		set->core.max_insns = number("max-insns", arg, 4096);
		break;
	case OPT_NO_CHAIN:
		set->core.no_chain = true;
		break;
	case OPT_WITHOUT:
		without(arg, &set->core);
		break;
	case OPT_HOT:
		set->core.hot_after = number("hot-after", arg, 1000000);
		break;
	case OPT_STYLIZED:
		set->core.stylized_after = number("stylized-after", arg, 1000000);
		break;
	case OPT_RESTLESS:
		set->core.restless_after = number("restless-after", arg, 1000000);
		break;
	case OPT_CACHE:
		set->core.cache_bytes = number("cache-size", arg, CACHE_MAX >> 20) << 20;
		break;
	case OPT_EXEC:
		if (!strcmp(arg, "native"))
			set->native_exec = true;
		else if (!strcmp(arg, "follow"))
			set->native_exec = false;
		else
			die("--exec: \"%s\" is neither follow nor native", arg);
		break;
	}
}

/* ---- from one codewp-run to the next --------------------------------------- */

static bool inherit_own(const char *key, const char *value)
{
	if (!strcmp(key, "log-fd"))
		settings.log_fd = atoi(value);
	else if (!strcmp(key, "program-fd"))
		settings.program_fd = atoi(value);
	else if (!strcmp(key, "limits"))
		return mem_limit_load(value);
	else if (!strcmp(key, "self-fd"))
		settings.self_fd = atoi(value);
	else if (!strcmp(key, "seccomp-fd"))
		settings.seccomp_fd = atoi(value);
	else if (!strcmp(key, "nofile-soft"))
		settings.nofile.rlim_cur = strtoul(value, NULL, 10);
	else if (!strcmp(key, "nofile-hard"))
		settings.nofile.rlim_max = strtoul(value, NULL, 10);
	else if (!strcmp(key, "read-implies-exec"))
		settings.read_implies_exec = true;
	else if (!strcmp(key, "not-first"))
		rt.first = false;
	else
		return false;
	return true;
}

static void inherit(char *text)
{
	char *key, *value;

	settings.inherited = true;
	while ((key = strsep(&text, ","))) {
		const struct option *o = options;

		value = strchr(key, '=');
		if (value)
			*value++ = 0;
		if (inherit_own(key, value ?: ""))
			continue;
		while (o->name && strcmp(o->name, key))
			o++;
		if (!o->name || (o->has_arg == required_argument && !value))
			die("--inherit: \"%s\" is not understood", key);
		set_option(o->val, value);
	}
}

/**
 * options_inherit() - what --inherit shall say
 * @buf: for the text
 * @size: of buf
 * @set: the settings of the program to come
 *
 * Return: its length, or -1 if it does not fit.
 */
int options_inherit(char *buf, size_t size, const struct settings *set)
{
	char limits[80];
	size_t n = 0;

#define ADD(...) do {						\
	n += snprintf(buf + n, size - n, __VA_ARGS__);		\
	if (n >= size)						\
		return -1;					\
} while (0)
	ADD("cache-size=%zu", set->core.cache_bytes >> 20);
	if (mem_limit_save(limits, sizeof(limits)))
		ADD(",limits=%s", limits);
	if (set->backend != CODEWP_AUTO)
		ADD(",backend=%s", codewp_backend_info(the_ctx)->name);
	if (set->core.imprecise)
		ADD(",smc=imprecise");
	if (set->core.max_insns)
		ADD(",max-insns=%zu", set->core.max_insns);
	if (set->core.no_chain)
		ADD(",no-chain");
	for (size_t i = 0; i < NR_OPTIMISATIONS; i++)
		if (*without_flag(&set->core, i))
			ADD(",without=%s", optimisations[i].name);
	ADD(",hot-after=%u", set->core.hot_after);
	ADD(",stylized-after=%u", set->core.stylized_after);
	ADD(",restless-after=%u", set->core.restless_after);
	if (set->native_exec)
		ADD(",exec=native");
	if (rt.stats && rt.first)
		ADD(",stats");
	if (!rt.first)
		ADD(",not-first");
	if (set->log && !set->log_path)
		ADD(",log");
	if (set->log_ranged)
		ADD(",log-range=%lx-%lx", set->log_range[0], set->log_range[1]);
	if (set->perf_map)
		ADD(",perf-map");
	if (set->log_fd >= 0)
		ADD(",log-fd=%d", set->log_fd);
	if (set->program_fd >= 0)
		ADD(",program-fd=%d", set->program_fd);
	ADD(",self-fd=%d", set->self_fd);
	if (set->seccomp_fd >= 0)
		ADD(",seccomp-fd=%d", set->seccomp_fd);
	ADD(",nofile-soft=%lu,nofile-hard=%lu", set->nofile.rlim_cur, set->nofile.rlim_max);
	if (set->read_implies_exec)
		ADD(",read-implies-exec");
#undef ADD
	return n;
}

/* ---- the command line ------------------------------------------------------- */

void options_parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		switch (c) {
		case OPT_VERSION:
			puts("codewp-run 0.1");
			exit(0);
		case 'h':
			fputs(usage, stdout);
			exit(0);
		case OPT_INHERIT:
			inherit(optarg);
			/* The program's name and its arguments follow, or none at all. */
			if (optind >= argc)
				die("--inherit: no program");
			settings.program = argv[optind];
			settings.argv = argv + optind + 1;
			return;
		case '?':
			fputs("Try 'codewp-run --help'.\n", stderr);
			exit(125);
		default:
			set_option(c, optarg);
		}
	}
	if (optind == argc) {
		fputs(usage, stderr);
		exit(125);
	}
	settings.argv = argv + optind;
	settings.program = argv[optind];
}
