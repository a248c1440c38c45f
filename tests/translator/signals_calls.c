// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * System calls that a signal interrupts: which are restarted, which end with EINTR,
 * and which mask is in force meanwhile.
 *
 * The signal comes from a timer that goes off while the call waits, and whose
 * handler may make happen what it waits for.
 */
#include "signals.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define DELAY_MS 30

static volatile int alarms;
static volatile uint64_t mask_inside, mask_saved;
static int wake_fd = -1;
static volatile int *wake_word;

static void on_alarm(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;

	alarms++;
	mask_inside = mask_now();
	mask_saved = *(uint64_t *)&uc->uc_sigmask;
	if (wake_fd >= 0 && write(wake_fd, "x", 1) != 1)
		_exit(9);
	if (wake_word) {
		*wake_word = 1;
		syscall(SYS_futex, wake_word, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	/* the next one, in case the call was restarted */
	if (alarms < 3)
		alarm_in_ms(DELAY_MS);
}

static void begin(int flags)
{
	fresh();
	alarms = 0;
	wake_fd = -1;
	wake_word = NULL;
	on(SIGALRM, on_alarm, flags);
	alarm_in_ms(DELAY_MS);
}

static void end(const char *what, long ret)
{
	int err = ret < 0 ? errno : 0;

	alarm_in_ms(0);
	printf("%s: %ld, %s; %s\n", what, ret, err ? strerrorname_np(err) : "-",
	       alarms ? "interrupted" : "no alarm");
	CHECK_EQ(mask_now(), 0);
}

static const struct { const char *name; int flags; } how[2] = {
	{ "plain", 0 }, { "restart", SA_RESTART },
};

#define BOTH(i) for (int i = 0; i < 2; i++)

CASE(read_pipe)
{
	BOTH(i) {
		char c;
		int p[2];

		CHECK(!pipe(p));
		begin(how[i].flags);
		wake_fd = p[1];
		end(how[i].name, read(p[0], &c, 1));
		close(p[0]);
		close(p[1]);
	}
}

CASE(receive)
{
	BOTH(i) {
		char c;
		int p[2];

		CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, p));
		begin(how[i].flags);
		wake_fd = p[1];
		end(how[i].name, recv(p[0], &c, 1, 0));
		close(p[0]);
		close(p[1]);
	}
}

CASE(sleeps)
{
	BOTH(i) {
		struct timespec ts = { 1, 0 }, rem = { 9, 9 };
		long ret;

		begin(how[i].flags);
		ret = nanosleep(&ts, &rem);
		end(how[i].name, ret);
		CHECK(rem.tv_sec == 0 && rem.tv_nsec > 100000000);
		begin(how[i].flags);
		ret = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, &rem);
		end(how[i].name, ret);
		begin(how[i].flags);
		clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_nsec += 200000000;
		if (ts.tv_nsec >= 1000000000) {
			ts.tv_nsec -= 1000000000;
			ts.tv_sec++;
		}
		ret = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		printf("%s absolute: %ld %d\n", how[i].name, ret, ret ? errno : 0);
		alarm_in_ms(0);
	}
}

CASE(futex)
{
	BOTH(i) {
		struct timespec ts = { 1, 0 };
		volatile int word = 0;
		long ret;

		begin(how[i].flags);
		wake_word = &word;
		ret = syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
		end(how[i].name, ret);
		begin(how[i].flags);
		ret = syscall(SYS_futex, &word, FUTEX_WAIT, 1, &ts, NULL, 0);
		end(how[i].name, ret);
	}
}

