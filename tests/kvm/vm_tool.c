// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp vm as a user calls it: images that change themselves in each way of following
 * and delivering, and everything that can be wrong with a call.
 */
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "vmm_test.h"

#define TOOL	"build/bin/codewp"
#define REAL	"build/tests/kvm-guest/smc16.bin"
#define LONG	"build/tests/kvm-guest/smc64"

static char out[8192], err[8192];

static void collect(int fd, char *buf, size_t size)
{
	ssize_t n, at = 0;

	while ((n = read(fd, buf + at, size - 1 - at)) > 0)
		at += n;
	buf[at] = 0;
	close(fd);
}

/* Its status; what it printed is in out and err. Little enough for the pipes. */
static int tool(const char *args)
{
	char line[512];
	int o[2], e[2], status;
	pid_t pid;

	ASSERT_OK(pipe(o));
	ASSERT_OK(pipe(e));
	snprintf(line, sizeof(line), "exec " TOOL " vm %s", args);
	pid = ASSERT_OK(fork());
	if (!pid) {
		dup2(o[1], 1);
		dup2(e[1], 2);
		execl("/bin/sh", "sh", "-c", line, NULL);
		_exit(126);
	}
	close(o[1]);
	close(e[1]);
	collect(o[0], out, sizeof(out));
	collect(e[0], err, sizeof(err));
	ASSERT_OK(waitpid(pid, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void wrong(const char *args, int status, const char *says)
{
	int got = tool(args);

	if (got != status || !strstr(err, says))
		TEST_FAIL("vm %s: status %d, \"%.200s\"; want %d, \"%s\"", args, got, err, status,
			  says);
}

static unsigned long value(const char *name)
{
	char key[64];
	const char *p;

	snprintf(key, sizeof(key), "%s ", name);
	for (p = err; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (!strncmp(p, key, strlen(key)))
			return strtoul(p + strlen(key), NULL, 10);
	TEST_FAIL("no \"%s\" in: %.300s", name, err);
}

static void image(const char *args, const char *prints)
{
	int status = tool(args);

	if (status || strcmp(out, prints))
		TEST_FAIL("vm %s: status %d, \"%.100s\", \"%.200s\"", args, status, out, err);
}

TEST_LONG(real_mode, 60)
{
	kv_features();
	image("-x --check -f step " REAL, "sum 20100\n");
	/* Stepped, each of 200 rounds runs the patched code and then patches it. */
	ASSERT_EQ(value("traps"), 200);
	ASSERT_EQ(value("invalidated"), 200);
	ASSERT_EQ(value("stops"), 0);
	image("-x --check -f sample -m memfd " REAL, "sum 20100\n");
	ASSERT_GT(value("blocks"), 5);
	image("-x --check -f exits " REAL, "sum 20100\n");
	ASSERT_GE(value("invalidated"), 1);
	image("-x -f none " REAL, "sum 20100\n");
	ASSERT_EQ(value("blocks"), 0);
	image("-q -m plain " REAL, "sum 20100\n");
	ASSERT_EQ(err[0], 0);
}

TEST_LONG(long_mode, 60)
{
	kv_features();
	image("-x --check -f step " LONG, "ok\n");
	/* The first of 100 functions is written before it is code. */
	ASSERT_EQ(value("traps"), 99);
	ASSERT_EQ(value("invalidated"), 99);
	image("-x --check -f sample -c 2 " LONG, "ok\n");
	ASSERT_GT(value("blocks"), 5);
	image("-x --check -c 3 --ram 8M --irqchip -f exits " LONG, "ok\n");
}

TEST_LONG(stop, 60)
{
	kv_need_stop();
	image("-x --check -d stop -f step " REAL, "sum 20100\n");
	ASSERT_GT(value("stops"), 0);
	ASSERT_GT(value("stepped"), 0);
	ASSERT_GT(value("invalidated"), 0);
	image("-x --check -d stop -f sample -c 2 " LONG, "ok\n");
	ASSERT_GT(value("stops"), 0);
}

TEST_LONG(table, 30)
{
	kv_features();
	image("-f step -n 1 " REAL, "sum 20100\n");
	/* The page that is patched comes first. */
	ASSERT(strstr(err, "0x2000        201        200        200"));
	ASSERT(strstr(err, "... and 1 more pages"));
	for (const char *p = err; *p; p += strcspn(p, "\n") + 1) {
		ASSERT_LE(strcspn(p, "\n"), 79);
		if (!p[strcspn(p, "\n")])
			break;
	}
}

TEST_LONG(wrong_arguments, 30)
{
	wrong("", 2, "which IMAGE");
	wrong("a b", 2, "one IMAGE only");
	wrong("--bogus x", 2, "--help");
	wrong("--ram 5 x", 2, "multiple of 4K");
	wrong("--ram 0 x", 2, "multiple of 4K");
	wrong("--ram 4T x", 2, "--ram '4T'");
	wrong("--ram 9G x", 2, "at most 3G");
	wrong("--ram -4K x", 2, "--ram '-4K'");
	wrong("--ram 99999999999999999999 x", 2, "--ram '9999");
	wrong("--cpus 0 x", 2, "--cpus");
	wrong("--cpus 17 x", 2, "--cpus");
	wrong("--deliver maybe x", 2, "ring, stop");
	wrong("--follow maybe x", 2, "none, exits, sample, step");
	wrong("--mem maybe x", 2, "anon, memfd, plain");
	wrong("--mem plain --deliver stop x", 2, "cannot be watched");
	wrong("--mem plain --follow step x", 2, "cannot be watched");
	wrong("--follow none --check x", 2, "wants blocks");
	wrong("--time 0 x", 2, "--time");
	ASSERT_EQ(tool("--help"), 0);
	ASSERT(strstr(out, "IMAGE"));
}

static void file(const char *path, const void *data, size_t n)
{
	int fd = ASSERT_OK(open(path, O_RDWR | O_CREAT | O_TRUNC, 0600));

	ASSERT_EQ(write(fd, data, n), (ssize_t)n);
	close(fd);
}

TEST_LONG(bad_images, 30)
{
	static const uint8_t zero[70000];
	static uint8_t elf[200000];
	size_t n;
	int fd;

	kv_features();
	fd = ASSERT_OK(open(LONG, O_RDONLY));
	n = ASSERT_OK(read(fd, elf, sizeof(elf)));
	close(fd);

	wrong("/tmp/none", 125, "No such file");
	wrong("/tmp", 125, "directory");
	wrong("/dev/null", 125, "Invalid argument");
	file("/tmp/i", "", 0);
	wrong("/tmp/i", 125, "empty");
	file("/tmp/i", zero, sizeof(zero));
	wrong("/tmp/i", 125, "room from 0x1000 to 0x10000");
	wrong("-l -r 1M /tmp/i", 125, "--ram");
	/* hlt */
	file("/tmp/i", "\xf4", 1);
	ASSERT_EQ(tool("/tmp/i"), 0);
	/* lidt of nothing, then int3: triple fault */
	file("/tmp/i", "\x0f\x01\x1e\x00\x80\xcc", 6);
	wrong("/tmp/i", 125, "vCPU 0: triple fault");
	/* mov %al, (%rax), in long mode, where no RAM is */
	file("/tmp/i", "\xb8\x00\xf0\xff\xbf\x88\x00", 7);
	wrong("-l /tmp/i", 125, "wrote guest-physical 0xbffff000, where no RAM is");
	/* sti, jmp to itself: bochs interrupts no guest that has interrupts off */
	file("/tmp/i", "\xfb\xeb\xfe", 3);
	wrong("-t 1 /tmp/i", 124, "seconds were up");

	file("/tmp/i", elf, 30);
	wrong("/tmp/i", 125, "not of 64-bit x86");
	elf[4] = 1;
	file("/tmp/i", elf, n);
	wrong("/tmp/i", 125, "not of 64-bit x86");
	elf[4] = 2;
	file("/tmp/i", elf, 1000);
	wrong("/tmp/i", 125, "not in the file");
	elf[16] = 3;
	file("/tmp/i", elf, n);
	wrong("/tmp/i", 125, "not at fixed addresses");
	elf[16] = 2;
	file("/tmp/i", elf, n);
	wrong("-r 2M /tmp/i", 125, "there is RAM for images");
	elf[57] = 0xff;
	file("/tmp/i", elf, n);
	wrong("/tmp/i", 125, "program headers");
	unlink("/tmp/i");
}

/* In a mount namespace of its own, where the device is not what it was. */
TEST(no_devices)
{
	kv_features();
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		SKIP("no mount namespace: %s", strerror(errno));
	ASSERT_OK(mount("/dev/null", "/dev/kvm", NULL, MS_BIND, NULL));
	wrong(REAL, 125, "/dev/kvm speaks");
	ASSERT_OK(umount("/dev/kvm"));
	ASSERT_OK(mount("/dev/null", "/dev/codewp", NULL, MS_BIND, NULL));
	wrong(REAL, 125, "does not answer as codewp does");
	ASSERT_OK(umount("/dev/codewp"));
	ASSERT_OK(mount("none", "/dev", "tmpfs", 0, NULL));
	wrong(REAL, 125, "there is no /dev/kvm");
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
