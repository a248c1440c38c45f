/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the module's tests share: the raw system calls of linux/codewp.h in one
 * line each, an upcall handler in assembly, and ring and state access. They do
 * not use libcodewp: these tests are of the kernel's contract alone.
 *
 * Functions that cannot go on fail the test. All are static inline: each test
 * program is one file.
 */
#ifndef CODEWP_KMOD_TEST_H
#define CODEWP_KMOD_TEST_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <linux/codewp.h>

#include "test.h"

/* The kernel's counters are unsigned and test constants are int: both small. */
#pragma GCC diagnostic ignored "-Wsign-compare"

#define PAGE 4096UL

/* TEST_SCALE: how many times slower than hardware this machine is. */
static inline long kt_scale(void)
{
	const char *s = getenv("TEST_SCALE");

	return s && atol(s) > 0 ? atol(s) : 1;
}

/* /dev/codewp, opened once. No module: the test is skipped. */
static inline int kt_dev(void)
{
	static int dev = -1;

	if (dev < 0) {
		dev = open("/dev/codewp", O_RDWR | O_CLOEXEC);
		if (dev < 0 && errno == ENOENT)
			SKIP("no /dev/codewp: the module is not loaded");
		if (dev < 0)
			TEST_FAIL("/dev/codewp: %s", strerror(errno));
	}
	return dev;
}

static inline int kt_memfd(size_t bytes)
{
	int fd = ASSERT_OK(memfd_create("kmod", MFD_CLOEXEC | MFD_ALLOW_SEALING));

	ASSERT_OK(ftruncate(fd, bytes));
	return fd;
}

/* A view of the whole memfd; -1 and errno on error. */
static inline int kt_try_view(int memfd, uint64_t offset, uint64_t length,
			      uint32_t flags)
{
	struct codewp_view_create c = {
		.flags = flags,
		.memfd = memfd,
		.offset = offset,
		.length = length,
		.ring_fd = -1,
		.cookie = 0xc0de,
	};

	return ioctl(kt_dev(), CODEWP_IOC_VIEW, &c);
}

static inline int kt_view(int memfd, uint64_t length, uint32_t flags)
{
	return ASSERT_OK(kt_try_view(memfd, 0, length, flags));
}

static inline void *kt_map(int view, size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, view, 0);

	if (p == MAP_FAILED)
		TEST_FAIL("mmap of a view: %s", strerror(errno));
	return p;
}

/* The alias: a plain mapping of the memfd. */
static inline void *kt_alias(int memfd, size_t bytes)
{
	return kt_map(memfd, bytes);
}

static inline int kt_arm(int view, uint64_t offset, uint64_t length,
			 uint32_t flags)
{
	struct codewp_arm a = {
		.offset = offset, .length = length, .flags = flags,
	};

	return ioctl(view, CODEWP_IOC_ARM, &a);
}

static inline int kt_disarm(int view, uint64_t offset, uint64_t length)
{
	struct codewp_arm a = { .offset = offset, .length = length };

	return ioctl(view, CODEWP_IOC_DISARM, &a);
}

static inline struct codewp_stat kt_stat(int view)
{
	struct codewp_stat st;

	ASSERT_OK(ioctl(view, CODEWP_IOC_STAT, &st));
	return st;
}

static inline const uint32_t *kt_states(int view, size_t pages)
{
	size_t bytes = (pages * 4 + PAGE - 1) & ~(PAGE - 1);
	void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, view,
		       CODEWP_MMAP_STATE);

	if (p == MAP_FAILED)
		TEST_FAIL("mmap of page states: %s", strerror(errno));
	return p;
}

static inline uint32_t kt_state(const uint32_t *states, size_t page)
{
	return __atomic_load_n(&states[page], __ATOMIC_ACQUIRE);
}

static inline struct codewp_ring *kt_ring(int view, size_t bytes)
{
	void *p = mmap(NULL, CODEWP_RING_DATA + bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED, view, CODEWP_MMAP_RING);

	if (p == MAP_FAILED)
		TEST_FAIL("mmap of the ring: %s", strerror(errno));
	return p;
}

/* Take the oldest event out of the ring; false if it is empty. */
static inline bool kt_event(struct codewp_ring *ring, struct codewp_event *ev)
{
	struct codewp_event *rec = (void *)((char *)ring + CODEWP_RING_DATA);
	uint64_t tail = ring->tail;

	/* Pairs with the kernel's store-release of head. */
	if (__atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) == tail)
		return false;
	rec += tail & (ring->nr - 1);
	if (__atomic_load_n(&rec->seq, __ATOMIC_ACQUIRE) != tail + 1)
		TEST_FAIL("record %llu has seq %llu", (unsigned long long)tail,
			  (unsigned long long)rec->seq);
	*ev = *rec;
	/* Pairs with the kernel's load-acquire of tail. */
	__atomic_store_n(&ring->tail, tail + 1, __ATOMIC_RELEASE);
	return true;
}

