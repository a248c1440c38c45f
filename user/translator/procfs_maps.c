// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * /proc/self/maps and smaps as the guest would have them natively: made of the
 * kernel's text, which knows names, sizes and how far a stack has grown, and of
 * the guest's map, which knows what is the guest's, its protection, and what a
 * view stands for.
 *
 * Owns nothing. Runs with rt_lock held.
 */
#include "procfs.h"
#include "mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#define NAME_COLUMN	73

/* One line of the kernel's, and in smaps those that follow it. */
struct host_map {
	uint64_t start, end, off, ino;
	unsigned int major, minor;
	bool shared;
	const char *name;
	char *fields;		/* smaps: NUL terminated; else NULL */
	bool counted;		/* its fields are in a line of the guest's */
};

struct line {
	uint64_t start, end, off, ino;
	unsigned int major, minor;
	int prot;
	bool shared;
	const char *name;
	struct procfs_text fields;
};

static bool parse_head(char *s, struct host_map *h)
{
	char *p = s;

	h->start = strtoul(p, &p, 16);
	if (p == s || *p++ != '-')
		return false;
	h->end = strtoul(p, &p, 16);
	if (*p++ != ' ' || strlen(p) < 5)
		return false;
	h->shared = p[3] == 's';
	h->off = strtoul(p + 5, &p, 16);
	h->major = strtoul(p, &p, 16);
	if (*p++ != ':')
		return false;
	h->minor = strtoul(p, &p, 16);
	h->ino = strtoul(p, &p, 10);
	h->name = p + strspn(p, " ");
	return true;
}

/* The kernel's text to an array. Its length; *out is malloc's. */
static size_t parse(char *text, struct host_map **out)
{
	struct procfs_text v = { 0 };
	size_t n = 0;
	char *next;

	for (; *text; text = next) {
		struct host_map h = { 0 };

		next = strchrnul(text, '\n');
		if (*next)
			*next++ = '\0';
		if (parse_head(text, &h)) {
			procfs_add(&v, &h, sizeof(h));
			n += !v.failed;
		} else if (n) {
			struct host_map *last = (struct host_map *)v.at + n - 1;

			/* The lines of one mapping stay one text. */
			if (!last->fields)
				last->fields = text;
			else
				text[-1] = '\n';
		}
	}
	*out = (struct host_map *)v.at;
	return n;
}

static void print_head(struct procfs_text *out, const struct line *l)
{
	char buf[160];
	int n = snprintf(buf, sizeof(buf), "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %lu ",
			 l->start, l->end, l->prot & PROT_READ ? 'r' : '-',
			 l->prot & PROT_WRITE ? 'w' : '-', l->prot & PROT_EXEC ? 'x' : '-',
			 l->shared ? 's' : 'p', l->off, l->major, l->minor, l->ino);

	if (*l->name)
		while (n < NAME_COLUMN)
			buf[n++] = ' ';
	procfs_add(out, buf, n);
	procfs_add(out, l->name, strlen(l->name));
	procfs_add(out, "\n", 1);
}

/* The number of the same field in another mapping's text, or 0. */
static unsigned long field(const char *fields, const char *name, size_t len)
{
	for (const char *s = fields; s && *s; s = *s ? s + 1 : s) {
		if (!strncmp(s, name, len))
			return strtoul(s + len, NULL, 10);
		s = strchrnul(s, '\n');
	}
	return 0;
}

static void print_flags(struct procfs_text *out, const struct line *l, const char *s,
			const char *end)
{
	char buf[32];
	int n = snprintf(buf, sizeof(buf), "VmFlags:%s%s%s%s", l->prot & PROT_READ ? " rd" : "",
			 l->prot & PROT_WRITE ? " wr" : "", l->prot & PROT_EXEC ? " ex" : "",
			 l->shared ? " sh" : "");

	procfs_add(out, buf, n);
	for (; s + 3 <= end; s += 3) {
		if (!memcmp(s, " rd", 3) || !memcmp(s, " wr", 3) || !memcmp(s, " ex", 3) ||
		    !memcmp(s, " sh", 3) || !memcmp(s, " uw", 3) ||
		    (!l->shared && !memcmp(s, " ms", 3)))
			continue;
		procfs_add(out, s, 3);
	}
	procfs_add(out, " \n", 2);
}