CASE(polls)
{
	BOTH(i) {
		struct timeval tv = { 1, 0 };
		struct pollfd pf;
		struct epoll_event ev;
		fd_set set;
		int p[2], ep;

		CHECK(!pipe(p));
		pf = (struct pollfd){ .fd = p[0], .events = POLLIN };
		begin(how[i].flags);
		end("poll", poll(&pf, 1, 1000));
		begin(how[i].flags);
		end("poll forever", poll(&pf, 1, -1));
		begin(how[i].flags);
		FD_ZERO(&set);
		FD_SET(p[0], &set);
		end("select", select(p[0] + 1, &set, NULL, NULL, &tv));
		ep = epoll_create1(0);
		ev = (struct epoll_event){ .events = EPOLLIN };
		CHECK(!epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
		begin(how[i].flags);
		end("epoll_wait", epoll_wait(ep, &ev, 1, 1000));
		close(ep);
		close(p[0]);
		close(p[1]);
	}
}

CASE(wait_for_child)
{
	BOTH(i) {
		int status, pid, p[2];
		long ret;
		char c;

		CHECK(!pipe(p));
		fflush(stdout);
		pid = fork();
		if (!pid) {
			close(p[1]);
			if (read(p[0], &c, 1) != 1)
				_exit(1);
			_exit(0);
		}
		begin(how[i].flags);
		wake_fd = p[1];
		ret = waitpid(pid, &status, 0);
		end(how[i].name, ret == pid ? 1 : ret);
		if (ret < 0)
			CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
		close(p[0]);
		close(p[1]);
	}
}

CASE(semaphore)
{
	BOTH(i) {
		struct sembuf op = { 0, -1, 0 };
		int id = semget(IPC_PRIVATE, 1, 0600);

		CHECK(id >= 0);
		begin(how[i].flags);
		end(how[i].name, semop(id, &op, 1));
		CHECK(!semctl(id, 0, IPC_RMID));
	}
}

CASE(lock_file)
{
	BOTH(i) {
		struct flock fl = { .l_type = F_WRLCK };
		int pid, p[2], q[2], fd = temp_file(10), status;
		char c;

		CHECK(!pipe(p) && !pipe(q));
		fflush(stdout);
		pid = fork();
		if (!pid) {
			close(q[1]);
			if (fcntl(fd, F_SETLK, &fl) || write(p[1], "x", 1) != 1 ||
			    read(q[0], &c, 1) != 1)
				_exit(1);
			_exit(0);
		}
		CHECK_EQ(read(p[0], &c, 1), 1);
		begin(how[i].flags);
		wake_fd = q[1];
		end(how[i].name, fcntl(fd, F_SETLKW, &fl));
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
		for (int k = 0; k < 2; k++) {
			close(p[k]);
			close(q[k]);
		}
		close(fd);
	}
}

CASE(pauses)
{
	BOTH(i) {
		begin(how[i].flags);
		end(how[i].name, pause());
	}
}

/* --- calls with a mask of their own -------------------------------------------- */

static void begin_masked(int i, sigset_t *set)
{
	begin(how[i].flags);
	block(SIGALRM);
	block(SIGUSR1);
	sigemptyset(set);
	sigaddset(set, SIGUSR2);
}

static void end_masked(const char *what, long ret)
{
	int err = ret < 0 ? errno : 0;

	alarm_in_ms(0);
	printf("%s: %ld %s; in the handler %#lx, saved %#lx, now %#lx\n", what, ret,
	       err ? strerrorname_np(err) : "-", (long)mask_inside, (long)mask_saved,
	       (long)mask_now());
}

CASE(suspend)
{
	sigset_t set;

	BOTH(i) {
		begin_masked(i, &set);
		end_masked(how[i].name, sigsuspend(&set));
	}
	CHECK_EQ(syscall(SYS_rt_sigsuspend, &set, 4), -1);
	CHECK_EQ(errno, EINVAL);
	CHECK_EQ(syscall(SYS_rt_sigsuspend, 8, 8), -1);
	CHECK_EQ(errno, EFAULT);
}

CASE(masked_polls)
{
	sigset_t set;

	BOTH(i) {
		struct timespec ts = { 1, 0 };
		struct epoll_event ev = { .events = EPOLLIN };
		struct pollfd pf;
		fd_set fds;
		int p[2], ep;

		CHECK(!pipe(p));
		ep = epoll_create1(0);
		CHECK(!epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
		begin_masked(i, &set);
		pf = (struct pollfd){ .fd = p[0], .events = POLLIN };
		end_masked("ppoll", ppoll(&pf, 1, &ts, &set));
		begin_masked(i, &set);
		FD_ZERO(&fds);
		FD_SET(p[0], &fds);
		end_masked("pselect", pselect(p[0] + 1, &fds, NULL, NULL, &ts, &set));
		begin_masked(i, &set);
		end_masked("epoll_pwait", epoll_pwait(ep, &ev, 1, 1000, &set));
		/* an answer comes before the signal: it waits, and then is blocked */
		begin_masked(i, &set);
		CHECK_EQ(write(p[1], "x", 1), 1);
		mask_inside = 0;
		end_masked("ready", ppoll(&pf, 1, &ts, &set));
		close(ep);
		close(p[0]);
		close(p[1]);
	}
}

/* Pending already, and let through by the call's mask only. */
CASE(suspend_with_pending)
{
	const int sigs[] = { SIGALRM, SIGSEGV, SIGTRAP, SIGRTMIN + 4 };

	for (size_t i = 0; i < sizeof(sigs) / sizeof(*sigs); i++) {
		sigset_t set;

		fresh();
		alarms = 5;
		on(sigs[i], on_alarm, SA_RESTART);
		block(sigs[i]);
		raise(sigs[i]);
		CHECK_EQ(alarms, 5);
		sigemptyset(&set);
		sigaddset(&set, SIGUSR2);
		end_masked("suspend", sigsuspend(&set));
		CHECK_EQ(alarms, 6);
	}
}

/* --- what the handler sees, and may change ------------------------------------------ */

static volatile long seen_rax, seen_rip_bytes;
static int answer;

static void look(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;
	greg_t *greg = uc->uc_mcontext.gregs;

	seen_rax = greg[REG_RAX];
	seen_rip_bytes = *(uint16_t *)greg[REG_RIP];
	if (wake_fd >= 0 && write(wake_fd, "x", 1) != 1)
		_exit(9);
	/* not again: answer in its place */
	if (answer) {
		greg[REG_RAX] = answer;
		greg[REG_RIP] += 2;
	}
}

CASE(registers_of_an_interrupted_call)
{
	for (int i = 0; i < 3; i++) {
		char c;
		int p[2];
		long ret;

		CHECK(!pipe(p));
		fresh();
		on(SIGALRM, look, i ? SA_RESTART : 0);
		wake_fd = i == 1 ? p[1] : -1;
		answer = i == 2 ? 1234 : 0;
		alarm_in_ms(DELAY_MS);
		ret = syscall(SYS_read, p[0], &c, 1);
		printf("%ld; rax %ld, at a syscall instruction %d\n", ret, seen_rax,
		       seen_rip_bytes == 0x050f);
		close(p[0]);
		close(p[1]);
	}
	answer = 0;
	wake_fd = -1;
}

/* A call that has nothing to wait for is never lost nor done twice. */
CASE(writes_under_fire)
{
	const struct itimerval it = { { 0, 300 }, { 0, 300 } };
	int p[2], n = getenv("CODEWP_VM") ? 2000 : 40000;
	long sum = 0;

	CHECK(!pipe(p));
	fresh();
	wake_fd = -1;
	on(SIGALRM, look, SA_RESTART);
	CHECK(!setitimer(ITIMER_REAL, &it, NULL));
	for (int i = 0; i < n; i++) {
		int got;

		CHECK_EQ(write(p[1], &i, sizeof(i)), sizeof(i));
		CHECK_EQ(read(p[0], &got, sizeof(got)), sizeof(got));
		CHECK_EQ(got, i);
		sum += got;
	}
	alarm_in_ms(0);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	printf("%ld\n", sum);
	close(p[0]);
	close(p[1]);
}

/* Masks changed while signals come: the handler never runs while it is blocked. */
static volatile int forbidden, broken;

static void not_now(int sig, siginfo_t *info, void *uc)
{
	if (forbidden)
		broken++;
	alarms++;
}

CASE(masks_under_fire)
{
	const struct itimerval it = { { 0, 200 }, { 0, 200 } };
	int n = getenv("CODEWP_VM") ? 2000 : 100000;

	fresh();
	on(SIGALRM, not_now, 0);
	alarms = 0;
	broken = 0;
	CHECK(!setitimer(ITIMER_REAL, &it, NULL));
	for (int i = 0; i < n || alarms < 20; i++) {
		block(SIGALRM);
		forbidden = 1;
		__asm__ volatile("" ::: "memory");
		forbidden = 0;
		unblock(SIGALRM);
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	CHECK_EQ(broken, 0);
}
