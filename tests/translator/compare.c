// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What the drivers share: where things are, putting codewp-run before a
 * command, and comparing a translated run with the native one.
 *
 * A driver finds codewp-run and everything else relative to itself. Its backend
 * is what follows the last '-' of its own name (programs-uffd, ...). More
 * options for codewp-run come from the environment:
 * CODEWP_RUN_OPTS="--max-insns=1"; CODEWP_RUN names another codewp-run.
 */
#include <limits.h>
#include <stdarg.h>

#include "test.h"
#include "programs.h"

struct tt tt;

static int tt_setup(const char *argv0, const char *name)
{
	ssize_t n = readlink("/proc/self/exe", tt.top, sizeof(tt.top) - 1);
	const char *own = getenv("CODEWP_RUN"), *dash = strrchr(argv0, '-');

	/* build/tests/translator/DRIVER-BACKEND */
	for (int i = 0; n > 0 && i < 3; i++) {
		char *slash = strrchr(tt.top, '/');

		if (!slash)
			return -1;
		*slash = 0;
	}
	snprintf(tt.guests, sizeof(tt.guests), "%s/tests/translator/guest", tt.top);
	snprintf(tt.data, sizeof(tt.data), "%s/tests/translator/data", tt.top);
	snprintf(tt.runner, sizeof(tt.runner), "%s%s", own ?: tt.top,
		 own ? "" : "/bin/codewp-run");
	tt.backend = dash ? dash + 1 : "auto";
	snprintf(tt.backend_opt, sizeof(tt.backend_opt), "--backend=%s", tt.backend);
	snprintf(tt.scratch, sizeof(tt.scratch), "/tmp/%s.XXXXXX", name);
	return mkdtemp(tt.scratch) ? 0 : -1;
}

static void tt_clean_up(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", tt.scratch);
	if (system(cmd))
		fprintf(stderr, "could not remove %s\n", tt.scratch);
}

int tt_main(int argc, char **argv, const char *name, int (*prepare)(void))
{
	int status;

	if (tt_setup(argv[0], name)) {
		perror(name);
		return 1;
	}
	setenv("LC_ALL", "C", 1);
	setenv("PATH", "/usr/bin:/bin:/usr/sbin:/sbin", 1);
	status = prepare ? prepare() : 0;
	if (!status)
		status = test_main(argc, argv);
	tt_clean_up();
	return status;
}

char **translated(char *const argv[], const char *extra)
{
	static char *v[64], opts[512], more[256];
	const char *env = getenv("CODEWP_RUN_OPTS");
	int n = 0;

	v[n++] = tt.runner;
	v[n++] = tt.backend_opt;
	snprintf(opts, sizeof(opts), "%s", env ? env : "");
	for (char *s = strtok(opts, " "); s && n < 20; s = strtok(NULL, " "))
		v[n++] = s;
	snprintf(more, sizeof(more), "%s", extra ? extra : "");
	for (char *s = strtok(more, " "); s && n < 30; s = strtok(NULL, " "))
		v[n++] = s;
	v[n++] = "--";
	for (int i = 0; argv[i] && n < 63; i++)
		v[n++] = argv[i];
	v[n] = NULL;
	return v;
}

void run(char *const argv[], const char *in, unsigned int seconds, struct result *r)
{
	int err = spawn_wait(argv, in, seconds, r);

	if (err)
		TEST_FAIL("cannot start %s: %s", argv[0], strerror(-err));
}

/* The first line that differs, for the message. */
static void first_difference(const char *what, const char *want, const char *got)
{
	const char *w = want, *g = got;
	int line = 1;

	for (; *w && *w == *g; w++, g++)
		line += *w == '\n';
	while (w > want && w[-1] != '\n')
		w--, g--;
	TEST_FAIL("%s differs in line %d: native '%.*s', translated '%.*s'", what, line,
		  (int)strcspn(w, "\n") > 120 ? 120 : (int)strcspn(w, "\n"), w,
		  (int)strcspn(g, "\n") > 120 ? 120 : (int)strcspn(g, "\n"), g);
}

void same(const struct result *n, const struct result *t)
{
	if (t->timeout)
		TEST_FAIL("translated, it did not end in time; native status %d; said '%.200s'",
			  n->status, t->err);
	if (t->status != n->status)
		TEST_FAIL("native status %d, translated %d; out '%.100s' err '%.250s'", n->status,
			  t->status, t->out_size > 100 ? t->out + t->out_size - 100 : t->out, t->err);
	if (t->out_size != n->out_size || memcmp(t->out, n->out, n->out_size))
		first_difference("stdout", n->out, t->out);
	if (t->err_size != n->err_size || memcmp(t->err, n->err, n->err_size))
		first_difference("stderr", n->err, t->err);
}

char *one_line(struct result *r)
{
	char *nl = memchr(r->err, '\n', r->err_size);

	if (nl && nl[1])
		TEST_FAIL("more than one line: '%.300s'", r->err);
	if (nl)
		*nl = 0;
	return r->err;
}

void both_the_same(char *const argv[])
{
	struct result n, t;

	run(argv, NULL, 20, &n);
	run(translated(argv, NULL), NULL, 20, &t);
	same(&n, &t);
	result_free(&n);
	result_free(&t);
}

void one_clear_line(struct result *t, const char *word)
{
	char *line = one_line(t);

	if (strncmp(line, "codewp run: ", 12) || (word && !strcasestr(line, word)))
		TEST_FAIL("line without '%s': '%.200s'", word ?: "codewp run: ", line);
}

int write_words(const char *words)
{
	static const char *const w[] = {
		"the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "and", "fix",
		"dig", "fog", "apple", "banana", "zebra", "Quartz", "of", "a", "Xenon", "end",
	};
	char cmd[1024];
	unsigned int x = 1;
	FILE *f = fopen(words, "w");

	if (!f)
		return -1;
	for (int line = 0; line < 3000; line++) {
		fprintf(f, "%d %u", line % 97, x >> 16 & 1023);
		for (int i = 0; i < 5; i++) {
			x = x * 1103515245 + 12345;
			fprintf(f, " %s", w[(x >> 16) % 20]);
		}
		fputc('\n', f);
	}
	if (fclose(f))
		return -1;
	/* whatever of these is missing here leaves an empty file */
	snprintf(cmd, sizeof(cmd), "exec 2>/dev/null; gzip -n -c %s >%s.gz; bzip2 -c %s >%s.bz2;"
		 "xz -1 -c %s >%s.xz", words, words, words, words, words, words);
	return system(cmd) < 0 ? -1 : 0;
}
