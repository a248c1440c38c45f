// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What one trap costs, in every way there is to have one.
 *
 * A row is one round of "the page is protected, a store hits it, the translator
 * knows, the store is done", or a part of that. Every row runs in batches, the
 * cheapest batch counts: timer ticks fall into the others. The memory is shmem
 * in all rows.
 *
 *	bench_trap [ROW]...	rows by name; all without
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/codewp.h>
#include <linux/userfaultfd.h>

#include "bench.h"

#define PAGE		4096UL
#define PAGES		512UL
#define BATCHES		24

extern char cache_start[], cache_end[], store_many_next[];
extern char handler_keep[], handler_open[];
void store_one(void *addr, uint64_t value);
void store_many(void *addr, uint64_t count);

_Static_assert(offsetof(struct codewp_area, ip) == 8, "trap_asm.S");
_Static_assert(offsetof(struct codewp_area, di) == 32, "trap_asm.S");
_Static_assert(offsetof(struct codewp_area, addr) == 40, "trap_asm.S");
_Static_assert(offsetof(struct codewp_area, scratch) == 96, "trap_asm.S");

/* ---- what the rows work on ----------------------------------------------- */

static int dev = -1, memfd, view_fd, thread_fd = -1;
static char *view, *alias;
static struct codewp_area *area;
static struct codewp_ring *ring;
static const size_t ring_bytes = 64 * 1024;
static uint64_t ring_seen;

static int new_memfd(size_t bytes)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, bytes))
		bench_die("memfd");
	return fd;
}

static void *map(int fd, size_t bytes, off_t offset, int flags)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, offset);

	if (p == MAP_FAILED)
		bench_die("mmap");
	return p;
}

