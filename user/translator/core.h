/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the core's files share: the translation block and what leads out of it,
 * the code cache, and the entry points in enter.S.
 */
#ifndef CODEWP_CORE_H
#define CODEWP_CORE_H

#include "cpu.h"
#include "decode.h"
#include "emit.h"
#include "translator.h"

/* Emitted code jumps here (enter.S): from here to the exit it is cpu->exit_desc. */
extern const char core_exit[];

/* ---- translation blocks ---------------------------------------------------- */

enum tb_exit_kind {
	TBX_JUMP,		/* to pc; chained when pc's TB is known */
	TBX_SYSCALL,		/* pc is behind the syscall instruction */
	TBX_FAULT,		/* at pc: sig, code */
	TBX_EMULATE,		/* at pc: done by core_emulate() */
	TBX_UNSUPPORTED,	/* at pc: why */
	TBX_CHECK,		/* the TB's source bytes have changed; pc is its start; chained
				 * when there is a next version
				 */
	TBX_CALM,		/* they have not for so long; pc is its start */
	TBX_RESUME,		/* to cpu->resume_pc */
};

struct tb_exit {
	uint64_t pc;
	uint8_t kind;		/* enum tb_exit_kind */
	uint8_t nr;		/* its place in tb->exit[]; JUMP, CHECK: and in tb->cm.jump[] */
	union {
		uint8_t sig;	/* FAULT; si_addr is pc with SIGILL, and else 0 */
		uint16_t jump;	/* JUMP, CHECK: from tb->code to the offset that chains */
	};
	union {
		int32_t code;	/* FAULT: si_code; UNSUPPORTED: exit_why(); CALM: runs
				 * that are left until then
				 */
		uint32_t stub;	/* JUMP, CHECK: from tb->code to where it leads without */
	};
};

/*
 * One guest instruction of len bytes: its host code is [host, next entry's host).
 * From host + main on the guest's value of reg is in spill slot `slot`; that stays
 * true to the end of the instruction, also behind the code that restores it, since
 * it does not use reg itself. Before that no instruction can fault.
 */
struct insn_map {
	uint32_t host : 14, len : 4, main : 6, slot : 3;
	int32_t reg : 5;	/* -1: none; MAP_GS_AHEAD */
};

_Static_assert(sizeof(struct insn_map) == 4, "there is one for every instruction");

#define MAP_GS_AHEAD	(-2)	/* %rsi is ahead by the guest's %gs base */

#define TB_CHECKED	1U	/* compares its source bytes at entry */
#define TB_STEP		2U	/* one instruction, in no table (smc.c) */
#define TB_RESTLESS	4U	/* CHECKED, and counts its runs (restless.c) */

struct tb {
	struct codemap_tb cm;	/* must be first */
	uint8_t *code;		/* body; cm.entry is the body or the check before it */
	struct site *sites;	/* store sites that have trapped (smc.c) */
	uint16_t host_bytes;
	uint16_t guest_bytes;
	uint8_t insns;
	uint8_t flags;
	uint8_t exits;
	struct tb_exit exit[];	/* then tb_jumps(), tb_map() and tb_src() */
};

/* cm.jumps of them. */
static inline struct codemap_jump *tb_jumps(const struct tb *tb)
{
	return (struct codemap_jump *)&tb->exit[tb->exits];
}

/* One entry for each instruction, and one for the way out. */
static inline struct insn_map *tb_map(const struct tb *tb)
{
	return (struct insn_map *)(tb_jumps(tb) + tb->cm.jumps);
}

/* The guest_bytes bytes that it was made of. */
static inline uint8_t *tb_src(const struct tb *tb)
{
	return (uint8_t *)(tb_map(tb) + tb->insns + 1);
}

/* From cm.pc to the guest instruction idx; for insns: to the end. */
static inline unsigned int tb_guest_off(const struct tb *tb, int idx)
{
	const struct insn_map *m = tb_map(tb);
	unsigned int off = 0;

	while (idx-- > 0)
		off += m++->len;
	return off;
}

static inline struct tb *exit_tb(const struct tb_exit *x)
{
	return (struct tb *)((char *)(x - x->nr) - offsetof(struct tb, exit));
}

/* UNSUPPORTED: the reason, a constant of ours. */
static inline const char *exit_why(const struct tb_exit *x)
{
	return core_exit + x->code;
}

