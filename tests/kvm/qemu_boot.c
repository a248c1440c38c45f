// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * QEMU, as Debian has it, with its guest's memory from /dev/codewp: it boots Debian's
 * kernel to a shell, while `codewp guest` watches the text of that kernel. What the
 * tool says is held against the memory itself, which this program compares before
 * and after: a page that changed must have been told, and told of the right byte.
 *
 * The machine has QEMU from tests/kvm/npt-files, and the guest's kernel as /guest.
 */
#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#include <linux/codewp.h>

#include "test.h"

#define QEMU	"/usr/bin/qemu-system-x86_64"
#define KERNEL	"/guest"
#define CODEWP	"/build/bin/codewp"
#define RAM	(256UL << 20)
#define PAGE	4096UL
/* Where the kernel's text is without KASLR; its first byte in memory is in the ELF. */
#define TEXT_VIRT	0xffffffff81000000UL

#define INITRD	"/tmp/guest-initrd"
#define MONITOR	"/tmp/guest-monitor"
#define EVENTS	"/tmp/guest-events"
#define TOOL_ERR "/tmp/guest-tool-err"

/* ---- the guest's initramfs: busybox, and a shell as the first process ---- */

static const char init[] =
	"#!/bin/busybox sh\n"
	"/bin/busybox --install -s /bin\n"
	"mkdir /proc\n"
	"mount -t proc proc /proc\n"
	"echo 3 >/proc/sys/kernel/printk\n"
	"stty -echo </dev/console\n"
	"echo guest-is-up\n"
	"exec sh -i\n";

static void cpio(FILE *f, const char *name, mode_t mode, const void *data, size_t size)
{
	static unsigned int ino;
	size_t n = strlen(name) + 1;

	fprintf(f, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x%s",
		++ino, (unsigned int)mode, 0, 0, 1, 0, size, 0, 0, 0, 0, n, 0, name);
	fwrite("\0\0\0\0", 1, 1 + (-(110 + n) & 3), f);
	fwrite(data, 1, size, f);
	fwrite("\0\0\0\0", 1, -size & 3, f);
}

static void *map_file(const char *path, size_t *size)
{
	int fd = ASSERT_OK(open(path, O_RDONLY | O_CLOEXEC));
	struct stat st;
	void *p;

	ASSERT_OK(fstat(fd, &st));
	p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	ASSERT(p != MAP_FAILED);
	close(fd);
	*size = st.st_size;
	return p;
}

static void make_initrd(void)
{
	FILE *f = fopen(INITRD, "w");
	size_t size;
	void *busybox = map_file("/usr/bin/busybox", &size);

	ASSERT(f);
	cpio(f, "bin", S_IFDIR | 0755, "", 0);
	cpio(f, "bin/busybox", S_IFREG | 0755, busybox, size);
	cpio(f, "init", S_IFREG | 0755, init, strlen(init));
	cpio(f, "TRAILER!!!", 0, "", 0);
	ASSERT_EQ(fclose(f), 0);
}

/* Where the kernel's text will be in guest-physical memory: its R-X segment. */
static void text_range(uint64_t *start, uint64_t *end)
{
	size_t size, i;
	const unsigned char *elf = map_file(KERNEL, &size);
	const Elf64_Ehdr *eh = (const void *)elf;
	const Elf64_Phdr *ph = (const void *)(elf + eh->e_phoff);

	ASSERT(!memcmp(elf, ELFMAG, SELFMAG));
	*start = *end = 0;
	for (i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type != PT_LOAD || (ph[i].p_flags & (PF_W | PF_X)) != PF_X)
			continue;
		ASSERT_EQ(ph[i].p_vaddr, TEXT_VIRT);
		*start = ph[i].p_paddr;
		*end = ph[i].p_paddr + ph[i].p_filesz;
	}
	if (!*end)
		TEST_FAIL("no text segment in " KERNEL);
}

/* ---- QEMU, its serial line and its monitor ---- */

struct vmm {
	pid_t pid;
	int serial_in, serial_out, monitor;
	char said[1 << 16];	/* by the guest since the last command */
	size_t n;
};

static struct vmm vmm;

