// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A guest's memory that changes under it: huge pages, holes, memory slots that go and
 * come, page tables, faults that somebody else handles, and what KVM itself writes.
 * No write to an armed page may be missed, and none may fail.
 */
#include <pthread.h>
#include <linux/kvm_para.h>

#include "vmm_test.h"

#define DEST	0x400000UL
#define OTHER	0x600000UL
#define COUNTER	0x200000UL
#define FLAG	0x201000UL
#define KNOB	"/sys/kernel/mm/transparent_hugepage/shmem_enabled"

#define PIECE(n)	piece_##n, piece_##n##_end

extern const uint8_t piece_pages[], piece_pages_end[], piece_read[], piece_read_end[];
extern const uint8_t piece_remap[], piece_remap_end[], piece_spin[], piece_spin_end[];

static struct vmm *vm;
static struct vmm_vcpu *vcpu;
static struct kv_events ev;

static void start(struct vmm_opts *o, const void *from, const void *to, uint64_t rdi,
		  uint64_t rcx)
{
	struct kvm_regs r;

	vm = kv_vm(o);
	vcpu = vmm_vcpu(vm, 0);
	kv_code(vm, from, to);
	ASSERT_EQ(vmm_get_regs(vcpu, &r), 0);
	r.rdi = rdi;
	r.rcx = rcx;
	r.r8 = FLAG;
	r.r10 = COUNTER;
	ASSERT_EQ(vmm_set_regs(vcpu, &r), 0);
	kv_watch_events(vm, &ev);
}

/* One round of piece_pages: told are the pages from @first to @last, each once. */
static void round_tells(uint64_t first, uint64_t last)
{
	unsigned int want = last >= first ? (last - first) / PAGE + 1 : 0;

	kv_drain(vm);
	ev.n = 0;
	kv_run_to(vcpu, PORT_ROUND);
	kv_drain(vm);
	if (ev.n != want)
		TEST_FAIL("%u events, want %u", ev.n, want);
	for (uint64_t p = first; want && p <= last; p += PAGE)
		ASSERT_EQ(kv_count(&ev, p), 1);
}

static void huge_mode(const char *mode, char *old, size_t size)
{
	char line[128] = "", *p;
	int fd = open(KNOB, O_RDWR);

	if (fd < 0 || read(fd, line, sizeof(line) - 1) <= 0)
		SKIP("no " KNOB);
	p = strchr(line, '[');
	if (old && p)
		snprintf(old, size, "%.*s", (int)strcspn(p + 1, "]"), p + 1);
	if (write(fd, mode, strlen(mode)) < 0)
		SKIP(KNOB " takes no %s", mode);
	close(fd);
}

static long huge_kb(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	long kb = -1;

	ASSERT(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "ShmemHugePages: %ld", &kb);
	fclose(f);
	return kb;
}

/*
 * 2 MiB pages in the file, MADV_HUGEPAGE on the mapping: first written without a
 * trap, so that everything is mapped as large as it goes; then each other page is
 * armed, and all are written.
 */
static void huge_pages(enum vmm_mem mem)
{
	struct vmm_opts o = { .mem = mem, .huge = true };
	unsigned int n = kv_slow() ? 128 : 512, i;
	char old[32] = "never";
	long before;

	huge_mode("always", old, sizeof(old));
	before = huge_kb();
	start(&o, PIECE(pages), DEST, n);
	round_tells(1, 0);
	if (huge_kb() <= before) {
		huge_mode(old, NULL, 0);
		TEST_FAIL("no huge page was made: %ld kB before and after", before);
	}
	for (int round = 0; round < 4; round++) {
		uint64_t own = kv_u64(vm, COUNTER);

		for (i = round & 1; i < n; i += 2)
			kv_arm(vm, DEST + i * PAGE, PAGE, CODEWP_OPEN);
		kv_drain(vm);
		ev.n = 0;
		kv_run_to(vcpu, PORT_ROUND);
		kv_drain(vm);
		ASSERT_EQ(ev.n, n / 2);
		for (i = 0; i < n; i++)
			ASSERT(!kv_armed(vm, DEST + i * PAGE));
		ASSERT_EQ(kv_u64(vm, COUNTER), own + n);
	}
	/* The same once more with everything armed at once. */
	kv_arm(vm, DEST, n * PAGE, CODEWP_OPEN);
	ev.n = 0;
	kv_run_to(vcpu, PORT_ROUND);
	kv_drain(vm);
	ASSERT_EQ(ev.n, n);
	vmm_destroy(vm);
	huge_mode(old, NULL, 0);
}

