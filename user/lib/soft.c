// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * All that the two backends without a module share: what arming, a trap, a
 * kernel write and a change of mappings do to page states, to every mapping of
 * a page, and to the event queue. How one range of addresses is made to trap is
 * behind struct soft_ops.
 *
 * Everything here runs under the context's lock, the signal path included;
 * only the callback runs without it.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <ucontext.h>
#include <unistd.h>

#include "backend.h"
#include "state.h"

#define X86_TRAP_PF	14
#define PF_WRITE	2U	/* error code of a page fault */
#define PF_USER		4U

/* The part of a view's mapping that shows [first, end), in pages. */
struct window {
	uintptr_t addr;
	size_t len;
	int prot;
};

static bool window_of(const struct map *m, uint64_t first, uint64_t end,
		      struct window *w)
{
	uint64_t m_first = m->voff >> PAGE_SHIFT;
	uint64_t m_end = m_first + ((m->end - m->start) >> PAGE_SHIFT);

	if (first < m_first)
		first = m_first;
	if (end > m_end)
		end = m_end;
	if (first >= end)
		return false;
	w->addr = m->start + ((first - m_first) << PAGE_SHIFT);
	w->len = (end - first) << PAGE_SHIFT;
	w->prot = m->prot;
	return true;
}

/* Every mapping of [first, end): trap, or pass. Stops at the first error. */
static int every_map(struct codewp_view *view, uint64_t first, uint64_t end, bool trap)
{
	struct codewp *ctx = view->ctx;
	const struct map *maps = ctx->track.maps;
	struct window w;
	int err = 0;

	for (uint32_t id = view->maps; id && !err; id = maps[id].next)
		if (window_of(&maps[id], first, end, &w))
			err = trap ? ctx->soft->trap(ctx, w.addr, w.len, w.prot)
				   : ctx->soft->pass(ctx, w.addr, w.len, w.prot);
	return err;
}

static void post(struct codewp_view *view, uint64_t voff, uint64_t addr,
		 uint64_t ip, uint32_t flags, uint32_t state)
{
	struct codewp_event ev = {
		.cookie = view->cookie,
		.offset = voff,
		.addr = addr,
		.ip = ip,
		.view = view->id,
		.flags = flags | CODEWP_EVENT_SELF,
		.tid = syscall(SYS_gettid),
		.gen = CODEWP_PAGE_GEN(state),
	};

	view->stats.events++;
	if (flags & CODEWP_EVENT_KERNEL)
		view->stats.kernel_writes++;
	if (!ring_post(view->ring, &ev))
		view->stats.dropped++;
}

/*
 * The way out when a page cannot be opened by itself (a mapping would have to
 * be split and there are too many): the whole view is opened, which only joins
 * mappings. Every page that this opens is told.
 */
static int open_view(struct codewp_view *view)
{
	uint64_t page = 0;

	while ((page = state_next_armed(view, page, view->pages)) < view->pages) {
		uint32_t state = state_open(view, page, true);

		view->stats.traps++;
		post(view, page << PAGE_SHIFT, 0, 0, 0, state);
	}
	return every_map(view, 0, view->pages, false);
}

static int pass_pages(struct codewp_view *view, uint64_t first, uint64_t end)
{
	int err = every_map(view, first, end, false);

	return err ? open_view(view) : 0;
}

/*
 * Open the armed pages of [first, end). The state goes first: the generation
 * has moved before any store can be seen. tell: as events of the kernel's
 * writes; voff is the first byte written.
 */
static int open_pages(struct codewp_view *view, uint64_t first, uint64_t end,
		      bool tell, uint64_t voff)
{
	uint64_t page = first;
	int err = 0;

	while (!err && (page = state_next_armed(view, page, end)) < end) {
		uint64_t stop = state_next_open(view, page, end);

		for (uint64_t p = page; p < stop; p++) {
			uint32_t state = state_open(view, p, tell);
			uint64_t at = p << PAGE_SHIFT;

			if (!tell) {
				view->stats.disarms++;
				continue;
			}
			view->stats.traps++;
			post(view, at > voff ? at : voff, 0, 0,
			     CODEWP_EVENT_KERNEL, state);
		}
		err = pass_pages(view, page, stop);
		page = stop;
	}
	return err;
}

/* ---- views -------------------------------------------------------------- */

/* The errors are the kernel module's. */
static int check_memfd(int fd)
{
	struct statfs fs;
	int flags, seals;

	flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	if ((flags & O_ACCMODE) != O_RDWR || (flags & O_PATH))
		return -EACCES;
	if (fstatfs(fd, &fs))
		return -errno;
	if (fs.f_type != TMPFS_MAGIC)
		return -EOPNOTSUPP;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return -EPERM;
	return 0;
}

