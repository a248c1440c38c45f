// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * seccomp: filters of the program's own hold for its calls, and only for those.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "guest.h"

#define LEN(a)		(sizeof(a) / sizeof(*(a)))
#define LOAD(field)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RET(what)	BPF_STMT(BPF_RET | BPF_K, what)
/* If the number is nr, the result is what. Else go on. */
#define ON(nr, what)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), RET(what)

static long install(unsigned int flags, struct sock_filter *f, unsigned short n)
{
	struct sock_fprog prog = { n, f };

	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

#define INSTALL(flags, ...) ({						\
	struct sock_filter f_[] = { __VA_ARGS__ };			\
	install(flags, f_, LEN(f_));					\
})

CASE(answers_an_error)
{
	CHECK_EQ(prctl(PR_GET_SECCOMP), 0);
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_ERRNO | 42),
			 RET(SECCOMP_RET_ALLOW)), 0);
	CHECK_EQ(prctl(PR_GET_SECCOMP), 2);
	CHECK_EQ(syscall(SYS_getppid), -1);
	CHECK_EQ(errno, 42);
	CHECK(getpid() > 0);
	/* error 0: a call that is not made, and succeeds */
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getpid, SECCOMP_RET_ERRNO), RET(SECCOMP_RET_ALLOW)), 0);
	CHECK_EQ(syscall(SYS_getpid), 0);
	printf("errors\n");
}

CASE(larger_errors_are_cut)
{
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_ERRNO | 0xffff),
			 RET(SECCOMP_RET_ALLOW)), 0);
	CHECK_EQ(syscall(SYS_getppid), -1);
	CHECK_EQ(errno, 4095);
}

/* What is needed for code that is made at run time: still done, by the runtime. */
CASE(the_translator_works_on)
{
	uint8_t *code;

	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_write, SECCOMP_RET_ALLOW),
			 ON(SYS_exit_group, SECCOMP_RET_ALLOW), ON(SYS_mmap, SECCOMP_RET_ALLOW),
			 ON(SYS_munmap, SECCOMP_RET_ALLOW), ON(SYS_newfstatat, SECCOMP_RET_ALLOW),
			 ON(SYS_brk, SECCOMP_RET_ALLOW), RET(SECCOMP_RET_KILL_PROCESS)), 0);
	code = place_get(PLACE_ANON, 4);
	for (int i = 0; i < 100; i++) {
		put_ret_imm(code, i);
		CHECK_EQ(run1(code, 0), i);
	}
	printf("code %d\n", (int)run1(code, 0));
}

CASE(sees_arguments_and_address)
{
	/* getpriority(which, 1234567) -> errno 7; else errno 8 */
	CHECK_EQ(INSTALL(0, LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
			 RET(SECCOMP_RET_KILL_PROCESS),
			 LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 1, 0),
			 RET(SECCOMP_RET_ALLOW),
			 LOAD(args[1]), ON(1234567, SECCOMP_RET_ERRNO | 7),
			 LOAD(instruction_pointer), BPF_STMT(BPF_MISC | BPF_TAX, 0),
			 BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), RET(SECCOMP_RET_ERRNO | 9),
			 RET(SECCOMP_RET_ERRNO | 8)), 0);
	CHECK_EQ(syscall(SYS_getpriority, 0, 1234567), -1);
	CHECK_EQ(errno, 7);
	CHECK_EQ(syscall(SYS_getpriority, 0, 1), -1);
	CHECK_EQ(errno, 8);
}

CASE(the_strictest_filter_wins)
{
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_ERRNO | 1),
			 RET(SECCOMP_RET_ALLOW)), 0);
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_LOG), RET(SECCOMP_RET_ALLOW)), 0);
	CHECK_EQ(syscall(SYS_getppid), -1);
	CHECK_EQ(errno, 1);
	/* of two that are as strict, the newer one */
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_ERRNO | 2),
			 RET(SECCOMP_RET_ALLOW)), 0);
	CHECK_EQ(syscall(SYS_getppid), -1);
	printf("%d\n", errno);
}