TEST_LONG(huge_pages_memfd, 60)
{
	huge_pages(VMM_MEM_MEMFD);
}

TEST_LONG(huge_pages_anonymous, 60)
{
	huge_pages(VMM_MEM_ANON);
}

/* A balloon: pages go back to the host while armed, and come again as zeroes. */
TEST_LONG(balloon, 30)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD };
	uint8_t *p;
	int memfd;

	start(&o, PIECE(pages), DEST, 4);
	p = (uint8_t *)vmm_ram(vm) + DEST;
	round_tells(1, 0);
	kv_arm(vm, DEST, 4 * PAGE, CODEWP_OPEN);
	memfd = codewp_view_memfd(vmm_view(vm));
	ASSERT_GE(memfd, 0);
	ASSERT_OK(fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, DEST + PAGE,
			    PAGE));
	ASSERT_OK(madvise(p + 2 * PAGE, PAGE, MADV_REMOVE));
	/* The process gives its page table entries up, the page stays. */
	ASSERT_OK(madvise(p + 3 * PAGE, PAGE, MADV_DONTNEED));
	round_tells(DEST, DEST + 3 * PAGE);
	ASSERT_EQ(p[0], 2);
	ASSERT_EQ(p[PAGE], 1);
	ASSERT_EQ(p[2 * PAGE], 1);
	ASSERT_EQ(p[3 * PAGE], 2);
	/* And the new pages can be armed as the old ones. */
	kv_arm(vm, DEST, 4 * PAGE, CODEWP_OPEN);
	round_tells(DEST, DEST + 3 * PAGE);
	ASSERT_EQ(p[PAGE], 2);
	vmm_destroy(vm);
}

TEST_LONG(slot_deleted_and_made_again, 30)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD };
	struct vmm_exit e;
	uint64_t bytes;
	void *ram;

	start(&o, PIECE(pages), DEST, 4);
	ram = vmm_ram(vm);
	bytes = vmm_ram_bytes(vm);
	round_tells(1, 0);

	kv_arm(vm, DEST, 4 * PAGE, CODEWP_OPEN);
	ASSERT_EQ(vmm_slot(vm, 0, 0, 0, NULL, 0), 0);
	/* No memory at all: the guest cannot even be fetched from. */
	ASSERT_NE(kv_run(vcpu, &e), VMM_EXIT_OUT);
	ASSERT(kv_armed(vm, DEST));
	vmm_destroy(vm);

	/* Armed with a slot, without, and before there is one. */
	start(&o, PIECE(pages), DEST, 4);
	ram = vmm_ram(vm);
	round_tells(1, 0);
	kv_arm(vm, DEST, PAGE, CODEWP_OPEN);
	ASSERT_EQ(vmm_slot(vm, 0, 0, 0, NULL, 0), 0);
	kv_arm(vm, DEST + PAGE, 3 * PAGE, CODEWP_OPEN);
	ASSERT_EQ(vmm_slot(vm, 0, 0, bytes, ram, 0), 0);
	round_tells(DEST, DEST + 3 * PAGE);
	/* In two slots, of which one comes and goes. */
	ASSERT_EQ(vmm_slot(vm, 0, 0, 0, NULL, 0), 0);
	ASSERT_EQ(vmm_slot(vm, 0, 0, DEST + PAGE, ram, 0), 0);
	ASSERT_EQ(vmm_slot(vm, 1, DEST + PAGE, bytes - DEST - PAGE,
			   (char *)ram + DEST + PAGE, 0), 0);
	for (int i = 0; i < 5; i++) {
		kv_arm(vm, DEST, 4 * PAGE, CODEWP_OPEN);
		ASSERT_EQ(vmm_slot(vm, 1, DEST + PAGE, 0, NULL, 0), 0);
		ASSERT_EQ(vmm_slot(vm, 1, DEST + PAGE, bytes - DEST - PAGE,
				   (char *)ram + DEST + PAGE, 0), 0);
		round_tells(DEST, DEST + 3 * PAGE);
	}
	vmm_destroy(vm);
}

