// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The translator's runtime, seen by its guest: guest.c's cases under each
 * backend, as a dynamic PIE and as a static program at a fixed address. A case
 * passes when it prints exactly "ok" and ends with the expected status.
 */
#include <limits.h>
#include <poll.h>
#include <test.h>

static char *beside(char *path, const char *rest)
{
	char *slash;
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

	ASSERT_GT(n, 0);
	path[n] = '\0';
	slash = strrchr(path, '/');
	strcpy(slash + 1, rest);
	return path;
}

/* RUNTIME_BASE and RUNTIME_END of the translator */
#define BASE	0x6a0000000000UL
#define END	0x6b0000000000UL

/*
 * No mapping of a guest is executable for the host but the runtime's text and the
 * cache. (The kernel's own two are; guest code in them is translated all the same.)
 */
static void check_maps(pid_t pid)
{
	char path[64], line[512];
	unsigned int lines = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	ASSERT_NE(f, NULL);
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end;
		char perm[5];

		ASSERT_EQ(sscanf(line, "%lx-%lx %4s", &start, &end, perm), 3);
		lines++;
		if (perm[2] != 'x' || strstr(line, "[vdso]") || strstr(line, "[vsyscall]"))
			continue;
		if (start < BASE || end > END)
			TEST_FAIL("executable: %.200s", line);
	}
	fclose(f);
	ASSERT_GT(lines, 10U);
}

/* Returns the wait status; out gets what it printed on both outputs. */
static int run(const char *backend, const char *guest, const char *name, char *out,
	       size_t size)
{
	char run_path[PATH_MAX + 64], guest_path[PATH_MAX + 64], option[64];
	int p[2], status = 0;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	beside(run_path, "../../bin/codewp-run");
	beside(guest_path, guest);
	snprintf(option, sizeof(option), "--backend=%s", backend);
	ASSERT_OK(pipe(p));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		dup2(p[1], 1);
		dup2(p[1], 2);
		close(p[0]);
		close(p[1]);
		execl(run_path, run_path, option, "--", guest_path, name, NULL);
		_exit(127);
	}
	close(p[1]);
	if (!strcmp(name, "not_executable")) {
		ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
		if (WIFSTOPPED(status)) {
			check_maps(pid);
			kill(pid, SIGCONT);
		}
	}
	while (used < size - 1 && (n = read(p[0], out + used, size - 1 - used)) > 0)
		used += n;
	out[used] = '\0';
	close(p[0]);
	if (WIFSTOPPED(status) || strcmp(name, "not_executable"))
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

static void one(const char *backend, const char *guest, const char *name, int sig)
{
	char out[2048];
	int status;

	status = run(backend, guest, "nothing", out, sizeof(out));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 125)
		SKIP("%.200s", out);
	ASSERT_EQ(status, 0);
	status = run(backend, guest, name, out, sizeof(out));
	if (strcmp(out, "ok\n"))
		TEST_FAIL("status 0x%x, printed '%.300s'", status, out);
	if (sig ? !WIFSIGNALED(status) || WTERMSIG(status) != sig : status)
		TEST_FAIL("status 0x%x", status);
}

#define CASE(id, sig)							\
	TEST(kmod_##id) { one("kmod", "guest", #id, sig); }		\
	TEST(uffd_##id) { one("uffd", "guest", #id, sig); }		\
	TEST(mprotect_##id) { one("mprotect", "guest", #id, sig); }	\
	TEST(uffd_static_##id) { one("uffd", "guest-static", #id, sig); }

CASE(reserved, 0)
CASE(places, 0)
CASE(not_executable, 0)
CASE(run_data, SIGSEGV)
CASE(run_runtime, SIGSEGV)
CASE(descriptors, 0)
CASE(limits, 0)
CASE(proc_exe, 0)
CASE(aux, 0)
CASE(holes, 0)
CASE(below_private, 0)
CASE(proc_mem, 0)
CASE(seals, 0)
CASE(read_only_file, 0)
CASE(grow_and_shrink, 0)
CASE(held_signals, 0)
CASE(held_then_dies, SIGSEGV)
CASE(implied_exec, 0)

/* runtime-kmod is for the VM, where the module is; runtime is for anywhere. */
int main(int argc, char **argv)
{
	char *vm[] = { argv[0], "kmod_", NULL };
	char *host[] = { argv[0], "uffd_", "mprotect_", NULL };

	if (argc > 1)
		return test_main(argc, argv);
	if (strstr(argv[0], "runtime-kmod"))
		return test_main(2, vm);
	return test_main(3, host);
}
