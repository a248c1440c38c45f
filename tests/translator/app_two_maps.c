// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A JIT compiler that keeps write and execute apart: one memory, mapped
 * writable in one place and executable in another, as Erlang's does. Code is
 * written through the one and run through the other, at once and again and
 * again, by one thread, by several, and by two processes.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES	16384
#define ROUNDS	2000

struct maps { unsigned char *w, *x; int fd; };

#define REQUIRE(cond) do {						\
	if (!(cond)) {							\
		printf("FAIL line %d: %s\n", __LINE__, #cond);		\
		exit(1);						\
	}								\
} while (0)

static struct maps both(const char *where)
{
	struct maps m;
	char name[40];

	if (!strcmp(where, "shm")) {
		snprintf(name, sizeof(name), "/two_maps.%d", getpid());
		m.fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0700);
		REQUIRE(m.fd >= 0 && !shm_unlink(name));
	} else {
		m.fd = memfd_create("jit", MFD_CLOEXEC);
		REQUIRE(m.fd >= 0);
	}
	REQUIRE(!ftruncate(m.fd, 2 * BYTES));
	m.w = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	m.x = mmap(NULL, BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, m.fd, 0);
	REQUIRE(m.w != MAP_FAILED && m.x != MAP_FAILED);
	return m;
}

/* The same memory twice without a name: mremap() of shared anonymous memory. */
static struct maps twice(void)
{
	struct maps m = { .fd = -1 };

	m.w = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(m.w != MAP_FAILED);
	m.x = mremap(m.w, 0, BYTES, MREMAP_MAYMOVE);
	REQUIRE(m.x != MAP_FAILED);
	REQUIRE(!mprotect(m.x, BYTES, PROT_READ | PROT_EXEC));
	return m;
}

/* mov $n, %eax; ret */
static void put(unsigned char *p, unsigned int n)
{
	p[0] = 0xb8;
	memcpy(p + 1, &n, 4);
	p[5] = 0xc3;
}

static unsigned int call(unsigned char *p)
{
	unsigned int (*fn)(void);

	memcpy(&fn, &p, sizeof(fn));
	return fn();
}

static void serialise(void)
{
	unsigned int a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) :: "memory");
}

static void one_thread(struct maps m)
{
	unsigned long sum = 0;

	/* patched in place, all over the memory, and appended */
	for (unsigned int i = 0; i < ROUNDS; i++) {
		unsigned int at = i * 4112 % (BYTES - 16);

		put(m.w + at, i);
		REQUIRE(call(m.x + at) == i);
		m.w[at + 1] ^= 1;
		sum += call(m.x + at);
		REQUIRE(call(m.x + at) == (i ^ 1));
	}
	/* by system call, which no store of ours shows */
	if (m.fd >= 0)
		for (unsigned int i = 0; i < 200; i++) {
			unsigned char code[6];

			put(code, i * 7);
			REQUIRE(pwrite(m.fd, code, 6, 64) == 6);
			REQUIRE(call(m.x + 64) == i * 7);
		}
	printf("%lu\n", sum);
}

static struct maps shared;
static _Atomic unsigned int version, seen;

/* As the manual asks for it: see the flag, serialise, run. */
static void *runs(void *arg)
{
	for (unsigned int i = 1; i <= ROUNDS; i++) {
		while (version < i)
			sched_yield();
		serialise();
		REQUIRE(call(shared.x + 128) == i);
		seen++;
	}
	return arg;
}

static void threads(void)
{
	pthread_t t[2];

	shared = both("memfd");
	put(shared.w + 128, 0);
	for (int i = 0; i < 2; i++)
		REQUIRE(!pthread_create(&t[i], NULL, runs, NULL));
	for (unsigned int i = 1; i <= ROUNDS; i++) {
		put(shared.w + 128, i);
		version = i;
		while (seen < 2 * i)
			sched_yield();
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	printf("%u\n", seen);
}

static void expect_child(pid_t pid)
{
	int status;

	REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
	REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The child inherits both mappings; what either writes, both run. */
static void after_fork(void)
{
	struct maps m = both("memfd");
	pid_t pid;

	put(m.w, 5);
	REQUIRE(call(m.x) == 5);
	pid = fork();
	if (!pid) {
		REQUIRE(call(m.x) == 5);
		put(m.w, 6);
		REQUIRE(call(m.x) == 6);
		_exit(0);
	}
	expect_child(pid);
	REQUIRE(call(m.x) == 6);
	printf("%u\n", call(m.x));
}

/*
 * A child has the mappings, and writes, until it executes another program. Nobody has
 * a descriptor. What the parent writes then, it runs.
 */
static void lent(char *self)
{
	struct maps m = both("memfd");
	_Atomic unsigned int *flag = (void *)(m.w + 8192);
	pid_t pid;

	close(m.fd);
	put(m.w, 5);
	REQUIRE(call(m.x) == 5);
	pid = fork();
	if (!pid) {
		for (unsigned int i = 1; i <= 200; i++) {
			put(m.w, i);
			flag[0] = i;
			while (flag[1] < i)
				usleep(10);
		}
		execl(self, self, "true", NULL);
		_exit(127);
	}
	for (unsigned int i = 1; i <= 200; i++) {
		while (flag[0] < i)
			usleep(10);
		serialise();
		REQUIRE(call(m.x) == i);
		flag[1] = i;
	}
	expect_child(pid);
	usleep(20000);
	for (unsigned int i = 0; i < 200; i++) {
		getppid();
		put(m.w, i);
		REQUIRE(call(m.x) == i);
	}
	printf("%u\n", call(m.x));
}

/* Another descriptor of what BYTES are mapped of there; only root may have it. */
static int reopen(const unsigned char *at)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/map_files/%lx-%lx", (unsigned long)at,
		 (unsigned long)at + BYTES);
	return open(name, O_RDWR);
}

