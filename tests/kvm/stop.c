// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * STOP and the ring, as the kernel's contract has them: a guest's store to a page
 * armed with STOP makes KVM_RUN fail before it is done, whatever the instruction;
 * everything else that writes there goes through and is told.
 */
#include <sys/pidfd.h>

#include "kvm_test.h"

GUEST_CODE(byte,
	   "mov $0x200123, %rdi\n"
	   "movb $0x5a, (%rdi)\n"
	   "hlt\n");
#define BYTE_STORE	(CODE + 7)	/* behind the first instruction */

TEST(stop_and_go_on)
{
	struct codewp_event_info *ev;
	struct guest g = {};
	struct codewp_stat st;
	uint32_t gen;

	kv_make(&g, NULL);
	kv_code(&g, byte);
	kv_arm(&g, DATA, CODEWP_STOP);
	gen = CODEWP_PAGE_GEN(kv_state(&g, DATA));
	ASSERT_EQ(kv_state(&g, DATA) & 0xff, CODEWP_PAGE_ARMED | CODEWP_PAGE_STOP);
	for (int i = 1; i <= 3; i++) {
		ASSERT_EQ(kv_run(&g, 0), -EFAULT);
		ASSERT_EQ(kv_rip(&g, 0), BYTE_STORE);
		ASSERT_EQ(g.ram[DATA + 0x123], 0);
		/* One event, though KVM asks for the page more than once. */
		ASSERT_EQ(kv_events(&g), 1);
		ev = &g.ev[0];
		ASSERT(ev->guest && ev->stopped && !ev->kernel);
		ASSERT_EQ(ev->voff, DATA + 0x123);
		ASSERT_EQ(ev->vcpu, 0);
		ASSERT_EQ(ev->tid, gettid());
		ASSERT_EQ(kv_state(&g, DATA) & 0xff, CODEWP_PAGE_ARMED | CODEWP_PAGE_STOP);
		ASSERT_EQ(CODEWP_PAGE_GEN(kv_state(&g, DATA)), gen + i);
	}
	kv_disarm(&g, DATA);
	kv_to_hlt(&g, 0);
	ASSERT_EQ(g.ram[DATA + 0x123], 0x5a);
	ASSERT_EQ(kv_events(&g), 0);
	st = kv_stat(&g);
	ASSERT_EQ(st.traps, 3);
	ASSERT_EQ(st.events, 3);
	ASSERT_EQ(st.guest_writes, 3);
	ASSERT_EQ(st.stops, 3);
	ASSERT_EQ(st.kernel_writes, 0);
	ASSERT_EQ(st.armed, 0);
}

/* OPEN: the guest goes on, and the event knows as much. */
TEST(ring)
{
	struct guest g = {};

	kv_make(&g, &(struct vmm_opts){ .cpus = 3 });
	kv_code(&g, byte);
	kv_arm(&g, DATA, CODEWP_OPEN);
	kv_to_hlt(&g, 2);
	ASSERT_EQ(g.ram[DATA + 0x123], 0x5a);
	ASSERT_EQ(kv_events(&g), 1);
	ASSERT(g.ev[0].guest && !g.ev[0].stopped && !g.ev[0].kernel);
	ASSERT_EQ(g.ev[0].voff, DATA + 0x123);
	ASSERT_EQ(g.ev[0].vcpu, 2);
	ASSERT_EQ(g.ev[0].tid, gettid());
	ASSERT_EQ(kv_state(&g, DATA) & 0xff, CODEWP_PAGE_WRITTEN);
	ASSERT_EQ(kv_stat(&g).guest_writes, 1);
	ASSERT_EQ(kv_stat(&g).stops, 0);
}

/* ---- every kind of store that the guest executes itself ---- */

