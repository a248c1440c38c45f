// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What a KVM guest's write to a watched page costs: by codewp (ring, stop), and by
 * what KVM has itself (dirty log, dirty ring, a read-only slot and MMIO emulation,
 * page-track). What arming costs, and what a guest costs that is watched.
 *
 * usage: kvm [write] (in the VM of tests/vm/run --kvm; write: the first table only)
 *
 * All rows are from one run in one machine, of guests that do the same. A round is:
 * all pages are watched, the guest writes once to each, and the VMM knows which. A
 * row's figure is a round's, divided by the pages, without what the same round
 * costs when nothing is watched. Each round checks that the guest's writes were
 * done, and that exactly they were told.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <codewp.h>

#include "bench.h"

#define PAGE	4096UL
#define CODE	0x1000UL
#define DATA	0x100000UL	/* the pages that are written */
#define MAX_PAGES 4096UL
#define RAM	(DATA + MAX_PAGES * PAGE)
#define WRITES	64UL		/* pages of a round */
#define ROUNDS	20

extern const char guest_touch[], guest_touch_end[], guest_work[], guest_work_end[];

enum memory { PLAIN, UNMAPPED, READ_ONLY, DIRTY_LOG, DIRTY_RING, VIEW };
#define UNARMED	(-1U)	/* instead of a mode to arm in */

struct vm {
	enum memory memory;
	int kvm, fd, vcpu;
	struct kvm_run *run;
	unsigned char *ram;
	uint32_t counter;	/* of each page's first word: rounds so far */
	struct codewp *ctx;
	struct codewp_view *view;
	struct kvm_dirty_gfn *ring;
	uint32_t ring_entries, ring_next;
};

#define CHECK(call) ({							\
	long r_ = (long)(call);						\
	if (r_ < 0)							\
		bench_die("%s: %s", #call, strerror(r_ == -1 ? errno : -r_));\
	r_; })

static void make_memory(struct vm *vm)
{
	void *p = NULL;

	if (vm->memory == VIEW) {
		struct codewp_open_opts oo = { .sz = sizeof(oo), .backend = CODEWP_KMOD };
		struct codewp_view_opts vo = { .sz = sizeof(vo), .ring_bytes = 1 << 20 };

		CHECK(codewp_open(&vm->ctx, &oo));
		CHECK(codewp_view_anon(vm->ctx, &vm->view, RAM, &vo));
		CHECK(codewp_map(vm->view, &p, RAM, 0, PROT_READ | PROT_WRITE, 0));
	} else {
		p = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			bench_die("mmap: %s", strerror(errno));
	}
	vm->ram = p;
}

static void slots(struct vm *vm)
{
	struct kvm_userspace_memory_region r = {
		.memory_size = DATA,
		.userspace_addr = (unsigned long)vm->ram,
	};

	CHECK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r));
	r.slot = 1;
	r.guest_phys_addr = DATA;
	r.memory_size = RAM - DATA;
	r.userspace_addr += DATA;
	if (vm->memory == READ_ONLY)
		r.flags = KVM_MEM_READONLY;
	if (vm->memory == DIRTY_LOG || vm->memory == DIRTY_RING)
		r.flags = KVM_MEM_LOG_DIRTY_PAGES;
	CHECK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r));
}

static void dirty_ring(struct vm *vm)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING };
	long bytes = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING);

	if (bytes <= 0)
		bench_die("this KVM has no dirty ring");
	cap.args[0] = bytes < 65536 ? bytes : 65536;
	vm->ring_entries = cap.args[0] / sizeof(*vm->ring);
	CHECK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
}

/* 32 bits, flat. */
static void flat(struct vm *vm, unsigned long pages)
{
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1,
		.s = 1, .g = 1,
	}, data = code;
	struct kvm_regs regs = { .rflags = 2, .rip = CODE, .rsi = DATA, .rcx = pages };
	struct kvm_sregs s;

	data.type = 3;
	data.selector = 16;
	CHECK(ioctl(vm->vcpu, KVM_GET_SREGS, &s));
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr0 |= 1;
	CHECK(ioctl(vm->vcpu, KVM_SET_SREGS, &s));
	CHECK(ioctl(vm->vcpu, KVM_SET_REGS, &regs));
}