/* Side exits of a superblock, two exits of its last instruction; or the check's two. */
#define TB_MAX_SIDE	5
#define TB_MAX_EXITS	(TB_MAX_SIDE + 3)
#define TB_MAX_INSNS	64
#define TB_MAX_BYTES	(TB_MAX_INSNS * INSN_MAX)
/* More host code than any block can need, its check and its stubs included. */
#define TB_MAX_HOST	16384
#define TB_MAX_META	(sizeof(struct tb) + TB_MAX_EXITS * (sizeof(struct tb_exit) + \
						     sizeof(struct codemap_jump)) + \
			 (TB_MAX_INSNS + 1) * sizeof(struct insn_map) + TB_MAX_BYTES)

/**
 * block_translate() - make and publish the TB at pc
 * @cpu: for the reason when there is none: cpu->exit and what belongs to it
 * @pc: guest address
 *
 * Runs with the runtime's %fs and saved vector state. May empty the cache.
 * Returns a TB that was valid when it was published, or NULL.
 */
struct tb *block_translate(struct cpu *cpu, uint64_t pc);

/*
 * The same with the guest's %fs and vector state, and in the middle of an epoch. NULL
 * says nothing: leave the guest, and ask block_translate(). A version other than 0 is
 * for checked TBs only: there is none if this would not be one.
 */
struct tb *block_translate_quick(struct cpu *cpu, uint64_t pc, unsigned int version);

/*
 * Checked TBs of one pc that were made of different bytes: 0 is the one that jumps
 * lead to, each looks for the next when its check fails. The flags of the code map.
 */
#define TB_VERSIONS 4

/*
 * The same for the one instruction at pc, in no table and never chained: to be run
 * once. in: what it is.
 */
struct tb *block_translate_step(struct cpu *cpu, uint64_t pc, struct insn *in);

/*
 * emulate.c: far returns and jumps, iret, popf with the trap flag. The instruction
 * is at cpu->regs.rip, the runtime's state is live. False: cpu->exit says what
 * it raises.
 */
bool core_emulate(struct cpu *cpu, const uint8_t *bytes, size_t n);
#define FLAG_TF	0x100UL

/*
 * Make tb->cm.jc_entry, if it has none: with rt_lock held, and an epoch in which tb
 * is good. Without room it stays NULL.
 */
void block_jc_entry(struct tb *tb);

/* A TB of instruction idx of tb only, from tb's own source bytes, in no table,
 * never chained. NULL: no room.
 */
struct tb *block_step(const struct tb *tb, unsigned int idx);

/* The instruction of tb whose host code has host_pc: 0..insns - 1; -1: in the
 * check; insns: on the way out.
 */
int tb_find_insn(const struct tb *tb, uint64_t host_pc);

/* From the registers at host code of instruction idx to the guest's before it. */
void tb_guest_state(const struct cpu *cpu, const struct tb *tb, int idx,
		    uint64_t host_pc, struct codewp_regs *regs);

/* The guest has its accesses aligned: so must the checks be from now on. */
extern bool check_aligned;

/*
 * check.c: compare n guest bytes at gva with src, go to one of fails if they differ. If
 * runs is given, count it down; returns where to go when it is 0.
 */
uint8_t *emit_check(struct emit *e, uint64_t gva, const uint8_t *src, size_t n,
		    uint8_t **fails, unsigned int *nr_fails, const int32_t *runs);
#define CHECK_MAX_FAILS	(TB_MAX_BYTES / 8 + 8)	/* some before and behind the words */

/* ---- the code cache -------------------------------------------------------- */

enum cache_kind {
	CACHE_TB,
	CACHE_ENTRY,		/* the check before a TB that indirect jumps come to */
	CACHE_REPLAY,
	CACHE_STUB,		/* a jump of a TB that is not chained leads here */
};

struct cache_range {
	const uint8_t *start;
	enum cache_kind kind;
	void *owner;		/* struct tb, or (REPLAY) smc.c's struct site */
};

int cache_init(size_t bytes, void *base);
/* Code within 2 GiB of this multiple of 4 GiB is near the cache. */
static inline uint64_t core_near(void)
{
	return ((uint64_t)core_exit + 0x80000000) & ~0xffffffffUL;
}

