// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Every call with every kind of wrong argument, and the calls that only tell. */
#include "conf.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

static void nothing(const struct codewp_event_info *ev, void *arg)
{
}

TEST(open_refuses)
{
	struct codewp_open_opts o = conf_open_opts();
	struct {
		struct codewp_open_opts o;
		uint64_t unknown;
	} longer = { .o = o };
	struct codewp *ctx;

	fx_open();
	REFUSED(codewp_open(NULL, &o), EINVAL);
	o.sz = 4;
	REFUSED(codewp_open(&ctx, &o), EINVAL);
	o.sz = sizeof(o);
	o.min_fd = -1;
	REFUSED(codewp_open(&ctx, &o), EINVAL);
	o.min_fd = 0;
	o.backend = 77;
	REFUSED(codewp_open(&ctx, &o), EINVAL);
	ASSERT(!ctx);
	/* A later program: fine while what we do not know is zero. */
	longer.o.sz = sizeof(longer);
	OK(codewp_open(&ctx, &longer.o));
	codewp_close(ctx);
	longer.unknown = 1;
	REFUSED(codewp_open(&ctx, &longer.o), E2BIG);
	/* An earlier one: what it lacks is zero. */
	o = conf_open_opts();
	o.sz = offsetof(struct codewp_open_opts, own_signals);
	o.min_fd = -5;
	OK(codewp_open(&ctx, &o));
	codewp_close(ctx);
	codewp_close(NULL);
}

static volatile int masks;

static void count_mask(int sig, siginfo_t *info, void *uc)
{
	masks = masks + 1;
}

