// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp guest on a process whose anonymous views and writes are this test's own:
 * which view it takes, what it says of each write, what it leaves behind, and what it
 * refuses. tests/kvm/qemu_boot.c has it watch a real guest.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <time.h>

#include <codewp.h>
#include <linux/codewp.h>

#include "tool_util.h"

#define PAGES	64UL
#define PAGE	4096UL
#define GUEST	beside("../../bin/codewp-guest")

struct vmm {
	struct codewp *ctx;
	struct codewp_view *view;
	volatile unsigned char *ram;
};

/* This process is what is watched. */
static struct vmm make_vmm(void)
{
	struct codewp_open_opts oo = { .sz = sizeof(oo), .backend = CODEWP_KMOD };
	struct vmm v = {};
	void *p = NULL;

	ASSERT_EQ(codewp_open(&v.ctx, &oo), 0);
	ASSERT_EQ(codewp_view_anon(v.ctx, &v.view, PAGES * PAGE, NULL), 0);
	ASSERT_EQ(codewp_map(v.view, &p, PAGES * PAGE, 0, PROT_READ | PROT_WRITE, 0), 0);
	v.ram = p;
	return v;
}

static const char *self(void)
{
	static char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	return pid;
}

static bool is_armed(const struct vmm *v, size_t page)
{
	/* Pairs with the kernel's update of the state under the page's lock. */
	return __atomic_load_n(&codewp_page_states(v->view)[page], __ATOMIC_ACQUIRE) &
	       CODEWP_PAGE_ARMED;
}

static void wait_armed(const struct vmm *v, size_t page)
{
	while (!is_armed(v, page))
		usleep(10000);
}

struct writes {
	struct vmm *vmm;
	const size_t *bytes;
	size_t n;
	volatile pid_t tid;
};

static void *writer(void *arg)
{
	struct writes *w = arg;

	w->tid = gettid();
	for (size_t i = 0; i < w->n; i++) {
		wait_armed(w->vmm, w->bytes[i] / PAGE);
		w->vmm->ram[w->bytes[i]] = 1;
	}
	return NULL;
}

static pthread_t start_writer(struct writes *w)
{
	pthread_t t;

	ASSERT_EQ(pthread_create(&t, NULL, writer, w), 0);
	return t;
}

static void refused(struct said s, const char *words)
{
	if (s.status != 125 || !strstr(s.err, words))
		TEST_FAIL("status %d, not 125 and '%s': %.300s", s.status, words, s.err);
	ASSERT(!s.out[0]);
}

/* Each write once, its byte and its thread; a page again after it was armed again. */
TEST(tells_each_write)
{
	static const size_t bytes[] = { 3 * PAGE + 5, 7 * PAGE + 4095, 3 * PAGE + 6 };
	struct vmm v = make_vmm();
	struct writes w = { .vmm = &v, .bytes = bytes, .n = 3 };
	pthread_t t = start_writer(&w);
	time_t start = time(NULL);
	char want[64];
	struct said s;

	s = RUN(GUEST, "-p", self(), "-a", "0x3000-0x8000", "-c", "3", "-d",
		"20", "-e", "-n", "1");
	if (s.status || !strstr(s.err, "armed 5 of 64 pages"))
		TEST_FAIL("status %d: %.300s", s.status, s.err);
	if (time(NULL) - start >= 20)
		TEST_FAIL("not ended by the count: %.300s", s.out);
	for (int i = 0; i < 3; i++) {
		snprintf(want, sizeof(want), "0x%09zx  tid %d\n", bytes[i], w.tid);
		if (!strstr(s.out, want))
			TEST_FAIL("no '%.40s' in: %.300s", want, s.out);
	}
	if (!strstr(s.out, "0x000003000         0         2  0x000003006") ||
	    !strstr(s.out, "... and 1 more pages") ||
	    !strstr(s.out, "3 writes seen, on 2 pages"))
		TEST_FAIL("the table: %.400s", s.out);
	for (size_t i = 0; i < PAGES; i++)
		ASSERT(!is_armed(&v, i));
	pthread_join(t, NULL);
}

