// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The code cache: one fixed reservation of three parts, host code, the data that
 * belongs to it, and a table of who owns which piece of code. All three grow
 * upwards only. Exit stubs, which most often run once, grow downwards from the end of
 * the code, so that what runs stands close together. Nothing is freed until the cache
 * is full, then everything is at once. So a dead TB's memory is good until then, and a
 * trap can look at the TB that it interrupted whatever has happened to it.
 *
 * Freed by epochs: a flush makes every TB unreachable, raises the epoch, and
 * starts again at the bottom only when every thread is out of the cache or has
 * entered it since. While it waits for them it does not hold rt_lock, which
 * guards all of this; nothing is allocated then. A thread that may hold addresses
 * of the cache says so in cpu->epoch (cache_enter, cache_leave). Readers of the
 * table (signal handlers, too) are such threads, and see an entry only when it is
 * whole.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hot.h"
#include "stylized.h"
#include "restless.h"
#include "raw_syscall.h"
#include "runtime.h"

/* It is emptied early when more than this part of its size is dead, or descriptors. */
#define DEAD_PART	8
#define MAP_PART	2

/* As processors fetch: 32 gains 2 to 5 % over 16 on Intel's, nothing on AMD's. */
#define CODE_ALIGN	32
#define META_ALIGN	8

/* movl $exit - core_exit, %gs:d32; jmp core_exit (block.c) */
#define STUB_BYTES	17
#define STUB_EXIT	8

static uint8_t *code_start, *code_next, *stub_next, *code_end;
static uint8_t *meta_start, *meta_next, *meta_end;
/* Offsets from code_start; the lowest bits of owner, which is aligned, are its kind. */
#define KIND_MASK 3U
static struct range {
	uint32_t start, owner;
} *ranges;
static size_t nr_ranges, max_ranges;
static uint64_t epoch = 1;
static bool flushing;		/* somebody waits for the others to leave */
static size_t dead_bytes;	/* of TBs that were dropped since the last flush */

