/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What codewp.ko asks codewp_kvm.ko: is this write the store of a KVM guest?
 *
 * codewp.ko does not depend on KVM; the other one registers itself here, and is
 * held by the views that rely on it.
 */
#ifndef CODEWP_GUEST_H
#define CODEWP_GUEST_H

#include <linux/types.h>

struct module;
struct tracepoint;

/* kvm.ko's, whose trace.h is not among the installed headers. */
extern struct tracepoint __tracepoint_kvm_page_fault;
int __traceiter_kvm_page_fault(void *data, ...);

/*
 * Is @ip in the function that calls a tracepoint's probes when there are several?
 * It is a loop of about 100 bytes, far from the functions that have the tracepoint.
 */
static inline bool codewp_is_tracepoint_iter(unsigned long ip)
{
	return ip - (unsigned long)__traceiter_kvm_page_fault < 256;
}

/**
 * struct codewp_guest - the guest access that current's fault comes from
 * @vcpu: number of the vCPU, as user space gave it
 * @in_page: first byte of the access in its page
 * @store: an instruction's own store, not what the CPU does to read page tables
 * @told: codewp_guest_ops.tell has been called for this access
 */
struct codewp_guest {
	u32 vcpu;
	u32 in_page;
	bool store;
	bool told;
};

/**
 * struct codewp_guest_ops - codewp_kvm.ko's side
 * @owner: the module
 * @find: does current, in page_mkwrite for the page at @addr, deal with a
 *        guest's access to that very page, and will it let the guest repeat it?
 *        False when in doubt. Fills in @guest.
 * @tell: current's access has been told as stopped. KVM may ask for the page
 *        again before it gives up: that is to be no second event.
 *
 * Both are called under RCU with the folio locked and must not sleep.
 */
struct codewp_guest_ops {
	struct module *owner;
	bool (*find)(unsigned long addr, struct codewp_guest *guest);
	void (*tell)(void);
};

int codewp_guest_register(const struct codewp_guest_ops *ops);
void codewp_guest_unregister(void);
bool codewp_guest_wanted(void);

#endif /* CODEWP_GUEST_H */
