// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The upcall under fire: it is exact, nesting falls back to the ring, signals
 * that storm in do not lose or double a store, other writers' events interrupt
 * the code cache, what only looks like a store of the thread is not taken for
 * one, and a registration may go away while its thread traps.
 */
#include "kmod_test.h"

#include <sys/time.h>

#define RING 65536

TEST(upcall_open_stores_once)
{
	int memfd = kt_memfd(PAGE), fd;
	int view = kt_view(memfd, PAGE, 0);
	uint64_t *map = kt_map(view, PAGE);
	struct codewp_area *area;

	area = kt_register(kt_handler_open, CODEWP_THREAD_UPCALL, -1, &fd);
	for (int i = 1; i <= 1000; i++) {
		ASSERT_OK(kt_arm(view, 0, PAGE, CODEWP_ARM_OPEN));
		kt_inc8(map + 5);
		ASSERT_EQ(map[5], i);
		ASSERT_EQ(area->scratch[0], i);
		ASSERT_EQ(area->offset, 40);
		ASSERT_EQ(area->addr, (uintptr_t)(map + 5));
		ASSERT_EQ(area->ip, (uintptr_t)kt_inc8);
		ASSERT_EQ(area->cookie, 0xc0de);
		ASSERT_EQ(area->reason, CODEWP_REASON_TRAP);
		ASSERT_EQ(area->state & CODEWP_PAGE_ARMED, 0);
		kt_inc8(map + 6);	/* the page is open now */
		ASSERT_EQ(area->scratch[0], i);
	}
	ASSERT_EQ(kt_stat(view).upcalls, 1000);
	ASSERT_EQ(kt_stat(view).events, 0);
	ASSERT_EQ(area->upcalls, 1000);
}

TEST(upcall_keep_leaves_the_page_armed)
{
	int memfd = kt_memfd(PAGE), fd;
	int view = kt_view(memfd, PAGE, CODEWP_VIEW_PRIVATE);
	const uint32_t *states = kt_states(view, 1);
	uint64_t *map = kt_map(view, PAGE);
	struct codewp_area *area;

	area = kt_register(kt_handler_skip, CODEWP_THREAD_UPCALL, -1, &fd);
	area->scratch[1] = 4;	/* length of the store */
	ASSERT_OK(kt_arm(view, 0, PAGE, CODEWP_ARM_KEEP));
	for (int i = 1; i <= 1000; i++) {
		kt_inc8(map);
		ASSERT_EQ(map[0], 0);	/* skipped: it must not have been done */
		ASSERT_EQ(area->scratch[0], i);
		ASSERT_EQ(CODEWP_PAGE_GEN(kt_state(states, 0)), i);
		ASSERT(kt_state(states, 0) & CODEWP_PAGE_ARMED);
		ASSERT(area->state & CODEWP_PAGE_ARMED);
	}
	ASSERT_EQ(kt_stat(view).armed, 1);
	ASSERT_EQ(kt_stat(view).arms, 1);
	/* A store that is not the code cache's opens the page all the same. */
	map[1] = 1;
	ASSERT_EQ(map[1], 1);
	ASSERT_EQ(kt_state(states, 0) & CODEWP_PAGE_ARMED, 0);
	ASSERT_EQ(kt_stat(view).events, 1);
}

/* A store that HOLD keeps back is told to the page's other views when it is done. */
TEST(upcall_hold_in_overlapping_views)
{
	int memfd = kt_memfd(PAGE), fd;
	int view = kt_view(memfd, PAGE, 0), other = kt_view(memfd, PAGE, 0);
	const uint32_t *states = kt_states(view, 1), *others = kt_states(other, 1);
	struct codewp_ring *ring = kt_ring(other, RING);
	uint64_t *map = kt_map(view, PAGE);
	struct codewp_area *area;
	struct codewp_event ev;

	ASSERT_ERRNO(kt_arm(view, 0, PAGE, CODEWP_ARM_KEEP), EINVAL);
	ASSERT_ERRNO(kt_arm(view, 0, PAGE, CODEWP_ARM_KEEP | CODEWP_ARM_HOLD), EINVAL);
	area = kt_register(kt_handler_skip, CODEWP_THREAD_UPCALL, -1, &fd);
	area->scratch[1] = 4;	/* length of the store */
	ASSERT_OK(kt_arm(view, 0, PAGE, CODEWP_ARM_HOLD));
	ASSERT_OK(kt_arm(other, 0, PAGE, CODEWP_ARM_OPEN));
	for (int i = 1; i <= 100; i++) {
		kt_inc8(map);
		ASSERT_EQ(map[0], 0);	/* skipped: it must not have been done */
		ASSERT_EQ(area->scratch[0], i);
		ASSERT_EQ(CODEWP_PAGE_GEN(kt_state(states, 0)), i);
		ASSERT(kt_state(states, 0) & CODEWP_PAGE_ARMED);
		ASSERT(area->state & CODEWP_PAGE_ARMED);
		ASSERT(kt_state(others, 0) & CODEWP_PAGE_ARMED);
		ASSERT(!kt_event(ring, &ev));
	}
	/* The owner lets it through: now the other view learns of it. */
	ASSERT_OK(kt_disarm(view, 0, PAGE));
	map[0] = 5;
	ASSERT_EQ(map[0], 5);
	ASSERT_EQ(area->scratch[0], 100);
	ASSERT(!(kt_state(others, 0) & CODEWP_PAGE_ARMED));
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.offset, 0);
	/* Who is not in the code cache is not held. */
	ASSERT_OK(kt_arm(view, 0, PAGE, CODEWP_ARM_HOLD));
	map[1] = 6;
	ASSERT_EQ(map[1], 6);
	ASSERT(!(kt_state(states, 0) & CODEWP_PAGE_ARMED));
}

