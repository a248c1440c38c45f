// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Memory that is promised, and memory that is not: what mmap, mprotect, brk, mremap
 * and fork say to sizes that there are, and to sizes that there are not.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/wait.h>

#include "guest.h"

#define MB (1UL << 20)
#define HUGE (64UL << 30)

static void *try_map(const char *what, size_t size, int prot, int flags)
{
	void *p = mmap(NULL, size, prot, flags | MAP_ANONYMOUS, -1, 0);

	printf("%s %zu MB: %s\n", what, size / MB,
	       p != MAP_FAILED ? "there" : errno == ENOMEM ? "refused" : "?");
	return p == MAP_FAILED ? NULL : p;
}

CASE(promises)
{
	const int rw = PROT_READ | PROT_WRITE;
	static const size_t sizes[] = { MB, 64 * MB, HUGE };
	uint8_t *code;
	void *p;

	for (int i = 0; i < 3; i++) {
		size_t size = sizes[i];

		for (int k = 0; k < 4; k++) {
			static const char *const name[] = { "private", "noreserve", "shared", "rwx" };
			static const int flags[] = {
				MAP_PRIVATE, MAP_PRIVATE | MAP_NORESERVE, MAP_SHARED, MAP_PRIVATE,
			};

			p = try_map(name[k], size, k == 3 ? rw | PROT_EXEC : rw, flags[k]);
			if (p) {
				memset(p, 1, MB);
				CHECK(!munmap(p, size));
			}
		}
		p = try_map("none", size, PROT_NONE, MAP_PRIVATE);
		CHECK(p);
		printf("made writable: %s\n", mprotect(p, size, rw) ? strerror(errno) : "yes");
		printf("moved: %s\n", mremap(p, MB, size * 2, MREMAP_MAYMOVE) == MAP_FAILED ?
		       strerror(errno) : "yes");
		printf("brk: %s\n", sbrk(size) == (void *)-1 ? strerror(errno) : "yes");
	}
	/* Code that changes, in memory that is promised; and a child with a copy of it. */
	code = mmap(NULL, 4 * MB, rw | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(code != MAP_FAILED);
	for (uint32_t i = 0; i < 100; i++) {
		put_ret_imm(code + i % 8 * PAGE, i);
		CHECK_EQ(run1(code + i % 8 * PAGE, 0), i);
	}
	fflush(stdout);
	if (!fork()) {
		put_ret_imm(code, 7);
		_exit(run1(code, 0));
	}
	int status;

	CHECK(wait(&status) > 0);
	printf("child: %d, ours: %d\n", WEXITSTATUS(status), (int)run1(code, 0));
}