#define AT	0x200100UL
GUEST_CODE(s_mov8, "movq %rax, (%rdi)\nhlt");
GUEST_CODE(s_cross, "movq %rax, 0x2ffd - 0x100(%rdi)\nhlt");
GUEST_CODE(s_inc, "lock incq (%rdi)\nhlt");
GUEST_CODE(s_xchg, "xchg %rax, (%rdi)\nhlt");
GUEST_CODE(s_cx8, "xor %eax, %eax\nmov $7, %rcx\nlock cmpxchg %rcx, (%rdi)\nhlt");
GUEST_CODE(s_cx16, "xor %eax, %eax\nxor %edx, %edx\nmov $7, %rbx\nmov $8, %rcx\n"
	   "lock cmpxchg16b (%rdi)\nhlt");
GUEST_CODE(s_push, "lea 8(%rdi), %rsp\npush $0x11\nhlt");
GUEST_CODE(s_call, "lea 8(%rdi), %rsp\ncall 1f\n1: hlt");
GUEST_CODE(s_stos, "mov $100, %ecx\nmov $0xab, %al\nrep stosb\nhlt");
GUEST_CODE(s_movs, "mov $0x100000, %rsi\nmov $64, %ecx\nrep movsb\nhlt");
GUEST_CODE(s_x87, "fninit\nfldpi\nfstpt (%rdi)\nhlt");
GUEST_CODE(s_fxsave, "fxsave (%rdi)\nhlt");
GUEST_CODE(s_sse, "movq %rax, %xmm3\nmovups %xmm3, (%rdi)\nhlt");
GUEST_CODE(s_sse_nt, "movq %rax, %xmm3\nmovntdq %xmm3, (%rdi)\nhlt");
GUEST_CODE(s_avx, "vmovq %rax, %xmm3\nvmovups %ymm3, (%rdi)\nhlt");
GUEST_CODE(s_bts, "btsl $5, (%rdi)\nhlt");
GUEST_CODE(s_setcc, "cmp %eax, %eax\nsete (%rdi)\nhlt");

static const struct kind {
	const char *name, *start, *end;
	uint64_t at, page;	/* first byte told; the page that is armed */
	int avx;
} kinds[] = {
#define KIND(n) #n, guest_s_##n, guest_s_##n##_end
	{ KIND(mov8), AT, DATA, 0 },
	{ KIND(cross), 0x202ffdUL, DATA + 2 * PAGE, 0 },
	{ KIND(cross), 0x203000UL, DATA + 3 * PAGE, 0 },
	{ KIND(inc), AT, DATA, 0 },
	{ KIND(xchg), AT, DATA, 0 },
	{ KIND(cx8), AT, DATA, 0 },
	{ KIND(cx16), AT, DATA, 0 },
	{ KIND(push), AT, DATA, 0 },
	{ KIND(call), AT, DATA, 0 },
	{ KIND(stos), AT, DATA, 0 },
	{ KIND(movs), AT, DATA, 0 },
	{ KIND(x87), AT, DATA, 0 },
	{ KIND(fxsave), AT, DATA, 0 },
	{ KIND(sse), AT, DATA, 0 },
	{ KIND(sse_nt), AT, DATA, 0 },
	{ KIND(avx), AT, DATA, 1 },
	{ KIND(bts), AT, DATA, 0 },
	{ KIND(setcc), AT, DATA, 0 },
};

/* What the store leaves when nothing is armed. */
static void run_plain(struct guest *g, const struct kind *k)
{
	struct kvm_regs regs;

	memset(g->ram + DATA, 0, 4 * PAGE);
	memcpy(g->ram + CODE, k->start, k->end - k->start);
	ASSERT_EQ(vmm_boot_long(g->vm, CODE), 0);
	ASSERT_EQ(vmm_get_regs(vmm_vcpu(g->vm, 0), &regs), 0);
	regs.rdi = AT;
	regs.rax = 0x1122334455667788;
	ASSERT_EQ(vmm_set_regs(vmm_vcpu(g->vm, 0), &regs), 0);
}

