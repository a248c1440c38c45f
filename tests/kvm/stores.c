// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Every kind of store that a guest executes, inside a page and across two, on armed
 * pages: told by the ring; stopped and let go; stopped and stepped. What the store
 * wrote is compared with the same store to a page that was never armed.
 */
#include "vmm_test.h"

#define DEST	0x400000UL	/* two pages; this is the first one's address */
#define REF	0x500000UL	/* the same, never armed */
#define SRC	0x600000UL
#define COUNTER	0x700000UL

#define KEEPS_BYTES	1	/* writes, but what was there */
#define NEEDS_AVX	2
#define PIECEWISE	4	/* in any order, with gaps */

/* One of piece_stores.S */
struct kind {
	const char *name;
	const uint8_t *code, *store, *end;
	uint32_t size, align, flags, repeat;
	/* The x87 pointers: Linux gives them other values on AMD's when it switches. */
	uint32_t skip, skipped;
};

extern const struct kind store_kinds[], store_kinds_end[];

struct rig {
	struct vmm *vm;
	struct vmm_vcpu *vcpu;
	struct kv_events ev;
	const struct kind *kind;
	uint64_t rounds;
	bool told;		/* events know the guest's byte */
	bool avx;
};

static struct rig rig;

static void rig_make(void)
{
	struct kvm_xcrs x = { };
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD };
	uint8_t src[256];

	rig.told = kv_guest_told();
	rig.vm = kv_vm(&o);
	rig.vcpu = vmm_vcpu(rig.vm, 0);
	for (int i = 0; i < 256; i++)
		src[i] = i * 7 + 0x31;
	ASSERT_EQ(vmm_write(rig.vm, SRC, src, sizeof(src)), 0);
	ASSERT_EQ(vmm_boot_long(rig.vm, CODE), 0);
	rig.avx = !ioctl(vmm_vcpu_fd(rig.vcpu), KVM_GET_XCRS, &x) && x.nr_xcrs &&
		  x.xcrs[0].value & 4;
	kv_watch_events(rig.vm, &rig.ev);
}

/* The vCPU at the beginning of the piece, to store at @dest. */
static void set_up(uint64_t dest)
{
	const struct kind *k = rig.kind;
	struct kvm_regs r = {
		.rip = CODE, .rflags = 2, .rdi = dest, .rsi = SRC, .r10 = COUNTER,
		.rcx = k->repeat ? k->size / k->repeat : 0, .rsp = VMM_STACKS,
	};

	ASSERT_EQ(vmm_write(rig.vm, CODE, k->code, k->end - k->code), 0);
	ASSERT_EQ(vmm_set_regs(rig.vcpu, &r), 0);
}

