// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Events: kernel writes, the ring, its overflow, fork, signals of others. */
#include "conf.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* ---- rule 3: a kernel write into an armed page succeeds ----------------- */

enum { READ, READV, PREAD, RECV, NR_WAYS };

static ssize_t kernel_write_by(int way, void *to, size_t len)
{
	struct iovec iov[2] = { { to, 1 }, { (char *)to + 1, len - 1 } };
	char buf[64];
	int fd[2];
	ssize_t n;

	memset(buf, 'k', sizeof(buf));
	if (way == PREAD) {
		fd[0] = conf_memfd(sizeof(buf));
		fd[1] = -1;
		ASSERT_OK(pwrite(fd[0], buf, sizeof(buf), 0));
		n = pread(fd[0], to, len, 3);
	} else {
		ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
		ASSERT_OK(write(fd[1], buf, sizeof(buf)));
		n = way == READ ? read(fd[0], to, len) :
		    way == READV ? readv(fd[0], iov, 2) : recv(fd[0], to, len, 0);
	}
	if (n < 0)
		n = -errno;
	close(fd[0]);
	close(fd[1]);
	return n;
}

TEST(rule_3_kernel_write_into_an_armed_page)
{
	uint32_t gen;

	fx_open();
	need(CODEWP_CAN_KERNEL_WRITES);
	for (int way = 0; way < NR_WAYS; way++) {
		OK(codewp_arm(fx.view, way * PAGE, PAGE, CODEWP_KEEP, NULL));
		gen = page_gen(way);
		ASSERT_EQ(kernel_write_by(way, fx.mem + way * PAGE + 8, 32), 32);
		ASSERT_EQ(fx.alias[way * PAGE + 39], 'k');
		ASSERT_NE(page_gen(way), gen);
		ASSERT_EQ(drain_all(fx.view), 1);
		ASSERT_EQ(events[0].voff / PAGE, way);
		ASSERT(events[0].kernel);
	}
	ASSERT_EQ(traps, 0);
}

/* Without it, the call before the system call makes up for it. */
TEST(kernel_write_announced)
{
	struct codewp_stats st;
	unsigned int i;
	bool told;

	fx_open();
	told = !can(CODEWP_CAN_KERNEL_WRITES);
	for (int way = 0; way < NR_WAYS; way++) {
		unsigned char *to = fx.mem + (2 * way + 1) * PAGE - 10;
		uint32_t gen = page_gen(2 * way);

		OK(codewp_arm(fx.view, 2 * way * PAGE, 2 * PAGE, CODEWP_OPEN, NULL));
		OK(codewp_kernel_write_addr(fx.ctx, to, 32));
		/* The generation moves before the write can. */
		if (told)
			ASSERT_NE(page_gen(2 * way), gen);
		ASSERT_EQ(kernel_write_by(way, to, 32), 32);
		ASSERT_NE(page_gen(2 * way), gen);
		ASSERT_EQ(drain_all(fx.view), 2);
		for (i = 0; i < 2; i++) {
			ASSERT(events[i].kernel);
			ASSERT_EQ(events[i].voff / PAGE, 2 * way + i);
		}
		ASSERT_EQ(events[0].voff, 2 * way * PAGE + PAGE - 10);
	}
	OK(codewp_view_stats(fx.view, &st));
	ASSERT_EQ(st.kernel_writes, 2 * NR_WAYS);
	/* Nothing armed, nothing told; ranges that are no view's are fine. */
	OK(codewp_kernel_write_addr(fx.ctx, fx.mem, BYTES));
	OK(codewp_kernel_write_addr(fx.ctx, &st, sizeof(st)));
	OK(codewp_kernel_write_addr(fx.ctx, NULL, SIZE_MAX));
	ASSERT_EQ(drain_all(fx.view), 0);
	if (told) {
		OK(codewp_arm(fx.view, PAGE, 3 * PAGE, CODEWP_OPEN, NULL));
		OK(codewp_kernel_write_addr(fx.ctx, NULL, SIZE_MAX));
		ASSERT_EQ(drain_all(fx.view), 3);
		OK(codewp_arm(fx.view, PAGE, 3 * PAGE, CODEWP_OPEN, NULL));
		OK(codewp_kernel_write(fx.view, 2 * PAGE - 1, 2));
		ASSERT_EQ(drain_all(fx.view), 2);
		ASSERT(page_state(3) & CODEWP_PAGE_ARMED);
	}
}

