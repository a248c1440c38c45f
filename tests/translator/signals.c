// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Signals that somebody sends: dispositions, masks, the queue, alternate stacks,
 * jumps out of handlers, timers.
 */
#include "signals.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define FOR_SIGNALS(s)	for (int s = 1; s <= 64; s++)				\
				if (s != SIGKILL && s != SIGSTOP && s != 32 && s != 33)

static volatile char *volatile nowhere = (volatile char *)8;
static volatile int count, last_sig, last_code;
static volatile long last_value;
static volatile uint64_t mask_inside;

static void note(int sig, siginfo_t *info, void *uc)
{
	count++;
	last_sig = sig;
	last_code = info->si_code;
	last_value = info->si_value.sival_int;
	mask_inside = mask_now();
}

static void print_note(const char *what)
{
	printf("%s: %d times, sig %d code %d value %ld mask %#lx then %#lx\n", what, count,
	       last_sig, last_code, last_value, (long)mask_inside, (long)mask_now());
	count = 0;
}

CASE(every_signal)
{
	fresh();
	FOR_SIGNALS(sig)
		on(sig, note, 0);
	FOR_SIGNALS(sig) {
		count = 0;
		last_sig = 0;
		CHECK(!raise(sig));
		CHECK_EQ(count, 1);
		CHECK_EQ(last_sig, sig);
		CHECK_EQ(mask_inside, 1UL << (sig - 1));
		CHECK_EQ(mask_now(), 0);
		CHECK(!sigqueue(getpid(), sig, (union sigval){ .sival_int = sig * 3 }));
		CHECK_EQ(last_value, sig * 3);
		printf("%d: code %d\n", sig, last_code);
		CHECK(!kill(getpid(), sig));
		CHECK_EQ(count, 3);
		CHECK_EQ(last_code, SI_USER);
	}
}

CASE(every_signal_blocked_first)
{
	fresh();
	FOR_SIGNALS(sig) {
		sigset_t pending;

		on(sig, note, SA_RESTART);
		block(sig);
		count = 0;
		CHECK(!kill(getpid(), sig));
		CHECK(!kill(getpid(), sig));
		CHECK_EQ(count, 0);
		CHECK(!sigpending(&pending));
		CHECK(sigismember(&pending, sig));
		FOR_SIGNALS(other)
			CHECK(other == sig || !sigismember(&pending, other));
		unblock(sig);
		CHECK_EQ(last_sig, sig);
		printf("%d: %d\n", sig, count);
		CHECK(!sigpending(&pending));
		CHECK(!sigismember(&pending, sig));
		signal(sig, SIG_DFL);
	}
}

static volatile int order[100], orders;

static void note_order(int sig, siginfo_t *info, void *uc)
{
	if (orders < 100)
		order[orders++] = sig * 1000 + info->si_value.sival_int;
}

/* Lower numbers first, and each number in the order it was sent. */
CASE(real_time_order)
{
	uint64_t all = 0, none = 0;

	fresh();
	orders = 0;
	for (int i = 0; i < 6; i++) {
		struct sigaction sa = { .sa_sigaction = note_order, .sa_flags = SA_SIGINFO };

		sigfillset(&sa.sa_mask);
		sigaction(SIGRTMIN + i, &sa, NULL);
		sigaction(SIGUSR1, &sa, NULL);
		all |= 1UL << (SIGRTMIN + i - 1);
	}
	all |= 1UL << (SIGUSR1 - 1);
	CHECK(!syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8));
	for (int i = 0; i < 60; i++)
		CHECK(!sigqueue(getpid(), SIGRTMIN + i * 7 % 6, (union sigval){ .sival_int = i }));
	kill(getpid(), SIGUSR1);
	CHECK(!syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8));
	CHECK_EQ(orders, 61);
	for (int i = 0; i < orders; i++)
		printf("%d ", order[i]);
	puts("");
}

