/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The conformance suite: one set of tests for every backend. The backend is the
 * last word of the program's name (conformance-uffd), or CODEWP_BACKEND.
 *
 * Where a backend cannot keep a rule, a test is skipped with the sentence of
 * codewp_backend_info()->cannot, and another test shows that the sentence is
 * true.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <codewp.h>
#include <linux/codewp.h>
#include <pthread.h>

#include "test.h"

#define PAGE	4096UL
#define PAGES	64UL
#define BYTES	(PAGES * PAGE)

/* What the tests of one process share. */
struct fixture {
	struct codewp *ctx;
	struct codewp_view *view;
	struct codewp_thread *thread;
	int memfd;
	unsigned char *mem;		/* the view, mapped */
	unsigned char *alias;
	const uint32_t *state;
};

extern struct fixture fx;

/* The last trap of the registered thread, and how many. */
extern struct codewp_trap last_trap;
extern struct codewp_regs last_regs;
extern volatile unsigned int traps;
/* Called by the callback, when set. */
extern void (*on_trap)(struct codewp_trap *trap);

enum codewp_backend conf_backend(void);

/* A context, or skip; nothing else. */
void conf_open(void);
/* A context; a private view of PAGES pages, mapped; this thread registered. */
void fx_open(void);
void fx_open_with(const struct codewp_open_opts *opts, bool private_view);
void fx_register(const struct codewp_thread_opts *opts);
int conf_memfd(uint64_t bytes);
void conf_callback(struct codewp_trap *trap, void *arg);
struct codewp_open_opts conf_open_opts(void);

bool can(uint32_t what);
/* Skip, with the backend's own words, unless it can. */
void need(uint32_t what);

/* 0 or a count; a failure in the library's words. */
#define OK(call) ({							\
	long long r_ = (long long)(call);				\
	if (r_ < 0)							\
		TEST_FAIL("%s: %lld: %s", #call, r_, codewp_strerror((int)r_));\
	r_;								\
})

/* The call returns exactly -err. */
#define REFUSED(call, err) do {						\
	long long r_ = (long long)(call);				\
	if (r_ != -(long long)(err))					\
		TEST_FAIL("%s: got %lld, want -" #err, #call, r_);	\
} while (0)

/* movb %val, (addr): two bytes long, nothing else. */
static inline void store2(void *addr, unsigned char val)
{
	__asm__ volatile("movb %%al, (%%rdi)" : : "a"(val), "D"(addr) : "memory");
}
#define STORE2_LEN 2

static inline uint32_t page_state(unsigned int page)
{
	return __atomic_load_n(&fx.state[page], __ATOMIC_ACQUIRE);
}

static inline uint32_t page_gen(unsigned int page)
{
	return CODEWP_PAGE_GEN(page_state(page));
}

/* Events of the last drain_all(). */
#define EVENTS_MAX 4096
extern struct codewp_event_info events[EVENTS_MAX];
extern unsigned int nr_events;
int drain_all(struct codewp_view *view);

/* Run fn in another, unregistered thread, and wait. */
void in_thread(void *(*fn)(void *), void *arg);
void *store_thread(void *addr);		/* stores 0xee */

unsigned int count_maps(void);		/* lines of /proc/self/maps */
unsigned int count_fds(void);

/* regs.S */
struct regs_case {
	uint64_t gpr[16];	/* encoding order; rdi is the address, rsp is not set */
	uint64_t flags;
	uint64_t red[16];	/* the red zone, lowest address first */
};

/* Load in, store 0x5a to in->gpr[7], save to out. */
void regs_store(const struct regs_case *in, struct regs_case *out);
extern const unsigned char regs_store_insn[], regs_store_next[];

/*
 * Load the vector state from in, store a byte to addr, save the state to out;
 * all with mask, 64 byte aligned.
 */
void vector_store(const void *in, void *out, void *addr, uint64_t mask);
/* Write to every vector register that mask names. */
void vector_trash(uint64_t mask);
/* Spin until *flag is not 0, between two labels: a code cache of its own. */
void spin_code(volatile uint32_t *flag);
extern const unsigned char spin_code_end[];

#endif /* CONFORMANCE_H */
