// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Arm a million isolated pages: every second page of a view, one call each.
 * Then the same with userfaultfd and with mprotect, until it fails. Memory is
 * compared from before the mapping was made, with the page cache there: the page
 * tables are the mapping's, the rest is what the protection costs.
 *
 *	bench_million [PAGES]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/codewp.h>
#include <linux/userfaultfd.h>

#include "bench.h"

#define PAGE 4096UL

static size_t pages = 1000000;

struct memory {
	unsigned long slab, vmalloc, tables, percpu;
};

/* KiB of kernel memory by kind. */
static struct memory memory(void)
{
	return (struct memory){
		.slab = bench_meminfo("Slab"), .vmalloc = bench_meminfo("VmallocUsed"),
		.tables = bench_meminfo("PageTables"), .percpu = bench_meminfo("Percpu"),
	};
}

static double per_page(unsigned long before, unsigned long after, size_t n)
{
	return ((double)after - before) * 1024 / n;
}

static void report(const char *name, size_t done, double ns, unsigned long maps[2],
		   const struct memory m[2], const char *how)
{
	size_t n = done ? done : 1;

	printf("%-9s %8zu pages  %8.0f %s/page  mappings %lu -> %lu  kernel memory/page: "
	       "slab %.1f, vmalloc %.1f, page tables %.1f, percpu %.1f bytes  %s\n",
	       name, done, ns / n, bench_unit, maps[0], maps[1],
	       per_page(m[0].slab, m[1].slab, n), per_page(m[0].vmalloc, m[1].vmalloc, n),
	       per_page(m[0].tables, m[1].tables, n), per_page(m[0].percpu, m[1].percpu, n), how);
}

static void stat_view(int view, struct codewp_stat *st)
{
	if (ioctl(view, CODEWP_IOC_STAT, st))
		bench_die("CODEWP_IOC_STAT");
}

static void with_view(int memfd)
{
	struct codewp_view_create vc = {
		.flags = CODEWP_VIEW_PRIVATE, .memfd = memfd, .length = 2 * pages * PAGE,
		.ring_fd = -1, .clients = CODEWP_CLIENT_CODE,
	};
	int dev = open("/dev/codewp", O_RDWR | O_CLOEXEC), view;
	struct codewp_stat after;
	unsigned long maps[2];
	struct memory m[2];
	char how[160], *p;
	double t;

	if (dev < 0)
		bench_die("/dev/codewp");
	maps[0] = bench_maps() + 1;	/* with the view's own */
	m[0] = memory();
	view = ioctl(dev, CODEWP_IOC_VIEW, &vc);
	if (view < 0)
		bench_die("CODEWP_IOC_VIEW");
	p = mmap(NULL, 2 * pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		 view, 0);
	if (p == MAP_FAILED)
		bench_die("mmap");
	for (size_t i = 0; i < pages; i++)
		p[2 * i * PAGE] = 1;
	t = bench_now();
	for (size_t i = 0; i < pages; i++) {
		struct codewp_arm a = { .offset = 2 * i * PAGE, .length = PAGE,
					.flags = CODEWP_ARM_KEEP };

		if (ioctl(view, CODEWP_IOC_ARM, &a))
			bench_die("arm of page %zu", i);
	}
	t = bench_now() - t;
	maps[1] = bench_maps();
	m[1] = memory();
	stat_view(view, &after);
	snprintf(how, sizeof(how), "state_bytes %.1f/page",
		 (double)after.state_bytes / pages);
	report("codewp", pages, t, maps, m, how);
	if (after.armed != pages)
		bench_die("%llu pages are armed", (unsigned long long)after.armed);

	/* Armed for real: every thousandth traps (told by the ring), its neighbour not. */
	for (size_t i = 0; i < pages; i += 1000) {
		p[2 * i * PAGE] = 2;
		p[2 * i * PAGE + PAGE] = 2;
	}
	stat_view(view, &after);
	if (after.traps != (pages + 999) / 1000)
		bench_die("%llu traps", (unsigned long long)after.traps);
	printf("          armed for real: %llu of %zu written pages trapped\n",
	       (unsigned long long)after.traps, (pages + 999) / 1000);
	munmap(p, 2 * pages * PAGE);
	close(view);
	close(dev);
}

/* The page cache, which all three share: before anything is counted. */
static void populate(int memfd)
{
	char byte = 1;

	for (size_t i = 0; i < pages; i++)
		if (pwrite(memfd, &byte, 1, 2 * i * PAGE) != 1)
			bench_die("pwrite");
}

static void *plain_map(int memfd, unsigned long *maps, struct memory *m)
{
	char *p;

	*maps = bench_maps() + 1;
	*m = memory();
	p = mmap(NULL, 2 * pages * PAGE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_NORESERVE, memfd, 0);
	if (p == MAP_FAILED)
		bench_die("mmap");
	for (size_t i = 0; i < pages; i++)
		p[2 * i * PAGE] = 1;
	return p;
}

static void with_uffd(int memfd)
{
	struct uffdio_api api = { .api = UFFD_API,
				  .features = UFFD_FEATURE_SIGBUS |
					      UFFD_FEATURE_PAGEFAULT_FLAG_WP |
					      UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_WP };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	unsigned long maps[2];
	struct memory m[2];
	char *p;
	double t;

	p = plain_map(memfd, &maps[0], &m[0]);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		bench_die("userfaultfd");
	reg.range.start = (uintptr_t)p;
	reg.range.len = 2 * pages * PAGE;
	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		bench_die("UFFDIO_REGISTER");
	t = bench_now();
	for (size_t i = 0; i < pages; i++) {
		struct uffdio_writeprotect wp = {
			.range = { .start = (uintptr_t)p + 2 * i * PAGE, .len = PAGE },
			.mode = UFFDIO_WRITEPROTECT_MODE_WP,
		};

		if (ioctl(fd, UFFDIO_WRITEPROTECT, &wp))
			bench_die("UFFDIO_WRITEPROTECT of page %zu", i);
	}
	t = bench_now() - t;
	maps[1] = bench_maps();
	m[1] = memory();
	report("uffd", pages, t, maps, m, "");
	close(fd);
	munmap(p, 2 * pages * PAGE);
}

static void with_mprotect(int memfd)
{
	unsigned long maps[2];
	struct memory m[2];
	char *p;
	char how[80];
	int err = 0;
	double t;
	size_t i;

	p = plain_map(memfd, &maps[0], &m[0]);
	t = bench_now();
	for (i = 0; i < pages; i++) {
		if (mprotect(p + 2 * i * PAGE, PAGE, PROT_READ)) {
			err = errno;
			break;
		}
	}
	t = bench_now() - t;
	m[1] = memory();
	/* Nothing left to open a file with: the limit of mappings is reached. */
	munmap(p + 2 * (pages - 1) * PAGE, 2 * PAGE);
	maps[1] = bench_maps();
	snprintf(how, sizeof(how), "%s", err ? strerror(err) : "did not fail");
	report("mprotect", i, t, maps, m, how);
}

int main(int argc, char **argv)
{
	int memfd = memfd_create("million", MFD_CLOEXEC);

	if (argc > 1)
		pages = strtoul(argv[1], NULL, 0);
	bench_open();
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!pages || memfd < 0 || ftruncate(memfd, 2 * pages * PAGE))
		bench_die("memfd of %zu pages", 2 * pages);
	populate(memfd);
	with_view(memfd);
	with_uffd(memfd);
	with_mprotect(memfd);
	return 0;
}
