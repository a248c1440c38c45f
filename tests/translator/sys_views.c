// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What a program finds out about itself: /proc/self, its descriptors, the page of
 * the vsyscalls. And that it cannot break the translator there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "guest.h"

static char text[1 << 20];

static size_t slurp_fd(int fd)
{
	size_t n = 0;
	ssize_t got;

	while ((got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += got;
	CHECK_EQ(got, 0);
	close(fd);
	text[n] = 0;
	return n;
}

static size_t slurp(const char *path)
{
	int fd = open(path, O_RDONLY);

	CHECK(fd >= 0);
	return slurp_fd(fd);
}

/* The line of text that has this address; NULL: none. */
static const char *line_of(const void *p)
{
	uintptr_t at = (uintptr_t)p;

	for (char *s = text; s && *s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL) {
		char *end;
		uintptr_t from = strtoul(s, &end, 16);

		if (*end == '-' && at >= from && at < strtoul(end + 1, NULL, 16))
			return s;
	}
	return NULL;
}

/* Everything of a line but the addresses, and inodes and devices. */
static void print_line(const char *what, const void *p)
{
	const char *s = line_of(p), *nl;
	char perms[8], off[20], dev[16], name[256] = "";
	unsigned long ino;

	if (!s) {
		printf("%s: not there\n", what);
		return;
	}
	nl = strchr(s, '\n');
	CHECK(nl);
	s = strchr(s, ' ');
	CHECK(sscanf(s, " %7s %19s %15s %lu", perms, off, dev, &ino) == 4);
	if (nl - s > 48 && strpbrk(s, "/[") && strpbrk(s, "/[") < nl) {
		const char *n = strpbrk(s, "/[");

		snprintf(name, sizeof(name), "%.*s", (int)(nl - n), n);
	}
	printf("%s: %s %s dev %s ino %s name '%s'\n", what, perms, off,
	       strcmp(dev, "00:00") ? "some" : "none", ino ? "some" : "none", name);
}

static char *map(size_t size, int prot, int flags, int fd, off_t off)
{
	char *p = mmap(NULL, size, prot, flags, fd, off);

	CHECK(p != MAP_FAILED);
	return p;
}

#define RWX (PROT_READ | PROT_WRITE | PROT_EXEC)

static void print_maps(const char *path)
{
	int memfd = memfd_create("some name", 0), file = open("/proc/self/exe", O_RDONLY);
	char *none = map(PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *rwx = map(3 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *ro = map(PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *shared, *anon, *code, *priv, *odd, local;
	FILE *out = stdout;

	CHECK(memfd >= 0 && file >= 0);
	CHECK(!ftruncate(memfd, 4 * PAGE));
	anon = map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shared = map(2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, PAGE);
	code = map(PAGE, RWX, MAP_SHARED, memfd, 0);
	priv = map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, PAGE);
	odd = map(3 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(!mprotect(odd + PAGE, PAGE, PROT_READ | PROT_EXEC));
	CHECK(!munmap(odd + 2 * PAGE, PAGE));
	put_ret_imm((uint8_t *)rwx + PAGE, 5);
	CHECK_EQ(run1(rwx + PAGE, 0), 5);
	put_ret_imm((uint8_t *)code, 6);
	CHECK_EQ(run1(code, 0), 6);
	setvbuf(out, NULL, _IONBF, 0);
	free(malloc(100000));

	slurp(path);
	print_line("PROT_NONE", none);
	print_line("code", rwx + PAGE);
	print_line("data beside code", rwx);
	print_line("read only", ro);
	print_line("shared anonymous", anon);
	print_line("shared", shared);
	print_line("shared code", code);
	print_line("file", priv);
	print_line("piece 1", odd);
	print_line("piece 2", odd + PAGE);
	print_line("hole", odd + 2 * PAGE);
	print_line("stack", &local);
	print_line("heap", sbrk(0) - 1);
	printf("the vsyscall page: %s\n", strstr(text, "[vsyscall]") ? "yes" : "no");
	printf("the vdso: %s\n", strstr(text, "[vdso]") ? "yes" : "no");
	CHECK(!strstr(text, "codewp-run") && !strstr(text, "[codewp") &&
	      !strstr(text, "memfd:codewp"));
	/* Nothing in the runtime's region. */
	for (const char *s = text; s && *s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL) {
		unsigned long start = strtoul(s, NULL, 16);

		if (strchr(s, '-') && strspn(s, "0123456789abcdef") >= 8)
			CHECK(start < 0x6a0000000000UL || start >= 0x6b0000000000UL);
	}
}

CASE(maps)
{
	print_maps("/proc/self/maps");
}

CASE(smaps)
{
	static const char *const fields[] = {
		"Size:", "KernelPageSize:", "Rss:", "Pss:", "Private_Dirty:", "Anonymous:", "VmFlags:",
	};
	char *p = map(8 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const char *s;

	for (int i = 0; i < 5; i++)
		p[i * PAGE] = 1;
	put_ret_imm((uint8_t *)p, 5);
	CHECK_EQ(run1(p, 0), 5);
	print_maps("/proc/self/smaps");
	s = line_of(p);
	CHECK(s);
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		s = strstr(s, fields[i]);
		CHECK(s);
		printf("%s\n", fields[i]);
	}
	CHECK(!strncmp(s, "VmFlags: rd wr ex", 17));
}

/* All ways to the same file. */
CASE(names_of_proc)
{
	char name[64], link[256], want[256];
	int dir, fd;
	ssize_t n;

	n = readlink("/proc/self/exe", want, sizeof(want) - 1);
	CHECK(n > 0);
	want[n] = 0;
	CHECK(strstr(want, "/sys_views"));
	snprintf(name, sizeof(name), "/proc/%d/exe", getpid());
	CHECK_EQ(readlink(name, link, sizeof(link)), n);
	snprintf(name, sizeof(name), "/proc/%d/task/%ld/exe", getpid(), syscall(SYS_gettid));
	CHECK_EQ(readlink(name, link, sizeof(link)), n);
	CHECK_EQ(readlink("/proc/thread-self/exe", link, sizeof(link)), n);
	CHECK(!strncmp(link, want, n));
	/* a part only */
	CHECK_EQ(readlink("/proc/self/exe", link, 3), 3);

	dir = open("/proc/self", O_RDONLY | O_DIRECTORY);
	CHECK(dir >= 0);
	fd = openat(dir, "maps", O_RDONLY);
	CHECK(fd >= 0);
	slurp_fd(fd);
	CHECK(!strstr(text, "codewp-run") && !strstr(text, "[codewp") &&
	      !strstr(text, "memfd:codewp"));
	CHECK(line_of(names_of_proc));
	fd = openat(dir, "exe", O_RDONLY);
	CHECK(fd >= 0);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	CHECK_EQ(readlink(name, link, sizeof(link)), n);
	CHECK(!strncmp(link, want, n));
	close(fd);
	CHECK(!chdir("/proc/self/task"));
	snprintf(name, sizeof(name), "%d/maps", getpid());
	CHECK(slurp(name) && !strstr(text, "codewp-run"));
	CHECK(line_of(names_of_proc));

	struct stat a, b;

	CHECK(!stat("/proc/self/exe", &a) && !stat(want, &b));
	CHECK(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
	CHECK(!lstat("/proc/self/exe", &a) && S_ISLNK(a.st_mode));
	CHECK(!access("/proc/self/exe", X_OK));
	printf("found\n");
}

/* The same descriptor shows what is there now, from the start again. */
CASE(maps_are_read_by_pieces)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t n = 0;

	CHECK(fd >= 0);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	CHECK_EQ(write(fd, "x", 1), -1);
	CHECK_EQ(errno, EBADF);
	while (read(fd, text + n, 7) > 0)
		n += strnlen(text + n, 7);
	text[n] = 0;
	CHECK(line_of(maps_are_read_by_pieces));
	printf("read\n");
}

CASE(arguments_and_environment)
{
	static const char *const args[] = { "arguments_and_environment" };
	const unsigned long *aux;
	size_t n = slurp("/proc/self/cmdline");

	CHECK(n > sizeof("arguments_and_environment"));
	CHECK(!strcmp(text + n - sizeof("arguments_and_environment"), args[0]));
	CHECK(strstr(text, "sys_views") && !strstr(text, "codewp-run"));
	printf("arguments end with '%s'\n", args[0]);
	n = slurp("/proc/self/auxv");
	aux = (const unsigned long *)text;
	for (size_t i = 0; i < n / 16; i++)
		if (aux[i * 2] && aux[i * 2] != AT_HWCAP)	/* libc changes that one */
			CHECK_EQ(aux[i * 2 + 1], getauxval(aux[i * 2]));
	CHECK_EQ(n % 16, 0);
	CHECK(n > 15 * 16);
	slurp("/proc/self/environ");
	CHECK(!getenv("HOME") || strstr(text, "="));
	slurp("/proc/self/comm");
	printf("name: %s", text);
}

static void list(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	CHECK(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	printf("%s: %d\n", dir, n);
}

/* Close what was given to us, and count what is left. */
static void only_three(void)
{
	CHECK(!syscall(SYS_close_range, 3, ~0U, 0));
}

CASE(listing_descriptors)
{
	struct stat st;
	char name[64];
	int hidden = 0;

	only_three();
	list("/proc/self/fd");
	list("/proc/self/fdinfo");
	list("/proc/thread-self/fd");
	for (int i = 3; i < 70000; i++) {
		if (fcntl(i, F_GETFD) != -1 || errno != EBADF)
			hidden++;
		if (i % 97)
			continue;
		snprintf(name, sizeof(name), "/proc/self/fd/%d", i);
		hidden += !lstat(name, &st);
		snprintf(name, sizeof(name), "/dev/fd/%d", i);
		hidden += !stat(name, &st);
	}
	CHECK_EQ(hidden, 0);
	printf("none hidden\n");
}

/* Whatever a program closes, code that it makes afterwards runs. */
CASE(code_after_closing_all)
{
	uint8_t *code;
	int fd;

	for (int i = 3; i < 70000; i++)
		close(i);
	for (int i = 3; i < 70000; i += 13)
		CHECK_EQ(dup2(99999, i), -1);
	only_three();
	CHECK_EQ(syscall(SYS_close_range, 3, ~0U, 4 /* CLOEXEC */), 0);
	for (enum place where = PLACE_ANON; where < PLACE_COUNT; where++) {
		code = place_get(where, 2);
		for (int i = 0; i < 10; i++) {
			put_ret_imm(code, i + 100 * where);
			CHECK_EQ(run1(code, 0), i + 100 * where);
		}
	}
	fd = open("/dev/null", O_RDONLY);
	CHECK_EQ(fd, 3);
	printf("runs\n");
}

CASE(limit_of_descriptors)
{
	struct rlimit lim = { 20, 0 }, now;
	int fds[2], n = 0, sv[2];

	CHECK(!getrlimit(RLIMIT_NOFILE, &now));
	lim.rlim_max = now.rlim_max;
	only_three();
	CHECK(!setrlimit(RLIMIT_NOFILE, &lim));
	/* memory that needs descriptors of the translator's own */
	for (int i = 0; i < 4; i++) {
		uint8_t *code = place_get(i % 2 ? PLACE_ANON : PLACE_SHARED, 1);

		put_ret_imm(code, i);
		CHECK_EQ(run1(code, 0), i);
	}
	while (dup(0) >= 0)
		n++;
	printf("%d, then %s\n", n, strerrorname_np(errno));
	CHECK_EQ(close(19), 0);
	CHECK_EQ(pipe(fds), -1);
	CHECK_EQ(errno, EMFILE);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), -1);
	CHECK_EQ(errno, EMFILE);
	CHECK_EQ(open("/dev/null", O_RDONLY), 19);
	CHECK_EQ(open("/dev/null", O_RDONLY), -1);
	CHECK_EQ(dup2(0, 20), -1);
	CHECK_EQ(errno, EBADF);
	CHECK_EQ(fcntl(0, F_DUPFD, 20), -1);
	CHECK_EQ(errno, EINVAL);
	CHECK_EQ(fcntl(0, F_DUPFD, 19), -1);
	CHECK_EQ(errno, EMFILE);
	lim.rlim_cur = lim.rlim_max = 15;
	CHECK(!setrlimit(RLIMIT_NOFILE, &lim));
	CHECK(!getrlimit(RLIMIT_NOFILE, &now));
	printf("%lu %lu\n", now.rlim_cur, now.rlim_max);
	lim.rlim_cur = 16;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &lim), -1);
	printf("%s\n", strerrorname_np(errno));
}

static void *open_and_close(void *arg)
{
	unsigned int seed = (uintptr_t)arg;

	for (int i = 0; i < 3000; i++) {
		int fd = open(i & 1 ? "/dev/null" : "/proc/self/fd", O_RDONLY), other;

		CHECK(fd >= 3 && fd < 1024);
		other = rand_r(&seed) & 1 ? dup(fd) : fcntl(fd, F_DUPFD_CLOEXEC, 100);
		CHECK(other >= 3 && other < 1024);
		CHECK_EQ(close(fd), 0);
		CHECK_EQ(close(other), 0);
	}
	return NULL;
}

static void *make_code(void *arg)
{
	for (int i = 0; i < 150; i++) {
		uint8_t *p = (uint8_t *)map(PAGE, RWX, (i & 1 ? MAP_SHARED : MAP_PRIVATE) |
					    MAP_ANONYMOUS, -1, 0);

		put_ret_imm(p, i);
		CHECK_EQ(run1(p, 0), i);
		put_ret_imm(p, i + 1);
		CHECK_EQ(run1(p, 0), i + 1);
		CHECK(!munmap(p, PAGE));
	}
	return arg;
}

/* Descriptors that come and go in some threads, code in others. */
CASE(descriptors_of_threads)
{
	pthread_t t[6];

	only_three();
	for (uintptr_t i = 0; i < 6; i++)
		CHECK(!pthread_create(&t[i], NULL, i < 4 ? open_and_close : make_code,
				      (void *)i));
	for (int i = 0; i < 6; i++)
		CHECK(!pthread_join(t[i], NULL));
	list("/proc/self/fd");
}

/* A descriptor of /proc/self/mem that has come by a message is still one. */
CASE(received_descriptor_writes_code)
{
	char control[CMSG_SPACE(sizeof(int))] = "", byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int sv[2], mem = open("/proc/self/mem", O_RDWR);
	uint8_t *code = place_get(PLACE_ANON, 1), bytes[8];

	CHECK(mem >= 0);
	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &mem, sizeof(int));
	CHECK_EQ(sendmsg(sv[0], &m, 0), 1);
	CHECK(!close(mem));
	CHECK_EQ(recvmsg(sv[1], &m, 0), 1);
	memcpy(&mem, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	for (int i = 0; i < 20; i++) {
		put_ret_imm(bytes, i);
		CHECK_EQ(pwrite(mem, bytes, 6, (off_t)code), 6);
		CHECK_EQ(run1(code, 0), i);
	}
	printf("written\n");
}

CASE(poll_of_closed)
{
	struct pollfd p[3] = { { 0, 0, 0 }, { 500, POLLIN, 0 }, { 65000, POLLIN, 0 } };

	only_three();
	CHECK_EQ(poll(p, 3, 0), 2);
	for (int i = 0; i < 3; i++)
		printf("%d: %x\n", p[i].fd, p[i].revents);
	CHECK_EQ(p[2].fd, 65000);
}

CASE(nothing_to_send)
{
	int sv[2], epoll = syscall(SYS_epoll_create1, 0), refused = 0;

	only_three();
	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	epoll = syscall(SYS_epoll_create1, 0);
	for (int fd = 10; fd < 66000; fd++) {
		uint64_t event[2] = { 1, 0 };

		if (fd > 100 && fd % 31)
			continue;
		refused += syscall(SYS_epoll_ctl, epoll, 1, fd, event) == -1 && errno == EBADF;
		CHECK_EQ(fcntl(fd, F_DUPFD, 0), -1);
	}
	printf("%d refused\n", refused);
}

/* The three calls of the vsyscall page, by their addresses. */
CASE(vsyscalls)
{
	long (*gtod)(struct timeval *, void *) = (void *)0xffffffffff600000;
	long (*tell_time)(long *) = (void *)0xffffffffff600400;
	long (*cpu)(unsigned int *, unsigned int *, void *) = (void *)0xffffffffff600800;
	unsigned int which = ~0U, node = ~0U;
	struct timeval tv = { 0 }, now;
	long t = 0;

	slurp("/proc/self/maps");
	if (!strstr(text, "[vsyscall]")) {
		printf("no such page\n");
		return;
	}
	CHECK_EQ(gtod(&tv, NULL), 0);
	CHECK(!gettimeofday(&now, NULL));
	CHECK(now.tv_sec - tv.tv_sec >= 0 && now.tv_sec - tv.tv_sec <= 2);
	CHECK_EQ(gtod(NULL, NULL), 0);
	CHECK(tell_time(&t) - tv.tv_sec <= 2);
	CHECK_EQ(tell_time(NULL) - t <= 2, 1);
	CHECK_EQ(cpu(&which, &node, NULL), 0);
	CHECK(which < 4096 && node < 4096);
	printf("called\n");
}

CASE(dies_in_the_vsyscall_page)
{
	void (*fn)(void) = (void *)0xffffffffff600010;

	fn();
	printf("alive\n");
}

CASE(prctl_auxv)
{
	unsigned long aux[64] = { 0 };
	long n = prctl(0x41555856, aux, sizeof(aux), 0, 0);

	if (n < 0 && errno == EINVAL) {
		printf("a kernel without\n");
		return;
	}
	for (long i = 0; i < n / 16 && aux[i * 2]; i++)
		if (aux[i * 2] != AT_HWCAP)
			CHECK_EQ(aux[i * 2 + 1], getauxval(aux[i * 2]));
	printf("%s\n", n > 100 ? "there" : "short");
}

/* An ioctl whose structure reaches into a page that has code. */
CASE(driver_writes_beside_code)
{
	uint8_t *p = place_get(PLACE_ANON, 2);
	struct fiemap *f = (struct fiemap *)(p + PAGE - sizeof(*f));
	int fd = temp_file(0);

	CHECK_EQ(write(fd, text, 3 * PAGE), 3 * PAGE);
	for (int i = 0; i < 5; i++) {
		put_ret_imm(p + PAGE, i);
		CHECK_EQ(run1(p + PAGE, 0), i);
		put_ret_imm(p + PAGE + 2000, i + 1);
		CHECK_EQ(run1(p + PAGE + 2000, 0), i + 1);
		*f = (struct fiemap){
			.fm_length = ~0UL, .fm_flags = FIEMAP_FLAG_SYNC, .fm_extent_count = 20,
		};
		if (ioctl(fd, FS_IOC_FIEMAP, f)) {
			printf("%s\n", strerrorname_np(errno));
			return;
		}
		CHECK(f->fm_mapped_extents);
		CHECK_EQ(f->fm_extents[0].fe_logical, 0);
		CHECK(f->fm_extents[0].fe_length >= PAGE);
		CHECK_EQ(run1(p + PAGE + 2000, 0), i + 1);
	}
	printf("written\n");
}
