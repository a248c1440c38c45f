// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Self-modifying code by where it lies: across pages, beside data, behind two
 * mappings, in a file, at the edge of a mapping.
 */
#include <fcntl.h>

#include "guest.h"

/* --- an instruction across two pages ---------------------------------------- */

static void across(enum place w, size_t before)
{
	uint8_t *p = place_get(w, 2), *insn = p + PAGE - before;
	uint64_t sum = 0;

	/* movabs $imm, %rax; ret, its first bytes on one page, the rest on the next */
	insn[0] = 0x48;
	insn[1] = 0xb8;
	memset(insn + 2, 0, 8);
	insn[10] = 0xc3;
	CHECK_EQ(run1(insn, 0), 0);
	for (unsigned int i = 0; i < 8; i++) {
		insn[2 + i] = i + 1;	/* each byte alone: first or second page */
		CHECK_EQ(run1(insn, 0) >> 8 * i, i + 1);
	}
	for (unsigned int i = 0; i < 4; i++) {
		uint64_t v = 0x1122334455667788 * (i + 1);

		memcpy(insn + 2, &v, 8);	/* one store over the boundary */
		CHECK_EQ(run1(insn, 0), v);
		sum += run1(insn, 0);
	}
	printf("%s %zu %llx\n", place_name[w], before, (long long)sum);
}

CASE(across_pages)
{
	for (enum place w = 0; w < PLACE_COUNT; w++)
		for (size_t before = 1; before <= 10; before++)
			across(w, before);
}

/* The store itself crosses the page, into the next instruction. */
TEMPLATE(t_cross, "movq %rdi, 1f+2(%rip)\n .fill 100,1,0x90\n"
	 "1: movabsq $0x1111111111111111, %rax\n ret\n");

CASE(store_across_pages)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		for (size_t k = 1; k < 8; k++) {
			uint8_t *p = place_get(w, 2);
			uint8_t *imm;

			imm = p + PAGE - k;
			p = imm - (TEMPLATE_SIZE(t_cross) - 9);
			PUT(p, t_cross);
			for (uint64_t i = 0; i < 3; i++) {
				uint64_t v = 0x0807060504030201 * (i + 1);

				CHECK_EQ(run1(p, v), v);
			}
		}
		printf("%s\n", place_name[w]);
	}
}

TEMPLATE(t_cross_y, "vmovdqu (%rdi), %ymm0\n vmovdqu %ymm0, 1f(%rip)\n vzeroupper\n"
	 ".fill 40,1,0x90\n 1: .fill 32,1,0x90\n ret\n");
TEMPLATE(t_new_y, "movabsq $0x123456789abcdef0, %rax\n movabsq $0x1111111111111111, %rcx\n"
	 "leaq (%rax,%rcx), %rax\n .fill 8,1,0x90\n");

CASE(avx_store_across_pages)
{
	if (!__builtin_cpu_supports("avx"))
		return;
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		for (size_t k = 1; k < 32; k += 6) {
			uint8_t *p = place_get(w, 2);
			uint8_t buf[32];

			memset(buf, 0x90, sizeof(buf));
			memcpy(buf, t_new_y_start, TEMPLATE_SIZE(t_new_y));
			p += PAGE - k - (TEMPLATE_SIZE(t_cross_y) - 33);
			PUT(p, t_cross_y);
			CHECK_EQ(run1(p, (uintptr_t)buf), 0x23456789abcdf001);
		}
		printf("%s\n", place_name[w]);
	}
}

/* Straight-line code that runs from one page into the next; each page patched. */
CASE(block_over_pages)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 3), *q = p + PAGE - 60;
		uint64_t want = 0;

		memcpy(q, "\x31\xc0", 2);			/* xor %eax, %eax */
		for (size_t i = 0; i < 40; i++) {
			memcpy(q + 2 + 3 * i, "\x83\xc0\x01", 3);/* add $1, %eax */
			want++;
		}
		q[2 + 120] = 0xc3;
		CHECK_EQ(run1(q, 0), want);
		for (size_t i = 0; i < 40; i++) {
			q[2 + 3 * i + 2] = i;
			want += i - 1;
			CHECK_EQ(run1(q, 0), want);
		}
		printf("%s %llu\n", place_name[w], (long long)want);
	}
}

