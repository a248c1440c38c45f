// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * execve: what the new program gets, what the old one is told when there is
 * none, scripts, and the libc calls that are made of fork and exec.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "guest.h"

static char dir[64];

static void clean_up(void)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	CHECK(!chdir("/"));
	if (system(cmd))
		printf("not cleaned up\n");
}

/* A directory of this case's own; the current one from now on. */
static void enter_dir(void)
{
	strcpy(dir, "/tmp/guest-exec.XXXXXX");
	CHECK(mkdtemp(dir));
	CHECK(!chdir(dir));
}

static void file(const char *name, const void *bytes, size_t size, mode_t mode)
{
	int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, bytes, size), (ssize_t)size);
	CHECK(!fchmod(fd, mode));
	close(fd);
}

static void text(const char *name, const char *content)
{
	file(name, content, strlen(content), 0755);
}

static char *const plain_env[] = { "PATH=/usr/bin:/bin", "A=1", "B=two words", "EMPTY=", NULL };

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		CHECK_EQ(errno, EINTR);
	return status;
}

/* Run it in a child; what it prints is the test. */
static void in_child(const char *path, char *const argv[], char *const envp[])
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		execve(path, argv, envp);
		printf("%s: errno %d\n", path, errno);
		fflush(stdout);
		_exit(126);
	}
	printf("status %#x\n", wait_for(pid));
}

#define RUN(path, ...) in_child(path, (char *[]){ __VA_ARGS__, NULL }, plain_env)

CASE(arguments_and_environment)
{
	RUN("/bin/sh", "sh", "-c", "echo \"$0\" \"$#\"; for i; do echo \"<$i>\"; done",
	    "zero", "one", "", "two words", "\n", "*", "--inherit=x", "--help");
	RUN("/usr/bin/env", "env");
	in_child("/usr/bin/env", (char *[]){ "env", NULL }, (char *[]){ NULL });
	in_child("/usr/bin/env", (char *[]){ "env", NULL }, NULL);
	RUN("/usr/bin/env", "a name that is not a path", "echo", "x");
	/* no argv[0] at all: the kernel makes an empty one */
	in_child("/bin/true", (char *[]){ NULL }, plain_env);
	in_child("/bin/true", NULL, plain_env);
}

CASE(many_arguments)
{
	static char *argv[20003];
	static char number[20000][8];

	argv[0] = "sh";
	argv[1] = "-c";
	argv[2] = "echo $#; eval echo \\${19999}";
	for (int i = 3; i < 20002; i++) {
		snprintf(number[i - 3], 8, "n%d", i);
		argv[i] = number[i - 3];
	}
	in_child("/bin/sh", argv, plain_env);
}

static void must_fail(const char *what, const char *path)
{
	char *argv[] = { "x", NULL };

	execve(path, argv, plain_env);
	printf("%s: %d\n", what, errno);
}

static void *volatile bad_pointer = (void *)8, *volatile null_pointer;

CASE(errors)
{
	static char big[200000], *argv[3], name[5000];
	char self[4096];
	Elf64_Ehdr eh;
	ssize_t n;
	int fd;

	enter_dir();
	must_fail("missing", "./nothing");
	must_fail("empty name", "");
	must_fail("in a missing directory", "no/thing");
	must_fail("a directory", "/tmp");
	text("plain", "x");
	must_fail("below a file", "plain/x");
	must_fail("neither ELF nor script", "./plain");
	file("empty", "", 0, 0755);
	must_fail("empty file", "./empty");
	file("noexec", "#!/bin/sh\n", 10, 0644);
	must_fail("no permission", "./noexec");
	CHECK(!symlink("loop", "loop"));
	must_fail("symbolic loop", "./loop");
	CHECK(!symlink("nothing", "dangling"));
	must_fail("dangling link", "./dangling");
	memset(name, 'a', 300);
	must_fail("long name", name);
	memset(name, '/', 4999);
	must_fail("very long path", name);
	must_fail("bad pointer", bad_pointer);
	must_fail("null pointer", null_pointer);
	CHECK(!mkfifo("fifo", 0755));
	must_fail("fifo", "./fifo");
	must_fail("device", "/dev/null");
	CHECK_EQ(execve("/bin/true", bad_pointer, plain_env), -1);
	printf("bad argv: %d\n", errno);
	argv[0] = bad_pointer;
	CHECK_EQ(execve("/bin/true", argv, plain_env), -1);
	printf("bad argv[0]: %d\n", errno);
	CHECK_EQ(execve("/bin/true", argv + 1, bad_pointer), -1);
	printf("bad envp: %d\n", errno);
	memset(big, 'x', sizeof(big) - 1);
	argv[0] = big;
	CHECK_EQ(execve("/bin/true", argv, plain_env), -1);
	printf("too big: %d\n", errno);

	fd = open("/proc/self/exe", O_RDONLY);
	n = read(fd, self, sizeof(self));
	CHECK_EQ(n, (ssize_t)sizeof(self));
	close(fd);
	memcpy(&eh, self, sizeof(eh));
	file("cut", self, 40, 0755);
	must_fail("cut off", "./cut");
	eh.e_machine = EM_AARCH64;
	file("foreign", &eh, sizeof(eh), 0755);
	must_fail("foreign", "./foreign");
	eh.e_machine = EM_X86_64;
	eh.e_type = ET_REL;
	file("object", &eh, sizeof(eh), 0755);
	must_fail("object", "./object");
	eh.e_type = ET_EXEC;
	eh.e_phnum = 0;
	file("nophdr", &eh, sizeof(eh), 0755);
	must_fail("no program headers", "./nophdr");
	clean_up();
}

