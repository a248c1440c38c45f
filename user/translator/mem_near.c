// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Where the guest's programs and libraries go when they may be anywhere: right below
 * the runtime, within 2 GiB of the code cache. A copy of an instruction that names
 * its operand by %rip is then one instruction, too (block.c: insn_riprel()).
 *
 * Only proposes addresses: what does not fit goes where it would go natively, and costs
 * a few instructions more. Not for programs that are made for a fixed layout.
 *
 * Owns the two ends, which do not change once they are set. With rt_lock held.
 */
#include "core.h"
#include "mem.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REACH		(1UL << 31)
#define LARGEST		(256UL << 20)	/* of one mapping */
#define SLACK		(1UL << 20)	/* an operand lies behind its name */
#define GUARD		(16UL << 20)	/* before the runtime: free, so what goes there faults */
#define DYN_MAX		512

static uint64_t near_start, near_end;

/**
 * mem_near() - a free place near the code cache
 * @len: bytes
 * @align: a power of two
 *
 * Return: its address, or 0.
 */
uint64_t mem_near(uint64_t len, uint64_t align)
{
	uint64_t at = near_start, found = 0;
	struct region *r;

	if (!len || len > LARGEST)
		return 0;
	len = PAGE_UP(len);
	while (at < near_end) {
		uint64_t end = near_end;

		r = map_next(at);
		if (r && r->start < end)
			end = r->start;
		if (end >= at + len && ((end - len) & ~(align - 1)) >= at)
			found = (end - len) & ~(align - 1);
		if (!r)
			break;
		at = r->end;
	}
	return found;
}

/**
 * mem_near_mmap() - the same for a mapping that the guest leaves to the kernel
 *
 * For code: files in ELF, and memory that is executable from the start.
 */
uint64_t mem_near_mmap(uint64_t len, int prot, int flags, int fd, uint64_t off)
{
	char magic[SELFMAG];

	if (!near_end || (flags & MAP_TYPE) != MAP_PRIVATE ||
	    flags & (MAP_32BIT | MAP_GROWSDOWN | MAP_HUGETLB))
		return 0;
	if (!(prot & PROT_EXEC) &&
	    (flags & MAP_ANONYMOUS || off || prot & PROT_WRITE ||
	     pread(fd, magic, SELFMAG, 0) != SELFMAG || memcmp(magic, ELFMAG, SELFMAG)))
		return 0;
	return mem_near(len, PAGE);
}

static uint64_t file_offset(const Elf64_Ehdr *eh, const Elf64_Phdr *ph, uint64_t vaddr)
{
	for (int i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && vaddr - ph[i].p_vaddr < ph[i].p_filesz)
			return vaddr - ph[i].p_vaddr + ph[i].p_offset;
	return 0;
}

/*
 * ThreadSanitizer and MemorySanitizer find shadow memory by arithmetic on addresses,
 * and refuse to run where programs and libraries are not natively.
 */
static bool fixed_layout(int fd, const Elf64_Ehdr *eh, const Elf64_Phdr *ph)
{
	static const char * const names[] = { "__tsan_init", "__msan_init", "libtsan.so" };
	uint64_t strtab = 0, strsz = 0;
	Elf64_Dyn dyn[DYN_MAX];
	bool found = false;
	ssize_t n = 0;
	char *s;

	for (int i = 0; i < eh->e_phnum && !n; i++)
		if (ph[i].p_type == PT_DYNAMIC)
			n = pread(fd, dyn, ph[i].p_filesz < sizeof(dyn) ? ph[i].p_filesz :
				  sizeof(dyn), ph[i].p_offset);
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(*dyn); i++) {
		if (dyn[i].d_tag == DT_STRTAB)
			strtab = file_offset(eh, ph, dyn[i].d_un.d_ptr);
		else if (dyn[i].d_tag == DT_STRSZ)
			strsz = dyn[i].d_un.d_val;
	}
	if (!strtab || strsz > LARGEST)
		return false;
	s = malloc(strsz);
	if (!s)
		return true;
	n = pread(fd, s, strsz, strtab);
	for (size_t i = 0; n > 0 && i < sizeof(names) / sizeof(*names); i++)
		found |= !!memmem(s, n, names[i], strlen(names[i]));
	free(s);
	return found;
}

/**
 * mem_near_init() - before the program is loaded
 * @fd: the program
 * @eh: its headers
 * @ph: e_phnum of them
 * @below: bytes at the end to leave free: address space randomization
 */
void mem_near_init(int fd, const Elf64_Ehdr *eh, const Elf64_Phdr *ph, uint64_t below)
{
	uint64_t cache, cache_end;

	cache_bounds(&cache, &cache_end);
	if (core_opts.no_near || cache_end < RUNTIME_BASE || fixed_layout(fd, eh, ph))
		return;
	near_start = PAGE_UP(cache_end - REACH + SLACK);
	near_end = RUNTIME_BASE - GUARD - below;
}
