// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Child processes: what a child has for itself and what it shares, and that code
 * which parent and child change differently stays each one's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "guest.h"

static pid_t must_fork(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	return pid;
}

static int reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		CHECK_EQ(errno, EINTR);
	return status;
}

static void must_exit(pid_t pid, int code)
{
	int status = reap(pid);

	if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
		guest_fail(__FILE_NAME__, __LINE__, "child: status %#x, not exit %d", status, code);
}

CASE(fork_wait)
{
	static int mine = 5;
	pid_t pid = must_fork();

	if (!pid) {
		mine = 6;
		_exit(mine + (getppid() > 1) + (getpid() != gettid()));
	}
	must_exit(pid, 7);
	CHECK_EQ(mine, 5);
}

static int tree(int depth)
{
	pid_t a, b;
	int sum = 1;

	if (!depth)
		return 1;
	a = must_fork();
	if (!a)
		_exit(tree(depth - 1));
	b = must_fork();
	if (!b)
		_exit(tree(depth - 1));
	sum += WEXITSTATUS(reap(a));
	sum += WEXITSTATUS(reap(b));
	return sum;
}

CASE(fork_tree)
{
	printf("%d processes\n", tree(5));
}

CASE(fork_many)
{
	pid_t pid[40];

	for (int i = 0; i < 40; i++) {
		pid[i] = must_fork();
		if (!pid[i])
			_exit(i);
	}
	for (int i = 0; i < 40; i++)
		must_exit(pid[i], i);
}

/* Memory that is private, and memory that is not. */
CASE(memory)
{
	int *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int *priv = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int *heap = malloc(sizeof(int));
	pid_t pid;

	*shared = 1;
	*priv = 2;
	*heap = 3;
	pid = must_fork();
	if (!pid) {
		CHECK_EQ(*shared + *priv + *heap, 6);
		*shared = 10;
		*priv = 20;
		*heap = 30;
		_exit(0);
	}
	must_exit(pid, 0);
	CHECK_EQ(*shared, 10);
	CHECK_EQ(*priv, 2);
	CHECK_EQ(*heap, 3);
}

/* Open files are shared with their positions, descriptors are not. */
CASE(descriptors)
{
	int fd = temp_file(100), fds[2];
	char c;
	pid_t pid;

	CHECK(!pipe(fds));
	pid = must_fork();
	if (!pid) {
		lseek(fd, 42, SEEK_SET);
		close(fd);
		close(fds[0]);
		CHECK_EQ(write(fds[1], "x", 1), 1);
		_exit(0);
	}
	close(fds[1]);
	CHECK_EQ(read(fds[0], &c, 1), 1);
	CHECK_EQ(read(fds[0], &c, 1), 0);	/* nobody else has the other end */
	must_exit(pid, 0);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 42);
}

/* ---- code that is changed on both sides ------------------------------------------------- */

/*
 * mov $imm, %eax; ret at p, called; then the same with other numbers, in parent
 * and child at the same time.
 */
static void patch_and_run(uint8_t *write_at, uint8_t *run_at, uint32_t base, bool protect)
{
	for (uint32_t i = 0; i < 100; i++) {
		if (protect)
			CHECK(!mprotect(write_at, PAGE, PROT_READ | PROT_WRITE));
		put_ret_imm(write_at, base + i);
		if (protect)
			CHECK(!mprotect(write_at, PAGE, PROT_READ | PROT_EXEC));
		CHECK_EQ(run1(run_at, 0), base + i);
	}
}

static void fork_while_patching(uint8_t *page, bool protect)
{
	uint8_t here[PAGE];
	pid_t pid;

	patch_and_run(page, page, 1000, protect);
	for (int round = 0; round < 10; round++) {
		pid = must_fork();
		if (!pid) {
			/* the parent's code first, then its own */
			if (protect)
				CHECK(!mprotect(page, PAGE, PROT_READ | PROT_EXEC));
			uint64_t first = run1(page, 0);

			CHECK(round ? first == 3099 : first == 1099);
			patch_and_run(page, page, 2000, protect);
			/* and a grandchild that goes on from there */
			pid = must_fork();
			if (!pid) {
				CHECK_EQ(run1(page, 0), 2099);
				patch_and_run(page, page, 4000, protect);
				_exit(2);
			}
			CHECK_EQ(run1(page, 0), 2099);
			must_exit(pid, 2);
			CHECK_EQ(run1(page, 0), 2099);
			_exit(1);
		}
		patch_and_run(page, page, 3000, protect);
		must_exit(pid, 1);
		CHECK_EQ(run1(page, 0), 3099);
	}
	memcpy(here, page, 6);
	CHECK_EQ(*(uint32_t *)(here + 1), 3099);
}

