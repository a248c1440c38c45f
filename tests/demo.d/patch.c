// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A program that changes its own code, the way real ones do, and checks at each
 * step that the change took effect. Writes a number of lines that a wrong
 * translation could not: it ends with status 1 at the first stale instruction.
 *
 * patch [ROUNDS]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* mov $imm32, %eax; ret */
static const uint8_t constant[] = { 0xb8, 0, 0, 0, 0, 0xc3 };

/*
 * The store changes the very next instruction, in its own basic block:
 *	mov %edi, 1(%rip)	; into the imm32 behind the opcode below
 *	mov $0, %eax
 *	ret
 */
static const uint8_t next_insn[] = {
	0x89, 0x3d, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3,
};

/* A counter that lives beside the code, on its page: lock incl 0x100(%rip). */
static const uint8_t counter[] = {
	0xf0, 0xff, 0x05, 0xf9, 0, 0, 0, 0xc3,
};

static void check(const char *what, long round, long got, long want)
{
	if (got == want)
		return;
	printf("%s: round %ld gave %ld, not %ld: stale code was run\n", what, round, got,
	       want);
	exit(1);
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 200, i;
	int (*fn)(void), (*fn_arg)(int);
	void (*fn_void)(void);
	volatile int *count;
	uint8_t *page, code[sizeof(constant)];
	int fds[2];

	page = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) {
		perror("mmap");
		return 2;
	}

	memcpy(page, constant, sizeof(constant));
	fn = (int (*)(void))page;
	for (i = 0; i < rounds; i++) {
		uint32_t imm = i * 7;

		memcpy(page + 1, &imm, 4);
		check("patched constant", i, fn(), i * 7);
	}
	printf("patched constant: %ld times, never stale\n", rounds);

	memcpy(page + 4096, next_insn, sizeof(next_insn));
	fn_arg = (int (*)(int))(page + 4096);
	for (i = 0; i < rounds; i++)
		check("patched next instruction", i, fn_arg(i * 3), i * 3);
	printf("patched next instruction: %ld times, never stale\n", rounds);

	memcpy(page + 8192, counter, sizeof(counter));
	fn_void = (void (*)(void))(page + 8192);
	count = (volatile int *)(page + 8192 + 0x100);
	for (i = 0; i < rounds; i++) {
		fn_void();
		check("data beside code", i, *count, i + 1);
	}
	printf("data beside code: %ld times, counted right\n", rounds);

	if (pipe(fds)) {
		perror("pipe");
		return 2;
	}
	fn = (int (*)(void))(page + 3 * 4096);
	for (i = 0; i < rounds; i++) {
		uint32_t imm = i * 5;

		memcpy(code, constant, sizeof(constant));
		memcpy(code + 1, &imm, 4);
		if (write(fds[1], code, sizeof(code)) != sizeof(code) ||
		    read(fds[0], page + 3 * 4096, sizeof(code)) != sizeof(code)) {
			perror("pipe");
			return 2;
		}
		check("code read from a pipe", i, fn(), i * 5);
	}
	printf("code read from a pipe: %ld times, never stale\n", rounds);
	return 0;
}
