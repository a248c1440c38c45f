// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Signals and threads: who gets them, cancellation, preemption, faults in all
 * threads at once, and a storm.
 *
 * GUEST_SECONDS: how long the storm blows (2).
 */
#include "signals.h"

#include <limits.h>
#include <pthread.h>
#include <semaphore.h>

#define THREADS 4

static long my_tid(void)
{
	return syscall(SYS_gettid);
}

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	CHECK(!pthread_create(t, NULL, fn, arg));
}

static void join(pthread_t t)
{
	CHECK(!pthread_join(t, NULL));
}

/* --- who gets it ----------------------------------------------------------------- */

static volatile long got_tid[THREADS + 1];
static volatile int got;
static sem_t ready;
static volatile int quit;

static void note_tid(int sig, siginfo_t *info, void *uc)
{
	/* one at a time, and complete when it counts */
	got_tid[got % (THREADS + 1)] = my_tid();
	__atomic_add_fetch(&got, 1, __ATOMIC_RELEASE);
}

static void *spin(void *arg)
{
	*(volatile long *)arg = my_tid();
	if (got_tid[0] == -1)		/* it shall have none of them */
		block(SIGUSR1);
	sem_post(&ready);
	while (!quit)
		;
	return NULL;
}

/* To the process: the one thread that does not block it. */
CASE(process_directed)
{
	pthread_t t[THREADS];
	volatile long tid[THREADS];

	fresh();
	sem_init(&ready, 0, 0);
	on(SIGUSR1, note_tid, SA_RESTART);
	block(SIGUSR1);
	for (int open = 0; open < THREADS; open++) {
		quit = 0;
		got = 0;
		for (int i = 0; i < THREADS; i++) {
			got_tid[0] = i == open ? 0 : -1;
			if (i == open)
				unblock(SIGUSR1);
			start(&t[i], spin, (void *)&tid[i]);
			block(SIGUSR1);
			sem_wait(&ready);
		}
		got_tid[0] = 0;
		for (int k = 0; k < 8; k++) {
			kill(getpid(), SIGUSR1);
			while (got != k + 1)
				sched_yield();
			CHECK_EQ(got_tid[k % (THREADS + 1)], tid[open]);
		}
		quit = 1;
		for (int i = 0; i < THREADS; i++)
			join(t[i]);
	}
	unblock(SIGUSR1);
}

/* To each thread, and to no other. */
CASE(thread_directed)
{
	pthread_t t[THREADS];
	volatile long tid[THREADS];

	fresh();
	sem_init(&ready, 0, 0);
	on(SIGUSR2, note_tid, 0);
	quit = 0;
	got = 0;
	got_tid[0] = 0;
	for (int i = 0; i < THREADS; i++) {
		start(&t[i], spin, (void *)&tid[i]);
		sem_wait(&ready);
	}
	for (int k = 0; k < 16; k++) {
		CHECK(!pthread_kill(t[k % THREADS], SIGUSR2));
		while (got != k + 1)
			sched_yield();
		CHECK_EQ(got_tid[k % (THREADS + 1)], tid[k % THREADS]);
	}
	quit = 1;
	for (int i = 0; i < THREADS; i++)
		join(t[i]);
}

static void *waiter(void *arg)
{
	sigset_t set;
	int sum = 0, sig;

	sigfillset(&set);
	do {
		CHECK(!sigwait(&set, &sig));
		sum += sig;
		sem_post(&ready);
	} while (sig != SIGTERM);
	return (void *)(long)sum;
}

CASE(a_thread_that_waits_for_signals)
{
	static const int sigs[] = { SIGHUP, SIGUSR1, SIGCHLD, SIGALRM, SIGINT, SIGTERM };
	sigset_t set;
	pthread_t t;
	void *sum;

	fresh();
	sem_init(&ready, 0, 0);
	sigfillset(&set);
	CHECK(!pthread_sigmask(SIG_SETMASK, &set, NULL));
	start(&t, waiter, NULL);
	for (size_t i = 0; i < sizeof(sigs) / sizeof(*sigs); i++) {
		CHECK(!kill(getpid(), sigs[i]));
		sem_wait(&ready);
	}
	CHECK(!pthread_join(t, &sum));
	printf("%ld\n", (long)sum);
}

/* --- libc's own signals ------------------------------------------------------------- */

static void *never_ends(void *arg)
{
	if (arg)
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	sem_post(&ready);
	for (;;)
		if (!arg)
			pause();
	return NULL;
}

