// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The guest's instructions: where a block ends and goes on, and what a store writes.
 * The only file that knows Zydis. No state but the decoders, which are made once.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "internal.h"

static ZydisDecoder decoder16, decoder32, decoder64;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_decoders(void)
{
	ZydisDecoderInit(&decoder16, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16);
	ZydisDecoderInit(&decoder32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoder64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

static const ZydisDecoder *decoder(unsigned int bits)
{
	pthread_once(&once, make_decoders);
	return bits == 64 ? &decoder64 : bits == 32 ? &decoder32 : &decoder16;
}

static uint64_t cut(uint64_t value, unsigned int bits)
{
	return bits >= 64 ? value : value & ((1ULL << bits) - 1);
}

/* Behind these the vCPU may be elsewhere, or decode differently. */
static bool ends_block(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_LMSW:
	case ZYDIS_MNEMONIC_WRMSR:
	case ZYDIS_MNEMONIC_INVLPG:
	case ZYDIS_MNEMONIC_RSM:
		return true;
	case ZYDIS_MNEMONIC_MOV:
		return op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		       ZydisRegisterGetClass(op[0].reg.value) == ZYDIS_REGCLASS_CONTROL;
	default:
		break;
	}
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_RET:
		return true;
	default:
		return false;
	}
}

int vmm_decode(unsigned int bits, const uint8_t *bytes, size_t n, uint64_t pc,
	       struct vmm_insn *in)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZyanStatus status;

	status = ZydisDecoderDecodeFull(decoder(bits), bytes, n, &z, op);
	if (status == ZYDIS_STATUS_NO_MORE_DATA)
		return n >= ZYDIS_MAX_INSTRUCTION_LENGTH ? -EINVAL : -EAGAIN;
	if (!ZYAN_SUCCESS(status))
		return -EINVAL;
	memset(in, 0, sizeof(*in));
	in->len = z.length;
	switch (z.meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
		in->kind = INSN_COND;
		break;
	case ZYDIS_CATEGORY_UNCOND_BR:
		in->kind = INSN_JUMP;
		break;
	case ZYDIS_CATEGORY_CALL:
		in->kind = INSN_CALL;
		break;
	default:
		in->kind = ends_block(&z, op) ? INSN_END : INSN_PLAIN;
		return 0;
	}
	if (op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op[0].imm.is_relative) {
		in->direct = true;
		in->target = cut(pc + z.length + op[0].imm.value.s, z.operand_width);
	}
	return 0;
}

/* ---- what a store writes ---- */

static bool gpr(ZydisRegister reg, const struct kvm_regs *r, uint64_t *value)
{
	const uint64_t in_order[16] = {
		r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
		r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15,
	};

	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		*value = cut(in_order[ZydisRegisterGetId(reg)], ZydisRegisterGetWidth(
			ZYDIS_MACHINE_MODE_LONG_64, reg));
		return true;
	default:
		return false;	/* an index that is a vector: many addresses */
	}
}

static uint64_t segment_base(unsigned int bits, ZydisRegister seg,
			     const struct kvm_sregs *s)
{
	switch (seg) {
	case ZYDIS_REGISTER_FS:
		return s->fs.base;
	case ZYDIS_REGISTER_GS:
		return s->gs.base;
	default:
		break;
	}
	if (bits == 64)
		return 0;
	switch (seg) {
	case ZYDIS_REGISTER_ES:
		return s->es.base;
	case ZYDIS_REGISTER_CS:
		return s->cs.base;
	case ZYDIS_REGISTER_SS:
		return s->ss.base;
	default:
		return s->ds.base;
	}
}

/* A bit string's byte, an area's size: not in the operand. */
static bool is_unknown(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op)
{
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_XSAVE:
	case ZYDIS_CATEGORY_XSAVEOPT:
	case ZYDIS_CATEGORY_SCATTER:
	case ZYDIS_CATEGORY_AMX_TILE:
		return true;
	default:
		break;
	}
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTS:
		return op[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
	case ZYDIS_MNEMONIC_ENTER:
	case ZYDIS_MNEMONIC_CLZERO:
	case ZYDIS_MNEMONIC_MOVDIR64B:
		return true;
	default:
		return false;
	}
}

int vmm_decode_store(unsigned int bits, const uint8_t *bytes, size_t n,
		     const struct kvm_regs *r, const struct kvm_sregs *s,
		     struct vmm_piece piece[2])
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	int i, found = 0;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder(bits), bytes, n, &z, op)) ||
	    is_unknown(&z, op))
		return -ENOENT;
	for (i = 0; i < z.operand_count; i++) {
		const ZydisDecodedOperandMem *m = &op[i].mem;
		bool push = op[i].visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
			    (m->base == ZYDIS_REGISTER_SP || m->base == ZYDIS_REGISTER_ESP ||
			     m->base == ZYDIS_REGISTER_RSP);
		unsigned int width = push ? (bits == 64 ? 64 : s->ss.db ? 32 : 16) :
					    z.address_width;
		uint64_t at = 0, v = 0;

		if (op[i].type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    !(op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		if (m->type != ZYDIS_MEMOP_TYPE_MEM || !op[i].size || op[i].size % 8 ||
		    found == 2)
			return -ENOENT;
		if (m->disp.has_displacement)
			at = m->disp.value;
		if (m->base == ZYDIS_REGISTER_RIP || m->base == ZYDIS_REGISTER_EIP) {
			at += r->rip + z.length;
		} else if (m->base != ZYDIS_REGISTER_NONE) {
			if (!gpr(m->base, r, &v))
				return -ENOENT;
			at += v;
		}
		if (m->index != ZYDIS_REGISTER_NONE) {
			if (!gpr(m->index, r, &v))
				return -ENOENT;
			at += v * (m->scale ?: 1);
		}
		if (push)
			at -= op[i].size / 8;
		/* pop to memory forms its address after the pop */
		if (z.mnemonic == ZYDIS_MNEMONIC_POP && !push &&
		    (m->base == ZYDIS_REGISTER_ESP || m->base == ZYDIS_REGISTER_RSP))
			at += z.operand_width / 8;
		piece[found].addr = cut(at, width) + segment_base(bits, m->segment, s);
		if (bits != 64)
			piece[found].addr &= 0xffffffff;
		piece[found++].size = op[i].size / 8;
	}
	return found ?: -ENOENT;
}
