// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A store of a registered thread to a watched page: executed on the alias, so that
 * the page stays armed for everybody else.
 *
 * The callback (codewp_watch_trap) notes the registers and sends the thread to a hlt
 * in its slot. The SIGSEGV of that one has the vector state, which says what a masked
 * store writes, and can block signals for the time after it. (In an upcall, where they
 * can be blocked at once, other stores need no such detour.) Then
 *
 * REPLAY  the instruction with the alias for its address runs in the slot, a second
 *         hlt comes back, and the registers are put right;
 * STEP    what cannot be moved (a far call; a store that crosses into a page that
 *         is elsewhere, or armed by somebody else) runs where it is with the trap
 *         flag, its pages open for that moment.
 *
 * watch_lock() is held from then on to the end, asynchronous signals are blocked
 * as long. An instruction that faults in the slot (its source, a page truncated
 * meanwhile, a floating-point exception) is told to the program as if it had faulted
 * in its own place; the store may have to be made again then.
 *
 * Owns the slots of each thread and the four signals. No lock of its own: slots are
 * their thread's, the signals are taken and given back under watch_lock().
 */
#include <asm/prctl.h>
#include <fcntl.h>
#include <pthread.h>
#include <linux/codewp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "watch.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define FLAG_TF		0x100UL
#define HLT		0xf4

/*
 * Two are in use when a handler comes between the callback and the first hlt (soft
 * backends); more, only if it leaves by longjmp: those are taken again in turn.
 */
#define SLOTS		4
#define SLOT_CODE	64
#define CODE_ENTER	0		/* hlt */
#define CODE_RUN	8
#define CALLBACK_STACK	(64UL << 10)

enum phase { PHASE_FREE, PHASE_ENTER, PHASE_REPLAY, PHASE_STEP };

struct slot {
	enum phase phase;
	uint32_t end;			/* offset of the second hlt in the code */
	uint64_t rsp;			/* the program's; the code loads and stores it */
	uint64_t stack;			/* the code loads it */
	uint8_t *code;
	uint8_t stub[WATCH_INSN_MAX + 1];	/* what is at CODE_RUN now */
	size_t stub_len;

	struct codewp_regs regs;	/* at the trap */
	struct codewp_view *view;
	uint64_t addr, voff;		/* of the trap */
	uint64_t mask;			/* signals, as found in the callback */
	uint64_t resume_mask;
	struct insn_store insn;
	uint64_t delta;			/* alias - address */
	int scratch;			/* holds the address */
	uint64_t value;			/* STORE_PUSH */
	uint64_t rest;			/* elements that the next go does */
};

/* One mapping: a page of code, this, and for each slot a guard page and a stack. */
struct wthread {
	uint8_t *code;
	size_t bytes;
	struct slot slot[SLOTS];
	struct slot *step;		/* in PHASE_STEP */
	bool upcalls;			/* signals blocked in the callback stay so */
	unsigned int turn;
};

static __thread struct wthread *self;
static pthread_key_t thread_end;

/* What was there before us. Taken and given back under watch_lock(). */
static struct taken {
	int sig;
	struct sigaction prev;
} taken[] = { { .sig = SIGSEGV }, { .sig = SIGBUS }, { .sig = SIGFPE }, { .sig = SIGTRAP } };
#define NTAKEN (sizeof(taken) / sizeof(taken[0]))
static unsigned int takers;

