// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Watchpoints of guests: each of a guest's stores, known one by one, is told with its
 * vCPU, its bytes and its values, and nothing beside them is.
 */
#include <linux/codewp.h>
#include <vmm.h>

#include "test.h"
#include "tool_util.h"

#define A	0x300000UL		/* as in piece_watch.S */
#define PAGE	4096UL

extern const char watch_stores[], watch_stores_end[];
extern const char watch_count[], watch_count_end[];
extern const char watch_two[], watch_two_a[], watch_two_end[];
extern const char watch_real[], watch_real_end[];

#define HITS 64
static struct hit {
	struct vmm_watch_hit h;
	unsigned int vcpu;
	unsigned char before[8], after[8];
} hits[HITS];
static unsigned int nr_hits;

static void note(const struct vmm_watch_hit *h, void *arg)
{
	struct hit *to = &hits[nr_hits < HITS ? nr_hits : HITS - 1];

	to->h = *h;
	to->vcpu = h->vcpu ? vmm_vcpu_id(h->vcpu) : ~0U;
	memcpy(to->before, h->before, h->watch_len < 8 ? h->watch_len : 8);
	memcpy(to->after, h->after, h->watch_len < 8 ? h->watch_len : 8);
	nr_hits++;
}

static struct vmm *make(unsigned int cpus, enum vmm_mem mem)
{
	struct vmm_opts o = { .sz = sizeof(o), .cpus = cpus, .mem = mem };
	struct vmm *vm;
	char why[300];

	if (vmm_create(&vm, &o, why, sizeof(why)))
		TEST_FAIL("%s", why);
	return vm;
}

static void load(struct vmm *vm, const char *start, const char *end)
{
	ASSERT_EQ(vmm_write(vm, VMM_LONG_LOAD, start, end - start), 0);
	ASSERT_EQ(vmm_boot_long(vm, VMM_LONG_LOAD), 0);
}

static struct vmm_watch *watch(struct vmm *vm, uint64_t gpa, uint64_t len, vmm_watch_fn fn)
{
	struct vmm_watch *w;
	int err = vmm_watch(vm, gpa, len, fn, NULL, &w);

	if (err)
		TEST_FAIL("vmm_watch: %s", codewp_strerror(err));
	return w;
}

static void run_guest(struct vmm *vm)
{
	char why[300];
	int status;

	if (vmm_run(vm, &status, why, sizeof(why)))
		TEST_FAIL("%s", why);
	ASSERT_EQ(status, 0);
}

struct want {
	uint64_t gpa, len;
	unsigned int watch;
};

static void compare(const struct want *want, unsigned int n, struct vmm_watch **w)
{
	for (unsigned int i = 0; i < n && i < nr_hits; i++) {
		const struct hit *h = &hits[i];

		if (h->h.gpa != want[i].gpa || h->h.len != want[i].len ||
		    h->h.watch != w[want[i].watch])
			TEST_FAIL("write %u: %#llx, %llu bytes, flags %x; want %#llx, %llu", i,
				  (long long)h->h.gpa, (long long)h->h.len, h->h.flags,
				  (long long)want[i].gpa, (long long)want[i].len);
		if (h->h.flags != CODEWP_WATCH_EXACT || h->vcpu != 0 || !h->h.rip)
			TEST_FAIL("write %u at %#llx: flags %x, vCPU %d, rip %#llx", i,
				  (long long)h->h.gpa, h->h.flags, (int)h->vcpu,
				  (long long)h->h.rip);
	}
	ASSERT_EQ(nr_hits, n);
}

