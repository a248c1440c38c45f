// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What is asked of a vCPU in one call. Takes no lock: the vCPU's thread calls, or
 * somebody while it is not in the guest.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "internal.h"

unsigned int vmm_cpus(const struct vmm *vm)
{
	return vm->cpus;
}

struct vmm_vcpu *vmm_vcpu(struct vmm *vm, unsigned int n)
{
	return n < vm->cpus ? &vm->vcpu[n] : NULL;
}

unsigned int vmm_vcpu_id(const struct vmm_vcpu *vcpu)
{
	return vcpu->id;
}

struct vmm *vmm_of(struct vmm_vcpu *vcpu)
{
	return vcpu->vm;
}

int vmm_vcpu_fd(const struct vmm_vcpu *vcpu)
{
	return vcpu->fd;
}

struct kvm_run *vmm_vcpu_shared(struct vmm_vcpu *vcpu)
{
	return vcpu->run;
}

int vmm_get_regs(struct vmm_vcpu *vcpu, struct kvm_regs *regs)
{
	return ioctl(vcpu->fd, KVM_GET_REGS, regs) ? -errno : 0;
}

int vmm_set_regs(struct vmm_vcpu *vcpu, const struct kvm_regs *regs)
{
	return ioctl(vcpu->fd, KVM_SET_REGS, regs) ? -errno : 0;
}

int vmm_get_sregs(struct vmm_vcpu *vcpu, struct kvm_sregs *sregs)
{
	return ioctl(vcpu->fd, KVM_GET_SREGS, sregs) ? -errno : 0;
}

int vmm_set_sregs(struct vmm_vcpu *vcpu, const struct kvm_sregs *sregs)
{
	return ioctl(vcpu->fd, KVM_SET_SREGS, sregs) ? -errno : 0;
}