CASE(cancellation)
{
	fresh();
	sem_init(&ready, 0, 0);
	for (long k = 0; k < 20; k++) {
		pthread_t t;
		void *ret;

		start(&t, never_ends, (void *)(k & 1));
		sem_wait(&ready);
		CHECK(!pthread_cancel(t));
		CHECK(!pthread_join(t, &ret));
		CHECK(ret == PTHREAD_CANCELED);
	}
}

/* libc makes all threads change their identity, by a signal of its own. */
CASE(identity_of_all_threads)
{
	pthread_t t[THREADS];
	volatile long tid[THREADS];

	fresh();
	sem_init(&ready, 0, 0);
	quit = 0;
	got_tid[0] = 0;
	for (int i = 0; i < THREADS; i++) {
		start(&t[i], spin, (void *)&tid[i]);
		sem_wait(&ready);
	}
	for (int k = 0; k < 20; k++)
		CHECK(!setgid(getgid()));
	quit = 1;
	for (int i = 0; i < THREADS; i++)
		join(t[i]);
}

static void expired(union sigval v)
{
	got += v.sival_int;
	sem_post(&ready);
}

CASE(timer_that_starts_threads)
{
	struct sigevent ev = {
		.sigev_notify = SIGEV_THREAD, .sigev_notify_function = expired,
		.sigev_value = { .sival_int = 3 },
	};
	struct itimerspec ts = { { 0, 3000000 }, { 0, 3000000 } };
	timer_t timer;

	fresh();
	got = 0;
	sem_init(&ready, 0, 0);
	CHECK(!timer_create(CLOCK_MONOTONIC, &ev, &timer));
	CHECK(!timer_settime(timer, 0, &ts, NULL));
	for (int i = 0; i < 15; i++)
		sem_wait(&ready);
	CHECK(!timer_delete(timer));
	CHECK(got >= 45);
}

/* --- preemption ------------------------------------------------------------------------ */

/*
 * A loop without calls, and what its threads are made to call in the middle of it:
 * the handler pushes the interrupted address and goes on elsewhere, which keeps
 * every register.
 */
__asm__(".text\n"
	"busy_loop:\n"
	"	mov $1, %eax\n"
	"busy_loop_first:\n"
	"	imul $1664525, %eax, %eax\n"
	"	add $1013904223, %eax\n"
	"	dec %rdi\n"
	"	jnz busy_loop_first\n"
	"busy_loop_last:\n"
	"	ret\n"
	"preempted:\n"
	"	pushf; push %rax; push %rcx; push %rdx\n"
	"	lock incq preemptions(%rip)\n"
	"	xor %eax, %eax; mov %eax, %ecx; cld\n"
	"	pop %rdx; pop %rcx; pop %rax; popf\n"
	"	ret\n");
uint32_t busy_loop(long rounds);
extern const uint8_t busy_loop_first[], busy_loop_last[], preempted[];
extern volatile long preemptions;
volatile long preemptions;
static volatile int started, ended;

static void preempt(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;
	greg_t *greg = uc->uc_mcontext.gregs;

	if (greg[REG_RIP] < (greg_t)busy_loop_first || greg[REG_RIP] >= (greg_t)busy_loop_last)
		return;
	greg[REG_RSP] -= 8;
	*(greg_t *)greg[REG_RSP] = greg[REG_RIP];
	greg[REG_RIP] = (greg_t)preempted;
}

static void *busy_thread(void *arg)
{
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 };
	uint32_t sum;

	CHECK(!sigaltstack(&ss, NULL));
	__atomic_add_fetch(&started, 1, __ATOMIC_RELAXED);
	do
		sum = busy_loop((long)arg);
	while (!preemptions);
	__atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
	return (void *)(unsigned long)sum;
}

CASE(preemption)
{
	long rounds = getenv("CODEWP_VM") ? 3000000 : 200000000;
	uint32_t want = busy_loop(rounds);
	pthread_t t[2];
	void *sum[2];

	fresh();
	on(SIGURG, preempt, SA_ONSTACK | SA_RESTART);
	preemptions = 0;
	started = 0;
	ended = 0;
	for (int i = 0; i < 2; i++)
		start(&t[i], busy_thread, (void *)rounds);
	while (started < 2)
		sched_yield();
	while (!ended) {
		const struct timespec ts = { 0, 200000 };

		pthread_kill(t[0], SIGURG);
		pthread_kill(t[1], SIGURG);
		nanosleep(&ts, NULL);
	}
	for (int i = 0; i < 2; i++) {
		CHECK(!pthread_join(t[i], &sum[i]));
		CHECK_EQ((uint32_t)(long)sum[i], want);
	}
	CHECK(preemptions > 0);
}

