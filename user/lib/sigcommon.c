// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Signals: the library's own handlers for SIGSEGV and SIGBUS, the way on to
 * the program's, each thread's list of registrations, and fork().
 *
 * Owns the table of open contexts. Writers hold table_lock; handlers read it
 * without, and are counted so that codewp_close() can wait for them.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "backend.h"

#define CONTEXTS_MAX 64

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct codewp *contexts[CONTEXTS_MAX];
static uint32_t in_handler;

/* What was there before us, for each signal that we took. */
static struct taken {
	int sig;
	unsigned int users;
	struct sigaction prev;
} taken[] = { { .sig = SIGSEGV }, { .sig = SIGBUS } };

static __thread struct codewp_thread *self_list;

struct codewp_thread *thread_self(const struct codewp *ctx)
{
	struct codewp_thread *t;

	if (!ctx_alive(ctx))
		return NULL;
	for (t = self_list; t; t = t->tls_next)
		if (load_acquire(&t->ctx) == ctx)
			return t;
	return NULL;
}

void thread_self_add(struct codewp_thread *thread)
{
	struct codewp_thread **p = &self_list;

	while (*p) {
		struct codewp_thread *t = *p;

		if (!load_acquire(&t->ctx)) {
			*p = t->tls_next;
			free(t);
		} else {
			p = &t->tls_next;
		}
	}
	thread->tls_next = self_list;
	self_list = thread;
}

bool thread_self_del(struct codewp_thread *thread)
{
	for (struct codewp_thread **p = &self_list; *p; p = &(*p)->tls_next)
		if (*p == thread) {
			*p = thread->tls_next;
			return true;
		}
	return false;
}

