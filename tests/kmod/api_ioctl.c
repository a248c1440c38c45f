// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Every ioctl and every mmap with every kind of wrong argument: the errno is the
 * documented one, and nothing has changed afterwards: not the page states, not
 * the counters, not the number of open descriptors.
 */
#include "kmod_test.h"

#include <dirent.h>
#include <sys/eventfd.h>
#include <sys/poll.h>
#include <sys/resource.h>

#define VIEW_PAGES 8
#define VIEW_BYTES (VIEW_PAGES * PAGE)
#define RING 65536

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	ASSERT(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static unsigned int views_now(void)
{
	struct codewp_info info = {};

	ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_INFO, &info));
	return info.views;
}

/* ---- INFO, and numbers that are no ioctl ---- */

TEST(info)
{
	struct codewp_info info;

	memset(&info, 0, sizeof(info));
	ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_INFO, &info));
	ASSERT_EQ(info.version, CODEWP_API_VERSION);
	ASSERT_EQ(info.page_size, PAGE);
	/* STOP comes and goes with codewp_kvm. */
	ASSERT_EQ(info.features & ~CODEWP_FEATURE_STOP,
		  CODEWP_FEATURE_UPCALL | CODEWP_FEATURE_KICK | CODEWP_FEATURE_ANON);
	ASSERT_GT(info.max_view_bytes, PAGE);
	ASSERT_GE(info.max_ring_bytes, PAGE);
	ASSERT_GT(info.max_views, 0);
	info.reserved0 = 1;
	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_INFO, &info), EINVAL);
	memset(&info, 0, sizeof(info));
	info.reserved[2] = 1;
	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_INFO, &info), EINVAL);
	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_INFO, NULL), EFAULT);
}

TEST(unknown_ioctl)
{
	int memfd = kt_memfd(PAGE), view = kt_view(memfd, PAGE, 0), thread;
	uint64_t buf[64] = {};

	thread = ASSERT_OK(kt_try_thread(CODEWP_THREAD_SIGNAL, NULL, NULL, -1));
	for (int nr = 0; nr < 256; nr++) {
		unsigned int cmd = _IOC(_IOC_READ | _IOC_WRITE, CODEWP_IOC_MAGIC,
					nr, 64);

		if (nr > 1 && nr != 3)
			ASSERT_ERRNO(ioctl(kt_dev(), cmd, buf), ENOTTY);
		if (nr < 0x10 || nr > 0x12)
			ASSERT_ERRNO(ioctl(view, cmd, buf), ENOTTY);
		ASSERT_ERRNO(ioctl(thread, cmd, buf), ENOTTY);
	}
	/* The right number with the wrong direction, or another magic. */
	ASSERT_ERRNO(ioctl(kt_dev(), _IOC(_IOC_READ, CODEWP_IOC_MAGIC, 1,
					  sizeof(struct codewp_view_create)), buf),
		     ENOTTY);
	ASSERT_ERRNO(ioctl(view, _IOC(_IOC_READ | _IOC_WRITE, 0xC9, 0x10,
				      sizeof(struct codewp_arm)), buf), ENOTTY);
	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_ARM, buf), ENOTTY);
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_VIEW, buf), ENOTTY);
}

/* ---- sizes: an older or newer user space ---- */

static unsigned int resize(unsigned int cmd, unsigned int size)
{
	return _IOC(_IOC_DIR(cmd), _IOC_TYPE(cmd), _IOC_NR(cmd), size);
}

TEST(structure_sizes)
{
	struct {
		struct codewp_arm a;
		uint64_t more[4];
	} big = { .a.length = PAGE };
	struct {
		struct codewp_stat s;
		uint64_t more[4];
	} stat;
	struct {
		struct codewp_view_create c;
		uint64_t more;
	} create = { .c.length = PAGE, .c.ring_fd = -1 };
	int memfd = kt_memfd(PAGE), view = kt_view(memfd, PAGE, 0);

	/* Smaller than version 1: nothing is known to be missing. */
	ASSERT_ERRNO(ioctl(view, resize(CODEWP_IOC_ARM, sizeof(big.a) - 8), &big),
		     EINVAL);
	ASSERT_ERRNO(ioctl(view, resize(CODEWP_IOC_STAT, 8), &stat), EINVAL);
	/* Larger: fine while the rest is zero. */
	ASSERT_OK(ioctl(view, resize(CODEWP_IOC_ARM, sizeof(big)), &big));
	ASSERT_EQ(big.a.done, PAGE);
	big.more[3] = 1;
	ASSERT_ERRNO(ioctl(view, resize(CODEWP_IOC_ARM, sizeof(big)), &big), E2BIG);
	/* What a newer user space would read is zero. */
	memset(&stat, 0xff, sizeof(stat));
	ASSERT_OK(ioctl(view, resize(CODEWP_IOC_STAT, sizeof(stat)), &stat));
	ASSERT_EQ(stat.s.arms, 1);
	for (int i = 0; i < 4; i++)
		ASSERT_EQ(stat.more[i], 0);
	create.c.memfd = memfd;
	close(ASSERT_OK(ioctl(kt_dev(), resize(CODEWP_IOC_VIEW, sizeof(create)),
			      &create)));
	create.more = 1;
	ASSERT_ERRNO(ioctl(kt_dev(), resize(CODEWP_IOC_VIEW, sizeof(create)),
			   &create), E2BIG);
}

