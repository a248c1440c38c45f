// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Which file a program is, and whether execve() would run it: the checks that
 * the kernel makes, in its order, with its errors. Used at the start (start.c),
 * and before the point of no return of the guest's own execve() (exec.c).
 *
 * No state. Raw system calls where libc would need a lock or add checks of its
 * own; nothing here waits for rt_lock, since opening a file may wait for anybody.
 */
#include "program.h"
#include "raw_syscall.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_PHDRS	(65536 / sizeof(Elf64_Phdr))

static int sys_openat(int dirfd, const char *path, int flags)
{
	return raw_syscall(SYS_openat, dirfd, (long)path, flags | O_CLOEXEC, 0, 0, 0);
}

static bool on_mount(int fd, unsigned long flag)
{
	struct statvfs fs;

	return !fstatvfs(fd, &fs) && fs.f_flag & flag;
}

/* What an O_PATH descriptor names: may it be executed? */
static int permitted(int fd)
{
	struct stat stb;
	long err;

	if (fstat(fd, &stb))
		return -errno;
	if (S_ISLNK(stb.st_mode))
		return -ELOOP;
	if (!S_ISREG(stb.st_mode))
		return -EACCES;
	err = raw_syscall(SYS_faccessat2, fd, (long)"", X_OK, AT_EACCESS | AT_EMPTY_PATH, 0, 0);
	if (err)
		return err;
	return on_mount(fd, ST_NOEXEC) ? -EACCES : 0;
}

/* The same file as fd, open for reading. */
static int reopen(int fd)
{
	int mode = fcntl(fd, F_GETFL);
	char path[32];

	if (mode < 0)
		return -errno;
	if (!(mode & O_PATH) && (mode & O_ACCMODE) != O_WRONLY)
		return raw_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0, 0, 0, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return sys_openat(AT_FDCWD, path, O_RDONLY | O_NOCTTY | O_NONBLOCK);
}

int program_open(int dirfd, const char *path, int at_flags, bool *unreadable)
{
	bool itself = !*path && at_flags & AT_EMPTY_PATH;
	int nofollow = at_flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0;
	int seen, fd, err;

	*unreadable = false;
	if (itself)
		seen = raw_syscall(SYS_fcntl, dirfd, F_DUPFD_CLOEXEC, 0, 0, 0, 0);
	else
		seen = sys_openat(dirfd, path, O_PATH | nofollow);
	if (seen < 0)
		return seen;
	err = permitted(seen);
	if (err) {
		close(seen);
		return err;
	}
	fd = itself ? reopen(seen) :
	     sys_openat(dirfd, path, O_RDONLY | O_NOCTTY | O_NONBLOCK | nofollow);
	if (fd == -EACCES) {
		*unreadable = true;
		return seen;
	}
	close(seen);
	return fd;
}

/* The kernel looks at its interpreter before it is too late, too. */
static int probe_interpreter(const char *name)
{
	bool unreadable;
	Elf64_Ehdr eh;
	int fd, err = 0;
	ssize_t n;

	fd = program_open(AT_FDCWD, name, 0, &unreadable);
	if (fd < 0)
		return fd;
	if (unreadable) {
		close(fd);
		return -EACCES;
	}
	n = pread(fd, &eh, sizeof(eh), 0);
	if (n < (ssize_t)sizeof(eh))
		err = -EIO;
	else if (memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_machine != EM_X86_64)
		err = -ELIBBAD;
	close(fd);
	return err;
}

static int probe_elf(int fd, const Elf64_Ehdr *eh)
{
	char interp[4096];
	Elf64_Phdr ph;

	/* Known to the kernel: the loader says that it is not supported. */
	if (eh->e_ident[EI_CLASS] == ELFCLASS32 && eh->e_machine == EM_386)
		return 0;
	if ((eh->e_type != ET_EXEC && eh->e_type != ET_DYN) || eh->e_machine != EM_X86_64 ||
	    eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_phentsize != sizeof(ph) ||
	    !eh->e_phnum || eh->e_phnum > MAX_PHDRS)
		return -ENOEXEC;
	for (unsigned int i = 0; i < eh->e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), eh->e_phoff + i * sizeof(ph)) != sizeof(ph))
			return -ENOEXEC;
		if (ph.p_type != PT_INTERP)
			continue;
		if (ph.p_filesz < 2 || ph.p_filesz > sizeof(interp))
			return -ENOEXEC;
		if (pread(fd, interp, ph.p_filesz, ph.p_offset) != (ssize_t)ph.p_filesz)
			return -EIO;
		if (interp[ph.p_filesz - 1])
			return -ENOEXEC;
		return probe_interpreter(interp);
	}
	return 0;
}

int program_probe(int fd, struct program_probe *p)
{
	Elf64_Ehdr eh;
	ssize_t n;
	int ret;

	memset(p, 0, sizeof(*p));
	n = pread(fd, p->line, sizeof(p->line), 0);
	if (n < 0)
		return -errno;
	memcpy(&eh, p->line, sizeof(eh));
	ret = script_parse(p->line, &p->name, &p->arg);
	if (ret < 0)
		return ret;
	p->kind = ret ? PROGRAM_SCRIPT : PROGRAM_ELF;
	if (ret)
		return 0;
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG))
		return -ENOEXEC;
	return probe_elf(fd, &eh);
}

bool program_privileged(int fd)
{
	struct stat stb;

	if (fstat(fd, &stb) || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ||
	    on_mount(fd, ST_NOSUID))
		return false;
	if (stb.st_mode & S_ISUID && stb.st_uid != geteuid())
		return true;
	if ((stb.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
	    stb.st_gid != getegid())
		return true;
	/* Capabilities of the file add nothing for the superuser. */
	return geteuid() && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}
