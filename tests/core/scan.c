// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * scan() against decode(), that is, against Zydis: whatever the fast way accepts,
 * the other one sees in the same way; and it accepts what programs are made of.
 */
#include "decode.h"
#include "test.h"

static uint64_t seed = 0x9e3779b97f4a7c15UL;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}

static unsigned long looked, accepted;

static const char *text(const uint8_t *b, unsigned int n)
{
	static char s[64];
	int len = 0;

	for (unsigned int i = 0; i < n; i++)
		len += snprintf(s + len, sizeof(s) - len, "%02x ", b[i]);
	return s;
}

#define SAME(field) do {						\
	if (a.field != b.field)						\
		TEST_FAIL("%s: " #field " %ld, Zydis: %ld", text(bytes, INSN_MAX),\
			  (long)a.field, (long)b.field);		\
} while (0)

static bool compare(const uint8_t *bytes)
{
	static struct insn b;
	struct insn a = { .len = 0 };
	enum decode_result r;
	uint64_t pc = 0x7ffff7dd0123UL;

	looked++;
	if (!scan(bytes, INSN_MAX, pc, &a))
		return false;
	accepted++;
	r = decode(bytes, INSN_MAX, pc, &b);
	if (r != DECODE_OK)
		TEST_FAIL("%s: accepted, Zydis: %d", text(bytes, INSN_MAX), (int)r);
	SAME(kind);
	SAME(len);
	SAME(pc);
	SAME(bytes);
	SAME(writes);
	SAME(target);
	SAME(ret_pop);
	if (a.kind == INSN_JCC)
		SAME(cond);
	if (a.kind == INSN_LEA_RIP)
		SAME(reg);
	if (a.kind == INSN_RIPREL || a.kind == INSN_LEA_RIP) {
		SAME(modrm);
		SAME(encoding);
		SAME(addr32);
		if (b.regs & ~a.regs || decode_free_reg(&a, 0) < 0)
			TEST_FAIL("%s: registers %x, Zydis: %x", text(bytes, INSN_MAX),
				  a.regs, b.regs);
	}
	return true;
}

static void fill(uint8_t *p, uint8_t *end)
{
	while (p < end)
		*p++ = rnd();
}

/* opcode 0..511: of the second map from 256 on */
static uint8_t *put_opcode(uint8_t *p, unsigned int opcode)
{
	if (opcode > 255)
		*p++ = 0x0f;
	*p++ = opcode;
	return p;
}

/* Every set of prefixes, opcode and ModRM byte; REX and what follows at random. */
TEST_LONG(every_prefix, 120)
{
	static const uint8_t prefix[] = { 0x66, 0xf2, 0xf3, 0x2e, 0x64, 0x65, 0x67, 0xf0 };

	decode_init();
	for (unsigned int set = 0; set < 256; set++)
		for (unsigned int opcode = 0; opcode < 512; opcode++)
			for (unsigned int modrm = 0; modrm < 256; modrm++) {
				uint8_t bytes[2 * INSN_MAX], *p = bytes;

				for (unsigned int i = 0; i < 8; i++)
					if (set >> i & 1)
						*p++ = prefix[i];
				if (rnd() & 1)
					*p++ = 0x40 | (rnd() & 15);
				p = put_opcode(p, opcode);
				*p++ = modrm;
				fill(p, bytes + sizeof(bytes));
				compare(bytes);
			}
	printf("# %lu of %lu accepted\n", accepted, looked);
	ASSERT_GE(accepted, 250000UL);
}

/* Every REX, opcode and ModRM byte, with the prefixes that tell opcodes apart. */
TEST_LONG(every_rex, 120)
{
	static const uint8_t prefix[] = { 0, 0x66, 0xf3, 0xf2 };

	decode_init();
	for (unsigned int pre = 0; pre < 4; pre++)
		for (unsigned int rex = 0x3f; rex < 0x50; rex++)
			for (unsigned int opcode = 0; opcode < 512; opcode++)
				for (unsigned int modrm = 0; modrm < 256; modrm++) {
					uint8_t bytes[2 * INSN_MAX], *p = bytes;

					if (pre)
						*p++ = prefix[pre];
					if (rex >= 0x40)
						*p++ = rex;
					p = put_opcode(p, opcode);
					*p++ = modrm;
					fill(p, bytes + sizeof(bytes));
					compare(bytes);
				}
	printf("# %lu of %lu accepted\n", accepted, looked);
	ASSERT_GE(accepted, 1000000UL);
}

