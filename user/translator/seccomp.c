// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The guest's seccomp filters, kept and evaluated here.
 *
 * The kernel must not have them: it would hold the runtime's own calls against
 * them, which the guest has never heard of. So each call of the guest, and only
 * those, is shown to the thread's filters before it is made. What a filter sees
 * is what it would see natively: number, arguments, and the guest's instruction
 * pointer.
 *
 * Owns: the filters, a tree whose nodes never change: each thread has its newest
 * (cpu->seccomp), older ones are reached from there. Reference counts, and
 * everybody's cpu->seccomp, are written with rt_lock held; a thread reads its own
 * without, since what another one puts there leads to all that was there before.
 */
#include "seccomp.h"
#include "fd.h"
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_TOTAL	32768	/* instructions of all of a thread's filters */
#define PENALTY		4	/* and so many more for each filter */
#ifndef SYS_SECCOMP
#define SYS_SECCOMP	1	/* si_code */
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

struct seccomp {
	struct seccomp *prev;
	uint32_t refs;		/* threads, and newer filters */
	uint32_t len;		/* 0: strict mode, which has no program */
	struct sock_filter insn[];
};

static void put(struct seccomp *f)
{
	while (f && !--f->refs) {
		struct seccomp *prev = f->prev;

		free(f);
		f = prev;
	}
}

static struct seccomp *get(struct seccomp *f)
{
	if (f)
		f->refs++;
	return f;
}

static bool is_above(const struct seccomp *old, const struct seccomp *f)
{
	for (; f; f = f->prev)
		if (f == old)
			return true;
	return !old;
}

void seccomp_clone(struct cpu *cpu, const struct cpu *from)
{
	cpu->seccomp = get(from->seccomp);
}

/* It was made before others got a filter, and was not among the threads then. */
void seccomp_thread_start(struct cpu *cpu)
{
	struct seccomp *f = cpu->proc->synced;

	if (!f || f == cpu->seccomp || !is_above(cpu->seccomp, f))
		return;
	f->refs++;
	put(cpu->seccomp);
	__atomic_store_n(&cpu->seccomp, f, __ATOMIC_RELEASE);
}

void seccomp_thread_exit(struct cpu *cpu)
{
	put(cpu->seccomp);
	cpu->seccomp = NULL;
}

/* ---- programs ------------------------------------------------------------ */

/* The instructions that a filter may have: less than a socket's filter. */
static bool known(const struct sock_filter *i)
{
	switch (i->code) {
	case BPF_LD | BPF_W | BPF_ABS:
		return i->k < sizeof(struct seccomp_data) && !(i->k & 3);
	case BPF_LD | BPF_W | BPF_LEN:
	case BPF_LDX | BPF_W | BPF_LEN:
	case BPF_LD | BPF_IMM:
	case BPF_LDX | BPF_IMM:
	case BPF_RET | BPF_K:
	case BPF_RET | BPF_A:
	case BPF_MISC | BPF_TAX:
	case BPF_MISC | BPF_TXA:
	case BPF_ALU | BPF_NEG:
	case BPF_ALU | BPF_ADD | BPF_K:
	case BPF_ALU | BPF_ADD | BPF_X:
	case BPF_ALU | BPF_SUB | BPF_K:
	case BPF_ALU | BPF_SUB | BPF_X:
	case BPF_ALU | BPF_MUL | BPF_K:
	case BPF_ALU | BPF_MUL | BPF_X:
	case BPF_ALU | BPF_DIV | BPF_X:
	case BPF_ALU | BPF_AND | BPF_K:
	case BPF_ALU | BPF_AND | BPF_X:
	case BPF_ALU | BPF_OR | BPF_K:
	case BPF_ALU | BPF_OR | BPF_X:
	case BPF_ALU | BPF_XOR | BPF_K:
	case BPF_ALU | BPF_XOR | BPF_X:
	case BPF_ALU | BPF_LSH | BPF_X:
	case BPF_ALU | BPF_RSH | BPF_X:
	case BPF_JMP | BPF_JA:
	case BPF_JMP | BPF_JEQ | BPF_K:
	case BPF_JMP | BPF_JEQ | BPF_X:
	case BPF_JMP | BPF_JGE | BPF_K:
	case BPF_JMP | BPF_JGE | BPF_X:
	case BPF_JMP | BPF_JGT | BPF_K:
	case BPF_JMP | BPF_JGT | BPF_X:
	case BPF_JMP | BPF_JSET | BPF_K:
	case BPF_JMP | BPF_JSET | BPF_X:
		return true;
	case BPF_ALU | BPF_DIV | BPF_K:
		return i->k;
	case BPF_ALU | BPF_LSH | BPF_K:
	case BPF_ALU | BPF_RSH | BPF_K:
		return i->k < 32;
	case BPF_LD | BPF_MEM:
	case BPF_LDX | BPF_MEM:
	case BPF_ST:
	case BPF_STX:
		return i->k < BPF_MEMWORDS;
	}
	return false;
}

