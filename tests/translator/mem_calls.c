// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The memory calls, with code in the memory: whatever changes what is mapped or
 * what is there, the next call of a function finds the bytes that are there now.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "guest.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define RWX (PROT_READ | PROT_WRITE | PROT_EXEC)

static uint8_t *anon(size_t pages, int prot, int flags)
{
	uint8_t *p = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* The function at p returns v now, whatever it was before. */
static void put_and_run(uint8_t *p, uint32_t v)
{
	put_ret_imm(p, v);
	CHECK_EQ(run1(p, 0), v);
}

/* --- mprotect that makes memory writable and executable ------------------------ */

CASE(becomes_rwx)
{
	static const int before[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
				      PROT_READ | PROT_EXEC, PROT_EXEC };

	for (size_t i = 0; i < sizeof(before) / sizeof(*before); i++) {
		uint8_t *p = anon(300, PROT_READ | PROT_WRITE, 0);

		put_ret_imm(p + 7 * PAGE + 5, 70 + i);
		put_ret_imm(p + 299 * PAGE, 80 + i);
		CHECK(!mprotect(p, 300 * PAGE, before[i]));
		if (before[i] & PROT_EXEC)
			CHECK_EQ(run1(p + 7 * PAGE + 5, 0), 70 + i);
		CHECK(!mprotect(p + PAGE, 299 * PAGE, RWX));
		CHECK_EQ(run1(p + 7 * PAGE + 5, 0), 70 + i);
		CHECK_EQ(run1(p + 299 * PAGE, 0), 80 + i);
		put_and_run(p + 7 * PAGE + 5, 1);
		put_and_run(p + 299 * PAGE, 2);
		for (size_t k = PAGE; k < 7 * PAGE; k++)
			CHECK(!p[k]);
		CHECK(!mprotect(p, 300 * PAGE, PROT_READ));
		CHECK(!munmap(p, 300 * PAGE));
	}
}

/* Commit and give back pieces of a reservation, as JITs do. */
CASE(reservation)
{
	size_t total = 4096, piece = 16;
	uint8_t *base = anon(total, PROT_NONE, MAP_NORESERVE);

	for (uint32_t round = 0; round < 4; round++) {
		for (size_t at = 0; at < total; at += piece) {
			uint8_t *p = base + at * PAGE;

			if (round & 1)
				CHECK(!mprotect(p, piece * PAGE, RWX));
			else
				CHECK(mmap(p, piece * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS |
					   MAP_FIXED, -1, 0) == p);
			CHECK(!p[PAGE]);
			put_and_run(p + 100, at + round);
		}
		for (size_t at = 0; at < total; at += piece)
			CHECK_EQ(run1(base + at * PAGE + 100, 0), at + round);
		if (round & 1) {
			CHECK(!madvise(base, total * PAGE, MADV_DONTNEED));
			CHECK(!mprotect(base, total * PAGE, PROT_NONE));
		} else {
			CHECK(mmap(base, total * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
				   MAP_FIXED | MAP_NORESERVE, -1, 0) == base);
		}
	}
}

/* More than anybody has memory for. */
CASE(huge_reservation)
{
	size_t size = 64UL << 30;
	uint8_t *p = mmap(NULL, size, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED);
	for (uint32_t i = 0; i < 64; i++) {
		uint8_t *q = p + ((size_t)i << 30) + i * PAGE;

		put_and_run(q, i);
		put_and_run(q, i + 1000);
	}
	CHECK(!munmap(p, size));
}

CASE(fixed_flags)
{
	uint8_t *p = anon(3, RWX, 0), *q;

	put_and_run(p, 1);
	errno = 0;
	CHECK(mmap(p + PAGE, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		   -1, 0) == MAP_FAILED);
	CHECK_EQ(errno, EEXIST);
	CHECK_EQ(run1(p, 0), 1);
	CHECK(!munmap(p + PAGE, PAGE));
	CHECK(mmap(p + PAGE, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		   -1, 0) == p + PAGE);
	put_and_run(p + PAGE + 8, 2);
	q = mmap(NULL, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	CHECK(q != MAP_FAILED && (uintptr_t)q < 1UL << 31);
	put_and_run(q, 3);
	q = mmap((void *)0x10000, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(q == (void *)0x10000);
	put_and_run(q, 4);
}

CASE(growsdown)
{
	size_t pages = 64;
	uint8_t *room = anon(pages + 1 + 512, PROT_NONE, 0), *top;

	CHECK(!munmap(room, (pages + 1 + 512) * PAGE));
	top = room + (pages + 512) * PAGE;
	CHECK(mmap(top, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN,
		   -1, 0) == top);
	for (uint32_t i = 0; i < pages; i++) {
		uint8_t *p = top - (size_t)i * PAGE;

		put_and_run(p + 64, i);
		put_and_run(p + 64, i + 100);
	}
	for (uint32_t i = 0; i < pages; i++)
		CHECK_EQ(run1(top - (size_t)i * PAGE + 64, 0), i + 100);
	CHECK(mmap(top - PAGE, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	      top - PAGE);
	CHECK(!top[-PAGE + 65]);
	put_and_run(top - PAGE + 64, 7);
	CHECK(!munmap(top - pages * PAGE, (pages + 1) * PAGE));
}

/* --- mremap --------------------------------------------------------------------- */

CASE(mremap_dontunmap)
{
	uint8_t *p = anon(4, RWX, 0), *q, *to = anon(4, PROT_NONE, 0);

	for (uint32_t i = 0; i < 20; i++) {
		put_and_run(p + PAGE + 16, i);
		q = mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP |
			   (i & 1 ? MREMAP_FIXED : 0), to);
		CHECK(q != MAP_FAILED && q != p);
		CHECK_EQ(run1(q + PAGE + 16, 0), i);
		for (size_t k = 0; k < 4 * PAGE; k++)
			CHECK(!p[k]);
		put_and_run(p + PAGE + 16, i + 500);
		put_and_run(q + PAGE + 16, i + 600);
		CHECK_EQ(run1(p + PAGE + 16, 0), i + 500);
		if (!(i & 1))
			CHECK(!munmap(q, 4 * PAGE));
	}
	errno = 0;
	CHECK(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP) == MAP_FAILED);
	CHECK_EQ(errno, EINVAL);
}

/* Over a view, out of a view, from one into another. */
CASE(mremap_fixed_over_code)
{
	int fd = memfd_create("x", 0);
	uint8_t *shm, *a = anon(2, RWX, 0), *b = anon(2, RWX, 0), *q;

	CHECK(!ftruncate(fd, 2 * PAGE));
	shm = mmap(NULL, 2 * PAGE, RWX, MAP_SHARED, fd, 0);
	CHECK(shm != MAP_FAILED);
	for (uint32_t i = 0; i < 10; i++) {
		put_and_run(a, 100 + i);
		put_and_run(b, 200 + i);
		put_and_run(shm, 300 + i);
		CHECK(mremap(a, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, b) == b);
		CHECK_EQ(run1(b, 0), 100 + i);
		q = mremap(shm, 0, 2 * PAGE, MREMAP_MAYMOVE);
		CHECK(q != MAP_FAILED);
		CHECK_EQ(run1(q, 0), 300 + i);
		put_and_run(shm, 400 + i);
		CHECK_EQ(run1(q, 0), 400 + i);
		CHECK(mremap(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, b) == b);
		CHECK_EQ(run1(b, 0), 400 + i);
		put_and_run(b, 500 + i);
		CHECK_EQ(run1(shm, 0), 500 + i);
		CHECK(!munmap(b, 2 * PAGE));
		a = mmap(a, 2 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		b = mmap(b, 2 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	}
}

CASE(mremap_shrinks_and_grows)
{
	uint8_t *p = anon(8, RWX, 0);

	for (uint32_t i = 0; i < 8; i++)
		put_and_run(p + i * PAGE, i);
	CHECK(mremap(p, 8 * PAGE, 3 * PAGE, 0) == p);
	p = mremap(p, 3 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
	CHECK(p != MAP_FAILED);
	for (uint32_t i = 0; i < 3; i++)
		CHECK_EQ(run1(p + i * PAGE, 0), i);
	for (size_t k = 3 * PAGE; k < 100 * PAGE; k++)
		CHECK(!p[k]);
	put_and_run(p + 50 * PAGE, 50);
}

/* --- madvise -------------------------------------------------------------------- */

CASE(madvise_all)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTFORK,
		MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP, MADV_COLD, MADV_PAGEOUT,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_WIPEONFORK, MADV_KEEPONFORK,
	};
	uint8_t *p = anon(4, RWX, 0);

	for (uint32_t i = 0; i < sizeof(advice) / sizeof(*advice); i++) {
		put_and_run(p + PAGE, i);
		if (madvise(p, 4 * PAGE, advice[i]))
			guest_fail(__FILE_NAME__, __LINE__, "advice %d: %s", advice[i],
				   strerror(errno));
		CHECK_EQ(run1(p + PAGE, 0), i);
		put_and_run(p + PAGE, i + 100);
	}
	errno = 0;
	CHECK(madvise(p, 4 * PAGE, MADV_REMOVE) < 0);
	CHECK_EQ(errno, EINVAL);
	errno = 0;
	CHECK(madvise(p, 4 * PAGE, 12345) < 0);
	CHECK_EQ(errno, EINVAL);
	CHECK_EQ(run1(p + PAGE, 0), sizeof(advice) / sizeof(*advice) + 99);
}

CASE(madvise_drops_code)
{
	static const int advice[] = { MADV_DONTNEED, MADV_FREE, 24 /* DONTNEED_LOCKED */ };
	uint8_t *p = anon(4, RWX, 0);

	for (uint32_t i = 0; i < 3; i++) {
		put_and_run(p + PAGE + 32, i);
		if (madvise(p, 4 * PAGE, advice[i]))
			continue;	/* natively not there: the same */
		/* after MADV_FREE the old bytes may still be there, natively */
		if (advice[i] != MADV_FREE)
			CHECK(!p[PAGE + 32]);
		put_and_run(p + PAGE + 32, i + 10);
	}
}

CASE(madvise_remove)
{
	int fd = memfd_create("x", 0);
	uint8_t *a, *b;

	CHECK(!ftruncate(fd, 2 * PAGE));
	a = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	b = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	for (uint32_t i = 0; i < 20; i++) {
		put_ret_imm(a + PAGE, i);
		CHECK_EQ(run1(b + PAGE, 0), i);
		CHECK(!madvise(a, 2 * PAGE, MADV_REMOVE));
		CHECK(!b[PAGE]);
		put_ret_imm(a + PAGE, i + 100);
		CHECK_EQ(run1(b + PAGE, 0), i + 100);
	}
}

/* --- files below mappings -------------------------------------------------------- */

CASE(memfd_written_by_calls)
{
	int fd = memfd_create("x", 0);
	uint8_t buf[16] = { 0 }, *p;
	struct iovec v = { buf, sizeof(buf) };

	CHECK(!ftruncate(fd, 4 * PAGE));
	p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	for (uint32_t i = 0; i < 50; i++) {
		put_ret_imm(buf, i);
		CHECK_EQ(pwrite(fd, buf, 16, PAGE + 64), 16);
		CHECK_EQ(run1(p + PAGE + 64, 0), i);
		put_ret_imm(buf, i + 100);
		CHECK_EQ(pwritev(fd, &v, 1, PAGE + 64), 16);
		CHECK_EQ(run1(p + PAGE + 64, 0), i + 100);
		CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE));
		CHECK(!p[PAGE + 64]);
		CHECK_EQ(pwrite(fd, buf, 16, PAGE + 64), 16);
		CHECK_EQ(run1(p + PAGE + 64, 0), i + 100);
		CHECK(!ftruncate(fd, PAGE));
		CHECK(!ftruncate(fd, 4 * PAGE));
		CHECK(!p[PAGE + 64]);
		put_ret_imm(buf, i + 200);
		CHECK_EQ(pwrite(fd, buf, 16, PAGE + 64), 16);
		CHECK_EQ(run1(p + PAGE + 64, 0), i + 200);
	}
}

CASE(process_vm_writev_to_self)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1), buf[16] = { 0 };
		struct iovec l = { buf, 16 }, r = { p + 48, 16 };

		put_and_run(p + 48, 9999);
		for (uint32_t i = 0; i < 50; i++) {
			put_ret_imm(buf, i);
			CHECK_EQ(process_vm_writev(getpid(), &l, 1, &r, 1, 0), 16);
			CHECK_EQ(run1(p + 48, 0), i);
		}
		printf("%s\n", place_name[w]);
	}
}

