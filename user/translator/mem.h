/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The guest's address space: what the mem_*.c files ask of each other.
 *
 * mem_map.c keeps the map (which guest addresses are what), mem_near.c knows where
 * code goes, mem_view.c the views behind it, mem_promote.c moves memory into views
 * while threads run, mem.c answers the core, mem_sys.c, mem_remap.c and mem_advise.c
 * do the guest's calls, mem_fork.c gives a child its own views, mem_share.c knows who
 * else may write shared memory, mem_kwrite.c what system calls in flight may write. All
 * of it is called with rt_lock held, but for what says otherwise.
 */
#ifndef CODEWP_MEM_H
#define CODEWP_MEM_H

#include "translator.h"
#include <elf.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
	int memfd;		/* the library's: guarded */
	int fork_fd;		/* a child's copy, while fork is under way; -1 */
	char *path;		/* shared: the file's name when it was made, or NULL */
	dev_t dev;		/* shared: the file */
	ino_t ino;
	bool shared;
	bool unsafe;		/* written behind the backend's back: never armed */
	bool on_loan;		/* for some time (mem_share.c) */
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
	bool no_view;		/* ANON of a stack, or of huge pages: never promoted */
	bool dontfork, wipe;	/* MADV_DONTFORK, MADV_WIPEONFORK */
	bool foreign;		/* mapped by the host: the guest cannot change it */
	bool grows;		/* MAP_GROWSDOWN */
	bool sysv;		/* SHARED: a segment of shmat(), ino is its number */
	const char *name;	/* foreign: for /proc/self/maps */
};

/* PVIEW, SHM: the number by which the code map knows the page of a guest address. */
static inline uint64_t view_page(const struct region *r, uint64_t gva)
{
	return r->mv->base + ((r->voff + gva - r->start) >> 12);
}

/* mem_map.c */
struct region *map_at(uint64_t addr);		/* the one that holds addr, or NULL */
struct region *map_next(uint64_t addr);		/* the first that ends after addr */
size_t map_split(uint64_t addr);		/* index of the first at or above addr */
struct region *map_index(size_t i);		/* NULL past the end */
void map_grown(uint64_t start, uint64_t end);	/* MAP_GROWSDOWN: as far as they are */
int map_reserve(size_t more);			/* room for more entries: 0 or -ENOMEM */
void map_add(const struct region *r);		/* room was reserved; range is free */
void map_remove(uint64_t start, uint64_t end);	/* only forgets */
void map_set_prot(uint64_t start, uint64_t end, int prot);
void map_advise_fork(uint64_t start, uint64_t end, int advice);	/* MADV_*FORK */
bool map_covers(uint64_t start, uint64_t end);	/* no hole */
bool map_free(uint64_t start, uint64_t end);	/* nothing of the guest there */
bool map_uses(const struct mview *mv);

/* mem_view.c */
int view_private_alloc(uint64_t len, struct mview **mv, uint64_t *voff);
void view_private_free(struct mview *mv, uint64_t voff, uint64_t len);
int view_punch(struct mview *mv, uint64_t voff, uint64_t len);
int view_shm_get(int fd, uint64_t off, uint64_t len, struct mview **mv);
int view_shm_anon(uint64_t len, struct mview **mv);
void view_shm_unsafe(dev_t dev, ino_t ino);
void view_shm_unused(struct mview *mv);	/* a mapping went: drop it with the last */
void view_stats(struct codewp_stats *sum);
struct mview *view_by_page(uint64_t page);

int mem_init(void);		/* once, the backend is open */
int view_fork_child(void);	/* mem_fork.c: new views in place of the parent's */
size_t view_count(void);
struct mview *view_index(size_t i);

/* mem.c */
int host_prot(int prot);
void mem_forget_code(uint64_t start, uint64_t end);
int mem_add_foreign(uint64_t start, uint64_t end, int prot, const char *name);

