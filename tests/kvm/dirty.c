// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Dirty clients under KVM: what a guest wrote since the last harvest, to the page, no
 * more and no less, with and without KVM's own dirty log; and what was armed
 * is told even where the host has huge pages.
 */
#include "kvm_test.h"

#define PAGES	512
#define RAM	(16UL << 20)

/*
 * Store to the pages whose numbers are the byte pairs at 0x180000, 0xffff ends. To the
 * start of each: bochs 2.7 writes whole addresses to the log of PML, where KVM warns of
 * bits below the page's (SDM volume 3, 29.3.6: they are zero).
 */
GUEST_CODE(list,
	   "1: mov $0x180000, %rsi\n"
	   "2: movzwl (%rsi), %eax\n"
	   "add $2, %rsi\n"
	   "cmp $0xffff, %eax\n"
	   "je 3f\n"
	   "shl $12, %eax\n"
	   "incl 0x200000(%rax)\n"
	   "jmp 2b\n"
	   "3: hlt\n"
	   "jmp 1b\n");
#define LIST	0x180000UL

static uint64_t seed;

static unsigned int rnd(unsigned int n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % n;
}

static bool bit(const uint64_t *map, unsigned int i)
{
	return map[i / 64] >> (i % 64) & 1;
}

/* One round of the guest: random pages; which ones is in @want. */
static void write_some(struct guest *g, uint64_t *want)
{
	uint16_t *list = (uint16_t *)(g->ram + LIST);
	unsigned int n = rnd(80);

	memset(want, 0, PAGES / 8);
	for (unsigned int i = 0; i < n; i++) {
		list[i] = rnd(PAGES);
		want[list[i] / 64] |= 1ULL << (list[i] % 64);
	}
	list[n] = 0xffff;
	kv_to_hlt(g, 0);
}

static void harvest(struct guest *g, uint32_t client, uint64_t *got)
{
	ASSERT_GE(codewp_harvest(g->view, client, DATA, PAGES * PAGE, got), 0);
}

static void compare(const uint64_t *got, const uint64_t *want, const char *who, int round)
{
	for (unsigned int i = 0; i < PAGES; i++)
		if (bit(got, i) != bit(want, i))
			TEST_FAIL("%s, round %d: page %u was %swritten, and is %sdirty", who,
				  round, i, bit(want, i) ? "" : "not ",
				  bit(got, i) ? "" : "not ");
}

static void start(struct guest *g, bool huge)
{
	uint64_t scrap[PAGES / 64];

	seed = 20261123;
	kv_make(g, &(struct vmm_opts){
			.ram = RAM, .huge = huge,
			.clients = CODEWP_CLIENT_DISPLAY | CODEWP_CLIENT_MIGRATION });
	kv_code(g, list);
	/* As a guest's memory is: all of it has been written once. */
	for (unsigned int i = 0; i < PAGES; i++)
		((uint16_t *)(g->ram + LIST))[i] = i;
	((uint16_t *)(g->ram + LIST))[PAGES] = 0xffff;
	kv_to_hlt(g, 0);
	harvest(g, CODEWP_CLIENT_DISPLAY, scrap);
	harvest(g, CODEWP_CLIENT_MIGRATION, scrap);
}

/*
 * Two clients that harvest at different times, each exact; but in huge pages the
 * harvest of one may mark neighbours for the other.
 */
static void rounds(struct guest *g, int n, bool huge)
{
	uint64_t want[PAGES / 64], since[PAGES / 64] = {}, got[PAGES / 64];

	for (int i = 0; i < n; i++) {
		write_some(g, want);
		for (int j = 0; j < PAGES / 64; j++)
			since[j] |= want[j];
		harvest(g, CODEWP_CLIENT_DISPLAY, got);
		compare(got, want, "DISPLAY", i);
		if (i % 3 == 2) {
			harvest(g, CODEWP_CLIENT_MIGRATION, got);
			for (int j = 0; huge && j < PAGES / 64; j++)
				got[j] &= since[j];
			compare(got, since, "MIGRATION", i);
			memset(since, 0, sizeof(since));
		}
	}
	ASSERT_EQ(kv_events(g), 0);
}

TEST_LONG(exact, 60)
{
	struct guest g = {};

	start(&g, false);
	rounds(&g, 30, false);
}

