// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Mappings: whatever user space does to the mappings of a view, and through
 * whichever of them it writes, an armed page traps (rule 4).
 */
#include <sys/syscall.h>
#include <sys/uio.h>

#include "mem_util.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

static void child_ok(pid_t pid)
{
	kt_reap(pid);
}

/* ---- rule 4 ---- */

TEST(rule4_two_mappings_of_one_view)
{
	struct rig r;
	char *second;

	rig_open(&r, 4, 0);
	second = kt_map(r.view, 4 * PAGE);
	for (int i = 0; i < 4; i++) {
		/* Both have been written, so both have writable entries. */
		poke(rig_page(&r, i), 1);
		poke(second + i * PAGE, 2);
	}
	rig_arm(&r, 0, 4);
	rig_store_traps(&r, 0, second, 3);
	rig_store_traps(&r, 1, rig_page(&r, 1), 3);
	ASSERT_EQ(peek(second + PAGE), 3);
	/* Once told and disarmed: silent through either. */
	poke(r.map, 4);
	poke(second + PAGE, 4);
	rig_expect_none(&r);
}

TEST(rule4_write_alias_of_a_read_only_mapping)
{
	struct rig r;
	char *rx;

	rig_open(&r, 1, 0);
	rx = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, r.view, 0);
	ASSERT(rx != MAP_FAILED);
	rig_arm(&r, 0, 1);
	rig_store_traps(&r, 0, r.map, 9);
	ASSERT_EQ(peek(rx), 9);
}

/* Two views with rings of their own: each is told, whichever is written. */
TEST(rule4_two_views_of_one_memfd)
{
	struct rig a, b;

	rig_open(&a, 4, 0);
	rig_open_memfd(&b, a.memfd, 4, 0);
	for (int i = 0; i < 4; i++) {
		poke(rig_page(&a, i), 1);
		poke(rig_page(&b, i), 1);
	}
	rig_arm(&a, 0, 4);
	rig_arm(&b, 0, 2);
	poke(rig_page(&a, 0), 5);
	rig_expect(&a, 0, CODEWP_EVENT_SELF);
	rig_expect(&b, 0, CODEWP_EVENT_SELF);
	poke(rig_page(&b, 1), 5);
	rig_expect(&a, 1, CODEWP_EVENT_SELF);
	rig_expect(&b, 1, CODEWP_EVENT_SELF);
	/* Armed in one view only, written through the other. */
	poke(rig_page(&b, 2), 5);
	rig_expect(&a, 2, CODEWP_EVENT_SELF);
	rig_expect_none(&b);
	ASSERT_EQ(kt_stat(a.view).traps, 3);
	ASSERT_EQ(kt_stat(b.view).traps, 2);
}

/* Views of parts of the file, at offsets of their own. */
TEST(rule4_overlapping_views)
{
	struct rig r;
	const uint32_t *states;
	struct codewp_ring *ring;
	struct codewp_event ev;
	char *map;
	int part;

	rig_open(&r, 8, 0);
	part = ASSERT_OK(kt_try_view(r.memfd, 4 * PAGE, 4 * PAGE, 0));
	map = kt_map(part, 4 * PAGE);
	states = kt_states(part, 4);
	ring = kt_ring(part, RIG_RING_BYTES);
	ASSERT_OK(kt_arm(part, PAGE, PAGE, 0));
	poke(rig_page(&r, 5) + 3, 7);
	ASSERT_EQ(peek(map + PAGE + 3), 7);
	ASSERT(kt_event(ring, &ev));
	ASSERT_EQ(ev.offset, PAGE + 3);
	ASSERT(!(kt_state(states, 1) & CODEWP_PAGE_ARMED));
	rig_expect_none(&r);
	/* Below the part, nothing of it is told. */
	rig_arm(&r, 0, 4);
	rig_store_traps(&r, 3, rig_page(&r, 3), 1);
	ASSERT(!kt_event(ring, &ev));
}