int soft_view_create(struct codewp_view *view, const struct codewp_view_opts *opts)
{
	int err = check_memfd(view->memfd);

	if (err)
		return err;
	if (opts->clients & ~CODEWP_CLIENT_CODE)
		return -EOPNOTSUPP;
	err = states_new(view);
	if (err)
		return err;
	if (opts->share_ring) {
		view->ring = ring_get(opts->share_ring->ring);
		return 0;
	}
	err = ring_new(view->ctx, &view->ring, opts->ring_bytes);
	if (err)
		states_free(view);
	return err;
}

/* The view has left the context's list; its mappings are still in the table. */
void soft_view_destroy(struct codewp_view *view, bool alive)
{
	struct codewp *ctx = view->ctx;
	const struct map *maps = ctx->track.maps;

	if (alive) {
		every_map(view, 0, view->pages, false);
		for (uint32_t id = view->maps; id; id = maps[id].next)
			ctx->soft->detach(ctx, maps[id].start,
					  maps[id].end - maps[id].start);
	}
	__atomic_fetch_sub(&ctx->armed, view->armed, __ATOMIC_RELEASE);
	track_drop_view(&ctx->track, view);
}

/* ---- mappings ----------------------------------------------------------- */

/* A mapping that is there: make the armed pages in it trap. */
static int trap_armed(struct codewp_view *view, uint64_t voff, uintptr_t addr,
		      size_t len, int prot)
{
	struct codewp *ctx = view->ctx;
	uint64_t first = voff >> PAGE_SHIFT;
	uint64_t end = first + (len >> PAGE_SHIFT);
	uint64_t page = first;
	int err = 0;

	while (!err && (page = state_next_armed(view, page, end)) < end) {
		uint64_t stop = state_next_open(view, page, end);

		err = ctx->soft->trap(ctx, addr + ((page - first) << PAGE_SHIFT),
				      (stop - page) << PAGE_SHIFT, prot);
		page = stop;
	}
	return err;
}

/* mprotect [addr, addr + len) of a mapping so that armed pages trap throughout. */
static int protect_around(struct codewp_view *view, uint64_t voff, uintptr_t addr,
			  size_t len, int prot)
{
	uint64_t first = voff >> PAGE_SHIFT;
	uint64_t end = first + (len >> PAGE_SHIFT);
	uint64_t page = first;

	if (view->ctx->soft->survives_mprotect || !(prot & PROT_WRITE) ||
	    state_next_armed(view, first, end) == end)
		return mprotect((void *)addr, len, prot) ? -errno : 0;
	if (mprotect((void *)addr, len, prot & ~PROT_WRITE))
		return -errno;
	while (page < end) {
		uint64_t stop = state_next_armed(view, page, end);

		if (stop > page &&
		    mprotect((void *)(addr + ((page - first) << PAGE_SHIFT)),
			     (stop - page) << PAGE_SHIFT, prot))
			return -errno;
		page = state_next_open(view, stop, end);
	}
	return 0;
}

int soft_map(struct codewp_view *view, void **addr, size_t len, uint64_t voff,
	     int prot, int flags)
{
	struct codewp *ctx = view->ctx;
	uint64_t first = voff >> PAGE_SHIFT;
	uint64_t end = first + (len >> PAGE_SHIFT);
	bool armed;
	uintptr_t at;
	void *p;
	int err;

	if (!track_room(&ctx->track, 2))
		return -ENOMEM;
	armed = state_next_armed(view, first, end) < end;
	/* Not writable before its armed pages trap. */
	p = mmap(*addr, len, armed ? prot & ~PROT_WRITE : prot, MAP_SHARED | flags,
		 view->memfd, view->offset + voff);
	if (p == MAP_FAILED)
		return -errno;
	at = (uintptr_t)p;
	track_cut(&ctx->track, at, at + len);
	err = ctx->soft->attach(ctx, at, len);
	/* Only this process maps a private view; mremap keeps it so. */
	if (!err && view->private_view && madvise(p, len, MADV_DONTFORK))
		err = -errno;
	if (!err && armed)
		err = trap_armed(view, voff, at, len, prot);
	if (!err && armed)
		err = protect_around(view, voff, at, len, prot);
	if (err) {
		munmap(p, len);
		return err;
	}
	track_add(&ctx->track, at, at + len, view, voff, prot);
	*addr = p;
	return 0;
}

int soft_unmap(struct codewp *ctx, void *addr, size_t len)
{
	uintptr_t at = (uintptr_t)addr;

	if (!track_room(&ctx->track, 1))
		return -ENOMEM;
	if (munmap(addr, len))
		return -errno;
	track_cut(&ctx->track, at, at + len);
	return 0;
}

