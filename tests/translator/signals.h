/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the guest programs about signals share. Include first: it decides what libc
 * shows.
 */
#ifndef GUEST_SIGNALS_H
#define GUEST_SIGNALS_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

#include "guest.h"

typedef void handler_fn(int sig, siginfo_t *info, void *uc);

static inline void on(int sig, handler_fn *fn, int flags)
{
	struct sigaction sa = { .sa_sigaction = fn, .sa_flags = flags | SA_SIGINFO };

	CHECK(!sigaction(sig, &sa, NULL));
}

/* Cases may share a process: each begins as in a new one. */
static inline void fresh(void)
{
	const struct itimerval off = { 0 };
	const stack_t none = { .ss_flags = SS_DISABLE };
	sigset_t empty;

	setitimer(ITIMER_REAL, &off, NULL);
	setitimer(ITIMER_PROF, &off, NULL);
	for (int sig = 1; sig <= 64; sig++)
		if (sig != SIGKILL && sig != SIGSTOP && sig != 32 && sig != 33)
			signal(sig, SIG_DFL);
	sigemptyset(&empty);
	CHECK(!sigprocmask(SIG_SETMASK, &empty, NULL));
	CHECK(!sigaltstack(&none, NULL));
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static inline void block(int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
}

static inline void unblock(int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	CHECK(!sigprocmask(SIG_UNBLOCK, &set, NULL));
}

/* The mask in force, as a number: real, from the kernel. */
static inline uint64_t mask_now(void)
{
	uint64_t mask;

	CHECK(!syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8));
	return mask;
}

static inline void alarm_in_ms(int ms)
{
	const struct itimerval it = { .it_value = { ms / 1000, ms % 1000 * 1000 } };

	CHECK(!setitimer(ITIMER_REAL, &it, NULL));
}

static inline double seconds_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

#endif /* GUEST_SIGNALS_H */