/* The end of what the guest said, as comments. */
static void show_said(void)
{
	char *line, *save = NULL;

	for (line = strtok_r(vmm.said + (vmm.n > 6000 ? vmm.n - 6000 : 0), "\r\n", &save);
	     line; line = strtok_r(NULL, "\r\n", &save))
		printf("# guest: %s\n", line);
	fflush(stdout);
}

/* Until the guest says @what; what it said is in vmm.said. */
static void expect(const char *what)
{
	struct pollfd p = { .fd = vmm.serial_out, .events = POLLIN };
	ssize_t n;

	while (!strstr(vmm.said, what)) {
		/* The test's own time limit is the limit. */
		poll(&p, 1, -1);
		n = read(vmm.serial_out, vmm.said + vmm.n, sizeof(vmm.said) - 1 - vmm.n);
		if (n <= 0) {
			show_said();
			TEST_FAIL("the guest ended before '%s'", what);
		}
		vmm.n += n;
		vmm.said[vmm.n] = '\0';
		/* A long boot: only the end counts. */
		if (vmm.n > sizeof(vmm.said) / 2) {
			memmove(vmm.said, vmm.said + vmm.n - 8192, 8193);
			vmm.n = 8192;
		}
	}
}

/* A command for the guest's shell, until it has been executed. */
__attribute__((format(printf, 1, 2)))
static void command(const char *fmt, ...)
{
	static int serial;
	char line[2048], done[32];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 64, fmt, ap);
	va_end(ap);
	/* The sum is not in the command: the terminal's echo is no answer. */
	serial++;
	n += sprintf(line + n, "; echo done-$((%d * 1000))\n", serial);
	vmm.n = 0;
	vmm.said[0] = '\0';
	ASSERT_EQ(write(vmm.serial_in, line, n), n);
	snprintf(done, sizeof(done), "done-%d", serial * 1000);
	expect(done);
}

static void monitor_command(const char *line)
{
	ASSERT_EQ(write(vmm.monitor, line, strlen(line)), (ssize_t)strlen(line));
}

/* Until it prompts: by then QEMU is made up of all that it was told to be. */
static void monitor_connect(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = MONITOR };
	char said[1024] = "";
	size_t n = 0;
	ssize_t got;

	vmm.monitor = ASSERT_OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	while (connect(vmm.monitor, (struct sockaddr *)&un, sizeof(un))) {
		if (waitpid(vmm.pid, NULL, WNOHANG))
			TEST_FAIL("QEMU ended at once");
		usleep(50000);
	}
	while (!strstr(said, "(qemu)")) {
		got = read(vmm.monitor, said + n, sizeof(said) - 1 - n);
		if (got <= 0)
			TEST_FAIL("QEMU ended before its monitor said '(qemu)': %.200s", said);
		n += got;
		said[n] = '\0';
	}
}