/* Not blocked by each other: the last frame that was made runs first. */
CASE(real_time_on_top_of_each_other)
{
	uint64_t all = 0, none = 0;

	fresh();
	orders = 0;
	for (int i = 0; i < 6; i++) {
		on(SIGRTMIN + i, note_order, 0);
		all |= 1UL << (SIGRTMIN + i - 1);
	}
	CHECK(!syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8));
	for (int i = 0; i < 24; i++)
		CHECK(!sigqueue(getpid(), SIGRTMIN + i * 5 % 6, (union sigval){ .sival_int = i }));
	CHECK(!syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8));
	CHECK_EQ(orders, 24);
	for (int i = 0; i < orders; i++)
		printf("%d ", order[i]);
	puts("");
}

static volatile int depth, deepest, budget;

static void nest(int sig, siginfo_t *info, void *uc)
{
	depth++;
	if (depth > deepest)
		deepest = depth;
	printf("in %d at depth %d mask %#lx\n", sig, depth, (long)mask_now());
	if (budget-- > 0)
		raise(sig == SIGHUP ? sig : SIGUSR1 + SIGUSR2 - sig);
	printf("out of %d\n", sig);
	depth--;
}

CASE(nested)
{
	struct sigaction sa = { .sa_sigaction = nest, .sa_flags = SA_SIGINFO };

	fresh();
	depth = 0;
	on(SIGUSR1, nest, 0);
	on(SIGUSR2, nest, 0);
	budget = 6;
	raise(SIGUSR1);
	on(SIGUSR1, nest, SA_NODEFER);
	budget = 6;
	raise(SIGUSR2);
	on(SIGHUP, nest, SA_NODEFER);
	deepest = 0;
	budget = 10;
	raise(SIGHUP);
	printf("deepest %d\n", deepest);
	sigaddset(&sa.sa_mask, SIGUSR2);
	sigaddset(&sa.sa_mask, SIGTERM);
	sigaction(SIGUSR1, &sa, NULL);
	budget = 2;
	raise(SIGUSR1);
	printf("mask %#lx depth %d\n", (long)mask_now(), depth);
}

CASE(reset_and_query)
{
	struct sigaction sa, old;

	fresh();
	on(SIGUSR1, note, SA_RESETHAND);
	on(SIGSEGV, note, SA_RESETHAND | SA_NODEFER);
	for (int i = 0; i < 2; i++) {
		int sig = i ? SIGSEGV : SIGUSR1;

		raise(sig);
		CHECK(!sigaction(sig, NULL, &sa));
		printf("%d %x\n", sa.sa_handler == SIG_DFL, sa.sa_flags & ~0x04000000);
		print_note("once");
	}
	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = note;
	sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | 0x400 | 0x800 | 0x10000;
	sigfillset(&sa.sa_mask);
	CHECK(!sigaction(SIGUSR2, &sa, NULL));
	CHECK(!sigaction(SIGUSR2, NULL, &old));
	printf("flags %x mask %lx\n", old.sa_flags, *(long *)&old.sa_mask);
	printf("%d", sigaction(SIGKILL, &sa, NULL));
	printf(" %d", errno);
	printf(" %d", sigaction(SIGSTOP, NULL, &old));
	printf(" %ld", syscall(SYS_rt_sigaction, 65, NULL, NULL, 8));
	printf(" %ld", syscall(SYS_rt_sigaction, 0, NULL, NULL, 8));
	printf(" %ld", syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4));
	printf(" %ld", syscall(SYS_rt_sigaction, SIGUSR1, 8, NULL, 8));
	printf(" %d", errno);
	printf(" %ld", syscall(SYS_rt_sigprocmask, 7, &sa.sa_mask, NULL, 8));
	printf(" %ld", syscall(SYS_rt_sigprocmask, 7, NULL, NULL, 8));
	printf(" %ld\n", syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, 8, 8));
	CHECK_EQ(mask_now(), 0);
}

CASE(dies_reset_twice)
{
	fresh();
	on(SIGUSR1, note, SA_RESETHAND);
	raise(SIGUSR1);
	puts("once");
	raise(SIGUSR1);
}