/* A private view of 512 pages, all in memory, its alias, and its ring. */
static void view_open(void)
{
	struct codewp_view_create vc = {
		.flags = CODEWP_VIEW_PRIVATE, .length = PAGES * PAGE, .ring_fd = -1,
		.ring_bytes = ring_bytes, .clients = CODEWP_CLIENT_CODE,
	};

	dev = open("/dev/codewp", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		bench_die("/dev/codewp");
	memfd = new_memfd(PAGES * PAGE);
	vc.memfd = memfd;
	view_fd = ioctl(dev, CODEWP_IOC_VIEW, &vc);
	if (view_fd < 0)
		bench_die("CODEWP_IOC_VIEW");
	view = map(view_fd, PAGES * PAGE, CODEWP_MMAP_DATA, 0);
	alias = map(memfd, PAGES * PAGE, 0, 0);
	ring = map(view_fd, CODEWP_RING_DATA + ring_bytes, CODEWP_MMAP_RING, 0);
	for (size_t i = 0; i < PAGES; i++)
		alias[i * PAGE] = 1;
}

static void view_shut(void)
{
	/* Some rows have unmapped the alias already, which does no harm. */
	munmap(ring, CODEWP_RING_DATA + ring_bytes);
	munmap(alias, PAGES * PAGE);
	munmap(view, PAGES * PAGE);
	close(view_fd);
	close(memfd);
	close(dev);
	ring_seen = 0;
}

static void arm(size_t page, size_t pages, uint32_t flags)
{
	struct codewp_arm a = { .offset = page * PAGE, .length = pages * PAGE, .flags = flags };

	if (ioctl(view_fd, CODEWP_IOC_ARM, &a))
		bench_die("CODEWP_IOC_ARM");
}

static void disarm_all(void)
{
	struct codewp_arm a = { .length = PAGES * PAGE };

	if (ioctl(view_fd, CODEWP_IOC_DISARM, &a))
		bench_die("CODEWP_IOC_DISARM");
}

static void thread_open(uint32_t flags, void *handler)
{
	struct codewp_thread_create tc = {
		.flags = flags, .ring_fd = -1, .handler = (uintptr_t)handler,
		.code_start = (uintptr_t)cache_start, .code_end = (uintptr_t)cache_end,
	};
	struct codewp_thread_create *arg = &tc;

	/* The handler finds the area in %rdi: its address must be known before. */
	area = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		bench_die("mmap");
	if (handler)
		tc.arg = (uintptr_t)area;
	thread_fd = ioctl(dev, CODEWP_IOC_THREAD, arg);
	if (thread_fd < 0)
		bench_die("CODEWP_IOC_THREAD");
	if (mmap(area, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, thread_fd, 0) ==
	    MAP_FAILED)
		bench_die("mmap of the area");
	area->scratch[0] = alias - view;
	area->scratch[1] = (uintptr_t)store_many_next;
}

static void thread_shut(void)
{
	munmap(area, PAGE);
	close(thread_fd);
}

static void ring_drain(void)
{
	const struct codewp_event *ev = (void *)((char *)ring + CODEWP_RING_DATA);
	uint64_t tail = ring->tail;

	for (;; tail++, ring_seen++) {
		const struct codewp_event *e = &ev[tail & (ring->nr - 1)];

		/* Pairs with the kernel's release of seq. */
		if (__atomic_load_n(&e->seq, __ATOMIC_ACQUIRE) != tail + 1)
			break;
	}
	/* Pairs with the kernel's acquire: the records have been read. */
	__atomic_store_n(&ring->tail, tail, __ATOMIC_RELEASE);
}

/* ---- the floor ------------------------------------------------------------- */

static void read_all(volatile char *p)
{
	for (size_t i = 0; i < PAGES; i++)
		(void)p[i * PAGE];
}

static double time_stores(char *p)
{
	double t = bench_now();

	for (size_t i = 0; i < PAGES; i++)
		store_one(p + i * PAGE, i);
	return (bench_now() - t) / PAGES;
}

/* Nothing but the loop around the stores. */
static double row_store(void)
{
	return time_stores(alias);
}

/* shmem, page in memory, no page table entry. */
static double row_minor(void)
{
	madvise(alias, PAGES * PAGE, MADV_DONTNEED);
	return time_stores(alias);
}

/* A view's page that is not armed, mapped read only by a read. */
static double row_unarmed(void)
{
	madvise(view, PAGES * PAGE, MADV_DONTNEED);
	read_all(view);
	return time_stores(view);
}

static char *floor_map;

static void floor_open(void)
{
	int fd = open("/dev/codewp-floor", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	memfd = new_memfd(PAGES * PAGE);
	if (ioctl(fd, 0, memfd))
		bench_die("codewp-floor");
	floor_map = map(fd, PAGES * PAGE, 0, 0);
	for (size_t i = 0; i < PAGES; i++)
		floor_map[i * PAGE] = 1;
	close(fd);
	close(memfd);
}

static void floor_shut(void)
{
	if (floor_map)
		munmap(floor_map, PAGES * PAGE);
	floor_map = NULL;
}

/* Shmem pages under a page_mkwrite that locks the folio, and nothing else. */
static double row_floor(void)
{
	if (!floor_map)
		return -1;
	madvise(floor_map, PAGES * PAGE, MADV_DONTNEED);
	read_all(floor_map);
	return time_stores(floor_map);
}

/* ---- arming ----------------------------------------------------------------- */

/* Every page writable and dirty through the view. */
static void write_all(void)
{
	disarm_all();
	for (size_t i = 0; i < PAGES; i++)
		view[i * PAGE] = 2;
}

static double row_arm_one(void)
{
	double t;

	write_all();
	t = bench_now();
	for (size_t i = 0; i < PAGES; i++)
		arm(i, 1, CODEWP_ARM_KEEP);
	return (bench_now() - t) / PAGES;
}

static double row_arm_one_alias(void)
{
	double t;

	write_all();
	for (size_t i = 0; i < PAGES; i++)
		alias[i * PAGE] = 3;
	t = bench_now();
	for (size_t i = 0; i < PAGES; i++)
		arm(i, 1, CODEWP_ARM_KEEP);
	return (bench_now() - t) / PAGES;
}

static double row_arm_512(void)
{
	double t;

	write_all();
	t = bench_now();
	arm(0, PAGES, CODEWP_ARM_KEEP);
	return (bench_now() - t) / PAGES;
}

static void no_alias_open(void)
{
	view_open();
	munmap(alias, PAGES * PAGE);
}

/* ---- traps ------------------------------------------------------------------ */

static void upcall_keep_open(void)
{
	view_open();
	thread_open(CODEWP_THREAD_UPCALL, handler_keep);
	write_all();
	arm(0, PAGES, CODEWP_ARM_KEEP);
	alias[0] = 1;		/* the first store after an arm is a fault of its own */
}

static double row_upcall_keep(void)
{
	uint64_t before = area->upcalls;
	double t = bench_now();

	store_many(view, PAGES);
	t = (bench_now() - t) / PAGES;
	if (area->upcalls - before != PAGES)
		bench_die("%llu upcalls for %lu stores",
			  (unsigned long long)(area->upcalls - before), PAGES);
	return t;
}

static void upcall_open_alias_open(void)
{
	view_open();
	thread_open(CODEWP_THREAD_UPCALL, handler_open);
	write_all();
}

/* OPEN has no use for the alias: one mapping of the page, as for uffd. */
static void upcall_open_open(void)
{
	upcall_open_alias_open();
	munmap(alias, PAGES * PAGE);
}

static double row_upcall_open(void)
{
	uint64_t before = area->upcalls;
	double t = bench_now();

	for (size_t i = 0; i < PAGES; i++) {
		arm(i, 1, CODEWP_ARM_OPEN);
		store_one(view + i * PAGE, i);
	}
	t = (bench_now() - t) / PAGES;
	if (area->upcalls - before != PAGES)
		bench_die("%llu upcalls for %lu stores",
			  (unsigned long long)(area->upcalls - before), PAGES);
	return t;
}

static void thread_and_view_shut(void)
{
	thread_shut();
	view_shut();
}

static void ring_open(void)
{
	view_open();
	munmap(alias, PAGES * PAGE);
	write_all();
}

static double row_ring(void)
{
	uint64_t before = ring_seen;
	double t = bench_now();

	for (size_t i = 0; i < PAGES; i++) {
		arm(i, 1, CODEWP_ARM_OPEN);
		store_one(view + i * PAGE, i);
		ring_drain();
	}
	t = (bench_now() - t) / PAGES;
	if (ring_seen - before != PAGES)
		bench_die("%llu events for %lu stores",
			  (unsigned long long)(ring_seen - before), PAGES);
	return t;
}

static volatile sig_atomic_t signals;

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	signals++;
}

static void catch(int sig, void (*fn)(int, siginfo_t *, void *))
{
	struct sigaction sa = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO | SA_NODEFER };

	if (sigaction(sig, &sa, NULL))
		bench_die("sigaction");
}