/* mem_promote.c */
bool mem_promote_eager(uint64_t len);
int mem_promote(uint64_t start, uint64_t end);
int mem_promote_around(const struct region *r, uint64_t gva);
bool mem_may_make_views(void);
bool mem_may_promote(const struct region *r);

/*
 * mem_kwrite.c: what system calls in flight may write. mem_kernel_write()
 * announces a range for the calling thread until kwrite_end(), and opens its
 * armed pages where the kernel could not write them. Called without rt_lock, or
 * with it.
 */
void mem_kernel_write(uint64_t addr, uint64_t len);
void kwrite_end(struct cpu *cpu);	/* the system call is over */
bool kwrite_in_flight(uint64_t start, uint64_t end);	/* of another thread */
bool kwrite_alone(void);		/* there was never a second thread */
void kwrite_freeze(uint64_t start, uint64_t end);	/* new ones wait for rt_lock */
void kwrite_thaw(void);

/* mem_sys.c, for its siblings */
bool mem_is_view(const struct region *r);
bool mem_bad_range(uint64_t addr, uint64_t len);
void mem_release(uint64_t start, uint64_t end, bool unmap_plain);
int mem_claim(uint64_t start, uint64_t end);
long mem_map_view(struct mview *mv, uint64_t addr, uint64_t len, uint64_t voff, int prot,
		  int flags);
void mem_forget_file(dev_t dev, ino_t ino);

/* mem_sys.c, mem_remap.c, mem_advise.c: the calls; a result or -errno */
long mem_mmap(uint64_t addr, uint64_t len, int prot, int flags, int fd, uint64_t off);
long mem_munmap(uint64_t addr, uint64_t len);
long mem_mprotect(uint64_t addr, uint64_t len, int prot);
long mem_mremap(uint64_t addr, uint64_t old_len, uint64_t new_len, int flags,
		uint64_t new_addr);
long mem_madvise(uint64_t addr, uint64_t len, int advice);
long mem_brk(uint64_t addr);
long mem_shmat(int id, uint64_t addr, int flags);	/* mem_shm.c */
long mem_shmdt(uint64_t addr);
long mem_remap_file_pages(uint64_t start, uint64_t len, int prot, uint64_t pgoff);

/* mem_share.c: who else may write shared memory */
void mem_made_file(int fd);	/* by memfd_create */
bool mem_is_own(const struct stat *stb);
void mem_share_send(int fd);
void mem_share_fork(void);
void mem_share_parent(void);
void mem_share_child(void);
void mem_share_exec(void);
extern bool mem_on_loan;
void mem_share_poll(void);	/* after system calls, when something is on loan */

/* mem_limit.c */
extern bool mem_overcommit_never;	/* vm.overcommit_memory is 2 */
bool mem_limit_tight(void);	/* little address space: nothing may be large */
size_t mem_limit_cache(size_t bytes);
void mem_limit_init(void);
int mem_limit_save(char *buf, size_t size);
bool mem_limit_load(const char *text);
void mem_limit_real(bool real);
long mem_limit_add(uint64_t start, uint64_t len, bool data);
long mem_limit_data(uint64_t start, uint64_t len);
long mem_sys_prlimit(unsigned int what, const struct rlimit *new_lim,
		     struct rlimit *old_lim);

/* mem_near.c */
uint64_t mem_near(uint64_t len, uint64_t align);
uint64_t mem_near_mmap(uint64_t len, int prot, int flags, int fd, uint64_t off);
void mem_near_init(int fd, const Elf64_Ehdr *eh, const Elf64_Phdr *ph, uint64_t below);

/* For the loader. */
void mem_set_brk(uint64_t start);
int mem_add_stack(uint64_t low, uint64_t high, int prot);
/* A system call changed a file behind our back: forget what was made from it. */
void mem_file_written(int fd);	/* takes rt_lock unless it is held; so do these: */
void mem_all_written(void);
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