/* --- data and code on one page ------------------------------------------------ */

/* add $1, (data); mov (data), %eax; ret - with the data at +distance */
CASE(data_beside_code)
{
	static const int distance[] = { 16, 32, 60, 64, 256, 2048, -4, -64, -512 };

	for (enum place w = 0; w < PLACE_COUNT; w++) {
		for (unsigned int i = 0; i < 9; i++) {
			uint8_t *p = place_get(w, 1) + 1024;
			int32_t d = distance[i];
			uint8_t code[] = { 0x83, 0x05, 0, 0, 0, 0, 1,
					   0x8b, 0x05, 0, 0, 0, 0, 0xc3 };
			int32_t d1 = d - 7, d2 = d - 13;

			memcpy(code + 2, &d1, 4);
			memcpy(code + 9, &d2, 4);
			memcpy(p, code, sizeof(code));
			memset(p + d, 0, 4);
			for (uint64_t k = 1; k <= 300; k++)
				CHECK_EQ(run1(p, 0), k);
		}
		printf("%s\n", place_name[w]);
	}
}

/* One byte of data exactly before and exactly behind the code. */
CASE(data_touches_code)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1) + 64;
		size_t n = put_ret_imm(p, 77);

		CHECK_EQ(run1(p, 0), 77);
		for (int k = 0; k < 200; k++) {
			((volatile uint8_t *)p)[-1] = k;
			((volatile uint8_t *)p)[n] = k;
			*(volatile uint32_t *)(p + n) = k;
			*(volatile uint32_t *)(p - 4) = k;
			CHECK_EQ(run1(p, 0), 77);
		}
		/* and one that straddles the edge: the ret is rewritten as a ret */
		*(volatile uint16_t *)(p + n - 1) = 0x99c3;
		CHECK_EQ(run1(p, 0), 77);
		*(volatile uint32_t *)(p - 3) = 0xb8000000;
		CHECK_EQ(run1(p, 0), 77);
		*(volatile uint64_t *)(p - 6) = 0x02b8000000000000;
		CHECK_EQ(run1(p, 0), 2);
		printf("%s %llx\n", place_name[w], (long long)run1(p, 0));
	}
}

CASE(same_value_again)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1) + 128;
		uint64_t sum = 0;

		for (int k = 0; k < 1000; k++) {
			uint32_t v = k / 100;	/* changes every hundredth time */

			*(volatile uint32_t *)(p + 1) = v;
			*(volatile uint8_t *)p = 0xb8;
			*(volatile uint8_t *)(p + 5) = 0xc3;
			CHECK_EQ(run1(p, 0), v);
			sum += v;
		}
		printf("%s %llu\n", place_name[w], (long long)sum);
	}
}

/* --- many blocks -------------------------------------------------------------- */

CASE(many_blocks_one_page)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 2);
		uint64_t sum = 0;
		unsigned int n = 680;	/* of six bytes each */

		for (unsigned int i = 0; i < n; i++)
			put_ret_imm(p + 6 * i, i);
		for (unsigned int i = 0; i < n; i++)
			sum += run1(p + 6 * i, 0);
		CHECK_EQ(sum, n * (n - 1) / 2);
		/* data at the page's end, among 680 blocks */
		for (int k = 0; k < 500; k++)
			*(volatile uint32_t *)(p + 4088) = k;
		/* change every seventh, all must answer right */
		for (unsigned int i = 0; i < n; i += 7)
			p[6 * i + 1] ^= 0x55;
		for (unsigned int i = 0; i < n; i++) {
			uint64_t got = run1(p + 6 * i, 0);

			CHECK_EQ(got, i % 7 ? i : (i ^ 0x55));
			sum += got;
		}
		printf("%s %llu\n", place_name[w], (long long)sum);
	}
}