TEST_LONG(stop_every_store, 60)
{
	static unsigned char want[4 * PAGE], before[4 * PAGE];
	struct guest g = {};
	struct kvm_sregs sregs;

	kv_make(&g, NULL);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct kind *k = &kinds[i];
		uint64_t rip;

		run_plain(&g, k);
		ASSERT_EQ(vmm_get_sregs(vmm_vcpu(g.vm, 0), &sregs), 0);
		if (k->avx && !(sregs.cr4 & (1 << 18)))
			continue;	/* no XSAVE in this machine's KVM, so no AVX */
		kv_to_hlt(&g, 0);
		memcpy(want, g.ram + DATA, sizeof(want));

		run_plain(&g, k);
		memcpy(before, g.ram + DATA, sizeof(before));
		kv_arm(&g, k->page, CODEWP_STOP);
		if (kv_run(&g, 0) != -EFAULT)
			TEST_FAIL("%s: exit %u, not EFAULT", k->name, kv_reason(&g, 0));
		rip = kv_rip(&g, 0);
		if (memcmp(g.ram + k->page, before + (k->page - DATA), PAGE))
			TEST_FAIL("%s: has written", k->name);
		ASSERT_EQ(kv_events(&g), 1);
		ASSERT(g.ev[0].guest && g.ev[0].stopped);
		if (g.ev[0].voff != k->at)
			TEST_FAIL("%s: told of %#llx", k->name,
				  (unsigned long long)g.ev[0].voff);
		/* Nothing changes by trying again. */
		ASSERT_EQ(kv_run(&g, 0), -EFAULT);
		ASSERT_EQ(kv_rip(&g, 0), rip);
		ASSERT_EQ(kv_events(&g), 1);
		kv_disarm(&g, k->page);
		kv_to_hlt(&g, 0);
		if (memcmp(g.ram + DATA, want, sizeof(want)))
			TEST_FAIL("%s: wrote something else", k->name);
		ASSERT_EQ(kv_events(&g), 0);
	}
}

/* Both pages of a crossing store: one stop after the other, then the whole store. */
TEST(stop_both_pages)
{
	struct guest g = {};
	uint64_t v;

	kv_make(&g, NULL);
	run_plain(&g, &kinds[1]);
	kv_arm(&g, DATA + 2 * PAGE, CODEWP_STOP);
	kv_arm(&g, DATA + 3 * PAGE, CODEWP_STOP);
	for (int left = 2; left; left--) {
		ASSERT_EQ(kv_run(&g, 0), -EFAULT);
		ASSERT_EQ(kv_events(&g), 1);
		ASSERT(g.ev[0].stopped);
		for (int i = 0; i < 8; i++)
			ASSERT_EQ(g.ram[0x202ffd + i], 0);
		kv_disarm(&g, g.ev[0].voff);
	}
	kv_to_hlt(&g, 0);
	memcpy(&v, g.ram + 0x202ffd, 8);
	ASSERT_EQ(v, 0x1122334455667788);
	ASSERT_EQ(kv_events(&g), 0);
}

/* ---- what is not stopped ---- */

static void expect_open(struct guest *g, bool kernel)
{
	ASSERT_EQ(kv_events(g), 1);
	ASSERT_EQ(g->ev[0].kernel, kernel);
	ASSERT(!g->ev[0].guest && !g->ev[0].stopped);
	ASSERT(!(kv_state(g, DATA) & (CODEWP_PAGE_ARMED | CODEWP_PAGE_STOP)));
	ASSERT(kv_state(g, DATA) & CODEWP_PAGE_WRITTEN);
}