/* codewp_regs is in encoding order. */
static const uint8_t greg_of[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static void regs_get(struct codewp_regs *regs, const ucontext_t *uc)
{
	for (int i = 0; i < 16; i++)
		regs->r[i] = uc->uc_mcontext.gregs[greg_of[i]];
	regs->rip = uc->uc_mcontext.gregs[REG_RIP];
	regs->rflags = uc->uc_mcontext.gregs[REG_EFL];
}

static void regs_put(const struct codewp_regs *regs, ucontext_t *uc)
{
	for (int i = 0; i < 16; i++)
		uc->uc_mcontext.gregs[greg_of[i]] = regs->r[i];
	uc->uc_mcontext.gregs[REG_RIP] = regs->rip;
	uc->uc_mcontext.gregs[REG_EFL] = regs->rflags;
}

/* libc's sigset_t is longer than the kernel's. */
static uint64_t mask_get(const ucontext_t *uc)
{
	uint64_t m;

	memcpy(&m, &uc->uc_sigmask, sizeof(m));
	return m;
}

static void mask_put(ucontext_t *uc, uint64_t m)
{
	memcpy(&uc->uc_sigmask, &m, sizeof(m));
}

/* ---- threads and slots --------------------------------------------------- */

static void thread_free(void *p)
{
	struct wthread *t = p;

	self = NULL;
	munmap(t->code, t->bytes);
}

/* In a signal handler or an upcall: system calls only. */
static struct wthread *thread_new(void)
{
	size_t head = (CODEWP_PAGE_SIZE + sizeof(struct wthread) + PAGE_MASK) & ~PAGE_MASK;
	size_t stack = (getauxval(AT_MINSIGSTKSZ) + CALLBACK_STACK + PAGE_MASK) & ~PAGE_MASK;
	size_t each = CODEWP_PAGE_SIZE + stack;
	size_t bytes = head + SLOTS * each;
	struct wthread *t;
	uint8_t *mem;

	mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED)
		return NULL;
	memset(mem, HLT, CODEWP_PAGE_SIZE);
	if (mprotect(mem, CODEWP_PAGE_SIZE, PROT_READ | PROT_EXEC))
		goto unmap;
	t = (void *)(mem + CODEWP_PAGE_SIZE);
	t->code = mem;
	t->bytes = bytes;
	for (int i = 0; i < SLOTS; i++) {
		uint8_t *at = mem + head + i * each;

		if (mprotect(at, CODEWP_PAGE_SIZE, PROT_NONE))
			goto unmap;
		t->slot[i].code = mem + i * SLOT_CODE;
		t->slot[i].stack = (uintptr_t)at + each;
	}
	if (pthread_setspecific(thread_end, t))
		goto unmap;
	self = t;
	return t;
unmap:
	munmap(mem, bytes);
	return NULL;
}

static struct slot *slot_new(struct wthread *t)
{
	for (int i = 0; i < SLOTS; i++)
		if (t->slot[i].phase == PHASE_FREE)
			return &t->slot[i];
	return &t->slot[t->turn++ % SLOTS];
}

static struct slot *slot_of(struct wthread *t, uint64_t rip)
{
	uint64_t at = rip - (uintptr_t)t->code;

	return at < SLOTS * SLOT_CODE ? &t->slot[at / SLOT_CODE] : NULL;
}

/* ---- what the store is --------------------------------------------------- */

/* From anywhere in memory, also where nothing is. */
static size_t read_safely(void *to, uint64_t from, size_t n)
{
	struct iovec l = { to, n }, r = { (void *)from, n };
	ssize_t got = process_vm_readv(getpid(), &l, 1, &r, 1, 0);

	return got < 0 ? 0 : got;
}

static size_t fetch(uint8_t *to, uint64_t rip)
{
	size_t n = CODEWP_PAGE_SIZE - (rip & PAGE_MASK);

	if (n > WATCH_INSN_MAX)
		n = WATCH_INSN_MAX;
	/* It was executed a moment ago. */
	if (read_safely(to, rip, n) != n)
		return 0;
	if (n < WATCH_INSN_MAX)
		n += read_safely(to + n, rip + n, WATCH_INSN_MAX - n);
	return n;
}

static void segments(uint64_t *seg, const uint8_t *bytes, size_t n)
{
	memset(seg, 0, 6 * sizeof(*seg));
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] == 0x64)
			syscall(SYS_arch_prctl, ARCH_GET_FS, &seg[4]);
		else if (bytes[i] == 0x65)
			syscall(SYS_arch_prctl, ARCH_GET_GS, &seg[5]);
	}
}

/* The kernel's frame holds the standard format; without XSAVE the legacy part. */
static const uint8_t *vector_state(const ucontext_t *uc, uint8_t *legacy)
{
	const uint8_t *fp = (const void *)uc->uc_mcontext.fpregs;
	uint32_t magic;

	if (!fp)
		return NULL;
	memcpy(&magic, fp + 464, sizeof(magic));	/* sw_reserved */
	if (magic == FP_XSTATE_MAGIC1)
		return fp;
	memcpy(legacy, fp, 512);
	memset(legacy + 512, 0, 64);
	legacy[512] = 3;
	return legacy;
}

