// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Anonymous views: an open file of /dev/codewp that is memory, and who may use it.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "kmod_test.h"

#define PAGES	8
#define BYTES	(PAGES * PAGE)
#define RING	(64UL << 10)
#define RW	(PROT_READ | PROT_WRITE)

static int dev_open(void)
{
	kt_dev();
	return ASSERT_OK(open("/dev/codewp", O_RDWR | O_CLOEXEC));
}

static int anon(int fd, uint64_t length, uint32_t flags)
{
	struct codewp_anon a = { .length = length, .flags = flags, .cookie = 0xa0 };

	return ioctl(fd, CODEWP_IOC_ANON, &a);
}

static uint64_t length_of(int fd)
{
	struct codewp_view_info info;

	ASSERT_OK(ioctl(fd, CODEWP_IOC_VIEW_INFO, &info));
	return info.length;
}

TEST(ioctl_makes_a_view)
{
	struct codewp_anon a = {
		.length = BYTES, .clients = CODEWP_CLIENT_DISPLAY,
		.ring_bytes = 8192, .cookie = 77,
	};
	struct codewp_view_info info;
	struct codewp_ring *ring;
	struct codewp_event ev;
	const uint32_t *states;
	int fd = dev_open();
	volatile char *p;

	ASSERT_OK(ioctl(fd, CODEWP_IOC_ANON, &a));
	ASSERT_GT(a.id, 0);
	ASSERT_OK(ioctl(fd, CODEWP_IOC_VIEW_INFO, &info));
	ASSERT_EQ(info.length, BYTES);
	ASSERT_EQ(info.cookie, 77);
	ASSERT_EQ(info.id, a.id);
	ASSERT_EQ(info.flags, 0);
	ASSERT_EQ(info.ring_bytes, 8192);
	ASSERT_EQ(info.clients, CODEWP_CLIENT_DISPLAY);
	ASSERT_EQ(lseek(fd, 0, SEEK_END), BYTES);

	p = kt_map(fd, BYTES);
	ring = kt_ring(fd, 8192);
	states = kt_states(fd, PAGES);
	for (size_t i = 0; i < BYTES; i++)
		ASSERT_EQ(p[i], 0);
	ASSERT_OK(kt_arm(fd, PAGE, PAGE, 0));
	ASSERT(kt_state(states, 1) & CODEWP_PAGE_ARMED);
	p[PAGE + 5] = 1;
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.offset, PAGE + 5);
	ASSERT_EQ(ev.cookie, 77);
	ASSERT_EQ(ev.view, a.id);
	ASSERT(kt_state(states, 1) & CODEWP_PAGE_DISPLAY);
	ASSERT(!(kt_state(states, 1) & CODEWP_PAGE_ARMED));
	/* It still is the device, too. */
	ASSERT_OK(kt_try_view(kt_memfd(PAGE), 0, PAGE, 0));
}

TEST(mmap_makes_a_view)
{
	struct codewp_info info = {};
	int fd = dev_open(), other = dev_open();
	volatile char *p, *q;

	ASSERT_OK(ioctl(fd, CODEWP_IOC_INFO, &info));
	ASSERT_EQ((uint64_t)lseek(fd, 0, SEEK_END), info.max_view_bytes);
	ASSERT_ERRNO(ioctl(fd, CODEWP_IOC_STAT, &info), ENOTTY);
	p = mmap(NULL, 3 * PAGE, RW, MAP_SHARED, fd, PAGE);
	ASSERT(p != MAP_FAILED);
	ASSERT_EQ(length_of(fd), 4 * PAGE);
	ASSERT_EQ(lseek(fd, 0, SEEK_END), 4 * PAGE);
	ASSERT_EQ(lseek(fd, PAGE, SEEK_SET), PAGE);
	q = kt_map(fd, 4 * PAGE);
	p[0] = 1;
	ASSERT_EQ(q[PAGE], 1);
	ASSERT_ERRNO(mmap(NULL, 5 * PAGE, RW, MAP_SHARED, fd, 0), ENXIO);
	ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 4 * PAGE), ENXIO);
	ASSERT_ERRNO(anon(fd, BYTES, 0), EBUSY);

	/* Each open file is its own. */
	q = kt_map(other, 16 * PAGE);
	ASSERT_EQ(q[PAGE], 0);
	ASSERT_EQ(length_of(other), 16 * PAGE);
	ASSERT_EQ(length_of(fd), 4 * PAGE);
}

