// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Who lives how long, and who may do what: views after their descriptor is
 * closed, the module while it is in use (rule 10), registrations across fork,
 * exec, thread exit and passed descriptors, other processes' and users' access
 * (the threat model of Documentation/uapi.rst), and what fcntl does to a view's
 * descriptor.
 */
#include "kmod_test.h"

#include <spawn.h>
#include <sys/file.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/user.h>

#define BYTES (4 * PAGE)
#define RING 65536

/* ---- the end of things ---- */

TEST(mapping_outlives_descriptor)
{
	int memfd = kt_memfd(BYTES), view = kt_view(memfd, BYTES, 0);
	volatile char *map = kt_map(view, BYTES);
	const uint32_t *states = kt_states(view, 4);
	struct codewp_ring *ring = kt_ring(view, RING);
	struct codewp_event ev;

	ASSERT_OK(kt_arm(view, 0, BYTES, 0));
	close(view);
	close(memfd);
	map[PAGE] = 1;
	ASSERT_EQ(map[PAGE], 1);
	ASSERT_EQ(states[1] & CODEWP_PAGE_ARMED, 0);
	ASSERT(states[0] & CODEWP_PAGE_ARMED);
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.offset, PAGE);
	/* Only the data is left: the write still goes through. */
	munmap((void *)states, PAGE);
	munmap(ring, CODEWP_RING_DATA + RING);
	map[0] = 2;
	ASSERT_EQ(map[0], 2);
}

TEST(alias_outlives_view)
{
	int memfd = kt_memfd(BYTES), view = kt_view(memfd, BYTES, 0);
	volatile char *alias = kt_alias(memfd, BYTES), *map = kt_map(view, BYTES);

	alias[0] = 1;
	ASSERT_OK(kt_arm(view, 0, BYTES, 0));
	ASSERT_EQ(munmap((void *)map, BYTES), 0);
	close(view);
	alias[0] = 2;
	ASSERT_EQ(alias[0], 2);
	/* And a new view knows nothing of the old one's arms. */
	view = kt_view(memfd, BYTES, CODEWP_VIEW_PRIVATE);
	map = kt_map(view, BYTES);
	map[0] = 3;
	ASSERT_EQ(kt_stat(view).traps, 0);
	ASSERT_EQ(kt_states(view, 4)[0], 0);
}

static int rmmod(void)
{
	return syscall(SYS_delete_module, "codewp", O_NONBLOCK);
}

/* Rule 10: not while a file or a mapping is there; afterwards, yes. */
TEST(module_stays_while_used)
{
	int memfd = kt_memfd(BYTES), view, dev, thread;
	char *map;
	void *area;

	dev = kt_dev();
	view = kt_view(memfd, BYTES, 0);
	map = kt_map(view, BYTES);
	thread = ASSERT_OK(kt_try_thread(CODEWP_THREAD_UPCALL, kt_handler_open,
					 NULL, -1));
	area = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, thread, 0);
	ASSERT(area != MAP_FAILED);
	ASSERT_ERRNO(rmmod(), EAGAIN);
	close(dev);
	ASSERT_ERRNO(rmmod(), EAGAIN);
	close(view);
	ASSERT_ERRNO(rmmod(), EAGAIN);
	close(thread);
	ASSERT_ERRNO(rmmod(), EAGAIN);
	munmap(area, PAGE);
	ASSERT_ERRNO(rmmod(), EAGAIN);
	map[0] = 1;
	munmap(map, BYTES / 2);	/* the other half is still there */
	ASSERT_ERRNO(rmmod(), EAGAIN);
	/*
	 * That it can go when the last part is unmapped is tested at the end,
	 * and only where it can be put back: see module_goes_afterwards.
	 */
}

