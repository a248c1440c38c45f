// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What cannot be run: one clear line and the status a shell would give, or exactly
 * what the native run does; never a hang.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>

#include "test.h"
#include "programs.h"

#define PATH_SIZE (PATH_MAX + 128)

/* A file with that content and mode in the scratch directory. */
static char *file_of(const char *name, const void *bytes, size_t size, mode_t mode)
{
	char *path;
	int fd;

	if (asprintf(&path, "%s/%s", tt.scratch, name) < 0)
		exit(1);
	unlink(path);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, bytes, size), (ssize_t)size);
	ASSERT_EQ(fchmod(fd, mode), 0);
	close(fd);
	return path;
}

static char *script_of(const char *name, const char *text)
{
	return file_of(name, text, strlen(text), 0700);
}

/* A guest program's bytes. */
static char elf[1 << 20];

static size_t read_guest(const char *name)
{
	char path[PATH_SIZE];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", tt.guests, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	n = read(fd, elf, sizeof(elf));
	ASSERT_GT(n, 0);
	close(fd);
	return n;
}

static void refused(char *path, int status, const char *word)
{
	char *argv[] = { path, NULL };
	struct result t;

	run(translated(argv, NULL), NULL, 20, &t);
	if (t.timeout || t.status != status || t.out_size)
		TEST_FAIL("status %d, not %d; '%.100s' '%.200s'", t.status, status, t.out, t.err);
	one_clear_line(&t, word);
	result_free(&t);
}

TEST(missing_program)
{
	refused("/nonexistent/program", 127, "/nonexistent/program");
	refused("no-such-program-in-path", 127, "no-such-program-in-path");
	refused("", 127, NULL);
}

TEST(not_executable)
{
	size_t n = read_guest("app_status");

	refused(file_of("noexec", elf, n, 0600), 126, "permission");
	refused(tt.scratch, 126, NULL);
	refused("/dev/null", 126, "permission");
	refused("/etc/passwd/x", 126, NULL);
}

TEST(not_a_program)
{
	refused(script_of("text", "just text, long enough to be read as a header, is it not? "
			  "It is a few more bytes than an ELF header has.\n"), 126, NULL);
	refused(script_of("empty", ""), 126, NULL);
	refused(script_of("one", "\x7f"), 126, NULL);
}

TEST(script_without_interpreter)
{
	refused(script_of("nowhere", "#!/nonexistent/interp -x\n"), 127, "/nonexistent/interp");
	refused(script_of("nothing", "#!\n"), 126, NULL);
	refused(script_of("blank", "#!   \n"), 126, NULL);
	refused(script_of("folder", "#!/tmp\n"), 126, "/tmp");
}

TEST(script_of_scripts)
{
	char first[PATH_SIZE], *last = NULL;

	/* the kernel follows a few, and then says ELOOP; a script of itself, too */
	for (int i = 0; i < 8; i++) {
		char name[16];

		snprintf(name, sizeof(name), "s%d", i);
		snprintf(first, sizeof(first), "#!%s\n", last ?: "/bin/true");
		last = script_of(name, first);
	}
	refused(last, 126, NULL);
	snprintf(first, sizeof(first), "#!%s/itself\n", tt.scratch);
	refused(script_of("itself", first), 126, NULL);
}

TEST(other_machines)
{
	size_t n = read_guest("app_status");
	Elf64_Ehdr *h = (Elf64_Ehdr *)elf;

	h->e_machine = EM_AARCH64;
	refused(file_of("arm", elf, n, 0700), 126, NULL);
	h->e_machine = EM_RISCV;
	refused(file_of("riscv", elf, n, 0700), 126, NULL);
	h->e_machine = EM_X86_64;
	h->e_type = ET_REL;
	refused(file_of("object", elf, n, 0700), 126, NULL);
	h->e_type = ET_CORE;
	refused(file_of("core", elf, n, 0700), 126, NULL);
}

