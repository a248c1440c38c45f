// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * vmm_run(): a thread for each vCPU, the ports, and when to look for blocks.
 *
 * What a guest runs is learned by single steps: hardware breakpoints at the ends of
 * what is known would be cheaper, but there are four of them and emulated machines do
 * not have them in guests. VMM_FOLLOW_STEP steps always and misses nothing.
 * VMM_FOLLOW_SAMPLE steps until the vCPU has come through WARM known blocks in a row,
 * lets it go, and steps again when a timer, an event or a dropped block says so. From
 * each block the direct jumps are followed without running them.
 *
 * The guest sees the trap flag in what it pushes while it is stepped (pushf, int,
 * exceptions); KVM hides it from nobody.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "internal.h"

#define WARM		32U
#define MAX_STOPS	16U	/* then the page is opened until code of it is met again */

static bool ended(struct vmm *vm)
{
	return __atomic_load_n(&vm->end, __ATOMIC_ACQUIRE);
}

/* Async-signal-safe. */
void vmm_end(struct vmm *vm)
{
	uint64_t one = 1;

	__atomic_store_n(&vm->end, 1, __ATOMIC_RELEASE);
	/* A counter that is full wakes, too. */
	if (write(vm->end_fd, &one, sizeof(one)) < 0)
		return;
	for (unsigned int i = 0; i < vm->cpus; i++)
		vmm_vcpu_kick(&vm->vcpu[i]);
}

static void finish(struct vmm *vm, int status)
{
	pthread_mutex_lock(&vm->lock);
	if (!vm->done && !vm->err) {
		vm->done = true;
		vm->status = status;
	}
	pthread_mutex_unlock(&vm->lock);
	vmm_end(vm);
}

__attribute__((format(printf, 3, 4)))
static void fail(struct vmm_vcpu *vcpu, int err, const char *fmt, ...)
{
	/* AMD's leave nothing of a vCPU that shut down; KVM has reset it. */
	bool known = vcpu->run->exit_reason != KVM_EXIT_SHUTDOWN;
	struct vmm *vm = vcpu->vm;
	struct kvm_regs r;
	char what[160], at[40] = "";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (known && !vmm_get_regs(vcpu, &r))
		snprintf(at, sizeof(at), " at rip %#llx", (unsigned long long)r.rip);
	pthread_mutex_lock(&vm->lock);
	if (!vm->done && !vm->err) {
		vm->err = err;
		snprintf(vm->why, sizeof(vm->why), "vCPU %u%s: %s", vcpu->id, at, what);
	}
	pthread_mutex_unlock(&vm->lock);
	vmm_end(vm);
}

/* ---- blocks while it runs ---- */

/* The block that a stepped vCPU is at; what is known of it decides about stepping. */
static int look(struct vmm_vcpu *vcpu)
{
	struct vmm *vm = vcpu->vm;
	struct vmm_block *b;
	struct vmm_mode mode;
	struct kvm_sregs s;
	struct kvm_regs r;
	uint64_t at;
	int err;

	err = vmm_get_regs(vcpu, &r);
	if (!err)
		err = vmm_get_sregs(vcpu, &s);
	if (err)
		return err;
	vmm_mode_get(&s, &mode);
	at = mode.cs_base + r.rip;
	pthread_mutex_lock(&vm->lock);
	if (vcpu->epoch == vm->epoch && at - vcpu->cur_first < vcpu->cur_end - vcpu->cur_first &&
	    (at > vcpu->last_rip || (at == vcpu->last_rip && at != vcpu->cur_first))) {
		/* Still in the block. */
		vcpu->last_rip = at;
		pthread_mutex_unlock(&vm->lock);
		return 0;
	}
	err = vmm_blocks_from(vm, &mode, at, &b);
	vcpu->cur_first = vcpu->cur_end = at;
	if (err >= 0 && b)
		vcpu->cur_end = at + b->len;
	vcpu->last_rip = at;
	vcpu->epoch = vm->epoch;
	vcpu->known = err ? 0 : vcpu->known + 1;
	pthread_mutex_unlock(&vm->lock);
	return err < 0 ? err : 0;
}