/* 1000 one-byte-apart entries into one slide of inc %eax: blocks overlap */
CASE(overlapping_blocks)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 2);
		uint64_t sum = 0;

		for (unsigned int i = 0; i < 1000; i++)
			memcpy(p + 2 * i, "\xff\xc7", 2);	/* inc %edi */
		memcpy(p + 2000, "\x89\xf8\xc3", 3);		/* mov %edi, %eax; ret */
		for (unsigned int i = 0; i < 1000; i += 3)
			CHECK_EQ(run1(p + 2 * i, 5), 1000 - i + 5);
		memcpy(p + 1500, "\xff\xcf", 2);		/* one dec %edi */
		for (unsigned int i = 0; i < 1000; i += 3) {
			uint64_t got = run1(p + 2 * i, 5);

			CHECK_EQ(got, i <= 750 ? 1000 - i + 3 : 1000 - i + 5);
			sum += got;
		}
		printf("%s %llu\n", place_name[w], (long long)sum);
	}
}

CASE(append_functions)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 4), *q = p;
		uint64_t sum = 0;

		/* a JIT: append a function, call it and all the earlier ones' last */
		for (unsigned int i = 0; i < 1500; i++) {
			uint8_t *prev = q;

			q += put_ret_imm(q, i * 3);
			sum += run1(prev, 0);
			if (i)
				sum += run1(prev - 6, 0);
		}
		printf("%s %llu\n", place_name[w], (long long)sum);
	}
}

/* A new function that calls the one before: chains across fresh code. */
CASE(append_callers)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 2), *prev = p, *q = p + 16;

		memcpy(p, "\x89\xf8\xc3", 3);		/* mov %edi, %eax; ret */
		for (unsigned int i = 1; i <= 200; i++, prev = q, q += 16) {
			int32_t rel = prev - (q + 5);

			q[0] = 0xe8;			/* call prev */
			memcpy(q + 1, &rel, 4);
			memcpy(q + 5, "\xff\xc0\xc3", 3);/* inc %eax; ret */
			CHECK_EQ(run1(q, 1000), 1000 + i);
		}
		/* break the chain in the middle */
		memcpy(p + 100 * 16 + 5, "\xff\xc8\xc3", 3);
		CHECK_EQ(run1(prev, 1000), 1198);
		printf("%s\n", place_name[w]);
	}
}

/* --- several mappings of the same bytes ---------------------------------------- */

static void dual(int fd, const char *name)
{
	uint8_t *rw, *rx, *rwx, buf[16];
	uint64_t sum = 0;

	CHECK(!ftruncate(fd, 4 * PAGE));
	rw = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
	rx = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, PAGE);
	rwx = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(rw != MAP_FAILED && rx != MAP_FAILED && rwx != MAP_FAILED);

	for (uint32_t i = 0; i < 200; i++) {
		put_ret_imm(rw + 50, i);
		CHECK_EQ(run1(rx + 50, 0), i);
		CHECK_EQ(run1(rwx + PAGE + 50, 0), i);
		put_ret_imm(rwx + PAGE + 50, i + 1);
		CHECK_EQ(run1(rx + 50, 0), i + 1);
		sum += run1(rx + 50, 0);
	}
	/* the file is written, not a mapping */
	put_ret_imm(buf, 0x7777);
	CHECK_EQ(pwrite(fd, buf, 6, PAGE + 50), 6);
	CHECK_EQ(run1(rx + 50, 0), 0x7777);
	put_ret_imm(buf, 0x8888);
	CHECK_EQ(lseek(fd, PAGE + 50, SEEK_SET), PAGE + 50);
	CHECK_EQ(write(fd, buf, 6), 6);
	CHECK_EQ(run1(rx + 50, 0), 0x8888);
	CHECK_EQ(run1(rwx + PAGE + 50, 0), 0x8888);
	printf("%s %llu\n", name, (long long)sum);
	munmap(rw, 2 * PAGE);
	CHECK_EQ(run1(rx + 50, 0), 0x8888);
	/* truncated and extended: zeros, which are add %al, (%rax) */
	CHECK(!ftruncate(fd, PAGE));
	CHECK(!ftruncate(fd, 4 * PAGE));
	CHECK_EQ(*(uint32_t *)(rx + 50), 0);
	put_ret_imm(rwx + PAGE + 50, 9);
	CHECK_EQ(run1(rx + 50, 0), 9);
	close(fd);
}

CASE(two_mappings_memfd)
{
	dual(memfd_create("x", MFD_CLOEXEC), "memfd");
}

