// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The VM: creation and end, memory slots, events. Owns KVM's descriptors and the
 * reader's end of the view's ring (vm->lock).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define KVM_DEVICE	"/dev/kvm"
#define TSS_ADDR	0xfffbd000UL	/* where Intel's real mode may keep its own */
#define IDENTITY_ADDR	0xfffbc000UL
#define MAX_CPUID	256

static int open_kvm(struct vmm *vm, char *why, size_t size)
{
	int err, version;

	vm->kvm = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0) {
		err = -errno;
		if (err == -ENOENT)
			vmm_say(why, size, "there is no " KVM_DEVICE ": load kvm-intel or "
				"kvm-amd, and switch virtualization on in the firmware");
		else if (err == -EACCES || err == -EPERM)
			vmm_say(why, size, "no permission to open " KVM_DEVICE
				": run as root, or add this user to the group kvm");
		else
			vmm_say(why, size, KVM_DEVICE ": %s", strerror(-err));
		return err;
	}
	version = ioctl(vm->kvm, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION) {
		vmm_say(why, size, KVM_DEVICE " speaks version %d of its interface, not %d",
			version, KVM_API_VERSION);
		return -EPROTO;
	}
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0) {
		err = -errno;
		vmm_say(why, size, "KVM makes no VM: %s", strerror(-err));
		return err;
	}
	return 0;
}

static int set_up_vm(struct vmm *vm, char *why, size_t size)
{
	uint64_t identity = IDENTITY_ADDR;
	int dbg;

	/* Only Intel's wants them, and every KVM takes them. */
	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDR) ||
	    ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity)) {
		vmm_say(why, size, "KVM_SET_TSS_ADDR: %s", strerror(errno));
		return -errno;
	}
	if (vm->opts.no_hlt_exit) {
		struct kvm_enable_cap cap = {
			.cap = KVM_CAP_X86_DISABLE_EXITS,
			.args[0] = KVM_X86_DISABLE_EXITS_HLT,
		};

		if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap)) {
			vmm_say(why, size, "this KVM cannot leave a halted guest alone: %s",
				strerror(errno));
			return -errno;
		}
	}
	if (vm->opts.irqchip) {
		struct kvm_pit_config pit = { };

		if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) ||
		    ioctl(vm->fd, KVM_CREATE_PIT2, &pit)) {
			vmm_say(why, size, "KVM_CREATE_IRQCHIP: %s", strerror(errno));
			return -errno;
		}
	}
	dbg = ioctl(vm->kvm, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2);
	vm->blockirq = dbg > 0 && dbg & KVM_GUESTDBG_BLOCKIRQ;
	return 0;
}

static int make_vcpu(struct vmm *vm, unsigned int i, struct kvm_cpuid2 *cpuid,
		     char *why, size_t size)
{
	struct vmm_vcpu *vcpu = &vm->vcpu[i];
	int bytes, err;

	vcpu->vm = vm;
	vcpu->id = i;
	vcpu->cold = true;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)i);
	if (vcpu->fd < 0) {
		vmm_say(why, size, "KVM_CREATE_VCPU %u: %s", i, strerror(errno));
		return -errno;
	}
	vm->cpus = i + 1;
	bytes = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (bytes < (int)sizeof(*vcpu->run)) {
		vmm_say(why, size, "KVM's vCPUs have %d bytes to share, not %zu", bytes,
			sizeof(*vcpu->run));
		return -EPROTO;
	}
	vcpu->run_bytes = bytes;
	vcpu->run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		vmm_say(why, size, "mmap of a vCPU: %s", strerror(errno));
		return -errno;
	}
	err = vmm_cpu_init(vcpu, cpuid);
	if (err)
		vmm_say(why, size, "KVM does not take the vCPU's CPUID or XCR0: %s",
			strerror(-err));
	return err;
}

static int make_vcpus(struct vmm *vm, unsigned int n, char *why, size_t size)
{
	struct kvm_cpuid2 *cpuid;
	int err = 0;

	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = MAX_CPUID;
	if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid)) {
		err = -errno;
		vmm_say(why, size, "KVM_GET_SUPPORTED_CPUID: %s", strerror(-err));
	}
	for (unsigned int i = 0; i < n && !err; i++)
		err = make_vcpu(vm, i, cpuid, why, size);
	free(cpuid);
	return err;
}

static int check(const struct vmm_opts *o, char *why, size_t size)
{
	if (o->ram % PAGE_SIZE || o->ram > VMM_MAX_RAM || o->ram < 2 * PAGE_SIZE) {
		vmm_say(why, size, "RAM of %llu bytes: it must be a multiple of %lu, at least "
			"%lu and at most %llu", (unsigned long long)o->ram, PAGE_SIZE,
			2 * PAGE_SIZE, (unsigned long long)VMM_MAX_RAM);
		return -EINVAL;
	}
	if (!o->cpus || o->cpus > VMM_MAX_CPUS) {
		vmm_say(why, size, "%u vCPUs: 1 to %u are possible", o->cpus, VMM_MAX_CPUS);
		return -EINVAL;
	}
	if ((unsigned int)o->mem > VMM_MEM_PLAIN || (unsigned int)o->follow > VMM_FOLLOW_STEP) {
		vmm_say(why, size, "options of another version of this library");
		return -EINVAL;
	}
	if (o->mem == VMM_MEM_PLAIN && (o->follow || o->stop)) {
		vmm_say(why, size, "blocks can only be made of code in a view, and this RAM is "
			"plain memory");
		return -EINVAL;
	}
	return 0;
}