/* Before the vCPU enters: blocks, and whether it is to step. */
static int prepare(struct vmm_vcpu *vcpu)
{
	struct vmm *vm = vcpu->vm;
	uint64_t epoch = vcpu->epoch;
	int err;

	if (vm->view && codewp_pending(vm->view)) {
		err = vmm_drain(vm);
		if (err < 0)
			return err;
	}
	switch (vm->opts.follow) {
	case VMM_FOLLOW_NONE:
		return 0;
	case VMM_FOLLOW_EXITS:
		err = vmm_follow_here(vcpu);
		return err < 0 ? err : 0;
	case VMM_FOLLOW_SAMPLE:
		if (__atomic_exchange_n(&vcpu->cold, false, __ATOMIC_ACQ_REL) ||
		    epoch != __atomic_load_n(&vm->epoch, __ATOMIC_RELAXED))
			vcpu->known = 0;
		else if (vcpu->known >= WARM)
			return vmm_debug(vcpu, false, false);
		break;
	case VMM_FOLLOW_STEP:
		break;
	}
	err = look(vcpu);
	if (err)
		return err;
	__atomic_fetch_add(&vm->st.steps, 1, __ATOMIC_RELAXED);
	return vmm_debug(vcpu, true, false);
}

/* The store that a vCPU was stopped at: it is to happen, and no stale block to stay. */
static int stop(struct vmm_vcpu *vcpu, const struct vmm_exit *stopped)
{
	struct vmm *vm = vcpu->vm;
	uint64_t page = stopped->voff >> PAGE_SHIFT;
	struct vmm_exit exit;
	unsigned int stops;
	int err;

	if (page >= vm->ram_bytes >> PAGE_SHIFT)
		return -EFAULT;
	pthread_mutex_lock(&vm->lock);
	stops = ++vm->pages[page].stops;
	pthread_mutex_unlock(&vm->lock);
	vcpu->debugging = true;		/* whatever it was, it is off afterwards */
	if (vmm_watched(vm, stopped->voff))
		return vmm_watch_store(vcpu, &exit);
	if (stops > MAX_STOPS)
		return vmm_let_store(vcpu);
	err = vmm_step_store(vcpu, &exit);
	if (err)
		return err;
	/* Not done (an exit in the middle, the end): it stops again or goes on. */
	return 0;
}

/* ---- exits ---- */

static void output(struct vmm_vcpu *vcpu, const struct vmm_exit *e)
{
	struct vmm *vm = vcpu->vm;

	if (e->port == VMM_PORT_EXIT) {
		finish(vm, *(uint8_t *)e->data);
		return;
	}
	pthread_mutex_lock(&vm->lock);
	if (vm->opts.out)
		vm->opts.out(vcpu, e->port, e->data, (size_t)e->size * e->count,
			     vm->opts.out_arg);
	else
		vm->st.ignored++;
	pthread_mutex_unlock(&vm->lock);
}

/* False: this vCPU is done. */
static bool handle(struct vmm_vcpu *vcpu, const struct vmm_exit *e)
{
	struct vmm *vm = vcpu->vm;
	bool all;
	int err;

	switch (e->kind) {
	case VMM_EXIT_OUT:
		output(vcpu, e);
		return true;
	case VMM_EXIT_IN:
		/* Whoever waits for a serial line to take a byte need not. */
		memset(e->data, e->port == VMM_PORT_SERIAL + 5 ? 0x60 : 0xff,
		       (size_t)e->size * e->count);
		return true;
	case VMM_EXIT_HLT:
		pthread_mutex_lock(&vm->lock);
		all = ++vm->halted == vm->cpus;
		pthread_mutex_unlock(&vm->lock);
		if (all)
			finish(vm, 0);
		return false;
	case VMM_EXIT_STOP:
		err = stop(vcpu, e);
		if (!err)
			return true;
		fail(vcpu, err, "a store to %#llx was stopped and cannot be done: %s",
		     (unsigned long long)e->voff, codewp_strerror(err));
		return false;
	case VMM_EXIT_KICK:
	case VMM_EXIT_DEBUG:
		return true;
	case VMM_EXIT_BAD_MEM:
		fail(vcpu, -EFAULT, "used memory that the process of the VM does not have");
		return false;
	case VMM_EXIT_MMIO:
		fail(vcpu, -EFAULT, "%s guest-physical %#llx, where no RAM is",
		     e->write ? "wrote" : "read", (unsigned long long)e->gpa);
		return false;
	case VMM_EXIT_SHUTDOWN:
		fail(vcpu, -ENOEXEC, "triple fault: an exception in an exception");
		return false;
	case VMM_EXIT_OTHER:
		break;
	}
	if (e->reason == KVM_EXIT_INTERNAL_ERROR)
		fail(vcpu, -ENOEXEC, "KVM cannot go on (internal error %u%s)",
		     vcpu->run->internal.suberror,
		     vcpu->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION ?
		     ": an instruction that it cannot emulate" : "");
	else if (e->reason == KVM_EXIT_FAIL_ENTRY)
		fail(vcpu, -ENOEXEC, "the CPU does not enter this guest (reason %#llx)",
		     (unsigned long long)vcpu->run->fail_entry.hardware_entry_failure_reason);
	else
		fail(vcpu, -ENOEXEC, "an exit that this VMM does not know (%u)", e->reason);
	return false;
}