CASE(proc_mem_through_protection)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint8_t *p = anon(3, RWX, 0), buf[2 * PAGE];

	CHECK(fd >= 0);
	put_and_run(p + PAGE - 3, 1);
	CHECK(!mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	CHECK(!mprotect(p + PAGE, PAGE, PROT_READ | PROT_EXEC));
	for (uint32_t i = 0; i < 20; i++) {
		memset(buf, 0x90, sizeof(buf));
		put_ret_imm(buf + PAGE - 3, i);
		CHECK_EQ(pwrite(fd, buf, sizeof(buf), (uintptr_t)p), sizeof(buf));
		CHECK_EQ(run1(p, 0), i);
		CHECK_EQ(run1(p + PAGE - 3, 0), i);
		CHECK_EQ(lseek(fd, (uintptr_t)p + PAGE - 2, SEEK_SET), (uintptr_t)p + PAGE - 2);
		CHECK_EQ(write(fd, &(uint32_t){ i + 70 }, 4), 4);
		CHECK_EQ(lseek(fd, 0, SEEK_CUR), (uintptr_t)p + PAGE + 2);
		CHECK_EQ(run1(p, 0), i + 70);
	}
}

CASE(remap_pages)
{
	int fd = memfd_create("x", 0);
	uint8_t *p;

	CHECK(!ftruncate(fd, 4 * PAGE));
	p = mmap(NULL, 4 * PAGE, RWX, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	for (uint32_t i = 0; i < 4; i++)
		put_and_run(p + i * PAGE, i);
	if (remap_file_pages(p, PAGE, 0, 3, 0))
		return;			/* a kernel without it */
	CHECK_EQ(run1(p, 0), 3);
	put_and_run(p, 33);
	CHECK_EQ(run1(p + 3 * PAGE, 0), 33);
	CHECK(!remap_file_pages(p, PAGE, 0, 0, 0));
	CHECK_EQ(run1(p, 0), 0);
}

CASE(sysv_shm)
{
	int id = shmget(IPC_PRIVATE, 3 * PAGE - 100, IPC_CREAT | 0600);
	struct shmid_ds ds;
	uint8_t *a, *b, *c;

	CHECK(id >= 0);
	a = shmat(id, NULL, 0);
	b = shmat(id, NULL, SHM_EXEC | SHM_RDONLY);
	CHECK(a != (void *)-1 && b != (void *)-1);
	CHECK(!shmctl(id, IPC_STAT, &ds));
	CHECK_EQ(ds.shm_nattch, 2);
	for (uint32_t i = 0; i < 100; i++) {
		put_ret_imm(a + 2 * PAGE, i);
		CHECK_EQ(run1(b + 2 * PAGE, 0), i);
	}
	errno = 0;
	CHECK(mprotect(b, PAGE, PROT_READ | PROT_WRITE) < 0);
	CHECK_EQ(errno, EACCES);
	c = anon(3, RWX, 0);
	put_and_run(c + 2 * PAGE, 1234);
	errno = 0;
	CHECK(shmat(id, c, SHM_EXEC) == (void *)-1);
	CHECK_EQ(errno, EINVAL);
	CHECK(shmat(id, c, SHM_EXEC | SHM_REMAP) == c);
	CHECK_EQ(run1(c + 2 * PAGE, 0), 99);
	put_and_run(c + 2 * PAGE, 5);
	CHECK_EQ(run1(b + 2 * PAGE, 0), 5);
	CHECK(!munmap(c + PAGE, PAGE));
	CHECK(!shmdt(c));
	CHECK(shmdt(c) < 0);
	CHECK(!shmdt(a));
	CHECK(!shmctl(id, IPC_RMID, NULL));
	CHECK(!shmdt(b));
	errno = 0;
	CHECK(shmat(id, NULL, 0) == (void *)-1);
	CHECK_EQ(errno, EINVAL);
}

CASE(locked_and_listed)
{
	unsigned char vec[4];
	uint8_t *p = anon(4, RWX, 0);

	put_and_run(p, 1);
	CHECK(!mlock(p, 2 * PAGE));
	put_and_run(p, 2);
	CHECK(!mincore(p, 4 * PAGE, vec));
	printf("%d %d\n", vec[0] & 1, vec[1] & 1);
	CHECK(!munlock(p, 2 * PAGE));
	CHECK(!msync(p, 4 * PAGE, MS_SYNC));
	put_and_run(p, 3);
	errno = 0;
	CHECK(syscall(SYS_pkey_free, 5) < 0);
	printf("%d\n", errno);
	CHECK(!syscall(SYS_pkey_mprotect, p, PAGE, PROT_READ, -1));
}

/* --- processes ------------------------------------------------------------------- */

static void wait_for(pid_t pid)
{
	int status;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (status)
		guest_fail(__FILE_NAME__, __LINE__, "the child's status is %#x", status);
}

static size_t mapped_until_refused(size_t chunk)
{
	size_t n = 0;

	while (n < 1000 && mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE |
				MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED)
		n++;
	return n;
}

/* In a child each, since a hard limit stays. */
CASE(limit_as)
{
	struct rlimit lim = { 1UL << 30, 1UL << 30 }, got;
	size_t n;
	uint8_t *p = anon(2, RWX, 0);
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid) {
		wait_for(pid);
		return;
	}
	CHECK(!setrlimit(RLIMIT_AS, &lim));
	CHECK(!getrlimit(RLIMIT_AS, &got));
	CHECK_EQ(got.rlim_cur, 1UL << 30);
	n = mapped_until_refused(64UL << 20);
	CHECK_EQ(errno, ENOMEM);
	/* the program, its libraries and its stack take less than one piece */
	CHECK(n >= 14 && n <= 15);
	put_and_run(p, 1);
	CHECK(mremap(p, 2 * PAGE, 128UL << 20, MREMAP_MAYMOVE) == MAP_FAILED);
	CHECK(mmap(p, 2 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	put_and_run(p, 2);
	_exit(0);
}

CASE(limit_data)
{
	struct rlimit lim = { 256UL << 20, RLIM_INFINITY };
	char *was = sbrk(0);
	pid_t pid = fork();
	size_t n;

	CHECK(pid >= 0);
	if (pid) {
		wait_for(pid);
		return;
	}
	CHECK(!setrlimit(RLIMIT_DATA, &lim));
	CHECK(sbrk(300 << 20) == (void *)-1);
	CHECK_EQ(errno, ENOMEM);
	CHECK(sbrk(0) == was);
	n = mapped_until_refused(64UL << 20);
	CHECK_EQ(n, 3);
	CHECK(mmap(NULL, 64 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
	_exit(0);
}

/* Parent and child have one page each. */
CASE(fork_private_code)
{
	uint8_t *p = anon(16, RWX, 0), *wx = anon(16, PROT_READ | PROT_WRITE, 0);

	for (uint32_t i = 0; i < 60; i++) {
		pid_t pid;

		put_and_run(p + 5 * PAGE + 8, i);
		CHECK(!mprotect(wx, PAGE, PROT_READ | PROT_WRITE));
		put_ret_imm(wx, i + 50);
		CHECK(!mprotect(wx, PAGE, PROT_READ | PROT_EXEC));
		CHECK_EQ(run1(wx, 0), i + 50);
		pid = fork();
		CHECK(pid >= 0);
		if (!pid) {
			CHECK_EQ(run1(p + 5 * PAGE + 8, 0), i);
			CHECK_EQ(run1(wx, 0), i + 50);
			for (uint32_t k = 0; k < 10; k++)
				put_and_run(p + 5 * PAGE + 8, 1000 + k);
			CHECK(!mprotect(wx, PAGE, PROT_READ | PROT_WRITE));
			put_ret_imm(wx, 51);
			CHECK(!mprotect(wx, PAGE, PROT_READ | PROT_EXEC));
			CHECK_EQ(run1(wx, 0), 51);
			_exit(0);
		}
		CHECK_EQ(run1(p + 5 * PAGE + 8, 0), i);
		put_and_run(p + 5 * PAGE + 8, 7);
		CHECK_EQ(run1(wx, 0), i + 50);
		wait_for(pid);
		CHECK_EQ(run1(p + 5 * PAGE + 8, 0), 7);
		CHECK_EQ(run1(wx, 0), i + 50);
	}
}

/* Of its children, too; each has what its parent had when it forked. */
static void fork_depth(uint8_t *p, uint32_t depth)
{
	pid_t pid;

	put_and_run(p, depth);
	if (depth == 5)
		_exit(0);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		CHECK_EQ(run1(p, 0), depth);
		fork_depth(p, depth + 1);
	}
	put_and_run(p, depth + 100);
	wait_for(pid);
	CHECK_EQ(run1(p, 0), depth + 100);
	if (depth)
		_exit(0);
}

CASE(fork_tree)
{
	fork_depth(anon(2, RWX, 0) + 80, 0);
}

/* Shared memory stays shared, and what one writes the other runs. */
CASE(fork_shared_code)
{
	uint8_t *p = mmap(NULL, PAGE, RWX, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	volatile uint32_t *turn = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	CHECK(p != MAP_FAILED && turn != MAP_FAILED);
	put_and_run(p, 4711);
	pid = fork();
	CHECK(pid >= 0);
	for (uint32_t i = pid ? 0 : 1; i < 400; i += 2) {
		while (*turn != i)
			sched_yield();
		/* what the other wrote is sure to be run behind a serialising event */
		sched_yield();
		CHECK_EQ(run1(p, 0), i ? i - 1 : 4711);
		put_and_run(p, i);
		*turn = i + 1;
	}
	if (!pid)
		_exit(0);
	wait_for(pid);
	CHECK_EQ(run1(p, 0), 399);
}

/* One runs in circles, without a system call, until the other writes new code. */
CASE(fork_patch_spinning)
{
	uint8_t *p = mmap(NULL, PAGE, RWX, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	for (uint32_t i = 0; i < 5; i++) {
		uint64_t n = 0;
		pid_t pid;

		put_and_run(p, i);
		pid = fork();
		CHECK(pid >= 0);
		if (!pid) {
			usleep(50000);
			/* mov $imm: the byte is the lowest of the immediate */
			p[1] = i + 100;
			_exit(0);
		}
		while (run1(p, 0) == i)
			n++;
		CHECK(n > 0);
		CHECK_EQ(run1(p, 0), i + 100);
		wait_for(pid);
	}
}

/*
 * The same, but the write comes at the moment at which the other one begins to run
 * in circles, out of a system call: it must not be missed for good.
 */
CASE(fork_patch_at_start)
{
	uint8_t *p = mmap(NULL, PAGE, RWX, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	volatile uint32_t *turn = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t parent = getpid(), pid;
	uint32_t rounds = 400;	/* on an emulated machine the first ten will do */

	CHECK(p != MAP_FAILED && turn != MAP_FAILED);
	put_and_run(p, 0);
	pid = fork();
	CHECK(pid >= 0);
	for (uint32_t i = 1; !pid && i <= rounds; i++) {
		while (*turn != i)
			if (getppid() != parent)
				_exit(1);
		for (volatile uint32_t n = i * 2654435761U >> 23; n; n--)
			;
		p[1] = i;
	}
	if (!pid)
		_exit(0);
	alarm(600);		/* the end of one that has missed it */
	for (uint32_t i = 1; i <= rounds; i++) {
		*turn = i;
		getppid();
		while (run1(p, 0) == ((i - 1) & 0xff))
			;
		CHECK_EQ(run1(p, 0), i & 0xff);
	}
	alarm(0);
	wait_for(pid);
}

CASE(fork_advice)
{
	uint8_t *p = anon(6, RWX, 0);
	unsigned char vec;
	pid_t pid;

	for (uint32_t i = 0; i < 6; i++)
		put_and_run(p + i * PAGE, i);
	CHECK(!madvise(p + PAGE, PAGE, MADV_WIPEONFORK));
	CHECK(!madvise(p + 2 * PAGE, PAGE, MADV_DONTFORK));
	CHECK(!madvise(p + 3 * PAGE, 2 * PAGE, MADV_DONTFORK));
	CHECK(!madvise(p + 4 * PAGE, PAGE, MADV_DOFORK));
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		CHECK_EQ(run1(p, 0), 0);
		CHECK(!p[PAGE] && !p[PAGE + 1]);
		put_and_run(p + PAGE, 11);
		CHECK(mincore(p + 2 * PAGE, PAGE, &vec) < 0);
		CHECK(mincore(p + 3 * PAGE, PAGE, &vec) < 0);
		CHECK_EQ(run1(p + 4 * PAGE, 0), 4);
		CHECK(mmap(p + 2 * PAGE, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS |
			   MAP_FIXED_NOREPLACE, -1, 0) == p + 2 * PAGE);
		put_and_run(p + 2 * PAGE, 22);
		_exit(0);
	}
	wait_for(pid);
	for (uint32_t i = 0; i < 6; i++)
		CHECK_EQ(run1(p + i * PAGE, 0), i);
}

/* --- threads --------------------------------------------------------------------- */

static volatile int stop_threads;

/* Data beside code that is moved while it is written. */
enum { WRITERS = 2 };

static uint8_t *counters;
static uint64_t counted[WRITERS];

static void *count_in(void *arg)
{
	uint64_t *own = arg;
	volatile uint64_t *n = (uint64_t *)(counters + (10 + 7 * (own - counted)) * PAGE);

	while (!stop_threads) {
		++*own;
		++*n;
	}
	return NULL;
}

CASE(promoted_while_written)
{
	pthread_t t[WRITERS];
	uint8_t *p = anon(64, PROT_READ | PROT_WRITE, 0);

	for (int round = 0; round < 20; round++) {
		stop_threads = 0;
		counters = p;
		for (int i = 0; i < WRITERS; i++)
			CHECK(!pthread_create(&t[i], NULL, count_in, &counted[i]));
		for (int i = 0; i < WRITERS; i++)
			while (!*(volatile uint64_t *)(p + (10 + 7 * i) * PAGE))
				sched_yield();
		CHECK(!mprotect(p, 64 * PAGE, RWX));
		put_and_run(p + 3 * PAGE, round);
		put_and_run(p + 10 * PAGE + 512, round + 100);
		CHECK(!mprotect(p, 3 * PAGE, PROT_READ));
		put_and_run(p + 10 * PAGE + 512, round + 200);
		stop_threads = 1;
		for (int i = 0; i < WRITERS; i++) {
			uint64_t *n = (uint64_t *)(p + (10 + 7 * i) * PAGE);

			CHECK(!pthread_join(t[i], NULL));
			/* nothing that it wrote was lost on the way */
			CHECK_EQ(*n, counted[i]);
			counted[i] = 0;
		}
		CHECK(!munmap(p, 64 * PAGE));
		p = anon(64, PROT_READ | PROT_WRITE, 0);
	}
}

struct reader {
	int fd;
	uint8_t *to;
	ssize_t got;
};

static void *blocked_read(void *arg)
{
	struct reader *r = arg;

	r->got = read(r->fd, r->to, 16);
	return NULL;
}

/* A call waits to write into a page whose code others run, and move, meanwhile. */
CASE(read_blocked_into_code)
{
	for (int moved = 0; moved < 3; moved++) {
		uint8_t buf[16] = { 0 }, *p = anon(2, moved == 2 ? PROT_READ | PROT_WRITE : RWX, 0);
		struct reader r;
		pthread_t t;
		int fds[2];

		CHECK(!pipe(fds));
		r.fd = fds[0];
		r.to = p + 256;
		if (moved != 2)
			put_and_run(p + 256, 1);
		CHECK(!pthread_create(&t, NULL, blocked_read, &r));
		for (int i = 0; i < 200; i++) {
			usleep(100);
			if (moved == 2 && i == 100)
				CHECK(!mprotect(p, 2 * PAGE, RWX));
			if (moved != 2 || i >= 100)
				put_and_run(p + 1024, i);
		}
		put_ret_imm(buf, 4242);
		CHECK_EQ(write(fds[1], buf, 16), 16);
		CHECK(!pthread_join(t, NULL));
		CHECK_EQ(r.got, 16);
		CHECK_EQ(run1(p + 256, 0), 4242);
		put_and_run(p + 256, 4243);
		close(fds[0]);
		close(fds[1]);
	}
}

/* Others map, unmap and protect while code is run and written. */
static void *churn(void *arg)
{
	uint32_t i = 0;

	while (!stop_threads) {
		uint8_t *p = anon(8, ++i & 1 ? RWX : PROT_READ | PROT_WRITE, 0);

		put_ret_imm(p + PAGE, i);
		CHECK(!mprotect(p, 8 * PAGE, i & 2 ? RWX : PROT_READ | PROT_EXEC));
		CHECK_EQ(run1(p + PAGE, 0), i);
		CHECK(!munmap(p, 8 * PAGE));
	}
	return arg;
}

CASE(map_storm)
{
	pthread_t t[3];
	uint8_t *p = anon(2, RWX, 0);

	stop_threads = 0;
	for (int i = 0; i < 3; i++)
		CHECK(!pthread_create(&t[i], NULL, churn, NULL));
	for (uint32_t i = 0; i < 4000; i++)
		put_and_run(p + 16 * (i % 200), i);
	stop_threads = 1;
	for (int i = 0; i < 3; i++)
		CHECK(!pthread_join(t[i], NULL));
}

/* A child made while others write code that it then finds whole. */
static uint8_t *pair[2];

static void *patch_pair(void *arg)
{
	uint32_t i = 0;

	while (!stop_threads) {
		/* the second is never ahead of the first */
		__atomic_store_n((uint32_t *)(pair[0] + 4), ++i, __ATOMIC_SEQ_CST);
		__atomic_store_n((uint32_t *)(pair[1] + 4), i, __ATOMIC_SEQ_CST);
	}
	return arg;
}

CASE(fork_while_patching)
{
	pthread_t t;

	for (int i = 0; i < 2; i++) {
		uint8_t *p = anon(2, RWX, 0);

		/* the immediate is aligned */
		p[3] = 0xb8;
		memset(p + 4, 0, 4);
		p[8] = 0xc3;
		pair[i] = p;
	}
	stop_threads = 0;
	CHECK(!pthread_create(&t, NULL, patch_pair, NULL));
	for (int i = 0; i < 40; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (!pid) {
			uint32_t a = run1(pair[0] + 3, 0), b = run1(pair[1] + 3, 0);

			CHECK(a == b || a == b + 1);
			CHECK_EQ(run1(pair[0] + 3, 0), a);
			__atomic_store_n((uint32_t *)(pair[0] + 4), 77, __ATOMIC_SEQ_CST);
			CHECK_EQ(run1(pair[0] + 3, 0), 77);
			_exit(0);
		}
		wait_for(pid);
	}
	stop_threads = 1;
	CHECK(!pthread_join(t, NULL));
	CHECK_EQ(run1(pair[0] + 3, 0), run1(pair[1] + 3, 0));
}