/* KMOD_TEST_KO names the module's file: remove it, load it again. */
TEST(module_goes_afterwards)
{
	const char *ko = getenv("KMOD_TEST_KO") ?: "/build/kmod/codewp.ko";
	int memfd = kt_memfd(BYTES), view, fd;
	char *map;

	if (access(ko, R_OK))
		SKIP("no %s to load again", ko);
	view = kt_view(memfd, BYTES, 0);
	map = kt_map(view, BYTES);
	ASSERT_OK(kt_arm(view, 0, BYTES, 0));
	map[0] = 1;
	close(kt_dev());
	close(view);
	ASSERT_ERRNO(rmmod(), EAGAIN);
	munmap(map, BYTES);
	ASSERT_OK(rmmod());
	ASSERT_ERRNO(open("/dev/codewp", O_RDWR), ENOENT);
	fd = ASSERT_OK(open(ko, O_RDONLY));
	ASSERT_OK(syscall(SYS_finit_module, fd, "", 0));
	ASSERT_OK(open("/dev/codewp", O_RDWR));
}

/* ---- another process ---- */

static void send_fd(int sock, int fd)
{
	char data = 0, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { &data, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	ASSERT_EQ(sendmsg(sock, &msg, 0), 1);
}

static int recv_fd(int sock)
{
	char data, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &data, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	int fd;

	ASSERT_EQ(recvmsg(sock, &msg, 0), 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

static void no_map(int err, size_t len, int fd, uint64_t off)
{
	void *p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, off);

	if (p != MAP_FAILED || errno != err)
		TEST_FAIL("mmap at %#llx: %s", (unsigned long long)off,
			  p == MAP_FAILED ? strerror(errno) : "worked");
}

/* What a stranger with a passed descriptor of a shared view may do. */
static void stranger_shared(int view)
{
	struct codewp_eventfd e = { .fd = -1 };
	char *map = kt_map(view, BYTES);

	/* As with the memfd itself: read, write; and watch. */
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	map[0] = 1;
	ASSERT_EQ(map[0], 1);
	/* Not: the owner's events, addresses, page states. */
	no_map(EPERM, PAGE, view, CODEWP_MMAP_RING);
	no_map(EPERM, PAGE, view, CODEWP_MMAP_STATE);
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_EVENTFD, &e), EPERM);
	/* Nor bind to his ring. */
	struct codewp_view_create c = {
		.memfd = kt_memfd(PAGE), .length = PAGE, .ring_fd = view,
	};

	ASSERT_ERRNO(ioctl(kt_dev(), CODEWP_IOC_VIEW, &c), EPERM);
	ASSERT_ERRNO(kt_try_thread(CODEWP_THREAD_UPCALL | CODEWP_THREAD_KICK,
				   kt_handler_open, NULL, view), EPERM);
}

static void stranger_private(int view)
{
	struct codewp_stat st;

	no_map(EPERM, PAGE, view, 0);
	no_map(EPERM, PAGE, view, CODEWP_MMAP_RING);
	no_map(EPERM, PAGE, view, CODEWP_MMAP_STATE);
	ASSERT_ERRNO(kt_arm(view, 0, PAGE, 0), EPERM);
	ASSERT_ERRNO(kt_disarm(view, 0, PAGE), EPERM);
	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_STAT, &st), EPERM);
}

TEST(passed_descriptor)
{
	int sv[2], memfd = kt_memfd(BYTES), area, shared, priv, pmem = kt_memfd(BYTES);
	struct codewp_ring *ring;
	struct codewp_event ev;
	pid_t pid;

	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	pid = ASSERT_OK(fork());
	if (!pid) {
		stranger_shared(recv_fd(sv[1]));
		stranger_private(recv_fd(sv[1]));
		no_map(EPERM, PAGE, recv_fd(sv[1]), 0);
		_exit(0);
	}
	shared = kt_view(memfd, BYTES, 0);
	ring = kt_ring(shared, RING);
	priv = kt_view(pmem, BYTES, CODEWP_VIEW_PRIVATE);
	area = ASSERT_OK(kt_try_thread(CODEWP_THREAD_UPCALL, kt_handler_open, NULL,
				       -1));
	send_fd(sv[0], shared);
	send_fd(sv[0], priv);
	send_fd(sv[0], area);
	kt_reap(pid);
	/* The owner learns of the write, and not of the stranger's addresses. */
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.flags, 0);
	ASSERT_EQ(ev.addr, 0);
	ASSERT_EQ(ev.ip, 0);
	ASSERT_EQ(ev.tid, pid);
	ASSERT_EQ(ev.offset, 0);
}