static void *vcpu_thread(void *arg)
{
	struct vmm_vcpu *vcpu = arg;
	struct vmm *vm = vcpu->vm;
	struct vmm_exit exit;
	int err;

	while (!ended(vm)) {
		err = prepare(vcpu);
		if (err) {
			fail(vcpu, err, "its code cannot be watched: %s", codewp_strerror(err));
			break;
		}
		err = vmm_vcpu_run(vcpu, &exit);
		__atomic_fetch_add(&vm->st.exits, 1, __ATOMIC_RELAXED);
		if (err) {
			fail(vcpu, err, "KVM_RUN: %s", strerror(-err));
			break;
		}
		if (!handle(vcpu, &exit))
			break;
	}
	vmm_debug(vcpu, false, false);
	return NULL;
}

/* Events must be seen in time also while no vCPU leaves the guest. */
static void supervise(struct vmm *vm)
{
	bool sample = vm->opts.follow == VMM_FOLLOW_SAMPLE;
	struct pollfd p[2] = {
		{ .fd = vm->end_fd, .events = POLLIN },
		{ .fd = vm->view ? codewp_event_fd(vm->view) : -1, .events = POLLIN },
	};

	while (!ended(vm)) {
		int n = poll(p, 2, sample ? (int)vm->opts.sample_ms : -1);
		uint64_t count;

		if (n > 0 && p[1].revents && read(p[1].fd, &count, sizeof(count)) > 0)
			vmm_drain(vm);
		if (n == 0)
			for (unsigned int i = 0; i < vm->cpus; i++) {
				__atomic_store_n(&vm->vcpu[i].cold, true, __ATOMIC_RELEASE);
				vmm_vcpu_kick(&vm->vcpu[i]);
			}
	}
}

int vmm_run(struct vmm *vm, int *status, char *why, size_t size)
{
	unsigned int i;
	uint64_t count;
	int err = 0;

	vm->done = false;
	vm->err = 0;
	vm->halted = 0;
	for (i = 0; i < vm->cpus; i++) {
		vm->vcpu[i].cold = true;
		err = -pthread_create(&vm->vcpu[i].thread, NULL, vcpu_thread, &vm->vcpu[i]);
		if (err) {
			vmm_say(why, size, "no thread for vCPU %u: %s", i, strerror(-err));
			vmm_end(vm);
			break;
		}
		vm->vcpu[i].started = true;
	}
	if (!err)
		supervise(vm);
	for (i = 0; i < vm->cpus; i++) {
		if (vm->vcpu[i].started)
			pthread_join(vm->vcpu[i].thread, NULL);
		vm->vcpu[i].started = false;
		__atomic_store_n(&vm->vcpu[i].run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	}
	vmm_drain(vm);
	/* The next vmm_run() begins anew. */
	__atomic_store_n(&vm->end, 0, __ATOMIC_RELEASE);
	if (read(vm->end_fd, &count, sizeof(count)) < 0 && errno != EAGAIN && !err)
		err = -errno;
	if (err)
		return err;
	if (vm->err) {
		vmm_say(why, size, "%s", vm->why);
		return vm->err;
	}
	if (!vm->done) {
		vmm_say(why, size, "ended from outside");
		return -ECANCELED;
	}
	*status = vm->status;
	return 0;
}