TEST(claim_kernel_writes_is_true)
{
	fx_open();
	if (can(CODEWP_CAN_KERNEL_WRITES))
		SKIP("this backend can");
	for (int way = 0; way < NR_WAYS; way++) {
		OK(codewp_arm(fx.view, way * PAGE, PAGE, CODEWP_OPEN, NULL));
		ASSERT_EQ(kernel_write_by(way, fx.mem + way * PAGE, 32), -EFAULT);
	}
	ASSERT_EQ(drain_all(fx.view), 0);
}

/* ---- the ring ----------------------------------------------------------- */

static struct codewp_view *view_with(uint32_t ring_bytes, struct codewp_view *share,
				     uint64_t cookie, uint64_t pages, unsigned char **mem)
{
	struct codewp_view_opts vo = {
		.sz = sizeof(vo),
		.ring_bytes = ring_bytes,
		.share_ring = share,
		.cookie = cookie,
	};
	int fd = conf_memfd(pages * PAGE);
	struct codewp_view *view;
	void *p = NULL;

	OK(codewp_view_create(fx.ctx, &view, fd, 0, pages * PAGE, &vo));
	OK(codewp_map(view, &p, pages * PAGE, 0, PROT_READ | PROT_WRITE, 0));
	*mem = p;
	return view;
}

struct span {
	unsigned char *mem;
	unsigned int pages;
};

static void *write_pages(void *arg)
{
	struct span *s = arg;

	for (unsigned int i = 0; i < s->pages; i++)
		s->mem[i * PAGE + i] = 1;
	return NULL;
}

TEST(overflow_loses_no_page)
{
	struct codewp_view *view;
	struct codewp_stats st;
	bool seen[200] = { false };
	unsigned int whole = 0;
	struct span s = { .pages = 200 };

	fx_open();
	view = view_with(4096, NULL, 9, 200, &s.mem);
	OK(codewp_arm(view, 0, 200 * PAGE, CODEWP_OPEN, NULL));
	in_thread(write_pages, &s);
	OK(codewp_view_stats(view, &st));
	ASSERT_EQ(st.events, 200);
	ASSERT_EQ(st.dropped, 200 - 64);
	drain_all(view);
	for (unsigned int i = 0; i < nr_events; i++) {
		ASSERT(events[i].voff < 200 * PAGE);
		ASSERT_EQ(events[i].cookie, 9);
		seen[events[i].voff / PAGE] = true;
		whole += events[i].whole_page;
	}
	for (unsigned int i = 0; i < 200; i++)
		if (!seen[i])
			TEST_FAIL("page %u was lost", i);
	ASSERT_GE(whole, 200 - 64);
	ASSERT(!codewp_pending(view));
	ASSERT_EQ(drain_all(view), 0);
	/* And it works again. */
	OK(codewp_arm(view, 0, 10 * PAGE, CODEWP_OPEN, NULL));
	s.pages = 10;
	in_thread(write_pages, &s);
	ASSERT_EQ(drain_all(view), 10);
	ASSERT(!events[9].whole_page);
	ASSERT_EQ(events[9].voff, 9 * PAGE + 9);
}

/* More events than the ring has records, drained in time: none is dropped. */
TEST(ring_wraps_around)
{
	struct codewp_view *view;
	struct codewp_stats st;
	struct span s = { .pages = 40 };

	fx_open();
	view = view_with(4096, NULL, 9, 64, &s.mem);
	for (int round = 0; round < 20; round++) {
		OK(codewp_arm(view, 0, 40 * PAGE, CODEWP_OPEN, NULL));
		in_thread(write_pages, &s);
		ASSERT_EQ(drain_all(view), 40);
		for (int i = 0; i < 40; i++)
			ASSERT_EQ(events[i].voff, i * PAGE + i);
	}
	OK(codewp_view_stats(view, &st));
	ASSERT_EQ(st.dropped, 0);
	ASSERT_EQ(st.events, 800);
}