/* Watched: four bytes at 0x10, and four across the next page's start. */
static void each_store(enum vmm_mem mem)
{
	static const struct want want[] = {
		{ A + 0x10, 1, 0 }, { A + 0x0c, 8, 0 },
		{ A + 0x10, 1, 0 }, { A + 0x11, 1, 0 }, { A + 0x12, 1, 0 },	/* rep stosb */
		{ A + 0x10, 4, 0 }, { A + 0x10, 4, 0 }, { A + 0x08, 16, 0 },
		{ A + 0x10, 8, 0 }, { A + 0x10, 8, 0 }, { A + 0x0a, 10, 0 },
		{ A + 0x11, 1, 0 },
		{ A + 0xffc, 8, 1 }, { A + 0x1002 - 8, 4, 1 }, { A + 0x1002, 4, 1 },
	};
	struct vmm *vm = make(1, mem);
	unsigned char same[4];
	struct vmm_watch *w[2];

	load(vm, watch_stores, watch_stores_end);
	w[0] = watch(vm, A + 0x10, 4, note);
	w[1] = watch(vm, A + 0xffd, 6, note);
	run_guest(vm);
	compare(want, sizeof(want) / sizeof(want[0]), w);
	/* The first store's value; the failed cmpxchg's is what was there. */
	ASSERT_EQ(hits[0].before[0], 0);
	ASSERT_EQ(hits[0].after[0], 1);
	memcpy(same, hits[6].before, 4);
	ASSERT(!memcmp(same, hits[6].after, 4));
	/* One chain of values for each watch. */
	for (unsigned int i = 1; i < 12; i++)
		ASSERT(!memcmp(hits[i].before, hits[i - 1].after, 4));
	/* The last word is the RAM's. */
	ASSERT(!memcmp(hits[14].after, (char *)vmm_ram(vm) + A + 0xffd, 6));
	ASSERT_EQ(((unsigned char *)vmm_ram(vm))[A + 0x100], 2);
	/* Watched to the end, and not afterwards. */
	ASSERT(codewp_page_states(vmm_view(vm))[A / PAGE] & CODEWP_PAGE_ARMED);
	vmm_unwatch(w[0]);
	ASSERT(codewp_page_states(vmm_view(vm))[A / PAGE] & CODEWP_PAGE_ARMED);
	vmm_unwatch(w[1]);
	ASSERT(!(codewp_page_states(vmm_view(vm))[A / PAGE] & CODEWP_PAGE_ARMED));
	vmm_destroy(vm);
}

TEST_LONG(each_store_is_told, 60)
{
	each_store(VMM_MEM_ANON);
}

TEST_LONG(each_store_is_told_memfd, 60)
{
	each_store(VMM_MEM_MEMFD);
}

TEST_LONG(real_mode, 60)
{
	static const struct want want[] = {
		{ 0x7021, 2, 0 }, { 0x7025, 2, 0 }, { 0x7024, 2, 0 },
	};
	struct vmm *vm = make(1, VMM_MEM_ANON);
	struct vmm_watch *w;

	ASSERT_EQ(vmm_write(vm, VMM_REAL_LOAD, watch_real, watch_real_end - watch_real), 0);
	ASSERT_EQ(vmm_boot_real(vm, VMM_REAL_LOAD), 0);
	w = watch(vm, 0x7020, 8, note);
	run_guest(vm);
	compare(want, 3, &w);
	vmm_destroy(vm);
}

/* ---- vCPUs ---- */

static uint64_t chain, broken, told, by[2];

static void follow(const struct vmm_watch_hit *h, void *arg)
{
	uint64_t before, after;

	memcpy(&before, h->before, 8);
	memcpy(&after, h->after, 8);
	if (before != chain || after != before + 1 || h->flags != CODEWP_WATCH_EXACT)
		broken++;
	chain = after;
	told++;
	if (h->vcpu)
		by[vmm_vcpu_id(h->vcpu)]++;
}

/* Two vCPUs, one counter: no store gets by while the other's is made. */
TEST_LONG(two_vcpus, 120)
{
	struct vmm *vm = make(2, VMM_MEM_ANON);
	uint64_t word;

	load(vm, watch_count, watch_count_end);
	watch(vm, A + 0x40, 8, follow);
	run_guest(vm);
	ASSERT_EQ(vmm_read(vm, A + 0x40, &word, 8), 0);
	ASSERT_EQ(word, 800ULL);
	ASSERT_EQ(chain, 800ULL);
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(vmm_read(vm, A + 0x80 + 8 * i, &word, 8), 0);
		ASSERT_EQ(word, 400ULL);
	}
	ASSERT_EQ(broken, 0ULL);
	ASSERT_EQ(told, 800ULL);
	ASSERT_EQ(by[0], 400ULL);
	ASSERT_EQ(by[1], 400ULL);
	vmm_destroy(vm);
}

/* ---- who is no vCPU ---- */

