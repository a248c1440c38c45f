// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Code changed by the kernel on the guest's behalf: by calls that write memory
 * (read, recv, ...), and by calls that change what is mapped. A write by the
 * kernel into a page of translated code must succeed, and must be noticed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "guest.h"

/* A file of functions: number i at 16 * i returns i. */
static int code_file(unsigned int n)
{
	int fd = temp_file(16 * n);

	for (unsigned int i = 0; i < n; i++) {
		uint8_t buf[16] = { 0 };

		put_ret_imm(buf, i);
		CHECK_EQ(pwrite(fd, buf, 16, 16 * i), 16);
	}
	return fd;
}

CASE(read_file)
{
	int fd = code_file(100);

	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
		for (uint32_t i = 0; i < 100; i++) {
			CHECK_EQ(read(fd, p + 320, 16), 16);
			CHECK_EQ(run1(p + 320, 0), i);
		}
		printf("%s\n", place_name[w]);
	}
}

CASE(pread_file)
{
	int fd = code_file(100);

	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 2) + PAGE - 3;	/* over two pages */

		for (uint32_t i = 0; i < 100; i++) {
			CHECK_EQ(pread(fd, p, 16, 16 * i), 16);
			CHECK_EQ(run1(p, 0), i);
		}
		printf("%s\n", place_name[w]);
	}
}

CASE(readv_file)
{
	int fd = code_file(100);

	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);
		struct iovec v[3] = { { p + 64, 16 }, { p + 256, 16 }, { p + 2048, 16 } };

		CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
		for (uint32_t i = 0; i + 2 < 100; i += 3) {
			CHECK_EQ(readv(fd, v, 3), 48);
			CHECK_EQ(run1(p + 64, 0), i);
			CHECK_EQ(run1(p + 256, 0), i + 1);
			CHECK_EQ(run1(p + 2048, 0), i + 2);
			CHECK_EQ(preadv(fd, v, 1, 16 * i + 16), 16);
			CHECK_EQ(run1(p + 64, 0), i + 1);
		}
		printf("%s\n", place_name[w]);
	}
}

CASE(pipe_read)
{
	int fd[2];

	CHECK(!pipe(fd));
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1), buf[6];

		for (uint32_t i = 0; i < 100; i++) {
			put_ret_imm(buf, i);
			CHECK_EQ(write(fd[1], buf, 6), 6);
			CHECK_EQ(read(fd[0], p + 100, 4000), 6);
			CHECK_EQ(run1(p + 100, 0), i);
		}
		printf("%s\n", place_name[w]);
	}
}

CASE(recv_socket)
{
	int fd[2];

	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, fd));
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1), buf[6];
		struct iovec v[2] = { { p + 100, 3 }, { p + 103, 50 } };
		struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

		for (uint32_t i = 0; i < 60; i += 3) {
			put_ret_imm(buf, i);
			CHECK_EQ(send(fd[1], buf, 6, 0), 6);
			CHECK_EQ(recv(fd[0], p + 100, 64, 0), 6);
			CHECK_EQ(run1(p + 100, 0), i);
			put_ret_imm(buf, i + 1);
			CHECK_EQ(send(fd[1], buf, 6, 0), 6);
			CHECK_EQ(recvmsg(fd[0], &m, 0), 6);
			CHECK_EQ(run1(p + 100, 0), i + 1);
			put_ret_imm(buf, i + 2);
			CHECK_EQ(sendto(fd[1], buf, 6, 0, NULL, 0), 6);
			CHECK_EQ(recvfrom(fd[0], p + 100, 64, 0, NULL, NULL), 6);
			CHECK_EQ(run1(p + 100, 0), i + 2);
		}
		printf("%s\n", place_name[w]);
	}
}

/* A read of nothing, and one that fails, leave the code what it was. */
CASE(read_nothing)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);
		int fd = temp_file(0);

		put_ret_imm(p, 42);
		CHECK_EQ(run1(p, 0), 42);
		CHECK_EQ(read(fd, p, 100), 0);
		CHECK_EQ(read(-1, p, 100), -1);
		CHECK_EQ(errno, EBADF);
		CHECK_EQ(run1(p, 0), 42);
		close(fd);
		printf("%s\n", place_name[w]);
	}
}