TEST(host_writes_go_through)
{
	struct guest g = {};
	int fds[2];

	kv_make(&g, NULL);
	kv_code(&g, byte);
	kv_arm(&g, DATA, CODEWP_STOP);
	*(volatile char *)(g.ram + DATA) = 1;
	expect_open(&g, false);

	ASSERT_OK(pipe(fds));
	ASSERT_EQ(write(fds[1], "x", 1), 1);
	kv_arm(&g, DATA, CODEWP_STOP);
	ASSERT_EQ(read(fds[0], g.ram + DATA + 1, 1), 1);
	expect_open(&g, true);
	ASSERT_EQ(g.ram[DATA + 1], 'x');

	/* By the vCPU's own thread, right after its guest was stopped there. */
	kv_arm(&g, DATA, CODEWP_STOP);
	ASSERT_EQ(kv_run(&g, 0), -EFAULT);
	ASSERT_EQ(kv_events(&g), 1);
	ASSERT(g.ev[0].stopped);
	ASSERT_EQ(write(fds[1], "y", 1), 1);
	ASSERT_EQ(read(fds[0], g.ram + DATA + 0x123, 1), 1);
	expect_open(&g, true);
	kv_to_hlt(&g, 0);
	ASSERT_EQ(g.ram[DATA + 0x123], 0x5a);
}

/* insb: KVM writes what the VMM put into the exit, in the guest's place. */
GUEST_CODE(insb,
	   "mov $0x200123, %rdi\n"
	   "mov $0x10, %edx\n"
	   "insb\n"
	   "hlt\n");

TEST(emulated_store_goes_through)
{
	struct kvm_run *run;
	struct guest g = {};

	kv_make(&g, NULL);
	kv_code(&g, insb);
	kv_arm(&g, DATA, CODEWP_STOP);
	run = vmm_vcpu_shared(vmm_vcpu(g.vm, 0));
	ASSERT_EQ(kv_run(&g, 0), 0);
	ASSERT_EQ(run->exit_reason, KVM_EXIT_IO);
	ASSERT_EQ(run->io.direction, KVM_EXIT_IO_IN);
	*((char *)run + run->io.data_offset) = 'q';
	kv_to_hlt(&g, 0);
	ASSERT_EQ(g.ram[DATA + 0x123], 'q');
	expect_open(&g, true);
}

static void set_msr(struct guest *g, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	if (ioctl(vmm_vcpu_fd(vmm_vcpu(g->vm, 0)), KVM_SET_MSRS, &m) != 1)
		SKIP("KVM does not take MSR %#x", index);
}

GUEST_CODE(touch_and_halt,
	   "1: incq 0x201000\n"
	   "hlt\n"
	   "jmp 1b\n");

#define MSR_STEAL_TIME	0x4b564d03
#define MSR_SYSTEM_TIME	0x4b564d01

/*
 * Steal time and the clock are KVM's own writes, between a guest's faults and in the
 * same thread: they must not fail, nor be taken for the guest's.
 */
TEST_LONG(kvms_own_writes_go_through, 60)
{
	unsigned int kernel = 0, guest = 0;
	struct guest g = {};
	uint32_t version;

	kv_make(&g, NULL);
	kv_code(&g, touch_and_halt);
	set_msr(&g, MSR_STEAL_TIME, DATA | 1);
	set_msr(&g, MSR_SYSTEM_TIME, (DATA + 0x100) | 1);
	for (int i = 0; i < 20; i++) {
		/* The guest's own store faults, too, in between, on another page. */
		kv_arm(&g, DATA, CODEWP_STOP);
		kv_arm(&g, DATA + PAGE, CODEWP_OPEN);
		/* Makes KVM write the clock's page anew. */
		set_msr(&g, MSR_SYSTEM_TIME, (DATA + 0x100) | 1);
		usleep(2000);
		kv_to_hlt(&g, 0);
		ASSERT_EQ(*(uint64_t *)(g.ram + DATA + PAGE), i + 1);
		kv_events(&g);
		for (int j = 0; j < g.nr; j++) {
			ASSERT(!g.ev[j].stopped);
			if (g.ev[j].voff / PAGE == DATA / PAGE) {
				ASSERT(g.ev[j].kernel && !g.ev[j].guest);
				kernel++;
			} else {
				ASSERT(g.ev[j].guest);
				guest++;
			}
		}
	}
	ASSERT_EQ(guest, 20);
	ASSERT_GT(kernel, 0);
	/* Both structures have a version that is even when KVM is done with it. */
	memcpy(&version, g.ram + DATA + 0x100, 4);
	ASSERT(version && !(version & 1));
	memcpy(&version, g.ram + DATA + 8, 4);
	ASSERT(!(version & 1));
}

