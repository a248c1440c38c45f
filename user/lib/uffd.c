// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The uffd backend: userfaultfd write protection, told to the writing thread
 * itself by SIGBUS. Called by soft.c under the context's lock; the table of
 * mappings and the page states are soft.c's.
 *
 * Pages that are not there yet need no special care: on shmem the kernel leaves
 * a marker in the empty page-table entry (UFFD_FEATURE_WP_HUGETLBFS_SHMEM), also
 * when the page is swapped out or zapped.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backend.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define FEATURES (UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_SIGBUS | \
		  UFFD_FEATURE_WP_HUGETLBFS_SHMEM)

static int uffd_new(char *why, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };
	int fd, err;

	/* The kernel's own faults end in EFAULT with SIGBUS mode anyway. */
	fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fd < 0) {
		err = -errno;
		if (err == -ENOSYS)
			snprintf(why, size,
				 "this kernel has no userfaultfd (CONFIG_USERFAULTFD), or a filter hides it");
		else if (err == -EPERM)
			snprintf(why, size,
				 "userfaultfd is forbidden here: run as root, set "
				 "vm.unprivileged_userfaultfd=1, or allow it in the "
				 "seccomp profile");
		else if (err == -EINVAL)
			snprintf(why, size,
				 "userfaultfd of this kernel has no user-mode-only mode: "
				 "Linux 5.11 or later is needed");
		else
			snprintf(why, size, "userfaultfd: %s", codewp_strerror(err));
		return err;
	}
	if (ioctl(fd, UFFDIO_API, &api)) {
		err = -errno;
		close(fd);
		snprintf(why, size,
			 "userfaultfd cannot write-protect shared memory here: Linux 5.19 "
			 "or later with CONFIG_PTE_MARKER_UFFD_WP is needed");
		return err == -EINVAL ? -EOPNOTSUPP : err;
	}
	return fd;
}

static int uffd_probe(char *why, size_t size)
{
	int fd = uffd_new(why, size);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int uffd_attach(struct codewp *ctx, uintptr_t addr, size_t len)
{
	struct uffdio_register reg = {
		.range = { .start = addr, .len = len },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return ioctl(ctx->fd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

static void uffd_detach(struct codewp *ctx, uintptr_t addr, size_t len)
{
	struct uffdio_range range = { .start = addr, .len = len };

	/* What is not there any more need not be detached. */
	(void)ioctl(ctx->fd, UFFDIO_UNREGISTER, &range);
}

static int uffd_wp(struct codewp *ctx, uintptr_t addr, size_t len, uint64_t mode)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = addr, .len = len },
		.mode = mode,
	};

	while (ioctl(ctx->fd, UFFDIO_WRITEPROTECT, &wp))
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	return 0;
}

static int uffd_trap(struct codewp *ctx, uintptr_t addr, size_t len, int prot)
{
	return uffd_wp(ctx, addr, len, UFFDIO_WRITEPROTECT_MODE_WP);
}

static int uffd_pass(struct codewp *ctx, uintptr_t addr, size_t len, int prot)
{
	if (!ctx_alive(ctx))
		return 0;	/* fork() left the protection to the parent */
	return uffd_wp(ctx, addr, len, 0);
}

static bool uffd_ours(int sig, const siginfo_t *info)
{
	return sig == SIGBUS && info->si_code == BUS_ADRERR;
}

static const struct soft_ops uffd_soft = {
	.attach = uffd_attach,
	.detach = uffd_detach,
	.trap = uffd_trap,
	.pass = uffd_pass,
	.ours = uffd_ours,
	.survives_mprotect = true,
};

static int uffd_open(struct codewp *ctx)
{
	char why[256];
	int fd = uffd_new(why, sizeof(why));

	if (fd < 0)
		return fd;
	fd = fd_settle(ctx, fd);
	if (fd < 0)
		return fd;
	ctx->fd = fd;
	return soft_open(ctx, &uffd_soft);
}

const struct backend_ops uffd_backend = {
	.info = {
		.backend = CODEWP_UFFD,
		.name = "uffd",
		.can = CODEWP_CAN_NO_SPLIT | CODEWP_CAN_MPROTECT | CODEWP_CAN_RING,
		.cannot =
"upcall: a trap is a SIGBUS, with a signal frame\n"
"kernel writes: a system call that writes to an armed page fails with EFAULT; "
	"call codewp_kernel_write_addr() first\n"
"aliases: mappings that codewp_map() did not make, and other processes', do not trap\n"
"dirty: writes to pages that are not armed are not seen, so there is only the CODE client\n"
"kvm: a KVM guest that writes to an armed page fails, or is not seen\n",
	},
	.probe = uffd_probe,
	.open = uffd_open,
	.sig = SIGBUS,
	SOFT_BACKEND_OPS,
};