/* All the arithmetic that a filter has. */
CASE(computes)
{
#define ALU(op, k)	BPF_STMT(BPF_ALU | BPF_##op | BPF_K, k)
#define ALUX(op)	BPF_STMT(BPF_ALU | BPF_##op | BPF_X, 0)
	CHECK_EQ(INSTALL(0, LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 1, 0),
			 RET(SECCOMP_RET_ALLOW),
			 LOAD(args[1]), BPF_STMT(BPF_ST, 3), ALU(ADD, 5), ALU(MUL, 77), ALU(SUB, 3),
			 ALU(XOR, 0x1234), ALU(LSH, 3), ALU(RSH, 1), ALU(AND, 0xffff), ALU(OR, 0x10),
			 ALU(DIV, 3), BPF_STMT(BPF_ALU | BPF_NEG, 0), BPF_STMT(BPF_STX, 2),
			 BPF_STMT(BPF_LDX | BPF_MEM, 3), ALUX(ADD), ALUX(MUL), ALUX(SUB), ALUX(XOR),
			 BPF_STMT(BPF_LDX | BPF_IMM, 35), ALUX(LSH), ALUX(RSH), ALUX(AND), ALUX(OR),
			 BPF_STMT(BPF_LDX | BPF_W | BPF_LEN, 0), ALUX(ADD),
			 BPF_STMT(BPF_MISC | BPF_TAX, 0), LOAD(args[1]), ALUX(SUB),
			 ALU(AND, 0xfff), ALU(OR, SECCOMP_RET_ERRNO), BPF_STMT(BPF_RET | BPF_A, 0)), 0);
	for (long i = 0; i < 200; i++) {
		errno = 0;
		long r = syscall(SYS_getpriority, 0, i * 7919 + (i << 26));

		printf("%ld %d\n", r, errno);
	}
}

CASE(dies_dividing_by_zero)
{
	CHECK_EQ(INSTALL(0, LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 1, 0),
			 RET(SECCOMP_RET_ALLOW), BPF_STMT(BPF_LDX | BPF_IMM, 0), ALUX(DIV),
			 RET(SECCOMP_RET_ALLOW)), 0);
	syscall(SYS_getppid);
	printf("alive\n");
}

static long check_program(struct sock_filter *f, size_t n)
{
	long r = install(0, f, n);

	return r ? errno : 0;
}

#define PROGRAM(...) ({							\
	struct sock_filter f_[] = { __VA_ARGS__ };			\
	check_program(f_, LEN(f_));					\
})

CASE(refuses_bad_programs)
{
	struct sock_fprog prog = { 0, NULL };
	static struct sock_filter many[4097];

	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK_EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog), -1);
	CHECK_EQ(errno, EINVAL);
	prog.len = 1;
	CHECK_EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog), -1);
	CHECK_EQ(errno, EINVAL);
	prog.filter = (void *)8;
	CHECK_EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog), -1);
	CHECK_EQ(errno, EFAULT);
	for (size_t i = 0; i < LEN(many); i++)
		many[i] = (struct sock_filter)RET(SECCOMP_RET_ALLOW);
	CHECK_EQ(check_program(many, LEN(many)), EINVAL);
	/* no end */
	CHECK_EQ(PROGRAM(LOAD(nr)), EINVAL);
	/* jumps out */
	CHECK_EQ(PROGRAM(BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(BPF_JUMP(BPF_JMP | BPF_JA, 0xffffffff, 0, 0), RET(0)), EINVAL);
	/* loads beyond the data, or not aligned, or of another size */
	CHECK_EQ(PROGRAM(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0), RET(0)), EINVAL);
	/* arithmetic that filters do not have */
	CHECK_EQ(PROGRAM(BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(BPF_STMT(0xffff, 0), RET(0)), EINVAL);
	/* memory that is not there, or not written on every way */
	CHECK_EQ(PROGRAM(BPF_STMT(BPF_ST, 16), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(BPF_STMT(BPF_LD | BPF_MEM, 1), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1), BPF_STMT(BPF_ST, 1),
			 BPF_STMT(BPF_LD | BPF_MEM, 1), RET(0)), EINVAL);
	CHECK_EQ(PROGRAM(LOAD(nr), BPF_STMT(BPF_ST, 1),
			 BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1), BPF_STMT(BPF_ST, 2),
			 BPF_STMT(BPF_LD | BPF_MEM, 1), RET(SECCOMP_RET_ALLOW)), 0);
	printf("refused\n");
}