static void expect_child_write(struct rig *r, size_t page, pid_t pid)
{
	struct codewp_event ev = rig_expect(r, page, 0);

	ASSERT_EQ(ev.addr, 0);
	ASSERT_EQ(ev.ip, 0);
	ASSERT_EQ(ev.tid, pid);
}

TEST(rule4_child_process_writes)
{
	struct rig r;
	pid_t pid;

	rig_open(&r, 2, 0);
	poke(rig_page(&r, 1), 1);
	rig_arm(&r, 1, 1);
	pid = ASSERT_OK(fork());
	if (!pid) {
		poke(rig_page(&r, 1), 2);
		_exit(0);
	}
	child_ok(pid);
	ASSERT_EQ(peek(rig_page(&r, 1)), 2);
	expect_child_write(&r, 1, pid);
}

/* Armed after the fork, with writable entries in both. */
TEST(rule4_armed_while_child_has_it_mapped)
{
	int go[2], ready[2];
	struct rig r;
	pid_t pid;
	char c;

	rig_open(&r, 2, 0);
	ASSERT_OK(pipe(go));
	ASSERT_OK(pipe(ready));
	pid = ASSERT_OK(fork());
	if (!pid) {
		poke(rig_page(&r, 1), 1);
		ASSERT_EQ(write(ready[1], "r", 1), 1);
		ASSERT_EQ(read(go[0], &c, 1), 1);
		poke(rig_page(&r, 1), 2);
		_exit(0);
	}
	ASSERT_EQ(read(ready[0], &c, 1), 1);
	poke(rig_page(&r, 1), 3);
	rig_arm(&r, 1, 1);
	ASSERT_EQ(write(go[1], "g", 1), 1);
	child_ok(pid);
	ASSERT_EQ(peek(rig_page(&r, 1)), 2);
	expect_child_write(&r, 1, pid);
}

/* Another process that got the descriptor and made a mapping of its own. */
TEST(rule4_passed_descriptor)
{
	struct rig r;
	pid_t pid;

	rig_open(&r, 2, 0);
	poke(rig_page(&r, 1), 1);
	rig_arm(&r, 1, 1);
	pid = ASSERT_OK(fork());
	if (!pid) {
		char *map;

		ASSERT_OK(munmap(r.map, 2 * PAGE));
		map = kt_map(r.view, 2 * PAGE);
		poke(map + PAGE, 2);
		_exit(0);
	}
	child_ok(pid);
	ASSERT_EQ(peek(rig_page(&r, 1)), 2);
	expect_child_write(&r, 1, pid);
}

/* The mapping outlives its descriptor, and so does the trap. */
TEST(mapping_outlives_the_descriptor)
{
	struct rig r;

	rig_open(&r, 2, 0);
	rig_arm(&r, 0, 2);
	ASSERT_OK(close(r.view));
	ASSERT_OK(close(r.memfd));
	rig_store_traps(&r, 1, rig_page(&r, 1), 1);
	rig_store_traps(&r, 0, rig_page(&r, 0), 1);
}

/* ---- protection ---- */

/*
 * mprotect() makes a shared entry writable again without a fault when it is
 * dirty, so arming must clean it.
 */
TEST(mprotect_read_then_write_does_not_open)
{
	struct rig r;

	rig_open(&r, 3, 0);
	for (int i = 0; i < 3; i++)
		poke(rig_page(&r, i), 1);
	rig_arm(&r, 0, 3);
	ASSERT_OK(mprotect(r.map, 3 * PAGE, PROT_READ));
	ASSERT_OK(mprotect(r.map, 3 * PAGE, PROT_READ | PROT_WRITE));
	for (int i = 0; i < 3; i++)
		rig_store_traps(&r, i, rig_page(&r, i), 2);
}

TEST(mprotect_armed_while_read_only)
{
	struct rig r;

	rig_open(&r, 1, 0);
	poke(r.map, 1);
	ASSERT_OK(mprotect(r.map, PAGE, PROT_READ));
	rig_arm(&r, 0, 1);
	ASSERT_OK(mprotect(r.map, PAGE, PROT_READ | PROT_WRITE));
	rig_store_traps(&r, 0, r.map, 2);
}