static void missing_interpreter(const char *interp)
{
	struct {
		Elf64_Ehdr eh;
		Elf64_Phdr ph[2];
		char interp[64];
	} elf = {
		.eh = { .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1,
			.e_phoff = sizeof(Elf64_Ehdr), .e_ehsize = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2 },
		.ph = { { .p_type = PT_INTERP, .p_filesz = strlen(interp) + 1,
			  .p_offset = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr) },
			{ .p_type = PT_LOAD, .p_filesz = 4096, .p_memsz = 4096,
			  .p_vaddr = 0x10000, .p_flags = PF_R, .p_align = 4096 } },
	};

	memcpy(elf.eh.e_ident, "\177ELF\2\1\1", 7);
	strcpy(elf.interp, interp);
	file("elf", &elf, sizeof(elf), 0755);
	must_fail(interp, "./elf");
}

CASE(interpreter_errors)
{
	enter_dir();
	missing_interpreter("/no/such/ld.so");
	missing_interpreter("/tmp");
	text("plain", "just some text which is long enough to hold an ELF header, to be read as one");
	missing_interpreter("plain");
	file("short", "x", 1, 0755);
	missing_interpreter("short");
	file("unexecutable", "x", 1, 0644);
	missing_interpreter("unexecutable");
	clean_up();
}

/* ---- scripts ------------------------------------------------------------------------------- */

CASE(scripts)
{
	char line[400];

	enter_dir();
	CHECK(!setenv("PATH", "/usr/bin:/bin", 1));
	text("args", "#!/bin/sh\necho \"$0\"; for i; do echo \"<$i>\"; done\n");
	RUN("./args", "other name", "one", "two words");
	text("show", "#!./args one argument  \t\n");
	RUN("./show", "zero", "last");
	text("tabs", "#! \t ./args\t x\t y \n");
	RUN("./tabs", "zero");
	text("noline", "#!./args");
	RUN("./noline", "zero");
	text("noline2", "#!./args  ");
	RUN("./noline2", "zero");
	text("noline3", "#!./args -x  ");
	RUN("./noline3", "zero");
	text("two", "#!./show\n");
	RUN("./two", "zero", "end");
	text("relative", "#!args\n");
	RUN("./relative", "zero");
	text("missing", "#!/no/such/program\n");
	RUN("./missing", "zero");
	text("directory", "#!/tmp\n");
	RUN("./directory", "zero");
	text("nothing", "#!\n");
	RUN("./nothing", "zero");
	text("blanks", "#!  \t \n");
	RUN("./blanks", "zero");
	text("bare", "#!");
	RUN("./bare", "zero");
	text("itself", "#!./itself\n");
	RUN("./itself", "zero");
	file("s0", "#!./args deep\n", 14, 0755);
	for (int i = 1; i < 8; i++) {
		snprintf(line, sizeof(line), "#!./s%d\n", i - 1);
		dir[63] = 0;
		char name[8];

		snprintf(name, sizeof(name), "s%d", i);
		text(name, line);
		RUN(name, "zero");
	}
	/* a line that is longer than what the kernel looks at */
	memset(line, 0, sizeof(line));
	snprintf(line, sizeof(line), "#!./args %0300d\n", 7);
	text("longarg", line);
	RUN("./longarg", "zero");
	snprintf(line, sizeof(line), "#!./%0300d\n", 7);
	text("longname", line);
	RUN("./longname", "zero");
	file("nul", "#!./args a\0b\n", 13, 0755);
	RUN("./nul", "zero");
	/* what has no #! is for shells to run */
	text("shell", "echo \"run by a shell: $1\"\n");
	RUN("./shell", "zero");
	fflush(stdout);
	CHECK(!system("./shell x"));
	if (!fork()) {
		execlp("./shell", "shell", "again", (char *)NULL);
		_exit(126);
	}
	CHECK_EQ(wait_for(-1), 0);
	clean_up();
}

