// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Threads: made and ended in numbers, what they share, what they have for
 * themselves, and how a process ends that has several.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "guest.h"

/* <linux/sched.h> has it, too, but is at odds with <sched.h> */
struct clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
		 set_tid, set_tid_size, cgroup;
};

#define MAX_THREADS 64

static void start(pthread_t *t, void *(*fn)(void *), uintptr_t arg)
{
	int err = pthread_create(t, NULL, fn, (void *)arg);

	if (err)
		guest_fail(__FILE_NAME__, __LINE__, "pthread_create: %s", strerror(err));
}

static uintptr_t join(pthread_t t)
{
	void *ret;

	CHECK(!pthread_join(t, &ret));
	return (uintptr_t)ret;
}

/* The emulated machine is some fifty times slower. */
static unsigned int times(unsigned int n)
{
	return getenv("CODEWP_VM") ? n / 20 : n;
}

static void *twice(void *arg)
{
	return (void *)((uintptr_t)arg * 2);
}

CASE(create_join)
{
	uintptr_t sum = 0;
	pthread_t t[MAX_THREADS];

	for (uintptr_t round = 0; round < times(50); round++) {
		for (uintptr_t i = 0; i < 20; i++)
			start(&t[i], twice, round * 100 + i);
		for (uintptr_t i = 0; i < 20; i++)
			sum += join(t[i]);
	}
	printf("sum %lu\n", sum);
}

static long resident_pages(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f);
	CHECK(fscanf(f, "%*d %ld", &pages) == 1);
	fclose(f);
	return pages;
}

/* Thousands, one after the other: nothing of them stays. */
CASE(no_leak)
{
	long before;
	pthread_t t;

	for (uintptr_t i = 0; i < times(300); i++) {
		start(&t, twice, i);
		CHECK_EQ(join(t), i * 2);
	}
	before = resident_pages();
	for (uintptr_t i = 0; i < times(4000); i++) {
		start(&t, twice, i);
		CHECK_EQ(join(t), i * 2);
	}
	/* each would have left 4 pages at least */
	CHECK(resident_pages() - before < times(4000));
}

static sem_t all_there, go;

static void *waits(void *arg)
{
	sem_post(&all_there);
	sem_wait(&go);
	return arg;
}

/* Many at the same time. */
CASE(at_once)
{
	const unsigned int n = times(600);
	static pthread_t t[600];
	uintptr_t sum = 0;

	sem_init(&all_there, 0, 0);
	sem_init(&go, 0, 0);
	for (size_t i = 0; i < n; i++)
		start(&t[i], waits, i);
	for (size_t i = 0; i < n; i++)
		sem_wait(&all_there);
	for (size_t i = 0; i < n; i++)
		sem_post(&go);
	for (size_t i = 0; i < n; i++)
		sum += join(t[i]);
	printf("sum %lu\n", sum);
}

static int detached_done;

static void *detached(void *arg)
{
	__atomic_add_fetch(&detached_done, 1, __ATOMIC_RELEASE);
	return NULL;
}

CASE(detached_threads)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN + 16384);
	for (unsigned int i = 0; i < times(1000); i++)
		while (pthread_create(&t, &attr, detached, NULL))
			sched_yield();
	while (__atomic_load_n(&detached_done, __ATOMIC_ACQUIRE) != (int)times(1000))
		sched_yield();
}

static __thread int tls_number = 42;
static __thread char tls_zero[5000];
static __thread struct { long a, b; } tls_pair = { 7, 9 };

static void *tls_user(void *arg)
{
	uintptr_t n = (uintptr_t)arg;

	CHECK_EQ(tls_number, 42);
	CHECK_EQ(tls_pair.a + tls_pair.b, 16);
	for (size_t i = 0; i < sizeof(tls_zero); i++)
		CHECK_EQ(tls_zero[i], 0);
	for (int i = 0; i < 2000; i++) {
		tls_number += n;
		tls_zero[i] = n;
		errno = n;
		if (i % 100 == 0)
			sched_yield();
		CHECK_EQ(errno, n);
	}
	return (void *)(uintptr_t)tls_number;
}

