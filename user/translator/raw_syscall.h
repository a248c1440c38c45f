/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * System calls without libc: a result or -errno, errno is not touched.
 */
#ifndef CODEWP_RAW_SYSCALL_H
#define CODEWP_RAW_SYSCALL_H

#include <stdint.h>

#define ERESTARTSYS 512	/* to be made again after a signal: it has not happened */

static inline long raw_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/*
 * The same for the guest, which may block: when *stop is set before the kernel
 * is entered, it returns -ERESTARTSYS instead. The master signal handler closes
 * the gap between test and entry by guest_syscall_test ... guest_syscall_insn. A
 * signal that interrupted the call leads to guest_syscall_insn, too, if the call is
 * to be restarted, and else to guest_syscall_done.
 */
long guest_syscall(const volatile uint32_t *stop, long nr, const long args[6]);
extern const char guest_syscall_test[], guest_syscall_insn[], guest_syscall_done[],
		  guest_syscall_stopped[];

/* copy.S: bytes not copied; the handler goes from insn to fault. */
uint64_t guest_copy(void *dst, const void *src, uint64_t len);
extern const char guest_copy_insn[], guest_copy_fault[];

#endif /* CODEWP_RAW_SYSCALL_H */
