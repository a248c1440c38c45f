// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What a VMM can do wrong, or can have happen to it: each has its errno or its message,
 * no guest data is lost, and the kernel stays quiet (its log is looked at afterwards).
 */
#include <sys/prctl.h>

#include "vmm_test.h"

#define DEST	0x400000UL
#define COUNTER	0x200000UL

extern const uint8_t piece_pages[], piece_pages_end[];

static void start(struct vmm *vm, uint64_t rdi, uint64_t rcx)
{
	struct kvm_regs r;

	kv_code(vm, piece_pages, piece_pages_end);
	ASSERT_EQ(vmm_get_regs(vmm_vcpu(vm, 0), &r), 0);
	r.rdi = rdi;
	r.rcx = rcx;
	r.r10 = COUNTER;
	ASSERT_EQ(vmm_set_regs(vmm_vcpu(vm, 0), &r), 0);
}

static void refused(struct vmm_opts *o, int err, const char *says)
{
	struct vmm *vm = (void *)1;
	char why[256] = "";
	int got;

	o->sz = o->sz ?: sizeof(*o);
	got = vmm_create(&vm, o, why, sizeof(why));
	if (got != err || vm || !strstr(why, says))
		TEST_FAIL("got %s, \"%s\"; want %s, \"%s\"", strerrorname_np(-got) ?: "0", why,
			  strerrorname_np(-err), says);
}

TEST(options)
{
	kv_features();
	refused(&(struct vmm_opts){ .ram = 4097 }, -EINVAL, "multiple");
	refused(&(struct vmm_opts){ .ram = 4096 }, -EINVAL, "at least");
	refused(&(struct vmm_opts){ .ram = VMM_MAX_RAM + 4096 }, -EINVAL, "at most");
	refused(&(struct vmm_opts){ .cpus = VMM_MAX_CPUS + 1 }, -EINVAL, "vCPUs");
	refused(&(struct vmm_opts){ .mem = 9 }, -EINVAL, "version");
	refused(&(struct vmm_opts){ .follow = 9 }, -EINVAL, "version");
	refused(&(struct vmm_opts){ .sz = 8 }, -EINVAL, "version");
	refused(&(struct vmm_opts){ .mem = VMM_MEM_PLAIN, .follow = VMM_FOLLOW_STEP }, -EINVAL,
		"plain memory");
	refused(&(struct vmm_opts){ .mem = VMM_MEM_ATTACH, .fd = -1 }, -EBADF, "no view");
}

/* Memory that is no view: nothing is told, and asking for it is refused. */
TEST(slot_that_is_no_view)
{
	struct vmm_opts o = { .mem = VMM_MEM_PLAIN };
	struct vmm *vm = kv_vm(&o);
	struct vmm_exit e;

	start(vm, DEST, 2);
	kv_run_to(vmm_vcpu(vm, 0), PORT_ROUND);
	ASSERT(!vmm_view(vm));
	ASSERT_EQ(vmm_drain(vm), 0);
	ASSERT_EQ(vmm_follow_here(vmm_vcpu(vm, 0)), -EINVAL);
	ASSERT_EQ(vmm_step_store(vmm_vcpu(vm, 0), &e), -EINVAL);
	ASSERT_EQ(vmm_let_store(vmm_vcpu(vm, 0)), -EINVAL);
	vmm_destroy(vm);

	/* A view armed in vain: the guest's slot is other memory. */
	o = (struct vmm_opts){ .mem = VMM_MEM_MEMFD, .no_slot = true };
	vm = kv_vm(&o);
	ASSERT_EQ(vmm_slot(vm, 0, 0, vmm_ram_bytes(vm),
			   mmap(NULL, vmm_ram_bytes(vm), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0), 0);
	kv_arm(vm, 0, vmm_ram_bytes(vm), CODEWP_OPEN);
	/* Nothing is there but zeroes: the guest cannot get far. */
	ASSERT_EQ(vmm_boot_real(vm, VMM_REAL_LOAD), 0);
	vmm_vcpu_kick(vmm_vcpu(vm, 0));
	ASSERT_EQ(vmm_vcpu_run(vmm_vcpu(vm, 0), &e), 0);
	ASSERT_EQ(e.kind, VMM_EXIT_KICK);
	ASSERT_EQ(vmm_drain(vm), 0);
	ASSERT(kv_armed(vm, DEST));
	vmm_destroy(vm);
}

/* KVM takes any slot; what is not behind it is found when the guest goes there. */
TEST(view_smaller_than_slot)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD, .no_slot = true };
	struct vmm *vm = kv_vm(&o);
	uint64_t bytes = vmm_ram_bytes(vm);
	struct vmm_exit e;
	char *room;
	int err;

	/* Our RAM at the beginning of a hole that nobody else will fill. */
	room = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(room != MAP_FAILED);
	ASSERT(mremap(vmm_ram(vm), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, room) == room);
	ASSERT_OK(munmap(room + bytes, bytes));
	ASSERT_EQ(vmm_slot(vm, 0, 0, 2 * bytes, room, 0), 0);
	/* The library's pointer is where the RAM was: put it there again for its writes. */
	ASSERT(mmap(vmm_ram(vm), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    codewp_view_fd(vmm_view(vm)), 0) == vmm_ram(vm));
	start(vm, bytes - PAGE, 2);
	kv_arm(vm, bytes - PAGE, PAGE, CODEWP_OPEN);
	ASSERT_EQ(kv_run(vmm_vcpu(vm, 0), &e), VMM_EXIT_BAD_MEM);
	kv_drain(vm);
	/* The store inside was done and told, the one outside was not. */
	ASSERT_EQ(kv_u64(vm, COUNTER), 1);
	ASSERT(!kv_armed(vm, bytes - PAGE));
	err = codewp_arm(vmm_view(vm), bytes, PAGE, CODEWP_OPEN, NULL);
	ASSERT_EQ(err, -ERANGE);
	vmm_destroy(vm);
}