TEST(views_share_a_ring)
{
	struct codewp_view *a, *b;
	unsigned char *ma, *mb;

	fx_open();
	a = view_with(0, NULL, 1, 4, &ma);
	b = view_with(0, a, 2, 4, &mb);
	OK(codewp_arm(a, 0, 4 * PAGE, CODEWP_OPEN, NULL));
	OK(codewp_arm(b, 0, 4 * PAGE, CODEWP_OPEN, NULL));
	in_thread(store_thread, mb + PAGE);
	in_thread(store_thread, ma + 2 * PAGE);
	ASSERT(codewp_pending(a));
	ASSERT(codewp_pending(b));
	ASSERT(!codewp_pending(fx.view));
	ASSERT_EQ(drain_all(a), 2);
	ASSERT_EQ(events[0].cookie, 2);
	ASSERT_EQ(events[0].voff, PAGE);
	ASSERT_EQ(events[1].cookie, 1);
	/* It outlives the view that made it. */
	codewp_view_destroy(a);
	in_thread(store_thread, mb);
	ASSERT_EQ(drain_all(b), 1);
}

TEST(event_fd_is_readable_while_events_wait)
{
	struct pollfd p = { .events = POLLIN };

	fx_open();
	OK(codewp_arm(fx.view, 0, 2 * PAGE, CODEWP_OPEN, NULL));
	in_thread(store_thread, fx.mem);
	p.fd = OK(codewp_event_fd(fx.view));
	ASSERT_EQ(codewp_event_fd(fx.view), p.fd);
	ASSERT_EQ(poll(&p, 1, 0), 1);
	ASSERT_EQ(drain_all(fx.view), 1);
	ASSERT_EQ(poll(&p, 1, 0), 0);
	in_thread(store_thread, fx.mem + PAGE);
	ASSERT_EQ(poll(&p, 1, 1000), 1);
	ASSERT_EQ(drain_all(fx.view), 1);
	ASSERT_EQ(poll(&p, 1, 0), 0);
}

/* ---- fork --------------------------------------------------------------- */

static int wait_status(pid_t pid)
{
	int status;

	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(forked_child_has_no_context)
{
	pid_t pid;

	fx_open();
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	in_thread(store_thread, fx.mem);
	pid = ASSERT_OK(fork());
	if (!pid) {
		ASSERT(!codewp_pending(fx.view));
		REFUSED(codewp_drain(fx.view, (codewp_event_fn)abort, NULL), ESRCH);
		REFUSED(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL), ESRCH);
		REFUSED(codewp_disarm(fx.view, 0, PAGE), ESRCH);
		REFUSED(codewp_event_fd(fx.view), ESRCH);
		codewp_close(fx.ctx);
		/* One of its own works. */
		fx_open();
		OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
		store2(fx.mem, 1);
		_exit(traps == 1 ? 0 : 3);
	}
	ASSERT_EQ(wait_status(pid), 0);
	ASSERT_EQ(drain_all(fx.view), 1);
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem, 1);
	ASSERT_EQ(traps, 1);
}

/*
 * A thread that is inside the library most of the time, with the context's lock,
 * while another one forks without libc, which would have waited for the lock.
 */
#define BIG_PAGES (256UL << 10)
static volatile bool fork_stop;

static void *always_inside(void *arg)
{
	static uint64_t bitmap[BIG_PAGES / 64];

	while (!fork_stop)
		OK(codewp_harvest(arg, CODEWP_CLIENT_CODE, 0, BIG_PAGES * PAGE, bitmap));
	return NULL;
}

static void bare_child(void)
{
	signal(SIGALRM, SIG_DFL);
	alarm(20);
	codewp_fork_child();
	REFUSED(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL), ESRCH);
	codewp_close(fx.ctx);
	traps = 0;
	fx_open();
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem, 1);
	_exit(traps == 1 ? 0 : 3);
}

