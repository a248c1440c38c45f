// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The eBPF programs as the tools use them. Owns the loaded skeleton and its
 * links; one thread uses it, so no lock. Reads the page table by map calls,
 * which never make a raw tracepoint skip an event (see stat.bpf.c).
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "probes.h"
#include "tool.h"
/* The skeleton's inline functions are not ours to clean. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#include "stat.skel.h"
#pragma GCC diagnostic pop

#define MODULE "/sys/module/codewp"

#define USDT_PROBES	4

struct probes {
	struct stat_bpf *skel;
	struct bpf_link *usdt[USDT_PROBES];
	char no_module[256];	/* why not; empty: attached */
	char no_usdt[256];
};

/*
 * Raw tracepoints get the tracepoint's arguments by position, and the module's
 * trace.h declares its record in the order of the arguments: so the format file
 * tells whether module and tool belong together.
 */
static const struct tp {
	const char *name, *fields;
} tracepoints[] = {
	{ "codewp_view", "length view create" },
	{ "codewp_trap", "cookie pgoff offset addr ip view how" },
	{ "codewp_arm", "offset length done view flags" },
	{ "codewp_disarm", "offset length done view flags" },
	{ "codewp_overflow", "dropped view" },
};

#define NTRACEPOINTS (sizeof(tracepoints) / sizeof(tracepoints[0]))

const char *probes_tracefs(void)
{
	static const char * const places[] = {
		"/sys/kernel/tracing", "/sys/kernel/debug/tracing",
	};
	char path[64];
	size_t i;

	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/events", places[i]);
		if (!access(path, F_OK))
			return places[i];
	}
	return NULL;
}

/* Names of the fields behind the common ones, one blank between. */
static int read_fields(const char *path, char *out, size_t size)
{
	char line[512];
	size_t n = 0;
	FILE *f;

	f = fopen(path, "re");
	if (!f)
		return -errno;
	out[0] = '\0';
	while (fgets(line, sizeof(line), f)) {
		char *p = strstr(line, "field:"), *end, *name;

		if (!p)
			continue;
		end = strchr(p, ';');
		if (!end)
			continue;
		*end = '\0';
		name = strrchr(p, ' ');
		if (!name || !strncmp(name + 1, "common_", 7))
			continue;
		n += snprintf(out + n, n < size ? size - n : 0, "%s%s",
			      n ? " " : "", name + 1);
		if (n >= size)
			break;
	}
	fclose(f);
	return n < size ? 0 : -E2BIG;
}

int probes_check_format(const char *events, char *why, size_t size)
{
	char path[PATH_MAX], fields[512];
	size_t i, n;
	int err;

	if (access(events, F_OK)) {
		snprintf(why, size, "%s: %s", events, strerror(errno));
		return -ENOENT;
	}
	for (i = 0; i < NTRACEPOINTS; i++) {
		snprintf(path, sizeof(path), "%s/%s/format", events, tracepoints[i].name);
		err = read_fields(path, fields, sizeof(fields));
		if (err == -ENOENT) {
			snprintf(why, size, "the module has no tracepoint %s: it is of another version",
				 tracepoints[i].name);
			return -EPROTO;
		}
		if (err) {
			snprintf(why, size, "%s: %s", path, strerror(-err));
			return err;
		}
		/* Fields added behind those that we know do no harm. */
		n = strlen(tracepoints[i].fields);
		if (strncmp(fields, tracepoints[i].fields, n) ||
		    (fields[n] && fields[n] != ' ')) {
			snprintf(why, size,
				 "%s has the fields '%s', not '%s': module and tool are of different versions",
				 tracepoints[i].name, fields, tracepoints[i].fields);
			return -EPROTO;
		}
	}
	return 0;
}