/* Registers at the handler's entry: its own stack, DF and TF clear. */
void kt_handler_regs(void);
asm(".pushsection .text\n"
    "kt_handler_regs:\n"
    "	mov %rsp, 128(%rdi)\n"		/* scratch[4] */
    "	pushfq\n"
    "	popq 136(%rdi)\n"		/* scratch[5] */
    "	jmp kt_handler_open\n"
    ".popsection\n");

TEST(upcall_registers)
{
	static char stack[4096] __attribute__((aligned(64)));
	int memfd = kt_memfd(PAGE), fd;
	int view = kt_view(memfd, PAGE, 0);
	uint64_t *map = kt_map(view, PAGE);
	void *area_at = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	struct codewp_thread_create c = {
		.flags = CODEWP_THREAD_UPCALL,
		.ring_fd = -1,
		.handler = (uintptr_t)kt_handler_regs,
		.stack = (uintptr_t)(stack + sizeof(stack)),
		.arg = (uintptr_t)area_at,
		.code_start = (uintptr_t)kt_code_start,
		.code_end = (uintptr_t)kt_code_end,
	};
	struct codewp_area *area;
	uint64_t sp;

	fd = ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_THREAD, &c));
	area = mmap(area_at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    fd, 0);
	ASSERT(area == area_at);
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	asm volatile("sub $128, %%rsp\n"
		     "mov %%rsp, %0\n"
		     "std\n"
		     "call kt_store8\n"
		     "cld\n"
		     "add $128, %%rsp\n"
		     : "=&r"(sp) : "D"(map), "S"(7UL) : "r11", "memory", "cc");
	ASSERT_EQ(map[0], 7);
	ASSERT_EQ(area->scratch[0], 1);
	ASSERT_EQ(area->scratch[4], (uintptr_t)(stack + sizeof(stack)));
	ASSERT_EQ(area->sp, sp - 8);
	ASSERT_EQ(area->di, (uintptr_t)map);
	ASSERT(area->flags & 0x400);			/* DF as it was... */
	ASSERT_EQ(area->scratch[5] & 0x40500, 0);	/* ...no DF, TF, AC here */
}

/*
 * A handler that stores to the address in scratch[4] before it goes on, by an
 * instruction in the code range: only the busy word stops a second upcall.
 */
void kt_handler_nest(void);
asm(".pushsection .text\n"
    "kt_handler_nest:\n"
    "	mov %rdi, %r10\n"
    "	sub $256, %rsp\n"		/* the red zone, and a call */
    "	mov 128(%r10), %rdi\n"
    "	mov $99, %esi\n"
    "	call kt_store8\n"
    "	mov %r10, %rdi\n"
    "	jmp kt_handler_open\n"
    ".popsection\n");