CASE(ignored)
{
	fresh();
	on(SIGUSR1, note, 0);
	FOR_SIGNALS(sig) {
		if (sig == SIGUSR1)
			continue;
		signal(sig, SIG_IGN);
		raise(sig);
		kill(getpid(), sig);
	}
	block(SIGTERM);
	block(SIGTRAP);
	signal(SIGTERM, SIG_DFL);
	signal(SIGTRAP, SIG_DFL);
	raise(SIGTERM);
	raise(SIGTRAP);
	signal(SIGTERM, SIG_IGN);	/* drops what is pending */
	signal(SIGTRAP, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	signal(SIGTRAP, SIG_DFL);
	unblock(SIGTERM);
	unblock(SIGTRAP);
	raise(SIGUSR1);
	print_note("usr1");
}

/* --- waiting ----------------------------------------------------------------- */

CASE(timed_wait)
{
	const int sigs[] = { SIGUSR1, SIGSEGV, SIGRTMIN + 2, SIGTRAP, SIGCHLD };
	struct timespec none = { 0 }, some = { 0, 20000000 };
	sigset_t set;
	siginfo_t info;
	double t;

	fresh();
	sigemptyset(&set);
	for (int i = 0; i < 5; i++)
		sigaddset(&set, sigs[i]);
	CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
	for (int i = 0; i < 5; i++) {
		CHECK(!sigqueue(getpid(), sigs[i], (union sigval){ .sival_int = i + 70 }));
		memset(&info, 0, sizeof(info));
		printf("%d ", sigtimedwait(&set, &info, i & 1 ? &some : &none));
		printf("%d %d %d %d\n", info.si_signo, info.si_code, info.si_value.sival_int,
		       info.si_pid == getpid());
	}
	t = seconds_now();
	CHECK_EQ(sigtimedwait(&set, &info, &some), -1);
	CHECK_EQ(errno, EAGAIN);
	CHECK(seconds_now() - t >= 0.019);
	/* interrupted by one that is not waited for */
	on(SIGALRM, note, SA_RESTART);
	alarm_in_ms(20);
	CHECK_EQ(sigwaitinfo(&set, &info), -1);
	CHECK_EQ(errno, EINTR);
	print_note("alarm");
	signal(SIGALRM, SIG_DFL);
	sigaddset(&set, SIGALRM);
	block(SIGALRM);
	alarm_in_ms(20);
	CHECK_EQ(sigwaitinfo(&set, &info), SIGALRM);
	CHECK_EQ(info.si_code, SI_KERNEL);
	CHECK_EQ(syscall(SYS_rt_sigtimedwait, &set, NULL, &none, 4), -1);
}

CASE(signal_descriptor)
{
	struct signalfd_siginfo ssi;
	sigset_t set;
	int fd;

	fresh();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 3);
	CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	CHECK(fd >= 0);
	CHECK_EQ(read(fd, &ssi, sizeof(ssi)), -1);
	CHECK_EQ(errno, EAGAIN);
	sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = 5 });
	sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = 6 });
	raise(SIGUSR1);
	while (read(fd, &ssi, sizeof(ssi)) == sizeof(ssi))
		printf("%d %d %d\n", ssi.ssi_signo, ssi.ssi_code, ssi.ssi_int);
	close(fd);
}

/* --- alternate stacks ---------------------------------------------------------- */

#define ALT_BYTES 65536
static char alt[ALT_BYTES] __attribute__((aligned(64)));
static char alt2[ALT_BYTES] __attribute__((aligned(64)));

static bool on_alt(const void *p, const char *stack)
{
	return (const char *)p >= stack && (const char *)p < stack + ALT_BYTES;
}