static void check_signals(unsigned long before)
{
	if (signals - before != PAGES)
		bench_die("%lu signals for %lu stores", signals - before, PAGES);
}

static void signal_open(void)
{
	view_open();
	catch(SIGSEGV, on_signal);
	thread_open(CODEWP_THREAD_SIGNAL, NULL);
	munmap(alias, PAGES * PAGE);
	write_all();
}

static double row_signal(void)
{
	unsigned long before = signals;
	double t = bench_now();

	for (size_t i = 0; i < PAGES; i++) {
		arm(i, 1, CODEWP_ARM_OPEN);
		store_one(view + i * PAGE, i);
	}
	t = (bench_now() - t) / PAGES;
	check_signals(before);
	return t;
}

/* ---- the others' ways ------------------------------------------------------- */

static char *plain;		/* 1024 pages, the even ones are protected */
static int uffd;

static void plain_open(void)
{
	int fd = new_memfd(2 * PAGES * PAGE);

	plain = map(fd, 2 * PAGES * PAGE, 0, MAP_POPULATE);
	close(fd);
}

static void plain_shut(void)
{
	munmap(plain, 2 * PAGES * PAGE);
}

static void on_mprotect(int sig, siginfo_t *si, void *uc)
{
	signals++;
	if (mprotect((void *)((uintptr_t)si->si_addr & ~(PAGE - 1)), PAGE,
		     PROT_READ | PROT_WRITE))
		_exit(1);
}