TEST_LONG(child_of_a_bare_clone_finds_the_locks_free, 60)
{
	struct codewp_view_opts vo = { .sz = sizeof(vo), .clients = CODEWP_CLIENT_CODE };
	struct codewp_view *big;
	pthread_t t;

	fx_open();
	OK(codewp_view_create(fx.ctx, &big, conf_memfd(PAGE), 0, BIG_PAGES * PAGE, &vo));
	ASSERT_EQ(pthread_create(&t, NULL, always_inside, big), 0);
	for (unsigned int i = 0; i < 30; i++) {
		pid_t pid;

		usleep(2000);		/* after us it is the other's turn again */
		pid = ASSERT_OK(syscall(SYS_clone, SIGCHLD, 0, NULL, NULL, 0));
		if (!pid)
			bare_child();
		ASSERT_EQ(wait_status(pid), 0);
		/* The parent's is left alone, held or not. */
		codewp_fork_child();
		OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
		store2(fx.mem, i);
		ASSERT_EQ(traps, i + 1);
	}
	fork_stop = true;
	ASSERT_EQ(pthread_join(t, NULL), 0);
}

TEST(private_view_is_not_inherited)
{
	pid_t pid;

	fx_open();
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_KEEP, NULL));
	pid = ASSERT_OK(fork());
	if (!pid) {
		ASSERT_ERRNO(msync(fx.mem, PAGE, MS_ASYNC), ENOMEM);
		_exit(0);
	}
	ASSERT_EQ(wait_status(pid), 0);
}

/* A child writes to a shared view that its parent armed. */
static void child_writes(void)
{
	struct codewp_open_opts o = conf_open_opts();
	pid_t pid;

	fx_open_with(&o, false);
	fx_register(NULL);
	OK(codewp_arm(fx.view, 0, 4 * PAGE, CODEWP_OPEN, NULL));
	pid = ASSERT_OK(fork());
	if (!pid) {
		store2(fx.mem + PAGE, 5);
		store2(fx.mem + PAGE + 1, 6);
		_exit(traps ? 3 : 0);
	}
	/* Never a fault of the child, whatever the parent learns. */
	ASSERT_EQ(wait_status(pid), 0);
	ASSERT_EQ(fx.alias[PAGE], 5);
	ASSERT_EQ(fx.alias[PAGE + 1], 6);
}

TEST(rule_4_another_process_is_caught)
{
	child_writes();
	need(CODEWP_CAN_ALIASES);
	ASSERT_EQ(drain_all(fx.view), 1);
	ASSERT_EQ(events[0].voff, PAGE);
	ASSERT_EQ(events[0].addr, 0);
}

TEST(claim_aliases_is_true)
{
	child_writes();
	if (can(CODEWP_CAN_ALIASES))
		SKIP("this backend can");
	ASSERT_EQ(drain_all(fx.view), 0);
	ASSERT(page_state(1) & CODEWP_PAGE_ARMED);
}

/* ---- signals ------------------------------------------------------------ */

static sigjmp_buf jump;
static volatile int foreign, ours;
static void *volatile foreign_addr;

static void program_handler(int sig, siginfo_t *info, void *uc)
{
	foreign = sig;
	foreign_addr = info->si_addr;
	siglongjmp(jump, 1);
}

TEST(foreign_faults_reach_the_programs_handler)
{
	struct sigaction sa = { .sa_sigaction = program_handler, .sa_flags = SA_SIGINFO };
	char *none = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *ro = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_OK(sigaction(SIGSEGV, &sa, NULL));
	ASSERT_OK(sigaction(SIGBUS, &sa, NULL));
	fx_open();
	OK(codewp_arm(fx.view, 0, BYTES, CODEWP_OPEN, NULL));
	for (int i = 0; i < 3; i++) {
		foreign = 0;
		if (!sigsetjmp(jump, 1))
			store2(i ? ro : none, 1);
		ASSERT_EQ(foreign, SIGSEGV);
		ASSERT(foreign_addr == (i ? ro : none));
		store2(fx.mem + i * PAGE, 1);
		ASSERT_EQ(traps, i + 1);
	}
	/* A view's mapping that the program made read-only. */
	OK(codewp_protect(fx.ctx, fx.mem + 8 * PAGE, PAGE, PROT_READ));
	foreign = 0;
	if (!sigsetjmp(jump, 1))
		store2(fx.mem + 8 * PAGE, 1);
	ASSERT_EQ(foreign, SIGSEGV);
	ASSERT_EQ(traps, 3);
	/* Sent by somebody. */
	foreign = 0;
	if (!sigsetjmp(jump, 1))
		raise(SIGSEGV);
	ASSERT_EQ(foreign, SIGSEGV);
	/* The program's handlers are back when the context is gone. */
	codewp_close(fx.ctx);
	ASSERT_OK(sigaction(SIGSEGV, NULL, &sa));
	ASSERT(sa.sa_sigaction == program_handler);
	ASSERT_OK(sigaction(SIGBUS, NULL, &sa));
	ASSERT(sa.sa_sigaction == program_handler);
}

