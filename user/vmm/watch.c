// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Watchpoints of guests: ranges of guest-physical memory, the copy of their bytes, and
 * who is told. Their pages are armed with CODEWP_STOP: a vCPU's store stops before it
 * is done, is decoded, stepped with the other vCPUs held, and told. What writes
 * without being stopped (KVM's own writes, an emulated instruction, other processes)
 * comes by the ring, or not at all, and is found by comparing with the copy.
 *
 * Everything here is under vm->lock; what steps or arms anew also under vmm_hold().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "../watch/insn.h"
#include "internal.h"

struct vmm_watch {
	struct vmm_watch *next, **prev;
	struct vmm *vm;
	uint64_t gpa, len;
	vmm_watch_fn fn;
	void *arg;
	uint8_t *copy;			/* the bytes as last told */
	uint8_t *now;
};

/* A store in guest-physical pieces. */
struct store {
	struct insn_store in;
	unsigned int nr;
	struct insn_range piece[2 * WATCH_RANGES];
};

static bool overlaps(const struct vmm_watch *w, uint64_t start, uint64_t end)
{
	return w->gpa < end && w->gpa + w->len > start;
}

static bool page_watched(const struct vmm *vm, uint64_t page)
{
	const struct vmm_watch *w;

	for (w = vm->watches; w; w = w->next)
		if (overlaps(w, page << PAGE_SHIFT, (page + 1) << PAGE_SHIFT))
			return true;
	return false;
}

bool vmm_watched(struct vmm *vm, uint64_t gpa)
{
	bool yes;

	pthread_mutex_lock(&vm->lock);
	yes = page_watched(vm, gpa >> PAGE_SHIFT);
	pthread_mutex_unlock(&vm->lock);
	return yes;
}

/* ---- telling ---- */

static void tell(struct vmm_watch *w, struct vmm_watch_hit *hit, uint64_t start, uint64_t end)
{
	uint8_t *now = w->now;

	hit->watch = w;
	hit->gpa = start;
	hit->len = end - start;
	hit->watch_gpa = w->gpa;
	hit->watch_len = w->len;
	hit->before = w->copy;
	hit->after = w->now;
	w->fn(hit, w->arg);
	w->now = w->copy;
	w->copy = now;
}

static bool differs(struct vmm_watch *w, uint64_t *first, uint64_t *end)
{
	uint64_t i = 0, j = w->len;

	memcpy(w->now, w->vm->ram + w->gpa, w->len);
	if (!memcmp(w->copy, w->now, w->len))
		return false;
	while (w->copy[i] == w->now[i])
		i++;
	while (w->copy[j - 1] == w->now[j - 1])
		j--;
	*first = w->gpa + i;
	*end = w->gpa + j;
	return true;
}

/* What has changed in [start, end) without a stop; @hit says what is known of it. */
static unsigned int compare(struct vmm *vm, uint64_t start, uint64_t end,
			    const struct vmm_watch_hit *hit)
{
	uint64_t first, last;
	struct vmm_watch *w;
	unsigned int n = 0;

	for (w = vm->watches; w; w = w->next) {
		struct vmm_watch_hit h = *hit;

		if (!overlaps(w, start, end) || !differs(w, &first, &last))
			continue;
		tell(w, &h, first, last);
		n++;
	}
	return n;
}

static void lost(struct vmm *vm, uint64_t page, int err)
{
	uint64_t start = page << PAGE_SHIFT;
	struct vmm_watch *w;

	for (w = vm->watches; w; w = w->next) {
		struct vmm_watch_hit hit = { .flags = CODEWP_WATCH_LOST, .err = err };

		if (!overlaps(w, start, start + PAGE_SIZE))
			continue;
		memcpy(w->now, vm->ram + w->gpa, w->len);
		tell(w, &hit, start, start + PAGE_SIZE);
	}
}

void vmm_watch_event(struct vmm *vm, const struct codewp_event_info *ev)
{
	uint64_t page = ev->voff >> PAGE_SHIFT;
	struct vmm_watch_hit hit = {
		.tid = ev->tid,
		.flags = ev->kernel ? CODEWP_WATCH_KERNEL : 0,
	};
	struct vmm_watch *w;
	unsigned int n;
	int err;

	if (ev->stopped || !page_watched(vm, page))
		return;
	if (ev->guest && ev->vcpu < vm->cpus)
		hit.vcpu = &vm->vcpu[ev->vcpu];
	/* Armed first: what is written from now on is stopped, or told anew. */
	err = codewp_arm(vm->view, page << PAGE_SHIFT, PAGE_SIZE, CODEWP_STOP, NULL);
	if (err)
		lost(vm, page, err);
	n = compare(vm, page << PAGE_SHIFT, (page + 1) << PAGE_SHIFT, &hit);
	/* Its first byte is watched, and nothing changed. */
	for (w = vm->watches; w && !n && !ev->whole_page; w = w->next)
		if (overlaps(w, ev->voff, ev->voff + 1))
			tell(w, &hit, ev->voff, ev->voff);
}

/* ---- a stopped store ---- */

static void gpr_order(const struct kvm_regs *r, uint64_t *gpr)
{
	const uint64_t in_order[16] = {
		r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
		r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15,
	};

	memcpy(gpr, in_order, sizeof(in_order));
}

static void add_piece(struct store *st, uint64_t gpa, uint64_t len)
{
	struct insn_range *last = st->nr ? &st->piece[st->nr - 1] : NULL;

	if (last && last->addr + last->len == gpa)
		last->len += len;
	else if (st->nr < 2 * WATCH_RANGES)
		st->piece[st->nr++] = (struct insn_range){ gpa, len };
}

/* Each page of a linear range may be anywhere. */
static void add_linear(struct store *st, const struct vmm *vm, const struct vmm_mode *mode,
		       uint64_t at, uint64_t len)
{
	while (len) {
		uint64_t n = PAGE_SIZE - (at & PAGE_MASK), gpa;

		if (n > len)
			n = len;
		if (!vmm_walk(vm, mode, at, &gpa) && vmm_in_ram(vm, gpa, n))
			add_piece(st, gpa, n);
		at += n;
		len -= n;
	}
}

/* What the vCPU is about to write. No piece: not known. */
static int decode(struct vmm_vcpu *vcpu, struct store *st, uint64_t *rip)
{
	struct vmm *vm = vcpu->vm;
	struct insn_cpu cpu = { 0 };
	uint8_t bytes[WATCH_INSN_MAX];
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct vmm_mode mode;
	struct kvm_sregs s;
	struct kvm_regs r;
	uint64_t gpr[16], gpa;
	size_t n = 0;
	int err;

	st->nr = 0;
	err = vmm_get_regs(vcpu, &r);
	if (!err)
		err = vmm_get_sregs(vcpu, &s);
	if (err)
		return err;
	*rip = r.rip;
	vmm_mode_get(&s, &mode);
	gpr_order(&r, gpr);
	cpu.gpr = gpr;
	cpu.rip = r.rip;
	cpu.rflags = r.rflags;
	cpu.bits = mode.bits;
	cpu.stack16 = mode.bits != 64 && !s.ss.db;
	cpu.seg[4] = s.fs.base;
	cpu.seg[5] = s.gs.base;
	if (mode.bits != 64) {
		cpu.seg[0] = s.es.base;
		cpu.seg[1] = s.cs.base;
		cpu.seg[2] = s.ss.base;
		cpu.seg[3] = s.ds.base;
	}
	if (!ioctl(vcpu->fd, KVM_GET_XCRS, &xcrs) && xcrs.nr_xcrs && !xcrs.xcrs[0].xcr)
		cpu.xcr0 = xcrs.xcrs[0].value;
	while (n < sizeof(bytes) && !vmm_walk(vm, &mode, mode.cs_base + r.rip + n, &gpa) &&
	       vmm_in_ram(vm, gpa, 1))
		bytes[n++] = vm->ram[gpa];
	err = insn_store(&st->in, &cpu, bytes, n);
	if (err == -EAGAIN && !ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave)) {
		cpu.xsave = (const uint8_t *)xsave.region;
		err = insn_store(&st->in, &cpu, bytes, n);
	}
	if (err)
		return 0;
	if (st->in.kind == STORE_STRING && st->in.nr) {
		/* A step is one element. */
		st->in.range[0] = (struct insn_range){ st->in.ea, st->in.element };
		st->in.nr = 1;
	}
	for (unsigned int i = 0; i < st->in.nr; i++)
		add_linear(st, vm, &mode, st->in.range[i].addr, st->in.range[i].len);
	return 0;
}

