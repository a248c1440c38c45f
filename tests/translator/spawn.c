// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Run a command, keep what it writes, and never wait for ever. Output goes to
 * memfds, so that a program that writes much cannot block on us.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spawn.h"

static void slurp(int fd, char **buf, size_t *size)
{
	struct stat st;
	size_t got = 0;
	ssize_t n;

	*buf = NULL;
	*size = 0;
	if (fstat(fd, &st))
		return;
	*buf = malloc(st.st_size + 1);
	if (!*buf)
		return;
	while (got < (size_t)st.st_size &&
	       (n = pread(fd, *buf + got, st.st_size - got, got)) > 0)
		got += n;
	(*buf)[got] = 0;
	*size = got;
}

/* A pipe that a child of ours fills from the file. */
static int through_pipe(const char *path)
{
	char buf[4096];
	int fd[2], in;
	ssize_t n;

	if (pipe2(fd, O_CLOEXEC))
		return -errno;
	switch (fork()) {
	case -1:
		return -errno;
	case 0:
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		in = open(path, O_RDONLY);
		/* in small and odd pieces, as a slow writer would */
		while ((n = read(in, buf, 1000)) > 0)
			if (write(fd[1], buf, n) != n)
				break;
		_exit(0);
	}
	close(fd[1]);
	return fd[0];
}

static void child(char *const argv[], int in, int out, int err)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	/* execvp() would give to a shell what is no program */
	if (strchr(argv[0], '/'))
		execv(argv[0], argv);
	else
		execvp(argv[0], argv);
	_exit(127);
}

/*
 * What the command left behind: whoever has no parent any more became our child
 * (a subreaper's), in whatever process group it is.
 */
static void end_orphans(void)
{
	char path[64], buf[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", gettid());
	for (int tries = 0; tries < 1000; tries++) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? 0 : read(fd, buf, sizeof(buf) - 1);
		if (fd >= 0)
			close(fd);
		if (n <= 0)
			return;
		buf[n] = 0;
		for (char *s = buf, *end; *s; s = end + strspn(end, " \n")) {
			pid_t pid = strtol(s, &end, 10);

			if (end == s)
				break;
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
	}
}

int spawn_wait(char *const argv[], const char *in, unsigned int seconds, struct result *r)
{
	const char *scale = getenv("TEST_SCALE");
	int infd, out, err, pidfd, status = 0;
	struct pollfd pf;
	pid_t pid;

	memset(r, 0, sizeof(*r));
	if (scale && atoi(scale) > 0)
		seconds *= atoi(scale);
	infd = in && in[0] == '|' ? through_pipe(in + 1) :
	       open(in ? in : "/dev/null", O_RDONLY | O_CLOEXEC);
	out = memfd_create("out", MFD_CLOEXEC);
	err = memfd_create("err", MFD_CLOEXEC);
	if (infd < 0 || out < 0 || err < 0)
		return -errno;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = fork();
	if (!pid)
		child(argv, infd, out, err);
	if (pid < 0)
		return -errno;
	close(infd);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	pf = (struct pollfd){ .fd = pidfd, .events = POLLIN };
	if (pidfd >= 0 && poll(&pf, 1, seconds * 1000) == 0) {
		r->timeout = true;
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
	}
	if (pidfd >= 0)
		close(pidfd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	end_orphans();
	r->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	slurp(out, &r->out, &r->out_size);
	slurp(err, &r->err, &r->err_size);
	close(out);
	close(err);
	return 0;
}

void result_free(struct result *r)
{
	free(r->out);
	free(r->err);
	memset(r, 0, sizeof(*r));
}