/* ---- fork ---- */

TEST(fork_inherits_no_registration)
{
	int memfd = kt_memfd(BYTES), view = kt_view(memfd, BYTES, 0), fd;
	struct codewp_ring *ring = kt_ring(view, RING);
	uint64_t *map = kt_map(view, BYTES);
	struct codewp_area *area;
	struct codewp_event ev;
	pid_t pid;

	area = kt_register(kt_handler_open, CODEWP_THREAD_UPCALL, -1, &fd);
	ASSERT_OK(kt_arm(view, 0, BYTES, 0));
	kt_inc8(map);
	ASSERT_EQ(area->scratch[0], 1);
	ASSERT_OK(kt_arm(view, 0, BYTES, 0));
	pid = ASSERT_OK(fork());
	if (!pid) {
		unsigned char vec;

		/* In the code range, but nobody's registered thread. */
		kt_inc8(map);
		ASSERT_EQ(map[0], 2);
		/* Area, ring and states are not inherited either. */
		ASSERT_ERRNO(mincore(area, PAGE, &vec), ENOMEM);
		ASSERT_ERRNO(mincore(ring, PAGE, &vec), ENOMEM);
		/* It may register for itself. */
		close(ASSERT_OK(kt_try_thread(CODEWP_THREAD_UPCALL,
					      kt_handler_open, NULL, -1)));
		_exit(0);
	}
	kt_reap(pid);
	ASSERT_EQ(area->scratch[0], 1);
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.tid, pid);
	ASSERT_EQ(ev.flags, 0);
	ASSERT_EQ(map[0], 2);
	ASSERT_EQ(kt_stat(view).upcalls, 1);
}

/* A private view is not inherited; and where a child forces that, it is told. */
TEST(fork_and_private_views)
{
	int memfd = kt_memfd(BYTES), fd;
	int view = kt_view(memfd, BYTES, CODEWP_VIEW_PRIVATE);
	struct codewp_ring *ring = kt_ring(view, RING);
	uint64_t *map = kt_map(view, BYTES);
	unsigned char vec;
	struct codewp_event ev;
	pid_t pid;

	kt_register(kt_handler_skip, CODEWP_THREAD_UPCALL, -1, &fd);
	pid = ASSERT_OK(fork());
	if (!pid) {
		ASSERT_ERRNO(mincore(map, PAGE, &vec), ENOMEM);
		_exit(0);
	}
	kt_reap(pid);
	ASSERT_OK(madvise(map, BYTES, MADV_DOFORK));
	ASSERT_OK(kt_arm(view, 0, BYTES, CODEWP_ARM_KEEP));
	pid = ASSERT_OK(fork());
	if (!pid) {
		int dev_fd = kt_try_thread(CODEWP_THREAD_UPCALL, kt_handler_skip,
					   NULL, -1);

		ASSERT_GE(dev_fd, 0);
		kt_inc8(map);	/* registered, but not the view's owner */
		ASSERT_EQ(map[0], 1);
		_exit(0);
	}
	kt_reap(pid);
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.tid, pid);
	ASSERT_EQ(map[0], 1);
	ASSERT_EQ(kt_stat(view).upcalls, 0);
}

/* ---- exec ---- */

/*
 * What the program does after exec, in the same task: therefore before the test
 * library, which forks. Its reason for failing goes into the file @why.
 */
