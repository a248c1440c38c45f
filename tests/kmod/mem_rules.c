// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The rules that need no special memory: nothing is lost when the ring is full
 * (1), arming splits no mapping (5), the kernel waits for nobody (8), failure is
 * loud (9), the module goes when its last file is closed and not before (10);
 * and the dirty clients, which are independent of each other.
 */
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "mem_util.h"

/* ---- rule 1: a full ring loses no page ---- */

static int view_with_ring(int memfd, size_t pages, uint32_t ring_bytes,
			  uint32_t clients)
{
	struct codewp_view_create c = {
		.memfd = memfd,
		.length = pages * PAGE,
		.ring_fd = -1,
		.ring_bytes = ring_bytes,
		.clients = clients,
	};

	return ASSERT_OK(ioctl(kt_dev(), CODEWP_IOC_VIEW, &c));
}

TEST(rule1_full_ring_keeps_the_written_bits)
{
	enum { N = 300, ROOM = 64 };
	struct codewp_event ev;
	struct codewp_stat st;
	struct rig r = { .pages = N };
	int n = 0;

	r.memfd = kt_memfd(N * PAGE);
	r.view = view_with_ring(r.memfd, N, PAGE, 0);
	r.map = kt_map(r.view, N * PAGE);
	r.ring = kt_ring(r.view, PAGE);
	r.states = kt_states(r.view, N);
	ASSERT_EQ(r.ring->nr, ROOM);

	rig_arm(&r, 0, N);
	for (int i = 0; i < N; i += 3)
		poke(rig_page(&r, i), i);
	ASSERT_EQ(r.ring->overflow, 1);
	ASSERT_EQ(r.ring->dropped, N / 3 - ROOM);
	st = kt_stat(r.view);
	ASSERT_EQ(st.traps, N / 3);
	ASSERT_EQ(st.events, N / 3);
	ASSERT_EQ(st.dropped, N / 3 - ROOM);

	/* As a reader has to: clear the flag, then scan. */
	__atomic_store_n(&r.ring->overflow, 0, __ATOMIC_SEQ_CST);
	while (kt_event(r.ring, &ev))
		n++;
	ASSERT_EQ(n, ROOM);
	for (int i = 0; i < N; i++) {
		uint32_t s = kt_state(r.states, i);

		ASSERT_EQ(!!(s & CODEWP_PAGE_WRITTEN), i % 3 == 0);
		ASSERT_EQ(!!(s & CODEWP_PAGE_ARMED), i % 3 != 0);
	}
	/* And it goes on as if nothing had been. */
	rig_store_traps(&r, 1, rig_page(&r, 1), 1);
	ASSERT_EQ(r.ring->overflow, 0);
}

/* ---- rule 5: no mapping is split ---- */

TEST_LONG(rule5_arm_100000_isolated_pages, 120)
{
	enum { N = 100000 };
	struct codewp_stat st;
	size_t before;
	struct rig r;
	double t;

	rig_open(&r, 2 * N, 0);
	before = count_maps();
	t = kt_now();
	for (size_t i = 0; i < N; i++)
		if (kt_arm(r.view, 2 * i * PAGE, PAGE, 0))
			TEST_FAIL("page %zu: %s", 2 * i, strerror(errno));
	t = kt_now() - t;
	ASSERT_EQ(count_maps(), before);
	st = kt_stat(r.view);
	ASSERT_EQ(st.armed, N);
	ASSERT_EQ(st.arms, N);
	printf("# %.2f us per page (emulated), %llu bytes of state per armed page\n",
	       t / N * 1e6, (unsigned long long)(st.state_bytes / N));
	fflush(stdout);
	ASSERT_LE(st.state_bytes, 16ULL * N);
	/* A sample of them; the rest would say the same, slowly. */
	for (size_t i = 0; i < N; i += 997) {
		rig_store_traps(&r, 2 * i, rig_page(&r, 2 * i), 1);
		poke(rig_page(&r, 2 * i + 1), 1);
		rig_expect_none(&r);
	}
	ASSERT_EQ(count_maps(), before);
}