/*
 * Jumps go forward and stay inside, the end is a return, and no word of memory
 * is read that no way there has written: written[i] has the words that are
 * written on every way to instruction i. One pass, since jumps go forward only.
 */
static bool valid(const struct sock_filter *insn, uint32_t len, uint16_t *written)
{
	uint16_t now = 0;

	memset(written, 0xff, len * sizeof(*written));
	for (uint32_t pc = 0; pc < len; pc++) {
		const struct sock_filter *i = &insn[pc];

		if (!known(i))
			return false;
		now &= written[pc];
		switch (i->code) {
		case BPF_ST:
		case BPF_STX:
			now |= 1U << i->k;
			break;
		case BPF_LD | BPF_MEM:
		case BPF_LDX | BPF_MEM:
			if (!(now & 1U << i->k))
				return false;
			break;
		case BPF_JMP | BPF_JA:
			if (i->k >= len - pc - 1)
				return false;
			written[pc + 1 + i->k] &= now;
			now = 0xffff;
			break;
		default:
			if (BPF_CLASS(i->code) != BPF_JMP)
				break;
			if (pc + i->jt + 1 >= len || pc + i->jf + 1 >= len)
				return false;
			written[pc + 1 + i->jt] &= now;
			written[pc + 1 + i->jf] &= now;
			now = 0xffff;
		}
	}
	return BPF_CLASS(insn[len - 1].code) == BPF_RET;
}

static uint32_t alu(uint16_t code, uint32_t a, uint32_t b)
{
	switch (BPF_OP(code)) {
	case BPF_ADD:
		return a + b;
	case BPF_SUB:
		return a - b;
	case BPF_MUL:
		return a * b;
	case BPF_DIV:
		return a / b;
	case BPF_AND:
		return a & b;
	case BPF_OR:
		return a | b;
	case BPF_XOR:
		return a ^ b;
	case BPF_LSH:
		return a << (b & 31);
	case BPF_RSH:
		return a >> (b & 31);
	}
	return -a;	/* BPF_NEG */
}

static bool taken(uint16_t code, uint32_t a, uint32_t b)
{
	switch (BPF_OP(code)) {
	case BPF_JEQ:
		return a == b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	}
	return a & b;	/* BPF_JSET */
}

static uint32_t run(const struct seccomp *f, const struct seccomp_data *data)
{
	uint32_t a = 0, x = 0, mem[BPF_MEMWORDS] = { 0 };

	for (const struct sock_filter *i = f->insn;; i++) {
		uint32_t b = BPF_SRC(i->code) == BPF_X ? x : i->k;

		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
			if (BPF_MODE(i->code) == BPF_ABS)
				memcpy(&a, (const char *)data + i->k, sizeof(a));
			else
				a = BPF_MODE(i->code) == BPF_MEM ? mem[i->k] :
				    BPF_MODE(i->code) == BPF_LEN ? sizeof(*data) : i->k;
			break;
		case BPF_LDX:
			x = BPF_MODE(i->code) == BPF_MEM ? mem[i->k] :
			    BPF_MODE(i->code) == BPF_LEN ? sizeof(*data) : i->k;
			break;
		case BPF_ST:
			mem[i->k] = a;
			break;
		case BPF_STX:
			mem[i->k] = x;
			break;
		case BPF_ALU:
			/* Natively, too, the program ends there, with 0. */
			if (BPF_OP(i->code) == BPF_DIV && !b)
				return 0;
			a = alu(i->code, a, b);
			break;
		case BPF_JMP:
			if (BPF_OP(i->code) == BPF_JA)
				i += i->k;
			else
				i += taken(i->code, a, b) ? i->jt : i->jf;
			break;
		case BPF_RET:
			return BPF_RVAL(i->code) == BPF_A ? a : i->k;
		default:
			if (BPF_MISCOP(i->code) == BPF_TAX)
				x = a;
			else
				a = x;
		}
	}
}

/* ---- one call ------------------------------------------------------------ */

/* What happens when the thread, or the last one, is to end by this signal. */
static _Noreturn void kill_thread(struct cpu *cpu, int sig)
{
	if (cpu->proc->threads == 1)
		signal_die(sig);
	thread_exit(cpu, sig);
}

static enum seccomp_verdict trap(struct cpu *cpu, uint32_t nr, uint32_t data)
{
	siginfo_t *info = &cpu->fault_info;

