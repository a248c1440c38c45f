// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * See fake.h. MEM_VIEW is not offered: what traps do is tested with whole
 * programs, on real backends (tests/translator).
 */
#include <stdarg.h>
#include <string.h>

#include "debug.h"
#include "fake.h"
#include "test.h"

enum mem_class fake_class = MEM_TEXT;
struct cpu_room fake_room;
uint32_t fake_gen;

uint32_t thread_count(void);
uint32_t thread_count(void)
{
	return 1;
}
void (*fake_after_read)(void);

struct codewp *the_ctx;
bool log_on;
bool perfmap_on;

int mem_code_page(uint64_t gva, struct mem_code *mc)
{
	*mc = (struct mem_code){ .class = gva < 4096 ? MEM_NONE : fake_class,
				 .page = gva >> 12, .gen = mem_page_gen(NULL, gva >> 12),
				 .fault_code = SEGV_MAPERR };
	return 0;
}

bool mem_code_quick(uint64_t gva, struct mem_code *mc)
{
	mem_code_page(gva, mc);
	return mc->class == MEM_TEXT;
}

bool mem_data_fixed(uint64_t gva, struct mem_code *mc)
{
	return false;
}

uint32_t mem_page_gen(void *unused, uint64_t page)
{
	return __atomic_load_n(&fake_gen, __ATOMIC_ACQUIRE);
}

void *mem_alias(uint64_t gva, size_t len)
{
	return NULL;
}

int mem_open_page(uint64_t gva)
{
	return 0;
}

uint64_t mem_shown_page(uint64_t page)
{
	return page;
}

bool mem_private(uint64_t gva)
{
	return false;
}

struct codewp_view *mem_base_view(void)
{
	return NULL;
}

int guest_read(void *dst, uint64_t gva, size_t len)
{
	void (*fn)(void) = fake_after_read;

	memcpy(dst, (const void *)gva, len);
	fake_after_read = NULL;
	if (fn)
		fn();
	return 0;
}

void stats_page(uint64_t page, enum stat_kind kind, uint64_t n)
{
}

void perfmap_tb(const struct tb *tb)
{
	abort();	/* never on */
}

void log_tb(uint64_t pc, size_t guest_bytes, size_t insns, const void *host,
	    size_t host_bytes)
{
}

void fatal(const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(test_why, 512, "fatal: ");

	va_start(ap, fmt);
	vsnprintf(test_why + n, 512 - n, fmt, ap);
	va_end(ap);
	_exit(1);
}

/* No view exists, so nobody calls these. */
bool codewp_pending(const struct codewp_view *view)
{
	return false;
}

int codewp_drain(struct codewp_view *view, codewp_event_fn fn, void *arg)
{
	return -ENOSYS;
}

const char *codewp_strerror(int err)
{
	return strerror(-err);
}

const struct codewp_backend_info *codewp_backend_info(const struct codewp *ctx)
{
	return NULL;
}

void codewp_thread_unregister(struct codewp_thread *thread)
{
}

int codewp_thread_register(struct codewp *ctx, struct codewp_thread **thread,
			   const struct codewp_thread_opts *opts)
{
	return -ENOSYS;
}

struct codewp_area *codewp_thread_area(struct codewp_thread *thread)
{
	return NULL;
}

void fake_start(const struct core_opts *opts)
{
	ASSERT_EQ(core_cpu_init(&fake_cpu), 0);
	ASSERT_EQ(core_init(opts), 0);
	ASSERT_EQ(core_thread_init(&fake_cpu), 0);
}

bool mem_mapped(uint64_t addr)
{
	return addr >= 4096;
}

int guest_write(uint64_t gva, const void *src, size_t len)
{
	memcpy((void *)gva, src, len);
	return 0;
}

void *mem_runtime_map(size_t size, int prot)
{
	return NULL;		/* no windows: nothing gets hot */
}