/* With mprotect the same number of pages does not fit into a process. */
TEST_LONG(rule5_mprotect_for_comparison, 120)
{
	enum { N = 100000 };
	size_t limit;
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	size_t i;
	char *p;

	ASSERT(f && fscanf(f, "%zu", &limit) == 1);
	if (limit >= 2 * N)
		SKIP("vm.max_map_count is %zu", limit);
	p = mmap(NULL, 2 * N * PAGE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT(p != MAP_FAILED);
	for (i = 0; i < N; i++)
		if (mprotect(p + 2 * i * PAGE, PAGE, PROT_READ))
			break;
	ASSERT_LT(i, N);
	ASSERT_EQ(errno, ENOMEM);
	printf("# mprotect gave up after %zu pages\n", i);
	fflush(stdout);
}

TEST(rule5_arm_without_any_mapping)
{
	struct rig r;

	rig_open(&r, 4, 0);
	ASSERT_OK(munmap(r.map, 4 * PAGE));
	rig_arm(&r, 0, 4);
	r.map = kt_map(r.view, 4 * PAGE);
	rig_store_traps(&r, 3, rig_page(&r, 3), 1);
}

#define TRACING		"/sys/kernel/tracing/"
#define LOCK_EVENT	TRACING "events/mmap_lock/mmap_lock_start_locking/"

/* How often this thread took an mmap_lock for writing since the last call. */
static int write_locks(void)
{
	FILE *f = fopen(TRACING "trace", "r");
	char line[512];
	int n = 0;

	ASSERT(f);
	while (fgets(line, sizeof(line), f))
		n += line[0] != '#';
	fclose(f);
	ASSERT(write_file(TRACING "tracing_on", "0"));
	f = fopen(TRACING "trace", "w");	/* truncating clears it */
	ASSERT(f);
	fclose(f);
	ASSERT(write_file(TRACING "tracing_on", "1"));
	return n;
}

TEST(rule5_arm_takes_no_mmap_lock_for_writing)
{
	struct rig r;
	char tid[16];
	int locks;

	if (access(LOCK_EVENT "enable", W_OK))
		SKIP("no tracepoints of mmap_lock in this kernel");
	rig_open(&r, 64, 0);
	for (int i = 0; i < 64; i++)
		poke(rig_page(&r, i), 1);
	snprintf(tid, sizeof(tid), "%d", getpid());
	ASSERT(write_file(TRACING "set_event_pid", tid));
	ASSERT(write_file(LOCK_EVENT "filter", "write == 1"));
	ASSERT(write_file(LOCK_EVENT "enable", "1"));
	write_locks();

	/* The instrument works: mprotect takes the lock, for every page. */
	for (int i = 0; i < 64; i += 2)
		ASSERT_OK(mprotect(rig_page(&r, i), PAGE, PROT_READ));
	locks = write_locks();
	ASSERT_GE(locks, 32);
	ASSERT_OK(mprotect(r.map, 64 * PAGE, PROT_READ | PROT_WRITE));

	write_locks();
	for (int i = 0; i < 64; i += 2)
		ASSERT_OK(kt_arm(r.view, i * PAGE, PAGE, 0));
	ASSERT_OK(kt_arm(r.view, 0, 64 * PAGE, 0));
	locks = write_locks();
	ASSERT(write_file(LOCK_EVENT "enable", "0"));
	ASSERT(write_file(TRACING "set_event_pid", " "));
	ASSERT_EQ(locks, 0);
	for (int i = 0; i < 64; i++)
		ASSERT(rig_armed(&r, i));
}

/* ---- rule 8: the kernel waits for nobody ---- */

/* The owner is stopped and its ring is full; writers go on. */
TEST(rule8_writer_needs_no_live_owner)
{
	enum { N = 200 };
	int go[2], ready[2], status;
	char *map, c = 0;
	int memfd = kt_memfd(N * PAGE);
	int view = view_with_ring(memfd, N, PAGE, 0);
	pid_t owner;

	ASSERT_OK(pipe(go));
	ASSERT_OK(pipe(ready));
	/* The view belongs to us; so we are the owner, and the child the tester. */
	map = kt_map(view, N * PAGE);
	ASSERT_OK(kt_arm(view, 0, N * PAGE, 0));
	owner = getpid();
	if (!ASSERT_OK(fork())) {
		struct codewp_stat st;
		double t;

		ASSERT_EQ(read(go[0], &c, 1), 1);
		ASSERT_OK(kill(owner, SIGSTOP));
		t = kt_now();
		for (int i = 0; i < N; i++)
			poke(map + i * PAGE, 1);
		t = kt_now() - t;
		st = kt_stat(view);
		ASSERT_OK(kill(owner, SIGCONT));
		ASSERT_EQ(st.traps, N);
		ASSERT_EQ(st.dropped, N - 64);
		ASSERT_LT(t, 5.0 * kt_scale());
		_exit(0);
	}
	ASSERT_EQ(write(go[1], "g", 1), 1);
	while (wait(&status) < 0)
		ASSERT_EQ(errno, EINTR);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		_exit(1);
	ASSERT_EQ(status, 0);
}

/* A thread that hangs in its handler holds up nobody else. */
static struct codewp_area *stuck_area;
extern char stuck_handler[];

asm(".pushsection .text\n"
    "stuck_handler:\n"
    "	endbr64\n"
    "1:	pause\n"
    "	jmp 1b\n"
    ".popsection\n");

static void *get_stuck(void *arg)
{
	int fd;

	stuck_area = kt_register(stuck_handler, CODEWP_THREAD_UPCALL, -1, &fd);
	kt_store8(arg, 1);
	TEST_FAIL("the handler came back");
	return NULL;
}

TEST(rule8_stuck_handler_holds_up_nobody)
{
	pthread_t t;
	struct rig r;

	rig_open(&r, 4, 0);
	rig_arm(&r, 0, 4);
	ASSERT_EQ(pthread_create(&t, NULL, get_stuck, r.map), 0);
	while (rig_armed(&r, 0))
		sched_yield();
	/* The page, its neighbours, the address space: all of use. */
	poke(r.map + 8, 2);
	rig_expect_none(&r);
	rig_store_traps(&r, 1, rig_page(&r, 1), 1);
	rig_arm(&r, 0, 1);
	rig_store_traps(&r, 0, r.map, 3);
	ASSERT_OK(munmap(rig_page(&r, 3), PAGE));
	ASSERT_OK(mprotect(rig_page(&r, 2), PAGE, PROT_READ));
	ASSERT_EQ(stuck_area->busy, 1);
}

/* ---- rule 9: failure is loud ---- */

TEST(rule9_arm_beyond_end_of_file)
{
	struct codewp_arm a = { .offset = 0, .length = 8 * PAGE };
	int memfd = kt_memfd(5 * PAGE);
	int view = kt_view(memfd, 8 * PAGE, 0);
	const uint32_t *states = kt_states(view, 8);

	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_ARM, &a), ENXIO);
	ASSERT_EQ(a.done, 5 * PAGE);
	for (int i = 0; i < 8; i++)
		ASSERT_EQ(!!(kt_state(states, i) & CODEWP_PAGE_ARMED), i < 5);
	ASSERT_EQ(kt_stat(view).armed, 5);
	/* When the file has grown, the rest can be armed. */
	ASSERT_OK(ftruncate(memfd, 8 * PAGE));
	a.offset = 5 * PAGE;
	a.length = 3 * PAGE;
	ASSERT_OK(ioctl(view, CODEWP_IOC_ARM, &a));
}

