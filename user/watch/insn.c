// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Which bytes an instruction writes (insn.h), and the instruction anew with another
 * address (insn_rebase). Owns nothing; may be used by several threads and in signal
 * handlers.
 */
#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "insn.h"

#define FLAG_DF		0x400U

/* Standard format of XSAVE: where legacy and extended components are. */
#define XSAVE_XMM	160
#define XSAVE_BV	512
#define XCR0_X87	1U
#define XCR0_SSE	2U
#define XCR0_YMM	4U
#define XCR0_OPMASK	0x20U

static int gpr_of(ZydisRegister reg)
{
	ZydisRegister r;

	if (reg == ZYDIS_REGISTER_NONE)
		return -1;
	r = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
	if (r < ZYDIS_REGISTER_RAX || r > ZYDIS_REGISTER_R15)
		return -1;
	return r - ZYDIS_REGISTER_RAX;
}

static uint64_t cut(uint64_t v, unsigned int bits)
{
	return bits == 64 ? v : v & ((1ULL << bits) - 1);
}

/* A linear address: 64 bits only in 64-bit mode. */
static uint64_t linear(const struct insn_cpu *cpu, uint64_t base, uint64_t ea)
{
	return cut(base + ea, cpu->bits == 64 ? 64 : 32);
}

static uint64_t seg_base(const struct insn_cpu *cpu, ZydisRegister seg)
{
	if (seg < ZYDIS_REGISTER_ES || seg > ZYDIS_REGISTER_GS)
		return 0;
	return cpu->seg[seg - ZYDIS_REGISTER_ES];
}

static void add_range(struct insn_store *in, uint64_t addr, uint64_t len)
{
	struct insn_range *last = in->nr ? &in->range[in->nr - 1] : NULL;

	if (!len)
		return;
	if (last && last->addr + last->len == addr) {
		last->len += len;
		return;
	}
	if (in->nr == WATCH_RANGES) {		/* more than there can be: all between */
		last->len = addr + len - last->addr;
		return;
	}
	in->range[in->nr++] = (struct insn_range){ addr, len };
}

/* ---- the vector state ---------------------------------------------------- */

static void component(unsigned int i, uint32_t *offset, uint32_t *size)
{
	uint32_t c, d;

	__cpuid_count(0xd, i, *size, *offset, c, d);
}

static bool in_use(const struct insn_cpu *cpu, unsigned int bits)
{
	uint64_t bv;

	memcpy(&bv, cpu->xsave + XSAVE_BV, sizeof(bv));
	return (bv & bits) == bits;
}

/* Bytes [0, 64) of vector register n; what is not in use is zero. */
static void vector_reg(const struct insn_cpu *cpu, unsigned int n, uint8_t out[64])
{
	uint32_t off, size;

	memset(out, 0, 64);
	if (n >= 16) {
		if (in_use(cpu, 1U << 7)) {
			component(7, &off, &size);
			memcpy(out, cpu->xsave + off + 64 * (n - 16), 64);
		}
		return;
	}
	if (in_use(cpu, XCR0_SSE))
		memcpy(out, cpu->xsave + XSAVE_XMM + 16 * n, 16);
	if (in_use(cpu, XCR0_YMM)) {
		component(2, &off, &size);
		memcpy(out + 16, cpu->xsave + off + 16 * n, 16);
	}
	if (in_use(cpu, 1U << 6)) {
		component(6, &off, &size);
		memcpy(out + 32, cpu->xsave + off + 32 * n, 32);
	}
}

static uint64_t mask_reg(const struct insn_cpu *cpu, unsigned int n)
{
	uint32_t off, size;
	uint64_t k = 0;

	if (in_use(cpu, XCR0_OPMASK)) {
		component(5, &off, &size);
		memcpy(&k, cpu->xsave + off + 8 * n, sizeof(k));
	}
	return k;
}

/* The mm registers are the lower 8 bytes of the x87 stack, by position. */
static void mmx_reg(const struct insn_cpu *cpu, unsigned int n, uint8_t out[64])
{
	memset(out, 0, 64);
	/* MMX code has the top of the stack at 0: position and register agree. */
	if (in_use(cpu, XCR0_X87))
		memcpy(out, cpu->xsave + 32 + 16 * n, 8);
}