/* ---- VIEW ---- */

static struct codewp_view_create good_view(int memfd)
{
	return (struct codewp_view_create) {
		.memfd = memfd, .length = VIEW_BYTES, .ring_fd = -1,
	};
}

#define BAD_VIEW(err, ...) do {						\
	struct codewp_view_create c_ = good_view(memfd);		\
	__VA_ARGS__;							\
	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_VIEW, &c_), err);	\
	ASSERT_EQ(c_.id, 0);						\
	ASSERT_EQ(open_fds(), fds);					\
	ASSERT_EQ(views_now(), views);					\
} while (0)

TEST(view_wrong_arguments)
{
	int memfd = kt_memfd(VIEW_BYTES), view = kt_view(memfd, VIEW_BYTES, 0);
	unsigned int views;
	int fds;

	kt_dev();
	views = views_now();
	fds = open_fds();
	BAD_VIEW(EINVAL, c_.flags = 2);
	BAD_VIEW(EINVAL, c_.flags = 1U << 31);
	BAD_VIEW(EINVAL, c_.clients = 8);
	BAD_VIEW(EINVAL, c_.reserved[0] = 1);
	BAD_VIEW(EINVAL, c_.reserved[2] = 1ULL << 63);
	BAD_VIEW(EINVAL, c_.offset = 1);
	BAD_VIEW(EINVAL, c_.offset = 512);
	BAD_VIEW(EINVAL, c_.length = 0);
	BAD_VIEW(EINVAL, c_.length = PAGE + 1);
	BAD_VIEW(EOVERFLOW, c_.offset = -PAGE);
	BAD_VIEW(EOVERFLOW, c_.offset = 1ULL << 63);
	BAD_VIEW(EOVERFLOW, c_.offset = (1ULL << 63) - PAGE);
	BAD_VIEW(EFBIG, c_.length = 1ULL << 62);
	BAD_VIEW(EBADF, c_.memfd = -1);
	BAD_VIEW(EBADF, c_.memfd = 9999);
	BAD_VIEW(EINVAL, c_.ring_fd = -2);
	BAD_VIEW(EBADF, c_.ring_fd = 9999);
	BAD_VIEW(EINVAL, c_.ring_fd = memfd);
	BAD_VIEW(EINVAL, c_.ring_fd = kt_dev());
	BAD_VIEW(EINVAL, c_.ring_fd = view; c_.ring_bytes = PAGE);
	BAD_VIEW(EINVAL, c_.ring_bytes = 64);
	BAD_VIEW(EINVAL, c_.ring_bytes = 3 * PAGE);
	BAD_VIEW(EFBIG, c_.ring_bytes = 1U << 31);
	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_VIEW, NULL), EFAULT);

	/* A good argument in memory that cannot be written: no view is left. */
	struct codewp_view_create *ro = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*ro = good_view(memfd);
	ASSERT_OK(mprotect(ro, PAGE, PROT_READ));
	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_VIEW, ro), EFAULT);
	ASSERT_EQ(open_fds(), fds);
	ASSERT_EQ(views_now(), views);
}

