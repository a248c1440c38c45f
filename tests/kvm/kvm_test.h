/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the tests of the module under KVM share: a guest in long mode whose RAM is a
 * view, driven by bare KVM_RUN, and its events. The VMM's own handling of events and
 * stops stays out of the way (vmm_vcpu_run() is not used): these tests are of what
 * KVM and the module do.
 */
#ifndef CODEWP_KVM_TEST_H
#define CODEWP_KVM_TEST_H

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>

#include <codewp.h>
#include <linux/codewp.h>

#include "../../user/vmm/vmm.h"
#include "test.h"

/* The kernel's counters are unsigned and test constants are int: both small. */
#pragma GCC diagnostic ignored "-Wsign-compare"

#define PAGE	4096UL
#define CODE	VMM_LONG_LOAD
#define DATA	0x200000UL	/* a 2 MiB page of the guest's, and of the host's if it can */

/* Guest code in long mode: the symbols guest_NAME and guest_NAME_end. */
#define GUEST_CODE(name, text)						\
	extern const char guest_##name[], guest_##name##_end[];		\
	asm(".pushsection .rodata\n"					\
	    "guest_" #name ":\n" text "\nguest_" #name "_end:\n"	\
	    ".popsection\n")

#define MAX_EVENTS	4096

struct guest {
	struct vmm *vm;
	struct codewp_view *view;
	unsigned char *ram;
	const uint32_t *states;
	struct codewp_event_info ev[MAX_EVENTS];	/* of the last drain */
	int nr;
};

static inline const char *kv_machine(void)
{
	return getenv("CODEWP_MACHINE") ?: "";
}

static inline void kv_make(struct guest *g, const struct vmm_opts *opts)
{
	struct vmm_opts o = { .sz = sizeof(o) };
	char why[256];

	if (opts)
		o = *opts;
	o.sz = sizeof(o);
	if (vmm_create(&g->vm, &o, why, sizeof(why)))
		TEST_FAIL("%s", why);
	g->ram = vmm_ram(g->vm);
	g->view = vmm_view(g->vm);
	if (g->view)
		g->states = codewp_page_states(g->view);
}

/* Put code at CODE and all vCPUs at its beginning. */
static inline void kv_code_(struct guest *g, const char *start, const char *end)
{
	memcpy(g->ram + CODE, start, end - start);
	ASSERT_EQ(vmm_boot_long(g->vm, CODE), 0);
}

#define kv_code(g, name) kv_code_((g), guest_##name, guest_##name##_end)

/* One KVM_RUN: 0, or -errno. */
static inline int kv_run(struct guest *g, unsigned int n)
{
	struct vmm_vcpu *vcpu = vmm_vcpu(g->vm, n);
	int ret;

	do {
		ret = ioctl(vmm_vcpu_fd(vcpu), KVM_RUN, 0);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

static inline uint32_t kv_reason(struct guest *g, unsigned int n)
{
	return vmm_vcpu_shared(vmm_vcpu(g->vm, n))->exit_reason;
}

static inline uint64_t kv_rip(struct guest *g, unsigned int n)
{
	struct kvm_regs regs;

	ASSERT_EQ(vmm_get_regs(vmm_vcpu(g->vm, n), &regs), 0);
	return regs.rip;
}

#define kv_to_hlt(g, n) do {						\
	ASSERT_EQ(kv_run((g), (n)), 0);					\
	ASSERT_EQ(kv_reason((g), (n)), KVM_EXIT_HLT);			\
} while (0)

static inline void kv_take(const struct codewp_event_info *ev, void *arg)
{
	struct guest *g = arg;

	if (g->nr < MAX_EVENTS)
		g->ev[g->nr] = *ev;
	g->nr++;
}

/* How many events there are now; they are in g->ev. */
static inline int kv_events(struct guest *g)
{
	int n;

	g->nr = 0;
	n = codewp_drain(g->view, kv_take, g);
	ASSERT_GE(n, 0);
	ASSERT_LE(n, MAX_EVENTS);
	return g->nr;
}

static inline struct codewp_stat kv_stat(struct guest *g)
{
	struct codewp_stat st;

	ASSERT_OK(ioctl(codewp_view_fd(g->view), CODEWP_IOC_STAT, &st));
	return st;
}

#define kv_arm(g, voff, mode) \
	ASSERT_EQ(codewp_arm((g)->view, (voff) & -PAGE, PAGE, (mode), NULL), 0)
#define kv_disarm(g, voff) \
	ASSERT_EQ(codewp_disarm((g)->view, (voff) & -PAGE, PAGE), 0)

static inline uint32_t kv_state(struct guest *g, uint64_t voff)
{
	return __atomic_load_n(&g->states[voff / PAGE], __ATOMIC_ACQUIRE);
}

#endif