/* Sizes add up over the mappings that a line of the guest's is made of. */
static void print_fields(struct procfs_text *out, const struct line *l)
{
	const char *all = l->fields.at, *first_end, *end;
	unsigned long size = (l->end - l->start) >> 10;

	if (!l->fields.len)
		return;
	first_end = all + strlen(all);
	for (const char *s = all; s < first_end; s = end + 1) {
		const char *value = strchrnul(s, ':'), *number;
		unsigned long sum = 0;
		char buf[64];

		end = strchrnul(s, '\n');
		if (value > end)
			value = end;
		if (!strncmp(s, "VmFlags:", 8)) {
			print_flags(out, l, value + 1, end);
			continue;
		}
		number = value + 1 + strspn(value + 1, " ");
		if (end - s < 3 || strncmp(end - 3, " kB", 3) || strstr(s, "PageSize:") == value - 8) {
			procfs_add(out, s, end - s);
			procfs_add(out, "\n", 1);
			continue;
		}
		for (const char *t = all; t < all + l->fields.len; t += strlen(t) + 1)
			sum += field(t, s, value + 1 - s);
		if (!strncmp(s, "Size:", 5))
			sum = size;
		/* The kernel's pieces are larger where only the guest can execute. */
		if (sum > size)
			sum = size;
		number = end - 3;
		snprintf(buf, sizeof(buf), "%*lu kB\n", (int)(number - value - 1), sum);
		procfs_add(out, s, value + 1 - s);
		procfs_add(out, buf, strlen(buf));
	}
}

static void flush(struct procfs_text *out, struct line *l)
{
	if (l->end) {
		print_head(out, l);
		if (!l->fields.failed)
			print_fields(out, l);
	}
	free(l->fields.at);
	memset(l, 0, sizeof(*l));
}

/* One more piece of the guest's: neighbours that are alike become one line. */
static void add_piece(struct procfs_text *out, struct line *l, const struct line *p,
		      struct host_map *h)
{
	if (!(l->end == p->start && l->prot == p->prot && l->shared == p->shared &&
	      l->ino == p->ino && l->major == p->major && l->minor == p->minor &&
	      !strcmp(l->name, p->name) &&
	      (!p->ino || l->off + (l->end - l->start) == p->off))) {
		flush(out, l);
		*l = *p;
	} else {
		l->end = p->end;
	}
	if (h && h->fields && (!h->counted || !l->fields.len)) {
		procfs_add(&l->fields, h->fields, strlen(h->fields) + 1);
		h->counted = true;
	}
}

/* What a region is natively, as far as it does not come from the kernel's line. */
static void describe(const struct region *r, const struct host_map *h, struct line *p)
{
	p->prot = r->prot;
	p->name = "";
	p->off = p->ino = p->major = p->minor = 0;
	p->shared = false;
	switch (r->kind) {
	case R_PVIEW:
		return;
	case R_SHM:
		p->shared = true;
		p->major = major(r->dev);
		p->minor = minor(r->dev);
		p->ino = r->ino;
		p->off = r->mv->file_off + r->voff + (p->start - r->start);
		p->name = r->mv->path ?: "/dev/zero (deleted)";
		return;
	default:
		p->shared = h->shared;
		p->major = h->major;
		p->minor = h->minor;
		p->ino = h->ino;
		p->off = h->ino || h->off ? h->off + (p->start - h->start) : 0;
		p->name = r->kind == R_BRK ? "[heap]" : r->foreign && r->name ? r->name : h->name;
	}
}

void procfs_maps(struct procfs_text *out, char *host)
{
	struct line now = { 0 };
	struct host_map *maps;
	size_t n = parse(host, &maps), at = 0;
	struct region *r;

	for (size_t i = 0; (r = map_index(i)); i++) {
		while (at < n && maps[at].end <= r->start)
			at++;
		for (size_t k = at; k < n && maps[k].start < r->end; k++) {
			struct host_map *h = &maps[k];
			struct line p = { 0 };

			p.start = h->start > r->start ? h->start : r->start;
			p.end = h->end < r->end ? h->end : r->end;
			describe(r, h, &p);
			add_piece(out, &now, &p, h);
		}
	}
	flush(out, &now);
	/* The vsyscall page, which is nobody's. */
	for (; at < n; at++) {
		struct line p = {
			.start = maps[at].start, .end = maps[at].end, .prot = PROT_EXEC,
			.name = maps[at].name,
		};

		if (p.start < TASK_END)
			continue;
		add_piece(out, &now, &p, &maps[at]);
		flush(out, &now);
	}
	free(maps);
}

void procfs_numa_maps(struct procfs_text *out, char *host)
{
	char *next, *end;

	for (; *host; host = next) {
		uint64_t start = strtoul(host, &end, 16);

		next = strchrnul(host, '\n');
		if (*next)
			next++;
		if (end != host && map_at(start))
			procfs_add(out, host, next - host);
	}
}