/*
 * Is the stop this store's? It may be another's: of the frame that an interrupt pushes.
 * Of a masked store, and of one that saves a lot, it may be at a byte between.
 */
static bool writes(const struct store *st, uint64_t gpa)
{
	bool somewhere = st->in.vector || st->in.span > 64;

	for (unsigned int i = 0; i < st->nr; i++) {
		uint64_t start = st->piece[i].addr, end = start + st->piece[i].len;

		if (somewhere) {
			start &= ~PAGE_MASK;
			end = (end + PAGE_MASK) & ~PAGE_MASK;
		}
		if (gpa >= start && gpa < end)
			return true;
	}
	return false;
}

static void told(struct vmm *vm, const struct store *st, const struct vmm_watch_hit *known)
{
	struct vmm_watch *w;

	for (w = vm->watches; w; w = w->next) {
		for (unsigned int i = 0; i < st->nr; i++) {
			const struct insn_range *p = &st->piece[i];
			struct vmm_watch_hit hit = *known;

			if (!overlaps(w, p->addr, p->addr + p->len))
				continue;
			memcpy(w->now, vm->ram + w->gpa, w->len);
			tell(w, &hit, p->addr, p->addr + p->len);
			break;
		}
	}
}

int vmm_watch_store(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
	struct vmm *vm = vcpu->vm;
	struct vmm_watch_hit nobody = { 0 }, hit = { .vcpu = vcpu };
	uint64_t gpa = vcpu->stop_voff;
	struct store st;
	int err;

	if (!vm->view)
		return -EINVAL;
	vmm_hold(vm);
	pthread_mutex_lock(&vm->lock);
	compare(vm, 0, UINT64_MAX, &nobody);
	err = decode(vcpu, &st, &hit.rip);
	if (!err)
		err = vmm_step_held(vcpu, exit);
	if (!err && exit->kind == VMM_EXIT_DEBUG && writes(&st, gpa)) {
		hit.flags = CODEWP_WATCH_EXACT;
		told(vm, &st, &hit);
	}
	/* What is not decoded, or was not done to its end. */
	hit.flags = 0;
	compare(vm, 0, UINT64_MAX, &hit);
	pthread_mutex_unlock(&vm->lock);
	vmm_release(vm);
	return err;
}

