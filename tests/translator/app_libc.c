// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * An ordinary C program's life: arguments, environment, auxiliary vector,
 * stdio, floating point, locale, setjmp, qsort, malloc, files, time.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <wchar.h>

#include "guest.h"

extern char **environ;

CASE(environment)
{
	for (char **e = environ; *e; e++)
		printf("%s\n", *e);
	printf("exec %s\n", (char *)getauxval(AT_EXECFN));
}

CASE(auxiliary_vector)
{
	/* what does not depend on the kernel's layout of this very process */
	printf("page %lu clock %lu secure %lu\n", getauxval(AT_PAGESZ),
	       getauxval(AT_CLKTCK), getauxval(AT_SECURE));
	printf("uid %lu euid %lu gid %lu egid %lu\n", getauxval(AT_UID),
	       getauxval(AT_EUID), getauxval(AT_GID), getauxval(AT_EGID));
	printf("hwcap %lx platform %s\n", getauxval(AT_HWCAP), (char *)getauxval(AT_PLATFORM));
	printf("phnum %lu phent %lu\n", getauxval(AT_PHNUM), getauxval(AT_PHENT));
	CHECK(getauxval(AT_PHDR));
	CHECK(getauxval(AT_RANDOM));
	CHECK(getauxval(AT_ENTRY));
}

CASE(floating_point)
{
	for (int i = 1; i < 20; i++) {
		double x = i * 1.2345;
		long double l = x * 3.3L;

		printf("%.17g %.10f %e %a %Lg %.20Lf\n", sqrt(x), sin(x), exp(x), pow(x, i / 3.0),
		       l, sqrtl(l));
	}
	printf("%g %g %g %f\n", 1.0 / 0.0, -1.0 / 0.0, nan(""), strtod("0x1.8p3", NULL));
	for (int i = 0; i < 300; i += 37)
		printf("%.15g\n", strtod("1.7976931348623157e308", NULL) / pow(10, i));
}

CASE(strings_and_locale)
{
	char buf[200];
	wchar_t w[50];

	printf("%s\n", setlocale(LC_ALL, "C.UTF-8") ?: "no C.UTF-8");
	printf("%zu\n", mbstowcs(w, "gr\xc3\xbc\xc3\x9f dich", 50));
	printf("%ls %d\n", w, toupper('x'));
	for (int i = 0; i < 100; i++) {
		snprintf(buf, sizeof(buf), "%0*d %-*x| %+d %#o %'d", i % 20, i * 7919, i % 15,
			 i * 31337, -i, i, i * 100000);
		printf("%s %zu %zu\n", buf, strlen(buf), strcspn(buf, "|"));
	}
	memset(buf, 'a', 150);
	buf[150] = 0;
	for (int i = 0; i < 140; i += 13)
		printf("%zu %d %zd\n", strlen(buf + i), memcmp(buf, buf + i, 10),
		       (char *)memchr(buf + i, 0, 200 - i) - buf);
}

static jmp_buf env;
static volatile int depth;

static __attribute__((noinline)) void jump(int n)
{
	depth++;
	if (n <= 0)
		longjmp(env, 7);
	if (depth < 100000)	/* always; the compiler does not know */
		jump(n - 1);
	depth--;
}

CASE(set_and_long_jump)
{
	for (volatile int i = 0; i < 100; i++) {
		int v = setjmp(env);

		if (!v)
			jump(i % 17);
		CHECK_EQ(v, 7);
	}
	printf("%d\n", depth);
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

CASE(sorting)
{
	static int v[20000];
	unsigned int x = 1;

	for (int i = 0; i < 20000; i++)
		v[i] = (x = x * 1103515245 + 12345) >> 8;
	qsort(v, 20000, sizeof(int), compare);
	for (int i = 1; i < 20000; i++)
		CHECK(v[i - 1] <= v[i]);
	printf("%d %d\n", v[0], v[19999]);
}

CASE(memory)
{
	void *p[500] = { 0 };
	unsigned int x = 1;
	size_t total = 0;
	uint8_t *big;

	for (int i = 0; i < 20000; i++) {
		unsigned int k = (x = x * 1103515245 + 12345) >> 8;
		size_t size = k % 100 ? k % 3000 : k % 3000000;

		free(p[k % 500]);
		p[k % 500] = malloc(size + 1);
		CHECK(p[k % 500]);
		memset(p[k % 500], k, size < 4096 ? size + 1 : 4096);
		total += size;
	}
	for (int i = 0; i < 500; i++)
		free(p[i]);
	printf("%zu\n", total);
	big = mmap(NULL, 4UL << 30, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(big != MAP_FAILED);
	for (size_t i = 0; i < 4UL << 30; i += 1UL << 26)
		big[i] = i >> 26;
	for (size_t i = 0; i < 4UL << 30; i += 1UL << 26)
		CHECK_EQ(big[i], (uint8_t)(i >> 26));
	CHECK(!munmap(big, 4UL << 30));
}

CASE(files)
{
	char name[] = "/tmp/guestdir.XXXXXX", path[100], buf[100];
	struct dirent *e;
	struct stat st;
	int n = 0;
	FILE *f;
	DIR *d;

	CHECK(mkdtemp(name));
	for (int i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "%s/%d", name, i);
		f = fopen(path, "w+");
		CHECK(f);
		fprintf(f, "line %d\n", i);
		rewind(f);
		CHECK(fgets(buf, sizeof(buf), f));
		fputs(buf, stdout);
		fclose(f);
		CHECK(!stat(path, &st));
		printf("%ld %o\n", (long)st.st_size, st.st_mode & 0700);
	}
	d = opendir(name);
	CHECK(d);
	while ((e = readdir(d)))
		n++;
	closedir(d);
	printf("%d entries\n", n);
	for (int i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "%s/%d", name, i);
		CHECK(!unlink(path));
	}
	CHECK(!rmdir(name));
	CHECK(!fopen(path, "r"));
	printf("%s\n", strerror(errno));
}