/*
 * The code cache of these tests: stores, between two labels, and nothing else.
 * Each returns after its store.
 */
void kt_store8(void *p, uint64_t value);	/* mov %rsi, (%rdi) */
void kt_inc8(void *p);				/* lock incq (%rdi) */
extern char kt_code_start[], kt_code_end[];

/*
 * Upcall handlers. %rdi is the area. kt_handler_open counts in scratch[0] and
 * returns to the store; kt_handler_skip returns behind it (the two stores above
 * are 3 and 4 bytes long; scratch[1] says how many), so that the page can stay
 * armed. Both run on the thread's own stack below its red zone, or on none: they
 * touch no stack at all.
 */
extern char kt_handler_open[], kt_handler_skip[];

asm(".pushsection .text\n"
    ".globl kt_code_start, kt_code_end, kt_store8, kt_inc8\n"
    ".globl kt_handler_open, kt_handler_skip\n"
    ".type kt_store8, @function\n"
    ".type kt_inc8, @function\n"
    ".balign 64\n"
    "kt_code_start:\n"
    "kt_store8: mov %rsi, (%rdi)\n"
    "	ret\n"
    ".balign 16\n"
    "kt_inc8: lock incq (%rdi)\n"
    "	ret\n"
    "kt_code_end:\n"
    ".balign 16\n"
    /* flags are not kept: the stores' callers do not look at them */
    "kt_handler_open:\n"
    "	endbr64\n"
    "	incq 96(%rdi)\n"		/* scratch[0] */
    "	mov %rax, 112(%rdi)\n"		/* scratch[2] */
    "	mov 8(%rdi), %rax\n"		/* ip */
    "	mov %rax, 120(%rdi)\n"		/* scratch[3] */
    "	mov 112(%rdi), %rax\n"
    "	mov 16(%rdi), %rsp\n"
    "	mov %rdi, %r11\n"
    "	mov 32(%rdi), %rdi\n"
    "	movl $0, (%r11)\n"
    "	jmp *120(%r11)\n"
    "kt_handler_skip:\n"
    "	endbr64\n"
    "	incq 96(%rdi)\n"
    "	mov %rax, 112(%rdi)\n"
    "	mov 8(%rdi), %rax\n"
    "	add 104(%rdi), %rax\n"		/* scratch[1] */
    "	mov %rax, 120(%rdi)\n"
    "	mov 112(%rdi), %rax\n"
    "	mov 16(%rdi), %rsp\n"
    "	mov %rdi, %r11\n"
    "	mov 32(%rdi), %rdi\n"
    "	movl $0, (%r11)\n"
    "	jmp *120(%r11)\n"
    ".popsection\n");

_Static_assert(offsetof(struct codewp_area, ip) == 8 &&
	       offsetof(struct codewp_area, sp) == 16 &&
	       offsetof(struct codewp_area, di) == 32 &&
	       offsetof(struct codewp_area, scratch) == 96,
	       "the handlers know struct codewp_area");

/* Register the calling thread; -1 and errno on error. */
static inline int kt_try_thread(uint32_t flags, void *handler, void *area_hint,
				int ring_view)
{
	struct codewp_thread_create c = {
		.flags = flags,
		.ring_fd = ring_view,
		.handler = (uintptr_t)handler,
		.arg = (uintptr_t)area_hint,
		.code_start = (uintptr_t)kt_code_start,
		.code_end = (uintptr_t)kt_code_end,
	};

	return ioctl(kt_dev(), CODEWP_IOC_THREAD, &c);
}

/*
 * Register the calling thread for upcalls and map its area, whose address is
 * the handler's %rdi: it is reserved first.
 */
static inline struct codewp_area *kt_register(void *handler, uint32_t flags,
					      int ring_view, int *fd)
{
	void *area = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	ASSERT(area != MAP_FAILED);
	*fd = kt_try_thread(flags, handler, area, ring_view);
	if (*fd < 0)
		TEST_FAIL("CODEWP_IOC_THREAD: %s", strerror(errno));
	if (mmap(area, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, *fd,
		 0) != area)
		TEST_FAIL("mmap of the area: %s", strerror(errno));
	return area;
}

static inline double kt_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

/* Wait for a child that must end well. */
static inline void kt_reap(pid_t pid)
{
	int status;

	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		_exit(1);	/* it has said why */
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		TEST_FAIL("child: status %#x", status);
}

#endif
