// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * main() of every guest program, and the places where code can live.
 *
 * Runs one case per process, or all.
 */
#include <fcntl.h>
#include <stdarg.h>

#include "guest.h"

static struct guest_case *first, **last = &first;

const char *const place_name[PLACE_COUNT] = {
	"anon", "shared", "memfd", "shm", "file", "brk", "bss", "stack",
};

void guest_add(struct guest_case *c)
{
	*last = c;
	last = &c->next;
}

_Noreturn void guest_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	printf("FAIL %s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	_exit(1);
}

int temp_file(size_t size)
{
	char name[] = "/tmp/guest.XXXXXX";
	int fd = mkstemp(name);

	CHECK(fd >= 0);
	CHECK(!unlink(name));
	CHECK(!ftruncate(fd, size));
	return fd;
}

static int shm_file(size_t size)
{
	char name[] = "/dev/shm/guest.XXXXXX";
	int fd = mkstemp(name);

	CHECK(fd >= 0);
	CHECK(!unlink(name));
	CHECK(!ftruncate(fd, size));
	return fd;
}

static uint8_t *brk_pages(size_t size)
{
	uintptr_t cur = (uintptr_t)sbrk(0), start = (cur + PAGE - 1) & -PAGE;

	CHECK(sbrk(start - cur + size) != (void *)-1);
	return (uint8_t *)start;
}

/* What place_get() mapped, so that --all can drop it between two cases. */
static struct { void *p; size_t size; } mapped[512];
static unsigned int mapped_n;

static void drop_places(void)
{
	/* a case may have unmapped or moved its own: that is no error */
	while (mapped_n--)
		munmap(mapped[mapped_n].p, mapped[mapped_n].size);
	mapped_n = 0;
}

uint8_t *place_get(enum place where, size_t pages)
{
	static uint8_t bss[32 * PAGE] __attribute__((aligned(4096)));
	static size_t bss_used;
	size_t size = pages * PAGE;
	int flags = MAP_PRIVATE, fd = -1;
	uint8_t *p;

	switch (where) {
	case PLACE_ANON:
		flags |= MAP_ANONYMOUS;
		break;
	case PLACE_SHARED:
		flags = MAP_SHARED | MAP_ANONYMOUS;
		break;
	case PLACE_MEMFD:
		flags = MAP_SHARED;
		fd = memfd_create("guest", 0);
		CHECK(fd >= 0);
		CHECK(!ftruncate(fd, size));
		break;
	case PLACE_SHM:
		flags = MAP_SHARED;
		fd = shm_file(size);
		break;
	case PLACE_FILE:
		fd = temp_file(size);
		break;
	case PLACE_BRK:
		p = brk_pages(size);
		CHECK(!mprotect(p, size, PROT_READ | PROT_WRITE | PROT_EXEC));
		memset(p, 0, size);
		return p;
	case PLACE_BSS:
		if (bss_used + size > sizeof(bss))
			bss_used = 0;	/* all cases in one process: from the start */
		p = bss + bss_used;
		bss_used += size;
		CHECK(!mprotect(p, size, PROT_READ | PROT_WRITE | PROT_EXEC));
		memset(p, 0, size);
		return p;
	case PLACE_STACK: {
		uint8_t here;

		/* far enough below that no frame of this program comes there */
		p = (uint8_t *)(((uintptr_t)&here & -PAGE) - 64 * PAGE - size);
		for (uint8_t *q = (uint8_t *)((uintptr_t)&here & -PAGE);
		     q >= p; q -= PAGE)
			*(volatile uint8_t *)q;
		memset(p, 0, size);
		CHECK(!mprotect(p, size, PROT_READ | PROT_WRITE | PROT_EXEC));
		return p;
	}
	default:
		guest_fail(__FILE_NAME__, __LINE__, "no such place %d", where);
	}
	p = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, flags, fd, 0);
	CHECK(p != MAP_FAILED);
	if (fd >= 0)
		close(fd);
	if (mapped_n < 512) {
		mapped[mapped_n].p = p;
		mapped[mapped_n++].size = size;
	}
	return p;
}

size_t put_ret_imm(uint8_t *p, uint32_t imm)
{
	p[0] = 0xb8;
	memcpy(p + 1, &imm, 4);
	p[5] = 0xc3;
	return 6;
}

static int wanted(const char *name, const char *which, const char *without)
{
	size_t n = strlen(name);

	if (strcmp(which, "--all"))
		return !strcmp(which, name);
	if (!strncmp(name, "dies_", 5))
		return 0;
	for (; *without; without += strcspn(without, " "), without += *without == ' ')
		if (strcspn(without, " ") == n && !strncmp(without, name, n))
			return 0;
	return 1;
}

int main(int argc, char **argv)
{
	struct guest_case *c;
	int ran = 0;

	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (c = first; c; c = c->next)
			puts(c->name);
		return 0;
	}
	for (c = first; c; c = c->next) {
		if (argc < 2 || !wanted(c->name, argv[1], argc > 2 ? argv[2] : ""))
			continue;
		c->fn();
		printf("%s done\n", c->name);
		fflush(stdout);
		drop_places();
		ran++;
	}
	if (ran)
		return 0;
	fprintf(stderr, "usage: %s --list | --all ['CASE...' left out] | CASE\n", argv[0]);
	return 2;
}