/* ---- by descriptor -------------------------------------------------------------------------- */

static void at_child(int fd, const char *path, int flags)
{
	char *argv[] = { "sh", "-c", "echo ran \"$0\"", "x", NULL };
	pid_t pid;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		syscall(SYS_execveat, fd, path, argv, plain_env, flags);
		printf("errno %d\n", errno);
		fflush(stdout);
		_exit(126);
	}
	printf("status %#x\n", wait_for(pid));
}

CASE(by_descriptor)
{
	int fd = open("/bin/sh", O_RDONLY | O_CLOEXEC), bin = open("/bin", O_PATH), script;

	CHECK(fd >= 0 && bin >= 0);
	at_child(fd, "", AT_EMPTY_PATH);
	at_child(fd, "", 0);
	at_child(bin, "sh", 0);
	at_child(bin, "", AT_EMPTY_PATH);
	at_child(bin, "/bin/sh", 0);
	at_child(bin, "no-such-program", 0);
	at_child(99, "sh", 0);
	at_child(99, "", AT_EMPTY_PATH);
	at_child(AT_FDCWD, "/bin/sh", 0);
	at_child(bin, "sh", 0x40000000);
	enter_dir();
	CHECK(!symlink("/bin/sh", "link"));
	at_child(AT_FDCWD, "link", 0);
	at_child(AT_FDCWD, "link", AT_SYMLINK_NOFOLLOW);
	close(fd);
	fd = open("/bin/sh", O_PATH);
	at_child(fd, "", AT_EMPTY_PATH);
	text("script", "#!/bin/echo interpreted\n");
	/* its number is in its name, which must be the same each time */
	script = fcntl(open("script", O_RDONLY), F_DUPFD, 50);
	at_child(script, "", AT_EMPTY_PATH);
	fcntl(script, F_SETFD, FD_CLOEXEC);
	at_child(script, "", AT_EMPTY_PATH);
	script = fcntl(open(".", O_PATH), F_DUPFD, 60);
	at_child(script, "script", 0);
	clean_up();
}

CASE(from_memory)
{
	int from = open("/bin/echo", O_RDONLY), to = memfd_create("prog", MFD_CLOEXEC);
	char *argv[] = { "echo", "from a memfd", NULL }, buf[65536];
	pid_t pid;
	ssize_t n;

	CHECK(from >= 0 && to >= 0);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		CHECK_EQ(write(to, buf, n), n);
	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		fexecve(to, argv, plain_env);
		_exit(errno);
	}
	printf("status %#x\n", wait_for(pid));
}

/* ---- what stays and what does not ------------------------------------------------------------ */

CASE(descriptors)
{
	int keep = fcntl(open("/dev/null", O_RDONLY), F_DUPFD, 40);
	int gone = fcntl(open("/dev/null", O_RDONLY), F_DUPFD_CLOEXEC, 41);

	CHECK_EQ(keep, 40);
	CHECK_EQ(gone, 41);
	for (int i = 3; i < 40; i++)
		close(i);
	RUN("/bin/sh", "sh", "-c", "for i in 3 4 5 6 40 41 42; do "
	    "if true <&$i; then echo $i open; else echo $i closed; fi 2>/dev/null; done");
	RUN("/bin/ls", "ls", "/proc/self/fd");
}

CASE(cwd_umask_limits)
{
	enter_dir();
	umask(027);
	RUN("/bin/sh", "sh", "-c", "umask; ulimit -n; ulimit -s; [ \"$PWD\" = / ] || touch made; "
	    "stat -c %a made; ulimit -Sn 100; /bin/sh -c 'ulimit -n; ulimit -Hn'");
	clean_up();
}