TEST(view_wrong_files)
{
	int memfd = kt_memfd(VIEW_BYTES), fd, pipefd[2], fds;
	char path[64];
	unsigned int views;

	kt_dev();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	views = views_now();

	fd = ASSERT_OK(open(path, O_RDONLY));
	fds = open_fds();
	BAD_VIEW(EACCES, c_.memfd = fd);
	close(fd);
	fd = ASSERT_OK(open(path, O_WRONLY));
	BAD_VIEW(EACCES, c_.memfd = fd);
	close(fd);
	fd = ASSERT_OK(open(path, O_PATH));
	BAD_VIEW(EBADF, c_.memfd = fd);
	close(fd);
	fd = ASSERT_OK(open("/dev/null", O_RDWR));
	BAD_VIEW(EOPNOTSUPP, c_.memfd = fd);
	close(fd);
	fd = ASSERT_OK(eventfd(0, 0));
	BAD_VIEW(EOPNOTSUPP, c_.memfd = fd);
	close(fd);
	fd = kt_view(memfd, PAGE, 0);
	views++;
	BAD_VIEW(EOPNOTSUPP, c_.memfd = fd);	/* a view of a view */
	close(fd);
	views--;
	fd = ASSERT_OK(open("/proc", O_RDONLY | O_DIRECTORY));
	BAD_VIEW(EOPNOTSUPP, c_.memfd = fd);
	close(fd);
	ASSERT_OK(pipe(pipefd));
	fds++;
	BAD_VIEW(EOPNOTSUPP, c_.memfd = pipefd[1]);
	close(pipefd[0]);
	close(pipefd[1]);
	fds--;
	fd = memfd_create("huge", MFD_HUGETLB);
	if (fd >= 0) {
		BAD_VIEW(EOPNOTSUPP, c_.memfd = fd);
		close(fd);
	}
}

TEST(view_sealed_files)
{
	static const int sealed[] = { F_SEAL_WRITE, F_SEAL_FUTURE_WRITE };
	unsigned int views;
	int fds;

	kt_dev();
	for (int i = 0; i < 2; i++) {
		int memfd = kt_memfd(VIEW_BYTES);

		ASSERT_OK(fcntl(memfd, F_ADD_SEALS, sealed[i]));
		views = views_now();
		fds = open_fds();
		BAD_VIEW(EPERM, );
		close(memfd);
	}
	/* These do not stop writes. */
	int memfd = kt_memfd(VIEW_BYTES);
	int view;

	ASSERT_OK(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	view = kt_view(memfd, VIEW_BYTES, 0);
	/* A view is a writer: no F_SEAL_WRITE while it lives. */
	ASSERT_ERRNO(fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	/* F_SEAL_FUTURE_WRITE forbids new writable mappings of it, too. */
	ASSERT_OK(fcntl(memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	ASSERT(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, view, 0) ==
	       MAP_FAILED && errno == EPERM);
	ASSERT_OK(close(view));
	ASSERT_OK(fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE));
}

TEST(view_overlaps)
{
	int memfd = kt_memfd(VIEW_BYTES), a, b;

	a = ASSERT_OK(kt_try_view(memfd, 0, 4 * PAGE, CODEWP_VIEW_PRIVATE));
	ASSERT_ERRNO(kt_try_view(memfd, 3 * PAGE, PAGE, 0), EBUSY);
	ASSERT_ERRNO(kt_try_view(memfd, 0, VIEW_BYTES, CODEWP_VIEW_PRIVATE), EBUSY);
	b = ASSERT_OK(kt_try_view(memfd, 4 * PAGE, PAGE, 0));
	ASSERT_OK(kt_try_view(memfd, 4 * PAGE, 2 * PAGE, 0));
	ASSERT_ERRNO(kt_try_view(memfd, 5 * PAGE, PAGE, CODEWP_VIEW_PRIVATE), EBUSY);
	close(a);
	ASSERT_OK(kt_try_view(memfd, 0, 4 * PAGE, CODEWP_VIEW_PRIVATE));
	close(b);
}

TEST(view_limit)
{
	int memfd = kt_memfd(VIEW_BYTES);
	struct codewp_info info = {};
	struct rlimit rl = { 8192, 8192 };
	unsigned int n = 0;
	int *fds;

	ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_INFO, &info));
	if (setrlimit(RLIMIT_NOFILE, &rl) || info.max_views > 8000)
		SKIP("max_views is above the limit on descriptors");
	fds = calloc(info.max_views + 1, sizeof(int));
	/* One ring for all, and no other. */
	struct codewp_view_create c = good_view(memfd);

	fds[n++] = ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_VIEW, &c));
	c.ring_fd = fds[0];
	while (n + info.views < info.max_views)
		fds[n++] = ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_VIEW, &c));
	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_VIEW, &c), ENOSPC);
	close(fds[--n]);
	fds[n++] = ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_VIEW, &c));
	while (n)
		close(fds[--n]);
	ASSERT_EQ(views_now(), info.views);
}