/*
 * The CPU's own writes to page tables (accessed, dirty) are no store of an
 * instruction: told as the guest's, and done. With shadow paging KVM writes them, in
 * its own name.
 */
GUEST_CODE(walk,
	   "mov 0x600000, %rax\n"	/* not touched before: sets accessed bits */
	   "hlt\n");
#define WALK_PD		0x4000UL	/* of the first GiB */

TEST(page_walk_is_no_store)
{
	bool shadow = !strcmp(kv_machine(), "npt0");
	struct guest g = {};
	uint64_t entry;
	int told = 0;

	kv_make(&g, NULL);
	kv_code(&g, walk);
	memcpy(&entry, g.ram + WALK_PD + 3 * 8, 8);
	ASSERT_EQ(entry & ~0xfffUL, 0x600000);
	entry &= ~0x60UL;
	memcpy(g.ram + WALK_PD + 3 * 8, &entry, 8);
	kv_arm(&g, WALK_PD, CODEWP_STOP);
	kv_to_hlt(&g, 0);
	kv_events(&g);
	for (int i = 0; i < g.nr; i++) {
		ASSERT(!g.ev[i].stopped);
		ASSERT_EQ(g.ev[i].voff / PAGE, WALK_PD / PAGE);
		ASSERT_EQ(shadow ? g.ev[i].kernel : g.ev[i].guest, true);
		told++;
	}
	ASSERT_EQ(told, 1);
	memcpy(&entry, g.ram + WALK_PD + 3 * 8, 8);
	ASSERT(entry & 0x20);
}

/* ---- async page faults ---- */

GUEST_CODE(async,
	   "mov $0x200123, %rdi\n"
	   "test %rax, %rax\n"
	   "jz 1f\n"
	   "sti\n"
	   "nop\n"
	   "1: movb $0x5a, (%rdi)\n"
	   "cli\n"
	   "out %al, $0x10\n");

static int run_async(struct guest *g, const struct vmm_opts *opts, bool interrupts)
{
	struct kvm_regs regs;

	kv_make(g, opts);
	kv_code(g, async);
	ASSERT_EQ(vmm_get_regs(vmm_vcpu(g->vm, 0), &regs), 0);
	regs.rax = interrupts;
	ASSERT_EQ(vmm_set_regs(vmm_vcpu(g->vm, 0), &regs), 0);
	kv_arm(g, DATA, CODEWP_STOP);
	return kv_run(g, 0);
}

static void expect_stop(struct guest *g, int ret)
{
	ASSERT_EQ(ret, -EFAULT);
	ASSERT_EQ(g->ram[DATA + 0x123], 0);
	ASSERT_EQ(kv_events(g), 1);
	ASSERT(g->ev[0].guest && g->ev[0].stopped);
	kv_disarm(g, DATA);
	ASSERT_EQ(kv_run(g, 0), 0);
	ASSERT_EQ(kv_reason(g, 0), KVM_EXIT_IO);
	ASSERT_EQ(g->ram[DATA + 0x123], 0x5a);
	ASSERT_EQ(kv_events(g), 0);
}

/*
 * With KVM's APIC and interrupts on, KVM hands a page that it does not get at once
 * to a worker, who asks for it in nobody's name. Then the store goes through, and that
 * is told, after the stop that did not come to be. Where KVM cannot do that, it is a
 * stop: with interrupts off, or when a halted guest stays in the guest.
 */
