// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Blocks: the guest's code, cut at branches, in the code map by guest-physical page.
 * A page is armed before a byte of it is read. Everything here is under vm->lock, so
 * that a block that was dropped can be freed at once.
 *
 * The key has the guest-physical page in it: a guest that changes its page tables
 * finds other blocks, and nothing must be dropped for that. Only a block on two pages
 * can come to stand on another second page; it is compared when it is found.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define MAX_LEN		512U	/* bytes of a block */
#define MAX_NEW		64	/* blocks made from one place */
#define TRIES		16	/* when somebody keeps writing the page */

static uint32_t page_gen(void *arg, uint64_t page)
{
	struct vmm *vm = arg;

	return CODEWP_PAGE_GEN(__atomic_load_n(&vm->states[page], __ATOMIC_ACQUIRE));
}

int vmm_blocks_init(struct vmm *vm)
{
	static const struct codemap_ops ops = { .page_gen = page_gen };

	vm->pages = calloc(vm->ram_bytes >> PAGE_SHIFT, sizeof(*vm->pages));
	if (!vm->pages)
		return -ENOMEM;
	if (!vm->view)
		return 0;
	vm->map = codemap_new(&ops, vm, 64 - PAGE_SHIFT - __builtin_clzll(vm->ram_bytes));
	return vm->map ? 0 : -ENOMEM;
}

static void free_block(struct vmm *vm, struct vmm_block *b)
{
	*b->prev = b->next;
	if (b->next)
		b->next->prev = b->prev;
	vm->st.live--;
	vm->epoch++;
	free(b);
}

void vmm_blocks_free(struct vmm *vm)
{
	while (vm->live)
		free_block(vm, vm->live);
	if (vm->map)
		codemap_free(vm->map);
	free(vm->pages);
}

int vmm_blocks_drop(struct vmm *vm, uint64_t page, unsigned int first,
		    unsigned int last)
{
	struct codemap_tb *tb, *next;
	int n = 0;

	if (!vm->map || page >= vm->ram_bytes >> PAGE_SHIFT)
		return 0;
	for (tb = codemap_invalidate(vm->map, page, first, last); tb; tb = next) {
		next = tb->dead_next;
		free_block(vm, (struct vmm_block *)tb);
		n++;
	}
	vm->st.invalidated += n;
	vm->pages[page].invalidated += n;
	return n;
}

/*
 * The page's generation, once it is armed and known to be: somebody may write it, and
 * so open it, while the call returns.
 */
static int arm(struct vmm *vm, uint64_t page, uint32_t *gen)
{
	uint32_t state = 0;
	int i, err;

	for (i = 0; i < TRIES; i++) {
		state = __atomic_load_n(&vm->states[page], __ATOMIC_ACQUIRE);
		if (state & CODEWP_PAGE_ARMED) {
			*gen = CODEWP_PAGE_GEN(state);
			return 0;
		}
		err = codewp_arm(vm->view, page << PAGE_SHIFT, PAGE_SIZE,
				 vm->opts.stop ? CODEWP_STOP : CODEWP_OPEN, NULL);
		if (err)
			return err;
		vm->st.arms++;
	}
	return -EAGAIN;
}

/* What a block is made of while it is decoded. */
struct draft {
	uint64_t gva;
	uint64_t page[2];
	uint32_t gen[2];
	unsigned int len;
	uint64_t succ[2];
	unsigned int nr_succ;
	uint8_t bytes[MAX_LEN];
};

/* The address behind cs's base of a linear one, and back. */
static void add_succ(struct draft *d, const struct vmm_mode *mode, uint64_t pc)
{
	uint64_t gva = mode->cs_base + pc;

	d->succ[d->nr_succ++] = mode->bits == 64 ? gva : gva & 0xffffffff;
}

/* One page more: armed, and its part of the block's room readable. */
static int add_page(struct vmm *vm, const struct vmm_mode *mode, struct draft *d, int i,
		    uint64_t gva)
{
	uint64_t gpa;
	int err;

	err = vmm_walk(vm, mode, gva, &gpa);
	if (err || !vmm_in_ram(vm, gpa, 1))
		return -EFAULT;
	d->page[i] = gpa >> PAGE_SHIFT;
	return arm(vm, d->page[i], &d->gen[i]);
}

/*
 * Decode from d->gva to a branch, the end of the page or of the room. 0: there is no
 * instruction.
 */
