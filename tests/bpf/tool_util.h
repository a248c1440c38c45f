/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Run a tool, keep what it said, look its numbers up.
 */
#ifndef TOOL_UTIL_H
#define TOOL_UTIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "test.h"

struct said {
	char *out, *err;	/* whole text, terminated */
	int status;		/* exit status, or 128 + signal */
};

/* Path of a file relative to the folder of the running test program. */
const char *beside(const char *rel);

/* Run argv (argv[0] is a path), wait, keep both streams. */
struct said run(const char *const *argv);
#define RUN(...) run((const char *const []){ __VA_ARGS__, NULL })

/* Start it with stderr and stdout into /dev/null. */
pid_t spawn(const char *const *argv);
#define SPAWN(...) spawn((const char *const []){ __VA_ARGS__, NULL })

/* Whole file; "" if it is not there yet. */
char *slurp(const char *path);

/*
 * Value of the last line "NAME VALUE" (after an optional prefix) of a text; the
 * test fails without one.
 */
int64_t named(const char *text, const char *prefix, const char *name);
bool has_named(const char *text, const char *prefix, const char *name);

/* SKIP unless eBPF programs and uprobes can be used here. */
void need_bpf(void);

/* A name in /tmp that no other run uses. */
const char *temp_name(const char *what);

#endif