static void init_locks(struct vmm *vm)
{
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&vm->lock, &a);
	pthread_mutexattr_destroy(&a);
	pthread_mutex_init(&vm->gate, NULL);
	pthread_cond_init(&vm->gate_open, NULL);
}

int vmm_create(struct vmm **out, const struct vmm_opts *opts, char *why, size_t size)
{
	struct vmm *vm;
	int err;

	*out = NULL;
	if (opts && opts->sz != sizeof(*opts)) {
		vmm_say(why, size, "options of another version of this library");
		return -EINVAL;
	}
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	vm->kvm = vm->fd = vm->memfd = vm->end_fd = -1;
	if (opts)
		vm->opts = *opts;
	if (!vm->opts.ram)
		vm->opts.ram = 16 << 20;
	if (!vm->opts.cpus)
		vm->opts.cpus = 1;
	if (!vm->opts.sample_ms)
		vm->opts.sample_ms = 10;
	/* See the documentation: else a kernel thread may do what was to be stopped. */
	if (vm->opts.stop && vm->opts.irqchip)
		vm->opts.no_hlt_exit = true;
	vm->ram_bytes = vm->opts.ram;
	init_locks(vm);
	vmm_signal_init();
	vmm_say(why, size, "no memory");

	err = check(&vm->opts, why, size);
	if (!err)
		err = open_kvm(vm, why, size);
	if (!err)
		err = vmm_mem_make(vm, why, size);
	if (!err)
		err = set_up_vm(vm, why, size);
	if (!err && !vm->opts.no_slot) {
		err = vmm_slot(vm, 0, 0, vm->ram_bytes, vm->ram, 0);
		if (err)
			vmm_say(why, size, "KVM does not take the RAM: %s", strerror(-err));
	}
	if (!err)
		err = make_vcpus(vm, vm->opts.cpus, why, size);
	if (!err)
		err = vmm_blocks_init(vm);
	if (!err) {
		vm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vm->end_fd < 0)
			err = -errno;
	}
	if (err) {
		vmm_destroy(vm);
		return err;
	}
	*out = vm;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void vmm_destroy(struct vmm *vm)
{
	if (!vm)
		return;
	for (unsigned int i = 0; i < vm->cpus; i++) {
		if (vm->vcpu[i].run)
			munmap(vm->vcpu[i].run, vm->vcpu[i].run_bytes);
		close_fd(vm->vcpu[i].fd);
	}
	vmm_watches_free(vm);
	vmm_blocks_free(vm);
	close_fd(vm->fd);
	close_fd(vm->kvm);
	vmm_mem_free(vm);
	close_fd(vm->end_fd);
	pthread_cond_destroy(&vm->gate_open);
	pthread_mutex_destroy(&vm->gate);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

int vmm_fd(const struct vmm *vm)
{
	return vm->fd;
}

int vmm_slot(struct vmm *vm, unsigned int slot, uint64_t gpa, uint64_t bytes,
	     const void *hva, uint32_t flags)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)hva,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r) ? -errno : 0;
}

/* ---- events ---- */

void vmm_on_event(struct vmm *vm, vmm_event_fn fn, void *arg)
{
	pthread_mutex_lock(&vm->lock);
	vm->on_event = fn;
	vm->on_event_arg = arg;
	pthread_mutex_unlock(&vm->lock);
}

/*
 * A write that went through has opened its page: what follows is not told any more,
 * so no block of the page can stay. A stopped one has not, and its vCPU drops what
 * it hits when it lets it happen.
 */
static void event(const struct codewp_event_info *ev, void *arg)
{
	uint64_t page = ev->voff >> PAGE_SHIFT;
	struct vmm *vm = arg;

	vm->st.events++;
	if (page < vm->ram_bytes >> PAGE_SHIFT)
		vm->pages[page].events++;
	if (ev->stopped) {
		vm->st.stops++;
		if (ev->vcpu < vm->cpus) {
			vm->vcpu[ev->vcpu].stop_voff = ev->voff;
			__atomic_store_n(&vm->vcpu[ev->vcpu].stopped, true,
					 __ATOMIC_RELEASE);
		}
	} else {
		vmm_blocks_drop(vm, page, 0, PAGE_SIZE - 1);
	}
	vmm_watch_event(vm, ev);
	if (vm->on_event)
		vm->on_event(ev, vm->on_event_arg);
}

int vmm_drain(struct vmm *vm)
{
	int n;

	if (!vm->view)
		return 0;
	pthread_mutex_lock(&vm->lock);
	n = codewp_drain(vm->view, event, vm);
	pthread_mutex_unlock(&vm->lock);
	return n;
}