TEST(mprotect_none_and_back)
{
	struct rig r;

	rig_open(&r, 1, 0);
	poke(r.map, 1);
	rig_arm(&r, 0, 1);
	ASSERT_OK(mprotect(r.map, PAGE, PROT_NONE));
	ASSERT_OK(mprotect(r.map, PAGE, PROT_READ | PROT_WRITE));
	rig_store_traps(&r, 0, r.map, 2);
}

TEST(mprotect_exec_is_refused)
{
	struct rig r;

	rig_open(&r, 1, 0);
	ASSERT_ERRNO(mprotect(r.map, PAGE, PROT_READ | PROT_EXEC), EACCES);
}

/* ---- private mappings of the memfd: copies, and no obstacle for arming ---- */

TEST(private_mapping_of_the_memfd)
{
	enum { N = 4 };
	char *priv[N];
	struct rig r;

	/* Some before the view's mapping, some after, all in one rmap tree. */
	memset(&r, 0, sizeof(r));
	r.memfd = kt_memfd(2 * PAGE);
	for (int i = 0; i < N / 2; i++)
		priv[i] = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE, r.memfd, 0);
	rig_open_memfd(&r, r.memfd, 2, 0);
	for (int i = N / 2; i < N; i++)
		priv[i] = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE, r.memfd, 0);
	poke(r.map, 1);
	poke(rig_page(&r, 1), 1);
	for (int i = 0; i < N; i++) {
		ASSERT(priv[i] != MAP_FAILED);
		ASSERT_EQ(peek(priv[i]), 1);
		ASSERT_EQ(peek(priv[i] + PAGE), 1);
	}
	rig_arm(&r, 0, 2);
	/* A write to a copy is nobody's business. */
	poke(priv[0], 50);
	poke(priv[N - 1], 51);
	rig_expect_none(&r);
	rig_store_traps(&r, 0, r.map, 2);
	ASSERT_EQ(peek(priv[0]), 50);
	ASSERT_EQ(peek(priv[N - 1]), 51);
	ASSERT_EQ(peek(priv[1]), 2);
	rig_store_traps(&r, 1, rig_page(&r, 1), 2);
}

TEST(private_mapping_of_the_view_is_refused)
{
	struct rig r;

	rig_open(&r, 1, 0);
	ASSERT(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, r.view, 0) == MAP_FAILED);
	ASSERT_EQ(errno, EINVAL);
}

/* ---- moving, splitting, dropping ---- */

TEST(mremap_move)
{
	struct codewp_event ev;
	struct rig r;
	char *to;

	rig_open(&r, 4, 0);
	poke(rig_page(&r, 2), 1);
	rig_arm(&r, 0, 4);
	to = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(to != MAP_FAILED);
	ASSERT(mremap(r.map, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		      to) == to);
	poke(to + 2 * PAGE + 5, 2);
	ev = rig_expect(&r, 2, CODEWP_EVENT_SELF);
	ASSERT_EQ(ev.addr, (uintptr_t)to + 2 * PAGE + 5);
}

/* Length 0 makes a second mapping of shared memory. */
TEST(mremap_duplicate)
{
	struct rig r;
	char *dup;

	rig_open(&r, 2, 0);
	poke(rig_page(&r, 1), 1);
	rig_arm(&r, 0, 2);
	dup = mremap(r.map, 0, 2 * PAGE, MREMAP_MAYMOVE);
	ASSERT(dup != MAP_FAILED);
	rig_store_traps(&r, 1, dup + PAGE, 2);
	rig_store_traps(&r, 0, r.map, 2);
	/* The duplicate holds the view by itself. */
	rig_arm(&r, 0, 2);
	ASSERT_OK(munmap(r.map, 2 * PAGE));
	rig_store_traps(&r, 1, dup + PAGE, 3);
}