CASE(two_mappings_shm)
{
	char name[] = "/dev/shm/guest.XXXXXX";
	int fd = mkstemp(name);

	CHECK(fd >= 0);
	CHECK(!unlink(name));
	dual(fd, "shm");
}

/* The same through the file's own name: two opens of one /dev/shm file. */
CASE(two_opens_shm)
{
	char name[] = "/dev/shm/guest.XXXXXX";
	int a = mkstemp(name), b = open(name, O_RDONLY);
	uint8_t *rw, *rx;

	CHECK(a >= 0 && b >= 0);
	CHECK(!unlink(name));
	CHECK(!ftruncate(a, PAGE));
	rw = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, a, 0);
	rx = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, b, 0);
	CHECK(rw != MAP_FAILED && rx != MAP_FAILED);
	close(a);
	close(b);
	for (uint32_t i = 0; i < 200; i++) {
		put_ret_imm(rw, i);
		CHECK_EQ(run1(rx, 0), i);
	}
}

/* mremap(old_size 0) duplicates a shared mapping */
CASE(mremap_duplicate)
{
	uint8_t *a = place_get(PLACE_SHARED, 1), *b;

	b = mremap(a, 0, PAGE, MREMAP_MAYMOVE);
	CHECK(b != MAP_FAILED && b != a);
	for (uint32_t i = 0; i < 100; i++) {
		put_ret_imm(a + 8, i);
		CHECK_EQ(run1(b + 8, 0), i);
		put_ret_imm(b + 8, i + 7);
		CHECK_EQ(run1(a + 8, 0), i + 7);
	}
}

/* A private mapping of a file: written pages are copies, others follow the file. */
CASE(private_file_rwx)
{
	int fd = temp_file(2 * PAGE);
	uint8_t *p, buf[16];

	put_ret_imm(buf, 5);
	CHECK_EQ(pwrite(fd, buf, 6, 100), 6);
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED);
	CHECK_EQ(run1(p + 100, 0), 5);
	for (uint32_t i = 0; i < 100; i++) {
		*(volatile uint32_t *)(p + 101) = i;
		CHECK_EQ(run1(p + 100, 0), i);
	}
	CHECK_EQ(pread(fd, buf, 6, 100), 6);
	CHECK_EQ(buf[1], 5);
}

CASE(shared_file_rwx)
{
	int fd = temp_file(2 * PAGE);
	uint8_t *p, *q, buf[16];

	put_ret_imm(buf, 5);
	CHECK_EQ(pwrite(fd, buf, 6, 100), 6);
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);
	q = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED && q != MAP_FAILED);
	CHECK_EQ(run1(q + 100, 0), 5);
	for (uint32_t i = 0; i < 100; i++) {
		*(volatile uint32_t *)(p + 101) = i;
		CHECK_EQ(run1(q + 100, 0), i);
		CHECK_EQ(run1(p + 100, 0), i);
		put_ret_imm(buf, i + 1000);
		CHECK_EQ(pwrite(fd, buf, 6, 100), 6);
		CHECK_EQ(run1(q + 100, 0), i + 1000);
	}
}

/* --- edges ---------------------------------------------------------------------- */

CASE(before_unmapped_page)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 2);

		if (w == PLACE_BRK || w == PLACE_BSS || w == PLACE_STACK)
			CHECK(!mprotect(p + PAGE, PAGE, PROT_NONE));
		else
			CHECK(!munmap(p + PAGE, PAGE));
		for (uint32_t i = 0; i < 20; i++) {
			put_ret_imm(p + PAGE - 6, i);
			CHECK_EQ(run1(p + PAGE - 6, 0), i);
		}
		if (w == PLACE_BRK || w == PLACE_BSS || w == PLACE_STACK)
			CHECK(!mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE));
		printf("%s\n", place_name[w]);
	}
}

static __attribute__((noinline, noclone)) uint64_t own_function(uint64_t v)
{
	__asm__ volatile("" ::: "memory");
	return v * 3 + 1;
}

