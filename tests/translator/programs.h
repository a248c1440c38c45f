/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What the drivers share: running a command with a time limit (spawn.c), running
 * it both ways and comparing (compare.c), the table of small commands (table.c).
 */
#ifndef PROGRAMS_H
#define PROGRAMS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "spawn.h"

/* What a driver knows about its place; tt_main() fills it in. */
struct tt {
	char top[PATH_MAX];			/* build/ */
	char guests[PATH_MAX + 32], data[PATH_MAX + 32];
	char runner[PATH_MAX + 32];		/* codewp-run */
	const char *backend;
	char backend_opt[64];
	char scratch[64];			/* a directory of its own */
};

extern struct tt tt;

/*
 * main() of a driver: finds its place, gives it a scratch directory /tmp/NAME.xxx
 * and an environment that changes nothing in what programs print, lets prepare()
 * (or NULL) make the tests that are made at run time, runs them, cleans up.
 * Returns the exit status.
 */
int tt_main(int argc, char **argv, const char *name, int (*prepare)(void));

/*
 * Put "codewp-run options [extra] --" before a command. The vector is static:
 * the next call writes over it.
 */
char **translated(char *const argv[], const char *extra);

/* spawn_wait() that fails the test if nothing can be started. */
void run(char *const argv[], const char *in, unsigned int seconds, struct result *r);

/* Fail the test unless the translated run said and returned what the native did. */
void same(const struct result *n, const struct result *t);

/* Run it both ways, and compare. */
void both_the_same(char *const argv[]);

/* The only line of its stderr, without the newline; more fail the test. */
char *one_line(struct result *r);

/* It is one that begins with who speaks, and says (unless NULL) this word. */
void one_clear_line(struct result *t, const char *word);

/*
 * Write a text of about 100 KB, always the same, to that path; and packed by
 * gzip, bzip2 and xz beside it. Returns 0, or -1.
 */
int write_words(const char *words);

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
