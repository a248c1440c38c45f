// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Real programs: runs every script of tests/translator/real natively and under
 * codewp-run, and compares standard output, standard error and exit status. The
 * backend is what follows the last '-' of its own name (real-uffd, ...).
 *
 * A case is an executable file whose first line names its interpreter, so that
 * each also tests "#!". The first lines of it, in whatever its language calls a
 * comment, may say
 *
 *	needs: PROGRAM-OR-PATH...	skip without (a path may be a pattern)
 *	seconds: N			time limit of one run, times TEST_SCALE; 30
 *	where: BACKEND...		default: uffd mprotect; what kmod needs in the VM
 *					is listed in vm-files
 *
 * Both runs have the same working directory, empty and new, and the same
 * environment: $REAL the folder of the cases, $GUESTS the folder of the guest
 * programs, $HOME and $TMPDIR the working directory, $WORDS a text of 100 KB. A
 * case prints nothing that differs from run to run: that is its own business,
 * and it says so where it leaves something out.
 */
#include <ctype.h>
#include <dirent.h>
#include <glob.h>
#include <sys/stat.h>

#include "test.h"
#include "programs.h"

struct real_test {
	struct test_case tc;
	char path[PATH_MAX + 300];
	char needs[512], where[128];
	unsigned int seconds;
};

static char cases[PATH_MAX + 32], work[80], words[80];

static bool exists(const char *what)
{
	static const char *const dir[] = { "/usr/bin", "/bin", "/usr/sbin", "/sbin" };
	char path[600];
	bool found;
	glob_t g;

	if (strchr(what, '/')) {
		found = !glob(what, 0, NULL, &g);
		globfree(&g);
		return found;
	}
	for (size_t i = 0; i < sizeof(dir) / sizeof(dir[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir[i], what);
		if (!access(path, X_OK))
			return true;
	}
	return false;
}

static void fresh_directory(void)
{
	char cmd[200];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", work);
	ASSERT_EQ(system(cmd), 0);
	ASSERT_EQ(mkdir(work, 0755), 0);
	ASSERT_EQ(chdir(work), 0);
}

static void run_case(void)
{
	struct real_test *rt = (struct real_test *)test_current;
	char *argv[] = { rt->path, NULL }, what[256];
	struct result n, t;

	for (char *s = rt->needs; *s; ) {
		size_t len = strcspn(s, " ");

		snprintf(what, sizeof(what), "%.*s", (int)len, s);
		if (len && !exists(what))
			SKIP("no %s here", what);
		s += len + (s[len] == ' ');
	}
	fresh_directory();
	run(argv, NULL, rt->seconds, &n);
	if (n.timeout)
		TEST_FAIL("the native run did not end in %u s", rt->seconds);
	/* the native run is the reference: a case that says nothing tests nothing */
	if (!n.out_size)
		TEST_FAIL("natively it prints nothing: status %d, '%.300s'", n.status, n.err);
	fresh_directory();
	run(translated(argv, NULL), NULL, rt->seconds, &t);
	same(&n, &t);
}

/* The value of "KEY: VALUE" if the line has it. */
static bool take(char *line, const char *key, char *value, size_t size)
{
	char *s = strstr(line, key);

	/* nothing but the comment sign before it */
	for (char *q = line; s && q < s; q++)
		if (isalnum((unsigned char)*q))
			return false;
	if (!s)
		return false;
	s += strlen(key);
	s += strspn(s, " \t");
	s[strcspn(s, "\n")] = 0;
	snprintf(value, size, "%s", s);
	return true;
}

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *s = list; (s = strstr(s, word)); s += n)
		if ((s == list || s[-1] == ' ') && (!s[n] || s[n] == ' '))
			return true;
	return false;
}

static int add_case(const char *name)
{
	struct real_test *rt = calloc(1, sizeof(*rt));
	char line[512], secs[32] = "30";
	FILE *f;

	if (!rt)
		return -1;
	snprintf(rt->path, sizeof(rt->path), "%s/%s", cases, name);
	snprintf(rt->where, sizeof(rt->where), "uffd mprotect");
	f = fopen(rt->path, "r");
	if (!f)
		return -1;
	for (int i = 0; i < 20 && fgets(line, sizeof(line), f); i++)
		if (!take(line, "needs:", rt->needs, sizeof(rt->needs)) &&
		    !take(line, "where:", rt->where, sizeof(rt->where)))
			take(line, "seconds:", secs, sizeof(secs));
	fclose(f);
	if (!has_word(rt->where, tt.backend)) {
		free(rt);
		return 0;
	}
	rt->seconds = atoi(secs);
	rt->tc.name = strdup(name);
	rt->tc.fn = run_case;
	rt->tc.seconds = 2 * rt->seconds + 20;	/* spawn_wait() has the limits that matter */
	test_add(&rt->tc);
	return 0;
}

static int is_case(const struct dirent *d)
{
	return d->d_name[0] != '.' && (d->d_type == DT_REG || d->d_type == DT_LNK);
}

static void set_environment(void)
{
	char *scale = getenv("TEST_SCALE"), *opts = getenv("CODEWP_RUN_OPTS");
	char *vm = getenv("CODEWP_VM"), *lib = getenv("LD_LIBRARY_PATH");

	clearenv();
	if (scale)
		setenv("TEST_SCALE", scale, 1);
	if (opts)
		setenv("CODEWP_RUN_OPTS", opts, 1);
	if (vm && lib)
		setenv("LD_LIBRARY_PATH", lib, 1);
	setenv("PATH", "/usr/bin:/bin:/usr/sbin:/sbin", 1);
	setenv("LC_ALL", "C", 1);
	setenv("TZ", "UTC", 1);
	setenv("USER", "nobody", 1);
	setenv("HOME", work, 1);
	setenv("TMPDIR", work, 1);
	setenv("WORDS", words, 1);
	setenv("REAL", cases, 1);
	setenv("GUESTS", tt.guests, 1);
}

static int prepare(void)
{
	struct dirent **list;
	int n;

	snprintf(cases, sizeof(cases), "%s/tests/translator/real", tt.top);
	snprintf(work, sizeof(work), "%s/work", tt.scratch);
	snprintf(words, sizeof(words), "%s/words", tt.scratch);
	set_environment();
	n = scandir(cases, &list, is_case, alphasort);
	if (n <= 0 || write_words(words))
		return 1;
	for (int i = 0; i < n; i++)
		if (add_case(list[i]->d_name))
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	return tt_main(argc, argv, "codewp-real", prepare);
}