/* ---- watches ---- */

/* Pages that nobody watches any more: plain memory, without blocks. */
static void leave_pages(struct vmm *vm, uint64_t first, uint64_t end)
{
	for (uint64_t page = first; page < end; page++) {
		if (page_watched(vm, page))
			continue;
		vmm_blocks_drop(vm, page, 0, PAGE_SIZE - 1);
		codewp_disarm(vm->view, page << PAGE_SHIFT, PAGE_SIZE);
	}
}

int vmm_watch(struct vmm *vm, uint64_t gpa, uint64_t len, vmm_watch_fn fn, void *arg,
	      struct vmm_watch **out)
{
	uint64_t first = gpa >> PAGE_SHIFT, end;
	struct vmm_watch *w;
	int err = -ENOMEM;

	*out = NULL;
	if (!vm->view || !len || !fn)
		return -EINVAL;
	if (!vmm_in_ram(vm, gpa, len))
		return -EFAULT;
	end = ((gpa + len - 1) >> PAGE_SHIFT) + 1;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->vm = vm;
	w->gpa = gpa;
	w->len = len;
	w->fn = fn;
	w->arg = arg;
	w->copy = malloc(len);
	w->now = malloc(len);
	if (!w->copy || !w->now)
		goto free;
	vmm_hold(vm);
	pthread_mutex_lock(&vm->lock);
	err = codewp_arm(vm->view, first << PAGE_SHIFT, (end - first) << PAGE_SHIFT,
			 CODEWP_STOP, NULL);
	if (err) {
		leave_pages(vm, first, end);
	} else {
		memcpy(w->copy, vm->ram + gpa, len);
		w->next = vm->watches;
		w->prev = &vm->watches;
		if (w->next)
			w->next->prev = &w->next;
		vm->watches = w;
		*out = w;
	}
	pthread_mutex_unlock(&vm->lock);
	vmm_release(vm);
	if (!err)
		return 0;
free:
	free(w->copy);
	free(w->now);
	free(w);
	return err;
}

static void unlink_watch(struct vmm_watch *w)
{
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	free(w->copy);
	free(w->now);
	free(w);
}

void vmm_unwatch(struct vmm_watch *w)
{
	uint64_t first, end;
	struct vmm *vm;

	if (!w)
		return;
	vm = w->vm;
	first = w->gpa >> PAGE_SHIFT;
	end = ((w->gpa + w->len - 1) >> PAGE_SHIFT) + 1;
	pthread_mutex_lock(&vm->lock);
	unlink_watch(w);
	leave_pages(vm, first, end);
	pthread_mutex_unlock(&vm->lock);
}

void vmm_watches_free(struct vmm *vm)
{
	while (vm->watches)
		unlink_watch(vm->watches);
}