static bool decode(struct slot *s, const ucontext_t *uc)
{
	struct insn_cpu cpu = {
		.gpr = s->regs.r,
		.rip = s->regs.rip,
		.rflags = s->regs.rflags,
		.bits = 64,
		.page = s->addr,
	};
	uint8_t bytes[WATCH_INSN_MAX], legacy[576];
	uint64_t start, end;
	size_t n = fetch(bytes, s->regs.rip);

	segments(cpu.seg, bytes, n);
	if (uc)
		cpu.xsave = vector_state(uc, legacy);
	if (insn_store(&s->insn, &cpu, bytes, n))
		return false;
	insn_hull(&s->insn, &start, &end);
	/* A fault may be at any byte of the operand, written or not. */
	if (s->insn.ea < start && s->insn.span)
		start = s->insn.ea;
	if (s->insn.ea + s->insn.span > end)
		end = s->insn.ea + s->insn.span;
	/* Else something else wrote: the kernel a signal frame, for one. */
	return s->insn.nr && s->addr >= start && s->addr < end;
}

/* ---- may it be moved? ---------------------------------------------------- */

static bool hex(const char **p, uint64_t *v)
{
	const char *at = *p;

	for (*v = 0;; at++) {
		unsigned int d;

		if (*at >= '0' && *at <= '9')
			d = *at - '0';
		else if (*at >= 'a' && *at <= 'f')
			d = *at - 'a' + 10;
		else
			break;
		*v = *v << 4 | d;
	}
	if (at == *p)
		return false;
	*p = at + 1;
	return true;
}

/* Are all of [start, end) in one writable mapping? By the kernel's own list. */
static bool one_mapping(uint64_t start, uint64_t end)
{
	char buf[2048], line[128];
	size_t fill = 0, len = 0;
	bool found = false, done = false;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	while (!done) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n <= 0)
			break;
		for (fill = 0; fill < (size_t)n && !done; fill++) {
			const char *p = line;
			uint64_t a, b;

			if (buf[fill] != '\n') {
				if (len < sizeof(line) - 1)
					line[len++] = buf[fill];
				continue;
			}
			line[len] = 0;
			len = 0;
			if (!hex(&p, &a) || !hex(&p, &b) || start < a || start >= b)
				continue;
			found = end <= b && p[1] == 'w';
			done = true;
		}
	}
	close(fd);
	return found;
}

/*
 * Every page of [start, end) has to be the view's, at the same distance; one that
 * somebody else has armed has to trap, so that he learns of it.
 */
static bool movable(struct watched *w, const struct slot *s, uint64_t start, uint64_t end)
{
	uint64_t trap_page = s->addr & ~PAGE_MASK;

	if (start >= trap_page && end <= trap_page + CODEWP_PAGE_SIZE)
		return true;
	if (start > trap_page)
		start = trap_page;
	if (end < trap_page + CODEWP_PAGE_SIZE)
		end = trap_page + CODEWP_PAGE_SIZE;
	if (!one_mapping(start, end))
		return false;
	for (uint64_t a = start & ~PAGE_MASK; a < end; a += CODEWP_PAGE_SIZE) {
		uint64_t page = (s->voff + (a - s->addr)) >> PAGE_SHIFT;
		const struct wpage *p = watched_page(w, page);

		if (a == trap_page || (p && !p->theirs))
			continue;
		if (__atomic_load_n(&w->states[page], __ATOMIC_ACQUIRE) & CODEWP_PAGE_ARMED)
			return false;
	}
	return true;
}

/* ---- the code in the slot ------------------------------------------------ */

static uint8_t *put_rel(uint8_t *p, const uint8_t *op, const void *target)
{
	int32_t rel = (const uint8_t *)target - (p + 7);

	memcpy(p, op, 3);
	memcpy(p + 3, &rel, sizeof(rel));
	return p + 7;
}

/*
 * The program's %rsp, the instruction, the slot's %rsp again, hlt. (An upcall returns
 * by way of the stack, and the signal of the hlt goes there: the program's own may be
 * on a watched page.) False: no memory.
 */