/* A file system that is full: the pages that could not be brought in. */
TEST(rule9_arm_without_memory)
{
	struct codewp_arm a = { .offset = 0, .length = 256 * PAGE };
	const uint32_t *states;
	int fd, view;
	char *map;

	mkdir("/tmp/small", 0700);
	ASSERT_OK(mount("small", "/tmp/small", "tmpfs", 0, "size=256k"));
	fd = ASSERT_OK(open("/tmp/small/f", O_RDWR | O_CREAT | O_EXCL, 0600));
	ASSERT_OK(umount2("/tmp/small", MNT_DETACH));
	ASSERT_OK(ftruncate(fd, 256 * PAGE));
	view = kt_view(fd, 256 * PAGE, 0);
	states = kt_states(view, 256);
	map = kt_map(view, 256 * PAGE);

	ASSERT_ERRNO(ioctl(view, CODEWP_IOC_ARM, &a), ENOSPC);
	ASSERT_GT(a.done, 0);
	ASSERT_LE(a.done, 64 * PAGE);
	ASSERT_EQ(a.done % PAGE, 0);
	for (size_t i = 0; i < 256; i++)
		ASSERT_EQ(!!(kt_state(states, i) & CODEWP_PAGE_ARMED),
			  i < a.done / PAGE);
	/* What it said is armed, is. */
	poke(map + a.done - PAGE, 1);
	ASSERT(!(kt_state(states, a.done / PAGE - 1) & CODEWP_PAGE_ARMED));
}

