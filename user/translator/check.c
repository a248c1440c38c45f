// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The entry check of TBs whose memory is in no view: the block's source bytes
 * are compared with what it was made of. Flags, stack and all registers but two
 * stay as they are: a difference is formed with lea and looked at with jrcxz.
 */
#include "core.h"

/* %rax = 8, 4, 2 or 1 bytes at gva, zero extended; %rcx may be used */
static void load_guest(struct emit *e, uint64_t gva, size_t n)
{
	static const uint8_t mov32[] = { 0x8b, 0x01 };
	static const uint8_t movzw[] = { 0x0f, 0xb7, 0x01 };
	static const uint8_t movzb[] = { 0x0f, 0xb6, 0x01 };
	static const uint8_t mov64[] = { 0x48, 0x8b, 0x01 };

	emit_mov_imm(e, RCX, gva);
	switch (n) {
	case 8:
		emit_bytes(e, mov64, sizeof(mov64));
		break;
	case 4:
		emit_bytes(e, mov32, sizeof(mov32));
		break;
	case 2:
		emit_bytes(e, movzw, sizeof(movzw));
		break;
	default:
		emit_bytes(e, movzb, sizeof(movzb));
		break;
	}
}

void emit_check(struct emit *e, uint64_t gva, const uint8_t *src, size_t n,
		uint8_t **fails, unsigned int *nr_fails)
{
	size_t i, off = 0;

	emit_gs_store(e, RAX, CPU_SCR(SCR_ADDR));
	emit_gs_store(e, RCX, CPU_SCR(SCR_ADDR2));
	while (off < n) {
		size_t step = n - off >= 8 ? 8 : n - off >= 4 ? 4 : n - off >= 2 ? 2 : 1;
		uint64_t want = 0;

		for (i = 0; i < step; i++)
			want |= (uint64_t)src[off + i] << (8 * i);
		load_guest(e, gva + off, step);
		emit_mov_imm(e, RCX, -want);
		emit_lea_sum(e, RCX, RAX, RCX);
		emit_u8(e, 0xe3);		/* jrcxz over the jmp */
		emit_u8(e, 5);
		fails[(*nr_fails)++] = emit_jmp(e, NULL);
		off += step;
	}
	emit_gs_load(e, RCX, CPU_SCR(SCR_ADDR2));
	emit_gs_load(e, RAX, CPU_SCR(SCR_ADDR));
}
