// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The upcall under fire: it is exact, nesting falls back to the ring, signals
 * that storm in do not lose or double a store, and a registration may go away
 * while its thread traps.
 */
#include "kmod_test.h"

TEST(upcall_open_stores_once)
{
	int memfd = kt_memfd(PAGE), fd;
	int view = kt_view(memfd, PAGE, 0);
	uint64_t *map = kt_map(view, PAGE);
	struct codewp_area *area;

	area = kt_register(kt_handler_open, CODEWP_THREAD_UPCALL, -1, &fd);
	for (int i = 1; i <= 1000; i++) {
		ASSERT_OK(kt_arm(view, 0, PAGE, CODEWP_ARM_OPEN));
		kt_inc8(map + 5);
		ASSERT_EQ(map[5], i);
		ASSERT_EQ(area->scratch[0], i);
		ASSERT_EQ(area->offset, 40);
		ASSERT_EQ(area->addr, (uintptr_t)(map + 5));
		ASSERT_EQ(area->ip, (uintptr_t)kt_inc8);
		ASSERT_EQ(area->cookie, 0xc0de);
		ASSERT_EQ(area->reason, CODEWP_REASON_TRAP);
		ASSERT_EQ(area->state & CODEWP_PAGE_ARMED, 0);
		kt_inc8(map + 6);	/* the page is open now */
		ASSERT_EQ(area->scratch[0], i);
	}
	ASSERT_EQ(kt_stat(view).upcalls, 1000);
	ASSERT_EQ(kt_stat(view).events, 0);
	ASSERT_EQ(area->upcalls, 1000);
}
