// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Kicks between processes: a store of another process into a page that this one has
 * armed interrupts a thread of this one that spins in its code cache, every time and
 * soon, wherever in entering it the thread was.
 */
#include "kmod_test.h"

#include <sched.h>
#include <signal.h>

#define RING	65536
#define ROUNDS	10000

/*
 * The code cache, and the stub by which a translator enters it: a kick that came
 * before is only counted, so the count is compared with the one that was seen when
 * the ring was drained. From the first instruction on a kick redirects.
 */
void kt_enter(struct codewp_area *area, uint32_t kicks_seen);
extern char kt_cache_start[], kt_cache_end[];
asm(".pushsection .text\n"
    ".balign 64\n"
    "kt_cache_start:\n"
    "kt_enter: cmp %esi, 72(%rdi)\n"
    "	jne 2f\n"
    "1:	cmpq $0, 96(%rdi)\n"		/* scratch[0]: only the handler sets it */
    "	je 1b\n"
    "2:	ret\n"
    "kt_cache_end:\n"
    ".popsection\n");

_Static_assert(offsetof(struct codewp_area, kicks) == 72, "kt_enter knows the area");

/* What the two tell each other: anonymous shared memory, no view. */
static struct line {
	uint32_t armed, stored;		/* the round that each has come to */
	uint64_t when;			/* the store, in ns */
	pid_t writer;
} *line;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void wait_for(const uint32_t *word, uint32_t value)
{
	for (unsigned int i = 1; __atomic_load_n(word, __ATOMIC_ACQUIRE) != value; i++) {
		if (i % 256 == 0)
			sched_yield();
		if (getppid() == 1)
			_exit(0);
	}
}

/* Half of the stores through the view that it inherited, half through one of its own. */
static void writer(int memfd, uint64_t *inherited)
{
	uint64_t *own = kt_map(kt_view(memfd, PAGE, 0), PAGE);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint32_t r = 1; r <= ROUNDS; r++) {
		wait_for(&line->armed, r);
		/* at once, or when the other one spins for long */
		for (uint32_t i = 0; i < r % 8 * (r % 64) * 16; i++)
			__builtin_ia32_pause();
		line->when = now_ns();
		*(volatile uint64_t *)(r & 1 ? own : inherited) = r;
		__atomic_store_n(&line->stored, r, __ATOMIC_RELEASE);
	}
	_exit(0);
}

static struct codewp_area *register_cache(int ring_view)
{
	void *area = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct codewp_thread_create c = {
		.flags = CODEWP_THREAD_UPCALL | CODEWP_THREAD_KICK,
		.ring_fd = ring_view,
		.handler = (uintptr_t)kt_handler_open,
		.arg = (uintptr_t)area,
		.code_start = (uintptr_t)kt_cache_start,
		.code_end = (uintptr_t)kt_cache_end,
	};
	int fd = ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_THREAD, &c));

	ASSERT(mmap(area, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == area);
	return area;
}

TEST_LONG(store_of_another_process_kicks_every_time, 120)
{
	int memfd = kt_memfd(PAGE), view = kt_view(memfd, PAGE, 0);
	struct codewp_ring *ring = kt_ring(view, RING);
	uint32_t redirected = 0, counted = 0;
	uint64_t *map = kt_map(view, PAGE), worst = 0;
	struct codewp_area *area;
	struct codewp_event ev;
	pid_t pid;

	line = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT(line != MAP_FAILED);
	pid = ASSERT_OK(fork());
	if (!pid)
		writer(memfd, map);
	area = register_cache(view);
	for (uint32_t r = 1; r <= ROUNDS; r++) {
		uint32_t kicks = __atomic_load_n(&area->kicks, __ATOMIC_ACQUIRE);
		uint64_t took;
		bool kicked;

		area->scratch[0] = 0;
		area->reason = 0;
		ASSERT_OK(kt_arm(view, 0, PAGE, CODEWP_ARM_OPEN));
		__atomic_store_n(&line->armed, r, __ATOMIC_RELEASE);
		if (r % 10 == 0)
			wait_for(&line->stored, r);	/* kicked before it enters */
		kt_enter(area, kicks);		/* the kick, or the test's end */
		took = now_ns();

		/* Before anything else is asked of the kernel: the event is there. */
		ASSERT(kt_event(ring, &ev));
		kicked = area->scratch[0];
		ASSERT_EQ(ev.tid, pid);
		ASSERT_EQ(ev.offset, 0);
		ASSERT_EQ(ev.flags & (CODEWP_EVENT_SELF | CODEWP_EVENT_KERNEL), 0);
		ASSERT(!kt_event(ring, &ev));
		/* one of the two, once */
		ASSERT_EQ(kicked + (area->kicks - kicks), 1);
		if (kicked)
			ASSERT_EQ(area->reason, CODEWP_REASON_KICK);
		redirected += kicked;
		counted += !kicked;
		if (took > line->when && took - line->when > worst)
			worst = took - line->when;
		wait_for(&line->stored, r);
		ASSERT_EQ(map[0], r);
	}
	kt_reap(pid);
	fprintf(stderr, "# %u redirected, %u counted on the way in; the slowest after %llu us\n",
		redirected, counted, (unsigned long long)worst / 1000);
	ASSERT_GT(redirected, ROUNDS / 10);
	ASSERT_GT(counted, ROUNDS / 100);
	ASSERT_EQ(kt_stat(view).events, ROUNDS);
	/* Seconds are long, on a machine whose other programs want their turn, too. */
	ASSERT_LT(worst, 2000000000ULL * kt_scale());
}
