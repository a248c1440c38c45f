// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Self-modifying and cross-modifying code under one, two and eight threads.
 *
 * What a thread writes it runs at once, whoever else uses the page. What another
 * one writes is there after a flag and a serialising instruction, as the manual
 * has it; after a flag alone the old code runs, or the new, never a mixture.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "guest.h"

#define MOST 8

static const enum place places[] = { PLACE_ANON, PLACE_SHARED, PLACE_MEMFD, PLACE_FILE };
#define NR_PLACES (sizeof(places) / sizeof(places[0]))

static pthread_barrier_t barrier;
static uint8_t *code, *writable;	/* the same memory; mostly the same address */
static _Atomic uint32_t version, seen[MOST];
static uint32_t nr;

static void serialise(void)
{
	uint32_t a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) :: "memory");
}

/* fn(0..n-1) on as many threads, which start together; thread 0 is this one. */
static void on_threads(uint32_t n, void *(*fn)(void *))
{
	pthread_t t[MOST];

	nr = n;
	version = 0;
	memset((void *)seen, 0, sizeof(seen));
	CHECK(!pthread_barrier_init(&barrier, NULL, n));
	for (uintptr_t i = 1; i < n; i++)
		CHECK(!pthread_create(&t[i], NULL, fn, (void *)i));
	fn(NULL);
	for (uint32_t i = 1; i < n; i++)
		CHECK(!pthread_join(t[i], NULL));
	pthread_barrier_destroy(&barrier);
}

/* The same with fresh code memory of each kind. */
static void in_places(uint32_t n, size_t pages, void *(*fn)(void *))
{
	for (size_t i = 0; i < NR_PLACES; i++) {
		code = writable = place_get(places[i], pages);
		on_threads(n, fn);
		printf("%s\n", place_name[places[i]]);
	}
}