/* ---- ARM, DISARM ---- */

struct seen {
	struct codewp_stat st;
	uint32_t states[VIEW_PAGES];
};

static struct seen look(int view, const uint32_t *states)
{
	struct seen s = { .st = kt_stat(view) };

	memcpy(s.states, states, sizeof(s.states));
	return s;
}

static void unchanged(int view, const uint32_t *states, const struct seen *s)
{
	struct seen now = look(view, states);

	ASSERT(!memcmp(&now, s, sizeof(now)));
}

#define BAD_ARM(err, ...) do {						\
	struct codewp_arm a_ = { .length = PAGE };			\
	__VA_ARGS__;							\
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_ARM, &a_), err);		\
	a_.done = 0;							\
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_DISARM, &a_), err);		\
	unchanged(view, states, &s);					\
} while (0)

TEST(arm_wrong_arguments)
{
	int memfd = kt_memfd(VIEW_BYTES), view = kt_view(memfd, VIEW_BYTES, 0);
	const uint32_t *states = kt_states(view, VIEW_PAGES);
	struct codewp_arm a = { .length = PAGE };
	struct seen s;

	ASSERT_OK(kt_arm(view, PAGE, PAGE, 0));
	s = look(view, states);
	ASSERT_EQ(s.states[1], CODEWP_PAGE_ARMED);
	BAD_ARM(EINVAL, a_.offset = 1);
	BAD_ARM(EINVAL, a_.length = 1);
	BAD_ARM(EINVAL, a_.length = 0);
	BAD_ARM(EINVAL, a_.flags = 8);
	BAD_ARM(EINVAL, a_.flags = CODEWP_ARM_STOP | CODEWP_ARM_HOLD);
	BAD_ARM(EINVAL, a_.flags = CODEWP_ARM_KEEP | CODEWP_ARM_HOLD);
	BAD_ARM(EINVAL, a_.flags = CODEWP_ARM_KEEP);	/* not a private view */
	BAD_ARM(EINVAL, a_.reserved0 = 1);
	BAD_ARM(EINVAL, a_.reserved[0] = 1);
	BAD_ARM(EINVAL, a_.reserved[1] = 1);
	BAD_ARM(EOVERFLOW, a_.offset = -PAGE);
	BAD_ARM(EOVERFLOW, a_.length = -PAGE; a_.offset = PAGE);
	BAD_ARM(ERANGE, a_.offset = VIEW_BYTES);
	BAD_ARM(ERANGE, a_.length = VIEW_BYTES + PAGE);
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_ARM, NULL), EFAULT);
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_DISARM, 8), EFAULT);
	unchanged(view, states, &s);
	/* done is what was done, and the rest says so. */
	a.length = VIEW_BYTES;
	ASSERT_OK(ftruncate(memfd, 5 * PAGE));
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_ARM, &a), ENXIO);
	ASSERT_EQ(a.done, 5 * PAGE);
	for (int i = 0; i < VIEW_PAGES; i++)
		ASSERT_EQ(states[i], i < 5 ? CODEWP_PAGE_ARMED : 0);
	ASSERT_EQ(kt_stat(view).armed, 5);
	a.length = VIEW_BYTES;
	ASSERT_OK(ioctl(view, CODEWP_IOC_DISARM, &a));
	ASSERT_EQ(a.done, VIEW_BYTES);
	ASSERT_EQ(kt_stat(view).armed, 0);
	ASSERT_EQ(kt_stat(view).disarms, 5);
}

static void nothing(int sig)
{
}

TEST(arm_is_interruptible)
{
	size_t pages = 65536;
	int memfd = kt_memfd(pages * PAGE), view = kt_view(memfd, pages * PAGE, 0);
	struct codewp_arm a = { .length = pages * PAGE };
	uint64_t done = 0;
	int eintr = 0;
	timer_t timer;
	struct sigevent sev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec tick = {
		.it_value.tv_nsec = 10000000, .it_interval.tv_nsec = 10000000,
	};

	struct sigaction sa = { .sa_handler = nothing };

	ASSERT_OK(sigaction(SIGUSR1, &sa, NULL));
	ASSERT_OK(timer_create(CLOCK_MONOTONIC, &sev, &timer));
	ASSERT_OK(timer_settime(timer, 0, &tick, NULL));
	while (done < pages * PAGE) {
		a.offset = done;
		a.length = pages * PAGE - done;
		if (ioctl(view, CODEWP_IOC_ARM, &a)) {
			ASSERT_EQ(errno, EINTR);
			eintr++;
		}
		ASSERT_GT(a.done, 0);	/* each call gets on */
		done += a.done;
	}
	timer_delete(timer);
	ASSERT_GT(eintr, 0);
	ASSERT_EQ(kt_stat(view).armed, pages);
	/* 4 bytes per page. */
	ASSERT_EQ(kt_stat(view).state_bytes, pages * 4);
}