/* The same RAM at two guest-physical addresses: armed is the page, not the address. */
TEST_LONG(two_slots_one_page, 30)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD };
	uint64_t high = 0x10000000;
	struct kvm_regs r;

	start(&o, PIECE(pages), DEST, 2);
	ASSERT_EQ(vmm_slot(vm, 1, high, 2 * PAGE, (char *)vmm_ram(vm) + DEST, 0), 0);
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(vmm_get_regs(vcpu, &r), 0);
		r.rdi = i & 1 ? high : DEST;
		ASSERT_EQ(vmm_set_regs(vcpu, &r), 0);
		kv_arm(vm, DEST, 2 * PAGE, CODEWP_OPEN);
		round_tells(DEST, DEST + PAGE);
	}
	vmm_destroy(vm);
}

/*
 * KVM's dirty log switched on and off, read-only and back, between arming and
 * writing and the other way round.
 */
TEST_LONG(slot_flags, 30)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD };
	struct kvm_regs r;
	struct vmm_exit e;
	uint64_t bytes;
	void *ram;

	start(&o, PIECE(pages), DEST, 4);
	ram = vmm_ram(vm);
	bytes = vmm_ram_bytes(vm);
	round_tells(1, 0);
	for (int i = 0; i < 6; i++) {
		uint32_t flags = i & 1 ? 0 : KVM_MEM_LOG_DIRTY_PAGES;

		if (i & 2)
			kv_arm(vm, DEST, 4 * PAGE, CODEWP_OPEN);
		ASSERT_EQ(vmm_slot(vm, 0, 0, bytes, ram, flags), 0);
		if (!(i & 2))
			kv_arm(vm, DEST, 4 * PAGE, CODEWP_OPEN);
		round_tells(DEST, DEST + 3 * PAGE);
		/* Not armed: KVM's own traps are nothing to us. */
		round_tells(1, 0);
	}
	vmm_destroy(vm);

	/* KVM changes no slot to read-only: it is deleted between. */
	start(&o, PIECE(pages), DEST, 1);
	ram = vmm_ram(vm);
	ASSERT_EQ(vmm_slot(vm, 0, 0, 0, NULL, 0), 0);
	ASSERT_EQ(vmm_slot(vm, 0, 0, DEST, ram, 0), 0);
	ASSERT_EQ(vmm_slot(vm, 1, DEST, bytes - DEST, (char *)ram + DEST, KVM_MEM_READONLY),
		  0);
	kv_arm(vm, DEST, PAGE, CODEWP_OPEN);
	ASSERT_EQ(kv_run(vcpu, &e), VMM_EXIT_MMIO);
	ASSERT(e.write && e.gpa == DEST);
	kv_drain(vm);
	ASSERT_EQ(kv_count(&ev, DEST), 0);
	ASSERT(kv_armed(vm, DEST));
	/* That store is the VMM's business, who leaves it out. */
	kv_run_to(vcpu, PORT_ROUND);
	ASSERT_EQ(vmm_slot(vm, 1, DEST, 0, NULL, 0), 0);
	ASSERT_EQ(vmm_slot(vm, 1, DEST, bytes - DEST, (char *)ram + DEST, 0), 0);
	ASSERT_EQ(vmm_get_regs(vcpu, &r), 0);
	round_tells(DEST, DEST);
	vmm_destroy(vm);
}

