// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Too little of everything: descriptors, address space, memory, room for shared
 * memory. What the native run does, or one clear line when the translator itself
 * cannot go on; never a hang.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "test.h"
#include "programs.h"

#define PATH_SIZE (PATH_MAX + 128)

static void same_or_one_line(struct result *n, struct result *t, unsigned long limit)
{
	if (t->timeout)
		TEST_FAIL("limit %lu: it did not end", limit);
	if (t->status == 125)
		one_clear_line(t, NULL);
	else
		same(n, t);
}

static void limited(int what, rlim_t max, char *const argv[])
{
	const struct rlimit new = { max, max };
	struct result n, t;

	/* for what runs from here on; the driver itself needs no more */
	ASSERT_EQ(setrlimit(what, &new), 0);
	run(argv, NULL, 20, &n);
	run(translated(argv, NULL), NULL, 20, &t);
	same_or_one_line(&n, &t, max);
}

TEST_LONG(few_descriptors, 60)
{
	char *echo[] = { "/bin/echo", "hello", NULL };
	static const rlim_t max[] = { 1024, 256, 64, 40, 32, 24, 20, 16, 12 };

	for (size_t i = 0; i < sizeof(max) / sizeof(max[0]); i++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			limited(RLIMIT_NOFILE, max[i], echo);
			_exit(0);
		}
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		if (status)
			_exit(1);	/* it has said why */
	}
}

/* A guest that takes every descriptor there is, and then goes on. */
TEST(guest_takes_all_descriptors)
{
	char *argv[] = {
		"/usr/bin/python3", "-S", "-c",
		"import os\n"
		"fds = []\n"
		"try:\n"
		"    while True: fds.append(os.open('/dev/null', os.O_RDONLY))\n"
		"except OSError as e: print(e, len(fds) > 100)\n"
		"def f(): return sum(i * i for i in range(100))\n"
		"print(f())\n"
		"exec(compile('\\n'.join(f'x{i} = {i}' for i in range(200)), 'a', 'exec'))\n"
		"for fd in fds: os.close(fd)\n"
		"print(os.system('exit 3') >> 8)\n", NULL };

	if (access(argv[0], X_OK))
		SKIP("no python3 here");
	both_the_same(argv);
}

TEST_LONG(little_address_space, 60)
{
	char *echo[] = { "/bin/echo", "hello", NULL };
	static const rlim_t max[] = {
		8ul << 30, 1ul << 30, 512ul << 20, 256ul << 20, 128ul << 20, 64ul << 20, 16ul << 20,
	};

	for (size_t i = 0; i < sizeof(max) / sizeof(max[0]); i++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			limited(RLIMIT_AS, max[i], echo);
			_exit(0);
		}
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		if (status)
			_exit(1);
	}
}

/* The guest's own allocations fail as natively when its limit is reached. */
TEST(guest_runs_out_of_memory)
{
	char *argv[] = {
		"/bin/bash", "-c", "ulimit -v 400000; exec /usr/bin/python3 -S -c '\n"
		"try:\n"
		"    x = bytearray(1 << 30)\n"
		"except MemoryError: print(\"MemoryError\")\n"
		"x = bytearray(1 << 20); print(len(x))'", NULL };

	if (access("/usr/bin/python3", X_OK))
		SKIP("no python3 here");
	both_the_same(argv);
}