CASE(patching_rwx)
{
	fork_while_patching(place_get(PLACE_ANON, 1), false);
}

CASE(patching_protected)
{
	fork_while_patching(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0), true);
}

CASE(patching_file)
{
	fork_while_patching(place_get(PLACE_FILE, 1), false);
}

CASE(patching_heap)
{
	fork_while_patching(place_get(PLACE_BRK, 1), false);
}

CASE(patching_stack)
{
	fork_while_patching(place_get(PLACE_STACK, 1), false);
}

/* Shared code is shared: what the child writes, the parent runs. */
static void shared_code(uint8_t *page)
{
	int to[2], from[2];
	pid_t pid;
	char c;

	CHECK(!pipe(to));
	CHECK(!pipe(from));
	put_ret_imm(page, 1);
	CHECK_EQ(run1(page, 0), 1);
	pid = must_fork();
	if (!pid) {
		for (uint32_t i = 0; i < 200; i++) {
			CHECK_EQ(run1(page, 0), i ? 2 * i + 1000 : 1);
			put_ret_imm(page, 2 * i + 1001);
			CHECK_EQ(run1(page, 0), 2 * i + 1001);
			CHECK_EQ(write(from[1], "x", 1), 1);
			CHECK_EQ(read(to[0], &c, 1), 1);
		}
		_exit(0);
	}
	for (uint32_t i = 0; i < 200; i++) {
		CHECK_EQ(read(from[0], &c, 1), 1);
		CHECK_EQ(run1(page, 0), 2 * i + 1001);
		put_ret_imm(page, 2 * i + 1002);
		CHECK_EQ(run1(page, 0), 2 * i + 1002);
		CHECK_EQ(write(to[1], "x", 1), 1);
	}
	must_exit(pid, 0);
}

CASE(shared_anonymous_code)
{
	shared_code(place_get(PLACE_SHARED, 1));
}

CASE(shared_memfd_code)
{
	shared_code(place_get(PLACE_MEMFD, 1));
}

CASE(shared_shm_code)
{
	shared_code(place_get(PLACE_SHM, 1));
}

/* Two mappings of one memfd, as some JITs have them: writable, and executable. */
CASE(two_mappings)
{
	int fd = memfd_create("jit", 0);
	uint8_t *w, *x;
	pid_t pid;

	CHECK(fd >= 0);
	CHECK(!ftruncate(fd, PAGE));
	w = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	x = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(w != MAP_FAILED && x != MAP_FAILED);
	patch_and_run(w, x, 1000, false);
	pid = must_fork();
	if (!pid) {
		CHECK_EQ(run1(x, 0), 1099);
		patch_and_run(w, x, 2000, false);
		_exit(3);
	}
	must_exit(pid, 3);
	CHECK_EQ(run1(x, 0), 2099);
	patch_and_run(w, x, 5000, false);
}

/* ---- with threads ------------------------------------------------------------------------ */

static volatile int stop_threads;

static void *patches(void *arg)
{
	uint8_t *page = arg;
	uint64_t n = 0;

	while (!stop_threads) {
		put_ret_imm(page, n);
		CHECK_EQ(run1(page, 0), n);
		n++;
	}
	return (void *)n;
}

static void *allocates(void *arg)
{
	while (!stop_threads) {
		void *p = malloc(100 + rand() % 10000);

		memset(p, 1, 100);
		free(p);
	}
	return NULL;
}

