/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What every tool needs: messages, numbers, and finding its siblings.
 */
#ifndef CODEWP_TOOL_H
#define CODEWP_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses, as env(1), timeout(1) and the shells have them. */
#define EXIT_USAGE	2	/* wrong arguments */
#define EXIT_TOOL	125	/* the tool itself failed, PROGRAM did not run */
#define EXIT_NOTFOUND	127	/* no such command or program */

/* Name that messages begin with; main() sets it. */
extern const char *tool_name;

/** tool_warn - one line "NAME: message" on stderr */
void tool_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** tool_die - tool_warn(), then exit with @status */
_Noreturn void tool_die(int status, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** tool_usage_error - tool_die(EXIT_USAGE) with a hint at --help */
_Noreturn void tool_usage_error(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));

/**
 * tool_number - parse a decimal number, whole string
 * @s: the argument
 * @what: its name, for the message
 * @min: smallest allowed
 * @max: largest allowed
 *
 * Does not return when @s is something else.
 */
long tool_number(const char *s, const char *what, long min, long max);

/** tool_seconds - parse a time in seconds, fractions allowed; as nanoseconds */
uint64_t tool_seconds(const char *s, const char *what);

/**
 * tool_sibling - path of another program of codewp
 * @name: "codewp-run"
 * @path: result
 * @size: of @path
 *
 * Looks beside the running program, then in ../libexec/codewp from there.
 * Returns false if there is none.
 */
bool tool_sibling(const char *name, char *path, size_t size);

/**
 * tool_count - a counter in at most @width characters
 * @buf: at least 24 bytes
 *
 * Exact if it fits, else with k, M, G or T. Returns @buf.
 */
const char *tool_count(char *buf, uint64_t n, int width);

/** tool_now - CLOCK_MONOTONIC in ns, the clock of bpf_ktime_get_ns() */
uint64_t tool_now(void);

#endif /* CODEWP_TOOL_H */
