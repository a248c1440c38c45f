// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Instructions that C does for the guest: far returns, far jumps and calls, iret,
 * and popf when the trap flag is in play. Rare, and what they do to %cs, %ss and the
 * trap flag must not happen to the host.
 *
 * Works on cpu->regs of the calling thread; no state, no lock of its own (the
 * copies to and from the guest take what they need). Runs with the runtime's
 * state and no address of the cache.
 *
 * %cs is always 0x33 for the guest. What the CPU would refuse raises what it
 * raises; 32-bit code is refused with a line.
 */
#include <signal.h>
#include <string.h>

#include "core.h"

#define USER_CS		0x33
#define USER_CS32	0x23
#define USER_DS		0x2b
#define TRAP_GP		13
#define TRAP_PF		14
#define PF_PROT		1U
#define PF_WRITE	2U
#define PF_USER		4U
#define FLAG_NT		0x4000UL
#define FLAG_RF		0x10000UL
/* What user code may change: CF PF AF ZF SF TF DF OF NT AC ID. */
#define FLAGS_USER	0x244dd5UL

/* SIGSEGV, with what the kernel would tell of it. */
static bool fault(struct cpu *cpu, int code, uint64_t addr, uint64_t err)
{
	cpu->exit = CPU_FAULT;
	cpu->fault_sig = SIGSEGV;
	cpu->fault_code = code;
	cpu->fault_addr = addr;
	cpu->fault_info = (siginfo_t){ .si_signo = SIGSEGV, .si_code = code };
	cpu->fault_info.si_addr = (void *)addr;
	cpu->fault_raised = true;
	cpu->fault_rf = FLAG_RF;
	cpu->sig_trapno = code == SI_KERNEL ? TRAP_GP : TRAP_PF;
	cpu->sig_err = err;
	if (code != SI_KERNEL)
		cpu->sig_cr2 = addr;
	return false;
}

static bool canonical(uint64_t addr)
{
	return (uint64_t)((int64_t)(addr << 16) >> 16) == addr;
}

/* An access of C's to guest memory has failed. */
static bool memory_fault(struct cpu *cpu, uint64_t addr, bool write)
{
	uint64_t err = PF_USER | (write ? PF_WRITE : 0);
	uint8_t byte;

	if (!canonical(addr))
		return fault(cpu, SI_KERNEL, 0, 0);
	/* Across two pages: the first byte may be there. */
	if (!write && !guest_read(&byte, addr, 1))
		addr = (addr & ~4095UL) + 4096;
	if (!mem_mapped(addr))
		return fault(cpu, SEGV_MAPERR, addr, err);
	return fault(cpu, SEGV_ACCERR, addr, err | (write ? PF_PROT : 0));
}

static bool read_stack(struct cpu *cpu, uint64_t *v, unsigned int i, unsigned int size)
{
	uint64_t at = cpu->regs.r[RSP] + i * size;

	*v = 0;
	return guest_read(v, at, size) ? memory_fault(cpu, at, false) : true;
}

/* May control go to this selector? jump: its privilege bits do not count. */
static bool check_cs(struct cpu *cpu, uint16_t sel, bool jump)
{
	if (sel == USER_CS || (jump && (sel | 3) == USER_CS))
		return true;
	if ((sel | 3) == USER_CS32 && (jump || sel == USER_CS32)) {
		cpu->exit = CPU_UNSUPPORTED;
		cpu->unsupported = "a far branch to 32-bit code";
		return false;
	}
	return fault(cpu, SI_KERNEL, 0, sel & ~3U);
}

static bool go(struct cpu *cpu, uint64_t pc)
{
	if (!canonical(pc))
		return fault(cpu, SI_KERNEL, 0, 0);
	cpu->regs.rip = pc;
	return true;
}

