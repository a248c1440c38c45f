// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp who against guests whose instructions and writes are known: each has its row,
 * with its rip, its page, its vCPU and its number.
 */
#include <linux/codewp.h>
#include <vmm.h>

#include "test.h"
#include "tool_util.h"

#define A	0x300000UL		/* as in piece_watch.S */
#define PAGE	4096UL

extern const char watch_count[], watch_count_locked[], watch_count_plain[], watch_count_end[];
extern const char watch_two[], watch_two_a[], watch_two_b[], watch_two_end[];

static struct vmm *make(unsigned int cpus, const char *start, const char *end)
{
	struct vmm_opts o = { .sz = sizeof(o), .cpus = cpus };
	struct vmm *vm;
	char why[300];

	if (access(beside("../../bin/codewp-who"), X_OK))
		SKIP("codewp-who is not in this machine");
	need_bpf();
	if (vmm_create(&vm, &o, why, sizeof(why)))
		TEST_FAIL("%s", why);
	ASSERT_EQ(vmm_write(vm, VMM_LONG_LOAD, start, end - start), 0);
	ASSERT_EQ(vmm_boot_long(vm, VMM_LONG_LOAD), 0);
	return vm;
}

struct who {
	pid_t pid;
	const char *file, *err;
	char *text;
};

/* In the background; returns when it is attached. */
static void who_start(struct who *w, const char *room)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	w->file = strdup(temp_name("who"));
	w->err = strdup(temp_name("err"));
	w->pid = fork();
	if (!w->pid) {
		if (!freopen(w->err, "w", stderr))
			_exit(1);
		execl(beside("../../bin/codewp-who"), "codewp-who", "-x", "-p", pid, "-o",
		      w->file, "--room", room, NULL);
		_exit(127);
	}
	for (int i = 0; i < 6000; i++) {
		char *s = slurp(w->err);

		if (strstr(s, "watching\n"))
			return;
		if (waitpid(w->pid, NULL, WNOHANG))
			TEST_FAIL("codewp who: %s", s);
		free(s);
		usleep(10000);
	}
	TEST_FAIL("codewp who did not attach");
}

static void who_end(struct who *w)
{
	int st;

	ASSERT_OK(kill(w->pid, SIGINT));
	ASSERT_EQ(waitpid(w->pid, &st, 0), w->pid);
	ASSERT(WIFEXITED(st) && !WEXITSTATUS(st));
	w->text = slurp(w->file);
	unlink(w->file);
	unlink(w->err);
}

struct line {
	unsigned long long rip, page, writes, stops;
	unsigned int view, vcpu, pid, first, last;
};

/* The row of one instruction of one vCPU for one page; the test fails without. */
static struct line row(const struct who *w, const char *start, const char *at,
		       unsigned int vcpu, uint64_t page)
{
	unsigned long long rip = VMM_LONG_LOAD + (at - start);
	const char *p = w->text;
	struct line l;

	for (; p; p = strstr(p + 1, "row ")) {
		if (sscanf(p, "row rip %llx page %llx view %u vcpu %u pid %u writes %llu "
			   "stops %llu first %u last %u", &l.rip, &l.page, &l.view, &l.vcpu,
			   &l.pid, &l.writes, &l.stops, &l.first, &l.last) == 9 &&
		    l.rip == rip && l.vcpu == vcpu && l.page == page) {
			ASSERT_EQ(l.pid, (unsigned int)getpid());
			return l;
		}
	}
	TEST_FAIL("no row of rip %#llx, vCPU %u, page %#llx: %.200s", rip, vcpu,
		  (unsigned long long)page, w->text);
}

static unsigned int rows(const struct who *w)
{
	const char *p = w->text;
	unsigned int n = 0;

	for (p = strstr(p, "row "); p; p = strstr(p + 1, "row "))
		n++;
	return n;
}

static void no_watch(const struct vmm_watch_hit *h, void *arg)
{
}

static void run_guest(struct vmm *vm)
{
	char why[300];
	int status;

	if (vmm_run(vm, &status, why, sizeof(why)))
		TEST_FAIL("%s", why);
}

/* The first write to an open page is a write, the second is nobody's business. */
TEST_LONG(writes, 120)
{
	struct vmm *vm = make(1, watch_two, watch_two_end);
	struct who w;
	struct line l;

	who_start(&w, "100");
	ASSERT_EQ(codewp_arm(vmm_view(vm), A + 0x2000, 2 * PAGE, CODEWP_OPEN, NULL), 0);
	run_guest(vm);
	who_end(&w);
	l = row(&w, watch_two, watch_two_a, 0, (A + 0x2000) / PAGE);
	ASSERT_EQ(l.writes, 1ULL);
	ASSERT_EQ(l.stops, 0ULL);
	ASSERT_EQ(l.first, 7U);
	ASSERT_EQ(l.last, 7U);
	l = row(&w, watch_two, watch_two_b, 0, (A + 0x3000) / PAGE);
	ASSERT_EQ(l.writes, 1ULL);
	ASSERT_EQ(l.first, 0x123U);
	ASSERT_EQ(rows(&w), 2U);
	ASSERT_EQ(named(w.text, "", "writes"), 2);
	ASSERT_EQ(named(w.text, "", "stops"), 0);
	ASSERT_EQ(named(w.text, "", "unknown"), 0);
	ASSERT_EQ(named(w.text, "", "missed"), 0);
	vmm_destroy(vm);
}

