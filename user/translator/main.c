// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp-run: options, finding the program, and the loop around guest code.
 *
 * The order of the start matters: descriptors before anything opens one, the
 * backend before the first guest mapping, the thread's %gs before the first
 * signal handler, and the runtime's own stack before the guest takes over the
 * process's.
 */
#include "fd.h"
#include "mem.h"
#include "runtime.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK_BYTES	(1UL << 20)
#define CACHE_BYTES	(64UL << 20)
#define CACHE_MAX	(512UL << 20)

struct runtime rt = { .program = "?", .stderr_fd = 2 };
struct codewp *the_ctx;

static struct cpu cpu __attribute__((aligned(64)));

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
"  --max-insns=N         at most N guest instructions in a block\n"
"  --no-chain            never jump from block to block directly\n"
"  --cache-size=MIB      size of the code cache (default: 64)\n"
"  -h, --help            this text\n"
"      --version         the version\n"
"\n"
"Exit status: the program's; 127 when it is not found, 126 when it cannot be\n"
"run, 70 when it needs what is not supported, 125 when the translator cannot\n"
"start.\n";

enum { OPT_BACKEND = 256, OPT_SMC, OPT_STATS, OPT_LOG, OPT_INSNS, OPT_NO_CHAIN,
       OPT_CACHE, OPT_VERSION };

static const struct option options[] = {
	{ "backend", required_argument, NULL, OPT_BACKEND },
	{ "smc", required_argument, NULL, OPT_SMC },
	{ "stats", no_argument, NULL, OPT_STATS },
	{ "log", optional_argument, NULL, OPT_LOG },
	{ "max-insns", required_argument, NULL, OPT_INSNS },
	{ "no-chain", no_argument, NULL, OPT_NO_CHAIN },
	{ "cache-size", required_argument, NULL, OPT_CACHE },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 }
};

struct settings {
	struct core_opts core;
	enum codewp_backend backend;
	bool log;
	const char *log_path;
	char **argv;
};

#define die(...) do {		\
	say(__VA_ARGS__);	\
	_exit(125);		\
} while (0)

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

static void parse(int argc, char **argv, struct settings *set)
{
	int c, b;

	set->core.cache_bytes = CACHE_BYTES;
	while ((c = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		switch (c) {
		case OPT_BACKEND:
			b = codewp_backend_parse(optarg);
			if (b < 0)
				die("--backend: \"%s\" is none of auto, kmod, uffd, mprotect",
				    optarg);
			set->backend = b;
			break;
		case OPT_SMC:
			if (!strcmp(optarg, "imprecise"))
				set->core.imprecise = true;
			else if (!strcmp(optarg, "precise"))
				set->core.imprecise = false;
			else
				die("--smc: \"%s\" is neither precise nor imprecise", optarg);
			break;
		case OPT_STATS:
			rt.stats = true;
			break;
		case OPT_LOG:
			set->log = true;
			set->log_path = optarg;
			break;
		case OPT_INSNS:
			set->core.max_insns = number("max-insns", optarg, 4096);
			break;
		case OPT_NO_CHAIN:
			set->core.no_chain = true;
			break;
		case OPT_CACHE:
			set->core.cache_bytes =
				number("cache-size", optarg, CACHE_MAX >> 20) << 20;
			break;
		case OPT_VERSION:
			puts("codewp-run 0.1");
			exit(0);
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fputs("Try 'codewp-run --help'.\n", stderr);
			exit(125);
		}
	}
	if (optind == argc) {
		fputs(usage, stderr);
		exit(125);
	}
	set->argv = argv + optind;
}

/* Where a shell would find it. An open descriptor, or the end. */
static int find_program(const char *name, char *path, size_t size)
{
	const char *dirs = getenv("PATH") ?: "/usr/local/bin:/usr/bin:/bin", *end;
	int err = ENOENT, fd;
	struct stat stb;

	for (;; dirs = end + 1) {
		int n;

		end = strchrnul(dirs, ':');
		if (strchr(name, '/'))
			n = snprintf(path, size, "%s", name);
		else if (end == dirs)
			n = snprintf(path, size, "./%s", name);
		else
			n = snprintf(path, size, "%.*s/%s", (int)(end - dirs), dirs, name);
		if (n >= (int)size) {
			err = ENAMETOOLONG;
		} else if (!stat(path, &stb)) {
			if (!S_ISREG(stb.st_mode))
				err = S_ISDIR(stb.st_mode) ? EISDIR : EACCES;
			else if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS))
				err = errno;
			else
				break;
		} else if (errno != ENOENT && errno != ENOTDIR && err == ENOENT) {
			err = errno;
		}
		if (!*end || strchr(name, '/')) {
			say("%s: %s", name, err == ENOENT ? "not found" : strerror(err));
			_exit(err == ENOENT ? 127 : 126);
		}
	}
	fd_open_begin();
	fd = fd_guard(open(path, O_RDONLY | O_CLOEXEC));
	fd_open_end();
	if (fd < 0) {
		say("%s: %s", name, strerror(errno));
		_exit(126);
	}
	return fd;
}

