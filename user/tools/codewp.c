// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp - the front of all commands: `codewp NAME ARGS` becomes codewp-NAME,
 * found beside this program or in ../libexec/codewp. Nothing else happens here.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <codewp.h>

#include "tool.h"

static const struct command {
	const char *name, *what;
} commands[] = {
	{ "run",    "run an x86-64 program translated, its self-modifying code traced" },
	{ "stat",   "run a program and show which pages of code were written, and by whom" },
	{ "top",    "the same, live, for what runs on this machine" },
	{ "vm",     "run a guest in a small VM under KVM, its code watched" },
	{ "guest",  "show which pages of a KVM guest are written, and by which vCPU" },
	{ "who",    "show which code of a KVM guest writes to which page" },
	{ "doctor", "say which ways to trap writes work here, and why the others do not" },
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *f)
{
	size_t i;

	fputs("Usage: codewp COMMAND [OPTIONS] [-- PROGRAM [ARGS]]\n"
	      "Find self-modifying code, in hardware.\n\n", f);
	for (i = 0; i < NCOMMANDS; i++)
		fprintf(f, "  %-8s %s\n", commands[i].name, commands[i].what);
	fputs("\n'codewp COMMAND --help' says more; so does man codewp.\n", f);
}

int main(int argc, char **argv)
{
	char path[PATH_MAX], name[32];
	size_t i;

	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
	    !strcmp(argv[1], "help")) {
		usage(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("codewp %d.%d\n", CODEWP_VERSION_MAJOR, CODEWP_VERSION_MINOR);
		return 0;
	}
	if (argv[1][0] == '-')
		tool_usage_error("no option '%s'", argv[1]);
	for (i = 0; i < NCOMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			break;
	if (i == NCOMMANDS) {
		tool_warn("no command '%s'", argv[1]);
		fputs("Try 'codewp --help'.\n", stderr);
		return EXIT_NOTFOUND;
	}
	snprintf(name, sizeof(name), "codewp-%s", commands[i].name);
	if (!tool_sibling(name, path, sizeof(path)))
		tool_die(EXIT_NOTFOUND,
			 "%s is not beside this program, nor in ../libexec/codewp: was it built?",
			 name);
	argv[1] = name;
	execv(path, argv + 1);
	tool_die(126, "%s: %s", path, strerror(errno));
}
