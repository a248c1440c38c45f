// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The public calls: they check their arguments, find the backend's operation
 * and hold the context's lock around it where the backend wants it.
 * Owns the context's lists of views and threads.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backend.h"
#include "state.h"

#define CHECK_OPTS(local, opts) \
	opts_copy(&(local), offsetof(__typeof__(local), __last_field), (opts))

static const struct backend_ops *const backends[] = {
	[CODEWP_KMOD] = &kmod_backend,
	[CODEWP_UFFD] = &uffd_backend,
	[CODEWP_MPROTECT] = &mprotect_backend,
};

/**
 * codewp_version() - which library is this
 * Return: CODEWP_VERSION of the library that runs.
 */
unsigned int codewp_version(void)
{
	return CODEWP_VERSION;
}

int opts_copy(void *dst, size_t known, const void *opts)
{
	const unsigned char *src = opts;
	size_t sz;

	memset(dst, 0, known);
	if (!opts)
		return 0;
	memcpy(&sz, opts, sizeof(sz));
	if (sz < sizeof(sz))
		return -EINVAL;
	for (size_t i = known; i < sz; i++)
		if (src[i])
			return -E2BIG;
	memcpy(dst, opts, sz < known ? sz : known);
	return 0;
}

int fd_settle(const struct codewp *ctx, int fd)
{
	int moved, err;

	if (fd >= ctx->min_fd)
		return fcntl(fd, F_SETFD, FD_CLOEXEC) ? -errno : fd;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, ctx->min_fd);
	err = -errno;
	close(fd);
	return moved < 0 ? err : moved;
}

/* ---- context ------------------------------------------------------------ */

static const struct backend_ops *backend_of(int backend)
{
	if (backend < CODEWP_KMOD || backend > CODEWP_MPROTECT)
		return NULL;
	return backends[backend];
}

/**
 * codewp_probe() - does a backend work here
 * @backend: which
 * @why: a sentence when it does not work; may be NULL
 * @size: bytes of @why
 *
 * Changes nothing. Return: 0, or -errno.
 */
int codewp_probe(enum codewp_backend backend, char *why, size_t size)
{
	const struct backend_ops *ops;
	char none[1];

	if (!why || !size) {
		why = none;
		size = sizeof(none);
	}
	*why = 0;
	if (backend == CODEWP_AUTO)
		return 0;	/* the last one always works */
	ops = backend_of(backend);
	if (!ops) {
		snprintf(why, size, "there is no such backend");
		return -EINVAL;
	}
	return ops->probe(why, size);
}

/**
 * codewp_backend_parse() - a backend by its name
 * @name: auto, kmod, uffd or mprotect
 *
 * Return: enum codewp_backend or -EINVAL.
 */
int codewp_backend_parse(const char *name)
{
	if (!name)
		return -EINVAL;
	if (!strcmp(name, "auto"))
		return CODEWP_AUTO;
	for (int i = CODEWP_KMOD; i <= CODEWP_MPROTECT; i++)
		if (!strcmp(name, backends[i]->info.name))
			return i;
	return -EINVAL;
}

