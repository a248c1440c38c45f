/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * A rig for the memory tests: one memfd, one view of all of it, mapped; its
 * ring, its page states and its counters, with checks that count every event.
 *
 * The tests store through plain pointers from threads that are not registered,
 * so each trap must appear in the ring, exactly once.
 */
#ifndef CODEWP_MEM_UTIL_H
#define CODEWP_MEM_UTIL_H

#include "kmod_test.h"

#define RIG_RING_BYTES 65536U

struct rig {
	size_t pages;
	int memfd;
	int view;
	char *map;		/* through the view */
	char *alias;		/* the memfd's own mapping; made by rig_alias() */
	struct codewp_ring *ring;
	const uint32_t *states;
};

static inline void rig_open_memfd(struct rig *r, int memfd, size_t pages,
				  uint32_t flags)
{
	memset(r, 0, sizeof(*r));
	r->pages = pages;
	r->memfd = memfd;
	r->view = kt_view(memfd, pages * PAGE, flags);
	r->map = kt_map(r->view, pages * PAGE);
	r->ring = kt_ring(r->view, RIG_RING_BYTES);
	r->states = kt_states(r->view, pages);
}

static inline void rig_open(struct rig *r, size_t pages, uint32_t flags)
{
	rig_open_memfd(r, kt_memfd(pages * PAGE), pages, flags);
}

static inline char *rig_alias(struct rig *r)
{
	if (!r->alias)
		r->alias = kt_alias(r->memfd, r->pages * PAGE);
	return r->alias;
}

static inline char *rig_page(const struct rig *r, size_t page)
{
	return r->map + page * PAGE;
}

/* A store that the compiler neither drops nor merges. */
static inline void poke(void *p, char value)
{
	*(volatile char *)p = value;
}

static inline char peek(const void *p)
{
	return *(const volatile char *)p;
}

static inline uint32_t rig_gen(const struct rig *r, size_t page)
{
	return CODEWP_PAGE_GEN(kt_state(r->states, page));
}

static inline bool rig_armed(const struct rig *r, size_t page)
{
	return kt_state(r->states, page) & CODEWP_PAGE_ARMED;
}

/* Arm [page, page + n) and see that all of it is. Returns the foreign pages. */
static inline uint64_t rig_arm(const struct rig *r, size_t page, size_t n)
{
	struct codewp_arm a = { .offset = page * PAGE, .length = n * PAGE };

	ASSERT_OK(ioctl(r->view, CODEWP_IOC_ARM, &a));
	ASSERT_EQ(a.done, n * PAGE);
	for (size_t i = page; i < page + n; i++) {
		ASSERT(rig_armed(r, i));
		ASSERT(!(kt_state(r->states, i) & CODEWP_PAGE_WRITTEN));
	}
	return a.foreign;
}

/*
 * The ring holds exactly one event, for this page and of these flags, and the
 * page is disarmed and marked written. Returns the event.
 */
static inline struct codewp_event rig_expect(struct rig *r, size_t page,
					     uint32_t flags)
{
	struct codewp_event ev, more;

	if (!kt_event(r->ring, &ev))
		TEST_FAIL("page %zu: the write was not told (state %#x)", page,
			  kt_state(r->states, page));
	ASSERT_EQ(ev.offset / PAGE, page);
	ASSERT_EQ(ev.flags, flags);
	ASSERT_EQ(ev.gen, rig_gen(r, page));
	if (kt_event(r->ring, &more))
		TEST_FAIL("a second event, for page %llu, flags %#x",
			  (unsigned long long)(more.offset / PAGE), more.flags);
	ASSERT(!rig_armed(r, page));
	ASSERT(kt_state(r->states, page) & CODEWP_PAGE_WRITTEN);
	return ev;
}

/* Nothing was told. */
static inline void rig_expect_none(struct rig *r)
{
	struct codewp_event ev;

	if (kt_event(r->ring, &ev))
		TEST_FAIL("an event nobody asked for: page %llu, flags %#x",
			  (unsigned long long)(ev.offset / PAGE), ev.flags);
}

/*
 * Take all events; each must be for a different page of [page, page + n).
 * Returns how many there were.
 */
static inline size_t rig_collect(struct rig *r, size_t page, size_t n, char *seen)
{
	struct codewp_event ev;
	size_t count = 0;

	memset(seen, 0, n);
	while (kt_event(r->ring, &ev)) {
		size_t i = ev.offset / PAGE - page;

		ASSERT_LT(i, n);
		if (seen[i]++)
			TEST_FAIL("page %zu told twice", page + i);
		count++;
	}
	return count;
}

/* Store to the page through p; it must be told as a plain user-mode store. */
static inline void rig_store_traps(struct rig *r, size_t page, char *p, char value)
{
	poke(p, value);
	rig_expect(r, page, CODEWP_EVENT_SELF);
	ASSERT_EQ(peek(p), value);
}

static inline size_t count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	size_t n = 0;
	int c;

	ASSERT(f);
	while ((c = getc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

/* One value out of a file of lines "name value" or "name: value kB"; or -1. */
static inline long long read_value(const char *file, const char *name)
{
	FILE *f = fopen(file, "r");
	size_t len = strlen(name);
	long long value = -1;
	char line[256];

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, len) && (line[len] == ' ' || line[len] == ':')) {
			value = atoll(line + len + 1);
			break;
		}
	fclose(f);
	return value;
}

static inline bool write_file(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static inline void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

#endif
