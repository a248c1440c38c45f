// SPDX-License-Identifier: GPL-2.0
/*
 * codewp_kvm: which writes are stores of KVM guests.
 *
 * KVM handles a guest's page fault by get_user_pages() in the vCPU's thread, and
 * that calls page_mkwrite of the view. But KVM writes to guest memory in its own
 * name, too, in the same thread: steal time, clocks, what it emulates. Only the
 * first can be refused, and so be stopped. What tells them apart:
 *
 * - KVM's tracepoint kvm_page_fault says that this thread begins to deal with a
 *   fault, of which vCPU, at which address. It is remembered here, with the place
 *   on the stack to which the function that says so is going to return.
 * - While that place is still on the thread's stack, the thread is dealing with
 *   that fault. KVM's own writes before and after are not in it.
 * - If there is an exception between that place and page_mkwrite, a copy to user
 *   space faulted: KVM writes for the guest. Without one, it is asking for the
 *   page that the guest is to have.
 * - With two-dimensional paging the address is a guest-physical one, and must lie
 *   in a memory slot at the address that page_mkwrite was called for.
 *
 * Faults are remembered in a table of fixed size, by thread; the lock of a set
 * guards its entries. When more threads than a set has room for are in the midst of
 * faults, the oldest is forgotten, and is told as a write by the kernel.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hash.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/tracepoint.h>
#include <asm/unwind.h>

#include "compat.h"
#include "guest.h"

/* Bit 1 says "write" in all three vendors' forms of the error code. */
#define FAULT_WRITE		BIT_ULL(1)
/* AMD: the final access, and an access to the guest's page tables. */
#define NPF_FINAL		BIT_ULL(32)
#define NPF_WALK		BIT_ULL(33)
/* Intel: there is a linear address; the access is to what it translates to. */
#define EPT_LINEAR		BIT_ULL(7)
#define EPT_TRANSLATED		BIT_ULL(8)

#define WAYS	8

/**
 * struct fault - a guest's write fault that a thread deals with
 * @task: the thread, compared only; NULL: never used
 * @vcpu: valid while the fault is being dealt with
 * @addr: guest-physical, or with shadow paging guest-virtual
 * @code: as the CPU gave it
 * @exits: of the vCPU, so far
 * @ip: where the function that reported the fault returns to
 * @sp: stack pointer there
 * @age: of the set, when it was remembered
 * @told: as a stop
 */
struct fault {
	struct task_struct *task;
	struct kvm_vcpu *vcpu;
	u64 addr;
	u64 code;
	u64 exits;
	unsigned long ip;
	unsigned long sp;
	unsigned long age;
	bool told;
};

struct set {
	raw_spinlock_t lock;	/* guards the rest */
	unsigned long age;
	struct fault faults[WAYS];
};

static struct set *sets;
static unsigned int set_bits;

static struct set *current_set(void)
{
	return &sets[hash_ptr(current, set_bits)];
}

/* Current's entry of the set, or NULL; its lock is held. */
static struct fault *current_fault(struct set *set)
{
	unsigned int i;

	for (i = 0; i < WAYS; i++)
		if (set->faults[i].task == current)
			return &set->faults[i];
	return NULL;
}

/*
 * Where does the function return to that has the return address @ret in its
 * frame, i.e. that called us? Traced by several at a time, a tracepoint calls
 * its probes by a function of its own, in which @ret is then.
 */
static bool caller_frame(unsigned long ret, struct fault *f)
{
	unsigned int skip = codewp_is_tracepoint_iter(ret) ? 2 : 1;
	struct unwind_state state;
	bool found = false;

	for (unwind_start(&state, current, NULL, NULL); !unwind_done(&state);
	     unwind_next_frame(&state)) {
		f->ip = unwind_get_return_address(&state);
		f->sp = codewp_unwind_sp(&state);
		if (found && !--skip)
			return true;
		if (f->ip == ret)
			found = true;
	}
	return false;
}

/* Is current dealing with the fault, in no exception since? */
static bool fault_is_live(const struct fault *f)
{
	struct unwind_state state;
	unsigned long sp;

	for (unwind_start(&state, current, NULL, NULL); !unwind_done(&state);
	     unwind_next_frame(&state)) {
		if (unwind_get_entry_regs(&state, NULL))
			return false;
		sp = codewp_unwind_sp(&state);
		if (sp >= f->sp)
			return sp == f->sp &&
			       unwind_get_return_address(&state) == f->ip;
	}
	return false;
}