/* Threads patch their pages while others of the process fork again and again. */
CASE(fork_from_threads_that_patch)
{
	uint8_t *page = place_get(PLACE_ANON, 4);
	pthread_t t[4];
	pid_t pid;

	for (int i = 0; i < 3; i++)
		CHECK(!pthread_create(&t[i], NULL, patches, page + i * 64));
	CHECK(!pthread_create(&t[3], NULL, allocates, NULL));
	for (uint32_t i = 0; i < (getenv("CODEWP_VM") ? 10 : 100); i++) {
		put_ret_imm(page + 3 * PAGE, i);
		pid = must_fork();
		if (!pid) {
			CHECK_EQ(run1(page + 3 * PAGE, 0), i);
			/* pages that threads were patching are this process's alone now */
			for (int k = 0; k < 3; k++) {
				put_ret_imm(page + k * 64, 100 * k);
				CHECK_EQ(run1(page + k * 64, 0), 100 * k);
			}
			patch_and_run(page + 3 * PAGE, page + 3 * PAGE, 500, false);
			free(malloc(1000));
			_exit(5);
		}
		patch_and_run(page + 3 * PAGE, page + 3 * PAGE, 700, false);
		must_exit(pid, 5);
	}
	stop_threads = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

/*
 * A thread that stores to one address by one instruction, beside code that it runs,
 * and in whose way each fork is for a moment. However often that happens, it is none
 * of its business.
 */
static void *stores_in_one_place(void *arg)
{
	volatile uint8_t *at = arg;
	uint64_t n = 0;

	while (!stop_threads) {
		*at = ++n;
		CHECK_EQ(*at, (uint8_t)n);
	}
	return (void *)n;
}

CASE(one_store_and_many_forks)
{
	uint32_t forks = getenv("CODEWP_VM") ? 200 : 10000;
	/* what is copied, while nobody may write it, is some data, too */
	uint8_t *page = place_get(PLACE_ANON, 100);
	uint64_t *n;
	pthread_t t;

	put_ret_imm(page, 1);
	CHECK_EQ(run1(page, 0), 1);
	memset(page + 2 * PAGE, 1, 98 * PAGE);
	stop_threads = 0;
	CHECK(!pthread_create(&t, NULL, stores_in_one_place, page + PAGE));
	/* Most of them fail, which they do late; that is quicker. */
	for (uint32_t i = 0; i < forks; i++) {
		if (i % 500 == 0) {
			pid_t pid = must_fork();

			if (!pid)
				_exit(run1(page, 0) == 1 ? 6 : 7);
			must_exit(pid, 6);
			continue;
		}
		errno = 0;
		CHECK(syscall(SYS_clone, SIGCHLD | CLONE_FS | CLONE_NEWNS, NULL, NULL, NULL,
			      NULL) < 0);
		CHECK_EQ(errno, EINVAL);
		usleep(20);	/* the other one runs meanwhile */
	}
	stop_threads = 1;
	CHECK(!pthread_join(t, (void **)&n));
	CHECK(n);
}

/*
 * One page that is patched all the time, in the parent by its threads and in the child
 * by threads of its own, each with numbers that say who wrote them where. Whoever runs
 * another one's number has code that is not its own.
 */
enum { SLOTS = 3, SLOT_SIZE = 64 };

struct patcher {
	uint8_t *page;
	uint32_t slot, who;
	uint64_t done;
};

static uint32_t number(uint32_t n, uint32_t slot, uint32_t who)
{
	return n << 8 | slot << 4 | who;
}

static void *patches_slot(void *arg)
{
	struct patcher *p = arg;
	uint8_t *at = p->page + p->slot * SLOT_SIZE;

	for (uint32_t n = 0; !stop_threads || n < 200; n++) {
		put_ret_imm(at, number(n & 0xffff, p->slot, p->who));
		CHECK_EQ(run1(at, 0), number(n & 0xffff, p->slot, p->who));
		p->done++;
	}
	return NULL;
}

static void start_patchers(struct patcher *p, pthread_t *t, uint8_t *page, uint32_t who)
{
	for (uint32_t i = 0; i < SLOTS; i++) {
		p[i] = (struct patcher){ .page = page, .slot = i, .who = who };
		CHECK(!pthread_create(&t[i], NULL, patches_slot, &p[i]));
	}
}

static void one_page_of_two(uint8_t *page)
{
	struct patcher p[SLOTS];
	pthread_t t[SLOTS];
	uint64_t before;

	for (uint32_t i = 0; i <= SLOTS; i++)
		put_ret_imm(page + i * SLOT_SIZE, number(0, i, 1));
	stop_threads = 0;
	start_patchers(p, t, page, 1);
	for (uint32_t round = 0; round < (getenv("CODEWP_VM") ? 3 : 20); round++) {
		pid_t pid = must_fork();

		if (!pid) {
			/* what was there in the moment of the fork: the parent's, whole */
			for (uint32_t i = 0; i <= SLOTS; i++)
				CHECK_EQ(run1(page + i * SLOT_SIZE, 0) & 0xff, number(0, i, 1));
			CHECK_EQ(run1(page + SLOTS * SLOT_SIZE, 0), number(round, SLOTS, 1));
			start_patchers(p, t, page, 2);
			for (uint32_t n = 0; n < 300; n++) {
				put_ret_imm(page + SLOTS * SLOT_SIZE, number(n, SLOTS, 2));
				CHECK_EQ(run1(page + SLOTS * SLOT_SIZE, 0), number(n, SLOTS, 2));
			}
			stop_threads = 1;
			for (int i = 0; i < SLOTS; i++)
				pthread_join(t[i], NULL);
			_exit(6);
		}
		before = p[0].done;
		put_ret_imm(page + SLOTS * SLOT_SIZE, number(round + 1, SLOTS, 1));
		must_exit(pid, 6);
		CHECK_EQ(run1(page + SLOTS * SLOT_SIZE, 0), number(round + 1, SLOTS, 1));
		/* the parent's own went on meanwhile */
		while (__atomic_load_n(&p[0].done, __ATOMIC_RELAXED) == before)
			sched_yield();
	}
	stop_threads = 1;
	for (int i = 0; i < SLOTS; i++)
		pthread_join(t[i], NULL);
}

CASE(both_patch_one_page_with_threads)
{
	one_page_of_two(place_get(PLACE_ANON, 1));
}

CASE(both_patch_one_heap_page_with_threads)
{
	one_page_of_two(place_get(PLACE_BRK, 1));
}

CASE(both_patch_one_file_page_with_threads)
{
	one_page_of_two(place_get(PLACE_FILE, 1));
}

static void *forks(void *arg)
{
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (!pid)
			_exit(i);
		must_exit(pid, i);
	}
	return NULL;
}

