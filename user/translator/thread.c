// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Threads of the guest: each is a thread of the host with a struct cpu, a stack, a
 * signal stack and a TLS block of the runtime's.
 *
 * Owns the memory of threads, which is used again and never given back, and
 * struct process. Both are guarded by rt_lock, but for the list of free cpus,
 * which an ending thread enters without: it cannot hold a lock any more when
 * its stack is free. A thread that begins or ends has all signals blocked.
 *
 * The host's clone() gets the guest's flags and the guest's own addresses for
 * thread ids, so that ids, parents, futex wake-ups at the end and namespaces are
 * the kernel's. Only stack and TLS are replaced.
 */
#include "thread.h"
#include "fd.h"
#include "mem.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "syscall.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREAD_STACK	(256UL << 10)
#define TCB_BYTES	PAGE	/* libc's struct pthread has about 2300 bytes */

/*
 * What is kept of libc's thread descriptor, which begins with these: the rest
 * of a new one is zero.
 */
struct tcb {
	void *tcb, *dtv, *self;
	int multiple_threads, gscope;
	uint64_t sysinfo, stack_guard, pointer_guard;
};

static struct process first_process = { .threads = 1 };
static struct cpu *free_cpus;	/* by free_next */
static uint32_t nr_live = 1;
static size_t xsave_bytes;

/* libc's tables of character classes are found through TLS. */
void __ctype_init(void);

/**
 * thread_init() - the first thread; call before there is another one
 * @cpu: whose %gs is set
 */
void thread_init(struct cpu *cpu)
{
	unsigned int a, b, c, d;

	__cpuid_count(0xd, 0, a, b, c, d);
	xsave_bytes = b;
	cpu->proc = &first_process;
	cpu->tid = raw_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);
	/* libc's own are not the guest's; nobody waits for them. */
	raw_syscall(SYS_set_tid_address, 0, 0, 0, 0, 0, 0);
	raw_syscall(SYS_set_robust_list, 0, 24, 0, 0, 0, 0);
}

uint32_t thread_count(void)
{
	return __atomic_load_n(&nr_live, __ATOMIC_RELAXED);
}

/* ---- memory --------------------------------------------------------------- */

static const Elf64_Phdr *tls_segment(void)
{
	const Elf64_Phdr *ph = (const void *)getauxval(AT_PHDR);

	for (size_t n = getauxval(AT_PHNUM); n; n--, ph++)
		if (ph->p_type == PT_TLS)
			return ph;
	return NULL;
}

static size_t tls_size(const Elf64_Phdr *ph)
{
	return ph ? (ph->p_memsz + ph->p_align - 1) & -ph->p_align : 0;
}

/* As libc does for its first thread: the image ends where the TCB begins. */
static void tls_make(struct tcb *tcb, const Elf64_Phdr *ph)
{
	const struct tcb *mine;

	__asm__("mov %%fs:16, %0" : "=r"(mine));
	tcb->tcb = tcb;
	tcb->self = tcb;
	tcb->dtv = mine->dtv;		/* a static program never looks at it */
	tcb->multiple_threads = 1;
	tcb->stack_guard = mine->stack_guard;
	tcb->pointer_guard = mine->pointer_guard;
	if (ph)
		memcpy((char *)tcb - tls_size(ph), (const void *)ph->p_vaddr, ph->p_filesz);
}

static struct cpu *new_cpu(void)
{
	const Elf64_Phdr *ph = tls_segment();
	size_t tls = round_up(tls_size(ph), 64), bytes;
	struct cpu_room *room;
	struct cpu *cpu;
	char *stack, *p;

	/* A hole is below each mapping, so that no overflow stays unnoticed. */
	stack = mem_runtime_map(THREAD_STACK, PROT_READ | PROT_WRITE);
	bytes = THREAD_SIGSTACK + tls + TCB_BYTES;
	bytes = round_up(bytes, PAGE) + _Alignof(struct cpu_room) + sizeof(*room);
	p = mem_runtime_map(bytes, PROT_READ | PROT_WRITE);
	if (!stack || !p) {
		if (stack)
			munmap(stack, THREAD_STACK);
		if (p)
			munmap(p, bytes);
		return NULL;
	}
	room = (void *)round_up((uintptr_t)p + THREAD_SIGSTACK + tls + TCB_BYTES,
				_Alignof(struct cpu_room));
	cpu = &room->cpu;
	cpu->stack = stack;
	cpu->sigstack = p;
	cpu->tls = p + THREAD_SIGSTACK + tls;
	tls_make(cpu->tls, ph);
	return cpu;
}