/* What fails leaves a file that can still become a view. */
TEST(refused)
{
	struct codewp_info info = {};
	struct codewp_anon a = { .length = BYTES };
	int fd = dev_open(), ro;

	ASSERT_OK(ioctl(fd, CODEWP_IOC_INFO, &info));
	ASSERT_ERRNO(anon(fd, 0, 0), EINVAL);
	ASSERT_ERRNO(anon(fd, 1, 0), EINVAL);
	ASSERT_ERRNO(anon(fd, BYTES, 2), EINVAL);
	ASSERT_ERRNO(anon(fd, info.max_view_bytes + PAGE, 0), EFBIG);
	a.reserved[1] = 1;
	ASSERT_ERRNO(ioctl(fd, CODEWP_IOC_ANON, &a), EINVAL);
	a.reserved[1] = 0;
	a.clients = 8;
	ASSERT_ERRNO(ioctl(fd, CODEWP_IOC_ANON, &a), EINVAL);
	a.clients = 0;
	a.ring_bytes = 100;
	ASSERT_ERRNO(ioctl(fd, CODEWP_IOC_ANON, &a), EINVAL);
	a.ring_bytes = info.max_ring_bytes * 2;
	ASSERT_ERRNO(ioctl(fd, CODEWP_IOC_ANON, &a), EFBIG);
	ASSERT_ERRNO(ioctl(fd, CODEWP_IOC_ANON, NULL), EFAULT);
	ASSERT_ERRNO(ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, CODEWP_IOC_MAGIC, 3, 8), &a),
		     EINVAL);
	ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0), EINVAL);
	ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, fd, CODEWP_MMAP_RING), EINVAL);
	ASSERT_ERRNO(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, CODEWP_MMAP_STATE),
		     EINVAL);
	ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, fd, CODEWP_MMAP_ALIAS), EINVAL);
	ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, fd, info.max_view_bytes), EFBIG);
	ASSERT_ERRNO(lseek(fd, -1, SEEK_SET), EINVAL);
	ASSERT_EQ((uint64_t)lseek(fd, 0, SEEK_END), info.max_view_bytes);
	ASSERT_OK(anon(fd, BYTES, 0));
	ASSERT_EQ(length_of(fd), BYTES);
	ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, fd, CODEWP_MMAP_ALIAS + BYTES),
		     ENXIO);

	ro = ASSERT_OK(open("/dev/codewp", O_RDONLY | O_CLOEXEC));
	ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, ro, 0), EACCES);
	ASSERT_EQ((uint64_t)lseek(ro, 0, SEEK_END), info.max_view_bytes);
}

TEST(limit_of_views)
{
	struct rlimit rl = { 4096, 4096 };
	struct codewp_info info = {};
	int fd;

	ASSERT_OK(setrlimit(RLIMIT_NOFILE, &rl));
	ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_INFO, &info));
	for (uint32_t n = info.views; n < info.max_views; n++)
		ASSERT_OK(anon(dev_open(), PAGE, 0));
	fd = dev_open();
	ASSERT_ERRNO(anon(fd, PAGE, 0), ENOSPC);
	ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), ENOSPC);
	ASSERT_EQ((uint64_t)lseek(fd, 0, SEEK_END), info.max_view_bytes);
}

TEST(alias_does_not_trap)
{
	int fd = dev_open();
	struct codewp_ring *ring;
	volatile char *p, *alias;
	struct codewp_event ev;

	ASSERT_OK(anon(fd, BYTES, 0));
	p = kt_map(fd, BYTES);
	ring = kt_ring(fd, RING);
	alias = mmap(NULL, BYTES - PAGE, RW, MAP_SHARED, fd, CODEWP_MMAP_ALIAS + PAGE);
	ASSERT(alias != MAP_FAILED);
	ASSERT_OK(kt_arm(fd, 0, BYTES, 0));
	alias[5] = 9;
	ASSERT_EQ(p[PAGE + 5], 9);
	ASSERT_EQ(kt_stat(fd).traps, 0);
	ASSERT(!kt_event(ring, &ev));
	p[PAGE] = 1;
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.offset, PAGE);
}