static bool vector_number(ZydisRegister reg, unsigned int *n)
{
	if (reg >= ZYDIS_REGISTER_XMM0 && reg <= ZYDIS_REGISTER_XMM31)
		*n = reg - ZYDIS_REGISTER_XMM0;
	else if (reg >= ZYDIS_REGISTER_YMM0 && reg <= ZYDIS_REGISTER_YMM31)
		*n = reg - ZYDIS_REGISTER_YMM0;
	else if (reg >= ZYDIS_REGISTER_ZMM0 && reg <= ZYDIS_REGISTER_ZMM31)
		*n = reg - ZYDIS_REGISTER_ZMM0;
	else
		return false;
	return true;
}

static void add_lanes(struct insn_store *in, const uint8_t *sign, unsigned int element,
		      unsigned int lanes)
{
	for (unsigned int i = 0; i < lanes; i++)
		if (sign[(i + 1) * element - 1] & 0x80)
			add_range(in, in->ea + i * element, element);
}

/* ---- xsave --------------------------------------------------------------- */

static uint64_t xcr0_here(void)
{
	uint32_t a, d;

	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return a | (uint64_t)d << 32;
}

/* The areas of the components that are asked for, saved or not. */
static void xsave_ranges(struct insn_store *in, const struct insn_cpu *cpu, bool compact)
{
	uint64_t want = (uint32_t)cpu->gpr[W_RAX] | cpu->gpr[W_RDX] << 32;
	uint32_t next = 576;

	want &= cpu->xcr0 ? cpu->xcr0 : xcr0_here();
	if (want & XCR0_X87)
		add_range(in, in->ea, 24);
	if (want & (XCR0_SSE | XCR0_YMM))
		add_range(in, in->ea + 24, 8);
	if (want & XCR0_X87)
		add_range(in, in->ea + 32, 128);
	if (want & XCR0_SSE)
		add_range(in, in->ea + XSAVE_XMM, 256);
	add_range(in, in->ea + XSAVE_BV, compact ? 16 : 8);
	in->span = 576;
	for (unsigned int i = 2; i < 63; i++) {
		uint32_t size, off, c, d;

		if (!(want >> i & 1))
			continue;
		__cpuid_count(0xd, i, size, off, c, d);
		if (compact) {
			if (c & 2)
				next = (next + 63) & ~63U;
			off = next;
			next += size;
		}
		add_range(in, in->ea + off, size);
	}
}

/* ---- kinds --------------------------------------------------------------- */

static uint64_t operand_address(const struct insn_store *in, const struct insn_cpu *cpu,
				const ZydisDecodedOperand *op)
{
	const ZydisDecodedOperandMem *m = &op->mem;
	uint64_t ea = m->disp.has_displacement ? m->disp.value : 0;
	int base = gpr_of(m->base);
	int index = m->type == ZYDIS_MEMOP_TYPE_VSIB ? -1 : gpr_of(m->index);

	if (m->base == ZYDIS_REGISTER_RIP || m->base == ZYDIS_REGISTER_EIP)
		ea += cpu->rip + in->z.length;
	if (base >= 0)
		ea += cut(cpu->gpr[base], in->z.address_width);
	if (index >= 0)
		ea += cut(cpu->gpr[index], in->z.address_width) * m->scale;
	/* pop to memory: the address is formed with the new %rsp. */
	if (base == W_RSP && in->z.mnemonic == ZYDIS_MNEMONIC_POP)
		ea += op->size / 8;
	return linear(cpu, seg_base(cpu, m->segment), cut(ea, in->z.address_width));
}

