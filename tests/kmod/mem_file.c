// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The file below a view: holes, truncation, seals, everything that fcntl and its
 * kin can do to the view's own descriptor, and pages that go to swap.
 */
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/swap.h>
#include <sys/uio.h>

#include "mem_util.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* ---- holes and truncation ---- */

/*
 * A page that was punched out is full of zeroes when it comes back: what was
 * translated from it is gone, and that must be told, at the latest when the
 * guest can see the zeroes.
 */
static void expect_recreated(struct rig *r, size_t page, uint32_t gen)
{
	struct codewp_event ev;

	ASSERT_NE(rig_gen(r, page), gen);
	ASSERT(kt_event(r->ring, &ev));
	ASSERT_EQ(ev.offset / PAGE, page);
	ASSERT(ev.flags & CODEWP_EVENT_RECREATED);
	ASSERT(!kt_event(r->ring, &ev));
	ASSERT(!rig_armed(r, page));
	ASSERT(kt_state(r->states, page) & CODEWP_PAGE_WRITTEN);
}

static void punch(struct rig *r, size_t page, size_t n)
{
	ASSERT_OK(fallocate(r->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    page * PAGE, n * PAGE));
}

TEST(punch_hole_then_read)
{
	struct rig r;
	uint32_t gen;

	rig_open(&r, 3, 0);
	poke(rig_page(&r, 1), 'x');
	rig_arm(&r, 0, 3);
	gen = rig_gen(&r, 1);
	punch(&r, 1, 1);
	ASSERT_EQ(peek(rig_page(&r, 1)), 0);
	expect_recreated(&r, 1, gen);
	rig_arm(&r, 1, 1);
	rig_store_traps(&r, 1, rig_page(&r, 1), 'y');
	/* The neighbours have nothing to do with it. */
	rig_store_traps(&r, 0, rig_page(&r, 0), 'y');
	rig_store_traps(&r, 2, rig_page(&r, 2), 'y');
}

TEST(punch_hole_then_write)
{
	struct codewp_event ev;
	struct rig r;

	rig_open(&r, 1, 0);
	poke(r.map, 'x');
	rig_arm(&r, 0, 1);
	punch(&r, 0, 1);
	poke(r.map + 1, 'y');
	ASSERT_EQ(peek(r.map), 0);
	ASSERT_EQ(peek(r.map + 1), 'y');
	/* One event or two, but told. */
	ASSERT(kt_event(r.ring, &ev));
	ASSERT(!rig_armed(&r, 0));
}

TEST(punch_hole_then_arm)
{
	struct rig r;
	uint32_t gen;

	rig_open(&r, 1, 0);
	poke(r.map, 'x');
	rig_arm(&r, 0, 1);
	gen = rig_gen(&r, 0);
	punch(&r, 0, 1);
	ASSERT_OK(kt_arm(r.view, 0, PAGE, 0));
	ASSERT_NE(rig_gen(&r, 0), gen);
	ASSERT(rig_armed(&r, 0));
	while (kt_event(r.ring, &(struct codewp_event){ 0 }))
		;
	rig_store_traps(&r, 0, r.map, 'y');
}

/* From a second mapping and another process, where no fault of ours ran. */
TEST(punch_hole_by_madvise_remove)
{
	struct rig r;
	uint32_t gen;
	char *second;

	rig_open(&r, 2, 0);
	second = kt_map(r.view, 2 * PAGE);
	poke(second + PAGE, 'x');
	rig_arm(&r, 0, 2);
	gen = rig_gen(&r, 1);
	ASSERT_OK(madvise(second + PAGE, PAGE, MADV_REMOVE));
	ASSERT_EQ(peek(rig_page(&r, 1)), 0);
	expect_recreated(&r, 1, gen);
}

TEST(truncate_and_extend_again)
{
	struct rig r;
	uint32_t gen;

	rig_open(&r, 4, 0);
	for (int i = 0; i < 4; i++)
		poke(rig_page(&r, i), 'a' + i);
	rig_arm(&r, 0, 4);
	gen = rig_gen(&r, 3);
	ASSERT_OK(ftruncate(r.memfd, 2 * PAGE));
	ASSERT_OK(ftruncate(r.memfd, 4 * PAGE));
	ASSERT_EQ(peek(rig_page(&r, 3)), 0);
	expect_recreated(&r, 3, gen);
	ASSERT_EQ(peek(rig_page(&r, 1)), 'b');
	rig_store_traps(&r, 1, rig_page(&r, 1), 'z');
	rig_arm(&r, 3, 1);
	rig_store_traps(&r, 3, rig_page(&r, 3), 'z');
}

