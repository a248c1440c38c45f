// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * /proc/PID of the guest's own process: names that are not for it, and files that
 * would show the runtime in place of the guest.
 *
 * What a name means is left to the kernel: after an open() the descriptor itself
 * says which file of /proc it is, by whatever name, link or directory the guest
 * came there. If it is one whose content is wrong for the guest, it is replaced
 * by a memfd with the right one, under the same number. Only where the kernel
 * must not follow at all (the runtime's descriptors, /proc/self/exe) are names
 * looked at before.
 *
 * Owns: where the guest's arguments are. Runs with the runtime's %fs.
 */
#include "procfs.h"
#include "fd.h"
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As the kernel notes it down at execve(). Set once, before the guest runs. */
static struct {
	uint64_t arg, arg_end, env, env_end, auxv, auxv_end;
	bool told;		/* the kernel knows, and shows it to everybody */
} at;

/* From the first string to the end of the last one. */
static void strings(uint64_t *words, uint64_t *start, uint64_t *end)
{
	*start = *end = 0;
	for (; *words; words++) {
		if (!*start)
			*start = *words;
		*end = *words + strlen((const char *)*words) + 1;
	}
}

/*
 * Tell the kernel where the guest's arguments, environment and vector are, so
 * that other processes, too, see the guest's. What is not said stays as it is:
 * /proc/self/stat has it.
 */
static bool tell_kernel(uint64_t sp)
{
	struct prctl_mm_map map = { .exe_fd = -1 };
	uint64_t field[48] = { 0 };
	char buf[1024], *p;
	ssize_t n;
	int fd;

	fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	p = strrchr(buf, ')');
	for (int i = 3; p && i < 48; i++) {
		p = strchr(p, ' ');
		if (p)
			field[i] = strtoul(++p, NULL, 10);
	}
	if (!p)
		return false;
	map.start_code = field[26];
	map.end_code = field[27];
	map.start_stack = sp;
	map.start_data = field[45];
	map.end_data = field[46];
	map.start_brk = field[47];
	map.brk = (uint64_t)sbrk(0);
	map.arg_start = at.arg;
	map.arg_end = at.arg_end;
	map.env_start = at.env;
	map.env_end = at.env_end;
	map.auxv = (void *)at.auxv;
	map.auxv_size = at.auxv_end - at.auxv;
	return !prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0);
}

void procfs_init(uint64_t sp)
{
	uint64_t *words = (uint64_t *)sp + 1, *p;

	strings(words, &at.arg, &at.arg_end);
	words += *(uint64_t *)sp + 1;
	strings(words, &at.env, &at.env_end);
	while (*words++)
		;
	at.auxv = (uint64_t)words;
	for (p = words; *p != AT_NULL; p += 2)
		;
	at.auxv_end = (uint64_t)(p + 2);
	/* The addresses must not be 0. */
	if (!at.arg)
		at.arg = at.arg_end = sp;
	if (!at.env)
		at.env = at.env_end = at.arg_end;
	at.told = tell_kernel(sp);
}

uint64_t procfs_auxv(uint64_t *size)
{
	*size = at.auxv_end - at.auxv;
	return at.auxv;
}

/* ---- names --------------------------------------------------------------- */

static bool skip(const char **s, const char *prefix)
{
	size_t n = strlen(prefix);

	if (strncmp(*s, prefix, n))
		return false;
	*s += n;
	return true;
}

/* A number with a slash behind it. */
static bool skip_number(const char **s, unsigned long *n)
{
	char *end;

	if (**s < '0' || **s > '9')
		return false;
	*n = strtoul(*s, &end, 10);
	if (*end != '/')
		return false;
	*s = end + 1;
	return true;
}