/* The probe of kvm_page_fault: preemption is off. */
static noinline void page_fault_probe(void *data, struct kvm_vcpu *vcpu, u64 addr,
				      u64 code)
{
	struct fault *f, *oldest;
	struct fault new = {
		.task = current,
		.vcpu = vcpu,
		.addr = addr,
		.code = code,
		.exits = vcpu->stat.exits,
	};
	struct set *set;
	unsigned int i;

	if (!(code & FAULT_WRITE) || !codewp_guest_wanted())
		return;
	if (!caller_frame(_RET_IP_, &new))
		return;
	set = current_set();
	raw_spin_lock(&set->lock);
	new.age = ++set->age;
	f = current_fault(set);
	if (!f) {
		oldest = &set->faults[0];
		for (i = 1; i < WAYS; i++)
			if (set->faults[i].age < oldest->age)
				oldest = &set->faults[i];
		f = oldest;
	}
	*f = new;
	raw_spin_unlock(&set->lock);
}

/*
 * Is @addr the page of the fault's address? Under shadow paging, and for guests
 * of guests, that is not a guest-physical one, and KVM asks for no other page.
 */
static bool is_page_of(const struct fault *f, unsigned long addr)
{
	const struct kvm_memory_slot *slot;
	gfn_t gfn = gpa_to_gfn(f->addr);

	if (!f->vcpu->arch.mmu->root_role.direct)
		return true;
	/* KVM holds its SRCU lock for reading. */
	slot = __gfn_to_memslot(kvm_vcpu_memslots(f->vcpu), gfn);
	return slot && __gfn_to_hva_memslot(slot, gfn) == (addr & PAGE_MASK);
}

static bool is_store(const struct fault *f)
{
	if (f->code & (NPF_FINAL | NPF_WALK))
		return f->code & NPF_FINAL;
	if (f->vcpu->arch.mmu->root_role.direct && (f->code & EPT_LINEAR))
		return f->code & EPT_TRANSLATED;
	return true;
}

static bool guest_find(unsigned long addr, struct codewp_guest *guest)
{
	struct set *set = current_set();
	struct fault *f, fault;

	raw_spin_lock(&set->lock);
	f = current_fault(set);
	if (f)
		fault = *f;
	raw_spin_unlock(&set->lock);
	if (!f)
		return false;
	/* First: it says that the vCPU is still there. */
	if (!fault_is_live(&fault))
		return false;
	if (fault.exits != fault.vcpu->stat.exits || !is_page_of(&fault, addr))
		return false;

	guest->vcpu = fault.vcpu->vcpu_id;
	guest->in_page = offset_in_page(fault.addr);
	guest->store = is_store(&fault);
	guest->told = fault.told;
	return true;
}

static void guest_tell(void)
{
	struct set *set = current_set();
	struct fault *f;

	raw_spin_lock(&set->lock);
	f = current_fault(set);
	if (f)
		f->told = true;
	raw_spin_unlock(&set->lock);
}

static const struct codewp_guest_ops guest_ops = {
	.owner = THIS_MODULE,
	.find = guest_find,
	.tell = guest_tell,
};

static int __init codewp_kvm_init(void)
{
	unsigned int i;
	int err;

	if (!CODEWP_HAS_UNWINDER) {
		pr_err("this kernel cannot look at its stack (CONFIG_UNWINDER_ORC)\n");
		return -EOPNOTSUPP;
	}
	set_bits = ilog2(roundup_pow_of_two(max(16U, 4 * num_possible_cpus())));
	sets = kvcalloc(BIT(set_bits), sizeof(*sets), GFP_KERNEL);
	if (!sets)
		return -ENOMEM;
	for (i = 0; i < BIT(set_bits); i++)
		raw_spin_lock_init(&sets[i].lock);

	err = tracepoint_probe_register(&__tracepoint_kvm_page_fault,
					page_fault_probe, NULL);
	if (err)
		goto err_free;
	err = codewp_guest_register(&guest_ops);
	if (err)
		goto err_probe;
	return 0;

err_probe:
	tracepoint_probe_unregister(&__tracepoint_kvm_page_fault,
				    page_fault_probe, NULL);
	tracepoint_synchronize_unregister();
err_free:
	kvfree(sets);
	return err;
}

static void __exit codewp_kvm_exit(void)
{
	codewp_guest_unregister();
	tracepoint_probe_unregister(&__tracepoint_kvm_page_fault,
				    page_fault_probe, NULL);
	tracepoint_synchronize_unregister();
	kvfree(sets);
}

module_init(codewp_kvm_init);
module_exit(codewp_kvm_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The codewp developers");
MODULE_DESCRIPTION("codewp: stores of KVM guests, told apart from KVM's own writes");
MODULE_VERSION("0.1");
