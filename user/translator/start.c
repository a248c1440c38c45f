// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The program that the user named: where it is, and what runs it when it is a
 * script. Runs once, before there is a guest.
 */
#include "fd.h"
#include "options.h"
#include "program.h"
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* As a shell: 127 for what is not there, 126 for what cannot be run. */
static _Noreturn void refuse(const char *name, int err)
{
	say("%s: %s", name, err == ENOENT ? "not found" : strerror(err));
	_exit(err == ENOENT ? 127 : 126);
}

static _Noreturn void run_natively(const char *path, const char *why)
{
	say("%s: %s: runs untranslated", path, why);
	execv(path, settings.argv);
	refuse(settings.program, errno);
}

static int open_program(int dirfd, const char *path, int *err)
{
	bool unreadable;
	struct stat stb;
	int fd;

	fd_open_begin();
	fd = program_open(dirfd, path, 0, &unreadable);
	if (fd >= 0)
		fd = fd_guard(fd);
	fd_open_end();
	if (fd >= 0 && unreadable) {
		close(fd);
		fd = -EACCES;
		if (!settings.inherited && !strcmp(path, settings.program))
			run_natively(path, "not readable");
	}
	*err = fd < 0 ? -fd : 0;
	if (*err == EACCES && !fstatat(dirfd, path, &stb, 0) && S_ISDIR(stb.st_mode))
		*err = EISDIR;
	return fd;
}

/* Where a shell would find it. */
static int search(const char *name, const char **path)
{
	const char *dirs = getenv("PATH") ?: "/usr/local/bin:/usr/bin:/bin", *end;
	int err = ENOENT, fd, now;
	char *p;

	if (!*name)
		refuse("\"\"", ENOENT);
	if (strchr(name, '/')) {
		fd = open_program(AT_FDCWD, name, &err);
		if (fd < 0)
			refuse(name, err);
		*path = name;
		return fd;
	}
	for (;; dirs = end + 1) {
		end = strchrnul(dirs, ':');
		p = malloc(end - dirs + strlen(name) + 3);
		if (!p)
			refuse(name, ENOMEM);
		sprintf(p, "%.*s%s%s", (int)(end - dirs), dirs, end == dirs ? "./" : "/", name);
		fd = open_program(AT_FDCWD, p, &now);
		if (fd >= 0) {
			*path = p;
			return fd;
		}
		free(p);
		if (now != ENOENT && now != ENOTDIR && err == ENOENT)
			err = now;
		if (!*end)
			refuse(name, err);
	}
}

/* argv of a script: what runs it, its argument, the script, the rest. */
static char **script_argv(const struct program_probe *probe, const char *path, char **argv)
{
	size_t n = 0, i = 0;
	char **v;

	while (argv[n])
		n++;
	v = calloc(n + 4, sizeof(*v));
	if (!v)
		return NULL;
	v[i++] = strdup(probe->name);
	if (probe->arg)
		v[i++] = strdup(probe->arg);
	v[i++] = strdup(path);
	for (size_t k = 1; k < n; k++)
		v[i++] = argv[k];
	return v;
}

static void find_itself(int fd, const char *path)
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, rt.exe, sizeof(rt.exe) - 1);
	if (n > 0)
		rt.exe[n] = 0;
	else if (!realpath(path, rt.exe))
		snprintf(rt.exe, sizeof(rt.exe), "%s", path);
}

void program_find(struct program *prog)
{
	struct program_probe probe;
	const char *path;
	int err, depth;

	prog->argv = settings.argv;
	if (!settings.inherited) {
		prog->fd = search(settings.program, &path);
		prog->name = path;
	} else {
		static char *none[] = { "", NULL };

		path = settings.program;
		prog->name = path;
		prog->fd = settings.program_fd;
		if (prog->fd >= 0)
			fcntl(prog->fd, F_SETFD, FD_CLOEXEC);
		else
			prog->fd = open_program(AT_FDCWD, path, &err);
		if (prog->fd < 0)
			refuse(path, err);
		if (!prog->argv[0])
			prog->argv = none;
	}
	for (depth = 0;; depth++) {
		err = program_probe(prog->fd, &probe);
		/* The loader has more to say about what is no script. */
		if (err || probe.kind != PROGRAM_SCRIPT)
			break;
		if (depth == SCRIPT_DEPTH)
			refuse(settings.program, ELOOP);
		prog->argv = script_argv(&probe, path, prog->argv);
		if (!prog->argv)
			refuse(settings.program, ENOMEM);
		close(prog->fd);
		path = strdup(probe.name);
		prog->fd = path ? open_program(AT_FDCWD, path, &err) : -(err = ENOMEM);
		if (prog->fd < 0) {
			say("%s: its interpreter %s: %s", settings.program, probe.name,
			    err == ENOENT ? "not found" : strerror(err));
			_exit(err == ENOENT ? 127 : 126);
		}
	}
	if (!err && program_privileged(prog->fd) && !settings.inherited)
		run_natively(prog->name, "set-user-ID, set-group-ID or capabilities");
	find_itself(prog->fd, path);
}