/* What follows /proc/PID/ or /proc/PID/task/TID/ of this process, or NULL. */
static const char *own_file(const char *path)
{
	unsigned long n;

	if (!skip(&path, "/proc/"))
		return NULL;
	if (!skip(&path, "self/") && !skip(&path, "thread-self/") &&
	    !(skip_number(&path, &n) && n == (unsigned long)getpid()))
		return NULL;
	if (skip(&path, "task/") && !skip_number(&path, &n))
		return NULL;
	return path;
}

static bool guarded_number(const char *s)
{
	char *end;
	unsigned long fd;

	if (*s < '0' || *s > '9')
		return false;
	fd = strtoul(s, &end, 10);
	return (!*end || *end == '/') && fd <= INT32_MAX && fd_is_guarded(fd);
}

bool procfs_hidden(int dirfd, const char *path)
{
	const char *rest;

	if (*path != '/')
		return guarded_number(path) && dirfd >= 0 && fd_marked(dirfd) == FD_PROC_FDS;
	rest = own_file(path);
	if (!rest) {
		rest = path;
		if (!skip(&rest, "/dev/"))
			return false;
	}
	return (skip(&rest, "fd/") || skip(&rest, "fdinfo/")) && guarded_number(rest);
}

bool procfs_exe(const char *path, char link[PROCFS_LINK])
{
	const char *rest = own_file(path);

	if (!rest || strcmp(rest, "exe"))
		return false;
	snprintf(link, PROCFS_LINK, "/proc/self/fd/%d", rt.exe_fd);
	return true;
}

bool procfs_filtered(int mark, const char *name)
{
	char *end;
	uint64_t start;

	if (mark == FD_PROC_FDS)
		return guarded_number(name);
	start = strtoul(name, &end, 16);
	return *end == '-' && !map_at(start);
}

/* ---- contents ------------------------------------------------------------ */

void procfs_add(struct procfs_text *t, const void *bytes, size_t len)
{
	if (t->cap - t->len < len && !t->failed) {
		size_t cap = (t->len + len) * 2 + 4096;
		char *p = realloc(t->at, cap);

		if (p) {
			t->at = p;
			t->cap = cap;
		} else {
			t->failed = true;
		}
	}
	if (t->failed)
		return;
	memcpy(t->at + t->len, bytes, len);
	t->len += len;
}

/* All that is left to read from fd, with a NUL behind it. */
static void add_file(struct procfs_text *t, int fd)
{
	char buf[4096];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		procfs_add(t, buf, n);
	procfs_add(t, "", 1);
}

static void add_memory(struct procfs_text *t, uint64_t from, uint64_t to)
{
	char buf[4096];

	while (from < to) {
		size_t n = to - from < sizeof(buf) ? to - from : sizeof(buf);

		if (guest_read(buf, from, n))
			break;
		procfs_add(t, buf, n);
		from += n;
	}
}

/* A program that writes a longer title over its arguments takes their end away. */
static void add_cmdline(struct procfs_text *t)
{
	char last = 0;
	size_t n;

	if (at.arg_end == at.arg || guest_read(&last, at.arg_end - 1, 1) || !last) {
		add_memory(t, at.arg, at.arg_end);
		return;
	}
	add_memory(t, at.arg, at.env == at.arg_end ? at.env_end : at.arg_end);
	n = t->at ? strnlen(t->at, t->len) : 0;
	if (n < t->len)
		t->len = n + 1;
}

enum content { NONE, MAPS, NUMA_MAPS, CMDLINE, ENVIRON, AUXV };