CASE(has_a_limit)
{
	static struct sock_filter f[4096];
	int n = 0;

	for (size_t i = 0; i < LEN(f); i++)
		f[i] = (struct sock_filter)RET(SECCOMP_RET_ALLOW);
	while (!install(0, f, LEN(f)))
		n++;
	/* How many depends on what the kernel makes of a filter. */
	CHECK(n >= 2 && n <= 8);
	printf("%s\n", strerrorname_np(errno));
}

static volatile siginfo_t seen;
static volatile long seen_rax;

static void on_sys(int sig, siginfo_t *info, void *ctx)
{
	seen = *info;
	seen_rax = ((ucontext_t *)ctx)->uc_mcontext.gregs[REG_RAX];
	((ucontext_t *)ctx)->uc_mcontext.gregs[REG_RAX] = 4711;
}

extern char after_call[];

CASE(traps)
{
	struct sigaction sa = { .sa_sigaction = on_sys, .sa_flags = SA_SIGINFO };
	long ret;

	CHECK(!sigaction(SIGSYS, &sa, NULL));
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_TRAP | 77),
			 RET(SECCOMP_RET_ALLOW)), 0);
	__asm__ volatile("syscall\n.globl after_call\nafter_call:"
			 : "=a"(ret) : "a"(SYS_getppid) : "rcx", "r11", "memory");
	CHECK_EQ(ret, 4711);
	CHECK_EQ(seen_rax, SYS_getppid);
	CHECK_EQ(seen.si_signo, SIGSYS);
	CHECK_EQ(seen.si_code, 1);
	CHECK_EQ(seen.si_errno, 77);
	CHECK_EQ(seen.si_syscall, SYS_getppid);
	CHECK_EQ(seen.si_arch, AUDIT_ARCH_X86_64);
	CHECK(seen.si_call_addr == after_call);
	printf("trapped\n");
}

CASE(dies_trapped)
{
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_TRAP), RET(SECCOMP_RET_ALLOW)), 0);
	syscall(SYS_getppid);
	printf("alive\n");
}

CASE(dies_killed)
{
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_KILL_PROCESS),
			 RET(SECCOMP_RET_ALLOW)), 0);
	syscall(SYS_getppid);
	printf("alive\n");
}

CASE(dies_strict)
{
	CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	CHECK_EQ(write(1, "strict\n", 7), 7);
	syscall(SYS_getppid);
	write(1, "alive\n", 6);
}

CASE(strict_goes_on)
{
	CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	CHECK_EQ(write(1, "strict\n", 7), 7);
	syscall(SYS_exit, 0);
}

static void *killed(void *arg)
{
	syscall(SYS_getppid);
	printf("alive\n");
	return arg;
}

/* Only the thread dies that did it. */
CASE(kills_one_thread)
{
	pthread_t t;
	struct timespec ts = { 0, 1000000 };

	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_KILL_THREAD),
			 RET(SECCOMP_RET_ALLOW)), 0);
	CHECK(!pthread_create(&t, NULL, killed, NULL));
	/* The kernel clears its id and wakes whoever joins, as at every end. */
	CHECK(!pthread_join(t, NULL));
	nanosleep(&ts, NULL);
	printf("one left\n");
}

