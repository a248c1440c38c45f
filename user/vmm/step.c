// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * One instruction of a vCPU, and stopped stores: what they would write, letting them
 * happen with the page armed again afterwards. Locks as internal.h says; here vmm_hold()
 * and vm->lock are taken, in this order.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

/* An instruction that scatters 16 elements, and a page end in each. */
#define MAX_OPENED	33

int vmm_step(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
	int err, err2;

	err = vmm_debug(vcpu, true, true);
	if (err)
		return err;
	do
		err = vmm_vcpu_run(vcpu, exit);
	while (!err && exit->kind == VMM_EXIT_KICK &&
	       !__atomic_load_n(&vcpu->vm->end, __ATOMIC_ACQUIRE));
	err2 = vmm_debug(vcpu, false, false);
	return err ? err : err2;
}

/* The instruction at the vCPU's rip: its bytes (fewer at the end of what is mapped). */
static size_t fetch(struct vmm_vcpu *vcpu, const struct kvm_regs *r,
		    const struct vmm_mode *mode, uint8_t *buf)
{
	struct vmm *vm = vcpu->vm;
	uint64_t gva = mode->cs_base + r->rip, gpa;
	size_t n = 0;

	while (n < 15 && !vmm_walk(vm, mode, gva + n, &gpa) && vmm_in_ram(vm, gpa, 1))
		buf[n++] = vm->ram[gpa];
	return n;
}

static int store_pieces(struct vmm_vcpu *vcpu, struct vmm_mode *mode,
			struct vmm_piece piece[2])
{
	struct kvm_sregs s;
	struct kvm_regs r;
	uint8_t buf[15];
	size_t n;
	int err;

	err = vmm_get_regs(vcpu, &r);
	if (!err)
		err = vmm_get_sregs(vcpu, &s);
	if (err)
		return err;
	vmm_mode_get(&s, mode);
	n = fetch(vcpu, &r, mode, buf);
	return vmm_decode_store(mode->bits, buf, n, &r, &s, piece);
}

/* The part of a piece on the page of gpa @voff, if it has one. */
static bool on_page(struct vmm *vm, const struct vmm_mode *mode,
		    const struct vmm_piece *p, uint64_t voff, uint64_t *first,
		    uint32_t *len)
{
	uint64_t at = p->addr, end = p->addr + p->size, gpa;

	while (at < end) {
		uint64_t next = (at | PAGE_MASK) + 1;

		if (next > end)
			next = end;
		if (!vmm_walk(vm, mode, at, &gpa) &&
		    gpa >> PAGE_SHIFT == voff >> PAGE_SHIFT) {
			*first = gpa;
			*len = next - at;
			return true;
		}
		at = next;
	}
	return false;
}

int vmm_store_bytes(struct vmm_vcpu *vcpu, uint64_t voff, uint64_t *first,
		    uint32_t *len)
{
	struct vmm_piece piece[2];
	struct vmm_mode mode;
	int n, i;

	n = store_pieces(vcpu, &mode, piece);
	for (i = 0; i < n; i++)
		if (on_page(vcpu->vm, &mode, &piece[i], voff, first, len) &&
		    voff - *first < *len)
			return 0;
	*first = voff & ~PAGE_MASK;
	*len = PAGE_SIZE;
	return n < 0 ? n : -ENOENT;
}

/* See was_stopped(): the page whose trap the instruction met, if it is armed so. */
bool vmm_find_stop(struct vmm_vcpu *vcpu)
{
	struct vmm *vm = vcpu->vm;
	struct vmm_piece piece[2];
	struct vmm_mode mode;
	uint64_t at, gpa;
	uint32_t state;
	int n, i;

	n = store_pieces(vcpu, &mode, piece);
	for (i = 0; i < n; i++) {
		for (at = piece[i].addr; at < piece[i].addr + piece[i].size;
		     at = (at | PAGE_MASK) + 1) {
			if (vmm_walk(vm, &mode, at, &gpa) || !vmm_in_ram(vm, gpa, 1))
				continue;
			state = __atomic_load_n(&vm->states[gpa >> PAGE_SHIFT],
						__ATOMIC_ACQUIRE);
			if (state & CODEWP_PAGE_ARMED && state & CODEWP_PAGE_STOP) {
				vcpu->stop_voff = gpa;
				return true;
			}
		}
	}
	return false;
}