static void mprotect_open(void)
{
	plain_open();
	catch(SIGSEGV, on_mprotect);
	for (size_t i = 0; i < PAGES; i++)
		if (mprotect(plain + 2 * i * PAGE, PAGE, PROT_READ))
			bench_die("mprotect");
}

static double row_mprotect(void)
{
	unsigned long before = signals;
	double t = bench_now();

	for (size_t i = 0; i < PAGES; i++) {
		char *p = plain + 2 * i * PAGE;

		store_one(p, i);
		if (mprotect(p, PAGE, PROT_READ))
			bench_die("mprotect");
	}
	t = (bench_now() - t) / PAGES;
	check_signals(before);
	return t;
}

/* The best case: one mapping of one page, nothing to split and to merge. */
static void mprotect_one_open(void)
{
	plain_open();
	catch(SIGSEGV, on_mprotect);
	munmap(plain + PAGE, (2 * PAGES - 1) * PAGE);
	if (mprotect(plain, PAGE, PROT_READ))
		bench_die("mprotect");
}

static double row_mprotect_one(void)
{
	unsigned long before = signals;
	double t = bench_now();

	for (size_t i = 0; i < PAGES; i++) {
		store_one(plain, i);
		if (mprotect(plain, PAGE, PROT_READ))
			bench_die("mprotect");
	}
	t = (bench_now() - t) / PAGES;
	check_signals(before);
	return t;
}

static void mprotect_one_shut(void)
{
	munmap(plain, PAGE);
}

static void uffd_wp(void *page, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)page & ~(PAGE - 1), .len = PAGE },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &wp))
		bench_die("UFFDIO_WRITEPROTECT");
}

static void on_uffd(int sig, siginfo_t *si, void *uc)
{
	signals++;
	uffd_wp(si->si_addr, false);
}

static void uffd_open(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			    UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_WP };

	plain_open();
	catch(SIGBUS, on_uffd);
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		bench_die("userfaultfd");
	reg.range.start = (uintptr_t)plain;
	reg.range.len = 2 * PAGES * PAGE;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		bench_die("UFFDIO_REGISTER");
	for (size_t i = 0; i < PAGES; i++)
		uffd_wp(plain + 2 * i * PAGE, true);
}

static double row_uffd(void)
{
	unsigned long before = signals;
	double t = bench_now();

	for (size_t i = 0; i < PAGES; i++) {
		char *p = plain + 2 * i * PAGE;

		store_one(p, i);
		uffd_wp(p, true);
	}
	t = (bench_now() - t) / PAGES;
	check_signals(before);
	return t;
}

static void uffd_shut(void)
{
	close(uffd);
	plain_shut();
}

/* ---- the table --------------------------------------------------------------- */