CASE(own_text)
{
	/* the program's own .text made writable, as hot patching does */
	uint8_t *p = (uint8_t *)(uintptr_t)&own_function, save[6];
	uintptr_t start = (uintptr_t)p & -PAGE;

	CHECK(!mprotect((void *)start, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	memcpy(save, p, 6);
	for (uint32_t i = 0; i < 50; i++) {
		put_ret_imm(p, i);
		__asm__ volatile("" ::: "memory");
		CHECK_EQ(run1(p, 0), i);
	}
	memcpy(p, save, 6);
	__asm__ volatile("" ::: "memory");
	CHECK_EQ(own_function(4711), 14134);
	CHECK(!mprotect((void *)start, 2 * PAGE, PROT_READ | PROT_EXEC));
	CHECK_EQ(own_function(4712), 14137);
}

/* memcpy of whole functions over each other, in all sizes */
CASE(memcpy_over_function)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 4), a[8192], b[8192];
		size_t sizes[] = { 6, 8, 15, 16, 31, 33, 64, 100, 256, 1000, 4096, 8192 };

		memset(a, 0x90, sizeof(a));
		memset(b, 0x90, sizeof(b));
		for (unsigned int i = 0; i < 12; i++) {
			size_t n = sizes[i];

			put_ret_imm(a + n - 6, i);
			put_ret_imm(b + n - 6, i + 100);
			memcpy(p + 32, a, n);
			CHECK_EQ(run1(p + 32, 0), i);
			memcpy(p + 32, b, n);
			CHECK_EQ(run1(p + 32, 0), i + 100);
			memmove(p + 33, p + 32, n);
			CHECK_EQ(run1(p + 33, 0), i + 100);
			memset(p + 32, 0x90, 1);
			CHECK_EQ(run1(p + 32, 0), i + 100);
			memset(a + n - 6, 0x90, 6);
			memset(b + n - 6, 0x90, 6);
		}
		printf("%s\n", place_name[w]);
	}
}

/* A write to memory that is not executable yet, then made so. */
CASE(wx_toggle)
{
	uint8_t *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t sum = 0;

	CHECK(p != MAP_FAILED);
	for (uint32_t i = 0; i < 200; i++) {
		uint8_t *q = p + (i % 4) * PAGE + 10 * (i % 7);

		CHECK(!mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE));
		put_ret_imm(q, i);
		CHECK(!mprotect(p, 4 * PAGE, PROT_READ | PROT_EXEC));
		CHECK_EQ(run1(q, 0), i);
		if (i > 28)	/* one written long ago is still what it was */
			sum += run1(p + ((i - 28) % 4) * PAGE + 10 * ((i - 28) % 7), 0);
	}
	printf("%llu\n", (long long)sum);
	/* RWX from now on */
	CHECK(!mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	for (uint32_t i = 0; i < 50; i++) {
		put_ret_imm(p, i);
		CHECK_EQ(run1(p, 0), i);
	}
	/* one page of the four back to RX, the others stay */
	CHECK(!mprotect(p + PAGE, PAGE, PROT_READ | PROT_EXEC));
	for (uint32_t i = 0; i < 50; i++) {
		put_ret_imm(p + 2 * PAGE, i);
		CHECK_EQ(run1(p + 2 * PAGE, 0), i);
		put_ret_imm(p + PAGE - 6, i);
		CHECK_EQ(run1(p + PAGE - 6, 0), i);
	}
}