/*
 * Calls that write a structure: onto the data of a page of code. What they
 * write must arrive, and the code beside it must go on working.
 */
CASE(structures_on_code_page)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);
		int fds[2];

		for (uint32_t i = 0; i < 20; i++) {
			struct stat *st = (void *)(p + 512);
			struct utsname *u = (void *)(p + 1024);
			struct timespec *ts = (void *)(p + 2048);
			struct timeval *tv = (void *)(p + 2080);
			struct sysinfo *si = (void *)(p + 2560);
			struct pollfd *pf = (void *)(p + 3000);
			int *pipefd = (void *)(p + 3100);
			socklen_t *len = (void *)(p + 3200);
			int *val = (void *)(p + 3204);
			sigset_t *set = (void *)(p + 3300);
			cpu_set_t *cpus = (void *)(p + 3500);

			put_ret_imm(p, i);
			CHECK_EQ(run1(p, 0), i);
			st->st_mode = 0;
			CHECK(!stat("/", st));
			CHECK(S_ISDIR(st->st_mode));
			CHECK_EQ(run1(p, 0), i);
			CHECK(!uname(u));
			CHECK(!strcmp(u->sysname, "Linux"));
			CHECK_EQ(run1(p, 0), i);
			ts->tv_sec = 0;
			CHECK(!syscall(SYS_clock_gettime, CLOCK_REALTIME, ts));
			CHECK(ts->tv_sec > 1000000);
			tv->tv_sec = 0;
			CHECK(!syscall(SYS_gettimeofday, tv, NULL));
			CHECK(tv->tv_sec > 1000000);
			CHECK_EQ(run1(p, 0), i);
			si->totalram = 0;
			CHECK(!sysinfo(si));
			CHECK(si->totalram);
			CHECK(getcwd((char *)p + 3800, 200));
			CHECK(p[3800] == '/');
			CHECK_EQ(run1(p, 0), i);
			CHECK(!pipe(pipefd));
			fds[0] = pipefd[0];
			fds[1] = pipefd[1];
			CHECK(fds[0] > 2 && fds[1] == fds[0] + 1);
			pf->fd = fds[1];
			pf->events = POLLOUT;
			pf->revents = 0;
			CHECK_EQ(poll(pf, 1, 0), 1);
			CHECK_EQ(pf->revents, POLLOUT);
			CHECK_EQ(run1(p, 0), i);
			close(fds[0]);
			close(fds[1]);
			CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pipefd));
			*len = 4;
			*val = -1;
			CHECK(!getsockopt(pipefd[0], SOL_SOCKET, SO_TYPE, val, len));
			CHECK_EQ(*val, SOCK_STREAM);
			close(pipefd[0]);
			close(pipefd[1]);
			CHECK(!sigprocmask(SIG_BLOCK, NULL, set));
			CHECK(!sched_getaffinity(0, 128, cpus));
			CHECK(CPU_COUNT_S(128, cpus) > 0);
			CHECK_EQ(readlink("/proc/self/exe", (char *)p + 3900, 1), 1);
			CHECK_EQ(getrandom(p + 3700, 16, 0), 16);
			CHECK_EQ(run1(p, 0), i);
		}
		printf("%s\n", place_name[w]);
	}
}

/* getrandom over the immediate: whatever it is, the code must load just that */
CASE(getrandom_immediate)
{
	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);

		put_ret_imm(p, 0);
		for (int i = 0; i < 100; i++) {
			uint32_t v;

			CHECK_EQ(getrandom(p + 1, 4, 0), 4);
			memcpy(&v, p + 1, 4);
			CHECK_EQ(run1(p, 0), v);
		}
		printf("%s\n", place_name[w]);
	}
}

CASE(proc_self_mem)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint8_t *p = place_get(PLACE_ANON, 1);

	CHECK(fd >= 0);
	put_ret_imm(p, 0);
	CHECK(!mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	for (uint32_t i = 0; i < 50; i++) {
		CHECK_EQ(pwrite(fd, &i, 4, (uintptr_t)p + 1), 4);
		CHECK_EQ(run1(p, 0), i);
	}
}

/* --- what is mapped changes ----------------------------------------------------- */