static int life_new(struct codewp *ctx)
{
	void *p = mmap(NULL, CODEWP_PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	ctx->life = p;
	/* A forked child finds a zero, whatever way it was forked. */
	if (madvise(p, CODEWP_PAGE_SIZE, MADV_WIPEONFORK)) {
		int err = -errno;

		munmap(p, CODEWP_PAGE_SIZE);
		return err;
	}
	*ctx->life = 1;
	return 0;
}

static int open_backend(struct codewp *ctx, const struct backend_ops *ops)
{
	int err;

	ctx->ops = ops;
	ctx->soft = NULL;
	ctx->fd = -1;
	err = ops->open(ctx);
	if (err && ctx->fd >= 0)
		close(ctx->fd);
	return err;
}

/**
 * codewp_open() - make a context
 * @out: the context
 * @opts: options, or NULL for the best backend that works
 *
 * Return: 0; -EINVAL, -E2BIG: bad options; -EMFILE, -ENOMEM; else why the backend
 * does not work, as codewp_probe().
 */
int codewp_open(struct codewp **out, const struct codewp_open_opts *opts)
{
	struct codewp_open_opts o;
	struct codewp *ctx;
	int err;

	if (!out)
		return -EINVAL;
	*out = NULL;
	err = CHECK_OPTS(o, opts);
	if (err)
		return err;
	if (o.min_fd < 0 || (o.backend != CODEWP_AUTO && !backend_of(o.backend)))
		return -EINVAL;

	ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return -ENOMEM;
	ctx->own_signals = o.own_signals;
	ctx->quiet_signals = o.quiet_signals;
	ctx->min_fd = o.min_fd;
	err = life_new(ctx);
	if (err)
		goto free;
	if (o.backend == CODEWP_AUTO) {
		err = -ENODEV;
		for (int i = CODEWP_KMOD; err && i <= CODEWP_MPROTECT; i++)
			err = open_backend(ctx, backends[i]);
	} else {
		err = open_backend(ctx, backends[o.backend]);
	}
	if (err)
		goto life;
	err = signals_join(ctx);
	if (err)
		goto close;
	*out = ctx;
	return 0;

close:
	ctx->ops->close(ctx);
	if (ctx->fd >= 0)
		close(ctx->fd);
life:
	munmap(ctx->life, CODEWP_PAGE_SIZE);
free:
	free(ctx);
	return err;
}

/**
 * codewp_close() - end a context
 * @ctx: context or NULL; in a forked child its memory and descriptors go, and
 *       nothing of the parent's changes
 *
 * No callback may be running and no other thread may use the context.
 */
void codewp_close(struct codewp *ctx)
{
	if (!ctx)
		return;
	while (ctx->threads)
		codewp_thread_unregister(ctx->threads);
	while (ctx->views)
		codewp_view_destroy(ctx->views);
	signals_leave(ctx);
	ctx->ops->close(ctx);
	if (ctx->fd >= 0)
		close(ctx->fd);
	munmap(ctx->life, CODEWP_PAGE_SIZE);
	free(ctx);
}

/**
 * codewp_backend_info() - what it can keep
 * @ctx: context
 *
 * Return: what the backend can and cannot keep; never NULL.
 */
const struct codewp_backend_info *codewp_backend_info(const struct codewp *ctx)
{
	return &ctx->ops->info;
}

/* ---- views -------------------------------------------------------------- */

static bool aligned(uint64_t v)
{
	return !(v & PAGE_MASK);
}

/* [voff, voff + len) in the view; aligned, not empty. */
static int check_range(const struct codewp_view *view, uint64_t voff, uint64_t len)
{
	if (!len || !aligned(voff) || !aligned(len))
		return -EINVAL;
	if (voff + len < voff)
		return -EOVERFLOW;
	return voff + len > view->length ? -ERANGE : 0;
}

struct codewp_view *view_new(struct codewp *ctx, uint64_t length,
			     const struct codewp_view_opts *opts)
{
	struct codewp_view *view = calloc(1, sizeof(*view));

	if (!view)
		return NULL;
	view->ctx = ctx;
	view->length = length;
	view->pages = length >> PAGE_SHIFT;
	view->cookie = opts->cookie;
	view->private_view = opts->private_view;
	view->maps = TRACK_END;
	view->fd = -1;
	view->memfd = -1;
	return view;
}

int view_add(struct codewp_view *view, struct codewp_view **out,
	     const struct codewp_view_opts *opts,
	     int (*create)(struct codewp_view *view, const struct codewp_view_opts *opts))
{
	struct codewp *ctx = view->ctx;
	sigset_t saved;
	int err;

	ctx_lock(ctx, &saved);
	view->id = ++ctx->next_id;
	err = create(view, opts);
	if (!err) {
		view->next = ctx->views;
		/* Pairs with the acquire in upcall.c: it walks without the lock. */
		store_release(&ctx->views, view);
	}
	ctx_unlock(ctx, &saved);
	if (err) {
		if (view->memfd >= 0)
			close(view->memfd);
		free(view);
		return err;
	}
	*out = view;
	return 0;
}

int view_opts_check(const struct codewp *ctx, struct codewp_view_opts *o,
		    const struct codewp_view_opts *opts)
{
	int err = CHECK_OPTS(*o, opts);

	if (err)
		return err;
	if (o->clients & ~CODEWP_CLIENT_ALL)
		return -EINVAL;
	if (o->share_ring && (o->ring_bytes || o->share_ring->ctx != ctx))
		return -EINVAL;
	return ring_bytes_check(o->ring_bytes) ? 0 : -EINVAL;
}

/**
 * codewp_view_create() - make a view of a memfd
 * @ctx: context
 * @out: the view
 * @memfd: shmem file, open for reading and writing; duplicated
 * @offset: first byte; page aligned
 * @length: bytes; page aligned, not zero; may reach behind the file's end
 * @opts: options or NULL
 *
 * Return: 0; -EINVAL, -EOVERFLOW, -EFBIG, -EBADF, -EACCES, -EPERM, -EOPNOTSUPP,
 * -EBUSY, -ENOSPC, -ENOMEM, -EMFILE, -ESRCH as codewp_view_create(3) says.
 */
int codewp_view_create(struct codewp *ctx, struct codewp_view **out, int memfd,
		       uint64_t offset, uint64_t length,
		       const struct codewp_view_opts *opts)
{
	struct codewp_view_opts o;
	struct codewp_view *view;
	int err;

	if (!ctx || !out)
		return -EINVAL;
	*out = NULL;
	err = view_opts_check(ctx, &o, opts);
	if (err)
		return err;
	if (!length || !aligned(length) || !aligned(offset))
		return -EINVAL;
	if (offset + length < offset || offset + length > INT64_MAX)
		return -EOVERFLOW;
	if (!ctx_alive(ctx))
		return -ESRCH;

	memfd = fcntl(memfd, F_DUPFD_CLOEXEC, ctx->min_fd);
	if (memfd < 0)
		return -errno;
	view = view_new(ctx, length, &o);
	if (!view) {
		close(memfd);
		return -ENOMEM;
	}
	view->offset = offset;
	view->memfd = memfd;
	return view_add(view, out, &o, ctx->ops->view_create);
}

/**
 * codewp_view_destroy() - end a view
 * @view: view or NULL; its mappings stay, and do not trap
 *
 * No other thread may use the view.
 */
void codewp_view_destroy(struct codewp_view *view)
{
	struct codewp_view **p;
	struct codewp *ctx;
	sigset_t saved;
	bool alive;

	if (!view)
		return;
	ctx = view->ctx;
	alive = ctx_alive(ctx);
	ctx_lock(ctx, &saved);
	for (p = &ctx->views; *p != view; p = &(*p)->next)
		;
	store_release(p, view->next);
	ctx->ops->view_destroy(view, alive);
	ring_put(view->ring);
	ctx_unlock(ctx, &saved);
	if (alive)
		ctx_wait_readers(ctx);

	states_free(view);
	if (view->alias)
		munmap(view->alias, view->length);
	if (view->fd >= 0)
		close(view->fd);
	if (view->memfd >= 0)
		close(view->memfd);
	free(view);
}

/**
 * codewp_view_length() - how long is it
 * @view: view
 *
 * Return: bytes.
 */
uint64_t codewp_view_length(const struct codewp_view *view)
{
	return view->length;
}

static int check_addr(const void *addr, size_t *len)
{
	if (!aligned((uintptr_t)addr) || !*len)
		return -EINVAL;
	*len = (*len + PAGE_MASK) & ~PAGE_MASK;
	if (!*len || (uintptr_t)addr + *len < (uintptr_t)addr)
		return -EINVAL;
	return 0;
}

/**
 * codewp_map() - map a part of a view
 * @view: view
 * @addr: in: where, or NULL; out: where it is
 * @len: bytes, rounded up to pages
 * @voff: first byte in the view; page aligned
 * @prot: PROT_READ, PROT_WRITE
 * @flags: as for mmap(); MAP_SHARED is implied
 *
 * Return: 0; -EINVAL, -EOVERFLOW, -ERANGE, -EACCES (PROT_EXEC), -ENOMEM, -ESRCH, or
 * mmap()'s.
 */
int codewp_map(struct codewp_view *view, void **addr, size_t len, uint64_t voff,
	       int prot, int flags)
{
	sigset_t saved;
	int err;

	if (!view || !addr)
		return -EINVAL;
	err = check_addr(*addr, &len);
	if (!err)
		err = check_range(view, voff, len);
	if (err)
		return err;
	if (flags & (MAP_PRIVATE | MAP_ANONYMOUS))
		return -EINVAL;
	if (prot & PROT_EXEC)
		return -EACCES;
	if (prot & ~(PROT_READ | PROT_WRITE))
		return -EINVAL;
	if (!ctx_alive(view->ctx))
		return -ESRCH;
	ctx_lock(view->ctx, &saved);
	err = view->ctx->ops->map(view, addr, len, voff, prot, flags);
	ctx_unlock(view->ctx, &saved);
	return err;
}

/**
 * codewp_unmap() - end mappings
 * @ctx: context
 * @addr: page aligned
 * @len: bytes, rounded up to pages
 *
 * munmap() that the library knows of. Return: 0; -EINVAL, -ENOMEM, -ESRCH.
 */
int codewp_unmap(struct codewp *ctx, void *addr, size_t len)
{
	sigset_t saved;
	int err;

	if (!ctx)
		return -EINVAL;
	err = check_addr(addr, &len);
	if (err)
		return err;
	if (!ctx_alive(ctx))
		return -ESRCH;
	ctx_lock(ctx, &saved);
	err = ctx->ops->unmap(ctx, addr, len);
	ctx_unlock(ctx, &saved);
	return err;
}

/**
 * codewp_protect() - change the protection of mappings
 * @ctx: context
 * @addr: page aligned; mappings of views
 * @len: bytes, rounded up to pages
 * @prot: PROT_READ, PROT_WRITE
 *
 * mprotect() that leaves armed pages armed. Return: 0; -EINVAL, -EACCES, -ENOMEM,
 * -ESRCH.
 */
int codewp_protect(struct codewp *ctx, void *addr, size_t len, int prot)
{
	sigset_t saved;
	int err;

	if (!ctx)
		return -EINVAL;
	err = check_addr(addr, &len);
	if (err)
		return err;
	if (prot & PROT_EXEC)
		return -EACCES;
	if (prot & ~(PROT_READ | PROT_WRITE))
		return -EINVAL;
	if (!ctx_alive(ctx))
		return -ESRCH;
	ctx_lock(ctx, &saved);
	err = ctx->ops->protect(ctx, addr, len, prot);
	ctx_unlock(ctx, &saved);
	return err;
}

/**
 * codewp_remap() - move or resize a mapping
 * @ctx: context
 * @addr: in: one mapping of a view, or a part; out: where it is now
 * @old_len: bytes
 * @new_len: bytes
 * @flags: MREMAP_MAYMOVE, MREMAP_FIXED
 * @new_addr: with MREMAP_FIXED
 *
 * mremap(). Without a module armed pages of the range are opened, and told as
 * written. Return: 0; -EINVAL, -EFAULT, -ERANGE, -ENOMEM, -ESRCH.
 */
int codewp_remap(struct codewp *ctx, void **addr, size_t old_len, size_t new_len,
		 int flags, void *new_addr)
{
	sigset_t saved;
	int err;

	if (!ctx || !addr || (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)))
		return -EINVAL;
	err = check_addr(*addr, &old_len);
	if (!err)
		err = check_addr((flags & MREMAP_FIXED) ? new_addr : NULL, &new_len);
	if (err)
		return err;
	if (!ctx_alive(ctx))
		return -ESRCH;
	ctx_lock(ctx, &saved);
	err = ctx->ops->remap(ctx, addr, old_len, new_len, flags, new_addr);
	ctx_unlock(ctx, &saved);
	return err;
}