TEST(truncated_page_is_sigbus_and_arm_says_so)
{
	struct rig r;
	pid_t pid;
	int status;

	rig_open(&r, 4, 0);
	rig_arm(&r, 0, 4);
	ASSERT_OK(ftruncate(r.memfd, 2 * PAGE));
	pid = ASSERT_OK(fork());
	if (!pid) {
		poke(rig_page(&r, 2), 1);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	ASSERT_ERRNO(kt_arm(r.view, 2 * PAGE, PAGE, 0), ENXIO);
	rig_store_traps(&r, 1, rig_page(&r, 1), 1);
}

/*
 * Pages that leave the page tables, or the file, while they are armed and
 * written: nothing may stick or be missed. A page that was just unmapped may be
 * writable in a TLB still.
 */
struct disturber {
	struct rig *r;
	int stop;
};

static void *punch_on(void *arg)
{
	struct disturber *d = arg;

	while (!__atomic_load_n(&d->stop, __ATOMIC_RELAXED))
		punch(d->r, 0, 4);
	return NULL;
}

/*
 * Many pages behind those that are armed: the kernel takes them all out of the
 * page table, first ones first, before it flushes any from the TLBs.
 */
static void *zap_on(void *arg)
{
	struct disturber *d = arg;

	while (!__atomic_load_n(&d->stop, __ATOMIC_RELAXED)) {
		madvise(rig_page(d->r, 4), (d->r->pages - 4) * PAGE, MADV_POPULATE_READ);
		madvise(d->r->map, d->r->pages * PAGE, MADV_DONTNEED);
	}
	return NULL;
}

static void arm_and_write_against(void *(*disturb)(void *), size_t pages, int rounds)
{
	struct disturber d = { 0 };
	struct codewp_event ev;
	pthread_t t;
	struct rig r;

	rig_open(&r, pages, 0);
	d.r = &r;
	ASSERT_EQ(pthread_create(&t, NULL, disturb, &d), 0);
	for (int i = 0; i < rounds; i++) {
		size_t page = i & 3;

		ASSERT_OK(kt_arm(r.view, page * PAGE, PAGE, 0));
		poke(rig_page(&r, page), i);
		/* Whoever disarmed it, the store or the zeroes, it was told. */
		ASSERT(!rig_armed(&r, page));
		ASSERT(kt_event(r.ring, &ev));
		while (kt_event(r.ring, &ev))
			;
	}
	d.stop = 1;
	ASSERT_EQ(pthread_join(t, NULL), 0);
}

TEST_LONG(punch_hole_against_writes_and_arms, 60)
{
	arm_and_write_against(punch_on, 4, 3000);
}

TEST_LONG(rule2_unmapped_pages_against_writes_and_arms, 60)
{
	arm_and_write_against(zap_on, 512, 60000);
}

/* ---- seals, and everything else that a descriptor can be asked ---- */

TEST(seals_on_the_memfd)
{
	struct rig r;

	rig_open(&r, 2, 0);
	rig_arm(&r, 0, 2);
	ASSERT_ERRNO(fcntl(r.memfd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	ASSERT_OK(fcntl(r.memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	ASSERT_ERRNO(ftruncate(r.memfd, PAGE), EPERM);
	rig_store_traps(&r, 0, r.map, 1);
	/* From now on nobody maps it for writing, what is mapped goes on. */
	ASSERT_OK(fcntl(r.memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	ASSERT(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r.view, 0) ==
	       MAP_FAILED);
	ASSERT_EQ(errno, EPERM);
	rig_store_traps(&r, 1, rig_page(&r, 1), 1);
	ASSERT(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, r.view, 0) != MAP_FAILED);
	ASSERT_ERRNO(kt_try_view(r.memfd, 0, PAGE, 0), EPERM);
}

/* The count of writable mappings is right again when the view is gone. */
TEST(seal_write_after_the_view_is_gone)
{
	struct rig r;

	rig_open(&r, 1, 0);
	rig_arm(&r, 0, 1);
	ASSERT_OK(munmap(r.map, PAGE));
	ASSERT_OK(munmap((void *)r.ring, CODEWP_RING_DATA + RIG_RING_BYTES));
	ASSERT_OK(munmap((void *)r.states, PAGE));
	ASSERT_ERRNO(fcntl(r.memfd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	ASSERT_OK(close(r.view));
	ASSERT_OK(fcntl(r.memfd, F_ADD_SEALS, F_SEAL_WRITE));
}

/*
 * A view is not the memfd: what works on shmem files must neither work on it nor
 * reach into memory that is no shmem inode.
 */
TEST(view_fcntl_seals)
{
	struct rig r;
	int before;

	rig_open(&r, 1, 0);
	before = ASSERT_OK(fcntl(r.memfd, F_GET_SEALS));
	ASSERT_ERRNO(fcntl(r.view, F_GET_SEALS), EINVAL);
	ASSERT_ERRNO(fcntl(r.view, F_ADD_SEALS, 0), EINVAL);
	for (int seal = 1; seal <= 0x40; seal <<= 1)
		ASSERT_EQ(fcntl(r.view, F_ADD_SEALS, seal), -1);
	ASSERT_EQ(fcntl(r.memfd, F_GET_SEALS), before);
	rig_arm(&r, 0, 1);
	rig_store_traps(&r, 0, r.map, 1);
}

TEST(view_is_no_file_to_read_or_write)
{
	char buf[16] = "0123456789";
	struct iovec iov = { buf, sizeof(buf) };
	struct rig r;
	off_t off = 0;
	int p[2];

	rig_open(&r, 2, 0);
	ASSERT_OK(pipe(p));
	ASSERT_EQ(write(p[1], "x", 1), 1);
	rig_arm(&r, 0, 2);
	ASSERT_ERRNO(read(r.view, buf, 1), EINVAL);
	ASSERT_ERRNO(write(r.view, buf, 1), EINVAL);
	ASSERT_EQ(pread(r.view, buf, 1, 0), -1);
	ASSERT_EQ(pwrite(r.view, buf, 1, 0), -1);
	ASSERT_EQ(preadv2(r.view, &iov, 1, 0, 0), -1);
	ASSERT_EQ(pwritev2(r.view, &iov, 1, 0, 0), -1);
	ASSERT_EQ(ftruncate(r.view, PAGE), -1);
	ASSERT_EQ(fallocate(r.view, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			    PAGE), -1);
	ASSERT_EQ(sendfile(p[1], r.view, &off, 1), -1);
	ASSERT_EQ(splice(p[0], NULL, r.view, NULL, 1, 0), -1);
	ASSERT_EQ(splice(r.view, NULL, p[1], NULL, 1, 0), -1);
	ASSERT_EQ(copy_file_range(r.memfd, &off, r.view, NULL, 1, 0), -1);
	ASSERT_EQ(readahead(r.view, 0, 1), -1);
	ASSERT_EQ(fsync(r.view), -1);
	ASSERT_EQ(sync_file_range(r.view, 0, PAGE, 0), -1);
	rig_expect_none(&r);
	ASSERT_EQ(peek(r.map), 0);
	rig_store_traps(&r, 0, r.map, 1);
}

TEST(view_every_other_fcntl)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct f_owner_ex owner = { F_OWNER_PID, getpid() };
	struct stat view, memfd;
	uint64_t hint = 2;
	struct rig r;
	int dup;

	rig_open(&r, 1, 0);
	rig_arm(&r, 0, 1);
	/* Results differ between kernels; none may disturb, or reach the memfd. */
	fcntl(r.view, F_SETFL, O_NONBLOCK | O_APPEND | O_DIRECT | O_ASYNC);
	fcntl(r.view, F_SETFL, 0);
	fcntl(r.view, F_SETLK, &lock);
	fcntl(r.view, F_OFD_SETLK, &lock);
	fcntl(r.view, F_SETOWN_EX, &owner);
	fcntl(r.view, F_SETSIG, SIGUSR1);
	fcntl(r.view, F_SETLEASE, F_WRLCK);
	fcntl(r.view, F_SETLEASE, F_UNLCK);
	fcntl(r.view, F_NOTIFY, 0);
	fcntl(r.view, F_SET_RW_HINT, &hint);
	fcntl(r.view, F_SET_FILE_RW_HINT, &hint);
	ASSERT_ERRNO(fcntl(r.view, F_SETPIPE_SZ, 65536), EBADF);
	ASSERT_OK(flock(r.view, LOCK_EX | LOCK_NB));
	ASSERT_OK(fstat(r.view, &view));
	ASSERT_OK(fstat(r.memfd, &memfd));
	ASSERT(view.st_ino != memfd.st_ino || view.st_dev != memfd.st_dev);
	dup = ASSERT_OK(fcntl(r.view, F_DUPFD_CLOEXEC, 100));
	ASSERT_OK(close(r.view));
	ASSERT_OK(kt_arm(dup, 0, PAGE, 0));
	rig_store_traps(&r, 0, r.map, 1);
}

/* Opened a second time through /proc, if that works, it is the same view. */
TEST(view_reopened_through_proc)
{
	char path[64];
	struct rig r;
	int fd;

	rig_open(&r, 1, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", r.view);
	fd = open(path, O_RDWR);
	if (fd >= 0) {
		ASSERT_EQ(kt_arm(fd, 0, PAGE, 0), -1);
		ASSERT(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
	}
	rig_arm(&r, 0, 1);
	rig_store_traps(&r, 0, r.map, 1);
}

/* What the documentation says is never seen; a change here must change that. */
TEST(limit_alias_and_memfd_writes_are_not_seen)
{
	struct rig r;

	rig_open(&r, 2, 0);
	rig_arm(&r, 0, 2);
	poke(rig_alias(&r), 5);
	ASSERT_EQ(pwrite(r.memfd, "abc", 3, PAGE), 3);
	ASSERT_EQ(peek(r.map), 5);
	ASSERT(!memcmp(rig_page(&r, 1), "abc", 3));
	rig_expect_none(&r);
	ASSERT(rig_armed(&r, 0) && rig_armed(&r, 1));
	rig_store_traps(&r, 0, r.map, 1);
}

/* ---- swap ---- */

static void swap_on(void)
{
	static int done;

	if (done++)
		return;
	if (access("/dev/zram0", F_OK))
		SKIP("no /dev/zram0: run the VM with --insmod zram");
	if (read_value("/proc/meminfo", "SwapTotal") > 0)
		return;
	ASSERT(write_file("/sys/block/zram0/disksize", "67108864"));
	ASSERT_EQ(system("mkswap /dev/zram0 >/dev/null"), 0);
	ASSERT_OK(swapon("/dev/zram0", 0));
}

static bool in_memory(char *p)
{
	unsigned char vec;

	ASSERT_OK(mincore(p, PAGE, &vec));
	return vec & 1;
}

/* Get the pages written to swap and out of memory. */
static void page_out(struct rig *r, size_t page, size_t n)
{
	long long before = read_value("/proc/vmstat", "pswpout");
	size_t left = n;

	for (int tries = 0; left && tries < 50; tries++) {
		if (madvise(rig_page(r, page), n * PAGE, MADV_PAGEOUT)) {
			if (errno == EINVAL)
				SKIP("no MADV_PAGEOUT");
			TEST_FAIL("MADV_PAGEOUT: %s", strerror(errno));
		}
		left = 0;
		for (size_t i = page; i < page + n; i++)
			left += in_memory(rig_page(r, i));
		if (left)
			sleep_ms(10);
	}
	ASSERT_EQ(left, 0);
	ASSERT_GE(read_value("/proc/vmstat", "pswpout") - before, n);
}

TEST_LONG(swap_out_and_back, 60)
{
	enum { N = 16 };
	uint32_t gen[N];
	struct rig r;

	swap_on();
	rig_open(&r, N, 0);
	for (int i = 0; i < N; i++)
		memset(rig_page(&r, i), 'A' + i, PAGE);
	rig_arm(&r, 0, N);
	for (int i = 0; i < N; i++)
		gen[i] = rig_gen(&r, i);
	page_out(&r, 0, N);

	/* Written while it is in swap. */
	for (int i = 0; i < N / 2; i++) {
		rig_store_traps(&r, i, rig_page(&r, i), 'z');
		ASSERT_EQ(peek(rig_page(&r, i) + 1), 'A' + i);
	}
	/* Read back first: its bytes are what they were, so nothing is told. */
	for (int i = N / 2; i < N; i++) {
		ASSERT_EQ(peek(rig_page(&r, i) + 100), 'A' + i);
		rig_expect_none(&r);
		ASSERT_EQ(rig_gen(&r, i), gen[i]);
		rig_store_traps(&r, i, rig_page(&r, i), 'z');
	}
}

/* Arming brings a page back in. */
TEST_LONG(swap_armed_while_swapped_out, 60)
{
	struct rig r;

	swap_on();
	rig_open(&r, 4, 0);
	for (int i = 0; i < 4; i++)
		memset(rig_page(&r, i), 'A' + i, PAGE);
	page_out(&r, 0, 4);
	rig_arm(&r, 0, 4);
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(peek(rig_page(&r, i) + 9), 'A' + i);
		rig_store_traps(&r, i, rig_page(&r, i), 'z');
	}
}

/* Out, back, armed, out, back: dirty or not, every round traps once. */
TEST_LONG(swap_rounds, 60)
{
	struct rig r;

	swap_on();
	rig_open(&r, 2, 0);
	memset(r.map, 'x', 2 * PAGE);
	for (int i = 0; i < 20; i++) {
		rig_arm(&r, 0, 2);
		page_out(&r, 0, 2);
		ASSERT_EQ(peek(rig_page(&r, i & 1) + 77), 'x');
		rig_store_traps(&r, 0, r.map, i);
		rig_store_traps(&r, 1, rig_page(&r, 1), i);
	}
}