static enum content content_of(const char *leaf)
{
	static const struct {
		const char *name;
		enum content what;
	} files[] = {
		{ "maps", MAPS }, { "smaps", MAPS }, { "numa_maps", NUMA_MAPS },
		{ "cmdline", CMDLINE }, { "environ", ENVIRON }, { "auxv", AUXV },
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		if (!strcmp(leaf, files[i].name))
			return files[i].what >= CMDLINE && at.told ? NONE : files[i].what;
	return NONE;
}

static void make_content(struct procfs_text *t, enum content what, int fd)
{
	struct procfs_text host = { 0 };

	switch (what) {
	case NONE:
		return;
	case MAPS:
	case NUMA_MAPS:
		add_file(&host, fd);
		if (host.failed)
			t->failed = true;
		else if (what == MAPS)
			procfs_maps(t, host.at);
		else
			procfs_numa_maps(t, host.at);
		free(host.at);
		return;
	case CMDLINE:
		add_cmdline(t);
		return;
	case ENVIRON:
		add_memory(t, at.env, at.env_end);
		return;
	case AUXV:
		add_memory(t, at.auxv, at.auxv_end);
		return;
	}
}

/* fd becomes what path names, opened for reading. fd, or -errno and it is closed. */
static long put_in_place(int fd, const char *path, int flags)
{
	int other = open(path, (flags & (O_ACCMODE | O_NONBLOCK | O_PATH)) | O_CLOEXEC);
	long ret = -errno;

	if (other >= 0) {
		ret = raw_syscall(SYS_dup3, other, fd, flags & O_CLOEXEC, 0, 0, 0);
		close(other);
	}
	if (ret < 0)
		raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	return ret;
}

static long replace(int fd, int flags, enum content what, const char *name)
{
	struct procfs_text t = { 0 };
	char link[PROCFS_LINK];
	long ret = -ENOMEM;
	int mem;

	rt_lock();
	fd_open_begin();
	make_content(&t, what, fd);
	mem = t.failed ? -1 : memfd_create(name, MFD_CLOEXEC);
	if (mem >= 0 && write(mem, t.at, t.len) == (ssize_t)t.len) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", mem);
		ret = put_in_place(fd, link, flags);
	} else {
		raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	}
	if (mem >= 0)
		close(mem);
	fd_open_end();
	free(t.at);
	rt_unlock();
	return ret;
}

/* ---- descriptors --------------------------------------------------------- */

/* The name of an open file of /proc, from the end; NULL: it is none. */
static const char *proc_name(int fd, char *name, size_t size)
{
	char link[PROCFS_LINK];
	struct statfs fs;
	ssize_t n;

	if (fstatfs(fd, &fs) || (unsigned long)fs.f_type != PROC_SUPER_MAGIC)
		return NULL;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, name, size - 1);
	if (n <= 0)
		return NULL;
	name[n] = '\0';
	return strrchr(name, '/');
}

static void note(int fd, const char *leaf)
{
	if (!strcmp(leaf, "/mem"))
		fd_mark(fd, FD_PROC_MEM);
	else if (!strcmp(leaf, "/fd") || !strcmp(leaf, "/fdinfo"))
		fd_mark(fd, FD_PROC_FDS);
	else if (!strcmp(leaf, "/map_files"))
		fd_mark(fd, FD_PROC_FILES);
}

void procfs_received(int fd)
{
	char name[256];
	const char *leaf = proc_name(fd, name, sizeof(name));

	if (leaf)
		note(fd, leaf);
}

static bool is_ourselves(int fd)
{
	struct stat a, b;

	return !fstat(fd, &a) && !fstat(rt.self_fd, &b) && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

long procfs_opened(int fd, int flags, const char *leaf)
{
	enum content what;
	char name[256];
	const char *end;

	/* Only by such a name can one come to what runs, and mean the guest. */
	if (!strcmp(leaf, "exe") && is_ourselves(fd)) {
		char link[PROCFS_LINK];
		long ret;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", rt.exe_fd);
		rt_lock();
		fd_open_begin();
		ret = put_in_place(fd, link, flags);
		fd_open_end();
		rt_unlock();
		return ret;
	}
	end = proc_name(fd, name, sizeof(name));
	if (!end)
		return fd;
	note(fd, end);
	what = content_of(end + 1);
	if (what != NONE && !(flags & O_PATH) && own_file(name))
		return replace(fd, flags, what, end + 1);
	return fd;
}
