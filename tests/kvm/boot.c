// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The machine itself: has it the tables that it is said to have, does a guest run,
 * and is a guest's write to an armed page told? A guest of 20 bytes in real mode,
 * without anything of ours but the library: when this fails, the others need not be
 * looked at.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <codewp.h>
#include <linux/codewp.h>

#include "test.h"

#define RAM_SIZE	(64 * 4096UL)
#define CODE		0x1000UL
#define COUNTER		0x2ffcUL	/* not at a page's start: offsets are seen */
#define ROUNDS		1000

/*
 *	mov $ROUNDS, %cx
 * 1:	incl (COUNTER)
 *	loop 1b
 *	hlt
 */
static const unsigned char code[] = {
	0xb9, ROUNDS & 0xff, ROUNDS >> 8,
	0x66, 0xff, 0x06, COUNTER & 0xff, COUNTER >> 8,
	0xe2, 0xf9,
	0xf4,
};

struct guest {
	struct codewp *ctx;
	struct codewp_view *view;
	unsigned char *ram;
	int vcpu;
	struct kvm_run *run;
};

static void guest_start(struct guest *g)
{
	struct codewp_open_opts opts = { .sz = sizeof(opts), .backend = CODEWP_KMOD };
	struct kvm_userspace_memory_region slot = { .memory_size = RAM_SIZE };
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	int kvm, vm, memfd;
	struct kvm_sregs sregs;
	void *p = NULL;

	memfd = ASSERT_OK(memfd_create("guest", MFD_CLOEXEC));
	ASSERT_OK(ftruncate(memfd, RAM_SIZE));
	ASSERT_EQ(codewp_open(&g->ctx, &opts), 0);
	ASSERT_EQ(codewp_view_create(g->ctx, &g->view, memfd, 0, RAM_SIZE, NULL), 0);
	ASSERT_EQ(codewp_map(g->view, &p, RAM_SIZE, 0, PROT_READ | PROT_WRITE, 0), 0);
	g->ram = p;
	memcpy(g->ram + CODE, code, sizeof(code));

	kvm = ASSERT_OK(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	vm = ASSERT_OK(ioctl(kvm, KVM_CREATE_VM, 0));
	slot.userspace_addr = (unsigned long)g->ram;
	ASSERT_OK(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
	/* Where Intel keeps a real mode without EPT; below the reset vector. */
	ASSERT_OK(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000UL));
	g->vcpu = ASSERT_OK(ioctl(vm, KVM_CREATE_VCPU, 0));
	g->run = mmap(NULL, ASSERT_OK(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)),
		      PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
	ASSERT(g->run != MAP_FAILED);

	ASSERT_OK(ioctl(g->vcpu, KVM_GET_SREGS, &sregs));
	sregs.cs.base = sregs.cs.selector = 0;
	ASSERT_OK(ioctl(g->vcpu, KVM_SET_SREGS, &sregs));
	ASSERT_OK(ioctl(g->vcpu, KVM_SET_REGS, &regs));
}

static void guest_run(struct guest *g)
{
	uint32_t n;

	ASSERT_OK(ioctl(g->vcpu, KVM_RUN, 0));
	ASSERT_EQ(g->run->exit_reason, (uint32_t)KVM_EXIT_HLT);
	memcpy(&n, g->ram + COUNTER, sizeof(n));
	ASSERT_EQ(n, (uint32_t)ROUNDS);
}

/* A parameter of kvm_amd or kvm_intel, which print bools as Y and N or 1 and 0. */
static bool parameter(const char *path)
{
	int fd = open(path, O_RDONLY);
	char c = 0;

	if (fd < 0 || read(fd, &c, 1) != 1)
		TEST_FAIL("%s: %s", path, strerror(errno));
	close(fd);
	return c == 'Y' || c == '1';
}

TEST(tables)
{
	const char *machine = getenv("CODEWP_MACHINE");

	if (!machine)
		TEST_FAIL("no CODEWP_MACHINE: not one of tests/vm/run --kvm");
	if (!strncmp(machine, "npt", 3)) {
		ASSERT_EQ(parameter("/sys/module/kvm_amd/parameters/npt"),
			  !strcmp(machine, "npt"));
	} else {
		ASSERT(parameter("/sys/module/kvm_intel/parameters/ept"));
		ASSERT_EQ(parameter("/sys/module/kvm_intel/parameters/pml"),
			  !strcmp(machine, "ept"));
	}
}

TEST(guest_counts)
{
	struct guest g = {};

	guest_start(&g);
	guest_run(&g);
}

static void count_event(const struct codewp_event_info *ev, void *arg)
{
	unsigned int *events = arg;

	if (ev->voff / 4096 == COUNTER / 4096)
		events[0]++;
	else
		events[1]++;
}

/* Of a thousand writes the first is told, and nothing else is. */
TEST(armed_page)
{
	unsigned int events[2] = {};
	const uint32_t *states;
	struct guest g = {};
	uint32_t gen;

	guest_start(&g);
	states = codewp_page_states(g.view);
	ASSERT_EQ(codewp_arm(g.view, COUNTER & -4096UL, 4096, CODEWP_OPEN, NULL), 0);
	ASSERT(states[COUNTER / 4096] & CODEWP_PAGE_ARMED);
	gen = states[COUNTER / 4096] >> 8;
	guest_run(&g);
	ASSERT(!(states[COUNTER / 4096] & CODEWP_PAGE_ARMED));
	ASSERT_EQ(states[COUNTER / 4096] >> 8, gen + 1);
	ASSERT_EQ(codewp_drain(g.view, count_event, events), 1);
	ASSERT_EQ(events[0], 1U);
	ASSERT_EQ(events[1], 0U);
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
