// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * execve and execveat of the guest.
 *
 * What the host executes is our own program again, with the guest's argument
 * pointers behind two of ours: the settings, and the program's name. So threads,
 * close-on-exec, credentials and the process's memory are the kernel's to deal
 * with, and the new program begins as if a user had started it. All that the
 * guest must see as an errno is found out before (program.c).
 *
 * No state but cpu->exec_args, which a child of vfork leaves to its parent.
 * rt_lock is held only for memory and descriptors, not while files are opened.
 */
#include "fd.h"
#include "mem.h"
#include "options.h"
#include "program.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "syscall.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel takes 6 MiB of strings and pointers at most. */
#define MAX_ARGS	(6UL << 20 >> 3)
#define OUR_ARGS	3	/* argv[0], --inherit, the program's name */

struct call {
	int dirfd, flags;
	uint64_t argv, envp;
	char path[PATH_MAX];	/* as the guest gave it */
	char name[PATH_MAX + 32];/* as the new program shall know it */
	int fd;			/* the program, or -1: by its name */
	bool unreadable;
	bool native;		/* without us */
};

/* argv as the host gets it, in cpu->exec_args. */
static long read_argv(struct cpu *cpu, uint64_t argv)
{
	size_t n = 0, room;
	uint64_t p;

	for (n = 0; argv; n++) {
		if (n > MAX_ARGS)
			return -E2BIG;
		if (guest_read(&p, argv + n * 8, 8))
			return -EFAULT;
		if (!p)
			break;
	}
	room = (n + OUR_ARGS + 1) * 8;
	rt_lock();
	cpu->exec_args = mem_runtime_map(room, PROT_READ | PROT_WRITE);
	rt_unlock();
	cpu->exec_bytes = room;
	if (!cpu->exec_args)
		return -ENOMEM;
	/* Another thread may have changed it: what the kernel takes is what counts. */
	if (n && guest_read((uint64_t *)cpu->exec_args + OUR_ARGS, argv, n * 8))
		return -EFAULT;
	((uint64_t *)cpu->exec_args)[OUR_ARGS + n] = 0;
	return 0;
}