/* Every ModRM and SIB byte: a load, a store, a group with an immediate operand. */
TEST(every_sib)
{
	static const unsigned int opcode[] = { 0x8b, 0x89, 0x81, 0xf7, 0xff, 0x8d, 0x110, 0x1ba };

	decode_init();
	for (unsigned int op = 0; op < sizeof(opcode) / sizeof(opcode[0]); op++)
		for (unsigned int rex = 0x3f; rex < 0x50; rex++)
			for (unsigned int both = 0; both < 65536; both += 1 + rnd() % 3) {
				uint8_t bytes[2 * INSN_MAX], *p = bytes;

				if (rex >= 0x40)
					*p++ = rex;
				p = put_opcode(p, opcode[op]);
				*p++ = both >> 8;
				*p++ = both;
				fill(p, bytes + sizeof(bytes));
				compare(bytes);
			}
	ASSERT_GE(accepted, 1000000UL);
}

/* Any bytes at all, and any order and number of prefixes before them. */
TEST_LONG(any_bytes, 60)
{
	static const uint8_t likely[] = { 0x66, 0x66, 0x2e, 0x64, 0xf2, 0xf3, 0x48, 0x41, 0x0f };

	decode_init();
	for (unsigned int i = 0; i < 3000000; i++) {
		uint8_t bytes[2 * INSN_MAX];
		unsigned int n = rnd() % 5;

		fill(bytes, bytes + sizeof(bytes));
		for (unsigned int k = 0; k < n; k++)
			bytes[k] = likely[rnd() % sizeof(likely)];
		compare(bytes);
	}
	ASSERT_GE(accepted, 500000UL);
}

/* What does not end within the bytes that are the guest's is not accepted. */
TEST(cut_off)
{
	struct insn in;

	decode_init();
	for (unsigned int i = 0; i < 1000000; i++) {
		uint8_t bytes[2 * INSN_MAX];

		fill(bytes, bytes + sizeof(bytes));
		if (!scan(bytes, INSN_MAX, 0, &in))
			continue;
		for (unsigned int n = 0, len = in.len; n <= len; n++)
			if (scan(bytes, n, 0, &in) != (n == len))
				TEST_FAIL("%s: with %u of %u bytes", text(bytes, INSN_MAX), n, len);
		accepted++;
	}
	ASSERT_GE(accepted, 100000UL);
}

/* The first instructions of ordinary programs. */
TEST(accepts)
{
	static const struct {
		uint8_t len, bytes[INSN_MAX];
	} usual[] = {
		{ 3, { 0x48, 0x89, 0xe5 } },			/* mov %rsp, %rbp */
		{ 5, { 0x48, 0x8b, 0x44, 0x24, 0x08 } },	/* mov 8(%rsp), %rax */
		{ 9, { 0x64, 0x48, 0x8b, 0x04, 0x25, 0x28 } },	/* mov %fs:40, %rax */
		{ 4, { 0x48, 0x83, 0xec, 0x18 } },		/* sub $24, %rsp */
		{ 2, { 0x41, 0x57 } },				/* push %r15 */
		{ 2, { 0x85, 0xc0 } },				/* test %eax, %eax */
		{ 5, { 0xe8, 0x10 } },				/* call */
		{ 1, { 0xc3 } },				/* ret */
		{ 2, { 0x74, 0xfe } },				/* je */
		{ 6, { 0x0f, 0x85, 0x10 } },			/* jne */
		{ 10, { 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8 } },	/* mov $.., %rax */
		{ 4, { 0x0f, 0x11, 0x04, 0x24 } },		/* movups %xmm0, (%rsp) */
		{ 4, { 0xf2, 0x0f, 0x58, 0xc1 } },		/* addsd %xmm1, %xmm0 */
		{ 5, { 0xf3, 0x0f, 0x7e, 0x04, 0x24 } },	/* movq (%rsp), %xmm0 */
		{ 9, { 0x66, 0x0f, 0x1f, 0x84 } },		/* nopw */
		{ 10, { 0x66, 0x2e, 0x0f, 0x1f, 0x84 } },	/* cs nopw */
		{ 4, { 0xf3, 0x0f, 0x1e, 0xfa } },		/* endbr64 */
		{ 7, { 0x48, 0x8d, 0x3d, 0x10 } },		/* lea 16(%rip), %rdi */
		{ 7, { 0x48, 0x8b, 0x05, 0x10 } },		/* mov 16(%rip), %rax */
		{ 3, { 0xf3, 0x48, 0xab } },			/* rep stos */
	};

	decode_init();
	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
		struct insn in;

		if (!compare(usual[i].bytes))
			TEST_FAIL("%s: not accepted", text(usual[i].bytes, usual[i].len));
		scan(usual[i].bytes, usual[i].len, 0, &in);
		ASSERT_EQ((unsigned int)in.len, (unsigned int)usual[i].len);
	}
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