/*
 * KVM's dirty log on the same slot, got and cleared at other times than ours: both
 * are exact, neither sees the other's clearing.
 */
TEST_LONG(beside_kvms_log, 60)
{
	uint64_t want[PAGES / 64], ours[PAGES / 64] = {}, kvms[PAGES / 64] = {};
	static uint64_t log[RAM / PAGE / 64];
	struct kvm_dirty_log dl = { .slot = 0, .dirty_bitmap = log };
	uint64_t got[PAGES / 64];
	struct guest g = {};

	start(&g, false);
	ASSERT_EQ(vmm_slot(g.vm, 0, 0, RAM, g.ram, KVM_MEM_LOG_DIRTY_PAGES), 0);
	ASSERT_OK(ioctl(vmm_fd(g.vm), KVM_GET_DIRTY_LOG, &dl));
	for (int i = 0; i < 24; i++) {
		write_some(&g, want);
		for (int j = 0; j < PAGES / 64; j++) {
			ours[j] |= want[j];
			kvms[j] |= want[j];
		}
		if (i % 2) {
			harvest(&g, CODEWP_CLIENT_DISPLAY, got);
			compare(got, ours, "DISPLAY", i);
			memset(ours, 0, sizeof(ours));
		}
		if (i % 3 == 0) {
			ASSERT_OK(ioctl(vmm_fd(g.vm), KVM_GET_DIRTY_LOG, &dl));
			compare(log + DATA / PAGE / 64, kvms, "KVM", i);
			memset(kvms, 0, sizeof(kvms));
		}
	}
	/* The log switched off again: ours goes on. */
	ASSERT_EQ(vmm_slot(g.vm, 0, 0, RAM, g.ram, 0), 0);
	harvest(&g, CODEWP_CLIENT_DISPLAY, got);
	harvest(&g, CODEWP_CLIENT_MIGRATION, got);
	rounds(&g, 9, false);
}

/* The slot is deleted and made again, and moved, between a write and its harvest. */
TEST_LONG(slot_comes_and_goes, 60)
{
	uint64_t want[PAGES / 64], got[PAGES / 64];
	struct guest g = {};

	start(&g, false);
	for (int i = 0; i < 10; i++) {
		write_some(&g, want);
		ASSERT_EQ(vmm_slot(g.vm, 0, 0, 0, NULL, 0), 0);
		ASSERT_EQ(vmm_slot(g.vm, 0, 0, RAM, g.ram, 0), 0);
		harvest(&g, CODEWP_CLIENT_DISPLAY, got);
		compare(got, want, "DISPLAY", i);
	}
}

/* ---- huge pages ---- */

#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

static char huge_mode[32];

static void write_mode(const char *mode)
{
	int fd = ASSERT_OK(open(SHMEM_ENABLED, O_WRONLY | O_CLOEXEC));

	if (write(fd, mode, strlen(mode)) < 0)
		SKIP("no huge pages for shmem here: %s", strerror(errno));
	close(fd);
}

static void restore_mode(void)
{
	write_mode(huge_mode);
}

/* The mode is the whole machine's: restore_mode() puts it back. */
static void set_mode(const char *mode)
{
	char buf[128] = {}, *p, *end;
	int fd = open(SHMEM_ENABLED, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		SKIP("no %s", SHMEM_ENABLED);
	ASSERT_GT(read(fd, buf, sizeof(buf) - 1), 0);
	close(fd);
	p = strchr(buf, '[');
	ASSERT(p);
	end = strchr(p, ']');
	ASSERT(end);
	*end = 0;
	snprintf(huge_mode, sizeof(huge_mode), "%s", p + 1);
	write_mode(mode);
}

static long shmem_huge_kb(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	long kb = -1;

	ASSERT(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "ShmemHugePages: %ld", &kb) == 1)
			break;
	fclose(f);
	return kb;
}

TEST_LONG(exact_in_huge_pages, 60)
{
	long before = shmem_huge_kb();
	struct guest g = {};

	set_mode("always");
	start(&g, true);
	ASSERT_GT(shmem_huge_kb(), before);
	rounds(&g, 15, true);
	restore_mode();
}