CASE(munmap_map_other)
{
	uint8_t *p = place_get(PLACE_ANON, 2);
	int fd = code_file(256), mfd = memfd_create("x", 0);

	CHECK(!ftruncate(mfd, 2 * PAGE));
	for (uint32_t i = 0; i < 100; i++) {
		uint8_t *q;

		put_ret_imm(p, i + 1000);
		CHECK_EQ(run1(p, 0), i + 1000);
		CHECK(!munmap(p, 2 * PAGE));
		q = mmap(p, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0);
		CHECK(q == p);
		CHECK_EQ(run1(p, 0), 0);
		CHECK_EQ(run1(p + 16 * 77, 0), 77);
		/* without an munmap in between */
		q = mmap(p, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_SHARED | MAP_FIXED, mfd, 0);
		CHECK(q == p);
		put_ret_imm(p, i + 2000);
		CHECK_EQ(run1(p, 0), i + 2000);
		q = mmap(p, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		CHECK(q == p);
		CHECK_EQ(*(uint64_t *)p, 0);
	}
}

CASE(mremap_moves_code)
{
	uint64_t sum = 0;

	for (enum place w = PLACE_ANON; w <= PLACE_FILE; w++) {
		uint8_t *p = place_get(w, 1), *room, *q;

		for (uint32_t i = 0; i < 20; i++) {
			put_ret_imm(p + 16, i);
			CHECK_EQ(run1(p + 16, 0), i);
			room = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			CHECK(room != MAP_FAILED);
			q = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
			CHECK(q == room);
			CHECK_EQ(run1(q + 16, 0), i);
			put_ret_imm(q + 16, i + 50);
			CHECK_EQ(run1(q + 16, 0), i + 50);
			/* something else where it was */
			room = mmap(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
			CHECK(room == p);
			put_ret_imm(p + 16, i + 90);
			CHECK_EQ(run1(p + 16, 0), i + 90);
			CHECK_EQ(run1(q + 16, 0), i + 50);
			CHECK(!munmap(p, PAGE));
			sum += run1(q + 16, 0);
			p = q;
		}
		printf("%s\n", place_name[w]);
	}
	printf("%llu\n", (long long)sum);
}

CASE(mremap_grows_code)
{
	uint8_t *p = place_get(PLACE_ANON, 1), *q;

	put_ret_imm(p + 16, 1);
	CHECK_EQ(run1(p + 16, 0), 1);
	for (size_t n = 1; n < 64; n *= 2) {
		q = mremap(p, n * PAGE, 2 * n * PAGE, MREMAP_MAYMOVE);
		CHECK(q != MAP_FAILED);
		CHECK_EQ(run1(q + 16, 0), n);
		put_ret_imm(q + 16, 2 * n);
		CHECK_EQ(run1(q + 16, 0), 2 * n);
		put_ret_imm(q + 2 * n * PAGE - 6, 99);
		CHECK_EQ(run1(q + 2 * n * PAGE - 6, 0), 99);
		p = q;
	}
}

/* MADV_DONTNEED: private memory reads zero again, a file's content comes back */
CASE(madvise_dontneed)
{
	uint8_t *p = place_get(PLACE_ANON, 3), *f;
	int fd = code_file(512);

	for (uint32_t i = 0; i < 50; i++) {
		put_ret_imm(p + PAGE, i);
		put_ret_imm(p + PAGE - 6, i + 1);
		put_ret_imm(p + 2 * PAGE, i + 2);
		CHECK_EQ(run1(p + PAGE, 0), i);
		CHECK_EQ(run1(p + PAGE - 6, 0), i + 1);
		CHECK(!madvise(p + PAGE, PAGE, MADV_DONTNEED));
		CHECK_EQ(*(uint64_t *)(p + PAGE), 0);
		CHECK_EQ(run1(p + PAGE - 6, 0), i + 1);
		CHECK_EQ(run1(p + 2 * PAGE, 0), i + 2);
		/* zeros are add %al, (%rax): let them slide into a function */
		put_ret_imm(p + PAGE + 8, 0x77);
		CHECK_EQ(run1(p + PAGE + 8, 0), 0x77);
	}
	f = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, 0);
	CHECK(f != MAP_FAILED);
	for (uint32_t i = 0; i < 50; i++) {
		CHECK_EQ(run1(f + 16 * i, 0), i);
		put_ret_imm(f + 16 * i, i + 1000);
		CHECK_EQ(run1(f + 16 * i, 0), i + 1000);
		CHECK(!madvise(f, 2 * PAGE, MADV_DONTNEED));
		CHECK_EQ(run1(f + 16 * i, 0), i);
	}
}

TEMPLATE(t_slide, "movq %rdi, %rax\n .fill 16,1,0\n ret\n");

CASE(zeros_are_code)
{
	uint8_t *p = place_get(PLACE_ANON, 1);
	uint8_t cell[256] = { 0 };

	/* eight times add %al, (%rax): al is the low byte of the cell's address */
	PUT(p, t_slide);
	memset(cell, 0, sizeof(cell));
	run1(p, (uintptr_t)cell);
	CHECK_EQ(cell[0], (uint8_t)(8 * (uintptr_t)cell));
	/* and a page that was code and became zero */
	CHECK_EQ(p[0], 0x48);
	CHECK(!madvise(p, PAGE, MADV_DONTNEED));
	p[20] = 0xc3;
	PUT(p + 2048, t_slide);
	cell[0] = 0;
	run1(p + 2048, (uintptr_t)cell);
	CHECK_EQ(cell[0], (uint8_t)(8 * (uintptr_t)cell));
}

/* Holes in shared memory, by fallocate and by madvise. */
CASE(punch_hole)
{
	int fd = memfd_create("x", 0);
	uint8_t *p;

	CHECK(!ftruncate(fd, 2 * PAGE));
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	for (uint32_t i = 0; i < 50; i++) {
		put_ret_imm(p, i);
		put_ret_imm(p + PAGE, i + 1);
		CHECK_EQ(run1(p, 0), i);
		CHECK_EQ(run1(p + PAGE, 0), i + 1);
		if (i & 1)
			CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
		else
			CHECK(!madvise(p, PAGE, MADV_REMOVE));
		CHECK_EQ(*(uint64_t *)p, 0);
		CHECK_EQ(run1(p + PAGE, 0), i + 1);
		p[0] = 0xb8;	/* mov $0, %eax; add %al, (%rax) - not run */
		put_ret_imm(p, i + 3);
		CHECK_EQ(run1(p, 0), i + 3);
	}
}

/* A file whose mapping is read-only text grows new code by pwrite. */
CASE(pwrite_text_file)
{
	int fd = code_file(256);
	uint8_t *p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0), buf[6];

	CHECK(p != MAP_FAILED);
	for (uint32_t i = 0; i < 100; i++) {
		CHECK_EQ(run1(p + 16 * i, 0), i);
		put_ret_imm(buf, i * 5);
		CHECK_EQ(pwrite(fd, buf, 6, 16 * i), 6);
		CHECK_EQ(run1(p + 16 * i, 0), i * 5);
	}
}