TEST(nested_trap_goes_to_the_ring)
{
	int memfd = kt_memfd(2 * PAGE), fd;
	int view = kt_view(memfd, 2 * PAGE, 0);
	struct codewp_ring *ring = kt_ring(view, RING);
	uint64_t *map = kt_map(view, 2 * PAGE);
	struct codewp_area *area;
	struct codewp_event ev;

	area = kt_register(kt_handler_nest, CODEWP_THREAD_UPCALL, -1, &fd);
	for (int i = 1; i <= 100; i++) {
		map[512] = 0;
		ASSERT_OK(kt_arm(view, 0, 2 * PAGE, 0));
		area->scratch[4] = (uintptr_t)(map + 512);
		kt_inc8(map);
		ASSERT_EQ(map[0], i);
		ASSERT_EQ(map[512], 99);
		ASSERT_EQ(area->busy, 0);
		ASSERT_EQ(area->scratch[0], i);
		ASSERT(kt_event(ring, &ev));
		ASSERT_EQ(ev.offset, PAGE);
		ASSERT_EQ(ev.flags, CODEWP_EVENT_SELF | CODEWP_EVENT_NESTED);
		ASSERT_EQ(ev.tid, gettid());
		ASSERT(!kt_event(ring, &ev));
		ASSERT_EQ(area->fallbacks, i);
	}
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	signals++;
}

static volatile bool stop;

static void *signaller(void *arg)
{
	pthread_t *to = arg;

	while (!stop) {
		pthread_kill(*to, SIGUSR1);
		for (int i = 0; i < 300; i++)
			__builtin_ia32_pause();
	}
	return NULL;
}

TEST_LONG(signal_storm_loses_no_store, 60)
{
	int memfd = kt_memfd(PAGE), fd;
	int view = kt_view(memfd, PAGE, 0);
	uint64_t *map = kt_map(view, PAGE);
	pthread_t self = pthread_self(), t;
	struct codewp_area *area;
	double end = kt_now() + 4.0 * kt_scale();
	long rounds = 20000, i;

	signal(SIGUSR1, on_signal);
	area = kt_register(kt_handler_open, CODEWP_THREAD_UPCALL, -1, &fd);
	ASSERT_EQ(pthread_create(&t, NULL, signaller, &self), 0);
	for (i = 1; i <= rounds; i++) {
		/* One page at a time: arm always gets it done. */
		ASSERT_OK(kt_arm(view, 0, PAGE, 0));
		kt_inc8(map);
		if (map[0] != (uint64_t)i)
			break;
		/* A busy machine does what it can of them. */
		if (i >= 500 && kt_now() > end)
			rounds = i;
	}
	stop = true;
	pthread_join(t, NULL);
	ASSERT_EQ(map[0], rounds);
	ASSERT_GT(signals, rounds / 100);
	ASSERT_EQ(area->scratch[0], rounds);
	ASSERT_EQ(kt_stat(view).upcalls, rounds);
	ASSERT_EQ(kt_stat(view).events, 0);
}

/* In the code range: wait until *p is not 0. */
void kt_spin(volatile uint64_t *p);
extern char kt_spin_start[], kt_spin_end[];
asm(".pushsection .text\n"
    ".balign 64\n"
    "kt_spin_start:\n"
    "kt_spin: cmpq $0, (%rdi)\n"
    "	je kt_spin\n"
    "	ret\n"
    "kt_spin_end:\n"
    ".popsection\n");

/* Register with the spin loop as the code cache. */
static struct codewp_area *register_spinner(uint32_t flags, int ring_view, int *fd)
{
	void *area = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	struct codewp_thread_create c = {
		.flags = flags,
		.ring_fd = ring_view,
		.handler = (uintptr_t)kt_handler_open,
		.arg = (uintptr_t)area,
		.code_start = (uintptr_t)kt_spin_start,
		.code_end = (uintptr_t)kt_spin_end,
	};

	*fd = ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_THREAD, &c));
	ASSERT(mmap(area, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    *fd, 0) == area);
	return area;
}

static volatile bool spinning;
static uint64_t *kick_map;

static void *late_writer(void *arg)
{
	while (!spinning)
		sched_yield();
	usleep(20000);
	*kick_map = 1;
	return NULL;
}

TEST_LONG(kick_interrupts_the_cache, 30)
{
	int memfd = kt_memfd(PAGE), fd;
	int view = kt_view(memfd, PAGE, 0);
	struct codewp_ring *ring = kt_ring(view, RING);
	struct codewp_area *area;
	pthread_t t;

	kick_map = kt_map(view, PAGE);
	area = register_spinner(CODEWP_THREAD_UPCALL | CODEWP_THREAD_KICK, view,
				&fd);
	for (int i = 0; i < 20; i++) {
		ASSERT_OK(kt_arm(view, 0, PAGE, 0));
		area->scratch[0] = 0;
		spinning = false;
		ASSERT_EQ(pthread_create(&t, NULL, late_writer, NULL), 0);
		spinning = true;
		kt_spin((void *)&area->scratch[0]);	/* only the handler ends it */
		ASSERT_EQ(area->reason, CODEWP_REASON_KICK);
		ASSERT_NE(ring->head, ring->tail);
		ring->tail = ring->head;
		pthread_join(t, NULL);
	}
	/* Outside of the cache a kick is only counted. */
	uint32_t kicks = area->kicks;

	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	area->scratch[0] = 0;
	ASSERT_EQ(pthread_create(&t, NULL, late_writer, NULL), 0);
	pthread_join(t, NULL);
	ASSERT_EQ(area->kicks, kicks + 1);
	ASSERT_EQ(area->scratch[0], 0);
	/* And one's own writes kick nobody. */
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	*kick_map = 2;
	ASSERT_EQ(area->kicks, kicks + 1);
}