	memset(info, 0, sizeof(*info));
	info->si_signo = SIGSYS;
	info->si_code = SYS_SECCOMP;
	info->si_errno = data;
	info->si_call_addr = (void *)cpu->regs.rip;
	info->si_syscall = nr;
	info->si_arch = AUDIT_ARCH_X86_64;
	cpu->fault_sig = SIGSYS;
	cpu->fault_code = SYS_SECCOMP;
	cpu->fault_addr = cpu->regs.rip;
	cpu->fault_raised = true;
	signal_fault(cpu);
	return SECCOMP_TRAPPED;
}

static enum seccomp_verdict strict(struct cpu *cpu, uint32_t nr)
{
	switch (nr) {
	case SYS_read:
	case SYS_write:
	case SYS_exit:
	case SYS_rt_sigreturn:
		return SECCOMP_GO;
	}
	kill_thread(cpu, SIGKILL);
}

enum seccomp_verdict seccomp_call(struct cpu *cpu, uint32_t nr, const long args[6],
				  long *ret)
{
	const struct seccomp *f = __atomic_load_n(&cpu->seccomp, __ATOMIC_ACQUIRE);
	struct seccomp_data data = {
		.nr = nr,
		.arch = AUDIT_ARCH_X86_64,
		.instruction_pointer = cpu->regs.rip,
	};
	uint32_t result = SECCOMP_RET_ALLOW, now;

	if (!f->len)
		return strict(cpu, nr);
	for (int i = 0; i < 6; i++)
		data.args[i] = args[i];
	for (; f; f = f->prev) {
		now = run(f, &data);
		/* The smaller one, as signed numbers, is the stricter one. */
		if ((int)(now & SECCOMP_RET_ACTION_FULL) <
		    (int)(result & SECCOMP_RET_ACTION_FULL))
			result = now;
	}
	now = result & SECCOMP_RET_DATA;
	switch (result & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
		return SECCOMP_GO;
	case SECCOMP_RET_ERRNO:
		*ret = now > 4095 ? -4095 : -(long)now;
		return SECCOMP_DONE;
	case SECCOMP_RET_TRACE:		/* nobody traces, and nobody listens: */
	case SECCOMP_RET_USER_NOTIF:	/* both are refused where they are asked for */
		*ret = -ENOSYS;
		return SECCOMP_DONE;
	case SECCOMP_RET_TRAP:
		return trap(cpu, nr, now);
	case SECCOMP_RET_KILL_THREAD:
		kill_thread(cpu, SIGSYS);
	default:
		signal_die(SIGSYS);
	}
}

/* ---- new filters --------------------------------------------------------- */

long seccomp_mode(const struct cpu *cpu)
{
	if (!cpu->seccomp)
		return SECCOMP_MODE_DISABLED;
	return cpu->seccomp->len ? SECCOMP_MODE_FILTER : SECCOMP_MODE_STRICT;
}

static bool may_filter(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (raw_syscall(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) == 1)
		return true;
	return !raw_syscall(SYS_capget, (long)&head, (long)data, 0, 0, 0, 0) &&
	       data[0].effective & 1U << CAP_SYS_ADMIN;
}

/* Every thread of the process gets f. The id of one that cannot, or 0. */
static long synchronise(struct cpu *cpu, struct seccomp *f)
{
	struct cpu *c;

	for (c = all_cpus; c; c = c->next)
		if (c->live && c->proc == cpu->proc && !is_above(c->seccomp, f->prev))
			return c->tid;
	for (c = all_cpus; c; c = c->next) {
		if (!c->live || c->proc != cpu->proc || c == cpu)
			continue;
		f->refs++;
		put(c->seccomp);
		__atomic_store_n(&c->seccomp, f, __ATOMIC_RELEASE);
	}
	f->refs++;
	cpu->proc->synced = f;
	return 0;
}

/* A filter of the guest's program, checked. NULL: *err. */
static struct seccomp *make(uint64_t prog_at, long *err)
{
	struct sock_fprog prog;
	struct seccomp *f;
	uint16_t *written;

	*err = -EFAULT;
	if (guest_read(&prog, prog_at, sizeof(prog)))
		return NULL;
	*err = -EINVAL;
	if (!prog.len || prog.len > BPF_MAXINSNS)
		return NULL;
	*err = -EACCES;
	if (!may_filter())
		return NULL;
	*err = -EINVAL;
	if (!prog.filter)
		return NULL;
	*err = -ENOMEM;
	f = malloc(sizeof(*f) + prog.len * sizeof(*f->insn));
	written = malloc(prog.len * sizeof(*written));
	if (f && written) {
		f->refs = 1;
		f->len = prog.len;
		if (guest_read(f->insn, (uint64_t)prog.filter, prog.len * sizeof(*f->insn)))
			*err = -EFAULT;
		else
			*err = valid(f->insn, f->len, written) ? 0 : -EINVAL;
	}
	free(written);
	if (*err) {
		free(f);
		f = NULL;
	}
	return f;
}

