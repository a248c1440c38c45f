// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * fork: a child with a copy of the guest's memory, and so of the runtime.
 *
 * The kernel copies all but two things. Views are shared memory, which a fork
 * does not copy: mem_fork_*() make the child's own. And the backend watches one
 * process's memory, so the child opens its own. Everything of the runtime is in
 * order in the copy because the parent holds rt_lock while it is made; threads
 * that were elsewhere are simply not there, and nothing of theirs is needed.
 */
#include "debug.h"
#include "fd.h"
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "thread.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In the child: the write end that tells a CLONE_VFORK parent to go on. */
static int vfork_fd = -1;

static long host_fork(const struct clone_args *args)
{
	struct clone_args c = *args;

	/* The child goes on where we are, and with our TLS. */
	c.flags &= ~(uint64_t)(CLONE_SETTLS | CLONE_VFORK);
	/* The kernel would write the id where the parent's view still is. */
	c.flags &= ~(uint64_t)CLONE_CHILD_SETTID;
	c.stack = 0;
	c.stack_size = 0;
	if (!clone_is_old(&c))
		return raw_syscall(SYS_clone3, (long)&c, sizeof(c), 0, 0, 0, 0);
	return raw_syscall(SYS_clone, c.flags | c.exit_signal, 0,
			   c.flags & CLONE_PIDFD ? c.pidfd : c.parent_tid, c.child_tid, 0, 0);
}

static _Noreturn void child_fails(const char *what, int err)
{
	say("%s: a child process cannot be run: %s: %s", rt.program, what,
	    codewp_strerror(err));
	for (;;)
		raw_syscall(SYS_exit_group, EXIT_UNSUPPORTED, 0, 0, 0, 0, 0);
}

static void child(struct cpu *cpu, const struct clone_args *args, bool alone)
{
	int err;

	rt_lock_reset();
	cpu->tid = raw_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);
	cpu->vfork = false;
	cpu->proc->vforked = false;
	thread_forget_others(cpu);
	rt.first = false;
	rt.stats = false;
	runtime_drop_stderr();

	fd_open_begin();
	err = mem_fork_child();
	if (err)
		child_fails("memory", err);
	core_fork_child(cpu, alone);
	fd_open_end();
	perfmap_fork_child();
	signal_fork_child(cpu, args->flags);

	if (args->flags & CLONE_CHILD_SETTID)
		guest_write(args->child_tid, &cpu->tid, sizeof(cpu->tid));
	if (args->stack)
		cpu->regs.r[4] = args->stack + args->stack_size;
	if (args->flags & CLONE_SETTLS)
		cpu->guest_fs = args->tls;
}

/*
 * CLONE_VFORK without CLONE_VM: the parent waits until the child executes a
 * program or ends. The kernel would make it wait in the call, with rt_lock held;
 * so it waits for the end of a pipe instead.
 */
static int vfork_pipe(int fds[2])
{
	return fd_guarded_pipe(fds, 0) ? -EAGAIN : 0;
}

/**
 * fork_process() - clone without CLONE_VM
 * @cpu: the thread that calls; in the child, the only one
 * @args: as for clone3; stack_size is 0 if stack is its top
 *
 * Return: what the parent, and the child, gets.
 */
long fork_process(struct cpu *cpu, const struct clone_args *args)
{
	bool waits = args->flags & CLONE_VFORK, alone = thread_count() == 1;
	int fds[2] = { -1, -1 };
	long ret;

	signal_block_all();
	rt_lock();
	ret = waits ? vfork_pipe(fds) : 0;
	if (ret)
		goto out;
	core_cool(0, -1UL);
	ret = mem_fork_prepare();
	if (ret) {
		ret = -ENOMEM;
		goto out;
	}
	log_flush();
	clone_opens(args);
	ret = host_fork(args);
	if (!ret) {
		if (vfork_fd >= 0)
			close(vfork_fd);
		vfork_fd = fds[1];
		if (fds[0] >= 0)
			close(fds[0]);
		child(cpu, args, alone);
		rt_unlock();
		signal_unblock(cpu);
		return 0;
	}
	mem_fork_done();
out:
	if (fds[1] >= 0)
		close(fds[1]);
	rt_unlock();
	if (fds[0] >= 0) {
		char byte;

		if (ret > 0)
			while (read(fds[0], &byte, 1) < 0 && errno == EINTR)
				;
		close(fds[0]);
	}
	signal_unblock(cpu);
	return ret;
}
