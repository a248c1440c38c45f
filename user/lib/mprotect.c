// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The mprotect backend: an armed page is read-only in every mapping that the
 * library knows, and a store raises SIGSEGV. Works everywhere; what it cannot
 * keep is below. Called by soft.c under the context's lock.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "backend.h"

static int mprotect_probe(char *why, size_t size)
{
	snprintf(why, size, "%s", "");
	return 0;
}

static int mprotect_attach(struct codewp *ctx, uintptr_t addr, size_t len)
{
	return 0;
}

static void mprotect_detach(struct codewp *ctx, uintptr_t addr, size_t len)
{
}

static int mprotect_trap(struct codewp *ctx, uintptr_t addr, size_t len, int prot)
{
	if (!(prot & PROT_WRITE))
		return 0;
	return mprotect((void *)addr, len, prot & ~PROT_WRITE) ? -errno : 0;
}

static int mprotect_pass(struct codewp *ctx, uintptr_t addr, size_t len, int prot)
{
	if (!(prot & PROT_WRITE))
		return 0;
	return mprotect((void *)addr, len, prot) ? -errno : 0;
}

static bool mprotect_ours(int sig, const siginfo_t *info)
{
	return sig == SIGSEGV && info->si_code == SEGV_ACCERR;
}

static const struct soft_ops mprotect_soft = {
	.attach = mprotect_attach,
	.detach = mprotect_detach,
	.trap = mprotect_trap,
	.pass = mprotect_pass,
	.ours = mprotect_ours,
	.survives_mprotect = false,
};

static int mprotect_open(struct codewp *ctx)
{
	return soft_open(ctx, &mprotect_soft);
}

const struct backend_ops mprotect_backend = {
	.info = {
		.backend = CODEWP_MPROTECT,
		.name = "mprotect",
		.can = CODEWP_CAN_RING,
		.cannot =
"upcall: a trap is a SIGSEGV, with a signal frame\n"
"kernel writes: a system call that writes to an armed page fails with EFAULT; "
	"call codewp_kernel_write_addr() first\n"
"aliases: mappings that codewp_map() did not make, and other processes', do not trap\n"
"no split: every border of armed pages splits a mapping (vm.max_map_count)\n"
"mprotect: the program's own mprotect(PROT_WRITE) disarms silently; use codewp_protect()\n"
"dirty: writes to pages that are not armed are not seen, so there is only the CODE client\n"
"kvm: a KVM guest that writes to an armed page fails, or is not seen\n",
	},
	.probe = mprotect_probe,
	.open = mprotect_open,
	.sig = SIGSEGV,
	SOFT_BACKEND_OPS,
};
