// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * RLIMIT_AS and RLIMIT_DATA as the guest sees them.
 *
 * The kernel counts all mappings of the process, ours too: the code cache, the
 * aliases of views. So the real soft limit is lifted to the hard one, and the
 * guest's is kept here, by what its own map has. Where the process has started
 * with a low hard limit, the kernel's count is the first to say no.
 *
 * Owns the two limits of the guest. With rt_lock held.
 */
#include "mem.h"
#include "raw_syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CACHE_PROMISED	(32UL << 20)	/* vm.overcommit_memory is 2 */
#define CACHE_LEAST	(4UL << 20)

static struct rlimit as_lim = { RLIM_INFINITY, RLIM_INFINITY };
static struct rlimit data_lim = { RLIM_INFINITY, RLIM_INFINITY };
static bool loaded;
static bool tight;
bool mem_overcommit_never;

static long host_limit(unsigned int what, const struct rlimit *new_lim, struct rlimit *old)
{
	return raw_syscall(SYS_prlimit64, 0, what, (long)new_lim, (long)old, 0, 0);
}

static char overcommit(void)
{
	long fd = raw_syscall(SYS_open, (long)"/proc/sys/vm/overcommit_memory",
			      O_RDONLY | O_CLOEXEC, 0, 0, 0, 0);
	char c = '0';

	if (fd >= 0) {
		raw_syscall(SYS_read, fd, (long)&c, 1, 0, 0, 0);
		raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	}
	return c;
}

bool mem_limit_tight(void)
{
	return tight;
}

/* Of the code cache, where all of it counts and nobody has asked for more. */
size_t mem_limit_cache(size_t bytes)
{
	size_t most = mem_overcommit_never ? CACHE_PROMISED : SIZE_MAX;

	if (tight && most > as_lim.rlim_max / 16)
		most = as_lim.rlim_max / 16;
	if (most < CACHE_LEAST)
		most = CACHE_LEAST;
	return bytes < most ? bytes : most;
}

/* mem_limit_init() - take over the limits, unless mem_limit_load() has. */
void mem_limit_init(void)
{
	struct rlimit as = { RLIM_INFINITY, RLIM_INFINITY }, data = as;

	host_limit(RLIMIT_AS, NULL, &as);
	host_limit(RLIMIT_DATA, NULL, &data);
	tight = as.rlim_max < 4UL << 30;
	mem_overcommit_never = overcommit() == '2';
	if (!loaded) {
		as_lim = as;
		data_lim = data;
	}
	as.rlim_cur = as.rlim_max;
	data.rlim_cur = data.rlim_max;
	host_limit(RLIMIT_AS, &as, NULL);
	host_limit(RLIMIT_DATA, &data, NULL);
}

/**
 * mem_limit_save() - the limits as text, for the program that is executed next
 *
 * Return: its length; 0 when there is no limit.
 */
int mem_limit_save(char *buf, size_t size)
{
	*buf = '\0';
	if (as_lim.rlim_max == RLIM_INFINITY && as_lim.rlim_cur == RLIM_INFINITY &&
	    data_lim.rlim_max == RLIM_INFINITY && data_lim.rlim_cur == RLIM_INFINITY)
		return 0;
	return snprintf(buf, size, "%lx:%lx:%lx:%lx", as_lim.rlim_cur, as_lim.rlim_max,
			data_lim.rlim_cur, data_lim.rlim_max);
}

/* mem_limit_load() - what mem_limit_save() wrote. False: it is something else. */
bool mem_limit_load(const char *text)
{
	loaded = sscanf(text, "%lx:%lx:%lx:%lx", &as_lim.rlim_cur, &as_lim.rlim_max,
			&data_lim.rlim_cur, &data_lim.rlim_max) == 4;
	return loaded;
}

/* A program that is to run untranslated has them for real; and back. */
void mem_limit_real(bool real)
{
	struct rlimit lim;

	if (real) {
		host_limit(RLIMIT_AS, &as_lim, NULL);
		host_limit(RLIMIT_DATA, &data_lim, NULL);
		return;
	}
	lim = (struct rlimit){ as_lim.rlim_max, as_lim.rlim_max };
	host_limit(RLIMIT_AS, &lim, NULL);
	lim = (struct rlimit){ data_lim.rlim_max, data_lim.rlim_max };
	host_limit(RLIMIT_DATA, &lim, NULL);
}

static bool is_data(const struct region *r)
{
	return r->prot & PROT_WRITE && (r->kind == R_ANON || r->kind == R_PVIEW ||
					r->kind == R_FILE || r->kind == R_BRK);
}

static uint64_t used(bool data)
{
	uint64_t sum = 0;
	struct region *r;

	for (size_t i = 0; (r = map_index(i)); i++) {
		/* Of a stack there is only as much as it has grown. */
		if (r->kind == R_STACK || (data && !is_data(r)))
			continue;
		sum += r->end - r->start;
	}
	return sum;
}

/* What of [start, end) is the guest's already, and will be replaced. */
static uint64_t overlap(uint64_t start, uint64_t end, bool data)
{
	uint64_t sum = 0;
	struct region *r;

	for (r = map_next(start); r && r->start < end; r = map_next(r->end)) {
		uint64_t from = start > r->start ? start : r->start;
		uint64_t to = end < r->end ? end : r->end;

		if (!data || is_data(r))
			sum += to - from;
	}
	return sum;
}

static bool exceeds(const struct rlimit *lim, uint64_t start, uint64_t len, bool data)
{
	uint64_t sum;

	if (lim->rlim_cur == RLIM_INFINITY)
		return false;
	sum = used(data) + len;
	if (start)
		sum -= overlap(start, start + len, data);
	return sum > lim->rlim_cur;
}

/**
 * mem_limit_add() - may the guest have so much more?
 * @start: where it will be; 0: not in place of anything
 * @len: bytes, less than the address space has
 * @data: private and writable
 *
 * Return: 0 or -ENOMEM.
 */
long mem_limit_add(uint64_t start, uint64_t len, bool data)
{
	if (exceeds(&as_lim, start, len, false) ||
	    (data && exceeds(&data_lim, start, len, true)))
		return -ENOMEM;
	return 0;
}

/* The same for memory that is there and becomes writable. */
long mem_limit_data(uint64_t start, uint64_t len)
{
	return exceeds(&data_lim, start, len, true) ? -ENOMEM : 0;
}

/**
 * mem_sys_prlimit() - prlimit64 of the guest's own RLIMIT_AS, RLIMIT_DATA
 *
 * The real hard limit is never lowered: we live below it, too.
 *
 * Return: 0 or -errno; -ENOSYS for any other limit.
 */
long mem_sys_prlimit(unsigned int what, const struct rlimit *new_lim, struct rlimit *old_lim)
{
	struct rlimit *guest = what == RLIMIT_AS ? &as_lim : &data_lim, was;

	if (what != RLIMIT_AS && what != RLIMIT_DATA)
		return -ENOSYS;
	was = *guest;
	if (new_lim) {
		if (new_lim->rlim_cur > new_lim->rlim_max)
			return -EINVAL;
		if (new_lim->rlim_max > guest->rlim_max && geteuid())
			return -EPERM;
		*guest = *new_lim;
	}
	if (old_lim)
		*old_lim = was;
	return 0;
}