static int draft(struct vmm *vm, const struct vmm_mode *mode, struct draft *d)
{
	unsigned int off = d->gva & PAGE_MASK, avail = PAGE_SIZE - off;
	struct vmm_insn in;
	int err;

	d->len = d->nr_succ = 0;
	d->page[1] = CODEMAP_NO_PAGE;
	err = add_page(vm, mode, d, 0, d->gva);
	if (err)
		return err;
	if (avail > MAX_LEN)
		avail = MAX_LEN;
	memcpy(d->bytes, vm->ram + (d->page[0] << PAGE_SHIFT) + off, avail);
	for (;;) {
		uint64_t pc = d->gva + d->len - mode->cs_base;

		err = vmm_decode(mode->bits, d->bytes + d->len, avail - d->len, pc, &in);
		if (err == -EAGAIN && off + avail == PAGE_SIZE && !d->len &&
		    d->page[1] == CODEMAP_NO_PAGE) {
			/* The first instruction crosses: the block is this one. */
			err = add_page(vm, mode, d, 1, (d->gva | PAGE_MASK) + 1);
			if (err)
				return err == -EFAULT ? 0 : err;
			memcpy(d->bytes + avail, vm->ram + (d->page[1] << PAGE_SHIFT), 15);
			avail += 15;
			continue;
		}
		if (err) {
			/* What follows is a block of its own, if it is one. */
			if (d->len && err == -EAGAIN)
				add_succ(d, mode, pc);
			return d->len;
		}
		d->len += in.len;
		if (in.direct)
			add_succ(d, mode, in.target);
		if (in.kind == INSN_COND || in.kind == INSN_CALL)
			add_succ(d, mode, pc + in.len);
		if (in.kind != INSN_PLAIN)
			return d->len;
		if (d->page[1] != CODEMAP_NO_PAGE || avail - d->len == 0) {
			add_succ(d, mode, pc + in.len);
			return d->len;
		}
	}
}

static struct vmm_block *new_block(const struct draft *d, uint64_t flags)
{
	unsigned int off = d->gva & PAGE_MASK;
	struct vmm_block *b;

	b = calloc(1, sizeof(*b) + d->len);
	if (!b)
		return NULL;
	b->tb.pc = d->gva;
	b->tb.flags = flags;
	b->tb.page[0] = d->page[0];
	b->tb.gen[0] = d->gen[0];
	b->tb.first[0] = off;
	b->tb.last[0] = off + d->len - 1;
	b->tb.page[1] = CODEMAP_NO_PAGE;
	if (off + d->len > PAGE_SIZE) {
		b->tb.last[0] = PAGE_SIZE - 1;
		b->tb.page[1] = d->page[1];
		b->tb.gen[1] = d->gen[1];
		b->tb.first[1] = 0;
		b->tb.last[1] = off + d->len - 1 - PAGE_SIZE;
	}
	memcpy(b->succ, d->succ, sizeof(b->succ));
	b->nr_succ = d->nr_succ;
	b->len = d->len;
	memcpy(b->bytes, d->bytes, d->len);
	return b;
}

/* Does its second page still come after its first? */
static bool joined(const struct vmm *vm, const struct vmm_mode *mode,
		   const struct vmm_block *b)
{
	uint64_t gpa;

	return b->tb.page[1] == CODEMAP_NO_PAGE ||
	       (!vmm_walk(vm, mode, (b->tb.pc | PAGE_MASK) + 1, &gpa) &&
		gpa >> PAGE_SHIFT == b->tb.page[1]);
}

int vmm_block_at(struct vmm *vm, const struct vmm_mode *mode, uint64_t gva,
		 struct vmm_block **block)
{
	struct draft d = { .gva = gva };
	uint64_t gpa, flags;
	struct codemap_tb *tb;
	struct vmm_block *b;
	int err, i;