/*
 * Two programs that have nothing in common but the file: each runs what the other
 * writes. They take turns by a byte through a pipe, and then by a flag in the
 * memory, with a serialising instruction. How the other comes to the file: by fork,
 * by vfork, or, when nobody has a descriptor any more, by one that the child makes.
 */
static void processes(char *self, const char *how)
{
	struct maps m = both("memfd");
	_Atomic unsigned int *flag = (void *)(m.w + 8192);
	/* of pages that hold no code: nothing is armed there, which can split a mapping */
	unsigned char *plain = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, m.fd, BYTES);
	int to[2], from[2];
	char fd[16], in[16], out[16], c;
	pid_t pid;

	put(m.w, 1);
	REQUIRE(call(m.x) == 1);
	REQUIRE(!pipe(to) && !pipe(from));
	if (!strcmp(how, "reopened")) {
		int again = reopen(plain);

		if (again < 0) {
			printf("not allowed\n");
			return;
		}
		close(again);
		close(m.fd);
		m.fd = again;		/* as the child's will be */
	} else {
		REQUIRE(!fcntl(m.fd, F_SETFD, 0));
	}
	snprintf(fd, sizeof(fd), "%d", m.fd);
	snprintf(in, sizeof(in), "%d", to[0]);
	snprintf(out, sizeof(out), "%d", from[1]);
	pid = strcmp(how, "vfork") ? fork() : vfork();
	if (!pid) {
		if (!strcmp(how, "reopened") && dup2(reopen(plain), m.fd) < 0)
			_exit(1);
		execl(self, self, "peer", fd, in, out, NULL);
		_exit(127);
	}
	for (unsigned int i = 0; i < 200; i++) {
		put(m.w + 64 * (i % 7), i);
		REQUIRE(write(to[1], "", 1) == 1);
		REQUIRE(read(from[0], &c, 1) == 1);
		/* time to see that the child has executed a program */
		usleep(i < 20 ? 1000 : 0);
		REQUIRE(call(m.x + 4096) == 1000 + i);
	}
	for (unsigned int i = 1; i <= 200; i++) {
		put(m.w + 256, i);
		flag[0] = i;
		while (flag[1] < i)
			usleep(10);
	}
	expect_child(pid);
	printf("%u\n", flag[1]);
}

static int peer(char **argv)
{
	struct maps m = { .fd = atoi(argv[2]) };
	_Atomic unsigned int *flag;
	char c;

	m.w = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	m.x = mmap(NULL, BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, m.fd, 0);
	REQUIRE(m.w != MAP_FAILED && m.x != MAP_FAILED);
	flag = (void *)(m.w + 8192);
	for (unsigned int i = 0; i < 200; i++) {
		REQUIRE(read(atoi(argv[3]), &c, 1) == 1);
		REQUIRE(call(m.x + 64 * (i % 7)) == i);
		put(m.w + 4096, 1000 + i);
		REQUIRE(write(atoi(argv[4]), "", 1) == 1);
	}
	for (unsigned int i = 1; i <= 200; i++) {
		while (flag[0] < i)
			usleep(10);
		serialise();
		REQUIRE(call(m.x + 256) == i);
		flag[1] = i;
	}
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 5 && !strcmp(argv[1], "peer"))
		return peer(argv);
	if (argc != 2)
		return 2;
	if (argc == 2 && !strcmp(argv[1], "true"))
		return 0;
	printf("%s\n", argv[1]);
	if (!strcmp(argv[1], "memfd") || !strcmp(argv[1], "shm"))
		one_thread(both(argv[1]));
	else if (!strcmp(argv[1], "anon"))
		one_thread(twice());
	else if (!strcmp(argv[1], "threads"))
		threads();
	else if (!strcmp(argv[1], "fork"))
		after_fork();
	else if (!strcmp(argv[1], "lent"))
		lent("/proc/self/exe");
	else if (!strcmp(argv[1], "processes"))
		processes("/proc/self/exe", "fork");
	else if (!strcmp(argv[1], "vfork") || !strcmp(argv[1], "reopened"))
		processes("/proc/self/exe", argv[1]);
	else
		return 2;
	return 0;
}