static bool same_file(int a, int b)
{
	struct stat x, y;

	return !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* /proc/self/exe and its other names lead to us; the guest means itself. */
static bool means_itself(const char *path)
{
	size_t n = strlen(path);

	return !strncmp(path, "/proc/", 6) && n > 4 && !strcmp(path + n - 4, "/exe");
}

/* The program that the guest names: c->fd, or -errno. */
static long open_named(struct call *c)
{
	bool empty = !*c->path && c->flags & AT_EMPTY_PATH;
	int flags;

	c->fd = program_open(c->dirfd, c->path, c->flags, &c->unreadable);
	if (c->fd < 0)
		return c->fd;
	if (same_file(c->fd, rt.self_fd)) {
		if (means_itself(c->path)) {
			close(c->fd);
			c->fd = raw_syscall(SYS_fcntl, rt.exe_fd, F_DUPFD_CLOEXEC, 0, 0, 0, 0);
			return c->fd < 0 ? c->fd : 0;
		}
		c->native = true;	/* it translates by itself */
	}
	if (c->dirfd == AT_FDCWD || *c->path == '/')
		return 0;
	/* As the kernel names it; a script could not open it if it is gone by then. */
	snprintf(c->name, sizeof(c->name), "/dev/fd/%d%s%s", c->dirfd, empty ? "" : "/",
		 c->path);
	flags = raw_syscall(SYS_fcntl, c->dirfd, F_GETFD, 0, 0, 0, 0);
	return flags >= 0 && flags & FD_CLOEXEC ? 1 : 0;
}

/*
 * Follow scripts to the ELF file that will run. closing: the name that the
 * first script would get will not be there any more.
 */
static long check(struct call *c, bool closing)
{
	struct program_probe probe;
	bool unreadable = c->unreadable, privileged;
	int fd = c->fd, next, depth;
	long err = 0;

	for (depth = 0; !unreadable; depth++) {
		err = program_probe(fd, &probe);
		if (err || probe.kind != PROGRAM_SCRIPT)
			break;
		err = closing ? -ENOENT : depth == SCRIPT_DEPTH ? -ELOOP : 0;
		if (err)
			break;
		next = program_open(AT_FDCWD, probe.name, 0, &unreadable);
		if (next < 0) {
			err = next;
			break;
		}
		if (fd != c->fd)
			close(fd);
		fd = next;
	}
	privileged = !err && program_privileged(fd);
	if (fd != c->fd)
		close(fd);
	if (err)
		return err;
	if (privileged || unreadable) {
		say("%s: %s: runs untranslated", c->name,
		    privileged ? "set-user-ID, set-group-ID or capabilities" : "not readable");
		c->native = true;
	}
	return 0;
}

/* A copy at a guarded number that stays open in the new program. */
static int keep_open(int fd)
{
	int n;

	rt_lock();
	fd_open_begin();
	n = raw_syscall(SYS_fcntl, fd, F_DUPFD, fd_first(), 0, 0, 0);
	fd_open_end();
	rt_unlock();
	return n;
}

static long exec_native(struct cpu *cpu, const struct call *c)
{
	long ret;

	if (mem_read_implies_exec)
		personality(personality(0xffffffff) | READ_IMPLIES_EXEC);
	ret = signal_exec_begin(cpu);
	if (!ret) {
		mem_limit_real(true);
		fd_limit_real(true);
		ret = raw_syscall(SYS_execveat, c->dirfd, (long)c->path, c->argv, c->envp,
				  c->flags, 0);
		mem_limit_real(false);
		fd_limit_real(false);
		signal_exec_failed(cpu);
	}
	if (mem_read_implies_exec)
		personality(personality(0xffffffff) & ~READ_IMPLIES_EXEC);
	return ret;
}

static long exec_translated(struct cpu *cpu, const struct call *c)
{
	struct settings set = settings;
	char text[512] = "--inherit=";
	const int *kept[] = { &set.self_fd, &set.program_fd, &set.log_fd, &set.seccomp_fd };
	const char **argv = cpu->exec_args;
	long ret;

	rt_lock();
	set.seccomp_fd = seccomp_save(cpu);
	fd_limits_get(&set.nofile);
	rt_unlock();
	if (set.seccomp_fd < -1)
		return set.seccomp_fd;
	set.self_fd = keep_open(rt.self_fd);
	set.program_fd = strcmp(c->name, c->path) || means_itself(c->path) ? keep_open(c->fd) : -1;
	set.log_fd = log_descriptor() >= 0 ? keep_open(log_descriptor()) : -1;
	set.read_implies_exec = mem_read_implies_exec;
	if (options_inherit(text + strlen(text), sizeof(text) - strlen(text), &set) < 0)
		fatal("--inherit is longer than %zu", sizeof(text));
	argv[0] = "codewp-run";
	argv[1] = text;
	argv[2] = c->name;
	log_flush();
	ret = signal_exec_begin(cpu);
	if (!ret) {
		ret = raw_syscall(SYS_execveat, rt.self_fd, (long)"", (long)argv, c->envp,
				  AT_EMPTY_PATH, 0);
		signal_exec_failed(cpu);
	}
	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
		if (*kept[i] >= 0)
			close(*kept[i]);
	return ret;
}

long exec_call(struct cpu *cpu, int fd, uint64_t path, uint64_t argv, uint64_t envp,
	       int flags)
{
	struct call c = { .dirfd = fd, .flags = flags, .argv = argv, .envp = envp, .fd = -1,
			  .native = settings.native_exec };
	long ret;

	if (flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
		return -EINVAL;
	ret = guest_strncpy(c.path, path, sizeof(c.path));
	if (ret < 0)
		return ret;
	strcpy(c.name, c.path);
	if (!*c.path && !(flags & AT_EMPTY_PATH))
		return -ENOENT;
	ret = open_named(&c);
	if (ret >= 0) {
		bool closing = ret;

		ret = read_argv(cpu, argv);
		if (!ret && !c.native)
			ret = check(&c, closing);
		if (!ret && c.native && cpu->seccomp) {
			/* They are the runtime's to apply, and would be gone. */
			say("%s: cannot run untranslated with seccomp filters", c.name);
			ret = -EPERM;
		}
		if (!ret)
			mem_share_exec();
		if (!ret)
			ret = c.native ? exec_native(cpu, &c) : exec_translated(cpu, &c);
	}
	if (c.fd >= 0)
		close(c.fd);
	if (cpu->exec_args)
		munmap(cpu->exec_args, cpu->exec_bytes);
	cpu->exec_args = NULL;
	return ret;
}

long sys_exec_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	if (e - sys_table == SYS_execve)
		return exec_call(cpu, AT_FDCWD, a[0], a[1], a[2], 0);
	return exec_call(cpu, a[0], a[1], a[2], a[3], a[4]);
}
