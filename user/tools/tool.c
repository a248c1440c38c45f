// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Messages, numbers, siblings: the small change of the tools. No state but the
 * tool's name.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

const char *tool_name = "codewp";

static void vwarn(const char *fmt, va_list ap)
{
	fflush(stdout);
	fprintf(stderr, "%s: ", tool_name);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

void tool_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vwarn(fmt, ap);
	va_end(ap);
}

void tool_die(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vwarn(fmt, ap);
	va_end(ap);
	exit(status);
}

void tool_usage_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vwarn(fmt, ap);
	va_end(ap);
	fprintf(stderr, "Try '%s --help'.\n", tool_name);
	exit(EXIT_USAGE);
}

long tool_number(const char *s, const char *what, long min, long max)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(s, &end, 10);
	if (end == s || *end || errno)
		tool_usage_error("%s: '%s' is not a number", what, s);
	if (n < min || n > max)
		tool_usage_error("%s: %s is not in %ld..%ld", what, s, min, max);
	return n;
}

uint64_t tool_seconds(const char *s, const char *what)
{
	char *end;
	double d;

	errno = 0;
	d = strtod(s, &end);
	if (end == s || *end || errno)
		tool_usage_error("%s: '%s' is not a number of seconds", what, s);
	if (!(d >= 0.01 && d <= 1e6))
		tool_usage_error("%s: %s is not in 0.01..1000000 seconds", what, s);
	return (uint64_t)(d * 1e9);
}

bool tool_sibling(const char *name, char *path, size_t size)
{
	static const char * const places[] = { "", "/../libexec/codewp" };
	char self[PATH_MAX], try[PATH_MAX + 64], *dir;
	size_t i;
	ssize_t n;

	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return false;
	self[n] = '\0';
	dir = dirname(self);
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(try, sizeof(try), "%s%s/%s", dir, places[i], name);
		if (!access(try, X_OK) && strlen(try) < size) {
			strcpy(path, try);
			return true;
		}
	}
	return false;
}

const char *tool_count(char *buf, uint64_t n, int width)
{
	static const char unit[] = "kMGTPE";
	double d = n;
	int u = -1;

	if (snprintf(buf, 24, "%llu", (unsigned long long)n) <= width)
		return buf;
	do {
		d /= 1000;
		u++;
	} while (snprintf(buf, 24, "%.1f%c", d, unit[u]) > width && unit[u + 1]);
	return buf;
}

uint64_t tool_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}
