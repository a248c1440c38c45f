/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the command line says, and what a program that the guest executes is
 * started with in place of one.
 */
#ifndef CODEWP_OPTIONS_H
#define CODEWP_OPTIONS_H

#include "translator.h"

#include <sys/resource.h>

struct settings {
	struct core_opts core;
	enum codewp_backend backend;
	bool log;
	const char *log_path;	/* NULL: stderr */
	bool log_ranged;	/* only blocks that overlap log_range */
	uint64_t log_range[2];	/* guest addresses: first, and behind the last */
	bool perf_map;
	bool native_exec;	/* programs that the guest executes run untranslated */

	/* Only from another codewp-run, by --inherit. */
	bool inherited;
	int log_fd;		/* the log goes on there; -1: no */
	int program_fd;		/* the program, open; -1: by its name */
	int self_fd;		/* our own program; -1: /proc/self/exe */
	int seccomp_fd;		/* the guest's filters; -1: none */
	struct rlimit nofile;	/* as the guest sees it */
	bool read_implies_exec;

	char **argv;		/* the program's arguments */
	const char *program;	/* as it was named */
};

extern struct settings settings;

/* Ends with a line and status 125 when there is something wrong. */
void options_parse(int argc, char **argv);
/* The text of --inherit=; -1 when it does not fit. */
int options_inherit(char *buf, size_t size, const struct settings *set);

/* A line, and the end: the translator cannot start. */
#define die(...) do {		\
	say(__VA_ARGS__);	\
	_exit(125);		\
} while (0)

#endif /* CODEWP_OPTIONS_H */
