// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The frame of a signal on the guest's stack: made as the kernel makes it, and
 * read back by rt_sigreturn.
 *
 * The frame is the kernel's struct rt_sigframe, below it on the page and above it
 * in memory the processor's state in the format of XSAVE. Guest registers come from
 * and go to cpu->regs, vector state cpu->xsave, the alternate stack and the mask
 * cpu->sig_alt and cpu->sigmask. All of it belongs to the calling thread; no lock is
 * needed. Protection keys are the one part of the state that is live in the
 * processor while the runtime runs.
 */
#include "signals.h"
#include "raw_syscall.h"
#include "runtime.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#define RED_ZONE	128
#define USER_CS		0x33
#define USER_CS32	0x23
#define USER_DS		0x2b

#define FLAG_TF		0x100UL
#define FLAG_DF		0x400UL
#define FLAG_RF		0x10000UL
#define FLAG_AC		0x40000UL
/* What sigreturn takes from the frame: the rest stays as it is. */
#define FLAGS_TAKEN	(FLAG_AC | 0x800 | FLAG_DF | FLAG_TF | 0x80 | 0x40 | 0x10 | 4 | 1 | FLAG_RF)

#define UC_FLAGS	7	/* has XSAVE state; has ss, and it is to be restored */

#define FX_BYTES	512	/* the part that FXSAVE knows */
#define HEADER_BYTES	64
#define MAX_XSAVE	(16UL << 10)
#define MAGIC1		0x46505853U
#define MAGIC2		0x46505845U
#define XF_FPSSE	3UL
#define XF_MXCSR	6UL		/* SSE or AVX: MXCSR is loaded */
#define XF_PKRU		(1UL << 9)
#define XF_DYNAMIC	(1UL << 18)	/* tile data: only after a request, which fails here */
#define MXCSR_DEFAULT	0x1f80U
#define PKRU_DEFAULT	0x55555554U	/* the kernel's, unless its command line says else */

/* The kernel's struct sigcontext. */
struct context {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp;
	uint64_t rip, rflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2;
	uint64_t fpstate;
	uint64_t reserved[8];
};

struct frame {
	uint64_t restorer;
	uint64_t uc_flags, uc_link;
	stack_t uc_stack;
	struct context mc;
	uint64_t mask;
	siginfo_t info;
};
_Static_assert(sizeof(struct context) == 256 && sizeof(struct frame) == 440,
	       "the frame is the kernel's");

/* In bytes that the processor leaves alone, at the end of the first 512. */
struct sw_bytes {
	uint32_t magic1, extended_size;
	uint64_t xfeatures;
	uint32_t xstate_size, padding[7];
};
#define SW_BYTES_AT	(FX_BYTES - sizeof(struct sw_bytes))

static uint64_t xfeatures;	/* that a frame holds */
static uint32_t xstate_size;	/* their bytes */
static uint32_t pkru_at;	/* 0: no protection keys */

/**
 * sigframe_init() - what this processor's state looks like in a frame
 *
 * Return: 0 or -EOPNOTSUPP.
 */
int sigframe_init(void)
{
	unsigned int a, b, c, d, lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	xfeatures = ((uint64_t)hi << 32 | lo) & ~XF_DYNAMIC;
	xstate_size = FX_BYTES + HEADER_BYTES;
	for (int i = 2; i < 63; i++) {
		if (!(xfeatures >> i & 1))
			continue;
		__cpuid_count(0xd, i, a, b, c, d);
		if (b + a > xstate_size)
			xstate_size = b + a;
		if (i == 9)
			pkru_at = b;
	}
	return xstate_size <= MAX_XSAVE ? 0 : -EOPNOTSUPP;
}

static uint32_t pkru_read(void)
{
	uint32_t value, zero;

	__asm__ volatile("rdpkru" : "=a"(value), "=d"(zero) : "c"(0));
	return value;
}

