/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The code map: which translation blocks (TBs) cover which guest bytes.
 *
 * A library of its own; it knows nothing of traps, views or instruction sets.
 * A page index is any number below 1 << page_bits that the translator gives to
 * 4096 bytes of guest code (offset in a view, guest-virtual page, ...). A TB
 * covers bytes of one or two pages.
 *
 * Readers (codemap_find, _lookup, _hits, _covered) take no lock. Memory of
 * page descriptors is never freed before codemap_free(); memory of TBs belongs
 * to the caller, who frees a TB that codemap_invalidate() returned only when no
 * thread can be in it or look at it any more (epochs): a thread that calls into
 * the code map counts as looking at any TB. For the same reason a dead TB is
 * not inserted again before that.
 *
 * Where it may be called: everything but codemap_new, _free, _find_alloc,
 * _insert, _jc_attach and _jc_detach may run in an upcall, with the guest's %fs
 * and vector registers loaded: no libc, no allocation, no thread-local storage.
 * The locks spin (and yield the CPU). An upcall comes from the code cache only,
 * never from a holder of one of them; an asynchronous signal handler may
 * interrupt a holder, and must not call anything that takes a lock.
 *
 * Lock order (checked with -DCODEMAP_DEBUG): codemap_lock_page(), at most one
 * such hold per thread; then page locks in ascending page index; then a hash
 * bucket or the list of jump caches; then one TB's jump lock. Never two jump
 * locks. The callbacks of struct codemap_ops run under these locks and may not
 * call back.
 */
#ifndef CODEWP_CODEMAP_H
#define CODEWP_CODEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CODEMAP_PAGE_SHIFT	12
#define CODEMAP_PAGE_SIZE	4096U
#define CODEMAP_NO_PAGE		UINT64_MAX

#define CODEMAP_MAX_JUMPS	8	/* out of one TB */

struct codemap;
struct codemap_page;

/* One jump out of a TB, to be chained. The code map's, once it is zeroed. */
struct codemap_jump {
	uintptr_t dest;		/* low bit set: closed for good */
	uintptr_t next;		/* on dest's list; low bits: slot */
};

/*
 * One TB, embedded in the translator's own. Zero it, fill what is marked as the
 * translator's. What a lookup reads stands together: tables of TBs are large, and
 * their cache lines cold.
 */
struct codemap_tb {
	/* the translator's, set before codemap_insert(), then constant */
	uint64_t pc;		/* guest address, hash key */
	uint64_t flags;		/* second half of the key */
	void *entry;		/* host code */
	void *jc_entry;		/* host code behind a jump cache; may be set later, once */

	/* the code map's */
	struct codemap_tb *hash_next;
	uintptr_t jump_in;			/* incoming jumps; low bits: slot */
	uint32_t jump_lock;
	uint8_t state;
	uint8_t linked;				/* it is on the lists of its pages */

	/* the translator's again */
	uint8_t jumps;		/* at most CODEMAP_MAX_JUMPS */
	uint8_t uncovered;	/* 1: codemap_hits() and _covered() need not know of it */
	struct codemap_jump *jump;	/* so many of them */
	uint16_t first[2];	/* first and last byte covered in each page */
	uint16_t last[2];
	uint64_t page[2];	/* page[1] is CODEMAP_NO_PAGE for most */

	/* the code map's */
	struct codemap_tb *page_next[2];	/* low bit: which page of the next */
	union {
		/*
		 * The translator's, until codemap_insert() has returned this TB: the
		 * generation of each page before its first byte was read, and its
		 * codemap_begin(), or 0: not compared.
		 */
		struct {
			uint64_t seq[2];
			uint32_t gen[2];
		};
		/* the code map's, from then on */
		struct {
			struct codemap_tb *dead_next;	/* list that invalidate returns */
			uintptr_t page_prev[2];		/* low bit: its slot; 0: the first */
		};
	};
};