int cache_init(size_t bytes, void *base)
{
	size_t code, meta, table, i;
	uint8_t *p = MAP_FAILED;

	if (bytes < 512 * 1024)
		bytes = 512 * 1024;
	if (bytes > (1024UL << 20))
		bytes = 1024UL << 20;
	/* As much data as code, and an eighth of that for the table. */
	code = (bytes / 17 * 8 + 4095) & ~4095UL;
	meta = code;
	max_ranges = code / 64;
	table = (max_ranges * sizeof(*ranges) + 4095) & ~4095UL;

	/* Offsets of 32 bits lead from the code to enter.S and to the data. */
	if (!base)
		base = (void *)(((uintptr_t)core_exit & ~0x3fffffffUL) + 0x40000000UL);
	for (i = 0; i < 8 && p == MAP_FAILED; i++)
		p = mmap((char *)base + i * (64UL << 20), code + meta + table,
			 PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
			 -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (labs((long)p - (long)core_exit) > 0x60000000L ||
	    labs((long)p + (long)(code + meta) - (long)core_exit) > 0x60000000L) {
		munmap(p, code + meta + table);
		return -ERANGE;
	}
	if (mprotect(p, code, PROT_READ | PROT_WRITE | PROT_EXEC)) {
		int err = -errno;

		munmap(p, code + meta + table);
		return err;
	}
	code_start = p;
	code_next = p;
	code_end = p + code;
	stub_next = code_end;
	meta_start = code_end;
	meta_next = meta_start;
	meta_end = meta_start + meta;
	ranges = (struct range *)meta_end;
	return 0;
}

struct emit cache_begin(size_t need)
{
	struct emit e = { code_next, stub_next - TB_MAX_EXITS * STUB_BYTES, false };

	if (flushing || e.end - e.p < (ptrdiff_t)need || nr_ranges == max_ranges) {
		e.end = e.p;
		e.full = true;
	}
	return e;
}

void cache_commit(const uint8_t *start, struct emit *e, enum cache_kind kind, void *owner)
{
	struct range *r = &ranges[nr_ranges];

	r->start = start - code_start;
	r->owner = ((uint8_t *)owner - code_start) | kind;
	/* Pairs with the acquire in cache_find(). */
	__atomic_store_n(&nr_ranges, nr_ranges + 1, __ATOMIC_RELEASE);
	code_next = (uint8_t *)round_up((uintptr_t)e->p, CODE_ALIGN);
	if (code_next > stub_next)
		code_next = stub_next;
}

struct emit cache_stub(void)
{
	uint8_t *p = stub_next - STUB_BYTES;

	__atomic_store_n(&stub_next, p, __ATOMIC_RELAXED);
	return (struct emit){ p, p + STUB_BYTES, false };
}

void *cache_meta_begin(size_t most)
{
	return flushing || (size_t)(meta_end - meta_next) < most + 8 ? NULL : meta_next;
}

void cache_meta_take(size_t size)
{
	meta_next += round_up(size, META_ALIGN);
}

void *cache_meta(size_t size)
{
	uint64_t *p = cache_meta_begin(size);
	size_t i;

	if (!p)
		return NULL;
	cache_meta_take(size);
	for (i = 0; i < (size + 7) / 8; i++)	/* a flush leaves old data behind */
		p[i] = 0;
	return p;
}

size_t cache_used(void)
{
	return code_next - code_start + (code_end - stub_next) + (meta_next - meta_start) +
	       nr_ranges * sizeof(*ranges);
}

static void *range_owner(const struct range *r)
{
	return code_start + (r->owner & ~KIND_MASK);
}

/* Only for who is in the stub: it is whole then. */
static void find_stub(uint64_t host_pc, struct cache_range *r)
{
	uint64_t nr = ((uint64_t)code_end - 1 - host_pc) / STUB_BYTES;
	int32_t exit;

	r->start = code_end - (nr + 1) * STUB_BYTES;
	memcpy(&exit, r->start + STUB_EXIT, sizeof(exit));
	r->kind = CACHE_STUB;
	r->owner = exit_tb((const struct tb_exit *)(core_exit + exit));
}

bool cache_find(uint64_t host_pc, struct cache_range *r)
{
	size_t lo = 0, hi = __atomic_load_n(&nr_ranges, __ATOMIC_ACQUIRE);
	uint64_t off = host_pc - (uint64_t)code_start;

	if (off >= (size_t)(code_end - code_start))
		return false;
	if (host_pc >= (uint64_t)__atomic_load_n(&stub_next, __ATOMIC_RELAXED)) {
		find_stub(host_pc, r);
		return true;
	}
	/* The last one that does not begin behind it; nothing runs between two. */
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (off < ranges[mid].start)
			hi = mid;
		else
			lo = mid + 1;
	}
	if (!lo)
		return false;
	r->start = code_start + ranges[lo - 1].start;
	r->kind = ranges[lo - 1].owner & KIND_MASK;
	r->owner = range_owner(&ranges[lo - 1]);
	return true;
}

/* Outside of rt_lock, too. What aligns it counts, or the dead are never most of it. */
void cache_died(const struct tb *tb)
{
	size_t meta = tb_src(tb) + tb->guest_bytes - (const uint8_t *)tb;
	size_t n = round_up(tb->host_bytes, CODE_ALIGN) + tb->cm.jumps * STUB_BYTES +
		   round_up(meta, META_ALIGN) + sizeof(struct range);

	__atomic_fetch_add(&dead_bytes, n, __ATOMIC_RELAXED);
}

/*
 * Most of it dead: emptying it costs the live TBs' translation, which is less than
 * what the dead ones have cost, and a program that makes code for hours stays small.
 */
static bool mostly_dead(void)
{
	size_t dead = __atomic_load_n(&dead_bytes, __ATOMIC_RELAXED);

	return dead >= (size_t)(code_end - code_start) / DEAD_PART && dead >= cache_used() / 3 * 2;
}