static void show_alt(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;
	stack_t now, other = { .ss_sp = alt2, .ss_size = ALT_BYTES };
	int err = 0;

	CHECK(!sigaltstack(NULL, &now));
	if (sigaltstack(&other, NULL))
		err = errno;
	printf("sig %d on alt %d alt2 %d; now flags %x size %zu; in the frame flags %x size %zu, "
	       "frame on alt %d; change: %d\n", sig, on_alt(&now, alt), on_alt(&now, alt2),
	       now.ss_flags, now.ss_size, on_alt(uc->uc_stack.ss_sp, alt) ?
	       uc->uc_stack.ss_flags : -1, uc->uc_stack.ss_size, on_alt(uc, alt), err);
	if (sig == SIGUSR1)
		raise(SIGUSR2);
}

CASE(alternate_stack)
{
	stack_t ss = { .ss_sp = alt, .ss_size = ALT_BYTES }, now;

	fresh();
	on(SIGUSR1, show_alt, SA_ONSTACK);
	on(SIGUSR2, show_alt, SA_ONSTACK);
	on(SIGHUP, show_alt, 0);
	CHECK(!sigaltstack(&ss, NULL));
	raise(SIGUSR1);
	raise(SIGUSR2);
	CHECK(!sigaltstack(&ss, NULL));
	raise(SIGHUP);			/* not asked for: on the ordinary one */
	CHECK(!sigaltstack(NULL, &now));
	printf("then %d %d\n", now.ss_sp == alt, now.ss_flags);
	ss.ss_flags = 1 << 31;		/* SS_AUTODISARM */
	CHECK(!sigaltstack(&ss, NULL));
	raise(SIGUSR2);
	CHECK(!sigaltstack(NULL, &now));
	printf("then %d %x\n", now.ss_sp == alt, now.ss_flags);
	raise(SIGUSR1);
	ss.ss_flags = 0;
	ss.ss_size = 2047;
	CHECK_EQ(sigaltstack(&ss, NULL), -1);
	CHECK_EQ(errno, ENOMEM);
	ss.ss_flags = 5;
	CHECK_EQ(sigaltstack(&ss, NULL), -1);
	CHECK_EQ(errno, EINVAL);
	ss.ss_flags = SS_DISABLE;
	CHECK(!sigaltstack(&ss, &now));
	printf("then %d %x %zu\n", now.ss_sp == alt, now.ss_flags, now.ss_size);
	CHECK(!sigaltstack(NULL, &now));
	printf("then %d %x %zu\n", now.ss_sp == NULL, now.ss_flags, now.ss_size);
}

/* No room for a frame: SIGSEGV, whatever the signal was. */
CASE(dies_alternate_stack_too_small)
{
	stack_t ss = { .ss_sp = alt, .ss_size = 2048 };

	fresh();
	on(SIGUSR1, note, SA_ONSTACK);
	for (int i = 0; i < 2048; i++)
		alt[i] = 1;
	CHECK(!sigaltstack(&ss, NULL));
	/* a page that cannot be written is below, should the frame be small */
	ss.ss_sp = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(!sigaltstack(&ss, NULL));
	raise(SIGUSR1);
	puts("there was room");
}

static volatile int segv_count;

static void segv_note(int sig, siginfo_t *info, void *uc)
{
	segv_count++;
	printf("sig %d code %d addr %p on alt %d\n", sig, info->si_code, info->si_addr,
	       on_alt(&info, alt));
	_exit(3 + segv_count);
}

CASE(dies_handler_at_a_bad_stack)
{
	fresh();
	on(SIGUSR1, note, 0);
	puts("now");
	__asm__ volatile("mov $0x1000, %%rsp; mov $39, %%eax; syscall; mov %%eax, %%edi;"
			 "mov $10, %%esi; mov $62, %%eax; syscall; ud2" ::: "memory");
}

/* --- jumps out of handlers ------------------------------------------------------- */

static sigjmp_buf jump;

static void jumper(int sig, siginfo_t *info, void *uc)
{
	siglongjmp(jump, sig);
}

