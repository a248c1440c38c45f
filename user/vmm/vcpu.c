// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * One KVM_RUN, and who may be in it: kicks and holds. Owns vm->gate.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

static void on_signal(int sig)
{
}

/* Only what interrupts a call is needed of it. */
void vmm_signal_init(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	sigaction(VMM_SIGNAL, &sa, NULL);
}

/*
 * KVM looks at immediate_exit when it is asked to run and the signal takes a vCPU out
 * of the guest, so that nothing is lost between the two. Async-signal-safe.
 */
void vmm_vcpu_kick(struct vmm_vcpu *vcpu)
{
	pid_t tid;

	/* Pairs with the store of tid in enter(): either it sees this, or we see it. */
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	tid = __atomic_load_n(&vcpu->tid, __ATOMIC_SEQ_CST);
	if (tid)
		syscall(SYS_tgkill, getpid(), tid, VMM_SIGNAL);
}

static void enter(struct vmm_vcpu *vcpu)
{
	struct vmm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->gate);
	while (vm->held && !pthread_equal(vm->holder, pthread_self()))
		pthread_cond_wait(&vm->gate_open, &vm->gate);
	/* Pairs with the load of tid in vmm_vcpu_kick(). */
	__atomic_store_n(&vcpu->tid, gettid(), __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&vm->gate);
}

static void leave(struct vmm_vcpu *vcpu)
{
	struct vmm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->gate);
	__atomic_store_n(&vcpu->tid, 0, __ATOMIC_SEQ_CST);
	if (vm->held)
		pthread_cond_broadcast(&vm->gate_open);
	pthread_mutex_unlock(&vm->gate);
}

void vmm_hold(struct vmm *vm)
{
	pthread_mutex_lock(&vm->gate);
	while (vm->held)
		pthread_cond_wait(&vm->gate_open, &vm->gate);
	vm->held = true;
	vm->holder = pthread_self();
	for (unsigned int i = 0; i < vm->cpus; i++) {
		struct vmm_vcpu *vcpu = &vm->vcpu[i];

		if (!vcpu->tid)
			continue;
		vmm_vcpu_kick(vcpu);
		while (vcpu->tid)
			pthread_cond_wait(&vm->gate_open, &vm->gate);
	}
	pthread_mutex_unlock(&vm->gate);
}

void vmm_release(struct vmm *vm)
{
	pthread_mutex_lock(&vm->gate);
	vm->held = false;
	pthread_cond_broadcast(&vm->gate_open);
	pthread_mutex_unlock(&vm->gate);
}

/*
 * EFAULT: a stopped store is in the ring before KVM_RUN returns. Should the ring have
 * been full, the instruction says which page it was.
 */
static bool was_stopped(struct vmm_vcpu *vcpu)
{
	struct vmm *vm = vcpu->vm;
	bool stopped;

	if (!vm->view)
		return false;
	vmm_drain(vm);
	stopped = __atomic_load_n(&vcpu->stopped, __ATOMIC_ACQUIRE);
	return stopped || vmm_find_stop(vcpu);
}

static void describe(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
	struct kvm_run *run = vcpu->run;

	exit->reason = run->exit_reason;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		exit->kind = run->io.direction == KVM_EXIT_IO_OUT ? VMM_EXIT_OUT :
								    VMM_EXIT_IN;
		exit->port = run->io.port;
		exit->size = run->io.size;
		exit->count = run->io.count;
		exit->data = (uint8_t *)run + run->io.data_offset;
		break;
	case KVM_EXIT_HLT:
		exit->kind = VMM_EXIT_HLT;
		break;
	case KVM_EXIT_DEBUG:
		exit->kind = VMM_EXIT_DEBUG;
		break;
	case KVM_EXIT_MMIO:
		exit->kind = VMM_EXIT_MMIO;
		exit->gpa = run->mmio.phys_addr;
		exit->size = run->mmio.len;
		exit->data = run->mmio.data;
		exit->write = run->mmio.is_write;
		break;
	case KVM_EXIT_SHUTDOWN:
		exit->kind = VMM_EXIT_SHUTDOWN;
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		exit->kind = VMM_EXIT_KICK;
		break;
	default:
		exit->kind = VMM_EXIT_OTHER;
	}
}

int vmm_vcpu_run(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
	int ret, err;

	memset(exit, 0, sizeof(*exit));
	/*
	 * A stop that was told and did not fail KVM_RUN: a kernel thread has done the
	 * store (async page faults). It is not this run's.
	 */
	__atomic_store_n(&vcpu->stopped, false, __ATOMIC_RELAXED);
	enter(vcpu);
	ret = ioctl(vcpu->fd, KVM_RUN, 0);
	err = ret ? errno : 0;
	if (err == EINTR)
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	leave(vcpu);

	switch (err) {
	case 0:
		describe(vcpu, exit);
		return 0;
	case EINTR:
	case EAGAIN:
		exit->kind = VMM_EXIT_KICK;
		exit->reason = KVM_EXIT_INTR;
		return 0;
	case EFAULT:
		exit->reason = KVM_EXIT_UNKNOWN;
		if (was_stopped(vcpu)) {
			exit->kind = VMM_EXIT_STOP;
			exit->voff = exit->gpa = vcpu->stop_voff;
		} else {
			exit->kind = VMM_EXIT_BAD_MEM;
		}
		return 0;
	default:
		return -err;
	}
}

const char *vmm_exit_name(enum vmm_exit_kind kind)
{
	static const char *const names[] = {
		[VMM_EXIT_OUT] = "port output",
		[VMM_EXIT_IN] = "port input",
		[VMM_EXIT_HLT] = "halt",
		[VMM_EXIT_STOP] = "stopped store",
		[VMM_EXIT_BAD_MEM] = "use of memory that is not there",
		[VMM_EXIT_KICK] = "kick",
		[VMM_EXIT_DEBUG] = "step",
		[VMM_EXIT_MMIO] = "use of an address without RAM",
		[VMM_EXIT_SHUTDOWN] = "triple fault",
		[VMM_EXIT_OTHER] = "another exit",
	};

	return (unsigned int)kind <= VMM_EXIT_OTHER ? names[kind] : "?";
}

int vmm_debug(struct vmm_vcpu *vcpu, bool step, bool blockirq)
{
	struct kvm_guest_debug dbg = { };

	if (step) {
		dbg.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
		if (blockirq && vcpu->vm->blockirq)
			dbg.control |= KVM_GUESTDBG_BLOCKIRQ;
	} else if (!vcpu->debugging) {
		return 0;
	}
	if (ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &dbg))
		return -errno;
	vcpu->debugging = step;
	return 0;
}
