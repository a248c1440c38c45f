// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * System calls with arguments that are wrong: each must fail as natively. Prints
 * call and result; the driver compares. Nothing here succeeds in a way that
 * changes anything.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "guest.h"

#define BAD	8L			/* nothing is mapped there */
#define HIGH	0xffff800000000000L	/* the kernel's half */
#define NOFD	1000000L

static int null_fd, pipe_fd[2], sock_fd, event_fd;
static char buf[4096], path[] = "/dev/null", empty[] = "", missing[] = "/nonexistent/x";

static void try(const char *name, long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;

	errno = 0;
	ret = syscall(nr, a, b, c, d, e, f);
	if (ret == -1)
		printf("%s: %s\n", name, strerrorname_np(errno));
	else
		printf("%s: %s\n", name, ret ? "done" : "0");
}

#define TRY(call, ...)						\
	try(#call "(" #__VA_ARGS__ ")", SYS_##call, ARGS(__VA_ARGS__, 0, 0, 0, 0, 0, 0))
#define ARGS(a, b, c, d, e, f, ...)	(long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)

static void prepare(void)
{
	null_fd = open("/dev/null", O_RDWR);
	CHECK(null_fd >= 0);
	CHECK(!pipe(pipe_fd));
	CHECK(write(pipe_fd[1], "abcdefgh", 8) == 8);
	sock_fd = syscall(SYS_socket, 1, 2, 0);	/* AF_UNIX, SOCK_DGRAM */
	CHECK(sock_fd >= 0);
	event_fd = eventfd(1, EFD_NONBLOCK);
	CHECK(event_fd >= 0);
}

CASE(bad_pointers)
{
	prepare();
	TRY(read, pipe_fd[0], BAD, 4);
	TRY(read, pipe_fd[0], HIGH, 4);
	TRY(write, pipe_fd[1], BAD, 4);
	TRY(write, pipe_fd[1], HIGH, 4);
	TRY(pread64, null_fd, BAD, 4, -1);
	TRY(readv, pipe_fd[0], BAD, 1);
	TRY(readv, pipe_fd[0], buf, -1);
	TRY(writev, pipe_fd[1], BAD, 1);
	TRY(open, BAD, 0);
	TRY(openat, AT_FDCWD, HIGH, 0);
	TRY(openat2, AT_FDCWD, path, BAD, 24);
	TRY(openat2, AT_FDCWD, path, buf, 8);
	TRY(creat, BAD, 0);
	TRY(stat, BAD, buf);
	TRY(stat, path, BAD);
	TRY(lstat, path, HIGH);
	TRY(fstat, null_fd, BAD);
	TRY(newfstatat, AT_FDCWD, path, BAD, 0);
	TRY(statx, AT_FDCWD, path, 0, 0x7ff, BAD);
	TRY(statfs, path, BAD);
	TRY(fstatfs, null_fd, BAD);
	TRY(access, BAD, 0);
	TRY(faccessat2, AT_FDCWD, BAD, 0, 0);
	TRY(readlink, BAD, buf, 10);
	TRY(readlink, "/proc/self/exe", BAD, 10);
	TRY(readlink, "/proc/self/exe", buf, 0);
	TRY(readlink, "/proc/self/exe", buf, -1);
	TRY(getcwd, BAD, 100);
	TRY(getcwd, buf, 1);
	TRY(chdir, BAD);
	TRY(mkdir, BAD, 0);
	TRY(unlink, BAD);
	TRY(rename, BAD, BAD);
	TRY(pipe, BAD);
	TRY(pipe2, BAD, 0);
	TRY(pipe2, buf, -1);
	TRY(socketpair, 1, 1, 0, BAD);
	TRY(socketpair, 77, 1, 0, buf);
	TRY(bind, sock_fd, BAD, 16);
	TRY(connect, sock_fd, BAD, 16);
	TRY(getsockname, sock_fd, BAD, BAD);
	TRY(getsockname, sock_fd, buf, BAD);
	TRY(getsockopt, sock_fd, 1, 3, BAD, BAD);
	TRY(setsockopt, sock_fd, 1, 2, BAD, 4);
	TRY(sendto, sock_fd, BAD, 4, 0, 0, 0);
	TRY(sendmsg, sock_fd, BAD, 0);
	TRY(sendmmsg, sock_fd, BAD, 1, 0);
	TRY(recvmsg, sock_fd, BAD, 0x40);
	TRY(recvfrom, sock_fd, BAD, 4, 0x40, BAD, BAD);
	TRY(recvmmsg, sock_fd, BAD, 1, 0x40, 0);
	TRY(recvmmsg, sock_fd, buf, 1, 0x40, BAD);
	TRY(poll, BAD, 1, 0);
	TRY(ppoll, BAD, 1, buf, 0, 8);
	TRY(ppoll, buf, 0, BAD, 0, 8);
	TRY(ppoll, buf, 0, buf, BAD, 8);
	TRY(ppoll, buf, 0, buf, buf, 9);
	TRY(select, 1, BAD, 0, 0, 0);
	TRY(select, 1, 0, 0, 0, BAD);
	TRY(pselect6, 1, 0, 0, 0, BAD, 0);
	TRY(pselect6, 1, 0, 0, 0, 0, BAD);
	TRY(epoll_ctl, null_fd, 1, null_fd, BAD);
	TRY(epoll_wait, null_fd, BAD, 1, 0);
	TRY(epoll_wait, null_fd, buf, 0, 0);
	TRY(futex, BAD, 0, 0, 0);
	TRY(futex, buf, 0, 0, BAD);
	TRY(futex, buf + 1, 1, 1, 0);
	TRY(futex, buf, 77, 0, 0);
	TRY(nanosleep, BAD, 0);
	TRY(clock_nanosleep, 0, 0, BAD, 0);
	TRY(clock_nanosleep, 77, 0, buf, 0);
	TRY(clock_gettime, 0, BAD);
	TRY(clock_gettime, 77, buf);
	TRY(clock_getres, 0, BAD);
	TRY(gettimeofday, BAD, 0);
	TRY(getitimer, 0, BAD);
	TRY(setitimer, 0, BAD, 0);
	TRY(setitimer, 77, buf, 0);
	TRY(timer_create, 0, BAD, buf);
	TRY(timer_create, 77, 0, buf);
	TRY(timer_settime, 12345, 0, buf, 0);
	TRY(timerfd_create, 77, 0);
	TRY(timerfd_settime, null_fd, 0, buf, 0);
	TRY(timerfd_gettime, event_fd, buf);
	TRY(times, BAD);
	TRY(uname, BAD);
	TRY(sysinfo, BAD);
	TRY(getrusage, 0, BAD);
	TRY(getrusage, 77, buf);
	TRY(getrlimit, 7, BAD);
	TRY(getrlimit, 77, buf);
	TRY(setrlimit, 7, BAD);
	TRY(prlimit64, 0, 7, BAD, 0);
	TRY(prlimit64, 0, 77, 0, buf);
	TRY(prlimit64, 0, 7, 0, BAD);
	TRY(getgroups, 100, BAD);
	TRY(getresuid, BAD, BAD, BAD);
	TRY(sched_getaffinity, 0, 128, BAD);
	TRY(sched_getaffinity, 0, 1, buf);
	TRY(sched_getparam, 0, BAD);
	TRY(sched_getparam, -1, buf);
	TRY(sched_getattr, 0, BAD, 48, 0);
	TRY(rt_sigaction, 10, BAD, 0, 8);
	TRY(rt_sigaction, 10, 0, BAD, 8);
	TRY(rt_sigaction, 9, buf, 0, 8);
	TRY(rt_sigaction, 10, 0, buf, 4);
	TRY(rt_sigaction, 65, 0, buf, 8);
	TRY(rt_sigprocmask, 0, BAD, 0, 8);
	TRY(rt_sigprocmask, 77, buf, 0, 8);
	TRY(rt_sigprocmask, 0, 0, BAD, 8);
	TRY(rt_sigprocmask, 0, 0, buf, 4);
	TRY(rt_sigpending, BAD, 8);
	TRY(rt_sigpending, buf, 9);
	TRY(rt_sigtimedwait, BAD, 0, 0, 8);
	TRY(rt_sigsuspend, BAD, 8);
	TRY(rt_sigqueueinfo, 1, 10, BAD);
	TRY(sigaltstack, BAD, 0);
	TRY(sigaltstack, 0, BAD);
	TRY(signalfd4, -1, BAD, 8, 0);
	TRY(signalfd4, -1, buf, 4, 0);
	TRY(wait4, -1, BAD, 1, 0);
	TRY(waitid, 0, 0, BAD, 5, 0);
	TRY(waitid, 77, 0, 0, 5, 0);
	TRY(getxattr, path, BAD, buf, 10);
	TRY(listxattr, BAD, buf, 10);
	TRY(inotify_add_watch, null_fd, path, 1);
	TRY(memfd_create, BAD, 0);
	TRY(memfd_create, path, -1);
	TRY(getrandom, BAD, 4, 0);
	TRY(getrandom, buf, 4, -1);
	TRY(getcpu, BAD, 0, 0);
	TRY(prctl, 15, BAD, 0, 0, 0);
	TRY(prctl, 16, BAD, 0, 0, 0);
	TRY(prctl, 9999, 0, 0, 0, 0);
	TRY(arch_prctl, 0x1003, BAD);
	TRY(arch_prctl, 0x1002, HIGH);
	TRY(getdents64, null_fd, buf, 100);
	TRY(name_to_handle_at, AT_FDCWD, path, BAD, buf, 0);
	TRY(copy_file_range, null_fd, BAD, null_fd, 0, 1, 0);
	TRY(sendfile, null_fd, null_fd, BAD, 1);
	TRY(splice, pipe_fd[0], BAD, null_fd, 0, 1, 0);
	TRY(vmsplice, pipe_fd[1], BAD, 1, 0);
	TRY(vmsplice, null_fd, buf, 1, 0);
	TRY(process_vm_readv, getpid(), BAD, 1, buf, 1, 0);
	TRY(execve, BAD, 0, 0);
	TRY(execve, missing, 0, 0);
	TRY(execve, "/", 0, 0);
	TRY(execve, "/proc/self/exe", BAD, 0);	/* whose turn is first depends on the kernel */
	TRY(execveat, -1, empty, 0, 0, 0);
	TRY(execveat, -1, empty, 0, 0, 0x1000);
	TRY(clone3, BAD, 88);
	TRY(clone3, buf, 8);
	TRY(set_robust_list, buf, 23);
	TRY(get_robust_list, 0, BAD, BAD);
	TRY(mq_open, BAD, 0, 0, 0);
	TRY(semop, -1, buf, 1);
	TRY(msgrcv, -1, buf, 10, 0, 0);
	TRY(msgctl, -1, 2, buf);
	TRY(shmat, -1, 0, 0);
	TRY(shmdt, BAD);
	TRY(semctl, -1, 0, 2, buf);
	TRY(io_setup, 0, buf);
	TRY(io_submit, 0, 1, buf);
	TRY(io_getevents, 0, 1, 1, buf, 0);
	TRY(io_destroy, 0);
	TRY(perf_event_open, BAD, 0, -1, -1, 0);
	TRY(keyctl, 9999, 0, 0, 0, 0);
	TRY(seccomp, 77, 0, 0);
	TRY(seccomp, 1, 0, BAD);
	TRY(seccomp, 1, -1, buf);
	TRY(seccomp, 2, 0, BAD);
	TRY(membarrier, 9999, 0, 0);
	TRY(landlock_create_ruleset, BAD, 8, 0);
	TRY(kcmp, -1, -1, 0, 0, 0);
	TRY(mount_setattr, AT_FDCWD, path, 0, BAD, 32);
}

CASE(bad_descriptors)
{
	prepare();
	TRY(read, NOFD, buf, 1);
	TRY(write, -1, buf, 1);
	TRY(write, 0x100000000L | null_fd, buf, 1);	/* the upper half does not count */
	TRY(close, NOFD);
	TRY(close, -1);
	TRY(close_range, 5, 3, 0);
	TRY(close_range, 900, 901, -1);
	TRY(dup, NOFD);
	TRY(dup2, NOFD, 5);
	TRY(dup2, null_fd, -1);
	TRY(dup2, null_fd, 0x7fffffff);
	TRY(dup2, NOFD, NOFD);
	TRY(dup3, null_fd, null_fd, 0);
	TRY(dup3, null_fd, 7, -1);
	TRY(fcntl, NOFD, F_GETFD, 0);
	TRY(fcntl, null_fd, 9999, 0);
	TRY(fcntl, null_fd, F_DUPFD, -1);
	TRY(fcntl, null_fd, F_DUPFD, 0x7fffffff);
	TRY(fcntl, null_fd, F_GETLK, BAD);
	TRY(fcntl, pipe_fd[0], F_SETPIPE_SZ, -1);
	TRY(ioctl, NOFD, 0x5401, buf);
	TRY(ioctl, null_fd, 0x5401, buf);
	TRY(ioctl, pipe_fd[0], 0x541b, BAD);
	TRY(ioctl, null_fd, 0x12345678, buf);
	TRY(ioctl, null_fd, 0xabcd, BAD);
	TRY(ioctl, null_fd, 0x8004abcdL, BAD);
	TRY(lseek, pipe_fd[0], 0, 0);
	TRY(lseek, null_fd, 0, 77);
	TRY(fsync, pipe_fd[0]);
	TRY(ftruncate, null_fd, 10);
	TRY(fallocate, pipe_fd[0], 0, 0, 1);
	TRY(flock, NOFD, 1);
	TRY(fchdir, null_fd);
	TRY(fchmod, NOFD, 0);
	TRY(accept, sock_fd, 0, 0);
	TRY(accept4, null_fd, 0, 0, 0);
	TRY(listen, null_fd, 1);
	TRY(shutdown, sock_fd, 77);
	TRY(epoll_ctl, event_fd, 1, null_fd, buf);
	TRY(eventfd2, 0, -1);
	TRY(epoll_create, 0);
	TRY(epoll_create1, -1);
	TRY(inotify_init1, -1);
	TRY(pidfd_open, -1, 0);
	TRY(pidfd_getfd, null_fd, 0, 0);
	TRY(pidfd_send_signal, null_fd, 0, 0, 0);
	TRY(setns, null_fd, 0);
	TRY(open_by_handle_at, NOFD, buf, 0);
	TRY(mmap, 0, 4096, 1, 2, NOFD, 0);
	TRY(mmap, 0, 0, 1, 2, null_fd, 0);
	TRY(mmap, 0, 4096, 1, 2, null_fd, 1);
	TRY(mmap, 0, 4096, 1, 0, null_fd, 0);
	TRY(mmap, 0, 4096, 1, 2, pipe_fd[0], 0);
	TRY(fadvise64, pipe_fd[0], 0, 0, 0);
	TRY(readahead, pipe_fd[0], 0, 1);
	TRY(tee, null_fd, null_fd, 1, 0);
	TRY(unshare, 0x100);
	TRY(personality, 0xffffffff);
	TRY(sched_setscheduler, 0, 77, buf);
	TRY(setpriority, 77, 0, 0);
	TRY(kill, -1000000, 0);
	TRY(tkill, -1, 0);
	TRY(tgkill, 0, 0, 0);
	TRY(tgkill, getpid(), getpid(), 77);
}

/* Numbers that no kernel has, or that this processor never had. */
CASE(no_such_call)
{
	static const long nr[] = { -1, 512, 1023, 9999, 0x7fffffff, 0x40000000, 0x40000001,
				   156, 174, 177, 178, 180, 181, 183, 184, 185, 205, 211, 214,
				   215, 236 };

	for (size_t i = 0; i < sizeof(nr) / sizeof(*nr); i++) {
		errno = 0;
		CHECK_EQ(syscall(nr[i], 0, 0, 0, 0, 0, 0), -1);
		CHECK_EQ(errno, ENOSYS);
	}
	/* The upper half of the number is not looked at. */
	CHECK_EQ(syscall(0x100000000L | SYS_getpid), getpid());
	printf("none\n");
}
