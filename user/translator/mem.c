// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What the core asks of guest memory: the class of a code page, its number, its
 * alias; and the runtime's own region.
 *
 * The classes (Documentation/translator.rst): shared shmem is in a view from
 * the start, private anonymous memory once it is writable and executable
 * (mem_promote.c). Stack, brk heap, private file mappings: their blocks check
 * their own bytes while the guest can write them, and need nothing while it
 * cannot, since mem_sys.c sees that change.
 *
 * Functions marked so run in the upcall: general registers only, no libc. With
 * rt_lock held, but for mem_page_gen() and the copies at the end.
 */
#include "mem.h"
#include "restless.h"
#include "raw_syscall.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include <linux/codewp.h>

/* Generations of guest-virtual pages: mem_forget_code() raises them. */
#define GENS 4096
static uint32_t text_gen[GENS];

static uint64_t arena_next = RUNTIME_ARENA;	/* of whoever maps: atomic */

/* Guest memory is never executable for the host, but what runs can be read. */
int host_prot(int prot)
{
	if (prot & PROT_EXEC)
		prot = (prot & ~PROT_EXEC) | PROT_READ;
	return prot;
}

/*
 * Every mmap() of the runtime and its libraries comes here (module.mk: --wrap),
 * so that what may be anywhere lands in the runtime's region: the guest's own
 * mappings are placed by the kernel as if there was no runtime.
 */
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	uint64_t room = PAGE_UP(len) + PAGE;	/* a hole behind each */
	void *p;

	if (addr || room < len || room > RUNTIME_END - RUNTIME_ARENA)
		return __real_mmap(addr, len, prot, flags, fd, off);
	for (int tries = 0; tries < 64; tries++) {
		uint64_t at = __atomic_fetch_add(&arena_next, room, __ATOMIC_RELAXED);

		if (at > RUNTIME_END || room > RUNTIME_END - at) {
			__atomic_store_n(&arena_next, RUNTIME_ARENA, __ATOMIC_RELAXED);
			continue;
		}
		addr = (void *)at;
		p = __real_mmap(addr, len, prot, flags | MAP_FIXED_NOREPLACE, fd, off);
		if (p != MAP_FAILED || errno != EEXIST)
			return p;
	}
	return __real_mmap(NULL, len, prot, flags, fd, off);
}