/*
 * Store after store to 1024 pages, round and round, which %rcx counts. Interrupts are
 * on, else bochs would interrupt nobody while it makes no exit.
 */
GUEST_CODE(sweep,
	   "sti\n"
	   "xor %ecx, %ecx\n"
	   "1: inc %ecx\n"
	   "mov $0x200000, %edi\n"
	   "2: mov %ecx, 8(%rdi)\n"
	   "add $0x1000, %edi\n"
	   "cmp $0x600000, %edi\n"
	   "jb 2b\n"
	   "cmpl $0, 0x180000\n"
	   "je 1b\n"
	   "hlt\n");
#define SWEPT	1024

struct runner {
	struct guest *g;
	unsigned int n;
	int ret;
};

static void *runner(void *arg)
{
	struct runner *r = arg;

	r->ret = kv_run(r->g, r->n);
	return NULL;
}

static uint32_t value(struct guest *g, unsigned int page)
{
	return __atomic_load_n((uint32_t *)(g->ram + DATA + page * PAGE + 8),
			       __ATOMIC_ACQUIRE);
}

/*
 * Two vCPUs write all the time while pages are armed. A page that still says armed,
 * with the generation that it had when it was read, holds what was read: else a write
 * was missed.
 */
static void storm(bool huge, int min_arms)
{
	unsigned int kept = 0, lost = 0;
	time_t end = time(NULL) + 10;
	int arms = 0;
	struct runner r[2];
	struct guest g = {};
	pthread_t t[2];
	struct codewp_stat st;

	seed = 42;
	kv_make(&g, &(struct vmm_opts){ .ram = RAM, .huge = huge, .cpus = 2,
					.ring_bytes = 1 << 20 });
	kv_code(&g, sweep);
	for (int i = 0; i < 2; i++) {
		r[i] = (struct runner){ .g = &g, .n = i };
		ASSERT_EQ(pthread_create(&t[i], NULL, runner, &r[i]), 0);
	}
	for (; arms < min_arms || time(NULL) < end; arms++) {
		unsigned int first = rnd(SWEPT - 8), n = 1 + rnd(8);
		uint32_t state[8], was[8];

		ASSERT_EQ(codewp_arm(g.view, DATA + first * PAGE, n * PAGE, CODEWP_OPEN, NULL), 0);
		for (unsigned int j = 0; j < n; j++) {
			state[j] = kv_state(&g, DATA + (first + j) * PAGE);
			was[j] = value(&g, first + j);
		}
		for (int spin = rnd(2000); spin; spin--)
			asm volatile("pause");
		for (unsigned int j = 0; j < n; j++) {
			uint32_t now = value(&g, first + j);

			if (!(state[j] & CODEWP_PAGE_ARMED))
				continue;
			/* Read after the value: a write comes after its trap. */
			if (kv_state(&g, DATA + (first + j) * PAGE) != state[j])
				continue;
			kept++;
			lost += now != was[j];
		}
		if (arms % 64 == 0)
			kv_events(&g);
	}
	*(volatile uint32_t *)(g.ram + LIST) = 1;
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], NULL);
		ASSERT_EQ(r[i].ret, 0);
	}
	kv_events(&g);
	st = kv_stat(&g);
	printf("# %d arms: %llu traps of %u writes of guests, %u looks at armed pages\n", arms,
	       (unsigned long long)st.guest_writes, value(&g, 0) * SWEPT, kept);
	ASSERT_EQ(lost, 0);
	ASSERT_GT(kept, 0);
	ASSERT_GT(st.guest_writes, 0);
	ASSERT_EQ(st.traps, st.events);
	/* All is open again or armed still: nothing else. */
	ASSERT_EQ(st.arms, st.traps + st.disarms + st.armed);
	vmm_destroy(g.vm);
}

/* The machines with EPT are interpreted: an arm takes a quarter of a minute there. */
static int storm_arms(void)
{
	return strncmp(kv_machine(), "ept", 3) ? 50 : 15;
}

TEST_LONG(arming_against_guests, 120)
{
	set_mode("never");
	storm(false, storm_arms());
	restore_mode();
}

TEST_LONG(arming_huge_pages_against_guests, 120)
{
	set_mode("always");
	storm(true, storm_arms());
	restore_mode();
}
