/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Running a command with a time limit, and keeping what it says. */
#ifndef SPAWN_H
#define SPAWN_H

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

#endif /* SPAWN_H */