void *mem_runtime_map(size_t size, int prot)
{
	void *p = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* ---- code pages ---------------------------------------------------------- */

/* Shared memory that others may write, where no backend sees them do it. */
static bool written_unseen(const struct mview *mv)
{
	return mv->shared && (mv->unsafe || mv->on_loan) &&
	       !(codewp_backend_info(the_ctx)->can & CODEWP_CAN_ALIASES);
}

/* May a call of another thread write to this page, wherever it is mapped? */
static bool written_by_call(const struct mview *mv, uint64_t voff, uint64_t gva)
{
	struct region *r;

	if (!mv->shared)
		return kwrite_in_flight(gva, gva + PAGE);
	for (size_t i = 0; (r = map_index(i)); i++)
		if (r->mv == mv && voff >= r->voff && voff < r->voff + (r->end - r->start) &&
		    kwrite_in_flight(r->start + voff - r->voff,
				     r->start + voff - r->voff + PAGE))
			return true;
	return false;
}

/* Of no concern to the view: mem_forget_code() has the number of its address. */
static void restless_page(uint64_t gva, struct mem_code *mc)
{
	mc->class = MEM_RESTLESS;
	mc->page = gva >> 12;
	mc->gen = mem_page_gen(NULL, mc->page);
}

static int in_view(struct region *r, uint64_t pc, struct mem_code *mc)
{
	uint64_t gva = PAGE_DOWN(pc), voff = r->voff + gva - r->start;
	const uint32_t *state = codewp_page_states(r->mv->view);
	uint32_t now;
	int err;

	if (restless(pc)) {
		restless_page(gva, mc);
		return 0;
	}
	mc->page = r->mv->base + (voff >> 12);
	mc->class = MEM_CHECKED;
	if (written_unseen(r->mv)) {
		mc->gen = mem_page_gen(NULL, mc->page);
		return 0;
	}
	/*
	 * A write between the arm and the look at the state has raised the
	 * generation and maybe disarmed the page: the next one would not be told.
	 * One that is armed already needs no call.
	 */
	now = __atomic_load_n(&state[voff >> 12], __ATOMIC_ACQUIRE);
	while (!(now & CODEWP_PAGE_ARMED) || !(now & CODEWP_PAGE_KEEP)) {
		err = codewp_arm(r->mv->view, voff, PAGE,
				 r->mv->shared ? CODEWP_HOLD : CODEWP_KEEP, NULL);
		if (err)
			return err;
		st.arms++;
		now = __atomic_load_n(&state[voff >> 12], __ATOMIC_ACQUIRE);
	}
	mc->gen = now >> 8;
	/* A call that waits in the kernel would fail when it comes to write here. */
	if (!(codewp_backend_info(the_ctx)->can & CODEWP_CAN_KERNEL_WRITES) &&
	    !kwrite_alone() && written_by_call(r->mv, voff, gva)) {
		core_invalidate_page(mc->page, 0, PAGE - 1);
		err = codewp_disarm(r->mv->view, voff, PAGE);
		mc->gen = mem_page_gen(NULL, mc->page);
		return err;
	}
	/* Somebody holds the page for I/O, and writes to it without a trap. */
	if (!(now & CODEWP_PAGE_FOREIGN))
		mc->class = MEM_VIEW;
	return 0;
}

int mem_code_page(uint64_t pc, struct mem_code *mc)
{
	uint64_t gva = PAGE_DOWN(pc);
	struct region *r = map_at(gva);
	char probe;

	mc->class = MEM_NONE;
	mc->page = gva >> 12;
	mc->gen = 0;
	mc->fault_sig = 0;
	mc->fault_code = SEGV_MAPERR;
	if (!r) {
		map_grown(gva, gva + PAGE);
		r = map_at(gva);
	}
	if (!r)
		return 0;
	if (!(r->prot & PROT_EXEC)) {
		mc->fault_code = SEGV_ACCERR;
		return 0;
	}
	if (r->kind == R_ANON && (r->prot & PROT_WRITE) && !mem_promote_around(r, gva))
		r = map_at(gva);
	/* A page past the end of its file is mapped, but is not there. */
	if (guest_copy(&probe, (const void *)gva, 1)) {
		mc->fault_sig = SIGBUS;
		mc->fault_code = BUS_ADRERR;
		return 0;
	}

	r->code = true;
	switch (r->kind) {
	case R_PVIEW:
	case R_SHM:
		return in_view(r, pc, mc);
	case R_SHARED:
		mc->class = r->foreign ? MEM_TEXT : MEM_CHECKED;
		break;
	case R_FILE:
		mc->class = r->checked || r->prot & PROT_WRITE ? MEM_CHECKED : MEM_TEXT;
		break;
	default:
		/* R_ANON here was refused a view: its blocks check themselves. */
		mc->class = r->prot & PROT_WRITE ? MEM_CHECKED : MEM_TEXT;
	}
	mc->gen = mem_page_gen(NULL, mc->page);
	return 0;
}

static bool quick_in_view(const struct region *r, uint64_t pc, struct mem_code *mc)
{
	const uint32_t ready = CODEWP_PAGE_ARMED | CODEWP_PAGE_KEEP;
	uint64_t gva = PAGE_DOWN(pc), voff = r->voff + gva - r->start;
	uint32_t now;

	if (restless(pc)) {
		restless_page(gva, mc);
		return true;
	}
	if (written_unseen(r->mv))
		return false;
	now = __atomic_load_n(&codewp_page_states(r->mv->view)[voff >> 12], __ATOMIC_ACQUIRE);
	if ((now & (ready | CODEWP_PAGE_FOREIGN)) != ready)
		return false;
	if (!(codewp_backend_info(the_ctx)->can & CODEWP_CAN_KERNEL_WRITES) && !kwrite_alone())
		return false;
	mc->page = r->mv->base + (voff >> 12);
	mc->gen = now >> 8;
	mc->class = MEM_VIEW;
	return true;
}

/* No libc. That a page is there, its reader finds out. */
bool mem_code_quick(uint64_t pc, struct mem_code *mc)
{
	const struct region *r = map_at(pc);

	if (!r || !r->code || !(r->prot & PROT_EXEC))
		return false;
	if (r->kind == R_PVIEW || r->kind == R_SHM)
		return quick_in_view(r, pc, mc);
	/* What can be written is CHECKED, or will be moved. */
	if (r->prot & PROT_WRITE || (r->kind == R_FILE && r->checked) ||
	    (r->kind == R_SHARED && !r->foreign))
		return false;
	mc->class = MEM_TEXT;
	mc->page = pc >> 12;
	mc->gen = mem_page_gen(NULL, mc->page);
	return true;
}

bool mem_data_fixed(uint64_t gva, struct mem_code *mc)
{
	struct region *r = map_at(gva);

	if (!r || r->kind != R_FILE || r->checked || (r->prot & (PROT_READ | PROT_WRITE)) != PROT_READ)
		return false;
	r->code = true;
	mc->class = MEM_TEXT;
	mc->page = gva >> 12;
	mc->gen = mem_page_gen(NULL, mc->page);
	return true;
}

/* Called in the upcall. */
uint32_t mem_page_gen(void *unused, uint64_t page)
{
	struct mview *mv = view_by_page(page);
	const uint32_t *state;

	if (!mv)
		return __atomic_load_n(&text_gen[page % GENS], __ATOMIC_ACQUIRE);
	state = codewp_page_states(mv->view);
	return __atomic_load_n(&state[page - mv->base], __ATOMIC_ACQUIRE) >> 8;
}

static void forget_view_code(const struct region *r, uint64_t from, uint64_t to)
{
	uint64_t page = view_page(r, from);

	for (uint64_t n = (to - from) >> 12; n; n--)
		core_invalidate_page(page++, 0, PAGE - 1);
}

static void forget_page_code(uint64_t from, uint64_t to)
{
	uint64_t last = to >> 12;

	if (last > (from >> 12) + GENS)
		last = (from >> 12) + GENS;
	for (uint64_t p = from >> 12; p < last; p++)
		__atomic_add_fetch(&text_gen[p % GENS], 1, __ATOMIC_RELEASE);
	core_invalidate_range(from, to);
}

/**
 * mem_forget_code() - the guest's calls changed [start, end): no translation of
 *		       the old bytes or of the old protection may live on
 */
void mem_forget_code(uint64_t start, uint64_t end)
{
	for (struct region *r; start < end; start = r->end) {
		uint64_t from, to;

		r = map_next(start);
		if (!r || r->start >= end)
			return;
		if (!r->code)
			continue;
		from = start > r->start ? start : r->start;
		to = end < r->end ? end : r->end;
		if (r->kind == R_PVIEW || r->kind == R_SHM)
			forget_view_code(r, from, to);
		forget_page_code(from, to);
		if (from == r->start && to == r->end)
			r->code = false;
	}
}

/* Called in the upcall. */
void *mem_alias(uint64_t gva, size_t len)
{
	struct region *r = map_at(gva);

	if (!r || (r->kind != R_PVIEW && r->kind != R_SHM) || gva + len > r->end)
		return NULL;
	return r->mv->alias + r->voff + (gva - r->start);
}

/* Called in the upcall. */
int mem_open_page(uint64_t gva)
{
	struct region *r = map_at(gva);

	if (!r || (r->kind != R_PVIEW && r->kind != R_SHM))
		return 0;
	return codewp_disarm(r->mv->view, PAGE_DOWN(r->voff + gva - r->start), PAGE);
}

/* Called in the upcall. */
bool mem_private(uint64_t gva)
{
	struct region *r = map_at(gva);

	return r && r->kind == R_PVIEW;
}

/* Called in the upcall. */
uint64_t mem_shown_page(uint64_t page)
{
	const struct region *r = page < FIRST_VIEW_PAGE ? map_at(page << 12) : NULL;

	if (!r || (r->kind != R_PVIEW && r->kind != R_SHM))
		return page;
	return view_page(r, page << 12);
}

uint64_t mem_page_gva(uint64_t page)
{
	struct mview *mv = view_by_page(page);
	struct region *r;

	if (!mv)
		return page < FIRST_VIEW_PAGE ? page << 12 : 0;
	for (size_t i = 0; (r = map_index(i)); i++) {
		uint64_t voff = (page - mv->base) << 12;

		if (r->mv == mv && voff >= r->voff && voff < r->voff + r->end - r->start)
			return r->start + voff - r->voff;
	}
	return 0;
}

/**
 * mem_add_foreign() - memory that the host has mapped for the guest: its vDSO
 * @start: page aligned
 * @end: page aligned
 * @prot: what the guest may do there; nothing that it could change
 * @name: for /proc/self/maps; kept
 *
 * Return: 0 or -ENOMEM.
 */
int mem_add_foreign(uint64_t start, uint64_t end, int prot, const char *name)
{
	struct region r = {
		.start = start, .end = end, .kind = R_SHARED, .prot = prot & ~PROT_WRITE,
		.foreign = true, .name = name, .no_write = true,
	};

	if (map_reserve(1))
		return -ENOMEM;
	map_add(&r);
	return 0;
}

/* ---- copies -------------------------------------------------------------- */

int guest_read(void *dst, uint64_t gva, size_t len)
{
	if (gva > TASK_END || len > TASK_END - gva)
		return -EFAULT;
	return guest_copy(dst, (const void *)gva, len) ? -EFAULT : 0;
}

/*
 * As the kernel would write it: armed pages are opened. Only for as long as the
 * copy takes is it announced.
 */
int guest_write(uint64_t gva, const void *src, size_t len)
{
	struct cpu *cpu = this_cpu();
	uint32_t was = cpu->kwrites;
	bool failed;

	if (gva > TASK_END || len > TASK_END - gva)
		return -EFAULT;
	mem_kernel_write(gva, len);
	failed = guest_copy((void *)gva, src, len);
	__atomic_store_n(&cpu->kwrites, was, __ATOMIC_RELEASE);
	return failed ? -EFAULT : 0;
}

/**
 * guest_strncpy() - copy a string out of guest memory
 * @size: of dst, not 0
 *
 * Return: its length; -EFAULT; -ENAMETOOLONG when it does not fit.
 */
long guest_strncpy(char *dst, uint64_t gva, size_t size)
{
	size_t n = 0;

	while (n < size) {
		size_t chunk = PAGE - (gva + n) % PAGE;

		if (chunk > size - n)
			chunk = size - n;
		if (guest_read(dst + n, gva + n, chunk))
			return -EFAULT;
		for (size_t i = 0; i < chunk; i++)
			if (!dst[n + i])
				return n + i;
		n += chunk;
	}
	return -ENAMETOOLONG;
}
