// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The RAM, where it comes from, and the guest's page tables. Owns vm->ram, the view
 * and its context; takes no lock (all of it is constant while the VM lives).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

static int make_plain(struct vmm *vm, char *why, size_t size)
{
	void *p = mmap(NULL, vm->ram_bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		vmm_say(why, size, "no %llu bytes of memory: %s",
			(unsigned long long)vm->ram_bytes, strerror(errno));
		return -errno;
	}
	vm->ram = p;
	return 0;
}

/* Address space at a 2 MiB boundary, so that large pages are possible. */
static void *aligned_room(uint64_t bytes)
{
	size_t align = 2 << 20;
	uint8_t *p, *at;

	p = mmap(NULL, bytes + align, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	at = (uint8_t *)(((uintptr_t)p + align - 1) & -align);
	if (at > p)
		munmap(p, at - p);
	if (at < p + align)
		munmap(at + bytes, p + align - at);
	return at;
}

static int make_view(struct vmm *vm, char *why, size_t size)
{
	struct codewp_open_opts oo = { .sz = sizeof(oo), .backend = CODEWP_KMOD };
	struct codewp_view_opts vo = {
		.sz = sizeof(vo),
		.ring_bytes = vm->opts.ring_bytes,
		.clients = vm->opts.clients,
	};
	void *room;
	int err;

	err = codewp_probe(CODEWP_KMOD, why, size);
	if (err)
		return err;
	err = codewp_open(&vm->ctx, &oo);
	if (err) {
		vmm_say(why, size, "cannot open codewp: %s", codewp_strerror(err));
		return err;
	}
	switch (vm->opts.mem) {
	case VMM_MEM_ANON:
		err = codewp_view_anon(vm->ctx, &vm->view, vm->ram_bytes, &vo);
		break;
	case VMM_MEM_ATTACH:
		err = codewp_view_attach(vm->ctx, &vm->view, vm->opts.fd);
		break;
	default:
		vm->memfd = memfd_create("vmm-ram", MFD_CLOEXEC);
		if (vm->memfd < 0 || ftruncate(vm->memfd, vm->ram_bytes)) {
			vmm_say(why, size, "no memfd of %llu bytes: %s",
				(unsigned long long)vm->ram_bytes, strerror(errno));
			return -errno;
		}
		err = codewp_view_create(vm->ctx, &vm->view, vm->memfd, 0,
					 vm->ram_bytes, &vo);
		break;
	}
	if (err) {
		vmm_say(why, size, "no view of %llu bytes: %s",
			(unsigned long long)vm->ram_bytes, codewp_strerror(err));
		return err;
	}
	room = aligned_room(vm->ram_bytes);
	if (!room) {
		vmm_say(why, size, "no room for %llu bytes",
			(unsigned long long)vm->ram_bytes);
		return -ENOMEM;
	}
	vm->ram = room;
	err = codewp_map(vm->view, (void **)&vm->ram, vm->ram_bytes, 0,
			 PROT_READ | PROT_WRITE, MAP_NORESERVE | MAP_FIXED);
	if (err) {
		munmap(room, vm->ram_bytes);
		vm->ram = NULL;
		vmm_say(why, size, "cannot map the view: %s", codewp_strerror(err));
		return err;
	}
	vm->states = codewp_page_states(vm->view);
	if (!vm->states) {
		vmm_say(why, size, "no page states of the view");
		return -ENOMEM;
	}
	return 0;
}

int vmm_mem_make(struct vmm *vm, char *why, size_t size)
{
	int err;

	err = vm->opts.mem == VMM_MEM_PLAIN ? make_plain(vm, why, size) :
					      make_view(vm, why, size);
	if (err)
		return err;
	if (vm->opts.huge && madvise(vm->ram, vm->ram_bytes, MADV_HUGEPAGE)) {
		vmm_say(why, size, "MADV_HUGEPAGE: %s", strerror(errno));
		return -errno;
	}
	return 0;
}

void vmm_mem_free(struct vmm *vm)
{
	if (vm->ram && vm->view)
		codewp_unmap(vm->ctx, vm->ram, vm->ram_bytes);
	else if (vm->ram)
		munmap(vm->ram, vm->ram_bytes);
	if (vm->view)
		codewp_view_destroy(vm->view);
	if (vm->ctx)
		codewp_close(vm->ctx);
	if (vm->memfd >= 0)
		close(vm->memfd);
}

void *vmm_ram(struct vmm *vm)
{
	return vm->ram;
}

uint64_t vmm_ram_bytes(const struct vmm *vm)
{
	return vm->ram_bytes;
}

struct codewp_view *vmm_view(struct vmm *vm)
{
	return vm->view;
}

bool vmm_in_ram(const struct vmm *vm, uint64_t gpa, uint64_t n)
{
	return n <= vm->ram_bytes && gpa <= vm->ram_bytes - n;
}

int vmm_read(struct vmm *vm, uint64_t gpa, void *dst, size_t n)
{
	if (!vmm_in_ram(vm, gpa, n))
		return -EFAULT;
	memcpy(dst, vm->ram + gpa, n);
	return 0;
}

int vmm_write(struct vmm *vm, uint64_t gpa, const void *src, size_t n)
{
	if (!vmm_in_ram(vm, gpa, n))
		return -EFAULT;
	memcpy(vm->ram + gpa, src, n);
	return 0;
}

/* ---- the guest's page tables ---- */

#define CR0_PE		(1U << 0)
#define CR0_PG		(1U << 31)
#define CR4_PSE		(1U << 4)
#define CR4_PAE		(1U << 5)
#define CR4_LA57	(1U << 12)
#define EFER_LMA	(1U << 10)
#define PTE_P		1ULL
#define PTE_PS		(1ULL << 7)
#define PTE_ADDR	0x000ffffffffff000ULL

void vmm_mode_get(const struct kvm_sregs *s, struct vmm_mode *mode)
{
	mode->cr0 = s->cr0;
	mode->cr3 = s->cr3;
	mode->cr4 = s->cr4;
	mode->efer = s->efer;
	mode->cs_base = s->cs.base;
	if (!(s->cr0 & CR0_PE))
		mode->bits = 16;
	else if (s->efer & EFER_LMA && s->cs.l)
		mode->bits = 64;
	else
		mode->bits = s->cs.db ? 32 : 16;
	if (mode->bits == 64)
		mode->cs_base = 0;
}

/* A vCPU may write the entry meanwhile: one load. */
static int entry(const struct vmm *vm, uint64_t table, unsigned int index,
		 unsigned int size, uint64_t *e)
{
	uint64_t gpa = table + (uint64_t)index * size;

	if (!vmm_in_ram(vm, gpa, size))
		return -EFAULT;
	if (size == 8)
		*e = __atomic_load_n((uint64_t *)(vm->ram + gpa), __ATOMIC_RELAXED);
	else
		*e = __atomic_load_n((uint32_t *)(vm->ram + gpa), __ATOMIC_RELAXED);
	return *e & PTE_P ? 0 : -EFAULT;
}

/* Two levels of 1024 entries, 4 MiB pages with PSE (to 4 GiB only). */
static int walk32(const struct vmm *vm, const struct vmm_mode *mode, uint64_t gva,
		  uint64_t *gpa)
{
	uint64_t e;

	if (entry(vm, mode->cr3 & 0xfffff000, gva >> 22 & 1023, 4, &e))
		return -EFAULT;
	if (e & PTE_PS && mode->cr4 & CR4_PSE) {
		*gpa = (e & 0xffc00000) | (gva & 0x3fffff);
		return 0;
	}
	if (entry(vm, e & 0xfffff000, gva >> 12 & 1023, 4, &e))
		return -EFAULT;
	*gpa = (e & 0xfffff000) | (gva & PAGE_MASK);
	return 0;
}

int vmm_walk(const struct vmm *vm, const struct vmm_mode *mode, uint64_t gva,
	     uint64_t *gpa)
{
	uint64_t e, table = mode->cr3 & PTE_ADDR;
	int level;

	if (!(mode->cr0 & CR0_PG)) {
		*gpa = gva & 0xffffffff;
		return 0;
	}
	if (!(mode->cr4 & CR4_PAE))
		return walk32(vm, mode, gva & 0xffffffff, gpa);
	if (mode->efer & EFER_LMA) {
		level = mode->cr4 & CR4_LA57 ? 5 : 4;
		/* Not canonical: no instruction is fetched from there. */
		if ((uint64_t)((int64_t)(gva << (55 - 9 * (level - 1) - 3)) >>
			       (55 - 9 * (level - 1) - 3)) != gva)
			return -EFAULT;
	} else {
		level = 3;
		gva &= 0xffffffff;
		table = mode->cr3 & 0xffffffe0;
	}
	for (; level; level--) {
		unsigned int shift = PAGE_SHIFT + 9 * (level - 1);

		if (entry(vm, table, gva >> shift & 511, 8, &e))
			return -EFAULT;
		if (level == 1 || (level < 4 && e & PTE_PS)) {
			uint64_t mask = (1ULL << shift) - 1;

			*gpa = (e & PTE_ADDR & ~mask) | (gva & mask);
			return 0;
		}
		table = e & PTE_ADDR;
	}
	return -EFAULT;
}

int vmm_translate(struct vmm_vcpu *vcpu, uint64_t gva, uint64_t *gpa)
{
	struct vmm_mode mode;
	struct kvm_sregs s;
	int err;

	err = vmm_get_sregs(vcpu, &s);
	if (err)
		return err;
	vmm_mode_get(&s, &mode);
	err = vmm_walk(vcpu->vm, &mode, gva, gpa);
	if (!err && !vmm_in_ram(vcpu->vm, *gpa, 1))
		err = -EFAULT;
	return err;
}