CASE(sendfile_into_code)
{
	int src = code_file(256), dst = memfd_create("x", 0);
	uint8_t *p;
	off_t off;

	CHECK(!ftruncate(dst, PAGE));
	p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, dst, 0);
	CHECK(p != MAP_FAILED);
	for (uint32_t i = 0; i < 50; i++) {
		off = 16 * i;
		CHECK_EQ(lseek(dst, 0, SEEK_SET), 0);
		CHECK_EQ(syscall(SYS_sendfile, dst, src, &off, 16), 16);
		CHECK_EQ(run1(p, 0), i);
	}
}

/* munmap of the middle of a code mapping, the rest works on. */
/*
 * Code that calls and jumps through a pointer in memory that is read-only, as a GOT is,
 * which each way there is makes another one.
 */
CASE(read_only_pointer)
{
	int fd = temp_file(2 * PAGE), other = temp_file(PAGE);
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint8_t code[3 * 64] = { 0xff, 0x15 }, *p, *at;
	uint64_t f[2];

	CHECK(mem >= 0);
	memcpy(code + 2, &(int32_t){ PAGE + 16 - 6 }, 4);	/* call *pointer; ret */
	code[6] = 0xc3;
	code[16] = 0xff;					/* jmp *pointer */
	code[17] = 0x25;
	memcpy(code + 18, &(int32_t){ PAGE + 16 - 22 }, 4);
	put_ret_imm(code + 64, 10);
	put_ret_imm(code + 128, 11);
	CHECK_EQ(pwrite(fd, code, sizeof(code), 0), sizeof(code));
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	CHECK(p != MAP_FAILED);
	at = p + PAGE + 16;
	for (int i = 0; i < 2; i++)
		f[i] = (uint64_t)p + 64 + 64 * i;
	for (unsigned int i = 0; i < 120; i++) {
		uint64_t want = f[i / 6 & 1];

		switch (i % 6) {
		case 0:
			CHECK(mmap(p + PAGE, PAGE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_FIXED, fd, PAGE) == p + PAGE);
			memcpy(at, &want, 8);
			CHECK(!mprotect(p + PAGE, PAGE, PROT_READ));
			break;
		case 1:
			want ^= f[0] ^ f[1];
			CHECK_EQ(pwrite(mem, &want, 8, (uint64_t)at), 8);
			break;
		case 2:
			CHECK(!mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE));
			memcpy(at, &want, 8);
			break;
		case 3:
			CHECK(!mprotect(p + PAGE, PAGE, PROT_READ));
			CHECK_EQ(run1(p, 0), want == f[1] ? 11 : 10);
			CHECK(!mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE));
			want ^= f[0] ^ f[1];
			memcpy(at, &want, 8);
			CHECK(!mprotect(p + PAGE, PAGE, PROT_READ));
			break;
		case 4:		/* nobody has written the page: the file shows through */
			CHECK_EQ(pwrite(other, &want, 8, 16), 8);
			CHECK(mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED,
				     other, 0) == p + PAGE);
			break;
		case 5:
			want ^= f[0] ^ f[1];
			CHECK_EQ(pwrite(other, &want, 8, 16), 8);
			break;
		}
		CHECK_EQ(run1(p, 0), want == f[1] ? 11 : 10);
		CHECK_EQ(run1(p + 16, 0), want == f[1] ? 11 : 10);
	}
	munmap(p, 2 * PAGE);
	close(fd);
	close(other);
	close(mem);
}