/* ---- DIRTY, CLIENTS ---- */

#define BAD_DIRTY(err, ...) do {					\
	struct codewp_dirty d_ = {					\
		.length = VIEW_BYTES, .bitmap = (uintptr_t)&bits,	\
		.client = CODEWP_CLIENT_DISPLAY,			\
		.flags = CODEWP_DIRTY_CLEAR,				\
	};								\
	bits = 0x55;							\
	__VA_ARGS__;							\
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_DIRTY, &d_), err);		\
	ASSERT_EQ(d_.done, 0);						\
	ASSERT_EQ(bits, 0x55);						\
	unchanged(view, states, &s);					\
} while (0)

TEST(dirty_wrong_arguments)
{
	int memfd = kt_memfd(VIEW_BYTES), view = kt_view(memfd, VIEW_BYTES, 0);
	const uint32_t *states = kt_states(view, VIEW_PAGES);
	struct codewp_clients c = { .clients = CODEWP_CLIENT_DISPLAY };
	volatile char *map = kt_map(view, VIEW_BYTES);
	uint64_t bits;
	struct seen s;

	ASSERT_OK(ioctl(view, CODEWP_IOC_CLIENTS, &c));
	map[2 * PAGE] = 1;
	s = look(view, states);
	ASSERT_EQ(s.states[2], CODEWP_PAGE_DISPLAY);
	BAD_DIRTY(EINVAL, d_.flags = 2);
	BAD_DIRTY(EINVAL, d_.client = 0);
	BAD_DIRTY(EINVAL, d_.client = 8);
	BAD_DIRTY(EINVAL, d_.client = CODEWP_CLIENT_ALL);
	BAD_DIRTY(EINVAL, d_.bitmap++);
	BAD_DIRTY(EINVAL, d_.reserved[1] = 1);
	BAD_DIRTY(EINVAL, d_.offset = 7);
	BAD_DIRTY(EINVAL, d_.length = 0);
	BAD_DIRTY(EOVERFLOW, d_.offset = -PAGE);
	BAD_DIRTY(ERANGE, d_.length = VIEW_BYTES + PAGE);
	BAD_DIRTY(ENODATA, d_.client = CODEWP_CLIENT_MIGRATION);
	BAD_DIRTY(EFAULT, d_.bitmap = 8);
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_DIRTY, NULL), EFAULT);

	c.clients = 8;
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_CLIENTS, &c), EINVAL);
	c.clients = CODEWP_CLIENT_ALL;
	c.reserved0 = 1;
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_CLIENTS, &c), EINVAL);
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_CLIENTS, NULL), EFAULT);
	unchanged(view, states, &s);
}

static uint64_t harvest(int view, uint32_t client, uint32_t flags)
{
	uint64_t bits = ~0ULL;
	struct codewp_dirty d = {
		.length = VIEW_BYTES, .bitmap = (uintptr_t)&bits,
		.client = client, .flags = flags,
	};

	ASSERT_OK(ioctl(view, CODEWP_IOC_DIRTY, &d));
	ASSERT_EQ(d.done, VIEW_BYTES);
	ASSERT_EQ(d.count, __builtin_popcountll(bits));
	return bits;
}

