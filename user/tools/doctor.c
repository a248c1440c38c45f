// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * codewp-doctor - which ways to trap writes work here, and for each that does
 * not: why, and what to do. Looks only; changes nothing.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <linux/bpf.h>

#include <codewp.h>

#include "probes.h"
#include "tool.h"

enum verdict { GOOD, NOTE, BAD };

static void line(enum verdict v, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* One finding; the text is wrapped behind the name, below 80 columns. */
static void line(enum verdict v, const char *what, const char *fmt, ...)
{
	static const char * const mark[] = { "yes", "-", "NO" };
	char text[1024], *word, *save = NULL;
	int col = 0;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printf("  %-3s  %-10s", mark[v], what);
	for (word = strtok_r(text, " \n", &save); word;
	     word = strtok_r(NULL, " \n", &save)) {
		int n = strlen(word);

		if (col && col + 1 + n > 62) {
			printf("\n  %-3s  %-10s", "", "");
			col = 0;
		}
		col += printf(" %s", word);
	}
	putchar('\n');
}

/* First line of a file, without its end; false if it cannot be read. */
static bool read_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok;

	if (!f)
		return false;
	ok = fgets(buf, size, f);
	fclose(f);
	if (ok)
		buf[strcspn(buf, "\n")] = '\0';
	return ok;
}

static int check_backends(void)
{
	static const struct {
		enum codewp_backend backend;
		const char *name, *what;
	} all[] = {
		{ CODEWP_KMOD, "kmod", "the kernel module: all rules hold, a trap is no signal" },
		{ CODEWP_UFFD, "uffd", "userfaultfd write protection: a trap is a SIGBUS" },
		{ CODEWP_MPROTECT, "mprotect", "works everywhere: a trap is a SIGSEGV" },
	};
	const char *best = NULL;
	char why[512];
	size_t i;

	puts("Backends, best first:");
	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct codewp_open_opts opts = {
			.sz = sizeof(opts),
			.backend = all[i].backend,
			.own_signals = true,
		};
		struct codewp *ctx;
		int err;

		why[0] = '\0';
		err = codewp_probe(all[i].backend, why, sizeof(why));
		if (err) {
			line(BAD, all[i].name, "%s", why[0] ? why : codewp_strerror(err));
			continue;
		}
		/* The probe says that it works: the proof is to open it. */
		err = codewp_open(&ctx, &opts);
		if (err) {
			line(BAD, all[i].name, "looks good, but does not open: %s",
			     codewp_strerror(err));
			continue;
		}
		codewp_close(ctx);
		line(GOOD, all[i].name, "%s", all[i].what);
		if (!best)
			best = all[i].name;
	}
	if (best)
		printf("\n'codewp run' will take %s.\n", best);
	else
		puts("\nNone works: 'codewp run' cannot trap writes here.");
	return best ? 0 : 1;
}