static bool far_return(struct cpu *cpu, const struct insn *in)
{
	unsigned int size = in->z.operand_width / 8;
	uint64_t pc, cs;

	if (!read_stack(cpu, &pc, 0, size) || !read_stack(cpu, &cs, 1, size) ||
	    !check_cs(cpu, cs, false) || !go(cpu, pc))
		return false;
	cpu->regs.r[RSP] += 2 * size;
	if (in->z.operand_count_visible && in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		cpu->regs.r[RSP] += in->op[0].imm.value.u & 0xffff;
	return true;
}

static void set_flags(struct cpu *cpu, uint64_t flags, uint64_t mask)
{
	cpu->regs.rflags = (cpu->regs.rflags & ~mask) | (flags & mask);
}

static bool iret(struct cpu *cpu, const struct insn *in)
{
	unsigned int size = in->z.operand_width / 8;
	uint64_t v[5], mask = FLAGS_USER | FLAG_RF;
	int i;

	if (cpu->regs.rflags & FLAG_NT)
		return fault(cpu, SI_KERNEL, 0, 0);
	for (i = 0; i < 5; i++)
		if (!read_stack(cpu, &v[i], i, size))
			return false;
	if (!check_cs(cpu, v[1], false))
		return false;
	if ((uint16_t)v[4] != USER_DS)
		return fault(cpu, SI_KERNEL, 0, v[4] & 0xfffc);
	if (!go(cpu, v[0]))
		return false;
	set_flags(cpu, v[2], size == 2 ? mask & 0xffff : mask);
	cpu->regs.r[RSP] = v[3];
	return true;
}

static uint64_t operand_address(const struct cpu *cpu, const struct insn *in)
{
	const ZydisDecodedOperandMem *m = &in->op[in->mem].mem;
	uint64_t ea = m->disp.has_displacement ? m->disp.value : 0;
	int base = decode_gpr(m->base), index = decode_gpr(m->index);

	if (m->base == ZYDIS_REGISTER_RIP || m->base == ZYDIS_REGISTER_EIP) {
		ea = in->target;
	} else {
		if (base >= 0)
			ea += cpu->regs.r[base];
		if (index >= 0)
			ea += cpu->regs.r[index] * m->scale;
		if (in->z.address_width == 32)
			ea = (uint32_t)ea;
	}
	if (m->segment == ZYDIS_REGISTER_FS)
		ea += cpu->guest_fs;
	if (m->segment == ZYDIS_REGISTER_GS)
		ea += cpu->guest_gs;
	return ea;
}

/* jmp and call through a far pointer in memory: offset, then selector. */
static bool far_branch(struct cpu *cpu, const struct insn *in, bool call)
{
	unsigned int width = in->op[in->mem].size / 8 - 2;
	unsigned int size = in->z.operand_width / 8;
	uint64_t at = operand_address(cpu, in), sp = cpu->regs.r[RSP];
	uint64_t frame[2] = { in->pc + in->len, USER_CS };
	struct { uint8_t b[10]; } ptr = { { 0 } };
	uint64_t pc = 0;
	uint16_t sel;

	if (guest_read(&ptr, at, width + 2))
		return memory_fault(cpu, at, false);
	memcpy(&pc, ptr.b, width);
	memcpy(&sel, ptr.b + width, 2);
	if (!check_cs(cpu, sel, true))
		return false;
	if (!canonical(pc))
		return fault(cpu, SI_KERNEL, 0, 0);
	for (int i = 0; call && i < 2; i++) {
		sp -= size;
		if (guest_write(sp, &frame[1 - i], size))
			return memory_fault(cpu, sp, true);
	}
	cpu->regs.r[RSP] = sp;
	return go(cpu, pc);
}

static bool popf(struct cpu *cpu, const struct insn *in)
{
	unsigned int size = in->z.operand_width / 8;
	uint64_t flags;

	if (!read_stack(cpu, &flags, 0, size))
		return false;
	set_flags(cpu, flags, size == 2 ? FLAGS_USER & 0xffff : FLAGS_USER);
	cpu->regs.rflags &= ~FLAG_RF;
	cpu->regs.r[RSP] += size;
	cpu->regs.rip = in->pc + in->len;
	return true;
}

bool core_emulate(struct cpu *cpu, const uint8_t *bytes, size_t n)
{
	struct insn in;

	if (decode(bytes, n, cpu->regs.rip, &in) != DECODE_OK)
		fatal("an instruction of a block cannot be decoded again");
	switch (in.z.mnemonic) {
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		return popf(cpu, &in);
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
		return iret(cpu, &in);
	case ZYDIS_MNEMONIC_RET:
		return far_return(cpu, &in);
	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_CALL:
		if (in.mem >= 0)
			return far_branch(cpu, &in, in.z.mnemonic == ZYDIS_MNEMONIC_CALL);
		break;
	default:
		break;
	}
	cpu->exit = CPU_UNSUPPORTED;
	cpu->unsupported = "an unknown kind of far branch";
	return false;
}