/* Are all addresses of [start, end) in mappings of views? */
static bool all_mapped(struct codewp *ctx, uintptr_t start, uintptr_t end)
{
	struct map m;

	while (start < end) {
		if (!track_find(&ctx->track, start, &m))
			return false;
		start = m.end;
	}
	return true;
}

int soft_protect(struct codewp *ctx, void *addr, size_t len, int prot)
{
	uintptr_t start = (uintptr_t)addr, end = start + len;
	struct map m;
	int err = 0;

	if (!track_room(&ctx->track, 2))
		return -ENOMEM;
	if (!all_mapped(ctx, start, end))
		return -ENOMEM;
	/*
	 * The table first: a fault between the two steps must find what the user
	 * wants. When a step fails, what is left trapping without being armed
	 * passes at its next fault.
	 */
	track_protect(&ctx->track, start, end, prot);
	for (uintptr_t at = start; !err && at < end; at = m.end) {
		track_find(&ctx->track, at, &m);
		err = protect_around(m.view, m.voff, m.start, m.end - m.start, prot);
		if (err == -ENOMEM && !open_view(m.view))
			err = 0;
	}
	return err;
}

/*
 * Is [start, end) one mapping? In the table it may be in pieces that the kernel has
 * joined again: the protection of one differed for a while. first: the piece of start.
 */
static bool one_mapping(struct codewp *ctx, uintptr_t start, uintptr_t end, struct map *first)
{
	struct map m;

	if (!track_find(&ctx->track, start, first))
		return false;
	for (uintptr_t at = first->end; at < end; at = m.end)
		if (!track_find(&ctx->track, at, &m) || m.view != first->view ||
		    m.prot != first->prot || m.voff - first->voff != at - first->start)
			return false;
	return true;
}

/*
 * The mapping must be whole to be moved, and the new one traps only when this
 * is over: its pages are opened, and told as written.
 */
int soft_remap(struct codewp *ctx, void **addr, size_t old_len, size_t new_len,
	       int flags, void *new_addr)
{
	uintptr_t old = (uintptr_t)*addr, at;
	uint64_t first, end;
	struct map m;
	void *p;
	int err;

	if (!track_room(&ctx->track, 3))
		return -ENOMEM;
	if (!one_mapping(ctx, old, old + old_len, &m))
		return -EFAULT;
	m.voff += old - m.start;
	if (new_len > m.view->length - m.voff)
		return -ERANGE;
	first = m.voff >> PAGE_SHIFT;
	end = first + ((old_len > new_len ? old_len : new_len) >> PAGE_SHIFT);
	err = open_pages(m.view, first, end, true, m.voff);
	if (err)
		return err;
	p = mremap(*addr, old_len, new_len, flags, new_addr);
	if (p == MAP_FAILED)
		return -errno;
	at = (uintptr_t)p;
	track_cut(&ctx->track, old, old + old_len);
	track_cut(&ctx->track, at, at + new_len);
	err = ctx->soft->attach(ctx, at, new_len);
	if (err) {
		munmap(p, new_len);
		return err;
	}
	track_add(&ctx->track, at, at + new_len, m.view, m.voff, m.prot);
	*addr = p;
	return 0;
}

/* ---- arm, disarm -------------------------------------------------------- */

static void arm_states(struct codewp_view *view, uint64_t first, uint64_t end, bool keep)
{
	for (uint64_t page = first; page < end; page++)
		if (state_arm(view, page, keep))
			view->stats.arms++;
}

/* What is not armed in [first, end) passes again, after a trap() half done. */
static void undo_trap(struct codewp_view *view, uint64_t first, uint64_t end)
{
	uint64_t page = first;

	while (page < end) {
		uint64_t stop = state_next_armed(view, page, end);

		/*
		 * An error has opened the view, which is always safe; one more
		 * is cured at the fault.
		 */
		if (stop > page && pass_pages(view, page, stop))
			return;
		page = state_next_open(view, stop, end);
	}
}