/**
 * codewp_alias() - the way to write without a trap
 * @view: view
 * @alias: address of its first byte, in a mapping that never traps
 *
 * Return: 0; -EINVAL, -EPERM, -ENOMEM.
 */
int codewp_alias(struct codewp_view *view, void **alias)
{
	sigset_t saved;
	int err = 0;
	void *p;

	if (!view || !alias)
		return -EINVAL;
	ctx_lock(view->ctx, &saved);
	if (!view->alias) {
		bool anon = view->memfd < 0;

		p = mmap(NULL, view->length, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_NORESERVE, anon ? view->fd : view->memfd,
			 anon ? CODEWP_MMAP_ALIAS : view->offset);
		if (p == MAP_FAILED)
			err = -errno;
		else
			view->alias = p;
	}
	*alias = view->alias;
	ctx_unlock(view->ctx, &saved);
	return err;
}

/* ---- arm, disarm -------------------------------------------------------- */

/**
 * codewp_arm() - make the next write to pages trap
 * @view: view
 * @voff: first byte; page aligned
 * @len: bytes; page aligned, not zero
 * @mode: CODEWP_OPEN, CODEWP_HOLD, CODEWP_STOP or, in private views, CODEWP_KEEP
 * @res: how far it got, or NULL
 *
 * On return no CPU can write to what was done without a trap. May be called in a
 * callback. Return: 0; -EINVAL, -EOVERFLOW, -ERANGE, -ENXIO (behind the file's
 * end), -EOPNOTSUPP (STOP: no module, or codewp_kvm is not loaded), -ENOMEM, -ENOSPC,
 * -EIO, -ESRCH.
 */
