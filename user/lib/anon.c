// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Anonymous views: memory that the module makes, and that several processes may
 * hold by its descriptor. Checks arguments; what is done is the backend's.
 */
#include <fcntl.h>
#include <unistd.h>

#include "backend.h"

/**
 * codewp_view_anon() - make a view with memory of its own
 * @ctx: context
 * @out: the view
 * @length: bytes; page aligned, not zero
 * @opts: options or NULL; without share_ring
 *
 * Return: 0; -EOPNOTSUPP: not this backend, or an older module; -EINVAL, -EFBIG,
 * -ENOSPC, -ENOMEM, -EMFILE, -ESRCH.
 */
int codewp_view_anon(struct codewp *ctx, struct codewp_view **out, uint64_t length,
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
	if (!length || length & PAGE_MASK || o.share_ring)
		return -EINVAL;
	if (!ctx_alive(ctx))
		return -ESRCH;
	if (!ctx->ops->view_anon)
		return -EOPNOTSUPP;
	view = view_new(ctx, length, &o);
	if (!view)
		return -ENOMEM;
	return view_add(view, out, &o, ctx->ops->view_anon);
}

/**
 * codewp_view_attach() - take part in somebody else's anonymous view
 * @ctx: context
 * @out: the view
 * @fd: its descriptor, which stays the caller's
 *
 * Return: 0; -EOPNOTSUPP: not this backend; -EBADF; -EINVAL: not a view; -EPERM:
 * another process's view of a memfd, or a private one; -ENOMEM, -EMFILE, -ESRCH.
 */
int codewp_view_attach(struct codewp *ctx, struct codewp_view **out, int fd)
{
	struct codewp_view_opts o = { .sz = sizeof(o) };
	struct codewp_view_info info;
	struct codewp_view *view;
	int err;

	if (!ctx || !out)
		return -EINVAL;
	*out = NULL;
	if (!ctx_alive(ctx))
		return -ESRCH;
	if (!ctx->ops->view_attach)
		return -EOPNOTSUPP;
	err = ctx->ops->view_info(fd, &info);
	if (err)
		return err;
	o.ring_bytes = info.ring_bytes;
	o.cookie = info.cookie;
	o.private_view = info.flags & CODEWP_VIEW_PRIVATE;

	fd = fcntl(fd, F_DUPFD_CLOEXEC, ctx->min_fd);
	if (fd < 0)
		return -errno;
	view = view_new(ctx, info.length, &o);
	if (!view) {
		close(fd);
		return -ENOMEM;
	}
	view->fd = fd;
	return view_add(view, out, &o, ctx->ops->view_attach);
}