TEST(clients_are_independent)
{
	int memfd = kt_memfd(VIEW_BYTES), view = kt_view(memfd, VIEW_BYTES, 0);
	volatile char *map = kt_map(view, VIEW_BYTES);
	struct codewp_clients c = { .clients = CODEWP_CLIENT_DISPLAY };

	map[0] = 1;	/* before anybody counts */
	ASSERT_OK(ioctl(view, CODEWP_IOC_CLIENTS, &c));
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_DISPLAY, 0), 0);
	map[0] = 2;	/* writable before: it must fault again */
	map[3 * PAGE] = 1;
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_DISPLAY, 0), 0x9);
	c.clients |= CODEWP_CLIENT_MIGRATION;
	ASSERT_OK(ioctl(view, CODEWP_IOC_CLIENTS, &c));
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_MIGRATION, 0), 0);
	map[3 * PAGE] = 2;
	map[5 * PAGE] = 1;
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_MIGRATION, CODEWP_DIRTY_CLEAR), 0x28);
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_MIGRATION, CODEWP_DIRTY_CLEAR), 0);
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_DISPLAY, CODEWP_DIRTY_CLEAR), 0x29);
	map[5 * PAGE] = 2;
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_DISPLAY, CODEWP_DIRTY_CLEAR), 0x20);
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_MIGRATION, CODEWP_DIRTY_CLEAR), 0x20);
	/* CODE is not enabled: only traps count, and only for it. */
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_CODE, 0), 0);
	ASSERT_OK(kt_arm(view, PAGE, PAGE, 0));
	map[PAGE] = 1;
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_CODE, CODEWP_DIRTY_CLEAR), 0x2);
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_CODE, CODEWP_DIRTY_CLEAR), 0);
	map[PAGE] = 2;
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_CODE, 0), 0);
	c.clients = CODEWP_CLIENT_ALL;
	ASSERT_OK(ioctl(view, CODEWP_IOC_CLIENTS, &c));
	map[PAGE] = 3;
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_CODE, CODEWP_DIRTY_CLEAR), 0x2);
	map[PAGE] = 4;
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_CODE, CODEWP_DIRTY_CLEAR), 0x2);
	/* Disabled, DISPLAY no longer counts. */
	c.clients = CODEWP_CLIENT_CODE;
	ASSERT_OK(ioctl(view, CODEWP_IOC_CLIENTS, &c));
	map[6 * PAGE] = 1;
	c.clients = CODEWP_CLIENT_DISPLAY;
	ASSERT_OK(ioctl(view, CODEWP_IOC_CLIENTS, &c));
	ASSERT_EQ(harvest(view, CODEWP_CLIENT_DISPLAY, 0), 0);
}

/* ---- THREAD ---- */

static char not_code[64];

#define BAD_THREAD(err, ...) do {					\
	struct codewp_thread_create t_ = {				\
		.flags = CODEWP_THREAD_UPCALL, .ring_fd = -1,		\
		.handler = (uintptr_t)kt_handler_open,			\
		.code_start = (uintptr_t)kt_code_start,			\
		.code_end = (uintptr_t)kt_code_end,			\
	};								\
	__VA_ARGS__;							\
	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_THREAD, &t_), err);	\
	ASSERT_EQ(open_fds(), fds);					\
} while (0)

TEST(thread_wrong_arguments)
{
	int memfd = kt_memfd(VIEW_BYTES), view = kt_view(memfd, VIEW_BYTES, 0);
	uint64_t kernel = 0xffffffff81000000ULL;
	int fds, fd;

	kt_dev();
	fds = open_fds();
	BAD_THREAD(EINVAL, t_.flags = 0);
	BAD_THREAD(EINVAL, t_.flags = 8);
	BAD_THREAD(EINVAL, t_.flags |= CODEWP_THREAD_SIGNAL);
	BAD_THREAD(EINVAL, t_.flags = CODEWP_THREAD_SIGNAL);	/* with a handler */
	BAD_THREAD(EINVAL, t_.reserved[1] = 1);
	BAD_THREAD(EINVAL, t_.ring_fd = view);			/* without KICK */
	BAD_THREAD(EINVAL, t_.flags |= CODEWP_THREAD_KICK);	/* without a ring */
	BAD_THREAD(EBADF, t_.flags |= CODEWP_THREAD_KICK; t_.ring_fd = 9999);
	BAD_THREAD(EINVAL, t_.flags |= CODEWP_THREAD_KICK; t_.ring_fd = memfd);
	BAD_THREAD(EINVAL, t_.code_end = t_.code_start);
	BAD_THREAD(EINVAL, t_.code_end = 0);
	BAD_THREAD(EFAULT, t_.code_end = kernel);
	BAD_THREAD(EFAULT, t_.stack = kernel);
	BAD_THREAD(EFAULT, t_.handler = kernel);
	/* Beyond user space with five levels of page tables, too. */
	BAD_THREAD(EFAULT, t_.handler = 1ULL << 56);
	BAD_THREAD(EFAULT, t_.handler = (1ULL << 56) - 1);
	BAD_THREAD(EFAULT, t_.handler = 0x8000000000000000ULL);
	BAD_THREAD(EACCES, t_.handler = 0);
	BAD_THREAD(EACCES, t_.handler = (uintptr_t)not_code);
	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_THREAD, NULL), EFAULT);

	fd = ASSERT_OK(kt_try_thread(CODEWP_THREAD_UPCALL, kt_handler_open, NULL,
				     -1));
	fds++;
	BAD_THREAD(EBUSY, );
	ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ASSERT(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED &&
	       errno == EINVAL);
	ASSERT(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED &&
	       errno == EINVAL);
	ASSERT(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE) == MAP_FAILED &&
	       errno == EINVAL);
	close(fd);
	fds--;
	/* Closed: the thread may register again. */
	fd = ASSERT_OK(kt_try_thread(CODEWP_THREAD_UPCALL, kt_handler_open, NULL,
				     -1));
	close(fd);
}