/* codewp_regs is in encoding order. */
static const uint8_t greg_of[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

void regs_from_ucontext(struct codewp_regs *regs, const void *ucontext)
{
	const ucontext_t *uc = ucontext;

	for (int i = 0; i < 16; i++)
		regs->r[i] = uc->uc_mcontext.gregs[greg_of[i]];
	regs->rip = uc->uc_mcontext.gregs[REG_RIP];
	regs->rflags = uc->uc_mcontext.gregs[REG_EFL];
}

void regs_to_ucontext(const struct codewp_regs *regs, void *ucontext)
{
	ucontext_t *uc = ucontext;

	for (int i = 0; i < 16; i++)
		uc->uc_mcontext.gregs[greg_of[i]] = regs->r[i];
	uc->uc_mcontext.gregs[REG_RIP] = regs->rip;
	uc->uc_mcontext.gregs[REG_EFL] = regs->rflags;
}

/* Not ours: as if we were not there. */
static void pass_on(struct sigaction *prev, int sig, siginfo_t *info, void *uc)
{
	void (*handler)(int) = prev->sa_handler;
	void (*action)(int, siginfo_t *, void *) = prev->sa_sigaction;
	sigset_t block, saved;

	if (handler == SIG_IGN && info->si_code <= 0)
		return;
	if (handler == SIG_DFL || handler == SIG_IGN) {
		/*
		 * A fault that nobody handles kills, ignored or not: it comes
		 * again when we return. One that was sent has to be sent again.
		 */
		signal(sig, SIG_DFL);
		if (info->si_code <= 0)
			raise(sig);
		return;
	}
	block = prev->sa_mask;
	if (!(prev->sa_flags & SA_NODEFER))
		sigaddset(&block, sig);
	if (prev->sa_flags & SA_RESETHAND)
		prev->sa_handler = SIG_DFL;
	pthread_sigmask(SIG_BLOCK, &block, &saved);
	if (prev->sa_flags & SA_SIGINFO)
		action(sig, info, uc);
	else
		handler(sig);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

static void on_signal(int sig, siginfo_t *info, void *uc)
{
	int err = errno;
	bool done = false;

	/* Pairs with signals_leave(): it sees us, or we see the empty slot. */
	__atomic_fetch_add(&in_handler, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < CONTEXTS_MAX && !done; i++) {
		struct codewp *ctx = __atomic_load_n(&contexts[i], __ATOMIC_SEQ_CST);

		if (ctx && !ctx->own_signals)
			done = codewp_handle_signal(ctx, sig, info, uc);
	}
	__atomic_fetch_sub(&in_handler, 1, __ATOMIC_RELEASE);
	if (!done)
		for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
			if (taken[i].sig == sig)
				pass_on(&taken[i].prev, sig, info, uc);
	errno = err;
}

static int take(struct taken *t)
{
	struct sigaction sa;

	if (t->users++)
		return 0;
	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = on_signal;
	/* NODEFER: the callback may trap, too. */
	sa.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_RESTART;
	sigemptyset(&sa.sa_mask);
	if (sigaction(t->sig, &sa, &t->prev)) {
		t->users--;
		return -errno;
	}
	return 0;
}

static void give_back(struct taken *t)
{
	struct sigaction now;

	if (--t->users)
		return;
	/* A handler that came after ours stays. */
	if (!sigaction(t->sig, NULL, &now) && (now.sa_flags & SA_SIGINFO) &&
	    now.sa_sigaction == on_signal)
		sigaction(t->sig, &t->prev, NULL);
}

/* fork() while another thread is inside: the child must find the locks free. */
static sigset_t fork_saved[CONTEXTS_MAX];

static void fork_prepare(void)
{
	pthread_mutex_lock(&table_lock);
	for (int i = 0; i < CONTEXTS_MAX; i++)
		if (contexts[i])
			ctx_lock(contexts[i], &fork_saved[i]);
}

static void fork_parent(void)
{
	for (int i = CONTEXTS_MAX - 1; i >= 0; i--)
		if (contexts[i])
			ctx_unlock(contexts[i], &fork_saved[i]);
	pthread_mutex_unlock(&table_lock);
}

static void fork_child(void)
{
	for (int i = CONTEXTS_MAX - 1; i >= 0; i--)
		if (contexts[i])
			ctx_lock_reset(contexts[i], &fork_saved[i]);
	/* The other threads' handlers are not here. */
	store_release(&in_handler, 0);
	pthread_mutex_unlock(&table_lock);
}

/**
 * codewp_fork_child() - the child of a fork that libc knows nothing of
 *
 * Frees the locks that other threads of the parent held in the moment of the fork.
 * After fork() of libc this has happened already; here, and in a child that shares
 * its parent's memory, the call changes nothing.
 */
void codewp_fork_child(void)
{
	bool child = false;

	for (int i = 0; i < CONTEXTS_MAX; i++) {
		struct codewp *ctx = contexts[i];

		if (!ctx || ctx_alive(ctx))
			continue;
		child = true;
		track_reset(&ctx->track);
		ctx_lock_reset(ctx, NULL);
	}
	if (!child)
		return;
	store_release(&in_handler, 0);
	pthread_mutex_init(&table_lock, NULL);
}

int signals_join(struct codewp *ctx)
{
	static bool atfork_done;
	int slot = -1, err = 0;

	pthread_mutex_lock(&table_lock);
	for (int i = 0; i < CONTEXTS_MAX && slot < 0; i++)
		if (!contexts[i])
			slot = i;
	if (slot < 0)
		err = -EMFILE;
	if (!err && !atfork_done) {
		err = -pthread_atfork(fork_prepare, fork_parent, fork_child);
		atfork_done = !err;
	}
	for (size_t i = 0; i < ARRAY_SIZE(taken) && !err; i++)
		if (taken[i].sig == ctx->ops->sig && !ctx->own_signals)
			err = take(&taken[i]);
	if (!err)
		__atomic_store_n(&contexts[slot], ctx, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&table_lock);
	return err;
}

void signals_leave(struct codewp *ctx)
{
	pthread_mutex_lock(&table_lock);
	for (int i = 0; i < CONTEXTS_MAX; i++)
		if (contexts[i] == ctx)
			__atomic_store_n(&contexts[i], NULL, __ATOMIC_SEQ_CST);
	for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
		if (taken[i].sig == ctx->ops->sig && !ctx->own_signals)
			give_back(&taken[i]);
	/* Pairs with on_signal(). */
	while (__atomic_load_n(&in_handler, __ATOMIC_SEQ_CST))
		sched_yield();
	pthread_mutex_unlock(&table_lock);
}