/* Is the module there, and ours? Fills p->no_module if not there. */
static int find_module(struct probes *p, char *why, size_t size)
{
	const char *tracefs = probes_tracefs();
	char events[PATH_MAX];

	if (access(MODULE, F_OK)) {
		snprintf(p->no_module, sizeof(p->no_module), "the codewp module is not loaded");
		return 0;
	}
	if (!tracefs) {
		snprintf(p->no_module, sizeof(p->no_module),
			 "tracefs is not mounted (mount -t tracefs tracefs /sys/kernel/tracing)");
		return 0;
	}
	snprintf(events, sizeof(events), "%s/events/codewp", tracefs);
	return probes_check_format(events, why, size);
}

static int attach_module(struct probes *p)
{
	struct stat_bpf *s = p->skel;

	s->links.on_view = bpf_program__attach(s->progs.on_view);
	if (!s->links.on_view)
		return -errno;
	s->links.on_trap = bpf_program__attach(s->progs.on_trap);
	if (!s->links.on_trap)
		return -errno;
	s->links.on_arm = bpf_program__attach(s->progs.on_arm);
	if (!s->links.on_arm)
		return -errno;
	s->links.on_disarm = bpf_program__attach(s->progs.on_disarm);
	if (!s->links.on_disarm)
		return -errno;
	s->links.on_overflow = bpf_program__attach(s->progs.on_overflow);
	return s->links.on_overflow ? 0 : -errno;
}

static void attach_usdt(struct probes *p, const char *run)
{
	struct bpf_program *progs[] = {
		p->skel->progs.on_tb_translate, p->skel->progs.on_tb_invalidate,
		p->skel->progs.on_guest_trap, p->skel->progs.on_page_rung,
	};
	static const char * const names[] = {
		"tb_translate", "tb_invalidate", "trap", "page_rung",
	};
	int i;

	for (i = 0; i < USDT_PROBES; i++) {
		p->usdt[i] = bpf_program__attach_usdt(progs[i], -1, run, "codewp",
						      names[i], NULL);
		if (p->usdt[i])
			continue;
		snprintf(p->no_usdt, sizeof(p->no_usdt), "probe %s in %s: %s",
			 names[i], run, errno == ENOENT ? "not there" : strerror(errno));
		while (i--) {
			bpf_link__destroy(p->usdt[i]);
			p->usdt[i] = NULL;
		}
		return;
	}
}

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	if (!getenv("CODEWP_DEBUG"))
		return 0;
	return vfprintf(stderr, fmt, ap);
}

static int explain(int err, char *why, size_t size)
{
	if (err == -EPERM || err == -EACCES) {
		snprintf(why, size,
			 "not allowed to load eBPF programs: be root, or have CAP_BPF and CAP_PERFMON");
		return -EPERM;
	}
	if (err == -ENOSYS || err == -EINVAL)
		snprintf(why, size,
			 "this kernel does not take the eBPF programs (%s); 5.12 or newer with CONFIG_BPF_SYSCALL, CONFIG_BPF_EVENTS and CONFIG_UPROBE_EVENTS does",
			 strerror(-err));
	else
		snprintf(why, size, "eBPF: %s", strerror(-err));
	return err;
}

int probes_open(struct probes **out, const struct probes_opts *opts, char *why,
		size_t size)
{
	char run[PATH_MAX] = "";
	struct stat_bpf *s;
	struct probes *p;
	struct stat st;
	bool module;
	int err;

	libbpf_set_print(quiet);
	p = calloc(1, sizeof(*p));
	if (!p) {
		snprintf(why, size, "no memory");
		return -ENOMEM;
	}
	if (!tool_sibling("codewp-run", run, sizeof(run)))
		snprintf(p->no_usdt, sizeof(p->no_usdt), "codewp-run was not found");
	err = find_module(p, why, size);
	if (err)
		goto fail;
	module = !p->no_module[0];
	if (!module && !run[0]) {
		snprintf(why, size, "%s, and %s", p->no_module, p->no_usdt);
		err = -ENODEV;
		goto fail;
	}

	s = p->skel = stat_bpf__open();
	if (!s) {
		err = explain(-errno, why, size);
		goto fail;
	}
	s->rodata->target_tgid = opts->pid;
	if (!stat("/proc/self/ns/pid", &st)) {
		s->rodata->pidns_dev = st.st_dev;
		s->rodata->pidns_ino = st.st_ino;
	}
	if (opts->max_pages)
		bpf_map__set_max_entries(s->maps.pages, opts->max_pages);
	err = stat_bpf__load(s);
	if (err) {
		err = explain(err, why, size);
		goto fail;
	}
	if (module) {
		err = attach_module(p);
		if (err) {
			err = explain(err, why, size);
			goto fail;
		}
	}
	if (run[0])
		attach_usdt(p, run);
	if (!module && p->no_usdt[0]) {
		snprintf(why, size, "%s, and %s", p->no_module, p->no_usdt);
		err = -ENODEV;
		goto fail;
	}
	__atomic_store_n(&s->bss->counting, 1, __ATOMIC_RELEASE);
	*out = p;
	return 0;

fail:
	probes_close(p);
	return err;
}