int soft_arm(struct codewp_view *view, uint64_t voff, uint64_t len,
	     unsigned int mode, struct codewp_arm_result *res)
{
	uint64_t first = voff >> PAGE_SHIFT;
	uint64_t end = first + (len >> PAGE_SHIFT);
	bool keep = mode != CODEWP_OPEN;
	struct stat st;
	uint64_t page;
	int err;

	if (fstat(view->memfd, &st))
		return -errno;
	if (view->offset + voff + len > (((uint64_t)st.st_size + PAGE_MASK) & ~PAGE_MASK))
		return -ENXIO;
	err = every_map(view, first, end, true);
	if (!err) {
		arm_states(view, first, end, keep);
		res->done = len;
		return 0;
	}
	undo_trap(view, first, end);
	/* Page by page: those before the one that fails are armed. */
	for (page = first; page < end; page++) {
		err = every_map(view, page, page + 1, true);
		if (err) {
			undo_trap(view, page, page + 1);
			break;
		}
		arm_states(view, page, page + 1, keep);
		res->done += CODEWP_PAGE_SIZE;
	}
	return err;
}

int soft_disarm(struct codewp_view *view, uint64_t voff, uint64_t len)
{
	uint64_t first = voff >> PAGE_SHIFT;

	return open_pages(view, first, first + (len >> PAGE_SHIFT), false, voff);
}

/* ---- traps -------------------------------------------------------------- */

int soft_thread_register(struct codewp_thread *thread)
{
	if (thread->opts.raw_handler || thread->opts.kick)
		return -EOPNOTSUPP;
	return 0;
}

void soft_thread_unregister(struct codewp_thread *thread)
{
}

/*
 * The page does not trap (any more) and yet the store faulted. Another thread
 * may have opened it in between: try again. But a fault that comes back with
 * nothing changed has another cause (no memory for the page, the user's own
 * protection) and is not ours.
 */
static bool try_again(struct codewp_view *view, uint64_t page, uint32_t state,
		      uintptr_t addr, uint64_t ip)
{
	static __thread struct {
		uintptr_t addr;
		uint64_t ip;
		uint32_t state;
		unsigned int times;
	} last;
	struct stat st;

	if (fstat(view->memfd, &st) ||
	    view->offset + (page << PAGE_SHIFT) >= (uint64_t)st.st_size)
		return false;
	if (last.addr != addr || last.ip != ip || last.state != state) {
		last.addr = addr;
		last.ip = ip;
		last.state = state;
		last.times = 0;
	}
	if (last.times++ < 16)
		return !pass_pages(view, page, page + 1);
	last.times = 0;
	return false;
}

static bool in_code(const struct codewp_thread *t, uint64_t ip)
{
	if (!t->opts.code_start && !t->opts.code_end)
		return true;
	return ip >= t->opts.code_start && ip < t->opts.code_end;
}

bool soft_signal(struct codewp *ctx, int sig, siginfo_t *info, void *ucontext)
{
	uintptr_t addr = (uintptr_t)info->si_addr;
	ucontext_t *uc = ucontext;
	const greg_t *gregs = uc->uc_mcontext.gregs;
	struct codewp_thread *thread;
	struct codewp_view *view;
	struct codewp_regs regs;
	struct codewp_trap trap;
	sigset_t saved;
	uint64_t page;
	struct map m;
	bool done;

	if (!ctx->soft->ours(sig, info) || gregs[REG_TRAPNO] != X86_TRAP_PF ||
	    (gregs[REG_ERR] & (PF_WRITE | PF_USER)) != (PF_WRITE | PF_USER))
		return false;
	if (!track_find(&ctx->track, addr, &m))
		return false;

	ctx_lock(ctx, &saved);
	if (!track_find(&ctx->track, addr, &m) || !(m.prot & PROT_WRITE)) {
		ctx_unlock(ctx, &saved);
		return false;
	}
	view = m.view;
	memset(&trap, 0, sizeof(trap));
	trap.view = view;
	trap.cookie = view->cookie;
	trap.addr = addr;
	trap.voff = m.voff + (addr - m.start);
	trap.state = state_of(view, trap.voff >> PAGE_SHIFT);
	page = trap.voff >> PAGE_SHIFT;
	if (!(trap.state & CODEWP_PAGE_ARMED)) {
		done = try_again(view, page, trap.state, addr, gregs[REG_RIP]);
		ctx_unlock(ctx, &saved);
		return done;
	}

	thread = thread_self(ctx);
	view->stats.traps++;
	if (thread && !thread->busy && in_code(thread, gregs[REG_RIP])) {
		view->stats.signals++;
		if (trap.state & CODEWP_PAGE_KEEP) {
			trap.state = state_trapped(view, page);
			trap.armed = true;
			done = true;
		} else {
			trap.state = state_open(view, page, true);
			done = !pass_pages(view, page, page + 1);
		}
	} else {
		trap.state = state_open(view, page, true);
		post(view, trap.voff, addr, gregs[REG_RIP],
		     thread && thread->busy ? CODEWP_EVENT_NESTED : 0, trap.state);
		done = !pass_pages(view, page, page + 1);
		thread = NULL;
	}
	ctx_unlock(ctx, &saved);
	if (!done || !thread)
		return done;

	thread->busy = 1;
	regs_from_ucontext(&regs, uc);
	trap.regs = &regs;
	thread->opts.fn(&trap, thread->opts.arg);
	regs_to_ucontext(&regs, uc);
	thread->busy = 0;
	return true;
}

