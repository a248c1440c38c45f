// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The guest of runtime.c: runs the case that its first argument names, and
 * prints "ok", or the line of the first check that failed. Every case but those
 * marked "runtime only" says ok natively, too.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE	4096UL
#define BASE	((char *)0x6a0000000000UL)	/* RUNTIME_BASE */
#define END	(BASE + 0x10000000000UL)
#define GUARDED	448				/* FD_GUARDED */

#define CHECK(cond) do {						\
	if (!(cond)) {							\
		printf("line %d: %s, errno %d\n", __LINE__, #cond, errno);\
		exit(1);						\
	}								\
} while (0)

#define CHECK_ERR(call, err) do {					\
	errno = 0;							\
	CHECK((long)(call) == -1 && errno == (err));			\
} while (0)

/* mov $v, %eax; ret */
static void put(void *at, int v)
{
	unsigned char code[6] = { 0xb8, v, v >> 8, v >> 16, v >> 24, 0xc3 };

	memcpy(at, code, sizeof(code));
}

static int call(void *at)
{
	return ((int (*)(void))at)();
}

static char *anon(size_t pages, int prot)
{
	char *p = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* Runtime only: nothing of the runtime's memory can be taken away. */
static void reserved(void)
{
	int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	char *p = anon(4, PROT_READ | PROT_WRITE);

	put(p, 5);
	CHECK_ERR(mmap(BASE, PAGE, PROT_READ, fixed, -1, 0), ENOMEM);
	/* Half of it is free: that half must not be left behind. */
	CHECK_ERR(mmap(BASE - 8 * PAGE, 64 * PAGE, PROT_READ, fixed, -1, 0), ENOMEM);
	CHECK_ERR(msync(BASE - 8 * PAGE, PAGE, MS_ASYNC), ENOMEM);
	CHECK_ERR(mprotect(BASE, PAGE, PROT_NONE), ENOMEM);
	CHECK_ERR(madvise(BASE, PAGE, MADV_DONTNEED), ENOMEM);
	CHECK_ERR(mremap(BASE, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
	CHECK_ERR(mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE), ENOMEM);
	CHECK(*p == (char)0xb8);
	CHECK(!munmap(BASE, END - BASE));
	CHECK(!mprotect(p, PAGE, PROT_READ | PROT_EXEC) && call(p) == 5);
}

static void outside(char *p)
{
	CHECK(p != MAP_FAILED && (p < BASE || p >= END));
}

/* The guest's mappings come where they come natively, and hints are followed. */
static void places(void)
{
	int fd = memfd_create("x", 0), shared_anon = MAP_SHARED | MAP_ANONYMOUS;
	int all = PROT_READ | PROT_WRITE | PROT_EXEC;
	char *p, *hint;

	CHECK(fd >= 0 && !ftruncate(fd, 8 * PAGE));
	p = anon(8, all);
	put(p, 1);
	CHECK(call(p) == 1);
	outside(p);
	outside(mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	outside(p);
	outside(mremap(p, 0, 8 * PAGE, MREMAP_MAYMOVE));
	p = mmap(NULL, 8 * PAGE, all, shared_anon, -1, 0);
	outside(p);
	outside(mremap(p, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE));
	outside(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
	outside(sbrk(PAGE));
	hint = anon(8, PROT_NONE);
	CHECK(!munmap(hint, 8 * PAGE));
	CHECK(mmap(hint, PAGE, all, shared_anon, -1, 0) == hint);
	CHECK(mmap(hint + PAGE, PAGE, PROT_READ, MAP_SHARED, fd, 0) == hint + PAGE);
	p = mmap(NULL, PAGE, all, shared_anon | MAP_32BIT, -1, 0);
	CHECK(p != MAP_FAILED && (uintptr_t)p < 1UL << 32);
	CHECK_ERR(mmap(hint, PAGE, all, shared_anon | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
}

/* The driver looks at the process's mappings while it is stopped. */
static void not_executable(void)
{
	int fd = memfd_create("x", 0);
	char *p = anon(4, PROT_READ | PROT_WRITE | PROT_EXEC), *q;

	CHECK(fd >= 0 && !ftruncate(fd, PAGE));
	q = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(q != MAP_FAILED);
	put(p, 7);
	CHECK(pwrite(fd, p, 6, 0) == 6);
	CHECK(call(p) == 7 && call(q) == 7);
	CHECK(!raise(SIGSTOP));
}

/* Ends by SIGSEGV: data is no code. */
static void run_data(void)
{
	char *p = anon(1, PROT_READ | PROT_WRITE);

	put(p, 1);
	puts("ok");
	fflush(stdout);
	call(p);
}

/* Ends by SIGSEGV: neither is the runtime. */
static void run_runtime(void)
{
	puts("ok");
	fflush(stdout);
	call(BASE + PAGE);
}

/* Runtime only: its descriptors cannot be seen, used or closed. */
static void descriptors(void)
{
	char *p = anon(1, PROT_READ | PROT_WRITE | PROT_EXEC), *s, c, name[64];
	struct epoll_event ev = { 0 };
	unsigned int seen = 0;
	int first, ep, round;
	struct dirent *de;
	struct rlimit lim;
	DIR *d;

	CHECK(!getrlimit(RLIMIT_NOFILE, &lim));
	first = (lim.rlim_max < 65536 ? lim.rlim_max : 65536) - GUARDED;
	put(p, 1);
	CHECK(call(p) == 1);		/* makes a view */
	ep = epoll_create1(0);
	CHECK(ep >= 0);
	for (int fd = first; fd < first + GUARDED; fd++) {
		CHECK_ERR(fcntl(fd, F_GETFD), EBADF);
		CHECK_ERR(read(fd, &c, 1), EBADF);
		CHECK_ERR(write(fd, &c, 1), EBADF);
		CHECK_ERR(dup(fd), EBADF);
		CHECK_ERR(dup2(fd, 5), EBADF);
		CHECK_ERR(dup2(1, fd), EBADF);
		CHECK_ERR(close(fd), EBADF);
		CHECK_ERR(lseek(fd, 0, SEEK_SET), EBADF);
		CHECK_ERR(ftruncate(fd, 0), EBADF);
		CHECK_ERR(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), EBADF);
		CHECK_ERR(sendfile(1, fd, NULL, 1), EBADF);
		CHECK_ERR(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0), EBADF);
		CHECK_ERR(openat(fd, "x", O_RDONLY), EBADF);
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		CHECK_ERR(open(name, O_RDWR), ENOENT);
		CHECK_ERR(readlink(name, name + 32, 32), ENOENT);
	}
	d = opendir("/proc/self/fd");
	CHECK(d);
	while ((de = readdir(d))) {
		CHECK(atoi(de->d_name) < first || atoi(de->d_name) >= first + GUARDED);
		seen++;
	}
	CHECK(seen >= 5);		/* ., .., 0, 1, 2 at least */
	closedir(d);
	for (round = 0; round < 2; round++) {
		if (!round)
			CHECK(!syscall(SYS_close_range, 3, ~0U, 0));
		else
			for (int fd = 3; fd < 65536; fd++)
				close(fd);
		/* Views can still be made, armed and written. */
		s = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		CHECK(s != MAP_FAILED);
		for (int i = 0; i < 5; i++) {
			put(p, i);
			put(s, i + 10);
			CHECK(call(p) == i && call(s) == i + 10);
		}
	}
}

/* The guest's own limit holds for it, and not for the runtime. */
static void limits(void)
{
	struct rlimit lim, got;
	int n = 0, fd;
	char *s;

	CHECK(!getrlimit(RLIMIT_NOFILE, &lim));
	lim.rlim_cur = 20;
	CHECK(!setrlimit(RLIMIT_NOFILE, &lim));
	CHECK(!getrlimit(RLIMIT_NOFILE, &got));
	CHECK(got.rlim_cur == 20 && got.rlim_max == lim.rlim_max);
	while ((fd = dup(1)) >= 0) {
		CHECK(fd < 20);
		n++;
	}
	CHECK(errno == EMFILE && n > 10);
	s = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(s != MAP_FAILED);
	put(s, 1);
	CHECK(call(s) == 1);
	put(s, 2);
	CHECK(call(s) == 2);
	/* Making the view has raised it only for a moment. */
	CHECK_ERR(dup(1), EMFILE);
}

static void proc_exe(void)
{
	char name[4096], at[64];
	struct stat a, b;
	ssize_t n;

	n = readlink("/proc/self/exe", name, sizeof(name) - 1);
	CHECK(n > 0);
	name[n] = '\0';
	CHECK(strstr(name, "tests/runtime/guest"));
	CHECK(!stat(name, &a));
	snprintf(at, sizeof(at), "/proc/%d/exe", getpid());
	n = open(at, O_RDONLY);
	CHECK(n >= 0 && !fstat(n, &b));
	CHECK(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
	/* A prefix of it, not terminated, as natively. */
	memset(at, 'x', sizeof(at));
	CHECK(readlink("/proc/self/exe", at, 5) == 5 && at[5] == 'x');
}

static void aux(void)
{
	CHECK(getauxval(AT_PAGESZ) == PAGE);
	CHECK(getauxval(AT_UID) == getuid());
	CHECK(getauxval(AT_RANDOM) && getauxval(AT_PHDR) && getauxval(AT_ENTRY));
	CHECK(!strcmp((char *)getauxval(AT_PLATFORM), "x86_64"));
	CHECK(strstr((char *)getauxval(AT_EXECFN), "guest"));
}

/* A hole punched through one mapping of a file that code runs from in another. */
static void holes(void)
{
	int fd = memfd_create("x", 0);
	char *rw, *rx;

	CHECK(fd >= 0 && !ftruncate(fd, 4 * PAGE));
	rw = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	rx = mmap(NULL, 4 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(rw != MAP_FAILED && rx != MAP_FAILED);
	for (int i = 0; i < 4; i++) {
		put(rw + PAGE, 10 + i);
		CHECK(call(rx + PAGE) == 10 + i);
		if (i == 0)
			CHECK(!madvise(rw + PAGE, PAGE, MADV_REMOVE));
		if (i == 1)
			CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					 PAGE, PAGE));
		if (i == 2)
			CHECK(!ftruncate(fd, 0) && !ftruncate(fd, 4 * PAGE));
		if (i < 3)
			CHECK(!rx[PAGE]);
	}
}

/* A disk file mapped shared and writable below a private mapping of it. */
static void below_private(void)
{
	char name[] = "/var/tmp/codewp-test-XXXXXX", *priv, *shared;
	char small[] = "/tmp/codewp-test-XXXXXX", *used = name;
	int fd = mkstemp(name);

	if (fd < 0) {			/* a machine without disks */
		used = small;
		fd = mkstemp(small);
	}
	CHECK(fd >= 0 && !ftruncate(fd, PAGE));
	unlink(used);
	priv = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	CHECK(priv != MAP_FAILED);
	for (int i = 0; i < 3; i++) {
		unsigned char code[6] = { 0xb8, i, 0, 0, 0, 0xc3 };

		CHECK(pwrite(fd, code, 6, 0) == 6);
		CHECK(call(priv) == i);
	}
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(shared != MAP_FAILED);
	for (int i = 10; i < 13; i++) {
		put(shared, i);
		CHECK(call(priv) == i);
	}
}

/* /proc/self/mem writes to any memory, whatever its protection. */
static void proc_mem(void)
{
	int fd = open("/proc/self/mem", O_RDWR);
	char *p[3] = {
		anon(1, PROT_READ | PROT_WRITE | PROT_EXEC),
		anon(1, PROT_READ | PROT_WRITE),
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0),
	};

	CHECK(fd >= 0);
	for (int k = 0; k < 3; k++) {
		put(p[k], 100);
		if (k == 1)
			CHECK(!mprotect(p[k], PAGE, PROT_READ | PROT_EXEC));
		CHECK(call(p[k]) == 100);
		for (int i = 0; i < 4; i++) {
			unsigned char code[6] = { 0xb8, i, 0, 0, 0, 0xc3 };

			if (i & 1)
				CHECK(pwrite(fd, code, 6, (off_t)p[k]) == 6);
			else
				CHECK(lseek(fd, (off_t)p[k], SEEK_SET) == (off_t)p[k] &&
				      write(fd, code, 6) == 6);
			CHECK(call(p[k]) == i);
		}
	}
}

/* Seals need that nothing of ours keeps the file mapped writable. */
static void seals(void)
{
	int fd = memfd_create("x", MFD_ALLOW_SEALING);
	char *p;

	CHECK(fd >= 0 && !ftruncate(fd, PAGE));
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	put(p, 3);
	CHECK(call(p) == 3);
	CHECK_ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	CHECK(!munmap(p, PAGE));
	CHECK(!fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	CHECK_ERR(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EPERM);
	p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED && call(p) == 3);
}

static void read_only_file(void)
{
	char name[] = "/dev/shm/codewp-test-XXXXXX", *rw, *rx;
	int fd = mkstemp(name), ro = open(name, O_RDONLY);

	CHECK(fd >= 0 && ro >= 0 && !ftruncate(fd, PAGE));
	unlink(name);
	CHECK_ERR(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0), EACCES);
	rx = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, ro, 0);
	rw = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(rw != MAP_FAILED && rx != MAP_FAILED);
	CHECK_ERR(mprotect(rx, PAGE, PROT_READ | PROT_WRITE), EACCES);
	for (int i = 0; i < 4; i++) {
		put(rw, i);
		CHECK(call(rx) == i);
	}
}

static void grow_and_shrink(void)
{
	char *p = anon(64, PROT_READ | PROT_WRITE | PROT_EXEC), *room, *q;

	for (int i = 0; i < 64; i += 9) {
		put(p + i * PAGE + 20, i);
		CHECK(call(p + i * PAGE + 20) == i);
	}
	p = mremap(p, 64 * PAGE, 128 * PAGE, MREMAP_MAYMOVE);
	CHECK(p != MAP_FAILED);
	for (int i = 0; i < 64; i += 9)
		CHECK(call(p + i * PAGE + 20) == i);
	CHECK(!p[127 * PAGE]);
	put(p + 127 * PAGE, 9);
	CHECK(call(p + 127 * PAGE) == 9);
	CHECK(mremap(p, 128 * PAGE, 20 * PAGE, 0) == p);
	room = anon(64, PROT_NONE);
	q = mremap(p, 20 * PAGE, 20 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + PAGE);
	CHECK(q == room + PAGE);
	for (int i = 0; i < 20; i += 9) {
		CHECK(call(q + i * PAGE + 20) == i);
		put(q + i * PAGE + 20, i + 1);
		CHECK(call(q + i * PAGE + 20) == i + 1);
	}
	CHECK(!madvise(q + 9 * PAGE, PAGE, MADV_DONTNEED) && !q[9 * PAGE + 20]);
	CHECK(call(q + 20) == 1);
	CHECK(!munmap(q + PAGE, 8 * PAGE));
	CHECK(call(q + 18 * PAGE + 20) == 19);
	CHECK_ERR(mprotect(q + PAGE, PAGE, PROT_READ), ENOMEM);
}

static void held_signals(void)
{
	struct timespec soon = { .tv_nsec = 10000000 };
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGSEGV);
	sigaddset(&set, SIGUSR1);
	CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
	CHECK_ERR(sigtimedwait(&set, &info, &soon), EAGAIN);
	CHECK(!raise(SIGSEGV) && !raise(SIGUSR1));
	CHECK(!sigpending(&set) && sigismember(&set, SIGSEGV) && sigismember(&set, SIGUSR1));
	CHECK(sigwaitinfo(&set, &info) == SIGUSR1 || info.si_signo == SIGSEGV);
	CHECK(sigwaitinfo(&set, &info) > 0);
	CHECK_ERR(sigtimedwait(&set, &info, &soon), EAGAIN);
}