/* Pages without PROT_READ can be read on x86 when they are executable. */
CASE(exec_only_prot)
{
	uint8_t *p = place_get(PLACE_ANON, 1);

	put_ret_imm(p, 12);
	CHECK(!mprotect(p, PAGE, PROT_EXEC));
	CHECK_EQ(run1(p, 0), 12);
	CHECK(!mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	put_ret_imm(p, 13);
	CHECK_EQ(run1(p, 0), 13);
}

CASE(dies_exec_of_data)
{
	uint8_t *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	put_ret_imm(p, 1);
	puts("now");
	fflush(stdout);
	run1(p, 0);
	puts("not reached");
}

CASE(dies_exec_after_toggle)
{
	uint8_t *p = place_get(PLACE_ANON, 1);

	put_ret_imm(p, 1);
	CHECK_EQ(run1(p, 0), 1);
	CHECK(!mprotect(p, PAGE, PROT_READ | PROT_WRITE));
	puts("now");
	fflush(stdout);
	run1(p, 0);
	puts("not reached");
}

CASE(dies_exec_of_unmapped)
{
	uint8_t *p = place_get(PLACE_ANON, 1);

	put_ret_imm(p, 1);
	CHECK_EQ(run1(p, 0), 1);
	CHECK(!munmap(p, PAGE));
	puts("now");
	fflush(stdout);
	run1(p, 0);
	puts("not reached");
}

CASE(dies_write_to_code)
{
	uint8_t *p = place_get(PLACE_ANON, 1);

	put_ret_imm(p, 1);
	CHECK_EQ(run1(p, 0), 1);
	CHECK(!mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	CHECK_EQ(run1(p, 0), 1);
	puts("now");
	fflush(stdout);
	*(volatile uint8_t *)p = 0;
	puts("not reached");
}

CASE(dies_runs_into_end)
{
	uint8_t *p = place_get(PLACE_ANON, 2);

	CHECK(!munmap(p + PAGE, PAGE));
	memset(p + PAGE - 8, 0x90, 8);	/* nops up to the edge, no ret */
	puts("now");
	fflush(stdout);
	run1(p + PAGE - 8, 0);
	puts("not reached");
}

CASE(dies_bus_beyond_eof)
{
	int fd = memfd_create("x", 0);
	uint8_t *p;

	CHECK(fd >= 0);
	CHECK(!ftruncate(fd, 2 * PAGE));
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	put_ret_imm(p + PAGE, 3);
	CHECK_EQ(run1(p + PAGE, 0), 3);
	CHECK(!ftruncate(fd, PAGE));
	puts("now");
	fflush(stdout);
	run1(p + PAGE, 0);
	puts("not reached");
}

/*
 * The stores that write the most at once, onto data beside code: they must
 * arrive whole, and the same as in memory without code. Where they hold the
 * address of the last x87 instruction, that is not compared: it is the host's.
 */
CASE(state_saved_beside_code)
{
	static uint8_t ref[1024] __attribute__((aligned(64)));

	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 2), *area = p + 1024;

		for (uint32_t i = 0; i < 20; i++) {
			put_ret_imm(p, i);
			CHECK_EQ(run1(p, 0), i);
			__asm__ volatile("fldpi\n movd %2, %%xmm9\n fxsave64 %0\n fxsave64 %1\n"
					 "fstp %%st(0)"
					 : "=m"(*(uint8_t (*)[512])area), "=m"(*(uint8_t (*)[512])ref)
					 : "r"(i * 77) : "xmm9");
			memset(area + 6, 0, 18);
			memset(ref + 6, 0, 18);
			CHECK(!memcmp(area, ref, 464));
			CHECK_EQ(run1(p, 0), i);
			__asm__ volatile("fldl2e\n fnstenv %0\n fldenv %0\n fnstenv %1\n fstp %%st(0)"
					 : "=m"(*(uint8_t (*)[28])area), "=m"(*(uint8_t (*)[28])ref));
			CHECK(!memcmp(area, ref, 12));
			CHECK_EQ(run1(p, 0), i);
			/* over the page boundary: 1024 + 3072 - 100 */
			area = p + PAGE - 100;
			__asm__ volatile("fldl2e\n fnsave %0\n frstor %0\n fnsave %1"
					 : "=m"(*(uint8_t (*)[108])area), "=m"(*(uint8_t (*)[108])ref));
			CHECK(!memcmp(area, ref, 12) && !memcmp(area + 28, ref + 28, 80));
			CHECK_EQ(run1(p, 0), i);
			area = p + 1024;
			if (__builtin_cpu_supports("avx")) {
				memset(area, 0, 1024);
				memset(ref, 0, 1024);
				__asm__ volatile("vpcmpeqd %%xmm3, %%xmm3, %%xmm3\n"
						 "vinsertf128 $1, %%xmm3, %%ymm3, %%ymm3\n"
						 "xsave64 %0\n xsave64 %1\n vzeroupper"
						 : "+m"(*(uint8_t (*)[1024])area),
						   "+m"(*(uint8_t (*)[1024])ref)
						 : "a"(7), "d"(0) : "xmm3");
				memset(area + 6, 0, 18);
				memset(ref + 6, 0, 18);
				CHECK(!memcmp(area, ref, 832));
				CHECK_EQ(run1(p, 0), i);
			}
		}
		printf("%s\n", place_name[w]);
	}
}