TEST(fault_that_nobody_handles_kills)
{
	pid_t pid;

	fx_open();
	pid = ASSERT_OK(fork());
	if (!pid) {
		signal(SIGALRM, SIG_DFL);
		store2((void *)8, 1);
		_exit(0);
	}
	ASSERT_EQ(wait_status(pid), 128 + SIGSEGV);
}

static void own_handler(int sig, siginfo_t *info, void *uc)
{
	if (codewp_handle_signal(fx.ctx, sig, info, uc)) {
		ours = ours + 1;
		return;
	}
	foreign = sig;
	siglongjmp(jump, 1);
}

TEST(own_signals)
{
	struct codewp_thread_opts to = { .sz = sizeof(to), .fn = conf_callback, .signal = true };
	struct sigaction sa = { .sa_sigaction = own_handler, .sa_flags = SA_SIGINFO };
	struct codewp_open_opts o = conf_open_opts();

	o.own_signals = true;
	ASSERT_OK(sigaction(SIGSEGV, &sa, NULL));
	ASSERT_OK(sigaction(SIGBUS, &sa, NULL));
	fx_open_with(&o, true);
	fx_register(&to);
	for (int i = 0; i < 20; i++) {
		OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
		store2(fx.mem + i, i + 1);
		ASSERT_EQ(traps, i + 1);
		ASSERT_EQ(ours, i + 1);
		ASSERT_EQ(last_trap.voff, i);
		ASSERT(last_trap.view == fx.view);
		ASSERT_EQ(fx.alias[i], i + 1);
	}
	if (!sigsetjmp(jump, 1))
		store2((void *)16, 1);
	ASSERT_EQ(foreign, SIGSEGV);
	ASSERT_EQ(traps, 20);
	ASSERT_OK(sigaction(SIGSEGV, NULL, &sa));
	ASSERT(sa.sa_sigaction == own_handler);
}

static void skip_store(struct codewp_trap *trap)
{
	fx.alias[trap->voff] = trap->regs->r[0] + 1;
	trap->regs->rip += STORE2_LEN;
}

/* kmod can be told to use a signal, too; the others do nothing else. */
TEST(told_by_signal)
{
	struct codewp_thread_opts to = { .sz = sizeof(to), .fn = conf_callback, .signal = true };
	struct codewp_open_opts o = conf_open_opts();
	struct codewp_stats st;

	fx_open_with(&o, true);
	fx_register(&to);
	on_trap = skip_store;
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_KEEP, NULL));
	for (int i = 0; i < 20; i++) {
		store2(fx.mem + i, i);
		ASSERT_EQ(traps, i + 1);
		ASSERT(last_trap.armed);
		ASSERT_EQ(fx.mem[i], i + 1);
	}
	OK(codewp_view_stats(fx.view, &st));
	ASSERT_EQ(st.signals, 20);
	ASSERT_EQ(st.upcalls, 0);
}

/* ---- counters, dirty clients -------------------------------------------- */