static void after_exec(int view, int thread, int why)
{
	uint64_t *map;

	test_why = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, why, 0);
	if (test_why == MAP_FAILED)
		_exit(2);
	map = kt_map(view, BYTES);
	ASSERT_OK(kt_arm(view, 0, BYTES, 0));
	kt_inc8(map);
	ASSERT_EQ(map[0], 1);
	no_map(EPERM, PAGE, thread, 0);

	/* A view of its own: told by the ring, the old handler is nobody's. */
	view = kt_view(kt_memfd(PAGE), PAGE, 0);
	map = kt_map(view, PAGE);
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	kt_inc8(map);
	ASSERT_EQ(map[0], 1);
	ASSERT_EQ(kt_stat(view).events, 1);
	/* And this thread may register anew. */
	ASSERT_OK(kt_try_thread(CODEWP_THREAD_UPCALL, kt_handler_open, NULL, -1));
	_exit(0);
}

static __attribute__((constructor)) void maybe_after_exec(void)
{
	const char *fds = getenv("KMOD_AFTER_EXEC");
	int view, thread, why;

	if (fds && sscanf(fds, "%d %d %d", &view, &thread, &why) == 3)
		after_exec(view, thread, why);
}

TEST(exec_ends_the_registration)
{
	int memfd = kt_memfd(BYTES), view = kt_view(memfd, BYTES, 0), fd, status;
	int why = kt_memfd(PAGE);
	char self[4096] = {}, fds[64];
	pid_t pid;

	ASSERT_GT(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
	pid = ASSERT_OK(fork());
	if (!pid) {
		/*
		 * All of user space is its code cache, since exec moves the
		 * program, and the handler's address means nothing then.
		 */
		struct codewp_thread_create c = {
			.flags = CODEWP_THREAD_UPCALL, .ring_fd = -1,
			.handler = (uintptr_t)kt_handler_open,
			.code_start = PAGE, .code_end = (1UL << 47) - PAGE,
		};

		fd = ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_THREAD, &c));
		/* The descriptors survive only because we insist. */
		fcntl(fd, F_SETFD, 0);
		fcntl(view, F_SETFD, 0);
		fcntl(why, F_SETFD, 0);
		snprintf(fds, sizeof(fds), "%d %d %d", view, fd, why);
		setenv("KMOD_AFTER_EXEC", fds, 1);
		execl(self, self, NULL);
		TEST_FAIL("exec: %s", strerror(errno));
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		char reason[400] = {};

		pread(why, reason, sizeof(reason) - 1, 0);
		TEST_FAIL("after exec: status %#x %s", status, reason);
	}
	/* The store after exec was told to us, by the ring. */
	ASSERT_EQ(kt_stat(view).events, 1);
	ASSERT_EQ(kt_stat(view).upcalls, 0);
}

/* ---- thread exit ---- */

static int left_fd = -1;

static void *registers_and_exits(void *arg)
{
	left_fd = kt_try_thread(CODEWP_THREAD_UPCALL | CODEWP_THREAD_KICK,
				kt_handler_open, NULL, (long)arg);
	return NULL;
}

TEST(thread_exit_leaves_a_harmless_registration)
{
	int memfd = kt_memfd(BYTES), view = kt_view(memfd, BYTES, 0);
	struct codewp_ring *ring = kt_ring(view, RING);
	volatile char *map = kt_map(view, BYTES);
	pthread_t t;

	for (int i = 1; i <= 200; i++) {
		ASSERT_EQ(pthread_create(&t, NULL, registers_and_exits,
					 (void *)(long)view), 0);
		pthread_join(t, NULL);
		ASSERT_GE(left_fd, 0);
		/* The ring kicks a task that is gone. */
		ASSERT_OK(kt_arm(view, 0, PAGE, 0));
		map[0] = i;
		ASSERT_EQ(ring->head, i);
		ring->tail = ring->head;
		close(left_fd);
	}
}