#define FAIL_KIND(fmt, ...) \
	TEST_FAIL("%s at %#lx: " fmt, rig.kind->name, off, ##__VA_ARGS__)

static uint64_t rip(void)
{
	struct kvm_regs r;

	ASSERT_EQ(vmm_get_regs(rig.vcpu, &r), 0);
	return r.rip;
}

static uint64_t store_rip(void)
{
	return CODE + (rig.kind->store - rig.kind->code);
}

/* The store to a page that is not armed: what it must look like. */
static void reference(unsigned long off)
{
	static const uint8_t zero[2 * PAGE];

	ASSERT_EQ(vmm_write(rig.vm, REF, zero, sizeof(zero)), 0);
	ASSERT_EQ(vmm_write(rig.vm, DEST, zero, sizeof(zero)), 0);
	set_up(REF + off);
	kv_run_to(rig.vcpu, PORT_ROUND);
	rig.rounds++;
	set_up(DEST + off);
}

static void check_written(unsigned long off)
{
	const uint8_t *ram = vmm_ram(rig.vm);
	static const uint8_t zero[2 * PAGE];
	unsigned long skip = off + rig.kind->skip, behind = skip + rig.kind->skipped;

	rig.rounds++;
	if (kv_u64(rig.vm, COUNTER) != rig.rounds)
		FAIL_KIND("the guest counted %lu stores of %lu", kv_u64(rig.vm, COUNTER),
			  rig.rounds);
	if (memcmp(ram + DEST, ram + REF, skip) ||
	    memcmp(ram + DEST + behind, ram + REF + behind, 2 * PAGE - behind))
		FAIL_KIND("not what the same store writes elsewhere");
	if (!(rig.kind->flags & KEEPS_BYTES) && !memcmp(ram + DEST, zero, sizeof(zero)))
		FAIL_KIND("nothing was written");
}

static void check_event(const struct codewp_event_info *ev, unsigned long off, int page,
			bool stopped)
{
	uint64_t want = page ? DEST + PAGE : DEST + off;

	if (ev->voff / PAGE != want / PAGE)
		FAIL_KIND("an event of page %#lx", (unsigned long)ev->voff);
	if (ev->stopped != stopped)
		FAIL_KIND("an event that says %sstopped", ev->stopped ? "" : "not ");
	if (!rig.told)
		return;
	if (!ev->guest || ev->vcpu || ev->tid != gettid())
		FAIL_KIND("an event of thread %u, vCPU %u, guest %d; this is %d", ev->tid,
			  ev->vcpu, ev->guest, gettid());
	if (ev->voff != want &&
	    (!(rig.kind->flags & PIECEWISE) || ev->voff - want >= rig.kind->size))
		FAIL_KIND("an event of byte %#lx, want %#lx", (unsigned long)ev->voff,
			  (unsigned long)want);
}

static int pages(unsigned long off)
{
	return off < PAGE && off + rig.kind->size > PAGE ? 2 : 1;
}

static void one_ring(unsigned long off)
{
	unsigned int n = pages(off);

	reference(off);
	kv_arm(rig.vm, DEST, 2 * PAGE, CODEWP_OPEN);
	kv_drain(rig.vm);
	rig.ev.n = 0;
	kv_run_to(rig.vcpu, PORT_ROUND);
	kv_drain(rig.vm);
	if (rig.ev.n != n)
		FAIL_KIND("%u events, want %u", rig.ev.n, n);
	/* A store across two pages may meet the second first. */
	if (n == 2 && rig.ev.v[0].voff / PAGE != DEST / PAGE) {
		struct codewp_event_info t = rig.ev.v[0];

		rig.ev.v[0] = rig.ev.v[1];
		rig.ev.v[1] = t;
	}
	for (unsigned int i = 0; i < n; i++)
		check_event(&rig.ev.v[i], off, i, false);
	if (kv_armed(rig.vm, DEST) || (n == 2) == kv_armed(rig.vm, DEST + PAGE))
		FAIL_KIND("the wrong pages are armed afterwards");
	check_written(off);
}

/* A store that was stopped at one of its pages has not written that page. */
static void check_stop(const struct vmm_exit *e, unsigned long off, bool first)
{
	const uint8_t *ram = vmm_ram(rig.vm);
	uint64_t page = e->voff & -PAGE, at;
	static const uint8_t zero[PAGE];
	uint32_t len;

	if (page != DEST && page != DEST + PAGE)
		FAIL_KIND("stopped at %#lx", (unsigned long)e->voff);
	if (rip() != store_rip())
		FAIL_KIND("stopped at rip %#lx, the store is at %#lx", rip(), store_rip());
	if (!kv_armed(rig.vm, page))
		FAIL_KIND("stopped, and the page is open");
	if (first && memcmp(ram + page, zero, PAGE))
		FAIL_KIND("the page was written before the stop");
	/* Those whose size is no operand's are the whole page. */
	if (!vmm_store_bytes(rig.vcpu, e->voff, &at, &len)) {
		uint32_t size = rig.kind->repeat ?: rig.kind->size;

		if (at > e->voff || e->voff >= at + len || len > size ||
		    (first && page == DEST && pages(off) == 1 &&
		     (at != DEST + off || len != size)))
			FAIL_KIND("the store is said to write %u bytes at %#lx", len,
				  (unsigned long)at);
	} else if (strcmp(rig.kind->name, "xsave") && strcmp(rig.kind->name, "bts64")) {
		FAIL_KIND("nobody knows what the store writes");
	}
}

static void one_stop(unsigned long off)
{
	unsigned int n = 0;
	struct vmm_exit e;

	reference(off);
	kv_arm(rig.vm, DEST, 2 * PAGE, CODEWP_STOP);
	kv_drain(rig.vm);
	rig.ev.n = 0;
	while (kv_run(rig.vcpu, &e) == VMM_EXIT_STOP) {
		if (++n > 2)
			FAIL_KIND("a third stop, at %#lx", (unsigned long)e.voff);
		check_stop(&e, off, true);
		if (rig.ev.n != n)
			FAIL_KIND("%u events at stop %u", rig.ev.n, n);
		check_event(&rig.ev.v[n - 1], off, e.voff >= DEST + PAGE, true);
		ASSERT_EQ(vmm_let_store(rig.vcpu), 0);
	}
	if (e.kind != VMM_EXIT_OUT)
		kv_fail_exit(rig.vcpu, &e, rig.kind->name);
	if (n != pages(off))
		FAIL_KIND("%u stops, want %d", n, pages(off));
	kv_drain(rig.vm);
	if (rig.ev.n != n)
		FAIL_KIND("%u events of %u stops", rig.ev.n, n);
	check_written(off);
}

static void one_step(unsigned long off)
{
	unsigned int n = 0, want = rig.kind->repeat ?
				   rig.kind->size / rig.kind->repeat : 1;
	struct vmm_exit e;

	reference(off);
	kv_arm(rig.vm, DEST, 2 * PAGE, CODEWP_STOP);
	while (kv_run(rig.vcpu, &e) == VMM_EXIT_STOP) {
		if (++n > want)
			FAIL_KIND("stop %u, at %#lx", n, (unsigned long)e.voff);
		check_stop(&e, off, n == 1);
		ASSERT_EQ(vmm_step_store(rig.vcpu, &e), 0);
		if (e.kind != VMM_EXIT_DEBUG)
			kv_fail_exit(rig.vcpu, &e, "the end of a step");
		if (!kv_armed(rig.vm, DEST) || !kv_armed(rig.vm, DEST + PAGE))
			FAIL_KIND("a page is open after a step");
	}
	if (e.kind != VMM_EXIT_OUT)
		kv_fail_exit(rig.vcpu, &e, rig.kind->name);
	if (n != want)
		FAIL_KIND("%u stops, want %u", n, want);
	check_written(off);
}

static void each(void (*fn)(unsigned long off), bool cross)
{
	unsigned int left_out = 0, done = 0;

	rig_make();
	for (rig.kind = store_kinds; rig.kind != store_kinds_end; rig.kind++) {
		unsigned long off = 0x340;

		if (rig.kind->flags & NEEDS_AVX && !rig.avx) {
			left_out++;
			continue;
		}
		if (cross) {
			off = (PAGE - rig.kind->size / 2) & -(unsigned long)rig.kind->align;
			if (off + rig.kind->size <= PAGE || off >= PAGE)
				continue;
		}
		fn(off);
		done++;
	}
	ASSERT_GE(done, cross ? 20 : 24);
	if (left_out)
		kv_note("%u kinds left out: this guest has no AVX\n", left_out);
	vmm_destroy(rig.vm);
}

TEST_LONG(ring_in_page, 30)
{
	each(one_ring, false);
}

TEST_LONG(ring_crossing, 30)
{
	each(one_ring, true);
}

TEST_LONG(stop_in_page, 30)
{
	kv_need_stop();
	each(one_stop, false);
}

TEST_LONG(stop_crossing, 30)
{
	kv_need_stop();
	each(one_stop, true);
}

TEST_LONG(step_in_page, 60)
{
	kv_need_stop();
	each(one_step, false);
}

TEST_LONG(step_crossing, 60)
{
	kv_need_stop();
	each(one_step, true);
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