void probes_close(struct probes *p)
{
	int i;

	if (!p)
		return;
	for (i = 0; i < USDT_PROBES; i++)
		bpf_link__destroy(p->usdt[i]);
	stat_bpf__destroy(p->skel);
	free(p);
}

void probes_stop(struct probes *p)
{
	__atomic_store_n(&p->skel->bss->counting, 0, __ATOMIC_RELEASE);
}

const char *probes_module(const struct probes *p)
{
	return p->no_module[0] ? p->no_module : NULL;
}

const char *probes_usdt(const struct probes *p)
{
	return p->no_usdt[0] ? p->no_usdt : NULL;
}

struct stat_totals probes_totals(const struct probes *p)
{
	const volatile __u64 *src = (const volatile __u64 *)&p->skel->bss->totals;
	struct stat_totals t;
	__u64 *dst = (__u64 *)&t;
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(*dst); i++)
		dst[i] = src[i];
	return t;
}

int64_t probes_missed(const struct probes *p)
{
	struct bpf_program *prog;
	int64_t sum = 0;

	bpf_object__for_each_program(prog, p->skel->obj) {
		struct bpf_prog_info info = {};
		__u32 len = sizeof(info);

		if (bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len))
			return -errno;
		sum += info.recursion_misses;
	}
	return sum;
}

uint64_t probes_sum(const __u64 *traps)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < HOW_MAX; i++)
		sum += traps[i];
	return sum;
}

uint64_t probes_row_traps(const struct probes *p, const struct probes_row *r)
{
	return p->no_module[0] ? r->handled : probes_sum(r->traps);
}

/* ---- joining ----------------------------------------------------------- */

static int by_code_page(const void *a, const void *b)
{
	const struct probes_row *x = a, *y = b;

	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	if (x->page != y->page)
		return x->page < y->page ? -1 : 1;
	return 0;
}

static int worst_first(const void *a, const void *b)
{
	const struct probes_row *x = a, *y = b;
	uint64_t tx = probes_sum(x->traps), ty = probes_sum(y->traps);

	if (tx != ty)
		return tx > ty ? -1 : 1;
	if (x->handled != y->handled)
		return x->handled > y->handled ? -1 : 1;
	if (x->invalidated != y->invalidated)
		return x->invalidated > y->invalidated ? -1 : 1;
	if (x->translated != y->translated)
		return x->translated > y->translated ? -1 : 1;
	return by_code_page(a, b);
}

static void fill(struct probes_row *r, const struct page_key *k,
		 const struct page_stat *v)
{
	memset(r, 0, sizeof(*r));
	r->page = k->page;
	r->gva = v->gva;
	r->last_ip = v->last_ip;
	r->first_ns = v->first_ns;
	r->last_ns = v->last_ns;
	if (k->space == SPACE_VIEW) {
		r->view = k->id;
		r->of_view = true;
		r->last_kernel = v->last_how == HOW_KERNEL || v->last_how == HOW_GUEST ||
				 v->last_how == HOW_STOP;
		memcpy(r->traps, v->traps, sizeof(r->traps));
	} else {
		r->pid = k->id;
		r->handled = probes_sum(v->traps);
		r->translated = v->translated;
		r->invalidations = v->invalidations;
		r->invalidated = v->invalidated;
		memcpy(r->rungs, v->rungs, sizeof(r->rungs));
	}
}

