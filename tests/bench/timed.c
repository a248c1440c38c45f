// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * timed: how long one program takes, without the shell around it.
 *
 * usage: timed SECONDS OUT ERR PROGRAM [ARG]...
 *
 * Runs PROGRAM in a process group of its own, with /dev/null to read from and the two
 * files to write to. Prints "WALL CPU STATUS": seconds from the fork to the end;
 * processor seconds, user and kernel, of it and of all children that it waited for;
 * its status as a shell shows it, or "late" when it took longer than SECONDS and was
 * killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double seconds(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

static void redirect(int fd, const char *path, int flags)
{
	int file = open(path, flags, 0666);

	if (file < 0 || dup2(file, fd) < 0) {
		fprintf(stderr, "timed: %s: %s\n", path, strerror(errno));
		_exit(125);
	}
	close(file);
}

static void child(char **argv, const sigset_t *mask)
{
	setpgid(0, 0);
	sigprocmask(SIG_SETMASK, mask, NULL);
	redirect(0, "/dev/null", O_RDONLY);
	redirect(1, argv[2], O_WRONLY | O_CREAT | O_TRUNC);
	redirect(2, argv[3], O_WRONLY | O_CREAT | O_TRUNC);
	execvp(argv[4], argv + 4);
	fprintf(stderr, "timed: %s: %s\n", argv[4], strerror(errno));
	_exit(127);
}

int main(int argc, char **argv)
{
	double limit, begin, end;
	sigset_t chld, old;
	struct rusage use;
	struct timespec t;
	int status, late = 0;
	pid_t pid;

	limit = argc > 4 ? atof(argv[1]) : 0;
	if (limit <= 0) {
		fprintf(stderr, "usage: timed SECONDS OUT ERR PROGRAM [ARG]...\n");
		return 125;
	}
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &old);
	begin = now();
	pid = fork();
	if (pid < 0) {
		perror("timed: fork");
		return 125;
	}
	if (!pid)
		child(argv, &old);
	while (wait4(pid, &status, WNOHANG, &use) == 0) {
		double left = begin + limit - now();

		if (left <= 0) {
			late = 1;
			kill(-pid, SIGKILL);
			wait4(pid, &status, 0, &use);
			break;
		}
		t.tv_sec = left;
		t.tv_nsec = (left - t.tv_sec) * 1e9;
		sigtimedwait(&chld, NULL, &t);
	}
	end = now();
	/* What it has left behind must not disturb the next one. */
	kill(-pid, SIGKILL);
	printf("%.5f %.5f ", end - begin, seconds(use.ru_utime) + seconds(use.ru_stime));
	if (late)
		printf("late\n");
	else
		printf("%d\n", WIFSIGNALED(status) ? 128 + WTERMSIG(status) :
			       WEXITSTATUS(status));
	return 0;
}
