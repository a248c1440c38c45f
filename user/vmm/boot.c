// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The first state of a vCPU (real mode, 64-bit long mode with paging) and images.
 * Owns the layout of the low memory of a long mode guest. By one thread, before the
 * vCPUs run; takes no lock.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

#define CR0_LONG	0x80010033ULL	/* PG WP NE ET MP PE */
#define CR4_PAE		(1ULL << 5)
#define CR4_SSE		(3ULL << 9)	/* OSFXSR, OSXMMEXCPT */
#define CR4_OSXSAVE	(1ULL << 18)
#define EFER_LONG	0x501ULL	/* LMA LME SCE */
#define EFER_NX		(1ULL << 11)
#define XCR0_AVX	7ULL
#define TABLE		3ULL		/* present, writable */
#define LARGE		(TABLE | 1 << 7)
#define RFLAGS		2ULL

static struct kvm_cpuid_entry2 *cpuid_leaf(struct kvm_cpuid2 *c, uint32_t leaf)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == leaf)
			return &c->entries[i];
	return NULL;
}

/* Everything that this KVM offers, with the vCPU's number as its APIC's. */
int vmm_cpu_init(struct vmm_vcpu *vcpu, struct kvm_cpuid2 *cpuid)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_cpuid_entry2 *e;
	struct kvm_sregs s;

	e = cpuid_leaf(cpuid, 1);
	if (e)
		e->ebx = (e->ebx & 0x00ffffff) | vcpu->id << 24;
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0xb)
			cpuid->entries[i].edx = vcpu->id;
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid))
		return -errno;
	/* With APICs in KVM all but the first would wait for an INIT. */
	if (vcpu->vm->opts.irqchip && ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp))
		return -errno;
	if (e && e->ecx & 1 << 26) {
		struct kvm_cpuid_entry2 *d = cpuid_leaf(cpuid, 0xd);
		struct kvm_xcrs x = { .nr_xcrs = 1 };

		if (d && (d->eax & XCR0_AVX) == XCR0_AVX) {
			/* KVM takes it only with CR4.OSXSAVE */
			if (vmm_get_sregs(vcpu, &s))
				return -EIO;
			s.cr4 |= CR4_OSXSAVE | CR4_SSE;
			if (vmm_set_sregs(vcpu, &s))
				return -EIO;
			x.xcrs[0].value = XCR0_AVX;
			if (ioctl(vcpu->fd, KVM_SET_XCRS, &x))
				return -errno;
		}
	}
	return 0;
}

int vmm_boot_real(struct vmm *vm, uint16_t ip)
{
	for (unsigned int i = 0; i < vm->cpus; i++) {
		struct kvm_regs r = {
			.rip = ip, .rflags = RFLAGS, .rdi = i, .rsi = vm->cpus,
			.rdx = vm->ram_bytes, .rsp = VMM_REAL_LOAD - i * 0x80,
		};
		struct kvm_sregs s;
		int err;

		err = vmm_get_sregs(&vm->vcpu[i], &s);
		if (err)
			return err;
		s.cs.base = 0;
		s.cs.selector = 0;
		s.cr4 |= CR4_SSE;
		err = vmm_set_sregs(&vm->vcpu[i], &s);
		if (!err)
			err = vmm_set_regs(&vm->vcpu[i], &r);
		if (err)
			return err;
	}
	return 0;
}

static void segment(struct kvm_segment *seg, uint16_t selector, uint8_t type)
{
	bool code = type & 8;

	*seg = (struct kvm_segment){
		.limit = 0xffffffff, .selector = selector, .type = type,
		.present = 1, .s = 1, .g = 1, .l = code, .db = !code,
	};
}

/* Entries where selectors 8 and 16 say, one to one tables for 4 GiB. */
static int long_tables(struct vmm *vm)
{
	static const uint64_t gdt[] = {
		0, 0x00af9b000000ffff, 0x00cf93000000ffff,
	};
	uint64_t e, i;
	int err;

	err = vmm_write(vm, VMM_GDT, gdt, sizeof(gdt));
	e = (VMM_PML4 + PAGE_SIZE) | TABLE;
	if (!err)
		err = vmm_write(vm, VMM_PML4, &e, 8);
	for (i = 0; i < 4 && !err; i++) {
		e = (VMM_PML4 + (2 + i) * PAGE_SIZE) | TABLE;
		err = vmm_write(vm, VMM_PML4 + PAGE_SIZE + 8 * i, &e, 8);
	}
	for (i = 0; i < 2048 && !err; i++) {
		e = i << 21 | LARGE;
		err = vmm_write(vm, VMM_PML4 + 2 * PAGE_SIZE + 8 * i, &e, 8);
	}
	return err;
}

int vmm_boot_long(struct vmm *vm, uint64_t rip)
{
	int err;

	if (!vmm_in_ram(vm, VMM_STACKS, 0))
		return -ENOMEM;
	err = long_tables(vm);
	for (unsigned int i = 0; i < vm->cpus && !err; i++) {
		struct kvm_regs r = {
			.rip = rip, .rflags = RFLAGS, .rdi = i, .rsi = vm->cpus,
			.rdx = vm->ram_bytes, .rsp = VMM_STACKS - i * VMM_STACK - 8,
		};
		struct kvm_sregs s;

		err = vmm_get_sregs(&vm->vcpu[i], &s);
		if (err)
			return err;
		segment(&s.cs, 8, 11);
		segment(&s.ds, 16, 3);
		s.es = s.fs = s.gs = s.ss = s.ds;
		s.tr = (struct kvm_segment){ .limit = 0x67, .type = 11, .present = 1 };
		s.ldt = (struct kvm_segment){ .unusable = 1 };
		s.gdt.base = VMM_GDT;
		s.gdt.limit = 23;
		s.idt.base = 0;
		s.idt.limit = 0;
		s.cr0 = CR0_LONG;
		s.cr3 = VMM_PML4;
		s.cr4 |= CR4_PAE | CR4_SSE;
		s.efer = EFER_LONG | EFER_NX;
		err = vmm_set_sregs(&vm->vcpu[i], &s);
		if (!err)
			err = vmm_set_regs(&vm->vcpu[i], &r);
	}
	return err;
}