int codewp_arm(struct codewp_view *view, uint64_t voff, uint64_t len,
	       unsigned int mode, struct codewp_arm_result *res)
{
	struct codewp_arm_result none;
	sigset_t saved;
	int err;

	if (!res)
		res = &none;
	memset(res, 0, sizeof(*res));
	if (!view || mode > CODEWP_STOP)
		return -EINVAL;
	err = check_range(view, voff, len);
	if (err)
		return err;
	if (mode == CODEWP_STOP && view->ctx->soft)
		return -EOPNOTSUPP;
	if (mode == CODEWP_KEEP && !view->private_view)
		return -EINVAL;
	if (!ctx_alive(view->ctx))
		return -ESRCH;
	if (!view->ctx->soft)
		return view->ctx->ops->arm(view, voff, len, mode, res);
	ctx_lock(view->ctx, &saved);
	err = view->ctx->ops->arm(view, voff, len, mode, res);
	ctx_unlock(view->ctx, &saved);
	return err;
}

/**
 * codewp_disarm() - stop pages from trapping
 * @view: view
 * @voff: first byte; page aligned
 * @len: bytes; page aligned, not zero
 *
 * Starts a new generation of the pages that were armed. May be called in a
 * callback. Return: 0; -EINVAL, -EOVERFLOW, -ERANGE, -ENOMEM, -ESRCH.
 */
