// SPDX-License-Identifier: GPL-2.0
/*
 * Which guest code modifies which guest code: KVM's tracepoint kvm_page_fault knows the
 * guest's instruction pointer, the module's codewp_trap knows the page of the view. A
 * vCPU's thread passes both, one after the other, in one fault.
 *
 * Owns the table of writers. No lock: see who.h. kvm_page_fault can only be had as a
 * classic tracepoint, since its arguments are structures of KVM's; such a program is
 * skipped while somebody on this CPU is inside a bpf() call. Then the trap is counted
 * with its rip unknown, and said so: nothing is lost but that.
 */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "who.h"

#define PAGE_SHIFT	12
#define PAGE_MASK	0xfffU
#define HOW_RECREATED	5		/* enum codewp_how in kmod/codewp.h */
#define HOW_GUEST	6
#define HOW_STOP	7

char LICENSE[] SEC("license") = "GPL";

/* Set before loading. */
const volatile __u32 target_tgid;	/* 0: everybody */
const volatile __u64 pidns_dev;
const volatile __u64 pidns_ino;

/* As the format file says; the tool has compared. */
struct page_fault_record {
	__u64 common;
	__u32 vcpu_id;
	__u32 pad;
	__u64 guest_rip;
	__u64 fault_address;
	__u64 error_code;
};

struct fault {
	__u64 rip;
	__u64 address;
	__u32 vcpu;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct who_key);
	__type(value, struct who_stat);
} writers SEC(".maps");

/* The fault that a vCPU's thread is in. Threads of long ago make room. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct fault);
} faults SEC(".maps");

struct who_totals totals;
__u32 counting;

static __always_inline void add(__u64 *counter, __u64 n)
{
	__sync_fetch_and_add(counter, n);
}

static __always_inline __u32 current_tgid(void)
{
	struct bpf_pidns_info ns = {};

	if (!bpf_get_ns_current_pid_tgid(pidns_dev, pidns_ino, &ns, sizeof(ns)))
		return ns.tgid;
	return target_tgid ? 0 : bpf_get_current_pid_tgid() >> 32;
}

SEC("tp/kvm/kvm_page_fault")
int on_page_fault(const struct page_fault_record *r)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct fault f = {
		.rip = r->guest_rip,
		.address = r->fault_address,
		.vcpu = r->vcpu_id,
	};

	if (counting)
		bpf_map_update_elem(&faults, &tid, &f, BPF_ANY);
	return 0;
}

static __always_inline struct who_stat *get_writer(const struct who_key *key)
{
	struct who_stat zero = { .first = PAGE_MASK };
	struct who_stat *v;
	int err = 0;	/* before 6.4 the upper half of the result is garbage */
	int i;

	v = bpf_map_lookup_elem(&writers, key);
	if (v)
		return v;
	/* An update may also fail since the table is busy just now. */
#pragma unroll
	for (i = 0; i < 4; i++) {
		err = bpf_map_update_elem(&writers, key, &zero, BPF_NOEXIST);
		v = bpf_map_lookup_elem(&writers, key);
		if (v)
			return v;
	}
	add(err == -7 /* E2BIG */ ? &totals.full : &totals.failed, 1);
	return NULL;
}

/* The extent grows only; of two that come at once both are in it. */
static __always_inline void extend(struct who_stat *v, __u32 byte)
{
	__u32 old;
	int i;

#pragma unroll
	for (i = 0; i < 4; i++) {
		old = v->first;
		if (byte >= old || __sync_val_compare_and_swap(&v->first, old, byte) == old)
			break;
	}
#pragma unroll
	for (i = 0; i < 4; i++) {
		old = v->last;
		if (byte <= old || __sync_val_compare_and_swap(&v->last, old, byte) == old)
			break;
	}
}

SEC("raw_tp/codewp_trap")
int BPF_PROG(on_trap, __u64 cookie, __u64 pgoff, __u64 offset, __u64 addr,
	     __u64 ip, __u32 view, __u32 how, __u32 tgid, __u32 pid, __u32 gen,
	     __u32 vcpu)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct who_key key = {};
	struct who_stat *v;
	struct fault *f;

	if (!counting || how == HOW_RECREATED)
		return 0;
	key.tgid = current_tgid();
	if (target_tgid && key.tgid != target_tgid)
		return 0;
	if (how != HOW_GUEST && how != HOW_STOP) {
		add(&totals.others, 1);
		return 0;
	}
	add(how == HOW_STOP ? &totals.stops : &totals.writes, 1);
	key.view = view;
	key.vcpu = vcpu;
	key.page = offset >> PAGE_SHIFT;
	f = bpf_map_lookup_elem(&faults, &tid);
	/* Of this fault? A page of the guest is one of the view: the byte is the same. */
	if (f && f->vcpu == vcpu && !((f->address ^ offset) & PAGE_MASK)) {
		key.rip = f->rip;
		key.known = 1;
		bpf_map_delete_elem(&faults, &tid);
	} else {
		add(&totals.unknown, 1);
	}
	v = get_writer(&key);
	if (!v)
		return 0;
	add(how == HOW_STOP ? &v->stops : &v->writes, 1);
	extend(v, offset & PAGE_MASK);
	return 0;
}
