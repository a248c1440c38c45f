/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The driver's parts: running a command with a time limit (spawn.c), and the
 * table of ordinary programs (table.c).
 */
#ifndef PROGRAMS_H
#define PROGRAMS_H

#include <stdbool.h>
#include <stddef.h>

struct result {
	int status;		/* exit status, or 128 + signal */
	bool timeout;
	char *out, *err;	/* what it wrote; malloc'ed, a NUL behind */
	size_t out_size, err_size;
};

/*
 * Run argv[0] (a path, or a name in PATH) with its stdin from the file named
 * (NULL: /dev/null; "|FILE": the file through a pipe), in the current
 * directory, for at most the given number of seconds (times TEST_SCALE).
 * Returns 0, or -errno when it could not even be started.
 */
int spawn_wait(char *const argv[], const char *in, unsigned int seconds, struct result *r);
void result_free(struct result *r);

/*
 * One program to be run natively and translated. In args: @D is the directory
 * of the data files, @W the words file that the driver wrote, @G the directory
 * of the guest programs.
 */
struct program {
	const char *name;
	const char *args[12];	/* args[0]: the program */
	const char *in;		/* stdin, as for spawn_wait(); @W and so on, too */
	unsigned int seconds;	/* 0: 20 */
};

extern const struct program programs[];

#endif /* PROGRAMS_H */
