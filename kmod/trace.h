/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints. Fields have fixed sizes, the 64-bit ones come first, and their
 * order does not change: eBPF programs read them by offset.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM codewp

#if !defined(CODEWP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define CODEWP_TRACE_H

#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(codewp_range,
	TP_PROTO(u64 offset, u64 length, u64 done, u32 view, u32 flags),
	TP_ARGS(offset, length, done, view, flags),
	TP_STRUCT__entry(
		__field(u64, offset)
		__field(u64, length)
		__field(u64, done)
		__field(u32, view)
		__field(u32, flags)
	),
	TP_fast_assign(
		__entry->offset = offset;
		__entry->length = length;
		__entry->done = done;
		__entry->view = view;
		__entry->flags = flags;
	),
	TP_printk("view=%u offset=0x%llx length=0x%llx flags=0x%x done=0x%llx",
		  __entry->view, __entry->offset, __entry->length,
		  __entry->flags, __entry->done)
);

DEFINE_EVENT(codewp_range, codewp_arm,
	TP_PROTO(u64 offset, u64 length, u64 done, u32 view, u32 flags),
	TP_ARGS(offset, length, done, view, flags)
);

DEFINE_EVENT(codewp_range, codewp_disarm,
	TP_PROTO(u64 offset, u64 length, u64 done, u32 view, u32 flags),
	TP_ARGS(offset, length, done, view, flags)
);

TRACE_EVENT(codewp_trap,
	TP_PROTO(u64 cookie, u64 pgoff, u64 offset, u64 addr, u64 ip, u32 view,
		 u32 how, u32 tgid, u32 pid, u32 gen, u32 vcpu),
	TP_ARGS(cookie, pgoff, offset, addr, ip, view, how, tgid, pid, gen, vcpu),
	TP_STRUCT__entry(
		__field(u64, cookie)
		__field(u64, pgoff)
		__field(u64, offset)
		__field(u64, addr)
		__field(u64, ip)
		__field(u32, view)
		__field(u32, how)
		__field(u32, tgid)
		__field(u32, pid)
		__field(u32, gen)
		__field(u32, vcpu)
	),
	TP_fast_assign(
		__entry->cookie = cookie;
		__entry->pgoff = pgoff;
		__entry->offset = offset;
		__entry->addr = addr;
		__entry->ip = ip;
		__entry->view = view;
		__entry->how = how;
		__entry->tgid = tgid;
		__entry->pid = pid;
		__entry->gen = gen;
		__entry->vcpu = vcpu;
	),
	TP_printk("view=%u cookie=0x%llx pgoff=0x%llx offset=0x%llx addr=0x%llx ip=0x%llx how=%s tgid=%u pid=%u gen=%u vcpu=%d",
		  __entry->view, __entry->cookie, __entry->pgoff,
		  __entry->offset, __entry->addr, __entry->ip,
		  __print_symbolic(__entry->how, { 1, "upcall" }, { 2, "signal" },
				   { 3, "ring" }, { 4, "kernel" },
				   { 5, "recreated" }, { 6, "guest" },
				   { 7, "stop" }),
		  __entry->tgid, __entry->pid, __entry->gen, (s32)__entry->vcpu)
);

TRACE_EVENT(codewp_overflow,
	TP_PROTO(u64 dropped, u32 view),
	TP_ARGS(dropped, view),
	TP_STRUCT__entry(
		__field(u64, dropped)
		__field(u32, view)
	),
	TP_fast_assign(
		__entry->dropped = dropped;
		__entry->view = view;
	),
	TP_printk("view=%u dropped=%llu", __entry->view, __entry->dropped)
);

TRACE_EVENT(codewp_view,
	TP_PROTO(u64 length, u32 view, u32 create),
	TP_ARGS(length, view, create),
	TP_STRUCT__entry(
		__field(u64, length)
		__field(u32, view)
		__field(u32, create)
	),
	TP_fast_assign(
		__entry->length = length;
		__entry->view = view;
		__entry->create = create;
	),
	TP_printk("view=%u %s length=0x%llx", __entry->view,
		  __entry->create ? "create" : "destroy", __entry->length)
);

TRACE_EVENT(codewp_thread,
	TP_PROTO(u32 tid, u32 tgid, u32 create),
	TP_ARGS(tid, tgid, create),
	TP_STRUCT__entry(
		__field(u32, tid)
		__field(u32, tgid)
		__field(u32, create)
	),
	TP_fast_assign(
		__entry->tid = tid;
		__entry->tgid = tgid;
		__entry->create = create;
	),
	TP_printk("tid=%u tgid=%u %s", __entry->tid, __entry->tgid,
		  __entry->create ? "register" : "unregister")
);

#endif /* CODEWP_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
