// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Rule 3: a kernel write into an armed page succeeds, and is told.
 *
 * Every way in which a system call puts data into user memory: by copy_to_user,
 * by put_user, by an atomic on a futex, through the page tables of another
 * process. Each must do what it does on unarmed memory, and put exactly one
 * event with KERNEL into the ring.
 */
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#include "mem_util.h"

#define KERNEL_SELF (CODEWP_EVENT_KERNEL | CODEWP_EVENT_SELF)

static char text[3 * PAGE];

static void fill_text(void)
{
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = 'a' + i % 23;
}

/* Both pages [0, 1] were told once, by a kernel write, and hold the text. */
static void expect_two_pages(struct rig *r, size_t from, size_t len)
{
	char seen[2];
	struct codewp_stat st = kt_stat(r->view);

	ASSERT_EQ(st.kernel_writes, 2);
	ASSERT_EQ(rig_collect(r, 0, 2, seen), 2);
	ASSERT(!memcmp(r->map + from, text, len));
	ASSERT(!rig_armed(r, 0) && !rig_armed(r, 1));
}

TEST(rule3_read)
{
	struct codewp_event ev;
	struct rig r;
	int p[2];

	fill_text();
	rig_open(&r, 4, 0);
	ASSERT_OK(pipe(p));
	rig_arm(&r, 1, 1);
	ASSERT_EQ(write(p[1], text, 100), 100);
	ASSERT_EQ(read(p[0], rig_page(&r, 1) + 50, 100), 100);
	ASSERT(!memcmp(rig_page(&r, 1) + 50, text, 100));
	ev = rig_expect(&r, 1, KERNEL_SELF);
	ASSERT_EQ(ev.offset, PAGE + 50);
	ASSERT_EQ(ev.addr, (uintptr_t)rig_page(&r, 1) + 50);
	ASSERT_EQ(ev.cookie, 0xc0de);
	ASSERT_EQ(ev.tid, getpid());
}

TEST(rule3_read_across_two_pages)
{
	struct rig r;
	int p[2];

	fill_text();
	rig_open(&r, 2, 0);
	ASSERT_OK(pipe(p));
	rig_arm(&r, 0, 2);
	ASSERT_EQ(write(p[1], text, 5000), 5000);
	ASSERT_EQ(read(p[0], r.map + 1000, 5000), 5000);
	expect_two_pages(&r, 1000, 5000);
}

TEST(rule3_readv)
{
	struct iovec iov[2];
	struct rig r;
	int p[2];

	fill_text();
	rig_open(&r, 2, 0);
	ASSERT_OK(pipe(p));
	rig_arm(&r, 0, 2);
	iov[0] = (struct iovec){ r.map + PAGE - 10, 10 };
	iov[1] = (struct iovec){ r.map + PAGE, 90 };
	ASSERT_EQ(write(p[1], text, 100), 100);
	ASSERT_EQ(readv(p[0], iov, 2), 100);
	expect_two_pages(&r, PAGE - 10, 100);
}

TEST(rule3_pread)
{
	struct rig r;
	int fd = kt_memfd(3 * PAGE);

	fill_text();
	ASSERT_EQ(pwrite(fd, text, sizeof(text), 0), sizeof(text));
	rig_open(&r, 2, 0);
	rig_arm(&r, 0, 2);
	ASSERT_EQ(pread(fd, r.map, 2 * PAGE, 0), 2 * PAGE);
	expect_two_pages(&r, 0, 2 * PAGE);
}

TEST(rule3_recv)
{
	struct rig r;
	int s[2];

	fill_text();
	rig_open(&r, 2, 0);
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	rig_arm(&r, 0, 2);
	ASSERT_EQ(send(s[1], text, 5000, 0), 5000);
	ASSERT_EQ(recv(s[0], r.map + 100, 5000, MSG_WAITALL), 5000);
	expect_two_pages(&r, 100, 5000);
}

TEST(rule3_recvmsg)
{
	struct iovec iov[2];
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	struct rig r;
	int s[2];

	fill_text();
	rig_open(&r, 2, 0);
	ASSERT_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	rig_arm(&r, 0, 2);
	iov[0] = (struct iovec){ r.map + PAGE - 10, 10 };
	iov[1] = (struct iovec){ r.map + PAGE, 90 };
	ASSERT_EQ(send(s[1], text, 100, 0), 100);
	ASSERT_EQ(recvmsg(s[0], &msg, 0), 100);
	expect_two_pages(&r, PAGE - 10, 100);
}

/* In a private view, KEEP: nobody can be upcalled inside a system call. */
TEST(rule3_read_into_keep_page)
{
	struct rig r;
	int p[2];

	rig_open(&r, 1, CODEWP_VIEW_PRIVATE);
	ASSERT_OK(pipe(p));
	ASSERT_OK(kt_arm(r.view, 0, PAGE, CODEWP_ARM_KEEP));
	ASSERT_EQ(write(p[1], "12345", 5), 5);
	ASSERT_EQ(read(p[0], r.map, 5), 5);
	rig_expect(&r, 0, KERNEL_SELF);
	ASSERT(!memcmp(r.map, "12345", 5));
}