static void on_alarm(int sig)
{
}

TEST_LONG(rule9_interrupted_arm_says_how_far_it_got, 60)
{
	enum { N = 65536 };
	struct codewp_arm a = { .length = N * PAGE };
	struct sigaction sa = { .sa_handler = on_alarm };
	struct rig r;
	size_t end;
	int rounds = 0;

	rig_open(&r, N, 0);
	ASSERT_OK(sigaction(SIGUSR1, &sa, NULL));
	/* A timer would fire on the emulator's time; a child is near enough. */
	for (;;) {
		pid_t pid = ASSERT_OK(fork());
		long ret;

		if (!pid) {
			sleep_ms(2);
			kill(getppid(), SIGUSR1);
			_exit(0);
		}
		a.done = 77;
		ret = ioctl(r.view, CODEWP_IOC_ARM, &a);
		if (ret) {
			ASSERT_EQ(errno, EINTR);
			ASSERT_LT(a.done, a.length);
		}
		while (waitpid(pid, NULL, 0) < 0)
			ASSERT_EQ(errno, EINTR);
		ASSERT_GT(a.done, 0);
		ASSERT_EQ(a.done % PAGE, 0);
		end = (a.offset + a.done) / PAGE;
		ASSERT_EQ(kt_stat(r.view).armed, end);
		ASSERT(rig_armed(&r, end - 1));
		ASSERT(end == N || !rig_armed(&r, end));
		if (!ret)
			break;
		rounds++;
		/* As a caller has to: go on where it stopped. */
		a.offset += a.done;
		a.length -= a.done;
	}
	ASSERT_EQ(a.offset + a.done, N * PAGE);
	ASSERT_GT(rounds, 0);
	printf("# interrupted %d times\n", rounds);
	fflush(stdout);
}

/* ---- rule 10: removable when the last file is closed, never before ---- */

static long delete_module(void)
{
	return syscall(SYS_delete_module, "codewp", O_NONBLOCK);
}