int codewp_disarm(struct codewp_view *view, uint64_t voff, uint64_t len)
{
	sigset_t saved;
	int err;

	if (!view)
		return -EINVAL;
	err = check_range(view, voff, len);
	if (err)
		return err;
	if (!ctx_alive(view->ctx))
		return -ESRCH;
	if (!view->ctx->soft)
		return view->ctx->ops->disarm(view, voff, len);
	ctx_lock(view->ctx, &saved);
	err = view->ctx->ops->disarm(view, voff, len);
	ctx_unlock(view->ctx, &saved);
	return err;
}

/**
 * codewp_page_states() - the state of each page
 * @view: view
 *
 * Return: one word per page, valid until the view is destroyed.
 */
const uint32_t *codewp_page_states(struct codewp_view *view)
{
	return view->states;
}

/* ---- threads ------------------------------------------------------------ */

/**
 * codewp_thread_register() - be told of own traps
 * @ctx: context
 * @out: the registration
 * @opts: fn or raw_handler, and where its code is
 *
 * For the calling thread. Return: 0; -EINVAL, -EBUSY, -EOPNOTSUPP, -EFAULT, -EACCES,
 * -ENOMEM, -EMFILE, -ESRCH as codewp_thread_register(3) says.
 */
int codewp_thread_register(struct codewp *ctx, struct codewp_thread **out,
			   const struct codewp_thread_opts *opts)
{
	struct codewp_thread_opts o;
	struct codewp_thread *t;
	bool everywhere;
	sigset_t saved;
	int err;

	if (!ctx || !out || !opts)
		return -EINVAL;
	*out = NULL;
	err = CHECK_OPTS(o, opts);
	if (err)
		return err;
	everywhere = !o.code_start && !o.code_end;
	if (!o.fn == !o.raw_handler || (o.raw_handler && o.signal) ||
	    (!everywhere && o.code_end <= o.code_start))
		return -EINVAL;
	/* A kick may come at any instruction of the range: not in our own code. */
	if (o.kick && (everywhere || o.kick->ctx != ctx))
		return -EINVAL;
	if (!ctx_alive(ctx))
		return -ESRCH;
	if (thread_self(ctx))
		return -EBUSY;

	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->ctx = ctx;
	t->opts = o;
	t->fd = -1;
	t->tid = syscall(SYS_gettid);
	err = ctx->ops->thread_register(t);
	if (err) {
		free(t);
		return err;
	}
	thread_self_add(t);
	ctx_lock(ctx, &saved);
	t->next = ctx->threads;
	ctx->threads = t;
	ctx_unlock(ctx, &saved);
	*out = t;
	return 0;
}

