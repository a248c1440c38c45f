// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Loads an ELF64 program, and its interpreter if it has one, as execve would:
 * segments, brk, stack with arguments, environment and auxiliary vector.
 *
 * The guest gets the process's own stack: the runtime leaves it for one of its
 * own before guest code runs (main.c).
 */
#include "mem.h"
#include "runtime.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DYN_BASE	0x555555554000UL	/* two thirds of the address space */
#define MAX_PHDRS	512
#define STACK_GAP	(64UL << 10)	/* kept free below what execve put there */

extern char **environ;

struct image {
	Elf64_Ehdr eh;
	Elf64_Phdr *ph;
	uint64_t bias, entry, phdr, end;
	char *interp;
	bool exec_stack, near;
};

static _Noreturn __attribute__((format(printf, 2, 3)))
void bad(int status, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	say("%s: %s", rt.program, line);
	_exit(status);
}

static const char *machine_name(unsigned int m)
{
	switch (m) {
	case EM_AARCH64: return "AArch64";
	case EM_ARM: return "ARM";
	case EM_RISCV: return "RISC-V";
	case EM_PPC64: return "PowerPC 64";
	case EM_S390: return "S/390";
	case EM_MIPS: return "MIPS";
	case EM_386: return "i386";
	}
	return "another machine";
}

static void read_headers(int fd, const char *path, struct image *im)
{
	size_t size;
	ssize_t n = pread(fd, &im->eh, sizeof(im->eh), 0);

	if (n < 0)
		bad(126, "cannot read %s: %s", path, strerror(errno));
	if (n >= 2 && !memcmp(&im->eh, "#!", 2))
		bad(126, "%s is a script that does not say what runs it", path);
	if (n < SELFMAG || memcmp(im->eh.e_ident, ELFMAG, SELFMAG))
		bad(126, "%s is not an ELF file", path);
	if (n < (ssize_t)sizeof(Elf32_Ehdr))
		bad(126, "%s is truncated", path);
	if (im->eh.e_ident[EI_CLASS] == ELFCLASS32) {
		const Elf32_Ehdr *e32 = (const Elf32_Ehdr *)&im->eh;

		if (e32->e_machine != EM_386 && e32->e_machine != EM_X86_64)
			bad(126, "%s is a 32-bit program for %s, not x86-64", path,
			    machine_name(e32->e_machine));
		bad(EXIT_UNSUPPORTED, "%s: a 32-bit program is not supported", path);
	}
	if (n < (ssize_t)sizeof(im->eh))
		bad(126, "%s is truncated", path);
	if (im->eh.e_ident[EI_CLASS] != ELFCLASS64 ||
	    im->eh.e_ident[EI_DATA] != ELFDATA2LSB || im->eh.e_machine != EM_X86_64)
		bad(126, "%s is a program for %s, not x86-64", path,
		    machine_name(im->eh.e_machine));
	if (im->eh.e_type != ET_EXEC && im->eh.e_type != ET_DYN)
		bad(126, "%s is not a program (ELF type %u)", path, im->eh.e_type);
	if (im->eh.e_phentsize != sizeof(Elf64_Phdr) || !im->eh.e_phnum ||
	    im->eh.e_phnum > MAX_PHDRS)
		bad(126, "%s has no usable program headers", path);
	size = im->eh.e_phnum * sizeof(Elf64_Phdr);
	im->ph = malloc(size);
	if (!im->ph)
		bad(126, "%s", strerror(ENOMEM));
	if (pread(fd, im->ph, size, im->eh.e_phoff) != (ssize_t)size)
		bad(126, "%s is truncated", path);
}

static bool randomize(void)
{
	return !(personality(0xffffffff) & ADDR_NO_RANDOMIZE);
}

static uint64_t random_pages(unsigned int bits)
{
	uint64_t r = 0;

	if (!randomize() || getrandom(&r, sizeof(r), 0) != sizeof(r))
		return 0;
	return (r & ((1UL << bits) - 1)) * PAGE;
}

