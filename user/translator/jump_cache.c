// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The memory and the size of the threads' jump caches, and which instructions suit them. All are of one size, which
 * emitted code has in it; so they grow once, when no code is left, and only if TBs
 * have pushed each other out very often.
 *
 * Owns the tables behind struct cpu; who is in them is the code map's (jc.c). With
 * rt_lock held, but for jump_cache_crowded().
 */
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "core.h"

/*
 * A miss is worth some 1400 cycles, and to grow is to make all TBs again, some 500
 * cycles for each of the guest's instructions.
 */
#define CROWDED		65536

#define SMALL_BYTES	(sizeof(void *) << JC_BITS)

_Static_assert(offsetof(struct cpu_room, jc) == CPU_JC_TABLE, "cpu.h and translator.h differ");

const uint32_t core_jc_wide_mask = (1 << JC_WIDE_BITS) - 1;
const uint64_t core_sign_bit = 1UL << 63;
bool core_jc_wide, core_loop, core_pdep;

bool core_jc_may_grow;
static bool growing;
static uint32_t evictions;	/* an estimate: threads do not wait for each other */

static bool is_amd(void)
{
	unsigned int a, b, c, d;

	__cpuid(0, a, b, c, d);
	return b == signature_AMD_ebx || b == 0x6f677948 /* "Hygo" */;
}

/* "pext" and "pdep": AMD's processors before Zen 3 do them bit by bit. */
static bool bmi2_is_fast(void)
{
	unsigned int a, b, c, d;

	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_BMI2))
		return false;
	__cpuid(1, a, b, c, d);
	return !is_amd() || (a >> 8 & 15) + (a >> 20 & 255) >= 0x19;
}

void jump_cache_init(void)
{
	bool bmi2 = bmi2_is_fast();

	core_jc_wide = false;
	evictions = 0;
	core_jc_may_grow = bmi2 && !core_opts.no_wide;
	/* One cycle on AMD's, and microcode on Intel's. */
	core_loop = is_amd();
	core_pdep = bmi2 && !core_loop && !core_opts.no_pdep;
}

/*
 * Where core_empty_jc is in the program's file. Its pages are the same for every
 * thread until it writes to them.
 */
static off_t empty_offset(void)
{
	const Elf64_Phdr *ph = (const void *)getauxval(AT_PHDR);
	uint64_t at = (uint64_t)core_empty_jc;

	for (size_t n = getauxval(AT_PHNUM); n; n--, ph++)
		if (ph->p_type == PT_LOAD && at - ph->p_vaddr < ph->p_filesz)
			return at - ph->p_vaddr + ph->p_offset;
	return -1;
}

/* Entries from the first, up to those of that many bits, say miss. */
static int empty(struct cpu *cpu, size_t first, unsigned int bits)
{
	void **e = ((struct cpu_room *)cpu)->jc;
	off_t offset = core_opts.image_fd > 0 ? empty_offset() : -1;

	for (; first < 1UL << bits; first += 1UL << JC_BITS)
		if (offset < 0)
			memcpy(e + first, core_empty_jc, SMALL_BYTES);
		else if (mmap(e + first, SMALL_BYTES, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, core_opts.image_fd,
			      offset) == MAP_FAILED)
			return -errno;
	return 0;
}

/* An empty jump cache, where %gs leads to. */
int jump_cache_attach(struct cpu *cpu)
{
	unsigned int bits = core_jc_wide ? JC_WIDE_BITS : JC_BITS;
	int err = empty(cpu, 0, bits);

	return err ?: codemap_jc_attach(the_map, &cpu->jc, ((struct cpu_room *)cpu)->jc, bits,
					core_jump_miss);
}

/*
 * A TB is about to be put where an indirect jump to pc has not found it. True: for the
 * last time in vain, jump_cache_grow() is due. In core_dispatch().
 */
bool jump_cache_crowded(const struct cpu *cpu, uint64_t pc)
{
	if (!core_jc_may_grow || cpu->jc.e[pc & cpu->jc.mask] == core_jump_miss)
		return false;
	return ++evictions >= CROWDED;
}

/**
 * jump_cache_grow() - empty the cache and make the jump caches larger, if that is due
 * @cpu: the caller, who holds no address of the cache
 *
 * Takes rt_lock.
 */
void jump_cache_grow(struct cpu *cpu)
{
	if (evictions < CROWDED || !core_jc_may_grow)
		return;
	rt_lock();
	if (core_jc_may_grow) {
		core_jc_may_grow = false;
		growing = true;
		cache_flush(cpu);
	}
	rt_unlock();
}

/* No code is left, and no thread finds any. */
void jump_cache_flushed(void)
{
	if (!growing)
		return;
	growing = false;
	for (struct cpu *c = all_cpus; c; c = c->next)
		if (c->jc.e && empty(c, 1UL << JC_BITS, JC_WIDE_BITS))
			return;
	core_jc_wide = true;
	codemap_jc_widen(the_map, JC_WIDE_BITS);
}