CASE(tls)
{
	pthread_t t[8];

	tls_number = 1;
	for (uintptr_t i = 0; i < 8; i++)
		start(&t[i], tls_user, i + 1);
	for (uintptr_t i = 0; i < 8; i++)
		CHECK_EQ(join(t[i]), 42 + 2000 * (i + 1));
	CHECK_EQ(tls_number, 1);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long counter, turn;

static void *counts(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&lock);
		counter++;
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

CASE(mutex)
{
	pthread_t t[8];

	for (int i = 0; i < 8; i++)
		start(&t[i], counts, 0);
	for (int i = 0; i < 8; i++)
		join(t[i]);
	CHECK_EQ(counter, 160000);
}

static void *atomics(void *arg)
{
	static uint64_t wide[2] __attribute__((aligned(16)));
	static uint8_t small;

	for (int i = 0; i < 20000; i++) {
		uint64_t lo = wide[0], hi = wide[1];
		uint8_t ok;

		__atomic_add_fetch(&counter, 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_xor(&small, 1, __ATOMIC_SEQ_CST);
		do
			__asm__ volatile("lock cmpxchg16b %1"
					 : "=@ccz"(ok), "+m"(wide), "+a"(lo), "+d"(hi)
					 : "b"(lo + 1), "c"(hi + 1) : "memory");
		while (!ok);
	}
	return (void *)&wide;
}

CASE(atomic_instructions)
{
	uint64_t *wide = NULL;
	pthread_t t[4];

	counter = 0;
	for (int i = 0; i < 4; i++)
		start(&t[i], atomics, 0);
	for (int i = 0; i < 4; i++)
		wide = (uint64_t *)join(t[i]);
	CHECK_EQ(counter, 80000);
	CHECK_EQ(wide[0], 80000);
	CHECK_EQ(wide[1], 80000);
}

static void *in_turn(void *arg)
{
	long me = (uintptr_t)arg;

	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&lock);
		while (turn % 4 != me)
			pthread_cond_wait(&changed, &lock);
		turn++;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

CASE(condition_variables)
{
	pthread_t t[4];

	for (uintptr_t i = 0; i < 4; i++)
		start(&t[i], in_turn, i);
	for (int i = 0; i < 4; i++)
		join(t[i]);
	CHECK_EQ(turn, 800);
}

static pthread_barrier_t barrier;
static int phase[6];

static void *in_step(void *arg)
{
	uintptr_t me = (uintptr_t)arg;

	for (int i = 0; i < 100; i++) {
		phase[me] = i;
		pthread_barrier_wait(&barrier);
		for (int k = 0; k < 6; k++)
			CHECK_EQ(phase[k], i);
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

CASE(barriers)
{
	pthread_t t[6];

	pthread_barrier_init(&barrier, NULL, 6);
	for (uintptr_t i = 0; i < 6; i++)
		start(&t[i], in_step, i);
	for (int i = 0; i < 6; i++)
		join(t[i]);
}

static pthread_mutex_t robust;

static void *dies_with_lock(void *arg)
{
	pthread_mutex_lock(&robust);
	return NULL;
}

static void *exits_with_lock(void *arg)
{
	pthread_mutex_lock(&robust);
	sem_post(&all_there);
	syscall(SYS_exit, 0);
	return NULL;
}

CASE(robust_mutex)
{
	pthread_mutexattr_t attr;
	pthread_t t;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &attr);
	start(&t, dies_with_lock, 0);
	join(t);
	CHECK_EQ(pthread_mutex_lock(&robust), EOWNERDEAD);
	CHECK(!pthread_mutex_consistent(&robust));
	CHECK(!pthread_mutex_unlock(&robust));
	sem_init(&all_there, 0, 0);
	start(&t, exits_with_lock, 0);
	sem_wait(&all_there);
	CHECK_EQ(pthread_mutex_lock(&robust), EOWNERDEAD);
	CHECK(!pthread_mutex_consistent(&robust));
	CHECK(!pthread_mutex_unlock(&robust));
	CHECK(!pthread_mutex_lock(&robust));
	pthread_mutex_unlock(&robust);
}

static int destroyed;

static void destructor(void *arg)
{
	__atomic_add_fetch(&destroyed, (uintptr_t)arg, __ATOMIC_RELAXED);
}

static pthread_key_t key;

static void *has_key(void *arg)
{
	pthread_setspecific(key, arg);
	return NULL;
}

CASE(specific_data)
{
	pthread_t t[10];

	pthread_key_create(&key, destructor);
	for (uintptr_t i = 0; i < 10; i++)
		start(&t[i], has_key, i + 1);
	for (int i = 0; i < 10; i++)
		join(t[i]);
	CHECK_EQ(destroyed, 55);
}

/* %gs is the guest's, and each thread's own. */
static void *uses_gs(void *arg)
{
	uintptr_t me = (uintptr_t)arg, seen, base;
	uintptr_t block[4] = { me, me + 1, me + 2, me + 3 };

	CHECK(!syscall(SYS_arch_prctl, ARCH_SET_GS, block));
	for (int i = 0; i < 2000; i++) {
		__asm__ volatile("mov %%gs:8, %0" : "=r"(seen));
		CHECK_EQ(seen, me + 1 + i);
		__asm__ volatile("incq %%gs:8" ::: "memory");
		if (i % 100 == 0)
			sched_yield();
	}
	CHECK(!syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
	CHECK_EQ(base, (uintptr_t)block);
	return (void *)block[1];
}

CASE(gs_users)
{
	uintptr_t mine[2] = { 5, 6 }, seen;
	pthread_t t[6];

	CHECK(!syscall(SYS_arch_prctl, ARCH_SET_GS, mine));
	for (uintptr_t i = 0; i < 6; i++)
		start(&t[i], uses_gs, i * 10000);
	for (uintptr_t i = 0; i < 6; i++)
		CHECK_EQ(join(t[i]), i * 10000 + 2001);
	__asm__ volatile("mov %%gs:8, %0" : "=r"(seen));
	CHECK_EQ(seen, 6);
}

/* Vector registers and rounding modes are a thread's own. */
static void *uses_vectors(void *arg)
{
	uint64_t me = (uintptr_t)arg, lanes[2], mxcsr_want, all = 0;
	uint32_t mxcsr = 0x1f80 | (me & 3) << 13, now;

	__asm__ volatile("ldmxcsr %0" :: "m"(mxcsr));
	__asm__ volatile("movq %0, %%xmm9\n\tpunpcklqdq %%xmm9, %%xmm9" :: "r"(me) : "xmm9");
	for (int i = 0; i < 500; i++) {
		syscall(SYS_sched_yield);
		__asm__ volatile("movdqu %%xmm9, %0" : "=m"(lanes));
		__asm__ volatile("stmxcsr %0" : "=m"(now));
		all += lanes[0] == me && lanes[1] == me;
		mxcsr_want = mxcsr;
		CHECK_EQ(now & 0x6000, mxcsr_want & 0x6000);
	}
	return (void *)all;
}

CASE(vector_state)
{
	pthread_t t[5];

	for (uintptr_t i = 0; i < 5; i++)
		start(&t[i], uses_vectors, i + 100);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(join(t[i]), 500);
}

static void cleanup(void *arg)
{
	*(int *)arg += 1;
}

static void *waits_for_ever(void *arg)
{
	pthread_cleanup_push(cleanup, arg);
	sem_post(&all_there);
	for (;;)
		pause();
	pthread_cleanup_pop(0);
	return NULL;
}

static void *spins_for_ever(void *arg)
{
	volatile int zero = 0;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	pthread_cleanup_push(cleanup, arg);
	sem_post(&all_there);
	while (!zero)
		;
	pthread_cleanup_pop(0);
	return NULL;
}

CASE(cancel)
{
	pthread_t t;
	int cleaned = 0;

	sem_init(&all_there, 0, 0);
	for (int i = 0; i < 20; i++) {
		start(&t, i & 1 ? spins_for_ever : waits_for_ever, (uintptr_t)&cleaned);
		sem_wait(&all_there);
		CHECK(!pthread_cancel(t));
		CHECK_EQ(join(t), (uintptr_t)PTHREAD_CANCELED);
	}
	CHECK_EQ(cleaned, 20);
}

/* ---- ids ----------------------------------------------------------------------------- */

static void *ids(void *arg)
{
	pid_t tid = gettid();

	CHECK(tid != getpid());
	CHECK_EQ(getpid(), (pid_t)(uintptr_t)arg);
	CHECK(!syscall(SYS_tgkill, getpid(), tid, 0));
	return (void *)(uintptr_t)tid;
}

CASE(thread_ids)
{
	uintptr_t one, two;
	pthread_t t, u;

	CHECK_EQ(gettid(), getpid());
	start(&t, ids, getpid());
	start(&u, ids, getpid());
	one = join(t);
	two = join(u);
	CHECK(one && two && one != two);
}

static int raw_result;
static char raw_stack[65536] __attribute__((aligned(16)));

static int raw_thread(void *arg)
{
	__atomic_store_n(&raw_result, 1234, __ATOMIC_RELEASE);
	syscall(SYS_exit, 0);
	return 0;
}

/* clone3 whose child calls fn(NULL) on its new stack */
long clone3_call(const struct clone_args *args, size_t size, int (*fn)(void *arg));
__asm__("clone3_call:\n\t"
	"mov %rdx, %r8\n\t"
	"mov $435, %eax\n\t"
	"syscall\n\t"
	"test %rax, %rax\n\t"
	"jz 1f\n\t"
	"ret\n"
	"1:\n\t"
	"xor %ebp, %ebp\n\t"
	"xor %edi, %edi\n\t"
	"call *%r8\n\t"
	"ud2");

#define RAW_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |	\
		   CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID |		\
		   CLONE_CHILD_CLEARTID)

static void wait_for_end(int *child_tid)
{
	int tid;

	while ((tid = __atomic_load_n(child_tid, __ATOMIC_ACQUIRE)))
		syscall(SYS_futex, child_tid, FUTEX_WAIT, tid, NULL, NULL, 0);
	CHECK_EQ(__atomic_load_n(&raw_result, __ATOMIC_ACQUIRE), 1234);
	raw_result = 0;
}

/* The calls themselves, without a thread library around them. */
CASE(raw_clone)
{
	int parent_tid = 0, child_tid = -1;
	struct clone_args args = {
		.flags = RAW_FLAGS,
		.stack = (uintptr_t)raw_stack,
		.stack_size = sizeof(raw_stack),
		.parent_tid = (uintptr_t)&parent_tid,
		.child_tid = (uintptr_t)&child_tid,
	};
	long ret;

	ret = clone(raw_thread, raw_stack + sizeof(raw_stack), RAW_FLAGS, NULL, &parent_tid, NULL,
		    &child_tid);
	CHECK(ret > 0);
	CHECK_EQ(parent_tid, ret);
	wait_for_end(&child_tid);
	child_tid = -1;
	ret = clone3_call(&args, sizeof(args), raw_thread);
	CHECK(ret > 0);
	CHECK_EQ(parent_tid, ret);
	wait_for_end(&child_tid);
}

static long clone3_errno(struct clone_args args, size_t size)
{
	long ret = clone3_call(&args, size, raw_thread);

	CHECK(ret < 0);
	return -ret;
}

CASE(clone_errors)
{
	const uint64_t thread = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FILES;
	struct clone_args a = { .flags = thread, .stack = (uintptr_t)raw_stack,
				.stack_size = sizeof(raw_stack) }, b;
	struct { struct clone_args a; uint64_t more; } longer = { a, 1 };

	printf("size 8: %ld\n", clone3_errno(a, 8));
	printf("size 8192: %ld\n", clone3_errno(a, 8192));
	printf("unknown tail: %ld\n", -clone3_call(&longer.a, sizeof(longer), raw_thread));
	printf("bad pointer: %ld\n", -clone3_call((void *)16, sizeof(a), raw_thread));
	b = a;
	b.flags = CLONE_THREAD | CLONE_VM;
	printf("THREAD without SIGHAND: %ld\n", clone3_errno(b, sizeof(b)));
	b.flags = CLONE_SIGHAND;
	printf("SIGHAND without VM: %ld\n", clone3_errno(b, sizeof(b)));
	b = a;
	b.stack_size = 0;
	printf("stack without size: %ld\n", clone3_errno(b, sizeof(b)));
	b = a;
	b.stack = 0;
	printf("size without stack: %ld\n", clone3_errno(b, sizeof(b)));
	b = a;
	b.exit_signal = SIGCHLD;
	printf("thread with exit signal: %ld\n", clone3_errno(b, sizeof(b)));
	b = a;
	b.flags |= SIGCHLD;
	printf("exit signal in flags: %ld\n", clone3_errno(b, sizeof(b)));
	b = a;
	b.flags |= 1ULL << 60;
	printf("unknown flag: %ld\n", clone3_errno(b, sizeof(b)));
	b = a;
	b.flags |= CLONE_FS | CLONE_NEWNS;
	printf("FS with NEWNS: %ld\n", clone3_errno(b, sizeof(b)));
	b = a;
	b.set_tid_size = 33;
	printf("33 tids: %ld\n", clone3_errno(b, sizeof(b)));
	printf("clone THREAD without SIGHAND: %d\n",
	       clone(raw_thread, raw_stack + 60000, CLONE_THREAD | CLONE_VM, NULL) < 0 ? errno : 0);
	printf("clone FS with NEWNS: %d\n",
	       clone(raw_thread, raw_stack + 60000, CLONE_FS | CLONE_NEWNS, NULL) < 0 ? errno : 0);
}

/* ---- the end ------------------------------------------------------------------------- */

static int status_of(void (*fn)(void))
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		fn();
		_exit(99);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

static void *spins(void *arg)
{
	volatile uint64_t n = 0;

	sem_post(&all_there);
	for (;;)
		n++;
	return NULL;
}

static void *sleeps(void *arg)
{
	sem_post(&all_there);
	for (;;)
		pause();
	return NULL;
}

static void many(void)
{
	pthread_t t;

	sem_init(&all_there, 0, 0);
	for (int i = 0; i < 6; i++)
		start(&t, i & 1 ? spins : sleeps, 0);
	for (int i = 0; i < 6; i++)
		sem_wait(&all_there);
}

static void exit_with_threads(void)
{
	many();
	exit(17);
}

static void *calls_exit(void *arg)
{
	exit(18);
}

static void exit_from_thread(void)
{
	pthread_t t;

	many();
	start(&t, calls_exit, 0);
	for (;;)
		pause();
}

static void *exits_later(void *arg)
{
	usleep(30000);
	exit(19);
}

static void main_thread_ends(void)
{
	pthread_t t;

	start(&t, exits_later, 0);
	pthread_exit(NULL);
}

static void *ends_last(void *arg)
{
	usleep(30000);
	return NULL;
}

static void all_threads_end(void)
{
	pthread_t t;

	start(&t, ends_last, 0);
	pthread_exit(NULL);
}

static void raw_exits(void)
{
	pthread_t t;

	start(&t, ends_last, 0);
	syscall(SYS_exit, 20);
}

static void killed_with_threads(void)
{
	many();
	raise(SIGKILL);
}

static void aborts_with_threads(void)
{
	many();
	abort();
}

static void *stores_to_null(void *arg)
{
	*(volatile int *)arg = 1;
	return NULL;
}

static void faults_in_thread(void)
{
	pthread_t t;

	many();
	start(&t, stores_to_null, 8);
	for (;;)
		pause();
}

CASE(ends)
{
	printf("exit, threads running: %#x\n", status_of(exit_with_threads));
	printf("exit in a thread: %#x\n", status_of(exit_from_thread));
	printf("main thread ends first: %#x\n", status_of(main_thread_ends));
	printf("all threads end: %#x\n", status_of(all_threads_end));
	printf("raw exit of the first: %#x\n", status_of(raw_exits));
	printf("killed: %#x\n", status_of(killed_with_threads));
	printf("abort: %#x\n", status_of(aborts_with_threads));
	printf("fault in a thread: %#x\n", status_of(faults_in_thread));
}

/* The first thread ends, and everything else goes on without it. */
static void *after_main(void *arg)
{
	pthread_t t;
	long sum = 0;

	usleep(20000);
	for (uintptr_t i = 0; i < 50; i++) {
		start(&t, twice, i);
		sum += join(t);
	}
	CHECK_EQ(sum, 2450);
	_exit(21);
}

static void goes_on(void)
{
	pthread_t t;

	start(&t, after_main, 0);
	pthread_exit(NULL);
}

CASE(without_the_first)
{
	printf("status %#x\n", status_of(goes_on));
}