static void *adds(void *arg)
{
	return (char *)arg + 1;
}

CASE(threads_fork)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&t[i], NULL, forks, NULL));
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

/* A child of a process with threads makes threads of its own. */
static void *thread_of_child(void *arg)
{
	pthread_t t[5];
	uintptr_t sum = 0;
	void *ret;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid) {
		for (uintptr_t i = 0; i < 5; i++)
			CHECK(!pthread_create(&t[i], NULL, adds, (void *)i));
		for (int i = 0; i < 5; i++) {
			pthread_join(t[i], &ret);
			sum += (uintptr_t)ret;
		}
		exit(sum);
	}
	must_exit(pid, 15);
	return NULL;
}

CASE(child_makes_threads)
{
	pthread_t t;

	for (int i = 0; i < 10; i++) {
		CHECK(!pthread_create(&t, NULL, thread_of_child, NULL));
		pthread_join(t, NULL);
	}
}

/* ---- vfork, clone ------------------------------------------------------------------------- */

CASE(vfork_exit)
{
	volatile int written = 1;
	pid_t pid = vfork();

	CHECK(pid >= 0);
	if (!pid) {
		written = 2;		/* the parent's, too */
		_exit(33);
	}
	must_exit(pid, 33);
	CHECK_EQ(written, 2);
	for (volatile int i = 0; i < 300; i++) {
		pid = vfork();
		CHECK(pid >= 0);
		if (!pid)
			_exit(i & 127);
		must_exit(pid, i & 127);
	}
}

CASE(vfork_exec)
{
	pid_t pid;

	fflush(stdout);
	pid = vfork();
	CHECK(pid >= 0);
	if (!pid) {
		execl("/bin/sh", "sh", "-c", "echo from the child; exit 7", (char *)NULL);
		_exit(127);
	}
	must_exit(pid, 7);
	pid = vfork();
	CHECK(pid >= 0);
	if (!pid) {
		execl("/nonexistent/program", "program", (char *)NULL);
		_exit(errno);
	}
	must_exit(pid, ENOENT);
}

CASE(vfork_killed)
{
	pid_t pid = vfork();

	CHECK(pid >= 0);
	if (!pid) {
		kill(getpid(), SIGKILL);
		_exit(1);
	}
	CHECK_EQ(reap(pid), SIGKILL);
}

static void *vforks(void *arg)
{
	for (volatile int i = 0; i < 30; i++) {
		pid_t pid = vfork();

		CHECK(pid >= 0);
		if (!pid)
			_exit(i);
		must_exit(pid, i);
	}
	return NULL;
}