#define ON_1_2_8(name, ...)						\
	CASE(name##_1) { __VA_ARGS__(1); }				\
	CASE(name##_2) { __VA_ARGS__(2); }				\
	CASE(name##_8) { __VA_ARGS__(8); }

/* --- each thread its own function; all functions on one page ------------------------ */

static void *patches_own(void *arg)
{
	uint32_t id = (uintptr_t)arg;
	uint8_t *p = code + 64 * id;
	uint64_t sum = 0;

	pthread_barrier_wait(&barrier);
	put_ret_imm(p, 0);
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t v = i * 8 + id;

		*(volatile uint32_t *)(p + 1) = v;
		CHECK_EQ(run1(p, 0), v);
		((volatile uint8_t *)p)[2] ^= 1;
		CHECK_EQ(run1(p, 0), v ^ 0x100);
		sum += v;
	}
	CHECK_EQ(sum, 1000 * 999 / 2 * 8 + 1000 * id);
	return NULL;
}

static void patch_immediate(uint32_t n) { in_places(n, 1, patches_own); }
ON_1_2_8(patch_immediate, patch_immediate)

/* --- the instruction after the store is what the store changes --------------------- */

TEMPLATE(t_next,
	 "movl %edi, 1f+1(%rip)\n"
	 "1: movl $0x11223344, %eax\n ret\n");
TEMPLATE(t_next_byte,
	 "xorl %eax, %eax\n"
	 "movb %dil, 1f+2(%rip)\n"
	 "1: addl $0, %eax\n"			/* 83 c0 ib */
	 "incb 1b+2(%rip)\n"
	 "movzbl 1b+2(%rip), %ecx\n shll $8, %ecx\n orl %ecx, %eax\n ret\n");

static void *patches_next(void *arg)
{
	uint32_t id = (uintptr_t)arg;
	uint8_t *p = code + 256 * id, *q = p + 128;

	PUT(p, t_next);
	PUT(q, t_next_byte);
	pthread_barrier_wait(&barrier);
	for (uint32_t i = 0; i < 600; i++) {
		CHECK_EQ(run1(p, i * 77 + id), i * 77 + id);
		CHECK_EQ(run1(q, i % 100), i % 100 | (i % 100 + 1) << 8);
	}
	return NULL;
}

static void patch_next(uint32_t n) { in_places(n, 1, patches_next); }
ON_1_2_8(patch_next_instruction, patch_next)

/* --- one writes, all run ------------------------------------------------------------ */

/* Four equal bytes, so that a mixture of two versions shows. */
static uint32_t of_version(uint32_t v)
{
	return (v & 0x7f) * 0x01010101u;
}

static void write_version(uint32_t v)
{
	/* within an aligned 8 bytes: one store, whole or not at all */
	*(volatile uint32_t *)(writable + 64 + 4) = of_version(v);
	version = v;
}

/* nop x3, mov $imm, %eax at 3, so that the immediate is aligned */
static void put_aligned(uint8_t *p)
{
	memset(p, 0x90, 3);
	put_ret_imm(p + 3, 0);
}

static void wait_for_all(uint32_t v)
{
	for (uint32_t i = 1; i < nr; i++)
		while (seen[i] < v)
			sched_yield();
}

static void *flag_and_serialise(void *arg)
{
	uint32_t id = (uintptr_t)arg;

	if (!id)
		put_aligned(writable + 64);
	pthread_barrier_wait(&barrier);
	for (uint32_t v = 1; v <= 300; v++) {
		if (!id) {
			write_version(v);
			CHECK_EQ(run1(code + 64, 0), of_version(v));
			wait_for_all(v);
			continue;
		}
		while (version < v)
			sched_yield();
		serialise();
		CHECK_EQ(run1(code + 64, 0), of_version(v));
		seen[id] = v;
	}
	return NULL;
}

static void flag_serialise(uint32_t n) { in_places(n, 1, flag_and_serialise); }
ON_1_2_8(cross_modify_serialised, flag_serialise)

static void *flag_alone(void *arg)
{
	uint32_t id = (uintptr_t)arg;

	if (!id)
		put_aligned(writable + 64);
	pthread_barrier_wait(&barrier);
	for (uint32_t v = 1; v <= 300; v++) {
		uint32_t got;

		if (!id) {
			write_version(v);
			CHECK_EQ(run1(code + 64, 0), of_version(v));
			wait_for_all(v);
			continue;
		}
		while (version < v)
			sched_yield();
		got = run1(code + 64, 0);
		if (got != of_version(v) && got != of_version(v - 1))
			guest_fail(__FILE_NAME__, __LINE__, "version %u: %#x", v, got);
		/* and in the end it is the new one */
		while (run1(code + 64, 0) != of_version(v))
			serialise();
		seen[id] = v;
	}
	return NULL;
}

static void flag_only(uint32_t n) { in_places(n, 1, flag_alone); }
ON_1_2_8(cross_modify_flag_only, flag_only)

/* --- no synchronisation at all: old or new, and never a crash ----------------------- */

static void *unsynchronised(void *arg)
{
	uint32_t id = (uintptr_t)arg, x = id + 1;

	if (!id)
		for (uint32_t i = 0; i < 16; i++)
			put_aligned(writable + 256 * i);
	pthread_barrier_wait(&barrier);
	for (uint32_t i = 0; i < 3000; i++) {
		uint32_t got;

		x = x * 1103515245 + 12345;
		if (i % 3 == 0)
			*(volatile uint32_t *)(writable + (x >> 16) % 16 * 256 + 4) = of_version(x >> 8);
		got = run1(code + (x >> 20) % 16 * 256, 0);
		if (got != (got & 0x7f) * 0x01010101u)
			guest_fail(__FILE_NAME__, __LINE__, "a mixture: %#x", got);
	}
	return NULL;
}

static void no_sync(uint32_t n) { in_places(n, 1, unsynchronised); }
ON_1_2_8(unsynchronised, no_sync)

/* --- a growing arena of functions, published by pointer ----------------------------- */

#define FUNCTIONS 1500

static uint8_t *_Atomic published[FUNCTIONS];
static _Atomic uint32_t arena_used, next_function;

static void *appends(void *arg)
{
	uint32_t id = (uintptr_t)arg, mine = 0;

	pthread_barrier_wait(&barrier);
	for (;;) {
		uint32_t f = next_function++, at;

		if (f >= FUNCTIONS)
			break;
		/* some end within a page where others are run already */
		at = atomic_fetch_add(&arena_used, 16 + f % 5);
		put_ret_imm(writable + at, f);
		CHECK_EQ(run1(code + at, 0), f);
		published[f] = code + at;
		mine++;
		for (uint32_t i = f; i && i + 20 > f; i--) {
			uint8_t *p = published[i - 1];

			if (p) {
				serialise();
				CHECK_EQ(run1(p, 0), i - 1);
			}
		}
	}
	CHECK(mine <= FUNCTIONS && id < MOST);
	return NULL;
}

static void fresh_arena(void)
{
	memset((void *)published, 0, sizeof(published));
	arena_used = next_function = 0;
}

static void check_arena(void)
{
	for (uint32_t f = 0; f < FUNCTIONS; f++)
		CHECK_EQ(run1((void *)published[f], 0), f);
}

static void append_functions(uint32_t n)
{
	for (size_t i = 0; i < NR_PLACES; i++) {
		fresh_arena();
		code = writable = place_get(places[i], 8);
		on_threads(n, appends);
		check_arena();
		printf("%s\n", place_name[places[i]]);
	}
}
ON_1_2_8(append_functions, append_functions)

/* --- the same with one memory in two places ----------------------------------------- */

static void two_maps(size_t pages)
{
	int fd = memfd_create("guest", 0);

	CHECK(fd >= 0 && !ftruncate(fd, pages * PAGE));
	writable = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	code = mmap(NULL, pages * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(writable != MAP_FAILED && code != MAP_FAILED);
	close(fd);
}

static void two_mappings(uint32_t n)
{
	two_maps(8);
	fresh_arena();
	on_threads(n, appends);
	check_arena();
	puts("appended");
	on_threads(n, flag_and_serialise);
	puts("patched");
	on_threads(n, unsynchronised);
	puts("patched at random");
	munmap(code, 8 * PAGE);
	munmap(writable, 8 * PAGE);
}
ON_1_2_8(two_mappings, two_mappings)

/* --- write or execute, by mprotect() ------------------------------------------------ */

static void *toggles(void *arg)
{
	uint32_t id = (uintptr_t)arg;
	uint8_t *p = code + id * PAGE;

	pthread_barrier_wait(&barrier);
	for (uint32_t i = 0; i < 200; i++) {
		CHECK(!mprotect(p, PAGE, PROT_READ | PROT_WRITE));
		put_ret_imm(p + i * 16 % 2048, i * 8 + id);
		CHECK(!mprotect(p, PAGE, PROT_READ | PROT_EXEC));
		CHECK_EQ(run1(p + i * 16 % 2048, 0), i * 8 + id);
	}
	return NULL;
}

static void write_or_execute(uint32_t n) { in_places(n, MOST, toggles); }
ON_1_2_8(write_or_execute, write_or_execute)

/* --- memory that comes and goes ----------------------------------------------------- */

static void *maps_and_unmaps(void *arg)
{
	uint32_t id = (uintptr_t)arg;

	pthread_barrier_wait(&barrier);
	for (uint32_t i = 0; i < 150; i++) {
		uint8_t *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		CHECK(p != MAP_FAILED);
		put_ret_imm(p, i * 8 + id);
		put_ret_imm(p + PAGE, i);
		CHECK_EQ(run1(p, 0), i * 8 + id);
		CHECK_EQ(run1(p + PAGE, 0), i);
		CHECK(!munmap(p, 2 * PAGE));
	}
	return NULL;
}

static void map_and_unmap(uint32_t n)
{
	on_threads(n, maps_and_unmaps);
	puts("done with it");
}
ON_1_2_8(map_and_unmap, map_and_unmap)
