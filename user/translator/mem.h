/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The guest's address space: what the mem_*.c files ask of each other.
 *
 * mem_map.c keeps the map (which guest addresses are what), mem_view.c the
 * views behind it, mem.c answers the core, mem_sys.c does the guest's calls.
 * All of it is called with rt_lock held, but for what says otherwise.
 */
#ifndef CODEWP_MEM_H
#define CODEWP_MEM_H

#include "translator.h"
#include <sys/types.h>

#define PAGE 4096UL
#define PAGE_DOWN(a)	((uint64_t)(a) & ~(PAGE - 1))
#define PAGE_UP(a)	PAGE_DOWN((uint64_t)(a) + PAGE - 1)
#define TASK_END	0x7ffffffff000UL
#define FIRST_VIEW_PAGE	(1UL << 36)	/* guest-virtual code-map pages are below */

enum region_kind {
	R_ANON,		/* private anonymous */
	R_PVIEW,	/* was R_ANON until code ran from it: in a private view */
	R_SHM,		/* shared shmem: in a view of that file */
	R_FILE,		/* private mapping of a file */
	R_SHARED,	/* anything that no view can hold and others may write */
	R_STACK,
	R_BRK,
};

/* A view and what the runtime knows of it. */
struct mview {
	struct codewp_view *view;
	char *alias;
	uint64_t base;		/* first code-map page; also the cookie */
	uint64_t len;		/* bytes */
	uint64_t file_off;	/* of the view in its file */
	int memfd;		/* guarded */
	dev_t dev;		/* shared: the file */
	ino_t ino;
	bool shared;
	unsigned int held;	/* shared: in use though nothing maps it */
	struct span *free;	/* private view: free ranges, by offset */
	size_t nr_free, cap_free;
};

struct span {
	uint64_t start, end;
};

struct region {
	uint64_t start, end;
	uint64_t voff;		/* PVIEW, SHM: offset in the view */
	uint64_t foff;		/* FILE, SHM, SHARED: offset in the file */
	struct mview *mv;	/* PVIEW, SHM */
	dev_t dev;		/* FILE, SHM, SHARED: which file */
	ino_t ino;
	int prot;		/* the guest's idea */
	enum region_kind kind;
	bool code;		/* code may have been translated from it */
	bool checked;		/* FILE of a shmem file: others' writes show */
	bool no_write;		/* the file was opened for reading only */
	bool no_exec;		/* the file is on a noexec mount */
	bool noreserve;
};

/* mem_map.c */
struct region *map_at(uint64_t addr);		/* the one that holds addr, or NULL */
struct region *map_next(uint64_t addr);		/* the first that ends after addr */
size_t map_split(uint64_t addr);		/* index of the first at or above addr */
struct region *map_index(size_t i);		/* NULL past the end */
int map_reserve(size_t more);			/* room for more entries: 0 or -ENOMEM */
void map_add(const struct region *r);		/* room was reserved; range is free */
void map_remove(uint64_t start, uint64_t end);	/* only forgets */
void map_set_prot(uint64_t start, uint64_t end, int prot);
bool map_covers(uint64_t start, uint64_t end);	/* no hole */
bool map_free(uint64_t start, uint64_t end);	/* nothing of the guest there */
bool map_uses(const struct mview *mv);

/* mem_view.c */
int view_private_alloc(uint64_t len, struct mview **mv, uint64_t *voff);
void view_private_free(struct mview *mv, uint64_t voff, uint64_t len);
int view_punch(struct mview *mv, uint64_t voff, uint64_t len);
int view_shm_get(int fd, uint64_t off, uint64_t len, struct mview **mv);
int view_shm_anon(uint64_t len, struct mview **mv);
void view_shm_unused(struct mview *mv);	/* a mapping went: drop it with the last */
void view_stats(struct codewp_stats *sum);
struct mview *view_by_page(uint64_t page);

/* mem.c */
int host_prot(int prot);
void mem_forget_code(uint64_t start, uint64_t end);
int mem_promote(struct region *r, uint64_t gva);

/* mem_sys.c: the calls; a result or -errno */
long mem_mmap(uint64_t addr, uint64_t len, int prot, int flags, int fd, uint64_t off);
long mem_munmap(uint64_t addr, uint64_t len);
long mem_mprotect(uint64_t addr, uint64_t len, int prot);
long mem_mremap(uint64_t addr, uint64_t old_len, uint64_t new_len, int flags,
		uint64_t new_addr);
long mem_madvise(uint64_t addr, uint64_t len, int advice);
long mem_brk(uint64_t addr);

/* For the loader. */
void mem_set_brk(uint64_t start);
int mem_add_stack(uint64_t low, uint64_t high, int prot);
/* A system call changed a file behind our back: forget what was made from it. */
void mem_file_written(int fd);
void mem_all_written(void);
/* A system call is about to write guest [addr, addr + len). */
void mem_kernel_write(uint64_t addr, uint64_t len);
extern bool mem_read_implies_exec;

/*
 * fork, with rt_lock held throughout. prepare: in the parent before the call;
 * copies what private views hold for the child; 0 or -ENOMEM, -ENOSPC, -EMFILE.
 * done: in the parent afterwards. child: in the child, before anything else of
 * memory is used; it opens the backend anew (the_ctx), makes its own views and
 * maps them where the parent's were. 0 or -errno: the child cannot go on.
 */
int mem_fork_prepare(void);
void mem_fork_done(void);
int mem_fork_child(void);

#endif /* CODEWP_MEM_H */
