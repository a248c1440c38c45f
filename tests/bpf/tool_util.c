// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Run a tool, keep what it said, look its numbers up.
 */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sys/prctl.h>

#include "tool_util.h"

const char *beside(const char *rel)
{
	static char buf[8][PATH_MAX + 256];
	static unsigned int next;
	char self[PATH_MAX], *b = buf[next++ % 8];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	ASSERT_GT(n, 0);
	self[n] = '\0';
	snprintf(b, sizeof(buf[0]), "%s/%s", dirname(self), rel);
	return b;
}

static char *slurp_fd(int fd)
{
	size_t n = 0, size = 1 << 16;
	char *s = malloc(size);
	ssize_t r;

	ASSERT(s);
	lseek(fd, 0, SEEK_SET);
	while ((r = read(fd, s + n, size - n - 1)) > 0) {
		n += r;
		if (n + 1 == size) {
			size *= 2;
			s = realloc(s, size);
			ASSERT(s);
		}
	}
	s[n] = '\0';
	close(fd);
	return s;
}

char *slurp(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? strdup("") : slurp_fd(fd);
}

static pid_t start(const char *const *argv, int out, int err)
{
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid) {
		int null = open("/dev/null", O_RDONLY);

		/* A test that fails leaves nothing behind. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, 0);
		dup2(out, 1);
		dup2(err, 2);
		execv(argv[0], (char *const *)argv);
		dprintf(2, "%s: %s\n", argv[0], strerror(errno));
		_exit(126);
	}
	return pid;
}

struct said run(const char *const *argv)
{
	int out = memfd_create("out", MFD_CLOEXEC);
	int err = memfd_create("err", MFD_CLOEXEC);
	struct said s;
	pid_t pid;
	int st;

	ASSERT_GE(out, 0);
	ASSERT_GE(err, 0);
	pid = start(argv, out, err);
	ASSERT_EQ(waitpid(pid, &st, 0), pid);
	s.status = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
	s.out = slurp_fd(out);
	s.err = slurp_fd(err);
	return s;
}

pid_t spawn(const char *const *argv)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	pid_t pid = start(argv, null, null);

	close(null);
	return pid;
}

static const char *find(const char *text, const char *prefix, const char *name)
{
	const char *line = text, *found = NULL;
	size_t np = strlen(prefix), nn = strlen(name);

	while (line) {
		if (!strncmp(line, prefix, np) && !strncmp(line + np, name, nn) &&
		    line[np + nn] == ' ')
			found = line + np + nn + 1;
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return found;
}

bool has_named(const char *text, const char *prefix, const char *name)
{
	return find(text, prefix, name);
}

int64_t named(const char *text, const char *prefix, const char *name)
{
	const char *v = find(text, prefix, name);

	if (!v)
		TEST_FAIL("no line '%s%s' in: %.300s", prefix, name, text);
	return strtoll(v, NULL, 10);
}

void need_bpf(void)
{
	if (geteuid())
		SKIP("eBPF programs need root");
	if (access("/sys/bus/event_source/devices/uprobe/type", R_OK))
		SKIP("this kernel has no uprobes");
}

const char *temp_name(const char *what)
{
	static char buf[128];

	snprintf(buf, sizeof(buf), "/tmp/codewp-test.%d.%s", getpid(), what);
	return buf;
}