/* The file is cut behind the guest: its store fails, and comes when it is long again. */
TEST(file_cut)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD };
	struct vmm *vm = kv_vm(&o);
	struct vmm_exit e;
	int memfd = codewp_view_memfd(vmm_view(vm));

	start(vm, DEST, 2);
	kv_arm(vm, DEST, 2 * PAGE, CODEWP_OPEN);
	ASSERT_OK(ftruncate(memfd, DEST + PAGE));
	ASSERT_EQ(kv_run(vmm_vcpu(vm, 0), &e), VMM_EXIT_BAD_MEM);
	ASSERT_EQ(kv_u64(vm, COUNTER), 1);
	ASSERT_OK(ftruncate(memfd, vmm_ram_bytes(vm)));
	kv_run_to(vmm_vcpu(vm, 0), PORT_ROUND);
	ASSERT_EQ(kv_u64(vm, COUNTER), 2);
	ASSERT_EQ(*((uint8_t *)vmm_ram(vm) + DEST + PAGE), 1);
	vmm_destroy(vm);
}

TEST(arming_beyond_the_end)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD };
	struct vmm *vm = kv_vm(&o);
	struct codewp_arm_result res;
	uint64_t bytes = vmm_ram_bytes(vm);

	ASSERT_EQ(codewp_arm(vmm_view(vm), bytes, PAGE, CODEWP_OPEN, &res), -ERANGE);
	ASSERT_EQ(codewp_arm(vmm_view(vm), bytes - PAGE, 2 * PAGE, CODEWP_OPEN, &res),
		  -ERANGE);
	ASSERT_EQ(codewp_arm(vmm_view(vm), 1, PAGE, CODEWP_OPEN, &res), -EINVAL);
	ASSERT_EQ(codewp_arm(vmm_view(vm), 0, PAGE, 77, &res), -EINVAL);
	ASSERT(!kv_armed(vm, bytes - PAGE));
	vmm_destroy(vm);
}

/* Nobody reads the ring, and it is full: a stop is one all the same. */
TEST_LONG(stop_with_no_reader, 60)
{
	struct vmm_opts o = { .mem = VMM_MEM_MEMFD, .ring_bytes = 4096 };
	static struct kv_events ev;
	struct vmm_exit e;
	struct vmm *vm;

	kv_need_stop();
	vm = kv_vm(&o);
	start(vm, DEST, 100);
	kv_arm(vm, DEST, 100 * PAGE, CODEWP_OPEN);
	kv_run_to(vmm_vcpu(vm, 0), PORT_ROUND);
	/* 64 events are in the ring, 36 did not fit. */
	kv_watch_events(vm, &ev);
	kv_arm(vm, DEST, PAGE, CODEWP_STOP);
	ASSERT_EQ(kv_run(vmm_vcpu(vm, 0), &e), VMM_EXIT_STOP);
	ASSERT_EQ(e.voff / PAGE, DEST / PAGE);
	ASSERT(kv_armed(vm, DEST));
	ASSERT_EQ(*((uint8_t *)vmm_ram(vm) + DEST), 1);
	/* The overflow says of every page that was written that it was. */
	for (int i = 1; i < 100; i++)
		ASSERT_GE(kv_count(&ev, DEST + i * PAGE), 1);
	/* Asked again without a change, it stops again. */
	ASSERT_EQ(kv_run(vmm_vcpu(vm, 0), &e), VMM_EXIT_STOP);
	ASSERT_EQ(vmm_let_store(vmm_vcpu(vm, 0)), 0);
	kv_run_to(vmm_vcpu(vm, 0), PORT_ROUND);
	ASSERT_EQ(*((uint8_t *)vmm_ram(vm) + DEST), 2);
	vmm_destroy(vm);
}