TEST(host_write_is_found)
{
	struct vmm *vm = make(1, VMM_MEM_ANON);
	struct vmm_watch *w = watch(vm, A + 8, 8, note);
	volatile unsigned char *ram = vmm_ram(vm);
	int p[2];

	ram[A + 100] = 1;
	ASSERT_GE(vmm_drain(vm), 1);
	ASSERT_EQ(nr_hits, 0U);
	ram[A + 9] = 1;
	ASSERT_GE(vmm_drain(vm), 1);
	ASSERT_EQ(nr_hits, 1U);
	ASSERT_EQ(hits[0].h.gpa, A + 9);
	ASSERT_EQ(hits[0].h.len, 1ULL);
	ASSERT_EQ(hits[0].h.flags, 0U);
	ASSERT_EQ(hits[0].after[1], 1);
	ASSERT_OK(pipe(p));
	ASSERT_EQ(write(p[1], "abcd", 4), 4);
	ASSERT_EQ(read(p[0], (void *)(ram + A + 6), 4), 4);
	ASSERT_GE(vmm_drain(vm), 1);
	ASSERT_EQ(nr_hits, 2U);
	ASSERT_EQ(hits[1].h.gpa, A + 8);
	ASSERT_EQ(hits[1].h.len, 2ULL);
	ASSERT_EQ(hits[1].h.flags, CODEWP_WATCH_KERNEL);
	/* Watched as before. */
	ASSERT(codewp_page_states(vmm_view(vm))[A / PAGE] & CODEWP_PAGE_STOP);
	vmm_unwatch(w);
	vmm_destroy(vm);
}

TEST(arguments)
{
	struct vmm *vm = make(1, VMM_MEM_ANON);
	struct vmm_watch *w;

	ASSERT_EQ(vmm_watch(vm, A, 0, note, NULL, &w), -EINVAL);
	ASSERT_EQ(vmm_watch(vm, A, 1, NULL, NULL, &w), -EINVAL);
	ASSERT_EQ(vmm_watch(vm, vmm_ram_bytes(vm), 1, note, NULL, &w), -EFAULT);
	ASSERT_EQ(vmm_watch(vm, vmm_ram_bytes(vm) - 1, 2, note, NULL, &w), -EFAULT);
	ASSERT_EQ(vmm_watch(vm, -8ULL, 16, note, NULL, &w), -EFAULT);
	ASSERT(!w);
	vmm_unwatch(NULL);
	vmm_destroy(vm);
	vm = make(1, VMM_MEM_PLAIN);
	ASSERT_EQ(vmm_watch(vm, A, 8, note, NULL, &w), -EINVAL);
	vmm_destroy(vm);
}

/* ---- codewp vm --watch ---- */

#define VM beside("../../bin/codewp-vm")

TEST_LONG(codewp_vm_prints, 60)
{
	const char *file;
	char want[120];
	struct said s;
	FILE *f;

	if (access(VM, X_OK))
		SKIP("codewp-vm is not in this machine");
	file = strdup(temp_name("image"));
	f = fopen(file, "w");
	ASSERT(f);
	ASSERT_EQ(fwrite(watch_two, watch_two_end - watch_two, 1, f), 1UL);
	ASSERT_EQ(fclose(f), 0);
	s = RUN(VM, "--long", "--follow=none", "--quiet", "--watch", "0x302007,1", file);
	ASSERT_EQ(s.status, 0);
	snprintf(want, sizeof(want),
		 "watch: vCPU 0 at %#lx wrote 0x302007, 1 bytes: 00 -> 01\n",
		 VMM_LONG_LOAD + (watch_two_a - watch_two));
	if (strcmp(s.err, want))
		TEST_FAIL("'%s', not '%s'", s.err, want);
	s = RUN(VM, "-l", "-f", "none", "-w", "0xfffff8,16", file);
	ASSERT_EQ(s.status, 125);
	ASSERT(strstr(s.err, "--watch: that is not all RAM"));
	s = RUN(VM, "-l", "-w", "4096", file);
	ASSERT_EQ(s.status, 2);
	ASSERT(strstr(s.err, "--watch '4096': want an address and a length"));
	s = RUN(VM, "-l", "-w", "4096,0", file);
	ASSERT_EQ(s.status, 2);
	s = RUN(VM, "-l", "-m", "plain", "-w", "4096,8", file);
	ASSERT_EQ(s.status, 2);
	unlink(file);
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