/* Two vCPUs, two instructions each, on one page: none is taken for another. */
TEST_LONG(stops_of_two_vcpus, 240)
{
	struct vmm *vm = make(2, watch_count, watch_count_end);
	struct vmm_watch *watch;
	struct codewp_stats st;
	uint64_t sum = 0;
	struct who w;

	who_start(&w, "100");
	ASSERT_EQ(vmm_watch(vm, A + 0x40, 8, no_watch, NULL, &watch), 0);
	run_guest(vm);
	ASSERT_EQ(codewp_view_stats(vmm_view(vm), &st), 0);
	who_end(&w);
	for (unsigned int i = 0; i < 2; i++) {
		struct line a = row(&w, watch_count, watch_count_locked, i, A / PAGE);
		struct line b = row(&w, watch_count, watch_count_plain, i, A / PAGE);

		/* One that is interrupted before it is stepped stops again. */
		ASSERT_GE(a.stops, 400ULL);
		ASSERT_GE(b.stops, 400ULL);
		ASSERT_EQ(a.writes + b.writes, 0ULL);
		ASSERT_EQ(a.first, 0x40U);
		ASSERT_EQ(a.last, 0x40U);
		ASSERT_EQ(b.first, 0x80 + 8 * i);
		ASSERT_EQ(b.last, 0x80 + 8 * i);
		sum += a.stops + b.stops;
	}
	ASSERT_EQ(rows(&w), 4U);
	/* Not one more or less than the module counted. */
	ASSERT_EQ((uint64_t)named(w.text, "", "stops"), sum);
	ASSERT_EQ(st.events, sum);
	ASSERT_EQ(named(w.text, "", "unknown"), 0);
	vmm_destroy(vm);
}

TEST_LONG(full_table_is_told, 120)
{
	struct vmm *vm = make(1, watch_two, watch_two_end);
	struct who w;

	who_start(&w, "1");
	ASSERT_EQ(codewp_arm(vmm_view(vm), A + 0x2000, 2 * PAGE, CODEWP_OPEN, NULL), 0);
	run_guest(vm);
	who_end(&w);
	ASSERT_EQ(rows(&w), 1U);
	ASSERT_EQ(named(w.text, "", "writes"), 2);
	ASSERT_EQ(named(w.text, "", "map_full"), 1);
	vmm_destroy(vm);
}

/* Of another process, and the host's own write. */
TEST_LONG(others_do_not_count, 120)
{
	struct vmm *vm = make(1, watch_two, watch_two_end);
	struct who w;

	who_start(&w, "100");
	ASSERT_EQ(codewp_arm(vmm_view(vm), A + 0x2000, 2 * PAGE, CODEWP_OPEN, NULL), 0);
	((volatile char *)vmm_ram(vm))[A + 0x2000] = 1;
	run_guest(vm);
	who_end(&w);
	ASSERT_EQ(rows(&w), 1U);
	ASSERT_EQ(named(w.text, "", "writes"), 1);
	ASSERT_EQ(named(w.text, "", "others"), 1);
	vmm_destroy(vm);
}

/* codewp stat tells guests' writes from others', by page and in sum. */
TEST_LONG(stat_counts_them, 120)
{
	struct vmm *vm = make(1, watch_two, watch_two_end);
	struct vmm_watch *watch;
	const char *file = strdup(temp_name("stat"));
	char pid[16], *s;
	pid_t child;
	int st, i;

	snprintf(pid, sizeof(pid), "%d", getpid());
	child = SPAWN(beside("../../bin/codewp-stat"), "-x", "-i", "0.05", "-o", file, "-p", pid);
	for (i = 0; i < 6000 && !strstr(s = slurp(file), "missed "); i++) {
		free(s);
		usleep(10000);
	}
	ASSERT_LT(i, 6000);
	/* One write that goes through, and two stops. */
	ASSERT_EQ(codewp_arm(vmm_view(vm), A + 0x3000, PAGE, CODEWP_OPEN, NULL), 0);
	ASSERT_EQ(vmm_watch(vm, A + 0x2007, 1, no_watch, NULL, &watch), 0);
	((volatile char *)vmm_ram(vm))[A + 0x2ff0] = 1;
	ASSERT_EQ(vmm_drain(vm), 1);
	run_guest(vm);
	ASSERT_OK(kill(child, SIGINT));
	ASSERT_EQ(waitpid(child, &st, 0), child);
	s = slurp(file);
	unlink(file);
	ASSERT_EQ(named(s, "", "traps_guest"), 1);
	ASSERT_EQ(named(s, "", "traps_stop"), 2);
	ASSERT_EQ(named(s, "", "traps_ring"), 1);
	ASSERT_EQ(named(s, "", "traps"), 4);
	ASSERT_EQ(named(s, "", "missed"), 0);
	vmm_destroy(vm);
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
