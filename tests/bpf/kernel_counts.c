// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * eBPF against the module: threads trap on views of their own and on shared
 * pages; codewp stat, attached meanwhile, must have counted exactly what
 * CODEWP_IOC_STAT counted. Uses the module's calls without a library.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include <linux/codewp.h>

#include "tool_util.h"

#define PAGE 4096UL

struct view {
	int fd, memfd;
	char *map;
	size_t pages;
};

static int dev_open(void)
{
	int fd;

	need_bpf();
	if (access("/sys/module/codewp", F_OK))
		SKIP("the codewp module is not loaded");
	fd = open("/dev/codewp", O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	return fd;
}

static struct view view_make(int dev, size_t pages)
{
	struct codewp_view_create c = { .length = pages * PAGE, .ring_fd = -1 };
	struct view v = { .pages = pages };

	v.memfd = ASSERT_OK(memfd_create("test", MFD_CLOEXEC));
	ASSERT_OK(ftruncate(v.memfd, pages * PAGE));
	c.memfd = v.memfd;
	v.fd = ASSERT_OK(ioctl(dev, CODEWP_IOC_VIEW, &c));
	v.map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, v.fd, 0);
	ASSERT(v.map != MAP_FAILED);
	return v;
}

static void arm(const struct view *v, size_t page, size_t n)
{
	struct codewp_arm a = { .offset = page * PAGE, .length = n * PAGE };

	ASSERT_OK(ioctl(v->fd, CODEWP_IOC_ARM, &a));
	ASSERT_EQ(a.done, a.length);
}

static struct codewp_stat view_stat(const struct view *v)
{
	struct codewp_stat s = {};

	ASSERT_OK(ioctl(v->fd, CODEWP_IOC_STAT, &s));
	return s;
}

/* codewp stat in the background, writing its numbers to a file. */
struct watcher {
	pid_t pid;
	const char *file;
	char *text;
};

static void watch(struct watcher *w, const char *pages, bool all)
{
	char pid[16];
	int i;

	snprintf(pid, sizeof(pid), "%d", getpid());
	w->file = temp_name("names");
	unlink(w->file);
	if (all)
		w->pid = SPAWN(beside("../../bin/codewp-stat"), "-x", "-i", "0.05", "-o",
			       w->file, "--pages", pages, "-a");
	else
		w->pid = SPAWN(beside("../../bin/codewp-stat"), "-x", "-i", "0.05", "-o",
			       w->file, "--pages", pages, "-p", pid);
	/* The first numbers in the file: it is attached. */
	for (i = 0; i < 6000; i++) {
		char *s = slurp(w->file);
		bool ready = strstr(s, "missed ");

		free(s);
		if (ready)
			return;
		usleep(10000);
	}
	TEST_FAIL("codewp stat did not attach");
}

/* Stop it; w->text is its last word. */
static void unwatch(struct watcher *w)
{
	char *p;
	int st;

	ASSERT_OK(kill(w->pid, SIGINT));
	ASSERT_EQ(waitpid(w->pid, &st, 0), w->pid);
	w->text = slurp(w->file);
	unlink(w->file);
	ASSERT(WIFEXITED(st) && !WEXITSTATUS(st));
	while ((p = strstr(w->text + 1, "module ")))
		w->text = p;
}

static int64_t num(const struct watcher *w, const char *name)
{
	return named(w->text, "", name);
}

struct job {
	struct view *own, *shared;
	long rounds;
	pthread_barrier_t *go;
};

/* Arm and write: a page of one's own view, and one that everybody writes. */
static void *trapper(void *arg)
{
	struct job *j = arg;
	long i;

	pthread_barrier_wait(j->go);
	for (i = 0; i < j->rounds; i++) {
		size_t p = i % j->own->pages;

		arm(j->own, p, 1);
		((volatile char *)j->own->map)[p * PAGE + i % PAGE]++;
		arm(j->shared, i % j->shared->pages, 1);
		((volatile char *)j->shared->map)[i % j->shared->pages * PAGE]++;
	}
	return NULL;
}

static void threads_trap(bool all)
{
	struct view v[3];
	struct job j[2];
	struct watcher w;
	struct codewp_stat s, sum = {};
	pthread_barrier_t go;
	pthread_t t[2];
	int dev = dev_open(), i;

	watch(&w, "16384", all);
	for (i = 0; i < 3; i++)
		v[i] = view_make(dev, i == 2 ? 2 : 5);
	pthread_barrier_init(&go, NULL, 2);
	for (i = 0; i < 2; i++) {
		j[i] = (struct job){ &v[i], &v[2], 3001, &go };
		ASSERT_EQ(pthread_create(&t[i], NULL, trapper, &j[i]), 0);
	}
	for (i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	/* The kernel writes for us: another kind. */
	arm(&v[0], 0, 5);
	ASSERT_EQ(pread(open("/proc/self/exe", O_RDONLY), v[0].map, PAGE, 0), (long)PAGE);
	unwatch(&w);

	for (i = 0; i < 3; i++) {
		s = view_stat(&v[i]);
		sum.traps += s.traps;
		sum.events += s.events;
		sum.kernel_writes += s.kernel_writes;
		sum.upcalls += s.upcalls;
		sum.arms += s.arms;
		sum.dropped += s.dropped;
	}
	/* Each round traps once on the page of one's own, for certain. */
	ASSERT_GE(sum.traps, 2 * 3001ULL);
	ASSERT_EQ(sum.kernel_writes, 1ULL);
	ASSERT_EQ(num(&w, "module"), 1);
	ASSERT_EQ(num(&w, "missed"), 0);
	ASSERT_EQ(num(&w, "map_full"), 0);
	ASSERT_EQ(num(&w, "traps"), (int64_t)sum.traps);
	ASSERT_EQ(num(&w, "traps_kernel"), (int64_t)sum.kernel_writes);
	ASSERT_EQ(num(&w, "traps_ring"), (int64_t)(sum.events - sum.kernel_writes));
	ASSERT_EQ(num(&w, "traps_upcall"), 0);
	ASSERT_EQ(num(&w, "ring_overflows"), (int64_t)sum.dropped);
}

TEST_LONG(module_counts_never_lost_two_cpus, 60)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP("one processor only");
	threads_trap(false);
}