/* A real 32-bit program, the smallest; not supported is not the same as no program: mov $1, %eax; mov $7, %ebx; int $0x80. */
TEST(elf_32_bit)
{
	static const uint8_t code[] = { 0xb8, 1, 0, 0, 0, 0xbb, 7, 0, 0, 0, 0xcd, 0x80 };
	struct { Elf32_Ehdr h; Elf32_Phdr p; uint8_t code[sizeof(code)]; } f = {
		.h = {
			.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC, .e_machine = EM_386, .e_version = EV_CURRENT,
			.e_entry = 0x8048000 + sizeof(f.h) + sizeof(f.p),
			.e_phoff = sizeof(f.h), .e_ehsize = sizeof(f.h),
			.e_phentsize = sizeof(f.p), .e_phnum = 1,
		},
		.p = {
			.p_type = PT_LOAD, .p_vaddr = 0x8048000, .p_paddr = 0x8048000,
			.p_filesz = sizeof(f), .p_memsz = sizeof(f), .p_flags = PF_R | PF_X,
			.p_align = 4096,
		},
	};

	memcpy(f.code, code, sizeof(code));
	refused(file_of("elf32", &f, sizeof(f), 0700), 70, "32-bit");
}

TEST(truncated)
{
	static const unsigned int cut[] = { 4, 16, 40, 63, 64, 100, 119, 200, 512, 1000 };

	for (size_t i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
		char *argv[] = { NULL, "return", "0", NULL };
		struct result n, t;

		read_guest("app_status");
		argv[0] = file_of("cut", elf, cut[i], 0700);
		run(argv, NULL, 20, &n);
		run(translated(argv, NULL), NULL, 20, &t);
		if (t.timeout)
			TEST_FAIL("cut at %u: it did not end", cut[i]);
		/* where the kernel refuses, we do; where it kills, we may refuse */
		if (t.status != 126 && !(n.status > 128 && t.status == n.status))
			TEST_FAIL("cut at %u: native %d, translated %d '%.200s'", cut[i], n.status,
				  t.status, t.err);
		if (t.status == 126)
			one_clear_line(&t, NULL);
	}
}

/*
 * Each field of the headers with each of a few bad values. Where native execution
 * fails, ours is refused with a line; where the program dies of it natively, so it
 * does here, or it is refused; where it runs, it runs.
 */
struct field { const char *name; size_t off, size; };

#define EH(f) { #f, offsetof(Elf64_Ehdr, f), sizeof(((Elf64_Ehdr *)0)->f) }
#define PH(f) { #f, offsetof(Elf64_Phdr, f), sizeof(((Elf64_Phdr *)0)->f) }

static void corrupt(const char *guest, size_t size, const char *where, const struct field *f,
		    size_t base)
{
	static const uint64_t bad[] = {
		0, 1, 7, 0x1001, 0x7ffffff, 0x7fffffff, 0xfffffff0, 0x7ffffffff000,
		0x8000000000000000, 0xfffffffffffff000, ~0ull,
	};
	char *argv[] = { NULL, "return", "0", NULL };
	struct result n, t;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		read_guest(guest);
		memcpy(elf + base + f->off, &bad[i], f->size);
		argv[0] = file_of("corrupt", elf, size, 0700);
		run(argv, NULL, 20, &n);
		run(translated(argv, NULL), NULL, 20, &t);
		if (t.timeout && !n.timeout)
			TEST_FAIL("%s %s = %#llx: it did not end (native status %d)", where, f->name,
				  (unsigned long long)bad[i], n.status);
		if (t.status == 126)
			one_clear_line(&t, NULL);
		/* 127: spawn_wait()'s for an exec that failed, or a missing loader */
		if (t.status != n.status &&
		    !(t.status == 126 && (n.status == 127 || n.status > 128)))
			TEST_FAIL("%s %s = %#llx: native status %d, translated %d '%.200s'", where,
				  f->name, (unsigned long long)bad[i], n.status, t.status, t.err);
		result_free(&n);
		result_free(&t);
	}
}

static void corrupt_program_headers(const char *guest, uint32_t type, const char *where)
{
	static const struct field ph[] = {
		PH(p_type), PH(p_flags), PH(p_offset), PH(p_vaddr), PH(p_filesz), PH(p_memsz),
		PH(p_align),
	};
	size_t size = read_guest(guest), base = 0;
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)elf;

	for (int i = h->e_phnum; i-- && !base; )
		if (((Elf64_Phdr *)(elf + h->e_phoff))[i].p_type == type)
			base = h->e_phoff + i * sizeof(Elf64_Phdr);
	ASSERT(base);
	for (size_t i = 0; i < sizeof(ph) / sizeof(ph[0]); i++)
		corrupt(guest, size, where, &ph[i], base);
}