/* Seen by a filter that turns each rt_sigprocmask() into a signal. */
static int count_masks(bool quiet)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };
	struct sigaction sa = { .sa_sigaction = count_mask, .sa_flags = SA_SIGINFO };
	struct codewp_open_opts o = conf_open_opts();
	struct codewp_view_opts vo = { .sz = sizeof(vo) };
	struct codewp_view *view;
	struct codewp *ctx;

	o.quiet_signals = quiet;
	if (codewp_open(&ctx, &o) ||
	    codewp_view_create(ctx, &view, conf_memfd(PAGE), 0, PAGE, &vo) ||
	    sigaction(SIGSYS, &sa, NULL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		return -1;
	for (int i = 0; i < 10; i++)
		if (codewp_arm(view, 0, PAGE, CODEWP_OPEN, NULL) ||
		    codewp_disarm(view, 0, PAGE))
			return -1;
	return masks;
}

TEST(quiet_signals_are_not_blocked)
{
	if (conf_backend() == CODEWP_KMOD)
		SKIP("the kernel has the lock of its arms");
	for (int quiet = 0; quiet < 2; quiet++) {
		int status;
		pid_t pid = fork();

		ASSERT(pid >= 0);
		if (!pid)
			_exit(count_masks(quiet));
		ASSERT(waitpid(pid, &status, 0) == pid);
		ASSERT(WIFEXITED(status));
		ASSERT_EQ(WEXITSTATUS(status), quiet ? 0 : 40);
	}
}

TEST(view_create_refuses)
{
	struct codewp_view_opts vo = { .sz = sizeof(vo) };
	struct codewp_open_opts o = conf_open_opts();
	struct codewp_view *view;
	struct codewp *other;
	int fd, ro, sealed, huge, file;
	char path[] = "/tmp/conformance-XXXXXX";

	fx_open();
	fd = conf_memfd(16 * PAGE);
#define CREATE(...) codewp_view_create(fx.ctx, &view, __VA_ARGS__)
	REFUSED(codewp_view_create(NULL, &view, fd, 0, PAGE, NULL), EINVAL);
	REFUSED(codewp_view_create(fx.ctx, NULL, fd, 0, PAGE, NULL), EINVAL);
	REFUSED(CREATE(-1, 0, PAGE, NULL), EBADF);
	REFUSED(CREATE(9999, 0, PAGE, NULL), EBADF);
	REFUSED(CREATE(fd, 1, PAGE, NULL), EINVAL);
	REFUSED(CREATE(fd, 0, 100, NULL), EINVAL);
	REFUSED(CREATE(fd, 0, 0, NULL), EINVAL);
	REFUSED(CREATE(fd, PAGE, -PAGE, NULL), EOVERFLOW);
	REFUSED(CREATE(fd, 1ULL << 63, PAGE, NULL), EOVERFLOW);
	vo.clients = 8;
	REFUSED(CREATE(fd, 0, PAGE, &vo), EINVAL);
	vo.clients = 0;
	vo.ring_bytes = 5000;
	REFUSED(CREATE(fd, 0, PAGE, &vo), EINVAL);
	vo.ring_bytes = 2048;
	REFUSED(CREATE(fd, 0, PAGE, &vo), EINVAL);
	vo.ring_bytes = 4096;
	vo.share_ring = fx.view;
	REFUSED(CREATE(fd, 0, PAGE, &vo), EINVAL);
	vo.ring_bytes = 0;
	OK(codewp_open(&other, &o));
	REFUSED(codewp_view_create(other, &view, fd, 0, PAGE, &vo), EINVAL);
	codewp_close(other);
	vo.share_ring = NULL;
	vo.sz = 3;
	REFUSED(CREATE(fd, 0, PAGE, &vo), EINVAL);

	/* Files that cannot be watched. */
	file = ASSERT_OK(mkstemp(path));
	unlink(path);
	ro = open("/proc/self/status", O_RDONLY);
	REFUSED(CREATE(ro, 0, PAGE, NULL), conf_backend() == CODEWP_KMOD ? EOPNOTSUPP : EACCES);
	close(file);
	sealed = conf_memfd(PAGE);
	ASSERT_OK(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE));
	REFUSED(CREATE(sealed, 0, PAGE, NULL), EPERM);
	sealed = conf_memfd(PAGE);
	ASSERT_OK(fcntl(sealed, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	REFUSED(CREATE(sealed, 0, PAGE, NULL), EPERM);
	huge = memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC);
	if (huge >= 0)
		REFUSED(CREATE(huge, 0, 2UL << 20, NULL), EOPNOTSUPP);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = ASSERT_OK(open(path, O_RDONLY | O_CLOEXEC));
	REFUSED(CREATE(ro, 0, PAGE, NULL), EACCES);
	ro = ASSERT_OK(open(path, O_WRONLY | O_CLOEXEC));
	REFUSED(CREATE(ro, 0, PAGE, NULL), EACCES);
	ASSERT(!view);
	OK(CREATE(fd, 0, PAGE, NULL));
	codewp_view_destroy(view);
	codewp_view_destroy(NULL);
}

TEST(map_refuses)
{
	void *p = NULL, *none = (void *)PAGE;

	fx_open();
#define MAP(len, voff, prot, flags) codewp_map(fx.view, &p, len, voff, prot, flags)
	REFUSED(codewp_map(NULL, &p, PAGE, 0, PROT_READ, 0), EINVAL);
	REFUSED(codewp_map(fx.view, NULL, PAGE, 0, PROT_READ, 0), EINVAL);
	REFUSED(MAP(0, 0, PROT_READ, 0), EINVAL);
	REFUSED(MAP(SIZE_MAX, 0, PROT_READ, 0), EINVAL);
	REFUSED(MAP(PAGE, 7, PROT_READ, 0), EINVAL);
	REFUSED(MAP(PAGE, BYTES, PROT_READ, 0), ERANGE);
	REFUSED(MAP(BYTES + PAGE, 0, PROT_READ, 0), ERANGE);
	REFUSED(MAP(2 * PAGE, -PAGE, PROT_READ, 0), EOVERFLOW);
	REFUSED(MAP(PAGE, 0, PROT_READ | PROT_EXEC, 0), EACCES);
	REFUSED(MAP(PAGE, 0, 0x100, 0), EINVAL);
	REFUSED(MAP(PAGE, 0, PROT_READ, MAP_PRIVATE), EINVAL);
	REFUSED(MAP(PAGE, 0, PROT_READ, MAP_ANONYMOUS), EINVAL);
	p = (void *)5;
	REFUSED(MAP(PAGE, 0, PROT_READ, MAP_FIXED), EINVAL);
	ASSERT(p == (void *)5);

	REFUSED(codewp_unmap(NULL, fx.mem, PAGE), EINVAL);
	REFUSED(codewp_unmap(fx.ctx, fx.mem + 1, PAGE), EINVAL);
	REFUSED(codewp_unmap(fx.ctx, fx.mem, 0), EINVAL);
	REFUSED(codewp_protect(NULL, fx.mem, PAGE, PROT_READ), EINVAL);
	REFUSED(codewp_protect(fx.ctx, fx.mem + 1, PAGE, PROT_READ), EINVAL);
	REFUSED(codewp_protect(fx.ctx, fx.mem, PAGE, PROT_EXEC), EACCES);
	REFUSED(codewp_protect(fx.ctx, fx.mem, PAGE, 0x100), EINVAL);
	REFUSED(codewp_protect(fx.ctx, none, PAGE, PROT_READ), ENOMEM);
	p = none;
	REFUSED(codewp_remap(fx.ctx, &p, PAGE, PAGE, MREMAP_MAYMOVE, NULL), EFAULT);
	p = fx.mem;
	REFUSED(codewp_remap(NULL, &p, PAGE, PAGE, 0, NULL), EINVAL);
	REFUSED(codewp_remap(fx.ctx, NULL, PAGE, PAGE, 0, NULL), EINVAL);
	REFUSED(codewp_remap(fx.ctx, &p, 0, PAGE, MREMAP_MAYMOVE, NULL), EINVAL);
	REFUSED(codewp_remap(fx.ctx, &p, PAGE, 0, MREMAP_MAYMOVE, NULL), EINVAL);
	REFUSED(codewp_remap(fx.ctx, &p, PAGE, PAGE, 1 << 10, NULL), EINVAL);
	ASSERT(p == fx.mem);
	/* It is all still there. */
	store2(fx.mem, 1);
	REFUSED(codewp_alias(NULL, &p), EINVAL);
	REFUSED(codewp_alias(fx.view, NULL), EINVAL);
}

TEST(arm_refuses)
{
	struct codewp_open_opts o = conf_open_opts();
	struct codewp_arm_result res;

	fx_open_with(&o, false);
	REFUSED(codewp_arm(NULL, 0, PAGE, CODEWP_OPEN, NULL), EINVAL);
	REFUSED(codewp_arm(fx.view, 1, PAGE, CODEWP_OPEN, NULL), EINVAL);
	REFUSED(codewp_arm(fx.view, 0, 1, CODEWP_OPEN, NULL), EINVAL);
	REFUSED(codewp_arm(fx.view, 0, 0, CODEWP_OPEN, NULL), EINVAL);
	REFUSED(codewp_arm(fx.view, BYTES, PAGE, CODEWP_OPEN, NULL), ERANGE);
	REFUSED(codewp_arm(fx.view, PAGE, -PAGE, CODEWP_OPEN, NULL), EOVERFLOW);
	REFUSED(codewp_arm(fx.view, 0, PAGE, 4, NULL), EINVAL);
	/* Here no codewp_kvm is loaded. */
	REFUSED(codewp_arm(fx.view, 0, PAGE, CODEWP_STOP, NULL), EOPNOTSUPP);
	/* KEEP only where nobody else can map. */
	res.done = 77;
	REFUSED(codewp_arm(fx.view, 0, PAGE, CODEWP_KEEP, &res), EINVAL);
	ASSERT_EQ(res.done, 0);
	REFUSED(codewp_disarm(NULL, 0, PAGE), EINVAL);
	REFUSED(codewp_disarm(fx.view, 1, PAGE), EINVAL);
	REFUSED(codewp_disarm(fx.view, 0, BYTES + PAGE), ERANGE);
	OK(codewp_arm(fx.view, 0, BYTES, CODEWP_OPEN, &res));
	ASSERT_EQ(res.done, BYTES);
}

TEST(thread_register_refuses)
{
	struct codewp_thread_opts good = { .sz = sizeof(good), .fn = conf_callback }, o;
	struct codewp_open_opts oo = conf_open_opts();
	struct codewp_thread *t, *second;
	struct fixture first;

	fx_open_with(&oo, true);
	first = fx;
	fx_open_with(&oo, true);
#define REGISTER() codewp_thread_register(fx.ctx, &t, &o)
	o = good;
	REFUSED(codewp_thread_register(NULL, &t, &o), EINVAL);
	REFUSED(codewp_thread_register(fx.ctx, NULL, &o), EINVAL);
	REFUSED(codewp_thread_register(fx.ctx, &t, NULL), EINVAL);
	o.fn = NULL;
	REFUSED(REGISTER(), EINVAL);
	o = good;
	o.raw_handler = (void *)1;
	REFUSED(REGISTER(), EINVAL);
	o = good;
	o.code_start = 10;
	o.code_end = 10;
	REFUSED(REGISTER(), EINVAL);
	o.code_end = 5;
	REFUSED(REGISTER(), EINVAL);
	o = good;
	o.kick = fx.view;	/* and the code cache is everywhere */
	REFUSED(REGISTER(), EINVAL);
	o.kick = first.view;
	o.code_end = PAGE;
	REFUSED(REGISTER(), EINVAL);
	o = good;
	o.sz = 1;
	REFUSED(REGISTER(), EINVAL);
	o = good;
	o.fn = NULL;
	o.raw_handler = (void *)~0xfffUL;
	o.code_end = PAGE;
	REFUSED(REGISTER(), conf_backend() == CODEWP_KMOD ? EFAULT : EOPNOTSUPP);
	o = good;
	OK(REGISTER());
	REFUSED(codewp_thread_register(fx.ctx, &second, &o), EBUSY);
	ASSERT(!second);
	ASSERT_EQ(!!codewp_thread_area(t), conf_backend() == CODEWP_KMOD);
	codewp_thread_unregister(t);
	codewp_thread_unregister(NULL);
	OK(REGISTER());
}

TEST(other_calls_refuse)
{
	struct codewp_stats st;
	uint64_t bits[1];

	fx_open();
	REFUSED(codewp_drain(fx.view, NULL, NULL), EINVAL);
	REFUSED(codewp_drain(NULL, nothing, NULL), EINVAL);
	REFUSED(codewp_event_fd(NULL), EINVAL);
	REFUSED(codewp_kernel_write(NULL, 0, 1), EINVAL);
	REFUSED(codewp_kernel_write(fx.view, BYTES, 1), ERANGE);
	REFUSED(codewp_kernel_write(fx.view, 2, -1UL), EOVERFLOW);
	OK(codewp_kernel_write(fx.view, BYTES, 0));
	REFUSED(codewp_armed_addr(NULL, fx.mem, 1), EINVAL);
	REFUSED(codewp_kernel_write_addr(NULL, fx.mem, 1), EINVAL);
	REFUSED(codewp_clients(NULL, 0), EINVAL);
	REFUSED(codewp_clients(fx.view, 8), EINVAL);
	REFUSED(codewp_harvest(NULL, CODEWP_CLIENT_CODE, 0, PAGE, bits), EINVAL);
	REFUSED(codewp_harvest(fx.view, CODEWP_CLIENT_CODE, 0, PAGE, NULL), EINVAL);
	REFUSED(codewp_harvest(fx.view, 3, 0, PAGE, bits), EINVAL);
	REFUSED(codewp_harvest(fx.view, 0, 0, PAGE, bits), EINVAL);
	REFUSED(codewp_harvest(fx.view, CODEWP_CLIENT_CODE, 1, PAGE, bits), EINVAL);
	REFUSED(codewp_harvest(fx.view, CODEWP_CLIENT_CODE, 0, BYTES + PAGE, bits), ERANGE);
	REFUSED(codewp_view_stats(NULL, &st), EINVAL);
	REFUSED(codewp_view_stats(fx.view, NULL), EINVAL);
	REFUSED(codewp_view_fd(NULL), EINVAL);
	REFUSED(codewp_view_memfd(NULL), EINVAL);
	if (conf_backend() == CODEWP_KMOD)
		OK(codewp_view_fd(fx.view));
	else
		REFUSED(codewp_view_fd(fx.view), EOPNOTSUPP);
	ASSERT(codewp_view_memfd(fx.view) != fx.memfd);
	ASSERT(!codewp_handle_signal(NULL, SIGSEGV, &st, &st));
	ASSERT(!codewp_handle_signal(fx.ctx, SIGUSR1, &st, &st));
}

/* ---- descriptors -------------------------------------------------------- */

TEST(descriptors_are_high_and_close_on_exec)
{
	struct codewp_open_opts o = conf_open_opts();
	bool had[1024];
	unsigned int found = 0;

	for (int fd = 0; fd < 1024; fd++)
		had[fd] = fcntl(fd, F_GETFD) >= 0;
	o.min_fd = 700;
	fx_open_with(&o, true);
	fx_register(NULL);
	OK(codewp_event_fd(fx.view));
	had[fx.memfd] = true;
	for (int fd = 0; fd < 1024; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (flags < 0 || had[fd])
			continue;
		if (fd < 700)
			TEST_FAIL("descriptor %d is below 700", fd);
		ASSERT(flags & FD_CLOEXEC);
		found++;
	}
	ASSERT_GE(found, 2);
	codewp_close(fx.ctx);
	for (int fd = 0; fd < 1024; fd++)
		if (!had[fd])
			ASSERT_ERRNO(fcntl(fd, F_GETFD), EBADF);
}

TEST(no_descriptor_left_is_an_error)
{
	struct codewp_open_opts o = conf_open_opts();
	struct rlimit rl = { 600, 600 };
	struct codewp_view *view;
	struct codewp *ctx;
	int next;

	fx_open();
	o.min_fd = 700;
	ASSERT_OK(setrlimit(RLIMIT_NOFILE, &rl));
	if (conf_backend() != CODEWP_MPROTECT)
		REFUSED(codewp_open(&ctx, &o), EINVAL);
	next = ASSERT_OK(dup(0));
	close(next);
	rl.rlim_cur = next;	/* the lowest that is free */
	ASSERT_OK(setrlimit(RLIMIT_NOFILE, &rl));
	REFUSED(codewp_view_create(fx.ctx, &view, fx.memfd, 0, PAGE, NULL), EMFILE);
	REFUSED(codewp_event_fd(fx.view), EMFILE);
	/* What was there goes on. */
	OK(codewp_arm(fx.view, 0, PAGE, CODEWP_OPEN, NULL));
	store2(fx.mem, 1);
	ASSERT_EQ(traps, 1);
}

/* ---- calls that tell ---------------------------------------------------- */

TEST(backend_info_and_names)
{
	const struct codewp_backend_info *info;
	unsigned int missing = 0;
	const char *p;
	char why[200];

	fx_open();
	info = codewp_backend_info(fx.ctx);
	ASSERT_EQ(codewp_backend_parse(info->name), conf_backend());
	ASSERT_EQ(codewp_backend_parse("auto"), CODEWP_AUTO);
	REFUSED(codewp_backend_parse("nonsense"), EINVAL);
	REFUSED(codewp_backend_parse(NULL), EINVAL);
	/* One line for each thing that it cannot do. */
	for (int bit = 0; bit < 8; bit++)
		missing += !(info->can & (1U << bit));
	for (p = info->cannot; (p = strchr(p, '\n')); p++)
		missing--;
	ASSERT_EQ(missing, 0);
	ASSERT_EQ(codewp_version(), CODEWP_VERSION);
	OK(codewp_probe(conf_backend(), why, sizeof(why)));
	ASSERT_EQ(why[0], 0);
	OK(codewp_probe(CODEWP_AUTO, NULL, 0));
	REFUSED(codewp_probe(42, why, sizeof(why)), EINVAL);
	ASSERT(why[0]);
}

TEST(every_error_has_words)
{
	fx_open();
	for (int e = 1; e < 133; e++) {
		const char *s = codewp_strerror(-e);

		ASSERT(s && *s);
		ASSERT(s == codewp_strerror(e));
	}
	ASSERT(!strcmp(codewp_strerror(-99999), "unknown error"));
	ASSERT(strstr(codewp_strerror(-ENOENT), "/dev/codewp"));
}

/* Without rights, probe says what to do, in a sentence. */
TEST(probe_says_why_not)
{
	char why[512];
	int err;

	fx_open();
	if (geteuid())
		SKIP("not root: cannot take rights away");
	ASSERT_OK(setgid(65534));
	ASSERT_OK(setuid(65534));
	err = codewp_probe(conf_backend(), why, sizeof(why));
	if (!err)
		SKIP("this backend needs no rights here");
	ASSERT(err == -EACCES || err == -EPERM);
	ASSERT(strlen(why) > 20);
	if (conf_backend() == CODEWP_KMOD)
		ASSERT(strstr(why, "/dev/codewp"));
}