static bool write_stub(struct slot *s, const uint8_t *insn, size_t n)
{
	static const uint8_t keep[3] = { 0x48, 0x89, 0x25 };	/* mov %rsp, (%rip) */
	static const uint8_t load[3] = { 0x48, 0x8b, 0x25 };	/* mov (%rip), %rsp */
	void *page = (void *)((uintptr_t)s->code & ~PAGE_MASK);
	uint8_t *p = s->code + CODE_RUN;

	if (s->stub_len == n && !memcmp(s->stub, insn, n))
		return true;
	if (mprotect(page, CODEWP_PAGE_SIZE, PROT_READ | PROT_WRITE))
		return false;
	p = put_rel(p, load, &s->rsp);
	memcpy(p, insn, n);
	p += n;
	p = put_rel(p, keep, &s->rsp);
	p = put_rel(p, load, &s->stack);
	*p = HLT;
	s->end = p - s->code;
	memcpy(s->stub, insn, n);
	s->stub_len = n;
	/* The return from this signal is what makes the processor see the new code. */
	return !mprotect(page, CODEWP_PAGE_SIZE, PROT_READ | PROT_EXEC);
}

/* The registers with which the slot's instruction writes to the alias. */
static bool prepare_replay(struct slot *s, struct codewp_regs *regs)
{
	static const uint8_t store8[] = { 0x48, 0x89, 0x01 };	/* mov %rax, (%rcx) */
	static const uint8_t store2[] = { 0x66, 0x89, 0x01 };	/* mov %ax, (%rcx) */
	struct insn_store *in = &s->insn;
	uint8_t code[WATCH_INSN_MAX + 1];
	bool wide = in->z.address_width == 64;

	*regs = s->regs;
	regs->rflags &= ~FLAG_TF;
	regs->rip = (uintptr_t)s->code + CODE_RUN;
	s->rsp = regs->r[W_RSP];
	regs->r[W_RSP] = s->stack;
	switch (in->kind) {
	case STORE_VSIB:
		if (!wide)
			return false;
		/* fall through */
	case STORE_MODRM:
		s->scratch = insn_free_reg(in);
		if (s->scratch < 0)
			return false;
		regs->r[s->scratch] = in->ea + s->delta;
		return write_stub(s, code, insn_rebase(in, s->scratch, code));
	case STORE_STRING:
		if (!wide)
			return false;
		regs->r[W_RDI] += s->delta;
		s->rest = 0;
		if (in->rep) {
			s->rest = regs->r[W_RCX] - in->count;
			regs->r[W_RCX] = in->count;
		}
		return write_stub(s, in->bytes, in->z.length);
	case STORE_DI:
		regs->r[W_RDI] += s->delta;
		return wide && write_stub(s, in->bytes, in->z.length);
	case STORE_AX:
		regs->r[W_RAX] += s->delta;
		return wide && write_stub(s, in->bytes, in->z.length);
	case STORE_PUSH:
		s->value = in->push_value;
		if (in->push_mem) {
			uint64_t *to = in->call ? &in->call_to : &s->value;
			size_t n = in->call ? 8 : in->push_size;

			if (read_safely(to, in->push_from, n) != n)
				return false;
		}
		regs->r[W_RAX] = s->value;
		regs->r[W_RCX] = in->ea + s->delta;
		return write_stub(s, in->push_size == 2 ? store2 : store8, 3);
	default:
		return false;
	}
}

/* What the program would have: after the instruction, or (false) still before it. */
static void put_right(struct slot *s, struct codewp_regs *regs, bool done)
{
	const struct insn_store *in = &s->insn;
	uint64_t next = s->regs.rip + in->z.length;

	if (done)
		regs->r[W_RSP] = s->rsp;
	switch (in->kind) {
	case STORE_MODRM:
	case STORE_VSIB:
		regs->r[s->scratch] = s->regs.r[s->scratch];
		break;
	case STORE_STRING:
		regs->r[W_RDI] -= s->delta;
		regs->r[W_RCX] += s->rest;
		if (s->rest)
			next = s->regs.rip;
		break;
	case STORE_DI:
		regs->r[W_RDI] -= s->delta;
		break;
	case STORE_AX:
		regs->r[W_RAX] -= s->delta;
		break;
	case STORE_PUSH:
		regs->r[W_RAX] = s->regs.r[W_RAX];
		regs->r[W_RCX] = s->regs.r[W_RCX];
		if (done) {
			regs->r[W_RSP] -= in->push_size;
			if (in->call)
				next = in->call_to;
		}
		break;
	default:
		break;
	}
	regs->rip = done ? next : s->regs.rip;
	regs->rflags |= s->regs.rflags & FLAG_TF;
}

/* ---- the trap ------------------------------------------------------------ */