/*
 * A thread's jump cache: where its own indirect branches go, in one jump through
 * e[pc & mask]. What is there is some TB's jc_entry, host code that compares its own
 * pc with the one that is wanted and goes on to the TB's code or to the miss; or it
 * is the miss. Only the owner inserts; an invalidation by any thread puts the miss
 * in the TB's place.
 */
struct codemap_jc {
	uint64_t mask;
	void **e;			/* mask + 1 of them */
	struct codemap_jc *next;	/* the code map's */
	void *miss;			/* host code */
};

struct codemap_ops {
	/*
	 * Make outgoing jump slot of tb go to dest's entry, or back to its own
	 * exit stub (dest NULL). Called under tb's destination's jump lock;
	 * must be one atomic store into code that may be running. Also called
	 * with NULL for the jumps of a TB that dies: a thread may be in it.
	 */
	void (*set_jump)(struct codemap_tb *tb, int slot, struct codemap_tb *dest);
	/*
	 * The page's generation now. An insert whose TB has another one fails.
	 * Called under the page's lock. NULL: generations are not compared.
	 */
	uint32_t (*page_gen)(void *arg, uint64_t page);
	/*
	 * Memory for tables and descriptors, zeroed, as by calloc(), to be given
	 * back to free(). Called holding nothing. NULL: calloc() itself.
	 */
	void *(*zalloc)(size_t bytes);
};

/*
 * A map for page indices below 1 << page_bits (1 to 54); ops (may be NULL) is
 * copied, arg goes to its callbacks. NULL: out of memory, or page_bits is wrong.
 */
struct codemap *codemap_new(const struct codemap_ops *ops, void *arg,
			    unsigned int page_bits);
/*
 * No thread uses the map any more. Jump caches and TBs are left alone.
 */
void codemap_free(struct codemap *map);

/*
 * page_find, page_find_alloc. NULL: no TB was ever on it / out of memory; or the
 * index is not below 1 << page_bits.
 */
struct codemap_page *codemap_find(struct codemap *map, uint64_t page);
struct codemap_page *codemap_find_alloc(struct codemap *map, uint64_t page);

/*
 * tb_link_page: publish. Under the lock of the TB's pages: coverage, compare the
 * generations, page lists, then the hash. Returns tb; or a TB with the same key
 * that was faster; or NULL with *err -ESTALE (a page was written or held since),
 * -ENOMEM or -EINVAL (page index, first, last or jumps out of range). When it does not
 * return tb, nothing refers to tb, and it may be freed or inserted again at once.
 */
struct codemap_tb *codemap_insert(struct codemap *map, struct codemap_tb *tb,
				  int *err);

/*
 * Hash lookup, or NULL. The TB may die at any moment: codemap_chain() and
 * codemap_jc_insert() notice.
 */
struct codemap_tb *codemap_lookup(struct codemap *map, uint64_t pc, uint64_t flags);

/*
 * Chain tb's outgoing jump slot (below tb->jumps) to dest, which may be tb. False if
 * either is dead or the slot is taken already.
 */
bool codemap_chain(struct codemap *map, struct codemap_tb *tb, int slot,
		   struct codemap_tb *dest);

/*
 * Does a write of bytes [first, last] of the page touch a translated byte (of a TB
 * that is not uncovered)? Takes at most 64 loads, however many TBs the page has.
 * A "no" stays true only under codemap_lock_page(): ask, write, unlock. A "yes" may
 * be out of date.
 */
bool codemap_hits(struct codemap *map, uint64_t page, unsigned int first,
		  unsigned int last);

/*
 * Which of 64 bytes, those from 64 * word of the page, are translated: a bit each, the
 * first the lowest. What codemap_hits() says of how true it stays holds here, too.
 */
uint64_t codemap_covered(struct codemap *map, uint64_t page, unsigned int word);

/*
 * tb_invalidate_phys_page_range__locked: drop every TB that covers a byte of
 * [first, last] of the page: hash, page lists, jump caches, jumps out and in.
 * Returns them, linked by dead_next. On return no lookup and no chain leads to
 * any of them, nor to one that covers such a byte and that another thread drops
 * at this moment. May be called with the page locked by codemap_lock_page().
 */