/*
 * Add the module's row of a page to the translator's. The translator's writer
 * is a guest address, the module's one in the code cache: the former stays.
 */
static void join(struct probes_row *code, const struct probes_row *view)
{
	code->view = view->view;
	if (!code->gva)
		code->gva = view->gva;
	memcpy(code->traps, view->traps, sizeof(code->traps));
	/* The module sees every write in its order, the translator later. */
	code->last_kernel = view->last_kernel;
	if (!code->last_ip)
		code->last_ip = view->last_ip;
	if (!code->first_ns || (view->first_ns && view->first_ns < code->first_ns))
		code->first_ns = view->first_ns;
	if (view->last_ns > code->last_ns)
		code->last_ns = view->last_ns;
}

struct table {
	struct probes_row *rows;
	uint64_t *cookie;	/* of SPACE_VIEW rows */
	size_t n, size;
};

static int table_add(struct table *t, const struct probes_row *r, uint64_t cookie)
{
	if (t->n == t->size) {
		size_t size = t->size ? t->size * 2 : 1024;
		void *m;

		m = realloc(t->rows, size * sizeof(*t->rows));
		if (!m)
			return -ENOMEM;
		t->rows = m;
		m = realloc(t->cookie, size * sizeof(*t->cookie));
		if (!m)
			return -ENOMEM;
		t->cookie = m;
		t->size = size;
	}
	t->rows[t->n] = *r;
	t->cookie[t->n++] = cookie;
	return 0;
}

/*
 * Nothing is ever deleted, so the walk meets every entry that was there when it
 * began, even while others are added.
 */
static int read_pages(struct probes *p, struct table *code, struct table *view)
{
	int fd = bpf_map__fd(p->skel->maps.pages);
	struct page_key key, *prev = NULL;
	struct probes_row r;
	struct page_stat v;
	int err;

	while (!bpf_map_get_next_key(fd, prev, &key)) {
		if (!bpf_map_lookup_elem(fd, &key, &v)) {
			fill(&r, &key, &v);
			err = table_add(key.space == SPACE_VIEW ? view : code, &r, v.cookie);
			if (err)
				return err;
		}
		prev = &key;
	}
	return errno == ENOENT ? 0 : -errno;
}

ssize_t probes_rows(struct probes *p, struct probes_row **rows)
{
	struct table code = {}, view = {};
	ssize_t err;
	size_t i, ncode;

	err = read_pages(p, &code, &view);
	if (err)
		goto out;
	ncode = code.n;
	if (ncode)
		qsort(code.rows, ncode, sizeof(*code.rows), by_code_page);
	for (i = 0; i < view.n; i++) {
		struct probes_row *r = &view.rows[i], want = *r, *c = NULL;
		struct view_owner owner = { };

		bpf_map_lookup_elem(bpf_map__fd(p->skel->maps.owners), &r->view, &owner);
		r->pid = owner.tgid;
		/* The cookie of a view of ours: code-map index of its first page. */
		want.pid = owner.tgid;
		want.page = view.cookie[i] + r->page;
		if (owner.tgid && ncode)
			c = bsearch(&want, code.rows, ncode, sizeof(*code.rows),
				    by_code_page);
		if (c && !c->view) {
			join(c, r);
			continue;
		}
		err = table_add(&code, r, 0);
		if (err)
			goto out;
	}
	if (code.n)
		qsort(code.rows, code.n, sizeof(*code.rows), worst_first);
	err = code.n;
	*rows = code.rows;
	code.rows = NULL;
out:
	free(code.rows);
	free(code.cookie);
	free(view.rows);
	free(view.cookie);
	return err;
}
