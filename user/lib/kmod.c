// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The kmod backend: the library's calls on /dev/codewp. Page states, events and
 * counters are the kernel's; this file translates arguments and owns the
 * mappings of ring, states and thread areas.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend.h"
#include "upcall.h"

#define DEVICE "/dev/codewp"

static int device_open(char *why, size_t size)
{
	struct codewp_info info;
	int fd, err;

	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		err = -errno;
		if (err == -ENOENT)
			snprintf(why, size, "there is no " DEVICE
				 ": load the module (modprobe codewp, or insmod codewp.ko)");
		else if (err == -EACCES || err == -EPERM)
			snprintf(why, size, "no permission to open " DEVICE
				 " for reading and writing: run as root, or give this user the device");
		else if (err == -ENXIO || err == -ENODEV)
			snprintf(why, size, DEVICE
				 " is there, but no module behind it: load codewp.ko");
		else
			snprintf(why, size, DEVICE ": %s", codewp_strerror(err));
		return err;
	}
	memset(&info, 0, sizeof(info));
	if (ioctl(fd, CODEWP_IOC_INFO, &info)) {
		err = -errno;
		snprintf(why, size, DEVICE " does not answer as codewp does (%s): another "
			 "module owns it, or its version is not this library's",
			 strerrorname_np(-err));
		close(fd);
		return err;
	}
	if (info.version != CODEWP_API_VERSION || info.page_size != CODEWP_PAGE_SIZE ||
	    !(info.features & CODEWP_FEATURE_UPCALL)) {
		snprintf(why, size, "the module speaks version %u of its interface with "
			 "pages of %u bytes; this library needs version %u, 4096 bytes and "
			 "upcalls: load the module that came with it",
			 info.version, info.page_size, CODEWP_API_VERSION);
		close(fd);
		return -EPROTO;
	}
	return fd;
}

static int kmod_probe(char *why, size_t size)
{
	int fd = device_open(why, size);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int kmod_open(struct codewp *ctx)
{
	char why[256];
	int fd = device_open(why, sizeof(why));

	if (fd < 0)
		return fd;
	fd = fd_settle(ctx, fd);
	if (fd < 0)
		return fd;
	ctx->fd = fd;
	return 0;
}

static void kmod_close(struct codewp *ctx)
{
}

/* ---- views -------------------------------------------------------------- */

static int map_ring(struct codewp_view *view, uint32_t bytes)
{
	struct ring *r = calloc(1, sizeof(*r));
	void *p;
	int err;

	if (!r)
		return -ENOMEM;
	r->map_bytes = CODEWP_RING_DATA + ring_bytes_check(bytes);
	r->refs = 1;
	r->event_fd = -1;
	p = mmap(NULL, r->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, view->fd,
		 CODEWP_MMAP_RING);
	if (p == MAP_FAILED) {
		err = -errno;
		free(r);
		return err;
	}
	r->hdr = p;
	view->ring = r;
	return 0;
}

/* The view's descriptor and what the library maps of it; closes fd on an error. */
static int map_view(struct codewp_view *view, int fd, const struct codewp_view_opts *opts)
{
	size_t bytes = (view->pages * sizeof(uint32_t) + PAGE_MASK) & ~PAGE_MASK;
	void *p;
	int err;

	p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, CODEWP_MMAP_STATE);
	if (p == MAP_FAILED) {
		err = -errno;
		close(fd);
		return err;
	}
	view->fd = fd;
	view->states = p;
	view->states_bytes = bytes;
	if (opts->share_ring) {
		view->ring = ring_get(opts->share_ring->ring);
		return 0;
	}
	err = map_ring(view, opts->ring_bytes);
	if (!err)
		return 0;
	munmap(view->states, view->states_bytes);
	view->states = NULL;
	close(fd);
	view->fd = -1;
	return err;
}

static int kmod_view_create(struct codewp_view *view, const struct codewp_view_opts *opts)
{
	struct codewp_view_create vc = {
		.flags = opts->private_view ? CODEWP_VIEW_PRIVATE : 0,
		.memfd = view->memfd,
		.offset = view->offset,
		.length = view->length,
		.ring_fd = opts->share_ring ? opts->share_ring->fd : -1,
		.ring_bytes = opts->ring_bytes,
		.clients = opts->clients,
		.cookie = view->cookie,
	};
	int fd;

	fd = ioctl(view->ctx->fd, CODEWP_IOC_VIEW, &vc);
	if (fd < 0)
		return -errno;
	fd = fd_settle(view->ctx, fd);
	if (fd < 0)
		return fd;
	view->id = vc.id;
	return map_view(view, fd, opts);
}