/* A bit string's byte depends on the bit's number, which is in a register. */
static int64_t bit_offset(const struct insn_store *in, const struct insn_cpu *cpu)
{
	const ZydisDecodedOperand *bit = &in->op[1];
	unsigned int width = in->z.operand_width;
	int64_t nr;
	int r;

	switch (in->z.mnemonic) {
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		break;
	default:
		return 0;
	}
	if (bit->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return 0;
	r = gpr_of(bit->reg.value);
	nr = r < 0 ? 0 : (int64_t)(cpu->gpr[r] << (64 - width)) >> (64 - width);
	return (nr >> (width == 64 ? 6 : width == 32 ? 5 : 4)) * (width / 8);
}

/* Elements chosen by a k register. */
static int masked(struct insn_store *in, const struct insn_cpu *cpu, unsigned int element,
		  unsigned int lanes, bool packed)
{
	unsigned int n = in->z.avx.mask.reg - ZYDIS_REGISTER_K0;
	uint64_t k;

	in->vector = true;
	if (!cpu->xsave)
		return -EAGAIN;
	k = mask_reg(cpu, n);
	if (lanes < 64)
		k &= (1ULL << lanes) - 1;
	if (packed) {
		add_range(in, in->ea, (uint64_t)__builtin_popcountll(k) * element);
		return 0;
	}
	for (unsigned int i = 0; i < lanes; i++)
		if (k >> i & 1)
			add_range(in, in->ea + i * element, element);
	return 0;
}

static int scatter(struct insn_store *in, const struct insn_cpu *cpu)
{
	const ZydisDecodedOperandMem *m = &in->op[in->mem].mem;
	const ZydisDecodedOperand *src = NULL;
	unsigned int n, element, lanes, width;
	uint8_t index[64];
	uint64_t k;

	in->kind = STORE_VSIB;
	in->span = 0;
	in->vector = true;
	for (int i = 0; i < in->z.operand_count_visible; i++)
		if (i != in->mem && in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    !(in->op[i].reg.value >= ZYDIS_REGISTER_K0 &&
		      in->op[i].reg.value <= ZYDIS_REGISTER_K7))
			src = &in->op[i];
	if (!src || !src->element_size || !vector_number(m->index, &n)) {
		in->kind = STORE_OTHER;
		return 0;
	}
	if (!cpu->xsave)
		return -EAGAIN;
	element = src->element_size / 8;
	switch (in->z.mnemonic) {		/* the index's width is in the name */
	case ZYDIS_MNEMONIC_VPSCATTERQD:
	case ZYDIS_MNEMONIC_VPSCATTERQQ:
	case ZYDIS_MNEMONIC_VSCATTERQPD:
	case ZYDIS_MNEMONIC_VSCATTERQPS:
		width = 8;
		break;
	default:
		width = 4;
	}
	lanes = in->z.avx.vector_length / 8 / (width > element ? width : element);
	vector_reg(cpu, n, index);
	k = in->z.avx.mask.reg == ZYDIS_REGISTER_NONE ? ~0ULL :
	    mask_reg(cpu, in->z.avx.mask.reg - ZYDIS_REGISTER_K0);
	for (unsigned int i = 0; i < lanes; i++) {
		int64_t at;
		int32_t at32;

		if (!(k >> i & 1))
			continue;
		if (width == 8) {
			memcpy(&at, index + 8 * i, 8);
		} else {
			memcpy(&at32, index + 4 * i, 4);
			at = at32;
		}
		add_range(in, linear(cpu, 0, in->ea + cut((uint64_t)at * m->scale,
							  in->z.address_width)), element);
	}
	return 0;
}

static bool compresses(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_VPCOMPRESSB:
	case ZYDIS_MNEMONIC_VPCOMPRESSW:
	case ZYDIS_MNEMONIC_VPCOMPRESSD:
	case ZYDIS_MNEMONIC_VPCOMPRESSQ:
	case ZYDIS_MNEMONIC_VCOMPRESSPS:
	case ZYDIS_MNEMONIC_VCOMPRESSPD:
		return true;
	default:
		return false;
	}
}