static void open_vm(struct vm *vm, enum memory memory, const char *code, const char *end,
		    unsigned long pages)
{
	long size;

	*vm = (struct vm){ .memory = memory };
	vm->kvm = CHECK(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	vm->fd = CHECK(ioctl(vm->kvm, KVM_CREATE_VM, 0));
	make_memory(vm);
	memcpy(vm->ram + CODE, code, end - code);
	if (memory == DIRTY_RING)
		dirty_ring(vm);
	slots(vm);
	CHECK(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000UL));
	vm->vcpu = CHECK(ioctl(vm->fd, KVM_CREATE_VCPU, 0));
	size = CHECK(ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	vm->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED)
		bench_die("mmap of the vCPU: %s", strerror(errno));
	if (memory == DIRTY_RING) {
		vm->ring = mmap(NULL, vm->ring_entries * sizeof(*vm->ring),
				PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu,
				KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
		if (vm->ring == MAP_FAILED)
			bench_die("mmap of the dirty ring: %s", strerror(errno));
	}
	flat(vm, pages);
}

static void close_vm(struct vm *vm)
{
	munmap(vm->run, CHECK(ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0)));
	if (vm->ring)
		munmap(vm->ring, vm->ring_entries * sizeof(*vm->ring));
	close(vm->vcpu);
	close(vm->fd);
	close(vm->kvm);
	if (vm->view) {
		CHECK(codewp_unmap(vm->ctx, vm->ram, RAM));
		codewp_view_destroy(vm->view);
		codewp_close(vm->ctx);
	} else {
		munmap(vm->ram, RAM);
	}
}

/* ---- running the guest to the end of its round ---- */

static void on_stop(const struct codewp_event_info *ev, void *arg)
{
	uint64_t *voff = arg;

	if (!ev->stopped)
		bench_die("a write was told that was not stopped");
	*voff = ev->voff;
}

/* A read-only slot's write: done here, and the frame is known. */
static void do_mmio(struct vm *vm)
{
	uint64_t gpa = vm->run->mmio.phys_addr;

	if (!vm->run->mmio.is_write || gpa < DATA || gpa + vm->run->mmio.len > RAM)
		bench_die("MMIO at 0x%llx", (unsigned long long)gpa);
	memcpy(vm->ram + gpa, vm->run->mmio.data, vm->run->mmio.len);
}

/* The stopped store's page is opened, as a VMM does that drops its blocks. */
static void open_stopped(struct vm *vm)
{
	uint64_t voff = RAM;

	if (codewp_drain(vm->view, on_stop, &voff) != 1)
		bench_die("KVM_RUN failed, and there is not one event");
	CHECK(codewp_disarm(vm->view, voff & -PAGE, PAGE));
}

/* Returns how many writes ended KVM_RUN. */
static unsigned long guest_round(struct vm *vm)
{
	unsigned long told = 0;

	for (;;) {
		if (!ioctl(vm->vcpu, KVM_RUN, 0)) {
			if (vm->run->exit_reason == KVM_EXIT_HLT)
				return told;
			if (vm->run->exit_reason != KVM_EXIT_MMIO)
				bench_die("exit %u", vm->run->exit_reason);
			do_mmio(vm);
		} else if (errno == EFAULT && vm->view) {
			open_stopped(vm);
		} else {
			bench_die("KVM_RUN: %s", strerror(errno));
		}
		told++;
	}
}

/* The guest has written to each page once more. */
static void check_writes(struct vm *vm, unsigned long pages)
{
	unsigned long i;

	vm->counter++;
	for (i = 0; i < pages; i++) {
		uint32_t n;

		memcpy(&n, vm->ram + DATA + i * PAGE, sizeof(n));
		if (n != vm->counter)
			bench_die("page %lu has %u writes, not %u", i, n, vm->counter);
	}
}

static void must(unsigned long told, const char *what)
{
	if (told != WRITES)
		bench_die("%s: %lu of %lu writes told", what, told, WRITES);
}

/* ---- the ways to be told ---- */

static unsigned long harvest_log(struct vm *vm)
{
	static uint64_t bitmap[MAX_PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };
	unsigned long n = 0;
	size_t i;

	CHECK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	for (i = 0; i < MAX_PAGES / 64; i++)
		n += __builtin_popcountll(bitmap[i]);
	return n;
}