static int kmod_view_anon(struct codewp_view *view, const struct codewp_view_opts *opts)
{
	struct codewp_anon a = {
		.length = view->length,
		.flags = opts->private_view ? CODEWP_VIEW_PRIVATE : 0,
		.clients = opts->clients,
		.ring_bytes = opts->ring_bytes,
		.cookie = view->cookie,
	};
	int fd, err;

	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	fd = fd_settle(view->ctx, fd);
	if (fd < 0)
		return fd;
	if (ioctl(fd, CODEWP_IOC_ANON, &a)) {
		/* A module from before there were anonymous views. */
		err = errno == ENOTTY ? -EOPNOTSUPP : -errno;
		close(fd);
		return err;
	}
	view->id = a.id;
	return map_view(view, fd, opts);
}

static int kmod_view_info(int fd, struct codewp_view_info *info)
{
	memset(info, 0, sizeof(*info));
	if (ioctl(fd, CODEWP_IOC_VIEW_INFO, info))
		return errno == ENOTTY ? -EINVAL : -errno;
	return 0;
}

static int kmod_view_attach(struct codewp_view *view, const struct codewp_view_opts *opts)
{
	struct codewp_view_info info;
	int fd = view->fd;
	int err = kmod_view_info(fd, &info);

	view->fd = -1;
	if (err) {
		close(fd);
		return err;
	}
	view->id = info.id;
	view->attached = true;
	return map_view(view, fd, opts);
}

static void kmod_view_destroy(struct codewp_view *view, bool alive)
{
	/* Mappings outlive the view; they must not trap for nobody. */
	if (alive && !view->attached)
		view->ctx->ops->disarm(view, 0, view->length);
}

/* ---- mappings: the kernel follows them by itself ------------------------ */

static int kmod_map(struct codewp_view *view, void **addr, size_t len, uint64_t voff,
		    int prot, int flags)
{
	void *p = mmap(*addr, len, prot, MAP_SHARED | flags, view->fd,
		       CODEWP_MMAP_DATA + voff);

	if (p == MAP_FAILED)
		return -errno;
	*addr = p;
	return 0;
}

static int kmod_unmap(struct codewp *ctx, void *addr, size_t len)
{
	return munmap(addr, len) ? -errno : 0;
}

static int kmod_protect(struct codewp *ctx, void *addr, size_t len, int prot)
{
	return mprotect(addr, len, prot) ? -errno : 0;
}

static int kmod_remap(struct codewp *ctx, void **addr, size_t old_len, size_t new_len,
		      int flags, void *new_addr)
{
	void *p = mremap(*addr, old_len, new_len, flags, new_addr);

	if (p == MAP_FAILED)
		return -errno;
	*addr = p;
	return 0;
}

/* ---- arm, disarm -------------------------------------------------------- */

static int arm_ioctl(struct codewp_view *view, unsigned long cmd, uint64_t voff,
		     uint64_t len, uint32_t flags, struct codewp_arm_result *res)
{
	/* A signal interrupts the kernel between pages; what is left goes on. */
	while (res->done < len) {
		struct codewp_arm arm = {
			.offset = voff + res->done,
			.length = len - res->done,
			.flags = flags,
		};
		int err = ioctl(view->fd, cmd, &arm) ? -errno : 0;

		res->done += arm.done;
		res->foreign += arm.foreign;
		if (err && err != -EINTR)
			return err;
		if (!err && !arm.done)
			return -EIO;
	}
	return 0;
}

static int kmod_arm(struct codewp_view *view, uint64_t voff, uint64_t len,
		    unsigned int mode, struct codewp_arm_result *res)
{
	return arm_ioctl(view, CODEWP_IOC_ARM, voff, len,
			 mode == CODEWP_KEEP ? CODEWP_ARM_KEEP :
			 mode == CODEWP_HOLD ? CODEWP_ARM_HOLD :
			 mode == CODEWP_STOP ? CODEWP_ARM_STOP : CODEWP_ARM_OPEN, res);
}

static int kmod_disarm(struct codewp_view *view, uint64_t voff, uint64_t len)
{
	struct codewp_arm_result res = { 0, 0 };

	return arm_ioctl(view, CODEWP_IOC_DISARM, voff, len, 0, &res);
}

/* ---- threads ------------------------------------------------------------ */

