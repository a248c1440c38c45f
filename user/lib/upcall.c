// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The C side of an upcall: a registered thread's stack and frame, and the way
 * from the kernel's area to the callback. A thread's memory is its own: the
 * kernel, the entry code and upcall_run() use it only while the thread is in an
 * upcall, so there is no lock.
 */
#include <cpuid.h>
#include <string.h>
#include <sys/mman.h>

#include "backend.h"
#include "upcall.h"

#define STACK_BYTES	(128UL << 10)

_Static_assert(sizeof(struct upcall_frame) == UPCALL_FRAME, "frame");
_Static_assert(sizeof(struct upcall_frame) % 16 == 0, "the stack's alignment");
_Static_assert(offsetof(struct upcall_frame, xsave) == UPCALL_XSAVE, "xsave");
_Static_assert(offsetof(struct upcall_frame, mask) == UPCALL_MASK, "mask");
_Static_assert(offsetof(struct upcall_frame, kind) == UPCALL_KIND, "kind");
_Static_assert(offsetof(struct upcall_frame, thread) == UPCALL_THREAD, "thread");
_Static_assert(offsetof(struct codewp_area, busy) == AREA_BUSY, "busy");
_Static_assert(offsetof(struct codewp_area, ip) == AREA_IP, "ip");
_Static_assert(offsetof(struct codewp_area, sp) == AREA_SP, "sp");
_Static_assert(offsetof(struct codewp_area, flags) == AREA_FLAGS, "flags");
_Static_assert(offsetof(struct codewp_area, di) == AREA_DI, "di");

#define XCR0_PKRU	(1ULL << 9)

/* How this CPU saves its vector state, and how many bytes that takes. */
static size_t vector_state(uint64_t *mask, uint64_t *kind)
{
	uint32_t a, b, c, d, lo, hi;
	size_t bytes;

	*mask = 3;
	*kind = UPCALL_FXSAVE;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 512;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	/* The protection keys stay as they are; the callback may change them. */
	*mask = (((uint64_t)hi << 32) | lo) & ~XCR0_PKRU;
	__cpuid_count(0xd, 0, a, b, c, d);
	bytes = b;
	__cpuid_count(0xd, 1, a, b, c, d);
	*kind = a & 2 ? UPCALL_XSAVEC : UPCALL_XSAVE_;
	if ((a & 2) && b > bytes)
		bytes = b;
	return bytes;
}

/* Would the entry code's last ret find a shadow stack that we have not fed? */
static bool shadow_stack(void)
{
	uint64_t ssp = 0;

	/* rdsspq: does nothing where there is none. */
	__asm__ volatile(".byte 0xf3, 0x48, 0x0f, 0x1e, 0xc8" : "+a"(ssp));
	return ssp;
}

static struct upcall_frame *frame_of(const struct codewp_thread *t)
{
	return (struct upcall_frame *)((char *)t->area - sizeof(struct upcall_frame));
}

uintptr_t upcall_stack(const struct codewp_thread *t)
{
	return (uintptr_t)frame_of(t);
}

int upcall_alloc(struct codewp_thread *t)
{
	struct upcall_frame *f;
	uint64_t mask, kind;
	size_t xsave = vector_state(&mask, &kind);
	char *p;

	if (shadow_stack() && t->opts.fn && !t->opts.signal)
		return -EOPNOTSUPP;
	xsave = (xsave + PAGE_MASK) & ~PAGE_MASK;
	t->stack_bytes = CODEWP_PAGE_SIZE + xsave + STACK_BYTES + CODEWP_PAGE_SIZE;
	p = mmap(NULL, t->stack_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	t->stack = p;
	/* The vector state below, then the guard, then the stack. */
	if (mprotect(p + xsave, CODEWP_PAGE_SIZE, PROT_NONE)) {
		int err = -errno;

		upcall_free(t);
		return err;
	}
	t->xsave = p;
	t->area = (void *)(p + t->stack_bytes - CODEWP_PAGE_SIZE);
	f = frame_of(t);
	f->xsave = t->xsave;
	f->mask = mask;
	f->kind = kind;
	f->thread = t;
	return 0;
}

void upcall_free(struct codewp_thread *t)
{
	if (t->stack)
		munmap(t->stack, t->stack_bytes);
	t->stack = NULL;
	t->area = NULL;
}

/* The kernel knows views by number. */
static struct codewp_view *view_of(struct codewp_thread *t, uint32_t id)
{
	struct codewp *ctx = t->ctx;
	struct codewp_view *v;

	/* Numbers are not used again: a match is the view. */
	if (t->last_view && t->last_view_id == id)
		return t->last_view;
	ctx_read_begin(ctx);
	for (v = load_acquire(&ctx->views); v; v = load_acquire(&v->next))
		if (v->id == id)
			break;
	ctx_read_end(ctx);
	t->last_view = v;
	t->last_view_id = id;
	return v;
}

static void fill_trap(struct codewp_thread *t, struct codewp_trap *trap)
{
	const struct codewp_area *a = t->area;

	trap->view = view_of(t, a->view);
	trap->cookie = a->cookie;
	trap->addr = a->addr;
	trap->voff = a->offset;
	trap->state = a->state;
	trap->armed = a->state & CODEWP_PAGE_ARMED;
}

void upcall_run(struct upcall_frame *frame)
{
	struct codewp_thread *t = frame->thread;
	const struct codewp_area *a = t->area;
	struct codewp_trap trap;
	uint32_t kicks;

	memset(&trap, 0, sizeof(trap));
	trap.regs = &frame->regs;
	kicks = load_acquire(&a->kicks);
	if (a->reason == CODEWP_REASON_TRAP)
		fill_trap(t, &trap);
	t->opts.fn(&trap, t->opts.arg);
	if (a->reason == CODEWP_REASON_KICK)
		t->kicks_seen = kicks;
	/* Kicks that came while the kernel could not redirect us. */
	while ((kicks = load_acquire(&a->kicks)) != t->kicks_seen) {
		t->kicks_seen = kicks;
		memset(&trap, 0, sizeof(trap));
		trap.regs = &frame->regs;
		t->opts.fn(&trap, t->opts.arg);
	}
}

bool upcall_signal(struct codewp *ctx, int sig, siginfo_t *info, void *uc)
{
	struct codewp_thread *t = thread_self(ctx);
	struct codewp_regs regs;
	struct codewp_trap trap;

	if (!t || !t->opts.signal || t->busy || info->si_code != SEGV_ACCERR)
		return false;
	/* Each trap fills the area anew; what was used is not a trap again. */
	if (!t->area->addr || t->area->addr != (uintptr_t)info->si_addr)
		return false;
	memset(&trap, 0, sizeof(trap));
	regs_from_ucontext(&regs, uc);
	trap.regs = &regs;
	fill_trap(t, &trap);
	t->area->addr = 0;
	t->busy = 1;
	t->opts.fn(&trap, t->opts.arg);
	t->busy = 0;
	regs_to_ucontext(&regs, uc);
	return true;
}