/* ---- EVENTFD, poll, ring ---- */

TEST(eventfd_and_poll)
{
	int memfd = kt_memfd(VIEW_BYTES), view = kt_view(memfd, VIEW_BYTES, 0);
	struct codewp_eventfd e = { .fd = 9999 };
	struct codewp_ring *ring = kt_ring(view, RING);
	volatile char *map = kt_map(view, VIEW_BYTES);
	struct pollfd p = { .fd = view, .events = POLLIN };
	struct codewp_event ev;
	uint64_t n;
	int efd;

	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_EVENTFD, &e), EBADF);
	e.fd = memfd;
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_EVENTFD, &e), EINVAL);
	e.fd = -1;
	e.reserved0 = 1;
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_EVENTFD, &e), EINVAL);
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_EVENTFD, NULL), EFAULT);
	e.reserved0 = 0;
	e.fd = efd = ASSERT_OK(eventfd(0, EFD_NONBLOCK));
	ASSERT_OK(ioctl(view, CODEWP_IOC_EVENTFD, &e));
	ASSERT_EQ(poll(&p, 1, 0), 0);
	ASSERT_ERRNO(read(efd, &n, 8), EAGAIN);
	ASSERT_OK(kt_arm(view, 0, 2 * PAGE, 0));
	map[1] = 1;
	map[PAGE] = 1;
	ASSERT_EQ(poll(&p, 1, 0), 1);
	ASSERT_EQ(p.revents, POLLIN);
	ASSERT_EQ(read(efd, &n, 8), 8);
	ASSERT_EQ(n, 2);
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.offset, 1);
	ASSERT_EQ(ev.addr, (uintptr_t)map + 1);
	ASSERT_EQ(ev.flags, CODEWP_EVENT_SELF);
	ASSERT_EQ(ev.cookie, 0xc0de);
	ASSERT_EQ(ev.gen, 1);
	ASSERT(kt_event(ring, &ev));
	ASSERT(!kt_event(ring, &ev));
	ASSERT_EQ(poll(&p, 1, 0), 0);
	e.fd = -1;
	ASSERT_OK(ioctl(view, CODEWP_IOC_EVENTFD, &e));
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	map[1] = 2;
	ASSERT_ERRNO(read(efd, &n, 8), EAGAIN);
}

TEST(ring_scribbled_over)
{
	int memfd = kt_memfd(VIEW_BYTES), view = kt_view(memfd, VIEW_BYTES, 0);
	struct codewp_ring *ring = kt_ring(view, RING);
	volatile char *map = kt_map(view, VIEW_BYTES);
	struct codewp_event ev;

	/* What the owner writes into head, nr and records moves the kernel not. */
	memset(ring, 0xff, CODEWP_RING_DATA + RING);
	ring->tail = 1ULL << 40;
	for (int i = 0; i < 10; i++) {
		ASSERT_OK(kt_arm(view, 0, PAGE, 0));
		map[0] = i;
		ASSERT_EQ(map[0], i);
	}
	/* A tail beyond head is a full ring: dropped, and said so. */
	ASSERT_EQ(kt_stat(view).dropped, 10);
	ASSERT_EQ(kt_stat(view).events, 10);
	ASSERT_EQ(ring->overflow, 1);
	ASSERT_EQ(ring->dropped, 10);
	memset(ring, 0, CODEWP_RING_DATA);
	ring->nr = RING / 64;
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	map[0] = 1;
	ASSERT_EQ(ring->head, 1);
	ASSERT(kt_event(ring, &ev));
	ring->head = 40;
	ring->nr = 1;
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	map[0] = 2;
	ASSERT_EQ(ring->head, 2);
	ring->nr = RING / 64;
	ASSERT(kt_event(ring, &ev));
}