TEST(once)
{
	static const size_t bytes[] = { 0, PAGE };
	struct vmm v = make_vmm();
	struct writes w = { .vmm = &v, .bytes = bytes, .n = 2 };
	struct said s;

	start_writer(&w);
	s = RUN(GUEST, "-p", self(), "-A", "-1", "-i", "0.01", "-d", "2");
	ASSERT_EQ(s.status, 0);
	if (!strstr(s.out, "2 writes seen, on 2 pages"))
		TEST_FAIL("%.300s", s.out);
}

TEST(ends_with_the_process)
{
	struct vmm v;
	struct said s;
	char pid[16];
	int p[2];
	char c;

	ASSERT_OK(pipe(p));
	pid_t child = ASSERT_OK(fork());

	if (!child) {
		v = make_vmm();
		ASSERT_EQ(write(p[1], "", 1), 1);
		wait_armed(&v, PAGES - 1);
		v.ram[PAGE] = 1;
		_exit(0);
	}
	ASSERT_EQ(read(p[0], &c, 1), 1);
	snprintf(pid, sizeof(pid), "%d", child);
	s = RUN(GUEST, "-p", pid, "-A");
	ASSERT_EQ(s.status, 0);
	if (!strstr(s.out, "1 writes seen, on 1 pages"))
		TEST_FAIL("%.300s", s.out);
}

TEST(which_view)
{
	struct vmm a, b;
	char fd[16];
	struct said s;
	int other;

	refused(RUN(GUEST, "-p", self(), "-A"), "has no memory from /dev/codewp");
	/* The device, open, and not a view yet: as good as nothing. */
	other = ASSERT_OK(open("/dev/codewp", O_RDWR));
	refused(RUN(GUEST, "-p", self(), "-A"), "has no memory from /dev/codewp");
	snprintf(fd, sizeof(fd), "%d", other);
	refused(RUN(GUEST, "-p", self(), "-f", fd, "-A"), "is no view of /dev/codewp");
	a = make_vmm();
	/* Two numbers of one view. */
	ASSERT_OK(dup(codewp_view_fd(a.view)));
	s = RUN(GUEST, "-p", self(), "-A", "-d", "0.1");
	ASSERT_EQ(s.status, 0);
	b = make_vmm();
	refused(RUN(GUEST, "-p", self(), "-A"), "several views");
	snprintf(fd, sizeof(fd), "%d", codewp_view_fd(b.view));
	s = RUN(GUEST, "-p", self(), "-f", fd, "-A", "-d", "0.1");
	if (s.status)
		TEST_FAIL("status %d: %.300s", s.status, s.err);
}

TEST(range_beyond_the_end)
{
	struct vmm v = make_vmm();

	refused(RUN(GUEST, "-p", self(), "-a", "0x3f000-0x41000"), "the view ends at 0x40000");
	refused(RUN(GUEST, "-p", self(), "-a", "0-1", "-a", "0xfffffffffffff000"),
		"the view ends at 0x40000");
	for (size_t i = 0; i < PAGES; i++)
		ASSERT(!is_armed(&v, i));
}

/* Another user has no right to the descriptor, and so none to the view. */
TEST(another_user)
{
	char command[256];
	struct said s;

	if (geteuid())
		SKIP("needs root, to become somebody else");
	make_vmm();
	s = RUN("/bin/su", "user", "-s", "/bin/sh", "-c", "true");
	if (s.status)
		SKIP("no su, or no user 'user': %.100s", s.err);
	snprintf(command, sizeof(command), "%s -p %s -A", GUEST, self());
	s = RUN("/bin/su", "user", "-s", "/bin/sh", "-c", command);
	refused(s, "ermission denied");
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
