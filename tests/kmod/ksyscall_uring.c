// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Pages that are pinned for I/O: O_DIRECT and io_uring.
 *
 * While a page is being pinned for writing it traps, like any kernel write. Once
 * pinned, it can be written with no fault at all: arm must report it as foreign,
 * so that the translator checks its content instead (rule 9: failure is loud).
 */
#include <liburing.h>
#include <sys/mount.h>

#include "mem_util.h"

#define KERNEL_SELF (CODEWP_EVENT_KERNEL | CODEWP_EVENT_SELF)

/* A RAM disk is the only block device here that does O_DIRECT. */
static int ram_disk(void)
{
	int fd = open("/dev/ram0", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		SKIP("no /dev/ram0: run the VM with --insmod brd");
	return fd;
}

static void fill(char *p, size_t n, char first)
{
	for (size_t i = 0; i < n; i++)
		p[i] = first + i % 19;
}

TEST(rule3_o_direct_read)
{
	char *want = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = ram_disk(), direct;
	char seen[2];
	struct rig r;

	ASSERT(want != MAP_FAILED);
	fill(want, 2 * PAGE, 'A');
	ASSERT_EQ(pwrite(fd, want, 2 * PAGE, 0), 2 * PAGE);
	ASSERT_OK(fsync(fd));
	direct = ASSERT_OK(open("/dev/ram0", O_RDONLY | O_DIRECT | O_CLOEXEC));

	rig_open(&r, 2, 0);
	ASSERT_EQ(rig_arm(&r, 0, 2), 0);
	ASSERT_EQ(pread(direct, r.map, 2 * PAGE, 0), 2 * PAGE);
	ASSERT(!memcmp(r.map, want, 2 * PAGE));
	ASSERT_EQ(rig_collect(&r, 0, 2, seen), 2);
	ASSERT_EQ(kt_stat(r.view).kernel_writes, 2);
	ASSERT(!rig_armed(&r, 0) && !rig_armed(&r, 1));
	/* The pins are gone with the read. */
	ASSERT_EQ(rig_arm(&r, 0, 2), 0);
}

struct uring {
	struct io_uring ring;
	int pipe[2];
};

static void uring_open(struct uring *u)
{
	int err = io_uring_queue_init(4, &u->ring, 0);

	if (err == -ENOSYS || err == -EPERM)
		SKIP("io_uring: %s", strerror(-err));
	ASSERT_EQ(err, 0);
	ASSERT_OK(pipe(u->pipe));
}

static int uring_read(struct uring *u, void *to, unsigned int n, int fixed,
		      unsigned int flags)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	struct io_uring_cqe *cqe;
	int res;

	ASSERT(sqe);
	if (fixed)
		io_uring_prep_read_fixed(sqe, u->pipe[0], to, n, 0, 0);
	else
		io_uring_prep_read(sqe, u->pipe[0], to, n, 0);
	io_uring_sqe_set_flags(sqe, flags);
	ASSERT_EQ(io_uring_submit(&u->ring), 1);
	ASSERT_EQ(io_uring_wait_cqe(&u->ring, &cqe), 0);
	res = cqe->res;
	io_uring_cqe_seen(&u->ring, cqe);
	return res;
}

TEST(rule3_io_uring_read)
{
	struct uring u;
	struct rig r;

	rig_open(&r, 2, 0);
	uring_open(&u);
	rig_arm(&r, 1, 1);
	ASSERT_EQ(write(u.pipe[1], "hello", 5), 5);
	ASSERT_EQ(uring_read(&u, rig_page(&r, 1), 5, 0, 0), 5);
	ASSERT(!memcmp(rig_page(&r, 1), "hello", 5));
	rig_expect(&r, 1, KERNEL_SELF);
}

/* The same in a worker thread of the kernel, which has our mm but is not us. */
TEST(rule3_io_uring_read_by_worker)
{
	struct codewp_event ev;
	struct uring u;
	struct rig r;

	rig_open(&r, 2, 0);
	uring_open(&u);
	rig_arm(&r, 1, 1);
	ASSERT_EQ(write(u.pipe[1], "hello", 5), 5);
	ASSERT_EQ(uring_read(&u, rig_page(&r, 1), 5, 0, IOSQE_ASYNC), 5);
	ASSERT(!memcmp(rig_page(&r, 1), "hello", 5));
	ev = rig_expect(&r, 1, KERNEL_SELF);
	ASSERT_EQ(ev.offset, PAGE);
}

static int register_page(struct uring *u, void *page)
{
	struct iovec iov = { page, PAGE };

	return io_uring_register_buffers(&u->ring, &iov, 1);
}

/*
 * Registering pins for writing, and that traps. Kernels up to 6.1 at least pin
 * no file's pages but those of plain shmem mappings: they refuse, and then
 * nothing may have happened.
 */
TEST(rule3_io_uring_register_buffer)
{
	struct uring u;
	struct rig r;
	int err;

	rig_open(&r, 2, 0);
	uring_open(&u);
	rig_arm(&r, 1, 1);
	err = register_page(&u, rig_page(&r, 1));
	if (err) {
		ASSERT_EQ(err, -EOPNOTSUPP);
		if (rig_armed(&r, 1))
			rig_store_traps(&r, 1, rig_page(&r, 1), 1);
		else
			rig_expect(&r, 1, KERNEL_SELF);
		return;
	}
	rig_expect(&r, 1, KERNEL_SELF);
}

/*
 * Pinned before the arm (by way of the alias): the write is not seen, as the
 * documentation says, but arm has said so: in foreign, in the page's state, in the
 * counter.
 */
TEST(rule9_arm_reports_pinned_pages)
{
	struct uring u;
	struct rig r;

	rig_open(&r, 4, 0);
	uring_open(&u);
	poke(rig_page(&r, 2), 'x');
	ASSERT_EQ(register_page(&u, rig_alias(&r) + 2 * PAGE), 0);
	ASSERT_EQ(rig_arm(&r, 0, 4), 1);
	for (size_t i = 0; i < 4; i++)
		ASSERT_EQ(!!(kt_state(r.states, i) & CODEWP_PAGE_FOREIGN), i == 2);
	ASSERT_EQ(kt_stat(r.view).foreign, 1);

	ASSERT_EQ(write(u.pipe[1], "hello", 5), 5);
	ASSERT_EQ(uring_read(&u, rig_alias(&r) + 2 * PAGE, 5, 1, 0), 5);
	ASSERT(!memcmp(rig_page(&r, 2), "hello", 5));
	rig_expect_none(&r);
	ASSERT(rig_armed(&r, 2));

	/* A store by the CPU still traps. */
	rig_store_traps(&r, 2, rig_page(&r, 2), 'y');
}

/* The mark goes with the next arm after the pin is gone. */
TEST(rule9_foreign_goes_with_the_pin)
{
	struct uring u;
	struct rig r;
	int tries = 0;

	rig_open(&r, 1, 0);
	uring_open(&u);
	ASSERT_EQ(register_page(&u, rig_alias(&r)), 0);
	ASSERT_EQ(rig_arm(&r, 0, 1), 1);
	ASSERT_EQ(io_uring_unregister_buffers(&u.ring), 0);
	/* The kernel lets go of them a little later. */
	for (;;) {
		ASSERT_OK(kt_disarm(r.view, 0, PAGE));
		if (!rig_arm(&r, 0, 1))
			break;
		ASSERT_LT(++tries, 1000);
		sleep_ms(10);
	}
	ASSERT(!(kt_state(r.states, 0) & CODEWP_PAGE_FOREIGN));
	rig_store_traps(&r, 0, r.map, 1);
}