static int modrm_store(struct insn_store *in, const struct insn_cpu *cpu)
{
	const ZydisDecodedOperand *op = &in->op[in->mem];
	unsigned int element = op->element_size / 8, n;
	uint8_t mask[64];

	in->kind = STORE_MODRM;
	in->span = op->size / 8;
	if (op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
		return scatter(in, cpu);
	if (op->mem.type != ZYDIS_MEMOP_TYPE_MEM) {
		in->kind = STORE_OTHER;
		return 0;
	}
	switch (in->z.mnemonic) {
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
		xsave_ranges(in, cpu, false);
		return 0;
	case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEC64:
	case ZYDIS_MNEMONIC_XSAVES:
	case ZYDIS_MNEMONIC_XSAVES64:
		xsave_ranges(in, cpu, true);
		return 0;
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		add_range(in, in->ea, 464);	/* the rest is the program's own */
		return 0;
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
		in->vector = true;
		if (!vector_number(in->op[1].reg.value, &n))
			break;
		if (!cpu->xsave)
			return -EAGAIN;
		element = in->z.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPS ||
			  in->z.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVD ? 4 : 8;
		vector_reg(cpu, n, mask);
		add_lanes(in, mask, element, op->size / 8 / element);
		return 0;
	default:
		break;
	}
	if (!op->size || op->size % 8 || in->z.meta.category == ZYDIS_CATEGORY_AMX_TILE) {
		in->kind = STORE_OTHER;
		return 0;
	}
	if (in->z.avx.mask.reg > ZYDIS_REGISTER_K0 && in->z.avx.mask.reg <= ZYDIS_REGISTER_K7) {
		if (!element || op->size / 8 / element > 64) {
			in->kind = STORE_OTHER;
			return 0;
		}
		return masked(in, cpu, element, op->size / 8 / element,
			      compresses(in->z.mnemonic));
	}
	add_range(in, linear(cpu, 0, in->ea + bit_offset(in, cpu)), op->size / 8);
	return 0;
}

/* stos and movs; ins is the operating system's. */
static void string_store(struct insn_store *in, const struct insn_cpu *cpu)
{
	unsigned int width = in->z.address_width;
	uint64_t count = 1, room, start;

	in->kind = STORE_STRING;
	in->ea = linear(cpu, cpu->seg[0], cut(cpu->gpr[W_RDI], width));
	in->element = in->op[in->mem].size / 8;
	in->rep = in->z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
				      ZYDIS_ATTRIB_HAS_REPNE);
	in->down = cpu->rflags & FLAG_DF;
	if (in->rep)
		count = cut(cpu->gpr[W_RCX], width);
	if (!count)
		return;
	/* Elements up to the end of the page, and the one that crosses it. */
	start = in->ea;
	if (in->rep && cpu->page) {
		uint64_t page = cpu->page & ~4095ULL;

		if (start + in->element <= page || start >= page + 4096)
			room = 1;		/* the trap is not this store's */
		else if (in->down)
			room = start >= page ? (start - page) / in->element + 1 : 1;
		else
			room = (page + 4096 - start + in->element - 1) / in->element;
		if (count > room)
			count = room;
	}
	in->count = count;
	if (in->down)
		start -= (count - 1) * in->element;
	add_range(in, linear(cpu, 0, start), count * in->element);
}

static void push_store(struct insn_store *in, const struct insn_cpu *cpu)
{
	const ZydisDecodedOperand *op = &in->op[0];
	unsigned int size = in->z.operand_width / 8;
	uint64_t sp;

	in->kind = STORE_PUSH;
	in->push_size = size;
	if (in->z.meta.category == ZYDIS_CATEGORY_CALL) {
		uint64_t next = cpu->rip + in->z.length;

		if (in->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
			in->kind = STORE_OTHER;
			return;
		}
		in->call = true;
		if (cpu->bits == 64)
			size = 8;
		in->push_size = size;
		in->push_value = next;
		if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			in->call_to = next + op->imm.value.s;
		else if (op->type == ZYDIS_OPERAND_TYPE_REGISTER)
			in->call_to = cpu->gpr[gpr_of(op->reg.value)];
		else
			in->push_mem = true;
	} else {
		switch (in->z.mnemonic) {
		case ZYDIS_MNEMONIC_PUSH:
			break;
		case ZYDIS_MNEMONIC_PUSHF:
		case ZYDIS_MNEMONIC_PUSHFD:
		case ZYDIS_MNEMONIC_PUSHFQ:
			in->push_value = cpu->rflags & ~0x30000ULL;	/* no RF, VM */
			break;
		default:	/* enter, pusha, ... */
			in->kind = STORE_OTHER;
			return;
		}
		if (in->z.mnemonic == ZYDIS_MNEMONIC_PUSH) {
			if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
				in->push_value = op->imm.value.s;
			else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY)
				in->push_mem = true;
			else if (gpr_of(op->reg.value) >= 0)
				in->push_value = cpu->gpr[gpr_of(op->reg.value)];
			else
				in->kind = STORE_OTHER;	/* a selector */
		}
	}
	if (in->push_mem)
		in->push_from = operand_address(in, cpu, op);
	sp = cpu->gpr[W_RSP] - size;
	if (cpu->bits != 64)
		sp = cut(sp, cpu->stack16 ? 16 : 32);
	in->ea = linear(cpu, cpu->seg[2], sp);
	add_range(in, in->ea, size);
}

