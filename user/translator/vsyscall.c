// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The vsyscall page: three calls at fixed addresses of the kernel's half, which
 * static programs of long ago jump to. The kernel makes them out of the fault
 * that fetching an instruction there is; so does this.
 *
 * Owns nothing; takes no lock.
 */
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VSYSCALL	0xffffffffff600000UL
#define VSYSCALL_END	0xffffffffff600c00UL

/* Does this kernel have the page? Then a line of the map says so. */
static bool present(void)
{
	static const char line[] = "\nffffffffff600000-";
	static int known;	/* 1: yes, 2: no */
	size_t hit = 0;
	char buf[4096];
	ssize_t n;
	int fd;

	if (__atomic_load_n(&known, __ATOMIC_RELAXED))
		return __atomic_load_n(&known, __ATOMIC_RELAXED) == 1;
	fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	while (hit < sizeof(line) - 1 && (n = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n && hit < sizeof(line) - 1; i++)
			hit = buf[i] == line[hit] ? hit + 1 : buf[i] == line[0];
	close(fd);
	__atomic_store_n(&known, hit == sizeof(line) - 1 ? 1 : 2, __ATOMIC_RELAXED);
	return hit == sizeof(line) - 1;
}

/**
 * vsyscall_call() - the guest has jumped to cpu->regs.rip, and that was a fault
 *
 * Return: true when it was one of the calls: it has been made, or a signal has
 * taken its place.
 */
bool vsyscall_call(struct cpu *cpu)
{
	static const uint16_t calls[] = { SYS_gettimeofday, SYS_time, SYS_getcpu };
	uint64_t *r = cpu->regs.r, rip = cpu->regs.rip, ret;
	long args[6] = { r[7], r[6], r[2], r[10], r[8], r[9] }, made;
	uint32_t nr;

	if (rip < VSYSCALL || rip >= VSYSCALL_END || rip & 0x3ff ||
	    cpu->fault_sig != SIGSEGV || !present())
		return false;
	nr = calls[(rip - VSYSCALL) >> 10];
	if (guest_read(&ret, r[4], sizeof(ret)))
		return false;
	if (cpu->seccomp) {
		r[0] = nr;
		switch (seccomp_call(cpu, nr, args, &made)) {
		case SECCOMP_TRAPPED:
			return true;
		case SECCOMP_DONE:
			goto done;
		case SECCOMP_GO:
			break;
		}
	}
	if (nr == SYS_getcpu)
		args[2] = 0;
	for (int i = 0; i < (nr == SYS_time ? 1 : 2); i++)
		mem_kernel_write(args[i], nr == SYS_gettimeofday ? 16 : 8);
	made = raw_syscall(nr, args[0], args[1], args[2], 0, 0, 0);
	kwrite_end(cpu);
	/* Where natively the page's own code would have faulted. */
	if (made == -EFAULT) {
		cpu->fault_addr = args[0];
		return false;
	}
done:
	r[0] = made;
	r[4] += 8;
	cpu->regs.rip = ret;
	return true;
}