static int seg_prot(const Elf64_Phdr *ph)
{
	return (ph->p_flags & PF_R ? PROT_READ : 0) |
	       (ph->p_flags & PF_W ? PROT_WRITE : 0) |
	       (ph->p_flags & PF_X ? PROT_EXEC : 0);
}

static void map_segment(int fd, const char *path, struct image *im, const Elf64_Phdr *ph)
{
	uint64_t addr = im->bias + ph->p_vaddr, skew = addr % PAGE;
	uint64_t file_end = addr + ph->p_filesz, end = addr + ph->p_memsz;
	uint64_t start = addr - skew, mapped = PAGE_UP(file_end);
	int prot = seg_prot(ph);
	long ret;

	if (ph->p_filesz) {
		ret = mem_mmap(start, file_end - start, prot, MAP_PRIVATE | MAP_FIXED,
			       fd, ph->p_offset - skew);
		if (ret < 0)
			bad(126, "cannot map %s at 0x%lx: %s", path, start, strerror(-ret));
	} else {
		mapped = start;
	}
	if (end <= file_end)
		return;
	/* The rest of the last page reads as zero; a file may have more there. */
	if (mapped > file_end && ph->p_filesz) {
		if (prot & PROT_WRITE)
			memset((void *)file_end, 0, mapped - file_end);
	}
	if (PAGE_UP(end) > mapped) {
		ret = mem_mmap(mapped, PAGE_UP(end) - mapped, prot,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (ret < 0)
			bad(126, "cannot map %s at 0x%lx: %s", path, mapped, strerror(-ret));
	}
}

static void map_image(int fd, const char *path, struct image *im, bool is_interp)
{
	uint64_t low = UINT64_MAX, high = 0, align = PAGE;
	struct stat stb;
	long ret;

	if (fstat(fd, &stb))
		bad(126, "cannot read %s: %s", path, strerror(errno));
	for (int i = 0; i < im->eh.e_phnum; i++) {
		const Elf64_Phdr *ph = &im->ph[i];

		switch (ph->p_type) {
		case PT_LOAD:
			if (ph->p_memsz < ph->p_filesz || ph->p_vaddr + ph->p_memsz > TASK_END ||
			    ph->p_vaddr + ph->p_memsz < ph->p_vaddr ||
			    (ph->p_vaddr - ph->p_offset) % PAGE)
				bad(126, "%s has a bad segment", path);
			if (ph->p_filesz > (uint64_t)stb.st_size ||
			    ph->p_offset > stb.st_size - ph->p_filesz)
				bad(126, "%s is truncated", path);
			if (ph->p_vaddr < low)
				low = ph->p_vaddr;
			if (ph->p_vaddr + ph->p_memsz > high)
				high = ph->p_vaddr + ph->p_memsz;
			if (ph->p_align > align && !(ph->p_align & (ph->p_align - 1)))
				align = ph->p_align;
			break;
		case PT_INTERP:
			if (is_interp || im->interp)
				break;
			if (ph->p_filesz < 2 || ph->p_filesz > 4096)
				bad(126, "%s has a bad interpreter name", path);
			im->interp = calloc(1, ph->p_filesz + 1);
			if (!im->interp || pread(fd, im->interp, ph->p_filesz, ph->p_offset) !=
			    (ssize_t)ph->p_filesz)
				bad(126, "%s is truncated", path);
			break;
		case PT_GNU_STACK:
			im->exec_stack = ph->p_flags & PF_X;
			break;
		}
	}
	if (!high)
		bad(126, "%s has nothing to load", path);
	low = PAGE_DOWN(low);

	/*
	 * Near the code cache. If not, a program that has an interpreter goes where
	 * execve puts it; what can go anywhere (ld.so, or a static PIE) goes among the
	 * mappings.
	 */
	if (im->eh.e_type == ET_DYN && im->interp) {
		uint64_t at = mem_near(high - low, align);

		im->near = at;
		im->bias = (at ?: ((DYN_BASE + random_pages(28)) & ~(align - 1))) - low;
	}
	if (im->eh.e_type == ET_DYN && !im->interp) {
		int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
		uint64_t at = mem_near(high - low + align, PAGE);

		ret = at ? mem_mmap(at, high - low + align, PROT_NONE,
				    flags | MAP_FIXED_NOREPLACE, -1, 0) : -EEXIST;
		if (ret < 0)
			ret = mem_mmap(0, high - low + align, PROT_NONE, flags, -1, 0);
		if (ret < 0)
			bad(126, "no room for %s: %s", path, strerror(-ret));
		at = (ret + align - 1) & ~(align - 1);
		mem_munmap(ret, at - ret);
		if (PAGE_UP(ret + high - low + align) > PAGE_UP(at + high - low))
			mem_munmap(PAGE_UP(at + high - low),
				   PAGE_UP(ret + high - low + align) -
				   PAGE_UP(at + high - low));
		im->bias = at - low;
	} else {
		/* The whole range first: holes between segments are nobody else's. */
		ret = mem_mmap(im->bias + low, high - low, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
			       -1, 0);
		if (ret < 0)
			bad(126, "cannot map %s at 0x%lx: %s", path, im->bias + low,
			    strerror(-ret));
	}
	mem_munmap(im->bias + low, PAGE_UP(high) - low);
	for (int i = 0; i < im->eh.e_phnum; i++) {
		const Elf64_Phdr *ph = &im->ph[i];

		if (ph->p_type == PT_LOAD && ph->p_memsz)
			map_segment(fd, path, im, ph);
		/* Where the headers are in memory. */
		if (ph->p_type == PT_LOAD && ph->p_offset <= im->eh.e_phoff &&
		    im->eh.e_phoff < ph->p_offset + ph->p_filesz)
			im->phdr = im->bias + ph->p_vaddr + im->eh.e_phoff - ph->p_offset;
	}
	im->entry = im->bias + im->eh.e_entry;
	im->end = im->bias + high;
}

/* ---- the stack ----------------------------------------------------------- */

static void put(uint64_t *sp, const void *data, size_t len)
{
	*sp -= len;
	memcpy((void *)*sp, data, len);
}

static size_t count(char **v)
{
	size_t n = 0;

	while (v[n])
		n++;
	return n;
}

static uint64_t build_stack(const struct image *prog, const struct image *interp,
			    const char *path, char **argv, char **envp, uint64_t vdso)
{
	static const int same[] = { AT_HWCAP, AT_CLKTCK, AT_UID, AT_EUID, AT_GID,
				    AT_EGID, AT_SECURE, AT_HWCAP2, 51 /* AT_MINSIGSTKSZ */ };
	size_t argc = count(argv), envc = count(envp), n = 0, words;
	uint64_t sp, random[2], execfn, platform, *p, *strings, bytes = 0;
	struct rlimit lim;
	Elf64_auxv_t aux[32];
	uint64_t top = PAGE_DOWN(__builtin_frame_address(0)) - STACK_GAP, low, end;
	int prot = PROT_READ | PROT_WRITE;

	for (size_t i = 0; i < argc; i++)
		bytes += strlen(argv[i]) + 1;
	for (size_t i = 0; i < envc; i++)
		bytes += strlen(envp[i]) + 1;
	/*
	 * What is above the guest's first frame (our own start, and what execve put
	 * there, the file's name and a word last) is also its: a program may look at
	 * its command line, and takes the end less the limit for the place that the
	 * kernel lets the stack grow down to, as it is.
	 */
	if (getrlimit(RLIMIT_STACK, &lim) || lim.rlim_cur > 1UL << 30)
		lim.rlim_cur = 1UL << 30;
	if (bytes + (128UL << 10) > lim.rlim_cur)
		bad(126, "%s", strerror(E2BIG));
	end = PAGE_UP(getauxval(AT_EXECFN) + strlen((char *)getauxval(AT_EXECFN)) + 9);
	low = PAGE_DOWN(end - lim.rlim_cur);
	if (prog->exec_stack || mem_read_implies_exec)
		prot |= PROT_EXEC;
	if (mem_add_stack(low, end, prot))
		bad(126, "%s", strerror(ENOMEM));

	strings = malloc((argc + envc + 1) * sizeof(*strings));
	if (!strings)
		bad(126, "%s", strerror(ENOMEM));
	sp = top - 16;
	put(&sp, path, strlen(path) + 1);
	execfn = sp;
	for (size_t i = envc; i--;) {
		put(&sp, envp[i], strlen(envp[i]) + 1);
		strings[argc + i] = sp;
	}
	for (size_t i = argc; i--;) {
		put(&sp, argv[i], strlen(argv[i]) + 1);
		strings[i] = sp;
	}
	sp &= ~15UL;
	put(&sp, "x86_64", 7);
	platform = sp;
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		bad(126, "no random bytes: %s", strerror(errno));
	sp &= ~15UL;
	put(&sp, random, sizeof(random));

#define AUX(type, value) do {			\
	aux[n].a_type = (type);			\
	aux[n++].a_un.a_val = (value);		\
} while (0)
	for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++)
		AUX(same[i], getauxval(same[i]));
	AUX(AT_PAGESZ, PAGE);
	AUX(AT_PHDR, prog->phdr);
	AUX(AT_PHENT, sizeof(Elf64_Phdr));
	AUX(AT_PHNUM, prog->eh.e_phnum);
	AUX(AT_BASE, interp ? interp->bias : 0);
	AUX(AT_FLAGS, 0);
	AUX(AT_ENTRY, prog->entry);
	AUX(AT_RANDOM, sp);
	AUX(AT_EXECFN, execfn);
	AUX(AT_PLATFORM, platform);
	if (vdso)
		AUX(AT_SYSINFO_EHDR, vdso);
	AUX(AT_NULL, 0);
