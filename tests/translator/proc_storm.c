// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Everything at the same time: threads that make threads, patch code, fork, vfork
 * and execute programs, map and unmap, and signals to all of them. For two
 * seconds, or as many as GUEST_SECONDS says.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>

#include "guest.h"

static uint64_t ends_at;
static uint64_t handled;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static int done(void)
{
	return now() > ends_at;
}

static void on_signal(int sig, siginfo_t *info, void *uc)
{
	__atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		CHECK_EQ(errno, EINTR);
	return status;
}

static void *plus_one(void *arg)
{
	return (char *)arg + 1;
}

static void *makes_threads(void *arg)
{
	pthread_t t[4];
	void *ret;
	int err;

	do {
		for (uintptr_t i = 0; i < 4; i++)
			while ((err = pthread_create(&t[i], NULL, plus_one, (void *)i)))
				CHECK_EQ(err, EAGAIN);
		for (uintptr_t i = 0; i < 4; i++) {
			CHECK(!pthread_join(t[i], &ret));
			CHECK_EQ((uintptr_t)ret, i + 1);
		}
	} while (!done());
	return NULL;
}

/* Its own piece of a page that others patch, too. */
static void *patches(void *arg)
{
	uint8_t *p = arg;
	uint32_t n = 0;

	do {
		for (int i = 0; i < 50; i++) {
			put_ret_imm(p, ++n);
			CHECK_EQ(run1(p, 0), n);
		}
	} while (!done());
	return NULL;
}

/* Written, then made executable, as a careful JIT does. */
static void *patches_protected(void *arg)
{
	uint32_t n = 0;

	do {
		uint8_t *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		CHECK(p != MAP_FAILED);
		for (int i = 0; i < 10; i++) {
			CHECK(!mprotect(p, PAGE, PROT_READ | PROT_WRITE));
			put_ret_imm(p, ++n);
			CHECK(!mprotect(p, PAGE, PROT_READ | PROT_EXEC));
			CHECK_EQ(run1(p, 0), n);
		}
		CHECK(!munmap(p, 2 * PAGE));
	} while (!done());
	return NULL;
}

static void *forks(void *arg)
{
	uint8_t *p = arg;
	uint32_t n = 1000000;

	do {
		pid_t pid;

		put_ret_imm(p, ++n);
		CHECK_EQ(run1(p, 0), n);
		pid = fork();
		CHECK(pid >= 0);
		if (!pid) {
			pthread_t t;
			void *ret;

			CHECK_EQ(run1(p, 0), n);
			put_ret_imm(p, 5);
			CHECK_EQ(run1(p, 0), 5);
			CHECK(!pthread_create(&t, NULL, plus_one, (void *)6));
			CHECK(!pthread_join(t, &ret));
			_exit((uintptr_t)ret);
		}
		CHECK_EQ(wait_for(pid), 7 << 8);
		CHECK_EQ(run1(p, 0), n);
	} while (!done());
	return NULL;
}

static void *spawns(void *arg)
{
	do {
		char *argv[] = { "sh", "-c", "exit 3", NULL };
		pid_t pid;

		CHECK(!posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ));
		CHECK_EQ(wait_for(pid), 3 << 8);
		CHECK_EQ(posix_spawn(&pid, "/no/such/program", NULL, NULL, argv, environ), ENOENT);
	} while (!done());
	return NULL;
}

static void *computes(void *arg)
{
	uint64_t x = 88172645463325252ULL, want = 0;

	do {
		uint64_t y = x, sum = 0;

		for (int i = 0; i < 20000; i++) {
			y ^= y << 13;
			y ^= y >> 7;
			y ^= y << 17;
			sum += y;
		}
		if (!want)
			want = sum;
		CHECK_EQ(sum, want);
	} while (!done());
	return NULL;
}

CASE(storm)
{
	static void *(*const what[])(void *arg) = {
		makes_threads, patches, patches, patches, patches_protected, forks, spawns,
		computes, computes,
	};
	enum { n = sizeof(what) / sizeof(*what) };
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	const char *seconds = getenv("GUEST_SECONDS");
	uint8_t *page = place_get(PLACE_ANON, 2);
	uint64_t sent = 0;
	pthread_t t[n];

	CHECK(!sigaction(SIGUSR1, &act, NULL));
	ends_at = now() + (seconds ? atoi(seconds) : 2) * 1000000000ULL;
	for (unsigned int i = 0; i < n; i++)
		CHECK(!pthread_create(&t[i], NULL, what[i], page + i * 256));
	while (!done()) {
		for (unsigned int i = 0; i < n; i++)
			sent += !pthread_kill(t[i], SIGUSR1);
		usleep(2000);
	}
	for (unsigned int i = 0; i < n; i++)
		CHECK(!pthread_join(t[i], NULL));
	CHECK(sent > 0);
	CHECK(handled > 0 && handled <= sent);
}