CASE(jump_out_of_handlers)
{
	stack_t ss = { .ss_sp = alt, .ss_size = ALT_BYTES };
	volatile int jumps = 0;

	fresh();
	on(SIGUSR1, jumper, 0);
	on(SIGUSR2, jumper, SA_ONSTACK);
	on(SIGSEGV, jumper, SA_ONSTACK);
	CHECK(!sigaltstack(&ss, NULL));
	while (jumps < 6000) {
		if (sigsetjmp(jump, 1)) {
			jumps++;
			continue;
		}
		if (jumps % 3 == 2)
			*nowhere = 0;
		raise(jumps % 3 ? SIGUSR1 : SIGUSR2);
		CHECK(0);
	}
	CHECK_EQ(mask_now(), 0);
}

/* From a timer's signal, in the middle of anything. */
CASE(jump_out_of_a_timer)
{
	volatile int jumps = 0;
	volatile unsigned int x = 1;
	const struct itimerval it = { { 0, 1000 }, { 0, 1000 } };

	fresh();
	on(SIGALRM, jumper, 0);
	if (sigsetjmp(jump, 1))
		jumps++;
	else
		setitimer(ITIMER_REAL, &it, NULL);
	while (jumps < 200)
		x = x * 1664525 + 1013904223;
	signal(SIGALRM, SIG_IGN);
}

/*
 * The same where the only way round is by the jump that the argument's lowest bit takes:
 * whichever it is, an interrupted block's jumps must lead out.
 */
TEMPLATE(t_round, "1: testb $1, %dil\n jnz 11f\n testb $2, %dil\n jnz 12f\n"
	 "testb $4, %dil\n jnz 13f\n testb $8, %dil\n jnz 14f\n testb $16, %dil\n jnz 15f\n"
	 "testb $32, %dil\n jnz 16f\n testb $64, %dil\n jnz 17f\n jmp 1b\n"
	 "11: jmp 1b\n 12: jmp 1b\n 13: jmp 1b\n 14: jmp 1b\n 15: jmp 1b\n 16: jmp 1b\n"
	 "17: jmp 1b\n");

CASE(jump_out_by_any_exit)
{
	const struct itimerval it = { { 0, 1000 }, { 0, 1000 } };
	uint8_t *code = place_get(PLACE_ANON, 1);
	volatile int jumps = 0;

	memcpy(code, t_round_start, TEMPLATE_SIZE(t_round));
	fresh();
	on(SIGALRM, jumper, 0);
	if (sigsetjmp(jump, 1))
		jumps++;
	else
		setitimer(ITIMER_REAL, &it, NULL);
	if (jumps < 80)
		run1(code, 1 << jumps / 10);
	signal(SIGALRM, SIG_IGN);
}

/* --- timers ------------------------------------------------------------------------ */

static volatile unsigned int ticks;

static void tick(int sig, siginfo_t *info, void *uc)
{
	ticks++;
}

/* The same sum, however often it was interrupted, in all kinds of code. */
static uint32_t compute(unsigned int rounds)
{
	static uint8_t table[4096];
	uint32_t sum = 1;
	double f = 1;

	for (unsigned int i = 0; i < rounds; i++) {
		for (unsigned int k = 0; k < sizeof(table); k++) {
			sum = (sum ^ table[k]) * 16777619;
			table[k] = sum >> 24;
		}
		f = f * 1.0000001 + sum * 1e-12;
		memmove(table + 7, table, 1000);
	}
	return sum ^ (uint32_t)(f * 1e6);
}

static void timer_case(int which, int sig)
{
	const struct itimerval it = { { 0, 1000 }, { 0, 1000 } }, off = { 0 };
	unsigned int rounds = getenv("CODEWP_VM") ? 300 : 40000;

	fresh();
	on(sig, tick, SA_RESTART);
	ticks = 0;
	CHECK(!setitimer(which, &it, NULL));
	printf("%x\n", compute(rounds));
	while (ticks < 20)
		;
	CHECK(!setitimer(which, &off, NULL));
}

CASE(timer_1khz)
{
	timer_case(ITIMER_REAL, SIGALRM);
}

CASE(timer_1khz_profiling)
{
	timer_case(ITIMER_PROF, SIGPROF);
}