#undef AUX

	words = 1 + argc + 1 + envc + 1 + n * 2;
	sp -= words * 8;
	sp &= ~15UL;
	p = (uint64_t *)sp;
	*p++ = argc;
	for (size_t i = 0; i < argc; i++)
		*p++ = strings[i];
	*p++ = 0;
	for (size_t i = 0; i < envc; i++)
		*p++ = strings[argc + i];
	*p++ = 0;
	memcpy(p, aux, n * sizeof(*aux));
	free(strings);
	return sp;
}

/**
 * loader_load() - make the guest's process image
 * @fd: the program, open for reading
 * @path: its name, for AT_EXECFN and messages
 * @argv: arguments, NULL terminated
 * @envp: environment, NULL terminated
 * @img: where to begin
 *
 * Does not return when the program cannot be loaded: 126, or 70 for what is not
 * supported yet, with a line that says why.
 */
void loader_load(int fd, const char *path, char **argv, char **envp,
		 struct guest_image *img)
{
	struct image prog = { 0 }, interp = { 0 };
	uint64_t brk;

	read_headers(fd, path, &prog);
	mem_near_init(fd, &prog.eh, prog.ph, random_pages(12));
	map_image(fd, path, &prog, false);
	if (prog.interp) {
		fd = open(prog.interp, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			bad(errno == ENOENT ? 127 : 126, "its interpreter %s: %s", prog.interp,
			    errno == ENOENT ? "not found" : strerror(errno));
		read_headers(fd, prog.interp, &interp);
		map_image(fd, prog.interp, &interp, true);
		close(fd);
	}
	/* Among the mappings, or near the runtime, a heap has no room to grow. */
	brk = PAGE_UP(prog.end);
	if (prog.eh.e_type == ET_DYN && (!prog.interp || prog.near))
		brk = DYN_BASE;
	mem_set_brk(brk + random_pages(13));
	img->sp = build_stack(&prog, prog.interp ? &interp : NULL, path, argv, envp,
			      vdso_add());
	img->entry = prog.interp ? interp.entry : prog.entry;
	free(prog.ph);
	free(interp.ph);
	free(prog.interp);
}