/*
 * In an upcall what enter() does can be done at once, and the lock kept, unless the
 * vector state is wanted, or a callback would have to run on the upcall's stack.
 */
static bool begin_here(struct watched *w, struct slot *s, struct codewp_regs *regs)
{
	uint64_t start, end, to_view = s->voff - s->addr;
	struct codewp_regs replay;

	if (!decode(s, NULL))
		return false;
	insn_hull(&s->insn, &start, &end);
	s->delta = (uintptr_t)w->alias + to_view;
	if (!watched_settled(w, start + to_view, end + to_view) ||
	    !movable(w, s, start, end) || !prepare_replay(s, &replay))
		return false;
	s->resume_mask = s->mask;
	s->phase = PHASE_REPLAY;
	*regs = replay;
	return true;
}

static bool take_trap(struct codewp_trap *trap)
{
	uint64_t page = trap->voff >> PAGE_SHIFT, saved;
	struct watched *w;
	struct wthread *t;
	struct slot *s;

	/*
	 * Without a signal handler around us (an upcall) this lasts until the store
	 * is done; with one, until it returns. enter() sees which.
	 */
	sigs_set(SIGS_ASYNC, &saved);
	if (watch_locked_by_me()) {
		/* Of the watcher's own callback, or of a step that crosses a page. */
		w = watched_find(trap->view);
		if (w && watched_page(w, page)) {
			watched_open(w, page);
			sigs_set(saved, NULL);
			return true;
		}
		sigs_set(saved, NULL);
		return false;
	}
	watch_lock();
	w = watched_find(trap->view);
	if (!w || !watched_page(w, page)) {
		watch_unlock(false);
		sigs_set(saved, NULL);
		return false;
	}
	t = self ?: thread_new();
	if (!t) {
		/* The store goes through; it is found by the next that can compare. */
		watched_open(w, page);
		watch_unlock(false);
		sigs_set(saved, NULL);
		return true;
	}
	s = slot_new(t);
	s->regs = *trap->regs;
	s->view = trap->view;
	s->addr = trap->addr;
	s->voff = trap->voff;
	s->mask = saved;
	if (t->upcalls && begin_here(w, s, trap->regs))
		return true;
	watch_unlock(false);
	s->phase = PHASE_ENTER;
	/* The program's own stack may be on a watched page. */
	trap->regs->r[W_RSP] = s->stack;
	trap->regs->rip = (uintptr_t)s->code + CODE_ENTER;
	trap->regs->rflags &= ~FLAG_TF;
	return true;
}

/**
 * codewp_watch_trap() - first in the callback of every registered thread
 * @trap: the trap
 *
 * Return: true if the page is watched: the callback returns at once.
 */
bool codewp_watch_trap(struct codewp_trap *trap)
{
	int err = errno;
	bool taken_over = trap->view && take_trap(trap);

	errno = err;
	return taken_over;
}

/* ---- the phases ---------------------------------------------------------- */

static void leave(struct wthread *t, struct slot *s, ucontext_t *uc, bool sweep)
{
	mask_put(uc, s->resume_mask);
	if (t->step == s)
		t->step = NULL;
	s->phase = PHASE_FREE;
	watch_unlock(sweep);
}

/* The registers of the trap; the signals that were blocked around it. */
static void enter(struct wthread *t, struct slot *s, ucontext_t *uc)
{
	uint64_t start, end, to_view = s->voff - s->addr;
	struct codewp_regs regs = s->regs;
	struct watched *w;
	bool known;

	s->resume_mask = mask_get(uc);
	t->upcalls = s->resume_mask == SIGS_ASYNC;
	if (t->upcalls)
		s->resume_mask = s->mask;
	mask_put(uc, SIGS_ASYNC);

	watch_lock();
	w = watched_find(s->view);
	if (!w || !watched_page(w, s->voff >> PAGE_SHIFT)) {
		/* Ended meanwhile. If it traps again, it is somebody else's. */
		regs_put(&regs, uc);
		leave(t, s, uc, true);
		return;
	}
	known = decode(s, uc);
	if (known) {
		insn_hull(&s->insn, &start, &end);
		s->delta = (uintptr_t)w->alias + to_view;
		watched_settle(w, start + to_view, end + to_view);
		if (movable(w, s, start, end) && prepare_replay(s, &regs)) {
			s->phase = PHASE_REPLAY;
			regs_put(&regs, uc);
			return;
		}
	} else {
		s->insn.nr = 0;
	}
	s->phase = PHASE_STEP;
	t->step = s;
	if (s->insn.nr && s->insn.kind == STORE_STRING) {
		/* A step is one element. */
		s->insn.range[0] = (struct insn_range){ s->insn.ea, s->insn.element };
		s->insn.nr = 1;
	}
	watched_open(w, s->voff >> PAGE_SHIFT);
	regs = s->regs;
	regs.rflags |= FLAG_TF;
	regs_put(&regs, uc);
}