/*
 * Nothing of the last thread's: in the child of fork it has not ended, but stopped
 * anywhere, with pointers to TBs that are not there any more.
 */
static void forget_thread(struct cpu *cpu)
{
	void *xsave = cpu->xsave;
	uint64_t xsave_mask = cpu->xsave_mask;

	memset(cpu, 0, offsetof(struct cpu, next));
	cpu->xsave = xsave;
	cpu->xsave_mask = xsave_mask;
}

struct cpu *thread_alloc(void)
{
	struct cpu *cpu = __atomic_load_n(&free_cpus, __ATOMIC_ACQUIRE);

	/* Only the lock's holder takes any out: the one that is read stays. */
	while (cpu && !__atomic_compare_exchange_n(&free_cpus, &cpu, cpu->free_next, false,
						   __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
		;
	if (!cpu)
		return new_cpu();
	forget_thread(cpu);
	return cpu;
}

void thread_free(struct cpu *cpu)
{
	struct cpu *head = __atomic_load_n(&free_cpus, __ATOMIC_RELAXED);

	do
		cpu->free_next = head;
	while (!__atomic_compare_exchange_n(&free_cpus, &head, cpu, false, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED));
}

/**
 * thread_forget_others() - in the child of fork: there is only this thread
 *
 * The memory of the others is here, too, and is used again.
 */
void thread_forget_others(struct cpu *cpu)
{
	free_cpus = NULL;
	nr_live = 1;
	cpu->proc->threads = 1;
	for (struct cpu *c = all_cpus; c; c = c->next) {
		if (c == cpu)
			continue;
		c->live = 0;
		if (c->stack)
			thread_free(c);
	}
}

/* ---- begin ---------------------------------------------------------------- */

/* thread_entry.S */
long thread_syscall(long nr, const long args[5]);
_Noreturn void thread_leave(struct cpu *cpu, struct cpu **link, struct cpu **list,
			    long status, long nr);
_Noreturn void thread_entry(struct cpu *cpu, const void *xsave);

void thread_entry(struct cpu *cpu, const void *xsave)
{
	int err = core_cpu_init(cpu) ? -EPERM : 0;

	rt_lock();
	cpu->tid = raw_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);
	__ctype_init();
	seccomp_thread_start(cpu);
	fd_open_begin();
	if (!err)
		err = core_thread_init(cpu);
	fd_open_end();
	if (!err)
		err = signal_thread_start(cpu);
	if (err) {
		say("%s: cannot run one more thread: %s", rt.program,
		    err < 0 && err > -4096 ? strerror(-err) : codewp_strerror(err));
		raw_syscall(SYS_exit_group, EXIT_UNSUPPORTED, 0, 0, 0, 0, 0);
	}
	memcpy(cpu->xsave, xsave, xsave_bytes);
	rt_unlock();
	signal_unblock(cpu);
	thread_run(cpu);
}

/* Where the guest goes on in the child, and what is at the top of its stack. */
static uint64_t prepare_child(struct cpu *cpu, const struct cpu *from,
			      const struct clone_args *args)
{
	uint64_t top;

	cpu->regs = from->regs;
	cpu->regs.r[0] = 0;
	cpu->regs.r[1] = cpu->regs.rip;
	cpu->regs.r[11] = cpu->regs.rflags;
	if (args->stack)
		cpu->regs.r[4] = args->stack + args->stack_size;
	cpu->guest_fs = args->flags & CLONE_SETTLS ? args->tls : from->guest_fs;
	cpu->guest_gs = from->guest_gs;
	cpu->gs_sel = from->gs_sel;

	top = ((uint64_t)cpu->stack + THREAD_STACK - xsave_bytes) & -64UL;
	memcpy((void *)top, from->xsave, xsave_bytes);
	top -= sizeof(cpu);
	*(struct cpu **)top = cpu;
	return top;
}

/* The host's clone with the guest's arguments, but our stack and TLS. */
static long host_clone(const struct clone_args *args, uint64_t stack_top, void *stack,
		       void *tls)
{
	struct clone_args c = *args;

	c.flags |= CLONE_SETTLS;
	c.tls = (uint64_t)tls;
	if (clone_is_old(args)) {
		const long a[5] = { c.flags | c.exit_signal, stack_top,
				    c.flags & CLONE_PIDFD ? c.pidfd : c.parent_tid,
				    c.child_tid, c.tls };

		return thread_syscall(SYS_clone, a);
	}
	c.stack = (uint64_t)stack;
	c.stack_size = stack_top - c.stack;
	return thread_syscall(SYS_clone3, (const long [5]){ (long)&c, sizeof(c) });
}

void clone_opens(const struct clone_args *args)
{
	if (args->flags & CLONE_PARENT_SETTID)
		mem_kernel_write(args->parent_tid, sizeof(int));
	if (args->flags & CLONE_PIDFD)
		mem_kernel_write(args->pidfd, sizeof(int));
	if (args->flags & (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID))
		mem_kernel_write(args->child_tid, sizeof(int));
}

static struct process *process_copy(const struct process *from)
{
	struct process *p = malloc(sizeof(*p));

