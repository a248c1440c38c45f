// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Names for guest addresses: the symbol tables of the files that the guest has
 * mapped, for --perf-map.
 *
 * Owns one table per file, read once and kept; guarded by rt_lock. A file is
 * whatever the guest has mapped, so every number in it is checked, and one that
 * makes no sense has no symbols. Nothing of it stays open.
 */
#include "symbols.h"
#include "fd.h"
#include "mem.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TABLE	(256UL << 20)	/* a larger one is not believed */

struct symbol {
	uint64_t off, size;		/* in the file */
	uint32_t name;
};

struct symfile {
	struct symfile *next;
	dev_t dev;
	ino_t ino;
	char *base;			/* the file's last name; NULL: not known */
	struct symbol *sym;		/* by off */
	size_t nr;
	char *names;
};

static struct symfile *files;

static void *read_part(int fd, uint64_t off, uint64_t size)
{
	char *p;

	if (!size || size > MAX_TABLE)
		return NULL;
	p = malloc(size + 1);
	if (!p)
		return NULL;
	if (pread(fd, p, size, off) != (ssize_t)size) {
		free(p);
		return NULL;
	}
	p[size] = 0;			/* names end, whatever the file says */
	return p;
}

static int by_offset(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

struct image {
	Elf64_Ehdr eh;
	Elf64_Phdr *ph;
	Elf64_Shdr *sh;
};

/* Where in the file an address of its own is; 0: not in it. */
static uint64_t file_offset(const struct image *im, uint64_t addr)
{
	for (int i = 0; i < im->eh.e_phnum; i++) {
		const Elf64_Phdr *p = &im->ph[i];

		if (p->p_type == PT_LOAD && p->p_flags & PF_X && addr - p->p_vaddr < p->p_filesz)
			return addr - p->p_vaddr + p->p_offset;
	}
	return 0;
}

static bool names_code(const struct image *im, const Elf64_Sym *s)
{
	switch (ELF64_ST_TYPE(s->st_info)) {
	case STT_FUNC:
	case STT_GNU_IFUNC:
		return s->st_shndx != SHN_UNDEF;
	case STT_NOTYPE:
		return s->st_name && s->st_shndx < im->eh.e_shnum && s->st_shndx &&
		       im->sh[s->st_shndx].sh_flags & SHF_EXECINSTR;
	default:
		return false;
	}
}

/* The symbols of one section. */
static void read_section(struct symfile *f, int fd, const struct image *im, const Elf64_Shdr *sec)
{
	size_t n = sec->sh_size / sizeof(Elf64_Sym);
	const Elf64_Shdr *str;
	Elf64_Sym *raw;

	if (sec->sh_link >= im->eh.e_shnum)
		return;
	str = &im->sh[sec->sh_link];
	raw = read_part(fd, sec->sh_offset, n * sizeof(*raw));
	f->names = read_part(fd, str->sh_offset, str->sh_size);
	f->sym = raw && f->names ? malloc(n * sizeof(*f->sym)) : NULL;
	for (size_t i = 0; f->sym && i < n; i++) {
		uint64_t off = file_offset(im, raw[i].st_value);

		if (!off || raw[i].st_name >= str->sh_size || !names_code(im, &raw[i]))
			continue;
		f->sym[f->nr++] = (struct symbol){ off, raw[i].st_size, raw[i].st_name };
	}
	free(raw);
	if (f->nr)
		qsort(f->sym, f->nr, sizeof(*f->sym), by_offset);
}

static void read_symbols(struct symfile *f, int fd)
{
	struct image im = { 0 };
	int best = -1;

	if (pread(fd, &im.eh, sizeof(im.eh), 0) != sizeof(im.eh) ||
	    memcmp(im.eh.e_ident, ELFMAG, SELFMAG) ||
	    im.eh.e_ident[EI_CLASS] != ELFCLASS64 ||
	    im.eh.e_phentsize != sizeof(Elf64_Phdr) || im.eh.e_shentsize != sizeof(Elf64_Shdr))
		return;
	im.ph = read_part(fd, im.eh.e_phoff, im.eh.e_phnum * sizeof(*im.ph));
	im.sh = read_part(fd, im.eh.e_shoff, im.eh.e_shnum * sizeof(*im.sh));
	for (int i = 0; im.ph && im.sh && i < im.eh.e_shnum; i++) {
		if (im.sh[i].sh_type == SHT_SYMTAB)
			best = i;
		else if (im.sh[i].sh_type == SHT_DYNSYM && best < 0)
			best = i;
	}
	if (best >= 0)
		read_section(f, fd, &im, &im.sh[best]);
	free(im.ph);
	free(im.sh);
}

/* The path of the mapping that begins below pc and ends above it. */
static bool mapped_path(uint64_t pc, char *path, size_t size)
{
	char line[4608];
	bool found = false;
	FILE *maps;

	fd_open_begin();
	maps = fopen("/proc/self/maps", "re");
	fd_open_end();
	if (!maps)
		return false;
	while (!found && fgets(line, sizeof(line), maps)) {
		char *name = strchr(line, '/');
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx", &start, &end) != 2 || pc < start || pc >= end || !name)
			continue;
		name[strcspn(name, "\n")] = 0;
		snprintf(path, size, "%s", name);
		found = true;
	}
	fclose(maps);
	return found;
}

static struct symfile *file_of(const struct region *r, uint64_t pc)
{
	struct symfile *f;
	char path[4096];
	struct stat stb;
	int fd = -1;

	for (f = files; f; f = f->next)
		if (f->dev == r->dev && f->ino == r->ino)
			return f;
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->dev = r->dev;
	f->ino = r->ino;
	f->next = files;
	files = f;
	if (!mapped_path(pc, path, sizeof(path)))
		return f;
	f->base = strdup(strrchr(path, '/') + 1);
	fd_open_begin();
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		fd = fd_guard(fd);
	fd_open_end();
	/* Another file may have its name by now. */
	if (fd >= 0 && !fstat(fd, &stb) && stb.st_dev == r->dev && stb.st_ino == r->ino)
		read_symbols(f, fd);
	if (fd >= 0)
		close(fd);
	return f;
}

static const struct symbol *find(const struct symfile *f, uint64_t off)
{
	size_t lo = 0, hi = f->nr;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (f->sym[mid].off <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	/* Of two that begin there, the one that says how long it is. */
	for (hi = lo - 1; hi && f->sym[hi - 1].off == f->sym[lo - 1].off; hi--)
		if (f->sym[hi].size)
			break;
	if (f->sym[hi].size && off - f->sym[hi].off >= f->sym[hi].size)
		return NULL;
	return &f->sym[hi];
}

void symbol_name(uint64_t pc, char *buf, size_t size)
{
	const struct region *r = map_at(pc);
	const struct symfile *f = r && r->ino ? file_of(r, pc) : NULL;
	const struct symbol *s;
	uint64_t off;

	if (!f || !f->base) {
		if (r && r->name)
			snprintf(buf, size, "%s+0x%lx", r->name, pc - r->start);
		else
			snprintf(buf, size, "[0x%lx]", pc);
		return;
	}
	off = pc - r->start + r->foff;
	s = find(f, off);
	if (s)
		snprintf(buf, size, "%s+0x%lx", f->names + s->name, off - s->off);
	else
		snprintf(buf, size, "%s+0x%lx", f->base, off);
}