static void note_reg(struct insn_store *in, ZydisRegister reg)
{
	int r = gpr_of(reg);

	if (r >= 0)
		in->regs |= 1U << r;
}

/* Which memory operand is written; the general registers in use. */
static bool find_write(struct insn_store *in)
{
	in->mem = -1;
	for (int i = 0; i < in->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &in->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			note_reg(in, op->reg.value);
			continue;
		}
		if (op->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM) {
			note_reg(in, op->mem.base);
			note_reg(in, op->mem.index);
		}
		if ((op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    op->mem.type != ZYDIS_MEMOP_TYPE_AGEN && in->mem < 0)
			in->mem = i;
	}
	return in->mem >= 0;
}

static int classify(struct insn_store *in, const struct insn_cpu *cpu)
{
	ZydisRegister base;
	uint8_t mask[64];
	unsigned int n;

	if (in->z.mnemonic == ZYDIS_MNEMONIC_CLZERO) {	/* Zydis has no operand for it */
		in->kind = STORE_AX;
		in->ea = cut(cpu->gpr[W_RAX], in->z.address_width) & ~63ULL;
		for (int i = 0; i < in->z.raw.prefix_count; i++)
			if (in->z.raw.prefixes[i].value == 0x64 ||
			    in->z.raw.prefixes[i].value == 0x65)
				in->kind = STORE_OTHER;
		add_range(in, in->ea, 64);
		return 0;
	}
	if (!find_write(in))
		return 0;
	base = in->op[in->mem].mem.base;
	switch (in->z.meta.category) {
	case ZYDIS_CATEGORY_PUSH:
	case ZYDIS_CATEGORY_CALL:
		push_store(in, cpu);
		return 0;
	case ZYDIS_CATEGORY_STRINGOP:
		string_store(in, cpu);
		return 0;
	default:
		break;
	}
	switch (in->z.mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		in->kind = STORE_DI;
		in->span = in->op[in->mem].size / 8;
		in->vector = true;
		if (!cpu->xsave)
			return -EAGAIN;
		in->ea = linear(cpu, seg_base(cpu, in->op[in->mem].mem.segment),
				cut(cpu->gpr[W_RDI], in->z.address_width));
		for (int i = 0; i < in->z.operand_count; i++) {
			const ZydisDecodedOperand *op = &in->op[i];

			/* The second register of the ModRM byte is the mask. */
			if (op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM ||
			    op->type != ZYDIS_OPERAND_TYPE_REGISTER)
				continue;
			if (vector_number(op->reg.value, &n)) {
				vector_reg(cpu, n, mask);
				add_lanes(in, mask, 1, 16);
			} else {
				mmx_reg(cpu, op->reg.value - ZYDIS_REGISTER_MM0, mask);
				add_lanes(in, mask, 1, 8);
			}
		}
		return 0;
	default:
		break;
	}
	if (in->op[in->mem].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
		in->ea = operand_address(in, cpu, &in->op[in->mem]);
		return modrm_store(in, cpu);
	}
	/* mov to an absolute address: an operand, but no ModRM byte. */
	if (in->z.mnemonic == ZYDIS_MNEMONIC_MOV && base == ZYDIS_REGISTER_NONE) {
		in->ea = operand_address(in, cpu, &in->op[in->mem]);
		in->kind = STORE_MODRM;
		add_range(in, in->ea, in->op[in->mem].size / 8);
		return 0;
	}
	in->kind = STORE_OTHER;
	return 0;
}