CASE(timer_1khz_virtual)
{
	timer_case(ITIMER_VIRTUAL, SIGVTALRM);
	setitimer(ITIMER_VIRTUAL, &(struct itimerval){ 0 }, NULL);
}

CASE(posix_timer)
{
	struct itimerspec ts = { { 0, 1000000 }, { 0, 1000000 } };
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 1 };
	timer_t t;

	fresh();
	ev.sigev_value.sival_int = 77;
	ev._sigev_un._tid = syscall(SYS_gettid);
	on(SIGRTMIN + 1, note, 0);
	CHECK(!timer_create(CLOCK_MONOTONIC, &ev, &t));
	CHECK(!timer_settime(t, 0, &ts, NULL));
	count = 0;
	while (count < 30)
		;
	CHECK(!timer_delete(t));
	printf("sig %d code %d value %ld\n", last_sig, last_code, last_value);
}

/* --- children ------------------------------------------------------------------------ */

CASE(child_ends)
{
	int status, pid;

	fresh();
	on(SIGCHLD, note, SA_RESTART);
	count = 0;
	pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		_exit(7);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(WEXITSTATUS(status), 7);
	while (!count)
		;
	printf("sig %d code %d\n", last_sig, last_code);
}

/* Handlers live on in a child, pending signals do not. */
CASE(child_inherits)
{
	int status, pid;

	fresh();
	on(SIGUSR1, note, 0);
	on(SIGSEGV, note, 0);
	block(SIGUSR1);
	block(SIGSEGV);
	count = 0;
	raise(SIGUSR1);
	raise(SIGSEGV);
	pid = fork();
	if (!pid) {
		unblock(SIGUSR1);
		unblock(SIGSEGV);
		if (count)
			_exit(1);
		raise(SIGUSR1);
		raise(SIGSEGV);
		_exit(count == 2 ? 9 : 2);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(WEXITSTATUS(status), 9);
	CHECK_EQ(count, 0);
	unblock(SIGUSR1);
	unblock(SIGSEGV);
	CHECK_EQ(count, 2);
}

/* What this program has inherited; see below. */
CASE(inheritance)
{
	uint64_t pending, ignored = 0, handled = 0;

	CHECK(!syscall(SYS_rt_sigpending, &pending, 8));
	FOR_SIGNALS(sig) {
		struct sigaction sa;

		CHECK(!sigaction(sig, NULL, &sa));
		if (sa.sa_handler == SIG_IGN)
			ignored |= 1UL << (sig - 1);
		else if (sa.sa_handler != SIG_DFL)
			handled |= 1UL << (sig - 1);
	}
	printf("pending %#lx blocked %#lx ignored %#lx handled %#lx\n", (long)pending,
	       (long)mask_now(), (long)ignored, (long)handled);
}

/* A new program: what was ignored stays, handlers do not, mask and pending do. */
CASE(new_program_inherits)
{
	int status, pid;

	fresh();
	on(SIGUSR1, note, 0);
	on(SIGFPE, note, 0);
	signal(SIGUSR2, SIG_IGN);
	signal(SIGBUS, SIG_IGN);
	block(SIGHUP);
	block(SIGTRAP);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		raise(SIGTRAP);
		raise(SIGHUP);
		execl("/proc/self/exe", "signals", "inheritance", NULL);
		_exit(127);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	printf("%x\n", status);
}

/* A failed execve leaves all as it was. */
CASE(no_new_program)
{
	fresh();
	on(SIGUSR1, note, 0);
	on(SIGTRAP, note, 0);
	block(SIGUSR1);
	block(SIGTRAP);
	count = 0;
	raise(SIGTRAP);
	raise(SIGUSR1);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(execl("/proc/self/status", "x", NULL), -1);
		CHECK_EQ(execl("/nonexistent", "x", NULL), -1);
	}
	CHECK_EQ(count, 0);
	unblock(SIGUSR1);
	unblock(SIGTRAP);
	CHECK_EQ(count, 2);
	raise(SIGTRAP);
	raise(SIGUSR1);
	CHECK_EQ(count, 4);
}