static long set_filter(struct cpu *cpu, uint32_t flags, uint64_t prog)
{
	struct seccomp *f;
	uint64_t total;
	long ret;

	if (flags & ~(uint32_t)(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG |
				SECCOMP_FILTER_FLAG_SPEC_ALLOW |
				SECCOMP_FILTER_FLAG_TSYNC_ESRCH))
		return -EINVAL;
	f = make(prog, &ret);
	if (!f)
		return ret;
	if (seccomp_mode(cpu) == SECCOMP_MODE_STRICT) {
		free(f);
		return -EINVAL;
	}
	total = f->len;
	for (const struct seccomp *p = cpu->seccomp; p; p = p->prev)
		total += p->len + PENALTY;
	f->prev = cpu->seccomp;
	if (total > MAX_TOTAL) {
		ret = -ENOMEM;
	} else if (flags & SECCOMP_FILTER_FLAG_TSYNC) {
		ret = synchronise(cpu, f);
		if (ret && flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
			ret = -ESRCH;
	}
	if (ret) {
		free(f);
		return ret;
	}
	__atomic_store_n(&cpu->seccomp, f, __ATOMIC_RELEASE);
	return 0;
}

static long set_strict(struct cpu *cpu)
{
	struct seccomp *f;

	if (cpu->seccomp)
		return cpu->seccomp->len ? -EINVAL : 0;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->refs = 1;
	__atomic_store_n(&cpu->seccomp, f, __ATOMIC_RELEASE);
	return 0;
}

static long action_avail(uint64_t at)
{
	uint32_t action;

	if (guest_read(&action, at, sizeof(action)))
		return -EFAULT;
	switch (action) {
	case SECCOMP_RET_KILL_PROCESS:
	case SECCOMP_RET_KILL_THREAD:
	case SECCOMP_RET_TRAP:
	case SECCOMP_RET_ERRNO:
	case SECCOMP_RET_TRACE:
	case SECCOMP_RET_LOG:
	case SECCOMP_RET_ALLOW:
		return 0;
	}
	return -EOPNOTSUPP;
}

long seccomp_set(struct cpu *cpu, uint32_t op, uint32_t flags, uint64_t args)
{
	long ret = -EINVAL;

	switch (op) {
	case SECCOMP_SET_MODE_STRICT:
		if (flags || args)
			break;
		rt_lock();
		ret = set_strict(cpu);
		rt_unlock();
		break;
	case SECCOMP_SET_MODE_FILTER:
		rt_lock();
		ret = set_filter(cpu, flags, args);
		rt_unlock();
		break;
	case SECCOMP_GET_ACTION_AVAIL:
		if (!flags)
			ret = action_avail(args);
		break;
	}
	return ret;
}

long seccomp_prctl(struct cpu *cpu, uint64_t mode, uint64_t filter)
{
	switch (mode) {
	case SECCOMP_MODE_STRICT:
		return seccomp_set(cpu, SECCOMP_SET_MODE_STRICT, 0, 0);
	case SECCOMP_MODE_FILTER:
		return seccomp_set(cpu, SECCOMP_SET_MODE_FILTER, 0, filter);
	}
	return -EINVAL;
}

/* ---- across exec --------------------------------------------------------- */

static bool save(int fd, const struct seccomp *f)
{
	size_t bytes = f->len * sizeof(*f->insn);

	/* The oldest first, as they are loaded. */
	return (!f->prev || save(fd, f->prev)) &&
	       write(fd, &f->len, sizeof(f->len)) == sizeof(f->len) &&
	       write(fd, f->insn, bytes) == (ssize_t)bytes;
}

int seccomp_save(struct cpu *cpu)
{
	int fd;

	if (!cpu->seccomp)
		return -1;
	fd_open_begin();
	fd = memfd_create("codewp-seccomp", 0);
	fd = fd < 0 ? -errno : fd_guard(fd);
	fd_open_end();
	if (fd < 0)
		return fd == -1 ? -ENOMEM : fd;
	raw_syscall(SYS_fcntl, fd, F_SETFD, 0, 0, 0, 0);
	if (save(fd, cpu->seccomp) && !lseek(fd, 0, SEEK_SET))
		return fd;
	close(fd);
	return -ENOMEM;
}

int seccomp_load(struct cpu *cpu, int fd)
{
	uint32_t len;
	int err = 0;

	while (!err && read(fd, &len, sizeof(len)) == sizeof(len)) {
		size_t bytes = len * sizeof(struct sock_filter);
		struct seccomp *f = malloc(sizeof(*f) + bytes);

		if (!f || read(fd, f->insn, bytes) != (ssize_t)bytes) {
			free(f);
			err = -ENOMEM;
			break;
		}
		f->prev = cpu->seccomp;
		f->refs = 1;
		f->len = len;
		cpu->seccomp = f;
	}
	close(fd);
	return err;
}