TEST_LONG(corrupt_file_header, 90)
{
	static const struct field eh[] = {
		EH(e_ident), EH(e_type), EH(e_version), EH(e_entry), EH(e_phoff), EH(e_ehsize),
		EH(e_phentsize), EH(e_phnum), EH(e_shoff), EH(e_shnum), EH(e_flags),
	};
	size_t size = read_guest("app_status");

	for (size_t i = 0; i < sizeof(eh) / sizeof(eh[0]); i++)
		corrupt("app_status", size, "header", &eh[i], 0);
}

TEST_LONG(corrupt_last_load_segment, 90)
{
	corrupt_program_headers("app_status", PT_LOAD, "PT_LOAD");
}

TEST_LONG(corrupt_interpreter_header, 90)
{
	corrupt_program_headers("app_status", PT_INTERP, "PT_INTERP");
}

TEST_LONG(corrupt_stack_header, 90)
{
	corrupt_program_headers("app_status", PT_GNU_STACK, "PT_GNU_STACK");
}

/* The loader named in it: not there, a folder, no program, for another machine. */
TEST(bad_loader)
{
	static const char *const loader[] = {
		"/nonexistent/ld.so", "/tmp", "/etc/passwd", "relative", "",
	};

	for (size_t i = 0; i < sizeof(loader) / sizeof(loader[0]); i++) {
		size_t size = read_guest("app_status");
		char *name = memmem(elf, size, "/lib64/ld-linux", 15);
		char *argv[] = { NULL, "return", "0", NULL };
		struct result n, t;

		ASSERT(name);
		memset(name, 0, strlen(name));
		strcpy(name, loader[i]);
		argv[0] = file_of("loader", elf, size, 0700);
		run(argv, NULL, 20, &n);
		run(translated(argv, NULL), NULL, 20, &t);
		ASSERT_EQ(n.status, 127);
		if (t.timeout || (t.status != 126 && t.status != 127))
			TEST_FAIL("%s: status %d, '%.200s'", loader[i], t.status, t.err);
		one_clear_line(&t, NULL);
	}
}

/* What ld.so says, word by word. */
TEST(missing_library)
{
	char cmd[1024], *argv[] = { NULL, NULL };

	snprintf(cmd, sizeof(cmd), "cd %s && echo 'int f(void) { return 0; }' >f.c && "
		 "gcc -shared -fPIC -o libmissing.so f.c && "
		 "echo 'int f(void); int main(void) { return f(); }' >m.c && "
		 "gcc -o uses m.c -L. -lmissing && rm libmissing.so", tt.scratch);
	if (system(cmd))
		SKIP("no compiler here");
	ASSERT(asprintf(&argv[0], "%s/uses", tt.scratch) > 0);
	both_the_same(argv);
}

/* What ASan's leak check says, which traces its own process: as documented. */
TEST_LONG(leak_check_cannot_trace, 60)
{
	char path[PATH_SIZE], *argv[] = { path, "good", NULL };
	struct result n, t;

	snprintf(path, sizeof(path), "%s/app_sanitized-asan", tt.guests);
	if (access(path, X_OK))
		SKIP("no libasan here");
	setenv("ASAN_OPTIONS", "detect_leaks=1", 1);
	run(argv, NULL, 20, &n);
	if (n.status)
		SKIP("natively it cannot, either: %.200s", n.err);
	run(translated(argv, NULL), NULL, 40, &t);
	ASSERT_EQ(t.status, 1);
	ASSERT(strstr(t.err, "LeakSanitizer has encountered a fatal error"));
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	both_the_same(argv);
}

/* --- too little of what is open ---------------------------------------------------- */

/* One descriptor of the first three closed at the start. */
static void closed(const char *redirect)
{
	char cmd[2 * PATH_SIZE], *native[] = { "/bin/sh", "-c", cmd, NULL };
	struct result n, t;

	snprintf(cmd, sizeof(cmd), "exec /bin/cat /etc/hostname - %s", redirect);
	run(native, NULL, 20, &n);
	snprintf(cmd, sizeof(cmd), "exec %s %s -- /bin/cat /etc/hostname - %s", tt.runner,
		 tt.backend_opt, redirect);
	run(native, NULL, 20, &t);
	same(&n, &t);
}

TEST(closed_stdin) { closed("<&-"); }
TEST(closed_stdout) { closed(">&-"); }
TEST(closed_stderr) { closed("2>&-"); }
TEST(closed_all) { closed("<&- >&- 2>&-"); }
TEST(full_stdout) { closed(">/dev/full"); }

int main(int argc, char **argv)
{
	return tt_main(argc, argv, "codewp-bad", NULL);
}