TEST(mremap_dontunmap)
{
	struct rig r;
	char *to;

	rig_open(&r, 1, 0);
	poke(r.map, 1);
	rig_arm(&r, 0, 1);
	to = mremap(r.map, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	if (to == MAP_FAILED)
		SKIP("MREMAP_DONTUNMAP of shared memory: %s", strerror(errno));
	rig_store_traps(&r, 0, to, 2);
	rig_arm(&r, 0, 1);
	rig_store_traps(&r, 0, r.map, 3);
}

static void touch_beyond(void *p)
{
	poke(p, 1);
}

/* Grown beyond the view there is nothing to touch, though the file goes on. */
TEST(mremap_grow_beyond_the_view)
{
	struct rig r;
	pid_t pid;
	char *to;
	int fd, status;

	memset(&r, 0, sizeof(r));
	fd = kt_memfd(4 * PAGE);
	rig_open_memfd(&r, fd, 2, 0);
	to = mremap(r.map, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE);
	if (to == MAP_FAILED)
		return;		/* refused: just as good */
	rig_arm(&r, 1, 1);
	rig_store_traps(&r, 1, to + PAGE, 1);
	pid = ASSERT_OK(fork());
	if (!pid) {
		touch_beyond(to + 2 * PAGE);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT(WIFSIGNALED(status));
	ASSERT_EQ(WTERMSIG(status), SIGBUS);
}

TEST(munmap_parts_and_map_again)
{
	struct rig r;

	rig_open(&r, 6, 0);
	for (int i = 0; i < 6; i++)
		poke(rig_page(&r, i), 1);
	rig_arm(&r, 0, 6);
	ASSERT_OK(munmap(rig_page(&r, 2), 2 * PAGE));
	rig_store_traps(&r, 1, rig_page(&r, 1), 2);
	rig_store_traps(&r, 4, rig_page(&r, 4), 2);
	ASSERT(mmap(rig_page(&r, 2), 2 * PAGE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED, r.view, 2 * PAGE) == rig_page(&r, 2));
	/* Written in a fresh mapping, with and without a read before. */
	rig_store_traps(&r, 2, rig_page(&r, 2), 2);
	ASSERT_EQ(peek(rig_page(&r, 3)), 1);
	rig_store_traps(&r, 3, rig_page(&r, 3), 2);
}

TEST(madvise_dontneed)
{
	struct rig r;

	rig_open(&r, 2, 0);
	poke(r.map, 1);
	poke(rig_page(&r, 1), 1);
	rig_arm(&r, 0, 2);
	ASSERT_OK(madvise(r.map, 2 * PAGE, MADV_DONTNEED));
	rig_store_traps(&r, 0, r.map, 2);
	ASSERT_EQ(peek(rig_page(&r, 1)), 1);
	rig_store_traps(&r, 1, rig_page(&r, 1), 2);
}

/* Prefaulting for writing is a write as far as the page tables go. */
TEST(madvise_populate_write)
{
	struct rig r;

	rig_open(&r, 2, 0);
	rig_arm(&r, 0, 2);
	if (madvise(r.map, 2 * PAGE, MADV_POPULATE_READ))
		SKIP("MADV_POPULATE_READ: %s", strerror(errno));
	rig_expect_none(&r);
	ASSERT_OK(madvise(rig_page(&r, 1), PAGE, MADV_POPULATE_WRITE));
	rig_expect(&r, 1, CODEWP_EVENT_KERNEL | CODEWP_EVENT_SELF);
	rig_store_traps(&r, 0, r.map, 1);
}

TEST(mapping_with_populate)
{
	struct rig r;
	char *map;

	rig_open(&r, 2, 0);
	rig_arm(&r, 0, 2);
	map = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_POPULATE, r.view, 0);
	ASSERT(map != MAP_FAILED);
	rig_expect_none(&r);
	rig_store_traps(&r, 0, map, 1);
	rig_store_traps(&r, 1, map + PAGE, 1);
}

TEST(mlock_and_mlockall)
{
	struct rig r;

	rig_open(&r, 3, 0);
	rig_arm(&r, 0, 3);
	ASSERT_OK(mlock(r.map, 2 * PAGE));
	rig_expect_none(&r);
	rig_store_traps(&r, 0, r.map, 1);
	ASSERT_OK(mlockall(MCL_CURRENT));
	rig_store_traps(&r, 1, rig_page(&r, 1), 1);
	ASSERT_OK(munlockall());
	rig_store_traps(&r, 2, rig_page(&r, 2), 1);
}

/* ---- fork and exec ---- */

/* A private view is not inherited, and a passed descriptor is no use. */
TEST(fork_private_view_is_not_inherited)
{
	struct rig r;
	pid_t pid;
	int status;

	rig_open(&r, 1, CODEWP_VIEW_PRIVATE);
	rig_arm(&r, 0, 1);
	pid = ASSERT_OK(fork());
	if (!pid) {
		ASSERT(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, r.view, 0) ==
		       MAP_FAILED);
		ASSERT_EQ(errno, EPERM);
		ASSERT_EQ(kt_arm(r.view, 0, PAGE, 0), -1);
		ASSERT_EQ(errno, EPERM);
		_exit(0);
	}
	kt_reap(pid);
	pid = ASSERT_OK(fork());
	if (!pid) {
		poke(r.map, 1);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	rig_expect_none(&r);
	rig_store_traps(&r, 0, r.map, 1);
}

/* A grandchild, after its parent has gone. */
TEST(fork_twice)
{
	struct rig r;
	pid_t pid;
	int p[2];
	char c;

	rig_open(&r, 1, 0);
	rig_arm(&r, 0, 1);
	ASSERT_OK(pipe(p));
	pid = ASSERT_OK(fork());
	if (!pid) {
		if (!fork()) {
			poke(r.map, 7);
			ASSERT_EQ(write(p[1], "x", 1), 1);
		}
		_exit(0);
	}
	kt_reap(pid);
	ASSERT_EQ(read(p[0], &c, 1), 1);
	ASSERT_EQ(peek(r.map), 7);
	rig_expect(&r, 0, 0);
}

/*
 * After exec the other program has nothing but the descriptor, which it maps
 * and writes. See main().
 */
TEST(exec_with_inherited_descriptor)
{
	struct rig r;
	char fd[16];
	pid_t pid;

	rig_open(&r, 2, 0);
	rig_arm(&r, 0, 2);
	ASSERT_OK(fcntl(r.view, F_SETFD, 0));
	snprintf(fd, sizeof(fd), "%d", r.view);
	pid = ASSERT_OK(fork());
	if (!pid) {
		execl("/proc/self/exe", "mem_map", "--write-view", fd, NULL);
		TEST_FAIL("exec: %s", strerror(errno));
	}
	kt_reap(pid);
	ASSERT_EQ(peek(rig_page(&r, 1) + 9), 'e');
	rig_expect(&r, 1, 0);
	rig_store_traps(&r, 0, r.map, 1);
}

/* The creator itself becomes another program: its ring is no more its own. */
TEST(exec_of_the_creator)
{
	pid_t pid = ASSERT_OK(fork());

	if (!pid) {
		struct rig r;
		char fd[16];

		rig_open(&r, 2, 0);
		rig_arm(&r, 0, 2);
		ASSERT_OK(fcntl(r.view, F_SETFD, 0));
		snprintf(fd, sizeof(fd), "%d", r.view);
		execl("/proc/self/exe", "mem_map", "--write-view", fd, "stranger",
		      NULL);
		TEST_FAIL("exec: %s", strerror(errno));
	}
	kt_reap(pid);
}

static int write_view(int argc, char **argv)
{
	int fd = atoi(argv[2]);
	char *map = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return 2;
	poke(map + PAGE + 9, 'e');
	if (argc > 3) {
		struct codewp_stat st;

		if (ioctl(fd, CODEWP_IOC_STAT, &st) || st.traps != 1)
			return 3;
		if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd,
			 CODEWP_MMAP_RING) != MAP_FAILED || errno != EPERM)
			return 4;
		if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd,
			 CODEWP_MMAP_STATE) != MAP_FAILED || errno != EPERM)
			return 5;
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "--write-view"))
		return write_view(argc, argv);
	return test_main(argc, argv);
}