CASE(threads_vfork)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&t[i], NULL, vforks, NULL));
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

/* A child of vfork runs code that the parent patches before and after. */
CASE(vfork_code)
{
	uint8_t *page = place_get(PLACE_ANON, 1);
	pid_t pid;

	patch_and_run(page, page, 10, false);
	pid = vfork();
	CHECK(pid >= 0);
	if (!pid) {
		put_ret_imm(page, 77);
		_exit(run1(page, 0));
	}
	must_exit(pid, 77);
	CHECK_EQ(run1(page, 0), 77);
	patch_and_run(page, page, 200, false);
}

static int in_clone(void *arg)
{
	*(int *)arg = 9;
	return 44;
}

static int slow_clone(void *arg)
{
	usleep(50000);
	return in_clone(arg);
}

/* clone() as fork on a stack of its own; as vfork; and as fork that waits. */
CASE(clone_processes)
{
	static char stack[65536] __attribute__((aligned(16)));
	int value = 1, ptid = 0, *shared;
	pid_t pid;

	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	pid = clone(in_clone, stack + sizeof(stack), SIGCHLD | CLONE_PARENT_SETTID, &value, &ptid);
	CHECK(pid > 0);
	CHECK_EQ(ptid, pid);
	must_exit(pid, 44);
	CHECK_EQ(value, 1);
	pid = clone(in_clone, stack + sizeof(stack), SIGCHLD | CLONE_VM | CLONE_VFORK, &value);
	CHECK(pid > 0);
	must_exit(pid, 44);
	CHECK_EQ(value, 9);
	value = 1;
	*shared = 0;
	pid = clone(slow_clone, stack + sizeof(stack), SIGCHLD | CLONE_VFORK, shared);
	CHECK(pid > 0);
	CHECK_EQ(*shared, 9);		/* it has ended before we went on */
	must_exit(pid, 44);
	pid = clone(in_clone, stack + sizeof(stack), SIGCHLD | CLONE_VM, &value);
	CHECK(pid > 0);
	must_exit(pid, 44);
	CHECK_EQ(value, 9);
	for (int i = 0; i < 100; i++) {
		pid = clone(in_clone, stack + sizeof(stack), SIGCHLD | CLONE_VM, &value);
		CHECK(pid > 0);
		must_exit(pid, 44);
	}
}

CASE(clone_pidfd)
{
	int pidfd = -1;
	siginfo_t info;
	pid_t pid;

	pid = syscall(SYS_clone, SIGCHLD | CLONE_PIDFD, NULL, &pidfd, NULL, 0);
	CHECK(pid >= 0);
	if (!pid)
		_exit(6);
	CHECK(pidfd >= 0);
	CHECK(!waitid(P_PIDFD, pidfd, &info, WEXITED));
	CHECK_EQ(info.si_status, 6);
}

CASE(daemon_detaches)
{
	int fds[2], status;
	char buf[64];
	pid_t pid;
	ssize_t n;

	CHECK(!pipe(fds));
	pid = must_fork();
	if (!pid) {
		CHECK(!daemon(0, 0));
		CHECK_EQ(getsid(0) == getpid() || getppid() > 0, 1);
		snprintf(buf, sizeof(buf), "daemon %d\n", isatty(0) + isatty(1));
		CHECK_EQ(write(fds[1], buf, strlen(buf)), (ssize_t)strlen(buf));
		_exit(0);
	}
	close(fds[1]);
	status = reap(pid);
	n = read(fds[0], buf, sizeof(buf) - 1);
	CHECK(n > 0);
	buf[n] = 0;
	printf("%#x %s", status, buf);
	CHECK_EQ(read(fds[0], buf, 1), 0);
}

/* A daemon must not hold the terminal, or a pipe, that it has let go. */
CASE(daemon_lets_go)
{
	int fds[2], keep[2];
	pid_t pid;
	char c;

	CHECK(!pipe(fds));
	CHECK(!pipe(keep));
	pid = must_fork();
	if (!pid) {
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		close(fds[0]);
		close(fds[1]);
		if (must_fork())
			_exit(0);
		close(keep[1]);
		close(1);
		close(2);
		/* lives until the case ends */
		_exit(read(keep[0], &c, 1));
	}
	close(fds[1]);
	must_exit(pid, 0);
	CHECK_EQ(read(fds[0], &c, 1), 0);
	close(keep[1]);
}