static void pkru_write(uint32_t value)
{
	__asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

/* Everything as in a new program. */
static void xsave_reset(struct cpu *cpu)
{
	uint8_t *x = cpu->xsave;
	uint32_t mxcsr = MXCSR_DEFAULT;
	uint16_t fcw = 0x37f;
	uint32_t mxcsr_mask;

	memcpy(&mxcsr_mask, x + 28, 4);
	memset(x, 0, xstate_size);
	memcpy(x, &fcw, 2);
	memcpy(x + 24, &mxcsr, 4);
	memcpy(x + 28, &mxcsr_mask, 4);
}

/* ---- making one ----------------------------------------------------------- */

/* Where frame and vector state go; 0: nowhere. */
static uint64_t place(const struct cpu *cpu, const struct ksigaction *act, uint64_t *fpstate)
{
	uint64_t sp = cpu->regs.r[4];
	bool autodisarm = cpu->sig_alt.ss_flags & (int)SS_AUTODISARM_FLAG;
	bool on_alt = !autodisarm && sig_on_altstack(cpu, sp);
	bool entering = false;

	sp -= RED_ZONE;
	/* The red zone may be below the stack's end: then it counts as left. */
	if (act->flags & SA_ONSTACK && cpu->sig_alt.ss_size &&
	    (autodisarm || !sig_on_altstack(cpu, sp))) {
		sp = (uint64_t)cpu->sig_alt.ss_sp + cpu->sig_alt.ss_size;
		entering = true;
	}
	sp = (sp - (xstate_size + sizeof(MAGIC2))) & -64UL;
	*fpstate = sp;
	sp = ((sp - sizeof(struct frame)) & -16UL) - 8;
	if ((on_alt || entering) && !sig_on_altstack(cpu, sp))
		return 0;
	return sp;
}

static int push_vectors(struct cpu *cpu, uint64_t at, uint32_t pkru)
{
	uint8_t image[MAX_XSAVE] __attribute__((aligned(64)));
	const struct sw_bytes sw = {
		.magic1 = MAGIC1, .extended_size = xstate_size + sizeof(MAGIC2),
		.xfeatures = xfeatures, .xstate_size = xstate_size,
	};
	const uint32_t magic2 = MAGIC2;
	uint64_t bv;

	memcpy(image, cpu->xsave, xstate_size);
	memcpy(image + SW_BYTES_AT, &sw, sizeof(sw));
	memcpy(&bv, image + FX_BYTES, 8);
	bv |= XF_FPSSE;
	if (pkru_at) {
		bv |= XF_PKRU;
		memcpy(image + pkru_at, &pkru, sizeof(pkru));
	}
	memcpy(image + FX_BYTES, &bv, 8);
	memcpy(image + xstate_size, &magic2, sizeof(magic2));
	return guest_write(at, image, xstate_size + sizeof(magic2));
}

static void context_from(struct context *mc, const struct codewp_regs *regs)
{
	const uint64_t *r = regs->r;

	*mc = (struct context){
		.rax = r[0], .rcx = r[1], .rdx = r[2], .rbx = r[3],
		.rsp = r[4], .rbp = r[5], .rsi = r[6], .rdi = r[7],
		.r8 = r[8], .r9 = r[9], .r10 = r[10], .r11 = r[11],
		.r12 = r[12], .r13 = r[13], .r14 = r[14], .r15 = r[15],
		.rip = regs->rip, .rflags = regs->rflags,
		.cs = USER_CS, .ss = USER_DS,
	};
}

static void context_to(struct codewp_regs *regs, const struct context *mc)
{
	*regs = (struct codewp_regs){
		.r = { mc->rax, mc->rcx, mc->rdx, mc->rbx, mc->rsp, mc->rbp, mc->rsi, mc->rdi,
		       mc->r8, mc->r9, mc->r10, mc->r11, mc->r12, mc->r13, mc->r14, mc->r15 },
		.rip = mc->rip,
		.rflags = (regs->rflags & ~FLAGS_TAKEN) | (mc->rflags & FLAGS_TAKEN),
	};
}

int sigframe_push(struct cpu *cpu, int sig, const siginfo_t *info,
		  const struct ksigaction *act)
{
	uint32_t pkru = pkru_at ? pkru_read() : 0;
	struct codewp_regs *regs = &cpu->regs;
	struct frame f = { .restorer = act->restorer };
	size_t bytes = act->flags & SA_SIGINFO ? sizeof(f) : offsetof(struct frame, info);
	uint64_t fpstate, sp = place(cpu, act, &fpstate);
	int err;

	if (!sp || !(act->flags & SA_RESTORER_FLAG))
		return -EFAULT;
	f.uc_flags = UC_FLAGS;
	f.uc_stack = cpu->sig_alt;
	context_from(&f.mc, regs);
	f.mc.err = cpu->sig_err;
	f.mc.trapno = cpu->sig_trapno;
	f.mc.oldmask = cpu->sigmask;
	f.mc.cr2 = cpu->sig_cr2;
	f.mc.fpstate = fpstate;
	f.mask = cpu->sigmask;
	f.info = *info;

	/* The guest's keys do not keep the kernel from its frame. */
	if (pkru_at)
		pkru_write(0);
	err = push_vectors(cpu, fpstate, pkru) ?: guest_write(sp, &f, bytes);
	if (pkru_at)
		pkru_write(err ? pkru : PKRU_DEFAULT);
	if (err)
		return -EFAULT;

	if (cpu->sig_alt.ss_flags & (int)SS_AUTODISARM_FLAG)
		sig_altstack_reset(cpu);
	xsave_reset(cpu);
	regs->r[7] = sig;
	regs->r[6] = sp + offsetof(struct frame, info);
	regs->r[2] = sp + offsetof(struct frame, uc_flags);
	regs->r[0] = 0;
	regs->r[4] = sp;
	regs->rip = act->handler;
	regs->rflags &= ~(FLAG_DF | FLAG_RF | FLAG_TF);
	return 0;
}

/* ---- reading it back ------------------------------------------------------ */

/* Of a frame whose second half is not there only the old part counts. */
static int read_sw(uint64_t at, struct sw_bytes *sw)
{
	uint32_t magic2;

	if (guest_read(sw, at + SW_BYTES_AT, sizeof(*sw)))
		return -EFAULT;
	if (sw->magic1 == MAGIC1 && sw->xstate_size >= FX_BYTES + HEADER_BYTES &&
	    sw->xstate_size <= xstate_size && sw->xstate_size <= sw->extended_size) {
		if (guest_read(&magic2, at + sw->xstate_size, sizeof(magic2)))
			return -EFAULT;
		if (magic2 == MAGIC2)
			return 0;
	}
	*sw = (struct sw_bytes){ .xfeatures = XF_FPSSE, .xstate_size = FX_BYTES };
	return 0;
}

/* What would make XRSTOR fault. */
static bool header_bad(const uint64_t header[8])
{
	return header[0] & ~xfeatures || header[1] || header[2];
}

static int pop_vectors(struct cpu *cpu, uint64_t at)
{
	uint8_t image[MAX_XSAVE] __attribute__((aligned(64)));
	uint64_t header[8] = { XF_FPSSE };
	uint32_t mxcsr = MXCSR_DEFAULT, mxcsr_mask, pkru = 0;
	struct sw_bytes sw;

	if (!at) {
		xsave_reset(cpu);
		if (pkru_at)
			pkru_write(0);
		return 0;
	}
	if (read_sw(at, &sw))
		return -EFAULT;
	sw.xfeatures &= xfeatures;
	memset(image, 0, xstate_size);
	if (guest_read(image, at, sw.xstate_size))
		return -EFAULT;
	if (sw.magic1) {
		memcpy(header, image + FX_BYTES, sizeof(header));
		if (header_bad(header))
			return -EINVAL;
		header[0] &= sw.xfeatures;
	}
	if (sw.xfeatures & XF_MXCSR)
		memcpy(&mxcsr, image + 24, 4);
	memcpy(&mxcsr_mask, (uint8_t *)cpu->xsave + 28, 4);
	if (mxcsr & ~(mxcsr_mask ?: 0xffbfU))
		return -EINVAL;
	if (pkru_at && header[0] & XF_PKRU)
		memcpy(&pkru, image + pkru_at, sizeof(pkru));

	/* Whatever is not in the frame is in its first state. */
	memcpy(image + 24, &mxcsr, 4);
	memcpy(image + 28, &mxcsr_mask, 4);
	memset(image + SW_BYTES_AT, 0, sizeof(sw));
	memset(image + FX_BYTES, 0, HEADER_BYTES);
	header[0] &= cpu->xsave_mask;
	memcpy(image + FX_BYTES, &header[0], 8);
	memcpy(cpu->xsave, image, xstate_size);
	if (pkru_at)
		pkru_write(pkru);
	return 0;
}

static void bad_frame(struct cpu *cpu)
{
	const siginfo_t info = { .si_signo = SIGSEGV, .si_code = SI_KERNEL };

	sig_force(cpu, SIGSEGV, &info);
}

void signal_return(struct cpu *cpu)
{
	struct codewp_regs *regs = &cpu->regs;
	uint64_t at = regs->r[4] - 8, mask, host;
	stack_t alt;
	struct frame f;
	long args[6] = { SIG_SETMASK, (long)&host, 0, 8 };

	/* Everything but the siginfo, which nothing depends on. */
	if (guest_read(&f, at, offsetof(struct frame, info))) {
		bad_frame(cpu);
		return;
	}
	mask = f.mask & ~NEVER_BLOCKED;
	host = mask & ~SYNC_SIGNALS;
	if (guest_syscall(&cpu->stop, SYS_rt_sigprocmask, args) == -ERESTARTSYS) {
		regs->rip -= 2;		/* a signal came before */
		return;
	}
	cpu->sigmask = mask;
	sig_unhold(cpu, mask);

	if ((f.mc.cs | 3) == USER_CS32) {
		regs->rip -= 2;
		unsupported(cpu, "32-bit code, in a signal's frame");
	}
	context_to(regs, &f.mc);
	if ((f.mc.cs | 3) != USER_CS || (f.uc_flags & 4 && (f.mc.ss | 3) != USER_DS) ||
	    pop_vectors(cpu, f.mc.fpstate)) {
		bad_frame(cpu);
		return;
	}
	alt = f.uc_stack;
	sig_altstack_set(cpu, &alt);	/* as the kernel: what is wrong there is ignored */
}
