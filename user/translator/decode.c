// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Decoding: Zydis' view of an instruction turned into the few questions that the
 * translator has: does it change control flow, does it name %rip or %gs, which
 * registers does it use, what does it write? No state besides the decoder's
 * constant tables, no lock, no libc. Anything whose copy would not do for the
 * guest what it does on the CPU is classified here, and what is not understood
 * is INSN_UNSUPPORTED with a reason, never copied.
 */
#include <cpuid.h>
#include <signal.h>
#include <sys/auxv.h>

#include "decode.h"

static ZydisDecoder decoder;
static bool have_fsgsbase;
static bool is_amd;		/* or Hygon: where the makers differ */
static bool behind;

/*
 * Instructions that came after some decoders: CPUID leaf 7, subleaf 1, and an
 * example of each. If the CPU has it and the decoder does not know it, then a byte
 * string without meaning may be an instruction.
 */
static const struct {
	bool edx;
	uint8_t bit, len, bytes[INSN_MAX];
} newer[] = {
	{ false, 0, 5, { 0xc4, 0xe2, 0x7f, 0xcc, 0xc1 } },	/* SHA512: vsha512msg1 */
	{ false, 1, 5, { 0xc4, 0xe2, 0x70, 0xda, 0xc2 } },	/* SM3: vsm3msg1 */
	{ false, 2, 5, { 0xc4, 0xe2, 0x72, 0xda, 0xc2 } },	/* SM4: vsm4key4 */
	{ false, 3, 4, { 0x0f, 0x38, 0xfc, 0x08 } },		/* RAO-INT: aadd */
	{ false, 7, 5, { 0xc4, 0xe2, 0x71, 0xe0, 0x00 } },	/* CMPCCXADD */
	{ false, 23, 5, { 0xc4, 0xe2, 0xf1, 0xb4, 0xc2 } },	/* AVX-IFMA: vpmadd52luq */
	{ true, 4, 5, { 0xc4, 0xe2, 0x73, 0x50, 0xc2 } },	/* AVX-VNNI-INT8: vpdpbssd */
	{ true, 5, 5, { 0xc4, 0xe2, 0x7a, 0xb1, 0x00 } },	/* AVX-NE-CONVERT */
	{ true, 10, 5, { 0xc4, 0xe2, 0x72, 0xd2, 0xc2 } },	/* AVX-VNNI-INT16 */
	{ true, 15, 5, { 0xf2, 0x0f, 0x38, 0xf8, 0xc1 } },	/* USER_MSR: urdmsr */
	{ true, 19, 6, { 0x62, 0xf1, 0x7c, 0x08, 0x2e, 0xc1 } },/* AVX10: for 10.2 */
	{ true, 21, 3, { 0xd5, 0x18, 0x01 } },			/* APX: REX2 */
};

static bool knows(const uint8_t *bytes, size_t n)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;

	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, n, &z, op));
}

void decode_init(void)
{
	unsigned int a, b, c, d;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	have_fsgsbase = getauxval(AT_HWCAP2) & 2;
	__cpuid(0, a, b, c, d);
	is_amd = (b == signature_AMD_ebx && d == signature_AMD_edx) ||
		 (b == 0x6f677948 && d == 0x6e65476e);
	if (is_amd)	/* an operand-size prefix makes branches 16 bits wide */
		ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, ZYAN_TRUE);
	if (a < 7 || !__get_cpuid_count(7, 1, &a, &b, &c, &d))
		return;
	for (size_t i = 0; i < sizeof(newer) / sizeof(newer[0]); i++)
		if ((newer[i].edx ? d : a) >> newer[i].bit & 1 &&
		    !knows(newer[i].bytes, newer[i].len))
			behind = true;
}

bool decode_behind_cpu(void)
{
	return behind;
}

bool decode_is_pushf(const struct insn *in)
{
	return in->kind == INSN_COPY && (in->z.mnemonic == ZYDIS_MNEMONIC_PUSHF ||
					 in->z.mnemonic == ZYDIS_MNEMONIC_PUSHFD ||
					 in->z.mnemonic == ZYDIS_MNEMONIC_PUSHFQ);
}