static unsigned int views(void)
{
	struct codewp_info info = { };
	int fd = ASSERT_OK(open("/dev/codewp", O_RDWR | O_CLOEXEC));

	ASSERT_OK(ioctl(fd, CODEWP_IOC_INFO, &info));
	close(fd);
	return info.views;
}

/* KVM gives a VM up from a work queue of its own. */
static void views_come_to(unsigned int want)
{
	for (int i = 0; i < 500 && views() != want; i++)
		usleep(20000);
	ASSERT_EQ(views(), want);
}

/*
 * A VMM dies: between a stop and what it would do about it, and while its vCPU stops
 * again and again. Another process that has the view keeps it, and the guest's RAM as
 * it was before the store.
 */
static void killed(bool in_the_middle)
{
	unsigned int before = views();
	int sock[2], status, fd;
	char c;
	pid_t pid;

	ASSERT_OK(pipe(sock));
	pid = ASSERT_OK(fork());
	if (!pid) {
		struct vmm_opts o = { .mem = VMM_MEM_ANON };
		struct vmm *vm = kv_vm(&o);
		struct vmm_exit e;

		/* The plain number: the parent takes the descriptor by it. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		start(vm, DEST, 1);
		kv_arm(vm, DEST, PAGE, CODEWP_STOP);
		ASSERT_EQ(kv_run(vmm_vcpu(vm, 0), &e), VMM_EXIT_STOP);
		fd = codewp_view_fd(vmm_view(vm));
		ASSERT_EQ(write(sock[1], &fd, sizeof(fd)), (ssize_t)sizeof(fd));
		for (;;)
			if (in_the_middle)
				ASSERT_EQ(kv_run(vmm_vcpu(vm, 0), &e), VMM_EXIT_STOP);
			else
				pause();
	}
	close(sock[1]);
	if (read(sock[0], &fd, sizeof(fd)) != sizeof(fd)) {
		ASSERT_OK(waitpid(pid, &status, 0));
		/* It has said why. */
		_exit(WEXITSTATUS(status) ?: 1);
	}
	{
		int pidfd = ASSERT_OK(syscall(SYS_pidfd_open, pid, 0));
		int view = ASSERT_OK(syscall(SYS_pidfd_getfd, pidfd, fd, 0));
		struct codewp_stat st;
		volatile char *p;

		usleep(100000);
		ASSERT_OK(kill(pid, SIGKILL));
		ASSERT_OK(waitpid(pid, &status, 0));
		ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		ASSERT_EQ(read(sock[0], &c, 1), 0);

		ASSERT_OK(ioctl(view, CODEWP_IOC_STAT, &st));
		ASSERT_EQ(st.armed, 1);
		ASSERT_GE(st.stops, 1);
		p = mmap(NULL, DEST + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, view, 0);
		ASSERT(p != MAP_FAILED);
		ASSERT_EQ(p[DEST], 0);
		ASSERT_EQ(*(volatile uint64_t *)(p + COUNTER), 0);
		/* Ours is a store as any, though the page was armed to stop a guest's. */
		p[DEST] = 1;
		ASSERT_OK(ioctl(view, CODEWP_IOC_STAT, &st));
		ASSERT_EQ(st.armed, 0);
		ASSERT_OK(munmap((void *)p, DEST + PAGE));
		close(view);
		close(pidfd);
	}
	views_come_to(before);
}

TEST_LONG(killed_at_a_stop, 60)
{
	kv_need_stop();
	killed(false);
}

TEST_LONG(killed_while_stopping, 60)
{
	kv_need_stop();
	killed(true);
}

/* The view's last name is gone; the memory slot keeps the pages, and traps go on. */
TEST(view_closed_before_the_vm)
{
	struct vmm_opts o = { .mem = VMM_MEM_PLAIN };
	struct codewp_view *view = NULL;
	struct codewp *ctx = NULL;
	struct vmm *vm;
	void *p = NULL;

	kv_features();
	ASSERT_EQ(codewp_open(&ctx, NULL), 0);
	ASSERT_EQ(codewp_view_anon(ctx, &view, 1 << 20, NULL), 0);
	ASSERT_EQ(codewp_map(view, &p, 1 << 20, 0, PROT_READ | PROT_WRITE, 0), 0);
	vm = kv_vm(&o);
	ASSERT_EQ(vmm_slot(vm, 1, 0x10000000, 1 << 20, p, 0), 0);
	start(vm, 0x10000000, 4);
	ASSERT_EQ(codewp_arm(view, 0, 1 << 20, CODEWP_OPEN, NULL), 0);
	kv_run_to(vmm_vcpu(vm, 0), PORT_ROUND);
	codewp_view_destroy(view);
	codewp_close(ctx);
	kv_run_to(vmm_vcpu(vm, 0), PORT_ROUND);
	ASSERT_EQ(((uint8_t *)p)[3 * PAGE], 2);
	vmm_destroy(vm);
	ASSERT_OK(munmap(p, 1 << 20));
}

int main(int argc, char **argv)
{
	return test_main(argc, argv);
}
