/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The upcall's frame, shared by upcall.c and upcall.S. One per thread, between
 * the upcall's stack and the area that the kernel writes:
 *
 *	guard page | stack | struct upcall_frame | struct codewp_area (one page)
 *
 * so that all of it is at a fixed distance from the stack pointer that the
 * kernel sets.
 */
#ifndef LIBCODEWP_UPCALL_H
#define LIBCODEWP_UPCALL_H

#define UPCALL_REGS	0	/* struct codewp_regs, 144 bytes */
#define UPCALL_XSAVE	144	/* where the vector state goes, 64 byte aligned */
#define UPCALL_MASK	152	/* its components */
#define UPCALL_KIND	160	/* how */
#define UPCALL_THREAD	168
#define UPCALL_FRAME	176

#define UPCALL_FXSAVE	0
#define UPCALL_XSAVE_	1
#define UPCALL_XSAVEC	2

/* in struct codewp_area */
#define AREA_BUSY	0
#define AREA_IP		8
#define AREA_SP		16
#define AREA_FLAGS	24
#define AREA_DI		32

#ifndef __ASSEMBLER__

#include "internal.h"

#define UPCALL_EVERYWHERE ((1UL << 47) - CODEWP_PAGE_SIZE)

struct upcall_frame {
	struct codewp_regs regs;
	void *xsave;
	uint64_t mask;
	uint64_t kind;
	struct codewp_thread *thread;
};

void upcall_entry(void);			/* upcall.S */
void upcall_run(struct upcall_frame *frame);	/* called by it */

/* Stack, frame, vector save area, and room for t->area. 0 or -errno. */
int upcall_alloc(struct codewp_thread *t);
void upcall_free(struct codewp_thread *t);
uintptr_t upcall_stack(const struct codewp_thread *t);
bool upcall_signal(struct codewp *ctx, int sig, siginfo_t *info, void *uc);

#endif /* __ASSEMBLER__ */
#endif /* LIBCODEWP_UPCALL_H */