	if (p) {
		*p = *from;
		p->threads = 0;
		p->vforked = true;
		p->marks = fd_marks_clone();
	}
	if (p && !p->marks) {
		free(p);
		p = NULL;
	}
	return p;
}

/* One of its threads has ended. */
static void process_put(struct process *p)
{
	if (--p->threads || p == &first_process)
		return;
	/* A child of fork has the marks of the process that it was copied from. */
	if (p->vforked)
		fd_marks_free(p->marks);
	free(p);
}

/* A thread that was prepared or that has ended, its task is gone: with rt_lock. */
static void reclaim(struct cpu *cpu, bool ran)
{
	if (ran) {
		core_thread_exit(cpu);
		if (cpu->exec_args)
			munmap(cpu->exec_args, cpu->exec_bytes);
		cpu->exec_args = NULL;
	}
	signal_thread_exit(cpu);
	__atomic_store_n(&cpu->live, 0, __ATOMIC_RELEASE);
	nr_live--;
	seccomp_thread_exit(cpu);
	process_put(cpu->proc);
	thread_free(cpu);
}

/**
 * thread_clone() - clone or clone3 of the guest
 * @cpu: the thread that calls
 * @args: as for clone3; stack_size is 0 if stack is its top
 *
 * Return: what the parent gets.
 */
long thread_clone(struct cpu *cpu, const struct clone_args *args)
{
	bool new_process = !(args->flags & CLONE_THREAD);
	bool vfork = new_process && args->flags & CLONE_VFORK;
	struct cpu *child;
	long ret = -ENOMEM;
	uint64_t top;
	bool failed;

	if (!(args->flags & CLONE_VM))
		return fork_process(cpu, args);
	if (!new_process && args->flags & CLONE_SIGHAND && !(args->flags & CLONE_FILES)) {
		cpu->regs.rip -= 2;
		unsupported(cpu, "a thread with descriptors of its own");
	}

	signal_block_all();
	rt_lock();
	__libc_single_threaded = 0;
	child = thread_alloc();
	if (!child)
		goto unlock;
	child->proc = new_process ? process_copy(cpu->proc) : cpu->proc;
	if (!child->proc || signal_clone(child, cpu, args->flags)) {
		if (new_process && child->proc) {
			child->proc->threads++;
			process_put(child->proc);
		}
		thread_free(child);
		goto unlock;
	}
	seccomp_clone(child, cpu);
	child->vfork = vfork;
	child->proc->threads++;
	nr_live++;
	core_cool(0, -1UL);
	top = prepare_child(child, cpu, args);
	clone_opens(args);
	rt_unlock();

	/* With CLONE_VFORK it has executed a program, or ended, after this. */
	ret = host_clone(args, top, child->stack, child->tls);

	/* Any other child may have ended by now, and be somebody else's. */
	failed = ret < 0;
	if (failed || vfork) {
		rt_lock_of_gone(child);
		rt_lock();
		reclaim(child, !failed);
		rt_unlock();
	}
	signal_unblock(cpu);
	return ret;
unlock:
	rt_unlock();
	signal_unblock(cpu);
	return ret;
}

/* ---- run and end ---------------------------------------------------------- */

void thread_run(struct cpu *cpu)
{
	for (;;) {
		switch (core_run(cpu)) {
		case CPU_SYSCALL:
			sys_call(cpu);
			break;
		case CPU_FAULT:
			if (!vsyscall_call(cpu))
				signal_fault(cpu);
			break;
		case CPU_UNSUPPORTED:
			unsupported(cpu, "%s", cpu->unsupported ?: "an instruction");
		case CPU_STOP:
		case CPU_LOOKUP:
		case CPU_EMULATE:	/* done in core_run() */
			signal_deliver(cpu);
			core_drain(cpu);
			break;
		}
	}
}

/* The end of a thread, or of a whole process that shares our memory. */
static _Noreturn void leave(struct cpu *cpu, long status, long nr)
{
	struct process *proc = cpu->proc;

	signal_block_all();
	/* The parent, which waits, takes everything back. */
	if (cpu->vfork)
		raw_syscall(nr, status, 0, 0, 0, 0, 0);
	rt_lock();
	if (proc->threads == 1 && !proc->vforked)
		runtime_end();
	core_thread_exit(cpu);
	signal_thread_exit(cpu);
	seccomp_thread_exit(cpu);
	nr_live--;
	process_put(proc);
	__atomic_store_n(&cpu->live, 0, __ATOMIC_RELEASE);
	rt_unlock();
	if (cpu->stack)
		thread_leave(cpu, &cpu->free_next, &free_cpus, status, nr);
	for (;;)
		raw_syscall(nr, status, 0, 0, 0, 0, 0);
}

void thread_exit(struct cpu *cpu, int status)
{
	leave(cpu, status, SYS_exit);
}

/**
 * thread_exit_group() - the guest's process ends, with all its threads
 */
void thread_exit_group(struct cpu *cpu, int status)
{
	if (cpu->proc->vforked)
		leave(cpu, status, SYS_exit_group);
	runtime_exit(status);
}

/* ---- the calls ------------------------------------------------------------ */

#define CLONE3_MAX_TIDS 32

static long clone3_args(struct clone_args *args, uint64_t at, uint64_t size)
{
	uint64_t rest;

	if (size > PAGE)
		return -E2BIG;
	if (size < CLONE_ARGS_SIZE_VER0)
		return -EINVAL;
	*args = (struct clone_args){ 0 };
	if (guest_read(args, at, size < sizeof(*args) ? size : sizeof(*args)))
		return -EFAULT;
	for (uint64_t n = sizeof(*args); n + 8 <= size; n += 8) {
		if (guest_read(&rest, at + n, 8))
			return -EFAULT;
		if (rest)
			return -E2BIG;
	}
	/* What clone() does not look at, or cannot see with another stack and TLS. */
	if (!args->stack != !args->stack_size || args->set_tid_size > CLONE3_MAX_TIDS ||
	    args->flags & CSIGNAL & ~CLONE_NEWTIME || args->flags & CLONE_DETACHED ||
	    args->exit_signal > 64 ||
	    (args->flags & (CLONE_THREAD | CLONE_PARENT) && args->exit_signal))
		return -EINVAL;
	if (args->flags & CLONE_SETTLS && args->tls >= TASK_END + PAGE)
		return -EPERM;
	return 0;
}

long sys_clone_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	struct clone_args args = { 0 };
	long err;

	switch (e - sys_table) {
	case SYS_clone:
		args.flags = (uint32_t)a[0] & ~CSIGNAL & ~CLONE_DETACHED;
		args.exit_signal = a[0] & CSIGNAL;
		args.stack = a[1];
		args.parent_tid = a[2];
		args.pidfd = a[2];
		args.child_tid = a[3];
		args.tls = a[4];
		if (args.flags & CLONE_PIDFD && (args.flags & CLONE_PARENT_SETTID ||
						 a[0] & CLONE_DETACHED))
			return -EINVAL;
		if (args.flags & CLONE_SETTLS && args.tls >= TASK_END + PAGE)
			return -EPERM;
		break;
	case SYS_clone3:
		err = clone3_args(&args, a[0], a[1]);
		if (err)
			return err;
		break;
	case SYS_vfork:
		args.flags = CLONE_VM | CLONE_VFORK;
		args.exit_signal = SIGCHLD;
		break;
	default:	/* fork */
		args.exit_signal = SIGCHLD;
	}
	return thread_clone(cpu, &args);
}

long sys_exit_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	if (e - sys_table == SYS_exit)
		thread_exit(cpu, a[0]);
	thread_exit_group(cpu, a[0]);
}
