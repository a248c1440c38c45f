// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Several vCPUs, and a host that arms while they write. A write is lost when a page
 * changed after it was armed and still says that it is armed.
 */
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "vmm_test.h"

#define SHARED	0x400000UL	/* what is armed */
#define OWN	0x700000UL	/* counts: a page for each vCPU */
#define CALLED	0x500000UL

extern const uint8_t piece_add[], piece_add_end[], piece_byte[], piece_byte_end[];
extern const uint8_t piece_add_on[], piece_add_on_end[];
extern const uint8_t piece_patch[], piece_patch_end[];
extern const uint8_t piece_caller[], piece_caller_end[];
extern const uint8_t piece_called[], piece_called_end[];

struct runner {
	struct vmm_vcpu *vcpu;
	pthread_t thread;
	bool keep;		/* a stopped store leaves its page armed */
	unsigned int stops;
	struct vmm_exit last;
	int err;
	bool done;
};

/* Runs its vCPU to the guest's end, letting stopped stores happen. */
static void *runner(void *arg)
{
	struct runner *r = arg;
	struct vmm_exit *e = &r->last;

	do {
		r->err = vmm_vcpu_run(r->vcpu, e);
		if (!r->err && e->kind == VMM_EXIT_STOP) {
			struct vmm_exit step;

			r->stops++;
			r->err = r->keep ? vmm_step_store(r->vcpu, &step) :
					   vmm_let_store(r->vcpu);
		}
	} while (!r->err && (e->kind == VMM_EXIT_KICK || e->kind == VMM_EXIT_STOP));
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void runner_start(struct runner *r, struct vmm *vm, int n)
{
	r->vcpu = vmm_vcpu(vm, n);
	ASSERT_EQ(pthread_create(&r->thread, NULL, runner, r), 0);
}

static void runner_join(struct runner *r)
{
	ASSERT_EQ(pthread_join(r->thread, NULL), 0);
	if (r->err)
		TEST_FAIL("vCPU %u: %s", vmm_vcpu_id(r->vcpu), strerror(-r->err));
	if (r->last.kind != VMM_EXIT_OUT || r->last.port != PORT_DONE)
		kv_fail_exit(r->vcpu, &r->last, "the guest's end");
}

static void start_at(struct vmm_vcpu *vcpu, uint64_t rip, uint64_t rdi, uint64_t rcx)
{
	unsigned int id = vmm_vcpu_id(vcpu);
	/* Interrupts on, else bochs would interrupt nobody while it makes no exit. */
	struct kvm_regs r = {
		.rip = rip, .rflags = 0x202, .rdi = rdi, .rcx = rcx, .r10 = OWN + id * PAGE,
		.r8 = OWN + 15 * PAGE, .rsp = VMM_STACKS - id * VMM_STACK - 8,
	};

	ASSERT_EQ(vmm_set_regs(vcpu, &r), 0);
}

struct result {
	unsigned long arms, traps, writes, lost;
};

/* What a run must come to before it may end. */
struct goal {
	unsigned long writes, traps;
	unsigned int seconds;
};

static uint64_t written(struct vmm *vm)
{
	const volatile uint64_t *own = (void *)((char *)vmm_ram(vm) + OWN);

	return own[0] + own[PAGE / 8];
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

/*
 * Arm, look, look again, until the guest has written enough. The order counts: a state
 * read before the bytes could be older than they are.
 */
static void arm_against(struct vmm *vm, unsigned int mode, const struct goal *goal,
			struct result *res)
{
	volatile uint64_t *word = (void *)((char *)vmm_ram(vm) + SHARED);
	double end = now() + goal->seconds * kv_scale();

	while (res->traps < goal->traps || res->writes < goal->writes) {
		uint64_t before, after;
		uint32_t armed;
		double limit;

		if (now() > end)
			TEST_FAIL("%lu writes, %lu traps in %u s", res->writes, res->traps,
				  goal->seconds);
		kv_arm(vm, SHARED, PAGE, mode);
		res->arms++;
		armed = kv_state(vm, SHARED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		before = *word;
		for (int i = 0; i < 50; i++)
			__builtin_ia32_pause();
		after = *word;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (after != before && armed & CODEWP_PAGE_ARMED &&
		    kv_state(vm, SHARED) == armed)
			res->lost++;
		/* On to the next arm only when this one was met. */
		limit = now() + 5 * kv_scale();
		before = written(vm);
		do {
			res->writes = written(vm);
			if (now() > limit)
				TEST_FAIL("trap %lu does not come: %lu writes before, %lu since, "
					  "states %#x, %#x", res->traps, before,
					  res->writes - before, armed, kv_state(vm, SHARED));
		} while (kv_state(vm, SHARED) == armed && armed & CODEWP_PAGE_ARMED);
		res->traps++;
		kv_drain(vm);
	}
}

static void against(unsigned int mode, const struct goal *goal)
{
	struct vmm_opts o = { .cpus = 2, .mem = VMM_MEM_MEMFD };
	struct vmm *vm = kv_vm(&o);
	struct runner r[2] = { };
	struct result res = { };

	kv_code(vm, piece_add_on, piece_add_on_end);
	for (int i = 0; i < 2; i++) {
		start_at(vmm_vcpu(vm, i), CODE, SHARED, 0);
		runner_start(&r[i], vm, i);
	}
	arm_against(vm, mode, goal, &res);
	*((volatile uint8_t *)vmm_ram(vm) + OWN + 15 * PAGE) = 1;
	for (int i = 0; i < 2; i++)
		runner_join(&r[i]);
	kv_note("%lu writes, %lu arms, %lu traps, %u stops, %lu lost\n", written(vm), res.arms,
		res.traps, r[0].stops + r[1].stops, res.lost);
	ASSERT_EQ(kv_u64(vm, SHARED), written(vm));
	ASSERT_EQ(res.lost, 0);
	if (mode == CODEWP_STOP)
		ASSERT_GE(r[0].stops + r[1].stops, goal->traps / 2);
	vmm_destroy(vm);
}

/* Under bochs fewer writes; with shadow paging each trap costs tens of milliseconds. */
static struct goal a_million(void)
{
	if (kv_slow())
		return (struct goal){ 20000, 50, 60 };
	return (struct goal){ 1000000, kv_machine("npt0") ? 50 : 1000, 60 };
}

/* 1 000 000 writes of two vCPUs against arming (20 000 under bochs). */
TEST_LONG(million_ring, 120)
{
	struct goal goal = a_million();

	against(CODEWP_OPEN, &goal);
}

TEST_LONG(million_stop, 120)
{
	struct goal goal = a_million();

	kv_need_stop();
	against(CODEWP_STOP, &goal);
}

/*
 * Each store of both is stopped and stepped, on a page that stays armed: as many
 * stops as stores, and none happened without one.
 */
TEST_LONG(step_every_store, 60)
{
	struct vmm_opts o = { .cpus = 2, .mem = VMM_MEM_MEMFD };
	unsigned long n = kv_slow() ? 50 : 400;
	struct runner r[2] = { };
	struct vmm_stats st;
	struct vmm *vm;

	kv_need_stop();
	vm = kv_vm(&o);
	kv_code(vm, piece_byte, piece_byte_end);
	kv_arm(vm, SHARED, PAGE, CODEWP_STOP);
	for (int i = 0; i < 2; i++) {
		r[i].keep = true;
		start_at(vmm_vcpu(vm, i), CODE, SHARED + i * 64, n);
		runner_start(&r[i], vm, i);
	}
	for (int i = 0; i < 2; i++) {
		runner_join(&r[i]);
		ASSERT_EQ(kv_u64(vm, OWN + i * PAGE), n);
		ASSERT_EQ(kv_u64(vm, SHARED + i * 64), n & 0xff);
		/* One that met the other's opened page did not stop; holding forbids it. */
		ASSERT_EQ(r[i].stops, n);
	}
	ASSERT(kv_armed(vm, SHARED));
	vmm_stats(vm, &st);
	ASSERT_EQ(st.stepped, 2 * n);
	vmm_destroy(vm);
}

/*
 * Two vCPUs write one page that was armed once: one event, the other's write is let
 * through in silence.
 */
TEST_LONG(two_writers_one_event, 60)
{
	struct vmm_opts o = { .cpus = 2, .mem = VMM_MEM_MEMFD };
	unsigned int tries = kv_slow() ? 20 : 200;
	struct vmm *vm = kv_vm(&o);
	static struct kv_events ev;

	kv_watch_events(vm, &ev);
	kv_code(vm, piece_add, piece_add_end);
	for (unsigned int i = 1; i <= tries; i++) {
		struct runner r[2] = { };

		kv_arm(vm, SHARED, PAGE, CODEWP_OPEN);
		for (int c = 0; c < 2; c++) {
			start_at(vmm_vcpu(vm, c), CODE, SHARED, 20);
			runner_start(&r[c], vm, c);
		}
		for (int c = 0; c < 2; c++)
			runner_join(&r[c]);
		kv_drain(vm);
		ASSERT_EQ(ev.n, i);
		ASSERT_EQ(kv_u64(vm, SHARED), 40ULL * i);
	}
	vmm_destroy(vm);
}

/*
 * One vCPU patches what another runs, while the host keeps both pages' blocks. The
 * caller must see the operand only ever grow; no block may be stale at the end.
 */
static void patch_while_run(enum vmm_follow follow, bool stop, unsigned int n)
{
	struct vmm_opts o = {
		.cpus = 2, .mem = VMM_MEM_MEMFD, .follow = follow, .stop = stop,
	};
	struct vmm *vm = kv_vm(&o);
	struct runner r[2] = { };
	unsigned int looked = 0;
	uint64_t before = 0;
	struct vmm_stats st;

	ASSERT_EQ(vmm_write(vm, CODE + PAGE, piece_caller,
			    piece_caller_end - piece_caller), 0);
	kv_code(vm, piece_patch, piece_patch_end);
	ASSERT_EQ(vmm_write(vm, CALLED, piece_called, piece_called_end - piece_called), 0);
	start_at(vmm_vcpu(vm, 0), CODE + PAGE, CALLED, n);
	start_at(vmm_vcpu(vm, 1), CODE, CALLED + 4, n);
	ASSERT_GT(vmm_follow_here(vmm_vcpu(vm, 0)), 0);
	ASSERT_EQ(vmm_follow_at(vmm_vcpu(vm, 0), CALLED), 1);
	for (int i = 0; i < 2; i++) {
		r[i].keep = stop;
		runner_start(&r[i], vm, i);
	}
	while (!__atomic_load_n(&r[0].done, __ATOMIC_ACQUIRE) ||
	       !__atomic_load_n(&r[1].done, __ATOMIC_ACQUIRE)) {
		/*
		 * QEMU can miss the last patch (testing.rst); it looks again when one of
		 * its block's bytes is stored to.
		 */
		if (__atomic_load_n(&r[1].done, __ATOMIC_ACQUIRE))
			ASSERT_EQ(vmm_write(vm, CALLED, piece_called, 1), 0);
		/* The patched function's block, made again as soon as it was dropped. */
		vmm_hold(vm);
		ASSERT_GE(vmm_follow_at(vmm_vcpu(vm, 0), CALLED), 0);
		vmm_release(vm);
		ASSERT_EQ(vmm_check_blocks(vm), 0);
		looked++;
		usleep(500);
	}
	for (int i = 0; i < 2; i++)
		runner_join(&r[i]);
	ASSERT_EQ(kv_u64(vm, OWN + PAGE), n);
	before = kv_u64(vm, CALLED + 4) & 0xffffffff;
	ASSERT_EQ(before, n);
	ASSERT_EQ(vmm_check_blocks(vm), 0);
	vmm_stats(vm, &st);
	kv_note("%u patches, %lu calls, looked %u times, %lu events, %lu blocks dropped\n", n,
	       (unsigned long)kv_u64(vm, OWN + 15 * PAGE), looked, (unsigned long)st.events,
	       (unsigned long)st.invalidated);
	ASSERT_GT(st.events, 0);
	ASSERT_GT(st.invalidated, 0);
	vmm_destroy(vm);
}

TEST_LONG(patch_while_run_ring, 60)
{
	patch_while_run(VMM_FOLLOW_EXITS, false, kv_slow() ? 5000 : 1000000);
}

TEST_LONG(patch_while_run_stop, 60)
{
	kv_need_stop();
	patch_while_run(VMM_FOLLOW_EXITS, true, kv_slow() ? 50 : 500);
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
