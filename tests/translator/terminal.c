// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A program on a terminal: Ctrl-C, Ctrl-Z and Ctrl-\, kill, hang-up, a reader
 * that goes away. Each scene is played natively and translated, and what the
 * shell (a process of ours, the leader of the terminal's session) sees of the
 * job, and what the terminal shows, is compared.
 */
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <termios.h>
#include <time.h>

#include "test.h"
#include "programs.h"

/* What happened, as text: compared as a whole. */
static char story[65536];
static size_t told, matched;

static void tell(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	told += vsnprintf(story + told, sizeof(story) - told, fmt, ap);
	va_end(ap);
}

static void tell_status(int status)
{
	if (WIFSTOPPED(status))
		tell("[stopped by %d]", WSTOPSIG(status));
	else if (WIFSIGNALED(status))
		tell("[killed by %d]", WTERMSIG(status));
	else if (WIFEXITED(status))
		tell("[exit %d]", WEXITSTATUS(status));
	else
		tell("[continued]");
}

/*
 * The shell: puts the job into the foreground, reports what becomes of it
 * through the pipe, and continues it when told to ("c"), or hangs up ("h").
 */
static _Noreturn void shell(char *const argv[], int reports, int orders)
{
	const int continued = 0xffff;
	int status;
	pid_t pid;
	char c;

	signal(SIGTTOU, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTSTP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		tcsetpgrp(0, getpid());
		signal(SIGTTOU, SIG_DFL);
		signal(SIGTTIN, SIG_DFL);
		signal(SIGTSTP, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		signal(SIGQUIT, SIG_DFL);
		execvp(argv[0], argv);
		_exit(127);
	}
	setpgid(pid, pid);
	if (write(reports, &pid, sizeof(pid)) != sizeof(pid))
		_exit(1);
	for (;;) {
		if (waitpid(pid, &status, WUNTRACED) != pid ||
		    write(reports, &status, sizeof(status)) != sizeof(status))
			_exit(1);
		if (!WIFSTOPPED(status))
			_exit(0);
		if (read(orders, &c, 1) != 1 || c == 'h')
			_exit(0);
		tcsetpgrp(0, pid);
		kill(-pid, SIGCONT);
		/* a key typed before would be forgotten by it */
		if (write(reports, &continued, sizeof(continued)) != sizeof(continued))
			_exit(1);
	}
}

struct scene {
	int master, reports, orders;
	pid_t shell, job;
};

static void open_scene(struct scene *s, char *const argv[])
{
	struct termios tio;
	int reports[2], orders[2];

	ASSERT_EQ(pipe2(reports, O_CLOEXEC), 0);
	ASSERT_EQ(pipe2(orders, O_CLOEXEC), 0);
	s->shell = forkpty(&s->master, NULL, NULL, NULL);
	ASSERT_GE(s->shell, 0);
	if (!s->shell) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		tcgetattr(0, &tio);
		tio.c_oflag &= ~OPOST;
		tcsetattr(0, TCSANOW, &tio);
		shell(argv, reports[1], orders[0]);
	}
	close(reports[1]);
	close(orders[0]);
	s->reports = reports[0];
	s->orders = orders[1];
	ASSERT_EQ(read(s->reports, &s->job, sizeof(s->job)), (ssize_t)sizeof(s->job));
}

/* Wait for the text on the terminal, behind the last one; tell all that came. */
static void until(struct scene *s, const char *text)
{
	const char *scale = getenv("TEST_SCALE");
	struct pollfd pf = { .fd = s->master, .events = POLLIN };
	char *at;

	while (!(at = strstr(story + matched, text))) {
		ssize_t n;

		if (poll(&pf, 1, 10000 * (scale ? atoi(scale) : 1)) <= 0)
			TEST_FAIL("no '%s' came: '%.300s'", text, story + matched);
		n = read(s->master, story + told, sizeof(story) - told - 1);
		if (n <= 0)
			TEST_FAIL("the terminal ended before '%s': '%.300s'", text, story + matched);
		told += n;
		story[told] = 0;
	}
	matched = at + strlen(text) - story;
}

static void types(struct scene *s, const char *keys)
{
	ASSERT_EQ(write(s->master, keys, strlen(keys)), (ssize_t)strlen(keys));
}

static void event(struct scene *s)
{
	struct pollfd pf = { .fd = s->reports, .events = POLLIN };
	const char *scale = getenv("TEST_SCALE");
	int status;

	if (poll(&pf, 1, 10000 * (scale ? atoi(scale) : 1)) <= 0)
		TEST_FAIL("nothing became of the job; so far: '%.300s'", story);
	ASSERT_EQ(read(s->reports, &status, sizeof(status)), (ssize_t)sizeof(status));
	tell_status(status);
}

static void continues(struct scene *s)
{
	ASSERT_EQ(write(s->orders, "c", 1), 1);
	event(s);
}

static void close_scene(struct scene *s)
{
	kill(-s->job, SIGKILL);
	kill(s->shell, SIGKILL);
	waitpid(s->shell, NULL, 0);
	close(s->master);
	close(s->reports);
	close(s->orders);
}

/* Play it twice; what is told must be the same. */
static void play(char *const argv[], void (*plot)(struct scene *s))
{
	static char native[sizeof(story)];
	struct scene s;

	open_scene(&s, argv);
	plot(&s);
	close_scene(&s);
	strcpy(native, story);
	memset(story, 0, sizeof(story));
	told = matched = 0;
	open_scene(&s, translated(argv, NULL));
	plot(&s);
	close_scene(&s);
	if (strcmp(native, story))
		TEST_FAIL("native '%.200s', translated '%.200s'", native, story);
}

/* Not by a child of the shell: dash forgets an interrupt while it starts one. */
static char *sleeper[] = { "/bin/bash", "-c", "echo ready; exec sleep 1000", NULL };
static char *computer[] = {
	"/bin/sh", "-c", "echo ready; i=0; while :; do i=$((i + 1)); done", NULL
};
/* Not bash: natively, too, it loses one trap in a thousand. */
static char *trapper[] = {
	"/usr/bin/perl", "-e", "$| = 1; $SIG{INT} = sub { print qq(int\\n) };"
	"$SIG{QUIT} = sub { print qq(quit\\n) }; $SIG{TERM} = sub { print qq(term\\n) };"
	"$SIG{HUP} = sub { print qq(hup\\n); exit 4 }; $SIG{CONT} = sub { print qq(cont\\n) };"
	"print qq(ready\\n); $i++ while 1", NULL
};
static char *reader[] = { "/bin/cat", NULL };

static void ctrl_c_kills(struct scene *s)
{
	until(s, "ready");
	types(s, "\003");
	event(s);
}

static void ctrl_backslash_kills(struct scene *s)
{
	until(s, "ready");
	types(s, "\034");
	event(s);
}

static void ctrl_z_stops(struct scene *s)
{
	until(s, "ready");
	types(s, "\032");
	event(s);
	continues(s);
	types(s, "\032");
	event(s);
	continues(s);
	types(s, "\003");
	event(s);
}

static void traps_all(struct scene *s)
{
	until(s, "ready");
	for (int i = 0; i < 3; i++) {
		types(s, "\003");
		until(s, "int\n");
		types(s, "\034");
		until(s, "quit\n");
		kill(s->job, SIGTERM);
		until(s, "term\n");
	}
	types(s, "\032");
	event(s);
	continues(s);
	until(s, "cont\n");
	kill(s->job, SIGHUP);
	until(s, "hup\n");
	event(s);
}

static void reads_lines(struct scene *s)
{
	types(s, "first line\n");
	until(s, "first line\nfirst line\n");
	types(s, "half \177\177f a line\n");
	until(s, "half a line\n");
	types(s, "\032");
	event(s);
	continues(s);
	types(s, "after the stop\n");
	until(s, "after the stop\nafter the stop\n");
	types(s, "\004");
	event(s);
}

static void kills_by(struct scene *s, int sig)
{
	until(s, "ready");
	kill(s->job, sig);
	event(s);
}

static void killed_term(struct scene *s) { kills_by(s, SIGTERM); }
static void killed_kill(struct scene *s) { kills_by(s, SIGKILL); }
static void killed_usr1(struct scene *s) { kills_by(s, SIGUSR1); }
static void killed_segv(struct scene *s) { kills_by(s, SIGSEGV); }
static void killed_rt(struct scene *s) { kills_by(s, SIGRTMIN + 3); }

static void hangs_up(struct scene *s)
{
	until(s, "ready");
	/* the job is in the foreground: the kernel sends it SIGHUP */
	kill(s->shell, SIGKILL);
	waitpid(s->shell, NULL, 0);
	for (int i = 0; i < 500; i++) {
		if (kill(s->job, 0) && errno == ESRCH) {
			tell("[gone]");
			return;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
	TEST_FAIL("it lives on after the hang-up");
}

TEST(ctrl_c_while_waiting) { play(sleeper, ctrl_c_kills); }
TEST(ctrl_c_while_computing) { play(computer, ctrl_c_kills); }
TEST(ctrl_backslash_while_computing) { play(computer, ctrl_backslash_kills); }
TEST(ctrl_z_while_waiting) { play(sleeper, ctrl_z_stops); }
TEST(ctrl_z_while_computing) { play(computer, ctrl_z_stops); }
TEST_LONG(handlers_of_a_computing_program, 60) { play(trapper, traps_all); }
TEST(reader_of_a_terminal) { play(reader, reads_lines); }
TEST(kill_term) { play(computer, killed_term); }
TEST(kill_kill) { play(computer, killed_kill); }
TEST(kill_usr1) { play(computer, killed_usr1); }
TEST(kill_segv) { play(computer, killed_segv); }
TEST(kill_real_time) { play(computer, killed_rt); }
TEST(hang_up) { play(sleeper, hangs_up); }

/* An interactive shell with job control of its own. */
static char *interactive[] = { "/bin/bash", "--norc", "--noprofile", "-i", NULL };

static void types_commands(struct scene *s)
{
	until(s, "$ ");
	types(s, "sleep 1000\n");
	until(s, "sleep 1000");
	nanosleep(&(struct timespec){ .tv_nsec = 500000000 }, NULL);
	types(s, "\032");
	until(s, "Stopped");
	until(s, "$ ");
	types(s, "fg\n");
	until(s, "sleep 1000");
	nanosleep(&(struct timespec){ .tv_nsec = 500000000 }, NULL);
	types(s, "\003");
	until(s, "$ ");
	types(s, "echo $?; jobs; exit 9\n");
	event(s);
}

TEST_LONG(interactive_bash, 60)
{
	setenv("PS1", "$ ", 1);
	setenv("TERM", "dumb", 1);
	setenv("INPUTRC", "/dev/null", 1);
	play(interactive, types_commands);
}

/* A reader that goes away: SIGPIPE, and EPIPE for who ignores it. */
static void reader_goes(const char *before)
{
	char cmd[2 * PATH_MAX], *argv[] = { "/bin/bash", "-c", cmd, NULL };
	struct result n, t;

	snprintf(cmd, sizeof(cmd), "%s yes | head -n 1; echo ${PIPESTATUS[0]}", before);
	run(argv, NULL, 20, &n);
	snprintf(cmd, sizeof(cmd), "%s %s %s -- yes | head -n 1; echo ${PIPESTATUS[0]}", before,
		 tt.runner, tt.backend_opt);
	run(argv, NULL, 20, &t);
	same(&n, &t);
}

TEST(reader_goes_away) { reader_goes(""); }
TEST(reader_goes_away_sigpipe_ignored) { reader_goes("trap '' PIPE;"); }

int main(int argc, char **argv)
{
	return tt_main(argc, argv, "codewp-tty", NULL);
}