/* An emitter over at least `need` bytes of cache, or one that is full. */
struct emit cache_begin(size_t need);
/* Take what was emitted since start, as owner's. */
void cache_commit(const uint8_t *start, struct emit *e, enum cache_kind kind, void *owner);
/*
 * An emitter for one stub, away from the code that runs: cache_begin() leaves room for
 * TB_MAX_EXITS of them.
 */
struct emit cache_stub(void);
void *cache_meta(size_t size);		/* zeroed, 8 byte aligned; NULL: full */
/* The same in two steps: what is there, not zeroed, and how much of it is taken. */
void *cache_meta_begin(size_t most);
void cache_meta_take(size_t size);
/* False: this is no code of the cache. */
bool cache_find(uint64_t host_pc, struct cache_range *r);
size_t cache_used(void);		/* bytes of code and tables */
bool cache_room(void);			/* for a TB of any size; false: it is to be emptied */
void cache_died(const struct tb *tb);	/* a TB was dropped: its memory is dead */
void cache_flush(struct cpu *cpu);	/* drop everything; never inside a trap */
void cache_reset(void);			/* in the child of fork: nobody is in it */
void cache_enter(struct cpu *cpu);	/* this thread may hold addresses of the cache */
void cache_leave(struct cpu *cpu);	/* it does not any more */
uint64_t cache_epoch(void);
void cache_for_each_tb(void (*fn)(struct tb *tb, void *arg), void *arg);
void cache_bounds(uint64_t *start, uint64_t *end);

/* ---- shared state ----------------------------------------------------------- */

extern struct codemap *the_map;
extern struct core_opts core_opts;

/* A store in flight on a page makes every insert on it fail (smc.c). */
int core_new_map(void);			/* the_map: a new one, empty */
uint32_t smc_gen(void *unused, uint64_t page);
uint32_t smc_gen_begin(uint64_t page, uint32_t mem_gen);
int smc_thread_init(struct cpu *cpu);
void smc_thread_exit(struct cpu *cpu);
void smc_event(uint64_t page, uint64_t ip);
void smc_retire(struct codemap_tb *dead);
/* guest-virtual pages that code was made from, for core_invalidate_range() */
void note_code_page(uint64_t gva);
size_t site_bytes(const struct site *s);
/* Count TBs that the code map dropped, and tell the probes. */
size_t count_dead(struct codemap_tb *dead, uint64_t page, unsigned int first,
		  unsigned int last, uint64_t writer_ip);

/* ---- jump_cache.c ---------------------------------------------------------------- */

extern bool core_jc_wide;		/* of JC_WIDE_BITS; changes only while no code exists */
extern const uint32_t core_jc_wide_mask;
extern bool core_loop, core_pdep;	/* what the check at a target is made of */
extern const uint64_t core_sign_bit;
extern bool core_jc_may_grow;		/* it is worth it, and has not happened yet */
void jump_cache_init(void);
int jump_cache_attach(struct cpu *cpu);
bool jump_cache_crowded(const struct cpu *cpu, uint64_t pc);
void jump_cache_grow(struct cpu *cpu);
void jump_cache_flushed(void);

/* ---- enter.S ----------------------------------------------------------------- */

/* Run from cpu->regs at this host address until LEAVE_*. Runtime state is live. */
uint64_t core_enter(struct cpu *cpu, const void *host);
/* Save the guest's vector state and %fs, take the runtime's. Idempotent until
 * guest code runs again. Needed before anything that may use libc.
 */
void core_heavy(struct cpu *cpu);

/* Addresses that emitted code jumps to; not functions to call. core_exit is above. */
extern const char core_range[];		/* here and behind: code that can be kicked */
extern const char core_lookup_step[];	/* target in JUMP_REG, its own in SCR_INDIRECT */
extern char core_jump_miss[];		/* the same, guest's %rcx in SCR_LOOKUP_RCX */
extern const char core_jump_miss_sum[];	/* from emit_check_by_pdep(), %rcx: its pc */
extern const void *const core_empty_jc[];	/* 1 << JC_BITS times core_jump_miss */
extern const char core_resume[];	/* guest state live, to cpu->resume_pc */
extern const char core_signal_leave[];	/* guest state live, pc in resume_pc */
extern const char core_upcall[];	/* the kernel comes here: %rdi is the cpu */

/* Called from enter.S. */
uint64_t core_dispatch(struct cpu *cpu, const struct tb_exit *exit);
void smc_upcall(struct cpu *cpu);
void core_cut_all(struct cpu *cpu);

#endif /* CODEWP_CORE_H */