/* What pushf has pushed under our trap flag. */
static void hide_step(const struct slot *s)
{
	const struct insn_store *in = &s->insn;

	if (in->nr && in->kind == STORE_PUSH && in->z.meta.category == ZYDIS_CATEGORY_PUSH &&
	    in->z.mnemonic != ZYDIS_MNEMONIC_PUSH && !(s->regs.rflags & FLAG_TF))
		__atomic_and_fetch((uint8_t *)in->ea + 1, 0xfe, __ATOMIC_RELAXED);
}

/* The store has been made: tell. */
static void told(struct slot *s, uint32_t flags)
{
	struct watched *w = watched_find(s->view);
	uint64_t start, end, to_view = s->voff - s->addr;
	struct insn_store *in = &s->insn;
	struct write wr = {
		.range = in->range,
		.nr = in->nr,
		.addr = s->addr,
		.ip = s->regs.rip,
		.tid = syscall(SYS_gettid),
		.flags = flags,
	};

	if (!w)
		return;
	if (!in->nr) {
		wr.flags &= ~CODEWP_WATCH_EXACT;
		watched_sweep(&wr);
		return;
	}
	insn_hull(in, &start, &end);
	wr.addr = start;
	for (unsigned int i = 0; i < in->nr; i++)
		in->range[i].addr += to_view;
	watched_tell(w, &wr);
	/* Opened meanwhile by a write that is told by the ring. */
	watched_reopened(w, s->voff >> PAGE_SHIFT);
}

static void replayed(struct wthread *t, struct slot *s, ucontext_t *uc)
{
	struct codewp_regs regs;

	regs_get(&regs, uc);
	put_right(s, &regs, true);
	regs_put(&regs, uc);
	told(s, CODEWP_WATCH_EXACT);
	leave(t, s, uc, true);
}

/* The instruction in the slot faults: as if it had done so in its own place. */
static void faulted(struct wthread *t, struct slot *s, siginfo_t *info, ucontext_t *uc)
{
	uint64_t start, end, at = (uintptr_t)info->si_addr - s->delta;
	uint64_t to_view = s->voff - s->addr;
	struct watched *w = watched_find(s->view);
	struct codewp_regs regs;

	insn_hull(&s->insn, &start, &end);
	if (info->si_signo != SIGFPE && at >= (start & ~PAGE_MASK) && at < end) {
		info->si_addr = (void *)at;
		uc->uc_mcontext.gregs[REG_CR2] = at;
	}
	regs_get(&regs, uc);
	put_right(s, &regs, false);
	regs_put(&regs, uc);
	if (info->si_signo == SIGFPE)
		info->si_addr = (void *)s->regs.rip;
	/* A rep may have written some. */
	if (w && s->insn.kind == STORE_STRING)
		watched_settle(w, start + to_view, end + to_view);
	leave(t, s, uc, true);
}

static bool moved(const struct slot *s, const ucontext_t *uc)
{
	struct codewp_regs regs;

	regs_get(&regs, uc);
	return regs.rip != s->regs.rip || memcmp(regs.r, s->regs.r, sizeof(regs.r));
}