TEST_LONG(module_counts_exact_all_processes, 60)
{
	threads_trap(true);
}

/* Views belong to who made them: another process' write to them counts for it. */
TEST(write_of_another_process_counts_for_the_owner)
{
	struct watcher w;
	int dev = dev_open(), i, st;
	struct view v;
	pid_t child;

	watch(&w, "100", false);
	v = view_make(dev, 4);
	arm(&v, 0, 4);
	child = fork();
	if (!child) {
		for (i = 0; i < 4; i++)
			((volatile char *)v.map)[i * PAGE] = 1;
		_exit(0);
	}
	ASSERT_EQ(waitpid(child, &st, 0), child);
	unwatch(&w);
	ASSERT_EQ(view_stat(&v).traps, 4ULL);
	ASSERT_EQ(num(&w, "traps"), 4);
}

/* ... and those of a process that was not asked for do not count. */
TEST(other_processes_views_do_not_count)
{
	int dev = dev_open(), to[2], i, st;
	struct watcher w;
	pid_t child;
	char c;

	ASSERT_OK(pipe(to));
	watch(&w, "100", false);
	child = fork();
	if (!child) {
		struct view v = view_make(dev, 4);

		arm(&v, 0, 4);
		for (i = 0; i < 4; i++)
			((volatile char *)v.map)[i * PAGE] = 1;
		c = view_stat(&v).traps;
		_exit(write(to[1], &c, 1) == 1 ? 0 : 1);
	}
	ASSERT_EQ(waitpid(child, &st, 0), child);
	ASSERT_EQ(read(to[0], &c, 1), 1);
	unwatch(&w);
	ASSERT_EQ(c, 4);
	ASSERT_EQ(num(&w, "traps"), 0);
	ASSERT_EQ(num(&w, "arm_requests"), 0);
}

TEST(full_table_of_views_reported)
{
	struct watcher w;
	int dev = dev_open();
	struct view v;
	size_t i;

	watch(&w, "10", false);
	v = view_make(dev, 50);
	arm(&v, 0, 50);
	for (i = 0; i < 50; i++)
		((volatile char *)v.map)[i * PAGE] = 1;
	unwatch(&w);
	ASSERT_EQ(num(&w, "traps"), 50);
	ASSERT_EQ(num(&w, "map_full"), 40);
	ASSERT_EQ(num(&w, "arm_requests"), 50);
}

TEST(ring_overflows_reported)
{
	struct codewp_stat s;
	struct watcher w;
	int dev = dev_open(), round;
	struct view v;
	size_t i;

	watch(&w, "4096", false);
	v = view_make(dev, 512);
	/* Nobody reads the ring of 64 KiB: 1024 events and no more. */
	for (round = 0; round < 3; round++) {
		arm(&v, 0, 512);
		for (i = 0; i < 512; i++)
			((volatile char *)v.map)[i * PAGE] = round;
	}
	unwatch(&w);
	s = view_stat(&v);
	ASSERT_GT(s.dropped, 0ULL);
	ASSERT_EQ(num(&w, "traps"), 3 * 512);
	ASSERT_EQ(num(&w, "ring_overflows"), (int64_t)s.dropped);
}

/* A module of another version: refused in words, not misread. */
TEST(format_of_another_version_refused)
{
	static const char * const events[] = { "view", "trap", "arm", "disarm", "overflow" };
	char cmd[512], *text;
	struct said s;
	size_t i;

	dev_open();
	/* A tracefs of our own making, in a mount namespace of our own. */
	s = RUN("/bin/sh", "-c",
		"mkdir -p /tmp/tfs && cp -r /sys/kernel/tracing/events/codewp /tmp/tfs/");
	for (i = 0; i < 5; i++) {
		snprintf(cmd, sizeof(cmd), "/tmp/tfs/codewp/codewp_%s/format", events[i]);
		text = slurp(cmd);
		ASSERT(strstr(text, "field:"));
	}
	s = RUN("/bin/sh", "-c",
		"sed -i s/cookie/biscuit/ /tmp/tfs/codewp/codewp_trap/format && "
		"unshare -m sh -c 'mount -o bind /tmp/tfs /sys/kernel/tracing/events && "
		"exec \"$0\" -x -a -d 0.1' \"$0\"", beside("../../bin/codewp-stat"));
	ASSERT_EQ(s.status, 125);
	ASSERT(strstr(s.err, "module and tool are of different versions"));
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