struct codemap_tb *codemap_invalidate(struct codemap *map, uint64_t page,
				      unsigned int first, unsigned int last);
/* Drop one TB. False: it was dead already, or was never inserted. */
bool codemap_invalidate_tb(struct codemap *map, struct codemap_tb *tb);
/*
 * Cut its chained jumps in both directions, but leave it findable. Threads that
 * run may chain it again. codemap_unchain_all() does it to every TB; jumps
 * that are chained meanwhile may be left.
 */
void codemap_unchain(struct codemap *map, struct codemap_tb *tb);
void codemap_unchain_all(struct codemap *map);

/*
 * Hold a page (and a second one, or CODEMAP_NO_PAGE) so that nothing is
 * published on it: invalidate, then make the store visible, then unlock. Lookups,
 * chaining and invalidations by others go on. Neither page needs to have a
 * descriptor. Not nested; codemap_insert() under it would deadlock.
 *
 * A store made under it (through an alias, which no arm stops) comes after the
 * trap that raised the generation: a translator that read the new generation
 * and then the old byte would pass the comparison of generations. With several
 * threads it therefore calls codemap_begin() for each page before the first byte
 * is read, and puts the number (never 0) into tb->seq: codemap_insert() refuses
 * (-ESTALE) if the page was held since. codemap_begin() waits for a holder.
 *
 * With several threads two more orders count (tests/codemap/stress.c shows what
 * happens otherwise). A translator takes both numbers, this and the generation,
 * before it arms, or sees in the same page-state word that the page is still
 * armed: one that was disarmed between arm and generation would pass. And a page
 * is disarmed after its TBs are dead and under the hold: disarmed first, another
 * thread writes it without a trap while they live.
 */
uint64_t codemap_begin(struct codemap *map, uint64_t page);
void codemap_lock_page(struct codemap *map, uint64_t page, uint64_t page2);
void codemap_unlock_page(struct codemap *map, uint64_t page, uint64_t page2);

/*
 * Jump caches: known to the map from attach (0, or -EINVAL: more than 24 bits) to
 * detach. e has 1 << bits entries, which say miss all; it is the caller's. The key
 * is the pc alone: a cache holds TBs of one value of flags. codemap_jc_insert() is
 * the owner's; it leaves out a TB that is dead or has no jc_entry.
 * codemap_jc_widen(): all caches have 1 << bits entries from now on, which all say
 * miss; while no TB is in the map and nobody inserts any.
 */
int codemap_jc_attach(struct codemap *map, struct codemap_jc *jc, void **e,
		      unsigned int bits, void *miss);
void codemap_jc_detach(struct codemap *map, struct codemap_jc *jc);
void codemap_jc_widen(struct codemap *map, unsigned int bits);
void codemap_jc_insert(struct codemap_jc *jc, const struct codemap_tb *tb);

static inline bool codemap_tb_dead(const struct codemap_tb *tb)
{
	return __atomic_load_n(&tb->state, __ATOMIC_ACQUIRE) != 0;
}

/*
 * Bytes of page descriptors and their tables. They are kept for pages that have no
 * TB any more, since readers take no lock, until codemap_trim() frees them: when all
 * TBs have been dropped, nothing is inserted meanwhile, and no thread is in a call but
 * codemap_lookup(), or holds a TB.
 */
size_t codemap_bytes(const struct codemap *map);
void codemap_trim(struct codemap *map);

/*
 * For statistics: calls fn for each page that has TBs, in ascending order,
 * holding nothing. tbs: entries on its list; bytes: covered by any.
 */
typedef void (*codemap_page_fn)(uint64_t page, unsigned int tbs,
				unsigned int bytes, void *arg);
void codemap_for_each_page(struct codemap *map, codemap_page_fn fn, void *arg);

#endif /* CODEWP_CODEMAP_H */
