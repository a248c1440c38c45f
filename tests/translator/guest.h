/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the guest programs of the translator's tests share.
 *
 * A guest program is a set of cases. "prog CASE" runs one and prints what it
 * saw; "prog --list" names them, "prog --all" runs all but the deadly ones.
 * Every case checks itself, so that a wrong answer is an exit status of 1 and
 * not only a difference, and prints nothing that depends on addresses or time:
 * the driver compares the output of a native run with that of a translated
 * one, byte for byte.
 *
 * Cases whose name begins with "dies_" end by a signal, natively, too.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#define PAGE 4096UL

struct guest_case {
	const char *name;
	void (*fn)(void);
	struct guest_case *next;
};

void guest_add(struct guest_case *c);

#define CASE(id)							\
	static void id(void);						\
	static struct guest_case guest_case_##id = { #id, id, NULL };	\
	static __attribute__((constructor)) void guest_add_##id(void)	\
	{								\
		guest_add(&guest_case_##id);				\
	}								\
	static void id(void)

_Noreturn void guest_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define CHECK(cond) do {						\
	if (!(cond))							\
		guest_fail(__FILE_NAME__, __LINE__, "%s", #cond);	\
} while (0)

#define CHECK_EQ(a, b) do {						\
	long long a_ = (long long)(a), b_ = (long long)(b);		\
	if (a_ != b_)							\
		guest_fail(__FILE_NAME__, __LINE__, "%s is %#llx, not %#llx",\
			   #a, a_, b_);					\
} while (0)

/*
 * A position-independent piece of machine code, kept where nobody runs it, to
 * be copied where it shall run. name_start and name_end bound it.
 */
#define TEMPLATE(name, text)						\
	__asm__(".pushsection .rodata." #name ",\"a\",@progbits\n"	\
		".balign 64\n"						\
		".globl " #name "_start, " #name "_end\n"		\
		#name "_start:\n" text "\n"				\
		#name "_end:\n"						\
		".balign 64\n"						\
		".popsection\n");					\
	extern const uint8_t name##_start[], name##_end[]
#define TEMPLATE_SIZE(name) ((size_t)(name##_end - name##_start))

/* Where code can live: every memory class of the translator. */
enum place {
	PLACE_ANON,	/* private anonymous, RWX */
	PLACE_SHARED,	/* MAP_SHARED | MAP_ANONYMOUS */
	PLACE_MEMFD,
	PLACE_SHM,	/* a file of /dev/shm, MAP_SHARED */
	PLACE_FILE,	/* a private mapping of a file */
	PLACE_BRK,
	PLACE_BSS,
	PLACE_STACK,	/* a mapping that grows like one, far below the frames */
	PLACE_COUNT,
};

extern const char *const place_name[PLACE_COUNT];

/* Fresh zeroed RWX pages; a case never frees them. */
uint8_t *place_get(enum place where, size_t pages);

/* Copy a template to p. */
#define PUT(p, name) memcpy((p), name##_start, TEMPLATE_SIZE(name))

typedef uint64_t (*code_fn)(uint64_t arg);
typedef uint64_t (*code_fn2)(uint64_t a, uint64_t b);

static inline uint64_t run1(const void *code, uint64_t arg)
{
	code_fn fn;

	memcpy(&fn, &code, sizeof(fn));
	return fn(arg);
}

static inline uint64_t run2(const void *code, uint64_t a, uint64_t b)
{
	code_fn2 fn;

	memcpy(&fn, &code, sizeof(fn));
	return fn(a, b);
}

/* mov $imm, %eax; ret: the smallest function there is. Returns its size, 6. */
size_t put_ret_imm(uint8_t *p, uint32_t imm);

/* A descriptor of a fresh unlinked file of that size on the file system. */
int temp_file(size_t size);

#endif /* GUEST_H */
