// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The first line of a script, read as the kernel reads it. Nothing but text.
 */
#include "script.h"

#include <errno.h>
#include <stddef.h>

static int blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The first in p..last that is no blank; the first that ends a word. Or NULL. */
static char *skip_blanks(char *p, const char *last)
{
	for (; p <= last; p++)
		if (!blank(*p))
			return p;
	return NULL;
}

static char *word_end(char *p, const char *last)
{
	for (; p <= last; p++)
		if (blank(*p) || !*p)
			return p;
	return NULL;
}

/**
 * script_parse() - which program runs this script
 * @buf: the first SCRIPT_LINE bytes of the file, zeros behind its end; NULs are
 *	 written into it
 * @name: the program
 * @arg: its one argument, or NULL
 *
 * Return: 1; 0 when it is no script; -ENOEXEC when it is one that cannot run.
 */
int script_parse(char *buf, char **name, char **arg)
{
	char *last = buf + SCRIPT_LINE - 1, *end, *sep;

	if (buf[0] != '#' || buf[1] != '!')
		return 0;
	for (end = buf + 2; end <= last && *end && *end != '\n'; end++)
		;
	if (end > last || !*end) {
		/* The line does not end here: good if the name is known to be whole. */
		end = skip_blanks(buf + 2, last);
		if (!end || !word_end(end, last))
			return -ENOEXEC;
		end = last;
	}
	while (blank(end[-1]))
		end--;
	*end = 0;
	*name = skip_blanks(buf + 2, end);
	if (*name == end)
		return -ENOEXEC;
	sep = word_end(*name, end);
	*arg = *sep ? skip_blanks(sep, end) : NULL;
	*sep = 0;
	/* No name at all: the kernel looks up the current directory. */
	if (!**name)
		*name = ".";
	return 1;
}