/* ---- small results that the kernel writes here and there ---- */

static void small_stat(char *p)
{
	ASSERT_OK(stat("/", (struct stat *)p));
	ASSERT(S_ISDIR(((struct stat *)p)->st_mode));
}

static void small_uname(char *p)
{
	ASSERT_OK(uname((struct utsname *)p));
	ASSERT(!strcmp(((struct utsname *)p)->sysname, "Linux"));
}

static void small_getrandom(char *p)
{
	ASSERT_EQ(getrandom(p, 64, 0), 64);
}

static void small_gettimeofday(char *p)
{
	ASSERT_OK(syscall(SYS_gettimeofday, p, NULL));
	ASSERT_GT(((struct timeval *)p)->tv_sec, 0);
}

static void small_pipe2(char *p)
{
	ASSERT_OK(syscall(SYS_pipe2, p, 0));
	ASSERT_GT(((int *)p)[1], 2);
}

static void small_getcwd(char *p)
{
	ASSERT_GT(syscall(SYS_getcwd, p, 200), 0);
	ASSERT_EQ(*p, '/');
}

static void small_sigprocmask(char *p)
{
	ASSERT_OK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, p, 8));
}

static void small_prctl_name(char *p)
{
	ASSERT_OK(prctl(PR_SET_NAME, "in-a-page"));
	ASSERT_OK(prctl(PR_GET_NAME, p));
	ASSERT(!strcmp(p, "in-a-page"));
}

static void small_getdents(char *p)
{
	int fd = ASSERT_OK(open("/", O_RDONLY | O_DIRECTORY));

	ASSERT_GT(syscall(SYS_getdents64, fd, p, 1000), 0);
}

static void small_epoll(char *p)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 77 };
	int ep = ASSERT_OK(epoll_create1(0));
	int s[2];

	ASSERT_OK(pipe(s));
	ASSERT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &ev));
	ASSERT_EQ(write(s[1], "x", 1), 1);
	ASSERT_EQ(epoll_wait(ep, (struct epoll_event *)p, 4, -1), 1);
	ASSERT_EQ(((struct epoll_event *)p)->data.u64, 77);
}

static void small_wait_status(char *p)
{
	pid_t pid = ASSERT_OK(fork());

	if (!pid)
		_exit(42);
	ASSERT_EQ(waitpid(pid, (int *)p, 0), pid);
	ASSERT_EQ(WEXITSTATUS(*(int *)p), 42);
}

TEST(rule3_results_of_many_system_calls)
{
	static void (*const call[])(char *) = {
		small_stat, small_uname, small_getrandom, small_gettimeofday,
		small_pipe2, small_getcwd, small_sigprocmask, small_prctl_name,
		small_getdents, small_epoll, small_wait_status,
	};
	const size_t n = sizeof(call) / sizeof(*call);
	struct rig r;

	rig_open(&r, n, 0);
	for (size_t i = 0; i < n; i++) {
		rig_arm(&r, i, 1);
		call[i](rig_page(&r, i) + 64);
		rig_expect(&r, i, KERNEL_SELF);
	}
	ASSERT_EQ(kt_stat(r.view).kernel_writes, n);
}

/* A fault that the kernel must not take in place: it fixes it up and retries. */
TEST(rule3_futex_wake_op)
{
	struct rig r;
	uint32_t *word;

	rig_open(&r, 2, 0);
	word = (uint32_t *)rig_page(&r, 1);
	*word = 5;
	rig_arm(&r, 1, 1);
	ASSERT_OK(syscall(SYS_futex, r.map, FUTEX_WAKE_OP, 1, 1, word,
			  FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)));
	ASSERT_EQ(*(volatile uint32_t *)word, 8);
	rig_expect(&r, 1, KERNEL_SELF);
}

static void *end_at_once(void *arg)
{
	ASSERT_OK(syscall(SYS_set_tid_address, arg));
	syscall(SYS_exit, 0);
	return NULL;
}

/* clear_child_tid is written by the thread on its way out. */
TEST(rule3_thread_exit_clears_tid)
{
	struct codewp_event ev;
	pthread_t t;
	struct rig r;

	rig_open(&r, 1, 0);
	*(int *)r.map = 123;
	rig_arm(&r, 0, 1);
	/* Its own join word is gone with set_tid_address: it is not joined. */
	ASSERT_EQ(pthread_create(&t, NULL, end_at_once, r.map), 0);
	for (int i = 0; i < 20000 && *(volatile int *)r.map; i++)
		sleep_ms(1);
	ASSERT_EQ(*(volatile int *)r.map, 0);
	ev = rig_expect(&r, 0, KERNEL_SELF);
	ASSERT_NE(ev.tid, getpid());
}

/* ---- through another process's page tables ---- */