TEST(counters_agree)
{
	struct codewp_stats st;

	fx_open();
	OK(codewp_arm(fx.view, 0, 10 * PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem, 1);
	store2(fx.mem + PAGE, 1);
	in_thread(store_thread, fx.mem + 2 * PAGE);
	OK(codewp_disarm(fx.view, 3 * PAGE, 2 * PAGE));
	OK(codewp_disarm(fx.view, 3 * PAGE, 2 * PAGE));
	OK(codewp_view_stats(fx.view, &st));
	ASSERT_EQ(st.traps, 3);
	ASSERT_EQ(st.traps, st.upcalls + st.signals + st.events);
	ASSERT_EQ(can(CODEWP_CAN_UPCALL) ? st.upcalls : st.signals, 2);
	ASSERT_EQ(st.events, 1);
	ASSERT_EQ(st.kernel_writes, 0);
	ASSERT_EQ(st.arms, 10);
	ASSERT_EQ(st.disarms, 2);
	ASSERT_EQ(st.armed, 5);
	ASSERT_EQ(st.dropped, 0);
}

TEST(harvest_of_code_gets_and_clears)
{
	uint64_t bits[2];

	fx_open();
	OK(codewp_arm(fx.view, 0, 20 * PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem + 3 * PAGE, 1);
	in_thread(store_thread, fx.mem + 17 * PAGE);
	bits[0] = bits[1] = ~0ULL;
	ASSERT_EQ(codewp_harvest(fx.view, CODEWP_CLIENT_CODE, 0, BYTES, bits), 2);
	ASSERT_EQ(bits[0], (1ULL << 3) | (1ULL << 17));
	ASSERT_EQ(bits[1], ~0ULL);
	ASSERT_EQ(codewp_harvest(fx.view, CODEWP_CLIENT_CODE, 0, BYTES, bits), 0);
	ASSERT_EQ(bits[0], 0);
	/* Part of a word; and re-arming forgets. */
	OK(codewp_arm(fx.view, 0, 20 * PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem + 5 * PAGE, 1);
	store2(fx.mem + 6 * PAGE, 1);
	OK(codewp_arm(fx.view, 6 * PAGE, PAGE, CODEWP_OPEN, NULL));
	ASSERT_EQ(codewp_harvest(fx.view, CODEWP_CLIENT_CODE, 4 * PAGE, 4 * PAGE, bits), 1);
	ASSERT_EQ(bits[0], 2);
}

TEST(dirty_clients_are_independent)
{
	uint64_t bits[1];

	fx_open();
	need(CODEWP_CAN_DIRTY);
	store2(fx.mem + 9 * PAGE, 1);
	REFUSED(codewp_harvest(fx.view, CODEWP_CLIENT_DISPLAY, 0, BYTES, bits), ENODATA);
	OK(codewp_clients(fx.view, CODEWP_CLIENT_DISPLAY | CODEWP_CLIENT_MIGRATION));
	store2(fx.mem + PAGE, 1);
	store2(fx.mem + 9 * PAGE, 1);
	ASSERT_EQ(codewp_harvest(fx.view, CODEWP_CLIENT_DISPLAY, 0, BYTES, bits), 2);
	ASSERT_EQ(bits[0], (1 << 1) | (1 << 9));
	ASSERT_EQ(codewp_harvest(fx.view, CODEWP_CLIENT_DISPLAY, 0, BYTES, bits), 0);
	store2(fx.mem + PAGE, 1);
	ASSERT_EQ(codewp_harvest(fx.view, CODEWP_CLIENT_DISPLAY, 0, BYTES, bits), 1);
	ASSERT_EQ(codewp_harvest(fx.view, CODEWP_CLIENT_MIGRATION, 0, BYTES, bits), 2);
	ASSERT_EQ(traps, 0);
}

TEST(claim_dirty_is_true)
{
	uint64_t bits[1];

	fx_open();
	if (can(CODEWP_CAN_DIRTY))
		SKIP("this backend can");
	REFUSED(codewp_clients(fx.view, CODEWP_CLIENT_DISPLAY), EOPNOTSUPP);
	REFUSED(codewp_clients(fx.view, CODEWP_CLIENT_MIGRATION), EOPNOTSUPP);
	OK(codewp_clients(fx.view, CODEWP_CLIENT_CODE));
	REFUSED(codewp_harvest(fx.view, CODEWP_CLIENT_DISPLAY, 0, BYTES, bits), EOPNOTSUPP);
	store2(fx.mem, 1);
	ASSERT_EQ(codewp_harvest(fx.view, CODEWP_CLIENT_CODE, 0, BYTES, bits), 0);
}