static const struct row {
	const char *name, *what;
	void (*open)(void);
	double (*batch)(void);
	void (*shut)(void);
} rows[] = {
	{ "store", "a store that traps not, and its loop", view_open, row_store, view_shut },
	{ "minor", "plain minor fault: shmem page in memory, written", view_open, row_minor,
	  view_shut },
	{ "floor", "page_mkwrite that does nothing (test module)", floor_open, row_floor,
	  floor_shut },
	{ "unarmed", "codewp's page_mkwrite, page not armed", view_open, row_unarmed,
	  view_shut },
	{ "arm-1", "arm one page", no_alias_open, row_arm_one, view_shut },
	{ "arm-1-alias", "arm one page, alias written as well", view_open, row_arm_one_alias,
	  view_shut },
	{ "arm-512", "arm 512 pages at once, per page", no_alias_open, row_arm_512, view_shut },
	{ "keep", "KEEP: trap, upcall, store through the alias", upcall_keep_open,
	  row_upcall_keep, thread_and_view_shut },
	{ "open", "OPEN: arm, trap, upcall, store", upcall_open_open, row_upcall_open,
	  thread_and_view_shut },
	{ "open-alias", "the same, alias mapped as well", upcall_open_alias_open,
	  row_upcall_open, thread_and_view_shut },
	{ "ring", "arm, trap told by the ring, store, drain", ring_open, row_ring, view_shut },
	{ "signal", "arm, trap, SIGSEGV, store", signal_open, row_signal,
	  thread_and_view_shut },
	{ "uffd", "uffd-wp, SIGBUS, un-wp, store", uffd_open, row_uffd, uffd_shut },
	{ "mprotect", "mprotect, SIGSEGV, mprotect, store; alternate pages", mprotect_open,
	  row_mprotect, plain_shut },
	{ "mprotect-1", "the same in a mapping of one page: no VMA is split",
	  mprotect_one_open, row_mprotect_one, mprotect_one_shut },
};

#define NR_ROWS (sizeof(rows) / sizeof(*rows))

static double costs[NR_ROWS];	/* 0: not measured, -1: not possible here */

static double cost(const char *name)
{
	for (size_t i = 0; i < NR_ROWS; i++)
		if (!strcmp(rows[i].name, name))
			return costs[i];
	return 0;
}

static const char *ratio(char text[16], double have, double of)
{
	if (of > 0)
		snprintf(text, 16, "%.3f", have / of);
	else
		strcpy(text, "-");
	return text;
}

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc < 2;
}

static int goal(const char *text, double have, double want, bool at_most)
{
	bool met = at_most ? have <= want : have >= want;

	printf("  %-54s %8.1f  %s %g: %s\n", text, have, at_most ? "<=" : ">=", want,
	       met ? "met" : "MISSED");
	return !met;
}

int main(int argc, char **argv)
{
	char of_uffd[16], of_mprotect[16];
	double floor;
	int missed = 0;

	bench_open();
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("%-10s %10s  %8s  %8s  %s\n", "row", bench_unit, "/uffd", "/mprotect", "what");
	for (size_t i = 0; i < NR_ROWS; i++) {
		const struct row *r = &rows[i];

		if (!wanted(r->name, argc, argv))
			continue;
		r->open();
		costs[i] = 1e300;
		for (int b = 0; b < BATCHES; b++) {
			double c = r->batch();

			if (c < costs[i])
				costs[i] = c;
		}
		r->shut();
	}
	for (size_t i = 0; i < NR_ROWS; i++) {
		const struct row *r = &rows[i];

		if (!costs[i])
			continue;
		if (costs[i] < 0) {
			printf("%-10s %10s  %8s  %8s  %s\n", r->name, "-", "-", "-", r->what);
			continue;
		}
		printf("%-10s %10.1f  %8s  %8s  %s\n", r->name, costs[i],
		       ratio(of_uffd, costs[i], cost("uffd")),
		       ratio(of_mprotect, costs[i], cost("mprotect")), r->what);
	}
	if (argc > 1)
		return 0;

	floor = cost("floor") > 0 ? cost("floor") : cost("unarmed");
	printf("\ngoals%s\n", bench_icount ? "" :
	       " (are set in instructions; wall time under emulation is only a ratio)");
	if (bench_icount)
		missed += goal("KEEP above the floor", cost("keep") - floor, 400, true);
	missed += goal("KEEP cheaper than mprotect, times", cost("mprotect") / cost("keep"), 12,
		       false);
	missed += goal("OPEN with arm cheaper than mprotect, times",
		       cost("mprotect") / cost("open"), 6.5, false);
	missed += goal("KEEP cheaper than uffd, times", cost("uffd") / cost("keep"), 2, false);
	missed += goal("OPEN with arm cheaper than uffd, times", cost("uffd") / cost("open"), 2,
		       false);
	/* A missed goal is a finding, not an error of the program. */
	printf("goals missed: %d\n", missed);
	return 0;
}