int decode_gpr(ZydisRegister reg)
{
	ZydisRegister r;

	if (reg == ZYDIS_REGISTER_NONE)
		return -1;
	r = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
	if (r < ZYDIS_REGISTER_RAX || r > ZYDIS_REGISTER_R15)
		return -1;
	return r - ZYDIS_REGISTER_RAX;
}

int decode_free_reg(const struct insn *in, uint16_t taken)
{
	/* %rsp wants a SIB byte and %rbp a displacement; the upper eight a REX
	 * prefix, which would turn %ah into %spl.
	 */
	static const uint8_t order[] = { 0, 1, 2, 3, 6, 7 };
	size_t i;

	for (i = 0; i < sizeof(order); i++)
		if (!((in->regs | taken) & (1U << order[i])))
			return order[i];
	return -1;
}

static void note_reg(struct insn *in, ZydisRegister reg)
{
	int r = decode_gpr(reg);

	if (r >= 0)
		in->regs |= 1U << r;
}

static void unsupported_insn(struct insn *in, const char *why)
{
	in->kind = INSN_UNSUPPORTED;
	in->why = why;
}

static void fault_insn(struct insn *in, int sig, int code, bool after)
{
	in->kind = INSN_FAULT;
	in->sig = sig;
	in->sig_code = code;
	in->sig_after = after;
}

/* 66 before a near branch: AMD cuts the target to 16 bits, Intel ignores it. */
static bool odd_branch(const struct insn *in)
{
	return (in->z.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) && !in->z.raw.rex.W;
}

static void direct(struct insn *in, enum insn_kind kind)
{
	ZyanU64 target;

	if (in->z.operand_count_visible < 1 || in->op[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE ||
	    !in->op[0].imm.is_relative ||
	    !ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&in->z, &in->op[0], in->pc, &target))) {
		unsupported_insn(in, "a branch without a relative target");
		return;
	}
	in->kind = kind;
	in->target = is_amd && odd_branch(in) ? target & 0xffff : target;
}