TEST(async_page_faults)
{
	struct guest g = {};
	int ret;

	ret = run_async(&g, &(struct vmm_opts){ .irqchip = true }, false);
	expect_stop(&g, ret);
	vmm_destroy(g.vm);
	ret = run_async(&g, &(struct vmm_opts){ .irqchip = true, .no_hlt_exit = true }, true);
	expect_stop(&g, ret);
	vmm_destroy(g.vm);

	ret = run_async(&g, &(struct vmm_opts){ .irqchip = true }, true);
	if (ret == -EFAULT)	/* this KVM does not do it for such a fault */
		return expect_stop(&g, ret);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(kv_reason(&g, 0), KVM_EXIT_IO);
	ASSERT_EQ(g.ram[DATA + 0x123], 0x5a);
	ASSERT_EQ(kv_events(&g), 2);
	ASSERT(g.ev[0].guest && g.ev[0].stopped);
	ASSERT_EQ(g.ev[0].voff, DATA + 0x123);
	ASSERT(!g.ev[1].guest && !g.ev[1].stopped && g.ev[1].kernel);
	ASSERT_EQ(g.ev[1].voff, DATA);
	ASSERT_EQ(g.ev[1].tid, 0);
	ASSERT_EQ(kv_state(&g, DATA) & 0xff, CODEWP_PAGE_WRITTEN);
}

/* ---- several vCPUs, several processes ---- */

struct runner {
	struct guest *g;
	unsigned int n;
	int ret;
	pid_t tid;
};

static void *runner(void *arg)
{
	struct runner *r = arg;

	r->tid = gettid();
	r->ret = kv_run(r->g, r->n);
	return NULL;
}

