// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Mappings: every one of a page traps, whatever is done to it. */
#include "conf.h"

#include <fcntl.h>

static unsigned char *map_at(uint64_t voff, size_t len, int prot)
{
	void *p = NULL;

	OK(codewp_map(fx.view, &p, len, voff, prot, 0));
	return p;
}

TEST(rule_4_two_mappings_of_a_page_both_trap)
{
	unsigned char *q;

	fx_open();
	q = map_at(2 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE);
	for (int i = 0; i < 20; i++) {
		OK(codewp_arm(fx.view, 3 * PAGE, PAGE, CODEWP_OPEN, NULL));
		store2((i & 1 ? q - 2 * PAGE : fx.mem) + 3 * PAGE + 9, i);
		ASSERT_EQ(traps, i + 1);
		ASSERT_EQ(last_trap.voff, 3 * PAGE + 9);
		/* Opened in both. */
		store2((i & 1 ? fx.mem : q - 2 * PAGE) + 3 * PAGE + 8, i);
		ASSERT_EQ(traps, i + 1);
	}
}

TEST(rule_4_mapping_made_after_the_arm_traps)
{
	unsigned char *q;

	fx_open();
	OK(codewp_arm(fx.view, PAGE, 3 * PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem + 2 * PAGE, 1);
	q = map_at(0, BYTES, PROT_READ | PROT_WRITE);
	store2(q, 1);
	store2(q + 2 * PAGE, 1);
	store2(q + 4 * PAGE, 1);
	ASSERT_EQ(traps, 1);
	store2(q + PAGE, 1);
	store2(q + 3 * PAGE, 1);
	ASSERT_EQ(traps, 3);
}

TEST(view_at_an_offset_of_the_memfd)
{
	struct codewp_view_opts vo = { .sz = sizeof(vo), .private_view = true, .cookie = 2 };
	struct codewp_view *view;
	int fd = conf_memfd(16 * PAGE);
	void *p = NULL, *q;

	fx_open();
	OK(codewp_view_create(fx.ctx, &view, fd, 4 * PAGE, 8 * PAGE, &vo));
	OK(codewp_map(view, &p, 4 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, 0));
	q = mmap(NULL, 16 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT(q != MAP_FAILED);
	OK(codewp_arm(view, 3 * PAGE, PAGE, CODEWP_OPEN, NULL));
	store2((char *)p + PAGE + 1, 0x33);
	ASSERT_EQ(traps, 1);
	ASSERT_EQ(last_trap.voff, 3 * PAGE + 1);
	ASSERT_EQ(last_trap.cookie, 2);
	ASSERT(last_trap.view == view);
	ASSERT_EQ(((unsigned char *)q)[7 * PAGE + 1], 0x33);
}

TEST(map_at_a_given_address)
{
	void *p, *want = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	fx_open();
	OK(codewp_arm(fx.view, 0, BYTES, CODEWP_OPEN, NULL));
	p = want;
	REFUSED(codewp_map(fx.view, &p, 8 * PAGE, 0, PROT_READ, MAP_FIXED_NOREPLACE), EEXIST);
	OK(codewp_map(fx.view, &p, 8 * PAGE, 0, PROT_READ | PROT_WRITE, MAP_FIXED));
	ASSERT(p == want);
	store2((char *)p + 3 * PAGE, 1);
	ASSERT_EQ(traps, 1);
	/* A mapping that is replaced is forgotten. */
	p = (char *)want + 2 * PAGE;
	OK(codewp_map(fx.view, &p, 2 * PAGE, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED));
	store2((char *)p + PAGE, 1);
	ASSERT_EQ(traps, 2);
	ASSERT_EQ(last_trap.voff, 21 * PAGE);
	OK(codewp_disarm(fx.view, 0, BYTES));
	for (int i = 0; i < 8; i++)
		store2((char *)want + i * PAGE, 1);
	ASSERT_EQ(traps, 2);
}

TEST(unmapped_range_is_gone_and_the_rest_traps)
{
	fx_open();
	OK(codewp_unmap(fx.ctx, fx.mem + 4 * PAGE, 4 * PAGE));
	OK(codewp_arm(fx.view, 0, BYTES, CODEWP_OPEN, NULL));
	store2(fx.mem + 3 * PAGE, 1);
	store2(fx.mem + 8 * PAGE, 1);
	ASSERT_EQ(traps, 2);
	OK(codewp_disarm(fx.view, 0, BYTES));
	ASSERT_ERRNO(msync(fx.mem + 4 * PAGE, PAGE, MS_ASYNC), ENOMEM);
}

TEST(protect_keeps_pages_armed)
{
	fx_open();
	OK(codewp_arm(fx.view, PAGE, 2 * PAGE, CODEWP_OPEN, NULL));
	OK(codewp_protect(fx.ctx, fx.mem, 8 * PAGE, PROT_READ));
	OK(codewp_protect(fx.ctx, fx.mem, 8 * PAGE, PROT_READ | PROT_WRITE));
	store2(fx.mem, 1);
	store2(fx.mem + 3 * PAGE, 1);
	ASSERT_EQ(traps, 0);
	store2(fx.mem + PAGE, 1);
	ASSERT_EQ(traps, 1);
	/* Armed while it is read-only for the program. */
	OK(codewp_protect(fx.ctx, fx.mem + 4 * PAGE, 2 * PAGE, PROT_NONE));
	OK(codewp_arm(fx.view, 4 * PAGE, 2 * PAGE, CODEWP_OPEN, NULL));
	OK(codewp_protect(fx.ctx, fx.mem + 4 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE));
	store2(fx.mem + 5 * PAGE, 1);
	store2(fx.mem + 2 * PAGE, 1);
	ASSERT_EQ(traps, 3);
}

/* The program's own mprotect, R and then RW: arming survives, or not. */
static unsigned int own_mprotect(void)
{
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	ASSERT_OK(mprotect(fx.mem, PAGE, PROT_READ));
	ASSERT_OK(mprotect(fx.mem, PAGE, PROT_READ | PROT_WRITE));
	store2(fx.mem, 1);
	return traps;
}

TEST(programs_own_mprotect_does_not_disarm)
{
	fx_open();
	need(CODEWP_CAN_MPROTECT);
	ASSERT_EQ(own_mprotect(), 1);
}

TEST(claim_mprotect_is_true)
{
	fx_open();
	if (can(CODEWP_CAN_MPROTECT))
		SKIP("this backend can");
	ASSERT_EQ(own_mprotect(), 0);
}

TEST(remap_moves_and_what_was_armed_is_told)
{
	void *p, *want;
	bool told = false;

	fx_open();
	OK(codewp_arm(fx.view, PAGE, PAGE, CODEWP_OPEN, NULL));
	want = mmap(NULL, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	p = fx.mem;
	OK(codewp_remap(fx.ctx, &p, BYTES, BYTES / 2, MREMAP_MAYMOVE | MREMAP_FIXED, want));
	ASSERT(p == want);
	/* Still armed, or told that it is not. */
	drain_all(fx.view);
	for (unsigned int i = 0; i < nr_events; i++)
		told |= events[i].voff / PAGE == 1;
	if (!told)
		ASSERT(page_state(1) & CODEWP_PAGE_ARMED);
	store2((char *)p + PAGE, 1);
	ASSERT_EQ(traps, !told);
	OK(codewp_arm(fx.view, 0, BYTES, CODEWP_OPEN, NULL));
	store2((char *)p + 2 * PAGE, 1);
	ASSERT_EQ(last_trap.voff, 2 * PAGE);
	ASSERT_EQ(traps, !told + 1);
	/* Grow it again. */
	OK(codewp_remap(fx.ctx, &p, BYTES / 2, BYTES, MREMAP_MAYMOVE, NULL));
	OK(codewp_arm(fx.view, 0, BYTES, CODEWP_OPEN, NULL));
	store2((char *)p + BYTES - PAGE, 1);
	ASSERT_EQ(last_trap.voff, BYTES - PAGE);
}

/* ---- rule 5 ------------------------------------------------------------- */

static unsigned int alternate(struct codewp_view *view, unsigned int pages, int *err)
{
	unsigned int i;

	*err = 0;
	for (i = 0; i < pages && !*err; i += 2)
		*err = codewp_arm(view, i * PAGE, PAGE, CODEWP_OPEN, NULL);
	return i;
}

/* Pieces that are alike again are one mapping, if the kernel joins them. */
TEST(remap_of_what_was_protected_in_pieces)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	void *p, *want = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	fx_open();
	p = fx.mem;
	OK(codewp_protect(fx.ctx, fx.mem + 3 * PAGE, PAGE, PROT_READ));
	REFUSED(codewp_remap(fx.ctx, &p, 8 * PAGE, 8 * PAGE, flags, want), EFAULT);
	OK(codewp_protect(fx.ctx, fx.mem + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE));
	err = codewp_remap(fx.ctx, &p, 8 * PAGE, 8 * PAGE, flags, want);
	if (err == -EFAULT && conf_backend() == CODEWP_KMOD)
		SKIP("this kernel joins no mappings of files that want to hear of their end");
	OK(err);
	ASSERT(p == want);
	fx.mem = p;
	for (int i = 0; i < 8; i++) {
		OK(codewp_arm(fx.view, i * PAGE, PAGE, CODEWP_OPEN, NULL));
		store2(fx.mem + i * PAGE, i);
		ASSERT_EQ(traps, i + 1);
		ASSERT_EQ(fx.alias[i * PAGE], i);
	}
}

TEST(rule_5_arming_costs_no_mapping)
{
	unsigned int before;
	int err;

	fx_open();
	need(CODEWP_CAN_NO_SPLIT);
	before = count_maps();
	alternate(fx.view, PAGES, &err);
	OK(err);
	ASSERT_EQ(count_maps(), before);
}

TEST(claim_no_split_is_true)
{
	unsigned int before;
	int err;

	fx_open();
	if (can(CODEWP_CAN_NO_SPLIT))
		SKIP("this backend can");
	before = count_maps();
	alternate(fx.view, PAGES, &err);
	OK(err);
	ASSERT_GE(count_maps(), before + PAGES / 2);
}

/* Rule 9: too many mappings is an errno, and what was armed stays armed. */
TEST_LONG(rule_9_arming_fails_loudly, 120)
{
	unsigned int pages, stop, limit = 65530;
	struct codewp_view *view;
	struct codewp_view_opts vo = { .sz = sizeof(vo), .private_view = true };
	struct codewp_arm_result res;
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	void *p = NULL;
	int err, fd;

	fx_open();
	if (f && fscanf(f, "%u", &limit) != 1)
		limit = 65530;
	if (can(CODEWP_CAN_NO_SPLIT))
		SKIP("nothing limits this backend");
	if (limit > 100000)
		SKIP("vm.max_map_count is %u", limit);
	pages = limit + 1000;
	fd = conf_memfd(pages * PAGE);
	OK(codewp_view_create(fx.ctx, &view, fd, 0, pages * PAGE, &vo));
	OK(codewp_map(view, &p, pages * PAGE, 0, PROT_READ | PROT_WRITE, 0));
	stop = alternate(view, pages, &err);
	ASSERT_EQ(err, -ENOMEM);
	ASSERT_GT(stop, limit / 2);
	/* The last call armed nothing; those before it stand. */
	ASSERT(!(codewp_page_states(view)[stop - 2] & CODEWP_PAGE_ARMED));
	ASSERT(codewp_page_states(view)[stop - 4] & CODEWP_PAGE_ARMED);
	store2((char *)p + (stop - 2) * PAGE, 1);
	ASSERT_EQ(traps, 0);
	store2((char *)p + (stop - 4) * PAGE, 1);
	ASSERT_EQ(traps, 1);
	store2((char *)p, 1);
	ASSERT_EQ(traps, 2);
	/* A range of which a part fits says how far it got. */
	err = codewp_arm(view, 1 * PAGE, 1 * PAGE, CODEWP_OPEN, &res);
	ASSERT(err == 0 || res.done == 0);
}

/* ---- ends --------------------------------------------------------------- */

TEST(destroyed_view_leaves_plain_mappings)
{
	fx_open();
	OK(codewp_arm(fx.view, 0, BYTES, CODEWP_KEEP, NULL));
	codewp_view_destroy(fx.view);
	for (unsigned int i = 0; i < PAGES; i++)
		store2(fx.mem + i * PAGE, i);
	ASSERT_EQ(traps, 0);
	OK(codewp_unmap(fx.ctx, fx.mem, BYTES));
}

TEST(open_and_close_leave_nothing_behind)
{
	struct codewp_open_opts o = conf_open_opts();
	unsigned int maps = 0, fds = 0;

	for (int i = 0; i < 30; i++) {
		fx_open_with(&o, true);
		fx_register(NULL);
		OK(codewp_event_fd(fx.view));
		OK(codewp_arm(fx.view, 0, BYTES, CODEWP_OPEN, NULL));
		store2(fx.mem, 1);
		in_thread(store_thread, fx.mem + PAGE);
		codewp_close(fx.ctx);
		store2(fx.mem + 2 * PAGE, 1);
		munmap(fx.mem, BYTES);
		close(fx.memfd);
		ASSERT_EQ(traps, i + 1);
		if (i == 1) {
			maps = count_maps();
			fds = count_fds();
		}
	}
	ASSERT_EQ(count_fds(), fds);
	ASSERT_LE(count_maps(), maps + 1);	/* malloc's arenas */
}

TEST(two_contexts_do_not_meet)
{
	struct codewp_open_opts o = conf_open_opts();
	struct fixture a, b;

	fx_open_with(&o, true);
	fx_register(NULL);
	a = fx;
	fx_open_with(&o, true);
	b = fx;
	OK(codewp_arm(a.view, 0, PAGE, CODEWP_OPEN, NULL));
	OK(codewp_arm(b.view, 0, PAGE, CODEWP_OPEN, NULL));
	store2(a.mem, 1);
	ASSERT_EQ(traps, 1);
	ASSERT(last_trap.view == a.view);
	codewp_close(a.ctx);
	store2(b.mem, 1);
	ASSERT_EQ(traps, 1);
	ASSERT_EQ(drain_all(b.view), 1);
	codewp_close(b.ctx);
}

/* A truncated page is SIGBUS, not a trap; and cannot be armed. */
static volatile int buses;

static void on_bus(int sig)
{
	buses = buses + 1;
	_exit(buses == 1 ? 0 : 1);
}

TEST(truncated_page_is_the_programs_sigbus)
{
	struct sigaction sa = { .sa_handler = on_bus };

	ASSERT_OK(sigaction(SIGBUS, &sa, NULL));
	fx_open();
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	ASSERT_OK(ftruncate(fx.memfd, PAGE));
	REFUSED(codewp_arm(fx.view, PAGE, PAGE, CODEWP_OPEN, NULL), ENXIO);
	store2(fx.mem, 1);
	ASSERT_EQ(traps, 1);
	store2(fx.mem + PAGE, 1);
	TEST_FAIL("a store behind the file's end went through");
}