CASE(descriptors)
{
	int a = open("/dev/null", O_RDWR), b = dup(a), c = fcntl(a, F_DUPFD, 20);
	struct rlimit r;

	/* the lowest free number each time: the translator's own are not seen */
	printf("%d %d %d\n", a, b, c);
	close(a);
	printf("%d\n", dup(b));
	CHECK_EQ(dup2(b, 100), 100);
	CHECK_EQ(fcntl(100, F_GETFD), 0);
	CHECK(!close_range(3, ~0U, 0));
	CHECK_EQ(fcntl(100, F_GETFD), -1);
	CHECK_EQ(open("/dev/null", O_RDONLY), 3);
	CHECK(!getrlimit(RLIMIT_NOFILE, &r));
	printf("%lu\n", (unsigned long)r.rlim_cur);
	/* and code still runs after it */
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		for (int i = 0; i < 20; i++) {
			put_ret_imm(p, i);
			CHECK_EQ(run1(p, 0), i);
		}
	}
}

CASE(close_everything)
{
	/* what daemons do; the translator must survive it */
	for (int i = 3; i < 4096; i++)
		close(i);
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		put_ret_imm(p, w);
		CHECK_EQ(run1(p, 0), w);
	}
}

CASE(proc_self_exe)
{
	char buf[200] = { 0 }, *s;

	CHECK(readlink("/proc/self/exe", buf, sizeof(buf) - 1) > 0);
	s = strrchr(buf, '/');
	printf("%s\n", s ? s + 1 : buf);
	CHECK(!access("/proc/self/exe", X_OK));
}

CASE(time_passes)
{
	struct timespec a, b, d = { 0, 20000000 };

	CHECK(!clock_gettime(CLOCK_MONOTONIC, &a));
	CHECK(!nanosleep(&d, NULL));
	CHECK(!clock_gettime(CLOCK_MONOTONIC, &b));
	CHECK((b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec >= 20000000);
	CHECK(time(NULL) > 1000000);
	CHECK(clock() >= 0);
}

static volatile uintptr_t bad = 8;	/* volatile: the compiler need not know */

CASE(bad_pointers)
{
	uint8_t *p = place_get(PLACE_ANON, 2);

	CHECK(!munmap(p + PAGE, PAGE));
	CHECK_EQ(write(1, (void *)bad, 10), -1);
	CHECK_EQ(errno, EFAULT);
	CHECK_EQ(read(0, (void *)0x7ffffffff000, 10), -1);
	CHECK_EQ(pipe((int *)(p + PAGE - 4)), -1);
	CHECK_EQ(errno, EFAULT);
	CHECK_EQ(open((char *)p + PAGE, O_RDONLY), -1);
	CHECK_EQ(errno, EFAULT);
	CHECK_EQ(mmap((void *)1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		 MAP_FAILED);
	CHECK_EQ(errno, EINVAL);
	CHECK_EQ(mprotect((void *)0x1000, PAGE, PROT_READ), -1);
	CHECK_EQ(errno, ENOMEM);
	CHECK_EQ(munmap(p + 1, PAGE), -1);
	CHECK_EQ(errno, EINVAL);
}

CASE(copy_stdin)
{
	char buf[1000];
	ssize_t n;
	long total = 0;

	while ((n = read(0, buf, sizeof(buf))) > 0) {
		CHECK_EQ(write(1, buf, n), n);
		total += n;
	}
	printf("\n%ld\n", total);
}

CASE(ignored_signals)
{
	struct sigaction sa, old;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = SIG_IGN;
	CHECK(!sigaction(SIGUSR1, &sa, &old));
	CHECK(old.sa_handler == SIG_DFL);
	CHECK(!raise(SIGUSR1));
	CHECK(!sigaction(SIGUSR1, NULL, &old));
	CHECK(old.sa_handler == SIG_IGN);
	CHECK(!sigaction(SIGSEGV, NULL, &old));
	CHECK(old.sa_handler == SIG_DFL);
	/* blocked ones stay pending and are taken by sigtimedwait */
	sigset_t set;
	struct timespec zero = { 0, 0 };
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
	CHECK(!raise(SIGUSR2));
	CHECK_EQ(sigtimedwait(&set, &info, &zero), SIGUSR2);
}
