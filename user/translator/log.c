// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * --log: one line per translated block, to a file or to stderr.
 *
 * And the runtime's own lines on the original stderr, with the two ways to end
 * that go with one. Owns the log's descriptor and buffer, which rt_lock guards.
 * Runs with the runtime's %fs.
 */
#include "fd.h"
#include "core.h"
#include "debug.h"
#include "mem.h"
#include "options.h"
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

bool log_on;

static int log_fd = -1;
static char buf[32768];
static size_t used;

void log_flush(void)
{
	size_t done = 0;

	while (done < used) {
		ssize_t n = write(log_fd, buf + done, used - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += n;
	}
	used = 0;
}

/**
 * log_open() - begin to log
 * @path: the file, which is replaced; NULL: the original stderr
 *
 * Return: 0 or -errno.
 */
int log_open(const char *path)
{
	if (path) {
		fd_open_begin();
		log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		log_fd = log_fd < 0 ? -errno : fd_guard(log_fd);
		fd_open_end();
		if (log_fd < 0)
			return log_fd;
	} else {
		log_fd = rt.stderr_fd;
	}
	log_on = true;
	return 0;
}

void log_open_fd(int fd)
{
	log_fd = fd;
	log_on = true;
}

int log_descriptor(void)
{
	return log_on && log_fd != rt.stderr_fd ? log_fd : -1;
}

void log_close(void)
{
	if (log_on)
		log_flush();
	log_on = false;
}

void log_tb(uint64_t pc, size_t guest_bytes, size_t insns, const void *host,
	    size_t host_bytes)
{
	if (!log_on)
		return;
	if (settings.log_ranged &&
	    (pc >= settings.log_range[1] || pc + guest_bytes <= settings.log_range[0]))
		return;
	if (sizeof(buf) - used < 128)
		log_flush();
	used += snprintf(buf + used, sizeof(buf) - used,
			 "tb 0x%lx bytes %zu insns %zu host %p host_bytes %zu\n",
			 pc, guest_bytes, insns, host, host_bytes);
}

void say(const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	n = snprintf(line, sizeof(line), "codewp run: ");
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	/* In one write, so that it is one line also beside other writers. */
	if (write(runtime_stderr(), line, n) < 0)
		return;
}

static _Noreturn void end_unsupported(const struct cpu *cpu)
{
	if (!rt_lock_mine())
		rt_lock();
	/* A child of vfork shares all this with its parent, which goes on. */
	if (!cpu->proc->vforked)
		runtime_end();
	_exit(EXIT_UNSUPPORTED);
}

/**
 * unsupported() - the guest needs what is not done yet
 * @cpu: regs.rip is the guest address to name
 * @fmt: what
 */
void unsupported(struct cpu *cpu, const char *fmt, ...)
{
	char what[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	say("%s: %s at 0x%lx is not supported", rt.program, what, cpu->regs.rip);
	end_unsupported(cpu);
}

/**
 * fatal() - the runtime itself is wrong: say where, and abort
 */
void fatal(const char *fmt, ...)
{
	static bool again;
	char what[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (again)
		_exit(128 + SIGABRT);
	again = true;
	if (rt.started) {
		const struct cpu *cpu = this_cpu();
		const struct codewp_where *w = codewp_where(cpu->target);

		say("%s: internal error: %s (guest pc 0x%lx, host pc 0x%lx, in cache %u, "
		    "block 0x%lx of %lu instructions at 0x%lx-0x%lx)",
		    rt.program, what, cpu->regs.rip, cpu->target, cpu->in_cache, w->block_pc,
		    w->insns, w->block_host, w->block_host + w->block_size);
	} else {
		say("internal error: %s", what);
	}
	log_close();
	signal_die(SIGABRT);
}