void runtime_end(void)
{
	if (rt.stats && !rt.exiting)
		stats_print(rt.stderr_fd);
	rt.exiting = true;
	log_close();
}

/**
 * runtime_exit() - the guest has ended itself
 * @status: as it gave it
 */
void runtime_exit(int status)
{
	rt_lock();
	runtime_end();
	for (;;)
		syscall(SYS_exit_group, status);
}

static void run(void *unused)
{
	int err;

	rt_lock();
	fd_open_begin();
	err = core_thread_init(&cpu);
	fd_open_end();
	if (err)
		die("cannot register the thread: %s", codewp_strerror(err));
	err = signal_init(&cpu);
	if (err)
		die("cannot take over the signals: %s", strerror(-err));
	rt_unlock();
	rt.started = true;
	thread_run(&cpu);
}

/* signal_entry.S */
_Noreturn void call_on_stack(void *top, void (*fn)(void *arg), void *arg);

int main(int argc, char **argv)
{
	struct codewp_open_opts open_opts = { .sz = sizeof(open_opts) };
	struct settings set = { 0 };
	struct guest_image img;
	char path[4096];
	char *stack;
	int err, fd;

	if (core_cpu_init(&cpu))
		die("the %%gs base cannot be set");
	/* All of the heap in one place: behind the runtime's own data. */
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_ARENA_MAX, 1);
	thread_init(&cpu);

	parse(argc, argv, &set);
	rt.program = set.argv[0];
	err = fd_init();
	if (err)
		die("the hard limit on descriptors (ulimit -Hn) is too low");
	fd_open_begin();
	fd = fcntl(2, F_DUPFD_CLOEXEC, fd_first());
	fd_open_end();
	if (fd >= 0)
		rt.stderr_fd = fd;
	if (set.log) {
		err = log_open(set.log_path);
		if (err)
			die("--log: %s: %s", set.log_path, strerror(-err));
	}

	fd = find_program(set.argv[0], path, sizeof(path));
	if (!realpath(path, rt.exe))
		die("%s: %s", path, strerror(errno));

	open_opts.backend = set.backend;
	open_opts.own_signals = true;
	open_opts.min_fd = fd_first();
	fd_open_begin();
	err = codewp_open(&the_ctx, &open_opts);
	fd_open_end();
	if (err)
		die("backend: %s", codewp_strerror(err));

	err = mem_init();
	if (err)
		die("cannot make a view: %s", codewp_strerror(err));

	/* Guest memory is never executable for the host; the map knows. */
	if (personality(0xffffffff) & READ_IMPLIES_EXEC) {
		mem_read_implies_exec = true;
		personality(personality(0xffffffff) & ~READ_IMPLIES_EXEC);
	}
	stack = mem_runtime_map(STACK_BYTES, PROT_READ | PROT_WRITE);
	if (!stack)
		die("no memory for the runtime's stack");

	set.core.cache_base = (void *)RUNTIME_CACHE;
	err = core_init(&set.core);
	if (err)
		die("cannot make the code cache: %s", strerror(-err));
	loader_load(fd, path, set.argv, environ, &img);
	prctl(PR_SET_NAME, strrchr(path, '/') ? strrchr(path, '/') + 1 : path);

	cpu.regs.rip = img.entry;
	cpu.regs.r[4] = img.sp;
	cpu.regs.rflags = 0x202;
	call_on_stack(stack + STACK_BYTES, run, NULL);
}
