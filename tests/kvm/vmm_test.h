/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the tests with guests share: a VM or a reason to skip, pieces of guest code,
 * and the events that were taken out of the ring. All static inline: each test
 * program is one file.
 */
#ifndef CODEWP_VMM_TEST_H
#define CODEWP_VMM_TEST_H

#include <fcntl.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <linux/codewp.h>

#include "test.h"
#include "vmm.h"

#pragma GCC diagnostic ignored "-Wsign-compare"

#define PAGE	4096UL
#define CODE	VMM_LONG_LOAD
#define PORT_ROUND 0xf5		/* the guest has come round */
#define PORT_DONE 0xf6		/* the guest is at its end */

/* How many times slower than hardware this machine is. */
static inline long kv_scale(void)
{
	const char *s = getenv("TEST_SCALE");

	return s && atol(s) > 0 ? atol(s) : 1;
}

static inline bool kv_machine(const char *name)
{
	const char *m = getenv("CODEWP_MACHINE");

	return m && !strcmp(m, name);
}

/* Bochs is an interpreter of one CPU: about a million instructions in a second. */
static inline bool kv_slow(void)
{
	return kv_machine("ept") || kv_machine("ept-nopml");
}

/* A line of its own beside the result; the test's child ends without a flush. */
#define kv_note(...) do {						\
	printf("# " __VA_ARGS__);					\
	fflush(stdout);							\
} while (0)

static inline uint64_t kv_features(void)
{
	struct codewp_info info = { };
	int fd = open("/dev/codewp", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		SKIP("no /dev/codewp: the module is not loaded");
	ASSERT_OK(ioctl(fd, CODEWP_IOC_INFO, &info));
	close(fd);
	return info.features;
}

/* Are a guest's stores told apart from KVM's own writes? */
static inline bool kv_guest_told(void)
{
	return kv_features() & CODEWP_FEATURE_STOP;
}

static inline void kv_need_stop(void)
{
	if (!(kv_features() & CODEWP_FEATURE_STOP))
		SKIP("the module codewp_kvm is not loaded: no STOP");
}

/* opts.sz and, unless it says otherwise, memory of an anonymous view are filled in. */
static inline struct vmm *kv_vm(struct vmm_opts *opts)
{
	struct vmm *vm;
	char why[256];

	opts->sz = sizeof(*opts);
	if (vmm_create(&vm, opts, why, sizeof(why))) {
		if (!strncmp(why, "there is no /dev/", 17))
			SKIP("%s", why);
		TEST_FAIL("vmm_create: %s", why);
	}
	return vm;
}

/* Code at CODE, all vCPUs at its beginning in long mode. */
static inline void kv_code(struct vmm *vm, const void *from, const void *to)
{
	ASSERT_EQ(vmm_write(vm, CODE, from, (const char *)to - (const char *)from), 0);
	ASSERT_EQ(vmm_boot_long(vm, CODE), 0);
}

/* Runs until something happens; kicks are nothing. */
static inline enum vmm_exit_kind kv_run(struct vmm_vcpu *vcpu, struct vmm_exit *e)
{
	int err;

	do {
		err = vmm_vcpu_run(vcpu, e);
		if (err)
			TEST_FAIL("KVM_RUN: %s", strerror(-err));
	} while (e->kind == VMM_EXIT_KICK);
	return e->kind;
}

static inline void kv_fail_exit(struct vmm_vcpu *vcpu, const struct vmm_exit *e,
				const char *want)
{
	struct kvm_regs r = { };

	vmm_get_regs(vcpu, &r);
	TEST_FAIL("vCPU %u at %#llx: %s (reason %u, port %#x, gpa %#llx), want %s",
		  vmm_vcpu_id(vcpu), (unsigned long long)r.rip, vmm_exit_name(e->kind),
		  e->reason, e->port, (unsigned long long)e->gpa, want);
}

/* Runs to an output on this port, and nothing else may happen on the way. */
static inline void kv_run_to(struct vmm_vcpu *vcpu, uint16_t port)
{
	struct vmm_exit e;

	if (kv_run(vcpu, &e) != VMM_EXIT_OUT || e.port != port)
		kv_fail_exit(vcpu, &e, "an output");
}

static inline uint64_t kv_u64(struct vmm *vm, uint64_t gpa)
{
	uint64_t v;

	ASSERT_EQ(vmm_read(vm, gpa, &v, 8), 0);
	return v;
}

static inline uint32_t kv_state(struct vmm *vm, uint64_t gpa)
{
	return __atomic_load_n(&codewp_page_states(vmm_view(vm))[gpa / PAGE],
			       __ATOMIC_ACQUIRE);
}

static inline bool kv_armed(struct vmm *vm, uint64_t gpa)
{
	return kv_state(vm, gpa) & CODEWP_PAGE_ARMED;
}

static inline void kv_arm(struct vmm *vm, uint64_t gpa, uint64_t len, unsigned int mode)
{
	int err = codewp_arm(vmm_view(vm), gpa, len, mode, NULL);

	if (err)
		TEST_FAIL("arm %#llx: %s", (unsigned long long)gpa, codewp_strerror(err));
}

/* The events of a VM, in order; kv_events() empties the ring into it first. */
struct kv_events {
	struct codewp_event_info v[256];
	unsigned int n;
};

static inline void kv_event(const struct codewp_event_info *ev, void *arg)
{
	struct kv_events *e = arg;

	if (e->n < 256)
		e->v[e->n] = *ev;
	e->n++;
}

static inline void kv_watch_events(struct vmm *vm, struct kv_events *e)
{
	e->n = 0;
	vmm_on_event(vm, kv_event, e);
}

static inline void kv_drain(struct vmm *vm)
{
	int n = vmm_drain(vm);

	if (n < 0)
		TEST_FAIL("drain: %s", codewp_strerror(n));
}

/* How many of them are on the page. */
static inline unsigned int kv_count(const struct kv_events *e, uint64_t gpa)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < e->n && i < 256; i++)
		n += e->v[i].voff / PAGE == gpa / PAGE;
	return n;
}

#endif