CASE(killed_children)
{
	const int sigs[] = { SIGTERM, SIGKILL, SIGSEGV, SIGABRT, SIGTRAP, SIGRTMIN, SIGALRM,
			     SIGBUS, SIGSYS };

	fresh();
	for (size_t i = 0; i < sizeof(sigs) / sizeof(*sigs); i++) {
		int status, pid = fork();

		if (!pid) {
			raise(sigs[i]);
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFSIGNALED(status));
		CHECK_EQ(WTERMSIG(status), sigs[i]);
	}
}

CASE(stop_and_continue)
{
	static const int sigs[] = { SIGSTOP, SIGTSTP, SIGTTIN };

	for (int i = 0; i < 3; i++) {
		int status, pid, p[2];
		char c;

		fresh();
		CHECK(!pipe(p));
		pid = fork();
		if (!pid) {
			/* not orphaned: our parent is in another group of the session */
			setpgid(0, 0);
			on(SIGTSTP, note, SA_RESETHAND);
			if (sigs[i] == SIGTSTP)
				raise(SIGTSTP);
			raise(sigs[i]);
			_exit(read(p[0], &c, 1) == 1 ? 5 : 6);
		}
		CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
		CHECK(WIFSTOPPED(status));
		printf("stopped by %d\n", WSTOPSIG(status));
		kill(pid, SIGCONT);
		CHECK_EQ(waitpid(pid, &status, WCONTINUED), pid);
		CHECK(WIFCONTINUED(status));
		CHECK_EQ(write(p[1], "x", 1), 1);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(WEXITSTATUS(status), 5);
		close(p[0]);
		close(p[1]);
	}
}

/* Stopped in the middle of a call that is not begun again, but gone on with. */
CASE(stopped_while_it_sleeps)
{
	struct timespec ts = { 0, 300000000 };
	int status, pid;

	fresh();
	fflush(stdout);
	pid = fork();
	if (!pid) {
		double t = seconds_now();

		on(SIGUSR1, note, SA_RESTART);
		if (nanosleep(&ts, NULL) || seconds_now() - t < 0.29)
			_exit(1);
		_exit(0);
	}
	ts.tv_nsec = 50000000;
	nanosleep(&ts, NULL);
	kill(pid, SIGSTOP);
	CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
	CHECK(WIFSTOPPED(status));
	kill(pid, SIGCONT);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

/* The same, and a handler besides: then it ends. */
CASE(stopped_and_interrupted)
{
	int status, pid;

	fresh();
	count = 0;
	fflush(stdout);
	for (int i = 0; i < 5; i++) {
		struct timespec ts = { 5, 0 };
		int p[2];
		char c;

		CHECK(!pipe(p));
		pid = fork();
		if (!pid) {
			on(SIGUSR1, note, SA_RESTART);
			CHECK_EQ(write(p[1], "r", 1), 1);
			_exit(nanosleep(&ts, NULL) == -1 && errno == EINTR && count == 1 ? 0 : 1);
		}
		CHECK_EQ(read(p[0], &c, 1), 1);
		CHECK(!close(p[0]) && !close(p[1]));
		/* to be in its sleep by then */
		ts = (struct timespec){ 0, 50000000 };
		nanosleep(&ts, NULL);
		kill(pid, SIGSTOP);
		CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
		CHECK(WIFSTOPPED(status));
		kill(pid, SIGUSR1);
		kill(pid, SIGCONT);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
}

CASE(dies_blocked_fault)
{
	fresh();
	on(SIGSEGV, segv_note, 0);
	block(SIGSEGV);
	*nowhere = 0;
}

CASE(dies_ignored_fault)
{
	fresh();
	signal(SIGSEGV, SIG_IGN);
	*nowhere = 0;
}

CASE(dies_by_default_sent_to_itself)
{
	fresh();
	block(SIGSEGV);
	kill(getpid(), SIGSEGV);
	puts("blocked");
	unblock(SIGSEGV);
	puts("never");
}