/* --- faults in all threads --------------------------------------------------------------- */

extern const uint8_t mt_load[], mt_slow[];

__asm__(".text\n"
	"mt_checked_load:\n"
	"mt_load:\n"
	"	mov (%rdi), %rax\n"
	"	ret\n"
	"mt_slow:\n"
	"	mov $-1, %rax\n"
	"	ret\n");
long mt_checked_load(const long *p);

#define HEAP_PAGES 64
static uint8_t *heap;
static volatile long barriers;

static void fault(int sig, siginfo_t *info, void *arg)
{
	ucontext_t *uc = arg;
	size_t n = ((uint8_t *)info->si_addr - heap) / PAGE;

	if (uc->uc_mcontext.gregs[REG_RIP] == (greg_t)mt_load) {
		uc->uc_mcontext.gregs[REG_RIP] = (greg_t)mt_slow;
		return;
	}
	if (n >= HEAP_PAGES || mprotect(heap + n * PAGE, PAGE, PROT_READ | PROT_WRITE))
		_exit(3);
	__atomic_add_fetch(&barriers, 1, __ATOMIC_RELAXED);
}

static void *faulting(void *arg)
{
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 };
	int n = getenv("CODEWP_VM") ? 300 : 10000;
	const long object = 5;
	long sum = 0;
	uint32_t x = (long)arg;

	CHECK(!sigaltstack(&ss, NULL));
	for (int i = 0; i < n; i++) {
		sum += mt_checked_load(i & 3 ? &object : NULL);
		x = x * 1103515245 + 12345;
		/* each thread its own words of every page */
		((volatile uint32_t *)(heap + (x >> 16) % HEAP_PAGES * PAGE))[(long)arg]++;
		if (i % 100 == 99 && arg == NULL)
			CHECK(!mprotect(heap, HEAP_PAGES * PAGE, PROT_READ));
	}
	return (void *)sum;
}

