/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the runtime's files (main, loader, syscall, signal, log, stats) ask of
 * each other.
 */
#ifndef CODEWP_RUNTIME_H
#define CODEWP_RUNTIME_H

#include "translator.h"

/* main.c */
struct runtime {
	const char *program;	/* as the user typed it: for messages */
	char exe[4096];		/* absolute path of the guest's program */
	int stderr_fd;		/* guarded copy of the original stderr */
	bool stats;
	bool exiting;		/* the end has begun: no second one */
	struct cpu *cpu;	/* the guest thread, once it exists */
};

extern struct runtime rt;

/* A line to the original stderr. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The guest ends: statistics, log, then the kernel is told. */
_Noreturn void runtime_exit(int status);

/* loader.c: exits with 126 or 70 and a line when it cannot */
struct guest_image {
	uint64_t entry;		/* where to begin: ld.so's, or the program's */
	uint64_t sp;
};

void loader_load(int fd, const char *path, char **argv, char **envp,
		 struct guest_image *img);

/* signal.c: the guest's calls; a result or -errno */
struct cpu;
long sig_action(uint64_t sig, uint64_t act, uint64_t old, uint64_t size);
long sig_procmask(uint64_t how, uint64_t set, uint64_t old, uint64_t size);
long sig_altstack(struct cpu *cpu, uint64_t ss, uint64_t old);
long sig_timedwait(struct cpu *cpu, const long args[6]);
long sig_pending_set(uint64_t set, uint64_t size);
/* Read a guest's mask for a call that waits with it; what must stay unblocked
 * is taken out.
 */
int sig_read_mask(uint64_t gva, uint64_t size, uint64_t *mask);
/* End by this signal, as the guest would have natively. */
_Noreturn void signal_die(int sig);

/* stats.c, log.c */
void stats_print(int fd);
int log_open(const char *path);
void log_close(void);

#endif /* CODEWP_RUNTIME_H */
