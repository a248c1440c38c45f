/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The guest's seccomp filters.
 */
#ifndef CODEWP_SECCOMP_H
#define CODEWP_SECCOMP_H

#include "translator.h"

enum seccomp_verdict {
	SECCOMP_GO,		/* make the call */
	SECCOMP_DONE,		/* this is its result */
	SECCOMP_TRAPPED,	/* a signal takes its place */
};

/* cpu->seccomp is set. regs.rip is behind the call, rax its number. */
enum seccomp_verdict seccomp_call(struct cpu *cpu, uint32_t nr, const long args[6],
				  long *ret);
/* prctl(PR_GET_SECCOMP) */
long seccomp_mode(const struct cpu *cpu);
/* prctl(PR_SET_SECCOMP, mode, filter) and seccomp(op, flags, args) */
long seccomp_prctl(struct cpu *cpu, uint64_t mode, uint64_t filter);
long seccomp_set(struct cpu *cpu, uint32_t op, uint32_t flags, uint64_t args);

#endif /* CODEWP_SECCOMP_H */