static unsigned long harvest_ring(struct vm *vm)
{
	unsigned long n = 0;

	for (;; n++, vm->ring_next++) {
		struct kvm_dirty_gfn *g = &vm->ring[vm->ring_next % vm->ring_entries];

		/* Pairs with KVM's store of the flag, after that of slot and offset. */
		if (!(__atomic_load_n(&g->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		__atomic_store_n(&g->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
	if (CHECK(ioctl(vm->fd, KVM_RESET_DIRTY_RINGS)) != (long)n)
		bench_die("the dirty ring was not reset whole");
	return n;
}

static void count(const struct codewp_event_info *ev, void *arg)
{
	unsigned long *n = arg;

	*n += !ev->whole_page && ev->voff >= DATA;
}

struct costs {
	double before;		/* to watch all pages anew, of a round */
	double run;		/* the guest's part */
	double after;		/* to know what was written */
};

/* The least of the rounds: others use the machine, too; with icount all are alike. */
static void least(struct costs *best, const struct costs *c)
{
	if (c->before + c->run + c->after < best->before + best->run + best->after)
		*best = *c;
}

static struct costs measure(enum memory memory, unsigned int mode)
{
	struct costs best = { .run = 1e300 };
	unsigned long n;
	struct vm vm;
	int i;

	open_vm(&vm, memory, guest_touch, guest_touch_end, WRITES);
	for (i = -2; i < ROUNDS; i++) {
		struct costs c;
		double t0 = bench_now(), t1, t2;

		if (memory == VIEW && mode != UNARMED)
			CHECK(codewp_arm(vm.view, DATA, WRITES * PAGE, mode, NULL));
		if (memory == UNMAPPED)
			CHECK(madvise(vm.ram + DATA, WRITES * PAGE, MADV_DONTNEED));
		t1 = bench_now();
		n = guest_round(&vm);
		t2 = bench_now();
		if (memory == DIRTY_LOG)
			n = harvest_log(&vm);
		if (memory == DIRTY_RING)
			n = harvest_ring(&vm);
		if (memory == VIEW && mode == CODEWP_OPEN) {
			n = 0;
			CHECK(codewp_drain(vm.view, count, &n));
		}
		c = (struct costs){ t1 - t0, t2 - t1, bench_now() - t2 };
		check_writes(&vm, WRITES);
		/* Nobody is there to tell. */
		if (memory <= UNMAPPED || (memory == VIEW && mode == UNARMED))
			n += WRITES;
		/* The first rounds bring pages in, and begin KVM's logs. */
		if (i < 0)
			continue;
		must(n, "a round");
		least(&best, &c);
	}
	close_vm(&vm);
	return best;
}

#define PAGETRACK	"/dev/pagetrack"

struct pagetrack_range {
	int32_t vm;
	uint32_t gfn, pages;
};

/* Pages stay tracked, and the count is the kernel's: nobody is told of anything. */
static bool measure_pagetrack(struct costs *best)
{
	struct pagetrack_range r = { .gfn = DATA / PAGE, .pages = WRITES };
	uint64_t before, after;
	struct vm vm;
	int fd, i;

	fd = open(PAGETRACK, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	*best = (struct costs){ .run = 1e300 };
	open_vm(&vm, PLAIN, guest_touch, guest_touch_end, WRITES);
	guest_round(&vm);
	check_writes(&vm, WRITES);
	r.vm = vm.fd;
	CHECK(write(fd, &r, sizeof(r)));
	for (i = -2; i < ROUNDS; i++) {
		struct costs c = { };
		double t;

		CHECK(read(fd, &before, sizeof(before)));
		t = bench_now();
		guest_round(&vm);
		c.run = bench_now() - t;
		check_writes(&vm, WRITES);
		CHECK(read(fd, &after, sizeof(after)));
		if (i < 0)
			continue;
		must(after - before, "page-track");
		least(best, &c);
	}
	close(fd);
	close_vm(&vm);
	return true;
}

static void row(const char *what, const struct costs *c, const struct costs *floor)
{
	double run = c->run - floor->run;

	printf("%-34s %9.0f %9.0f %9.0f %9.0f\n", what, c->before / WRITES, run / WRITES,
	       c->after / WRITES, (c->before + run + c->after) / WRITES);
}

static void write_costs(void)
{
	struct costs plain = measure(PLAIN, UNARMED), c;

	printf("a write to a watched page, %s (a round of %lu pages, per page)\n", bench_unit,
	       WRITES);
	printf("%-34s %9s %9s %9s %9s\n", "", "watch", "write", "learn", "all");
	c = measure(UNMAPPED, UNARMED);
	row("plain memory, pages unmapped", &c, &plain);
	c = measure(VIEW, UNARMED);
	row("a view, nothing armed", &c, &plain);
	c = measure(VIEW, CODEWP_OPEN);
	row("codewp, ring", &c, &plain);
	if (!access("/sys/module/codewp_kvm", F_OK)) {
		c = measure(VIEW, CODEWP_STOP);
		row("codewp, stop, then opened", &c, &plain);
	} else {
		printf("%-34s - needs codewp_kvm.ko\n", "codewp, stop");
	}
	c = measure(DIRTY_LOG, UNARMED);
	row("KVM dirty log", &c, &plain);
	c = measure(DIRTY_RING, UNARMED);
	row("KVM dirty ring", &c, &plain);
	c = measure(READ_ONLY, 0);
	row("read-only slot, emulated by VMM", &c, &plain);
	if (measure_pagetrack(&c))
		row("page-track, emulated by KVM", &c, &plain);
	else
		printf("%-34s - no " PAGETRACK " (%s)\n", "page-track", strerror(errno));
}

/* Pages that the guest has mapped writable: the dearest to arm. */
static void arm_costs(void)
{
	static const unsigned long sizes[] = { 1, 64, 4096 };
	size_t i;
	int round;

	printf("\narming pages that the guest has written, %s\n", bench_unit);
	printf("%-34s %9s %9s\n", "pages", "a call", "a page");
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		double best = 1e300;
		struct vm vm;

		open_vm(&vm, VIEW, guest_touch, guest_touch_end, sizes[i]);
		for (round = 0; round < 6; round++) {
			struct codewp_arm_result res;
			double t;

			guest_round(&vm);
			check_writes(&vm, sizes[i]);
			t = bench_now();
			CHECK(codewp_arm(vm.view, DATA, sizes[i] * PAGE, CODEWP_OPEN, &res));
			t = bench_now() - t;
			if (res.done != sizes[i] * PAGE)
				bench_die("armed %llu bytes", (unsigned long long)res.done);
			if (t < best)
				best = t;
		}
		close_vm(&vm);
		printf("%-34lu %9.0f %9.0f\n", sizes[i], best, best / sizes[i]);
	}
}

/* One round of the working guest; every @step-th page is armed before it (0: none). */
static double work(enum memory memory, unsigned long step, unsigned long *told)
{
	double best = 1e300;
	struct vm vm;
	int round;

	open_vm(&vm, memory, guest_work, guest_work_end, MAX_PAGES);
	for (round = 0; round < 4; round++) {
		unsigned long i;
		double t = bench_now();

		for (i = 0; step && i < MAX_PAGES; i += step)
			CHECK(codewp_arm(vm.view, DATA + i * PAGE, PAGE, CODEWP_OPEN, NULL));
		guest_round(&vm);
		*told = 0;
		if (memory == VIEW)
			CHECK(codewp_drain(vm.view, count, told));
		t = bench_now() - t;
		if (round && t < best)
			best = t;
	}
	close_vm(&vm);
	return best;
}

static void slowdown(void)
{
	unsigned long told;
	double plain = work(PLAIN, 0, &told), t;

	printf("\na guest that changes 256 words in each of %lu pages, a round\n", MAX_PAGES);
	printf("%-34s %14s %9s\n", "", bench_unit, "times");
	printf("%-34s %14.0f %9.4f\n", "plain memory", plain, 1.0);
	t = work(VIEW, 0, &told);
	if (told)
		bench_die("nothing was armed, and %lu writes were told", told);
	printf("%-34s %14.0f %9.4f\n", "a view, nothing armed", t, t / plain);
	t = work(VIEW, 100, &told);
	if (told != (MAX_PAGES + 99) / 100)
		bench_die("%lu writes were told", told);
	printf("%-34s %14.0f %9.4f\n", "1 % armed anew in each round", t, t / plain);
}

int main(int argc, char **argv)
{
	bench_open();
	write_costs();
	if (argc > 1 && !strcmp(argv[1], "write"))
		return 0;
	arm_costs();
	slowdown();
	return 0;
}