/* A registered thread of the creator is told by upcall here as in any view. */
TEST(upcall)
{
	struct codewp_area *area;
	int fd = dev_open(), t;
	char *p;

	ASSERT_OK(anon(fd, BYTES, 0));
	p = kt_map(fd, BYTES);
	area = kt_register(kt_handler_open, CODEWP_THREAD_UPCALL | CODEWP_THREAD_KICK,
			   fd, &t);
	ASSERT_OK(kt_arm(fd, 0, PAGE, 0));
	kt_store8(p + 8, 5);
	ASSERT_EQ(area->scratch[0], 1);
	ASSERT_EQ(area->offset, 8);
	ASSERT_EQ(*(uint64_t *)(p + 8), 5);
	ASSERT_EQ(kt_stat(fd).upcalls, 1);
}

static void stranger(int fd)
{
	const uint32_t *states = kt_states(fd, PAGES);
	struct codewp_ring *ring = kt_ring(fd, RING);
	int efd = ASSERT_OK(eventfd(0, EFD_NONBLOCK));
	struct codewp_eventfd e = { .fd = efd };
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	volatile char *p = kt_map(fd, BYTES);
	struct codewp_event ev;
	uint64_t n;

	/* What the other one did. */
	ASSERT_EQ(p[0], 42);
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.offset, 0);
	/* Its address is nobody else's business. */
	ASSERT_EQ(ev.flags, CODEWP_EVENT_SELF);
	ASSERT_EQ(ev.addr, 0);
	ASSERT_EQ(ev.ip, 0);
	ASSERT_EQ(poll(&pfd, 1, 0), 0);
	ASSERT_OK(ioctl(fd, CODEWP_IOC_EVENTFD, &e));
	ASSERT_OK(kt_arm(fd, 2 * PAGE, PAGE, 0));
	ASSERT(kt_state(states, 2) & CODEWP_PAGE_ARMED);
	/* A store of its own is an event like any other, without address. */
	p[2 * PAGE + 3] = 1;
	ASSERT_EQ(poll(&pfd, 1, 0), 1);
	ASSERT_EQ(read(efd, &n, sizeof(n)), sizeof(n));
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.offset, 2 * PAGE + 3);
	ASSERT_EQ(ev.tid, (uint32_t)getpid());
	ASSERT_EQ(ev.flags & CODEWP_EVENT_SELF, 0);
	ASSERT_EQ(ev.addr, 0);
	/* For the parent. */
	ASSERT_OK(kt_arm(fd, 3 * PAGE, PAGE, 0));
	_exit(0);
}

/* Two processes: each arms, writes, and reads the one ring. */
static void two_processes(int (*take)(int fd, pid_t parent))
{
	struct codewp_ring *ring;
	struct codewp_event ev;
	int fd = dev_open(), status;
	volatile char *p;
	pid_t parent = getpid(), pid;

	ASSERT_OK(anon(fd, BYTES, 0));
	p = kt_map(fd, BYTES);
	ASSERT_OK(kt_arm(fd, 0, PAGE, 0));
	p[0] = 42;
	pid = ASSERT_OK(fork());
	if (!pid)
		stranger(take(fd, parent));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		_exit(1);	/* it has said why */
	ASSERT_EQ(status, 0);
	ring = kt_ring(fd, RING);
	ASSERT(!kt_event(ring, &ev));
	p[3 * PAGE + 1] = 1;
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.offset, 3 * PAGE + 1);
	ASSERT_EQ(ev.flags, CODEWP_EVENT_SELF);
	ASSERT_EQ(ev.addr, 0);
}

static int by_fork(int fd, pid_t parent)
{
	return fd;
}

static int by_pidfd(int fd, pid_t parent)
{
	int pidfd = ASSERT_OK(syscall(SYS_pidfd_open, parent, 0));

	close(fd);
	return ASSERT_OK(syscall(SYS_pidfd_getfd, pidfd, fd, 0));
}

TEST(shared_by_fork)
{
	two_processes(by_fork);
}

TEST(shared_by_pidfd_getfd)
{
	two_processes(by_pidfd);
}

/* Another user has no right to the descriptor, so none to the view. */
TEST(another_user_is_refused)
{
	int fd = dev_open(), pidfd;
	pid_t parent = getpid(), pid;

	ASSERT_OK(anon(fd, BYTES, 0));
	pid = ASSERT_OK(fork());
	if (!pid) {
		close(fd);
		ASSERT_OK(syscall(SYS_setgroups, 0, NULL));
		ASSERT_OK(syscall(SYS_setresgid, 1000, 1000, 1000));
		ASSERT_OK(syscall(SYS_setresuid, 1000, 1000, 1000));
		pidfd = ASSERT_OK(syscall(SYS_pidfd_open, parent, 0));
		ASSERT_ERRNO(syscall(SYS_pidfd_getfd, pidfd, fd, 0), EPERM);
		ASSERT_ERRNO(open("/dev/codewp", O_RDWR), EACCES);
		_exit(0);
	}
	kt_reap(pid);
}