CASE(faults_in_all_threads)
{
	int n = getenv("CODEWP_VM") ? 300 : 10000;
	pthread_t t[THREADS];
	long total = 0;

	fresh();
	on(SIGSEGV, fault, SA_ONSTACK);
	barriers = 0;
	heap = mmap(NULL, HEAP_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	for (long i = 0; i < THREADS; i++)
		start(&t[i], faulting, (void *)i);
	for (int i = 0; i < THREADS; i++) {
		void *sum;

		CHECK(!pthread_join(t[i], &sum));
		printf("%ld\n", (long)sum);
	}
	for (int p = 0; p < HEAP_PAGES; p++)
		for (int i = 0; i < THREADS; i++)
			total += ((uint32_t *)(heap + p * PAGE))[i];
	CHECK_EQ(total, (long)n * THREADS);
	CHECK(barriers > 0);
	CHECK(!munmap(heap, HEAP_PAGES * PAGE));
}

/* --- the storm ------------------------------------------------------------------------------ */

/*
 * Threads that compute, patch and run code of their own, fault, wait and write,
 * and all of them send signals of all kinds to all others, all the time. What was
 * queued with a value must arrive exactly once; sums must be what they are
 * without signals.
 */
#define STORM_THREADS 6

struct storm {
	pthread_t thread;
	volatile long tid;
	uint64_t sent, got;	/* sums of values */
	long rounds, sent_n, got_n;
};

static struct storm storms[STORM_THREADS];
static volatile int storming, live;

static __thread struct storm *me;

static void on_value(int sig, siginfo_t *info, void *uc)
{
	if (info->si_code != SI_QUEUE)
		return;
	__atomic_add_fetch(&me->got, info->si_value.sival_int, __ATOMIC_RELAXED);
	__atomic_add_fetch(&me->got_n, 1, __ATOMIC_RELAXED);
}

static void on_other(int sig, siginfo_t *info, void *uc)
{
	volatile double x = sig;

	x = x * 1.5 + 1;
	__asm__ volatile("pcmpeqd %%xmm4, %%xmm4" ::: "xmm4");
}

static uint32_t next_random(uint32_t *x)
{
	*x = *x * 1664525 + 1013904223;
	return *x >> 8;
}

static void blow(uint32_t *x)
{
	struct storm *to = &storms[next_random(x) % STORM_THREADS];
	siginfo_t info = { .si_code = SI_QUEUE, .si_signo = SIGRTMIN + 1 + next_random(x) % 5 };

	switch (next_random(x) % 4) {
	case 0:
		syscall(SYS_tgkill, getpid(), to->tid, SIGUSR1);
		return;
	case 1:
		syscall(SYS_tgkill, getpid(), to->tid, SIGURG);
		return;
	case 2:
		kill(getpid(), SIGUSR2);
		return;
	}
	/* bounded, so that the kernel's limit is never met */
	if (__atomic_load_n(&me->sent_n, __ATOMIC_RELAXED) > 100000 + me->rounds * 4)
		return;
	info.si_value.sival_int = next_random(x) % 1000;
	info.si_pid = getpid();
	info.si_uid = getuid();
	if (syscall(SYS_rt_tgsigqueueinfo, getpid(), to->tid, info.si_signo, &info))
		return;
	me->sent += info.si_value.sival_int;
	me->sent_n++;
}

static void *storm_thread(void *arg)
{
	uint8_t *jit = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 };
	uint32_t x = (uint32_t)((struct storm *)arg - storms) + 1;
	uint32_t want = busy_loop(2000);
	int p[2];

	CHECK(jit != MAP_FAILED);
	CHECK(!pipe(p));
	CHECK(!sigaltstack(&ss, NULL));
	me = arg;
	me->tid = my_tid();
	__atomic_add_fetch(&live, 1, __ATOMIC_RELAXED);
	while (live < STORM_THREADS)
		sched_yield();
	unblock(SIGUSR1);
	put_ret_imm(jit, 0);
	for (uint32_t i = 0; storming; i++) {
		const struct timespec ts = { 0, 1000 };
		uint32_t back;

		me->rounds++;
		CHECK_EQ(busy_loop(2000), want);
		*(volatile uint32_t *)(jit + 1) = i;
		CHECK_EQ(run1(jit, 0), i);
		CHECK_EQ(mt_checked_load(i & 1 ? NULL : (long *)&(const long){ 9 }), i & 1 ? -1 : 9);
		CHECK_EQ(write(p[1], &i, 4), 4);
		CHECK_EQ(read(p[0], &back, 4), 4);
		CHECK_EQ(back, i);
		if (i % 16 == 0)
			nanosleep(&ts, NULL);
		if (i % 8 == 0) {
			block(SIGUSR1);
			unblock(SIGUSR1);
		}
		blow(&x);
	}
	/* nobody sends any more when all are here */
	__atomic_sub_fetch(&live, 1, __ATOMIC_RELAXED);
	while (live)
		sched_yield();
	close(p[0]);
	close(p[1]);
	free(ss.ss_sp);
	munmap(jit, PAGE);
	return NULL;
}

CASE(storm)
{
	const struct itimerval it = { { 0, 1000 }, { 0, 1000 } };
	double end = seconds_now() + atof(getenv("GUEST_SECONDS") ?: "2");
	uint64_t sent = 0, received = 0;
	long n = 0;

	fresh();
	memset(storms, 0, sizeof(storms));
	for (int i = 1; i <= 5; i++)
		on(SIGRTMIN + i, on_value, i & 1 ? SA_RESTART : SA_RESTART | SA_ONSTACK);
	on(SIGUSR1, on_other, SA_RESTART | SA_ONSTACK);
	on(SIGUSR2, on_other, SA_RESTART);
	on(SIGURG, preempt, SA_RESTART | SA_ONSTACK);
	on(SIGALRM, on_other, SA_RESTART);
	on(SIGSEGV, fault, SA_ONSTACK);
	block(SIGUSR1);
	storming = 1;
	live = 0;
	heap = NULL;
	for (int i = 0; i < STORM_THREADS; i++)
		start(&storms[i].thread, storm_thread, &storms[i]);
	setitimer(ITIMER_REAL, &it, NULL);
	while (seconds_now() < end) {
		const struct timespec ts = { 0, 5000000 };

		nanosleep(&ts, NULL);
	}
	storming = 0;
	for (int i = 0; i < STORM_THREADS; i++)
		join(storms[i].thread);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	for (int i = 0; i < STORM_THREADS; i++) {
		sent += storms[i].sent;
		received += storms[i].got;
		n += storms[i].got_n;
		CHECK(storms[i].rounds > 0);
	}
	CHECK_EQ(received, sent);
	CHECK(n > 0);
	if (getenv("STORM_VERBOSE"))
		fprintf(stderr, "%ld values\n", n);
}