/* Store sites and step TBs made in traps live on the reserve kept here. */
#define RESERVE (64 * 1024)

bool cache_room(void)
{
	return !flushing && !mostly_dead() &&
	       codemap_bytes(the_map) <= (size_t)(code_end - code_start) / MAP_PART &&
	       stub_next - code_next >= RESERVE + TB_MAX_HOST &&
	       meta_end - meta_next >= RESERVE + TB_MAX_HOST &&
	       max_ranges - nr_ranges >= 1024;
}

void cache_for_each_tb(void (*fn)(struct tb *tb, void *arg), void *arg)
{
	size_t i;

	for (i = 0; i < nr_ranges; i++)
		if ((ranges[i].owner & KIND_MASK) == CACHE_TB)
			fn(range_owner(&ranges[i]), arg);
}

static void drop_tb(struct tb *tb, void *unused)
{
	if (!(tb->flags & TB_STEP))
		codemap_invalidate_tb(the_map, &tb->cm);
}

/*
 * Has its task ended without leaving? A process that shares our memory can be
 * killed anywhere. (That of vfork is its parent's to take back.)
 */
static bool gone(const struct cpu *cpu)
{
	return cpu->proc && cpu->proc->vforked && !cpu->vfork && cpu->tid &&
	       raw_syscall(SYS_tkill, cpu->tid, 0, 0, 0, 0, 0) == -ESRCH;
}

static void wait_until_left(const struct cpu *cpu, uint64_t now)
{
	for (unsigned int n = 0;; n++) {
		uint64_t e = __atomic_load_n(&cpu->epoch, __ATOMIC_ACQUIRE);

		if (!e || e >= now || (n % 1024 == 1023 && gone(cpu)))
			return;
		if (n < 64)
			sched_yield();
		else
			usleep(100);
	}
}

/**
 * cache_flush() - drop everything, so that there is room
 * @cpu: the caller, who holds rt_lock but no address of the cache
 *
 * rt_lock is not held all the time.
 */
void cache_flush(struct cpu *cpu)
{
	uint64_t now;

	cpu->last_tb = NULL;
	if (flushing) {
		do {
			rt_unlock();
			usleep(50);
			rt_lock();
		} while (flushing);
		return;
	}
	cache_for_each_tb(drop_tb, NULL);
	/*
	 * Pairs with cache_enter(): either the scan below sees that a thread has
	 * entered, or that thread does not find what was dropped.
	 */
	now = __atomic_add_fetch(&epoch, 1, __ATOMIC_SEQ_CST);
	flushing = true;
	rt_unlock();
	/* Nothing leads back into its TB, so each leaves at the next edge. */
	for (struct cpu *c = __atomic_load_n(&all_cpus, __ATOMIC_ACQUIRE); c; c = c->next)
		if (c != cpu)
			wait_until_left(c, now);
	rt_lock();
	/* Whoever has entered since finds no TB, and inserts none. */
	codemap_trim(the_map);
	st.flushes++;
	cache_reset();
	jump_cache_flushed();
}

void cache_reset(void)
{
	flushing = false;
	dead_bytes = 0;
	nr_ranges = 0;
	code_next = code_start;
	stub_next = code_end;
	meta_next = meta_start;
	hot_reset();
	stylized_reset();
	restless_reset();
}

uint64_t cache_epoch(void)
{
	return __atomic_load_n(&epoch, __ATOMIC_ACQUIRE);
}

void cache_enter(struct cpu *cpu)
{
	/* Pairs with cache_flush(): what is looked up afterwards is not dropped. */
	__atomic_store_n(&cpu->epoch, cache_epoch(), __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void cache_leave(struct cpu *cpu)
{
	__atomic_store_n(&cpu->epoch, 0, __ATOMIC_RELEASE);
}

void cache_bounds(uint64_t *start, uint64_t *end)
{
	*start = (uint64_t)code_start;
	*end = (uint64_t)code_end;
}