/* ---- fcntl, flock, seals on the view's own descriptor ---- */

TEST(fcntl_on_a_view)
{
	int memfd = kt_memfd(BYTES), view = kt_view(memfd, BYTES, 0), fd;
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	uint64_t buf = 0, hint = 2;
	struct stat st;

	ASSERT(fcntl(view, F_GETFD) & FD_CLOEXEC);
	ASSERT_EQ(fcntl(view, F_GETFL) & O_ACCMODE, O_RDWR);
	/* It is no shmem file: seals are none of its business. */
	ASSERT_ERRNO(fcntl(view, F_GET_SEALS), EINVAL);
	for (int seal = 1; seal <= 0x20; seal <<= 1)
		ASSERT_ERRNO(fcntl(view, F_ADD_SEALS, seal), EINVAL);
	ASSERT_EQ(fcntl(memfd, F_GET_SEALS), 0);
	ASSERT_OK(fcntl(view, F_GETLK, &fl));
	fl.l_type = F_WRLCK;
	ASSERT_OK(fcntl(view, F_SETLK, &fl));
	fl.l_type = F_UNLCK;
	ASSERT_OK(fcntl(view, F_SETLK, &fl));
	ASSERT_OK(flock(view, LOCK_EX));
	ASSERT_OK(flock(view, LOCK_UN));
	ASSERT_OK(fcntl(view, F_SETFL, O_NONBLOCK));
	fcntl(view, F_SET_RW_HINT, &hint);
	fcntl(view, F_SETPIPE_SZ, 65536);
	fcntl(view, F_NOTIFY, DN_MODIFY);
	fcntl(view, F_SETLEASE, F_RDLCK);
	fcntl(view, F_SETOWN, getpid());
	ASSERT_ERRNO(read(view, &buf, 8), EINVAL);
	ASSERT_ERRNO(write(view, &buf, 8), EINVAL);
	ASSERT_ERRNO(pread(view, &buf, 8, 0), ESPIPE);
	ASSERT_EQ(ftruncate(view, 0), -1);
	ASSERT_EQ(fallocate(view, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			    PAGE), -1);
	ASSERT_OK(fstat(view, &st));
	ASSERT_OK(fstat(memfd, &st));
	ASSERT_EQ(st.st_size, BYTES);
	fsync(view);
	/* A second descriptor is the same view. */
	fd = ASSERT_OK(dup(view));
	close(view);
	ASSERT_OK(kt_arm(fd, 0, PAGE, 0));
	ASSERT_EQ(kt_stat(fd).armed, 1);
	/* And no view comes out of reopening it. */
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ASSERT_EQ(open(path, O_RDWR), -1);
}

/* ---- users and memory ---- */

TEST(device_is_not_for_everybody)
{
	struct stat st;
	int memfd = kt_memfd(BYTES), view;
	pid_t pid;

	ASSERT_OK(fstat(kt_dev(), &st));
	ASSERT_EQ(st.st_mode & 07777, 0660);
	ASSERT_EQ(st.st_uid, 0);
	view = kt_view(memfd, BYTES, 0);
	pid = ASSERT_OK(fork());
	if (!pid) {
		ASSERT_OK(setgid(65534));
		ASSERT_OK(setuid(65534));
		ASSERT_ERRNO(open("/dev/codewp", O_RDWR), EACCES);
		/* With an opened device: views of his own, counted as his. */
		int fd = kt_memfd(BYTES);
		struct codewp_info info = {};

		kt_view(fd, BYTES, 0);
		ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_INFO, &info));
		ASSERT_EQ(info.views, 1);
		_exit(0);
	}
	kt_reap(pid);
	close(view);
}

