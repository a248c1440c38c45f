// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * One system call of the guest: look it up, do to its arguments what the table
 * says, make it, and learn what it changed.
 *
 * The guest's pointers are the kernel's to check: memory is the same. Runs on
 * the guest's thread with the runtime's %fs.
 */
#include "syscall.h"
#include "fd.h"
#include "mem.h"
#include "raw_syscall.h"
#include "procfs.h"
#include "runtime.h"
#include "seccomp.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_IOV 1024

/* The names that a call gets in place of the guest's. */
struct names {
	char link[2][PROCFS_LINK];
	unsigned int nr;
};

void sys_open_iov(uint64_t iov, uint64_t n)
{
	struct iovec v;

	if (n > MAX_IOV)
		return;
	for (uint64_t i = 0; i < n; i++) {
		if (guest_read(&v, iov + i * sizeof(v), sizeof(v)))
			return;
		mem_kernel_write((uint64_t)v.iov_base, v.iov_len);
	}
}

void sys_open_msg(uint64_t msg)
{
	struct msghdr m;

	if (guest_read(&m, msg, sizeof(m)))
		return;
	mem_kernel_write(msg, sizeof(m));
	mem_kernel_write((uint64_t)m.msg_name, m.msg_namelen);
	mem_kernel_write((uint64_t)m.msg_control, m.msg_controllen);
	sys_open_iov((uint64_t)m.msg_iov, m.msg_iovlen);
}

/* A file's name in argument i: those in /proc may have to be others. */
static int prepare_path(const struct sys_entry *e, int i, long args[6], struct names *names)
{
	int dirfd = i && e->arg[i - 1].kind == A_FD ? args[i - 1] : -1;
	char path[64];

	/* None that matters is longer. */
	if (guest_strncpy(path, args[i], sizeof(path)) <= 0)
		return 0;
	if (procfs_hidden(dirfd, path))
		return -ENOENT;
	if (e->arg[i].kind == A_PATH && names->nr < 2 &&
	    procfs_exe(path, names->link[names->nr]))
		args[i] = (long)names->link[names->nr++];
	return 0;
}

/*
 * Memory that the kernel is about to write is announced; guarded descriptors and
 * their names are refused. 0 or -errno.
 */
static int prepare(const struct sys_entry *e, long args[6], struct names *names)
{
	for (int i = 0; i < 6; i++) {
		const struct sys_arg *a = &e->arg[i];
		uint32_t len;
		int err;

		switch ((enum arg_kind)a->kind) {
		case A_END:
			return 0;
		case A_VAL:
		case A_IN:
			break;
		case A_FD:
			if (fd_is_guarded(args[i]))
				return -EBADF;
			break;
		case A_PATH:
		case A_LINK:
			err = prepare_path(e, i, args, names);
			if (err)
				return err;
			break;
		case A_OUT:
			mem_kernel_write(args[i], a->n);
			break;
		case A_OUTN:
			if (args[a->by] > 0)
				mem_kernel_write(args[i], (uint64_t)args[a->by] * a->n);
			break;
		case A_OUTP:
			if (args[a->by] && !guest_read(&len, args[a->by], sizeof(len))) {
				mem_kernel_write(args[a->by], sizeof(len));
				mem_kernel_write(args[i], len);
			}
			break;
		case A_IOV:
			sys_open_iov(args[i], args[a->by]);
			break;
		case A_MSG:
			sys_open_msg(args[i]);
			break;
		case A_PAIR:
			mem_kernel_write(args[i], 2 * sizeof(int));
			break;
		case A_ALL:
			mem_kernel_write(0, TASK_END);
			break;
		}
	}
	return 0;
}

/*
 * A write to /proc/PID/mem goes to memory, at the file's offset. Which process's
 * it is does not matter here: opening too much is harmless.
 */
static void open_proc_mem(const struct sys_entry *e, const long args[6])
{
	long at;

	switch (e - sys_table) {
	case SYS_write:
		at = raw_syscall(SYS_lseek, args[0], 0, SEEK_CUR, 0, 0, 0);
		mem_kernel_write(at, args[2]);
		break;
	case SYS_pwrite64:
		mem_kernel_write(args[3], args[2]);
		break;
	default:
		mem_kernel_write(0, TASK_END);
	}
}