/**
 * codewp_thread_unregister() - end a registration
 * @t: registration or NULL; the calling thread's, or of one that has ended
 */
void codewp_thread_unregister(struct codewp_thread *t)
{
	struct codewp_thread **p;
	struct codewp *ctx;
	sigset_t saved;

	if (!t)
		return;
	ctx = t->ctx;
	ctx_lock(ctx, &saved);
	for (p = &ctx->threads; *p != t; p = &(*p)->next)
		;
	*p = t->next;
	ctx_unlock(ctx, &saved);
	ctx->ops->thread_unregister(t);
	/* The memory of another thread's registration is still in its list. */
	if (thread_self_del(t))
		free(t);
	else
		store_release(&t->ctx, NULL);
}

/**
 * codewp_thread_area() - the kernel's page of a registration
 * @thread: registration
 *
 * Return: what the module and the handler tell each other; NULL without a module.
 */
struct codewp_area *codewp_thread_area(struct codewp_thread *thread)
{
	return thread->area;
}

/**
 * codewp_handle_signal() - is this signal a trap
 * @ctx: context
 * @sig: signal
 * @info: siginfo_t that the handler got
 * @ucontext: ucontext_t that the handler got; changed as the callback wants
 *
 * Async-signal-safe. Return: true if it was a trap, and the handler is done.
 */
bool codewp_handle_signal(struct codewp *ctx, int sig, void *info, void *ucontext)
{
	if (!ctx || !info || !ucontext || sig != ctx->ops->sig)
		return false;
	return ctx->ops->signal(ctx, sig, info, ucontext);
}

/* ---- events ------------------------------------------------------------- */

/**
 * codewp_event_fd() - a descriptor to poll
 * @view: view
 *
 * Return: an eventfd, the library's, readable while events wait; -EINVAL, -EMFILE,
 * -ESRCH.
 */
int codewp_event_fd(struct codewp_view *view)
{
	struct codewp *ctx;
	sigset_t saved;
	int fd, err;

	if (!view)
		return -EINVAL;
	ctx = view->ctx;
	if (!ctx_alive(ctx))
		return -ESRCH;
	ctx_lock(ctx, &saved);
	fd = view->ring->event_fd;
	if (fd < 0) {
		/* Readable from the start if something waits already. */
		fd = eventfd(codewp_pending(view), EFD_CLOEXEC | EFD_NONBLOCK);
		fd = fd < 0 ? -errno : fd_settle(ctx, fd);
		err = fd < 0 ? 0 : ctx->ops->event_fd(view, fd);
		if (err) {
			close(fd);
			fd = err;
		} else if (fd >= 0) {
			view->ring->event_fd = fd;
		}
	}
	ctx_unlock(ctx, &saved);
	return fd;
}

/**
 * codewp_kernel_write() - a system call will write to a view
 * @view: view
 * @voff: first byte that a system call is about to write
 * @len: bytes
 *
 * Nothing with a module; else opens the armed pages and reports them. Return: 0;
 * -EINVAL, -EOVERFLOW, -ERANGE, -ENOMEM.
 */
int codewp_kernel_write(struct codewp_view *view, uint64_t voff, uint64_t len)
{
	if (!view)
		return -EINVAL;
	if (voff + len < voff)
		return -EOVERFLOW;
	if (voff + len > view->length)
		return -ERANGE;
	if (!len)
		return 0;
	return view->ctx->ops->kernel_write(view, voff, len);
}

/**
 * codewp_kernel_write_addr() - a system call will write to memory
 * @ctx: context
 * @addr: first byte that a system call is about to write, in a view or not
 * @len: bytes
 *
 * One load when nothing is armed, no lock when nothing in the range is. Return: 0;
 * -EINVAL, -ENOMEM.
 */
