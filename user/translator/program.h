/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Which file a program is, and whether execve() would run it.
 */
#ifndef CODEWP_PROGRAM_H
#define CODEWP_PROGRAM_H

#include "script.h"

#include <stdbool.h>

/*
 * What execve() would open. at_flags: AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW. A
 * descriptor for reading, close-on-exec, or -errno; with *unreadable it may be
 * run but not read, and the descriptor has O_PATH.
 */
int program_open(int dirfd, const char *path, int at_flags, bool *unreadable);

enum program_kind { PROGRAM_SCRIPT, PROGRAM_ELF };

struct program_probe {
	enum program_kind kind;
	char line[SCRIPT_LINE];	/* what the next two point into */
	char *name, *arg;	/* SCRIPT */
};

/* 0; or -errno, as execve() says when it does not know what this is. */
int program_probe(int fd, struct program_probe *p);

/* Would running it change this process's user, group or capabilities? */
bool program_privileged(int fd);

/* What the user asked for. */
struct program {
	int fd;			/* open for reading, guarded */
	const char *name;	/* as execve() got it */
	char **argv;
};

/* main.c: find it, follow scripts to what runs them; ends with 126 or 127 */
void program_find(struct program *prog);

#endif /* CODEWP_PROGRAM_H */