/* Two vCPUs at the same store: each is stopped, each has its event. */
TEST(two_vcpus)
{
	struct runner r[2];
	struct guest g = {};
	pthread_t t[2];

	kv_make(&g, &(struct vmm_opts){ .cpus = 2 });
	kv_code(&g, byte);
	for (int round = 0; round < 20; round++) {
		kv_arm(&g, DATA, CODEWP_STOP);
		for (int i = 0; i < 2; i++) {
			r[i] = (struct runner){ .g = &g, .n = i };
			ASSERT_EQ(pthread_create(&t[i], NULL, runner, &r[i]), 0);
		}
		for (int i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
		ASSERT_EQ(r[0].ret, -EFAULT);
		ASSERT_EQ(r[1].ret, -EFAULT);
		ASSERT_EQ(kv_events(&g), 2);
		ASSERT_EQ(g.ev[0].vcpu ^ g.ev[1].vcpu, 1);
		for (int i = 0; i < 2; i++) {
			ASSERT(g.ev[i].stopped);
			ASSERT_EQ(g.ev[i].tid, r[g.ev[i].vcpu].tid);
		}
		ASSERT_EQ(g.ram[DATA + 0x123], 0);
	}
	kv_disarm(&g, DATA);
	kv_to_hlt(&g, 0);
	kv_to_hlt(&g, 1);
	ASSERT_EQ(g.ram[DATA + 0x123], 0x5a);
}

/*
 * A VMM that is killed while its guest is stopped: whoever else holds the view has
 * the memory, the armed page and the event, and can go on with it.
 */
TEST(killed_in_a_stop)
{
	struct codewp_open_opts co = { .sz = sizeof(co), .backend = CODEWP_KMOD };
	struct codewp_view *view;
	struct guest g = {};
	struct codewp *ctx;
	int sock[2], dev, pidfd, status;
	pid_t pid;
	char c;

	ASSERT_OK(pipe(sock));
	pid = ASSERT_OK(fork());
	if (!pid) {
		kv_make(&g, NULL);
		kv_code(&g, byte);
		g.ram[DATA] = 77;
		kv_arm(&g, DATA, CODEWP_STOP);
		ASSERT_EQ(kv_run(&g, 0), -EFAULT);
		dev = codewp_view_fd(g.view);
		ASSERT_EQ(write(sock[1], &dev, sizeof(dev)), sizeof(dev));
		for (;;)
			ASSERT_EQ(kv_run(&g, 0), -EFAULT);
	}
	close(sock[1]);
	if (read(sock[0], &dev, sizeof(dev)) != sizeof(dev)) {
		waitpid(pid, &status, 0);
		_exit(1);	/* it has said why */
	}
	pidfd = ASSERT_OK(pidfd_open(pid, 0));
	ASSERT_EQ(codewp_open(&ctx, &co), 0);
	ASSERT_EQ(codewp_view_attach(ctx, &view, ASSERT_OK(pidfd_getfd(pidfd, dev, 0))), 0);
	ASSERT_OK(kill(pid, SIGKILL));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(read(sock[0], &c, 1), 0);

	g.view = view;
	g.states = codewp_page_states(view);
	ASSERT_GT(kv_events(&g), 0);
	ASSERT(g.ev[0].guest && g.ev[0].stopped);
	ASSERT_EQ(g.ev[0].voff, DATA + 0x123);
	ASSERT(kv_state(&g, DATA) & CODEWP_PAGE_STOP);
	g.ram = NULL;
	ASSERT_EQ(codewp_map(view, (void **)&g.ram, 16 << 20, 0, PROT_READ | PROT_WRITE, 0),
		  0);
	ASSERT_EQ(g.ram[DATA], 77);
	ASSERT_EQ(g.ram[DATA + 0x123], 0);
	/* For a host's store STOP is as OPEN. */
	g.ram[DATA] = 78;
	expect_open(&g, false);
	codewp_view_destroy(view);
	codewp_close(ctx);
}

/* Another process arms and watches the guest of an unsuspecting VMM. */
TEST(watched_from_outside)
{
	struct codewp_open_opts co = { .sz = sizeof(co), .backend = CODEWP_KMOD };
	struct guest g = {}, w = {};
	struct codewp_info info = {};
	struct codewp *ctx;
	pid_t vmm = getpid(), pid;
	int go[2], done[2], dev, pidfd, status;
	char c = 0;

	kv_make(&g, NULL);
	kv_code(&g, byte);
	dev = codewp_view_fd(g.view);
	ASSERT_OK(ioctl(dev, CODEWP_IOC_INFO, &info));
	ASSERT(info.features & CODEWP_FEATURE_STOP);
	ASSERT_OK(pipe(go));
	ASSERT_OK(pipe(done));
	pid = ASSERT_OK(fork());
	if (!pid) {
		pidfd = ASSERT_OK(pidfd_open(vmm, 0));
		ASSERT_EQ(codewp_open(&ctx, &co), 0);
		ASSERT_EQ(codewp_view_attach(ctx, &w.view,
					     ASSERT_OK(pidfd_getfd(pidfd, dev, 0))), 0);
		w.states = codewp_page_states(w.view);
		kv_arm(&w, DATA, CODEWP_OPEN);
		ASSERT_EQ(write(go[1], "a", 1), 1);
		ASSERT_EQ(read(done[0], &c, 1), 1);
		ASSERT_EQ(kv_events(&w), 1);
		ASSERT(w.ev[0].guest);
		ASSERT_EQ(w.ev[0].tid, vmm);
		ASSERT_EQ(w.ev[0].voff, DATA + 0x123);
		ASSERT_EQ(w.ev[0].addr, 0);
		_exit(0);
	}
	ASSERT_EQ(read(go[0], &c, 1), 1);
	kv_to_hlt(&g, 0);
	ASSERT_EQ(write(done[1], "b", 1), 1);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		_exit(1);	/* it has said why */
	ASSERT_EQ(status, 0);
}

/* ---- the modules, and memory that is not there ---- */

static int remove_module(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK);
}