static void load_module(void)
{
	int fd = open("/build/kmod/codewp.ko", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		TEST_FAIL("codewp.ko: %s", strerror(errno));
	ASSERT_OK(syscall(SYS_finit_module, fd, "", 0));
	close(fd);
}

/* Files are closed a little after close(2), and so are counts. */
static void remove_soon(const char *when)
{
	for (int i = 0; i < 2000; i++) {
		if (!delete_module())
			return;
		if (errno != EWOULDBLOCK && errno != EBUSY)
			TEST_FAIL("%s: rmmod: %s", when, strerror(errno));
		sleep_ms(5);
	}
	TEST_FAIL("%s: the module cannot be removed", when);
}

/* What can hold the module when every descriptor is closed. */
enum holder { DATA, RING, STATES, AREA, HOLDERS };

/* Make a view and a registration, map one thing, close every descriptor. */
static char *hold(enum holder what, size_t *bytes)
{
	static const uint64_t offset[] = {
		CODEWP_MMAP_DATA, CODEWP_MMAP_RING, CODEWP_MMAP_STATE, 0,
	};
	struct codewp_view_create v = { .ring_fd = -1, .length = 4 * PAGE };
	struct codewp_thread_create t = {
		.flags = CODEWP_THREAD_UPCALL,
		.ring_fd = -1,
		.handler = (uintptr_t)kt_handler_open,
		.code_start = (uintptr_t)kt_code_start,
		.code_end = (uintptr_t)kt_code_end,
	};
	int dev, view, thread;
	char *map;

	/* Not through kt_dev(), which keeps it open. */
	dev = ASSERT_OK(open("/dev/codewp", O_RDWR | O_CLOEXEC));
	ASSERT_ERRNO(delete_module(), EWOULDBLOCK);
	v.memfd = kt_memfd(4 * PAGE);
	view = ASSERT_OK(ioctl(dev, CODEWP_IOC_VIEW, &v));
	thread = ASSERT_OK(ioctl(dev, CODEWP_IOC_THREAD, &t));
	ASSERT_OK(close(dev));
	ASSERT_ERRNO(delete_module(), EWOULDBLOCK);
	ASSERT_OK(kt_arm(view, 0, 4 * PAGE, 0));
	*bytes = what == DATA ? 4 * PAGE : PAGE;
	map = mmap(NULL, *bytes, what == STATES ? PROT_READ : PROT_READ | PROT_WRITE,
		   MAP_SHARED, what == AREA ? thread : view, offset[what]);
	ASSERT(map != MAP_FAILED);
	ASSERT_OK(close(thread));
	ASSERT_ERRNO(delete_module(), EWOULDBLOCK);
	ASSERT_OK(close(view));
	ASSERT_OK(close(v.memfd));
	return map;
}

TEST_LONG(rule10_rmmod_only_when_the_last_file_is_closed, 60)
{
	int child_ready[2];
	size_t bytes;
	char *map, c;
	pid_t pid;

	if (access("/build/kmod/codewp.ko", F_OK))
		SKIP("no codewp.ko to load again");
	for (enum holder what = DATA; what < HOLDERS; what++) {
		map = hold(what, &bytes);
		/* A file that only close(2) held is gone by now. */
		sleep_ms(50);
		ASSERT_ERRNO(delete_module(), EWOULDBLOCK);
		if (what == DATA)
			poke(map, 1);	/* an armed page */
		else
			peek(map);
		ASSERT_ERRNO(delete_module(), EWOULDBLOCK);
		ASSERT_OK(munmap(map, bytes));
		remove_soon("after the last munmap");
		ASSERT_ERRNO(open("/dev/codewp", O_RDWR), ENOENT);
		load_module();
	}

	/* Held by another process, which is then killed. */
	ASSERT_OK(pipe(child_ready));
	pid = ASSERT_OK(fork());
	if (!pid) {
		struct rig r;

		rig_open(&r, 4, 0);
		rig_arm(&r, 0, 4);
		ASSERT_EQ(write(child_ready[1], "r", 1), 1);
		for (;;) {
			kt_arm(r.view, 0, 4 * PAGE, 0);
			poke(rig_page(&r, 2), 1);
		}
	}
	ASSERT_EQ(read(child_ready[0], &c, 1), 1);
	for (int i = 0; i < 100; i++)
		ASSERT_ERRNO(delete_module(), EWOULDBLOCK);
	ASSERT_OK(kill(pid, SIGKILL));
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	remove_soon("after the owner was killed");
	load_module();
}

/* ---- dirty clients ---- */

static uint64_t harvest(int view, uint32_t client, uint32_t flags, size_t pages)
{
	uint64_t bits = ~0ULL;
	struct codewp_dirty d = {
		.length = pages * PAGE,
		.bitmap = (uintptr_t)&bits,
		.client = client,
		.flags = flags,
	};

	ASSERT_LE(pages, 64);
	ASSERT_OK(ioctl(view, CODEWP_IOC_DIRTY, &d));
	ASSERT_EQ(d.done, pages * PAGE);
	ASSERT_EQ(d.count, __builtin_popcountll(bits));
	return bits;
}

#define GET(client)	harvest(r.view, client, 0, 8)
#define CLEAR(client)	harvest(r.view, client, CODEWP_DIRTY_CLEAR, 8)

static void set_clients(int view, uint32_t clients)
{
	struct codewp_clients c = { .clients = clients };

	ASSERT_OK(ioctl(view, CODEWP_IOC_CLIENTS, &c));
}

TEST(dirty_clients_are_independent)
{
	struct rig r;

	rig_open(&r, 8, 0);
	for (int i = 0; i < 8; i++)
		poke(rig_page(&r, i), 1);
	set_clients(r.view, CODEWP_CLIENT_DISPLAY | CODEWP_CLIENT_MIGRATION);
	ASSERT_EQ(GET(CODEWP_CLIENT_DISPLAY), 0);
	ASSERT_EQ(GET(CODEWP_CLIENT_MIGRATION), 0);

	poke(rig_page(&r, 1), 2);
	poke(rig_page(&r, 3), 2);
	ASSERT_EQ(GET(CODEWP_CLIENT_DISPLAY), 0xa);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_DISPLAY), 0xa);
	ASSERT_EQ(GET(CODEWP_CLIENT_DISPLAY), 0);
	ASSERT_EQ(GET(CODEWP_CLIENT_MIGRATION), 0xa);

	/* Written again: new for DISPLAY, old news for MIGRATION. */
	poke(rig_page(&r, 3), 3);
	poke(rig_page(&r, 6), 3);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_DISPLAY), 0x48);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_MIGRATION), 0x4a);
	poke(rig_page(&r, 3), 4);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_MIGRATION), 8);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_DISPLAY), 8);
	/* No trap, no event: nothing was armed. */
	rig_expect_none(&r);
	ASSERT_EQ(kt_stat(r.view).traps, 0);
}

