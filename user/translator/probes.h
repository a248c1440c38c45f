/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * USDT probes of the provider "codewp": a nop each until somebody attaches.
 * With them `codewp stat` counts without the module. Pages are code-map pages.
 *
 *	tb_translate(pc, page, guest_bytes, host_bytes)
 *	tb_invalidate(page, first, last, count, writer_ip)
 *	trap(page, offset, ip, how)
 *	page_rung(page, rung, pc)
 *
 * offset is the byte in the page, ip the guest's instruction; how is told as in
 * the module's tracepoint: 1 upcall, 2 signal, 3 event. page_rung: the page has come to
 * another rung of the ladder (Documentation/ladder.rst), and pc is why: 0 armed again,
 * the block that was calm; 1 restless, a block that was hit; 2 a hot store site; 3 a
 * stylized instruction.
 */
#ifndef CODEWP_PROBES_H
#define CODEWP_PROBES_H

/* Registers and constants only: libbpf reads no indexed or RIP-relative operand. */
#define STAP_SDT_ARG_CONSTRAINT nr
#include <sys/sdt.h>

#define PROBE_HOW_UPCALL	1
#define PROBE_HOW_SIGNAL	2
#define PROBE_HOW_EVENT		3

#define PROBE_RUNG_ARMED	0
#define PROBE_RUNG_RESTLESS	1
#define PROBE_RUNG_HOT		2
#define PROBE_RUNG_STYLIZED	3

#define probe_tb_translate(pc, page, guest, host)			\
	DTRACE_PROBE4(codewp, tb_translate, (uint64_t)(pc),		\
		      (uint64_t)(page), (uint64_t)(guest), (uint64_t)(host))
#define probe_tb_invalidate(page, first, last, count, ip)		\
	DTRACE_PROBE5(codewp, tb_invalidate, (uint64_t)(page),		\
		      (uint64_t)(first), (uint64_t)(last),		\
		      (uint64_t)(count), (uint64_t)(ip))
#define probe_trap(page, offset, ip, how)				\
	DTRACE_PROBE4(codewp, trap, (uint64_t)(page),			\
		      (uint64_t)(offset), (uint64_t)(ip), (uint64_t)(how))

#define probe_page_rung(page, rung, pc)					\
	DTRACE_PROBE3(codewp, page_rung, (uint64_t)(page),		\
		      (uint64_t)(rung), (uint64_t)(pc))

#endif /* CODEWP_PROBES_H */