int codewp_kernel_write_addr(struct codewp *ctx, const void *addr, size_t len)
{
	if (!ctx)
		return -EINVAL;
	return ctx->ops->kernel_write_addr(ctx, (uintptr_t)addr, len);
}

/**
 * codewp_armed_addr() - would codewp_kernel_write_addr() open a page
 * @ctx: context
 * @addr: first byte, in a view or not
 * @len: bytes
 *
 * For translators with several threads, which drop the blocks of such pages before
 * they are opened. Takes no lock; what others arm meanwhile may be missed. Return:
 * 1 or 0 (always, where the kernel can write armed pages); -EINVAL.
 */
int codewp_armed_addr(struct codewp *ctx, const void *addr, size_t len)
{
	if (!ctx)
		return -EINVAL;
	return ctx->ops->armed_addr(ctx, (uintptr_t)addr, len);
}

/* ---- dirty clients and counters ----------------------------------------- */

/**
 * codewp_clients() - enable dirty clients
 * @view: view
 * @clients: CODEWP_CLIENT_* that count from now on
 *
 * Return: 0; -EINVAL, -EOPNOTSUPP, -ENOMEM, -EINTR, -ESRCH.
 */
int codewp_clients(struct codewp_view *view, uint32_t clients)
{
	if (!view || (clients & ~CODEWP_CLIENT_ALL))
		return -EINVAL;
	if (!ctx_alive(view->ctx))
		return -ESRCH;
	return view->ctx->ops->clients(view, clients);
}

/**
 * codewp_harvest() - the dirty pages of a client
 * @view: view
 * @client: one CODEWP_CLIENT_*
 * @voff: first byte; page aligned
 * @len: bytes; page aligned, not zero
 * @bitmap: bit i is page i of the range; 64-bit words
 *
 * Get and clear. Return: dirty pages; -EINVAL, -EOVERFLOW, -ERANGE, -ENODATA,
 * -EOPNOTSUPP, -ESRCH.
 */
int64_t codewp_harvest(struct codewp_view *view, uint32_t client, uint64_t voff,
		       uint64_t len, uint64_t *bitmap)
{
	sigset_t saved;
	int64_t ret;

	if (!view || !bitmap)
		return -EINVAL;
	if (client != CODEWP_CLIENT_CODE && client != CODEWP_CLIENT_DISPLAY &&
	    client != CODEWP_CLIENT_MIGRATION)
		return -EINVAL;
	ret = check_range(view, voff, len);
	if (ret)
		return ret;
	if (!ctx_alive(view->ctx))
		return -ESRCH;
	ctx_lock(view->ctx, &saved);
	ret = view->ctx->ops->harvest(view, client, voff, len, bitmap);
	ctx_unlock(view->ctx, &saved);
	return ret;
}

/**
 * codewp_view_stats() - counters of a view
 * @view: view
 * @st: counts since it was made
 *
 * Return: 0; -EINVAL, -ESRCH.
 */
int codewp_view_stats(struct codewp_view *view, struct codewp_stats *st)
{
	sigset_t saved;
	int err;

	if (!view || !st)
		return -EINVAL;
	memset(st, 0, sizeof(*st));
	if (!ctx_alive(view->ctx))
		return -ESRCH;
	ctx_lock(view->ctx, &saved);
	err = view->ctx->ops->stats(view, st);
	ctx_unlock(view->ctx, &saved);
	return err;
}

/**
 * codewp_view_fd() - the view's descriptor
 * @view: view
 *
 * Return: the module's descriptor of it, the library's; -EOPNOTSUPP without.
 */
int codewp_view_fd(struct codewp_view *view)
{
	if (!view)
		return -EINVAL;
	return view->fd >= 0 ? view->fd : -EOPNOTSUPP;
}

/**
 * codewp_view_memfd() - the memory's descriptor
 * @view: view
 *
 * Return: the library's duplicate of its memfd; -EOPNOTSUPP: it has none, being
 * anonymous.
 */
int codewp_view_memfd(struct codewp_view *view)
{
	if (!view)
		return -EINVAL;
	return view->memfd >= 0 ? view->memfd : -EOPNOTSUPP;
}