static pid_t stopped_child(void)
{
	pid_t pid = ASSERT_OK(fork());

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

/* Who writes is another process: its address and ip are nobody's business. */
static void expect_foreign_writer(struct rig *r, size_t page)
{
	struct codewp_event ev = rig_expect(r, page, CODEWP_EVENT_KERNEL);

	ASSERT_EQ(ev.addr, 0);
	ASSERT_EQ(ev.ip, 0);
	ASSERT_NE(ev.tid, getpid());
}

TEST(rule3_process_vm_writev_by_another)
{
	struct iovec local = { text, 5000 }, remote;
	struct rig r;
	pid_t pid, me = getpid();
	char seen[2];

	fill_text();
	rig_open(&r, 2, 0);
	rig_arm(&r, 0, 2);
	remote = (struct iovec){ r.map + 500, 5000 };
	pid = ASSERT_OK(fork());
	if (!pid) {
		ASSERT_EQ(process_vm_writev(me, &local, 1, &remote, 1, 0), 5000);
		_exit(0);
	}
	kt_reap(pid);
	ASSERT_EQ(rig_collect(&r, 0, 2, seen), 2);
	ASSERT(!memcmp(r.map + 500, text, 5000));
	ASSERT_EQ(kt_stat(r.view).kernel_writes, 2);
}

/* Into a child that has the view, too: rule 4, by the kernel's hand. */
TEST(rule3_process_vm_writev_into_another)
{
	struct iovec local = { text, 100 }, remote;
	struct rig r;
	pid_t pid;

	fill_text();
	rig_open(&r, 2, 0);
	remote = (struct iovec){ rig_page(&r, 1), 100 };
	pid = stopped_child();
	rig_arm(&r, 1, 1);
	ASSERT_EQ(process_vm_writev(pid, &local, 1, &remote, 1, 0), 100);
	ASSERT(!memcmp(rig_page(&r, 1), text, 100));
	rig_expect(&r, 1, KERNEL_SELF);
	kill(pid, SIGKILL);
}

TEST(rule3_ptrace_poke)
{
	struct rig r;
	pid_t pid, me = getpid();
	long ready = 0;
	int p[2];

	rig_open(&r, 2, 0);
	ASSERT_OK(prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY));
	rig_arm(&r, 1, 1);
	ASSERT_OK(pipe(p));
	pid = ASSERT_OK(fork());
	if (!pid) {
		/* The view's owner is the tracee, and its child the tracer. */
		ASSERT_OK(ptrace(PTRACE_SEIZE, me, NULL, NULL));
		ASSERT_OK(ptrace(PTRACE_INTERRUPT, me, NULL, NULL));
		ASSERT_EQ(waitpid(me, NULL, __WALL), me);
		ASSERT_OK(ptrace(PTRACE_POKEDATA, me, rig_page(&r, 1) + 8,
				 0x1122334455667788));
		ASSERT_OK(ptrace(PTRACE_DETACH, me, NULL, NULL));
		ASSERT_EQ(write(p[1], "done", 4), 4);
		_exit(0);
	}
	while (read(p[0], &ready, 4) < 0)
		ASSERT_EQ(errno, EINTR);
	ASSERT_EQ(*(volatile long *)(rig_page(&r, 1) + 8), 0x1122334455667788);
	expect_foreign_writer(&r, 1);
	kt_reap(pid);
}

TEST(rule3_proc_mem_write)
{
	struct rig r;
	int fd;

	fill_text();
	rig_open(&r, 2, 0);
	rig_arm(&r, 1, 1);
	fd = ASSERT_OK(open("/proc/self/mem", O_RDWR));
	ASSERT_EQ(pwrite(fd, text, 64, (uintptr_t)rig_page(&r, 1)), 64);
	ASSERT(!memcmp(rig_page(&r, 1), text, 64));
	rig_expect(&r, 1, KERNEL_SELF);
}

/* ---- a read that waits while the page is armed ---- */

struct reader {
	int fd;
	char *to;
	int rounds;
	int done;
};

static void *read_all(void *arg)
{
	struct reader *rd = arg;

	for (int i = 0; i < rd->rounds; i++) {
		ASSERT_EQ(read(rd->fd, rd->to, 1), 1);
		ASSERT_EQ(*rd->to, (char)i);
		__atomic_store_n(&rd->done, i + 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

TEST_LONG(rule3_blocked_read_while_another_thread_arms, 60)
{
	struct reader rd = { .rounds = 300 };
	pthread_t t;
	struct rig r;
	int p[2];

	rig_open(&r, 1, 0);
	ASSERT_OK(pipe(p));
	rd.fd = p[0];
	rd.to = r.map + 7;
	ASSERT_EQ(pthread_create(&t, NULL, read_all, &rd), 0);
	for (int i = 0; i < rd.rounds; i++) {
		char c = i;

		if (i % 3 == 0)
			sleep_ms(1);	/* now it is blocked for sure */
		rig_arm(&r, 0, 1);
		ASSERT_EQ(write(p[1], &c, 1), 1);
		while (__atomic_load_n(&rd.done, __ATOMIC_ACQUIRE) <= i)
			sched_yield();
		rig_expect(&r, 0, KERNEL_SELF);
	}
	ASSERT_EQ(pthread_join(t, NULL), 0);
	ASSERT_EQ(kt_stat(r.view).kernel_writes, rd.rounds);
}