static volatile uint64_t handled;

static void on_altstack(int sig)
{
	handled = 1;
}

/*
 * The kernel writes a signal frame into an armed page while the interrupted
 * instruction is in the code cache: no store of the thread, so no upcall.
 */
TEST_LONG(signal_frame_is_no_upcall, 30)
{
	size_t size = 16 * PAGE;
	int memfd = kt_memfd(size), fd;
	int view = kt_view(memfd, size, 0);
	struct codewp_ring *ring = kt_ring(view, RING);
	stack_t ss = { .ss_sp = kt_map(view, size), .ss_size = size };
	struct sigaction sa = { .sa_handler = on_altstack, .sa_flags = SA_ONSTACK };
	struct codewp_area *area;
	struct codewp_event ev;
	struct itimerval tick = { .it_value.tv_usec = 20000 };
	int kernel = 0;

	area = register_spinner(CODEWP_THREAD_UPCALL, -1, &fd);
	ASSERT_OK(sigaltstack(&ss, NULL));
	ASSERT_OK(sigaction(SIGALRM, &sa, NULL));
	for (int i = 0; i < 20; i++) {
		ASSERT_OK(kt_arm(view, 0, size, 0));
		handled = 0;
		ASSERT_OK(setitimer(ITIMER_REAL, &tick, NULL));
		kt_spin(&handled);
		ASSERT_EQ(area->scratch[0], 0);
		ASSERT_EQ(area->busy, 0);
		while (kt_event(ring, &ev))
			if (ev.flags & CODEWP_EVENT_KERNEL)
				kernel++;
	}
	ASSERT_GE(kernel, 20);
	ASSERT_EQ(kt_stat(view).upcalls, 0);
}

/*
 * A store in a restartable sequence: redirected out of it, the kernel would not
 * abort it any more. It is told by the ring.
 */
struct rseq_cs_raw {
	uint32_t version, flags;
	uint64_t start_ip, post_commit_offset, abort_ip;
} __attribute__((aligned(32)));

extern const unsigned int __rseq_size __attribute__((weak));
extern const ptrdiff_t __rseq_offset __attribute__((weak));

/* store %rsi to (%rdi) with *%rdx = %rcx while at it */
void kt_rseq_store(void *p, uint64_t v, uint64_t *rseq_cs, const void *cs);
extern char kt_rseq_start[], kt_rseq_post[], kt_rseq_abort[];
asm(".pushsection .text\n"
    "kt_rseq_store: mov %rcx, (%rdx)\n"
    "kt_rseq_start: mov %rsi, (%rdi)\n"
    "kt_rseq_post: movq $0, (%rdx)\n"
    "	ret\n"
    "	.long 0x53053053\n"
    "kt_rseq_abort: jmp kt_rseq_store\n"
    ".popsection\n");

TEST(rseq_section_is_not_redirected)
{
	if (!&__rseq_size || !__rseq_size)
		SKIP("the C library has registered no rseq area");

	uint64_t *cs_slot = (void *)((char *)__builtin_thread_pointer() +
				     __rseq_offset + 8);
	static struct rseq_cs_raw cs;
	int memfd = kt_memfd(PAGE), fd;
	int view = kt_view(memfd, PAGE, 0);
	struct codewp_ring *ring = kt_ring(view, RING);
	uint64_t *map = kt_map(view, PAGE);
	void *area_at = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	struct codewp_thread_create c = {
		.flags = CODEWP_THREAD_UPCALL,
		.ring_fd = -1,
		.handler = (uintptr_t)kt_handler_open,
		.arg = (uintptr_t)area_at,
		.code_start = (uintptr_t)kt_rseq_store,
		.code_end = (uintptr_t)kt_rseq_abort,
	};
	struct codewp_area *area;
	struct codewp_event ev;

	cs.start_ip = (uintptr_t)kt_rseq_start;
	cs.post_commit_offset = kt_rseq_post - kt_rseq_start;
	cs.abort_ip = (uintptr_t)kt_rseq_abort;
	fd = ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_THREAD, &c));
	area = mmap(area_at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    fd, 0);
	ASSERT(area == area_at);

	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	kt_rseq_store(map, 1, cs_slot, NULL);	/* no section: an upcall */
	ASSERT_EQ(area->scratch[0], 1);
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	kt_rseq_store(map, 2, cs_slot, &cs);
	ASSERT_EQ(map[0], 2);
	ASSERT_EQ(area->scratch[0], 1);
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.flags, CODEWP_EVENT_SELF);
	ASSERT_EQ(ev.ip, (uintptr_t)kt_rseq_start);
}

