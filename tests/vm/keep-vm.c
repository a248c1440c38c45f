// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * keep-vm: start a process that has a virtual machine which does nothing; end as soon
 * as that is there.
 *
 * KVM turns static keys on with its first machine and off with its last
 * (preempt_notifier_key, kvm_has_noapic_vcpu), that is, it patches the kernel's text
 * under two running processors each time that a test begins, which QEMU before 8.1
 * can get wrong (testing.rst). As long as this machine is there the keys stay on. It
 * is made while only one processor is on line.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(void)
{
	int kvm, vm, ready[2];
	char c;

	if (pipe(ready)) {
		perror("keep-vm: pipe");
		return 1;
	}
	switch (fork()) {
	case -1:
		perror("keep-vm: fork");
		return 1;
	case 0:
		break;
	default:
		close(ready[1]);
		return read(ready[0], &c, 1) == 1 ? 0 : 1;
	}
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0UL);
	/* without an interrupt controller in the kernel: for the second key */
	if (vm < 0 || ioctl(vm, KVM_CREATE_VCPU, 0UL) < 0) {
		perror("keep-vm: /dev/kvm");
		return 1;
	}
	setsid();
	if (write(ready[1], "r", 1) != 1)
		return 1;
	close(ready[0]);
	close(ready[1]);
	close(0);
	close(1);
	close(2);
	for (;;)
		pause();
}
