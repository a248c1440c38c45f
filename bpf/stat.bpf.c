// SPDX-License-Identifier: GPL-2.0
/*
 * Counts, page by page, what happens to translated code: traps as the module
 * tells them (raw tracepoints) and what the translator made of them (USDT).
 *
 * Owns the page table and the totals. No lock: counters are changed by atomic
 * adds only, on entries that are never removed; an entry is created with
 * BPF_NOEXIST and looked up again, so of two CPUs that come at once both count
 * into the same one.
 *
 * Raw tracepoints, not classic ones, for two reasons. A classic tracepoint's
 * program is skipped, and the event lost, while any task on that CPU is inside a
 * bpf() map call (bpf_prog_active), which a preemptible kernel can schedule away
 * from; a raw one is skipped only when it interrupts itself, and the kernel
 * counts that (recursion_misses, which the tools report). And a 6.1 module
 * cannot have BTF of its own, so tp_btf is out. The price is that arguments come
 * by position: the tools compare the tracepoint's format file with what they
 * were built for before they attach (user/tools/probes.c).
 */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>
#include "stat.h"

#define PAGE_SHIFT 12

char LICENSE[] SEC("license") = "GPL";

/* Set before loading. */
const volatile __u32 target_tgid;	/* 0: everybody */
const volatile __u64 pidns_dev;
const volatile __u64 pidns_ino;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct page_key);
	__type(value, struct page_stat);
} pages SEC(".maps");

/*
 * view -> process that it belongs to: of one made while we look, its maker; of
 * an older one, who arms it, until an upcall or a signal, which only the owner
 * gets, tells for certain. The views of long ago make room for new ones.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, STAT_VIEWS);
	__type(key, __u32);
	__type(value, struct view_owner);
} owners SEC(".maps");

struct stat_totals totals;

/*
 * Set when all programs are attached, cleared before the last look, so that both
 * sides count the same stretch of time.
 */
__u32 counting;

static __always_inline void add(__u64 *counter, __u64 n)
{
	__sync_fetch_and_add(counter, n);
}

/* The current process as the tool's pid namespace numbers it. */
static __always_inline __u32 current_tgid(void)
{
	struct bpf_pidns_info ns = {};

	if (!bpf_get_ns_current_pid_tgid(pidns_dev, pidns_ino, &ns, sizeof(ns)))
		return ns.tgid;
	return target_tgid ? 0 : bpf_get_current_pid_tgid() >> 32;
}

/*
 * The current process works with a view: it is its owner, @sure or not. And: is
 * the view to be counted? It is if its owner is, whoever writes; if the owner is
 * not known, the current process decides.
 */
static __always_inline bool wanted_view(__u32 view, bool works, bool sure)
{
	struct view_owner *owner = bpf_map_lookup_elem(&owners, &view);
	struct view_owner me = { .sure = sure };

	if (works && (!owner || (sure && !owner->sure))) {
		me.tgid = current_tgid();
		bpf_map_update_elem(&owners, &view, &me, BPF_ANY);
		owner = &me;
	}
	if (!counting)
		return false;
	if (!target_tgid)
		return true;
	return (owner ? owner->tgid : current_tgid()) == target_tgid;
}

static __always_inline bool wanted_process(__u32 tgid)
{
	return counting && (!target_tgid || tgid == target_tgid);
}

static __always_inline struct page_stat *get_page(__u32 space, __u32 id, __u64 page)
{
	struct page_key key = { .page = page, .id = id, .space = space };
	static const struct page_stat zero;
	struct page_stat *v;
	int err = 0;	/* before 6.4 the upper half of the result is garbage */
	int i;

	v = bpf_map_lookup_elem(&pages, &key);
	if (v)
		return v;
	/*
	 * An update may also fail since the table's locks or its list of free
	 * entries are held just now (-EBUSY, -EDEADLK, even -E2BIG): try again
	 * before an event is given up.
	 */
#pragma unroll
	for (i = 0; i < 4; i++) {
		err = bpf_map_update_elem(&pages, &key, &zero, BPF_NOEXIST);
		v = bpf_map_lookup_elem(&pages, &key);
		if (v)
			return v;
	}
	add(err == -E2BIG ? &totals.full : &totals.failed, 1);
	return NULL;
}

/* The last writer is the one with the latest time; ties go to the first. */
static __always_inline void written(struct page_stat *v, __u64 ip, __u64 how)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 old;
	int i;

	if (!v->first_ns)
		__sync_val_compare_and_swap(&v->first_ns, 0, now);