/* ---- the signal flavour ---- */

static volatile uint64_t segv_count;
static volatile uintptr_t segv_addr;

static void on_segv(int sig, siginfo_t *si, void *ctx)
{
	segv_count++;
	segv_addr = (uintptr_t)si->si_addr;
	if (si->si_code != SEGV_ACCERR)
		_exit(77);
}

static void catch_segv(void)
{
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };

	ASSERT_OK(sigaction(SIGSEGV, &sa, NULL));
}

TEST(signal_tells_once_and_needs_a_handler)
{
	int memfd = kt_memfd(PAGE), fd;
	int view = kt_view(memfd, PAGE, 0);
	uint64_t *map = kt_map(view, PAGE);
	sigset_t set;

	catch_segv();
	fd = ASSERT_OK(kt_try_thread(CODEWP_THREAD_SIGNAL, NULL, NULL, -1));
	for (int i = 1; i <= 100; i++) {
		ASSERT_OK(kt_arm(view, 0, PAGE, 0));
		kt_inc8(map + 3);
		ASSERT_EQ(map[3], i);
		ASSERT_EQ(segv_count, i);
		ASSERT_EQ(segv_addr, (uintptr_t)(map + 3));
	}
	ASSERT_EQ(kt_stat(view).signals, 100);

	/* Blocked, ignored, or deadly: the ring, and the store goes through. */
	sigemptyset(&set);
	sigaddset(&set, SIGSEGV);
	ASSERT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	kt_inc8(map + 3);
	ASSERT_OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
	signal(SIGSEGV, SIG_IGN);
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	kt_inc8(map + 3);
	signal(SIGSEGV, SIG_DFL);
	ASSERT_OK(kt_arm(view, 0, PAGE, 0));
	kt_inc8(map + 3);
	ASSERT_EQ(map[3], 103);
	ASSERT_EQ(segv_count, 100);
	ASSERT_EQ(kt_stat(view).signals, 100);
	ASSERT_EQ(kt_stat(view).events, 3);
	close(fd);
}

static volatile int victim_fd = -1;

static void *unregisterer(void *arg)
{
	while (!stop) {
		int fd = __atomic_exchange_n(&victim_fd, -1, __ATOMIC_SEQ_CST);

		if (fd >= 0)
			close(fd);
		for (int i = 0; i < 50; i++)
			__builtin_ia32_pause();
	}
	return NULL;
}

/*
 * Another thread closes the registration at any moment: each store is still done
 * once, and told once, by signal or by ring.
 */
TEST_LONG(unregister_while_trapping, 60)
{
	int memfd = kt_memfd(PAGE);
	int view = kt_view(memfd, PAGE, 0);
	uint64_t *map = kt_map(view, PAGE);
	long rounds = 10000, registrations = 0;
	double end = kt_now() + 4.0 * kt_scale();
	struct codewp_stat st;
	pthread_t t;

	catch_segv();
	ASSERT_EQ(pthread_create(&t, NULL, unregisterer, NULL), 0);
	for (long i = 1; i <= rounds; i++) {
		int fd = kt_try_thread(CODEWP_THREAD_SIGNAL, NULL, NULL, -1);

		if (fd >= 0) {
			registrations++;
			victim_fd = fd;
		} else {
			ASSERT_EQ(errno, EBUSY);
		}
		ASSERT_OK(kt_arm(view, 0, PAGE, 0));
		kt_inc8(map);
		ASSERT_EQ(map[0], i);
		if (i >= 500 && kt_now() > end)
			rounds = i;
	}
	stop = true;
	pthread_join(t, NULL);
	st = kt_stat(view);
	fprintf(stderr, "# %ld registrations, %llu by signal, %llu by ring\n",
		registrations, st.signals, st.events);
	ASSERT_EQ(st.traps, rounds);
	ASSERT_EQ(st.signals, segv_count);
	ASSERT_EQ(st.signals + st.events, rounds);
	ASSERT_GT(st.signals, 0);
	ASSERT_GT(st.events, 0);
}