/* Two 2 MiB entries of the guest's own change places, round after round. */
TEST_LONG(guest_paging, 30)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD, .follow = VMM_FOLLOW_EXITS };
	static const uint8_t three[] = { 0xb8, 3, 0, 0, 0, 0xc3 };
	static const uint8_t four[] = { 0x90, 0xb8, 4, 0, 0, 0, 0xc3 };
	uint64_t pd = VMM_PML4 + 2 * PAGE, gpa;
	struct kvm_regs r;
	int made = 0;

	start(&o, PIECE(remap), DEST, 0);
	ASSERT_EQ(vmm_write(vm, DEST + PAGE, three, sizeof(three)), 0);
	ASSERT_EQ(vmm_write(vm, OTHER + PAGE, four, sizeof(four)), 0);
	ASSERT_EQ(vmm_get_regs(vcpu, &r), 0);
	r.r8 = pd + 8 * (DEST >> 21);
	r.r9 = kv_u64(vm, pd + 8 * (OTHER >> 21));
	r.r11 = DEST + PAGE;
	ASSERT_EQ(vmm_set_regs(vcpu, &r), 0);
	for (int i = 0; i < 4; i++) {
		/* Each round ends on the other page than the last. */
		uint64_t now = i & 1 ? OTHER : DEST, next = i & 1 ? DEST : OTHER;

		ASSERT_EQ(vmm_translate(vcpu, DEST + 5, &gpa), 0);
		ASSERT_EQ(gpa, now + 5);
		ASSERT_GE(vmm_follow_at(vcpu, DEST + PAGE), 0);
		/* The tables are memory like all other: their entry is a store, too. */
		kv_arm(vm, now, PAGE, CODEWP_OPEN);
		kv_arm(vm, next, PAGE, CODEWP_OPEN);
		kv_arm(vm, pd, PAGE, CODEWP_OPEN);
		ev.n = 0;
		kv_run_to(vcpu, PORT_ROUND);
		kv_drain(vm);
		ASSERT_EQ(kv_count(&ev, now), 1);
		ASSERT_EQ(kv_count(&ev, next), 1);
		ASSERT_GE(kv_count(&ev, pd), 1);
		made += vmm_follow_at(vcpu, DEST + PAGE);
	}
	/* One virtual address, two pages of code: each page's block was made once. */
	ASSERT_LE(made, 1);
	ASSERT_EQ(vmm_check_blocks(vm), 0);
	vmm_destroy(vm);
}

/*
 * With APICs in KVM the first try to bring a page in must not sleep, and what would
 * have is done by a kernel thread while the guest is told to wait: with guests that do
 * not know of it, halted. Every write must arrive, and be told.
 */
/*
 * STOP then finds the vCPU's own store as often as it is not the kernel thread that
 * does it: both are told, and what was not stopped went through.
 */
static void async(unsigned int mode, bool no_hlt, unsigned int *stops)
{
	struct vmm_opts o = {
		.mem = VMM_MEM_MEMFD, .irqchip = true, .no_hlt_exit = no_hlt,
	};
	unsigned int n = kv_slow() ? 16 : 64;
	struct kvm_regs r;
	struct vmm_exit e;
	int memfd;

	start(&o, PIECE(pages), DEST, n);
	/* Only a vCPU that takes interrupts can be made to wait; none will come. */
	ASSERT_EQ(vmm_get_regs(vcpu, &r), 0);
	r.rflags |= 1 << 9;
	ASSERT_EQ(vmm_set_regs(vcpu, &r), 0);
	memfd = codewp_view_memfd(vmm_view(vm));
	*stops = 0;
	for (int round = 1; round <= 3; round++) {
		/* Half of them are not in memory when they are armed. */
		ASSERT_OK(fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, DEST,
				    n / 2 * PAGE));
		kv_arm(vm, DEST, n * PAGE, mode);
		kv_drain(vm);
		ev.n = 0;
		while (kv_run(vcpu, &e) == VMM_EXIT_STOP) {
			ASSERT_EQ(*((uint8_t *)vmm_ram(vm) + e.voff),
				  e.voff < DEST + n / 2 * PAGE ? 0 : round - 1);
			ASSERT_EQ(vmm_let_store(vcpu), 0);
			++*stops;
		}
		if (e.kind != VMM_EXIT_OUT)
			kv_fail_exit(vcpu, &e, "an output");
		kv_drain(vm);
		for (unsigned int i = 0; i < n; i++) {
			ASSERT_GE(kv_count(&ev, DEST + i * PAGE), 1);
			ASSERT(!kv_armed(vm, DEST + i * PAGE));
		}
		ASSERT_EQ(kv_u64(vm, COUNTER), (uint64_t)round * n);
	}
	vmm_destroy(vm);
}