#pragma unroll
	for (i = 0; i < 4; i++) {
		old = v->last_ns;
		if (old >= now)
			break;
		if (__sync_val_compare_and_swap(&v->last_ns, old, now) == old) {
			if (ip)
				v->last_ip = ip;
			v->last_how = how;
			break;
		}
	}
}

/* ---- the module -------------------------------------------------------- */

SEC("raw_tp/codewp_view")
int BPF_PROG(on_view, __u64 length, __u32 view, __u32 create)
{
	if (create)
		wanted_view(view, true, true);
	return 0;
}

SEC("raw_tp/codewp_trap")
int BPF_PROG(on_trap, __u64 cookie, __u64 pgoff, __u64 offset, __u64 addr,
	     __u64 ip, __u32 view, __u32 how)
{
	bool by_owner = how == HOW_UPCALL || how == HOW_SIGNAL;
	struct page_stat *v;

	if (!wanted_view(view, by_owner, true))
		return 0;
	if (how >= HOW_MAX)
		how = HOW_OTHER;
	add(&totals.traps[how], 1);
	/* pgoff counts from the start of the file, not of the view */
	v = get_page(SPACE_VIEW, view, offset >> PAGE_SHIFT);
	if (!v)
		return 0;
	add(&v->traps[how], 1);
	v->cookie = cookie;
	/* Told by upcall or signal: the address is one of the owner's. */
	if (by_owner)
		v->gva = addr >> PAGE_SHIFT << PAGE_SHIFT;
	written(v, ip, how);
	return 0;
}

SEC("raw_tp/codewp_arm")
int BPF_PROG(on_arm, __u64 offset, __u64 length, __u64 done, __u32 view)
{
	if (wanted_view(view, true, false))
		add(&totals.arms, done >> PAGE_SHIFT);
	return 0;
}

SEC("raw_tp/codewp_disarm")
int BPF_PROG(on_disarm, __u64 offset, __u64 length, __u64 done, __u32 view)
{
	if (wanted_view(view, false, false))
		add(&totals.disarms, done >> PAGE_SHIFT);
	return 0;
}

SEC("raw_tp/codewp_overflow")
int BPF_PROG(on_overflow, __u64 dropped, __u32 view)
{
	if (wanted_view(view, false, false))
		add(&totals.overflows, 1);
	return 0;
}

/* ---- the translator ---------------------------------------------------- */

SEC("usdt")
int BPF_USDT(on_tb_translate, __u64 pc, __u64 page)
{
	__u32 tgid = current_tgid();
	struct page_stat *v;

	if (!wanted_process(tgid))
		return 0;
	add(&totals.translated, 1);
	v = get_page(SPACE_CODE, tgid, page);
	if (!v)
		return 0;
	add(&v->translated, 1);
	v->gva = pc >> PAGE_SHIFT << PAGE_SHIFT;
	return 0;
}

SEC("usdt")
int BPF_USDT(on_tb_invalidate, __u64 page, __u64 first, __u64 last, __u64 count,
	     __u64 writer_ip)
{
	__u32 tgid = current_tgid();
	struct page_stat *v;

	if (!wanted_process(tgid))
		return 0;
	add(&totals.invalidations, 1);
	add(&totals.invalidated, count);
	v = get_page(SPACE_CODE, tgid, page);
	if (!v)
		return 0;
	add(&v->invalidations, 1);
	add(&v->invalidated, count);
	written(v, writer_ip, HOW_OTHER);
	return 0;
}

SEC("usdt")
int BPF_USDT(on_guest_trap, __u64 page, __u64 offset, __u64 ip, __u64 how)
{
	__u32 tgid = current_tgid();
	struct page_stat *v;

	if (!wanted_process(tgid))
		return 0;
	if (how >= HOW_MAX)
		how = HOW_OTHER;
	add(&totals.handled[how], 1);
	v = get_page(SPACE_CODE, tgid, page);
	if (!v)
		return 0;
	add(&v->traps[how], 1);
	written(v, ip, how);
	return 0;
}

SEC("usdt")
int BPF_USDT(on_page_rung, __u64 page, __u64 rung)
{
	__u32 tgid = current_tgid();
	struct page_stat *v;

	if (!wanted_process(tgid) || rung >= RUNG_MAX)
		return 0;
	add(&totals.rungs[rung], 1);
	v = get_page(SPACE_CODE, tgid, page);
	if (v)
		add(&v->rungs[rung], 1);
	return 0;
}
