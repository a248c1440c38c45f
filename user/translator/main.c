// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp-run: the order of the start, and the end.
 *
 * Descriptors before anything opens one, the backend before the first guest
 * mapping, the thread's %gs before the first signal handler, and the runtime's own
 * stack before the guest takes over the process's.
 */
#include "debug.h"
#include "fd.h"
#include "mem.h"
#include "options.h"
#include "program.h"
#include "runtime.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK_BYTES	(1UL << 20)

struct runtime rt = { .program = "?", .stderr_fd = 2, .first = true };
struct codewp *the_ctx;

static struct cpu_room room;
static struct cpu *const cpu = &room.cpu;

/*
 * A child gives its copy up: it may become a daemon, and whoever waits for the
 * end of a pipe must not wait for us. So a child's is the guest's, while that is
 * the same file still.
 */
void runtime_drop_stderr(void)
{
	if (rt.stderr_fd >= 0 && !(log_on && log_descriptor() < 0)) {
		close(rt.stderr_fd);
		rt.stderr_fd = -1;
	}
}

int runtime_stderr(void)
{
	struct stat stb;

	if (rt.stderr_fd >= 0 || fstat(2, &stb))
		return rt.stderr_fd;
	return stb.st_dev == rt.stderr_file.dev && stb.st_ino == rt.stderr_file.ino ? 2 : -1;
}

void runtime_end(void)
{
	/* A child of vfork: all of it is its parent's. */
	if (this_cpu()->proc && this_cpu()->proc->vforked)
		return;
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
	err = core_thread_init(cpu);
	fd_open_end();
	if (err)
		die("cannot register the thread: %s", codewp_strerror(err));
	err = signal_init(cpu);
	if (err)
		die("cannot take over the signals: %s", strerror(-err));
	rt_unlock();
	rt.started = true;
	thread_run(cpu);
}

/* signal_entry.S */
_Noreturn void call_on_stack(void *top, void (*fn)(void *arg), void *arg);

/* Our own program, to map from. */
static int open_image(void)
{
	int fd;

	fd_open_begin();
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	fd = fd < 0 ? 0 : fd_guard(fd);
	fd_open_end();
	return fd < 0 ? 0 : fd;
}

/* Our own program, to be executed again: it must not depend on any path. */
static int open_self(void)
{
	int fd = settings.self_fd;

	if (fd >= 0) {
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		return fd;
	}
	fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	if (fd < 0)
		fd = open((const char *)getauxval(AT_EXECFN), O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd_guard(fd);
}

static void open_descriptors(void)
{
	int err = fd_init();
	struct stat stb;

	if (err)
		die("the hard limit on descriptors (ulimit -Hn) is too low");
	if (settings.inherited)
		fd_limits_set(&settings.nofile);
	fd_open_begin();
	/* Without one, lines go nowhere: 2 will be a file of the guest's. */
	rt.stderr_fd = fcntl(2, F_DUPFD_CLOEXEC, fd_first());
	if (!fstat(2, &stb)) {
		rt.stderr_file.dev = stb.st_dev;
		rt.stderr_file.ino = stb.st_ino;
	}
	rt.self_fd = open_self();
	fd_open_end();
	if (rt.self_fd < 0)
		die("cannot open /proc/self/exe: %s", strerror(-rt.self_fd));
	if (settings.log_fd >= 0) {
		fcntl(settings.log_fd, F_SETFD, FD_CLOEXEC);
		log_open_fd(settings.log_fd);
	} else if (settings.log) {
		err = log_open(settings.log_path);
		if (err)
			die("--log: %s: %s", settings.log_path ?: "stderr", strerror(-err));
	}
	if (settings.perf_map) {
		err = perfmap_open();
		if (err)
			die("--perf-map: /tmp/perf-%d.map: %s", getpid(), strerror(-err));
	}
}

int main(int argc, char **argv)
{
	struct codewp_open_opts open_opts = { .sz = sizeof(open_opts) };
	struct guest_image img;
	struct program prog;
	char *stack;
	int err;

	if (core_cpu_init(cpu))
		die("the %%gs base cannot be set");
	/* All of the heap in one place: behind the runtime's own data. */
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_ARENA_MAX, 1);

	options_parse(argc, argv);
	rt.program = settings.program;
	thread_init(cpu);
	open_descriptors();
	program_find(&prog);
	rt.exe_fd = prog.fd;
	rt.argv = prog.argv;

	open_opts.backend = settings.backend;
	open_opts.own_signals = true;
	open_opts.quiet_signals = true;	/* signal.c queues them */
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
	if (settings.read_implies_exec || personality(0xffffffff) & READ_IMPLIES_EXEC) {
		mem_read_implies_exec = true;
		personality(personality(0xffffffff) & ~READ_IMPLIES_EXEC);
	}
	if (settings.seccomp_fd >= 0) {
		err = seccomp_load(cpu, settings.seccomp_fd);
		if (err)
			die("seccomp filters: %s", strerror(-err));
	}
	stack = mem_runtime_map(STACK_BYTES, PROT_READ | PROT_WRITE);
	if (!stack)
		die("no memory for the runtime's stack");

	settings.core.image_fd = open_image();
	settings.core.cache_base = (void *)RUNTIME_CACHE;
	settings.core.cache_bytes = mem_limit_cache(settings.core.cache_bytes);
	err = core_init(&settings.core);
	if (err)
		die("cannot make the code cache: %s", strerror(-err));
	loader_load(prog.fd, prog.name, prog.argv, environ, &img);
	procfs_init(img.sp);
	prctl(PR_SET_NAME, strrchr(prog.name, '/') ? strrchr(prog.name, '/') + 1 : prog.name);

	cpu->regs.rip = img.entry;
	cpu->regs.r[4] = img.sp;
	cpu->regs.rflags = 0x202;
	call_on_stack(stack + STACK_BYTES, run, NULL);
}