/* A file system for shared memory that has no room; in a mount namespace of ours. */
TEST(full_dev_shm)
{
	char *write_it[] = {
		"/usr/bin/python3", "-S", "-c",
		"import os, mmap\n"
		"fd = os.open('/dev/shm/x', os.O_RDWR | os.O_CREAT)\n"
		"try: print(os.write(fd, b'x' * 100000))\n"
		"except OSError as e: print(e)\n"
		"try: print(os.write(fd, b'x'))\n"
		"except OSError as e: print(e)\n"
		"os.ftruncate(fd, 0); os.ftruncate(fd, 1 << 20)\n"
		"m = mmap.mmap(fd, 1 << 20); m[0] = 1; print(m[0])\n"
		"os.unlink('/dev/shm/x')\n", NULL };
	char path[PATH_SIZE], *jit[] = { path, "shm", NULL };
	char *smc[] = { path, "loop_changes_own_immediate", NULL };

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("shm", "/dev/shm", "tmpfs", 0, "size=64k"))
		SKIP("no mount namespace of our own: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/app_two_maps", tt.guests);
	both_the_same(jit);
	if (!access(write_it[0], X_OK))
		both_the_same(write_it);
	/* full to the last page: what the guest gets is the same, and ends */
	ASSERT_EQ(system("head -c 200000 /dev/zero >/dev/shm/full 2>/dev/null; true"), 0);
	both_the_same(jit);
	snprintf(path, sizeof(path), "%s/smc_flow", tt.guests);
	both_the_same(smc);
}

/* ---- memory that may not be promised (vm.overcommit_memory=2) ---------------------- */

static void sysctl(const char *name, long value)
{
	char path[80];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/sys/vm/%s", name);
	f = fopen(path, "w");
	ASSERT(f && fprintf(f, "%ld", value) > 0 && !fclose(f));
}

static long committed_kb(void)
{
	char line[128];
	FILE *f = fopen("/proc/meminfo", "r");
	long kb = -1;

	ASSERT(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "Committed_AS: %ld", &kb);
	fclose(f);
	ASSERT_GT(kb, 0L);
	return kb;
}

/*
 * With so much left to promise when the program begins. The shell makes the limit
 * its own: the driver could not fork under it, nor could others of the machine.
 */
static void run_committed(char *const argv[], long left_kb, struct result *r)
{
	char cmd[256], *v[80] = { "/bin/sh", "-c", cmd, "sh" };

	for (int i = 0; i < 70 && argv[i]; i++)
		v[4 + i] = argv[i];
	snprintf(cmd, sizeof(cmd), "echo %ld >/proc/sys/vm/overcommit_kbytes; "
		 "echo 2 >/proc/sys/vm/overcommit_memory; exec \"$@\"",
		 committed_kb() + left_kb);
	run(v, NULL, 20, r);
	sysctl("overcommit_memory", 0);
}

static void need_a_machine_of_ones_own(void)
{
	if (!getenv("CODEWP_VM"))
		SKIP("it would be for all programs of this machine: only in the VM");
}

/* Promises are made and refused as natively, when there is room for ours. */
TEST_LONG(overcommit_never_as_natively, 60)
{
	char path[PATH_SIZE], *argv[] = { path, "promises", NULL };
	struct result n, t;

	need_a_machine_of_ones_own();
	snprintf(path, sizeof(path), "%s/app_limits", tt.guests);
	run_committed(argv, 1 << 20, &n);
	ASSERT_EQ(n.status, 0);
	ASSERT(strstr(n.out, "refused"));
	run_committed(translated(argv, NULL), 1 << 20, &t);
	same(&n, &t);
}

TEST_LONG(overcommit_never_and_little_left, 120)
{
	static const long mb[] = { 512, 256, 128, 64, 48, 32, 24, 16, 12, 8, 4, 2 };
	char *echo[] = { "/bin/echo", "hello", NULL };

	need_a_machine_of_ones_own();
	for (size_t i = 0; i < sizeof(mb) / sizeof(mb[0]); i++) {
		struct result n, t;

		run_committed(echo, mb[i] << 10, &n);
		run_committed(translated(echo, NULL), mb[i] << 10, &t);
		fprintf(stderr, "# %ld MB: native %d, translated %d %.150s%s", mb[i], n.status,
			t.status, t.err, t.err_size ? "" : "\n");
		same_or_one_line(&n, &t, mb[i]);
	}
}

int main(int argc, char **argv)
{
	return tt_main(argc, argv, "codewp-limits", NULL);
}