/* Stopped before its first instruction. */
static void start_qemu(void)
{
	int in[2], out[2];

	unlink(MONITOR);
	ASSERT_OK(pipe2(in, O_CLOEXEC));
	ASSERT_OK(pipe2(out, O_CLOEXEC));
	vmm.pid = ASSERT_OK(fork());
	if (!vmm.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(QEMU, QEMU, "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "256",
		      "-object", "memory-backend-file,id=m,size=256M,mem-path=/dev/codewp,share=on",
		      "-machine", "pc,memory-backend=m", "-nodefaults", "-no-user-config",
		      "-display", "none", "-no-reboot", "-S", "-serial", "stdio",
		      "-monitor", "unix:" MONITOR ",server=on,wait=off",
		      "-kernel", KERNEL, "-initrd", INITRD, "-append",
		      "console=ttyS0 quiet nokaslr tsc=reliable no_timer_check lpj=4000000 panic=-1",
		      NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	vmm.serial_in = in[1];
	vmm.serial_out = out[0];
	monitor_connect();
}

/* The guest's memory, by the descriptor that QEMU has of it. */
static const unsigned char *guest_memory(void)
{
	int pidfd = ASSERT_OK(syscall(SYS_pidfd_open, vmm.pid, 0));
	char path[64], link[PATH_MAX];
	struct codewp_view_info info;
	struct dirent *d;
	void *p;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fd", vmm.pid);
	dir = opendir(path);
	ASSERT(dir);
	while ((d = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), d->d_name, link, sizeof(link) - 1);

		if (n < 0)
			continue;
		link[n] = '\0';
		if (strcmp(link, "/dev/codewp"))
			continue;
		fd = ASSERT_OK(syscall(SYS_pidfd_getfd, pidfd, atoi(d->d_name), 0));
		memset(&info, 0, sizeof(info));
		ASSERT_OK(ioctl(fd, CODEWP_IOC_VIEW_INFO, &info));
		ASSERT_EQ(info.length, RAM);
		p = mmap(NULL, RAM, PROT_READ, MAP_SHARED, fd, CODEWP_MMAP_DATA);
		ASSERT(p != MAP_FAILED);
		closedir(dir);
		return p;
	}
	TEST_FAIL("QEMU has no descriptor of /dev/codewp");
}

/* ---- the tool ---- */

static char *slurp(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = NULL;
	size_t n = 0;

	if (!f || getdelim(&text, &n, '\0', f) < 0)
		text = strdup("");
	if (f)
		fclose(f);
	return text;
}

static pid_t start_tool(uint64_t start, uint64_t end)
{
	char pid[16], range[64], *err;
	pid_t tool;
	int out, e;

	snprintf(pid, sizeof(pid), "%d", vmm.pid);
	snprintf(range, sizeof(range), "0x%lx-0x%lx", start, end);
	out = ASSERT_OK(open(EVENTS, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	e = ASSERT_OK(open(TOOL_ERR, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	tool = ASSERT_OK(fork());
	if (!tool) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out, 1);
		dup2(e, 2);
		execl(CODEWP, "codewp", "guest", "--pid", pid, "--arm", range, "--events",
		      "-n", "0", NULL);
		_exit(127);
	}
	close(out);
	close(e);
	while (!strstr(err = slurp(TOOL_ERR), "armed")) {
		if (waitpid(tool, NULL, WNOHANG))
			TEST_FAIL("codewp guest ended: %s", err);
		free(err);
		usleep(50000);
	}
	free(err);
	return tool;
}

/* No event for two seconds: every page that was written has been armed again. */
static size_t quiet(void)
{
	struct stat st, last = {};

	for (;;) {
		ASSERT_OK(stat(EVENTS, &st));
		if (st.st_size == last.st_size)
			return st.st_size;
		last = st;
		sleep(2);
	}
}

struct told {
	unsigned int *writes;	/* per page of the text */
	uint64_t *bytes;	/* that were written, of each event in turn */
	size_t n, pages;
	size_t only_page;	/* events that the ring had no room for */
};

/* What the tool said from byte @from of its output on; a table ends the events. */
static struct told read_events(size_t from, uint64_t start, uint64_t end)
{
	char *text = slurp(EVENTS), *line, *save = NULL;
	struct told t = {};

	t.writes = calloc((end - start) / PAGE + 1, sizeof(*t.writes));
	t.bytes = calloc(strlen(text) / 10 + 1, sizeof(*t.bytes));
	ASSERT(t.writes && t.bytes);
	for (line = strtok_r(text + from, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		unsigned long byte;
		char who[40];
		double when;

		if (strstr(line, "PAGE"))
			break;
		if (sscanf(line, "%lf %lx %39[^\n]", &when, &byte, who) != 3)
			TEST_FAIL("the tool said '%s'", line);
		ASSERT_GE(byte, start);
		ASSERT_LT(byte, end);
		if (!strcmp(who, "?"))
			t.only_page++;
		else if (strcmp(who, "vcpu 0"))
			TEST_FAIL("0x%lx was written by '%s', not by vcpu 0", byte, who);
		t.pages += !t.writes[(byte - start) / PAGE]++;
		t.bytes[t.n++] = byte;
	}
	free(text);
	return t;
}

static bool is_changed(const unsigned char *a, const unsigned char *b, size_t page)
{
	return memcmp(a + page * PAGE, b + page * PAGE, PAGE);
}

/* Every page that changed was told. How many did. */
static size_t all_told(const unsigned char *before, const unsigned char *now, size_t size,
		       const struct told *t)
{
	size_t i, n = 0;

	for (i = 0; i < size / PAGE; i++) {
		if (!is_changed(before, now, i))
			continue;
		n++;
		if (!t->writes[i])
			TEST_FAIL("page %zu of the text changed, and nothing was said", i);
	}
	return n;
}

static unsigned char *copy(const unsigned char *p, size_t size)
{
	unsigned char *c = malloc(size);

	ASSERT(c);
	return memcpy(c, p, size);
}

/* The guest's functions in which the bytes are, as lines in vmm.said. */
static void functions_of(const struct told *t, uint64_t start)
{
	char args[1024];
	size_t i, n = 0;

	for (i = 0; i < t->n && n < sizeof(args) - 32; i++)
		n += sprintf(args + n, " %lx", TEXT_VIRT + t->bytes[i] - start);
	command("for a in%s; do awk -v a=$a '$2 ~ /[tT]/ && $1 \"\" <= a \"\" && $1 \"\" >= b \"\" { b = $1; n = $3 } END { print \"in \" n }' /proc/kallsyms; done",
		args);
}

TEST_LONG(kernel_text_is_watched, 150)
{
	const char *machine = getenv("CODEWP_MACHINE");
	const unsigned char *text;
	unsigned char *before;
	uint64_t start, end;
	struct told t;
	size_t size, n, from, i;
	pid_t tool;
	int st;

	if (machine && strcmp(machine, "npt"))
		SKIP("a whole kernel in this machine would take too long; it runs in npt");
	make_initrd();
	text_range(&start, &end);
	size = (end - start) & -PAGE;
	end = start + size;
	start_qemu();
	text = guest_memory() + start;
	/* The image is where it belongs, before the guest runs. */
	before = copy(text, size);
	for (i = 0; i < size && !before[i]; i++)
		;
	ASSERT_LT(i, PAGE);

	/* Booting: alternatives, static calls and keys, ftrace's sites. */
	tool = start_tool(start, end);
	monitor_command("cont\n");
	expect("guest-is-up");
	command("true");
	from = quiet();
	t = read_events(0, start, end);
	n = all_told(before, text, size, &t);
	printf("# booting: %zu writes told on %zu pages (of %zu only the page), %zu of %zu pages have changed\n",
	       t.n, t.pages, t.only_page, n, size / PAGE);
	/* Alternatives are all over the text, which is about half of the segment. */
	ASSERT_GT(n, size / PAGE / 4);

	/* A static key. Its sites are jumps of five bytes, or no-operations. */
	free(before);
	before = copy(text, size);
	command("echo 1 >/proc/sys/kernel/sched_schedstats");
	quiet();
	t = read_events(from, start, end);
	n = all_told(before, text, size, &t);
	printf("# a static key: %zu writes told on %zu pages, %zu pages have changed\n",
	       t.n, t.pages, n);
	ASSERT_GT(n, 3UL);
	/* Keys of the guest's own that it turned on and off again leave no change. */
	ASSERT_LT(t.pages, n + 10);
	ASSERT_EQ(t.only_page, 0UL);
	for (i = 0; i < t.n; i++) {
		uint64_t off = t.bytes[i] - start;

		/* The first write to a site is to its first byte, which is another then. */
		if (is_changed(before, text, off / PAGE) && t.writes[off / PAGE] == 1 &&
		    before[off] == text[off])
			TEST_FAIL("byte 0x%lx was told, and is what it was", t.bytes[i]);
	}
	functions_of(&t, start);
	if (!strstr(vmm.said, "in enqueue_task_fair") && !strstr(vmm.said, "in try_to_wake_up"))
		TEST_FAIL("the key of the scheduler's statistics, but: %.300s", vmm.said);

	/* The guest ends, with it QEMU, and with that the tool. */
	ASSERT_GT(dprintf(vmm.serial_in, "poweroff -f\n"), 0);
	ASSERT_EQ(ASSERT_OK(waitpid(vmm.pid, &st, 0)), vmm.pid);
	ASSERT_EQ(st, 0);
	ASSERT_EQ(ASSERT_OK(waitpid(tool, &st, 0)), tool);
	if (st)
		TEST_FAIL("codewp guest: status 0x%x: %s", st, slurp(TOOL_ERR));
	ASSERT(strstr(slurp(EVENTS), "writes seen, on"));
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	return test_main(argc, argv);
}