/* ---- kernel writes ------------------------------------------------------ */

int soft_event_fd(struct codewp_view *view, int fd)
{
	return 0;
}

/* Lock held; the range lies in the view. */
static int kernel_write(struct codewp_view *view, uint64_t voff, uint64_t len)
{
	uint64_t end = (voff + len + PAGE_MASK) >> PAGE_SHIFT;

	return open_pages(view, voff >> PAGE_SHIFT, end, true, voff);
}

int soft_kernel_write(struct codewp_view *view, uint64_t voff, uint64_t len)
{
	sigset_t saved;
	int err;

	if (!load_acquire(&view->ctx->armed))
		return 0;
	ctx_lock(view->ctx, &saved);
	err = kernel_write(view, voff, len);
	ctx_unlock(view->ctx, &saved);
	return err;
}

/* Most system calls write where nothing is armed: see that without the lock. */
int soft_armed_addr(struct codewp *ctx, uintptr_t addr, size_t len)
{
	uintptr_t end = addr + len, at = addr;
	bool armed = false;
	struct map m;

	if (!len || !load_acquire(&ctx->armed))
		return 0;
	if (end < addr)
		end = UINTPTR_MAX & ~PAGE_MASK;

	ctx_read_begin(ctx);
	for (; !armed && at < end; at = m.end) {
		uint64_t voff, n;

		if (!track_next(&ctx->track, at, &m) || m.start >= end)
			break;
		if (at < m.start)
			at = m.start;
		voff = m.voff + (at - m.start);
		n = (m.end < end ? m.end : end) - at;
		armed = state_next_armed(m.view, voff >> PAGE_SHIFT,
					 (voff + n + PAGE_MASK) >> PAGE_SHIFT) <
			((voff + n + PAGE_MASK) >> PAGE_SHIFT);
	}
	ctx_read_end(ctx);
	return armed;
}

int soft_kernel_write_addr(struct codewp *ctx, uintptr_t addr, size_t len)
{
	uintptr_t end = addr + len, at = addr;
	sigset_t saved;
	struct map m;
	int err = 0;

	if (!soft_armed_addr(ctx, addr, len))
		return 0;
	if (end < addr)
		end = UINTPTR_MAX & ~PAGE_MASK;
	ctx_lock(ctx, &saved);
	for (; !err && at < end; at = m.end) {
		if (!track_next(&ctx->track, at, &m) || m.start >= end)
			break;
		if (at < m.start)
			at = m.start;
		err = kernel_write(m.view, m.voff + (at - m.start),
				   (m.end < end ? m.end : end) - at);
	}
	ctx_unlock(ctx, &saved);
	return err;
}

/* ---- dirty clients, counters -------------------------------------------- */

int soft_clients(struct codewp_view *view, uint32_t clients)
{
	/* Nobody sees writes to pages that are not armed. */
	return clients & ~CODEWP_CLIENT_CODE ? -EOPNOTSUPP : 0;
}

int64_t soft_harvest(struct codewp_view *view, uint32_t client, uint64_t voff,
		     uint64_t len, uint64_t *bitmap)
{
	uint64_t first = voff >> PAGE_SHIFT;
	uint64_t n = len >> PAGE_SHIFT;
	int64_t found = 0;

	if (client != CODEWP_CLIENT_CODE)
		return -EOPNOTSUPP;
	memset(bitmap, 0, (n + 63) / 64 * 8);
	for (uint64_t i = 0; i < n; i++) {
		uint32_t state;

		if (first + i < view->touched_first || first + i >= view->touched_end)
			continue;
		state = view->states[first + i];
		if (!(state & CODEWP_PAGE_WRITTEN))
			continue;
		store_release(&view->states[first + i], state & ~CODEWP_PAGE_WRITTEN);
		bitmap[i / 64] |= 1ULL << (i % 64);
		found++;
	}
	return found;
}

int soft_stats(struct codewp_view *view, struct codewp_stats *st)
{
	*st = view->stats;
	st->armed = view->armed;
	return 0;
}

/* ---- open, close -------------------------------------------------------- */

int soft_open(struct codewp *ctx, const struct soft_ops *soft)
{
	ctx->soft = soft;
	return track_init(&ctx->track);
}

void soft_close(struct codewp *ctx)
{
	track_fini(&ctx->track);
}