int insn_store(struct insn_store *in, const struct insn_cpu *cpu, const uint8_t *bytes,
	       size_t n)
{
	ZydisDecoder d;

	memset(in, 0, offsetof(struct insn_store, range));
	switch (cpu->bits) {
	case 64:
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
		break;
	case 32:
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LEGACY_32,
				 cpu->stack16 ? ZYDIS_STACK_WIDTH_16 : ZYDIS_STACK_WIDTH_32);
		break;
	default:
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LEGACY_16,
				 cpu->stack16 ? ZYDIS_STACK_WIDTH_16 : ZYDIS_STACK_WIDTH_32);
		break;
	}
	if (n > WATCH_INSN_MAX)
		n = WATCH_INSN_MAX;
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, bytes, n, &in->z, in->op)))
		return -EILSEQ;
	memcpy(in->bytes, bytes, in->z.length);
	return classify(in, cpu);
}

void insn_hull(const struct insn_store *in, uint64_t *start, uint64_t *end)
{
	*start = UINT64_MAX;
	*end = 0;
	for (unsigned int i = 0; i < in->nr; i++) {
		if (in->range[i].addr < *start)
			*start = in->range[i].addr;
		if (in->range[i].addr + in->range[i].len > *end)
			*end = in->range[i].addr + in->range[i].len;
	}
}

int insn_free_reg(const struct insn_store *in)
{
	/* %rsp wants a SIB byte, %rbp a displacement, the upper eight a REX prefix. */
	static const uint8_t order[] = { W_RAX, W_RCX, W_RDX, W_RBX, W_RSI, W_RDI };

	for (size_t i = 0; i < sizeof(order); i++)
		if (!(in->regs & (1U << order[i])))
			return order[i];
	return -1;
}

static bool is_prefix(uint8_t b)
{
	switch (b) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
	case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
		return true;
	default:
		return false;
	}
}

size_t insn_rebase(const struct insn_store *in, int reg, uint8_t *out)
{
	bool vsib = in->kind == STORE_VSIB;
	unsigned int modrm = in->z.raw.modrm.offset, rest, i = 0;
	const uint8_t *b = in->bytes;
	size_t n = 0;

	if (!modrm) {			/* mov of %rax to an absolute address */
		unsigned int width = in->op[in->mem].size;

		if (width == 16)
			out[n++] = 0x66;
		if (width == 64)
			out[n++] = 0x48;
		out[n++] = width == 8 ? 0x88 : 0x89;
		out[n++] = reg;
		return n;
	}
	/*
	 * The address is complete: no segment, no address size. A REX prefix counts
	 * only just before the opcode; its B and X bits belong to base and index.
	 */
	for (; is_prefix(b[i]) || (b[i] & 0xf0) == 0x40; i++) {
		if ((b[i] & 0xf0) == 0x40) {
			if (is_prefix(b[i + 1]) || (b[i + 1] & 0xf0) == 0x40)
				continue;
			out[n++] = b[i++] & ~3;
			break;
		}
		if (b[i] == 0x66 || b[i] == 0xf0 || b[i] == 0xf2 || b[i] == 0xf3)
			out[n++] = b[i];
	}
	switch (in->z.encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		out[n++] = b[i];
		if (b[i++] == 0xc4)
			out[n++] = b[i++] | (vsib ? 0x20 : 0x60);	/* inverted here */
		break;
	case ZYDIS_INSTRUCTION_ENCODING_XOP:
	case ZYDIS_INSTRUCTION_ENCODING_EVEX:
		out[n++] = b[i++];
		out[n++] = b[i++] | (vsib ? 0x20 : 0x60);
		break;
	default:
		break;
	}
	while (i < modrm)
		out[n++] = b[i++];

	rest = modrm + 1 + (in->z.raw.modrm.rm == 4) + in->z.raw.disp.size / 8;
	if (vsib) {
		out[n++] = (b[modrm] & 0x38) | 4;
		out[n++] = (b[modrm + 1] & 0xf8) | reg;
	} else {
		out[n++] = (b[modrm] & 0x38) | reg;
	}
	while (rest < in->z.length)
		out[n++] = b[rest++];
	return n;
}
