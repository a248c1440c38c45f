/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the runtime's files (main, loader, syscall, signal, log, stats) ask of
 * each other.
 */
#ifndef CODEWP_RUNTIME_H
#define CODEWP_RUNTIME_H

#include "translator.h"

#include <sys/types.h>

static inline size_t round_up(size_t n, size_t to)	/* to: a power of two */
{
	return (n + to - 1) & -to;
}

/* main.c */
struct runtime {
	const char *program;	/* as the user typed it: for messages */
	char exe[4096];		/* absolute path of the guest's program */
	int stderr_fd;		/* guarded copy of the original stderr; -1: none */
	struct { dev_t dev; ino_t ino; } stderr_file;
	bool first;		/* the process that the user started, also after exec */
	bool stats;
	bool exiting;		/* the end has begun: no second one */
	bool started;		/* guest code has run */
	int self_fd;		/* guarded: our own program, for exec */
	int exe_fd;		/* guarded: the guest's program */
	char **argv;		/* the guest's, as it was started */
};

extern struct runtime rt;

/* The original stderr, or -1 when this process does not have it any more. */
int runtime_stderr(void);
void runtime_drop_stderr(void);		/* in a child */
/* A line to it. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The guest ends: statistics, log, then the kernel is told. */
_Noreturn void runtime_exit(int status);
void runtime_end(void);		/* the same, but for the last: with rt_lock held */

/* loader.c: exits with 126 or 70 and a line when it cannot */
struct guest_image {
	uint64_t entry;		/* where to begin: ld.so's, or the program's */
	uint64_t sp;
};

void loader_load(int fd, const char *path, char **argv, char **envp,
		 struct guest_image *img);

uint64_t vdso_add(void);		/* vdso.c */

/* ---- threads and processes: thread.c, fork.c, exec.c ----------------------- */

/*
 * What the threads of one guest process share besides memory. A child of vfork
 * has its own although it shares all memory with its parent, whose calling
 * thread waits until the child executes a program or ends.
 */
struct process {
	uint32_t threads;	/* live ones */
	bool vforked;		/* the memory is the parent's: no views are made */
	struct fd_marks *marks;	/* fd.c */
	struct seccomp *synced;	/* seccomp.c: what all threads got last, kept for good */
};

/* The guest's threads in this address space, vfork children included. */
uint32_t thread_count(void);

/*
 * Memory of the runtime for one thread: struct cpu, stack, signal stack, TLS.
 * Taken from what ended threads left, or new. NULL: none. With rt_lock held.
 */
struct cpu *thread_alloc(void);

/* clone, clone3, fork and vfork of the guest: what the parent's rax becomes. */
struct clone_args;
long thread_clone(struct cpu *cpu, const struct clone_args *args);
/* This thread ends, by exit(); the last one ends the process. */
_Noreturn void thread_exit(struct cpu *cpu, int status);
/* This process ends, by exit_group(). */
_Noreturn void thread_exit_group(struct cpu *cpu, int status);
/* The loop around guest code; the runtime's stack is current. */
_Noreturn void thread_run(struct cpu *cpu);

/* fork.c; args as above, without CLONE_VM. Called with nothing held. */
long fork_process(struct cpu *cpu, const struct clone_args *args);

/*
 * exec.c: fd AT_FDCWD or a descriptor, path, argv and envp in guest memory. -errno;
 * it does not return when the program is there. In the new program the runtime
 * starts again, with --inherit (options.h) in place of options.
 */
long exec_call(struct cpu *cpu, int fd, uint64_t path, uint64_t argv, uint64_t envp,
	       int flags);

/* ---- signals: signal.c, sigframe.c ----------------------------------------- */

int signal_init(struct cpu *cpu);		/* the first thread, once */
/*
 * A new thread or process, made by the cpu `from` with these clone flags: mask,
 * dispositions (shared with CLONE_SIGHAND, else a copy), alternate stack. Called
 * by the parent with rt_lock held; 0 or -ENOMEM. signal_thread_start() is
 * called on the new thread, with everything blocked: its own signal stack. It
 * does not unblock.
 */
int signal_clone(struct cpu *cpu, const struct cpu *from, uint64_t flags);
int signal_thread_start(struct cpu *cpu);
void signal_thread_exit(struct cpu *cpu);	/* gives up its dispositions; the task may
						 * be gone already
						 */
/* In the child of fork: nothing of the parent's is pending; CLONE_CLEAR_SIGHAND. */
void signal_fork_child(struct cpu *cpu, uint64_t flags);
/* Block all in the host's mask, the synchronous ones too; and back to what the
 * guest's mask asks for.
 */
void signal_block_all(void);
void signal_unblock(struct cpu *cpu);
/*
 * The process is about to execute a program: host dispositions and mask become
 * what it shall inherit; and back, when that failed.
 */
long signal_exec_begin(struct cpu *cpu);		/* 0 or -ERESTARTSYS */
void signal_exec_failed(struct cpu *cpu);
/* rt_sigreturn: regs, vector state, mask from the guest's frame; ends the guest
 * by SIGSEGV if there is none.
 */
void signal_return(struct cpu *cpu);
/* At the end of every system call of the guest: its result, or -ERESTARTSYS. */
long signal_call_done(struct cpu *cpu, long ret);

/* the guest's calls; a result or -errno */
long sig_action(struct cpu *cpu, uint64_t sig, uint64_t act, uint64_t old, uint64_t size);
long sig_procmask(struct cpu *cpu, uint64_t how, uint64_t set, uint64_t old, uint64_t size);
long sig_altstack(struct cpu *cpu, uint64_t ss, uint64_t old);
long sig_timedwait(struct cpu *cpu, const long args[6]);
long sig_pending_set(struct cpu *cpu, uint64_t set, uint64_t size);
/*
 * For a call that waits with a mask of its own: read it, take out what must stay
 * unblocked, and note it down, since a handler that runs then starts with it.
 */
int sig_wait_mask(struct cpu *cpu, uint64_t gva, uint64_t size, uint64_t *mask);
/* End by this signal, as the guest would have natively. */
_Noreturn void signal_die(int sig);

/* ---- /proc, seccomp, the vsyscall page -------------------------------------- */

/* Where the guest's arguments and auxiliary vector are: its first stack pointer. */
void procfs_init(uint64_t sp);

/*
 * The guest's seccomp filters: each thread's cpu->seccomp. clone, start (on the new
 * thread) and exit with rt_lock held. save: a guarded descriptor, not close-on-exec, that holds them for
 * the program that the guest executes; -1: there are none; other -errno. load
 * closes it: 0 or -errno.
 */
void seccomp_clone(struct cpu *cpu, const struct cpu *from);
void seccomp_thread_start(struct cpu *cpu);
void seccomp_thread_exit(struct cpu *cpu);
int seccomp_save(struct cpu *cpu);
int seccomp_load(struct cpu *cpu, int fd);

/* Was the fault a call into the vsyscall page? Then it has been done. */
bool vsyscall_call(struct cpu *cpu);

/* stats.c, log.c */
void stats_print(int fd);
int log_open(const char *path);
void log_open_fd(int fd);	/* a guarded one, from before an exec */
void log_flush(void);
int log_descriptor(void);	/* -1: no log, or on stderr */
void log_close(void);

#endif /* CODEWP_RUNTIME_H */