TEST(ring_full)
{
	int memfd = kt_memfd(256 * PAGE);
	struct codewp_view_create c = good_view(memfd);
	const uint32_t *states;
	struct codewp_ring *ring;
	struct codewp_event ev;
	volatile char *map;
	int view, n = 0;

	c.length = 256 * PAGE;
	c.ring_bytes = PAGE;
	view = ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_VIEW, &c));
	ring = kt_ring(view, PAGE);
	states = kt_states(view, 256);
	map = kt_map(view, 256 * PAGE);
	ASSERT_EQ(ring->nr, 64);
	ASSERT_OK(kt_arm(view, 0, 256 * PAGE, 0));
	for (int i = 0; i < 256; i++)
		map[i * PAGE] = 1;
	ASSERT_EQ(ring->overflow, 1);
	ASSERT_EQ(ring->dropped, 256 - 64);
	ASSERT_EQ(kt_stat(view).dropped, 256 - 64);
	while (kt_event(ring, &ev))
		ASSERT_EQ(ev.offset, n++ * PAGE);
	ASSERT_EQ(n, 64);
	/* No page is lost: the states have them all. */
	for (int i = 0; i < 256; i++)
		ASSERT_EQ(states[i] & (CODEWP_PAGE_ARMED | CODEWP_PAGE_WRITTEN),
			  CODEWP_PAGE_WRITTEN);
	ring->overflow = 0;
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	map[0] = 2;
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ring->overflow, 0);
}

/* ---- mmap ---- */

static void bad_map(int err, size_t len, int prot, int flags, int fd, off_t off)
{
	void *p = mmap(NULL, len, prot, flags, fd, off);

	if (p != MAP_FAILED || errno != err)
		TEST_FAIL("mmap(%zu, %d, %d, %lx): %p, %s; want %s", len, prot,
			  flags, (long)off, p, strerror(errno), strerror(err));
}

TEST(mmap_wrong_arguments)
{
	int memfd = kt_memfd(VIEW_BYTES), view = kt_view(memfd, VIEW_BYTES, 0);
	int rw = PROT_READ | PROT_WRITE;
	void *p;

	bad_map(EINVAL, PAGE, rw, MAP_PRIVATE, view, 0);
	bad_map(EINVAL, PAGE, rw, MAP_SHARED, view, VIEW_BYTES);
	bad_map(EINVAL, VIEW_BYTES, rw, MAP_SHARED, view, PAGE);
	bad_map(EINVAL, PAGE, PROT_READ, MAP_PRIVATE, view, CODEWP_MMAP_STATE);
	bad_map(EPERM, PAGE, rw, MAP_SHARED, view, CODEWP_MMAP_STATE);
	bad_map(EINVAL, 2 * PAGE, PROT_READ, MAP_SHARED, view, CODEWP_MMAP_STATE);
	bad_map(EINVAL, PAGE, PROT_READ, MAP_SHARED, view, CODEWP_MMAP_STATE + PAGE);
	bad_map(EINVAL, PAGE, rw, MAP_PRIVATE, view, CODEWP_MMAP_RING);
	bad_map(EINVAL, 2 * PAGE + RING, rw, MAP_SHARED, view, CODEWP_MMAP_RING);
	bad_map(EPERM, PAGE, rw, MAP_SHARED, view, CODEWP_MMAP_ALIAS);
	bad_map(EINVAL, PAGE, rw, MAP_PRIVATE, kt_dev(), 0);
	bad_map(EINVAL, PAGE, rw, MAP_SHARED, kt_dev(), CODEWP_MMAP_RING);

	/* The page states stay read only, and nothing of a view is executable. */
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, view, CODEWP_MMAP_STATE);
	ASSERT(p != MAP_FAILED);
	ASSERT_ERRNO(mprotect(p, PAGE, rw), EACCES);
	ASSERT_ERRNO(mprotect(p, PAGE, PROT_READ | PROT_EXEC), EACCES);
	ASSERT_ERRNO(mprotect(kt_ring(view, RING), PAGE, PROT_EXEC), EACCES);
	ASSERT_ERRNO(mprotect(kt_map(view, PAGE), PAGE, PROT_EXEC), EACCES);
}