TEST(modules_stay_while_needed)
{
	struct codewp_info info = {};
	struct guest g = {};
	int dev, ko;

	dev = ASSERT_OK(open("/dev/codewp", O_RDWR | O_CLOEXEC));
	ASSERT_OK(ioctl(dev, CODEWP_IOC_INFO, &info));
	ASSERT(info.features & CODEWP_FEATURE_STOP);
	kv_make(&g, NULL);
	kv_code(&g, byte);
	kv_arm(&g, DATA, CODEWP_STOP);
	ASSERT_EQ(kv_run(&g, 0), -EFAULT);
	ASSERT_ERRNO(remove_module("codewp"), EAGAIN);
	ASSERT_ERRNO(remove_module("codewp_kvm"), EAGAIN);
	vmm_destroy(g.vm);

	ko = open("/build/kmod/codewp_kvm.ko", O_RDONLY | O_CLOEXEC);
	if (ko < 0)
		SKIP("no /build/kmod/codewp_kvm.ko to load again");
	/* A view's memory goes a moment after its last reference. */
	for (int i = 0; remove_module("codewp_kvm"); i++) {
		ASSERT_EQ(errno, EAGAIN);
		ASSERT_LT(i, 1000);
		usleep(10000);
	}
	memset(&g, 0, sizeof(g));
	memset(&info, 0, sizeof(info));
	ASSERT_OK(ioctl(dev, CODEWP_IOC_INFO, &info));
	ASSERT(!(info.features & CODEWP_FEATURE_STOP));
	kv_make(&g, NULL);
	kv_code(&g, byte);
	ASSERT_EQ(codewp_arm(g.view, DATA, PAGE, CODEWP_STOP, NULL), -EOPNOTSUPP);
	ASSERT(!(kv_state(&g, DATA) & CODEWP_PAGE_ARMED));
	/* Without it a guest's write is the kernel's, and told. */
	kv_arm(&g, DATA, CODEWP_OPEN);
	kv_to_hlt(&g, 0);
	expect_open(&g, true);
	ASSERT_OK(syscall(SYS_finit_module, ko, "", 0));
	kv_arm(&g, DATA, CODEWP_STOP);
	kv_code(&g, byte);
	ASSERT_EQ(kv_run(&g, 0), -EFAULT);
}

/* The view reaches beyond its memfd: as memory behind a file's end, and no stop. */
TEST(view_longer_than_its_file)
{
	struct codewp_open_opts co = { .sz = sizeof(co), .backend = CODEWP_KMOD };
	struct guest g = {};
	struct codewp *ctx;
	void *p = NULL;
	int memfd;

	kv_make(&g, &(struct vmm_opts){ .mem = VMM_MEM_ANON, .ram = 2 << 20 });
	memfd = ASSERT_OK(memfd_create("short", MFD_CLOEXEC));
	ASSERT_OK(ftruncate(memfd, 0));
	ASSERT_EQ(codewp_open(&ctx, &co), 0);
	ASSERT_EQ(codewp_view_create(ctx, &g.view, memfd, 0, PAGE, NULL), 0);
	ASSERT_EQ(codewp_map(g.view, &p, PAGE, 0, PROT_READ | PROT_WRITE, 0), 0);
	ASSERT_EQ(vmm_slot(g.vm, 1, DATA, PAGE, p, 0), 0);
	kv_code(&g, byte);
	ASSERT_EQ(codewp_arm(g.view, 0, PAGE, CODEWP_STOP, NULL), -ENXIO);
	ASSERT_EQ(kv_run(&g, 0), -EFAULT);
	ASSERT_EQ(kv_rip(&g, 0), BYTE_STORE);
	ASSERT_EQ(kv_events(&g), 0);
	ASSERT_EQ(kv_stat(&g).traps, 0);
	/* With the file long enough it goes on. */
	ASSERT_OK(ftruncate(memfd, PAGE));
	kv_to_hlt(&g, 0);
	ASSERT_EQ(((char *)p)[0x123], 0x5a);
}
