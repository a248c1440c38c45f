/* SPDX-License-Identifier: GPL-2.0 OR MIT */
#ifndef CODEWP_SCRIPT_H
#define CODEWP_SCRIPT_H

#define SCRIPT_LINE	256	/* of a file, what execve() looks at first */
#define SCRIPT_DEPTH	5	/* scripts that are run by scripts */

int script_parse(char *buf, char **name, char **arg);

#endif /* CODEWP_SCRIPT_H */