static bool take_signal(int sig, void *siginfo, void *ucontext)
{
	ucontext_t *uc = ucontext;
	uint64_t rip = uc->uc_mcontext.gregs[REG_RIP];
	siginfo_t *info = siginfo;
	struct wthread *t = self;
	struct slot *s;

	/* What was sent is not ours, wherever it meets us. */
	if (!t || info->si_code <= 0)
		return false;
	if (t->step) {
		s = t->step;
		if (sig != SIGTRAP) {
			/* It faults; or it crosses into a page that traps, too. */
			if (!(s->regs.rflags & FLAG_TF))
				uc->uc_mcontext.gregs[REG_EFL] &= ~FLAG_TF;
			leave(t, s, uc, false);
			return false;
		}
		/* An upcall in between ends with a step that is not the store's. */
		if (!moved(s, uc))
			return true;
		if (!(s->regs.rflags & FLAG_TF))
			uc->uc_mcontext.gregs[REG_EFL] &= ~FLAG_TF;
		hide_step(s);
		told(s, CODEWP_WATCH_EXACT | CODEWP_WATCH_STEPPED);
		leave(t, s, uc, true);
		return !(s->regs.rflags & FLAG_TF);
	}
	s = slot_of(t, rip);
	if (!s)
		return false;
	rip -= (uintptr_t)s->code;
	if (sig == SIGSEGV && s->phase == PHASE_ENTER && rip == CODE_ENTER) {
		enter(t, s, uc);
		return true;
	}
	if (s->phase != PHASE_REPLAY)
		return false;
	if (sig == SIGSEGV && rip == s->end) {
		replayed(t, s, uc);
		return true;
	}
	faulted(t, s, info, uc);
	return false;
}

/**
 * codewp_watch_signal() - for those who own the signals
 * @sig: signal
 * @siginfo: as the handler got it; may be corrected
 * @ucontext: as the handler got it; may be corrected
 *
 * Return: true if it was ours and has been dealt with. False: somebody else's; it
 * looks as if there were no watches.
 */
bool codewp_watch_signal(int sig, void *siginfo, void *ucontext)
{
	int err = errno;
	bool ours = take_signal(sig, siginfo, ucontext);

	errno = err;
	return ours;
}

/* ---- the signals --------------------------------------------------------- */

/* Not ours: as if we were not there. */
static void pass_on(struct sigaction *prev, int sig, siginfo_t *info, ucontext_t *uc)
{
	void (*handler)(int) = prev->sa_handler;
	void (*action)(int, siginfo_t *, void *) = prev->sa_sigaction;
	uint64_t block, saved, more;

	if (handler == SIG_IGN && info->si_code <= 0)
		return;
	if (handler == SIG_DFL || handler == SIG_IGN) {
		/* A fault comes again when we return, and kills. */
		signal(sig, SIG_DFL);
		if (info->si_code <= 0 || sig == SIGTRAP)
			raise(sig);
		return;
	}
	/* uc may have been put right: its mask is that of the program. */
	memcpy(&more, &prev->sa_mask, sizeof(more));
	block = mask_get(uc) | more;
	if (!(prev->sa_flags & SA_NODEFER))
		block |= SIGBIT(sig);
	if (prev->sa_flags & SA_RESETHAND)
		prev->sa_handler = SIG_DFL;
	sigs_set(block, &saved);
	if (prev->sa_flags & SA_SIGINFO)
		action(sig, info, uc);
	else
		handler(sig);
	sigs_set(saved, NULL);
}

static void on_signal(int sig, siginfo_t *info, void *uc)
{
	if (codewp_watch_signal(sig, info, uc))
		return;
	for (size_t i = 0; i < NTAKEN; i++)
		if (taken[i].sig == sig)
			pass_on(&taken[i].prev, sig, info, uc);
}

static void give_back(size_t n)
{
	struct sigaction now;

	while (n--) {
		/* A handler that came after ours stays. */
		if (!sigaction(taken[n].sig, NULL, &now) && (now.sa_flags & SA_SIGINFO) &&
		    now.sa_sigaction == on_signal)
			sigaction(taken[n].sig, &taken[n].prev, NULL);
	}
}

int replay_key_get(void)
{
	static bool done;
	int err;

	if (done)
		return 0;
	err = -pthread_key_create(&thread_end, thread_free);
	done = !err;
	return err;
}

int replay_signals_get(void)
{
	struct sigaction sa;

	if (takers++)
		return 0;
	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = on_signal;
	/* NODEFER, and the four out of the mask: what faults in a callback is told. */
	sa.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_RESTART;
	sigfillset(&sa.sa_mask);
	for (size_t i = 0; i < NTAKEN; i++)
		sigdelset(&sa.sa_mask, taken[i].sig);
	for (size_t i = 0; i < NTAKEN; i++) {
		if (sigaction(taken[i].sig, &sa, &taken[i].prev)) {
			int err = -errno;

			give_back(i);
			takers--;
			return err;
		}
	}
	return 0;
}

void replay_signals_put(void)
{
	if (!--takers)
		give_back(NTAKEN);
}
