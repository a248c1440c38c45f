// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Programs that make code for a long time must not grow, however little of it is
 * alive at a time. They look at their own resident memory, which under a translator is
 * the translator's as well: after the first fifth it may grow by BOUND.
 *
 * GUEST_SECONDS: how long each way of making code goes on (1).
 */
#include <fcntl.h>
#include <pthread.h>
#include <time.h>

#include "guest.h"

#define BOUND	(64UL << 20)	/* what a cache that is emptied early may move by */

static size_t resident(void)
{
	unsigned long size, pages;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f && fscanf(f, "%lu %lu", &size, &pages) == 2);
	fclose(f);
	return pages * PAGE;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Calls round() for as long as it shall last, and looks at the memory. */
static void goes_on(void (*round)(uint32_t n))
{
	double seconds = atof(getenv("GUEST_SECONDS") ?: "1"), begin = now(), t;
	size_t before = 0, after;
	uint32_t n = 0;

	do {
		for (unsigned int i = 0; i < 100; i++)
			round(n++);
		t = now() - begin;
		if (!before && t >= seconds / 5)
			before = resident();
	} while (t < seconds);
	after = resident();
	if (after > before + BOUND)
		guest_fail(__FILE_NAME__, __LINE__, "%zu kB after a fifth, %zu at the end, %u rounds",
			   before >> 10, after >> 10, n);
}

/* A JIT's heap: functions one behind the other, and from the start again. */
static void append(uint32_t n)
{
	static uint8_t *heap;
	static size_t at;

	if (!heap)
		heap = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(heap != MAP_FAILED);
	if (at + 16 > 64 * PAGE)
		at = 0;
	put_ret_imm(heap + at, n);
	CHECK_EQ(run1(heap + at, 0), n);
	at += 16;
}

CASE(functions_in_a_ring)
{
	goes_on(append);
}

/* One function made anew. */
static void anew(uint32_t n)
{
	static uint8_t *p;

	if (!p)
		p = place_get(PLACE_ANON, 1);
	put_ret_imm(p, n);
	CHECK_EQ(run1(p, 0), n);
}

CASE(one_function_again_and_again)
{
	goes_on(anew);
}

/* Memory that is mapped for one function, at an address that nobody has had. */
static void mapped_elsewhere(uint32_t n)
{
	uint8_t *p = (uint8_t *)0x200000000000 + n * 16 * PAGE;

	p = mmap(p, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		 -1, 0);
	CHECK(p != MAP_FAILED);
	put_ret_imm(p + PAGE, n);
	CHECK(!mprotect(p, 2 * PAGE, PROT_READ | PROT_EXEC));
	CHECK_EQ(run1(p + PAGE, 0), n);
	CHECK(!munmap(p, 2 * PAGE));
}

CASE(a_mapping_for_each_function)
{
	goes_on(mapped_elsewhere);
}

/* The same while another thread runs what it has. */
static volatile int spin_ends;

static void *spins(void *arg)
{
	uint8_t *p = place_get(PLACE_ANON, 1);
	uint64_t n = 0;

	put_ret_imm(p, 7);
	while (!spin_ends)
		n += run1(p, 0);
	return (void *)(uintptr_t)(n % 7);
}

CASE(beside_a_thread_that_runs)
{
	pthread_t t;
	void *ret;

	CHECK(!pthread_create(&t, NULL, spins, NULL));
	goes_on(append);
	goes_on(mapped_elsewhere);
	spin_ends = 1;
	CHECK(!pthread_join(t, &ret) && !ret);
}

/*
 * Libraries: a file of 16 pages with a function on each, mapped, run and unmapped ten
 * thousand times, at ever new addresses.
 */
CASE(ten_thousand_libraries)
{
	int fd = temp_file(16 * PAGE);
	size_t before = 0, after;
	uint8_t code[16];

	for (uint32_t i = 0; i < 16; i++) {
		size_t n = put_ret_imm(code, i * 3 + 1);

		CHECK_EQ(pwrite(fd, code, n, i * PAGE + 64 * i), n);
	}
	for (uint32_t n = 0; n < 10000; n++) {
		uint8_t *p = (uint8_t *)0x210000000000 + n * 64 * PAGE;
		uint64_t sum = 0;

		p = mmap(p, 16 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0);
		CHECK(p != MAP_FAILED);
		for (uint32_t i = 0; i < 16; i++)
			sum += run1(p + i * PAGE + 64 * i, 0);
		CHECK_EQ(sum, 16 * 15 / 2 * 3 + 16);
		CHECK(!munmap(p, 16 * PAGE));
		if (n == 2000)
			before = resident();
	}
	after = resident();
	if (after > before + BOUND)
		guest_fail(__FILE_NAME__, __LINE__, "%zu kB after 2000, %zu after 10000",
			   before >> 10, after >> 10);
	close(fd);
}