long sys_pass(struct cpu *cpu, const struct sys_entry *e, long args[6])
{
	return guest_syscall(&cpu->stop, e - sys_table, args);
}

/* New descriptors whose numbers the guest cannot have: as if there were none. */
static long check_new(const struct sys_entry *e, const long args[6], long ret)
{
	if (e->new_fd) {
		ret = fd_made(ret);
		if (ret >= 0 && e - sys_table == SYS_pidfd_getfd)
			procfs_received(ret);
		return ret;
	}
	for (int i = 0; i < 6 && ret >= 0 && e->arg[i].kind != A_END; i++) {
		int fds[2];

		if (e->arg[i].kind != A_PAIR || guest_read(fds, args[i], sizeof(fds)))
			continue;
		if (fd_made(fds[0]) < 0) {
			fd_sys_close(fds[1]);
			return -EMFILE;
		}
		if (fd_made(fds[1]) < 0) {
			fd_sys_close(fds[0]);
			return -EMFILE;
		}
	}
	return ret;
}

static long make_call(struct cpu *cpu, const struct sys_entry *e, long args[6])
{
	bool proc_mem = e->file_written && fd_marked(args[e->file_written - 1]) == FD_PROC_MEM;
	struct names names;
	long ret;

	names.nr = 0;
	if (proc_mem)
		open_proc_mem(e, args);
	ret = prepare(e, args, &names);
	if (ret)
		return ret;
	if (proc_mem && sys_proc_mem_write(e, args, &ret))
		;
	else if (e->fn)
		ret = e->fn(cpu, e, args);
	else
		ret = sys_pass(cpu, e, args);
	return check_new(e, args, ret);
}

/* The table's line; NULL: ENOSYS. */
static const struct sys_entry *entry(struct cpu *cpu, uint32_t nr)
{
	if (nr < sys_table_size && sys_table[nr].name)
		return &sys_table[nr];
	if (nr < sys_names_size && sys_names[nr]) {
		cpu->regs.rip -= 2;
		unsupported(cpu, "system call %s (%u)", sys_names[nr], nr);
	}
	return NULL;
}

/**
 * sys_call() - do the system call that the guest's registers ask for
 *
 * regs.rip is behind the instruction. Sets rax, rcx and r11 as the processor and
 * the kernel do. A call that a signal kept from entering the kernel is left to
 * be made again: rip is back at it.
 */
void sys_call(struct cpu *cpu)
{
	uint64_t *r = cpu->regs.r;
	uint32_t nr = r[0];	/* the kernel does not look at the upper half */
	long args[6] = { r[7], r[6], r[2], r[10], r[8], r[9] };
	const struct sys_entry *e;
	long ret;

	/* A signal that came before the call is delivered before it. */
	if (cpu->sig_pending) {
		cpu->regs.rip -= 2;
		signal_deliver(cpu);
		return;
	}
	st.syscalls++;
	if (cpu->seccomp) {
		enum seccomp_verdict v;

		r[1] = cpu->regs.rip;
		r[11] = cpu->regs.rflags;
		v = seccomp_call(cpu, nr, args, &ret);
		if (v == SECCOMP_TRAPPED)
			return;
		if (v == SECCOMP_DONE) {
			r[0] = ret;
			return;
		}
	}
	if (nr == SYS_rt_sigreturn) {
		signal_return(cpu);
		goto out;
	}
	e = entry(cpu, nr);
	ret = e ? make_call(cpu, e, args) : -ENOSYS;
	kwrite_end(cpu);

	if (e && e->file_written && ret >= 0) {
		int fd = args[e->file_written - 1];

		if (fd_marked(fd) == FD_PROC_MEM)
			mem_all_written();
		else
			mem_file_written(fd);
	}
	if (mem_on_loan)
		mem_share_poll();
	ret = signal_call_done(cpu, ret);
	r[1] = cpu->regs.rip;
	r[11] = cpu->regs.rflags;
	if (ret == -ERESTARTSYS)
		cpu->regs.rip -= 2;
	else
		r[0] = ret;
out:
	core_drain(cpu);
	if (cpu->sig_pending)
		signal_deliver(cpu);
}