/* ---- images ---- */

static int load_elf(struct vmm *vm, const uint8_t *img, size_t n, const char *path,
		    char *why, size_t size)
{
	const Elf64_Ehdr *eh = (const void *)img;
	const Elf64_Phdr *ph;
	unsigned int loaded = 0;

	if (n < sizeof(*eh) || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_machine != EM_X86_64) {
		vmm_say(why, size, "%s: an ELF file, but not of 64-bit x86", path);
		return -ENOEXEC;
	}
	if (eh->e_type != ET_EXEC) {
		vmm_say(why, size, "%s: not at fixed addresses: link it with -static -no-pie "
			"and -Ttext-segment", path);
		return -ENOEXEC;
	}
	if (eh->e_phentsize != sizeof(*ph) || eh->e_phoff % 8 || eh->e_phoff > n ||
	    eh->e_phnum > (n - eh->e_phoff) / sizeof(*ph)) {
		vmm_say(why, size, "%s: its program headers are not in the file", path);
		return -ENOEXEC;
	}
	ph = (const void *)(img + eh->e_phoff);
	for (unsigned int i = 0; i < eh->e_phnum; i++, ph++) {
		if (ph->p_type != PT_LOAD || !ph->p_memsz)
			continue;
		if (ph->p_offset > n || ph->p_filesz > n - ph->p_offset ||
		    ph->p_filesz > ph->p_memsz) {
			vmm_say(why, size, "%s: segment %u is not in the file", path, i);
			return -ENOEXEC;
		}
		if (ph->p_paddr < VMM_STACKS || !vmm_in_ram(vm, ph->p_paddr, ph->p_memsz)) {
			vmm_say(why, size, "%s: segment %u is at %#llx to %#llx; there is RAM "
				"for images from %#lx to %#llx (--ram)", path, i,
				(unsigned long long)ph->p_paddr,
				(unsigned long long)(ph->p_paddr + ph->p_memsz), VMM_STACKS,
				(unsigned long long)vm->ram_bytes);
			return -ENOEXEC;
		}
		memcpy(vm->ram + ph->p_paddr, img + ph->p_offset, ph->p_filesz);
		memset(vm->ram + ph->p_paddr + ph->p_filesz, 0, ph->p_memsz - ph->p_filesz);
		loaded++;
	}
	if (!loaded || !vmm_in_ram(vm, eh->e_entry, 1)) {
		vmm_say(why, size, loaded ? "%s: its entry is not in RAM" :
			"%s: nothing to load", path);
		return -ENOEXEC;
	}
	return vmm_boot_long(vm, eh->e_entry);
}

static int read_file(const char *path, uint8_t **img, size_t *n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	struct stat st;
	ssize_t got;

	*img = NULL;
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st)) {
		err = -errno;
	} else if (!S_ISREG(st.st_mode)) {
		err = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	} else if (st.st_size > (off_t)VMM_MAX_RAM) {
		err = -EFBIG;
	} else {
		*n = st.st_size;
		*img = malloc(*n + 1);
		if (!*img)
			err = -ENOMEM;
	}
	for (size_t at = 0; !err && at < *n; at += got) {
		got = read(fd, *img + at, *n - at);
		if (got < 0)
			err = -errno;
		else if (!got)
			err = -EIO;	/* cut while it was read */
	}
	if (err) {
		free(*img);
		*img = NULL;
	}
	close(fd);
	return err;
}

int vmm_load(struct vmm *vm, const char *path, bool long_mode, char *why, size_t size)
{
	uint64_t at = long_mode ? VMM_LONG_LOAD : VMM_REAL_LOAD;
	uint64_t room = long_mode ? vm->ram_bytes : 0x10000;
	uint8_t *img;
	size_t n = 0;
	int err;

	if (room > vm->ram_bytes)
		room = vm->ram_bytes;
	err = read_file(path, &img, &n);
	if (err) {
		vmm_say(why, size, "%s: %s", path, strerror(-err));
		return err;
	}
	if (n >= SELFMAG && !memcmp(img, ELFMAG, SELFMAG)) {
		err = load_elf(vm, img, n, path, why, size);
		if (err && err != -ENOEXEC)
			vmm_say(why, size, "%s: cannot start it: %s", path, strerror(-err));
		free(img);
		return err;
	}
	if (!n) {
		vmm_say(why, size, "%s: an empty file", path);
		err = -ENOEXEC;
	} else if (at > room || n > room - at) {
		vmm_say(why, size, "%s: %zu bytes; a flat image for %s mode has room from %#llx "
			"to %#llx%s", path, n, long_mode ? "long" : "real",
			(unsigned long long)at, (unsigned long long)room,
			long_mode ? " (--ram)" : "");
		err = -ENOEXEC;
	} else {
		memcpy(vm->ram + at, img, n);
		err = long_mode ? vmm_boot_long(vm, at) : vmm_boot_real(vm, at);
		if (err)
			vmm_say(why, size, "%s: cannot start it: %s", path, strerror(-err));
	}
	free(img);
	return err;
}
