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
#include "runtime.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_IOV 1024

static void open_iov(uint64_t iov, uint64_t n)
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

static void open_msg(uint64_t msg)
{
	struct msghdr m;

	if (guest_read(&m, msg, sizeof(m)))
		return;
	mem_kernel_write(msg, sizeof(m));
	mem_kernel_write((uint64_t)m.msg_name, m.msg_namelen);
	mem_kernel_write((uint64_t)m.msg_control, m.msg_controllen);
	open_iov((uint64_t)m.msg_iov, m.msg_iovlen);
}

/* Memory that the kernel is about to write. False: a guarded descriptor. */
static bool prepare(const struct sys_entry *e, const long args[6])
{
	for (int i = 0; i < 6; i++) {
		const struct sys_arg *a = &e->arg[i];
		uint32_t len;

		switch ((enum arg_kind)a->kind) {
		case A_END:
			return true;
		case A_VAL:
		case A_IN:
			break;
		case A_FD:
			if (fd_is_guarded(args[i]))
				return false;
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
			open_iov(args[i], args[a->by]);
			break;
		case A_MSG:
			open_msg(args[i]);
			break;
		}
	}
	return true;
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

static _Noreturn void unknown(struct cpu *cpu, uint64_t nr)
{
	const char *name = nr < sys_names_size && sys_names[nr] ? sys_names[nr] : "unknown";

	cpu->regs.rip -= 2;
	unsupported(cpu, "system call %s (%lu)", name, nr);
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
	uint64_t nr = r[0];
	long args[6] = { r[7], r[6], r[2], r[10], r[8], r[9] };
	const struct sys_entry *e;
	bool proc_mem;
	long ret;

	/* A signal that came before the call is delivered before it. */
	if (cpu->sig_pending) {
		cpu->regs.rip -= 2;
		signal_deliver(cpu);
		return;
	}
	st.syscalls++;
	if (nr == SYS_rt_sigreturn) {
		signal_return(cpu);
		goto out;
	}
	if (nr >= sys_table_size || !sys_table[nr].name)
		unknown(cpu, nr);
	e = &sys_table[nr];
	proc_mem = e->file_written && fd_marked(args[e->file_written - 1]) == FD_PROC_MEM;
	if (proc_mem)
		open_proc_mem(e, args);
	if (!prepare(e, args))
		ret = -EBADF;
	else if (proc_mem && sys_proc_mem_write(e, args, &ret))
		;
	else if (e->fn)
		ret = e->fn(cpu, e, args);
	else
		ret = sys_pass(cpu, e, args);
	kwrite_end(cpu);

	if (e->file_written && ret >= 0) {
		int fd = args[e->file_written - 1];

		if (fd_marked(fd) == FD_PROC_MEM)
			mem_all_written();
		else
			mem_file_written(fd);
	}
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