TEST(dirty_clients_and_armed_pages)
{
	struct rig r;

	rig_open(&r, 8, 0);
	rig_arm(&r, 2, 3);
	set_clients(r.view, CODEWP_CLIENT_ALL);
	CLEAR(CODEWP_CLIENT_CODE);
	/* Enabling and harvesting disarm nothing. */
	for (int i = 2; i < 5; i++)
		ASSERT(rig_armed(&r, i));
	poke(rig_page(&r, 0), 1);
	rig_expect_none(&r);
	rig_store_traps(&r, 3, rig_page(&r, 3), 1);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_DISPLAY), 9);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_MIGRATION), 9);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_CODE), 9);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_CODE), 0);
	rig_store_traps(&r, 2, rig_page(&r, 2), 1);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_CODE), 4);
}

TEST(dirty_clients_count_only_while_enabled)
{
	struct rig r;
	uint64_t bits;
	struct codewp_dirty d = {
		.length = PAGE, .bitmap = (uintptr_t)&bits,
		.client = CODEWP_CLIENT_DISPLAY,
	};

	rig_open(&r, 8, 0);
	ASSERT_ERRNO(ioctl(r.view, CODEWP_IOC_DIRTY, &d), ENODATA);
	set_clients(r.view, CODEWP_CLIENT_DISPLAY);
	poke(rig_page(&r, 0), 1);
	set_clients(r.view, 0);
	poke(rig_page(&r, 1), 1);
	ASSERT_ERRNO(ioctl(r.view, CODEWP_IOC_DIRTY, &d), ENODATA);
	/* Newly enabled, it starts clean. */
	set_clients(r.view, CODEWP_CLIENT_DISPLAY);
	ASSERT_EQ(GET(CODEWP_CLIENT_DISPLAY), 0);
	poke(rig_page(&r, 2), 1);
	ASSERT_EQ(GET(CODEWP_CLIENT_DISPLAY), 4);
}

/* The kernel's writes, another process's, and those to a swapped page count. */
TEST(dirty_clients_see_every_writer)
{
	struct rig r;
	int p[2];
	pid_t pid;

	rig_open(&r, 8, 0);
	set_clients(r.view, CODEWP_CLIENT_MIGRATION);
	ASSERT_OK(pipe(p));
	ASSERT_EQ(write(p[1], "x", 1), 1);
	ASSERT_EQ(read(p[0], rig_page(&r, 5), 1), 1);
	pid = ASSERT_OK(fork());
	if (!pid) {
		poke(rig_page(&r, 7), 1);
		_exit(0);
	}
	kt_reap(pid);
	ASSERT_EQ(CLEAR(CODEWP_CLIENT_MIGRATION), 0xa0);
}

/* Harvests against writers: a count that was stored is never missed. */
struct counter {
	char *page;
	int stop;
	uint64_t n;
};

static void *count_up(void *arg)
{
	struct counter *c = arg;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		*(volatile uint64_t *)c->page = ++c->n;
		if (!(c->n & 63))
			sched_yield();
	}
	return NULL;
}

TEST_LONG(dirty_harvest_against_writers, 60)
{
	struct counter c = { 0 };
	uint64_t copy = 0;
	pthread_t t;
	struct rig r;
	int rounds = 0;

	rig_open(&r, 8, 0);
	set_clients(r.view, CODEWP_CLIENT_MIGRATION);
	c.page = rig_page(&r, 4);
	ASSERT_EQ(pthread_create(&t, NULL, count_up, &c), 0);
	/* What a migration does: copy the pages that are dirty, after asking. */
	while (rounds < 1000)
		if (CLEAR(CODEWP_CLIENT_MIGRATION) & 0x10) {
			copy = *(volatile uint64_t *)c.page;
			rounds++;
		}
	__atomic_store_n(&c.stop, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(pthread_join(t, NULL), 0);
	if (CLEAR(CODEWP_CLIENT_MIGRATION) & 0x10)
		copy = *(volatile uint64_t *)c.page;
	ASSERT_EQ(copy, c.n);
}