CASE(name_and_exe)
{
	enter_dir();
	text("a_script", "#!/bin/sh\ncat /proc/$$/comm; readlink /proc/$$/exe >/dev/null && echo exe\n");
	RUN("./a_script", "zero");
	RUN("/bin/cat", "other", "/proc/self/comm");
	RUN("/bin/readlink", "readlink", "/proc/self/exe");
	CHECK(!symlink("/bin/cat", "linked"));
	RUN("./linked", "linked", "/proc/self/comm");
	clean_up();
}

CASE(itself)
{
	char *argv[] = { "prog", "--list", NULL };
	int fds[2];
	char c;
	pid_t pid;
	int n = 0;

	CHECK(!pipe(fds));
	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		dup2(fds[1], 1);
		execve("/proc/self/exe", argv, plain_env);
		_exit(126);
	}
	close(fds[1]);
	while (read(fds[0], &c, 1) == 1)
		n += c == '\n';
	CHECK_EQ(wait_for(pid), 0);
	CHECK(n > 10);
}

CASE(without_standard_descriptors)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		close(0);
		close(1);
		close(2);
		execl("/bin/sh", "sh", "-c", "exit 9", (char *)NULL);
		_exit(126);
	}
	printf("status %#x\n", wait_for(pid));
}

/* ---- from threads ------------------------------------------------------------------------------ */

static void *spins(void *arg)
{
	for (volatile int i = 0;; i++)
		;
	return NULL;
}

static void *executes(void *arg)
{
	execl("/bin/echo", "echo", "from a thread", (char *)NULL);
	return NULL;
}

CASE(from_a_thread)
{
	pthread_t t;
	pid_t pid;

	for (int i = 0; i < 2; i++) {
		fflush(stdout);
		pid = fork();
		CHECK(pid >= 0);
		if (!pid) {
			for (int k = 0; k < 3; k++)
				pthread_create(&t, NULL, spins, NULL);
			if (i)
				pthread_create(&t, NULL, executes, NULL);
			else
				executes(NULL);
			for (;;)
				pause();
		}
		printf("status %#x\n", wait_for(pid));
	}
}

/* A failed one leaves everything as it was. */
CASE(goes_on_after_failure)
{
	for (int i = 0; i < 200; i++) {
		CHECK_EQ(execl("/no/such/program", "x", (char *)NULL), -1);
		CHECK_EQ(errno, ENOENT);
	}
	RUN("/bin/echo", "echo", "after failures");
}

/* ---- libc's calls ------------------------------------------------------------------------------ */

CASE(spawn)
{
	char *argv[] = { "sh", "-c", "read x; echo got $x; exit 4", NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int fds[2];
	pid_t pid;

	fflush(stdout);
	CHECK(!pipe(fds));
	CHECK_EQ(write(fds[1], "line\n", 5), 5);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, fds[0], 0);
	posix_spawn_file_actions_addclose(&fa, fds[1]);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
				 POSIX_SPAWN_SETSIGDEF);
	CHECK(!posix_spawn(&pid, "/bin/sh", &fa, &attr, argv, plain_env));
	printf("status %#x\n", wait_for(pid));
	printf("missing: %d\n", posix_spawn(&pid, "/no/such/program", NULL, NULL, argv, plain_env));
	printf("directory: %d\n", posix_spawn(&pid, "/tmp", NULL, NULL, argv, plain_env));
	printf("missing in PATH: %d\n", posix_spawnp(&pid, "no-such-program", NULL, NULL, argv,
						     plain_env));
	for (int i = 0; i < 20; i++) {
		char *quick[] = { "true", NULL };

		CHECK(!posix_spawnp(&pid, "true", NULL, NULL, quick, plain_env));
		CHECK_EQ(wait_for(pid), 0);
	}
}

CASE(popen_system)
{
	char line[100];
	FILE *f = popen("echo one; echo two; exit 3", "r");

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		printf("line %s", line);
	printf("closed: %#x\n", pclose(f));
	f = popen("tr a-z A-Z", "w");
	CHECK(f);
	fflush(stdout);
	fputs("written to a pipe\n", f);
	printf("closed: %#x\n", pclose(f));
	fflush(stdout);
	printf("system: %#x\n", system("echo in system; exit 5"));
	printf("system: %#x\n", system("no-such-program 2>/dev/null"));
	printf("system: %#x\n", system("kill -9 $$"));
	printf("system: %d\n", system(NULL) != 0);
}

CASE(no_new_privileges)
{
	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	RUN("/bin/sh", "sh", "-c", "grep NoNewPrivs /proc/self/status");
}