	*block = NULL;
	if (vmm_walk(vm, mode, gva, &gpa) || !vmm_in_ram(vm, gpa, 1))
		return 0;	/* the guest will see for itself */
	flags = (gpa & ~PAGE_MASK) | mode->bits;
	tb = codemap_lookup(vm->map, gva, flags);
	if (tb) {
		b = (struct vmm_block *)tb;
		if (joined(vm, mode, b)) {
			*block = b;
			return 1;
		}
		codemap_invalidate_tb(vm->map, tb);
		free_block(vm, b);
	}
	for (i = 0; i < TRIES; i++) {
		err = draft(vm, mode, &d);
		if (err == -EFAULT)
			return 0;
		if (err <= 0)
			return err;
		b = new_block(&d, flags);
		if (!b)
			return -ENOMEM;
		if (codemap_insert(vm->map, &b->tb, &err)) {
			b->next = vm->live;
			b->prev = &vm->live;
			if (b->next)
				b->next->prev = &b->next;
			vm->live = b;
			vm->st.live++;
			vm->st.blocks++;
			vm->pages[b->tb.page[0]].blocks++;
			vm->pages[b->tb.page[0]].stops = 0;
			*block = b;
			return 2;
		}
		free(b);
		if (err != -ESTALE)
			return err;
		/* Its event is in the ring, or will be. */
	}
	return 0;
}

int vmm_blocks_from(struct vmm *vm, const struct vmm_mode *mode, uint64_t gva,
		    struct vmm_block **first)
{
	uint64_t todo[MAX_NEW * 2 + 1];
	int nr = 0, made = 0, ret;
	struct vmm_block *b;

	ret = vmm_block_at(vm, mode, gva, first);
	if (ret != 2)
		return ret < 0 ? ret : 0;
	made = 1;
	for (b = *first; ; ) {
		for (unsigned int i = 0; i < b->nr_succ; i++)
			todo[nr++] = b->succ[i];
		do {
			if (!nr || made == MAX_NEW)
				return made;
			ret = vmm_block_at(vm, mode, todo[--nr], &b);
			if (ret < 0)
				return ret;
		} while (ret != 2);
		made++;
	}
}

static int follow(struct vmm_vcpu *vcpu, const uint64_t *gva)
{
	struct vmm *vm = vcpu->vm;
	struct vmm_block *b;
	struct vmm_mode mode;
	struct kvm_sregs s;
	struct kvm_regs r;
	int err;

	if (!vm->map)
		return -EINVAL;
	err = vmm_get_regs(vcpu, &r);
	if (!err)
		err = vmm_get_sregs(vcpu, &s);
	if (err)
		return err;
	vmm_mode_get(&s, &mode);
	pthread_mutex_lock(&vm->lock);
	err = vmm_blocks_from(vm, &mode, gva ? *gva : mode.cs_base + r.rip, &b);
	pthread_mutex_unlock(&vm->lock);
	return err;
}

int vmm_follow_here(struct vmm_vcpu *vcpu)
{
	return follow(vcpu, NULL);
}

int vmm_follow_at(struct vmm_vcpu *vcpu, uint64_t gva)
{
	return follow(vcpu, &gva);
}

/* ---- what there is ---- */

void vmm_stats(struct vmm *vm, struct vmm_stats *st)
{
	pthread_mutex_lock(&vm->lock);
	*st = vm->st;
	pthread_mutex_unlock(&vm->lock);
}

void vmm_for_each_page(struct vmm *vm,
		       void (*fn)(const struct vmm_page_stats *ps, void *arg), void *arg)
{
	pthread_mutex_lock(&vm->lock);
	for (uint64_t i = 0; i < vm->ram_bytes >> PAGE_SHIFT; i++) {
		const struct page_count *c = &vm->pages[i];
		struct vmm_page_stats ps = {
			.page = i, .blocks = c->blocks, .events = c->events,
			.invalidated = c->invalidated,
		};

		if (c->blocks || c->events)
			fn(&ps, arg);
	}
	pthread_mutex_unlock(&vm->lock);
}

int vmm_check_blocks(struct vmm *vm)
{
	const struct vmm_block *b;
	int stale = 0;

	vmm_hold(vm);
	pthread_mutex_lock(&vm->lock);
	vmm_drain(vm);
	for (b = vm->live; b; b = b->next) {
		unsigned int n = b->tb.last[0] - b->tb.first[0] + 1;
		bool same;

		same = !memcmp(vm->ram + (b->tb.page[0] << PAGE_SHIFT) + b->tb.first[0],
			       b->bytes, n);
		if (same && n < b->len)
			same = !memcmp(vm->ram + (b->tb.page[1] << PAGE_SHIFT),
				       b->bytes + n, b->len - n);
		stale += !same;
	}
	pthread_mutex_unlock(&vm->lock);
	vmm_release(vm);
	return stale;
}
