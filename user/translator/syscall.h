/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The table of system calls: what each one's arguments are.
 */
#ifndef CODEWP_SYSCALL_H
#define CODEWP_SYSCALL_H

#include "translator.h"

enum arg_kind {
	A_END,		/* no such argument */
	A_VAL,		/* a number */
	A_FD,		/* a descriptor, or AT_FDCWD */
	A_IN,		/* memory that is read */
	A_PATH,		/* a file's name; links are followed */
	A_LINK,		/* the same, but not if the last part is a link */
	A_OUT,		/* memory that is written: n bytes */
	A_OUTN,		/* written: n * args[by] bytes */
	A_OUTP,		/* written: as many as the 32-bit word at args[by] says,
			 * and that word
			 */
	A_IOV,		/* n iovecs (args[by]) whose buffers are written */
	A_MSG,		/* a struct msghdr whose buffers are written */
	A_PAIR,		/* two new descriptors are written */
	A_ALL,		/* what it points to may have pointers to be written through */
};

struct sys_arg {
	uint8_t kind, by;
	uint16_t n;
};

struct sys_entry;
/* args: as the guest gave them, guarded descriptors refused, written memory
 * opened. Returns rax.
 */
typedef long (*sys_fn)(struct cpu *cpu, const struct sys_entry *e, long args[6]);

struct sys_entry {
	const char *name;
	struct sys_arg arg[6];
	sys_fn fn;		/* NULL: passed to the kernel as it is */
	uint8_t file_written;	/* 1 + index of a descriptor whose file it changes */
	bool new_fd;		/* the result is a new descriptor */
};

extern const struct sys_entry sys_table[];
extern const unsigned int sys_table_size;
extern const char *const sys_names[];	/* of all numbers, known or not */
extern const unsigned int sys_names_size;

long sys_pass(struct cpu *cpu, const struct sys_entry *e, long args[6]);
/* Announce what the buffers of n iovecs, or of a struct msghdr, receive. */
void sys_open_iov(uint64_t iov, uint64_t n);
void sys_open_msg(uint64_t msg);

/* sys_mem.c */
bool sys_proc_mem_write(const struct sys_entry *e, const long a[6], long *ret);
long sys_mmap_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_mem_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);

/* sys_file.c */
long sys_fd_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_open_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_stat_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_readlink_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_getdents_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_fcntl_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_truncate_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_io_submit_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);

/* sys_wait.c */
long sys_poll_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_masked_wait(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_select_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_futex_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_msgrcv_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_sendmsg_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_recvmsg_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);

/* sys_ioctl.c */
long sys_ioctl_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);

/* sys_proc.c */
long sys_signal_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_prctl_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_arch_prctl_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_limit_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_personality_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_process_madvise_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_unshare_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_seccomp_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_refused_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_none_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);

/* thread.c, exec.c */
long sys_clone_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_exec_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);
long sys_exit_call(struct cpu *cpu, const struct sys_entry *e, long args[6]);

#endif /* CODEWP_SYSCALL_H */