TEST(private_stays_its_makers)
{
	int fd = dev_open(), status;
	struct codewp_stat st;
	volatile char *p;
	pid_t pid;

	ASSERT_OK(anon(fd, BYTES, CODEWP_VIEW_PRIVATE));
	p = kt_map(fd, BYTES);
	ASSERT_OK(kt_arm(fd, 0, PAGE, CODEWP_ARM_KEEP));
	pid = ASSERT_OK(fork());
	if (!pid) {
		ASSERT_ERRNO(ioctl(fd, CODEWP_IOC_STAT, &st), EPERM);
		ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), EPERM);
		ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, fd, CODEWP_MMAP_RING), EPERM);
		ASSERT_ERRNO(mmap(NULL, PAGE, RW, MAP_SHARED, fd, CODEWP_MMAP_ALIAS), EPERM);
		ASSERT_ERRNO(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, CODEWP_MMAP_STATE),
			     EPERM);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	p[0] = 1;
	ASSERT_EQ(kt_stat(fd).traps, 1);
}

/* The memory and the view live as long as a mapping of the pages does. */
TEST(mapping_outlives_the_descriptor)
{
	struct codewp_info info = {};
	int fd = dev_open();
	volatile char *p;
	uint32_t before;

	ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_INFO, &info));
	before = info.views;
	ASSERT_OK(anon(fd, BYTES, 0));
	p = kt_map(fd, BYTES);
	ASSERT_OK(kt_arm(fd, 0, PAGE, 0));
	close(fd);
	p[0] = 1;
	ASSERT_EQ(p[0], 1);
	ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_INFO, &info));
	ASSERT_EQ(info.views, before + 1);
	ASSERT_ERRNO(syscall(SYS_delete_module, "codewp", O_NONBLOCK), EAGAIN);
	ASSERT_OK(munmap((void *)p, BYTES));
	ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_INFO, &info));
	ASSERT_EQ(info.views, before);
}

/* A balloon gives pages back by MADV_REMOVE: fresh zeroes, told as a write. */
TEST(removed_pages_are_told)
{
	int fd = dev_open();
	struct codewp_ring *ring;
	struct codewp_event ev;
	volatile char *p;

	ASSERT_OK(anon(fd, BYTES, 0));
	p = kt_map(fd, BYTES);
	ring = kt_ring(fd, RING);
	p[PAGE] = 1;
	ASSERT_OK(kt_arm(fd, PAGE, PAGE, 0));
	ASSERT_OK(madvise((void *)(p + PAGE), PAGE, MADV_REMOVE));
	ASSERT_EQ(p[PAGE], 0);
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.offset, PAGE);
	ASSERT_EQ(ev.flags & CODEWP_EVENT_RECREATED, CODEWP_EVENT_RECREATED);
}

struct race {
	int fd;
	pthread_barrier_t barrier;
	int made, busy;
};

static void *race_thread(void *arg)
{
	struct race *r = arg;

	pthread_barrier_wait(&r->barrier);
	if (!anon(r->fd, BYTES, 0))
		__atomic_fetch_add(&r->made, 1, __ATOMIC_RELAXED);
	else if (errno == EBUSY)
		__atomic_fetch_add(&r->busy, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Threads that make the same file a view: one does, and mmap meets it. */
TEST(race_to_make_it)
{
	for (int i = 0; i < 50; i++) {
		struct race r = { .fd = dev_open() };
		pthread_t t[3];

		pthread_barrier_init(&r.barrier, NULL, 4);
		for (int j = 0; j < 3; j++)
			ASSERT_EQ(pthread_create(&t[j], NULL, race_thread, &r), 0);
		pthread_barrier_wait(&r.barrier);
		ASSERT_OK(munmap(kt_map(r.fd, BYTES), BYTES));
		for (int j = 0; j < 3; j++)
			pthread_join(t[j], NULL);
		ASSERT_LE(r.made, 1);
		ASSERT_EQ(r.made + r.busy, 3);
		ASSERT_EQ(length_of(r.fd), BYTES);
		close(r.fd);
	}
}