static void classify_branch(struct insn *in)
{
	const ZydisDecodedInstruction *z = &in->z;

	if (z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
		in->kind = INSN_EMULATE;
		return;
	}
	/* Jumps only lose the upper bits of where they go. */
	if (is_amd && odd_branch(in) &&
	    (z->mnemonic == ZYDIS_MNEMONIC_CALL || z->mnemonic == ZYDIS_MNEMONIC_RET ||
	     (z->mnemonic == ZYDIS_MNEMONIC_JMP &&
	      in->op[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE))) {
		unsupported_insn(in, "a 16-bit call, return or indirect jump");
		return;
	}
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_CALL:
		if (in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			direct(in, INSN_CALL);
		else
			in->kind = INSN_CALL_IND;
		return;
	case ZYDIS_MNEMONIC_JMP:
		if (in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			direct(in, INSN_JMP);
		else
			in->kind = INSN_JMP_IND;
		return;
	case ZYDIS_MNEMONIC_RET:
		in->kind = INSN_RET;
		if (z->operand_count_visible && in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			in->ret_pop = in->op[0].imm.value.u & 0xffff;
		return;
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
	case ZYDIS_MNEMONIC_JRCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JCXZ:
		direct(in, INSN_LOOP);
		return;
	case ZYDIS_MNEMONIC_XBEGIN:
		direct(in, INSN_XBEGIN);
		return;
	default:
		break;
	}
	if (z->meta.category == ZYDIS_CATEGORY_COND_BR) {
		in->cond = z->opcode & 15;
		direct(in, INSN_JCC);
		return;
	}
	unsupported_insn(in, "an unknown kind of branch");
}

static bool is_sreg(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS;
}

static bool names_gs(const struct insn *in)
{
	return in->z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS;
}

/* A bit string's byte depends on the bit's number, which is in a register. */
static bool bit_string(const struct insn *in)
{
	switch (in->z.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return in->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
	default:
		return false;
	}
}

/* The segment prefix that counts: the last one, but not the four old ones. */
static uint8_t last_segment(const struct insn *in)
{
	uint8_t seg = 0;

	for (int i = 0; i < in->z.raw.prefix_count; i++)
		if (in->z.raw.prefixes[i].value == 0x64 || in->z.raw.prefixes[i].value == 0x65)
			seg = in->z.raw.prefixes[i].value;
	return seg;
}

/* mov, push and pop with %fs or %gs: has it been dealt with? */
static bool selector(struct insn *in)
{
	const ZydisDecodedOperand *op = in->op;
	bool push = in->z.mnemonic == ZYDIS_MNEMONIC_PUSH;
	ZydisRegister to = op[0].type == ZYDIS_OPERAND_TYPE_REGISTER ? op[0].reg.value :
			   ZYDIS_REGISTER_NONE;
	ZydisRegister from = push ? to : op[1].type == ZYDIS_OPERAND_TYPE_REGISTER ?
			     op[1].reg.value : ZYDIS_REGISTER_NONE;

	if (!push && (to == ZYDIS_REGISTER_FS || to == ZYDIS_REGISTER_GS)) {
		if (!have_fsgsbase) {
			unsupported_insn(in, "loading %fs or %gs without FSGSBASE");
			return true;
		}
		/* %fs is the guest's in every respect. */
		if (to == ZYDIS_REGISTER_GS)
			in->kind = INSN_LOAD_GS;
		return to == ZYDIS_REGISTER_GS;
	}
	if (from != ZYDIS_REGISTER_GS || in->z.mnemonic == ZYDIS_MNEMONIC_POP)
		return false;
	if (in->mem >= 0)
		unsupported_insn(in, "the %gs selector to memory");
	else
		in->kind = INSN_STORE_GS;
	return true;
}

/* moffs, string operations, xlat, maskmovq with %gs */
static void implied_gs(struct insn *in, const ZydisDecodedOperand *op)
{
	int base = decode_gpr(op->mem.base);

	if (base < 0) {
		in->kind = INSN_GS_MOFFS;
		in->target = op->mem.disp.value;
		if (in->z.address_width == 32)
			in->target = (uint32_t)in->target;
		return;
	}
	if (in->z.address_width == 32) {
		unsupported_insn(in, "an implied 32-bit %gs operand");
		return;
	}
	in->reg = base;
	in->kind = base == 6 ? INSN_GS_STRING : INSN_GS_REG;
}

static void classify(struct insn *in)
{
	const ZydisDecodedInstruction *z = &in->z;

	in->kind = INSN_COPY;

	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_SYSCALL:
		in->kind = INSN_SYSCALL;
		return;
	case ZYDIS_MNEMONIC_SYSENTER:
		if (is_amd)		/* not in 64-bit mode */
			fault_insn(in, SIGILL, ILL_ILLOPN, false);
		else
			unsupported_insn(in, "sysenter, the 32-bit system call");
		return;
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_SYSEXIT:
		return;			/* the CPU refuses */
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
		in->kind = INSN_EMULATE;
		return;
	case ZYDIS_MNEMONIC_INT:
		if (in->op[0].imm.value.u == 3)
			fault_insn(in, SIGTRAP, SI_KERNEL, true);
		else if (in->op[0].imm.value.u == 0x80)
			unsupported_insn(in, "int 0x80, the 32-bit system call");
		return;			/* the others: the CPU and the kernel refuse */
	case ZYDIS_MNEMONIC_INT3:
		fault_insn(in, SIGTRAP, SI_KERNEL, true);
		return;
	case ZYDIS_MNEMONIC_INT1:
		fault_insn(in, SIGTRAP, TRAP_BRKPT, true);
		return;
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
		fault_insn(in, SIGILL, ILL_ILLOPN, false);
		return;
	case ZYDIS_MNEMONIC_RDGSBASE:
	case ZYDIS_MNEMONIC_WRGSBASE:
		if (!have_fsgsbase) {
			fault_insn(in, SIGILL, ILL_ILLOPN, false);
			return;
		}
		in->kind = z->mnemonic == ZYDIS_MNEMONIC_RDGSBASE ?
			   INSN_RDGSBASE : INSN_WRGSBASE;
		in->reg = decode_gpr(in->op[0].reg.value);
		return;
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		in->kind = INSN_POPF;
		return;
	case ZYDIS_MNEMONIC_LGS:
		unsupported_insn(in, "lgs");
		return;
	case ZYDIS_MNEMONIC_LFS:
		if (!have_fsgsbase) {
			unsupported_insn(in, "lfs without FSGSBASE");
			return;
		}
		break;
	case ZYDIS_MNEMONIC_ENCLU:
		unsupported_insn(in, "enclu, an enclave");
		return;
	case ZYDIS_MNEMONIC_UIRET:	/* no kernel of today enables them */
	case ZYDIS_MNEMONIC_SENDUIPI:
		fault_insn(in, SIGILL, ILL_ILLOPN, false);
		return;
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_POP:
	case ZYDIS_MNEMONIC_PUSH:
		if (selector(in))
			return;
		break;
	case ZYDIS_MNEMONIC_CLZERO:
	case ZYDIS_MNEMONIC_MONITORX:
	case ZYDIS_MNEMONIC_UMONITOR:
		if (last_segment(in) != 0x65)
			break;
		if (z->mnemonic == ZYDIS_MNEMONIC_UMONITOR || z->address_width == 32) {
			unsupported_insn(in, "a monitor or clzero of a %gs address");
			return;
		}
		in->kind = INSN_GS_REG;
		in->reg = 0;
		return;
	default:
		break;
	}

	if (z->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ||
	    z->meta.category == ZYDIS_CATEGORY_CALL ||
	    z->meta.category == ZYDIS_CATEGORY_RET ||
	    z->meta.category == ZYDIS_CATEGORY_COND_BR ||
	    z->meta.category == ZYDIS_CATEGORY_UNCOND_BR) {
		classify_branch(in);
		return;
	}

	if (in->mem >= 0) {
		const ZydisDecodedOperandMem *m = &in->op[in->mem].mem;
		bool agen = m->type == ZYDIS_MEMOP_TYPE_AGEN;

		if (m->base == ZYDIS_REGISTER_RIP || m->base == ZYDIS_REGISTER_EIP) {
			in->kind = INSN_RIPREL;
			if (z->mnemonic == ZYDIS_MNEMONIC_LEA && z->operand_width == 64) {
				in->kind = INSN_LEA_RIP;
				in->reg = decode_gpr(in->op[0].reg.value);
			}
		}
		if (names_gs(in) && !agen) {
			/* 32 bits hold the bit's byte as well, before %gs is added. */
			if (m->type != ZYDIS_MEMOP_TYPE_MEM)
				unsupported_insn(in, "a vector of %gs addresses");
			else if (bit_string(in) && z->address_width == 32)
				unsupported_insn(in, "a bit string at a 32-bit %gs address");
			else
				in->kind = INSN_GS;
		}
	} else if (names_gs(in)) {
		for (int i = 0; i < z->operand_count; i++)
			if (in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			    in->op[i].mem.segment == ZYDIS_REGISTER_GS) {
				implied_gs(in, &in->op[i]);
				return;
			}
	}
}

enum decode_result decode(const uint8_t *bytes, size_t n, uint64_t pc, struct insn *in)
{
	ZydisDecoderContext context;
	ZyanStatus status;
	int i;

	status = ZydisDecoderDecodeInstruction(&decoder, &context, bytes,
					       n > INSN_MAX ? INSN_MAX : n, &in->z);
	/* It would not fill in any; unlike DecodeFull() it leaves the others alone. */
	if (ZYAN_SUCCESS(status))
		status = ZydisDecoderDecodeOperands(&decoder, &context, &in->z, in->op,
						    in->z.operand_count);
	if (status == ZYDIS_STATUS_NO_MORE_DATA)
		return n >= INSN_MAX ? DECODE_LONG : DECODE_MORE;
	if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
		return DECODE_LONG;
	if (!ZYAN_SUCCESS(status))
		return DECODE_BAD;

	in->pc = pc;
	in->bytes = bytes;
	in->len = in->z.length;
	in->mem = -1;
	in->regs = 0;
	in->writes = false;
	in->target = 0;
	in->ret_pop = 0;
	in->why = NULL;
	in->modrm = in->z.raw.modrm.offset;
	in->encoding = in->z.encoding;
	in->addr32 = in->z.address_width == 32;

	for (i = 0; i < in->z.operand_count; i++) {
		const ZydisDecodedOperand *op = &in->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			note_reg(in, op->reg.value);
		} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
				in->mem = i;
			} else {
				note_reg(in, op->mem.base);
				note_reg(in, op->mem.index);
			}
			if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE &&
			    op->mem.type != ZYDIS_MEMOP_TYPE_AGEN)
				in->writes = true;
		}
	}
	if (in->mem >= 0 && (in->op[in->mem].mem.base == ZYDIS_REGISTER_RIP ||
			     in->op[in->mem].mem.base == ZYDIS_REGISTER_EIP)) {
		ZyanU64 target;

		if (!ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&in->z, &in->op[in->mem], pc,
							   &target)))
			return DECODE_BAD;
		in->target = target;
	}
	/* Zydis has no memory operand for this one. */
	if (in->z.mnemonic == ZYDIS_MNEMONIC_CLZERO)
		in->writes = true;
	classify(in);
	return DECODE_OK;
}

