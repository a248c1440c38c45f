// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A store that changes the next instruction, by every kind of store.
 *
 * Each template is a function of its argument that writes the argument into the
 * immediate of its own next instruction and returns what that instruction then
 * loads. On x86 this takes effect at once; so a translator must see the store,
 * know exactly which bytes it wrote, run it exactly once, and translate anew
 * before the next instruction. Every template runs in every place, and with
 * several values, so that it is translated, hit, and translated again.
 */
#include "guest.h"

#define STORE(name, mask, text)						\
	TEMPLATE(t_##name, text);					\
	CASE(name)							\
	{								\
		all_places(t_##name##_start, TEMPLATE_SIZE(t_##name), mask);\
	}

#define M8 0xffULL
#define M16 0xffffULL
#define M32 0xffffffffULL
#define M64 ~0ULL

static void all_places(const uint8_t *code, size_t size, uint64_t mask)
{
	static const uint64_t value[] = {
		0x4142434445464748, 0x4142434445464748, 1, 0x7f80, 0x3f800000,
		0x0123456789abcdef, 0x0123456789abcdee,
	};

	for (enum place w = 0; w < PLACE_COUNT; w++) {
		uint8_t *p = place_get(w, 1);
		uint64_t sum = 0;

		/* not at the start: the page has other bytes, too */
		p += 1024;
		memcpy(p, code, size);
		for (unsigned int i = 0; i < 7; i++) {
			uint64_t got = run1(p, value[i]);

			if ((got & mask) != (value[i] & mask))
				guest_fail(__FILE_NAME__, __LINE__,
					   "%s, call %u: %#llx, not %#llx",
					   place_name[w], i,
					   (long long)(got & mask),
					   (long long)(value[i] & mask));
			sum += got & mask;
		}
		printf("%s %llx\n", place_name[w], (long long)sum);
	}
}

/* the target: 1: is the next instruction, its immediate at 1f+1 or 1f+2 */
#define EAX	"1: movl $0x11111111, %eax\n ret\n"
#define RAX	"1: movabsq $0x1111111111111111, %rax\n ret\n"

STORE(mov8, M8, "movb %dil, 1f+1(%rip)\n" EAX)
STORE(mov8_high, M8, "movl %edi, %ecx\n movb %cl, %ch\n movb %ch, 1f+1(%rip)\n" EAX)
STORE(mov16, M16, "movw %di, 1f+1(%rip)\n" EAX)
STORE(mov32, M32, "movl %edi, 1f+1(%rip)\n" EAX)
STORE(mov64, M64, "movq %rdi, 1f+2(%rip)\n" RAX)
STORE(mov_base, M32, "leaq 1f(%rip), %rcx\n movl %edi, 1(%rcx)\n" EAX)
STORE(mov_index, M32, "leaq 1f(%rip), %r13\n movl $3, %ecx\n"
	"movl %edi, -11(%r13,%rcx,4)\n" EAX)
STORE(mov_addr32_if_low, M32, "leaq 1f(%rip), %rcx\n movl %ecx, %edx\n"
	"cmpq %rcx, %rdx\n jne 2f\n"
	"movl %edi, %ds:1(%ecx)\n jmp 1f\n"
	"2: movl %edi, 1(%rcx)\n" EAX)
STORE(mov_moffs_like, M32, "movl %edi, %eax\n leaq 1f(%rip), %rcx\n"
	"movl %eax, %es:1(%rcx)\n" EAX)
STORE(after_1, M32, "movl %edi, 1f+1(%rip)\n nop\n" EAX)
STORE(after_5, M32, "movl %edi, 1f+1(%rip)\n .fill 5,1,0x90\n" EAX)
STORE(after_20, M32, "movl %edi, 1f+1(%rip)\n .fill 20,1,0x90\n" EAX)
STORE(after_200, M32, "movl %edi, 1f+1(%rip)\n .fill 200,1,0x90\n" EAX)
STORE(after_jump, M32, "movl %edi, 1f+1(%rip)\n jmp 1f\n .fill 64,1,0xcc\n" EAX)
STORE(after_call, M32, "movl %edi, 1f+1(%rip)\n call 2f\n" EAX "2: ret\n")
STORE(in_subroutine, M32, "call 2f\n" EAX "2: movl %edi, 1b+1(%rip)\n ret\n")
STORE(backwards, M32, "jmp 3f\n" EAX "3: movl %edi, 1b+1(%rip)\n jmp 1b\n")
STORE(flags_kept, M32, "cmpl %edi, %edi\n movl %edi, 1f+1(%rip)\n"
	"jne 2f\n" EAX "2: xorl %eax, %eax\n ret\n")
STORE(push, M64, "movq %rsp, %r8\n leaq 1f+10(%rip), %rsp\n pushq %rdi\n"
	"1: movabsq $0x1111111111111111, %rax\n movq %r8, %rsp\n ret\n")
STORE(pushw, M16, "movq %rsp, %r8\n leaq 1f+4(%rip), %rsp\n pushw %di\n"
	"1: movabsq $0x1111111111111111, %rax\n movq %r8, %rsp\n ret\n")
STORE(pop_mem, M64, "pushq %rdi\n popq 1f+2(%rip)\n" RAX)
STORE(call_pushes, M64, "movq %rsp, %r8\n leaq 1f+10(%rip), %rsp\n"
	"call 1f\n"
	"1: movabsq $0x1111111111111111, %rax\n movq %r8, %rsp\n"
	"leaq 1b(%rip), %rcx\n subq %rcx, %rax\n addq %rdi, %rax\n ret\n")
STORE(enter_frame, M64, "movq %rsp, %r8\n movq %rbp, %r9\n movq %rdi, %rbp\n"
	"leaq 1f+10(%rip), %rsp\n enter $0, $0\n"
	"1: movabsq $0x1111111111111111, %rax\n movq %r8, %rsp\n movq %r9, %rbp\n ret\n")
STORE(xchg, M32, "movl %edi, %ecx\n xchgl %ecx, 1f+1(%rip)\n" EAX)
STORE(xadd, M32, "movl %edi, %ecx\n subl 1f+1(%rip), %ecx\n"
	"lock xaddl %ecx, 1f+1(%rip)\n" EAX)
STORE(lock_add, M32, "movl %edi, %ecx\n subl 1f+1(%rip), %ecx\n"
	"lock addl %ecx, 1f+1(%rip)\n" EAX)
STORE(lock_add64, M64, "movq %rdi, %rcx\n subq 1f+2(%rip), %rcx\n"
	"lock addq %rcx, 1f+2(%rip)\n" RAX)
STORE(add_mem, M32, "movl %edi, %ecx\n subl 1f+1(%rip), %ecx\n"
	"addl %ecx, 1f+1(%rip)\n" EAX)
STORE(adc_mem, M32, "movl %edi, %ecx\n subl 1f+1(%rip), %ecx\n"
	"decl %ecx\n stc\n adcl %ecx, 1f+1(%rip)\n" EAX)
STORE(sbb_mem, M32, "movl 1f+1(%rip), %ecx\n subl %edi, %ecx\n"
	"decl %ecx\n stc\n sbbl %ecx, 1f+1(%rip)\n" EAX)
STORE(xor_mem, M32, "movl %edi, %ecx\n xorl 1f+1(%rip), %ecx\n"
	"xorl %ecx, 1f+1(%rip)\n" EAX)
STORE(not_mem, M32, "movl %edi, 1f+1(%rip)\n notl 1f+1(%rip)\n notl 1f+1(%rip)\n" EAX)
STORE(neg_mem, M32, "movl %edi, %ecx\n negl %ecx\n movl %ecx, 1f+1(%rip)\n"
	"negl 1f+1(%rip)\n" EAX)
STORE(inc_mem, M32, "leal -1(%rdi), %ecx\n movl %ecx, 1f+1(%rip)\n incl 1f+1(%rip)\n" EAX)
STORE(dec_lock, M32, "leal 1(%rdi), %ecx\n movl %ecx, 1f+1(%rip)\n lock decl 1f+1(%rip)\n" EAX)
STORE(rol_mem, M32, "movl %edi, %ecx\n rorl $5, %ecx\n movl %ecx, 1f+1(%rip)\n"
	"roll $5, 1f+1(%rip)\n" EAX)
STORE(rol_mem_cl, M32, "movl $13, %ecx\n movl %edi, %edx\n rorl %cl, %edx\n"
	"movl %edx, 1f+1(%rip)\n roll %cl, 1f+1(%rip)\n" EAX)
STORE(shld_mem, M32, "movl %edi, %edx\n shll $16, %edx\n movl %edi, %ecx\n shrl $16, %ecx\n"
	"movl %ecx, 1f+1(%rip)\n shldl $16, %edx, 1f+1(%rip)\n" EAX)
STORE(bts_mem_imm, M32, "movl %edi, %ecx\n btrl $7, %ecx\n movl %ecx, 1f+1(%rip)\n"
	"btl $7, %edi\n jnc 2f\n btsl $7, 1f+1(%rip)\n jmp 1f\n 2:\n" EAX)
STORE(bts_mem_reg, M32, "movl %edi, %ecx\n btrl $9, %ecx\n movl %ecx, 1f+1(%rip)\n"
	"btl $9, %edi\n jnc 2f\n"
	/* bit 9 counted from 40 bytes below: the address is not the operand's */
	"movl $329, %edx\n btsl %edx, 1f+1-40(%rip)\n 2:\n" EAX)
STORE(setcc, M8, "movl %edi, %ecx\n movb %cl, %dl\n movb %dl, 1f+1(%rip)\n"
	"cmpb $1, %dl\n jne 1f\n movb $0, 1f+1(%rip)\n cmpl %ecx, %ecx\n sete 1f+1(%rip)\n" EAX)
STORE(cmpxchg, M32, "movl 1f+1(%rip), %eax\n cmpxchgl %edi, 1f+1(%rip)\n" EAX)
STORE(lock_cmpxchg, M32, "movl 1f+1(%rip), %eax\n lock cmpxchgl %edi, 1f+1(%rip)\n"
	"jne 2f\n" EAX "2: ud2\n")
STORE(lock_cmpxchg_fails, M32, "movl %edi, 1f+1(%rip)\n leal 1(%rdi), %eax\n"
	"movl $0x99, %edx\n lock cmpxchgl %edx, 1f+1(%rip)\n je 2f\n"
	"cmpl %eax, %edi\n jne 2f\n" EAX "2: ud2\n")
STORE(cmpxchg8b, M64, "movq %rbx, %r8\n movl 1f+2(%rip), %eax\n movl 1f+6(%rip), %edx\n"
	"movl %edi, %ebx\n movq %rdi, %rcx\n shrq $32, %rcx\n"
	"lock cmpxchg8b 1f+2(%rip)\n movq %r8, %rbx\n" RAX)
STORE(cmpxchg16b, M64, "movq %rbx, %r8\n movq 1f(%rip), %rax\n movq 1f+8(%rip), %rdx\n"
	"movl $0xb848, %ebx\n movq %rdi, %rcx\n shlq $16, %rcx\n orq %rcx, %rbx\n"
	"movq %rdi, %rcx\n shrq $48, %rcx\n movabsq $0xccccccc308c30000, %r9\n orq %r9, %rcx\n"
	"jmp 3f\n .balign 16\n"
	"3: lock cmpxchg16b 1f(%rip)\n movq %r8, %rbx\n jmp 1f\n .balign 16\n"
	/* new contents: movabs $arg, %rax; ret */
	"1: movabsq $0x1111111111111111, %rax\n ret\n .fill 5,1,0xcc\n")
STORE(stosb, M8, "movl %edi, %eax\n leaq 1f+1(%rip), %rdi\n stosb\n" EAX)
STORE(stosd, M32, "movl %edi, %eax\n leaq 1f+1(%rip), %rdi\n stosl\n" EAX)
STORE(stosq, M64, "movq %rdi, %rax\n leaq 1f+2(%rip), %rdi\n stosq\n" RAX)
STORE(rep_stosb, M32, "movzbl %dil, %eax\n imull $0x01010101, %eax, %r8d\n movl %edi, %r9d\n"
	"leaq 1f+1(%rip), %rdi\n movl $4, %ecx\n rep stosb\n"
	"1: movl $0x11111111, %eax\n cmpl %r8d, %eax\n movl $0, %eax\n cmove %r9d, %eax\n ret\n")
STORE(rep_stosb_over_two, M32, "movl %edi, %r9d\n movl $0x90, %eax\n"
	"leaq 1f(%rip), %rdi\n movl $8, %ecx\n rep stosb\n"
	/* eight bytes of "no" become nops */
	"1: movl $0, %r9d\n .fill 2,1,0x90\n movl %r9d, %eax\n"
	"leaq 1b(%rip), %rdi\n movl $0x0000b941, %edx\n movl %edx, (%rdi)\n"
	"movl $0x90900000, 4(%rdi)\n ret\n")
STORE(movsb, M8, "movb %dil, -8(%rsp)\n leaq -8(%rsp), %rsi\n leaq 1f+1(%rip), %rdi\n movsb\n" EAX)
STORE(movsd, M32, "movl %edi, -8(%rsp)\n leaq -8(%rsp), %rsi\n leaq 1f+1(%rip), %rdi\n movsl\n" EAX)
STORE(rep_movsb, M32, "movl %edi, -8(%rsp)\n leaq -8(%rsp), %rsi\n leaq 1f+1(%rip), %rdi\n"
	"movl $4, %ecx\n rep movsb\n" EAX)
STORE(rep_movsq, M64, "movq %rdi, -8(%rsp)\n leaq -8(%rsp), %rsi\n leaq 1f+2(%rip), %rdi\n"
	"movl $1, %ecx\n rep movsq\n" RAX)
STORE(rep_movsb_down, M32, "movl %edi, -8(%rsp)\n leaq -5(%rsp), %rsi\n leaq 1f+4(%rip), %rdi\n"
	"movl $4, %ecx\n std\n rep movsb\n cld\n" EAX)
STORE(fstp32, M32, "movl %edi, -8(%rsp)\n flds -8(%rsp)\n fstps 1f+1(%rip)\n" EAX)
STORE(fistp64, M64, "movq %rdi, -8(%rsp)\n fildll -8(%rsp)\n fistpll 1f+2(%rip)\n" RAX)
STORE(fistp32, M32, "movl %edi, -8(%rsp)\n fildl -8(%rsp)\n fistl 1f+1(%rip)\n fstp %st(0)\n" EAX)
/* ten bytes that are a number as well as mov $arg, %eax and five nops */
STORE(fstp80, M32, "movb $0xb8, -24(%rsp)\n movl %edi, -23(%rsp)\n"
	"movl $0x90909090, -19(%rsp)\n movl $0x90909090, -18(%rsp)\n"
	"fldt -24(%rsp)\n fstpt 1f(%rip)\n"
	"1: movl $0x11111111, %eax\n .fill 5,1,0xcc\n ret\n")
STORE(fnstcw, M64, "fnstcw 1f+1(%rip)\n"
	"1: movl $0x11110000, %eax\n movzwl %ax, %ecx\n fnstcw -8(%rsp)\n"
	"cmpw -8(%rsp), %cx\n movl $0, %eax\n cmoveq %rdi, %rax\n ret\n")
STORE(stmxcsr, M64, "stmxcsr -8(%rsp)\n stmxcsr 1f+1(%rip)\n"
	"1: movl $0x11110000, %eax\n cmpl -8(%rsp), %eax\n movl $0, %eax\n cmoveq %rdi, %rax\n ret\n")
STORE(movd, M32, "movd %edi, %xmm3\n movd %xmm3, 1f+1(%rip)\n" EAX)
STORE(movss, M32, "movd %edi, %xmm9\n movss %xmm9, 1f+1(%rip)\n" EAX)
STORE(movsd_xmm, M64, "movq %rdi, %xmm12\n movsd %xmm12, 1f+2(%rip)\n" RAX)
STORE(movq_xmm, M64, "movq %rdi, %xmm5\n movq %xmm5, 1f+2(%rip)\n" RAX)
STORE(movq_mmx, M64, "movq %rdi, %mm5\n movq %mm5, 1f+2(%rip)\n emms\n" RAX)
STORE(movlps, M64, "movq %rdi, %xmm5\n movlps %xmm5, 1f+2(%rip)\n" RAX)
STORE(movhps, M64, "movq %rdi, %xmm5\n movlhps %xmm5, %xmm5\n movhps %xmm5, 1f+2(%rip)\n" RAX)
STORE(movnti, M64, "movnti %rdi, 1f+2(%rip)\n sfence\n" RAX)
STORE(movbe, M32, "movl %edi, %ecx\n bswap %ecx\n movbe %ecx, 1f+1(%rip)\n" EAX)
STORE(pextrd, M32, "movd %edi, %xmm1\n pshufd $0, %xmm1, %xmm1\n"
	"pextrd $2, %xmm1, 1f+1(%rip)\n" EAX)
STORE(pextrb, M8, "movd %edi, %xmm1\n pextrb $0, %xmm1, 1f+1(%rip)\n" EAX)
STORE(extractps, M32, "movd %edi, %xmm1\n extractps $0, %xmm1, 1f+1(%rip)\n" EAX)
STORE(maskmovdqu, M32, "movd %edi, %xmm1\n movl $-1, %ecx\n movd %ecx, %xmm2\n"
	"leaq 1f+1(%rip), %rdi\n maskmovdqu %xmm2, %xmm1\n sfence\n" EAX)
/* 16 bytes at once: a whole instruction and what follows it */
#define NEW16	"leaq -40(%rsp), %rsi\n movl $0xb848, %ecx\n movw %cx, (%rsi)\n"	\
		"movq %rdi, 2(%rsi)\n movabsq $0x9090909090c3, %rcx\n"		\
		"movq %rcx, 10(%rsi)\n movdqu (%rsi), %xmm7\n"
#define OLD16	"jmp 1f\n .balign 16\n 1: xorl %eax, %eax\n ret\n .fill 13,1,0xcc\n .balign 16\n"
STORE(movups, M64, NEW16 "movups %xmm7, 1f(%rip)\n" OLD16)
STORE(movaps, M64, NEW16 "movaps %xmm7, 1f(%rip)\n" OLD16)
STORE(movdqa, M64, NEW16 "movdqa %xmm7, 1f(%rip)\n" OLD16)
STORE(movntdq, M64, NEW16 "movntdq %xmm7, 1f(%rip)\n sfence\n" OLD16)
STORE(rep_movsb_16, M64, NEW16 "leaq 1f(%rip), %rdi\n movl $16, %ecx\n rep movsb\n" OLD16)

#define AVX(name, feature, mask, text)					\
	TEMPLATE(t_##name, text);					\
	CASE(name)							\
	{								\
		if (!__builtin_cpu_supports(feature)) {			\
			printf("no %s here\n", feature);		\
			return;						\
		}							\
		all_places(t_##name##_start, TEMPLATE_SIZE(t_##name), mask);\
	}

AVX(vmovd, "avx", M32, "vmovd %edi, %xmm3\n vmovd %xmm3, 1f+1(%rip)\n" EAX)
AVX(vmovups_x, "avx", M64, NEW16 "vmovups %xmm7, 1f(%rip)\n" OLD16)
AVX(vmovups_y, "avx", M64, NEW16
	"vmovups 1f+16(%rip), %xmm8\n vinsertf128 $1, %xmm8, %ymm7, %ymm7\n"
	"vmovups %ymm7, 1f(%rip)\n" OLD16 ".fill 16,1,0x90\n")
AVX(vmovntdq_y, "avx", M64, NEW16
	"vmovups 1f+16(%rip), %xmm8\n vinsertf128 $1, %xmm8, %ymm7, %ymm7\n"
	"vmovntdq %ymm7, 1f(%rip)\n sfence\n jmp 1f\n .balign 32\n"
	"1: xorl %eax, %eax\n ret\n .fill 13,1,0xcc\n .fill 32,1,0x90\n")
AVX(vextracti128, "avx2", M64, NEW16
	"vpermq $0x4e, %ymm7, %ymm9\n vextracti128 $1, %ymm9, 1f(%rip)\n" OLD16)
AVX(vmaskmovps, "avx", M32, "vmovd %edi, %xmm1\n vpcmpeqd %xmm2, %xmm2, %xmm2\n"
	"vpsrldq $12, %xmm2, %xmm2\n vmaskmovps %xmm1, %xmm2, 1f+1(%rip)\n" EAX)
AVX(vpmaskmovq, "avx2", M64, "vmovq %rdi, %xmm1\n vpcmpeqd %xmm2, %xmm2, %xmm2\n"
	"vpsrldq $8, %xmm2, %xmm2\n vpmaskmovq %xmm1, %xmm2, 1f+2(%rip)\n" RAX)
AVX(vmovdqu64_masked, "avx512f", M64, "vmovq %rdi, %xmm1\n movl $1, %ecx\n kmovw %ecx, %k1\n"
	"vmovdqu64 %zmm1, 1f+2(%rip){%k1}\n vzeroupper\n" RAX)
AVX(vpcompressd, "avx512f", M32, "vmovd %edi, %xmm1\n movl $1, %ecx\n kmovw %ecx, %k1\n"
	"vpcompressd %zmm1, 1f+1(%rip){%k1}\n vzeroupper\n" EAX)
AVX(vpscatterdd, "avx512f", M32, "vmovd %edi, %xmm1\n movl $1, %ecx\n kmovw %ecx, %k1\n"
	"leaq 1f+1(%rip), %rdx\n vpxord %zmm2, %zmm2, %zmm2\n"
	"vpscatterdd %zmm1, (%rdx,%zmm2,4){%k1}\n vzeroupper\n" EAX)
AVX(kmovd_mem, "avx512bw", M32, "kmovd %edi, %k3\n kmovd %k3, 1f+1(%rip)\n" EAX)
