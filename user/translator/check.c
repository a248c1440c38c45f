// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The entry check of TBs whose page is not armed for them: the block's source bytes
 * are compared with what it was made of. Flags, stack and all registers but two
 * stay as they are: a difference is formed with lea and looked at with jrcxz.
 */
#include "core.h"

/* With the alignment check on (AC) these loads may fault, where fetching does not. */
bool check_aligned;

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

/* %rax and %rcx may be used. */
static uint8_t *emit_count(struct emit *e, const int32_t *runs)
{
	static const uint8_t count[] = {
		0x8b, 0x08,			/* mov (%rax), %ecx */
		0x8d, 0x49, 0xff,		/* lea -1(%rcx), %ecx */
		0x89, 0x08,			/* mov %ecx, (%rax) */
		0xe3, 0x02,			/* jrcxz over the jmp */
		0xeb, 0x05,			/* jmp over the next */
	};

	emit_lea_rip(e, RAX, runs);
	emit_bytes(e, count, sizeof(count));
	return emit_jmp(e, NULL);
}

uint8_t *emit_check(struct emit *e, uint64_t gva, const uint8_t *src, size_t n,
		    uint8_t **fails, unsigned int *nr_fails, const int32_t *runs)
{
	uint8_t *calm = NULL;
	size_t i, off = 0;

	emit_gs_store(e, RAX, CPU_SCR(SCR_ADDR));
	emit_gs_store(e, RCX, CPU_SCR(SCR_ADDR2));
	while (off < n) {
		size_t step = 8;
		uint64_t want = 0;

		while (step > n - off || (check_aligned && (gva + off) % step))
			step /= 2;
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
	if (runs)
		calm = emit_count(e, runs);
	emit_gs_load(e, RCX, CPU_SCR(SCR_ADDR2));
	emit_gs_load(e, RAX, CPU_SCR(SCR_ADDR));
	return calm;
}