TEST_LONG(async_page_faults_ring, 60)
{
	unsigned int stops;

	async(CODEWP_OPEN, false, &stops);
	ASSERT_EQ(stops, 0);
}

TEST_LONG(async_page_faults_stop, 60)
{
	unsigned int stops;

	kv_need_stop();
	async(CODEWP_STOP, false, &stops);
	kv_note("%u stops of %u stores with APICs in KVM\n", stops, 3 * (kv_slow() ? 16 : 64));
	async(CODEWP_STOP, true, &stops);
	kv_note("%u stops, and halting is the guest's own\n", stops);
	ASSERT_EQ(stops, 3 * (kv_slow() ? 16 : 64));
}

/* ---- what KVM writes itself ---- */

static void set_msr(uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs m;
		struct kvm_msr_entry e;
	} msr = { .m.nmsrs = 1, .e = { .index = index, .data = value } };

	if (ioctl(vmm_vcpu_fd(vcpu), KVM_SET_MSRS, &msr) != 1)
		TEST_FAIL("KVM does not take MSR %#x", index);
}

static void *flag_soon(void *arg)
{
	usleep(200000);
	*((volatile uint8_t *)vmm_ram(vm) + FLAG) = 1;
	return NULL;
}

/*
 * The clock's and the stolen time's pages are armed: KVM's writes must go through in
 * either mode, be told as nobody's stop, and KVM_RUN must never fail.
 */
static void kvm_writes(unsigned int mode)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD };
	uint64_t clock = DEST, steal = DEST + PAGE;
	unsigned int events = 0;
	struct vmm_exit e;

	start(&o, PIECE(spin), 0, 0);
	kv_arm(vm, DEST, 2 * PAGE, mode);
	set_msr(MSR_KVM_SYSTEM_TIME_NEW, clock | 1);
	set_msr(MSR_KVM_STEAL_TIME, steal | 1);
	for (int round = 0; round < 5; round++) {
		pthread_t t;

		*((volatile uint8_t *)vmm_ram(vm) + FLAG) = 0;
		kv_arm(vm, DEST, 2 * PAGE, mode);
		ASSERT_EQ(pthread_create(&t, NULL, flag_soon, NULL), 0);
		if (kv_run(vcpu, &e) != VMM_EXIT_OUT)
			kv_fail_exit(vcpu, &e, "an output");
		ASSERT_EQ(pthread_join(t, NULL), 0);
		/* Asking for the clock makes KVM write it when the vCPU enters next. */
		set_msr(MSR_KVM_SYSTEM_TIME_NEW, clock | 1);
	}
	kv_run_to(vcpu, PORT_ROUND);
	kv_drain(vm);
	for (unsigned int i = 0; i < ev.n && i < 256; i++) {
		if (ev.v[i].voff / PAGE != clock / PAGE && ev.v[i].voff / PAGE != steal / PAGE)
			continue;
		events++;
		ASSERT(!ev.v[i].stopped && !ev.v[i].guest);
	}
	/* flags and version, tsc_to_system_mul: the clock is alive */
	ASSERT_NE(kv_u64(vm, clock + 16), 0);
	ASSERT_GE(kv_count(&ev, clock), 2);
	ASSERT_GE(kv_count(&ev, steal), 1);
	kv_note("%u writes of KVM's own were told\n", events);
	vmm_destroy(vm);
}

TEST_LONG(clock_and_stolen_time_ring, 30)
{
	kvm_writes(CODEWP_OPEN);
}

TEST_LONG(clock_and_stolen_time_stop, 30)
{
	kv_need_stop();
	kvm_writes(CODEWP_STOP);
}

/*
 * Reading an armed page is no write. KVM brings pages in as if for writing where it
 * may; what it then told would be of no harm, but is not wanted.
 */
TEST_LONG(reads_are_not_told, 30)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD };

	start(&o, PIECE(read), DEST, 16);
	kv_arm(vm, DEST, 16 * PAGE, CODEWP_OPEN);
	round_tells(1, 0);
	for (int i = 0; i < 16; i++)
		ASSERT(kv_armed(vm, DEST + i * PAGE));
	vmm_destroy(vm);
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
