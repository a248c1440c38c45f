// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Large folios: with huge pages for shmem switched on, the kernel likes to map
 * 2 MiB, or all pages of a folio, writable at once. Behind a view it must not:
 * a write to an armed page traps whatever happened to its neighbours before.
 */
#include "mem_util.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_BYTES	(2UL << 20)
#define HUGE_PAGES	(HUGE_BYTES / PAGE)
#define KNOB		"/sys/kernel/mm/transparent_hugepage/shmem_enabled"

static char old_mode[32];

/*
 * The file shows all modes with the current one in brackets. Each test runs in a
 * child of its own, which puts the old one back when it ends well; the others
 * set what they need anyway.
 */
static void set_mode(const char *mode)
{
	char line[128] = "";
	int fd = open(KNOB, O_RDONLY);
	char *p;

	if (fd < 0 || read(fd, line, sizeof(line) - 1) <= 0)
		SKIP("no " KNOB);
	close(fd);
	p = strchr(line, '[');
	if (p && !old_mode[0])
		sscanf(p + 1, "%31[^]]", old_mode);
	if (!write_file(KNOB, mode))
		SKIP(KNOB " takes no %s", mode);
}

static void restore_mode(void)
{
	write_file(KNOB, old_mode);
}

/* Room for @bytes at a 2 MiB boundary. */
static char *aligned_room(size_t bytes)
{
	char *p = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ASSERT(p != MAP_FAILED);
	return (char *)(((uintptr_t)p + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
}

static char *map_aligned(int fd, size_t bytes)
{
	char *p = aligned_room(bytes);

	ASSERT(mmap(p, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		    0) == p);
	return p;
}

static long long huge_kb(void)
{
	return read_value("/proc/meminfo", "ShmemHugePages");
}

/*
 * A rig whose mappings are aligned, so that 2 MiB entries are possible, filled
 * through the alias with a huge mapping's help.
 */
static void open_huge(struct rig *r, size_t huge, bool advise)
{
	long long before = huge_kb();
	size_t bytes = huge * HUGE_BYTES;
	int fd = kt_memfd(bytes);

	rig_open_memfd(r, fd, huge * HUGE_PAGES, 0);
	ASSERT_OK(munmap(r->map, bytes));
	r->map = map_aligned(r->view, bytes);
	r->alias = map_aligned(fd, bytes);
	/* The view takes the advice or refuses it; it may change nothing. */
	madvise(r->map, bytes, MADV_HUGEPAGE);
	if (advise)
		ASSERT_OK(madvise(r->alias, bytes, MADV_HUGEPAGE));
	for (size_t i = 0; i < r->pages; i++)
		memset(r->alias + i * PAGE, 'a' + i % 26, 64);
	if (huge_kb() - before < (long long)(bytes >> 10))
		SKIP("the kernel gave no huge page: ShmemHugePages %lld kB, was %lld",
		     huge_kb(), before);
}

static char seen[4 * HUGE_PAGES];

/* Store into every page through p; exactly the armed ones are told. */
static void write_all(struct rig *r, char *p, size_t stride)
{
	size_t armed = 0, told;

	for (size_t i = 0; i < r->pages; i++)
		armed += rig_armed(r, i);
	for (size_t i = 0; i < r->pages; i++) {
		poke(p + i * PAGE + 100, i);
		ASSERT(!rig_armed(r, i));
	}
	told = rig_collect(r, 0, r->pages, seen);
	ASSERT_EQ(told, armed);
	ASSERT_EQ((told == 0), (stride == 0));
	for (size_t i = 0; stride && i < r->pages; i++)
		ASSERT_EQ(seen[i], i % stride == 0);
	for (size_t i = 0; i < r->pages; i++)
		ASSERT_EQ(peek(r->map + i * PAGE), (char)('a' + i % 26));
}

static void arm_every(struct rig *r, size_t stride)
{
	for (size_t i = 0; i < r->pages; i += stride)
		rig_arm(r, i, 1);
}

static void all_orders(const char *mode, bool advise)
{
	struct rig r;
	char *fresh;

	set_mode(mode);
	open_huge(&r, 2, advise);

	/* Never touched through the view: the first access is the write. */
	arm_every(&r, 5);
	write_all(&r, r.map, 5);
	/* Now every entry is writable; nothing armed, nothing told. */
	write_all(&r, r.map, 0);
	/* Arm what is mapped writable. */
	arm_every(&r, 3);
	write_all(&r, r.map, 3);
	/* Neighbours read or written first, in a mapping that has no entries. */
	arm_every(&r, 4);
	fresh = map_aligned(r.view, r.pages * PAGE);
	madvise(fresh, r.pages * PAGE, MADV_HUGEPAGE);
	for (size_t i = 1; i < r.pages; i += 4) {
		ASSERT_EQ(peek(fresh + i * PAGE), (char)('a' + i % 26));
		poke(fresh + i * PAGE + 101, 1);
	}
	rig_expect_none(&r);
	write_all(&r, fresh, 4);
	/* Arm all at once, drop the page tables, write. */
	rig_arm(&r, 0, r.pages);
	ASSERT_OK(madvise(r.map, r.pages * PAGE, MADV_DONTNEED));
	write_all(&r, r.map, 1);
	restore_mode();
}

TEST_LONG(huge_shmem_always, 60)
{
	all_orders("always", false);
}

TEST_LONG(huge_shmem_within_size, 60)
{
	all_orders("within_size", false);
}

TEST_LONG(huge_shmem_advise, 60)
{
	all_orders("advise", true);
}

TEST_LONG(huge_shmem_force, 60)
{
	all_orders("force", false);
}

/* The kernel's own write, by two pages of a huge page, one armed. */
TEST(rule3_read_into_huge_page)
{
	char *text = calloc(1, 2 * PAGE);
	struct rig r;
	int p[2];

	ASSERT(text);
	memset(text, 'T', 2 * PAGE);
	set_mode("always");
	open_huge(&r, 1, false);
	ASSERT_OK(pipe(p));
	rig_arm(&r, 11, 1);
	ASSERT_EQ(write(p[1], text, 2 * PAGE), 2 * PAGE);
	ASSERT_EQ(read(p[0], rig_page(&r, 10), 2 * PAGE), 2 * PAGE);
	ASSERT(!memcmp(rig_page(&r, 10), text, 2 * PAGE));
	rig_expect(&r, 11, CODEWP_EVENT_KERNEL | CODEWP_EVENT_SELF);
	restore_mode();
}

/*
 * Small pages, armed, are collapsed into a huge one under the mappings' feet:
 * new memory, same bytes, still armed.
 */
TEST_LONG(huge_collapse_of_armed_pages, 60)
{
	struct rig r;
	int fd;

	set_mode("never");
	fd = kt_memfd(HUGE_BYTES);
	rig_open_memfd(&r, fd, HUGE_PAGES, 0);
	ASSERT_OK(munmap(r.map, HUGE_BYTES));
	r.map = map_aligned(r.view, HUGE_BYTES);
	r.alias = map_aligned(fd, HUGE_BYTES);
	for (size_t i = 0; i < r.pages; i++) {
		memset(r.alias + i * PAGE, 'a' + i % 26, 64);
		poke(rig_page(&r, i) + 70, 1);
	}
	set_mode("always");
	for (int round = 0; round < 2; round++) {
		arm_every(&r, 7);
		/* The view's own mapping is left alone, the alias is not. */
		madvise(r.map, HUGE_BYTES, MADV_COLLAPSE);
		if (madvise(r.alias, HUGE_BYTES, MADV_COLLAPSE)) {
			int err = errno;

			restore_mode();
			if (err == EINVAL || err == EBUSY || err == EAGAIN)
				SKIP("MADV_COLLAPSE: %s", strerror(err));
			TEST_FAIL("MADV_COLLAPSE: %s", strerror(err));
		}
		rig_expect_none(&r);
		write_all(&r, r.map, 7);
	}
	restore_mode();
}

/* A huge page is split when a hole is punched into it. */
TEST(huge_split_by_hole)
{
	struct rig r;

	set_mode("always");
	open_huge(&r, 1, false);
	arm_every(&r, 2);
	ASSERT_OK(fallocate(r.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    101 * PAGE, PAGE));
	for (size_t i = 0; i < r.pages; i++)
		if (i != 101)
			poke(rig_page(&r, i), 1);
	ASSERT_EQ(rig_collect(&r, 0, r.pages, seen), r.pages / 2);
	ASSERT_EQ(peek(rig_page(&r, 101)), 0);
	restore_mode();
}