static int kmod_thread_register(struct codewp_thread *t)
{
	struct codewp_thread_create tc = {
		.flags = t->opts.signal ? CODEWP_THREAD_SIGNAL : CODEWP_THREAD_UPCALL,
		.ring_fd = -1,
		.code_start = t->opts.code_start,
		.code_end = t->opts.code_end,
	};
	int err = upcall_alloc(t);

	if (err)
		return err;
	/* The kernel knows no default; the end of user space is one page lower. */
	if (!tc.code_start && !tc.code_end)
		tc.code_end = UPCALL_EVERYWHERE;
	if (t->opts.kick) {
		tc.flags |= CODEWP_THREAD_KICK;
		tc.ring_fd = t->opts.kick->fd;
	}
	if (t->opts.raw_handler) {
		tc.handler = (uintptr_t)t->opts.raw_handler;
		tc.stack = t->opts.raw_stack;
		tc.arg = t->opts.raw_arg;
	} else if (t->opts.kick || !t->opts.signal) {
		tc.handler = (uintptr_t)upcall_entry;
		tc.stack = upcall_stack(t);
		tc.arg = (uintptr_t)t;
	}
	t->fd = ioctl(t->ctx->fd, CODEWP_IOC_THREAD, &tc);
	if (t->fd < 0) {
		err = -errno;
		goto free;
	}
	t->fd = fd_settle(t->ctx, t->fd);
	if (t->fd < 0) {
		err = t->fd;
		goto free;
	}
	if (mmap(t->area, CODEWP_PAGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, t->fd, 0) != t->area)
		err = -errno;
	/*
	 * The mapping holds the registration. A number would belong to the table
	 * of the thread, which need not be that of who unregisters it: a child of
	 * vfork has its own. And thousands of threads need no numbers.
	 */
	close(t->fd);
	t->fd = -1;
	if (!err)
		return 0;
free:
	upcall_free(t);
	return err;
}

static void kmod_thread_unregister(struct codewp_thread *t)
{
	upcall_free(t);
}

/* ---- events, dirty clients, counters ------------------------------------ */

static int kmod_event_fd(struct codewp_view *view, int fd)
{
	struct codewp_eventfd ef = { .fd = fd };

	return ioctl(view->fd, CODEWP_IOC_EVENTFD, &ef) ? -errno : 0;
}

static int kmod_kernel_write(struct codewp_view *view, uint64_t voff, uint64_t len)
{
	return 0;
}

static int kmod_kernel_write_addr(struct codewp *ctx, uintptr_t addr, size_t len)
{
	return 0;
}

static int kmod_clients(struct codewp_view *view, uint32_t clients)
{
	struct codewp_clients c = { .clients = clients };

	return ioctl(view->fd, CODEWP_IOC_CLIENTS, &c) ? -errno : 0;
}

static int64_t kmod_harvest(struct codewp_view *view, uint32_t client, uint64_t voff,
			    uint64_t len, uint64_t *bitmap)
{
	uint64_t done = 0;
	int64_t count = 0;

	while (done < len) {
		/* An interrupted call stops at a whole word of the bitmap. */
		struct codewp_dirty d = {
			.offset = voff + done,
			.length = len - done,
			.bitmap = (uintptr_t)(bitmap + (done >> PAGE_SHIFT) / 64),
			.client = client,
			.flags = CODEWP_DIRTY_CLEAR,
		};
		int err = ioctl(view->fd, CODEWP_IOC_DIRTY, &d) ? -errno : 0;

		done += d.done;
		count += d.count;
		if (err && err != -EINTR)
			return err;
		if (!err && !d.done)
			return -EIO;
	}
	return count;
}

static int kmod_stats(struct codewp_view *view, struct codewp_stats *st)
{
	struct codewp_stat s;

	memset(&s, 0, sizeof(s));
	if (ioctl(view->fd, CODEWP_IOC_STAT, &s))
		return -errno;
	st->traps = s.traps;
	st->upcalls = s.upcalls;
	st->signals = s.signals;
	st->events = s.events;
	st->dropped = s.dropped;
	st->kernel_writes = s.kernel_writes;
	st->arms = s.arms;
	st->disarms = s.disarms;
	st->armed = s.armed;
	st->foreign = s.foreign;
	return 0;
}

const struct backend_ops kmod_backend = {
	.info = {
		.backend = CODEWP_KMOD,
		.name = "kmod",
		.can = CODEWP_CAN_UPCALL | CODEWP_CAN_KERNEL_WRITES |
		       CODEWP_CAN_ALIASES | CODEWP_CAN_NO_SPLIT |
		       CODEWP_CAN_MPROTECT | CODEWP_CAN_DIRTY | CODEWP_CAN_RING |
		       CODEWP_CAN_KVM,
		.cannot = "",
	},
	.probe = kmod_probe,
	.open = kmod_open,
	.close = kmod_close,
	.view_create = kmod_view_create,
	.view_anon = kmod_view_anon,
	.view_info = kmod_view_info,
	.view_attach = kmod_view_attach,
	.view_destroy = kmod_view_destroy,
	.map = kmod_map,
	.unmap = kmod_unmap,
	.protect = kmod_protect,
	.remap = kmod_remap,
	.arm = kmod_arm,
	.disarm = kmod_disarm,
	.thread_register = kmod_thread_register,
	.thread_unregister = kmod_thread_unregister,
	.signal = upcall_signal,
	.sig = SIGSEGV,
	.event_fd = kmod_event_fd,
	.kernel_write = kmod_kernel_write,
	.kernel_write_addr = kmod_kernel_write_addr,
	.armed_addr = kmod_kernel_write_addr,	/* nothing is in the kernel's way */
	.clients = kmod_clients,
	.harvest = kmod_harvest,
	.stats = kmod_stats,
};