/* Memory is the caller's: a small cgroup stops a greedy one. */
TEST_LONG(memory_is_charged, 30)
{
	const char *root = "/sys/fs/cgroup/codewp-test";
	char buf[128];
	int fd, n = 0;
	pid_t pid;
	int status;

	mkdir("/sys/fs/cgroup", 0755);
	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) &&
	    syscall(SYS_mount, "none", "/sys/fs/cgroup", "cgroup2", 0, NULL))
		SKIP("no cgroup2: %s", strerror(errno));
	fd = open("/sys/fs/cgroup/cgroup.subtree_control", O_WRONLY);
	if (fd < 0 || write(fd, "+memory", 7) != 7)
		SKIP("no memory controller: %s", strerror(errno));
	close(fd);
	if (mkdir(root, 0755) && errno != EEXIST)
		SKIP("mkdir %s: %s", root, strerror(errno));
	snprintf(buf, sizeof(buf), "%s/memory.max", root);
	fd = ASSERT_OK(open(buf, O_WRONLY));
	ASSERT_EQ(write(fd, "16777216", 8), 8);
	close(fd);
	pid = ASSERT_OK(fork());
	if (!pid) {
		snprintf(buf, sizeof(buf), "%s/cgroup.procs", root);
		fd = ASSERT_OK(open(buf, O_WRONLY));
		n = snprintf(buf, sizeof(buf), "%d", getpid());
		ASSERT_EQ(write(fd, buf, n), n);
		/* Rings of 4 MiB: the fourth does not fit. */
		for (n = 0; n < 64; n++) {
			struct codewp_view_create c = {
				.memfd = kt_memfd(PAGE), .length = PAGE,
				.ring_fd = -1, .ring_bytes = 4U << 20,
			};

			if (ioctl(kt_dev(), CODEWP_IOC_VIEW, &c) < 0)
				_exit(errno == ENOMEM ? 0 : 2);
		}
		_exit(3);	/* 256 MiB and nobody minds */
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	rmdir(root);
	/* ENOMEM, or the group's OOM killer, which is as good. */
	if (WIFSIGNALED(status))
		ASSERT_EQ(WTERMSIG(status), SIGKILL);
	else
		ASSERT_EQ(WEXITSTATUS(status), 0);
}

/* ---- a debugger ---- */

/*
 * The policy for traced threads: they are redirected like any other, and the
 * tracer that writes into an armed page is a kernel write like any other.
 */
TEST(ptrace_sees_and_writes)
{
	int memfd = kt_memfd(BYTES), view = kt_view(memfd, BYTES, 0);
	struct codewp_ring *ring = kt_ring(view, RING);
	uint64_t *map = kt_map(view, BYTES);
	struct codewp_event ev;
	int status, fd;
	pid_t pid;

	pid = ASSERT_OK(fork());
	if (!pid) {
		int mine = kt_memfd(PAGE), v = kt_view(mine, PAGE, 0);
		uint64_t *m = kt_map(v, PAGE);
		struct codewp_area *area;

		ASSERT_OK(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
		area = kt_register(kt_handler_open, CODEWP_THREAD_UPCALL, -1, &fd);
		raise(SIGSTOP);
		ASSERT_OK(kt_arm(v, 0, PAGE, 0));
		kt_inc8(m);
		ASSERT_EQ(m[0], 1);
		ASSERT_EQ(area->scratch[0], 1);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT(WIFSTOPPED(status));
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	ASSERT_OK(ptrace(PTRACE_POKEDATA, pid, map + 1, (void *)0x1234));
	ASSERT_EQ(map[1], 0x1234);
	ASSERT(kt_event(ring, &ev));
	/* Written by us, in a mapping that is not ours: no address. */
	ASSERT_EQ(ev.flags, CODEWP_EVENT_KERNEL | CODEWP_EVENT_SELF);
	ASSERT_EQ(ev.addr, 0);
	ASSERT_EQ(ev.ip, 0);
	ASSERT_OK(ptrace(PTRACE_CONT, pid, NULL, NULL));
	kt_reap(pid);
}