/* Ends by SIGSEGV: blocked, and then unblocked with the default action. */
static void held_then_dies(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGSEGV);
	CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
	raise(SIGSEGV);
	puts("ok");
	fflush(stdout);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	puts("still here");
}

/* READ_IMPLIES_EXEC is the guest's idea only. */
static void implied_exec(void)
{
	int was = personality(0xffffffff);
	char *p;

	CHECK(!(was & READ_IMPLIES_EXEC));
	CHECK(personality(was | READ_IMPLIES_EXEC) == was);
	p = anon(1, PROT_READ | PROT_WRITE);
	for (int i = 0; i < 3; i++) {
		put(p, i);
		CHECK(call(p) == i);
	}
	CHECK(personality(was) & READ_IMPLIES_EXEC);
}

static const struct {
	const char *name;
	void (*fn)(void);
	int silent;	/* prints its own "ok" */
} cases[] = {
	{ "reserved", reserved, 0 },
	{ "places", places, 0 },
	{ "not_executable", not_executable, 0 },
	{ "run_data", run_data, 1 },
	{ "run_runtime", run_runtime, 1 },
	{ "descriptors", descriptors, 0 },
	{ "limits", limits, 0 },
	{ "proc_exe", proc_exe, 0 },
	{ "aux", aux, 0 },
	{ "holes", holes, 0 },
	{ "below_private", below_private, 0 },
	{ "proc_mem", proc_mem, 0 },
	{ "seals", seals, 0 },
	{ "read_only_file", read_only_file, 0 },
	{ "grow_and_shrink", grow_and_shrink, 0 },
	{ "held_signals", held_signals, 0 },
	{ "held_then_dies", held_then_dies, 1 },
	{ "implied_exec", implied_exec, 0 },
};

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "nothing"))
		return 0;
	for (size_t i = 0; argc > 1 && i < sizeof(cases) / sizeof(*cases); i++) {
		if (strcmp(argv[1], cases[i].name))
			continue;
		cases[i].fn();
		if (!cases[i].silent)
			puts("ok");
		return 0;
	}
	return 2;
}