static void check_kernel(void)
{
	char path[PATH_MAX], buf[512], tainted[32] = "0";
	struct utsname u;

	uname(&u);
	puts("\nKernel:");
	line(GOOD, "version", "%s %s", u.release, u.machine);
	snprintf(path, sizeof(path), "/lib/modules/%s/build/Makefile", u.release);
	if (!access(path, R_OK))
		line(GOOD, "headers", "/lib/modules/%s/build", u.release);
	else
		line(NOTE, "headers",
		     "not installed: the module cannot be built for this kernel (Debian: apt install linux-headers-%s)",
		     u.release);
	if (!access("/sys/module/codewp", F_OK))
		line(GOOD, "module", "codewp is loaded");
	else if (access("/proc/modules", F_OK))
		line(NOTE, "module", "this kernel takes no modules: use uffd or mprotect");
	else if (read_line("/proc/sys/kernel/modules_disabled", buf, sizeof(buf)) &&
		 strcmp(buf, "0"))
		line(NOTE, "module",
		     "not loaded, and kernel.modules_disabled forbids it until the next boot");
	else if (read_line("/sys/kernel/security/lockdown", buf, sizeof(buf)) &&
		 !strstr(buf, "[none]"))
		line(NOTE, "module",
		     "not loaded; the kernel is locked down (%s): the module must be signed with a key that it knows (mokutil --import)",
		     buf);
	else
		line(NOTE, "module", "not loaded: make kmod, then insmod codewp.ko as root");
	if (read_line("/proc/sys/kernel/tainted", tainted, sizeof(tainted)) &&
	    strcmp(tainted, "0"))
		line(NOTE, "taint", "%s (an unsigned or foreign module gives 12288)", tainted);
	if (read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", buf, sizeof(buf)))
		line(strstr(buf, "[never]") || strstr(buf, "[deny]") ? GOOD : NOTE, "hugepages",
		     "shmem_enabled is %s%s", buf,
		     strstr(buf, "[never]") || strstr(buf, "[deny]") ? "" :
		     ": right, but an arm cleans the whole large page");
}

/* As little as there can be: r0 = 0; exit. */
static int bpf_works(void)
{
	struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT,
		.insns = (uintptr_t)insns,
		.insn_cnt = 2,
		.license = (uintptr_t)"GPL",
	};
	int fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static void check_tracing(void)
{
	char path[PATH_MAX], why[512];
	const char *tracefs = probes_tracefs();
	struct probes_opts po = { };
	struct probes *p;
	int err;

	puts("\nTracing (codewp stat, codewp top):");
	err = bpf_works();
	if (!err)
		line(GOOD, "eBPF", "programs can be loaded");
	else if (err == -EPERM || err == -EACCES)
		line(BAD, "eBPF", "not allowed: be root, or have CAP_BPF and CAP_PERFMON");
	else
		line(BAD, "eBPF", "%s: the kernel needs CONFIG_BPF_SYSCALL and CONFIG_BPF_EVENTS",
		     strerror(-err));
	if (!access("/sys/bus/event_source/devices/uprobe/type", R_OK))
		line(GOOD, "uprobes", "the translator's USDT probes can be attached");
	else
		line(BAD, "uprobes",
		     "this kernel has no CONFIG_UPROBE_EVENTS, or sysfs is not mounted");
	if (tracefs)
		line(GOOD, "tracefs", "%s", tracefs);
	else if (geteuid())
		line(NOTE, "tracefs", "not to be seen by this user");
	else
		line(BAD, "tracefs",
		     "not mounted: mount -t tracefs tracefs /sys/kernel/tracing");
	if (tracefs && !access("/sys/module/codewp", F_OK)) {
		snprintf(path, sizeof(path), "%s/events/codewp", tracefs);
		err = probes_check_format(path, why, sizeof(why));
		if (err)
			line(BAD, "format", "%s", why);
		else
			line(GOOD, "format", "module and tools are of one version");
	}
	if (!tool_sibling("codewp-run", path, sizeof(path)))
		line(BAD, "codewp-run", "not beside this program: was it built?");
	if (bpf_works())
		return;
	err = probes_open(&p, &po, why, sizeof(why));
	if (err) {
		line(BAD, "attach", "%s", why);
		return;
	}
	line(probes_module(p) ? NOTE : GOOD, "module", "%s",
	     probes_module(p) ?: "its tracepoints are counted");
	line(probes_usdt(p) ? BAD : GOOD, "USDT", "%s",
	     probes_usdt(p) ?: "the translator's probes are counted");
	probes_close(p);
}

static void usage(FILE *f)
{
	fputs("Usage: codewp doctor\n"
	      "Say which ways to trap writes work here, and for each that does not, why.\n\n"
	      "  -h, --help   this text\n\n"
	      "The exit status is 0 if at least one backend works, else 1.\n", f);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int c, status;

	tool_name = "codewp doctor";
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h') {
			usage(stdout);
			return 0;
		}
		fprintf(stderr, "Try '%s --help'.\n", tool_name);
		return EXIT_USAGE;
	}
	if (optind < argc)
		tool_usage_error("'%s' is too much", argv[optind]);
	status = check_backends();
	check_kernel();
	check_tracing();
	return status;
}
