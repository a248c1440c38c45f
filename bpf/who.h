/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What who.bpf.c and the tool (user/tools/who.c) share: who wrote what in guests.
 * Counters are only ever changed by an atomic add; an entry is made by whoever comes
 * first and never removed.
 */
#ifndef CODEWP_BPF_WHO_H
#define CODEWP_BPF_WHO_H

#include <linux/types.h>

/*
 * struct who_key - one guest instruction, one page that it wrote
 * @rip: the guest's; with @known 0 it is 0
 * @page: of the view
 * @view: number
 * @vcpu: as KVM_CREATE_VCPU numbered it
 * @tgid: the VMM
 * @known: the guest's rip was seen
 */
struct who_key {
	__u64 rip;
	__u64 page;
	__u32 view;
	__u32 vcpu;
	__u32 tgid;
	__u32 known;
};

/*
 * struct who_stat - what it did
 * @writes: stores that went through, and opened the page
 * @stops: stores that were stopped before they were done
 * @first: lowest byte of the page that one began at
 * @last: highest
 */
struct who_stat {
	__u64 writes;
	__u64 stops;
	__u32 first;
	__u32 last;
};

struct who_totals {
	__u64 writes;
	__u64 stops;
	__u64 unknown;	/* of both: no rip */
	__u64 others;	/* writes to views that were not a guest's store */
	__u64 full;	/* of writes and stops: no room in the table */
	__u64 failed;	/* the same, for another reason */
};

#endif /* CODEWP_BPF_WHO_H */