CASE(munmap_middle)
{
	for (enum place w = PLACE_ANON; w <= PLACE_FILE; w++) {
		uint8_t *p = place_get(w, 5);

		for (uint32_t i = 0; i < 5; i++) {
			put_ret_imm(p + i * PAGE + 9, i);
			CHECK_EQ(run1(p + i * PAGE + 9, 0), i);
		}
		CHECK(!munmap(p + 2 * PAGE, PAGE));
		for (uint32_t i = 0; i < 5; i++) {
			if (i == 2)
				continue;
			CHECK_EQ(run1(p + i * PAGE + 9, 0), i);
			put_ret_imm(p + i * PAGE + 9, i + 10);
			CHECK_EQ(run1(p + i * PAGE + 9, 0), i + 10);
		}
		printf("%s\n", place_name[w]);
	}
}

/* brk down and up again: fresh zero pages where code was */
CASE(brk_down_up)
{
	uint8_t *p = place_get(PLACE_BRK, 4);

	for (uint32_t i = 0; i < 10; i++) {
		put_ret_imm(p + PAGE, i);
		CHECK_EQ(run1(p + PAGE, 0), i);
		CHECK(!brk(p + PAGE));
		CHECK(!brk(p + 4 * PAGE));
		CHECK_EQ(*(uint64_t *)(p + PAGE), 0);
		CHECK(!mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	}
}

/* A big JIT heap, RWX, sparse: code in every 16th page, then all of it again. */
CASE(big_heap)
{
	size_t n = 1024;
	uint8_t *p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t sum = 0;

	CHECK(p != MAP_FAILED);
	for (unsigned int round = 0; round < 3; round++) {
		for (size_t i = 0; i < n; i++) {
			uint8_t *q = p + i * 16 * PAGE + (i * 8 & 0xff8);

			put_ret_imm(q, i * 3 + round);
			CHECK_EQ(run1(q, 0), i * 3 + round);
		}
		for (size_t i = 0; i < n; i++)
			sum += run1(p + i * 16 * PAGE + (i * 8 & 0xff8), 0);
	}
	printf("%llu\n", (long long)sum);
	CHECK(!munmap(p, 64 << 20));
}