static int open_page(struct vmm *vm, uint64_t voff, uint64_t *opened, int *n)
{
	uint64_t page = voff & ~PAGE_MASK;
	int i;

	for (i = 0; i < *n && opened[i] != page; i++)
		;
	if (i == *n) {
		if (i == MAX_OPENED)
			return -ELOOP;
		opened[(*n)++] = page;
	}
	return codewp_disarm(vm->view, page, PAGE_SIZE);
}

#define MAX_STEPS	3	/* of an instruction that goes nowhere, such as jmp to itself */

/*
 * A step over the store. It may end before the instruction: where the second-level
 * fault came in a step, one emulator's VMX (bochs 2.7) delivers that step's trap when
 * it enters the guest again. So a step that has not moved is made again.
 */
static int step_past(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
	struct kvm_regs before, after;
	int err, n = 0;

	do {
		err = vmm_get_regs(vcpu, &before);
		if (!err)
			err = vmm_step(vcpu, exit);
		if (err || exit->kind != VMM_EXIT_DEBUG)
			return err;
		err = vmm_get_regs(vcpu, &after);
	} while (!err && after.rip == before.rip && after.rcx == before.rcx &&
		 ++n < MAX_STEPS);
	return err;
}

int vmm_step_held(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
	uint64_t opened[MAX_OPENED], first;
	struct vmm *vm = vcpu->vm;
	int n = 0, err, err2, i;
	uint32_t len;

	memset(exit, 0, sizeof(*exit));
	exit->voff = vcpu->stop_voff;
	do {
		vmm_store_bytes(vcpu, exit->voff, &first, &len);
		vmm_blocks_drop(vm, first >> PAGE_SHIFT, first & PAGE_MASK,
				(first + len - 1) & PAGE_MASK);
		/* After the blocks: a page that is open has none that the store hits. */
		err = open_page(vm, exit->voff, opened, &n);
		if (!err)
			err = step_past(vcpu, exit);
	} while (!err && exit->kind == VMM_EXIT_STOP);
	for (i = 0; i < n; i++) {
		err2 = codewp_arm(vm->view, opened[i], PAGE_SIZE, CODEWP_STOP, NULL);
		/* Not armed any more, so nothing may rely on it. */
		if (err2)
			vmm_blocks_drop(vm, opened[i] >> PAGE_SHIFT, 0, PAGE_SIZE - 1);
		if (err2 && !err)
			err = err2;
	}
	if (!err && exit->kind == VMM_EXIT_DEBUG)
		vm->st.stepped++;
	return err;
}

int vmm_step_store(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
	struct vmm *vm = vcpu->vm;
	int err;

	if (!vm->view)
		return -EINVAL;
	vmm_hold(vm);
	pthread_mutex_lock(&vm->lock);
	err = vmm_step_held(vcpu, exit);
	pthread_mutex_unlock(&vm->lock);
	vmm_release(vm);
	return err;
}

int vmm_let_store(struct vmm_vcpu *vcpu)
{
	struct vmm *vm = vcpu->vm;
	uint64_t page = vcpu->stop_voff & ~PAGE_MASK;
	int err;

	if (!vm->view)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	vmm_blocks_drop(vm, page >> PAGE_SHIFT, 0, PAGE_SIZE - 1);
	err = codewp_disarm(vm->view, page, PAGE_SIZE);
	pthread_mutex_unlock(&vm->lock);
	return err;
}