void decode_store(const struct insn *in, struct store *s)
{
	const ZydisDecodedInstruction *z = &in->z;
	const ZydisDecodedOperand *op;
	int i, mems = 0;

	*s = (struct store){ .base = -1, .index = -1, .src = -1 };
	if (in->mem < 0 || (in->kind != INSN_COPY && in->kind != INSN_RIPREL &&
			    in->kind != INSN_GS))
		return;
	for (i = 0; i < z->operand_count; i++)
		mems += in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY;
	op = &in->op[in->mem];
	if (mems != 1 || op->mem.type != ZYDIS_MEMOP_TYPE_MEM ||
	    !(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) ||
	    op->size == 0 || op->size % 8 || op->size > 512 || bit_string(in) ||
	    z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
			     ZYDIS_ATTRIB_HAS_REPNE))
		return;
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_PUSH:
	case ZYDIS_CATEGORY_POP:	/* its address is formed after the pop */
	case ZYDIS_CATEGORY_XSAVE:
	case ZYDIS_CATEGORY_XSAVEOPT:
	case ZYDIS_CATEGORY_SCATTER:
	case ZYDIS_CATEGORY_STRINGOP:
	case ZYDIS_CATEGORY_AMX_TILE:
		return;
	default:
		break;
	}

	if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP) {
		s->disp = in->target;
	} else {
		s->base = decode_gpr(op->mem.base);
		s->index = decode_gpr(op->mem.index);
		s->scale = op->mem.scale;
		s->disp = op->mem.disp.has_displacement ? op->mem.disp.value : 0;
		s->addr32 = z->address_width == 32;
	}
	s->fs = op->mem.segment == ZYDIS_REGISTER_FS;
	s->gs = op->mem.segment == ZYDIS_REGISTER_GS;
	s->size = op->size / 8;

	if (z->mnemonic == ZYDIS_MNEMONIC_MOV && s->size <= 8 && in->mem == 0) {
		const ZydisDecodedOperand *src = &in->op[1];

		if (src->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			s->plain = true;
			s->imm = src->imm.value.u;
		} else if (src->type == ZYDIS_OPERAND_TYPE_REGISTER &&
			   !is_sreg(src->reg.value) && decode_gpr(src->reg.value) >= 0) {
			s->plain = true;
			s->src = decode_gpr(src->reg.value);
			if (src->reg.value >= ZYDIS_REGISTER_AH &&
			    src->reg.value <= ZYDIS_REGISTER_BH)
				s->src_shift = 8;
		}
	}
}
