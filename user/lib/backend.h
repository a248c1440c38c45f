/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What a backend does for the library, and what the two backends without a
 * module (uffd, mprotect) do for soft.c, which holds all that they share.
 *
 * Arguments have been checked by lib.c: ranges lie in the view, are aligned
 * and not empty; flags are known.
 */
#ifndef LIBCODEWP_BACKEND_H
#define LIBCODEWP_BACKEND_H

#include "internal.h"

struct backend_ops {
	struct codewp_backend_info info;
	int (*probe)(char *why, size_t size);
	int (*open)(struct codewp *ctx);
	void (*close)(struct codewp *ctx);

	/* view is filled in but for ring, states, fd and id */
	int (*view_create)(struct codewp_view *view,
			   const struct codewp_view_opts *opts);
	/* The same without a memfd; NULL: the backend has no anonymous views */
	int (*view_anon)(struct codewp_view *view,
			 const struct codewp_view_opts *opts);
	/* fd is somebody's view: what is it; fd goes over into view_attach() */
	int (*view_info)(int fd, struct codewp_view_info *info);
	int (*view_attach)(struct codewp_view *view,
			   const struct codewp_view_opts *opts);
	/* alive is false in a forked child: memory goes, mappings are not touched */
	void (*view_destroy)(struct codewp_view *view, bool alive);

	int (*map)(struct codewp_view *view, void **addr, size_t len,
		   uint64_t voff, int prot, int flags);
	int (*unmap)(struct codewp *ctx, void *addr, size_t len);
	int (*protect)(struct codewp *ctx, void *addr, size_t len, int prot);
	int (*remap)(struct codewp *ctx, void **addr, size_t old_len,
		     size_t new_len, int flags, void *new_addr);

	int (*arm)(struct codewp_view *view, uint64_t voff, uint64_t len,
		   unsigned int mode, struct codewp_arm_result *res);
	int (*disarm)(struct codewp_view *view, uint64_t voff, uint64_t len);

	int (*thread_register)(struct codewp_thread *thread);
	void (*thread_unregister)(struct codewp_thread *thread);
	bool (*signal)(struct codewp *ctx, int sig, siginfo_t *info, void *uc);
	int sig;		/* the signal that tells a trap */

	int (*event_fd)(struct codewp_view *view, int fd);
	int (*kernel_write)(struct codewp_view *view, uint64_t voff, uint64_t len);
	int (*kernel_write_addr)(struct codewp *ctx, uintptr_t addr, size_t len);
	int (*armed_addr)(struct codewp *ctx, uintptr_t addr, size_t len);
	int (*clients)(struct codewp_view *view, uint32_t clients);
	int64_t (*harvest)(struct codewp_view *view, uint32_t client,
			   uint64_t voff, uint64_t len, uint64_t *bitmap);
	int (*stats)(struct codewp_view *view, struct codewp_stats *st);
};

/* How pages of one mapping are made to trap. 0 or -errno; lock held. */
struct soft_ops {
	/* [addr, addr + len) has just been mapped; before its first arm */
	int (*attach)(struct codewp *ctx, uintptr_t addr, size_t len);
	void (*detach)(struct codewp *ctx, uintptr_t addr, size_t len);
	int (*trap)(struct codewp *ctx, uintptr_t addr, size_t len, int prot);
	int (*pass)(struct codewp *ctx, uintptr_t addr, size_t len, int prot);
	/* trapping pages stay so under the user's own mprotect() */
	bool survives_mprotect;
	/* is this signal a write fault that trap() may have caused? */
	bool (*ours)(int sig, const siginfo_t *info);
};

extern const struct backend_ops kmod_backend, uffd_backend, mprotect_backend;

int soft_open(struct codewp *ctx, const struct soft_ops *soft);
void soft_close(struct codewp *ctx);
int soft_view_create(struct codewp_view *view, const struct codewp_view_opts *opts);
void soft_view_destroy(struct codewp_view *view, bool alive);
int soft_map(struct codewp_view *view, void **addr, size_t len, uint64_t voff,
	     int prot, int flags);
int soft_unmap(struct codewp *ctx, void *addr, size_t len);
int soft_protect(struct codewp *ctx, void *addr, size_t len, int prot);
int soft_remap(struct codewp *ctx, void **addr, size_t old_len, size_t new_len,
	       int flags, void *new_addr);
int soft_arm(struct codewp_view *view, uint64_t voff, uint64_t len,
	     unsigned int mode, struct codewp_arm_result *res);
int soft_disarm(struct codewp_view *view, uint64_t voff, uint64_t len);
int soft_thread_register(struct codewp_thread *thread);
void soft_thread_unregister(struct codewp_thread *thread);
bool soft_signal(struct codewp *ctx, int sig, siginfo_t *info, void *uc);
int soft_event_fd(struct codewp_view *view, int fd);
int soft_kernel_write(struct codewp_view *view, uint64_t voff, uint64_t len);
int soft_kernel_write_addr(struct codewp *ctx, uintptr_t addr, size_t len);
int soft_armed_addr(struct codewp *ctx, uintptr_t addr, size_t len);
int soft_clients(struct codewp_view *view, uint32_t clients);
int64_t soft_harvest(struct codewp_view *view, uint32_t client, uint64_t voff,
		     uint64_t len, uint64_t *bitmap);
int soft_stats(struct codewp_view *view, struct codewp_stats *st);

#define SOFT_BACKEND_OPS				\
	.close = soft_close,				\
	.view_create = soft_view_create,		\
	.view_destroy = soft_view_destroy,		\
	.map = soft_map,				\
	.unmap = soft_unmap,				\
	.protect = soft_protect,			\
	.remap = soft_remap,				\
	.arm = soft_arm,				\
	.disarm = soft_disarm,				\
	.thread_register = soft_thread_register,	\
	.thread_unregister = soft_thread_unregister,	\
	.signal = soft_signal,				\
	.event_fd = soft_event_fd,			\
	.kernel_write = soft_kernel_write,		\
	.kernel_write_addr = soft_kernel_write_addr,	\
	.armed_addr = soft_armed_addr,			\
	.clients = soft_clients,			\
	.harvest = soft_harvest,			\
	.stats = soft_stats

#endif /* LIBCODEWP_BACKEND_H */