static volatile int go;

static void *asks(void *arg)
{
	while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE))
		syscall(SYS_sched_yield);
	errno = 0;
	syscall(SYS_getppid);
	return (void *)(long)errno;
}

/* Without TSYNC a filter is the thread's own, with it everybody's. */
CASE(threads)
{
	pthread_t t[4];
	void *ret;

	for (int sync = 0; sync < 2; sync++) {
		__atomic_store_n(&go, 0, __ATOMIC_RELEASE);
		for (int i = 0; i < 4; i++)
			CHECK(!pthread_create(&t[i], NULL, asks, NULL));
		CHECK_EQ(INSTALL(sync ? SECCOMP_FILTER_FLAG_TSYNC : 0, LOAD(nr),
				 ON(SYS_getppid, SECCOMP_RET_ERRNO | (5 + sync)),
				 RET(SECCOMP_RET_ALLOW)), 0);
		__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
		for (int i = 0; i < 4; i++) {
			CHECK(!pthread_join(t[i], &ret));
			printf("%d: %ld\n", sync, (long)ret);
		}
	}
}

static void *own_filter(void *arg)
{
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getsid, SECCOMP_RET_ERRNO | 3),
			 RET(SECCOMP_RET_ALLOW)), 0);
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&go, __ATOMIC_ACQUIRE) != 2)
		syscall(SYS_sched_yield);
	return (void *)syscall(SYS_gettid);
}

CASE(threads_that_differ)
{
	pthread_t t;
	void *tid;
	long ret, esrch;

	CHECK(!pthread_create(&t, NULL, own_filter, NULL));
	while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE))
		syscall(SYS_sched_yield);
	ret = INSTALL(SECCOMP_FILTER_FLAG_TSYNC, RET(SECCOMP_RET_ALLOW));
	errno = 0;
	esrch = INSTALL(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH,
			RET(SECCOMP_RET_ALLOW));
	printf("%ld %s\n", esrch, strerrorname_np(errno));
	__atomic_store_n(&go, 2, __ATOMIC_RELEASE);
	CHECK(!pthread_join(t, &tid));
	CHECK_EQ(ret, (long)tid);
	CHECK_EQ(prctl(PR_GET_SECCOMP), 0);
}

CASE(children_inherit)
{
	int status;
	pid_t pid;

	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_ERRNO | 6),
			 RET(SECCOMP_RET_ALLOW)), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		syscall(SYS_getppid);
		_exit(errno);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	printf("fork: %d\n", WEXITSTATUS(status));
	pid = vfork();
	CHECK(pid >= 0);
	if (!pid) {
		execl("/proc/self/exe", "sys_seccomp", "after_exec", NULL);
		_exit(99);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	printf("exec: %d\n", WEXITSTATUS(status));
}

/* Run by the one above; natively it has a filter only then. */
CASE(after_exec)
{
	long mode = prctl(PR_GET_SECCOMP);
	long r = syscall(SYS_getppid);

	printf("mode %ld, getppid %s %d\n", mode, r < 0 ? "fails" : "works", r < 0 ? errno : 0);
}

CASE(available_actions)
{
	static const uint32_t actions[] = {
		SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP,
		SECCOMP_RET_ERRNO, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW,
		0x12340000,
	};

	for (size_t i = 0; i < LEN(actions); i++) {
		errno = 0;
		printf("%x: %ld %d\n", actions[i],
		       syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &actions[i]), errno);
	}
	/* who traces nobody */
	CHECK_EQ(INSTALL(0, LOAD(nr), ON(SYS_getppid, SECCOMP_RET_TRACE | 1),
			 RET(SECCOMP_RET_ALLOW)), 0);
	CHECK_EQ(syscall(SYS_getppid), -1);
	CHECK_EQ(errno, ENOSYS);
}
